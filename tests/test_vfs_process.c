/*
** test_vfs_process.c - several processes on one database: page-db and stock,
** readers and writers, and processes that are killed.
**
** Children are forked before SQLite is initialised in the parent, so that no
** connection crosses a fork; each says with which VFS it works. Invariants: the
** sum over all accounts never changes, a counter never goes back, nothing that
** was acknowledged is missing.
**
** PAGEDB_TRANSACTIONS (1000) per mode, PAGEDB_KILLS (200) rounds.
*/
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sqlutil.h"

enum { ACCOUNTS = 400, TOTAL = ACCOUNTS * 100 };

static unsigned setting(const char *name, unsigned otherwise)
{
  const char *v = getenv(name);
  return v != NULL ? (unsigned)strtoul(v, NULL, 10) : scaled(otherwise);
}

static void nap(long us)
{
  nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

/* Run `body` in a child; its exit status is its verdict. */
typedef int (*child_body)(const char *path, const char *vfs, void *arg);

static pid_t start(child_body body, const char *path, const char *vfs,
                   void *arg)
{
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    sql_start();
    _exit(body(path, vfs, arg));
  }
  return pid;
}

static void must_exit_well(pid_t pid, const char *who)
{
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail_msg("%s: status 0x%x", who, status);
}

static int fill(const char *path, const char *vfs, void *journal)
{
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA page_size=1024; PRAGMA journal_mode=%s",
      (const char *)journal);
  run(db, "CREATE TABLE account(id INTEGER PRIMARY KEY, sum INT, pad);"
          "CREATE TABLE counter(n INT); INSERT INTO counter VALUES(0);"
          "CREATE TABLE log(n INT, who INT)");
  run(db,
      "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE "
      "x<%d) INSERT INTO account SELECT x, 100, hex(zeroblob(150)) FROM c",
      ACCOUNTS);
  db_close(db);
  return 0;
}

/* --------------------------------------------------------- writers, readers */

typedef struct shared_page {
  volatile int stop;
  volatile int kept, over;       /* of keeper() */
  volatile int64_t acknowledged; /* the largest counter that was committed */
} shared_page;

static shared_page *board;

static int busy(int rc)
{
  return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

static int transfer(sqlite3 *db, uint64_t *seed)
{
  int a = (int)random_below(seed, ACCOUNTS) + 1;
  int b = (int)random_below(seed, ACCOUNTS) + 1;
  int n = (int)random_below(seed, 30);
  int rc = try_run(db, "BEGIN IMMEDIATE");
  if (rc == SQLITE_OK)
    rc = try_run(db,
                 "UPDATE account SET sum=sum-%d WHERE id=%d;"
                 "UPDATE account SET sum=sum+%d WHERE id=%d;"
                 "UPDATE counter SET n=n+1;"
                 "INSERT INTO log SELECT n, %d FROM counter",
                 n, a, n, b, (int)getpid());
  if (rc == SQLITE_OK && random_below(seed, 10) == 0) {
    rc = try_run(db, "ROLLBACK");
    return rc == SQLITE_OK ? SQLITE_ABORT : rc;
  }
  if (rc == SQLITE_OK)
    rc = try_run(db, "COMMIT");
  if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
    try_run(db, "ROLLBACK");
  return rc;
}

typedef struct writer_arg {
  unsigned transactions;
  int checkpoints;
  int vacuum;
} writer_arg;

static int writer(const char *path, const char *vfs, void *p)
{
  const writer_arg *arg = p;
  uint64_t seed = (uint64_t)getpid();
  sqlite3 *db = db_open(path, vfs);
  for (unsigned done = 0; done < arg->transactions;) {
    int rc = transfer(db, &seed);
    if (rc == SQLITE_OK) {
      done++;
    } else if (!busy(rc) && rc != SQLITE_ABORT) {
      fprintf(stderr, "writer %s: %d %s; %s\n", vfs, rc, sqlite3_errmsg(db),
              last_log());
      return 1;
    }
    if (arg->checkpoints && random_below(&seed, 40) == 0) {
      static const char *const kind[] = {"PASSIVE", "FULL", "RESTART",
                                         "TRUNCATE"};
      try_run(db, "PRAGMA wal_checkpoint(%s)", kind[random_below(&seed, 4)]);
    }
    if (arg->vacuum && random_below(&seed, 150) == 0) {
      rc = try_run(db, "VACUUM");
      if (rc != SQLITE_OK && !busy(rc)) {
        fprintf(stderr, "vacuum %s: %d %s\n", vfs, rc, last_log());
        return 1;
      }
    }
    /* Now and then a new connection. */
    if (random_below(&seed, 60) == 0) {
      db_close(db);
      db = db_open(path, vfs);
    }
  }
  db_close(db);
  return 0;
}

/* Every reader sees a consistent state that is not older than the last one. */
static int reader(const char *path, const char *vfs, void *arg)
{
  sqlite3 *db = db_open(path, vfs);
  int64_t newest = 0, looks = 0;
  (void)arg;
  uint64_t seed = (uint64_t)getpid();
  while (!board->stop) {
    if (try_run(db, "BEGIN") != SQLITE_OK)
      return 1;
    int64_t sum = get_int(db, "SELECT sum(sum) FROM account");
    int64_t n = get_int(db, "SELECT n FROM counter");
    int64_t logged = get_int(db, "SELECT count(*) FROM log");
    run(db, "COMMIT");
    if (sum != TOTAL || n < newest || logged != n) {
      fprintf(stderr, "reader %s: sum %d, counter %d after %d, log %d\n", vfs,
              (int)sum, (int)n, (int)newest, (int)logged);
      return 1;
    }
    newest = n;
    if (looks++ % 50 == 49 && random_below(&seed, 3) == 0) {
      db_close(db);
      db = db_open(path, vfs);
    }
  }
  if (strcmp(get_text(db, "PRAGMA integrity_check"), "ok") != 0)
    return 1;
  db_close(db);
  return looks > 0 ? 0 : 1;
}

/* Has the log of a stamped file open all the time: a stock reader that were the last
** one to close would bring it into the file, without stamps (docs/operations.md). */
static int keeper(const char *path, const char *vfs, void *parent)
{
  sqlite3 *db = db_open(path, vfs);
  get_int(db, "SELECT n FROM counter");
  board->kept = 1;
  while (!board->over && getppid() == *(const pid_t *)parent)
    nap(1000);
  db_close(db);
  return 0;
}

static pid_t keep(const char *path)
{
  pid_t parent = getpid();
  board->kept = board->over = 0;
  pid_t pid = start(keeper, path, "pagedb", &parent);
  while (!board->kept && waitpid(pid, NULL, WNOHANG) == 0)
    nap(1000);
  assert_true(board->kept);
  return pid;
}

static void mixed(const char *journal, int stamped, const char *const *writers,
                  const char *const *readers)
{
  const char *path = db_path("mixed.db");
  pid_t w[4], r[4];
  int nw = 0, nr = 0;
  unsigned n = setting("PAGEDB_TRANSACTIONS", 1000);
  int wal = strcmp(journal, "WAL") == 0;
  must_exit_well(start(fill, path, stamped ? "pagedb" : "unix",
                       (void *)(uintptr_t)journal),
                 "fill");
  board->stop = 0;
  pid_t kept = stamped && wal ? keep(path) : 0;
  while (readers[nr] != NULL) {
    r[nr] = start(reader, path, readers[nr], NULL);
    nr++;
  }
  int all = 0;
  while (writers[all] != NULL)
    all++;
  for (; nw < all; nw++) {
    /* Stock cannot vacuum a file without making it something else. */
    writer_arg arg = {n / (unsigned)all, wal, nw == 0};
    w[nw] = start(writer, path, writers[nw], &arg);
  }
  for (int i = 0; i < nw; i++)
    must_exit_well(w[i], "writer");
  board->stop = 1;
  for (int i = 0; i < nr; i++)
    must_exit_well(r[i], "reader");
  board->over = 1;
  if (kept != 0)
    must_exit_well(kept, "keeper");
}

static const char *const ours2[] = {"pagedb", "pagedb", NULL};
static const char *const mix2[] = {"pagedb&pagedb_stamp=off", "unix", NULL};
static const char *const both[] = {"pagedb", "unix", NULL};

static void test_stamped_rollback(void **state)
{
  (void)state;
  mixed("DELETE", 1, ours2, both);
  mixed("TRUNCATE", 1, ours2, both);
  mixed("PERSIST", 1, ours2, both);
}

static void test_stamped_wal(void **state)
{
  (void)state;
  mixed("WAL", 1, ours2, both);
}

static void test_plain_rollback(void **state)
{
  (void)state;
  mixed("DELETE", 0, mix2, mix2);
}

static void test_plain_wal(void **state)
{
  (void)state;
  mixed("WAL", 0, mix2, mix2);
}

/* --------------------------------------------------------------- killed */

typedef struct kill_arg {
  const char *journal;
  const char *synchronous;
  int pipe;
} kill_arg;

/* Commits until it is killed, and tells of every commit through the pipe. */
static int victim(const char *path, const char *vfs, void *p)
{
  const kill_arg *arg = p;
  uint64_t seed = (uint64_t)getpid();
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA synchronous=%s; PRAGMA cache_size=%d", arg->synchronous,
      random_below(&seed, 2) ? 5 : 200);
  run(db, "PRAGMA journal_mode=%s", arg->journal);
  if (random_below(&seed, 4) == 0)
    run(db, "PRAGMA locking_mode=EXCLUSIVE");
  for (;;) {
    int rc = transfer(db, &seed);
    if (rc == SQLITE_OK) {
      int64_t n = get_int(db, "SELECT n FROM counter");
      if (write(arg->pipe, &n, sizeof n) != sizeof n)
        return 0;
    } else if (!busy(rc) && rc != SQLITE_ABORT) {
      fprintf(stderr, "victim: %d %s\n", rc, last_log());
      return 1;
    }
    if (random_below(&seed, 8) == 0)
      try_run(db,
              "UPDATE account SET pad = hex(randomblob(150)) WHERE id %% 3 "
              "= %d",
              (int)random_below(&seed, 3));
    if (random_below(&seed, 16) == 0)
      try_run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    if (random_below(&seed, 50) == 0)
      try_run(db, "PRAGMA page_size=%d; VACUUM",
              512 << (int)random_below(&seed, 4));
  }
}

/* What the next process finds. */
static int heir(const char *path, const char *vfs, void *p)
{
  const int64_t *least = p;
  sqlite3 *db = db_open(path, vfs);
  int64_t n = get_int(db, "SELECT n FROM counter");
  int64_t sum = get_int(db, "SELECT sum(sum) FROM account");
  int64_t logged = get_int(db, "SELECT count(*) FROM log");
  if (n < *least || sum != TOTAL || logged != n) {
    fprintf(stderr, "heir: counter %d, acknowledged %d, sum %d, log %d\n",
            (int)n, (int)*least, (int)sum, (int)logged);
    return 1;
  }
  if (strcmp(get_text(db, "PRAGMA integrity_check"), "ok") != 0)
    return 1;
  /* A page that a checkpoint did not get to any more is still in the WAL. */
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  const char *bad =
      get_text(db, "SELECT group_concat(page || ' ' || status || ' ' || type) "
                   "FROM pagedb_pages WHERE status NOT IN ('ok', 'lock')");
  if (bad[0] != 0) {
    fprintf(stderr, "heir: bad pages: %s\n", bad);
    return 1;
  }
  db_close(db);
  return 0;
}

static void kill_round(const char *path, const char *journal,
                       const char *synchronous, uint64_t *seed)
{
  int fds[2];
  int64_t n, least = 0;
  assert_int_equal(pipe(fds), 0);
  kill_arg arg = {journal, synchronous, fds[1]};
  pid_t pid = start(victim, path, "pagedb", &arg);
  close(fds[1]);
  nap((long)random_below(seed, 30000) + 2000);
  kill(pid, SIGKILL);
  /* Another process takes over at once. */
  while (read(fds[0], &n, sizeof n) == sizeof n)
    least = n;
  close(fds[0]);
  int status;
  waitpid(pid, &status, 0);
  if (!WIFSIGNALED(status))
    fail_msg("the victim ended by itself: 0x%x", status);
  must_exit_well(start(heir, path, "pagedb", &least), journal);
}

static void test_kill(void **state)
{
  (void)state;
  static const char *const journal[] = {"DELETE", "TRUNCATE", "PERSIST", "WAL"};
  static const char *const synchronous[] = {"OFF", "NORMAL", "FULL"};
  uint64_t seed = test_seed("kill", (uint64_t)time(NULL));
  unsigned rounds = setting("PAGEDB_KILLS", 200);
  const char *path = db_path("kill.db");
  must_exit_well(start(fill, path, "pagedb", (void *)(uintptr_t) "DELETE"),
                 "fill");
  for (unsigned i = 0; i < rounds; i++)
    kill_round(path, journal[random_below(&seed, 4)],
               synchronous[random_below(&seed, 3)], &seed);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_stamped_rollback),
      cmocka_unit_test(test_stamped_wal),
      cmocka_unit_test(test_plain_rollback),
      cmocka_unit_test(test_plain_wal),
      cmocka_unit_test(test_kill),
  };
  board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(board != MAP_FAILED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
