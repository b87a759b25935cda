/*
** test_os.c - the layer under everything: files, batches, memory, clocks.
**
** Owns the files that it makes below PAGEDB_TEST_DIR, and one in /dev/shm. One
** thread. On Linux it also stands between os_posix.c and some system calls: a
** function of the program comes before libc's of the same name.
*/
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "os_int.h"
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

/* Opens that must fail, and leave nothing behind. */
static void test_open_refused(void **state)
{
  (void)state;
  const char *dir = getenv("PAGEDB_TEST_DIR"), *path = temp_path();
  const unsigned create = OS_OPEN_CREATE;
  static const unsigned modes[] = {0, OS_OPEN_READONLY, OS_OPEN_DIRECT};
  os_file *f;
  char inside[600];
  dir = dir != NULL ? dir : "build";
  for (int i = 0; i < 3; i++) {
    expect(os_open(dir, modes[i], &f, NULL), PAGEDB_ECANTOPEN);
    expect(os_open(dir, modes[i] | create, &f, NULL), PAGEDB_ECANTOPEN);
  }
  assert_string_equal(pagedb_last_fault()->path, dir);
  snprintf(inside, sizeof inside, "%s/x", path); /* no such folder */
  expect(os_open(inside, create, &f, NULL), PAGEDB_ECANTOPEN);
  assert_int_not_equal(pagedb_last_fault()->sys, 0);
  /* EXCLUSIVE means nothing without CREATE. */
  expect(os_open(path, OS_OPEN_EXCLUSIVE, &f, NULL), PAGEDB_ECANTOPEN);
  expect(os_open(path, 0, &f, NULL), PAGEDB_ECANTOPEN);
#ifdef _WIN32
  expect(os_open("\xff\xfe", create, &f, NULL), PAGEDB_ECANTOPEN);
#endif
}

/* A name outside ASCII is the same name at every open. */
static void test_utf8_path(void **state)
{
  (void)state;
  const char *dir = getenv("PAGEDB_TEST_DIR");
  char path[600];
  os_file *f;
  snprintf(path, sizeof path, "%s/t-\xc3\xa4\xe2\x82\xac",
           dir != NULL ? dir : "build");
  os_close(make(path, 0));
  ok(os_open(path, OS_OPEN_READONLY, &f, NULL));
  os_close(f);
  expect(os_open(path, OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &f, NULL),
         PAGEDB_ECANTOPEN);
#ifndef _WIN32 /* where remove() would take it for another name */
  remove(path);
#endif
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
    assert_int_equal(pagedb_last_fault()->sys, 0);
    assert_int_equal(pagedb_last_fault()->found, 0);
    assert_int_equal(pagedb_last_fault()->expected, 0);
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

typedef int (*opener)(unsigned depth, os_queue **out);
static const opener openers[] = {os_queue_open, os_queue_open_lasting};

/* n requests of 4 KiB each, at some depth; one reads over the end. */
static void batch_of(unsigned n, unsigned depth, int want_async, opener open_it)
{
  const char *path = temp_path();
  os_file *f = make(path, 0), *ro;
  os_queue *q;
  os_request *r = calloc(n, sizeof *r);
  os_iov *iov = calloc(2 * n, sizeof *iov);
  unsigned char *mem = malloc((size_t)n * 4096);
  uint64_t seed = n;
  ok(open_it(depth, &q));
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

/* One after the other as they come back; none is left out. */
static void reap_of(opener open_it)
{
  enum { N = 20 };
  os_file *f = make(temp_path(), 0);
  os_request r[N];
  os_iov iov[N];
  os_queue *q;
  static unsigned char mem[N][4096], back[N][4096];
  uint64_t seed = 3;
  random_bytes(&seed, mem, sizeof mem);
  memset(back, 0, sizeof back);
  ok(open_it(6, &q));
  for (int write = 1; write >= 0; write--) {
    for (unsigned i = 0; i < N; i++) {
      iov[i] = (os_iov){write ? mem[i] : back[i], 4096};
      r[i] = (os_request){.file = f,
                          .iov = &iov[i],
                          .niov = 1,
                          .write = write,
                          .off = 4096 * (uint64_t)i};
    }
    os_queue_submit(q, r, N);
    while (os_queue_reap(q, 0) || os_queue_reap(q, 1))
      ;
    for (unsigned i = 0; i < N; i++) {
      assert_int_equal(r[i].flying, 0);
      ok(r[i].err);
    }
  }
  assert_memory_equal(mem, back, sizeof mem);
  os_queue_close(q);
  os_close(f);
}

static void test_reap(void **state)
{
  (void)state;
  for (int i = 0; i < 2; i++)
    reap_of(openers[i]);
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
        for (int i = 0; i < 2; i++)
          batch_of(counts[c], depths[d], async, openers[i]);
  }
  putenv("PAGEDB_URING=1");
}

enum { LEFT_READS = 8, LEFT_BYTES = 65536, LEFT_QUEUES = 40 };

/* Reads of one queue, all of them of the same file. */
typedef struct left {
  os_queue *queue;
  os_request request[LEFT_READS];
  os_iov iov[LEFT_READS];
  unsigned char *mem;
} left;

static void left_open(left *l, os_file *f)
{
  ok(os_queue_open_lasting(LEFT_READS, &l->queue));
  l->mem = os_aligned_alloc(4096, LEFT_READS * LEFT_BYTES);
  assert_non_null(l->mem);
  memset(l->mem, 0, LEFT_READS * LEFT_BYTES);
  for (int i = 0; i < LEFT_READS; i++) {
    l->iov[i] = (os_iov){l->mem + (size_t)i * LEFT_BYTES, LEFT_BYTES};
    l->request[i] = (os_request){.file = f,
                                 .iov = &l->iov[i],
                                 .niov = 1,
                                 .off = (uint64_t)i * LEFT_BYTES};
  }
}

static void *left_begin(void *arg)
{
  left *l = arg;
  os_queue_submit(l->queue, l->request, LEFT_READS);
  return NULL;
}

/* 1 if all came back as they should. */
static int left_end(left *l, uint64_t sum)
{
  int good = 1;
  os_queue_wait(l->queue);
  for (int i = 0; i < LEFT_READS; i++)
    good &= l->request[i].err == PAGEDB_OK && !l->request[i].flying &&
            l->request[i].done == LEFT_BYTES;
  good &= fnv1a(l->mem, LEFT_READS * LEFT_BYTES) == sum;
  os_queue_close(l->queue);
  os_aligned_free(l->mem);
  return good;
}

/* Under way when their thread is gone, in more queues than there are contexts;
** another thread takes them up. A forked child leaves them alone, and reads, too. */
static void test_left_under_way(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f;
  left all[LEFT_QUEUES];
  int err = os_open(path, OS_OPEN_CREATE | OS_OPEN_DIRECT, &f, NULL);
  if (err == PAGEDB_EDIRECT) {
    print_message("reads that are left under way are plain ones here\n");
    f = make(path, 0);
  }
  unsigned char *mem = os_aligned_alloc(4096, LEFT_READS * LEFT_BYTES);
  uint64_t seed = 7;
  random_bytes(&seed, mem, LEFT_READS * LEFT_BYTES);
  os_iov iov = {mem, LEFT_READS * LEFT_BYTES};
  ok(os_writev(f, &iov, 1, 0));
  uint64_t sum = fnv1a(mem, LEFT_READS * LEFT_BYTES);
  for (unsigned round = 0; round < 3; round++) {
    for (int i = 0; i < LEFT_QUEUES; i++) {
      pthread_t t;
      left_open(&all[i], f);
      assert_int_equal(pthread_create(&t, NULL, left_begin, &all[i]), 0);
      pthread_join(t, NULL);
    }
#ifdef __linux__
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      left own;
      left_open(&own, f);
      left_begin(&own);
      _exit(left_end(&own, sum) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
#endif
    for (int i = 0; i < LEFT_QUEUES; i++)
      assert_true(left_end(&all[i], sum));
  }
  os_aligned_free(mem);
  os_close(f);
  remove(path);
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
  p = os_reserve(2 * OS_HUGE_PAGE);
  assert_non_null(p);
  os_huge_pages(p, OS_HUGE_PAGE, 1);
  memset(p, 3, 2 * OS_HUGE_PAGE);
  os_huge_pages(p, OS_HUGE_PAGE, 0);
  os_decommit(p + 4096, 4096);
  assert_int_equal(p[4095], 3);
  assert_int_equal(p[8192], 3);
  assert_int_equal(p[OS_HUGE_PAGE], 3);
  os_release(p, 2 * OS_HUGE_PAGE);
  assert_null(os_reserve(SIZE_MAX - 4096));
  /* Not a whole number of pages. */
  p = os_reserve(4097);
  assert_non_null(p);
  p[4096] = 1;
  os_release(p, 4097);
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

/* ------------------------------------------------- system calls that fail */

/* What the next calls meet. */
static struct {
  size_t most; /* transfer at most so many bytes a call, every other call being
                  interrupted; 0: no such limit */
  int interrupt;
  int nothing; /* transfer 0 bytes */
  int fail;    /* errno; 0: do not fail */
} plan;

static ssize_t planned(long call, int fd, const struct iovec *v, int n,
                       off_t off)
{
  struct iovec cut;
  if (plan.nothing)
    return 0;
  if (plan.fail != 0 || plan.interrupt) {
    errno = plan.fail != 0 ? plan.fail : EINTR;
    plan.interrupt = 0;
    return -1;
  }
  if (plan.most > 0) {
    while (n > 1 && v->iov_len == 0)
      v++, n--;
    cut = *v;
    if (cut.iov_len > plan.most)
      cut.iov_len = plan.most;
    v = &cut;
    n = 1;
    plan.interrupt = 1;
  }
  return syscall(call, fd, v, (long)n, (long)off, 0L);
}

ssize_t preadv(int fd, const struct iovec *v, int n, off_t off)
{
  return planned(SYS_preadv, fd, v, n, off);
}

ssize_t pread(int fd, void *p, size_t n, off_t off)
{
  struct iovec v = {p, n};
  return planned(SYS_preadv, fd, &v, 1, off);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t off)
{
  return planned(SYS_pwritev, fd, v, n, off);
}

int fdatasync(int fd)
{
  errno = plan.fail;
  return plan.fail != 0 ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static unsigned begun_with; /* flags of the last one */

int sync_file_range(int fd, off_t off, off_t len, unsigned flags)
{
  begun_with = flags;
  errno = plan.fail;
  return plan.fail != 0
             ? -1
             : (int)syscall(SYS_sync_file_range, fd, off, len, flags);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
  errno = plan.fail;
  return plan.fail != 0 ? -1 : (int)syscall(SYS_fallocate, fd, mode, off, len);
}

/* Everything arrives in pieces of 7 bytes, between interruptions. */
static void test_partial(void **state)
{
  (void)state;
  enum { N = 40, LEN = 25 };
  static unsigned char out[N][LEN], in[N][LEN];
  const char *path = temp_path();
  os_file *f = make(path, 0);
  os_iov w[N], r[N];
  os_queue *q;
  uint64_t seed = 3;
  random_bytes(&seed, out, sizeof out);
  for (int i = 0; i < N; i++) {
    w[i] = (os_iov){out[i], i % 5 == 0 ? 0 : LEN};
    r[i] = (os_iov){in[i], i % 5 == 0 ? 0 : LEN};
  }
  plan.most = 7;
  ok(os_writev(f, w, N, 1000));
  putenv("PAGEDB_URING=0");
  ok(os_queue_open(4, &q));
  os_request request = {.file = f, .iov = r, .niov = N, .off = 1000};
  os_queue_submit(q, &request, 1);
  os_queue_wait(q);
  os_queue_close(q);
  putenv("PAGEDB_URING=1");
  plan.most = 0;
  plan.interrupt = 0;
  ok(request.err);
  assert_int_equal(request.done, N / 5 * 4 * LEN);
  for (int i = 0; i < N; i++)
    if (i % 5 != 0)
      assert_memory_equal(in[i], out[i], LEN);
  os_close(f);
  remove(path);
}

/* Each system error becomes the error that os.h names, and is remembered. */
static void test_failures(void **state)
{
  (void)state;
  static const struct {
    int sys, write, read, room;
  } cases[] = {
      {ENOSPC, PAGEDB_EFULL, PAGEDB_EIO, PAGEDB_EFULL},
      {EDQUOT, PAGEDB_EFULL, PAGEDB_EIO, PAGEDB_EFULL},
      {EFBIG, PAGEDB_ERANGE, PAGEDB_ERANGE, PAGEDB_OK},
      {EIO, PAGEDB_EIO, PAGEDB_EIO, PAGEDB_OK},
      {EINVAL, PAGEDB_EIO, PAGEDB_EIO, PAGEDB_OK},
      {EOPNOTSUPP, PAGEDB_EIO, PAGEDB_EIO, PAGEDB_OK},
  };
  const char *path = temp_path();
  os_file *f = make(path, 0);
  char byte = 1;
  size_t done = 77;
  os_iov iov = {&byte, 1};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    plan.fail = cases[i].sys;
    int write = os_writev(f, &iov, 1, 0), write_sys = pagedb_last_fault()->sys;
    int read = os_readv(f, &iov, 1, 0, &done);
    int room = os_preallocate(f, 0, 4096);
    int sync = os_datasync(f), sync_sys = pagedb_last_fault()->sys;
    plan.fail = 0;
    expect(write, cases[i].write);
    assert_int_equal(write_sys, cases[i].sys);
    expect(read, cases[i].read);
    assert_int_equal(done, 77);
    expect(room, cases[i].room);
    expect(sync, PAGEDB_ESYNC);
    assert_int_equal(sync_sys, cases[i].sys);
  }
  plan.nothing = 1; /* must end, too */
  int write = os_writev(f, &iov, 1, 0), read = os_readv(f, &iov, 1, 0, &done);
  plan.nothing = 0;
  expect(write, PAGEDB_EIO);
  ok(read);
  assert_int_equal(done, 0);
  expect(os_sync_parent_dir("build/no/such/folder/x"), PAGEDB_ESYNC);
  os_close(f);
  remove(path);
}

/* A hint. One that waits would be told of all errors of write-back, and the sync then
** not; what it is told all the same is not lost. Where it cannot be had nothing is. */
static void test_write_back(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path, 0);
  static unsigned char out[300000], in[sizeof out];
  uint64_t seed = 5;
  size_t done;
  random_bytes(&seed, out, sizeof out);
  os_iov w = {out, sizeof out}, r = {in, sizeof in};
  ok(os_writev(f, &w, 1, 4096));
  ok(os_write_back(f, 4096, sizeof out));
  assert_int_equal(begun_with, SYNC_FILE_RANGE_WRITE);
  plan.fail = EIO;
  expect(os_write_back(f, 0, 4096 + sizeof out), PAGEDB_ESYNC);
  plan.fail = ENOSYS;
  ok(os_write_back(f, 0, 4096 + sizeof out));
  plan.fail = 0;
  begun_with = 0;
  ok(os_write_back(f, UINT64_MAX - 5, 5));
  ok(os_write_back(f, 4096, UINT64_MAX - 5));
  assert_int_equal(begun_with, 0);
  ok(os_datasync(f));
  ok(os_readv(f, &r, 1, 4096, &done));
  assert_int_equal(done, sizeof out);
  assert_memory_equal(in, out, sizeof out);
  os_close(f);
  remove(path);
}

static void test_permission(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path, 0);
  os_close(f);
  if (geteuid() == 0) {
    print_message("skipped: nothing is forbidden to root\n");
  } else {
    assert_int_equal(chmod(path, 0400), 0);
    expect(os_open(path, 0, &f, NULL), PAGEDB_ECANTOPEN);
    assert_int_equal(pagedb_last_fault()->sys, EACCES);
    ok(os_open(path, OS_OPEN_READONLY, &f, NULL));
    os_close(f);
  }
  remove(path);
}

/* ------------------------------------------------------------- Direct I/O */

/* What the kernel says of the file's Direct I/O: the alignment of offsets, 0
** for none, -1 when it does not tell. */
static long told_alignment(const char *path, long *memory)
{
#ifdef STATX_DIOALIGN
  struct statx sx;
  if (statx(AT_FDCWD, path, 0, STATX_DIOALIGN, &sx) == 0 &&
      (sx.stx_mask & STATX_DIOALIGN) != 0) {
    *memory = sx.stx_dio_mem_align;
    return sx.stx_dio_offset_align;
  }
#endif
  (void)path;
  (void)memory;
  return -1;
}

/* Pages of the file's first n bytes that the system has in its cache. */
static int cached_pages(int fd, size_t n)
{
  unsigned char in[64] = {0};
  int sum = 0;
  void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
  assert_ptr_not_equal(p, MAP_FAILED);
  assert_int_equal(mincore(p, n, in), 0);
  for (size_t i = 0; i < sizeof in; i++)
    sum += in[i] & 1;
  munmap(p, n);
  return sum;
}

/* Read the whole direct file and beyond, by plain calls and in a batch: its end
** is not aligned, and that is not an error. */
static void direct_end(os_file *f, unsigned char *page, size_t length)
{
  enum { N = 6 };
  os_request r[N];
  os_iov iov[N];
  os_queue *q;
  size_t done;
  iov[0] = (os_iov){page, 65536};
  ok(os_readv(f, iov, 1, 0, &done));
  assert_int_equal(done, length);
  ok(os_queue_open(3, &q));
  for (unsigned i = 0; i < N; i++) {
    iov[i] = (os_iov){page + 8192 * i, 8192};
    r[i] = (os_request){
        .file = f, .iov = &iov[i], .niov = 1, .off = 4096 * (uint64_t)i};
  }
  os_queue_submit(q, r, N);
  os_queue_wait(q);
  os_queue_close(q);
  for (size_t i = 0; i < N; i++) {
    size_t left = length > 4096 * i ? length - 4096 * i : 0;
    ok(r[i].err);
    assert_int_equal(r[i].done, left < 8192 ? left : 8192);
  }
}

static void test_direct(void **state)
{
  (void)state;
  const char *path = temp_path(), *plain = temp_path();
  os_geometry geo;
  os_file *f;
  long memory = 0;
  os_close(make(plain, 0));
  long told = told_alignment(plain, &memory);
  remove(plain);
  int err = os_open(path, OS_OPEN_CREATE | OS_OPEN_DIRECT, &f, &geo);
  if (err == PAGEDB_EDIRECT && told <= 0) {
    assert_int_not_equal(access(path, F_OK), 0);
    print_message("skipped: no Direct I/O in the folder of the tests\n");
    return;
  }
  ok(err);
  assert_int_equal(geo.direct, 1);
  assert_true((fcntl(os_file_fd(f), F_GETFL) & O_DIRECT) != 0);
  assert_true((fcntl(os_file_fd(f), F_GETFD) & FD_CLOEXEC) != 0);
  if (told > 0) {
    assert_int_equal(geo.offset_align, told);
    assert_int_equal(geo.memory_align, memory);
  }
  assert_true(geo.offset_align <= 4096 && geo.memory_align <= 4096);
  unsigned char *page = os_aligned_alloc(4096, 65536);
  memset(page, 5, 65536);
  os_iov iov[2] = {{page, 4096}, {page + 4096, 8192}};
  ok(os_writev(f, iov, 2, 0));
  assert_int_equal(cached_pages(os_file_fd(f), 12288), 0);
  iov[0] = (os_iov){page, 512};
  if (geo.offset_align > 1)
    expect(os_writev(f, iov, 1, 1), PAGEDB_EIO);
  ok(os_truncate(f, 12188));
  direct_end(f, page, 12188);
  os_aligned_free(page);
  os_close(f);
  remove(path);
}

/* tmpfs takes the flag (Linux 6.6) without being direct. */
static void test_direct_refused(void **state)
{
  (void)state;
  char path[64];
  struct statfs fs;
  os_file *f;
  uint64_t bytes;
  snprintf(path, sizeof path, "/dev/shm/pagedb-test-os-%ld", (long)getpid());
  if (access("/dev/shm", W_OK) != 0 || statfs("/dev/shm", &fs) != 0 ||
      fs.f_type != TMPFS_MAGIC) {
    print_message("skipped: no tmpfs in /dev/shm\n");
    return;
  }
  static const unsigned flags[] = {OS_OPEN_CREATE,
                                   OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE};
  for (int i = 0; i < 2; i++) {
    expect(os_open(path, flags[i] | OS_OPEN_DIRECT, &f, NULL), PAGEDB_EDIRECT);
    assert_int_not_equal(access(path, F_OK), 0);
  }
  /* One that was there stays. */
  f = make(path, 0);
  ok(os_truncate(f, 8192));
  os_close(f);
  expect(os_open(path, OS_OPEN_CREATE | OS_OPEN_DIRECT, &f, NULL),
         PAGEDB_EDIRECT);
  expect(os_open(path, OS_OPEN_READONLY | OS_OPEN_DIRECT, &f, NULL),
         PAGEDB_EDIRECT);
  ok(os_open(path, 0, &f, NULL));
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 8192);
  os_close(f);
  remove(path);
}

/* ----------------------------------------------------------------- limits */

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

/* The same in a batch: the request that fits is not disturbed. */
static void test_length_limit_in_batch(void **state)
{
  (void)state;
  static unsigned char data[8192];
  struct rlimit old, limit;
  signal(SIGXFSZ, SIG_IGN);
  for (int async = 1; async >= 0; async--) {
    const char *path = temp_path();
    os_file *f = make(path, 0);
    os_queue *q;
    uint64_t bytes;
    os_iov iov[2] = {{data, 8192}, {data, 8192}};
    os_request r[2];
    for (int i = 0; i < 2; i++)
      r[i] = (os_request){.file = f,
                          .iov = &iov[i],
                          .niov = 1,
                          .write = 1,
                          .off = 8192 * (uint64_t)i};
    putenv(async ? "PAGEDB_URING=1" : "PAGEDB_URING=0");
    ok(os_queue_open(2, &q));
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 12288;
    setrlimit(RLIMIT_FSIZE, &limit);
    os_queue_submit(q, r, 2);
    os_queue_wait(q);
    setrlimit(RLIMIT_FSIZE, &old);
    os_queue_close(q);
    ok(r[0].err);
    assert_int_equal(r[0].done, 8192);
    expect(r[1].err, PAGEDB_ERANGE);
    ok(os_size(f, &bytes));
    assert_int_equal(bytes, 12288);
    os_close(f);
    remove(path);
  }
  putenv("PAGEDB_URING=1");
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

/* Whether a child finds at p the 42 that stands there. What it finds otherwise
** is open: a sanitizer turns the signal into an exit status of its own, and may
** have put something else in the gap. */
static int seen_by_child(unsigned char *p)
{
  int status;
  *p = 42;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(*p);
  }
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

/* The reserved range is not there in a child. qemu-user leaves everything
** there, as a page of our own tells. */
static void test_not_inherited(void **state)
{
  (void)state;
  unsigned char *control = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(control, MAP_FAILED);
  madvise(control, 4096, MADV_DONTFORK);
  unsigned char *p = os_reserve(4 << 20);
  if (seen_by_child(control))
    print_message("skipped: this system has no MADV_DONTFORK\n");
  else
    assert_false(seen_by_child(p));
  munmap(control, 4096);
  os_release(p, 4 << 20);
}
#endif

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),
      cmocka_unit_test(test_open_refused),
      cmocka_unit_test(test_utf8_path),
      cmocka_unit_test(test_transfers),
      cmocka_unit_test(test_size_and_room),
      cmocka_unit_test(test_batches),
      cmocka_unit_test(test_reap),
      cmocka_unit_test(test_left_under_way),
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_clocks),
      cmocka_unit_test(test_fence),
#ifdef __linux__
      cmocka_unit_test(test_partial),
      cmocka_unit_test(test_failures),
      cmocka_unit_test(test_write_back),
      cmocka_unit_test(test_permission),
      cmocka_unit_test(test_direct),
      cmocka_unit_test(test_direct_refused),
      cmocka_unit_test(test_length_limit),
      cmocka_unit_test(test_length_limit_in_batch),
      cmocka_unit_test(test_full_device),
      cmocka_unit_test(test_not_inherited),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
