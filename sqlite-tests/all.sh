#!/usr/bin/env bash
# Many runs of SQLite's suite, one after the other.
#
#   all.sh check             what `make check` runs: minutes
#   all.sh sqlite-test-all   every configuration, three versions: hours; each run's
#                            summary is stored in results/
#
# Ends with the sum, and what was skipped and why. Exit: 0 all as expected, 1 not,
# or no version could be fetched.
set -u
here=$(cd "$(dirname "$0")" && pwd)
passed=0
failed=0
ran=0
skipped=

# skip SQLITE LOG: its sources cannot be had; the log's end says why.
skip() {
  case $skipped in
  *"SQLite $1:"*) ;;
  *) skipped+="skipped SQLite $1: its sources cannot be fetched: $(tail -1 "$2")"$'\n' ;;
  esac
}

# count STATUS LOG: the sum that a run ended with. One that failed has a failure.
count() {
  local p f
  read -r p f < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$2" | tail -1)
  p=${p:-0} f=${f:-0}
  [ "$1" -eq 0 ] || [ "$f" -gt 0 ] || f=1
  passed=$((passed + p))
  failed=$((failed + f))
  ran=$((ran + 1))
}

# logged SQLITE COMMAND...
logged() {
  local version=$1 log status
  shift
  log=$(mktemp)
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" -eq 3 ]; then
    skip "$version" "$log"
  else
    count "$status" "$log"
  fi
  rm -f "$log"
}

# one SQLITE CONFIG SUITE [PATTERNS]
one() {
  echo "-- SQLite $1, $2, $3${4:+: $4}"
  SQLITE=$1 CONFIG=$2 SUITE=$3 PATTERNS=${4:-} logged "$1" "$here/run.sh"
}

# programs SQLITE ROUNDS
programs() {
  SQLITE=$1 ROUNDS=$2 PAGEDB_TALLY='' CONFIG='' logged "$1" "$here/programs.sh"
}

# Ours stands above the VFSes that simulate a crash.
crash="crash.test crash2.test crash3.test crash4.test crash6.test crash7.test crash8.test
  crash9.test crashM.test walcrash.test walcrash2.test walcrash4.test writecrash.test"
permutations="journaltest wal coverage-wal coverage-pager inmemory_journal memsubsys1 mmap
  exclusive exclusive-truncate persistent_journal persistent_journal_error no_journal
  no_journal_error truncate_journal autovacuum_crash autovacuum_ioerr"

# The harness itself.
log=$(mktemp)
"$here/selftest.sh" >"$log" 2>&1
status=$?
cat "$log"
count $status "$log"
rm -f "$log"
ran=0

case ${1:-} in
check)
  one 3.53.4 stamped+pcache veryquick
  one 3.53.4 plain veryquick
  one 3.53.4 stamped full "$crash"
  one 3.40.1 stamped veryquick "wal*.test pager*.test vacuum*.test backup*.test journal*.test
    jrnlmode*.test lock*.test savepoint*.test trans*.test corrupt*.test"
  programs 3.53.4 3
  ;;
sqlite-test-all)
  export KEEP=1 SUITE_TIMEOUT=${SUITE_TIMEOUT:-3600}
  for version in 3.40.1 3.46.1 3.53.4; do
    for suite in veryquick full; do
      for config in stock plain stamped; do
        one $version $config $suite
      done
    done
    one $version stamped+fetch veryquick
    one $version plain+fetch veryquick
    one $version stamped+pcache veryquick
    one $version plain+pcache veryquick
    one $version parent veryquick
    for suite in $permutations; do
      one $version stock "$suite"
      one $version stamped "$suite"
    done
    programs $version 20
  done
  BUILD=debug one 3.53.4 stamped veryquick
  BUILD=asan one 3.53.4 stamped veryquick
  SUITE_DIR=/dev/shm/pagedb-suite one 3.53.4 stamped veryquick
  ;;
*)
  echo "usage: all.sh check|sqlite-test-all" >&2
  exit 2
  ;;
esac
[ $ran -gt 0 ] || failed=1
echo "SQLite's suite: $passed passed, $failed failed"
printf %s "$skipped"
[ $ran -gt 0 ] || echo "SQLite's suite: no version could be had: nothing was tested"
[ -z "${PAGEDB_TALLY:-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ $failed -eq 0 ]
