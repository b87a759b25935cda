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
** BUDGET. Frames of a purgeable set are in the pool's budget. When everything
** in it is pinned, a frame that must be had is made beyond it: the set's
** excess, which is given back with the next unpins: of the set itself, and of
** the others as well. A set that holds three quarters of a full budget takes
** nothing from others any more: it lives on its own pages, or on excess that
** only its own unpins pay for. Frames of a set that is not purgeable are outside of
** the budget, counted, and no victims.
**
** PINS. A frame is got pinned. Once it is unpinned the hand may take it at any
** time; private_pin gets it back, or says that it is gone. One of the two sees
** the other, as with the hazard slots (pool_int.h, PINS): the user writes
** `pinned` and looks at `claim`; the hand writes `claim`, runs the heavy fence,
** and looks at `pinned`. A user who meets a claim waits for pool->lock, under
** which the hand decides. So a hit costs no atomic read-modify-write where the
** asymmetric fence works.
**
** THREADS. A set and its cells belong to one thread at a time. The hand looks
** at a cell under pool->lock until it has set `claim` to PRIVATE_TAKEN, and
** never after: a cell may be freed once it was found taken, or dropped.
**
** FORK. A child does not inherit the pool's memory. After pagedb_pool_forked a
** set of the parent's answers there as one whose frames were all taken; it may
** be closed.
*/
#ifndef PAGEDB_PRIVATE_H
#define PAGEDB_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "pagedb.h"

/* private_cell.claim. */
enum { PRIVATE_FREE, PRIVATE_CLAIMED, PRIVATE_TAKEN };

typedef struct private_cell {
  struct frame *frame;
  _Atomic uint8_t pinned; /* written by the user */
  _Atomic uint8_t used;   /* reference bit: set by the user, cleared by hands */
  _Atomic uint8_t claim;  /* written under pool->lock */
  uint8_t apart;          /* not in the clock's ring: unpinned slowly */
} private_cell;

typedef struct private_set {
  _Atomic uint32_t frames; /* that it has now; changed under pool->lock */
  _Atomic uint32_t excess; /* of these, beyond the budget; likewise */
  const _Atomic int
      *slow; /* the pool's: not 0: ask it at every pin and unpin */
  int asymmetric;
  int purgeable;
  uint32_t class;               /* log2 of the page size */
  _Atomic uint64_t hits;        /* written by the user, for statistics */
  _Atomic uint64_t misses;      /* likewise */
  _Atomic uint64_t table_bytes; /* likewise: his memory for finding pages */
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
/* All frames must have been dropped. */
void private_close(private_set *s);

/*
** A frame, pinned, its content undefined; the cell is filled in. The address is
** aligned to the lesser of the page size and 4096, and 16 bytes after the page
** may be read. NULL: with PRIVATE_MAY when it is not to be had within the
** budget without writing anything; with PRIVATE_MUST when memory is out.
*/
void *private_get(private_set *s, private_cell *c, private_need need);

/* Drop n frames, pinned or not, but those that were taken. To the pool, or with
** give_back to the system. */
void private_drop(private_set *s, private_cell **c, unsigned n, int give_back);

/* After drops with give_back: the pool frees its headers of what went. */
void private_trim(private_set *s);

/* After private_pin_quickly said 0. 1: pinned; 0: the frame was taken. */
int private_pin_slowly(private_set *s, private_cell *c);
/* After private_unpin_quickly said 0. 1: unpinned; 0: still pinned, but the
** pool wants the memory back: drop it. */
int private_unpin_slowly(private_set *s, private_cell *c);

/* Pin a frame that is not pinned: 1; or 0 when only private_pin_slowly can
** tell. */
static inline int private_pin_quickly(private_set *s, private_cell *c)
{
  if (s->asymmetric) {
    atomic_store_explicit(&c->pinned, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
  } else {
    atomic_exchange(&c->pinned, 1);
  }
  return atomic_load(&c->claim) == PRIVATE_FREE &&
         atomic_load_explicit(s->slow, memory_order_relaxed) == 0;
}

/* Pin a frame that is not pinned: 1; or 0 when it was taken. */
static inline int private_pin(private_set *s, private_cell *c)
{
  return private_pin_quickly(s, c) || private_pin_slowly(s, c);
}

/* Unpin: 1; or 0 when private_unpin_slowly has to decide. */
static inline int private_unpin_quickly(private_set *s, private_cell *c)
{
  if (atomic_load_explicit(&s->excess, memory_order_relaxed) != 0 ||
      atomic_load_explicit(s->slow, memory_order_relaxed) != 0 || c->apart)
    return 0;
  atomic_store_explicit(&c->pinned, 0, memory_order_release);
  return 1;
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

#endif
