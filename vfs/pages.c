/*
** pages.c - a database file as a store of pages, for the pool.
**
** What the pool holds is what SQLite sees: in a stamped file the tail of every
** page is zero and page 1 has no guard. Stamps exist on disk only. They are
** verified and taken off here on the way in, and put on here on the way out, in
** copies that belong to the pool's writer; a buffer of SQLite's is never
** changed.
**
** The pool calls pages_write() on any thread, whenever it needs room, during a
** write transaction; s->out and s->txn.lsn were set before the first page
** became dirty and change only in the join, when the pool has nothing dirty of
** this file. Pages that leave without a stamp while it is not yet known
** whether the file is a stamped one (s->unsure) are noted in txn.raw, under
** bits_lock: the join stamps them, and until then they are read back unverified.
*/
#include <stdlib.h>
#include <string.h>

#include "../core/fault.h"
#include "vfs_int.h"

struct pages {
  pagedb_store base;
  shared *file;
  pagedb_owner *owner;
  struct pages *next;
};

static uint8_t *tail_of(void *page, uint32_t size)
{
  return (uint8_t *)page + size - PAGEDB_RECORD_SIZE;
}

int all_zero(const uint8_t *p, size_t n)
{
  return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int tail_is_ours(const uint8_t *page, uint32_t size)
{
  pagedb_record r;
  pagedb_record_get(page, size, PAGEDB_TRAILING, &r);
  return r.magic == PAGEDB_MAGIC ||
         all_zero(page + size - PAGEDB_RECORD_SIZE, PAGEDB_RECORD_SIZE);
}

/* -------------------------------------------------------------- verifying */

int pages_verify(const shared *s, const void *page, size_t len, uint32_t size,
                 uint64_t id, uint64_t *lsn)
{
  const uint8_t *p = page;
  int err = pagedb_page_verify(page, len, size, PAGEDB_TRAILING, id, lsn);
  if (err == PAGEDB_EMAGIC && all_zero(p, size))
    return pagedb_fault_set(err, 0, s->path, id, 0, PAGEDB_MAGIC,
                            "the whole page is zero");
  if (err == PAGEDB_EMAGIC &&
      all_zero(p + size - PAGEDB_RECORD_SIZE, PAGEDB_RECORD_SIZE))
    return pagedb_fault_set(PAGEDB_EUNSTAMPED, 0, s->path, id, 0, PAGEDB_MAGIC,
                            "written without page-db");
  if (err != PAGEDB_OK) {
    pagedb_fault f = *pagedb_last_fault();
    pagedb_fault_set(err, 0, s->path, id, f.found, f.expected, NULL);
  }
  return err;
}

/* Whether page id, as it is on disk now, must have a stamp. */
static int must_have_stamp(shared *s, uint32_t size, uint64_t id)
{
  if (!atomic_load(&s->stamped) || is_lock_page(id, size))
    return 0;
  if (!atomic_load(&s->unsure))
    return 1;
  pthread_mutex_lock(&s->bits_lock);
  int raw = bitmap_has(&s->txn.raw, id);
  pthread_mutex_unlock(&s->bits_lock);
  return !raw;
}

/* SQLite never sees the guard, which the page may have without a stamp, too
** (keep_guard). */
static void strip_guard(uint8_t *page, uint64_t id)
{
  if (id == 0 && guard_is_set(page[GUARD_AT]))
    page[GUARD_AT] = unguarded(page[GUARD_AT]);
}

/* A page came in: what SQLite sees of it, or an error. */
static int page_in(shared *s, uint32_t size, uint64_t id, uint8_t *page,
                   size_t len, int verify, uint64_t *lsn)
{
  int err = PAGEDB_OK;
  *lsn = 0;
  if (len < size)
    return pagedb_fault_set(PAGEDB_ESHORT, 0, s->path, id, len, size, NULL);
  if (!must_have_stamp(s, size, id)) {
    strip_guard(page, id);
    return PAGEDB_OK;
  }
  if (verify)
    err = pages_verify(s, page, len, size, id, lsn);
  if (err == PAGEDB_OK) {
    shared_saw_lsn(s, *lsn);
    memset(tail_of(page, size), 0, PAGEDB_RECORD_SIZE);
    strip_guard(page, id);
  }
  return err;
}

int pages_arrived(shared *s, uint32_t size, uint64_t id, uint8_t *page,
                  uint64_t *lsn)
{
  return page_in(s, size, id, page, size, 1, lsn);
}

void keep_guard(const shared *s, uint8_t *page1)
{
  if (s->txn.start_stamped && memcmp(page1, "SQLite format 3", 16) == 0)
    page1[GUARD_AT] = guarded(page1[GUARD_AT]);
}

void stamp_out(uint8_t *page, uint32_t size, uint64_t id, uint64_t lsn)
{
  if (is_lock_page(id, size))
    return;
  if (id == 0)
    page[GUARD_AT] = guarded(page[GUARD_AT]);
  pagedb_page_stamp(page, size, PAGEDB_TRAILING, id, lsn);
}

static void page_out(const shared *s, uint32_t size, uint64_t id, uint8_t *page,
                     uint64_t lsn, out_mode out)
{
  if (out == OUT_STAMP)
    stamp_out(page, size, id, lsn);
  else if (id == 0)
    keep_guard(s, page);
}

/* ------------------------------------------------------------------- store */

static void run_in(struct pages *p, pagedb_run *r, pagedb_fault *first)
{
  os_iov iov[PAGEDB_RUN_MAX];
  shared *s = p->file;
  uint32_t size = p->base.page_size;
  size_t got = 0;
  for (uint32_t i = 0; i < r->count; i++)
    iov[i] = (os_iov){r->pages[i], size};
  int err = io_read_pages(s, iov, (int)r->count, r->first * size, &got);
  if (err != PAGEDB_OK)
    pagedb_fault_set(err, pagedb_last_fault()->sys, s->path, r->first, 0, 0,
                     pagedb_last_fault()->what);
  atomic_fetch_add(&pagedb_globals.count.page_reads, r->count);
  r->err = PAGEDB_OK;
  for (uint32_t i = 0; i < r->count; i++) {
    uint64_t lsn = 0;
    size_t before = (size_t)i * size;
    int one = err;
    if (err == PAGEDB_OK)
      one = page_in(s, size, r->first + i, r->pages[i],
                    got > before ? got - before : 0, 1, &lsn);
    if (r->lsns != NULL)
      r->lsns[i] = lsn;
    if (r->errs != NULL)
      r->errs[i] = one;
    if (one != PAGEDB_OK && r->err == PAGEDB_OK)
      r->err = one;
    if (one != PAGEDB_OK && first->err == PAGEDB_OK)
      *first = *pagedb_last_fault();
  }
}

static int pages_read(pagedb_store *store, pagedb_run *runs, unsigned n)
{
  pagedb_fault first = {0};
  for (unsigned i = 0; i < n; i++)
    run_in((struct pages *)store, &runs[i], &first);
  if (first.err != PAGEDB_OK)
    fault_restore(&first);
  return first.err;
}

static void note_raw(shared *s, uint64_t first, uint32_t count)
{
  if (!atomic_load(&s->unsure))
    return;
  pthread_mutex_lock(&s->bits_lock);
  for (uint32_t i = 0; i < count; i++)
    bitmap_add(&s->txn.raw, first + i);
  pthread_mutex_unlock(&s->bits_lock);
}

static int run_out(shared *s, uint32_t size, pagedb_run *r)
{
  os_iov iov[PAGEDB_RUN_MAX];
  out_mode out = (out_mode)atomic_load(&s->out);
  if (out == OUT_RAW)
    note_raw(s, r->first, r->count);
  for (uint32_t i = 0; i < r->count; i++) {
    page_out(s, size, r->first + i, r->pages[i], s->txn.lsn, out);
    iov[i] = (os_iov){r->pages[i], size};
  }
  r->err = io_write_pages(s, iov, (int)r->count, r->first * size);
  if (r->err != PAGEDB_OK)
    pagedb_fault_set(r->err, pagedb_last_fault()->sys, s->path, r->first, 0, 0,
                     pagedb_last_fault()->what);
  for (uint32_t i = 0; r->errs != NULL && i < r->count; i++)
    r->errs[i] = r->err;
  atomic_fetch_add(&pagedb_globals.count.page_writes, r->count);
  return r->err;
}

/*
** What the sync after the join will wait for is begun now, where the disk has much
** to do with few requests. Scattered pages are left to the sync: Linux lets it have
** many requests under way, and what is only begun few (medians of 3, 250 MB of which
** 18 % of the pages are left out: 314 ms begun, 183 left; without gaps 38 and 57).
** So is a small commit, so that the disk gets it and page 1 at once.
*/
enum { MANY_BYTES = 256 << 10, LONG_BYTES = 64 << 10 };

static void begin_write_back(shared *s, uint32_t size, const pagedb_run *runs,
                             unsigned n)
{
  uint64_t bytes = 0, end = 0;
  for (unsigned i = 0; i < n; i++) {
    bytes += (uint64_t)runs[i].count * size;
    end = (runs[i].first + runs[i].count) * size;
  }
  if (bytes > MANY_BYTES && bytes / n >= LONG_BYTES)
    io_write_back(s, runs[0].first * size, end - runs[0].first * size);
}

/* The runs are sorted. One that fails does not keep the others from being written;
** the fault is that of the first. */
static int pages_write(pagedb_store *store, pagedb_run *runs, unsigned n)
{
  pagedb_fault first = {0};
  shared *s = ((struct pages *)store)->file;
  for (unsigned i = 0; i < n; i++)
    if (run_out(s, store->page_size, &runs[i]) != PAGEDB_OK &&
        first.err == PAGEDB_OK)
      first = *pagedb_last_fault();
  if (first.err == PAGEDB_OK)
    begin_write_back(s, store->page_size, runs, n);
  else
    fault_restore(&first);
  return first.err;
}

static int pages_sync(pagedb_store *store)
{
  return io_sync(((struct pages *)store)->file, SQLITE_SYNC_NORMAL);
}

static int pages_count(pagedb_store *store, uint64_t *pages)
{
  uint64_t bytes;
  int err = io_size(((struct pages *)store)->file, &bytes);
  if (err == PAGEDB_OK)
    *pages = bytes / store->page_size;
  return err;
}

static void pages_free(pagedb_store *store)
{
  free(store);
}

int pages_open(shared *s, uint32_t page_size, struct pages **out)
{
  struct pages *p = calloc(1, sizeof *p);
  pagedb_pool *pool = pool_get();
  if (p == NULL || pool == NULL) {
    free(p);
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, s->path, PAGEDB_NONE, 0, 0, NULL);
  }
  p->file = s;
  p->base = (pagedb_store){.page_size = page_size,
                           .record_at = page_size,
                           .name = s->path,
                           .read = pages_read,
                           .write = pages_write,
                           .sync = pages_sync,
                           .count = pages_count,
                           .close = pages_free};
  int err = pagedb_owner_open(pool, &p->base, &p->owner);
  if (err != PAGEDB_OK) {
    free(p);
    return err;
  }
  *out = p;
  return PAGEDB_OK;
}

pagedb_owner *pages_owner(struct pages *p)
{
  return p->owner;
}

int pages_close(struct pages *p)
{
  if (pagedb_owner_close(p->owner) != PAGEDB_OK)
    return 0;
  pagedb_store_close(&p->base);
  return 1;
}

struct pages *pages_next(struct pages *p)
{
  return p->next;
}

void pages_set_next(struct pages *p, struct pages *next)
{
  p->next = next;
}

/* ------------------------------------------------------- around the pool */

int pages_read_one(shared *s, uint64_t id, void *buf, int verify)
{
  uint32_t size = atomic_load(&s->page_size);
  uint64_t lsn;
  size_t got = 0;
  int err = io_read_page(s, id, buf, &got);
  if (err != PAGEDB_OK)
    return err;
  return page_in(s, size, id, buf, got, verify, &lsn);
}

int pages_write_one(shared *s, uint64_t id, void *buf, uint64_t lsn,
                    out_mode out)
{
  uint32_t size = atomic_load(&s->page_size);
  os_iov iov = {buf, size};
  if (out == OUT_RAW)
    note_raw(s, id, 1);
  page_out(s, size, id, buf, lsn, out);
  atomic_fetch_add(&pagedb_globals.count.page_writes, 1);
  return io_write_pages(s, &iov, 1, id * size);
}

void *conn_bounce(conn *c)
{
  if (c->bounce == NULL)
    c->bounce = os_aligned_alloc(4096, 65536);
  if (c->bounce == NULL)
    pagedb_fault_set(PAGEDB_ENOMEM, 0, c->file->path, PAGEDB_NONE, 0, 0,
                     "a buffer for one page");
  return c->bounce;
}
