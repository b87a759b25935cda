/*
** test_vfs_threads.c - many connections of one process, in threads: they share
** a file's descriptors, state and pages, under a budget far too small; and what
** that costs in memory beside stock SQLite.
*/
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqlutil.h"

enum { THREADS = 8, ROWS = 300 };

typedef struct job {
  const char *path;
  unsigned id, rounds;
  int wal;
  volatile int *failed;
} job;

static int busy(int rc)
{
  return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

/* cmocka's checks are for its own thread: a thread only reports. */
static int64_t ask_int(sqlite3 *db, const char *sql, int *rc)
{
  sqlite3_stmt *st = NULL;
  int64_t v = -1;
  *rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (*rc == SQLITE_OK && (*rc = sqlite3_step(st)) == SQLITE_ROW) {
    v = sqlite3_column_int64(st, 0);
    *rc = SQLITE_OK;
  }
  sqlite3_finalize(st);
  return v;
}

static int one_round(sqlite3 *db, int wal, uint64_t *seed)
{
  char sql[300];
  int a = (int)random_below(seed, ROWS) + 1,
      b = (int)random_below(seed, ROWS) + 1;
  int rc;
  switch (random_below(seed, 7)) {
  case 0:
  case 1:
    snprintf(
        sql, sizeof sql,
        "BEGIN IMMEDIATE; UPDATE t SET v=v-1 WHERE id=%d; UPDATE t SET v=v+1 "
        "WHERE id=%d; %s",
        a, b, random_below(seed, 4) ? "COMMIT" : "ROLLBACK");
    rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (!sqlite3_get_autocommit(db))
      sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    break;
  case 2:
    snprintf(sql, sizeof sql, "SELECT v FROM t WHERE id=%d", a);
    ask_int(db, sql, &rc);
    break;
  case 3:
    ask_int(db, "SELECT count(*) FROM pagedb_files, pagedb_stats", &rc);
    break;
  case 4:
    /* The scrub: under SHARED, so every page that counts is sound, or, in WAL
    ** mode, written by a checkpoint just then. */
    if (ask_int(db,
                "SELECT count(*) FROM pagedb_pages WHERE status NOT IN "
                "('ok', 'lock')",
                &rc) > 0 &&
        rc == SQLITE_OK && !wal)
      return SQLITE_CORRUPT;
    break;
  default:
    if (ask_int(db, "SELECT sum(v) FROM t", &rc) != 0 && rc == SQLITE_OK)
      return SQLITE_CORRUPT;
  }
  static const char *const checkpoints[] = {
      "PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(FULL)",
      "PRAGMA wal_checkpoint(RESTART)", "PRAGMA wal_checkpoint(TRUNCATE)"};
  if (random_below(seed, 25) == 0 && (rc == SQLITE_OK || busy(rc)))
    sqlite3_exec(db, checkpoints[random_below(seed, 4)], NULL, NULL, NULL);
  if (random_below(seed, 40) == 0)
    sqlite3_exec(db,
                 "PRAGMA pagedb_pool_size='128KiB';"
                 "PRAGMA pagedb_pool_size='1MiB'",
                 NULL, NULL, NULL);
  return rc;
}

static void *work(void *p)
{
  job *j = p;
  uint64_t seed = j->id * 977 + 5;
  sqlite3 *db = NULL;
  for (unsigned i = 0; i < j->rounds && !*j->failed; i++) {
    if (db == NULL) {
      if (sqlite3_open_v2(j->path, &db, SQLITE_OPEN_READWRITE, "pagedb") !=
          SQLITE_OK)
        *j->failed = 1;
      sqlite3_busy_timeout(db, 20000);
      sqlite3_exec(db, "PRAGMA cache_size=10; PRAGMA synchronous=OFF", NULL,
                   NULL, NULL);
    }
    int rc = one_round(db, j->wal, &seed);
    if (rc != SQLITE_OK && !busy(rc)) {
      fprintf(stderr, "thread %u: %d %s; %s\n", j->id, rc, sqlite3_errmsg(db),
              last_log());
      *j->failed = 1;
    }
    if (random_below(&seed, 30) == 0) {
      sqlite3_close(db);
      db = NULL;
    }
  }
  sqlite3_close(db);
  return NULL;
}

static void many_threads(const char *journal)
{
  const char *path = db_path("threads.db");
  volatile int failed = 0;
  job jobs[THREADS];
  pthread_t thread[THREADS];
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA page_size=1024; PRAGMA journal_mode=%s; PRAGMA "
      "pagedb_pool_size='1MiB'",
      journal);
  run(db,
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v, pad);"
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
      "n<%d) INSERT INTO t SELECT n, 0, zeroblob(400) FROM c",
      ROWS);
  for (unsigned i = 0; i < THREADS; i++) {
    jobs[i] = (job){path, i, scaled(400), strcmp(journal, "WAL") == 0, &failed};
    assert_int_equal(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(thread[i], NULL);
  assert_false(failed);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM t"), 0);
  run(db, "PRAGMA pagedb_pool_size='256MiB'");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  db_close(db);
  assert_whole(path, 1);
}

static void test_threads_rollback(void **state)
{
  (void)state;
  many_threads("DELETE");
}

static void test_threads_wal(void **state)
{
  (void)state;
  many_threads("WAL");
}

static void test_shared_cache(void **state)
{
  (void)state;
  const char *path = db_path("sharedcache.db");
  char uri[700];
  sqlite3 *a, *b;
  snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&cache=shared", path);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
  assert_int_equal(sqlite3_open_v2(uri, &a, flags, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_open_v2(uri, &b, flags, NULL), SQLITE_OK);
  run(a, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  assert_int_equal(get_int(b, "SELECT a FROM t"), 1);
  run(b, "UPDATE t SET a=2");
  assert_int_equal(get_int(a, "SELECT a FROM t"), 2);
  db_close(a);
  run(b, "UPDATE t SET a=3");
  db_close(b);
  assert_whole(path, 1);
}

/* ------------------------------------------------------------------- memory */

static int64_t resident_kib(void)
{
  char line[200];
  int64_t kib = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    if (sscanf(line, "RssAnon: %ld", (long *)&kib) == 1)
      break;
  if (f != NULL)
    fclose(f);
  return kib;
}

/* 16 connections scan the same file, in a process of its own. */
static int64_t memory_of_16(const char *path, const char *vfs, unsigned mib)
{
  int fds[2];
  int64_t kib = -1;
  assert_int_equal(pipe(fds), 0);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db[16];
    int64_t before = resident_kib();
    for (int i = 0; i < 16; i++) {
      db[i] = db_open(path, vfs);
      /* Stock: the same cache for each. page-db: the pool, and little else. */
      run(db[i], "PRAGMA cache_size=-%u",
          strcmp(vfs, "unix") == 0 ? mib * 1024 * 2 : 100u);
      get_int(db[i], "SELECT sum(length(v)) FROM t");
    }
    kib = resident_kib() - before;
    _exit(write(fds[1], &kib, sizeof kib) == sizeof kib ? 0 : 1);
  }
  assert_int_equal(read(fds[0], &kib, sizeof kib), sizeof kib);
  waitpid(pid, NULL, 0);
  return kib;
}

static void test_one_copy_for_all(void **state)
{
  (void)state;
  const char *path = db_path("copy.db");
  unsigned mib = scaled(200);
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
      "CREATE TABLE t(v); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT "
      "n+1 FROM c WHERE n<%u) INSERT INTO t SELECT zeroblob(2000) FROM c",
      mib * 500);
  int64_t pages = get_int(db, "PRAGMA page_count");
  db_close(db);
  int64_t ours = memory_of_16(path, "pagedb", mib);
  int64_t stock = memory_of_16(path, "unix", mib);
  print_message("16 connections, a database of %d MiB: page-db %d MiB, stock "
                "SQLite %d MiB\n",
                (int)(pages / 256), (int)(ours / 1024), (int)(stock / 1024));
#ifndef __SANITIZE_THREAD__ /* which keeps several bytes beside each of ours */
  /* One copy of the database, and at most an eighth for all else. */
  assert_true(ours < pages * 4 * 9 / 8 + 16 * 1024);
#endif
  db_remove(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_copy_for_all),
      cmocka_unit_test(test_shared_cache),
      cmocka_unit_test(test_threads_rollback),
      cmocka_unit_test(test_threads_wal),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
