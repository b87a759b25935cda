/*
** test_crc32c.c - every path of the checksum that this processor has, against
** published vectors and a bitwise implementation of its own.
*/
#include <stdlib.h>
#include <string.h>

#include "crc32c_int.h"
#include "pagedb.h"
#include "util.h"

static uint32_t bitwise(uint32_t state, const unsigned char *p, size_t n)
{
  for (; n > 0; n--, p++) {
    state ^= *p;
    for (int i = 0; i < 8; i++)
      state = (state >> 1) ^ (0x82F63B78u & (0u - (state & 1)));
  }
  return state;
}

static void check_vector(const void *data, size_t n, uint32_t crc)
{
  assert_int_equal(pagedb_crc32c(data, n), crc);
  assert_int_equal(~bitwise(~0u, data, n), crc);
  for (const crc32c_path *p = crc32c_paths; p->name != NULL; p++)
    if (p->supported())
      assert_int_equal(~p->update(~0u, data, n), crc);
}

/* The check value, and RFC 3720 B.4. */
static void test_vectors(void **state)
{
  static const unsigned char command[48] = {
      0x01, 0xc0, 0, 0, 0, 0, 0,    0,    0,    0, 0, 0,    0, 0, 0, 0,
      0x14, 0,    0, 0, 0, 0, 0x04, 0x00, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
      0x28, 0,    0, 0, 0, 0, 0,    0,    0x02, 0, 0, 0,    0, 0, 0, 0};
  unsigned char b[32];
  (void)state;
  check_vector("123456789", 9, 0xE3069283u);
  check_vector("", 0, 0);
  memset(b, 0, sizeof b);
  check_vector(b, sizeof b, 0x8A9136AAu);
  memset(b, 0xff, sizeof b);
  check_vector(b, sizeof b, 0x62A8AB43u);
  for (int i = 0; i < 32; i++)
    b[i] = (unsigned char)i;
  check_vector(b, sizeof b, 0x46DD794Eu);
  for (int i = 0; i < 32; i++)
    b[i] = (unsigned char)(31 - i);
  check_vector(b, sizeof b, 0x113FDB5Cu);
  check_vector(command, sizeof command, 0xD9963A56u);
}

static void test_lengths_and_alignments(void **state)
{
  enum { MOST = 1100 };
  unsigned char *data = malloc(MOST + 16);
  uint64_t seed = test_seed("lengths", 1);
  (void)state;
  random_bytes(&seed, data, MOST + 16);
  for (const crc32c_path *p = crc32c_paths; p->name != NULL; p++) {
    if (!p->supported())
      continue;
    for (size_t at = 0; at < 16; at++) {
      uint32_t start = (uint32_t)next_random(&seed), crc = start;
      for (size_t n = 0; n <= MOST; n++) {
        assert_int_equal(p->update(start, data + at, n), crc);
        crc = bitwise(crc, data + at + n, n < MOST ? 1 : 0);
      }
    }
  }
  free(data);
}

static void test_large(void **state)
{
  static const size_t sizes[] = {4096, 4068, 16384, 65536 + 7, (1 << 20) + 13};
  size_t most = sizes[4];
  unsigned char *data = malloc(most);
  uint64_t seed = test_seed("large", 2);
  (void)state;
  random_bytes(&seed, data, most);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    uint32_t crc = bitwise(7, data, sizes[i]);
    for (const crc32c_path *p = crc32c_paths; p->name != NULL; p++)
      if (p->supported())
        assert_int_equal(p->update(7, data, sizes[i]), crc);
  }
  free(data);
}

static void test_streaming(void **state)
{
  unsigned char data[600];
  uint64_t seed = test_seed("streaming", 3);
  (void)state;
  random_bytes(&seed, data, sizeof data);
  uint32_t whole = pagedb_crc32c(data, sizeof data);
  for (size_t cut = 0; cut <= sizeof data; cut++) {
    uint32_t s = pagedb_crc32c_init();
    s = pagedb_crc32c_update(s, data, cut);
    s = pagedb_crc32c_update(s, data + cut, sizeof data - cut);
    assert_int_equal(pagedb_crc32c_final(s), whole);
  }
  for (int round = 0; round < 200; round++) {
    uint32_t s = pagedb_crc32c_init();
    for (size_t at = 0; at < sizeof data;) {
      size_t n = 1 + random_below(&seed, 90);
      n = n > sizeof data - at ? sizeof data - at : n;
      s = pagedb_crc32c_update(s, data + at, n);
      at += n;
    }
    assert_int_equal(pagedb_crc32c_final(s), whole);
  }
}

/* x^n mod P, as a reflected 32-bit polynomial: bit 31 is x^0. */
static uint32_t power_of_x(uint64_t n)
{
  uint32_t v = 0x80000000u;
  for (uint64_t i = 0; i < n; i++)
    v = (v >> 1) ^ (CRC32C_POLY & (0u - (v & 1)));
  return v;
}

static void test_constants(void **state)
{
#define FOLD(d)                                                                \
  {                                                                            \
    d, CRC32C_FOLD_##d##_LO, CRC32C_FOLD_##d##_HI                              \
  }
  static const struct {
    uint64_t bits, lo, hi;
  } folds[] = {FOLD(128),  FOLD(256),  FOLD(384), FOLD(512),
               FOLD(1024), FOLD(1536), FOLD(2048)};
  (void)state;
  assert_int_equal(CRC32C_OVER_LONG, power_of_x(8 * CRC32C_LONG));
  assert_int_equal(CRC32C_OVER_2LONG, power_of_x(16 * CRC32C_LONG));
  assert_int_equal(CRC32C_OVER_SHORT, power_of_x(8 * CRC32C_SHORT));
  assert_int_equal(CRC32C_OVER_2SHORT, power_of_x(16 * CRC32C_SHORT));
  for (size_t i = 0; i < sizeof folds / sizeof folds[0]; i++) {
    assert_true(folds[i].lo == (uint64_t)power_of_x(folds[i].bits + 63) << 32);
    assert_true(folds[i].hi == (uint64_t)power_of_x(folds[i].bits - 1) << 32);
  }
}

static void test_path_has_a_name(void **state)
{
  (void)state;
  print_message("path: %s\n", pagedb_crc32c_path());
  assert_non_null(pagedb_crc32c_path());
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_vectors),
      cmocka_unit_test(test_lengths_and_alignments),
      cmocka_unit_test(test_large),
      cmocka_unit_test(test_streaming),
      cmocka_unit_test(test_constants),
      cmocka_unit_test(test_path_has_a_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
