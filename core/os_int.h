/*
** os_int.h - between the files behind os.h: the part of transfers and of the
** batch calls that every system shares. Owns nothing; the functions here touch
** only what they are given.
*/
#ifndef PAGEDB_OS_INT_H
#define PAGEDB_OS_INT_H

#include "os.h"

/* Carry out the rest of a request, from q->done on, by plain calls, and set
** its outcome. */
void os_request_run(os_request *q);

/* Step over the first n bytes of a vector: returns the first piece that is not
** used up, cut to what is left of it. */
static inline os_iov *os_iov_advance(os_iov *iov, int *count, size_t n)
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

/* Whether all of the vector lies within the offsets that a file can have. */
static inline int os_range_ok(const os_iov *iov, int n, uint64_t off)
{
  uint64_t room = (uint64_t)INT64_MAX;
  if (off > room)
    return 0;
  room -= off;
  for (int i = 0; i < n; i++) {
    if (iov[i].len > room)
      return 0;
    room -= iov[i].len;
  }
  return 1;
}

/* The descriptor, for io_uring and AIO; on POSIX systems only. */
int os_file_fd(const os_file *f);

/*
** Reads that belong to the process (os_aio.c). NULL: there is no context to be had.
** One thread at a time has it; it is given back when nothing is under way.
*/
typedef struct os_aio os_aio;
os_aio *os_aio_take(void);
void os_aio_give(os_aio *a);
/* 1: it is under way. 64 may be at a time; there is no promise that they are. */
int os_aio_start(os_aio *a, os_request *r);
/* One that came back, its `done` what came at once; NULL: none has. With `wait`
** one must be under way. */
os_request *os_aio_reap(os_aio *a, int wait);

#endif
