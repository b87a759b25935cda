#!/usr/bin/env bash
# The main job, on a database that nobody here made: proj.db of Debian's package
# proj-data. demo.sh BUILD; works in BUILD/demo.
set -eu
build=$(cd "${1:-build}" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
so=$build/pagedb.so
dir=$build/demo
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() {
  printf '$ %s\n' "$*"
  "$@"
}
fail() {
  echo "demo: $*" >&2
  exit 1
}
# The sqlite3 shell, with the extension. .load is done on an empty connection;
# the file is opened after it.
ours() { sqlite3 -batch -bail -cmd ".load $so" -cmd ".open $1" :memory: "$2"; }
hash_of() { sqlite3 -batch "$1" ".sha3sum"; }

step "a database from the world: proj.db"
if [ ! -f "$build/proj.db" ]; then
  mkdir -p deb
  (cd deb && { apt-get download -q proj-data >/dev/null 2>&1 ||
    { ${SUDO-} apt-get update -q >/dev/null 2>&1 && apt-get download -q proj-data >/dev/null; }; } &&
    dpkg-deb -x proj-data_*.deb .) || {
    echo "demo: cannot fetch the package proj-data from this machine's mirror" >&2
    exit 3
  }
  cp deb/usr/share/proj/proj.db "$build/proj.db"
fi
cp "$build/proj.db" proj.db
chmod u+w proj.db
before=$(hash_of proj.db)
show sqlite3 proj.db "SELECT count(*) AS tables FROM sqlite_schema WHERE type='table'"
echo "content: $before"

step "convert it"
show "$build/pagedb" convert proj.db
show "$build/pagedb" info proj.db
show "$build/pagedb" check proj.db
[ "$(hash_of proj.db)" = "$before" ] || fail "the content changed"

step "use it: the sqlite3 shell with the extension"
query="SELECT auth_name, code, name FROM ellipsoid WHERE name LIKE 'WGS%' ORDER BY 1, 2"
ours proj.db "$query"
ours proj.db "SELECT path, state, io, page_size FROM pagedb_files"
ours proj.db "CREATE TABLE visit(n); INSERT INTO visit VALUES(1); DROP TABLE visit"

step "Python's sqlite3"
/usr/bin/python3 - "$so" "$query" <<'PY'
import sqlite3, sys
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(sys.argv[1])
db = sqlite3.connect("proj.db")
print(db.execute(sys.argv[2]).fetchall())
print(db.execute("SELECT state, io FROM pagedb_files").fetchone())
PY

step "a C program that links page-db"
uring=
[ -f /usr/include/liburing.h ] && uring=-l:liburing.a
gcc -std=c11 -O2 "$root/examples/database.c" -I"$root/vfs" \
  "$build/libpagedb_sqlite.a" "$build/libpagedb.a" -lsqlite3 $uring -pthread -lm -o database
show ./database proj.db "$query"

step "one bit of one page goes bad"
page=$(ours proj.db "SELECT min(page) FROM pagedb_pages WHERE object='table ellipsoid' AND type LIKE '%leaf'")
cp proj.db rotten.db
/usr/bin/python3 - "$page" <<'PY'
import sys
with open("rotten.db", "r+b") as f:
    f.seek((int(sys.argv[1]) - 1) * 4096 + 4000)
    byte = f.read(1)[0]
    f.seek(-1, 1)
    f.write(bytes([byte ^ 1]))
print("flipped a bit of page", sys.argv[1])
PY
if sqlite3 -batch -bail -cmd ".load $so" -cmd ".log stdout" -cmd ".open rotten.db" :memory: \
  "SELECT name FROM ellipsoid" >out 2>&1; then
  fail "the damaged page was read"
fi
cat out
ours rotten.db "SELECT 'another table works: ' || count(*) FROM extent" || fail "a sound table fails"
grep -q "page $page:" out || fail "the page was not named"
"$build/pagedb" check rotten.db && fail "check found nothing"
echo "stock SQLite, without the extension, notices nothing:"
show sqlite3 rotten.db "PRAGMA integrity_check(1)"

step "stock SQLite reads it, and is refused writing"
sqlite3 proj.db "$query"
if sqlite3 proj.db "CREATE TABLE x(y)" >out 2>&1; then
  fail "stock SQLite wrote a stamped database"
fi
cat out

step "and back"
show "$build/pagedb" unstamp proj.db
after=$(hash_of proj.db)
echo "content: $after"
[ "$after" = "$before" ] || fail "the content changed"
show sqlite3 proj.db "PRAGMA integrity_check"
printf '\ndemo: ok\n'
