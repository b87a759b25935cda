/*
** pagefile.c - a file of pages, each stamped on its way out and verified on
** its way in.
**
** Owns the descriptor and, made when first needed, one queue for batches.
** Nobody waits for the queue's lock: while a thread uses the queue, others
** transfer by plain calls. The sync lock makes syncs follow each other, or one
** could take the error that another's writes met and leave it a success; it
** also guards the sticky flag of a failed sync. No thread holds both locks.
** Everything else is immutable after the open.
**
** What reaches the disk: a page is stamped in the caller's buffer and written
** in place by one transfer. There is no order among pages and no page is
** atomic: a power cut leaves any subset of the unsynced writes, torn anywhere.
** The CRC finds a torn page; making a set of pages atomic is the business of a
** log above. A page is durable when a sync that began after its write returned
** PAGEDB_OK.
**
** Databases (trailing records) are never written through the queue: io_uring
** writes of a killed process can land after another process got its lock.
*/
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "os_int.h"
#include "pagedb.h"
#include "pagefile_int.h"

enum {
  DEFAULT_PAGE_SIZE = 4096,
  MOST_PAGE_SIZE = 1048576,
  MOST_ALIGNMENT = 4096,
  QUEUE_DEPTH = 64
};

struct pagedb_file {
  os_file *os;
  char *path;
  uint32_t page_size;
  uint32_t alignment;
  pagedb_placement placement;
  int direct;
  int read_only;
  RANKED_MUTEX(RANK_SYNC) sync_lock;
  atomic_uint_fast64_t syncs; /* begun; changed under sync_lock */
  int sync_failed;            /* under sync_lock */
  RANKED_MUTEX(RANK_QUEUE) queue_lock;
  os_queue *queue;
};

/* Set the fault of this file. */
static int fail(const pagedb_file *f, int err, uint64_t page, const char *what)
{
  return pagedb_fault_set(err, 0, f->path, page, 0, 0, what);
}

/* Add file and page to a fault of the os or page layer. */
static int blame(const pagedb_file *f, int err, uint64_t page)
{
  if (err == PAGEDB_OK)
    return err;
  pagedb_fault fault = *pagedb_last_fault();
  fault.page = page;
  fault_restore(&fault);
  return fault_set_path(f->path);
}

/* ------------------------------------------------------------------- open */

static unsigned open_flags(const pagedb_file_options *o)
{
  unsigned flags = 0;
  if (o->create)
    flags |= OS_OPEN_CREATE;
  if (o->create && o->exclusive)
    flags |= OS_OPEN_EXCLUSIVE;
  if (o->read_only)
    flags |= OS_OPEN_READONLY;
  return flags;
}

/* Open for Direct I/O if that is wanted and can serve this page size. */
static int open_direct(pagedb_file *f, const pagedb_file_options *o)
{
  os_geometry geo = {0};
  unsigned flags = open_flags(o);
  if (o->direct == PAGEDB_DIRECT_OFF)
    return os_open(f->path, flags, &f->os, NULL);
  int err = os_open(f->path, flags | OS_OPEN_DIRECT, &f->os, &geo);
  if (err == PAGEDB_OK && geo.offset_align <= f->page_size &&
      geo.memory_align <= f->alignment) {
    f->direct = 1;
    return PAGEDB_OK;
  }
  if (err == PAGEDB_OK) {
    os_close(f->os);
    f->os = NULL;
    flags &= ~(unsigned)OS_OPEN_EXCLUSIVE; /* it is ours by now */
    err = fail(f, PAGEDB_EDIRECT, PAGEDB_NONE,
               "the device's blocks are larger than the page");
  }
  if (err != PAGEDB_EDIRECT || o->direct == PAGEDB_DIRECT_REQUIRED)
    return err;
  return os_open(f->path, flags, &f->os, NULL);
}

/* Whether the bytes at the file's start are page 0 of some other page size. */
static uint32_t other_page_size(const pagedb_file *f, const void *start,
                                size_t len)
{
  for (uint32_t size = 512; size <= MOST_PAGE_SIZE && size <= len; size *= 2)
    if (size != f->page_size && pagedb_page_size_ok(size, f->placement) &&
        pagedb_page_verify(start, len, size, f->placement, 0, NULL) ==
            PAGEDB_OK)
      return size;
  return 0;
}

/* How many of the file's first bytes can be read. */
static size_t read_start(const pagedb_file *f, void *start, size_t want)
{
  size_t got = 0;
  os_iov iov = {start, want};
  return os_readv(f->os, &iov, 1, 0, &got) == PAGEDB_OK ? got : 0;
}

/* The page size that page 0 proves to be the file's instead of ours, or 0.
** More than our page is read only if that is not sound. A start that cannot
** be read proves nothing: one bad sector must not shut out all other pages. */
static uint32_t proven_page_size(const pagedb_file *f, void *start)
{
  size_t got = read_start(f, start, f->page_size);
  if (pagedb_page_verify(start, got, f->page_size, f->placement, 0, NULL) ==
      PAGEDB_OK)
    return 0;
  size_t more = read_start(f, start, MOST_PAGE_SIZE);
  return other_page_size(f, start, more > got ? more : got);
}

/* A file that is not empty must be one of this page size, as far as can be
** told: its length is a page at least, and its first page, if it is sound, is
** sound in this size and no other. */
static int check_page_size(pagedb_file *f)
{
  uint64_t bytes;
  int err = os_size(f->os, &bytes);
  if (err != PAGEDB_OK || bytes == 0)
    return err;
  void *start = os_aligned_alloc(MOST_ALIGNMENT, MOST_PAGE_SIZE);
  if (start == NULL)
    return fail(f, PAGEDB_ENOMEM, PAGEDB_NONE, "to look at the first page");
  uint32_t other = proven_page_size(f, start);
  os_aligned_free(start);
  if (other != 0)
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, f->path, PAGEDB_NONE, other,
                            f->page_size, "page 0 is of that other size");
  if (bytes < f->page_size)
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, f->path, PAGEDB_NONE, bytes,
                            f->page_size, "the file is shorter than one page");
  return PAGEDB_OK;
}

static void file_free(pagedb_file *f)
{
  os_close(f->os);
  pthread_mutex_destroy(&f->sync_lock);
  pthread_mutex_destroy(&f->queue_lock);
  free(f->path);
  free(f);
}

static char *copy_string(const char *s)
{
  size_t n = strlen(s) + 1;
  char *copy = malloc(n);
  return copy == NULL ? NULL : memcpy(copy, s, n);
}

static int file_start(pagedb_file *f, const pagedb_file_options *o)
{
  int err = open_direct(f, o);
  if (err == PAGEDB_OK)
    err = check_page_size(f);
  /* Whether this call made the file or an earlier one that crashed did: its
  ** name must last before anything in it is believed durable. */
  if (err == PAGEDB_OK && o->create)
    err = os_sync_parent_dir(f->path);
  return err;
}

int pagedb_file_open(const char *path, const pagedb_file_options *opt,
                     pagedb_file **out)
{
  pagedb_file_options o = {0};
  pagedb_fault before = *pagedb_last_fault();
  if (opt != NULL)
    o = *opt;
  if (o.page_size == 0)
    o.page_size = DEFAULT_PAGE_SIZE;
  if (!pagedb_page_size_ok(o.page_size, o.placement))
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, path, PAGEDB_NONE, o.page_size,
                            DEFAULT_PAGE_SIZE, "not a page size");
  if (o.create && o.read_only)
    return pagedb_fault_set(PAGEDB_EMISUSE, 0, path, PAGEDB_NONE, 0, 0,
                            "create and read_only exclude each other");
  pagedb_file *f = calloc(1, sizeof *f);
  char *copy = copy_string(path);
  if (f == NULL || copy == NULL) {
    free(f);
    free(copy);
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, path, PAGEDB_NONE, 0, 0, NULL);
  }
  f->path = copy;
  f->page_size = o.page_size;
  f->placement = o.placement;
  f->read_only = o.read_only;
  f->alignment = o.page_size < MOST_ALIGNMENT ? o.page_size : MOST_ALIGNMENT;
  pthread_mutex_init(&f->sync_lock, NULL);
  pthread_mutex_init(&f->queue_lock, NULL);
  int err = file_start(f, &o);
  if (err != PAGEDB_OK) {
    err = blame(f, err, PAGEDB_NONE);
    file_free(f);
    return err;
  }
  /* Direct I/O refused, page 0 unsound: no faults of a call that succeeds. */
  fault_restore(&before);
  *out = f;
  return PAGEDB_OK;
}

void pagedb_file_close(pagedb_file *f)
{
  if (f == NULL)
    return;
  if (f->queue != NULL)
    os_queue_close(f->queue);
  file_free(f);
}

/* --------------------------------------------------------------- questions */

uint32_t pagedb_file_page_size(const pagedb_file *f)
{
  return f->page_size;
}

int pagedb_file_is_direct(const pagedb_file *f)
{
  return f->direct;
}

uint32_t pagedb_file_alignment(const pagedb_file *f)
{
  return f->alignment;
}

pagedb_placement pagefile_placement(const pagedb_file *f)
{
  return f->placement;
}

const char *pagedb_file_path(const pagedb_file *f)
{
  return f->path;
}

void *pagedb_file_alloc(const pagedb_file *f, size_t n)
{
  if (n == 0 || n > SIZE_MAX / f->page_size)
    return NULL;
  return os_aligned_alloc(f->alignment, n * f->page_size);
}

void pagedb_file_free(void *pages)
{
  os_aligned_free(pages);
}

int pagedb_file_count(pagedb_file *f, uint64_t *pages)
{
  uint64_t bytes;
  int err = os_size(f->os, &bytes);
  if (err != PAGEDB_OK)
    return blame(f, err, PAGEDB_NONE);
  *pages = bytes / f->page_size;
  return PAGEDB_OK;
}

/* ----------------------------------------------------------- single pages */

/* Byte offset of `count` pages (a run at most) from id; the end must be a possible
** offset. */
static int offset_of(const pagedb_file *f, uint64_t id, uint64_t count,
                     uint64_t *off)
{
  uint64_t most = (uint64_t)INT64_MAX / f->page_size;
  if (id > most - count)
    return fail(f, PAGEDB_ERANGE, id, NULL);
  *off = id * f->page_size;
  return PAGEDB_OK;
}

static int check_buffer(const pagedb_file *f, const void *page, uint64_t id)
{
  if ((uintptr_t)page % f->alignment != 0)
    return pagedb_fault_set(PAGEDB_EALIGN, 0, f->path, id,
                            (uintptr_t)page % f->alignment, f->alignment,
                            "use pagedb_file_alloc");
  return PAGEDB_OK;
}

static int check_writable(const pagedb_file *f, uint64_t id)
{
  return f->read_only ? fail(f, PAGEDB_EREADONLY, id, NULL) : PAGEDB_OK;
}

int pagedb_file_read(pagedb_file *f, uint64_t id, void *page, uint64_t *lsn)
{
  uint64_t off = 0;
  size_t got = 0;
  int err = offset_of(f, id, 1, &off);
  if (err == PAGEDB_OK)
    err = check_buffer(f, page, id);
  if (err != PAGEDB_OK)
    return err;
  os_iov iov = {page, f->page_size};
  err = os_readv(f->os, &iov, 1, off, &got);
  if (err == PAGEDB_OK)
    err = pagedb_page_verify(page, got, f->page_size, f->placement, id, lsn);
  return blame(f, err, id);
}

int pagedb_file_write(pagedb_file *f, uint64_t id, uint64_t lsn, void *page)
{
  uint64_t off = 0;
  int err = check_writable(f, id);
  if (err == PAGEDB_OK)
    err = offset_of(f, id, 1, &off);
  if (err == PAGEDB_OK)
    err = check_buffer(f, page, id);
  if (err != PAGEDB_OK)
    return err;
  pagedb_page_stamp(page, f->page_size, f->placement, id, lsn);
  os_iov iov = {page, f->page_size};
  return blame(f, os_writev(f->os, &iov, 1, off), id);
}

/* -------------------------------------------------------------------- runs */

static void run_fail(pagedb_run *r, int err)
{
  r->err = err;
  for (uint32_t i = 0; r->errs != NULL && i < r->count; i++)
    r->errs[i] = err;
}

/* Check a run, stamp it for a write, make its request. */
static int run_prepare(pagedb_file *f, pagedb_run *r, int write, os_iov *iov,
                       os_request *q)
{
  uint64_t off = 0;
  if (r->count == 0 || r->count > PAGEDB_RUN_MAX)
    return fail(f, PAGEDB_EMISUSE, r->first, "pages in a run");
  if (write && r->lsns == NULL)
    return fail(f, PAGEDB_EMISUSE, r->first, "a write run without LSNs");
  int err = write ? check_writable(f, r->first) : PAGEDB_OK;
  if (err == PAGEDB_OK)
    err = offset_of(f, r->first, r->count, &off);
  for (uint32_t i = 0; err == PAGEDB_OK && i < r->count; i++) {
    err = check_buffer(f, r->pages[i], r->first + i);
    iov[i] = (os_iov){r->pages[i], f->page_size};
  }
  if (err != PAGEDB_OK)
    return err;
  for (uint32_t i = 0; write && i < r->count; i++)
    pagedb_page_stamp(r->pages[i], f->page_size, f->placement, r->first + i,
                      r->lsns[i]);
  *q = (os_request){.file = f->os,
                    .iov = iov,
                    .niov = (int)r->count,
                    .write = write,
                    .off = off};
  return PAGEDB_OK;
}

/* Keep the fault of the first failure while the rest is done. */
static void note_first(pagedb_fault *first, int err)
{
  if (err != PAGEDB_OK && first->err == PAGEDB_OK)
    *first = *pagedb_last_fault();
}

static void page_done(pagedb_run *r, uint32_t i, int err, pagedb_fault *first)
{
  if (r->errs != NULL)
    r->errs[i] = err;
  note_first(first, err);
}

static uint64_t *lsn_of(const pagedb_run *r, uint32_t i)
{
  return r->lsns == NULL ? NULL : &r->lsns[i];
}

/* Judge each page of a run of which `got` bytes were read. */
static void run_verify(pagedb_file *f, pagedb_run *r, size_t got)
{
  pagedb_fault first = {0};
  for (uint32_t i = 0; i < r->count; i++) {
    size_t before = (size_t)i * f->page_size;
    size_t len = got > before ? got - before : 0;
    int err = pagedb_page_verify(r->pages[i], len, f->page_size, f->placement,
                                 r->first + i, lsn_of(r, i));
    page_done(r, i, blame(f, err, r->first + i), &first);
  }
  r->err = first.err;
  if (first.err != PAGEDB_OK)
    fault_restore(&first);
}

/* The device refused a run as a whole. Page by page a bad sector costs, and
** the fault names, the page that has it and no other. */
static void run_reread(pagedb_file *f, pagedb_run *r)
{
  pagedb_fault first = {0};
  for (uint32_t i = 0; i < r->count; i++)
    page_done(r, i,
              pagedb_file_read(f, r->first + i, r->pages[i], lsn_of(r, i)),
              &first);
  r->err = first.err;
  if (first.err != PAGEDB_OK)
    fault_restore(&first);
}

static void run_finish(pagedb_file *f, pagedb_run *r, const os_request *q)
{
  if (q->err == PAGEDB_EIO && !q->write && r->count > 1) {
    run_reread(f, r);
  } else if (q->err != PAGEDB_OK) {
    run_fail(r, q->err);
    pagedb_fault_set(q->err, q->sys, f->path, r->first, 0, 0,
                     q->write ? "write" : "read");
  } else if (q->write) {
    run_fail(r, PAGEDB_OK);
  } else {
    run_verify(f, r, q->done);
  }
}

/* The file's queue, locked, or NULL: somebody else has it, or there is none. */
static os_queue *queue_take(pagedb_file *f)
{
  if (pthread_mutex_trylock(&f->queue_lock) != 0)
    return NULL;
  if (f->queue == NULL && os_queue_open(QUEUE_DEPTH, &f->queue) != PAGEDB_OK)
    f->queue = NULL;
  if (f->queue == NULL)
    pthread_mutex_unlock(&f->queue_lock);
  return f->queue;
}

static void requests_run(pagedb_file *f, os_request *q, unsigned n)
{
  int plain = n == 1 || (q[0].write && f->placement == PAGEDB_TRAILING);
  os_queue *queue = plain ? NULL : queue_take(f);
  if (queue == NULL) {
    for (unsigned i = 0; i < n; i++)
      os_request_run(&q[i]);
    return;
  }
  os_queue_submit(queue, q, n);
  os_queue_wait(queue);
  pthread_mutex_unlock(&f->queue_lock);
}

/* A chunk of runs: as many as fit the vectors. */
enum { CHUNK_RUNS = 64, CHUNK_PAGES = 512 };

typedef struct chunk {
  os_iov iov[CHUNK_PAGES];
  os_request request[CHUNK_RUNS];
  pagedb_run *run[CHUNK_RUNS];
  unsigned n;
  unsigned pages;
} chunk;

static void chunk_run(pagedb_file *f, chunk *c, pagedb_fault *first)
{
  if (c->n > 0)
    requests_run(f, c->request, c->n);
  for (unsigned i = 0; i < c->n; i++) {
    run_finish(f, c->run[i], &c->request[i]);
    note_first(first, c->run[i]->err);
  }
  c->n = c->pages = 0;
}

static int runs(pagedb_file *f, pagedb_run *r, unsigned n, int write)
{
  chunk c;
  pagedb_fault first = {0};
  c.n = c.pages = 0;
  for (unsigned i = 0; i < n; i++) {
    if (c.n == CHUNK_RUNS || c.pages + PAGEDB_RUN_MAX > CHUNK_PAGES)
      chunk_run(f, &c, &first);
    int err = run_prepare(f, &r[i], write, &c.iov[c.pages], &c.request[c.n]);
    if (err != PAGEDB_OK) {
      /* In its turn: earlier runs' errors come first. */
      pagedb_fault fault = *pagedb_last_fault();
      chunk_run(f, &c, &first);
      fault_restore(&fault);
      run_fail(&r[i], err);
      note_first(&first, err);
      continue;
    }
    c.run[c.n++] = &r[i];
    c.pages += r[i].count;
  }
  chunk_run(f, &c, &first);
  if (first.err != PAGEDB_OK)
    fault_restore(&first);
  return first.err;
}

int pagedb_file_read_runs(pagedb_file *f, pagedb_run *r, unsigned n)
{
  return runs(f, r, n, 0);
}

int pagedb_file_write_runs(pagedb_file *f, pagedb_run *r, unsigned n)
{
  return runs(f, r, n, 1);
}

/* ------------------------------------------------------- sync and truncate */

/*
** A thread that waited while another began and ended a sync need not sync: all
** that it wrote before it came was written when that sync began.
*/
int pagedb_file_sync(pagedb_file *f)
{
  int err = PAGEDB_OK;
  if (f->read_only)
    return err;
  uint64_t begun = atomic_load(&f->syncs);
  pthread_mutex_lock(&f->sync_lock);
  if (f->sync_failed) {
    err = fail(f, PAGEDB_ESYNC, PAGEDB_NONE, "an earlier sync failed");
  } else if (atomic_load(&f->syncs) == begun) {
    atomic_store(&f->syncs, begun + 1);
    err = blame(f, os_datasync(f->os), PAGEDB_NONE);
    f->sync_failed = err != PAGEDB_OK;
  }
  pthread_mutex_unlock(&f->sync_lock);
  return err;
}

int pagedb_file_truncate(pagedb_file *f, uint64_t pages)
{
  uint64_t bytes = 0;
  int err = check_writable(f, PAGEDB_NONE);
  if (err == PAGEDB_OK)
    err = offset_of(f, pages, 0, &bytes);
  if (err != PAGEDB_OK)
    return err;
  return blame(f, os_truncate(f->os, bytes), PAGEDB_NONE);
}
