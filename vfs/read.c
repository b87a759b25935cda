/*
** read.c - xRead, xFetch, xUnfetch.
**
** A page, or a part of one, comes from the pool: verified when it entered, tail
** zeroed. xFetch pins the frame itself. Everything else goes raw through the
** system's cache: bytes 0..99 of the file, which SQLite reads without a lock
** and only compares or reads again, and reads that are no page of the file's
** size, with which SQLite finds out what the page size is.
**
** A page that fails verification is read once more before it is reported. A
** full pool, or no memory for it, never fails a read: the page is then read
** straight into SQLite's buffer, when that is aligned (a frame of our page
** cache), or comes through a buffer of the connection.
**
** Only then: a page that goes through the pool costs a copy (a tenth of a
** microsecond), and is there when the private cache, small as a rule, has let it
** go or another connection asks. To read it again costs a hundred times that.
*/
#include <string.h>

#include "vfs_int.h"

static int inherited(conn *c)
{
  sqlite3_log(SQLITE_MISUSE, "pagedb: %s: a connection was used after fork()",
              c->name);
  return SQLITE_MISUSE;
}

/* SQLite never sees the guard. */
static void unguard(const shared *s, uint8_t *buf, uint64_t off, size_t n)
{
  if (off > GUARD_AT || off + n <= GUARD_AT)
    return;
  uint8_t *version = buf + (GUARD_AT - off);
  int database = off == 0 && n > 16 && memcmp(buf, "SQLite format 3", 16) == 0;
  if (guard_is_set(*version) && (database || atomic_load(&s->stamped)))
    *version = unguarded(*version);
}

static int short_read(uint8_t *buf, size_t got, size_t n)
{
  if (got >= n)
    return SQLITE_OK;
  memset(buf + got, 0, n - got);
  return SQLITE_IOERR_SHORT_READ;
}

static int read_raw(conn *c, uint8_t *buf, size_t n, uint64_t off)
{
  shared *s = c->file;
  size_t got = 0;
  int err = PAGEDB_OK;
  if (atomic_load(&s->writer) == c)
    err = write_settle(c, off, n);
  if (err == PAGEDB_OK)
    err = io_read(s, buf, n, off, &got);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_READ);
  unguard(s, buf, off, got);
  return short_read(buf, got, n);
}

/* Bytes 0..99. Without locks, reading them is the event at which the state is
** compared. */
static int read_header(conn *c, uint8_t *buf, size_t n, uint64_t off)
{
  size_t got = c->rest->head_bytes;
  int err = PAGEDB_OK;
  if (c->no_lock && !(c->immutable && c->file->state.valid))
    err = state_check(c);
  else if (!c->fresh)
    err = io_header(c->file, c->rest->head, &got);
  if (err != PAGEDB_OK)
    return shared_report(c->file, err, SQLITE_IOERR_READ);
  if (!c->fresh)
    c->rest->head_bytes = (unsigned)got;
  got = c->rest->head_bytes;
  c->fresh = 0;
  got = got > off ? got - off : 0;
  if (got > n)
    got = n;
  memcpy(buf, c->rest->head + off, got);
  unguard(c->file, buf, off, got);
  return short_read(buf, got, n);
}

/* ------------------------------------------------------------------- pages */

/* Whether nobody ever wrote the page. */
static int is_blank(conn *c, uint64_t id)
{
  size_t got = 0;
  uint8_t *page = conn_bounce(c);
  return page != NULL && io_read_page(c->file, id, page, &got) == PAGEDB_OK &&
         all_zero(page, got);
}

/*
** Behind the durable end of the file anything may stand (SQLite does not write
** every page of a file that grows), and means nothing. In WAL mode the count on
** disk is not that end: a partial checkpoint may have brought in pages behind it,
** so there only what nobody wrote means nothing.
*/
static int behind_the_end(conn *c, uint64_t id)
{
  const shared *s = c->file;
  uint64_t count = atomic_load(&s->count);
  if (count == 0 || id < count)
    return 0;
  if (atomic_load(&s->wal))
    return is_blank(c, id);
  return atomic_load(&s->writer) != c || !bitmap_has(&s->txn.written, id);
}

/* A whole page into memory that Direct I/O takes, as our page cache's is. */
static int fits_straight(const uint8_t *buf, size_t n, uint64_t size)
{
  uintptr_t align = size < 4096 ? (uintptr_t)size : 4096;
  return n == size && (uintptr_t)buf % align == 0;
}

/* What to do when the pool did not give the page. */
static int read_around(conn *c, uint64_t id, size_t at, uint8_t *buf, size_t n,
                       int err)
{
  shared *s = c->file;
  uint64_t size = atomic_load(&s->page_size);
  if (err == PAGEDB_ESHORT && c->verify && atomic_load(&s->stamped) &&
      id < atomic_load(&s->count)) {
    /* Not SHORT_READ: SQLite would take that for zeroes. */
    shared_report(s, err, SQLITE_IOERR_READ);
    return SQLITE_IOERR_DATA;
  }
  if (err == PAGEDB_ESHORT)
    return read_raw(c, buf, n, id * size + at);
  if (is_verification(err) && c->verify) {
    if (!behind_the_end(c, id))
      return shared_report(s, err, SQLITE_IOERR_READ);
    memset(buf, 0, n);
    return SQLITE_OK;
  }
  int straight = fits_straight(buf, n, size);
  uint8_t *page = straight ? buf : conn_bounce(c);
  if (page == NULL)
    return SQLITE_IOERR_NOMEM;
  err = pages_read_one(s, id, page, c->verify);
  if (err != PAGEDB_OK)
    return shared_report(s, err, SQLITE_IOERR_READ);
  if (!straight) {
    atomic_fetch_add(&pagedb_globals.count.bounces, 1);
    memcpy(buf, page + at, n);
  }
  return SQLITE_OK;
}

/*
** The page from the pool. What is noted of a hit is its number alone, for
** readahead.c.
*/
static inline int fetch(conn *c, pagedb_owner *o, uint64_t id, pagedb_pin *pin)
{
  c->recent[c->nrecent++ % RECENT_PAGES] = id;
  if (pagedb_fetch_resident(c->session, o, id, pin)) {
    if (HIT_IS_NEWS(c, pin))
      ahead_hit(c, id, pin);
    return PAGEDB_OK;
  }
  ahead_missed(c, id);
  return pagedb_fetch(c->session, o, id, pin);
}

static int read_page(conn *c, uint64_t id, size_t at, uint8_t *buf, size_t n)
{
  pagedb_pin pin;
  pagedb_owner *o = atomic_load(&c->file->owner);
  int err = fetch(c, o, id, &pin);
  if (is_verification(err))
    err = pagedb_fetch(c->session, o, id, &pin);
  if (err != PAGEDB_OK)
    return read_around(c, id, at, buf, n, err);
  memcpy(buf, pin.data + at, n);
  pagedb_unpin(&pin);
  return SQLITE_OK;
}

/*
** A plain database may be edited by hand under an open connection, and SQLite
** would see the new page 1: it reads it anew whenever it reads it at all, which
** is seldom.
*/
static int plain_page_1(const conn *c, uint64_t id)
{
  const shared *s = c->file;
  return id == 0 && !atomic_load(&s->stamped) && atomic_load(&s->writer) != c;
}

/*
** Stamps are required. Asked when SQLite reads pages, because a hot journal
** has been played back by then. What the writer has spilled is not yet stamped.
*/
static inline int refuses_plain(const conn *c)
{
  const shared *s = c->file;
  return c->need_stamps != NULL && atomic_load(&s->page_size) != 0 &&
         !atomic_load(&s->stamped) && atomic_load(&s->writer) != c;
}

int x_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 off)
{
  conn *c = (conn *)f;
  shared *s = c->file;
  uint64_t from = (uint64_t)off, size = atomic_load(&s->page_size);
  if (conn_is_inherited(c))
    return inherited(c);
  if (from + (uint64_t)n <= HEADER_BYTES)
    return read_header(c, buf, (size_t)n, from);
  if (file_failed(s))
    return SQLITE_IOERR_FSYNC;
  if (refuses_plain(c))
    return shared_refuse(
        s, SQLITE_CANTOPEN, "`pagedb convert` makes it a stamped database",
        "is plain, and stamps were required (%s)", c->need_stamps);
  if (size == 0 || n <= 0 || from / size != (from + (uint64_t)n - 1) / size)
    return read_raw(c, buf, (size_t)n, from);
  if (plain_page_1(c, from / size)) {
    int rc = read_raw(c, buf, (size_t)n, from);
    if (rc == SQLITE_OK)
      look_for_lost_guard(s, buf, (size_t)n);
    return rc;
  }
  if (is_lock_page(from / size, (uint32_t)size))
    return read_raw(c, buf, (size_t)n, from);
  return read_page(c, from / size, from % size, buf, (size_t)n);
}

/* ------------------------------------------------------------------- fetch */

/* Larger pages have too many lines: asking for those that are near already costs a
** fifth of a lookup. */
enum { LINE = 64, LOOKUP_BYTES = 8192 };

/*
** A leaf right below an interior page is what a lookup asks for, or a scan when it
** begins. SQLite searches it by halves: each cell in another cache line, and none
** known before the last one came from memory. All lines at once are here sooner
** than three in turn. In a scan leaf follows leaf, and count(*) looks at the first
** line of each: nothing is done for those.
**
** The first byte of the page is no wait more: it is what SQLite looks at next.
*/
static inline void bring_lines(conn *c, const uint8_t *page, uint64_t size)
{
  int below = c->above;
  c->above = page[0] == 2 || page[0] == 5;
  if (below && !c->above && size <= LOOKUP_BYTES)
    for (uint64_t at = LINE; at < size; at += LINE)
      __builtin_prefetch(page + at);
}

/* No page, and no error, makes SQLite call xRead, which says what is wrong. */
int x_fetch(sqlite3_file *f, sqlite3_int64 off, int n, void **out)
{
  conn *c = (conn *)f;
  shared *s = c->file;
  pagedb_pin pin;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t from = (uint64_t)off;
  *out = NULL;
  if (conn_is_inherited(c) || size == 0 || (uint32_t)n != size || from == 0 ||
      (from & (size - 1)) != 0 || off + n > c->mmap_limit || file_failed(s))
    return SQLITE_OK;
  uint64_t id = page_of(from, size);
  if (is_lock_page(id, size) || refuses_plain(c))
    return SQLITE_OK;
  if (fetch(c, atomic_load(&s->owner), id, &pin) == PAGEDB_OK) {
    *out = pin.data;
    bring_lines(c, pin.data, size);
    c->fetched++;
  }
  return SQLITE_OK;
}

int x_unfetch(sqlite3_file *f, sqlite3_int64 off, void *page)
{
  conn *c = (conn *)f;
  (void)off;
  if (page != NULL && !conn_is_inherited(c)) {
    pagedb_unpin_data(c->session, page);
    c->fetched--;
  }
  return SQLITE_OK;
}
