#!/usr/bin/env bash
# What `make bench` says of options that it cannot take: one line, which names the
# option; and nothing of those that it can.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0
failed=0

# says CODE TEXT NAME=VALUE...: exit code, and how the one line begins; "": no line.
says() {
  local code=$1 text=$2 out got right
  shift 2
  out=$(env -u SIZE -u ROUNDS -u MINUTES -u BENCH -u READAHEAD -u RESUME BENCH_DIR="$dir" \
    "$@" python3 bench/sql/run.py 2>&1 </dev/null)
  got=$?
  case $out in
  *$'\n'*) right=0 ;;
  "$text"*) right=1 ;;
  *) right=0 ;;
  esac
  if [ $right = 1 ] && [ $got = "$code" ] && { [ -n "$text" ] || [ -z "$out" ]; }; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf '%s: exit %s, expected %s and "%s":\n%s\n' "$*" "$got" "$code" "$text" "$out"
  fi
}

for good in SIZE= SIZE=full ROUNDS=1 MINUTES=0.5 READAHEAD=128 RESUME=1 BENCH=point \
  'BENCH=small_*_wal*' 'BENCH=cold reads'; do
  says 0 "" "$good"
done
for bad in SIZE=huge ROUNDS=x ROUNDS=0 ROUNDS=1.5 MINUTES=z MINUTES=-1 MINUTES=nan \
  READAHEAD=1k RESUME=yes BENCH=nothing "BENCH_DIR=$PWD/Makefile"; do
  says 1 "bench: $bad: " "$bad"
done

[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ "$failed" = 0 ] && echo "ok    bench_options     $passed cases"
exit $((failed > 0))
