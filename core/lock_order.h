/*
** lock_order.h - the order of all locks, and its check in debug builds.
**
** A thread takes a lock only while all that it holds have lower ranks; the last
** ranks are leaves, under which none is taken. So no circle of threads can wait
** for each other. A try takes what is free and never waits: it may come in any
** order, and what it took counts from then on. Two of a rank are held only where the
** order among them is the user's: latches (pagedb.h), and allocators, since a store
** may have another one under it.
**
** Two more rules: what waits for the disk holds no lock that a hit of somebody
** else could wait for (pool->lock, a parking lot, bits_lock, a memory store's);
** and nobody waits for another thread while he has pages claimed for writing
** (pool_flush.c).
**
** A mutex of core or of the VFS is declared RANKED_MUTEX(rank). That is a
** pthread_mutex_t, and nothing here costs anything, unless PAGEDB_DEBUG is
** defined (the builds for sanitizers and for coverage): then the pthread calls
** below also count, in each thread, what it holds of each rank, and a breach of
** a rule is told on stderr and ends the process. There a mutex without rank does
** not compile.
*/
#ifndef PAGEDB_LOCK_ORDER_H
#define PAGEDB_LOCK_ORDER_H

#include <pthread.h>

typedef enum lock_rank {
  RANK_GLOBALS = 1, /* pagedb_globals.lock */
  RANK_SHARED,      /* shared->lock */
  RANK_LATCH,       /* of a frame: its content */
  RANK_ALLOC,       /* alloc->lock */
  RANK_POOL,        /* pool->lock */
  /* Leaves. */
  RANK_PARKING, /* of a parking lot: sleeping for a latch */
  RANK_MEMORY,  /* of a store in memory */
  RANK_SYNC,    /* file->sync_lock */
  RANK_QUEUE,   /* file->queue_lock; only ever tried */
  RANK_BITS,    /* shared->bits_lock */
  RANK_EARLY,   /* what a checkpoint's thread has to ask for */
  RANKS
} lock_rank;

#ifdef PAGEDB_DEBUG

/* The rank is the length of an array that nobody uses. */
#define RANKED_MUTEX(rank)                                                     \
  struct {                                                                     \
    pthread_mutex_t mutex;                                                     \
    char as_long_as[rank];                                                     \
  }
#define RANKED_MUTEX_INITIALIZER                                               \
  {                                                                            \
    .mutex = PTHREAD_MUTEX_INITIALIZER                                         \
  }

/* Before a lock is waited for; once it is held; before it is let go. */
void lock_order_take(lock_rank rank);
void lock_order_held(lock_rank rank);
void lock_order_give(lock_rank rank);
/* Before a condition is waited for under the mutex of that rank. */
void lock_order_wait(lock_rank rank);
/* Before a call that may wait for the disk. */
void lock_order_io(void);
/* Pages were claimed for writing; settled (a negative number). */
void lock_order_claims(int pages);

static inline int lock_order_lock(pthread_mutex_t *m, lock_rank rank)
{
  lock_order_take(rank);
  int rc = pthread_mutex_lock(m);
  lock_order_held(rank);
  return rc;
}

static inline int lock_order_trylock(pthread_mutex_t *m, lock_rank rank)
{
  int rc = pthread_mutex_trylock(m);
  if (rc == 0)
    lock_order_held(rank);
  return rc;
}

static inline int lock_order_unlock(pthread_mutex_t *m, lock_rank rank)
{
  lock_order_give(rank);
  return pthread_mutex_unlock(m);
}

static inline int lock_order_cond(pthread_cond_t *c, pthread_mutex_t *m,
                                  lock_rank rank)
{
  lock_order_wait(rank);
  return pthread_cond_wait(c, m);
}

#define RANK_OF(m)               ((lock_rank)sizeof(m)->as_long_as)
#define pthread_mutex_init(m, a) pthread_mutex_init(&(m)->mutex, a)
#define pthread_mutex_destroy(m) pthread_mutex_destroy(&(m)->mutex)
#define pthread_mutex_lock(m)    lock_order_lock(&(m)->mutex, RANK_OF(m))
#define pthread_mutex_trylock(m) lock_order_trylock(&(m)->mutex, RANK_OF(m))
#define pthread_mutex_unlock(m)  lock_order_unlock(&(m)->mutex, RANK_OF(m))
#define pthread_cond_wait(c, m)  lock_order_cond(c, &(m)->mutex, RANK_OF(m))

#else

#define RANKED_MUTEX(rank)       pthread_mutex_t
#define RANKED_MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#define lock_order_take(rank)    ((void)0)
#define lock_order_held(rank)    ((void)0)
#define lock_order_give(rank)    ((void)0)
#define lock_order_io()          ((void)0)
#define lock_order_claims(pages) ((void)0)

#endif

#endif
