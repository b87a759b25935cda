/*
** test_vfs_recover.c - transactions that do not end well, and states in between
** that SQLite's locks allow: what must not be taken for something else.
*/
#define _DEFAULT_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqlutil.h"

enum { SIZE = 4096, GUARDED = 0x51, AT_GUARD = 18 };

/* ------------------------------------- VACUUM of a plain file, not finished */

/* A file that keeps 32 bytes free and has no guard, half of it free pages. */
static void make_plain_32(const char *path)
{
  char from[600];
  snprintf(from, sizeof from, "%s-from", path);
  db_remove(from);
  db_remove(path);
  sqlite3 *db = db_open(from, "pagedb");
  run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b); WITH RECURSIVE n(x) AS "
          "(SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<1000) INSERT INTO t "
          "SELECT x, randomblob(900) FROM n");
  db_close(db);
  db = db_open(from, "unix");
  run(db, "VACUUM INTO %Q", path);
  db_close(db);
  db_remove(from);
  db = db_open(path, "unix");
  run(db, "DELETE FROM t WHERE a<=500");
  db_close(db);
}

static int guard_of(const char *path)
{
  unsigned char byte;
  file_read_at(path, AT_GUARD, &byte, 1);
  return byte;
}

typedef enum accident { DIES, JOURNAL_STAYS, ACCIDENTS } accident;
static accident what_happens;
static int happened;

/* The commit point in DELETE mode is the journal's end. */
static int unlink_journal(const char *path)
{
  if (strstr(path, "-journal") == NULL || happened)
    return unlink(path);
  happened = 1;
  if (what_happens == DIES)
    raise(SIGKILL);
  errno = EIO;
  return -1;
}

static void vacuum_in_a_child(const char *path)
{
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
    happened = 0;
    sqlite3 *db = db_open(path, "pagedb");
    unix_vfs->xSetSystemCall(unix_vfs, "unlink",
                             (sqlite3_syscall_ptr)unlink_journal);
    try_run(db, "VACUUM");
    _exit(0);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
}

/* The join stamped every page, the journal is hot: what plays it back must not
** think that the file was stamped when the transaction began. */
static void test_vacuum_cut_at_commit(void **state)
{
  (void)state;
  const char *path = db_path("vacuum-cut.db");
  for (what_happens = DIES; what_happens < ACCIDENTS; what_happens++)
    for (int by_stock = 0; by_stock < 2; by_stock++) {
      make_plain_32(path);
      sqlite3 *db = db_open(path, "unix");
      uint64_t hash = content_hash(db);
      db_close(db);
      vacuum_in_a_child(path);
      db = db_open(path, by_stock ? "unix" : "pagedb");
      assert_true(content_hash(db) == hash);
      db_close(db);
      assert_int_equal(guard_of(path) & 0xf0, 0);
      assert_whole(path, 0);
    }
}

/* A VACUUM that goes well sets the guard, after the commit. */
static void test_vacuum_converts(void **state)
{
  (void)state;
  static const char *const modes[] = {"DELETE", "PERSIST", "MEMORY", "OFF"};
  const char *path = db_path("vacuum-well.db");
  for (int m = 0; m < 4; m++)
    for (int exclusive = 0; exclusive < 2; exclusive++) {
      make_plain_32(path);
      sqlite3 *db = db_open(path, "pagedb");
      uint64_t hash = content_hash(db);
      run(db, "PRAGMA journal_mode=%s; PRAGMA locking_mode=%s", modes[m],
          exclusive ? "EXCLUSIVE" : "NORMAL");
      run(db, "VACUUM; UPDATE t SET b=b WHERE a=700");
      assert_true(content_hash(db) == hash);
      db_close(db);
      assert_int_equal(guard_of(path), GUARDED);
      assert_whole(path, 1);
    }
}

static int writes_left = -1;

static ssize_t failing_pwrite(int fd, const void *buf, size_t n, off_t at)
{
  if (writes_left >= 0 && writes_left-- == 0) {
    writes_left = 0;
    errno = EIO;
    return -1;
  }
  return pwrite(fd, buf, n, at);
}

/* One that fails half way is rolled back to a plain file. */
static void test_vacuum_fails(void **state)
{
  (void)state;
  const char *path = db_path("vacuum-fails.db");
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  int failures = 0;
  for (int n = 1; n < 2000; n += (int)(485 / scaled(5))) {
    make_plain_32(path);
    sqlite3 *db = db_open(path, "pagedb");
    uint64_t hash = content_hash(db);
    run(db, "PRAGMA cache_size=10");
    unix_vfs->xSetSystemCall(unix_vfs, "pwrite64",
                             (sqlite3_syscall_ptr)failing_pwrite);
    unix_vfs->xSetSystemCall(unix_vfs, "pwrite",
                             (sqlite3_syscall_ptr)failing_pwrite);
    writes_left = n;
    int rc = try_run(db, "VACUUM");
    writes_left = -1;
    unix_vfs->xSetSystemCall(unix_vfs, "pwrite64", NULL);
    unix_vfs->xSetSystemCall(unix_vfs, "pwrite", NULL);
    failures += rc != SQLITE_OK;
    assert_true(content_hash(db) == hash);
    db_close(db);
    assert_int_equal(guard_of(path), rc == SQLITE_OK ? GUARDED : 1);
    assert_whole(path, rc == SQLITE_OK);
  }
  assert_true(failures > 0);
}

/* --------------------------------------- a replacement that does not come about */

/* In EXCLUSIVE mode the commit point is a journal header of zeroes. */
static ssize_t end_journal(int fd, const void *buf, size_t n, off_t at)
{
  static const char zeroes[28];
  if (at != 0 || n != sizeof zeroes || memcmp(buf, zeroes, n) != 0 || happened)
    return pwrite(fd, buf, n, at);
  happened = 1;
  if (what_happens == DIES)
    raise(SIGKILL);
  errno = EIO;
  return -1;
}

/* In EXCLUSIVE mode nothing ends a transaction that was rolled back. A backup that
** would replace the stamped file, and whose commit fails or is killed, leaves no
** page of the rolled back one without its stamp. */
static void test_replacement_after_rollback(void **state)
{
  (void)state;
  const char *path = db_path("replaced.db");
  for (what_happens = DIES; what_happens < ACCIDENTS; what_happens++) {
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b); WITH RECURSIVE n(x) AS "
            "(SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<2000) INSERT INTO t "
            "SELECT x, randomblob(100) FROM n");
    uint64_t hash = content_hash(db);
    db_close(db);
    pid_t pid = fork();
    if (pid == 0) {
      sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
      happened = 0;
      db = db_open(path, "pagedb");
      sqlite3 *from = db_open(":memory:", "unix");
      run(from, "PRAGMA page_size=4096; CREATE TABLE u(a); INSERT INTO u "
                "VALUES(randomblob(90000))");
      run(db,
          "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=5; BEGIN; UPDATE "
          "t SET b=randomblob(100); ROLLBACK");
      unix_vfs->xSetSystemCall(unix_vfs, "pwrite64",
                               (sqlite3_syscall_ptr)end_journal);
      unix_vfs->xSetSystemCall(unix_vfs, "pwrite",
                               (sqlite3_syscall_ptr)end_journal);
      sqlite3_backup *b = sqlite3_backup_init(db, "main", from, "main");
      sqlite3_backup_step(b, -1);
      sqlite3_backup_finish(b);
      try_run(db, "SELECT count(*) FROM t");
      sqlite3_close(db);
      _exit(happened ? 0 : 1);
    }
    int st;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    assert_true(WIFSIGNALED(st) || WEXITSTATUS(st) == 0);
    db = db_open(path, "pagedb");
    assert_true(content_hash(db) == hash);
    assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE "
                                 "status NOT IN ('ok', 'plain')"),
                     0);
    db_close(db);
  }
}

/* ---------------------------------------------------------- partial checkpoint */

/*
** A reader keeps a checkpoint from bringing in the newest page 1, and so the
** count on disk is behind the pages that the checkpoint did bring in. Damage in
** those is damage, and the next checkpoint leaves it so.
*/
static void test_behind_the_count(void **state)
{
  (void)state;
  const char *path = db_path("behind.db");
  unsigned char byte, count[4];
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE "
          "t(a INTEGER PRIMARY KEY, b); CREATE TABLE g(x); PRAGMA "
          "wal_checkpoint(TRUNCATE)");
  run(db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE "
          "x<50) INSERT INTO t SELECT x, hex(randomblob(5000)) FROM n");
  sqlite3 *reader = db_open(path, "pagedb");
  run(reader, "BEGIN; SELECT count(*) FROM t");
  run(db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE "
          "x<50) INSERT INTO g SELECT randomblob(3000) FROM n");
  run(db, "PRAGMA wal_checkpoint(PASSIVE)");
  uint64_t hash = content_hash(db);
  uint64_t there = file_bytes_of(path) / SIZE;
  file_read_at(path, 28, count, 4);
  assert_true(there > 60);
  assert_true((uint64_t)(count[2] << 8 | count[3]) < 10);

  /* The last page of some overflow chain: in the file alone. */
  uint64_t page = 0;
  for (uint64_t p = 20; p < there && page == 0; p++) {
    file_read_at(path, (p - 1) * SIZE, count, 4);
    if (count[0] == 0 && count[1] == 0 && count[2] == 0 && count[3] == 0)
      page = p;
  }
  assert_true(page != 0);
  file_read_at(path, (page - 1) * SIZE + 1000, &byte, 1);
  byte ^= 1;
  file_write_at(path, (page - 1) * SIZE + 1000, &byte, 1);
  sqlite3 *other = db_open(path, "pagedb");
  run(other, "PRAGMA pagedb_pool_size=65536; PRAGMA pagedb_pool_size=67108864");
  assert_int_equal(try_run(other, "SELECT sum(instr(b, 'x')) FROM t"),
                   SQLITE_IOERR_DATA);
  run(reader, "COMMIT");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_int_equal(get_int(db,
                           "SELECT count(*) FROM pagedb_pages WHERE "
                           "status='bad crc' AND page=%d",
                           (int)page),
                   1);

  byte ^= 1;
  file_write_at(path, (page - 1) * SIZE + 1000, &byte, 1);
  run(other, "PRAGMA pagedb_pool_size=65536; PRAGMA pagedb_pool_size=67108864");
  assert_true(content_hash(other) == hash);
  db_close(reader);
  db_close(other);
  db_close(db);
  assert_whole(path, 1);
}

/* Pages that stock SQLite brought in, behind the count on disk: no stamps, and
** no zero pages over them. */
static void test_behind_the_count_by_stock(void **state)
{
  (void)state;
  const char *path = db_path("behind-stock.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE "
      "t(a INTEGER PRIMARY KEY, b); CREATE TABLE g(x); PRAGMA "
      "wal_checkpoint(TRUNCATE); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL "
      "SELECT x+1 FROM n WHERE x<50) INSERT INTO t SELECT x, "
      "hex(randomblob(5000)) FROM n");
  sqlite3 *reader = db_open(path, "pagedb");
  run(reader, "BEGIN; SELECT count(*) FROM t");
  run(db, "INSERT INTO g SELECT randomblob(3000) FROM t");
  uint64_t hash = content_hash(db);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *stock = db_open(path, "unix");
    try_run(stock, "SELECT count(*) FROM t");
    try_run(stock, "PRAGMA wal_checkpoint(PASSIVE)");
    _exit(0);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  run(reader, "COMMIT");
  db_close(reader);
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_true(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE "
                          "status='no stamp'") > 50);
  db_close(db);
  db = db_open(path, "pagedb");
  run(db, "PRAGMA pagedb_stamp=adopt");
  assert_true(content_hash(db) == hash);
  db_close(db);
  assert_whole(path, 1);
}

/* The log holds pages that cannot be stamped: every checkpoint is refused, and
** what the refusal names as the way out is one. */
static void test_unstamp_over_a_foreign_log(void **state)
{
  (void)state;
  const char *path = db_path("foreign-log.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db,
      "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  sqlite3 *from = db_open(":memory:", "unix"), *stock = db_open(path, "unix");
  run(from, "CREATE TABLE z(x); INSERT INTO z VALUES(randomblob(50000))");
  uint64_t hash = content_hash(from);
  sqlite3_backup *b = sqlite3_backup_init(stock, "main", from, "main");
  assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
  assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
  assert_int_equal(try_run(db, "PRAGMA wal_checkpoint"), SQLITE_IOERR_WRITE);
  assert_non_null(strstr(first_log(), "nothing of it was written"));
  db_close(stock);
  run(db, "PRAGMA pagedb_unstamp");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_true(content_hash(db) == hash);
  db_close(db);
  db_close(from);
  assert_whole(path, 0);
}

/* ------------------------------------------------------------ other states */

/* In EXCLUSIVE mode a playback with nothing to write, then a new database; and
** leaving WAL mode, which takes EXCLUSIVE without RESERVED: born stamped. */
static void test_forward_without_reserved(void **state)
{
  (void)state;
  const char *path = db_path("exclusive-new.db");
  db_remove(path);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA cache_size=5; BEGIN; CREATE TABLE t(a); INSERT INTO t "
            "VALUES(zeroblob(100000))");
    raise(SIGKILL);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA locking_mode=EXCLUSIVE; SELECT count(*) FROM sqlite_master");
  run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  run(db, "PRAGMA journal_mode=WAL; INSERT INTO t VALUES(2); PRAGMA "
          "journal_mode=DELETE; INSERT INTO t VALUES(3)");
  assert_int_equal(get_int(db, "SELECT sum(a) FROM t"), 6);
  db_close(db);
  assert_whole(path, 1);
}

/* A parent without shared memory, though its methods have the room for it. */
static void test_parent_without_shm(void **state)
{
  (void)state;
  const char *path = db_path("no-shm.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=unix-none");
  assert_string_equal(get_text(db, "PRAGMA journal_mode=WAL"), "delete");
  run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  db_close(db);
  assert_whole(path, 1);
}

/* A VFS with names of its own: everything is called NAME.else below it. SQLite
** looks for parameters behind a name and for its begin before it: zeroes. */
static const char *elsewhere(const char *name)
{
  static char names[16][700];
  static unsigned next;
  char *text = names[next++ % 16];
  memset(text, 0, sizeof names[0]);
  snprintf(text + 8, sizeof names[0] - 16, "%s.else", name);
  return text + 8;
}

static int else_open(sqlite3_vfs *v, const char *name, sqlite3_file *f,
                     int flags, int *out)
{
  sqlite3_vfs *under = v->pAppData;
  return under->xOpen(under, elsewhere(name), f, flags, out);
}

static int else_delete(sqlite3_vfs *v, const char *name, int sync)
{
  sqlite3_vfs *under = v->pAppData;
  return under->xDelete(under, elsewhere(name), sync);
}

static int else_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
  sqlite3_vfs *under = v->pAppData;
  return under->xAccess(under, elsewhere(name), flags, out);
}

/* The journal is looked for, and deleted, where it was written. */
static void test_parent_with_its_own_names(void **state)
{
  (void)state;
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  static sqlite3_vfs other;
  const char *path = db_path("names.db");
  other = *unix_vfs;
  other.zName = "elsewhere";
  other.pNext = NULL;
  other.pAppData = unix_vfs;
  other.xOpen = else_open;
  other.xDelete = else_delete;
  other.xAccess = else_access;
  assert_int_equal(sqlite3_vfs_register(&other, 0), SQLITE_OK);
  db_remove(elsewhere(path));
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db = db_open(path, "pagedb&pagedb_parent=elsewhere");
    run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(200000)); PRAGMA "
            "cache_size=5; BEGIN; DELETE FROM t");
    run(db,
        "INSERT INTO t SELECT randomblob(1000) FROM (WITH RECURSIVE n(x) AS "
        "(SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<100) SELECT x FROM n)");
    raise(SIGKILL);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=elsewhere");
  assert_int_equal(get_int(db, "SELECT sum(length(a)) FROM t"), 200000);
  run(db, "INSERT INTO t VALUES(1)");
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  db_close(db);
  assert_int_equal(access(path, F_OK), -1);
  char journal[700];
  snprintf(journal, sizeof journal, "%s-journal.else", path);
  assert_int_equal(access(journal, F_OK), -1);
  db_remove(elsewhere(path));
  sqlite3_vfs_unregister(&other);
}

/* ------------------------------------------------------------- shared cache */

static _Atomic int done;

static void *look_at_pages(void *uri)
{
  sqlite3 *db = db_open(":memory:", "pagedb");
  run(db, "ATTACH %Q AS aux", (const char *)uri);
  while (!done)
    try_run(db, "SELECT count(*) FROM pagedb_pages('aux')");
  db_close(db);
  return NULL;
}

/* The lock that pagedb_pages takes is one that SQLite knows of: it does not take
** that of another connection of the cache away. */
static void test_pages_of_a_shared_cache(void **state)
{
  (void)state;
  const char *path = db_path("cache-pages.db");
  char uri[600];
  pthread_t thread;
  sqlite3 *db = NULL;
  int64_t expected = 0;
  db_remove(path);
  snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&cache=shared", path);
  assert_int_equal(sqlite3_open_v2(uri, &db,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                       SQLITE_OPEN_URI,
                                   NULL),
                   SQLITE_OK);
  run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, n, b); WITH RECURSIVE n(x) AS "
          "(SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<2000) INSERT INTO t "
          "SELECT x, 0, randomblob(900) FROM n");
  done = 0;
  assert_int_equal(pthread_create(&thread, NULL, look_at_pages, uri), 0);
  for (unsigned i = 0; i < scaled(100); i++)
    if (try_run(db, "UPDATE t SET n=n+1, b=randomblob(900) WHERE a%%7=%d",
                i % 7) == SQLITE_OK)
      expected += sqlite3_changes(db);
  done = 1;
  pthread_join(thread, NULL);
  db_close(db);
  db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT sum(n) FROM t"), expected);
  db_close(db);
  assert_whole(path, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_vacuum_cut_at_commit),
      cmocka_unit_test(test_vacuum_converts),
      cmocka_unit_test(test_vacuum_fails),
      cmocka_unit_test(test_replacement_after_rollback),
      cmocka_unit_test(test_behind_the_count),
      cmocka_unit_test(test_behind_the_count_by_stock),
      cmocka_unit_test(test_unstamp_over_a_foreign_log),
      cmocka_unit_test(test_forward_without_reserved),
      cmocka_unit_test(test_parent_without_shm),
      cmocka_unit_test(test_parent_with_its_own_names),
      cmocka_unit_test(test_pages_of_a_shared_cache),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
