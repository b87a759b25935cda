/*
** write.c - xWrite, xTruncate, xSync, xFileSize: a write transaction in
** rollback mode, from its first write to its end.
**
** Order on disk. SQLite writes and syncs its journal before it writes a page of
** the database. xWrite copies the page into a dirty frame; frames may leave the
** pool at any time from then on, in any order. The join (SQLITE_FCNTL_SYNC,
** join.c) is sent after the last xWrite and before the commit point; it returns
** OK only when every dirty page of the file has been handed to the system, so a
** process killed after an acknowledged commit loses nothing, whatever
** `synchronous` says. xSync then makes it durable. A power cut before the
** commit point leaves any subset of the pages, whole or torn, and the journal,
** which restores all of them; after it, everything was synced.
**
** xTruncate acts at once: before the commit the journal has the pages that are cut
** off, and the file's former length; after it nobody counts them. A page that the
** pool has no room for is written at once, as an early flush would be.
**
** Early flushes: pages that come in the file's order are written while SQLite goes
** on (behind.c), and all that is dirty when it has become much.
**
** What is never joined is never written: pages that are dirty when EXCLUSIVE is
** given up are abandoned (txn_abandon), because another process may already be
** playing the journal back.
**
** Writes that are no page of the file's present size (sqlite3_backup between
** page sizes, playback of a hot journal) go straight through the system's
** cache.
*/
#include <string.h>

#include "../core/ahead.h"
#include "vfs_int.h"

/* ------------------------------------------------------- birth and its end */

/*
** SQLite opens a hot journal without asking for it to be created, and takes no
** RESERVED lock before it plays it back. EXCLUSIVE without RESERVED alone does
** not tell: leaving WAL mode goes that way too. A journal that is hidden from us
** by a VFS above leaves only the locks to go by.
*/
static txn_kind kind_of(const conn *c)
{
  if (c->journal == JOURNAL_HOT)
    return TXN_PLAYBACK;
  return c->reserved || c->no_lock || c->journal == JOURNAL_CREATED ||
                 atomic_load(&c->file->wal)
             ? TXN_FORWARD
             : TXN_PLAYBACK;
}

/* How pages go out from here on. */
static void set_out(const conn *c)
{
  shared *s = c->file;
  const txn *t = &s->txn;
  int sure = t->start_bytes > 0 && t->kind == TXN_FORWARD && !c->overwrite;
  atomic_store(&s->unsure, !sure);
  atomic_store(&s->out, sure && t->start_stamped ? OUT_STAMP : OUT_RAW);
}

/* How many schemas the connection has, and the last one's name; 0: not known. */
static int count_schemas(const conn *c, char *last, size_t n)
{
  int count = 0;
  const char *name;
  last[0] = 0;
  for (; c->db != NULL && *c->db != NULL &&
         (name = sqlite3_db_name(*c->db, count)) != NULL;
       count++)
    sqlite3_snprintf((int)n, last, "%s", name);
  return count;
}

/* VACUUM has a schema of its own attached until it is done. */
static int vacuum_goes_on(const conn *c)
{
  char last[sizeof c->rest->vacuum_schema];
  return count_schemas(c, last, sizeof last) == c->rest->vacuum_schemas &&
         strcmp(last, c->rest->vacuum_schema) == 0;
}

static void txn_end(shared *s)
{
  behind_over(atomic_load(&s->writer));
  shared_past_lsn(s, s->txn.lsn);
  pthread_mutex_lock(&s->bits_lock);
  bitmap_clear(&s->txn.written);
  bitmap_clear(&s->txn.raw);
  s->txn = (txn){0};
  atomic_store(&s->unsure, 0);
  atomic_store(&s->writer, NULL);
  pthread_mutex_unlock(&s->bits_lock);
}

/* With nolock=1 no lock tells it. */
int txn_goes_on(const conn *c)
{
  const shared *s = c->file;
  return atomic_load(&s->writer) == c && !s->txn.over;
}

/* A transaction that was rolled back: in EXCLUSIVE locking mode nothing tells
** that but its join. */
static void end_what_is_over(conn *c)
{
  shared *s = c->file;
  if (atomic_load(&s->writer) == c && s->txn.over)
    txn_end(s);
}

static int txn_begin(conn *c, uint32_t n)
{
  shared *s = c->file;
  txn *t = &s->txn;
  int err = PAGEDB_OK;
  size_t got;
  end_what_is_over(c);
  if (atomic_load(&s->writer) == c)
    return PAGEDB_OK;
  /* A VACUUM that failed before its first write ends like that. */
  if (c->overwrite && !vacuum_goes_on(c))
    c->overwrite = 0;
  *t = (txn){.kind = kind_of(c)};
  atomic_store(&s->writer, c);
  err = io_size(s, &t->start_bytes);
  if (err == PAGEDB_OK)
    err = io_header(s, t->start_head, &got);
  if (err == PAGEDB_OK && t->start_bytes == 0) {
    /* The pager writes whole pages, so the first write tells their size. */
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stamped, 0);
    atomic_store(&s->count, 0);
    err = shared_set_page_size(s,
                               pagedb_page_size_ok(n, PAGEDB_TRAILING) ? n : 0);
    pthread_mutex_unlock(&s->lock);
  }
  if (err != PAGEDB_OK) {
    atomic_store(&s->writer, NULL);
    return err;
  }
  t->end = t->start_bytes;
  t->start_size = atomic_load(&s->page_size);
  t->unit = t->start_size != 0 ? t->start_size : 512;
  t->start_stamped =
      atomic_load(&s->stamped) ||
      (t->kind == TXN_PLAYBACK && atomic_load(&s->guard_is_left));
  t->start_count = atomic_load(&s->count);
  t->lsn = shared_next_lsn(s);
  set_out(c);
  return PAGEDB_OK;
}

void txn_overwrite(conn *c)
{
  shared *s = c->file;
  c->overwrite = 1;
  if (atomic_load(&s->writer) == c) {
    behind_wait(c);
    atomic_store(&s->unsure, 1);
    atomic_store(&s->out, OUT_RAW);
  }
}

void txn_vacuum(conn *c)
{
  /* It has not written yet. */
  end_what_is_over(c);
  c->rest->vacuum_schemas =
      count_schemas(c, c->rest->vacuum_schema, sizeof c->rest->vacuum_schema);
  txn_overwrite(c);
}

/*
** A plain file was stamped by this transaction: all of it is durable, and so is
** the journal's end, that the guard, one byte, cannot be met together with the
** journal of a file that was plain. A power cut before it leaves a plain file
** that has its stamps. So does an error in here: the commit is done, and stays
** done; the error goes to the log, and after a failed sync nothing more is written.
*/
static void set_guard(conn *c)
{
  shared *s = c->file;
  uint8_t head[HEADER_BYTES];
  size_t got = 0;
  if (end_journal(c) != SQLITE_OK) {
    shared_refuse(s, SQLITE_NOTICE, "PRAGMA pagedb_stamp stamps it",
                  "its journal's end could not be made durable: the file stays "
                  "plain");
    state_forget(s);
    return;
  }
  int err = io_header(s, head, &got);
  head[GUARD_AT] = guarded(head[GUARD_AT]);
  if (err == PAGEDB_OK)
    err = io_write(s, &head[GUARD_AT], 1, GUARD_AT);
  if (err == PAGEDB_OK)
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  if (err == PAGEDB_OK)
    return;
  shared_report(s, err, SQLITE_IOERR_WRITE);
  state_forget(s);
}

/*
** The same the other way round: a stamped file was replaced by pages without
** stamps. The guard goes when the journal is gone for good, so that whoever
** plays that back finds a stamped file. A cut before it leaves a file that is
** plain for us, and that stock SQLite reads and does not write; page 1 loses the
** guard when we write it next. An error leaves the same, and goes to the log.
*/
static void unset_guard(conn *c)
{
  shared *s = c->file;
  if (end_journal(c) != SQLITE_OK) {
    shared_refuse(s, SQLITE_NOTICE, NULL,
                  "its journal's end could not be made durable: the file keeps "
                  "its guard until the next transaction");
    return;
  }
  int err = remove_guard(c);
  if (err == PAGEDB_OK)
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  if (err == PAGEDB_OK)
    atomic_store(&s->guard_is_left, 0);
  else
    shared_report(s, err, SQLITE_IOERR_WRITE);
}

void txn_committed(conn *c)
{
  shared *s = c->file;
  if (atomic_load(&s->writer) == c) {
    if (s->txn.guard_later)
      set_guard(c);
    if (s->txn.unguard_later || atomic_load(&s->guard_is_left))
      unset_guard(c);
    txn_end(s);
  }
  c->overwrite = 0;
}

void txn_abandon(conn *c)
{
  shared *s = c->file;
  if (atomic_load(&s->writer) != c)
    return;
  /* Also what was joined: nobody said COMMIT_PHASETWO, so the journal may be
  ** hot, and another process's next commit can have our 16 bytes. Writes
  ** under way are waited for, and txn_end waits for who makes them. */
  if (RULE_IS_ON(RULE_ABANDON)) {
    state_forget(s);
    shared_invalidate(s);
  }
  txn_end(s);
}

/* ------------------------------------------------------------------ writes */

int write_settle(conn *c, uint64_t off, uint64_t n)
{
  shared *s = c->file;
  pagedb_owner *o = atomic_load(&s->owner);
  uint64_t size = atomic_load(&s->page_size);
  if (o == NULL || n == 0)
    return PAGEDB_OK;
  for (uint64_t id = off / size; id <= (off + n - 1) / size; id++) {
    int err = pagedb_flush_page(c->session, o, id);
    if (err != PAGEDB_OK)
      return err;
    if (pagedb_discard(o, id) != PAGEDB_OK) {
      /* Pinned by this connection itself. Nothing of it may be found again. */
      err = pagedb_flush(c->session, o);
      if (err != PAGEDB_OK)
        return err;
      shared_invalidate(s);
    }
  }
  return PAGEDB_OK;
}

static void note_written(shared *s, uint64_t off, uint64_t n, int raw)
{
  txn *t = &s->txn;
  pthread_mutex_lock(&s->bits_lock);
  for (uint64_t id = off / t->unit; id <= (off + n - 1) / t->unit; id++) {
    bitmap_add(&t->written, id);
    if (raw && atomic_load(&s->unsure))
      bitmap_add(&t->raw, id);
  }
  pthread_mutex_unlock(&s->bits_lock);
}

int txn_wrote(conn *c, uint64_t off, uint64_t n)
{
  shared *s = c->file;
  txn *t = &s->txn;
  int wrote = 0;
  if (atomic_load(&s->writer) != c || t->unit == 0)
    return 0;
  pthread_mutex_lock(&s->bits_lock);
  for (uint64_t id = off / t->unit; id <= (off + n - 1) / t->unit; id++)
    wrote |= bitmap_has(&t->written, id);
  pthread_mutex_unlock(&s->bits_lock);
  return wrote;
}

/*
** The pages are forgotten before the write, and not once more after it: nothing
** brings their old content in between. Under EXCLUSIVE nobody else reads, and this
** connection is here; what it was reading ahead is dropped, since io_write counts the
** change (file_changed). A checkpoint brings pages of another size than the file's
** this way, which no sound log has: page 1 tells the size of both.
*/
int write_through(conn *c, const void *buf, uint64_t n, uint64_t off)
{
  shared *s = c->file;
  behind_wait(c);
  int err = write_settle(c, off, n);
  if (err != PAGEDB_OK)
    return err;
  if (atomic_load(&s->writer) == c)
    note_written(s, off, n, 1);
  if (off != 0 || n < HEADER_BYTES || n > 65536)
    return io_write(s, buf, (size_t)n, off);
  uint8_t *page1 = conn_bounce(c);
  if (page1 == NULL)
    return PAGEDB_ENOMEM;
  memcpy(page1, buf, (size_t)n);
  keep_guard(s, page1);
  return io_write(s, page1, (size_t)n, off);
}

/* 1 if a frame had the page and has the new content now. */
static int into_resident(conn *c, uint64_t id, const void *buf, uint64_t lsn,
                         int dirty)
{
  pagedb_pin pin;
  shared *s = c->file;
  int done = 0;
  if (!pagedb_fetch_resident(c->session, atomic_load(&s->owner), id, &pin))
    return 0;
  if (pagedb_latch_exclusive(&pin) == PAGEDB_OK) {
    memcpy(pin.data, buf, atomic_load(&s->page_size));
    done = !dirty || pagedb_mark_dirty(&pin, lsn) == PAGEDB_OK;
  }
  pagedb_unpin(&pin);
  return done;
}

void frame_refresh(conn *c, uint64_t id, const void *page, uint64_t lsn)
{
  pagedb_owner *o = atomic_load(&c->file->owner);
  if (o != NULL && !into_resident(c, id, page, lsn, 0))
    ahead_offer(o, id, page, lsn);
}

/* The page is written at once, in a copy: the pool has no room for it. */
static int write_around(conn *c, uint64_t id, const void *buf)
{
  shared *s = c->file;
  void *page = conn_bounce(c);
  if (page == NULL)
    return PAGEDB_ENOMEM;
  behind_wait(c);
  atomic_fetch_add(&pagedb_globals.count.bounces, 1);
  memcpy(page, buf, atomic_load(&s->page_size));
  return pages_write_one(s, id, page, s->txn.lsn,
                         (out_mode)atomic_load(&s->out));
}

static int write_page(conn *c, uint64_t id, const void *buf)
{
  shared *s = c->file;
  pagedb_pin pin;
  uint64_t size = atomic_load(&s->page_size);
  note_written(s, id * size, size, 0);
  if (into_resident(c, id, buf, s->txn.lsn, 1))
    return PAGEDB_OK;
  pagedb_owner *o = atomic_load(&s->owner);
  if (pagedb_fetch_new(c->session, o, id, &pin) != PAGEDB_OK)
    return write_around(c, id, buf);
  memcpy(pin.data, buf, size);
  int err = pagedb_mark_dirty(&pin, s->txn.lsn);
  pagedb_unpin(&pin);
  return err;
}

/* ---------------------------------------------------------- replacement */

/*
** Whether a page cannot stand in a stamped file: somebody else uses its tail,
** or it is of another geometry. sqlite3_backup brings such pages from databases
** that keep no 32 bytes free; a stamp would destroy content.
*/
static int is_foreign(const conn *c, const uint8_t *buf, uint64_t n,
                      uint64_t off)
{
  const txn *t = &c->file->txn;
  uint64_t size = t->start_size;
  header h;
  /* What restores a stamped file is not foreign by itself; in EXCLUSIVE locking
  ** mode nothing tells where a rollback ends. */
  if (!t->start_stamped || t->kind != TXN_FORWARD || c->overwrite)
    return 0;
  if (n != size || off % size != 0)
    return 1;
  header_parse(buf, (size_t)n, &h);
  if (off == 0 &&
      (!h.valid || h.page_size != size || h.reserve != PAGEDB_RECORD_SIZE))
    return 1;
  return !is_lock_page(off / size, (uint32_t)size) &&
         !tail_is_ours(buf, (uint32_t)size);
}

/*
** From here on pages go out as they are, and the join decides: if every page of
** the file was written anew the file becomes what its page 1 says, else the
** transaction is refused, and the journal restores what it did. Pages that went
** out with a stamp so far go out once more, without.
*/
static int begin_replacing(conn *c)
{
  shared *s = c->file;
  txn *t = &s->txn;
  uint32_t size = t->start_size;
  int rc = SQLITE_OK;
  uint8_t *page = os_aligned_alloc(4096, size < 4096 ? 4096 : size);
  if (page == NULL)
    return SQLITE_IOERR_NOMEM;
  t->replacing = 1;
  txn_overwrite(c);
  for (uint64_t id = 0; rc == SQLITE_OK && id < t->end / size; id++) {
    if (!bitmap_has(&t->written, id))
      continue;
    rc = x_read(&c->base, page, (int)size, (sqlite3_int64)(id * size));
    if (rc == SQLITE_OK)
      rc = shared_report(s, write_page(c, id, page), SQLITE_IOERR_WRITE);
  }
  os_aligned_free(page);
  return rc;
}

/* Pages that lie so near behind one another come in the file's order. */
enum { NEAR_BYTES = 1 << 20 };

/* Much that is dirty is written early: the journal is safe by now, and the join
** has less to do. SQLite goes on meanwhile, but where the pool would fill. */
static int write_early(conn *c, uint64_t off, uint64_t n)
{
  txn *t = &c->file->txn;
  t->since_flush += n;
  if (off >= t->at && off - t->at < NEAR_BYTES)
    t->in_order += n;
  t->at = off + n;
  if (t->in_order >= pagedb_globals.behind_bytes && behind_start(c)) {
    t->in_order = t->since_flush = 0;
    return PAGEDB_OK;
  }
  if (t->since_flush <= atomic_load(&pagedb_globals.pool_quarter) &&
      !behind_failed(c))
    return PAGEDB_OK;
  t->in_order = t->since_flush = 0;
  return behind_flush(c);
}

/*
** A write after the join and before the commit restores what was there when the
** transaction began. If the join changed what the file is (VACUUM), the old
** geometry is back, and nothing is certain until the next join.
*/
static int back_to_the_start(conn *c)
{
  shared *s = c->file;
  txn *t = &s->txn;
  int err = PAGEDB_OK;
  if (!t->joined)
    return PAGEDB_OK;
  /* What was written before the join is no business of what comes now. */
  if (!t->unjoined) {
    pthread_mutex_lock(&s->bits_lock);
    bitmap_clear(&t->written);
    pthread_mutex_unlock(&s->bits_lock);
    t->replacing = 0;
  }
  if (atomic_load(&s->unsure))
    return PAGEDB_OK;
  if (atomic_load(&s->page_size) == t->start_size &&
      atomic_load(&s->stamped) == t->start_stamped && !c->overwrite)
    return PAGEDB_OK;
  behind_wait(c);
  pthread_mutex_lock(&s->lock);
  err = shared_set_page_size(s, t->start_size);
  atomic_store(&s->stamped, t->start_stamped);
  pthread_mutex_lock(&s->bits_lock);
  bitmap_clear(&t->written);
  pthread_mutex_unlock(&s->bits_lock);
  t->guard_later = t->unguard_later = 0;
  atomic_store(&s->unsure, 1);
  atomic_store(&s->out, OUT_RAW);
  pthread_mutex_unlock(&s->lock);
  return err;
}

static int write_any(conn *c, const void *buf, uint64_t n, uint64_t off)
{
  shared *s = c->file;
  txn *t = &s->txn;
  uint64_t size = atomic_load(&s->page_size);
  t->unjoined = 1;
  int whole = size != 0 && n == size && off % size == 0;
  if (whole && atomic_load(&s->unsure) &&
      !is_lock_page(off / size, (uint32_t)size) &&
      !tail_is_ours(buf, (uint32_t)size))
    t->foreign = 1;
  int err = whole && t->kind == TXN_FORWARD ? write_page(c, off / size, buf)
                                            : write_through(c, buf, n, off);
  if (err != PAGEDB_OK)
    return err;
  if (off + n > t->end)
    t->end = off + n;
  return write_early(c, off, n);
}

int x_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 off)
{
  conn *c = (conn *)f;
  shared *s = c->file;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  c->fresh = 0;
  if (c->ckpt)
    return ckpt_write(c, buf, n, (uint64_t)off);
  int err = txn_begin(c, (uint32_t)n);
  if (err == PAGEDB_OK)
    err = back_to_the_start(c);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_WRITE);
  if (is_foreign(c, buf, (uint64_t)n, (uint64_t)off)) {
    int rc = begin_replacing(c);
    if (rc != SQLITE_OK)
      return rc;
  }
  err = write_any(c, buf, (uint64_t)n, (uint64_t)off);
  return shared_report(s, err, SQLITE_IOERR_WRITE);
}

/* ---------------------------------------------------- size, cut, durability */

/* Forget pages behind the cut; a page that is cut in two is written first. */
static int forget_behind(conn *c, uint64_t bytes)
{
  shared *s = c->file;
  pagedb_owner *o = atomic_load(&s->owner);
  uint64_t size = atomic_load(&s->page_size), now = 0;
  if (o == NULL)
    return PAGEDB_OK;
  int err = io_size(s, &now);
  if (atomic_load(&s->writer) == c && s->txn.end > now)
    now = s->txn.end;
  if (err != PAGEDB_OK || bytes >= now)
    return err;
  if (bytes % size != 0)
    err = write_settle(c, bytes, 1);
  if (err != PAGEDB_OK)
    return err;
  if (pagedb_discard_from(o, (bytes + size - 1) / size) == PAGEDB_OK)
    return PAGEDB_OK;
  err = pagedb_flush(c->session, o);
  shared_invalidate(s);
  return err;
}

int x_truncate(sqlite3_file *f, sqlite3_int64 bytes)
{
  conn *c = (conn *)f;
  shared *s = c->file;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  c->fresh = 0;
  behind_wait(c);
  int err = forget_behind(c, (uint64_t)bytes);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_TRUNCATE);
  int rc = c->parent->pMethods->xTruncate(c->parent, bytes);
  atomic_fetch_add(&s->changed_all, 1);
  if (rc != SQLITE_OK)
    return rc;
  if (atomic_load(&s->writer) == c && s->txn.end > (uint64_t)bytes) {
    s->txn.end = (uint64_t)bytes;
    pthread_mutex_lock(&s->bits_lock);
    bitmap_cut(&s->txn.written,
               ((uint64_t)bytes + s->txn.unit - 1) / s->txn.unit);
    pthread_mutex_unlock(&s->bits_lock);
  }
  state_ours(s, NULL);
  return SQLITE_OK;
}

int x_sync(sqlite3_file *f, int flags)
{
  conn *c = (conn *)f;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  if (atomic_load(&c->file->writer) == c && c->file->txn.unjoined) {
    int rc = txn_join(c);
    if (rc != SQLITE_OK)
      return rc;
  }
  return shared_report(c->file, io_sync(c->file, flags), SQLITE_IOERR_FSYNC);
}

/* In rollback mode nobody changes the file while we hold SHARED, and we do not
** with no more than that. In WAL mode a checkpoint does. */
static int size_stands(const conn *c)
{
  return c->size_known && c->lock == SQLITE_LOCK_SHARED && c->shm == NULL &&
         !atomic_load(&c->file->wal) && atomic_load(&c->file->writer) != c;
}

int x_file_size(sqlite3_file *f, sqlite3_int64 *bytes)
{
  conn *c = (conn *)f;
  const txn *t = &c->file->txn;
  if (size_stands(c)) {
    *bytes = (sqlite3_int64)c->size;
    return SQLITE_OK;
  }
  int rc = c->parent->pMethods->xFileSize(c->parent, bytes);
  if (rc == SQLITE_OK && atomic_load(&c->file->writer) == c &&
      t->end > (uint64_t)*bytes)
    *bytes = (sqlite3_int64)t->end;
  return rc;
}
