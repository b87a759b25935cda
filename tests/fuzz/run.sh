#!/usr/bin/env bash
# Build the fuzz targets with libFuzzer, ASan and UBSan and run each for some
# seconds from its kept corpus. usage: run.sh OUTDIR [SECONDS]
# New inputs of interest are left in OUTDIR/corpus/NAME; merge them by hand with
# OUTDIR/fuzz_NAME -merge=1 tests/fuzz/corpus/NAME OUTDIR/corpus/NAME
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$1 seconds=${2:-20}
mkdir -p "$out"
passed=0 failed=0
for source in "$here"/fuzz_*.c; do
  name=$(basename "$source" .c)
  short=${name#fuzz_}
  mkdir -p "$out/corpus/$short"
  if ! clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all -I"$root/core" -I"$root/tests" "$source" \
    "$root"/tests/fault_store.c "$root"/tests/util.c "$root"/core/*.c \
    -lcmocka -pthread -o "$out/$name" >"$out/$name.log" 2>&1; then
    cat "$out/$name.log"
    echo "FAIL  $name does not compile"
    failed=$((failed + 1))
    continue
  fi
  if "$out/$name" -max_total_time="$seconds" -max_len=8200 -print_final_stats=1 \
    -artifact_prefix="$out/$name-" "$out/corpus/$short" \
    "$here/corpus/$short" >"$out/$name.log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log")
    printf 'ok    %-12s %s executions in %s s\n' "$name" "$runs" "$seconds"
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
