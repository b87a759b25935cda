/*
** killpoint.c - see killpoint.h.
*/
#define _GNU_SOURCE
#include "killpoint.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "open_mode.h"

static killpoint *armed;

void killpoint_arm(killpoint *k)
{
  armed = k;
}

/* Preloaded: nobody calls. */
__attribute__((constructor)) static void arm_by_environment(void)
{
  static killpoint own = {.how = KILLPOINT_DIE};
  const char *at = getenv("PAGEDB_KILL_AT");
  if (at != NULL) {
    own.at = strtoull(at, NULL, 10);
    killpoint_arm(&own);
  }
}

static void event(int is_write)
{
  killpoint *k = armed;
  if (k == NULL || (k->how == KILLPOINT_WRITES && !is_write) ||
      atomic_fetch_add(&k->events, 1) + 1 != k->at)
    return;
  atomic_store(&k->reached, 1);
  if (k->how == KILLPOINT_DIE)
    kill(getpid(), SIGKILL);
  while (k->how == KILLPOINT_STOP)
    pause();
}

/* libc's own, or the sanitizer's that stands before it. ISO C knows no cast from
** an object's to a function's address. */
#define NEXT(type, name)                                                       \
  static type next;                                                            \
  if (next == NULL) {                                                          \
    void *at = dlsym(RTLD_NEXT, #name);                                        \
    memcpy(&next, &at, sizeof next);                                           \
  }

typedef ssize_t (*write_call)(int, const void *, size_t);
typedef ssize_t (*pwrite_call)(int, const void *, size_t, off64_t);
typedef ssize_t (*pwritev_call)(int, const struct iovec *, int, off_t);
typedef int (*ftruncate_call)(int, off64_t);
typedef int (*sync_call)(int);
typedef int (*name_call)(const char *);
typedef int (*mkdir_call)(const char *, mode_t);
typedef int (*fcntl_call)(int, int, ...);
typedef int (*open_call)(const char *, int, ...);

ssize_t write(int fd, const void *buf, size_t n)
{
  NEXT(write_call, write)
  event(1);
  return next(fd, buf, n);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
  NEXT(pwrite_call, pwrite64)
  event(1);
  return next(fd, buf, n, off);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
  return pwrite64(fd, buf, n, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
  NEXT(pwritev_call, pwritev)
  event(1);
  return next(fd, iov, n, off);
}

int ftruncate64(int fd, off64_t bytes)
{
  NEXT(ftruncate_call, ftruncate64)
  event(0);
  return next(fd, bytes);
}

int ftruncate(int fd, off_t bytes)
{
  return ftruncate64(fd, bytes);
}

/* A file that may be made. */
int open64(const char *name, int flags, ...)
{
  NEXT(open_call, open64)
  va_list args;
  va_start(args, flags);
  mode_t mode = open_mode(flags, args);
  va_end(args);
  if ((flags & O_CREAT) != 0)
    event(0);
  return next(name, flags, mode);
}

int open(const char *name, int flags, ...)
{
  va_list args;
  va_start(args, flags);
  mode_t mode = open_mode(flags, args);
  va_end(args);
  return open64(name, flags, mode);
}

int fdatasync(int fd)
{
  NEXT(sync_call, fdatasync)
  event(0);
  return next(fd);
}

int fsync(int fd)
{
  NEXT(sync_call, fsync)
  event(0);
  return next(fd);
}

int unlink(const char *name)
{
  NEXT(name_call, unlink)
  event(0);
  return next(name);
}

int mkdir(const char *name, mode_t mode)
{
  NEXT(mkdir_call, mkdir)
  event(0);
  return next(name, mode);
}

int rmdir(const char *name)
{
  NEXT(name_call, rmdir)
  event(0);
  return next(name);
}

/* Locks. All commands that SQLite uses take a pointer, a number, or nothing. */
int fcntl64(int fd, int command, ...)
{
  NEXT(fcntl_call, fcntl64)
  va_list args;
  va_start(args, command);
  void *arg = va_arg(args, void *);
  va_end(args);
  if (command == F_SETLK || command == F_SETLKW)
    event(0);
  return next(fd, command, arg);
}
