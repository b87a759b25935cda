/*
** test_pcache.c - SQLite's page cache on the pool: the contract of
** sqlite3_pcache_methods2 method by method, the budget, random operations
** against a reference cache, threads, memory that runs out.
**
** The methods are called as SQLite calls them, without SQLite. What goes
** through SQL is in test_pcache_sql.c. Every test runs twice: with the
** asymmetric fence and, PAGEDB_MEMBARRIER=0, with full fences. In one file, long
** as it is, because its parts share the helpers at its head and the reference cache.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/private.h"
#include "../pcache/pcache.h"
#include "fault_store.h"
#include "util.h"

enum { PAGE = 4096, EXTRA = 224 };

static pagedb_pool *pool;
static const sqlite3_pcache_methods2 *const m = &pcache_methods;

static pagedb_pool *the_pool(void)
{
  return pool;
}

static void pool_begin(uint64_t capacity, uint64_t reserve)
{
  pagedb_pool_options o = {.capacity = capacity, .reserve = reserve};
  ok(pagedb_pool_open(&o, &pool));
  pcache_setup(the_pool, NULL);
  assert_int_equal(m->xInit(m->pArg), SQLITE_OK);
  assert_true(pcache_is_active());
}

static void pool_end(void)
{
  pagedb_pool_stats st;
  pagedb_pool_stats_get(pool, &st);
  assert_int_equal(st.private_pages, 0);
  assert_int_equal(st.outside_bytes, 0);
  assert_int_equal(st.excess_bytes, 0);
  m->xShutdown(m->pArg);
  assert_false(pcache_is_active());
  ok(pagedb_pool_close(pool));
}

static pagedb_pool_stats stats(void)
{
  pagedb_pool_stats st;
  pagedb_pool_stats_get(pool, &st);
  return st;
}

static sqlite3_pcache *cache_new(int purgeable, int most)
{
  sqlite3_pcache *c = m->xCreate(PAGE, EXTRA, purgeable);
  assert_non_null(c);
  m->xCachesize(c, most);
  return c;
}

/* Fill in the page, as SQLite does with a new one. */
static void write_sized(sqlite3_pcache_page *p, size_t size, uint64_t v)
{
  memcpy(p->pBuf, &v, sizeof v);
  memcpy((char *)p->pBuf + size - sizeof v, &v, sizeof v);
  memcpy(p->pExtra, &v, sizeof v);
  memcpy((char *)p->pExtra + EXTRA - sizeof v, &v, sizeof v);
}

static void write_page(sqlite3_pcache_page *p, uint64_t v)
{
  write_sized(p, PAGE, v);
}

static void check_page(sqlite3_pcache_page *p, uint64_t v)
{
  assert_memory_equal(p->pBuf, &v, sizeof v);
  assert_memory_equal((char *)p->pBuf + PAGE - sizeof v, &v, sizeof v);
  assert_memory_equal(p->pExtra, &v, sizeof v);
  assert_memory_equal((char *)p->pExtra + EXTRA - sizeof v, &v, sizeof v);
}

static int is_new(const sqlite3_pcache_page *p)
{
  void *first;
  memcpy(&first, p->pExtra, sizeof first);
  return first == NULL;
}

/* Fetch with createFlag 2; the page must be a new one. */
static sqlite3_pcache_page *make(sqlite3_pcache *c, unsigned key, uint64_t v)
{
  sqlite3_pcache_page *p = m->xFetch(c, key, 2);
  assert_non_null(p);
  assert_true(is_new(p));
  write_page(p, v);
  return p;
}

static int has(sqlite3_pcache *c, unsigned key)
{
  sqlite3_pcache_page *p = m->xFetch(c, key, 0);
  if (p != NULL)
    m->xUnpin(c, p, 0);
  return p != NULL;
}

/* ---------------------------------------------------------------- contract */

static void test_fetch_and_unpin(void **state)
{
  (void)state;
  pool_begin(64 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 100);
  assert_null(m->xFetch(c, 1, 0));
  sqlite3_pcache_page *p = make(c, 1, 11);
  assert_int_equal((uintptr_t)p->pBuf % PAGE, 0);
  assert_int_equal((uintptr_t)p->pExtra % 8, 0);
  assert_int_equal(m->xPagecount(c), 1);
  /* No counting of references: a second fetch, and one unpin. */
  assert_ptr_equal(m->xFetch(c, 1, 1), p);
  m->xUnpin(c, p, 0);
  assert_int_equal(m->xPagecount(c), 1);
  assert_ptr_equal(m->xFetch(c, 1, 2), p);
  check_page(p, 11);
  m->xUnpin(c, p, 1);
  assert_int_equal(m->xPagecount(c), 0);
  assert_null(m->xFetch(c, 1, 0));
  m->xDestroy(c);
  pool_end();
}

static void test_every_size(void **state)
{
  (void)state;
  static const int extras[] = {8, 9, 100, 136, 224, 249};
  pool_begin(8 << 20, 0);
  assert_null(m->xCreate(256, EXTRA, 1));
  assert_null(m->xCreate(1000, EXTRA, 1));
  for (int size = 512; size <= 65536; size *= 2)
    for (unsigned i = 0; i < sizeof extras / sizeof extras[0]; i++) {
      sqlite3_pcache *c = m->xCreate(size, extras[i], 1);
      unsigned align = size < 4096 ? (unsigned)size : 4096;
      assert_non_null(c);
      m->xCachesize(c, 40);
      for (unsigned key = 1; key <= 60; key++) {
        sqlite3_pcache_page *p = m->xFetch(c, key, 2);
        assert_non_null(p);
        assert_true(is_new(p));
        assert_int_equal((uintptr_t)p->pBuf % align, 0);
        memset(p->pBuf, (int)key, (size_t)size);
        memset(p->pExtra, (int)key, (size_t)extras[i]);
        /* SQLite may look 16 bytes behind a page. */
        volatile unsigned char *behind = (unsigned char *)p->pBuf + size;
        for (int k = 0; k < 16; k++)
          (void)behind[k];
        m->xUnpin(c, p, 0);
      }
      for (unsigned key = 1; key <= 60; key++) {
        sqlite3_pcache_page *p = m->xFetch(c, key, 0);
        if (p == NULL)
          continue;
        const unsigned char *b = p->pBuf, *x = p->pExtra;
        assert_true(b[0] == key && b[size - 1] == key);
        assert_true(x[0] == key && x[extras[i] - 1] == key);
        m->xUnpin(c, p, 0);
      }
      m->xDestroy(c);
    }
  pool_end();
}

static void test_rekey(void **state)
{
  (void)state;
  pool_begin(64 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 100);
  sqlite3_pcache_page *a = make(c, 1, 11), *b = make(c, 2, 22);
  m->xUnpin(c, b, 0);
  m->xRekey(c, a, 1, 2); /* what stands there is discarded */
  assert_int_equal(m->xPagecount(c), 1);
  assert_null(m->xFetch(c, 1, 0));
  assert_ptr_equal(m->xFetch(c, 2, 0), a);
  check_page(a, 11);
  m->xRekey(c, a, 2, 900000);
  assert_ptr_equal(m->xFetch(c, 900000, 0), a);
  m->xTruncate(c, 900000);
  assert_int_equal(m->xPagecount(c), 0);
  m->xDestroy(c);
  pool_end();
}

static void test_truncate(void **state)
{
  (void)state;
  pool_begin(1024 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 1000);
  for (unsigned key = 1; key <= 300; key++) {
    sqlite3_pcache_page *p = make(c, key, key);
    if (key % 3 != 0) /* a third stays pinned */
      m->xUnpin(c, p, 0);
  }
  m->xTruncate(c, 301);
  assert_int_equal(m->xPagecount(c), 300);
  m->xTruncate(c, 295);
  assert_int_equal(m->xPagecount(c), 294);
  m->xTruncate(c, 101);
  assert_int_equal(m->xPagecount(c), 100);
  for (unsigned key = 1; key <= 300; key++)
    assert_int_equal(m->xFetch(c, key, 0) != NULL, key <= 100);
  m->xTruncate(c, 0);
  assert_int_equal(m->xPagecount(c), 0);
  /* Truncated pages are new when they come again. */
  for (unsigned key = 1; key <= 300; key++)
    make(c, key, key);
  m->xDestroy(c);
  pool_end();
}

/* With cache_size pages there, an unpinned one makes room for a new one. */
static void test_cache_size(void **state)
{
  (void)state;
  pool_begin(1024 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 50);
  for (unsigned key = 1; key <= 500; key++)
    m->xUnpin(c, make(c, key, key), 0);
  assert_in_range(m->xPagecount(c), 40, 50);
  /* Pinned pages may exceed it; unpinned, they go. */
  sqlite3_pcache_page *p[100];
  for (unsigned i = 0; i < 100; i++)
    p[i] = make(c, 1000 + i, i);
  assert_in_range(m->xPagecount(c), 100, 101);
  for (unsigned i = 0; i < 100; i++)
    m->xUnpin(c, p[i], 0);
  assert_in_range(m->xPagecount(c), 40, 50);
  m->xCachesize(c, 10);
  assert_int_equal(m->xPagecount(c), 10);
  m->xShrink(c);
  assert_int_equal(m->xPagecount(c), 0);
  m->xDestroy(c);
  pool_end();
}

/* Pages that are fetched again and again outlive those seen once. */
static void test_second_chance(void **state)
{
  (void)state;
  pool_begin(1024 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 50);
  for (unsigned key = 1; key <= 20; key++)
    m->xUnpin(c, make(c, key, key), 0);
  for (unsigned scan = 100; scan < 1000; scan++) {
    unsigned hot = scan % 20 + 1;
    sqlite3_pcache_page *p = m->xFetch(c, hot, 0);
    assert_non_null(p);
    check_page(p, hot);
    m->xUnpin(c, p, 0);
    m->xUnpin(c, make(c, scan, scan), 0);
  }
  m->xDestroy(c);
  pool_end();
}

/* createFlag 1 says no from nine tenths of cache_size on: SQLite spills then. */
static void test_flag_1_spills(void **state)
{
  (void)state;
  pool_begin(1024 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 100);
  unsigned key = 1;
  while (m->xFetch(c, key, 1) != NULL)
    key++;
  assert_int_equal(key, 91);
  assert_int_equal(m->xPagecount(c), 90);
  make(c, key, key);
  m->xUnpin(c, m->xFetch(c, 1, 0), 0);
  m->xUnpin(c, m->xFetch(c, 2, 0), 0);
  assert_non_null(m->xFetch(c, 200, 1));
  m->xDestroy(c);
  pool_end();
}

/* Memory databases: outside of the budget, counted, and never taken. */
static void test_not_purgeable(void **state)
{
  (void)state;
  pool_begin(32 * PAGE, 0);
  sqlite3_pcache *mem = cache_new(0, 10), *busy = cache_new(1, 1000);
  for (unsigned key = 1; key <= 200; key++)
    make(mem, key, key);
  assert_int_equal(stats().outside_bytes, 200 * PAGE);
  assert_int_equal(stats().used_bytes, 0);
  for (unsigned key = 1; key <= 500; key++)
    m->xUnpin(busy, make(busy, key, key), 0);
  assert_int_equal(stats().used_bytes, 24 * PAGE);
  assert_int_equal(m->xPagecount(mem), 200);
  m->xShrink(mem);
  for (unsigned key = 1; key <= 200; key++) {
    sqlite3_pcache_page *p = m->xFetch(mem, key, 0);
    assert_non_null(p);
    check_page(p, key);
    m->xUnpin(mem, p, 0); /* SQLite does not; nothing may be lost by it */
    assert_ptr_equal(m->xFetch(mem, key, 0), p);
  }
  m->xUnpin(mem, m->xFetch(mem, 7, 0), 1);
  assert_int_equal(stats().outside_bytes, 199 * PAGE);
  m->xDestroy(mem);
  m->xDestroy(busy);
  pool_end();
}

/* ------------------------------------------------------------------- budget */

/* A cache has three quarters of the budget; what it must have beyond that is
** counted, and goes when it is unpinned. */
static void test_budget_is_kept(void **state)
{
  (void)state;
  enum { FRAMES = 40, SHARE = 30 };
  sqlite3_pcache_page *p[2 * SHARE];
  pool_begin(FRAMES * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 1000);
  unsigned n = 0;
  for (; (p[n] = m->xFetch(c, n + 1, 1)) != NULL; n++)
    write_page(p[n], n);
  assert_int_equal(n, SHARE); /* all pinned: flag 1 says no */
  for (; n < 2 * SHARE; n++)
    p[n] = make(c, n + 1, n);
  assert_int_equal(stats().used_bytes, SHARE * PAGE);
  assert_int_equal(stats().excess_bytes, SHARE * PAGE);
  assert_int_equal(stats().private_excesses, SHARE);
  for (unsigned i = 0; i < SHARE; i++) {
    check_page(p[SHARE + i], SHARE + i);
    m->xUnpin(c, p[SHARE + i], 0);
    assert_int_equal(stats().excess_bytes, (SHARE - 1 - i) * PAGE);
  }
  for (unsigned i = 0; i < SHARE; i++)
    m->xUnpin(c, p[i], 0);
  for (unsigned i = 0; i < 2 * SHARE; i++)
    assert_int_equal(has(c, i + 1), i < SHARE);
  assert_int_equal(stats().used_bytes, SHARE * PAGE);
  m->xDestroy(c);
  pool_end();
}

/* A large page beyond the budget is nobody's debt: caches of small pages keep
** theirs. */
static void test_sizes_do_not_owe(void **state)
{
  (void)state;
  enum { SMALL = 64 };
  sqlite3_pcache_page *p[2][SMALL];
  pool_begin(256 * PAGE, 0);
  sqlite3_pcache *small[2] = {cache_new(1, 1000), cache_new(1, 1000)};
  sqlite3_pcache *large = m->xCreate(16 * PAGE, EXTRA, 1);
  m->xCachesize(large, 100);
  for (unsigned i = 0; i < SMALL; i++)
    for (unsigned k = 0; k < 2; k++)
      p[k][i] = make(small[k], i + 1, i);
  sqlite3_pcache_page *big[16];
  for (unsigned i = 0; i < 16; i++)
    assert_non_null(big[i] = m->xFetch(large, i + 1, 2));
  /* 128 pages are left: six large ones are three quarters of it. */
  assert_int_equal(stats().excess_bytes, 10 * 16 * PAGE);
  for (unsigned i = 0; i < SMALL; i++)
    for (unsigned k = 0; k < 2; k++)
      m->xUnpin(small[k], p[k][i], 0);
  for (unsigned i = 0; i < SMALL; i++)
    for (unsigned k = 0; k < 2; k++)
      assert_true(has(small[k], i + 1));
  for (unsigned i = 0; i < 16; i++)
    m->xUnpin(large, big[i], 0);
  assert_int_equal(stats().excess_bytes, 0);
  assert_int_equal(m->xPagecount(large), 6);
  /* Frames that are free are room for pages of another size. */
  m->xDestroy(small[0]);
  m->xDestroy(small[1]);
  for (unsigned i = 0; i < 12; i++)
    assert_non_null(m->xFetch(large, i + 1, 1));
  assert_int_equal(stats().excess_bytes, 0);
  m->xDestroy(large);
  pool_end();
}

/* An idle cache's pages are the victims of a busy one, and it can tell. */
static void test_idle_gives(void **state)
{
  (void)state;
  pool_begin(100 * PAGE, 0);
  sqlite3_pcache *idle = cache_new(1, 1000), *busy = cache_new(1, 1000);
  for (unsigned key = 1; key <= 100; key++)
    m->xUnpin(idle, make(idle, key, key), 0);
  for (unsigned key = 1; key <= 60; key++)
    m->xUnpin(busy, make(busy, key, key), 0);
  /* Victims come in small batches. */
  assert_in_range(m->xPagecount(idle) + m->xPagecount(busy), 94, 100);
  assert_int_equal(m->xPagecount(busy), 60);
  assert_in_range(stats().private_taken, 35, 41);
  int left = m->xPagecount(idle), found = 0;
  for (unsigned key = 1; key <= 100; key++)
    found += has(idle, key);
  assert_int_equal(found, left);
  m->xDestroy(idle);
  m->xDestroy(busy);
  pool_end();
}

/* Caches that pin without end leave a share to each other, and to the pages of
** stores. */
static void test_nobody_starves(void **state)
{
  (void)state;
  enum { FRAMES = 256, HOT = 4 };
  pagedb_owner *owner;
  pagedb_session *s;
  pagedb_pin pin;
  pool_begin(FRAMES * PAGE, 0);
  fault_store *disk = fault_store_new(PAGE);
  ok(pagedb_owner_open(pool, fault_store_base(disk), &owner));
  ok(pagedb_session_open(pool, &s));
  for (uint64_t id = 0; id < HOT; id++) {
    ok(pagedb_fetch_new(s, owner, id, &pin));
    pagedb_unpin(&pin);
  }
  ok(pagedb_checkpoint(s, owner));
  sqlite3_pcache *greedy[3];
  const unsigned share[3] = {192, 48, 12};
  for (unsigned i = 0; i < 3; i++) {
    unsigned key = 1;
    uint64_t misses = stats().private_misses;
    greedy[i] = cache_new(1, 100000);
    while (m->xFetch(greedy[i], key, 1) != NULL)
      key++;
    assert_int_equal(stats().private_misses - misses, key - 1);
    assert_in_range(key - 1, share[i] - 2, share[i]);
    for (unsigned more = 0; more < 200; more++)
      make(greedy[i], key + more, more);
  }
  assert_in_range(stats().excess_bytes, 600 * PAGE, 600 * PAGE);
  /* Read once more at most, and then hits. */
  for (unsigned round = 0; round < 10; round++) {
    uint64_t misses = stats().misses;
    for (uint64_t id = 0; id < HOT; id++) {
      ok(pagedb_fetch(s, owner, id, &pin));
      pagedb_unpin(&pin);
    }
    if (round > 0)
      assert_int_equal(stats().misses, misses);
  }
  assert_int_equal(stats().exhausted, 0);
  assert_true(stats().used_bytes <= FRAMES * PAGE);
  for (unsigned i = 0; i < 3; i++)
    m->xDestroy(greedy[i]);
  assert_int_equal(stats().excess_bytes, 0);
  ok(pagedb_owner_close(owner));
  ok(pagedb_session_close(s));
  fault_store_free(disk);
  pool_end();
}

/* The hand meets a pinned page once, not at every miss; unpinned, the page is
** in its way again. */
static void test_pinned_are_put_aside(void **state)
{
  (void)state;
  enum { FRAMES = 4096, TIMES = 200 };
  static sqlite3_pcache_page *p[FRAMES];
  unsigned n = 0;
  pool_begin(FRAMES * PAGE, 0);
  sqlite3_pcache *a = cache_new(1, 100000), *b = cache_new(1, 100000);
  while ((p[n] = m->xFetch(a, n + 1, 1)) != NULL)
    n++;
  assert_int_equal(n, FRAMES / 4 * 3);
  sqlite3_pcache *c = cache_new(1, 100000), *d = cache_new(1, 100000);
  for (unsigned key = 1; key <= 700; key++) {
    m->xUnpin(b, make(b, key, key), 0);
    m->xUnpin(c, make(c, key, key), 0);
  }
  /* Each pinned page was met once; else a step or two a page. */
  assert_int_equal(stats().private_aside, n);
  assert_true(stats().hand_steps <= n + 4 * 1400);
  uint64_t before = stats().hand_steps;
  for (unsigned key = 1; key <= TIMES; key++)
    m->xUnpin(d, make(d, key, key), 0);
  assert_true(stats().hand_steps - before <= 4 * TIMES + 64);
  for (unsigned i = 0; i < n; i++) {
    assert_ptr_equal(m->xFetch(a, i + 1, 0), p[i]);
    m->xUnpin(a, p[i], 0);
  }
  uint64_t taken = stats().private_taken;
  for (unsigned key = FRAMES + 1; key <= 2 * FRAMES; key++)
    m->xUnpin(b, make(b, key, key), 0);
  assert_true(stats().private_taken > taken + FRAMES / 2);
  assert_true(m->xPagecount(a) < (int)n / 2);
  m->xTruncate(a, 10);
  assert_true(m->xPagecount(a) < 10);
  m->xDestroy(a);
  m->xDestroy(b);
  m->xDestroy(c);
  m->xDestroy(d);
  pool_end();
}

/* A cache's own search for a victim passes pinned pages, which must not be
** lost by it, nor be found by later searches while they are pinned. */
static void test_own_pinned_are_parked(void **state)
{
  (void)state;
  enum { SIZE = 100 };
  sqlite3_pcache_page *p[SIZE];
  pool_begin(1024 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, SIZE);
  for (unsigned i = 0; i < SIZE; i++)
    p[i] = make(c, i + 1, i);
  for (unsigned i = 0; i < SIZE; i += 10)
    m->xUnpin(c, p[i], 0);
  for (unsigned key = 1000; key < 1100; key++)
    m->xUnpin(c, make(c, key, key), 0);
  for (unsigned i = 0; i < SIZE; i++)
    if (i % 10 != 0) {
      check_page(p[i], i);
      assert_ptr_equal(m->xFetch(c, i + 1, 0), p[i]);
    }
  assert_int_equal(m->xPagecount(c), SIZE);
  m->xTruncate(c, 51);
  for (unsigned i = 0; i < 50; i++)
    if (i % 10 != 0)
      m->xUnpin(c, p[i], 0);
  for (unsigned key = 1000; key < 1200; key++)
    m->xUnpin(c, make(c, key, key), 0);
  for (unsigned i = 0; i < SIZE; i++)
    assert_false(has(c, i + 1));
  assert_in_range(m->xPagecount(c), SIZE - 1, SIZE);
  m->xDestroy(c);
  pool_end();
}

/* A smaller budget takes what is unpinned, and then what gets unpinned. */
static void test_resize(void **state)
{
  (void)state;
  sqlite3_pcache_page *p[50];
  uint64_t used;
  pool_begin(100 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 1000);
  for (unsigned i = 0; i < 50; i++)
    p[i] = make(c, i + 1, i);
  for (unsigned i = 50; i < 100; i++)
    m->xUnpin(c, make(c, i + 1, i), 0);
  ok(pagedb_pool_resize(pool, 20 * PAGE, &used));
  assert_int_equal(used, 50 * PAGE);
  assert_int_equal(m->xPagecount(c), 50);
  for (unsigned i = 0; i < 50; i++)
    check_page(p[i], i);
  for (unsigned i = 0; i < 50; i++)
    m->xUnpin(c, p[i], 0);
  assert_int_equal(m->xPagecount(c), 20);
  assert_int_equal(stats().used_bytes, 20 * PAGE);
  for (unsigned i = 0; i < 50; i++)
    p[i] = make(c, 100 + i, i);
  assert_int_equal(stats().excess_bytes, 30 * PAGE);
  ok(pagedb_pool_resize(pool, 100 * PAGE, NULL));
  /* In the larger one nothing is slow, and all that is unpinned stays, but
  ** excess. */
  private_set set;
  ok(private_open(pool, &set, PAGE, 1));
  assert_int_equal(atomic_load(set.slow), POOL_FAST);
  private_close(&set);
  for (unsigned i = 0; i < 50; i++)
    m->xUnpin(c, p[i], 0);
  assert_int_equal(stats().excess_bytes, 0);
  for (unsigned i = 0; i < 50; i++)
    m->xUnpin(c, make(c, 200 + i, i), 0);
  assert_int_equal(m->xPagecount(c), 20 + 50);
  m->xDestroy(c);
  pool_end();
}

static uint64_t resident_bytes(void)
{
  unsigned long all, pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  assert_non_null(f);
  assert_int_equal(fscanf(f, "%lu %lu", &all, &pages), 2);
  fclose(f);
  return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What is outside of the budget takes no address of the pool, and goes back to
** the system. */
static void test_outside_of_the_arena(void **state)
{
  (void)state;
  enum { SIZE = 65536, PAGES = 1000 };
  static sqlite3_pcache_page *p[PAGES];
  pool_begin(1 << 20, 1 << 20);
  uint64_t before = resident_bytes();
  for (int purgeable = 0; purgeable < 2; purgeable++) {
    sqlite3_pcache *big = m->xCreate(SIZE, EXTRA, purgeable);
    sqlite3_pcache *disk = m->xCreate(SIZE, EXTRA, 1);
    m->xCachesize(big, 10000);
    m->xCachesize(disk, 1000);
    for (unsigned i = 0; i < PAGES; i++) {
      p[i] = m->xFetch(big, i + 1, 2);
      assert_non_null(p[i]);
      assert_int_equal((uintptr_t)p[i]->pBuf % 4096, 0);
      memset(p[i]->pBuf, (int)i, SIZE);
    }
    assert_int_equal(stats().outside_bytes, purgeable ? 0 : PAGES * SIZE);
    assert_int_equal(stats().excess_bytes, purgeable ? (PAGES - 12) * SIZE : 0);
    assert_int_equal(stats().used_bytes, purgeable ? 12 * SIZE : 0);
    assert_true(resident_bytes() - before >= (uint64_t)PAGES * SIZE);
    for (unsigned key = 1; key <= 3; key++) /* there is a share of the rest */
      assert_non_null(m->xFetch(disk, key, 1));
    for (unsigned i = 0; i < PAGES; i++) {
      assert_int_equal(((unsigned char *)p[i]->pBuf)[SIZE - 1], i & 255);
      m->xUnpin(big, p[i], !purgeable);
    }
    assert_int_equal(m->xPagecount(big), purgeable ? 12 : 0);
    assert_int_equal(stats().outside_bytes + stats().excess_bytes, 0);
    assert_true(resident_bytes() <= before + (PAGES / 10 * SIZE));
    m->xDestroy(big);
    m->xDestroy(disk);
  }
  pool_end();
}

/* Pages of stores and of caches are victims of one clock. */
static void test_stores_and_caches(void **state)
{
  (void)state;
  pagedb_owner *owner;
  pagedb_session *s;
  pagedb_pin pin;
  pool_begin(64 * PAGE, 0);
  fault_store *disk = fault_store_new(PAGE);
  ok(pagedb_owner_open(pool, fault_store_base(disk), &owner));
  ok(pagedb_session_open(pool, &s));
  for (uint64_t id = 0; id < 200; id++) {
    ok(pagedb_fetch_new(s, owner, id, &pin));
    ok(pagedb_mark_dirty(&pin, id));
    pagedb_unpin(&pin);
  }
  ok(pagedb_checkpoint(s, owner));
  sqlite3_pcache *c = cache_new(1, 1000);
  /* Wherever the hand is: a loop pushes out what nobody uses, in time. */
  for (unsigned i = 0; i < 3 * 64; i++)
    m->xUnpin(c, m->xFetch(c, i % 40 + 1, 2), 0);
  uint64_t resident;
  pagedb_owner_counts(owner, &resident, NULL);
  assert_in_range(resident + (uint64_t)m->xPagecount(c), 60, 64);
  for (unsigned key = 1; key <= 40; key++)
    assert_true(has(c, key));
  for (uint64_t id = 0; id < 200; id++) {
    ok(pagedb_fetch(s, owner, id, &pin));
    assert_int_equal(pagedb_pin_lsn(&pin), id);
    pagedb_unpin(&pin);
  }
  assert_true(m->xPagecount(c) < 40);
  assert_int_equal(stats().used_bytes, 64 * PAGE);
  m->xDestroy(c);
  ok(pagedb_owner_close(owner));
  ok(pagedb_session_close(s));
  fault_store_free(disk);
  pool_end();
}

/* In a forked child a memory database goes on; of other caches the unpinned pages
** are gone. All can be closed. */
static int use_in_child(sqlite3_pcache *mem, sqlite3_pcache *c,
                        sqlite3_pcache_page *pinned)
{
  for (unsigned key = 1; key <= 50; key++) {
    sqlite3_pcache_page *p = m->xFetch(mem, key, 0);
    uint64_t v = key;
    if (p == NULL || memcmp(p->pBuf, &v, sizeof v) != 0)
      return 1;
    if (key % 2 == 0)
      m->xUnpin(mem, p, 0);
    p = m->xFetch(mem, key, 0);
    if (p == NULL || memcmp(p->pBuf, &v, sizeof v) != 0)
      return 8;
    p = m->xFetch(mem, 100 + key, 2);
    if (p == NULL)
      return 2;
    memset(p->pBuf, 1, PAGE);
  }
  m->xUnpin(mem, m->xFetch(mem, 7, 0), 1);
  if (m->xPagecount(mem) != 99)
    return 3;
  if (m->xFetch(c, 2, 0) != NULL || m->xFetch(c, 3, 1) != NULL)
    return 4;
  sqlite3_pcache_page *p = m->xFetch(c, 4, 2);
  if (p == NULL || !is_new(p))
    return 5;
  memset(p->pBuf, 1, PAGE);
  m->xUnpin(c, p, 0);
  m->xShrink(c);
  m->xUnpin(c, pinned, 0);
  m->xCachesize(c, 1);
  if (m->xPagecount(c) != 0)
    return 6;
  m->xTruncate(c, 1);
  m->xDestroy(c);
  m->xDestroy(mem);
  sqlite3_pcache *own = m->xCreate(PAGE, EXTRA, 1);
  p = own == NULL ? NULL : m->xFetch(own, 1, 2);
  if (p == NULL)
    return 7;
  memset(p->pBuf, 1, PAGE);
  m->xDestroy(own);
  return 0;
}

static void test_fork(void **state)
{
  (void)state;
  pool_begin(64 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 100), *mem = cache_new(0, 100);
  for (unsigned key = 1; key <= 50; key++)
    make(mem, key, key);
  sqlite3_pcache_page *pinned = make(c, 1, 11);
  m->xUnpin(c, make(c, 2, 22), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    pagedb_pool_options o = {.capacity = 64 * PAGE};
    pagedb_pool_forked(pool);
    if (pagedb_pool_open(&o, &pool) != PAGEDB_OK)
      _exit(100);
    _exit(use_in_child(mem, c, pinned));
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  check_page(pinned, 11);
  assert_int_equal(m->xPagecount(mem), 50);
  m->xDestroy(c);
  m->xDestroy(mem);
  pool_end();
}

/* ---------------------------------------------------------- reference cache */

enum { KEYS = 400 };

/* cmocka's checks are for its own thread, and these run in others as well. */
#define require(x)                                                             \
  do {                                                                         \
    if (!(x)) {                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                  \
      abort();                                                                 \
    }                                                                          \
  } while (0)

static void require_page(sqlite3_pcache_page *p, size_t size, uint64_t v)
{
  require(memcmp(p->pBuf, &v, sizeof v) == 0);
  require(memcmp((char *)p->pBuf + size - sizeof v, &v, sizeof v) == 0);
  require(memcmp(p->pExtra, &v, sizeof v) == 0);
  require(memcmp((char *)p->pExtra + EXTRA - sizeof v, &v, sizeof v) == 0);
}

/* What is known of a cache: which pages it may have, which it must have. */
typedef struct reference {
  sqlite3_pcache *cache;
  uint64_t random;
  uint64_t value[KEYS + 1]; /* 0: it must not have the page */
  sqlite3_pcache_page *pinned[KEYS + 1];
  unsigned npinned;
  unsigned most;
  int purgeable;
  size_t size;
} reference;

static void reference_open(reference *r, uint64_t seed, int purgeable)
{
  memset(r, 0, sizeof *r);
  r->random = seed;
  r->purgeable = purgeable;
  r->most = 60;
  r->size = (size_t)512 << random_below(&r->random, 6);
  r->cache = m->xCreate((int)r->size, EXTRA, purgeable);
  require(r->cache != NULL);
  m->xCachesize(r->cache, (int)r->most);
}

static void got(reference *r, unsigned key, sqlite3_pcache_page *p)
{
  if (r->pinned[key] != NULL)
    require(r->pinned[key] == p);
  else
    r->npinned++;
  r->pinned[key] = p;
  if (is_new(p)) {
    /* A page that was pinned is never lost. */
    r->value[key] = next_random(&r->random) | 1;
    write_sized(p, r->size, r->value[key]);
  } else {
    require(r->value[key] != 0);
    require_page(p, r->size, r->value[key]);
  }
}

static void lost(reference *r, unsigned key)
{
  r->value[key] = 0;
  r->npinned -= r->pinned[key] != NULL;
  r->pinned[key] = NULL;
}

static void do_fetch(reference *r)
{
  unsigned key = (unsigned)random_below(&r->random, KEYS) + 1;
  int create = (int)random_below(&r->random, 3);
  int was_pinned = r->pinned[key] != NULL;
  sqlite3_pcache_page *p = m->xFetch(r->cache, key, create);
  if (p != NULL) {
    if (was_pinned || create == 0)
      require(!is_new(p));
    got(r, key, p);
    return;
  }
  require(!was_pinned);
  require(create != 2);
  r->value[key] = 0;
}

static void do_unpin(reference *r)
{
  unsigned key = (unsigned)random_below(&r->random, KEYS) + 1;
  for (unsigned i = 0; i < KEYS && r->pinned[key] == NULL; i++)
    key = key % KEYS + 1;
  if (r->pinned[key] == NULL)
    return;
  int discard = !r->purgeable || random_below(&r->random, 8) == 0;
  require_page(r->pinned[key], r->size, r->value[key]);
  m->xUnpin(r->cache, r->pinned[key], discard);
  if (discard)
    lost(r, key);
  else
    r->npinned--;
  r->pinned[key] = NULL;
}

static void do_rekey(reference *r)
{
  unsigned from = (unsigned)random_below(&r->random, KEYS) + 1;
  unsigned to = (unsigned)random_below(&r->random, KEYS) + 1;
  if (r->pinned[from] == NULL || r->pinned[to] != NULL)
    return;
  m->xRekey(r->cache, r->pinned[from], from, to);
  r->pinned[to] = r->pinned[from];
  r->value[to] = r->value[from];
  r->pinned[from] = NULL;
  r->value[from] = 0;
}

static void do_truncate(reference *r)
{
  unsigned limit = KEYS + 2 - (unsigned)random_below(&r->random, 60);
  if (random_below(&r->random, 40) == 0)
    limit = (unsigned)random_below(&r->random, KEYS);
  m->xTruncate(r->cache, limit);
  for (unsigned key = limit == 0 ? 1 : limit; key <= KEYS; key++)
    lost(r, key);
}

/* Every pinned page is there with its content. */
static void check_pinned(reference *r)
{
  for (unsigned key = 1; key <= KEYS; key++)
    if (r->pinned[key] != NULL) {
      require_page(r->pinned[key], r->size, r->value[key]);
      require(m->xFetch(r->cache, key, 0) == r->pinned[key]);
    }
  require((unsigned)m->xPagecount(r->cache) >= r->npinned);
}

/* The count is exact: so many pages are found. Only without other threads. */
static void check_count(reference *r)
{
  int n = m->xPagecount(r->cache), found = 0;
  for (unsigned key = 1; key <= KEYS; key++) {
    sqlite3_pcache_page *p = m->xFetch(r->cache, key, 0);
    found += p != NULL;
    if (p == NULL)
      assert_null(r->pinned[key]);
    if (p != NULL && r->pinned[key] == NULL)
      m->xUnpin(r->cache, p, 0);
  }
  assert_int_equal(found, n);
}

static void step(reference *r)
{
  uint64_t what = random_below(&r->random, 1000);
  /* Not too much pinned: pages must come and go. */
  if (what < 600 && r->npinned < 45)
    do_fetch(r);
  else if (what < 940)
    do_unpin(r);
  else if (what < 980)
    do_rekey(r);
  else if (what < 990)
    do_truncate(r);
  else if (what < 994)
    m->xShrink(r->cache);
  else if (what < 998)
    m->xCachesize(r->cache, (int)random_below(&r->random, 2 * r->most));
  else
    check_pinned(r);
}

static void reference_close(reference *r)
{
  check_pinned(r);
  m->xDestroy(r->cache);
}

/* While the pool exceeds its budget, nothing is there but what is pinned. */
static void check_budget(reference *r, unsigned n)
{
  pagedb_pool_stats st = stats();
  if (st.used_bytes <= st.capacity_bytes)
    return;
  for (unsigned i = 0; i < n; i++)
    assert_int_equal(m->xPagecount(r[i].cache), r[i].npinned);
}

static void test_random(void **state)
{
  (void)state;
  enum { CACHES = 5 };
  static reference r[CACHES];
  uint64_t seed = test_seed("pcache random", 5);
  pool_begin(100 * PAGE, 0); /* less than the caches want */
  for (unsigned i = 0; i < CACHES; i++)
    reference_open(&r[i], next_random(&seed), i != 2);
  unsigned steps = scaled(300000);
  for (unsigned i = 0; i < steps; i++) {
    step(&r[random_below(&seed, CACHES)]);
    if (random_below(&seed, 2000) == 0)
      check_count(&r[random_below(&seed, CACHES)]);
    if (random_below(&seed, 5000) == 0)
      ok(pagedb_pool_resize(pool, (16 + random_below(&seed, 100)) * PAGE,
                            NULL));
    check_budget(r, CACHES);
  }
  assert_true(stats().private_taken > 0);
  assert_true(stats().private_excesses > 0);
  for (unsigned i = 0; i < CACHES; i++)
    reference_close(&r[i]);
  pool_end();
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 4, CACHES_EACH = 3 };

typedef struct worker {
  reference r[CACHES_EACH];
  uint64_t seed;
  unsigned steps;
} worker;

static void *work(void *arg)
{
  worker *w = arg;
  for (unsigned i = 0; i < w->steps; i++) {
    step(&w->r[random_below(&w->seed, CACHES_EACH)]);
    /* Caches come and go. */
    if (random_below(&w->seed, 3000) == 0) {
      reference *r = &w->r[random_below(&w->seed, CACHES_EACH)];
      reference_close(r);
      reference_open(r, next_random(&w->seed), random_below(&w->seed, 4) != 0);
    }
  }
  return NULL;
}

typedef struct reader {
  pagedb_owner *owner;
  pagedb_session *session;
  _Atomic int stop;
  uint64_t seed;
} reader;

/* Pages of a store, in the same pool. */
static void *read_pages(void *arg)
{
  reader *r = arg;
  while (!atomic_load(&r->stop)) {
    pagedb_pin pin;
    uint64_t id = random_below(&r->seed, 200);
    int err = pagedb_fetch(r->session, r->owner, id, &pin);
    if (err == PAGEDB_EEXHAUSTED)
      continue;
    require(err == PAGEDB_OK && pagedb_pin_lsn(&pin) == id);
    pagedb_unpin(&pin);
  }
  return NULL;
}

static void test_threads(void **state)
{
  (void)state;
  static worker w[THREADS];
  pthread_t thread[THREADS], reading;
  pagedb_pin pin;
  reader r = {.seed = test_seed("pcache threads", 7)};
  uint64_t seed = r.seed + 1;
  pool_begin(120 * PAGE, 0);
  fault_store *disk = fault_store_new(PAGE);
  ok(pagedb_owner_open(pool, fault_store_base(disk), &r.owner));
  ok(pagedb_session_open(pool, &r.session));
  for (uint64_t id = 0; id < 200; id++) {
    ok(pagedb_fetch_new(r.session, r.owner, id, &pin));
    ok(pagedb_mark_dirty(&pin, id));
    pagedb_unpin(&pin);
  }
  ok(pagedb_checkpoint(r.session, r.owner));
  for (unsigned t = 0; t < THREADS; t++) {
    w[t].seed = next_random(&seed);
    w[t].steps = scaled(100000);
    for (unsigned i = 0; i < CACHES_EACH; i++)
      reference_open(&w[t].r[i], next_random(&seed), 1);
  }
  for (unsigned t = 0; t < THREADS; t++)
    assert_int_equal(pthread_create(&thread[t], NULL, work, &w[t]), 0);
  assert_int_equal(pthread_create(&reading, NULL, read_pages, &r), 0);
  for (unsigned i = 0; i < 50; i++) {
    ok(pagedb_pool_resize(pool, (40 + random_below(&seed, 200)) * PAGE, NULL));
    usleep(1000);
  }
  for (unsigned t = 0; t < THREADS; t++)
    pthread_join(thread[t], NULL);
  atomic_store(&r.stop, 1);
  pthread_join(reading, NULL);
  assert_true(stats().private_taken > 0);
  for (unsigned t = 0; t < THREADS; t++)
    for (unsigned i = 0; i < CACHES_EACH; i++) {
      check_count(&w[t].r[i]);
      reference_close(&w[t].r[i]);
    }
  ok(pagedb_owner_close(r.owner));
  ok(pagedb_session_close(r.session));
  fault_store_free(disk);
  pool_end();
}

/* What another thread does between the claim of the hand and its second look:
** linked with --wrap, it happens in the heavy fence. */
static struct meanwhile {
  private_cell *cell;
  uint8_t pinned;
} meanwhile;

void __real_os_fence_heavy(void);
void __wrap_os_fence_heavy(void);

void __wrap_os_fence_heavy(void)
{
  if (meanwhile.cell != NULL)
    atomic_store(&meanwhile.cell->pinned, meanwhile.pinned);
  __real_os_fence_heavy();
}

/* Two sets in a pool of four frames: a has three, of which the first may be
** pinned, and b one that is. What b gets next needs a victim. */
typedef struct duel {
  private_set a, b;
  private_cell in_a[3], in_b[3];
} duel;

static void duel_begin(duel *d, int first_stays_pinned)
{
  pool_begin(4 * PAGE, 0);
  ok(private_open(pool, &d->a, PAGE, 1));
  ok(private_open(pool, &d->b, PAGE, 1));
  for (int i = 0; i < 3; i++)
    assert_non_null(private_get(&d->a, &d->in_a[i], PRIVATE_MAY));
  for (int i = first_stays_pinned; i < 3; i++)
    assert_true(private_unpin(&d->a, &d->in_a[i]));
  assert_non_null(private_get(&d->b, &d->in_b[0], PRIVATE_MAY));
}

static void duel_end(duel *d, unsigned of_b)
{
  private_cell *all_of_a[] = {&d->in_a[0], &d->in_a[1], &d->in_a[2]};
  private_cell *all_of_b[] = {&d->in_b[0], &d->in_b[1], &d->in_b[2]};
  private_drop(&d->a, all_of_a, 3, 0);
  private_drop(&d->b, all_of_b, of_b, 0);
  assert_int_equal(private_pages(&d->a) + private_pages(&d->b), 0);
  private_close(&d->a);
  private_close(&d->b);
  pool_end();
}

static int claim_of(private_cell *c)
{
  return atomic_load(&c->claim);
}

static void test_pin_meets_claim(void **state)
{
  (void)state;
  duel d;
  duel_begin(&d, 0);
  if (d.a.asymmetric) {
    meanwhile = (struct meanwhile){&d.in_a[0], 1};
    assert_non_null(private_get(&d.b, &d.in_b[1], PRIVATE_MAY));
    meanwhile.cell = NULL;
    private_count(&d.a.pins);
    assert_int_equal(claim_of(&d.in_a[0]), PRIVATE_FREE);
    assert_true(private_unpin(&d.a, &d.in_a[0]));
  } else {
    assert_true(private_pin(&d.a, &d.in_a[0]));
    assert_non_null(private_get(&d.b, &d.in_b[1], PRIVATE_MAY));
    assert_true(private_unpin(&d.a, &d.in_a[0]));
  }
  /* Another one was taken, and its user learns it. */
  assert_int_equal(claim_of(&d.in_a[1]), PRIVATE_TAKEN);
  assert_int_equal(atomic_load(&d.a.frames), 2);
  assert_false(private_pin(&d.a, &d.in_a[1]));
  duel_end(&d, 2);
}

/* One of a batch of victims is pinned at the last moment: the others go. */
static void test_pin_meets_batch(void **state)
{
  (void)state;
  enum { OF_A = 40, ALL = 64 };
  private_set a, b;
  static private_cell in_a[OF_A], in_b[ALL], *c[ALL];
  unsigned n = 0, taken = 0;
  pool_begin(ALL * PAGE, 0);
  ok(private_open(pool, &a, PAGE, 1));
  ok(private_open(pool, &b, PAGE, 1));
  for (int i = 0; i < OF_A; i++)
    assert_non_null(private_get(&a, &in_a[i], PRIVATE_MAY));
  for (int i = 0; i < OF_A; i++)
    assert_true(private_unpin(&a, &in_a[i]));
  if (a.asymmetric)
    meanwhile = (struct meanwhile){&in_a[1], 1};
  else
    assert_true(private_pin(&a, &in_a[1]));
  for (; n <= ALL - OF_A; n++)
    assert_non_null(private_get(&b, &in_b[n], PRIVATE_MAY));
  meanwhile.cell = NULL;
  if (a.asymmetric)
    private_count(&a.pins);
  for (int i = 0; i < OF_A; i++)
    taken += claim_of(&in_a[i]) == PRIVATE_TAKEN;
  assert_in_range(taken, 2, 4);
  assert_int_equal(claim_of(&in_a[0]), PRIVATE_TAKEN);
  assert_int_equal(claim_of(&in_a[1]), PRIVATE_FREE);
  assert_int_equal(claim_of(&in_a[2]), PRIVATE_TAKEN);
  assert_int_equal(private_pages(&a), OF_A - taken);
  for (int i = 0; i < OF_A; i++)
    c[i] = &in_a[i];
  private_drop(&a, c, OF_A, 0);
  for (unsigned i = 0; i < n; i++)
    c[i] = &in_b[i];
  private_drop(&b, c, n, 0);
  private_close(&a);
  private_close(&b);
  pool_end();
}

/* Unpinned between the hand's two looks: it stays in the ring. */
static void test_unpin_meets_apart(void **state)
{
  (void)state;
  duel d;
  duel_begin(&d, 1);
  meanwhile = (struct meanwhile){&d.in_a[0], 0};
  assert_non_null(private_get(&d.b, &d.in_b[1], PRIVATE_MAY));
  meanwhile.cell = NULL;
  assert_int_equal(claim_of(&d.in_a[1]), PRIVATE_TAKEN);
  assert_int_equal(atomic_load(&d.in_a[0].apart), !d.a.asymmetric);
  assert_true(private_unpin(&d.a, &d.in_a[0]));
  assert_int_equal(atomic_load(&d.in_a[0].apart), 0);
  private_cell *gone = &d.in_a[2];
  private_drop(&d.a, &gone, 1, 1);
  atomic_store(&d.in_a[2].claim, PRIVATE_TAKEN);
  ok(pagedb_pool_resize(pool, 2 * PAGE, NULL));
  assert_int_equal(claim_of(&d.in_a[0]), PRIVATE_TAKEN);
  duel_end(&d, 2);
}

/* Put aside, and back when it is unpinned; or dropped while it is aside. */
static void test_aside_and_back(void **state)
{
  (void)state;
  for (int drop = 0; drop < 2; drop++) {
    duel d;
    duel_begin(&d, 1);
    assert_non_null(private_get(&d.b, &d.in_b[1], PRIVATE_MAY));
    assert_int_equal(stats().private_aside, 1);
    assert_int_equal(atomic_load(&d.in_a[0].apart), 1);
    if (!drop) {
      assert_true(private_unpin(&d.a, &d.in_a[0]));
      assert_int_equal(atomic_load(&d.in_a[0].apart), 0);
      ok(pagedb_pool_resize(pool, 2 * PAGE, NULL));
      assert_int_equal(claim_of(&d.in_a[0]), PRIVATE_TAKEN);
    }
    duel_end(&d, 2);
  }
}

/* In a child the frames of the budget are gone, once and for all; what is outside
** stays. Returns what is wrong, 0: nothing. */
static int as_a_child(private_set *inside, private_cell *cell,
                      private_set *outside, private_cell *far)
{
  private_cell excess;
  private_cell *c[] = {&excess, &cell[0], &cell[1]}, *f = far;
  if (private_pin(inside, &cell[1]) || private_pin(inside, &cell[1]))
    return 1;
  if (private_pages(inside) != 1 || !private_pin(outside, far))
    return 2;
  if (private_get(inside, &excess, PRIVATE_MUST) == NULL)
    return 5;
  private_drop(inside, c, 3, 0);
  if (private_pages(inside) != 0 || private_pinned(inside) != 0)
    return 3;
  private_drop(outside, &f, 1, 0);
  return private_pages(outside) == 0 ? 0 : 4;
}

static void test_private_in_child(void **state)
{
  (void)state;
  pool_begin(8 * PAGE, 0);
  private_set inside, outside;
  private_cell cell[2], far, *c[] = {&cell[0], &cell[1]}, *f = &far;
  int status;
  ok(private_open(pool, &inside, PAGE, 1));
  ok(private_open(pool, &outside, PAGE, 0));
  for (int i = 0; i < 2; i++)
    assert_non_null(private_get(&inside, &cell[i], PRIVATE_MAY));
  assert_non_null(private_get(&outside, &far, PRIVATE_MUST));
  assert_true(private_unpin(&inside, &cell[1]));
  assert_true(private_unpin(&outside, &far));
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    pagedb_pool_forked(pool);
    _exit(as_a_child(&inside, cell, &outside, &far));
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_int_equal(private_pages(&inside), 2); /* the parent's are there */
  private_drop(&inside, c, 2, 0);
  private_drop(&outside, &f, 1, 0);
  private_close(&inside);
  private_close(&outside);
  pool_end();
}

/* -------------------------------------------------------------- no memory */

static struct {
  unsigned countdown; /* 0: none fails */
  int from_then_on;
  unsigned failed;
  size_t not_of; /* bytes that are never to be had; 0: none */
} memory;

static int memory_is_out(void)
{
  if (memory.countdown == 0 || --memory.countdown > 0)
    return 0;
  if (memory.from_then_on)
    memory.countdown = 1;
  memory.failed++;
  return 1;
}

void *__real_os_table_alloc(size_t n);
void *__wrap_os_table_alloc(size_t n);
void *__real_os_aligned_alloc(size_t align, size_t n);
void *__wrap_os_aligned_alloc(size_t align, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_os_table_alloc(size_t n)
{
  return n == memory.not_of || memory_is_out() ? NULL
                                               : __real_os_table_alloc(n);
}

void *__wrap_os_aligned_alloc(size_t align, size_t n)
{
  return memory_is_out() ? NULL : __real_os_aligned_alloc(align, n);
}

void *__wrap_realloc(void *p, size_t n)
{
  return memory_is_out() ? NULL : __real_realloc(p, n);
}

/* 300 pages while memory is out now and then: those that came are whole, and the
** others come when there is memory again. Returns how many came. */
static unsigned make_300(void)
{
  static sqlite3_pcache_page *got[301];
  unsigned n = 0;
  sqlite3_pcache *c = m->xCreate(PAGE, EXTRA, 1);
  for (unsigned key = 1; key <= 300; key++) {
    got[key] = c == NULL ? NULL : m->xFetch(c, key, 2);
    if (got[key] == NULL)
      continue;
    assert_true(is_new(got[key]));
    write_page(got[key], key);
    n++;
  }
  memory.countdown = 0;
  if (c == NULL)
    return 0;
  for (unsigned key = 1; key <= 300; key++) {
    if (got[key] == NULL)
      make(c, key, key);
    check_page(m->xFetch(c, key, 0), key);
  }
  m->xDestroy(c);
  return n;
}

static void test_no_memory(void **state)
{
  (void)state;
  unsigned least = 300;
  pool_begin(1000 * PAGE, 0);
  for (memory.from_then_on = 0; memory.from_then_on < 2; memory.from_then_on++)
    for (unsigned n = 1;; n++) {
      memory.failed = 0;
      memory.countdown = n;
      unsigned came = make_300();
      if (came > 0 && came < least)
        least = came;
      if (memory.failed == 0) {
        assert_int_equal(came, 300);
        break;
      }
    }
  assert_true(least < 300);
  pool_end();
}

/* The table cannot grow from 64 slots to 128: it is filled, but for one slot, and
** then no page is to be had, until there is memory again. */
static void test_full_table(void **state)
{
  (void)state;
  enum { MOST = 62 };
  pool_begin(1000 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 500);
  memory.not_of = 128 * 8;
  for (unsigned key = 1; key <= MOST; key++)
    make(c, key, key);
  assert_null(m->xFetch(c, MOST + 1, 2));
  assert_false(has(c, MOST + 1));
  memory.not_of = 0;
  make(c, MOST + 1, MOST + 1);
  for (unsigned key = 1; key <= MOST + 1; key++)
    check_page(m->xFetch(c, key, 0), key);
  m->xDestroy(c);
  pool_end();
}

static pagedb_pool *no_pool(void)
{
  return NULL;
}

/* Without a pool SQLite is told so, before it has a cache. */
static void test_no_pool(void **state)
{
  (void)state;
  pcache_setup(no_pool, NULL);
  assert_int_equal(m->xInit(m->pArg), SQLITE_NOMEM);
  assert_false(pcache_is_active());
  assert_null(m->xCreate(PAGE, EXTRA, 1));
}

static void test_rekey_to_itself(void **state)
{
  (void)state;
  pool_begin(64 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 50);
  sqlite3_pcache_page *p = make(c, 5, 55);
  m->xRekey(c, p, 5, 5);
  assert_ptr_equal(m->xFetch(c, 5, 0), p);
  check_page(p, 55);
  assert_int_equal(m->xPagecount(c), 1);
  m->xDestroy(c);
  pool_end();
}

/* So many that blocks of headers are of the largest size; then all of them go, but
** for one here and there, whose headers stay where they are. */
static void test_many_pages(void **state)
{
  (void)state;
  enum { KEYS = 30000, EVERY = 5000 };
  pool_begin((uint64_t)KEYS * 512 * 2, 0);
  sqlite3_pcache *c = m->xCreate(512, EXTRA, 1);
  assert_non_null(c);
  m->xCachesize(c, KEYS);
  sqlite3_pcache_page *kept[KEYS / EVERY + 1];
  for (unsigned key = 1; key <= KEYS; key++) {
    sqlite3_pcache_page *p = m->xFetch(c, key, 2);
    assert_non_null(p);
    write_sized(p, 512, key);
    if (key % EVERY == 0)
      kept[key / EVERY] = p;
    else
      m->xUnpin(c, p, 0);
  }
  uint64_t before = stats().private_table_bytes;
  m->xShrink(c);
  assert_int_equal(m->xPagecount(c), KEYS / EVERY);
  assert_true(stats().private_table_bytes < before);
  for (unsigned key = EVERY; key <= KEYS; key += EVERY) {
    uint64_t v = key;
    assert_ptr_equal(m->xFetch(c, key, 0), kept[key / EVERY]);
    assert_memory_equal(kept[key / EVERY]->pBuf, &v, sizeof v);
    assert_memory_equal(kept[key / EVERY]->pExtra, &v, sizeof v);
  }
  assert_false(has(c, 1));
  m->xDestroy(c);
  pool_end();
}

/* --------------------------------------------------------------------- main */

static int run_all(const char *membarrier)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fetch_and_unpin),
      cmocka_unit_test(test_every_size),
      cmocka_unit_test(test_rekey),
      cmocka_unit_test(test_truncate),
      cmocka_unit_test(test_cache_size),
      cmocka_unit_test(test_second_chance),
      cmocka_unit_test(test_flag_1_spills),
      cmocka_unit_test(test_not_purgeable),
      cmocka_unit_test(test_budget_is_kept),
      cmocka_unit_test(test_sizes_do_not_owe),
      cmocka_unit_test(test_idle_gives),
      cmocka_unit_test(test_nobody_starves),
      cmocka_unit_test(test_pinned_are_put_aside),
      cmocka_unit_test(test_own_pinned_are_parked),
      cmocka_unit_test(test_resize),
      cmocka_unit_test(test_outside_of_the_arena),
      cmocka_unit_test(test_stores_and_caches),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_random),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_pin_meets_claim),
      cmocka_unit_test(test_pin_meets_batch),
      cmocka_unit_test(test_unpin_meets_apart),
      cmocka_unit_test(test_aside_and_back),
      cmocka_unit_test(test_private_in_child),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_full_table),
      cmocka_unit_test(test_no_pool),
      cmocka_unit_test(test_rekey_to_itself),
      cmocka_unit_test(test_many_pages),
  };
  setenv("PAGEDB_MEMBARRIER", membarrier, 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
  int failed = run_all("1");
  return failed + run_all("0");
}
