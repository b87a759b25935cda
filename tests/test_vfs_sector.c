/*
** test_vfs_sector.c - a device with sectors of 4096 bytes: nothing goes to the
** direct handle that is not aligned to them, in memory, offset and length, and
** the content is right, for every page size and journal mode.
**
** The calls of core/os.h are looked into at link time, and the geometry is said to
** be such a device's. tests/sector4k.sh runs this on one, where the kernel itself
** refuses what is not aligned.
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

enum { SECTOR = 4096, MOST_HANDLES = 64 };

static int is_direct; /* this file system has Direct I/O */

static os_file *direct[MOST_HANDLES];
static _Atomic unsigned transfers, unaligned; /* large flushes have threads */

int __real_os_make_direct(os_file *f, os_geometry *geo);
int __wrap_os_make_direct(os_file *f, os_geometry *geo);
void __real_os_undirect(os_file *f);
void __wrap_os_undirect(os_file *f);
int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);

/* The place of a handle among the direct ones; NULL: of a free one. */
static os_file **place_of(const os_file *f)
{
  for (int i = 0; i < MOST_HANDLES; i++)
    if (direct[i] == f)
      return &direct[i];
  return NULL;
}

int __wrap_os_make_direct(os_file *f, os_geometry *geo)
{
  int err = __real_os_make_direct(f, geo);
  os_file **place = place_of(NULL);
  if (err == PAGEDB_OK && place != NULL) {
    *place = f;
    is_direct = 1;
    geo->offset_align = geo->memory_align = SECTOR;
  }
  return err;
}

void __wrap_os_undirect(os_file *f)
{
  os_file **place = place_of(f);
  if (place != NULL)
    *place = NULL;
  __real_os_undirect(f);
}

static void look_at(const os_file *f, const os_iov *iov, int n, uint64_t off)
{
  if (place_of(f) == NULL)
    return;
  transfers++;
  for (int i = 0; i < n; i++)
    unaligned += (uintptr_t)iov[i].base % SECTOR != 0 ||
                 iov[i].len % SECTOR != 0 || off % SECTOR != 0;
}

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  look_at(f, iov, n, off);
  return __real_os_readv(f, iov, n, off, done);
}

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  look_at(f, iov, n, off);
  return __real_os_writev(f, iov, n, off);
}

/* --------------------------------------------------------------------- SQL */

static void insert(sqlite3 *db, int first, int n, int bytes)
{
  run(db,
      "WITH RECURSIVE c(i) AS (SELECT %d UNION ALL SELECT i+1 FROM c WHERE "
      "i<%d) INSERT INTO t SELECT i, i*7%%100, hex(zeroblob(%d))||i FROM c",
      first, first + n - 1, bytes);
}

/* Grows, spills, rolls back, shrinks, vacuums, is copied over. */
static uint64_t play(const char *path, const char *vfs, const char *journal,
                     int page_size)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA page_size=%d; PRAGMA journal_mode=%s; PRAGMA cache_size=10; "
      "PRAGMA synchronous=OFF",
      page_size, journal);
  run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, n, v); CREATE INDEX ti ON "
          "t(n)");
  insert(db, 1, 300, 200);
  insert(db, 1000, 3, page_size * 3);
  if (strcmp(journal, "OFF") != 0)
    run(db, "BEGIN; UPDATE t SET n=n+1, v=v||'x'; ROLLBACK");
  run(db, "UPDATE t SET n=n+1 WHERE a%%3=0; PRAGMA wal_checkpoint");
  run(db, "DELETE FROM t WHERE a%%2=0; PRAGMA wal_checkpoint(TRUNCATE)");
  db_close(db);
  db = db_open(path, vfs);
  run(db, "PRAGMA synchronous=OFF; PRAGMA cache_size=5; UPDATE t SET v=v||'y' "
          "WHERE n<50; VACUUM");
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  uint64_t hash = content_hash(db);
  db_close(db);
  return hash;
}

static void test_every_transfer_fits(void **state)
{
  (void)state;
  static const char *const journals[] = {"DELETE", "TRUNCATE", "PERSIST",
                                         "MEMORY", "OFF",      "WAL"};
  const char *path = db_path("sector.db"), *stock = db_path("sector-stock.db");
  for (int size = 512; size <= 65536; size *= 2)
    for (int j = 0; j < 6; j++) {
      uint64_t right = play(stock, "unix", journals[j], size);
      for (int plain = 0; plain < 2; plain++) {
        const char *vfs = plain ? "pagedb&pagedb_stamp=off" : "pagedb";
        transfers = unaligned = 0;
        assert_true(play(path, vfs, journals[j], size) == right);
        assert_int_equal(unaligned, 0);
        /* Pages below the sector's size go through the system's cache. */
        if (size < SECTOR)
          assert_int_equal(transfers, 0);
        else if (is_direct)
          assert_true(transfers > 0);
        assert_whole(path, !plain);
      }
    }
}

/* Another page size, by VACUUM and by a backup, goes in pieces of the old one. */
static void test_other_sizes(void **state)
{
  (void)state;
  const char *path = db_path("sector-sizes.db");
  static const int sizes[] = {512, 4096, 1024, 8192, 2048, 65536, 512};
  play(path, "pagedb", "DELETE", 4096);
  sqlite3 *db = db_open(path, "pagedb");
  uint64_t hash = content_hash(db);
  unaligned = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    run(db, "PRAGMA synchronous=OFF; PRAGMA page_size=%d; VACUUM", sizes[i]);
    assert_int_equal(get_int(db, "PRAGMA page_size"), sizes[i]);
    assert_true(content_hash(db) == hash);
    sqlite3 *to = db_open(db_path("sector-copy.db"), "pagedb");
    run(to, "PRAGMA page_size=4096; CREATE TABLE z(a)");
    sqlite3_backup *b = sqlite3_backup_init(to, "main", db, "main");
    assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
    assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
    assert_true(content_hash(to) == hash);
    db_close(to);
  }
  db_close(db);
  assert_int_equal(unaligned, 0);
  assert_whole(path, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_transfer_fits),
      cmocka_unit_test(test_other_sizes),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
