/*
** flights.c - read-ahead's own reads: what is to be read, what is under way, and
** what of it enters the pool.
**
** What a connection wants to be read stands in its `plan`, in the order of reading.
** As many neighbours as one read takes set out together, small gaps between them are
** read over: a `flight`. Its frames come from the pool (core/ahead.h), and are
** nobody else's until it lands: its pages are verified, and published if they are
** still true. A chain that somebody waits for does not stand in line: it sets out at
** once; and what belongs to the scan that is waited for comes first. What a scan has
** planned and does not want any more, for it went on elsewhere or is none now, is
** known by its ticket, and not read.
**
** This file owns the plan, the flights and their frames, their queue, and the piece of
** memory that gaps are read into. What is worth a read is readahead.c's business.
**
** WHAT MAY ENTER THE POOL (design: coherence). Demand reads are protected by the
** snapshot of who asks. Read-ahead is not: SQLite did not ask. So
**   - the owner's epoch must be that of the start (core/ahead.h): nobody noticed
**     a change of the file by another process;
**   - in WAL mode salts and backfill must be those of the start, too: no other
**     process has finished a checkpoint in between, noticed or not. One that is
**     under way may have torn the page, but whoever asks for such a page has it in
**     the log until backfill rises;
**   - nothing is under way when SHARED, or the read lock of the WAL, is given up
**     (ahead_stop, RULE_AHEAD). Another process may spill uncommitted pages as soon
**     as it can have EXCLUSIVE, and roll them back: nothing in the header would
**     ever tell;
**   - this process has not written the page since (file_changed): counted after the
**     write, and before a resident copy is renewed.
** A page that does not verify is thrown away without a word: when SQLite asks for
** it, it is read again, and reported.
**
** LOCKS, THREADS. No lock of its own: what is here belongs to a connection, whose
** calls SQLite serialises. Epoch, WAL and writes are looked at once more under the
** pool's lock, right before a page is published (ahead_end). Reads are under way while
** the host does something else, so they go by a lasting queue (os.h), which interrupts
** nothing that the host's thread waits in. Without AIO, and where the file is not
** direct, each read is a plain call at the time when it would have started.
*/
#include "flights.h"

#include <stdlib.h>
#include <string.h>

#include "../core/ahead.h"

enum {
  READ_BYTES = 1 << 20,
  FLYING_BYTES = 16 << 20,
  /* A read of its own takes as long as three or four more pages in another. */
  GAP_BYTES = 12288
};

/* Neighbouring pages on their way in. */
struct flight {
  flight *next;
  os_request request;
  pagedb_owner *owner;
  conn *conn;
  uint32_t size; /* of a page */
  uint64_t first, end;
  uint32_t salt[2];
  uint32_t backfill;
  int held; /* tests: see globals.slow_reads */
  unsigned n;
  ahead_page *page;
  os_iov iov[];
};

/* ----------------------------------------------------------------- flights */

int flights_allowed(const conn *c)
{
  shared *s = c->file;
  if (s->through != NULL || file_failed(s) || c->ckpt ||
      atomic_load(&s->owner) == NULL)
    return 0;
  if (c->no_lock)
    return c->immutable;
  if (c->lock < SQLITE_LOCK_SHARED)
    return 0;
  return !atomic_load(&s->wal) || c->shm != NULL ||
         c->lock == SQLITE_LOCK_EXCLUSIVE;
}

static void note_wal(const conn *c, flight *f)
{
  if (c->shm == NULL)
    return;
  f->salt[0] = c->shm[INDEX_SALT];
  f->salt[1] = c->shm[INDEX_SALT + 1];
  f->backfill = c->shm[INDEX_BACKFILL];
}

/* Under the pool's lock, for ahead_end. */
static int is_still_true(void *arg, const ahead_page *p)
{
  const flight *f = arg;
  const conn *c = f->conn;
  if (!RULE_IS_ON(RULE_AHEAD))
    return 1;
  if (file_changes(c->file, p->page) != p->token)
    return 0;
  return c->shm == NULL || (f->salt[0] == c->shm[INDEX_SALT] &&
                            f->salt[1] == c->shm[INDEX_SALT + 1] &&
                            f->backfill == c->shm[INDEX_BACKFILL]);
}

/* A direct read has what is dirty in the system's cache, of its range, written first,
** and if that fails it may be the only one who is told (os_write_back): a statement's own
** read has its transaction rolled back, and this one nobody would hear of. */
static void note_failed(conn *c, const flight *f)
{
  if (f->request.err == PAGEDB_OK ||
      !txn_wrote(c, f->first * f->size, (f->end - f->first) * f->size))
    return;
  pagedb_fault_set(PAGEDB_ESYNC, f->request.sys, c->file->path, f->first, 0, 0,
                   "pages that were just written cannot be read");
  shared_fail(c->file);
}

/* A flight is back: verify, publish, free it. */
static void flight_land(conn *c, flight *f)
{
  shared *s = c->file;
  int same = f->request.err == PAGEDB_OK &&
             f->size == atomic_load(&s->page_size) &&
             f->owner == atomic_load(&s->owner);
  for (unsigned i = 0; i < f->n; i++) {
    ahead_page *p = &f->page[i];
    uint64_t behind = (p->page - f->first + 1) * f->size;
    p->good = same && f->request.done >= behind &&
              pages_arrived(s, f->size, p->page, p->data, &p->lsn) == PAGEDB_OK;
    if (p->good)
      chain_saw(&c->ahead->chain, p->page, p->data);
  }
  note_failed(c, f);
  ahead_end(f->owner, f->page, f->n, is_still_true, f);
  atomic_fetch_add(&pagedb_globals.count.page_reads, f->n);
  c->ahead->nflights--;
  c->ahead->flying -= (f->end - f->first) * f->size;
  free(f->page);
  free(f);
}

static void flight_start(struct ahead *a, flight *f)
{
  os_queue_submit(a->queue, &f->request, 1);
}

/* Somebody waits for a read that a test has made slow. */
static void flight_release(struct ahead *a, flight *f)
{
  int held = f->held;
  f->held = SLOW_NOT;
  if (held == SLOW_START)
    flight_start(a, f);
}

/* Pages [p, p + n), in order and with small gaps only, set out. 0: no memory,
** and their frames are given back. */
static int flight_begin(conn *c, pagedb_owner *o, uint32_t size,
                        const ahead_page *p, unsigned n)
{
  struct ahead *a = c->ahead;
  uint64_t span = p[n - 1].page - p[0].page + 1;
  flight *f = calloc(1, sizeof *f + span * sizeof f->iov[0]);
  ahead_page *own = malloc(n * sizeof *own);
  if (f == NULL || own == NULL) {
    free(f);
    free(own);
    return 0;
  }
  memcpy(own, p, n * sizeof *own);
  f->page = own;
  f->n = n;
  f->conn = c;
  f->owner = o;
  f->size = size;
  f->first = own[0].page;
  f->end = f->first + span;
  note_wal(c, f);
  unsigned pieces = 0;
  for (unsigned i = 0; i < n; i++) {
    own[i].token = file_changes(c->file, own[i].page);
    for (uint64_t k = i > 0 ? own[i - 1].page + 1 : f->first; k < own[i].page;
         k++)
      f->iov[pieces++] = (os_iov){a->gap, size};
    if (pieces > 0 && f->iov[pieces - 1].base != a->gap &&
        (uint8_t *)f->iov[pieces - 1].base + f->iov[pieces - 1].len ==
            own[i].data)
      f->iov[pieces - 1].len += size;
    else
      f->iov[pieces++] = (os_iov){own[i].data, size};
  }
  f->request = (os_request){.file = io_ahead(c->file, size),
                            .iov = f->iov,
                            .niov = (int)pieces,
                            .off = f->first * size};
  f->next = a->flights;
  a->flights = f;
  a->nflights++;
  a->flying += span * size;
  f->held = pagedb_globals.slow_reads;
  if (f->held != SLOW_START)
    flight_start(a, f);
  return 1;
}

static int is_true_never(void *arg, const ahead_page *p)
{
  (void)arg;
  (void)p;
  return 0;
}

/* ahead_begin left pages out that are there already: begin as many flights as
** that makes. 0: no memory. */
static int flights_begin(conn *c, pagedb_owner *o, uint32_t size, ahead_page *p,
                         unsigned n)
{
  unsigned i, next;
  for (i = 0; i < n; i = next) {
    for (next = i + 1; next < n; next++)
      if ((p[next].page - p[next - 1].page - 1) * size > GAP_BYTES)
        break;
    if (!flight_begin(c, o, size, p + i, next - i)) {
      ahead_end(o, p + i, n - i, is_true_never, NULL);
      return 0;
    }
  }
  return 1;
}

/* -------------------------------------------------------------------- plan */

/* Sort by place in the file, byte by byte of the id: a sweep plans some ten thousand
** pages at once, while its device has nothing to do. `spare` has room for as many; the
** number of passes is even. */
static void plan_sort(planned *p, size_t n, planned *spare)
{
  for (unsigned shift = 0; shift < 32; shift += 8) {
    size_t at[256] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++)
      at[p[i].id >> shift & 255]++;
    for (int b = 0; b < 256; b++) {
      size_t here = at[b];
      at[b] = sum;
      sum += here;
    }
    for (size_t i = 0; i < n; i++)
      spare[at[p[i].id >> shift & 255]++] = p[i];
    planned *from = p;
    p = spare;
    spare = from;
  }
}

/* One past the last page that means something. */
static uint64_t pages_end(shared *s, uint32_t size)
{
  uint64_t bytes = 0, count = atomic_load(&s->count);
  if (io_size(s, &bytes) != PAGEDB_OK)
    return 0;
  return count == 0 || count > bytes / size ? bytes / size : count;
}

void plan_clear(struct ahead *a)
{
  a->plan_at = a->plan_n = 0;
}

/* Whether anybody still wants it. */
static int is_due(const struct ahead *a, const planned *p)
{
  int due = p->ticket == 0;
  for (int i = 0; i < SCANS && !due; i++)
    due = a->scan[i].ticket == p->ticket;
  return due;
}

/* Where the page stands in the plan, and somebody wants it; plan_n: nowhere. */
static size_t plan_find(const struct ahead *a, uint64_t id)
{
  size_t i = a->plan_at;
  while (i < a->plan_n && (a->plan[i].id != id || !is_due(a, &a->plan[i])))
    i++;
  return i;
}

int plan_has(const struct ahead *a, uint64_t id)
{
  return plan_find(a, id) < a->plan_n;
}

/* Somebody waits for what has this ticket: it comes before what others want, which
** may be the rest of a large table. Without memory it does not. */
static void plan_prefer(struct ahead *a, uint32_t ticket)
{
  size_t n = a->plan_n - a->plan_at, from = a->plan_at, others = 0;
  planned *other = malloc(n * sizeof *other);
  if (other == NULL)
    return;
  for (size_t i = from; i < a->plan_n; i++)
    if (a->plan[i].ticket == ticket)
      a->plan[from++] = a->plan[i];
    else
      other[others++] = a->plan[i];
  memcpy(a->plan + from, other, others * sizeof *other);
  free(other);
}

/* Room for n more. Read entries and those that nobody wants any more go first, so
** the plan is at most twice as long as what its scans want. */
static int plan_room(struct ahead *a, size_t n)
{
  if (a->plan_n + n <= a->plan_room)
    return 1;
  size_t kept = 0;
  for (size_t i = a->plan_at; i < a->plan_n; i++)
    if (is_due(a, &a->plan[i]))
      a->plan[kept++] = a->plan[i];
  a->plan_at = 0;
  a->plan_n = kept;
  if (kept + n <= a->plan_room)
    return 1;
  size_t room = (kept + n) * 2;
  planned *more = realloc(a->plan, room * sizeof *more);
  if (more == NULL)
    return 0;
  a->plan = more;
  a->plan_room = room;
  return 1;
}

int flights_have(const struct ahead *a, uint64_t id)
{
  for (const flight *f = a->flights; f != NULL; f = f->next)
    for (unsigned i = 0; id >= f->first && id < f->end && i < f->n; i++)
      if (f->page[i].page == id)
        return 1;
  return 0;
}

/* A page of a file of `end` pages that is worth a read. */
static int is_wanted(uint64_t id, uint32_t size, uint64_t end)
{
  return id * size >= 4096 && id < end && !is_lock_page(id, size);
}

void plan_add(conn *c, const uint32_t *ids, unsigned n, uint32_t ticket)
{
  shared *s = c->file;
  struct ahead *a = c->ahead;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t end = pages_end(s, size);
  if (n == 0 || !plan_room(a, 2 * (size_t)n))
    return;
  size_t from = a->plan_n;
  int sorted = 1;
  for (unsigned i = 0; i < n; i++)
    if (is_wanted(ids[i], size, end)) {
      sorted &= a->plan_n == from || a->plan[a->plan_n - 1].id < ids[i];
      a->plan[a->plan_n++] = (planned){ids[i], ticket};
    }
  if (!sorted)
    plan_sort(a->plan + from, a->plan_n - from, a->plan + a->plan_n);
}

/* The plan's next pages, as many as go into one read; nobody wants the first any
** more, or it is on its way already: 0. */
static unsigned plan_run(const struct ahead *a, uint32_t size, uint64_t *ids)
{
  const planned *p = a->plan + a->plan_at;
  size_t left = a->plan_n - a->plan_at;
  unsigned n = 0, most = READ_BYTES / size;
  if (most > AHEAD_MAX)
    most = AHEAD_MAX;
  while (
      n < left && is_due(a, &p[n]) && !flights_have(a, p[n].id) &&
      (n == 0 || (p[n].id > p[n - 1].id && p[n].id - p[0].id < most &&
                  (p[n].id - p[n - 1].id - 1) * (uint64_t)size <= GAP_BYTES))) {
    ids[n] = p[n].id;
    n++;
  }
  return n;
}

/* --------------------------------------------------------------- under way */

static int gap_ready(struct ahead *a, uint32_t size)
{
  if (a->gap != NULL && a->gap_size >= size)
    return 1;
  if (a->nflights > 0)
    return 0; /* one of them may read into it */
  os_aligned_free(a->gap);
  a->gap = os_aligned_alloc(4096, size);
  a->gap_size = a->gap == NULL ? 0 : size;
  return a->gap != NULL;
}

/* Bytes that may be under way. Frames stay out until their connection calls again:
** who leaves a scan in the middle must not have all that the pool gives. Reads that
** are made at once are waited for. */
static uint64_t flying_most(const struct ahead *a)
{
  uint64_t most = atomic_load(&pagedb_globals.pool_quarter) / 8;
  if (most > FLYING_BYTES)
    most = FLYING_BYTES;
  if (a->queue != NULL && !os_queue_is_async(a->queue) && most > 4 * READ_BYTES)
    most = 4 * READ_BYTES;
  return most < READ_BYTES ? READ_BYTES : most;
}

/* Reads may begin. */
static int is_ready(conn *c, uint32_t size)
{
  struct ahead *a = c->ahead;
  if (a->queue == NULL &&
      os_queue_open_lasting(FLYING_RUNS, &a->queue) != PAGEDB_OK)
    a->queue = NULL;
  return a->queue != NULL && flights_allowed(c) && gap_ready(a, size);
}

static int is_full(const struct ahead *a)
{
  return a->nflights >= FLYING_RUNS || a->flying >= flying_most(a);
}

void flights_feed(conn *c)
{
  struct ahead *a = c->ahead;
  uint32_t size = atomic_load(&c->file->page_size);
  pagedb_owner *o = atomic_load(&c->file->owner);
  ahead_page page[AHEAD_MAX];
  uint64_t ids[AHEAD_MAX];
  if (a->plan_at == a->plan_n)
    return;
  if (!is_ready(c, size)) {
    plan_clear(a);
    return;
  }
  while (a->plan_at < a->plan_n && !is_full(a)) {
    unsigned want = plan_run(a, size, ids), looked;
    if (want == 0) {
      a->plan_at++;
      continue;
    }
    unsigned n = ahead_begin(
        o, ids, want, (a->plan_n - a->plan_at - want) * size, page, &looked);
    a->plan_at += looked;
    if (!flights_begin(c, o, size, page, n))
      looked = 0;
    if (looked < want) {
      /* No frame now. With none of ours under way there will be none later. */
      if (a->nflights == 0)
        plan_clear(a);
      break;
    }
  }
}

uint64_t flights_first(conn *c, chain_part part)
{
  struct ahead *a = c->ahead;
  uint32_t size = atomic_load(&c->file->page_size);
  pagedb_owner *o = atomic_load(&c->file->owner);
  uint64_t end = pages_end(c->file, size), ids[AHEAD_MAX];
  ahead_page page[AHEAD_MAX];
  unsigned want = 0, looked;
  if (is_full(a) || !is_ready(c, size))
    return part.first;
  for (unsigned i = 0; i < part.n; i++)
    if (is_wanted(part.first + i, size, end) &&
        !flights_have(a, part.first + i))
      ids[want++] = part.first + i;
  if (want == 0)
    return part.first + part.n;
  unsigned n = ahead_begin(o, ids, want, 0, page, &looked);
  if (!flights_begin(c, o, size, page, n))
    return part.first;
  return looked < want ? ids[looked] : part.first + part.n;
}

/* Unlink the one that set out first of those that are back. There is one. */
static flight *flight_take(struct ahead *a)
{
  flight **first = &a->flights;
  for (flight **link = first; *link != NULL; link = &(*link)->next)
    if (!(*link)->held && !(*link)->request.flying)
      first = link;
  flight *f = *first;
  *first = f->next;
  return f;
}

/* Wait for one. */
static void flights_wait(struct ahead *a)
{
  int back = 0;
  for (flight *f = a->flights; f != NULL; f = f->next) {
    flight_release(a, f);
    back |= !f->request.flying;
  }
  if (!back)
    os_queue_reap(a->queue, 1);
}

/* What is planned sets out between: a device that gives back many at a time has
** nothing to do else while they are verified. */
void flights_harvest(conn *c, int wait)
{
  struct ahead *a = c->ahead;
  unsigned back = 0;
  if (wait)
    flights_wait(a);
  while (os_queue_reap(a->queue, 0))
    ;
  for (flight *f = a->flights; f != NULL; f = f->next)
    back += !f->held && !f->request.flying;
  for (; back > 0; back--) {
    flight_land(c, flight_take(a));
    flights_feed(c);
  }
  flights_feed(c);
}

int flights_await(conn *c, uint64_t id)
{
  struct ahead *a = c->ahead;
  pagedb_owner *o = atomic_load(&c->file->owner);
  int waited = 0;
  if (a->nflights == 0 && a->plan_at == a->plan_n)
    return 0;
  size_t at = plan_find(a, id);
  if (at < a->plan_n && a->plan[at].ticket != a->plan[a->plan_at].ticket) {
    plan_prefer(a, a->plan[at].ticket);
    at = plan_find(a, id);
  }
  flights_harvest(c, 0);
  /* It may have been on its way when it was planned. */
  while (a->nflights > 0 &&
         (flights_have(a, id) || (a->plan_at <= at && at < a->plan_n)) &&
         !pagedb_resident(o, id)) {
    flights_harvest(c, 1);
    waited = 1;
  }
  return waited;
}

void flights_close(struct ahead *a)
{
  os_queue_close(a->queue);
  free(a->plan);
  os_aligned_free(a->gap);
}
