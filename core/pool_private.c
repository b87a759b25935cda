/*
** pool_private.c - private frames: how they are got, taken by the hand, and
** given back (private.h). Everything here runs under pool->lock but the pins
** themselves.
**
** A private frame that was got within the budget is in the clock's ring; others
** are APART, so that the hand does not walk over what it cannot have. Excess is
** a number of the set, not a property of a frame: whichever frame of the set
** goes next pays it back, and while there is any no frame of the set is
** unpinned. A frame apart that outlives the excess enters the ring when it is
** unpinned.
**
** Where addresses of the arena or memory for a slab are out, a frame that must
** be had is LOOSE: memory of its own, in no slab, in no ring.
*/
#include <stdlib.h>

#include "pool_int.h"

typedef struct loose {
  frame frame;
  void *data;
} loose;

static uint64_t set_bytes(const private_set *s)
{
  return (uint64_t)1 << s->class;
}

/* The pool is the parent's of this forked process: its lock may be held for
** ever, its frames are not there. */
static int is_forked(const private_set *s)
{
  return atomic_load(s->slow) == POOL_FORKED;
}

/* Under the lock: add to a count that its user reads without it. */
static void count_add(_Atomic uint32_t *n, int by)
{
  uint32_t v = atomic_load_explicit(n, memory_order_relaxed);
  atomic_store_explicit(n, v + (uint32_t)by, memory_order_relaxed);
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
  if (is_forked(s))
    return;
  pthread_mutex_lock(&p->lock);
  if (s->prev != NULL)
    s->prev->next = s->next;
  else
    p->sets = s->next;
  if (s->next != NULL)
    s->next->prev = s->prev;
  p->stats.private_hits += atomic_load(&s->hits);
  p->stats.private_misses += atomic_load(&s->misses);
  pthread_mutex_unlock(&p->lock);
}

/* --------------------------------------------------------------------- get */

/* A set with its share of a full budget has to live on its own pages. */
static int has_its_share(const private_set *s)
{
  uint64_t inside = atomic_load(&s->frames) - atomic_load(&s->excess);
  return (inside + 1) * set_bytes(s) > s->pool->capacity / 4 * 3;
}

/* A frame in the budget, or NULL. */
static frame *get_inside(private_set *s)
{
  pagedb_pool *p = s->pool;
  frame *f = frame_ready(p, s->class);
  if (f == NULL && !has_its_share(s))
    f = frame_get_clean(p, s->class);
  if (f != NULL)
    frame_enter(p, f);
  return f;
}

static frame *loose_new(private_set *s)
{
  uint64_t bytes = set_bytes(s);
  loose *l = calloc(1, sizeof *l);
  if (l == NULL)
    return NULL;
  l->data = os_aligned_alloc(bytes < 4096 ? bytes : 4096, bytes + 16);
  if (l->data != NULL)
    return &l->frame;
  free(l);
  return NULL;
}

/* A frame that is not in the budget; NULL: no memory. */
static frame *get_outside(private_set *s)
{
  frame *f = frame_get_outside(s->pool, s->class);
  if (f == NULL)
    f = loose_new(s);
  if (f == NULL)
    return NULL;
  if (s->purgeable) {
    count_add(&s->excess, 1);
    s->pool->excess += set_bytes(s);
    s->pool->stats.private_excesses++;
  } else {
    s->pool->outside += set_bytes(s);
  }
  return f;
}

static void *cell_fill(private_set *s, private_cell *c, frame *f)
{
  int is_loose = f->slab == NULL;
  f->state = FRAME_PRIVATE;
  f->cell = c;
  f->set = s;
  c->frame = f;
  atomic_store_explicit(&c->pinned, 1, memory_order_relaxed);
  atomic_store_explicit(&c->used, 0, memory_order_relaxed);
  atomic_store_explicit(&c->claim, PRIVATE_FREE, memory_order_relaxed);
  count_add(&s->frames, 1);
  return is_loose ? ((loose *)(void *)f)->data : frame_data(s->pool, f->loc);
}

void *private_get(private_set *s, private_cell *c, private_need need)
{
  void *data = NULL;
  if (is_forked(s))
    return NULL;
  pthread_mutex_lock(&s->pool->lock);
  frame *f = s->purgeable ? get_inside(s) : NULL;
  c->apart = s->purgeable && f == NULL;
  if (f == NULL && (need == PRIVATE_MUST || !s->purgeable))
    f = get_outside(s);
  if (f != NULL)
    data = cell_fill(s, c, f);
  if (c->apart)
    pool_note_over(s->pool);
  pthread_mutex_unlock(&s->pool->lock);
  return data;
}

/* -------------------------------------------------------------------- drop */

void private_settle(private_set *s)
{
  pagedb_pool *p = s->pool;
  while (atomic_load(&s->excess) > 0 && p->used + set_bytes(s) <= p->capacity) {
    count_add(&s->excess, -1);
    p->excess -= set_bytes(s);
    p->used += set_bytes(s);
  }
}

private_set *private_owed(const pagedb_pool *p)
{
  private_set *s = p->excess == 0 ? NULL : p->sets;
  while (s != NULL && (atomic_load(&s->excess) == 0 || has_its_share(s)))
    s = s->next;
  return s;
}

/* Room is first for the excess of those who have it only because others had
** everything pinned. */
static void pay_debts(pagedb_pool *p)
{
  private_set *s = private_owed(p);
  while (s != NULL && p->used + set_bytes(s) <= p->capacity) {
    private_settle(s);
    s = private_owed(p);
  }
}

/* The frame's bytes leave the account in which they stand. */
static void bytes_leave(private_set *s)
{
  pagedb_pool *p = s->pool;
  if (!s->purgeable) {
    p->outside -= set_bytes(s);
  } else if (atomic_load(&s->excess) > 0) {
    count_add(&s->excess, -1);
    p->excess -= set_bytes(s);
  } else {
    p->used -= set_bytes(s);
  }
}

/* Drop a frame. 1: its memory is still to go back to the system. */
static int drop_one(private_set *s, private_cell *c, int give_back)
{
  pagedb_pool *p = s->pool;
  frame *f = c->frame;
  if (atomic_load(&c->claim) == PRIVATE_TAKEN)
    return 0;
  bytes_leave(s);
  count_add(&s->frames, -1);
  pay_debts(p);
  if (f->slab == NULL) {
    os_aligned_free(((loose *)(void *)f)->data);
    free(f);
    return 0;
  }
  if (s->purgeable && !c->apart)
    frame_leave(p, f);
  return give_back || !frame_return(p, f);
}

void private_drop(private_set *s, private_cell **c, unsigned n, int give_back)
{
  pagedb_pool *p = s->pool;
  frame *gone[64];
  unsigned many = 0;
  if (is_forked(s))
    return;
  pthread_mutex_lock(&p->lock);
  for (unsigned i = 0; i < n; i++) {
    if (drop_one(s, c[i], give_back))
      gone[many++] = c[i]->frame;
    if (many == sizeof gone / sizeof gone[0] || i == n - 1) {
      frames_decommit(p, gone, many);
      many = 0;
    }
  }
  pool_note_over(p);
  pthread_mutex_unlock(&p->lock);
}

void private_trim(private_set *s)
{
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
  if (!is_forked(s)) {
    pthread_mutex_lock(&s->pool->lock);
    here = atomic_load(&c->claim) == PRIVATE_FREE;
    pthread_mutex_unlock(&s->pool->lock);
  }
  if (!here)
    atomic_store_explicit(&c->pinned, 0, memory_order_relaxed);
  return here;
}

/* Under the lock: whether an unpinned frame of the set may stay. */
static int may_keep(private_set *s, const private_cell *c)
{
  private_settle(s);
  return atomic_load(&s->excess) == 0 && s->pool->used <= s->pool->capacity &&
         private_owed(s->pool) == NULL && c->frame->slab != NULL;
}

int private_unpin_slowly(private_set *s, private_cell *c)
{
  pagedb_pool *p = s->pool;
  int keep = 1;
  if (s->purgeable && !is_forked(s)) {
    pthread_mutex_lock(&p->lock);
    keep = may_keep(s, c);
    if (keep && c->apart) {
      frame_enter(p, c->frame);
      c->apart = 0;
    }
    pthread_mutex_unlock(&p->lock);
  }
  if (keep)
    atomic_store_explicit(&c->pinned, 0, memory_order_release);
  return keep;
}

/* --------------------------------------------------------------- the hand's */

int private_is_victim(frame *f)
{
  return !private_is_pinned(f->cell) && !private_was_touched(f->cell);
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
