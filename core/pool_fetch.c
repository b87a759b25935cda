/*
** pool_fetch.c - how a page is found, brought in, let go, and thrown away.
**
** A hit takes no lock: walk the page table, write the location into a free
** hazard slot, look at the entry again. When the entry still says PRESENT in
** the current epoch, the frame cannot be reclaimed until the slot is cleared
** (pool_int.h, PINS). Everything else takes pool->lock, but never while the
** store reads: a page on its way in is BUSY in the table, and whoever wants it
** as well waits for it instead of reading it again.
*/
#include <string.h>

#include "pool_int.h"

/* -------------------------------------------------------------------- pins */

/* Publish location + 1 in a slot so that reclaimers see it before we look at
** the entry again. */
static inline void slot_publish(pagedb_session *s, uint32_t i, uint32_t value)
{
  if (s->asymmetric) {
    atomic_store_explicit(&s->slot[i], value, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
  } else {
    atomic_exchange(&s->slot[i], value);
  }
}

static inline void count_hit(pagedb_session *s)
{
  /* One writer: no read-modify-write is needed for others to read it whole. */
  uint64_t n = atomic_load_explicit(&s->hits, memory_order_relaxed);
  atomic_store_explicit(&s->hits, n + 1, memory_order_relaxed);
}

static inline void pin_fill(pagedb_pin *pin, pagedb_session *s, pagedb_owner *o,
                            uint32_t slot, uint32_t loc)
{
  pin->data = frame_data(s->pool, loc);
  pin->owner = o;
  pin->session = s;
  pin->slot = slot;
  pin->latch = 0;
  pin->first = 0;
}

/*
** The page that entry v stands for is pinned, and this use is to be noted. One
** that was read ahead had its reference bit so that it would stay until now; from
** here on it is like a page that was just read for somebody.
*/
static void note_use(pagedb_session *s, pte *e, uint64_t v, pagedb_pin *pin)
{
  /* Not an OR: a pinned page may be orphaned, and its entry cleared or given to
  ** another frame, between the look and this. */
  uint64_t now =
      (v & PTE_AHEAD) != 0 ? v & ~(PTE_ACCESSED | PTE_AHEAD) : v | PTE_ACCESSED;
  if (!atomic_compare_exchange_strong_explicit(e, &v, now, memory_order_relaxed,
                                               memory_order_relaxed) ||
      (v & PTE_AHEAD) == 0)
    return;
  pin->first = 1;
  uint64_t n = atomic_load_explicit(&s->ahead_used, memory_order_relaxed);
  atomic_store_explicit(&s->ahead_used, n + 1, memory_order_relaxed);
}

/* The hit. 0: not there, or not to be had without the lock. */
static inline __attribute__((always_inline)) int
pin_resident(pagedb_session *s, pagedb_owner *o, uint64_t id, pagedb_pin *pin)
{
  int hit = 0;
  if (s->free_slots == 0)
    return 0;
  uint32_t i = (uint32_t)__builtin_ctz(s->free_slots);
  table_enter(s);
  pte *e = table_find(o, id);
  if (e != NULL) {
    uint64_t v = atomic_load_explicit(e, memory_order_acquire);
    uint64_t want = atomic_load_explicit(&o->want, memory_order_acquire);
    if ((v & (PTE_EPOCH_MASK | PTE_PRESENT)) == want) {
      slot_publish(s, i, pte_loc(v) + 1);
      hit = ((atomic_load(e) ^ v) & ~(PTE_ACCESSED | PTE_AHEAD)) == 0;
      if (!hit) {
        atomic_store_explicit(&s->slot[i], 0, memory_order_release);
      } else {
        s->free_slots &= s->free_slots - 1;
        pin_fill(pin, s, o, i, pte_loc(v));
        if ((v & (PTE_ACCESSED | PTE_AHEAD)) != PTE_ACCESSED)
          note_use(s, e, v, pin);
      }
    }
  }
  table_leave(s);
  return hit;
}

/* Under the lock nothing is reclaimed: take a slot, or count. */
static void pin_locked(pagedb_session *s, pagedb_owner *o, frame *f,
                       pagedb_pin *pin)
{
  uint32_t i = PIN_COUNTED;
  if (s->free_slots != 0) {
    i = (uint32_t)__builtin_ctz(s->free_slots);
    s->free_slots &= s->free_slots - 1;
    atomic_store(&s->slot[i], f->loc + 1);
  } else {
    atomic_fetch_add(&f->pins, 1);
    s->counted++;
  }
  pin_fill(pin, s, o, i, f->loc);
}

uint32_t pins_scan(pagedb_pool *p)
{
  uint32_t scan = ++p->scans;
  for (pagedb_session *s = p->sessions; s != NULL; s = s->next)
    for (int i = 0; i < SESSION_SLOTS; i++) {
      uint32_t v = atomic_load(&s->slot[i]);
      /* A slot may name a frame that a failing hit is about to let go, whose
      ** slab is gone by now. */
      if (v != 0 && p->unit[(v - 1) >> (UNIT_SHIFT - LOC_SHIFT)] != NULL)
        frame_at(p, v - 1)->seen = scan;
    }
  return scan;
}

static inline void slot_clear(pagedb_session *s, uint32_t i)
{
  atomic_store_explicit(&s->slot[i], 0, memory_order_release);
  s->free_slots |= (uint32_t)1 << i;
}

void pagedb_unpin(pagedb_pin *pin)
{
  pagedb_session *s = pin->session;
  if (pin->latch != 0)
    pagedb_unlatch(pin);
  if (pin->slot != PIN_COUNTED) {
    slot_clear(s, pin->slot);
  } else {
    atomic_fetch_sub(&frame_of_pin(pin)->pins, 1);
    s->counted--;
  }
  pin->data = NULL;
}

void pagedb_unpin_data(pagedb_session *s, void *data)
{
  /* Not by the frame's header, which a hit has not touched. */
  uint32_t named =
      (uint32_t)(((unsigned char *)data - s->pool->arena) >> LOC_SHIFT) + 1;
  for (uint32_t used = ~s->free_slots; used != 0; used &= used - 1) {
    uint32_t i = (uint32_t)__builtin_ctz(used);
    if (atomic_load_explicit(&s->slot[i], memory_order_relaxed) == named) {
      slot_clear(s, i);
      return;
    }
  }
  pagedb_pin pin = {.data = data, .session = s, .slot = PIN_COUNTED};
  pagedb_unpin(&pin);
}

uint64_t pagedb_pin_lsn(const pagedb_pin *pin)
{
  return atomic_load_explicit(&frame_of_pin(pin)->lsn, memory_order_relaxed);
}

/* ----------------------------------------------------------------- latches */

enum { LATCH_NONE, LATCH_SHARED, LATCH_EXCLUSIVE };

/* A latch asked for through this pin would wait for its own session. */
static int latch_refused(const pagedb_pin *pin)
{
  if (pin->latch == LATCH_NONE &&
      !latch_held_by(frame_of_pin(pin), pin->session))
    return 0;
  pagedb_fault_set(PAGEDB_EMISUSE, 0, pin->owner->store->name,
                   frame_of_pin(pin)->page, 0, 0,
                   "latched already by this session");
  return 1;
}

static void latch_taken(pagedb_pin *pin, uint32_t kind)
{
  pin->latch = kind;
  pin->session->latches++;
}

int pagedb_latch_shared(pagedb_pin *pin)
{
  if (latch_refused(pin))
    return PAGEDB_EMISUSE;
  latch_shared(pin->session->pool, frame_of_pin(pin));
  latch_taken(pin, LATCH_SHARED);
  return PAGEDB_OK;
}

int pagedb_latch_exclusive(pagedb_pin *pin)
{
  if (latch_refused(pin))
    return PAGEDB_EMISUSE;
  latch_exclusive(pin->session->pool, frame_of_pin(pin), pin->session);
  latch_taken(pin, LATCH_EXCLUSIVE);
  return PAGEDB_OK;
}

static int latch_busy(const pagedb_pin *pin)
{
  return pagedb_fault_set(PAGEDB_EBUSY, 0, pin->owner->store->name,
                          frame_of_pin(pin)->page, 0, 0,
                          "latched by another session");
}

int pagedb_latch_shared_try(pagedb_pin *pin)
{
  if (latch_refused(pin))
    return PAGEDB_EMISUSE;
  if (!latch_try_shared(frame_of_pin(pin)))
    return latch_busy(pin);
  latch_taken(pin, LATCH_SHARED);
  return PAGEDB_OK;
}

int pagedb_latch_exclusive_try(pagedb_pin *pin)
{
  if (latch_refused(pin))
    return PAGEDB_EMISUSE;
  if (!latch_try_exclusive(frame_of_pin(pin), pin->session))
    return latch_busy(pin);
  latch_taken(pin, LATCH_EXCLUSIVE);
  return PAGEDB_OK;
}

void pagedb_unlatch(pagedb_pin *pin)
{
  frame *f = frame_of_pin(pin);
  if (pin->latch == LATCH_NONE)
    return;
  if (pin->latch == LATCH_SHARED)
    latch_release_shared(pin->session->pool, f);
  else
    latch_release_exclusive(pin->session->pool, f);
  pin->latch = LATCH_NONE;
  pin->session->latches--;
}

/* ----------------------------------------------------------------- waiting */

void pool_wait(pagedb_pool *p)
{
  p->waiters++;
  pthread_cond_wait(&p->changed, &p->lock);
  p->waiters--;
}

void pool_wake(pagedb_pool *p)
{
  if (p->waiters > 0)
    pthread_cond_broadcast(&p->changed);
}

/* -------------------------------------------------------------------- miss */

/* What the table says of a page. */
enum presence { ABSENT, HERE, COMING, STALE };

static enum presence presence_of(pagedb_owner *o, uint64_t id, frame **f)
{
  pte *e = table_find(o, id);
  uint64_t v = e == NULL ? 0 : atomic_load_explicit(e, memory_order_relaxed);
  if (v == 0)
    return ABSENT;
  *f = frame_at(o->pool, pte_loc(v));
  if ((v & PTE_BUSY) != 0)
    return COMING;
  uint64_t want = atomic_load_explicit(&o->want, memory_order_relaxed);
  return (v & (PTE_EPOCH_MASK | PTE_PRESENT)) == want ? HERE : STALE;
}

/*
** Under the lock, page absent and f just got: make it the page's frame, BUSY.
** On failure f is free again.
*/
static int load_begin(pagedb_owner *o, uint64_t id, frame *f)
{
  pagedb_pool *p = o->pool;
  pte *e = table_make(o, id);
  if (e == NULL) {
    frame_put(p, f);
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, o->store->name, id, 0, 0,
                            "a node of the page table");
  }
  f->state = FRAME_LOADING;
  f->entry = e;
  f->owner = o;
  f->page = id;
  uint64_t epoch = atomic_load(&o->want) & PTE_EPOCH_MASK;
  table_fill(e, id, PTE_BUSY | epoch | (uint64_t)f->loc << PTE_LOC_SHIFT);
  o->loading++;
  p->busy++;
  p->stats.misses++;
  return PAGEDB_OK;
}

/* Under the lock: the page is in the frame; pin it and let others see it. */
static void load_end(pagedb_session *s, frame *f, pagedb_pin *pin)
{
  pagedb_owner *o = f->owner;
  f->state = FRAME_RESIDENT;
  o->loading--;
  o->resident++;
  s->pool->busy--;
  frame_enter(s->pool, f);
  pin_locked(s, o, f, pin);
  atomic_fetch_xor(f->entry, PTE_PRESENT | PTE_BUSY);
  pool_wake(s->pool);
}

static void load_fail(pagedb_pool *p, frame *f)
{
  pagedb_owner *o = f->owner;
  o->loading--;
  p->busy--;
  p->stats.read_errors++;
  table_clear(o, f->entry, f->page);
  table_tidy(p);
  frame_put(p, f);
  pool_wake(p);
}

/* Under the lock: read the page into its frame, releasing the lock. */
static int load_read(pagedb_session *s, frame *f)
{
  pagedb_pool *p = s->pool;
  pagedb_store *store = f->owner->store;
  void *data = frame_data(p, f->loc);
  uint64_t lsn = 0;
  int one = PAGEDB_OK;
  pagedb_run run = {
      .first = f->page, .count = 1, .pages = &data, .lsns = &lsn, .errs = &one};
  pthread_mutex_unlock(&p->lock);
  int err = store->read(store, &run, 1);
  atomic_store_explicit(&f->lsn, lsn, memory_order_relaxed);
  pthread_mutex_lock(&p->lock);
  if (err == PAGEDB_OK)
    p->stats.pages_read++;
  return err;
}

/*
** Under the lock: get to a point where the page is resident (*f is its frame)
** or absent with a free frame in *f. PAGEDB_OK and *resident say which.
*/
static int settle(pagedb_session *s, pagedb_owner *o, uint64_t id, frame **f,
                  int *resident)
{
  pagedb_pool *p = s->pool;
  frame *got = NULL;
  for (;;) {
    switch (presence_of(o, id, f)) {
    case HERE:
      if (got != NULL)
        frame_put(p, got);
      *resident = 1;
      return PAGEDB_OK;
    case COMING:
      pool_wait(p);
      continue;
    case STALE:
      frame_orphan(p, *f);
      continue;
    case ABSENT:
      break;
    }
    if (got != NULL) {
      *f = got;
      *resident = 0;
      return PAGEDB_OK;
    }
    int err = frame_get(s, o->class, &got);
    if (err != PAGEDB_OK)
      return err;
  }
}

static int id_refused(pagedb_owner *o, uint64_t id)
{
  if (id <= (uint64_t)INT64_MAX >> o->class)
    return 0;
  pagedb_fault_set(PAGEDB_ERANGE, 0, o->store->name, id, 0, 0, NULL);
  return 1;
}

static int fetch_slowly(pagedb_session *s, pagedb_owner *o, uint64_t id,
                        pagedb_pin *pin)
{
  frame *f;
  int resident;
  pagedb_pool *p = s->pool;
  if (id_refused(o, id))
    return PAGEDB_ERANGE;
  pthread_mutex_lock(&p->lock);
  int err = settle(s, o, id, &f, &resident);
  if (err == PAGEDB_OK && resident) {
    pin_locked(s, o, f, pin);
    note_use(s, f->entry, atomic_load(f->entry), pin);
    count_hit(s);
  } else if (err == PAGEDB_OK) {
    err = load_begin(o, id, f);
    if (err == PAGEDB_OK) {
      err = load_read(s, f);
      if (err == PAGEDB_OK)
        load_end(s, f, pin);
      else
        load_fail(p, f);
    }
  }
  pthread_mutex_unlock(&p->lock);
  return err;
}

int pagedb_fetch(pagedb_session *s, pagedb_owner *o, uint64_t id,
                 pagedb_pin *pin)
{
  if (pin_resident(s, o, id, pin)) {
    count_hit(s);
    return PAGEDB_OK;
  }
  return fetch_slowly(s, o, id, pin);
}

int pagedb_fetch_resident(pagedb_session *s, pagedb_owner *o, uint64_t id,
                          pagedb_pin *pin)
{
  frame *f;
  if (pin_resident(s, o, id, pin)) {
    count_hit(s);
    return 1;
  }
  pthread_mutex_lock(&s->pool->lock);
  int here = presence_of(o, id, &f) == HERE;
  if (here) {
    pin_locked(s, o, f, pin);
    note_use(s, f->entry, atomic_load(f->entry), pin);
    count_hit(s);
  }
  pthread_mutex_unlock(&s->pool->lock);
  return here;
}

/* ---------------------------------------------------------------- new page */

/* Under the lock: throw the resident page away to make it anew, waiting for a
** write of it that is under way. */
static int drop_resident(pagedb_owner *o, uint64_t id)
{
  pagedb_pool *p = o->pool;
  for (;;) {
    frame *f;
    switch (presence_of(o, id, &f)) {
    case ABSENT:
      return PAGEDB_OK;
    case COMING:
      pool_wait(p);
      continue;
    case STALE:
      frame_orphan(p, f);
      return PAGEDB_OK;
    case HERE:
      break;
    }
    if (f->writing) {
      pool_wait(p);
      continue;
    }
    if (frames_reclaim(p, &f, 1) == 1)
      return PAGEDB_OK;
    return pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, id, 0, 0,
                            "the page is pinned");
  }
}

int pagedb_fetch_new(pagedb_session *s, pagedb_owner *o, uint64_t id,
                     pagedb_pin *pin)
{
  frame *f;
  int resident = 0;
  pagedb_pool *p = s->pool;
  if (id_refused(o, id))
    return PAGEDB_ERANGE;
  pthread_mutex_lock(&p->lock);
  int err;
  do {
    err = drop_resident(o, id);
    if (err == PAGEDB_OK)
      err = settle(s, o, id, &f, &resident);
  } while (err == PAGEDB_OK && resident);
  if (err == PAGEDB_OK)
    err = load_begin(o, id, f);
  if (err == PAGEDB_OK) {
    frame_set_dirty(f); /* before the lock goes: keeps invalidate away */
    pthread_mutex_unlock(&p->lock);
    memset(frame_data(p, f->loc), 0, o->store->page_size);
    pthread_mutex_lock(&p->lock);
    atomic_store_explicit(&f->lsn, 0, memory_order_relaxed);
    latch_try_exclusive(f, s);
    load_end(s, f, pin);
    latch_taken(pin, LATCH_EXCLUSIVE);
  }
  pthread_mutex_unlock(&p->lock);
  return err;
}

/* ----------------------------------------------------------------- discard */

int pagedb_discard(pagedb_owner *o, uint64_t id)
{
  pthread_mutex_lock(&o->pool->lock);
  int err = drop_resident(o, id);
  pthread_mutex_unlock(&o->pool->lock);
  return err;
}

/* What stands in the way of discarding all pages >= first. */
typedef struct gathered {
  frame *f[256]; /* may be dropped now, as far as one can see */
  unsigned n;
  int writing;   /* a page must be waited for */
  frame *pinned; /* a pinned page, or NULL */
} gathered;

static void gather_from(pagedb_owner *o, uint64_t first, int orphans,
                        gathered *g)
{
  pagedb_pool *p = o->pool;
  uint32_t scan = pins_scan(p);
  frame *at = p->head;
  *g = (gathered){0};
  for (uint64_t i = 0; i < p->ring_len && g->n < 256; i++, at = at->ring.next) {
    if (at->owner != o || at->page < first ||
        (at->state == FRAME_ORPHAN && !orphans))
      continue;
    if (at->seen == scan || atomic_load(&at->pins) != 0)
      g->pinned = at;
    else if (at->writing)
      g->writing = 1;
    else
      g->f[g->n++] = at;
  }
}

int discard_pages(pagedb_owner *o, uint64_t first, int orphans)
{
  gathered g;
  pagedb_pool *p = o->pool;
  int err = PAGEDB_OK;
  pthread_mutex_lock(&p->lock);
  for (;;) {
    gather_from(o, first, orphans, &g);
    if (g.n > 0)
      frames_reclaim(p, g.f, g.n);
    else if (o->loading > 0 || g.writing)
      pool_wait(p);
    else
      break;
  }
  if (g.pinned != NULL)
    err = pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, g.pinned->page, 0,
                           0, "the page is pinned");
  pthread_mutex_unlock(&p->lock);
  return err;
}

int pagedb_discard_from(pagedb_owner *o, uint64_t first)
{
  return discard_pages(o, first, 0);
}

int pagedb_resident(pagedb_owner *o, uint64_t id)
{
  frame *f;
  pthread_mutex_lock(&o->pool->lock);
  int here = presence_of(o, id, &f) == HERE;
  pthread_mutex_unlock(&o->pool->lock);
  return here;
}
