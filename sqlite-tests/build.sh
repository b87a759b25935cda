#!/usr/bin/env bash
# Fetch and build SQLite's test programs around the glue library.
#
#   build.sh VERSION VARIANT PROGRAM...
#
# VERSION is 3.40.1, 3.46.1 or 3.53.4: the release of Debian that has it is asked
# for its source package. SQLITE_SRC=DIR takes that tree instead. VARIANT is
# normal, debug (SQLite's own assertions), asan, or programs (as normal). Everything lies below
# build/sqlite/VERSION: src, VARIANT/PROGRAM. A fetched tree is kept; programs are
# made anew when the tree is another one, or what is linked into them has changed
# (the glue library is not: it is found when they start). In a tree of yours make
# decides.
#
# Exit: 0 built, 3 cannot be fetched, 1 anything else.
set -eu
version=$1
variant=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
base=$root/build/sqlite/$version
log=$base/build-$variant.log
kind=$([ "$variant" = asan ] && echo asan || echo normal)
glue=$root/build/$kind/libpagedb_suite.so
case $version in
3.40.1) release=bookworm ;;
3.46.1) release=trixie ;;
3.53.4) release=sid ;;
*) [ -n "${SQLITE_SRC:-}" ] || {
  echo "build.sh: no source known for SQLite $version: set SQLITE_SRC=DIR" >&2
  exit 1
} ;;
esac

mkdir -p "$base"
make --no-print-directory -C "$root" VARIANT="$kind" "build/$kind/libpagedb_suite.so" \
  >"$base/glue.log" 2>&1 </dev/null || {
  cat "$base/glue.log"
  exit 1
}
# Where the tree comes from; of another origin, all that was built of it goes.
origin=debian
[ -z "${SQLITE_SRC:-}" ] || origin=$(cd "$SQLITE_SRC" && pwd)
if [ "$(cat "$base/origin" 2>/dev/null || echo debian)" != "$origin" ]; then
  for old in normal debug asan programs src; do
    rm -rf "${base:?}/$old"
  done
fi
echo "$origin" >"$base/origin"
if [ "$origin" != debian ]; then
  ln -sfn "$origin" "$base/src"
elif [ ! -f "$base/src/VERSION" ]; then
  rm -rf "$base/src.part"
  "$root/scripts/debsrc.sh" sqlite3 "$base/src.part" "$release" >"$base/fetch.log" 2>&1 || {
    tail -3 "$base/fetch.log"
    exit 3
  }
  rm -rf "$base/src"
  mv "$base/src.part" "$base/src"
fi
found=$(cat "$base/src/VERSION")
[ "$found" = "$version" ] ||
  echo "suite: wanted SQLite $version; the source there is $found"

mkdir -p "$base/$variant"
cd "$base/$variant"
# What the compiler is to be told goes with its name: OPTS also reaches the parser
# generator, which takes -rdynamic for an option of its own.
compiler="cc -rdynamic -Wl,-rpath,$(dirname "$glue") -I$root/sqlite-tests"
configure=--enable-all
case $variant in
debug) configure="$configure --enable-debug" ;;
asan) compiler="$compiler -fsanitize=address -fno-omit-frame-pointer" ;;
esac
if [ ! -f Makefile ]; then
  tcl=$(dirname "$(find /usr/lib /usr/share -name tclConfig.sh 2>/dev/null | sort | head -1)")
  # shellcheck disable=SC2086
  ../src/configure $configure --with-tcl="$tcl" >"$log" 2>&1 || {
    tail -5 "$log"
    exit 1
  }
fi
for program; do
  flags=
  order=
  if [ "$program" = testfixture ]; then
    order=$root/sqlite-tests/order.c
    for call in sqlite3_vfs_find sqlite3_vfs_register sqlite3_vfs_unregister jt_register \
      devsym_crash_on_write; do
      flags="$flags -Wl,--wrap=$call"
    done
  fi
  # All that it is made of but SQLite's files, and the mark of their version.
  made_of=$(cat ../src/VERSION ../src/manifest.uuid "$root/sqlite-tests/glue.h" \
    ${order:+"$order"} 2>/dev/null | cksum)
  made_of="$compiler $configure $flags $made_of"
  if [ "$made_of" != "$(cat "$program.made_of" 2>/dev/null)" ]; then
    rm -f "$program"
  elif [ -x "$program" ] && [ "$origin" = debian ]; then
    continue
  fi
  make "$program" CC="$compiler $flags" OPTS=-DSQLITE_EXTRA_INIT=suite_init \
    TESTFIXTURE_SRC1="sqlite3.c $order $glue" \
    LDFLAGS.libsqlite3="$glue -lm -lz -lpthread -ldl" TLIBS="$glue -lm -lz -lpthread -ldl" \
    >>"$log" 2>&1 </dev/null || {
    tail -15 "$log"
    echo "suite: $program of SQLite $version ($variant) does not build: $log" >&2
    exit 1
  }
  echo "$made_of" >"$program.made_of"
done
