/*
** fuzz_file.c - see fuzz_file.h.
*/
#include "fuzz_file.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/endian.h"
#include "../../core/guard.h"
#include "../../core/pagedb.h"

/* 0: no page size that could be, or not a page of it. */
static uint32_t page_size(const uint8_t *p, size_t n)
{
  uint32_t size = n < 100 ? 0 : get_be16(p + 16);
  size = size == 1 ? 65536 : size;
  return pagedb_page_size_ok(size, PAGEDB_TRAILING) && n >= size ? size : 0;
}

static void stamp_all(uint8_t *p, size_t n)
{
  uint32_t size = page_size(p, n);
  if (size == 0)
    return;
  p[20] = PAGEDB_RECORD_SIZE;
  p[GUARD_AT] = guarded((p[GUARD_AT] & 1) != 0 ? 1 : 2);
  for (size_t at = 0; at + size <= n; at += size)
    pagedb_page_stamp(p + at, size, PAGEDB_TRAILING, at / size, 7);
}

void file_strip(uint8_t *p, size_t n)
{
  uint32_t size = page_size(p, n);
  if (size == 0)
    return;
  p[GUARD_AT] = unguarded(p[GUARD_AT]);
  for (size_t at = 0; at + size <= n; at += size)
    memset(p + at + size - PAGEDB_RECORD_SIZE, 0, PAGEDB_RECORD_SIZE);
}

/* SQLite's checksum of a log (its file format, section 4.2). */
static void log_sum(const uint8_t *p, size_t n, uint32_t s[2])
{
  for (size_t i = 0; i + 8 <= n; i += 8) {
    s[0] += get_le32(p + i) + s[1];
    s[1] += get_le32(p + i + 4) + s[0];
  }
}

static void seal_log(uint8_t *p, size_t n, int raw_header)
{
  uint32_t s[2] = {0, 0};
  if (n < 32)
    return;
  if (!raw_header) {
    put_be32(p, 0x377f0682);
    put_be32(p + 4, 3007000);
  }
  uint32_t size = get_be32(p + 8);
  log_sum(p, 24, s);
  put_be32(p + 24, s[0]);
  put_be32(p + 28, s[1]);
  if (!pagedb_page_size_ok(size, PAGEDB_TRAILING))
    return;
  for (size_t at = 32; at + 24 + size <= n; at += 24 + size) {
    memcpy(p + at + 8, p + 16, 8);
    log_sum(p + at, 8, s);
    log_sum(p + at + 24, size, s);
    put_be32(p + at + 16, s[0]);
    put_be32(p + at + 20, s[1]);
  }
}

fuzz_file file_make(const uint8_t *data, size_t n)
{
  fuzz_file f = {.bytes = (size_t)data[1] * 512};
  size_t left = n - 2;
  f.p = malloc(left + 1);
  memcpy(f.p, data + 2, left);
  if (f.bytes > left)
    f.bytes = left;
  f.rest = f.p + f.bytes;
  f.nrest = left - f.bytes;
  if ((data[0] & FILE_STAMP) != 0)
    stamp_all(f.p, f.bytes);
  if ((data[0] & FILE_LOG) != 0)
    seal_log(f.rest, f.nrest, data[0] & FILE_RAW_HEADER);
  return f;
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
  const unsigned char *b = p;
  for (size_t i = 0; i < n; i++)
    h = (h ^ b[i]) * 1099511628211u;
  return (h ^ n) * 1099511628211u;
}

static int add_rows(sqlite3 *db, const char *sql, uint64_t *sum)
{
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  while (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
    for (int i = 0; i < sqlite3_column_count(st); i++) {
      int type = sqlite3_column_type(st, i);
      const void *p = sqlite3_column_blob(st, i);
      *sum = mix(*sum, &type, sizeof type);
      if (p != NULL)
        *sum = mix(*sum, p, (size_t)sqlite3_column_bytes(st, i));
    }
  int end = sqlite3_finalize(st);
  return rc == SQLITE_OK ? end : rc;
}

static int is_whole(sqlite3 *db)
{
  sqlite3_stmt *st = NULL;
  int ok = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &st, NULL) ==
               SQLITE_OK &&
           sqlite3_step(st) == SQLITE_ROW &&
           strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;
  sqlite3_finalize(st);
  return ok;
}

static int enough(void *arg)
{
  return ++*(int *)arg > 100;
}

int file_content(const char *path, uint64_t *sum)
{
  sqlite3 *db = NULL;
  sqlite3_stmt *tables = NULL;
  int steps = 0;
  *sum = 1469598103u;
  int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix");
  if (rc == SQLITE_OK) {
    sqlite3_progress_handler(db, 2000, enough, &steps);
    rc = add_rows(db, "SELECT type, name, sql FROM sqlite_schema", sum);
  }
  if (rc == SQLITE_OK)
    rc = sqlite3_prepare_v2(db,
                            "SELECT name FROM sqlite_schema WHERE type='table' "
                            "AND rootpage>0",
                            -1, &tables, NULL);
  while (rc == SQLITE_OK && sqlite3_step(tables) == SQLITE_ROW) {
    char *sql =
        sqlite3_mprintf("SELECT * FROM \"%w\"", sqlite3_column_text(tables, 0));
    rc = sql == NULL ? SQLITE_NOMEM : add_rows(db, sql, sum);
    sqlite3_free(sql);
  }
  int end = sqlite3_finalize(tables);
  if (rc == SQLITE_OK && end == SQLITE_OK && !is_whole(db))
    rc = SQLITE_CORRUPT;
  sqlite3_close(db);
  return rc == SQLITE_OK ? end : rc;
}

void file_small_database(const char *path)
{
  sqlite3 *db = NULL;
  if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                      "unix") != SQLITE_OK ||
      sqlite3_exec(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)", NULL, NULL,
                   NULL) != SQLITE_OK)
    abort();
  sqlite3_close(db);
}
