/*
** test_pagefile.c - files of pages: opening, Direct I/O and its refusal, sizes,
** runs, errors, files of another implementation.
**
** Linked with --wrap for os_readv, os_writev and os_datasync, which can be made
** to fail here.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "endian.h"
#include "os.h"
#include "pagedb.h"
#include "util.h"

enum { AT = PAGEDB_RECORD_SIZE };

/* ----------------------------------------------------------- failing calls */

static struct {
  int read, write, sync; /* countdown, 0: no fault */
  int err;
} fault;

int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_datasync(os_file *f);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_datasync(os_file *f);

static int fails(int *countdown)
{
  return *countdown > 0 && --*countdown == 0;
}

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  if (fails(&fault.read))
    return pagedb_fault_set(fault.err, 5, NULL, PAGEDB_NONE, 0, 0, NULL);
  return __real_os_readv(f, iov, n, off, done);
}

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  if (fails(&fault.write))
    return pagedb_fault_set(fault.err, 28, NULL, PAGEDB_NONE, 0, 0, NULL);
  return __real_os_writev(f, iov, n, off);
}

int __wrap_os_datasync(os_file *f)
{
  if (fails(&fault.sync))
    return pagedb_fault_set(PAGEDB_ESYNC, 5, NULL, PAGEDB_NONE, 0, 0, NULL);
  return __real_os_datasync(f);
}

/* ----------------------------------------------------------------- helpers */

static pagedb_file *make_file(const char *path, uint32_t size,
                              pagedb_placement placement, pagedb_direct direct)
{
  pagedb_file_options o = {
      .page_size = size, .placement = placement, .direct = direct, .create = 1};
  pagedb_file *f;
  ok(pagedb_file_open(path, &o, &f));
  return f;
}

static void fill(void *page, uint32_t size, uint64_t seed)
{
  random_bytes(&seed, page, size);
}

/* The payload of a page that fill(seed) and a stamp made. */
static void check_filled(const unsigned char *page, uint32_t size,
                         pagedb_placement placement, uint64_t seed)
{
  unsigned char *wanted = malloc(size);
  size_t at = placement == PAGEDB_LEADING ? AT : 0;
  fill(wanted, size, seed);
  assert_memory_equal(page + at, wanted + at, size - AT);
  free(wanted);
}

static void write_filled(pagedb_file *f, uint64_t id, uint64_t seed)
{
  void *page = pagedb_file_alloc(f, 1);
  fill(page, pagedb_file_page_size(f), seed);
  ok(pagedb_file_write(f, id, seed, page));
  pagedb_file_free(page);
}

static int file_exists(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0;
}

/* ----------------------------------------------------------------- opening */

static void test_open_options(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f;
  pagedb_file_options o = {0};
  uint64_t n;
  expect(pagedb_file_open(path, NULL, &f), PAGEDB_ECANTOPEN);
  assert_non_null(strstr(path, pagedb_last_fault()->path));
  assert_int_not_equal(pagedb_last_fault()->sys, 0);
  assert_false(file_exists(path));
  o.create = o.exclusive = 1;
  ok(pagedb_file_open(path, &o, &f));
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 0);
  write_filled(f, 0, 1);
  pagedb_file_close(f);
  expect(pagedb_file_open(path, &o, &f), PAGEDB_ECANTOPEN);
  o = (pagedb_file_options){.read_only = 1};
  ok(pagedb_file_open(path, &o, &f));
  void *page = pagedb_file_alloc(f, 1);
  ok(pagedb_file_read(f, 0, page, NULL));
  expect(pagedb_file_write(f, 0, 1, page), PAGEDB_EREADONLY);
  expect(pagedb_file_truncate(f, 0), PAGEDB_EREADONLY);
  ok(pagedb_file_sync(f));
  pagedb_file_free(page);
  pagedb_file_close(f);
  o.create = 1;
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EMISUSE);
  o = (pagedb_file_options){.page_size = 5000};
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EPAGESIZE);
  o = (pagedb_file_options){.page_size = 512};
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EPAGESIZE);
  expect(pagedb_file_open("build", NULL, &f), PAGEDB_ECANTOPEN);
  expect(pagedb_file_open("build/no/such/dir", NULL, &f), PAGEDB_ECANTOPEN);
  remove(path);
}

/* A wrong page size is refused and the file stays as it was. */
static void test_wrong_page_size(void **state)
{
  (void)state;
  for (uint32_t size = 4096; size <= 1048576; size *= 4) {
    const char *path = temp_path();
    size_t n, m;
    pagedb_file *f =
        make_file(path, size, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
    for (uint64_t id = 0; id < 4; id++)
      write_filled(f, id, id);
    pagedb_file_close(f);
    unsigned char *before = read_whole(path, &n);
    for (uint32_t other = 4096; other <= 1048576; other *= 2) {
      pagedb_file_options o = {.page_size = other, .create = 1};
      if (other == size)
        continue;
      expect(pagedb_file_open(path, &o, &f), PAGEDB_EPAGESIZE);
      assert_int_equal(pagedb_last_fault()->found, size);
      assert_int_equal(pagedb_last_fault()->expected, other);
    }
    unsigned char *after = read_whole(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    remove(path);
  }
}

/* Not a page file at all, or too short for a page: never taken for new. */
static void test_foreign_files(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file_options o = {.create = 1};
  pagedb_file *f;
  FILE *text = fopen(path, "w");
  fputs("hello", text);
  fclose(text);
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EPAGESIZE);
  text = fopen(path, "w");
  for (int i = 0; i < 10000; i++)
    fputc('x', text);
  fclose(text);
  /* Page 0 may be rotten: the file opens, its pages do not read. */
  uint64_t n;
  ok(pagedb_file_open(path, &o, &f));
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 2);
  void *page = pagedb_file_alloc(f, 1);
  expect(pagedb_file_read(f, 0, page, NULL), PAGEDB_EMAGIC);
  expect(pagedb_file_read(f, 2, page, NULL), PAGEDB_ESHORT);
  assert_int_equal(pagedb_last_fault()->found, 10000 - 8192);
  expect(pagedb_file_read(f, 3, page, NULL), PAGEDB_ESHORT);
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

/* --------------------------------------------------------------- Direct I/O */

static void test_every_page_size(void **state)
{
  (void)state;
  for (int trailing = 0; trailing < 2; trailing++)
    for (int direct = 0; direct < 2; direct++)
      for (uint32_t size = 512; size <= 1048576; size *= 2) {
        pagedb_placement placement =
            trailing ? PAGEDB_TRAILING : PAGEDB_LEADING;
        if (!pagedb_page_size_ok(size, placement))
          continue;
        const char *path = temp_path();
        pagedb_file *f =
            make_file(path, size, placement,
                      direct ? PAGEDB_DIRECT_PREFERRED : PAGEDB_DIRECT_OFF);
        unsigned char *page = pagedb_file_alloc(f, 2);
        uint64_t lsn;
        if (!direct)
          assert_false(pagedb_file_is_direct(f));
        assert_true(pagedb_file_alignment(f) <= 4096);
        assert_true(pagedb_file_alignment(f) <= size);
        for (uint64_t id = 0; id < 3; id++)
          write_filled(f, id, id + 10);
        ok(pagedb_file_sync(f));
        for (uint64_t id = 0; id < 3; id++) {
          ok(pagedb_file_read(f, id, page, &lsn));
          assert_int_equal(lsn, id + 10);
          check_filled(page, size, placement, id + 10);
        }
        expect(pagedb_file_read(f, 1, page + 1, NULL), PAGEDB_EALIGN);
        expect(pagedb_file_read(f, 1, page + 256, NULL), PAGEDB_EALIGN);
        expect(pagedb_file_write(f, 1, 0, page + 256), PAGEDB_EALIGN);
        expect(pagedb_file_read(f, 3, page, NULL), PAGEDB_ESHORT);
        pagedb_file_free(page);
        pagedb_file_close(f);
        remove(path);
      }
}

static void test_direct_is_direct(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file_options o = {.create = 1, .direct = PAGEDB_DIRECT_REQUIRED};
  pagedb_file *f;
  int err = pagedb_file_open(path, &o, &f);
  if (err == PAGEDB_EDIRECT) {
    print_message("skipped: no Direct I/O in the folder of the tests\n");
    assert_false(file_exists(path));
    return;
  }
  ok(err);
  assert_true(pagedb_file_is_direct(f));
  write_filled(f, 0, 3);
  pagedb_file_close(f);
  remove(path);
}

#ifdef __linux__
/* tmpfs takes the flag on new kernels and refuses it on old ones; either way
** it is not direct. */
static void test_direct_refused(void **state)
{
  (void)state;
  char path[64];
  pagedb_file_options o = {.create = 1, .direct = PAGEDB_DIRECT_REQUIRED};
  pagedb_file *f;
  if (access("/dev/shm", W_OK) != 0) {
    print_message("skipped: no /dev/shm here\n");
    return;
  }
  snprintf(path, sizeof path, "/dev/shm/pagedb-test-%ld", (long)getpid());
  remove(path);
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EDIRECT);
  assert_false(file_exists(path));
  o.direct = PAGEDB_DIRECT_PREFERRED;
  o.exclusive = 1;
  ok(pagedb_file_open(path, &o, &f));
  assert_false(pagedb_file_is_direct(f));
  write_filled(f, 5, 3);
  pagedb_file_close(f);
  o.exclusive = 0;
  o.direct = PAGEDB_DIRECT_REQUIRED;
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EDIRECT);
  assert_true(file_exists(path));
  remove(path);
}
#endif

/* ------------------------------------------------------------------ ranges */

static void test_offsets_do_not_wrap(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  void *page = pagedb_file_alloc(f, 1);
  write_filled(f, 0, 1);
  static const uint64_t ids[] = {(uint64_t)1 << 52, ((uint64_t)1 << 52) + 1,
                                 (uint64_t)1 << 51, UINT64_MAX};
  for (int i = 0; i < 4; i++) {
    int errs[2];
    void *pages[2] = {page, page};
    uint64_t lsns[2] = {0};
    pagedb_run run = {ids[i], 1, pages, lsns, errs, 0};
    expect(pagedb_file_write(f, ids[i], 1, page), PAGEDB_ERANGE);
    assert_true(pagedb_last_fault()->page == ids[i]);
    expect(pagedb_file_read(f, ids[i], page, NULL), PAGEDB_ERANGE);
    expect(pagedb_file_write_runs(f, &run, 1), PAGEDB_ERANGE);
    expect(errs[0], PAGEDB_ERANGE);
    expect(pagedb_file_truncate(f, ids[i]), PAGEDB_ERANGE);
  }
  ok(pagedb_file_read(f, 0, page, NULL));
  check_filled(page, 4096, PAGEDB_LEADING, 1);
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

static void test_beyond_4_gib_and_truncate(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  void *page = pagedb_file_alloc(f, 1);
  uint64_t far = (uint64_t)5 << 18, n, lsn; /* 5 GiB */
  write_filled(f, far, 7);
  write_filled(f, 1, 8);
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, far + 1);
  ok(pagedb_file_read(f, far, page, &lsn));
  assert_int_equal(lsn, 7);
  expect(pagedb_file_read(f, far - 1, page, NULL), PAGEDB_EMAGIC);
  ok(pagedb_file_truncate(f, 2));
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 2);
  expect(pagedb_file_read(f, far, page, NULL), PAGEDB_ESHORT);
  ok(pagedb_file_read(f, 1, page, NULL));
  ok(pagedb_file_truncate(f, 4));
  expect(pagedb_file_read(f, 3, page, NULL), PAGEDB_EMAGIC);
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

/* -------------------------------------------------------------------- runs */

enum { RUNS = 150, LENGTH = 7 };

/* Many runs, read and written at once, some of them bad in the middle. */
static void runs_of(pagedb_placement placement)
{
  const char *path = temp_path();
  pagedb_file *f = make_file(path, 4096, placement, PAGEDB_DIRECT_PREFERRED);
  unsigned char *mem = pagedb_file_alloc(f, RUNS * LENGTH);
  static void *pages[RUNS * LENGTH];
  static uint64_t lsns[RUNS * LENGTH];
  static int errs[RUNS * LENGTH];
  pagedb_run run[RUNS];
  for (unsigned i = 0; i < RUNS * LENGTH; i++) {
    pages[i] = mem + (size_t)i * 4096;
    lsns[i] = i + 1;
    fill(pages[i], 4096, i);
  }
  /* Every other stretch of the file, so that runs do not touch. */
  for (unsigned i = 0; i < RUNS; i++)
    run[i] = (pagedb_run){(uint64_t)i * 2 * LENGTH, LENGTH,
                          &pages[i * LENGTH],       &lsns[i * LENGTH],
                          &errs[i * LENGTH],        -1};
  ok(pagedb_file_write_runs(f, run, RUNS));
  ok(pagedb_file_sync(f));
  memset(mem, 0, (size_t)RUNS * LENGTH * 4096);
  memset(lsns, 0, sizeof lsns);
  ok(pagedb_file_read_runs(f, run, RUNS));
  for (unsigned i = 0; i < RUNS * LENGTH; i++) {
    assert_int_equal(lsns[i], i + 1);
    assert_int_equal(errs[i], PAGEDB_OK);
    check_filled(pages[i], 4096, placement, i);
  }
  /* Page 3 of run 5 gets the id of another; run 100 is beyond the end. */
  void *page = pagedb_file_alloc(f, 1);
  FILE *raw = fopen(path, "r+b");
  fill(page, 4096, 99);
  pagedb_page_stamp(page, 4096, placement, 1, 1);
  fseek(raw, (5 * 2 * LENGTH + 3) * 4096L, SEEK_SET);
  fwrite(page, 4096, 1, raw);
  fclose(raw);
  run[100].first = 1000000;
  expect(pagedb_file_read_runs(f, run, RUNS), PAGEDB_EPAGEID);
  assert_int_equal(pagedb_last_fault()->page, 5 * 2 * LENGTH + 3);
  assert_int_equal(run[5].err, PAGEDB_EPAGEID);
  assert_int_equal(run[100].err, PAGEDB_ESHORT);
  for (unsigned i = 0; i < RUNS * LENGTH; i++)
    assert_int_equal(errs[i], i == 5 * LENGTH + 3 ? PAGEDB_EPAGEID
                              : i / LENGTH == 100 ? PAGEDB_ESHORT
                                                  : PAGEDB_OK);
  pagedb_file_free(page);
  pagedb_file_free(mem);
  pagedb_file_close(f);
  remove(path);
}

static void test_runs(void **state)
{
  (void)state;
  runs_of(PAGEDB_LEADING);
  runs_of(PAGEDB_TRAILING);
  putenv("PAGEDB_URING=0");
  runs_of(PAGEDB_LEADING);
  putenv("PAGEDB_URING=1");
}

/* ------------------------------------------------------------------- faults */

static void test_faults_are_named(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  void *page = pagedb_file_alloc(f, 1);
  char message[500];
  write_filled(f, 3, 1);
  fault.err = PAGEDB_EIO;
  fault.read = 1;
  expect(pagedb_file_read(f, 3, page, NULL), PAGEDB_EIO);
  assert_int_equal(pagedb_last_fault()->page, 3);
  assert_int_equal(pagedb_last_fault()->sys, 5);
  pagedb_fault_message(pagedb_last_fault(), message, sizeof message);
  assert_non_null(strstr(message, path));
  assert_non_null(strstr(message, "page 3"));
  ok(pagedb_file_read(f, 3, page, NULL));
  fault.err = PAGEDB_EFULL;
  fault.write = 1;
  expect(pagedb_file_write(f, 4, 1, page), PAGEDB_EFULL);
  assert_int_equal(pagedb_last_fault()->page, 4);
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

static void test_failed_sync_is_final(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  void *page = pagedb_file_alloc(f, 1);
  write_filled(f, 0, 1);
  fault.sync = 1;
  expect(pagedb_file_sync(f), PAGEDB_ESYNC);
  for (int i = 0; i < 3; i++)
    expect(pagedb_file_sync(f), PAGEDB_ESYNC);
  write_filled(f, 1, 2);
  expect(pagedb_file_sync(f), PAGEDB_ESYNC);
  ok(pagedb_file_read(f, 1, page, NULL));
  pagedb_file_close(f);
  ok(pagedb_file_open(path, NULL, &f));
  ok(pagedb_file_sync(f));
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

/* ------------------------------------------------------------------ threads */

typedef struct sharer {
  pagedb_file *f;
  uint64_t first;
  uint64_t seed;
  pthread_t thread;
} sharer;

enum { SHARERS = 8, EACH = 32 };

/* Each thread has pages of its own in a file that all share. */
static void *share(void *arg)
{
  sharer *s = arg;
  unsigned char *mem = pagedb_file_alloc(s->f, EACH);
  void *pages[EACH];
  uint64_t lsns[EACH];
  int errs[EACH];
  for (int i = 0; i < EACH; i++) {
    pages[i] = mem + (size_t)i * 4096;
    fill(pages[i], 4096, s->first + (uint64_t)i);
    lsns[i] = s->first;
    if (pagedb_file_write(s->f, s->first + (uint64_t)i, s->first, pages[i]))
      abort();
  }
  for (unsigned round = 0; round < scaled(50); round++) {
    pagedb_run run[4];
    for (int k = 0; k < 4; k++)
      run[k] = (pagedb_run){s->first + (uint64_t)k * 8,
                            8,
                            &pages[k * 8],
                            &lsns[k * 8],
                            &errs[k * 8],
                            0};
    int write = random_below(&s->seed, 2) == 0;
    if ((write ? pagedb_file_write_runs : pagedb_file_read_runs)(s->f, run, 4))
      abort();
    for (int i = 0; i < EACH; i++)
      if (lsns[i] != s->first || errs[i] != PAGEDB_OK)
        abort();
  }
  pagedb_file_free(mem);
  return NULL;
}

static void test_threads_share_a_file(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  sharer s[SHARERS];
  uint64_t seed = test_seed("sharing", 4);
  for (uint64_t i = 0; i < SHARERS; i++) {
    s[i] = (sharer){f, i * EACH, next_random(&seed), 0};
    assert_int_equal(pthread_create(&s[i].thread, NULL, share, &s[i]), 0);
  }
  for (int i = 0; i < SHARERS; i++)
    pthread_join(s[i].thread, NULL);
  unsigned char *page = pagedb_file_alloc(f, 1);
  for (uint64_t id = 0; id < SHARERS * EACH; id++) {
    ok(pagedb_file_read(f, id, page, NULL));
    check_filled(page, 4096, PAGEDB_LEADING, id);
  }
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

/* ------------------------------------------------------------------ interop */

/* Payload as tests/data/interop/README.md says. */
static void interop_payload(unsigned char *payload, uint32_t n, uint64_t i)
{
  uint64_t state = i + 1;
  for (uint32_t at = 0; at < n; at += 8)
    put_le64(payload + at, next_random(&state));
}

static void interop_of(uint32_t size)
{
  char name[128];
  const char *path = temp_path();
  size_t ours_n, theirs_n;
  pagedb_file *f, *mine;
  snprintf(name, sizeof name, "tests/data/interop/write-%u.expect", size);
  FILE *wanted = fopen(name, "r");
  assert_non_null(wanted);
  snprintf(name, sizeof name, "tests/data/interop/write-%u.pages", size);
  pagedb_file_options o = {.page_size = size, .read_only = 1};
  ok(pagedb_file_open(name, &o, &f));
  mine = make_file(path, size, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  unsigned char *page = pagedb_file_alloc(f, 1);
  for (uint64_t i = 0; i < 5; i++) {
    unsigned long long id, lsn, sum;
    uint64_t got;
    assert_int_equal(fscanf(wanted, "%llu %llu %llx", &id, &lsn, &sum), 3);
    ok(pagedb_file_read(f, id, page, &got));
    assert_int_equal(got, lsn);
    assert_int_equal(got, i * i * 1000003 + 17);
    assert_true(fnv1a(page + AT, size - AT) == sum);
    interop_payload(page + AT, size - AT, i);
    ok(pagedb_file_write(mine, i, got, page));
  }
  fclose(wanted);
  expect(pagedb_file_read(f, 5, page, NULL), PAGEDB_ESHORT);
  pagedb_file_free(page);
  pagedb_file_close(f);
  pagedb_file_close(mine);
  unsigned char *theirs = read_whole(name, &theirs_n);
  unsigned char *ours = read_whole(path, &ours_n);
  assert_int_equal(ours_n, theirs_n);
  assert_memory_equal(ours, theirs, ours_n);
  free(ours);
  free(theirs);
  remove(path);
}

static void test_interop(void **state)
{
  (void)state;
  interop_of(4096);
  interop_of(16384);
}

/* The memory store keeps the contract of a file. */
static void test_memory_store(void **state)
{
  (void)state;
  pagedb_store *s;
  unsigned char page[1024], back[1024];
  void *p = page, *b = back;
  uint64_t lsn = 9, got, n;
  int one;
  expect(pagedb_store_in_memory(1000, &s), PAGEDB_EPAGESIZE);
  ok(pagedb_store_in_memory(1024, &s));
  pagedb_run w = {3, 1, &p, &lsn, &one, 0}, r = {3, 1, &b, &got, &one, 0};
  fill(page, 1024, 1);
  ok(s->write(s, &w, 1));
  ok(s->sync(s));
  ok(s->read(s, &r, 1));
  assert_int_equal(got, 9);
  assert_memory_equal(page + AT, back + AT, 1024 - AT);
  ok(s->count(s, &n));
  assert_int_equal(n, 4);
  r.first = 2;
  expect(s->read(s, &r, 1), PAGEDB_EMAGIC);
  r.first = 4;
  expect(s->read(s, &r, 1), PAGEDB_ESHORT);
  pagedb_store_close(s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_options),
      cmocka_unit_test(test_wrong_page_size),
      cmocka_unit_test(test_foreign_files),
      cmocka_unit_test(test_every_page_size),
      cmocka_unit_test(test_direct_is_direct),
#ifdef __linux__
      cmocka_unit_test(test_direct_refused),
#endif
      cmocka_unit_test(test_offsets_do_not_wrap),
      cmocka_unit_test(test_beyond_4_gib_and_truncate),
      cmocka_unit_test(test_runs),
      cmocka_unit_test(test_faults_are_named),
      cmocka_unit_test(test_failed_sync_is_final),
      cmocka_unit_test(test_threads_share_a_file),
      cmocka_unit_test(test_interop),
      cmocka_unit_test(test_memory_store),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
