/*
** alloc.c - page ids: handed out, taken back, remembered on disk.
**
** Owns page 0 of its store (the superblock) and the pages on the free list. One
** mutex guards everything, and is held over the I/O of sync: whoever allocates
** meanwhile waits.
**
** IN MEMORY the free ids stand in one vector, oldest freed first:
**
**     chain[0 .. durable)      on the free list of the durable superblock
**     chain[durable .. n)      free, but not on it: freed since the last sync
**                              or taken off it to be handed out
**
** and in a hash set, against freeing twice. The newest is handed out first.
**
** ON DISK the superblock holds head, count and high water; each free page holds
** the next id. The count is what rules: the list is the first `count` pages of
** the chain, and the link of the last of them means nothing. (After a sync it
** says "none", as other implementations want it; in between it may not.) From
** that follow the two write paths:
**
** Handing out an id of chain[0 .. durable). First a superblock with a smaller
** count is written and synced. All bytes of a superblock that ever differ lie
** in its first 64 bytes, so in one sector: a power cut leaves the old one or
** the new one, and both describe a good chain. Only then may the caller write
** to the page. This is done for up to TAKE_OFF ids at once; a power cut loses
** that many ids for good (they are on no list), never more.
**
** Sync. (1) Links of chain[durable .. n) are written into their pages, and the
** link of the last durable page: nothing that the durable superblock counts
** depends on any of them. (2) Sync. (3) The new superblock. (4) Sync. A cut
** before (3) leaves the old list, a cut during (3) the old or the new one, and
** by (2) all links of the new one are there. A page freed since the last sync
** loses its content in (1); pagedb.h tells the caller to free only what nothing
** durable refers to.
**
** A failed write may be repeated, since nothing durable was overwritten that
** the durable state needs, and both superblocks are good. A failed sync may
** not: what became of the writes before it is unknown from then on, so the
** allocator is failed until it is opened again.
*/
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "endian.h"
#include "fault.h"
#include "os.h"
#include "pagedb.h"

#define SUPER_MAGIC   0x42534750u /* bytes P G S B */
#define SUPER_VERSION 1
#define NO_PAGE       UINT64_MAX

enum {
  AT_PAYLOAD = PAGEDB_RECORD_SIZE,
  AT_SUPER_VERSION = 4,
  AT_HEAD = 8,
  AT_NEXT_NEW = 16,
  AT_COUNT = 24,
  TAKE_OFF = 64,          /* ids that leave the durable list at once */
  BUFFER_BYTES = 1 << 20, /* pages written or read with one call ... */
  BATCH_MAX = 256,        /* ... and their most */
  WINDOW = 64             /* pages read at once while the chain is walked */
};

struct pagedb_alloc {
  pagedb_store *store;
  pagedb_owner *owner;
  RANKED_MUTEX(RANK_ALLOC) lock;
  uint64_t next_new;
  uint64_t *chain;
  size_t n;
  size_t room;
  size_t durable;
  int ends;          /* the link of chain[durable-1] on disk says "none" */
  int super_unknown; /* a superblock's write failed: old or new may stand */
  uint64_t *set;     /* open addressing, 0 is empty (page 0 is never free) */
  size_t set_size;
  uint64_t durable_next;
  int sync_failed;
  unsigned char *pages; /* batch pages, aligned */
  size_t batch;
};

static int fail(const pagedb_alloc *a, int err, uint64_t page, uint64_t found,
                uint64_t expected, const char *what)
{
  return pagedb_fault_set(err, 0, a->store->name, page, found, expected, what);
}

/* --------------------------------------------------------- set of free ids */

static size_t set_slot(const pagedb_alloc *a, uint64_t id)
{
  size_t i = (size_t)((id * 0x9E3779B97F4A7C15u) >> 17) & (a->set_size - 1);
  while (a->set[i] != 0 && a->set[i] != id)
    i = (i + 1) & (a->set_size - 1);
  return i;
}

static int set_has(const pagedb_alloc *a, uint64_t id)
{
  return a->set_size > 0 && a->set[set_slot(a, id)] == id;
}

/* Room for one more id in vector and set, so that adding it cannot fail. */
static int make_room(pagedb_alloc *a)
{
  if (a->n == a->room) {
    size_t room = a->room == 0 ? 64 : 2 * a->room;
    uint64_t *chain = realloc(a->chain, room * sizeof *chain);
    if (chain == NULL)
      return fail(a, PAGEDB_ENOMEM, PAGEDB_NONE, 0, 0, "the free list");
    a->chain = chain;
    a->room = room;
  }
  if (a->set_size >= 2 * (a->n + 1))
    return PAGEDB_OK;
  size_t old_size = a->set_size;
  uint64_t *old = a->set;
  uint64_t *set = calloc(old_size == 0 ? 256 : 2 * old_size, sizeof *set);
  if (set == NULL)
    return fail(a, PAGEDB_ENOMEM, PAGEDB_NONE, 0, 0, "the set of free ids");
  a->set = set;
  a->set_size = old_size == 0 ? 256 : 2 * old_size;
  for (size_t i = 0; i < old_size; i++)
    if (old[i] != 0)
      a->set[set_slot(a, old[i])] = old[i];
  free(old);
  return PAGEDB_OK;
}

static void set_add(pagedb_alloc *a, uint64_t id)
{
  a->set[set_slot(a, id)] = id;
}

/* Those behind the gap in the same run move up, or they would not be found. */
static void set_remove(pagedb_alloc *a, uint64_t id)
{
  size_t mask = a->set_size - 1;
  size_t gap = set_slot(a, id);
  a->set[gap] = 0;
  for (size_t i = (gap + 1) & mask; a->set[i] != 0; i = (i + 1) & mask) {
    uint64_t moved = a->set[i];
    a->set[i] = 0;
    a->set[set_slot(a, moved)] = moved;
  }
}

static void push(pagedb_alloc *a, uint64_t id)
{
  a->chain[a->n++] = id;
  set_add(a, id);
}

/* ----------------------------------------------------------------- writing */

static int store_sync(pagedb_alloc *a)
{
  int err = a->store->sync(a->store);
  if (err != PAGEDB_OK)
    a->sync_failed = 1;
  return err;
}

static int write_super(pagedb_alloc *a, size_t count)
{
  uint64_t lsn = 0;
  int one;
  void *page = a->pages;
  unsigned char *p = a->pages + AT_PAYLOAD;
  memset(page, 0, a->store->page_size);
  put_le32(p, SUPER_MAGIC);
  put_le16(p + AT_SUPER_VERSION, SUPER_VERSION);
  put_le64(p + AT_HEAD, count == 0 ? NO_PAGE : a->chain[0]);
  put_le64(p + AT_NEXT_NEW, a->next_new);
  put_le64(p + AT_COUNT, count);
  pagedb_run run = {
      .first = 0, .count = 1, .pages = &page, .lsns = &lsn, .errs = &one};
  return a->store->write(a->store, &run, 1);
}

/* Write a superblock that counts `count` pages of the chain, durably. */
static int commit_super(pagedb_alloc *a, size_t count)
{
  int err = write_super(a, count);
  if (err == PAGEDB_OK)
    err = store_sync(a);
  a->super_unknown = err != PAGEDB_OK;
  /* When it failed, the old or the new superblock may be the durable one. Ids
  ** that either counts must not be handed out as they are. */
  if (err == PAGEDB_OK || count > a->durable)
    a->durable = count;
  if (err == PAGEDB_OK)
    a->durable_next = a->next_new;
  return err;
}

typedef struct link {
  uint64_t id;
  uint64_t next;
} link;

static int by_id(const void *x, const void *y)
{
  uint64_t a = ((const link *)x)->id, b = ((const link *)y)->id;
  return a < b ? -1 : a > b;
}

/* Write links[0..n), n <= batch, neighbours as one run. */
static int write_links(pagedb_alloc *a, const link *links, size_t n)
{
  pagedb_run run[BATCH_MAX];
  void *page[BATCH_MAX];
  uint64_t lsn[BATCH_MAX] = {0};
  int errs[BATCH_MAX];
  unsigned runs = 0;
  uint32_t size = a->store->page_size;
  memset(a->pages, 0, n * size);
  for (size_t i = 0; i < n; i++) {
    page[i] = a->pages + i * size;
    put_le64((unsigned char *)page[i] + AT_PAYLOAD, links[i].next);
    if (i > 0 && links[i].id == links[i - 1].id + 1) {
      run[runs - 1].count++;
      continue;
    }
    run[runs++] = (pagedb_run){.first = links[i].id,
                               .count = 1,
                               .pages = &page[i],
                               .lsns = &lsn[i],
                               .errs = &errs[i]};
  }
  return a->store->write(a->store, run, runs);
}

/* Write the links of chain[from .. n) in page order. */
static int write_chain(pagedb_alloc *a, size_t from)
{
  size_t n = a->n - from;
  int err = PAGEDB_OK;
  link *links = malloc(n * sizeof *links);
  if (links == NULL)
    return fail(a, PAGEDB_ENOMEM, PAGEDB_NONE, 0, 0, "links to write");
  for (size_t i = 0; i < n; i++) {
    links[i].id = a->chain[from + i];
    links[i].next = from + i + 1 < a->n ? a->chain[from + i + 1] : NO_PAGE;
  }
  qsort(links, n, sizeof *links, by_id);
  for (size_t i = 0; i < n && err == PAGEDB_OK; i += a->batch)
    err = write_links(a, links + i, n - i < a->batch ? n - i : a->batch);
  free(links);
  return err;
}

int pagedb_alloc_sync(pagedb_alloc *a)
{
  int err = PAGEDB_OK;
  pthread_mutex_lock(&a->lock);
  /* The first page whose link on disk may not be what it must be: the last
  ** durable one when something follows it now, or followed it before. */
  int clean = a->n == a->durable && (a->ends || a->durable == 0);
  size_t from = a->durable == 0 ? 0 : a->durable - 1;
  if (a->sync_failed)
    err = fail(a, PAGEDB_ESYNC, PAGEDB_NONE, 0, 0, "an earlier sync failed");
  else if (!clean) {
    a->ends = 0;
    err = write_chain(a, from);
    if (err == PAGEDB_OK)
      err = store_sync(a);
    if (err == PAGEDB_OK)
      a->ends = 1;
  }
  if (err == PAGEDB_OK && (a->n != a->durable ||
                           a->next_new != a->durable_next || a->super_unknown))
    err = commit_super(a, a->n);
  pthread_mutex_unlock(&a->lock);
  return err;
}

/* ----------------------------------------------------------------- opening */

/* A window of neighbouring pages, read while the chain is walked. */
typedef struct window {
  uint64_t first;
  uint32_t count;
  int errs[WINDOW];
} window;

/* Read a page and some that follow it; only its own error counts. */
static int window_read(pagedb_alloc *a, window *w, uint64_t id)
{
  void *page[WINDOW];
  uint64_t left = a->next_new - id;
  uint32_t most = a->batch < WINDOW ? (uint32_t)a->batch : WINDOW;
  w->first = id;
  w->count = left < most ? (uint32_t)left : most;
  for (uint32_t i = 0; i < w->count; i++)
    page[i] = a->pages + (size_t)i * a->store->page_size;
  pagedb_run run = {
      .first = id, .count = w->count, .pages = page, .errs = w->errs};
  a->store->read(a->store, &run, 1);
  if (w->errs[0] == PAGEDB_OK)
    return PAGEDB_OK;
  pagedb_fault f = *pagedb_last_fault();
  return pagedb_fault_set(w->errs[0], f.sys, a->store->name, id, f.found,
                          f.expected, "a page of the free list");
}

static int chain_next(pagedb_alloc *a, window *w, uint64_t id, uint64_t *next)
{
  if (w->count == 0 || id < w->first || id - w->first >= w->count ||
      w->errs[id - w->first] != PAGEDB_OK) {
    int err = window_read(a, w, id);
    if (err != PAGEDB_OK)
      return err;
  }
  const unsigned char *page =
      a->pages + (size_t)(id - w->first) * a->store->page_size;
  *next = get_le64(page + AT_PAYLOAD);
  return PAGEDB_OK;
}

/* Follow the chain for `count` links. Nothing that it says is believed: memory
** grows with the links that were really read. */
static int walk_chain(pagedb_alloc *a, uint64_t head, uint64_t count)
{
  window w = {0};
  uint64_t id = head;
  for (uint64_t i = 0; i < count; i++) {
    if (id == NO_PAGE)
      return fail(a, PAGEDB_ECHAIN, 0, i, count, "it ends before its count");
    if (id == 0 || id >= a->next_new)
      return fail(a, PAGEDB_ECHAIN, id, id, a->next_new,
                  "a link leads outside the pages ever used");
    if (set_has(a, id))
      return fail(a, PAGEDB_ECHAIN, id, 0, 0, "a page stands in it twice");
    int err = make_room(a);
    if (err != PAGEDB_OK)
      return err;
    push(a, id);
    err = chain_next(a, &w, id, &id);
    if (err != PAGEDB_OK)
      return err;
  }
  a->durable = a->n;
  a->ends = id == NO_PAGE;
  return PAGEDB_OK;
}

static int read_super(pagedb_alloc *a)
{
  void *page = a->pages;
  const unsigned char *p = a->pages + AT_PAYLOAD;
  pagedb_run run = {.first = 0, .count = 1, .pages = &page};
  int err = a->store->read(a->store, &run, 1);
  if (err != PAGEDB_OK)
    return err;
  if (get_le32(p) != SUPER_MAGIC)
    return fail(a, PAGEDB_ESUPERBLOCK, 0, get_le32(p), SUPER_MAGIC, "magic");
  if (get_le16(p + AT_SUPER_VERSION) != SUPER_VERSION)
    return fail(a, PAGEDB_ESUPERBLOCK, 0, get_le16(p + AT_SUPER_VERSION),
                SUPER_VERSION, "version");
  uint64_t head = get_le64(p + AT_HEAD), count = get_le64(p + AT_COUNT);
  a->next_new = a->durable_next = get_le64(p + AT_NEXT_NEW);
  if (a->next_new == 0 || a->next_new == NO_PAGE || count >= a->next_new)
    return fail(a, PAGEDB_ESUPERBLOCK, 0, count, a->next_new,
                "free count and high water contradict each other");
  if (count == 0 && head != NO_PAGE)
    return fail(a, PAGEDB_ESUPERBLOCK, 0, head, NO_PAGE,
                "a head with nothing to count");
  return walk_chain(a, head, count);
}

/* A power cut while the first superblock was written may leave one page of
** zeros. It holds nothing that could be lost. */
static int is_unborn(const pagedb_alloc *a, uint64_t pages, int err)
{
  size_t i = 0;
  if (pages != 1 || err != PAGEDB_EMAGIC)
    return 0;
  while (i < a->store->page_size && a->pages[i] == 0)
    i++;
  return i == a->store->page_size;
}

static void alloc_free(pagedb_alloc *a)
{
  pthread_mutex_destroy(&a->lock);
  os_aligned_free(a->pages);
  free(a->chain);
  free(a->set);
  free(a);
}

static int alloc_start(pagedb_alloc *a)
{
  uint64_t pages;
  a->batch = BUFFER_BYTES / a->store->page_size;
  if (a->batch > BATCH_MAX)
    a->batch = BATCH_MAX;
  a->pages = os_aligned_alloc(4096, a->batch * a->store->page_size);
  if (a->pages == NULL)
    return fail(a, PAGEDB_ENOMEM, PAGEDB_NONE, 0, 0, "pages to work with");
  int err = a->store->count(a->store, &pages);
  if (err != PAGEDB_OK)
    return err;
  if (pages > 0)
    err = read_super(a);
  if (pages > 0 && !is_unborn(a, pages, err))
    return err;
  a->next_new = 1;
  return commit_super(a, 0);
}

int pagedb_alloc_open(pagedb_store *store, pagedb_owner *owner,
                      pagedb_alloc **out)
{
  pagedb_alloc *a = calloc(1, sizeof *a);
  if (a == NULL)
    return pagedb_fault_set(PAGEDB_ENOMEM, 0, store->name, PAGEDB_NONE, 0, 0,
                            "an allocator");
  a->store = store;
  a->owner = owner;
  pthread_mutex_init(&a->lock, NULL);
  int err = alloc_start(a);
  if (err != PAGEDB_OK) {
    alloc_free(a);
    return err;
  }
  *out = a;
  return PAGEDB_OK;
}

void pagedb_alloc_close(pagedb_alloc *a)
{
  if (a != NULL)
    alloc_free(a);
}

/* -------------------------------------------------------- allocate and free */

/* The newest free id is on the durable list: take a batch off it. */
static int take_off(pagedb_alloc *a)
{
  size_t n = a->n < TAKE_OFF ? a->n : TAKE_OFF;
  if (a->sync_failed)
    return fail(a, PAGEDB_ESYNC, PAGEDB_NONE, 0, 0, "an earlier sync failed");
  a->ends = 0; /* the new last page still points on */
  return commit_super(a, a->n - n);
}

int pagedb_alloc_new(pagedb_alloc *a, uint64_t *id)
{
  int err = PAGEDB_OK;
  pthread_mutex_lock(&a->lock);
  if (a->n == 0 && a->next_new >= NO_PAGE - 1)
    err = fail(a, PAGEDB_EIDS, PAGEDB_NONE, 0, 0, NULL);
  else if (a->n == 0)
    *id = a->next_new++;
  else {
    if (a->n == a->durable)
      err = take_off(a);
    if (err == PAGEDB_OK) {
      *id = a->chain[--a->n];
      set_remove(a, *id);
    }
  }
  pthread_mutex_unlock(&a->lock);
  return err;
}

static int take_back(pagedb_alloc *a, uint64_t id)
{
  if (id == 0 || id >= a->next_new)
    return fail(a, PAGEDB_EFREE, id, 0, 0, NULL);
  if (set_has(a, id))
    return fail(a, PAGEDB_EDOUBLEFREE, id, 0, 0, NULL);
  int err = make_room(a);
  /* A change of the page that reached the disk after the link would tear the
  ** list. */
  if (err == PAGEDB_OK && a->owner != NULL)
    err = pagedb_discard(a->owner, id);
  if (err == PAGEDB_OK)
    push(a, id);
  return err;
}

int pagedb_alloc_free(pagedb_alloc *a, uint64_t id)
{
  pthread_mutex_lock(&a->lock);
  int err = take_back(a, id);
  pthread_mutex_unlock(&a->lock);
  return err;
}

uint64_t pagedb_alloc_high_water(pagedb_alloc *a)
{
  pthread_mutex_lock(&a->lock);
  uint64_t n = a->next_new;
  pthread_mutex_unlock(&a->lock);
  return n;
}

uint64_t pagedb_alloc_free_count(pagedb_alloc *a)
{
  pthread_mutex_lock(&a->lock);
  uint64_t n = a->n;
  pthread_mutex_unlock(&a->lock);
  return n;
}
