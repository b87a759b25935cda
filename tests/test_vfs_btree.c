/*
** test_vfs_btree.c - the map of a database's pages (vfs/btree.c): right for a sound
** file, and for one that nobody made: bytes changed at random, pages that cannot
** be read, lists that run in circles. Every page gets one kind, and every name can
** be read; no memory gives no map.
**
** Linked with --wrap for the allocation functions.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../vfs/btree.h"
#include "sqlutil.h"

enum { SIZE = 512, MOST = 400, LOCK_BYTE = 0x40000000 };

/* ------------------------------------------------------------------ memory */

static unsigned left; /* allocations before the one that fails; 0: none does */

static int fails(void)
{
  return left > 0 && --left == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
  return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
  return fails() ? NULL : __real_realloc(p, n);
}

/* ------------------------------------------------------------------- images */

typedef struct image {
  uint8_t bytes[MOST * SIZE];
  uint64_t pages;
  uint64_t unreadable; /* this one and none else; PAGEDB_NONE: none */
} image;

static int read_image(void *arg, uint64_t id, uint8_t *buf)
{
  const image *m = arg;
  if (id == m->unreadable || id >= m->pages)
    return 0;
  memcpy(buf, m->bytes + id * SIZE, SIZE);
  return 1;
}

static uint8_t *page_at(image *m, uint64_t number)
{
  return m->bytes + (number - 1) * SIZE;
}

/* Of stock SQLite, with pages of every kind. */
static void make(image *m)
{
  size_t n = 0;
  const char *path = db_path("btree.db");
  sqlite3 *db = db_open(path, "unix");
  run(db,
      "PRAGMA page_size=%d; PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE "
      "t(id INTEGER PRIMARY KEY, k, v); CREATE INDEX i ON t(k); CREATE VIEW "
      "w AS SELECT 1; CREATE TABLE gone(x)",
      SIZE);
  run(db,
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
      "n<300) INSERT INTO t SELECT n, printf('%%040d', n*7%%301), "
      "iif(n%%40=0, hex(zeroblob(900)), n) FROM c;"
      "INSERT INTO gone SELECT hex(zeroblob(100)) FROM t LIMIT 150; "
      "INSERT INTO t VALUES(1000, hex(zeroblob(700)), 5); DELETE FROM gone");
  db_close(db);
  uint8_t *bytes = read_whole(path, &n);
  assert_non_null(bytes);
  assert_in_range(n, 100 * SIZE, sizeof m->bytes);
  memcpy(m->bytes, bytes, n);
  free(bytes);
  m->pages = n / SIZE;
  m->unreadable = UINT64_MAX;
}

static page_map *map_of(image *m)
{
  return page_map_make(read_image, m, SIZE, 0, m->pages);
}

static unsigned count(const page_map *map, page_kind kind)
{
  unsigned n = 0;
  for (uint64_t id = 0; id < map->pages; id++)
    n += map->kind[id] == kind;
  return n;
}

static uint64_t first_of(const page_map *map, page_kind kind)
{
  for (uint64_t id = 0; id < map->pages; id++)
    if (map->kind[id] == kind)
      return id + 1;
  fail_msg("no page is: %s", page_kind_name(kind));
  return 0;
}

/* What holds for whatever was read. */
static void assert_sane(const page_map *map, const image *m)
{
  assert_non_null(map);
  assert_true(map->pages == m->pages);
  for (uint64_t id = 0; id < map->pages; id++) {
    assert_in_range(map->kind[id], PAGE_UNKNOWN, PAGE_DAMAGED);
    assert_true(strlen(page_kind_name((page_kind)map->kind[id])) > 3);
    assert_true(map->object[id] <= map->objects);
    assert_true(strlen(page_map_object(map, id)) < 2 * SIZE);
  }
}

/* -------------------------------------------------------------------- tests */

static void test_sound(void **state)
{
  (void)state;
  static image m;
  static const page_kind kinds[] = {PAGE_TABLE_INTERIOR, PAGE_TABLE_LEAF,
                                    PAGE_INDEX_INTERIOR, PAGE_INDEX_LEAF,
                                    PAGE_OVERFLOW,       PAGE_FREE_TRUNK,
                                    PAGE_FREE_LEAF,      PAGE_POINTER_MAP};
  make(&m);
  page_map *map = map_of(&m);
  assert_sane(map, &m);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    assert_true(count(map, kinds[i]) > 0);
  assert_int_equal(count(map, PAGE_UNKNOWN), 0);
  assert_int_equal(count(map, PAGE_DAMAGED), 0);
  assert_string_equal(page_map_object(map, 0), "table sqlite_schema");
  assert_string_equal(
      page_map_object(map, first_of(map, PAGE_INDEX_INTERIOR) - 1), "index i");
  page_map_free(map);
  page_map_free(NULL);
}

/* A page that cannot be read takes with it what only it knows of. */
static void test_unreadable(void **state)
{
  (void)state;
  static image m;
  make(&m);
  page_map *sound = map_of(&m);
  m.unreadable = 0;
  page_map *map = map_of(&m);
  assert_sane(map, &m);
  assert_int_equal(count(map, PAGE_UNKNOWN), m.pages);
  page_map_free(map);
  m.unreadable = first_of(sound, PAGE_FREE_TRUNK) - 1;
  map = map_of(&m);
  assert_true(count(map, PAGE_FREE_LEAF) < count(sound, PAGE_FREE_LEAF));
  page_map_free(map);
  m.unreadable = first_of(sound, PAGE_OVERFLOW) - 1;
  map = map_of(&m);
  assert_int_equal(map->kind[m.unreadable], PAGE_OVERFLOW);
  page_map_free(map);
  m.unreadable = first_of(sound, PAGE_INDEX_LEAF) - 1;
  map = map_of(&m);
  assert_int_equal(map->kind[m.unreadable], PAGE_DAMAGED);
  assert_int_equal(count(map, PAGE_DAMAGED), 1);
  page_map_free(map);
  page_map_free(sound);
  m.pages = 0;
  map = map_of(&m);
  assert_sane(map, &m);
  page_map_free(map);
}

/* Lists that run in circles, and numbers of no page. */
static void test_free_list(void **state)
{
  (void)state;
  static image m;
  make(&m);
  page_map *sound = map_of(&m);
  uint32_t trunk = get_be32(m.bytes + 32);
  uint32_t leaves = get_be32(page_at(&m, trunk) + 4);
  unsigned all = count(sound, PAGE_FREE_LEAF);
  assert_true(trunk > 0 && leaves > 2);
  uint32_t next = get_be32(page_at(&m, trunk));
  uint8_t *leaf = page_at(&m, trunk) + 8;
  page_map_free(sound);

  static const uint32_t odd[] = {0, UINT32_MAX, MOST * 2};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    uint32_t was = get_be32(leaf);
    put_be32(leaf, odd[i]);
    page_map *map = map_of(&m);
    assert_sane(map, &m);
    assert_int_equal(count(map, PAGE_FREE_LEAF), all - 1);
    assert_int_equal(map->kind[was - 1], PAGE_UNKNOWN);
    page_map_free(map);
    put_be32(leaf, was);
  }
  put_be32(page_at(&m, trunk) + 4, UINT32_MAX); /* more than it has room for */
  page_map *map = map_of(&m);
  assert_sane(map, &m);
  assert_true(count(map, PAGE_FREE_LEAF) >= all);
  page_map_free(map);
  put_be32(page_at(&m, trunk) + 4, leaves);
  put_be32(page_at(&m, trunk), trunk); /* itself */
  map = map_of(&m);
  assert_sane(map, &m);
  assert_int_equal(count(map, PAGE_FREE_TRUNK), 1);
  page_map_free(map);
  put_be32(page_at(&m, trunk), next);
  for (size_t i = 1; i < sizeof odd / sizeof odd[0]; i++) {
    put_be32(m.bytes + 32, odd[i]);
    map = map_of(&m);
    assert_sane(map, &m);
    assert_int_equal(count(map, PAGE_FREE_TRUNK), 0);
    page_map_free(map);
  }
}

static void test_circles(void **state)
{
  (void)state;
  static image m;
  make(&m);
  page_map *sound = map_of(&m);
  uint64_t chain = first_of(sound, PAGE_OVERFLOW);
  uint64_t inner = first_of(sound, PAGE_TABLE_INTERIOR);
  unsigned leaves = count(sound, PAGE_TABLE_LEAF);
  static const uint32_t odd[] = {1, UINT32_MAX, MOST * 2};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    put_be32(page_at(&m, chain), i == 0 ? (uint32_t)chain : odd[i]);
    page_map *map = map_of(&m);
    assert_sane(map, &m);
    assert_int_equal(map->kind[chain - 1], PAGE_OVERFLOW);
    page_map_free(map);
  }
  /* Children that are the page itself, page 1, no page. */
  uint8_t *right = page_at(&m, inner) + (inner == 1 ? 108 : 8);
  static const uint32_t child[] = {0, 1, MOST * 2, UINT32_MAX};
  for (size_t i = 0; i < sizeof child / sizeof child[0]; i++) {
    put_be32(right, child[i]);
    page_map *map = map_of(&m);
    assert_sane(map, &m);
    assert_true(count(map, PAGE_TABLE_LEAF) < leaves);
    page_map_free(map);
  }
  page_map_free(sound);
}

/* Where the first cell of a page stands. */
static uint8_t *first_cell(image *m, uint64_t number, unsigned head)
{
  uint8_t *page = page_at(m, number);
  return page + get_be16(page + head);
}

/* Cells that do not fit, lengths of nine bytes, a child that two cells have. */
static void test_cells(void **state)
{
  (void)state;
  static image m, was;
  make(&was);
  page_map *sound = map_of(&was);
  uint64_t inner = first_of(sound, PAGE_TABLE_INTERIOR);
  uint64_t leaf = 2;
  while (sound->kind[leaf - 1] != PAGE_TABLE_LEAF ||
         get_be16(page_at(&was, leaf) + 3) == 0)
    leaf++;
  unsigned leaves = count(sound, PAGE_TABLE_LEAF);
  assert_true(inner != 1);

  m = was; /* an interior cell in the page's last two bytes */
  page_at(&m, inner)[12] = (SIZE - 2) >> 8;
  page_at(&m, inner)[13] = (SIZE - 2) & 0xff;
  page_map *map = map_of(&m);
  assert_sane(map, &m);
  assert_int_equal(count(map, PAGE_TABLE_LEAF), leaves - 1);
  page_map_free(map);

  m = was; /* the same child twice, and another not at all */
  memcpy(first_cell(&m, inner, 12), first_cell(&m, inner, 14), 4);
  map = map_of(&m);
  assert_sane(map, &m);
  assert_int_equal(count(map, PAGE_TABLE_LEAF), leaves - 1);
  page_map_free(map);

  /* A row's number is no payload: it leads to no overflow page. Of 2071 bytes 39
  ** would stand here. */
  m = was;
  uint8_t *page = page_at(&m, inner);
  uint32_t lost = get_be32(first_cell(&was, inner, 14));
  memcpy(page + 100, first_cell(&was, inner, 12), 4);
  memset(page + 104, 0, 200);
  memcpy(page + 3, "\0\1", 2); /* one cell, at 100 */
  memcpy(page + 12, "\0\144", 2);
  memcpy(page + 104, "\x90\x17", 2);
  put_be32(page + 107 + 39, lost);
  map = map_of(&m);
  assert_sane(map, &m);
  assert_int_equal(map->kind[lost - 1], PAGE_UNKNOWN);
  page_map_free(map);

  /* A payload, a row's number, and more columns than a row of the schema has, of
  ** nine bytes each. */
  for (unsigned at = 0; at < 3; at++) {
    m = was;
    uint8_t *cell = first_cell(&m, leaf, 8);
    memset(cell + at, 0xff, 9);
    map = map_of(&m);
    assert_sane(map, &m);
    assert_int_equal(map->kind[leaf - 1], PAGE_TABLE_LEAF);
    page_map_free(map);
  }
  /* A root page that is the number 1, and one that is beyond 32 bits. */
  static const uint8_t types[] = {9, 6, 8};
  for (size_t i = 0; i < sizeof types; i++) {
    m = was;
    uint8_t *cell = m.bytes + get_be16(m.bytes + 108);
    assert_int_equal(cell[0] < 0x80 && cell[1] < 0x80, 1);
    cell[6] = types[i]; /* length, row, header's length, three columns before */
    map = map_of(&m);
    assert_sane(map, &m);
    assert_int_equal(map->kind[0], PAGE_TABLE_LEAF);
    page_map_free(map);
  }
  page_map_free(sound);
}

/* Bytes of pages that mean something are changed, a few in each round. */
static void test_random_bytes(void **state)
{
  (void)state;
  static image sound, m;
  uint64_t seed = test_seed("btree", 11);
  unsigned rounds = scaled(4000), other = 0;
  make(&sound);
  page_map *right = map_of(&sound);
  for (unsigned i = 0; i < rounds; i++) {
    m = sound;
    for (uint64_t n = 1 + random_below(&seed, 4); n > 0; n--) {
      uint64_t id =
          random_below(&seed, 3) == 0 ? 0 : random_below(&seed, m.pages);
      uint64_t at = random_below(&seed, 4) == 0 ? random_below(&seed, 40)
                                                : random_below(&seed, SIZE);
      if (id == 0 && at < 100 && random_below(&seed, 4) != 0)
        at += 100;
      static const uint8_t likely[] = {0, 1, 2, 5, 10, 13, 0x7f, 0x80, 0xff};
      m.bytes[id * SIZE + at] = random_below(&seed, 2) == 0
                                    ? likely[random_below(&seed, sizeof likely)]
                                    : (uint8_t)random_below(&seed, 256);
    }
    page_map *map = map_of(&m);
    assert_sane(map, &m);
    other += memcmp(map->kind, right->kind, m.pages) != 0;
    page_map_free(map);
  }
  print_message("%u of %u maps differ from the sound one\n", other, rounds);
  assert_true(other > rounds / 20);
  page_map_free(right);
}

static void test_no_memory(void **state)
{
  (void)state;
  static image m;
  unsigned none = 0;
  make(&m);
  for (unsigned n = 1;; n++) {
    left = n;
    page_map *map = map_of(&m);
    int failed = left == 0;
    left = 0;
    assert_true((map == NULL) == failed);
    page_map_free(map);
    if (!failed)
      break;
    none++;
  }
  assert_true(none > 10);
}

/* Of 1024 bytes each: one pointer map falls on the page with the lock byte, and is
** the page behind it. */
static int read_large(void *arg, uint64_t id, uint8_t *buf)
{
  (void)arg;
  memset(buf, 0, 1024);
  if (id == 0) {
    put_be32(buf + 52, 1);
    buf[100] = 13;
  }
  return 1;
}

static void test_lock_page(void **state)
{
  (void)state;
  const uint64_t lock = LOCK_BYTE / 1024;
  page_map *map = page_map_make(read_large, NULL, 1024, 0, lock + 3);
  assert_non_null(map);
  assert_int_equal(map->kind[0], PAGE_TABLE_LEAF);
  assert_int_equal(map->kind[lock], PAGE_LOCK);
  assert_int_equal(map->kind[lock + 1], PAGE_POINTER_MAP);
  assert_int_equal(map->kind[lock + 2], PAGE_UNKNOWN);
  page_map_free(map);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sound),     cmocka_unit_test(test_unreadable),
      cmocka_unit_test(test_free_list), cmocka_unit_test(test_circles),
      cmocka_unit_test(test_cells),     cmocka_unit_test(test_random_bytes),
      cmocka_unit_test(test_no_memory), cmocka_unit_test(test_lock_page),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
