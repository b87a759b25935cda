/*
** os_posix.c - os.h for Linux and macOS.
**
** Owns descriptors and address ranges. Keeps no state of its own but the answer
** to os_fence_init; every call may run in any thread. Where the two systems
** differ, the difference stands in the small functions of the first section.
*/
#if defined(__APPLE__)
#define _DARWIN_C_SOURCE
#else
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#endif

#include "os_int.h"

struct os_file {
  int fd;
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
** Direct I/O of an open descriptor: sets *geo and returns 1, or 0 when the file
** is not, or cannot be, direct.
*/
#if defined(__linux__)

#ifndef BTRFS_SUPER_MAGIC
#define BTRFS_SUPER_MAGIC 0x9123683E
#endif

enum { DIRECT_FLAG = O_DIRECT };

/* File systems that take the flag and ignore it. */
static int ignores_direct(int fd)
{
  struct statfs fs;
  return fstatfs(fd, &fs) == 0 && ((unsigned long)fs.f_type == TMPFS_MAGIC ||
                                   (unsigned long)fs.f_type == RAMFS_MAGIC);
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

static int keep_room(int fd, off_t off, off_t len)
{
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, off, len);
}

static void not_for_children(void *p, size_t bytes)
{
  madvise(p, bytes, MADV_DONTFORK);
}

#else /* macOS */

enum { DIRECT_FLAG = 0 };

static int ask_direct(int fd, os_geometry *geo)
{
  geo->offset_align = geo->memory_align = 4096;
  return fcntl(fd, F_NOCACHE, 1) == 0;
}

/* fsync alone leaves the data in the drive's cache. */
static int data_sync(int fd)
{
  if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
  return errno == ENOTSUP || errno == EINVAL ? fsync(fd) : -1;
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

#endif

/* ------------------------------------------------------------------- files */

/* Open; *made says whether this call created the file. */
static int open_fd(const char *path, unsigned flags, int *made)
{
  int how = O_CLOEXEC | ((flags & OS_OPEN_READONLY) ? O_RDONLY : O_RDWR);
  int fd;
  if (flags & OS_OPEN_DIRECT) how |= DIRECT_FLAG;
  *made = 0;
  /* A file that vanishes between the two attempts is tried for again. */
  for (int attempt = 0; attempt < 8; attempt++) {
    if (!(flags & OS_OPEN_EXCLUSIVE)) {
      do
        fd = open(path, how);
      while (fd < 0 && errno == EINTR);
      if (fd >= 0 || errno != ENOENT || !(flags & OS_OPEN_CREATE)) return fd;
    }
    do
      fd = open(path, how | O_CREAT | O_EXCL, 0644);
    while (fd < 0 && errno == EINTR);
    *made = fd >= 0;
    if (fd >= 0 || errno != EEXIST || (flags & OS_OPEN_EXCLUSIVE)) return fd;
  }
  return -1;
}

static int refuse_direct(const char *path, int fd, int made)
{
  if (fd >= 0) close(fd);
  if (made) unlink(path);
  return pagedb_fault_set(PAGEDB_EDIRECT, errno, path, PAGEDB_NONE, 0, 0,
                          "the file system has no Direct I/O");
}

/* open() with O_DIRECT may create the file and refuse it all the same. */
static int exists(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0;
}

int os_open(const char *path, unsigned flags, os_file **out, os_geometry *geo)
{
  os_geometry g = {0, 1, 1};
  int made;
  int there = (flags & OS_OPEN_DIRECT) ? exists(path) : 1;
  int fd = open_fd(path, flags, &made);
  if (fd < 0 && (flags & OS_OPEN_DIRECT) && errno == EINVAL)
    return refuse_direct(path, fd, !there && exists(path));
  if (fd < 0)
    return pagedb_fault_set(PAGEDB_ECANTOPEN, errno, path, PAGEDB_NONE, 0, 0,
                            strerror(errno));
  struct stat st;
  if (fstat(fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
    close(fd);
    return pagedb_fault_set(PAGEDB_ECANTOPEN, 0, path, PAGEDB_NONE, 0, 0,
                            "not a file");
  }
  errno = 0;
  if ((flags & OS_OPEN_DIRECT) && !ask_direct(fd, &g))
    return refuse_direct(path, fd, made);
  g.direct = (flags & OS_OPEN_DIRECT) != 0;
  os_file *f = malloc(sizeof *f);
  if (f == NULL) {
    close(fd);
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, path, PAGEDB_NONE, 0, 0, NULL);
  }
  f->fd = fd;
  *out = f;
  if (geo != NULL) *geo = g;
  return PAGEDB_OK;
}

void os_close(os_file *f)
{
  if (f == NULL) return;
  close(f->fd);
  free(f);
}

int os_file_fd(const os_file *f)
{
  return f->fd;
}

/* ---------------------------------------------------------------- transfers */

os_iov *os_iov_advance(os_iov *iov, int *count, size_t n)
{
  while (*count > 0 && n >= iov->len) {
    n -= iov->len;
    iov++;
    (*count)--;
  }
  if (*count > 0) {
    iov->base = (char *)iov->base + n;
    iov->len -= n;
  }
  return iov;
}

static int offset_ok(const os_iov *iov, int n, uint64_t off)
{
  uint64_t most = INT64_MAX;
  if (off > most) return 0;
  for (int i = 0; i < n; i++) {
    if (iov[i].len > most - off) return 0;
    off += iov[i].len;
  }
  return 1;
}

static int transfer_error(int write)
{
  if (write && (errno == ENOSPC || errno == EDQUOT))
    return sys_fail(PAGEDB_EFULL, NULL);
  /* The file system's or the process's limit on the length of a file. */
  if (errno == EFBIG)
    return sys_fail(PAGEDB_ERANGE, "the largest file length is reached");
  return sys_fail(PAGEDB_EIO, write ? "write" : "read");
}

static int transfer(os_file *f, os_iov *iov, int n, uint64_t off, int write,
                    size_t *done)
{
  size_t sum = 0;
  if (!offset_ok(iov, n, off))
    return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
  while (n > 0) {
    struct iovec *v = (struct iovec *)(void *)iov;
    off_t at = (off_t)(off + sum);
    ssize_t got = write ? pwritev(f->fd, v, n, at) : preadv(f->fd, v, n, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return transfer_error(write);
    if (got == 0 && !write) break;
    sum += (size_t)got;
    iov = os_iov_advance(iov, &n, (size_t)got);
  }
  if (done != NULL) *done = sum;
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

/* ----------------------------------------------------- size, room, durability
 */

int os_size(os_file *f, uint64_t *bytes)
{
  off_t end;
  struct stat st;
  if (fstat(f->fd, &st) != 0) return sys_fail(PAGEDB_EIO, "fstat");
  *bytes = (uint64_t)st.st_size;
  if (!S_ISBLK(st.st_mode)) return PAGEDB_OK;
  /* A block device has no length to stat; nobody reads its cursor. */
  end = lseek(f->fd, 0, SEEK_END);
  if (end < 0) return sys_fail(PAGEDB_EIO, "lseek");
  *bytes = (uint64_t)end;
  return PAGEDB_OK;
}

int os_truncate(os_file *f, uint64_t bytes)
{
  int rc;
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

int os_datasync(os_file *f)
{
  int rc;
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
  if (fd >= 0) close(fd);
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

void *os_reserve(size_t bytes)
{
  const size_t huge = (size_t)2 << 20;
  int flags = MAP_PRIVATE | MAP_ANON | MAP_NORESERVE;
  if (bytes > SIZE_MAX - huge) return NULL;
  char *p = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) return NULL;
  /* Cut off what stands before the alignment and after the end. */
  size_t before = (huge - (uintptr_t)p % huge) % huge;
  if (before > 0) munmap(p, before);
  if (huge - before > 0) munmap(p + before + bytes, huge - before);
  not_for_children(p + before, bytes);
  return p + before;
}

void os_decommit(void *p, size_t bytes)
{
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
  if (file == NULL) return UINT64_MAX;
  if (fscanf(file, "%llu", &n) != 1 || n == 0) n = UINT64_MAX;
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
    uint64_t limit =
        n > 0 && (size_t)n < sizeof path ? number_in(path) : UINT64_MAX;
    if (limit < least) least = limit;
    char *slash = strrchr(group, '/');
    if (slash == NULL) return least;
    *slash = 0;
  }
}

static uint64_t cgroup_limit(void)
{
  char line[PATH_MAX];
  uint64_t least = UINT64_MAX;
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (file == NULL) return least;
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = 0;
    char *names = strchr(line, ':');
    char *group = names == NULL ? NULL : strchr(names + 1, ':');
    if (group == NULL) continue;
    *group++ = 0;
    uint64_t limit = UINT64_MAX;
    if (strcmp(names, ":") == 0)
      limit = least_limit("/sys/fs/cgroup", group, "memory.max");
    else if (strstr(names, "memory") != NULL)
      limit =
          least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    if (limit < least) least = limit;
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
  return limit < ram ? limit : ram;
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
  if (env != NULL && strcmp(env, "0") == 0) return 0;
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
