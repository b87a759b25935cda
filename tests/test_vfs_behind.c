/*
** test_vfs_behind.c - write behind (vfs/behind.c): SQLite goes on while pages of
** its transaction are being written, and rolls back, changes the same pages
** again, cuts the file, closes; writes fail, once or for good; no thread can be
** had.
**
** Linked with --wrap for the calls that write and that start threads. A write that
** is not the main thread's takes its time, so that SQLite meets it. Whatever is done,
** none is under way when a lock is given up: the platform VFS's fcntl is watched.
** PAGEDB_SEED repeats the mixture.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

/* ------------------------------------------------------------------- calls */

static _Thread_local int
    is_behind; /* this thread writes behind a transaction */
static _Atomic unsigned behind_all; /* writes of such threads */
static _Atomic int under_way;       /* of them, now */
static _Atomic int met_by_unlock;   /* a lock was given up meanwhile */
static _Atomic unsigned fail_at;    /* this one fails, from 1; 0: none */
static _Atomic int fail_on;         /* and all that follow it, of any thread */
static uint64_t joins;              /* before the statement */
static struct stat watched;         /* the file */
static int fail_err = PAGEDB_EIO, no_threads;
static long slow_us;

int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_thread(pthread_t *t, void *(*run)(void *), void *arg);
int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg);

/* Once: of a thread that writes behind. */
static int fails(unsigned now)
{
  unsigned at = atomic_load(&fail_at);
  return at != 0 && (atomic_load(&fail_on) ? now >= at : now == at);
}

static int failure(void)
{
  return pagedb_fault_set(fail_err, fail_err == PAGEDB_EFULL ? 28 : 5, NULL,
                          PAGEDB_NONE, 0, 0, "by the test");
}

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  if (!is_behind)
    return atomic_load(&fail_on) && fails(atomic_load(&behind_all))
               ? failure()
               : __real_os_writev(f, iov, n, off);
  unsigned now = atomic_fetch_add(&behind_all, 1) + 1;
  atomic_fetch_add(&under_way, 1);
  nanosleep(&(struct timespec){0, slow_us * 1000}, NULL);
  int err = fails(now) ? failure() : __real_os_writev(f, iov, n, off);
  atomic_fetch_sub(&under_way, 1);
  return err;
}

typedef struct start {
  void *(*run)(void *);
  void *arg;
  int behind;
} start;

static void *begin(void *arg)
{
  start s = *(start *)arg;
  free(arg);
  is_behind = s.behind;
  return s.run(s.arg);
}

/* What SQLite's thread starts before the join, and has not to wait for, writes
** behind; so do the threads of that one's. */
int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  if (no_threads)
    return 0;
  start *s = malloc(sizeof *s);
  assert_non_null(s);
  *s = (start){run, arg,
               is_behind || atomic_load(&pagedb_globals.count.joins) == joins};
  if (__real_os_thread(t, begin, s))
    return 1;
  free(s);
  return 0;
}

/* The wal-index has locks, too; here nobody uses one. */
static int watched_fcntl(int fd, int command, ...)
{
  va_list args;
  va_start(args, command);
  void *arg = va_arg(args, void *);
  va_end(args);
  const struct flock *l = arg;
  struct stat st;
  if (command == F_SETLK && l->l_type != F_WRLCK &&
      atomic_load(&under_way) > 0 && fstat(fd, &st) == 0 &&
      st.st_ino == watched.st_ino)
    atomic_store(&met_by_unlock, 1);
  return fcntl(fd, command, arg);
}

/* How the platform's VFS looks for the file's end before it makes it larger. */
static int met_by_growth, grew;

static int watched_fstat(int fd, struct stat *st)
{
  int rc = fstat(fd, st);
  if (rc == 0 && st->st_ino == watched.st_ino) {
    grew++;
    met_by_growth |= atomic_load(&under_way) > 0;
  }
  return rc;
}

static uint64_t flushes(void)
{
  return atomic_load(&pagedb_globals.count.flushes_behind);
}

static void anew(void)
{
  atomic_store(&behind_all, 0);
  atomic_store(&fail_at, 0);
  atomic_store(&fail_on, 0);
  atomic_store(&met_by_unlock, 0);
  joins = atomic_load(&pagedb_globals.count.joins);
}

static void assert_waited_for(void)
{
  assert_int_equal(atomic_load(&under_way), 0);
  assert_int_equal(atomic_load(&met_by_unlock), 0);
}

/* ---------------------------------------------------------------- database */

#define ADD(from, to, text)                                                    \
  "WITH RECURSIVE c(i) AS (SELECT " #from " UNION ALL SELECT i+1 FROM c "      \
  "WHERE i<" #to ") INSERT INTO t SELECT i, printf('%%02500d', i*" #text       \
  ") FROM c"

/* SQLite's own cache holds little: it spills what grows. */
static sqlite3 *made(const char *path, const char *vfs, const char *journal)
{
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA cache_size=10; PRAGMA synchronous=off; PRAGMA journal_mode=%s;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX x ON t(v);",
      journal);
  run(db, ADD(1, 100, 1));
  if (strcmp(vfs, "pagedb") == 0)
    assert_int_equal(stat(path, &watched), 0);
  anew();
  return db;
}

static void others_see(const char *path, uint64_t hash)
{
  sqlite3 *stock = db_open(path, "unix");
  assert_true(content_hash(stock) == hash);
  db_close(stock);
}

static void end(const char *path, sqlite3 *db)
{
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_waited_for();
  assert_whole(path, 1);
  others_see(path, hash);
  db_remove(path);
}

/* --------------------------------------------------------------------- tests */

static void test_goes_on(void **state)
{
  (void)state;
  const char *path = db_path("behind.db"), *other = db_path("behind-stock.db");
  sqlite3 *db = made(path, "pagedb", "DELETE"),
          *stock = made(other, "unix", "DELETE");
  anew();
  uint64_t before = flushes();
  run(db, ADD(1000, 1600, 3));
  run(stock, ADD(1000, 1600, 3));
  assert_true(flushes() > before);
  assert_true(atomic_load(&behind_all) > 0);
  assert_waited_for();
  assert_true(content_hash(db) == content_hash(stock));
  others_see(path, content_hash(db));
  /* What comes in any order waits for the join. */
  before = flushes();
  run(db, "PRAGMA cache_size=-100000; UPDATE t SET v=v||'x' WHERE id=7");
  assert_true(flushes() == before);
  db_close(stock);
  db_remove(other);
  end(path, db);
}

/* Each of the writes behind a transaction fails once, the last ones when the join
** is waiting for them. It is written again, and nobody notices. */
static void test_fails_once(void **state)
{
  (void)state;
  const char *path = db_path("once.db");
  sqlite3 *db = made(path, "pagedb", "DELETE");
  for (unsigned at = 1; at <= 60; at += at < 6 ? 1 : 4) {
    run(db, "DELETE FROM t WHERE id>100");
    anew();
    atomic_store(&fail_at, at);
    run(db, ADD(1000, 1200, 5));
    assert_true(at > 1 || atomic_load(&behind_all) > 0);
    if (atomic_load(&behind_all) >= at)
      assert_non_null(strstr(first_log(), path));
    assert_waited_for();
    assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 301);
    others_see(path, content_hash(db));
    if (atomic_load(&behind_all) < at)
      break;
  }
  anew();
  end(path, db);
}

/* From one write on all fail: the statement does, its error is the write's, and
** what was there comes back, at once or, where the rollback's writes fail, too, with
** the journal. */
static void test_fails_for_good(void **state)
{
  (void)state;
  const char *path = db_path("for-good.db");
  static const int err[] = {PAGEDB_EIO, PAGEDB_EFULL};
  static const int code[] = {SQLITE_IOERR_WRITE, SQLITE_FULL};
  sqlite3 *db = made(path, "pagedb", "DELETE");
  uint64_t before = content_hash(db);
  for (unsigned i = 0; i < 24; i++) {
    anew();
    fail_err = err[i % 2];
    atomic_store(&fail_on, 1);
    atomic_store(&fail_at, i / 2 + 1);
    int rc = try_run(db, ADD(1000, 1300, 7));
    if (rc == SQLITE_OK) {
      /* There were not that many. */
      assert_in_range(atomic_load(&behind_all), 1, i / 2);
      anew();
      run(db, "DELETE FROM t WHERE id>100");
      assert_true(content_hash(db) == before);
      continue;
    }
    assert_int_equal(rc, code[i % 2]);
    assert_non_null(strstr(first_log(), path));
    assert_waited_for();
    anew();
    if (!sqlite3_get_autocommit(db))
      run(db, "ROLLBACK");
    assert_true(content_hash(db) == before);
    others_see(path, before);
  }
  fail_err = PAGEDB_EIO;
  end(path, db);
}

static void test_no_thread(void **state)
{
  (void)state;
  const char *path = db_path("no-thread.db");
  sqlite3 *db = made(path, "pagedb", "DELETE");
  uint64_t before = flushes();
  no_threads = 1;
  run(db, ADD(1000, 1600, 3));
  no_threads = 0;
  assert_true(flushes() == before);
  end(path, db);
}

/* The rollback cuts the file, and writes pages again that are being written. */
static void test_rollback(void **state)
{
  (void)state;
  static const char *const journal[] = {"DELETE", "TRUNCATE", "PERSIST",
                                        "MEMORY"};
  for (int i = 0; i < 8; i++) {
    const char *path = db_path("rollback.db");
    sqlite3 *db = made(path, "pagedb", journal[i / 2]);
    uint64_t before = content_hash(db), begun = flushes();
    if (i % 2)
      run(db, "PRAGMA locking_mode=EXCLUSIVE");
    for (int n = 0; n < 3; n++) {
      anew();
      run(db, "BEGIN; UPDATE t SET v='changed'||v");
      run(db, ADD(1000, 1300, 11));
      run(db, "UPDATE t SET v='again'||v WHERE id>1200; ROLLBACK");
      assert_waited_for();
      assert_true(content_hash(db) == before);
      if (!(i % 2))
        others_see(path, before);
    }
    assert_true(flushes() > begun);
    end(path, db);
  }
}

/* A connection that is closed in a transaction; and one whose journal is off, so
** that nothing joins what was spilled. */
static void test_close(void **state)
{
  (void)state;
  const char *path = db_path("close.db");
  sqlite3 *db = made(path, "pagedb", "DELETE");
  uint64_t before = content_hash(db);
  anew();
  run(db, "BEGIN");
  run(db, ADD(1000, 1300, 13));
  db_close(db);
  assert_waited_for();
  others_see(path, before);
  assert_whole(path, 1);
  db = db_open(path, "pagedb");
  run(db, "PRAGMA journal_mode=OFF; PRAGMA cache_size=10; BEGIN");
  run(db, ADD(1000, 1300, 13));
  run(db, "ROLLBACK");
  assert_waited_for();
  db_close(db);
  assert_waited_for();
  db_remove(path);
}

/* One statement of many kinds, the same for both. */
static void any_statement(uint64_t *seed, char *sql, size_t n)
{
  unsigned a = (unsigned)random_below(seed, 400),
           b = a + (unsigned)random_below(seed, 200);
  switch (random_below(seed, 7)) {
  case 0:
  case 1:
    snprintf(
        sql, n,
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c "
        "WHERE i<%u) INSERT INTO t SELECT NULL, printf('%%0%ud', i) FROM c",
        a + 1, 1000 + b);
    return;
  case 2:
    snprintf(sql, n, "UPDATE t SET v='u%u'||v WHERE id BETWEEN %u AND %u", a, a,
             b);
    return;
  case 3:
    snprintf(sql, n, "DELETE FROM t WHERE id BETWEEN %u AND %u", a, b);
    return;
  case 4:
    snprintf(sql, n, "SAVEPOINT s");
    return;
  case 5:
    snprintf(sql, n, "ROLLBACK TO s");
    return;
  default:
    snprintf(sql, n, "PRAGMA incremental_vacuum(%u)", a);
  }
}

/* Savepoints that take pages back which are being written, and all else: page-db
** and stock SQLite have the same content all the time. */
static void test_mixture(void **state)
{
  (void)state;
  uint64_t seed = test_seed("mixture", (uint64_t)time(NULL)), begun = flushes();
  const char *path = db_path("mix.db"), *other = db_path("mix-stock.db");
  sqlite3 *both[2] = {db_open(path, "pagedb"), db_open(other, "unix")};
  char sql[300];
  for (int i = 0; i < 2; i++)
    run(both[i],
        "PRAGMA auto_vacuum=incremental; PRAGMA cache_size=10; "
        "PRAGMA synchronous=off;"
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX x ON t(v)");
  assert_int_equal(stat(path, &watched), 0);
  for (unsigned n = 0; n < scaled(25); n++) {
    const char *how = random_below(&seed, 4) == 0 ? "ROLLBACK" : "COMMIT";
    anew();
    for (int i = 0; i < 2; i++)
      run(both[i], "BEGIN; SAVEPOINT s");
    for (uint64_t k = 1 + random_below(&seed, 8); k > 0; k--) {
      any_statement(&seed, sql, sizeof sql);
      for (int i = 0; i < 2; i++)
        run(both[i], "%s", sql);
    }
    for (int i = 0; i < 2; i++)
      run(both[i], "%s", how);
    assert_waited_for();
    assert_true(content_hash(both[0]) == content_hash(both[1]));
  }
  assert_true(flushes() > begun);
  db_close(both[1]);
  db_remove(other);
  end(path, both[0]);
}

/* A large cache goes out at the commit, in order. */
static void test_burst(void **state)
{
  (void)state;
  const char *path = db_path("burst.db");
  sqlite3 *db = made(path, "pagedb", "DELETE");
  uint64_t before = flushes();
  run(db, "PRAGMA cache_size=-100000");
  run(db, ADD(1000, 1600, 3));
  assert_true(flushes() > before);
  end(path, db);
}

/* A look at the file as it is meets no page half written. */
static void test_pages(void **state)
{
  (void)state;
  const char *path = db_path("pages.db");
  sqlite3 *db = made(path, "pagedb", "DELETE");
  long was = slow_us;
  int met = 0;
  slow_us = 20000;
  for (int i = 0; i < 50 && !met; i++) {
    anew();
    run(db, "BEGIN");
    run(db, ADD(1000, 1100, 3));
    met = atomic_load(&under_way) > 0;
    run(db, "SELECT count(*) FROM pagedb_pages");
    assert_int_equal(atomic_load(&under_way), 0);
    run(db, "ROLLBACK");
  }
  assert_true(met);
  slow_us = was;
  end(path, db);
}

/*
** Where chunks were asked for, the platform's VFS looks for the end of the file, and
** writes behind it: nothing of ours may get there meanwhile, nor be left to be
** written by anybody before it is done.
*/
static void test_chunks(void **state)
{
  (void)state;
  const char *path = db_path("chunks.db");
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  sqlite3 *db = made(path, "pagedb&pagedb_stamp=off", "DELETE");
  assert_int_equal(stat(path, &watched), 0);
  long was = slow_us;
  int chunk = 64 << 10;
  slow_us = 2000;
  unix_vfs->xSetSystemCall(unix_vfs, "fstat",
                           (sqlite3_syscall_ptr)watched_fstat);
  uint64_t before = flushes();
  run(db, "BEGIN");
  run(db, ADD(1000, 1300, 3));
  assert_int_equal(
      sqlite3_file_control(db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk),
      SQLITE_OK);
  grew = met_by_growth = 0;
  run(db, ADD(2000, 2300, 3));
  assert_true(grew > 0);
  assert_int_equal(met_by_growth, 0);
  run(db, "COMMIT");
  assert_true(flushes() > before);
  unix_vfs->xSetSystemCall(unix_vfs, "fstat", NULL);
  slow_us = was;
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  uint64_t hash = content_hash(db);
  db_close(db);
  others_see(path, hash);
  db_remove(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_goes_on),        cmocka_unit_test(test_fails_once),
      cmocka_unit_test(test_fails_for_good), cmocka_unit_test(test_no_thread),
      cmocka_unit_test(test_rollback),       cmocka_unit_test(test_close),
      cmocka_unit_test(test_mixture),        cmocka_unit_test(test_burst),
      cmocka_unit_test(test_pages),          cmocka_unit_test(test_chunks),
  };
  sql_start();
  slow_us = 500;
  pagedb_globals.behind_bytes = 32 << 10;
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  unix_vfs->xSetSystemCall(unix_vfs, "fcntl",
                           (sqlite3_syscall_ptr)watched_fcntl);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
