/*
** test_pool_ahead.c - frames that are filled from outside, and when they become
** pages of the pool (core/ahead.h).
*/
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "endian.h"
#include "pool_int.h"
#include "pool_rig.h"

static int yes(void *arg, const ahead_page *p)
{
  (void)p;
  ++*(int *)arg;
  return 1;
}

static int no(void *arg, const ahead_page *p)
{
  (void)p;
  ++*(int *)arg;
  return 0;
}

/* As a reader would: page i holds i + 1000. */
static void read_in(ahead_page *a, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    memset(a[i].data, 0, PAGE);
    put_le64(a[i].data + AT, a[i].page + 1000);
    a[i].lsn = a[i].page + 1;
    a[i].good = 1;
  }
}

static void test_published(void **state)
{
  (void)state;
  rig r = rig_open(64);
  const uint64_t ids[] = {0, 1, 2, 3};
  ahead_page a[4];
  pagedb_pin pin;
  unsigned looked;
  int asked = 0;
  fill(&r, 4);
  get(r.session, r.owner, 1);
  assert_int_equal(ahead_begin(r.owner, ids, 4, 0, a, &looked), 3);
  assert_int_equal(looked, 4);
  assert_true(a[0].data < a[1].data && a[1].data < a[2].data);
  assert_false(pagedb_resident(r.owner, 2));
  expect(pagedb_owner_close(r.owner), PAGEDB_EBUSY);
  read_in(a, 3);
  pagedb_pool_stats before = stats(r.pool);
  ahead_end(r.owner, a, 3, yes, &asked);
  assert_int_equal(asked, 3);
  for (int i = 0; i < 2; i++) {
    ok(pagedb_fetch(r.session, r.owner, 2, &pin));
    assert_int_equal(get_le64(pin.data + AT), 1002);
    assert_int_equal(pagedb_pin_lsn(&pin), 3);
    assert_int_equal(pin.first, i == 0);
    pagedb_unpin(&pin);
  }
  pagedb_pool_stats now = stats(r.pool);
  assert_int_equal(now.misses, before.misses);
  assert_int_equal(now.ahead_used, 1);
  assert_int_equal(now.ahead_wasted, 0);
  assert_int_equal(now.resident, 4);
  ok(pagedb_discard_from(r.owner, 0));
  assert_int_equal(stats(r.pool).ahead_wasted, 2);
  rig_close(&r);
}

/* A page that is at hand enters; one that is there stays as it is. */
static void test_offered(void **state)
{
  (void)state;
  rig r = rig_open(64);
  uint8_t page[PAGE] = {0};
  pagedb_pin pin;
  fill(&r, 4);
  get(r.session, r.owner, 1);
  pagedb_pool_stats before = stats(r.pool);
  put_le64(page + AT, 77);
  ahead_offer(r.owner, 2, page, 9);
  ahead_offer(r.owner, 1, page, 9);
  ok(pagedb_fetch(r.session, r.owner, 2, &pin));
  assert_int_equal(get_le64(pin.data + AT), 77);
  assert_int_equal(pagedb_pin_lsn(&pin), 9);
  assert_false(pin.first);
  pagedb_unpin(&pin);
  assert_int_equal(get(r.session, r.owner, 1), 1001);
  pagedb_pool_stats now = stats(r.pool);
  assert_int_equal(now.misses, before.misses);
  assert_int_equal(now.pages_read, before.pages_read);
  assert_int_equal(now.ahead_used, 0);
  assert_int_equal(now.ahead_wasted, 0);
  ok(pagedb_invalidate(r.owner));
  assert_int_equal(get(r.session, r.owner, 2), 1002);
  rig_close(&r);
}

static void drop_one(rig *r, const char *why, int (*meanwhile)(rig *),
                     int (*still)(void *, const ahead_page *), int good)
{
  const uint64_t id = 5;
  ahead_page a;
  unsigned looked;
  int asked = 0;
  ok(pagedb_discard_from(r->owner, 0));
  uint64_t wasted = stats(r->pool).ahead_wasted;
  assert_int_equal(ahead_begin(r->owner, &id, 1, 0, &a, &looked), 1);
  read_in(&a, 1);
  put_le64(a.data + AT, 1);
  a.good = good;
  if (meanwhile != NULL)
    ok(meanwhile(r));
  ahead_end(r->owner, &a, 1, still, &asked);
  assert_int_equal(stats(r->pool).ahead_wasted, wasted + 1);
  if (get(r->session, r->owner, 5) == 1)
    fail_msg("%s: published", why);
}

static int invalidate(rig *r)
{
  return pagedb_invalidate(r->owner);
}

static int fetch(rig *r)
{
  return get(r->session, r->owner, 5) == 1005 ? PAGEDB_OK : PAGEDB_EIO;
}

static int make_anew(rig *r)
{
  pagedb_pin pin;
  ok(pagedb_fetch_new(r->session, r->owner, 5, &pin));
  put_le64(pin.data + AT, 7);
  pagedb_unpin(&pin);
  return PAGEDB_OK;
}

static void test_dropped(void **state)
{
  (void)state;
  rig r = rig_open(64);
  fill(&r, 8);
  drop_one(&r, "not good", NULL, yes, 0);
  drop_one(&r, "not true", NULL, no, 1);
  drop_one(&r, "old epoch", invalidate, yes, 1);
  drop_one(&r, "came in", fetch, yes, 1);
  drop_one(&r, "made anew", make_anew, yes, 1);
  ok(pagedb_discard_from(r.owner, 0));
  rig_close(&r);
}

/* An eighth of the pool, and no dirty page gives way. */
static void test_share(void **state)
{
  (void)state;
  rig r = rig_open(64);
  uint64_t ids[AHEAD_MAX];
  ahead_page a[AHEAD_MAX], more[AHEAD_MAX];
  unsigned looked;
  int asked = 0;
  for (unsigned i = 0; i < AHEAD_MAX; i++)
    ids[i] = 100 + i;
  assert_int_equal(ahead_begin(r.owner, ids, AHEAD_MAX, 0, a, &looked), 8);
  assert_int_equal(looked, 8);
  assert_int_equal(ahead_begin(r.owner, ids + 8, 1, 0, more, &looked), 0);
  assert_int_equal(looked, 0);
  ahead_end(r.owner, a, 8, no, &asked);
  assert_int_equal(asked, 0);
  for (unsigned i = 0; i < 64; i++)
    put(r.session, r.owner, i, i + 1000);
  uint64_t written = stats(r.pool).pages_written;
  assert_int_equal(ahead_begin(r.owner, ids, 8, 0, a, &looked), 0);
  assert_int_equal(stats(r.pool).pages_written, written);
  ok(pagedb_checkpoint(r.session, r.owner));
  assert_int_equal(ahead_begin(r.owner, ids, 8, 0, a, &looked), 8);
  ahead_end(r.owner, a, 8, no, &asked);
  rig_close(&r);
}

static unsigned huge_pieces(const pagedb_pool *p)
{
  unsigned n = 0;
  for (uint64_t i = 0; i < p->capacity / OS_HUGE_PAGE; i++)
    n += p->huge[i];
  return n;
}

/* A huge page is begun in a pool that is still small where reading ahead will fill
** it, and is no more than that. */
static void test_huge(void **state)
{
  (void)state;
  const unsigned piece = OS_HUGE_PAGE / PAGE;
  rig r = rig_open(2 * piece);
  const uint64_t ids[] = {1, 2};
  ahead_page a[2];
  unsigned looked;
  int asked = 0;
  uint64_t enough = OS_HUGE_PAGE - PAGE;
  for (uint64_t more = enough - 1; more <= enough; more++) {
    ok(pagedb_discard_from(r.owner, 0));
    uint64_t used;
    ok(pagedb_pool_resize(r.pool, 0, &used));
    ok(pagedb_pool_resize(r.pool, 2 * (uint64_t)OS_HUGE_PAGE, &used));
    assert_int_equal(ahead_begin(r.owner, ids, 1, more, a, &looked), 1);
    assert_int_equal(huge_pieces(r.pool), more == enough);
    ahead_end(r.owner, a, 1, no, &asked);
  }
  rig_close(&r);
}

/* The budget shrinks while frames are out: what is beyond it goes when they come
** back, and what is within it is published. */
static void test_shrunk(void **state)
{
  (void)state;
  rig r = rig_open(64);
  uint64_t ids[8], used;
  ahead_page a[8];
  unsigned looked;
  int asked = 0;
  fill(&r, 16);
  for (unsigned i = 0; i < 8; i++)
    ids[i] = i;
  for (int offered = 0; offered < 2; offered++) {
    assert_int_equal(ahead_begin(r.owner, ids, 8, 0, a, &looked), 8);
    read_in(a, 8);
    ok(pagedb_pool_resize(r.pool, 3 * PAGE, &used));
    assert_int_equal(used, 8 * PAGE);
    ahead_end(r.owner, a, 8, offered ? no : yes, &asked);
    assert_int_equal(stats(r.pool).used_bytes, 3 * PAGE);
    assert_int_equal(stats(r.pool).resident, offered ? 0 : 3);
    ok(pagedb_discard_from(r.owner, 0));
    ok(pagedb_pool_resize(r.pool, 64 * PAGE, NULL));
  }
  assert_int_equal(get(r.session, r.owner, 7), 1007);
  rig_close(&r);
}

/* Looked at, unless somebody changes it; nobody is waited for. */
static void test_looked_at(void **state)
{
  (void)state;
  rig r = rig_open(64);
  pagedb_session *other;
  pagedb_pin held, pin;
  ok(pagedb_session_open(r.pool, &other));
  fill(&r, 4);
  assert_false(ahead_look(other, r.owner, 1, &pin));
  ok(pagedb_fetch(r.session, r.owner, 1, &held));
  ok(pagedb_latch_exclusive(&held));
  assert_false(ahead_look(other, r.owner, 1, &pin));
  assert_false(ahead_look(r.session, r.owner, 1, &pin));
  pagedb_unlatch(&held);
  assert_true(ahead_look(other, r.owner, 1, &pin));
  assert_int_equal(get_le64(pin.data + AT), 1001);
  expect(pagedb_latch_exclusive_try(&held), PAGEDB_EBUSY);
  expect(pagedb_latch_shared_try(&pin), PAGEDB_EMISUSE);
  ok(pagedb_latch_shared_try(&held));
  pagedb_unpin(&pin);
  pagedb_unpin(&held);
  ok(pagedb_fetch(r.session, r.owner, 1, &held));
  ok(pagedb_latch_exclusive_try(&held));
  ok(pagedb_fetch(other, r.owner, 1, &pin));
  expect(pagedb_latch_shared_try(&pin), PAGEDB_EBUSY);
  pagedb_unpin(&pin);
  pagedb_unpin(&held);
  ok(pagedb_session_close(other));
  rig_close(&r);
}

typedef struct looker {
  rig *r;
  unsigned got, looked;
} looker;

static void looks_ahead(void *arg, enum fault_kind kind, uint64_t page)
{
  looker *l = arg;
  const uint64_t ids[] = {page, (uint64_t)1 << 60};
  ahead_page a[2];
  if (kind == FAULT_READ)
    l->got = ahead_begin(l->r->owner, ids, 2, 0, a, &l->looked);
}

/* A page that somebody reads just now, and one that no file can have, are not
** read ahead. */
static void test_not_to_be_read(void **state)
{
  (void)state;
  rig r = rig_open(64);
  looker l = {.r = &r, .got = 9};
  fill(&r, 6);
  fault_store_hook(r.disk, looks_ahead, &l);
  assert_int_equal(get(r.session, r.owner, 5), 1005);
  fault_store_hook(r.disk, NULL, NULL);
  assert_int_equal(l.got, 0);
  assert_int_equal(l.looked, 2);
  rig_close(&r);
}

/* A hint changes nothing that can be asked for, whatever there is of the page. */
static void test_lines(void **state)
{
  (void)state;
  rig r = rig_open(64);
  fill(&r, 600);
  ahead_lines(r.session, r.owner, 1); /* no table */
  get(r.session, r.owner, 1);
  pagedb_pool_stats before = stats(r.pool);
  const uint64_t ids[] = {1, 2, 599, (uint64_t)1 << 40};
  for (int i = 0; i < 4; i++)
    ahead_lines(r.session, r.owner, ids[i]);
  pagedb_pool_stats now = stats(r.pool);
  assert_memory_equal(&before, &now, sizeof now);
  ok(pagedb_discard(r.owner, 1)); /* not pinned */
  rig_close(&r);
  /* A page of a few lines. */
  pagedb_pool_options opt = {.capacity = 1 << 20};
  pagedb_store *store;
  ok(pagedb_store_in_memory(512, &store));
  ok(pagedb_pool_open(&opt, &r.pool));
  ok(pagedb_owner_open(r.pool, store, &r.owner));
  ok(pagedb_session_open(r.pool, &r.session));
  put(r.session, r.owner, 0, 1);
  ahead_lines(r.session, r.owner, 0);
  ok(pagedb_discard(r.owner, 0));
  ok(pagedb_session_close(r.session));
  ok(pagedb_owner_close(r.owner));
  ok(pagedb_pool_close(r.pool));
  pagedb_store_close(store);
}

/* The hand spares what was read ahead until it was used, once round. */
static void test_spared(void **state)
{
  (void)state;
  rig r = rig_open(64);
  uint64_t ids[8];
  ahead_page a[8];
  unsigned looked;
  int asked = 0;
  fill(&r, 200);
  for (unsigned i = 0; i < 8; i++)
    ids[i] = i;
  assert_int_equal(ahead_begin(r.owner, ids, 8, 0, a, &looked), 8);
  read_in(a, 8);
  ahead_end(r.owner, a, 8, yes, &asked);
  for (unsigned i = 8; i < 80; i++)
    get(r.session, r.owner, i);
  for (unsigned i = 0; i < 8; i++)
    assert_true(pagedb_resident(r.owner, i));
  for (unsigned i = 0; i < 4; i++)
    get(r.session, r.owner, i);
  ok(pagedb_discard_from(r.owner, 0));
  assert_int_equal(stats(r.pool).ahead_used, 4);
  assert_int_equal(stats(r.pool).ahead_wasted, 4);
  rig_close(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published), cmocka_unit_test(test_offered),
      cmocka_unit_test(test_dropped),   cmocka_unit_test(test_share),
      cmocka_unit_test(test_shrunk),    cmocka_unit_test(test_looked_at),
      cmocka_unit_test(test_spared),    cmocka_unit_test(test_not_to_be_read),
      cmocka_unit_test(test_lines),     cmocka_unit_test(test_huge),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
