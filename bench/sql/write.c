/*
** write.c - transactions small and large, bulk work, VACUUM, checkpoint, and one
** writer beside readers. Each works on a copy of the database that run.py made.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sql_bench.h"

enum { LARGE_ROWS = 25000, MOST_READERS = 63 };
static const uint64_t WAL_BYTES = 100u << 20;

/* A row, changed or added. */
typedef struct row_writer {
  sqlite3 *db;
  sqlite3_stmt *stmt;
  keys keys;
  int update;
  uint64_t n;
} row_writer;

static void row_begin(row_writer *w, sqlite3 *db, const options *o)
{
  *w = (row_writer){.db = db, .update = o->update};
  w->n = (uint64_t)ask_number(db, "SELECT coalesce(max(id), 0) FROM t");
  w->stmt = prepare(db, o->update ? "UPDATE t SET txt=?2, k=k+1 WHERE id=?1"
                                  : "INSERT INTO t VALUES(?1, 0, ?2)");
  keys_begin(&w->keys, o, 0);
}

static void row_write(row_writer *w)
{
  char text[TEXT_BYTES];
  uint64_t id = ++w->n;
  fill_text(text, id);
  if (w->update)
    id = keys_next(&w->keys);
  sqlite3_bind_int64(w->stmt, 1, (sqlite3_int64)id);
  sqlite3_bind_text(w->stmt, 2, text, TEXT_BYTES, SQLITE_STATIC);
  run_stmt(w->db, w->stmt);
}

static void finish(sqlite3 *db, sqlite3_stmt *s)
{
  sqlite3_finalize(s);
  must(sqlite3_close(db), db, "close");
}

/* ------------------------------------------------------------- transactions */

void small_transactions(const options *o, result *r)
{
  enum { WARM = 20 };
  row_writer w;
  sqlite3 *db = open_db(o);
  if (!o->no_warm_up)
    read_all(db);
  row_begin(&w, db, o);
  for (int i = 0; i < WARM; i++)
    row_write(&w);
  clock_start(r);
  uint64_t until = now_ns() + (uint64_t)(o->seconds * 1e9);
  while (r->ops < o->ops && now_ns() < until) {
    row_write(&w);
    r->ops++;
  }
  clock_stop(r);
  finish(db, w.stmt);
}

/* 10 MB each. */
void large_transactions(const options *o, result *r)
{
  row_writer w;
  sqlite3 *db = open_db(o);
  row_begin(&w, db, o);
  clock_start(r);
  while (r->ops < o->ops) {
    run_sql(db, "BEGIN");
    for (int i = 0; i < LARGE_ROWS; i++)
      row_write(&w);
    run_sql(db, "COMMIT");
    r->ops++;
  }
  clock_stop(r);
  finish(db, w.stmt);
}

/* --------------------------------------------------------------------- bulk */

/* From nothing to o->rows rows, in one transaction. */
void bulk_load(const options *o, result *r)
{
  row_writer w;
  unlink(o->db);
  sqlite3 *db = open_db(o);
  run_sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, txt TEXT)");
  row_begin(&w, db, o);
  clock_start(r);
  run_sql(db, "BEGIN");
  while (w.n < o->rows)
    row_write(&w);
  run_sql(db, "COMMIT");
  clock_stop(r);
  r->ops = w.n;
  finish(db, w.stmt);
}

/* A fifth of the rows, anywhere, in one transaction. */
void bulk_update(const options *o, result *r)
{
  row_writer w;
  options changing = *o;
  changing.update = 1;
  sqlite3 *db = open_db(o);
  read_all(db);
  row_begin(&w, db, &changing);
  clock_start(r);
  run_sql(db, "BEGIN");
  for (; r->ops < o->rows / 5; r->ops++)
    row_write(&w);
  run_sql(db, "COMMIT");
  clock_stop(r);
  finish(db, w.stmt);
}

static void one_statement(const options *o, result *r, const char *sql)
{
  sqlite3 *db = open_db(o);
  read_all(db);
  clock_start(r);
  run_sql(db, "%s", sql);
  clock_stop(r);
  r->ops = 1;
  must(sqlite3_close(db), db, "close");
}

void create_index(const options *o, result *r)
{
  one_statement(o, r, "CREATE INDEX t_k ON t(k, txt)");
}

void vacuum(const options *o, result *r)
{
  one_statement(o, r, "VACUUM");
}

/* --------------------------------------------------------------- checkpoint */

static uint64_t file_bytes(const char *path, const char *suffix)
{
  char name[4096];
  struct stat st;
  snprintf(name, sizeof name, "%s%s", path, suffix);
  return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void checkpoint(const options *o, result *r)
{
  enum { ROWS_A_TIME = 500 };
  row_writer w;
  options changing = *o;
  changing.update = 1;
  changing.journal = "WAL";
  sqlite3 *db = open_db(&changing);
  run_sql(db, "PRAGMA wal_autocheckpoint=0");
  read_all(db);
  row_begin(&w, db, &changing);
  while (file_bytes(o->db, "-wal") < WAL_BYTES) {
    run_sql(db, "BEGIN");
    for (int i = 0; i < ROWS_A_TIME; i++)
      row_write(&w);
    run_sql(db, "COMMIT");
  }
  clock_start(r);
  int left = 0, all = 0;
  must(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_FULL, &all, &left),
       db, "checkpoint");
  clock_stop(r);
  if (all != left)
    fail("only %d of %d pages were brought into the database", left, all);
  r->ops = 1;
  finish(db, w.stmt);
}

/* -------------------------------------------- one writer, and many readers */

static atomic_int stop;

typedef struct reader {
  const options *o;
  pthread_t thread;
  uint64_t done;
  unsigned i;
} reader;

static void *read_on(void *arg)
{
  reader *me = arg;
  keys k;
  sqlite3 *db = open_db(me->o);
  sqlite3_stmt *s = prepare(db, "SELECT txt FROM t WHERE id=?");
  keys_begin(&k, me->o, me->i + 1);
  while (!stop) {
    sqlite3_bind_int64(s, 1, (sqlite3_int64)keys_next(&k));
    if (sqlite3_step(s) != SQLITE_ROW)
      fail("a row is missing: %s", sqlite3_errmsg(db));
    sqlite3_reset(s);
    me->done++;
  }
  finish(db, s);
  return NULL;
}

/* In WAL mode. Operations are what the readers read; what the writer wrote is told
** apart. */
void mixed(const options *o, result *r)
{
  static reader readers[MOST_READERS];
  row_writer w;
  options ours = *o;
  ours.journal = "WAL";
  ours.update = 1;
  unsigned n = o->threads - 1;
  if (n < 1 || n > MOST_READERS)
    fail("threads: 2 to %d", MOST_READERS + 1);
  sqlite3 *db = open_db(&ours);
  read_all(db);
  row_begin(&w, db, &ours);
  clock_start(r);
  for (unsigned i = 0; i < n; i++) {
    readers[i] = (reader){.o = &ours, .i = i};
    if (pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) != 0)
      fail("no thread");
  }
  uint64_t until = now_ns() + (uint64_t)(o->seconds * 1e9);
  for (; now_ns() < until; r->writes++)
    row_write(&w);
  stop = 1;
  for (unsigned i = 0; i < n; i++) {
    pthread_join(readers[i].thread, NULL);
    r->ops += readers[i].done;
  }
  clock_stop(r);
  finish(db, w.stmt);
}
