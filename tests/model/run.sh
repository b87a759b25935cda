#!/usr/bin/env bash
# Check the frame protocols (pool.pml, private.pml) with Spin: no violation as they
# are, and one with each rule switched off. usage: run.sh OUTDIR
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=$1
pool="NO_FENCE NO_RECHECK NO_SCAN NO_BUSY NO_WRITING NO_DIRTY_CHECK LATE_CLEAN NO_REDIRTY WAIT_WITH_CLAIM
  FORGET_UNWRITTEN NO_ORPHAN_SCAN KEEP_ENTRY"
private="NO_FENCE NO_LOOK NO_LOOK_APART LATE_APART NO_CLAIM NO_WAIT NO_APART NO_TAKEN"
mkdir -p "$out"
passed=0 failed=0

# check MODEL RULE WANTED-ERRORS(0 or 1)
check() {
  local model=$1 define=
  shift
  local dir=$out/$model/$1
  [ "$1" = base ] || define=-D$1
  rm -rf "$dir" && mkdir -p "$dir"
  (cd "$dir" && spin $define -a "$here/$model.pml" >spin.log 2>&1 &&
    gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=6000 -o pan pan.c &&
    ./pan -m2000000 >pan.log 2>&1)
  local errors states
  errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$dir/pan.log" | tail -1)
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$dir/pan.log")
  if [ "${errors:-x}" = "$2" ] &&
    { [ "$2" = 1 ] || ! grep -qE 'out of memory|max search depth too small|Search not completed' "$dir/pan.log"; }; then
    printf 'ok    model %-24s %s violation(s) wanted and found, %s states\n' "$model $1" "$2" "$states"
    passed=$((passed + 1))
  else
    printf 'FAIL  model %-24s wanted %s violation(s), got %s\n' "$model $1" "$2" "${errors:-no answer}"
    cat "$dir"/*.log
    failed=$((failed + 1))
  fi
}

command -v spin >/dev/null || {
  echo "FAIL  model: Spin is not installed (make deps)"
  exit 1
}
for model in pool private; do
  check "$model" base 0
  for rule in ${!model}; do
    check "$model" "$rule" 1
  done
done
[ -n "${PAGEDB_TALLY:-}" ] && echo "$passed $failed" >>"$PAGEDB_TALLY"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
