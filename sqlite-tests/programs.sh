#!/usr/bin/env bash
# SQLite's other test programs on page-db: correctness, not speed.
#
#   programs.sh            SQLITE=3.53.4, CONFIG=stamped|plain (both), ROUNDS=20
#
#   mptester       several processes, one database; in plain mode also with stock
#                  SQLite in every second process
#   threadtest3    threads
#   rollback-test  a process dies with a hot journal, or a hot WAL
#   speedtest1     its own check of the content, beside stock SQLite's
#   kvtest         blobs, and their sizes
#   sqlite3        the shell of that version loads the extension (tests/clients)
#   corpus         the hostile databases of SQLite's fuzzer, read, written and
#                  vacuumed: same output and same files as with stock SQLite
#
# One line for each, ok or FAIL; it fails as well if page-db was not in use. Exit:
# 0 all ok, 1 not, 3 no sources.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
# shellcheck source=sqlite-tests/in_use.sh
. "$here/in_use.sh"
version=${SQLITE:-3.53.4}
rounds=${ROUNDS:-20}
# Not beside testfixture, which runs more tests where it finds a shell.
"$here/build.sh" "$version" programs mptester threadtest3 rollback-test speedtest1 kvtest \
  fuzzcheck sqlite3 || exit $?
bin=$root/build/sqlite/$version/programs
src=$root/build/sqlite/$version/src
work=$root/build/sqlite/$version/programs-run
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
unset PAGEDB_POOL_SIZE PAGEDB_URING PAGEDB_MEMBARRIER PAGEDB_STAMP PAGEDB_DIRECT PAGEDB_FETCH \
  PAGEDB_PCACHE PAGEDB_SUITE PAGEDB_SUITE_PCACHE PAGEDB_SUITE_PARENT PAGEDB_SUITE_FETCH
export PAGEDB_SUITE_REPORT=$work/opened.txt
: >"$PAGEDB_SUITE_REPORT"
passed=0
failed=0
runs=0

# verdict NAME STATUS LOG: of a program that ran on page-db since the last one.
verdict() {
  local status=$2
  in_use "$PAGEDB_SUITE_REPORT" "$work" >>"$3" || status=1
  : >"$PAGEDB_SUITE_REPORT"
  say "$1" "$status" "$3"
}

# say NAME STATUS LOG
say() {
  if [ "$2" -eq 0 ]; then
    echo "ok    $1"
    passed=$((passed + 1))
  else
    echo "FAIL  $1"
    tail -15 "$3" | sed 's/^/      /'
    failed=$((failed + 1))
  fi
}

# Every second client of mptester runs without page-db: it starts its clients by
# the name that it was called by.
cat >mixed <<EOF
#!/usr/bin/env bash
for ((i = 1; i < \$#; i++)); do
  if [ "\${!i}" = --client ]; then
    j=\$((i + 1))
    [ \$((\${!j} % 2)) -eq 0 ] || export PAGEDB_SUITE=off
  fi
done
exec "$bin/mptester" "\$@"
EOF
chmod +x mixed

# mptester waits a second for its clients to end, and on a busy machine one may go
# on after that: with a journal whose name a database of the same name would take for
# its own. So each run has a name, and ends when nobody holds its output any more.
mptest() {
  local name=$1 how=$2 script mode status
  for script in crash01 multiwrite01; do
    for mode in DELETE WAL; do
      rm -f mp-*
      runs=$((runs + 1))
      (exec -a "$how" "$bin/mptester" "mp-$runs.db" "$src/mptest/$script.test" \
        --repeat "$rounds" --journalmode "$mode" --timeout 20000) 2>&1 </dev/null | cat >mp.log
      status=${PIPESTATUS[0]}
      grep -q '^Summary: 0 errors' mp.log || status=1
      verdict "mptester $script $mode, $name" $status mp.log
    done
  done
}

# What speedtest1 finds in the database must be what stock SQLite finds.
speedtest() {
  local size=10
  rm -f st.db*
  PAGEDB_SUITE=off "$bin/speedtest1" --size $size --verify st.db >st.stock 2>&1 </dev/null
  rm -f st.db*
  "$bin/speedtest1" --size $size --verify st.db >st.log 2>&1 </dev/null
  status=$?
  hash=$(grep -i 'hash' st.log)
  [ -n "$hash" ] && [ "$hash" = "$(grep -i 'hash' st.stock)" ] || status=1
  verdict "speedtest1 --verify, $1" $status st.log
}

rollback() {
  local mode status
  for mode in -rollback -wal; do
    rm -f rb.db*
    "$bin/rollback-test" new rb.db >rb.log 2>&1 </dev/null
    "$bin/rollback-test" crash $mode rb.db >>rb.log 2>&1 </dev/null
    "$bin/rollback-test" check rb.db >>rb.log 2>&1 </dev/null
    status=$?
    verdict "rollback-test $mode, $1" $status rb.log
  done
}

kv() {
  local status=0 order
  rm -f kv.db*
  "$bin/kvtest" init kv.db --count 2000 --size 10000 --variance 3000 >kv.log 2>&1 </dev/null || status=1
  for order in --random --desc --update; do
    "$bin/kvtest" run kv.db --count 500 --blob-api $order --integrity-check >>kv.log 2>&1 </dev/null || status=1
  done
  verdict "kvtest, $1" $status kv.log
}

# list_sizes DIR: lists the files and their sizes in DIR.sizes. One database grows to
# hundreds of GiB, nearly all of it holes: of such a file the start and the end stay.
list_sizes() {
  (cd "$1" && find . -type f -printf '%p %s\n' | sort) >"$1.sizes"
  # shellcheck disable=SC2016
  find "$1" -size +64M -exec sh -c 'tail -c 1M "$1" >"$1.end"; truncate -s 64M "$1"' sh {} \;
}

# fuzzcheck itself works in memory: its databases are taken out of it.
#
# SQLite reads behind the end of a damaged page in its cache, and what it makes of
# some of these databases depends on the addresses that it finds there: one in
# some dozens of runs of stock SQLite is unlike the others. So ours has to be as one
# of five.
corpus() {
  local name try status=0
  rm -rf fresh ours
  mkdir fresh
  "$bin/fuzzcheck" --export-db fresh "$src/test/fuzzdata3.db" >fz.log 2>&1 </dev/null || status=1
  for name in fresh/*.db; do
    cat <<EOF
.open ${name#*/}
.progress 1000 --limit 200 --reset --quiet
PRAGMA synchronous = OFF;
PRAGMA integrity_check(2);
SELECT type, name, rootpage FROM sqlite_schema LIMIT 20;
CREATE TABLE pagedb_t(x);
INSERT INTO pagedb_t VALUES(zeroblob(3000));
DROP TABLE pagedb_t;
VACUUM;
PRAGMA integrity_check(2);
EOF
  done >corpus.sql
  # Of what fuzzcheck did the report is to say nothing.
  : >"$PAGEDB_SUITE_REPORT"
  cp -r fresh ours
  (cd ours && "$bin/sqlite3" -batch <../corpus.sql >../fz.ours 2>&1)
  [ "$(wc -l <fz.ours)" -gt 10000 ] || status=1
  list_sizes ours
  for try in 1 2 3 4 5; do
    rm -rf stock
    cp -r fresh stock
    (cd stock && PAGEDB_SUITE=off "$bin/sqlite3" -batch <../corpus.sql >../fz.stock 2>&1)
    list_sizes stock
    {
      echo "beside run $try of stock SQLite:"
      diff fz.stock fz.ours && diff stock.sizes ours.sizes && diff -rq stock ours
    } >>fz.log 2>&1 && break
    [ "$try" -lt 5 ] || status=1
  done
  rm -rf stock ours fresh
  verdict "hostile databases of fuzzdata3, plain, beside stock" $status fz.log
}

PAGEDB_SUITE=off SQLITE3_SHELL=$bin/sqlite3 PAGEDB_TALLY='' \
  "$root/tests/clients/run.sh" "$root/build" >shell.log 2>&1 </dev/null
say "sqlite3 shell, extension loaded" $? shell.log

for config in ${CONFIG:-stamped plain}; do
  case $config in
  stamped) unset PAGEDB_STAMP ;;
  plain) export PAGEDB_STAMP=off ;;
  esac
  mptest "$config" "$bin/mptester"
  [ "$config" = plain ] && mptest "plain, every second process stock" "$work/mixed"
  rm -f tt.db*
  "$bin/threadtest3" >tt.log 2>&1 </dev/null
  verdict "threadtest3, $config" $? tt.log
  rollback "$config"
  speedtest "$config"
  kv "$config"
  [ "$config" != plain ] || corpus
done
echo "$passed passed, $failed failed"
[ -z "${PAGEDB_TALLY:-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ $failed -eq 0 ]
