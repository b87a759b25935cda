#!/usr/bin/env bash
# Run test programs one after the other: tests/run.sh OUTDIR PROGRAM ...
# RUNNER (valgrind, wine, qemu) stands before each. A line per program; the
# output of a failing one in full. A program that ends without cmocka's sum has
# failed, whatever its exit status. Appends "passed failed" to $PAGEDB_TALLY.
set -u
out=$1
shift
export PAGEDB_TEST_DIR=$out/tmp
mkdir -p "$PAGEDB_TEST_DIR"
limit=${TEST_TIMEOUT:-300}
passed=0 failed=0 skipped=0

# sum WORD: the N of cmocka's "[  WORD  ] N test(s)", "" if it did not say so.
sum() {
  tr -d '\r' <"$log" | awk -v w="$1" '$1 == "[" && $2 == w && $5 ~ /^test\(s\)/ { n += $4 } END { print n }'
}

for program in "$@"; do
  name=$(basename "$program")
  log=$out/$name.log
  start=$(date +%s.%N)
  timeout -k 5 "$limit" ${RUNNER:-} "$program" >"$log" 2>&1
  status=$?
  took=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
  ok=$(sum PASSED) bad=$(sum FAILED) skip=$(sum SKIPPED)
  if [ $status -eq 0 ] && [ -n "$ok" ] && [ "${bad:-0}" -eq 0 ]; then
    printf 'ok    %-18s %4s cases %6s s%s\n' "$name" "$ok" "$took" \
      "${skip:+, $skip skipped}"
  else
    cat "$log"
    # 137: it did not heed the first signal and was killed by the second.
    case $status in
    124 | 137) awk -v t="$took" -v l="$limit" 'BEGIN { exit !(t >= l) }' &&
      echo "$name: still running after $limit s, killed" ;;
    esac
    [ -n "$ok" ] || echo "$name: ended before cmocka's sum"
    printf 'FAIL  %-18s exit status %s %6s s\n' "$name" "$status" "$took"
    [ "${bad:-0}" -gt 0 ] || bad=1
  fi
  passed=$((passed + ${ok:-0}))
  failed=$((failed + ${bad:-0}))
  skipped=$((skipped + ${skip:-0}))
done
[ -n "${PAGEDB_TALLY:-}" ] && echo "$passed $failed" >>"$PAGEDB_TALLY"
[ $skipped -eq 0 ] || more=", $skipped skipped"
echo "$passed passed, $failed failed${more:-}"
[ $failed -eq 0 ]
