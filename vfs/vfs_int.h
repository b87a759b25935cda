/*
** vfs_int.h - the inside of the VFS `pagedb`, shared by its files.
**
**   init.c      entry points: loadable, static; the page cache's installation
**   host.c      sqlite3_config of the SQLite that runs us
**   vfs.c       the sqlite3_vfs: open and what goes straight to the parent
**   shared.c    one database file of the process, whatever connections it has
**   handle.c    descriptors: how they are learnt, made direct, closed
**   io.c        bytes of a database file, through descriptors or the parent
**   pages.c     pages of a database file, as the pool wants them: verify, stamp
**   lock.c      locks and shared memory; is what the pool holds still true?
**   read.c      xRead, xFetch
**   readahead.c pages that a scan will want, read before it asks
**   flights.c   the reads that this takes: planned, under way, into the pool
**   chain.c     which pages of an overflow chain those are
**   write.c     xWrite, xTruncate, xSync: the write transaction and its join
**   behind.c    pages that go out while the transaction goes on
**   join.c      what happens at the join: which pages get stamps
**   checkpoint.c  writes of a WAL checkpoint; the observer of WAL files
**   early.c     a checkpoint's pages begin to go to the disk while it goes on
**   control.c   xFileControl, PRAGMAs
**   stamp.c     stamping and unstamping a whole file
**   btree.c     which table or index a page belongs to; how long a chain is
**   sql.c       SQL functions and tables
**
** TWO OBJECTS. A `conn` is one sqlite3_file: a connection's handle, with its
** parent's handle for locks and shared memory. A `shared` is a database file:
** its descriptors for data, its geometry, its owner in the pool, the state that
** the pool's pages belong to, and the write transaction, of which there is at
** most one. Connections of the process to one file share one `shared`, if the
** file can be told apart by device and inode; else each has its own. What all of
** them share in any case, as far as the path tells, is its `fate`.
**
** LOCKS. Order: globals.lock, shared->lock, then core's or shared->bits_lock.
**
**   globals.lock   the list of shared files, the pool's birth, the lists of
**                  connections
**   shared->lock   geometry, state
**   bits_lock      the bitmaps of the transaction. Of its own, because a thread
**                  that holds shared->lock may wait for the end of a write of
**                  the pool, and that write marks bits.
**
** core/lock_order.h has the ranks, and checks them in debug builds.
**
** What a connection does under SQLite's EXCLUSIVE lock (txn) needs no lock of
** ours, but for what the pool may ask on another thread's behalf while it makes
** room: pages_write() in pages.c.
*/
#ifndef VFS_INT_H
#define VFS_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <sqlite3ext.h>
#ifndef PAGEDB_SQLITE_API_HERE
SQLITE_EXTENSION_INIT3
#endif

#include "../core/guard.h"
#include "../core/os.h"
#include "../core/pagedb.h"

typedef struct conn conn;
typedef struct shared shared;
typedef struct handle handle;
typedef struct behind behind;
typedef struct early early;

/* --------------------------------------------------------------- the header */

/* Of a database's first 100 bytes, what we look at. Offsets by the SQLite file
** format, section 1.3. */
enum {
  HEADER_BYTES = 100,
  HEADER_PAGE_SIZE = 16,
  HEADER_READ_VERSION = 19,
  HEADER_RESERVE = 20,
  HEADER_CHANGE_COUNTER = 24,
  HEADER_PAGE_COUNT = 28,
  HEADER_FREE_TRUNK = 32,
  HEADER_COOKIE = 40,
  HEADER_VERSION_VALID_FOR = 92,
  VERSION_BYTES = 16 /* at 24: what SQLite compares */
};

/* Words of the wal-index: salts, and how many frames are in the file (walformat,
** section 2). */
enum { INDEX_SALT = 8, INDEX_BACKFILL = 24 };

typedef struct header {
  int valid;          /* a database's, with a possible page size */
  uint32_t page_size; /* bytes */
  uint32_t reserve;
  uint8_t write_version; /* with the guard, if there is one */
  int guard;
  int wal;        /* journal mode WAL, says the header */
  uint32_t count; /* pages, by bytes 28..31; 0: not to be believed */
  uint8_t version[VERSION_BYTES];
} header;

void header_parse(const uint8_t *page1, size_t n, header *h);

/* A stamped file: all its pages carry records, and page 1 the guard. */
static inline int header_stamped(const header *h)
{
  return h->valid && h->guard && h->reserve == PAGEDB_RECORD_SIZE;
}

/* ------------------------------------------------------------------ objects */

/* A set of page ids. */
typedef struct bitmap {
  uint64_t *word;
  uint64_t words;
  int all; /* no memory: every id counts as a member */
} bitmap;

void bitmap_add(bitmap *b, uint64_t id);
int bitmap_has(const bitmap *b, uint64_t id);
/* Take out every id >= first. */
void bitmap_cut(bitmap *b, uint64_t first);
void bitmap_clear(bitmap *b);

typedef enum txn_kind {
  TXN_FORWARD, /* RESERVED was taken: new content */
  TXN_PLAYBACK /* EXCLUSIVE alone: a hot journal is played back */
} txn_kind;

/* The write transaction in rollback mode, from its first write to its end. */
typedef struct txn {
  txn_kind kind;
  int joined;        /* a join, and no COMMIT_PHASETWO since */
  int over;          /* the join found what there was at the start */
  int unjoined;      /* writes since the last join */
  int foreign;       /* a page had a tail that is neither zero nor ours */
  int replacing;     /* a stamped file got a page that cannot be stamped */
  int guard_later;   /* the guard is to be set once the commit is done */
  int unguard_later; /* the same, to be taken off */
  int start_stamped; /* when it began */
  uint32_t start_size;
  uint64_t start_bytes;
  uint64_t start_count; /* durable page count */
  uint8_t start_head[HEADER_BYTES];
  uint64_t end;         /* bytes: where the file ends once all is written */
  uint64_t since_flush; /* bytes taken in since the last early flush */
  uint64_t in_order;    /* the same: those that came in the file's order */
  uint64_t at;          /* where the last one ended */
  uint64_t lsn;
  uint32_t unit;  /* bytes for which a member of the bitmaps stands */
  bitmap written; /* by this transaction */
  bitmap raw;     /* went to disk without a stamp */
} txn;

/* What the content of the pool belongs to (design: coherence). */
typedef struct state {
  int valid;
  int wal_valid;
  uint64_t bytes;
  uint8_t version[VERSION_BYTES];
  uint32_t salt[2];
  uint32_t backfill;
} state;

/* What a connection did with its journal since it has its lock. */
typedef enum journal_use {
  JOURNAL_UNSEEN,
  JOURNAL_HOT,    /* opened as one that exists: it is played back */
  JOURNAL_CREATED /* opened to be written */
} journal_use;

/* Bytes of a sentence about a file, its path included. */
enum { SENTENCE = 1024 };

/* A file of the process whose sync failed is so for all connections to it. */
typedef struct fate {
  unsigned refs;      /* under globals.lock */
  _Atomic int failed; /* a sync failed: sticky */
} fate;

/* Counts of writes to pages, by page number modulo this. */
enum { CHANGE_COUNTS = 1024 };

/* globals.behind_bytes, but in tests. */
enum { BEHIND_BYTES = 4 << 20 };

/* The last pages that a connection asked for; every how many it is looked into
** whether it scans. */
enum { RECENT_PAGES = 4, SAMPLE_PAGES = 256 };
#define HIT_IS_NEWS(c, pin)                                                    \
  (((int)(pin)->first | (c)->lines | ((c)->nrecent % SAMPLE_PAGES == 0)) != 0)

/* How pages go out. */
typedef enum out_mode { OUT_RAW, OUT_STAMP } out_mode;

struct shared {
  shared *next;
  unsigned refs;
  unsigned generation; /* of the process: a forked child has another */
  sqlite3_vfs *parent;
  char *path;
  char *full_path; /* as the parent has it: without device and inode only */
  int registered;  /* found by (dev, ino); else one connection's own */
  uint64_t dev, ino;

  /* handle.c: descriptors. All NULL in parent mode. */
  handle *handles;
  _Atomic(handle *) buffered;
  _Atomic(handle *) direct;
  os_geometry geometry; /* of the direct handle */
  int writable;
  sqlite3_file *through; /* parent mode: the connection's parent handle */

  RANKED_MUTEX(RANK_SHARED) lock;
  RANKED_MUTEX(RANK_BITS) bits_lock; /* txn.written, txn.raw */
  conn *conns;
  state state;
  /* Another number once `state` may be another one. Raised under lock, before. */
  _Atomic uint64_t state_number;
  _Atomic int
      stamped; /* as the file is on disk; also when its header is broken:
                       ** page 1 then does not verify */
  _Atomic int guard_is_left;  /* the guard of a stamped file that was replaced
                              ** is still in page 1 on disk */
  _Atomic uint32_t page_size; /* 0: unknown, the file is empty or not ours */
  _Atomic uint64_t count;     /* durable pages, by page 1; 0: not known */
  _Atomic int chunks;         /* somebody asked for SQLITE_FCNTL_CHUNK_SIZE */
  _Atomic int wal;            /* page 1 on disk says journal mode WAL */
  _Atomic uint64_t lsn;       /* newest known, or given to pages to come */
  _Atomic uint64_t past_lsn;  /* newest that no page to come will have */
  fate *fate;
  _Atomic(pagedb_owner *) owner;
  struct pages *pages;     /* the owner's store */
  struct pages *graveyard; /* of earlier geometries */

  /* The writer's business. */
  _Atomic int out;        /* out_mode of pages that leave the pool now */
  _Atomic int unsure;     /* pages on disk may have no stamp yet (txn.raw) */
  _Atomic(conn *) writer; /* of txn; NULL: none */
  txn txn;

  conn *ckpt_holder;  /* of the WAL's CKPT lock */
  conn *write_holder; /* of the WAL's WRITE lock */
  uint64_t ckpt_lsn;
  unsigned wal_conns; /* with shm mapped and SHARED held */

  /* io.c: what this process wrote. */
  _Atomic uint32_t changed[CHANGE_COUNTS];
  _Atomic uint32_t changed_all;

  int lost_guard;       /* that was said already; under lock */
  int lost_guard_known; /* looked for, with a header of that version */
  uint8_t lost_guard_version[VERSION_BYTES];
  char last_error[SENTENCE]; /* for pagedb_files; under lock */
};

/* What a connection keeps apart, and yes and no in bytes. SQLite takes three times
** the size of a `conn` for each, since the handles of its journals get as much;
** with more than 220 bytes dbstatus.test finds a connection too large. */
typedef struct conn_rest {
  state seen; /* file->state when it had that number */
  uint64_t seen_number;
  uint8_t head[HEADER_BYTES];
  unsigned head_bytes;
  char vacuum_schema[64]; /* the last schema's name while VACUUM ran */
  int vacuum_schemas;     /* and how many there were; 0: not known */
  int nregions;
  volatile uint32_t **regions; /* of the wal-index: all that are mapped */
  int idle; /* samples until conn.lines may be set, if that did not pay */
  uint64_t sampled;    /* when the last sample ended, ns */
  uint64_t each;       /* ns a page in it */
  uint64_t bare;       /* the same without lines, when they were begun with */
  uint64_t early_left; /* bytes of a checkpoint until it is told of more */
  int log_synced;      /* since a checkpoint began */
} conn_rest;

struct conn {
  sqlite3_file base;
  sqlite3_file *parent; /* locks, shared memory, control */
  conn_rest *rest;      /* behind the parent's handle, in one piece of memory */
  const char *name;
  shared *file;
  pagedb_session *session;
  conn *next;
  sqlite3 **db; /* from SQLITE_FCNTL_PDB; NULL: unknown */
  sqlite3_int64 mmap_limit;
  int fetched; /* pages that SQLite has by xFetch */
  int lock;    /* SQLITE_LOCK_* that we hold */
  journal_use journal;
  int verify;
  /* Who says that no plain database is read; NULL: nobody. */
  const char *need_stamps;
  uint8_t reserved;    /* RESERVED was taken, or there was a join, since NONE */
  uint8_t read_only;   /* as granted */
  uint8_t want_stamps; /* ask for reserved bytes in new databases */
  uint8_t overwrite;   /* the file is written anew: VACUUM, a foreign backup */
  uint8_t asked;       /* did so */
  uint8_t nested;      /* a PRAGMA of ours runs inside one of the user's */
  uint8_t no_lock;     /* nolock=1 or immutable=1: no lock calls will come */
  uint8_t shared_cache; /* other threads may use this connection's file */
  uint8_t other_parent; /* its URI named the VFS below */
  uint8_t immutable;
  uint8_t fresh; /* rest->head holds what a read of the header would give */
  uint8_t size_known; /* size is the file's: since SHARED was obtained, no other
                      ** lock was */
  uint8_t wal_check;  /* a WAL read lock was taken: compare at the barrier */
  uint8_t shared_wal; /* counted in file->wal_conns */
  uint8_t ckpt;       /* between CKPT_START and CKPT_DONE */
  uint64_t size;
  volatile uint32_t *shm;        /* first region of the wal-index, or NULL */
  uint64_t recent[RECENT_PAGES]; /* ids asked for last */
  unsigned nrecent;
  uint8_t above; /* the last page of xFetch was an interior one */
  uint8_t
      lines; /* a scan reads what is on its pages: samples until that is looked
                 ** into again; 0: it does not */
  struct ahead *ahead;   /* flights.h; NULL: nothing yet */
  behind *behind;        /* behind.c; NULL: nothing yet */
  early *early;          /* early.c; NULL: nothing yet */
  unsigned char *bounce; /* 64 KiB, aligned, made when needed */
};

static inline int file_failed(const shared *s)
{
  return atomic_load(&s->fate->failed);
}

/* ----------------------------------------------------------------- globals */

enum { LATENCY_BUCKETS = 40, FAULT_KINDS = 32 };

typedef enum timed { TIMED_READ, TIMED_WRITE, TIMED_SYNC, TIMED_KINDS } timed;

typedef struct counters {
  _Atomic uint64_t latency[TIMED_KINDS][LATENCY_BUCKETS]; /* log2 of ns */
  _Atomic uint64_t page_reads;
  _Atomic uint64_t page_writes;
  _Atomic uint64_t write_calls;
  _Atomic uint64_t syncs;
  _Atomic uint64_t joins;
  _Atomic uint64_t flushes_behind; /* while SQLite went on */
  _Atomic uint64_t invalidations;
  _Atomic uint64_t bounces; /* reads and writes around a full pool */
  _Atomic uint64_t failures[FAULT_KINDS]; /* verification, by pagedb_err */
} counters;

/* For tests only: a rule that is switched off must make its test fail. */
enum {
  RULE_COMPARE = 1,    /* state at SHARED */
  RULE_BARRIER = 2,    /* wal-index at the barrier, not at the lock */
  RULE_OWN_CKPT = 4,   /* backfill is ours under CKPT only, not under WRITE */
  RULE_CONTINUITY = 8, /* unknown when nobody watched */
  RULE_ABANDON = 16,   /* dirty pages die with the lock */
  RULE_FORK = 32,      /* a child does not touch its parent's handles */
  RULE_HOLES = 64,     /* pages that nobody wrote become stamped zero pages */
  RULE_LEAVES = 128,   /* torn free leaves are mended after a playback */
  RULE_STAMPS = 256,   /* all stamps are durable before the guard is written */
  RULE_GUARD = 512,    /* the guard comes, and goes, after the commit */
  RULE_JOURNAL = 1024, /* the last journal is gone for good before stamping */
  RULE_AHEAD = 2048 /* read-ahead ends with the lock that it was made under */
};
/* For tests: read-ahead that nobody waits for is not done, or does not come back.
*/
enum { SLOW_NOT, SLOW_START, SLOW_END };
#define RULE_IS_ON(r) ((pagedb_globals.rules_off & (r)) == 0)

typedef struct globals {
  RANKED_MUTEX(RANK_GLOBALS) lock;
  _Atomic(pagedb_pool *) pool;   /* once made it stays */
  uint64_t pool_bytes;           /* wanted; 0: core's default */
  _Atomic uint64_t pool_quarter; /* bytes: more than this is not kept dirty */
  shared *files;
  _Atomic unsigned generation;
  _Atomic unsigned other_parents; /* connections with other_parent */
  counters count;
  /* Where SQLite has its lock byte: asked at each open, since its test suite
  ** moves it. */
  _Atomic uint64_t lock_byte;
  int (*pcache_is_ours)(void); /* SQLite's page cache is the pool's */
  uint64_t (*clock)(void);     /* wall clock, microseconds */
  void (*progress)(unsigned long long done,
                   unsigned long long all); /* pages; may be NULL */
  uint64_t behind_bytes; /* in order, that begin a write behind; tests */
  unsigned rules_off;    /* tests */
  void (*after_wal_read_lock)(void); /* tests */
  int slow_reads;                    /* tests */
} globals;

extern globals pagedb_globals;

/* In a forked child, for a connection of its parent. */
static inline int conn_is_inherited(const conn *c)
{
  return RULE_IS_ON(RULE_FORK) &&
         c->file->generation != atomic_load(&pagedb_globals.generation);
}

/* The page that has byte `off`. Sizes are powers of two, and a division takes a
** quarter of the time of a hit. */
static inline uint64_t page_of(uint64_t off, uint32_t size)
{
  return off >> __builtin_ctz(size);
}

/* The page with the lock byte: never stamped, verified, filled or counted. */
static inline int is_lock_page(uint64_t id, uint32_t size)
{
  return id == page_of(atomic_load_explicit(&pagedb_globals.lock_byte,
                                            memory_order_relaxed),
                       size);
}

/* The process's pool, made at first use; NULL: no memory. */
pagedb_pool *pool_get(void);
void count_latency(timed kind, uint64_t ns);

/* ------------------------------------------------------------------ vfs.c */

extern sqlite3_vfs pagedb_vfs;
int vfs_register(const char *parent_name, int make_default);
/* The conn of an open sqlite3_file, or NULL if it is not one of ours. */
conn *conn_of(sqlite3_file *f);
/* The conn of the main database with that file name pointer, or NULL. */
conn *conn_by_name(const char *name);

/* --------------------------------------------------------------- handle.c */

/* Take over the parent's fstat; once per process. */
void capture_install(sqlite3_vfs *parent);
/* Open through the parent; *fd is the descriptor, or -1 where none was seen. */
int capture_open(sqlite3_vfs *parent, const char *name, sqlite3_file *f,
                 int flags, int *out_flags, int *fd);

/* Device and inode of an open file; 0 where they cannot be told. */
int fd_identity(int fd, uint64_t *dev, uint64_t *ino);

typedef enum direct_policy {
  DIRECT_AUTO,
  DIRECT_REQUIRED,
  DIRECT_OFF
} direct_policy;

/* Descriptors of s for data; SQLITE_OK also when there are none (parent mode,
** buffered): ask s->buffered and s->direct. SQLITE_NOMEM, and nothing changed,
** when there is no memory: that is no reason to do without for good. */
int handles_open(shared *s, int read_only, direct_policy policy);
void handles_close(shared *s);
os_file *handle_os(handle *h);
sqlite3_file *handle_file(handle *h);

/* --------------------------------------------------------------- shared.c */

/* Attach a connection (its parent is open) to its file. */
int shared_attach(conn *c, sqlite3_vfs *parent, int fd, int flags,
                  direct_policy policy);
void shared_detach(conn *c);
/* Under s->lock: pages have this size from now on; frames of another size are
** forgotten. 0: unknown. */
int shared_set_page_size(shared *s, uint32_t page_size);
void shared_invalidate(shared *s);
/* Under s->lock: log what was found out about the file, and remember it for
** pagedb_files. */
void shared_note(shared *s, const char *text);
/* Log the thread's fault, remember it for pagedb_files, and return the SQLite
** code for it; `otherwise` for plain I/O errors. */
int shared_report(shared *s, int err, int otherwise);
/* What was written may be lost, by the thread's fault: as if a sync had failed. Logged
** here, for who asks later is told that it failed, not why. Any thread; takes no lock. */
void shared_fail(shared *s);
/* 1 if err says that a page is not what it should be. */
int is_verification(int err);
/* A fault as a sentence, pages counted from 1 as SQLite does. */
void shared_sentence(const pagedb_fault *f, char *buf, size_t n);
/* The same for a refusal in words. advice: what to do, or NULL; it gets a line of
** the log for itself, which sqlite3_log would cut off behind a long path. */
int shared_refuse(shared *s, int code, const char *advice, const char *format,
                  ...);
/* For pages that are about to be written; then one that a page in the file has;
** then: no more pages will be written with it. */
uint64_t shared_next_lsn(shared *s);
void shared_saw_lsn(shared *s, uint64_t lsn);
void shared_past_lsn(shared *s, uint64_t lsn);

/* ------------------------------------------------------------------- io.c */

/* Bytes of the file through the system's cache. *got < n only at the end. */
int io_read(shared *s, void *buf, size_t n, uint64_t off, size_t *got);
int io_write(shared *s, const void *buf, size_t n, uint64_t off);
/* Whole pages, gathered; read by Direct I/O where it is in use and fits, written
** through the system's cache. */
int io_read_pages(shared *s, os_iov *iov, int n, uint64_t off, size_t *got);
int io_write_pages(shared *s, os_iov *iov, int n, uint64_t off);
/* The disk may begin with these bytes, which were written: a hint. If they cannot be
** written the file has failed (file_failed). */
void io_write_back(shared *s, uint64_t off, uint64_t n);
/* One page of the file's size as it is on disk, into an aligned buffer. */
int io_read_page(shared *s, uint64_t id, void *buf, size_t *got);
int io_size(shared *s, uint64_t *bytes);
/* flags as xSync has them. */
int io_sync(shared *s, int flags);
/* 1 if pages of this size go by Direct I/O. */
int io_is_direct(const shared *s, uint32_t page_size);
/* The first bytes of the file; zeroes behind its end. */
int io_header(shared *s, uint8_t *buf, size_t *got);
/* The same, HEADER_BYTES of it, and what they say. */
int header_read(shared *s, uint8_t *buf, header *h);

/* The file to read pages ahead from, as a whole; NULL in parent mode. */
os_file *io_ahead(shared *s, uint32_t page_size);
/* Bytes [off, off+n) were written, by whatever way. */
void file_changed(shared *s, uint64_t off, uint64_t n);
/* A number that is another one once the page was written since. */
uint32_t file_changes(shared *s, uint64_t id);

/* ---------------------------------------------------------------- pages.c */

int pages_open(shared *s, uint32_t page_size, struct pages **out);
pagedb_owner *pages_owner(struct pages *p);
/* 0 and the list unchanged if somebody still has a page pinned. */
int pages_close(struct pages *p);
struct pages *pages_next(struct pages *p);
void pages_set_next(struct pages *p, struct pages *next);
/*
** One page around the pool into buf (aligned): read and, if `verify`, verified;
** in a stamped file its tail is zeroed and the guard removed.
*/
int pages_read_one(shared *s, uint64_t id, void *buf, int verify);
/* One page around the pool from buf (aligned, private; the stamp and the guard
** are put into it). */
int pages_write_one(shared *s, uint64_t id, void *buf, uint64_t lsn,
                    out_mode out);
/* A page that came in by another way than the pool's: as SQLite sees it, or an
** error. */
int pages_arrived(shared *s, uint32_t size, uint64_t id, uint8_t *page,
                  uint64_t *lsn);
/*
** While a transaction that began on a stamped file has pages on disk without
** stamps, page 1 keeps the guard, whatever it says otherwise: whoever plays the
** journal back then knows what the file was.
*/
void keep_guard(const shared *s, uint8_t *page1);
/* Put the stamp into a private copy of a page, and the guard into page 1. */
void stamp_out(uint8_t *page, uint32_t size, uint64_t id, uint64_t lsn);
/* 1 if all n bytes are zero. */
int all_zero(const uint8_t *p, size_t n);
/* Whether a tail is one that SQLite or we made: zeroes, or our magic. */
int tail_is_ours(const uint8_t *page, uint32_t page_size);
/* Verify a raw page of a stamped file; names a page without stamp as such. */
int pages_verify(const shared *s, const void *page, size_t len,
                 uint32_t page_size, uint64_t id, uint64_t *lsn);
/* A 64 KiB aligned buffer of the connection; NULL: no memory. */
void *conn_bounce(conn *c);

/* ----------------------------------------------------------------- lock.c */

int x_lock(sqlite3_file *f, int level);
int x_unlock(sqlite3_file *f, int level);
int x_check_reserved(sqlite3_file *f, int *out);
int x_shm_map(sqlite3_file *f, int region, int bytes, int extend,
              void volatile **out);
int x_shm_lock(sqlite3_file *f, int offset, int n, int flags);
void x_shm_barrier(sqlite3_file *f);
int x_shm_unmap(sqlite3_file *f, int delete_it);
/* The schema name of the connection's file; NULL if it is not to be found. Only
** while the connection's own call is under way, whose mutex is held. */
const char *conn_schema(conn *c);
/* Ask SQLite, once, for 32 reserved bytes in this database. */
void ask_for_reserve(conn *c);
/* SHARED for a call that SQLite may make without a lock: taken if nobody has it
** here. *taken goes to unlock_after. */
int lock_for_now(conn *c, int *taken);
void unlock_after(conn *c, int taken);
/* Compare what the pool holds with the file, as at a new SHARED lock. */
int state_check(conn *c);
/* What we just wrote is the state: page 1's bytes (NULL: as they were), size.
 */
void state_ours(shared *s, const uint8_t *version);
void state_forget(shared *s);
/* The same after one page, without asking the system for the size. */
void state_grew(shared *s, const uint8_t *version, uint64_t end);
/* A plain file's page 1, when SQLite reads it (a hot journal has been played back
** by then): say it if the file was a stamped one. */
void look_for_lost_guard(shared *s, const uint8_t *page1, size_t n);
/* The record of a page on disk, if it has one with its own number. */
int read_record(shared *s, uint32_t size, uint64_t id, pagedb_record *r,
                int *has);
/* From page 1 on disk: stamped, page size, count. Under s->lock. */
int state_learn(shared *s, const header *h);

/* ---------------------------------------------------------------- read.c */

int x_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 off);
int x_fetch(sqlite3_file *f, sqlite3_int64 off, int n, void **out);
int x_unfetch(sqlite3_file *f, sqlite3_int64 off, void *page);

/* ----------------------------------------------------------- readahead.c */

/* SQLite asks for a page that is not in the pool: read on, if this is a scan. The
** page may be there afterwards. */
void ahead_missed(conn *c, uint64_t id);
/* SQLite asked for a page that is in the pool, and HIT_IS_NEWS. */
void ahead_hit(conn *c, uint64_t id, const pagedb_pin *pin);
/* Before a lock is given up: nothing is under way afterwards, and what was known
** of scans is forgotten. */
void ahead_stop(conn *c);
/* Wait for what is under way, and let those pages in that are still true. */
void ahead_wait(conn *c);
void ahead_close(conn *c);

/* --------------------------------------------------------------- write.c */

int x_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 off);
int x_truncate(sqlite3_file *f, sqlite3_int64 bytes);
int x_sync(sqlite3_file *f, int flags);
int x_file_size(sqlite3_file *f, sqlite3_int64 *bytes);
/* The transaction is over: committed, or whatever it left is given up. */
void txn_committed(conn *c);
/* A transaction of this connection wrote to the file, and is not over. */
int txn_goes_on(const conn *c);
/* It wrote some of the bytes [off, off+n), and they are not yet known to be durable. */
int txn_wrote(conn *c, uint64_t off, uint64_t n);
void txn_abandon(conn *c);
/* The whole file is being written anew: only the join knows what it becomes. */
void txn_overwrite(conn *c);
/* VACUUM is about to do so. */
void txn_vacuum(conn *c);
/* Write dirty pages that stand in the way of bytes [off, off+n) and forget
** them. */
int write_settle(conn *c, uint64_t off, uint64_t n);
/* The pool has the page as it was just written: in the frame that has it, or in one
** that is to be had for nothing. */
void frame_refresh(conn *c, uint64_t id, const void *page, uint64_t lsn);
/* Bytes [off, off+n) through the system's cache, around the pool. */
int write_through(conn *c, const void *buf, uint64_t n, uint64_t off);

/* --------------------------------------------------------------- behind.c */

/* Begin to write what is dirty of the file, and return. 0: not now. By the
** writer, like all of these. */
int behind_start(conn *c);
/* Nothing is under way afterwards. */
void behind_wait(conn *c);
/* The same, and the transaction is over: so are its errors. */
void behind_over(conn *c);
/* 1 if something could not be written, from its end until behind_flush. */
int behind_failed(conn *c);
/* Write all that is dirty; nothing is under way afterwards. */
int behind_flush(conn *c);
void behind_close(conn *c);

/* ---------------------------------------------------------------- join.c */

int txn_join(conn *c);
/* A file that is no longer stamped must not say so. Not synced. */
int remove_guard(conn *c);
/* How many pages count: what page 1 says, or, where it is not to be believed,
** all that the file has. */
uint64_t durable_end(uint64_t count, uint64_t bytes, uint32_t page_size);
/*
** Before a page 1 that counts more pages goes to disk: pages [from, to) that
** are neither in `written` nor sound become stamped zero pages. *filled counts
** them. With blank_only what is there and not zero stays as it is: in WAL mode a
** partial checkpoint may have brought pages in, and left page 1 for later.
*/
int fill_holes(conn *c, uint64_t from, uint64_t to, const bitmap *written,
               int blank_only, uint64_t lsn, uint64_t *filled);
/* Free leaves of the list that page 1 on disk names, and that are not sound,
** become stamped zero pages. SQLite defines no content for them. One that can be
** neither read nor written does not keep it from the others. */
int mend_leaves(conn *c, const uint8_t *page1, uint64_t lsn);

/* ---------------------------------------------------------- checkpoint.c */

/* Add the pages of the WAL's frames (from, to] to the set, by the wal-index: those
** of the first `end` pages. */
void wal_pages(conn *c, uint32_t from, uint32_t to, uint64_t end, bitmap *set);
/* The same of all frames whose pages the file may not have. */
void wal_pending(conn *c, uint64_t end, bitmap *set);
void ckpt_start(conn *c);
void ckpt_done(conn *c);
int ckpt_write(conn *c, const void *buf, int n, uint64_t off);
/* Open a WAL of c's database through the observer. */
int wal_observe(sqlite3_file *f, conn *c, sqlite3_vfs *parent, const char *name,
                int flags, int *out_flags);
int wal_file_bytes(void);

/* ---------------------------------------------------------------- early.c */

/* A checkpoint begins. */
void early_start(conn *c);
/* It wrote bytes [off, off+n), through the system's cache, and behind those before. */
void early_wrote(conn *c, uint64_t off, uint64_t n);
/* It is over: nothing is under way afterwards. */
void early_stop(conn *c);

/* ------------------------------------------------------------- control.c */

int x_control(sqlite3_file *f, int op, void *arg);
/* "67108864", "64MiB", "1G": bytes; of more than a number can be, the greatest;
** -1: it is no size. */
sqlite3_int64 parse_bytes(const char *s);

/* --------------------------------------------------------------- stamp.c */

/* The work of PRAGMA pagedb_stamp, pagedb_stamp=adopt, pagedb_unstamp,
** pagedb_unstamp=force. *message (sqlite3_malloc'd) says what was done or why
** not. */
int stamp_file(conn *c, int adopt, char **message);
int unstamp_file(conn *c, int force, char **message);
/* Before page1 (a private copy), of a plain file that keeps 32 bytes free, goes
** over one that has a record: give it one, too. */
int keep_release(shared *s, uint8_t *page1, uint32_t size, uint64_t lsn);
/*
** The end of the last transaction's journal (its deletion, or a truncate) may
** not be durable yet. SQLite makes it so with the next journal; what writes
** without one must do it first: its syncs could make durable what came after
** (VACUUM's truncate), while a power cut brings the journal back. Under
** EXCLUSIVE. An SQLite code.
*/
int end_journal(conn *c);

/* ----------------------------------------------------------------- sql.c */

int sql_register(sqlite3 *db, char **message);

#endif
