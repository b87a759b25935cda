/*
** bench_scan.c - scans and point reads, page-db beside stock SQLite, cold and
** warm, in turns in one process.
**
** Cold means: for stock, the file's pages were dropped from the system's cache
** (checked with mincore); for page-db, all connections were closed, which empties
** the pool of the file. Each figure is the median of the rounds; ratios are of
** medians, under 1 is faster than stock.
**
**   bench_scan [DIRECTORY [MEGABYTES [ROUNDS]]]
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../vfs/pagedb_sqlite.h"
#include "bench.h"
#include "os.h"

enum { MAX_ROUNDS = 31, POINTS = 2000, ROW = 400 };

static const char *folder = "build";
static int megabytes = 128, rounds = 5, rows;

typedef enum shape { VACUUMED, SCATTERED, SHAPES } shape;
typedef enum side { STOCK, OURS, SIDES } side;

static const char *path_of(shape t, side who)
{
  static char path[512];
  snprintf(path, sizeof path, "%s/bench_scan_%d_%d.db", folder, t, who);
  return path;
}

static void fail(sqlite3 *db, const char *what)
{
  fprintf(stderr, "bench: %s: %s\n", what, sqlite3_errmsg(db));
  exit(1);
}

static void sql(sqlite3 *db, const char *text)
{
  if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
    fail(db, text);
}

static sqlite3 *open_db(shape t, side who)
{
  sqlite3 *db;
  if (sqlite3_open_v2(path_of(t, who), &db,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                      who == OURS ? "pagedb" : "unix") != SQLITE_OK)
    fail(db, "open");
  return db;
}

static void make(shape t, side who)
{
  char text[512];
  unlink(path_of(t, who));
  sqlite3 *db = open_db(t, who);
  sql(db, "PRAGMA journal_mode=OFF; PRAGMA cache_size=-600000;"
          "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); BEGIN");
  /* 48271 and a prime number of rows: every number once, in no order. */
  snprintf(text, sizeof text,
           "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
           "n<%d) INSERT INTO t SELECT %s, hex(randomblob(%d)) FROM c; COMMIT",
           rows - 1, t == SCATTERED ? "n*48271%%rows" : "n", ROW / 2);
  char *at = strstr(text, "%%rows");
  if (at != NULL) {
    char rest[256];
    snprintf(rest, sizeof rest, "%s", at + 6);
    snprintf(at, sizeof text - (size_t)(at - text), "%%%d%s", rows, rest);
  }
  sql(db, text);
  if (t == VACUUMED)
    sql(db, "VACUUM");
  sqlite3_close(db);
}

static void drop(const char *path)
{
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0 || fsync(fd) != 0 ||
      posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
    perror(path);
    exit(1);
  }
  size_t n = (size_t)st.st_size, left = 0, pages = (n + 4095) / 4096;
  unsigned char *there = malloc(pages);
  void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
  if (there == NULL || map == MAP_FAILED || mincore(map, n, there) != 0) {
    perror("mincore");
    exit(1);
  }
  for (size_t i = 0; i < pages; i++)
    left += there[i] & 1;
  munmap(map, n);
  free(there);
  close(fd);
  if (left > pages / 100)
    fprintf(stderr, "bench: %s: %zu pages stayed in the cache\n", path, left);
}

/* ------------------------------------------------------------------- works */

static void query(sqlite3 *db, const char *text, sqlite3_int64 wanted)
{
  sqlite3_stmt *st;
  if (sqlite3_prepare_v2(db, text, -1, &st, NULL) != SQLITE_OK ||
      sqlite3_step(st) != SQLITE_ROW)
    fail(db, text);
  if (wanted >= 0 && sqlite3_column_int64(st, 0) != wanted) {
    fprintf(stderr, "bench: %s: %lld\n", text, sqlite3_column_int64(st, 0));
    exit(1);
  }
  sqlite3_finalize(st);
}

static void work_count(sqlite3 *db)
{
  query(db, "SELECT count(*) FROM t", rows - 1);
}

/* length() of a text reads all of it. */
static void work_text(sqlite3 *db)
{
  query(db, "SELECT sum(length(v)) FROM t", (sqlite3_int64)(rows - 1) * ROW);
}

static void work_points(sqlite3 *db)
{
  sqlite3_stmt *st;
  sql(db, "BEGIN");
  if (sqlite3_prepare_v2(db, "SELECT length(v) FROM t WHERE id=?", -1, &st,
                         NULL) != SQLITE_OK)
    fail(db, "points");
  uint64_t x = 88172645463325252u;
  for (int i = 0; i < POINTS; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)(x % (uint64_t)(rows - 1)) + 1);
    if (sqlite3_step(st) != SQLITE_ROW)
      fail(db, "points");
    sqlite3_reset(st);
  }
  sqlite3_finalize(st);
  sql(db, "COMMIT");
}

typedef struct work {
  const char *name;
  shape shape;
  int warm;
  int pool_part; /* the pool is the file's size through this; 0: it fits */
  void (*run)(sqlite3 *);
} work;

static const work works[] = {
    {"cold text scan, vacuumed", VACUUMED, 0, 0, work_text},
    {"cold count(*), vacuumed", VACUUMED, 0, 0, work_count},
    {"cold text scan, scattered", SCATTERED, 0, 0, work_text},
    {"cold text scan, scattered, pool of half", SCATTERED, 0, 2, work_text},
    {"cold text scan, vacuumed, pool of half", VACUUMED, 0, 2, work_text},
    {"cold point reads, vacuumed", VACUUMED, 0, 0, work_points},
    {"cold point reads, scattered", SCATTERED, 0, 0, work_points},
    {"warm count(*)", VACUUMED, 1, 0, work_count},
    {"warm text scan", VACUUMED, 1, 0, work_text},
    {"warm text scan, scattered", SCATTERED, 1, 0, work_text},
};

static double cpu_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Wall clock and processor, ms. */
static void one(const work *w, side who, double *wall, double *cpu)
{
  char text[128];
  drop(path_of(w->shape, who));
  sqlite3 *db = open_db(w->shape, who);
  if (who == OURS) {
    snprintf(text, sizeof text, "PRAGMA pagedb_pool_size=%lld",
             (long long)megabytes * 1048576 * 2 /
                 (w->pool_part == 0 ? 1 : 2 * w->pool_part));
    sql(db, text);
  }
  if (w->warm)
    w->run(db);
  *cpu = cpu_ms();
  uint64_t start = os_monotonic_ns();
  w->run(db);
  *wall = (double)(os_monotonic_ns() - start) / 1e6;
  *cpu = cpu_ms() - *cpu;
  sqlite3_close(db);
}

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void measure(const work *w)
{
  double wall[SIDES][MAX_ROUNDS], cpu[SIDES][MAX_ROUNDS];
  int mid = rounds / 2;
  for (int i = 0; i < rounds; i++)
    for (int who = 0; who < SIDES; who++)
      one(w, (side)who, &wall[who][i], &cpu[who][i]);
  for (int who = 0; who < SIDES; who++) {
    qsort(wall[who], (size_t)rounds, sizeof(double), by_value);
    qsort(cpu[who], (size_t)rounds, sizeof(double), by_value);
  }
  printf("| %-40s | %8.1f | %8.1f | %6.3f | %8.1f | %8.1f | %6.3f |\n", w->name,
         wall[STOCK][mid], wall[OURS][mid], wall[OURS][mid] / wall[STOCK][mid],
         cpu[STOCK][mid], cpu[OURS][mid], cpu[OURS][mid] / cpu[STOCK][mid]);
  fflush(stdout);
}

static int is_prime(int n)
{
  for (int i = 2; i * i <= n; i++)
    if (n % i == 0)
      return 0;
  return 1;
}

int main(int argc, char **argv)
{
  if (argc > 1)
    folder = argv[1];
  if (argc > 2)
    megabytes = atoi(argv[2]);
  if (argc > 3)
    rounds = atoi(argv[3]);
  if (megabytes < 1 || rounds < 1 || rounds > MAX_ROUNDS) {
    fprintf(stderr, "bench_scan [DIRECTORY [MEGABYTES [ROUNDS]]]\n");
    return 2;
  }
  rows = (int)((int64_t)megabytes * 1048576 / (ROW + 55));
  while (!is_prime(rows))
    rows++;
  if (pagedb_register(0) != SQLITE_OK)
    return 1;
  for (int t = 0; t < SHAPES; t++)
    for (int who = 0; who < SIDES; who++)
      make((shape)t, (side)who);
  bench_machine();
  printf("%d rows, files of about %d MB, %d rounds\n\n", rows - 1, megabytes,
         rounds);
  printf(
      "| ms, median | stock | page-db | ratio | stock, processor | page-db | "
      "ratio |\n|---|---|---|---|---|---|---|\n");
  for (int i = 0; i < BENCH_COUNT(works); i++)
    if (argc < 5 || strstr(works[i].name, argv[4]) != NULL)
      measure(&works[i]);
  for (int t = 0; t < SHAPES; t++)
    for (int who = 0; who < SIDES; who++)
      unlink(path_of((shape)t, (side)who));
  return 0;
}
