/*
** test_vfs_state.c - what the pool holds is true: two processes, stepped
** against each other.
**
** A child process with stock SQLite or page-db carries out, one at a time, the
** statements that it is told through a pipe. Every scenario ends in a read
** that is wrong if the pool kept what it should have forgotten; each is run
** again with its rule switched off, and must then fail: so the tests can.
*/
#define _DEFAULT_SOURCE
#define SQLITE_CORE 1
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../vfs/vfs_int.h"
#include "sqlutil.h"

/* ------------------------------------------------------- the other process */

typedef struct other {
  pid_t pid;
  int to, from;
} other;

/* Another database in the place of one, as who has all locks of its log may put
** it there; the wal-index is to be made anew. */
static void replace(const char *path, const char *from)
{
  static const unsigned char nothing[96];
  char index[2100];
  size_t n = 0;
  unsigned char *all = read_whole(from, &n);
  assert_non_null(all);
  file_write_at(path, 0, all, n);
  free(all);
  snprintf(index, sizeof index, "%s-shm", path);
  file_write_at(index, 0, nothing, sizeof nothing);
}

static void other_main(int in, int out)
{
  char line[2000];
  size_t n = 0;
  sqlite3 *db = NULL;
  sql_start();
  while (read(in, &line[n], 1) == 1) {
    if (line[n] != '\n') {
      n++;
      continue;
    }
    line[n] = 0;
    n = 0;
    int rc = SQLITE_OK;
    if (strncmp(line, "open ", 5) == 0) {
      char *vfs = strchr(line + 5, ' ');
      *vfs++ = 0;
      db = db_open(line + 5, vfs);
    } else if (strncmp(line, "replace ", 8) == 0) {
      char *from = strchr(line + 8, ' ');
      *from++ = 0;
      replace(line + 8, from);
    } else if (strcmp(line, "close") == 0) {
      db_close(db);
      db = NULL;
    } else {
      rc = try_run(db, "%s", line);
    }
    if (write(out, &rc, sizeof rc) != sizeof rc)
      break;
  }
  _exit(0);
}

static other start_other(void)
{
  int to[2], from[2];
  assert_int_equal(pipe(to), 0);
  assert_int_equal(pipe(from), 0);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(to[1]);
    close(from[0]);
    other_main(to[0], from[1]);
  }
  close(to[0]);
  close(from[1]);
  return (other){pid, to[1], from[0]};
}

static int ask(other *o, const char *format, ...)
{
  va_list args;
  int rc = -1;
  va_start(args, format);
  char *line = sqlite3_vmprintf(format, args);
  va_end(args);
  assert_int_equal(write(o->to, line, strlen(line)), (ssize_t)strlen(line));
  assert_int_equal(write(o->to, "\n", 1), 1);
  sqlite3_free(line);
  assert_int_equal(read(o->from, &rc, sizeof rc), sizeof rc);
  return rc;
}

static void tell(other *o, const char *sql)
{
  int rc = ask(o, "%s", sql);
  if (rc != SQLITE_OK)
    fail_msg("the other process: %s: %d", sql, rc);
}

/* Started before SQLite is initialised here; one for all tests. */
static other them;

/* ---------------------------------------------------------------- scenarios */

static void make(const char *path, const char *vfs, const char *journal)
{
  db_remove(path);
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA page_size=4096; PRAGMA journal_mode=%s", journal);
  run(db, "CREATE TABLE x(id INTEGER PRIMARY KEY, v, pad);"
          "CREATE TABLE y(id INTEGER PRIMARY KEY, v, pad)");
  run(db, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<200) INSERT INTO x SELECT n, 0, zeroblob(500) FROM c;"
          "INSERT INTO y SELECT * FROM x");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  db_close(db);
}

/* What each scenario returns: the value that the last read saw, and the right
** one is always 1. */
typedef int64_t (*scenario)(const char *vfs, const char *their_vfs);

static void open_theirs(const char *path, const char *vfs)
{
  assert_int_equal(ask(&them, "open %s %s", path, vfs), SQLITE_OK);
}

/* SQLite's own cache of a connection must not hide the pool's mistakes: the
** page cache is dropped before each read that counts. */
static int64_t read_fresh(sqlite3 *db, const char *sql)
{
  sqlite3_db_release_memory(db);
  return get_int(db, sql);
}

static int64_t rollback_update(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  open_theirs(path, their_vfs);
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  int64_t v = read_fresh(db, "SELECT v FROM x WHERE id=150");
  tell(&them, "close");
  db_close(db);
  return v;
}

/* Several connections of this process look now and then, so that what each knows of
** the state is of another age. They write, and one of ours does. */
static int64_t several_read(const char *vfs, const char *their_vfs)
{
  enum { CONNS = 4, ROUNDS = 48 };
  const char *path = db_path("several.db");
  sqlite3 *db[CONNS];
  int64_t right = 1;
  make(path, vfs, "DELETE");
  for (int i = 0; i < CONNS; i++)
    db[i] = db_open(path, vfs);
  open_theirs(path, their_vfs);
  for (int n = 1; n <= ROUNDS; n++) {
    if (n % 3 == 0)
      run(db[n % CONNS], "UPDATE x SET v=%d WHERE id=150", n);
    else
      assert_int_equal(ask(&them, "UPDATE x SET v=%d WHERE id=150", n),
                       SQLITE_OK);
    for (int i = 0; i < CONNS; i++)
      if ((n >> i & 1) != 0)
        right &= read_fresh(db[i], "SELECT v FROM x WHERE id=150") == n;
  }
  tell(&them, "close");
  for (int i = 0; i < CONNS; i++)
    db_close(db[i]);
  return right;
}

static void checkpoint_now(void)
{
  pagedb_globals.after_wal_read_lock = NULL;
  tell(&them, "PRAGMA wal_checkpoint");
}

static int64_t checkpoint_before_barrier(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "WAL");
  sqlite3 *db = db_open(path, vfs);
  open_theirs(path, their_vfs);
  /* The log gets its salts, so that they do not give it away later. */
  tell(&them, "UPDATE y SET v=5 WHERE id=1");
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  sqlite3_db_release_memory(db);
  pagedb_globals.after_wal_read_lock = checkpoint_now;
  int64_t v = read_fresh(db, "SELECT v FROM x WHERE id=150");
  pagedb_globals.after_wal_read_lock = NULL;
  tell(&them, "close");
  db_close(db);
  return v;
}

static int64_t checkpoint_under_write(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "WAL");
  sqlite3 *db = db_open(path, vfs);
  open_theirs(path, their_vfs);
  /* The log gets its salts, so that they do not give it away later. */
  tell(&them, "UPDATE y SET v=5 WHERE id=1");
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  run(db, "BEGIN IMMEDIATE");
  tell(&them, "PRAGMA wal_checkpoint");
  run(db, "UPDATE y SET v=1 WHERE id=10; COMMIT");
  int64_t v = read_fresh(db, "SELECT v FROM x WHERE id=150");
  tell(&them, "close");
  db_close(db);
  return v;
}

static int64_t recreated_wal(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "WAL");
  /* Keeps the file known to the process, and holds no lock. */
  sqlite3 *idle = db_open(path, vfs);
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  db_close(db);
  open_theirs(path, their_vfs);
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  tell(&them, "close");
  db = db_open(path, vfs);
  int64_t v = get_int(db, "SELECT v FROM x WHERE id=150");
  db_close(db);
  db_close(idle);
  return v;
}

/* A log that nobody wrote to has salts of zero, before a recovery and after it. */
static int64_t replaced_beside_empty_log(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db"), *other = db_path("state-2.db");
  make(other, vfs, "WAL");
  open_theirs(other, their_vfs);
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  tell(&them, "PRAGMA wal_checkpoint(TRUNCATE)");
  tell(&them, "close");
  make(path, vfs, "WAL");
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  assert_int_equal(ask(&them, "replace %s %s", path, other), SQLITE_OK);
  int64_t v = read_fresh(db, "SELECT v FROM x WHERE id=150");
  db_close(db);
  return v;
}

static int64_t other_page_size(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  open_theirs(path, their_vfs);
  tell(&them, "PRAGMA page_size=1024");
  tell(&them, "VACUUM");
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  tell(&them, "close");
  sqlite3_db_release_memory(db);
  int64_t v = -1;
  if (try_run(db, "SELECT v FROM x") == SQLITE_OK &&
      get_int(db, "PRAGMA page_size") == 1024)
    v = get_int(db, "SELECT v FROM x WHERE id=150");
  db_close(db);
  return v;
}

static int64_t other_truncates(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM y"), 0);
  open_theirs(path, their_vfs);
  tell(&them, "DROP TABLE y");
  tell(&them, "VACUUM");
  tell(&them, "CREATE TABLE y(id INTEGER PRIMARY KEY, v, pad)");
  tell(&them, "INSERT INTO y VALUES(1, 1, zeroblob(90000))");
  tell(&them, "close");
  sqlite3_db_release_memory(db);
  int64_t v = -1;
  if (try_run(db, "SELECT * FROM y") == SQLITE_OK)
    v = get_int(db, "SELECT sum(v) FROM y");
  db_close(db);
  return v;
}

/* They take the guard away, stock writes, and we notice. */
static int64_t other_unstamps(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  open_theirs(path, their_vfs);
  tell(&them, "PRAGMA pagedb_unstamp");
  tell(&them, "close");
  open_theirs(path, "unix");
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  tell(&them, "close");
  sqlite3_db_release_memory(db);
  int64_t v = -1;
  if (try_run(db, "SELECT v FROM x") == SQLITE_OK)
    v = get_int(db, "SELECT v FROM x WHERE id=150");
  db_close(db);
  return v;
}

/* A transaction that never reached its join: its pages must be gone with its
** lock. journal_mode=OFF, spilled, rolled back: SQLite writes nothing back. */
static int64_t abandoned_pages(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  (void)their_vfs;
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA journal_mode=OFF; PRAGMA cache_size=5; PRAGMA cache_spill=5");
  run(db, "BEGIN; UPDATE x SET v=7");
  try_run(db, "ROLLBACK");
  sqlite3 *again = db_open(path, vfs);
  int64_t v = 1 + get_int(again, "SELECT sum(v) FROM x");
  db_close(again);
  db_close(db);
  return v;
}

/* --------------------------------------------------------------- read-ahead */

static conn *conn_of_db(sqlite3 *db)
{
  sqlite3_file *f = NULL;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
  assert_non_null(conn_of(f));
  return conn_of(f);
}

/* Ten rows of a scan: two leaves, and the reads of the next ones under way. */
static sqlite3_stmt *begin_scan(sqlite3 *db)
{
  sqlite3_stmt *st;
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT v, pad FROM x", -1, &st, NULL), SQLITE_OK);
  for (int i = 0; i < 10; i++)
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  return st;
}

/*
** They spill uncommitted pages while our reads, begun under a lock that we gave
** up since, are under way; then they roll back. The 16 bytes and the size are
** what they were.
*/
static int64_t spilled_and_rolled_back(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  pagedb_globals.slow_reads = SLOW_START;
  sqlite3_finalize(begin_scan(db));
  open_theirs(path, their_vfs);
  /* Their dirty pages leave their pool early. */
  ask(&them, "PRAGMA pagedb_pool_size=131072");
  tell(&them, "PRAGMA cache_size=5");
  tell(&them, "BEGIN");
  tell(&them, "UPDATE x SET v=7");
  ahead_wait(conn_of_db(db));
  pagedb_globals.slow_reads = SLOW_NOT;
  tell(&them, "ROLLBACK");
  int64_t v = 1 + read_fresh(db, "SELECT sum(v) FROM x");
  ask(&them, "PRAGMA pagedb_pool_size=67108864");
  tell(&them, "close");
  db_close(db);
  return v;
}

/* The same with a blob: its chain is being read in front of who reads its
** beginning. */
static int64_t spilled_into_a_chain(const char *vfs, const char *their_vfs)
{
  enum { BYTES = 400000, BEGIN = 80000 };
  const char *path = db_path("state.db");
  make(path, vfs, "DELETE");
  sqlite3 *db = db_open(path, vfs);
  run(db,
      "CREATE TABLE b(id INTEGER PRIMARY KEY, z); "
      "INSERT INTO b VALUES(1, zeroblob(%d))",
      BYTES);
  db_close(db);
  db = db_open(path, vfs);
  sqlite3_blob *blob;
  char *begin = malloc(BEGIN);
  pagedb_globals.slow_reads = SLOW_START;
  assert_int_equal(sqlite3_blob_open(db, "main", "b", "z", 1, 0, &blob),
                   SQLITE_OK);
  assert_int_equal(sqlite3_blob_read(blob, begin, BEGIN, 0), SQLITE_OK);
  sqlite3_blob_close(blob);
  free(begin);
  open_theirs(path, their_vfs);
  ask(&them, "PRAGMA pagedb_pool_size=131072");
  tell(&them, "PRAGMA cache_size=5");
  tell(&them, "BEGIN");
  tell(&them, "UPDATE b SET z=replace(hex(zeroblob(200000)),'0','7')");
  ahead_wait(conn_of_db(db));
  pagedb_globals.slow_reads = SLOW_NOT;
  tell(&them, "ROLLBACK");
  int64_t v = read_fresh(db, "SELECT z=zeroblob(400000) FROM b");
  ask(&them, "PRAGMA pagedb_pool_size=67108864");
  tell(&them, "close");
  db_close(db);
  return v;
}

/* We checkpoint a page that another of our connections reads ahead meanwhile:
** its image from before comes back after. */
static int64_t own_checkpoint(const char *vfs, const char *their_vfs)
{
  const char *path = db_path("state.db");
  (void)their_vfs;
  make(path, vfs, "WAL");
  sqlite3 *db = db_open(path, vfs), *other = db_open(path, vfs);
  run(other, "UPDATE x SET v=1 WHERE id=25");
  shared_invalidate(conn_of_db(db)->file); /* the page is to be read */
  pagedb_globals.slow_reads = SLOW_END;
  sqlite3_stmt *st = begin_scan(db);
  run(other, "PRAGMA wal_checkpoint");
  /* What the checkpoint put into the pool leaves it, as if others had need. */
  for (uint64_t id = 1; id < 200; id++)
    pagedb_discard(atomic_load(&conn_of_db(db)->file->owner), id);
  ahead_wait(conn_of_db(db));
  sqlite3_finalize(st);
  pagedb_globals.slow_reads = SLOW_NOT;
  int64_t v = read_fresh(other, "SELECT v FROM x WHERE id=25");
  db_close(other);
  db_close(db);
  return v;
}

/* The same, by them: seen by another of our connections, or by none. */
static int64_t their_checkpoint(const char *vfs, const char *their_vfs,
                                int seen)
{
  const char *path = db_path("state.db");
  make(path, vfs, "WAL");
  sqlite3 *db = db_open(path, vfs), *other = db_open(path, vfs);
  run(other, "UPDATE x SET v=1 WHERE id=25");
  shared_invalidate(conn_of_db(db)->file); /* the page is to be read */
  open_theirs(path, their_vfs);
  pagedb_globals.slow_reads = SLOW_END;
  sqlite3_stmt *st = begin_scan(db);
  tell(&them, "PRAGMA wal_checkpoint");
  if (seen)
    get_int(other, "SELECT v FROM y WHERE id=1");
  ahead_wait(conn_of_db(db));
  pagedb_globals.slow_reads = SLOW_NOT;
  int64_t v = read_fresh(other, "SELECT v FROM x WHERE id=25");
  sqlite3_finalize(st);
  v += read_fresh(db, "SELECT v FROM x WHERE id=25") - 1;
  tell(&them, "close");
  db_close(other);
  db_close(db);
  return v;
}

/* Stock SQLite checkpoints a WAL that page-db wrote, while page-db has it open:
** what it brought in must not be taken for holes by our next checkpoint. */
static void test_stock_checkpoint(void **state)
{
  (void)state;
  const char *path = db_path("stockckpt.db");
  make(path, "pagedb", "WAL");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA wal_autocheckpoint=0; CREATE TABLE z(a)");
  for (int i = 0; i < 100; i++)
    run(db, "INSERT INTO z VALUES(zeroblob(3000))");
  open_theirs(path, "unix");
  ask(&them, "PRAGMA wal_checkpoint");
  tell(&them, "close");
  run(db, "INSERT INTO z VALUES(1); CREATE TABLE z2(a)");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  sqlite3_db_release_memory(db);
  db_close(db);
  db = db_open(path, "unix");
  assert_int_equal(get_int(db, "SELECT count(*) FROM z"), 101);
  assert_int_equal(get_int(db, "SELECT sum(length(a)) FROM z"), 300001);
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  db_close(db);
  db = db_open(path, "pagedb&pagedb_verify=off");
  run(db, "PRAGMA pagedb_stamp=adopt");
  assert_int_equal(get_int(db, "SELECT count(*) FROM z"), 101);
  db_close(db);
  assert_whole(path, 1);
}

static void with_control(scenario run_it, const char *vfs, const char *theirs,
                         unsigned rule)
{
  pagedb_globals.rules_off = 0;
  assert_int_equal(run_it(vfs, theirs), 1);
  pagedb_globals.rules_off = rule;
  int64_t v = run_it(vfs, theirs);
  pagedb_globals.rules_off = 0;
  if (v == 1)
    fail_msg("without rule %u nothing goes wrong: the test shows nothing",
             rule);
}

static const char plain[] = "pagedb&pagedb_stamp=off";

static void test_rollback_update(void **state)
{
  (void)state;
  with_control(rollback_update, "pagedb", "pagedb", RULE_COMPARE);
  with_control(rollback_update, plain, "unix", RULE_COMPARE);
}

static void test_several_read(void **state)
{
  (void)state;
  with_control(several_read, "pagedb", "pagedb", RULE_COMPARE);
  with_control(several_read, plain, "unix", RULE_COMPARE);
}

static void test_checkpoint_before_barrier(void **state)
{
  (void)state;
  with_control(checkpoint_before_barrier, "pagedb", "pagedb", RULE_BARRIER);
  with_control(checkpoint_before_barrier, plain, "unix", RULE_BARRIER);
}

static void test_checkpoint_under_write(void **state)
{
  (void)state;
  with_control(checkpoint_under_write, "pagedb", "pagedb", RULE_OWN_CKPT);
  with_control(checkpoint_under_write, plain, "unix", RULE_OWN_CKPT);
}

static void test_recreated_wal(void **state)
{
  (void)state;
  with_control(recreated_wal, "pagedb", "pagedb",
               RULE_CONTINUITY | RULE_COMPARE);
  with_control(recreated_wal, plain, "unix", RULE_CONTINUITY | RULE_COMPARE);
}

static void test_replaced_beside_empty_log(void **state)
{
  (void)state;
  with_control(replaced_beside_empty_log, "pagedb", "pagedb", RULE_CONTINUITY);
  with_control(replaced_beside_empty_log, plain, "unix", RULE_CONTINUITY);
}

/* Reads an earlier read's pages from the pool, not from the file. */
static void assert_cached(sqlite3 *db, int64_t sum)
{
  assert_int_equal(read_fresh(db, "SELECT sum(v) FROM x"), sum);
  uint64_t reads = atomic_load(&pagedb_globals.count.page_reads);
  assert_int_equal(read_fresh(db, "SELECT sum(v) FROM x"), sum);
  assert_int_equal(atomic_load(&pagedb_globals.count.page_reads), reads);
}

/* A log that nobody wrote to since the file was opened: its salts are zero. */
static void test_empty_log(void **state)
{
  (void)state;
  const char *path = db_path("state.db");
  make(path, "pagedb", "WAL");
  sqlite3 *db = db_open(path, "pagedb");
  assert_cached(db, 0);
  open_theirs(path, "pagedb");
  tell(&them, "UPDATE x SET v=1 WHERE id=150");
  assert_int_equal(read_fresh(db, "SELECT sum(v) FROM x"), 1);
  tell(&them, "PRAGMA wal_checkpoint(TRUNCATE)");
  tell(&them, "close");
  assert_cached(db, 1);
  /* What our own checkpoint writes is not read again. */
  run(db, "UPDATE x SET v=2");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  uint64_t reads = atomic_load(&pagedb_globals.count.page_reads);
  assert_int_equal(read_fresh(db, "SELECT sum(v) FROM x"), 400);
  assert_int_equal(atomic_load(&pagedb_globals.count.page_reads), reads);
  db_close(db);
}

static void test_geometry(void **state)
{
  (void)state;
  with_control(other_page_size, "pagedb", "pagedb", RULE_COMPARE);
  with_control(other_page_size, plain, "unix", RULE_COMPARE);
  with_control(other_truncates, "pagedb", "pagedb", RULE_COMPARE);
  with_control(other_unstamps, "pagedb", "pagedb", RULE_COMPARE);
}

static void test_abandoned(void **state)
{
  (void)state;
  with_control(abandoned_pages, "pagedb", "pagedb", RULE_ABANDON);
}

static void test_ahead(void **state)
{
  (void)state;
  with_control(spilled_and_rolled_back, plain, "unix", RULE_AHEAD);
  with_control(spilled_and_rolled_back, "pagedb", "pagedb", RULE_AHEAD);
  with_control(spilled_into_a_chain, plain, "unix", RULE_AHEAD);
  with_control(spilled_into_a_chain, "pagedb", "pagedb", RULE_AHEAD);
  with_control(own_checkpoint, plain, NULL, RULE_AHEAD);
  with_control(own_checkpoint, "pagedb", NULL, RULE_AHEAD);
  for (int seen = 0; seen < 2; seen++) {
    assert_int_equal(their_checkpoint("pagedb", "pagedb", seen), 1);
    assert_int_equal(their_checkpoint(plain, "unix", seen), 1);
  }
}

/* Their commits make us read all of it again, into the frames that it had. */
static void frames_serve_again(const char *vfs, const char *their_vfs,
                               const char *journal)
{
  enum { TIMES = 10, SLACK = 64 };
  const char *path = db_path("frames.db");
  const char *used = "SELECT value FROM pagedb_stats WHERE "
                     "name='pool_used_bytes'";
  const char *forgotten = "SELECT value FROM pagedb_stats WHERE "
                          "name='invalidations'";
  make(path, vfs, journal);
  sqlite3 *db = db_open(path, vfs);
  run(db, "INSERT INTO x SELECT id+1000, 0, zeroblob(3000) FROM y;"
          "INSERT INTO x SELECT id+2000, 0, pad FROM x WHERE id>1000;"
          "INSERT INTO x SELECT id+4000, 0, pad FROM x WHERE id>1000");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  int64_t pages = get_int(db, "PRAGMA page_count");
  open_theirs(path, their_vfs);
  for (int i = 1; i <= TIMES; i++) {
    int64_t before = get_int(db, forgotten);
    assert_int_equal(ask(&them, "UPDATE x SET v=%d WHERE id=150", i),
                     SQLITE_OK);
    tell(&them, "PRAGMA wal_checkpoint");
    sqlite3_db_release_memory(db);
    assert_int_equal(get_int(db, "SELECT sum(v)+0*sum(length(pad)) FROM x"), i);
    assert_true(get_int(db, forgotten) > before);
    int64_t frames = get_int(db, used) / 4096;
    if (frames > pages + SLACK)
      fail_msg("%d commits: %d frames for %d pages", i, (int)frames,
               (int)pages);
  }
  tell(&them, "close");
  db_close(db);
}

static void test_frames_serve_again(void **state)
{
  (void)state;
  frames_serve_again("pagedb", "pagedb", "DELETE");
  frames_serve_again("pagedb", "pagedb", "WAL");
  frames_serve_again(plain, "unix", "DELETE");
  frames_serve_again(plain, "unix", "WAL");
}

/* --------------------------------------------------------------------- fork */

static int in_child(sqlite3 *db, const char *path)
{
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL);
    if (try_run(db, "SELECT sum(v) FROM x") == SQLITE_OK)
      _exit(1);
    /* A connection of its own works, with a pool of its own. */
    sqlite3 *own = db_open(path, "pagedb");
    int ok = get_int(own, "SELECT count(*) FROM x") == 200;
    run(own, "UPDATE x SET v=1 WHERE id=3");
    db_close(own);
    _exit(ok ? 0 : 2);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

static void test_fork(void **state)
{
  (void)state;
  const char *path = db_path("state.db");
  make(path, "pagedb", "DELETE");
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 0);
  assert_int_equal(in_child(db, path), 0);
  assert_int_equal(get_int(db, "SELECT sum(v) FROM x"), 1);
  /* Our page cache stops the child as well. */
  if (!pagedb_globals.pcache_is_ours()) {
    pagedb_globals.rules_off = RULE_FORK;
    assert_int_not_equal(in_child(db, path), 0);
    pagedb_globals.rules_off = 0;
  }
  db_close(db);
}

/* --------------------------------------------------------- POSIX lock trap */

/* Closing any descriptor of a file would drop every lock that the process has
** on it: one connection closes while another holds a lock, a third process
** tries. */
static void lock_trap(const char *closing)
{
  const char *path = db_path("trap.db");
  make(path, "pagedb&pagedb_stamp=off", "DELETE");
  sqlite3 *a = db_open(path, "pagedb"), *b = db_open(path, closing);
  sqlite3 *c = db_open(path, "pagedb");
  get_int(b, "SELECT count(*) FROM x");
  get_int(c, "SELECT count(*) FROM x");
  run(a, "BEGIN IMMEDIATE; UPDATE x SET v=2 WHERE id=1");
  db_close(b);
  db_close(c);
  open_theirs(path, "unix");
  assert_int_equal(ask(&them, "PRAGMA busy_timeout=0"), SQLITE_OK);
  assert_int_equal(ask(&them, "UPDATE x SET v=3 WHERE id=1") & 0xff,
                   SQLITE_BUSY);
  run(a, "COMMIT");
  assert_int_equal(ask(&them, "UPDATE x SET v=v+1 WHERE id=1"), SQLITE_OK);
  tell(&them, "close");
  assert_int_equal(get_int(a, "SELECT v FROM x WHERE id=1"), 3);
  db_close(a);
}

static void test_lock_trap(void **state)
{
  (void)state;
  lock_trap("pagedb");
  lock_trap("unix");
}

/* --------------------------------------------------------------------- LSN */

static uint64_t hour_back(void)
{
  return os_wallclock_us() - 3600000000u;
}

static void test_lsn(void **state)
{
  (void)state;
  const char *path = db_path("lsn.db");
  int64_t last = 0, lsn;
  for (int round = 0; round < 40; round++) {
    if (round % 10 == 0) {
      last = 0;
      make(path, "pagedb", round < 20 ? "DELETE" : "WAL");
    }
    sqlite3 *db = db_open(path, "pagedb");
    if (round % 10 > 5)
      run(db, "PRAGMA locking_mode=EXCLUSIVE");
    for (int i = 0; i < 3; i++) {
      /* The clock goes back: in one process the LSN rises all the same. */
      pagedb_globals.clock = i == 1 ? hour_back : os_wallclock_us;
      run(db, "UPDATE x SET v=v+1 WHERE id=%d", round * 3 + i + 1);
      run(db, "BEGIN; UPDATE x SET v=0; ROLLBACK");
    }
    run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    lsn = get_int(db, "SELECT max(lsn) FROM pagedb_pages");
    assert_true(lsn > last);
    assert_true(get_int(db, "PRAGMA pagedb_lsn") >= lsn);
    last = lsn;
    db_close(db);
    /* A connection that has read nothing yet. */
    db = db_open(path, "pagedb");
    assert_true(get_int(db, "PRAGMA pagedb_lsn") > 0);
    db_close(db);
  }
  pagedb_globals.clock = os_wallclock_us;
}

/* Pages with a newer LSN are all that changed, and little else. */
static void test_lsn_covers_changes(void **state)
{
  (void)state;
  for (int wal = 0; wal < 2; wal++) {
    const char *path = db_path("inc.db"), *copy = db_path("inc-copy.db");
    static unsigned char a[4096], b[4096];
    uint64_t seed = 7;
    make(path, "pagedb", wal ? "WAL" : "DELETE");
    for (int round = 0; round < 20; round++) {
      sqlite3 *db = db_open(path, "pagedb");
      int64_t x = get_int(db, "SELECT max(lsn) FROM pagedb_pages");
      db_close(db);
      file_copy(path, copy);
      db = db_open(path, "pagedb");
      for (int i = 0; i < 4; i++)
        run(db,
            "UPDATE x SET v=v+1 WHERE id=%d; UPDATE y SET pad=zeroblob(%d) "
            "WHERE id=%d",
            (int)random_below(&seed, 200) + 1, (int)random_below(&seed, 900),
            (int)random_below(&seed, 200) + 1);
      run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
      int64_t newer = get_int(db,
                              "SELECT count(*) FROM pagedb_pages WHERE "
                              "lsn > %lld",
                              x);
      int64_t changed = 0;
      uint64_t pages = file_bytes_of(path) / 4096;
      for (uint64_t id = 0; id < pages; id++) {
        memset(a, 0, sizeof a);
        if (id < file_bytes_of(copy) / 4096)
          file_read_at(copy, id * 4096, a, sizeof a);
        file_read_at(path, id * 4096, b, sizeof b);
        if (memcmp(a, b, 4096 - PAGEDB_RECORD_SIZE) == 0)
          continue;
        changed++;
        assert_true(get_int(db, "SELECT lsn FROM pagedb_pages WHERE page=%d",
                            (int)id + 1) > x);
      }
      db_close(db);
      if (round == 19)
        print_message("%s: %d pages changed, %d have a newer LSN\n",
                      wal ? "WAL" : "DELETE", (int)changed, (int)newer);
      assert_true(newer >= changed && newer <= 2 * changed + 4);
    }
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rollback_update),
      cmocka_unit_test(test_several_read),
      cmocka_unit_test(test_checkpoint_before_barrier),
      cmocka_unit_test(test_checkpoint_under_write),
      cmocka_unit_test(test_recreated_wal),
      cmocka_unit_test(test_replaced_beside_empty_log),
      cmocka_unit_test(test_empty_log),
      cmocka_unit_test(test_geometry),
      cmocka_unit_test(test_abandoned),
      cmocka_unit_test(test_ahead),
      cmocka_unit_test(test_frames_serve_again),
      cmocka_unit_test(test_stock_checkpoint),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_lock_trap),
      cmocka_unit_test(test_lsn),
      cmocka_unit_test(test_lsn_covers_changes),
  };
  signal(SIGPIPE, SIG_IGN);
  them = start_other();
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
