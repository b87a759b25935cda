/*
** os_aio.c - reads that stay under way while their thread does something else:
** Linux's own AIO (io_submit), for os_queue.c.
**
** Not io_uring. That finishes a transfer in the thread which began it, and wakes it
** for that: an epoll_wait or semtimedop of the host's ends with EINTR (so it does
** with IORING_SETUP_COOP_TASKRUN, and once more after a ring was closed). With
** IORING_SETUP_DEFER_TASKRUN nothing is finished before the same thread comes back,
** which a thread that waits for the pages cannot make it do. AIO's reads belong to
** the process: the interrupt finishes them, and any thread may ask for them.
** They are under way only where the file is direct; else io_submit does all of it.
**
** A context is dear to destroy (it waits for an RCU grace period, 40 ms), and the
** system has a number of them (fs.aio-max-nr). So there are a few in the process,
** made when needed and kept; a queue holds one while it has reads under way. A
** forked child has none of its parent's: each says which process made it.
**
** No lock: a context belongs to whoever has put its process into `holder`.
*/
#define _GNU_SOURCE /* for syscall */
#include "os_int.h"

#ifdef __linux__
#include <sys/syscall.h>
#endif

#if defined(__linux__) && defined(SYS_io_getevents)
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CONTEXTS = 32, EVENTS = 64 };

struct os_aio {
  _Atomic int holder; /* process; 0 or another one's: nobody */
  _Atomic int maker;  /* the process that made the context; 0: none */
  aio_context_t context;
  uint64_t idle; /* a bit for each block that is not under way */
  /* The kernel does not need them for as long, but valgrind looks into them when
  ** they come back. */
  struct iocb block[EVENTS];
};

static os_aio contexts[CONTEXTS];

/* By its holder: whether it has a context, made now if need be. */
static int is_ready(os_aio *a, int me)
{
  a->idle = UINT64_MAX;
  if (atomic_load(&a->maker) == me)
    return 1;
  a->context = 0;
  int made = syscall(SYS_io_setup, (long)EVENTS, &a->context) == 0;
  atomic_store(&a->maker, made ? me : 0);
  return made;
}

/* One that is made, before one that the system might refuse. */
os_aio *os_aio_take(void)
{
  int me = (int)getpid();
  for (int made = 1; made >= 0; made--)
    for (int i = 0; i < CONTEXTS; i++) {
      os_aio *a = &contexts[i];
      int held = atomic_load(&a->holder);
      if (held == me || (atomic_load(&a->maker) == me) != made ||
          !atomic_compare_exchange_strong(&a->holder, &held, me))
        continue;
      if (is_ready(a, me))
        return a;
      os_aio_give(a);
      return NULL;
    }
  return NULL;
}

void os_aio_give(os_aio *a)
{
  atomic_store(&a->holder, 0);
}

int os_aio_start(os_aio *a, os_request *r)
{
  if (a->idle == 0)
    return 0;
  struct iocb *b = &a->block[__builtin_ctzll(a->idle)];
  *b = (struct iocb){.aio_data = (uintptr_t)r,
                     .aio_lio_opcode = IOCB_CMD_PREADV,
                     .aio_fildes = (uint32_t)os_file_fd(r->file),
                     .aio_buf = (uintptr_t)r->iov,
                     .aio_nbytes = (uint64_t)r->niov,
                     .aio_offset = (int64_t)r->off};
  if (syscall(SYS_io_submit, a->context, 1L, &b) != 1)
    return 0;
  a->idle &= a->idle - 1;
  return 1;
}

/*
** The ring of events, which is where the context's number points to. libaio looks
** there, too, to save the call.
*/
struct ring {
  unsigned id, nr, head, tail, magic, compat, incompat, header_length;
  struct io_event events[];
};
#define RING_MAGIC 0xa10a10a1u

/* NULL: it looks different here; ask the kernel. */
static struct ring *ring_of(const os_aio *a)
{
  struct ring *r = (struct ring *)(uintptr_t)a->context;
  return r->magic == RING_MAGIC && r->incompat == 0 ? r : NULL;
}

static int is_empty(struct ring *r)
{
  return __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == r->head;
}

/* The system does not take the question any more (a seccomp filter came later,
** say), but what is under way comes back all the same. */
static int ring_take(struct ring *r, int wait, struct io_event *event)
{
  const struct timespec nap = {0, 100000};
  while (is_empty(r)) {
    if (!wait)
      return 0;
    nanosleep(&nap, NULL);
  }
  *event = r->events[r->head];
  __atomic_store_n(&r->head, (r->head + 1) % r->nr, __ATOMIC_RELEASE);
  return 1;
}

os_request *os_aio_reap(os_aio *a, int wait)
{
  struct timespec none = {0};
  struct io_event event;
  struct ring *ring = ring_of(a);
  long n;
  if (!wait && ring != NULL && is_empty(ring))
    return NULL;
  do
    n = syscall(SYS_io_getevents, a->context, wait ? 1L : 0L, 1L, &event,
                wait ? NULL : &none);
  while (n < 0 && errno == EINTR);
  if (n < 0 && ring != NULL)
    n = ring_take(ring, wait, &event);
  if (n != 1) {
    /* The kernel still owns the caller's buffers: going on would let it write
    ** into memory that is used for something else. */
    if (wait)
      abort();
    return NULL;
  }
  const struct iocb *b = (const struct iocb *)(uintptr_t)event.obj;
  a->idle |= (uint64_t)1 << (b - a->block);
  os_request *r = (os_request *)(uintptr_t)event.data;
  r->done = event.res > 0 ? (size_t)event.res : 0;
  return r;
}

#else /* no AIO */

os_aio *os_aio_take(void)
{
  return NULL;
}

void os_aio_give(os_aio *a)
{
  (void)a;
}

int os_aio_start(os_aio *a, os_request *r)
{
  (void)a;
  (void)r;
  return 0;
}

os_request *os_aio_reap(os_aio *a, int wait)
{
  (void)a;
  (void)wait;
  return NULL;
}

#endif
