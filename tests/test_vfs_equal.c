/*
** test_vfs_equal.c - the same SQL on stock SQLite and on page-db gives the
** same, in every page size and journal mode; and the ways in which databases
** move between the two.
*/
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../core/pagedb.h"
#include "sqlutil.h"

/* Under sanitizers and valgrind a part of the combinations is enough. */
static int is_small(void)
{
  return scaled(5) == 1;
}

static const char *const journals[] = {"DELETE", "TRUNCATE", "PERSIST",
                                       "MEMORY", "OFF",      "WAL"};

/* What an application does to a database, in a dozen kinds. */
static void workload(sqlite3 *db, int rollback)
{
  run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c BLOB);"
          "CREATE INDEX i ON t(b);"
          "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID");
  run(db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE "
          "x<2000) INSERT INTO t SELECT x, 'row ' || (x*7919 %% 2003), "
          "zeroblob(x %% 300) FROM n");
  run(db, "INSERT INTO w SELECT b, a FROM t");
  run(db, "UPDATE t SET b = b || '!' WHERE a %% 5 = 0");
  run(db, "DELETE FROM t WHERE a %% 7 = 3");
  run(db, "INSERT INTO t VALUES(100000, 'large', zeroblob(200000))");
  run(db, "UPDATE t SET c = replace(hex(zeroblob(30000)), '0', 'xy') WHERE "
          "a = 100000");
  run(db, "BEGIN; INSERT INTO w VALUES('k1', 1); SAVEPOINT s; DELETE FROM w "
          "WHERE v > 100; COMMIT");
  if (rollback) {
    run(db, "BEGIN; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; INSERT INTO w "
            "VALUES('k2', 2); COMMIT");
    /* Larger than the cache, so that pages are spilled, and taken back. */
    run(db, "PRAGMA cache_size=10; BEGIN; UPDATE t SET b = b || 'spilled'; "
            "DELETE FROM w; ROLLBACK; PRAGMA cache_size=-2000");
  }
  run(db, "DROP TABLE w; CREATE TABLE w2 AS SELECT a, b FROM t ORDER BY b");
  run(db, "VACUUM");
  run(db, "INSERT INTO w2 SELECT a+1, 'more' FROM t");
}

static void check_equal(uint32_t page_size, const char *journal,
                        const char *vfs)
{
  const char *plain = db_path("plain.db"), *ours = db_path("ours.db");
  uint64_t hash[2];
  sqlite3 *db;
  for (int i = 0; i < 2; i++) {
    const char *path = i == 0 ? plain : ours;
    db_remove(path);
    db = db_open(path, i == 0 ? "unix" : vfs);
    run(db,
        "PRAGMA page_size=%d; PRAGMA journal_mode=%s; PRAGMA synchronous=OFF",
        (int)page_size, journal);
    workload(db, strcmp(journal, "OFF") != 0);
    hash[i] = content_hash(db);
    assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
    assert_int_equal(get_int(db, "PRAGMA page_size"), page_size);
    db_close(db);
  }
  if (hash[0] != hash[1])
    fail_msg("page size %u, %s: content differs", page_size, journal);
  assert_whole(ours, strstr(vfs, "stamp=off") == NULL);
  db = db_open(ours, "unix");
  assert_true(content_hash(db) == hash[0]);
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  db_close(db);
}

static void test_equality(void **state)
{
  (void)state;
  for (uint32_t size = 512; size <= 65536; size *= is_small() ? 8 : 2)
    for (int j = 0; j < 6; j += is_small() ? 5 : 1)
      check_equal(size, journals[j], "pagedb");
}

static void test_equality_plain(void **state)
{
  (void)state;
  for (uint32_t size = 512; size <= 65536; size *= 8)
    for (int j = 0; j < 6; j += 5)
      check_equal(size, journals[j], "pagedb&pagedb_stamp=off");
}

static void test_equality_buffered(void **state)
{
  (void)state;
  check_equal(4096, "DELETE", "pagedb&pagedb_direct=off");
  check_equal(4096, "WAL", "pagedb&pagedb_direct=off");
}

/* The dot-file VFS has no descriptor to learn and no shared memory. */
static void test_equality_parent_mode(void **state)
{
  (void)state;
  const char *path = db_path("dot.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=unix-dotfile");
  workload(db, 1);
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "parent");
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "unix");
  assert_true(content_hash(db) == hash);
  db_close(db);
}

static void test_exclusive_mode(void **state)
{
  (void)state;
  for (int j = 0; j < 6; j++) {
    const char *path = db_path("exclusive.db");
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=%s",
        journals[j]);
    workload(db, strcmp(journals[j], "OFF") != 0);
    run(db, "CREATE TABLE x(y)");
    for (int i = 0; i < 20; i++)
      run(db, "INSERT INTO x VALUES(%d)", i);
    run(db, "PRAGMA locking_mode=NORMAL; SELECT count(*) FROM x");
    run(db, "INSERT INTO x VALUES(20)");
    assert_int_equal(get_int(db, "SELECT sum(y) FROM x"), 210);
    db_close(db);
    assert_whole(path, 1);
  }
}

/* --------------------------------------------------- between stock and ours */

static void make_plain(const char *path, uint32_t page_size)
{
  db_remove(path);
  sqlite3 *db = db_open(path, "unix");
  run(db, "PRAGMA page_size=%d", (int)page_size);
  workload(db, 1);
  db_close(db);
}

static void test_vacuum_converts(void **state)
{
  (void)state;
  static const uint32_t sizes[] = {512, 1024, 4096, 8192, 65536};
  int step = is_small() ? 2 : 1;
  for (int i = 0; i < 5; i += step)
    for (int j = 0; j < 5; j += step)
      for (int secure = 0; secure < 2; secure++) {
        const char *path = db_path("convert.db");
        make_plain(path, sizes[i]);
        sqlite3 *db = db_open(path, "pagedb");
        uint64_t hash = content_hash(db);
        run(db, "PRAGMA secure_delete=%d; PRAGMA page_size=%d; VACUUM", secure,
            (int)sizes[j]);
        assert_int_equal(get_int(db, "PRAGMA page_size"), sizes[j]);
        assert_true(content_hash(db) == hash);
        db_close(db);
        assert_whole(path, 1);
        db = db_open(path, "pagedb");
        run(db, "PRAGMA secure_delete=%d; PRAGMA page_size=%d; VACUUM", secure,
            (int)sizes[(i + 2) % 5]);
        assert_true(content_hash(db) == hash);
        db_close(db);
        assert_whole(path, 1);
      }
}

static void test_stock_cannot_write(void **state)
{
  (void)state;
  static const char *const writes[] = {"INSERT INTO t VALUES(NULL, 1, 2)",
                                       "UPDATE t SET b=1",
                                       "DELETE FROM t",
                                       "CREATE TABLE z(a)",
                                       "DROP TABLE t",
                                       "VACUUM",
                                       "PRAGMA user_version=5",
                                       "REINDEX",
                                       "CREATE INDEX z ON t(c)",
                                       "ALTER TABLE t RENAME TO u"};
  const char *path = db_path("guard.db");
  for (int wal = 0; wal < 2; wal++) {
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=%s", wal ? "WAL" : "DELETE");
    workload(db, 1);
    uint64_t hash = content_hash(db);
    db_close(db);
    db = db_open(path, "unix");
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
      assert_int_equal(try_run(db, writes[i]) & 0xff, SQLITE_READONLY);
    assert_true(content_hash(db) == hash);
    db_close(db);
    assert_whole(path, 1);
  }
}

static void backup(sqlite3 *from, sqlite3 *to, int expected)
{
  sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
  assert_non_null(b);
  int rc;
  while ((rc = sqlite3_backup_step(b, 7)) == SQLITE_OK)
    ;
  if (rc != SQLITE_DONE && expected == SQLITE_OK)
    fail_msg("backup: %d %s", rc, last_log());
  rc = sqlite3_backup_finish(b);
  assert_int_equal(rc, expected);
}

/* Into new and into existing files, both ways, between page sizes. */
static void test_backup(void **state)
{
  (void)state;
  static const char *const vfs[] = {"unix", "pagedb",
                                    "pagedb&pagedb_stamp=off"};
  static const uint32_t sizes[] = {1024, 4096, 16384};
  const char *a = db_path("from.db"), *b = db_path("to.db");
  for (int from = 0; from < 3; from++)
    for (int to = 0; to < 3; to++)
      for (int i = 0; i < 3; i++)
        for (int there = 0; there < 4; there += is_small() ? 2 : 1) {
          db_remove(a);
          db_remove(b);
          sqlite3 *src = db_open(a, vfs[from]), *dst = db_open(b, vfs[to]);
          run(src,
              "PRAGMA page_size=%d; CREATE TABLE t(a, b); WITH RECURSIVE "
              "n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<500) "
              "INSERT INTO t SELECT x, hex(randomblob(60)) FROM n",
              (int)sizes[i]);
          if (there > 0)
            run(dst,
                "PRAGMA page_size=%d; CREATE TABLE u(a); INSERT INTO u "
                "VALUES(zeroblob(70000))",
                (int)sizes[there - 1]);
          backup(src, dst, SQLITE_OK);
          assert_true(content_hash(dst) == content_hash(src));
          db_close(src);
          db_close(dst);
          /* It is what its pages allow. */
          int stamped = to == 1 && from == 1;
          if (to != 0)
            assert_whole(b, stamped);
          dst = db_open(b, "unix");
          assert_string_equal(get_text(dst, "PRAGMA integrity_check"), "ok");
          db_close(dst);
        }
}

static void test_vacuum_into_and_attach(void **state)
{
  (void)state;
  const char *a = db_path("a.db"), *b = db_path("b.db");
  const char *c = db_path("c.db");
  make_plain(a, 4096);
  db_remove(b);
  db_remove(c);
  sqlite3 *db = db_open(a, "pagedb");
  run(db, "VACUUM INTO 'file:%s?vfs=pagedb'", b);
  run(db, "ATTACH 'file:%s?vfs=pagedb' AS \"odd \"\" name\"", c);
  run(db, "CREATE TABLE \"odd \"\" name\".x AS SELECT * FROM t");
  run(db, "BEGIN; DELETE FROM t WHERE a<100; DELETE FROM \"odd \"\" name\".x "
          "WHERE a<100; COMMIT");
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"),
                   get_int(db, "SELECT count(*) FROM \"odd \"\" name\".x"));
  db_close(db);
  assert_whole(b, 1);
  assert_whole(c, 1);
  assert_whole(a, 0);
}

static void test_serialize(void **state)
{
  (void)state;
  const char *a = db_path("ser.db");
  db_remove(a);
  sqlite3 *db = db_open(a, "pagedb");
  workload(db, 1);
  uint64_t hash = content_hash(db);
  sqlite3_int64 n;
  unsigned char *image = sqlite3_serialize(db, "main", &n, 0);
  assert_non_null(image);
  /* What SQLite sees has no guard and no stamps. */
  assert_int_equal(image[18], 1);
  db_close(db);
  db = db_open(":memory:", "unix");
  assert_int_equal(sqlite3_deserialize(db, "main", image, n, n,
                                       SQLITE_DESERIALIZE_FREEONCLOSE |
                                           SQLITE_DESERIALIZE_RESIZEABLE),
                   SQLITE_OK);
  assert_true(content_hash(db) == hash);
  run(db, "DELETE FROM t");
  db_close(db);
}

static void test_auto_vacuum(void **state)
{
  (void)state;
  for (int mode = 1; mode <= 2; mode++)
    for (int j = 0; j < 6; j += 5) {
      const char *path = db_path("av.db");
      db_remove(path);
      sqlite3 *db = db_open(path, "pagedb");
      run(db, "PRAGMA auto_vacuum=%d; PRAGMA journal_mode=%s", mode,
          journals[j]);
      workload(db, 1);
      run(db, "DELETE FROM t WHERE a %% 2; PRAGMA incremental_vacuum(20)");
      run(db, "DELETE FROM t; PRAGMA incremental_vacuum");
      db_close(db);
      assert_whole(path, 1);
    }
}

/* Beyond 1 GiB stands the page that never carries a stamp; beyond 4 GiB offsets
** need more than 32 bits. Sparse: the free list is made by hand. */
static void test_lock_page(void **state)
{
  (void)state;
  if (is_small())
    skip(); /* writes more than 1 GiB: once, in check-quick, is enough */
  const char *path = db_path("big.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA page_size=65536; PRAGMA journal_mode=OFF; PRAGMA "
          "synchronous=OFF; CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
  run(db, "PRAGMA cache_size=-4000");
  /* 16384 pages of 64 KiB are 1 GiB: pass the page, in a few large rows. */
  for (int i = 0; i < 17; i++)
    run(db, "INSERT INTO t VALUES(%d, zeroblob(64*1024*1024))", i);
  run(db, "INSERT INTO t VALUES(100, 'after')");
  assert_string_equal(get_text(db, "SELECT b FROM t WHERE a=100"), "after");
  assert_int_equal(get_int(db, "SELECT sum(length(b)) FROM t WHERE a<100"),
                   (int64_t)17 * 64 * 1024 * 1024);
  assert_int_equal(
      get_int(db, "SELECT count(*) FROM pagedb_pages WHERE status='lock'"), 1);
  assert_int_equal(
      get_int(db, "SELECT page FROM pagedb_pages WHERE status='lock'"), 16385);
  db_close(db);
  assert_whole(path, 1);
  db_remove(path);
}

/* Behind 4 GiB, in a sparse file: page 1 is made to count pages that nobody
** wrote, and what comes next stands behind them. */
static void test_far_away(void **state)
{
  (void)state;
  static unsigned char page[65536];
  const char *path = db_path("far.db");
  const uint32_t count = 80000; /* of 64 KiB: 4.9 GiB */
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA page_size=65536; CREATE TABLE t(a, b)");
  db_close(db);
  file_read_at(path, 0, page, sizeof page);
  page[28] = (unsigned char)(count >> 24);
  page[29] = (unsigned char)(count >> 16);
  page[30] = (unsigned char)(count >> 8);
  page[31] = (unsigned char)count;
  pagedb_page_stamp(page, sizeof page, PAGEDB_TRAILING, 0, 1);
  file_write_at(path, 0, page, sizeof page);
  assert_int_equal(truncate(path, (off_t)count * 65536), 0);
  for (int wal = 0; wal < 2; wal++) {
    db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=%s", wal ? "WAL" : "DELETE");
    for (int i = 0; i < 5; i++)
      run(db, "INSERT INTO t VALUES(%d, randomblob(200000))", i + wal * 5);
    run(db, "UPDATE t SET b=zeroblob(150000) WHERE a %% 2");
    db_close(db);
    db = db_open(path, "pagedb");
    assert_int_equal(get_int(db, "SELECT sum(length(b)) FROM t"),
                     wal ? 5 * 200000 + 5 * 150000 : 3 * 200000 + 2 * 150000);
    assert_true(get_int(db, "PRAGMA page_count") > count);
    db_close(db);
  }
  db_remove(path);
}

/* A first transaction that is larger than every cache: pages go to disk before
** page 1 is known. And pages that SQLite never writes: made and freed in one
** transaction. */
static void test_holes(void **state)
{
  (void)state;
  static const char *const pool[] = {"64KiB", "256MiB"};
  for (int small = 0; small < 2; small++)
    for (int j = 0; j < 6; j += is_small() ? 5 : 1)
      for (int secure = 0; secure < 2; secure++) {
        const char *path = db_path("holes.db");
        sqlite3 *db = db_open(path, "pagedb");
        run(db,
            "PRAGMA pagedb_pool_size='%s'; PRAGMA page_size=1024; PRAGMA "
            "secure_delete=%d; PRAGMA journal_mode=%s; PRAGMA cache_size=5",
            pool[small], secure, journals[j]);
        run(db, "BEGIN; CREATE TABLE a(x); CREATE TABLE b(x)");
        run(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n "
                "WHERE i<300) INSERT INTO a SELECT randomblob(900) FROM n");
        run(db, "COMMIT");
        assert_int_equal(get_int(db, "SELECT count(*) FROM a"), 300);
        run(db, "PRAGMA cache_size=2000; BEGIN; INSERT INTO b SELECT x FROM a; "
                "INSERT INTO b SELECT x FROM a; DELETE FROM b; CREATE TABLE "
                "c(x); INSERT INTO c VALUES(1); COMMIT");
        run(db, "BEGIN; INSERT INTO b SELECT x FROM a; DROP TABLE b; COMMIT");
        run(db, "PRAGMA wal_checkpoint(PASSIVE); INSERT INTO c VALUES(2)");
        run(db, "PRAGMA pagedb_pool_size='256MiB'");
        db_close(db);
        assert_whole(path, 1);
        /* A stock backup reads every page, free ones too. */
        db = db_open(path, "pagedb");
        sqlite3 *to = db_open(":memory:", "unix");
        backup(db, to, SQLITE_OK);
        db_close(to);
        db_close(db);
      }
}

/* No room on the device: the statement fails, nothing is lost, and with room it
** works again. The limit on file sizes stands in for a full disk. */
static void test_no_room(void **state)
{
  (void)state;
  for (int j = 0; j < 6; j += 5) {
    const char *path = db_path("room.db");
    sqlite3 *db = db_open(path, "pagedb");
    run(db,
        "PRAGMA journal_mode=%s; CREATE TABLE t(x); INSERT INTO t "
        "VALUES(zeroblob(100000))",
        journals[j]);
    struct rlimit was, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    limit = was;
    limit.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int rc = try_run(db, "INSERT INTO t VALUES(zeroblob(3000000))");
    assert_int_not_equal(rc, SQLITE_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 1);
    run(db, "INSERT INTO t VALUES(zeroblob(3000000))");
    db_close(db);
    assert_whole(path, 1);
  }
}

static void test_read_only(void **state)
{
  (void)state;
  const char *path = db_path("ro.db");
  make_plain(path, 4096);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "VACUUM");
  uint64_t hash = content_hash(db);
  db_close(db);
  static const char *const how[] = {"pagedb&mode=ro", "pagedb&immutable=1",
                                    "pagedb&nolock=1"};
  for (int i = 0; i < 3; i++) {
    db = db_open(path, how[i]);
    assert_true(content_hash(db) == hash);
    assert_int_equal(try_run(db, "DELETE FROM t") == SQLITE_OK, i == 2);
    db_close(db);
    if (i == 2) {
      assert_whole(path, 1);
      break;
    }
    /* A writer joins a file that was opened for reading first. */
    db = db_open(path, how[i]);
    sqlite3 *writer = db_open(path, "pagedb");
    get_int(db, "SELECT count(*) FROM t");
    run(writer, "CREATE TABLE extra%d(a)", i);
    run(writer, "DROP TABLE extra%d", i);
    db_close(db);
    db_close(writer);
  }
}

static int open_rc(const char *path, const char *vfs)
{
  sqlite3 *db;
  char uri[800];
  snprintf(uri, sizeof uri, "file:%s?vfs=%s", path, vfs);
  int rc = sqlite3_open_v2(
      uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
      NULL);
  if (rc == SQLITE_OK)
    rc = try_run(db, "CREATE TABLE IF NOT EXISTS t(a)");
  sqlite3_close(db);
  return rc & 0xff;
}

/* What is asked for is obeyed, and what is in use is visible. */
static void test_direct_policy(void **state)
{
  (void)state;
  const char *path = db_path("policy.db"), *shm = "/dev/shm/pagedb-policy.db";
  sqlite3 *db = db_open(path, "pagedb&pagedb_direct=off");
  run(db, "CREATE TABLE t(a)");
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "buffered");
  db_close(db);
  db = db_open(path, "pagedb");
  get_int(db, "SELECT count(*) FROM t");
  int direct =
      strcmp(get_text(db, "SELECT io FROM pagedb_files"), "direct") == 0;
  db_close(db);
  print_message("Direct I/O here: %s\n", direct ? "yes" : "no");
  assert_int_equal(open_rc(path, "pagedb&pagedb_direct=required"),
                   direct ? SQLITE_OK : SQLITE_CANTOPEN);
  if (access("/dev/shm", W_OK) != 0)
    return;
  db_remove(shm);
  db = db_open(shm, "pagedb");
  workload(db, 1);
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "buffered");
  db_close(db);
  assert_whole(shm, 1);
  assert_int_equal(open_rc(shm, "pagedb&pagedb_direct=required"),
                   SQLITE_CANTOPEN);
  assert_non_null(strstr(first_log(), "Direct I/O was required"));
  db_remove(shm);
}

static void test_columns_are_frozen(void **state)
{
  (void)state;
  sqlite3 *db = db_open(db_path("cols.db"), "pagedb");
  assert_string_equal(
      get_text(db, "SELECT group_concat(name) FROM "
                   "pragma_table_xinfo('pagedb_files')"),
      "path,state,io,journal,page_size,lsn,resident,dirty,connections,pcache,"
      "failed,last_error");
  assert_string_equal(
      get_text(db, "SELECT group_concat(name) FROM "
                   "pragma_table_xinfo('pagedb_pages')"),
      "page,status,lsn,stored_crc,computed_crc,type,object,schema");
  assert_string_equal(
      get_text(db, "SELECT group_concat(name) FROM pagedb_stats"),
      "pool_capacity_bytes,pool_used_bytes,pool_table_bytes,resident_pages,"
      "dirty_pages,hits,misses,evictions,exhausted,bounces,pages_read,"
      "pages_written,write_calls,read_ahead_used,read_ahead_wasted,flushes_"
      "behind,joins,"
      "syncs,invalidations,failures_no_stamp,failures_magic,failures_version,"
      "failures_crc,failures_page_id,read_latency_p50_ns,read_latency_p95_ns,"
      "read_latency_p99_ns,write_latency_p50_ns,write_latency_p95_ns,"
      "write_latency_p99_ns,sync_latency_p50_ns,sync_latency_p95_ns,"
      "sync_latency_p99_ns,pcache_pages,pcache_bytes,pcache_outside_bytes,"
      "pcache_excess_bytes,pcache_table_bytes,pcache_hits,pcache_misses,"
      "pcache_taken,pcache_excesses");
  db_close(db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_equality),
      cmocka_unit_test(test_equality_plain),
      cmocka_unit_test(test_equality_buffered),
      cmocka_unit_test(test_equality_parent_mode),
      cmocka_unit_test(test_exclusive_mode),
      cmocka_unit_test(test_vacuum_converts),
      cmocka_unit_test(test_stock_cannot_write),
      cmocka_unit_test(test_backup),
      cmocka_unit_test(test_vacuum_into_and_attach),
      cmocka_unit_test(test_serialize),
      cmocka_unit_test(test_auto_vacuum),
      cmocka_unit_test(test_lock_page),
      cmocka_unit_test(test_far_away),
      cmocka_unit_test(test_holes),
      cmocka_unit_test(test_no_room),
      cmocka_unit_test(test_read_only),
      cmocka_unit_test(test_direct_policy),
      cmocka_unit_test(test_columns_are_frozen),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
