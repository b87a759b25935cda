#!/usr/bin/env bash
# Real clients: each loads the extension and does the same work. run.sh BUILD
# A client that is not on this machine is skipped, and said so;
# CLIENTS_REQUIRED=1 makes that a failure. SQLITE3_SHELL=FILE: only this shell,
# of whatever version it is.
set -eu
build=$(cd "${1:-build}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
so=$build/pagedb.so
modules=$build/clients/node # kept between runs
mkdir -p "$modules"
dir=$(mktemp -d "$build/clients/run.XXXXXX")
cd "$dir"
passed=0
failed=0

skipped() {
  echo "client $1: skipped ($2)"
  [ -z "${CLIENTS_REQUIRED-}" ] || failed=$((failed + 1))
}
# run NAME COMMAND...: makes NAME.db and NAME.content.
run() {
  local name=$1
  shift
  if "$@" >"$name.log" 2>&1 && stock_reads "$name" >>"$name.log" 2>&1; then
    echo "client $name: ok"
    passed=$((passed + 1))
  else
    echo "client $name: FAILED"
    tail -20 "$name.log"
    failed=$((failed + 1))
  fi
}
# SQLite without the extension, in a process of its own.
stock() {
  if command -v sqlite3 >/dev/null; then
    sqlite3 -batch "$1" "$2"
  else
    /usr/bin/python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]): print(*row, sep="|")' "$1" "$2"
  fi
}
# Stock SQLite reads what the client read, and cannot write. Called in a
# condition, where set -e is off: hence the chain.
stock_reads() {
  "$build/pagedb" check --quiet "$1.db" || return 1
  echo "stock SQLite:"
  [ -s "$1.content" ] && cp "$1.db" "$1.before" &&
    stock "$1.db" "SELECT a, b FROM t ORDER BY a" >"$1.stock" &&
    stock "$1.db" "SELECT a FROM u ORDER BY a" >>"$1.stock" &&
    cmp "$1.content" "$1.stock" &&
    [ "$(stock "$1.db" "PRAGMA integrity_check")" = ok ] &&
    refused "$1.db" && cmp "$1.db" "$1.before"
}
refused() {
  local said
  if said=$(stock "$1" "INSERT INTO u VALUES(3)" 2>&1); then
    echo "an INSERT is not refused"
    return 1
  fi
  echo "$said"
  [[ $said == *"attempt to write a readonly database"* ]]
}

shell() {
  "${SQLITE3_SHELL:-sqlite3}" -batch -cmd ".load $so" :memory: <"$here/shell.sql" 2>&1 |
    sed -E 's/ near line [0-9]+:/:/; s/^Runtime error: (.*) \([0-9]+\)$/Error: \1/' >shell.out
  sed -n 's/^--> //p' "$here/shell.sql" | diff - shell.out
}
finish() {
  [ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
  [ "$failed" = 0 ] || exit 1
  cd "$build" && rm -rf "$dir" # kept after a failure
}
if command -v "${SQLITE3_SHELL:-sqlite3}" >/dev/null; then
  run shell shell
  [ -z "${SQLITE3_SHELL-}" ] || {
    finish
    exit 0
  }
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

if ! command -v npm >/dev/null; then
  skipped node "Debian package npm"
elif NODE_PATH=$modules/node_modules node -e 'new (require("better-sqlite3"))(":memory:")' 2>/dev/null ||
  npm install --prefix "$modules" --no-audit --no-fund --loglevel=error better-sqlite3 >npm.log 2>&1; then
  run node env NODE_PATH="$modules/node_modules" node "$here/node.js" "$so"
else
  skipped node "npm install better-sqlite3: $(head -1 npm.log)"
fi

static() {
  local uring=
  [ "$(nm "$build/libpagedb.a" 2>/dev/null | grep -c io_uring_queue_init)" = 0 ] || uring=-l:liburing.a
  "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$here/../../vfs" "$here/static.c" \
    "$build/libpagedb_sqlite.a" "$build/libpagedb.a" -lsqlite3 $uring -pthread -lm -o static &&
    ./static
}
run static static

finish
