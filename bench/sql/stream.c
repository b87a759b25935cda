/*
** stream.c - the mixtures whose page streams are recorded (trace.c) and given to
** page replacement policies (bench/poolsim.c). `ops` is how many statements.
*/
#include <string.h>

#include "sql_bench.h"

typedef struct stream {
  sqlite3 *db;
  sqlite3_stmt *lookup, *scan, *change, *add, *range;
  keys keys;
  uint64_t newest;
} stream;

static void with_number(stream *s, sqlite3_stmt *stmt, uint64_t n)
{
  sqlite3_bind_int64(stmt, 1, (sqlite3_int64)n);
  run_stmt(s->db, stmt);
}

static void step_lookup(stream *s, uint64_t i)
{
  (void)i;
  with_number(s, s->lookup, keys_next(&s->keys));
}

/* A report now and then. */
static void step_lookup_and_scan(stream *s, uint64_t i)
{
  enum { EVERY = 20000 };
  if (i % EVERY == EVERY - 1)
    run_stmt(s->db, s->scan);
  step_lookup(s, i);
}

/* Of ten statements seven read, two change, one adds. */
static void step_oltp(stream *s, uint64_t i)
{
  if (i % 10 < 7)
    step_lookup(s, i);
  else if (i % 10 < 9)
    with_number(s, s->change, keys_next(&s->keys));
  else
    with_number(s, s->add, ++s->newest);
}

static void step_range(stream *s, uint64_t i)
{
  (void)i;
  with_number(s, s->range, keys_next(&s->keys));
}

static void step_loop(stream *s, uint64_t i)
{
  (void)i;
  run_stmt(s->db, s->scan);
}

static void run_stream(const options *o, result *r,
                       void (*step)(stream *, uint64_t))
{
  stream s = {.db = open_db(o), .newest = o->rows};
  run_sql(s.db, "CREATE INDEX IF NOT EXISTS t_by_k ON t(k)");
  s.lookup = prepare(s.db, "SELECT txt FROM t INDEXED BY t_by_k WHERE k=?");
  s.scan = prepare(s.db, "SELECT sum(length(txt)), sum(k) FROM t NOT INDEXED");
  s.change = prepare(s.db, "UPDATE t SET txt=upper(txt) WHERE id=?");
  s.add = prepare(s.db, "INSERT INTO t VALUES(?1, ?1, hex(zeroblob(200)))");
  s.range = prepare(s.db, "SELECT txt FROM t WHERE id BETWEEN ?1 AND ?1+99");
  keys_begin(&s.keys, o, 0);
  clock_start(r);
  run_sql(s.db, "BEGIN");
  for (; r->ops < o->ops; r->ops++)
    step(&s, r->ops);
  run_sql(s.db, "ROLLBACK");
  clock_stop(r);
  sqlite3_stmt *all[] = {s.lookup, s.scan, s.change, s.add, s.range};
  for (int i = 0; i < 5; i++)
    sqlite3_finalize(all[i]);
  must(sqlite3_close(s.db), s.db, "close");
}

void stream_lookups(const options *o, result *r)
{
  run_stream(o, r, step_lookup);
}

void stream_scans(const options *o, result *r)
{
  run_stream(o, r, step_lookup_and_scan);
}

void stream_oltp(const options *o, result *r)
{
  run_stream(o, r, step_oltp);
}

void stream_ranges(const options *o, result *r)
{
  run_stream(o, r, step_range);
}

void stream_loop(const options *o, result *r)
{
  run_stream(o, r, step_loop);
}
