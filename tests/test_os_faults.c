/*
** test_os_faults.c - system calls and io_uring that fail, under the layer os.h.
**
** Linked with --wrap for the calls named below (Makefile). Each is let through
** until a test plans otherwise. Linux only. One thread.
*/
#define _GNU_SOURCE
#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef PAGEDB_HAVE_URING
#include <liburing.h>
#endif

#include "os_int.h"
#include "util.h"

/* What the next calls meet: fail with errno `fail` after `after` good ones, `times`
** times. */
typedef struct plan {
  int fail, after, times;
} plan;

static plan on_mmap, on_fstat, on_statx, on_fcntl, on_fstatfs, on_ftruncate,
    on_open, on_pread, on_memalign, on_lseek, on_fallocate, on_fdatasync,
    on_fsync, on_pwritev, on_malloc, on_calloc, on_submit, on_cqe, on_ring,
    on_membarrier, on_sysconf, on_io_setup, on_io_submit, on_io_getevents;
static mode_t pretend_mode; /* what fstat says the file is; 0: the truth */
static int no_dioalign;     /* statx does not tell */

static int fails(plan *p)
{
  if (p->times == 0)
    return 0;
  if (p->after > 0) {
    p->after--;
    return 0;
  }
  p->times--;
  errno = p->fail;
  return 1;
}

#define WRAP(type, name, params)                                               \
  type __real_##name params;                                                   \
  type __wrap_##name params;                                                   \
  type __wrap_##name params

WRAP(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t o))
{
  return fails(&on_mmap) ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, o);
}

WRAP(int, fstat, (int fd, struct stat *st))
{
  int rc = fails(&on_fstat) ? -1 : __real_fstat(fd, st);
  if (rc == 0 && pretend_mode != 0)
    st->st_mode = pretend_mode;
  return rc;
}

WRAP(int, statx,
     (int fd, const char *path, int flags, unsigned mask, struct statx *sx))
{
  int rc = fails(&on_statx) ? -1 : __real_statx(fd, path, flags, mask, sx);
  if (no_dioalign)
    sx->stx_mask = 0;
  return rc;
}

int __real_fcntl(int fd, int op, ...);
int __wrap_fcntl(int fd, int op, ...);
int __wrap_fcntl(int fd, int op, ...)
{
  va_list args;
  va_start(args, op);
  int arg = op == F_GETFL ? 0 : va_arg(args, int);
  va_end(args);
  return fails(&on_fcntl) ? -1 : __real_fcntl(fd, op, arg);
}

WRAP(int, fstatfs, (int fd, struct statfs *fs))
{
  return fails(&on_fstatfs) ? -1 : __real_fstatfs(fd, fs);
}

WRAP(int, ftruncate, (int fd, off_t n))
{
  return fails(&on_ftruncate) ? -1 : __real_ftruncate(fd, n);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
  return fails(&on_open) ? -1 : __real_open(path, flags, 0644);
}

static off_t
    grows_to; /* where the file ends once a pread failed; 0: as it was */

WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t o))
{
  if (!fails(&on_pread))
    return __real_pread(fd, p, n, o);
  if (grows_to != 0 && __real_ftruncate(fd, grows_to) != 0)
    abort();
  errno = on_pread.fail;
  return -1;
}

WRAP(int, posix_memalign, (void **p, size_t align, size_t n))
{
  return fails(&on_memalign) ? ENOMEM : __real_posix_memalign(p, align, n);
}

WRAP(off_t, lseek, (int fd, off_t o, int from))
{
  return fails(&on_lseek) ? -1 : __real_lseek(fd, o, from);
}

WRAP(int, fallocate, (int fd, int mode, off_t o, off_t n))
{
  return fails(&on_fallocate) ? -1 : __real_fallocate(fd, mode, o, n);
}

WRAP(int, fdatasync, (int fd))
{
  return fails(&on_fdatasync) ? -1 : __real_fdatasync(fd);
}

WRAP(int, fsync, (int fd))
{
  return fails(&on_fsync) ? -1 : __real_fsync(fd);
}

/* Writes nothing, and calls it no error. */
WRAP(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o))
{
  return fails(&on_pwritev) ? 0 : __real_pwritev(fd, v, n, o);
}

/* Files of /proc and /sys as a test wants them; NULL: the truth. */
typedef struct pretended {
  const char *path, *text;
} pretended;

static const pretended *pretended_files;

WRAP(FILE *, fopen, (const char *path, const char *mode))
{
  if (pretended_files == NULL ||
      (strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/sys/", 5) != 0))
    return __real_fopen(path, mode);
  for (const pretended *f = pretended_files; f->path != NULL; f++)
    if (strcmp(f->path, path) == 0)
      return fmemopen((void *)(uintptr_t)f->text, strlen(f->text), "r");
  errno = ENOENT;
  return NULL;
}

WRAP(void *, malloc, (size_t n))
{
  return fails(&on_malloc) ? NULL : __real_malloc(n);
}

WRAP(void *, calloc, (size_t n, size_t size))
{
  return fails(&on_calloc) ? NULL : __real_calloc(n, size);
}

WRAP(long, sysconf, (int name))
{
  return fails(&on_sysconf) ? -1 : __real_sysconf(name);
}

static plan *on_syscall(long number)
{
  return number == SYS_io_setup       ? &on_io_setup
         : number == SYS_io_submit    ? &on_io_submit
         : number == SYS_io_getevents ? &on_io_getevents
                                      : &on_membarrier;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
  va_list args;
  long arg[6];
  va_start(args, number);
  for (int i = 0; i < 6; i++)
    arg[i] = va_arg(args, long);
  va_end(args);
  return fails(on_syscall(number))
             ? -1
             : __real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4],
                              arg[5]);
}

static os_file *make(const char *path)
{
  os_file *f;
  ok(os_open(path, OS_OPEN_CREATE, &f, NULL));
  return f;
}

/* ------------------------------------------------------------------- files */

static void test_open_fails(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f;
  os_geometry geo;
  on_open = (plan){.fail = EINTR, .times = 3};
  os_close(make(path));
  on_malloc = (plan){.times = 1};
  expect(os_open(path, 0, &f, NULL), PAGEDB_ENOMEM);
  on_malloc = (plan){.times = 1};
  expect(os_borrow(1, &f), PAGEDB_ENOMEM);
  on_fstat = (plan){.fail = EIO, .times = 1};
  expect(os_open(path, 0, &f, NULL), PAGEDB_ECANTOPEN);
  /* Gone at the first look, there at the second: tried again, not for ever. */
  on_open = (plan){.fail = ENOENT, .times = 1};
  ok(os_open(path, OS_OPEN_CREATE, &f, NULL));
  os_close(f);
  for (int i = 0; i < 2; i++) {
    on_open = (plan){.fail = ENOENT, .times = 1};
    expect(os_open(path, OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, &f, NULL),
           PAGEDB_ECANTOPEN);
  }
  /* A name that is neither there nor to be made: not for ever either. */
  const char *nowhere = temp_path();
  assert_int_equal(symlink("build/no-such-file", nowhere), 0);
  expect(os_open(nowhere, OS_OPEN_CREATE, &f, NULL), PAGEDB_ECANTOPEN);
  remove(nowhere);
  /* Block devices are files, pipes are not. */
  pretend_mode = S_IFBLK;
  ok(os_open(path, 0, &f, NULL));
  os_close(f);
  pretend_mode = S_IFIFO;
  expect(os_open(path, 0, &f, NULL), PAGEDB_ECANTOPEN);
  pretend_mode = 0;
  on_fcntl = (plan){.fail = EINVAL, .after = 1, .times = 1};
  expect(os_open(path, OS_OPEN_DIRECT, &f, &geo), PAGEDB_EDIRECT);
  assert_int_equal(pagedb_last_fault()->sys, EINVAL);
  /* A file that this call made goes away again when it turns out unfit. */
  remove(path);
  on_fstat = (plan){.fail = EIO, .times = 1};
  expect(os_open(path, OS_OPEN_CREATE, &f, NULL), PAGEDB_ECANTOPEN);
  assert_int_not_equal(access(path, F_OK), 0);
  /* Direct I/O that cannot be set, and that cannot be asked for. */
  f = make(path);
  on_fcntl = (plan){.fail = EINVAL, .times = 1};
  expect(os_make_direct(f, &geo), PAGEDB_EDIRECT);
  on_fcntl = (plan){.fail = EINVAL, .times = 2};
  expect(os_make_direct(f, &geo), PAGEDB_EDIRECT);
  on_statx = (plan){.fail = ENOSYS, .times = 1};
  on_fstatfs = (plan){.fail = EIO, .times = 1};
  expect(os_make_direct(f, &geo), PAGEDB_EDIRECT);
  assert_int_equal(geo.direct, 0);
  assert_int_equal(geo.offset_align, 1);
  assert_int_equal(geo.memory_align, 1);
  assert_int_equal(fcntl(os_file_fd(f), F_GETFL) & O_DIRECT, 0);
  if (os_make_direct(f, &geo) == PAGEDB_OK) {
    assert_int_not_equal(fcntl(os_file_fd(f), F_GETFL) & O_DIRECT, 0);
    os_undirect(f);
    assert_int_equal(fcntl(os_file_fd(f), F_GETFL) & O_DIRECT, 0);
  }
  os_close(f);
  remove(path);
}

/* Kernels that do not tell: the smallest block that a read takes. */
static void test_probe(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path);
  os_geometry geo;
  static const struct {
    int bytes, refused;
    uint32_t align;
  } cases[] = {{0, 0, 4096}, {8192, 0, 512}, {8192, 2, 2048}, {8192, 9, 0}};
  no_dioalign = 1;
  if (os_make_direct(f, &geo) != PAGEDB_OK) {
    print_message("skipped: no Direct I/O in the folder of the tests\n");
  } else {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
      ok(os_truncate(f, (uint64_t)cases[i].bytes));
      on_pread = (plan){.fail = EINVAL, .times = cases[i].refused};
      expect(os_make_direct(f, &geo),
             cases[i].align != 0 ? PAGEDB_OK : PAGEDB_EDIRECT);
      on_pread = (plan){0};
      if (cases[i].align != 0 && cases[i].refused > 0)
        assert_int_equal(geo.offset_align, cases[i].align);
    }
    on_fstat = (plan){.fail = EIO, .times = 1};
    expect(os_make_direct(f, &geo), PAGEDB_EDIRECT);
    on_memalign = (plan){.times = 1};
    expect(os_make_direct(f, &geo), PAGEDB_EDIRECT);
  }
  no_dioalign = 0;
  os_close(f);
  remove(path);
}

/* Some file systems refuse to read at an end that is not aligned. */
static void test_refused_end(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path);
  char a[100], b[100];
  size_t done = 0;
  ok(os_truncate(f, 150));
  for (int last = 0; last < 4; last++) {
    os_iov iov[2] = {{a, 100}, {b, 100}};
    on_pread = (plan){.fail = EINVAL, .times = 1}; /* of what is left of b */
    on_fstat = (plan){.fail = EIO, .times = last == 2};
    ok(os_truncate(f, last == 0 ? 100 : 150));
    grows_to = last == 3 ? 300 : 0;
    int err = os_readv(f, iov, 2, 0, &done);
    /* What came is all there is, or an error: never a piece without one. */
    on_pread = on_fstat = (plan){0};
    grows_to = 0;
    if (last == 0)
      ok(err);
    else if (last == 3) /* it is no end any more */
      expect(err, PAGEDB_EIO);
    else if (err == PAGEDB_OK)
      assert_int_equal(done, 150);
  }
  os_close(f);
  remove(path);
}

/* A system that writes nothing does so for ever. */
static void test_nothing_written(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path);
  uint64_t bytes = 7;
  char a[100] = {0};
  os_iov iov = {a, sizeof a}, none = {a, 0};
  on_pwritev = (plan){.times = 1};
  expect(os_writev(f, &iov, 1, 0), PAGEDB_EIO);
  assert_int_equal(on_pwritev.times, 0);
  ok(os_writev(f, &none, 1, 0));
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 0);
  os_close(f);
  remove(path);
}

static void test_sizes_fail(void **state)
{
  (void)state;
  const char *path = temp_path();
  os_file *f = make(path);
  uint64_t bytes = 0;
  on_fstat = (plan){.fail = EIO, .times = 1};
  expect(os_size(f, &bytes), PAGEDB_EIO);
  ok(os_truncate(f, 4096));
  pretend_mode = S_IFBLK;
  ok(os_size(f, &bytes));
  assert_int_equal(bytes, 4096);
  on_lseek = (plan){.fail = EIO, .times = 1};
  expect(os_size(f, &bytes), PAGEDB_EIO);
  pretend_mode = 0;
  on_ftruncate = (plan){.fail = EINTR, .times = 2};
  ok(os_truncate(f, 100));
  on_ftruncate = (plan){.fail = ENOSPC, .times = 1};
  expect(os_truncate(f, 1 << 20), PAGEDB_EFULL);
  on_ftruncate = (plan){.fail = EIO, .times = 1};
  expect(os_truncate(f, 1 << 20), PAGEDB_EIO);
  on_fallocate = (plan){.fail = EINTR, .times = 2};
  ok(os_preallocate(f, 0, 8192));
  errno =
      ENOSPC; /* of some call before: it says nothing of one that goes well */
  ok(os_preallocate(f, 0, 8192));
  expect(os_preallocate(f, UINT64_MAX, 1), PAGEDB_ERANGE);
  on_fdatasync = (plan){.fail = EINTR, .times = 2};
  ok(os_datasync(f));
  os_close(f);
  /* Directories: one that cannot be synced and need not, and others. */
  on_fsync = (plan){.fail = EINVAL, .times = 1};
  ok(os_sync_parent_dir(path));
  on_fsync = (plan){.fail = EIO, .times = 1};
  expect(os_sync_parent_dir(path), PAGEDB_ESYNC);
  on_malloc = (plan){.times = 1};
  expect(os_sync_parent_dir(path), PAGEDB_ENOMEM);
  ok(os_sync_parent_dir("name-without-a-folder"));
  ok(os_sync_parent_dir("/name-in-the-root"));
  remove(path);
}

/* ------------------------------------------------------------------ memory */

static void test_memory_fails(void **state)
{
  (void)state;
  size_t large = (size_t)4 << 20;
  on_mmap = (plan){.fail = ENOMEM, .times = 1};
  assert_null(os_reserve(large));
  on_mmap = (plan){.fail = ENOMEM, .times = 1};
  assert_null(os_table_alloc(large));
  unsigned char *p = os_table_alloc(large);
  assert_non_null(p);
  p[0] = p[large - 1] = 1;
  os_table_free(p, large);
  on_mmap = (plan){.fail = ENOMEM, .times = 1};
  assert_null(os_map(8192));
  p = os_map(8192);
  assert_non_null(p);
  p[0] = p[8191] = 1;
  os_release(p, 8192);
  p = os_table_alloc(1000);
  assert_non_null(p);
  os_table_free(p, 1000);
  on_memalign = (plan){.times = 1};
  assert_null(os_aligned_alloc(64, 100));
  for (int i = 0; i < 2; i++) {
    on_sysconf = (plan){.after = i, .times = 1};
    uint64_t bytes = os_memory_bytes();
    assert_true(bytes >= 1 << 20 && bytes <= 1 << 30);
  }
  /* It leaves no file open. */
  int free_one[2][8];
  for (int i = 0; i < 2; i++) {
    for (int k = 0; k < 8; k++)
      free_one[i][k] = dup(0);
    for (int k = 0; k < 8; k++)
      close(free_one[i][k]);
    os_memory_bytes();
  }
  assert_memory_equal(free_one[0], free_one[1], sizeof free_one[0]);
}

/* What a process may use is the least limit of its cgroups, by either version. */
static void test_memory_limits(void **state)
{
  (void)state;
  static const char v2[] = "/sys/fs/cgroup/", v1[] = "/sys/fs/cgroup/memory/";
  char path[4][200], line[5000];
  const pretended none[] = {{NULL, NULL}};
  pretended_files = none;
  const uint64_t ram = os_memory_bytes();
  assert_true(ram > 64 << 20);
  snprintf(path[0], 200, "%sa/b/memory.max", v2);
  snprintf(path[1], 200, "%sa/memory.max", v2);
  snprintf(path[2], 200, "%smemory.max", v2);
  snprintf(path[3], 200, "%sx/memory.limit_in_bytes", v1);
  memset(line, 'y', sizeof line);
  memcpy(line, "0::/", 4);
  strcpy(line + 4090,
         "\n"); /* so long that the names of its files are too long */
  const struct {
    const char *groups, *text[4];
    uint64_t limit; /* 0: the machine's */
  } cases[] = {
      {"0::/a/b\n", {"max\n", "67108864\n", NULL, NULL}, 64 << 20},
      {"0::/a/b\n", {"33554432\n", "67108864\n", "max\n", NULL}, 32 << 20},
      {"0::/a/b\n", {"67108864\n", "0\n", "33554432\n", NULL}, 32 << 20},
      {"0::/a/b\n", {NULL, "x\n", NULL, "4096\n"}, 0},
      {"0::/\n", {NULL, NULL, "18446744073709551614\n", NULL}, 0},
      {"nothing\n2:half\n4:cpu:/x\n3:cpu,memory:/x\n",
       {NULL, NULL, NULL, "50000000\n"},
       50000000},
      {line, {NULL, NULL, "40000000\n", NULL}, 40000000},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    pretended files[6] = {{"/proc/self/cgroup", cases[i].groups}};
    for (int k = 0, n = 1; k < 4; k++)
      if (cases[i].text[k] != NULL)
        files[n++] = (pretended){path[k], cases[i].text[k]};
    pretended_files = files;
    assert_int_equal(os_memory_bytes(),
                     cases[i].limit != 0 ? cases[i].limit : ram);
  }
  pretended_files = NULL;
}

/* A fence that is not to be had, at once or at the second step; one that is lost
** later ends the process: nothing built on it is safe. */
static void test_fence_fails(void **state)
{
  (void)state;
  for (int i = 0; i < 2; i++) {
    on_membarrier = (plan){.fail = EPERM, .after = i, .times = 1};
    assert_int_equal(os_fence_init(), 0);
    on_membarrier = (plan){0};
  }
  if (!os_fence_init())
    return;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    on_membarrier = (plan){.fail = EPERM, .times = 1};
    os_fence_heavy();
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}

/* --------------------------------------------------------------------- AIO */

enum { LASTING = 6 };

/* Reads, four at a time at most; how many were under way at the end of the
** submission. All are right afterwards. */
static int lasting_reads(void)
{
  const char *path = temp_path();
  unsigned char out[LASTING * 100], in[LASTING * 100] = {0};
  os_request r[LASTING];
  os_iov iov[LASTING], all = {out, sizeof out};
  uint64_t seed = 11;
  os_queue *q;
  int flying = 0;
  os_file *f = make(path);
  random_bytes(&seed, out, sizeof out);
  ok(os_writev(f, &all, 1, 0));
  ok(os_queue_open_lasting(4, &q));
  for (int i = 0; i < LASTING; i++) {
    iov[i] = (os_iov){in + i * 100, 100};
    r[i] = (os_request){
        .file = f, .iov = &iov[i], .niov = 1, .off = (uint64_t)i * 100};
  }
  os_queue_submit(q, r, LASTING);
  for (int i = 0; i < LASTING; i++)
    flying += r[i].flying;
  os_queue_wait(q);
  for (int i = 0; i < LASTING; i++) {
    ok(r[i].err);
    assert_int_equal(r[i].flying, 0);
    assert_int_equal(r[i].done, 100);
  }
  assert_memory_equal(in, out, sizeof in);
  os_queue_close(q);
  os_close(f);
  remove(path);
  return flying;
}

/* No context, reads that are not taken, waiting that is interrupted, or forbidden
** when reads are under way: they come all the same. */
static void test_aio_fails(void **state)
{
  (void)state;
  os_queue *q;
  on_io_setup = (plan){.fail = EAGAIN, .times = LASTING};
  assert_int_equal(lasting_reads(), 0);
  assert_int_equal(on_io_setup.times, 0);
  on_calloc = (plan){.times = 1};
  expect(os_queue_open_lasting(4, &q), PAGEDB_ENOMEM);
  if (lasting_reads() == 0) {
    print_message("skipped: no AIO here\n");
    return;
  }
  on_io_submit = (plan){.fail = EAGAIN, .times = LASTING};
  assert_int_equal(lasting_reads(), 0);
  on_io_submit = (plan){.fail = EPERM, .after = 1, .times = 2};
  assert_true(lasting_reads() > 0);
  on_io_getevents = (plan){.fail = EINTR, .after = 1, .times = 3};
  assert_true(lasting_reads() > 0);
  assert_int_equal(on_io_getevents.times, 0);
  on_io_getevents = (plan){.fail = EPERM, .times = LASTING};
  assert_true(lasting_reads() > 0);
  assert_true(on_io_getevents.times < LASTING);
  on_io_getevents = (plan){0};
  assert_true(lasting_reads() > 0);
}

/* ----------------------------------------------------------------- io_uring */

#ifdef PAGEDB_HAVE_URING

WRAP(int, io_uring_submit, (struct io_uring * ring))
{
  return fails(&on_submit) ? -on_submit.fail : __real_io_uring_submit(ring);
}

static int write_end = -1; /* of a pipe that somebody reads */

WRAP(int, __io_uring_get_cqe,
     (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned submit,
      unsigned wait, sigset_t *mask))
{
  if (!fails(&on_cqe))
    return __real___io_uring_get_cqe(ring, cqe, submit, wait, mask);
  if (on_cqe.times == 0 && write_end >= 0 && write(write_end, "x", 1) != 1)
    abort();
  return -on_cqe.fail;
}

WRAP(int, io_uring_queue_init,
     (unsigned entries, struct io_uring *ring, unsigned flags))
{
  return fails(&on_ring) ? -on_ring.fail
                         : __real_io_uring_queue_init(entries, ring, flags);
}

enum { REQUESTS = 20, PIECE = 512 };

/* Reads, four at a time, while a call fails; all have their outcome. */
static void batch_under(plan submit, int goes_on)
{
  const char *path = temp_path();
  static unsigned char out[REQUESTS * PIECE], in[REQUESTS * PIECE];
  os_request r[REQUESTS];
  os_iov iov[REQUESTS];
  uint64_t seed = 9;
  os_queue *q;
  os_file *f = make(path);
  random_bytes(&seed, out, sizeof out);
  memset(in, 0, sizeof in);
  os_iov all = {out, sizeof out};
  ok(os_writev(f, &all, 1, 0));
  ok(os_queue_open(4, &q));
  int async = os_queue_is_async(q);
  for (int i = 0; i < REQUESTS; i++) {
    iov[i] = (os_iov){in + (size_t)i * PIECE, PIECE};
    r[i] = (os_request){
        .file = f, .iov = &iov[i], .niov = 1, .off = (uint64_t)i * PIECE};
  }
  on_submit = submit;
  os_queue_submit(q, r, REQUESTS);
  os_queue_wait(q);
  on_submit = (plan){0};
  for (int i = 0; i < REQUESTS; i++) {
    ok(r[i].err);
    assert_int_equal(r[i].done, PIECE);
  }
  assert_memory_equal(in, out, sizeof in);
  if (async)
    assert_int_equal(os_queue_is_async(q), goes_on);
  os_queue_close(q);
  os_close(f);
  remove(path);
}

static void test_uring_fails(void **state)
{
  (void)state;
  static const int passing[] = {EINTR, EAGAIN, EBUSY};
  os_queue *q;
  putenv("PAGEDB_URING=1");
  for (int i = 0; i < 3; i++)
    for (int after = 0; after < 5; after++)
      batch_under((plan){.fail = passing[i], .after = after, .times = 3}, 1);
  /* Refused for good: without the ring, at once or in the middle. */
  batch_under((plan){.fail = EPERM, .times = 1000}, 0);
  batch_under((plan){.fail = EPERM, .after = 2, .times = 1000}, 0);
  on_ring = (plan){.fail = ENOSYS, .times = 1};
  ok(os_queue_open(4, &q));
  assert_false(os_queue_is_async(q));
  os_queue_close(q);
  on_calloc = (plan){.times = 1};
  expect(os_queue_open(4, &q), PAGEDB_ENOMEM);
  static const unsigned depths[] = {0, 100000};
  for (int i = 0; i < 2; i++) {
    ok(os_queue_open(depths[i], &q));
    os_queue_close(q);
  }
  os_queue_close(NULL);
}

/* One read from a pipe: it is still under way when its end is waited for. The
** byte comes when waiting failed as planned. */
static int read_pipe(plan cqe)
{
  char byte = 0;
  int ends[2];
  os_file *f;
  os_queue *q;
  os_iov iov = {&byte, 1};
  assert_int_equal(pipe(ends), 0);
  ok(os_borrow(ends[0], &f));
  ok(os_queue_open(4, &q));
  os_request r = {.file = f, .iov = &iov, .niov = 1};
  on_cqe = cqe;
  write_end = ends[1];
  os_queue_submit(q, &r, 1);
  os_queue_wait(q);
  write_end = -1;
  os_queue_close(q);
  os_close(f);
  close(ends[0]);
  close(ends[1]);
  return r.err == PAGEDB_OK && byte == 'x';
}

/* Interrupted waiting goes on. Where the kernel has the buffers and does not say
** when it is done, there is no way on that is safe: the process ends. */
static void test_uring_waits(void **state)
{
  (void)state;
  os_queue *q;
  ok(os_queue_open(4, &q));
  int async = os_queue_is_async(q);
  os_queue_close(q);
  if (!async) {
    print_message("skipped: no io_uring here\n");
    return;
  }
  assert_true(read_pipe((plan){.fail = EINTR, .times = 2}));
  assert_true(read_pipe((plan){.fail = EAGAIN, .times = 2}));
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    read_pipe((plan){.fail = EBADF, .times = 1});
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  /* By itself, and not by what it finds where the answer should be. */
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
#endif

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_fails),
      cmocka_unit_test(test_probe),
      cmocka_unit_test(test_refused_end),
      cmocka_unit_test(test_sizes_fail),
      cmocka_unit_test(test_nothing_written),
      cmocka_unit_test(test_memory_limits),
      cmocka_unit_test(test_memory_fails),
      cmocka_unit_test(test_fence_fails),
      cmocka_unit_test(test_aio_fails),
#ifdef PAGEDB_HAVE_URING
      cmocka_unit_test(test_uring_fails),
      cmocka_unit_test(test_uring_waits),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include "util.h"

static void test_nothing(void **state)
{
  (void)state;
  print_message("skipped: system calls are made to fail on Linux only\n");
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
