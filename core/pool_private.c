/*
** pool_private.c - private frames: how they are got, taken by the hand, and
** given back (private.h).
**
** Frames of the budget are the pool's: what is done to them is done under
** pool->lock. They are in the clock's ring, but those that the hand met pinned:
** these are ASIDE until they are unpinned.
**
** Pages outside of the budget are the set's own. They stand in chunks, mappings
** that grow with what the set has outside, and need neither the lock nor
** anything else of the pool: a memory database takes none of its addresses, and
** goes on in a forked child. A chunk without a page goes back to the system,
** but for a small one, so that a page that comes and goes makes no mapping each
** time.
*/
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"

static uint64_t set_bytes(const private_set *s)
{
  return (uint64_t)1 << s->class;
}

/* The pool is the parent's of this forked process: its lock may be held for
** ever, its frames are not there. */
static int is_forked(const private_set *s)
{
  return atomic_load_explicit(s->slow, memory_order_relaxed) == POOL_FORKED;
}

/* Add to a number that has one writer, or whose writers hold the lock. */
static void count_add(_Atomic uint32_t *n, int by)
{
  uint32_t v = atomic_load_explicit(n, memory_order_relaxed);
  atomic_store_explicit(n, v + (uint32_t)by, memory_order_relaxed);
}

static uint32_t value(const _Atomic uint32_t *n)
{
  return atomic_load_explicit(n, memory_order_relaxed);
}

/* ------------------------------------------------------------------- chunks */

struct private_chunk {
  private_chunk *next, *prev; /* of the set's open or full ones */
  unsigned char *memory;
  size_t bytes;
  uint16_t places, used, live; /* all; taken once; taken now */
  uint16_t free; /* place + 1; the next one stands in its memory */
};

enum {
  CHUNK_LEAST = 1 << 16,
  CHUNK_KEPT = 1 << 20,
  CHUNK_MOST = 1 << 24, /* places of 512 bytes still fit a cell */
  CHUNK_BEHIND = 4096   /* may be read behind the last page */
};

static void chunk_unlink(private_chunk **list, private_chunk *k)
{
  if (k->prev != NULL)
    k->prev->next = k->next;
  else
    *list = k->next;
  if (k->next != NULL)
    k->next->prev = k->prev;
}

static void chunk_push(private_chunk **list, private_chunk *k)
{
  k->prev = NULL;
  k->next = *list;
  if (k->next != NULL)
    k->next->prev = k;
  *list = k;
}

static void chunk_free(private_chunk **list, private_chunk *k)
{
  chunk_unlink(list, k);
  os_release(k->memory, k->bytes);
  free(k);
}

/* An eighth of what the set has outside, within limits. */
static private_chunk *chunk_new(private_set *s)
{
  uint64_t bytes = CHUNK_LEAST, wanted = value(&s->outside) * set_bytes(s) / 8;
  while (bytes < CHUNK_MOST && bytes < wanted)
    bytes *= 2;
  if (bytes < set_bytes(s))
    bytes = set_bytes(s);
  private_chunk *k = calloc(1, sizeof *k);
  if (k == NULL)
    return NULL;
  k->places = (uint16_t)(bytes >> s->class);
  k->bytes = (size_t)bytes + CHUNK_BEHIND;
  k->memory = os_map(k->bytes);
  if (k->memory == NULL) {
    free(k);
    return NULL;
  }
  chunk_push(&s->open, k);
  return k;
}

static unsigned char *place_at(const private_set *s, const private_chunk *k,
                               uint16_t place)
{
  return k->memory + ((size_t)(place - 1) << s->class);
}

/* A page outside of the budget; NULL: no memory. */
static void *outside_get(private_set *s, private_cell *c)
{
  private_chunk *k = s->open;
  if (k == NULL && (k = chunk_new(s)) == NULL)
    return NULL;
  c->chunk = k;
  c->place = k->free;
  if (k->free != 0)
    memcpy(&k->free, place_at(s, k, c->place), sizeof k->free);
  else
    c->place = ++k->used;
  if (++k->live == k->places) {
    chunk_unlink(&s->open, k);
    chunk_push(&s->full, k);
  }
  count_add(&s->outside, 1);
  if (s->purgeable)
    private_count(&s->excesses);
  return place_at(s, k, c->place);
}

static void outside_drop(private_set *s, private_cell *c)
{
  private_chunk *k = c->chunk;
  if (k->live-- == k->places) {
    chunk_unlink(&s->full, k);
    chunk_push(&s->open, k);
  }
  memcpy(place_at(s, k, c->place), &k->free, sizeof k->free);
  k->free = c->place;
  count_add(&s->outside, -1);
  if (k->live == 0 &&
      (k->bytes > CHUNK_KEPT || k->next != NULL || k->prev != NULL))
    chunk_free(&s->open, k);
}

static void empty_chunks_free(private_set *s)
{
  private_chunk *next;
  for (private_chunk *k = s->open; k != NULL; k = next) {
    next = k->next;
    if (k->live == 0)
      chunk_free(&s->open, k);
  }
}

/* --------------------------------------------------------------------- set */

int private_open(pagedb_pool *p, private_set *s, uint32_t page_size,
                 int purgeable)
{
  uint32_t class = 0;
  while (class <= CLASS_MAX && (uint32_t)1 << class != page_size)
    class ++;
  if (class < CLASS_MIN || class > CLASS_MAX)
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, NULL, PAGEDB_NONE, page_size,
                            0, "bytes per page");
  *s = (private_set){.pool = p,
                     .class = class,
                     .purgeable = purgeable,
                     .asymmetric = p->asymmetric,
                     .slow = &p->slow};
  pthread_mutex_lock(&p->lock);
  s->next = p->sets;
  if (p->sets != NULL)
    p->sets->prev = s;
  p->sets = s;
  pthread_mutex_unlock(&p->lock);
  return PAGEDB_OK;
}

void private_close(private_set *s)
{
  pagedb_pool *p = s->pool;
  empty_chunks_free(s);
  if (is_forked(s))
    return;
  pthread_mutex_lock(&p->lock);
  if (s->prev != NULL)
    s->prev->next = s->next;
  else
    p->sets = s->next;
  if (s->next != NULL)
    s->next->prev = s->prev;
  p->pinned -= s->counted * set_bytes(s);
  p->stats.private_hits += atomic_load(&s->hits);
  p->stats.private_misses += atomic_load(&s->misses);
  p->stats.private_excesses += atomic_load(&s->excesses);
  pthread_mutex_unlock(&p->lock);
}

/* --------------------------------------------------------------------- get */

/* Frames of the budget that the set has pinned. What another thread reads here
** may be apart by what its owner does at the moment. */
static uint32_t count_pinned(const private_set *s)
{
  int64_t n = (int64_t)private_pinned(s) - value(&s->outside);
  return n < 0 ? 0 : n > value(&s->frames) ? value(&s->frames) : (uint32_t)n;
}

/* Ask every set what it has pinned: not at every get, but once in as many as a
** batch of victims has, less in a small pool. */
static void pinned_count(pagedb_pool *p)
{
  if (p->pinned_age > 0) {
    p->pinned_age--;
    return;
  }
  uint64_t batch = p->ring_len / 128;
  p->pinned_age = batch > RECLAIM_BATCH ? RECLAIM_BATCH : (unsigned)batch;
  p->pinned = 0;
  for (private_set *s = p->sets; s != NULL; s = s->next) {
    s->counted = s->purgeable ? count_pinned(s) : 0;
    p->pinned += s->counted * set_bytes(s);
  }
}

/* The set has three quarters of what the others have not pinned. */
static int has_its_share(private_set *s)
{
  pagedb_pool *p = s->pool;
  pinned_count(p);
  uint64_t others = p->pinned - s->counted * set_bytes(s);
  uint64_t left = p->capacity > others ? p->capacity - others : 0;
  return ((uint64_t)value(&s->frames) + 1) * set_bytes(s) > left / 4 * 3;
}

static void cell_begin(private_set *s, private_cell *c)
{
  atomic_store_explicit(&c->pinned, 1, memory_order_relaxed);
  atomic_store_explicit(&c->used, 0, memory_order_relaxed);
  atomic_store_explicit(&c->claim, PRIVATE_FREE, memory_order_relaxed);
  /* Excess is not to stay when it is unpinned. */
  atomic_store_explicit(&c->apart, s->purgeable && c->place != 0,
                        memory_order_relaxed);
  private_count(&s->pins);
}

/* A frame of the budget, in the ring; NULL: none within the set's share. */
static void *inside_get(private_set *s, private_cell *c)
{
  pagedb_pool *p = s->pool;
  frame *f = NULL;
  pthread_mutex_lock(&p->lock);
  if (!has_its_share(s))
    f = frame_get_clean(p, s->class);
  if (f != NULL) {
    f->state = FRAME_PRIVATE;
    f->cell = c;
    f->set = s;
    f->aside = 0;
    c->frame = f;
    c->place = 0;
    cell_begin(s, c);
    count_add(&s->frames, 1);
    frame_enter(p, f);
  }
  pthread_mutex_unlock(&p->lock);
  return f == NULL ? NULL : frame_data(p, f->loc);
}

void *private_get(private_set *s, private_cell *c, private_need need)
{
  void *data = NULL;
  if (s->purgeable && !is_forked(s))
    data = inside_get(s, c);
  if (data != NULL || (s->purgeable && need == PRIVATE_MAY))
    return data;
  data = outside_get(s, c);
  if (data != NULL)
    cell_begin(s, c);
  return data;
}

/* -------------------------------------------------------------------- drop */

/* Under the lock: drop a frame of the budget that was not taken. 1: its memory
** is still to go back to the system. */
static int inside_drop(private_set *s, frame *f, int give_back)
{
  pagedb_pool *p = s->pool;
  p->used -= set_bytes(s);
  count_add(&s->frames, -1);
  if (!f->aside)
    frame_leave(p, f);
  return give_back || !frame_return(p, f);
}

/* Of c[0..n): drop the frames of the budget, up to some; how many were looked
** at. */
static unsigned drop_some(private_set *s, private_cell *const *c, unsigned n,
                          int give_back)
{
  frame *gone[64];
  unsigned many = 0, i = 0;
  for (; i < n && many < sizeof gone / sizeof gone[0]; i++)
    if (c[i]->place == 0 && atomic_load(&c[i]->claim) != PRIVATE_TAKEN &&
        inside_drop(s, c[i]->frame, give_back))
      gone[many++] = c[i]->frame;
  frames_decommit(s->pool, gone, many);
  return i;
}

/* In a forked child there is nothing to give back. */
static void drop_forked(private_set *s, private_cell *const *c, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    if (c[i]->place == 0 && atomic_load(&c[i]->claim) != PRIVATE_TAKEN)
      count_add(&s->frames, -1);
}

void private_drop(private_set *s, private_cell *const *c, unsigned n,
                  int give_back)
{
  unsigned inside = 0;
  for (unsigned i = 0; i < n; i++) {
    if (private_is_pinned(c[i]))
      private_count(&s->unpins);
    if (c[i]->place != 0)
      outside_drop(s, c[i]);
    else
      inside++;
  }
  if (inside == 0)
    return;
  if (is_forked(s)) {
    drop_forked(s, c, n);
    return;
  }
  pthread_mutex_lock(&s->pool->lock);
  for (unsigned i = 0; i < n;)
    i += drop_some(s, c + i, n - i, give_back);
  pool_note_over(s->pool);
  pthread_mutex_unlock(&s->pool->lock);
}

void private_trim(private_set *s)
{
  empty_chunks_free(s);
  if (is_forked(s))
    return;
  pthread_mutex_lock(&s->pool->lock);
  slabs_sweep(s->pool);
  pthread_mutex_unlock(&s->pool->lock);
}

/* -------------------------------------------------------------------- pins */

int private_pin_slowly(private_set *s, private_cell *c)
{
  int here = 0;
  if (c->place != 0) {
    here = 1;
  } else if (is_forked(s)) {
    /* As if the hand had taken it. */
    if (atomic_load(&c->claim) != PRIVATE_TAKEN)
      count_add(&s->frames, -1);
    atomic_store(&c->claim, PRIVATE_TAKEN);
  } else {
    pthread_mutex_lock(&s->pool->lock);
    here = atomic_load(&c->claim) == PRIVATE_FREE;
    pthread_mutex_unlock(&s->pool->lock);
  }
  if (here)
    private_count(&s->pins);
  else
    atomic_store_explicit(&c->pinned, 0, memory_order_relaxed);
  return here;
}

int private_unpin_slowly(private_set *s, private_cell *c)
{
  pagedb_pool *p = s->pool;
  int keep = 1;
  if (c->place != 0)
    return !s->purgeable;
  if (is_forked(s))
    return 0;
  pthread_mutex_lock(&p->lock);
  if (atomic_load(&c->claim) != PRIVATE_TAKEN) {
    if (c->frame->aside) {
      c->frame->aside = 0;
      frame_enter(p, c->frame);
    }
    atomic_store(&c->apart, 0);
    keep = p->used <= p->capacity;
  }
  pthread_mutex_unlock(&p->lock);
  return keep;
}

/* --------------------------------------------------------------- the hand's */

int private_is_victim(frame *f)
{
  return !private_was_touched(f->cell);
}

int private_put_apart(frame *f)
{
  if (!private_is_pinned(f->cell) || atomic_load(&f->cell->apart))
    return 0;
  atomic_store(&f->cell->apart, 1);
  return 1;
}

void private_look_again(pagedb_pool *p, frame *f)
{
  if (atomic_load(&f->cell->pinned)) {
    frame_leave(p, f);
    f->aside = 1;
    p->stats.private_aside++;
  } else {
    atomic_store(&f->cell->apart, 0);
  }
}

void private_claim(frame *f)
{
  atomic_store(&f->cell->claim, PRIVATE_CLAIMED);
}

int private_claimed_is_pinned(frame *f)
{
  return atomic_load(&f->cell->pinned);
}

void private_release(frame *f)
{
  atomic_store(&f->cell->claim, PRIVATE_FREE);
}

void private_take(pagedb_pool *p, frame *f)
{
  count_add(&f->set->frames, -1);
  p->stats.private_taken++;
  atomic_store(&f->cell->claim, PRIVATE_TAKEN);
}
