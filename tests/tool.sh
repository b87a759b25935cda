#!/usr/bin/env bash
# The command `pagedb`, as its users call it: what it prints, JSON, exit codes.
# tool.sh BUILD
set -u
build=$(cd "${1:-build}" && pwd)
tool=$build/pagedb
dir=$(mktemp -d "$build/tool.XXXXXX")
trap 'rm -rf "$dir"' EXIT
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
# json ARGS: every line is JSON.
json() {
  if "$tool" "$@" --json 2>/dev/null | python3 -c 'import json, sys
for line in sys.stdin: json.loads(line)'; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "pagedb $* --json: not JSON"
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
for bad in PAGEDB_POOL_SIZE=foo PAGEDB_POOL_SIZE=7 PAGEDB_STAMP=bogus PAGEDB_DIRECT=maybe PAGEDB_FETCH=2; do
  out=$(env "$bad" sqlite3 -batch -cmd ".load $build/pagedb.so" :memory: "SELECT 1" 2>&1)
  check "load with $bad: $out" grep -q "$bad in the environment" <<<"$out"
done
out=$(PAGEDB_STAMP=bogus "$tool" stamp plain.db 2>&1)
check "command with PAGEDB_STAMP=bogus: $out" grep -q "PAGEDB_ variable" <<<"$out"

expect 0 "usage: pagedb" --help
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

expect 0 "state         plain" info plain.db
expect 2 "pagedb convert" check plain.db
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
expect 2 "others have the database open" convert --quiet busy.db
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
expect 0 "in the write-ahead log: pages that the file has, too: 1" check busy.db
json check busy.db
exec 9>&-
wait
cp plain.db torn.db
printf 'a journal' >torn.db-journal
expect 0 "cut short" info torn.db
expect 0 "there is a journal" check torn.db

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

# What an earlier conversion left is deleted; what this one makes, too.
left() { find . -name "$1.pagedb-convert*" | grep -q .; }
sqlite3 left.db "CREATE TABLE t(a)"
echo junk | tee left.db.pagedb-convert >left.db.pagedb-convert-journal
expect 0 "converted" convert left.db
check "left.db: nothing is left" eval '! left left.db'
sqlite3 big.db "CREATE TABLE t(a); INSERT INTO t SELECT randomblob(1000) FROM
  (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<40000) SELECT x FROM n)"
for try in 1 2 3 4 5; do # it may be done before the signal comes
  cp big.db stop.db
  "$tool" convert stop.db >stop.out 2>&1 &
  wait_for eval '[ -e stop.db.pagedb-convert ] || ! kill -0 $! 2>/dev/null'
  kill -TERM $! 2>/dev/null
  wait $!
  code=$?
  check "stop.db: nothing is left" eval '! left stop.db'
  [ $code = 0 ] || break
done
check "stop.db: exit code $code" [ $code = 2 ]
check "stop.db: says why" grep -q interrupted stop.out
check "stop.db is untouched" cmp -s big.db stop.db
# Killed at any time it is what it was, or stamped.
sum=$(sqlite3 big.db .sha3sum)
for delay in 0.05 0.1 0.2 0.3 0.5 0.8; do
  rm -f stop.db*
  cp big.db stop.db
  "$tool" convert stop.db >/dev/null 2>&1 &
  sleep $delay
  kill -KILL $! 2>/dev/null
  wait $! 2>/dev/null
  check "stop.db, killed after $delay s" [ "$(sqlite3 stop.db .sha3sum)" = "$sum" ]
  expect 0 "stamped" convert stop.db
  expect 0 " 0 damaged" check stop.db
done
rm -f big.db stop.db*

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
expect 2 "application that defines it" convert collation.db

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
expect 0 "stamped; pages: " stamp plain.db
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
for native in "$OLDPWD"/tests/data/interop/*.pages; do
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
    check "cause" grep -q "cannot create .*Permission denied" <<<"$(as_nobody convert "$dir/theirs/p.db")"
  fi
fi

[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
[ "$failed" = 0 ] && echo "ok    tool              $passed cases"
exit $((failed > 0))
