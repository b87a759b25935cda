/*
** join.c - the join: everything that a transaction changed is handed to the
** system, with stamps if the file is to have them.
**
** The usual case knows from the start whether the file is stamped: one flush,
** sorted, neighbours together. The other case (s->unsure) is a transaction that
** began on an empty file, a VACUUM, and the playback of a hot journal: only
** now, when page 1 is in its last form, is it known what the file is.
**
**   began            page 1 now says     becomes
**   empty            32 bytes reserved   stamped
**   plain            32, and VACUUM      stamped: go through the whole file
**   plain            otherwise           plain
**   stamped          32                  stamped
**   stamped          otherwise           plain, guard removed
**   any              a foreign tail      plain, guard removed
**
** A rollback after the join (t->joined) ends as the transaction began.
**
** Why a power cut in here loses nothing: the journal has every page that stood
** in the file when the transaction began and was changed since, it is durable,
** and it is deleted only after the xSync that follows. Pages that this pass
** writes and the journal does not have are free leaves, whose content SQLite
** does not define, pages behind the file's former end, and pages that only get
** a stamp into 32 bytes that nobody uses.
*/
#include <string.h>

#include "../core/endian.h"
#include "vfs_int.h"

/* ------------------------------------------------- pages without content */

static int write_zero_page(conn *c, uint64_t id, uint64_t lsn)
{
  shared *s = c->file;
  void *page = conn_bounce(c);
  if (page == NULL)
    return PAGEDB_ENOMEM;
  memset(page, 0, atomic_load(&s->page_size));
  /* A frame that is pinned keeps its content, which means nothing either. */
  pagedb_discard(atomic_load(&s->owner), id);
  return pages_write_one(s, id, page, lsn, OUT_STAMP);
}

static int is_sound(conn *c, uint64_t id, int *sound)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t *page = conn_bounce(c);
  size_t got = 0;
  if (page == NULL)
    return PAGEDB_ENOMEM;
  int err = io_read_page(s, id, page, &got);
  *sound = err == PAGEDB_OK &&
           pages_verify(s, page, got, size, id, NULL) == PAGEDB_OK;
  return err;
}

static int fill_one(conn *c, uint64_t id, uint64_t lsn, uint64_t *filled)
{
  int sound = 0;
  int err = is_sound(c, id, &sound);
  if (err != PAGEDB_OK || sound)
    return err;
  ++*filled;
  return write_zero_page(c, id, lsn);
}

uint64_t durable_end(uint64_t count, uint64_t bytes, uint32_t page_size)
{
  return count != 0 ? count : bytes / page_size;
}

int fill_holes(conn *c, uint64_t from, uint64_t to, const bitmap *written,
               uint64_t lsn, uint64_t *filled)
{
  uint32_t size = atomic_load(&c->file->page_size);
  int err = PAGEDB_OK;
  *filled = 0;
  if (written->all && from < to)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, c->file->path, PAGEDB_NONE, 0, 0,
                            "the set of pages that were written");
  if (!RULE_IS_ON(RULE_HOLES))
    return PAGEDB_OK;
  for (uint64_t id = from; id < to && err == PAGEDB_OK; id++)
    if (!bitmap_has(written, id) && !pagedb_is_lock_page(id, size))
      err = fill_one(c, id, lsn, filled);
  return err;
}

int mend_leaves(conn *c, const uint8_t *page1, uint64_t lsn)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t count = get_be32(page1 + HEADER_PAGE_COUNT), filled = 0;
  uint64_t trunk = get_be32(page1 + HEADER_FREE_TRUNK);
  uint8_t *copy = os_aligned_alloc(4096, size < 4096 ? 4096 : size);
  int err = copy == NULL ? PAGEDB_ENOMEM : PAGEDB_OK;
  /* The list is as untrusted as any page: at most `count` trunks. */
  for (uint64_t n = 0;
       err == PAGEDB_OK && trunk > 1 && trunk <= count && n < count; n++) {
    err = pages_read_one(s, trunk - 1, copy, 1);
    /* A damaged trunk is for the reader of the list to report. */
    if (is_verification(err) || err == PAGEDB_ESHORT) {
      err = PAGEDB_OK;
      break;
    }
    if (err != PAGEDB_OK)
      break;
    uint32_t leaves = get_be32(copy + 4);
    for (uint32_t i = 0; err == PAGEDB_OK && i < leaves && 12 + 4 * i <= size;
         i++) {
      uint64_t leaf = get_be32(copy + 8 + 4 * (size_t)i);
      if (leaf > 1 && leaf <= count && !pagedb_is_lock_page(leaf - 1, size))
        err = fill_one(c, leaf - 1, lsn, &filled);
    }
    trunk = get_be32(copy);
  }
  os_aligned_free(copy);
  return err;
}

/* ---------------------------------------------------- through the file */

enum { CHUNK_BYTES = 1 << 20 };

/* Whether any byte of a page is in the set. */
static int covers_page(const txn *t, const bitmap *set, uint64_t id,
                       uint32_t size)
{
  uint64_t last = ((id + 1) * size - 1) / t->unit;
  for (uint64_t u = id * size / t->unit; u <= last; u++)
    if (bitmap_has(set, u))
      return 1;
  return 0;
}

/*
** Whether a page gets a stamp now: one that went out without; or, going through
** all, one that does not verify and was written by this transaction. In a file
** that was stamped before, one that was not written and does not verify is
** damage, and stays what it is. In one that was plain there is no telling.
*/
static int wants_stamp(const conn *c, const uint8_t *page, uint64_t id, int all)
{
  const shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  if (!all)
    return covers_page(&s->txn, &s->txn.raw, id, size);
  return pages_verify(s, page, size, size, id, NULL) != PAGEDB_OK &&
         (!s->txn.start_stamped ||
          covers_page(&s->txn, &s->txn.written, id, size));
}

/* Stamp those pages of a chunk that want one. */
static int stamp_chunk(conn *c, uint8_t *chunk, uint64_t first, uint32_t n,
                       int all, int *foreign)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  size_t got = 0;
  os_iov iov = {chunk, (size_t)n * size};
  int err = io_read_pages(s, &iov, 1, first * size, &got);
  for (uint32_t i = 0; err == PAGEDB_OK && i < n && !*foreign; i++) {
    uint64_t id = first + i;
    uint8_t *page = chunk + (size_t)i * size;
    if (pagedb_is_lock_page(id, size) || got < (size_t)(i + 1) * size ||
        !wants_stamp(c, page, id, all))
      continue;
    if (!tail_is_ours(page, size))
      *foreign = 1;
    else if (id != 0)
      err = pages_write_one(s, id, page, s->txn.lsn, OUT_STAMP);
  }
  return err;
}

/* Stamp the pages that went out without one, or all; page 1, with the guard,
** comes last. */
static int stamp_raw(conn *c, int all, uint64_t count, int *foreign)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint32_t step = CHUNK_BYTES / size;
  uint8_t *chunk = os_aligned_alloc(4096, CHUNK_BYTES);
  int err = chunk == NULL ? PAGEDB_ENOMEM : PAGEDB_OK;
  for (uint64_t id = 0; err == PAGEDB_OK && id < count && !*foreign;
       id += step) {
    uint32_t n = count - id < step ? (uint32_t)(count - id) : step;
    int wanted = all;
    for (uint32_t i = 0; i < n && !wanted; i++)
      wanted = covers_page(&s->txn, &s->txn.raw, id + i, size);
    if (wanted)
      err = stamp_chunk(c, chunk, id, n, all, foreign);
  }
  if (err == PAGEDB_OK && !*foreign &&
      (all || covers_page(&s->txn, &s->txn.raw, 0, size))) {
    size_t got = 0;
    err = io_read_page(s, 0, chunk, &got);
    if (err == PAGEDB_OK)
      err = pages_write_one(s, 0, chunk, s->txn.lsn, OUT_STAMP);
  }
  os_aligned_free(chunk);
  return err;
}

/* A file that is no longer stamped must not say so. */
static int remove_guard(conn *c)
{
  shared *s = c->file;
  uint8_t head[HEADER_BYTES];
  size_t got = 0;
  header h;
  int err = io_header(s, head, &got);
  if (err != PAGEDB_OK)
    return err;
  header_parse(head, got, &h);
  if (!h.valid || !h.guard)
    return PAGEDB_OK;
  uint8_t version = unguarded(head[GUARD_AT]);
  return io_write(s, &version, 1, GUARD_AT);
}

/* ------------------------------------------------------------------- join */

/* The start of page 1 as it will be: from the pool, or from disk. */
static int page1_now(conn *c, uint8_t *head, size_t *got)
{
  pagedb_pin pin;
  pagedb_owner *o = atomic_load(&c->file->owner);
  if (o != NULL && pagedb_fetch_resident(c->session, o, 0, &pin)) {
    memcpy(head, pin.data, HEADER_BYTES);
    pagedb_unpin(&pin);
    *got = HEADER_BYTES;
    return PAGEDB_OK;
  }
  return io_header(c->file, head, got);
}

static int flush(conn *c)
{
  pagedb_owner *o = atomic_load(&c->file->owner);
  return o == NULL ? PAGEDB_OK : pagedb_flush(c->session, o);
}

/* The new state of the file after a join that went well. */
static void settled(shared *s, const header *h)
{
  atomic_store(&s->count, h->valid ? h->count : 0);
  atomic_store(&s->kept, h->valid && h->reserve == PAGEDB_RECORD_SIZE);
  atomic_store(&s->wal, h->valid && h->wal);
  state_ours(s, h->valid ? h->version : NULL);
}

static int join_sure(conn *c, const header *h)
{
  shared *s = c->file;
  uint64_t filled;
  int err = PAGEDB_OK;
  const txn *t = &s->txn;
  if (atomic_load(&s->stamped) && h->valid)
    err = fill_holes(c,
                     durable_end(t->start_count, t->start_bytes, t->start_size),
                     h->count, &t->written, t->lsn, &filled);
  if (err == PAGEDB_OK)
    err = flush(c);
  /* sqlite3_backup may have given a plain file another page size. */
  pthread_mutex_lock(&s->lock);
  if (err == PAGEDB_OK)
    err = shared_set_page_size(s, h->valid ? h->page_size : 0);
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    settled(s, h);
  return err;
}

static int becomes_stamped(const conn *c, const header *h)
{
  const shared *s = c->file;
  const txn *t = &s->txn;
  /* With another page size the tails that were written mean nothing; going
  ** through the file looks at the right ones. */
  int moved = h->page_size != atomic_load(&s->page_size);
  if (t->end == 0 || !h->valid || h->reserve != PAGEDB_RECORD_SIZE ||
      (t->foreign && !moved))
    return 0;
  if (t->start_stamped)
    return 1;
  if (t->joined || t->kind == TXN_PLAYBACK || !c->want_stamps)
    return 0;
  return t->start_bytes == 0 || c->overwrite;
}

/*
** VACUUM makes a file stamped that was plain and kept 32 bytes free. Its pages
** behind the new end are not in the journal, for VACUUM changed none of them, and
** are cut off after the commit only. When the journal is played back after a
** power cut, they count again, in a file that has the guard by then: so they get
** their stamps, in the former geometry, before the guard can be on disk.
*/
static int stamp_behind(conn *c, uint64_t bytes)
{
  shared *s = c->file;
  const txn *t = &s->txn;
  uint32_t size = t->start_size;
  int err = PAGEDB_OK, any = 0;
  for (uint64_t id = (bytes + size - 1) / size;
       err == PAGEDB_OK && id < t->start_bytes / size; id++) {
    uint8_t *page = conn_bounce(c);
    size_t got = 0;
    if (page == NULL)
      return PAGEDB_ENOMEM;
    err = io_read_page(s, id, page, &got);
    if (err != PAGEDB_OK || got < size || pagedb_is_lock_page(id, size) ||
        !tail_is_ours(page, size) ||
        pages_verify(s, page, got, size, id, NULL) == PAGEDB_OK)
      continue;
    err = pages_write_one(s, id, page, t->lsn, OUT_STAMP);
    any = 1;
  }
  return err == PAGEDB_OK && any ? io_sync(s, SQLITE_SYNC_NORMAL) : err;
}

/* The file will be stamped: give a stamp to everything that has none. */
static int stamp_all(conn *c, const uint8_t *head, const header *h,
                     int *foreign)
{
  shared *s = c->file;
  txn *t = &s->txn;
  uint64_t filled, count = t->end / h->page_size;
  /* What VACUUM leaves behind the new end is cut off after the commit. */
  if (h->count != 0 && h->count < count)
    count = h->count;
  int moved = atomic_load(&s->page_size) != h->page_size;
  int all = moved || (!t->start_stamped && t->start_bytes > 0);
  /* Without a change of size what is still in the pool is stamped on its way
  ** out; what went out before is read again. */
  atomic_store(&s->out, all ? OUT_RAW : OUT_STAMP);
  int err = flush(c);
  if (err == PAGEDB_OK && t->start_kept && !t->start_stamped &&
      RULE_IS_ON(RULE_BEHIND))
    err = stamp_behind(c, (uint64_t)h->count * h->page_size);
  pthread_mutex_lock(&s->lock);
  if (err == PAGEDB_OK)
    err = shared_set_page_size(s, h->page_size);
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    err = stamp_raw(c, all, count, foreign);
  if (err != PAGEDB_OK || *foreign)
    return err;
  /* A playback restores what was there: what it does not write is no hole. */
  if (!all && t->kind == TXN_FORWARD)
    err = fill_holes(c,
                     durable_end(t->start_count, t->start_bytes, t->start_size),
                     h->count, &t->written, t->lsn, &filled);
  if (err == PAGEDB_OK && (t->kind == TXN_PLAYBACK || t->joined) &&
      RULE_IS_ON(RULE_LEAVES))
    err = mend_leaves(c, head, t->lsn);
  return err;
}

static int join_unsure(conn *c, const uint8_t *head, const header *h)
{
  shared *s = c->file;
  txn *t = &s->txn;
  int target = becomes_stamped(c, h), foreign = 0;
  int err = PAGEDB_OK;
  if (target)
    err = stamp_all(c, head, h, &foreign);
  if (err == PAGEDB_OK && target && foreign)
    target = 0;
  if (err == PAGEDB_OK && !target) {
    atomic_store(&s->out, OUT_RAW);
    err = flush(c);
    if (err == PAGEDB_OK && t->start_stamped && t->end > 0)
      err = remove_guard(c);
  }
  if (err != PAGEDB_OK)
    return err;
  if (t->start_stamped && !target && t->end > 0)
    sqlite3_log(SQLITE_NOTICE,
                "pagedb: %s: is plain now: its pages do not keep 32 bytes free",
                s->path);
  pthread_mutex_lock(&s->lock);
  err = shared_set_page_size(s, t->end > 0 && h->valid ? h->page_size : 0);
  shared_invalidate(s);
  atomic_store(&s->stamped, target);
  atomic_store(&s->out, target ? OUT_STAMP : OUT_RAW);
  atomic_store(&s->unsure, 0);
  pthread_mutex_lock(&s->bits_lock);
  bitmap_clear(&t->raw);
  pthread_mutex_unlock(&s->bits_lock);
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    settled(s, h);
  return err;
}

int txn_join(conn *c)
{
  shared *s = c->file;
  txn *t = &s->txn;
  uint8_t head[HEADER_BYTES];
  size_t got = 0;
  header h;
  if (atomic_load(&s->writer) != c)
    return SQLITE_OK;
  atomic_fetch_add(&pagedb_globals.count.joins, 1);
  int err = page1_now(c, head, &got);
  if (err == PAGEDB_OK) {
    header_parse(head, got, &h);
    err = atomic_load(&s->unsure) ? join_unsure(c, head, &h) : join_sure(c, &h);
  }
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_WRITE);
  t->joined = 1;
  t->unjoined = 0;
  t->since_flush = 0;
  /* What a playback restored is done; writes after it are a new transaction. */
  if (t->kind == TXN_PLAYBACK) {
    txn_committed(c);
    c->reserved = 1;
  }
  return atomic_load(&s->failed) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}
