# The client test for Tcl: tcl.tcl PAGEDB.SO, makes tcl.db and tcl.content.
package require sqlite3
set so [lindex $argv 0]
set notOk {SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok', 'lock')}
set sumT {SELECT sum(length(b)) FROM t}
set sumU {SELECT sum(a) FROM u}

proc expect {db sql wanted} {
  set got [$db eval $sql]
  if {$got ne $wanted} { error "$sql: got '$got', expected '$wanted'" }
}
# `code`: SQLite's result code as this client shows it, which is not the extended one.
proc expectError {db sql code message} {
  if {![catch {$db eval $sql} said]} { error "$sql: no error" }
  if {[$db errorcode] ne $code || $said ne $message} { error "$sql: error [$db errorcode], '$said'" }
}
proc flip {at} {
  set f [open tcl.db r+b]
  seek $f $at
  scan [read $f 1] %c byte
  seek $f $at
  puts -nonewline $f [format %c [expr {$byte ^ 0xff}]]
  close $f
}

sqlite3 loader :memory:
loader enable_load_extension 1
loader eval {SELECT load_extension($so)}

sqlite3 db tcl.db
db eval {CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)}
expect db {SELECT state FROM pagedb_files} stamped
db transaction {
  for {set i 1} {$i <= 500} {incr i} {
    set b "row $i[string repeat 0 100]"
    db eval {INSERT INTO t VALUES($i, $b)}
  }
  db eval {UPDATE t SET b = b || '?' WHERE a % 5 = 0}
}
catch {db transaction {
  db eval {DELETE FROM t}
  expect db {SELECT count(*) FROM t} 0
  error back
}} said
if {$said ne "back"} { error $said }
expect db {SELECT count(*) FROM t WHERE b LIKE '%?'} 100

# Two connections: what one commits the other sees, and one writes at a time.
sqlite3 other tcl.db
expect other {SELECT count(*) FROM t} 500
other transaction immediate {
  expectError db {INSERT INTO u VALUES(9)} 5 {database is locked}
  other eval {INSERT INTO u VALUES(2)}
}
expect db $sumU 3

expect db {PRAGMA journal_mode=WAL} wal
other eval {UPDATE t SET b = b || '!' WHERE a % 3 = 0}
expect db {SELECT count(*) FROM t WHERE b LIKE '%!'} 166
expect db {PRAGMA wal_checkpoint(TRUNCATE)} {0 0 0}
other close
expect db {PRAGMA journal_mode=DELETE} delete

db eval {DELETE FROM t WHERE a > 400}
db eval VACUUM
expect db {PRAGMA integrity_check} ok
expect db $notOk 0
expect db {SELECT state FROM pagedb_files} stamped
set f [open tcl.content w]
db eval {SELECT a, b FROM t ORDER BY a} { puts $f "$a|$b" }
db eval {SELECT a FROM u ORDER BY a} { puts $f $a }
close $f

# Damage: one byte in the middle of the second leaf of t, the file closed.
set length [db eval $sumT]
set page [db eval {SELECT page FROM pagedb_pages WHERE object = 'table t' AND type = 'table leaf' LIMIT 1 OFFSET 1}]
set size [db eval {PRAGMA page_size}]
set middle [expr {($page - 1) * $size + $size / 2}]
db close
flip $middle
sqlite3 db tcl.db
expectError db $sumT 10 {disk I/O error}
expect db $sumU 3
expect db {SELECT page FROM pagedb_pages WHERE status = 'bad crc'} $page
db close

flip $middle
sqlite3 db tcl.db
expect db $sumT $length
expect db {PRAGMA integrity_check} ok
expect db $notOk 0
db close
