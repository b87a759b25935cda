/*
** test_vfs_faults.c - the nth call of every kind fails, for every n, once and
** from then on: calls of the VFS below ours, memory of SQLite's and of ours.
**
** The statement that meets the fault says so, with an error that fits. When the
** fault is gone, the same connection and a new one, of page-db and of stock
** SQLite, find the content before or after that statement, and every page of
** the file verifies. Nothing stays open or locked. After a failed sync of the
** database nothing succeeds before it is closed; it made nothing durable, and if the
** power goes as well what was acknowledged is there all the same.
**
** Then the same with real files, where our own descriptors are used and not the
** VFS below: transfers, threads, and what a descriptor is made from.
**
** Linked with --wrap for the allocation functions and for calls of core/os.h.
*/
#define _DEFAULT_SOURCE
#define SQLITE_CORE 1
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "torture/cut.h"
#include "torture/simdisk.h"
#include "torture/torture.h"
#include "torture/trace.h"
#include "torture/world.h"

/* -------------------------------------------------------------- what fails */

enum {
  MEMORY_SQLITE = DISK_FAULTS,
  MEMORY_OURS,
  ON_SIMDISK, /* kinds before it */
  CALL_READ = ON_SIMDISK,
  CALL_WRITE,
  CALL_SIZE,
  CALL_BORROW,
  CALL_DIRECT,
  CALL_QUEUE,
  CALL_SUBMIT,
  CALL_THREAD,
  KINDS
};

static struct {
  int kind; /* MEMORY_SQLITE or one behind it, or 0 */
  unsigned left;
  int on;
  unsigned hits;
} plan;

/* Pages of a flush are written by threads. */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

/* 0, or how many have failed with this one. */
static unsigned call_fails(int kind)
{
  unsigned hits = 0;
  if (plan.kind != kind)
    return 0;
  (pthread_mutex_lock)(&counting); /* it has no rank (lock_order.h) */
  if (plan.left > 0 && --plan.left == 0) {
    plan.left = (unsigned)plan.on;
    hits = ++plan.hits;
  }
  (pthread_mutex_unlock)(&counting);
  return hits;
}

/* ------------------------------------------------------------------ memory */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_os_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_os_aligned_alloc(size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
  return call_fails(MEMORY_OURS) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return call_fails(MEMORY_OURS) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
  return call_fails(MEMORY_OURS) ? NULL : __real_realloc(p, n);
}

void *__wrap_os_aligned_alloc(size_t align, size_t n)
{
  return call_fails(MEMORY_OURS) ? NULL : __real_os_aligned_alloc(align, n);
}

/* ------------------------------------------------------- the system's calls */

int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_size(os_file *f, uint64_t *bytes);
int __real_os_borrow(int fd, os_file **out);
int __real_os_make_direct(os_file *f, os_geometry *geo);
int __real_os_queue_open(unsigned depth, os_queue **out);
void __real_os_queue_submit(os_queue *q, os_request *reqs, unsigned n);
int __real_os_thread(pthread_t *t, void *(*run)(void *), void *arg);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_size(os_file *f, uint64_t *bytes);
int __wrap_os_borrow(int fd, os_file **out);
int __wrap_os_make_direct(os_file *f, os_geometry *geo);
int __wrap_os_queue_open(unsigned depth, os_queue **out);
void __wrap_os_queue_submit(os_queue *q, os_request *reqs, unsigned n);
int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg);

static int refused(int err)
{
  return pagedb_fault_set(err, 5, "", PAGEDB_NONE, 0, 0, "injected");
}

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  return call_fails(CALL_READ) ? refused(PAGEDB_EIO)
                               : __real_os_readv(f, iov, n, off, done);
}

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  unsigned hits = call_fails(CALL_WRITE);
  return hits == 0 ? __real_os_writev(f, iov, n, off)
                   : refused(hits % 2 != 0 ? PAGEDB_EIO : PAGEDB_EFULL);
}

int __wrap_os_size(os_file *f, uint64_t *bytes)
{
  return call_fails(CALL_SIZE) ? refused(PAGEDB_EIO) : __real_os_size(f, bytes);
}

int __wrap_os_borrow(int fd, os_file **out)
{
  return call_fails(CALL_BORROW)
             ? refused(plan.on ? PAGEDB_ECANTOPEN : PAGEDB_ENOMEM)
             : __real_os_borrow(fd, out);
}

int __wrap_os_make_direct(os_file *f, os_geometry *geo)
{
  return call_fails(CALL_DIRECT) ? refused(PAGEDB_EDIRECT)
                                 : __real_os_make_direct(f, geo);
}

int __wrap_os_queue_open(unsigned depth, os_queue **out)
{
  return call_fails(CALL_QUEUE) ? refused(PAGEDB_ENOMEM)
                                : __real_os_queue_open(depth, out);
}

void __wrap_os_queue_submit(os_queue *q, os_request *reqs, unsigned n)
{
  if (!call_fails(CALL_SUBMIT)) {
    __real_os_queue_submit(q, reqs, n);
    return;
  }
  for (unsigned i = 0; i < n; i++) {
    reqs[i].err = PAGEDB_EIO;
    reqs[i].done = 0;
    reqs[i].flying = 0;
  }
}

int __wrap_os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  return call_fails(CALL_THREAD) ? 0 : __real_os_thread(t, run, arg);
}

/* --------------------------------------------------------- SQLite's memory */

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int n)
{
  return call_fails(MEMORY_SQLITE) ? NULL : sqlite_memory.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
  return call_fails(MEMORY_SQLITE) ? NULL : sqlite_memory.xRealloc(p, n);
}

static void wrap_sqlite_memory(void)
{
  sqlite3_mem_methods m;
  assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &m), SQLITE_OK);
  sqlite_memory = m;
  m.xMalloc = sqlite_malloc;
  m.xRealloc = sqlite_realloc;
  assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &m), SQLITE_OK);
}

/* ------------------------------------------------------------------- faults */

static const char *kind_name(int kind)
{
  static const char *const call[] = {
      "os_readv",       "os_writev",     "os_size",         "os_borrow",
      "os_make_direct", "os_queue_open", "os_queue_submit", "os_thread"};
  return kind >= ON_SIMDISK      ? call[kind - ON_SIMDISK]
         : kind == MEMORY_OURS   ? "memory of page-db"
         : kind == MEMORY_SQLITE ? "memory of SQLite"
                                 : disk_fault_name((disk_fault)kind);
}

static void arm(int kind, unsigned n, int on)
{
  plan.hits = 0;
  plan.kind = kind >= DISK_FAULTS ? kind : 0;
  plan.left = n;
  plan.on = on;
  simdisk_fail(kind >= DISK_FAULTS ? DISK_READ : (disk_fault)kind,
               kind >= DISK_FAULTS ? 0 : n, on);
}

/* The counts stay. */
static void disarm(void)
{
  plan.kind = 0;
  simdisk_pause();
}

static unsigned failed(int kind)
{
  return kind >= DISK_FAULTS ? plan.hits : simdisk_failed();
}

/* --------------------------------------------------------------- scenarios */

enum { MOST = 16 };

typedef struct scenario {
  const char *name;
  const char *start;      /* made by page-db ("" none), or by stock */
  int stock;              /* 32 bytes reserved, no stamps */
  int brief;              /* SQLite's memory fails as in others: not here */
  const char *unfinished; /* what a cut left: statements before it */
  /* '!' in front: of the database only, content stays the same. '<': a backup over
  ** it, of what the statement makes of its content, with no bytes kept free. */
  const char *sql[MOST];
} scenario;

#define ROWS(from, to)                                                         \
  "WITH RECURSIVE c(i) AS (SELECT " #from                                      \
  " UNION ALL SELECT i+1 FROM c WHERE i<" #to                                  \
  ") INSERT INTO t SELECT i, i*7%1000, junk(i,700) FROM c;"
#define TABLE                                                                  \
  "CREATE TABLE t(id INTEGER PRIMARY KEY, n, v);CREATE INDEX ti ON t(n);"

static const scenario scenarios[] = {
    {.name = "rollback",
     .start = TABLE ROWS(1, 12),
     .sql = {ROWS(20, 23), "UPDATE t SET n=n+1, v=junk(id+7,700) WHERE id%3=1",
             "BEGIN;" ROWS(30, 99) "UPDATE t SET n=n+1;COMMIT",
             "DELETE FROM t WHERE id%4<3", "!VACUUM",
             "BEGIN;" ROWS(130, 199) "ROLLBACK", ROWS(200, 203)}},
    {.name = "new",
     .start = "",
     .sql = {"BEGIN;" TABLE "COMMIT", ROWS(1, 12), ROWS(13, 30)}},
    {.name = "wal",
     .start = "PRAGMA journal_mode=wal;" TABLE ROWS(1, 12),
     .sql = {ROWS(20, 23), "!PRAGMA wal_checkpoint(FULL)",
             "BEGIN;" ROWS(30, 99) "UPDATE t SET n=n+1;COMMIT",
             "DELETE FROM t WHERE id%4<3", "!PRAGMA wal_checkpoint(TRUNCATE)",
             ROWS(200, 203), "!PRAGMA wal_checkpoint(PASSIVE)"}},
    {.name = "stamping",
     .start = TABLE ROWS(1, 12),
     .stock = 1,
     .sql = {"!PRAGMA pagedb_stamp", ROWS(20, 23), "!PRAGMA pagedb_unstamp",
             "!PRAGMA pagedb_stamp"}},
    {.name = "stamping, persistent journal",
     .brief = 1,
     .start = TABLE ROWS(1, 6),
     .stock = 1,
     .sql = {"!PRAGMA journal_mode=persist", ROWS(20, 21),
             "!PRAGMA pagedb_stamp", "!PRAGMA pagedb_unstamp"}},
    {.name = "conversion",
     .brief = 1,
     .start = TABLE ROWS(1, 6),
     .stock = 1,
     .sql = {"!VACUUM", ROWS(20, 21)}},
    {.name = "holes",
     .brief = 1,
     .start = TABLE ROWS(1, 6),
     .sql = {"BEGIN;" ROWS(30, 60) "DELETE FROM t WHERE id>29;" ROWS(
                 70, 71) "COMMIT",
             ROWS(20, 21)}},
    {.name = "holes, log",
     .brief = 1,
     .start = "PRAGMA journal_mode=wal;" TABLE ROWS(1, 6),
     .sql = {"BEGIN;" ROWS(30, 60) "DELETE FROM t WHERE id>29;" ROWS(
                 70, 71) "COMMIT",
             "!PRAGMA wal_checkpoint(TRUNCATE)"}},
    {.name = "hot journal, free pages",
     .brief = 1,
     .start = TABLE ROWS(1, 40) "DELETE FROM t WHERE id>9;",
     .unfinished = "BEGIN;" ROWS(30, 60) "UPDATE t SET n=n+1;",
     .sql = {"SELECT count(*) FROM t", ROWS(20, 21)}},
    {.name = "replacement",
     .start = TABLE ROWS(1, 40),
     .sql = {"<UPDATE t SET n=n+1;" ROWS(50, 59), ROWS(60, 63), "!VACUUM",
             ROWS(70, 73)}},
    {.name = "replacement, exclusive",
     .start = TABLE ROWS(1, 40),
     .sql = {"!PRAGMA locking_mode=exclusive",
             "BEGIN;" ROWS(130, 199) "ROLLBACK", "<UPDATE t SET n=n+1;",
             ROWS(60, 63), "!VACUUM", ROWS(70, 73)}},
    {.name = "hot journal",
     .start = TABLE ROWS(1, 12),
     .unfinished = "BEGIN;" ROWS(30, 99) "UPDATE t SET v=junk(id,90);",
     .sql = {"SELECT count(*) FROM t", ROWS(20, 23)}},
    {.name = "log",
     .start = "PRAGMA journal_mode=wal;" TABLE ROWS(1, 12),
     .unfinished = "BEGIN;" ROWS(30, 99) "UPDATE t SET v=junk(id,90);",
     .sql = {"SELECT count(*) FROM t", ROWS(20, 23),
             "!PRAGMA wal_checkpoint(TRUNCATE)"}},
    {.name = "exclusive",
     .start = TABLE ROWS(1, 12),
     .sql = {"!PRAGMA locking_mode=exclusive", ROWS(20, 23),
             "BEGIN;" ROWS(30, 60) "UPDATE t SET n=n+1;COMMIT",
             "BEGIN;" ROWS(70, 99) "ROLLBACK", "DELETE FROM t WHERE id%4<3",
             "!PRAGMA locking_mode=normal;SELECT count(*) FROM t",
             ROWS(200, 203)}},
    /* A dash in its name: what fails of the second does not count as a failure of
    ** the database that is looked at. */
    {.name = "two files",
     .start = TABLE ROWS(1, 12),
     .sql = {"!ATTACH 'file:second-file?vfs=pagedb' AS two;"
             "CREATE TABLE two.x(a)",
             "BEGIN;" ROWS(20, 40) "INSERT INTO two.x VALUES(junk(1,900));"
                                   "COMMIT",
             "BEGIN;DELETE FROM t WHERE id%3=1;DELETE FROM two.x;ROLLBACK",
             "!DETACH two", ROWS(50, 53)}},
    {.name = "tables",
     .start = "PRAGMA journal_mode=wal;" TABLE ROWS(1, 12),
     .sql = {ROWS(20, 23), "!SELECT * FROM pagedb_pages",
             "!SELECT * FROM pagedb_files, pagedb_stats; PRAGMA pagedb_lsn",
             "!PRAGMA pagedb_stamp", "!PRAGMA pagedb_unstamp=force",
             ROWS(30, 33)}},
};

/* With real files only: a scan that is read ahead of, and writes of many pages. */
static const scenario large = {
    .name = "large",
    .start = TABLE ROWS(1, 900),
    .sql = {"SELECT sum(length(v)) FROM t", "UPDATE t SET n=n+1",
            "!PRAGMA journal_mode=wal", "DELETE FROM t WHERE id%3=1",
            "!PRAGMA wal_checkpoint(TRUNCATE)",
            "SELECT sum(length(v)) FROM t"}};

typedef struct prepared {
  const scenario *s;
  simdisk *disk;
  uint64_t state[MOST + 1]; /* content before statement i */
  unsigned statements;
  sqlite3 *source; /* of the backup; or NULL */
} prepared;

static const char *const settings =
    "PRAGMA secure_delete=0;PRAGMA synchronous=full;PRAGMA cache_size=10";

static const char *real_dir; /* of the real files; NULL: on the disk */

static sqlite3 *open_first(const char *vfs)
{
  char path[600];
  return world_open(file_path(real_dir, 0, path, sizeof path), vfs);
}

static sqlite3 *must_open(const char *vfs)
{
  sqlite3 *db = world_open(file_names[0], vfs);
  assert_non_null(db);
  return db;
}

static int copy_over(sqlite3 *to, sqlite3 *from)
{
  sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
  if (b == NULL)
    return sqlite3_extended_errcode(to);
  sqlite3_backup_step(b, -1);
  return sqlite3_backup_finish(b);
}

static void prepare(const scenario *s, prepared *p)
{
  sqlite3 *mirror = world_open(":memory:", "simdisk");
  run(mirror, "ATTACH ':memory:' AS two; CREATE TABLE two.x(a)");
  *p = (prepared){.s = s, .disk = simdisk_new()};
  simdisk_use(p->disk);
  if (s->start[0] != 0) {
    int bytes = 32;
    sqlite3 *db = must_open(s->stock ? "simdisk" : "pagedb");
    sqlite3_file_control(db, NULL, SQLITE_FCNTL_RESERVE_BYTES, &bytes);
    run(db, "%s", settings);
    run(db, "%s", s->start);
    db_close(db);
    run(mirror, "%s", s->start);
  }
  if (s->unfinished != NULL) {
    simdisk *cut;
    sqlite3 *db = must_open("pagedb");
    run(db, "%s", settings);
    run(db, "%s", s->unfinished);
    cut = simdisk_clone(p->disk);
    run(db, "ROLLBACK");
    db_close(db);
    simdisk_free(p->disk);
    p->disk = cut;
  }
  unsigned i = 0;
  for (; s->sql[i] != NULL; i++) {
    assert_int_equal(try_content_hash(mirror, "main", &p->state[i]), SQLITE_OK);
    if (s->sql[i][0] != '!')
      run(mirror, "%s", s->sql[i] + (s->sql[i][0] == '<'));
    if (s->sql[i][0] == '<') {
      p->source = world_open(":memory:", "simdisk");
      assert_int_equal(copy_over(p->source, mirror), SQLITE_OK);
    }
  }
  assert_int_equal(try_content_hash(mirror, "main", &p->state[i]), SQLITE_OK);
  p->statements = i;
  db_close(mirror);
}

/* ------------------------------------------------------------------ one run */

typedef struct result {
  unsigned at; /* statement that failed; statements: none did */
  int code;
  int journal_back; /* a power cut gave the journal of the one before it back */
} result;

static const char *where; /* of the run under way, for messages */

#define CHECK(good, ...)                                                       \
  do {                                                                         \
    if (!(good)) {                                                             \
      print_error("%s: ", where);                                              \
      fail_msg(__VA_ARGS__);                                                   \
    }                                                                          \
  } while (0)

static int fits(int kind, int code)
{
  int primary = code & 0xff;
  /* There is another way, always. */
  if (kind >= CALL_BORROW)
    return 0;
  if (kind == MEMORY_OURS || kind == MEMORY_SQLITE)
    return primary == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM ||
           primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN;
  return primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN ||
         (primary == SQLITE_FULL &&
          (kind == DISK_SHORT_WRITE || kind == CALL_WRITE));
}

/* Without memory of its own. */
static int execute(sqlite3 *db, const char *sql)
{
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(db);
}

static result play(const prepared *p, sqlite3 *db)
{
  result r = {.at = 0};
  r.code = execute(db, settings);
  while (r.code == SQLITE_OK && r.at < p->statements) {
    const char *sql = p->s->sql[r.at];
    r.code = sql[0] == '<' ? copy_over(db, p->source)
                           : execute(db, sql + (sql[0] == '!'));
    r.at += r.code == SQLITE_OK;
  }
  return r;
}

static void settle_transaction(sqlite3 *db)
{
  if (!sqlite3_get_autocommit(db))
    execute(db, "ROLLBACK");
}

static int is_near(const prepared *p, const result *r, uint64_t h)
{
  return h == p->state[r->at] ||
         (r->journal_back && r->at > 0 && h == p->state[r->at - 1]) ||
         (r->code != SQLITE_OK && h == p->state[r->at + 1]);
}

/* What the connection that met the fault can still do. */
static void go_on(const prepared *p, sqlite3 *db, int kind, const result *r)
{
  uint64_t h;
  int rc = try_content_hash(db, "main", &h);
  int poisoned = kind == DISK_SYNC && simdisk_failed_databases() > 0;
  if (rc == SQLITE_OK)
    CHECK(is_near(p, r, h), "the connection reads wrong content");
  else
    CHECK(poisoned, "the connection cannot read: %d %s", rc, last_log());
  if (poisoned)
    CHECK(try_run(db, "INSERT INTO t(n) VALUES(1)") != SQLITE_OK,
          "a commit succeeded after a failed sync");
}

static void whole(const char *vfs, const prepared *p, const result *r,
                  uint64_t *h)
{
  sqlite3 *db = must_open(vfs);
  int rc = try_content_hash(db, "main", h);
  CHECK(rc == SQLITE_OK, "%s cannot read it afterwards: %d %s", vfs, rc,
        last_log());
  CHECK(is_near(p, r, *h), "%s finds wrong content afterwards", vfs);
  CHECK(strcmp(get_text(db, "PRAGMA integrity_check"), "ok") == 0,
        "integrity_check of %s", vfs);
  if (strcmp(vfs, "pagedb") == 0) {
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    const char *bad = get_text(
        db, "SELECT group_concat(page || ' ' || status) FROM pagedb_pages "
            "WHERE status NOT IN ('ok','lock','plain')");
    CHECK(bad[0] == 0, "pages: %s", bad);
  }
  db_close(db);
}

static unsigned descriptors(void)
{
  unsigned n = 0;
  DIR *d = opendir("/proc/self/fd");
  assert_non_null(d);
  while (readdir(d) != NULL)
    n++;
  closedir(d);
  return n;
}

/* The statements, while the fault is there; then what must hold without it. */
static unsigned play_faulty(const prepared *p, int kind, unsigned n, int on,
                            result *r)
{
  r->code = SQLITE_CANTOPEN;
  arm(kind, n, on);
  sqlite3 *db = open_first("pagedb");
  if (db != NULL)
    *r = play(p, db);
  if (db != NULL && on)
    settle_transaction(db);
  unsigned hits = failed(kind);
  disarm();
  CHECK(r->code == SQLITE_OK || db == NULL || fits(kind, r->code),
        "answers %d (%s)", r->code, last_log());
  CHECK(r->code == SQLITE_OK || hits > 0, "fails without a fault: %d %s",
        r->code, last_log());
  if (db != NULL) {
    settle_transaction(db);
    go_on(p, db, kind, r);
    CHECK(sqlite3_close(db) == SQLITE_OK, "cannot be closed");
  }
  return hits;
}

/* page-db and stock SQLite, each by itself; the disk is used up. */
static void whole_for_both(simdisk *disk, const prepared *p, const result *r)
{
  uint64_t ours, stock;
  simdisk *copy = simdisk_clone(disk);
  simdisk_use(disk);
  whole("pagedb", p, r, &ours);
  simdisk_use(copy);
  whole("simdisk", p, r, &stock);
  CHECK(ours == stock, "stock SQLite recovers other content");
  simdisk_free(copy);
  simdisk_free(disk);
}

/* A sync that failed made nothing durable, and then the power went, too. */
static void lose_power(const prepared *p, const simdisk *disk, result r,
                       uint64_t seed)
{
  static const cut_kind kinds[] = {CUT_NONE, CUT_SUBSET, CUT_TORN};
  size_t log, journal_end;
  simdisk_log(disk, &log);
  platter *all = platter_new(disk, 0);
  while (platter_step(all) != NULL)
    ;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    simdisk *image =
        platter_cut(all, (cut){kinds[i], 0, seed + i}, &journal_end);
    r.journal_back = journal_end < log;
    if (platter_logs_are_true(all, image))
      whole_for_both(image, p, &r);
    else
      simdisk_free(image);
  }
  platter_free(all);
}

/* How many calls failed: 0 when n is beyond the last. */
static unsigned run_one(const prepared *p, int kind, unsigned n, int on,
                        int real)
{
  char text[200];
  simdisk *disk = simdisk_clone(p->disk);
  sqlite3_int64 before = sqlite3_memory_used();
  unsigned open_before = real ? descriptors() : 0;
  snprintf(text, sizeof text, "%s%s, %s, call %u%s", p->s->name,
           real ? ", real files" : "", kind_name(kind), n,
           on ? " and all after it" : "");
  where = text;
  simdisk_use(disk);
  simdisk_record(disk);
  result r = {.at = 0};
  real_dir = real ? real_files_begin(disk) : NULL;
  unsigned hits = play_faulty(p, kind, n, on, &r);
  if (real)
    real_files_end();
  real_dir = NULL;
  CHECK(!real || descriptors() <= open_before, "descriptors stay open");
  CHECK(simdisk_open_files() == 0, "%u files stay open", simdisk_open_files());
  CHECK(sqlite3_memory_used() <= before, "memory of SQLite leaks");
  CHECK(!real || trace_missed() == NULL, "%s", trace_missed());
  /* Beside an empty file SQLite takes a journal for a stale one, and deletes it: where
  ** the first transaction ever fails what it wrote may come back. */
  if (kind == DISK_SYNC && (p->s->start[0] != 0 || r.at > 0))
    lose_power(p, disk, r, n);
  whole_for_both(disk, p, &r);
  return hits;
}

typedef struct sums {
  unsigned runs, faults;
} sums;

static void fail_each(const scenario *s, int first_kind, int end_kind,
                      unsigned step, int real, sums *t)
{
  prepared p;
  prepare(s, &p);
  for (int kind = first_kind; kind < end_kind; kind++)
    for (int on = kind == MEMORY_SQLITE && s->brief ? 2 : 0; on < 2; on++)
      for (unsigned n = 1, hits = 1; hits > 0; n += step, t->runs++)
        t->faults += hits = run_one(&p, kind, n, on, real);
  simdisk_free(p.disk);
  sqlite3_close(p.source);
}

static void test_every_call_fails(void **state)
{
  (void)state;
  sums t = {0};
  unsigned step = scaled(5) < 5 ? 7 : 1;
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
    fail_each(&scenarios[i], 0, ON_SIMDISK, step, 0, &t);
  print_message("%u runs, %u calls failed\n", t.runs, t.faults);
  assert_true(t.faults > 1000);
}

/* SQLite's own memory it takes in the same places. A name on the disk is none of a
** real file: not the scenario with two. Every seventh n; with PAGEDB_FAULTS=all every
** one. */
static void test_real_files(void **state)
{
  (void)state;
  sums t = {0};
  const char *all = getenv("PAGEDB_FAULTS");
  unsigned step = all != NULL && strcmp(all, "all") == 0 ? 1 : 7;
  /* Every page that comes in order begins a write behind. */
  pagedb_globals.behind_bytes = 1;
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
    if (strcmp(scenarios[i].name, "two files") != 0)
      fail_each(&scenarios[i], MEMORY_OURS, KINDS, step, 1, &t);
  fail_each(&large, MEMORY_OURS, KINDS, step * 5, 1, &t);
  print_message("%u runs, %u calls failed\n", t.runs, t.faults);
  assert_true(t.faults > 100);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_call_fails),
      cmocka_unit_test(test_real_files),
  };
  simdisk_realloc = __real_realloc;
  wrap_sqlite_memory();
  torture_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
