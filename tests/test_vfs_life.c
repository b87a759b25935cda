/*
** test_vfs_life.c - the life of a write transaction: what a file is between a
** commit and the last byte that belongs to it, what a failed VACUUM leaves, and
** what must not be said about a file.
*/
#define _DEFAULT_SOURCE
#define SQLITE_CORE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

enum { SIZE = 4096 };

static sqlite3_vfs *unix_vfs;

static void make(const char *path, const char *vfs)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA page_size=%d; CREATE TABLE t(a INTEGER PRIMARY KEY, b); WITH "
      "RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE "
      "x<300) INSERT INTO t SELECT x, randomblob(900) FROM n",
      SIZE);
  db_close(db);
}

/* A file that keeps 32 bytes free, and is not stamped on purpose. */
static void make_unstamped(const char *path)
{
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA pagedb_unstamp");
  db_close(db);
}

static int byte_of(const char *path, uint64_t at)
{
  unsigned char byte;
  file_read_at(path, at, &byte, 1);
  return byte;
}

static int has_guard(const char *path)
{
  return guard_is_set((unsigned char)byte_of(path, GUARD_AT));
}

static const char *last_error(sqlite3 *db)
{
  return get_text(db, "SELECT last_error FROM pagedb_files");
}

/* ----------------------------------------------------------------- accidents */

/* libsqlite3 finds this one first. */
static int syncs_until_failure = -1;

int fdatasync(int fd)
{
  if (syncs_until_failure >= 0 && syncs_until_failure-- == 0) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fdatasync, fd);
}

/* The nth deletion of a journal from now on: 1 is the commit point in DELETE mode,
** 2 is that of the empty journal by which the first is made durable. */
static int unlinks_left;
static int dies;

static int unlink_journal(const char *path)
{
  if (strstr(path, "-journal") == NULL || --unlinks_left != 0)
    return unlink(path);
  if (dies)
    raise(SIGKILL);
  errno = EIO;
  return -1;
}

static void at_unlink(int n, int kill)
{
  unlinks_left = n;
  dies = kill;
  unix_vfs->xSetSystemCall(unix_vfs, "unlink",
                           n > 0 ? (sqlite3_syscall_ptr)unlink_journal : NULL);
}

static void copy_over(sqlite3 *to, sqlite3 *from)
{
  sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
  assert_non_null(b);
  sqlite3_backup_step(b, -1);
  sqlite3_backup_finish(b);
}

/* Replace a stamped file by a database that keeps no bytes free, in a child that
** dies at the nth deletion of its journal. */
static void replace_and_die(const char *path, int page_size, int n)
{
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *from = db_open(":memory:", "unix");
    run(from,
        "PRAGMA page_size=%d; CREATE TABLE u(x); INSERT INTO u "
        "VALUES(randomblob(200000))",
        page_size);
    sqlite3 *to = db_open(path, "pagedb");
    run(to, "PRAGMA cache_size=5");
    at_unlink(n, 1);
    copy_over(to, from);
    _exit(0);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  assert_true(WIFSIGNALED(st));
}

/* ------------------------------------------------------------- replacement */

/* Killed before the commit: the old content, and stamped, whoever looks first
** without playing the journal back. */
static void test_replacement_killed_before_commit(void **state)
{
  (void)state;
  const char *path = db_path("replace-before.db");
  static const int sizes[] = {SIZE, 1024, 8192};
  for (int i = 0; i < 3; i++) {
    make(path, "pagedb");
    sqlite3 *db = db_open(path, "pagedb");
    uint64_t hash = content_hash(db);
    db_close(db);
    replace_and_die(path, sizes[i], 1);
    assert_true(has_guard(path));
    assert_int_not_equal(byte_of(path, HEADER_RESERVE), PAGEDB_RECORD_SIZE);
    db = db_open(path, "pagedb");
    assert_true(content_hash(db) == hash);
    assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"),
                        "stamped");
    assert_string_equal(last_error(db), "");
    db_close(db);
    assert_whole(path, 1);
  }
}

/* Killed between the journal's end and the guard's: the new content, plain for
** us; stock SQLite reads it and does not write. Our next transaction, or
** pagedb_unstamp, takes the guard off. */
static void test_replacement_killed_after_commit(void **state)
{
  (void)state;
  const char *path = db_path("replace-after.db");
  for (int by_pragma = 0; by_pragma < 2; by_pragma++) {
    make(path, "pagedb");
    replace_and_die(path, 1024, 2);
    assert_true(has_guard(path));
    sqlite3 *db = db_open(path, "unix");
    assert_int_equal(get_int(db, "SELECT length(x) FROM u"), 200000);
    assert_int_equal(try_run(db, "INSERT INTO u VALUES(1)"), SQLITE_READONLY);
    db_close(db);
    db = db_open(path, "pagedb");
    assert_int_equal(get_int(db, "SELECT length(x) FROM u"), 200000);
    assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"),
                        "plain");
    assert_non_null(strstr(last_error(db), "still has its guard"));
    run(db, by_pragma ? "PRAGMA pagedb_unstamp" : "INSERT INTO u VALUES(2)");
    assert_false(has_guard(path));
    run(db, "PRAGMA cache_size=2; BEGIN; INSERT INTO u "
            "VALUES(zeroblob(100000)); SELECT count(*) FROM u; COMMIT");
    db_close(db);
    db = db_open(path, "unix");
    run(db, "INSERT INTO u VALUES(3)");
    db_close(db);
    assert_whole(path, 0);
  }
}

/* The commit itself fails: rolled back by the same connection, and stamped. */
static void test_replacement_fails_at_commit(void **state)
{
  (void)state;
  const char *path = db_path("replace-fails.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb"), *from = db_open(":memory:", "unix");
  uint64_t hash = content_hash(db);
  run(from, "CREATE TABLE u(x); INSERT INTO u VALUES(randomblob(200000))");
  at_unlink(1, 0);
  copy_over(db, from);
  at_unlink(0, 0);
  assert_true(content_hash(db) == hash);
  run(db, "INSERT INTO t VALUES(1000, 'x'); DELETE FROM t WHERE a=1000");
  assert_true(content_hash(db) == hash);
  db_close(db);
  db_close(from);
  assert_whole(path, 1);
}

/* ------------------------------------------------------------------- VACUUM */

static int writes_until_failure = -1;

static ssize_t fail_once(int fd, const void *buf, size_t n, off_t at)
{
  if (writes_until_failure >= 0 && writes_until_failure-- == 0) {
    errno = EIO;
    return -1;
  }
  return pwrite(fd, buf, n, at);
}

static void fail_write(int nth)
{
  sqlite3_syscall_ptr call = nth < 0 ? NULL : (sqlite3_syscall_ptr)fail_once;
  writes_until_failure = nth;
  unix_vfs->xSetSystemCall(unix_vfs, "pwrite", call);
  unix_vfs->xSetSystemCall(unix_vfs, "pwrite64", call);
}

/* In EXCLUSIVE locking mode nothing ends a VACUUM that failed, before its first
** write of the file or after it. What comes next is no VACUUM. */
static void test_failed_vacuum_is_over(void **state)
{
  (void)state;
  const char *path = db_path("failed-vacuum.db");
  int failures = 0;
  for (int n = 0; n < 200; n += 1 + (int)(60 / scaled(30))) {
    make_unstamped(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db,
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=%d; SELECT "
        "count(*) FROM t",
        n % 2 == 0 ? 10 : 2000);
    fail_write(n);
    int rc = try_run(db, "VACUUM");
    fail_write(-1);
    run(db, "INSERT INTO t VALUES(1000, 'x')");
    run(db, "CREATE TABLE z(a)");
    db_close(db);
    failures += rc != SQLITE_OK;
    if (rc != SQLITE_OK)
      assert_false(has_guard(path));
    assert_whole(path, rc == SQLITE_OK);
  }
  assert_true(failures > 3);
}

/* A VACUUM after a transaction that spilled and was rolled back. */
static void test_vacuum_after_rollback(void **state)
{
  (void)state;
  const char *path = db_path("vacuum-after.db");
  static const char *const modes[] = {"DELETE", "TRUNCATE", "PERSIST",
                                      "MEMORY"};
  for (int m = 0; m < 4; m++) {
    make_unstamped(path);
    sqlite3 *db = db_open(path, "pagedb");
    uint64_t hash = content_hash(db);
    run(db,
        "PRAGMA journal_mode=%s; PRAGMA locking_mode=EXCLUSIVE; PRAGMA "
        "cache_size=5; BEGIN; UPDATE t SET b=randomblob(800); ROLLBACK; VACUUM",
        modes[m]);
    assert_true(content_hash(db) == hash);
    db_close(db);
    assert_true(has_guard(path));
    assert_whole(path, 1);
  }
}

/* -------------------------------------------------------- nothing was lost */

static void nothing_is_said(const char *path)
{
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT count(*) FROM t WHERE a<=300"), 300);
  assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"), "plain");
  assert_string_equal(last_error(db), "");
  db_close(db);
}

/* Unstamped with a log that has page 1: checkpoints keep what says that this was
** on purpose. */
static void test_unstamp_over_a_log(void **state)
{
  (void)state;
  const char *path = db_path("unstamp-log.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE "
          "z(a)");
  run(db, "PRAGMA pagedb_unstamp; CREATE TABLE y(a); INSERT INTO y VALUES(1)");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_string_equal(last_error(db), "");
  db_close(db);
  nothing_is_said(path);
  db = db_open(path, "unix");
  run(db, "CREATE TABLE x(a); PRAGMA journal_mode=DELETE; CREATE TABLE w(a)");
  db_close(db);
  nothing_is_said(path);
}

/* A VACUUM that is cut between its commit and the guard. */
static void test_vacuum_cut_before_the_guard(void **state)
{
  (void)state;
  const char *path = db_path("vacuum-guard.db");
  make_unstamped(path);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db = db_open(path, "pagedb");
    at_unlink(2, 1);
    try_run(db, "VACUUM");
    _exit(0);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  assert_true(WIFSIGNALED(st));
  assert_false(has_guard(path));
  nothing_is_said(path);
  sqlite3 *db = db_open(path, "unix");
  run(db, "CREATE TABLE z(a)");
  db_close(db);
  nothing_is_said(path);
}

/* -------------------------------------------------------------- free leaves */

static void restamp(const char *path, uint64_t id, unsigned at, uint32_t value)
{
  static uint8_t page[SIZE];
  file_read_at(path, id * SIZE, page, SIZE);
  put_be32(page + at, value);
  pagedb_page_stamp(page, SIZE, PAGEDB_TRAILING, id, 1);
  file_write_at(path, id * SIZE, page, SIZE);
}

/* A page 1 that counts more pages than there are, and a free list with one of
** them: mending does not make the file longer. */
static void test_leaf_behind_the_file(void **state)
{
  (void)state;
  const char *path = db_path("far-leaf.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA secure_delete=0; DELETE FROM t WHERE a>200");
  db_close(db);
  uint64_t bytes = file_bytes_of(path);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    db = db_open(path, "pagedb");
    run(db, "PRAGMA cache_size=5; BEGIN; UPDATE t SET b=randomblob(900)");
    raise(SIGKILL);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  uint8_t trunk[4];
  file_read_at(path, HEADER_FREE_TRUNK, trunk, 4);
  assert_true(get_be32(trunk) > 1);
  restamp(path, 0, HEADER_PAGE_COUNT, 50000);
  restamp(path, get_be32(trunk) - 1, 8, 40000);
  db = db_open(path, "pagedb");
  try_run(db, "SELECT count(*) FROM t");
  db_close(db);
  assert_true(file_bytes_of(path) <= bytes);
}

/* -------------------------------------------------------------- parent mode */

static int reads(sqlite3 *db)
{
  sqlite3_db_release_memory(db);
  return try_run(db, "SELECT sum(length(b)) FROM t");
}

/* A sync that failed concerns every connection of the process to the file, also
** where each has its own parent's handle alone. */
static void test_failed_sync_in_parent_mode(void **state)
{
  (void)state;
  const char *path = db_path("parent-sync.db"), *vfs;
  vfs = "pagedb&pagedb_parent=unix-none";
  make(path, vfs);
  sqlite3 *a = db_open(path, vfs), *b = db_open(path, vfs);
  assert_string_equal(get_text(a, "SELECT io FROM pagedb_files"), "parent");
  assert_int_equal(reads(b), SQLITE_OK);
  run(a, "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=FULL");
  syncs_until_failure = 0;
  assert_int_not_equal(try_run(a, "INSERT INTO t VALUES(1000, 'x')"),
                       SQLITE_OK);
  assert_true(syncs_until_failure < 0);
  assert_int_equal(reads(b), SQLITE_IOERR_FSYNC);
  sqlite3_close(a);
  sqlite3 *c = db_open(path, vfs);
  assert_int_equal(reads(c), SQLITE_IOERR_FSYNC);
  sqlite3 *bystander = db_open(":memory:", "unix");
  assert_int_equal(get_int(bystander, "SELECT min(failed) FROM pagedb_files"),
                   1);
  db_close(bystander);
  db_close(b);
  db_close(c);
  a = db_open(path, vfs);
  assert_int_equal(reads(a), SQLITE_OK);
  run(a, "INSERT INTO t VALUES(1001, 'x')");
  db_close(a);
}

/* --------------------------------------------- rolled back, and not unlocked */

static const char rolled_back[] =
    "PRAGMA cache_size=5; BEGIN; CREATE TABLE spilled(x); INSERT INTO spilled "
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<300) "
    "SELECT randomblob(900) FROM n; ROLLBACK";

/* In EXCLUSIVE locking mode nothing but its join ends a transaction that is rolled
** back after pages of it went out. What comes next has an LSN of its own. */
static void test_lsn_after_rollback(void **state)
{
  (void)state;
  const char *path = db_path("over.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA locking_mode=EXCLUSIVE");
  run(db, rolled_back);
  int64_t before = get_int(db, "PRAGMA pagedb_lsn");
  int64_t most = get_int(db, "SELECT max(lsn) FROM pagedb_pages");
  run(db, "UPDATE t SET b=randomblob(900) WHERE a=7");
  assert_true(get_int(db, "PRAGMA pagedb_lsn") > before);
  assert_true(get_int(db, "SELECT max(lsn) FROM pagedb_pages") > most);
  db_close(db);
  assert_whole(path, 1);
}

/* And a database that was empty before and after it is born stamped. */
static void test_birth_after_rollback(void **state)
{
  (void)state;
  static const char *const journals[] = {"DELETE", "TRUNCATE", "PERSIST",
                                         "MEMORY"};
  for (int i = 0; i < 4; i++) {
    const char *path = db_path("birth.db");
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=%s; PRAGMA locking_mode=EXCLUSIVE",
        journals[i]);
    run(db, rolled_back);
    run(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    db_close(db);
    assert_whole(path, 1);
    assert_true(has_guard(path));
  }
}

/* A guard that could not be taken off after a replacement goes with the next
** commit, even if that does not write page 1. */
static void test_left_guard_goes_later(void **state)
{
  (void)state;
  const char *path = db_path("left.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb"), *from = db_open(":memory:", "unix");
  run(db, "PRAGMA journal_mode=MEMORY; PRAGMA locking_mode=EXCLUSIVE; DELETE "
          "FROM t WHERE a=1");
  run(from, "CREATE TABLE u(x); INSERT INTO u VALUES(randomblob(90000))");
  at_unlink(1, 0);
  copy_over(db, from);
  at_unlink(0, 0);
  assert_true(has_guard(path));
  run(db, "INSERT INTO u VALUES(2)");
  assert_false(has_guard(path));
  db_close(from);
  db_close(db);
  assert_whole(path, 0);
}

/* ------------------------------------------------------ LSN of a checkpoint */

/* Another connection asks in the middle: what the checkpoint writes after that is
** newer than the answer. */
static sqlite3 *asker;
static int writes_until_asked;
static int64_t answer;

int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  if (writes_until_asked > 0 && --writes_until_asked == 0)
    answer = get_int(asker, "PRAGMA pagedb_lsn");
  return __real_os_writev(f, iov, n, off);
}

static void test_lsn_in_a_checkpoint(void **state)
{
  (void)state;
  const char *path = db_path("ckpt-lsn.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE t SET "
          "b=randomblob(900)");
  asker = db_open(path, "pagedb");
  get_int(asker, "SELECT count(*) FROM t");
  int64_t before = get_int(asker, "PRAGMA pagedb_lsn");
  writes_until_asked = 10;
  run(db, "PRAGMA wal_checkpoint(PASSIVE)");
  assert_int_equal(writes_until_asked, 0);
  assert_int_equal(answer, before);
  assert_true(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE lsn>%lld",
                      (long long)answer) > 70);
  assert_true(get_int(asker, "PRAGMA pagedb_lsn") > before);
  db_close(asker);
  db_close(db);
  assert_whole(path, 1);
}

/* ------------------------------------------------------------- what is said */

/* A page that a checkpoint was writing when it was killed: the log has it. */
static void test_page_in_the_log(void **state)
{
  (void)state;
  const char *path = db_path("in-log.db");
  char log[700];
  uint8_t number[4];
  uint64_t torn = 0;
  make(path, "pagedb");
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE t "
            "SET b=randomblob(900) WHERE a<100");
    raise(SIGKILL);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  snprintf(log, sizeof log, "%s-wal", path);
  for (uint64_t at = 32; torn <= 2; at += 24 + SIZE) {
    file_read_at(log, at, number, 4);
    torn = get_be32(number);
  }
  file_write_at(path, (torn - 1) * SIZE + 2000, "torn", 4);
  uint64_t damaged = file_bytes_of(path) / SIZE - 1;
  file_write_at(path, (damaged - 1) * SIZE + 2000, "damaged", 7);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA wal_autocheckpoint=0");
  assert_string_equal(
      get_text(db, "SELECT status FROM pagedb_pages WHERE page=%d", (int)torn),
      "in log");
  assert_string_equal(get_text(db,
                               "SELECT status FROM pagedb_pages WHERE page=%d",
                               (int)damaged),
                      "bad crc");
  assert_int_equal(get_int(db, "SELECT count(b) FROM t WHERE a<100"), 99);
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE status "
                               "NOT IN ('ok')"),
                   1);
  db_close(db);
}

/* SQLite's log cuts long lines: what to do has one for itself. */
static void test_advice_behind_a_long_path(void **state)
{
  (void)state;
  char name[230];
  memset(name, 'n', sizeof name);
  snprintf(name + 190, sizeof name - 190, ".db");
  const char *path = db_path(name);
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb"), *from = db_open(":memory:", "unix");
  run(db, "PRAGMA journal_mode=WAL");
  run(from,
      "PRAGMA page_size=%d; CREATE TABLE u(x); INSERT INTO u "
      "VALUES(randomblob(20000))",
      SIZE);
  copy_over(db, from);
  assert_string_equal(last_log(), "pagedb: run PRAGMA pagedb_unstamp first");
  const char *error = last_error(db);
  assert_true(strlen(error) > 230);
  assert_non_null(strstr(error, "32 bytes at its end free: run PRAGMA "
                                "pagedb_unstamp first"));
  db_close(from);
  db_close(db);
}

/* A stock connection made the file plain, or replaced its content by that of one:
** who has it open sees it at the next lock, and says it. */
static void test_became_plain(void **state)
{
  (void)state;
  const char *path = db_path("became.db"), *other = db_path("became-2.db");
  make(path, "pagedb");
  make(other, "unix");
  sqlite3 *db = db_open(other, "unix");
  run(db, "UPDATE t SET b=a; DELETE FROM t WHERE a>200");
  db_close(db);
  db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 300);
  file_copy(other, path);
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 200);
  assert_non_null(strstr(last_log(), "is plain now"));
  assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"), "plain");
  db_close(db);
}

/* A transaction without a join, since there is no journal: over when its lock is
** given up, with all that was noted of it. */
static void test_given_up(void **state)
{
  (void)state;
  const char *path = db_path("given-up.db");
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  sqlite3_file *f = NULL;
  assert_int_equal(
      sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f),
      SQLITE_OK);
  shared *s = ((conn *)f)->file;
  run(db, "PRAGMA journal_mode=OFF; PRAGMA cache_size=2; BEGIN; "
          "UPDATE t SET b=randomblob(900)");
  assert_ptr_equal(atomic_load(&s->writer), f);
  run(db, "ROLLBACK");
  assert_null(atomic_load(&s->writer));
  assert_int_equal(s->txn.unjoined, 0);
  assert_int_equal(s->txn.written.words, 0);
  db_close(db);
}

/* Who writes sees what it wrote, in pieces of pages too, which go around the pool. */
static void test_odd_reads_of_own_pages(void **state)
{
  (void)state;
  const char *path = db_path("odd.db");
  static uint8_t whole[SIZE], piece[100];
  make(path, "pagedb");
  sqlite3 *db = db_open(path, "pagedb");
  sqlite3_file *f = NULL;
  assert_int_equal(
      sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f),
      SQLITE_OK);
  run(db, "PRAGMA cache_size=2; BEGIN; UPDATE t SET b=randomblob(900)");
  assert_ptr_equal(atomic_load(&((conn *)f)->file->writer), f);
  for (int64_t page = 1; page < (int64_t)file_bytes_of(path) / SIZE; page++) {
    assert_int_equal(f->pMethods->xRead(f, whole, SIZE, page * SIZE),
                     SQLITE_OK);
    assert_int_equal(f->pMethods->xRead(f, piece, 100, page * SIZE + 2000),
                     SQLITE_OK);
    assert_memory_equal(piece, whole + 2000, 100);
  }
  run(db, "COMMIT");
  db_close(db);
  assert_whole(path, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_replacement_killed_before_commit),
      cmocka_unit_test(test_replacement_killed_after_commit),
      cmocka_unit_test(test_replacement_fails_at_commit),
      cmocka_unit_test(test_failed_vacuum_is_over),
      cmocka_unit_test(test_vacuum_after_rollback),
      cmocka_unit_test(test_unstamp_over_a_log),
      cmocka_unit_test(test_vacuum_cut_before_the_guard),
      cmocka_unit_test(test_leaf_behind_the_file),
      cmocka_unit_test(test_failed_sync_in_parent_mode),
      cmocka_unit_test(test_lsn_after_rollback),
      cmocka_unit_test(test_birth_after_rollback),
      cmocka_unit_test(test_left_guard_goes_later),
      cmocka_unit_test(test_lsn_in_a_checkpoint),
      cmocka_unit_test(test_page_in_the_log),
      cmocka_unit_test(test_advice_behind_a_long_path),
      cmocka_unit_test(test_became_plain),
      cmocka_unit_test(test_given_up),
      cmocka_unit_test(test_odd_reads_of_own_pages),
  };
  sql_start();
  unix_vfs = sqlite3_vfs_find("unix");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
