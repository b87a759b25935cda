/*
** test_page.c - the record: its bytes, the order in which it is judged, and
** that nothing which can happen to a page goes unseen.
**
** (A page that is whole, of another file, but with the same id cannot be told
** from ours: the record has no file in it. One with another id can.)
*/
#include <stdlib.h>
#include <string.h>

#include "endian.h"
#include "fault.h"
#include "guard.h"
#include "pagedb.h"
#include "util.h"

typedef struct kind {
  uint32_t size;
  pagedb_placement placement;
} kind;

static unsigned char *make(kind k, uint64_t id, uint64_t lsn, uint64_t seed)
{
  unsigned char *p = malloc(k.size);
  random_bytes(&seed, p, k.size);
  pagedb_page_stamp(p, k.size, k.placement, id, lsn);
  return p;
}

static int verify(const unsigned char *p, kind k, uint64_t id)
{
  return pagedb_page_verify(p, k.size, k.size, k.placement, id, NULL);
}

static void check_layout(kind k)
{
  int trailing = k.placement == PAGEDB_TRAILING;
  unsigned char *p = malloc(k.size), *rest = malloc(k.size);
  memset(p, 0xaa, k.size);
  pagedb_page_stamp(p, k.size, k.placement, 0x1122334455667788u,
                    0x99aabbccddeeff00u);
  const unsigned char *r = p + (trailing ? k.size - 32 : 0);
  assert_memory_equal(r, "PGDB", 4);
  assert_memory_equal(r + 4, "\1\0", 2);
  assert_memory_equal(r + 6, trailing ? "\1\0" : "\0\0", 2);
  assert_memory_equal(r + 8, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
  assert_memory_equal(r + 16, "\x00\xff\xee\xdd\xcc\xbb\xaa\x99", 8);
  assert_memory_equal(r + 28, "\0\0\0\0", 4);
  size_t before = (size_t)(r - p) + 24;
  memcpy(rest, p, before);
  memcpy(rest + before, p + before + 4, k.size - before - 4);
  assert_int_equal(get_le32(r + 24), pagedb_crc32c(rest, k.size - 4));
  memset(rest, 0xaa, k.size);
  assert_memory_equal(trailing ? p : p + 32, rest, k.size - 32);
  pagedb_record got;
  pagedb_record_get(p, k.size, k.placement, &got);
  assert_int_equal(got.magic, PAGEDB_MAGIC);
  assert_int_equal(got.version, 1);
  assert_int_equal(got.flags, trailing);
  assert_true(got.page == 0x1122334455667788u);
  assert_true(got.lsn == 0x99aabbccddeeff00u);
  assert_int_equal(got.crc, get_le32(r + 24));
  assert_int_equal(got.reserved, 0);
  free(rest);
  free(p);
}

static void test_layout(void **state)
{
  (void)state;
  for (uint32_t size = 512; size <= 1048576; size *= 2)
    for (int trailing = 0; trailing < 2; trailing++) {
      kind k = {size, trailing ? PAGEDB_TRAILING : PAGEDB_LEADING};
      if (pagedb_page_size_ok(size, k.placement))
        check_layout(k);
    }
}

static void test_sizes(void **state)
{
  (void)state;
  for (uint32_t size = 1; size != 0; size <<= 1) {
    assert_int_equal(pagedb_page_size_ok(size, PAGEDB_LEADING),
                     size >= 4096 && size <= 1048576);
    assert_int_equal(pagedb_page_size_ok(size, PAGEDB_TRAILING),
                     size >= 512 && size <= 65536);
    assert_false(pagedb_page_size_ok(size + 1, PAGEDB_LEADING) && size > 1);
  }
  assert_false(pagedb_page_size_ok(0, PAGEDB_TRAILING));
  for (uint32_t size = 512; size <= 65536; size *= 2) {
    assert_true(pagedb_is_lock_page(0x40000000 / size, size));
    assert_false(pagedb_is_lock_page(0x40000000 / size + 1, size));
    assert_false(pagedb_is_lock_page(0x40000000 / size - 1, size));
  }
}

/* Faults are mended one by one; each time the next check in order speaks. */
static void test_order(void **state)
{
  (void)state;
  kind k = {4096, PAGEDB_LEADING};
  uint64_t lsn = 5;
  unsigned char *p = make(k, 8, 99, 1);
  p[0] ^= 1;
  p[4] = 2;
  p[1000] ^= 1;
  expect(pagedb_page_verify(p, 4095, 4096, PAGEDB_LEADING, 7, &lsn),
         PAGEDB_ESHORT);
  assert_int_equal(pagedb_last_fault()->found, 4095);
  expect(verify(p, k, 7), PAGEDB_EMAGIC);
  p[0] ^= 1;
  expect(verify(p, k, 7), PAGEDB_EVERSION);
  assert_int_equal(pagedb_last_fault()->found, 2);
  p[4] = 1;
  expect(verify(p, k, 7), PAGEDB_ECRC);
  p[1000] ^= 1;
  expect(verify(p, k, 7), PAGEDB_EPAGEID);
  assert_int_equal(pagedb_last_fault()->found, 8);
  assert_int_equal(pagedb_last_fault()->expected, 7);
  assert_int_equal(pagedb_last_fault()->page, 7);
  assert_int_equal(lsn, 5);
  ok(pagedb_page_verify(p, 4096, 4096, PAGEDB_LEADING, 8, &lsn));
  assert_int_equal(lsn, 99);
  free(p);
}

static void test_every_bit(void **state)
{
  static const kind kinds[] = {{512, PAGEDB_TRAILING},
                               {4096, PAGEDB_TRAILING},
                               {4096, PAGEDB_LEADING},
                               {16384, PAGEDB_TRAILING},
                               {16384, PAGEDB_LEADING}};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    for (uint64_t id = 0; id < 2; id++) {
      kind k = kinds[i];
      if (k.size > 4096 && scaled(5) == 1)
        continue;
      for (int guard = 0; guard < 2; guard++) {
        unsigned char *p = make(k, id, 3, i);
        if (guard) {
          p[18] = 0x52;
          pagedb_page_stamp(p, k.size, k.placement, id, 3);
        }
        for (uint32_t bit = 0; bit < k.size * 8; bit++) {
          p[bit / 8] ^= (unsigned char)(1 << bit % 8);
          if (verify(p, k, id) == PAGEDB_OK) {
            /* Flags and reserved are covered by the CRC, so nothing passes. */
            print_error("size %u bit %u\n", k.size, bit);
            fail();
          }
          p[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        ok(verify(p, k, id));
        free(p);
      }
    }
}

/* The guard can be set and removed without a new stamp, nothing else can. */
static void test_guard(void **state)
{
  (void)state;
  kind k = {1024, PAGEDB_TRAILING};
  for (int version = 1; version <= 2; version++) {
    unsigned char *p = make(k, 0, 1, 4);
    p[18] = (unsigned char)version;
    pagedb_page_stamp(p, k.size, k.placement, 0, 1);
    p[18] |= 0x50;
    ok(verify(p, k, 0));
    p[18] ^= 3;
    expect(verify(p, k, 0), PAGEDB_ECRC);
    p[18] = (unsigned char)(0x60 | version);
    expect(verify(p, k, 0), PAGEDB_ECRC);
    free(p);
    p = make(k, 1, 1, 4);
    p[18] = 0x51;
    pagedb_page_stamp(p, k.size, k.placement, 1, 1);
    p[18] = 0x01;
    expect(verify(p, k, 1), PAGEDB_ECRC);
    free(p);
  }
}

/* Who bumps the counter keeps the page count believed, if it was. */
static void test_change_counter(void **state)
{
  (void)state;
  for (uint32_t apart = 0; apart < 2; apart++) {
    unsigned char head[100] = {0};
    put_be32(head + 24, 41 + apart);
    put_be32(head + 92, 41);
    bump_change_counter(head);
    assert_int_equal(get_be32(head + 24), 42 + apart);
    assert_int_equal(get_be32(head + 92), apart ? 41 : 42);
  }
}

static void check_torn(kind k, const unsigned char *now,
                       const unsigned char *before, int zeros)
{
  unsigned char *p = malloc(k.size);
  for (uint32_t at = 512; at < k.size; at += 512) {
    memcpy(p, now, at);
    memcpy(p + at, before + at, k.size - at);
    int err = verify(p, k, 5);
    assert_true(err == PAGEDB_ECRC || (zeros && err == PAGEDB_EMAGIC));
    memcpy(p, before, at);
    memcpy(p + at, now + at, k.size - at);
    err = verify(p, k, 5);
    assert_true(err == PAGEDB_ECRC || (zeros && err == PAGEDB_EMAGIC));
  }
  free(p);
}

static void test_torn(void **state)
{
  static const kind kinds[] = {{1024, PAGEDB_TRAILING},
                               {4096, PAGEDB_TRAILING},
                               {4096, PAGEDB_LEADING},
                               {65536, PAGEDB_TRAILING},
                               {65536, PAGEDB_LEADING}};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    kind k = kinds[i];
    unsigned char *now = make(k, 5, 2, 10), *before = make(k, 5, 1, 11);
    unsigned char *zero = calloc(1, k.size), *other = make(k, 6, 2, 12);
    uint64_t seed = 13;
    check_torn(k, now, before, 0);
    check_torn(k, now, zero, 1);
    random_bytes(&seed, zero, k.size);
    check_torn(k, now, zero, 1);
    expect(verify(other, k, 5),
           PAGEDB_EPAGEID); /* swapped, or another file's */
    free(now);
    free(before);
    free(zero);
    free(other);
  }
}

static void test_random_pages(void **state)
{
  (void)state;
  uint64_t seed = test_seed("random pages", 8);
  for (unsigned i = 0; i < scaled(2000); i++) {
    int trailing = (int)random_below(&seed, 2);
    uint32_t size = trailing ? 512u << random_below(&seed, 8)
                             : 4096u << random_below(&seed, 6);
    kind k = {size, trailing ? PAGEDB_TRAILING : PAGEDB_LEADING};
    uint64_t id = next_random(&seed) >> random_below(&seed, 64), lsn;
    uint64_t wanted = next_random(&seed);
    unsigned char *p = make(k, id, wanted, next_random(&seed));
    ok(pagedb_page_verify(p, size, size, k.placement, id, &lsn));
    assert_true(lsn == wanted);
    uint32_t at = (uint32_t)random_below(&seed, size);
    p[at] ^= (unsigned char)(1 + random_below(&seed, 255));
    assert_int_not_equal(verify(p, k, id), PAGEDB_OK);
    free(p);
  }
}

static void test_messages(void **state)
{
  (void)state;
  char b[400];
  for (int err = 0; err <= PAGEDB_EUNSTAMPED; err++) {
    assert_memory_equal(pagedb_err_name(err), "PAGEDB_", 7);
    assert_int_not_equal(pagedb_err_name(err)[7], '?');
    assert_true(strlen(pagedb_err_sentence(err)) > 5);
    assert_int_equal(pagedb_err_sqlite(err) == 0, err == 0);
  }
  assert_string_equal(pagedb_err_name(PAGEDB_EUNSTAMPED + 1), "PAGEDB_?");
  assert_string_equal(pagedb_err_name(-1), "PAGEDB_?");
  pagedb_fault_set(PAGEDB_ECRC, 0, "a.pages", 7, 0x12, 0x34, "extra");
  assert_string_equal(
      pagedb_fault_message(pagedb_last_fault(), b, sizeof b),
      "a.pages: page 7: the page's checksum does not match its content: found "
      "0x12, expected 0x34: extra");
  assert_int_equal(strlen(pagedb_fault_message(pagedb_last_fault(), b, 10)), 9);
  pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0, NULL);
  assert_string_equal(pagedb_fault_message(pagedb_last_fault(), b, sizeof b),
                      "the system failed to read or write (system error 5)");
  pagedb_fault_set(PAGEDB_ESHORT, 0, "b", PAGEDB_NONE, 0, 9, NULL);
  assert_non_null(strstr(pagedb_fault_message(pagedb_last_fault(), b, sizeof b),
                         ": found 0x0, expected 0x9"));
  /* Of the fault that there is, with another page. */
  pagedb_fault_set(PAGEDB_ERANGE, 27, "a.db", 3, 0, 0, "too long");
  pagedb_fault_set(PAGEDB_ERANGE, 27, pagedb_last_fault()->path, 4, 0, 0,
                   pagedb_last_fault()->what);
  assert_string_equal(pagedb_fault_message(pagedb_last_fault(), b, sizeof b),
                      "a.db: page 4: it lies beyond what is possible: too long "
                      "(system error 27)");
  /* What is too long loses its end, a path its beginning. */
  char lengthy[400];
  memset(lengthy, 'x', sizeof lengthy - 1);
  lengthy[0] = 'a';
  lengthy[sizeof lengthy - 2] = 'z';
  lengthy[sizeof lengthy - 1] = 0;
  pagedb_fault_set(PAGEDB_EIO, 0, lengthy, 4, 0, 0, lengthy);
  const pagedb_fault *f = pagedb_last_fault();
  assert_int_equal(strlen(f->what), sizeof f->what - 1);
  assert_int_equal(strlen(f->path), sizeof f->path - 1);
  assert_memory_equal(f->what, "ax", 2);
  assert_string_equal(f->path + sizeof f->path - 3, "xz");
  static const struct {
    int err;
    const char *status;
  } said[] = {{PAGEDB_OK, "ok"},
              {PAGEDB_EUNSTAMPED, "no stamp"},
              {PAGEDB_EMAGIC, "bad magic"},
              {PAGEDB_EVERSION, "bad version"},
              {PAGEDB_ECRC, "bad crc"},
              {PAGEDB_EPAGEID, "other page"},
              {PAGEDB_ESHORT, "short"},
              {PAGEDB_EIO, "unreadable"}};
  for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
    assert_string_equal(fault_status(said[i].err), said[i].status);
  memset(b, 'x', 399);
  b[399] = 0;
  pagedb_fault_set(PAGEDB_EIO, 5, b, PAGEDB_NONE, 0, 0, b);
  assert_int_equal(strlen(pagedb_last_fault()->path), 255);
  assert_int_equal(strlen(pagedb_last_fault()->what), 95);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_layout),   cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_order),    cmocka_unit_test(test_every_bit),
      cmocka_unit_test(test_guard),    cmocka_unit_test(test_change_counter),
      cmocka_unit_test(test_torn),     cmocka_unit_test(test_random_pages),
      cmocka_unit_test(test_messages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
