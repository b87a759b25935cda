#!/usr/bin/env bash
# Build the fuzz targets with libFuzzer, ASan and UBSan and run each for some
# seconds from its kept corpus. usage: run.sh OUTDIR [SECONDS] [TARGET ...]
# New inputs of interest are left in OUTDIR/corpus/NAME; merge them by hand with
# OUTDIR/fuzz_NAME -merge=1 tests/fuzz/corpus/NAME OUTDIR/corpus/NAME
#
# fuzz_database and fuzz_tool begin with seeds that SQLite's shell makes (seeds.sh).
# SQLITE_FUZZDATA="FILE ..." (test/fuzzdata*.db in SQLite's sources) makes the
# databases of SQLite's own corpus seeds as well.
#
# FUZZ_SEED=n: other inputs than those that each run makes first; 0: new ones each time.
#
# SQLite itself is not built for fuzzing here, and 3.40.1 falls over some damaged
# databases. An input with which stock SQLite falls, too, is named, and no failure.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$1 seconds=${2:-20}
shift $(($# < 2 ? $# : 2))
mkdir -p "$out"
out=$(cd "$out" && pwd)
passed=0 failed=0
flags=(-std=c11 -g -O1 -fsanitize=fuzzer-no-link,address,undefined
  -fno-sanitize-recover=all -I"$root/core" -I"$root/tests")

# What the targets share is compiled once: objects DIR FLAG... -- SOURCE...
objects() {
  local dir=$out/$1 more=()
  shift
  while [ "$1" != -- ]; do more+=("$1") && shift; done
  shift
  mkdir -p "$dir"
  printf '%s\n' "$@" | xargs -P2 -I{} sh -c \
    'dir=$1 && shift && clang "$@" -c {} -o "$dir/$(basename $(dirname {}))-$(basename {} .c).o"' \
    sh "$dir" "${flags[@]}" "${more[@]}"
}

sqlite=$(echo '#include <sqlite3ext.h>' | clang -E -x c - >/dev/null 2>&1 && echo y)
if ! {
  objects core -- "$root"/core/*.c "$root"/tests/fault_store.c "$root"/tests/util.c &&
    { [ -z "$sqlite" ] || {
      objects plugin -DSQLITE_CORE -- "$root"/vfs/*.c "$root"/pcache/*.c \
        "$here"/rig.c "$here"/fuzz_file.c "$root"/tests/torture/simdisk.c &&
        objects tool -Dmain=tool_main -- "$root"/tool/*.c
    }; }
} >"$out/build.log" 2>&1; then
  cat "$out/build.log"
  echo "FAIL  the fuzz targets do not compile"
  [ -n "${PAGEDB_TALLY:-}" ] && echo "0 1" >>"$PAGEDB_TALLY"
  exit 1
fi

# The objects of a target, the longest input, and its seeds.
settings() {
  link=("$out"/core/*.o -lcmocka) most=8200 seeds=()
  case $1 in
  database | sql | tool) link=("$out"/core/*.o "$out"/plugin/*.o -lcmocka -lsqlite3 -lm) ;;
  esac
  case $1 in
  database) most=40000 seeds=("$out/seeds") ;;
  tool) most=40000 seeds=("$out/seeds") link+=("$out"/tool/*.o) ;;
  esac
}
if [ -n "$sqlite" ] && command -v sqlite3 >/dev/null; then
  # shellcheck disable=SC2086
  "$here"/seeds.sh "$out/seeds" ${SQLITE_FUZZDATA:-} >"$out/seeds.log" 2>&1
else
  mkdir -p "$out/seeds"
fi

for source in "$here"/fuzz_*.c; do
  name=$(basename "$source" .c)
  short=${name#fuzz_}
  [ "$short" != file ] || continue
  [ $# -eq 0 ] || [[ " $* " = *" $short "* ]] || continue
  case $short in database | sql | tool) [ -n "$sqlite" ] || continue ;; esac
  settings "$short"
  mkdir -p "$out/corpus/$short" "$out/tmp"
  if ! clang "${flags[@]}" -fsanitize=fuzzer "$source" "${link[@]}" -pthread \
    -o "$out/$name" >"$out/$name.log" 2>&1; then
    cat "$out/$name.log"
    echo "FAIL  $name does not compile"
    failed=$((failed + 1))
    continue
  fi
  rm -f "$out/$name"-crash-*
  if TMPDIR=$out/tmp "$out/$name" -max_total_time="$seconds" -max_len=$most \
    -seed="${FUZZ_SEED:-1}" -timeout=60 -print_final_stats=1 -artifact_prefix="$out/$name-" \
    "$out/corpus/$short" "$here/corpus/$short" "${seeds[@]}" >"$out/$name.log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log")
    printf 'ok    %-13s %s executions in %s s\n' "$name" "$runs" "$seconds"
    passed=$((passed + 1))
  elif [ "$short" = database ] && ls "$out/$name"-crash-* >/dev/null 2>&1 &&
    ! PAGEDB_FUZZ_STOCK=1 "$out/$name" "$out/$name"-crash-* >"$out/$name.stock" 2>&1 &&
    grep -q '^==.*ERROR: AddressSanitizer' "$out/$name.stock"; then
    echo "ok    $name: ended by a fault of SQLite's own:" "$out/$name"-crash-*
    passed=$((passed + 1))
  else
    tail -50 "$out/$name.log"
    echo "FAIL  $name: the input is in $out/$name-*"
    failed=$((failed + 1))
  fi
done
[ -n "${PAGEDB_TALLY:-}" ] && echo "$passed $failed" >>"$PAGEDB_TALLY"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
