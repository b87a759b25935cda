#!/usr/bin/env bash
# Real clients: each loads the extension and does the same work. run.sh BUILD
# A client that is not on this machine is skipped, and said so;
# CLIENTS_REQUIRED=1 makes that a failure.
set -eu
build=$(cd "${1:-build}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=$build/clients
mkdir -p "$dir"
cd "$dir"
so=$build/pagedb.so
passed=0
failed=0

skipped() {
  echo "client $1: skipped ($2)"
  [ -z "${CLIENTS_REQUIRED-}" ] || failed=$((failed + 1))
}
run() {
  local name=$1
  shift
  rm -f "$name".db*
  if "$@" >"$name.log" 2>&1 && after "$name" >>"$name.log" 2>&1; then
    echo "client $name: ok"
    passed=$((passed + 1))
  else
    echo "client $name: FAILED"
    tail -5 "$name.log"
    failed=$((failed + 1))
  fi
}
# What every client leaves behind: NAME.db, with table t of 500 rows.
# Damage is named and does not spread; stock SQLite reads and cannot write.
after() {
  local db=$1.db page
  "$build/pagedb" check --quiet "$db"
  page=$(sqlite3 -batch -cmd ".load $so" -cmd ".open $db" :memory: \
    "SELECT page FROM pagedb_pages WHERE object='table t' AND type='table leaf' LIMIT 1 OFFSET 1")
  [ "$(sqlite3 -batch "$db" "SELECT count(*) FROM t")" = 500 ]
  ! sqlite3 -batch "$db" "INSERT INTO t DEFAULT VALUES"
  cp "$db" "$1.rotten.db"
  printf '\377' | dd of="$1.rotten.db" bs=1 seek=$((page * 4096 - 600)) conv=notrunc 2>/dev/null
  ! sqlite3 -batch -cmd ".load $so" -cmd ".open $1.rotten.db" :memory: "SELECT sum(length(b)) FROM t"
  [ "$(sqlite3 -batch -cmd ".load $so" -cmd ".open $1.rotten.db" :memory: "SELECT count(*) FROM u")" = 1 ]
}

if command -v sqlite3 >/dev/null; then
  shell() { { printf '.load %s\n.open shell.db\n' "$so" && cat "$here/shell.sql"; } | sqlite3 -batch -bail; }
  run shell shell
else
  skipped shell "Debian package sqlite3"
fi

if [ -x /usr/bin/python3 ]; then
  run python /usr/bin/python3 "$here/python.py" "$so"
else
  skipped python "Debian package python3"
fi

if command -v tclsh >/dev/null && echo 'package require sqlite3' | tclsh >/dev/null 2>&1; then
  run tcl tclsh "$here/tcl.tcl" "$so"
else
  skipped tcl "Debian packages tcl, libsqlite3-tcl"
fi

if command -v npm >/dev/null; then
  mkdir -p node
  if [ -d node/node_modules/better-sqlite3 ] ||
    npm install --prefix node --no-audit --no-fund --loglevel=error better-sqlite3 >node.log 2>&1; then
    run node env NODE_PATH="$dir/node/node_modules" node "$here/node.js" "$so"
  else
    skipped node "npm install better-sqlite3 failed: $(tail -1 node.log)"
  fi
else
  skipped node "no npm"
fi

uring=
[ -f /usr/include/liburing.h ] && uring=-l:liburing.a
gcc -std=c11 -Wall -Wextra -Wpedantic "$here/static.c" -I"$root/vfs" "$build/libpagedb_sqlite.a" \
  "$build/libpagedb.a" -lsqlite3 $uring -pthread -lm -o static
run static ./static

[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
exit $((failed > 0))
