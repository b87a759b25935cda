#!/usr/bin/env bash
# Run the tests of check-quick on what was built with coverage, and say what they
# reach. run.sh OUTDIR
set -u
here=$(dirname "$0")
out=$1
find "$out" -name '*.gcda' -delete
tests=("$out"/test_*)
tests=($(ls "${tests[@]}" | grep -v '\.log$'))
pcache=("$out"/test_vfs_{equal,process,state,threads})
if ! {
  PAGEDB_FAULTS=all PAGEDB_TRANSACTIONS=100 PAGEDB_KILLS=30 "$here"/../run.sh "$out" "${tests[@]}" &&
    PAGEDB_PCACHE=on PAGEDB_TRANSACTIONS=30 PAGEDB_KILLS=10 PAGEDB_TEST_SCALE=small \
      "$here"/../run.sh "$out" "${pcache[@]}" &&
    "$here"/../tool.sh "$out" && "$here"/../pcache_routes.sh "$out"
}; then
  echo "coverage: a test fails"
  exit 1
fi
"$here"/report.py "$out"
