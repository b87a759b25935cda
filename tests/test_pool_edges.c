/*
** test_pool_edges.c - the buffer pool where few come: what it refuses, calls that
** meet a write or a read under way, addresses that run out, and what happens while
** the lock is away.
**
** A store's hook runs in the caller's thread while the pool waits for the store:
** so "meanwhile" needs no second thread here.
*/
#define _GNU_SOURCE
#include <string.h>

#include "endian.h"
#include "pool_int.h"
#include "pool_rig.h"

/* ----------------------------------------------------------------- refusals */

static void test_pool_refuses(void **state)
{
  (void)state;
  static const uint32_t sizes[] = {256, 1000, 2 << 20};
  pagedb_pool *pool;
  pagedb_session *s;
  pagedb_owner *o;
  pagedb_store odd = {.name = "odd"};
  private_set set;
  fault_store *disk = fault_store_new(PAGE);
  ok(pagedb_pool_open(NULL, &pool));
  uint64_t capacity = stats(pool).capacity_bytes;
  assert_true(capacity > 0 && capacity <= (uint64_t)1 << 30);
  for (int i = 0; i < 3; i++) {
    odd.page_size = sizes[i];
    expect(pagedb_owner_open(pool, &odd, &o), PAGEDB_EPAGESIZE);
    expect(private_open(pool, &set, sizes[i], 1), PAGEDB_EPAGESIZE);
  }
  ok(pagedb_session_open(pool, &s));
  expect(pagedb_pool_close(pool), PAGEDB_EBUSY);
  ok(pagedb_session_close(s));
  ok(pagedb_owner_open(pool, fault_store_base(disk), &o));
  pagedb_owner *other = NULL;
  expect(pagedb_owner_open(pool, fault_store_base(disk), &other), PAGEDB_EBUSY);
  assert_null(other);
  expect(pagedb_pool_close(pool), PAGEDB_EBUSY);
  ok(pagedb_owner_close(o));
  ok(private_open(pool, &set, PAGE, 1));
  expect(pagedb_pool_close(pool), PAGEDB_EBUSY);
  private_close(&set);
  ok(pagedb_pool_close(pool));
  ok(pagedb_pool_close(NULL));
  ok(pagedb_owner_close(NULL));
  ok(pagedb_session_close(NULL));
  pagedb_pool_forked(NULL);
  fault_store_free(disk);
}

/* With all slots taken a pin is a count in the frame: the session knows of it,
** whether it goes by pin or by address. */
static void test_counted_pins(void **state)
{
  (void)state;
  enum { PINS = SESSION_SLOTS + 2 };
  rig r = rig_open(PINS + 2);
  pagedb_session *s;
  pagedb_pin pin[PINS];
  fill(&r, PINS);
  ok(pagedb_session_open(r.pool, &s));
  for (unsigned i = 0; i < PINS; i++)
    ok(pagedb_fetch(s, r.owner, i, &pin[i]));
  pagedb_pin more;
  assert_int_equal(pagedb_fetch_resident(s, r.owner, 3, &more), 1);
  assert_ptr_equal(more.data, pin[3].data);
  pagedb_unpin(&more);
  assert_int_equal(pagedb_fetch_resident(s, r.owner, PINS, &more), 0);
  for (unsigned i = 0; i < SESSION_SLOTS; i++)
    pagedb_unpin(&pin[i]);
  expect(pagedb_session_close(s), PAGEDB_EBUSY);
  expect(pagedb_discard_from(r.owner, SESSION_SLOTS), PAGEDB_EBUSY);
  assert_int_equal(pagedb_last_fault()->page / 2, SESSION_SLOTS / 2);
  for (unsigned i = 0; i < SESSION_SLOTS; i++)
    ok(pagedb_fetch(s, r.owner, i, &pin[i]));
  pagedb_unpin_data(s, pin[SESSION_SLOTS].data);
  ok(pagedb_discard(r.owner, SESSION_SLOTS));
  expect(pagedb_discard(r.owner, SESSION_SLOTS + 1), PAGEDB_EBUSY);
  for (unsigned i = 0; i < SESSION_SLOTS; i++)
    pagedb_unpin_data(s, pin[i].data);
  pagedb_unpin(&pin[SESSION_SLOTS + 1]);
  ok(pagedb_session_close(s));
  rig_close(&r);
}

static void test_latches_refused(void **state)
{
  (void)state;
  rig r = rig_open(4);
  pagedb_pin pin, twin;
  fill(&r, 1);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_fetch(r.session, r.owner, 0, &twin));
  pagedb_unlatch(&pin); /* has none: nothing happens */
  ok(pagedb_latch_exclusive(&pin));
  expect(pagedb_latch_shared(&pin), PAGEDB_EMISUSE);
  expect(pagedb_latch_exclusive(&pin), PAGEDB_EMISUSE);
  expect(pagedb_latch_exclusive_try(&pin), PAGEDB_EMISUSE);
  expect(pagedb_latch_exclusive(&twin), PAGEDB_EMISUSE);
  expect(pagedb_latch_exclusive_try(&twin), PAGEDB_EMISUSE);
  /* And says of which page. */
  pagedb_fault_set(PAGEDB_EIO, 5, "another", 77, 1, 2, "before");
  expect(pagedb_latch_shared(&twin), PAGEDB_EMISUSE);
  expect(pagedb_last_fault()->err, PAGEDB_EMISUSE);
  assert_int_equal(pagedb_last_fault()->page, 0);
  assert_non_null(strstr(pagedb_last_fault()->what, "latched already"));
  pagedb_unlatch(&pin);
  ok(pagedb_latch_exclusive_try(&twin)); /* nothing was taken by the refused */
  pagedb_unpin(&twin);
  expect(pagedb_fetch_new(r.session, r.owner, (uint64_t)1 << 52, &twin),
         PAGEDB_ERANGE);
  pagedb_unpin(&pin);
  rig_close(&r);
}

/* ---------------------------------------------------- while others are at it */

static int call_flush(pagedb_session *s, rig *r)
{
  return pagedb_flush(s, r->owner);
}

static int call_discard(pagedb_session *s, rig *r)
{
  (void)s;
  return pagedb_discard(r->owner, 1);
}

static int call_discard_all(pagedb_session *s, rig *r)
{
  (void)s;
  return pagedb_discard_from(r->owner, 0);
}

static int call_abandon(pagedb_session *s, rig *r)
{
  (void)s;
  pagedb_abandon(r->owner);
  return PAGEDB_OK;
}

static int call_fetch_0(pagedb_session *s, rig *r)
{
  pagedb_pin pin;
  int err = pagedb_fetch(s, r->owner, 0, &pin);
  if (err == PAGEDB_OK)
    pagedb_unpin(&pin);
  return err;
}

/* Two calls: the second begins while the first is stopped in the store, and ends
** after it. */
static void second_waits(rig *r, gate *g, int (*first)(pagedb_session *, rig *),
                         int first_err, int (*second)(pagedb_session *, rig *))
{
  job j, k;
  fault_store_hook(r->disk, gate_hook, g);
  job_start(&j, r, first);
  wait_for(&g->arrived);
  job_start(&k, r, second);
  for (int i = 0; i < 20; i++)
    nap();
  assert_false(atomic_load(&k.done));
  atomic_store(&g->open, 1);
  expect(job_join(&j), first_err);
  ok(job_join(&k));
  fault_store_hook(r->disk, NULL, NULL);
}

/* Nobody throws a page away while it is on its way to the disk, or from there. */
static void test_discard_waits(void **state)
{
  (void)state;
  for (int all = 0; all < 2; all++) {
    rig r = rig_open(8);
    gate writing = {.kind = FAULT_WRITE, .page = 1};
    put(r.session, r.owner, 1, 11);
    second_waits(&r, &writing, call_flush, PAGEDB_OK,
                 all ? call_discard_all : call_discard);
    assert_int_equal(on_disk(&r, 1), 11);
    assert_false(pagedb_resident(r.owner, 1));
    rig_close(&r);
  }
  rig r = rig_open(8);
  gate reading = {.kind = FAULT_READ, .page = 0};
  fill(&r, 1);
  fault_store_fail_page(r.disk, FAULT_READ, 0, PAGEDB_EIO);
  second_waits(&r, &reading, call_fetch_0, PAGEDB_EIO, call_discard_all);
  fault_store_fail_page(r.disk, FAULT_READ, PAGEDB_NONE, 0);
  assert_int_equal(get(r.session, r.owner, 0), 1000);
  rig_close(&r);
}

/* What is on its way when all is given up gets there; what is not, does not. */
static void test_abandon_waits(void **state)
{
  (void)state;
  rig r = rig_open(8);
  gate writing = {.kind = FAULT_WRITE, .page = 1};
  job j, k;
  fill(&r, 4);
  put(r.session, r.owner, 1, 11);
  fault_store_hook(r.disk, gate_hook, &writing);
  job_start(&j, &r, call_flush);
  wait_for(&writing.arrived);
  put(r.session, r.owner, 2, 22);
  put(r.session, r.owner, 3, 33);
  job_start(&k, &r, call_abandon);
  for (int i = 0; i < 20; i++)
    nap();
  assert_false(atomic_load(&k.done));
  atomic_store(&writing.open, 1);
  ok(job_join(&j));
  ok(job_join(&k));
  assert_int_equal(dirty(&r), 0);
  assert_int_equal(get(r.session, r.owner, 1), 11);
  assert_int_equal(get(r.session, r.owner, 2), 1002);
  assert_int_equal(get(r.session, r.owner, 3), 1003);
  assert_int_equal(on_disk(&r, 2), 1002);
  rig_close(&r);
}

/* The page changes while a write of it is under way that fails: it is dirty once,
** with the change. */
static void test_change_during_failing_write(void **state)
{
  (void)state;
  rig r = rig_open(8);
  gate writing = {.kind = FAULT_WRITE, .page = 1};
  job j;
  fill(&r, 2);
  put(r.session, r.owner, 1, 11);
  fault_store_hook(r.disk, gate_hook, &writing);
  fault_store_fail_page(r.disk, FAULT_WRITE, 1, PAGEDB_EIO);
  job_start(&j, &r, call_flush);
  wait_for(&writing.arrived);
  put(r.session, r.owner, 1, 12);
  atomic_store(&writing.open, 1);
  expect(job_join(&j), PAGEDB_EIO);
  assert_int_equal(dirty(&r), 1);
  fault_store_fail_page(r.disk, FAULT_WRITE, PAGEDB_NONE, 0);
  ok(pagedb_flush(r.session, r.owner));
  assert_int_equal(dirty(&r), 0);
  assert_int_equal(on_disk(&r, 1), 12);
  rig_close(&r);
}

/* A page that is being read while the epoch number comes round is not taken for
** a current one when it has come; another owner's is nobody's business. */
static void test_epoch_comes_round_while_reading(void **state)
{
  (void)state;
  rig r = rig_open(8), other = {.pool = r.pool, .disk = fault_store_new(PAGE)};
  gate reading = {.kind = FAULT_READ, .page = 0}, theirs = reading;
  unsigned char page[PAGE] = {0};
  pagedb_pin pin, old;
  job j, k;
  ok(pagedb_owner_open(r.pool, fault_store_base(other.disk), &other.owner));
  other.session = r.session;
  fill(&other, 2);
  fill(&r, 3);
  /* A pinned page of an earlier epoch is an orphan. */
  ok(pagedb_fetch(r.session, r.owner, 2, &old));
  ok(pagedb_invalidate(r.owner));
  assert_int_equal(get(r.session, r.owner, 2), 1002);
  atomic_store(&r.owner->want, PTE_PRESENT | PTE_EPOCH_MASK);
  ok(pagedb_fetch(r.session, r.owner, 1, &pin));
  assert_int_equal(get(r.session, other.owner, 1), 1001);
  fault_store_hook(r.disk, gate_hook, &reading);
  fault_store_hook(other.disk, gate_hook, &theirs);
  job_start(&j, &r, call_fetch_0);
  job_start(&k, &other, call_fetch_0);
  wait_for(&reading.arrived);
  wait_for(&theirs.arrived);
  ok(pagedb_invalidate(r.owner));
  atomic_store(&reading.open, 1);
  atomic_store(&theirs.open, 1);
  ok(job_join(&j));
  ok(job_join(&k));
  put_le64(page + AT, 4242);
  pagedb_page_stamp(page, PAGE, PAGEDB_LEADING, 0, 1);
  fault_store_poke(r.disk, 0, page);
  assert_int_equal(get(r.session, r.owner, 0), 4242);
  assert_false(pagedb_resident(r.owner, 1));
  assert_true(pagedb_resident(other.owner, 0));
  assert_true(pagedb_resident(other.owner, 1));
  pagedb_unpin(&pin);
  pagedb_unpin(&old);
  ok(pagedb_owner_close(other.owner));
  rig_close(&r);
  fault_store_free(other.disk);
}

static int call_change_0(pagedb_session *s, rig *r)
{
  pagedb_pin pin;
  int err = pagedb_fetch(s, r->owner, 0, &pin);
  if (err == PAGEDB_OK)
    err = pagedb_latch_exclusive(&pin);
  if (err == PAGEDB_OK)
    err = pagedb_mark_dirty(&pin, 1);
  pagedb_unpin(&pin);
  return err;
}

/* Two wait for one latch: asleep, so that their parking lot is free for others. */
static void test_two_are_parked(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pin;
  job jobs[2];
  fill(&r, 1);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  ok(pagedb_latch_exclusive(&pin));
  for (int i = 0; i < 2; i++) {
    job_start(&jobs[i], &r, call_change_0);
    for (int n = 0; n < 20; n++)
      nap();
  }
  for (int i = 0; i < PARK_LOTS; i++) {
    int n = 0;
    while (pthread_mutex_trylock(&r.pool->lots[i].lock) != 0 && n++ < 1000)
      nap();
    assert_true(n < 1000);
    pthread_mutex_unlock(&r.pool->lots[i].lock);
  }
  pagedb_unpin(&pin);
  for (int i = 0; i < 2; i++)
    ok(job_join(&jobs[i]));
  ok(pagedb_flush(r.session, r.owner));
  rig_close(&r);
}

/* ------------------------------------------------- while the lock is away */

typedef struct meanwhile {
  rig *r;
  pagedb_session *session;
  int done;
} meanwhile;

/* Somebody else brings page 5 in while fetch_new writes a page to make room. */
static void brings_page_5(void *arg, enum fault_kind kind, uint64_t page)
{
  meanwhile *m = arg;
  pagedb_pin pin;
  (void)page;
  if (kind != FAULT_WRITE || m->done++)
    return;
  ok(pagedb_pool_resize(m->r->pool, 8 * PAGE, NULL));
  ok(pagedb_fetch(m->session, m->r->owner, 5, &pin));
  assert_int_equal(get_le64(pin.data + AT), 1005);
  pagedb_unpin(&pin);
}

static void test_page_comes_while_it_is_made_anew(void **state)
{
  (void)state;
  rig r = rig_open(2);
  meanwhile m = {.r = &r};
  pagedb_pin pin;
  fill(&r, 8);
  ok(pagedb_session_open(r.pool, &m.session));
  put(r.session, r.owner, 0, 1);
  put(r.session, r.owner, 1, 1);
  fault_store_hook(r.disk, brings_page_5, &m);
  ok(pagedb_fetch_new(r.session, r.owner, 5, &pin));
  fault_store_hook(r.disk, NULL, NULL);
  assert_true(m.done > 0);
  assert_int_equal(get_le64(pin.data + AT), 0);
  put_le64(pin.data + AT, 55);
  pagedb_unpin(&pin);
  assert_int_equal(get(m.session, r.owner, 5), 55);
  ok(pagedb_checkpoint(r.session, r.owner));
  assert_int_equal(on_disk(&r, 5), 55);
  ok(pagedb_session_close(m.session));
  rig_close(&r);
}

enum { MANY = PAGEDB_RUN_MAX + 44 };

/* Of the pages that a flush has still before it one is thrown away, another is
** written by somebody else. */
static void takes_two(void *arg, enum fault_kind kind, uint64_t page)
{
  meanwhile *m = arg;
  (void)page;
  if (kind != FAULT_WRITE || m->done++)
    return;
  ok(pagedb_discard(m->r->owner, MANY - 1));
  ok(pagedb_flush_page(m->session, m->r->owner, MANY - 2));
}

static void test_pages_go_during_a_flush(void **state)
{
  (void)state;
  rig r = rig_open(MANY);
  meanwhile m = {.r = &r};
  fill(&r, MANY);
  ok(pagedb_session_open(r.pool, &m.session));
  for (unsigned i = 0; i < MANY; i++)
    put(r.session, r.owner, i, i + 5000);
  fault_store_hook(r.disk, takes_two, &m);
  uint64_t written = stats(r.pool).pages_written;
  ok(pagedb_flush(r.session, r.owner));
  fault_store_hook(r.disk, NULL, NULL);
  assert_int_equal(stats(r.pool).pages_written - written, MANY - 1);
  assert_int_equal(dirty(&r), 0);
  assert_int_equal(on_disk(&r, MANY - 1), 1000 + MANY - 1);
  for (unsigned i = 0; i < MANY - 1; i++)
    assert_int_equal(on_disk(&r, i), i + 5000);
  ok(pagedb_session_close(m.session));
  rig_close(&r);
}

/* ------------------------------------------------------------ errors of many */

static int call_flush_names_page(pagedb_session *s, rig *r)
{
  expect(pagedb_flush(s, r->owner), PAGEDB_EIO);
  return (int)pagedb_last_fault()->page;
}

/* The first error in page order is told, also of pages that had to be waited for
** and were written after the others. */
static void test_first_error_in_page_order(void **state)
{
  (void)state;
  static const uint64_t held[] = {3, 7};
  for (int later_is_first = 0; later_is_first < 2; later_is_first++) {
    rig r = rig_open(16);
    gate writing = {.kind = FAULT_WRITE, .page = 5};
    pagedb_pin pin[2];
    job j;
    fill(&r, 8);
    put(r.session, r.owner, 5, 1);
    for (int i = 0; i < 2; i++) {
      put(r.session, r.owner, held[i], 1);
      ok(pagedb_fetch(r.session, r.owner, held[i], &pin[i]));
      ok(pagedb_latch_exclusive(&pin[i]));
    }
    if (!later_is_first)
      ok(pagedb_flush_page(r.session, r.owner, 3));
    fault_store_fail(r.disk, FAULT_WRITE, 1, 1, PAGEDB_EIO);
    fault_store_hook(r.disk, gate_hook, &writing);
    job_start(&j, &r, call_flush_names_page);
    wait_for(&writing.arrived);
    atomic_store(&writing.open, 1);
    pagedb_unpin(&pin[0]);
    pagedb_unpin(&pin[1]);
    assert_int_equal(job_join(&j), later_is_first ? 3 : 5);
    assert_int_equal(dirty(&r), later_is_first ? 3 : 2);
    fault_store_fail(r.disk, FAULT_WRITE, 0, 0, 0);
    ok(pagedb_flush(r.session, r.owner));
    rig_close(&r);
  }
}

/* A batch that fails does not keep the next from being written. */
static void test_failing_batch(void **state)
{
  (void)state;
  rig r = rig_open(MANY);
  for (unsigned i = 0; i < MANY; i++)
    put(r.session, r.owner, i, i + 5000);
  fault_store_fail_page(r.disk, FAULT_WRITE, 7, PAGEDB_EFULL);
  expect(pagedb_flush(r.session, r.owner), PAGEDB_EFULL);
  assert_int_equal(pagedb_last_fault()->page, 7);
  assert_int_equal(on_disk(&r, MANY - 1), 5000 + MANY - 1);
  assert_true(dirty(&r) >= 1 && dirty(&r) <= PAGEDB_RUN_MAX);
  fault_store_fail_page(r.disk, FAULT_WRITE, PAGEDB_NONE, 0);
  ok(pagedb_flush(r.session, r.owner));
  assert_int_equal(on_disk(&r, 7), 5007);
  rig_close(&r);
}

/* Two stores that cannot write: the pool says what was first, loses nothing, and
** goes on when they can again. */
static void test_two_failing_stores(void **state)
{
  (void)state;
  rig r = rig_open(8), other = {.pool = r.pool, .disk = fault_store_new(PAGE)};
  pagedb_pin pin;
  ok(pagedb_owner_open(r.pool, fault_store_base(other.disk), &other.owner));
  other.session = r.session;
  fill(&r, 8);
  for (unsigned i = 0; i < 4; i++) {
    put(r.session, r.owner, i, i + 1);
    put(r.session, other.owner, i, i + 1);
  }
  fault_store_fail(r.disk, FAULT_WRITE, 1, 1, PAGEDB_EFULL);
  fault_store_fail(other.disk, FAULT_WRITE, 1, 1, PAGEDB_EIO);
  /* Whose pages the hand meets first is open. */
  int err = pagedb_fetch(r.session, r.owner, 6, &pin);
  assert_true(err == PAGEDB_EFULL || err == PAGEDB_EIO);
  assert_int_equal(pagedb_last_fault()->err, err);
  expect(pagedb_pool_flush(r.session), PAGEDB_EIO); /* the newest owner's */
  expect(pagedb_pool_checkpoint(r.session), PAGEDB_EIO);
  err = pagedb_pool_resize(r.pool, 2 * PAGE, NULL);
  assert_true(err == PAGEDB_EFULL || err == PAGEDB_EIO);
  assert_int_equal(stats(r.pool).dirty, 8);
  ok(pagedb_pool_resize(r.pool, 8 * PAGE, NULL));
  fault_store_fail(other.disk, FAULT_WRITE, 0, 0, 0);
  assert_int_equal(get(r.session, r.owner, 6), 1006); /* the other made room */
  fault_store_fail(r.disk, FAULT_WRITE, 0, 0, 0);
  ok(pagedb_pool_checkpoint(r.session));
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal(on_disk(&r, i), i + 1);
    assert_int_equal(on_disk(&other, i), i + 1);
  }
  ok(pagedb_owner_close(other.owner));
  rig_close(&r);
  fault_store_free(other.disk);
}

/* ------------------------------------------------------------------ memory */

typedef struct sized {
  pagedb_store *store;
  pagedb_owner *owner;
} sized;

static sized sized_open(pagedb_pool *pool, uint32_t page_size)
{
  sized z;
  ok(pagedb_store_in_memory(page_size, &z.store));
  ok(pagedb_owner_open(pool, z.store, &z.owner));
  return z;
}

static void sized_close(sized *z)
{
  ok(pagedb_discard_from(z->owner, 0));
  ok(pagedb_owner_close(z->owner));
  pagedb_store_close(z->store);
}

enum { SIZES = CLASS_MAX - CLASS_MIN + 1 };

/* One page size after the other has the whole pool: the addresses of those before
** are used again. */
static void test_addresses_are_used_again(void **state)
{
  (void)state;
  pagedb_pool_options opt = {.capacity = 2 << 20, .reserve = 2 << 20};
  pagedb_pool *pool;
  pagedb_session *s;
  sized z[SIZES];
  ok(pagedb_pool_open(&opt, &pool));
  ok(pagedb_session_open(pool, &s));
  for (unsigned c = 0; c < SIZES; c++)
    z[c] = sized_open(pool, 512u << c);
  for (int round = 0; round < 2; round++)
    for (unsigned c = 0; c < SIZES; c++)
      for (uint64_t id = 0; id < 4096u >> c; id++)
        put(s, z[c].owner, id, id + c);
  ok(pagedb_pool_checkpoint(s));
  for (unsigned c = 0; c < SIZES; c++)
    for (uint64_t id = 0; id < 4096u >> c; id++)
      assert_int_equal(get(s, z[c].owner, id), id + c);
  pagedb_pool_stats st = stats(pool);
  assert_true(st.used_bytes <= st.capacity_bytes);
  for (unsigned c = 0; c < SIZES; c++)
    sized_close(&z[c]);
  ok(pagedb_session_close(s));
  ok(pagedb_pool_close(pool));
}

/* A pin in every 64 KiB of the addresses: no frame of another size is to be had,
** though the budget has room. It is said, and over when the pins are. */
static void test_addresses_run_out(void **state)
{
  (void)state;
  enum { CAPACITY = 16 << 20, UNIT = 1 << UNIT_SHIFT };
  pagedb_pool_options opt = {.capacity = CAPACITY, .reserve = CAPACITY};
  pagedb_pool *pool;
  pagedb_session *s;
  static pagedb_pin pin[2][CAPACITY / UNIT], one;
  sized z[2], more;
  ok(pagedb_pool_open(&opt, &pool));
  ok(pagedb_session_open(pool, &s));
  more = sized_open(pool, 2048);
  for (unsigned c = 0; c < 2; c++) {
    uint32_t size = 512u << c;
    unsigned pins = 0;
    z[c] = sized_open(pool, size);
    for (uint64_t id = 0; id < CAPACITY / size && pins < CAPACITY / UNIT;
         id++) {
      int err = pagedb_fetch_new(s, z[c].owner, id, &one);
      if (err == PAGEDB_ENOMEM || err == PAGEDB_EEXHAUSTED)
        break;
      ok(err);
      pagedb_unlatch(&one);
      /* Frames of a slab are handed out from its first on. */
      if ((one.data - pool->arena) % UNIT == 0)
        pin[c][pins++] = one;
      else
        pagedb_unpin(&one);
    }
    ok(pagedb_pool_checkpoint(s));
    assert_true(pins > 200);
    memset(&pin[c][pins], 0, (CAPACITY / UNIT - pins) * sizeof one);
  }
  expect(pagedb_fetch_new(s, more.owner, 0, &one), PAGEDB_ENOMEM);
  assert_true(stats(pool).used_bytes < CAPACITY / 4);
  for (unsigned c = 0; c < 2; c++)
    for (unsigned i = 0; i < CAPACITY / UNIT; i++)
      if (pin[c][i].data != NULL)
        pagedb_unpin(&pin[c][i]);
  put(s, more.owner, 0, 77);
  assert_int_equal(get(s, more.owner, 0), 77);
  ok(pagedb_pool_checkpoint(s));
  sized_close(&z[0]);
  sized_close(&z[1]);
  sized_close(&more);
  ok(pagedb_session_close(s));
  ok(pagedb_pool_close(pool));
}

/* Nodes of the page table stay while somebody may be looking at them. */
static void test_nodes_wait_for_walks(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_session *s;
  pagedb_pin pin;
  ok(pagedb_session_open(r.pool, &s));
  table_enter(s);
  for (uint64_t i = 1; i <= 2 * LIMBO_MAX; i++)
    expect(pagedb_fetch(r.session, r.owner, i << 20, &pin), PAGEDB_ESHORT);
  uint64_t most = stats(r.pool).table_bytes;
  table_leave(s);
  for (uint64_t i = 1; i <= LIMBO_MAX; i++)
    expect(pagedb_fetch(r.session, r.owner, i << 20, &pin), PAGEDB_ESHORT);
  assert_true(stats(r.pool).table_bytes < most / 2);
  ok(pagedb_session_close(s));
  rig_close(&r);
}

/* Frames that came free while the pool is above its budget go back to the system
** instead of to the next who asks. */
static void test_free_frames_above_the_budget(void **state)
{
  (void)state;
  rig r = rig_open(8);
  pagedb_pin pin[6], more;
  uint64_t used;
  fill(&r, 16);
  for (unsigned i = 0; i < 6; i++)
    ok(pagedb_fetch(r.session, r.owner, i, &pin[i]));
  ok(pagedb_pool_resize(r.pool, 2 * PAGE, &used));
  assert_int_equal(used, 6 * PAGE);
  expect(pagedb_fetch(r.session, r.owner, 9, &more), PAGEDB_EEXHAUSTED);
  for (unsigned i = 0; i < 5; i++)
    pagedb_unpin(&pin[i]);
  ok(pagedb_discard_from(r.owner, 6));
  for (unsigned i = 0; i < 3; i++)
    ok(pagedb_discard(r.owner, i));
  ok(pagedb_fetch(r.session, r.owner, 9, &more));
  assert_int_equal(get_le64(more.data + AT), 1009);
  assert_int_equal(stats(r.pool).used_bytes, 2 * PAGE);
  pagedb_unpin(&more);
  pagedb_unpin(&pin[5]);
  rig_close(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pool_refuses),
      cmocka_unit_test(test_counted_pins),
      cmocka_unit_test(test_latches_refused),
      cmocka_unit_test(test_discard_waits),
      cmocka_unit_test(test_abandon_waits),
      cmocka_unit_test(test_change_during_failing_write),
      cmocka_unit_test(test_epoch_comes_round_while_reading),
      cmocka_unit_test(test_two_are_parked),
      cmocka_unit_test(test_page_comes_while_it_is_made_anew),
      cmocka_unit_test(test_pages_go_during_a_flush),
      cmocka_unit_test(test_first_error_in_page_order),
      cmocka_unit_test(test_failing_batch),
      cmocka_unit_test(test_two_failing_stores),
      cmocka_unit_test(test_addresses_are_used_again),
      cmocka_unit_test(test_addresses_run_out),
      cmocka_unit_test(test_nodes_wait_for_walks),
      cmocka_unit_test(test_free_frames_above_the_budget),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
