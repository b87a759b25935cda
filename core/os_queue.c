/*
** os_queue.c - batches of transfers: io_uring where it is compiled in, present
** and allowed, AIO (os_aio.c) for reads that are left under way, else one plain
** vectored call after the other.
**
** A queue owns its ring; a lasting one holds a context for AIO while something is
** under way. It belongs to one thread at a time and has no lock. A request that the
** kernel will not take, or that comes back short, interrupted or refused for a
** reason that a plain call does not have, is finished by plain calls: whatever
** becomes of io_uring or AIO, a request is carried out once and has an outcome.
*/
#define _GNU_SOURCE /* for liburing.h */
#include <stdlib.h>
#include <string.h>

#include "os_int.h"

#ifdef PAGEDB_HAVE_URING
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#endif

struct os_queue {
#ifdef PAGEDB_HAVE_URING
  struct io_uring ring;
#endif
  os_aio *aio; /* of a lasting queue with something under way, or NULL */
  int lasting;
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

static int async_wanted(void)
{
  const char *env = getenv("PAGEDB_URING");
  return env == NULL || strcmp(env, "0") != 0;
}

static void request_reset(os_request *r)
{
  r->done = 0;
  r->err = PAGEDB_OK;
  r->sys = 0;
  r->flying = 0;
}

static int queue_new(unsigned depth, os_queue **out)
{
  os_queue *q = calloc(1, sizeof *q);
  if (q == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, NULL, PAGEDB_NONE, 0, 0,
                            "a queue of transfers");
  q->depth = depth == 0 ? 1 : depth > 4096 ? 4096 : depth;
  q->async = async_wanted();
  *out = q;
  return PAGEDB_OK;
}

/* --------------------------------------------------------------------- AIO */

int os_queue_open_lasting(unsigned depth, os_queue **out)
{
  int err = queue_new(depth, out);
  if (err == PAGEDB_OK)
    (*out)->lasting = 1;
  return err;
}

static void aio_rest(os_queue *q)
{
  if (q->aio == NULL || q->flying > 0)
    return;
  os_aio_give(q->aio);
  q->aio = NULL;
}

static int aio_reap(os_queue *q, int wait)
{
  os_request *r = os_aio_reap(q->aio, wait);
  if (r == NULL)
    return 0;
  q->flying--;
  aio_rest(q);
  os_request_run(r);
  r->flying = 0;
  return 1;
}

static void aio_submit(os_queue *q, os_request *r)
{
  request_reset(r);
  while (q->flying >= q->depth)
    aio_reap(q, 1);
  if (q->async && q->aio == NULL && !r->write)
    q->aio = os_aio_take();
  r->flying = q->aio != NULL && !r->write && r->off <= (uint64_t)INT64_MAX &&
              os_aio_start(q->aio, r);
  q->flying += (unsigned)r->flying;
  if (!r->flying)
    os_request_run(r);
  aio_rest(q);
}

/* ---------------------------------------------------------------- io_uring */

#ifdef PAGEDB_HAVE_URING

int os_queue_open(unsigned depth, os_queue **out)
{
  int err = queue_new(depth, out);
  if (err == PAGEDB_OK && (*out)->async)
    (*out)->async = io_uring_queue_init((*out)->depth, &(*out)->ring, 0) == 0;
  return err;
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
  lock_order_io();
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

static void uring_submit(os_queue *q, os_request *reqs, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    os_request *r = &reqs[i];
    request_reset(r);
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

static int uring_look(os_queue *q)
{
  struct io_uring_cqe *cqe;
  if (io_uring_peek_cqe(&q->ring, &cqe) != 0)
    return 0;
  uring_finish(q, cqe);
  return 1;
}

static void uring_close(os_queue *q)
{
  if (q->async && !q->lasting)
    io_uring_queue_exit(&q->ring);
}

#else /* no io_uring */

int os_queue_open(unsigned depth, os_queue **out)
{
  int err = queue_new(depth, out);
  if (err == PAGEDB_OK)
    (*out)->async = 0;
  return err;
}

static void uring_submit(os_queue *q, os_request *reqs, unsigned n)
{
  (void)q;
  for (unsigned i = 0; i < n; i++) {
    request_reset(&reqs[i]);
    os_request_run(&reqs[i]);
  }
}

static void uring_reap(os_queue *q)
{
  (void)q;
}

static int uring_look(os_queue *q)
{
  (void)q;
  return 0;
}

static void uring_close(os_queue *q)
{
  (void)q;
}

#endif

/* -------------------------------------------------------------------- both */

void os_queue_submit(os_queue *q, os_request *reqs, unsigned n)
{
  if (!q->lasting)
    uring_submit(q, reqs, n);
  else
    for (unsigned i = 0; i < n; i++)
      aio_submit(q, &reqs[i]);
}

int os_queue_reap(os_queue *q, int wait)
{
  if (q->flying == 0)
    return 0;
  if (q->lasting)
    return aio_reap(q, wait);
  if (!wait)
    return uring_look(q);
  uring_reap(q);
  return 1;
}

void os_queue_wait(os_queue *q)
{
  while (q->flying > 0)
    os_queue_reap(q, 1);
}

void os_queue_close(os_queue *q)
{
  if (q == NULL)
    return;
  os_queue_wait(q);
  uring_close(q);
  free(q);
}
