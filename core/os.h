/*
** os.h - everything page-db asks of the operating system.
**
** One small interface; os_posix.c (Linux, macOS), os_win.c, and behind the batch
** calls os_queue.c (with Linux's io_uring) and os_aio.c (Linux's AIO) stand behind
** it. No other file of core has an #ifdef for a platform. Threads and mutexes are POSIX
** threads everywhere (mingw-w64 brings winpthreads), so they are not wrapped;
** lock_order.h has the order of the mutexes.
**
** Results are pagedb_err codes. A failing call records the system's error
** number with pagedb_fault_set(), so that the message names it. Everything
** here may be called from any thread; an os_file may be shared by threads (no
** call uses or moves a file cursor). An os_queue belongs to one thread at a
** time.
*/
#ifndef PAGEDB_OS_H
#define PAGEDB_OS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "lock_order.h"
#include "pagedb.h"

/* A piece of memory in a vectored transfer. Same layout as struct iovec. */
typedef struct os_iov {
  void *base;
  size_t len;
} os_iov;

/* The most pieces that one call takes; longer vectors are the caller's to
** split. */
enum { OS_IOV_MAX = 256 };

typedef struct os_file os_file;

enum {
  OS_OPEN_CREATE = 1,    /* make the file when it is missing */
  OS_OPEN_EXCLUSIVE = 2, /* with CREATE: fail when it is there already */
  OS_OPEN_READONLY = 4,
  OS_OPEN_DIRECT = 8, /* ask for Direct I/O; refusal is PAGEDB_EDIRECT */
};

/* How the file at hand wants its transfers. */
typedef struct os_geometry {
  int direct;            /* 1: this handle really bypasses the OS cache */
  uint32_t offset_align; /* offsets and lengths, bytes; 1 when buffered */
  uint32_t memory_align; /* buffer addresses, bytes; 1 when buffered */
} os_geometry;

/*
** Open path (UTF-8). Writable unless READONLY. With DIRECT the handle is
** probed, not trusted: statx(STATX_DIOALIGN) where the kernel answers it, a
** trial read otherwise; a file system that accepts the flag without being
** direct (tmpfs, btrfs on some kernels) counts as refusing. A file that this
** call created and then refused is removed again.
** On success *out is the handle and *geo (may be NULL) its geometry.
** Errors: PAGEDB_ECANTOPEN, PAGEDB_EDIRECT, PAGEDB_ENOMEM.
*/
int os_open(const char *path, unsigned flags, os_file **out, os_geometry *geo);

/* Close; NULL is allowed. The error of a close is of no use to anybody who
** has synced, and nobody else may rely on the data: it is not reported. */
void os_close(os_file *f);

/*
** A handle over a descriptor that belongs to somebody else (SQLite's VFS), who
** keeps it open for longer than this handle lives; os_close of it closes
** nothing. PAGEDB_ENOMEM; PAGEDB_ECANTOPEN where there are no descriptors.
*/
int os_borrow(int fd, os_file **out);

/*
** Make a borrowed descriptor direct: PAGEDB_OK and *geo, or PAGEDB_EDIRECT and
** the descriptor as it was. os_undirect takes it back: before the owner hands
** the descriptor to somebody who knows nothing of alignment.
*/
int os_make_direct(os_file *f, os_geometry *geo);
void os_undirect(os_file *f);

/*
** Transfer all of iov[0..n) at byte offset off. Partial transfers are carried
** on, EINTR is retried. os_readv stores in *done the bytes read, fewer than
** asked only at the end of the file (that is PAGEDB_OK). n <= OS_IOV_MAX.
** The vector may be modified.
** Errors: PAGEDB_EIO, PAGEDB_EFULL (write, no room), PAGEDB_ERANGE.
*/
int os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done);
int os_writev(os_file *f, os_iov *iov, int n, uint64_t off);

/* File length in bytes; set it (sparse when it grows). */
int os_size(os_file *f, uint64_t *bytes);
int os_truncate(os_file *f, uint64_t bytes);

/* Reserve room for [off, off+len) without changing the visible length.
** PAGEDB_OK also where the system cannot: it is a hint. PAGEDB_EFULL is
** reported. */
int os_preallocate(os_file *f, uint64_t off, uint64_t len);

/* Bytes [off, off+len) were written through the system's cache: the disk may begin
** with them. A hint. Does not wait for the disk to have written them, though maybe for
** room in its queue; promises nothing. What happens to them later os_datasync tells;
** an error from here it need not: ext4 forgets pages for which it finds no place on
** the disk, and tells nobody but who asked. PAGEDB_ESYNC: as if a sync had failed.
** Where there is no such call, PAGEDB_OK. */
int os_write_back(os_file *f, uint64_t off, uint64_t len);

/* Make all finished writes of this file, and its length, durable: fdatasync,
** F_FULLFSYNC, FlushFileBuffers. Error: PAGEDB_ESYNC. */
int os_datasync(os_file *f);

/* Make the directory entry of path durable (no-op on Windows, where
** FlushFileBuffers of the file covers it). */
int os_sync_parent_dir(const char *path);

/*
** Batches: many transfers under way at once. A request is one vectored
** transfer; the caller fills all but `done` and `err`. A request stays where
** it is, with its vector, until it is finished.
*/
typedef struct os_request {
  os_file *file;
  os_iov *iov; /* may be modified while the request is under way */
  int niov;    /* 1..OS_IOV_MAX */
  int write;   /* 0 read, 1 write */
  uint64_t off;
  size_t done; /* out: bytes transferred */
  int err;     /* out: pagedb_err, as os_readv / os_writev give it */
  int sys;     /* out: the system's error number, 0 if none */
  int flying;  /* out: 1 from os_queue_submit until it is finished */
} os_request;

typedef struct os_queue os_queue;

/*
** Open a queue that keeps up to depth transfers under way. io_uring where the
** kernel has and allows it, else (or when the environment has PAGEDB_URING=0)
** every request is carried out by plain vectored calls within os_queue_submit.
** Never fails for a missing io_uring. Errors: PAGEDB_ENOMEM.
*/
int os_queue_open(unsigned depth, os_queue **out);

/*
** The same for reads that may be left under way while the caller does something
** else, goes back to the application that called him, or comes back in another
** thread: nothing that the application's threads wait in is interrupted, as it is by
** an io_uring whose transfers were not waited for. Direct reads are under way, 64 at
** most and where the system has a context for them; others, and all writes, are
** carried out within os_queue_submit.
*/
int os_queue_open_lasting(unsigned depth, os_queue **out);
/* Waits for what is under way. NULL is allowed. */
void os_queue_close(os_queue *q);
int os_queue_is_async(const os_queue *q); /* io_uring, or AIO, is to be tried */

/* Start reqs[0..n). More than depth may be given: the rest starts as earlier
** ones finish (inside os_queue_wait, or here). Never fails as a whole: each
** request carries its own outcome. */
void os_queue_submit(os_queue *q, os_request *reqs, unsigned n);

/* Wait until every request given so far is finished. Short transfers were
** carried on, EINTR and EAGAIN retried. */
void os_queue_wait(os_queue *q);

/* Finish one request that has come back; with `wait` one is waited for. 0: none
** has, or none is under way. */
int os_queue_reap(os_queue *q, int wait);

/* Memory aligned to align (a power of two, at least sizeof(void *)), not
** zeroed; NULL when there is none. Freed with os_aligned_free. */
void *os_aligned_alloc(size_t align, size_t bytes);
void os_aligned_free(void *p);

/*
** Memory for a table, content undefined, aligned to 64: from 2 MiB on in huge
** pages where the kernel gives them. NULL: there is none. The size is told again
** when it is freed.
*/
void *os_table_alloc(size_t bytes);
void os_table_free(void *p, size_t bytes);

/*
** Memory in a mapping of its own: aligned to 4096, zero, inherited by fork().
** No huge pages: while the kernel looks for them, a new page waits. NULL: there
** is none. Given back by os_release.
*/
void *os_map(size_t bytes);

/*
** Address space: reserve a range aligned to 2 MiB whose pages read as zero
** and get memory when first touched; give back the memory of a part of it
** (which then reads as zero again, or keeps its content: do not rely on
** either); give back all. The range is not inherited by fork().
** os_reserve returns NULL when the system refuses.
*/
void *os_reserve(size_t bytes);
void os_decommit(void *p, size_t bytes); /* whole 4 KiB pages */
/* The same for a part of a huge page, of which the rest stays in use: it becomes
** ordinary pages, without which the system could not use the part. */
void os_decommit_part(void *p, size_t bytes);
void os_release(void *p, size_t bytes);

/*
** Whether memory of the range, whole pieces of OS_HUGE_PAGE bytes, may come in huge
** pages from now on: where the system gives them to whoever asks, and they have
** that size. A range of os_reserve begins with no. A hint.
*/
enum { OS_HUGE_PAGE = 2 << 20 };
void os_huge_pages(void *p, size_t bytes, int wanted);

uint64_t os_memory_bytes(void); /* usable by this process: RAM, or the limit of
                                   its cgroup or of its address space
                                   (RLIMIT_AS) if that is lower */

/* Start a thread that takes no signals: those are for the application's own. 0,
** and nothing started, where the system refuses. To be joined. */
int os_thread(pthread_t *t, void *(*run)(void *), void *arg);

/* Monotonic clock, and wall clock since 1970. */
uint64_t os_monotonic_ns(void);
uint64_t os_wallclock_us(void);

/*
** The asymmetric fence. When os_fence_init() returned 1, a plain store
** followed by a compiler barrier in any thread and os_fence_heavy() in this
** one order like two full fences: after os_fence_heavy() every other thread's
** earlier stores are seen here, or its later loads see our earlier stores.
** membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) on Linux,
** FlushProcessWriteBuffers on Windows. When it returned 0 (old or confined
** kernel, macOS, a ThreadSanitizer build) both sides must use full fences.
*/
int os_fence_init(void);
void os_fence_heavy(void);

#endif
