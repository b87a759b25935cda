#!/usr/bin/env bash
# Databases from Debian packages, that nobody here made: the same SQL on stock
# SQLite and on page-db, in each journal mode, gives the same content.
# realdb.sh BUILD; packages are fetched once into BUILD/realdb. One that cannot be
# fetched is skipped, and said so; REALDB_REQUIRED=1 makes that a failure.
set -eu
build=$(cd "${1:-build}" && pwd)
dir=$build/realdb
mkdir -p "$dir/deb"
cd "$dir"
packages="proj-data python3-stem python3-xraydb cppman r-cran-spdata openlp"
databases="usr/share/proj/proj.db
usr/lib/python3/dist-packages/stem/cached_manual.sqlite
usr/lib/python3/dist-packages/xraydb/xraydb.sqlite
usr/lib/python3/dist-packages/cppman/lib/index.db
usr/lib/R/site-library/spData/shapes/world.gpkg
usr/lib/python3/dist-packages/openlp/plugins/bibles/resources/bibles_resources.sqlite"

# The lists of the mirror are renewed once, when the first package is not found.
renewed=
download() { (cd deb && timeout 60 apt-get download -q -o Acquire::Retries=0 "$1" >/dev/null 2>&1); }
fetch() {
  if ! download "$1"; then
    [ -z "$renewed" ] || return 1
    renewed=1
    ${SUDO-} timeout 120 apt-get update -q -o Acquire::Retries=0 >/dev/null 2>&1 && download "$1" || return 1
  fi
  dpkg-deb -x deb/"$1"_*.deb tree
}
for package in $packages; do
  if [ ! -f "deb/$package.done" ]; then
    if fetch "$package" 2>/dev/null; then touch "deb/$package.done"; fi
  fi
done

ours() { sqlite3 -batch -cmd ".load $build/pagedb.so" -cmd ".open $1" :memory:; }
stock() { sqlite3 -batch "$1"; }
content() { sqlite3 -batch "$1" .sha3sum; }
# Statements for every table; what cannot run (a trigger that needs a function)
# fails in both alike.
script() {
  echo "PRAGMA journal_mode=$2; PRAGMA synchronous=OFF; PRAGMA cache_size=50;"
  sqlite3 -batch "$1" "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0 AND name NOT LIKE 'sqlite_%' ORDER BY 1 LIMIT 12" |
    while read -r table; do
      echo "CREATE TABLE \"copy of $table\" AS SELECT * FROM \"$table\";"
      echo "DELETE FROM \"copy of $table\" WHERE rowid % 7 = 3;"
      # Without a journal SQLite defines no rollback.
      if [ "$2" != OFF ]; then
        echo "BEGIN; SAVEPOINT s; DELETE FROM \"copy of $table\"; ROLLBACK TO s; COMMIT;"
        echo "BEGIN; INSERT INTO \"copy of $table\" SELECT * FROM \"$table\"; ROLLBACK;"
      fi
      echo "UPDATE \"$table\" SET rowid = rowid WHERE rowid % 5 = 1;"
    done
  echo "VACUUM; PRAGMA integrity_check;"
}

passed=0
failed=0
for db in $databases; do
  name=$(basename "$db")
  if [ ! -f "tree/$db" ]; then
    echo "skipped $name: its package cannot be fetched, or has no such file"
    [ -z "${REALDB_REQUIRED-}" ] || failed=$((failed + 1))
    continue
  fi
  for journal in DELETE TRUNCATE PERSIST MEMORY OFF WAL; do
    rm -f stock.db* ours.db*
    cp "tree/$db" stock.db && cp "tree/$db" ours.db && chmod u+w stock.db ours.db
    "$build/pagedb" convert --quiet ours.db >/dev/null
    script stock.db "$journal" >script.sql
    stock stock.db <script.sql >stock.out 2>&1 || true
    ours ours.db <script.sql >ours.out 2>&1 || true
    if ! diff stock.out ours.out >diff.out || [ "$(content stock.db)" != "$(content ours.db)" ] ||
      ! "$build/pagedb" check --quiet ours.db >check.out; then
      echo "FAIL  $name, $journal"
      head -5 diff.out check.out
      failed=$((failed + 1))
    else
      passed=$((passed + 1))
    fi
  done
  echo "ok    $name: $(stat -c %s "tree/$db") bytes, six journal modes"
done
[ -z "${PAGEDB_TALLY-}" ] || echo "$passed $failed" >>"$PAGEDB_TALLY"
exit $((failed > 0))
