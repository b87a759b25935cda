/*
** read.c - points, ranges, scans; memory of many connections.
**
** Threads each have a connection of their own. All of them warm up, wait for
** each other, and run until time or operations are out; the time of an operation
** is the wall clock's over what all of them did together.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql_bench.h"

enum { MOST_THREADS = 64, BATCH = 64, IN_TXN = 4096, RANGE = 100 };

/* ------------------------------------------------------------------ threads */

typedef struct worker worker;
typedef void batch_run(worker *w, unsigned n);

struct worker {
  const options *o;
  batch_run *run;
  const char *sql;
  sqlite3 *db;
  sqlite3_stmt *stmt;
  keys keys;
  uint64_t done;
  uint64_t until_ns; /* set between the barriers */
  uint64_t most;     /* operations */
  pthread_barrier_t *warm, *go;
};

static uint64_t deadline(double seconds)
{
  return now_ns() + (uint64_t)(seconds * 1e9);
}

static void run_until(worker *w)
{
  w->done = 0;
  while (w->done < w->most && now_ns() < w->until_ns) {
    unsigned n =
        w->most - w->done < BATCH ? (unsigned)(w->most - w->done) : BATCH;
    if (w->o->txn && w->done % IN_TXN == 0) {
      if (w->done != 0)
        run_sql(w->db, "COMMIT");
      run_sql(w->db, "BEGIN");
    }
    w->run(w, n);
    w->done += n;
  }
  if (w->o->txn && !sqlite3_get_autocommit(w->db))
    run_sql(w->db, "COMMIT");
}

static void *work(void *arg)
{
  worker *w = arg;
  if (!w->o->cold && !w->o->no_warm_up) {
    w->until_ns = deadline(w->o->seconds / 4);
    run_until(w);
  }
  pthread_barrier_wait(w->warm);
  pthread_barrier_wait(w->go);
  run_until(w);
  return NULL;
}

static void worker_open(worker *w, const options *o, unsigned i)
{
  w->o = o;
  w->db = open_db(o);
  w->stmt = prepare(w->db, w->sql);
  w->most = o->ops;
  keys_begin(&w->keys, o, i);
}

static void worker_close(worker *w)
{
  sqlite3_finalize(w->stmt);
  must(sqlite3_close(w->db), w->db, "close");
}

static void run_threads(const options *o, result *r, batch_run *run,
                        const char *sql)
{
  static worker w[MOST_THREADS];
  pthread_t thread[MOST_THREADS];
  pthread_barrier_t warm, go;
  if (o->threads < 1 || o->threads > MOST_THREADS)
    fail("threads: 1 to %d", MOST_THREADS);
  if (o->cold || o->from_disk)
    make_cold(o->db);
  pthread_barrier_init(&warm, NULL, o->threads + 1);
  pthread_barrier_init(&go, NULL, o->threads + 1);
  for (unsigned i = 0; i < o->threads; i++) {
    w[i] = (worker){.run = run, .sql = sql, .warm = &warm, .go = &go};
    worker_open(&w[i], o, i);
  }
  if (o->update)
    run_sql(w[0].db, "UPDATE t SET k=k+1 WHERE id=1");
  if (!o->cold && !o->no_warm_up)
    read_all(w[0].db);
  for (unsigned i = 0; i < o->threads; i++)
    if (pthread_create(&thread[i], NULL, work, &w[i]) != 0)
      fail("no thread");
  pthread_barrier_wait(&warm);
  for (unsigned i = 0; i < o->threads; i++)
    w[i].until_ns = deadline(o->seconds);
  clock_start(r);
  pthread_barrier_wait(&go);
  for (unsigned i = 0; i < o->threads; i++)
    pthread_join(thread[i], NULL);
  clock_stop(r);
  for (unsigned i = 0; i < o->threads; i++) {
    r->ops += w[i].done;
    worker_close(&w[i]);
  }
}

/* ------------------------------------------------------------------- points */

static void read_points(worker *w, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    sqlite3_bind_int64(w->stmt, 1, (sqlite3_int64)keys_next(&w->keys));
    if (sqlite3_step(w->stmt) != SQLITE_ROW ||
        sqlite3_column_bytes(w->stmt, 0) != TEXT_BYTES)
      fail("a row is missing: %s", sqlite3_errmsg(w->db));
    sqlite3_reset(w->stmt);
  }
}

void points(const options *o, result *r)
{
  run_threads(o, r, read_points, "SELECT txt FROM t WHERE id=?");
}

/* ------------------------------------------------------------------- ranges */

static void look_at(const void *text, int n)
{
  if (memchr(text, '~', (size_t)n) != NULL)
    fail("a text has what nobody put into it");
}

static void read_ranges(worker *w, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    int rc;
    sqlite3_bind_int64(w->stmt, 1, (sqlite3_int64)keys_next(&w->keys));
    while ((rc = sqlite3_step(w->stmt)) == SQLITE_ROW)
      look_at(sqlite3_column_text(w->stmt, 0),
              sqlite3_column_bytes(w->stmt, 0));
    must(rc, w->db, "range");
    sqlite3_reset(w->stmt);
  }
}

void ranges(const options *o, result *r)
{
  char sql[128];
  snprintf(sql, sizeof sql, "SELECT txt FROM t WHERE id BETWEEN ?1 AND ?1+%d",
           RANGE - 1);
  run_threads(o, r, read_ranges, sql);
}

/* -------------------------------------------------------------------- scans */

static void read_whole(const options *o, sqlite3 *db, sqlite3_stmt *s)
{
  uint64_t rows = 0;
  int rc;
  while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
    rows += o->text ? 1 : (uint64_t)sqlite3_column_int64(s, 0);
    if (o->text)
      look_at(sqlite3_column_text(s, 0), sqlite3_column_bytes(s, 0));
  }
  must(rc, db, "scan");
  sqlite3_reset(s);
  if (rows != o->rows)
    fail("%llu rows, and not %llu", (unsigned long long)rows,
         (unsigned long long)o->rows);
}

/* Whole scans, one if it is cold. */
void scans(const options *o, result *r)
{
  if (o->cold || o->from_disk)
    make_cold(o->db);
  sqlite3 *db = open_db(o);
  sqlite3_stmt *s =
      prepare(db, o->text ? "SELECT txt FROM t" : "SELECT count(*) FROM t");
  if (!o->cold && !o->no_warm_up)
    read_whole(o, db, s);
  clock_start(r);
  uint64_t until = deadline(o->seconds);
  do {
    read_whole(o, db, s);
    r->ops++;
  } while (!o->cold && r->ops < o->ops && now_ns() < until);
  clock_stop(r);
  sqlite3_finalize(s);
  must(sqlite3_close(db), db, "close");
}

/* ------------------------------------------------------------------- memory */

/* Memory of this process that is not a file's, bytes. */
static uint64_t own_memory(void)
{
  char line[256];
  unsigned long long kib, sum = 0;
  FILE *f = fopen("/proc/self/status", "r");
  if (f == NULL)
    fail("/proc/self/status cannot be read");
  while (fgets(line, sizeof line, f) != NULL)
    if (sscanf(line, "RssAnon: %llu", &kib) == 1 ||
        sscanf(line, "RssShmem: %llu", &kib) == 1)
      sum += kib;
  fclose(f);
  return sum * 1024;
}

/* Every connection reads all, and may keep it. What it takes is what the process
** has for itself and what of the file is in the system's cache. */
void memory_of_connections(const options *o, result *r)
{
  sqlite3 *db[MOST_THREADS];
  if (o->threads < 1 || o->threads > MOST_THREADS)
    fail("threads: 1 to %d", MOST_THREADS);
  make_cold(o->db);
  clock_start(r);
  for (unsigned i = 0; i < o->threads; i++) {
    db[i] = open_db(o);
    read_all(db[i]);
  }
  clock_stop(r);
  r->bytes = own_memory() + cached_bytes(o->db);
  r->ops = o->threads;
  for (unsigned i = 0; i < o->threads; i++)
    must(sqlite3_close(db[i]), db[i], "close");
}
