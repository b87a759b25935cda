/*
** test_vfs_faults.c - the nth call of every kind fails, for every n, once and
** from then on: calls of the VFS below ours, memory of SQLite's and of ours.
**
** The statement that meets the fault says so, with an error that fits. When the
** fault is gone, the same connection and a new one, of page-db and of stock
** SQLite, find the content before or after that statement, and every page of
** the file verifies. Nothing stays open or locked. After a failed sync of the
** database nothing succeeds before it is closed.
**
** Linked with --wrap for the allocation functions.
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "torture/simdisk.h"
#include "torture/torture.h"
#include "torture/world.h"

/* ------------------------------------------------------------------ memory */

enum { MEMORY_OURS = DISK_FAULTS, MEMORY_SQLITE, KINDS };

static struct {
  int kind; /* MEMORY_OURS, MEMORY_SQLITE, or 0 */
  unsigned left;
  int on;
  unsigned hits;
} memory;

static int memory_fails(int kind)
{
  if (memory.kind != kind || memory.left == 0 || --memory.left > 0)
    return 0;
  memory.left = (unsigned)memory.on;
  memory.hits++;
  return 1;
}

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
  return memory_fails(MEMORY_OURS) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return memory_fails(MEMORY_OURS) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
  return memory_fails(MEMORY_OURS) ? NULL : __real_realloc(p, n);
}

void *__wrap_os_aligned_alloc(size_t align, size_t n)
{
  return memory_fails(MEMORY_OURS) ? NULL : __real_os_aligned_alloc(align, n);
}

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int n)
{
  return memory_fails(MEMORY_SQLITE) ? NULL : sqlite_memory.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
  return memory_fails(MEMORY_SQLITE) ? NULL : sqlite_memory.xRealloc(p, n);
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
  return kind == MEMORY_OURS     ? "memory of page-db"
         : kind == MEMORY_SQLITE ? "memory of SQLite"
                                 : disk_fault_name((disk_fault)kind);
}

static void arm(int kind, unsigned n, int on)
{
  memory.hits = 0;
  memory.kind = kind >= DISK_FAULTS ? kind : 0;
  memory.left = n;
  memory.on = on;
  simdisk_fail(kind >= DISK_FAULTS ? DISK_READ : (disk_fault)kind,
               kind >= DISK_FAULTS ? 0 : n, on);
}

/* The counts stay. */
static void disarm(void)
{
  memory.kind = 0;
  simdisk_pause();
}

static unsigned failed(int kind)
{
  return kind >= DISK_FAULTS ? memory.hits : simdisk_failed();
}

/* --------------------------------------------------------------- scenarios */

enum { MOST = 16 };

typedef struct scenario {
  const char *name;
  const char *start;      /* made by page-db ("" none), or by stock */
  int stock;              /* 32 bytes reserved, no stamps */
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

typedef struct prepared {
  const scenario *s;
  simdisk *disk;
  uint64_t state[MOST + 1]; /* content before statement i */
  unsigned statements;
  sqlite3 *source; /* of the backup; or NULL */
} prepared;

static const char *const settings =
    "PRAGMA secure_delete=0;PRAGMA synchronous=full;PRAGMA cache_size=10";

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
  if (kind >= DISK_FAULTS)
    return primary == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM ||
           primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN;
  return primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN ||
         (primary == SQLITE_FULL && kind == DISK_SHORT_WRITE);
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

/* How many calls failed: 0 when n is beyond the last. */
static unsigned run_one(const prepared *p, int kind, unsigned n, int on)
{
  char text[200];
  uint64_t ours, stock;
  simdisk *disk = simdisk_clone(p->disk);
  sqlite3_int64 before = sqlite3_memory_used();
  snprintf(text, sizeof text, "%s, %s, call %u%s", p->s->name, kind_name(kind),
           n, on ? " and all after it" : "");
  where = text;
  simdisk_use(disk);
  result r = {.code = SQLITE_CANTOPEN};
  arm(kind, n, on);
  sqlite3 *db = world_open(file_names[0], "pagedb");
  if (db != NULL)
    r = play(p, db);
  if (db != NULL && on)
    settle_transaction(db);
  unsigned hits = failed(kind);
  disarm();
  CHECK(r.code == SQLITE_OK || db == NULL || fits(kind, r.code),
        "answers %d (%s)", r.code, last_log());
  CHECK(r.code == SQLITE_OK || hits > 0, "fails without a fault: %d %s", r.code,
        last_log());
  if (db != NULL) {
    settle_transaction(db);
    go_on(p, db, kind, &r);
    CHECK(sqlite3_close(db) == SQLITE_OK, "cannot be closed");
  }
  CHECK(simdisk_open_files() == 0, "%u files stay open", simdisk_open_files());
  CHECK(sqlite3_memory_used() <= before, "memory of SQLite leaks");
  simdisk *copy = simdisk_clone(disk);
  whole("pagedb", p, &r, &ours);
  simdisk_use(copy);
  whole("simdisk", p, &r, &stock);
  CHECK(ours == stock, "stock SQLite recovers other content");
  simdisk_free(copy);
  simdisk_free(disk);
  return hits;
}

static void test_every_call_fails(void **state)
{
  (void)state;
  unsigned runs = 0, faults = 0;
  unsigned step = scaled(5) < 5 ? 7 : 1;
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
    prepared p;
    prepare(&scenarios[i], &p);
    for (int kind = 0; kind < KINDS; kind++)
      for (int on = 0; on < 2; on++)
        for (unsigned n = 1, hits = 1; hits > 0; n += step, runs++)
          faults += hits = run_one(&p, kind, n, on);
    simdisk_free(p.disk);
    sqlite3_close(p.source);
  }
  print_message("%u runs, %u calls failed\n", runs, faults);
  assert_true(faults > 1000);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_call_fails),
  };
  simdisk_realloc = __real_realloc;
  wrap_sqlite_memory();
  torture_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
