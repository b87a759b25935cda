/*
** os_posix.c - os.h for Linux and macOS; nothing on Windows.
**
** Owns descriptors and address ranges. Keeps no state and has no lock; every
** call may run in any thread. Transfers are not ordered among each other.
** Where the two systems differ, the difference stands in the small functions
** of the first section.
*/
#ifndef _WIN32

#if defined(__APPLE__)
#define _DARWIN_C_SOURCE
#else
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#elif defined(__APPLE__)
#include <mach/vm_inherit.h>
#endif

#include "os_int.h"

struct os_file {
  int fd;
  int borrowed;
};

_Static_assert(sizeof(os_iov) == sizeof(struct iovec) &&
                   offsetof(os_iov, len) == offsetof(struct iovec, iov_len),
               "os_iov is struct iovec under another name");

/* Record errno with the error. */
static int sys_fail(int err, const char *what)
{
  return pagedb_fault_set(err, errno, NULL, PAGEDB_NONE, 0, 0, what);
}

/* --------------------------------------------------------- system specific */

/*
** Two calls make an open descriptor direct. set_direct asks for it: only now,
** since an open() that is refused O_DIRECT may have created the file already,
** and nobody could tell. ask_direct finds out what came of it: sets *geo and
** returns 1, or 0 when the file is not direct after all.
*/
#if defined(__linux__)

/*
** File systems that take the flag and ignore it: always, or (btrfs with
** checksums, OpenZFS before 2.3) depending on what cannot be asked for, or
** (overlayfs) when the one below does. overlayfs passes on the answer of a file
** system that knows its geometry, so one without an answer is not believed.
*/
static int ignores_direct(int fd)
{
  static const unsigned long magics[] = {
      TMPFS_MAGIC, RAMFS_MAGIC, BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
      0x2FC12FC1 /* OpenZFS */
  };
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0)
    return 1;
  for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
    /* 32 bits: f_type is signed on some machines. */
    if ((uint32_t)fs.f_type == (uint32_t)magics[i])
      return 1;
  return 0;
}

static int set_direct(int fd)
{
  int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_DIRECT);
}

static void unset_direct(int fd)
{
  int flags = fcntl(fd, F_GETFL);
  if (flags >= 0)
    fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

/* Kernels before 6.1 do not tell: find the smallest block that a read accepts.
** An empty file accepts any, so it gets the page size that all devices take. */
static int probe_direct(int fd, os_geometry *geo)
{
  struct stat st;
  void *buf = NULL;
  if (ignores_direct(fd) || fstat(fd, &st) != 0 ||
      posix_memalign(&buf, 4096, 4096) != 0)
    return 0;
  uint32_t align = st.st_size == 0 ? 4096 : 512;
  while (align <= 4096 && pread(fd, buf, align, 0) < 0)
    align *= 2;
  free(buf);
  geo->offset_align = geo->memory_align = align;
  return align <= 4096;
}

static int ask_direct(int fd, os_geometry *geo)
{
#ifdef STATX_DIOALIGN
  struct statx sx;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
      (sx.stx_mask & STATX_DIOALIGN) != 0) {
    geo->offset_align = sx.stx_dio_offset_align;
    geo->memory_align = sx.stx_dio_mem_align;
    return sx.stx_dio_offset_align != 0;
  }
#endif
  return probe_direct(fd, geo);
}

static int data_sync(int fd)
{
  return fdatasync(fd);
}

/* Without the flags that wait, which would take an error of write-back away from
** the sync. */
static int begin_write_back(int fd, off_t off, off_t len)
{
  return sync_file_range(fd, off, len, SYNC_FILE_RANGE_WRITE);
}

static int keep_room(int fd, off_t off, off_t len)
{
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, off, len);
}

static void not_for_children(void *p, size_t bytes)
{
  madvise(p, bytes, MADV_DONTFORK);
}

static void advise_huge_pages(void *p, size_t bytes, int wanted)
{
  madvise(p, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

#else /* macOS */

static int set_direct(int fd)
{
  return fcntl(fd, F_NOCACHE, 1);
}

static void unset_direct(int fd)
{
  fcntl(fd, F_NOCACHE, 0);
}

/* Nothing to ask: transfers that are not aligned go through the cache, and
** 4096 bytes are aligned on all devices. */
static int ask_direct(int fd, os_geometry *geo)
{
  (void)fd;
  geo->offset_align = geo->memory_align = 4096;
  return 1;
}

/* fsync alone leaves the data in the drive's cache. */
static int data_sync(int fd)
{
  if (fcntl(fd, F_FULLFSYNC) == 0)
    return 0;
  return errno == ENOTSUP || errno == EINVAL ? fsync(fd) : -1;
}

static int begin_write_back(int fd, off_t off, off_t len)
{
  (void)fd;
  (void)off;
  (void)len;
  return 0;
}

static int keep_room(int fd, off_t off, off_t len)
{
  (void)fd;
  (void)off;
  (void)len;
  errno = EOPNOTSUPP;
  return -1;
}

static void not_for_children(void *p, size_t bytes)
{
  minherit(p, bytes, VM_INHERIT_NONE);
}

static void advise_huge_pages(void *p, size_t bytes, int wanted)
{
  (void)p;
  (void)bytes;
  (void)wanted;
}

#endif

/* ------------------------------------------------------------------- files */

/* A FIFO that nobody writes must not make the open wait; files do not need the
** flag afterwards. */
static int open_retried(const char *path, int how)
{
  int fd;
  do
    fd = open(path, how | O_CLOEXEC | O_NONBLOCK, 0644);
  while (fd < 0 && errno == EINTR);
  if (fd >= 0)
    fcntl(fd, F_SETFL, how & ~O_CREAT & ~O_EXCL);
  return fd;
}

/* Open; *made says whether this call created the file. */
static int open_fd(const char *path, unsigned flags, int *made)
{
  int how = (flags & OS_OPEN_READONLY) ? O_RDONLY : O_RDWR;
  int create = (flags & OS_OPEN_CREATE) != 0;
  int exclusive = create && (flags & OS_OPEN_EXCLUSIVE);
  *made = 0;
  /* A file that vanishes between the two attempts is tried for again. */
  for (int attempt = 0; attempt < 8; attempt++) {
    int fd = exclusive ? -1 : open_retried(path, how);
    if (fd >= 0 || (!exclusive && (errno != ENOENT || !create)))
      return fd;
    fd = open_retried(path, how | O_CREAT | O_EXCL);
    *made = fd >= 0;
    if (fd >= 0 || errno != EEXIST || exclusive)
      return fd;
  }
  return -1;
}

static int cannot_open(const char *path, int sys, const char *what)
{
  return pagedb_fault_set(PAGEDB_ECANTOPEN, sys, path, PAGEDB_NONE, 0, 0, what);
}

/* Judge an open descriptor: a file, and direct if that is wanted. */
static int examine(const char *path, int fd, unsigned flags, os_geometry *geo)
{
  struct stat st;
  if (fstat(fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
    return cannot_open(path, 0, "not a file");
  if (!(flags & OS_OPEN_DIRECT))
    return PAGEDB_OK;
  errno = 0;
  if (set_direct(fd) != 0 || !ask_direct(fd, geo))
    return pagedb_fault_set(PAGEDB_EDIRECT, errno, path, PAGEDB_NONE, 0, 0,
                            "the file system has no Direct I/O");
  geo->direct = 1;
  return PAGEDB_OK;
}

int os_open(const char *path, unsigned flags, os_file **out, os_geometry *geo)
{
  os_geometry g = {0, 1, 1};
  int made;
  os_file *f = malloc(sizeof *f);
  if (f == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, path, PAGEDB_NONE, 0, 0, NULL);
  f->borrowed = 0;
  f->fd = open_fd(path, flags, &made);
  if (f->fd < 0) {
    int sys = errno;
    free(f);
    return cannot_open(path, sys, strerror(sys));
  }
  int err = examine(path, f->fd, flags, &g);
  if (err != PAGEDB_OK) {
    if (made)
      unlink(path);
    os_close(f);
    return err;
  }
  *out = f;
  if (geo != NULL)
    *geo = g;
  return PAGEDB_OK;
}

void os_close(os_file *f)
{
  if (f == NULL)
    return;
  if (!f->borrowed)
    close(f->fd);
  free(f);
}

int os_borrow(int fd, os_file **out)
{
  os_file *f = malloc(sizeof *f);
  if (f == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
  *f = (os_file){fd, 1};
  *out = f;
  return PAGEDB_OK;
}

int os_make_direct(os_file *f, os_geometry *geo)
{
  *geo = (os_geometry){0, 1, 1};
  errno = 0;
  if (set_direct(f->fd) == 0 && ask_direct(f->fd, geo)) {
    geo->direct = 1;
    return PAGEDB_OK;
  }
  int sys = errno;
  os_undirect(f);
  *geo = (os_geometry){0, 1, 1};
  return pagedb_fault_set(PAGEDB_EDIRECT, sys, NULL, PAGEDB_NONE, 0, 0,
                          "the file system has no Direct I/O");
}

void os_undirect(os_file *f)
{
  unset_direct(f->fd);
}

int os_file_fd(const os_file *f)
{
  return f->fd;
}

/* ---------------------------------------------------------------- transfers */

static int transfer_error(int write)
{
  if (write && (errno == ENOSPC || errno == EDQUOT))
    return sys_fail(PAGEDB_EFULL, NULL);
  /* The file system's or the process's limit on the length of a file. */
  if (errno == EFBIG)
    return sys_fail(PAGEDB_ERANGE, "the largest file length is reached");
  return sys_fail(PAGEDB_EIO, write ? "write" : "read");
}

/* Whether a read from `at` on finds nothing more. */
static int at_end(os_file *f, uint64_t at)
{
  uint64_t bytes;
  return os_size(f, &bytes) == PAGEDB_OK && at >= bytes;
}

/* One buffer is read without a vector: a fifth less of the time that a hundred
** bytes take. */
static ssize_t transfer_once(int fd, const struct iovec *v, int n, off_t at,
                             int write)
{
  if (write)
    return pwritev(fd, v, n, at);
  return n == 1 ? pread(fd, v->iov_base, v->iov_len, at) : preadv(fd, v, n, at);
}

static int transfer(os_file *f, os_iov *iov, int n, uint64_t off, int write,
                    size_t *done)
{
  size_t sum = 0;
  lock_order_io();
  if (!os_range_ok(iov, n, off))
    return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
  while (n > 0) {
    ssize_t got = transfer_once(f->fd, (struct iovec *)(void *)iov, n,
                                (off_t)(off + sum), write);
    if (got < 0 && errno == EINTR)
      continue;
    /* A direct file whose end is not aligned: some file systems refuse to read
    ** from there on before they notice that there is nothing. */
    if (got < 0 && errno == EINVAL && !write && sum > 0 && at_end(f, off + sum))
      break;
    if (got < 0)
      return transfer_error(write);
    sum += (size_t)got;
    iov = os_iov_advance(iov, &n, (size_t)got);
    if (got == 0 && n > 0 && write)
      return pagedb_fault_set(PAGEDB_EIO, 0, NULL, PAGEDB_NONE, 0, 0,
                              "the system writes nothing");
    if (got == 0)
      break;
  }
  if (done != NULL)
    *done = sum;
  return PAGEDB_OK;
}

int os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  return transfer(f, iov, n, off, 0, done);
}

int os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  return transfer(f, iov, n, off, 1, NULL);
}

/* ---------------------------------------------- size, room, durability */

int os_size(os_file *f, uint64_t *bytes)
{
  off_t end;
  struct stat st;
  if (fstat(f->fd, &st) != 0)
    return sys_fail(PAGEDB_EIO, "fstat");
  *bytes = (uint64_t)st.st_size;
  if (!S_ISBLK(st.st_mode))
    return PAGEDB_OK;
  /* A block device has no length to stat; nobody reads its cursor. */
  end = lseek(f->fd, 0, SEEK_END);
  if (end < 0)
    return sys_fail(PAGEDB_EIO, "lseek");
  *bytes = (uint64_t)end;
  return PAGEDB_OK;
}

int os_truncate(os_file *f, uint64_t bytes)
{
  int rc;
  lock_order_io();
  if (bytes > (uint64_t)INT64_MAX)
    return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
  do
    rc = ftruncate(f->fd, (off_t)bytes);
  while (rc != 0 && errno == EINTR);
  return rc == 0 ? PAGEDB_OK : transfer_error(1);
}

int os_preallocate(os_file *f, uint64_t off, uint64_t len)
{
  int rc;
  if (off > (uint64_t)INT64_MAX || len > (uint64_t)INT64_MAX - off)
    return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
  do
    rc = keep_room(f->fd, (off_t)off, (off_t)len);
  while (rc != 0 && errno == EINTR);
  if (rc != 0 && (errno == ENOSPC || errno == EDQUOT))
    return sys_fail(PAGEDB_EFULL, "preallocation");
  return PAGEDB_OK;
}

/* What says that the call does not do it here, not that a page could not be written. */
static int is_no_answer(int e)
{
  return e == EINVAL || e == ESPIPE || e == ENOSYS || e == EOPNOTSUPP ||
         e == EPERM || e == EINTR;
}

int os_write_back(os_file *f, uint64_t off, uint64_t len)
{
  lock_order_io();
  if (off > (uint64_t)INT64_MAX || len > (uint64_t)INT64_MAX - off ||
      begin_write_back(f->fd, (off_t)off, (off_t)len) == 0 ||
      is_no_answer(errno))
    return PAGEDB_OK;
  return sys_fail(PAGEDB_ESYNC, "write-back");
}

int os_datasync(os_file *f)
{
  int rc;
  lock_order_io();
  do
    rc = data_sync(f->fd);
  while (rc != 0 && errno == EINTR);
  return rc == 0 ? PAGEDB_OK : sys_fail(PAGEDB_ESYNC, NULL);
}

int os_sync_parent_dir(const char *path)
{
  const char *slash = strrchr(path, '/');
  size_t n = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
  char *dir = malloc(n + 1);
  if (dir == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, path, PAGEDB_NONE, 0, 0, NULL);
  memcpy(dir, slash == NULL ? "." : path, n);
  dir[n] = 0;
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  /* Some file systems cannot sync a directory (EINVAL) and need not. */
  int rc = fd < 0 ? -1 : fsync(fd);
  int err = PAGEDB_OK;
  if (rc != 0 && errno != EINVAL)
    err = pagedb_fault_set(PAGEDB_ESYNC, errno, dir, PAGEDB_NONE, 0, 0,
                           "syncing the directory");
  if (fd >= 0)
    close(fd);
  free(dir);
  return err;
}

/* ------------------------------------------------------------------ memory */

void *os_aligned_alloc(size_t align, size_t bytes)
{
  void *p;
  return posix_memalign(&p, align, bytes) == 0 ? p : NULL;
}

void os_aligned_free(void *p)
{
  free(p);
}

static const size_t huge_page = OS_HUGE_PAGE;

/* A mapping aligned to a huge page, or NULL. */
static char *map_aligned(size_t bytes, int flags)
{
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (bytes > SIZE_MAX - huge_page - page)
    return NULL;
  bytes = (bytes + page - 1) / page * page; /* as munmap does */
  char *p = mmap(NULL, bytes + huge_page, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANON | flags, -1, 0);
  if (p == MAP_FAILED)
    return NULL;
  /* Cut off what stands before the alignment and after the end. */
  size_t before = (huge_page - (uintptr_t)p % huge_page) % huge_page;
  if (before > 0)
    munmap(p, before);
  munmap(p + before + bytes, huge_page - before);
  return p + before;
}

void *os_table_alloc(size_t bytes)
{
  if (bytes < huge_page)
    return os_aligned_alloc(64, bytes);
  char *p = map_aligned(bytes, 0);
  if (p != NULL)
    advise_huge_pages(p, bytes, 1);
  return p;
}

void os_table_free(void *p, size_t bytes)
{
  if (bytes < huge_page)
    os_aligned_free(p);
  else
    munmap(p, bytes);
}

void *os_map(size_t bytes)
{
  void *p =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

void *os_reserve(size_t bytes)
{
  char *p = map_aligned(bytes, MAP_NORESERVE);
  if (p != NULL) {
    not_for_children(p, bytes);
    advise_huge_pages(p, bytes, 0);
  }
  return p;
}

void os_huge_pages(void *p, size_t bytes, int wanted)
{
  /* With larger pages huge ones are larger, too. */
  if (sysconf(_SC_PAGESIZE) == 4096)
    advise_huge_pages(p, bytes, wanted);
}

void os_decommit(void *p, size_t bytes)
{
  madvise(p, bytes, MADV_DONTNEED);
}

/* MADV_DONTNEED alone takes a part of a huge page out of the mapping, and leaves
** its memory to the rest. Linux splits the page for MADV_FREE. */
void os_decommit_part(void *p, size_t bytes)
{
#ifdef MADV_FREE
  madvise(p, bytes, MADV_FREE);
#endif
  madvise(p, bytes, MADV_DONTNEED);
}

void os_release(void *p, size_t bytes)
{
  munmap(p, bytes);
}

#if defined(__linux__)

/* A number in a file; UINT64_MAX when there is none ("max" included). */
static uint64_t number_in(const char *path)
{
  unsigned long long n = 0;
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return UINT64_MAX;
  if (fscanf(file, "%llu", &n) != 1 || n == 0)
    n = UINT64_MAX;
  fclose(file);
  return n;
}

/* The least limit of a cgroup and all above it. */
static uint64_t least_limit(const char *mount, char *group, const char *file)
{
  char path[PATH_MAX];
  uint64_t least = UINT64_MAX;
  for (;;) {
    int n = snprintf(path, sizeof path, "%s%s/%s", mount, group, file);
    uint64_t limit = (size_t)n < sizeof path ? number_in(path) : UINT64_MAX;
    if (limit < least)
      least = limit;
    char *slash = strrchr(group, '/');
    if (slash == NULL)
      return least;
    *slash = 0;
  }
}

static uint64_t cgroup_limit(void)
{
  char line[PATH_MAX];
  uint64_t least = UINT64_MAX;
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (file == NULL)
    return least;
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = 0;
    char *names = strchr(line, ':');
    char *group = names == NULL ? NULL : strchr(names + 1, ':');
    if (group == NULL)
      continue;
    *group++ = 0;
    uint64_t limit = UINT64_MAX;
    if (strcmp(names, ":") == 0)
      limit = least_limit("/sys/fs/cgroup", group, "memory.max");
    else if (strstr(names, "memory") != NULL)
      limit =
          least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    if (limit < least)
      least = limit;
  }
  fclose(file);
  return least;
}

#else

static uint64_t cgroup_limit(void)
{
  return UINT64_MAX;
}

#endif

uint64_t os_memory_bytes(void)
{
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  uint64_t ram = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size
                                       : (uint64_t)1 << 30;
  uint64_t limit = cgroup_limit();
  struct rlimit addresses; /* RLIM_INFINITY is the greatest value */
  if (getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur < limit)
    limit = addresses.rlim_cur;
  return limit < ram ? limit : ram;
}

/* ----------------------------------------------------------------- threads */

int os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int started = pthread_create(t, NULL, run, arg) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

/* ------------------------------------------------------------------ clocks */

uint64_t os_monotonic_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t os_wallclock_us(void)
{
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* ------------------------------------------------------------------- fence */

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

/* ThreadSanitizer does not know membarrier and would see races. */
int os_fence_init(void)
{
#if defined(__linux__) && defined(SYS_membarrier) && !defined(UNDER_TSAN)
  const char *env = getenv("PAGEDB_MEMBARRIER");
  if (env != NULL && strcmp(env, "0") == 0)
    return 0;
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
                 0) == 0 &&
         syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
#else
  return 0;
#endif
}

void os_fence_heavy(void)
{
#if defined(__linux__) && defined(SYS_membarrier)
  /* It has worked in os_fence_init; if it does not now, nothing that is built
  ** on it is safe. */
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
    abort();
#endif
}

#else
#include "os_int.h" /* ISO C wants something in every file */
#endif
