#!/usr/bin/env bash
# Core's tests for another platform: run.sh windows|aarch64
# Cross-compiles core, its tests and cmocka (from Debian's source package) and
# runs the tests under wine or qemu-user.
set -eu
cd "$(dirname "$0")/../.."
target=$1
out=build/$target
mkdir -p "$out"
case $target in
windows)
  packages="gcc-mingw-w64-x86-64 wine64 dpkg-dev"
  cc=x86_64-w64-mingw32-gcc ar=x86_64-w64-mingw32-ar suffix=.exe
  export WINEDEBUG=-all WINEPREFIX=$PWD/build/wine
  runner=/usr/lib/wine/wine64
  ;;
aarch64)
  packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user dpkg-dev"
  cc=aarch64-linux-gnu-gcc ar=aarch64-linux-gnu-ar suffix=
  runner=qemu-aarch64
  ;;
*)
  echo "usage: $0 windows|aarch64"
  exit 2
  ;;
esac
missing=
for package in $packages; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
    missing="$missing $package"
done
if [ -n "$missing" ]; then
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  echo "installing$missing"
  $sudo apt-get update -q >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
fi

if [ ! -f build/cmocka/src/cmocka.c ]; then
  scripts/debsrc.sh cmocka build/cmocka
fi
flags="-std=c11 -O2 -g -Wall -Wextra -Wpedantic -Werror -Icore -Ibuild/cmocka/include"
# cmocka is built as its own project would, without our warnings.
$cc -O2 -w -std=gnu11 -Ibuild/cmocka/include -Itests/cross \
  -DHAVE_SIGNAL_H=1 -DHAVE_MALLOC_H=1 -DHAVE_INTTYPES_H=1 -DHAVE_STRINGS_H=1 \
  -DHAVE_STDINT_H=1 -DHAVE_TIME_H=1 -DHAVE_UINTPTR_T=1 -DHAVE_STRUCT_TIMESPEC=1 \
  $([ "$target" = aarch64 ] && echo "-DHAVE_CLOCK_GETTIME=1 -DHAVE_CLOCK_GETTIME_REALTIME=1 -DHAVE_CLOCK_REALTIME=1 -DHAVE_UNISTD_H=1") \
  -c build/cmocka/src/cmocka.c -o "$out/cmocka.o"
objects=
for source in core/*.c tests/util.c tests/fault_store.c tests/pool_rig.c; do
  object=$out/$(echo "${source%.c}" | tr / _).o
  # shellcheck disable=SC2086
  $cc $flags -c "$source" -o "$object"
  objects="$objects $object"
done
programs=
for source in tests/test_*.c; do
  name=$(basename "$source" .c)
  # Linked statically, --wrap=malloc would also hit libc's and the thread
  # library's own allocations, which do not expect to fail.
  case $name in test_oom | test_os_faults) continue ;; esac
  # Asks Linux which pages of 4096 bytes are in memory, which qemu-user cannot say.
  case $name in test_pool_memory) continue ;; esac
  # Core's tests: the plugin needs SQLite for the target.
  case $name in test_vfs_* | test_pcache*) continue ;; esac
  wrap=$(make -s --no-print-directory "print-WRAP_$name")
  # shellcheck disable=SC2086
  $cc $flags "$source" $objects "$out/cmocka.o" -o "$out/$name$suffix" -static $wrap -pthread
  programs="$programs $out/$name$suffix"
done
if [ "$target" = windows ]; then
  mkdir -p "$WINEPREFIX"
  $runner wineboot -i >/dev/null 2>&1 || true
fi
# shellcheck disable=SC2086
PAGEDB_TEST_SCALE=small RUNNER=$runner tests/run.sh "$out" $programs
