/*
** pool_frames.c - the memory of the pool, and the clock hand that takes it
** back from pages.
**
** One reserved range of addresses, the arena, is dealt out in units of 64 KiB.
** A slab is one or more neighbouring units cut into frames of one size (a
** class). All frames of a slab begin as SPARE: they have an address and no
** memory. The budget counts frames that are not spare; a frame becomes spare
** again when the budget shrinks or when pages of another size need the bytes,
** and a slab that is wholly spare can serve another class. So the budget is
** exact to one frame whatever sizes are mixed.
**
** The clock is a ring in the order in which pages entered the pool. The hand
** walks from the oldest towards the newest. A page with its reference bit set
** loses the bit and stays where it is; one without is the victim. A new page
** enters with the bit clear at the newest end, far from the hand: pages of a
** scan pass by without pushing out those that are used again. (This is SIEVE:
** Zhang et al., NSDI 2024. It differs from the textbook clock only in where new
** pages enter.)
**
** A hand that has come near the newest end would follow new pages for ever, and
** a loop over more of them than it leaves behind it would never find one again,
** whatever old pages nobody uses stand there. So after twice as many victims as
** the ring is long it goes back to the oldest: no page that it passed is met
** again before as many victims as the ring is long.
**
** Everything here runs under pool->lock. Victims are reclaimed in batches: one
** heavy fence (pool_int.h, PINS) serves up to RECLAIM_BATCH frames.
*/
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pool_int.h"

/* -------------------------------------------------------------------- ring */

void frame_enter(pagedb_pool *p, frame *f)
{
  if (p->head == NULL) {
    f->ring.next = f->ring.prev = f;
    p->hand = f;
  } else {
    f->ring.prev = p->head;
    f->ring.next = p->head->ring.next;
    f->ring.next->ring.prev = f;
    p->head->ring.next = f;
  }
  p->head = f;
  p->ring_len++;
}

void frame_leave(pagedb_pool *p, frame *f)
{
  if (--p->ring_len == 0) {
    p->head = p->hand = NULL;
    return;
  }
  if (p->hand == f)
    p->hand = f->ring.next;
  if (p->head == f)
    p->head = f->ring.prev;
  f->ring.prev->ring.next = f->ring.next;
  f->ring.next->ring.prev = f->ring.prev;
}

static void spare_put(pagedb_pool *p, frame *f)
{
  f->state = FRAME_SPARE;
  f->slab->spare++;
  list_push(&p->spare[f->slab->class], f);
}

/* -------------------------------------------------------------- huge pages */

/*
** The arena is backed in pieces of OS_HUGE_PAGE bytes. An empty piece in which a
** slab is made may become a huge page, if the pool is so large by then that one more
** piece is little, or is about to read in as much, and has room to fill it. Slabs
** follow one another, and so one piece is full before the next is begun: what the
** system has given in advance for the last one is all that the pool holds beyond its
** budget.
**
** When memory of a piece goes back, the piece is ordinary pages from then on, until it
** is empty again; else the system would make one huge page of what stays. What was
** given in advance goes back with it.
*/
enum {
  HUGE_FROM = 16 << 20,
  PIECE_UNITS = 1 << (HUGE_SHIFT - UNIT_SHIFT),
  PIECE_LOCS = 1 << (HUGE_SHIFT - LOC_SHIFT)
};

static void piece_advise(pagedb_pool *p, uint32_t piece, int huge)
{
  p->huge[piece] = (unsigned char)huge;
  os_huge_pages(frame_data(p, piece * PIECE_LOCS), OS_HUGE_PAGE, huge);
}

static int piece_is_empty(const pagedb_pool *p, uint32_t piece)
{
  slab **unit = &p->unit[piece * PIECE_UNITS];
  int i = 0;
  while (i < PIECE_UNITS && unit[i] == NULL)
    i++;
  return i == PIECE_UNITS;
}

/* A slab will stand in units [at, at+n). */
static void pieces_begin(pagedb_pool *p, uint32_t at, uint32_t n)
{
  if ((p->used < HUGE_FROM && p->coming < OS_HUGE_PAGE) ||
      p->used + OS_HUGE_PAGE > p->capacity)
    return;
  uint32_t last = (at + n - 1) / PIECE_UNITS;
  for (uint32_t i = at / PIECE_UNITS; i <= last && i < p->units / PIECE_UNITS;
       i++)
    if (!p->huge[i] && piece_is_empty(p, i))
      piece_advise(p, i, 1);
}

/* Where that ends which stands at loc. *spare: it needs no memory. */
static uint32_t end_of(const pagedb_pool *p, uint32_t loc, int *spare)
{
  const uint32_t unit = 1 << (UNIT_SHIFT - LOC_SHIFT);
  const slab *s = p->unit[loc / unit];
  if (s != NULL && s->class >= PAGE_SHIFT) {
    const frame *f = frame_at(p, loc);
    *spare = f->state == FRAME_SPARE;
    return f->loc + (frame_bytes(f) >> LOC_SHIFT);
  }
  *spare = s == NULL || s->spare == s->frames;
  return (loc / unit + 1) * unit;
}

/* Locations [from, to) of a huge page hold nothing. */
static void decommit_part(pagedb_pool *p, uint32_t from, uint32_t to)
{
  if (from < to)
    os_decommit_part(frame_data(p, from), (size_t)(to - from) << LOC_SHIFT);
}

static void piece_break(pagedb_pool *p, uint32_t piece)
{
  uint32_t at = piece * PIECE_LOCS, from = at, end = at + PIECE_LOCS;
  piece_advise(p, piece, 0);
  while (at < end) {
    int spare;
    uint32_t next = end_of(p, at, &spare);
    if (!spare) {
      decommit_part(p, from, at);
      from = next;
    }
    at = next;
  }
  decommit_part(p, from, end);
}

/* The next slab does not follow the last one: what is left between them is not
** filled soon. */
static void piece_left(pagedb_pool *p, uint32_t at)
{
  uint32_t left = p->next_unit;
  if (left != at && left < p->units && p->unit[left] == NULL &&
      p->huge[left / PIECE_UNITS])
    piece_break(p, left / PIECE_UNITS);
}

/* Memory of the arena, of spare frames only, goes back to the system. */
static void give_back(pagedb_pool *p, uint32_t loc, size_t bytes)
{
  uint32_t end = loc + (uint32_t)(bytes >> LOC_SHIFT);
  for (uint32_t i = loc / PIECE_LOCS; i <= (end - 1) / PIECE_LOCS; i++)
    if (p->huge[i])
      piece_break(p, i);
  os_decommit(frame_data(p, loc), bytes);
}

/* ------------------------------------------------------------------- slabs */

/* Find `units` free neighbouring units; UINT32_MAX when there are none. */
static uint32_t units_find(pagedb_pool *p, uint32_t units)
{
  uint32_t at = p->next_unit, run = 0;
  for (uint32_t tried = 0; tried < p->units + units; tried++, at++) {
    if (at >= p->units) {
      at = 0;
      run = 0;
    }
    run = p->unit[at] == NULL ? run + 1 : 0;
    if (run == units)
      return at + 1 - units;
  }
  return UINT32_MAX;
}

static uint32_t slab_units(uint32_t class)
{
  return class > UNIT_SHIFT ? (uint32_t)1 << (class - UNIT_SHIFT) : 1;
}

/* Free the slab that *link, of its class's list, names. */
static void slab_free(pagedb_pool *p, slab **link)
{
  slab *s = *link;
  *link = s->next;
  uint32_t first = s->loc >> (UNIT_SHIFT - LOC_SHIFT);
  for (uint32_t i = 0; i < slab_units(s->class); i++)
    p->unit[first + i] = NULL;
  p->stats.table_bytes -= sizeof *s + s->frames * sizeof(frame);
  free(s);
}

int slabs_sweep(pagedb_pool *p)
{
  int freed = 0;
  for (int class = CLASS_MIN; class <= CLASS_MAX; class ++) {
    slab **link = &p->slabs[class];
    while (*link != NULL) {
      slab *s = *link;
      if (s->spare != s->frames) {
        link = &s->next;
        continue;
      }
      for (uint32_t i = 0; i < s->frames; i++)
        list_remove(&p->spare[class], &s->frame[i]);
      slab_free(p, link);
      freed = 1;
    }
  }
  return freed;
}

/* A new slab, its frames on the spare list. 0 when memory or addresses are
** out. */
static int slab_new(pagedb_pool *p, uint32_t class)
{
  uint32_t units = slab_units(class);
  uint32_t at = units_find(p, units);
  if (at == UINT32_MAX && slabs_sweep(p))
    at = units_find(p, units);
  if (at == UINT32_MAX)
    return 0;
  uint32_t n = (units << UNIT_SHIFT) >> class;
  slab *s = calloc(1, sizeof *s + n * sizeof(frame));
  if (s == NULL)
    return 0;
  piece_left(p, at);
  pieces_begin(p, at, units);
  p->stats.table_bytes += sizeof *s + n * sizeof(frame);
  s->class = class;
  s->loc = at << (UNIT_SHIFT - LOC_SHIFT);
  s->frames = n;
  s->next = p->slabs[class];
  p->slabs[class] = s;
  for (uint32_t i = 0; i < units; i++)
    p->unit[at + i] = s;
  p->next_unit = at + units;
  for (uint32_t i = n; i-- > 0;) {
    s->frame[i].slab = s;
    s->frame[i].loc = s->loc + (i << (class - LOC_SHIFT));
    spare_put(p, &s->frame[i]);
  }
  return 1;
}

void frames_free(pagedb_pool *p)
{
  for (int class = CLASS_MIN; class <= CLASS_MAX; class ++)
    while (p->slabs[class] != NULL)
      slab_free(p, &p->slabs[class]);
}

/* ------------------------------------------------------------ frame states */

void frame_put(pagedb_pool *p, frame *f)
{
  f->state = FRAME_FREE;
  f->entry = NULL;
  f->owner = NULL;
  list_push(&p->free[f->slab->class], f);
}

static int by_place(const void *a, const void *b)
{
  uint32_t x = (*(frame *const *)a)->loc, y = (*(frame *const *)b)->loc;
  return x < y ? -1 : x > y;
}

/* Frames smaller than a page of the system share one, which goes back when the
** whole slab is spare. */
static void decommit_small(pagedb_pool *p, const slab *s)
{
  if (s->spare == s->frames)
    give_back(p, s->loc, (size_t)1 << UNIT_SHIFT);
}

void frames_decommit(pagedb_pool *p, frame **f, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    spare_put(p, f[i]);
  qsort(f, n, sizeof *f, by_place);
  for (unsigned i = 0, next; i < n; i = next) {
    size_t bytes = frame_bytes(f[i]);
    next = i + 1;
    while (next < n && f[next]->slab->class == f[i]->slab->class &&
           f[next]->loc == f[i]->loc + (bytes >> LOC_SHIFT))
      bytes += frame_bytes(f[next++]);
    if (f[i]->slab->class >= PAGE_SHIFT)
      give_back(p, f[i]->loc, bytes);
    else
      for (unsigned k = i; k < next; k++)
        decommit_small(p, f[k]->slab);
  }
}

void pool_note_over(pagedb_pool *p)
{
  int slow = p->used > p->capacity ? POOL_OVER : POOL_FAST;
  if (atomic_load_explicit(&p->slow, memory_order_relaxed) != slow)
    atomic_store_explicit(&p->slow, slow, memory_order_relaxed);
}

/* A FREE frame's bytes leave the budget; its memory is still there. */
static void frame_unfree(pagedb_pool *p, frame *f)
{
  list_remove(&p->free[f->slab->class], f);
  p->used -= frame_bytes(f);
  pool_note_over(p);
}

/* A FREE frame gives its memory back. */
static void frame_retire(pagedb_pool *p, frame *f)
{
  frame_unfree(p, f);
  frames_decommit(p, &f, 1);
}

void frame_put_within(pagedb_pool *p, frame *f)
{
  frame_put(p, f);
  if (p->used > p->capacity)
    frame_retire(p, f);
}

int frame_return(pagedb_pool *p, frame *f)
{
  if (p->used + frame_bytes(f) > p->capacity)
    return 0;
  p->used += frame_bytes(f);
  frame_put(p, f);
  return 1;
}

/* A spare frame; its bytes are for the caller to count. */
static frame *spare_get(pagedb_pool *p, uint32_t class)
{
  if (p->spare[class] == NULL && !slab_new(p, class))
    return NULL;
  frame *f = p->spare[class];
  list_remove(&p->spare[class], f);
  f->slab->spare--;
  f->state = FRAME_FREE;
  return f;
}

/* A spare frame takes memory, if the budget allows. */
static frame *frame_commit(pagedb_pool *p, uint32_t class)
{
  uint64_t bytes = (uint64_t)1 << class;
  if (p->used + bytes > p->capacity)
    return NULL;
  frame *f = spare_get(p, class);
  if (f != NULL)
    p->used += bytes;
  return f;
}

/* Under the lock: a page leaves. */
static void note_wasted(pagedb_pool *p, const frame *f)
{
  if ((atomic_load_explicit(f->entry, memory_order_relaxed) & PTE_AHEAD) != 0)
    p->stats.ahead_wasted++;
}

void frame_orphan(pagedb_pool *p, frame *f)
{
  note_wasted(p, f);
  table_clear(f->owner, f->entry, f->page);
  f->owner->resident--;
  f->entry = NULL;
  f->state = FRAME_ORPHAN;
  forgotten_enter(p, f);
  table_tidy(p);
}

/* ------------------------------------------------------------- reclaiming */

static void frame_drop(pagedb_pool *p, frame *f)
{
  if (f->state == FRAME_RESIDENT) {
    frame_forget_changes(f);
    note_wasted(p, f);
    table_clear(f->owner, f->entry, f->page);
    f->owner->resident--;
  } else if (f->state == FRAME_ORPHAN) {
    forgotten_leave(p, f);
  } else {
    private_take(p, f);
  }
  frame_leave(p, f);
  frame_put(p, f);
}

/* Hits that begin from now on see that the frame may be about to go. */
static void claim_begin(frame *f)
{
  if (f->state == FRAME_RESIDENT)
    atomic_fetch_xor(f->entry, PTE_PRESENT | PTE_BUSY);
  else if (f->state == FRAME_PRIVATE)
    private_claim(f);
}

/* Not gone: as before claim_begin. */
static void claim_end(frame *f)
{
  if (f->state == FRAME_RESIDENT)
    atomic_fetch_xor(f->entry, PTE_PRESENT | PTE_BUSY);
  else if (f->state == FRAME_PRIVATE)
    private_release(f);
}

/* After the fence and the scan of the slots. */
static int claimed_is_pinned(frame *f, uint32_t scan)
{
  if (f->state == FRAME_PRIVATE)
    return private_claimed_is_pinned(f);
  return f->seen == scan || atomic_load(&f->pins) != 0;
}

/* What the hand met. */
typedef struct meeting {
  unsigned n, napart, unwritten;
  frame *victim[RECLAIM_BATCH];
  frame *apart[RECLAIM_BATCH]; /* private frames found pinned */
} meeting;

unsigned frames_reclaim(pagedb_pool *p, frame **f, unsigned n)
{
  unsigned freed = 0;
  for (unsigned i = 0; i < n; i++)
    claim_begin(f[i]);
  if (p->asymmetric)
    os_fence_heavy();
  table_reap(p);
  uint32_t scan = pins_scan(p);
  for (unsigned i = 0; i < n; i++) {
    if (claimed_is_pinned(f[i], scan)) {
      claim_end(f[i]);
    } else {
      frame_drop(p, f[i]);
      freed++;
    }
  }
  return freed;
}

/* What the hand does with the frame under it. */
enum verdict { KEEP, VICTIM, UNWRITTEN, PINNED };
enum { ENOUGH_UNWRITTEN = 256, ANY_CLASS = 0 };

/* So many unwritten pages and no victim: a quarter of what there is in the ring
** may be dirty before it is better to write than to take what is clean. */
static unsigned enough_unwritten(const pagedb_pool *p)
{
  uint64_t quarter = p->ring_len / 4 + 1;
  return quarter > ENOUGH_UNWRITTEN ? ENOUGH_UNWRITTEN : (unsigned)quarter;
}

static enum verdict private_judged(frame *f)
{
  if (private_put_apart(f))
    return PINNED;
  return !private_is_pinned(f->cell) && private_is_victim(f) ? VICTIM : KEEP;
}

static enum verdict hand_judges(frame *f, uint32_t scan)
{
  if (f->state == FRAME_PRIVATE)
    return private_judged(f);
  if (f->seen == scan || atomic_load(&f->pins) != 0)
    return KEEP;
  if (f->state == FRAME_ORPHAN)
    return VICTIM;
  uint64_t v = atomic_load_explicit(f->entry, memory_order_relaxed);
  int current = (v & PTE_EPOCH_MASK) ==
                (atomic_load_explicit(&f->owner->want, memory_order_relaxed) &
                 PTE_EPOCH_MASK);
  if (current && (v & PTE_ACCESSED) != 0) {
    atomic_fetch_and_explicit(f->entry, ~PTE_ACCESSED, memory_order_relaxed);
    return KEEP;
  }
  return f->dirty || f->writing ? UNWRITTEN : VICTIM;
}

/* Move the hand, *steps at most, until it has met `want` victims, a batch of
** pinned private frames, or `enough` unwritten ones. */
static void hand_walks(pagedb_pool *p, meeting *m, unsigned want,
                       unsigned enough, uint64_t *steps)
{
  uint32_t scan = pins_scan(p);
  m->n = m->napart = 0;
  for (; *steps > 0 && m->n < want && m->napart < RECLAIM_BATCH; --*steps) {
    frame *f = p->hand;
    p->hand = f->ring.next;
    if (f == p->head)
      p->since_oldest = 0;
    p->stats.hand_steps++;
    enum verdict v = hand_judges(f, scan);
    if (v == PINNED)
      m->apart[m->napart++] = f;
    if (v == UNWRITTEN && ++m->unwritten >= enough)
      break;
    if (v != VICTIM)
      continue;
    /* The second time round may meet a frame again. */
    int again = 0;
    for (unsigned i = 0; i < m->n; i++)
      again |= m->victim[i] == f;
    if (!again)
      m->victim[m->n++] = f;
  }
}

/* Bytes of victims that are not for pages of `class` go back to the system. */
static void retire_victims(pagedb_pool *p, uint32_t class, meeting *m)
{
  unsigned retired = 0;
  for (unsigned i = 0; i < m->n; i++)
    if (m->victim[i]->state == FRAME_FREE &&
        ((class != ANY_CLASS && m->victim[i]->slab->class != class) ||
         p->used > p->capacity)) {
      frame_unfree(p, m->victim[i]);
      m->victim[retired++] = m->victim[i];
    }
  frames_decommit(p, m->victim, retired);
}

/*
** Move the hand until a batch of victims is reclaimed or it went round twice
** (the first time round may have met nothing but reference bits). Private
** frames that are pinned leave the ring on the way. Freed frames of another
** class than `class` are retired, for their bytes are what is needed; with
** ANY_CLASS, what exceeds the budget is. Returns the number freed; *unwritten
** is how many dirty or writing pages were passed over: after `enough` of them
** the hand stops, and without a victim by then it is time to write instead.
*/
static unsigned hand_reclaims(pagedb_pool *p, uint32_t class, unsigned want,
                              unsigned enough, unsigned *unwritten)
{
  meeting m;
  unsigned freed = 0;
  uint64_t steps = 2 * p->ring_len;
  m.unwritten = 0;
  do {
    if (steps > 2 * p->ring_len)
      steps = 2 * p->ring_len;
    hand_walks(p, &m, want, enough, &steps);
    if (m.n + m.napart == 0)
      break;
    freed = frames_reclaim(p, m.victim, m.n);
    /* One that was unpinned meanwhile may have been a victim, too. */
    for (unsigned i = 0; i < m.napart; i++)
      if (m.apart[i]->state == FRAME_PRIVATE)
        private_look_again(p, m.apart[i]);
  } while (freed == 0 && m.unwritten < enough);
  *unwritten = m.unwritten;
  p->stats.evictions += freed;
  p->since_oldest += freed;
  if (p->since_oldest > 2 * p->ring_len && p->head != NULL) {
    p->hand = p->head->ring.next;
    p->since_oldest = 0;
  }
  retire_victims(p, class, &m);
  return freed;
}

static unsigned to_batch(uint64_t n)
{
  return n < 1 ? 1 : n > RECLAIM_BATCH ? RECLAIM_BATCH : (unsigned)n;
}

/* Free frames of other classes are room as well. */
static int retire_free_others(pagedb_pool *p, uint32_t class)
{
  for (uint32_t c = CLASS_MIN; c <= CLASS_MAX; c++)
    if (c != class && p->free[c] != NULL) {
      frame_retire(p, p->free[c]);
      return 1;
    }
  return 0;
}

/* One attempt to make room by eviction or writing. */
static int make_room(pagedb_session *s, uint32_t class)
{
  pagedb_pool *p = s->pool;
  unsigned unwritten;
  unsigned wrote;
  unsigned want = to_batch(p->ring_len / 16);
  if (hand_reclaims(p, class, want, enough_unwritten(p), &unwritten) > 0)
    return PAGEDB_OK;
  if (unwritten > 0) {
    int err = flush_for_room(s, &wrote);
    /* A store that cannot write, or is writing, must not keep others from being
    ** read: there may be a clean page further on. */
    if ((err != PAGEDB_OK || wrote == 0) &&
        hand_reclaims(p, class, want, UINT_MAX, &unwritten) > 0)
      return PAGEDB_OK;
    if (err != PAGEDB_OK || wrote > 0)
      return err;
  }
  if (p->busy > 0) {
    pool_wait(p);
    return PAGEDB_OK;
  }
  /* Room in the budget, and yet no frame: a slab could not be made. */
  if (p->used + ((uint64_t)1 << class) <= p->capacity)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "frames for the pool");
  p->stats.exhausted++;
  return pagedb_fault_set(PAGEDB_EEXHAUSTED, 0, NULL, PAGEDB_NONE, 0, 0,
                          "unpin pages or enlarge the pool");
}

/* A frame of the free list, or NULL. */
static frame *free_get(pagedb_pool *p, uint32_t class)
{
  frame *f;
  while ((f = p->free[class]) != NULL) {
    if (p->used <= p->capacity) {
      list_remove(&p->free[class], f);
      return f;
    }
    frame_retire(p, f);
  }
  return NULL;
}

/* A frame without evicting anything, or NULL. Memory is taken only when no
** frame of its size lies idle. */
static frame *frame_ready(pagedb_pool *p, uint32_t class)
{
  frame *f = free_get(p, class);
  if (f == NULL && forgotten_reclaim(p, class) > 0)
    f = free_get(p, class);
  if (f == NULL)
    f = frame_commit(p, class);
  while (f == NULL && retire_free_others(p, class))
    f = frame_commit(p, class);
  return f;
}

frame *frame_get_clean(pagedb_pool *p, uint32_t class)
{
  unsigned unwritten;
  unsigned want = to_batch(p->ring_len / 16);
  frame *f = frame_ready(p, class);
  while (f == NULL &&
         hand_reclaims(p, class, want, ENOUGH_UNWRITTEN, &unwritten) > 0)
    f = frame_ready(p, class);
  return f;
}

int frame_get(pagedb_session *s, uint32_t class, frame **out)
{
  int err = PAGEDB_OK;
  while (err == PAGEDB_OK) {
    *out = frame_ready(s->pool, class);
    if (*out != NULL)
      return PAGEDB_OK;
    err = make_room(s, class);
  }
  return err;
}

int frames_shrink(pagedb_session *s)
{
  pagedb_pool *p = s->pool;
  while (p->used > p->capacity) {
    if (retire_free_others(p, ANY_CLASS))
      continue;
    unsigned unwritten;
    unsigned wrote = 0;
    uint64_t over = p->used - p->capacity;
    unsigned want = p->hand == NULL ? 1 : to_batch(over / frame_bytes(p->hand));
    if (hand_reclaims(p, ANY_CLASS, want, enough_unwritten(p), &unwritten) > 0)
      continue;
    int err = unwritten > 0 ? flush_for_room(s, &wrote) : PAGEDB_OK;
    if (wrote == 0 && unwritten > 0 &&
        hand_reclaims(p, ANY_CLASS, want, UINT_MAX, &unwritten) > 0)
      continue;
    if (err != PAGEDB_OK || wrote == 0) {
      pool_note_over(p);
      return err;
    }
  }
  pool_note_over(p);
  slabs_sweep(p);
  return PAGEDB_OK;
}
