/*
** pool.c - the pool as a whole: open, close, budget, owners, sessions,
** statistics. The inside, with its locks and states, is told in pool_int.h.
*/
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"

_Static_assert(PAGEDB_POOL_MOST < (uint64_t)1 << (32 + LOC_SHIFT),
               "locations have 32 bits");

static const uint64_t MIB = (uint64_t)1 << 20;

/* -------------------------------------------------------------------- pool */

static uint64_t default_capacity(void)
{
  uint64_t quarter = os_memory_bytes() / 4;
  return quarter > 1024 * MIB ? 1024 * MIB : quarter;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
  return (n + to - 1) / to * to;
}

/*
** Reserve addresses: what was asked for, or less where the system refuses, but
** room for the capacity. Slabs are whole units, so each class may waste part of
** one; and 256 bytes after the last frame may be read.
*/
static int arena_reserve(pagedb_pool *p, uint64_t reserve)
{
  for (;;) {
    uint64_t bytes = round_up(reserve, 2 * MIB) + 16 * MIB;
    p->arena = bytes < SIZE_MAX ? os_reserve((size_t)bytes) : NULL;
    p->arena_bytes = (size_t)bytes;
    if (p->arena != NULL)
      break;
    if (reserve == p->capacity)
      return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                              "address space for the pool");
    reserve = reserve / 2 > p->capacity ? reserve / 2 : p->capacity;
  }
  p->reserve = reserve;
  p->units = (uint32_t)((p->arena_bytes - MIB) >> UNIT_SHIFT);
  p->unit = calloc(p->units, sizeof(slab *));
  p->huge = calloc(p->arena_bytes >> HUGE_SHIFT, 1);
  if (p->unit != NULL && p->huge != NULL)
    return PAGEDB_OK;
  free(p->unit);
  free(p->huge);
  os_release(p->arena, p->arena_bytes);
  return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                          "the directory of frames");
}

static void locks_init(pagedb_pool *p)
{
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->changed, NULL);
  for (int i = 0; i < PARK_LOTS; i++) {
    pthread_mutex_init(&p->lots[i].lock, NULL);
    pthread_cond_init(&p->lots[i].changed, NULL);
  }
}

static void locks_destroy(pagedb_pool *p)
{
  for (int i = 0; i < PARK_LOTS; i++) {
    pthread_cond_destroy(&p->lots[i].changed);
    pthread_mutex_destroy(&p->lots[i].lock);
  }
  pthread_cond_destroy(&p->changed);
  pthread_mutex_destroy(&p->lock);
}

int pagedb_pool_open(const pagedb_pool_options *opt, pagedb_pool **out)
{
  const uint64_t most = PAGEDB_POOL_MOST;
  pagedb_pool *p = calloc(1, sizeof *p);
  if (p == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "the pool");
  p->capacity = opt != NULL ? opt->capacity : 0;
  if (p->capacity == 0)
    p->capacity = default_capacity();
  uint64_t reserve = opt != NULL ? opt->reserve : 0;
  if (reserve == 0 && p->capacity < most / 4) {
    uint64_t half = os_memory_bytes() / 2; /* addresses may be limited, too */
    reserve = p->capacity < 256 * MIB ? 1024 * MIB : 4 * p->capacity;
    if (reserve > half)
      reserve = half;
  }
  if (reserve < p->capacity)
    reserve = p->capacity;
  int err = PAGEDB_OK;
  if (reserve > most)
    err = pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, reserve, most,
                           "bytes of pool");
  else
    err = arena_reserve(p, reserve);
  if (err != PAGEDB_OK) {
    free(p);
    return err;
  }
  p->asymmetric = os_fence_init();
  locks_init(p);
  *out = p;
  return PAGEDB_OK;
}

int pagedb_pool_close(pagedb_pool *p)
{
  if (p == NULL)
    return PAGEDB_OK;
  if (p->owners != NULL || p->sessions != NULL || p->sets != NULL)
    return pagedb_fault_set(
        PAGEDB_EBUSY, 0, NULL, PAGEDB_NONE, 0, 0,
        "the pool has open owners, sessions or private sets");
  table_reap(p);
  frames_free(p);
  locks_destroy(p);
  os_release(p->arena, p->arena_bytes);
  free(p->unit);
  free(p->huge);
  free(p);
  return PAGEDB_OK;
}

void pagedb_pool_forked(pagedb_pool *p)
{
  if (p != NULL)
    atomic_store(&p->slow, POOL_FORKED);
}

int pagedb_pool_resize(pagedb_pool *p, uint64_t capacity, uint64_t *used)
{
  pagedb_session *s;
  if (capacity > p->reserve)
    return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, capacity,
                            p->reserve, "more than the pool's reserve");
  int err = pagedb_session_open(p, &s);
  if (err != PAGEDB_OK)
    return err;
  pthread_mutex_lock(&p->lock);
  p->capacity = capacity;
  err = frames_shrink(s);
  if (used != NULL)
    *used = p->used;
  pthread_mutex_unlock(&p->lock);
  pagedb_session_close(s);
  return err;
}

void pagedb_pool_stats_get(pagedb_pool *p, pagedb_pool_stats *out)
{
  pthread_mutex_lock(&p->lock);
  *out = p->stats;
  out->capacity_bytes = p->capacity;
  out->used_bytes = p->used;
  for (pagedb_owner *o = p->owners; o != NULL; o = o->next) {
    out->resident += o->resident;
    out->dirty += o->ndirty;
  }
  for (pagedb_session *s = p->sessions; s != NULL; s = s->next) {
    out->hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
    out->ahead_used +=
        atomic_load_explicit(&s->ahead_used, memory_order_relaxed);
  }
  for (private_set *s = p->sets; s != NULL; s = s->next) {
    uint64_t n = private_pages(s);
    uint64_t outside = atomic_load_explicit(&s->outside, memory_order_relaxed);
    out->private_pages += n;
    out->private_bytes += n << s->class;
    *(s->purgeable ? &out->excess_bytes : &out->outside_bytes) += outside
                                                                  << s->class;
    out->private_excesses +=
        atomic_load_explicit(&s->excesses, memory_order_relaxed);
    out->private_hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
    out->private_misses +=
        atomic_load_explicit(&s->misses, memory_order_relaxed);
    out->private_table_bytes +=
        atomic_load_explicit(&s->table_bytes, memory_order_relaxed);
  }
  pthread_mutex_unlock(&p->lock);
}

/* ------------------------------------------------------------------ owners */

int pagedb_owner_open(pagedb_pool *p, pagedb_store *store, pagedb_owner **out)
{
  uint32_t class = 0;
  while (class <= CLASS_MAX && (uint32_t)1 << class != store->page_size)
    class ++;
  if (class < CLASS_MIN || class > CLASS_MAX)
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, store->name, PAGEDB_NONE,
                            store->page_size, 0, "bytes per page");
  pagedb_owner *o = calloc(1, sizeof *o);
  if (o == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, store->name, PAGEDB_NONE, 0, 0,
                            "an owner");
  o->pool = p;
  o->store = store;
  o->class = class;
  o->sweep = SWEPT;
  atomic_init(&o->want, PTE_PRESENT | PTE_EPOCH_ONE);
  atomic_init(&o->root, NULL);
  pthread_mutex_lock(&p->lock);
  pagedb_owner *other = p->owners;
  while (other != NULL && other->store != store)
    other = other->next;
  if (other == NULL) {
    o->next = p->owners;
    p->owners = o;
  }
  pthread_mutex_unlock(&p->lock);
  if (other != NULL) {
    free(o);
    return pagedb_fault_set(PAGEDB_EBUSY, 0, store->name, PAGEDB_NONE, 0, 0,
                            "the store has an owner in this pool already");
  }
  *out = o;
  return PAGEDB_OK;
}

/* Under the lock: the owner leaves the list, its pages are gone. */
static void owner_unlink(pagedb_pool *p, pagedb_owner *o)
{
  pagedb_owner **link = &p->owners;
  while (*link != o)
    link = &(*link)->next;
  *link = o->next;
  owner_swept(o);
  table_free(o);
}

int pagedb_owner_close(pagedb_owner *o)
{
  if (o == NULL)
    return PAGEDB_OK;
  pagedb_pool *p = o->pool;
  pthread_mutex_lock(&p->lock);
  while (o->ndirty == 0 && o->nunwritten > 0)
    pool_wait(p); /* a write under way may fail and leave its page dirty */
  uint64_t dirty = o->ndirty, ahead = o->ahead;
  pthread_mutex_unlock(&p->lock);
  if (ahead > 0)
    return pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, PAGEDB_NONE, ahead,
                            0, "pages are being read ahead");
  if (dirty > 0)
    return pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, PAGEDB_NONE, dirty,
                            0, "pages are dirty: flush or discard them");
  int err = discard_pages(o, 0, 1);
  if (err != PAGEDB_OK)
    return err;
  pthread_mutex_lock(&p->lock);
  owner_unlink(p, o);
  pthread_mutex_unlock(&p->lock);
  free(o);
  return PAGEDB_OK;
}

void pagedb_owner_counts(pagedb_owner *o, uint64_t *resident, uint64_t *dirty)
{
  pthread_mutex_lock(&o->pool->lock);
  if (resident != NULL)
    *resident = o->resident;
  if (dirty != NULL)
    *dirty = o->ndirty;
  pthread_mutex_unlock(&o->pool->lock);
}

/* ---------------------------------------------------------------- sessions */

int pagedb_session_open(pagedb_pool *p, pagedb_session **out)
{
  /* On cache lines of its own: its slots are written at every hit. */
  size_t bytes = (size_t)round_up(sizeof(pagedb_session), 128);
  pagedb_session *s = os_aligned_alloc(128, bytes);
  if (s == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "a session");
  memset(s, 0, bytes);
  s->pool = p;
  s->asymmetric = p->asymmetric;
  s->free_slots = UINT32_MAX;
  pthread_mutex_lock(&p->lock);
  s->next = p->sessions;
  p->sessions = s;
  pthread_mutex_unlock(&p->lock);
  *out = s;
  return PAGEDB_OK;
}

int pagedb_session_close(pagedb_session *s)
{
  if (s == NULL)
    return PAGEDB_OK;
  pagedb_pool *p = s->pool;
  if (s->free_slots != UINT32_MAX || s->counted > 0)
    return pagedb_fault_set(PAGEDB_EBUSY, 0, NULL, PAGEDB_NONE, 0, 0,
                            "the session has pinned pages");
  pthread_mutex_lock(&p->lock);
  pagedb_session **link = &p->sessions;
  while (*link != s)
    link = &(*link)->next;
  *link = s->next;
  p->stats.hits += atomic_load_explicit(&s->hits, memory_order_relaxed);
  p->stats.ahead_used +=
      atomic_load_explicit(&s->ahead_used, memory_order_relaxed);
  pthread_mutex_unlock(&p->lock);
  os_aligned_free(s->staging);
  os_aligned_free(s);
  return PAGEDB_OK;
}
