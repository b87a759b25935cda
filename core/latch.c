/*
** latch.c - shared and exclusive access to the content of a page.
**
** A latch is one word in the frame: EXCLUSIVE, or a count of shared holders,
** and WAITING when somebody sleeps for it. Sleepers wait in one of the pool's
** few parking lots (mutex and condition), chosen by the frame's address, so a
** latch costs four bytes and a system call only when it is contended. A parking
** lot's mutex is held for a few instructions and no other lock is taken under
** it. Newcomers may overtake sleepers; a writer can be kept waiting by an
** unbroken stream of readers.
**
** WAITING is set under the lot's mutex, by a compare-and-swap that also sees
** the latch still taken; the releaser that sees it takes the mutex before it
** wakes. So no wake-up is lost.
*/
#include "pool_int.h"

#define LATCH_EXCLUSIVE ((uint32_t)1 << 31)
#define LATCH_WAITING   ((uint32_t)1 << 30)
#define LATCH_HOLDERS   (~LATCH_WAITING)

static parking_lot *lot_of(pagedb_pool *p, const frame *f)
{
  return &p->lots[((uintptr_t)f / sizeof *f) % PARK_LOTS];
}

/* Sleep until the latch may have become free; blocked is the part of the word
** that must be clear for the sleeper to go on. */
static void park(pagedb_pool *p, frame *f, uint32_t blocked)
{
  parking_lot *lot = lot_of(p, f);
  pthread_mutex_lock(&lot->lock);
  uint32_t w = atomic_load_explicit(&f->latch, memory_order_relaxed);
  while ((w & blocked) != 0) {
    if (!atomic_compare_exchange_weak(&f->latch, &w, w | LATCH_WAITING))
      continue;
    pthread_cond_wait(&lot->changed, &lot->lock);
    w = atomic_load_explicit(&f->latch, memory_order_relaxed);
  }
  pthread_mutex_unlock(&lot->lock);
}

static void unpark_all(pagedb_pool *p, frame *f)
{
  parking_lot *lot = lot_of(p, f);
  pthread_mutex_lock(&lot->lock);
  atomic_fetch_and(&f->latch, ~LATCH_WAITING);
  pthread_cond_broadcast(&lot->changed);
  pthread_mutex_unlock(&lot->lock);
}

int latch_try_shared(frame *f)
{
  uint32_t w = atomic_load_explicit(&f->latch, memory_order_relaxed);
  while ((w & LATCH_EXCLUSIVE) == 0) {
    if (atomic_compare_exchange_weak_explicit(
            &f->latch, &w, w + 1, memory_order_acquire, memory_order_relaxed)) {
      lock_order_held(RANK_LATCH);
      return 1;
    }
  }
  return 0;
}

void latch_shared(pagedb_pool *p, frame *f)
{
  lock_order_take(RANK_LATCH);
  while (!latch_try_shared(f))
    park(p, f, LATCH_EXCLUSIVE);
}

int latch_try_exclusive(frame *f, pagedb_session *s)
{
  uint32_t w = atomic_load_explicit(&f->latch, memory_order_relaxed);
  while ((w & LATCH_HOLDERS) == 0) {
    if (atomic_compare_exchange_weak_explicit(
            &f->latch, &w, w | LATCH_EXCLUSIVE, memory_order_acquire,
            memory_order_relaxed)) {
      atomic_store_explicit(&f->holder, s, memory_order_relaxed);
      lock_order_held(RANK_LATCH);
      return 1;
    }
  }
  return 0;
}

void latch_exclusive(pagedb_pool *p, frame *f, pagedb_session *s)
{
  lock_order_take(RANK_LATCH);
  while (!latch_try_exclusive(f, s))
    park(p, f, LATCH_HOLDERS);
}

void latch_release_shared(pagedb_pool *p, frame *f)
{
  lock_order_give(RANK_LATCH);
  uint32_t w =
      atomic_fetch_sub_explicit(&f->latch, 1, memory_order_release) - 1;
  if (w == LATCH_WAITING)
    unpark_all(p, f);
}

void latch_release_exclusive(pagedb_pool *p, frame *f)
{
  lock_order_give(RANK_LATCH);
  atomic_store_explicit(&f->holder, NULL, memory_order_relaxed);
  uint32_t w = atomic_fetch_and_explicit(&f->latch, ~LATCH_EXCLUSIVE,
                                         memory_order_release);
  if ((w & LATCH_WAITING) != 0)
    unpark_all(p, f);
}
