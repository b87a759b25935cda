/*
** test_vfs_edges.c - edges of the VFS: free lists, headers and wal-indexes that
** nobody made, calls in an order that SQLite does not use, connections that are not
** known, and a lock-byte page that is in the middle of a small file. In one file,
** long as it is, because all of it begins with the same small databases (make_with)
** and reads that fail or wait.
*/
#define _DEFAULT_SOURCE
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/endian.h"
#include "../core/pool_int.h"
#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "vfsutil.h"

enum { SIZE = 4096, RECORD = 32 };

/* Some hundred pages, some of them free. */
static sqlite3 *make_with(const char *path, const char *vfs,
                          const char *journal)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA page_size=%d; PRAGMA journal_mode=%s; CREATE TABLE t(a, b); "
      "CREATE TABLE gone(x)",
      SIZE, journal);
  run(db, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<300) INSERT INTO t SELECT n, hex(zeroblob(100)) FROM c; INSERT "
          "INTO gone SELECT zeroblob(3000) FROM t; DELETE FROM gone");
  return db;
}

static sqlite3 *make(const char *path, const char *journal)
{
  return make_with(path, "pagedb", journal);
}

/* Plain, and keeps 32 bytes of each page free. */
static void make_plain_32(const char *path)
{
  db_close(make(path, "DELETE"));
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA pagedb_unstamp");
  db_close(db);
}

static uint64_t page_count(const char *path)
{
  return file_bytes_of(path) / SIZE;
}

static int control(conn *c, int op, void *arg)
{
  return c->base.pMethods->xFileControl(&c->base, op, arg);
}

/* The answer, or the sentence, of a PRAGMA; an SQLite code. */
static int pragma(conn *c, const char *name, const char *value, char *answer,
                  size_t n)
{
  char *arg[3] = {NULL, (char *)(uintptr_t)name, (char *)(uintptr_t)value};
  int rc = control(c, SQLITE_FCNTL_PRAGMA, arg);
  snprintf(answer, n, "%s", arg[0] == NULL ? "" : arg[0]);
  sqlite3_free(arg[0]);
  return rc;
}

/* How many reads from now on fail. */
static _Atomic int failing_reads;

int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *got);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *got);

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *got)
{
  if (failing_reads > 0) {
    failing_reads--;
    return pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0, "a test");
  }
  return __real_os_readv(f, iov, n, off, got);
}

static uint64_t invalidations(void)
{
  return atomic_load(&pagedb_globals.count.invalidations);
}

/* --------------------------------------------------------- hostile free lists */

static void write_stamped(const char *path, uint64_t number, uint8_t *page)
{
  pagedb_page_stamp(page, SIZE, PAGEDB_TRAILING, number - 1, 5);
  file_write_at(path, (number - 1) * SIZE, page, SIZE);
}

/* Pages from 40 on, all of them free, are what each test makes of them. */
enum { TRUNK = 40, TRUNK_2 = 41, LEAF = 50, LEAF_2 = 51 };

static int mend(sqlite3 *db, const uint8_t *page1)
{
  conn *c = conn_in(db);
  int rc = SQLITE_OK;
  for (int level = SQLITE_LOCK_SHARED; level <= SQLITE_LOCK_EXCLUSIVE; level++)
    if (level != SQLITE_LOCK_PENDING)
      rc |= c->base.pMethods->xLock(&c->base, level);
  assert_int_equal(rc, SQLITE_OK);
  int err = mend_leaves(c, page1, 77);
  assert_int_equal(c->base.pMethods->xUnlock(&c->base, SQLITE_LOCK_NONE),
                   SQLITE_OK);
  return err;
}

static int is_blank(const char *path, uint64_t number)
{
  uint8_t page[SIZE];
  uint64_t lsn = 0;
  file_read_at(path, (number - 1) * SIZE, page, SIZE);
  return all_zero(page, SIZE - RECORD) &&
         pagedb_page_verify(page, SIZE, SIZE, PAGEDB_TRAILING, number - 1,
                            &lsn) == PAGEDB_OK &&
         lsn == 77;
}

/* Torn leaves are mended as far as the list makes sense, and nothing else is
** written. */
static void test_hostile_free_list(void **state)
{
  (void)state;
  const char *path = db_path("list.db");
  sqlite3 *db = make(path, "DELETE");
  uint8_t page1[SIZE], trunk[SIZE], torn[SIZE], before[SIZE], now[SIZE];
  const uint32_t pages = (uint32_t)page_count(path);
  assert_true(pages > 100);
  memset(torn, 'x', sizeof torn);
  file_read_at(path, 0, page1, SIZE);
  file_read_at(path, 10 * SIZE, before, SIZE);
  static const struct {
    uint32_t next, leaves, leaf[4];
    int mended, second; /* LEAF; LEAF_2, by the second trunk */
  } lists[] = {
      {0, 1, {LEAF}, 1, 0},
      {0, UINT32_MAX, {LEAF}, 1, 0},          /* more than there is room for */
      {0, 4, {0, 1, UINT32_MAX, LEAF}, 1, 0}, /* numbers of no free page */
      {TRUNK, 1, {LEAF}, 1, 0},               /* a circle */
      {UINT32_MAX, 1, {LEAF}, 1, 0},          /* a trunk behind the file */
      {1, 1, {LEAF}, 1, 0},                   /* page 1 is no trunk */
      {TRUNK_2, 1, {LEAF}, 1, 1},             /* another */
      {LEAF_2, 0, {0}, 0, 0},                 /* one that does not verify */
  };
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
    memset(trunk, 0, SIZE);
    put_be32(trunk, lists[i].next);
    put_be32(trunk + 4, lists[i].leaves);
    for (int k = 0; k < 4; k++)
      put_be32(trunk + 8 + 4 * k, lists[i].leaf[k]);
    write_stamped(path, TRUNK, trunk);
    memset(trunk, 0, SIZE);
    put_be32(trunk + 4, 1);
    put_be32(trunk + 8, LEAF_2);
    write_stamped(path, TRUNK_2, trunk);
    file_write_at(path, (uint64_t)(LEAF - 1) * SIZE, torn, SIZE);
    file_write_at(path, (uint64_t)(LEAF_2 - 1) * SIZE, torn, SIZE);
    put_be32(page1 + 28, pages);
    put_be32(page1 + 32, TRUNK);
    assert_int_equal(mend(db, page1), PAGEDB_OK);
    assert_int_equal(is_blank(path, LEAF), lists[i].mended);
    assert_int_equal(is_blank(path, LEAF_2), lists[i].second);
    file_read_at(path, 10 * SIZE, now, SIZE);
    assert_memory_equal(before, now, SIZE);
  }
  /* Page 1 counts more pages than there are, or fewer than the list names. */
  static const uint32_t counts[] = {UINT32_MAX, TRUNK, TRUNK - 1, 0};
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
    memset(trunk, 0, SIZE);
    put_be32(trunk + 4, 2);
    put_be32(trunk + 8, LEAF);
    put_be32(trunk + 12, pages + 5);
    write_stamped(path, TRUNK, trunk);
    file_write_at(path, (uint64_t)(LEAF - 1) * SIZE, torn, SIZE);
    put_be32(page1 + 28, counts[i]);
    assert_int_equal(mend(db, page1), PAGEDB_OK);
    assert_int_equal(is_blank(path, LEAF), i == 0);
    assert_int_equal(page_count(path), pages);
  }
  db_close(db);
}

/* ------------------------------------------------------------ orders of calls */

static int lock_to(conn *c, int level)
{
  return c->base.pMethods->xLock(&c->base, level);
}

static void unlock(conn *c)
{
  assert_int_equal(c->base.pMethods->xUnlock(&c->base, SQLITE_LOCK_NONE),
                   SQLITE_OK);
}

static int write_at(conn *c, const void *buf, int n, sqlite3_int64 off)
{
  return c->base.pMethods->xWrite(&c->base, buf, n, off);
}

/* A write under EXCLUSIVE without RESERVED is a playback, unless there is another
** reason for it. */
static void test_kinds_of_writes(void **state)
{
  (void)state;
  const char *path = db_path("kinds.db");
  sqlite3 *db = make(path, "DELETE");
  conn *c = conn_in(db);
  uint8_t page[SIZE];
  file_read_at(path, 5 * SIZE, page, SIZE);
  memset(page + SIZE - RECORD, 0, RECORD);
  enum { ALONE, RESERVED, CREATED, HOT, NO_LOCK, WAL, WAYS };
  for (int way = 0; way < WAYS; way++) {
    assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
    if (way == RESERVED)
      assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
    assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
    c->journal = way == CREATED ? JOURNAL_CREATED
                 : way == HOT   ? JOURNAL_HOT
                                : JOURNAL_UNSEEN;
    c->no_lock = way == NO_LOCK;
    atomic_store(&c->file->wal, way == WAL);
    assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
    assert_ptr_equal(atomic_load(&c->file->writer), c);
    assert_int_equal(c->file->txn.kind,
                     way == ALONE || way == HOT ? TXN_PLAYBACK : TXN_FORWARD);
    assert_int_equal(control(c, SQLITE_FCNTL_SYNC, NULL) & 0xff,
                     SQLITE_NOTFOUND);
    control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
    assert_null(atomic_load(&c->file->writer));
    c->no_lock = 0;
    atomic_store(&c->file->wal, 0);
    unlock(c);
  }
  db_close(db);
  assert_whole(path, 1);
}

/* What SQLite never asks for: pieces of pages over one that is pinned, less than a
** header, more than a page; xSync without the call that comes before it. */
static void test_odd_writes(void **state)
{
  (void)state;
  const char *path = db_path("writes.db");
  sqlite3 *db = make_with(path, "pagedb&pagedb_stamp=off", "DELETE");
  conn *c = conn_in(db);
  static uint8_t big[20 * SIZE], back[20 * SIZE], was[20 * SIZE];
  sqlite3_int64 limit = (sqlite3_int64)1 << 40;
  void *page = NULL;
  control(c, SQLITE_FCNTL_MMAP_SIZE, &limit);
  file_read_at(path, 0, was, sizeof was);
  memcpy(big, was, sizeof big);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(c->base.pMethods->xFetch(&c->base, 6 * SIZE, SIZE, &page),
                   SQLITE_OK);
  assert_non_null(page);
  assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
  assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
  uint64_t bumps = invalidations();
  memset(big + 6 * SIZE, 'p', 512);
  assert_int_equal(write_at(c, big + 6 * SIZE, 512, 6 * SIZE), SQLITE_OK);
  /* The pinned frame is found no more. */
  assert_true(invalidations() > bumps);
  assert_int_equal(c->base.pMethods->xUnfetch(&c->base, 6 * SIZE, page),
                   SQLITE_OK);
  assert_int_equal(c->base.pMethods->xRead(&c->base, back, SIZE, 6 * SIZE),
                   SQLITE_OK);
  assert_memory_equal(back, big + 6 * SIZE, SIZE);
  memset(big + 60, 7, 10);
  assert_int_equal(write_at(c, big + 60, 10, 60), SQLITE_OK);
  assert_int_equal(write_at(c, big, 64, 0), SQLITE_OK);
  memset(big + 17 * SIZE, 'q', 3 * SIZE);
  assert_int_equal(write_at(c, big, sizeof big, 0), SQLITE_OK);
  memset(big + 9 * SIZE, 'r', SIZE);
  assert_int_equal(write_at(c, big + 9 * SIZE, SIZE, 9 * SIZE), SQLITE_OK);
  assert_int_equal(c->file->txn.unjoined, 1);
  assert_int_equal(c->base.pMethods->xSync(&c->base, SQLITE_SYNC_NORMAL),
                   SQLITE_OK);
  assert_int_equal(c->file->txn.unjoined, 0);
  assert_int_equal(c->base.pMethods->xSync(&c->base, SQLITE_SYNC_NORMAL),
                   SQLITE_OK);
  file_read_at(path, 0, back, sizeof back);
  assert_memory_equal(back, big, sizeof big);
  assert_int_equal(write_at(c, was, sizeof was, 0), SQLITE_OK);
  /* Nothing changes with a length that the file has, or beyond it. */
  uint64_t bytes = file_bytes_of(path);
  assert_int_equal(c->base.pMethods->xTruncate(&c->base, (sqlite3_int64)bytes),
                   SQLITE_OK);
  assert_int_equal(file_bytes_of(path), bytes);
  assert_int_equal(control(c, SQLITE_FCNTL_SYNC, NULL) & 0xff, SQLITE_NOTFOUND);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  assert_int_equal(c->base.pMethods->xTruncate(&c->base, (sqlite3_int64)bytes),
                   SQLITE_OK);
  unlock(c);
  db_close(db);
  assert_whole(path, 0);
}

/* A piece that leaves a page's last bytes alone gets a stamp with its page; one that
** does not, or ruins page 1, is refused while other pages stay. */
static void test_odd_writes_into_stamped(void **state)
{
  (void)state;
  const char *path = db_path("pieces.db");
  static const struct {
    int n, off, refused;
  } pieces[] = {{512, 4 * SIZE, 0}, {SIZE, 4 * SIZE + 512, 1}, {512, 0, 1}};
  uint8_t page[SIZE], now[SIZE];
  for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
    sqlite3 *db = make(path, "DELETE");
    conn *c = conn_in(db);
    memset(page, 'x', sizeof page);
    assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
    assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
    assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
    assert_int_equal(write_at(c, page, pieces[i].n, pieces[i].off), SQLITE_OK);
    int rc = control(c, SQLITE_FCNTL_SYNC, NULL);
    if (pieces[i].refused) {
      assert_int_equal(rc, SQLITE_IOERR_WRITE);
      assert_non_null(strstr(first_log(), "of which others stay"));
      /* The same answer for a sync without it. */
      assert_int_equal(c->base.pMethods->xSync(&c->base, SQLITE_SYNC_NORMAL),
                       SQLITE_IOERR_WRITE);
    } else {
      uint64_t lsn;
      assert_int_equal(rc & 0xff, SQLITE_NOTFOUND);
      control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
      file_read_at(path, (uint64_t)pieces[i].off, now, SIZE);
      assert_memory_equal(now, page, (size_t)pieces[i].n);
      ok(pagedb_page_verify(now, SIZE, SIZE, PAGEDB_TRAILING,
                            (uint64_t)pieces[i].off / SIZE, &lsn));
    }
    if (pieces[i].off != 0) {
      file_read_at(path, 0, now, SIZE);
      assert_int_equal(now[18], 0x51);
    }
    unlock(c);
    db_close(db);
  }
}

static void lock_exclusive(conn *c)
{
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
  assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
}

static void write_pages(conn *c, const uint8_t *all, uint64_t from, uint64_t to)
{
  for (uint64_t id = from; id < to; id++)
    assert_int_equal(
        write_at(c, all + id * SIZE, SIZE, (sqlite3_int64)(id * SIZE)),
        SQLITE_OK);
}

static void join(conn *c)
{
  assert_int_equal(control(c, SQLITE_FCNTL_SYNC, NULL) & 0xff, SQLITE_NOTFOUND);
}

/* What the pool does by itself where it is short of room. */
static void flush_early(conn *c)
{
  ok(pagedb_flush(c->session, atomic_load(&c->file->owner)));
}

/* A page 1 that is another one, by its counters, and keeps 32 bytes free. */
static void change_page1(uint8_t *page1)
{
  page1[HEADER_RESERVE] = RECORD;
  page1[HEADER_CHANGE_COUNTER + 3] ^= 0x55;
  page1[HEADER_VERSION_VALID_FOR + 3] ^= 0x55;
}

static void clean_tails(uint8_t *all, uint64_t pages)
{
  for (uint64_t id = 0; id < pages; id++)
    memset(all + (id + 1) * SIZE - RECORD, 0, RECORD);
}

static void assert_file_is(const char *path, const uint8_t *all, size_t n)
{
  size_t got = 0;
  unsigned char *now = read_whole(path, &got);
  assert_non_null(now);
  assert_int_equal(got, n);
  for (size_t at = 0; at < n; at += SIZE)
    if (memcmp(now + at, all + at, SIZE) != 0)
      fail_msg("page %d is another one", (int)(at / SIZE) + 1);
  free(now);
}

/* A join that failed had settled how pages go out; what is written then is none of
** its business, and is plain from the first byte to the last. */
static void test_plain_after_a_failed_join(void **state)
{
  (void)state;
  const char *path = db_path("failed.db");
  size_t n = 0;
  db_close(make(path, "DELETE"));
  uint8_t *stamped = read_whole(path, &n), *plain = read_whole(path, &n);
  uint64_t pages = n / SIZE;
  change_page1(stamped);
  clean_tails(stamped, pages);
  memset(plain + SIZE, 77, n - SIZE);
  change_page1(plain);
  plain[HEADER_RESERVE] = 0;
  plain[HEADER_READ_VERSION - 1] = 1;
  sqlite3 *db = db_open(path, "pagedb");
  conn *c = conn_in(db);
  sqlite3_int64 bytes = 0;
  lock_exclusive(c);
  control(c, SQLITE_FCNTL_OVERWRITE, &bytes);
  write_pages(c, stamped, 0, pages);
  flush_early(c);
  failing_reads = 1000;
  int rc = control(c, SQLITE_FCNTL_SYNC, NULL);
  failing_reads = 0;
  assert_int_not_equal(rc & 0xff, SQLITE_NOTFOUND);
  write_pages(c, plain, 0, pages);
  join(c);
  assert_int_equal(atomic_load(&c->file->stamped), 0);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  unlock(c);
  db_close(db);
  assert_file_is(path, plain, n);
  free(stamped);
  free(plain);
}

/* A VACUUM made a stamped file, and its commit failed: what comes back uses the last
** bytes of its pages, and none of it is stamped, however early it goes out. */
static void test_plain_again_after_vacuum(void **state)
{
  (void)state;
  const char *path = db_path("again.db");
  size_t n = 0;
  sqlite3_int64 bytes = 0;
  db_close(make_with(path, "pagedb&pagedb_stamp=off", "DELETE"));
  uint8_t *was = read_whole(path, &n), *now = read_whole(path, &n);
  change_page1(now);
  clean_tails(now, n / SIZE);
  assert_int_not_equal(memcmp(was + SIZE, now + SIZE, n - SIZE), 0);
  sqlite3 *db = db_open(path, "pagedb");
  conn *c = conn_in(db);
  lock_exclusive(c);
  control(c, SQLITE_FCNTL_OVERWRITE, &bytes);
  write_pages(c, now, 0, n / SIZE);
  join(c);
  assert_int_equal(atomic_load(&c->file->stamped), 1);
  write_pages(c, was, 0, n / SIZE);
  flush_early(c);
  join(c);
  assert_int_equal(atomic_load(&c->file->stamped), 0);
  unlock(c);
  db_close(db);
  assert_file_is(path, was, n);
  free(was);
  free(now);
}

/* A stamped file is replaced, and it is seen late that it is: what went out with a
** stamp goes out once more, without. */
static void test_replacement_seen_late(void **state)
{
  (void)state;
  const char *path = db_path("late.db");
  size_t n = 0;
  db_close(make(path, "DELETE"));
  uint8_t *now = read_whole(path, &n);
  uint64_t pages = n / SIZE;
  change_page1(now);
  now[HEADER_READ_VERSION - 1] = 1;
  clean_tails(now, pages);
  for (uint64_t id = 1; id < pages; id++)
    memset(now + id * SIZE, (int)(id % 250) + 1,
           id < pages / 2 ? SIZE - RECORD : SIZE);
  sqlite3 *db = db_open(path, "pagedb");
  conn *c = conn_in(db);
  lock_exclusive(c);
  write_pages(c, now, 0, pages / 2);
  flush_early(c);
  write_pages(c, now, pages / 2, pages);
  join(c);
  assert_int_equal(atomic_load(&c->file->stamped), 0);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  unlock(c);
  db_close(db);
  assert_file_is(path, now, n);
  free(now);
}

/* A database that keeps 32 bytes free, of which only the last page uses them. */
static void make_foreign(const char *source, int size)
{
  int reserve = RECORD;
  db_remove(source);
  sqlite3 *db = db_open(source, "unix");
  sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
  run(db,
      "PRAGMA page_size=%d; CREATE TABLE z(x); INSERT INTO z "
      "VALUES(randomblob(500000))",
      size);
  db_close(db);
  file_write_at(source, file_bytes_of(source) - RECORD, "f", 1);
}

/* Plain, and nothing has got a stamp. */
static void assert_is_copy(const char *path, const char *source)
{
  size_t n = 0, got = 0;
  unsigned char *was = read_whole(source, &n), *now = read_whole(path, &got);
  assert_int_equal(got, n);
  assert_int_equal(now[GUARD_AT], 1);
  /* Page 1 has another change counter. */
  assert_memory_equal(now + HEADER_BYTES, was + HEADER_BYTES, n - HEADER_BYTES);
  free(was);
  free(now);
}

/* The same by a backup, over a stamped file, a plain one, and none. Only the last page
** has a foreign tail: until that is met nothing else has got a stamp. */
static void test_backup_of_a_foreign_tail(void **state)
{
  (void)state;
  const char *path = db_path("tails.db"), *source = db_path("tails-from.db");
  for (int i = 0; i < 6; i++) {
    make_foreign(source, i % 2 == 0 ? 512 : SIZE);
    sqlite3 *from = db_open(source, "unix"), *to;
    if (i / 2 == 0) {
      to = make(path, "DELETE");
    } else if (i / 2 == 1) {
      to = make_with(path, "pagedb&pagedb_stamp=off", "DELETE");
      db_close(to);
      to = db_open(path, "pagedb");
    } else {
      db_remove(path);
      to = db_open(path, "pagedb");
    }
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
    assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
    db_close(to);
    db_close(from);
    assert_is_copy(path, source);
  }
}

/* A page is pinned behind the cut: it is found no more, and nothing is lost of what
** was written in front of it. */
static void test_cut_in_front_of_a_pin(void **state)
{
  (void)state;
  const char *path = db_path("cut.db");
  sqlite3 *db = make(path, "DELETE");
  conn *c = conn_in(db);
  uint8_t page[SIZE], now[SIZE];
  sqlite3_int64 limit = (sqlite3_int64)1 << 40;
  void *pinned = NULL;
  control(c, SQLITE_FCNTL_MMAP_SIZE, &limit);
  lock_exclusive(c);
  assert_int_equal(c->base.pMethods->xFetch(&c->base, 50 * SIZE, SIZE, &pinned),
                   SQLITE_OK);
  assert_non_null(pinned);
  memset(page, 'c', SIZE - RECORD);
  memset(page + SIZE - RECORD, 0, RECORD);
  assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
  assert_int_equal(c->base.pMethods->xTruncate(&c->base, 45 * SIZE), SQLITE_OK);
  assert_int_equal(c->base.pMethods->xUnfetch(&c->base, 50 * SIZE, pinned),
                   SQLITE_OK);
  join(c);
  assert_int_equal(c->base.pMethods->xFetch(&c->base, 50 * SIZE, SIZE, &pinned),
                   SQLITE_OK);
  assert_null(pinned);
  file_read_at(path, 5 * SIZE, now, SIZE);
  assert_memory_equal(now, page, SIZE - RECORD);
  unlock(c);
  db_close(db);
}

/* All frames are pinned: the page goes to disk at once, with its stamp, and is
** counted. */
static void test_write_around_pins(void **state)
{
  (void)state;
  const char *path = db_path("pins.db");
  sqlite3 *db = make(path, "DELETE");
  enum { MOST = 100 };
  void *pinned[MOST];
  uint8_t page[SIZE], now[SIZE];
  sqlite3_int64 limit = (sqlite3_int64)1 << 40;
  uint64_t lsn, n = 0;
  conn *c = conn_in(db);
  control(c, SQLITE_FCNTL_MMAP_SIZE, &limit);
  run(db, "PRAGMA pagedb_pool_size=131072");
  lock_exclusive(c);
  for (; n < MOST; n++) {
    assert_int_equal(c->base.pMethods->xFetch(&c->base,
                                              (sqlite3_int64)((n + 1) * SIZE),
                                              SIZE, &pinned[n]),
                     SQLITE_OK);
    if (pinned[n] == NULL)
      break;
  }
  assert_true(n > 8 && n < MOST);
  uint64_t bounces = atomic_load(&pagedb_globals.count.bounces);
  memset(page, 'w', SIZE - RECORD);
  memset(page + SIZE - RECORD, 0, RECORD);
  assert_int_equal(write_at(c, page, SIZE, (sqlite3_int64)((n + 1) * SIZE)),
                   SQLITE_OK);
  assert_int_equal(atomic_load(&pagedb_globals.count.bounces), bounces + 1);
  file_read_at(path, (n + 1) * SIZE, now, SIZE);
  assert_memory_equal(now, page, SIZE - RECORD);
  ok(pagedb_page_verify(now, SIZE, SIZE, PAGEDB_TRAILING, n + 1, &lsn));
  while (n-- > 0)
    assert_int_equal(c->base.pMethods->xUnfetch(
                         &c->base, (sqlite3_int64)((n + 1) * SIZE), pinned[n]),
                     SQLITE_OK);
  unlock(c);
  run(db, "PRAGMA pagedb_pool_size=67108864");
  db_close(db);
}

/* What was never written through is cut off again: the file is as long as it is. */
static void test_cut_of_what_is_in_the_pool(void **state)
{
  (void)state;
  const char *path = db_path("cut.db");
  sqlite3 *db = make(path, "DELETE");
  conn *c = conn_in(db);
  const uint64_t pages = page_count(path);
  const uint8_t page[SIZE] = {0};
  sqlite3_int64 bytes = 0;
  lock_exclusive(c);
  for (uint64_t id = pages; id < pages + 5; id++)
    assert_int_equal(write_at(c, page, SIZE, (sqlite3_int64)(id * SIZE)),
                     SQLITE_OK);
  assert_int_equal(c->base.pMethods->xFileSize(&c->base, &bytes), SQLITE_OK);
  assert_int_equal(bytes, (pages + 5) * SIZE);
  assert_int_equal(
      c->base.pMethods->xTruncate(&c->base, (sqlite3_int64)(pages * SIZE)),
      SQLITE_OK);
  assert_int_equal(c->base.pMethods->xFileSize(&c->base, &bytes), SQLITE_OK);
  assert_int_equal(bytes, pages * SIZE);
  join(c);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  unlock(c);
  db_close(db);
  assert_int_equal(page_count(path), pages);
  assert_whole(path, 1);
}

/* The first write of an empty file tells no page size: it is there all the same. */
static void test_write_of_no_page(void **state)
{
  (void)state;
  const char *path = db_path("nopage.db");
  uint8_t bytes[1000];
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  conn *c = conn_in(db);
  memset(bytes, 'x', sizeof bytes);
  lock_exclusive(c);
  assert_int_equal(write_at(c, bytes, sizeof bytes, 0), SQLITE_OK);
  assert_null(atomic_load(&c->file->owner));
  join(c);
  assert_int_equal(atomic_load(&c->file->stamped), 0);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  unlock(c);
  db_close(db);
  assert_int_equal(file_bytes_of(path), sizeof bytes);
  memset(bytes, 0, sizeof bytes);
  file_read_at(path, 0, bytes, sizeof bytes);
  assert_int_equal(bytes[0], 'x');
  assert_memory_equal(bytes, bytes + 1, sizeof bytes - 1);
}

/* Whatever writes, the pages that it changes are counted, and no others: what was
** read of them before is old. */
static void test_writes_are_counted(void **state)
{
  (void)state;
  const char *path = db_path("counted.db");
  sqlite3 *db = make(path, "DELETE");
  run(db, "SELECT count(*) FROM t");
  shared *s = conn_in(db)->file;
  uint8_t pages[2 * SIZE];
  file_read_at(path, 3 * SIZE, pages, sizeof pages);
  const uint32_t before[] = {file_changes(s, 2), file_changes(s, 3),
                             file_changes(s, 4), file_changes(s, 5)};
  ok(io_write(s, pages, sizeof pages, 3 * SIZE));
  for (uint64_t i = 0; i < 4; i++)
    assert_int_equal(file_changes(s, 2 + i) != before[i], i == 1 || i == 2);
  db_close(db);
  assert_whole(path, 1);
}

/* Pages of a size that the file had stay as long as somebody has one pinned. */
static void test_pinned_pages_stay(void **state)
{
  (void)state;
  const char *path = db_path("stay.db");
  sqlite3 *db = make(path, "DELETE");
  conn *c = conn_in(db);
  struct pages *p;
  pagedb_pin pin;
  ok(pages_open(c->file, SIZE, &p));
  ok(pagedb_fetch(c->session, pages_owner(p), 1, &pin));
  assert_int_equal(pages_close(p), 0);
  assert_true(pagedb_resident(pages_owner(p), 1));
  pagedb_unpin(&pin);
  assert_int_equal(pages_close(p), 1);
  db_close(db);
}

/* A VACUUM that failed before its first write, in EXCLUSIVE locking mode: its
** schema is gone, whatever has its place now, and the next transaction is no VACUUM.
*/
static void test_vacuum_that_never_wrote(void **state)
{
  (void)state;
  const char *path = db_path("never.db");
  for (int goes_on = 0; goes_on < 2; goes_on++) {
    sqlite3_int64 bytes = 0;
    make_plain_32(path);
    sqlite3 *db = db_open(path, "pagedb");
    conn *c = conn_in(db);
    run(db, "PRAGMA locking_mode=EXCLUSIVE; ATTACH ':memory:' AS one");
    control(c, SQLITE_FCNTL_OVERWRITE, &bytes);
    if (!goes_on)
      run(db, "DETACH one; ATTACH ':memory:' AS two");
    run(db, "UPDATE t SET b=1 WHERE a=1");
    assert_int_equal(atomic_load(&c->file->stamped), goes_on);
    db_close(db);
    assert_whole(path, goes_on);
  }
}

/* A backup that brings another page size: no page of the former one is in the pool,
** and when the file is closed nothing of either is left there. */
static void test_pages_of_another_size(void **state)
{
  (void)state;
  const char *path = db_path("sizes.db");
  db_close(make_with(path, "pagedb&pagedb_stamp=off", "DELETE"));
  sqlite3 *from = db_open(":memory:", "unix");
  run(from, "PRAGMA page_size=1024; CREATE TABLE z(x); INSERT INTO z "
            "VALUES(zeroblob(50000))");
  sqlite3 *db = db_open(path, "pagedb&pagedb_stamp=off");
  assert_int_equal(get_int(db, "SELECT count(b) FROM t"), 300);
  conn *c = conn_in(db);
  pagedb_owner *former = atomic_load(&c->file->owner);
  assert_true(pagedb_resident(former, 1));
  sqlite3_backup *b = sqlite3_backup_init(db, "main", from, "main");
  assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
  assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
  assert_ptr_not_equal(atomic_load(&c->file->owner), former);
  for (uint64_t id = 0; id < 200; id++)
    assert_false(pagedb_resident(former, id));
  assert_int_equal(get_int(db, "SELECT length(x) FROM z"), 50000);
  db_close(db);
  db_close(from);
  assert_null(pool_get()->owners);
}

/* The locks of the file system let two in. */
static void test_two_writers(void **state)
{
  (void)state;
  const char *path = db_path("two.db");
  sqlite3 *db = make(path, "DELETE"), *db2 = db_open(path, "pagedb");
  run(db2, "SELECT count(*) FROM t");
  conn *c = conn_in(db), *other = conn_in(db2);
  assert_ptr_equal(c->file, other->file);
  uint8_t page[SIZE];
  file_read_at(path, 5 * SIZE, page, SIZE);
  memset(page + SIZE - RECORD, 0, RECORD);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
  assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
  assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
  /* A join of one that has nothing written, and no lock, is no business of the
  ** file's. */
  assert_int_equal(control(other, SQLITE_FCNTL_SYNC, NULL) & 0xff,
                   SQLITE_NOTFOUND);
  other->lock = SQLITE_LOCK_EXCLUSIVE;
  assert_int_equal(control(other, SQLITE_FCNTL_SYNC, NULL), SQLITE_IOERR_WRITE);
  assert_non_null(strstr(first_log(), "two connections write"));
  other->lock = SQLITE_LOCK_NONE;
  assert_int_equal(control(c, SQLITE_FCNTL_SYNC, NULL) & 0xff, SQLITE_NOTFOUND);
  control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
  unlock(c);
  db_close(db2);
  db_close(db);
  assert_whole(path, 1);
}

/* --------------------------------------------------- connections not known */

/* A VFS above ours need not pass SQLITE_FCNTL_PDB on. */
static void test_unknown_connection(void **state)
{
  (void)state;
  const char *path = db_path("unknown.db");
  sqlite3 *none = NULL, *stranger = db_open(":memory:", "unix");
  sqlite3 **owners[] = {NULL, &none, &stranger};
  char answer[300];
  uint8_t page[SIZE];
  for (int i = 0; i < 3; i++) {
    sqlite3 *db = make_with(path, "pagedb&pagedb_stamp=off", "DELETE");
    conn *c = conn_in(db);
    file_read_at(path, 5 * SIZE, page, SIZE);
    c->want_stamps = 1;
    c->asked = 0;
    control(c, SQLITE_FCNTL_PDB, owners[i]);
    int bytes = -1;
    run(db, "SELECT count(*) FROM t");
    sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
    assert_int_equal(bytes, 0); /* nobody could be asked */
    assert_int_equal(pragma(c, "page_size", "8192", answer, sizeof answer),
                     SQLITE_NOTFOUND);
    int rc = pragma(c, "pagedb_stamp", NULL, answer, sizeof answer);
    assert_int_equal(rc, i < 2 ? SQLITE_MISUSE : SQLITE_NOMEM);
    if (i < 2)
      assert_string_equal(answer, "the connection is not known");
    /* A VACUUM that it tells of cannot be told from one that is over. */
    assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
    assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
    assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
    control(c, SQLITE_FCNTL_OVERWRITE, NULL);
    assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
    assert_int_equal(control(c, SQLITE_FCNTL_SYNC, NULL) & 0xff,
                     SQLITE_NOTFOUND);
    control(c, SQLITE_FCNTL_COMMIT_PHASETWO, NULL);
    unlock(c);
    control(c, SQLITE_FCNTL_PDB, NULL);
    db_close(db);
    assert_whole(path, 0);
  }
  db_close(stranger);
}

/* ---------------------------------------------------------------- stamping */

static int stamp(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
    rc = SQLITE_OK;
  int end = sqlite3_finalize(st);
  return end != SQLITE_OK ? end : rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int says(sqlite3 *db, const char *words)
{
  return strstr(sqlite3_errmsg(db), words) != NULL;
}

static void test_stamp_refuses(void **state)
{
  (void)state;
  const char *path = db_path("refused.db");
  uint8_t head[SIZE];
  /* Nothing to stamp. */
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp") & 0xff, SQLITE_NOTADB);
  assert_true(says(db, "the file is empty or no database"));
  assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp"), SQLITE_OK);
  db_close(db);

  /* Pages that are counted, and not there: cut off between two, and inside one. */
  for (int part = 0; part < 2; part++) {
    make_plain_32(path);
    uint64_t pages = page_count(path);
    assert_int_equal(
        truncate(path, (off_t)((pages - 2) * SIZE + (uint64_t)part * 512)), 0);
    db = db_open(path, "pagedb");
    run(db, "PRAGMA writable_schema=ON");
    assert_int_equal(stamp(db, "PRAGMA pagedb_stamp") & 0xff, SQLITE_CORRUPT);
    assert_true(says(db, "pages that are not wholly in the file: 2"));
    db_close(db);
    file_read_at(path, 0, head, SIZE);
    assert_int_equal(head[18], 1);
  }

  /* Tails that somebody uses: the first is named, all are counted. */
  make_plain_32(path);
  file_write_at(path, 7 * SIZE - RECORD, "somebody", 8);
  file_write_at(path, 9 * SIZE - RECORD, "somebody", 8);
  db = db_open(path, "pagedb");
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp") & 0xff, SQLITE_CORRUPT);
  assert_true(says(db, "bytes at their end: 2, the first is page 7"));
  db_close(db);
}

static int enough(void *arg)
{
  (void)arg;
  return 1;
}

/* Only what passes an integrity_check, all of it, is adopted. */
static void test_adopt_checks_first(void **state)
{
  (void)state;
  const char *path = db_path("adopt.db");
  uint8_t page[SIZE];
  sqlite3 *db = make(path, "DELETE");
  int64_t leaf = get_int(db, "SELECT max(page) FROM pagedb_pages WHERE "
                             "object='table t' AND type='table leaf'");
  db_close(db);
  const uint64_t at = (uint64_t)(leaf - 1) * SIZE;
  file_read_at(path, at, page, SIZE);
  memset(page + SIZE - RECORD, 0, RECORD); /* as stock SQLite writes it */
  file_write_at(path, at, page, SIZE);
  db = db_open(path, "pagedb");
  sqlite3_progress_handler(db, 300, enough, NULL);
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp=adopt") & 0xff,
                   SQLITE_INTERRUPT);
  assert_true(says(db, "cannot check the database first"));
  sqlite3_progress_handler(db, 0, NULL, NULL);
  page[5] ^= 0x40; /* where its cells begin */
  file_write_at(path, at, page, SIZE);
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp=adopt") & 0xff,
                   SQLITE_CORRUPT);
  assert_true(says(db, "does not say ok: not adopted"));
  page[5] ^= 0x40;
  file_write_at(path, at, page, SIZE);
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp=adopt"), SQLITE_OK);
  db_close(db);
  assert_whole(path, 1);
}

/* A log that is none, and a journal that is done with. */
static void test_stamp_and_journals(void **state)
{
  (void)state;
  const char *path = db_path("journals.db");
  char log[700];
  snprintf(log, sizeof log, "%s-wal", path);
  make_plain_32(path);
  FILE *f = fopen(log, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite("no log at all, but bytes", 1, 24, f), 24);
  fclose(f);
  sqlite3 *db = db_open(path, "pagedb");
  int rc = stamp(db, "PRAGMA pagedb_stamp");
  assert_int_equal(rc & 0xff, SQLITE_BUSY);
  db_close(db);
  remove(log);
  db = db_open(path, "pagedb");
  run(db, "PRAGMA journal_mode=PERSIST; INSERT INTO t VALUES(1, 2)");
  assert_int_equal(stamp(db, "PRAGMA pagedb_stamp"), SQLITE_OK);
  run(db, "PRAGMA journal_mode=TRUNCATE; INSERT INTO t VALUES(1, 2)");
  assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp"), SQLITE_OK);
  db_close(db);
  assert_whole(path, 0);
}

/* After PRAGMA pagedb_unstamp page 1 keeps a record through a checkpoint, though no
** page behind it has one any more. */
static void test_record_of_page_1_stays(void **state)
{
  (void)state;
  const char *path = db_path("stays.db");
  const uint8_t blank[RECORD] = {0};
  uint8_t page1[SIZE];
  sqlite3 *db = make(path, "WAL");
  assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp"), SQLITE_OK);
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  for (uint64_t id = 1; id < page_count(path); id++)
    file_write_at(path, (id + 1) * SIZE - RECORD, blank, RECORD);
  run(db, "PRAGMA user_version=7; PRAGMA wal_checkpoint(TRUNCATE)");
  file_read_at(path, 0, page1, SIZE);
  assert_int_equal(get_be32(page1 + 60), 7);
  assert_true(tail_is_ours(page1, SIZE));
  assert_false(all_zero(page1 + SIZE - RECORD, RECORD));
  db_close(db);
  assert_whole(path, 0);
}

/* What a page 1 says about a guard that is gone; nothing of it is believed. */
static void test_lost_guards(void **state)
{
  (void)state;
  const char *path = db_path("lost.db");
  make_plain_32(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "SELECT count(*) FROM t");
  shared *s = conn_in(db)->file;
  static uint8_t page1[SIZE], page[SIZE];
  file_read_at(path, 0, page1, SIZE);
  memset(page1 + SIZE - RECORD, 0, RECORD);
  static const struct {
    int at, value, n, lost;
  } pages[] = {{18, 1, SIZE, 1},    {18, 9, SIZE, 0}, {20, 0, SIZE, 0},
               {16, 0x11, SIZE, 0}, {18, 1, 512, 0},  {18, 1, SIZE, 1}};
  for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
    memcpy(page, page1, SIZE);
    page[pages[i].at] = (uint8_t)pages[i].value;
    put_be32(page + 24, 1000 + (uint32_t)i); /* another state */
    look_for_lost_guard(s, page, (size_t)pages[i].n);
    assert_int_equal(s->lost_guard, pages[i].lost);
    /* Asked again, it is known. */
    look_for_lost_guard(s, page, (size_t)pages[i].n);
    assert_int_equal(s->lost_guard, pages[i].lost);
  }
  /* A page size that is none. */
  memcpy(page, page1, SIZE);
  page[16] = 2, page[17] = 1;
  put_be32(page + 24, 2000);
  look_for_lost_guard(s, page, 513);
  assert_int_equal(s->lost_guard, 0);
  /* Said once for both reasons. */
  atomic_store(&s->guard_is_left, 1);
  look_for_lost_guard(s, page, 513);
  assert_non_null(strstr(first_log(), "still has its guard"));
  look_for_lost_guard(s, page, 513);
  assert_int_equal(s->lost_guard, 1);
  atomic_store(&s->guard_is_left, 0);
  db_close(db);
}

/* ---------------------------------------------------------- the wal-index */

static int shm_lock(conn *c, int lock, int flags)
{
  return c->base.pMethods->xShmLock(&c->base, lock, 1, flags);
}

/* 1 if a read lock, and the barrier after it, forget the pool. */
static int forgets(conn *c)
{
  uint64_t before = invalidations();
  const int shared_lock = SQLITE_SHM_LOCK | SQLITE_SHM_SHARED;
  assert_int_equal(shm_lock(c, 4, shared_lock), SQLITE_OK);
  c->base.pMethods->xShmBarrier(&c->base);
  c->base.pMethods->xShmBarrier(&c->base);
  assert_int_equal(shm_lock(c, 4, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED),
                   SQLITE_OK);
  return invalidations() > before;
}

/* Each word of it that another process changes is noticed, once; what changes under
** a lock of ours is our doing. */
static void test_words_of_the_index(void **state)
{
  (void)state;
  const char *path = db_path("words.db");
  sqlite3 *db = make(path, "WAL");
  run(db, "PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES(1, 2); SELECT "
          "count(*) FROM t");
  conn *c = conn_in(db);
  shared *s = c->file;
  assert_non_null((void *)(uintptr_t)c->shm);
  static const int words[] = {INDEX_SALT, INDEX_SALT + 1, INDEX_BACKFILL};
  uint32_t was[3];
  for (int i = 0; i < 3; i++)
    was[i] = c->shm[words[i]];
  forgets(c);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(forgets(c), 0);
    c->shm[words[i]] = was[i] + 1;
    assert_int_equal(forgets(c), 1);
    assert_int_equal(forgets(c), 0);
    c->shm[words[i]] = was[i];
    assert_int_equal(forgets(c), 1);
  }
  const int take = SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE;
  const int give = SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE;
  /* Under CKPT: more was brought in, by us. Less is another log. */
  assert_int_equal(shm_lock(c, 1, take), SQLITE_OK);
  c->shm[INDEX_BACKFILL] = was[2] + 5;
  assert_int_equal(forgets(c), 0);
  assert_int_equal(shm_lock(c, 1, give), SQLITE_OK);
  assert_int_equal(s->state.backfill, was[2] + 5);
  assert_int_equal(shm_lock(c, 1, take), SQLITE_OK);
  c->shm[INDEX_BACKFILL] = was[2];
  assert_int_equal(forgets(c), 1);
  /* Salts that change under CKPT are not ours. */
  for (int i = 0; i < 2; i++) {
    c->shm[words[i]] = was[i] + 1;
    c->shm[INDEX_BACKFILL] = was[2] + 9;
    assert_int_equal(shm_lock(c, 1, give), SQLITE_OK);
    assert_int_not_equal(s->state.backfill, was[2] + 9);
    c->shm[words[i]] = was[i];
    c->shm[INDEX_BACKFILL] = was[2];
    assert_int_equal(shm_lock(c, 1, take), SQLITE_OK);
  }
  assert_int_equal(shm_lock(c, 1, give), SQLITE_OK);
  forgets(c);
  /* Under WRITE: new salts and nothing brought in is a log that we began. */
  for (int i = 0; i < 2; i++) {
    assert_int_equal(shm_lock(c, 0, take), SQLITE_OK);
    c->shm[words[i]] = was[i] + 1;
    c->shm[INDEX_BACKFILL] = 0;
    assert_int_equal(forgets(c), 0);
    assert_int_equal(shm_lock(c, 0, give), SQLITE_OK);
    assert_int_equal(s->state.salt[i], was[i] + 1);
    assert_int_equal(shm_lock(c, 0, take), SQLITE_OK);
    c->shm[words[i]] = was[i];
    c->shm[INDEX_BACKFILL] = 1; /* somebody's */
    assert_int_equal(forgets(c), 1);
    c->shm[INDEX_BACKFILL] = was[2];
    assert_int_equal(shm_lock(c, 0, give), SQLITE_OK);
    forgets(c);
  }
  run(db, "INSERT INTO t VALUES(3, 4)");
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 302);
  db_close(db);
  assert_whole(path, 1);
}

/* Somebody's checkpoint, and page 1 cannot be read: nobody knows any more which page
** is behind the end, so that one without stamp is damage. */
static void test_no_header_after_a_checkpoint(void **state)
{
  (void)state;
  const char *path = db_path("words.db");
  uint8_t page[SIZE] = {0};
  db_close(make(path, "WAL"));
  const uint64_t pages = page_count(path);
  file_write_at(path, pages * SIZE, page, SIZE);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "SELECT count(*) FROM t");
  conn *c = conn_in(db);
  const sqlite3_int64 behind = (sqlite3_int64)(pages * SIZE);
  forgets(c);
  assert_int_equal(c->base.pMethods->xRead(&c->base, page, SIZE, behind),
                   SQLITE_OK);
  c->shm[INDEX_SALT]++;
  failing_reads = 1;
  assert_int_equal(forgets(c), 1);
  assert_int_equal(failing_reads, 0);
  assert_int_equal(c->base.pMethods->xRead(&c->base, page, SIZE, behind),
                   SQLITE_IOERR_DATA);
  /* The next one learns it. */
  assert_int_equal(forgets(c), 1);
  assert_int_equal(c->base.pMethods->xRead(&c->base, page, SIZE, behind),
                   SQLITE_OK);
  c->shm[INDEX_SALT]--;
  forgets(c);
  db_close(db);
}

/* A wal-index that says anything: no page is taken from a region that is not
** there, nor one behind the file's end. */
static void test_pages_of_the_index(void **state)
{
  (void)state;
  const char *path = db_path("index.db");
  sqlite3 *db = make(path, "WAL");
  run(db, "PRAGMA wal_autocheckpoint=0; UPDATE t SET b=b||'x'");
  conn *c = conn_in(db);
  bitmap set = {0};
  wal_pages(c, 0, c->shm[4], 1000, &set);
  assert_non_null(set.word);
  bitmap_clear(&set);
  wal_pages(c, 0, c->shm[4], 0, &set);
  assert_null(set.word);
  /* Frames of the second region, and of one that does not exist. */
  wal_pages(c, 4500, 4600, 1000, &set);
  assert_null(set.word);
  void volatile *second = NULL;
  assert_int_equal(c->base.pMethods->xShmMap(&c->base, 1, 32768, 1, &second),
                   SQLITE_OK);
  assert_ptr_equal((void *)(uintptr_t)c->rest->regions[1],
                   (void *)(uintptr_t)second);
  wal_pages(c, 4500, 4600, 1000, &set);
  assert_null(set.word);
  wal_pages(c, 4000000, 4000010, 1000, &set);
  assert_null(set.word);
  wal_pending(c, 1000, &set);
  assert_non_null(set.word);
  bitmap_clear(&set);
  db_close(db);
}

/* ------------------------------------------------------------------- tables */

static void test_pages_without_locks(void **state)
{
  (void)state;
  const char *path = db_path("nolock.db");
  db_close(make(path, "DELETE"));
  static const char *const ways[] = {"pagedb&nolock=1", "pagedb&immutable=1"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = db_open(path, ways[i]);
    assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE "
                                 "status='ok'"),
                     (int64_t)page_count(path));
    assert_true(get_int(db, "PRAGMA pagedb_lsn") > 0);
    db_close(db);
  }
  /* A page 1 that counts nothing that can be believed: by the file's length. */
  uint8_t valid_for[4] = {9, 9, 9, 9};
  make_plain_32(path);
  file_write_at(path, 92, valid_for, 4);
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages WHERE "
                               "status='plain'"),
                   (int64_t)page_count(path));
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages(NULL)"),
                   (int64_t)page_count(path));
  db_close(db);
}

/* Nobody looks at the pages of a file while another connection writes it, also where
** the statement that asks holds no lock of that file itself. */
static void test_pages_wait_for_a_writer(void **state)
{
  (void)state;
  const char *path = db_path("busy.db");
  sqlite3 *writer = make(path, "DELETE"), *db = db_open(":memory:", "pagedb");
  run(db, "PRAGMA busy_timeout=0; ATTACH 'file:%s?vfs=pagedb' AS aux", path);
  const int64_t pages = get_int(db, "SELECT count(*) FROM pagedb_pages('aux')");
  assert_int_equal(pages, page_count(path));
  run(writer, "BEGIN EXCLUSIVE");
  assert_int_equal(try_run(db, "SELECT * FROM pagedb_pages('aux')") & 0xff,
                   SQLITE_BUSY);
  run(writer, "COMMIT");
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages('aux')"),
                   pages);
  db_close(db);
  db_close(writer);
}

/* Where nothing was read, written or synced yet there is no latency; a table without
** a schema has rows by number. */
static void test_first_rows(void **state)
{
  (void)state;
  sqlite3 *db = db_open(":memory:", "unix");
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_stats WHERE name "
                               "LIKE '%%_latency_%%' AND value=0"),
                   9);
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_files"), 0);
  const char *path = db_path("rows.db");
  sqlite3 *empty = db_open(path, "pagedb&pagedb_direct=off");
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "buffered");
  assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"), "empty");
  assert_int_equal(get_int(db, "SELECT connections FROM pagedb_files WHERE "
                               "rowid=1"),
                   1);
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_files WHERE "
                               "rowid=2"),
                   0);
  db_close(empty);
  db_close(db);
}

/* -------------------------------------------------------------------- reads */

static int read_at(conn *c, void *buf, int n, sqlite3_int64 off)
{
  return c->base.pMethods->xRead(&c->base, buf, n, off);
}

/* Behind the end that page 1 names anything may stand, and reads as zeroes; in WAL
** mode only what is zero does. */
static void test_behind_the_end(void **state)
{
  (void)state;
  const char *path = db_path("behind.db");
  uint8_t page[SIZE], other[SIZE];
  for (int wal = 0; wal < 2; wal++) {
    sqlite3 *db = make(path, wal ? "WAL" : "DELETE");
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    db_close(db);
    uint64_t pages = page_count(path);
    memset(other, 'x', SIZE);
    file_write_at(path, pages * SIZE, other, SIZE);
    memset(other, 0, SIZE);
    file_write_at(path, (pages + 1) * SIZE, other, SIZE);
    db = db_open(path, "pagedb");
    run(db, "SELECT count(*) FROM t");
    conn *c = conn_in(db);
    assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
    int rc = read_at(c, page, SIZE, (sqlite3_int64)(pages * SIZE));
    assert_int_equal(rc, wal ? SQLITE_IOERR_DATA : SQLITE_OK);
    if (!wal)
      assert_true(all_zero(page, SIZE));
    memset(page, 1, SIZE);
    assert_int_equal(
        read_at(c, page, SIZE, (sqlite3_int64)((pages + 1) * SIZE)), SQLITE_OK);
    assert_true(all_zero(page, SIZE));
    /* Nothing at all, whether it is verified or not. */
    for (int verify = 0; verify < 2; verify++) {
      c->verify = verify;
      assert_int_equal(
          read_at(c, page, SIZE, (sqlite3_int64)((pages + 9) * SIZE)),
          SQLITE_IOERR_SHORT_READ);
      assert_true(all_zero(page, SIZE));
    }
    if (!wal) {
      /* The writer's own page is there; one that he did not write is not. */
      assert_int_equal(lock_to(c, SQLITE_LOCK_RESERVED), SQLITE_OK);
      assert_int_equal(lock_to(c, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
      memset(other, 'w', SIZE - RECORD);
      memset(other + SIZE - RECORD, 0, RECORD);
      assert_int_equal(write_at(c, other, SIZE, (sqlite3_int64)(pages * SIZE)),
                       SQLITE_OK);
      assert_int_equal(read_at(c, page, SIZE, (sqlite3_int64)(pages * SIZE)),
                       SQLITE_OK);
      assert_memory_equal(page, other, SIZE);
      assert_int_equal(
          read_at(c, page, SIZE, (sqlite3_int64)((pages + 1) * SIZE)),
          SQLITE_OK);
      assert_true(all_zero(page, SIZE));
      /* It went out, and the disk gives something else back. */
      assert_int_equal(write_settle(c, pages * SIZE, SIZE), PAGEDB_OK);
      file_write_at(path, pages * SIZE + 50, "damage", 6);
      assert_int_equal(read_at(c, page, SIZE, (sqlite3_int64)(pages * SIZE)),
                       SQLITE_IOERR_DATA);
      /* Over the edge of two pages, one of which is not on disk yet. */
      file_read_at(path, 5 * SIZE, page, SIZE);
      memset(page + 100, 'e', 50);
      memset(page + SIZE - RECORD, 0, RECORD);
      assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
      assert_int_equal(read_at(c, other, 200, 5 * SIZE - 50), SQLITE_OK);
      assert_memory_equal(other + 50, page, 150);
      assert_int_equal(write_settle(c, 0, 0), PAGEDB_OK);
    }
    unlock(c);
    sqlite3_close(db);
  }
}

/* Of a batch each page has its own outcome, in the order of its run. */
static void test_outcomes_of_a_run(void **state)
{
  (void)state;
  const char *path = db_path("outcomes.db");
  db_close(make(path, "DELETE"));
  file_write_at(path, 6 * SIZE + 50, "damage", 6);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "SELECT count(*) FROM sqlite_schema");
  pagedb_store *store = atomic_load(&conn_in(db)->file->owner)->store;
  uint8_t *all = os_aligned_alloc(4096, 3 * SIZE);
  void *pages[3] = {all, all + SIZE, all + 2 * (size_t)SIZE};
  int errs[3] = {-1, -1, -1};
  for (int asked = 0; asked < 2; asked++) {
    pagedb_run r = {
        .first = 5, .count = 3, .pages = pages, .errs = asked ? errs : NULL};
    expect(store->read(store, &r, 1), PAGEDB_ECRC);
    expect(r.err, PAGEDB_ECRC);
  }
  assert_int_equal(errs[0], PAGEDB_OK);
  assert_int_equal(errs[1], PAGEDB_ECRC);
  assert_int_equal(errs[2], PAGEDB_OK);
  os_aligned_free(all);
  db_close(db);
}

/* A fault that names no file gets ours, whatever the one before it named. */
static void test_fault_names_the_file(void **state)
{
  (void)state;
  const char *path = db_path("named.db");
  sqlite3 *db = make(path, "DELETE");
  shared *s = conn_in(db)->file;
  for (int named = 1; named >= 0; named--) {
    pagedb_fault_set(PAGEDB_EIO, 5, named ? "/another/file" : NULL, 3, 0, 0,
                     NULL);
    assert_int_equal(shared_report(s, PAGEDB_EIO, SQLITE_IOERR_READ),
                     SQLITE_IOERR_READ);
    assert_non_null(strstr(s->last_error, named ? "/another/file" : path));
  }
  db_close(db);
}

/* What is no database has no guard to be hidden. */
static void test_no_database(void **state)
{
  (void)state;
  const char *path = db_path("none.db");
  uint8_t page[SIZE], text[SIZE];
  memset(text, 0x51, SIZE);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, SIZE, f), SIZE);
  fclose(f);
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(try_run(db, "SELECT * FROM sqlite_schema"), SQLITE_NOTADB);
  conn *c = conn_in(db);
  assert_int_equal(read_at(c, page, SIZE, 0), SQLITE_OK);
  assert_memory_equal(page, text, SIZE);
  assert_int_equal(read_at(c, page, 100, 0), SQLITE_OK);
  assert_memory_equal(page, text, 100);
  db_close(db);
}

static void test_required(void **state)
{
  (void)state;
  const char *path = db_path("required.db"), *fresh = db_path("fresh.db");
  void *page = NULL;
  sqlite3 *db = make_with(path, "pagedb&pagedb_stamp=off", "DELETE");
  conn *c = conn_in(db);
  sqlite3_int64 limit = (sqlite3_int64)1 << 40;
  control(c, SQLITE_FCNTL_MMAP_SIZE, &limit);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  c->need_stamps = "a test";
  assert_int_equal(c->base.pMethods->xFetch(&c->base, SIZE, SIZE, &page),
                   SQLITE_OK);
  assert_null(page);
  c->need_stamps = NULL;
  assert_int_equal(c->base.pMethods->xFetch(&c->base, SIZE, SIZE, &page),
                   SQLITE_OK);
  assert_non_null(page);
  assert_int_equal(c->base.pMethods->xUnfetch(&c->base, SIZE, page), SQLITE_OK);
  unlock(c);
  db_close(db);
  /* One that is empty is nothing yet; it gets its stamps, spilled or not. */
  db = db_open(fresh, "pagedb&pagedb_stamp=required");
  uint8_t first[SIZE];
  assert_int_equal(read_at(conn_in(db), first, SIZE, 0),
                   SQLITE_IOERR_SHORT_READ);
  run(db, "PRAGMA cache_size=5; BEGIN; CREATE TABLE t(a); INSERT INTO t "
          "VALUES(zeroblob(300000)); UPDATE t SET a=hex(a); COMMIT");
  assert_int_equal(get_int(db, "SELECT length(a) FROM t"), 600000);
  db_close(db);
  assert_whole(fresh, 1);
}

/* Of an immutable file the header is looked at once. */
static void test_immutable_header(void **state)
{
  (void)state;
  const char *path = db_path("immutable.db");
  uint8_t head[100], again[100];
  db_close(make(path, "DELETE"));
  sqlite3 *db = db_open(path, "pagedb&immutable=1");
  conn *c = conn_in(db);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(read_at(c, i == 0 ? head : again, 100, 0), SQLITE_OK);
    if (i > 0)
      assert_memory_equal(head, again, 100);
  }
  assert_int_equal(c->file->state.valid, 1);
  db_close(db);
}

/*
** What a connection knows of the state is worth nothing once another one found, or
** made, a new state: a file that is put back as it was then is a change, too.
*/
static void test_state_of_others(void **state)
{
  (void)state;
  const char *path = db_path("others.db");
  uint8_t page[SIZE], was[SIZE];
  void *all;
  sqlite3 *db = make(path, "DELETE"), *other = db_open(path, "pagedb");
  conn *c = conn_in(db);
  uint64_t bytes = file_bytes_of(path);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(read_at(c, was, SIZE, SIZE), SQLITE_OK);
  unlock(c);
  /* As it was: nobody forgets anything. */
  uint64_t before = invalidations();
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  unlock(c);
  assert_int_equal(invalidations(), before);
  assert_non_null(all = malloc((size_t)bytes));
  file_read_at(path, 0, all, (size_t)bytes);
  run(other, "PRAGMA cache_size=0; UPDATE t SET b=b+1; SELECT sum(b) FROM t");
  assert_int_equal(file_bytes_of(path), bytes);
  file_write_at(path, 0, all, (size_t)bytes);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(read_at(c, page, SIZE, SIZE), SQLITE_OK);
  unlock(c);
  assert_memory_equal(page, was, SIZE);
  /* Somebody forgets it. */
  before = invalidations();
  state_forget(c->file);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  unlock(c);
  assert_int_equal(invalidations(), before + 1);
  free(all);
  db_close(other);
  db_close(db);
}

/* --------------------------------------------------- checkpoints, logs, locks */

static void test_odd_frames(void **state)
{
  (void)state;
  const char *path = db_path("frames.db");
  sqlite3 *db = make(path, "WAL");
  sqlite3_file *wal = NULL;
  uint8_t page[SIZE] = {0};
  sqlite3_int64 bytes = 0;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
  assert_int_equal(wal->pMethods->xFileSize(wal, &bytes), SQLITE_OK);
  sqlite3_int64 at = 32 + (bytes - 32) / (SIZE + 24) * (SIZE + 24) + 24;
  /* Less than a tail at a frame's end; a middle; the end of one that begins as a
  ** page 1 does. */
  memset(page, 'x', SIZE);
  assert_int_equal(wal->pMethods->xWrite(wal, page, 16, at + SIZE - 16),
                   SQLITE_OK);
  assert_int_equal(wal->pMethods->xWrite(wal, page, 512, at + 512), SQLITE_OK);
  file_read_at(path, 0, page, 512);
  page[20] = 0;
  memset(page + 512 - RECORD, 0, RECORD);
  assert_int_equal(wal->pMethods->xWrite(wal, page, 512, at + SIZE - 512),
                   SQLITE_OK);
  conn *c = conn_in(db);
  bitmap set = {0};
  uint32_t newest = c->shm[4];
  wal_pages(c, newest, newest + 20, 1000, &set); /* words that nobody wrote */
  assert_null(set.word);
  db_close(db);
  assert_whole(path, 1);
}

/* PRAGMA pagedb_lsn takes a lock, like any other reader. */
static void test_lsn_is_busy(void **state)
{
  (void)state;
  const char *path = db_path("busy.db");
  sqlite3 *db = make(path, "DELETE"), *db2 = db_open(path, "pagedb");
  sqlite3_busy_timeout(db2, 0);
  run(db2, "SELECT count(*) FROM t");
  run(db, "BEGIN EXCLUSIVE");
  assert_int_equal(try_run(db2, "PRAGMA pagedb_lsn") & 0xff, SQLITE_BUSY);
  /* Nobody stamps it meanwhile. */
  assert_int_equal(stamp(db2, "PRAGMA pagedb_stamp") & 0xff, SQLITE_BUSY);
  run(db, "COMMIT");
  assert_true(get_int(db2, "PRAGMA pagedb_lsn") > 0);
  /* Held in EXCLUSIVE locking mode: not inside of it. */
  run(db, "PRAGMA locking_mode=EXCLUSIVE; SELECT count(*) FROM t");
  assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp") & 0xff, SQLITE_BUSY);
  db_close(db2);
  db_close(db);
}

/* From EXCLUSIVE to RESERVED, which SQLite never asks for: what was not joined is
** given up, and the lock is not. */
static void test_unlock_to_reserved(void **state)
{
  (void)state;
  const char *path = db_path("reserved.db");
  sqlite3 *db = make(path, "DELETE");
  conn *c = conn_in(db);
  uint8_t page[SIZE], was[SIZE];
  file_read_at(path, 5 * SIZE, was, SIZE);
  memset(page, 'x', SIZE - RECORD);
  memset(page + SIZE - RECORD, 0, RECORD);
  c->lock = SQLITE_LOCK_EXCLUSIVE;
  c->reserved = 1;
  assert_int_equal(write_at(c, page, SIZE, 5 * SIZE), SQLITE_OK);
  c->base.pMethods->xUnlock(&c->base, SQLITE_LOCK_RESERVED);
  assert_null(atomic_load(&c->file->writer));
  assert_int_equal(c->lock, SQLITE_LOCK_RESERVED);
  assert_int_equal(c->reserved, 1);
  unlock(c);
  file_read_at(path, 5 * SIZE, page, SIZE);
  assert_memory_equal(was, page, SIZE);
  db_close(db);
  assert_whole(path, 1);
}

/* What a forked child may do with its parent's file: nothing; and to give back is
** the VFS below's business. The number of the first answer that is wrong. */
static int in_child(conn *c)
{
  const sqlite3_io_methods *m = c->base.pMethods;
  sqlite3_file *f = &c->base;
  uint8_t page[SIZE] = {0};
  void *at = page;
  void volatile *region = NULL;
  sqlite3_int64 bytes = 0;
  const int lock = SQLITE_SHM_LOCK | SQLITE_SHM_SHARED;
  const int answers[] = {m->xRead(f, page, SIZE, SIZE),
                         m->xWrite(f, page, SIZE, SIZE),
                         m->xTruncate(f, SIZE),
                         m->xSync(f, SQLITE_SYNC_NORMAL),
                         m->xLock(f, SQLITE_LOCK_SHARED),
                         m->xShmMap(f, 0, 32768, 0, &region),
                         m->xShmLock(f, 4, 1, lock),
                         m->xFileControl(f, SQLITE_FCNTL_SYNC, NULL)};
  const int n = (int)(sizeof answers / sizeof answers[0]);
  for (int i = 0; i < n; i++)
    if (answers[i] != SQLITE_MISUSE)
      return i + 1;
  if (m->xFetch(f, SIZE, SIZE, &at) != SQLITE_OK || at != NULL)
    return n + 1;
  if (m->xUnfetch(f, SIZE, page) != SQLITE_OK)
    return n + 2;
  m->xShmBarrier(f);
  if (m->xUnlock(f, SQLITE_LOCK_NONE) != SQLITE_OK)
    return n + 3;
  return m->xFileSize(f, &bytes) == SQLITE_OK ? 0 : n + 4;
}

static void test_inherited(void **state)
{
  (void)state;
  const char *path = db_path("inherited.db");
  sqlite3 *db = make(path, "WAL");
  run(db, "BEGIN; SELECT count(*) FROM t");
  uint64_t bytes = file_bytes_of(path);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0)
    _exit(in_child(conn_in(db)));
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_int_equal(file_bytes_of(path), bytes);
  run(db, "COMMIT; INSERT INTO t VALUES(1, 2)");
  db_close(db);
  assert_whole(path, 1);
}

/* The first page of a checkpoint, by a connection that wants no stamps. */
static void test_first_page_unstamped(void **state)
{
  (void)state;
  const char *path = db_path("first.db");
  uint8_t page[SIZE];
  db_close(make(path, "DELETE"));
  file_read_at(path, 0, page, SIZE);
  page[18] = 1;
  memset(page + SIZE - RECORD, 0, RECORD);
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb&pagedb_stamp=off");
  conn *c = conn_in(db);
  assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
  control(c, SQLITE_FCNTL_CKPT_START, NULL);
  assert_int_equal(write_at(c, page, SIZE, 0), SQLITE_OK);
  control(c, SQLITE_FCNTL_CKPT_DONE, NULL);
  unlock(c);
  db_close(db);
  file_read_at(path, 0, page, SIZE);
  assert_int_equal(page[18], 1);
  assert_true(all_zero(page + SIZE - RECORD, RECORD));
}

/* ------------------------------------------------------- the lock-byte page */

enum { LOCK_AT = 16 * SIZE, LOCK_PAGE = 17 };

static int64_t lock_pages(sqlite3 *db)
{
  return get_int(db,
                 "SELECT count(*) FROM pagedb_pages WHERE status='lock' AND "
                 "page=%d",
                 LOCK_PAGE);
}

/* In the middle of a small file: it is never stamped, filled, verified or counted,
** whatever is done to the file. */
static void test_lock_page(void **state)
{
  (void)state;
  const char *path = db_path("lock.db"), *other = db_path("lock-2.db");
  static uint8_t page[SIZE];
  int was = sqlite3_test_control(SQLITE_TESTCTRL_PENDING_BYTE, LOCK_AT);
  static const char *const journals[] = {"DELETE", "WAL"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = make(path, journals[i]);
    run(db, "PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET b=b||'y'; PRAGMA "
            "wal_checkpoint(TRUNCATE)");
    assert_int_equal(lock_pages(db), 1);
    assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
    file_read_at(path, LOCK_AT, page, SIZE);
    assert_true(all_zero(page, SIZE));
    /* Read as it is, by either way. */
    conn *c = conn_in(db);
    void *at = page;
    assert_int_equal(lock_to(c, SQLITE_LOCK_SHARED), SQLITE_OK);
    assert_int_equal(c->base.pMethods->xRead(&c->base, page, SIZE, LOCK_AT),
                     SQLITE_OK);
    assert_int_equal(c->base.pMethods->xFetch(&c->base, LOCK_AT, SIZE, &at),
                     SQLITE_OK);
    assert_null(at);
    assert_int_equal(get_int(db, "SELECT sum(length(b)) FROM t"), 201 * 300);
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    /* Around the pool, and by a checkpoint: as it is. */
    uint8_t *raw = os_aligned_alloc(4096, SIZE);
    ok(pages_read_one(c->file, LOCK_PAGE - 1, raw, 1));
    assert_true(all_zero(raw, SIZE));
    ok(pages_write_one(c->file, LOCK_PAGE - 1, raw, 9, OUT_STAMP));
    control(c, SQLITE_FCNTL_CKPT_START, NULL);
    assert_int_equal(write_at(c, raw, SIZE, LOCK_AT), SQLITE_OK);
    control(c, SQLITE_FCNTL_CKPT_DONE, NULL);
    os_aligned_free(raw);
    file_read_at(path, LOCK_AT, page, SIZE);
    assert_true(all_zero(page, SIZE));
    db_close(db);
    assert_whole(path, 1);
    /* Whole-file work: off, on, adopted, written anew in another size. */
    db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=DELETE");
    assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp"), SQLITE_OK);
    assert_int_equal(stamp(db, "PRAGMA pagedb_stamp"), SQLITE_OK);
    assert_int_equal(stamp(db, "PRAGMA pagedb_stamp=adopt"), SQLITE_OK);
    assert_int_equal(stamp(db, "PRAGMA pagedb_unstamp"), SQLITE_OK);
    run(db, "VACUUM");
    assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"),
                        "stamped");
    run(db, "INSERT INTO gone SELECT zeroblob(3000) FROM t");
    db_close(db);
    assert_whole(path, 1);
    file_read_at(path, LOCK_AT, page, SIZE);
    assert_true(all_zero(page, SIZE));
    /* Replaced by a database that keeps no bytes free. */
    sqlite3 *from = make_with(other, "unix", "DELETE");
    db = db_open(path, "pagedb");
    sqlite3_backup *b = sqlite3_backup_init(db, "main", from, "main");
    assert_non_null(b);
    assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
    assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
    db_close(db);
    db_close(from);
    assert_whole(path, 0);
  }
  sqlite3_test_control(SQLITE_TESTCTRL_PENDING_BYTE, was);
  db_close(db_open(other, "pagedb")); /* learnt again */
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_rows), /* before anything is read */
      cmocka_unit_test(test_hostile_free_list),
      cmocka_unit_test(test_kinds_of_writes),
      cmocka_unit_test(test_odd_writes),
      cmocka_unit_test(test_odd_writes_into_stamped),
      cmocka_unit_test(test_plain_after_a_failed_join),
      cmocka_unit_test(test_plain_again_after_vacuum),
      cmocka_unit_test(test_replacement_seen_late),
      cmocka_unit_test(test_backup_of_a_foreign_tail),
      cmocka_unit_test(test_cut_in_front_of_a_pin),
      cmocka_unit_test(test_write_around_pins),
      cmocka_unit_test(test_cut_of_what_is_in_the_pool),
      cmocka_unit_test(test_write_of_no_page),
      cmocka_unit_test(test_writes_are_counted),
      cmocka_unit_test(test_pinned_pages_stay),
      cmocka_unit_test(test_vacuum_that_never_wrote),
      cmocka_unit_test(test_pages_of_another_size),
      cmocka_unit_test(test_two_writers),
      cmocka_unit_test(test_unknown_connection),
      cmocka_unit_test(test_stamp_refuses),
      cmocka_unit_test(test_adopt_checks_first),
      cmocka_unit_test(test_stamp_and_journals),
      cmocka_unit_test(test_record_of_page_1_stays),
      cmocka_unit_test(test_lost_guards),
      cmocka_unit_test(test_words_of_the_index),
      cmocka_unit_test(test_no_header_after_a_checkpoint),
      cmocka_unit_test(test_pages_of_the_index),
      cmocka_unit_test(test_pages_without_locks),
      cmocka_unit_test(test_pages_wait_for_a_writer),
      cmocka_unit_test(test_behind_the_end),
      cmocka_unit_test(test_outcomes_of_a_run),
      cmocka_unit_test(test_fault_names_the_file),
      cmocka_unit_test(test_no_database),
      cmocka_unit_test(test_required),
      cmocka_unit_test(test_immutable_header),
      cmocka_unit_test(test_state_of_others),
      cmocka_unit_test(test_odd_frames),
      cmocka_unit_test(test_lsn_is_busy),
      cmocka_unit_test(test_unlock_to_reserved),
      cmocka_unit_test(test_inherited),
      cmocka_unit_test(test_first_page_unstamped),
      cmocka_unit_test(test_lock_page),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
