#!/usr/bin/env bash
# Install the Debian packages that are missing: deps.sh demo (to build, and for
# the demonstration) or deps.sh (to test as well). With all of them there it does
# nothing and needs no network.
set -eu
want="gcc make libc6-dev liburing-dev libsqlite3-dev sqlite3 python3"
[ "${1:-}" = demo ] ||
  want="$want git libcmocka-dev valgrind strace spin clang clang-format libsqlite3-tcl tcl tcl-dev zlib1g-dev"
command -v dpkg-query >/dev/null || {
  echo "deps: not a Debian system; please install: $want"
  exit 0
}
have() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -q '^installed'; }
missing=
for package in $want; do
  have "$package" || missing="$missing $package"
done
if [ "${1:-}" != demo ]; then
  # libFuzzer's runtime carries the compiler's version in its name.
  if command -v clang >/dev/null; then
    version=$(clang -dumpversion | cut -d. -f1)
  else
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
  fi
  have "libclang-rt-${version:-14}-dev" || missing="$missing libclang-rt-${version:-14}-dev"
fi
[ -z "$missing" ] && exit 0
echo "deps: installing$missing"
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >/dev/null || echo "deps: apt-get update failed, trying on"
# shellcheck disable=SC2086
$sudo apt-get install -y -q --no-install-recommends $missing >/dev/null || {
  echo "deps: could not install$missing; install them and run make again"
  exit 1
}
