/*
** private.h - private frames: memory of the pool for pages that only one user
** knows how to find, like the page cache of one SQLite connection. No store
** stands behind them, and none is ever dirty: a victim is simply gone. For
** caches above core (pcache/); not installed.
**
** A user opens a set and gets frames, each with a cell in memory of his own.
** The clock hand of the pool, in whatever thread it runs, chooses its victims
** among the frames of all sets and of all stores alike.
**
** BUDGET. Frames of a purgeable set are in the pool's budget, and a set may
** have three quarters of what the other sets have not pinned: whoever comes
** later has a share of the rest, and pages of stores have what is left then. (A
** threshold that moves with what is free: Choudhury and Hahne, "Dynamic queue
** length thresholds for shared-memory packet switches", IEEE/ACM Transactions
** on Networking, 1998.) A frame that must be had beyond that is EXCESS: memory
** of the set's own, counted, and gone when it is unpinned. Frames of a set that
** is not purgeable are all OUTSIDE, of the same kind, and stay.
**
** PINS. A frame is got pinned. Once it is unpinned the hand may take it at any
** time; private_pin gets it back, or says that it is gone. One of the two sees
** the other, as with the hazard slots (pool_int.h, PINS): the user writes
** `pinned` and looks at `claim`; the hand writes `claim`, runs the heavy fence,
** and looks at `pinned`. A user who meets a claim waits for pool->lock, under
** which the hand decides. So a hit costs no atomic read-modify-write where the
** asymmetric fence works.
**
** A frame that the hand found pinned leaves the clock's ring, so that it is
** walked over once and not at every lap. In the same way: the hand writes
** `apart`, runs the fence, and looks at `pinned` again; the user, unpinning,
** clears `pinned` and looks at `apart`, and puts the frame back under the lock.
**
** THREADS. A set and its cells belong to one thread at a time. The hand looks
** at a cell under pool->lock until it has set `claim` to PRIVATE_TAKEN, and
** never after: a cell may be freed once it was found taken, or dropped.
**
** FORK. A child does not inherit the frames of the pool, but all memory outside
** of it. After pagedb_pool_forked a set of the parent's goes on with that:
** unpinned frames of the budget answer as taken, and what it gets is outside. A
** frame of the budget that was pinned at the fork is not there: nobody may
** touch it, only drop it.
*/
#ifndef PAGEDB_PRIVATE_H
#define PAGEDB_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pagedb.h"

/* private_cell.claim. */
enum { PRIVATE_FREE, PRIVATE_CLAIMED, PRIVATE_TAKEN };

/* *private_set.slow. */
enum {
  POOL_FAST,
  POOL_OVER,  /* used > capacity: what is unpinned goes */
  POOL_FORKED /* the pool is the parent's of this process */
};

typedef struct private_chunk private_chunk;

typedef struct private_cell {
  union {
    struct frame *frame;
    private_chunk *chunk; /* with place > 0 */
  };
  _Atomic uint8_t pinned; /* written by the user */
  _Atomic uint8_t used;   /* reference bit: set by the user, cleared by hands */
  _Atomic uint8_t claim;  /* written under pool->lock */
  _Atomic uint8_t apart;  /* its unpin has to tell the pool; likewise */
  uint16_t place;         /* outside of the budget: number in its chunk, + 1 */
  uint8_t mark;           /* the user's own */
} private_cell;

typedef struct private_set {
  _Atomic uint32_t frames;  /* in the budget; changed under pool->lock */
  _Atomic uint32_t outside; /* pages beyond it; written by the user */
  _Atomic uint32_t pins;    /* likewise; pinned pages: the difference. Two */
  _Atomic uint32_t unpins;  /* numbers, for one would make each call wait for
                               the one before */
  const _Atomic int *slow;  /* the pool's */
  int asymmetric;
  int purgeable;
  uint32_t class;            /* log2 of the page size */
  uint32_t counted;          /* under pool->lock: pinned, when last counted */
  _Atomic uint64_t hits;     /* written by the user, for statistics */
  _Atomic uint64_t misses;   /* likewise */
  _Atomic uint64_t excesses; /* likewise: pages beyond the budget */
  _Atomic uint64_t table_bytes; /* likewise: his memory for finding pages */
  private_chunk *open;          /* chunks with a free place; without one */
  private_chunk *full;
  pagedb_pool *pool;
  struct private_set *next;
  struct private_set *prev;
} private_set;

/* How much a frame is wanted. */
typedef enum private_need { PRIVATE_MAY, PRIVATE_MUST } private_need;

/*
** Open a set of frames of page_size bytes (512 .. 1 MiB, a power of two) in the
** pool; the memory of *s is the caller's, and stays until private_close.
** PAGEDB_EPAGESIZE for another size.
*/
int private_open(pagedb_pool *pool, private_set *s, uint32_t page_size,
                 int purgeable);
/* All frames must have been dropped, or found taken. */
void private_close(private_set *s);

/*
** A frame, pinned, its content undefined; the cell is filled in, but for its
** mark. The address is aligned to the lesser of the page size and 4096, and 16
** bytes after the page may be read. NULL: with PRIVATE_MAY when it is not to be
** had within the set's share of the budget without writing anything; with
** PRIVATE_MUST when memory is out.
*/
void *private_get(private_set *s, private_cell *c, private_need need);

/* Drop n frames, pinned or not, but those that were taken. To the pool, or with
** give_back to the system. */
void private_drop(private_set *s, private_cell *const *c, unsigned n,
                  int give_back);

/* After drops with give_back: the pool frees its headers of what went. */
void private_trim(private_set *s);

/* What the two functions below need when it is not simple. */
int private_pin_slowly(private_set *s, private_cell *c);
int private_unpin_slowly(private_set *s, private_cell *c);

/* Add one to a number that only the user writes: others read it whole. */
#define private_count(n)                                                       \
  atomic_store_explicit((n),                                                   \
                        atomic_load_explicit((n), memory_order_relaxed) + 1,   \
                        memory_order_relaxed)

/* Pin a frame that is not pinned: 1; or 0 when it was taken, or when only
** private_pin_slowly can tell. */
static inline int private_pin_quickly(private_set *s, private_cell *c)
{
  if (s->asymmetric) {
    atomic_store_explicit(&c->pinned, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
  } else {
    atomic_exchange(&c->pinned, 1);
  }
  if (atomic_load(&c->claim) != PRIVATE_FREE ||
      atomic_load_explicit(s->slow, memory_order_relaxed) == POOL_FORKED)
    return 0;
  private_count(&s->pins);
  return 1;
}

/* Pin a frame that is not pinned: 1; or 0 when it was taken. */
static inline int private_pin(private_set *s, private_cell *c)
{
  return private_pin_quickly(s, c) || private_pin_slowly(s, c);
}

/* Unpin: 1; or 0 when the page is not to stay: drop it now. */
static inline int private_unpin(private_set *s, private_cell *c)
{
  private_count(&s->unpins);
  if (s->asymmetric) {
    atomic_store_explicit(&c->pinned, 0, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
  } else {
    atomic_exchange(&c->pinned, 0);
  }
  return (atomic_load(&c->apart) == 0 &&
          atomic_load_explicit(s->slow, memory_order_relaxed) == POOL_FAST) ||
         private_unpin_slowly(s, c);
}

/* By the user's own thread. */
static inline int private_is_pinned(private_cell *c)
{
  return atomic_load_explicit(&c->pinned, memory_order_relaxed);
}

static inline void private_touch(private_cell *c)
{
  if (!atomic_load_explicit(&c->used, memory_order_relaxed))
    atomic_store_explicit(&c->used, 1, memory_order_relaxed);
}

static inline int private_was_touched(private_cell *c)
{
  int used = atomic_load_explicit(&c->used, memory_order_relaxed);
  if (used)
    atomic_store_explicit(&c->used, 0, memory_order_relaxed);
  return used;
}

/* Pages of the set; how many of them are pinned. By its own thread both are
** exact, but for what hands take meanwhile. */
static inline uint32_t private_pages(const private_set *s)
{
  return atomic_load_explicit(&s->frames, memory_order_relaxed) +
         atomic_load_explicit(&s->outside, memory_order_relaxed);
}

static inline uint32_t private_pinned(const private_set *s)
{
  return atomic_load_explicit(&s->pins, memory_order_relaxed) -
         atomic_load_explicit(&s->unpins, memory_order_relaxed);
}

#endif
