/*
** test_pool.c - the buffer pool: contract, the defects that it must not have,
** random operations against a model, errors. Threads: test_pool_races.c.
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

/* ---------------------------------------------------------------- contract */

static void test_hit_and_miss(void **state)
{
  (void)state;
  rig r = rig_open(4);
  pagedb_pin pin;
  fill(&r, 4);
  pagedb_pool_stats before = stats(r.pool);
  ok(pagedb_fetch(r.session, r.owner, 2, &pin));
  assert_int_equal(get_le64(pin.data + AT), 1002);
  assert_int_equal(pagedb_pin_lsn(&pin), 1002);
  assert_int_equal((uintptr_t)pin.data % PAGE, 0);
  pagedb_unpin(&pin);
  ok(pagedb_fetch(r.session, r.owner, 2, &pin));
  pagedb_unpin(&pin);
  pagedb_pool_stats after = stats(r.pool);
  assert_int_equal(after.misses - before.misses, 1);
  assert_int_equal(after.hits - before.hits, 1);
  assert_int_equal(after.pages_read - before.pages_read, 1);
  assert_true(pagedb_resident(r.owner, 2));
  assert_false(pagedb_resident(r.owner, 3));
  assert_false(pagedb_fetch_resident(r.session, r.owner, 3, &pin));
  assert_true(pagedb_fetch_resident(r.session, r.owner, 2, &pin));
  expect(pagedb_session_close(r.session), PAGEDB_EBUSY);
  expect(pagedb_owner_close(r.owner), PAGEDB_EBUSY);
  expect(pagedb_pool_close(r.pool), PAGEDB_EBUSY);
  pagedb_unpin(&pin);
  rig_close(&r);
}

static void test_exhausted(void **state)
{
  (void)state;
  rig r = rig_open(3);
  pagedb_pin pin[3], more;
  fill(&r, 5);
  for (int i = 0; i < 3; i++)
    ok(pagedb_fetch(r.session, r.owner, (uint64_t)i, &pin[i]));
  expect(pagedb_fetch(r.session, r.owner, 3, &more), PAGEDB_EEXHAUSTED);
  expect(pagedb_fetch_new(r.session, r.owner, 9, &more), PAGEDB_EEXHAUSTED);
  assert_int_equal(stats(r.pool).exhausted, 2);
  for (int i = 0; i < 3; i++)
    assert_int_equal(get_le64(pin[i].data + AT), 1000 + i);
  pagedb_unpin(&pin[1]);
  ok(pagedb_fetch(r.session, r.owner, 3, &more));
  assert_int_equal(get_le64(more.data + AT), 1003);
  assert_false(pagedb_resident(r.owner, 1));
  pagedb_unpin(&more);
  pagedb_unpin(&pin[0]);
  pagedb_unpin(&pin[2]);
  rig_close(&r);
}

/* More pins than a session has slots, and the same page many times. */
static void test_many_pins(void **state)
{
  (void)state;
  enum { PINS = 100 };
  rig r = rig_open(PINS + 1);
  pagedb_pin pin[PINS], same[PINS], more;
  fill(&r, PINS + 2);
  for (unsigned i = 0; i < PINS; i++)
    ok(pagedb_fetch(r.session, r.owner, i, &pin[i]));
  for (unsigned i = 0; i < PINS; i++)
    ok(pagedb_fetch(r.session, r.owner, 7, &same[i]));
  ok(pagedb_fetch(r.session, r.owner, PINS, &more));
  pagedb_unpin(&more);
  ok(pagedb_fetch(r.session, r.owner, PINS + 1, &more));
  assert_false(pagedb_resident(r.owner, PINS));
  for (unsigned i = 0; i < PINS; i++)
    assert_int_equal(get_le64(pin[i].data + AT), 1000 + i);
  pagedb_unpin(&more);
  for (unsigned i = 0; i < PINS; i++) {
    pagedb_unpin(&pin[i]);
    assert_ptr_equal(same[i].data, same[0].data);
  }
  expect(pagedb_discard(r.owner, 7), PAGEDB_EBUSY);
  for (unsigned i = PINS; i-- > 0;)
    pagedb_unpin(&same[i]);
  ok(pagedb_discard(r.owner, 7));
  rig_close(&r);
}

static void test_dirty_needs_latch(void **state)
{
  (void)state;
  rig r = rig_open(4);
  pagedb_pin pin, twin;
  fill(&r, 2);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_fetch(r.session, r.owner, 0, &twin));
  expect(pagedb_mark_dirty(&pin, 1), PAGEDB_EMISUSE);
  ok(pagedb_latch_shared(&pin));
  expect(pagedb_mark_dirty(&pin, 1), PAGEDB_EMISUSE);
  expect(pagedb_latch_exclusive_try(&twin), PAGEDB_EBUSY);
  pagedb_unlatch(&pin);
  ok(pagedb_latch_exclusive_try(&twin));
  expect(pagedb_latch_shared(&pin), PAGEDB_EMISUSE);
  assert_int_equal(pagedb_last_fault()->err, PAGEDB_EMISUSE);
  ok(pagedb_mark_dirty(&twin, 7));
  ok(pagedb_mark_dirty(&twin, 5000));
  ok(pagedb_mark_dirty(&twin, 6));
  assert_int_equal(pagedb_pin_lsn(&pin), 5000);
  pagedb_unpin(&twin);
  pagedb_unpin(&pin);
  assert_int_equal(dirty(&r), 1);
  expect(pagedb_owner_close(r.owner), PAGEDB_EBUSY);
  expect(pagedb_invalidate(r.owner), PAGEDB_EBUSY);
  ok(pagedb_flush_page(r.session, r.owner, 0));
  assert_int_equal(dirty(&r), 0);
  rig_close(&r);
}

static void test_dirty_is_written_before_reuse(void **state)
{
  (void)state;
  rig r = rig_open(2);
  for (unsigned i = 0; i < 50; i++)
    put(r.session, r.owner, i, i + 1000);
  for (unsigned i = 0; i < 50; i++)
    assert_int_equal(get(r.session, r.owner, i), i + 1000);
  ok(pagedb_checkpoint(r.session, r.owner));
  rig_close(&r);
}

static void test_fetch_new(void **state)
{
  (void)state;
  rig r = rig_open(4);
  pagedb_pin pin, other;
  fill(&r, 2);
  assert_int_equal(get(r.session, r.owner, 0), 1000);
  ok(pagedb_fetch_new(r.session, r.owner, 0, &pin));
  for (int i = 0; i < PAGE; i++)
    assert_int_equal(pin.data[i], 0);
  assert_int_equal(pagedb_pin_lsn(&pin), 0);
  expect(pagedb_fetch_new(r.session, r.owner, 0, &other), PAGEDB_EBUSY);
  pagedb_unpin(&pin);
  assert_int_equal(dirty(&r), 1);
  ok(pagedb_checkpoint(r.session, r.owner));
  assert_int_equal(on_disk(&r, 0), 0);
  rig_close(&r);
}

static void test_discard_and_invalidate(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pin;
  unsigned char page[PAGE];
  fill(&r, 6);
  put(r.session, r.owner, 1, 77);
  ok(pagedb_discard(r.owner, 1));
  assert_int_equal(dirty(&r), 0);
  assert_int_equal(get(r.session, r.owner, 1), 1001);

  /* Somebody else writes page 2; a pin keeps what it had. */
  ok(pagedb_fetch(r.session, r.owner, 2, &pin));
  memcpy(page, fault_store_page(r.disk, 2), PAGE);
  put_le64(page + AT, 4242);
  pagedb_page_stamp(page, PAGE, PAGEDB_LEADING, 2, 1);
  fault_store_poke(r.disk, 2, page);
  ok(pagedb_invalidate(r.owner));
  assert_int_equal(get_le64(pin.data + AT), 1002);
  assert_int_equal(get(r.session, r.owner, 2), 4242);
  assert_int_equal(get_le64(pin.data + AT), 1002);
  ok(pagedb_latch_exclusive(&pin));
  expect(pagedb_mark_dirty(&pin, 9), PAGEDB_EMISUSE);
  pagedb_unpin(&pin);

  ok(pagedb_fetch(r.session, r.owner, 4, &pin));
  get(r.session, r.owner, 5);
  expect(pagedb_discard_from(r.owner, 3), PAGEDB_EBUSY);
  assert_false(pagedb_resident(r.owner, 5));
  assert_true(pagedb_resident(r.owner, 4));
  assert_true(pagedb_resident(r.owner, 2));
  pagedb_unpin(&pin);
  rig_close(&r);
}

/* The epoch has 24 bits; what was read before it came round stays dead. */
static void test_epoch_comes_round(void **state)
{
  (void)state;
  rig r = rig_open(4);
  unsigned char page[PAGE];
  fill(&r, 1);
  assert_int_equal(get(r.session, r.owner, 0), 1000);
  memcpy(page, fault_store_page(r.disk, 0), PAGE);
  put_le64(page + AT, 4242);
  pagedb_page_stamp(page, PAGE, PAGEDB_LEADING, 0, 1);
  fault_store_poke(r.disk, 0, page);
  for (uint32_t i = 0; i < (uint32_t)1 << 24; i++)
    if (pagedb_invalidate(r.owner) != PAGEDB_OK)
      fail();
  assert_int_equal(get(r.session, r.owner, 0), 4242);
  rig_close(&r);
}

static void test_several_owners_and_sizes(void **state)
{
  (void)state;
  enum { OWNERS = 4 };
  static const uint32_t size[OWNERS] = {512, 4096, 65536, 1048576};
  pagedb_pool_options opt = {.capacity = 4 << 20};
  pagedb_pool *pool;
  pagedb_session *s;
  pagedb_store *store[OWNERS];
  pagedb_owner *o[OWNERS];
  uint64_t seed = test_seed("several owners", 3);
  uint64_t value[OWNERS][64] = {{0}};
  ok(pagedb_pool_open(&opt, &pool));
  ok(pagedb_session_open(pool, &s));
  for (int i = 0; i < OWNERS; i++) {
    ok(pagedb_store_in_memory(size[i], &store[i]));
    ok(pagedb_owner_open(pool, store[i], &o[i]));
  }
  for (unsigned i = 0; i < scaled(20000); i++) {
    /* Phases in which one size wants all the memory. */
    unsigned w = random_below(&seed, 4) == 0
                     ? (unsigned)random_below(&seed, OWNERS)
                     : (i / 500) % OWNERS;
    uint64_t id = random_below(&seed, 64);
    if (value[w][id] == 0 || random_below(&seed, 3) == 0)
      put(s, o[w], id, value[w][id] = next_random(&seed) | 1);
    else
      assert_int_equal(get(s, o[w], id), value[w][id]);
    pagedb_pool_stats st = stats(pool);
    assert_true(st.used_bytes <= st.capacity_bytes);
  }
  ok(pagedb_pool_checkpoint(s));
  for (int i = 0; i < OWNERS; i++) {
    ok(pagedb_owner_close(o[i]));
    pagedb_store_close(store[i]);
  }
  ok(pagedb_session_close(s));
  ok(pagedb_pool_close(pool));
}

static void test_resize(void **state)
{
  (void)state;
  rig r = rig_open(64);
  pagedb_pin pin[4];
  uint64_t used;
  for (unsigned i = 0; i < 64; i++)
    put(r.session, r.owner, i, i + 1000);
  for (unsigned i = 0; i < 4; i++)
    ok(pagedb_fetch(r.session, r.owner, i, &pin[i]));
  ok(pagedb_pool_resize(r.pool, 2 * PAGE, &used));
  assert_int_equal(used, 4 * PAGE);
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal(get_le64(pin[i].data + AT), i + 1000);
    pagedb_unpin(&pin[i]);
  }
  ok(pagedb_pool_resize(r.pool, 2 * PAGE, &used));
  assert_int_equal(used, 2 * PAGE);
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal(get(r.session, r.owner, i), i + 1000);
  assert_int_equal(stats(r.pool).used_bytes, 2 * PAGE);
  ok(pagedb_pool_resize(r.pool, 128 * PAGE, &used));
  for (unsigned i = 0; i < 64; i++)
    assert_int_equal(get(r.session, r.owner, i), i + 1000);
  assert_int_equal(stats(r.pool).resident, 64);
  expect(pagedb_pool_resize(r.pool, (uint64_t)1 << 40, NULL), PAGEDB_ERANGE);
  rig_close(&r);
}

/* A scan twice as large as the pool does not push out pages in constant use. */
static void test_scan_resistance(void **state)
{
  (void)state;
  rig r = rig_open(64);
  fill(&r, 400);
  for (int round = 0; round < 3; round++)
    for (unsigned i = 0; i < 16; i++)
      get(r.session, r.owner, i);
  uint64_t read = stats(r.pool).pages_read;
  for (unsigned i = 100; i < 400; i++) {
    get(r.session, r.owner, i);
    get(r.session, r.owner, i % 16);
  }
  assert_int_equal(stats(r.pool).pages_read - read, 300);
  rig_close(&r);
}

/* Page tables of ids far apart give their nodes back. */
static void test_sparse_ids(void **state)
{
  (void)state;
  rig r = rig_open(16);
  uint64_t most = 0;
  for (uint64_t i = 0; i < 400; i++) {
    pagedb_pin pin;
    expect(pagedb_fetch(r.session, r.owner, i << 38, &pin), PAGEDB_ESHORT);
    expect(pagedb_fetch(r.session, r.owner, i * 1000, &pin), PAGEDB_ESHORT);
    uint64_t now = stats(r.pool).table_bytes;
    most = now > most ? now : most;
  }
  assert_true(most < 1 << 20);
  expect(pagedb_fetch(r.session, r.owner, (uint64_t)1 << 52,
                      &(pagedb_pin){.slot = 0}),
         PAGEDB_ERANGE);
  rig_close(&r);
}

/* ------------------------------------------- defects that must not be here */

static int call_flush(pagedb_session *s, rig *r)
{
  return pagedb_flush(s, r->owner);
}

static int call_fetch_0(pagedb_session *s, rig *r)
{
  pagedb_pin pin;
  int err = pagedb_fetch(s, r->owner, 0, &pin);
  if (err == PAGEDB_OK)
    pagedb_unpin(&pin);
  return err;
}

/* The page changes while the flush waits for its latch, and again while the
** copy is on its way: neither change is lost. */
static void test_change_during_flush(void **state)
{
  (void)state;
  rig r = rig_open(8);
  gate g = {.kind = FAULT_WRITE, .page = 1};
  pagedb_pin pin;
  job j;
  fill(&r, 2);
  fault_store_hook(r.disk, gate_hook, &g);
  ok(pagedb_fetch(r.session, r.owner, 1, &pin));
  ok(pagedb_latch_exclusive(&pin));
  put_le64(pin.data + AT, 1);
  ok(pagedb_mark_dirty(&pin, 1));
  job_start(&j, &r, call_flush);
  for (int i = 0; i < 20; i++)
    nap();
  put_le64(pin.data + AT, 2);
  ok(pagedb_mark_dirty(&pin, 2));
  pagedb_unlatch(&pin);
  wait_for(&g.arrived);
  ok(pagedb_latch_exclusive(&pin)); /* not held up by the write */
  put_le64(pin.data + AT, 3);
  ok(pagedb_mark_dirty(&pin, 3));
  pagedb_unpin(&pin);
  atomic_store(&g.open, 1);
  ok(job_join(&j));
  assert_int_equal(on_disk(&r, 1), 2);
  assert_int_equal(dirty(&r), 1);
  ok(pagedb_flush(r.session, r.owner));
  assert_int_equal(on_disk(&r, 1), 3);
  assert_int_equal(dirty(&r), 0);
  rig_close(&r);
}

/* A flush that finds a page on its way waits for it: what was dirty before the
** call is written after it. */
static void test_flush_waits_for_the_other_flush(void **state)
{
  (void)state;
  rig r = rig_open(8);
  gate g = {.kind = FAULT_WRITE, .page = 1};
  job j, k;
  put(r.session, r.owner, 1, 11);
  fault_store_hook(r.disk, gate_hook, &g);
  job_start(&j, &r, call_flush);
  wait_for(&g.arrived);
  job_start(&k, &r, call_flush);
  for (int i = 0; i < 20; i++)
    nap();
  assert_false(atomic_load(&k.done));
  atomic_store(&g.open, 1);
  ok(job_join(&j));
  ok(job_join(&k));
  assert_int_equal(on_disk(&r, 1), 11);
  rig_close(&r);
}

/* Holding a latch, in a pool without a free frame, against flush-all. */
static void test_latch_and_fetch_against_flush(void **state)
{
  (void)state;
  rig r = rig_open(2);
  pagedb_pin pin, other;
  job j;
  fill(&r, 20);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_latch_exclusive(&pin));
  ok(pagedb_mark_dirty(&pin, 1));
  put(r.session, r.owner, 1, 5);
  job_start(&j, &r, call_flush);
  for (unsigned i = 2; i < 20; i++) {
    ok(pagedb_fetch(r.session, r.owner, i, &other));
    pagedb_unpin(&other);
  }
  assert_false(atomic_load(&j.done));
  pagedb_unpin(&pin);
  ok(job_join(&j));
  assert_int_equal(dirty(&r), 0);
  rig_close(&r);
}

static int call_flush_holding_1(pagedb_session *s, rig *r)
{
  pagedb_pin pin;
  ok(pagedb_fetch(s, r->owner, 1, &pin));
  ok(pagedb_latch_exclusive(&pin));
  ok(pagedb_mark_dirty(&pin, 1));
  int err = pagedb_flush(s, r->owner);
  pagedb_unpin(&pin);
  return err;
}

static void test_flush_with_latch_held(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pin;
  job j;
  fill(&r, 3);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_latch_exclusive(&pin));
  put_le64(pin.data + AT, 50);
  ok(pagedb_mark_dirty(&pin, 1));
  ok(pagedb_flush_page(r.session, r.owner, 0));
  assert_int_equal(on_disk(&r, 0), 50);
  put_le64(pin.data + AT, 51);
  ok(pagedb_mark_dirty(&pin, 1));
  /* The other one holds page 1 and flushes all: it must not wait for us. */
  job_start(&j, &r, call_flush_holding_1);
  expect(job_join(&j), PAGEDB_EBUSY);
  ok(pagedb_checkpoint(r.session, r.owner));
  assert_int_equal(on_disk(&r, 0), 51);
  pagedb_unpin(&pin);
  rig_close(&r);
}

/* A hit, and a miss of another page, while a thread waits for the disk. */
static void test_hits_do_not_wait_for_misses(void **state)
{
  (void)state;
  rig r = rig_open(8);
  gate g = {.kind = FAULT_READ, .page = 0};
  job j, k;
  fill(&r, 4);
  get(r.session, r.owner, 1);
  fault_store_hook(r.disk, gate_hook, &g);
  job_start(&j, &r, call_fetch_0);
  wait_for(&g.arrived);
  uint64_t reads = fault_store_calls(r.disk, FAULT_READ);
  job_start(&k, &r, call_fetch_0);
  for (int i = 0; i < 1000; i++)
    assert_int_equal(get(r.session, r.owner, 1), 1001);
  assert_int_equal(get(r.session, r.owner, 2), 1002);
  assert_false(atomic_load(&j.done));
  assert_false(atomic_load(&k.done));
  atomic_store(&g.open, 1);
  ok(job_join(&j));
  ok(job_join(&k));
  /* Page 2, and page 0 once for both. */
  assert_int_equal(fault_store_calls(r.disk, FAULT_READ), reads + 2);
  rig_close(&r);
}

static void test_failed_sync_is_final(void **state)
{
  (void)state;
  rig r = rig_open(8);
  put(r.session, r.owner, 0, 1);
  fault_store_lose_on_failed_sync(r.disk, 1);
  fault_store_fail(r.disk, FAULT_SYNC, 1, 0, PAGEDB_ESYNC);
  expect(pagedb_checkpoint(r.session, r.owner), PAGEDB_ESYNC);
  expect(pagedb_checkpoint(r.session, r.owner), PAGEDB_ESYNC);
  put(r.session, r.owner, 1, 2);
  expect(pagedb_checkpoint(r.session, r.owner), PAGEDB_ESYNC);
  assert_int_equal(on_disk(&r, 1), 2); /* written all the same */
  expect(pagedb_pool_checkpoint(r.session), PAGEDB_ESYNC);
  rig_close(&r);
}

/* The order in which pages are written. */
typedef struct order {
  uint64_t page[64];
  unsigned n;
} order;

static void order_hook(void *arg, enum fault_kind kind, uint64_t page)
{
  order *o = arg;
  if (kind == FAULT_WRITE && o->n < 64)
    o->page[o->n++] = page;
}

static void test_flush_goes_on_in_order(void **state)
{
  (void)state;
  rig r = rig_open(64);
  order o = {.n = 0};
  uint64_t seed = 5;
  for (int i = 0; i < 200; i++)
    put(r.session, r.owner, random_below(&seed, 40), 7);
  for (unsigned i = 0; i < 40; i++)
    put(r.session, r.owner, i, i);
  fault_store_hook(r.disk, order_hook, &o);
  fault_store_fail_page(r.disk, FAULT_WRITE, 11, PAGEDB_EIO);
  expect(pagedb_flush(r.session, r.owner), PAGEDB_EIO);
  assert_int_equal(pagedb_last_fault()->page, 11);
  assert_int_equal(o.n, 40);
  for (unsigned i = 0; i < 40; i++)
    assert_int_equal(o.page[i], i);
  assert_int_equal(dirty(&r), 1);
  expect(pagedb_checkpoint(r.session, r.owner), PAGEDB_EIO);
  fault_store_fail_page(r.disk, FAULT_WRITE, PAGEDB_NONE, PAGEDB_OK);
  ok(pagedb_checkpoint(r.session, r.owner));
  assert_int_equal(on_disk(&r, 11), 11);
  rig_close(&r);
  /* Of several errors the first one is told, in however many batches. */
  r = rig_open(600);
  for (unsigned i = 4; i < 1200; i += 2)
    put(r.session, r.owner, i, 1);
  fault_store_fail(r.disk, FAULT_WRITE, 1, 1, PAGEDB_EFULL);
  expect(pagedb_flush(r.session, r.owner), PAGEDB_EFULL);
  assert_int_equal(pagedb_last_fault()->page, 4);
  fault_store_fail(r.disk, FAULT_WRITE, 0, 0, PAGEDB_OK);
  ok(pagedb_flush(r.session, r.owner));
  rig_close(&r);
}

/* One page that cannot be written does not stop the others from being read;
** when nothing else is left it is the error of the fetch, and stays dirty. */
static void test_unwritable_victim(void **state)
{
  (void)state;
  rig r = rig_open(4);
  pagedb_pin pin;
  fill(&r, 10);
  put(r.session, r.owner, 3, 33);
  fault_store_fail_page(r.disk, FAULT_WRITE, 3, PAGEDB_EFULL);
  for (unsigned i = 4; i < 10; i++)
    assert_int_equal(get(r.session, r.owner, i), i + 1000);
  ok(pagedb_pool_resize(r.pool, PAGE, NULL));
  expect(pagedb_fetch(r.session, r.owner, 5, &pin), PAGEDB_EFULL);
  fault_store_fail_page(r.disk, FAULT_WRITE, PAGEDB_NONE, PAGEDB_OK);
  assert_int_equal(get(r.session, r.owner, 5), 1005);
  assert_int_equal(get(r.session, r.owner, 3), 33);
  rig_close(&r);
}

/* --------------------------------------------------------- bad pages, faults
 */

static void test_bad_page_is_not_cached(void **state)
{
  (void)state;
  rig r = rig_open(4);
  unsigned char page[PAGE];
  pagedb_pin pin;
  fill(&r, 3);
  memcpy(page, fault_store_page(r.disk, 1), PAGE);
  page[2000] ^= 1;
  fault_store_poke(r.disk, 1, page);
  expect(pagedb_fetch(r.session, r.owner, 1, &pin), PAGEDB_ECRC);
  assert_int_equal(pagedb_last_fault()->page, 1);
  assert_false(pagedb_resident(r.owner, 1));
  assert_int_equal(get(r.session, r.owner, 0), 1000);
  assert_int_equal(get(r.session, r.owner, 2), 1002);
  page[2000] ^= 1;
  fault_store_poke(r.disk, 1, page);
  assert_int_equal(get(r.session, r.owner, 1), 1001);
  expect(pagedb_fetch(r.session, r.owner, 3, &pin), PAGEDB_ESHORT);
  rig_close(&r);
}

/* A small workload, stopped at its first error. */
static int workload(rig *r, uint64_t *value)
{
  uint64_t seed = 9;
  int err = PAGEDB_OK;
  for (int i = 0; i < 60 && err == PAGEDB_OK; i++) {
    pagedb_pin pin;
    uint64_t id = random_below(&seed, 12);
    if (random_below(&seed, 10) == 0) {
      err = pagedb_checkpoint(r->session, r->owner);
      continue;
    }
    err = value[id] == 0 ? pagedb_fetch_new(r->session, r->owner, id, &pin)
                         : pagedb_fetch(r->session, r->owner, id, &pin);
    if (err != PAGEDB_OK)
      break;
    if (pin.latch == 0)
      ok(pagedb_latch_exclusive(&pin));
    assert_int_equal(get_le64(pin.data + AT), value[id]);
    put_le64(pin.data + AT, value[id] = (uint64_t)i + 1);
    ok(pagedb_mark_dirty(&pin, 0));
    pagedb_unpin(&pin);
  }
  return err;
}

/* The nth call of each kind fails, once or from then on, for every n: the error
** arrives, no change is lost, and when the fault is over all is well. */
static void test_every_call_fails_once(void **state)
{
  (void)state;
  for (int kind = 0; kind < FAULT_KINDS; kind++)
    for (int on = 0; on < 2; on++)
      for (unsigned n = 1;; n++) {
        rig r = rig_open(4);
        uint64_t value[12] = {0};
        int code = kind == FAULT_SYNC ? PAGEDB_ESYNC : PAGEDB_EIO;
        fault_store_fail(r.disk, (enum fault_kind)kind, n, on, code);
        int err = workload(&r, value);
        int hit = err != PAGEDB_OK;
        if (hit)
          assert_int_equal(err, code);
        fault_store_fail(r.disk, (enum fault_kind)kind, 0, 0, 0);
        for (unsigned i = 0; i < 12; i++)
          if (value[i] != 0)
            assert_int_equal(get(r.session, r.owner, i), value[i]);
        err = pagedb_checkpoint(r.session, r.owner);
        assert_int_equal(err,
                         hit && kind == FAULT_SYNC ? PAGEDB_ESYNC : PAGEDB_OK);
        for (unsigned i = 0; i < 12; i++)
          if (value[i] != 0)
            assert_int_equal(on_disk(&r, i), value[i]);
        rig_close(&r);
        if (!hit)
          break;
      }
}

/* Power cut at every write and sync: what a checkpoint acknowledged is there,
** except where a later change was written over it. */
static void test_power_cut(void **state)
{
  (void)state;
  enum { PAGES = 10 };
  rig r = rig_open(4);
  uint64_t seed = test_seed("power cut", 11);
  uint64_t synced[PAGES] = {0}, least[PAGES] = {0}, value = 0;
  for (unsigned i = 0; i < scaled(400); i++) {
    uint64_t id = random_below(&seed, PAGES);
    put(r.session, r.owner, id, ++value);
    least[id] = value;
    if (random_below(&seed, 8) == 0) {
      ok(pagedb_checkpoint(r.session, r.owner));
      memcpy(synced, least, sizeof synced);
    }
    fault_store *cut = fault_store_cut_random(r.disk, next_random(&seed));
    for (uint64_t p = 0; p < PAGES; p++) {
      const unsigned char *page = fault_store_page(cut, p);
      if (synced[p] == 0)
        continue;
      assert_non_null(page);
      /* Torn pages are found; whole ones are no older than the checkpoint. */
      if (pagedb_page_verify(page, PAGE, PAGE, PAGEDB_LEADING, p, NULL) ==
          PAGEDB_OK)
        assert_true(get_le64(page + AT) >= synced[p]);
      else
        assert_true(least[p] > synced[p]);
    }
    fault_store_free(cut);
  }
  rig_close(&r);
}

/* ---------------------------------------------------------------- property */

/* Random operations against an array. */
static void test_random_operations(void **state)
{
  (void)state;
  enum { PAGES = 200, PINS = 12 };
  uint64_t seed = test_seed("random operations", 42);
  rig r = rig_open(32);
  uint64_t value[PAGES] = {0}, disk[PAGES] = {0};
  pagedb_pin pin[PINS];
  uint64_t pinned[PINS];
  int npins = 0;
  for (unsigned i = 0; i < scaled(60000); i++) {
    uint64_t id = random_below(&seed, PAGES);
    int is_pinned = 0;
    for (int k = 0; k < npins; k++)
      is_pinned |= pinned[k] == id;
    switch (random_below(&seed, 16)) {
    case 0:
      if (npins < PINS && value[id] != 0) {
        ok(pagedb_fetch(r.session, r.owner, id, &pin[npins]));
        pinned[npins++] = id;
      }
      break;
    case 1:
      if (npins > 0) {
        npins--;
        assert_int_equal(get_le64(pin[npins].data + AT), value[pinned[npins]]);
        pagedb_unpin(&pin[npins]);
      }
      break;
    case 2:
      ok(pagedb_flush_page(r.session, r.owner, id));
      if (value[id] != 0)
        assert_int_equal(on_disk(&r, id), value[id]);
      disk[id] = value[id];
      break;
    case 3:
      if (random_below(&seed, 20) == 0) {
        ok(pagedb_checkpoint(r.session, r.owner));
        memcpy(disk, value, sizeof disk);
      }
      break;
    case 4:
      /* Discard: the disk's content may be newer than our last flush, because
      ** evictions write too. */
      if (is_pinned) {
        if (pagedb_resident(r.owner, id))
          expect(pagedb_discard(r.owner, id), PAGEDB_EBUSY);
      } else if (value[id] != 0) {
        ok(pagedb_discard(r.owner, id));
        assert_false(pagedb_resident(r.owner, id));
        const unsigned char *page = fault_store_page(r.disk, id);
        value[id] = page == NULL ? 0 : get_le64(page + AT);
        assert_true(value[id] >= disk[id] || value[id] == 0);
      }
      break;
    case 5:
      if (random_below(&seed, 50) == 0)
        ok(pagedb_pool_resize(r.pool, (16 + random_below(&seed, 40)) * PAGE,
                              NULL));
      break;
    case 6:
      if (!is_pinned && value[id] != 0) {
        pagedb_pin fresh;
        ok(pagedb_fetch_new(r.session, r.owner, id, &fresh));
        put_le64(fresh.data + AT, value[id] = i + 1);
        pagedb_unpin(&fresh);
      }
      break;
    case 7:
    case 8:
    case 9:
    case 10:
      put(r.session, r.owner, id, value[id] = i + 1);
      break;
    default:
      if (value[id] != 0)
        assert_int_equal(get(r.session, r.owner, id), value[id]);
    }
    pagedb_pool_stats st = stats(r.pool);
    assert_true(st.dirty <= st.resident);
  }
  while (npins > 0)
    pagedb_unpin(&pin[--npins]);
  ok(pagedb_checkpoint(r.session, r.owner));
  for (uint64_t id = 0; id < PAGES; id++)
    if (value[id] != 0)
      assert_int_equal(on_disk(&r, id), value[id]);
  rig_close(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hit_and_miss),
      cmocka_unit_test(test_exhausted),
      cmocka_unit_test(test_many_pins),
      cmocka_unit_test(test_dirty_needs_latch),
      cmocka_unit_test(test_dirty_is_written_before_reuse),
      cmocka_unit_test(test_fetch_new),
      cmocka_unit_test(test_discard_and_invalidate),
      cmocka_unit_test(test_epoch_comes_round),
      cmocka_unit_test(test_several_owners_and_sizes),
      cmocka_unit_test(test_resize),
      cmocka_unit_test(test_scan_resistance),
      cmocka_unit_test(test_sparse_ids),
      cmocka_unit_test(test_change_during_flush),
      cmocka_unit_test(test_flush_waits_for_the_other_flush),
      cmocka_unit_test(test_latch_and_fetch_against_flush),
      cmocka_unit_test(test_flush_with_latch_held),
      cmocka_unit_test(test_hits_do_not_wait_for_misses),
      cmocka_unit_test(test_failed_sync_is_final),
      cmocka_unit_test(test_flush_goes_on_in_order),
      cmocka_unit_test(test_unwritable_victim),
      cmocka_unit_test(test_bad_page_is_not_cached),
      cmocka_unit_test(test_every_call_fails_once),
      cmocka_unit_test(test_power_cut),
      cmocka_unit_test(test_random_operations),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
