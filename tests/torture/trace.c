/*
** trace.c - see trace.h.
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "trace.h"

static simdisk *traced;
static char dir[400];

/* The name below the directory, or NULL; "" for the directory itself. */
static const char *name_in(const char *path)
{
  size_t n = strlen(dir), len = strlen(path);
  if (traced == NULL || strncmp(path, dir, n) != 0 ||
      (path[n] != '/' && path[n] != 0))
    return NULL;
  if (len > 4 && strcmp(path + len - 4, "-shm") == 0)
    return NULL;
  return path[n] == 0 ? path + n : path + n + 1;
}

/* The same for a descriptor; NULL also for a file that was deleted. */
static const char *name_of(int fd)
{
  static char path[500];
  char link[40];
  if (traced == NULL)
    return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n > 0 ? n : 0] = 0;
  return strstr(path, " (deleted)") != NULL ? NULL : name_in(path);
}

/* A file that is not on the disk yet is being created. */
static unsigned file_of(const char *name)
{
  int f = simdisk_find(traced, name);
  return f >= 0 ? (unsigned)f : simdisk_create(traced, name);
}

static void note_write(int fd, const void *buf, ssize_t n, off_t off)
{
  const char *name = n > 0 ? name_of(fd) : NULL;
  if (name != NULL)
    simdisk_write(traced, file_of(name), buf, (size_t)n, (uint64_t)off);
}

static int note_sync(int fd)
{
  const char *name = name_of(fd);
  if (name == NULL)
    return 0;
  if (name[0] == 0)
    simdisk_sync_dir(traced);
  else
    simdisk_sync(traced, file_of(name));
  return 1;
}

/* --------------------------------------------- before the C library's calls */

int open64(const char *path, int flags, ...)
{
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
  }
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  const char *name = fd >= 0 && (flags & O_CREAT) != 0 ? name_in(path) : NULL;
  if (name != NULL && name[0] != 0)
    file_of(name);
  return fd;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
  ssize_t done = syscall(SYS_pwrite64, fd, buf, n, off);
  note_write(fd, buf, done, off);
  return done;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
  return pwrite64(fd, buf, n, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
  ssize_t done = syscall(SYS_pwritev, fd, iov, n, off, 0);
  ssize_t left = done;
  for (int i = 0; i < n && left > 0; i++) {
    ssize_t part =
        (ssize_t)iov[i].iov_len < left ? (ssize_t)iov[i].iov_len : left;
    note_write(fd, iov[i].iov_base, part, off);
    off += part;
    left -= part;
  }
  return done;
}

int ftruncate64(int fd, off64_t bytes)
{
  int rc = (int)syscall(SYS_ftruncate, fd, bytes);
  const char *name = rc == 0 ? name_of(fd) : NULL;
  if (name != NULL)
    simdisk_truncate(traced, file_of(name), (uint64_t)bytes);
  return rc;
}

int ftruncate(int fd, off_t bytes)
{
  return ftruncate64(fd, bytes);
}

int fdatasync(int fd)
{
  return note_sync(fd) ? 0 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
  return note_sync(fd) ? 0 : (int)syscall(SYS_fsync, fd);
}

int unlink(const char *path)
{
  int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  const char *name = rc == 0 ? name_in(path) : NULL;
  if (name != NULL && name[0] != 0)
    simdisk_delete(traced, name);
  return rc;
}

/* ----------------------------------------------------------- begin and end */

static void each_file(void (*what)(const char *path))
{
  char path[700];
  DIR *d = opendir(dir);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (e->d_name[0] != '.')
      what(path);
  }
  if (d != NULL)
    closedir(d);
}

static void remove_file(const char *path)
{
  remove(path);
}

static void put_file(const simdisk *d, unsigned name)
{
  char path[700];
  size_t n;
  const unsigned char *p =
      simdisk_bytes(d, (unsigned)simdisk_entry(d, name), &n);
  snprintf(path, sizeof path, "%s/%s", dir, simdisk_name(d, name));
  FILE *f = fopen(path, "wb");
  if (f == NULL || (n > 0 && fwrite(p, 1, n, f) != n) || fclose(f) != 0)
    abort();
}

const char *trace_begin(simdisk *d)
{
  char base[300];
  const char *from = getenv("PAGEDB_TEST_DIR");
  if (realpath(from != NULL ? from : "build", base) == NULL)
    abort();
  snprintf(dir, sizeof dir, "%s/torture.%07d", base, (int)getpid());
  mkdir(dir, 0755);
  each_file(remove_file);
  for (unsigned i = 0; i < simdisk_names(d); i++)
    if (simdisk_entry(d, i) >= 0)
      put_file(d, i);
  traced = d;
  return dir;
}

void trace_end(void)
{
  if (traced == NULL)
    return;
  traced = NULL;
  each_file(remove_file);
  rmdir(dir);
}
