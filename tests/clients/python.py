"""The client test for Python's sqlite3: python.py PAGEDB.SO, makes python.db."""
import sqlite3
import sys

loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(sys.argv[1])

db = sqlite3.connect("python.db")
other = sqlite3.connect("python.db")
db.executescript("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)")
with db:
    db.executemany("INSERT INTO t VALUES(?, ?)", ((i, "row %d" % i + "0" * 100) for i in range(1, 501)))
assert other.execute("SELECT count(*) FROM t").fetchone() == (500,)
db.execute("DELETE FROM t")
db.rollback()
assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
with other:
    other.execute("UPDATE t SET b = b || '!' WHERE a % 3 = 0")
assert db.execute("SELECT count(*) FROM t WHERE b LIKE '%!'").fetchone() == (166,)
assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
other.close()
assert db.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
db.execute("VACUUM")
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
assert db.execute("SELECT state FROM pagedb_files").fetchone() == ("stamped",)

copy = sqlite3.connect("python.copy.db")
db.backup(copy)
assert copy.execute("SELECT count(*) FROM t").fetchone() == (500,)
assert copy.execute("SELECT count(*) FROM pagedb_pages WHERE status <> 'ok'").fetchone() == (0,)
