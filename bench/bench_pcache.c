/*
** bench_pcache.c - SQLite's page cache: page-db's beside the built-in one.
**
** Prints ns per fetch + unpin of a resident page, and what memory both take and
** give back. The built-in methods are those of the SQLite that is linked
** (SQLITE_CONFIG_GETPCACHE2); ours are called in the same way, through their
** pointers. Lines of a group take turns (bench.h).
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../pcache/pcache.h"
#include "bench.h"
#include "pagedb.h"

enum { PAGE = 4096, EXTRA = 224, MAX_PAGES = 100000, OPERATIONS = 200000 };

static pagedb_pool *pool;
static sqlite3_pcache_methods2 builtin;

static pagedb_pool *the_pool(void)
{
  return pool;
}

static sqlite3_pcache *filled(const sqlite3_pcache_methods2 *m, unsigned pages)
{
  sqlite3_pcache *c = m->xCreate(PAGE, EXTRA, 1);
  m->xCachesize(c, (int)pages + 100);
  for (unsigned key = 1; key <= pages; key++) {
    sqlite3_pcache_page *p = m->xFetch(c, key, 2);
    if (p == NULL) {
      fprintf(stderr, "bench_pcache: no page %u\n", key);
      exit(1);
    }
    memset(p->pBuf, 1, PAGE);
    memset(p->pExtra, 1, EXTRA);
    m->xUnpin(c, p, 0);
  }
  return c;
}

/* -------------------------------------------------------------------- speed */

typedef struct job {
  const sqlite3_pcache_methods2 *m;
  sqlite3_pcache *cache;
  const unsigned *keys; /* OPERATIONS */
  unsigned n;
} job;

static void *fetch_and_unpin(void *arg)
{
  const job *j = arg;
  for (unsigned i = 0; i < j->n; i++) {
    sqlite3_pcache_page *p = j->m->xFetch(j->cache, j->keys[i], 0);
    j->m->xUnpin(j->cache, p, 0);
  }
  return NULL;
}

static void one_thread(void *arg, unsigned n)
{
  job *j = arg;
  j->n = n;
  fetch_and_unpin(j);
}

/* The same, and what SQLite does with every page that it gets: look at its own
** bytes, and count a reference. */
static void in_use(void *arg, unsigned n)
{
  const job *j = arg;
  for (unsigned i = 0; i < n; i++) {
    sqlite3_pcache_page *p = j->m->xFetch(j->cache, j->keys[i], 0);
    volatile uint64_t *extra = p->pExtra;
    if (extra[0] != 0)
      extra[5]++;
    j->m->xUnpin(j->cache, p, 0);
  }
}

/* A cache each: j[0] and j[1]. */
static void two_threads(void *arg, unsigned n)
{
  job *j = arg;
  pthread_t other;
  j[0].n = j[1].n = n / 2;
  pthread_create(&other, NULL, fetch_and_unpin, &j[1]);
  fetch_and_unpin(&j[0]);
  pthread_join(other, NULL);
}

static unsigned *keys_make(unsigned pages, int random)
{
  unsigned *keys = malloc(OPERATIONS * sizeof *keys);
  uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
  if (keys == NULL)
    exit(1);
  for (unsigned i = 0; i < OPERATIONS; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    keys[i] = (random ? (unsigned)(x % pages) : i % pages) + 1;
  }
  return keys;
}

static void bench_speed(unsigned pages)
{
  const sqlite3_pcache_methods2 *m[2] = {&pcache_methods, &builtin};
  job j[2][2][2]; /* order, rival, thread */
  char title[64];
  for (int rival = 0; rival < 2; rival++)
    for (int thread = 0; thread < 2; thread++) {
      sqlite3_pcache *c = filled(m[rival], pages);
      for (int random = 0; random < 2; random++)
        j[random][rival][thread] = (job){.m = m[rival], .cache = c};
    }
  for (int random = 0; random < 2; random++) {
    unsigned *keys = keys_make(pages, random);
    for (int i = 0; i < 4; i++)
      j[random][i / 2][i % 2].keys = keys;
  }
  bench_line l[] = {
      {"sequential", one_thread, j[0][0], OPERATIONS, {0}},
      {"sequential, built-in", one_thread, j[0][1], OPERATIONS, {0}},
      {"random", one_thread, j[1][0], OPERATIONS, {0}},
      {"random, built-in", one_thread, j[1][1], OPERATIONS, {0}},
      {"random, in use", in_use, j[1][0], OPERATIONS, {0}},
      {"random, in use, built-in", in_use, j[1][1], OPERATIONS, {0}},
      {"2 threads, sequential", two_threads, j[0][0], OPERATIONS, {0}},
      {"2 threads, sequential, built-in",
       two_threads,
       j[0][1],
       OPERATIONS,
       {0}},
      {"2 threads, random", two_threads, j[1][0], OPERATIONS, {0}},
      {"2 threads, random, built-in", two_threads, j[1][1], OPERATIONS, {0}},
  };
  snprintf(title, sizeof title, "fetch + unpin, %u pages resident", pages);
  bench_group(title, l, BENCH_COUNT(l));
  for (int random = 0; random < 2; random++)
    free((void *)(uintptr_t)j[random][0][0].keys);
  for (int i = 0; i < 4; i++)
    m[i / 2]->xDestroy(j[0][i / 2][i % 2].cache);
}

/* A page comes and another goes: the cache has its cache_size. */
static void replace(void *arg, unsigned n)
{
  const job *j = arg;
  static unsigned key = MAX_PAGES;
  for (unsigned i = 0; i < n; i++)
    j->m->xUnpin(j->cache, j->m->xFetch(j->cache, ++key, 2), 0);
}

/* A page comes and is dropped again: the cache grows and shrinks. */
static void come_and_go(void *arg, unsigned n)
{
  const job *j = arg;
  for (unsigned i = 0; i < n; i++)
    j->m->xUnpin(j->cache, j->m->xFetch(j->cache, MAX_PAGES, 2), 1);
}

static void create_and_destroy(void *arg, unsigned n)
{
  const job *j = arg;
  for (unsigned i = 0; i < n; i++) {
    sqlite3_pcache *c = j->m->xCreate(PAGE, EXTRA, 1);
    j->m->xCachesize(c, 500);
    j->m->xUnpin(c, j->m->xFetch(c, 1, 2), 0);
    j->m->xDestroy(c);
  }
}

static void bench_change(void)
{
  job ours = {&pcache_methods, filled(&pcache_methods, 500), NULL, 0};
  job theirs = {&builtin, filled(&builtin, 500), NULL, 0};
  ours.m->xCachesize(ours.cache, 500);
  theirs.m->xCachesize(theirs.cache, 500);
  bench_line l[] = {
      {"new page for an old one", replace, &ours, 20000, {0}},
      {"new page for an old one, built-in", replace, &theirs, 20000, {0}},
      {"new cache, one page, destroyed", create_and_destroy, &ours, 5000, {0}},
      {"new cache, one page, destroyed, built-in",
       create_and_destroy,
       &theirs,
       5000,
       {0}},
  };
  bench_group("pages that come and go, cache_size 500", l, BENCH_COUNT(l));
  ours.m->xCachesize(ours.cache, 1000);
  theirs.m->xCachesize(theirs.cache, 1000);
  bench_line k[] = {
      {"new page, discarded", come_and_go, &ours, 20000, {0}},
      {"new page, discarded, built-in", come_and_go, &theirs, 20000, {0}},
  };
  bench_group("pages that come and go, below cache_size", k, BENCH_COUNT(k));
  ours.m->xDestroy(ours.cache);
  theirs.m->xDestroy(theirs.cache);
}

/* ------------------------------------------------------------------- memory */

/* Resident bytes of the process. */
static double resident(void)
{
  long all, pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f == NULL || fscanf(f, "%ld %ld", &all, &pages) != 2)
    exit(1);
  fclose(f);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void memory_line(const char *name, double bytes)
{
  printf("| %-46s | %9.0f | %9.1f |\n", name, bytes / MAX_PAGES,
         bytes / (1 << 20));
}

static void begin(void)
{
  pagedb_pool_options o = {.capacity = (uint64_t)1 << 30};
  sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &builtin);
  sqlite3_initialize();
  bench_must(pagedb_pool_open(&o, &pool));
  pcache_setup(the_pool, NULL);
  pcache_methods.xInit(NULL);
}

static void memory_ours(void)
{
  uint64_t used;
  begin();
  double before = resident();
  sqlite3_pcache *c = filled(&pcache_methods, MAX_PAGES);
  memory_line("cached", resident() - before);
  bench_must(pagedb_pool_resize(pool, 64 << 20, &used));
  memory_line("pool size set to 64 MiB", resident() - before);
  pcache_methods.xShrink(c);
  memory_line("PRAGMA shrink_memory", resident() - before);
  pcache_methods.xDestroy(c);
  memory_line("closed", resident() - before);
}

/* Another connection takes the pages; headers stay until the first one meets,
** shrinks or closes. Then more than the budget, pinned. */
static void memory_taken(void)
{
  uint64_t used;
  begin();
  double before = resident();
  sqlite3_pcache *c = filled(&pcache_methods, MAX_PAGES);
  bench_must(pagedb_pool_resize(pool, (uint64_t)MAX_PAGES * PAGE, &used));
  sqlite3_pcache *other = filled(&pcache_methods, MAX_PAGES);
  memory_line("two connections want the pool each", resident() - before);
  pcache_methods.xDestroy(other);
  pcache_methods.xShrink(c);
  memory_line("one closed, PRAGMA shrink_memory in the other",
              resident() - before);
  for (unsigned key = 1; key <= MAX_PAGES; key++)
    memset(pcache_methods.xFetch(c, key, 2)->pBuf, 1, PAGE);
  memory_line("a transaction that may not spill", resident() - before);
  for (unsigned key = 1; key <= MAX_PAGES; key++)
    pcache_methods.xUnpin(c, pcache_methods.xFetch(c, key, 0), 0);
  memory_line("committed: three quarters of the pool", resident() - before);
  pcache_methods.xShrink(c);
  memory_line("PRAGMA shrink_memory", resident() - before);
}

static void memory_database(void)
{
  begin();
  double before = resident();
  sqlite3_pcache *c = pcache_methods.xCreate(PAGE, EXTRA, 0);
  for (unsigned key = 1; key <= MAX_PAGES; key++) {
    sqlite3_pcache_page *p = pcache_methods.xFetch(c, key, 2);
    memset(p->pBuf, 1, PAGE);
    memset(p->pExtra, 1, EXTRA);
  }
  memory_line("database in memory", resident() - before);
  pcache_methods.xTruncate(c, MAX_PAGES / 4);
  memory_line("a quarter of it after VACUUM", resident() - before);
  pcache_methods.xDestroy(c);
  memory_line("closed", resident() - before);
}

static void memory_builtin(void)
{
  begin();
  double before = resident();
  sqlite3_pcache *c = filled(&builtin, MAX_PAGES);
  memory_line("cached, built-in", resident() - before);
  builtin.xShrink(c);
  memory_line("PRAGMA shrink_memory, built-in", resident() - before);
  builtin.xDestroy(c);
  memory_line("closed, built-in", resident() - before);
}

/* In a process of its own: what was freed before would blur it. */
static void alone(void (*measure)(void))
{
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    measure();
    fflush(stdout);
    _exit(0);
  }
  int status;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
    exit(1);
}

static void speed(void)
{
  begin();
  bench_speed(1000);
  bench_speed(10000);
  bench_speed(MAX_PAGES);
  bench_change();
}

int main(void)
{
  printf("\nSQLite's page cache: pages of %d bytes with %d extra bytes, beside "
         "the built-in cache of SQLite %s.\n\n",
         PAGE, EXTRA, sqlite3_libversion());
  bench_table();
  alone(speed);
  printf("\n| resident memory, %d pages | bytes a page | MiB |\n"
         "|---|---|---|\n",
         MAX_PAGES);
  alone(memory_ours);
  alone(memory_taken);
  alone(memory_database);
  alone(memory_builtin);
  return 0;
}
