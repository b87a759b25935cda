/*
** test_pagefile.c - files of pages: opening, Direct I/O and its refusal, sizes,
** runs, errors, files of another implementation.
**
** Linked with --wrap for os_readv, os_writev, os_datasync and os_size, which can be
** made to fail here, and for os_open, which can be made to tell of large blocks. In
** one file, long as it is, because almost every test goes through these five.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
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
  int read, write, sync, size; /* countdown, 0: no fault */
  int err;
  uint64_t bad_from, bad_to; /* reads that touch these bytes fail */
  uint32_t block;            /* what Direct I/O asks for, 0: the truth */
  uint32_t memory_block;     /* the same, of addresses only */
} fault;

/* What was asked of the system. */
static struct {
  atomic_uint reads, writes, syncs;
  atomic_uint pieces; /* of the latest vector */
} asked;

/* A sync that waits until the test lets it fail. */
static struct {
  atomic_int wanted, entered, go;
} slow_sync;

int __real_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __real_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __real_os_datasync(os_file *f);
int __real_os_size(os_file *f, uint64_t *bytes);
int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off);
int __wrap_os_datasync(os_file *f);
int __wrap_os_size(os_file *f, uint64_t *bytes);
/* Weak: without --wrap=os_open only test_large_blocks is missing. */
int __real_os_open(const char *path, unsigned flags, os_file **out,
                   os_geometry *geo) __attribute__((weak));
int __wrap_os_open(const char *path, unsigned flags, os_file **out,
                   os_geometry *geo);

int __wrap_os_open(const char *path, unsigned flags, os_file **out,
                   os_geometry *geo)
{
  int err = __real_os_open(path, flags, out, geo);
  if (err == PAGEDB_OK && fault.block != 0 && (flags & OS_OPEN_DIRECT))
    geo->offset_align = geo->memory_align = fault.block;
  if (err == PAGEDB_OK && fault.memory_block != 0 && (flags & OS_OPEN_DIRECT))
    geo->memory_align = fault.memory_block;
  return err;
}

static int fails(int *countdown)
{
  return *countdown > 0 && --*countdown == 0;
}

static int touches_bad(const os_iov *iov, int n, uint64_t off)
{
  uint64_t end = off;
  for (int i = 0; i < n; i++)
    end += iov[i].len;
  return off < fault.bad_to && end > fault.bad_from;
}

int __wrap_os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  atomic_fetch_add(&asked.reads, 1);
  atomic_store(&asked.pieces, (unsigned)n);
  if (fails(&fault.read) || touches_bad(iov, n, off))
    return pagedb_fault_set(fault.err, fault.err == PAGEDB_EIO ? 5 : 0, NULL,
                            PAGEDB_NONE, 0, 0, NULL);
  return __real_os_readv(f, iov, n, off, done);
}

int __wrap_os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  atomic_fetch_add(&asked.writes, 1);
  atomic_store(&asked.pieces, (unsigned)n);
  if (fails(&fault.write))
    return pagedb_fault_set(fault.err, 28, NULL, PAGEDB_NONE, 0, 0, NULL);
  return __real_os_writev(f, iov, n, off);
}

int __wrap_os_size(os_file *f, uint64_t *bytes)
{
  if (fails(&fault.size))
    return pagedb_fault_set(PAGEDB_EIO, 5, NULL, PAGEDB_NONE, 0, 0, NULL);
  return __real_os_size(f, bytes);
}

int __wrap_os_datasync(os_file *f)
{
  int slow = 1;
  atomic_fetch_add(&asked.syncs, 1);
  if (atomic_compare_exchange_strong(&slow_sync.wanted, &slow, 0)) {
    atomic_store(&slow_sync.entered, 1);
    while (!atomic_load(&slow_sync.go))
      usleep(100);
    fault.sync = 1;
  }
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

/* The same for databases, and for each pair of sizes. */
static void test_wrong_database_page_size(void **state)
{
  (void)state;
  for (uint32_t size = 512; size <= 65536; size *= 2) {
    const char *path = temp_path();
    pagedb_file *f =
        make_file(path, size, PAGEDB_TRAILING, PAGEDB_DIRECT_PREFERRED);
    write_filled(f, 0, 1);
    write_filled(f, 1, 1);
    pagedb_file_close(f);
    for (uint32_t other = 512; other <= 65536; other *= 2) {
      pagedb_file_options o = {.page_size = other,
                               .placement = PAGEDB_TRAILING};
      expect(pagedb_file_open(path, &o, &f),
             other == size ? PAGEDB_OK : PAGEDB_EPAGESIZE);
      if (other == size)
        pagedb_file_close(f);
      else
        assert_int_equal(pagedb_last_fault()->found, size);
    }
    remove(path);
  }
}

/* A bad sector at the file's start shuts out the pages that it hits, not the
** file; and a successful open leaves no fault behind. */
static void test_start_cannot_be_read(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  void *page = pagedb_file_alloc(f, 1);
  for (uint64_t id = 0; id < 4; id++)
    write_filled(f, id, id);
  pagedb_file_close(f);
  for (uint64_t bad = 0; bad < 2; bad++) {
    fault.err = PAGEDB_EIO;
    fault.bad_from = bad * 4096;
    fault.bad_to = fault.bad_from + 512;
    pagedb_fault_set(PAGEDB_EBUSY, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
    ok(pagedb_file_open(path, NULL, &f));
    assert_int_equal(pagedb_last_fault()->err, PAGEDB_EBUSY);
    for (uint64_t id = 0; id < 4; id++)
      expect(pagedb_file_read(f, id, page, NULL),
             id == bad ? PAGEDB_EIO : PAGEDB_OK);
    pagedb_file_close(f);
  }
  fault.bad_from = fault.bad_to = 0;
  pagedb_file_free(page);
  remove(path);
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

/* A device whose blocks are larger than a page cannot serve it directly. */
static void test_large_blocks(void **state)
{
  (void)state;
  if (__real_os_open == NULL) {
    print_message("skipped: linked without --wrap=os_open\n");
    return;
  }
  const char *path = temp_path();
  pagedb_file_options o = {.page_size = 512,
                           .placement = PAGEDB_TRAILING,
                           .direct = PAGEDB_DIRECT_REQUIRED,
                           .create = 1};
  pagedb_file *f;
  int there = pagedb_file_open(path, &o, &f);
  if (there == PAGEDB_EDIRECT) {
    print_message("skipped: no Direct I/O in the folder of the tests\n");
    return;
  }
  ok(there);
  pagedb_file_close(f);
  fault.memory_block = 4096;
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EDIRECT);
  fault.memory_block = 0;
  fault.block = 4096;
  expect(pagedb_file_open(path, &o, &f), PAGEDB_EDIRECT);
  assert_non_null(strstr(pagedb_last_fault()->what, "larger than the page"));
  remove(path);
  o.direct = PAGEDB_DIRECT_PREFERRED;
  o.exclusive = 1;
  ok(pagedb_file_open(path, &o, &f));
  assert_false(pagedb_file_is_direct(f));
  assert_int_equal(pagedb_file_alignment(f), 512);
  write_filled(f, 3, 1);
  pagedb_file_close(f);
  remove(path);
  o.page_size = 4096;
  ok(pagedb_file_open(path, &o, &f));
  assert_true(pagedb_file_is_direct(f));
  pagedb_file_close(f);
  fault.block = 0;
  remove(path);
}

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
    assert_int_equal(pagedb_last_fault()->found, 0);
    assert_int_equal(pagedb_last_fault()->expected, 0);
    expect(pagedb_file_read(f, ids[i], page, NULL), PAGEDB_ERANGE);
    expect(pagedb_file_write_runs(f, &run, 1), PAGEDB_ERANGE);
    expect(errs[0], PAGEDB_ERANGE);
    expect(pagedb_file_truncate(f, ids[i]), PAGEDB_ERANGE);
  }
  ok(pagedb_file_read(f, 0, page, NULL));
  check_filled(page, 4096, PAGEDB_LEADING, 1);
  /* The largest file that offsets can name: for the system to refuse, or not. */
  if (pagedb_file_truncate(f, ((uint64_t)1 << 51) - 1) != PAGEDB_OK)
    assert_int_not_equal(pagedb_last_fault()->sys, 0);
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

/* One page, one call. A run is one vectored call; on a database that is all
** there is: io_uring must not write it. */
static void test_calls(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_TRAILING, PAGEDB_DIRECT_PREFERRED);
  unsigned char *mem = pagedb_file_alloc(f, 300);
  void *pages[300];
  uint64_t lsns[300] = {0};
  pagedb_run run[100];
  memset(mem, 1, 300 * 4096);
  for (int i = 0; i < 300; i++)
    pages[i] = mem + (size_t)i * 4096;
  for (unsigned i = 0; i < 100; i++)
    run[i] =
        (pagedb_run){i * 8, 3, &pages[i * 3], &lsns[i * 3], NULL, PAGEDB_OK};
  unsigned writes = asked.writes, reads = asked.reads;
  ok(pagedb_file_write(f, 1, 1, mem));
  assert_int_equal(asked.writes - writes, 1);
  assert_int_equal(asked.pieces, 1);
  ok(pagedb_file_read(f, 1, mem, NULL));
  assert_int_equal(asked.reads - reads, 1);
  assert_int_equal(asked.pieces, 1);
  ok(pagedb_file_write_runs(f, run, 100));
  assert_int_equal(asked.writes - writes, 101);
  assert_int_equal(asked.pieces, 3);
  ok(pagedb_file_read_runs(f, run, 1));
  assert_int_equal(asked.reads - reads, 2);
  assert_int_equal(asked.pieces, 3);
  run[0] = (pagedb_run){0, PAGEDB_RUN_MAX, pages, lsns, NULL, PAGEDB_OK};
  ok(pagedb_file_write_runs(f, run, 1));
  assert_int_equal(asked.writes - writes, 102);
  pagedb_file_free(mem);
  pagedb_file_close(f);
  remove(path);
}

static void check_refused_runs(pagedb_store *s, void **pages)
{
  uint64_t lsns[PAGEDB_RUN_MAX + 1] = {0};
  int errs[PAGEDB_RUN_MAX + 1];
  pagedb_run r = {0, PAGEDB_RUN_MAX + 1, pages, lsns, errs, 0};
  uint64_t n;
  expect(s->write(s, &r, 1), PAGEDB_EMISUSE);
  assert_int_equal(errs[PAGEDB_RUN_MAX], PAGEDB_EMISUSE);
  expect(s->read(s, &r, 1), PAGEDB_EMISUSE);
  r.count = 0;
  expect(s->write(s, &r, 1), PAGEDB_EMISUSE);
  assert_int_equal(r.err, PAGEDB_EMISUSE);
  r.count = 1;
  r.lsns = NULL;
  expect(s->write(s, &r, 1), PAGEDB_EMISUSE);
  ok(s->count(s, &n));
  assert_int_equal(n, 0);
}

/* Runs that no store takes; and where the stores keep their record. */
static void test_stores_refuse(void **state)
{
  (void)state;
  static void *pages[PAGEDB_RUN_MAX + 1];
  pagedb_store *s;
  ok(pagedb_store_in_memory(4096, &s));
  void *page = malloc(4096);
  for (int i = 0; i <= PAGEDB_RUN_MAX; i++)
    pages[i] = page;
  assert_int_equal(s->record_at, 0);
  check_refused_runs(s, pages);
  pagedb_store_close(s);
  free(page);
  for (int trailing = 0; trailing < 2; trailing++) {
    const char *path = temp_path();
    pagedb_file *f =
        make_file(path, 4096, trailing ? PAGEDB_TRAILING : PAGEDB_LEADING,
                  PAGEDB_DIRECT_PREFERRED);
    page = pagedb_file_alloc(f, 1);
    for (int i = 0; i <= PAGEDB_RUN_MAX; i++)
      pages[i] = page;
    ok(pagedb_store_of_file(f, &s));
    assert_int_equal(s->record_at, trailing ? 4096 - AT : 0);
    check_refused_runs(s, pages);
    pagedb_store_close(s);
    pagedb_file_free(page);
    pagedb_file_close(f);
    remove(path);
  }
}

/* A sector in the middle of a run cannot be read: that page fails, and is
** named; its neighbours arrive. A write that fails fails as a run. */
static void test_faults_in_runs(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_TRAILING, PAGEDB_DIRECT_PREFERRED);
  unsigned char *mem = pagedb_file_alloc(f, 8);
  void *pages[8];
  uint64_t lsns[8];
  int errs[8];
  memset(mem, 1, 8 * 4096);
  for (int i = 0; i < 8; i++) {
    pages[i] = mem + (size_t)i * 4096;
    lsns[i] = (uint64_t)i + 1;
  }
  pagedb_run run[2] = {{10, 4, pages, lsns, errs, 0},
                       {20, 4, pages + 4, lsns + 4, errs + 4, 0}};
  fault.err = PAGEDB_EFULL;
  fault.write = 1;
  expect(pagedb_file_write_runs(f, run, 2), PAGEDB_EFULL);
  assert_int_equal(pagedb_last_fault()->page, 10);
  assert_int_equal(pagedb_last_fault()->sys, 28);
  assert_string_equal(pagedb_last_fault()->path, path);
  assert_int_equal(run[0].err, PAGEDB_EFULL);
  for (int i = 0; i < 8; i++)
    assert_int_equal(errs[i], i < 4 ? PAGEDB_EFULL : PAGEDB_OK);
  assert_int_equal(run[1].err, PAGEDB_OK);
  ok(pagedb_file_write_runs(f, run, 2));
  memset(lsns, 0, sizeof lsns);
  fault.err = PAGEDB_EIO;
  fault.bad_from = 12 * 4096 + 512;
  fault.bad_to = fault.bad_from + 512;
  expect(pagedb_file_read_runs(f, run, 1), PAGEDB_EIO);
  fault.bad_from = fault.bad_to = 0;
  assert_int_equal(pagedb_last_fault()->page, 12);
  assert_int_equal(pagedb_last_fault()->sys, 5);
  assert_string_equal(pagedb_last_fault()->path, path);
  assert_int_equal(run[0].err, PAGEDB_EIO);
  for (uint64_t i = 0; i < 4; i++) {
    assert_int_equal(errs[i], i == 2 ? PAGEDB_EIO : PAGEDB_OK);
    assert_int_equal(lsns[i], i == 2 ? 0 : i + 1);
  }
  pagedb_file_free(mem);
  pagedb_file_close(f);
  remove(path);
}

/* A length that the system does not tell; lengths that cannot be. */
static void test_lengths(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  uint64_t n = 7;
  write_filled(f, 0, 1);
  fault.size = 1;
  expect(pagedb_file_count(f, &n), PAGEDB_EIO);
  assert_string_equal(pagedb_last_fault()->path, path);
  assert_int_equal(n, 7);
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 1);
  assert_null(pagedb_file_alloc(f, 0));
  assert_null(pagedb_file_alloc(f, SIZE_MAX / 4096 + 1));
  pagedb_file_close(f);
  fault.size = 1;
  expect(pagedb_file_open(path, NULL, &f), PAGEDB_EIO);
  assert_string_equal(pagedb_last_fault()->path, path);
  remove(path);
}

/* A start that is no page of any size, however long, proves nothing. */
static void test_long_unsound_start(void **state)
{
  (void)state;
  const char *path = temp_path();
  const size_t bytes = 1048576 + 4096;
  uint64_t seed = test_seed("unsound start", 11), n;
  unsigned char *mem = malloc(bytes);
  random_bytes(&seed, mem, bytes);
  FILE *out = fopen(path, "wb");
  assert_int_equal(fwrite(mem, 1, bytes, out), bytes);
  fclose(out);
  free(mem);
  pagedb_file *f;
  ok(pagedb_file_open(path, NULL, &f));
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 257);
  void *page = pagedb_file_alloc(f, 1);
  expect(pagedb_file_read(f, 0, page, NULL), PAGEDB_EMAGIC);
  pagedb_file_free(page);
  pagedb_file_close(f);
  remove(path);
}

/* Errors come in the order of the runs, also when a later run is none at all; and
** one that went away when the pages were read singly is none. */
static void test_order_of_errors(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  unsigned char *mem = pagedb_file_alloc(f, 4);
  void *pages[4];
  uint64_t lsns[4] = {0};
  int errs[4];
  for (int i = 0; i < 4; i++) {
    pages[i] = mem + (size_t)i * 4096;
    write_filled(f, (uint64_t)i, (uint64_t)i);
  }
  pagedb_run run[2] = {{0, 4, pages, lsns, errs, 0},
                       {9, 0, pages, lsns, errs, 0}};
  fault.err = PAGEDB_EIO;
  fault.bad_from = 2 * 4096;
  fault.bad_to = 3 * 4096;
  expect(pagedb_file_read_runs(f, run, 2), PAGEDB_EIO);
  fault.bad_from = fault.bad_to = 0;
  assert_int_equal(pagedb_last_fault()->page, 2);
  assert_int_equal(run[0].err, PAGEDB_EIO);
  assert_int_equal(run[1].err, PAGEDB_EMISUSE);
  /* The whole run fails once; each of its pages is there. */
  fault.read = 1;
  ok(pagedb_file_read_runs(f, run, 1));
  ok(run[0].err);
  for (int i = 0; i < 4; i++) {
    ok(errs[i]);
    check_filled(pages[i], 4096, PAGEDB_LEADING, (uint64_t)i);
  }
  fault.read = 1;
  expect(pagedb_file_read_runs(f, run, 2), PAGEDB_EMISUSE);
  assert_int_equal(pagedb_last_fault()->err, PAGEDB_EMISUSE);
  assert_int_equal(pagedb_last_fault()->page, 9);
  ok(run[0].err);
  /* One page is not tried again; and another error than of the device is not. */
  run[0].count = 1;
  fault.read = 1;
  expect(pagedb_file_read_runs(f, run, 1), PAGEDB_EIO);
  assert_int_equal(errs[0], PAGEDB_EIO);
  assert_string_equal(pagedb_last_fault()->what, "read");
  run[0].count = 4;
  fault.err = PAGEDB_ENOMEM;
  fault.read = 1;
  unsigned reads = asked.reads;
  expect(pagedb_file_read_runs(f, run, 1), PAGEDB_ENOMEM);
  assert_int_equal(asked.reads - reads, 1);
  fault.err = PAGEDB_EIO;
  fault.write = 1;
  unsigned writes = asked.writes;
  expect(pagedb_file_write_runs(f, run, 1), PAGEDB_EIO);
  assert_int_equal(asked.writes - writes, 1);
  for (int i = 0; i < 4; i++)
    assert_int_equal(errs[i], PAGEDB_EIO);
  assert_string_equal(pagedb_last_fault()->what, "write");
  pagedb_file_close(f);
  pagedb_file_options o = {.read_only = 1};
  ok(pagedb_file_open(path, &o, &f));
  expect(pagedb_file_write_runs(f, run, 1), PAGEDB_EREADONLY);
  assert_int_equal(run[0].err, PAGEDB_EREADONLY);
  assert_int_equal(errs[3], PAGEDB_EREADONLY);
  assert_int_equal(asked.writes - writes, 1);
  pagedb_file_free(mem);
  pagedb_file_close(f);
  remove(path);
}

static void *sync_in_thread(void *f)
{
  return (void *)(intptr_t)pagedb_file_sync(f);
}

/* The system tells of a lost write once, to one of the syncs under way. The
** other must not call that write durable. */
static void test_sync_beside_a_failing_one(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  pthread_t failing, beside;
  void *first, *second;
  write_filled(f, 0, 1);
  atomic_store(&slow_sync.wanted, 1);
  assert_int_equal(pthread_create(&failing, NULL, sync_in_thread, f), 0);
  while (!atomic_load(&slow_sync.entered))
    usleep(100);
  assert_int_equal(pthread_create(&beside, NULL, sync_in_thread, f), 0);
  usleep(50000); /* enough for a sync that does not wait */
  atomic_store(&slow_sync.go, 1);
  pthread_join(failing, &first);
  pthread_join(beside, &second);
  expect((intptr_t)first, PAGEDB_ESYNC);
  expect((intptr_t)second, PAGEDB_ESYNC);
  pagedb_file_close(f);
  remove(path);
}

static void *write_and_sync(void *arg)
{
  pagedb_file *f = arg;
  void *page = pagedb_file_alloc(f, 1);
  memset(page, 1, 4096);
  for (unsigned i = 0; i < 20; i++)
    if (pagedb_file_write(f, i, 1, page) != PAGEDB_OK ||
        pagedb_file_sync(f) != PAGEDB_OK)
      abort();
  pagedb_file_free(page);
  return NULL;
}

/* Threads that wait for one sync share the next. */
static void test_syncs_are_shared(void **state)
{
  (void)state;
  const char *path = temp_path();
  pagedb_file *f =
      make_file(path, 4096, PAGEDB_LEADING, PAGEDB_DIRECT_PREFERRED);
  pthread_t thread[8];
  unsigned before = asked.syncs;
  for (int i = 0; i < 8; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, write_and_sync, f), 0);
  for (int i = 0; i < 8; i++)
    pthread_join(thread[i], NULL);
  unsigned syncs = asked.syncs - before;
  print_message("8 threads x 20 syncs: %u of the system\n", syncs);
  assert_true(syncs >= 20 && syncs <= 160);
  before = asked.syncs;
  ok(pagedb_file_sync(f));
  ok(pagedb_file_sync(f));
  assert_int_equal(asked.syncs - before, 2); /* nobody to share with */
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

/* The allocator's file: every page is sound but page 3, which is a hole. */
static void test_interop_allocator_pages(void **state)
{
  (void)state;
  pagedb_file_options o = {.read_only = 1};
  pagedb_file *f;
  uint64_t n, lsn;
  ok(pagedb_file_open("tests/data/interop/alloc-4096.pages", &o, &f));
  void *page = pagedb_file_alloc(f, 1);
  ok(pagedb_file_count(f, &n));
  assert_int_equal(n, 6);
  for (uint64_t id = 0; id < n; id++) {
    lsn = 1;
    expect(pagedb_file_read(f, id, page, &lsn),
           id == 3 ? PAGEDB_EMAGIC : PAGEDB_OK);
    assert_int_equal(lsn, id == 3);
  }
  pagedb_file_free(page);
  pagedb_file_close(f);
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
  pagedb_store_close(NULL);
}

/* Its errors are those of a file: the first is told, all are done. */
static void test_memory_store_errors(void **state)
{
  (void)state;
  static const uint32_t sizes[] = {256, 2 << 20, 1536};
  pagedb_store *s;
  unsigned char page[2][512] = {{0}};
  void *p[2] = {page[0], page[1]};
  uint64_t lsn[2] = {3, 4}, n;
  int errs[2];
  for (int i = 0; i < 3; i++)
    expect(pagedb_store_in_memory(sizes[i], &s), PAGEDB_EPAGESIZE);
  ok(pagedb_store_in_memory(512, &s));
  pagedb_run far = {SIZE_MAX / 512, 1, p, lsn, errs, 0};
  expect(s->write(s, &far, 1), PAGEDB_ERANGE);
  ok(s->count(s, &n));
  assert_int_equal(n, 0);
  pagedb_run w = {5, 1, p, lsn, NULL, 0};
  ok(s->write(s, &w, 1));
  /* Page 4 is a hole, 6 beyond the end; 5 arrives, without room for its LSN. */
  pagedb_run r[2] = {{4, 2, p, NULL, errs, 0}, {6, 2, p, NULL, NULL, 0}};
  expect(s->read(s, r, 2), PAGEDB_EMAGIC);
  assert_int_equal(pagedb_last_fault()->page, 4);
  assert_int_equal(errs[0], PAGEDB_EMAGIC);
  assert_int_equal(errs[1], PAGEDB_OK);
  assert_int_equal(r[1].err, PAGEDB_ESHORT);
  assert_memory_equal(page[1] + AT, page[0] + AT, 512 - AT);
  r[0].count = 0;
  r[0].errs = NULL;
  expect(s->read(s, r, 1), PAGEDB_EMISUSE);
  pagedb_store_close(s);
}

/* A test that failed leaves no faults to the next. */
static int no_faults(void **state)
{
  (void)state;
  memset(&fault, 0, sizeof fault);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_open_options, no_faults),
      cmocka_unit_test_setup(test_wrong_page_size, no_faults),
      cmocka_unit_test_setup(test_wrong_database_page_size, no_faults),
      cmocka_unit_test_setup(test_start_cannot_be_read, no_faults),
      cmocka_unit_test_setup(test_foreign_files, no_faults),
      cmocka_unit_test_setup(test_every_page_size, no_faults),
      cmocka_unit_test_setup(test_direct_is_direct, no_faults),
      cmocka_unit_test_setup(test_large_blocks, no_faults),
#ifdef __linux__
      cmocka_unit_test_setup(test_direct_refused, no_faults),
#endif
      cmocka_unit_test_setup(test_offsets_do_not_wrap, no_faults),
      cmocka_unit_test_setup(test_beyond_4_gib_and_truncate, no_faults),
      cmocka_unit_test_setup(test_runs, no_faults),
      cmocka_unit_test_setup(test_faults_are_named, no_faults),
      cmocka_unit_test_setup(test_failed_sync_is_final, no_faults),
      cmocka_unit_test_setup(test_calls, no_faults),
      cmocka_unit_test_setup(test_stores_refuse, no_faults),
      cmocka_unit_test_setup(test_faults_in_runs, no_faults),
      cmocka_unit_test_setup(test_lengths, no_faults),
      cmocka_unit_test_setup(test_long_unsound_start, no_faults),
      cmocka_unit_test_setup(test_order_of_errors, no_faults),
      cmocka_unit_test_setup(test_sync_beside_a_failing_one, no_faults),
      cmocka_unit_test_setup(test_syncs_are_shared, no_faults),
      cmocka_unit_test_setup(test_threads_share_a_file, no_faults),
      cmocka_unit_test_setup(test_interop, no_faults),
      cmocka_unit_test_setup(test_interop_allocator_pages, no_faults),
      cmocka_unit_test_setup(test_memory_store, no_faults),
      cmocka_unit_test_setup(test_memory_store_errors, no_faults),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
