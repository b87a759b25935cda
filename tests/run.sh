#!/usr/bin/env bash
# Run test programs one after the other: tests/run.sh OUTDIR PROGRAM ...
# RUNNER (valgrind, wine, qemu) stands before each. A line per program; the
# output of a failing one in full. Appends "passed failed" to $PAGEDB_TALLY.
set -u
out=$1
shift
export PAGEDB_TEST_DIR=$out/tmp
mkdir -p "$PAGEDB_TEST_DIR"
passed=0 failed=0
for program in "$@"; do
  name=$(basename "$program")
  log=$out/$name.log
  start=$(date +%s.%N)
  timeout -k 5 "${TEST_TIMEOUT:-300}" ${RUNNER:-} "$program" >"$log" 2>&1
  status=$?
  took=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
  ok=$(tr -d '\r' <"$log" | awk '/^\[  PASSED  \]/ { n += $4 } END { print n }')
  bad=$(tr -d '\r' <"$log" | awk '/^\[  FAILED  \] [0-9]+ test/ { n += $4 } END { print n }')
  if [ $status -eq 0 ]; then
    printf 'ok    %-18s %4s cases %6s s\n' "$name" "${ok:-1}" "$took"
  else
    [ $status -eq 124 ] && echo "$name: still running after ${TEST_TIMEOUT:-300} s, killed"
    cat "$log"
    printf 'FAIL  %-18s exit status %s\n' "$name" "$status"
    bad=${bad:-1}
  fi
  passed=$((passed + ${ok:-1} - (status != 0 && ${ok:-0} == 0)))
  failed=$((failed + ${bad:-0}))
done
[ -n "${PAGEDB_TALLY:-}" ] && echo "$passed $failed" >>"$PAGEDB_TALLY"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
