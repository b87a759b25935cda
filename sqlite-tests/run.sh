#!/usr/bin/env bash
# One run of SQLite's own test suite on page-db, judged.
#
#   SQLITE=3.53.4      version: 3.40.1, 3.46.1, 3.53.4, or any with SQLITE_SRC=DIR
#   SUITE=veryquick    a permutation of SQLite's, full, all, or FILE.test
#   CONFIG=stamped     stock | plain | stamped | parent, and +fetch, +pcache
#   BUILD=normal       debug: SQLite's assertions; asan
#   PATTERNS=          only test files of these names (globs)
#   SUITE_JOBS=2       processes
#   SUITE_TIMEOUT=900  seconds that one file may take
#   SUITE_DIR=         where the tests run, instead of below build/
#   KEEP=1             store the run's summary in sqlite-tests/results/, as that of
#                      SUITE-part if there are PATTERNS
#
# Configurations: stock is SQLite alone. plain: page-db with databases that have
# no reserved bytes; nothing may differ from stock. stamped: every new database is
# stamped and every page verified. parent: stamped, all I/O through the parent VFS.
# +fetch: pages by xFetch out of the shared pool instead of by xRead; with stock,
# what to compare that with: a memory map for every database. +pcache:
# page-db's page cache instead of the built-in one.
#
# Exit: 0 all as expected, 1 not, 3 SQLite's sources cannot be fetched.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
# shellcheck source=sqlite-tests/in_use.sh
. "$here/in_use.sh"
version=${SQLITE:-3.53.4}
suite=${SUITE:-veryquick}
config=${CONFIG:-stamped}
build=${BUILD:-normal}
patterns=${PATTERNS:-}
case $suite in
*.test)
  patterns=$suite
  suite=full
  ;;
esac

base=${config%%+*}
away=
export PAGEDB_SUITE=on
unset PAGEDB_POOL_SIZE PAGEDB_URING PAGEDB_MEMBARRIER PAGEDB_STAMP PAGEDB_DIRECT PAGEDB_FETCH PAGEDB_PCACHE PAGEDB_SUITE_FETCH \
  PAGEDB_SUITE_PARENT PAGEDB_SUITE_PCACHE
case $base in
stock) export PAGEDB_SUITE=off ;;
plain) export PAGEDB_STAMP=off ;;
stamped) ;;
parent) export PAGEDB_SUITE_PARENT=1 ;;
*)
  echo "suite: no configuration '$config': stock, plain, stamped or parent, +fetch, +pcache" >&2
  exit 2
  ;;
esac
rest=${config#"$base"}
while [ -n "$rest" ]; do
  case $rest in
  +fetch*) export PAGEDB_SUITE_FETCH=1 ;;
  +pcache*) export PAGEDB_SUITE_PCACHE=1 ;;
  *)
    echo "suite: no configuration '$config': what may follow $base is +fetch and +pcache" >&2
    exit 2
    ;;
  esac
  rest=${rest#+}
  case $rest in *+*) rest=+${rest#*+} ;; *) rest= ;; esac
done

"$here/build.sh" "$version" "$build" testfixture || exit $?
src=$(readlink -f "$root/build/sqlite/$version/src")
fixture=$root/build/sqlite/$version/$build/testfixture
glue=$root/build/$([ "$build" = asan ] && echo asan || echo normal)/libpagedb_suite.so
runner=$here/run.tcl
out=${SUITE_DIR:-$root/build/sqlite/$version}/run-$config-$suite-$build

# The suite's permission tests fail for root, so root hands it to a user without
# any rights; if that user cannot come here, all it needs is copied to where it can.
if [ "$(id -u)" -eq 0 ]; then
  export SUITE_UID=12345
  if ! setpriv --reuid=$SUITE_UID --regid=$SUITE_UID --clear-groups \
    test -r "$src/VERSION" -a -x "$fixture" -a -r "$runner" -a -r "$glue"; then
    away=$(mktemp -d /var/tmp/pagedb-suite.XXXXXX) || exit 1
    trap 'rm -rf "$away"' EXIT
    echo "suite: other users cannot read $root: running a copy in $away"
    cp -rL "$src" "$away/src" && cp "$here/run.tcl" "$here/one.tcl" "$away" &&
      chmod -R a+rX "$away" || exit 1
    src=$away/src runner=$away/run.tcl
    out=${SUITE_DIR:-$away}/run-$config-$suite-$build
  fi
fi

rm -rf "$out"
mkdir -p "$out"
# Both may be built anew while a long run is under way.
bin=${away:-$root/build/sqlite/$version}/bin-$config-$suite-$build
rm -rf "$bin"
mkdir -p "$bin"
cp "$glue" "$fixture" "$bin" && chmod -R a+rX "$bin" || exit 1
fixture=$bin/testfixture
export LD_LIBRARY_PATH=$bin
fs=$(stat -f -c %T "$out")
export PAGEDB_SUITE_REPORT=$out/opened.txt
: >"$PAGEDB_SUITE_REPORT"
chmod 666 "$PAGEDB_SUITE_REPORT"
echo "SQLite $(cat "$src/VERSION"), $config, $suite${patterns:+: $patterns}"
began=$(date +%s)
# shellcheck disable=SC2086
"$runner" "$fixture" "$src" "$out" "$suite" $patterns || exit 1
seconds=$(($(date +%s) - began))
used=yes
if [ "$base" != stock ]; then
  in_use "$PAGEDB_SUITE_REPORT" "$out" "${PAGEDB_SUITE_PCACHE:-0}" || used=no
fi
if ! grep -qs . "$here/expected/$version.txt"; then
  echo "suite: no list of expected differences for SQLite $version"
fi
"$here/judge.tcl" "$out" "$version" "$config" >"$out/judged.txt"
status=$?
[ "$(wc -l <"$out/judged.txt")" -le 40 ] || echo "suite: the last 40 of $out/judged.txt"
if [ "${KEEP:-0}" = 1 ]; then
  kind=$config
  [ -z "$patterns" ] || suite=$suite-part
  [ "$build" = normal ] || kind=$kind,$build
  [ "$fs" != tmpfs ] || kind=$kind,tmpfs
  {
    echo "# $(cat "$src/VERSION") $kind $suite: $(tail -1 "$out/judged.txt"), $seconds s"
    echo "# suite, file, cases, errors, milliseconds, end"
    sort "$out/results.txt"
  } >"$here/results/$version-$kind-$suite.txt"
fi
rm -rf "$bin"
tail -40 "$out/judged.txt"
[ $used = yes ] || exit 1
exit $status
