/*
** test_pool_memory.c - what memory the pool holds, beside what it counts, and
** that giving back memory takes none that is in use: with huge pages, where the
** system gives them.
*/
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool_int.h"
#include "util.h"

enum {
  MIB = 1 << 20,
  SETS = 4,
  CELLS = 16384, /* of a set: 64 MiB of 4096 bytes each */
  UNUSED = 0,
  PINNED,
  UNPINNED
};

typedef struct held {
  private_cell cell;
  uint64_t *data;
  int is;
} held;

typedef struct world {
  pagedb_pool *pool;
  uint64_t random;
  private_set set[SETS];
  held *h[SETS];
  unsigned char *core; /* for mincore: a byte per 4096 */
} world;

static void world_open(world *w, uint64_t capacity, uint32_t least)
{
  pagedb_pool_options opt = {.capacity = capacity, .reserve = 128 * MIB};
  ok(pagedb_pool_open(&opt, &w->pool));
  for (int i = 0; i < SETS; i++) {
    static const uint32_t bytes[SETS] = {0, 4096, 65536, 1 << 20};
    ok(private_open(w->pool, &w->set[i], i == 0 ? least : bytes[i], 1));
    w->h[i] = calloc(CELLS, sizeof *w->h[i]);
    assert_non_null(w->h[i]);
  }
  w->core = malloc(w->pool->arena_bytes / 4096);
  assert_non_null(w->core);
}

static size_t set_words(const private_set *s)
{
  return ((size_t)1 << s->class) / sizeof(uint64_t);
}

/* First and last word of each 4096 bytes. */
static void mark(const private_set *s, held *h)
{
  for (size_t i = 0; i < set_words(s); i += 512) {
    size_t last = i + 511 < set_words(s) ? i + 511 : set_words(s) - 1;
    h->data[i] = (uintptr_t)h + i;
    h->data[last] = (uintptr_t)h + last;
  }
}

static void check(const private_set *s, const held *h)
{
  for (size_t i = 0; i < set_words(s); i += 512) {
    size_t last = i + 511 < set_words(s) ? i + 511 : set_words(s) - 1;
    if (h->data[i] != (uintptr_t)h + i || h->data[last] != (uintptr_t)h + last)
      fail_msg("a page lost its content");
  }
}

static void take(private_set *s, held *h)
{
  h->data = private_get(s, &h->cell, PRIVATE_MAY);
  h->is = h->data == NULL ? UNUSED : PINNED;
  if (h->data != NULL)
    mark(s, h);
}

static void drop(private_set *s, held *h, int give_back)
{
  private_cell *c = &h->cell;
  if (h->is != UNUSED)
    private_drop(s, &c, 1, give_back);
  h->is = UNUSED;
}

static void toggle(private_set *s, held *h)
{
  if (h->is == PINNED) {
    check(s, h);
    h->is = UNPINNED;
    if (!private_unpin(s, &h->cell))
      drop(s, h, 0);
  } else if (private_pin(s, &h->cell)) {
    check(s, h);
    h->is = PINNED;
  } else {
    h->is = UNUSED;
  }
}

static void check_all(world *w)
{
  for (int i = 0; i < SETS; i++)
    for (int k = 0; k < CELLS; k++)
      if (w->h[i][k].is == PINNED)
        check(&w->set[i], &w->h[i][k]);
}

static uint64_t resident(world *w)
{
  uint64_t n = 0;
  size_t pages = w->pool->arena_bytes / 4096;
  assert_int_equal(mincore(w->pool->arena, w->pool->arena_bytes, w->core), 0);
  for (size_t i = 0; i < pages; i++)
    n += w->core[i] & 1;
  return n * 4096;
}

static unsigned huge_pieces(const world *w)
{
  unsigned n = 0;
  for (size_t i = 0; i < w->pool->arena_bytes >> HUGE_SHIFT; i++)
    n += w->pool->huge[i];
  return n;
}

static void drop_all(world *w, int give_back)
{
  for (int i = 0; i < SETS; i++) {
    for (int k = 0; k < CELLS; k++)
      drop(&w->set[i], &w->h[i][k], give_back);
    if (give_back)
      private_trim(&w->set[i]);
  }
}

static void world_close(world *w)
{
  drop_all(w, 0);
  for (int i = 0; i < SETS; i++) {
    private_close(&w->set[i]);
    free(w->h[i]);
  }
  ok(pagedb_pool_close(w->pool));
  free(w->core);
}

/* A small pool takes no huge page, a large one most of what it has, and what is
** given back is gone, but for what stands beside it. */
static void test_huge(void **state)
{
  (void)state;
  world w;
  world_open(&w, 64 * MIB, 4096);
  private_set *s = &w.set[1];
  held *h = w.h[1];
  int i;
  for (i = 0; i < 2 * MIB / 4096; i++)
    take(s, &h[i]);
  assert_int_equal(huge_pieces(&w), 0);
  assert_int_equal(resident(&w), w.pool->used);
  for (; i < 44 * MIB / 4096; i++)
    take(s, &h[i]);
  assert_int_equal(w.pool->used, 44 * MIB);
  assert_int_equal(huge_pieces(&w), 14);
  assert_in_range(resident(&w), 44 * MIB, 46 * MIB);
  /* Each second page of a piece. */
  for (i = 30 * MIB / 4096; i < 32 * MIB / 4096; i += 2)
    drop(s, &h[i], 1);
  assert_int_equal(w.pool->used, 43 * MIB);
  assert_int_equal(huge_pieces(&w), 13);
  assert_in_range(resident(&w), 43 * MIB, 45 * MIB);
  check_all(&w);
  drop_all(&w, 1);
  assert_int_equal(huge_pieces(&w), 0);
  assert_int_equal(resident(&w), 0);
  world_close(&w);
}

/* A piece that was begun, and never filled, goes whole. */
static void test_last_piece(void **state)
{
  (void)state;
  world w;
  world_open(&w, 64 * MIB, 4096);
  for (int i = 0; i <= 20 * MIB / 4096; i++)
    take(&w.set[1], &w.h[1][i]);
  assert_int_equal(huge_pieces(&w), 3);
  drop(&w.set[1], &w.h[1][20 * MIB / 4096], 1);
  assert_int_equal(huge_pieces(&w), 2);
  assert_int_equal(resident(&w), 20 * MIB);
  check_all(&w);
  world_close(&w);
}

/* So is what was given in advance between two that stay. */
static void test_between(void **state)
{
  (void)state;
  world w;
  world_open(&w, 64 * MIB, 8192);
  for (int i = 0; i <= 16 * MIB / 4096; i++)
    take(&w.set[1], &w.h[1][i]);
  take(&w.set[2], &w.h[2][0]);
  take(&w.set[2], &w.h[2][1]);
  assert_int_equal(huge_pieces(&w), 1);
  drop(&w.set[2], &w.h[2][1], 1);
  assert_int_equal(w.pool->used, 16 * MIB + 4096 + 65536);
  assert_int_equal(resident(&w), w.pool->used);
  check_all(&w);
  world_close(&w);
}

/* No piece is begun that the budget could not fill, and none stays huge that a
** large frame did not fit into. */
static void test_unfilled(void **state)
{
  (void)state;
  world w;
  /* Each set gets its share. */
  world_open(&w, 21 * MIB + MIB / 2, 8192);
  for (int i = 0; i < 17 * MIB / 4096; i++)
    take(&w.set[1], &w.h[1][i]);
  for (int i = 0; i < 5 * MIB / 65536; i++)
    take(&w.set[2], &w.h[2][i]);
  assert_in_range(w.pool->used, 20 * MIB + 1, 21 * MIB);
  assert_int_equal(huge_pieces(&w), 2);
  assert_int_equal(resident(&w), w.pool->used);
  world_close(&w);

  /* The first piece is empty, a frame stands behind it, and slabs are made from
  ** the start again. */
  world_open(&w, 64 * MIB, 8192);
  for (int i = 0; i < 33; i++)
    take(&w.set[2], &w.h[2][i]);
  for (int i = 0; i < 32; i++)
    drop(&w.set[2], &w.h[2][i], 1);
  private_trim(&w.set[2]);
  for (int i = 0; i < 16 * MIB / 4096; i++)
    take(&w.set[1], &w.h[1][i]);
  while (w.pool->next_unit < w.pool->units) {
    take(&w.set[2], &w.h[2][0]);
    drop(&w.set[2], &w.h[2][0], 1);
    private_trim(&w.set[2]);
  }
  for (int i = 16 * MIB / 4096; i < 17 * MIB / 4096 + 64; i++)
    take(&w.set[1], &w.h[1][i]);
  assert_int_equal(w.pool->huge[0], 1);
  take(&w.set[3], &w.h[3][0]);
  assert_int_equal(w.pool->huge[0], 0);
  assert_in_range(resident(&w), w.pool->used, w.pool->used + MIB);
  /* Nor does it become huge again while something stands in it. */
  w.pool->next_unit = 20;
  take(&w.set[2], &w.h[2][0]);
  assert_ptr_equal(w.h[2][0].data, w.pool->arena + 20 * 65536);
  assert_int_equal(w.pool->huge[0], 0);
  check_all(&w);
  world_close(&w);
}

static void any_operation(world *w)
{
  unsigned kind = (unsigned)random_below(&w->random, SETS);
  private_set *s = &w->set[kind];
  uint64_t n = random_below(&w->random, (20 * MIB) >> s->class) + 1;
  uint64_t what = random_below(&w->random, 8);
  if (what == 0) {
    ok(pagedb_pool_resize(w->pool, (random_below(&w->random, 60) + 4) * MIB,
                          NULL));
    return;
  }
  for (; n > 0; n--) {
    held *h = &w->h[kind][random_below(
        &w->random, CELLS >> (s->class > 12 ? s->class - 12 : 0))];
    if (what < 4 && h->is == UNUSED)
      take(s, h);
    else if (what < 6 && h->is != UNUSED)
      toggle(s, h);
    else if (what >= 6)
      drop(s, h, what == 7);
  }
}

/* Any mixture of sizes: nothing in use is lost, and the pool holds little more
** than it counts. */
static void random_world(uint32_t least, uint64_t beyond)
{
  world w;
  world_open(&w, 64 * MIB, least);
  unsigned most_huge = 0;
  w.random = test_seed("test_pool_memory", 20261121);
  for (int i = 0; i < 600; i++) {
    any_operation(&w);
    if (huge_pieces(&w) > most_huge)
      most_huge = huge_pieces(&w);
    if (i % 10 != 0)
      continue;
    check_all(&w);
    if (resident(&w) > w.pool->used + beyond)
      fail_msg("%llu bytes are counted, %llu resident",
               (unsigned long long)w.pool->used,
               (unsigned long long)resident(&w));
  }
  assert_true(most_huge > 0);
  world_close(&w);
}

static void test_random(void **state)
{
  (void)state;
  random_world(8192, 2 * MIB + 3 * 65536);
}

/* Frames of 512 bytes go back by the slab only. */
static void test_random_small(void **state)
{
  (void)state;
  random_world(512, 64 * MIB);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_huge),    cmocka_unit_test(test_last_piece),
      cmocka_unit_test(test_between), cmocka_unit_test(test_unfilled),
      cmocka_unit_test(test_random),  cmocka_unit_test(test_random_small),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
