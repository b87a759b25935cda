/*
** static.c - the client test for a C program that links page-db: makes
** static.db and static.content.
*/
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagedb_sqlite.h"

#define NAME "static.db"
#define NOT_OK                                                                 \
  "SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok','lock')"
#define SUM_T "SELECT sum(length(b)) FROM t"
#define SUM_U "SELECT sum(a) FROM u"
#define LEAF                                                                   \
  "SELECT page FROM pagedb_pages WHERE object = 'table t' AND "                \
  "type = 'table leaf' LIMIT 1 OFFSET 1"

static void fail(sqlite3 *db, const char *what, const char *why)
{
  fprintf(stderr, "%s: %s (%s)\n", what, why,
          db == NULL ? "" : sqlite3_errmsg(db));
  exit(1);
}

static sqlite3 *open_db(void)
{
  sqlite3 *db;
  if (sqlite3_open(NAME, &db) != SQLITE_OK)
    fail(db, NAME, "cannot be opened");
  return db;
}

static void close_db(sqlite3 *db)
{
  if (sqlite3_close(db) != SQLITE_OK)
    fail(db, NAME, "cannot be closed");
}

static void run(sqlite3 *db, const char *sql)
{
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
    fail(db, sql, "failed");
}

static void run_fails(sqlite3 *db, const char *sql, int extended)
{
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    fail(db, sql, "no error");
  if (sqlite3_extended_errcode(db) != extended)
    fail(db, sql, "another error");
}

/* The first value of a query, to be freed. */
static char *value(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st;
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK ||
      sqlite3_step(st) != SQLITE_ROW)
    fail(db, sql, "no row");
  char *text = sqlite3_mprintf("%s", sqlite3_column_text(st, 0));
  if (text == NULL || sqlite3_finalize(st) != SQLITE_OK)
    fail(db, sql, "failed");
  return text;
}

static long number(sqlite3 *db, const char *sql)
{
  char *text = value(db, sql);
  long n = strtol(text, NULL, 10);
  sqlite3_free(text);
  return n;
}

static void expect(sqlite3 *db, const char *sql, const char *wanted)
{
  char *got = value(db, sql);
  if (strcmp(got, wanted) != 0) {
    fprintf(stderr, "got '%s', expected '%s'\n", got, wanted);
    fail(db, sql, "another value");
  }
  sqlite3_free(got);
}

static int print_row(void *file, int n, char **values, char **names)
{
  (void)names;
  for (int i = 0; i < n; i++)
    fprintf(file, "%s%c", values[i], i + 1 < n ? '|' : '\n');
  return 0;
}

static void save_content(sqlite3 *db)
{
  FILE *f = fopen("static.content", "w");
  if (f == NULL ||
      sqlite3_exec(db,
                   "SELECT a, b FROM t ORDER BY a; SELECT a FROM u ORDER BY a",
                   print_row, f, NULL) != SQLITE_OK ||
      fclose(f) != 0)
    fail(db, "static.content", "not written");
}

static void flip(long at)
{
  FILE *f = fopen(NAME, "r+b");
  int byte = EOF;
  if (f == NULL || fseek(f, at, SEEK_SET) != 0 || (byte = fgetc(f)) == EOF ||
      fseek(f, at, SEEK_SET) != 0 || fputc(byte ^ 0xff, f) == EOF ||
      fclose(f) != 0)
    fail(NULL, "flip", "failed");
}

static void write_and_read(sqlite3 *db)
{
  run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a);"
          "INSERT INTO u VALUES(1)");
  expect(db, "SELECT state FROM pagedb_files", "stamped");
  run(db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n "
          "WHERE x < 500) INSERT INTO t SELECT x, 'row ' || x || "
          "hex(zeroblob(50)) FROM n;"
          "UPDATE t SET b = b || '?' WHERE a % 5 = 0;"
          "BEGIN; DELETE FROM t");
  expect(db, "SELECT count(*) FROM t", "0");
  run(db, "ROLLBACK");
  expect(db, "SELECT count(*) FROM t WHERE b LIKE '%?'", "100");
}

/* What one commits the other sees, and one writes at a time; then the WAL. */
static void two_connections(sqlite3 *db)
{
  sqlite3 *other = open_db();
  expect(other, "SELECT count(*) FROM t", "500");
  run(other, "BEGIN IMMEDIATE");
  run_fails(db, "INSERT INTO u VALUES(9)", SQLITE_BUSY);
  run(other, "INSERT INTO u VALUES(2); COMMIT");
  expect(db, SUM_U, "3");

  expect(db, "PRAGMA journal_mode=WAL", "wal");
  run(other, "UPDATE t SET b = b || '!' WHERE a % 3 = 0");
  expect(db, "SELECT count(*) FROM t WHERE b LIKE '%!'", "166");
  expect(db, "PRAGMA wal_checkpoint(TRUNCATE)", "0");
  close_db(other);
  expect(db, "PRAGMA journal_mode=DELETE", "delete");
}

static void all_well(sqlite3 *db)
{
  expect(db, "PRAGMA integrity_check", "ok");
  expect(db, NOT_OK, "0");
  expect(db, "SELECT state FROM pagedb_files", "stamped");
}

/* One byte in the middle of the second leaf of t, the file closed. */
static void damage(long page, long size, long length)
{
  long middle = (page - 1) * size + size / 2;
  flip(middle);
  sqlite3 *db = open_db();
  run_fails(db, SUM_T, SQLITE_IOERR_DATA);
  expect(db, SUM_U, "3");
  if (number(db, "SELECT page FROM pagedb_pages WHERE status = 'bad crc'") !=
      page)
    fail(db, "pagedb_pages", "names another page");
  close_db(db);

  flip(middle);
  db = open_db();
  if (number(db, SUM_T) != length)
    fail(db, SUM_T, "another value");
  all_well(db);
  close_db(db);
}

int main(void)
{
  if (pagedb_register(1) != SQLITE_OK)
    fail(NULL, "pagedb_register", "failed");
  sqlite3 *db = open_db();
  write_and_read(db);
  two_connections(db);
  run(db, "DELETE FROM t WHERE a > 400; VACUUM");
  all_well(db);
  save_content(db);
  long page = number(db, LEAF), size = number(db, "PRAGMA page_size");
  long length = number(db, SUM_T);
  close_db(db);
  damage(page, size, length);
  return 0;
}
