/*
** recorded.c - see recorded.h.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../vfs/vfs_int.h"
#include "../sqlutil.h"
#include "oracle.h"
#include "recorded.h"
#include "trace.h"

/* The command's main(), under another name. */
int command_main(int argc, char **argv);

/* ------------------------------------------------------------------- plays */

static const char *const what_names[PLAYS] = {
    "convert", "stamp", "adopt", "unstamp", "writers", "checkpoint", "killed"};
static const char *const start_names[PLAY_STARTS] = {"plain", "plain32",
                                                     "stamped", "around"};

static int is_command(const play *p)
{
  return p->what < PLAY_WRITERS;
}

static int find(const char *word, const char *const *names, int n)
{
  for (int i = 0; i < n; i++)
    if (strcmp(word, names[i]) == 0)
      return i;
  return -1;
}

static int parse_option(const char *word, play *p)
{
  if (strcmp(word, "live") == 0)
    p->live = 1;
  else if (strcmp(word, "stock") == 0)
    p->stock = 1;
  else if (strcmp(word, "strict") == 0)
    p->strict = 1;
  else if (strcmp(word, "boast") == 0)
    p->boast = 1;
  else if (find(word, sync_names, SYNCS) >= 0)
    p->sync = find(word, sync_names, SYNCS);
  else if (strncmp(word, "seed=", 5) == 0)
    p->seed = strtoull(word + 5, NULL, 10);
  else if (strncmp(word, "changes=", 8) == 0)
    p->changes = (unsigned)strtoul(word + 8, NULL, 10);
  else if (strncmp(word, "rules-off=", 10) == 0)
    p->rules_off = (unsigned)strtoul(word + 10, NULL, 10);
  else
    return 0;
  return 1;
}

int play_parse(const char *line, play *p)
{
  char copy[200], *rest = copy, *word[4];
  snprintf(copy, sizeof copy, "%s", line);
  *p = (play){.changes = 8, .seed = 1, .sync = SYNC_FULL};
  for (int i = 0; i < 4; i++)
    if ((word[i] = strsep(&rest, "/")) == NULL)
      return 0;
  int what = find(word[0], what_names, PLAYS);
  int mode = find(word[1], journal_names, JOURNALS);
  int start = find(word[3], start_names, PLAY_STARTS);
  p->page_size = (unsigned)strtoul(word[2], NULL, 10);
  if (what < 0 || (mode != JOURNAL_DELETE && mode != JOURNAL_WAL) ||
      start < 0 || !pagedb_page_size_ok(p->page_size, PAGEDB_TRAILING))
    return 0;
  p->what = (play_what)what;
  p->journal = (journal)mode;
  p->start = (play_start)start;
  for (char *option; (option = strsep(&rest, "/")) != NULL;)
    if (!parse_option(option, p))
      return 0;
  return p->changes >= 4 && p->changes < MOST_STATES;
}

const char *play_print(const play *p, char *buf, size_t n)
{
  snprintf(buf, n, "%s/%s/%u/%s%s%s%s/%s%s/changes=%u/rules-off=%u/seed=%llu",
           what_names[p->what], journal_names[p->journal], p->page_size,
           start_names[p->start], p->live ? "/live" : "",
           p->stock ? "/stock" : "", p->strict ? "/strict" : "",
           sync_names[p->sync], p->boast ? "/boast" : "", p->changes,
           p->rules_off, (unsigned long long)p->seed);
  return buf;
}

/* The synchronous whose promise has to be kept. */
static int claimed(const play *p)
{
  return p->sync + (p->boast && p->sync < SYNC_EXTRA);
}

/* What a command is given. */
static play_start random_start(play_what what, uint64_t *seed)
{
  switch (what) {
  case PLAY_CONVERT:
    return random_below(seed, 3) == 0 ? PLAY_PLAIN32 : PLAY_PLAIN;
  case PLAY_STAMP:
    return PLAY_PLAIN32;
  case PLAY_ADOPT:
    return PLAY_AROUND;
  case PLAY_UNSTAMP:
    return PLAY_STAMPED;
  default:
    return random_below(seed, 3) == 0 ? PLAY_PLAIN : PLAY_STAMPED;
  }
}

play play_random(uint64_t *seed)
{
  static const unsigned sizes[] = {512, 1024, 4096, 4096, 65536};
  play p = {.what = (play_what)random_below(seed, PLAYS),
            .journal = random_below(seed, 2) ? JOURNAL_WAL : JOURNAL_DELETE,
            .page_size = sizes[random_below(seed, 5)],
            .changes = 6 + (unsigned)random_below(seed, 12),
            .sync = SYNC_FULL,
            .seed = next_random(seed) % 1000000 + 1};
  p.start = random_start(p.what, seed);
  p.live = p.start != PLAY_AROUND && random_below(seed, 3) == 0;
  if (p.what == PLAY_CHECKPOINT)
    p.journal = JOURNAL_WAL;
  p.stock = !is_command(&p) && p.start == PLAY_PLAIN;
  if (!is_command(&p)) {
    p.sync = (int)random_below(seed, SYNCS);
    p.strict = random_below(seed, 2) == 0;
  }
  return p;
}

/* ----------------------------------------------------------------- content */

static char *rows_sql(unsigned first, unsigned n, unsigned bytes)
{
  return sqlite3_mprintf(
      "WITH RECURSIVE c(i) AS (SELECT %u UNION ALL SELECT i+1 FROM c WHERE "
      "i<%u) INSERT INTO t SELECT i, i*7%%1000, junk(i,%u) FROM c;",
      first, first + n - 1, bytes);
}

/* A table, its index, overflow pages, free pages. */
static char *base_sql(const play *p)
{
  char *rows = rows_sql(1, 12, p->page_size / 5);
  char *sql = sqlite3_mprintf(
      "CREATE TABLE log(seq INTEGER PRIMARY KEY);"
      "CREATE TABLE t(id INTEGER PRIMARY KEY, n, v);"
      "CREATE INDEX ti ON t(n);%s"
      "INSERT INTO t VALUES(13, 13, junk(13,%u)), (14, 14, junk(14,%u));"
      "DELETE FROM t WHERE id=13;",
      rows, 3 * p->page_size, 2 * p->page_size);
  sqlite3_free(rows);
  return sql;
}

/* Change number k, by whomever it is made. */
static char *change_sql(const play *p, unsigned k)
{
  char *rows = rows_sql(100 * k, 3 + k % 4, p->page_size / 5);
  char *sql =
      sqlite3_mprintf("INSERT INTO log VALUES(%u);%s"
                      "UPDATE t SET n=n+1, v=junk(id+%u,%u) WHERE id%%3=%u;"
                      "DELETE FROM t WHERE id%%5=%u AND id>50;"
                      "INSERT INTO t VALUES(%u, %u, junk(%u,%u));",
                      k, rows, k, p->page_size / 4, k % 3, k % 5, 100 * k + 50,
                      k, k, k % 3 * p->page_size);
  sqlite3_free(rows);
  return sql;
}

static int try_sql(sqlite3 *db, char *sql)
{
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  sqlite3_free(sql);
  return rc;
}

/* Changes that are in the log when the command comes. */
static unsigned changes_before(const play *p)
{
  return is_command(p) && p->live && p->journal == JOURNAL_WAL ? 2 : 0;
}

/* ----------------------------------------------------------------- players */

/* What a player was started with. */
typedef struct part {
  play p;
  const char *dir, *log;
  char database[600];
  unsigned who;
} part;

static int bad_sql(sqlite3 *db, const char *what)
{
  fprintf(stderr, "%s: %d %s; %s\n", what, sqlite3_extended_errcode(db),
          sqlite3_errmsg(db), last_log());
  return 1;
}

/* What a process leaves that is killed: commits that only the log has, or a change
** that has spilled. */
static int leave_live(sqlite3 *db, const play *p)
{
  int rc = SQLITE_OK;
  for (unsigned k = 1; k <= changes_before(p) && rc == SQLITE_OK; k++)
    rc = try_sql(db, change_sql(p, k));
  if (changes_before(p) == 0) {
    rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
      rc = try_sql(db, rows_sql(5000, 40, p->page_size / 5));
    if (rc == SQLITE_OK)
      rc = sqlite3_exec(db, "UPDATE t SET n=n+1", NULL, NULL, NULL);
  }
  if (rc != SQLITE_OK)
    return bad_sql(db, "what is left");
  _exit(0);
}

/* As if somebody else had written page 2. */
static void write_around(const part *a)
{
  static const unsigned char zeroes[PAGEDB_RECORD_SIZE];
  file_write_at(a->database, 2 * a->p.page_size - sizeof zeroes, zeroes,
                sizeof zeroes);
}

static int prepare(const part *a)
{
  const play *p = &a->p;
  int stamped = p->start >= PLAY_STAMPED;
  int bytes = p->start == PLAY_PLAIN32 ? PAGEDB_RECORD_SIZE : 0;
  char sql[200];
  trace_to_log("/dev/null", a->dir, 0);
  sqlite3 *db = world_open(a->database, stamped ? "pagedb" : "unix");
  snprintf(sql, sizeof sql,
           "PRAGMA page_size=%u; PRAGMA journal_mode=%s;"
           "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5",
           p->page_size, journal_names[p->journal]);
  if (db == NULL)
    return 1;
  if (!stamped)
    sqlite3_file_control(db, NULL, SQLITE_FCNTL_RESERVE_BYTES, &bytes);
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK ||
      try_sql(db, base_sql(p)) != SQLITE_OK ||
      sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL) !=
          SQLITE_OK)
    return bad_sql(db, "making the database");
  if (p->live)
    return leave_live(db, p);
  if (sqlite3_close(db) != SQLITE_OK)
    return 1;
  if (p->start == PLAY_AROUND)
    write_around(a);
  return 0;
}

/* The command as a user gives it, and its exit code. */
static int command(const part *a)
{
  int adopt = a->p.what == PLAY_ADOPT;
  char *argv[] = {"pagedb", adopt ? "stamp" : (char *)what_names[a->p.what],
                  (char *)a->database, adopt ? "--adopt" : NULL, NULL};
  return command_main(adopt ? 4 : 3, argv);
}

/* Nothing is cut then, and syncs, which are not carried out, cost nothing. */
static int command_again(const part *a)
{
  trace_to_log("/dev/null", a->dir, 0);
  return command(a);
}

static int recorded_command(const part *a)
{
  trace_to_log(a->log, a->dir, 0);
  trace_mark(MARK_BEGIN, 1);
  int rc = command(a);
  if (rc == 0)
    trace_mark(MARK_DONE, 1);
  return rc;
}

static void nap(uint64_t us)
{
  nanosleep(&(struct timespec){0, (long)us * 1000}, NULL);
}

/* Who makes change k: both know it. An heir makes all that the dead did not. */
static unsigned turn_of(const part *a, unsigned k)
{
  uint64_t seed = a->p.seed + k;
  if (a->p.what == PLAY_KILLED)
    return a->who;
  return a->p.what == PLAY_WRITERS ? next_random(&seed) & 1 : 0;
}

static int is_victim(const part *a)
{
  return a->p.what == PLAY_KILLED && a->who == 0;
}

/* The victim dies in one of the changes after the first, the heir has some left. */
static void plan_death(const part *a, unsigned k)
{
  uint64_t seed = a->p.seed;
  unsigned last = 2 + (unsigned)random_below(&seed, a->p.changes / 2);
  if (is_victim(a) && k == last)
    trace_last_call(1 + random_below(&seed, 60));
}

static int newest(sqlite3 *db, unsigned *k)
{
  sqlite3_stmt *st = NULL;
  *k = 0;
  if (sqlite3_prepare_v2(db, "SELECT max(seq) FROM log", -1, &st, NULL) ==
          SQLITE_OK &&
      sqlite3_step(st) == SQLITE_ROW)
    *k = (unsigned)sqlite3_column_int(st, 0);
  return sqlite3_finalize(st);
}

/* Change k, whose turn is this player's: nobody else begins one. */
static int write_one(sqlite3 *db, const part *a, unsigned k)
{
  int later = a->p.journal == JOURNAL_WAL && claimed(&a->p) == SYNC_NORMAL;
  plan_death(a, k);
  if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
    return bad_sql(db, "beginning");
  if (try_sql(db, change_sql(&a->p, k)) != SQLITE_OK)
    return bad_sql(db, "writing");
  trace_mark(MARK_BEGIN, k);
  if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
    return bad_sql(db, "commit");
  trace_mark(later ? MARK_DONE_LATER : MARK_DONE, k);
  return 0;
}

static sqlite3 *connect_player(const part *a)
{
  char sql[120];
  trace_to_log(a->log, a->dir, a->p.seed + 1000 + a->who);
  sqlite3 *db =
      world_open(a->database, a->p.stock && a->who == 1 ? "unix" : "pagedb");
  if (db == NULL)
    return NULL;
  sqlite3_busy_timeout(db, 20000);
  snprintf(
      sql, sizeof sql,
      "PRAGMA synchronous=%s; PRAGMA cache_size=10; PRAGMA secure_delete=0",
      sync_names[a->p.sync]);
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return db;
  bad_sql(db, "set-up");
  return NULL;
}

static int writer(const part *a)
{
  sqlite3 *db = connect_player(a);
  unsigned last = 0;
  int rc = db == NULL;
  /* Writers make checkpoints themselves, now and then, unless another does. */
  if (rc == 0)
    rc = sqlite3_exec(db,
                      a->p.what == PLAY_CHECKPOINT
                          ? "PRAGMA wal_autocheckpoint=0"
                          : "PRAGMA wal_autocheckpoint=12",
                      NULL, NULL, NULL);
  while (rc == 0 && last < a->p.changes) {
    if (newest(db, &last) != SQLITE_OK)
      return bad_sql(db, "reading");
    if (last < a->p.changes && turn_of(a, last + 1) == a->who)
      rc = write_one(db, a, last + 1);
    else
      nap(300);
  }
  if (rc == 0 && is_victim(a)) /* it had fewer calls than that */
    kill(getpid(), SIGKILL);
  return rc != 0 || sqlite3_close(db) != SQLITE_OK;
}

static int checkpointer(const part *a)
{
  static const char *const how[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
  uint64_t seed = a->p.seed;
  unsigned last = 0;
  char sql[60];
  sqlite3 *db = connect_player(a);
  if (db == NULL)
    return 1;
  while (last < a->p.changes) {
    snprintf(sql, sizeof sql, "PRAGMA wal_checkpoint(%s)",
             how[random_below(&seed, 4)]);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if ((rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY &&
         (rc & 0xff) != SQLITE_LOCKED) ||
        newest(db, &last) != SQLITE_OK)
      return bad_sql(db, sql);
    nap(random_below(&seed, 3000));
  }
  return sqlite3_close(db) != SQLITE_OK;
}

static const struct role {
  const char *name;
  int (*run)(const part *);
  int sqlite; /* not the command, which does it itself */
} roles[] = {{"prepare", prepare, 1},
             {"command", recorded_command, 0},
             {"again", command_again, 0},
             {"writer", writer, 1},
             {"checkpointer", checkpointer, 1}};

/* PROGRAM player ROLE PLAY DIRECTORY LOG WHO */
int play_player(int argc, char **argv)
{
  part a = {0};
  if (argc != 7 || strcmp(argv[1], "player") != 0)
    return -1;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setenv("CMOCKA_TEST_ABORT", "1", 1);
  a.dir = argv[4];
  a.log = argv[5];
  a.who = (unsigned)strtoul(argv[6], NULL, 10);
  snprintf(a.database, sizeof a.database, "%s/%s", a.dir, file_names[0]);
  for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
    if (strcmp(argv[2], roles[i].name) == 0 && play_parse(argv[3], &a.p)) {
      if (roles[i].sqlite)
        sql_start();
      pagedb_globals.rules_off = a.p.rules_off;
      return roles[i].run(&a);
    }
  return 99;
}

/* --------------------------------------------------------------- recording */

static char place[600], log_path[620];

static pid_t launch(const char *role, const play *p, unsigned who)
{
  char line[200], number[20];
  play_print(p, line, sizeof line);
  snprintf(number, sizeof number, "%u", who);
  char *argv[] = {"player", "player", (char *)role, line,
                  place,    log_path, number,       NULL};
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0)
    abort();
  if (pid > 0)
    return pid;
  int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, 1);
  execv("/proc/self/exe", argv);
  _exit(98);
}

/* An exit code; that of a signal is above 128. */
static int code_of(int status)
{
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int end_of(pid_t pid)
{
  int status;
  if (waitpid(pid, &status, 0) != pid)
    abort();
  return code_of(status);
}

static int run_player(world *w, const char *role, const play *p)
{
  int rc = end_of(launch(role, p, 0));
  return rc == 0 || went_wrong(w, "%s: exit code %d", role, rc);
}

/* If one fails the other would wait for it for ever. */
static int perform_together(world *w, const play *p)
{
  int status;
  pid_t one = launch("writer", p, 0);
  pid_t two = launch(p->what == PLAY_WRITERS ? "writer" : "checkpointer", p, 1);
  pid_t first = waitpid(-1, &status, 0);
  if (first != one && first != two)
    abort();
  pid_t other = first == one ? two : one;
  if (status != 0)
    kill(other, SIGKILL);
  int last = end_of(other);
  return (status == 0 && last == 0) ||
         went_wrong(w, "players: exit codes %d, %d", code_of(status), last);
}

/* What the dead left, written and not synced, is still there for the heir. */
static int perform_in_turn(world *w, const play *p)
{
  int code = end_of(launch("writer", p, 0));
  if (code != 128 + SIGKILL)
    return went_wrong(w, "the victim was not killed: exit code %d", code);
  code = end_of(launch("writer", p, 1));
  return code == 0 || went_wrong(w, "the heir: exit code %d", code);
}

static int perform(world *w, const play *p)
{
  return is_command(p)            ? run_player(w, "command", p)
         : p->what == PLAY_KILLED ? perform_in_turn(w, p)
                                  : perform_together(w, p);
}

static void tell_state(sqlite3 *mirror, int stamped)
{
  uint64_t hash;
  if (try_content_hash(mirror, "main", &hash) != SQLITE_OK)
    abort();
  trace_log_mark(log_path, stamped ? MARK_STAMPED : MARK_PLAIN, hash);
}

/* What is allowed goes into the log, from a database in memory. */
static int tell_states(world *w, const play *p)
{
  sqlite3 *mirror = world_open(":memory:", "simdisk");
  int stamped = p->start >= PLAY_STAMPED;
  unsigned before = changes_before(p);
  int rc = mirror == NULL ? SQLITE_NOMEM : try_sql(mirror, base_sql(p));
  for (unsigned k = 1; k <= before && rc == SQLITE_OK; k++)
    rc = try_sql(mirror, change_sql(p, k));
  trace_log_mark(log_path, MARK_SYNC, (uint64_t)claimed(p));
  if (p->strict)
    trace_log_mark(log_path, MARK_STRICT, 1);
  if (rc == SQLITE_OK)
    tell_state(mirror, stamped);
  for (unsigned k = 1; k <= p->changes && rc == SQLITE_OK && !is_command(p);
       k++) {
    rc = try_sql(mirror, change_sql(p, k));
    tell_state(mirror, stamped);
  }
  if (rc == SQLITE_OK && is_command(p))
    tell_state(mirror, p->what != PLAY_UNSTAMP);
  sqlite3_close(mirror);
  return rc == SQLITE_OK || went_wrong(w, "no mirror");
}

static int is_live(const simdisk *d, const play *p)
{
  size_t n = 0;
  int f = simdisk_find(d, p->journal == JOURNAL_WAL ? "main.db-wal"
                                                    : "main.db-journal");
  if (f >= 0)
    simdisk_bytes(d, (unsigned)f, &n);
  return n > 0;
}

static int begin(world *w, const play *p)
{
  char base[300];
  const char *from = getenv("PAGEDB_TEST_DIR");
  if (realpath(from != NULL ? from : "build", base) == NULL)
    abort();
  static unsigned count;
  snprintf(place, sizeof place, "%s/play.%d", base, (int)getpid());
  snprintf(log_path, sizeof log_path, "%s.%u.log", place, ++count);
  trace_remove(place);
  if (mkdir(place, 0755) != 0)
    return went_wrong(w, "cannot make %s", place);
  w->log = log_path;
  if (!run_player(w, "prepare", p))
    return 0;
  simdisk *d = trace_read(place);
  int live = is_live(d, p);
  trace_log_new(log_path, d);
  simdisk_free(d);
  if (live != p->live)
    return went_wrong(w, "the journal or log is %s",
                      live ? "there" : "missing");
  return tell_states(w, p);
}

/* What a mark says of the play. */
static void know(world *w, unsigned *states, unsigned kind, uint64_t number)
{
  if (kind == MARK_SYNC && number < SYNCS)
    w->spec.sync = (int)number;
  else if (kind == MARK_STRICT)
    w->spec.strict = 1;
  else if ((kind == MARK_PLAIN || kind == MARK_STAMPED) &&
           *states < MOST_STATES) {
    w->states[*states].hash[0] = number;
    w->states[(*states)++].stamped[0] = kind == MARK_STAMPED;
  }
}

int play_from_log(world *w, const char *log)
{
  size_t n;
  unsigned states = 0;
  w->log = log;
  w->atomic = 1;
  w->spec.sync = SYNC_FULL;
  w->spec.direct = 1;
  w->disk = trace_replay(log);
  if (w->disk == NULL)
    return went_wrong(w, "cannot read %s", log);
  if (trace_missed() != NULL)
    return went_wrong(w, "%s", trace_missed());
  const disk_op *op = simdisk_log(w->disk, &n);
  for (size_t i = 0; i < n; i++)
    if (op[i].kind == OP_MARK)
      know(w, &states, (unsigned)op[i].n, op[i].off);
  w->done = states - 1;
  return states > 1 || went_wrong(w, "%s has no states", log);
}

static int record(world *w, const play *p)
{
  *w = (world){0};
  int good = begin(w, p) && perform(w, p) && play_from_log(w, log_path);
  w->spec.seed = p->seed;
  if (!good)
    return 0;
  trace_compare(w->disk, place);
  return trace_missed() == NULL || went_wrong(w, "%s", trace_missed());
}

/* ------------------------------------------------------ the command once more */

/* What stock SQLite finds. */
static int stock_content(simdisk *image, uint64_t *hash)
{
  simdisk *copy = simdisk_clone(image);
  simdisk_use(copy);
  sqlite3 *db = world_open(file_names[0], "simdisk");
  int rc = db == NULL ? SQLITE_CANTOPEN : try_content_hash(db, "main", hash);
  sqlite3_close(db);
  simdisk_free(copy);
  return rc;
}

static int nothing_is_left(const simdisk *d)
{
  for (unsigned i = 0; i < simdisk_names(d); i++)
    if (simdisk_entry(d, i) >= 0 && strchr(simdisk_name(d, i), '|') != NULL)
      return 0;
  return 1;
}

/* The journal mode stays what it was. */
static int mode_is_kept(const simdisk *d, const play *p)
{
  size_t n = 0;
  const unsigned char *page1 =
      simdisk_bytes(d, (unsigned)simdisk_find(d, file_names[0]), &n);
  return n > HEADER_READ_VERSION &&
         page1[HEADER_READ_VERSION] == (p->journal == JOURNAL_WAL ? 2 : 1);
}

/* One image, which is used up. */
static int again(simdisk *image, const world *w, const play *p, examined *e)
{
  const claim done = {.least = {1, 1}, .most = 1};
  uint64_t hash = 0;
  int rc = stock_content(image, &hash);
  trace_put(image, place);
  simdisk_free(image);
  if (rc != SQLITE_OK || hash != w->states[0].hash[0]) {
    snprintf(e->failure, sizeof e->failure,
             "stock SQLite reads other content: %d", rc);
    return 0;
  }
  rc = end_of(launch("again", p, 0));
  image = trace_read(place);
  if (rc == 0 && nothing_is_left(image) && mode_is_kept(image, p))
    return examine(image, w, &done, 0, 0, e);
  snprintf(e->failure, sizeof e->failure,
           "given again the command %s: exit code %d",
           rc != 0                  ? "fails"
           : nothing_is_left(image) ? "changes the journal mode"
                                    : "leaves files",
           rc);
  simdisk_free(image);
  return 0;
}

/* All lost, all kept, the last change torn: the order of names is kept. Of what
** --adopt leaves page-db reads no more than of what it began with; it has to be
** adopted in any case. */
static cut order_keeping(const play *p, unsigned i, unsigned pending,
                         uint64_t seed)
{
  static const cut_kind kinds[] = {CUT_NONE, CUT_ALL, CUT_TORN_ONE, CUT_SUBSET,
                                   CUT_TORN};
  if (i == (p->what == PLAY_ADOPT ? 5u : 3u) || (i > 0 && pending == 0))
    return (cut){.kind = CUT_KINDS};
  return (cut){kinds[i], pending > 0 ? pending - 1 : 0, seed};
}

/* The images of one place of the log. */
static void images_again(const platter *log, const world *w, const play *p,
                         uint64_t seed, tally *t)
{
  size_t unused;
  uint64_t last = 0;
  t->cuts++;
  for (unsigned i = 0; t->failures == 0; i++) {
    examined e = {0};
    cut c = order_keeping(p, i, platter_pending(log), next_random(&seed));
    if (c.kind == CUT_KINDS)
      break;
    simdisk *image = platter_cut(log, c, &unused);
    uint64_t h = simdisk_hash(image);
    if (h == last) {
      simdisk_free(image);
      continue;
    }
    last = h;
    t->images++;
    t->examined++;
    if (again(image, w, p, &e))
      continue;
    t->failures++;
    snprintf(t->first, sizeof t->first,
             "%s\n  log %s, cut %zu, image %d,%u,%llu", e.failure, w->log,
             platter_at(log), (int)c.kind, c.which, (unsigned long long)c.seed);
  }
}

static void cuts_again(const world *w, const play *p, unsigned places, tally *t)
{
  platter *log = platter_new(w->disk, 0);
  uint64_t seed = w->spec.seed;
  const disk_op *op;
  size_t n;
  simdisk_log(w->disk, &n);
  while (t->failures == 0 && (op = platter_step(log)) != NULL)
    if (op->kind != OP_MARK && (places == 0 || random_below(&seed, n) < places))
      images_again(log, w, p, next_random(&seed), t);
  platter_free(log);
}

/* What --adopt begins with page-db cannot read: only what it ends with counts. */
static void cut_all(const world *w, const play *p, const effort *how,
                    unsigned places, tally *t)
{
  if (p->what != PLAY_ADOPT)
    torture_cuts(w, how, 1, t);
  if (is_command(p) && t->failures == 0 && !how->lies)
    cuts_again(w, p, places, t);
}

void play_run(const play *p, const effort *how, unsigned again, int quiet,
              tally *t)
{
  static world w;
  char line[200];
  tally mine = {0};
  if (record(&w, p)) {
    cut_all(&w, p, how, again, &mine);
  } else {
    mine.failures = 1;
    snprintf(mine.first, sizeof mine.first, "%s", w.failure);
  }
  if (mine.failures > 0 && !quiet)
    fprintf(stderr, "FAIL %s: %s\n", play_print(p, line, sizeof line),
            mine.first);
  if (mine.failures == 0 || quiet)
    remove(log_path);
  trace_remove(place);
  world_free(&w);
  mine.runs = 1;
  tally_add(t, &mine);
}
