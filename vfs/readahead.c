/*
** readahead.c - pages that a scan will want, read before SQLite asks.
**
** Direct I/O has no read-ahead of the system's. Here a connection finds out that
** it scans, and keeps reads under way in front of itself:
**
**   trees   A page is missing, and one of the last pages that were asked for is
**           the interior page above it: its children are known from then on, in
**           key order (a `scan`). When the next child but none is asked for, the
**           children after it are read. The children of a page two levels up are
**           interior pages, and a scan themselves: so a scan goes on in the next
**           interior page. What is to be read is sorted by place in the file,
**           neighbours go together, small gaps are read over.
**   chains  A cell of a leaf says that the missing page begins an overflow chain:
**           all of a short one is read at once, a long one in parts (chain.c).
**   runs    Pages whose place in a tree is not known, three in file order, each
**           a little behind the one before: those that follow are read. For chains in
**           a row, and where SQLite has the interior pages itself.
**   sweeps  A scan that with its next window has asked for 1 part in 32 of what is
**           left of it is taken to go on to the end: all the rest, as far as half
**           the pool holds it, is read in file order.
**
** The window doubles whenever it is used up and the next one is on its way: a scan
** that ends early has wasted little. A point lookup asks for one leaf and never for
** the one beside it.
**
** NOTHING OF THIS COSTS A HIT ANYTHING but the noting of its page number: pages
** are looked into only when one is missing, or one that was read ahead is used
** for the first time.
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
** Page numbers come from pages, and are not trusted: out of range, the lock-byte
** page, cycles and nonsense cost a read at worst, and no list is longer than the
** file.
**
** LOCKS, THREADS. A `struct ahead` belongs to its connection, whose calls SQLite
** serialises; it may come in another thread each time. Its reads are under way
** while the host does something else, so they go by a lasting queue (os.h), which
** interrupts nothing that the host's thread waits in. Without AIO, and where the file
** is not direct, each read is a plain call at the time when it would have started. A
** forked child leaves its parent's alone.
*/
#include <stdlib.h>
#include <string.h>

#include "../core/ahead.h"
#include "../core/endian.h"
#include "chain.h"
#include "vfs_int.h"

enum {
  SCANS = 4, /* two joined tables, two levels each */
  SCAN_STALE = 256,
  SCAN_LOOK = 4096, /* children that are looked through, either way */
  WINDOW_MIN = 4,
  WINDOW_BYTES = 16 << 20,
  READ_BYTES = 1 << 20,
  RUN_BYTES = 4 << 20,
  FLYING_BYTES = 16 << 20,
  FLYING_RUNS = 64,
  PARENTS_AHEAD = 16, /* the others are for what is beside them */
  /* A read of its own takes as long as three or four more pages in another. */
  GAP_BYTES = 12288,
  RUN_STEP = 8, /* pages: a run's next one is at most so far behind */
  SWEEP_ASKED = 128,
  SWEEP_PART = 32,
  LINES_NS_MIN = 300,
  LINES_NS_MAX = 50000
};

/* Neighbouring pages on their way in. */
typedef struct flight flight;
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

/* Children of an interior page and of those behind it, in the scan's order. */
typedef struct scan {
  uint64_t parent; /* whose children stand last */
  uint32_t *kid;   /* page ids */
  unsigned n, room;
  unsigned per_page; /* children of the last parent */
  unsigned at;       /* the one that was asked for last */
  unsigned asked;    /* those before were asked for, or are being read */
  unsigned seen;     /* passed in order */
  unsigned window;
  unsigned lead; /* when no more are left that were asked for, more are */
  int reverse;
  uint64_t used; /* when, by ahead.clock */
} scan;

struct ahead {
  os_queue *queue;
  flight *flights;
  unsigned nflights;
  uint64_t flying; /* bytes */
  uint64_t *plan;  /* ids to be read, in the order of reading */
  size_t plan_n, plan_at, plan_room;
  scan scan[SCANS];
  scan found;     /* looked at, not one of them yet */
  uint64_t clock; /* counts what scan.used tells */
  int above;      /* an interior page was asked for, and no leaf since */
  uint64_t run_last, run_asked;
  unsigned run_seen, run_window;
  chain chain;
  uint8_t *gap; /* one page: what nobody wants is read into it */
  uint32_t gap_size;
};

/* ----------------------------------------------------------------- flights */

/* Whether pages read now could be used at all. */
static int allowed(const conn *c)
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

static int by_id(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* One past the last page that means something. */
static uint64_t pages_end(shared *s, uint32_t size)
{
  uint64_t bytes = 0, count = atomic_load(&s->count);
  if (io_size(s, &bytes) != PAGEDB_OK)
    return 0;
  return count == 0 || count > bytes / size ? bytes / size : count;
}

static int plan_room(struct ahead *a, size_t n)
{
  if (a->plan_at == a->plan_n)
    a->plan_at = a->plan_n = 0;
  if (a->plan_at > a->plan_n / 2) {
    memmove(a->plan, a->plan + a->plan_at,
            (a->plan_n - a->plan_at) * sizeof *a->plan);
    a->plan_n -= a->plan_at;
    a->plan_at = 0;
  }
  if (a->plan_n + n <= a->plan_room)
    return 1;
  size_t room = (a->plan_n + n) * 2;
  uint64_t *more = realloc(a->plan, room * sizeof *more);
  if (more == NULL)
    return 0;
  a->plan = more;
  a->plan_room = room;
  return 1;
}

static int is_flying(const struct ahead *a, uint64_t id)
{
  for (const flight *f = a->flights; f != NULL; f = f->next)
    for (unsigned i = 0; id >= f->first && id < f->end && i < f->n; i++)
      if (f->page[i].page == id)
        return 1;
  return 0;
}

/* A page of a file of `end` pages that is worth a read, and is not on its way. */
static int is_wanted(const struct ahead *a, uint64_t id, uint32_t size,
                     uint64_t end)
{
  return id * size >= 4096 && id < end && !is_lock_page(id, size) &&
         !is_flying(a, id);
}

static void plan_add(conn *c, const uint32_t *ids, unsigned n)
{
  shared *s = c->file;
  struct ahead *a = c->ahead;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t end = pages_end(s, size);
  if (n == 0 || !plan_room(a, n))
    return;
  size_t from = a->plan_n;
  int sorted = 1;
  for (unsigned i = 0; i < n; i++)
    if (is_wanted(a, ids[i], size, end)) {
      sorted &= a->plan_n == from || a->plan[a->plan_n - 1] < ids[i];
      a->plan[a->plan_n++] = ids[i];
    }
  if (!sorted)
    qsort(a->plan + from, a->plan_n - from, sizeof *a->plan, by_id);
}

/* How many of the plan's next pages go into one read. */
static unsigned plan_run(const struct ahead *a, uint32_t size)
{
  const uint64_t *id = a->plan + a->plan_at;
  size_t left = a->plan_n - a->plan_at;
  unsigned n = 1, most = READ_BYTES / size;
  if (most > AHEAD_MAX)
    most = AHEAD_MAX;
  while (n < left && id[n] > id[n - 1] &&
         (id[n] - id[n - 1] - 1) * size <= GAP_BYTES && id[n] - id[0] < most)
    n++;
  return n;
}

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

/* Reads may begin. */
static int is_ready(conn *c, uint32_t size)
{
  struct ahead *a = c->ahead;
  if (a->queue == NULL &&
      os_queue_open_lasting(FLYING_RUNS, &a->queue) != PAGEDB_OK)
    a->queue = NULL;
  return a->queue != NULL && allowed(c) && gap_ready(a, size);
}

static int is_full(const struct ahead *a)
{
  return a->nflights >= FLYING_RUNS || a->flying >= FLYING_BYTES;
}

/* Start reading what is planned, as much as may be under way. */
static void feed(conn *c)
{
  struct ahead *a = c->ahead;
  uint32_t size = atomic_load(&c->file->page_size);
  pagedb_owner *o = atomic_load(&c->file->owner);
  ahead_page page[AHEAD_MAX];
  if (a->plan_at == a->plan_n)
    return;
  if (!is_ready(c, size)) {
    a->plan_at = a->plan_n = 0;
    return;
  }
  while (a->plan_at < a->plan_n && !is_full(a)) {
    unsigned want = plan_run(a, size), looked;
    unsigned n =
        ahead_begin(o, a->plan + a->plan_at, want,
                    (a->plan_n - a->plan_at - want) * size, page, &looked);
    a->plan_at += looked;
    if (!flights_begin(c, o, size, page, n))
      looked = 0;
    if (looked < want) {
      /* No frame now. With none of ours under way there will be none later. */
      if (a->nflights == 0)
        a->plan_at = a->plan_n = 0;
      break;
    }
  }
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

/* Land what is back; with `wait`, after waiting for one. What is planned sets out
** between: a device that gives back many at a time has nothing to do else while they
** are verified. */
static void harvest(conn *c, int wait)
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
    feed(c);
  }
  feed(c);
}

static int is_planned(const struct ahead *a, uint64_t id)
{
  for (size_t i = a->plan_at; i < a->plan_n; i++)
    if (a->plan[i] == id)
      return 1;
  return 0;
}

/* The page is on its way in, or will be: wait for it. 0: it is not. */
static int await(conn *c, uint64_t id)
{
  struct ahead *a = c->ahead;
  int waited = 0;
  if (a->nflights == 0 && a->plan_at == a->plan_n)
    return 0;
  harvest(c, 0);
  for (int planned = is_planned(a, id); planned || is_flying(a, id);) {
    if (a->nflights == 0)
      break;
    harvest(c, 1);
    waited = 1;
    planned = planned && is_planned(a, id);
  }
  return waited;
}

/* ------------------------------------------------------------------- trees */

/* Children of an interior page, in key order, as far as they make sense. out has
** room for half as many numbers as the page has bytes. */
static unsigned kids_of(const uint8_t *page, uint32_t size, uint64_t id,
                        uint32_t *out)
{
  uint32_t at = id == 0 ? HEADER_BYTES : 0, n = 0;
  const uint8_t *head = page + at;
  if (head[0] != 2 && head[0] != 5)
    return 0;
  uint32_t cells = get_be16(head + 3);
  if (at + 12 + 2 * cells > size)
    return 0;
  for (uint32_t i = 0; i <= cells; i++) {
    uint32_t cell = i < cells ? get_be16(head + 12 + 2 * i) : at + 8;
    if (cell + 4 > size)
      continue;
    uint32_t kid = get_be32(page + cell);
    if (kid > 1 && kid - 1 != id)
      out[n++] = kid - 1;
  }
  return n;
}

static void turn(uint32_t *kid, unsigned n)
{
  for (unsigned i = 0; i < n / 2; i++) {
    uint32_t k = kid[i];
    kid[i] = kid[n - 1 - i];
    kid[n - 1 - i] = k;
  }
}

static int scan_room(scan *t, unsigned more)
{
  if (t->n + more <= t->room)
    return 1;
  unsigned room = (t->n + more) * 2;
  uint32_t *kid = realloc(t->kid, room * sizeof *kid);
  if (kid == NULL)
    return 0;
  t->kid = kid;
  t->room = room;
  return 1;
}

/* Those that the scan has passed are not needed any more. */
static void scan_trim(scan *t)
{
  unsigned gone = t->at;
  if (gone < 1024 || gone < t->n / 2)
    return;
  memmove(t->kid, t->kid + gone, (t->n - gone) * sizeof *t->kid);
  t->n -= gone;
  t->asked = t->asked > gone ? t->asked - gone : 0;
  t->at = 0;
}

/* Add the children of an interior page that is in the pool. 0: it is not, or is
** something else, or is being renewed: that is not waited for. */
static int scan_append(conn *c, scan *t, uint64_t id)
{
  pagedb_pin pin;
  uint32_t size = atomic_load(&c->file->page_size);
  scan_trim(t);
  if (!scan_room(t, size / 2) ||
      !ahead_look(c->session, atomic_load(&c->file->owner), id, &pin))
    return 0;
  unsigned n = kids_of(pin.data, size, id, t->kid + t->n);
  pagedb_unpin(&pin);
  if (t->reverse)
    turn(t->kid + t->n, n);
  t->n += n;
  t->per_page = n;
  t->parent = id;
  return n > 0;
}

static int scan_has(const scan *t, uint64_t id, unsigned *at)
{
  /* As a rule it is the next one. Far away it is of no use. */
  for (unsigned i = t->at; i < t->n && i - t->at < SCAN_LOOK; i++)
    if (t->kid[i] == id) {
      *at = i;
      return 1;
    }
  for (unsigned i = t->at; i-- > 0 && t->at - i < SCAN_LOOK;)
    if (i < t->n && t->kid[i] == id) {
      *at = i;
      return 1;
    }
  return 0;
}

/* As a rule it is the next one of some scan: that is asked of all of them first. */
static scan *scan_of(struct ahead *a, uint64_t id, unsigned *at)
{
  scan *t = NULL;
  for (int i = 0; i < SCANS && t == NULL; i++) {
    scan *s = &a->scan[i];
    if (s->at + 1 < s->n && s->kid[s->at + 1] == id) {
      *at = s->at + 1;
      t = s;
    }
  }
  for (int i = 0; i < SCANS && t == NULL; i++)
    if (scan_has(&a->scan[i], id, at))
      t = &a->scan[i];
  if (t != NULL)
    t->used = ++a->clock;
  return t;
}

static int is_in_use(const struct ahead *a, const scan *t)
{
  return t->seen > 0 && a->clock - t->used < SCAN_STALE;
}

/* The one to give up for another, but not `keep`: of those that are no scans, or
** none any more, else of all, the one that was not used for longest. */
static scan *scan_victim(struct ahead *a, const scan *keep)
{
  scan *v = NULL;
  for (int i = 0; i < SCANS; i++) {
    scan *t = &a->scan[i];
    if (t == keep)
      continue;
    if (v == NULL || is_in_use(a, t) < is_in_use(a, v) ||
        (is_in_use(a, t) == is_in_use(a, v) && t->used < v->used))
      v = t;
  }
  return v;
}

/* Find the parent of a page among the last that were asked for; *parent. */
static scan *scan_find_parent(conn *c, uint64_t id, const scan *keep,
                              uint64_t *parent)
{
  struct ahead *a = c->ahead;
  scan *t = &a->found, *victim = scan_victim(a, keep);
  unsigned at;
  for (unsigned back = 1; back <= RECENT_PAGES && back <= c->nrecent; back++) {
    uint64_t candidate = c->recent[(c->nrecent - back) % RECENT_PAGES];
    if (candidate == id)
      continue;
    *t = (scan){.kid = t->kid, .room = t->room};
    if (scan_append(c, t, candidate) && scan_has(t, id, &at)) {
      t->at = t->asked = at;
      t->window = WINDOW_MIN / 2;
      t->used = ++a->clock;
      *parent = candidate;
      scan old = *victim;
      *victim = *t;
      *t = old;
      return victim;
    }
  }
  return NULL;
}

/* The page was not among the children known: make it so, and its parent among
** those of the page above. 0: nobody knows its parent. */
static int scan_begin(conn *c, uint64_t id)
{
  unsigned at;
  uint64_t parent;
  const scan *t = scan_find_parent(c, id, NULL, &parent);
  if (t != NULL && scan_of(c->ahead, parent, &at) == NULL)
    scan_find_parent(c, parent, t, &parent);
  return t != NULL;
}

/* The interior page behind the last one of the scan, from the level above. */
static scan *scan_above(struct ahead *a, const scan *t, unsigned *next)
{
  unsigned at;
  scan *up = scan_of(a, t->parent, &at);
  if (up == NULL || up == t)
    return NULL;
  int back = up->reverse != t->reverse;
  if (back ? at == 0 : at + 1 >= up->n)
    return NULL;
  up->seen += up->seen == 0; /* it is needed: no victim */
  *next = back ? at - 1 : at + 1;
  return up;
}

/* The interior pages behind the scan's last one, up->kid[*from, *from + n), among
** which are `want` children. */
static unsigned parents_of(const scan *up, const scan *t, unsigned next,
                           unsigned want, unsigned *from)
{
  unsigned pages = want / (t->per_page + 1) + 1;
  unsigned left = up->reverse == t->reverse ? up->n - next : next + 1;
  unsigned n = left < pages ? left : pages;
  *from = up->reverse == t->reverse ? next : next + 1 - n;
  return n;
}

/* Plan to read those that are needed for a list of `want` children that were not
** asked for, at most `most` (up to FLYING_RUNS) of them now. */
static void parents_plan(conn *c, scan *t, unsigned want, unsigned most)
{
  struct ahead *a = c->ahead;
  pagedb_owner *o = atomic_load(&c->file->owner);
  unsigned next, from, have = t->n - t->asked;
  const scan *up = have < want ? scan_above(a, t, &next) : NULL;
  unsigned n = up == NULL ? 0 : parents_of(up, t, next, want - have, &from);
  uint32_t ids[FLYING_RUNS];
  unsigned absent = 0;
  for (unsigned i = 0; i < n && absent < most; i++) {
    uint32_t id = up->kid[from + i];
    if (!pagedb_resident(o, id) && !is_flying(a, id) && !is_planned(a, id))
      ids[absent++] = id;
  }
  plan_add(c, ids, absent);
}

/*
** Make the list of children that were not asked for `want` long, as far as there
** are so many: read the interior pages that are needed for it, and wait for them.
*/
static void scan_fill(conn *c, scan *t, unsigned want)
{
  unsigned next;
  const scan *up;
  while (t->n - t->asked < want &&
         (up = scan_above(c->ahead, t, &next)) != NULL) {
    uint64_t id = up->kid[next];
    if (!pagedb_resident(atomic_load(&c->file->owner), id) && !await(c, id)) {
      parents_plan(c, t, want, FLYING_RUNS);
      feed(c);
      await(c, id);
    }
    if (!scan_append(c, t, id))
      break;
  }
}

static unsigned most_pages(const conn *c, uint64_t part)
{
  uint32_t size = atomic_load(&c->file->page_size);
  uint64_t bytes = atomic_load(&pagedb_globals.pool_quarter) * 4 / part;
  return (unsigned)(bytes / size > UINT32_MAX / 4 ? UINT32_MAX / 4
                                                  : bytes / size);
}

/* The window after one of so many pages. */
static unsigned window_next(const conn *c, unsigned window, uint32_t most_bytes)
{
  unsigned most = most_bytes / atomic_load(&c->file->page_size);
  if (most > most_pages(c, 8))
    most = most_pages(c, 8);
  return window * 2 < most ? window * 2 : most;
}

/* How many children there may be behind those that were asked for. */
static uint64_t scan_rest(struct ahead *a, const scan *t)
{
  unsigned next;
  const scan *up = scan_above(a, t, &next);
  uint64_t pages = up == NULL                  ? 0
                   : up->reverse != t->reverse ? next + 1
                                               : up->n - next;
  return t->n - t->asked + pages * t->per_page;
}

/* How many children are to be asked for next by a scan that has asked for so many. */
static unsigned scan_wants(conn *c, const scan *t, unsigned asked)
{
  unsigned window = window_next(c, t->window, WINDOW_BYTES);
  if (asked < SWEEP_ASKED)
    return window;
  uint64_t rest = scan_rest(c->ahead, t), half = most_pages(c, 2);
  rest = rest < half ? rest : half;
  int sweeps = ((uint64_t)asked + window) * SWEEP_PART >= rest && rest > window;
  return sweeps ? (unsigned)rest : window;
}

/*
** The scan goes on: while a window is used up, the next is read; where that is the
** rest, none before half of it is. The interior pages that the window after it needs
** set out first: behind this one they would be waited for. Where there is nothing
** more, that is not found out again at each page.
*/
static void scan_extend(conn *c, scan *t)
{
  if (t->asked <= t->at)
    t->asked = t->at + 1;
  unsigned left = t->asked - t->at - 1;
  if (left > t->lead)
    return;
  unsigned want = scan_wants(c, t, t->seen + left);
  t->window = window_next(c, t->window, WINDOW_BYTES);
  t->lead = want > t->window ? want / 2 : want;
  scan_fill(c, t, want);
  unsigned n = t->n - t->asked < want ? t->n - t->asked : want;
  if (n == 0)
    t->lead = left / 2;
  t->asked += n;
  parents_plan(c, t, scan_wants(c, t, t->seen + left + n), PARENTS_AHEAD);
  plan_add(c, t->kid + t->asked - n, n);
  feed(c);
}

/* Whether the child before `at` was one of the last pages that were asked for:
** it was in the pool, so that nothing was seen of it. */
static int came_from_before(const conn *c, const scan *t, unsigned at)
{
  for (unsigned i = 0; i < RECENT_PAGES && i < c->nrecent; i++)
    if (c->recent[i] == t->kid[at - 1])
      return 1;
  return 0;
}

/* Child `at` is asked for. */
static void scan_step(conn *c, scan *t, unsigned at)
{
  if (at == t->at)
    return;
  if (at + 1 == t->at && t->seen == 0) {
    turn(t->kid, t->n);
    t->reverse = !t->reverse;
    t->at = t->asked = t->n - 1 - t->at;
    at = t->at + 1;
  }
  if (at == t->at + 1 || (at > t->at && came_from_before(c, t, at))) {
    t->seen += at - t->at;
    t->at = at;
    scan_extend(c, t);
    return;
  }
  t->at = t->asked = at;
  t->seen = 0;
  t->lead = 0;
  t->window = WINDOW_MIN / 2;
}

/* -------------------------------------------------------------------- runs */

static void run_extend(conn *c)
{
  struct ahead *a = c->ahead;
  uint32_t ids[AHEAD_MAX];
  if (a->run_asked <= a->run_last)
    a->run_asked = a->run_last + 1;
  if (a->run_asked - a->run_last - 1 > a->run_window / 2)
    return;
  a->run_window = window_next(c, a->run_window, RUN_BYTES);
  for (unsigned left = a->run_window; left > 0;) {
    unsigned n = 0;
    for (; n < AHEAD_MAX && left > 0; left--)
      if (a->run_asked < UINT32_MAX)
        ids[n++] = (uint32_t)a->run_asked++;
    plan_add(c, ids, n);
  }
  feed(c);
}

static void run_step(conn *c, uint64_t id)
{
  struct ahead *a = c->ahead;
  int on = a->run_last != 0 && id > a->run_last && id <= a->run_last + RUN_STEP;
  a->run_last = id;
  if (on && ++a->run_seen >= 2) {
    run_extend(c);
  } else if (!on) {
    a->run_seen = 0;
    a->run_asked = 0;
    a->run_window = WINDOW_MIN / 2;
  }
}

/* ------------------------------------------------------------------ chains */

/* Somebody waits for these, or will before he asks for what is planned: start
** reading them at once. Returns where that ends. */
static uint64_t read_first(conn *c, chain_part part)
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
    if (is_wanted(a, part.first + i, size, end))
      ids[want++] = part.first + i;
  if (want == 0)
    return part.first + part.n;
  unsigned n = ahead_begin(o, ids, want, 0, page, &looked);
  if (!flights_begin(c, o, size, page, n))
    return part.first;
  return looked < want ? ids[looked] : part.first + part.n;
}

/* The chain was followed to `id`; `part` of it is worth a read. */
static void chain_step(conn *c, uint64_t id, chain_part part)
{
  struct ahead *a = c->ahead;
  if (part.n > (part.first == id))
    chain_reads(&a->chain, read_first(c, part));
  int runs = id > a->run_last && id < a->run_asked;
  a->run_last = id;
  if (runs)
    run_extend(c);
}

/* Whether the missing page is one of a chain. */
static int chain_missed(conn *c, uint64_t id)
{
  chain *ch = &c->ahead->chain;
  chain_part part;
  if (!chain_follows(c, ch, id, &part)) {
    if (!chain_begins(c, ch, id, &part))
      return 0;
    run_step(c, id);
  }
  chain_step(c, id, part);
  await(c, id);
  return 1;
}

/* A page is missing that no scan leads to: its chains may come with it. */
static void leaf_missed(conn *c, uint64_t id)
{
  chain_part part;
  if (chain_around(c, &c->ahead->chain, id, &part)) {
    read_first(c, part);
    await(c, id);
  }
}

/* --------------------------------------------------------------- the events */

void ahead_missed(conn *c, uint64_t id)
{
  unsigned at;
  if (!allowed(c))
    return;
  if (c->ahead == NULL)
    c->ahead = calloc(1, sizeof *c->ahead);
  if (c->ahead == NULL)
    return;
  await(c, id);
  scan *t = scan_of(c->ahead, id, &at);
  if (t != NULL)
    scan_step(c, t, at);
  else if (chain_missed(c, id))
    return;
  else if (!scan_begin(c, id))
    run_step(c, id);
  if (t == NULL || t->seen == 0)
    leaf_missed(c, id);
}

/* Bring the leaf after this one near the processor. */
static void lines_of_next(conn *c, const scan *t)
{
  if (t->at + 1 < t->n)
    ahead_lines(c->session, atomic_load(&c->file->owner), t->kid[t->at + 1]);
}

static void ahead_used(conn *c, uint64_t id)
{
  struct ahead *a = c->ahead;
  unsigned at;
  if (a == NULL || !allowed(c))
    return;
  if (a->nflights > 0)
    harvest(c, 0);
  chain_part part;
  if (chain_used(c, &a->chain, id, &part)) {
    chain_step(c, id, part);
    return;
  }
  scan *t = scan_of(a, id, &at);
  if (t != NULL) {
    scan_step(c, t, at);
    if (c->lines)
      lines_of_next(c, t);
  } else if (id > a->run_last && id < a->run_asked) {
    a->run_last = id;
    run_extend(c);
  }
}

/* -------------------------------------------------------------- cache lines */

/* A page of the pool begins as a leaf, or as what hangs on one. */
static int is_leaf(conn *c, uint64_t id)
{
  pagedb_pin pin;
  if (!ahead_look(c->session, atomic_load(&c->file->owner), id, &pin))
    return 0;
  uint8_t type = pin.data[0];
  pagedb_unpin(&pin);
  return type == 13 || type == 10 || type == 0;
}

/*
** Whether this is a scan that looks at what is on the pages: leaf after leaf, and
** more time for each than it takes to count its cells.
*/
static void lines_sample(conn *c)
{
  uint64_t now = os_monotonic_ns();
  uint64_t each = (now - c->sampled) / SAMPLE_PAGES;
  int scans = each >= LINES_NS_MIN && each <= LINES_NS_MAX;
  for (int i = 0; scans && i < RECENT_PAGES; i++)
    scans = is_leaf(c, c->recent[i]);
  if (scans && c->ahead == NULL)
    c->ahead = calloc(1, sizeof *c->ahead);
  c->lines = scans && c->ahead != NULL;
  c->sampled = now;
}

/* The leaf after this one will be asked for next. Its parent is known when it was
** met on the way here, once in some hundred leaves. */
static void lines_next(conn *c, uint64_t id, const uint8_t *page)
{
  struct ahead *a = c->ahead;
  if (page[0] == 2 || page[0] == 5) {
    a->above = 1;
    return;
  }
  for (int i = 0; i < SCANS; i++) {
    scan *t = &a->scan[i];
    if (t->at + 1 >= t->n || t->kid[t->at + 1] != id)
      continue;
    t->at++;
    a->above = 0;
    lines_of_next(c, t);
    return;
  }
  if (a->above)
    scan_begin(c, id);
  a->above = 0;
}

void ahead_hit(conn *c, uint64_t id, const pagedb_pin *pin)
{
  if (c->nrecent % SAMPLE_PAGES == 0)
    lines_sample(c);
  if (c->ahead == NULL)
    return;
  if (pin->first)
    ahead_used(c, id);
  else if (c->lines)
    lines_next(c, id, pin->data);
}

/* ----------------------------------------------------------------- the end */

void ahead_wait(conn *c)
{
  struct ahead *a = c->ahead;
  while (a != NULL && a->nflights > 0)
    harvest(c, 1);
}

void ahead_stop(conn *c)
{
  struct ahead *a = c->ahead;
  if (a == NULL || !RULE_IS_ON(RULE_AHEAD) || conn_is_inherited(c))
    return;
  a->plan_at = a->plan_n = 0;
  ahead_wait(c);
  for (int i = 0; i < SCANS; i++) {
    a->scan[i].n = a->scan[i].at = 0;
    a->scan[i].seen = 0;
  }
  a->run_last = a->run_asked = 0;
  a->run_seen = 0;
  chain_forget(&a->chain);
  c->nrecent = 0;
  c->lines = 0;
}

void ahead_close(conn *c)
{
  struct ahead *a = c->ahead;
  if (a == NULL)
    return;
  a->plan_at = a->plan_n = 0;
  ahead_wait(c);
  os_queue_close(a->queue);
  for (int i = 0; i < SCANS; i++)
    free(a->scan[i].kid);
  free(a->found.kid);
  free(a->plan);
  os_aligned_free(a->gap);
  free(a);
  c->ahead = NULL;
}
