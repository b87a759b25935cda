/*
** checkpoint.c - what a WAL brings into the database file, and what enters a
** WAL.
**
** A checkpoint's xWrite is the only call of it whose result SQLite honours:
** CKPT_DONE's is ignored, and a partial checkpoint tells all processes right
** after it that the pages are in the file. So when xWrite returns OK, the page
** is written: through the system's cache, at once, with its stamp (when the disk gets
** it is the system's business, and the sync's; early.c asks). The pool gets
** the content after that, since what was written lately is read soon; no reader
** can be using the page from the file at that time, for its snapshot has it in
** the WAL.
**
** Power cut: the WAL was synced before the first page is written, and is
** restarted only after the xSync at the end. Until then every page written
** here is still in it. One thing is not: a page behind the file's former end
** that SQLite never writes. So before a page 1 that counts more pages goes to
** disk (it comes first), those are made stamped zero pages, and synced. Only
** those that are not there or all zero: a partial checkpoint may leave page 1
** for later and bring in pages behind the count that it still has.
**
** The observer: a page that cannot be stamped has to be refused before the
** commit, that is, when it enters the WAL. So the WAL of a database is opened
** through a file that passes everything on and looks at each page. It also takes
** no more commits once a sync of the database failed.
*/
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

/* Layout of the wal-index (SQLite's walformat, section 2). */
enum {
  INDEX_NEWEST = 4, /* committed frame */
  INDEX_ATTEMPTED = 32,
  INDEX_PAGES = 34, /* first page number in region 0 */
  INDEX_PER_REGION = 4096,
  INDEX_REGION = 32768, /* bytes */
  INDEX_IN_FIRST = INDEX_PER_REGION - INDEX_PAGES,
  WAL_HEADER = 32,
  WAL_FRAME_HEADER = 24
};

/* --------------------------------------------------------- the wal-index */

/* NULL: the wal-index ends before it. */
static const volatile uint32_t *region_at(conn *c, uint32_t region)
{
  volatile void *at = NULL;
  if ((int)region < c->rest->nregions && c->rest->regions[region] != NULL)
    return c->rest->regions[region];
  int rc = x_shm_map(&c->base, (int)region, INDEX_REGION, 0, &at);
  return rc == SQLITE_OK || rc == SQLITE_READONLY ? at : NULL;
}

/* Any process can write anything into the wal-index: no number beyond `end` is worth
** the memory for it. */
void wal_pages(conn *c, uint32_t from, uint32_t to, uint64_t end, bitmap *set)
{
  for (uint32_t frame = from + 1; frame <= to; frame++) {
    uint32_t at = frame - 1, region = 0, word = INDEX_PAGES + at;
    if (at >= INDEX_IN_FIRST) {
      region = 1 + (at - INDEX_IN_FIRST) / INDEX_PER_REGION;
      word = (at - INDEX_IN_FIRST) % INDEX_PER_REGION;
    }
    const volatile uint32_t *pages = region_at(c, region);
    if (pages == NULL)
      return;
    uint32_t page = pages[word];
    if (page > 0 && page <= end)
      bitmap_add(set, page - 1);
  }
}

void wal_pending(conn *c, uint64_t end, bitmap *set)
{
  bitmap_clear(set);
  if (c->shm == NULL)
    return;
  uint32_t salt[2] = {c->shm[INDEX_SALT], c->shm[INDEX_SALT + 1]};
  uint32_t from = c->shm[INDEX_BACKFILL];
  wal_pages(c, from, c->shm[INDEX_NEWEST], end, set);
  /* No lock is held: a log that was begun again meanwhile says nothing. */
  if (c->shm[INDEX_SALT] != salt[0] || c->shm[INDEX_SALT + 1] != salt[1])
    bitmap_clear(set);
}

/* -------------------------------------------------------------- checkpoint */

void ckpt_start(conn *c)
{
  txn_abandon(c);
  c->overwrite = 0;
  c->file->ckpt_lsn = shared_next_lsn(c->file);
  c->ckpt = 1;
  early_start(c);
}

void ckpt_done(conn *c)
{
  early_stop(c);
  shared_past_lsn(c->file, c->file->ckpt_lsn);
  c->ckpt = 0;
}

static int refuse(shared *s, uint64_t id, const char *why)
{
  return shared_refuse(s, SQLITE_IOERR_WRITE,
                       "run PRAGMA pagedb_unstamp, then checkpoint again",
                       "the write-ahead log holds %s for this stamped database "
                       "(page %llu): nothing of it was written",
                       why, (unsigned long long)(id + 1));
}

/* An empty file learns what it is from the first page of its first checkpoint.
 */
static int ckpt_first_page(conn *c, const uint8_t *buf, uint32_t n,
                           uint64_t off)
{
  shared *s = c->file;
  header h;
  header_parse(buf, n, &h);
  pthread_mutex_lock(&s->lock);
  int err =
      shared_set_page_size(s, pagedb_page_size_ok(n, PAGEDB_TRAILING) ? n : 0);
  atomic_store(&s->stamped, off == 0 && h.valid && c->want_stamps &&
                                h.page_size == n &&
                                h.reserve == PAGEDB_RECORD_SIZE);
  atomic_store(&s->count, 0);
  pthread_mutex_unlock(&s->lock);
  return err;
}

/* Page 1 of a checkpoint: what it changes about the file. */
static int ckpt_page1(conn *c, const uint8_t *buf, uint32_t n)
{
  shared *s = c->file;
  header h;
  header_parse(buf, n, &h);
  uint64_t bytes = 0, filled = 0;
  int err = io_size(s, &bytes);
  uint64_t from = durable_end(atomic_load(&s->count), bytes, n);
  if (err == PAGEDB_OK && atomic_load(&s->stamped) && h.count > from) {
    bitmap set = {0};
    /* Exclusive mode keeps the index in memory, and the set stays empty. */
    if (c->shm != NULL)
      wal_pages(c, c->shm[INDEX_BACKFILL], c->shm[INDEX_ATTEMPTED], h.count,
                &set);
    err = fill_holes(c, from, h.count, &set, 1, s->ckpt_lsn, &filled);
    bitmap_clear(&set);
  }
  if (err == PAGEDB_OK && filled > 0)
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  if (err == PAGEDB_OK && h.valid) {
    atomic_store(&s->count, h.count);
    atomic_store(&s->wal, h.wal);
  }
  return err;
}

static int ckpt_page(conn *c, const uint8_t *buf, uint32_t n, uint64_t id)
{
  shared *s = c->file;
  int err = id == 0 ? ckpt_page1(c, buf, n) : PAGEDB_OK;
  if (err != PAGEDB_OK)
    return err;
  uint8_t *page = conn_bounce(c);
  if (page == NULL)
    return PAGEDB_ENOMEM;
  memcpy(page, buf, n);
  if (atomic_load(&s->stamped))
    stamp_out(page, n, id, s->ckpt_lsn);
  else if (id == 0)
    err = keep_release(s, page, n, s->ckpt_lsn);
  if (err == PAGEDB_OK)
    err = io_write(s, page, n, id * n);
  if (err != PAGEDB_OK)
    return err;
  early_wrote(c, id * n, n);
  if (id == 0)
    atomic_store(&s->guard_is_left, 0);
  atomic_fetch_add(&pagedb_globals.count.page_writes, 1);
  frame_refresh(c, id, buf, s->ckpt_lsn);
  state_grew(s, id == 0 ? buf + HEADER_CHANGE_COUNTER : NULL, (id + 1) * n);
  return PAGEDB_OK;
}

int ckpt_write(conn *c, const void *buf, int n, uint64_t off)
{
  shared *s = c->file;
  uint64_t size = atomic_load(&s->page_size);
  int err = PAGEDB_OK;
  header h;
  if (file_failed(s))
    return SQLITE_IOERR_FSYNC;
  if (size == 0)
    err = ckpt_first_page(c, buf, (uint32_t)n, off);
  size = atomic_load(&s->page_size);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_WRITE);
  int stamped = atomic_load(&s->stamped);
  if (size == 0 || (uint64_t)n != size || off % size != 0) {
    if (stamped)
      return refuse(s, size == 0 ? 0 : off / size, "pages of another size");
    err = write_through(c, buf, (uint64_t)n, off);
    return shared_report(s, err, SQLITE_IOERR_WRITE);
  }
  header_parse(buf, (size_t)n, &h);
  if (stamped && off == 0 &&
      (!h.valid || h.page_size != size || h.reserve != PAGEDB_RECORD_SIZE))
    return refuse(s, 0, "a page 1 that does not keep 32 bytes of each page");
  if (stamped && !is_lock_page(off / size, (uint32_t)size) &&
      !tail_is_ours(buf, (uint32_t)size))
    return refuse(s, off / size, "a page that uses the 32 bytes at its end");
  err = ckpt_page(c, buf, (uint32_t)n, off / size);
  return shared_report(s, err, SQLITE_IOERR_WRITE);
}

/* ---------------------------------------------------------------- observer */

typedef struct wal_file {
  sqlite3_file base;
  sqlite3_file *parent;
  conn *conn; /* outlives it: SQLite closes the log first */
  shared *file;
} wal_file;

static sqlite3_file *wal_parent(sqlite3_file *f)
{
  return ((wal_file *)f)->parent;
}

static int wal_close(sqlite3_file *f)
{
  sqlite3_file *parent = wal_parent(f);
  int rc = parent->pMethods->xClose(parent);
  free(parent);
  ((wal_file *)f)->parent = NULL;
  f->pMethods = NULL;
  return rc;
}

static int wal_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 off)
{
  return wal_parent(f)->pMethods->xRead(wal_parent(f), buf, n, off);
}

/*
** Whether SQLite writes a page that cannot be stamped into the log. Page 1 is
** known by its first bytes, not by its frame's header: a page that a
** transaction changes twice may be written over its first version, without a
** header.
*/
static int wal_refuses(const wal_file *w, const uint8_t *buf, uint32_t n,
                       sqlite3_int64 off)
{
  shared *s = w->file;
  uint32_t size = atomic_load(&s->page_size);
  header h;
  if (off < WAL_HEADER || size == 0 || !atomic_load(&s->stamped))
    return 0;
  uint64_t at = (uint64_t)(off - WAL_HEADER) % (size + WAL_FRAME_HEADER);
  /* A sync in the middle of a frame cuts it in two: the tail is in the second
  ** part. */
  if (at < WAL_FRAME_HEADER || at + n != size + WAL_FRAME_HEADER ||
      n < PAGEDB_RECORD_SIZE)
    return 0;
  header_parse(buf, n, &h);
  if (h.valid && n == size &&
      (h.page_size != size || h.reserve != PAGEDB_RECORD_SIZE))
    return 1;
  return !tail_is_ours(buf, n);
}

static int wal_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 off)
{
  wal_file *w = (wal_file *)f;
  /* A transaction that finds all its pages in SQLite's own cache asks us for
  ** nothing else. */
  if (file_failed(w->file))
    return SQLITE_IOERR_FSYNC;
  if (wal_refuses(w, buf, (uint32_t)n, off))
    return shared_refuse(w->file, SQLITE_IOERR_WRITE,
                         "run PRAGMA pagedb_unstamp first",
                         "refused to write a page into the log of this stamped "
                         "database that does not keep the 32 bytes at its end "
                         "free");
  return w->parent->pMethods->xWrite(w->parent, buf, n, off);
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 size)
{
  return wal_parent(f)->pMethods->xTruncate(wal_parent(f), size);
}

static int wal_sync(sqlite3_file *f, int flags)
{
  ((wal_file *)f)->conn->rest->log_synced = 1;
  return wal_parent(f)->pMethods->xSync(wal_parent(f), flags);
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *size)
{
  return wal_parent(f)->pMethods->xFileSize(wal_parent(f), size);
}

static int wal_lock(sqlite3_file *f, int level)
{
  return wal_parent(f)->pMethods->xLock(wal_parent(f), level);
}

static int wal_unlock(sqlite3_file *f, int level)
{
  return wal_parent(f)->pMethods->xUnlock(wal_parent(f), level);
}

static int wal_check_reserved(sqlite3_file *f, int *out)
{
  return wal_parent(f)->pMethods->xCheckReservedLock(wal_parent(f), out);
}

static int wal_control(sqlite3_file *f, int op, void *arg)
{
  return wal_parent(f)->pMethods->xFileControl(wal_parent(f), op, arg);
}

static int wal_sector(sqlite3_file *f)
{
  return wal_parent(f)->pMethods->xSectorSize(wal_parent(f));
}

static int wal_device(sqlite3_file *f)
{
  return wal_parent(f)->pMethods->xDeviceCharacteristics(wal_parent(f));
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_reserved,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector,
    .xDeviceCharacteristics = wal_device};

int wal_file_bytes(void)
{
  return (int)sizeof(wal_file);
}

int wal_observe(sqlite3_file *f, conn *c, sqlite3_vfs *parent, const char *name,
                int flags, int *out_flags)
{
  wal_file *w = (wal_file *)f;
  w->parent = calloc(1, (size_t)parent->szOsFile);
  if (w->parent == NULL)
    return SQLITE_NOMEM;
  int rc = parent->xOpen(parent, name, w->parent, flags, out_flags);
  if (rc != SQLITE_OK) {
    if (w->parent->pMethods != NULL)
      w->parent->pMethods->xClose(w->parent);
    free(w->parent);
    return rc;
  }
  w->conn = c;
  w->file = c->file;
  f->pMethods = &wal_methods;
  return SQLITE_OK;
}
