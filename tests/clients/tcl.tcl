# The client test for Tcl: tcl.tcl PAGEDB.SO, makes tcl.db.
package require sqlite3
proc expect {got wanted} {
  if {$got ne $wanted} { error "got '$got', expected '$wanted'" }
}
set so [lindex $argv 0]
sqlite3 loader :memory:
loader enable_load_extension 1
loader eval {SELECT load_extension($::so)} {}
sqlite3 db tcl.db
sqlite3 other tcl.db
db eval {CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)}
db transaction {
  for {set i 1} {$i <= 500} {incr i} {
    set b "row $i[string repeat 0 100]"
    db eval {INSERT INTO t VALUES($i, $b)}
  }
}
expect [other eval {SELECT count(*) FROM t}] 500
catch {db transaction {db eval {DELETE FROM t}; error back}}
expect [db eval {PRAGMA journal_mode=WAL}] wal
other eval {UPDATE t SET b = b || '!' WHERE a % 3 = 0}
expect [db eval {SELECT count(*) FROM t WHERE b LIKE '%!'}] 166
db eval {PRAGMA wal_checkpoint(TRUNCATE)}
other close
expect [db eval {PRAGMA journal_mode=DELETE}] delete
db eval VACUUM
expect [db eval {PRAGMA integrity_check}] ok
expect [db eval {SELECT state FROM pagedb_files}] stamped
db close
