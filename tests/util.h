/*
** util.h - what several tests need: randomness with a printed seed, temporary
** files, a checksum that is not ours.
*/
#ifndef PAGEDB_TEST_UTIL_H
#define PAGEDB_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* splitmix64. */
uint64_t next_random(uint64_t *state);
/* 0 .. n-1 */
uint64_t random_below(uint64_t *state, uint64_t n);
void random_bytes(uint64_t *state, void *p, size_t n);

/* PAGEDB_SEED, or the given number; printed, so that a failure repeats. */
uint64_t test_seed(const char *test, uint64_t otherwise);

/* n, or a fifth of it (at least 1) when PAGEDB_TEST_SCALE is "small". */
unsigned scaled(unsigned n);

/* A path for a new file below PAGEDB_TEST_DIR (default build); static buffers,
** eight of them in turn. The file does not exist. */
const char *temp_path(void);

/* The whole file, malloc'd; NULL when it cannot be read. */
unsigned char *read_whole(const char *path, size_t *n);

uint64_t fnv1a(const void *p, size_t n);

/* Fail the test with the thread's fault when err is not what was expected. */
#define expect(err, wanted)                                                    \
  expect_at((int)(err), (int)(wanted), #err, __FILE__, __LINE__)
void expect_at(int err, int wanted, const char *call, const char *file,
               int line);
#define ok(err) expect(err, PAGEDB_OK)

#endif
