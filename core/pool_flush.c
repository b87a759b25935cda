/*
** pool_flush.c - dirty pages and how they reach their store.
**
** A page is written from a private copy. The writer of a batch
**   1. claims each page under pool->lock: dirty, not being written, and its
**      latch granted shared without waiting (or held exclusively by the very
**      session that flushes). Claiming sets `writing` and clears `dirty`.
**   2. copies each page, with its LSN, and lets go of the latch. Whoever
**      changes the page from now on sets `dirty` again: no change is lost, and
**      nobody waits for the disk to change a page.
**   3. writes the copies, sorted, neighbours in one run, holding no lock.
**   4. under the lock clears `writing`, and sets `dirty` again for a page whose
**      write failed.
** `writing` keeps the frame from being reclaimed, discarded, or written by
** somebody else at the same time, so an older copy never follows a newer one.
**
** Nobody waits while he has claims: not for a latch, not for another's write.
** What cannot be claimed at once is taken one by one after the batch. Hence no
** cycle of waiting, whatever latches the callers hold.
**
** What reaches the disk: pages in the order of their ids, in no order that
** means anything. The pool promises durability of a set of pages (checkpoint:
** write all, then sync), not an order among them; a power cut in between leaves
** any subset, each page whole or torn, and the torn ones are found by their
** CRC. Ordering and atomicity are the business of the log above.
**
** After a failed sync the owner is failed for good: the system may have dropped
** what it could not write and marked it clean, so no later sync can be
** believed.
*/
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "pool_int.h"

typedef struct batch {
  pagedb_owner *owner;
  unsigned n;
  frame *frame[PAGEDB_RUN_MAX];
  uint64_t lsn[PAGEDB_RUN_MAX];
  void *copy[PAGEDB_RUN_MAX];
  int err[PAGEDB_RUN_MAX];
  uint8_t latched[PAGEDB_RUN_MAX];
} batch;

static unsigned batch_capacity(const pagedb_owner *o)
{
  unsigned n = STAGING_BYTES >> o->class;
  return n > PAGEDB_RUN_MAX ? PAGEDB_RUN_MAX : n;
}

/* ------------------------------------------------------- dirty bookkeeping */

static void unwritten_add(frame *f)
{
  list_push(&f->owner->unwritten, f);
  f->owner->nunwritten++;
}

static void unwritten_remove(frame *f)
{
  list_remove(&f->owner->unwritten, f);
  f->owner->nunwritten--;
}

void frame_set_dirty(frame *f)
{
  if (f->dirty)
    return;
  if (!f->writing)
    unwritten_add(f);
  f->dirty = 1;
  f->owner->ndirty++;
}

void frame_forget_changes(frame *f)
{
  if (!f->dirty)
    return;
  f->dirty = 0;
  f->owner->ndirty--;
  unwritten_remove(f);
}

/* Under the lock: the frame is what a fetch of its page would give. */
static int frame_is_current(const frame *f)
{
  if (f->state != FRAME_RESIDENT)
    return 0;
  uint64_t v = atomic_load_explicit(f->entry, memory_order_relaxed);
  uint64_t want = atomic_load_explicit(&f->owner->want, memory_order_relaxed);
  return ((v ^ want) & PTE_EPOCH_MASK) == 0;
}

int pagedb_mark_dirty(pagedb_pin *pin, uint64_t lsn)
{
  frame *f = frame_of_pin(pin);
  pagedb_pool *p = pin->session->pool;
  if (!latch_held_by(f, pin->session))
    return pagedb_fault_set(PAGEDB_EMISUSE, 0, pin->owner->store->name, f->page,
                            0, 0, "marked dirty without the exclusive latch");
  /* Only a claim clears it, and a claim needs the latch that we hold (or is
  ** made by this very session). */
  int current = f->dirty;
  if (!current) {
    pthread_mutex_lock(&p->lock);
    current = frame_is_current(f);
    if (current)
      frame_set_dirty(f);
    pthread_mutex_unlock(&p->lock);
  }
  if (current && lsn > atomic_load_explicit(&f->lsn, memory_order_relaxed))
    atomic_store_explicit(&f->lsn, lsn, memory_order_relaxed);
  if (!current)
    return pagedb_fault_set(PAGEDB_EMISUSE, 0, pin->owner->store->name, f->page,
                            0, 0, "marked dirty after it was invalidated");
  return PAGEDB_OK;
}

/* ------------------------------------------------------------------- claim */

/* Under the lock: step 1. Returns 0 when the page cannot be had at once. */
static int claim(pagedb_session *s, batch *b, frame *f)
{
  int own = latch_held_by(f, s);
  if (!own && !latch_try_shared(f))
    return 0;
  unsigned i = b->n++;
  b->frame[i] = f;
  b->latched[i] = !own;
  f->writing = 1;
  f->dirty = 0;
  f->owner->ndirty--;
  s->pool->busy++;
  lock_order_claims(1);
  return 1;
}

/* Step 2, not under the lock. */
static void batch_copy(pagedb_session *s, batch *b)
{
  uint32_t size = b->owner->store->page_size;
  for (unsigned i = 0; i < b->n; i++) {
    frame *f = b->frame[i];
    b->copy[i] = s->staging + (size_t)i * size;
    b->lsn[i] = atomic_load_explicit(&f->lsn, memory_order_relaxed);
    memcpy(b->copy[i], frame_data(s->pool, f->loc), size);
    if (b->latched[i])
      latch_release_shared(s->pool, f);
  }
}

/* Step 3. Frames are in page order. Returns the number of runs. */
static unsigned batch_write(batch *b, int *err)
{
  pagedb_run run[PAGEDB_RUN_MAX];
  unsigned runs = 0;
  for (unsigned i = 0; i < b->n; i++) {
    if (i > 0 && b->frame[i]->page == b->frame[i - 1]->page + 1) {
      run[runs - 1].count++;
      continue;
    }
    run[runs++] = (pagedb_run){.first = b->frame[i]->page,
                               .count = 1,
                               .pages = &b->copy[i],
                               .lsns = &b->lsn[i],
                               .errs = &b->err[i]};
  }
  *err = b->owner->store->write(b->owner->store, run, runs);
  return runs;
}

/* Step 4, under the lock. */
static void batch_settle(pagedb_pool *p, batch *b)
{
  lock_order_claims(-(int)b->n);
  for (unsigned i = 0; i < b->n; i++) {
    frame *f = b->frame[i];
    f->writing = 0;
    p->busy--;
    if (b->err[i] == PAGEDB_OK) {
      p->stats.pages_written++;
      if (!f->dirty)
        unwritten_remove(f);
      continue;
    }
    p->stats.write_errors++;
    if (!f->dirty) {
      f->dirty = 1;
      f->owner->ndirty++;
    }
  }
  pool_wake(p);
}

static int by_page(const void *a, const void *b)
{
  uint64_t x = (*(frame *const *)a)->page, y = (*(frame *const *)b)->page;
  return x < y ? -1 : x > y;
}

/* Under the lock, with claims: steps 2 to 4. The lock is released meanwhile. */
static int batch_run(pagedb_session *s, batch *b)
{
  pagedb_pool *p = s->pool;
  int err;
  pthread_mutex_unlock(&p->lock);
  batch_copy(s, b);
  unsigned runs = batch_write(b, &err);
  pthread_mutex_lock(&p->lock);
  p->stats.writes += runs;
  batch_settle(p, b);
  return err;
}

/* Staging memory of the session, made once. The lock must not be held. */
static int staging_ready(pagedb_session *s)
{
  if (s->staging == NULL)
    s->staging = os_aligned_alloc(4096, STAGING_BYTES);
  if (s->staging == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "staging memory for writes");
  return PAGEDB_OK;
}

/* ------------------------------------------------------------ flush for room
 */

/* Under the lock: claim unpinned dirty pages of one owner, oldest first; not of
** `failing`. */
static void claim_for_room(pagedb_session *s, batch *b,
                           const pagedb_owner *failing)
{
  pagedb_pool *p = s->pool;
  uint32_t scan = pins_scan(p);
  frame *f = p->hand;
  frame *want[PAGEDB_RUN_MAX];
  unsigned n = 0;
  for (uint64_t i = 0; i < p->ring_len; i++, f = f->ring.next) {
    if (f->state != FRAME_RESIDENT || f->owner == failing || !f->dirty ||
        f->writing || f->seen == scan || atomic_load(&f->pins) != 0)
      continue;
    if (b->owner == NULL)
      b->owner = f->owner;
    if (f->owner != b->owner)
      continue;
    want[n++] = f;
    if (n == batch_capacity(b->owner))
      break;
  }
  qsort(want, n, sizeof want[0], by_page);
  for (unsigned i = 0; i < n; i++)
    claim(s, b, want[i]);
}

/* Under the lock: one batch, of an owner other than *failing, who is set to the
** owner when nothing of the batch could be written. */
static int write_for_room(pagedb_session *s, pagedb_owner **failing,
                          unsigned *wrote)
{
  batch b = {0};
  claim_for_room(s, &b, *failing);
  *wrote = b.n;
  if (b.n == 0)
    return PAGEDB_OK;
  int err = batch_run(s, &b);
  /* One page written is room enough: a failing page must not keep others from
  ** being read. */
  for (unsigned i = 0; i < b.n; i++)
    if (b.err[i] == PAGEDB_OK)
      return PAGEDB_OK;
  *failing = b.owner;
  return err;
}

int flush_for_room(pagedb_session *s, unsigned *wrote)
{
  pagedb_pool *p = s->pool;
  pagedb_owner *failing = NULL;
  int err;
  *wrote = 0;
  if (s->staging == NULL) {
    pthread_mutex_unlock(&p->lock);
    err = staging_ready(s);
    pthread_mutex_lock(&p->lock);
    *wrote = 1; /* the lock was away: look again */
    return err;
  }
  err = write_for_room(s, &failing, wrote);
  if (err == PAGEDB_OK)
    return err;
  /* That store is in trouble; another one's dirty pages are room as well. */
  pagedb_fault first = *pagedb_last_fault();
  unsigned more;
  if (write_for_room(s, &failing, &more) == PAGEDB_OK && more > 0)
    return PAGEDB_OK;
  fault_restore(&first);
  return err;
}

/* ------------------------------------------------------------------- flush */

/* The first error in page order, with its fault. */
typedef struct first_error {
  uint64_t page;
  pagedb_fault fault;
} first_error;

static void note_error(first_error *e, uint64_t page)
{
  if (e->fault.err != PAGEDB_OK && e->page <= page)
    return;
  e->page = page;
  e->fault = *pagedb_last_fault();
}

static void note_batch(first_error *e, const batch *b)
{
  for (unsigned i = 0; i < b->n; i++)
    if (b->err[i] != PAGEDB_OK) {
      note_error(e, b->frame[i]->page);
      return;
    }
}

static frame *resident_frame(pagedb_owner *o, uint64_t id)
{
  pte *e = table_find(o, id);
  uint64_t v = e == NULL ? 0 : atomic_load_explicit(e, memory_order_relaxed);
  return (v & PTE_PRESENT) != 0 ? frame_at(o->pool, pte_loc(v)) : NULL;
}

/*
** Under the lock: write one page that could not be claimed at once. Waits for
** its latch with the page pinned and without claims, and for others' writes.
*/
static int write_patiently(pagedb_session *s, pagedb_owner *o, uint64_t id)
{
  pagedb_pool *p = s->pool;
  for (;;) {
    frame *f = resident_frame(o, id);
    if (f == NULL || (!f->dirty && !f->writing))
      return PAGEDB_OK;
    if (f->writing) {
      pool_wait(p);
      continue;
    }
    batch b = {.owner = o};
    if (claim(s, &b, f))
      return batch_run(s, &b);
    if (s->latches > 0)
      return pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, id, 0, 0,
                              "latched by another session while the caller "
                              "holds latches");
    atomic_fetch_add(&f->pins, 1);
    pthread_mutex_unlock(&p->lock);
    latch_shared(p, f);
    latch_release_shared(p, f);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_sub(&f->pins, 1);
  }
}

/*
** Under the lock: write pages ids[0..n), sorted. Those that must be waited for
** are gathered at the front of ids and done after the batches.
*/
static void write_pages(pagedb_session *s, pagedb_owner *o, uint64_t *ids,
                        size_t n, first_error *first)
{
  size_t later = 0;
  batch b = {.owner = o};
  for (size_t i = 0; i < n; i++) {
    frame *f = resident_frame(o, ids[i]);
    if (f == NULL || (!f->dirty && !f->writing))
      continue;
    if (f->writing || !claim(s, &b, f)) {
      ids[later++] = ids[i];
      continue;
    }
    if (b.n == batch_capacity(o)) {
      if (batch_run(s, &b) != PAGEDB_OK)
        note_batch(first, &b);
      b.n = 0;
    }
  }
  if (b.n > 0 && batch_run(s, &b) != PAGEDB_OK)
    note_batch(first, &b);
  for (size_t i = 0; i < later; i++)
    if (write_patiently(s, o, ids[i]) != PAGEDB_OK)
      note_error(first, ids[i]);
}

static int by_id(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Under the lock: the ids of all unwritten pages, sorted; NULL: no memory. */
static uint64_t *unwritten_ids(pagedb_owner *o, size_t *n)
{
  uint64_t *ids = malloc((o->nunwritten + 1) * sizeof *ids);
  *n = 0;
  if (ids == NULL)
    return NULL;
  for (frame *f = o->unwritten; f != NULL; f = f->list.next)
    ids[(*n)++] = f->page;
  qsort(ids, *n, sizeof *ids, by_id);
  return ids;
}

static int restore_fault(const first_error *first)
{
  if (first->fault.err != PAGEDB_OK)
    fault_restore(&first->fault);
  return first->fault.err;
}

int pagedb_flush(pagedb_session *s, pagedb_owner *o)
{
  pagedb_pool *p = s->pool;
  first_error first = {0};
  size_t n;
  int err = staging_ready(s);
  if (err != PAGEDB_OK)
    return err;
  pthread_mutex_lock(&p->lock);
  uint64_t *ids = unwritten_ids(o, &n);
  if (ids != NULL)
    write_pages(s, o, ids, n, &first);
  pthread_mutex_unlock(&p->lock);
  if (ids == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, o->store->name, PAGEDB_NONE, 0, 0,
                            "the list of dirty pages");
  free(ids);
  return restore_fault(&first);
}

int pagedb_flush_page(pagedb_session *s, pagedb_owner *o, uint64_t id)
{
  int err = staging_ready(s);
  if (err != PAGEDB_OK)
    return err;
  pthread_mutex_lock(&s->pool->lock);
  err = write_patiently(s, o, id);
  pthread_mutex_unlock(&s->pool->lock);
  return err;
}

/* -------------------------------------------------------------- checkpoint */

static int owner_sync(pagedb_pool *p, pagedb_owner *o)
{
  pthread_mutex_lock(&p->lock);
  int failed = o->sync_failed;
  p->stats.syncs++;
  pthread_mutex_unlock(&p->lock);
  if (failed)
    return pagedb_fault_set(PAGEDB_ESYNC, 0, o->store->name, PAGEDB_NONE, 0, 0,
                            "an earlier sync failed");
  int err = o->store->sync(o->store);
  if (err == PAGEDB_OK)
    return PAGEDB_OK;
  pthread_mutex_lock(&p->lock);
  o->sync_failed = 1;
  pthread_mutex_unlock(&p->lock);
  return err;
}

int pagedb_checkpoint(pagedb_session *s, pagedb_owner *o)
{
  int err = pagedb_flush(s, o);
  return err == PAGEDB_OK ? owner_sync(s->pool, o) : err;
}

/* Do `one` for every owner. Owners are not closed meanwhile (the caller's
** duty, as for any handle); new ones enter at the front. */
static int for_owners(pagedb_session *s,
                      int (*one)(pagedb_session *, pagedb_owner *))
{
  pagedb_fault first = {0};
  pthread_mutex_lock(&s->pool->lock);
  pagedb_owner *o = s->pool->owners;
  pthread_mutex_unlock(&s->pool->lock);
  for (; o != NULL; o = o->next)
    if (one(s, o) != PAGEDB_OK && first.err == PAGEDB_OK)
      first = *pagedb_last_fault();
  if (first.err != PAGEDB_OK)
    fault_restore(&first);
  return first.err;
}

int pagedb_pool_flush(pagedb_session *s)
{
  return for_owners(s, pagedb_flush);
}

int pagedb_pool_checkpoint(pagedb_session *s)
{
  return for_owners(s, pagedb_checkpoint);
}
