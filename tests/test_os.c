/*
** test_os.c - the layer under everything: files, batches, memory, clocks.
*/
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/resource.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "os.h"
#include "util.h"

static os_file *make(const char *path, unsigned flags)
{
  os_file *f;
  ok(os_open(path, OS_OPEN_CREATE | flags, &f, NULL));
  return f;
}

static void test_open(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f;
  os_geometry geo;
  expect(os_open(path, 0, &f, NULL), PAGEDB_ECANTOPEN);
  expect(os_open(path, OS_OPEN_READONLY, &f, NULL), PAGEDB_ECANTOPEN);
  ok(os_open(path, OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &f, &geo));
  assert_false(geo.direct);
  assert_int_equal(geo.offset_align, 1);
  os_close(f);
  expect(os_open(path, OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &f, NULL),
         PAGEDB_ECANTOPEN);
  ok(os_open(path, OS_OPEN_CREATE, &f, NULL));
  os_close(f);
  ok(os_open(path, OS_OPEN_READONLY, &f, NULL));
  os_iov iov = {(void *)(uintptr_t)path, 4};
  expect(os_writev(f, &iov, 1, 0), PAGEDB_EIO);
  os_close(f);
  os_close(NULL);
  ok(os_sync_parent_dir(path));
  int err = os_open(path, OS_OPEN_DIRECT, &f, &geo);
  if (err == PAGEDB_EDIRECT)
    print_message("no Direct I/O in the folder of the tests\n");
  else {
    ok(err);
    assert_true(geo.direct);
    assert_true(geo.offset_align >= 1 && geo.offset_align <= 65536);
    assert_true(geo.memory_align >= 1 && geo.memory_align <= 65536);
    os_close(f);
  }
  remove(path);
}

static void test_transfers(void **state)
{
  (void)state;
  enum { N = OS_IOV_MAX };
  const char *path = temp_path();
  os_file *f = make(path, 0);
  static unsigned char out[N][100], in[N][100];
  os_iov iov[N];
  size_t done;
  uint64_t seed = 1, far = (uint64_t)5 << 30, bytes;
  random_bytes(&seed, out, sizeof out);
  for (int i = 0; i < N; i++)
    iov[i] = (os_iov){out[i], (size_t)i % 101};
  ok(os_writev(f, iov, N, far));
  for (int i = 0; i < N; i++)
    iov[i] = (os_iov){in[i], (size_t)i % 101};
  ok(os_readv(f, iov, N, far, &done));
  size_t sum = 0;
  for (int i = 0; i < N; i++) {
    sum += (size_t)i % 101;
    assert_memory_equal(out[i], in[i], (size_t)i % 101);
  }
  assert_int_equal(done, sum);
  ok(os_size(f, &bytes));
  assert_true(bytes == far + sum);
  /* At the end, and beyond it. */
  iov[0] = (os_iov){in, 1000};
  ok(os_readv(f, iov, 1, far + sum - 10, &done));
  assert_int_equal(done, 10);
  iov[0] = (os_iov){in, 1000};
  ok(os_readv(f, iov, 1, far + sum + 10, &done));
  assert_int_equal(done, 0);
  /* Offsets that do not exist. */
  static const uint64_t wild[] = {INT64_MAX, (uint64_t)INT64_MAX + 1,
                                  UINT64_MAX, UINT64_MAX - 500};
  for (int i = 0; i < 4; i++) {
    iov[0] = (os_iov){in, 1000};
    expect(os_readv(f, iov, 1, wild[i], &done), PAGEDB_ERANGE);
    iov[0] = (os_iov){in, 1000};
    expect(os_writev(f, iov, 1, wild[i]), PAGEDB_ERANGE);
  }
  expect(os_truncate(f, UINT64_MAX), PAGEDB_ERANGE);
  os_close(f);
  remove(path);
}

static void test_size_and_room(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path, 0);
  uint64_t bytes;
  ok(os_truncate(f, 12345));
  ok(os_preallocate(f, 0, 1 << 20));
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 12345);
  ok(os_truncate(f, 5));
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 5);
  ok(os_datasync(f));
  expect(os_preallocate(f, INT64_MAX, 5), PAGEDB_ERANGE);
  os_close(f);
  remove(path);
}

/* n requests of 4 KiB each, at some depth; one reads over the end. */
static void batch_of(unsigned n, unsigned depth, int want_async)
{
  const char *path = temp_path();
  os_file *f = make(path, 0), *ro;
  os_queue *q;
  os_request *r = calloc(n, sizeof *r);
  os_iov *iov = calloc(2 * n, sizeof *iov);
  unsigned char *mem = malloc((size_t)n * 4096);
  uint64_t seed = n;
  ok(os_queue_open(depth, &q));
  if (!want_async)
    assert_false(os_queue_is_async(q));
  random_bytes(&seed, mem, (size_t)n * 4096);
  for (int write = 1; write >= 0; write--) {
    for (unsigned i = 0; i < n; i++) {
      iov[2 * i] = (os_iov){mem + (size_t)i * 4096, 1000};
      iov[2 * i + 1] = (os_iov){mem + (size_t)i * 4096 + 1000, 3096};
      r[i] = (os_request){.file = f,
                          .iov = &iov[2 * i],
                          .niov = 2,
                          .write = write,
                          .off = (uint64_t)(n - 1 - i) * 4096 +
                                 (write ? 0 : (i == 0 ? 4000 : 0))};
    }
    uint64_t sum = write ? fnv1a(mem, (size_t)n * 4096) : 0;
    os_queue_submit(q, r, n / 2);
    os_queue_submit(q, r + n / 2, n - n / 2);
    os_queue_wait(q);
    for (unsigned i = 0; i < n; i++) {
      ok(r[i].err);
      assert_int_equal(r[i].done, !write && i == 0 ? 96 : 4096);
    }
    if (write)
      assert_true(sum == fnv1a(mem, (size_t)n * 4096));
  }
  /* A request that fails does not disturb the others. */
  ok(os_open(path, OS_OPEN_READONLY, &ro, NULL));
  for (unsigned i = 0; i < n; i++) {
    iov[2 * i] = (os_iov){mem, 10};
    r[i] = (os_request){.file = i % 3 == 1 ? ro : f,
                        .iov = &iov[2 * i],
                        .niov = 1,
                        .write = i % 3 == 1,
                        .off = i % 3 == 2 ? UINT64_MAX - 5 : 0};
  }
  os_queue_submit(q, r, n);
  os_queue_wait(q);
  for (unsigned i = 0; i < n; i++) {
    expect(r[i].err, i % 3 == 0   ? PAGEDB_OK
                     : i % 3 == 1 ? PAGEDB_EIO
                                  : PAGEDB_ERANGE);
    assert_int_equal(r[i].sys != 0, i % 3 == 1);
  }
  os_queue_close(q);
  os_close(ro);
  os_close(f);
  free(mem);
  free(iov);
  free(r);
  remove(path);
}

static void test_batches(void **state)
{
  (void)state;
  static const unsigned counts[] = {1, 2, 63, 64, 65, 200};
  static const unsigned depths[] = {1, 8, 64};
  os_queue *q;
  ok(os_queue_open(8, &q));
  print_message("batches are %s\n",
                os_queue_is_async(q) ? "asynchronous" : "synchronous");
  os_queue_close(q);
  for (int async = 1; async >= 0; async--) {
    putenv(async ? "PAGEDB_URING=1" : "PAGEDB_URING=0");
    for (int c = 0; c < 6; c++)
      for (int d = 0; d < 3; d++)
        batch_of(counts[c], depths[d], async);
  }
  putenv("PAGEDB_URING=1");
}

static void test_memory(void **state)
{
  (void)state;
  size_t bytes = (size_t)64 << 20;
  for (size_t align = sizeof(void *); align <= 65536; align *= 2) {
    void *p = os_aligned_alloc(align, 1000);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % align, 0);
    os_aligned_free(p);
  }
  unsigned char *p = os_reserve(bytes);
  assert_non_null(p);
  assert_int_equal((uintptr_t)p % (2 << 20), 0);
  assert_int_equal(p[0], 0);
  assert_int_equal(p[bytes - 1], 0);
  memset(p, 1, 8192);
  os_decommit(p, 4096);
  assert_int_equal(p[4096], 1);
  p[0] = 2;
  os_release(p, bytes);
  assert_null(os_reserve(SIZE_MAX - 4096));
  assert_true(os_memory_bytes() >= 1 << 20);
}

static void test_clocks(void **state)
{
  (void)state;
  uint64_t t = os_monotonic_ns();
  for (int i = 0; i < 1000; i++) {
    uint64_t u = os_monotonic_ns();
    assert_true(u >= t);
    t = u;
  }
  assert_true(os_wallclock_us() > (uint64_t)1700000000 * 1000000);
}

static void test_fence(void **state)
{
  (void)state;
  putenv("PAGEDB_MEMBARRIER=0");
#ifdef __linux__
  assert_int_equal(os_fence_init(), 0);
#endif
  putenv("PAGEDB_MEMBARRIER=1");
  if (os_fence_init())
    os_fence_heavy();
  else
    print_message("no asymmetric fence here\n");
}

#ifdef __linux__
/* A limit on the length of files: the write is cut short, then refused. */
static void test_length_limit(void **state)
{
  (void)state;
  const char *path = temp_path();
  static unsigned char data[8192];
  struct rlimit old, limit;
  os_file *f = make(path, 0);
  uint64_t bytes;
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &old);
  limit = old;
  limit.rlim_cur = 10000;
  setrlimit(RLIMIT_FSIZE, &limit);
  os_iov iov[2] = {{data, 4096}, {data + 4096, 4096}};
  int err = os_writev(f, iov, 2, 4096);
  setrlimit(RLIMIT_FSIZE, &old);
  expect(err, PAGEDB_ERANGE);
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 10000); /* the part that fitted was carried on */
  os_close(f);
  remove(path);
}

static void test_full_device(void **state)
{
  (void)state;
  os_file *f;
  if (access("/dev/full", W_OK) != 0) {
    print_message("skipped: no /dev/full\n");
    return;
  }
  /* A character device is refused before anything is written to it. */
  expect(os_open("/dev/full", 0, &f, NULL), PAGEDB_ECANTOPEN);
}

/* The reserved range is not there in a child. */
static void test_not_inherited(void **state)
{
  (void)state;
  unsigned char *p = os_reserve(4 << 20);
  p[0] = 0;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(p[0]);
  }
  int status;
  waitpid(child, &status, 0);
  /* A sanitizer turns the signal into an exit status of its own. */
  assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
  os_release(p, 4 << 20);
}
#endif

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),          cmocka_unit_test(test_transfers),
      cmocka_unit_test(test_size_and_room), cmocka_unit_test(test_batches),
      cmocka_unit_test(test_memory),        cmocka_unit_test(test_clocks),
      cmocka_unit_test(test_fence),
#ifdef __linux__
      cmocka_unit_test(test_length_limit),  cmocka_unit_test(test_full_device),
      cmocka_unit_test(test_not_inherited),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
