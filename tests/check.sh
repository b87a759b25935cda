#!/usr/bin/env bash
# All tests. Ends with the sum of the test cases.
set -u
tally=$(mktemp)
trap 'rm -f "$tally"' EXIT
export PAGEDB_TALLY=$tally
status=0
for target in check-quick check-process check-real check-clients check-demo check-asan check-ubsan \
  check-tsan check-valgrind check-model check-fuzz check-sqlite; do
  echo "== $target"
  if ! make --no-print-directory "$target"; then
    echo "FAIL  $target"
    echo "0 1" >>"$tally"
    status=1
  fi
done
awk '{ p += $1; f += $2 } END { print p " passed, " f " failed" }' "$tally"
exit $status
