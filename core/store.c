/*
** store.c - the stores that core brings: over a page file, and in memory.
**
** The seam itself is struct pagedb_store in pagedb.h. The file store adds
** nothing to the page file. The memory store keeps pages as a file would,
** stamped with a leading record, in one growing array under one mutex; it is
** as thread-safe as a file and loses everything at its close.
*/
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lock_order.h"
#include "pagedb.h"
#include "pagefile_int.h"

void pagedb_store_close(pagedb_store *s)
{
  if (s != NULL)
    s->close(s);
}

/* -------------------------------------------------------------- page file */

typedef struct file_store {
  pagedb_store base;
  pagedb_file *file;
} file_store;

static int file_read(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return pagedb_file_read_runs(((file_store *)s)->file, runs, n);
}

static int file_write(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return pagedb_file_write_runs(((file_store *)s)->file, runs, n);
}

static int file_sync(pagedb_store *s)
{
  return pagedb_file_sync(((file_store *)s)->file);
}

static int file_count(pagedb_store *s, uint64_t *pages)
{
  return pagedb_file_count(((file_store *)s)->file, pages);
}

static void file_close(pagedb_store *s)
{
  free(s);
}

int pagedb_store_of_file(pagedb_file *f, pagedb_store **out)
{
  file_store *s = calloc(1, sizeof *s);
  if (s == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, pagedb_file_path(f), PAGEDB_NONE,
                            0, 0, "a store");
  uint32_t size = pagedb_file_page_size(f);
  int trailing = pagefile_placement(f) == PAGEDB_TRAILING;
  s->file = f;
  s->base =
      (pagedb_store){.page_size = size,
                     .record_at = trailing ? size - PAGEDB_RECORD_SIZE : 0,
                     .name = pagedb_file_path(f),
                     .read = file_read,
                     .write = file_write,
                     .sync = file_sync,
                     .count = file_count,
                     .close = file_close};
  *out = &s->base;
  return PAGEDB_OK;
}

/* ----------------------------------------------------------------- memory */

typedef struct memory_store {
  pagedb_store base;
  RANKED_MUTEX(RANK_MEMORY) lock;
  unsigned char *bytes;
  uint64_t pages;
  uint64_t room; /* pages */
} memory_store;

/* Under the lock: make room for `pages` pages. */
static int memory_grow(memory_store *m, uint64_t pages)
{
  uint32_t size = m->base.page_size;
  if (pages > m->room) {
    uint64_t room = pages > 2 * m->room ? pages : 2 * m->room;
    if (room > SIZE_MAX / size)
      return PAGEDB_ENOMEM;
    unsigned char *bytes = realloc(m->bytes, (size_t)room * size);
    if (bytes == NULL)
      return PAGEDB_ENOMEM;
    m->bytes = bytes;
    m->room = room;
  }
  if (pages > m->pages) {
    memset(m->bytes + m->pages * size, 0, (size_t)(pages - m->pages) * size);
    m->pages = pages;
  }
  return PAGEDB_OK;
}

static int memory_read_page(memory_store *m, uint64_t id, void *page,
                            uint64_t *lsn)
{
  uint32_t size = m->base.page_size;
  size_t len = id < m->pages ? size : 0;
  if (len > 0)
    memcpy(page, m->bytes + id * size, size);
  return pagedb_page_verify(page, len, size, PAGEDB_LEADING, id, lsn);
}

static int memory_write_page(memory_store *m, uint64_t id, void *page,
                             uint64_t lsn)
{
  uint32_t size = m->base.page_size;
  if (id >= SIZE_MAX / size)
    return pagedb_fault_set(PAGEDB_ERANGE, 0, m->base.name, id, 0, 0, NULL);
  if (memory_grow(m, id + 1) != PAGEDB_OK)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, m->base.name, id, 0, 0, NULL);
  pagedb_page_stamp(page, size, PAGEDB_LEADING, id, lsn);
  memcpy(m->bytes + id * size, page, size);
  return PAGEDB_OK;
}

/* A run that a page file would not take either. */
static int memory_refuse(const memory_store *m, pagedb_run *r)
{
  r->err = PAGEDB_EMISUSE;
  for (uint32_t i = 0; r->errs != NULL && i < r->count; i++)
    r->errs[i] = r->err;
  return pagedb_fault_set(r->err, 0, m->base.name, r->first, 0, 0,
                          "pages or LSNs of a run");
}

static int memory_run(memory_store *m, pagedb_run *r, int write)
{
  pagedb_fault first = {0};
  if (r->count == 0 || r->count > PAGEDB_RUN_MAX || (write && r->lsns == NULL))
    return memory_refuse(m, r);
  for (uint32_t i = 0; i < r->count; i++) {
    uint64_t *lsn = r->lsns == NULL ? NULL : &r->lsns[i];
    int err = write ? memory_write_page(m, r->first + i, r->pages[i], *lsn)
                    : memory_read_page(m, r->first + i, r->pages[i], lsn);
    if (r->errs != NULL)
      r->errs[i] = err;
    if (err != PAGEDB_OK && first.err == PAGEDB_OK)
      first = *pagedb_last_fault();
  }
  r->err = first.err;
  if (first.err == PAGEDB_OK)
    return PAGEDB_OK;
  return pagedb_fault_set(first.err, first.sys, m->base.name, first.page,
                          first.found, first.expected, first.what);
}

static int memory_runs(pagedb_store *s, pagedb_run *runs, unsigned n, int write)
{
  memory_store *m = (memory_store *)s;
  pagedb_fault first = {0};
  pthread_mutex_lock(&m->lock);
  for (unsigned i = 0; i < n; i++)
    if (memory_run(m, &runs[i], write) != PAGEDB_OK && first.err == PAGEDB_OK)
      first = *pagedb_last_fault();
  pthread_mutex_unlock(&m->lock);
  if (first.err == PAGEDB_OK)
    return PAGEDB_OK;
  return pagedb_fault_set(first.err, first.sys, first.path, first.page,
                          first.found, first.expected, first.what);
}

static int memory_read(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return memory_runs(s, runs, n, 0);
}

static int memory_write(pagedb_store *s, pagedb_run *runs, unsigned n)
{
  return memory_runs(s, runs, n, 1);
}

static int memory_sync(pagedb_store *s)
{
  (void)s;
  return PAGEDB_OK;
}

static int memory_count(pagedb_store *s, uint64_t *pages)
{
  memory_store *m = (memory_store *)s;
  pthread_mutex_lock(&m->lock);
  *pages = m->pages;
  pthread_mutex_unlock(&m->lock);
  return PAGEDB_OK;
}

static void memory_close(pagedb_store *s)
{
  memory_store *m = (memory_store *)s;
  pthread_mutex_destroy(&m->lock);
  free(m->bytes);
  free(m);
}

int pagedb_store_in_memory(uint32_t page_size, pagedb_store **out)
{
  static const char name[] = ":memory:";
  if (page_size < 512 || page_size > 1048576 ||
      (page_size & (page_size - 1)) != 0)
    return pagedb_fault_set(PAGEDB_EPAGESIZE, 0, name, PAGEDB_NONE, page_size,
                            4096, "not a page size");
  memory_store *m = calloc(1, sizeof *m);
  if (m == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, name, PAGEDB_NONE, 0, 0,
                            "a store");
  pthread_mutex_init(&m->lock, NULL);
  m->base = (pagedb_store){.page_size = page_size,
                           .record_at = 0,
                           .name = name,
                           .read = memory_read,
                           .write = memory_write,
                           .sync = memory_sync,
                           .count = memory_count,
                           .close = memory_close};
  *out = &m->base;
  return PAGEDB_OK;
}
