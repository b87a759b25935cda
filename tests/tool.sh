#!/usr/bin/env bash
# The command `pagedb`, as its users call it: what it prints, JSON, exit codes.
# tool.sh BUILD
set -u
build=$(cd "${1:-build}" && pwd)
tool=$build/pagedb
repo=$PWD
dir=$(mktemp -d "$build/tool.XXXXXX")
trap 'umount "$dir/full" 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0
failed=0

# expect CODE TEXT ARGS: exit code, and a piece of what is printed.
expect() {
  local code=$1 text=$2 out got
  shift 2
  out=$("$tool" "$@" 2>&1 </dev/null)
  got=$?
  if [ "$got" = "$code" ] && grep -qF -- "$text" <<<"$out"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'pagedb %s: exit %s, expected %s and "%s":\n%s\n' "$*" "$got" "$code" "$text" "$out"
  fi
}
# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "$what: failed: $*"
  fi
}
# wait_for COMMAND...: until it says yes, though not for ever.
wait_for() {
  for _ in $(seq 1000); do
    "$@" && return
    sleep 0.02
  done
  echo "waited in vain: $*"
}
# json [-CODE] ARGS: one line or more, and each is JSON; with that exit code.
json() {
  local code= got
  case $1 in -[0-9]) code=${1#-} && shift ;; esac
  "$tool" --json "$@" 2>/dev/null >json.out </dev/null
  got=$?
  if [ "${code:-$got}" = $got ] && python3 -c 'import json, sys
lines = [json.loads(line) for line in sys.stdin]
sys.exit(not lines)' <json.out; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "pagedb --json $*: exit $got, or not JSON"
  fi
}
ours() { sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open $1" :memory: "$2"; }
flip() { # FILE OFFSET [MASK]
  python3 - "$1" "$2" "${3:-8}" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    b = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([b ^ int(sys.argv[3])]))
PY
}

sqlite3 plain.db "CREATE TABLE t(a, b); CREATE INDEX i ON t(b);
  WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<3000) INSERT INTO t SELECT x, 'row ' || x FROM n"
cp plain.db busy.db

# A value in the environment that means nothing.
for bad in PAGEDB_POOL_SIZE=foo PAGEDB_POOL_SIZE=7 PAGEDB_STAMP=bogus PAGEDB_DIRECT=maybe PAGEDB_FETCH=2 \
  PAGEDB_URING=x PAGEDB_URING=off PAGEDB_URING=; do
  out=$(env "$bad" sqlite3 -batch -cmd ".load $build/pagedb.so" :memory: "SELECT 1" 2>&1)
  check "load with $bad: $out" grep -q "$bad in the environment" <<<"$out"
done
for bad in PAGEDB_DIRECT=bogus PAGEDB_FETCH=x PAGEDB_PCACHE=x PAGEDB_URING=x PAGEDB_POOL_SIZE=1KiB; do
  out=$(env "$bad" "$tool" stamp plain.db 2>&1)
  check "command with $bad: exit code" [ $? = 2 ]
  check "command with $bad: $out" grep -q "^pagedb: plain.db: $bad in the environment is not" <<<"$out"
done
# A pool for which there are no addresses: told where it is asked for.
for bad in 2048GiB 1000000GiB 9000000TiB 900000000000GiB 1e300; do
  out=$(PAGEDB_POOL_SIZE=$bad sqlite3 -batch -cmd ".load $build/pagedb.so" :memory: "SELECT 1" 2>&1)
  check "load, a pool of $bad: $out" \
    grep -q "PAGEDB_POOL_SIZE=$bad in the environment is not possible: a pool has at most 2047 GiB" <<<"$out"
  out=$(PAGEDB_POOL_SIZE=$bad "$tool" convert plain.db 2>&1)
  check "command, a pool of $bad: exit code" [ $? = 2 ]
  check "command, a pool of $bad: $out" grep -q "^pagedb: plain.db: PAGEDB_POOL_SIZE=$bad .* at most 2047 GiB" <<<"$out"
done
no_room="PAGEDB_POOL_SIZE=1GiB in the environment is not possible: this process has no room for it"
for how in "convert" "stamp --adopt"; do
  out=$(ulimit -v 400000 && PAGEDB_POOL_SIZE=1GiB "$tool" $how plain.db 2>&1)
  check "$how, a pool of 1GiB: exit code" [ $? = 2 ]
  check "$how, a pool of 1GiB: $out" grep -q "^pagedb: plain.db: $no_room .*ulimit -v" <<<"$out"
done
# Had at loading, it is there for the databases; more than there is memory is no mistake.
out=$(ulimit -v 400000 && PAGEDB_POOL_SIZE=1GiB \
  sqlite3 -batch -cmd ".load $build/pagedb.so" :memory: "SELECT 1" 2>&1)
check "load, a pool of 1GiB: $out" grep -q "$no_room .*ulimit -v" <<<"$out"
out=$(PAGEDB_POOL_SIZE=1TiB sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open env.db" :memory: \
  "CREATE TABLE t(a); PRAGMA pagedb_pool_size" 2>&1)
check "a pool of 1 TiB: $out" [ "$out" = 1099511627776 ]
rm -f env.db
for good in PAGEDB_URING=0 PAGEDB_URING=1; do
  out=$(env $good sqlite3 -batch -cmd ".load $build/pagedb.so" :memory: "SELECT 1" 2>&1)
  check "load with $good: $out" [ "$out" = 1 ]
done
# What it stamps is not for the environment to say.
for stamp in required off bogus; do
  cp plain.db env.db
  export PAGEDB_STAMP=$stamp
  expect 0 "converted" convert env.db
  expect 0 "no longer stamped" unstamp env.db
  expect 0 "stamped; pages: " stamp env.db
  unset PAGEDB_STAMP
done

# Every key of --json is explained.
for key in $(grep -ohE '\\"[a-z_0-9]+\\":' "$repo"/tool/*.c | tr -d '\\":' | sort -u); do
  check "--json has $key" grep -qE "^\|.*\`$key\`" "$repo/docs/operations.md"
done

expect 0 "usage: pagedb" --help
expect 0 "what follows is a name" --help
expect 0 "pagedb 0." --version
expect 2 "unknown command" frobnicate plain.db
expect 2 "unknown option" info --frobnicate plain.db
expect 2 "which file" info
expect 2 "which file" info ""
expect 0 "pagedb 0." -V
expect 2 "No such file" info -- --json
expect 2 "unknown option" info -x
expect 2 "--adopt belongs to stamp" check --adopt plain.db
expect 2 "No such file" info none.db
expect 2 "not a file" info .
: >empty.db
expect 2 "empty" info empty.db
echo "this is neither a database nor a page file" >text
expect 2 "neither an SQLite database" check text
head -c 50 plain.db >short
expect 2 "cut off in the header of an SQLite database" check short

expect 0 "state         plain" info plain.db
expect 2 '`pagedb convert` gives it stamps' check plain.db
cp plain.db "a name; ls"
check "info: a command without the name" grep -qx "to stamp it   pagedb convert" <<<"$("$tool" info "a name; ls")"
rm "a name; ls"
expect 2 "keeps 0 bytes" stamp plain.db
expect 0 "converted" convert plain.db
expect 0 "stamped already" convert plain.db
expect 0 "state         stamped" info plain.db
expect 0 " 0 damaged" check plain.db
expect 0 "table leaf     table t" pages plain.db
json info plain.db
json check plain.db
json pages plain.db

# Others have it open.
sqlite3 -batch busy.db "PRAGMA journal_mode=WAL" >/dev/null
mkfifo hold
sqlite3 -batch busy.db <hold >/dev/null &
exec 9>hold
echo "BEGIN; SELECT * FROM t;" >&9
sleep 0.3
cp busy.db before
expect 2 "others hold a lock on the database" convert --quiet busy.db
check "busy.db is untouched" cmp -s before busy.db
echo "COMMIT;" >&9
exec 9>&-
wait
expect 0 "converted" convert busy.db
expect 0 "journal mode  WAL" info busy.db
sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open busy.db" :memory: <hold >/dev/null &
exec 9>hold
echo "PRAGMA wal_autocheckpoint=0; CREATE TABLE more(a); INSERT INTO more VALUES(randomblob(40000)); SELECT 1;" >&9
wait_for eval '[ "$(stat -c %s busy.db-wal 2>/dev/null || echo 0)" -gt 40000 ]'
expect 0 "pages that the file has, too: 1; pages that are nowhere else: 1" info busy.db
expect 0 "whose copies carry no stamps to verify: pages that the file has, too: 1; pages that are nowhere else: 1" check busy.db
expect 0 " verified in the file, 0 damaged" check busy.db
json -0 check busy.db
for how in unstamp "stamp --adopt"; do
  expect 2 "in use by others" $how busy.db
  json -2 $how busy.db
done
exec 9>&-
wait
# In the log is what the next reader takes from there: no frame of a transaction that
# was never committed, none that is written back, none behind one that is damaged.
at_work() { # SQL: page-db has waited.db open, and stays
  rm -f waited.db*
  ours waited.db "PRAGMA page_size=4096; CREATE TABLE t(a); PRAGMA journal_mode=WAL;
    INSERT INTO t SELECT randomblob(900) FROM (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n
    WHERE x<300) SELECT x FROM n)" >/dev/null
  : >waited.out
  # No shell between: $! is who is killed.
  sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open waited.db" :memory: <hold >waited.out 2>&1 9>&- &
  worker=$!
  exec 9>hold
  echo "PRAGMA wal_autocheckpoint=0; $1; SELECT 'ready';" >&9
  wait_for grep -q ready waited.out
  flip waited.db 160000 # in page 40
}
die() {
  kill -KILL $worker
  wait $worker 2>/dev/null
  exec 9>&-
}
lacks() { ! grep -q "$1"; }
reads() { ours waited.db "SELECT 'sum', sum(length(a)) FROM t" 2>&1; }
said() { # WHAT CODE TEXT NOT STATUS: of page 40
  local out
  out=$("$tool" check waited.db 2>&1)
  check "$1: exit code" [ $? = "$2" ]
  check "$1: $out" grep -q "$3" <<<"$out"
  check "$1: not $4: $out" lacks "$4" <<<"$out"
  out=$("$tool" pages waited.db | grep '^ *40 ')
  check "$1: $out" grep -q "^ *40  $5 " <<<"$out"
}
at_work "PRAGMA cache_size=5; BEGIN; UPDATE t SET a=randomblob(900)"
check "frames without a commit" [ "$(stat -c %s waited.db-wal)" -gt 100000 ]
said "no commit, at work" 1 "^page 40: .* does not match" "has a copy" "bad crc"
die
said "no commit, killed" 1 "^page 40: .* does not match" "has a copy" "bad crc"
check "no commit, killed" eval '! reads | grep -q "sum|"'

at_work "UPDATE t SET a=randomblob(900)"
said "committed" 0 "newer versions: 1" "^page 40" "in log"
check "committed: is read" grep -q "sum|270000" <<<"$(reads)"
for at in 0 12 32 50; do # a copy of its head, the copies' sum: nobody can tell
  flip waited.db-shm $at
  said "committed, wal-index flipped at $at" 1 "^page 40: .*the log has a copy" "newer versions" "bad crc"
  flip waited.db-shm $at
done
for at in 8 40; do # the same in both copies
  flip waited.db-shm $at && flip waited.db-shm $((at + 48))
  said "committed, wal-index with a wrong sum at $at" 1 "^page 40: .*the log has a copy" "newer versions" "bad crc"
  flip waited.db-shm $at && flip waited.db-shm $((at + 48))
done
mv waited.db-shm aside
said "committed, no wal-index" 1 "^page 40: .*the log has a copy" "newer versions" "bad crc"
json -1 check waited.db
mv aside waited.db-shm
said "committed, wal-index again" 0 "newer versions: 1" "^page 40" "in log"
die
rm waited.db-shm
said "committed, killed" 0 "newer versions: 1" "^page 40" "in log"
cp waited.db-wal log
for at in 3 7 10 20 24 36 40 48 1000; do # of the log, of its first frame
  flip waited.db-wal $at
  said "log flipped at $at" 1 "^page 40: .* does not match" "has a copy" "bad crc"
  cp log waited.db-wal
done
python3 - <<'PY'
import struct
log = bytearray(open("log", "rb").read())
struct.pack_into(">I", log, 0, 0x377f0683)
a = b = 0
def add(p):
    global a, b
    for x, y in struct.iter_unpack(">II", p):
        a = (a + x + b) & 0xffffffff
        b = (b + y + a) & 0xffffffff
add(log[:24])
struct.pack_into(">II", log, 24, a, b)
for at in range(32, len(log), 4120):
    add(log[at:at + 8])
    add(log[at + 24:at + 4120])
    struct.pack_into(">II", log, at + 16, a, b)
open("waited.db-wal", "wb").write(log)
PY
said "a log with big-endian sums" 0 "newer versions: 1" "^page 40" "in log"
check "a log with big-endian sums: is read" grep -q "sum|270000" <<<"$(reads)"

at_work "UPDATE t SET a=randomblob(900); PRAGMA wal_checkpoint(PASSIVE)"
said "written back" 1 "^page 40: .*the log has a copy" "newer versions" "bad crc"
check "written back: is not read" eval '! reads | grep -q "sum|"'
json -1 check waited.db
echo "UPDATE t SET a=randomblob(900) WHERE rowid BETWEEN 250 AND 300; SELECT 'again';" >&9
wait_for grep -q again waited.out
said "another log begun" 1 "^page 40: .* does not match" "newer versions" "bad crc"
die
at_work "UPDATE t SET a=randomblob(900); PRAGMA wal_checkpoint(PASSIVE)"
die
said "written back, killed" 0 "newer versions: 1" "^page 40" "in log"
check "written back, killed: is read" grep -q "sum|270000" <<<"$(reads)"
rm -f waited.db*

cp plain.db torn.db
printf 'a journal' >torn.db-journal
expect 0 "cut short" info torn.db
expect 0 "there is a journal" check torn.db
# What a journal restores is no damage before it was played back.
ours hot.db "CREATE TABLE t(a, b); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<3000)
  INSERT INTO t SELECT x, 'row ' || x FROM n"
sum=$(ours hot.db .sha3sum)
: >hot.out
sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open hot.db" :memory: <hold >hot.out 2>&1 9>&- &
worker=$!
exec 9>hold
echo "PRAGMA cache_size=5; BEGIN; UPDATE t SET b = b || b; SELECT 'ready';" >&9
wait_for grep -q ready hot.out
expect 0 "there is a journal of a transaction that is under way" check hot.db
die
flip hot.db $((9 * 4096 + 77))
flip hot.db $((5 * 4096 + 77))
for how in check pages; do
  expect 3 "open the database once, with page-db, and check it again" $how hot.db
  check "a journal comes first" grep -q "^there is a journal" <<<"$("$tool" $how hot.db | head -1)"
done
expect 3 " 0 damaged, 2 bad and not judged" check hot.db
json -3 check hot.db
check "unjudged in JSON: $(cat json.out)" grep -q '"damaged":0,"unjudged":2,.*"has_journal":true' json.out
json -3 pages hot.db
cp hot.db hot1.db && cp hot.db-journal hot1.db-journal
flip hot1.db 4000
expect 3 "page 1: " check hot1.db
check "hot1.db: no advice to adopt it" lacks "stamp --adopt" <<<"$("$tool" check hot1.db)"
rm hot.db-journal # without it the same is damage
expect 1 " 2 damaged" check hot.db
json -1 check hot.db
check "damaged in JSON" grep -q '"damaged":2,"unjudged":0,.*"has_journal":false' json.out
cp hot1.db-journal hot.db-journal
check "hot.db is as it was" [ "$(ours hot.db .sha3sum)" = "$sum" ]
expect 0 " 0 damaged" check hot.db
head -c 4096 /dev/zero | tr '\0' x >hot1.db
expect 2 "There is a journal next to it" check hot1.db
rm -f hot.* hot1.*

# A connection that has it open and holds no lock notices, whatever its journal:
# stock SQLite is refused writing, page-db goes on.
for plugin in /dev/null "$build/pagedb.so"; do
  rm -f idle.db
  sqlite3 idle.db "CREATE TABLE t(a); INSERT INTO t VALUES(1)"
  load=(-cmd "PRAGMA journal_mode=MEMORY")
  [ "$plugin" = /dev/null ] || load=(-cmd ".load $plugin" -cmd ".open idle.db" "${load[@]}")
  sqlite3 -batch "${load[@]}" idle.db <hold >idle.out 2>&1 &
  exec 9>hold
  echo "SELECT 'ready', count(*) FROM t;" >&9
  wait_for grep -q ready idle.out
  expect 0 "converted" convert idle.db
  echo "INSERT INTO t VALUES(2); SELECT 'done';" >&9
  exec 9>&-
  wait
  if [ "$plugin" = /dev/null ]; then
    check "idle stock connection" grep -q readonly idle.out
    rows=1
  else
    check "idle connection" grep -q done idle.out
    rows=2
  fi
  check "idle.db has what was committed" [ "$(sqlite3 idle.db 'SELECT count(*) FROM t')" = $rows ]
  expect 0 " 0 damaged" check idle.db
done
# One that has it open and never looked at it, in WAL mode: it has no lock, and
# would find the log of a new file by its name.
rm -f idle.db
sqlite3 idle.db "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)" >/dev/null
python3 -c 'import sqlite3, sys
c = sqlite3.connect("idle.db", isolation_level=None)
print("open", flush=True)
sys.stdin.readline()
try:
    c.execute("INSERT INTO t VALUES(2)")
except sqlite3.OperationalError as e:
    print(e)' <hold >idle.out 2>&1 &
exec 9>hold
wait_for grep -q open idle.out
expect 0 "converted" convert idle.db
sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open idle.db" :memory: \
  "INSERT INTO t VALUES(3); SELECT count(*) FROM t" >/dev/null
echo >&9
exec 9>&-
wait
check "idle connection, WAL" grep -q readonly idle.out
check "idle.db, WAL" [ "$(sqlite3 idle.db 'PRAGMA integrity_check; SELECT sum(a) FROM t' | paste -sd' ')" = "ok 4" ]
expect 0 "journal mode  WAL" info idle.db
expect 0 " 0 damaged" check idle.db

# What an earlier conversion left is deleted; what this one makes, too. A user's
# own file or folder stays, whatever it is called.
left() { find . -name "$1.pagedb-convert*" | grep -q .; }
sqlite3 left.db "CREATE TABLE t(a)"
cp left.db before
echo mine >left.db.pagedb-convert
expect 2 "is in the way" convert left.db
check "left.db.pagedb-convert stays" [ "$(cat left.db.pagedb-convert)" = mine ]
rm left.db.pagedb-convert && mkdir left.db.pagedb-convert
echo mine | tee left.db.pagedb-convert/new.db >left.db.pagedb-convert/made-by-pagedb-convert
expect 2 "is in the way" convert left.db
check "left.db.pagedb-convert/ stays" [ "$(cat left.db.pagedb-convert/*)" = "$(printf 'mine\nmine')" ]
ln -s nowhere link.pagedb-convert && mv left.db.pagedb-convert kept
mv link.pagedb-convert left.db.pagedb-convert
expect 2 "is in the way" convert left.db
check "left.db is untouched" cmp -s before left.db
rm left.db.pagedb-convert
# Killed when it had just begun, or was just done.
cp left.db twice.db && mkdir twice.db.pagedb-convert
expect 0 "converted" convert twice.db
mkdir twice.db.pagedb-convert
expect 0 "stamped already" convert twice.db
check "twice.db: nothing is left" eval '! left twice.db'
mkdir left.db.pagedb-convert && : >left.db.pagedb-convert/made-by-pagedb-convert
expect 0 "converted" convert left.db
check "left.db: nothing is left" eval '! left left.db'
mark=left.db.pagedb-convert/made-by-pagedb-convert
mkdir left.db.pagedb-convert && printf '`pagedb convert` works' >$mark
echo mine >left.db.pagedb-convert/new.db # a part of the mark says nothing of more
expect 0 "stamped already" convert left.db
check "left.db.pagedb-convert/ stays" [ "$(cat left.db.pagedb-convert/new.db)" = mine ]
echo '`pagedb convert` works here; cut short, the next one deletes this folder.' >$mark
# Another one works there: it has the mark locked.
exec 8<$mark
flock -n 8
expect 0 "stamped already" convert left.db
check "left.db.pagedb-convert/ is at work" [ -e left.db.pagedb-convert/new.db ]
mv left.db away.db && cp before left.db
expect 2 "another conversion works in" convert left.db
check "left.db.pagedb-convert/ is at work still" [ -e left.db.pagedb-convert/new.db ]
check "left.db is untouched" cmp -s before left.db
exec 8<&-
mv away.db left.db
expect 0 "stamped already" convert left.db
check "left.db: nothing is left" eval '! left left.db'
sqlite3 big.db "CREATE TABLE t(a); INSERT INTO t SELECT randomblob(1000) FROM
  (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<15000) SELECT x FROM n)"
for try in 1 2 3 4 5; do # it may be done before the signal comes
  cp big.db stop.db
  "$tool" convert stop.db >stop.out 2>&1 &
  wait_for eval '[ -e stop.db.pagedb-convert ] || ! kill -0 $! 2>/dev/null'
  kill -TERM $! 2>/dev/null && kill -TERM $! 2>/dev/null # as timeout(1) does
  wait $!
  code=$?
  check "stop.db: nothing is left" eval '! left stop.db'
  [ $code = 0 ] || break
done
check "stop.db: exit code $code" [ $code = 2 ]
check "stop.db: says why" grep -q interrupted stop.out
check "stop.db is untouched" cmp -s big.db stop.db
# While one is at work the file gets another name, and a new one gets the old name;
# and the new file becomes a link.
larger() { [ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt "$2" ] || ! kill -0 $! 2>/dev/null; }
stopped() { # at work
  for try in 1 2 3 4 5; do # it may be done before
    rm -rf stop.db* && cp big.db stop.db
    "$tool" convert stop.db >stop.out 2>&1 &
    wait_for larger stop.db.pagedb-convert/new.db 1000000
    kill -STOP $! 2>/dev/null
    [ -e stop.db.pagedb-convert/new.db ] && ! [ -s stop.db-journal ] && return
    kill -CONT $! 2>/dev/null
    wait $!
  done
}
stopped
mv stop.db moved.db && cp before stop.db
expect 2 "another conversion works in" convert stop.db
kill -CONT $!
wait $!
check "moved.db: exit code" [ $? = 2 ]
check "moved.db: says why: $(cat stop.out)" grep -q "moved meanwhile" stop.out
check "moved.db is untouched" cmp -s big.db moved.db
check "stop.db is untouched" cmp -s before stop.db
check "moved.db: nothing is left" eval '! left stop.db'
stopped
cp stop.db.pagedb-convert/new.db elsewhere.db
ln -sf ../elsewhere.db stop.db.pagedb-convert/new.db
kill -CONT $!
wait $!
check "a link for the new file: exit code" [ $? = 2 ]
check "a link for the new file: $(cat stop.out)" grep -qE "cannot open .*new.db|new.db was moved" stop.out
check "stop.db is untouched" cmp -s big.db stop.db
rm -rf moved.db elsewhere.db stop.db*
# Killed at any time it has its content and its journal mode; the next conversion
# clears what is left away.
sum=$(sqlite3 big.db .sha3sum)
killed() { # MODE WHEN...
  local mode=$1
  shift
  rm -rf stop.db*
  cp big.db stop.db
  sqlite3 stop.db "PRAGMA journal_mode=$mode" >/dev/null
  "$tool" convert stop.db >/dev/null 2>&1 &
  "$@"
  kill -KILL $! 2>/dev/null
  wait $! 2>/dev/null
  check "stop.db, $mode, killed after $*: journal mode" \
    [ "$(sqlite3 stop.db 'PRAGMA journal_mode')" = "$mode" ]
  check "stop.db, $mode, killed after $*" [ "$(sqlite3 stop.db .sha3sum)" = "$sum" ]
  expect 0 "stamped" convert stop.db
  expect 0 " 0 damaged" check stop.db
  check "stop.db, $mode: journal mode" [ "$(sqlite3 stop.db 'PRAGMA journal_mode')" = "$mode" ]
  check "stop.db, $mode: nothing is left" eval '! left stop.db'
}
for delay in 0.02 0.1 0.2 0.4; do
  killed delete sleep $delay
  killed wal sleep $delay
done
# Before the Nth call that changes a file or a lock; no: it has not so many.
killed_before() { # MODE N PARITY
  cp every.db at.db
  { PAGEDB_KILL_AT=$2 LD_PRELOAD=$build/killpoint.so "$tool" convert at.db; } >/dev/null 2>&1 && return 1
  # Each second one is left to the next conversion as it is.
  if [ "$3" = 0 ]; then
    check "every.db, $1, call $2" [ "$(sqlite3 at.db .sha3sum 'PRAGMA journal_mode')" = "$sum
$1" ]
  fi
  find at.db.pagedb-convert* -printf '%y %f %s\n' 2>/dev/null | paste -sd, >>found
  expect 0 "stamped" convert at.db
  expect 0 " 0 damaged" check at.db
  check "every.db, $1, call $2: after it" \
    [ "$(sqlite3 at.db .sha3sum 'PRAGMA journal_mode; PRAGMA integrity_check')" = "$sum
$1
ok" ]
  check "every.db, $1, call $2: nothing is left" eval '! left at.db'
  rm -rf at.db*
}
# Every STEPth call, until there is none left, and each of those around the folder's
# beginning and end.
killed_at() { # MODE STEP
  local n
  sqlite3 every.db "PRAGMA journal_mode=$1" >/dev/null
  sum=$(sqlite3 every.db .sha3sum)
  : >found
  for n in $(seq 1 "$2" 10000); do
    killed_before "$1" "$n" $((n / $2 % 2)) || break
  done
  rm -rf at.db*
  check "every.db, $1: calls $n" [ "$n" -gt 100 ]
  if [ "$2" -gt 1 ]; then
    for at in $(seq 7 11) $(seq $((n - 20)) $((n - 1))); do
      killed_before "$1" "$at" $((at % 2)) || break
    done
    rm -rf at.db*
  fi
  # Empty, with an empty mark, and with the mark alone, before and after.
  check "every.db, $1: an empty folder" grep -qE '^d at.db.pagedb-convert [0-9]+$' found
  check "every.db, $1: an empty mark" grep -q ',f made-by-pagedb-convert 0$' found
  check "every.db, $1: a mark" grep -q 'convert [0-9]*,f made-by-pagedb-convert 74$' found
}
step=9
[ "${PAGEDB_KILL_ROUNDS-}" = all ] && step=1
sqlite3 every.db "CREATE TABLE t(a, b); CREATE INDEX i ON t(b); INSERT INTO t SELECT x, hex(x*7919) FROM
  (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<800) SELECT x FROM n)"
killed_at delete $step
killed_at wal $step
sum=$(sqlite3 big.db .sha3sum)
killed wal wait_for larger stop.db.pagedb-convert/new.db 1000000
killed wal wait_for larger stop.db-wal 1000000
killed wal wait_for larger stop.db-wal 15000000
killed delete wait_for larger stop.db-journal 1000000
rm -rf big.db stop.db*

# Why not.
sqlite3 reserve.db ".filectrl reserve_bytes 48" "CREATE TABLE t(a)" >/dev/null
expect 2 "keeps 48 bytes" convert reserve.db
sqlite3 index.db "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES(1, 2);
  PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(b)' WHERE name='i'"
expect 2 "integrity_check of the new file says: row 1 missing from index i" convert index.db
python3 -c 'import sqlite3
c = sqlite3.connect("collation.db")
c.create_collation("mine", lambda a, b: (a > b) - (a < b))
c.execute("CREATE TABLE t(a TEXT COLLATE mine UNIQUE)")'
expect 2 "collation.db: no such collation sequence: mine: the application that defines it can convert" convert collation.db
expect 2 "check the database first: no such collation sequence: mine: the application that defines it can run PRAGMA" stamp --adopt collation.db
# Names as long as SQLite takes them, and longer: said, and nothing is changed.
letters() { printf 'n%.0s' $(seq "$1"); }
deep=$(letters 200)/$(letters $((237 - ${#PWD}))) # 439 bytes with $PWD
mkdir -p "$deep"
for bytes in 482 483 504 505; do
  name=$deep/$(letters $((bytes - 440)))
  sqlite3 long.db "CREATE TABLE t(a)" && mv long.db "$name"
  cp "$name" before
  case $bytes in
  482) expect 0 "converted" convert "$name" && continue ;;
  505) for how in convert stamp unstamp; do
    expect 2 "its full name has 505 bytes, and SQLite takes 504" $how "$name"
  done ;;
  *) expect 2 "its full name has $bytes bytes, and may have at most 482" convert "$name" ;;
  esac
  check "a name of $bytes bytes: untouched" cmp -s before "$name"
  check "a name of $bytes bytes: nothing is left" eval '! left "$(basename "$name")"'
done
rm -rf "${deep%%/*}"

# A limit on files, or a full disk: nothing is left, and all is as it was.
sqlite3 limit.db "CREATE TABLE t(a); INSERT INTO t SELECT randomblob(1000) FROM
  (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<6000) SELECT x FROM n)"
for mode in delete wal; do
  sqlite3 limit.db "PRAGMA journal_mode=$mode" >/dev/null
  cp limit.db before
  for blocks in 0 3000 6025; do
    out=$(ulimit -f $blocks && "$tool" convert --json limit.db 2>&1)
    check "limit $blocks, $mode: exit code" [ $? = 2 ]
    check "limit $blocks, $mode: $out" grep -q '"error":"cannot ' <<<"$out"
    check "limit $blocks, $mode: why: $out" \
      grep -qE "File too large|no file may be longer than $((blocks * 1024)) bytes here .*ulimit -f" <<<"$out"
    check "limit $blocks, $mode: untouched" \
      [ "$(sqlite3 limit.db .sha3sum 'PRAGMA journal_mode')" = "$(sqlite3 before .sha3sum 'PRAGMA journal_mode')" ]
    check "limit $blocks, $mode: nothing is left" eval '! left limit.db'
  done
done
mkdir full
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=13m none full 2>/dev/null; then
  cp before full/full.db
  expect 2 "MiB are free" convert full/full.db
  # Where the room is counts, not where a link is.
  ln -s full/full.db room.db
  expect 2 "MiB are free" convert room.db
  check "full.db is untouched" cmp -s before full/full.db
  check "full.db: nothing is left" eval '! left full.db && ! left room.db'
  head -c 20m /dev/zero >full/zeroes 2>/dev/null
  expect 2 "No space left" convert full/full.db
  check "full.db: nothing is left" eval '! left full.db'
  rm full/zeroes && mv full/full.db full/full # a link on a full disk to a file elsewhere
  cp before away.db
  ln -s "$PWD/away.db" full/away.db
  head -c 20m /dev/zero >full/zeroes 2>/dev/null
  expect 0 "converted" convert full/away.db
  umount full
fi

# Names, and what is no database: for every command a sentence in JSON.
mkdir odd && cp plain.db odd/plain
cp plain.db "odd/with space"
cp plain.db $'odd/new\nline'
cp plain.db $'odd/\xff\xfe"\\'
cp plain.db "odd/file:x?mode=ro#y%41"
cp plain.db "odd/:memory:"
cp plain.db odd/--json
(
  cd odd && ln -s plain link && ln -s nowhere nolink && ln -s loop loop && mkfifo fifo && mkdir folder
  : >empty && echo text >text && head -c 50 plain >short
)
cd odd
for name in "with space" $'new\nline' $'\xff\xfe"\\' "file:x?mode=ro#y%41" ":memory:" --json link; do
  json -0 info -- "$name"
  json -0 check -- "$name"
  json -0 pages -- "$name"
  json -0 unstamp -- "$name"
  json -0 stamp -- "$name"
  sqlite3 new "CREATE TABLE t(a)"
  cat new >"$(realpath -- "$name")" && rm new
  json -0 convert -- "$name"
  expect 0 " 0 damaged" check -- "$name"
done
for name in nolink loop fifo folder empty text short none/x plain/x /dev/null; do
  for how in info check pages stamp "stamp --adopt" unstamp "unstamp --force" convert; do
    json -2 $how "$name"
  done
done
cd ..
json -2
json -2 info
json -2 frobnicate plain.db
json -2 info --frobnicate plain.db
json -2 info plain.db two
json -2 check --adopt plain.db
json -2 stamp --force plain.db
json -0 version
expect 2 "one file at a time" info plain.db two
expect 2 "which command" --quiet
for how in version "info plain.db" "pages plain.db"; do
  out=$("$tool" $how 2>&1 >/dev/full)
  check "$how to a full disk: exit code" [ $? = 2 ]
  check "$how to a full disk: $out" grep -q "the output could not be written" <<<"$out"
done

# The same file, whatever its names, its owner and its permissions.
mkdir sub
sqlite3 sub/real.db "CREATE TABLE t(a); INSERT INTO t VALUES(1)"
ln -s sub/real.db link.db
expect 0 "converted" convert link.db
check "link.db is a link" test -L link.db
expect 0 "state         stamped" info sub/real.db
sqlite3 one.db "CREATE TABLE t(a)"
chmod 640 one.db
ln one.db two.db
expect 0 "converted" convert one.db
expect 0 "state         stamped" info two.db
check "one.db has its permissions" [ "$(stat -c %a one.db)" = 640 ]

# A plain one that lost its end.
head -c 5000 limit.db >cutplain.db
expect 1 "malformed" convert cutplain.db
json -1 convert cutplain.db
json -1 pages cutplain.db
json -1 stamp cutplain.db
json -0 info cutplain.db

# Damage: named, with its table; a free page has nothing to lose.
cp plain.db bad.db
page=$(ours bad.db "SELECT page FROM pagedb_pages WHERE object='index i' AND type='index leaf' LIMIT 1")
flip bad.db $((page * 4096 - 1000))
expect 1 "page $page: the page's checksum does not match" check bad.db
expect 1 "index leaf of index i" check bad.db
expect 1 "bad crc" pages bad.db
json check bad.db
json pages bad.db
expect 1 "damaged" stamp bad.db
expect 1 "page $page " unstamp bad.db
cp bad.db forced.db
expect 0 "not verified" unstamp --force forced.db
expect 2 "--force belongs to unstamp" check --force forced.db
truncate -s 20480 bad.db
expect 1 "not in the file" check bad.db

# A page 1 that cannot be right: its own fault, and nothing else is believed.
# Memory is limited: a page count is a number that anybody can write.
ours two.pages "CREATE TABLE t(a)" # two pages
for at in 28 29; do
  cp two.pages count.db
  flip count.db $at 16
  for how in check pages; do
    out=$(ulimit -v 1000000 && timeout 60 "$tool" $how count.db 2>&1)
    check "$how after a flip at $at: exit code" [ $? = 1 ]
    check "$how after a flip at $at: short" [ ${#out} -lt 1000 ]
    json $how count.db
  done
  expect 1 "page 1: the page's checksum does not match" check count.db
  expect 1 "not believed" check count.db
  expect 0 "page 1 counts more" info count.db
  rows=$(ours "file:count.db?pagedb_verify=off" "PRAGMA writable_schema=1; SELECT count(*) FROM pagedb_pages" 2>&1)
  check "pagedb_pages after a flip at $at: $rows rows" [ "$rows" = 3 ]
done
# Bytes 18 and 20, the magic, the page size.
for flip in "18 16" "18 32" "18 64" "18 128" "20 1" "20 16" "20 32" "20 64" "20 128" \
  "0 1" "15 1" "16 16" "16 32" "17 2"; do
  cp plain.db header.db
  flip header.db $flip
  expect 1 "page 1: the page's checksum does not match" check header.db
  expect 1 " 1 damaged" check header.db
  expect 1 "page 1 is damaged" convert header.db
  expect 0 "in page 1 is damaged" info header.db
done
cp plain.db cut.db
truncate -s 12288 cut.db
expect 1 "pages 4 to " check cut.db
expect 1 "up to page" pages cut.db
json check cut.db
json pages cut.db

# The copy that stock makes, and a bit in page 1's text: not to be told apart.
sqlite3 plain.db ".backup copy.db"
expect 1 "only page 1 is bad" check copy.db
expect 1 "damage in page 1" stamp copy.db
expect 0 "stamped; pages: " stamp --adopt copy.db
expect 0 " 0 damaged" check copy.db
flip copy.db 18 16 # a mark that nobody writes
expect 1 "damage in page 1" stamp copy.db
expect 0 "stamped; pages: " stamp --adopt copy.db
expect 0 " 0 damaged" check copy.db
cp plain.db text1.db
flip text1.db 4059 2 # t(a, b): t(c, b)
expect 1 "damage in page 1" stamp text1.db
expect 1 "only page 1 is bad" check text1.db

# Names are printed, and do nothing to the terminal; JSON is UTF-8.
ours names.db "CREATE TABLE names(a); INSERT INTO names VALUES(randomblob(9000));
  PRAGMA writable_schema=1;
  UPDATE sqlite_schema SET name='n' || CAST(x'1b5b33316dd6' AS TEXT) || 'é', tbl_name=name" >/dev/null
expect 0 'table n\x1b[31m\xd6é' pages names.db
json pages names.db

ours plain.db "DROP INDEX i" >/dev/null
cp plain.db free.db
page=$(ours free.db "SELECT page FROM pagedb_pages WHERE type='free leaf' LIMIT 1")
flip free.db $((page * 4096 - 1000))
expect 0 "free, nothing is lost" check free.db
expect 0 "stamped" stamp --adopt free.db
page_is_sound=$(ours free.db "SELECT status FROM pagedb_pages WHERE page=$page")
check "free leaf is mended: $page_is_sound" [ "$page_is_sound" = ok ]

# Away from it and back; what stock wrote meanwhile is said.
expect 0 "no longer stamped" unstamp plain.db
expect 2 '`pagedb stamp` gives it stamps' check plain.db
expect 0 "earlier stamp: 1, the first is page 1, which unstamp, or a backup by stock SQLite, changes" stamp plain.db
expect 0 "no longer stamped" unstamp plain.db
sqlite3 plain.db "UPDATE t SET b='stock' WHERE a=7"
expect 0 "changed since they got an earlier stamp" stamp plain.db
expect 0 "stamped already" stamp plain.db
expect 0 " 0 damaged" check plain.db

# Pages that got in around page-db.
cp plain.db around.db
page=$(ours around.db "SELECT page FROM pagedb_pages WHERE object='table t' AND type='table leaf' LIMIT 1")
dd if=/dev/zero of=around.db bs=1 seek=$((page * 4096 - 32)) count=32 conv=notrunc 2>/dev/null
expect 1 "carries no stamp" check around.db
expect 1 "adopt" stamp around.db
expect 0 "stamped; pages: " stamp --adopt around.db
expect 0 " 0 damaged" check around.db

# A page file of another implementation.
for native in "$repo"/tests/data/interop/*.pages; do
  expect 0 "native page file" info "$native"
  expect 0 " 0 damaged" check "$native"
done
json pages "$native"
cp "$native" native.pages
flip native.pages 100
expect 2 "neither an SQLite database" check native.pages
expect 2 "always stamped" convert "$native"

if [ "$(id -u)" -eq 0 ]; then
  chmod 755 "$dir" && chmod 600 plain.db
  if setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$dir" 2>/dev/null; then
    out=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$tool" info "$dir/plain.db" 2>&1)
    case $out in
    *"Permission denied"*) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) && echo "no permission: $out" ;;
    esac
    mkdir -m 777 theirs
    sqlite3 theirs/p.db "CREATE TABLE t(a)"
    chmod 666 theirs/p.db
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$tool" "$@" 2>&1; }
    check "not its owner" grep -q "converted" <<<"$(as_nobody convert "$dir/theirs/p.db")"
    check "not its owner: nothing is left" eval '! left p.db'
    check "its owner" [ "$(stat -c %u theirs/p.db)" = 0 ]
    rm theirs/p.db && sqlite3 theirs/p.db "CREATE TABLE t(a)" && chmod 666 theirs/p.db
    chmod 755 theirs
    expect_nobody() { check "nobody: $*" grep -q "$1" <<<"$(as_nobody "${@:2}")"; }
    expect_nobody "no permission to write into its folder" stamp "$dir/theirs/p.db"
    expect_nobody "no permission to write into its folder" unstamp "$dir/theirs/p.db"
    expect_nobody "state         plain" info "$dir/theirs/p.db"
    cp plain.db theirs/r.db && chmod 644 theirs/r.db
    for how in stamp unstamp; do expect_nobody "no permission to write it" $how "$dir/theirs/r.db"; done
    expect_nobody " 0 damaged" check "$dir/theirs/r.db"
    chmod 600 theirs/r.db
    for how in info check pages stamp unstamp convert; do
      expect_nobody "Permission denied" $how --json "$dir/theirs/r.db"
    done
    check "cause" grep -q "cannot create .*Permission denied" <<<"$(as_nobody convert "$dir/theirs/p.db")"
  fi
fi

# A pool of the usual size has to fit into the addresses that the process may have.
sqlite3 addresses.db "CREATE TABLE t(a)"
check "limit on addresses" grep -q "converted" \
  <<<"$(ulimit -v 400000 && "$tool" convert addresses.db 2>&1)"

[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ "$failed" = 0 ] && echo "ok    tool              $passed cases"
exit $((failed > 0))
