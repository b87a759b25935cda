/*
** torture.c - see torture.h.
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vfs/vfs_int.h"
#include "../sqlutil.h"
#include "oracle.h"
#include "torture.h"

/* Failures of one workload. A quiet run asks only whether there are any. */
static int enough(int quiet)
{
  return quiet ? 1 : 3;
}

void torture_start(void)
{
  sql_start();
  simdisk_register(0);
  /* Names, journals and temporary files too: the VFS stands on the simulated
  ** disk with both feet. */
  pagedb_vfs.pAppData = sqlite3_vfs_find("simdisk");
}

void tally_add(tally *t, const tally *more)
{
  t->runs += more->runs;
  t->cuts += more->cuts;
  t->images += more->images;
  t->distinct += more->distinct;
  t->fooled += more->fooled;
  t->examined += more->examined;
  t->failures += more->failures;
  if (t->first[0] == 0)
    snprintf(t->first, sizeof t->first, "%s", more->first);
}

/* ------------------------------------------------------------ what is seen */

/* Images seen already, by content and claim. */
typedef struct seen {
  uint64_t *slot;
  size_t n, room;
} seen;

static int seen_add(seen *s, uint64_t h)
{
  if (s->n * 2 >= s->room) {
    seen more = {.room = s->room * 2 + 1024};
    more.slot = calloc(more.room, sizeof *more.slot);
    if (more.slot == NULL)
      abort();
    for (size_t i = 0; i < s->room; i++)
      if (s->slot[i] != 0)
        seen_add(&more, s->slot[i]);
    free(s->slot);
    *s = more;
  }
  size_t i = (h |= 1) % s->room;
  while (s->slot[i] != 0 && s->slot[i] != h)
    i = (i + 1) % s->room;
  if (s->slot[i] == h)
    return 0;
  s->slot[i] = h;
  s->n++;
  return 1;
}

/* ------------------------------------------------------------- the claims */

/* Follows the log. */
typedef struct follower {
  platter *p;
  const simdisk *disk;
  claim now;
  unsigned done; /* state acknowledged last */
} follower;

/* The database of which a file is the write-ahead log, or -1. */
static int wal_of(const follower *f, unsigned file)
{
  int name = platter_name(f->p, file);
  const char *s = name < 0 ? "" : simdisk_name(f->disk, (unsigned)name);
  for (int i = 0; i < FILES; i++) {
    size_t n = strlen(file_names[i]);
    if (strncmp(s, file_names[i], n) == 0 && strcmp(s + n, "-wal") == 0)
      return i;
  }
  return -1;
}

static void on_mark(follower *f, const disk_op *op)
{
  unsigned k = (unsigned)op->off;
  switch ((mark)op->n) {
  case MARK_BEGIN:
  case MARK_WILD:
    f->now.most = k > f->now.most ? k : f->now.most;
    f->now.wild = op->n == MARK_WILD;
    break;
  case MARK_DONE:
  case MARK_DONE_LATER:
    /* Another process may have begun its change before this one said so. */
    f->now.most = k > f->now.most ? k : f->now.most;
    f->done = k > f->done ? k : f->done;
    f->now.wild = 0;
    for (int i = 0; i < FILES && op->n == MARK_DONE; i++)
      f->now.least[i] = f->done;
    break;
  case MARK_PLAIN:
  case MARK_STAMPED:
  case MARK_SYNC:
  case MARK_STRICT:
    break;
  }
}

static const disk_op *follow(follower *f)
{
  const disk_op *op = platter_step(f->p);
  if (op != NULL && op->kind == OP_MARK)
    on_mark(f, op);
  int wal = op != NULL && op->kind == OP_SYNC ? wal_of(f, op->file) : -1;
  if (wal >= 0)
    f->now.least[wal] = f->done;
  return op;
}

/* -------------------------------------------------------------- the images */

/* A cut as text: kind, number, seed. */
static void cut_print(cut c, char *buf, size_t n)
{
  snprintf(buf, n, "%d,%u,%llu", (int)c.kind, c.which,
           (unsigned long long)c.seed);
}

static int cut_parse(const char *s, cut *c)
{
  int kind;
  unsigned long long seed;
  if (sscanf(s, "%d,%u,%llu", &kind, &c->which, &seed) != 3)
    return 0;
  c->kind = (cut_kind)kind;
  c->seed = seed;
  return 1;
}

static uint64_t image_seed(const spec *s, size_t cut, unsigned image)
{
  uint64_t seed = s->seed ^ cut << 20 ^ (uint64_t)image << 50;
  return next_random(&seed);
}

/* Image number i of a cut with so many pending changes; 0: there is none. */
static int nth_cut(const effort *how, unsigned pending, unsigned i, cut *c)
{
  unsigned singles = pending < how->singles ? pending : how->singles;
  uint64_t seed = c->seed;
  c->which = 0;
  if (i < 2) {
    c->kind = i == 0 ? CUT_NONE : CUT_ALL;
    return i == 0 || pending > 0;
  }
  i -= 2;
  if (i < 3 * singles) {
    c->kind = i % 3 == 0 ? CUT_ONLY : i % 3 == 1 ? CUT_BUT : CUT_TORN_ONE;
    /* All of them if they are few; the newest, and some by the seed. */
    c->which = i / 3;
    if (pending > singles && i >= 3)
      c->which = (unsigned)random_below(&seed, pending);
    else if (pending > singles)
      c->which = pending - 1;
    return 1;
  }
  i -= 3 * singles;
  c->kind = i % 2 == 0 ? CUT_SUBSET : CUT_TORN;
  return pending > 1 && i < 2 * how->random;
}

/* The state that was acknowledged before a place of the log. */
static unsigned done_before(const follower *f, size_t at)
{
  size_t n;
  const disk_op *op = simdisk_log(f->disk, &n);
  while (at > 0) {
    at--;
    if (op[at].kind == OP_MARK &&
        (op[at].n == MARK_DONE || op[at].n == MARK_DONE_LATER))
      return (unsigned)op[at].off;
  }
  return 0;
}

/* A lost end of a rollback journal takes its transaction back, acknowledged or
** not, until the directory (or the journal) is synced. With EXTRA it is synced before
** the transaction is acknowledged, and nothing is taken back. */
static claim claim_of(const follower *f, int sync, size_t journal_end)
{
  claim c = f->now;
  if (sync == SYNC_EXTRA)
    return c;
  unsigned least = done_before(f, journal_end);
  for (int i = 0; i < FILES; i++)
    if (c.least[i] > least)
      c.least[i] = least;
  return c;
}

static void report(const world *w, int lies, size_t at, const char *image,
                   const char *failure, int quiet, tally *t)
{
  char line[300], text[1200];
  if (w->log == NULL)
    spec_print(&w->spec, line, sizeof line);
  snprintf(text, sizeof text,
           "%s\n  repeat: build/normal/torture%s --rules-off=%u --%s=%s "
           "--cut=%zu --image=%s",
           failure, lies ? " --lies" : "", pagedb_globals.rules_off,
           w->log == NULL ? "spec" : "log", w->log == NULL ? line : w->log, at,
           image);
  t->failures++;
  if (t->first[0] == 0)
    snprintf(t->first, sizeof t->first, "%s", text);
  if (!quiet)
    fprintf(stderr, "FAIL %s\n", text);
}

static int one_image(const follower *f, const world *w, cut c, int depth,
                     seen *known, examined *e, tally *t)
{
  size_t journal_end;
  simdisk *image = platter_cut(f->p, c, &journal_end);
  claim cl = claim_of(f, w->spec.sync, journal_end);
  t->images++;
  if (!platter_logs_are_true(f->p, image)) {
    simdisk_free(image);
    t->fooled++;
    return 1;
  }
  uint64_t key =
      simdisk_hash(image) ^ (cl.least[0] * 31u + cl.least[1] * 1009u +
                             cl.most * 70001u + (unsigned)cl.wild);
  if (known != NULL && !seen_add(known, key)) {
    simdisk_free(image);
    return 1;
  }
  t->distinct++;
  return examine(image, w, &cl, depth, c.seed, e);
}

static int all_images(const follower *f, const world *w, const effort *how,
                      seen *known, int quiet, tally *t)
{
  int bad = 0;
  size_t at = platter_at(f->p);
  t->cuts++;
  for (unsigned i = 0; bad < enough(quiet); i++) {
    examined e = {0};
    cut c = {.seed = image_seed(&w->spec, at, i)};
    if (!nth_cut(how, platter_pending(f->p), i, &c))
      break;
    int depth = how->again > 0 && c.seed % how->again == 0;
    int good = one_image(f, w, c, depth, known, &e, t);
    t->examined += e.images;
    if (!good) {
      char image[60];
      cut_print(c, image, sizeof image);
      report(w, how->lies, at, image, e.failure, quiet, t);
      bad++;
    }
  }
  return bad;
}

/* Which places of the log are cut: all, or so many by the seed. */
static int is_chosen(const effort *how, const disk_op *op, size_t n,
                     uint64_t *seed)
{
  if (op->kind == OP_MARK && op->n != MARK_DONE)
    return 0;
  return how->cuts == 0 || random_below(seed, n) < how->cuts;
}

static follower follow_from_start(const world *w, int lies)
{
  unsigned rules =
      (lies ? (unsigned)PLATTER_LIES : 0) |
      (w->spec.strict ? (unsigned)PLATTER_STRICT : 0) |
      (w->spec.sync == SYNC_NORMAL ? (unsigned)PLATTER_JOURNAL_ORDER : 0);
  return (follower){.p = platter_new(w->disk, rules), .disk = w->disk};
}

void torture_cuts(const world *w, const effort *how, int quiet, tally *t)
{
  seen known = {0};
  uint64_t seed = w->spec.seed;
  int bad = 0;
  follower f = follow_from_start(w, how->lies);
  const disk_op *op;
  size_t n;
  t->runs++;
  simdisk_log(w->disk, &n);
  while (bad < enough(quiet) && (op = follow(&f)) != NULL)
    if (is_chosen(how, op, n, &seed))
      bad += all_images(&f, w, how, &known, quiet, t);
  platter_free(f.p);
  free(known.slot);
}

void torture_run(const spec *s, const effort *how, int quiet, tally *t)
{
  static world w;
  if (world_run(&w, s)) {
    torture_cuts(&w, how, quiet, t);
  } else {
    t->runs++;
    report(&w, how->lies, 0, "0,0,0", w.failure, quiet, t);
  }
  world_free(&w);
}

/* The end of the log, as far as it was carried out. */
static void show_log(const follower *f)
{
  static const char *const names[] = {"create",   "delete", "write",
                                      "truncate", "sync",   "sync directory",
                                      "mark"};
  size_t n, at = platter_at(f->p);
  const disk_op *op = simdisk_log(f->disk, &n);
  for (size_t i = at > 25 ? at - 25 : 0; i < at; i++) {
    int name = op[i].kind == OP_CREATE || op[i].kind == OP_DELETE
                   ? (int)op[i].name
                   : platter_name(f->p, op[i].file);
    int none = name < 0 || op[i].kind == OP_MARK || op[i].kind == OP_SYNC_DIR;
    fprintf(stderr, "%5zu %s %s %llu+%zu\n", i, names[op[i].kind],
            none ? "" : simdisk_name(f->disk, (unsigned)name),
            (unsigned long long)op[i].off, op[i].n);
  }
  fprintf(stderr, "%u changes are pending\n", platter_pending(f->p));
}

/* The image as files below a directory. */
static void dump(const simdisk *d, const char *dir)
{
  for (unsigned i = 0; i < simdisk_names(d); i++) {
    char path[600];
    size_t n;
    int file = simdisk_entry(d, i);
    if (file < 0)
      continue;
    const unsigned char *p = simdisk_bytes(d, (unsigned)file, &n);
    snprintf(path, sizeof path, "%s/%s", dir, simdisk_name(d, i));
    FILE *f = fopen(path, "wb");
    if (f == NULL || (n > 0 && fwrite(p, 1, n, f) != n))
      fprintf(stderr, "cannot write %s\n", path);
    if (f != NULL)
      fclose(f);
  }
}

int torture_one_cut(const world *w, int lies, size_t at, const char *image,
                    const char *dir)
{
  tally t = {0};
  examined e = {0};
  cut c;
  int good = 1;
  if (at > 0 && cut_parse(image, &c)) {
    follower f = follow_from_start(w, lies);
    while (platter_at(f.p) < at && follow(&f) != NULL)
      ;
    show_log(&f);
    if (dir != NULL) {
      size_t unused;
      simdisk *d = platter_cut(f.p, c, &unused);
      dump(d, dir);
      simdisk_free(d);
    }
    good = one_image(&f, w, c, 1, NULL, &e, &t);
    if (!good)
      fprintf(stderr, "%s\n", e.failure);
    platter_free(f.p);
  }
  return good;
}

int torture_repeat(const spec *s, int lies, size_t at, const char *image,
                   const char *dir)
{
  static world w;
  int good = world_run(&w, s);
  if (!good)
    fprintf(stderr, "%s\n", w.failure);
  good = good && torture_one_cut(&w, lies, at, image, dir);
  world_free(&w);
  return good;
}
