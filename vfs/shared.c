/*
** shared.c - a database file as the process sees it, and the process's pool.
**
** Owns the list of shared files and every `shared` on it. A shared file is born
** with its first connection and dies with its last, and its pages in the pool
** with it: what others do to the file while nobody here has it open cannot be
** told from its header alone.
**
** A forked child has the parent's file objects but must not touch the
** descriptors' locks, the pool (its memory is not inherited) or the list:
** after fork `generation` differs, the pool and the list begin empty, and
** connections of the parent's generation answer SQLITE_MISUSE.
*/
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../core/fault.h"
#include "vfs_int.h"

globals pagedb_globals = {.lock = RANKED_MUTEX_INITIALIZER,
                          .lock_byte = PAGEDB_LOCK_BYTE,
                          .behind_bytes = BEHIND_BYTES,
                          .clock = os_wallclock_us};

/* -------------------------------------------------------------------- pool */

#ifndef _WIN32
static void child_begins(void)
{
  pthread_mutex_init(&pagedb_globals.lock, NULL);
  pagedb_pool_forked(atomic_load(&pagedb_globals.pool));
  atomic_store(&pagedb_globals.pool, NULL);
  pagedb_globals.files = NULL;
  atomic_fetch_add(&pagedb_globals.generation, 1);
}

static void watch_fork(void)
{
  static int watched;
  if (!watched)
    pthread_atfork(NULL, NULL, child_begins);
  watched = 1;
}
#else
static void watch_fork(void)
{
}
#endif

static pagedb_pool *pool_make(globals *g)
{
  pagedb_pool_options opt = {.capacity = g->pool_bytes};
  pagedb_pool_stats st;
  pagedb_pool *pool;
  watch_fork();
  if (pagedb_pool_open(&opt, &pool) != PAGEDB_OK)
    return NULL;
  pagedb_pool_stats_get(pool, &st);
  atomic_store(&g->pool_quarter, st.capacity_bytes / 4);
  return pool;
}

pagedb_pool *pool_get(void)
{
  globals *g = &pagedb_globals;
  pagedb_pool *pool = atomic_load(&g->pool);
  if (pool != NULL)
    return pool;
  pthread_mutex_lock(&g->lock);
  pool = atomic_load(&g->pool);
  if (pool == NULL) {
    pool = pool_make(g);
    atomic_store(&g->pool, pool);
  }
  pthread_mutex_unlock(&g->lock);
  return pool;
}

void count_latency(timed kind, uint64_t ns)
{
  unsigned bucket = 63 - (unsigned)__builtin_clzll(ns | 1);
  if (bucket > LATENCY_BUCKETS - 1)
    bucket = LATENCY_BUCKETS - 1;
  atomic_fetch_add_explicit(&pagedb_globals.count.latency[kind][bucket], 1,
                            memory_order_relaxed);
}

/* ------------------------------------------------------------------ header */

void header_parse(const uint8_t *p, size_t n, header *h)
{
  *h = (header){0};
  if (n < HEADER_BYTES || memcmp(p, "SQLite format 3", 16) != 0)
    return;
  uint32_t size = get_be16(p + HEADER_PAGE_SIZE);
  h->page_size = size == 1 ? 65536 : size;
  h->valid = pagedb_page_size_ok(h->page_size, PAGEDB_TRAILING);
  h->reserve = p[HEADER_RESERVE];
  h->write_version = p[GUARD_AT];
  h->guard = guard_is_set(p[GUARD_AT]);
  h->wal = p[HEADER_READ_VERSION] == 2;
  if (get_be32(p + HEADER_CHANGE_COUNTER) ==
      get_be32(p + HEADER_VERSION_VALID_FOR))
    h->count = get_be32(p + HEADER_PAGE_COUNT);
  memcpy(h->version, p + HEADER_CHANGE_COUNTER, VERSION_BYTES);
}

/* ----------------------------------------------------------------- bitmaps */

static int bitmap_grow(bitmap *b, uint64_t words)
{
  uint64_t room = b->words * 2 > words ? b->words * 2 : words + 16;
  uint64_t *more = realloc(b->word, (size_t)room * sizeof *more);
  if (more == NULL)
    return 0;
  memset(more + b->words, 0, (size_t)(room - b->words) * sizeof *more);
  b->word = more;
  b->words = room;
  return 1;
}

void bitmap_add(bitmap *b, uint64_t id)
{
  if (b->all)
    return;
  if (id / 64 >= b->words && !bitmap_grow(b, id / 64 + 1))
    b->all = 1;
  else
    b->word[id / 64] |= (uint64_t)1 << id % 64;
}

int bitmap_has(const bitmap *b, uint64_t id)
{
  if (b->all)
    return 1;
  return id / 64 < b->words && (b->word[id / 64] >> id % 64 & 1) != 0;
}

void bitmap_cut(bitmap *b, uint64_t first)
{
  uint64_t w = first / 64;
  if (w >= b->words)
    return;
  b->word[w] &= ((uint64_t)1 << first % 64) - 1;
  memset(b->word + w + 1, 0, (size_t)(b->words - w - 1) * sizeof *b->word);
}

void bitmap_clear(bitmap *b)
{
  free(b->word);
  *b = (bitmap){0};
}

/* ------------------------------------------------------------------- faults */

static void remember(shared *s, const char *text)
{
  pthread_mutex_lock(&s->lock);
  snprintf(s->last_error, sizeof s->last_error, "%s", text);
  pthread_mutex_unlock(&s->lock);
}

void shared_note(shared *s, const char *text)
{
  snprintf(s->last_error, sizeof s->last_error, "%s: %s", s->path, text);
  sqlite3_log(SQLITE_WARNING, "pagedb: %s", s->last_error);
}

int is_verification(int err)
{
  return err == PAGEDB_EMAGIC || err == PAGEDB_EVERSION || err == PAGEDB_ECRC ||
         err == PAGEDB_EPAGEID || err == PAGEDB_EUNSTAMPED;
}

static const char *advice(int err)
{
  switch (err) {
  case PAGEDB_EMAGIC:
  case PAGEDB_EVERSION:
  case PAGEDB_ECRC:
  case PAGEDB_EPAGEID:
    return "run `pagedb check` on the file, and restore it from a backup";
  case PAGEDB_EUNSTAMPED:
    return "run `pagedb check`, then `pagedb stamp --adopt` to accept pages "
           "that were written without page-db";
  case PAGEDB_EFULL:
    return "free some space and try again";
  case PAGEDB_ERANGE:
    return "raise the limit on the length of files (`ulimit -f`), or move the "
           "database to a file system that takes longer ones";
  case PAGEDB_ESYNC:
    return "close all connections to the file and open it again";
  default:
    return "";
  }
}

void shared_sentence(const pagedb_fault *f, char *buf, size_t n)
{
  pagedb_fault shown = *f;
  if (shown.page != PAGEDB_NONE)
    shown.page++;
  pagedb_fault_message(&shown, buf, n);
}

/* In a line of its own: sqlite3_log cuts what is longer than 210 bytes. */
static void log_advice(const char *text)
{
  if (text[0] != 0)
    sqlite3_log(SQLITE_NOTICE, "pagedb: %s", text);
}

int shared_report(shared *s, int err, int otherwise)
{
  char text[SENTENCE];
  if (err == PAGEDB_OK)
    return SQLITE_OK;
  pagedb_fault f = *pagedb_last_fault();
  if (f.path[0] == 0) {
    fault_set_path(s->path);
    f = *pagedb_last_fault();
  }
  shared_sentence(&f, text, sizeof text);
  remember(s, text);
  int code = err == PAGEDB_EIO ? otherwise : pagedb_err_sqlite(err);
  if (is_verification(err)) {
    atomic_fetch_add(&pagedb_globals.count.failures[err], 1);
    code = SQLITE_IOERR_DATA;
  }
  if (code == SQLITE_NOMEM)
    code = SQLITE_IOERR_NOMEM;
  /* A limit on the length of files: SQLite's TOOBIG is about values, and does not
  ** stop its pager. */
  if (code == SQLITE_TOOBIG)
    code = otherwise;
  sqlite3_log(code, "pagedb: %s", text);
  log_advice(advice(err));
  return code;
}

void shared_fail(shared *s)
{
  char text[SENTENCE];
  if (atomic_exchange(&s->fate->failed, 1))
    return;
  if (pagedb_last_fault()->path[0] == 0)
    fault_set_path(s->path);
  shared_sentence(pagedb_last_fault(), text, sizeof text);
  sqlite3_log(SQLITE_IOERR_FSYNC, "pagedb: %s", text);
  log_advice(advice(PAGEDB_ESYNC));
}

int shared_refuse(shared *s, int code, const char *advice, const char *format,
                  ...)
{
  char text[SENTENCE], whole[SENTENCE];
  va_list args;
  int n = snprintf(text, sizeof text, "%.512s: ", s->path);
  va_start(args, format);
  vsnprintf(text + n, sizeof text - (size_t)n, format, args);
  va_end(args);
  sqlite3_snprintf(sizeof whole, whole, "%s%s%s", text,
                   advice == NULL ? "" : ": ", advice == NULL ? "" : advice);
  remember(s, whole);
  sqlite3_log(code, "pagedb: %s", text);
  log_advice(advice == NULL ? "" : advice);
  return code;
}

/* --------------------------------------------------------------------- LSN */

static void raise_to(_Atomic uint64_t *at, uint64_t lsn)
{
  uint64_t known = atomic_load(at);
  while (lsn > known && !atomic_compare_exchange_weak(at, &known, lsn))
    ;
}

void shared_past_lsn(shared *s, uint64_t lsn)
{
  raise_to(&s->past_lsn, lsn);
}

/* In rollback mode nobody writes while we read. A checkpoint may be under way, and
** write more pages with the LSN of one that it wrote. */
void shared_saw_lsn(shared *s, uint64_t lsn)
{
  raise_to(&s->lsn, lsn);
  if (lsn > 0 && atomic_load(&s->writer) == NULL)
    shared_past_lsn(s, atomic_load(&s->wal) ? lsn - 1 : lsn);
}

uint64_t shared_next_lsn(shared *s)
{
  uint64_t now = pagedb_globals.clock();
  uint64_t known = atomic_load(&s->lsn), next;
  do
    next = (known > now ? known : now) + 1;
  while (!atomic_compare_exchange_weak(&s->lsn, &known, next));
  return next;
}

/* ---------------------------------------------------------------- geometry */

void shared_invalidate(shared *s)
{
  pagedb_owner *o = atomic_load(&s->owner);
  if (o != NULL)
    pagedb_abandon(o);
  atomic_fetch_add(&pagedb_globals.count.invalidations, 1);
}

int shared_set_page_size(shared *s, uint32_t page_size)
{
  if (s->pages != NULL && page_size == atomic_load(&s->page_size))
    return PAGEDB_OK;
  struct pages *fresh = NULL;
  if (page_size != 0) {
    int err = pages_open(s, page_size, &fresh);
    if (err != PAGEDB_OK)
      return err;
  }
  shared_invalidate(s);
  /* A connection may still have a page of the old size pinned, or be about to
  ** look for one: the old owner goes when the file does. */
  if (s->pages != NULL) {
    pages_set_next(s->pages, s->graveyard);
    s->graveyard = s->pages;
  }
  s->pages = fresh;
  atomic_store(&s->owner, fresh == NULL ? NULL : pages_owner(fresh));
  atomic_store(&s->page_size, page_size);
  return PAGEDB_OK;
}

/* ------------------------------------------------------------ birth, death */

static void shared_free(shared *s)
{
  shared_set_page_size(s, 0);
  while (s->graveyard != NULL) {
    struct pages *p = s->graveyard;
    s->graveyard = pages_next(p);
    pages_close(p);
  }
  handles_close(s);
  bitmap_clear(&s->txn.written);
  bitmap_clear(&s->txn.raw);
  pthread_mutex_destroy(&s->bits_lock);
  pthread_mutex_destroy(&s->lock);
  free(s->full_path);
  free(s->path);
  free(s);
}

static int same_file(const shared *a, const shared *b)
{
  if (a->parent != b->parent)
    return 0;
  if (a->full_path != NULL && b->full_path != NULL)
    return strcmp(a->full_path, b->full_path) == 0;
  return a->full_path == NULL && b->full_path == NULL && a->dev == b->dev &&
         a->ino == b->ino;
}

/* Under globals.lock. */
static int fate_get(shared *s)
{
  shared *other = pagedb_globals.files;
  while (other != NULL && !same_file(s, other))
    other = other->next;
  s->fate = other != NULL ? other->fate : calloc(1, sizeof *s->fate);
  if (s->fate == NULL)
    return 0;
  s->fate->refs++;
  return 1;
}

/* Under globals.lock. */
static void fate_put(shared *s)
{
  if (--s->fate->refs == 0)
    free(s->fate);
}

/* The name that the parent gives to the file. */
static int learn_full_path(shared *s)
{
  int n = s->parent->mxPathname + 1;
  s->full_path = calloc(1, (size_t)n);
  if (s->full_path == NULL)
    return 0;
  int rc = s->parent->xFullPathname(s->parent, s->path, n, s->full_path);
  if (rc != SQLITE_OK && rc != SQLITE_OK_SYMLINK)
    sqlite3_snprintf(n, s->full_path, "%s", s->path);
  return 1;
}

static shared *shared_new(sqlite3_vfs *parent, const char *path)
{
  shared *s = calloc(1, sizeof *s);
  size_t bytes = strlen(path) + 1;
  char *copy = malloc(bytes);
  if (s == NULL || copy == NULL) {
    free(s);
    free(copy);
    return NULL;
  }
  s->path = memcpy(copy, path, bytes);
  s->parent = parent;
  s->refs = 1;
  s->generation = atomic_load(&pagedb_globals.generation);
  pthread_mutex_init(&s->lock, NULL);
  pthread_mutex_init(&s->bits_lock, NULL);
  return s;
}

static shared *shared_find(sqlite3_vfs *parent, uint64_t dev, uint64_t ino)
{
  shared *s = pagedb_globals.files;
  while (s != NULL && !(s->registered && s->dev == dev && s->ino == ino &&
                        s->parent == parent))
    s = s->next;
  return s;
}

static int refuse_direct(shared *s)
{
  return shared_refuse(s, SQLITE_CANTOPEN, NULL,
                       "Direct I/O was required (pagedb_direct=required) and "
                       "is not to be had here");
}

/* Under globals.lock: the shared file of a connection that was just opened. */
static int shared_get(conn *c, sqlite3_vfs *parent, int fd, int flags,
                      direct_policy policy, shared **out)
{
  uint64_t dev = 0, ino = 0;
  int known = fd_identity(fd, &dev, &ino);
  int read_only = (flags & SQLITE_OPEN_READWRITE) == 0;
  int sharing = known && !c->no_lock && c->parent->pMethods->iVersion >= 2;
  shared *s = sharing ? shared_find(parent, dev, ino) : NULL;
  int rc = SQLITE_OK;
  if (s != NULL) {
    s->refs++;
    if (!s->writable && !read_only)
      rc = handles_open(s, 0, policy);
    if (rc == SQLITE_OK && !s->writable && !read_only)
      rc = shared_refuse(s, SQLITE_CANTOPEN, NULL,
                         "opened for reading by another connection; no "
                         "descriptor for writing is to be had");
    if (rc != SQLITE_NOMEM && policy == DIRECT_REQUIRED &&
        atomic_load(&s->direct) == NULL)
      rc = refuse_direct(s);
    *out = s;
    return rc;
  }
  s = shared_new(parent, c->name);
  if (s == NULL)
    return SQLITE_NOMEM;
  s->dev = dev;
  s->ino = ino;
  if ((!known && !learn_full_path(s)) || !fate_get(s)) {
    shared_free(s);
    return SQLITE_NOMEM;
  }
  if (known)
    rc = handles_open(s, read_only, policy);
  if (atomic_load(&s->buffered) == NULL)
    s->through = c->parent;
  s->registered = sharing && s->through == NULL;
  s->next = pagedb_globals.files;
  pagedb_globals.files = s;
  *out = s;
  if (rc == SQLITE_OK && policy == DIRECT_REQUIRED &&
      atomic_load(&s->direct) == NULL)
    rc = refuse_direct(s);
  return rc;
}

int shared_attach(conn *c, sqlite3_vfs *parent, int fd, int flags,
                  direct_policy policy)
{
  globals *g = &pagedb_globals;
  pagedb_pool *pool = pool_get();
  if (pool == NULL)
    sqlite3_log(SQLITE_NOMEM,
                "pagedb: this process has no room for a pool (%s): "
                "PAGEDB_POOL_SIZE asks for a smaller one",
                pagedb_last_fault()->what);
  if (pool == NULL || pagedb_session_open(pool, &c->session) != PAGEDB_OK)
    return SQLITE_NOMEM;
  pthread_mutex_lock(&g->lock);
  int rc = shared_get(c, parent, fd, flags, policy, &c->file);
  if (c->file != NULL) {
    c->next = c->file->conns;
    c->file->conns = c;
  }
  pthread_mutex_unlock(&g->lock);
  if (rc != SQLITE_OK)
    shared_detach(c);
  return rc;
}

static void conns_remove(shared *s, conn *c)
{
  conn **link = &s->conns;
  while (*link != c)
    link = &(*link)->next;
  *link = c->next;
}

static void files_remove(shared *s)
{
  shared **link = &pagedb_globals.files;
  while (*link != s)
    link = &(*link)->next;
  *link = s->next;
}

void shared_detach(conn *c)
{
  shared *s = c->file;
  ahead_close(c);
  behind_close(c);
  early_stop(c);
  if (s != NULL) {
    pthread_mutex_lock(&pagedb_globals.lock);
    conns_remove(s, c);
    int last = --s->refs == 0;
    if (last) {
      files_remove(s);
      fate_put(s);
    }
    pthread_mutex_unlock(&pagedb_globals.lock);
    if (last)
      shared_free(s);
  }
  pagedb_session_close(c->session);
  os_aligned_free(c->bounce);
  c->file = NULL;
  c->session = NULL;
  c->bounce = NULL;
}
