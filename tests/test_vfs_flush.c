/*
** test_vfs_flush.c - how the pages of a commit reach the file: few calls; what of
** it the disk is told to begin with; and what happens when one of them fails.
**
** Linked with --wrap for the calls that write, and that begin to write back.
*/
#define SQLITE_CORE 1
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

/* ------------------------------------------------------------------- calls */

static _Atomic unsigned writes;  /* of many pages or one, by whichever way */
static _Atomic unsigned begun;   /* how often the disk was told to begin */
static _Atomic uint64_t written; /* the end of what was written last */
static _Atomic unsigned fail_at; /* this write fails, counted from 1; 0: none */
static _Atomic int fail_on;      /* and all after it */
static _Atomic int fail_back;    /* what the disk is told to begin with */

int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_write_back(os_file *f, uint64_t off, uint64_t len);
int __wrap_os_write_back(os_file *f, uint64_t off, uint64_t len);

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  unsigned now = atomic_fetch_add(&writes, 1) + 1, at = atomic_load(&fail_at);
  uint64_t end = off;
  if (at != 0 && (now == at || (now > at && atomic_load(&fail_on))))
    return pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0,
                            "by the test");
  for (int i = 0; i < n; i++)
    end += iov[i].len;
  atomic_store(&written, end);
  return __real_os_writev(f, iov, n, off);
}

/* Of what was just written, to its end. */
int __wrap_os_write_back(os_file *f, uint64_t off, uint64_t len)
{
  atomic_fetch_add(&begun, 1);
  assert_true(off + len == atomic_load(&written));
  assert_true(len > 256 << 10);
  if (atomic_load(&fail_back))
    return pagedb_fault_set(PAGEDB_ESYNC, 5, NULL, PAGEDB_NONE, 0, 0,
                            "by the test");
  return __real_os_write_back(f, off, len);
}

static void count_anew(void)
{
  atomic_store(&writes, 0);
  atomic_store(&begun, 0);
}

/* ---------------------------------------------------------------- database */

enum { ROWS = 600 }; /* a page each */

/* All that a transaction changes goes out at its join. */
static sqlite3 *made(const char *path, const char *vfs)
{
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA cache_size=-100000; PRAGMA synchronous=off;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v);"
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c "
      "WHERE i<%d) INSERT INTO t SELECT i, zeroblob(3000) FROM c",
      ROWS);
  return db;
}

/* --------------------------------------------------------------------- tests */

/* Neighbours go together, and the disk begins with them; scattered pages and few
** ones wait for the sync. */
static void test_calls(void **state)
{
  (void)state;
  const char *path = db_path("calls.db");
  sqlite3 *db = made(path, "pagedb");
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000)");
  assert_in_range(atomic_load(&writes), 2, ROWS / 32);
  assert_in_range(atomic_load(&begun), 1, atomic_load(&writes));
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id%%3=0");
  assert_in_range(atomic_load(&writes), ROWS / 4, ROWS);
  assert_int_equal(atomic_load(&begun), 0);
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id<50");
  assert_in_range(atomic_load(&writes), 1, 5);
  assert_int_equal(atomic_load(&begun), 0);
  db_finish(path, db);
}

/* Through another VFS there is nobody to tell. */
static void test_parent(void **state)
{
  (void)state;
  const char *path = db_path("parent.db");
  sqlite3 *db = made(path, "pagedb&pagedb_parent=unix-none");
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "parent");
  count_anew();
  run(db, "UPDATE t SET v=randomblob(3000)");
  assert_int_equal(atomic_load(&begun), 0);
  assert_int_equal(atomic_load(&writes), 0);
  db_close(db);
  assert_whole(path, 1);
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
  sqlite3 *db = made(path, "pagedb");
  for (unsigned at = 1; at < 230; at += at < 4 ? 1 : 29)
    for (int on = 0; on < 2; on++)
      fails(path, db, "UPDATE t SET v=randomblob(3000) WHERE id%3=0", at, on);
  for (unsigned at = 1; at < 8; at++)
    fails(path, db, "UPDATE t SET v=randomblob(3000)", at, 0);
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id%%2=0");
  db_finish(path, db);
}

/* The system may tell nobody else that it could not write a page: the commit fails
** though every sync is good, nothing more is written, and the journal restores all. */
static void test_failing_behind(void **state)
{
  (void)state;
  const char *path = db_path("behind.db");
  static const char *const modes[] = {"off", "full"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = made(path, "pagedb");
    uint64_t before = content_hash(db);
    run(db, "PRAGMA synchronous=%s", modes[i]);
    count_anew();
    atomic_store(&fail_back, 1);
    assert_int_equal(try_run(db, "UPDATE t SET v=randomblob(3000)"),
                     SQLITE_IOERR_FSYNC);
    atomic_store(&fail_back, 0);
    assert_in_range(atomic_load(&begun), 1, ROWS / 32);
    assert_int_not_equal(try_run(db, "DELETE FROM t"), SQLITE_OK);
    db_close(db);
    db = db_open(path, "pagedb");
    assert_int_equal(content_hash(db), before);
    db_close(db);
    assert_whole(path, 1);
    db_remove(path);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_calls),
      cmocka_unit_test(test_parent),
      cmocka_unit_test(test_failing),
      cmocka_unit_test(test_failing_behind),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
