/*
** sql_bench.h - what the parts of the SQL benchmark share.
**
**   variant.c     which SQLite this is: stock, mmap, cksumvfs, page-db
**   main.c        options, the clock, the line of JSON
**   data.c        the databases; taking a file out of the system's cache
**   read.c        points, ranges, scans, memory of many connections
**   write.c       transactions, bulk work, checkpoint
**   stream.c      mixtures whose page streams are recorded
**   trace.c       the recorder
**
** One process measures one thing: bench_sql OPERATION key=value... The script
** run.py starts them, in turns.
*/
#ifndef SQL_BENCH_H
#define SQL_BENCH_H

#include <sqlite3.h>
#include <stdint.h>

/* What the command line says; times and counts are upper bounds for one run. */
typedef struct options {
  const char *db;
  uint64_t rows; /* in table t */
  uint64_t ops;
  double seconds;
  unsigned threads;
  const char *journal;
  const char *sync;
  long long cache; /* PRAGMA cache_size; 0: as it comes */
  uint64_t seed;
  int cold;      /* nothing of the file in memory */
  int from_disk; /* the same, and then warmed up under the memory limit */
  int zipf;      /* skewed keys instead of uniform ones */
  int txn;       /* many reads in one transaction */
  int text;      /* look at every byte of the rows' text */
  int update;    /* change a row: instead of adding one, or before reading */
  int scattered; /* neighbours in key order are not neighbours in the file */
  int no_warm_up;
} options;

/* What came out. Time is `ns` divided by `ops`. */
typedef struct result {
  uint64_t ops;
  uint64_t ns;
  uint64_t cpu_ns; /* of all threads, user and system */
  uint64_t bytes;  /* where memory is what is measured, else 0 */
  uint64_t writes; /* transactions beside the operations */
} result;

typedef void operation(const options *o, result *r);

operation make_data, points, ranges, scans, memory_of_connections;
operation small_transactions, large_transactions, bulk_load, bulk_update,
    create_index, vacuum, checkpoint, mixed;
operation stream_lookups, stream_scans, stream_oltp, stream_ranges, stream_loop;

/* End the program, saying what failed, unless rc is SQLITE_OK, ROW or DONE. */
void must(int rc, sqlite3 *db, const char *what);
void fail(const char *format, ...);

sqlite3 *open_db(const options *o);
void run_sql(sqlite3 *db, const char *format, ...);
sqlite3_stmt *prepare(sqlite3 *db, const char *sql);
/* Step a statement that gives no rows, or whose rows nobody wants; reset. */
void run_stmt(sqlite3 *db, sqlite3_stmt *s);
int64_t ask_number(sqlite3 *db, const char *sql);

uint64_t now_ns(void);
void clock_start(result *r);
void clock_stop(result *r);

/* xorshift64* (Vigna, 2016). */
uint64_t next_random(uint64_t *state);

/* Keys of t in 1..rows. */
typedef struct keys {
  uint64_t rows, state;
  int zipf;
  double zeta, eta, alpha, second;
} keys;
void keys_begin(keys *k, const options *o, uint64_t salt);
uint64_t keys_next(keys *k);

enum { TEXT_BYTES = 400 };
/* TEXT_BYTES of letters that depend on n. */
void fill_text(char *text, uint64_t n);

/* Take the file out of the system's cache; ends the program if it stays. */
void make_cold(const char *path);
/* Bytes of the file in the system's cache. */
uint64_t cached_bytes(const char *path);
/* Read the whole of t once. */
void read_all(sqlite3 *db);

#endif
