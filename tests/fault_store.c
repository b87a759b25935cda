/*
** fault_store.c - see fault_store.h.
**
** Owns two images, durable and newest, and the list of unsynced writes with a
** copy of each. One mutex guards everything; the hook runs outside it.
*/
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fault_store.h"
#include "util.h"

enum { SECTOR = 512 };

typedef struct image {
  unsigned char *bytes;
  unsigned char *written; /* per sector: ever written */
  uint64_t pages;
} image;

typedef struct pending {
  uint64_t page;
  unsigned char *bytes;
} pending;

typedef struct plan {
  uint64_t countdown; /* 0: none */
  int from_then_on;
  int err;
  uint64_t page;
  int page_err;
} plan;

struct fault_store {
  pagedb_store base;
  pthread_mutex_t lock;
  image durable;
  image newest;
  pending *unsynced;
  unsigned nunsynced;
  uint64_t calls[FAULT_KINDS];
  plan plan[FAULT_KINDS];
  int lose;
  int ignore_sync;
  fault_hook *hook;
  void *hook_arg;
};

/* ------------------------------------------------------------------ images */

static void image_grow(image *m, uint32_t size, uint64_t pages)
{
  if (pages <= m->pages)
    return;
  size_t sectors = size / SECTOR;
  m->bytes = realloc(m->bytes, pages * size);
  m->written = realloc(m->written, pages * sectors);
  memset(m->bytes + m->pages * size, 0, (pages - m->pages) * size);
  memset(m->written + m->pages * sectors, 0, (pages - m->pages) * sectors);
  m->pages = pages;
}

static void image_put(image *m, uint32_t size, uint64_t page, unsigned sector,
                      const unsigned char *from)
{
  image_grow(m, size, page + 1);
  memcpy(m->bytes + page * size + (size_t)sector * SECTOR,
         from + (size_t)sector * SECTOR, SECTOR);
  m->written[page * (size / SECTOR) + sector] = 1;
}

static void image_put_page(image *m, uint32_t size, uint64_t page,
                           const void *from)
{
  for (unsigned s = 0; s < size / SECTOR; s++)
    image_put(m, size, page, s, from);
}

static void image_copy(image *to, const image *from, uint32_t size)
{
  image_grow(to, size, from->pages);
  if (from->pages == 0)
    return;
  memcpy(to->bytes, from->bytes, from->pages * size);
  memcpy(to->written, from->written, from->pages * (size / SECTOR));
}

static void image_free(image *m)
{
  free(m->bytes);
  free(m->written);
}

/* ------------------------------------------------------------------ faults */

/* Under the lock: does this call fail? */
static int planned(fault_store *f, enum fault_kind kind, uint64_t page)
{
  plan *p = &f->plan[kind];
  f->calls[kind]++;
  if (p->page_err != PAGEDB_OK && page == p->page)
    return p->page_err;
  if (p->countdown == 0 || --p->countdown > 0)
    return PAGEDB_OK;
  if (p->from_then_on)
    p->countdown = 1;
  return p->err;
}

static void call_hook(fault_store *f, enum fault_kind kind, uint64_t page)
{
  if (f->hook != NULL)
    f->hook(f->hook_arg, kind, page);
}

static int set_fault(fault_store *f, int err, uint64_t page)
{
  return pagedb_fault_set(err, 5, f->base.name, page, 0, 0, "injected");
}

/* ------------------------------------------------------------ store calls */

static int read_page(fault_store *f, uint64_t id, void *page, uint64_t *lsn)
{
  uint32_t size = f->base.page_size;
  call_hook(f, FAULT_READ, id);
  pthread_mutex_lock(&f->lock);
  int err = planned(f, FAULT_READ, id);
  size_t len = id < f->newest.pages ? size : 0;
  if (err == PAGEDB_OK && len > 0)
    memcpy(page, f->newest.bytes + id * size, size);
  pthread_mutex_unlock(&f->lock);
  if (err != PAGEDB_OK)
    return set_fault(f, err, id);
  return pagedb_page_verify(page, len, size, PAGEDB_LEADING, id, lsn);
}

static int write_page(fault_store *f, uint64_t id, void *page, uint64_t lsn)
{
  uint32_t size = f->base.page_size;
  call_hook(f, FAULT_WRITE, id);
  pagedb_page_stamp(page, size, PAGEDB_LEADING, id, lsn);
  pthread_mutex_lock(&f->lock);
  int err = planned(f, FAULT_WRITE, id);
  if (err == PAGEDB_OK) {
    image_put_page(&f->newest, size, id, page);
    f->unsynced =
        realloc(f->unsynced, (f->nunsynced + 1) * sizeof *f->unsynced);
    pending *p = &f->unsynced[f->nunsynced++];
    p->page = id;
    p->bytes = malloc(size);
    memcpy(p->bytes, page, size);
  }
  pthread_mutex_unlock(&f->lock);
  return err == PAGEDB_OK ? err : set_fault(f, err, id);
}

static int run_pages(fault_store *f, pagedb_run *r, int write)
{
  r->err = PAGEDB_OK;
  pagedb_fault first = {0};
  for (uint32_t i = 0; i < r->count; i++) {
    uint64_t *lsn = r->lsns == NULL ? NULL : &r->lsns[i];
    int err = write ? write_page(f, r->first + i, r->pages[i], *lsn)
                    : read_page(f, r->first + i, r->pages[i], lsn);
    if (r->errs != NULL)
      r->errs[i] = err;
    if (err != PAGEDB_OK && r->err == PAGEDB_OK) {
      r->err = err;
      first = *pagedb_last_fault();
    }
  }
  if (r->err != PAGEDB_OK)
    pagedb_fault_set(first.err, first.sys, f->base.name, first.page,
                     first.found, first.expected, first.what);
  return r->err;
}

static int all_runs(pagedb_store *s, pagedb_run *runs, unsigned n, int write)
{
  fault_store *f = (fault_store *)s;
  pagedb_fault first = {0};
  for (unsigned i = 0; i < n; i++)
    if (run_pages(f, &runs[i], write) != PAGEDB_OK && first.err == PAGEDB_OK)
      first = *pagedb_last_fault();
  if (first.err != PAGEDB_OK)
    pagedb_fault_set(first.err, first.sys, first.path, first.page, first.found,
                     first.expected, first.what);
  return first.err;
}

static int do_read(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return all_runs(s, runs, n, 0);
}

static int do_write(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return all_runs(s, runs, n, 1);
}

static void forget_unsynced(fault_store *f)
{
  for (unsigned i = 0; i < f->nunsynced; i++)
    free(f->unsynced[i].bytes);
  f->nunsynced = 0;
}

static int do_sync(pagedb_store *s)
{
  fault_store *f = (fault_store *)s;
  uint32_t size = f->base.page_size;
  call_hook(f, FAULT_SYNC, PAGEDB_NONE);
  pthread_mutex_lock(&f->lock);
  int err = planned(f, FAULT_SYNC, PAGEDB_NONE);
  if (err == PAGEDB_OK && !f->ignore_sync)
    for (unsigned i = 0; i < f->nunsynced; i++)
      image_put_page(&f->durable, size, f->unsynced[i].page,
                     f->unsynced[i].bytes);
  if ((err == PAGEDB_OK && !f->ignore_sync) || (err != PAGEDB_OK && f->lose))
    forget_unsynced(f);
  pthread_mutex_unlock(&f->lock);
  return err == PAGEDB_OK ? err : set_fault(f, err, PAGEDB_NONE);
}

static int do_count(pagedb_store *s, uint64_t *pages)
{
  fault_store *f = (fault_store *)s;
  pthread_mutex_lock(&f->lock);
  *pages = f->newest.pages;
  pthread_mutex_unlock(&f->lock);
  return PAGEDB_OK;
}

static void do_close(pagedb_store *s)
{
  (void)s;
}

/* -------------------------------------------------------------- interface */

fault_store *fault_store_new(uint32_t page_size)
{
  fault_store *f = calloc(1, sizeof *f);
  pthread_mutex_init(&f->lock, NULL);
  f->base = (pagedb_store){.page_size = page_size,
                           .name = "fault store",
                           .read = do_read,
                           .write = do_write,
                           .sync = do_sync,
                           .count = do_count,
                           .close = do_close};
  return f;
}

void fault_store_free(fault_store *f)
{
  if (f == NULL)
    return;
  forget_unsynced(f);
  free(f->unsynced);
  image_free(&f->durable);
  image_free(&f->newest);
  pthread_mutex_destroy(&f->lock);
  free(f);
}

pagedb_store *fault_store_base(fault_store *f)
{
  return &f->base;
}

uint64_t fault_store_calls(fault_store *f, enum fault_kind kind)
{
  pthread_mutex_lock(&f->lock);
  uint64_t n = f->calls[kind];
  pthread_mutex_unlock(&f->lock);
  return n;
}

void fault_store_fail(fault_store *f, enum fault_kind kind, uint64_t n,
                      int from_then_on, int err)
{
  pthread_mutex_lock(&f->lock);
  f->plan[kind].countdown = n;
  f->plan[kind].from_then_on = from_then_on;
  f->plan[kind].err = err;
  pthread_mutex_unlock(&f->lock);
}

void fault_store_fail_page(fault_store *f, enum fault_kind kind, uint64_t id,
                           int err)
{
  pthread_mutex_lock(&f->lock);
  f->plan[kind].page = id;
  f->plan[kind].page_err = err;
  pthread_mutex_unlock(&f->lock);
}

void fault_store_lose_on_failed_sync(fault_store *f, int yes)
{
  f->lose = yes;
}

void fault_store_ignore_sync(fault_store *f, int yes)
{
  f->ignore_sync = yes;
}

void fault_store_hook(fault_store *f, fault_hook *hook, void *arg)
{
  f->hook_arg = arg;
  f->hook = hook;
}

unsigned fault_store_unsynced(fault_store *f)
{
  pthread_mutex_lock(&f->lock);
  unsigned n = f->nunsynced;
  pthread_mutex_unlock(&f->lock);
  return n;
}

static fault_store *cut_begin(fault_store *f)
{
  fault_store *cut = fault_store_new(f->base.page_size);
  image_copy(&cut->durable, &f->durable, f->base.page_size);
  return cut;
}

static fault_store *cut_end(fault_store *cut)
{
  image_copy(&cut->newest, &cut->durable, cut->base.page_size);
  return cut;
}

fault_store *fault_store_cut(fault_store *f, uint64_t keep)
{
  pthread_mutex_lock(&f->lock);
  fault_store *cut = cut_begin(f);
  for (unsigned i = 0; i < f->nunsynced && i < 64; i++)
    if (keep >> i & 1)
      image_put_page(&cut->durable, f->base.page_size, f->unsynced[i].page,
                     f->unsynced[i].bytes);
  pthread_mutex_unlock(&f->lock);
  return cut_end(cut);
}

/* A sector that the lost part of a write would have made: of a page that is
** there now but was never written, anything. */
static void leave_garbage(image *m, uint32_t size, uint64_t page,
                          unsigned sector, uint64_t *seed)
{
  if (page < m->pages && m->written[page * (size / SECTOR) + sector])
    return;
  image_grow(m, size, page + 1);
  if (random_below(seed, 2) == 0)
    random_bytes(seed, m->bytes + page * size + (size_t)sector * SECTOR,
                 SECTOR);
}

fault_store *fault_store_cut_random(fault_store *f, uint64_t seed)
{
  uint32_t size = f->base.page_size;
  pthread_mutex_lock(&f->lock);
  fault_store *cut = cut_begin(f);
  for (unsigned i = 0; i < f->nunsynced; i++) {
    const pending *w = &f->unsynced[i];
    /* All, nothing, or each sector by itself. */
    uint64_t fate = random_below(&seed, 3);
    if (fate == 1)
      continue;
    for (unsigned s = 0; s < size / SECTOR; s++) {
      if (fate == 0 || random_below(&seed, 2) == 0)
        image_put(&cut->durable, size, w->page, s, w->bytes);
      else
        leave_garbage(&cut->durable, size, w->page, s, &seed);
    }
  }
  pthread_mutex_unlock(&f->lock);
  return cut_end(cut);
}

const unsigned char *fault_store_page(fault_store *f, uint64_t id)
{
  return id < f->newest.pages ? f->newest.bytes + id * f->base.page_size : NULL;
}

void fault_store_poke(fault_store *f, uint64_t id, const void *page)
{
  pthread_mutex_lock(&f->lock);
  image_put_page(&f->newest, f->base.page_size, id, page);
  image_put_page(&f->durable, f->base.page_size, id, page);
  pthread_mutex_unlock(&f->lock);
}
