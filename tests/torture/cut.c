/*
** cut.c - see cut.h.
*/
#include <stdlib.h>
#include <string.h>

#include "../../core/endian.h"
#include "../util.h"
#include "cut.h"

enum { SECTOR = 512 };

typedef struct bytes {
  unsigned char *p;
  size_t n;
} bytes;

struct platter {
  const simdisk *disk;
  unsigned rules;
  size_t at;
  bytes *file; /* durable */
  int *entry;  /* durable: the file of a name, -1: none */
  int *name;   /* of a file; -1: it has none */
  size_t *pending;
  unsigned npending;
};

static void *need(void *p)
{
  if (p == NULL)
    abort();
  return p;
}

static void bytes_resize(bytes *b, size_t n)
{
  b->p = need(realloc(b->p, n + 1));
  if (n > b->n)
    memset(b->p + b->n, 0, n - b->n);
  b->n = n;
}

static const disk_op *op_at(const platter *p, size_t i)
{
  size_t n;
  return simdisk_log(p->disk, &n) + i;
}

platter *platter_new(const simdisk *disk, unsigned rules)
{
  size_t n;
  unsigned files = simdisk_files(disk), names = simdisk_names(disk);
  platter *p = need(calloc(1, sizeof *p));
  p->disk = disk;
  p->rules = rules;
  p->file = need(calloc(files + 1, sizeof *p->file));
  p->name = need(calloc(files + 1, sizeof *p->name));
  p->entry = need(calloc(names + 1, sizeof *p->entry));
  simdisk_log(disk, &n);
  p->pending = need(calloc(n + 1, sizeof *p->pending));
  for (unsigned i = 0; i < files; i++) {
    const unsigned char *base = simdisk_base(disk, i, &n);
    p->name[i] = -1;
    bytes_resize(&p->file[i], n);
    if (n > 0)
      memcpy(p->file[i].p, base, n);
  }
  for (unsigned i = 0; i < names; i++) {
    p->entry[i] = simdisk_base_entry(disk, i);
    if (p->entry[i] >= 0)
      p->name[p->entry[i]] = (int)i;
  }
  return p;
}

void platter_free(platter *p)
{
  for (unsigned i = 0; i < simdisk_files(p->disk); i++)
    free(p->file[i].p);
  free(p->file);
  free(p->name);
  free(p->entry);
  free(p->pending);
  free(p);
}

size_t platter_at(const platter *p)
{
  return p->at;
}

unsigned platter_pending(const platter *p)
{
  return p->npending;
}

int platter_name(const platter *p, unsigned file)
{
  return p->name[file];
}

/* ----------------------------------------------------------------- durable */

static int is_entry(const disk_op *op)
{
  return op->kind == OP_CREATE || op->kind == OP_DELETE;
}

static void make_durable(platter *p, const disk_op *op)
{
  bytes *b = &p->file[op->file];
  switch (op->kind) {
  case OP_CREATE:
    p->entry[op->name] = (int)op->file;
    break;
  case OP_DELETE:
    p->entry[op->name] = -1;
    break;
  case OP_WRITE:
    if (op->off + op->n > b->n)
      bytes_resize(b, (size_t)op->off + op->n);
    memcpy(b->p + op->off, op->data, op->n);
    break;
  case OP_TRUNCATE:
    bytes_resize(b, (size_t)op->off);
    break;
  default:
    break;
  }
}

/* Whether a sync covers the pending change. name: the synced file's, if its
** entry is covered, else -1; file -1: the directory alone. */
static int covers(const disk_op *op, int file, int name, int directory)
{
  if (is_entry(op))
    return directory || (int)op->name == name;
  return (int)op->file == file;
}

static void settle(platter *p, int file, int name, int directory)
{
  unsigned left = 0;
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (covers(op, file, name, directory))
      make_durable(p, op);
    else
      p->pending[left++] = p->pending[i];
  }
  p->npending = left;
}

/* The name under which a file can be found now, all changes counted. */
static int present_name(const platter *p, unsigned file)
{
  int name = p->name[file];
  if (name < 0)
    return -1;
  int now = p->entry[name];
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (is_entry(op) && (int)op->name == name)
      now = op->kind == OP_CREATE ? (int)op->file : -1;
  }
  return now == (int)file ? name : -1;
}

const disk_op *platter_step(platter *p)
{
  size_t n;
  const disk_op *op = simdisk_log(p->disk, &n) + p->at;
  if (p->at == n)
    return NULL;
  if (op->kind == OP_CREATE)
    p->name[op->file] = (int)op->name;
  if (op->kind == OP_SYNC && (p->rules & PLATTER_LIES) == 0)
    settle(p, (int)op->file,
           (p->rules & PLATTER_STRICT) ? -1 : present_name(p, op->file), 0);
  else if (op->kind == OP_SYNC_DIR && (p->rules & PLATTER_LIES) == 0)
    settle(p, -1, -1, 1);
  else if (op->kind == OP_WRITE || op->kind == OP_TRUNCATE || is_entry(op))
    p->pending[p->npending++] = p->at;
  p->at++;
  return op;
}

/* --------------------------------------------------------------------- cuts */

/* What happens to a pending change. */
typedef enum fate { LOST, KEPT, TORN, GREW } fate;

static fate fate_of(cut how, unsigned i, uint64_t *seed)
{
  switch (how.kind) {
  case CUT_NONE:
    return LOST;
  case CUT_ALL:
    return KEPT;
  case CUT_ONLY:
    return i == how.which ? KEPT : LOST;
  case CUT_BUT:
    return i == how.which ? LOST : KEPT;
  case CUT_SUBSET:
    return random_below(seed, 2) ? KEPT : LOST;
  case CUT_TORN_ONE:
    return i < how.which ? KEPT : i == how.which ? TORN : LOST;
  case CUT_TORN:
  case CUT_KINDS:
    break;
  }
  return (fate)random_below(seed, 4);
}

/* A file under construction. */
typedef struct draft {
  bytes b;
  unsigned char *known; /* per sector: somebody wrote it */
  size_t sectors;
  uint64_t limit; /* a truncate to here was lost: nothing new behind it */
} draft;

static void draft_resize(draft *d, size_t n)
{
  size_t sectors = n / SECTOR + 2;
  if (sectors > d->sectors) {
    d->known = need(realloc(d->known, sectors));
    memset(d->known + d->sectors, 0, sectors - d->sectors);
    d->sectors = sectors;
  }
  if (n < d->b.n) {
    size_t from = (n + SECTOR - 1) / SECTOR;
    memset(d->known + from, 0, d->sectors - from);
  }
  bytes_resize(&d->b, n);
}

static void draft_put(draft *d, const unsigned char *data, uint64_t from,
                      uint64_t to)
{
  if (to > d->limit)
    to = d->limit;
  if (from >= to)
    return;
  if (to > d->b.n)
    draft_resize(d, (size_t)to);
  memcpy(d->b.p + from, data, (size_t)(to - from));
  for (uint64_t s = from / SECTOR; s <= (to - 1) / SECTOR; s++)
    d->known[s] = 1;
}

static void draft_write(draft *d, const disk_op *op, fate f, uint64_t *seed)
{
  uint64_t end = op->off + op->n;
  if (f == GREW && end > d->b.n && end <= d->limit)
    draft_resize(d, (size_t)end);
  if (f == KEPT)
    draft_put(d, op->data, op->off, end);
  for (uint64_t from = op->off; f == TORN && from < end;) {
    uint64_t to = (from / SECTOR + 1) * SECTOR;
    if (to > end)
      to = end;
    if (random_below(seed, 2))
      draft_put(d, op->data + (from - op->off), from, to);
    from = to;
  }
}

static void draft_truncate(draft *d, const disk_op *op, fate f)
{
  if (f != KEPT || d->limit != UINT64_MAX) {
    if (op->off < d->limit && op->off < d->b.n)
      d->limit = op->off;
    return;
  }
  size_t before = d->b.n;
  draft_resize(d, (size_t)op->off);
  for (size_t s = before / SECTOR; s * SECTOR < op->off; s++)
    d->known[s] = 1;
}

/* A database, not a journal or a log: those have names with a dash. */
static int is_database(const platter *p, unsigned file)
{
  return p->name[file] >= 0 &&
         strchr(simdisk_name(p->disk, (unsigned)p->name[file]), '-') == NULL;
}

/*
** What stands in sectors of the file that nobody wrote: zeroes, anything, or a
** stale piece of a database. Not of a journal: SQLite, too, takes the former
** header of a journal for the present one where it stands in its place.
*/
static void draft_garbage(draft *d, const platter *p, uint64_t *seed)
{
  for (size_t s = 0; s * SECTOR < d->b.n; s++) {
    if (d->known[s])
      continue;
    size_t n = d->b.n - s * SECTOR < SECTOR ? d->b.n - s * SECTOR : SECTOR;
    unsigned char *at = d->b.p + s * SECTOR;
    unsigned what = (unsigned)random_below(seed, 3);
    unsigned other = (unsigned)random_below(seed, simdisk_files(p->disk));
    memset(at, 0, n);
    if (what == 1)
      random_bytes(seed, at, n);
    else if (what == 2 && n == SECTOR && is_database(p, other) &&
             p->file[other].n >= SECTOR)
      memcpy(at,
             p->file[other].p +
                 random_below(seed, p->file[other].n / SECTOR) * SECTOR,
             SECTOR);
  }
}

static bytes file_after(const platter *p, unsigned f, const fate *fates,
                        uint64_t seed)
{
  draft d = {.limit = UINT64_MAX};
  draft_resize(&d, p->file[f].n);
  if (p->file[f].n > 0)
    memcpy(d.b.p, p->file[f].p, p->file[f].n);
  memset(d.known, 1, (p->file[f].n + SECTOR - 1) / SECTOR);
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (is_entry(op) || op->file != f)
      continue;
    if (op->kind == OP_WRITE)
      draft_write(&d, op, fates[i], &seed);
    else
      draft_truncate(&d, op, fates[i]);
  }
  draft_garbage(&d, p, &seed);
  free(d.known);
  return d.b;
}

static int is_journal(const platter *p, int name)
{
  const char *s = name < 0 ? "" : simdisk_name(p->disk, (unsigned)name);
  size_t n = strlen(s);
  return n > 8 && strcmp(s + n - 8, "-journal") == 0;
}

static int ends_journal(const platter *p, const disk_op *op)
{
  return (op->kind == OP_DELETE && is_journal(p, (int)op->name)) ||
         (op->kind == OP_TRUNCATE && is_journal(p, p->name[op->file]));
}

/* No truncate is kept after a deletion or a truncate that is lost. */
static void keep_truncate_order(const platter *p, fate *fates)
{
  int broken = 0;
  for (unsigned i = 0; i < p->npending; i++) {
    disk_op_kind kind = op_at(p, p->pending[i])->kind;
    if (kind == OP_TRUNCATE && broken)
      fates[i] = LOST;
    if ((kind == OP_TRUNCATE || kind == OP_DELETE) && fates[i] != KEPT)
      broken = 1;
  }
}

/* Once one of a journal's changes is not kept, none after it is. */
static void keep_journal_order(const platter *p, fate *fates)
{
  unsigned files = simdisk_files(p->disk);
  unsigned char *broken = need(calloc(files + 1, 1));
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (is_entry(op) || !is_journal(p, p->name[op->file]))
      continue;
    if (fates[i] != KEPT)
      broken[op->file] = 1;
    if (broken[op->file])
      fates[i] = LOST;
  }
  free(broken);
}

/* The directory after the cut; entry[] is the caller's. */
static void entries_after(const platter *p, const fate *fates, int *entry)
{
  unsigned names = simdisk_names(p->disk);
  unsigned char *broken = need(calloc(names + 1, 1));
  memcpy(entry, p->entry, names * sizeof *entry);
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (!is_entry(op))
      continue;
    if (fates[i] != KEPT)
      broken[op->name] = 1;
    else if (!broken[op->name])
      entry[op->name] = op->kind == OP_CREATE ? (int)op->file : -1;
  }
  free(broken);
}

simdisk *platter_cut(const platter *p, cut how, size_t *journal_end)
{
  simdisk *after = simdisk_new();
  unsigned names = simdisk_names(p->disk);
  fate *fates = need(calloc(p->npending + 1, sizeof *fates));
  int *entry = need(calloc(names + 1, sizeof *entry));
  uint64_t seed = how.seed;
  simdisk_log(p->disk, journal_end);
  for (unsigned i = 0; i < p->npending; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    fates[i] = fate_of(how, i, &seed);
    if (fates[i] > KEPT && op->kind != OP_WRITE)
      fates[i] = fates[i] == TORN ? KEPT : LOST;
  }
  keep_truncate_order(p, fates);
  if ((p->rules & PLATTER_JOURNAL_ORDER) != 0)
    keep_journal_order(p, fates);
  for (unsigned i = p->npending; i-- > 0;)
    if (fates[i] == LOST && ends_journal(p, op_at(p, p->pending[i])))
      *journal_end = p->pending[i];
  entries_after(p, fates, entry);
  for (unsigned i = 0; i < names; i++)
    if (entry[i] >= 0) {
      bytes b = file_after(p, (unsigned)entry[i], fates, next_random(&seed));
      unsigned f = simdisk_create(after, simdisk_name(p->disk, i));
      simdisk_write(after, f, b.n > 0 ? b.p : (const void *)"", b.n, 0);
      free(b.p);
    }
  free(entry);
  free(fates);
  return after;
}

/* ------------------------------------------------------- write-ahead logs */

enum { LOG_HEAD = 32, FRAME_HEAD = 24 };

typedef uint32_t (*get_word)(const uint8_t *p);

/* SQLite's checksum of n bytes, a multiple of 8, on top of sum (WAL format,
** section 4.2). */
static void add_sum(get_word get, const unsigned char *p, size_t n,
                    uint32_t sum[2])
{
  for (size_t i = 0; i < n; i += 8) {
    sum[0] += get(p + i) + sum[1];
    sum[1] += get(p + i + 4) + sum[0];
  }
}

/* Where the last frame that commits, and counts, ends; 0: there is none. */
static size_t log_end(const unsigned char *p, size_t n)
{
  uint32_t sum[2] = {0, 0};
  size_t end = 0;
  if (n < LOG_HEAD || (get_be32(p) & ~1u) != 0x377f0682)
    return 0;
  get_word get = get_be32(p) & 1 ? get_be32 : get_le32;
  size_t frame = FRAME_HEAD + (size_t)get_be32(p + 8);
  add_sum(get, p, 24, sum);
  if (sum[0] != get_be32(p + 24) || sum[1] != get_be32(p + 28))
    return 0;
  for (size_t at = LOG_HEAD; at + frame <= n; at += frame) {
    add_sum(get, p + at, 8, sum);
    add_sum(get, p + at + FRAME_HEAD, frame - FRAME_HEAD, sum);
    if (memcmp(p + at + 8, p + 16, 8) != 0 || sum[0] != get_be32(p + at + 16) ||
        sum[1] != get_be32(p + at + 20))
      break;
    if (get_be32(p + at + 4) != 0)
      end = at + frame;
  }
  return end;
}

/* Whether a file began with these bytes at some moment since its last sync. */
static int began_with(const platter *p, unsigned f, const unsigned char *b,
                      size_t n)
{
  bytes now = {0};
  bytes_resize(&now, p->file[f].n);
  if (now.n > 0)
    memcpy(now.p, p->file[f].p, now.n);
  int found = now.n >= n && memcmp(now.p, b, n) == 0;
  for (unsigned i = 0; i < p->npending && !found; i++) {
    const disk_op *op = op_at(p, p->pending[i]);
    if (is_entry(op) || op->file != f)
      continue;
    if (op->kind == OP_TRUNCATE || op->off + op->n > now.n)
      bytes_resize(&now, (size_t)op->off + op->n);
    if (op->kind == OP_WRITE && op->n > 0)
      memcpy(now.p + op->off, op->data, op->n);
    found = now.n >= n && memcmp(now.p, b, n) == 0;
  }
  free(now.p);
  return found;
}

/* Any file that had the name. */
static int name_began_with(const platter *p, const char *name,
                           const unsigned char *b, size_t n)
{
  for (unsigned f = 0; f < simdisk_files(p->disk); f++)
    if (p->name[f] >= 0 &&
        strcmp(simdisk_name(p->disk, (unsigned)p->name[f]), name) == 0 &&
        began_with(p, f, b, n))
      return 1;
  return 0;
}

int platter_logs_are_true(const platter *p, const simdisk *image)
{
  for (unsigned i = 0; i < simdisk_names(image); i++) {
    const char *name = simdisk_name(image, i);
    size_t n, len = strlen(name);
    if (len < 4 || strcmp(name + len - 4, "-wal") != 0)
      continue;
    const unsigned char *b =
        simdisk_bytes(image, (unsigned)simdisk_entry(image, i), &n);
    size_t end = log_end(b, n);
    if (end > 0 && !name_began_with(p, name, b, end))
      return 0;
  }
  return 1;
}

uint64_t simdisk_hash(const simdisk *d)
{
  uint64_t h = 1;
  for (unsigned i = 0; i < simdisk_names(d); i++) {
    size_t n, at = 0;
    int f = simdisk_entry(d, i);
    if (f < 0)
      continue;
    const unsigned char *b = simdisk_bytes(d, (unsigned)f, &n);
    h = (h ^ fnv1a(simdisk_name(d, i), strlen(simdisk_name(d, i))) ^ n) *
        0x9E3779B97F4A7C15u;
    for (; at + 8 <= n; at += 8) {
      uint64_t word;
      memcpy(&word, b + at, 8);
      h = (h ^ word) * 0x9E3779B97F4A7C15u;
      h ^= h >> 29;
    }
    if (at < n)
      h ^= fnv1a(b + at, n - at);
  }
  return h;
}
