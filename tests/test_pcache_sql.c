/*
** test_pcache_sql.c - the page cache under SQLite: how it is installed, eight
** connections on a budget of 1 MiB, fork.
**
** What configures SQLite anew runs in a child process.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqlutil.h"

/* ------------------------------------------------------------- installation */

/* Run in a child, which has not begun SQLite; it exits with 0 if all is well. */
static void in_child(void (*what)(void))
{
  int status;
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    what();
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (status != 0)
    fail_msg("the child ended with %d, line %d", status, WEXITSTATUS(status));
}

/* In a child: the exit status says which line it was (modulo 256). */
#define must(x)                                                                \
  do {                                                                         \
    if (!(x)) {                                                                \
      fprintf(stderr, "line %d: %s\n", __LINE__, #x);                          \
      _exit(__LINE__ % 255 + 1);                                               \
    }                                                                          \
  } while (0)

static sqlite3 *open_or_exit(const char *path)
{
  sqlite3 *db;
  must(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                       "pagedb") == SQLITE_OK);
  return db;
}

static int sql_is(sqlite3 *db, const char *sql, const char *wanted)
{
  sqlite3_stmt *st = NULL;
  int same = sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
             sqlite3_step(st) == SQLITE_ROW &&
             strcmp((const char *)sqlite3_column_text(st, 0), wanted) == 0;
  sqlite3_finalize(st);
  return same;
}

static sqlite3_pcache_methods2 builtin;
static unsigned fetches;

static sqlite3_pcache_page *another_fetch(sqlite3_pcache *c, unsigned key,
                                          int create)
{
  fetches++;
  return builtin.xFetch(c, key, create);
}

static const char *path; /* of the database of a child */

static void use_database(const char *pcache)
{
  sqlite3 *db = open_or_exit(path);
  must(sqlite3_exec(db,
                    "CREATE TABLE t(a); INSERT INTO t VALUES(1);"
                    "INSERT INTO t SELECT a FROM t; DROP TABLE t;",
                    NULL, NULL, NULL) == SQLITE_OK);
  must(sql_is(db, "SELECT pcache FROM pagedb_files", pcache));
  must(sqlite3_close(db) == SQLITE_OK);
}

static void install_first(void)
{
  const char *why = "";
  must(pagedb_install(&why) == SQLITE_OK && why == NULL);
  must(pagedb_register(0) == SQLITE_OK);
  use_database("pagedb");
  must(pagedb_install(NULL) == SQLITE_OK);
  must(sqlite3_shutdown() == SQLITE_OK);
  must(pagedb_register(0) == SQLITE_OK);
  use_database("pagedb");
}

static void install_later(void)
{
  const char *why = NULL;
  must(pagedb_register(0) == SQLITE_OK);
  use_database("built-in");
  sqlite3 *db = open_or_exit(path);
  must(pagedb_install(&why) == SQLITE_BUSY);
  must(strstr(why, "a connection is open") == why);
  must(sql_is(db, "SELECT pcache FROM pagedb_files", "built-in"));
  must(sqlite3_close(db) == SQLITE_OK);
  must(pagedb_install(&why) == SQLITE_OK && why == NULL);
  use_database("pagedb"); /* the VFS and the tables are there again */
}

static void install_blind(void)
{
  const char *why = NULL;
  must(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
  must(pagedb_register(0) == SQLITE_OK);
  must(pagedb_install(&why) == SQLITE_BUSY);
  must(strstr(why, "keeps no count of its memory") != NULL);
  use_database("built-in");
}

static void register_switched_on(void)
{
  setenv("PAGEDB_PCACHE", "on", 1);
  must(pagedb_register(1) == SQLITE_OK);
  use_database("pagedb");
}

static void register_alone(void)
{
  must(pagedb_register(1) == SQLITE_OK);
  use_database("built-in");
}

/* A page cache that the program brought stays. */
static void install_beside_another(void)
{
  const char *why = NULL;
  sqlite3_pcache_methods2 own, now;
  must(sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &own) == SQLITE_OK);
  builtin = own;
  own.xFetch = another_fetch;
  must(sqlite3_config(SQLITE_CONFIG_PCACHE2, &own) == SQLITE_OK);
  must(pagedb_install(&why) == SQLITE_PERM);
  must(strstr(why, "a page cache of its own") != NULL);
  setenv("PAGEDB_PCACHE", "on", 1);
  must(pagedb_register(0) == SQLITE_OK);
  use_database("built-in");
  must(fetches > 0);
  must(pagedb_install(&why) == SQLITE_PERM);
  must(sqlite3_shutdown() == SQLITE_OK);
  must(sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &now) == SQLITE_OK);
  must(now.xFetch == another_fetch);
}

static void keep_log(void *arg, int code, const char *message)
{
  (void)code;
  snprintf(arg, 256, "%s", message);
}

/* Without memory for the pool SQLite is left as it is. */
static void install_without_pool(void)
{
  const char *why = NULL;
  char said[256] = "";
  static const char *const none[] = {"junk", "64", "-1GiB", "nan", ""};
  must(sqlite3_config(SQLITE_CONFIG_LOG, keep_log, said) == SQLITE_OK);
  setenv("PAGEDB_PCACHE", "on", 1);
  for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++) {
    setenv("PAGEDB_POOL_SIZE", none[i], 1);
    must(pagedb_install(&why) == SQLITE_RANGE);
    must(strstr(why, "not a size of at least 64 KiB") != NULL);
    must(pagedb_register(1) == SQLITE_MISUSE);
    must(strstr(said, "not a size of at least 64 KiB") != NULL);
    must(sqlite3_shutdown() == SQLITE_OK);
  }
  static const char *const wild[] = {"1000000GiB",      "3TiB",  "8000000TiB",
                                     "900000000000GiB", "1e300", "inf"};
  for (unsigned i = 0; i < sizeof wild / sizeof wild[0]; i++) {
    setenv("PAGEDB_POOL_SIZE", wild[i], 1);
    must(pagedb_install(&why) == SQLITE_NOMEM);
    must(strstr(why, "for the pool") != NULL);
    must(pagedb_register(1) == SQLITE_MISUSE);
    must(strstr(said, wild[i]) != NULL);
    must(strstr(said, "a pool has at most 2047 GiB") != NULL);
    must(sqlite3_vfs_find("pagedb") == NULL);
    sqlite3 *db;
    must(sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, "unix") ==
         SQLITE_OK);
    must(sql_is(db, "SELECT count(*) FROM sqlite_schema", "0"));
    must(sqlite3_close(db) == SQLITE_OK);
    must(sqlite3_shutdown() == SQLITE_OK);
  }
  /* What was refused is not kept. */
  unsetenv("PAGEDB_POOL_SIZE");
  must(pagedb_register(1) == SQLITE_OK);
  use_database("pagedb");
}

static void test_install(void **state)
{
  (void)state;
  void (*const ways[])(void) = {install_first,       install_later,
                                install_blind,       register_switched_on,
                                register_alone,      install_beside_another,
                                install_without_pool};
  unsetenv("PAGEDB_PCACHE");
  for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    path = db_path("install");
    in_child(ways[i]);
    db_remove(path);
  }
}

/* ------------------------------------------------------------ a small budget */

enum { CONNECTIONS = 8, ROWS = 400, FILES = 3 };

/* A connection with a table of its own in each of its databases, and what the
** table must hold: per row the length of its text, 0: no row. */
typedef struct user {
  sqlite3 *db;
  unsigned id;
  uint64_t seed;
  unsigned steps;
  int err;
  int length[FILES][ROWS];
  int before[FILES][ROWS];
} user;

/* A file in rollback mode, one in WAL mode, one in memory. */
static const char *const schema[FILES] = {"main", "wal", "memory"};
static char file[2][600];

static void user_open(user *u, unsigned id, uint64_t seed)
{
  static const int sizes[] = {5, 20, 200, 2000};
  memset(u, 0, sizeof *u);
  u->id = id;
  u->seed = seed;
  u->steps = scaled(60);
  u->db = db_open(file[0], "pagedb");
  run(u->db, "ATTACH '%s' AS wal; ATTACH ':memory:' AS memory", file[1]);
  run(u->db, "PRAGMA synchronous=OFF; PRAGMA wal.synchronous=OFF");
  if (id % 2 == 1)
    run(u->db, "PRAGMA mmap_size=0");
  for (unsigned f = 0; f < FILES; f++) {
    run(u->db, "PRAGMA %s.cache_size=%d", schema[f], sizes[id % 4]);
    run(u->db, "CREATE TABLE %s.t%u(a INTEGER PRIMARY KEY, b TEXT)", schema[f],
        id);
  }
}

/* May meet the lock of another: then nothing has changed. */
static int user_write(user *u, unsigned f)
{
  unsigned n = (unsigned)random_below(&u->seed, 60) + 1;
  int err = try_run(u->db, "BEGIN IMMEDIATE");
  memcpy(u->before, u->length, sizeof u->length);
  for (unsigned i = 0; i < n && err == SQLITE_OK; i++) {
    unsigned row = (unsigned)random_below(&u->seed, ROWS);
    int bytes = (int)random_below(&u->seed, 1500) + 1;
    if (random_below(&u->seed, 4) == 0) {
      bytes = 0;
      err = try_run(u->db, "DELETE FROM %s.t%u WHERE a=%u", schema[f], u->id,
                    row);
    } else {
      err = try_run(u->db,
                    "REPLACE INTO %s.t%u VALUES(%u, printf('%%.*c', %d, 'x'))",
                    schema[f], u->id, row, bytes);
    }
    u->length[f][row] = bytes;
  }
  int rollback = random_below(&u->seed, 5) == 0;
  if (err == SQLITE_OK)
    err = try_run(u->db, rollback ? "ROLLBACK" : "COMMIT");
  if (err != SQLITE_OK && !sqlite3_get_autocommit(u->db) &&
      try_run(u->db, "ROLLBACK") != SQLITE_OK)
    return SQLITE_MISMATCH;
  if (err != SQLITE_OK || rollback)
    memcpy(u->length, u->before, sizeof u->length);
  return err;
}

/* The thread's own: the helpers of sqlutil are not for threads. */
static int64_t value_of(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st = NULL;
  int64_t v = -1;
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
      sqlite3_step(st) == SQLITE_ROW)
    v = sqlite3_column_int64(st, 0);
  sqlite3_finalize(st);
  return v;
}

/* 1 if the table holds what it must. */
static int user_check(user *u, unsigned f)
{
  char sql[200];
  int64_t sum = 0;
  for (unsigned i = 0; i < ROWS; i++)
    sum += (int64_t)u->length[f][i] * (i + 1) + (u->length[f][i] > 0);
  snprintf(sql, sizeof sql,
           "SELECT ifnull(sum(length(b) * (a + 1) + 1), 0) FROM %s.t%u",
           schema[f], u->id);
  return value_of(u->db, sql) == sum;
}

/* cmocka's checks are for its own thread: a thread only reports. */
static void *user_work(void *arg)
{
  user *u = arg;
  for (unsigned i = 0; i < u->steps && u->err == SQLITE_OK; i++) {
    int err = user_write(u, (unsigned)random_below(&u->seed, FILES));
    if (err != SQLITE_OK && (err & 255) != SQLITE_BUSY)
      u->err = err;
    if (!user_check(u, (unsigned)random_below(&u->seed, FILES)))
      u->err = SQLITE_MISMATCH;
    if (u->err == SQLITE_OK && random_below(&u->seed, 8) == 0)
      u->err = try_run(u->db,
                       "CREATE TEMP TABLE x AS SELECT * FROM main.t%u "
                       "ORDER BY b; DROP TABLE x; PRAGMA shrink_memory",
                       u->id);
  }
  if (u->err != SQLITE_OK)
    fprintf(stderr, "connection %u: %d, %s\n", u->id, u->err,
            sqlite3_errmsg(u->db));
  return NULL;
}

static int64_t stat_of(sqlite3 *db, const char *name)
{
  return get_int(db, "SELECT value FROM pagedb_stats WHERE name='%s'", name);
}

static void test_small_budget(void **state)
{
  (void)state;
  static user u[CONNECTIONS];
  pthread_t thread[CONNECTIONS];
  uint64_t seed = test_seed("pcache sql", 11);
  for (unsigned i = 0; i < 2; i++)
    snprintf(file[i], sizeof file[i], "%s", db_path(i ? "wal" : "rollback"));
  sqlite3 *db = db_open(file[1], "pagedb");
  run(db, "PRAGMA journal_mode=WAL; PRAGMA pagedb_pool_size='1MiB'");
  for (unsigned i = 0; i < CONNECTIONS; i++)
    user_open(&u[i], i, next_random(&seed));
  for (unsigned i = 0; i < CONNECTIONS; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, user_work, &u[i]), 0);
  for (unsigned i = 0; i < CONNECTIONS; i++)
    pthread_join(thread[i], NULL);
  for (unsigned i = 0; i < CONNECTIONS; i++) {
    assert_int_equal(u[i].err, SQLITE_OK);
    for (unsigned f = 0; f < FILES; f++)
      assert_true(user_check(&u[i], f));
  }
  assert_true(stat_of(db, "pool_used_bytes") <= 1 << 20);
  assert_true(stat_of(db, "pcache_taken") > 0);
  assert_true(stat_of(db, "pcache_outside_bytes") > 0);
  for (unsigned i = 0; i < CONNECTIONS; i++)
    db_close(u[i].db);
  assert_int_equal(stat_of(db, "pcache_outside_bytes"), 0);
  /* Until now dirty pages of temporary files could be beyond the budget. */
  assert_int_equal(get_int(db, "SELECT count(*) FROM sqlite_schema"), 8);
  assert_int_equal(stat_of(db, "pcache_excess_bytes"), 0);
  run(db, "PRAGMA pagedb_pool_size='64MiB'");
  db_close(db);
  for (unsigned i = 0; i < 2; i++) {
    assert_whole(file[i], 1);
    db_remove(file[i]);
  }
}

/* ----------------------------------------------------------------- spilling */

/* A transaction larger than cache_size, and one larger than the budget with a
** cache_size that never spills. */
static void test_large_transactions(void **state)
{
  (void)state;
  const char *p = db_path("large");
  sqlite3 *db = db_open(p, "pagedb");
  run(db, "PRAGMA pagedb_pool_size='1MiB'; PRAGMA cache_size=20;"
          "CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
  for (int spills = 1; spills >= 0; spills--) {
    if (!spills)
      run(db, "PRAGMA cache_spill=OFF");
    run(db, "BEGIN; WITH RECURSIVE n(i) AS "
            "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
            "INSERT INTO t(b) SELECT zeroblob(1000) FROM n");
    if (spills)
      assert_int_equal(stat_of(db, "pcache_excess_bytes"), 0);
    else
      assert_true(stat_of(db, "pcache_excess_bytes") > 3 << 20);
    run(db, "COMMIT");
    assert_int_equal(stat_of(db, "pcache_excess_bytes"), 0);
    assert_true(stat_of(db, "pool_used_bytes") <= 1 << 20);
  }
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 10000);
  run(db, "PRAGMA pagedb_pool_size='64MiB'");
  db_close(db);
  assert_whole(p, 1);
  db_remove(p);
}

/* A transaction larger than the pool, with a cache_size that never spills by
** itself: it spills at its share, and leaves another connection its hot pages. */
static void test_no_starvation(void **state)
{
  (void)state;
  enum { STEPS = 40, ROWS_A_STEP = 200, HOT_ROWS = 200, HOT_PAGES = 50 };
  const char *p[2] = {db_path("greedy"), db_path("hot")};
  sqlite3 *db[2];
  for (unsigned i = 0; i < 2; i++) {
    db[i] = db_open(p[i], "pagedb");
    run(db[i],
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); WITH RECURSIVE n(i) AS "
        "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        "INSERT INTO t(b) SELECT printf('%%.*c', 1000, 'x') FROM n",
        i == 0 ? STEPS * ROWS_A_STEP : HOT_ROWS);
  }
  run(db[0], "PRAGMA pagedb_pool_size='4MiB'; PRAGMA cache_size=1000000");
  int64_t exhausted = stat_of(db[1], "exhausted");
  for (int fetch = 1; fetch >= 0; fetch--) {
    int64_t read = 0;
    run(db[1], "PRAGMA mmap_size=%d; PRAGMA cache_size=100", fetch << 30);
    get_int(db[1], "SELECT sum(length(b)) FROM t");
    run(db[0], "BEGIN");
    for (unsigned step = 0; step < STEPS; step++) {
      run(db[0],
          "UPDATE t SET b = printf('%%.*c', 1000, 'y') "
          "WHERE a > %u AND a <= %u",
          step * ROWS_A_STEP, (step + 1) * ROWS_A_STEP);
      int64_t before = stat_of(db[1], "misses");
      assert_int_equal(get_int(db[1], "SELECT sum(length(b)) FROM t"),
                       HOT_ROWS * 1000);
      read += stat_of(db[1], "misses") - before;
    }
    assert_int_equal(stat_of(db[0], "pcache_excess_bytes"), 0);
    assert_in_range(read, 0, STEPS * HOT_PAGES / 8);
    run(db[0], "COMMIT");
  }
  assert_int_equal(stat_of(db[1], "exhausted"), exhausted);
  run(db[0], "PRAGMA pagedb_pool_size='64MiB'");
  for (unsigned i = 0; i < 2; i++) {
    db_close(db[i]);
    assert_whole(p[i], 1);
    db_remove(p[i]);
  }
}

/* With every frame pinned, a page is read straight into the private cache. */
static void test_straight_read(void **state)
{
  (void)state;
  const char *p[3] = {db_path("greedy"), db_path("second"), db_path("reader")};
  sqlite3 *db[3];
  for (unsigned i = 0; i < 3; i++) {
    db[i] = db_open(p[i], "pagedb");
    run(db[i],
        "PRAGMA cache_spill=OFF; PRAGMA mmap_size=0; PRAGMA cache_size=5;"
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); WITH RECURSIVE n(i) AS "
        "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
        "INSERT INTO t(b) SELECT printf('%%.*c', 1000, 'x') FROM n");
  }
  /* What two writers leave to others is pinned by a reader in its midst. */
  sqlite3_stmt *st;
  sqlite3 *pins = db_open(p[2], "pagedb");
  assert_int_equal(
      sqlite3_prepare_v2(pins, "SELECT a, b FROM t", -1, &st, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(st), SQLITE_ROW);
  run(db[0], "PRAGMA pagedb_pool_size='64KiB'; BEGIN; UPDATE t SET b = b || 1");
  run(db[1], "BEGIN; UPDATE t SET b = b || 1");
  int64_t bounces = stat_of(db[2], "bounces");
  int64_t exhausted = stat_of(db[2], "exhausted");
  assert_int_equal(get_int(db[2], "SELECT sum(length(b)) FROM t"), 500000);
  assert_true(stat_of(db[2], "exhausted") > exhausted + 50);
  assert_int_equal(stat_of(db[2], "bounces"), bounces);
  sqlite3_finalize(st);
  db_close(pins);
  run(db[0], "COMMIT; PRAGMA pagedb_pool_size='64MiB'");
  run(db[1], "COMMIT");
  for (unsigned i = 0; i < 3; i++) {
    db_close(db[i]);
    assert_whole(p[i], 1);
    db_remove(p[i]);
  }
}

/* ------------------------------------------------------------- memory limit */

/* sqlite3_hard_heap_limit64 holds for memory databases. */
static void test_hard_limit(void **state)
{
  (void)state;
  sqlite3 *db = db_open(":memory:", "unix");
  run(db, "CREATE TABLE t(a)");
  const char *fill = "WITH RECURSIVE n(i) AS "
                     "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
                     "INSERT INTO t SELECT zeroblob(10000) FROM n";
  sqlite3_int64 used = sqlite3_memory_used();
  sqlite3_hard_heap_limit64(used + (8 << 20));
  assert_int_equal(try_run(db, "%s", fill), SQLITE_NOMEM);
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 0);
  sqlite3_hard_heap_limit64(0);
  assert_int_equal(try_run(db, "%s", fill), SQLITE_OK);
  assert_int_equal(get_int(db, "SELECT count(*) FROM t"), 2000);
  db_close(db);
}

/* Near the limit every page that there is room for can be had, the first one
** too. */
static void test_near_hard_limit(void **state)
{
  (void)state;
  sqlite3 *db = db_open(":memory:", "unix");
  sqlite3_hard_heap_limit64(sqlite3_memory_used() + (160 << 10));
  run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(40000))");
  assert_int_equal(try_run(db, "INSERT INTO t VALUES(zeroblob(120000))"),
                   SQLITE_NOMEM);
  assert_int_equal(get_int(db, "SELECT sum(length(a)) FROM t"), 40000);
  sqlite3_hard_heap_limit64(0);
  run(db, "INSERT INTO t VALUES(zeroblob(120000))");
  db_close(db);
}

/* --------------------------------------------------------------------- fork */

static sqlite3 *inherited, *memory;

static void after_fork(void)
{
  /* A memory database goes on. */
  must(sql_is(memory, "SELECT sum(length(b)) FROM t", "500000"));
  must(sqlite3_exec(memory, "INSERT INTO t SELECT * FROM t", NULL, NULL,
                    NULL) == SQLITE_OK);
  must(sql_is(memory, "SELECT sum(length(b)) FROM t", "1000000"));
  must(sql_is(memory, "SELECT integrity_check FROM pragma_integrity_check",
              "ok"));
  must(sqlite3_close(memory) == SQLITE_OK);
  sqlite3_db_release_memory(inherited);
  must(sqlite3_close(inherited) == SQLITE_OK);
  sqlite3 *db = open_or_exit(path);
  must(sql_is(db, "SELECT count(*) FROM t", "500"));
  must(sqlite3_exec(db, "UPDATE t SET b = 2", NULL, NULL, NULL) == SQLITE_OK);
  must(sql_is(db, "SELECT sum(b) FROM t", "1000"));
  must(sqlite3_close(db) == SQLITE_OK);
}

static void test_fork(void **state)
{
  (void)state;
  const char *other = db_path("fork-parent");
  path = db_path("fork-child");
  inherited = db_open(other, "pagedb");
  run(inherited, "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 1)");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "CREATE TABLE t(a, b); WITH RECURSIVE n(i) AS "
          "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
          "INSERT INTO t SELECT i, 1 FROM n");
  db_close(db);
  memory = db_open(":memory:", "unix");
  run(memory, "CREATE TABLE t(a, b); WITH RECURSIVE n(i) AS "
              "(VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
              "INSERT INTO t SELECT i, zeroblob(1000) FROM n");
  in_child(after_fork);
  assert_int_equal(get_int(memory, "SELECT sum(length(b)) FROM t"), 500000);
  db_close(memory);
  assert_int_equal(get_int(inherited, "SELECT count(*) FROM t"), 1);
  db_close(inherited);
  db_remove(path);
  db_remove(other);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_small_budget),
      cmocka_unit_test(test_large_transactions),
      cmocka_unit_test(test_no_starvation),
      cmocka_unit_test(test_straight_read),
      cmocka_unit_test(test_hard_limit),
      cmocka_unit_test(test_near_hard_limit),
      cmocka_unit_test(test_fork),
  };
  const struct CMUnitTest first[] = {cmocka_unit_test(test_install)};
  int failed = cmocka_run_group_tests(first, NULL, NULL);
  if (pagedb_install(NULL) != SQLITE_OK)
    return 1;
  sql_start();
  return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
