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
** A stamped file becomes plain in a forward transaction only if that wrote every
** page anew (sqlite3_backup of a database that keeps no bytes free): pages of
** before would stay, with stamps where now content is expected. Else the join
** fails, and the journal restores the file.
**
** A rollback after the join (t->joined) ends as the transaction began.
**
** Why a power cut in here loses nothing: the journal has every page that stood
** in the file when the transaction began and was changed since, it is durable,
** and it is deleted only after the xSync that follows. Pages that this pass
** writes and the journal does not have are free leaves, whose content SQLite
** does not define, pages behind the file's former end, and pages that only get
** a stamp into 32 bytes that nobody uses. Where a plain file becomes stamped the
** guard is not among them: it follows when the journal is gone (set_guard in
** write.c), so that whoever plays the journal back finds the file plain.
**
** Where a stamped file is replaced by a database that keeps no 32 bytes free, the
** guard stays in page 1 until the journal is gone (unset_guard in write.c). So at
** a cut page 1 is one of these, each of its sectors old or new:
**
**   old first sector       guard and 32 bytes: a stamped file
**   new first, old last    guard, other bytes, our record: a broken header, taken
**                          for a stamped file's
**   new first, new last    guard, other bytes, no record: s->guard_is_left
**
** A playback that finds any of them began on a stamped file (txn_begin), stamps
** what it restores, and ends with the file as it was: every page of it was in
** the journal, for the replacement wrote them all, but for free leaves, which
** are mended. It may be cut itself: page 1 still is one of these.
** When the journal is gone page 1 is wholly new. A cut from then until the guard
** is off leaves the new content, in a file that is plain for us and read-only
** for stock SQLite; our next transaction writes a page 1 without guard. (A later
** journal may be played back over one that still has it: page 1 is in that
** journal, does not keep 32 bytes, and so the file ends plain.)
**
** A replacement that keeps 32 bytes and uses them can only be told from a stamped
** file by the guard. There it goes before the commit: a cut gives back the former
** content, all of it, in a file that is plain.
*/
#include <string.h>

#include "../core/endian.h"
#include "../core/fault.h"
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

/* Verifies; with blank_only also whatever is there and is not zero. */
static int is_sound(conn *c, uint64_t id, int blank_only, int *sound)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t *page = conn_bounce(c);
  size_t got = 0;
  if (page == NULL)
    return PAGEDB_ENOMEM;
  int err = io_read_page(s, id, page, &got);
  *sound = err == PAGEDB_OK &&
           (pages_verify(s, page, got, size, id, NULL) == PAGEDB_OK ||
            (blank_only && !all_zero(page, got)));
  return err;
}

static int fill_one(conn *c, uint64_t id, int blank_only, uint64_t lsn,
                    uint64_t *filled)
{
  int sound = 0;
  int err = is_sound(c, id, blank_only, &sound);
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
               int blank_only, uint64_t lsn, uint64_t *filled)
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
    if (!bitmap_has(written, id) && !is_lock_page(id, size))
      err = fill_one(c, id, blank_only, lsn, filled);
  return err;
}

/* A leaf whose sector cannot be read is written blindly. */
static int mend_leaf(conn *c, uint64_t id, uint64_t lsn)
{
  uint64_t filled = 0;
  int err = fill_one(c, id, 0, lsn, &filled);
  return err == PAGEDB_EIO ? write_zero_page(c, id, lsn) : err;
}

int mend_leaves(conn *c, const uint8_t *page1, uint64_t lsn)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t count = get_be32(page1 + HEADER_PAGE_COUNT), bytes = 0;
  uint64_t trunk = get_be32(page1 + HEADER_FREE_TRUNK);
  uint8_t *copy = os_aligned_alloc(4096, size < 4096 ? 4096 : size);
  int err = copy == NULL ? PAGEDB_ENOMEM : io_size(s, &bytes);
  int failed = PAGEDB_OK;
  pagedb_fault first = {0};
  /* A damaged page 1 may count any number: the file is not made longer. */
  if (count > bytes / size)
    count = bytes / size;
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
    for (uint32_t i = 0; i < leaves && 12 + 4 * i <= size; i++) {
      uint64_t leaf = get_be32(copy + 8 + 4 * (size_t)i);
      int one = PAGEDB_OK;
      if (leaf > 1 && leaf <= count && !is_lock_page(leaf - 1, size))
        one = mend_leaf(c, leaf - 1, lsn);
      if (one != PAGEDB_OK && failed == PAGEDB_OK) {
        failed = one;
        first = *pagedb_last_fault();
      }
    }
    trunk = get_be32(copy);
  }
  os_aligned_free(copy);
  if (err != PAGEDB_OK || failed == PAGEDB_OK)
    return err;
  fault_restore(&first);
  return failed;
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

/* Pages [first, first + n) as they are on disk. Where they cannot be read
** together one by one, leaving out those that no stamp is for: a bad sector
** somewhere else must not keep a journal from being played back. */
static int read_chunk(conn *c, uint8_t *chunk, uint64_t first, uint32_t n,
                      int all, size_t *got)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  os_iov iov = {chunk, (size_t)n * size};
  int err = io_read_pages(s, &iov, 1, first * size, got);
  if (err != PAGEDB_EIO || all)
    return err;
  *got = 0;
  err = PAGEDB_OK;
  for (uint32_t i = 0; i < n && err == PAGEDB_OK; i++) {
    size_t one = size;
    if (covers_page(&s->txn, &s->txn.raw, first + i, size))
      err = io_read_page(s, first + i, chunk + (size_t)i * size, &one);
    *got += one;
  }
  return err;
}

/* Stamp those pages of a chunk that want one; or only look at their tails. */
static int stamp_chunk(conn *c, uint8_t *chunk, uint64_t first, uint32_t n,
                       int all, int looks, int *foreign)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  size_t got = 0;
  int err = read_chunk(c, chunk, first, n, all, &got);
  for (uint32_t i = 0; err == PAGEDB_OK && i < n && !*foreign; i++) {
    uint64_t id = first + i;
    uint8_t *page = chunk + (size_t)i * size;
    if (is_lock_page(id, size) || got < (size_t)(i + 1) * size ||
        !wants_stamp(c, page, id, all))
      continue;
    if (!tail_is_ours(page, size))
      *foreign = 1;
    else if (id != 0 && !looks)
      err = pages_write_one(s, id, page, s->txn.lsn, OUT_STAMP);
  }
  return err;
}

/* The guard of a file that was plain waits for the commit. */
static int stamp_page_1(shared *s, uint8_t *page, uint32_t size)
{
  stamp_out(page, size, 0, s->txn.lsn);
  if (s->txn.guard_later)
    page[GUARD_AT] = unguarded(page[GUARD_AT]);
  return io_write(s, page, size, 0);
}

/* The same of the whole file, up to the first foreign tail. */
static int stamp_chunks(conn *c, uint8_t *chunk, int all, uint64_t count,
                        int looks, int *foreign)
{
  const shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint32_t step = CHUNK_BYTES / size;
  int err = PAGEDB_OK;
  for (uint64_t id = 0; err == PAGEDB_OK && id < count && !*foreign;
       id += step) {
    uint32_t n = count - id < step ? (uint32_t)(count - id) : step;
    int wanted = all;
    for (uint32_t i = 0; i < n && !wanted; i++)
      wanted = covers_page(&s->txn, &s->txn.raw, id + i, size);
    if (wanted)
      err = stamp_chunk(c, chunk, id, n, all, looks, foreign);
  }
  return err;
}

/* Stamp the pages that went out without one, or all; page 1, with the guard,
** comes last. Where a tail may be foreign no page gets a stamp before all were
** looked at: the file would be plain, with stamps where zeroes are expected. */
static int stamp_raw(conn *c, int all, uint64_t count, int *foreign)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t *chunk = os_aligned_alloc(4096, CHUNK_BYTES);
  int err = chunk == NULL ? PAGEDB_ENOMEM : PAGEDB_OK;
  if (err == PAGEDB_OK && (s->txn.foreign || s->txn.replacing))
    err = stamp_chunks(c, chunk, all, count, 1, foreign);
  if (err == PAGEDB_OK && !*foreign)
    err = stamp_chunks(c, chunk, all, count, 0, foreign);
  if (err == PAGEDB_OK && !*foreign &&
      (all || covers_page(&s->txn, &s->txn.raw, 0, size))) {
    size_t got = 0;
    err = io_read_page(s, 0, chunk, &got);
    if (err == PAGEDB_OK && !*foreign)
      err = stamp_page_1(s, chunk, size);
  }
  os_aligned_free(chunk);
  return err;
}

int remove_guard(conn *c)
{
  shared *s = c->file;
  uint8_t head[HEADER_BYTES];
  header h;
  int err = header_read(s, head, &h);
  if (err != PAGEDB_OK || !h.valid || !h.guard)
    return err;
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

/* The new state of the file after a join that went well. */
static void settled(shared *s, const header *h)
{
  /* A page 1 that this transaction did not write still has it. */
  if (s->txn.unguard_later || covers_page(&s->txn, &s->txn.written, 0, 512))
    atomic_store(&s->guard_is_left, s->txn.unguard_later);
  atomic_store(&s->count, h->valid ? h->count : 0);
  atomic_store(&s->wal, h->valid && h->wal);
  state_ours(s, h->valid ? h->version : NULL);
}

static int join_sure(conn *c, const header *h)
{
  shared *s = c->file;
  uint64_t filled;
  int err = PAGEDB_OK;
  const txn *t = &s->txn;
  if (atomic_load(&s->stamped) && h->valid) {
    behind_wait(c);
    err = fill_holes(c,
                     durable_end(t->start_count, t->start_bytes, t->start_size),
                     h->count, &t->written, 0, t->lsn, &filled);
  }
  if (err == PAGEDB_OK)
    err = behind_flush(c);
  /* sqlite3_backup may have given a plain file another page size. */
  pthread_mutex_lock(&s->lock);
  if (err == PAGEDB_OK)
    err = shared_set_page_size(s, h->valid ? h->page_size : 0);
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    settled(s, h);
  return err;
}

/* Page 1 is that of the transaction's start: what wrote the file anew (VACUUM, a
** backup) was rolled back. One that goes well changes at least the schema's
** cookie. In EXCLUSIVE locking mode nothing else tells. */
static int begins_like(const txn *t, const uint8_t *head)
{
  return memcmp(head + HEADER_CHANGE_COUNTER,
                t->start_head + HEADER_CHANGE_COUNTER,
                HEADER_COOKIE + 4 - HEADER_CHANGE_COUNTER) == 0;
}

static int becomes_stamped(const conn *c, const uint8_t *head, const header *h)
{
  const shared *s = c->file;
  const txn *t = &s->txn;
  if (t->end == 0 || !h->valid || h->reserve != PAGEDB_RECORD_SIZE)
    return 0;
  if (t->start_stamped)
    return 1;
  if (t->joined || t->kind == TXN_PLAYBACK || !c->want_stamps)
    return 0;
  if (t->start_bytes == 0)
    return 1;
  return c->overwrite && !begins_like(t, head);
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
  ** out; what went out before is read again. Where a foreign tail was seen, it
  ** may be gone by now (a rollback): the file will tell. */
  atomic_store(&s->out, all || t->foreign ? OUT_RAW : OUT_STAMP);
  t->guard_later =
      !t->start_stamped && t->start_bytes > 0 && RULE_IS_ON(RULE_GUARD);
  int err = behind_flush(c);
  pthread_mutex_lock(&s->lock);
  if (err == PAGEDB_OK)
    err = shared_set_page_size(s, h->page_size);
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    err = stamp_raw(c, all, count, foreign);
  if (err != PAGEDB_OK || *foreign)
    return err;
  /* In a playback the journal has whatever page the transaction changed; the
  ** others are as they were, and the count on disk may be the transaction's. */
  if (!all && t->kind == TXN_FORWARD)
    err = fill_holes(c,
                     durable_end(t->start_count, t->start_bytes, t->start_size),
                     h->count, &t->written, 0, t->lsn, &filled);
  if (err != PAGEDB_OK || (t->kind != TXN_PLAYBACK && !t->joined) ||
      !RULE_IS_ON(RULE_LEAVES))
    return err;
  err = mend_leaves(c, head, t->lsn);
  /* Nobody needs what a free leaf holds. */
  if (err == PAGEDB_EIO)
    shared_report(s, err, SQLITE_IOERR_WRITE);
  return err == PAGEDB_EIO ? PAGEDB_OK : err;
}

/* The first page that a replacement did not write, counted from 1; 0: none. */
static uint64_t not_replaced(const txn *t, const header *h)
{
  uint64_t pages = t->end / (h->valid ? h->page_size : t->start_size);
  if (h->valid && h->count != 0 && h->count < pages)
    pages = h->count;
  for (uint64_t id = 0; id < pages; id++)
    if (!is_lock_page(id, h->page_size) &&
        !covers_page(t, &t->written, id, h->page_size))
      return id + 1;
  return 0;
}

static int check_replacement(conn *c, const header *h)
{
  const txn *t = &c->file->txn;
  if (!t->replacing || t->end == 0)
    return SQLITE_OK;
  uint64_t stays = h->valid ? not_replaced(t, h) : 1;
  if (stays == 0)
    return SQLITE_OK;
  return shared_refuse(c->file, SQLITE_IOERR_WRITE,
                       "run PRAGMA pagedb_unstamp on it first",
                       "refused to write pages that use the 32 bytes at their "
                       "end into a stamped database of which others stay (page "
                       "%llu)",
                       (unsigned long long)stays);
}

/* What went out raw stays so, and the file says that it is plain: after the
** commit, if page 1 can be told from a stamped file's until then. */
static int leave_plain(conn *c, const header *h)
{
  shared *s = c->file;
  txn *t = &s->txn;
  atomic_store(&s->out, OUT_RAW);
  int err = behind_flush(c);
  if (err != PAGEDB_OK || !t->start_stamped || t->end == 0)
    return err;
  t->unguard_later = t->kind == TXN_FORWARD && h->valid &&
                     h->reserve != PAGEDB_RECORD_SIZE && RULE_IS_ON(RULE_GUARD);
  if (!t->unguard_later)
    err = remove_guard(c);
  if (err == PAGEDB_OK)
    sqlite3_log(SQLITE_NOTICE,
                "pagedb: %s: is plain now: its pages do not keep 32 bytes free "
                "(VACUUM makes it a stamped one again)",
                s->path);
  return err;
}

/* The rest of the process learns what the file is. */
static int publish(shared *s, const header *h, int stamped)
{
  txn *t = &s->txn;
  pthread_mutex_lock(&s->lock);
  int err = shared_set_page_size(s, t->end > 0 && h->valid ? h->page_size : 0);
  shared_invalidate(s);
  /* After an error a rollback follows, and its join decides anew. */
  if (err == PAGEDB_OK) {
    atomic_store(&s->stamped, stamped);
    atomic_store(&s->out, stamped ? OUT_STAMP : OUT_RAW);
    atomic_store(&s->unsure, 0);
    pthread_mutex_lock(&s->bits_lock);
    bitmap_clear(&t->raw);
    pthread_mutex_unlock(&s->bits_lock);
  }
  pthread_mutex_unlock(&s->lock);
  if (err == PAGEDB_OK)
    settled(s, h);
  return err;
}

static int join_unsure(conn *c, const uint8_t *head, const header *h)
{
  shared *s = c->file;
  int stamped = becomes_stamped(c, head, h), foreign = 0;
  /* A join before this one may have failed. */
  s->txn.unguard_later = 0;
  int err = stamped ? stamp_all(c, head, h, &foreign) : PAGEDB_OK;
  stamped = stamped && !foreign;
  if (!stamped)
    s->txn.guard_later = 0;
  if (err == PAGEDB_OK && !stamped) {
    int rc = check_replacement(c, h);
    if (rc != SQLITE_OK)
      return rc;
    err = leave_plain(c, h);
  }
  if (err == PAGEDB_OK)
    err = publish(s, h, stamped);
  return shared_report(s, err, SQLITE_IOERR_WRITE);
}

int txn_join(conn *c)
{
  shared *s = c->file;
  txn *t = &s->txn;
  uint8_t head[HEADER_BYTES];
  size_t got = 0;
  header h;
  conn *writer = atomic_load(&s->writer);
  if (writer != NULL && writer != c && c->lock == SQLITE_LOCK_EXCLUSIVE)
    return shared_refuse(s, SQLITE_IOERR_WRITE, NULL,
                         "two connections write at the same time: the locks of "
                         "this file system do not work");
  if (writer != c)
    return SQLITE_OK;
  atomic_fetch_add(&pagedb_globals.count.joins, 1);
  int err = page1_now(c, head, &got);
  int rc = shared_report(s, err, SQLITE_IOERR_WRITE);
  if (rc != SQLITE_OK)
    return rc;
  header_parse(head, got, &h);
  if (atomic_load(&s->unsure))
    rc = join_unsure(c, head, &h);
  else
    rc = shared_report(s, join_sure(c, &h), SQLITE_IOERR_WRITE);
  if (rc != SQLITE_OK)
    return rc;
  /* A rollback; or a commit that leaves page 1 as it is, and if that fails what
  ** follows begins where it began, too. */
  t->over = t->kind == TXN_FORWARD && begins_like(t, head);
  if (t->over)
    c->overwrite = 0;
  t->joined = 1;
  t->unjoined = 0;
  t->since_flush = t->in_order = 0;
  /* What a playback restored is done; writes after it are a new transaction. */
  if (t->kind == TXN_PLAYBACK)
    txn_committed(c);
  return file_failed(s) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}
