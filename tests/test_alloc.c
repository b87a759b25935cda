/*
** test_alloc.c - the allocator: its bytes, its errors, and power cuts at every
** point.
*/
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endian.h"
#include "fault_store.h"
#include "pagedb.h"
#include "util.h"

enum { PAGE = 4096, AT = PAGEDB_RECORD_SIZE, MOST_IDS = 4096 };

static const char vectors[] = "tests/data/interop/";

static pagedb_alloc *open_on(fault_store *disk)
{
  pagedb_alloc *a;
  ok(pagedb_alloc_open(fault_store_base(disk), NULL, &a));
  return a;
}

static uint64_t take(pagedb_alloc *a)
{
  uint64_t id;
  ok(pagedb_alloc_new(a, &id));
  return id;
}

/* A superblock that says whatever the test wants. */
static void poke_super(fault_store *disk, uint64_t head, uint64_t next_new,
                       uint64_t count)
{
  unsigned char p[PAGE] = {0};
  memcpy(p + AT, "PGSB\1", 5);
  put_le64(p + AT + 8, head);
  put_le64(p + AT + 16, next_new);
  put_le64(p + AT + 24, count);
  pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, 0, 0);
  fault_store_poke(disk, 0, p);
}

static void poke_link(fault_store *disk, uint64_t id, uint64_t next)
{
  unsigned char p[PAGE] = {0};
  put_le64(p + AT, next);
  pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, id, 0);
  fault_store_poke(disk, id, p);
}

/* --------------------------------------------------------------- the basics */

static void test_ids(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  for (uint64_t i = 1; i <= 5; i++)
    assert_int_equal(take(a), i);
  assert_int_equal(pagedb_alloc_high_water(a), 6);
  ok(pagedb_alloc_free(a, 2));
  ok(pagedb_alloc_free(a, 4));
  expect(pagedb_alloc_free(a, 4), PAGEDB_EDOUBLEFREE);
  expect(pagedb_alloc_free(a, 2), PAGEDB_EDOUBLEFREE);
  expect(pagedb_alloc_free(a, 0), PAGEDB_EFREE);
  expect(pagedb_alloc_free(a, 6), PAGEDB_EFREE);
  expect(pagedb_alloc_free(a, UINT64_MAX), PAGEDB_EFREE);
  assert_int_equal(pagedb_alloc_free_count(a), 2);
  assert_int_equal(take(a), 4);
  assert_int_equal(take(a), 2);
  assert_int_equal(take(a), 6);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/* What is on disk, as the 1.x format wants it after a sync. */
static void check_bytes(fault_store *disk, const uint64_t *list, size_t n,
                        uint64_t next_new)
{
  unsigned char p[PAGE] = {0};
  memcpy(p + AT, "PGSB\1", 5);
  put_le64(p + AT + 8, n == 0 ? UINT64_MAX : list[0]);
  put_le64(p + AT + 16, next_new);
  put_le64(p + AT + 24, n);
  pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, 0, 0);
  assert_memory_equal(p, fault_store_page(disk, 0), PAGE);
  for (size_t i = 0; i < n; i++) {
    memset(p, 0, PAGE);
    put_le64(p + AT, i + 1 < n ? list[i + 1] : UINT64_MAX);
    pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, list[i], 0);
    assert_memory_equal(p, fault_store_page(disk, list[i]), PAGE);
  }
}

/* Against a plain list; synced states byte for byte; reopened now and then. */
static void test_random_against_model(void **state)
{
  (void)state;
  static uint64_t list[MOST_IDS], used[MOST_IDS];
  size_t nlist = 0, nused = 0;
  uint64_t next = 1, seed = test_seed("model", 21);
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  for (unsigned i = 0; i < scaled(20000); i++) {
    /* Phases of growing and of shrinking, so that batches are taken off. */
    uint64_t what = random_below(&seed, 100);
    int grow = (i / 700) % 2 == 0;
    if (what < (grow ? 60u : 35u) && nused < MOST_IDS) {
      uint64_t wanted = nlist > 0 ? list[--nlist] : next++;
      assert_int_equal(take(a), wanted);
      used[nused++] = wanted;
    } else if (what < 97 && nused > 0 && nlist < MOST_IDS) {
      size_t k = (size_t)random_below(&seed, nused);
      ok(pagedb_alloc_free(a, used[k]));
      list[nlist++] = used[k];
      used[k] = used[--nused];
    } else {
      ok(pagedb_alloc_sync(a));
      check_bytes(disk, list, nlist, next);
      if (what == 99) {
        pagedb_alloc_close(a);
        a = open_on(disk);
      }
    }
    assert_int_equal(pagedb_alloc_high_water(a), next);
    assert_int_equal(pagedb_alloc_free_count(a), nlist);
  }
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/* A sync writes what changed, not the whole list. */
static void test_sync_is_incremental(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  for (int i = 0; i < 1100; i++)
    take(a);
  for (uint64_t id = 1; id <= 1000; id++)
    ok(pagedb_alloc_free(a, id));
  ok(pagedb_alloc_sync(a));
  uint64_t writes = fault_store_calls(disk, FAULT_WRITE);
  uint64_t syncs = fault_store_calls(disk, FAULT_SYNC);
  ok(pagedb_alloc_sync(a));
  assert_int_equal(fault_store_calls(disk, FAULT_WRITE), writes);
  assert_int_equal(fault_store_calls(disk, FAULT_SYNC), syncs);
  ok(pagedb_alloc_free(a, 1050));
  ok(pagedb_alloc_sync(a));
  assert_int_equal(fault_store_calls(disk, FAULT_WRITE), writes + 3);
  assert_int_equal(fault_store_calls(disk, FAULT_SYNC), syncs + 2);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/* ------------------------------------------------------------------ interop */

static void run_script(pagedb_alloc *a, FILE *script, char *out, size_t room)
{
  char line[64];
  size_t n = 0;
  while (fgets(line, sizeof line, script) != NULL) {
    unsigned long long id;
    if (line[0] == 'a')
      n += (size_t)snprintf(out + n, room - n, "a %llu\n",
                            (unsigned long long)take(a));
    else if (line[0] == 's') {
      ok(pagedb_alloc_sync(a));
      n += (size_t)snprintf(out + n, room - n,
                            "high_water %llu free_count %llu\n",
                            (unsigned long long)pagedb_alloc_high_water(a),
                            (unsigned long long)pagedb_alloc_free_count(a));
    } else if (sscanf(line, "f %llu", &id) == 1) {
      if (pagedb_alloc_free(a, id) == PAGEDB_OK)
        n += (size_t)snprintf(out + n, room - n, "f %llu ok\n", id);
      else
        n += (size_t)snprintf(out + n, room - n,
                              "f %llu ERR invalid page id to free: %llu\n", id,
                              id);
    }
  }
}

/* The other implementation's script gives its answers and its file. */
static void test_interop(void **state)
{
  (void)state;
  char name[128], answers[1000];
  const char *path = temp_path();
  pagedb_file_options fo = {.create = 1};
  pagedb_file *file;
  pagedb_store *store;
  pagedb_alloc *a;
  size_t ours_n, theirs_n, expect_n;
  snprintf(name, sizeof name, "%salloc-4096.script", vectors);
  FILE *script = fopen(name, "r");
  assert_non_null(script);
  ok(pagedb_file_open(path, &fo, &file));
  ok(pagedb_store_of_file(file, &store));
  ok(pagedb_alloc_open(store, NULL, &a));
  run_script(a, script, answers, sizeof answers);
  fclose(script);
  ok(pagedb_alloc_sync(a));
  pagedb_alloc_close(a);
  /* Reopened: high water, count, and the chain by allocating it backwards. */
  ok(pagedb_alloc_open(store, NULL, &a));
  size_t n = strlen(answers);
  for (int twice = 0; twice < 2; twice++)
    n += (size_t)snprintf(answers + n, sizeof answers - n,
                          "high_water %llu free_count %llu\n",
                          (unsigned long long)pagedb_alloc_high_water(a),
                          (unsigned long long)pagedb_alloc_free_count(a));
  pagedb_alloc_close(a);
  pagedb_store_close(store);
  pagedb_file_close(file);
  unsigned char *ours = read_whole(path, &ours_n);
  snprintf(name, sizeof name, "%salloc-4096.pages", vectors);
  unsigned char *theirs = read_whole(name, &theirs_n);
  snprintf(name, sizeof name, "%salloc-4096.expect", vectors);
  unsigned char *wanted = read_whole(name, &expect_n);
  assert_non_null(theirs);
  assert_int_equal(ours_n, theirs_n);
  assert_memory_equal(ours, theirs, ours_n);
  assert_true(expect_n > n);
  assert_memory_equal(answers, wanted, n);
  assert_memory_equal(wanted + n, "chain 2 1 5", 11);
  free(ours);
  free(theirs);
  free(wanted);

  /* And theirs opens here. */
  ok(pagedb_file_open(path, &(pagedb_file_options){.page_size = PAGE}, &file));
  ok(pagedb_store_of_file(file, &store));
  ok(pagedb_alloc_open(store, NULL, &a));
  assert_int_equal(take(a), 5);
  assert_int_equal(take(a), 1);
  assert_int_equal(take(a), 2);
  assert_int_equal(take(a), 6);
  pagedb_alloc_close(a);
  pagedb_store_close(store);
  pagedb_file_close(file);
  remove(path);
}

/* --------------------------------------------------------- hostile contents */

static void test_hostile(void **state)
{
  (void)state;
  static const struct {
    uint64_t head, next_new, count, link2, link3;
    int err;
  } cases[] = {
      {2, 5, 2, 3, UINT64_MAX, PAGEDB_OK},
      {2, 5, 1, 3, UINT64_MAX, PAGEDB_OK}, /* cut short by a power cut */
      {2, 5, 3, 3, UINT64_MAX, PAGEDB_ECHAIN},
      {2, 5, 2, UINT64_MAX, 0, PAGEDB_ECHAIN},
      {2, 5, 2, 2, 0, PAGEDB_ECHAIN},
      {2, 5, 3, 3, 2, PAGEDB_ECHAIN},
      {2, 5, 2, 0, 0, PAGEDB_ECHAIN},
      {2, 5, 2, 5, 0, PAGEDB_ECHAIN},
      {2, 5, 2, UINT64_MAX - 1, 0, PAGEDB_ECHAIN},
      {0, 5, 1, 0, 0, PAGEDB_ECHAIN},
      {9, 5, 1, 0, 0, PAGEDB_ECHAIN},
      {UINT64_MAX, 5, 1, 0, 0, PAGEDB_ECHAIN},
      {2, 5, 0, 0, 0, PAGEDB_ESUPERBLOCK},
      {2, 0, 1, 0, 0, PAGEDB_ESUPERBLOCK},
      {2, UINT64_MAX, 1, 0, 0, PAGEDB_ESUPERBLOCK},
      {2, 5, 5, 3, 4, PAGEDB_ESUPERBLOCK},
      {2, (uint64_t)1 << 61, (uint64_t)1 << 60, 3, 2, PAGEDB_ECHAIN},
      {(uint64_t)1 << 59, (uint64_t)1 << 61, 1, 3, 2, PAGEDB_ERANGE},
      {4, 5, 1, 0, 0, PAGEDB_EMAGIC}, /* page 4 is a hole */
      {UINT64_MAX, 5, 0, 0, 0, PAGEDB_OK},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fault_store *disk = fault_store_new(PAGE);
    pagedb_alloc *a = NULL;
    unsigned char zero[PAGE] = {0};
    fault_store_poke(disk, 4, zero);
    poke_super(disk, cases[i].head, cases[i].next_new, cases[i].count);
    poke_link(disk, 2, cases[i].link2);
    poke_link(disk, 3, cases[i].link3);
    int err = pagedb_alloc_open(fault_store_base(disk), NULL, &a);
    if (err == PAGEDB_ESHORT && cases[i].err == PAGEDB_ERANGE)
      err = PAGEDB_ERANGE; /* beyond the end, or beyond any offset */
    if (err != cases[i].err)
      print_error("case %u\n", (unsigned)i);
    expect(err, cases[i].err);
    pagedb_alloc_close(a);
    fault_store_free(disk);
  }
}

static void test_not_a_superblock(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a;
  unsigned char p[PAGE] = {0};
  fault_store_poke(disk, 0, p);
  fault_store_poke(disk, 1, p);
  expect(pagedb_alloc_open(fault_store_base(disk), NULL, &a), PAGEDB_EMAGIC);
  pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, 0, 0);
  fault_store_poke(disk, 0, p);
  expect(pagedb_alloc_open(fault_store_base(disk), NULL, &a),
         PAGEDB_ESUPERBLOCK);
  memcpy(p + AT, "PGSB\2", 5);
  pagedb_page_stamp(p, PAGE, PAGEDB_LEADING, 0, 0);
  fault_store_poke(disk, 0, p);
  expect(pagedb_alloc_open(fault_store_base(disk), NULL, &a),
         PAGEDB_ESUPERBLOCK);
  assert_int_equal(fault_store_calls(disk, FAULT_WRITE), 0);
  fault_store_free(disk);
}

/* Pages of which few fit what is written and read at once, and small ones. */
static void test_page_sizes(void **state)
{
  (void)state;
  static const struct {
    uint32_t size;
    unsigned ids;
  } cases[] = {{512, 700}, {65536, 100}};
  for (int c = 0; c < 2; c++) {
    fault_store *disk = fault_store_new(cases[c].size);
    pagedb_alloc *a = open_on(disk);
    static uint8_t is_free[1000];
    memset(is_free, 0, sizeof is_free);
    for (unsigned i = 0; i < cases[c].ids; i++)
      take(a);
    /* Every other one first: links that are not neighbours, too. */
    for (unsigned odd = 0; odd < 2; odd++)
      for (uint64_t id = 1 + odd; id <= cases[c].ids; id += 2) {
        ok(pagedb_alloc_free(a, id));
        is_free[id] = 1;
      }
    ok(pagedb_alloc_sync(a));
    pagedb_alloc_close(a);
    a = open_on(disk);
    assert_int_equal(pagedb_alloc_free_count(a), cases[c].ids);
    for (unsigned i = 0; i < cases[c].ids; i++)
      assert_int_equal(is_free[take(a)]--, 1);
    pagedb_alloc_close(a);
    fault_store_free(disk);
  }
}

/* The first of several batches of links fails: the others are not written, and
** the next sync writes them all. */
static void test_failing_batch_of_links(void **state)
{
  (void)state;
  enum { IDS = 600, BATCH = 256 };
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  for (unsigned i = 0; i < IDS; i++)
    take(a);
  for (uint64_t id = 1; id <= IDS; id++)
    ok(pagedb_alloc_free(a, id));
  uint64_t before = fault_store_calls(disk, FAULT_WRITE);
  fault_store_fail(disk, FAULT_WRITE, 3, 0, PAGEDB_EIO);
  expect(pagedb_alloc_sync(a), PAGEDB_EIO);
  assert_true(fault_store_calls(disk, FAULT_WRITE) - before <= BATCH);
  ok(pagedb_alloc_sync(a));
  pagedb_alloc_close(a);
  a = open_on(disk);
  assert_int_equal(pagedb_alloc_free_count(a), IDS);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

static int cannot_count(pagedb_store *s, uint64_t *pages)
{
  (void)pages;
  return pagedb_fault_set(PAGEDB_EIO, 5, s->name, PAGEDB_NONE, 0, 0, "count");
}

/* A store that does not know how long it is must not be taken for a new one. */
static void test_unknown_length(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_store blind = *fault_store_base(disk);
  pagedb_alloc *a;
  blind.count = cannot_count;
  expect(pagedb_alloc_open(&blind, NULL, &a), PAGEDB_EIO);
  assert_int_equal(fault_store_calls(disk, FAULT_WRITE), 0);
  fault_store_free(disk);
}

/* The last id, and nothing behind it. */
static void test_ids_run_out(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  uint64_t id = 0;
  poke_super(disk, UINT64_MAX, UINT64_MAX - 2, 0);
  pagedb_alloc *a = open_on(disk);
  assert_true(take(a) == UINT64_MAX - 2);
  expect(pagedb_alloc_new(a, &id), PAGEDB_EIDS);
  assert_int_equal(id, 0);
  ok(pagedb_alloc_free(a, UINT64_MAX - 2));
  assert_true(take(a) == UINT64_MAX - 2);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/* After a failed sync nothing that is on the durable list is handed out: which
** superblock the disk has is not known. */
static void test_nothing_after_failed_sync(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  uint64_t id;
  for (int i = 0; i < 5; i++)
    take(a);
  for (id = 1; id <= 3; id++)
    ok(pagedb_alloc_free(a, id));
  ok(pagedb_alloc_sync(a));
  fault_store_fail(disk, FAULT_SYNC, 1, 0, PAGEDB_ESYNC);
  expect(pagedb_alloc_new(a, &id), PAGEDB_ESYNC);
  uint64_t writes = fault_store_calls(disk, FAULT_WRITE);
  expect(pagedb_alloc_new(a, &id), PAGEDB_ESYNC);
  assert_int_equal(fault_store_calls(disk, FAULT_WRITE), writes);
  assert_int_equal(pagedb_alloc_free_count(a), 3);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/* -------------------------------------------------------------- power cuts */

/* A cut while the first superblock is written: it opens, as new. */
static void test_cut_at_birth(void **state)
{
  (void)state;
  for (uint64_t keep = 0; keep < 2; keep++) {
    fault_store *disk = fault_store_new(PAGE);
    pagedb_alloc *a;
    fault_store_fail(disk, FAULT_SYNC, 1, 0, PAGEDB_ESYNC);
    expect(pagedb_alloc_open(fault_store_base(disk), NULL, &a), PAGEDB_ESYNC);
    fault_store *cut = fault_store_cut(disk, keep);
    pagedb_alloc *b = open_on(cut);
    assert_int_equal(take(b), 1);
    pagedb_alloc_close(b);
    fault_store_free(cut);
    fault_store_free(disk);
  }
  fault_store *disk = fault_store_new(PAGE);
  unsigned char p[PAGE] = {0};
  fault_store_poke(disk, 0, p); /* the length got there, the page did not */
  pagedb_alloc *a = open_on(disk);
  assert_int_equal(take(a), 1);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

/*
** A world: disk, allocator, and what the last successful sync gave away. The
** user writes into every page that he is given, sometimes what looks like a
** link.
*/
typedef struct world {
  fault_store *disk;
  pagedb_alloc *alloc;
  uint64_t seed;
  uint8_t held[MOST_IDS];   /* handed out now */
  uint8_t synced[MOST_IDS]; /* handed out at the last sync, and since */
  uint64_t high;            /* high water of the last sync */
} world;

static void write_user_page(world *w, uint64_t id)
{
  unsigned char p[PAGE] = {0};
  void *page = p;
  uint64_t lsn = 0;
  int one;
  if (random_below(&w->seed, 2) == 0)
    random_bytes(&w->seed, p, PAGE);
  else
    put_le64(p + AT, random_below(&w->seed, 40));
  pagedb_run run = {
      .first = id, .count = 1, .pages = &page, .lsns = &lsn, .errs = &one};
  ok(fault_store_base(w->disk)->write(fault_store_base(w->disk), &run, 1));
}

/* The disk after a cut opens, and gives away nothing that was given away.
** Returns 0 if not. */
static int survives(const world *w, fault_store *cut)
{
  pagedb_alloc *a;
  int good = 1;
  if (pagedb_alloc_open(fault_store_base(cut), NULL, &a) != PAGEDB_OK)
    return 0;
  good = pagedb_alloc_high_water(a) >= w->high;
  for (uint64_t n = pagedb_alloc_free_count(a) + 1; good && n > 0; n--) {
    uint64_t id;
    if (pagedb_alloc_new(a, &id) != PAGEDB_OK)
      good = 0;
    else if (id < MOST_IDS && w->synced[id])
      good = 0;
  }
  pagedb_alloc_close(a);
  return good;
}

/* Cut in every way that is affordable. Returns how many states were bad. */
static unsigned cuts(world *w)
{
  unsigned n = fault_store_unsynced(w->disk), bad = 0;
  for (uint64_t keep = 0; n <= 5 && keep < (uint64_t)1 << n; keep++) {
    fault_store *cut = fault_store_cut(w->disk, keep);
    bad += !survives(w, cut);
    fault_store_free(cut);
  }
  for (int i = 0; i < 4; i++) {
    fault_store *cut = fault_store_cut_random(w->disk, next_random(&w->seed));
    bad += !survives(w, cut);
    fault_store_free(cut);
  }
  return bad;
}

/* Cut before every write and sync, those within the allocator's calls too. */
typedef struct cutter {
  world *w;
  unsigned states;
  unsigned bad;
  int inside;
} cutter;

static void cut_hook(void *arg, enum fault_kind kind, uint64_t page)
{
  cutter *c = arg;
  (void)page;
  if (kind == FAULT_READ || c->inside)
    return;
  c->inside = 1;
  c->bad += cuts(c->w);
  c->states++;
  c->inside = 0;
}

static void world_step(world *w)
{
  uint64_t id, what = random_below(&w->seed, 10);
  if (what < 5) {
    id = take(w->alloc);
    assert_true(id < MOST_IDS);
    assert_false(w->held[id]);
    w->held[id] = 1;
    write_user_page(w, id);
  } else if (what < 9) {
    for (int tries = 0; tries < 20; tries++) {
      id = 1 + random_below(&w->seed, pagedb_alloc_high_water(w->alloc));
      if (id < MOST_IDS && w->held[id]) {
        /* From the call of free on it is no longer the user's. */
        w->held[id] = w->synced[id] = 0;
        ok(pagedb_alloc_free(w->alloc, id));
        break;
      }
    }
  } else {
    ok(pagedb_alloc_sync(w->alloc));
    memcpy(w->synced, w->held, sizeof w->synced);
    w->high = pagedb_alloc_high_water(w->alloc);
  }
}

static cutter run_world(uint64_t seed, unsigned steps, int ignore_sync)
{
  static world w;
  memset(&w, 0, sizeof w);
  w.seed = seed;
  w.disk = fault_store_new(PAGE);
  w.alloc = open_on(w.disk);
  w.high = 1;
  fault_store_ignore_sync(w.disk, ignore_sync);
  cutter c = {.w = &w};
  fault_store_hook(w.disk, cut_hook, &c);
  for (unsigned i = 0; i < steps; i++)
    world_step(&w);
  fault_store_hook(w.disk, NULL, NULL);
  pagedb_alloc_close(w.alloc);
  fault_store_free(w.disk);
  return c;
}

static void test_power_cuts(void **state)
{
  (void)state;
  uint64_t seed = test_seed("power cuts", 31);
  unsigned states = 0;
  for (unsigned run = 0; run < scaled(20); run++) {
    cutter c = run_world(next_random(&seed), 120, 0);
    states += c.states;
    assert_int_equal(c.bad, 0);
  }
  print_message("%u cut points\n", states);
}

/* The control: on a disk whose sync does nothing the same test must find bad
** states, or it finds nothing at all. */
static void test_power_cuts_control(void **state)
{
  (void)state;
  assert_true(run_world(1, 120, 1).bad > 0);
}

/* ------------------------------------------- defects that must not be here */

/* Reuse a freed id, write to it, cut before the allocator's sync. */
static void test_cut_after_reuse(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk), *b;
  world w = {.disk = disk, .seed = 3};
  for (int i = 0; i < 10; i++)
    take(a);
  for (uint64_t id = 2; id < 8; id++)
    ok(pagedb_alloc_free(a, id));
  ok(pagedb_alloc_sync(a));
  uint64_t id = take(a);
  assert_int_equal(id, 7);
  write_user_page(&w, id);
  fault_store *cut = fault_store_cut(disk, UINT64_MAX);
  ok(pagedb_alloc_open(fault_store_base(cut), NULL, &b));
  pagedb_alloc_close(b);
  pagedb_alloc_close(a);
  fault_store_free(cut);
  fault_store_free(disk);
}

/* A freed page that is dirty in the pool does not overwrite its link. */
static void test_freed_page_leaves_the_pool(void **state)
{
  (void)state;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *s;
  pagedb_pin pin;
  pagedb_alloc *a;
  ok(pagedb_pool_open(&(pagedb_pool_options){.capacity = 16 * PAGE}, &pool));
  ok(pagedb_owner_open(pool, fault_store_base(disk), &owner));
  ok(pagedb_session_open(pool, &s));
  ok(pagedb_alloc_open(fault_store_base(disk), owner, &a));
  uint64_t id = take(a);
  take(a);
  ok(pagedb_fetch_new(s, owner, id, &pin));
  memset(pin.data + AT, 0xff, 100);
  pagedb_unlatch(&pin);
  expect(pagedb_alloc_free(a, id), PAGEDB_EBUSY);
  assert_int_equal(pagedb_alloc_free_count(a), 0);
  pagedb_unpin(&pin);
  ok(pagedb_alloc_free(a, id));
  assert_false(pagedb_resident(owner, id));
  ok(pagedb_alloc_sync(a));
  ok(pagedb_checkpoint(s, owner));
  pagedb_alloc_close(a);
  a = open_on(disk);
  assert_int_equal(pagedb_alloc_free_count(a), 1);
  assert_int_equal(take(a), id);
  pagedb_alloc_close(a);
  ok(pagedb_session_close(s));
  ok(pagedb_owner_close(owner));
  ok(pagedb_pool_close(pool));
  fault_store_free(disk);
}

/* ------------------------------------------------------------------- faults */

/* The nth read, write, sync fails: the right error, and afterwards a state that
** survives a cut and goes on. */
static void test_every_call_fails(void **state)
{
  (void)state;
  static world w;
  for (int kind = 0; kind < FAULT_KINDS; kind++)
    for (int on = 0; on < 2; on++)
      for (unsigned n = 1;; n++) {
        int code = kind == FAULT_SYNC ? PAGEDB_ESYNC : PAGEDB_EIO;
        int err = PAGEDB_OK, synced = 1;
        memset(&w, 0, sizeof w);
        w.seed = 5;
        w.disk = fault_store_new(PAGE);
        w.high = 1;
        fault_store_fail(w.disk, (enum fault_kind)kind, n, on, code);
        err = pagedb_alloc_open(fault_store_base(w.disk), NULL, &w.alloc);
        for (int i = 0; i < 120 && err == PAGEDB_OK; i++) {
          uint64_t id, what = random_below(&w.seed, 10);
          if (what == 9 || i == 60) {
            err = pagedb_alloc_sync(w.alloc);
            if (err == PAGEDB_OK) {
              memcpy(w.synced, w.held, sizeof w.synced);
              w.high = pagedb_alloc_high_water(w.alloc);
            }
          } else if (what < 5) {
            err = pagedb_alloc_new(w.alloc, &id);
            if (err == PAGEDB_OK)
              w.held[id] = 1;
          } else {
            id = 1 + random_below(&w.seed, pagedb_alloc_high_water(w.alloc));
            if (w.held[id]) {
              w.held[id] = w.synced[id] = 0;
              ok(pagedb_alloc_free(w.alloc, id));
            }
          }
          if (i % 40 == 39 && err == PAGEDB_OK) {
            pagedb_alloc_close(w.alloc);
            w.alloc = NULL;
            memcpy(w.held, w.synced, sizeof w.held);
            err = pagedb_alloc_open(fault_store_base(w.disk), NULL, &w.alloc);
          }
        }
        if (err != PAGEDB_OK)
          expect(err, code);
        fault_store_fail(w.disk, (enum fault_kind)kind, 0, 0, 0);
        if (w.alloc != NULL && err != PAGEDB_OK) {
          synced = pagedb_alloc_sync(w.alloc);
          if (kind == FAULT_SYNC)
            expect(synced, PAGEDB_ESYNC);
          else
            ok(synced);
        }
        pagedb_alloc_close(w.alloc);
        for (int i = 0; i < 4; i++) {
          fault_store *cut =
              fault_store_cut_random(w.disk, n * 4 + (unsigned)i);
          assert_true(survives(&w, cut) || w.high == 1);
          fault_store_free(cut);
        }
        fault_store_free(w.disk);
        if (err == PAGEDB_OK)
          break;
      }
}

/* ------------------------------------------------------------------ threads */

typedef struct churn {
  pagedb_alloc *a;
  pthread_mutex_t *lock;
  uint8_t *held;
  uint64_t seed;
  unsigned steps;
} churn;

static void *churn_run(void *arg)
{
  churn *c = arg;
  uint64_t mine[32];
  int n = 0;
  for (unsigned i = 0; i < c->steps; i++) {
    if (n < 32 && random_below(&c->seed, 2) == 0) {
      uint64_t id;
      if (pagedb_alloc_new(c->a, &id) != PAGEDB_OK)
        abort();
      pthread_mutex_lock(c->lock);
      if (c->held[id]++)
        abort();
      pthread_mutex_unlock(c->lock);
      mine[n++] = id;
    } else if (n > 0) {
      uint64_t id = mine[--n];
      pthread_mutex_lock(c->lock);
      c->held[id]--;
      pthread_mutex_unlock(c->lock);
      if (pagedb_alloc_free(c->a, id) != PAGEDB_OK)
        abort();
    }
    if (random_below(&c->seed, 100) == 0 &&
        pagedb_alloc_sync(c->a) != PAGEDB_OK)
      abort();
  }
  return NULL;
}

static void test_threads(void **state)
{
  (void)state;
  static uint8_t held[MOST_IDS];
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  fault_store *disk = fault_store_new(PAGE);
  pagedb_alloc *a = open_on(disk);
  churn c[8];
  pthread_t thread[8];
  uint64_t seed = test_seed("threads", 9);
  memset(held, 0, sizeof held);
  for (int i = 0; i < 8; i++) {
    c[i] = (churn){a, &lock, held, next_random(&seed), scaled(3000)};
    assert_int_equal(pthread_create(&thread[i], NULL, churn_run, &c[i]), 0);
  }
  for (int i = 0; i < 8; i++)
    pthread_join(thread[i], NULL);
  ok(pagedb_alloc_sync(a));
  pagedb_alloc_close(a);
  a = open_on(disk);
  for (uint64_t n = pagedb_alloc_free_count(a); n > 0; n--)
    assert_int_equal(held[take(a)], 0);
  pagedb_alloc_close(a);
  fault_store_free(disk);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ids),
      cmocka_unit_test(test_random_against_model),
      cmocka_unit_test(test_sync_is_incremental),
      cmocka_unit_test(test_interop),
      cmocka_unit_test(test_hostile),
      cmocka_unit_test(test_not_a_superblock),
      cmocka_unit_test(test_page_sizes),
      cmocka_unit_test(test_failing_batch_of_links),
      cmocka_unit_test(test_unknown_length),
      cmocka_unit_test(test_ids_run_out),
      cmocka_unit_test(test_nothing_after_failed_sync),
      cmocka_unit_test(test_cut_at_birth),
      cmocka_unit_test(test_power_cuts),
      cmocka_unit_test(test_power_cuts_control),
      cmocka_unit_test(test_cut_after_reuse),
      cmocka_unit_test(test_freed_page_leaves_the_pool),
      cmocka_unit_test(test_every_call_fails),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
