/*
** test_vfs_parents.c - what stands below the VFS, and beside it: parents that
** answer oddly, descriptors that are not to be had, files that are the same by one
** name and not by another, registration once more.
**
** Linked with --wrap for calls of core/os.h.
*/
#define _DEFAULT_SOURCE
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/endian.h"
#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "vfsutil.h"

enum { SIZE = 4096 };

/* --------------------------------------------------- calls that are refused */

static int borrow_fails, size_fails; /* a pagedb_err, or 0 */

int __real_os_borrow(int fd, os_file **out);
int __real_os_size(os_file *f, uint64_t *bytes);
int __wrap_os_borrow(int fd, os_file **out);
int __wrap_os_size(os_file *f, uint64_t *bytes);

int __wrap_os_borrow(int fd, os_file **out)
{
  return borrow_fails != 0
             ? pagedb_fault_set(borrow_fails, 0, "", PAGEDB_NONE, 0, 0, NULL)
             : __real_os_borrow(fd, out);
}

int __wrap_os_size(os_file *f, uint64_t *bytes)
{
  return size_fails != 0
             ? pagedb_fault_set(size_fails, 0, "", PAGEDB_NONE, 0, 0, NULL)
             : __real_os_size(f, bytes);
}

/* --------------------------------------------------------------- databases */

static sqlite3 *make(const char *path, const char *vfs)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA page_size=%d; CREATE TABLE t(a, b)", SIZE);
  run(db, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<200) INSERT INTO t SELECT n, hex(zeroblob(100)) FROM c");
  return db;
}

/* Opens and reads; the connection, or NULL and the code. */
static sqlite3 *open_as(const char *path, const char *more, int flags, int *rc)
{
  char uri[900];
  sqlite3 *db = NULL;
  snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&%s", path, more);
  *rc = sqlite3_open_v2(uri, &db, flags | SQLITE_OPEN_URI, NULL);
  if (*rc == SQLITE_OK)
    return db;
  sqlite3_close(db);
  return NULL;
}

/* ------------------------------------------------------------- odd parents */

static sqlite3_vfs odd, *below;
static struct {
  int open; /* xOpen; of journals and logs only, with `behind` */
  int behind;
  int path;    /* xFullPathname */
  int control; /* xFileControl */
  int data;    /* xRead and xWrite */
  int access;  /* xAccess, when it asks whether a file may be written */
} answers;
static unsigned closes, asked; /* xAccess */

/* Ours in front of the platform's: of databases, of journals. */
static struct kind {
  sqlite3_io_methods ours;
  const sqlite3_io_methods *real;
} kinds[4];

static const sqlite3_io_methods *real(sqlite3_file *f)
{
  return ((const struct kind *)(const void *)f->pMethods)->real;
}

static int odd_close(sqlite3_file *f)
{
  closes++;
  return real(f)->xClose(f);
}

static int odd_control(sqlite3_file *f, int op, void *arg)
{
  return answers.control != 0 ? answers.control
                              : real(f)->xFileControl(f, op, arg);
}

static int odd_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 off)
{
  return answers.data != 0 ? answers.data : real(f)->xRead(f, buf, n, off);
}

static int odd_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 off)
{
  return answers.data != 0 ? answers.data : real(f)->xWrite(f, buf, n, off);
}

/* A failing open may leave methods behind: then the file has to be closed. */
static int odd_open(sqlite3_vfs *v, const char *name, sqlite3_file *f,
                    int flags, int *out)
{
  struct kind *k = kinds;
  (void)v;
  int rc = below->xOpen(below, name, f, flags, out);
  if (rc != SQLITE_OK)
    return rc;
  while (k->real != NULL && k->real != f->pMethods)
    k++;
  k->real = f->pMethods;
  k->ours = *k->real;
  k->ours.xClose = odd_close;
  k->ours.xFileControl = odd_control;
  k->ours.xRead = odd_read;
  k->ours.xWrite = odd_write;
  f->pMethods = &k->ours;
  return answers.behind && (flags & SQLITE_OPEN_MAIN_DB) != 0 ? SQLITE_OK
                                                              : answers.open;
}

static int odd_path(sqlite3_vfs *v, const char *name, int n, char *out)
{
  (void)v;
  return answers.path != 0 ? answers.path
                           : below->xFullPathname(below, name, n, out);
}

static int odd_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
  (void)v;
  asked++;
  return answers.access != 0 && flags == SQLITE_ACCESS_READWRITE
             ? answers.access
             : below->xAccess(below, name, flags, out);
}

static sqlite3_syscall_ptr odd_no_call(sqlite3_vfs *v, const char *name)
{
  (void)v;
  (void)name;
  return NULL;
}

static void odd_register(void)
{
  below = sqlite3_vfs_find("unix");
  odd = *below;
  odd.zName = "odd";
  odd.pNext = NULL;
  odd.xOpen = odd_open;
  odd.xFullPathname = odd_path;
  odd.xAccess = odd_access;
  memset(&answers, 0, sizeof answers);
  assert_int_equal(sqlite3_vfs_register(&odd, 0), SQLITE_OK);
}

static unsigned files_open(void)
{
  unsigned n = 0;
  pthread_mutex_lock(&pagedb_globals.lock);
  for (shared *s = pagedb_globals.files; s != NULL; s = s->next)
    n++;
  pthread_mutex_unlock(&pagedb_globals.lock);
  return n;
}

static void test_odd_opens(void **state)
{
  (void)state;
  const char *path = db_path("odd.db");
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  int rc;
  odd_register();
  db_close(make(path, "pagedb"));
  /* The database. */
  answers.open = SQLITE_CANTOPEN;
  closes = 0;
  assert_null(open_as(path, "pagedb_parent=odd", flags, &rc));
  assert_int_equal(rc, SQLITE_CANTOPEN);
  assert_int_equal(closes, 1);
  assert_int_equal(files_open(), 0);
  /* Its log. */
  answers.open = 0;
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=odd");
  run(db, "PRAGMA journal_mode=WAL");
  db_close(db);
  answers.open = SQLITE_CANTOPEN;
  answers.behind = 1;
  db = db_open(path, "pagedb&pagedb_parent=odd");
  closes = 0;
  assert_int_equal(try_run(db, "SELECT count(*) FROM t") & 0xff,
                   SQLITE_CANTOPEN);
  assert_true(closes > 0);
  answers.open = 0;
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 200);
  run(db, "PRAGMA journal_mode=DELETE");
  db_close(db);
  /* Of a file whose size is larger than ours nothing is opened. */
  odd.szOsFile = 1 << 20;
  assert_null(open_as(path, "pagedb_parent=odd", flags, &rc));
  assert_int_equal(rc, SQLITE_CANTOPEN);
  odd.szOsFile = below->szOsFile;
  sqlite3_vfs_unregister(&odd);
  assert_int_equal(files_open(), 0);
  assert_whole(path, 1);
}

/* Whatever a parent calls what is wrong, it is an error of the right kind. */
static void test_odd_answers(void **state)
{
  (void)state;
  const char *path = db_path("answers.db");
  char *name = NULL;
  odd_register();
  db_close(make(path, "pagedb"));
  /* Files are told apart by the path as it is. */
  answers.path = SQLITE_CANTOPEN;
  sqlite3_vfs *ours = sqlite3_vfs_find("pagedb");
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=odd");
  sqlite3 *db2 = db_open(path, "pagedb&pagedb_parent=odd");
  conn *c = conn_in(db);
  assert_non_null(ours);
  assert_string_equal(c->file->full_path, path);
  assert_ptr_equal(c->file->fate, conn_in(db2)->file->fate);
  answers.path = 0;
  db_close(db2);
  /* The name of a VFS that has none. */
  answers.control = SQLITE_NOTFOUND;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_VFSNAME, &name);
  assert_string_equal(name, "pagedb/odd");
  sqlite3_free(name);
  answers.control = 0;
  run(db, "SELECT count(*) FROM t");
  static const struct {
    int answer, read, write;
  } codes[] = {{SQLITE_NOMEM, SQLITE_IOERR_NOMEM, SQLITE_IOERR_NOMEM},
               {SQLITE_IOERR_NOMEM, SQLITE_IOERR_NOMEM, SQLITE_IOERR_NOMEM},
               {SQLITE_READONLY, SQLITE_READONLY, SQLITE_READONLY},
               {SQLITE_FULL, SQLITE_FULL, SQLITE_FULL},
               {SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_READ, SQLITE_IOERR_WRITE}};
  uint8_t page[SIZE];
  size_t got;
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    answers.data = codes[i].answer;
    assert_int_equal(shared_report(c->file,
                                   io_read(c->file, page, SIZE, SIZE, &got),
                                   SQLITE_IOERR_READ),
                     codes[i].read);
    assert_non_null(strstr(first_log(), "read, through the parent VFS"));
    assert_int_equal(shared_report(c->file, io_write(c->file, page, SIZE, SIZE),
                                   SQLITE_IOERR_WRITE),
                     codes[i].write);
    assert_non_null(strstr(first_log(), "write, through the parent VFS"));
    sqlite3_db_release_memory(db);
    assert_int_not_equal(try_run(db, "SELECT sum(length(b)) FROM t"),
                         SQLITE_OK);
    answers.data = 0;
    assert_int_equal(get_int(db, "SELECT sum(length(b)) FROM t"), 200 * 200);
  }
  db_close(db);
  sqlite3_vfs_unregister(&odd);
  assert_whole(path, 1);
  /* No system calls to be replaced: nothing is, and files go by the parent. */
  sqlite3_vfs strange = odd;
  strange.xGetSystemCall = NULL;
  capture_install(&strange);
  strange.xGetSystemCall = odd_no_call;
  capture_install(&strange);
}

/* ------------------------------------------------------------- descriptors */

/* A reader is there; the writer that comes gets no descriptor to write with. */
static void test_no_descriptor_for_writing(void **state)
{
  (void)state;
  const char *path = db_path("writing.db");
  const int flags = SQLITE_OPEN_READWRITE;
  int rc;
  db_close(make(path, "pagedb"));
  sqlite3 *reader = open_as(path, "x=1", SQLITE_OPEN_READONLY, &rc);
  assert_non_null(reader);
  assert_int_equal(get_int(reader, "SELECT count(*) FROM t"), 200);
  static const char *const ways[] = {"x=1", "pagedb_direct=off",
                                     "pagedb_direct=required"};
  for (int i = 0; i < 3; i++) {
    borrow_fails = PAGEDB_ECANTOPEN;
    assert_null(open_as(path, ways[i], flags, &rc));
    assert_int_equal(rc, SQLITE_CANTOPEN);
    assert_non_null(strstr(first_log(), "no descriptor for writing"));
    borrow_fails = PAGEDB_ENOMEM;
    assert_null(open_as(path, ways[i], flags, &rc));
    assert_int_equal(rc, SQLITE_NOMEM);
    borrow_fails = 0;
    assert_int_equal(get_int(reader, "SELECT count(*) FROM t"), 200);
  }
  sqlite3 *writer = open_as(path, "x=1", flags, &rc);
  run(writer, "INSERT INTO t VALUES(1, 2)");
  assert_int_equal(get_int(reader, "SELECT count(*) FROM t"), 201);
  /* One more that reads does not ask for descriptors. */
  borrow_fails = PAGEDB_ECANTOPEN;
  sqlite3 *third = open_as(path, "x=1", SQLITE_OPEN_READONLY, &rc);
  borrow_fails = 0;
  assert_int_equal(get_int(third, "SELECT count(*) FROM t"), 201);
  db_close(third);
  db_close(writer);
  db_close(reader);
  assert_whole(path, 1);
}

static void test_identity(void **state)
{
  (void)state;
  uint64_t dev = 0, ino = 0;
  int ends[2];
  assert_int_equal(fd_identity(-1, &dev, &ino), 0);
  assert_int_equal(fd_identity(100000, &dev, &ino), 0);
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(fd_identity(ends[0], &dev, &ino), 0);
  close(ends[0]);
  close(ends[1]);
}

/* Who fails with whom: the same file, by whatever connection, and no other. */
static void test_one_fate(void **state)
{
  (void)state;
  const char *path = db_path("fate.db"), *path2 = db_path("fate-2.db");
  db_close(make(path, "pagedb"));
  db_close(make(path2, "pagedb"));
  sqlite3 *a = db_open(path, "pagedb&nolock=1");
  sqlite3 *b = db_open(path, "pagedb&nolock=1");
  sqlite3 *other = db_open(path2, "pagedb&nolock=1");
  sqlite3 *shared_one = db_open(path, "pagedb");
  sqlite3 *excl = db_open(path, "pagedb&pagedb_parent=unix-excl");
  sqlite3 *none = db_open(path, "pagedb&pagedb_parent=unix-none");
  sqlite3 *again = db_open(path, "pagedb");
  const shared *s = conn_in(a)->file;
  assert_ptr_not_equal(s, conn_in(b)->file);
  assert_ptr_equal(s->fate, conn_in(b)->file->fate);
  assert_ptr_equal(s->fate, conn_in(shared_one)->file->fate);
  assert_ptr_equal(conn_in(shared_one)->file, conn_in(again)->file);
  assert_ptr_not_equal(s->fate, conn_in(other)->file->fate);
  /* Another parent: nobody knows what it makes of the file. */
  assert_ptr_not_equal(conn_in(excl)->file, conn_in(shared_one)->file);
  assert_string_equal(get_text(none, "SELECT count(*) FROM t"), "200");
  assert_non_null(conn_in(none)->file->full_path);
  sqlite3 *all[] = {a, b, other, shared_one, excl, none, again};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    db_close(all[i]);
  if (access("/dev/shm", W_OK) != 0)
    return;
  char shm[100];
  snprintf(shm, sizeof shm, "/dev/shm/pagedb-parents-%d", (int)getpid());
  db_close(make(shm, "pagedb"));
  a = db_open(path, "pagedb&nolock=1");
  b = db_open(shm, "pagedb&nolock=1");
  assert_ptr_not_equal(conn_in(a)->file->fate, conn_in(b)->file->fate);
  db_close(b);
  db_close(a);
  db_remove(shm);
}

/* Without locks, too, no stamping while a statement writes: its pages would go. */
static void test_stamp_without_locks(void **state)
{
  (void)state;
  const char *path = db_path("no-locks.db");
  sqlite3 *db = db_open(path, "pagedb&nolock=1&pagedb_stamp=off");
  sqlite3_stmt *stmt;
  run(db, "PRAGMA cache_size=10; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
          "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE "
          "i<300) INSERT INTO t SELECT i, printf('%%01000d', i) FROM c");
  assert_int_equal(
      sqlite3_prepare_v2(db,
                         "WITH RECURSIVE c(i) AS (SELECT 301 UNION ALL SELECT "
                         "i+1 FROM c WHERE i<600) INSERT INTO t SELECT i, "
                         "printf('%01000d', i) FROM c RETURNING a",
                         -1, &stmt, NULL),
      SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  assert_int_equal(try_run(db, "PRAGMA pagedb_stamp") & 0xff, SQLITE_BUSY);
  assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  assert_string_equal(get_text(db, "SELECT count(*) FROM t"), "600");
  /* What was rolled back is no writer any more; there is no room for stamps. */
  run(db, "BEGIN; UPDATE t SET b=b||'x'; ROLLBACK");
  assert_int_equal(try_run(db, "PRAGMA pagedb_stamp"), SQLITE_ERROR);
  db_close(db);
  db_remove(path);
}

/* ------------------------------------------------------------- names, flags */

static void test_open_flags(void **state)
{
  (void)state;
  const char *path = db_path("flags.db");
  sqlite3_vfs *v = sqlite3_vfs_find("pagedb");
  sqlite3_file *f = calloc(1, (size_t)v->szOsFile);
  int out = 0;
  assert_non_null(f);
  db_close(make(path, "pagedb"));
  /* A main database without a name, and one that goes when it is closed, are the
  ** parent's. */
  const int flags = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE |
                    SQLITE_OPEN_CREATE | SQLITE_OPEN_DELETEONCLOSE;
  const char *gone =
      sqlite3_create_filename(db_path("gone.db"), "", "", 0, NULL);
  assert_int_equal(v->xOpen(v, gone, f, flags | SQLITE_OPEN_EXCLUSIVE, &out),
                   SQLITE_OK);
  assert_null(conn_of(f));
  assert_int_equal(f->pMethods->xClose(f), SQLITE_OK);
  sqlite3_free_filename((char *)(uintptr_t)gone);
  sqlite3_vfs *parent = v->pAppData;
  int theirs = parent->xOpen(parent, NULL, f, flags, &out);
  if (f->pMethods != NULL)
    f->pMethods->xClose(f);
  assert_int_equal(v->xOpen(v, NULL, f, flags, &out), theirs);
  assert_null(conn_of(f));
  if (f->pMethods != NULL)
    f->pMethods->xClose(f);
  assert_null(conn_of(NULL));
  /* Who opens it need not want to know how it was opened. */
  const char *name = sqlite3_create_filename(path, "", "", 0, NULL);
  assert_int_equal(
      v->xOpen(v, name, f, SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE, NULL),
      SQLITE_OK);
  assert_non_null(conn_of(f));
  /* Closed with the wal-index mapped and a lock held: both are given back. */
  void volatile *at = NULL;
  assert_int_equal(f->pMethods->xLock(f, SQLITE_LOCK_SHARED), SQLITE_OK);
  assert_int_equal(f->pMethods->xShmMap(f, 0, 32768, 1, &at), SQLITE_OK);
  assert_non_null((void *)(uintptr_t)at);
  assert_int_equal(f->pMethods->xClose(f), SQLITE_OK);
  sqlite3_free_filename((char *)(uintptr_t)name);
  free(f);
  assert_int_equal(files_open(), 0);
  assert_whole(path, 1);
}

/* A database whose parent is another than the default: what belongs to it is
** looked for below that one; what only begins like it is not. */
static void test_names_below(void **state)
{
  (void)state;
  const char *path = db_path("below.db"), *plain = db_path("plain.db");
  char name[700];
  sqlite3_vfs *v = sqlite3_vfs_find("pagedb");
  int there = 5;
  odd_register();
  sqlite3 *first = make(plain, "pagedb");
  assert_int_equal(atomic_load(&pagedb_globals.other_parents), 0);
  sqlite3 *db = make(path, "pagedb&pagedb_parent=odd");
  assert_int_equal(atomic_load(&pagedb_globals.other_parents), 1);
  static const char *const behind[] = {"", "-journal", "-wal", ".other", "x"};
  for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
    snprintf(name, sizeof name, "%s%s", path, behind[i]);
    asked = 0;
    assert_int_equal(v->xAccess(v, name, SQLITE_ACCESS_EXISTS, &there),
                     SQLITE_OK);
    assert_int_equal(there, i == 0);
    assert_int_equal(asked, i < 3); /* its own names, and no others */
  }
  assert_int_equal(v->xAccess(v, plain, SQLITE_ACCESS_EXISTS, &there),
                   SQLITE_OK);
  assert_int_equal(there, 1);
  assert_int_equal(v->xAccess(v, NULL, SQLITE_ACCESS_EXISTS, &there),
                   SQLITE_OK);
  db_close(db);
  assert_int_equal(atomic_load(&pagedb_globals.other_parents), 0);
  db_close(first);
  sqlite3_vfs_unregister(&odd);
}

/* The journal's end cannot be made durable when a plain database has replaced a
** stamped one: the guard stays, which is said, and goes with the next
** transaction. */
static void test_guard_waits(void **state)
{
  (void)state;
  const char *path = db_path("waits.db"), *source = db_path("waits-from.db");
  uint8_t guard;
  odd_register();
  db_close(make(path, "pagedb"));
  sqlite3 *from = make(source, "unix");
  sqlite3 *db = db_open(path, "pagedb&pagedb_parent=odd");
  sqlite3_backup *b = sqlite3_backup_init(db, "main", from, "main");
  answers.access = SQLITE_IOERR_ACCESS;
  assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
  assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
  answers.access = 0;
  assert_non_null(
      strstr(last_log(), "keeps its guard until the next transaction"));
  file_read_at(path, HEADER_READ_VERSION - 1, &guard, 1);
  assert_int_equal(guard >> 4, 5);
  run(db, "INSERT INTO t VALUES(1, 2)");
  file_read_at(path, HEADER_READ_VERSION - 1, &guard, 1);
  assert_int_equal(guard, 1);
  db_close(db);
  db_close(from);
  sqlite3_vfs_unregister(&odd);
  assert_whole(path, 0);
}

/* ------------------------------------------------------------- registration */

static void test_register_again(void **state)
{
  (void)state;
  sqlite3_vfs *ours = sqlite3_vfs_find("pagedb"), copy = *ours;
  assert_int_equal(vfs_register("nobody", 0), SQLITE_ERROR);
  /* Another copy in the process was there first. */
  sqlite3_vfs_unregister(ours);
  copy.pNext = NULL;
  assert_int_equal(sqlite3_vfs_register(&copy, 0), SQLITE_OK);
  assert_int_equal(vfs_register("pagedb", 0), SQLITE_OK);
  assert_ptr_equal(sqlite3_vfs_find("pagedb"), &copy);
  assert_non_null(strstr(last_log(), "by another copy"));
  sqlite3_vfs_unregister(&copy);
  assert_int_equal(vfs_register(NULL, 0), SQLITE_OK);
  assert_ptr_equal(sqlite3_vfs_find("pagedb"), ours);
  /* Too late for the page cache; all else is as it was. */
  setenv("PAGEDB_PCACHE", "on", 1);
  assert_int_equal(pagedb_register(0), SQLITE_OK);
  setenv("PAGEDB_POOL_SIZE", "junk", 1);
  assert_int_equal(pagedb_register(0), SQLITE_MISUSE);
  assert_non_null(strstr(first_log(), "PAGEDB_POOL_SIZE=junk"));
  unsetenv("PAGEDB_POOL_SIZE");
  unsetenv("PAGEDB_PCACHE");
}

static void test_sql_by_hand(void **state)
{
  (void)state;
  const char *path = db_path("hand.db");
  sqlite3_stmt *st = NULL;
  db_close(make(path, "pagedb"));
  setenv("PAGEDB_FETCH", "off", 1);
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "PRAGMA mmap_size"), 0);
  assert_int_equal(pagedb_sql_init(db), SQLITE_OK);
  assert_int_equal(get_int(db, "PRAGMA mmap_size"), 0);
  unsetenv("PAGEDB_FETCH");
  assert_int_equal(pagedb_sql_init(db), SQLITE_OK);
  assert_true(get_int(db, "PRAGMA mmap_size") > 0);
  /* Not while a statement uses what is to be replaced. */
  assert_int_equal(sqlite3_prepare_v2(db, "SELECT a, pagedb_version() FROM t",
                                      -1, &st, NULL),
                   SQLITE_OK);
  assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  assert_int_equal(pagedb_sql_init(db), SQLITE_BUSY);
  sqlite3_finalize(st);
  db_close(db);
}

/* A database in memory has no file of ours. */
static void test_not_ours(void **state)
{
  (void)state;
  sqlite3 *db = db_open(":memory:", "unix");
  assert_int_equal(pagedb_sql_init(db), SQLITE_OK);
  assert_int_equal(try_run(db, "SELECT * FROM pagedb_pages"), SQLITE_ERROR);
  db_close(db);
}

/* ------------------------------------------------------------------- bytes */

/* What the pool asks of the store, and what it does not. */
static void test_store(void **state)
{
  (void)state;
  const char *path = db_path("store.db");
  sqlite3 *db = make(path, "pagedb");
  run(db, "SELECT count(*) FROM t");
  conn *c = conn_in(db);
  shared *s = c->file;
  pagedb_store *store = (pagedb_store *)s->pages;
  uint64_t pages = 0, lsns[3];
  assert_int_equal(c->base.pMethods->xLock(&c->base, SQLITE_LOCK_SHARED),
                   SQLITE_OK);
  ok(store->count(store, &pages));
  assert_true(pages == file_bytes_of(path) / SIZE && pages > 8);
  size_fails = PAGEDB_EIO;
  expect(store->count(store, &pages), PAGEDB_EIO);
  size_fails = 0;
  ok(store->sync(store));
  /* Two bad pages of three: each has its outcome, the run has the first. */
  file_write_at(path, 4 * SIZE + 100, "damage", 6);
  file_write_at(path, 5 * SIZE + 100, "damage", 6);
  uint8_t *buf = os_aligned_alloc(4096, 3 * SIZE);
  void *at[3] = {buf, buf + SIZE, buf + 2 * SIZE};
  int errs[3];
  pagedb_run r = {
      .first = 3, .count = 3, .pages = at, .lsns = lsns, .errs = errs};
  expect(store->read(store, &r, 1), PAGEDB_ECRC);
  assert_true(errs[0] == PAGEDB_OK && errs[1] == PAGEDB_ECRC &&
              errs[2] == PAGEDB_ECRC && lsns[0] > 0);
  assert_true(pagedb_last_fault()->page == 4);
  r.lsns = NULL;
  r.errs = NULL;
  expect(store->read(store, &r, 1), PAGEDB_ECRC);
  assert_int_equal(r.err, PAGEDB_ECRC);
  os_aligned_free(buf);
  /* What changed is counted by page, or all at once. */
  uint32_t before = file_changes(s, 7), other = file_changes(s, 8);
  file_changed(s, 7 * SIZE, SIZE);
  assert_true(file_changes(s, 7) != before && file_changes(s, 8) == other);
  before = file_changes(s, 7);
  file_changed(s, 7 * SIZE, 0);
  assert_true(file_changes(s, 7) == before);
  file_changed(s, 0, (uint64_t)CHANGE_COUNTS * SIZE);
  assert_true(file_changes(s, 7) != before && file_changes(s, 8) != other);
  /* A device that wants its memory aligned as no page of ours is. */
  if (io_is_direct(s, SIZE)) {
    os_geometry was = s->geometry;
    s->geometry.memory_align = 8192;
    assert_int_equal(io_is_direct(s, SIZE), 0);
    assert_int_equal(io_is_direct(s, 512), 0);
    s->geometry = was;
    assert_int_equal(io_is_direct(s, SIZE), 1);
  }
  assert_int_equal(c->base.pMethods->xUnlock(&c->base, SQLITE_LOCK_NONE),
                   SQLITE_OK);
  db_close(db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_odd_opens),
      cmocka_unit_test(test_odd_answers),
      cmocka_unit_test(test_no_descriptor_for_writing),
      cmocka_unit_test(test_identity),
      cmocka_unit_test(test_one_fate),
      cmocka_unit_test(test_stamp_without_locks),
      cmocka_unit_test(test_open_flags),
      cmocka_unit_test(test_names_below),
      cmocka_unit_test(test_guard_waits),
      cmocka_unit_test(test_register_again),
      cmocka_unit_test(test_sql_by_hand),
      cmocka_unit_test(test_not_ours),
      cmocka_unit_test(test_store),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
