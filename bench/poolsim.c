/*
** poolsim.c - page replacement on recorded page streams: the real pool beside
** the policies of the books.
**
**   poolsim NAME=TRACE[@PERCENT]...   prints the miss rate of each, in percent
**
** A trace is a file of 32-bit page numbers (bench/sql/trace.c). The cache holds
** PERCENT (5) of the pages that the trace touches. The pool runs as it is, with its
** batches of victims; its store reads nothing. The others are written here as
** plainly as they can be, without batches, for comparison:
**
**   optimum     the page whose next use is farthest goes (Belady, 1966)
**   LRU         what SQLite's own cache does
**   clock       second chance; the reference bit of a new page set, or clear
**   SIEVE       Zhang et al., NSDI 2024
**   S3-FIFO     Yang et al., SOSP 2023; small queue a tenth
*/
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pagedb.h"

typedef struct trace {
  uint32_t *page; /* numbered 1.. in order of first use; 0 is nobody */
  uint64_t n;
  uint32_t pages;
} trace;

/* Per page, for all policies. */
typedef struct node {
  uint32_t newer, older; /* a list */
  uint8_t in;            /* which list; 0: not resident */
  uint8_t bits;
  uint64_t when;
} node;

/* A list by entry: first is the oldest. */
typedef struct list {
  uint32_t first, last;
  uint64_t n;
} list;

static node *nodes;

static void push(list *l, uint32_t p, uint8_t id)
{
  nodes[p].in = id;
  nodes[p].older = l->last;
  nodes[p].newer = 0;
  if (l->last != 0)
    nodes[l->last].newer = p;
  else
    l->first = p;
  l->last = p;
  l->n++;
}

static void take(list *l, uint32_t p)
{
  if (nodes[p].older != 0)
    nodes[nodes[p].older].newer = nodes[p].newer;
  else
    l->first = nodes[p].newer;
  if (nodes[p].newer != 0)
    nodes[nodes[p].newer].older = nodes[p].older;
  else
    l->last = nodes[p].older;
  nodes[p].in = 0;
  l->n--;
}

typedef uint64_t policy(const trace *t, uint64_t room);

static uint64_t lru(const trace *t, uint64_t room)
{
  list l = {0};
  uint64_t misses = 0;
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t p = t->page[i];
    if (nodes[p].in) {
      take(&l, p);
    } else {
      misses++;
      if (l.n == room)
        take(&l, l.first);
    }
    push(&l, p, 1);
  }
  return misses;
}

/* Second chance: a page that was used goes round once more. */
static uint64_t clock_with(const trace *t, uint64_t room, uint8_t on_entry)
{
  list l = {0};
  uint64_t misses = 0;
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t p = t->page[i];
    if (nodes[p].in) {
      nodes[p].bits = 1;
      continue;
    }
    misses++;
    while (l.n == room) {
      uint32_t victim = l.first;
      take(&l, victim);
      if (nodes[victim].bits != 0)
        push(&l, victim, 1);
      nodes[victim].bits = 0;
    }
    nodes[p].bits = on_entry;
    push(&l, p, 1);
  }
  return misses;
}

static uint64_t clock_set(const trace *t, uint64_t room)
{
  return clock_with(t, room, 1);
}

static uint64_t clock_clear(const trace *t, uint64_t room)
{
  return clock_with(t, room, 0);
}

/* A page that was used stays where it is; the hand goes on from there. */
static uint64_t sieve(const trace *t, uint64_t room)
{
  list l = {0};
  uint64_t misses = 0;
  uint32_t hand = 0;
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t p = t->page[i];
    if (nodes[p].in) {
      nodes[p].bits = 1;
      continue;
    }
    misses++;
    if (l.n == room) {
      if (hand == 0)
        hand = l.first;
      while (nodes[hand].bits != 0) {
        nodes[hand].bits = 0;
        hand = nodes[hand].newer != 0 ? nodes[hand].newer : l.first;
      }
      uint32_t victim = hand;
      hand = nodes[hand].newer;
      take(&l, victim);
    }
    nodes[p].bits = 0;
    push(&l, p, 1);
  }
  return misses;
}

enum { SMALL = 1, MAIN = 2, GHOST = 3, MOST_USES = 3 };

static void s3_evict_main(list *large)
{
  for (;;) {
    uint32_t p = large->first;
    take(large, p);
    if (nodes[p].bits == 0)
      return;
    nodes[p].bits--;
    push(large, p, MAIN);
  }
}

static void s3_make_room(list *small, list *large, list *ghost, uint64_t room)
{
  uint64_t of_small = room / 10 > 0 ? room / 10 : 1;
  while (small->n + large->n >= room) {
    if (small->n < of_small && large->n > 0) {
      s3_evict_main(large);
      continue;
    }
    uint32_t p = small->first;
    take(small, p);
    if (nodes[p].bits > 1) {
      nodes[p].bits = 0;
      push(large, p, MAIN);
      continue;
    }
    push(ghost, p, GHOST);
    if (ghost->n > room - of_small)
      take(ghost, ghost->first);
  }
}

static uint64_t s3_fifo(const trace *t, uint64_t room)
{
  list small = {0}, large = {0}, ghost = {0};
  uint64_t misses = 0;
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t p = t->page[i];
    if (nodes[p].in == SMALL || nodes[p].in == MAIN) {
      nodes[p].bits += nodes[p].bits < MOST_USES;
      continue;
    }
    misses++;
    int known = nodes[p].in == GHOST;
    if (known)
      take(&ghost, p);
    s3_make_room(&small, &large, &ghost, room);
    nodes[p].bits = 0;
    push(known ? &large : &small, p, known ? MAIN : SMALL);
  }
  return misses;
}

/* ----------------------------------------------------------------- optimum */

/* A heap of the resident pages' next uses, farthest on top; entries that are out
** of date are dropped when they come up. */
typedef struct use {
  uint64_t when;
  uint32_t page;
} use;

static void heap_add(use *h, uint64_t *n, use u)
{
  uint64_t i = (*n)++;
  for (; i > 0 && h[(i - 1) / 2].when < u.when; i = (i - 1) / 2)
    h[i] = h[(i - 1) / 2];
  h[i] = u;
}

static use heap_take(use *h, uint64_t *n)
{
  use top = h[0], last = h[--*n];
  uint64_t i = 0, child;
  while ((child = 2 * i + 1) < *n) {
    if (child + 1 < *n && h[child + 1].when > h[child].when)
      child++;
    if (h[child].when <= last.when)
      break;
    h[i] = h[child];
    i = child;
  }
  h[i] = last;
  return top;
}

static void *must_have(void *p)
{
  if (p == NULL) {
    fprintf(stderr, "poolsim: no memory\n");
    exit(1);
  }
  return p;
}

static uint64_t optimum(const trace *t, uint64_t room)
{
  uint64_t *next = must_have(malloc(t->n * sizeof *next));
  uint64_t *seen = must_have(malloc((t->pages + 1) * sizeof *seen));
  use *heap = must_have(malloc((t->n + 1) * sizeof *heap));
  uint64_t misses = 0, in = 0, n = 0;
  for (uint32_t p = 0; p <= t->pages; p++)
    seen[p] = UINT64_MAX;
  for (uint64_t i = t->n; i-- > 0;) {
    next[i] = seen[t->page[i]];
    seen[t->page[i]] = i;
  }
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t p = t->page[i];
    if (!nodes[p].in) {
      misses++;
      while (in == room) {
        use u = heap_take(heap, &n);
        if (nodes[u.page].in && nodes[u.page].when == u.when) {
          nodes[u.page].in = 0;
          in--;
        }
      }
      nodes[p].in = 1;
      in++;
    }
    nodes[p].when = next[i];
    heap_add(heap, &n, (use){next[i], p});
  }
  free(heap);
  free(seen);
  free(next);
  return misses;
}

/* ---------------------------------------------------------------- the pool */

enum { PAGE = 512 };

static int reads_nothing(pagedb_store *s, pagedb_run *run, unsigned n)
{
  (void)s;
  for (unsigned i = 0; i < n; i++)
    for (uint32_t k = 0; k < run[i].count; k++)
      run[i].errs[k] = PAGEDB_OK;
  return PAGEDB_OK;
}

static int syncs_nothing(pagedb_store *s)
{
  (void)s;
  return PAGEDB_OK;
}

static int count_all(pagedb_store *s, uint64_t *pages)
{
  (void)s;
  *pages = UINT32_MAX;
  return PAGEDB_OK;
}

static void closes_nothing(pagedb_store *s)
{
  (void)s;
}

static uint64_t the_pool(const trace *t, uint64_t room)
{
  pagedb_store store = {.page_size = PAGE,
                        .record_at = PAGE,
                        .name = "trace",
                        .read = reads_nothing,
                        .write = reads_nothing,
                        .sync = syncs_nothing,
                        .count = count_all,
                        .close = closes_nothing};
  pagedb_pool_options opt = {.capacity = room * PAGE};
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *session;
  pagedb_pool_stats stats;
  bench_must(pagedb_pool_open(&opt, &pool));
  bench_must(pagedb_owner_open(pool, &store, &owner));
  bench_must(pagedb_session_open(pool, &session));
  for (uint64_t i = 0; i < t->n; i++) {
    pagedb_pin pin;
    bench_must(pagedb_fetch(session, owner, t->page[i], &pin));
    pagedb_unpin(&pin);
  }
  pagedb_pool_stats_get(pool, &stats);
  bench_must(pagedb_session_close(session));
  bench_must(pagedb_owner_close(owner));
  bench_must(pagedb_pool_close(pool));
  return stats.misses;
}

/* -------------------------------------------------------------------- main */

static const struct {
  const char *name;
  policy *run;
} policies[] = {{"optimum", optimum},
                {"LRU (SQLite's own)", lru},
                {"clock, bit set on entry", clock_set},
                {"clock, bit clear on entry", clock_clear},
                {"S3-FIFO", s3_fifo},
                {"SIEVE", sieve},
                {"page-db's pool", the_pool}};

enum { POLICIES = sizeof policies / sizeof policies[0], MOST_TRACES = 16 };

/* Number the pages anew, without gaps. */
static void trace_read(trace *t, const char *path)
{
  FILE *f = fopen(path, "rb");
  if (f == NULL || fseek(f, 0, SEEK_END) != 0) {
    perror(path);
    exit(1);
  }
  t->n = (uint64_t)ftell(f) / sizeof *t->page;
  t->page = must_have(malloc(t->n * sizeof *t->page + 1));
  rewind(f);
  if (fread(t->page, sizeof *t->page, t->n, f) != t->n) {
    perror(path);
    exit(1);
  }
  fclose(f);
  uint32_t most = 0;
  for (uint64_t i = 0; i < t->n; i++)
    most = t->page[i] > most ? t->page[i] : most;
  uint32_t *number = must_have(calloc((size_t)most + 1, sizeof *number));
  t->pages = 0;
  for (uint64_t i = 0; i < t->n; i++) {
    uint32_t *is = &number[t->page[i]];
    if (*is == 0)
      *is = ++t->pages;
    t->page[i] = *is;
  }
  free(number);
}

static double miss_rate(policy *run, const trace *t, double percent)
{
  uint64_t room = (uint64_t)(t->pages * percent / 100);
  nodes = must_have(calloc((size_t)t->pages + 1, sizeof *nodes));
  uint64_t misses = run(t, room > 0 ? room : 1);
  free(nodes);
  return 100.0 * (double)misses / (double)t->n;
}

int main(int argc, char **argv)
{
  double rate[MOST_TRACES][POLICIES];
  int n = argc - 1;
  if (n < 1 || n > MOST_TRACES) {
    fprintf(stderr, "usage: poolsim NAME=TRACE[@PERCENT]...\n");
    return 2;
  }
  printf("| misses, %% |");
  for (int i = 0; i < n; i++) {
    trace t;
    char *path = strchr(argv[i + 1], '=');
    double percent = 5;
    if (path == NULL)
      return 2;
    *path++ = 0;
    char *at = strchr(path, '@');
    if (at != NULL) {
      *at = 0;
      percent = atof(at + 1);
    }
    trace_read(&t, path);
    printf(" %s |", argv[i + 1]);
    for (int k = 0; k < POLICIES; k++)
      rate[i][k] = miss_rate(policies[k].run, &t, percent);
    free(t.page);
  }
  printf("\n|---|");
  for (int i = 0; i < n; i++)
    printf("---|");
  printf("\n");
  for (int k = 0; k < POLICIES; k++) {
    printf("| %s |", policies[k].name);
    for (int i = 0; i < n; i++)
      printf(" %.1f |", rate[i][k]);
    printf("\n");
  }
  return 0;
}
