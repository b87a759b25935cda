/*
** pool_int.h - the inside of the buffer pool, shared by pool*.c and latch.c.
**
**   pool.c         open, close, resize, owners, sessions, statistics
**   pool_table.c   page id -> frame: a radix tree of page table entries
**   pool_frames.c  memory of the frames; the clock hand; reclaiming
**   pool_fetch.c   hit, miss, new page, unpin, discard
**   pool_forget.c  forgetting all pages at once, and the frames of these
**   pool_ahead.c   pages that are read ahead (ahead.h)
**   pool_flush.c   dirty pages and how they reach the store
**   pool_private.c private frames: no page id, no store (private.h)
**   latch.c        shared and exclusive access to a page's content
**
** LOCKS. Order: a latch before pool->lock; never two pool locks; nothing waits
** for a latch or does I/O under pool->lock. A hit takes neither.
**
**   pool->lock  every change of a frame's state, the ring, the lists, every
**               change of a page table entry (but setting ACCESSED), and the
**               creation and unlinking of table nodes.
**   latch       the content of a frame and its LSN.
**
** PINS. A session pins a page by writing its location into one of its hazard
** slots and looking at the page table entry again. Whoever wants to reclaim
** the frame takes PRESENT away from the entry, runs the heavy fence, and looks
** at all slots. One of the two must see the other (Dekker; the asymmetric form
** is from Dice, Huang, Yang, "Asymmetric Dekker Synchronization", 2001, the
** slots are Michael's hazard pointers, IEEE TPDS 2004). A session with all
** slots taken counts its pin in frame->pins instead.
**
** FRAME STATES, all changed under pool->lock:
**
**   SPARE     no memory; on its class's spare list
**   FREE      memory, no page; on its class's free list
**   LOADING   a page is being read or made; its entry is BUSY
**   RESIDENT  holds a page; entry PRESENT; in the ring
**   ORPHAN    entry lost (invalidated) while perhaps pinned; in the ring and on
**             its class's forgotten or kept list until it is found unpinned. Its
**             owner stays named, and is not closed before the orphan is gone
**   AHEAD     somebody reads a page into it that may enter the pool later; on no
**             list, in no table
**   PRIVATE   belongs to a private set; in the ring, unless it is aside
**
** A RESIDENT frame may be dirty (changed since the last copy was taken for a
** write) and writing (a copy is on its way). It is on its owner's unwritten
** list while it is either, and is not reclaimed before it is neither.
*/
#ifndef PAGEDB_POOL_INT_H
#define PAGEDB_POOL_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "os.h"
#include "pagedb.h"
#include "private.h"

/* A page table entry: flags, the epoch in which the page was read, and the
** frame's location in units of 512 bytes from the arena's start. */
typedef _Atomic uint64_t pte;

#define PTE_PRESENT    ((uint64_t)1)
#define PTE_ACCESSED   ((uint64_t)2) /* the clock's reference bit */
#define PTE_BUSY       ((uint64_t)4) /* loading or being reclaimed */
#define PTE_AHEAD      ((uint64_t)8) /* read ahead, and nobody came for it yet */
#define PTE_EPOCH_ONE  ((uint64_t)1 << 8)
#define PTE_EPOCH_MASK ((uint64_t)0xffffff << 8)
#define PTE_LOC_SHIFT  32

static inline uint32_t pte_loc(uint64_t v)
{
  return (uint32_t)(v >> PTE_LOC_SHIFT);
}

enum {
  LOC_SHIFT = 9,   /* locations count 512 bytes */
  UNIT_SHIFT = 16, /* the arena is dealt out in units of 64 KiB */
  HUGE_SHIFT = 21, /* and backed in pieces of OS_HUGE_PAGE */
  PAGE_SHIFT = 12, /* of the system: smaller frames share one */
  CLASS_MIN = 9,   /* 512 bytes */
  CLASS_MAX = 20,  /* 1 MiB */
  NODE_BITS = 9,
  NODE_SLOTS = 1 << NODE_BITS,
  SESSION_SLOTS = 32,
  RECLAIM_BATCH = 32, /* frames freed with one heavy fence */
  LIMBO_MAX = 64, /* unlinked table nodes, before a fence is spent on them */
  PARK_LOTS = 16,
  STAGING_BYTES = 1 << 20
};

#define SWEPT       UINT64_MAX /* pagedb_owner.sweep: nothing is looked for */
#define PIN_COUNTED UINT32_MAX /* pagedb_pin.slot: counted in frame->pins */

/* A node of a page table. Leaves (shift 0) hold entries, others pointers. */
typedef struct node node;
struct node {
  uint32_t shift; /* id >> shift is the slot, before masking */
  uint32_t live;  /* slots in use */
  uint32_t index; /* slot in the parent */
  node *parent;   /* NULL in the root; next in limbo once unlinked */
  pte slot[NODE_SLOTS];
};

typedef enum frame_state {
  FRAME_SPARE,
  FRAME_FREE,
  FRAME_LOADING,
  FRAME_RESIDENT,
  FRAME_ORPHAN,
  FRAME_AHEAD,
  FRAME_PRIVATE
} frame_state;

typedef struct frame frame;
typedef struct slab slab;

typedef struct frame_link {
  frame *next;
  frame *prev;
} frame_link;

struct frame {
  union {
    pte *entry; /* RESIDENT and LOADING: where the page table names it */
    private_cell *cell; /* PRIVATE */
  };
  union {
    pagedb_owner *owner;
    private_set *set; /* PRIVATE */
  };
  uint64_t page;
  _Atomic uint64_t lsn; /* written under the exclusive latch */
  frame_link ring;      /* RESIDENT, ORPHAN, PRIVATE unless aside */
  frame_link list; /* spare, free, forgotten, kept, the owner's unwritten */
  _Atomic uint32_t pins; /* pins that found no slot */
  _Atomic uint32_t latch;
  _Atomic(pagedb_session *) holder; /* of the exclusive latch */
  uint32_t loc;
  uint32_t seen; /* number of the slot scan that found it pinned */
  uint8_t state;
  _Atomic uint8_t dirty;
  uint8_t writing;
  uint8_t aside; /* PRIVATE: found pinned, and out of the ring */
  uint8_t kept;  /* ORPHAN: found pinned, and on the kept list */
  slab *slab;
};

/* A range of the arena cut into frames of one size. */
struct slab {
  slab *next; /* of its class */
  uint32_t loc;
  uint32_t class; /* log2 of the page size */
  uint32_t frames;
  uint32_t spare; /* how many are SPARE */
  frame frame[];
};

struct pagedb_owner {
  pagedb_pool *pool;
  pagedb_store *store;
  pagedb_owner *next;
  uint32_t class;
  _Atomic uint64_t want; /* PRESENT and the current epoch, as in an entry */
  _Atomic(node *) root;
  frame *unwritten; /* list of frames that are dirty or writing; a page being
                       made anew is dirty while it is LOADING */
  uint64_t resident;
  uint64_t loading; /* pages being read or made */
  uint64_t ahead;   /* frames that are out for read-ahead */
  uint64_t nunwritten;
  uint64_t ndirty;
  uint64_t sweep; /* where the search for stale pages goes on, or SWEPT */
  pagedb_owner *next_outdated; /* while it is not SWEPT */
  int sweep_again;             /* the epoch moved while it was under way */
  int sync_failed;             /* sticky */
};

struct pagedb_session {
  /* First cache lines: what other threads read. */
  _Atomic uint32_t slot[SESSION_SLOTS]; /* location + 1, or 0 */
  _Atomic uint32_t probing;             /* walking a page table right now */
  _Atomic uint64_t hits;
  _Atomic uint64_t ahead_used; /* hits of pages read ahead, first time */
  uint32_t free_slots;         /* bit i: slot i is free */
  uint32_t latches;            /* held through this session's pins */
  uint32_t counted;            /* pins counted in frames */
  int asymmetric;              /* copy of pool->asymmetric */
  pagedb_pool *pool;
  pagedb_session *next;
  unsigned char *staging; /* STAGING_BYTES, allocated by the first write */
};

typedef struct parking_lot {
  RANKED_MUTEX(RANK_PARKING) lock;
  pthread_cond_t changed;
} parking_lot;

struct pagedb_pool {
  unsigned char *arena;
  size_t arena_bytes;
  uint64_t reserve;
  int asymmetric; /* os_fence_heavy works: hits need no fence */

  RANKED_MUTEX(RANK_POOL) lock;
  pthread_cond_t changed; /* a frame left LOADING, writing, or a reclaim */
  unsigned waiters;
  uint64_t busy; /* frames LOADING or writing: they will change by themselves */

  uint64_t capacity;
  uint64_t used;
  uint64_t ahead_bytes; /* of frames that are out; part of used */
  uint64_t coming; /* bytes that will be wanted soon, says who wants some now */
  slab **unit;     /* per 64 KiB of the arena: the slab there, or NULL */
  unsigned char *huge; /* per OS_HUGE_PAGE of it: may be a huge page */
  uint32_t units;
  uint32_t next_unit;
  slab *slabs[CLASS_MAX + 1];
  frame *spare[CLASS_MAX + 1];
  frame *free[CLASS_MAX + 1];
  frame *forgotten[CLASS_MAX + 1]; /* pool_forget.c */
  frame *kept[CLASS_MAX + 1];
  unsigned nforgotten[CLASS_MAX + 1];
  pagedb_owner *outdated[CLASS_MAX + 1];

  /* The clock: a ring in order of entry; head is the newest page, its ring.next
  ** the oldest. The hand walks from old to new. */
  frame *head;
  frame *hand;
  uint64_t ring_len;
  uint64_t since_oldest; /* victims since the hand was there */
  uint32_t scans;

  pagedb_owner *owners;
  pagedb_session *sessions;
  private_set *sets;
  uint64_t pinned;     /* bytes of private frames, when last counted */
  unsigned pinned_age; /* gets until they are counted again */
  unsigned in_limbo;
  node *limbo; /* unlinked table nodes that a hit may still look at */

  parking_lot lots[PARK_LOTS];
  pagedb_pool_stats stats; /* the counters; gauges are computed */

  /* Read at every pin of a private frame: on cache lines of its own. */
  unsigned char before[64];
  _Atomic int slow; /* POOL_FAST ... (private.h) */
  unsigned char after[64];
};

static inline frame *frame_at(const pagedb_pool *p, uint32_t loc)
{
  slab *s = p->unit[loc >> (UNIT_SHIFT - LOC_SHIFT)];
  return &s->frame[(loc - s->loc) >> (s->class - LOC_SHIFT)];
}

static inline unsigned char *frame_data(const pagedb_pool *p, uint32_t loc)
{
  return p->arena + ((size_t)loc << LOC_SHIFT);
}

static inline frame *frame_of_pin(const pagedb_pin *pin)
{
  const pagedb_pool *p = pin->session->pool;
  return frame_at(p, (uint32_t)((pin->data - p->arena) >> LOC_SHIFT));
}

static inline uint32_t frame_bytes(const frame *f)
{
  return (uint32_t)1 << f->slab->class;
}

/* Lists through frame->list. Under the lock. */
static inline void list_push(frame **list, frame *f)
{
  f->list.prev = NULL;
  f->list.next = *list;
  if (*list != NULL)
    (*list)->list.prev = f;
  *list = f;
}

static inline void list_remove(frame **list, frame *f)
{
  if (f->list.prev != NULL)
    f->list.prev->list.next = f->list.next;
  else
    *list = f->list.next;
  if (f->list.next != NULL)
    f->list.next->list.prev = f->list.prev;
}

/* ------------------------------------------------------------ pool_table.c */

/* The entry of page id, or NULL when the table has none. Without the lock only
** between table_enter and table_leave of the session. */
static inline pte *table_find(const pagedb_owner *o, uint64_t id)
{
  /* Sequentially consistent loads, because without the asymmetric fence they
  ** must not be seen before the session's `probing`. */
  node *n = atomic_load(&o->root);
  if (n == NULL || (id >> n->shift) >= NODE_SLOTS)
    return NULL;
  for (uint32_t shift = n->shift; shift != 0; shift -= NODE_BITS) {
    n = (node *)(uintptr_t)atomic_load(
        &n->slot[(id >> shift) & (NODE_SLOTS - 1)]);
    if (n == NULL)
      return NULL;
  }
  return &n->slot[id & (NODE_SLOTS - 1)];
}

static inline void table_enter(pagedb_session *s)
{
  if (s->asymmetric) {
    atomic_store_explicit(&s->probing, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
  } else {
    atomic_exchange(&s->probing, 1);
  }
}

static inline void table_leave(pagedb_session *s)
{
  atomic_store_explicit(&s->probing, 0, memory_order_release);
}

/* Under the lock: the entry of page id, made if need be; NULL: no memory. */
pte *table_make(pagedb_owner *o, uint64_t id);
/* Under the lock: the entry of page *id, with its leaf's others behind it; where
** there is no leaf, NULL, and *id is the first page that may have one: SWEPT when
** the table ends. */
pte *table_next(const pagedb_owner *o, uint64_t *id);
/* Under the lock: fill an absent entry, empty one (its node may go). */
void table_fill(pte *e, uint64_t id, uint64_t value);
void table_clear(pagedb_owner *o, pte *e, uint64_t id);
/* Under the lock, after a heavy fence: free what no hit can look at. */
void table_reap(pagedb_pool *p);
/* Under the lock: the same, with the fence, when much waits for it. */
void table_tidy(pagedb_pool *p);
void table_free(pagedb_owner *o);

/* ----------------------------------------------------------- pool_frames.c */

/*
** Under the lock: a FREE frame of the class, taken off its list, or an error.
** May release the lock for a while, to write dirty pages through s or to wait:
** whatever was looked at before must be looked at again.
*/
int frame_get(pagedb_session *s, uint32_t class, frame **out);
/* Under the lock, never released: the same without writing, or NULL. */
frame *frame_get_clean(pagedb_pool *p, uint32_t class);
/* Under the lock: back to the free list. */
void frame_put(pagedb_pool *p, frame *f);
/* The same, but it gives its memory back if the pool is over its budget. */
void frame_put_within(pagedb_pool *p, frame *f);
/* Under the lock: a frame whose bytes are not in p->used (any more) is free, if
** the budget has room: 1. Else 0, and nothing done. */
int frame_return(pagedb_pool *p, frame *f);
/* Under the lock: the memory of n such frames goes back to the system. Sorts
** them, so that neighbours go with one call. */
void frames_decommit(pagedb_pool *p, frame **f, unsigned n);
/* Under the lock: free the headers, and the addresses, of wholly spare slabs;
** 0: there were none. */
int slabs_sweep(pagedb_pool *p);
/* Under the lock: enter the ring as the newest page; leave it. */
void frame_enter(pagedb_pool *p, frame *f);
void frame_leave(pagedb_pool *p, frame *f);
/* Under the lock: take the entry of a page away that is neither dirty nor being
** written; its frame is forgotten. */
void frame_orphan(pagedb_pool *p, frame *f);
/*
** Under the lock: free those of the n RESIDENT or ORPHAN frames that are not
** pinned; their changes are lost. None may be writing. Returns how many.
*/
unsigned frames_reclaim(pagedb_pool *p, frame **f, unsigned n);
/* Under the lock: give frames back until used <= capacity, as far as pins and
** dirty pages allow. May release the lock. */
int frames_shrink(pagedb_session *s);
/* Under the lock, after used or capacity changed otherwise than by a get within
** the budget. */
void pool_note_over(pagedb_pool *p);
void frames_free(pagedb_pool *p);

/* Under the lock: wait until something changes. */
void pool_wait(pagedb_pool *p);
void pool_wake(pagedb_pool *p);

/* ------------------------------------------------------------ pool_flush.c */

/*
** Under the lock: write up to a batch of the unpinned dirty pages of one owner
** that the hand would meet next. Releases the lock meanwhile. *wrote is how
** many pages were attempted; 0 with PAGEDB_OK when there are none.
*/
int flush_for_room(pagedb_session *s, unsigned *wrote);
/* Under the lock: the frame's changes, if any, are given up. */
void frame_forget_changes(frame *f);
/* Under the lock and the exclusive latch (or before the page is published). */
void frame_set_dirty(frame *f);

/* ---------------------------------------------------------- pool_fetch.c */

/* Slots, under the lock: mark every pinned frame with a new scan number. */
uint32_t pins_scan(pagedb_pool *p);
/* pagedb_discard_from, and of orphans too: nothing names the owner then. */
int discard_pages(pagedb_owner *o, uint64_t first, int orphans);

/* ----------------------------------------------------------- pool_forget.c */

/* Under the lock: the frame has become an orphan; it is about to be free. */
void forgotten_enter(pagedb_pool *p, frame *f);
void forgotten_leave(pagedb_pool *p, frame *f);
/* Under the lock, never released: free frames of the class whose pages were
** forgotten, or go on looking for some. Bounded work; returns how many. */
unsigned forgotten_reclaim(pagedb_pool *p, uint32_t class);
/* Under the lock: nothing of the owner is looked for any more. */
void owner_swept(pagedb_owner *o);

/* -------------------------------------------------------- pool_private.c */

/* What the hand does with a private frame. One that is pinned: set it apart (1;
** 0: it is not pinned, or is apart already), and after the fence put it aside
** if it still is. Else: take its reference bit; claim; look again after the
** fence, and let go or take. */
int private_put_apart(frame *f);
void private_look_again(pagedb_pool *p, frame *f);
int private_is_victim(frame *f);
void private_claim(frame *f);
int private_claimed_is_pinned(frame *f);
void private_release(frame *f);
void private_take(pagedb_pool *p, frame *f);

/* ----------------------------------------------------------------- latch.c */

int latch_try_shared(frame *f);
void latch_shared(pagedb_pool *p, frame *f);
int latch_try_exclusive(frame *f, pagedb_session *s);
void latch_exclusive(pagedb_pool *p, frame *f, pagedb_session *s);
void latch_release_shared(pagedb_pool *p, frame *f);
void latch_release_exclusive(pagedb_pool *p, frame *f);
static inline int latch_held_by(frame *f, const pagedb_session *s)
{
  return atomic_load_explicit(&f->holder, memory_order_relaxed) == s;
}

#endif
