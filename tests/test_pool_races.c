/*
** test_pool_races.c - the buffer pool: many threads, and races that reviews
** found.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "endian.h"
#include "pool_rig.h"

/* ------------------------------------------------------------------ stress */

enum { THREADS = 8, STRESS_PAGES = 512 };

typedef struct stress {
  pagedb_pool *pool;
  pagedb_owner *owner;
  _Atomic uint64_t added[STRESS_PAGES];
  atomic_int stop;
  uint64_t seed;
  unsigned steps;
} stress;

typedef struct worker {
  stress *s;
  uint64_t seed;
  pthread_t thread;
} worker;

/* A page is a counter and its complement; they must always match. */
static void check_page(const unsigned char *data)
{
  uint64_t v = get_le64(data + AT), w = get_le64(data + 2048);
  if (v != ~w)
    abort();
}

static void *stress_worker(void *arg)
{
  worker *w = arg;
  stress *s = w->s;
  pagedb_session *session;
  pagedb_pin pin;
  if (pagedb_session_open(s->pool, &session) != PAGEDB_OK)
    abort();
  for (unsigned i = 0; i < s->steps; i++) {
    uint64_t id = random_below(&w->seed, STRESS_PAGES);
    if (random_below(&w->seed, 4) == 0)
      id %= 8; /* a few pages that all want */
    if (random_below(&w->seed, 400) == 0) {
      if (pagedb_flush(session, s->owner) != PAGEDB_OK)
        abort();
      continue;
    }
    int err = pagedb_fetch(session, s->owner, id, &pin);
    if (err == PAGEDB_EEXHAUSTED)
      continue;
    if (err != PAGEDB_OK)
      abort();
    if (random_below(&w->seed, 3) == 0) {
      if (pagedb_latch_exclusive(&pin) != PAGEDB_OK)
        abort();
      check_page(pin.data);
      uint64_t v = get_le64(pin.data + AT) + 1;
      put_le64(pin.data + AT, v);
      put_le64(pin.data + 2048, ~v);
      if (pagedb_mark_dirty(&pin, v) != PAGEDB_OK)
        abort();
      atomic_fetch_add(&s->added[id], 1);
    } else {
      if (pagedb_latch_shared(&pin) != PAGEDB_OK)
        abort();
      check_page(pin.data);
    }
    pagedb_unpin(&pin);
  }
  if (pagedb_session_close(session) != PAGEDB_OK)
    abort();
  return NULL;
}

/* Meanwhile the budget changes, pages are checkpointed, clean ones thrown out.
 */
static void *stress_disturber(void *arg)
{
  worker *w = arg;
  stress *s = w->s;
  pagedb_session *session;
  pagedb_pool_stats st;
  if (pagedb_session_open(s->pool, &session) != PAGEDB_OK)
    abort();
  while (!atomic_load(&s->stop)) {
    uint64_t frames = 24 + random_below(&w->seed, 60);
    if (pagedb_pool_resize(s->pool, frames * PAGE, NULL) != PAGEDB_OK ||
        pagedb_checkpoint(session, s->owner) != PAGEDB_OK)
      abort();
    pagedb_pool_stats_get(s->pool, &st);
    pagedb_resident(s->owner, random_below(&w->seed, STRESS_PAGES));
  }
  if (pagedb_session_close(session) != PAGEDB_OK)
    abort();
  return NULL;
}

static void stress_prepare(pagedb_pool *pool, pagedb_owner *o)
{
  pagedb_session *session;
  pagedb_pin pin;
  ok(pagedb_session_open(pool, &session));
  for (uint64_t id = 0; id < STRESS_PAGES; id++) {
    ok(pagedb_fetch_new(session, o, id, &pin));
    put_le64(pin.data + 2048, ~(uint64_t)0);
    pagedb_unpin(&pin);
  }
  ok(pagedb_checkpoint(session, o));
  ok(pagedb_session_close(session));
}

/* 8 threads on a file far larger than the pool, verified cold after reopening.
 */
static void test_stress(void **state)
{
  (void)state;
  static stress s;
  const char *path = temp_path();
  pagedb_file_options fo = {.create = 1};
  pagedb_pool_options po = {.capacity = 40 * PAGE};
  pagedb_file *file;
  pagedb_store *store;
  worker w[THREADS + 1];
  uint64_t seed = test_seed("stress", 1);
  memset(&s, 0, sizeof s);
  s.steps = scaled(20000);
  ok(pagedb_file_open(path, &fo, &file));
  ok(pagedb_store_of_file(file, &store));
  ok(pagedb_pool_open(&po, &s.pool));
  ok(pagedb_owner_open(s.pool, store, &s.owner));
  stress_prepare(s.pool, s.owner);
  for (int i = 0; i <= THREADS; i++) {
    w[i] = (worker){.s = &s, .seed = next_random(&seed)};
    assert_int_equal(
        pthread_create(&w[i].thread, NULL,
                       i < THREADS ? stress_worker : stress_disturber, &w[i]),
        0);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(w[i].thread, NULL);
  atomic_store(&s.stop, 1);
  pthread_join(w[THREADS].thread, NULL);
  pagedb_session *session;
  ok(pagedb_session_open(s.pool, &session));
  ok(pagedb_checkpoint(session, s.owner));
  ok(pagedb_session_close(session));
  ok(pagedb_owner_close(s.owner));
  ok(pagedb_pool_close(s.pool));
  pagedb_store_close(store);
  pagedb_file_close(file);

  fo.create = 0;
  ok(pagedb_file_open(path, &fo, &file));
  unsigned char *page = pagedb_file_alloc(file, 1);
  for (uint64_t id = 0; id < STRESS_PAGES; id++) {
    ok(pagedb_file_read(file, id, page, NULL));
    check_page(page);
    assert_int_equal(get_le64(page + AT), atomic_load(&s.added[id]));
  }
  pagedb_file_free(page);
  pagedb_file_close(file);
  remove(path);
}

/* Hits, evictions and invalidations race; every page read is a good one. */
static void *invalidator(void *arg)
{
  worker *w = arg;
  while (!atomic_load(&w->s->stop)) {
    if (pagedb_invalidate(w->s->owner) != PAGEDB_OK)
      abort();
    if (random_below(&w->seed, 4) == 0)
      pagedb_discard(w->s->owner, random_below(&w->seed, 64));
  }
  return NULL;
}

static void *reader(void *arg)
{
  worker *w = arg;
  pagedb_session *session;
  pagedb_pin pin[3];
  if (pagedb_session_open(w->s->pool, &session) != PAGEDB_OK)
    abort();
  for (unsigned i = 0; i < w->s->steps; i++) {
    int n = 0;
    for (int k = 0; k < 3; k++) {
      uint64_t id = random_below(&w->seed, 64);
      int err = pagedb_fetch(session, w->s->owner, id, &pin[n]);
      if (err == PAGEDB_EEXHAUSTED)
        continue;
      if (err != PAGEDB_OK || get_le64(pin[n].data + AT) != id + 1000)
        abort();
      n++;
    }
    while (n > 0)
      pagedb_unpin(&pin[--n]);
  }
  if (pagedb_session_close(session) != PAGEDB_OK)
    abort();
  return NULL;
}

static void test_races_of_readers(void **state)
{
  (void)state;
  static stress s;
  worker w[5];
  rig r = rig_open(24);
  fill(&r, 64);
  uint64_t seed = test_seed("races of readers", 77);
  memset(&s, 0, sizeof s);
  s.pool = r.pool;
  s.owner = r.owner;
  s.steps = scaled(30000);
  for (int i = 0; i < 5; i++) {
    w[i] = (worker){.s = &s, .seed = next_random(&seed)};
    assert_int_equal(
        pthread_create(&w[i].thread, NULL, i < 4 ? reader : invalidator, &w[i]),
        0);
  }
  for (int i = 0; i < 4; i++)
    pthread_join(w[i].thread, NULL);
  atomic_store(&s.stop, 1);
  pthread_join(w[4].thread, NULL);
  rig_close(&r);
}

/* A store that cannot write does not keep another's pages from being read, as
** long as there are clean ones. */
static void test_failing_store_spares_others(void **state)
{
  (void)state;
  enum { DIRTY = 300, CLEAN = 300 };
  rig r = rig_open(DIRTY + CLEAN);
  fault_store *disk = fault_store_new(PAGE);
  pagedb_owner *other;
  pagedb_pin pin;
  ok(pagedb_owner_open(r.pool, fault_store_base(disk), &other));
  for (unsigned i = 0; i < 2 * CLEAN; i++) {
    ok(pagedb_fetch_new(r.session, other, i, &pin));
    put_le64(pin.data + AT, i);
    pagedb_unpin(&pin);
  }
  ok(pagedb_flush(r.session, other));
  ok(pagedb_discard_from(other, 0));
  for (unsigned i = 0; i < DIRTY; i++)
    put(r.session, r.owner, i, 1);
  fault_store_fail(r.disk, FAULT_WRITE, 1, 1, PAGEDB_EIO);
  for (unsigned i = 0; i < 2 * CLEAN; i++)
    assert_true(get(r.session, other, i) == i);
  fault_store_fail(r.disk, FAULT_WRITE, 0, 0, 0);
  ok(pagedb_flush(r.session, r.owner));
  ok(pagedb_owner_close(other));
  rig_close(&r);
  fault_store_free(disk);
}

/* ------------------------------------- found by review, each reproduced once
 */

static void test_one_owner_for_a_store(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_owner *second;
  expect(pagedb_owner_open(r.pool, fault_store_base(r.disk), &second),
         PAGEDB_EBUSY);
  rig_close(&r);
}

static void *owners_come_and_go(void *arg)
{
  rig *r = arg;
  pagedb_session *s;
  fault_store *disk = fault_store_new(PAGE);
  if (pagedb_session_open(r->pool, &s) != PAGEDB_OK)
    abort();
  for (unsigned i = 0; i < scaled(2000); i++) {
    pagedb_owner *o;
    pagedb_pin pin;
    if (pagedb_owner_open(r->pool, fault_store_base(disk), &o) != PAGEDB_OK ||
        pagedb_fetch_new(s, o, i % 700, &pin) != PAGEDB_OK)
      abort();
    pagedb_unpin(&pin);
    if (pagedb_flush(s, o) != PAGEDB_OK || pagedb_owner_close(o) != PAGEDB_OK)
      abort();
  }
  if (pagedb_session_close(s) != PAGEDB_OK)
    abort();
  fault_store_free(disk);
  return NULL;
}

/* Owners of several threads come and go in one pool's list. */
static void test_owners_come_and_go(void **state)
{
  (void)state;
  rig r = rig_open(64);
  pthread_t thread[4];
  fill(&r, 4);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, owners_come_and_go, &r),
                     0);
  for (int i = 0; i < 4; i++)
    pthread_join(thread[i], NULL);
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal(get(r.session, r.owner, i), i + 1000);
  rig_close(&r);
}

/* A pin whose page was invalidated and read anew still names its owner. */
static void test_close_with_pinned_orphan(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin old, pin;
  fill(&r, 4);
  ok(pagedb_fetch(r.session, r.owner, 3, &old));
  ok(pagedb_invalidate(r.owner));
  ok(pagedb_fetch(r.session, r.owner, 3, &pin));
  pagedb_unpin(&pin);
  expect(pagedb_owner_close(r.owner), PAGEDB_EBUSY);
  ok(pagedb_latch_exclusive(&old));
  expect(pagedb_mark_dirty(&old, 1), PAGEDB_EMISUSE);
  pagedb_unpin(&old);
  rig_close(&r);
}

typedef struct race {
  rig *r;
  atomic_int stop;
} race;

static void *invalidate_all_the_time(void *arg)
{
  race *x = arg;
  while (!atomic_load(&x->stop))
    pagedb_invalidate(x->r->owner);
  return NULL;
}

/* A page that is being made anew counts as changed from the start: an
** invalidation cannot get between. And a hit does not touch an entry that an
** invalidation takes away under it. */
static void test_new_page_against_invalidate(void **state)
{
  (void)state;
  rig r = rig_open(64);
  race x = {.r = &r};
  pthread_t thread;
  pagedb_pin pin;
  fill(&r, 32);
  assert_int_equal(pthread_create(&thread, NULL, invalidate_all_the_time, &x),
                   0);
  for (unsigned i = 0; i < scaled(20000); i++) {
    uint64_t id = 8 + i % 16;
    ok(pagedb_fetch_new(r.session, r.owner, id, &pin));
    put_le64(pin.data + AT, i);
    pagedb_unpin(&pin);
    assert_true(get(r.session, r.owner, id) == i);
    ok(pagedb_flush(r.session, r.owner));
    assert_true(get(r.session, r.owner, i % 8) == i % 8 + 1000);
  }
  atomic_store(&x.stop, 1);
  pthread_join(thread, NULL);
  ok(pagedb_flush(r.session, r.owner));
  ok(pagedb_invalidate(r.owner));
  rig_close(&r);
}

typedef struct held_write {
  atomic_int inside, go;
} held_write;

static void hold_writes(void *arg, enum fault_kind kind, uint64_t page)
{
  held_write *h = arg;
  (void)page;
  if (kind != FAULT_WRITE)
    return;
  atomic_store(&h->inside, 1);
  while (!atomic_load(&h->go))
    nanosleep(&(struct timespec){0, 100000}, NULL);
}

typedef struct make_room {
  pagedb_pool *pool;
  pagedb_owner *other;
} make_room;

static void *fetch_other(void *arg)
{
  make_room *m = arg;
  pagedb_session *s;
  pagedb_pin pin;
  if (pagedb_session_open(m->pool, &s) != PAGEDB_OK)
    return NULL;
  if (pagedb_fetch(s, m->other, 0, &pin) == PAGEDB_OK)
    pagedb_unpin(&pin);
  pagedb_session_close(s);
  return NULL;
}

static void *let_go(void *arg)
{
  held_write *h = arg;
  nanosleep(&(struct timespec){0, 50000000}, NULL);
  atomic_store(&h->go, 1);
  return NULL;
}

/* Another owner's session evicts our dirty page, and its write fails while the
** owner is being closed: the change is not lost silently. */
static void test_close_during_failing_eviction(void **state)
{
  (void)state;
  rig r = rig_open(4);
  fault_store *disk = fault_store_new(PAGE);
  make_room m = {.pool = r.pool};
  held_write h = {0};
  pthread_t a, b;
  pagedb_pin pin;
  ok(pagedb_owner_open(r.pool, fault_store_base(disk), &m.other));
  ok(pagedb_fetch_new(r.session, m.other, 0, &pin));
  pagedb_unpin(&pin);
  ok(pagedb_flush(r.session, m.other));
  ok(pagedb_discard(m.other, 0));
  fill(&r, 4);
  for (unsigned i = 0; i < 4; i++)
    put(r.session, r.owner, i, 77);
  fault_store_hook(r.disk, hold_writes, &h);
  fault_store_fail(r.disk, FAULT_WRITE, 1, 1, PAGEDB_EIO);
  assert_int_equal(pthread_create(&a, NULL, fetch_other, &m), 0);
  while (!atomic_load(&h.inside))
    nanosleep(&(struct timespec){0, 100000}, NULL);
  assert_int_equal(pthread_create(&b, NULL, let_go, &h), 0);
  expect(pagedb_owner_close(r.owner), PAGEDB_EBUSY);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
  fault_store_hook(r.disk, NULL, NULL);
  fault_store_fail(r.disk, FAULT_WRITE, 0, 0, 0);
  ok(pagedb_flush(r.session, r.owner));
  assert_true(on_disk(&r, 2) == 77);
  ok(pagedb_discard_from(m.other, 0));
  ok(pagedb_owner_close(m.other));
  rig_close(&r);
  fault_store_free(disk);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_stress),
      cmocka_unit_test(test_races_of_readers),
      cmocka_unit_test(test_failing_store_spares_others),
      cmocka_unit_test(test_one_owner_for_a_store),
      cmocka_unit_test(test_owners_come_and_go),
      cmocka_unit_test(test_close_with_pinned_orphan),
      cmocka_unit_test(test_new_page_against_invalidate),
      cmocka_unit_test(test_close_during_failing_eviction),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
