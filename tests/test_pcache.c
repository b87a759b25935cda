/*
** test_pcache.c - SQLite's page cache on the pool: the contract of
** sqlite3_pcache_methods2 method by method, the budget, random operations
** against a reference cache, threads.
**
** The methods are called as SQLite calls them, without SQLite. What goes
** through SQL is in test_pcache_sql.c. Every test runs twice: with the
** asymmetric fence and, PAGEDB_MEMBARRIER=0, with full fences.
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
  pcache_setup(the_pool);
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
  assert_int_equal(stats().used_bytes, 32 * PAGE);
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

static void test_budget_is_kept(void **state)
{
  (void)state;
  enum { FRAMES = 40 };
  sqlite3_pcache_page *p[FRAMES + 20];
  pool_begin(FRAMES * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 1000);
  unsigned n = 0;
  for (; (p[n] = m->xFetch(c, n + 1, 1)) != NULL; n++)
    write_page(p[n], n);
  assert_int_equal(n, FRAMES); /* all pinned: flag 1 says no */
  for (; n < FRAMES + 20; n++)
    p[n] = make(c, n + 1, n);
  assert_int_equal(stats().used_bytes, FRAMES * PAGE);
  assert_int_equal(stats().excess_bytes, 20 * PAGE);
  assert_int_equal(stats().private_excesses, 20);
  /* Given back by the first pages that are unpinned. */
  for (unsigned i = 0; i < 20; i++) {
    m->xUnpin(c, p[i], 0);
    assert_int_equal(stats().excess_bytes, (19 - i) * PAGE);
    assert_int_equal(m->xPagecount(c), FRAMES + 19 - i);
  }
  for (unsigned i = 20; i < FRAMES + 20; i++)
    m->xUnpin(c, p[i], 0);
  assert_int_equal(m->xPagecount(c), FRAMES);
  assert_int_equal(stats().used_bytes, FRAMES * PAGE);
  m->xDestroy(c);
  pool_end();
}

/* What was excess, and outlived it, is a page like any other: the hand finds
** it. */
static void test_excess_becomes_budget(void **state)
{
  (void)state;
  sqlite3_pcache_page *p[20];
  pool_begin(10 * PAGE, 0);
  sqlite3_pcache *a = cache_new(1, 1000), *b = cache_new(1, 1000);
  for (unsigned i = 0; i < 20; i++)
    p[i] = make(a, i + 1, i);
  for (unsigned i = 0; i < 10; i++)
    m->xUnpin(a, p[i], 1);
  assert_int_equal(stats().excess_bytes, 0);
  for (unsigned i = 10; i < 20; i++)
    m->xUnpin(a, p[i], 0);
  assert_int_equal(m->xPagecount(a), 10);
  for (unsigned i = 0; i < 5; i++)
    make(b, i + 1, i);
  assert_int_equal(m->xPagecount(a) + m->xPagecount(b), 10);
  assert_int_equal(m->xPagecount(b), 5);
  m->xDestroy(a);
  m->xDestroy(b);
  pool_end();
}

/* What one had to have because others had all pinned, others' unpins pay for. */
static void test_others_pay(void **state)
{
  (void)state;
  sqlite3_pcache_page *p[100];
  pool_begin(100 * PAGE, 0);
  sqlite3_pcache *a = cache_new(1, 1000), *b = cache_new(1, 1000),
                 *late = cache_new(1, 1000);
  for (unsigned i = 0; i < 50; i++) {
    p[i] = make(a, i + 1, i);
    p[50 + i] = make(b, i + 1, i);
  }
  for (unsigned i = 0; i < 10; i++)
    make(late, i + 1, i);
  assert_int_equal(stats().excess_bytes, 10 * PAGE);
  m->xUnpin(a, p[0], 0);
  assert_int_equal(stats().excess_bytes, 9 * PAGE);
  for (unsigned i = 50; i < 59; i++)
    m->xUnpin(b, p[i], 0);
  assert_int_equal(stats().excess_bytes, 0);
  assert_int_equal(m->xPagecount(a) + m->xPagecount(b), 90);
  m->xUnpin(b, p[60], 0); /* may stay */
  assert_int_equal(m->xPagecount(a) + m->xPagecount(b), 90);
  assert_int_equal(stats().used_bytes, 100 * PAGE);
  m->xDestroy(a);
  m->xDestroy(b);
  m->xDestroy(late);
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
  assert_int_equal(m->xPagecount(idle) + m->xPagecount(busy), 100);
  assert_int_equal(m->xPagecount(busy), 60);
  assert_int_equal(stats().private_taken, 60);
  int left = m->xPagecount(idle), found = 0;
  for (unsigned key = 1; key <= 100; key++)
    found += has(idle, key);
  assert_int_equal(found, left);
  m->xDestroy(idle);
  m->xDestroy(busy);
  pool_end();
}

/* A cache that pins without end leaves a quarter to the others, and is at the
** end the only one beyond the budget. */
static void test_nobody_starves(void **state)
{
  (void)state;
  pool_begin(100 * PAGE, 0);
  sqlite3_pcache *other = cache_new(1, 20), *greedy = cache_new(1, 100000);
  for (unsigned key = 1; key <= 19; key++)
    m->xUnpin(other, make(other, key, key), 0);
  for (unsigned key = 1; key <= 400; key++)
    make(greedy, key, key);
  assert_int_equal(m->xPagecount(greedy), 400);
  assert_int_equal(m->xPagecount(other), 19);
  for (unsigned key = 1; key <= 19; key++)
    assert_true(has(other, key));
  assert_int_equal(stats().used_bytes, 100 * PAGE);
  assert_int_equal(stats().excess_bytes, (400 + 19 - 100) * PAGE);
  m->xDestroy(greedy);
  assert_int_equal(stats().excess_bytes, 0);
  m->xDestroy(other);
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
  /* Excess becomes budget when there is room. */
  for (unsigned i = 100; i < 150; i++)
    make(c, i, i);
  assert_int_equal(stats().excess_bytes, 30 * PAGE);
  ok(pagedb_pool_resize(pool, 100 * PAGE, NULL));
  assert_int_equal(stats().excess_bytes, 0);
  assert_int_equal(stats().used_bytes, 50 * PAGE);
  m->xDestroy(c);
  pool_end();
}

/* When the pool's addresses are out, pages come from elsewhere. */
static void test_beyond_the_arena(void **state)
{
  (void)state;
  enum { SIZE = 65536, PAGES = 500 };
  pool_begin(1 << 20, 1 << 20);
  sqlite3_pcache *mem = m->xCreate(SIZE, EXTRA, 0);
  sqlite3_pcache *disk = m->xCreate(SIZE, EXTRA, 1);
  m->xCachesize(disk, 1000);
  sqlite3_pcache_page *p[PAGES], *q[PAGES];
  for (unsigned i = 0; i < PAGES; i++) {
    p[i] = m->xFetch(mem, i + 1, 2);
    q[i] = m->xFetch(disk, i + 1, 2);
    assert_non_null(p[i]);
    assert_non_null(q[i]);
    assert_int_equal((uintptr_t)q[i]->pBuf % 4096, 0);
    memset(p[i]->pBuf, (int)i, SIZE);
    memset(q[i]->pBuf, (int)i + 1, SIZE);
  }
  assert_int_equal(stats().outside_bytes, PAGES * SIZE);
  assert_int_equal(stats().used_bytes + stats().excess_bytes, PAGES * SIZE);
  for (unsigned i = 0; i < PAGES; i++) {
    assert_int_equal(((unsigned char *)p[i]->pBuf)[SIZE - 1], i & 255);
    assert_int_equal(((unsigned char *)q[i]->pBuf)[SIZE - 1], (i + 1) & 255);
    m->xUnpin(disk, q[i], 0);
  }
  assert_true(m->xPagecount(disk) <= 16);
  assert_int_equal(stats().excess_bytes, 0);
  m->xDestroy(mem);
  m->xDestroy(disk);
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
  for (unsigned key = 1; key <= 40; key++)
    m->xUnpin(c, make(c, key, key), 0);
  uint64_t resident;
  pagedb_owner_counts(owner, &resident, NULL);
  assert_int_equal(resident + (uint64_t)m->xPagecount(c), 64);
  assert_int_equal(m->xPagecount(c), 40);
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

/* A forked child must not use its parent's caches, may close them, and has
** caches of its own. */
static void test_fork(void **state)
{
  (void)state;
  pool_begin(64 * PAGE, 0);
  sqlite3_pcache *c = cache_new(1, 100);
  sqlite3_pcache_page *pinned = make(c, 1, 11);
  m->xUnpin(c, make(c, 2, 22), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    pagedb_pool_options o = {.capacity = 64 * PAGE};
    pagedb_pool_forked(pool);
    if (pagedb_pool_open(&o, &pool) != PAGEDB_OK)
      _exit(1);
    if (m->xFetch(c, 2, 2) != NULL || m->xFetch(c, 3, 2) != NULL)
      _exit(2);
    m->xUnpin(c, pinned, 0);
    m->xTruncate(c, 1);
    m->xDestroy(c);
    sqlite3_pcache *own = m->xCreate(PAGE, EXTRA, 1);
    sqlite3_pcache_page *p = own == NULL ? NULL : m->xFetch(own, 1, 2);
    if (p == NULL)
      _exit(3);
    memset(p->pBuf, 1, PAGE);
    m->xDestroy(own);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  check_page(pinned, 11);
  m->xDestroy(c);
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
static private_cell *pinned_meanwhile;

void __real_os_fence_heavy(void);
void __wrap_os_fence_heavy(void);

void __wrap_os_fence_heavy(void)
{
  if (pinned_meanwhile != NULL)
    atomic_store(&pinned_meanwhile->pinned, 1);
  __real_os_fence_heavy();
}

static void test_pin_meets_claim(void **state)
{
  (void)state;
  private_set a, b;
  private_cell in_a[2], in_b[3];
  pool_begin(4 * PAGE, 0);
  ok(private_open(pool, &a, PAGE, 1));
  ok(private_open(pool, &b, PAGE, 1));
  for (int i = 0; i < 2; i++) {
    assert_non_null(private_get(&a, &in_a[i], PRIVATE_MAY));
    assert_non_null(private_get(&b, &in_b[i], PRIVATE_MAY));
  }
  assert_true(private_unpin_quickly(&a, &in_a[0]));
  if (a.asymmetric) {
    pinned_meanwhile = &in_a[0];
    assert_null(private_get(&b, &in_b[2], PRIVATE_MAY));
    pinned_meanwhile = NULL;
    assert_int_equal(atomic_load(&a.frames), 2);
    assert_int_equal(atomic_load(&in_a[0].claim), PRIVATE_FREE);
    assert_true(private_unpin_quickly(&a, &in_a[0]));
  }
  /* Nobody pins it: it is taken, and its user learns it. */
  assert_non_null(private_get(&b, &in_b[2], PRIVATE_MAY));
  assert_int_equal(atomic_load(&a.frames), 1);
  assert_false(private_pin(&a, &in_a[0]));
  private_cell *rest_of_a = &in_a[1];
  private_cell *all_of_b[] = {&in_b[0], &in_b[1], &in_b[2]};
  private_drop(&a, &rest_of_a, 1, 0);
  private_drop(&b, all_of_b, 3, 0);
  private_close(&a);
  private_close(&b);
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
      cmocka_unit_test(test_excess_becomes_budget),
      cmocka_unit_test(test_others_pay),
      cmocka_unit_test(test_idle_gives),
      cmocka_unit_test(test_nobody_starves),
      cmocka_unit_test(test_resize),
      cmocka_unit_test(test_beyond_the_arena),
      cmocka_unit_test(test_stores_and_caches),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_random),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_pin_meets_claim),
  };
  setenv("PAGEDB_MEMBARRIER", membarrier, 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
  int failed = run_all("1");
  return failed + run_all("0");
}
