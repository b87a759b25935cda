/*
** os_queue.c - batches of transfers: io_uring where it is compiled in, present
** and allowed, else one plain vectored call after the other.
**
** A queue owns its ring and, while requests wait for a place in it, a list of
** them. It belongs to one thread at a time and has no lock. A request that the
** ring will not take, or that comes back short, interrupted or refused for a
** reason that a plain call does not have, is finished by plain calls: whatever
** becomes of io_uring, a request is carried out once and has an outcome.
*/
#define _GNU_SOURCE /* for liburing.h */
#include <stdlib.h>

#include "os_int.h"

#ifdef PAGEDB_HAVE_URING
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <string.h>
#endif

struct os_queue {
#ifdef PAGEDB_HAVE_URING
  struct io_uring ring;
#endif
  int async;
  unsigned depth;
  unsigned flying;
};

void os_request_run(os_request *q)
{
  size_t before = q->done, got = 0, left = 0;
  int n = q->niov;
  os_iov *iov = os_iov_advance(q->iov, &n, before);
  for (int i = 0; i < n; i++)
    left += iov[i].len;
  q->err = PAGEDB_OK;
  q->sys = 0;
  if (left == 0)
    return;
  if (q->write)
    q->err = os_writev(q->file, iov, n, q->off + before);
  else
    q->err = os_readv(q->file, iov, n, q->off + before, &got);
  if (q->err != PAGEDB_OK)
    q->sys = pagedb_last_fault()->sys;
  else
    q->done = before + (q->write ? left : got);
}

int os_queue_is_async(const os_queue *q)
{
  return q->async;
}

#ifdef PAGEDB_HAVE_URING

static int uring_wanted(void)
{
  const char *env = getenv("PAGEDB_URING");
  return env == NULL || strcmp(env, "0") != 0;
}

int os_queue_open(unsigned depth, os_queue **out)
{
  os_queue *q = calloc(1, sizeof *q);
  if (q == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "a queue of transfers");
  q->depth = depth == 0 ? 1 : depth > 4096 ? 4096 : depth;
  q->async = uring_wanted() && io_uring_queue_init(q->depth, &q->ring, 0) == 0;
  *out = q;
  return PAGEDB_OK;
}

/* One transfer came back. What is missing of it is done by plain calls, which
** also find out the right error. */
static void uring_finish(os_queue *q, struct io_uring_cqe *cqe)
{
  os_request *r = io_uring_cqe_get_data(cqe);
  r->done = cqe->res > 0 ? (size_t)cqe->res : 0;
  io_uring_cqe_seen(&q->ring, cqe);
  q->flying--;
  os_request_run(r);
  r->flying = 0;
}

/* Wait for one transfer. */
static void uring_reap(os_queue *q)
{
  struct io_uring_cqe *cqe;
  int rc;
  do
    rc = io_uring_wait_cqe(&q->ring, &cqe);
  while (rc == -EINTR || rc == -EAGAIN);
  /* The kernel still owns the callers' buffers: going on would let it write
  ** into memory that is used for something else. */
  if (rc != 0)
    abort();
  uring_finish(q, cqe);
}

/* Nothing is under way and the kernel takes nothing more (a seccomp filter came
** later, say): carry out by plain calls what still waits in the ring, and go on
** without it. */
static void uring_give_up(os_queue *q)
{
  struct io_uring_sq *sq = &q->ring.sq;
  for (unsigned i = *sq->khead; i != sq->sqe_tail; i++) {
    struct io_uring_sqe *e = &sq->sqes[i & *sq->kring_mask];
    os_request *r = (os_request *)(uintptr_t)e->user_data;
    os_request_run(r);
    r->flying = 0;
  }
  io_uring_queue_exit(&q->ring);
  q->async = 0;
}

/* Give prepared entries to the kernel; what it refuses now is retried after
** something came back. */
static void uring_push(os_queue *q)
{
  while (q->async && io_uring_sq_ready(&q->ring) > 0) {
    int rc = io_uring_submit(&q->ring);
    if (rc > 0)
      q->flying += (unsigned)rc;
    else if (q->flying > 0)
      uring_reap(q);
    else if (rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
      uring_give_up(q);
  }
}

void os_queue_submit(os_queue *q, os_request *reqs, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    os_request *r = &reqs[i];
    r->done = 0;
    r->err = PAGEDB_OK;
    r->sys = 0;
    r->flying = 0;
    while (q->async && q->flying + io_uring_sq_ready(&q->ring) >= q->depth) {
      uring_push(q);
      if (q->async)
        uring_reap(q);
    }
    /* An entry that was got must be filled in, so decide before. */
    int plain = !q->async || r->off > (uint64_t)INT64_MAX;
    struct io_uring_sqe *e = plain ? NULL : io_uring_get_sqe(&q->ring);
    if (e == NULL) {
      os_request_run(r);
      continue;
    }
    struct iovec *v = (struct iovec *)(void *)r->iov;
    if (r->write)
      io_uring_prep_writev(e, os_file_fd(r->file), v, (unsigned)r->niov,
                           r->off);
    else
      io_uring_prep_readv(e, os_file_fd(r->file), v, (unsigned)r->niov, r->off);
    io_uring_sqe_set_data(e, r);
    r->flying = 1;
  }
  if (q->async)
    uring_push(q);
}

void os_queue_wait(os_queue *q)
{
  while (q->flying > 0)
    uring_reap(q);
}

int os_queue_reap(os_queue *q, int wait)
{
  struct io_uring_cqe *cqe;
  if (q->flying == 0)
    return 0;
  if (wait) {
    uring_reap(q);
    return 1;
  }
  if (io_uring_peek_cqe(&q->ring, &cqe) != 0)
    return 0;
  uring_finish(q, cqe);
  return 1;
}

void os_queue_close(os_queue *q)
{
  if (q == NULL)
    return;
  os_queue_wait(q);
  if (q->async)
    io_uring_queue_exit(&q->ring);
  free(q);
}

#else /* no io_uring */

int os_queue_open(unsigned depth, os_queue **out)
{
  os_queue *q = calloc(1, sizeof *q);
  if (q == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "a queue of transfers");
  q->depth = depth;
  *out = q;
  return PAGEDB_OK;
}

void os_queue_submit(os_queue *q, os_request *reqs, unsigned n)
{
  (void)q;
  for (unsigned i = 0; i < n; i++) {
    reqs[i].done = 0;
    reqs[i].flying = 0;
    os_request_run(&reqs[i]);
  }
}

void os_queue_wait(os_queue *q)
{
  (void)q;
}

int os_queue_reap(os_queue *q, int wait)
{
  (void)q;
  (void)wait;
  return 0;
}

void os_queue_close(os_queue *q)
{
  free(q);
}

#endif
