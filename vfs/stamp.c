/*
** stamp.c - PRAGMA pagedb_stamp and pagedb_unstamp: a whole file gets its
** stamps and the guard, or loses the guard.
**
** Both work under SQLite's EXCLUSIVE lock, taken through the connection's own
** handle, with no journal to play back and an empty WAL.
**
** Stamping, in the order in which it reaches the disk:
**   1. every page that has no valid stamp: its tail, which nobody uses; sync
**   2. page 1: stamp, change counter one higher, no guard yet (but where it was
**      there before); sync
**   3. the guard, one byte of the first sector (the CRC does not see it); sync
** A power cut before 3 leaves a plain file whose content is untouched; 3 is one
** sector. The higher change counter makes open connections of other processes
** look at the file again.
**
** Before that, adopting writes stamped zero pages over free leaves that do not
** verify: SQLite defines no content for them, so a cut there loses nothing.
**
** All this without a journal. That of the transaction before must be gone for
** good first (end_journal).
**
** A page 1 whose checksum alone is wrong may be a stock backup's or damaged:
** nothing in the file tells. So only adopting accepts it.
**
** Unstamping first verifies every page, unless it is forced: whatever is wrong
** would pass for good from then on. Then page 1's first sector: guard off, counters
** up; sync. Its record stays, and says that this was on purpose: what stock SQLite
** writes has none.
** The WAL may hold pages meanwhile, and they may be such as cannot be stamped: that
** is what brings users here. A checkpoint takes them later, as they are, and keeps
** a record in page 1 (keep_release), or the file would look like one whose guard
** stock SQLite lost.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "vfs_int.h"

enum { CHUNK = 1 << 20 };

/* ----------------------------------------------------------- getting there */

static int say(char **message, int rc, const char *text)
{
  *message = sqlite3_mprintf("%s", text);
  return rc;
}

static int exec_on_schema(conn *c, const char *format,
                          int (*row)(void *, int, char **, char **), void *arg)
{
  const char *schema = conn_schema(c);
  char *sql = schema == NULL ? NULL : sqlite3_mprintf(format, schema);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_exec(*c->db, sql, row, arg, NULL);
  sqlite3_free(sql);
  return rc;
}

static int is_ok(void *arg, int n, char **value, char **name)
{
  (void)name;
  *(int *)arg = n == 1 && value[0] != NULL && strcmp(value[0], "ok") == 0;
  return 0;
}

/* What SQLite says of rc, which a call on the connection has just returned. */
static const char *sentence(conn *c, int rc)
{
  return sqlite3_errcode(*c->db) % 256 == rc % 256 ? sqlite3_errmsg(*c->db)
                                                   : sqlite3_errstr(rc);
}

/* A journal that is played back, and a WAL brought in if it has to be empty. */
static int make_quiet(conn *c, int empty_wal, char **message)
{
  int rc = exec_on_schema(c, "SELECT count(*) FROM \"%w\".sqlite_master", NULL,
                          NULL);
  if (rc == SQLITE_OK && empty_wal && atomic_load(&c->file->wal))
    rc = sqlite3_wal_checkpoint_v2(*c->db, conn_schema(c),
                                   SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
  if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED)
    return say(message, SQLITE_BUSY,
               "the database is in use by others: close their connections and "
               "try again");
  if (rc != SQLITE_OK)
    *message =
        sqlite3_mprintf("cannot read the database first: %s", sentence(c, rc));
  return rc;
}

/* Whether a journal or log says nothing; an SQLite code. Where that cannot be
** learnt nothing may be done over it. */
static int says_nothing(conn *c, const char *name, int flags, int *nothing)
{
  sqlite3_vfs *v = c->file->parent;
  int exists = 0, granted;
  sqlite3_int64 size = 0;
  uint8_t first = 0;
  *nothing = 1;
  int rc = name == NULL ? SQLITE_OK
                        : v->xAccess(v, name, SQLITE_ACCESS_EXISTS, &exists);
  if (rc != SQLITE_OK || !exists)
    return rc;
  sqlite3_file *f = calloc(1, (size_t)v->szOsFile);
  if (f == NULL)
    return SQLITE_NOMEM;
  rc = v->xOpen(v, name, f, flags | SQLITE_OPEN_READONLY, &granted);
  if (rc == SQLITE_OK)
    rc = f->pMethods->xFileSize(f, &size);
  if (rc == SQLITE_OK && size > 0)
    rc = f->pMethods->xRead(f, &first, 1, 0);
  if (f->pMethods != NULL)
    f->pMethods->xClose(f);
  free(f);
  /* A persistent journal that is done with begins with zeroes. */
  *nothing = size == 0 || first == 0;
  return rc;
}

int end_journal(conn *c)
{
  sqlite3_vfs *v = c->file->parent;
  const char *name = sqlite3_filename_journal(c->name);
  int existed = 0, granted;
  if (!RULE_IS_ON(RULE_JOURNAL))
    return SQLITE_OK;
  sqlite3_file *f = calloc(1, (size_t)v->szOsFile);
  if (f == NULL)
    return SQLITE_NOMEM;
  int rc = v->xAccess(v, name, SQLITE_ACCESS_READWRITE, &existed);
  if (rc == SQLITE_OK)
    rc = v->xOpen(v, name, f,
                  SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_READWRITE |
                      SQLITE_OPEN_CREATE,
                  &granted);
  if (rc == SQLITE_OK)
    rc = f->pMethods->xSync(f, SQLITE_SYNC_NORMAL);
  if (f->pMethods != NULL)
    f->pMethods->xClose(f);
  free(f);
  /* An empty journal is none; to delete it syncs the directory. */
  return rc == SQLITE_OK && !existed ? v->xDelete(v, name, 1) : rc;
}

static int take_exclusive(conn *c, int empty_wal, char **message)
{
  int rc = SQLITE_OK;
  for (int level = SQLITE_LOCK_SHARED;
       rc == SQLITE_OK && level <= SQLITE_LOCK_EXCLUSIVE; level++)
    if (level != SQLITE_LOCK_PENDING && c->lock < level)
      rc = x_lock(&c->base, level);
  if ((rc & 0xff) == SQLITE_BUSY)
    return say(message, rc,
               "the database is in use by others: close their connections and "
               "try again");
  if (rc != SQLITE_OK)
    return rc;
  int nothing = 1;
  rc = says_nothing(c, sqlite3_filename_journal(c->name),
                    SQLITE_OPEN_MAIN_JOURNAL, &nothing);
  if (rc == SQLITE_OK && nothing && empty_wal)
    rc = says_nothing(c, sqlite3_filename_wal(c->name), SQLITE_OPEN_WAL,
                      &nothing);
  if (rc != SQLITE_OK)
    return rc;
  if (!nothing)
    return say(
        message, SQLITE_BUSY,
        "a journal or write-ahead log of the database is not empty: open "
        "it, PRAGMA wal_checkpoint(TRUNCATE), and try again");
  return end_journal(c);
}

static int not_now(conn *c, char **message)
{
  if (c->read_only)
    return say(message, SQLITE_READONLY, "the database was opened read-only");
  if (c->db == NULL || *c->db == NULL)
    return say(message, SQLITE_MISUSE, "the connection is not known");
  if (!sqlite3_get_autocommit(*c->db) || txn_goes_on(c) ||
      (c->lock != SQLITE_LOCK_NONE && !atomic_load(&c->file->wal)))
    return say(message, SQLITE_BUSY,
               "not inside a transaction: COMMIT, finish all statements, leave "
               "PRAGMA locking_mode=EXCLUSIVE, and try again");
  return SQLITE_OK;
}

/* ---------------------------------------------------------------- counting */

typedef struct survey {
  uint64_t pages, sound, missing, zero_tail, stale, foreign;
  uint64_t first_bad, first_foreign, first_stale; /* page numbers from 1 */
} survey;

static void survey_page(conn *c, const uint8_t *page, uint64_t len,
                        uint32_t size, uint64_t id, survey *v)
{
  v->pages++;
  if (pages_verify(c->file, page, len, size, id, NULL) == PAGEDB_OK) {
    v->sound++;
    return;
  }
  if (v->first_bad == 0)
    v->first_bad = id + 1;
  if (len < size) {
    v->missing++;
  } else if (!tail_is_ours(page, size)) {
    if (v->foreign++ == 0)
      v->first_foreign = id + 1;
  } else if (pagedb_last_fault()->err == PAGEDB_EUNSTAMPED ||
             (pagedb_last_fault()->err == PAGEDB_EMAGIC)) {
    v->zero_tail++;
  } else if (v->stale++ == 0) {
    v->first_stale = id + 1;
  }
}

/* Go through the file: count into *v, or (write) stamp what does not verify. */
static int each_chunk(conn *c, uint64_t count, survey *v, uint64_t lsn,
                      int write)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t *chunk = os_aligned_alloc(4096, CHUNK);
  int err = chunk == NULL ? PAGEDB_ENOMEM : PAGEDB_OK;
  for (uint64_t id = 0; err == PAGEDB_OK && id < count; id += CHUNK / size) {
    uint32_t n = CHUNK / size;
    if (count - id < n)
      n = (uint32_t)(count - id);
    size_t got = 0;
    os_iov iov = {chunk, (size_t)n * size};
    err = io_read_pages(s, &iov, 1, id * size, &got);
    for (uint32_t i = 0; err == PAGEDB_OK && i < n; i++) {
      uint8_t *page = chunk + (size_t)i * size;
      size_t before = (size_t)i * size;
      size_t len = got <= before         ? 0
                   : got - before < size ? got - before
                                         : size;
      if (is_lock_page(id + i, size))
        continue;
      if (!write)
        survey_page(c, page, len, size, id + i, v);
      else if (id + i > 0 && len == size &&
               pages_verify(s, page, size, size, id + i, NULL) != PAGEDB_OK)
        err = pages_write_one(s, id + i, page, lsn, OUT_STAMP);
    }
    if (pagedb_globals.progress != NULL)
      pagedb_globals.progress(id + n, count);
  }
  os_aligned_free(chunk);
  return err;
}

/* ---------------------------------------------------------------- stamping */

static int refuse_survey(conn *c, const survey *v, int adopt, char **message)
{
  int stamped = atomic_load(&c->file->stamped);
  if (v->missing > 0)
    *message = sqlite3_mprintf("pages that are not wholly in the file: %lld, "
                               "the first is page %lld: not stamped",
                               v->missing, v->first_bad);
  else if (v->foreign > 0)
    *message =
        sqlite3_mprintf("pages that use the 32 bytes at their end: %lld, "
                        "the first is page %lld: not stamped",
                        v->foreign, v->first_foreign);
  else if (stamped && v->stale > (v->first_stale == 1))
    *message = sqlite3_mprintf(
        "damaged pages: %lld, the first is page %lld: not touched; `pagedb "
        "check` tells more",
        v->stale, v->first_stale);
  else if (stamped && v->zero_tail > 0 && !adopt)
    *message = sqlite3_mprintf(
        "pages that carry no stamp, written without page-db: %lld, the first "
        "is page %lld; to adopt them (pagedb stamp --adopt, PRAGMA "
        "pagedb_stamp=adopt) is to accept them after an integrity check",
        v->zero_tail, v->first_bad);
  else if (stamped && v->stale > 0 && !adopt)
    *message = sqlite3_mprintf(
        "page 1 is not what it was when it got its stamp, and all other pages "
        "are sound: a backup by stock SQLite looks like this, and so does "
        "damage in page 1; to adopt it (pagedb stamp --adopt, PRAGMA "
        "pagedb_stamp=adopt) is to accept it after an integrity check");
  return *message == NULL ? SQLITE_OK : SQLITE_CORRUPT;
}

static int page1_on_disk(conn *c, uint8_t **page)
{
  size_t got = 0;
  *page = conn_bounce(c);
  return *page == NULL ? PAGEDB_ENOMEM : io_read_page(c->file, 0, *page, &got);
}

/* Steps 2 and 3. */
static int stamp_page1(conn *c, uint64_t lsn)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t *page = NULL;
  int err = page1_on_disk(c, &page);
  if (err != PAGEDB_OK)
    return err;
  /* What has the guard keeps it throughout: some page without a stamp is no
  ** reason to lose it. */
  if (!guard_is_set(page[GUARD_AT]))
    page[GUARD_AT] = unguarded(page[GUARD_AT]);
  bump_change_counter(page);
  pagedb_page_stamp(page, size, PAGEDB_TRAILING, 0, lsn);
  err = io_write(s, page, size, 0);
  if (err == PAGEDB_OK && RULE_IS_ON(RULE_STAMPS))
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  page[GUARD_AT] = guarded(page[GUARD_AT]);
  if (err == PAGEDB_OK)
    err = io_write(s, page, 512, 0);
  return err == PAGEDB_OK ? io_sync(s, SQLITE_SYNC_NORMAL) : err;
}

static int stamp_locked(conn *c, int adopt, char **message)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint8_t head[HEADER_BYTES];
  uint64_t bytes = 0;
  survey v = {0};
  header h;
  int err = header_read(s, head, &h);
  if (err == PAGEDB_OK)
    err = io_size(s, &bytes);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_READ);
  if (!h.valid)
    return say(message, SQLITE_NOTADB, "the file is empty or no database");
  if (h.reserve != PAGEDB_RECORD_SIZE && atomic_load(&s->stamped))
    return say(message, SQLITE_CORRUPT,
               "the header in page 1 is damaged: not touched; `pagedb check` "
               "tells more");
  if (h.reserve != PAGEDB_RECORD_SIZE) {
    *message = sqlite3_mprintf("the database keeps %d bytes of each page free, "
                               "not 32: VACUUM it through page-db, or use "
                               "`pagedb convert`",
                               (int)h.reserve);
    return SQLITE_ERROR;
  }
  uint64_t count = durable_end(h.count, bytes, size);
  uint64_t lsn = shared_next_lsn(s);
  if (adopt && header_stamped(&h))
    err = mend_leaves(c, head, lsn);
  if (err == PAGEDB_OK && adopt)
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  if (err == PAGEDB_OK)
    err = each_chunk(c, count, &v, 0, 0);
  int rc = shared_report(s, err, SQLITE_IOERR_READ);
  if (rc == SQLITE_OK)
    rc = refuse_survey(c, &v, adopt, message);
  if (rc != SQLITE_OK)
    return rc;
  if (header_stamped(&h) && v.sound == v.pages) {
    *message = sqlite3_mprintf("stamped already; pages: %lld", v.pages);
    return SQLITE_OK;
  }
  err = each_chunk(c, count, &v, lsn, 1);
  if (err == PAGEDB_OK && RULE_IS_ON(RULE_STAMPS))
    err = io_sync(s, SQLITE_SYNC_NORMAL);
  if (err == PAGEDB_OK)
    err = stamp_page1(c, lsn);
  shared_past_lsn(s, lsn);
  if (err == PAGEDB_OK && v.stale > 0)
    *message = sqlite3_mprintf(
        "stamped; pages: %lld; changed since they got an "
        "earlier stamp: %lld, the first is page %lld%s",
        v.pages, v.stale, v.first_stale,
        v.stale == 1 && v.first_stale == 1
            ? ", which unstamp, or a backup by stock SQLite, changes"
            : "");
  else if (err == PAGEDB_OK)
    *message = sqlite3_mprintf("stamped; pages: %lld", v.pages);
  return shared_report(s, err, SQLITE_IOERR_WRITE);
}

/* -------------------------------------------------------------- unstamping */

static int refuse_unverified(conn *c, const header *h, char **message)
{
  shared *s = c->file;
  uint64_t bytes = 0;
  survey v = {0};
  int err = io_size(s, &bytes);
  if (err == PAGEDB_OK)
    err = each_chunk(
        c, durable_end(h->count, bytes, atomic_load(&s->page_size)), &v, 0, 0);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_READ);
  if (v.sound == v.pages)
    return SQLITE_OK;
  *message = sqlite3_mprintf(
      "not unstamped: pages that do not verify: %lld, the first is page %lld "
      "(`pagedb check` tells more). Without stamps they would pass for good. "
      "`pagedb unstamp --force` or PRAGMA pagedb_unstamp=force does it all the "
      "same",
      v.pages - v.sound, v.first_bad);
  return SQLITE_CORRUPT;
}

int keep_release(shared *s, uint8_t *page1, uint32_t size, uint64_t lsn)
{
  pagedb_record r;
  int has = 0;
  if (page1[HEADER_RESERVE] != PAGEDB_RECORD_SIZE ||
      !all_zero(page1 + size - PAGEDB_RECORD_SIZE, PAGEDB_RECORD_SIZE))
    return PAGEDB_OK;
  int err = read_record(s, size, 0, &r, &has);
  if (err == PAGEDB_OK && has)
    pagedb_page_stamp(page1, size, PAGEDB_TRAILING, 0, lsn);
  return err;
}

/* The guard goes, and every connection notices. */
static int release_page1(conn *c)
{
  shared *s = c->file;
  uint8_t *page = NULL;
  int err = page1_on_disk(c, &page);
  if (err != PAGEDB_OK)
    return err;
  page[GUARD_AT] = unguarded(page[GUARD_AT]);
  bump_change_counter(page);
  err = io_write(s, page, 512, 0);
  return err == PAGEDB_OK ? io_sync(s, SQLITE_SYNC_NORMAL) : err;
}

/* The guard of a stamped file that was replaced by a plain one. */
static int drop_guard(conn *c, char **message)
{
  int err = release_page1(c);
  if (err != PAGEDB_OK)
    return shared_report(c->file, err, SQLITE_IOERR_WRITE);
  return say(message, SQLITE_OK,
             "not stamped; it has lost the guard that was left in it");
}

static int unstamp_locked(conn *c, int force, char **message)
{
  shared *s = c->file;
  uint8_t head[HEADER_BYTES];
  header h;
  int err = header_read(s, head, &h);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_READ);
  if (h.valid && !atomic_load(&s->stamped) && h.guard)
    return drop_guard(c, message);
  if (!h.valid || !atomic_load(&s->stamped))
    return say(message, SQLITE_OK, "the database is not stamped");
  int rc = force ? SQLITE_OK : refuse_unverified(c, &h, message);
  if (rc != SQLITE_OK)
    return rc;
  err = release_page1(c);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_WRITE);
  atomic_store(&s->stamped, 0);
  return say(message, SQLITE_OK,
             force
                 ? "no longer stamped, and not verified: any SQLite may write "
                   "it now, and takes what is damaged for good"
                 : "no longer stamped: any SQLite may write it now");
}

typedef enum whole_file { STAMP, ADOPT, UNSTAMP, UNSTAMP_BY_FORCE } whole_file;

static int work_locked(conn *c, whole_file work, char **message)
{
  if (work == UNSTAMP || work == UNSTAMP_BY_FORCE)
    return unstamp_locked(c, work == UNSTAMP_BY_FORCE, message);
  return stamp_locked(c, work == ADOPT, message);
}

/* Do it with EXCLUSIVE held, and give the lock back to what it was. */
static int exclusively(conn *c, whole_file work, char **message)
{
  int before = c->lock;
  int rc = take_exclusive(c, work == STAMP || work == ADOPT, message);
  if (rc == SQLITE_OK)
    rc = work_locked(c, work, message);
  /* Without EXCLUSIVE the dirty pages in the pool are somebody else's. */
  if (c->lock == SQLITE_LOCK_EXCLUSIVE) {
    pthread_mutex_lock(&c->file->lock);
    shared_invalidate(c->file);
    pthread_mutex_unlock(&c->file->lock);
    state_forget(c->file);
  }
  /* Whoever asks next, even without a lock, is told what the file is now. */
  if (rc == SQLITE_OK)
    rc = state_check(c) == PAGEDB_OK ? SQLITE_OK : SQLITE_IOERR_READ;
  if (c->lock > before)
    x_unlock(&c->base, before);
  if (rc != SQLITE_OK && *message == NULL)
    *message = sqlite3_mprintf("%s", sqlite3_errstr(rc));
  return rc;
}

static int check_integrity(conn *c, char **message)
{
  int ok = 0;
  int rc = exec_on_schema(c, "PRAGMA \"%w\".integrity_check(1)", is_ok, &ok);
  if (rc == SQLITE_OK && ok)
    return SQLITE_OK;
  if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_CORRUPT) {
    const char *why = sentence(c, rc);
    *message = sqlite3_mprintf(
        "cannot check the database first: %s%s", why,
        strstr(why, "no such") == NULL
            ? ""
            : ": the application that defines it can run PRAGMA "
              "pagedb_stamp=adopt, on a connection that uses page-db");
    return rc;
  }
  return say(message, SQLITE_CORRUPT,
             "PRAGMA integrity_check does not say ok: not adopted");
}

/* Until EXCLUSIVE is held pages are read without being verified: page 1 may be
** what is bad, and pages without a stamp are to be seen to make sense. SQLite
** must not go on with any of them. */
static int carry_out(conn *c, whole_file work, char **message)
{
  int verify = c->verify;
  int rc = not_now(c, message);
  if (rc != SQLITE_OK)
    return rc;
  c->verify = 0;
  rc = make_quiet(c, work == STAMP || work == ADOPT, message);
  if (rc == SQLITE_OK && work == ADOPT)
    rc = check_integrity(c, message);
  c->verify = verify;
  sqlite3_db_release_memory(*c->db);
  return rc == SQLITE_OK ? exclusively(c, work, message) : rc;
}

int stamp_file(conn *c, int adopt, char **message)
{
  return carry_out(c, adopt ? ADOPT : STAMP, message);
}

int unstamp_file(conn *c, int force, char **message)
{
  return carry_out(c, force ? UNSTAMP_BY_FORCE : UNSTAMP, message);
}
