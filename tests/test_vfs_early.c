/*
** test_vfs_early.c - a checkpoint's pages begin to go to the disk while it goes on:
** what is asked for and when, when nothing is, and that nothing is under way when it
** is over.
**
** Linked with --wrap for the calls that write, start threads, and ask. The first
** write after a thread was started waits until that has asked, so that nothing here
** depends on who is faster.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

enum { MIB = 1 << 20, FIRST = 4 * MIB, ROWS = 2200 }; /* a page each */

/* ------------------------------------------------------------------- calls */

/* A leaf, as is the one of what is tested; never both. */
static RANKED_MUTEX(RANK_MEMORY) lock = RANKED_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Under the lock. */
static unsigned threads, refused, asked, under_way, is_disordered;
static uint64_t first_end, last_end, written_end;
static int wait_for_it; /* the next write waits for the first question */

static int no_threads;
static _Atomic int fail_back; /* all that is asked for */
static unsigned fail_at;      /* this write fails, counted down; 0: none */

int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_thread(pthread_t *t, void *(*run)(void *), void *arg);
int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg);
int __real_os_write_back(os_file *f, uint64_t off, uint64_t n);
int __wrap_os_write_back(os_file *f, uint64_t off, uint64_t n);

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  if (fail_at > 0 && --fail_at == 0)
    return pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0,
                            "by the test");
  pthread_mutex_lock(&lock);
  while (wait_for_it && asked == 0)
    pthread_cond_wait(&changed, &lock);
  wait_for_it = 0;
  pthread_mutex_unlock(&lock);
  size_t bytes = iov->len; /* a checkpoint's are single pages */
  int err = __real_os_writev(f, iov, n, off);
  pthread_mutex_lock(&lock);
  if (off + bytes > written_end)
    written_end = off + bytes;
  pthread_mutex_unlock(&lock);
  return err;
}

int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  pthread_mutex_lock(&lock);
  refused += (unsigned)no_threads;
  threads += !no_threads;
  wait_for_it = !no_threads;
  pthread_mutex_unlock(&lock);
  return no_threads ? 0 : __real_os_thread(t, run, arg);
}

int __wrap_os_write_back(os_file *f, uint64_t off, uint64_t n)
{
  pthread_mutex_lock(&lock);
  under_way++;
  /* Only what is in the file by now, and each byte once. */
  is_disordered |= n == 0 || off != last_end || off + n > written_end;
  last_end = off + n;
  if (asked++ == 0)
    first_end = last_end;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  usleep(2000); /* a checkpoint that does not wait is over by then */
  int err = __real_os_write_back(f, off, n);
  pthread_mutex_lock(&lock);
  under_way--;
  pthread_mutex_unlock(&lock);
  return fail_back ? pagedb_fault_set(PAGEDB_ESYNC, 5, NULL, PAGEDB_NONE, 0, 0,
                                      "by the test")
                   : err;
}

static void anew(void)
{
  pthread_mutex_lock(&lock);
  threads = refused = asked = under_way = is_disordered = 0;
  first_end = last_end = written_end = 0;
  wait_for_it = 0;
  pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------- database */

static sqlite3 *made(const char *path)
{
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;"
      "PRAGMA cache_size=-100000;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v);"
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c "
      "WHERE i<%d) INSERT INTO t SELECT i, zeroblob(3000) FROM c;"
      "PRAGMA wal_checkpoint(TRUNCATE)",
      ROWS);
  return db;
}

/* The first n rows get new content, and the database all of it. */
static int checkpoint(sqlite3 *db, int n)
{
  run(db, "UPDATE t SET v=randomblob(3000) WHERE id<=%d", n);
  anew();
  int rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                     NULL);
  pthread_mutex_lock(&lock);
  assert_int_equal(under_way, 0);
  assert_int_equal(is_disordered, 0);
  pthread_mutex_unlock(&lock);
  return rc;
}

/* ------------------------------------------------------------------- tests */

static void test_asks(void **state)
{
  (void)state;
  const char *path = db_path("asks.db");
  sqlite3 *db = made(path);
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  assert_int_equal(threads, 1);
  assert_in_range(asked, 1, ROWS * 4096 / MIB);
  /* Not before much was written, nor all of it only at the end. */
  assert_in_range(first_end, FIRST, FIRST + 2 * MIB);
  /* Each checkpoint anew, in every synchronous mode that syncs. */
  run(db, "PRAGMA synchronous=NORMAL");
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  assert_int_equal(threads, 1);
  db_finish(path, db);
}

static void test_does_not_ask(void **state)
{
  (void)state;
  const char *path = db_path("quiet.db");
  sqlite3 *db = made(path);
  /* A thousand pages, as SQLite lets them come together. */
  assert_int_equal(checkpoint(db, 1000), SQLITE_OK);
  assert_int_equal(threads, 0);
  /* Nothing will be synced. The first checkpoint may still know of an earlier sync. */
  run(db, "PRAGMA synchronous=OFF");
  assert_int_equal(checkpoint(db, 10), SQLITE_OK);
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  assert_int_equal(threads, 0);
  assert_int_equal(asked, 0);
  db_finish(path, db);
}

/* One that cannot be had is not asked for at every step. */
static void test_no_thread(void **state)
{
  (void)state;
  const char *path = db_path("alone.db");
  sqlite3 *db = made(path);
  no_threads = 1;
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  no_threads = 0;
  assert_int_equal(refused, 1);
  assert_int_equal(asked, 0);
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  assert_int_equal(threads, 1);
  db_finish(path, db);
}

/* A checkpoint that ends early waits for the thread, too, and the next one is
** whole. */
static void test_fails(void **state)
{
  (void)state;
  const char *path = db_path("fails.db");
  sqlite3 *db = made(path);
  fail_at = FIRST / 4096 + 300;
  assert_int_equal(checkpoint(db, ROWS), SQLITE_IOERR_WRITE);
  assert_int_equal(threads, 1);
  assert_in_range(asked, 1, 2);
  assert_int_equal(checkpoint(db, ROWS), SQLITE_OK);
  db_finish(path, db);
}

/* The system may tell nobody else that it could not write a page: the checkpoint does
** not count, and the log has all. */
static void test_fails_behind(void **state)
{
  (void)state;
  const char *path = db_path("behind.db");
  sqlite3 *db = made(path);
  fail_back = 1;
  assert_int_equal(checkpoint(db, ROWS), SQLITE_IOERR_FSYNC);
  fail_back = 0;
  assert_in_range(asked, 1, ROWS * 4096 / MIB);
  assert_int_not_equal(try_run(db, "DELETE FROM t"), SQLITE_OK);
  db_close(db);
  db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT count(*) FROM t WHERE v=zeroblob(3000)"),
                   0);
  db_finish(path, db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_asks),         cmocka_unit_test(test_does_not_ask),
      cmocka_unit_test(test_no_thread),    cmocka_unit_test(test_fails),
      cmocka_unit_test(test_fails_behind),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
