/*
** main.c - bench_sql OPERATION key=value...: measure one thing, print one line of
** JSON. Owns the clock and the few calls of SQLite that all operations share.
*/
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "sql_bench.h"

void fail(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fprintf(stderr, "bench_sql: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  exit(1);
}

void must(int rc, sqlite3 *db, const char *what)
{
  if (rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
    fail("%s: %s (%d)", what, db != NULL ? sqlite3_errmsg(db) : "error", rc);
}

/* ------------------------------------------------------------------ SQLite */

void run_sql(sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  char *sql = sqlite3_vmprintf(format, args);
  va_end(args);
  must(sqlite3_exec(db, sql, NULL, NULL, NULL), db, sql);
  sqlite3_free(sql);
}

sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *s = NULL;
  must(sqlite3_prepare_v2(db, sql, -1, &s, NULL), db, sql);
  return s;
}

void run_stmt(sqlite3 *db, sqlite3_stmt *s)
{
  int rc;
  while ((rc = sqlite3_step(s)) == SQLITE_ROW)
    ;
  must(rc, db, sqlite3_sql(s));
  sqlite3_reset(s);
}

int64_t ask_number(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *s = prepare(db, sql);
  must(sqlite3_step(s), db, sql);
  int64_t n = sqlite3_column_int64(s, 0);
  sqlite3_finalize(s);
  return n;
}

sqlite3 *open_db(const options *o)
{
  sqlite3 *db = NULL;
  must(sqlite3_open(o->db, &db), db, o->db);
  sqlite3_busy_timeout(db, 60000);
  if (o->cache != 0)
    run_sql(db, "PRAGMA cache_size=%lld", o->cache);
  if (o->journal != NULL)
    run_sql(db, "PRAGMA journal_mode=%s", o->journal);
  if (o->sync != NULL)
    run_sql(db, "PRAGMA synchronous=%s", o->sync);
  return db;
}

/* ------------------------------------------------------------------- clock */

uint64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(void)
{
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
         (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

void clock_start(result *r)
{
  r->cpu_ns = cpu_ns();
  r->ns = now_ns();
}

void clock_stop(result *r)
{
  r->ns = now_ns() - r->ns;
  r->cpu_ns = cpu_ns() - r->cpu_ns;
}

/* ----------------------------------------------------------------- options */

static const struct {
  const char *name;
  operation *run;
} operations[] = {{"make", make_data},
                  {"point", points},
                  {"range", ranges},
                  {"scan", scans},
                  {"memory", memory_of_connections},
                  {"small", small_transactions},
                  {"large", large_transactions},
                  {"load", bulk_load},
                  {"update", bulk_update},
                  {"index", create_index},
                  {"vacuum", vacuum},
                  {"checkpoint", checkpoint},
                  {"mixed", mixed},
                  {"lookups", stream_lookups},
                  {"scans", stream_scans},
                  {"oltp", stream_oltp},
                  {"ranges", stream_ranges},
                  {"loop", stream_loop}};

static void read_option(options *o, char *word)
{
  char *value = strchr(word, '=');
  if (value == NULL)
    fail("%s: key=value is wanted", word);
  *value++ = 0;
  const struct {
    const char *key;
    int *flag;
  } flags[] = {{"cold", &o->cold},           {"from_disk", &o->from_disk},
               {"zipf", &o->zipf},           {"txn", &o->txn},
               {"text", &o->text},           {"update", &o->update},
               {"scattered", &o->scattered}, {"no_warm_up", &o->no_warm_up}};
  for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (strcmp(word, flags[i].key) == 0) {
      *flags[i].flag = atoi(value);
      return;
    }
  if (strcmp(word, "db") == 0)
    o->db = value;
  else if (strcmp(word, "rows") == 0)
    o->rows = strtoull(value, NULL, 10);
  else if (strcmp(word, "ops") == 0)
    o->ops = strtoull(value, NULL, 10);
  else if (strcmp(word, "seconds") == 0)
    o->seconds = strtod(value, NULL);
  else if (strcmp(word, "threads") == 0)
    o->threads = (unsigned)atoi(value);
  else if (strcmp(word, "journal") == 0)
    o->journal = value;
  else if (strcmp(word, "sync") == 0)
    o->sync = value;
  else if (strcmp(word, "cache") == 0)
    o->cache = strtoll(value, NULL, 10);
  else if (strcmp(word, "seed") == 0)
    o->seed = strtoull(value, NULL, 10);
  else
    fail("%s: no such option", word);
}

int main(int argc, char **argv)
{
  options o = {.seconds = 1e9, .ops = UINT64_MAX, .threads = 1, .seed = 1};
  result r = {0};
  if (argc < 3)
    fail("usage: bench_sql OPERATION key=value...");
  for (int i = 2; i < argc; i++)
    read_option(&o, argv[i]);
  if (o.db == NULL || o.rows == 0)
    fail("db= and rows= are wanted");
  for (unsigned i = 0; i < sizeof operations / sizeof operations[0]; i++)
    if (strcmp(argv[1], operations[i].name) == 0) {
      operations[i].run(&o, &r);
      printf("{\"sqlite\": \"%s\", \"ops\": %llu, \"ns\": %llu, "
             "\"cpu_ns\": %llu, \"bytes\": %llu, \"writes\": %llu, "
             "\"seed\": %llu}\n",
             sqlite3_libversion(), (unsigned long long)r.ops,
             (unsigned long long)r.ns, (unsigned long long)r.cpu_ns,
             (unsigned long long)r.bytes, (unsigned long long)r.writes,
             (unsigned long long)o.seed);
      return 0;
    }
  fail("%s: no such operation", argv[1]);
  return 1;
}
