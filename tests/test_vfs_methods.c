/*
** test_vfs_methods.c - the methods of the VFS and of its files, called directly:
** what SQLite's own order of calls never asks of them, and what rules say that no
** caller may get.
*/
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SQLITE_CORE 1
#include "../core/endian.h"
#include "../core/pagedb.h"
#include "../vfs/vfs_int.h"
#include "sqlutil.h"

enum { SIZE = 4096 };

static sqlite3_file *file_of(sqlite3 *db, int op)
{
  sqlite3_file *f = NULL;
  assert_int_equal(sqlite3_file_control(db, "main", op, &f), SQLITE_OK);
  assert_non_null(f);
  return f;
}

static sqlite3_file *main_file(sqlite3 *db)
{
  return file_of(db, SQLITE_FCNTL_FILE_POINTER);
}

static sqlite3 *make(const char *path, const char *journal)
{
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA page_size=%d; PRAGMA journal_mode=%s; CREATE TABLE t(a, b);",
      SIZE, journal);
  run(db, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<300) INSERT INTO t SELECT n, hex(zeroblob(100)) FROM c");
  return db;
}

static int control(sqlite3_file *f, int op, void *arg)
{
  return f->pMethods->xFileControl(f, op, arg);
}

/* ------------------------------------------------------------ rules, reading */

/* SQLite never sees the guard nor a stamp, however it asks. */
static void test_no_guard_above(void **state)
{
  (void)state;
  const char *path = db_path("unseen.db");
  for (int wal = 0; wal < 2; wal++) {
    sqlite3 *db = make(path, wal ? "WAL" : "DELETE");
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_file *f = main_file(db);
    unsigned char page[2 * SIZE], raw[32];
    file_read_at(path, 0, raw, 32);
    assert_int_equal(raw[18], 0x50 | (wal ? 2 : 1));
    static const struct {
      int n, off;
    } reads[] = {{100, 0}, {20, 0}, {19, 0}, {1, 18}, {16, 10}, {SIZE, 0}};
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
      assert_int_equal(f->pMethods->xRead(f, page, reads[i].n, reads[i].off),
                       SQLITE_OK);
      assert_int_equal(page[18 - reads[i].off], wal ? 2 : 1);
    }
    assert_int_equal(f->pMethods->xRead(f, page, SIZE, SIZE), SQLITE_OK);
    for (int i = SIZE - 32; i < SIZE; i++)
      assert_int_equal(page[i], 0);
    db_close(db);
  }
}

static void test_odd_reads(void **state)
{
  (void)state;
  const char *path = db_path("odd.db");
  sqlite3 *db = make(path, "DELETE");
  run(db, "BEGIN; SELECT count(*) FROM t");
  sqlite3_file *f = main_file(db);
  unsigned char a[2 * SIZE], b[2 * SIZE];
  sqlite3_int64 bytes = 0;
  void *page = a;
  file_read_at(path, 0, a, 2 * SIZE);
  /* Over the edge of two pages: as it is on disk, but for the guard. */
  assert_int_equal(f->pMethods->xRead(f, b, SIZE, 100), SQLITE_OK);
  assert_memory_equal(a + 100, b, SIZE - 100 - 32);
  assert_int_equal(f->pMethods->xRead(f, b, 0, SIZE), SQLITE_OK);
  assert_int_equal(f->pMethods->xFileSize(f, &bytes), SQLITE_OK);
  memset(b, 7, sizeof b);
  assert_int_equal(f->pMethods->xRead(f, b, SIZE, bytes),
                   SQLITE_IOERR_SHORT_READ);
  assert_int_equal(b[0], 0);
  memset(b, 7, sizeof b);
  assert_int_equal(f->pMethods->xRead(f, b, SIZE, bytes + 10 * SIZE),
                   SQLITE_IOERR_SHORT_READ);
  assert_int_equal(b[SIZE - 1], 0);
  /* No page to pin: SQLite then reads. */
  static const struct {
    int64_t off;
    int n;
  } fetches[] = {{0, SIZE},
                 {SIZE, 512},
                 {512, SIZE},
                 {SIZE, SIZE + 1},
                 {(int64_t)1 << 50, SIZE}};
  for (size_t i = 0; i < sizeof fetches / sizeof fetches[0]; i++) {
    page = a;
    assert_int_equal(
        f->pMethods->xFetch(f, fetches[i].off, fetches[i].n, &page), SQLITE_OK);
    assert_null(page);
  }
  assert_int_equal(f->pMethods->xUnfetch(f, 0, NULL), SQLITE_OK);
  /* Nor of a file that is empty, which has no page size. */
  db_remove(db_path("empty.db"));
  sqlite3 *empty = db_open(db_path("empty.db"), "pagedb");
  sqlite3_file *e = main_file(empty);
  page = a;
  assert_int_equal(e->pMethods->xFetch(e, 512, 0, &page), SQLITE_OK);
  assert_null(page);
  db_close(empty);
  sqlite3_int64 limit = -1;
  assert_int_equal(control(f, SQLITE_FCNTL_MMAP_SIZE, &limit), SQLITE_OK);
  limit = (sqlite3_int64)1 << 40;
  assert_int_equal(control(f, SQLITE_FCNTL_MMAP_SIZE, &limit), SQLITE_OK);
  assert_int_equal(f->pMethods->xFetch(f, SIZE, SIZE, &page), SQLITE_OK);
  assert_non_null(page);
  /* Not while a page is out. */
  sqlite3_int64 zero = 0;
  assert_int_equal(control(f, SQLITE_FCNTL_MMAP_SIZE, &zero), SQLITE_OK);
  zero = -1;
  assert_int_equal(control(f, SQLITE_FCNTL_MMAP_SIZE, &zero), SQLITE_OK);
  assert_true(zero > 0);
  assert_int_equal(f->pMethods->xUnfetch(f, SIZE, page), SQLITE_OK);
  run(db, "COMMIT");
  db_close(db);
}

/* What SQLite's own VFS takes for an empty file is one here. */
static void test_one_byte(void **state)
{
  (void)state;
  const char *path = db_path("byte.db");
  static const char *const vfs[] = {"unix", "pagedb"};
  for (int i = 0; i < 2; i++) {
    db_remove(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fputc(2, f), 2);
    assert_int_equal(fclose(f), 0);
    sqlite3 *db = db_open(path, vfs[i]);
    assert_int_equal(get_int(db, "SELECT count(*) FROM sqlite_master"), 0);
    run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(9000))");
    db_close(db);
    db = db_open(path, vfs[!i]);
    assert_int_equal(get_int(db, "SELECT length(a) FROM t"), 9000);
    db_close(db);
    assert_whole(path, i); /* new, so page-db stamps it */
  }
}

/* ------------------------------------------------------------ rules, writing */

/* A page that cannot be stamped never enters the log of a stamped database. */
static void test_log_refuses(void **state)
{
  (void)state;
  const char *path = db_path("refuses.db");
  sqlite3 *db = make(path, "WAL");
  sqlite3_file *wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
  static unsigned char page[SIZE];
  sqlite3_int64 bytes = 0, now = 0, at;
  assert_int_equal(wal->pMethods->xFileSize(wal, &bytes), SQLITE_OK);
  at = 32 + (bytes - 32) / (SIZE + 24) * (SIZE + 24) + 24;
  memset(page, 0, SIZE);
  page[SIZE - 1] = 1; /* somebody else's tail */
  assert_int_equal(wal->pMethods->xWrite(wal, page, SIZE, at),
                   SQLITE_IOERR_WRITE);
  assert_non_null(strstr(first_log(), "refused to write a page into the log"));
  /* The second part of a frame that a sync cut in two. */
  assert_int_equal(
      wal->pMethods->xWrite(wal, page + SIZE - 512, 512, at + SIZE - 512),
      SQLITE_IOERR_WRITE);
  /* A page 1 of another geometry, whose tail is clean. */
  static const struct {
    int at, value;
  } changes[] = {{16, 0x20}, {20, 0}, {20, 48}};
  for (int i = 0; i < 3; i++) {
    file_read_at(path, 0, page, SIZE);
    memset(page + SIZE - 32, 0, 32);
    page[18] = 2;
    page[changes[i].at] = (unsigned char)changes[i].value;
    assert_int_equal(wal->pMethods->xWrite(wal, page, SIZE, at),
                     SQLITE_IOERR_WRITE);
  }
  assert_int_equal(wal->pMethods->xFileSize(wal, &now), SQLITE_OK);
  assert_true(now == bytes);
  /* What can be stamped enters, so do headers. */
  memset(page, 0, SIZE);
  assert_int_equal(wal->pMethods->xWrite(wal, page, 24, at - 24), SQLITE_OK);
  assert_int_equal(wal->pMethods->xWrite(wal, page, SIZE, at), SQLITE_OK);
  db_close(db);
  assert_whole(path, 1);
}

/* The same by SQLite: the backup of a database that keeps no bytes free. */
static void test_log_refuses_backup(void **state)
{
  (void)state;
  const char *path = db_path("refuses.db");
  sqlite3 *db = make(path, "WAL"), *from = db_open(":memory:", "unix");
  uint64_t before = content_hash(db);
  run(from,
      "PRAGMA page_size=%d; CREATE TABLE z(x); INSERT INTO z "
      "VALUES(randomblob(50000))",
      SIZE);
  sqlite3_backup *b = sqlite3_backup_init(db, "main", from, "main");
  assert_non_null(b);
  int step = sqlite3_backup_step(b, -1), end = sqlite3_backup_finish(b);
  assert_true(step != SQLITE_DONE || end != SQLITE_OK);
  assert_true(content_hash(db) == before);
  db_close(from);
  db_close(db);
  assert_whole(path, 1);
}

/* A checkpoint refuses what cannot be stamped, and writes nothing of it. */
static void test_checkpoint_refuses(void **state)
{
  (void)state;
  const char *path = db_path("refuses.db");
  sqlite3 *db = make(path, "WAL");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  sqlite3_file *f = main_file(db);
  static unsigned char page[2 * SIZE], before[2 * SIZE], after[2 * SIZE];
  file_read_at(path, 0, before, sizeof before);
  control(f, SQLITE_FCNTL_CKPT_START, NULL);
  memset(page, 0, SIZE);
  page[SIZE - 1] = 1;
  assert_int_equal(f->pMethods->xWrite(f, page, SIZE, SIZE),
                   SQLITE_IOERR_WRITE);
  page[SIZE - 1] = 0;
  assert_int_equal(f->pMethods->xWrite(f, page, 512, SIZE), SQLITE_IOERR_WRITE);
  assert_int_equal(f->pMethods->xWrite(f, page, SIZE, 512), SQLITE_IOERR_WRITE);
  static const struct {
    int at, value;
  } changes[] = {{0, 'X'}, {16, 0x20}, {20, 0}};
  for (int i = 0; i < 3; i++) {
    memcpy(page, before, SIZE);
    memset(page + SIZE - 32, 0, 32);
    page[changes[i].at] = (unsigned char)changes[i].value;
    assert_int_equal(f->pMethods->xWrite(f, page, SIZE, 0), SQLITE_IOERR_WRITE);
  }
  control(f, SQLITE_FCNTL_CKPT_DONE, NULL);
  file_read_at(path, 0, after, sizeof after);
  assert_memory_equal(before, after, sizeof after);
  db_close(db);
  assert_whole(path, 1);
}

/* Pages that nobody writes are stamped zero pages, and durable, before page 1 counts
** them. What an earlier, partial checkpoint brought in stays. */
static void test_checkpoint_fills(void **state)
{
  (void)state;
  const char *path = db_path("fills.db");
  sqlite3 *db = make(path, "WAL");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  sqlite3_file *f = main_file(db);
  static unsigned char page1[SIZE], page[SIZE];
  uint64_t lsn, count = file_bytes_of(path) / SIZE;
  const char *syncs = "SELECT value FROM pagedb_stats WHERE name='syncs'";
  assert_int_equal(f->pMethods->xRead(f, page1, SIZE, 0), SQLITE_OK);
  put_be32(page1 + 28, (uint32_t)count + 3);
  memset(page, 0, SIZE);
  page[0] = 5;
  control(f, SQLITE_FCNTL_CKPT_START, NULL);
  assert_int_equal(
      f->pMethods->xWrite(f, page, SIZE, (sqlite3_int64)(count + 1) * SIZE),
      SQLITE_OK);
  int64_t before = get_int(db, syncs);
  assert_int_equal(f->pMethods->xWrite(f, page1, SIZE, 0), SQLITE_OK);
  assert_true(get_int(db, syncs) > before);
  control(f, SQLITE_FCNTL_CKPT_DONE, NULL);
  for (uint64_t id = 0; id < count + 3; id++) {
    file_read_at(path, id * SIZE, page, SIZE);
    ok(pagedb_page_verify(page, SIZE, SIZE, PAGEDB_TRAILING, id, &lsn));
    if (id >= count)
      assert_int_equal(page[0], id == count + 1 ? 5 : 0);
  }
  db_close(db);
}

/* In a plain file it writes whatever comes; an empty one learns from page 1. */
static void test_checkpoint_of_plain_files(void **state)
{
  (void)state;
  const char *path = db_path("plain.db");
  static unsigned char page[SIZE], back[SIZE];
  static const struct {
    int n, off;
  } writes[] = {{512, 512}, {1000, 0}, {SIZE, 100}, {SIZE, SIZE}};
  for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
    for (int empty = 0; empty < 2; empty++) {
      db_remove(path);
      sqlite3 *db = db_open(path, "pagedb&pagedb_stamp=off");
      if (!empty)
        run(db, "PRAGMA page_size=%d; CREATE TABLE t(a)", SIZE);
      sqlite3_file *f = main_file(db);
      memset(page, 'x', sizeof page);
      assert_int_equal(f->pMethods->xLock(f, SQLITE_LOCK_SHARED), SQLITE_OK);
      control(f, SQLITE_FCNTL_CKPT_START, NULL);
      assert_int_equal(f->pMethods->xWrite(f, page, writes[i].n, writes[i].off),
                       SQLITE_OK);
      control(f, SQLITE_FCNTL_CKPT_DONE, NULL);
      assert_int_equal(f->pMethods->xUnlock(f, SQLITE_LOCK_NONE), SQLITE_OK);
      file_read_at(path, (uint64_t)writes[i].off, back, (size_t)writes[i].n);
      assert_memory_equal(page, back, (size_t)writes[i].n);
      db_close(db);
    }
  /* Born in a checkpoint: stamped if page 1 comes first and keeps 32 bytes. */
  for (int kind = 0; kind < 5; kind++) {
    sqlite3 *db = make(path, "DELETE");
    file_read_at(path, 0, page, SIZE);
    db_close(db);
    db_remove(path);
    page[18] = page[19] = 1;
    memset(page + SIZE - 32, 0, 32);
    if (kind == 1)
      page[20] = 0;
    if (kind == 2)
      page[16] = 0x20;
    if (kind == 3)
      page[0] = 'X';
    db = db_open(path, "pagedb");
    sqlite3_file *f = main_file(db);
    assert_int_equal(f->pMethods->xLock(f, SQLITE_LOCK_SHARED), SQLITE_OK);
    control(f, SQLITE_FCNTL_CKPT_START, NULL);
    assert_int_equal(f->pMethods->xWrite(f, page, SIZE, kind == 4 ? SIZE : 0),
                     SQLITE_OK);
    control(f, SQLITE_FCNTL_CKPT_DONE, NULL);
    assert_int_equal(f->pMethods->xUnlock(f, SQLITE_LOCK_NONE), SQLITE_OK);
    if (kind != 4)
      file_read_at(path, 0, back, SIZE);
    if (kind != 4)
      assert_int_equal(back[18] >> 4, kind == 0 ? 5 : 0);
    db_close(db);
  }
}

/* --------------------------------------------------------- files, controls */

static void test_log_passes_on(void **state)
{
  (void)state;
  const char *path = db_path("log.db");
  sqlite3 *db = make(path, "WAL");
  sqlite3_file *wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
  const sqlite3_io_methods *m = wal->pMethods;
  unsigned char head[32];
  int reserved = 7, count = 0;
  sqlite3_int64 bytes = 0;
  assert_int_equal(m->iVersion, 1);
  assert_int_equal(m->xRead(wal, head, 32, 0), SQLITE_OK);
  assert_int_equal(head[0], 0x37);
  assert_int_equal(m->xFileSize(wal, &bytes), SQLITE_OK);
  assert_true(bytes > 32);
  assert_int_equal(m->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_OK);
  assert_int_equal(m->xLock(wal, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(m->xCheckReservedLock(wal, &reserved), SQLITE_OK);
  assert_int_equal(reserved, 0);
  assert_int_equal(m->xUnlock(wal, SQLITE_LOCK_NONE), SQLITE_OK);
  assert_true(m->xSectorSize(wal) >= 512);
  m->xDeviceCharacteristics(wal);
  assert_int_equal(control(wal, SQLITE_FCNTL_LAST_ERRNO, &count), SQLITE_OK);
  db_close(db);
}

static void test_controls(void **state)
{
  (void)state;
  const char *path = db_path("controls.db");
  sqlite3 *db = make(path, "DELETE");
  sqlite3_file *f = main_file(db);
  static const int batch[] = {SQLITE_FCNTL_BEGIN_ATOMIC_WRITE,
                              SQLITE_FCNTL_COMMIT_ATOMIC_WRITE,
                              SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE};
  for (int i = 0; i < 3; i++)
    assert_int_equal(control(f, batch[i], NULL), SQLITE_NOTFOUND);
  sqlite3_int64 hint = 1 << 20;
  int chunk = 1 << 20, reserved = 5;
  uint64_t bytes = file_bytes_of(path);
  /* No page that nobody wrote in a stamped file. */
  assert_int_equal(control(f, SQLITE_FCNTL_SIZE_HINT, &hint), SQLITE_OK);
  assert_int_equal(control(f, SQLITE_FCNTL_CHUNK_SIZE, &chunk), SQLITE_OK);
  run(db, "INSERT INTO t VALUES(1, 2)");
  assert_true(file_bytes_of(path) < bytes + 100000);
  assert_int_equal(f->pMethods->xCheckReservedLock(f, &reserved), SQLITE_OK);
  assert_int_equal(reserved, 0);
  char *name = NULL;
  assert_int_equal(control(f, SQLITE_FCNTL_VFSNAME, &name), SQLITE_OK);
  assert_string_equal(name, "pagedb/unix");
  sqlite3_free(name);
  assert_true(f->pMethods->xSectorSize(f) >= 512);
  assert_int_equal(f->pMethods->xDeviceCharacteristics(f) &
                       (SQLITE_IOCAP_ATOMIC | SQLITE_IOCAP_BATCH_ATOMIC),
                   0);
  db_close(db);
  /* A plain one is made longer as its application wants. */
  db_remove(path);
  db = db_open(path, "pagedb&pagedb_stamp=off");
  run(db, "CREATE TABLE t(a)");
  f = main_file(db);
  assert_int_equal(control(f, SQLITE_FCNTL_CHUNK_SIZE, &chunk), SQLITE_OK);
  run(db, "INSERT INTO t VALUES(zeroblob(20000))");
  assert_int_equal(file_bytes_of(path) % (1 << 20), 0);
  db_close(db);
}

/* --------------------------------------------------------------------- VFS */

/* A parent of the oldest kind. */
static sqlite3_vfs old;

static void pass_on(sqlite3_vfs *v, int version)
{
  char text[600];
  double days = 0;
  sqlite3_int64 ms = 0;
  int there = 5;
  v->xGetLastError(v, sizeof text, text);
  assert_int_equal(v->xFullPathname(v, "x", sizeof text, text), SQLITE_OK);
  assert_true(strlen(text) > 1);
  assert_int_equal(v->xAccess(v, text, SQLITE_ACCESS_EXISTS, &there),
                   SQLITE_OK);
  assert_int_equal(there, 0);
  assert_int_equal(v->xAccess(v, NULL, SQLITE_ACCESS_EXISTS, &there),
                   SQLITE_OK);
  assert_int_equal(v->xDelete(v, text, 0), SQLITE_IOERR_DELETE_NOENT);
  assert_int_equal(v->xRandomness(v, 8, text), 8);
  assert_true(v->xSleep(v, 1) >= 1);
  assert_int_equal(v->xCurrentTime(v, &days), SQLITE_OK);
  assert_int_equal(v->xCurrentTimeInt64(v, &ms), SQLITE_OK);
  assert_true(days > 2460000 && ms / 86400000 >= (sqlite3_int64)days - 1 &&
              ms / 86400000 <= (sqlite3_int64)days + 1);
  if (version >= 3) {
    assert_string_equal(v->xNextSystemCall(v, NULL), "open");
    assert_non_null((void *)(uintptr_t)v->xGetSystemCall(v, "open"));
    assert_int_equal(v->xSetSystemCall(v, "open", NULL), SQLITE_OK);
  } else {
    assert_null(v->xNextSystemCall(v, NULL));
    assert_null((void *)(uintptr_t)v->xGetSystemCall(v, "open"));
    assert_int_equal(v->xSetSystemCall(v, "open", NULL), SQLITE_NOTFOUND);
  }
  assert_null(v->xDlOpen(v, "/no/such/library"));
  v->xDlError(v, sizeof text, text);
  void *self = v->xDlOpen(v, NULL);
  if (self != NULL) {
    assert_null((void *)(uintptr_t)v->xDlSym(v, self, "no_such_symbol"));
    v->xDlClose(v, self);
  }
}

static void test_passes_on(void **state)
{
  (void)state;
  sqlite3_vfs *v = sqlite3_vfs_find("pagedb"), *below = v->pAppData;
  pass_on(v, 3);
  old = *below;
  old.zName = "old";
  old.iVersion = 1;
  v->pAppData = &old;
  pass_on(v, 1);
  old.iVersion = 2;
  pass_on(v, 2);
  old.xCurrentTimeInt64 = NULL;
  pass_on(v, 2);
  v->pAppData = below;
}

/* Such a parent has no system calls: its files run in parent mode. */
static void test_old_parent(void **state)
{
  (void)state;
  const char *path = db_path("old.db");
  old = *(sqlite3_vfs *)sqlite3_vfs_find("unix");
  old.zName = "old";
  old.iVersion = 1;
  assert_int_equal(sqlite3_vfs_register(&old, 0), SQLITE_OK);
  for (int wal = 0; wal < 2; wal++) {
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb&pagedb_parent=old");
    run(db,
        "PRAGMA journal_mode=%s; CREATE TABLE t(a); INSERT INTO t "
        "VALUES(1)",
        wal ? "WAL" : "PERSIST");
    assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "parent");
    run(db, "ATTACH 'file:%q-2?vfs=pagedb' AS two; CREATE TABLE two.t(a)",
        path);
    run(db, "DETACH two");
    db_close(db);
    assert_whole(path, 1);
    char two[700];
    snprintf(two, sizeof two, "%s-2", path);
    db_remove(two);
  }
  sqlite3_vfs_unregister(&old);
}

static int open_code(const char *path, const char *more, int flags)
{
  char uri[900];
  sqlite3 *db = NULL;
  snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&%s", path, more);
  int rc = sqlite3_open_v2(uri, &db, flags | SQLITE_OPEN_URI, NULL);
  if (rc == SQLITE_OK) {
    sqlite3_extended_result_codes(db, 1);
    rc = try_run(db, "SELECT count(*) FROM sqlite_master");
  }
  sqlite3_close(db);
  return rc;
}

static void test_parameters(void **state)
{
  (void)state;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const char *path = db_path("parameters.db");
  db_close(make(path, "DELETE"));
  static const char *const refused[] = {
      "pagedb_verify=maybe", "pagedb_stamp=perhaps", "pagedb_direct=x",
      "pagedb_parent=nobody", "pagedb_parent=pagedb"};
  static const char *const fine[] = {
      "pagedb_verify=ON",  "pagedb_verify=off",       "pagedb_stamp=On",
      "pagedb_stamp=OFF",  "pagedb_stamp=required",   "pagedb_direct=Auto",
      "pagedb_direct=off", "pagedb_parent=unix-none", "nolock=1",
      "immutable=1"};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
    assert_int_equal(open_code(path, refused[i], flags), SQLITE_CANTOPEN);
  for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
    assert_int_equal(open_code(path, fine[i], flags), SQLITE_OK);
  setenv("PAGEDB_DIRECT", "never", 1);
  assert_int_equal(open_code(path, "x=1", flags), SQLITE_CANTOPEN);
  setenv("PAGEDB_DIRECT", "auto", 1);
  assert_int_equal(open_code(path, "x=1", flags), SQLITE_OK);
  unsetenv("PAGEDB_DIRECT");
  setenv("PAGEDB_STAMP", "on", 1);
  assert_int_equal(open_code(path, "x=1", flags), SQLITE_OK);
  setenv("PAGEDB_STAMP", "never", 1);
  assert_int_equal(open_code(path, "x=1", flags), SQLITE_CANTOPEN);
  unsetenv("PAGEDB_STAMP");
  /* Where there is no Direct I/O, to require it is refused, at the first open
  ** and beside a connection that did not ask. */
  if (access("/dev/shm", W_OK) != 0)
    return;
  char shm[100];
  snprintf(shm, sizeof shm, "/dev/shm/pagedb-methods-%d", (int)getpid());
  db_remove(shm);
  assert_int_equal(open_code(shm, "pagedb_direct=required", flags),
                   SQLITE_CANTOPEN);
  sqlite3 *db = db_open(shm, "pagedb");
  run(db, "CREATE TABLE t(a)");
  assert_string_equal(get_text(db, "SELECT io FROM pagedb_files"), "buffered");
  assert_int_equal(open_code(shm, "pagedb_direct=required", flags),
                   SQLITE_CANTOPEN);
  db_close(db);
  db_remove(shm);
}

/* First for reading, then for writing: the descriptors are opened anew. */
static void test_read_only_first(void **state)
{
  (void)state;
  const char *path = db_path("first.db");
  static const char *const policy[] = {"auto", "off"};
  db_close(make(path, "DELETE"));
  for (int i = 0; i < 4; i++) {
    char uri[900];
    sqlite3 *reader = NULL;
    snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&pagedb_direct=%s", path,
             policy[i / 2]);
    assert_int_equal(sqlite3_open_v2(uri, &reader,
                                     SQLITE_OPEN_READONLY | SQLITE_OPEN_URI,
                                     NULL),
                     SQLITE_OK);
    assert_true(get_int(reader, "SELECT count(*) FROM t") > 0);
    assert_int_equal(try_run(reader, "PRAGMA pagedb_stamp"), SQLITE_READONLY);
    snprintf(uri, sizeof uri, "pagedb&pagedb_direct=%s", policy[i % 2]);
    sqlite3 *writer = db_open(path, uri);
    run(writer, "INSERT INTO t VALUES(%d, 'later')", 1000 + i);
    assert_int_equal(get_int(reader, "SELECT max(a) FROM t"), 1000 + i);
    db_close(writer);
    run(reader, "SELECT count(*) FROM t");
    db_close(reader);
  }
  assert_whole(path, 1);
}

/* --------------------------------------------------------------------- SQL */

static int steps(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st = NULL;
  int rows = 0;
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
    return -1;
  while (sqlite3_step(st) == SQLITE_ROW) {
    rows++;
    for (int i = 0; i < sqlite3_column_count(st); i++)
      sqlite3_column_text(st, i);
  }
  return sqlite3_finalize(st) == SQLITE_OK ? rows : -1;
}

static void test_tables(void **state)
{
  (void)state;
  const char *path = db_path("tables.db"), *other = db_path("tables-2.db");
  static const char *const journals[] = {"DELETE", "WAL"};
  for (int i = 0; i < 2; i++) {
    sqlite3 *db = make(path, journals[i]);
    db_remove(other);
    run(db, "ATTACH 'file:%q?vfs=pagedb' AS \"o\"\"ther\"", other);
    assert_int_equal(steps(db, "SELECT *, rowid FROM pagedb_files"), 2);
    /* A checkpoint renews pages that the pool has, and leaves none dirty. */
    run(db, "PRAGMA wal_checkpoint");
    sqlite3 *second = db_open(path, "pagedb");
    assert_int_equal(get_int(second, "SELECT count(b) FROM t"), 300);
    db_close(second);
    run(db, "UPDATE t SET a=a+1");
    run(db, "PRAGMA wal_checkpoint");
    assert_int_equal(
        get_int(db,
                "SELECT count(*) FROM pagedb_files WHERE path='%s' AND "
                "state='stamped' AND journal='%s' AND page_size=%d AND "
                "dirty=0 AND connections=1 AND failed=0 AND ifnull(last_error, "
                "'')='' "
                "AND "
                "lsn=(SELECT max(lsn) FROM pagedb_pages) AND lsn>0",
                path, i == 0 ? "rollback" : "wal", SIZE),
        1);
    assert_int_equal(steps(db, "SELECT *, schema FROM pagedb_pages"),
                     (int)get_int(db, "PRAGMA page_count"));
    assert_int_equal(steps(db, "SELECT * FROM pagedb_pages('o\"ther')"), 0);
    run(db, "CREATE TABLE \"o\"\"ther\".x(a); INSERT INTO x VALUES(1)");
    assert_int_equal(
        steps(db, "SELECT * FROM pagedb_pages WHERE schema='o\"ther'"), 2);
    assert_true(steps(db, "SELECT * FROM pagedb_stats WHERE value>=0") > 30);
    assert_int_equal(
        steps(db, "SELECT * FROM pagedb_stats WHERE name GLOB '*_latency_*'"),
        9);
    /* One cursor that begins twice gives back what it began with. */
    steps(db, "SELECT * FROM (VALUES(1),(2)) CROSS JOIN pagedb_pages('main')");
    sqlite3_int64 taken = sqlite3_memory_used();
    steps(db, "SELECT * FROM (VALUES(1),(2)) CROSS JOIN pagedb_pages('main')");
    assert_true(sqlite3_memory_used() <= taken);
    /* Not a name: nothing, or an error that says so. */
    assert_int_equal(steps(db, "SELECT * FROM pagedb_pages('nobody')"), -1);
    assert_non_null(strstr(sqlite3_errmsg(db), "nobody"));
    assert_int_equal(steps(db, "SELECT * FROM pagedb_pages('temp')"), -1);
    assert_int_equal(
        steps(db, "SELECT * FROM pagedb_pages WHERE schema>'a' AND page=1"), 1);
    assert_true(steps(db, "SELECT * FROM (SELECT 'main' AS s) n, pagedb_pages "
                          "p WHERE p.schema=n.s") > 1);
    run(db, "CREATE TEMP TABLE n(s); INSERT INTO n VALUES('main')");
    assert_int_equal(steps(db, "SELECT * FROM pagedb_pages p CROSS JOIN n "
                               "WHERE p.schema=n.s"),
                     (int)get_int(db, "PRAGMA page_count"));
    run(db, "DETACH \"o\"\"ther\"");
    /* The schema's own pages, however many it has, are no pages of its tables. */
    for (int k = 0; k < 150; k++)
      run(db, "CREATE TABLE many%d(one, two, three, four, five)", k);
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_int_equal(steps(db, "SELECT * FROM pagedb_pages WHERE object GLOB "
                               "'table many*'"),
                     150);
    /* They take no memory that they do not give back. */
    sqlite3_int64 used = 0;
    for (int k = 0; k < 40; k++) {
      if (k == 10)
        used = sqlite3_memory_used();
      steps(db, "SELECT * FROM pagedb_files, pagedb_stats");
      steps(db, "SELECT * FROM pagedb_pages");
    }
    assert_true(sqlite3_memory_used() < used + 1000);
    db_close(db);
  }
}

static void test_pragmas(void **state)
{
  (void)state;
  const char *path = db_path("pragmas.db");
  sqlite3 *db = make(path, "DELETE");
  static const char *const verify[][2] = {
      {"0", "off"}, {"1", "on"}, {"OFF", "off"}, {"On", "on"}};
  for (int i = 0; i < 4; i++) {
    assert_string_equal(get_text(db, "PRAGMA pagedb_verify=%s", verify[i][0]),
                        verify[i][1]);
    assert_string_equal(get_text(db, "PRAGMA pagedb_verify"), verify[i][1]);
  }
  static const char *const refused[] = {
      "pagedb_verify=maybe",     "pagedb_verify=2",
      "pagedb_pool_size=1",      "pagedb_pool_size='10 elephants'",
      "pagedb_pool_size=''",     "pagedb_pool_size=-5",
      "pagedb_pool_size='1e30'", "pagedb_pool_size='900000GiB'",
      "pagedb_stamp=now",        "pagedb_unstamp=now"};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
    assert_int_equal(try_run(db, "PRAGMA %s", refused[i]), SQLITE_ERROR);
  try_run(db, "PRAGMA pagedb_pool_size='3TiB'");
  assert_string_equal(sqlite3_errmsg(db),
                      "pagedb_pool_size: a pool has at most 2047 GiB");
  try_run(db, "PRAGMA pagedb_pool_size='2047GiB'");
  assert_non_null(strstr(sqlite3_errmsg(db), "(PAGEDB_POOL_SIZE)"));
  try_run(db, "PRAGMA pagedb_verify=maybe");
  assert_string_equal(sqlite3_errmsg(db),
                      "pagedb_verify is on or off, not 'maybe'");
  static const struct {
    const char *text;
    int64_t bytes;
  } sizes[] = {{"131072", 131072},     {"256 KiB", 262144},  {"0.5m", 524288},
               {"1 mb", 1 << 20},      {"300k", 307200},     {"2MIB", 2 << 20},
               {"0.0625GB", 64 << 20}, {"0.25 g", 256 << 20}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    assert_true(get_int(db, "PRAGMA pagedb_pool_size='%s'", sizes[i].text) ==
                sizes[i].bytes);
  char stamped[60];
  snprintf(stamped, sizeof stamped, "stamped already; pages: %d",
           (int)get_int(db, "PRAGMA page_count"));
  assert_string_equal(get_text(db, "PRAGMA pagedb_stamp"), stamped);
  assert_true(get_int(db, "PRAGMA pagedb_lsn") > 0);
  assert_string_equal(get_text(db, "SELECT pagedb_version()"), PAGEDB_VERSION);
  assert_int_equal(try_run(db, "SELECT pagedb_version(1)"), SQLITE_ERROR);
  run(db, "BEGIN");
  assert_int_equal(try_run(db, "PRAGMA pagedb_unstamp"), SQLITE_BUSY);
  run(db, "COMMIT");
  /* The LSN of stamps made at once is in use from then on. */
  for (int wal = 0; wal < 2; wal++) {
    int64_t before = get_int(db, "PRAGMA pagedb_lsn");
    run(db, "PRAGMA journal_mode=%s", wal ? "WAL" : "DELETE");
    run(db, "PRAGMA pagedb_unstamp; PRAGMA pagedb_stamp");
    int64_t lsn = get_int(db, "PRAGMA pagedb_lsn");
    assert_true(lsn > before);
    assert_true(get_int(db, "SELECT max(lsn) FROM pagedb_pages") == lsn);
  }
  db_close(db);
  /* A size for pages is passed on, and the 32 bytes are kept all the same. */
  db_remove(path);
  db = db_open(path, "unix");
  run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  db_close(db);
  db = db_open(path, "pagedb");
  run(db,
      "PRAGMA page_size=7; PRAGMA page_size; PRAGMA page_size=1024; VACUUM");
  assert_int_equal(get_int(db, "PRAGMA page_size"), 1024);
  db_close(db);
  assert_whole(path, 1);
}

static int columns_of(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st = NULL;
  assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
  int n = sqlite3_column_count(st);
  sqlite3_step(st);
  assert_int_equal(sqlite3_finalize(st), SQLITE_OK);
  return n;
}

/* For an empty file, looked at before or not, a size for pages is SQLite's own
** matter; the file is born stamped all the same, or becomes so. */
static void test_page_size_of_a_new_file(void **state)
{
  (void)state;
  const char *path = db_path("new-size.db");
  static const struct {
    const char *before, *other, *after;
  } ways[] = {
      {"", NULL, "CREATE TABLE t(a)"},
      {"SELECT * FROM sqlite_master", NULL, "CREATE TABLE t(a)"},
      {"SELECT * FROM sqlite_master", NULL, "VACUUM; CREATE TABLE t(a)"},
      {"", NULL, "VACUUM; CREATE TABLE t(a)"},
      /* Meanwhile somebody makes a plain database of it. */
      {"", "CREATE TABLE u(a)", "VACUUM; CREATE TABLE t(a)"},
      {"SELECT * FROM sqlite_master", "CREATE TABLE u(a)", "VACUUM"},
      {"SELECT * FROM sqlite_master", "CREATE TABLE u(a)",
       "SELECT * FROM sqlite_master; VACUUM"},
  };
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    db_remove(path);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "%s", ways[i].before);
    assert_int_equal(columns_of(db, "PRAGMA page_size=7"), 0);
    assert_int_equal(columns_of(db, "PRAGMA page_size=8192"), 0);
    if (ways[i].other != NULL) {
      sqlite3 *other = db_open(path, "unix");
      run(other, "%s", ways[i].other);
      db_close(other);
    }
    run(db, "%s", ways[i].after);
    assert_int_equal(get_int(db, "PRAGMA page_size"), 8192);
    db_close(db);
    assert_whole(path, 1);
  }
  /* Where no lock comes that asks, it is done at once. */
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb&nolock=1");
  assert_int_equal(columns_of(db, "PRAGMA page_size=8192"), 1);
  run(db, "CREATE TABLE t(a)");
  assert_int_equal(get_int(db, "PRAGMA page_size"), 8192);
  db_close(db);
  assert_whole(path, 1);
}

/* Who links page-db and has no automatic entry point gets the functions, and
** SQLite's limit for xFetch, for this connection. */
static void test_sql_init(void **state)
{
  (void)state;
  const char *path = db_path("init.db");
  db_close(make(path, "DELETE"));
  for (int ours = 0; ours < 2; ours++) {
    sqlite3 *db = db_open(path, ours ? "pagedb" : "unix");
    run(db, "PRAGMA mmap_size=0");
    assert_int_equal(pagedb_sql_init(db), SQLITE_OK);
    assert_int_equal(get_int(db, "PRAGMA mmap_size") > 0, ours);
    assert_string_equal(get_text(db, "SELECT pagedb_version()"),
                        PAGEDB_VERSION);
    db_close(db);
  }
}

/* SQLite takes room for three handles for each connection, and three more for its
** temporary tables. */
static void test_memory_of_a_connection(void **state)
{
  (void)state;
  const char *path = db_path("memory.db"), *vfs[] = {"unix", "pagedb"};
  int used[2], most;
  for (int i = 0; i < 2; i++) {
    db_remove(path);
    sqlite3 *db = db_open(path, vfs[i]);
    run(db, "PRAGMA page_size=1024; CREATE TABLE t(a)");
    assert_int_equal(
        sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_USED, &used[i], &most, 0),
        SQLITE_OK);
    db_close(db);
  }
  assert_in_range(used[0], 2 * 1024, 8 * 1024);
  assert_in_range(used[1], used[0], used[0] + 3 * 104);
}

/* Sets of pages, where a file has many. */
static void test_bitmap(void **state)
{
  (void)state;
  bitmap b = {0};
  const uint64_t id[] = {5, 63, 64, 1000000, 70000000};
  for (int i = 0; i < 5; i++) {
    bitmap_add(&b, id[i]);
    assert_true(b.words > id[i] / 64);
    assert_true(bitmap_has(&b, id[i]));
    assert_false(bitmap_has(&b, id[i] + 1 + (i == 1)));
  }
  bitmap_cut(&b, 64);
  for (int i = 0; i < 5; i++)
    assert_int_equal(bitmap_has(&b, id[i]), id[i] < 64);
  bitmap_clear(&b);
  assert_false(bitmap_has(&b, 5));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_guard_above),
      cmocka_unit_test(test_odd_reads),
      cmocka_unit_test(test_one_byte),
      cmocka_unit_test(test_log_refuses),
      cmocka_unit_test(test_log_refuses_backup),
      cmocka_unit_test(test_checkpoint_refuses),
      cmocka_unit_test(test_checkpoint_fills),
      cmocka_unit_test(test_checkpoint_of_plain_files),
      cmocka_unit_test(test_log_passes_on),
      cmocka_unit_test(test_controls),
      cmocka_unit_test(test_passes_on),
      cmocka_unit_test(test_old_parent),
      cmocka_unit_test(test_parameters),
      cmocka_unit_test(test_read_only_first),
      cmocka_unit_test(test_tables),
      cmocka_unit_test(test_pragmas),
      cmocka_unit_test(test_page_size_of_a_new_file),
      cmocka_unit_test(test_sql_init),
      cmocka_unit_test(test_memory_of_a_connection),
      cmocka_unit_test(test_bitmap),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
