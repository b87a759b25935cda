"""The client test for Python's sqlite3: python.py PAGEDB.SO, makes python.db and python.content."""
import sqlite3
import sys

NAME = "python.db"
SQLITE_IOERR_DATA = 8202
NOT_OK = "SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok', 'lock')"
SUM_T, SUM_U = "SELECT sum(length(b)) FROM t", "SELECT sum(a) FROM u"


def expect(db, sql, wanted):
    got = db.execute(sql).fetchone()[0]
    assert got == wanted, "%s: got %r, expected %r" % (sql, got, wanted)


def expect_error(db, sql, code):
    try:
        db.execute(sql).fetchone()
    except sqlite3.Error as e:
        # Before Python 3.11 there is only the message.
        got = getattr(e, "sqlite_errorcode", code)
        assert got == code, "%s: error %d (%s), expected %d" % (sql, got, e, code)
        return str(e)
    raise AssertionError(sql + ": no error")


def flip(at):
    with open(NAME, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0xFF]))


loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(sys.argv[1])

db = sqlite3.connect(NAME, timeout=0)
db.executescript("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)")
expect(db, "SELECT state FROM pagedb_files", "stamped")
with db:
    db.executemany("INSERT INTO t VALUES(?, ?)", ((i, "row %d" % i + "0" * 100) for i in range(1, 501)))
    db.execute("UPDATE t SET b = b || '?' WHERE a % 5 = 0")
db.execute("DELETE FROM t")
expect(db, "SELECT count(*) FROM t", 0)
db.rollback()
expect(db, "SELECT count(*) FROM t WHERE b LIKE '%?'", 100)

# Two connections: what one commits the other sees, and one writes at a time.
other = sqlite3.connect(NAME, timeout=0)
expect(other, "SELECT count(*) FROM t", 500)
with other:
    other.execute("BEGIN IMMEDIATE")
    assert expect_error(db, "BEGIN IMMEDIATE", 5) == "database is locked"
    other.execute("INSERT INTO u VALUES(2)")
expect(db, SUM_U, 3)

expect(db, "PRAGMA journal_mode=WAL", "wal")
with other:
    other.execute("UPDATE t SET b = b || '!' WHERE a % 3 = 0")
expect(db, "SELECT count(*) FROM t WHERE b LIKE '%!'", 166)
expect(db, "PRAGMA wal_checkpoint(TRUNCATE)", 0)
other.close()
expect(db, "PRAGMA journal_mode=DELETE", "delete")

with db:
    db.execute("DELETE FROM t WHERE a > 400")
db.execute("VACUUM")
expect(db, "PRAGMA integrity_check", "ok")
expect(db, NOT_OK, 0)
expect(db, "SELECT state FROM pagedb_files", "stamped")
with open("python.content", "w") as f:
    for row in db.execute("SELECT a, b FROM t ORDER BY a"):
        print(*row, sep="|", file=f)
    for row in db.execute("SELECT a FROM u ORDER BY a"):
        print(*row, file=f)

copy = sqlite3.connect("python.copy.db")
db.backup(copy)
expect(copy, "SELECT count(*) FROM t", 400)
expect(copy, NOT_OK, 0)
copy.close()

# Damage: one byte in the middle of the second leaf of t, the file closed.
length = db.execute(SUM_T).fetchone()[0]
page = db.execute("SELECT page FROM pagedb_pages WHERE object = 'table t' AND type = 'table leaf' LIMIT 1 OFFSET 1").fetchone()[0]
size = db.execute("PRAGMA page_size").fetchone()[0]
db.close()
middle = (page - 1) * size + size // 2
flip(middle)
db = sqlite3.connect(NAME)
assert expect_error(db, SUM_T, SQLITE_IOERR_DATA) == "disk I/O error"
expect(db, SUM_U, 3)
expect(db, "SELECT group_concat(page) FROM pagedb_pages WHERE status = 'bad crc'", str(page))
db.close()

flip(middle)
db = sqlite3.connect(NAME)
expect(db, SUM_T, length)
expect(db, "PRAGMA integrity_check", "ok")
expect(db, NOT_OK, 0)
db.close()
