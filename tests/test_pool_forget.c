/*
** test_pool_forget.c - frames of pages that are forgotten serve again before
** the pool takes memory, and none of them before it is unpinned.
*/
#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "endian.h"
#include "pool_rig.h"
#include "private.h"

enum {
  FEW = 600, /* pages of a database: more than a leaf of the page table has */
  MANY = 40 * FEW, /* frames of a pool that is never full here */
  SLACK = 32       /* frames that wait for their batch */
};

static uint64_t frames_used(const rig *r)
{
  return stats(r->pool).used_bytes / PAGE;
}

static void read_pages(rig *r, uint64_t from, uint64_t to)
{
  for (uint64_t id = from; id < to; id++)
    assert_int_equal(get(r->session, r->owner, id), id + 1000);
}

static void forget(rig *r)
{
  ok(pagedb_invalidate(r->owner));
}

/* A store without an end, which costs a test nothing: page i holds i + 1000. */
static int endless_read(pagedb_store *s, pagedb_run *run, unsigned n)
{
  if (n != 1 || run->count != 1)
    abort();
  memset(run->pages[0], 0, s->page_size);
  put_le64((unsigned char *)run->pages[0] + AT, run->first + 1000);
  return PAGEDB_OK;
}

static pagedb_store endless[2] = {{.page_size = PAGE,
                                   .record_at = PAGE,
                                   .name = "endless",
                                   .read = endless_read},
                                  {.page_size = PAGE,
                                   .record_at = PAGE,
                                   .name = "another",
                                   .read = endless_read}};

/* A pool that has room for all, and a database to be read in it. */
static rig read_open(rig *below)
{
  *below = rig_open(MANY);
  rig r = *below;
  ok(pagedb_owner_open(r.pool, &endless[0], &r.owner));
  return r;
}

static void read_close(rig *r, rig *below)
{
  ok(pagedb_owner_close(r->owner));
  rig_close(below);
}

/* The same with one that can be written, of n pages. */
static rig rig_of(unsigned n)
{
  rig r = rig_open(MANY);
  fill(&r, n);
  return r;
}

/* Another process commits, and all is read again: the pool does not grow. */
static void test_all_read_again(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  for (int i = 0; i < 30; i++) {
    read_pages(&r, 0, FEW);
    assert_in_range(frames_used(&r), FEW, FEW + SLACK);
    forget(&r);
  }
  assert_int_equal(stats(r.pool).evictions, 0);
  read_close(&r, &below);
}

/* Backwards: each page is met as a stale one before the sweep comes to it. */
static void test_read_again_backwards(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  for (int i = 0; i < 10; i++) {
    for (uint64_t id = FEW; id-- > 0;)
      assert_int_equal(get(r.session, r.owner, id), id + 1000);
    assert_in_range(frames_used(&r), FEW, FEW + SLACK);
    forget(&r);
  }
  read_close(&r, &below);
}

/* Pages that nobody asks for any more leave their frames to the others. */
static void test_others_read_then(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  for (uint64_t from = 0; from < 10 * FEW; from += FEW) {
    read_pages(&r, from, from + FEW);
    assert_in_range(frames_used(&r), FEW, FEW + SLACK);
    forget(&r);
  }
  read_close(&r, &below);
}

/* What is given up with its changes is forgotten, too. */
static void test_abandoned(void **state)
{
  (void)state;
  rig r = rig_of(FEW);
  for (int i = 0; i < 10; i++) {
    for (uint64_t id = 0; id < FEW; id++)
      put(r.session, r.owner, id, 1);
    pagedb_abandon(r.owner);
    read_pages(&r, 0, FEW);
    assert_in_range(frames_used(&r), FEW, FEW + SLACK);
  }
  rig_close(&r);
}

static int still(void *arg, const ahead_page *a)
{
  (void)arg;
  (void)a;
  return 1;
}

static void read_ahead(rig *r, uint64_t from, unsigned n)
{
  ahead_page a[AHEAD_MAX];
  uint64_t ids[AHEAD_MAX];
  unsigned looked;
  for (unsigned i = 0; i < n; i++)
    ids[i] = from + i;
  assert_int_equal(ahead_begin(r->owner, ids, n, 0, a, &looked), n);
  for (unsigned i = 0; i < n; i++) {
    memset(a[i].data, 0, PAGE);
    put_le64((unsigned char *)a[i].data + AT, a[i].page + 1000);
    a[i].lsn = 0;
    a[i].good = 1;
  }
  ahead_end(r->owner, a, n, still, NULL);
}

/* Read-ahead takes its frames in the same order. */
static void test_read_ahead(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  for (int i = 0; i < 10; i++) {
    for (uint64_t id = 0; id < FEW; id += 50)
      read_ahead(&r, id, 50);
    assert_in_range(frames_used(&r), FEW, FEW + SLACK);
    read_pages(&r, 0, FEW);
    forget(&r);
  }
  read_close(&r, &below);
}

/* Frames serve whoever wants some of their size: another database, one whose
** sweep is not over when it closes, and private pages. */
static void test_serve_others(void **state)
{
  (void)state;
  rig below, r = read_open(&below), other = r;
  private_set set;
  static private_cell cell[FEW], *all[FEW];
  ok(pagedb_owner_open(r.pool, &endless[1], &other.owner));

  read_pages(&r, 0, FEW);
  forget(&r);
  read_pages(&other, 0, FEW);
  assert_in_range(frames_used(&r), FEW, FEW + SLACK);

  ok(private_open(r.pool, &set, PAGE, 1));
  forget(&other);
  for (int i = 0; i < FEW - SLACK; i++) {
    all[i] = &cell[i];
    assert_non_null(private_get(&set, all[i], PRIVATE_MAY));
  }
  assert_in_range(frames_used(&r), FEW, FEW + SLACK);
  private_drop(&set, all, FEW - SLACK, 0);
  private_close(&set);

  /* One goes that is to be swept after the other. */
  read_pages(&r, 0, FEW);
  read_pages(&other, 0, FEW);
  forget(&other);
  forget(&r);
  read_pages(&r, 0, 1);
  ok(pagedb_owner_close(other.owner));
  read_pages(&r, 0, FEW);
  assert_in_range(frames_used(&r), 2 * FEW, 2 * FEW + SLACK);
  read_close(&r, &below);
}

/* A page that stays pinned keeps its content and its frame, however often the
** database is forgotten; its frame serves again when it was let go. */
static void test_pinned_stays(void **state)
{
  (void)state;
  /* More than a batch, and more than a session has slots. */
  enum { PINS = 100 };
  rig r = rig_of(FEW);
  static pagedb_pin pin[PINS];
  for (int round = 0; round < 3; round++) {
    uint64_t now = 0;
    for (int i = 0; i < PINS; i++)
      ok(pagedb_fetch(r.session, r.owner, (uint64_t)i * 5, &pin[i]));
    for (int i = 0; i < 5; i++) {
      forget(&r);
      now = 2000 + (uint64_t)round * 10 + (uint64_t)i;
      /* Somebody else's commit. */
      for (uint64_t id = 0; id < FEW; id++)
        put(r.session, r.owner, id, id + now);
      ok(pagedb_flush(r.session, r.owner));
      for (int k = 0; k < PINS; k++)
        assert_int_equal(get_le64(pin[k].data + AT), (uint64_t)k * 5 + 1000);
      assert_in_range(frames_used(&r), FEW, FEW + PINS + SLACK);
    }
    for (int i = 0; i < PINS; i++)
      pagedb_unpin(&pin[i]);
    for (uint64_t id = 0; id < FEW; id++)
      put(r.session, r.owner, id, id + 1000);
    ok(pagedb_flush(r.session, r.owner));
  }
  forget(&r);
  read_pages(&r, 0, FEW);
  assert_in_range(frames_used(&r), FEW, FEW + PINS + SLACK);
  rig_close(&r);
}

/* Each commit finds other pages pinned, as a reader's are that goes on and on:
** frames that were let go meanwhile do not add up. */
static void test_pins_that_move(void **state)
{
  (void)state;
  enum { PINS = 8, TIMES = 200 };
  rig below, r = read_open(&below);
  pagedb_pin pin[PINS];
  for (int i = 0; i < TIMES; i++) {
    for (int k = 0; k < PINS; k++)
      ok(pagedb_fetch(r.session, r.owner, (uint64_t)(i + k * 7) % FEW,
                      &pin[k]));
    forget(&r);
    read_pages(&r, 0, FEW);
    assert_in_range(frames_used(&r), FEW, FEW + 2 * PINS + SLACK);
    for (int k = 0; k < PINS; k++)
      pagedb_unpin(&pin[k]);
  }
  read_close(&r, &below);
}

/* Pages wide apart, and the last ones that can be named. A gap is looked over
** in steps, while memory is taken. */
static void test_sparse_table(void **state)
{
  (void)state;
  enum { PAGES = 200 };
  const uint64_t last = (uint64_t)INT64_MAX / PAGE;
  rig below, r = read_open(&below);
  for (int round = 0; round < 10; round++) {
    for (uint64_t i = 0; i < PAGES; i++) {
      read_pages(&r, i * 40000, i * 40000 + 1);
      read_pages(&r, last - i * 777, last - i * 777 + 1);
    }
    assert_in_range(frames_used(&r), 2 * PAGES, 4 * PAGES + SLACK);
    forget(&r);
  }
  read_close(&r, &below);
}

/* Epochs too short for the search to come to the end of the table: the last pages
** are looked at as well as the first ones. */
static void test_short_epochs(void **state)
{
  (void)state;
  enum { PAGES = 20 * 512, READ = 20, EPOCHS = 400 };
  rig below, r = read_open(&below);
  uint64_t seed = test_seed("short epochs", 3);
  for (int i = 0; i < EPOCHS; i++) {
    for (int k = 0; k < READ; k++) {
      uint64_t id = random_below(&seed, PAGES);
      read_pages(&r, id, id + 1);
    }
    forget(&r);
  }
  assert_in_range(frames_used(&r), READ, PAGES / 16);
  read_close(&r, &below);
}

/* The epoch moves while the search is under way: what it has passed by is looked
** at again. */
static void test_epoch_during_search(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  read_pages(&r, 0, FEW);
  forget(&r);
  read_pages(&r, 10 * FEW, 10 * FEW + 1);
  read_pages(&r, 0, 10);
  forget(&r);
  read_pages(&r, 20 * FEW, 22 * FEW);
  assert_int_equal(stats(r.pool).resident, 2 * FEW);
  read_close(&r, &below);
}

/* ------------------------------------------------------------------ threads */

typedef struct crowd {
  rig *r;
  uint64_t seed;
  atomic_int *stop;
  pthread_t thread;
} crowd;

enum { PINS = 3, READERS = 4 };

/* Reads, and holds what it read while others forget it. */
static void *reader(void *arg)
{
  crowd *c = arg;
  pagedb_session *s;
  pagedb_pin pin[PINS];
  uint64_t id[PINS];
  if (pagedb_session_open(c->r->pool, &s) != PAGEDB_OK)
    abort();
  for (unsigned i = scaled(20000); i > 0; i--) {
    for (int k = 0; k < PINS; k++) {
      id[k] = random_below(&c->seed, FEW);
      if (pagedb_fetch(s, c->r->owner, id[k], &pin[k]) != PAGEDB_OK)
        abort();
    }
    for (int k = 0; k < PINS; k++) {
      if (get_le64(pin[k].data + AT) != id[k] + 1000)
        abort();
      pagedb_unpin(&pin[k]);
    }
  }
  if (pagedb_session_close(s) != PAGEDB_OK)
    abort();
  return NULL;
}

static void *forgetter(void *arg)
{
  crowd *c = arg;
  while (!atomic_load(c->stop)) {
    if (pagedb_invalidate(c->r->owner) != PAGEDB_OK)
      abort();
    if (random_below(&c->seed, 4) == 0)
      nap();
  }
  return NULL;
}

/* The pool has room for all, so that only forgotten frames are used again. */
static void test_threads(void **state)
{
  (void)state;
  rig below, r = read_open(&below);
  crowd c[READERS + 1];
  atomic_int stop = 0;
  uint64_t seed = test_seed("forgetting among readers", 5);
  for (int i = 0; i <= READERS; i++) {
    c[i] = (crowd){.r = &r, .seed = next_random(&seed), .stop = &stop};
    assert_int_equal(pthread_create(&c[i].thread, NULL,
                                    i < READERS ? reader : forgetter, &c[i]),
                     0);
  }
  for (int i = 0; i < READERS; i++)
    pthread_join(c[i].thread, NULL);
  atomic_store(&stop, 1);
  pthread_join(c[READERS].thread, NULL);
  /* Memory was taken while less than a batch waited. Beside these, one frame a
  ** page, and for each reader what he had pinned when an epoch moved, a look, and
  ** a frame in his hand. */
  assert_true(frames_used(&r) <= FEW + SLACK + READERS * (PINS + 2));
  read_pages(&r, 0, FEW);
  read_close(&r, &below);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_read_again),
      cmocka_unit_test(test_read_again_backwards),
      cmocka_unit_test(test_others_read_then),
      cmocka_unit_test(test_abandoned),
      cmocka_unit_test(test_read_ahead),
      cmocka_unit_test(test_serve_others),
      cmocka_unit_test(test_pinned_stays),
      cmocka_unit_test(test_pins_that_move),
      cmocka_unit_test(test_sparse_table),
      cmocka_unit_test(test_short_epochs),
      cmocka_unit_test(test_epoch_during_search),
      cmocka_unit_test(test_threads),
  };
  return RUN_WITH_BOTH_FENCES(tests);
}
