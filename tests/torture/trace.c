/*
** trace.c - see trace.h.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../open_mode.h"
#include "../util.h"
#include "trace.h"

static simdisk *traced; /* in this process, or NULL */
static int log_fd = -1; /* of the log that processes share, or -1 */
static char dir[400];
static uint64_t naps;
static uint64_t
    last_call; /* that many more, then this process dies; 0: lives */
static char missed[60 + 600]; /* what the record does not have, or "" */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* ----------------------------------------------------- one entry of the log */

/* What stands in the file before the name and the bytes. */
typedef struct entry {
  uint32_t kind; /* disk_op_kind, or ENTRY_START */
  uint32_t name_bytes;
  uint64_t off, n; /* of OP_SYNC: the file's content as a sum, its length */
} entry;

/* What was done so far is what was there before. */
enum { ENTRY_START = OP_MARK + 1, NAME_MOST = 600 };

/* A disk has one directory: the folder is a part of the name, and a name of its
** own that ends so. */
enum { FOLDER = '|' };

static void flatten(char *name)
{
  for (; *name != 0; name++)
    if (*name == '/')
      *name = FOLDER;
}

/* A file that is not on the disk yet is being created. */
static unsigned file_of(simdisk *d, const char *name)
{
  int f = simdisk_find(d, name);
  return f >= 0 ? (unsigned)f : simdisk_create(d, name);
}

static uint64_t sum_of(const unsigned char *p, size_t n)
{
  return n == 0 ? 0 : fnv1a(p, n);
}

static void miss(const char *name)
{
  if (missed[0] == 0)
    snprintf(missed, sizeof missed, "%s was changed past the record", name);
}

/* A sync says what the file was then: the record must have made the same of it. */
static void compare(const simdisk *d, const entry *e, const char *name)
{
  size_t n = 0;
  int f = simdisk_find(d, name);
  const unsigned char *p = f < 0 ? NULL : simdisk_bytes(d, (unsigned)f, &n);
  if (f < 0 || n != e->n || sum_of(p, n) != e->off)
    miss(name);
}

static void carry_out(simdisk *d, const entry *e, const char *name,
                      const void *bytes)
{
  switch (e->kind) {
  case OP_CREATE:
    file_of(d, name);
    break;
  case OP_DELETE:
    simdisk_delete(d, name);
    break;
  case OP_WRITE:
    simdisk_write(d, file_of(d, name), bytes, (size_t)e->n, e->off);
    break;
  case OP_TRUNCATE:
    simdisk_truncate(d, file_of(d, name), e->off);
    break;
  case OP_SYNC:
    compare(d, e, name);
    simdisk_sync(d, file_of(d, name));
    break;
  case OP_SYNC_DIR:
    simdisk_sync_dir(d);
    break;
  case OP_MARK:
    simdisk_mark(d, (unsigned)e->n, e->off);
    break;
  default:
    simdisk_record(d);
  }
}

static int has_bytes(const entry *e)
{
  return e->kind == OP_WRITE && e->n > 0;
}

static void append(int fd, const entry *e, const char *name, const void *bytes)
{
  struct iovec v[] = {
      {(void *)(uintptr_t)e, sizeof *e},
      {(void *)(uintptr_t)name, e->name_bytes},
      {(void *)(uintptr_t)bytes, has_bytes(e) ? (size_t)e->n : 0}};
  ssize_t all = (ssize_t)(v[0].iov_len + v[1].iov_len + v[2].iov_len);
  if (syscall(SYS_writev, fd, v, 3) != all)
    abort();
}

static void note(unsigned kind, const char *path, uint64_t off, uint64_t n,
                 const void *bytes)
{
  char name[NAME_MOST];
  snprintf(name, sizeof name, "%s", path);
  flatten(name);
  entry e = {kind, (uint32_t)strlen(name) + 1, off, n};
  if (log_fd >= 0)
    append(log_fd, &e, name, bytes);
  else
    carry_out(traced, &e, name, bytes);
}

/* ------------------------------------------------------------------- names */

/* This thread ends its process: what it still calls is no part of the play. With
** coverage counted those are the files with the counts. */
static _Thread_local int dying;

static int is_active(void)
{
  return (traced != NULL || log_fd >= 0) && !dying;
}

/* The name below the directory, or NULL; "" for the directory itself. */
static const char *name_in(const char *path)
{
  size_t n = strlen(dir), len = strlen(path);
  if (!is_active() || strncmp(path, dir, n) != 0 ||
      (path[n] != '/' && path[n] != 0))
    return NULL;
  if (len > 4 && strcmp(path + len - 4, "-shm") == 0)
    return NULL;
  return path[n] == 0 ? path + n : path + n + 1;
}

/* The same for a descriptor; NULL also for a file that was deleted. */
static const char *name_of(int fd, char path[NAME_MOST])
{
  char link[40];
  if (!is_active())
    return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, NAME_MOST - 1);
  path[n > 0 ? n : 0] = 0;
  return strstr(path, " (deleted)") != NULL ? NULL : name_in(path);
}

/* --------------------------------------------- before the C library's calls */

/* From before a call until it is written down nobody else's call is. */
static void enter(void)
{
  if (!is_active())
    return;
  pthread_mutex_lock(&one_at_a_time);
  while (log_fd >= 0 && flock(log_fd, LOCK_EX) != 0)
    if (errno != EINTR)
      abort();
  if (last_call > 0 && --last_call == 0) {
    dying = 1;
    kill(getpid(), SIGKILL);
  }
}

/* The others get their turn. */
static void leave(void)
{
  if (!is_active())
    return;
  int error = errno;
  uint64_t nap = naps != 0 ? next_random(&naps) : 1;
  if (log_fd >= 0)
    flock(log_fd, LOCK_UN);
  pthread_mutex_unlock(&one_at_a_time);
  if (nap % 4 == 0)
    nanosleep(&(struct timespec){0, (long)(nap / 4 % 400000)}, NULL);
  errno = error;
}

static void note_write(int fd, const struct iovec *iov, ssize_t left, off_t off)
{
  char path[NAME_MOST];
  const char *name = left > 0 ? name_of(fd, path) : NULL;
  for (int i = 0; name != NULL && left > 0; i++) {
    ssize_t part =
        (ssize_t)iov[i].iov_len < left ? (ssize_t)iov[i].iov_len : left;
    note(OP_WRITE, name, (uint64_t)off, (uint64_t)part, iov[i].iov_base);
    off += part;
    left -= part;
  }
}

/* What the file is, read by this descriptor, direct or not: to close another one
** would give up the locks that the process has on it. */
static void note_content(int fd, const char *name, size_t n)
{
  enum { PIECE = 1 << 16 };
  unsigned char *p = aligned_alloc(4096, (n / PIECE + 2) * PIECE);
  size_t at = 0;
  ssize_t got = 1;
  if (p == NULL)
    abort();
  while (at <= n && got > 0) {
    got = syscall(SYS_pread64, fd, p + at, (size_t)PIECE, (off_t)at);
    at += got > 0 ? (size_t)got : 0;
  }
  if (at != n)
    abort();
  note(OP_SYNC, name, sum_of(p, n), n, NULL);
  free(p);
}

/* Of a folder below the directory the sync counts for nothing: the cut may leave
** more than it could. */
static int note_sync(int fd)
{
  char path[NAME_MOST];
  struct stat st;
  const char *name = name_of(fd, path);
  if (name == NULL)
    return 0;
  if (name[0] == 0)
    note(OP_SYNC_DIR, name, 0, 0, NULL);
  else if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
    note_content(fd, name, (size_t)st.st_size);
  return 1;
}

int open64(const char *path, int flags, ...)
{
  va_list args;
  va_start(args, flags);
  mode_t mode = open_mode(flags, args);
  va_end(args);
  enter();
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  const char *name =
      fd >= 0 && (flags & (O_CREAT | O_TRUNC)) != 0 ? name_in(path) : NULL;
  if (name != NULL && name[0] != 0) {
    note(OP_CREATE, name, 0, 0, NULL);
    if ((flags & O_TRUNC) != 0)
      note(OP_TRUNCATE, name, 0, 0, NULL);
  }
  leave();
  return fd;
}

/* SQLite calls it by the one name, the command by the other. */
int open(const char *path, int flags, ...)
{
  va_list args;
  va_start(args, flags);
  mode_t mode = open_mode(flags, args);
  va_end(args);
  return open64(path, flags, mode);
}

ssize_t write(int fd, const void *buf, size_t n)
{
  enter();
  off_t off = is_active() ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t done = syscall(SYS_write, fd, buf, n);
  note_write(fd, &(struct iovec){(void *)(uintptr_t)buf, n}, done, off);
  leave();
  return done;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
  enter();
  ssize_t done = syscall(SYS_pwrite64, fd, buf, n, off);
  note_write(fd, &(struct iovec){(void *)(uintptr_t)buf, n}, done, off);
  leave();
  return done;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
  return pwrite64(fd, buf, n, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
  enter();
  ssize_t done = syscall(SYS_pwritev, fd, iov, n, off, 0);
  note_write(fd, iov, done, off);
  leave();
  return done;
}

int ftruncate64(int fd, off64_t bytes)
{
  char path[NAME_MOST];
  enter();
  int rc = (int)syscall(SYS_ftruncate, fd, bytes);
  const char *name = rc == 0 ? name_of(fd, path) : NULL;
  if (name != NULL)
    note(OP_TRUNCATE, name, (uint64_t)bytes, 0, NULL);
  leave();
  return rc;
}

int ftruncate(int fd, off_t bytes)
{
  return ftruncate64(fd, bytes);
}

static int sync_call(int fd, long number)
{
  enter();
  int rc = note_sync(fd) ? 0 : (int)syscall(number, fd);
  leave();
  return rc;
}

int fdatasync(int fd)
{
  return sync_call(fd, SYS_fdatasync);
}

int fsync(int fd)
{
  return sync_call(fd, SYS_fsync);
}

int unlink(const char *path)
{
  enter();
  int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  const char *name = rc == 0 ? name_in(path) : NULL;
  if (name != NULL && name[0] != 0)
    note(OP_DELETE, name, 0, 0, NULL);
  leave();
  return rc;
}

static void note_folder(unsigned kind, const char *path, int rc)
{
  char name[NAME_MOST];
  const char *below = rc == 0 ? name_in(path) : NULL;
  if (below == NULL || below[0] == 0)
    return;
  snprintf(name, sizeof name, "%s/", below);
  note(kind, name, 0, 0, NULL);
}

int mkdir(const char *path, mode_t mode)
{
  enter();
  int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  note_folder(OP_CREATE, path, rc);
  leave();
  return rc;
}

int rmdir(const char *path)
{
  enter();
  int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
  note_folder(OP_DELETE, path, rc);
  leave();
  return rc;
}

/* ------------------------------------------------------------ real directories */

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
  (void)st;
  (void)type;
  (void)at;
  return remove(path);
}

void trace_remove(const char *where)
{
  nftw(where, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A folder, whose name ends so; a file in a folder; a file. */
static void put(const simdisk *d, unsigned name, const char *where)
{
  char path[2 * NAME_MOST];
  size_t n;
  const unsigned char *p =
      simdisk_bytes(d, (unsigned)simdisk_entry(d, name), &n);
  int at = snprintf(path, sizeof path, "%s/%s", where, simdisk_name(d, name));
  for (char *s = path + strlen(where); *s != 0; s++)
    if (*s == FOLDER)
      *s = '/';
  if (path[at - 1] == '/') {
    if (mkdir(path, 0700) != 0)
      abort();
    return;
  }
  FILE *f = fopen(path, "wb");
  /* Its folder is not there: nobody can reach it. */
  if (f == NULL && errno == ENOENT)
    return;
  if (f == NULL || (n > 0 && fwrite(p, 1, n, f) != n) || fclose(f) != 0)
    abort();
}

static int is_folder(const char *name)
{
  return name[0] != 0 && name[strlen(name) - 1] == FOLDER;
}

void trace_put(const simdisk *d, const char *where)
{
  trace_remove(where);
  if (mkdir(where, 0755) != 0)
    abort();
  for (int files = 0; files < 2; files++)
    for (unsigned i = 0; i < simdisk_names(d); i++)
      if (simdisk_entry(d, i) >= 0 && is_folder(simdisk_name(d, i)) != files)
        put(d, i, where);
}

/* Files that are no memory, in the directory and in folders of it. */
static struct {
  simdisk *disk;
  size_t skip; /* bytes of the directory's path, with the slash */
} reading;

static int read_one(const char *path, const struct stat *st, int type,
                    struct FTW *at)
{
  char name[NAME_MOST];
  size_t n = 0, len = strlen(path);
  (void)st;
  if (at->level == 0 || (len > 4 && strcmp(path + len - 4, "-shm") == 0))
    return 0;
  snprintf(name, sizeof name, "%s%s", path + reading.skip,
           type == FTW_D ? "/" : "");
  flatten(name);
  unsigned f = simdisk_create(reading.disk, name);
  unsigned char *p = type == FTW_D ? NULL : read_whole(path, &n);
  if (type != FTW_D && p == NULL)
    abort();
  if (n > 0)
    simdisk_write(reading.disk, f, p, n, 0);
  free(p);
  return 0;
}

simdisk *trace_read(const char *where)
{
  reading.disk = simdisk_new();
  reading.skip = strlen(where) + 1;
  if (nftw(where, read_one, 8, FTW_PHYS) != 0)
    abort();
  return reading.disk;
}

/* A file in a folder that a cut lost is not there. */
static int is_reachable(const simdisk *d, unsigned i)
{
  char folder[NAME_MOST];
  snprintf(folder, sizeof folder, "%s", simdisk_name(d, i));
  char *end = strchr(folder, FOLDER);
  if (end != NULL)
    end[1] = 0;
  return simdisk_entry(d, i) >= 0 &&
         (end == NULL || simdisk_find(d, folder) >= 0);
}

/* Files of a disk that a directory has, too. */
static unsigned entries_of(const simdisk *d)
{
  unsigned n = 0;
  for (unsigned i = 0; i < simdisk_names(d); i++)
    n += (unsigned)is_reachable(d, i);
  return n;
}

void trace_compare(const simdisk *d, const char *where)
{
  simdisk *real = trace_read(where);
  for (unsigned i = 0; i < simdisk_names(real); i++) {
    size_t n;
    const char *name = simdisk_name(real, i);
    const unsigned char *p =
        simdisk_bytes(real, (unsigned)simdisk_entry(real, i), &n);
    compare(d, &(entry){.off = sum_of(p, n), .n = n}, name);
  }
  if (entries_of(real) != entries_of(d))
    miss("the directory");
  simdisk_free(real);
}

const char *trace_missed(void)
{
  return missed[0] == 0 ? NULL : missed;
}

/* ----------------------------------------------------------- begin and end */

const char *trace_begin(simdisk *d)
{
  char base[300];
  const char *from = getenv("PAGEDB_TEST_DIR");
  if (realpath(from != NULL ? from : "build", base) == NULL)
    abort();
  snprintf(dir, sizeof dir, "%s/torture.%07d", base, (int)getpid());
  trace_put(d, dir);
  missed[0] = 0;
  traced = d;
  return dir;
}

void trace_end(void)
{
  if (traced == NULL)
    return;
  trace_compare(traced, dir);
  traced = NULL;
  trace_remove(dir);
}

/* ----------------------------------------------------------------- the log */

static int log_open(const char *log, int flags)
{
  int fd = (int)syscall(SYS_openat, AT_FDCWD, log,
                        flags | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0)
    abort();
  return fd;
}

void trace_log_new(const char *log, const simdisk *d)
{
  int fd = log_open(log, O_CREAT | O_TRUNC);
  for (unsigned i = 0; i < simdisk_names(d); i++) {
    size_t n;
    const char *name = simdisk_name(d, i);
    if (simdisk_entry(d, i) < 0)
      continue;
    const unsigned char *p =
        simdisk_bytes(d, (unsigned)simdisk_entry(d, i), &n);
    append(fd, &(entry){OP_WRITE, (uint32_t)strlen(name) + 1, 0, n}, name, p);
  }
  append(fd, &(entry){ENTRY_START, 1, 0, 0}, "", NULL);
  close(fd);
}

void trace_to_log(const char *log, const char *where, uint64_t seed)
{
  snprintf(dir, sizeof dir, "%s", where);
  naps = seed;
  log_fd = log_open(log, 0);
}

void trace_last_call(uint64_t n)
{
  last_call = n;
}

void trace_mark(unsigned kind, uint64_t number)
{
  enter();
  note(OP_MARK, "", number, kind, NULL);
  leave();
}

void trace_log_mark(const char *log, unsigned kind, uint64_t number)
{
  int fd = log_open(log, 0);
  append(fd, &(entry){OP_MARK, 1, number, kind}, "", NULL);
  close(fd);
}

simdisk *trace_replay(const char *log)
{
  size_t n, at = 0;
  unsigned char *p = read_whole(log, &n);
  if (p == NULL)
    return NULL;
  simdisk *d = simdisk_new();
  missed[0] = 0;
  while (n - at >= sizeof(entry)) {
    entry e;
    memcpy(&e, p + at, sizeof e);
    const char *name = (const char *)p + at + sizeof e;
    size_t bytes = has_bytes(&e) ? (size_t)e.n : 0;
    at += sizeof e + e.name_bytes;
    if (at + bytes > n)
      abort();
    carry_out(d, &e, name, p + at);
    at += bytes;
  }
  free(p);
  return d;
}
