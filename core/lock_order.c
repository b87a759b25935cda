/*
** lock_order.c - checks the order of locks: lock_order.h. Nothing, unless
** PAGEDB_DEBUG is defined.
**
** Each thread counts for itself what it holds; there is nothing that two threads
** look at, and so nothing here orders them or hides a race from a sanitizer. A
** latch that one thread takes and another lets go (a session that changed hands)
** stays counted in the first: the only lock for which that is possible.
*/
#include "lock_order.h"

#ifdef PAGEDB_DEBUG

#include <stdio.h>
#include <stdlib.h>

static const char *const names[RANKS] = {
    [RANK_GLOBALS] = "globals.lock",
    [RANK_SHARED] = "shared->lock",
    [RANK_LATCH] = "a latch",
    [RANK_ALLOC] = "alloc->lock",
    [RANK_POOL] = "pool->lock",
    [RANK_PARKING] = "a parking lot",
    [RANK_MEMORY] = "a memory store's lock",
    [RANK_SYNC] = "file->sync_lock",
    [RANK_QUEUE] = "file->queue_lock",
    [RANK_BITS] = "shared->bits_lock",
    [RANK_EARLY] = "early->lock",
};

static _Thread_local int held[RANKS];
static _Thread_local int claims;

static void breach(const char *what, const char *under)
{
  fprintf(stderr, "pagedb: lock order: %s while holding %s\n", what, under);
  abort();
}

/* Nothing of rank `from` or above may be held. */
static void none_from(int from, const char *what)
{
  for (int rank = from; rank < RANKS; rank++)
    if (held[rank] > 0)
      breach(what, names[rank]);
}

static void no_claims(const char *what)
{
  if (claims != 0)
    breach(what, "pages claimed for writing");
}

void lock_order_take(lock_rank rank)
{
  if (rank == RANK_LATCH)
    no_claims("waiting for a latch");
  int several = rank == RANK_LATCH || rank == RANK_ALLOC;
  int from = (int)rank + several;
  none_from(from > RANK_PARKING ? RANK_PARKING : from, names[rank]);
}

void lock_order_held(lock_rank rank)
{
  held[rank]++;
}

void lock_order_give(lock_rank rank)
{
  if (held[rank] > 0)
    held[rank]--;
}

void lock_order_wait(lock_rank rank)
{
  no_claims("waiting for a condition");
  none_from((int)rank + 1, "waiting for a condition");
}

void lock_order_io(void)
{
  static const lock_rank never[] = {RANK_POOL, RANK_PARKING, RANK_MEMORY,
                                    RANK_BITS};
  for (unsigned i = 0; i < sizeof never / sizeof never[0]; i++)
    if (held[never[i]] > 0)
      breach("a call that waits for the disk", names[never[i]]);
}

void lock_order_claims(int pages)
{
  claims += pages;
}

#endif
