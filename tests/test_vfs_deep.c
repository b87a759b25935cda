/*
** test_vfs_deep.c - how the pages of a commit reach the file: few calls, several
** at a time; and what happens when one of them fails, or no thread can be had.
**
** Linked with --wrap for the calls that write and that start threads.
*/
#define SQLITE_CORE 1
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

/* ------------------------------------------------------------------- calls */

static _Atomic unsigned writes;  /* of many pages or one, by whichever way */
static _Atomic unsigned threads; /* that were started */
static _Atomic unsigned fail_at; /* this write fails, counted from 1; 0: none */
static _Atomic int fail_on;      /* and all after it */
static int no_threads;

int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_thread(pthread_t *t, void *(*run)(void *), void *arg);
int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg);

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  unsigned now = atomic_fetch_add(&writes, 1) + 1, at = atomic_load(&fail_at);
  if (at != 0 && (now == at || (now > at && atomic_load(&fail_on))))
    return pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0,
                            "by the test");
  return __real_os_writev(f, iov, n, off);
}

int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  if (no_threads)
    return 0;
  atomic_fetch_add(&threads, 1);
  return __real_os_thread(t, run, arg);
}

static void count_anew(void)
{
  atomic_store(&writes, 0);
  atomic_store(&threads, 0);
}

/* ---------------------------------------------------------------- database */

enum { ROWS = 600 }; /* a page each */

/* All that a transaction changes goes out at its join. */
static sqlite3 *made(const char *path)
{
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA cache_size=-100000; PRAGMA synchronous=off;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v);"
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c "
      "WHERE i<%d) INSERT INTO t SELECT i, zeroblob(3000) FROM c",
      ROWS);
  return db;
}

static int is_direct(sqlite3 *db)
{
  return strcmp(get_text(db, "SELECT io FROM pagedb_files"), "direct") == 0;
}

/* --------------------------------------------------------------------- tests */

/* Neighbours go together; pages that are not do not go one after the other. */
static void test_calls(void **state)
{
  (void)state;
  const char *path = db_path("calls.db");
  sqlite3 *db = made(path);
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000)");
  assert_in_range(atomic_load(&writes), 2, ROWS / 32);
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id%%3=0");
  if (is_direct(db))
    assert_in_range(atomic_load(&threads), 2, ROWS);
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id=7");
  assert_int_equal(atomic_load(&threads), 0);
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "unix");
  assert_int_equal(content_hash(db), hash);
  db_close(db);
  db_remove(path);
}

static void test_no_threads(void **state)
{
  (void)state;
  const char *path = db_path("alone.db");
  sqlite3 *db = made(path);
  no_threads = 1;
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id%%3=0");
  no_threads = 0;
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "unix");
  assert_int_equal(content_hash(db), hash);
  db_close(db);
  db_remove(path);
}

/* The statement fails, the others' writes go on, and the journal restores all. */
static void fails(const char *path, sqlite3 *db, const char *sql, unsigned at,
                  int on)
{
  uint64_t before = content_hash(db);
  count_anew();
  atomic_store(&fail_on, on);
  atomic_store(&fail_at, at);
  int rc = try_run(db, "%s", sql);
  unsigned all = atomic_load(&writes);
  atomic_store(&fail_at, 0);
  if (rc == SQLITE_OK) {
    assert_true(all < at);
    return;
  }
  assert_int_equal(rc, SQLITE_IOERR_WRITE);
  assert_non_null(strstr(first_log(), path));
  if (!sqlite3_get_autocommit(db))
    run(db, "ROLLBACK");
  assert_int_equal(content_hash(db), before);
  /* What others see is what was there. */
  sqlite3 *stock = db_open(path, "unix");
  assert_int_equal(content_hash(stock), before);
  db_close(stock);
}

static void test_failing(void **state)
{
  (void)state;
  const char *path = db_path("failing.db");
  sqlite3 *db = made(path);
  for (unsigned at = 1; at < 230; at += at < 4 ? 1 : 29)
    for (int on = 0; on < 2; on++)
      fails(path, db, "UPDATE t SET v=randomblob(3000) WHERE id%3=0", at, on);
  for (unsigned at = 1; at < 8; at++)
    fails(path, db, "UPDATE t SET v=randomblob(3000)", at, 0);
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id%%2=0");
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "pagedb");
  assert_int_equal(content_hash(db), hash);
  db_close(db);
  db_remove(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_calls),
      cmocka_unit_test(test_no_threads),
      cmocka_unit_test(test_failing),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
