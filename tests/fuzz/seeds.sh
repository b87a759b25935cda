#!/usr/bin/env bash
# Make the seeds of fuzz_database with SQLite's shell: small databases of several
# kinds, with a log or a hot journal. seeds.sh DIR [FUZZDATA ...]
# FUZZDATA: files of SQLite's own corpus (test/fuzzdata*.db in its sources), whose
# databases become seeds, too. They are not kept here.
set -eu
shopt -s nullglob
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# seed NAME OPTIONS DATABASE [REST]: see fuzz_database.c for the options.
seed() {
  local pieces=$((($(stat -c %s "$3") + 511) / 512))
  [ $pieces -le 255 ] || return 0
  {
    printf '%b' "$(printf '\\x%02x\\x%02x' "$2" $pieces)"
    cat "$3"
    [ $# -lt 4 ] || cat "$4"
    printf '\1\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0'
  } >"$dir/$1"
}

content="CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE INDEX i ON t(b);
  INSERT INTO t SELECT value, 'row ' || value FROM generate_series(1, 40);
  CREATE TABLE o(x); INSERT INTO o VALUES(zeroblob(1500)), ('text');
  CREATE TABLE gone(x); INSERT INTO gone SELECT zeroblob(300) FROM generate_series(1, 8)"
make() { # RESERVED PAGESIZE MORE
  rm -f "$work"/a.db*
  sqlite3 -batch "$work/a.db" ".filectrl reserve_bytes $1" \
    "PRAGMA page_size=$2; $3; $content; DROP TABLE gone" >/dev/null
}

for size in 512 1024 4096; do
  make 0 $size ""
  seed "plain-$size" 0 "$work/a.db"
  make 32 $size "PRAGMA auto_vacuum=2"
  seed "stamped-$size" 1 "$work/a.db"
  seed "stamped-two-$size" 49 "$work/a.db"
done
for reserved in 0 32; do
  make $reserved 512 "PRAGMA journal_mode=wal"
  sqlite3 -batch "$work/a.db" ".filectrl persist_wal 1" "PRAGMA wal_autocheckpoint=0;
    INSERT INTO t SELECT a+100, b FROM t WHERE a<20; DELETE FROM t WHERE a<5" \
    ".shell cp $work/a.db $work/b.db; cp $work/a.db-wal $work/b.wal" >/dev/null
  seed "log-$reserved" $((2 + (reserved > 0))) "$work/b.db" "$work/b.wal"
  seed "log-poke-$reserved" $((26 + (reserved > 0))) "$work/b.db" "$work/b.wal"
  make $reserved 512 ""
  sqlite3 -batch "$work/a.db" "PRAGMA cache_size=2; BEGIN; UPDATE t SET b=b||'x';
    DELETE FROM o; INSERT INTO t SELECT a+100, b FROM t" \
    ".shell cp $work/a.db $work/b.db; cp $work/a.db-journal $work/b.journal" >/dev/null
  seed "journal-$reserved" $((4 + (reserved > 0))) "$work/b.db" "$work/b.journal"
done
printf '\0\0%018d' 0 >"$dir/empty"

for data in "$@"; do
  name=$(basename "$data" .db)
  sqlite3 "$data" "SELECT writefile('$work/f-' || dbid, dbcontent) FROM db
    WHERE length(dbcontent)<=60000" >/dev/null
  for f in "$work"/f-*; do
    seed "$name-$(basename "$f")" 0 "$f"
    seed "$name-$(basename "$f")-s" 1 "$f"
  done
  rm -f "$work"/f-*
done
