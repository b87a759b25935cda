-- What each client does, for the sqlite3 shell.
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
CREATE TABLE u(a);
INSERT INTO u VALUES(1);
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500)
  INSERT INTO t SELECT x, 'row ' || x || hex(zeroblob(50)) FROM n;
BEGIN; DELETE FROM t; ROLLBACK;
PRAGMA journal_mode=WAL;
UPDATE t SET b = b || '!' WHERE a % 3 = 0;
PRAGMA wal_checkpoint(TRUNCATE);
PRAGMA journal_mode=DELETE;
VACUUM;
PRAGMA integrity_check;
SELECT CASE (SELECT state FROM pagedb_files) WHEN 'stamped' THEN 1 ELSE json('not stamped') END;
