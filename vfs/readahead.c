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
**   sweeps  A scan that has passed SWEEP_SEEN pages, and with its next window has
**           asked for 1 part in SWEEP_PART of what is left of it, is taken to go on to
**           the end: all the rest, as far as half the pool holds it, is read in file
**           order. One that began with the first page of its tree, or the last, is
**           taken to do so sooner: WHOLE_SEEN, WHOLE_PART.
**
** The window doubles whenever it is used up and the next one is on its way: a scan
** that ends early has wasted little. It stops at WINDOW_UNSURE pages where a sweep
** only waits for more pages to be passed: in a scattered table each of them is a read
** of its own. A point lookup asks for one leaf and never for the one beside it.
**
** How they are read, and what of it may enter the pool: flights.c.
**
** NOTHING OF THIS COSTS A HIT ANYTHING but the noting of its page number: pages
** are looked into only when one is missing, or one that was read ahead is used
** for the first time.
**
** Page numbers come from pages, and are not trusted: out of range, the lock-byte
** page, cycles and nonsense cost a read at worst, and no list is longer than the
** file.
**
** LOCKS, THREADS. A `struct ahead` belongs to its connection, whose calls SQLite
** serialises; it may come in another thread each time. It is made when it is
** first needed, and freed by ahead_close; scans and runs in it are this file's. A
** forked child leaves its parent's alone.
*/
#include <stdlib.h>
#include <string.h>

#include "../core/ahead.h"
#include "../core/endian.h"
#include "flights.h"

enum {
  SCAN_STALE = 256,
  SCAN_LOOK = 4096, /* children that are looked through, either way */
  WINDOW_MIN = 4,
  WINDOW_BYTES = 16 << 20,
  RUN_BYTES = 4 << 20,
  PARENTS_AHEAD = 16, /* the others are for what is beside them */
  RUN_STEP = 8,       /* pages: a run's next one is at most so far behind */
  WINDOW_UNSURE = 64, /* pages: what a device takes at a time */
  SWEEP_SEEN = 384,
  SWEEP_PART = 32,
  WHOLE_SEEN = 128,
  WHOLE_PART = 64,
  LINES_NS_MIN = 300,
  LINES_NS_MAX = 50000,
  LINES_SAMPLES = 64,
  LINES_PAGE_MAX = 8192, /* of larger ones a row is a small part */
  LINE = 64
};

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

static uint32_t ticket_next(struct ahead *a)
{
  a->tickets += a->tickets == UINT32_MAX ? 2 : 1; /* not 0 */
  return a->tickets;
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
      t->ticket = ticket_next(a);
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
    if (!pagedb_resident(o, id) && !flights_have(a, id) && !plan_has(a, id))
      ids[absent++] = id;
  }
  plan_add(c, ids, absent, t->ticket);
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
    if (!pagedb_resident(atomic_load(&c->file->owner), id) &&
        !flights_await(c, id)) {
      parents_plan(c, t, want, FLYING_RUNS);
      flights_feed(c);
      flights_await(c, id);
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

/* A scan from an end of its table is not to be waited for as long as another. */
static unsigned scan_window(const conn *c, const scan *t)
{
  unsigned window = t->window;
  if (t->whole && window >= WINDOW_MIN && window < WINDOW_UNSURE)
    window *= 2;
  return window_next(c, window, WINDOW_BYTES);
}

/* How many children are to be asked for next by a scan that has passed, and asked
** for, so many. A range of the size of a window, in a small pool, is no sweep: that
** takes pages that were passed. Where all but the number of pages that were passed
** speaks for a sweep, what is read page by page until then is lost time. */
static unsigned scan_wants(conn *c, const scan *t, unsigned seen,
                           unsigned asked)
{
  unsigned window = scan_window(c, t);
  uint64_t part = t->whole ? WHOLE_PART : SWEEP_PART;
  uint64_t rest = scan_rest(c->ahead, t), half = most_pages(c, 2);
  rest = rest < half ? rest : half;
  if (((uint64_t)asked + window) * part < rest || rest <= window)
    return window;
  if (seen >= (t->whole ? WHOLE_SEEN : SWEEP_SEEN))
    return (unsigned)rest;
  return window < WINDOW_UNSURE ? window : WINDOW_UNSURE;
}

/*
** The scan goes on: while a window is used up, the next is read; where that is the
** rest, none before half of it is, and what was planned page by page is planned with
** it. The interior pages that the window after it needs set out first: behind this one
** they would be waited for. Where there is nothing more, that is not found out again
** at each page.
*/
static void scan_extend(conn *c, scan *t)
{
  if (t->asked <= t->at)
    t->asked = t->at + 1;
  unsigned left = t->asked - t->at - 1;
  if (left > t->lead)
    return;
  unsigned window = scan_window(c, t);
  unsigned want = scan_wants(c, t, t->seen, t->seen + left);
  t->window = want < window ? want : window;
  t->lead = want > window ? want / 2 : want;
  if (want > window) {
    t->ticket = ticket_next(c->ahead);
    t->asked -= left;
    want += left;
  }
  scan_fill(c, t, want);
  unsigned n = t->n - t->asked < want ? t->n - t->asked : want;
  t->asked += n;
  unsigned ahead = t->asked - t->at - 1;
  if (ahead == left)
    t->lead = left / 2;
  unsigned next = ahead > t->lead ? ahead - t->lead : 0;
  parents_plan(c, t, scan_wants(c, t, t->seen + next, t->seen + ahead),
               PARENTS_AHEAD);
  plan_add(c, t->kid + t->asked - n, n, t->ticket);
  flights_feed(c);
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

/* Whether no interior page beside the scan's one comes before it. */
static int is_first(struct ahead *a, const scan *t)
{
  unsigned at;
  const scan *up = scan_of(a, t->parent, &at);
  return up == NULL || (up->reverse == t->reverse ? at == 0 : at + 1 == up->n);
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
    if (t->seen == 0)
      t->whole = t->at == 0 && is_first(c->ahead, t);
    t->seen += at - t->at;
    t->at = at;
    scan_extend(c, t);
    return;
  }
  t->at = t->asked = at;
  t->ticket = ticket_next(c->ahead);
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
    plan_add(c, ids, n, 0);
  }
  flights_feed(c);
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

/* The chain was followed to `id`; `part` of it is worth a read. */
static void chain_step(conn *c, uint64_t id, chain_part part)
{
  struct ahead *a = c->ahead;
  if (part.n > (part.first == id))
    chain_reads(&a->chain, flights_first(c, part));
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
  flights_await(c, id);
  return 1;
}

/* A page is missing that no scan leads to: its chains may come with it. */
static void leaf_missed(conn *c, uint64_t id)
{
  chain_part part;
  if (chain_around(c, &c->ahead->chain, id, &part)) {
    flights_first(c, part);
    flights_await(c, id);
  }
}

/* --------------------------------------------------------------- the events */

void ahead_missed(conn *c, uint64_t id)
{
  unsigned at;
  if (!flights_allowed(c))
    return;
  if (c->ahead == NULL)
    c->ahead = calloc(1, sizeof *c->ahead);
  if (c->ahead == NULL)
    return;
  flights_await(c, id);
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
  if (a == NULL || !flights_allowed(c))
    return;
  if (a->nflights > 0)
    flights_harvest(c, 0);
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

/* How many of the last pages are leaves, or hang on one; what hangs on one counts only
** where nothing else was met: a lookup of a long row begins with interior pages. 0 too
** if there is no memory for what comes next. */
static int recent_leaves(conn *c)
{
  int leaves = 0, hanging = 0;
  for (int i = 0; i < RECENT_PAGES; i++) {
    int type = page_type(c, c->recent[i]);
    leaves += type == 13 || type == 10;
    hanging += type == 0;
  }
  if (c->ahead == NULL)
    c->ahead = calloc(1, sizeof *c->ahead);
  if (c->ahead == NULL)
    return 0;
  return leaves + hanging == RECENT_PAGES ? RECENT_PAGES : leaves;
}

/*
** Whether this is a scan, or a range, that looks at what is on the pages: leaf after
** leaf, and more time for each than it takes to count its cells. A sample may be long
** because the thread did not run: of two in a row the shorter one counts. To bring
** lines near takes time as well: if two samples with them are not clearly shorter,
** nothing is brought for some. It pays when they are: count(*) never gains by it.
** After some with lines there is one without, and that is looked into anew.
*/
static void lines_sample(conn *c)
{
  uint64_t now = os_monotonic_ns(), last = c->rest->each;
  uint64_t each = (now - c->rest->sampled) / SAMPLE_PAGES;
  uint64_t least = each < last ? each : last;
  c->rest->sampled = now;
  c->rest->each = each;
  if (c->rest->idle > 0) {
    c->rest->idle--;
  } else if (c->lines == 0) {
    if (least < LINES_NS_MIN || least > LINES_NS_MAX ||
        recent_leaves(c) < RECENT_PAGES - 1)
      return;
    c->lines = LINES_SAMPLES;
    c->rest->bare = least;
  } else if (c->lines == LINES_SAMPLES - 1 &&
             least > c->rest->bare - c->rest->bare / 8) {
    c->lines = 0;
    c->rest->idle = LINES_SAMPLES;
  } else {
    /* A range begins with interior pages. */
    c->lines = recent_leaves(c) >= RECENT_PAGES / 2 ? c->lines - 1 : 0;
    if (c->lines == 0)
      c->rest->each = c->rest->bare;
  }
}

/* Loads, which nobody but the processor waits for, and it does many at a time. With
** prefetches alone, of this page or the next, a scan of a scattered table takes half
** as long again as with these, and twice as long as with both. */
static void load_lines(const conn *c, const uint8_t *page)
{
  uint32_t size = atomic_load(&c->file->page_size);
  for (uint32_t at = 0; at < size && size <= LINES_PAGE_MAX; at += LINE)
    (void)*(const volatile uint8_t *)(page + at);
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
  else if (c->lines) {
    load_lines(c, pin->data); /* first: the next leaf's can wait */
    lines_next(c, id, pin->data);
  }
}

/* ----------------------------------------------------------------- the end */

void ahead_wait(conn *c)
{
  struct ahead *a = c->ahead;
  while (a != NULL && a->nflights > 0)
    flights_harvest(c, 1);
}

void ahead_stop(conn *c)
{
  struct ahead *a = c->ahead;
  if (a == NULL || !RULE_IS_ON(RULE_AHEAD) || conn_is_inherited(c))
    return;
  plan_clear(a);
  ahead_wait(c);
  for (int i = 0; i < SCANS; i++) {
    a->scan[i].n = a->scan[i].at = 0;
    a->scan[i].seen = 0;
  }
  a->run_last = a->run_asked = 0;
  a->run_seen = 0;
  chain_forget(&a->chain);
  c->nrecent = 0;
  c->lines = c->rest->idle = 0;
  c->rest->each = 0;
}

void ahead_close(conn *c)
{
  struct ahead *a = c->ahead;
  if (a == NULL)
    return;
  plan_clear(a);
  ahead_wait(c);
  flights_close(a);
  for (int i = 0; i < SCANS; i++)
    free(a->scan[i].kid);
  free(a->found.kid);
  free(a);
  c->ahead = NULL;
}
