/*
** pagedb.h - the public interface of page-db's core, and its manual.
**
** page-db stores fixed-size pages. Each page carries a 32-byte record (magic,
** version, page id, LSN, CRC32C) that is verified whenever the page comes from
** disk, so that a torn, rotten or misdirected page is a typed error and never
** data. The parts, each usable alone, lower ones first:
**
**   crc32c     the checksum
**   page       the record: stamp it, verify it
**   pagefile   a file of pages: Direct I/O where the system has it
**   store      the seam: anything that reads, writes and syncs whole pages
**   pool       a clock buffer pool over any number of stores
**   alloc      page ids: hand out, take back, remember on disk
**
** CONVENTIONS
**
** Functions return PAGEDB_OK (0) or another pagedb_err. On any other outcome
** pagedb_last_fault() describes, for the calling thread, what went wrong and
** where; pagedb_fault_message() makes a sentence of it. Sizes are bytes, page
** ids count whole pages from 0: page n is bytes [n*size, (n+1)*size) of its
** file. Output parameters are written only on success unless said otherwise.
** Handles made by an _open call belong to the caller until the _close call;
** nothing that the caller passes in is kept unless the function says so.
**
** THREADS
**
** Everything is safe to use from any number of threads at once, except: a
** pagedb_session and its pins belong to one thread at a time, and closing a
** handle while another thread still uses it is the caller's error.
**
** examples/substrate.c opens, uses and closes all parts in the right order. The
** chapter CAVEATS stands at the end of this file.
*/
#ifndef PAGEDB_H
#define PAGEDB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PAGEDB_VERSION "0.1.0"

/* The version of the library that is linked: PAGEDB_VERSION at its build. */
const char *pagedb_version(void);

/* ------------------------------------------------------------------ errors */

/*
** What can go wrong. Values are stable. The third column is the SQLite result
** code that stands for it (pagedb_err_sqlite).
**
**  X(name, value, SQLite code, sentence)
*/
#define PAGEDB_ERRORS(X)                                                       \
  X(OK, 0, 0, "success")                                                       \
  X(EIO, 1, 10, "the system failed to read or write")                          \
  X(ESHORT, 2, 522, "the page is not wholly inside the file")                  \
  X(EMAGIC, 3, 8202, "the page does not begin its record with the magic")      \
  X(EVERSION, 4, 8202, "the page's record has a version unknown here")         \
  X(ECRC, 5, 8202, "the page's checksum does not match its content")           \
  X(EPAGEID, 6, 8202, "the page belongs to another slot")                      \
  X(EPAGESIZE, 7, 26, "the page size is not possible or not this file's")      \
  X(ERANGE, 8, 18, "it lies beyond what is possible")                          \
  X(EALIGN, 9, 21, "the buffer is not aligned as the file asks")               \
  X(EDIRECT, 10, 14, "Direct I/O was required and refused")                    \
  X(ECANTOPEN, 11, 14, "the file cannot be opened")                            \
  X(EREADONLY, 12, 8, "the file was opened for reading only")                  \
  X(EFULL, 13, 13, "no room is left on the device")                            \
  X(ENOMEM, 14, 7, "no memory is left")                                        \
  X(EEXHAUSTED, 15, 7, "every frame of the pool is pinned")                    \
  X(EBUSY, 16, 5, "somebody still uses it")                                    \
  X(ESYNC, 17, 1034, "a sync failed: what is durable is unknown; reopen")      \
  X(ESUPERBLOCK, 18, 26, "page 0 is not an allocator's superblock")            \
  X(ECHAIN, 19, 11, "the list of free pages is damaged")                       \
  X(EFREE, 20, 21, "the page id cannot be freed: it was never allocated")      \
  X(EDOUBLEFREE, 21, 21, "the page id is free already")                        \
  X(EIDS, 22, 13, "no page id is left")                                        \
  X(EMISUSE, 23, 21, "the call breaks the function's contract")                \
  X(EUNSTAMPED, 24, 8202, "the page carries no stamp")

typedef enum pagedb_err {
#define X(name, value, sqlite, sentence) PAGEDB_##name = value,
  PAGEDB_ERRORS(X)
#undef X
} pagedb_err;

/* "PAGEDB_ECRC" and the like; "PAGEDB_?" for a number that is no error. */
const char *pagedb_err_name(int err);
/* The sentence above. */
const char *pagedb_err_sentence(int err);
/* The SQLite result code for err (extended codes included). */
int pagedb_err_sqlite(int err);

/* No page, no value. */
#define PAGEDB_NONE UINT64_MAX

/* What the latest failing call of this thread met. */
typedef struct pagedb_fault {
  pagedb_err err;
  int sys;           /* the system's error number, 0 if none */
  uint64_t page;     /* page id, or PAGEDB_NONE */
  uint64_t found;    /* what stood there: a CRC, an id, a length ... */
  uint64_t expected; /* what should have; both 0 where it has no meaning */
  char what[96];     /* more about it, "" if nothing */
  char path[256];    /* the file, its end if it is longer; "" if none */
} pagedb_fault;

/* The fault of the latest failing call on this thread; never NULL, err is
** PAGEDB_OK before the first failure. Valid until the thread's next call. */
const pagedb_fault *pagedb_last_fault(void);

/*
** Write a sentence about *f into buf (always terminated) and return buf:
** "data.pages: page 7: checksum does not match: found 0x1234, expected ...".
*/
char *pagedb_fault_message(const pagedb_fault *f, char *buf, size_t n);

/*
** For stores written outside core: set this thread's fault and return err.
** path and what may be NULL, or those of the thread's latest fault.
*/
int pagedb_fault_set(int err, int sys, const char *path, uint64_t page,
                     uint64_t found, uint64_t expected, const char *what);

/* ------------------------------------------------------------------ crc32c */

/*
** CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected, initial value and
** final xor all ones; RFC 3720 appendix B.4. "123456789" gives 0xE3069283.
** The fastest path that this processor has is chosen at run time; all give
** the same value. pagedb_crc32c(d, n) equals
** final(update(init(), d, n)); updates may be split anywhere.
*/
uint32_t pagedb_crc32c(const void *data, size_t n);
uint32_t pagedb_crc32c_init(void);
uint32_t pagedb_crc32c_update(uint32_t state, const void *data, size_t n);
uint32_t pagedb_crc32c_final(uint32_t state);
/* Name of the path in use, for reports. */
const char *pagedb_crc32c_path(void);

/* -------------------------------------------------------------------- page */

/* The record: PAGEDB_RECORD_SIZE bytes, little-endian (docs/format.md). */
enum {
  PAGEDB_RECORD_SIZE = 32,
  PAGEDB_VERSION_1 = 1,
  PAGEDB_FLAG_TRAILING = 1
};
#define PAGEDB_MAGIC 0x42444750u /* bytes P G D B */

/* Where the record stands in its page. */
typedef enum pagedb_placement {
  PAGEDB_LEADING, /* native page file: record, then payload; 4 KiB to 1 MiB */
  PAGEDB_TRAILING /* SQLite database: the reserved bytes at the page's end;
                     512 to 65536 */
} pagedb_placement;

/* 1 if size is a page size of that placement. */
int pagedb_page_size_ok(uint32_t size, pagedb_placement placement);

/* The record, decoded. */
typedef struct pagedb_record {
  uint32_t magic;
  uint16_t version;
  uint16_t flags;
  uint64_t page;
  uint64_t lsn;
  uint32_t crc;
  uint32_t reserved;
} pagedb_record;

/* Decode the record of a page without judging it. */
void pagedb_record_get(const void *page, uint32_t size,
                       pagedb_placement placement, pagedb_record *out);

/*
** Stamp: write the record of page `id` with `lsn` into the page and compute
** its CRC. The record's 32 bytes are overwritten, no others are.
*/
void pagedb_page_stamp(void *page, uint32_t size, pagedb_placement placement,
                       uint64_t id, uint64_t lsn);

/*
** The CRC that the page's content asks for. In a trailing page 0 (SQLite's
** page 1) byte 18 enters without its guard (0x5x counts as x), so that the
** guard can be set and removed without a new stamp.
*/
uint32_t pagedb_page_crc(const void *page, uint32_t size,
                         pagedb_placement placement, uint64_t id);

/*
** Verify a page that was read from slot `id`: len bytes arrived of size
** wanted. Checked in this order: length (PAGEDB_ESHORT), magic (EMAGIC),
** version (EVERSION), CRC (ECRC), page id (EPAGEID). Flags and reserved are
** not judged. *lsn (may be NULL) is set on success.
*/
int pagedb_page_verify(const void *page, size_t len, uint32_t size,
                       pagedb_placement placement, uint64_t id, uint64_t *lsn);

/* Of an SQLite database: the byte whose page holds locks and no content. */
#define PAGEDB_LOCK_BYTE UINT64_C(0x40000000)

/* 1 if slot id of a database with that page size is SQLite's lock-byte page,
** which never carries a record. */
int pagedb_is_lock_page(uint64_t id, uint32_t size);

/* ---------------------------------------------------------------- pagefile */

typedef struct pagedb_file pagedb_file;

typedef enum pagedb_direct {
  PAGEDB_DIRECT_PREFERRED, /* Direct I/O, or buffered where it is refused */
  PAGEDB_DIRECT_REQUIRED,  /* PAGEDB_EDIRECT where it is refused */
  PAGEDB_DIRECT_OFF        /* buffered */
} pagedb_direct;

typedef struct pagedb_file_options {
  uint32_t page_size;         /* 0: 4096 */
  pagedb_placement placement; /* LEADING by default */
  pagedb_direct direct;       /* PREFERRED by default */
  int create;                 /* make the file if it is missing */
  int exclusive;              /* with create: it must not exist; alone it means
                                 nothing */
  int read_only;
} pagedb_file_options;

/*
** Open the page file at path (UTF-8). opt may be NULL: 4096-byte pages,
** Direct I/O preferred, the file must exist. A file of non-zero length whose
** first page verifies with another page size, or which is shorter than one
** page, is PAGEDB_EPAGESIZE and is not touched. When the file is created its
** directory entry is synced. Other errors: ECANTOPEN, EDIRECT, ENOMEM, EIO,
** ESYNC (of the directory), EMISUSE (create and read_only together).
*/
int pagedb_file_open(const char *path, const pagedb_file_options *opt,
                     pagedb_file **out);

/* Close. Data not synced is as durable as the system makes it. NULL is fine.
** Where io_uring was in use the system may end with EINTR what the thread that
** used the file waits in next. */
void pagedb_file_close(pagedb_file *f);

uint32_t pagedb_file_page_size(const pagedb_file *f);
/* The path it was opened with; belongs to the file. */
const char *pagedb_file_path(const pagedb_file *f);
/* 1 if this handle bypasses the system's cache. */
int pagedb_file_is_direct(const pagedb_file *f);
/* Buffers passed to read and write must be aligned to this many bytes (the
** same whether direct or not: at most 4096). */
uint32_t pagedb_file_alignment(const pagedb_file *f);

/* Memory for n pages of this file, aligned for it; NULL when there is none. */
void *pagedb_file_alloc(const pagedb_file *f, size_t n);
void pagedb_file_free(void *pages);

/* Whole pages in the file now (a torn last page does not count). */
int pagedb_file_count(pagedb_file *f, uint64_t *pages);

/*
** Read page id into page (page_size bytes) and verify it. On a verification
** error the bytes read stand in page, so that they can be examined.
*/
int pagedb_file_read(pagedb_file *f, uint64_t id, void *page, uint64_t *lsn);

/* Stamp page (its record bytes are overwritten) and write it to slot id.
** Beyond the end the file grows; skipped pages are holes, which read as
** PAGEDB_EMAGIC. */
int pagedb_file_write(pagedb_file *f, uint64_t id, uint64_t lsn, void *page);

/* A run of neighbouring pages, each in a buffer of its own. */
typedef struct pagedb_run {
  uint64_t first;     /* page id */
  uint32_t count;     /* 1 .. PAGEDB_RUN_MAX */
  void *const *pages; /* count buffers */
  uint64_t *lsns;     /* count; in for writes; out for reads, where it may be
                          NULL */
  int *errs;          /* count, out; one outcome per page; may be NULL */
  int err;            /* out: the first error of the run, in page order */
} pagedb_run;

enum { PAGEDB_RUN_MAX = 256 };

/*
** Read or write n runs, several at once where the system can (io_uring on
** native page files), each with one vectored call. All runs are tried; the
** result is the first error in the order given, and the fault is that one's.
** A page of a read run that fails verification does not spoil its neighbours.
*/
int pagedb_file_read_runs(pagedb_file *f, pagedb_run *runs, unsigned n);
int pagedb_file_write_runs(pagedb_file *f, pagedb_run *runs, unsigned n);

/*
** Make everything written so far durable. Once a sync has failed the file is
** failed for good: the system may have marked lost pages clean, so every later
** sync is PAGEDB_ESYNC until the file is closed and recovered. Reads and
** writes go on.
*/
int pagedb_file_sync(pagedb_file *f);

/* Cut or extend the file to a number of pages. */
int pagedb_file_truncate(pagedb_file *f, uint64_t pages);

/* ------------------------------------------------------------------- store */

/*
** A store is anything that keeps pages. Pool and allocator know only this.
** An implementation embeds pagedb_store as its first member and fills it in.
** All functions may be called by several threads at once.
*/
typedef struct pagedb_store pagedb_store;
struct pagedb_store {
  uint32_t page_size; /* bytes per page, a power of two, 512 .. 1 MiB */
  uint32_t record_at; /* offset of PAGEDB_RECORD_SIZE bytes of a page that
                         belong to the store; page_size: it needs none */
  const char *name;   /* for messages; belongs to the store */

  /* Read (and verify) n runs; buffers are aligned to the page size or 4096,
  ** whichever is less. As pagedb_file_read_runs. */
  int (*read)(pagedb_store *, pagedb_run *, unsigned n);
  /* Write n runs. The buffers are the caller's private copies: the store may
  ** write its record into them. */
  int (*write)(pagedb_store *, pagedb_run *, unsigned n);
  int (*sync)(pagedb_store *);
  int (*count)(pagedb_store *, uint64_t *pages);
  void (*close)(pagedb_store *);
};

/* Close and free a store (not what stands under it). NULL is fine. */
void pagedb_store_close(pagedb_store *s);

/* A store over a page file, which must outlive it. */
int pagedb_store_of_file(pagedb_file *f, pagedb_store **out);

/* A store in memory, empty. Pages are kept stamped and are verified like a
** file's (leading record). Sync does nothing. */
int pagedb_store_in_memory(uint32_t page_size, pagedb_store **out);

/* -------------------------------------------------------------------- pool */

/*
** A buffer pool keeps pages of any number of stores (its owners) in frames.
** One byte budget rules all of them. A page that is in the pool is found and
** pinned without a lock or system call. Victims are chosen by a clock hand
** that gives every page that was used a second chance. core/README.md tells
** how it works.
*/
typedef struct pagedb_pool pagedb_pool;
typedef struct pagedb_owner pagedb_owner;
typedef struct pagedb_session pagedb_session;

/* No pool has more bytes: addresses of frames are 32 bits, of 512 bytes each. */
#define PAGEDB_POOL_MOST (((uint64_t)1 << 41) - ((uint64_t)32 << 20))

typedef struct pagedb_pool_options {
  uint64_t capacity; /* bytes of page frames; 0: a quarter of the memory that
                        the process may use, at most 1 GiB */
  uint64_t reserve;  /* address space: the most that a later resize can reach;
                        0: four times the capacity, at least 1 GiB, at most
                        half of the memory that the process may use */
} pagedb_pool_options;

/* opt may be NULL. Errors: PAGEDB_ENOMEM (no memory, no addresses),
** PAGEDB_ERANGE (more than PAGEDB_POOL_MOST). */
int pagedb_pool_open(const pagedb_pool_options *opt, pagedb_pool **out);

/* Close. PAGEDB_EBUSY, and nothing done, while owners, sessions or private sets
** are open. */
int pagedb_pool_close(pagedb_pool *pool);

/*
** In a forked child, for a pool of its parent, once, before anything else is
** done with it: it cannot be used there, nor closed. Private frames (caches above
** the pool) then know it. NULL is fine.
*/
void pagedb_pool_forked(pagedb_pool *pool);

/*
** Change the budget while the pool is in use. Shrinking writes dirty pages and
** evicts until the pool fits; pages that are pinned stay, and the rest is
** reclaimed as they are unpinned and frames are needed: *used (may be NULL) is
** what the frames take when the call returns. More than the reserve is
** PAGEDB_ERANGE. When writing fails the new budget stands and that error is
** returned.
*/
int pagedb_pool_resize(pagedb_pool *pool, uint64_t capacity, uint64_t *used);

typedef struct pagedb_pool_stats {
  uint64_t capacity_bytes;
  uint64_t used_bytes;  /* frames that hold or held pages */
  uint64_t table_bytes; /* page tables and frame headers */
  uint64_t resident;    /* pages in the pool */
  uint64_t dirty;       /* of these, not written since their last change */
  uint64_t hits;        /* fetches answered from the pool */
  uint64_t misses;      /* fetches that had to read, or make a page */
  uint64_t evictions;
  uint64_t pages_read; /* from stores, good ones */
  uint64_t read_errors;
  uint64_t pages_written;
  uint64_t write_errors;
  uint64_t writes; /* store write runs: pages_written / writes is depth */
  uint64_t syncs;
  uint64_t exhausted;  /* fetches refused because all was pinned */
  uint64_t hand_steps; /* frames that the clock hand looked at */

  /* Private frames: page caches of single users (SQLite's pcache). Pages and
  ** bytes are now; used_bytes has them but for outside and excess. */
  uint64_t private_pages;
  uint64_t private_bytes;
  uint64_t outside_bytes; /* of memory databases: outside of the budget */
  uint64_t excess_bytes;  /* beyond the budget: pinned, and the user had his
                             share */
  uint64_t private_hits;
  uint64_t private_misses;   /* new pages */
  uint64_t private_taken;    /* pages that the clock hand took; part of
                                evictions */
  uint64_t private_aside;    /* times that the hand met a pinned one, and put it
                                aside */
  uint64_t private_excesses; /* times that a page had to go beyond the budget */
  uint64_t ahead_used;       /* pages that were read ahead and then asked for */
  uint64_t ahead_wasted;     /* the same, and gone without */
  uint64_t private_table_bytes; /* of the users, to find their pages; in no
                                   other number */
} pagedb_pool_stats;

/* Counters since the pool was opened, each one exact at some moment of the
** call. */
void pagedb_pool_stats_get(pagedb_pool *pool, pagedb_pool_stats *out);

/*
** Attach a store. The store must outlive the owner and must not be written
** around the pool. One store, one owner: a second one in the same pool is
** PAGEDB_EBUSY.
*/
int pagedb_owner_open(pagedb_pool *pool, pagedb_store *store,
                      pagedb_owner **out);

/*
** Detach: forget its pages. PAGEDB_EBUSY while pages are pinned or dirty: flush
** or discard first. Dirty ones are all kept then; clean ones may be forgotten.
*/
int pagedb_owner_close(pagedb_owner *o);

/* A session is one thread's (or one connection's) hold on the pool: its pins
** live in it. Closing it with pins left is PAGEDB_EBUSY. */
int pagedb_session_open(pagedb_pool *pool, pagedb_session **out);
int pagedb_session_close(pagedb_session *s);

/*
** A pinned page. Filled by a fetch, handed back with pagedb_unpin; may be
** copied, but is unpinned once. While pinned the page stays where it is.
*/
typedef struct pagedb_pin {
  unsigned char *data; /* page_size bytes, aligned to the lesser of the page
                          size and 4096; 256 bytes after it may be read. The
                          store's record_at says where PAGEDB_RECORD_SIZE bytes
                          are not the caller's: what is put there is lost */
  pagedb_owner *owner;
  pagedb_session *session;
  uint32_t slot;  /* private */
  uint32_t latch; /* private */
  uint32_t
      first; /* 1: the page had been read ahead, and this is the first pin */
} pagedb_pin;

/*
** Pin page id, reading and verifying it if it is not there. Errors: what the
** store's read gives (the page is then not in the pool), PAGEDB_EEXHAUSTED
** when every frame is pinned, PAGEDB_ENOMEM, and a store's write error when
** only dirty pages could make room.
*/
int pagedb_fetch(pagedb_session *s, pagedb_owner *o, uint64_t id,
                 pagedb_pin *pin);

/*
** Pin page id without reading it, for a page that is to be written anew. The
** page comes zeroed, dirty with LSN 0, and latched exclusively: fill it, then
** pagedb_unlatch. PAGEDB_EBUSY if the page is in the pool and pinned. On
** another error (no frame, no memory) earlier changes of the page may be lost.
*/
int pagedb_fetch_new(pagedb_session *s, pagedb_owner *o, uint64_t id,
                     pagedb_pin *pin);

/* Pin only if it is in the pool: 1 and a pin, or 0. */
int pagedb_fetch_resident(pagedb_session *s, pagedb_owner *o, uint64_t id,
                          pagedb_pin *pin);

/* Release the latch, if this pin holds one, and the pin. */
void pagedb_unpin(pagedb_pin *pin);

/* Release one of the session's pins of the page at `data` when the pin itself
** is not at hand. No latch may be held through it. */
void pagedb_unpin_data(pagedb_session *s, void *data);

/*
** Latches order access to the content of a page among threads: many shared
** or one exclusive. They wait. A pin holds at most one latch; a session that
** already holds the page exclusively through another pin is PAGEDB_EMISUSE
** (it would wait for itself). Latch in a fixed order of pages, or use _try
** (PAGEDB_EBUSY instead of waiting), if you hold several.
*/
int pagedb_latch_shared(pagedb_pin *pin);
int pagedb_latch_exclusive(pagedb_pin *pin);
int pagedb_latch_shared_try(pagedb_pin *pin);
int pagedb_latch_exclusive_try(pagedb_pin *pin);
void pagedb_unlatch(pagedb_pin *pin);

/*
** Say that the page was changed, with the LSN that the change has in the
** caller's log (0: none; the page keeps the larger of old and new). The
** exclusive latch must be held (PAGEDB_EMISUSE). Call it before releasing the
** latch; a change that is not marked is lost at the page's eviction.
*/
int pagedb_mark_dirty(pagedb_pin *pin, uint64_t lsn);

/* The LSN of the pinned page: as read, or as last marked. */
uint64_t pagedb_pin_lsn(const pagedb_pin *pin);

/*
** Write the page if it is dirty, and return when it is written (not synced).
** A page that is not in the pool is PAGEDB_OK. The caller may hold the page
** latched.
*/
int pagedb_flush_page(pagedb_session *s, pagedb_owner *o, uint64_t id);

/*
** Write all dirty pages of the owner, in page order, neighbours together. A
** failing page does not stop the others; the first error in page order is
** returned, and that page stays dirty. A page latched exclusively by another
** session is waited for, unless the caller's session holds latches itself:
** then it is skipped and the result is PAGEDB_EBUSY (waiting could deadlock).
*/
int pagedb_flush(pagedb_session *s, pagedb_owner *o);

/*
** Flush, then sync the store: PAGEDB_OK means that every change marked dirty
** before the call is durable. Once a sync of this owner has failed, every
** later checkpoint is PAGEDB_ESYNC (it still writes what is dirty): close
** all, reopen, recover.
*/
int pagedb_checkpoint(pagedb_session *s, pagedb_owner *o);

/* The same for every owner of the pool; all are tried, first error returned. */
int pagedb_pool_flush(pagedb_session *s);
int pagedb_pool_checkpoint(pagedb_session *s);

/*
** Forget page id, changes included, without writing it. Waits for a write of
** it that is under way. Not resident: PAGEDB_OK. Pinned, also by a flush that
** just waits for its latch: PAGEDB_EBUSY.
*/
int pagedb_discard(pagedb_owner *o, uint64_t id);

/* Forget every page >= first. Tries all; PAGEDB_EBUSY if a pinned one stays. */
int pagedb_discard_from(pagedb_owner *o, uint64_t first);

/*
** The store's content was changed by somebody else: forget all pages at once.
** Pins stay valid and keep the old content; a later fetch reads anew.
** PAGEDB_EBUSY, and nothing done, while the owner has dirty pages.
*/
int pagedb_invalidate(pagedb_owner *o);

/*
** Give up what was changed and not written: wait for writes under way, forget
** every change, then forget all pages as pagedb_invalidate does. Pins stay
** valid.
*/
void pagedb_abandon(pagedb_owner *o);

/* 1 if the page is in the pool (it may be gone a moment later). */
int pagedb_resident(pagedb_owner *o, uint64_t id);

/* Pages of this owner that are in the pool, and dirty ones. */
void pagedb_owner_counts(pagedb_owner *o, uint64_t *resident, uint64_t *dirty);

/* ------------------------------------------------------------------- alloc */

/*
** The allocator hands out page ids of a store with leading records, and takes
** them back. Page 0 is its superblock. Ids of freed pages are chained through
** the pages themselves (docs/format.md); the newest freed is handed out first.
**
** What is durable: pagedb_alloc_sync returning PAGEDB_OK makes every
** allocation and every free before it durable. After a power cut the allocator
** opens with a state between its last two syncs' and never hands out an id
** that a successful sync had given away. An id allocated after the last sync
** may be handed out again after a power cut: sync the allocator *before* what
** refers to new pages becomes durable. A freed page may be overwritten from
** the next sync on: free a page only when nothing durable refers to it any
** more.
*/
typedef struct pagedb_alloc pagedb_alloc;

/*
** Open the allocator of a store, which must outlive it. An empty store gets a
** superblock, synced at once. pool_owner (may be NULL) is the store's owner in
** a pool: freed pages are then discarded from it. Errors: PAGEDB_ESUPERBLOCK,
** PAGEDB_ECHAIN, and what read, write and sync give.
*/
int pagedb_alloc_open(pagedb_store *store, pagedb_owner *pool_owner,
                      pagedb_alloc **out);

/* Close without syncing: ids allocated or freed since the last sync go back to
** what that sync said. */
void pagedb_alloc_close(pagedb_alloc *a);

/*
** Hand out an id. Reads and writes nothing as a rule; an id that the durable
** free list holds is first taken off it durably, a batch at a time (one
** superblock write and sync for up to 64 ids), so that a power cut cannot
** leave a used page in the chain. What is left of a batch at a power cut, up
** to 64 ids, is never handed out again. Errors: PAGEDB_EIDS, those of write and
** sync.
*/
int pagedb_alloc_new(pagedb_alloc *a, uint64_t *id);

/*
** Take an id back. 0 or never handed out: PAGEDB_EFREE. Free already:
** PAGEDB_EDOUBLEFREE. Pinned in the pool: PAGEDB_EBUSY. The page's content is
** discarded from the pool. On an error nothing has changed.
*/
int pagedb_alloc_free(pagedb_alloc *a, uint64_t id);

/* One past the largest id ever handed out; ids on the free list. */
uint64_t pagedb_alloc_high_water(pagedb_alloc *a);
uint64_t pagedb_alloc_free_count(pagedb_alloc *a);

/* Make the allocator's state durable. Links of pages that were on the free list
** at the last sync and have not left it since are not written again.
** After a failed sync every later one fails (PAGEDB_ESYNC): reopen. */
int pagedb_alloc_sync(pagedb_alloc *a);

/*
** ----------------------------------------------------------------- CAVEATS
**
** - The page size of a native file is not stored in it. Opening with a wrong
**   one is found out if page 0 is sound; keep it in your own configuration.
** - A CRC finds accidents, not attackers. A lost write (the disk kept the old
**   page, which is consistent in itself) is not found by the record alone.
** - Several pages are not written atomically. Whoever needs that keeps a log
**   (SQLite does), and uses the LSN to know what a page already has.
** - The pool does not order writes by LSN: write-ahead logging is the
**   caller's duty. Log first, mark the page dirty then.
** - After PAGEDB_ESYNC do not retry: what the system could not write it may
**   have forgotten. Close, reopen, recover from your log.
** - Do not use a pool, a session or a file across fork(). The child does not
**   inherit the pool's memory; touching a pinned page there is a crash.
** - A session that holds a page shared through one pin and asks for it
**   exclusively through another waits for itself, for ever.
** - A pin is cheap but not free: while more than 32 pages are pinned through
**   one session, further pins cost a lock each. Every pinned page
**   is a frame that others cannot have.
** - Holding a latch while fetching is fine. Holding one while waiting for
**   another latch can deadlock with a thread that does it the other way round.
** - Handles opened twice on one file do not know each other. Two pools over
**   one file will lose each other's changes.
*/

#ifdef __cplusplus
}
#endif

#endif
