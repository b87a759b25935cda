/*
** test_vfs_chain.c - overflow chains: that they are read with their first page, or
** with their leaf, in so many reads of the file and no more; that rows without them
** are read as ever; that chains which lead anywhere are what they are with stock
** SQLite. That nothing comes in that is not true any more is shown in
** test_vfs_state.c, where there are two processes.
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../vfs/btree.h"
#include "../vfs/vfs_int.h"
#include "sqlutil.h"

static const char plain[] = "pagedb&pagedb_stamp=off";

/* ------------------------------------------------- reads of the file, counted */

static int reads, in_queue;

int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
void __real_os_queue_submit(os_queue *q, os_request *r, unsigned n);
void __wrap_os_queue_submit(os_queue *q, os_request *r, unsigned n);

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  reads += !in_queue;
  return __real_os_readv(f, iov, n, off, done);
}

/* Which does them by os_readv where there is no AIO. */
void __wrap_os_queue_submit(os_queue *q, os_request *r, unsigned n)
{
  reads += (int)n;
  in_queue = 1;
  __real_os_queue_submit(q, r, n);
  in_queue = 0;
}

typedef struct tally {
  int reads;
  int64_t pages, used, wasted;
} tally;

static int64_t stat_of(sqlite3 *db, const char *name)
{
  return get_int(db, "SELECT value FROM pagedb_stats WHERE name=%Q", name);
}

static tally tally_of(sqlite3 *db)
{
  tally t = {.pages = stat_of(db, "pages_read"),
             .used = stat_of(db, "read_ahead_used"),
             .wasted = stat_of(db, "read_ahead_wasted")};
  t.reads = reads;
  return t;
}

static tally since(sqlite3 *db, tally t)
{
  int n = reads; /* tally_of may read itself */
  tally now = tally_of(db);
  return (tally){n - t.reads, now.pages - t.pages, now.used - t.used,
                 now.wasted - t.wasted};
}

/* ----------------------------------------------------------------- databases */

/* Rows of `bytes`, one after the other, and of no more than a few bytes in small. */
static void make(const char *path, const char *vfs, int page_size, int rows,
                 int bytes)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA page_size=%d; PRAGMA journal_mode=OFF; PRAGMA cache_size=-60000;"
      "CREATE TABLE t(k INTEGER PRIMARY KEY, n, v BLOB);"
      "CREATE TABLE small(k INTEGER PRIMARY KEY, v); BEGIN",
      page_size);
  run(db,
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<%d)"
      " INSERT INTO t SELECT n, n, randomblob(%d) FROM c",
      rows, bytes);
  run(db,
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<%d)"
      " INSERT INTO small SELECT n, hex(randomblob(60)) FROM c; COMMIT",
      rows * 8);
  db_close(db);
}

/* Blobs in pages that others left, every third of them. */
static void make_scattered(const char *path, const char *vfs, int page_size)
{
  make(path, vfs, page_size, 900, page_size * 5 / 4);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "DELETE FROM t WHERE k%%3<>0; INSERT INTO t SELECT k*3-2, k, "
      "randomblob(%d) FROM small WHERE k<=50",
      page_size * 9);
  db_close(db);
}

static sqlite3 *open_cold(const char *path, const char *vfs)
{
  sqlite3 *db = db_open(path, vfs);
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  tally_of(db);
  run(db, "BEGIN; SELECT 1 FROM sqlite_schema");
  return db;
}

static int64_t row_of(sqlite3 *db, int k)
{
  return get_int(db, "SELECT length(hex(v)) FROM t WHERE k=%d", k);
}

/* The first n bytes of a row's blob. */
static void begin_of(sqlite3 *db, int k, int n)
{
  sqlite3_blob *b;
  char buf[16384];
  assert_int_equal(sqlite3_blob_open(db, "main", "t", "v", k, 0, &b),
                   SQLITE_OK);
  assert_int_equal(sqlite3_blob_read(b, buf, n, 0), SQLITE_OK);
  sqlite3_blob_close(b);
}

static uint64_t hash_of(const char *path, const char *vfs)
{
  sqlite3 *db = db_open(path, vfs);
  uint64_t h = content_hash(db);
  db_close(db);
  return h;
}

/* --------------------------------------------------------------------- reads */

/* Rows far from one another: the first ones cost two reads, the leaf and the chain,
** and the others one. */
static void read_together(const char *vfs, int page_size)
{
  const char *path = db_path("chain.db");
  int rows = page_size < 4096 ? 80 : 600; /* below one interior page */
  make(path, vfs, page_size, rows, page_size * 5 / 2);
  sqlite3 *db = open_cold(path, vfs);
  row_of(db, 1); /* the interior pages as well */
  tally t = tally_of(db);
  int all[8];
  for (int i = 0; i < 8; i++) {
    int before = reads;
    assert_int_equal(row_of(db, rows / 9 * (1 + i * 3 % 8)),
                     page_size * 5 / 2 * 2);
    all[i] = reads - before;
  }
  t = since(db, t);
  if (all[7] > 1 || t.reads > 12 || t.used < 8)
    fail_msg("%s, %d: %d reads for 8 rows, %d in the last; %d used, %d wasted",
             vfs, page_size, t.reads, all[7], (int)t.used, (int)t.wasted);
  db_close(db);
  assert_true(hash_of(path, vfs) == hash_of(path, "unix"));
}

static void test_together(void **state)
{
  (void)state;
  read_together("pagedb", 4096);
  read_together(plain, 4096);
  read_together("pagedb", 1024);
  read_together("pagedb", 512);
  read_together("pagedb", 16384);
}

/* A blob handle that goes on to another row keeps the root, which is the interior page
** above: it is not asked for again. */
static void test_handle(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  sqlite3_blob *b;
  char buf[10240];
  make(path, "pagedb", 4096, 400, sizeof buf); /* the root is above leaves */
  sqlite3 *db = open_cold(path, "pagedb");
  assert_int_equal(sqlite3_blob_open(db, "main", "t", "v", 1, 0, &b),
                   SQLITE_OK);
  assert_int_equal(sqlite3_blob_read(b, buf, sizeof buf, 0), SQLITE_OK);
  int before = reads, last = 0;
  for (int i = 0; i < 8; i++) {
    last = reads;
    assert_int_equal(sqlite3_blob_reopen(b, 44 * (1 + i * 3 % 8)), SQLITE_OK);
    assert_int_equal(sqlite3_blob_read(b, buf, sizeof buf, 0), SQLITE_OK);
  }
  if (reads - last > 1 || reads - before > 12)
    fail_msg("%d reads for 8 rows, %d in the last", reads - before,
             reads - last);
  sqlite3_blob_close(b);
  db_close(db);
}

/* Each row costs its leaf, and nothing is read ahead: where no row has a chain, and
** where nobody wants it, even after others did. */
static void alone(sqlite3 *db, const char *sql, int rows)
{
  tally t = tally_of(db);
  for (int i = 0; i < 8; i++)
    get_int(db, sql, rows * (i * 3 % 8) / 8 + rows / 16);
  t = since(db, t);
  if (t.reads > 9 || t.pages != t.reads || t.used + t.wasted > 0)
    fail_msg("%s: %d reads of %d pages, %d used, %d wasted", sql, t.reads,
             (int)t.pages, (int)t.used, (int)t.wasted);
}

static void test_without(void **state)
{
  (void)state;
  enum { ROWS = 600 };
  const char *path = db_path("chain.db");
  make(path, "pagedb", 4096, ROWS, 10000);
  sqlite3 *db = open_cold(path, "pagedb");
  get_int(db, "SELECT v FROM small WHERE k=1");
  alone(db, "SELECT length(v) FROM small WHERE k=%d", ROWS * 4);
  get_int(db, "SELECT n FROM t WHERE k=2");
  alone(db, "SELECT n FROM t WHERE k=%d", ROWS);
  db_close(db);
  db = open_cold(path, "pagedb");
  get_int(db, "SELECT v FROM small WHERE k=1");
  for (int i = 0; i < 10; i++)
    row_of(db, 10 + i * 50);
  alone(db, "SELECT length(v) FROM small WHERE k=%d", ROWS * 4);
  /* Here it has to be found out. */
  tally t = tally_of(db);
  for (int i = 0; i < 100; i++)
    get_int(db, "SELECT n FROM t WHERE k=%d", 3 + i * 41 % ROWS);
  t = since(db, t);
  assert_true(t.pages < t.reads + 4 * 4);
  db_close(db);
}

/* Chains that are not in order cost what their pages cost, or a little more. */
static void test_scattered(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  make_scattered(path, "pagedb", 4096);
  sqlite3 *db = open_cold(path, "pagedb");
  row_of(db, 1);
  tally t = tally_of(db);
  for (int i = 1; i < 50; i++)
    assert_int_equal(row_of(db, i * 31 % 50 * 3 + 1), 4096 * 18);
  t = since(db, t);
  if (t.pages > 49 * 9 * 5 / 4 + 100)
    fail_msg("%d reads of %d pages, %d used, %d wasted", t.reads, (int)t.pages,
             (int)t.used, (int)t.wasted);
  db_close(db);
  assert_true(hash_of(path, "pagedb") == hash_of(path, "unix"));
}

/* A long one is read in parts, in front of who walks it and not behind its end. Who
** wants its beginning alone gets little more. */
static void test_long(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  make(path, "pagedb", 4096, 6, 1 << 20);
  sqlite3 *db = open_cold(path, "pagedb");
  get_int(db, "SELECT n FROM t WHERE k=4");
  tally t = tally_of(db);
  assert_int_equal(row_of(db, 4), 2 << 20);
  t = since(db, t);
  if (t.reads > 6 || t.pages < 257 || t.pages > 260 || t.wasted > 0)
    fail_msg("%d reads of %d pages, %d wasted", t.reads, (int)t.pages,
             (int)t.wasted);
  t = tally_of(db);
  begin_of(db, 2, 5000);
  t = since(db, t);
  assert_true(t.reads <= 3);
  assert_true(t.pages <= 36);
  db_close(db);
}

/* One that goes on elsewhere is not read past the place where it leaves. */
static void test_broken(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  make(path, "pagedb", 4096, 40, 120000);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "DELETE FROM t WHERE k=20");
  run(db, "INSERT INTO t VALUES(20, 20, randomblob(600000))");
  db_close(db);
  db = open_cold(path, "pagedb");
  get_int(db, "SELECT n FROM t WHERE k=20");
  tally t = tally_of(db);
  assert_int_equal(row_of(db, 20), 1200000);
  t = since(db, t);
  if (t.pages < 140 || t.pages > 170 || t.reads > 12)
    fail_msg("%d reads of %d pages, %d wasted", t.reads, (int)t.pages,
             (int)t.wasted);
  db_close(db);
}

/* A pointer-map page within it does not end a chain. */
static void test_pointer_maps(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA page_size=512; PRAGMA auto_vacuum=1;"
          "CREATE TABLE first(v); INSERT INTO first VALUES(zeroblob(4096));"
          "CREATE TABLE t(k INTEGER PRIMARY KEY, n, v BLOB);"
          "INSERT INTO t VALUES(1, 1, randomblob(400000))");
  db_close(db);
  db = open_cold(path, "pagedb");
  get_int(db, "SELECT n FROM t WHERE k=1");
  tally t = tally_of(db);
  assert_int_equal(row_of(db, 1), 800000);
  t = since(db, t);
  if (t.reads > 8)
    fail_msg("%d reads of %d pages, %d wasted", t.reads, (int)t.pages,
             (int)t.wasted);
  db_close(db);
}

/* In keys of an index, of leaves and of interior pages, and in a table that is one.
*/
static void test_index(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  for (int without = 0; without < 2; without++) {
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db,
        "PRAGMA page_size=1024; CREATE TABLE t(a TEXT PRIMARY KEY, b) %s;"
        "BEGIN; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c "
        "WHERE n<300) INSERT INTO t SELECT printf('%%05d', n)||"
        "hex(zeroblob(4000)), n FROM c; COMMIT",
        without ? "WITHOUT ROWID" : "");
    db_close(db);
    db = open_cold(path, "pagedb");
    tally t = tally_of(db);
    for (int i = 1; i < 100; i++)
      assert_int_equal(get_int(db,
                               "SELECT b FROM t WHERE a=printf('%%05d', "
                               "%d)||hex(zeroblob(4000))",
                               i * 77 % 300 + 1),
                       i * 77 % 300 + 1);
    t = since(db, t);
    if (t.reads > t.pages / 3 || t.used < t.pages / 2)
      fail_msg("%d reads of %d pages, %d used, %d wasted", t.reads,
               (int)t.pages, (int)t.used, (int)t.wasted);
    db_close(db);
    assert_true(hash_of(path, "pagedb") == hash_of(path, "unix"));
  }
}

/* Every size of page and journal, with pointer maps; reading and writing. */
static void test_equal(void **state)
{
  (void)state;
  static const char *const journal[] = {"DELETE", "WAL"};
  const char *path = db_path("chain.db");
  for (int size = 512; size <= 65536; size *= 2)
    for (int i = 0; i < 4; i++) {
      const char *vfs = i % 2 ? "pagedb" : plain;
      db_remove(path);
      sqlite3 *db = db_open(path, vfs);
      run(db,
          "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d; PRAGMA journal_mode=%s;"
          "PRAGMA mmap_size=%d; CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB);"
          "BEGIN",
          size, i < 2, journal[i / 2], i == 3 ? 0 : 1 << 30);
      run(db,
          "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<100) INSERT INTO t SELECT n*37%%101, randomblob(n*n*%d) FROM c; "
          "COMMIT",
          size / 512);
      db_close(db);
      db = db_open(path, vfs);
      run(db, "UPDATE t SET v=v||v WHERE k%%5=0; DELETE FROM t WHERE k%%7=0;"
              "UPDATE t SET v=substr(v,1,length(v)/3) WHERE k%%11=0;"
              "INSERT INTO t SELECT 1000+k, v FROM t WHERE k%%3=0");
      uint64_t ours = content_hash(db);
      db_close(db);
      assert_true(ours == hash_of(path, "unix"));
      assert_true(ours == hash_of(path, vfs));
    }
}

/* A pool that has no room for a chain. */
static void test_small_pool(void **state)
{
  (void)state;
  static const int bytes[] = {65536, 131072, 1 << 20, 4 << 20};
  const char *path = db_path("chain.db");
  make(path, "pagedb", 4096, 20, 300000);
  uint64_t wanted = hash_of(path, "unix");
  sqlite3 *db = db_open(path, "pagedb");
  int64_t before = get_int(db, "PRAGMA pagedb_pool_size");
  for (int i = 3; i >= 0; i--) {
    run(db, "PRAGMA pagedb_pool_size=%d", bytes[i]);
    sqlite3_db_release_memory(db);
    assert_true(content_hash(db) == wanted);
    assert_true(stat_of(db, "pool_used_bytes") <= bytes[i]);
  }
  run(db, "PRAGMA pagedb_pool_size=%lld", before);
  db_close(db);
}

/* ------------------------------------------------------------------- nonsense */

/* What rows give, in another order than theirs. */
static uint64_t outcome(const char *path, const char *vfs)
{
  sqlite3_stmt *st;
  sqlite3 *db = db_open(path, vfs);
  uint64_t h = 0;
  int rc = sqlite3_prepare_v2(db, "SELECT v FROM t WHERE k=?", -1, &st, NULL);
  for (int i = 0; rc == SQLITE_OK && i < 60; i++) {
    sqlite3_bind_int(st, 1, i * 17 % 60 + 1);
    if ((rc = sqlite3_step(st)) == SQLITE_ROW)
      h = h * 31 + fnv1a(sqlite3_column_blob(st, 0),
                         (size_t)sqlite3_column_bytes(st, 0));
    h = h * 31 + (uint64_t)rc;
    rc = SQLITE_OK;
    sqlite3_reset(st);
  }
  sqlite3_finalize(st);
  db_close(db);
  return h;
}

/* Pages of chains lead to themselves, back, to page 1, to the lock-byte page, out of
** the file, nowhere; cells lie about their length: we do what stock does. */
static void test_nonsense(void **state)
{
  (void)state;
  enum { SIZE = 1024 };
  const char *path = db_path("chain.db"), *copy = db_path("copy.db");
  uint64_t seed = test_seed("chains", 20261121);
  make(copy, plain, SIZE, 60, 12000);
  uint64_t pages = file_bytes_of(copy) / SIZE;
  for (unsigned i = 0; i < scaled(80); i++) {
    file_copy(copy, path);
    for (int n = 0; n < 40; n++) {
      uint64_t id = 4 + random_below(&seed, pages - 4);
      uint32_t to[] = {(uint32_t)id + 1,
                       (uint32_t)id - 1,
                       0,
                       1,
                       (uint32_t)pages + 1,
                       UINT32_MAX,
                       (uint32_t)(PAGEDB_LOCK_BYTE / SIZE) + 1,
                       (uint32_t)random_below(&seed, pages) + 1};
      uint8_t page[SIZE];
      file_read_at(path, id * SIZE, page, SIZE);
      if (page[0] == 13) {
        /* The first cell's length, or where it is. */
        uint32_t cell = (uint32_t)page[8] << 8 | page[9];
        uint64_t at = random_below(&seed, 2) ? cell % SIZE : 8;
        page[at] = (uint8_t)random_below(&seed, 256);
        page[at + (at + 1 < SIZE)] = (uint8_t)random_below(&seed, 256);
      } else if (page[0] == 0) {
        put_be32(page, to[random_below(&seed, 8)]);
      }
      file_write_at(path, id * SIZE, page, SIZE);
    }
    assert_true(outcome(path, "unix") == outcome(path, plain));
  }
}

/* A page of a chain that is damaged, and read with others, is said once, to who
** wants it. */
static void test_damage(void **state)
{
  (void)state;
  const char *path = db_path("chain.db");
  make(path, "pagedb", 4096, 40, 100000);
  sqlite3 *db = open_cold(path, "pagedb");
  row_of(db, 20);
  conn *c;
  sqlite3_file *f = NULL;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
  c = conn_of(f);
  uint64_t at =
      c->recent[(c->nrecent + RECENT_PAGES - 1) % RECENT_PAGES] * 4096;
  db_close(db);
  uint8_t byte, bad;
  file_read_at(path, at + 2000, &byte, 1);
  bad = byte ^ 1;
  file_write_at(path, at + 2000, &bad, 1);
  db = open_cold(path, "pagedb");
  int64_t failures = stat_of(db, "failures_crc");
  begin_of(db, 20, 9000);
  assert_int_equal(stat_of(db, "failures_crc"), failures);
  assert_int_equal(row_of(db, 30), 200000);
  assert_int_equal(try_run(db, "SELECT length(hex(v)) FROM t WHERE k=20"),
                   SQLITE_IOERR_DATA);
  assert_int_equal(stat_of(db, "failures_crc"), failures + 1);
  db_close(db);
}

/* --------------------------------------------------------------------- cells */

enum { PAGE = 512 };

static void leaf_with(uint8_t *page, int type, unsigned cells, unsigned at,
                      const uint8_t *cell, unsigned n)
{
  memset(page, 0, PAGE);
  page[0] = (uint8_t)type;
  page[4] = (uint8_t)cells;
  page[type == 2 ? 12 : 8] = (uint8_t)(at >> 8);
  page[type == 2 ? 13 : 9] = (uint8_t)at;
  memcpy(page + at, cell, n);
}

/* By the file format, section 1.6: usable 512, so at most 477 bytes of a table's row
** stand in its leaf, 102 of an index key; at least 39. */
static void test_cells(void **state)
{
  (void)state;
  uint8_t page[PAGE], *cell = malloc(PAGE);
  /* A row of 1000: 39 + (1000 - 39) % 508 = 492 are too many, so 39 and two pages. */
  const uint8_t row[] = {0x87, 0x68, 1};
  leaf_with(page, 13, 1, 300, row, sizeof row);
  put_be32(page + 303 + 39, 77);
  assert_int_equal(btree_chain(page, PAGE, 9, 77), 2);
  assert_int_equal(btree_chain(page, PAGE, 9, 78), 0);
  assert_int_equal(btree_chain(page, PAGE, 9, 0), 0);
  page[0] = 5;
  assert_int_equal(btree_chain(page, PAGE, 9, 77), 0);
  /* A key of 600: 39 + 561 % 508 = 92 stand there, and 508 in one page. */
  const uint8_t key[] = {0x84, 0x58};
  leaf_with(page, 10, 1, 300, key, sizeof key);
  put_be32(page + 302 + 92, 5);
  assert_int_equal(btree_chain(page, PAGE, 9, 5), 1);
  const uint8_t inner[] = {0, 0, 0, 3, 0x84, 0x58};
  leaf_with(page, 2, 1, 300, inner, sizeof inner);
  put_be32(page + 306 + 92, 5);
  assert_int_equal(btree_chain(page, PAGE, 9, 5), 1);
  assert_int_equal(btree_chain(page, PAGE, 9, 3), 0);
  /* The longest length there is; cells that end behind the page. */
  uint8_t most[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
  leaf_with(page, 13, 255, 300, most, sizeof most);
  for (uint32_t at = 0; at < 200; at++)
    btree_chain(page, PAGE, 9, get_be32(page + 300 + at));
  for (unsigned at = 490; at + 1 < PAGE; at++) {
    leaf_with(page, 13, 255, at, most, at + 10 < PAGE ? 10 : PAGE - at);
    memcpy(cell, page, PAGE);
    assert_int_equal(btree_chain(cell, PAGE, 9, 0x01000000), 0);
  }
  free(cell);
}

/* Pages full of anything: nothing behind them is looked at (sanitizers, valgrind). */
static void test_random_cells(void **state)
{
  (void)state;
  static const uint8_t type[] = {13, 10, 2, 5};
  uint64_t seed = test_seed("cells", 20261121);
  unsigned found = 0;
  for (unsigned i = 0; i < scaled(20000); i++) {
    uint32_t usable = 480 + (uint32_t)random_below(&seed, PAGE - 480 + 1);
    uint8_t *page = malloc(usable);
    for (uint32_t at = 0; at < usable; at++)
      page[at] = (uint8_t)(random_below(&seed, 4) ? random_below(&seed, 256)
                                                  : random_below(&seed, 3));
    page[0] = type[random_below(&seed, 4)];
    page[3] = (uint8_t)random_below(&seed, 3);
    for (uint32_t at = 0; at < 64; at++)
      page[8 + 2 * at] &= 1;
    for (uint32_t at = 200; at + 4 <= usable; at += 3)
      found += btree_chain(page, usable, 1, get_be32(page + at)) > 0;
    free(page);
  }
  assert_true(found > 0);
}

static int setup(void **state)
{
  (void)state;
  sql_start();
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_together),     cmocka_unit_test(test_handle),
      cmocka_unit_test(test_without),      cmocka_unit_test(test_scattered),
      cmocka_unit_test(test_long),         cmocka_unit_test(test_broken),
      cmocka_unit_test(test_pointer_maps), cmocka_unit_test(test_index),
      cmocka_unit_test(test_equal),        cmocka_unit_test(test_small_pool),
      cmocka_unit_test(test_nonsense),     cmocka_unit_test(test_damage),
      cmocka_unit_test(test_cells),        cmocka_unit_test(test_random_cells),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
