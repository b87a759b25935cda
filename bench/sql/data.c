/*
** data.c - the databases that are measured, the keys that are asked for, and
** the system's cache.
**
** Every database has the table t(id INTEGER PRIMARY KEY, k INTEGER, txt TEXT),
** ids 1..rows, about 400 bytes a row. "Scattered" is filled in random order of
** ids, so that neighbours in key order lie anywhere in the file.
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sql_bench.h"

uint64_t next_random(uint64_t *state)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1du;
}

/* -------------------------------------------------------------------- keys */

static const double SKEW = 0.99;

/* Zipf as in Gray et al., "Quickly Generating Billion-Record Synthetic
** Databases", SIGMOD 1994. */
void keys_begin(keys *k, const options *o, uint64_t salt)
{
  *k = (keys){.rows = o->rows,
              .state = (o->seed * 1000003u + salt) * 0x9e3779b97f4a7c15u | 1,
              .zipf = o->zipf};
  if (!o->zipf)
    return;
  for (uint64_t i = 1; i <= o->rows; i++)
    k->zeta += pow((double)i, -SKEW);
  k->second = 1 + pow(0.5, SKEW);
  k->alpha = 1 / (1 - SKEW);
  k->eta =
      (1 - pow(2.0 / (double)o->rows, 1 - SKEW)) / (1 - k->second / k->zeta);
}

static uint64_t rank_of(const keys *k, double u)
{
  if (u * k->zeta < 1)
    return 0;
  if (u * k->zeta < k->second)
    return 1;
  return (uint64_t)((double)k->rows * pow(k->eta * u - k->eta + 1, k->alpha));
}

uint64_t keys_next(keys *k)
{
  uint64_t n = next_random(&k->state);
  /* What is asked for often lies all over the table. */
  if (k->zipf)
    n = rank_of(k, (double)(n >> 11) * 0x1p-53) * 2654435761u;
  return n % k->rows + 1;
}

/* -------------------------------------------------------------------- rows */

void fill_text(char *text, uint64_t n)
{
  uint64_t state = n * 0x9e3779b97f4a7c15u | 1;
  for (int i = 0; i < TEXT_BYTES; i += 8) {
    uint64_t letters = next_random(&state);
    for (int b = 0; b < 8; b++)
      text[i + b] = (char)('a' + ((letters >> (8 * b)) & 15));
  }
}

static uint64_t *ids_in_order(const options *o)
{
  uint64_t *id = malloc(o->rows * sizeof *id), state = 88172645463325252u;
  if (id == NULL)
    fail("no memory");
  for (uint64_t i = 0; i < o->rows; i++)
    id[i] = i + 1;
  for (uint64_t i = o->rows; o->scattered && i-- > 1;) {
    uint64_t other = next_random(&state) % (i + 1), was = id[i];
    id[i] = id[other];
    id[other] = was;
  }
  return id;
}

void make_data(const options *o, result *r)
{
  options big = *o;
  big.cache = -1000000;
  big.sync = "OFF";
  unlink(o->db);
  uint64_t *id = ids_in_order(o);
  clock_start(r);
  sqlite3 *db = open_db(&big);
  char text[TEXT_BYTES];
  run_sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, txt TEXT)");
  run_sql(db, "BEGIN");
  sqlite3_stmt *s = prepare(db, "INSERT INTO t VALUES(?,?,?)");
  for (uint64_t i = 0; i < o->rows; i++) {
    fill_text(text, id[i]);
    sqlite3_bind_int64(s, 1, (sqlite3_int64)id[i]);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)(id[i] * 7919 % o->rows));
    sqlite3_bind_text(s, 3, text, TEXT_BYTES, SQLITE_STATIC);
    run_stmt(db, s);
  }
  sqlite3_finalize(s);
  run_sql(db, "COMMIT");
  must(sqlite3_close(db), db, "close");
  clock_stop(r);
  r->ops = o->rows;
  free(id);
}

/* --------------------------------------------------------------- the cache */

uint64_t cached_bytes(const char *path)
{
  struct stat st;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &st) != 0)
    fail("%s cannot be opened", path);
  size_t pages = ((size_t)st.st_size + 4095) / 4096;
  unsigned char *in = malloc(pages + 1);
  void *map = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_SHARED, fd, 0);
  if (in == NULL || map == MAP_FAILED ||
      mincore(map, (size_t)st.st_size, in) != 0)
    fail("mincore of %s failed", path);
  uint64_t n = 0;
  for (size_t i = 0; i < pages; i++)
    n += in[i] & 1;
  munmap(map, (size_t)st.st_size + 1);
  free(in);
  close(fd);
  return n * 4096;
}

static void drop_all_caches(void)
{
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (fd < 0)
    return;
  if (write(fd, "1", 1) != 1)
    fail("drop_caches was refused");
  close(fd);
}

void make_cold(const char *path)
{
  enum { STAYS = 64 * 1024 };
  int fd = open(path, O_RDWR);
  if (fd < 0)
    fail("%s cannot be opened", path);
  fdatasync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
  if (cached_bytes(path) > STAYS)
    drop_all_caches();
  if (cached_bytes(path) > STAYS)
    fail("%s stays in the system's cache: %llu bytes of it", path,
         (unsigned long long)cached_bytes(path));
}

void read_all(sqlite3 *db)
{
  sqlite3_stmt *s = prepare(db, "SELECT txt FROM t");
  run_stmt(db, s);
  sqlite3_finalize(s);
}
