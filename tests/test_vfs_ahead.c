/*
** test_vfs_ahead.c - read-ahead: that scans use it and point lookups do not, that
** it is counted, and that what it meets on its way (damage, nonsense in interior
** pages, a file cut off, a full pool, fork, close) is nobody's business until
** SQLite asks. That it never brings in what is not true any more is shown in
** test_vfs_state.c, where there are two processes.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <errno.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>
#endif

#include "../core/ahead.h"
#include "../vfs/flights.h"
#include "../vfs/vfs_int.h"
#include "sqlutil.h"
#include "vfsutil.h"

enum {
  ROWS = 12006, /* one more is a prime number */
  BEGUN = 25    /* rows: into the second leaf */
};

static const char plain[] = "pagedb&pagedb_stamp=off";

/* A table with an index, and long texts in some rows. Scattered: the ids were
** inserted in no order. */
static void make(const char *path, const char *vfs, int page_size,
                 int scattered)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "PRAGMA page_size=%d; PRAGMA journal_mode=OFF; PRAGMA cache_size=-60000;"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, k, v TEXT); BEGIN",
      page_size);
  run(db,
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<%d)"
      " INSERT INTO t SELECT n*%d%%%d, n*7919%%%d, "
      "hex(randomblob(iif(n%%2000=0,"
      "50000, 100))) FROM c",
      ROWS, scattered ? 4801 : 1, ROWS + 1, ROWS + 1);
  run(db, "COMMIT; CREATE INDEX i ON t(k)");
  db_close(db);
}

static int64_t stat_of(sqlite3 *db, const char *name)
{
  return get_int(db, "SELECT value FROM pagedb_stats WHERE name=%Q", name);
}

static uint64_t hash_of(const char *path, const char *vfs)
{
  sqlite3 *db = db_open(path, vfs);
  uint64_t h = content_hash(db);
  db_close(db);
  return h;
}

/* ------------------------------------------------------------------- counts */

/* Reads that were begun, and not waited for at once; pages that were planned. */
static _Atomic int submitted, plans;
/* The pool has no frames for read-ahead. */
static _Atomic int no_frames;

void __real_os_queue_submit(os_queue *q, os_request *r, unsigned n);
void __wrap_os_queue_submit(os_queue *q, os_request *r, unsigned n);

static _Atomic int reads_fail; /* those of read-ahead */

void __wrap_os_queue_submit(os_queue *q, os_request *r, unsigned n)
{
  submitted += (int)n;
  for (unsigned i = 0; i < n && reads_fail; i++)
    r[i].iov[0].base = NULL;
  __real_os_queue_submit(q, r, n);
}

void __real_plan_add(conn *c, const uint32_t *ids, unsigned n, uint32_t ticket);
void __wrap_plan_add(conn *c, const uint32_t *ids, unsigned n, uint32_t ticket);

void __wrap_plan_add(conn *c, const uint32_t *ids, unsigned n, uint32_t ticket)
{
  plans += (int)n;
  __real_plan_add(c, ids, n, ticket);
}

unsigned __real_ahead_begin(pagedb_owner *o, const uint64_t *ids, unsigned n,
                            uint64_t more, ahead_page *out, unsigned *looked);
unsigned __wrap_ahead_begin(pagedb_owner *o, const uint64_t *ids, unsigned n,
                            uint64_t more, ahead_page *out, unsigned *looked);

unsigned __wrap_ahead_begin(pagedb_owner *o, const uint64_t *ids, unsigned n,
                            uint64_t more, ahead_page *out, unsigned *looked)
{
  *looked = 0;
  return no_frames ? 0 : __real_ahead_begin(o, ids, n, more, out, looked);
}

typedef struct tally {
  int64_t used, wasted, misses;
} tally;

static tally tally_of(sqlite3 *db)
{
  return (tally){stat_of(db, "read_ahead_used"),
                 stat_of(db, "read_ahead_wasted"), stat_of(db, "misses")};
}

/* The pages of one query on a cold pool. */
static tally cold(const char *path, const char *vfs, const char *sql)
{
  sqlite3 *db = db_open(path, vfs);
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  tally a = tally_of(db);
  run(db, "%s", sql);
  tally b = tally_of(db);
  db_close(db);
  return (tally){b.used - a.used, b.wasted - a.wasted, b.misses - a.misses};
}

static void scans_use_it(const char *vfs, int page_size, int scattered)
{
  static const char *const scan[] = {
      "SELECT sum(length(v)) FROM t", "SELECT v FROM t ORDER BY id DESC",
      "SELECT sum(k) FROM t INDEXED BY i", "SELECT k FROM t ORDER BY k DESC"};
  const char *path = db_path("ahead.db");
  make(path, vfs, page_size, scattered);
  for (int i = 0; i < 4; i++) {
    tally n = cold(path, vfs, scan[i]);
    if (n.used < 9 * n.misses || n.wasted > n.used / 4 + 4)
      fail_msg("%s, page size %d, %s: %d used, %d wasted, %d misses", scan[i],
               page_size, vfs, (int)n.used, (int)n.wasted, (int)n.misses);
  }
  assert_true(hash_of(path, vfs) == hash_of(path, "unix"));
}

static void test_scans(void **state)
{
  (void)state;
  scans_use_it("pagedb", 4096, 0);
  scans_use_it("pagedb", 4096, 1);
  scans_use_it(plain, 1024, 1);
  scans_use_it("pagedb", 512, 0);
}

static void test_point_lookups(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  make(path, "pagedb", 1024, 1);
  tally n = cold(path, "pagedb",
                 "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c "
                 "WHERE n<1000) SELECT max(v) FROM c CROSS JOIN t ON "
                 "id=n*7907%12007");
  assert_true(n.misses > 500);
  if (n.used + n.wasted > n.misses / 20)
    fail_msg("%d used, %d wasted, %d misses", (int)n.used, (int)n.wasted,
             (int)n.misses);
}

/* Pages that came in for one query on a cold pool. */
static int64_t pages_for(const char *path, const char *vfs, const char *sql)
{
  sqlite3 *db = db_open(path, vfs);
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  stat_of(db, "pages_read");
  int64_t before = stat_of(db, "pages_read") + stat_of(db, "read_ahead_wasted");
  get_int(db, sql);
  int64_t n = stat_of(db, "pages_read") + stat_of(db, "read_ahead_wasted");
  db_close(db);
  return n - before;
}

/* A range reads what it needs (a leaf has between 2.5 and 5 rows) and two windows more,
** with the interior pages of these. It is no sweep. */
static void test_ranges(void **state)
{
  (void)state;
  enum { ROWS_EACH = 500, MORE = 2 * 64 + 16 + 8 };
  const char *path = db_path("ahead.db");
  char sql[256];
  for (int scattered = 0; scattered < 2; scattered++) {
    make(path, plain, 1024, scattered);
    for (int i = 0; i < 12; i++) {
      int rows = i == 0 ? ROWS_EACH / 2 : ROWS_EACH; /* less from the start */
      snprintf(sql, sizeof sql,
               "SELECT count(k) FROM (SELECT k FROM t WHERE id>%d LIMIT %d)",
               i * 900, rows);
      int64_t n = pages_for(path, plain, sql);
      if (n < rows / 5 || n > rows * 2 / 5 + MORE)
        fail_msg("scattered %d, from %d: %d pages for %d rows", scattered,
                 i * 900, (int)n, rows);
    }
  }
}

/* What a scan of a scattered table, from its start, reads page by page before it is
** known to go on: two windows behind the 128 that it has passed. The rest comes in
** large pieces. */
static void test_sweep_begins(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  make(path, plain, 1024, 0);
  sqlite3 *db = db_open(path, plain);
  run(db, "CREATE TABLE r(id INTEGER PRIMARY KEY, v); INSERT INTO r SELECT id, "
          "hex(randomblob(100)) FROM t ORDER BY (id*id*31+id*17)%%10007, id");
  db_close(db);
  db = db_open(path, plain);
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  int before = submitted;
  assert_int_equal(get_int(db, "SELECT count(*) FROM r"), ROWS);
  int n = submitted - before;
  if (n > 128 + 2 * 64 + 64)
    fail_msg("%d reads", n);
  db_close(db);
}

/* A table of some 40 MB, `w`, and a small one, `u`. The rows of u. */
static int64_t make_large(const char *path)
{
  make(path, plain, 4096, 0);
  sqlite3 *db = db_open(path, plain);
  run(db,
      "PRAGMA cache_size=-60000; CREATE TABLE u AS SELECT id, v FROM t WHERE "
      "id%%150=1 AND length(v)<300; CREATE TABLE w AS WITH RECURSIVE c(n) AS "
      "(SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<16) SELECT id, v FROM c, "
      "t "
      "WHERE length(v)<300");
  int64_t rows = get_int(db, "SELECT count(*) FROM u");
  db_close(db);
  return rows;
}

/* A scan of w from a row on that all the rest is planned for, and that goes on no
** more. */
static sqlite3_stmt *leave_scan(sqlite3 *db, int row)
{
  sqlite3_stmt *left;
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT v FROM w WHERE rowid>?", -1, &left, NULL),
      SQLITE_OK);
  sqlite3_bind_int(left, 1, row);
  const struct ahead *a = NULL;
  while (a == NULL || a->plan_n - a->plan_at < 1000) {
    assert_int_equal(sqlite3_step(left), SQLITE_ROW);
    a = conn_in(db)->ahead;
  }
  return left;
}

/* Cursors that nobody moves leave frames for another connection's read-ahead. */
static void test_idle_cursors(void **state)
{
  (void)state;
  enum { IDLE = 2 };
  const char *path = db_path("ahead.db");
  sqlite3 *idle[IDLE];
  sqlite3_stmt *left[IDLE];
  make_large(path);
  sqlite3 *db = db_open(path, plain);
  int64_t pool = get_int(db, "PRAGMA pagedb_pool_size");
  run(db, "PRAGMA pagedb_pool_size='32MiB'");
  for (int i = 0; i < IDLE; i++) {
    idle[i] = db_open(path, plain);
    left[i] = leave_scan(idle[i], i * ROWS * 6);
  }
  tally a = tally_of(db);
  assert_int_equal(get_int(db, "SELECT count(k) FROM t NOT INDEXED"), ROWS);
  tally b = tally_of(db);
  int used = (int)(b.used - a.used), misses = (int)(b.misses - a.misses);
  if (used < 300 || used < 9 * misses)
    fail_msg("%d used, %d misses", used, misses);
  for (int i = 0; i < IDLE; i++) {
    sqlite3_finalize(left[i]);
    db_close(idle[i]);
  }
  run(db, "PRAGMA pagedb_pool_size=%lld", pool);
  db_close(db);
}

/* Where others have all frames, a scan plans in vain, and not all that it knows again
** with each page. */
static void test_no_frames(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  make_large(path);
  sqlite3 *db = db_open(path, plain);
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  int64_t misses = tally_of(db).misses;
  plans = 0;
  no_frames = 1;
  get_int(db, "SELECT count(v) FROM w");
  no_frames = 0;
  misses = tally_of(db).misses - misses;
  if (misses < 1000 || plans > 4 * misses)
    fail_msg("%d pages planned, %d misses", (int)plans, (int)misses);
  db_close(db);
}

/* A scan that was left in the middle has all the rest of its table planned. Another
** of the same connection does not wait for that. */
static void test_two_scans(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  int64_t rows = make_large(path);
  sqlite3 *db = db_open(path, plain);
  int64_t pool = get_int(db, "PRAGMA pagedb_pool_size");
  run(db, "PRAGMA pagedb_pool_size='64MiB'");
  sqlite3_stmt *left = leave_scan(db, 0);
  const struct ahead *a = conn_in(db)->ahead;
  assert_int_equal(get_int(db, "SELECT count(v) FROM u"), rows);
  assert_true(a->plan_n > a->plan_at);
  sqlite3_finalize(left);
  run(db, "PRAGMA pagedb_pool_size=%lld", pool);
  db_close(db);
}

/* Every size of page, geometry and journal; compared with stock. */
static void test_equal(void **state)
{
  (void)state;
  static const char *const journal[] = {"DELETE", "WAL"};
  const char *path = db_path("ahead.db");
  for (int size = 512; size <= 65536; size *= 2)
    for (int i = 0; i < 2; i++) {
      const char *vfs = size % 3 == 1 ? "pagedb" : plain;
      make(path, vfs, size, i);
      sqlite3 *db = db_open(path, vfs);
      run(db, "PRAGMA journal_mode=%s; PRAGMA mmap_size=%d", journal[i],
          size > 4096 ? 0 : 1 << 30);
      run(db, "UPDATE t SET k=-k WHERE id%%10=0");
      uint64_t ours = content_hash(db);
      db_close(db);
      assert_true(ours == hash_of(path, "unix"));
      assert_true(ours == hash_of(path, vfs));
    }
}

/* ------------------------------------------------------------------ budgets */

static void test_small_pool(void **state)
{
  (void)state;
  static const int bytes[] = {65536, 131072, 1 << 20, 4 << 20};
  const char *path = db_path("ahead.db");
  make(path, "pagedb", 4096, 1);
  uint64_t wanted = hash_of(path, "unix");
  sqlite3 *db = db_open(path, "pagedb");
  int64_t before = get_int(db, "PRAGMA pagedb_pool_size");
  for (int i = 0; i < 4; i++) {
    run(db, "PRAGMA pagedb_pool_size=%d", bytes[i]);
    sqlite3_db_release_memory(db);
    assert_true(content_hash(db) == wanted);
    assert_true(stat_of(db, "pool_used_bytes") <= bytes[i]);
  }
  run(db, "PRAGMA pagedb_pool_size=%lld", before);
  db_close(db);
}

static const char sum_sql[] = "SELECT sum(k + length(v)) FROM t";

/* A read that fails, of pages that this transaction wrote, may have taken the error of
** their way to the disk with it: nothing succeeds after it. Other pages' do no harm. */
static void test_reads_fail(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  for (int own = 0; own < 2; own++) {
    make(path, "pagedb", 4096, 1);
    uint64_t wanted = hash_of(path, "unix");
    sqlite3 *db = db_open(path, "pagedb");
    int64_t before = get_int(db, "PRAGMA pagedb_pool_size");
    run(db, "CREATE TABLE u(a); PRAGMA pagedb_pool_size='1MiB';"
            "PRAGMA cache_size=10; BEGIN");
    run(db, "%s", own ? "UPDATE t SET k=k+1" : "INSERT INTO u VALUES(1)");
    int tried = submitted;
    reads_fail = 1;
    int rc = try_run(db, "%s", sum_sql);
    reads_fail = 0;
    assert_true(submitted > tried);
    assert_int_equal(rc, own ? SQLITE_IOERR_FSYNC : SQLITE_OK);
    assert_int_equal(strstr(first_log(), "just written cannot be read") != NULL,
                     own);
    assert_int_equal(sqlite3_get_autocommit(db), own);
    if (!own)
      run(db, "COMMIT");
    run(db, "PRAGMA pagedb_pool_size=%lld", before);
    db_close(db);
    assert_whole(path, 1);
    db = db_open(path, "pagedb");
    run(db, "DROP TABLE u");
    assert_true(content_hash(db) == wanted);
    db_close(db);
  }
}

static int64_t sum_of_all(const char *path, const char *vfs)
{
  sqlite3 *db = db_open(path, vfs);
  int64_t v = get_int(db, sum_sql);
  db_close(db);
  return v;
}

/* The nth calloc from now on fails; 0: none, or it has. */
static _Atomic int calloc_fails_at;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
  if (calloc_fails_at > 0 && --calloc_fails_at == 0)
    return NULL;
  return __real_calloc(n, size);
}

/* No memory for a read ahead: its frames go back, and nobody finds in them what was
** never read. */
static void test_no_memory(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  int failed = 0, n = 0;
  make(path, "pagedb", 4096, 1);
  const int64_t right = sum_of_all(path, "unix");
  do {
    sqlite3 *db = db_open(path, "pagedb");
    get_int(db, "SELECT count(*) FROM sqlite_schema");
    calloc_fails_at = ++n;
    int64_t sum = get_int(db, sum_sql);
    failed = calloc_fails_at == 0;
    calloc_fails_at = 0;
    assert_int_equal(sum, right);
    db_close(db);
  } while (failed && n < 60);
  assert_true(n > 2);
}

/* ------------------------------------------------------------- interruptions */

/* A scan that has just begun, with reads under way that nobody has waited for. */
static sqlite3_stmt *begin_scan(sqlite3 *db, int slow)
{
  sqlite3_stmt *st;
  pagedb_globals.slow_reads = slow;
  assert_int_equal(sqlite3_prepare_v2(db, "SELECT v FROM t", -1, &st, NULL),
                   SQLITE_OK);
  for (int i = 0; i < BEGUN; i++)
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  return st;
}

static conn *conn_of_db(sqlite3 *db)
{
  sqlite3_file *f = NULL;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
  assert_non_null(conn_of(f));
  return conn_of(f);
}

static void test_close(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  make(path, "pagedb", 4096, 0);
  for (int slow = SLOW_START; slow <= SLOW_END; slow++)
    for (int early = 0; early < 2; early++) {
      sqlite3 *db = db_open(path, "pagedb"), *other = db_open(path, "pagedb");
      if (early)
        pagedb_globals.rules_off = RULE_AHEAD; /* until the very end */
      sqlite3_finalize(begin_scan(db, slow));
      db_close(db);
      pagedb_globals.rules_off = 0;
      pagedb_globals.slow_reads = SLOW_NOT;
      get_int(other, "SELECT sum(k) FROM t");
      db_close(other);
    }
}

/* The child neither waits for its parent's reads nor touches them. */
static void fork_in_a_scan(const char *journal)
{
  const char *path = db_path("ahead.db");
  make(path, "pagedb", 4096, 0);
  for (int slow = SLOW_NOT; slow <= SLOW_END; slow++) {
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA journal_mode=%s", journal);
    sqlite3_stmt *st = begin_scan(db, slow);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
      sqlite3_finalize(st);
      int refused = try_run(db, "SELECT sum(k) FROM t") != SQLITE_OK;
      sqlite3_close(db);
      db = db_open(path, "pagedb");
      int ok = get_int(db, "SELECT count(v) FROM t") == ROWS;
      db_close(db);
      _exit(refused && ok ? 0 : 1);
    }
    int status, rows = BEGUN;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    while (sqlite3_step(st) == SQLITE_ROW)
      rows++;
    assert_int_equal(rows, ROWS);
    pagedb_globals.slow_reads = SLOW_NOT;
    assert_int_equal(sqlite3_finalize(st), SQLITE_OK);
    db_close(db);
  }
}

static void test_fork(void **state)
{
  (void)state;
  fork_in_a_scan("DELETE");
  fork_in_a_scan("WAL");
}

#ifdef __linux__
/* Calls that the system never restarts: 1 if one of them was interrupted. */
static int is_interrupted(int epoll, int sem)
{
  enum { MS = 10 };
  struct epoll_event event;
  struct sembuf down = {.sem_op = -1};
  struct timespec time = {.tv_nsec = MS * 1000000};
  return (epoll_wait(epoll, &event, 1, MS) < 0 && errno == EINTR) ||
         (sem >= 0 && semtimedop(sem, &down, 1, &time) < 0 && errno == EINTR);
}

/* A thread that leaves a scan in the middle, with reads under way, and waits for
** something else is not interrupted by them; nor after its connection is closed. */
static void test_host_waits(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int sem = semget(IPC_PRIVATE, 1, 0600);
  int interrupted = 0;
  assert_true(epoll >= 0);
  make(path, "pagedb", 4096, 1);
  for (unsigned i = 0; i < scaled(30); i++) {
    sqlite3 *db = db_open(path, "pagedb");
    sqlite3_stmt *st = begin_scan(db, SLOW_NOT);
    for (unsigned rows = i * 37; rows > 0; rows--)
      assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    interrupted += is_interrupted(epoll, sem);
    sqlite3_finalize(st);
    db_close(db);
    interrupted += is_interrupted(epoll, sem);
  }
  if (sem >= 0)
    semctl(sem, 0, IPC_RMID);
  close(epoll);
  assert_int_equal(interrupted, 0);
}
#endif

/* Somebody cuts the file off under us. What comes back short is thrown away. */
static void test_truncated(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db"), *copy = db_path("copy.db");
  make(path, "pagedb", 4096, 0);
  file_copy(path, copy);
  uint64_t wanted = hash_of(path, "unix");
  sqlite3 *db = db_open(path, "pagedb");
  sqlite3_stmt *st = begin_scan(db, SLOW_START);
  tally before = tally_of(db);
  assert_int_equal(truncate(path, 20480), 0);
  ahead_wait(conn_of_db(db));
  assert_true(tally_of(db).wasted > before.wasted);
  int rc;
  while ((rc = sqlite3_step(st)) == SQLITE_ROW)
    ;
  assert_int_equal(rc, SQLITE_IOERR_DATA);
  pagedb_globals.slow_reads = SLOW_NOT;
  sqlite3_finalize(st);
  db_close(db);
  file_copy(copy, path);
  assert_true(hash_of(path, "pagedb") == wanted);
}

/* -------------------------------------------------------------- cache lines */

/* Go on to the next page, with which a sample ends: `ns` a page, says the one before
** it, and of two the shorter one counts. This one has taken since the clock began. */
static void sample(conn *c, sqlite3_stmt *st, uint64_t ns)
{
  c->rest->each = ns;
  c->rest->sampled = 0;
  c->nrecent = SAMPLE_PAGES - 1;
  while (c->nrecent < SAMPLE_PAGES)
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
}

/* A page that hangs on a leaf, and is in the pool. */
static uint64_t chain_page_of(sqlite3 *db, conn *c)
{
  run(db, "SELECT hex(v) FROM t WHERE length(v) > 50000 LIMIT 1");
  for (uint64_t id = 1; id < 400; id++)
    if (page_type(c, id) == 0)
      return id;
  fail();
  return 0;
}

/* When the lines of a scan's pages are brought near. */
static void test_lines_rule(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  sqlite3_stmt *st;
  make(path, "pagedb", 4096, 0);
  sqlite3 *db = db_open(path, "pagedb");
  uint64_t root = (uint64_t)get_int(
      db, "SELECT rootpage - 1 FROM sqlite_schema WHERE name='t'");
  run(db, "BEGIN; %s", sum_sql);
  assert_int_equal(sqlite3_prepare_v2(db, "SELECT v FROM t", -1, &st, NULL),
                   SQLITE_OK);
  int rows = 0;
  while (rows++ < 200)
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  conn *c = conn_in(db);
  uint64_t chain = chain_page_of(db, c);
  c->rest->idle = c->lines = 0;
  /* Too quick for more than a look at each page, too slow to matter. */
  sample(c, st, 299);
  assert_int_equal(c->lines, 0);
  sample(c, st, 50001);
  assert_int_equal(c->lines, 0);
  sample(c, st, 300);
  const int most = c->lines;
  assert_true(most > 2);
  /* It pays: an eighth less, at least, in the first two. */
  sample(c, st, 0);
  assert_int_equal(c->lines, most - 1);
  sample(c, st, 263);
  assert_int_equal(c->lines, most - 2);
  sample(c, st, 1000);
  assert_int_equal(c->lines, most - 3);
  /* Then one without. */
  c->lines = 1;
  sample(c, st, 1000);
  assert_int_equal(c->lines, 0);
  assert_int_equal(c->rest->each, 300);
  sample(c, st, 300);
  assert_int_equal(c->lines, most);
  /* It does not pay. */
  sample(c, st, 0);
  sample(c, st, 264);
  assert_int_equal(c->lines, 0);
  assert_int_equal(c->rest->idle, most);
  sample(c, st, 300);
  assert_int_equal(c->lines, 0);
  assert_int_equal(c->rest->idle, most - 1);
  c->rest->idle = 0;
  /* Lookups meet as many interior pages as leaves, or more. */
  c->recent[0] = c->recent[1] = root;
  c->recent[2] = c->recent[3];
  sample(c, st, 300);
  assert_int_equal(c->lines, 0);
  c->recent[1] = c->recent[3];
  sample(c, st, 300);
  assert_int_equal(c->lines, most);
  c->recent[1] = root;
  sample(c, st, 0);
  assert_int_equal(c->lines, most - 1);
  c->recent[0] = c->recent[1] = c->recent[2] = root;
  sample(c, st, 0);
  assert_int_equal(c->lines, 0);
  /* What hangs on a leaf counts in a scan, and not in lookups of long rows. */
  c->recent[0] = c->recent[1] = chain;
  c->recent[2] = c->recent[3];
  sample(c, st, 300);
  assert_int_equal(c->lines, most);
  c->recent[2] = root;
  sample(c, st, 0);
  assert_int_equal(c->lines, 0);
  sqlite3_finalize(st);
  db_close(db);
}

/* Pages of all sizes, with their lines brought, say what they say. */
static void test_lines(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  for (int size = 512; size <= 65536; size *= 2) {
    make(path, "pagedb", size, 1);
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "BEGIN");
    int64_t sum = get_int(db, sum_sql);
    conn *c = conn_in(db);
    assert_non_null(c->ahead);
    c->lines = UINT8_MAX;
    assert_int_equal(get_int(db, sum_sql), sum);
    assert_true(c->lines > 0);
    db_close(db);
  }
}

/* ------------------------------------------------------------------- damage */

/* The page that holds a row. */
static uint64_t leaf_of(const char *path, int id)
{
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "BEGIN; SELECT length(v) FROM t WHERE id=%d", id);
  conn *c = conn_of_db(db);
  uint64_t leaf = c->recent[(c->nrecent + RECENT_PAGES - 1) % RECENT_PAGES];
  db_close(db);
  return leaf;
}

static void test_damage(void **state)
{
  (void)state;
  const char *path = db_path("ahead.db");
  make(path, "pagedb", 4096, 0);
  uint8_t byte, bad;
  uint64_t at = leaf_of(path, 3001) * 4096 + 2000;
  file_read_at(path, at, &byte, 1);
  bad = byte ^ 1;
  sqlite3 *db = db_open(path, "pagedb");
  get_int(db, "SELECT count(*) FROM sqlite_schema");
  file_write_at(path, at, &bad, 1);
  int64_t failures = stat_of(db, "failures_crc");
  int64_t wasted = tally_of(db).wasted;
  /* Read ahead, and not asked for. */
  assert_int_equal(
      get_int(db, "SELECT count(v) FROM t WHERE id BETWEEN 1500 AND 2900"),
      1401);
  assert_true(tally_of(db).wasted > wasted);
  assert_int_equal(stat_of(db, "failures_crc"), failures);
  sqlite3_db_release_memory(db);
  assert_int_equal(try_run(db, "SELECT v FROM t"), SQLITE_IOERR_DATA);
  assert_int_equal(stat_of(db, "failures_crc"), failures + 1);
  assert_int_equal(get_int(db, "SELECT count(v) FROM t WHERE id>3100"),
                   ROWS - 3100);
  file_write_at(path, at, &byte, 1);
  assert_int_equal(get_int(db, "SELECT count(v) FROM t"), ROWS);
  db_close(db);
}

/* What a scan of a corrupt database gives. */
static uint64_t scan_outcome(const char *path, const char *vfs, const char *sql)
{
  sqlite3_stmt *st;
  sqlite3 *db = db_open(path, vfs);
  uint64_t h = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (rc == SQLITE_OK) {
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
      h = h * 31 + fnv1a(sqlite3_column_blob(st, 0),
                         (size_t)sqlite3_column_bytes(st, 0));
    sqlite3_finalize(st);
  }
  db_close(db);
  return h * 31 + (uint64_t)rc;
}

/* Interior pages of a plain database full of nonsense: we do what stock does. */
static void test_nonsense(void **state)
{
  (void)state;
  static const char *const scan[] = {"SELECT v FROM t",
                                     "SELECT k FROM t ORDER BY k DESC"};
  const char *path = db_path("ahead.db"), *copy = db_path("copy.db");
  uint64_t seed = test_seed("nonsense", 20261121);
  make(copy, plain, 1024, 1);
  uint64_t pages = file_bytes_of(copy) / 1024;
  unsigned interior = 0;
  for (unsigned i = 0; i < scaled(60); i++) {
    file_copy(copy, path);
    for (uint64_t id = 1; id < pages; id++) {
      uint8_t page[1024], type;
      file_read_at(path, id * 1024, &type, 1);
      if ((type != 2 && type != 5) || random_below(&seed, 8) > 0)
        continue;
      interior++;
      file_read_at(path, id * 1024, page, sizeof page);
      for (uint64_t n = random_below(&seed, 3); n > 0; n--) {
        /* Cell pointers, children, the right child, the number of cells. */
        uint64_t what = random_below(&seed, 4);
        uint64_t at = what == 0   ? 12 + random_below(&seed, 64)
                      : what == 1 ? 3 + random_below(&seed, 2)
                      : what == 2 ? 8 + random_below(&seed, 4)
                                  : random_below(&seed, 1024);
        page[at] = (uint8_t)random_below(&seed, 256);
      }
      file_write_at(path, id * 1024, page, sizeof page);
    }
    for (int k = 0; k < 2; k++)
      assert_true(scan_outcome(path, "unix", scan[k]) ==
                  scan_outcome(path, plain, scan[k]));
  }
  assert_true(interior > 0);
}

/* ------------------------------------------------------------------ threads */

typedef struct job {
  const char *path;
  unsigned id, rounds;
  int failed;
} job;

static int64_t ask(sqlite3 *db, const char *sql, int *rc)
{
  sqlite3_stmt *st = NULL;
  int64_t v = -1;
  *rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (*rc == SQLITE_OK && (*rc = sqlite3_step(st)) == SQLITE_ROW) {
    v = sqlite3_column_int64(st, 0);
    *rc = SQLITE_OK;
  }
  sqlite3_finalize(st);
  return v;
}

/* Thread 0 moves amounts between rows; the sum stays. The others scan. */
static void *work(void *arg)
{
  job *j = arg;
  char uri[1024], sql[256];
  sqlite3 *db = NULL;
  int rc = SQLITE_OK;
  uint64_t seed = j->id + 1;
  snprintf(uri, sizeof uri, "file:%s?vfs=pagedb", j->path);
  for (unsigned i = 0; i < j->rounds && !j->failed; i++) {
    if (db == NULL) {
      rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI,
                           NULL);
      sqlite3_busy_timeout(db, 60000);
    }
    if (j->id == 0) {
      snprintf(sql, sizeof sql,
               "BEGIN IMMEDIATE; UPDATE t SET k=k+1 WHERE id%%7=%d;"
               "UPDATE t SET k=k-1 WHERE id%%7=%d; COMMIT;"
               "PRAGMA wal_checkpoint",
               (int)(i % 7), (int)(i % 7));
      rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    } else if (random_below(&seed, 3) == 0) {
      ask(db, "SELECT count(*) FROM (SELECT v FROM t LIMIT 3000)", &rc);
    } else {
      j->failed |= ask(db, "SELECT sum(k) FROM t NOT INDEXED", &rc) !=
                       (int64_t)ROWS * (ROWS + 1) / 2 &&
                   rc == SQLITE_OK;
    }
    j->failed |= rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY;
    if (j->id > 0 && i % 4 == 3) {
      sqlite3_close(db);
      db = NULL;
    }
  }
  sqlite3_close(db);
  return NULL;
}

static void test_threads(void **state)
{
  (void)state;
  enum { THREADS = 4 };
  const char *path = db_path("ahead.db");
  for (int wal = 0; wal < 2; wal++) {
    pthread_t thread[THREADS];
    job jobs[THREADS];
    make(path, "pagedb", 4096, 1);
    sqlite3 *db = db_open(path, "pagedb");
    int64_t before = get_int(db, "PRAGMA pagedb_pool_size");
    run(db, "PRAGMA journal_mode=%s; PRAGMA pagedb_pool_size='2MiB'",
        wal ? "WAL" : "DELETE");
    for (unsigned i = 0; i < THREADS; i++) {
      jobs[i] = (job){.path = path, .id = i, .rounds = scaled(30)};
      assert_int_equal(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
      pthread_join(thread[i], NULL);
      assert_int_equal(jobs[i].failed, 0);
    }
    run(db, "PRAGMA pagedb_pool_size=%lld", before);
    db_close(db);
    assert_whole(path, 1);
  }
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
      cmocka_unit_test(test_scans),        cmocka_unit_test(test_point_lookups),
      cmocka_unit_test(test_ranges),       cmocka_unit_test(test_sweep_begins),
      cmocka_unit_test(test_idle_cursors), cmocka_unit_test(test_two_scans),
      cmocka_unit_test(test_no_frames),    cmocka_unit_test(test_equal),
      cmocka_unit_test(test_small_pool),   cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_close),        cmocka_unit_test(test_fork),
#ifdef __linux__
      cmocka_unit_test(test_host_waits),
#endif
      cmocka_unit_test(test_truncated),    cmocka_unit_test(test_damage),
      cmocka_unit_test(test_nonsense),     cmocka_unit_test(test_threads),
      cmocka_unit_test(test_reads_fail),   cmocka_unit_test(test_lines_rule),
      cmocka_unit_test(test_lines),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
