#!/usr/bin/env bash
# Record page streams and give them to poolsim: trace.sh BENCH_SQL POOLSIM DIR
# TRACE_ROWS=n, TRACE_OPS=n: more or less of it.
set -eu
program=$1
poolsim=$2
mkdir -p "$3"
dir=$(cd "$3" && pwd)
rows=${TRACE_ROWS:-200000}
ops=${TRACE_OPS:-200000}
db=$dir/trace.db
trap 'rm -f "$dir"/trace.db* "$dir"/*.trace' EXIT
record() {
  PAGEDB_TRACE=$dir/$1.trace "$program" "$1" "db=$db" "rows=$rows" "ops=$2" zipf=1 \
    >"$dir/$1.log"
}
"$program" make "db=$db" "rows=$rows" >"$dir/make.log"
# The first one makes the index, too, which is not to be in the stream.
"$program" lookups "db=$db" "rows=$rows" ops=1 >"$dir/make.log"
record lookups "$ops"
record scans "$ops"
record oltp "$ops"
record ranges "$((ops / 10))"
record loop 6
"$poolsim" "index lookups=$dir/lookups.trace" "+ full scans=$dir/scans.trace" \
  "OLTP=$dir/oltp.trace" "ranges=$dir/ranges.trace" \
  "loop, twice the cache=$dir/loop.trace@50"
