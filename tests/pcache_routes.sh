#!/usr/bin/env bash
# Every way in which the page cache gets into a program, and those in which it
# cannot: pcache_routes.sh BUILD
set -eu
build=$(cd "${1:-build}" && pwd)
so=$build/pagedb.so
dir=$(mktemp -d "$build/routes.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cases=0
python=/usr/bin/python3
unset PAGEDB_PCACHE LD_PRELOAD

# expect NAME WANTED COMMAND...: its last line.
expect() {
  local name=$1 wanted=$2 got
  shift 2
  rm -f r.db*
  got=$("$@" 2>&1 | tail -1)
  if [ "$got" != "$wanted" ]; then
    echo "pcache_routes: $name: \"$got\", expected \"$wanted\""
    exit 1
  fi
  cases=$((cases + 1))
}

cat >work.sql <<SQL
.load $so
.open r.db
CREATE TABLE t(a INTEGER PRIMARY KEY, b);
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  INSERT INTO t SELECT i, hex(randomblob(50)) FROM n;
UPDATE t SET b = b || 'x' WHERE a % 3 = 0;
SELECT (SELECT pcache FROM pagedb_files) || ' ' ||
  (SELECT value > 0 FROM pagedb_stats WHERE name = 'pcache_hits') || ' ' ||
  (SELECT count(*) FROM t WHERE length(b) = 101) || ' ' ||
  (SELECT integrity_check FROM pragma_integrity_check);
SQL
shell() {
  sqlite3 -batch :memory: <work.sql
}

# A program gets the SQLite that it asks for itself, or none.
expect "preloaded, nothing else is loaded" 0 \
  env PAGEDB_PCACHE=on bash -c "LD_PRELOAD=$so cat /proc/self/maps | grep -c sqlite3"

if command -v sqlite3 >/dev/null; then
  expect "shell, late" "built-in 0 6666 ok" shell
  expect "shell, preloaded, switched off" "built-in 0 6666 ok" \
    env LD_PRELOAD="$so" bash -c "$(declare -f shell); shell"
  expect "shell, preloaded" "pagedb 1 6666 ok" \
    env PAGEDB_PCACHE=on bash -c "LD_PRELOAD=$so sqlite3 -batch :memory: <work.sql"
  expect "shell, late, switched on" "built-in 0 6666 ok" \
    env PAGEDB_PCACHE=on bash -c "$(declare -f shell); shell"
  # Where nobody asks what is wrong it is said all the same, once.
  counted() { # TEXT COMMAND...: how many lines have it, on stderr alone
    "${@:2}" 2>&1 >/dev/null | grep -c "$1"
  }
  for bad in foo "" 1; do
    expect "preloaded, PAGEDB_PCACHE=$bad" 1 \
      counted "^pagedb: PAGEDB_PCACHE=$bad in the environment is not known .* may be on or off" \
      env "PAGEDB_PCACHE=$bad" bash -c "LD_PRELOAD=$so sqlite3 -batch :memory: 'SELECT 1'"
  done
  for bad in foo 1KiB 4TiB; do
    expect "preloaded, PAGEDB_POOL_SIZE=$bad" 1 counted "^pagedb: PAGEDB_PCACHE=on: .*PAGEDB_POOL_SIZE" \
      env PAGEDB_PCACHE=on "PAGEDB_POOL_SIZE=$bad" bash -c "LD_PRELOAD=$so sqlite3 -batch :memory: 'SELECT 1'"
  done
  expect "late, PAGEDB_PCACHE=foo" 1 counted "PAGEDB_PCACHE=foo in the environment is not known" \
    env PAGEDB_PCACHE=foo bash -c "$(declare -f shell); shell"
  for good in on off; do
    expect "preloaded, PAGEDB_PCACHE=$good" 0 counted . \
      env "PAGEDB_PCACHE=$good" bash -c "LD_PRELOAD=$so sqlite3 -batch :memory: 'SELECT 1'"
  done
  {
    echo ".log stdout"
    echo ".load $so"
  } >late.sql
  expect "the log says that it is late" \
    "(28) pagedb: PAGEDB_PCACHE=on, but this SQLite had begun before page-db came: its built-in page cache stays" \
    env PAGEDB_PCACHE=on sqlite3 -batch :memory: ".read late.sql"
fi

cat >work.py <<PY
import ctypes, sys
if "early" in sys.argv:
    ctypes.CDLL("$so")
import sqlite3

def load():
    c = sqlite3.connect(":memory:")
    c.enable_load_extension(True)
    c.load_extension("$so")
    return c

def install():
    why = ctypes.c_char_p()
    rc = ctypes.CDLL("$so").pagedb_install(ctypes.byref(why))
    return rc, (why.value or b"").decode()

c = load()
if "install" in sys.argv:
    rc, why = install()
    assert rc == 5 and why.startswith("a connection is open"), (rc, why)
    c.close()
    assert install() == (0, ""), install()
    assert install() == (0, "")  # done already
db = sqlite3.connect("r.db", isolation_level=None)
if "install" in sys.argv:
    assert db.execute("SELECT pagedb_version()").fetchone()
db.executescript("""
CREATE TABLE t(a INTEGER PRIMARY KEY, b);
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  INSERT INTO t SELECT i, hex(randomblob(50)) FROM n;
""")
print(db.execute("SELECT pcache, state FROM pagedb_files").fetchone(),
      db.execute("SELECT value > 0 FROM pagedb_stats WHERE name = 'pcache_hits'").fetchone()[0],
      db.execute("PRAGMA integrity_check").fetchone()[0])
PY
if [ -x $python ]; then
  expect "python, late" "('built-in', 'stamped') 0 ok" $python work.py
  # Which SQLite the module will load is not to be known before it does.
  expect "python, preloaded" "('built-in', 'stamped') 0 ok" \
    env PAGEDB_PCACHE=on LD_PRELOAD="$so" $python work.py
  expect "python, early" "('built-in', 'stamped') 0 ok" \
    env PAGEDB_PCACHE=on $python work.py early
  expect "python, preloaded after SQLite" "('pagedb', 'stamped') 1 ok" \
    env PAGEDB_PCACHE=on LD_PRELOAD="libsqlite3.so.0 $so" $python work.py
  expect "python, the same, switched off" "('built-in', 'stamped') 0 ok" \
    env LD_PRELOAD="libsqlite3.so.0 $so" $python work.py
  expect "python, installed between connections" "('pagedb', 'stamped') 1 ok" \
    $python work.py install
fi
printf 'ok    pcache_routes   %4s cases\n' "$cases"
