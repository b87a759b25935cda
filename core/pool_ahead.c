/*
** pool_ahead.c - frames for read-ahead: see ahead.h.
**
** A frame that is out is in state AHEAD: on no list, in no page table, not in
** the ring; its bytes are in the budget. Its owner counts it (o->ahead), and the
** pool its bytes.
*/
#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "pool_int.h"

enum { AHEAD_SHARE = 8 }; /* of the pool, together */

static uint32_t epoch_of(const pagedb_owner *o)
{
  uint64_t want = atomic_load_explicit(&o->want, memory_order_relaxed);
  return (uint32_t)((want & PTE_EPOCH_MASK) / PTE_EPOCH_ONE);
}

/* Under the lock: whether the page is neither here nor on its way. An entry of
** an older epoch is in nobody's use. */
static int is_absent(pagedb_owner *o, uint64_t id)
{
  pte *e = table_find(o, id);
  uint64_t v = e == NULL ? 0 : atomic_load_explicit(e, memory_order_relaxed);
  uint64_t want = atomic_load_explicit(&o->want, memory_order_relaxed);
  if (v == 0)
    return 1;
  if ((v & PTE_BUSY) != 0 || (v & (PTE_EPOCH_MASK | PTE_PRESENT)) == want)
    return 0;
  frame_orphan(o->pool, frame_at(o->pool, pte_loc(v)));
  return 1;
}

/* Under the lock. */
static frame *frame_out(pagedb_owner *o)
{
  pagedb_pool *p = o->pool;
  uint64_t bytes = (uint64_t)1 << o->class;
  if (p->ahead_bytes + bytes > p->capacity / AHEAD_SHARE)
    return NULL;
  frame *f = frame_get_clean(p, o->class);
  if (f == NULL)
    return NULL;
  f->state = FRAME_AHEAD;
  p->ahead_bytes += bytes;
  o->ahead++;
  return f;
}

static int by_place(const void *a, const void *b)
{
  uint32_t x = (*(frame *const *)a)->loc, y = (*(frame *const *)b)->loc;
  return x < y ? -1 : x > y;
}

/* Neighbouring pages into neighbouring memory: one piece for the device, where
** there might be hundreds. */
static void frames_sort(pagedb_pool *p, ahead_page *a, unsigned n)
{
  frame *f[AHEAD_MAX];
  for (unsigned i = 0; i < n; i++)
    f[i] = a[i].frame;
  qsort(f, n, sizeof f[0], by_place);
  for (unsigned i = 0; i < n; i++) {
    a[i].frame = f[i];
    a[i].data = frame_data(p, f[i]->loc);
  }
}

unsigned ahead_begin(pagedb_owner *o, const uint64_t *ids, unsigned n,
                     uint64_t more, ahead_page *out, unsigned *looked)
{
  pagedb_pool *p = o->pool;
  unsigned got = 0, i;
  pthread_mutex_lock(&p->lock);
  p->coming = ((uint64_t)n << o->class) + more;
  for (i = 0; i < n; i++) {
    if (ids[i] > (uint64_t)INT64_MAX >> o->class || !is_absent(o, ids[i]))
      continue;
    frame *f = frame_out(o);
    if (f == NULL)
      break;
    out[got++] = (ahead_page){.page = ids[i], .epoch = epoch_of(o), .frame = f};
  }
  p->coming = 0;
  pthread_mutex_unlock(&p->lock);
  frames_sort(p, out, got);
  *looked = i;
  return got;
}

/* Under the lock: the page is in the pool from here on. 0: no memory. */
static int publish(pagedb_owner *o, const ahead_page *a, uint64_t bits)
{
  pagedb_pool *p = o->pool;
  frame *f = a->frame;
  pte *e = table_make(o, a->page);
  if (e == NULL)
    return 0;
  f->state = FRAME_RESIDENT;
  f->entry = e;
  f->owner = o;
  f->page = a->page;
  atomic_store_explicit(&f->lsn, a->lsn, memory_order_relaxed);
  o->resident++;
  frame_enter(p, f);
  table_fill(e, a->page,
             PTE_PRESENT | bits | (uint64_t)a->epoch * PTE_EPOCH_ONE |
                 (uint64_t)f->loc << PTE_LOC_SHIFT);
  return 1;
}

/*
** Under the lock: the frame is given back, as a page or empty. The budget may have
** shrunk since it was taken, and could not have it then: it goes now.
*/
static int give_back(pagedb_owner *o, const ahead_page *a, int good,
                     uint64_t bits)
{
  pagedb_pool *p = o->pool;
  p->ahead_bytes -= (uint64_t)1 << o->class;
  o->ahead--;
  if (good && p->used <= p->capacity && a->epoch == epoch_of(o) &&
      is_absent(o, a->page) && publish(o, a, bits))
    return 1;
  frame_put_within(p, a->frame);
  return 0;
}

void ahead_end(pagedb_owner *o, ahead_page *a, unsigned n,
               int (*still)(void *arg, const ahead_page *), void *arg)
{
  pagedb_pool *p = o->pool;
  pthread_mutex_lock(&p->lock);
  for (unsigned i = 0; i < n; i++) {
    if (give_back(o, &a[i], a[i].good && still(arg, &a[i]),
                  PTE_ACCESSED | PTE_AHEAD))
      p->stats.pages_read++;
    else
      p->stats.ahead_wasted++;
  }
  pool_wake(p);
  pthread_mutex_unlock(&p->lock);
}

void ahead_offer(pagedb_owner *o, uint64_t id, const void *page, uint64_t lsn)
{
  pagedb_pool *p = o->pool;
  ahead_page a;
  unsigned looked;
  if (ahead_begin(o, &id, 1, 0, &a, &looked) == 0)
    return;
  memcpy(a.data, page, (size_t)1 << o->class);
  a.lsn = lsn;
  pthread_mutex_lock(&p->lock);
  give_back(o, &a, 1, 0);
  pool_wake(p);
  pthread_mutex_unlock(&p->lock);
}

int ahead_look(pagedb_session *s, pagedb_owner *o, uint64_t id, pagedb_pin *pin)
{
  if (!pagedb_fetch_resident(s, o, id, pin))
    return 0;
  if (pagedb_latch_shared_try(pin) == PAGEDB_OK)
    return 1;
  pagedb_unpin(pin);
  return 0;
}

enum { LINE = 64, LINES_MAX = 4096 };

void ahead_lines(pagedb_session *s, pagedb_owner *o, uint64_t id)
{
  table_enter(s);
  pte *e = table_find(o, id);
  uint64_t v = e == NULL ? 0 : atomic_load_explicit(e, memory_order_relaxed);
  table_leave(s);
  if ((v & PTE_PRESENT) == 0)
    return;
  /* The arena stays where it is, whatever becomes of the page. */
  const unsigned char *data = frame_data(s->pool, pte_loc(v));
  for (uint32_t i = 0; i < LINES_MAX && i < (uint32_t)1 << o->class; i += LINE)
    __builtin_prefetch(data + i, 0, 2);
}
