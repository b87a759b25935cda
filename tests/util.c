/*
** util.c - see util.h.
*/
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pagedb.h"
#include "util.h"

uint64_t next_random(uint64_t *state)
{
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
  return next_random(state) % n;
}

void random_bytes(uint64_t *state, void *p, size_t n)
{
  unsigned char *b = p;
  for (size_t i = 0; i < n; i++)
    b[i] = (unsigned char)next_random(state);
}

uint64_t test_seed(const char *test, uint64_t otherwise)
{
  const char *env = getenv("PAGEDB_SEED");
  uint64_t seed = env != NULL ? strtoull(env, NULL, 0) : otherwise;
  print_message("%s: PAGEDB_SEED=%llu\n", test, (unsigned long long)seed);
  return seed;
}

unsigned scaled(unsigned n)
{
  const char *env = getenv("PAGEDB_TEST_SCALE");
  if (env == NULL || strcmp(env, "small") != 0)
    return n;
  return n / 5 > 0 ? n / 5 : 1;
}

const char *temp_path(void)
{
  static char paths[8][512];
  static atomic_uint count;
  unsigned i = atomic_fetch_add(&count, 1);
  const char *dir = getenv("PAGEDB_TEST_DIR");
  char *path = paths[i % 8];
  snprintf(path, sizeof paths[0], "%s/t%ld.%u", dir != NULL ? dir : "build",
           (long)getpid(), i);
  remove(path);
  return path;
}

unsigned char *read_whole(const char *path, size_t *n)
{
  FILE *f = fopen(path, "rb");
  if (f == NULL)
    return NULL;
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  rewind(f);
  unsigned char *p = size < 0 ? NULL : malloc((size_t)size + 1);
  if (p != NULL)
    *n = fread(p, 1, (size_t)size, f);
  fclose(f);
  return p;
}

uint64_t fnv1a(const void *p, size_t n)
{
  const unsigned char *b = p;
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < n; i++)
    h = (h ^ b[i]) * 0x100000001b3u;
  return h;
}

/* What pagedb.h says of faults without a meaning for the numbers. */
static void assert_no_numbers(const pagedb_fault *f, const char *file, int line)
{
  int system_said = f->err == PAGEDB_EIO || f->err == PAGEDB_ESYNC ||
                    f->err == PAGEDB_ECANTOPEN || f->err == PAGEDB_EDIRECT;
  int other = f->err == PAGEDB_ENOMEM || f->err == PAGEDB_EMISUSE ||
              f->err == PAGEDB_EBUSY;
  if (other)
    _assert_int_equal((uint64_t)f->sys, 0, file, line);
  if (system_said || other)
    _assert_int_equal(f->expected, 0, file, line);
  if (system_said || f->err == PAGEDB_ENOMEM || f->err == PAGEDB_EMISUSE)
    _assert_int_equal(f->found, 0, file, line);
}

void expect_at(int err, int wanted, const char *call, const char *file,
               int line)
{
  char message[600];
  if (err == wanted) {
    assert_no_numbers(pagedb_last_fault(), file, line);
    return;
  }
  print_error(
      "%s: %s, wanted %s; last fault: %s\n", call, pagedb_err_name(err),
      pagedb_err_name(wanted),
      pagedb_fault_message(pagedb_last_fault(), message, sizeof message));
  _fail(file, line);
}
