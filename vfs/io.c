/*
** io.c - bytes of a database file.
**
** Two ways. Through descriptors of our own (handle.c). Or through the parent's
** xRead, xWrite, xSync (parent mode), when the descriptor could not be learnt.
**
** Reads are direct, where Direct I/O is in use and the page size fits the device;
** but for page 1 and every page that begins in the file's first 4 KiB: SQLite reads
** 16 bytes of page 1 at each transaction's start, in every process.
**
** Writes go through the system's cache, and the sync that follows writes it all at
** once. A direct write waits for the disk: one after the other takes several times
** as long as stock SQLite, and threads that make many at a time are slower than the
** system, which has as many under way as the disk takes (250 MB, a quiet machine,
** medians of 5 against stock, with 8 threads and by the cache: an update of 20 % 0.96
** and 0.90, a load with a large cache 1.04 and 0.83). io_uring is not for a database:
** what a killed process had submitted can reach the file after its locks are gone,
** when another one has begun to play back the journal. Here a write is done when
** its call returns: whoever has the lock next sees it, in the cache or, if he
** reads directly, because the system writes it to the disk before it reads.
**
** Durability: one fdatasync, always of the same descriptor, because an error
** of write-back is reported once per open file. Once it failed, the file is
** failed until it is closed (s->fate): the system may have marked the lost
** pages clean, and a second sync would say OK. What io_write_back begins before
** is no sync; but what it cannot write the sync may not hear of, so that its error
** is a failed sync's.
**
** Every byte that the process writes to the file goes through here, and what it
** changed is counted (file_changed): so read-ahead knows that a page which it read
** earlier is not to be used.
**
** Nothing here locks; SQLite's locks order the transfers.
*/
#include <string.h>

#include "vfs_int.h"

enum { BUFFERED_BYTES = 4096 };

static uint64_t began(void)
{
  return os_monotonic_ns();
}

static void ended(timed kind, uint64_t start)
{
  count_latency(kind, os_monotonic_ns() - start);
}

/* What a parent's method answered, as one of our errors. */
static int parent_error(const shared *s, int rc, int write)
{
  int err = PAGEDB_EIO;
  if (rc == SQLITE_OK)
    return PAGEDB_OK;
  if ((rc & 0xff) == SQLITE_FULL)
    err = PAGEDB_EFULL;
  else if ((rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM)
    err = PAGEDB_ENOMEM;
  else if ((rc & 0xff) == SQLITE_READONLY)
    err = PAGEDB_EREADONLY;
  return pagedb_fault_set(err, 0, s->path, PAGEDB_NONE, 0, 0,
                          write ? "write, through the parent VFS"
                                : "read, through the parent VFS");
}

/* ------------------------------------------------------------- parent mode */

/* SQLite asks a VFS for a page at the most. unix's takes no more than 128 KiB in
** one call: it writes a MiB as nothing at all, and calls the disk full. */
enum { PARENT_MOST = 65536 };

static size_t parent_piece(size_t n, size_t done)
{
  return n - done < PARENT_MOST ? n - done : PARENT_MOST;
}

static int parent_read(shared *s, void *buf, size_t n, uint64_t off,
                       size_t *got)
{
  sqlite3_int64 size = 0;
  sqlite3_file *f = s->through;
  size_t asked = 0;
  int rc = SQLITE_OK;
  lock_order_io();
  while (rc == SQLITE_OK && asked < n) {
    size_t piece = parent_piece(n, asked);
    rc = f->pMethods->xRead(f, (uint8_t *)buf + asked, (int)piece,
                            (sqlite3_int64)(off + asked));
    asked += piece;
  }
  *got = asked;
  if (rc != SQLITE_IOERR_SHORT_READ)
    return parent_error(s, rc, 0);
  rc = f->pMethods->xFileSize(f, &size);
  *got = (uint64_t)size > off ? (size_t)((uint64_t)size - off) : 0;
  /* Short, and not at the end: what came is not what the file has. */
  if (rc == SQLITE_OK && *got >= asked)
    rc = SQLITE_IOERR_READ;
  return parent_error(s, rc, 0);
}

static int parent_write(shared *s, const void *buf, size_t n, uint64_t off)
{
  sqlite3_file *f = s->through;
  int rc = SQLITE_OK;
  lock_order_io();
  for (size_t done = 0; rc == SQLITE_OK && done < n;) {
    size_t piece = parent_piece(n, done);
    rc = f->pMethods->xWrite(f, (const uint8_t *)buf + done, (int)piece,
                             (sqlite3_int64)(off + done));
    done += piece;
  }
  return parent_error(s, rc, 1);
}

/* --------------------------------------------------------------- transfers */

int io_is_direct(const shared *s, uint32_t page_size)
{
  return atomic_load(&s->direct) != NULL &&
         page_size >= s->geometry.offset_align &&
         s->geometry.memory_align <= (page_size < 4096 ? page_size : 4096);
}

static os_file *file_for(shared *s, size_t bytes, uint64_t off)
{
  /* A buffer may hold many pages; their size decides. */
  uint32_t page_size = atomic_load(&s->page_size);
  handle *direct = atomic_load(&s->direct);
  if (page_size == 0 || page_size > bytes)
    page_size = (uint32_t)bytes;
  if (off >= BUFFERED_BYTES && direct != NULL && io_is_direct(s, page_size))
    return handle_os(direct);
  return handle_os(atomic_load(&s->buffered));
}

os_file *io_ahead(shared *s, uint32_t page_size)
{
  return s->through != NULL ? NULL : file_for(s, page_size, BUFFERED_BYTES);
}

/* ----------------------------------------------------------------- changes */

void file_changed(shared *s, uint64_t off, uint64_t n)
{
  uint32_t size = atomic_load(&s->page_size);
  if (size == 0)
    return;
  uint64_t first = off / size, end = n == 0 ? first : (off + n - 1) / size + 1;
  if (end - first >= CHANGE_COUNTS) {
    atomic_fetch_add(&s->changed_all, 1);
    return;
  }
  for (; first < end; first++)
    atomic_fetch_add(&s->changed[first % CHANGE_COUNTS], 1);
}

uint32_t file_changes(shared *s, uint64_t id)
{
  return atomic_load(&s->changed[id % CHANGE_COUNTS]) +
         atomic_load(&s->changed_all);
}

static int read_cached(shared *s, void *buf, size_t n, uint64_t off,
                       size_t *got)
{
  os_iov iov = {buf, n};
  return s->through != NULL ? parent_read(s, buf, n, off, got)
                            : os_readv(handle_os(atomic_load(&s->buffered)),
                                       &iov, 1, off, got);
}

int io_read(shared *s, void *buf, size_t n, uint64_t off, size_t *got)
{
  uint64_t start = began();
  int err = read_cached(s, buf, n, off, got);
  ended(TIMED_READ, start);
  return err;
}

int io_write(shared *s, const void *buf, size_t n, uint64_t off)
{
  uint64_t start = began();
  os_iov iov = {(void *)(uintptr_t)buf, n};
  int err = s->through != NULL
                ? parent_write(s, buf, n, off)
                : os_writev(handle_os(atomic_load(&s->buffered)), &iov, 1, off);
  ended(TIMED_WRITE, start);
  file_changed(s, off, n);
  atomic_fetch_add(&pagedb_globals.count.write_calls, 1);
  return err;
}

int io_read_pages(shared *s, os_iov *iov, int n, uint64_t off, size_t *got)
{
  if (s->through == NULL) {
    uint64_t start = began();
    os_file *f = file_for(s, iov[0].len, off);
    int err = os_readv(f, iov, n, off, got);
    ended(TIMED_READ, start);
    return err;
  }
  *got = 0;
  for (int i = 0; i < n; i++) {
    size_t one;
    int err = io_read(s, iov[i].base, iov[i].len, off, &one);
    if (err != PAGEDB_OK)
      return err;
    *got += one;
    off += iov[i].len;
    if (one < iov[i].len)
      break;
  }
  return PAGEDB_OK;
}

int io_read_page(shared *s, uint64_t id, void *buf, size_t *got)
{
  os_iov iov = {buf, atomic_load(&s->page_size)};
  return io_read_pages(s, &iov, 1, id * iov.len, got);
}

int io_write_pages(shared *s, os_iov *iov, int n, uint64_t off)
{
  int err = PAGEDB_OK;
  if (s->through == NULL) {
    uint64_t start = began();
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++)
      bytes += iov[i].len; /* before the call, which may modify the vector */
    err = os_writev(handle_os(atomic_load(&s->buffered)), iov, n, off);
    ended(TIMED_WRITE, start);
    file_changed(s, off, bytes);
    atomic_fetch_add(&pagedb_globals.count.write_calls, 1);
    return err;
  }
  for (int i = 0; err == PAGEDB_OK && i < n; i++) {
    err = io_write(s, iov[i].base, iov[i].len, off);
    off += iov[i].len;
  }
  return err;
}

void io_write_back(shared *s, uint64_t off, uint64_t n)
{
  if (s->through == NULL &&
      os_write_back(handle_os(atomic_load(&s->buffered)), off, n) != PAGEDB_OK)
    shared_fail(s);
}

/* Not timed: each transaction begins with it, the clock takes half as long as the
** read, and pagedb_stats would tell of nothing else. */
int io_header(shared *s, uint8_t *buf, size_t *got)
{
  int err = read_cached(s, buf, HEADER_BYTES, 0, got);
  if (err != PAGEDB_OK)
    *got = 0;
  memset(buf + *got, 0, HEADER_BYTES - *got);
  return err;
}

int header_read(shared *s, uint8_t *buf, header *h)
{
  size_t got = 0;
  int err = io_header(s, buf, &got);
  if (err == PAGEDB_OK)
    header_parse(buf, got, h);
  return err;
}

int io_size(shared *s, uint64_t *bytes)
{
  sqlite3_int64 size = 0;
  if (s->through == NULL) {
    int err = os_size(handle_os(atomic_load(&s->buffered)), bytes);
    /* SQLite's VFS for Unix says that a file of one byte is empty. */
    if (err == PAGEDB_OK && *bytes == 1)
      *bytes = 0;
    return err;
  }
  int rc = s->through->pMethods->xFileSize(s->through, &size);
  *bytes = (uint64_t)size;
  return parent_error(s, rc, 0);
}

int io_sync(shared *s, int flags)
{
  if (file_failed(s))
    return pagedb_fault_set(PAGEDB_ESYNC, 0, s->path, PAGEDB_NONE, 0, 0,
                            "an earlier sync failed; close all connections and "
                            "open again");
  lock_order_io();
  uint64_t start = began();
  handle *h = atomic_load(&s->buffered);
  sqlite3_file *f = h != NULL ? handle_file(h) : s->through;
  int rc = f->pMethods->xSync(f, flags);
  ended(TIMED_SYNC, start);
  atomic_fetch_add(&pagedb_globals.count.syncs, 1);
  if (rc == SQLITE_OK)
    return PAGEDB_OK;
  atomic_store(&s->fate->failed, 1);
  return pagedb_fault_set(PAGEDB_ESYNC, 0, s->path, PAGEDB_NONE, 0, 0, NULL);
}
