/*
** static.c - the client test for a C program that links page-db: makes
*static.db.
*/
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "pagedb_sqlite.h"

static int expect(sqlite3 *db, const char *sql, const char *wanted)
{
  sqlite3_stmt *st;
  int ok = 0;
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
      sqlite3_step(st) == SQLITE_ROW)
    ok = strcmp((const char *)sqlite3_column_text(st, 0), wanted) == 0;
  if (!ok)
    fprintf(stderr, "%s: not '%s' (%s)\n", sql, wanted, sqlite3_errmsg(db));
  sqlite3_finalize(st);
  return ok;
}

static int run(sqlite3 *db, const char *sql)
{
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  if (rc != SQLITE_OK)
    fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
  return rc == SQLITE_OK;
}

int main(void)
{
  sqlite3 *db, *other;
  int ok = pagedb_register(1) == SQLITE_OK &&
           sqlite3_open("static.db", &db) == SQLITE_OK &&
           sqlite3_open("static.db", &other) == SQLITE_OK;
  ok = ok &&
       run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);"
               "CREATE TABLE u(a); INSERT INTO u VALUES(1);"
               "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n "
               "WHERE x < 500) INSERT INTO t SELECT x, 'row ' || x || "
               "hex(zeroblob(50)) FROM n;"
               "BEGIN; DELETE FROM t; ROLLBACK") &&
       expect(other, "SELECT count(*) FROM t", "500") &&
       expect(db, "PRAGMA journal_mode=WAL", "wal") &&
       run(other, "UPDATE t SET b = b || '!' WHERE a % 3 = 0") &&
       expect(db, "SELECT count(*) FROM t WHERE b LIKE '%!'", "166") &&
       run(db, "PRAGMA wal_checkpoint(TRUNCATE)") &&
       sqlite3_close(other) == SQLITE_OK &&
       expect(db, "PRAGMA journal_mode=DELETE", "delete") &&
       run(db, "VACUUM") && expect(db, "PRAGMA integrity_check", "ok") &&
       expect(db, "SELECT state FROM pagedb_files", "stamped") &&
       sqlite3_close(db) == SQLITE_OK;
  return ok ? 0 : 1;
}
