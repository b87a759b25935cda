/*
** pool_forget.c - forgetting all pages of an owner at once, and how their
** frames come to serve again.
**
** An owner's epoch is a number in `want` and in each entry of its page table. One
** step of it makes every entry stale: nobody takes it for a page any more, and
** nothing is looked for or waited for. The frames come back a few at a time, to
** whoever wants one of their size, before the pool takes memory (frame_ready):
**
**   outdated   owners whose epoch moved. Who wants a frame looks on through the
**              page table of the first one, in page order from `sweep` on, at
**              SWEEP_LOOKS entries or gaps at most. An epoch that moves meanwhile
**              does not send it back: it goes on to the end of the table, and then
**              over all of it once more, or else the last pages would never be
**              looked at where epochs are short. A stale page loses its entry and
**              is an ORPHAN; one that is asked for again is one already.
**   forgotten  orphans. As soon as there are RECLAIM_BATCH of them, so many are
**              reclaimed with one heavy fence, as victims of the hand are.
**   kept       orphans that were pinned then. When an epoch moves next they
**              count as forgotten again: pins of one epoch cannot add up to
**              more with the next ones.
**
** All of it by class, under pool->lock, which is not released. The frames stay in
** the ring: where the pool is full, the hand may come first.
**
** No stale page is dirty or being written. The epoch moves only when the owner has
** none of these, and who marks a page dirty is refused when it is stale. One that
** was on its way in when the epoch moved becomes stale when it is there; where the
** sweep has passed it by then, it waits for the next one.
*/
#include "fault.h"
#include "pool_int.h"

enum { SWEEP_LOOKS = NODE_SLOTS };

/* ----------------------------------------------------------------- orphans */

void forgotten_enter(pagedb_pool *p, frame *f)
{
  f->kept = 0;
  list_push(&p->forgotten[f->slab->class], f);
  p->nforgotten[f->slab->class]++;
}

void forgotten_leave(pagedb_pool *p, frame *f)
{
  uint32_t class = f->slab->class;
  list_remove(f->kept ? &p->kept[class] : &p->forgotten[class], f);
  if (!f->kept)
    p->nforgotten[class]--;
}

static void keep(pagedb_pool *p, frame *f)
{
  forgotten_leave(p, f);
  f->kept = 1;
  list_push(&p->kept[f->slab->class], f);
}

static void look_again(pagedb_pool *p, uint32_t class)
{
  frame *f;
  while ((f = p->kept[class]) != NULL) {
    forgotten_leave(p, f);
    forgotten_enter(p, f);
  }
}

/* ------------------------------------------------------------------- sweep */

static int is_stale(const pagedb_owner *o, uint64_t v)
{
  uint64_t want = atomic_load_explicit(&o->want, memory_order_relaxed);
  return (v & PTE_PRESENT) != 0 && ((v ^ want) & PTE_EPOCH_MASK) != 0;
}

/* Look on through the table: at what is left of one leaf, or over one gap. */
static void sweep_on(pagedb_owner *o, unsigned most, unsigned *looks)
{
  frame *stale[RECLAIM_BATCH];
  unsigned n = 0;
  pte *e = table_next(o, &o->sweep);
  if (e == NULL) {
    --*looks;
    return;
  }
  do {
    uint64_t v = atomic_load_explicit(e++, memory_order_relaxed);
    if (is_stale(o, v))
      stale[n++] = frame_at(o->pool, pte_loc(v));
    o->sweep++;
  } while (--*looks > 0 && n < most && (o->sweep & (NODE_SLOTS - 1)) != 0);
  /* Not before: the leaf goes with its last entry. */
  for (unsigned i = 0; i < n; i++)
    frame_orphan(o->pool, stale[i]);
}

static void sweep_begin(pagedb_owner *o)
{
  o->sweep = 0;
  o->sweep_again = 0;
}

void owner_swept(pagedb_owner *o)
{
  pagedb_owner **link = &o->pool->outdated[o->class];
  while (*link != NULL && *link != o)
    link = &(*link)->next_outdated;
  if (*link == o)
    *link = o->next_outdated;
  o->sweep = SWEPT;
}

/* Make stale pages orphans, until there are enough. */
static void sweep(pagedb_pool *p, uint32_t class)
{
  unsigned looks = SWEEP_LOOKS;
  pagedb_owner *o;
  while (looks > 0 && p->nforgotten[class] < RECLAIM_BATCH &&
         (o = p->outdated[class]) != NULL) {
    sweep_on(o, RECLAIM_BATCH - p->nforgotten[class], &looks);
    if (o->sweep == SWEPT && !o->sweep_again)
      owner_swept(o);
    else if (o->sweep == SWEPT)
      sweep_begin(o);
  }
}

unsigned forgotten_reclaim(pagedb_pool *p, uint32_t class)
{
  frame *f[RECLAIM_BATCH];
  sweep(p, class);
  if (p->nforgotten[class] < RECLAIM_BATCH)
    return 0;
  f[0] = p->forgotten[class];
  for (int i = 1; i < RECLAIM_BATCH; i++)
    f[i] = f[i - 1]->list.next;
  unsigned freed = frames_reclaim(p, f, RECLAIM_BATCH);
  for (int i = 0; i < RECLAIM_BATCH; i++)
    if (f[i]->state == FRAME_ORPHAN)
      keep(p, f[i]);
  return freed;
}

/* ------------------------------------------------------------------- epoch */

/* Pages on their way in get epoch 0: found stale when they have come. */
static void loading_outdate(pagedb_owner *o)
{
  pagedb_pool *p = o->pool;
  slab *s = p->slabs[o->class];
  for (; s != NULL && o->loading > 0; s = s->next)
    for (uint32_t i = 0; i < s->frames; i++)
      if (s->frame[i].state == FRAME_LOADING && s->frame[i].owner == o)
        atomic_fetch_and(s->frame[i].entry, ~PTE_EPOCH_MASK);
}

/* Under the lock, when the epoch number comes round: no entry may survive to be
** taken for current. */
static void orphan_all(pagedb_owner *o)
{
  pagedb_pool *p = o->pool;
  frame *f = p->head;
  for (uint64_t i = 0; i < p->ring_len; i++, f = f->ring.next)
    if (f->state == FRAME_RESIDENT && f->owner == o)
      frame_orphan(p, f);
}

/* Under the lock, nothing unwritten: no page that is here now is found again.
** Epoch 0 is never current: pages on their way in at the wrap get it. */
static void next_epoch(pagedb_owner *o)
{
  pagedb_pool *p = o->pool;
  uint64_t epoch = (atomic_load(&o->want) + PTE_EPOCH_ONE) & PTE_EPOCH_MASK;
  if (epoch == 0) {
    orphan_all(o);
    loading_outdate(o);
    epoch = PTE_EPOCH_ONE;
  }
  atomic_store(&o->want, epoch | PTE_PRESENT);
  look_again(p, o->class);
  if (o->sweep != SWEPT) {
    o->sweep_again = 1;
    return;
  }
  o->next_outdated = p->outdated[o->class];
  p->outdated[o->class] = o;
  sweep_begin(o);
}

int pagedb_invalidate(pagedb_owner *o)
{
  int err = PAGEDB_OK;
  pthread_mutex_lock(&o->pool->lock);
  if (o->nunwritten > 0)
    err = pagedb_fault_set(PAGEDB_EBUSY, 0, o->store->name, o->unwritten->page,
                           0, 0, "the page is not written yet");
  else
    next_epoch(o);
  pthread_mutex_unlock(&o->pool->lock);
  return err;
}

void pagedb_abandon(pagedb_owner *o)
{
  pthread_mutex_lock(&o->pool->lock);
  while (o->unwritten != NULL) {
    frame *f = o->unwritten;
    while (f != NULL && f->writing)
      f = f->list.next;
    if (f != NULL)
      frame_forget_changes(f);
    else
      pool_wait(o->pool);
  }
  next_epoch(o);
  pthread_mutex_unlock(&o->pool->lock);
}
