/*
** test_vfs_kill.c - a process is killed before the nth call that changes a file
** or a lock, for every n of a small workload, while others read and wait.
**
** THE PLAYERS. The victim runs the workload, stops at the nth event (killpoint.h),
** and is killed there. A bystander, page-db or stock, has read the database
** before, keeps its connection and, in WAL mode, its snapshot, so that
** checkpoints are partial. The heir waits for the lock while the victim dies,
** has it at once, recovers, and goes on. All are forked from a process that never
** calls SQLite.
**
** THE ORACLE. A run on stock SQLite gives the content after each commit. Whoever
** reads finds what was acknowledged last, or the commit that was under way,
** whole; the heir finds integrity_check ok, and a record on every page; what a
** recovered file has does not change behind its back a second later.
**
** PAGEDB_KILL_ROUNDS (60): how many events are drawn at random; "all": every event
** of every mode, from the mode PAGEDB_KILL_FROM (0) on. PAGEDB_SEED repeats a run.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../vfs/vfs_int.h"
#include "killpoint.h"
#include "sqlutil.h"

enum { MOST_STEPS = 32, GATE = 2 /* commits before the victim is armed */ };

/* What all processes see. */
typedef struct board {
  killpoint point;
  _Atomic int committed; /* steps that the victim was told are done */
  _Atomic int gate;      /* 1: the victim waits, 2: it may go on */
  _Atomic int finished;
  uint64_t hash[MOST_STEPS]; /* content after n steps */
  uint64_t seen;             /* an actor's answer */
} board;

static board *shown;

static unsigned rules_off; /* for the control runs: of all children */

static void nap(long us)
{
  nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

static uint64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------ workload */

typedef struct config {
  const char *journal, *synchronous;
  int exclusive;
  unsigned page_size;
  int alone;  /* nobody else has it open: more can be done */
  int spills; /* late writes: SQLite's cache does not hold what changes */
} config;

/* Text and numbers only: the same content in every run. */
#define FILL(first, last, step)                                                \
  "WITH RECURSIVE n(x) AS (SELECT " #first                                     \
  " UNION ALL SELECT x+1 FROM n WHERE x<" #last                                \
  ") INSERT INTO t SELECT x, " #step ", printf('%0250d', x * 100 + " #step     \
  ") FROM n"
#define CHANGE(step)                                                           \
  "UPDATE t SET v=" #step ", pad=printf('%0250d', a * 100 + " #step ")"

static const char base_sql[] = "CREATE TABLE t(a INTEGER PRIMARY KEY, v, pad); "
                               "CREATE INDEX i ON t(v);" FILL(1, 30, 0);

typedef struct step {
  const char *sql;
  int counts; /* a commit, whose end is told */
  int alone;
} step;

/* The first GATE that count are done before the victim is armed. */
static const step steps[] = {
    {CHANGE(1), 1, 0},
    {FILL(41, 60, 2), 1, 0},
    {"PRAGMA wal_checkpoint(PASSIVE)", 0, 0},
    {CHANGE(3), 1, 0},
    {"DELETE FROM t WHERE a % 2", 1, 0},
    {"PRAGMA wal_checkpoint(PASSIVE)", 0, 0},
    {FILL(100, 120, 5), 1, 0},
    {"BEGIN; " CHANGE(6) "; ROLLBACK", 0, 0},
    {"BEGIN; " CHANGE(7) "; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT",
     1, 0},
    {"VACUUM", 1, 0},
    {"DELETE FROM t WHERE a > 20", 1, 0},
    {"PRAGMA wal_checkpoint(TRUNCATE)", 0, 0},
    {"PRAGMA locking_mode=NORMAL; SELECT count(*) FROM t", 0, 1},
    {"PRAGMA pagedb_unstamp", 0, 1},
    {CHANGE(8), 1, 1},
    {"PRAGMA pagedb_stamp", 0, 1},
    {"PRAGMA journal_mode=WAL", 0, 1},
    {CHANGE(9), 1, 1},
    {"PRAGMA journal_mode=DELETE", 0, 1},
    {FILL(200, 220, 10), 1, 1},
};
enum { STEPS = sizeof steps / sizeof steps[0] };

static void set_up(sqlite3 *db, const config *c)
{
  run(db, "PRAGMA cache_size=8; PRAGMA synchronous=%s", c->synchronous);
  if (c->exclusive)
    run(db, "PRAGMA locking_mode=EXCLUSIVE");
  run(db, "PRAGMA journal_mode=%s; PRAGMA wal_autocheckpoint=0", c->journal);
}

/* Busy, locked: somebody who only reads is in the way of a checkpoint. */
static int is_busy(int rc)
{
  return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

/* The steps that belong to c; after each commit `done` is told. */
static int workload(sqlite3 *db, const config *c, void (*done)(sqlite3 *, int))
{
  int committed = 0;
  for (int i = 0; i < STEPS; i++) {
    if (steps[i].alone && !c->alone)
      continue;
    int rc = try_run(db, "%s", steps[i].sql);
    if (rc != SQLITE_OK && !(steps[i].counts == 0 && is_busy(rc))) {
      fprintf(stderr, "%s: %d %s; %s\n", steps[i].sql, rc, sqlite3_errmsg(db),
              last_log());
      return 1;
    }
    if (steps[i].counts)
      done(db, ++committed);
  }
  return 0;
}

/* ------------------------------------------------------------------ processes */

typedef int (*body)(const char *path, const char *vfs, const config *c);

/* What fails in a child ends it, and does not go on with the next test; nor does
** it outlive the tests. */
static void begin_child(void)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setenv("CMOCKA_TEST_ABORT", "1", 1);
  sql_start();
  pagedb_globals.rules_off = rules_off;
  /* What is not joined is being written all the time. */
  pagedb_globals.behind_bytes = 1;
}

static pid_t start(body b, const char *path, const char *vfs, const config *c)
{
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    begin_child();
    int code = b(path, vfs, c);
    killpoint_arm(NULL); /* what coverage writes at the end is no event */
    _exit(code);
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

static int make_base(const char *path, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA page_size=%d", (int)c->page_size);
  run(db, "PRAGMA journal_mode=%s", c->journal);
  run(db, "%s", base_sql);
  db_close(db);
  return 0;
}

static void note_hash(sqlite3 *db, int committed)
{
  shown->hash[committed] = content_hash(db);
}

static int make_reference(const char *path, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(path, vfs);
  run(db, "%s", base_sql);
  note_hash(db, 0);
  int rc = workload(db, c, note_hash);
  db_close(db);
  return rc;
}

static void tell(sqlite3 *db, int committed)
{
  (void)db;
  atomic_store(&shown->committed, committed);
  if (committed != GATE)
    return;
  atomic_store(&shown->gate, 1);
  while (atomic_load(&shown->gate) != 2)
    sched_yield();
  killpoint_arm(&shown->point);
}

static int victim(const char *path, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(path, vfs);
  sqlite3_busy_timeout(db,
                       50); /* a snapshot is in a checkpoint's way for good */
  set_up(db, c);
  int rc = workload(db, c, tell);
  if (rc == 0)
    db_close(db);
  atomic_store(&shown->finished, rc == 0 ? 1 : 2);
  return rc;
}

/* -------------------------------------------------------------------- actors */

/* A process that does what it is told, a line at a time. */
typedef struct actor {
  pid_t pid;
  FILE *to, *from;
  int waits; /* an answer is due */
} actor;

/* The lock is taken the moment that it is free. */
static int at_once(void *began, int times)
{
  (void)times;
  sched_yield();
  return now_ms() - *(uint64_t *)began < 20000;
}

static void act(sqlite3 *db, FILE *from, FILE *to)
{
  char line[512];
  uint64_t began, hash;
  /* Other children have this pipe's end, too: its closing tells nothing. */
  while (fgets(line, sizeof line, from) != NULL && line[0] != '.') {
    line[strcspn(line, "\n")] = 0;
    began = now_ms();
    if (line[0] == '+')
      sqlite3_busy_handler(db, at_once, &began);
    else
      sqlite3_busy_timeout(db, 0);
    int rc = strcmp(line + 1, "hash") == 0 ? try_content_hash(db, "main", &hash)
                                           : try_run(db, "%s", line + 1);
    shown->seen = hash;
    fprintf(to, "%d %llu %s; %s\n", rc, (unsigned long long)hash,
            rc == SQLITE_OK ? "" : sqlite3_errmsg(db), last_log());
    fflush(to);
  }
}

static actor actor_start(const char *path, const char *vfs)
{
  int in[2], out[2];
  actor a = {0};
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  fflush(NULL);
  a.pid = fork();
  assert_true(a.pid >= 0);
  if (a.pid == 0) {
    close(in[1]);
    close(out[0]);
    begin_child();
    sqlite3 *db = db_open(path, vfs);
    /* Little memory, so that most is read from the file; refused where the victim
    ** keeps everybody out. */
    sqlite3_busy_timeout(db, 0);
    try_run(db, "PRAGMA cache_size=2");
    if (strcmp(vfs, "pagedb") == 0)
      run(db, "PRAGMA pagedb_pool_size=65536");
    act(db, fdopen(in[0], "r"), fdopen(out[1], "w"));
    _exit(sqlite3_close(db) != SQLITE_OK);
  }
  close(in[0]);
  close(out[1]);
  a.to = fdopen(in[1], "w");
  a.from = fdopen(out[0], "r");
  return a;
}

/* "+SQL" waits for locks, "-SQL" does not; "hash" is the content. */
static void order(actor *a, const char *line)
{
  fprintf(a->to, "%s\n", line);
  fflush(a->to);
}

static int answer(actor *a, uint64_t *hash, char *text, size_t n)
{
  char line[2048];
  int rc = -1, at = 0;
  unsigned long long h = 0;
  if (fgets(line, sizeof line, a->from) == NULL ||
      sscanf(line, "%d %llu %n", &rc, &h, &at) != 2)
    fail_msg("a process that reads is gone");
  if (hash != NULL)
    *hash = h;
  snprintf(text, n, "%s", line + at);
  return rc;
}

static int ask(actor *a, const char *line, uint64_t *hash)
{
  char text[2048];
  order(a, line);
  return answer(a, hash, text, sizeof text);
}

static void must(actor *a, const char *line, uint64_t *hash)
{
  char text[2048];
  order(a, line);
  int rc = answer(a, hash, text, sizeof text);
  if (rc != SQLITE_OK)
    fail_msg("%s: %d %s", line, rc, text);
}

static void actor_end(actor *a, const char *who)
{
  order(a, ".");
  fclose(a->to);
  must_exit_well(a->pid, who);
  fclose(a->from);
}

/* ---------------------------------------------------------------- the oracle */

/* integrity_check, every page, and another commit. Plain is what only the victim
** made so. */
static int all_is_whole(const char *path, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(path, vfs);
  if (strcmp(get_text(db, "PRAGMA integrity_check"), "ok") != 0)
    return 1;
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  const char *bad =
      get_text(db,
               "SELECT group_concat(page || ' ' || status || ' ' || type) FROM "
               "pagedb_pages WHERE status NOT IN ('ok', 'lock'%s)",
               c->alone ? ", 'plain'" : "");
  if (bad[0] != 0) {
    fprintf(stderr, "bad pages: %s\n", bad);
    return 1;
  }
  run(db, "INSERT INTO t VALUES(100000, 0, 'heir')");
  db_close(db);
  return 0;
}

static int adopt(const char *path, const char *vfs, const config *c)
{
  (void)c;
  sqlite3 *db = db_open(path, vfs);
  run(db, "PRAGMA pagedb_stamp=adopt");
  db_close(db);
  return 0;
}

/* A sum over the bytes on disk: what the system's cache has is put aside. */
static uint64_t raw_sum(const char *path)
{
  size_t n;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  assert_true(fd >= 0);
  fsync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
  unsigned char *p = read_whole(path, &n);
  assert_non_null(p);
  uint64_t sum = fnv1a(p, n);
  free(p);
  return sum;
}

typedef struct round {
  const config *c;
  uint64_t at;
  const char *bystander, *heir; /* VFS */
} round_of;

static void check_seen(const round_of *r, uint64_t hash, int committed,
                       const char *who)
{
  if (hash != shown->hash[committed] && hash != shown->hash[committed + 1])
    fail_msg("%s, journal %s, synchronous %s, exclusive %d, page size %u, "
             "alone %d, event %llu: not what was committed (%d)",
             who, r->c->journal, r->c->synchronous, r->c->exclusive,
             r->c->page_size, r->c->alone, (unsigned long long)r->at,
             committed);
}

/* --------------------------------------------------------------------- rounds */

static const char *base_path, *path;

static void fresh_copy(void)
{
  db_remove(path);
  file_copy(base_path, path);
  killpoint *k = &shown->point;
  atomic_store(&k->events, 0);
  atomic_store(&k->reached, 0);
  atomic_store(&shown->committed, 0);
  atomic_store(&shown->gate, 0);
  atomic_store(&shown->finished, 0);
}

static void prepare(const config *c)
{
  base_path = db_path("kill-base.db");
  path = db_path("kill.db");
  const char *reference = db_path("kill-reference.db");
  must_exit_well(start(make_base, base_path, "pagedb", c), "base");
  must_exit_well(start(make_reference, reference, "unix", c), "reference");
  db_remove(reference);
}

static void wait_for_victim(pid_t pid, _Atomic int *flag, int value)
{
  for (uint64_t began = now_ms();
       atomic_load(flag) != value && atomic_load(&shown->finished) == 0;) {
    if (now_ms() - began > 60000) {
      kill(pid, SIGKILL);
      fail_msg("the victim hangs: event %llu",
               (unsigned long long)shown->point.events);
    }
    nap(200);
  }
}

/* The bystander looks while the victim stands still: it is refused, or sees what
** is committed; its snapshot stays what it was. */
static void look(const round_of *r, actor *by, int snapshot)
{
  uint64_t hash;
  int rc = ask(by, "-hash", &hash);
  if (snapshot && (rc != SQLITE_OK || hash != shown->hash[GATE]))
    fail_msg("event %llu: a snapshot did not last: %d",
             (unsigned long long)r->at, rc);
  if (rc == SQLITE_OK && !snapshot)
    check_seen(r, hash, atomic_load(&shown->committed), "bystander");
  else if (rc != SQLITE_OK && !is_busy(rc))
    fail_msg("bystander: %d", rc);
}

static int has_stock(const round_of *r)
{
  return strcmp(r->heir, "unix") == 0 ||
         (!r->c->alone && strcmp(r->bystander, "unix") == 0);
}

/* What the two see now is the same, and stays so when one of them writes. What
** stock SQLite recovered has no stamps: page-db may refuse to read it until it is
** adopted. */
static void go_on(const round_of *r, actor *heir, actor *by, uint64_t hash)
{
  uint64_t again;
  int stock = has_stock(r);
  ask(by, "-ROLLBACK", &again);
  int rc = ask(by, "+hash", &again);
  if (stock && rc == SQLITE_IOERR_DATA)
    return;
  if (rc != SQLITE_OK || again != hash)
    fail_msg("%s, event %llu: the bystander does not see what the heir does: "
             "%d",
             r->c->journal, (unsigned long long)r->at, rc);
  if (stock)
    return;
  must(heir, "+UPDATE t SET v=-1 WHERE a=2", NULL);
  must(heir, "+hash", &hash);
  must(by, "+hash", &again);
  assert_true(again == hash);
}

/* The victim is being killed; the heir has been waiting. */
static void take_over(const round_of *r, pid_t pid, actor *heir, actor *by,
                      int snapshot)
{
  uint64_t hash;
  char text[2048];
  int status, rc = answer(heir, &hash, text, sizeof text);
  if (rc != SQLITE_OK)
    fail_msg("heir %s, journal %s, event %llu: %d %s", r->heir, r->c->journal,
             (unsigned long long)r->at, rc, text);
  check_seen(r, hash, atomic_load(&shown->committed), "heir");
  /* Before that its locks may still be there, and a journal not yet hot. */
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (!WIFSIGNALED(status))
    fail_msg("the victim ended by itself: 0x%x", status);
  if (by != NULL) {
    if (snapshot)
      look(r, by, 1);
    go_on(r, heir, by, hash);
    actor_end(by, "bystander");
  }
  actor_end(heir, "heir");
  if (has_stock(r))
    must_exit_well(start(adopt, path, "pagedb", r->c), "adopt");
  must_exit_well(start(all_is_whole, path, "pagedb", r->c), "whole");
}

/* 0: the workload has fewer events than that. */
static int kill_at(const round_of *r)
{
  actor by = {0};
  int snapshot = 0;
  fresh_copy();
  shown->point.at = r->at;
  shown->point.how = KILLPOINT_STOP;
  pid_t pid = start(victim, path, "pagedb", r->c);
  wait_for_victim(pid, &shown->gate, 1);
  if (!r->c->alone) {
    by = actor_start(path, r->bystander);
    if (strcmp(r->c->journal, "WAL") == 0)
      ask(&by, "-BEGIN", NULL);
    uint64_t hash;
    int rc = ask(&by, "-hash", &hash);
    snapshot = rc == SQLITE_OK && strcmp(r->c->journal, "WAL") == 0;
  }
  atomic_store(&shown->gate, 2);
  wait_for_victim(pid, &shown->point.reached, 1);
  if (!atomic_load(&shown->point.reached)) {
    if (!r->c->alone)
      actor_end(&by, "bystander");
    must_exit_well(pid, "victim");
    return 0;
  }
  if (!r->c->alone)
    look(r, &by, snapshot);
  actor heir = actor_start(path, r->heir);
  order(&heir, "+hash");
  nap(500);
  kill(pid, SIGKILL);
  take_over(r, pid, &heir, r->c->alone ? NULL : &by, snapshot);
  return 1;
}

/* How many events a workload that nobody disturbs has. */
static uint64_t count_events(const config *c)
{
  round_of r = {.c = c, .bystander = "pagedb", .heir = "pagedb"};
  assert_false(kill_at(&r));
  return atomic_load(&shown->point.events);
}

/* ---------------------------------------------------------------------- tests */

static config draw_config(uint64_t *seed)
{
  static const char *const journal[] = {"DELETE", "TRUNCATE", "PERSIST", "WAL",
                                        "WAL"};
  static const char *const synchronous[] = {"OFF", "NORMAL", "FULL"};
  static const unsigned size[] = {512, 1024, 4096, 65536};
  config c = {.journal = journal[random_below(seed, 5)],
              .synchronous = synchronous[random_below(seed, 3)],
              .exclusive = random_below(seed, 4) == 0,
              .page_size = size[random_below(seed, 4)],
              .alone = random_below(seed, 4) == 0};
  return c;
}

static round_of draw_round(const config *c, uint64_t at, uint64_t *seed)
{
  round_of r = {.c = c, .at = at};
  r.bystander = random_below(seed, 4) == 0 ? "unix" : "pagedb";
  r.heir = random_below(seed, 5) == 0 ? "unix" : "pagedb";
  return r;
}

/* Some events of each of some configurations. */
static void test_some(void **state)
{
  (void)state;
  const char *wanted = getenv("PAGEDB_KILL_ROUNDS");
  if (wanted != NULL && strcmp(wanted, "all") == 0)
    skip();
  unsigned rounds =
      wanted != NULL ? (unsigned)strtoul(wanted, NULL, 10) : scaled(60);
  uint64_t seed = test_seed("kill", (uint64_t)time(NULL));
  for (unsigned i = 0; i < rounds; i += 10) {
    config c = draw_config(&seed);
    prepare(&c);
    uint64_t events = count_events(&c);
    assert_true(events > 30);
    for (unsigned k = 0; k < 10 && i + k < rounds; k++) {
      round_of r = draw_round(&c, random_below(&seed, events) + 1, &seed);
      kill_at(&r);
    }
  }
}

/* Every event of every configuration. */
static void test_all(void **state)
{
  (void)state;
  const char *wanted = getenv("PAGEDB_KILL_ROUNDS");
  if (wanted == NULL || strcmp(wanted, "all") != 0)
    skip();
  static const char *const journal[] = {"DELETE", "TRUNCATE", "PERSIST", "WAL"};
  static const char *const synchronous[] = {"OFF", "FULL"};
  uint64_t seed = test_seed("kill all", (uint64_t)time(NULL));
  const char *from = getenv("PAGEDB_KILL_FROM");
  unsigned rounds = 0;
  for (int i = from != NULL ? atoi(from) : 0; i < 32; i++) {
    config c = {.journal = journal[i % 4],
                .synchronous = synchronous[i / 4 % 2],
                .exclusive = i / 8 % 2,
                .page_size = 1024,
                .alone = i / 16};
    prepare(&c);
    unsigned before = rounds;
    for (uint64_t at = 1;; at++) {
      round_of r = draw_round(&c, at, &seed);
      if (!kill_at(&r))
        break;
      rounds++;
    }
    print_message("%s, synchronous=%s, exclusive %d, alone %d: %u events\n",
                  c.journal, c.synchronous, c.exclusive, c.alone,
                  rounds - before);
  }
  print_message("killed %u times\n", rounds);
}

/* The control: where nobody compares what the pool holds with the file, the
** bystander does not see what the others did, and that is noticed. */
static void test_stale_is_seen(void **state)
{
  (void)state;
  config c = {.journal = "DELETE", .synchronous = "FULL", .page_size = 1024};
  round_of r = {.c = &c, .at = 40, .bystander = "pagedb", .heir = "pagedb"};
  int status;
  prepare(&c);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    assert_non_null(freopen("/dev/null", "w", stdout));
    assert_non_null(freopen("/dev/null", "w", stderr));
    rules_off = RULE_COMPARE;
    kill_at(&r);
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
}

/* ---------------------------------------------------------------- late writes */

enum { BIG_ROWS = 3000 };

static int make_big(const char *name, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(name, vfs);
  run(db,
      "PRAGMA journal_mode=%s; CREATE TABLE t(a INTEGER PRIMARY KEY, v, "
      "pad); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n "
      "WHERE x<%d) INSERT INTO t SELECT x, 0, printf('%%01000d', x*7919) "
      "FROM n",
      c->journal, BIG_ROWS);
  db_close(db);
  return 0;
}

/* Everything changes, and goes to disk behind the transaction, at the join, or in
** the checkpoint. */
static int big_victim(const char *name, const char *vfs, const config *c)
{
  sqlite3 *db = db_open(name, vfs);
  run(db,
      "PRAGMA cache_size=%d; PRAGMA synchronous=%s; PRAGMA "
      "wal_autocheckpoint=0",
      c->spills ? 20 : -100000, c->synchronous);
  if (c->spills)
    killpoint_arm(&shown->point);
  run(db, "BEGIN; UPDATE t SET v=1, pad=printf('%%01000d', a*104729)");
  if (strcmp(c->journal, "WAL") == 0)
    run(db, "COMMIT");
  killpoint_arm(&shown->point);
  run(db, strcmp(c->journal, "WAL") == 0 ? "PRAGMA wal_checkpoint(PASSIVE)"
                                         : "COMMIT");
  atomic_store(&shown->finished, 1);
  db_close(db);
  return 0;
}

/* Kill it while a write is under way; the heir has the lock at once. 1: something
** changed behind the heir's back. `late`: somebody who writes late is played. */
static int late_writes(const config *c, uint64_t at, long wait_us, int late)
{
  uint64_t hash, again;
  char text[2048];
  int wal = strcmp(c->journal, "WAL") == 0, status;
  fresh_copy();
  shown->point.at = at;
  shown->point.how = KILLPOINT_WRITES;
  pid_t pid = start(big_victim, path, "pagedb", c);
  actor heir = {0};
  if (!wal)
    heir = actor_start(path, "pagedb");
  while (!atomic_load(&shown->point.reached) && !atomic_load(&shown->finished))
    sched_yield();
  if (!wal)
    order(&heir, "+hash");
  kill(pid, SIGKILL);
  if (wal) {
    heir = actor_start(path, "pagedb");
    must(&heir, "+UPDATE t SET v=2, pad=printf('%01000d', a*1299709)", NULL);
    must(&heir, "+PRAGMA wal_checkpoint(TRUNCATE)", NULL);
    must(&heir, "+hash", &hash);
  } else {
    int rc = answer(&heir, &hash, text, sizeof text);
    if (rc != SQLITE_OK)
      fail_msg("heir: %d %s", rc, text);
  }
  uint64_t sum = raw_sum(path);
  if (late) {
    unsigned char byte = 0x55;
    file_write_at(path, 40960, &byte, 1);
  }
  nap(wait_us);
  int changed = raw_sum(path) != sum;
  waitpid(pid, &status, 0);
  if (!late) {
    /* Read anew: nothing that the heir has in memory counts. */
    must(&heir, "+PRAGMA pagedb_pool_size=131072", NULL);
    must(&heir, "+hash", &again);
    assert_true(again == hash);
    actor_end(&heir, "heir");
    must_exit_well(start(all_is_whole, path, "pagedb", c), "whole");
  } else {
    order(&heir, ".");
    fclose(heir.to);
    waitpid(heir.pid, &status, 0);
    fclose(heir.from);
  }
  return changed;
}

static void test_late_writes(void **state)
{
  (void)state;
  const char *wanted = getenv("PAGEDB_KILL_ROUNDS");
  int all = wanted != NULL && strcmp(wanted, "all") == 0;
  static const char *const journal[] = {"DELETE", "WAL"};
  uint64_t seed = test_seed("late writes", (uint64_t)time(NULL));
  for (int m = 0; m < 3; m++) {
    config c = {
        .journal = journal[m % 2], .synchronous = "FULL", .spills = m == 2};
    /* Most of the writes before the commit are the journal's. */
    unsigned most = c.spills ? 2 * BIG_ROWS : 8;
    base_path = db_path("late-base.db");
    path = db_path("late.db");
    must_exit_well(start(make_big, base_path, "pagedb", &c), "base");
    for (unsigned i = 0; i < (all ? 100 : scaled(5)); i++)
      if (late_writes(&c, random_below(&seed, most) + 1, all ? 1000000 : 300000,
                      0))
        fail_msg("journal %s: a write landed late", journal[m]);
  }
}

/* The control: it would be seen. */
static void test_late_write_is_seen(void **state)
{
  (void)state;
  config c = {.journal = "DELETE", .synchronous = "FULL"};
  base_path = db_path("late-base.db");
  path = db_path("late.db");
  must_exit_well(start(make_big, base_path, "pagedb", &c), "base");
  assert_true(late_writes(&c, 2, 1000, 1));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_some),
      cmocka_unit_test(test_all),
      cmocka_unit_test(test_stale_is_seen),
      cmocka_unit_test(test_late_writes),
      cmocka_unit_test(test_late_write_is_seen),
  };
  signal(SIGPIPE, SIG_IGN);
  shown = mmap(NULL, sizeof *shown, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(shown != MAP_FAILED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
