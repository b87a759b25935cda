-- The client test for the sqlite3 shell: makes shell.db and shell.content.
-- The extension is loaded before. Lines with an arrow: what the shell must print.
.open shell.db
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
CREATE TABLE u(a);
INSERT INTO u VALUES(1);
SELECT state FROM pagedb_files;
--> stamped
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500)
  INSERT INTO t SELECT x, 'row ' || x || hex(zeroblob(50)) FROM n;
UPDATE t SET b = b || '?' WHERE a % 5 = 0;
BEGIN;
DELETE FROM t;
SELECT count(*) FROM t;
--> 0
ROLLBACK;
SELECT count(*) FROM t WHERE b LIKE '%?';
--> 100

-- Two connections: what one commits the other sees, and one writes at a time.
.connection 1
.open shell.db
SELECT count(*) FROM t;
--> 500
BEGIN IMMEDIATE;
.connection 0
INSERT INTO u VALUES(9);
--> Error: database is locked
.connection 1
INSERT INTO u VALUES(2);
COMMIT;
.connection 0
SELECT sum(a) FROM u;
--> 3

PRAGMA journal_mode=WAL;
--> wal
.connection 1
UPDATE t SET b = b || '!' WHERE a % 3 = 0;
.connection 0
SELECT count(*) FROM t WHERE b LIKE '%!';
--> 166
PRAGMA wal_checkpoint(TRUNCATE);
--> 0|0|0
.connection close 1
PRAGMA journal_mode=DELETE;
--> delete

DELETE FROM t WHERE a > 400;
VACUUM;
PRAGMA integrity_check;
--> ok
SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok', 'lock');
--> 0
SELECT state FROM pagedb_files;
--> stamped
.once shell.content
SELECT a, b FROM t ORDER BY a; SELECT a FROM u ORDER BY a;

-- Damage: one byte in the middle of the second leaf of t, the file closed.
.once page
SELECT page FROM pagedb_pages WHERE object = 'table t' AND type = 'table leaf' LIMIT 1 OFFSET 1;
.open :memory:
CREATE TABLE file AS SELECT f, CAST(readfile('page') AS INTEGER) AS page,
  (CAST(readfile('page') AS INTEGER) - 1) * 4096 + 2048 AS at FROM (SELECT readfile('shell.db') AS f);
SELECT writefile('shell.db', CAST(substr(f, 1, at)
  || CASE substr(f, at + 1, 1) WHEN x'5a' THEN x'a5' ELSE x'5a' END
  || substr(f, at + 2) AS BLOB)) = length(f) FROM file;
--> 1
.connection 1
.open shell.db
SELECT sum(length(b)) FROM t;
--> Error: disk I/O error
SELECT sum(a) FROM u;
--> 3
.once bad
SELECT page FROM pagedb_pages WHERE status = 'bad crc';
.connection 0
.connection close 1
SELECT CAST(readfile('bad') AS INTEGER) = page FROM file;
--> 1
SELECT writefile('shell.db', f) = length(f) FROM file;
--> 1

.open shell.db
SELECT count(*), sum(a) FROM t;
--> 400|80200
PRAGMA integrity_check;
--> ok
SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok', 'lock');
--> 0
