/*
** pcache.c - the methods of SQLite's page cache (sqlite3_pcache_methods2) over
** private frames of the pool.
**
** A cache is one sqlite3_pcache: a set of private frames, a table of page
** headers, and a clock of its own. SQLite serialises the calls for one cache,
** so nothing of it needs a lock, but what the pool's clock hand may do at any
** time: take the frame of an unpinned page. It does not touch the cache's table:
** the header stays there as TAKEN until its cache meets it (private.h), and is
** not counted as a page from the moment it is taken.
**
** WHO HAS TO GO. A purgeable cache that has its cache_size replaces one of its
** own unpinned pages, by its own clock (the pool's rule: a page that was fetched
** again since it came gets a second chance), without any lock. Under
** it, it asks the pool, whose hand takes from whoever has it. A page that is
** unpinned while the cache exceeds its cache_size, or the pool its budget, goes
** at once. Pages that its own hand meets pinned are PARKED, apart from its
** clock, until they are unpinned: a search passes over each of them once.
**
** A memory database has nothing to replace: SQLite's hard heap limit is its
** limit.
**
** createFlag 1 is answered with NULL when nine tenths of cache_size are pinned,
** as by SQLite's built-in cache, and when the cache has its share of the pool
** pinned (private.h): that is what makes SQLite spill. createFlag 2 fails when
** memory is out.
**
** In a forked child a memory database goes on with its pages, which were not in
** the pool. Any other cache of the parent's has lost its unpinned ones (SQLite
** forbids its use there, but not that it is closed).
*/
#include <string.h>

#include "../core/os.h"
#include "pages.h"
#include "pcache.h"

/* Rare paths stay out of the way of hits. */
#define NOT_INLINE __attribute__((noinline))

/* Pages in the order in which they came, round. */
typedef struct ring {
  page *newest; /* newest->newer is the oldest */
  page *hand;
  uint32_t n;
} ring;

enum { IN_CLOCK, PARKED }; /* cell.mark */

typedef struct cache {
  private_set set; /* first: what a hit looks at */
  page_table table;
  uint32_t most;        /* cache_size, pages */
  uint32_t most_pinned; /* from then on createFlag 1 means no */
  uint32_t max_key;     /* no larger key is in the table */
  uint32_t granted;     /* pages within the hard heap limit, if it is one */
  ring clock;
  ring parked;
  page_store pages;
} cache;

static struct {
  pagedb_pool *(*pool)(void);
  uint64_t (*room)(void);
  _Atomic int active; /* how many SQLites have begun with it */
} global;

void pcache_setup(pagedb_pool *(*pool)(void), uint64_t (*room)(void))
{
  global.pool = pool;
  global.room = room;
}

int pcache_is_active(void)
{
  return atomic_load(&global.active) > 0;
}

static inline page *page_of(sqlite3_pcache_page *p)
{
  return (page *)(void *)p;
}

static void note_table_bytes(cache *c)
{
  uint64_t n = sizeof *c + c->pages.bytes + page_table_bytes(&c->table);
  atomic_store_explicit(&c->set.table_bytes, n, memory_order_relaxed);
}

/* --------------------------------------------------------------- the clock */

static void ring_enter(ring *g, page *p)
{
  page_rest *r = rest_of(p);
  if (g->newest == NULL) {
    r->newer = r->older = p;
    g->hand = p;
  } else {
    r->older = g->newest;
    r->newer = rest_of(g->newest)->newer;
    rest_of(r->newer)->older = p;
    rest_of(g->newest)->newer = p;
  }
  g->newest = p;
  g->n++;
}

static void ring_leave(ring *g, page *p)
{
  page_rest *r = rest_of(p);
  if (--g->n == 0) {
    g->newest = g->hand = NULL;
    return;
  }
  if (g->hand == p)
    g->hand = r->newer;
  if (g->newest == p)
    g->newest = r->older;
  rest_of(r->older)->newer = r->newer;
  rest_of(r->newer)->older = r->older;
}

static ring *ring_of(cache *c, const page *p)
{
  return p->cell.mark == PARKED ? &c->parked : &c->clock;
}

static void move_to(cache *c, page *p, uint8_t mark)
{
  ring_leave(ring_of(c, p), p);
  p->cell.mark = mark;
  ring_enter(ring_of(c, p), p);
}

/* ---------------------------------------------------------- pages that leave */

/* The header goes; its frame has gone. */
static void page_forget(cache *c, page *p)
{
  page_table_remove(&c->table, rest_of(p)->key);
  ring_leave(ring_of(c, p), p);
  page_free(&c->pages, p);
}

/* Pages on their way out: the pool's lock is taken once for many. */
typedef struct leaving {
  unsigned n;
  int give_back;
  private_cell *cell[64];
  page *page[64];
} leaving;

static void leave_flush(cache *c, leaving *l)
{
  if (l->n > 0)
    private_drop(&c->set, l->cell, l->n, l->give_back);
  for (unsigned i = 0; i < l->n; i++)
    page_forget(c, l->page[i]);
  l->n = 0;
}

/* A page, pinned or not, or taken. After this only leave_flush may be called
** for it. */
static void leave(cache *c, leaving *l, page *p)
{
  l->page[l->n] = p;
  l->cell[l->n++] = &p->cell;
  if (l->n == sizeof l->page / sizeof l->page[0])
    leave_flush(c, l);
}

NOT_INLINE static void page_drop(cache *c, page *p)
{
  leaving l;
  l.n = 0;
  l.give_back = 0;
  leave(c, &l, p);
  leave_flush(c, &l);
}

static int is_taken(page *p)
{
  return atomic_load(&p->cell.claim) == PRIVATE_TAKEN;
}

/* Forget the headers of pages that the pool took. A parked page is pinned, and
** was not. */
static void sweep(cache *c)
{
  page *p = c->clock.newest;
  for (uint32_t n = c->clock.n; n > 0; n--) {
    page *older = rest_of(p)->older;
    if (is_taken(p))
      page_forget(c, p);
    p = older;
  }
  page_store_trim(&c->pages);
  page_table_trim(&c->table);
  note_table_bytes(c);
}

/*
** An unpinned page of the cache's own, pinned now, or NULL. The hand goes round
** twice at most: the first time it may meet nothing but reference bits.
*/
static page *victim(cache *c)
{
  for (uint64_t n = 2 * (uint64_t)c->clock.n; n > 0 && c->clock.n > 0; n--) {
    page *p = c->clock.hand;
    c->clock.hand = rest_of(p)->newer;
    if (private_is_pinned(&p->cell))
      move_to(c, p, PARKED);
    else if (private_was_touched(&p->cell))
      continue;
    else if (private_pin(&c->set, &p->cell))
      return p;
    else
      page_forget(c, p);
  }
  return NULL;
}

/* ------------------------------------------------------------- pages that come
 */

/* SQLite's hard heap limit, for what only that can limit: a memory database asks
** for 64 pages at a time, or for as many as are left. */
static int is_beyond_limit(cache *c)
{
  enum { MANY = 64 };
  if (c->set.purgeable || global.room == NULL)
    return 0;
  if (c->granted == 0) {
    pagedb_pool_stats st;
    uint64_t left = global.room();
    if (left != UINT64_MAX) {
      pagedb_pool_stats_get(global.pool(), &st);
      left = left > st.outside_bytes ? left - st.outside_bytes : 0;
    }
    left >>= c->set.class;
    if (left == 0)
      return 1;
    c->granted = left < MANY ? (uint32_t)left : MANY;
  }
  c->granted--;
  return 0;
}

/* A page with a frame, pinned, in neither table nor ring. */
static page *page_new(cache *c, private_need need)
{
  if (is_beyond_limit(c))
    return NULL;
  page *p = page_alloc(&c->pages);
  if (p == NULL)
    return NULL;
  p->base.pBuf = private_get(&c->set, &p->cell, need);
  if (p->base.pBuf == NULL) {
    page_free(&c->pages, p);
    return NULL;
  }
  p->cell.mark = IN_CLOCK;
  return p;
}

/* The same from a page of the cache's own, or NULL. */
static page *page_recycled(cache *c)
{
  page *p = c->set.purgeable ? victim(c) : NULL;
  if (p != NULL) {
    page_table_remove(&c->table, rest_of(p)->key);
    ring_leave(&c->clock, p);
  }
  return p;
}

static page *page_make(cache *c, uint32_t key, int create)
{
  page *p = NULL;
  if (create == 1 && c->set.purgeable &&
      private_pinned(&c->set) >= c->most_pinned)
    return NULL;
  if (c->table.entries > 2 * private_pages(&c->set) + 64)
    sweep(c);
  if (!page_table_reserve(&c->table))
    return NULL;
  if (private_pages(&c->set) + 1 >= c->most)
    p = page_recycled(c);
  if (p == NULL)
    p = page_new(c, PRIVATE_MAY);
  if (p == NULL)
    p = page_recycled(c);
  if (p == NULL && create == 2)
    p = page_new(c, PRIVATE_MUST);
  if (p == NULL)
    return NULL;
  rest_of(p)->key = key;
  memset(p->base.pExtra, 0, sizeof(void *));
  page_table_add(&c->table, key, p);
  ring_enter(&c->clock, p);
  if (key > c->max_key)
    c->max_key = key;
  private_count(&c->set.misses);
  note_table_bytes(c);
  return p;
}

/* ----------------------------------------------------------------- methods */

static int x_init(void *arg)
{
  (void)arg;
  if (global.pool() == NULL)
    return SQLITE_NOMEM;
  atomic_fetch_add(&global.active, 1);
  return SQLITE_OK;
}

static void x_shutdown(void *arg)
{
  (void)arg;
  atomic_fetch_sub(&global.active, 1);
}

static sqlite3_pcache *x_create(int page_size, int extra, int purgeable)
{
  pagedb_pool *pool = global.pool();
  cache *c = pool == NULL ? NULL : os_aligned_alloc(64, sizeof *c);
  if (c == NULL)
    return NULL;
  memset(c, 0, sizeof *c);
  c->most = purgeable ? 0 : UINT32_MAX;
  page_store_init(&c->pages, (size_t)extra);
  if (page_table_init(&c->table)) {
    note_table_bytes(c);
    if (private_open(pool, &c->set, (uint32_t)page_size, purgeable) ==
        PAGEDB_OK)
      return (sqlite3_pcache *)c;
    page_table_free(&c->table);
  }
  os_aligned_free(c);
  return NULL;
}

static int x_pagecount(sqlite3_pcache *sc)
{
  return (int)private_pages(&((cache *)sc)->set);
}

/* The page is not there: make it, if that is wished. */
NOT_INLINE static sqlite3_pcache_page *fetch_new(cache *c, uint32_t key,
                                                 int create)
{
  page *p = create == 0 ? NULL : page_make(c, key, create);
  return p == NULL ? NULL : &p->base;
}

static sqlite3_pcache_page *fetch_pinned(cache *c, page *p)
{
  private_touch(&p->cell);
  private_count(&c->set.hits);
  return &p->base;
}

/* The pool is about to take its frame, or took it. */
NOT_INLINE static sqlite3_pcache_page *fetch_slowly(cache *c, page *p,
                                                    uint32_t key, int create)
{
  if (private_pin_slowly(&c->set, &p->cell))
    return fetch_pinned(c, p);
  page_forget(c, p);
  return fetch_new(c, key, create);
}

static sqlite3_pcache_page *x_fetch(sqlite3_pcache *sc, unsigned key,
                                    int create)
{
  cache *c = (cache *)sc;
  page *p = page_table_find(&c->table, &c->pages, key);
  if (p == NULL)
    return fetch_new(c, key, create);
  if (private_is_pinned(&p->cell)) {
    private_count(&c->set.hits);
    return &p->base;
  }
  if (private_pin_quickly(&c->set, &p->cell))
    return fetch_pinned(c, p);
  return fetch_slowly(c, p, key, create);
}

static void x_unpin(sqlite3_pcache *sc, sqlite3_pcache_page *sp, int discard)
{
  cache *c = (cache *)sc;
  page *p = page_of(sp);
  if (discard || private_pages(&c->set) > c->most) {
    page_drop(c, p);
    return;
  }
  if (p->cell.mark == PARKED)
    move_to(c, p, IN_CLOCK);
  if (!private_unpin(&c->set, &p->cell))
    page_drop(c, p);
}

static void x_rekey(sqlite3_pcache *sc, sqlite3_pcache_page *sp,
                    unsigned old_key, unsigned new_key)
{
  cache *c = (cache *)sc;
  page *p = page_of(sp);
  page *other = page_table_find(&c->table, &c->pages, new_key);
  if (other == p)
    return;
  if (other != NULL)
    page_drop(c, other);
  page_table_remove(&c->table, old_key);
  rest_of(p)->key = new_key;
  page_table_add(&c->table, new_key, p);
  if (new_key > c->max_key)
    c->max_key = new_key;
}

static void truncate_ring(cache *c, ring *g, uint32_t limit, leaving *l)
{
  page *p = g->newest;
  for (uint32_t n = g->n; n > 0; n--) {
    page *older = rest_of(p)->older;
    if (rest_of(p)->key >= limit)
      leave(c, l, p);
    p = older;
  }
}

static void x_truncate(sqlite3_pcache *sc, unsigned limit)
{
  cache *c = (cache *)sc;
  leaving l;
  if (limit > c->max_key)
    return;
  l.n = 0;
  l.give_back = 0;
  if (c->max_key - limit >= c->table.entries) {
    truncate_ring(c, &c->clock, limit, &l);
    truncate_ring(c, &c->parked, limit, &l);
  } else {
    /* Not many keys: ask for each. */
    for (uint32_t key = limit; key - limit <= c->max_key - limit; key++) {
      page *p = page_table_find(&c->table, &c->pages, key);
      if (p != NULL)
        leave(c, &l, p);
    }
  }
  leave_flush(c, &l);
  c->max_key = limit == 0 ? 0 : limit - 1;
}

/* Drop unpinned pages until `most` are left. */
static void enforce(cache *c, uint32_t most, int give_back)
{
  leaving l;
  l.n = 0;
  l.give_back = give_back;
  while (private_pages(&c->set) - l.n > most) {
    page *p = victim(c);
    if (p == NULL)
      break;
    leave(c, &l, p);
  }
  leave_flush(c, &l);
}

static void x_cachesize(sqlite3_pcache *sc, int pages)
{
  cache *c = (cache *)sc;
  if (!c->set.purgeable)
    return;
  uint32_t before = private_pages(&c->set);
  c->most = pages < 0 ? 0 : (uint32_t)pages;
  c->most_pinned = (uint32_t)((uint64_t)c->most * 9 / 10);
  enforce(c, c->most, 0);
  if (private_pages(&c->set) < before / 4)
    sweep(c);
}

static void x_shrink(sqlite3_pcache *sc)
{
  cache *c = (cache *)sc;
  if (!c->set.purgeable)
    return;
  enforce(c, 0, 1);
  private_trim(&c->set);
  sweep(c);
}

static void x_destroy(sqlite3_pcache *sc)
{
  cache *c = (cache *)sc;
  x_truncate(sc, 0);
  private_close(&c->set);
  page_store_free(&c->pages);
  page_table_free(&c->table);
  os_aligned_free(c);
}

const sqlite3_pcache_methods2 pcache_methods = {.iVersion = 1,
                                                .xInit = x_init,
                                                .xShutdown = x_shutdown,
                                                .xCreate = x_create,
                                                .xCachesize = x_cachesize,
                                                .xPagecount = x_pagecount,
                                                .xFetch = x_fetch,
                                                .xUnpin = x_unpin,
                                                .xRekey = x_rekey,
                                                .xTruncate = x_truncate,
                                                .xDestroy = x_destroy,
                                                .xShrink = x_shrink};
