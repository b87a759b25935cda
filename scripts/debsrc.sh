#!/usr/bin/env bash
# Fetch the sources of a Debian package: debsrc.sh PACKAGE DIR [SUITE]
# The upstream tree is unpacked into DIR. The system's apt configuration is read,
# never changed: its sources are copied into a private folder as source entries
# (with SUITE: of that release of Debian, from the same mirror), and apt works in
# there. Needs no root.
set -eu
package=$1
suite=${3:-}
mkdir -p "$2"
dir=$(cd "$2" && pwd)
apt=$dir/.apt
mkdir -p "$apt/lists/partial" "$apt/sources.list.d" "$apt/cache/archives/partial"

# One-line entries: every "deb" line stands again as "deb-src". deb822 entries:
# "Types: deb" becomes "Types: deb-src". Another suite takes the place of the
# first one named; updates and security, which not every suite has, are left out.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ -f "$list" ] || continue
  sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$list" |
    if [ -n "$suite" ]; then
      grep -Ev -- '-(security|updates|backports)' |
        sed -E "s/^(deb-src (\[[^]]*\] )?[^ ]+) [^ ]+/\1 $suite/"
    else
      cat
    fi >"$apt/sources.list.d/src-$(basename "$list" .list).list"
done
for list in /etc/apt/sources.list.d/*.sources; do
  [ -f "$list" ] || continue
  awk -v RS= -v ORS='\n\n' -v suite="$suite" '
    suite != "" && /\nSuites: [^\n ]*-security/ { next }
    {
      sub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src")
      if (suite != "") sub(/\nSuites:[^\n]*/, "\nSuites: " suite)
      print
    }' "$list" >"$apt/sources.list.d/src-$(basename "$list")"
done
options=(-q
  -o "Dir::Etc::SourceList=/dev/null"
  -o "Dir::Etc::SourceParts=$apt/sources.list.d"
  -o "Dir::State::Lists=$apt/lists"
  -o "Dir::Cache=$apt/cache"
  -o "APT::Sandbox::User=$(id -un)")
apt-get "${options[@]}" update >"$apt/log" 2>&1 || {
  cat "$apt/log"
  echo "debsrc: apt-get update failed"
  exit 1
}
(cd "$apt" && apt-get "${options[@]}" source --download-only "$package" >>"$apt/log" 2>&1) || {
  cat "$apt/log"
  echo "debsrc: no source package $package"
  exit 1
}
tarball=$(ls "$apt"/*.orig.tar.* | grep -v '\.asc$' | head -1)
tar -xf "$tarball" -C "$dir" --strip-components=1
echo "debsrc: $(basename "$tarball")"
