/*
** test_pool_private.c - private frames, and who has the pool's lock first: the test
** itself, in the place of the hand, while a thread wants its frame; or another
** thread, just before a call takes the lock (pthread_mutex_lock is wrapped).
*/
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "endian.h"
#include "pool_int.h"
#include "pool_rig.h"

enum { PRIVATES = 8192 };

/* More frames of the smallest size than are dropped, or counted, at once. */
static void test_many_private_frames(void **state)
{
  (void)state;
  pagedb_pool_options opt = {.capacity = 512 * PRIVATES};
  static private_cell cell[PRIVATES], *c[PRIVATES];
  pagedb_pool *pool;
  private_set set;
  unsigned n = 0;
  ok(pagedb_pool_open(&opt, &pool));
  ok(private_open(pool, &set, 512, 1));
  while (n < PRIVATES && private_get(&set, &cell[n], PRIVATE_MAY) != NULL) {
    c[n] = &cell[n];
    n++;
  }
  /* Three quarters, since nobody else has any. */
  assert_in_range(n, PRIVATES / 4 * 3 - 64, PRIVATES / 4 * 3 + 64);
  assert_int_equal(stats(pool).private_pages, n);
  private_drop(&set, c, n, 1);
  assert_int_equal(stats(pool).private_pages, 0);
  assert_int_equal(stats(pool).used_bytes, 0);
  private_trim(&set);
  assert_int_equal(stats(pool).table_bytes, 0);
  private_close(&set);
  ok(pagedb_pool_close(pool));
}

/* Outside of the budget: chunks grow up to a limit, and all go back. */
static void test_large_outside(void **state)
{
  (void)state;
  enum { PAGES = 160 };
  pagedb_pool_options opt = {.capacity = 1 << 20};
  static private_cell cell[PAGES], *c[PAGES];
  pagedb_pool *pool;
  private_set set;
  ok(pagedb_pool_open(&opt, &pool));
  ok(private_open(pool, &set, 1 << 20, 0));
  for (unsigned i = 0; i < PAGES; i++) {
    unsigned char *p = private_get(&set, &cell[i], PRIVATE_MUST);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 4096, 0);
    memcpy(p + (1 << 20) - sizeof i, &i, sizeof i);
    c[i] = &cell[i];
  }
  assert_int_equal(stats(pool).outside_bytes, (uint64_t)PAGES << 20);
  assert_int_equal(stats(pool).used_bytes, 0);
  private_drop(&set, c, PAGES, 0);
  assert_int_equal(stats(pool).outside_bytes, 0);
  private_close(&set);
  ok(pagedb_pool_close(pool));
}

/* What a thread does to a cell while the test, with the pool's lock, is the
** hand. */
typedef struct user {
  private_set *set;
  private_cell *cell;
  int (*call)(private_set *, private_cell *);
  int result;
  pthread_t thread;
} user;

static void *user_run(void *arg)
{
  user *u = arg;
  u->result = u->call(u->set, u->cell);
  return NULL;
}

static int pin(private_set *s, private_cell *c)
{
  return private_pin(s, c);
}

static int unpin(private_set *s, private_cell *c)
{
  return private_unpin(s, c);
}

/* Start the call; it waits for the lock. */
static void user_start(user *u, int (*call)(private_set *, private_cell *))
{
  u->call = call;
  assert_int_equal(pthread_create(&u->thread, NULL, user_run, u), 0);
  for (int i = 0; i < 20; i++)
    nap();
}

/* The user meets the hand: whoever was first has the frame. */
static void test_user_meets_hand(void **state)
{
  (void)state;
  rig r = rig_open(8);
  private_set set;
  private_cell cell;
  user u = {.set = &set, .cell = &cell};
  ok(private_open(r.pool, &set, PAGE, 1));
  assert_non_null(private_get(&set, &cell, PRIVATE_MAY));
  frame *f = cell.frame;
  /* Claimed, and let go. */
  assert_true(private_unpin(&set, &cell));
  pthread_mutex_lock(&r.pool->lock);
  private_claim(f);
  user_start(&u, pin);
  private_release(f);
  pthread_mutex_unlock(&r.pool->lock);
  pthread_join(u.thread, NULL);
  assert_int_equal(u.result, 1);
  assert_int_equal(private_pinned(&set), 1);
  /* Put apart, and then aside: the unpin brings it back, where it is a victim. */
  pthread_mutex_lock(&r.pool->lock);
  assert_int_equal(private_put_apart(f), 1);
  private_look_again(r.pool, f);
  assert_int_equal(f->aside, 1);
  pthread_mutex_unlock(&r.pool->lock);
  assert_true(private_unpin(&set, &cell));
  assert_int_equal(f->aside, 0);
  assert_true(private_pin(&set, &cell));
  /* Put apart, and unpinned before the hand looks again: it stays where it is. */
  pthread_mutex_lock(&r.pool->lock);
  assert_int_equal(private_put_apart(f), 1);
  pthread_mutex_unlock(&r.pool->lock);
  assert_true(private_unpin(&set, &cell));
  assert_int_equal(atomic_load(&cell.apart), 0);
  assert_true(private_pin(&set, &cell));
  /* Put apart, unpinned, and taken before the unpin has the lock. */
  pthread_mutex_lock(&r.pool->lock);
  assert_int_equal(private_put_apart(f), 1);
  user_start(&u, unpin);
  assert_int_equal(frames_reclaim(r.pool, &f, 1), 1);
  pthread_mutex_unlock(&r.pool->lock);
  pthread_join(u.thread, NULL);
  assert_int_equal(u.result, 1);
  assert_int_equal(private_pages(&set), 0);
  assert_false(private_pin(&set, &cell));
  private_close(&set);
  rig_close(&r);
}

/* Another thread that gets the pool's lock first, just before it is taken. */
static struct first {
  void (*call)(void *arg);
  void *arg;
} first;

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);

static void *go_first(void *arg)
{
  struct first *f = arg;
  f->call(f->arg);
  return NULL;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
  if (first.call != NULL) {
    struct first f = first;
    pthread_t thread;
    first.call = NULL;
    if (pthread_create(&thread, NULL, go_first, &f) != 0)
      abort();
    pthread_join(thread, NULL);
  }
  return __real_pthread_mutex_lock(m);
}

static void reads_page_0(void *arg)
{
  rig *r = arg;
  pagedb_session *s;
  ok(pagedb_session_open(r->pool, &s));
  assert_int_equal(get(s, r->owner, 0), 1000);
  ok(pagedb_session_close(s));
}

typedef struct opened {
  rig *r;
  private_set set;
} opened;

static void opens_a_set(void *arg)
{
  opened *o = arg;
  ok(private_open(o->r->pool, &o->set, PAGE, 1));
}

/* What is counted, and which sets there are, is looked at under the lock. */
static void test_somebody_is_first(void **state)
{
  (void)state;
  rig r = rig_open(8);
  opened o = {.r = &r};
  private_set set;
  fill(&r, 1);
  uint64_t reads = stats(r.pool).pages_read;
  first = (struct first){reads_page_0, &r};
  assert_int_equal(stats(r.pool).pages_read, reads + 1);
  first = (struct first){opens_a_set, &o};
  ok(private_open(r.pool, &set, PAGE, 1));
  assert_ptr_equal(r.pool->sets, &set);
  assert_ptr_equal(set.next, &o.set);
  assert_ptr_equal(o.set.prev, &set);
  private_close(&o.set);
  private_close(&set);
  assert_null(r.pool->sets);
  rig_close(&r);
}

static void reads_page_0_anew(void *arg)
{
  rig *r = arg;
  ok(pagedb_invalidate(r->owner));
  reads_page_0(arg);
}

/* The page is invalidated, and read anew by another, while somebody is about to mark
** it dirty: what is marked then would be lost. */
static void test_invalidated_before_it_is_dirty(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pin;
  fill(&r, 1);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_latch_exclusive(&pin));
  first = (struct first){reads_page_0_anew, &r};
  expect(pagedb_mark_dirty(&pin, 1), PAGEDB_EMISUSE);
  pagedb_unpin(&pin);
  assert_int_equal(dirty(&r), 0);
  rig_close(&r);
}

static unsigned spare_frames(const pagedb_pool *p)
{
  unsigned n = 0;
  for (int class = CLASS_MIN; class <= CLASS_MAX; class ++)
    for (const slab *s = p->slabs[class]; s != NULL; s = s->next)
      n += s->spare;
  return n;
}

static unsigned all_frames(const pagedb_pool *p)
{
  unsigned n = 0;
  for (int class = CLASS_MIN; class <= CLASS_MAX; class ++)
    for (const slab *s = p->slabs[class]; s != NULL; s = s->next)
      n += s->frames;
  return n;
}

/* Frames that are dropped while the pool is above its budget are not lost: spare as
** before, but for those that the budget keeps free. */
static void test_dropped_above_the_budget(void **state)
{
  (void)state;
  enum { FRAMES = 8, KEPT = 2 };
  rig r = rig_open(FRAMES);
  private_set set;
  private_cell cell[FRAMES], *c[FRAMES];
  unsigned n = 0;
  uint64_t used = 0;
  ok(private_open(r.pool, &set, PAGE, 1));
  while (n < FRAMES && private_get(&set, &cell[n], PRIVATE_MAY) != NULL) {
    c[n] = &cell[n];
    n++;
  }
  assert_true(n > KEPT);
  assert_int_equal(set.outside, 0);
  pagedb_pool_resize(r.pool, KEPT * PAGE, &used);
  assert_int_equal(used, n * PAGE);
  private_drop(&set, c, n, 0);
  assert_true(stats(r.pool).used_bytes <= KEPT * PAGE);
  assert_int_equal(spare_frames(r.pool),
                   all_frames(r.pool) - stats(r.pool).used_bytes / PAGE);
  private_close(&set);
  rig_close(&r);
}

/* A victim that turns out to be pinned is as it was. */
static void test_reclaim_of_pinned(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pinned, orphan;
  private_set set;
  private_cell cell, *c = &cell;
  fill(&r, 2);
  ok(private_open(r.pool, &set, PAGE, 1));
  assert_non_null(private_get(&set, &cell, PRIVATE_MAY));
  ok(pagedb_fetch(r.session, r.owner, 0, &orphan));
  ok(pagedb_invalidate(r.owner));
  ok(pagedb_fetch(r.session, r.owner, 0, &pinned));
  frame *f[] = {frame_of_pin(&pinned), frame_of_pin(&orphan), cell.frame};
  assert_int_equal(f[0]->state, FRAME_RESIDENT);
  assert_int_equal(f[1]->state, FRAME_ORPHAN);
  assert_int_equal(f[2]->state, FRAME_PRIVATE);
  pthread_mutex_lock(&r.pool->lock);
  assert_int_equal(frames_reclaim(r.pool, f, 3), 0);
  pthread_mutex_unlock(&r.pool->lock);
  assert_true(pagedb_resident(r.owner, 0));
  assert_int_equal(f[1]->state, FRAME_ORPHAN);
  assert_int_equal(atomic_load(&cell.claim), PRIVATE_FREE);
  assert_int_equal(get_le64(pinned.data + AT), 1000);
  pagedb_unpin(&pinned);
  pagedb_unpin(&orphan);
  private_drop(&set, &c, 1, 0);
  private_close(&set);
  rig_close(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_many_private_frames),
      cmocka_unit_test(test_large_outside),
      cmocka_unit_test(test_user_meets_hand),
      cmocka_unit_test(test_somebody_is_first),
      cmocka_unit_test(test_invalidated_before_it_is_dirty),
      cmocka_unit_test(test_dropped_above_the_budget),
      cmocka_unit_test(test_reclaim_of_pinned),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
