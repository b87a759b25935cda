/*
** test_vfs_memory.c - the nth allocation fails while a database is opened: of
** SQLite's, or of ours.
**
** The open fails, or the connection is what it would have been: with its own
** descriptors, on Direct I/O, sharing the pool. What is missing for a moment is
** no reason to do without for good. What was taken is given back: the address
** sanitizer would tell.
**
** Linked with --wrap for malloc and calloc.
*/
#define SQLITE_CORE 1
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "vfsutil.h"

enum whose { OF_SQLITE, OURS, WHOSE };

static sqlite3_mem_methods real;
/* Allocations before the one that fails; 0: none does. */
static unsigned left[WHOSE];

static int fails(enum whose w)
{
  return left[w] > 0 && --left[w] == 0;
}

static void *mem_malloc(int n)
{
  return fails(OF_SQLITE) ? NULL : real.xMalloc(n);
}

static void *mem_realloc(void *p, int n)
{
  return fails(OF_SQLITE) ? NULL : real.xRealloc(p, n);
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t n)
{
  return fails(OURS) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return fails(OURS) ? NULL : __real_calloc(n, size);
}

/* NULL if it failed. */
static sqlite3 *try_open(const char *path, enum whose w, unsigned nth,
                         int *failed)
{
  sqlite3 *db = NULL;
  left[w] = nth;
  int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "pagedb");
  *failed = left[w] == 0;
  left[w] = 0;
  if (rc == SQLITE_OK)
    return db;
  assert_int_equal(rc & 0xff, SQLITE_NOMEM);
  sqlite3_close(db);
  return NULL;
}

static void fail_each(enum whose w)
{
  const char *path = db_path("memory.db");
  int failed = 0;
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  int direct = atomic_load(&conn_in(db)->file->direct) != NULL;
  sqlite3_close(db);

  unsigned refused = 0;
  for (unsigned nth = 1; nth == 1 || failed; nth++) {
    db = try_open(path, w, nth, &failed);
    refused += db == NULL;
    if (db == NULL)
      continue;
    assert_non_null(atomic_load(&conn_in(db)->file->buffered));
    assert_int_equal(atomic_load(&conn_in(db)->file->direct) != NULL, direct);
    sqlite3_close(db);
  }
  print_message("%u opens refused\n", refused);
  assert_true(refused > (w == OURS ? 3 : 5));
  db_remove(path);
}

static void test_open(void **state)
{
  (void)state;
  fail_each(OF_SQLITE);
}

static void test_open_without_ours(void **state)
{
  (void)state;
  fail_each(OURS);
}

/* The process's first database: without room for a pool, that is what is said. */
static void test_open_without_pool(void **state)
{
  (void)state;
  const char *path = db_path("pool.db");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "CREATE TABLE t(a)");
  sqlite3_close(db);
  pagedb_pool *pool = atomic_load(&pagedb_globals.pool);
  unsigned told = 0;
  int failed = 0;
  for (unsigned nth = 1; nth == 1 || failed; nth++) {
    atomic_store(&pagedb_globals.pool, NULL);
    db = try_open(path, OURS, nth, &failed);
    told += db == NULL && strstr(first_log(), "has no room for a pool") != NULL;
    sqlite3_close(db);
    assert_int_equal(pagedb_pool_close(atomic_load(&pagedb_globals.pool)),
                     PAGEDB_OK);
  }
  atomic_store(&pagedb_globals.pool, pool);
  assert_true(told >= 3);
  db_remove(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),
      cmocka_unit_test(test_open_without_ours),
      cmocka_unit_test(test_open_without_pool),
  };
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
  sqlite3_mem_methods m = real;
  m.xMalloc = mem_malloc;
  m.xRealloc = mem_realloc;
  sqlite3_config(SQLITE_CONFIG_MALLOC, &m);
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
