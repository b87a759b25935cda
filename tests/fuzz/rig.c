/*
** rig.c - see rig.h.
*/
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SQLITE_CORE 1
#include "../../vfs/vfs_int.h"

#include "../../vfs/pagedb_sqlite.h"

enum { MOST_STEPS = 40, STEP_OPS = 2000 };

static int steps;

static int enough(void *arg)
{
  (void)arg;
  return ++steps > MOST_STEPS;
}

static void no_log(void *arg, int code, const char *message)
{
  (void)arg;
  (void)code;
  (void)message;
}

static uint64_t same_time(void)
{
  return 1700000000000000u;
}

void rig_start(void)
{
  static int started;
  if (started)
    return;
  started = 1;
  sqlite3_config(SQLITE_CONFIG_LOG, no_log, NULL);
  sqlite3_config(SQLITE_CONFIG_URI, 1);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
  if (pagedb_register(0) != SQLITE_OK || simdisk_register(1) != SQLITE_OK)
    abort();
  /* page-db stands on the disk in memory, and no other is to be had. */
  pagedb_vfs.pAppData = sqlite3_vfs_find("simdisk");
  for (sqlite3_vfs *v = sqlite3_vfs_find(NULL), *next; v != NULL; v = next) {
    next = v->pNext;
    if (v != &pagedb_vfs && v != pagedb_vfs.pAppData)
      sqlite3_vfs_unregister(v);
  }
  pagedb_globals.clock = same_time;
  pagedb_globals.pool_bytes = 1 << 20;
  sqlite3_hard_heap_limit64((sqlite3_int64)64 << 20);
}

void rig_put(simdisk *d, const char *name, const void *bytes, size_t n)
{
  simdisk_write(d, simdisk_create(d, name), n > 0 ? bytes : "", n, 0);
}

sqlite3 *rig_open(const char *name, const char *vfs)
{
  char uri[700];
  sqlite3 *db = NULL;
  sqlite3_snprintf(sizeof uri, uri, "file:%s?vfs=%s", name, vfs);
  int rc = sqlite3_open_v2(
      uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
      NULL);
  if (rc != SQLITE_OK) {
    sqlite3_close(db);
    return NULL;
  }
  sqlite3_extended_result_codes(db, 1);
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 100000);
  sqlite3_limit(db, SQLITE_LIMIT_VDBE_OP, 25000);
  sqlite3_progress_handler(db, STEP_OPS, enough, NULL);
  rig_run(db, "PRAGMA trusted_schema=0; PRAGMA cache_size=10; PRAGMA "
              "max_page_count=400");
  return db;
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
  const unsigned char *b = p;
  for (size_t i = 0; i < n; i++)
    h = (h ^ b[i]) * 1099511628211u;
  return (h ^ n) * 1099511628211u;
}

static int step_through(sqlite3_stmt *st, uint64_t *h)
{
  int rc = SQLITE_ROW;
  for (int rows = 0; rows < 2000 && rc == SQLITE_ROW; rows++) {
    rc = sqlite3_step(st);
    for (int i = 0; rc == SQLITE_ROW && i < sqlite3_column_count(st); i++) {
      int type = sqlite3_column_type(st, i);
      const void *p = sqlite3_column_blob(st, i);
      *h = mix(*h, &type, sizeof type);
      if (p != NULL)
        *h = mix(*h, p, (size_t)sqlite3_column_bytes(st, i));
    }
  }
  rc = sqlite3_finalize(st);
  return rc;
}

int rig_sum(sqlite3 *db, const char *sql, uint64_t *sum)
{
  int rc = SQLITE_OK;
  steps = 0;
  *sum = 1469598103u;
  while (rc == SQLITE_OK && *sql != 0) {
    sqlite3_stmt *st = NULL;
    rc = sqlite3_prepare_v2(db, sql, -1, &st, &sql);
    if (rc == SQLITE_OK && st == NULL)
      break;
    if (rc == SQLITE_OK)
      rc = step_through(st, sum);
  }
  return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(db);
}

int rig_run(sqlite3 *db, const char *sql)
{
  uint64_t sum;
  return rig_sum(db, sql, &sum);
}

int rig_content(sqlite3 *db, uint64_t *sum)
{
  char *names[20];
  int n = 0;
  sqlite3_stmt *st = NULL;
  steps = 0;
  int rc = rig_sum(db, "SELECT type, name, sql FROM sqlite_schema", sum);
  if (rc == SQLITE_OK)
    rc = sqlite3_prepare_v2(db,
                            "SELECT name FROM sqlite_schema WHERE type='table' "
                            "AND rootpage>0",
                            -1, &st, NULL);
  while (rc == SQLITE_OK && n < 20 && sqlite3_step(st) == SQLITE_ROW)
    names[n++] =
        sqlite3_mprintf("SELECT * FROM \"%w\"", sqlite3_column_text(st, 0));
  int end = sqlite3_finalize(st);
  if (rc == SQLITE_OK)
    rc = end;
  for (int i = 0; i < n; i++) {
    uint64_t one = 0;
    if (rc == SQLITE_OK && names[i] != NULL)
      rc = rig_sum(db, names[i], &one);
    *sum = mix(*sum, &one, sizeof one);
    sqlite3_free(names[i]);
  }
  return rc;
}

void rig_close(sqlite3 *db)
{
  if (db != NULL && sqlite3_close(db) != SQLITE_OK)
    abort();
  if (simdisk_open_files() != 0)
    abort();
}
