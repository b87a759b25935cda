/*
** look.c - info, check, pages: read a file and change nothing.
**
** Pages are read in runs of 64, 32 runs at a time, so that the disk has plenty
** to do. A page that does not verify is read once more: a checkpoint of another
** process may have been writing it. A page that the write-ahead log holds in a
** newer version is not judged: a checkpoint that was cut short leaves such
** pages, and the next one writes them.
*/
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../core/os.h"
#include "../vfs/btree.h"
#include "tool.h"

enum { RUN_PAGES = 64, RUNS = 32 };

static int stamped(const file_info *info)
{
  return info->type == FILE_NATIVE ||
         (info->guard && info->reserve == PAGEDB_RECORD_SIZE);
}

static const char *state_name(const file_info *info)
{
  if (info->type == FILE_NATIVE)
    return "native";
  if (stamped(info))
    return "stamped";
  return info->reserve == PAGEDB_RECORD_SIZE ? "plain, with 32 reserved bytes"
                                             : "plain";
}

/* --------------------------------------------------------------------- info */

static void info_json(const options *o, const file_info *i)
{
  printf("{\"file\":");
  json_string(stdout, o->path);
  printf(",\"state\":\"%s\",\"page_size\":%u,\"pages\":%" PRIu64
         ",\"bytes\":%" PRIu64,
         i->type == FILE_NATIVE ? "native"
         : stamped(i)           ? "stamped"
                                : "plain",
         i->page_size, i->pages, i->bytes);
  if (i->type == FILE_DATABASE)
    printf(",\"reserved\":%u,\"lsn\":%" PRIu64
           ",\"journal\":\"%s\",\"free_pages\":%u,\"auto_vacuum\":%s,"
           "\"user_version\":%u,\"application_id\":%u,\"sqlite_version\":%u",
           i->reserve, i->lsn, i->wal ? "wal" : "rollback", i->free_pages,
           i->auto_vacuum ? "true" : "false", i->user_version,
           i->application_id, i->sqlite_version);
  printf("}\n");
}

int cmd_info(const options *o)
{
  file_info i;
  if (file_look(o, &i) != GOOD)
    return FAILED;
  if (o->json) {
    info_json(o, &i);
    return GOOD;
  }
  printf("file          %s\n", o->path);
  printf("kind          %s\n",
         i.type == FILE_NATIVE ? "native page file" : "SQLite database");
  printf("state         %s\n", state_name(&i));
  printf("page size     %u bytes\n", i.page_size);
  printf("pages         %" PRIu64 "\n", i.pages);
  printf("length        %" PRIu64 " bytes\n", i.bytes);
  if (i.type == FILE_NATIVE)
    return GOOD;
  if (stamped(&i))
    printf("LSN of page 1 %" PRIu64 "\n", i.lsn);
  printf("journal mode  %s\n", i.wal ? "WAL" : "rollback");
  printf("free pages    %u\n", i.free_pages);
  printf("written by    SQLite %u.%u.%u\n", i.sqlite_version / 1000000,
         i.sqlite_version / 1000 % 1000, i.sqlite_version % 1000);
  if (!stamped(&i) && i.reserve == PAGEDB_RECORD_SIZE)
    printf("to stamp it   pagedb stamp %s\n", o->path);
  else if (!stamped(&i))
    printf("to stamp it   pagedb convert %s\n", o->path);
  return GOOD;
}

/* ------------------------------------------------------------ what the log has
 */

typedef struct page_set {
  uint8_t *bit;
  uint64_t pages;
} page_set;

static int read_at(os_file *f, void *buf, size_t n, uint64_t off)
{
  size_t got = 0;
  os_iov iov = {buf, n};
  return os_readv(f, &iov, 1, off, &got) == PAGEDB_OK && got == n;
}

/* Page numbers of all frames of the WAL with the salts of its header. */
static void log_pages(const options *o, const file_info *info, page_set *set)
{
  char name[4200];
  uint8_t head[32], frame[24];
  os_file *f;
  *set = (page_set){calloc(info->pages / 8 + 1, 1), info->pages};
  snprintf(name, sizeof name, "%s-wal", o->path);
  if (set->bit == NULL ||
      os_open(name, OS_OPEN_READONLY, &f, NULL) != PAGEDB_OK)
    return;
  if (read_at(f, head, sizeof head, 0))
    for (uint64_t at = sizeof head; read_at(f, frame, sizeof frame, at);
         at += sizeof frame + info->page_size) {
      uint32_t page = get_be32(frame);
      if (memcmp(frame + 8, head + 16, 8) == 0 && page >= 1 &&
          page <= set->pages)
        set->bit[(page - 1) / 8] |= (uint8_t)(1 << (page - 1) % 8);
    }
  os_close(f);
}

static int log_has(const page_set *set, uint64_t id)
{
  return set->bit != NULL && id < set->pages &&
         (set->bit[id / 8] >> id % 8 & 1) != 0;
}

/* ------------------------------------------------------------------- verify */

static int note_bad(verdict *v, const bad_page *b)
{
  if (v->nbad == v->room) {
    size_t room = v->room * 2 + 64;
    bad_page *more = realloc(v->bad, room * sizeof *more);
    if (more == NULL)
      return PAGEDB_ENOMEM;
    v->bad = more;
    v->room = room;
  }
  v->bad[v->nbad++] = *b;
  v->in_log += (uint64_t)b->in_log;
  return PAGEDB_OK;
}

static int all_zero(const uint8_t *p, size_t n)
{
  return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Judge a page that failed in a run, read anew. */
static int judge(pagedb_file *f, const file_info *info, uint64_t id,
                 uint8_t *page, const page_set *log, verdict *v)
{
  uint64_t lsn = 0;
  int err = pagedb_file_read(f, id, page, &lsn);
  if (err == PAGEDB_OK) {
    v->verified++;
    return PAGEDB_OK;
  }
  if (err == PAGEDB_EMAGIC && info->type == FILE_NATIVE &&
      all_zero(page, info->page_size)) {
    v->blank++;
    return PAGEDB_OK;
  }
  bad_page b = {id, err, pagedb_last_fault()->found,
                pagedb_last_fault()->expected, log_has(log, id)};
  if (err == PAGEDB_EMAGIC && info->type == FILE_DATABASE &&
      !all_zero(page, info->page_size) &&
      all_zero(page + info->page_size - PAGEDB_RECORD_SIZE, PAGEDB_RECORD_SIZE))
    b.err = PAGEDB_EUNSTAMPED;
  return note_bad(v, &b);
}

typedef struct batch {
  uint8_t *memory;
  void *page[RUNS * RUN_PAGES];
  uint64_t lsn[RUNS * RUN_PAGES];
  int err[RUNS * RUN_PAGES];
  pagedb_run run[RUNS];
} batch;

static unsigned fill_batch(batch *b, const file_info *info, uint64_t first)
{
  unsigned runs = 0;
  for (uint64_t id = first; runs < RUNS && id < info->pages; runs++) {
    uint64_t n = info->pages - id < RUN_PAGES ? info->pages - id : RUN_PAGES;
    unsigned at = runs * RUN_PAGES;
    b->run[runs] = (pagedb_run){.first = id,
                                .count = (uint32_t)n,
                                .pages = &b->page[at],
                                .lsns = &b->lsn[at],
                                .errs = &b->err[at]};
    id += n;
  }
  return runs;
}

static int verify_pages(const options *o, const file_info *info, pagedb_file *f,
                        batch *b, verdict *v)
{
  page_set log = {0};
  int err = PAGEDB_OK;
  if (info->type == FILE_DATABASE && info->wal)
    log_pages(o, info, &log);
  for (uint64_t first = 0; first < info->pages && err == PAGEDB_OK;
       first += (uint64_t)RUNS * RUN_PAGES) {
    unsigned runs = fill_batch(b, info, first);
    pagedb_file_read_runs(f, b->run, runs);
    for (unsigned i = 0;
         i < runs * RUN_PAGES && first + i < info->pages && err == PAGEDB_OK;
         i++) {
      uint64_t id = first + i;
      if (info->type == FILE_DATABASE &&
          pagedb_is_lock_page(id, info->page_size))
        continue;
      v->pages++;
      if (b->err[i] != PAGEDB_OK) {
        err = judge(f, info, id, b->page[i], &log, v);
        continue;
      }
      v->verified++;
      if (b->lsn[i] > v->newest_lsn)
        v->newest_lsn = b->lsn[i];
    }
    progress(o, "checking", first, info->pages);
  }
  progress_end(o);
  free(log.bit);
  return err;
}

int verify_file(const options *o, const file_info *info, verdict *v)
{
  pagedb_file_options opt = {.page_size = info->page_size,
                             .placement = info->type == FILE_DATABASE
                                              ? PAGEDB_TRAILING
                                              : PAGEDB_LEADING,
                             .read_only = 1};
  pagedb_file *f;
  char text[400];
  *v = (verdict){0};
  if (pagedb_file_open(o->path, &opt, &f) != PAGEDB_OK)
    return complain(
        o, "%s", pagedb_fault_message(pagedb_last_fault(), text, sizeof text));
  batch *b = calloc(1, sizeof *b);
  if (b != NULL)
    b->memory = pagedb_file_alloc(f, (size_t)RUNS * RUN_PAGES);
  int err = b == NULL || b->memory == NULL ? PAGEDB_ENOMEM : PAGEDB_OK;
  for (size_t i = 0; err == PAGEDB_OK && i < (size_t)RUNS * RUN_PAGES; i++)
    b->page[i] = b->memory + i * info->page_size;
  v->direct = pagedb_file_is_direct(f);
  if (err == PAGEDB_OK)
    err = verify_pages(o, info, f, b, v);
  if (b != NULL)
    pagedb_file_free(b->memory);
  free(b);
  pagedb_file_close(f);
  return err == PAGEDB_OK ? GOOD : complain(o, "%s", pagedb_err_sentence(err));
}

/* ------------------------------------------------------------- whose page */

typedef struct raw_reader {
  os_file *f;
  uint32_t page_size;
} raw_reader;

static int read_raw(void *arg, uint64_t id, uint8_t *buf)
{
  raw_reader *r = arg;
  return read_at(r->f, buf, r->page_size, id * r->page_size);
}

/* NULL for native files, or when it cannot be made. */
static page_map *map_of(const options *o, const file_info *info)
{
  raw_reader r = {.page_size = info->page_size};
  if (info->type != FILE_DATABASE ||
      os_open(o->path, OS_OPEN_READONLY, &r.f, NULL) != PAGEDB_OK)
    return NULL;
  page_map *m =
      page_map_make(read_raw, &r, info->page_size, info->reserve, info->pages);
  os_close(r.f);
  return m;
}

static const char *kind_of(const page_map *m, uint64_t id)
{
  return m == NULL ? "" : page_kind_name((page_kind)m->kind[id]);
}

static const char *object_of(const page_map *m, uint64_t id)
{
  return m == NULL ? "" : page_map_object(m, id);
}

/* A free leaf has no content that could be damaged. */
static int is_mendable(const page_map *m, const bad_page *b)
{
  return m != NULL && m->kind[b->id] == PAGE_FREE_LEAF;
}

/* The number as its users count: SQLite from 1, page files from 0. */
static uint64_t shown(const file_info *info, uint64_t id)
{
  return info->type == FILE_DATABASE ? id + 1 : id;
}

/* -------------------------------------------------------------------- check */

static void bad_json(const file_info *info, const page_map *m,
                     const bad_page *b, int first)
{
  printf("%s{\"page\":%" PRIu64 ",\"error\":\"%s\",\"found\":%" PRIu64
         ",\"expected\":%" PRIu64 ",\"in_log\":%s,\"type\":\"%s\",\"object\":",
         first ? "" : ",", shown(info, b->id), pagedb_err_name(b->err),
         b->found, b->expected, b->in_log ? "true" : "false",
         kind_of(m, b->id));
  json_string(stdout, object_of(m, b->id));
  printf("}");
}

static void bad_line(const file_info *info, const page_map *m,
                     const bad_page *b)
{
  printf("page %" PRIu64 ": %s", shown(info, b->id),
         pagedb_err_sentence(b->err));
  if (b->found != 0 || b->expected != 0)
    printf(": found 0x%" PRIx64 ", expected 0x%" PRIx64, b->found, b->expected);
  if (m != NULL)
    printf(" (%s%s%s)", kind_of(m, b->id), object_of(m, b->id)[0] ? " of " : "",
           object_of(m, b->id));
  if (is_mendable(m, b))
    printf(": free, nothing is lost; pagedb stamp --adopt mends it");
  printf("\n");
}

static uint64_t count_damaged(const verdict *v, const page_map *m)
{
  uint64_t n = 0;
  for (size_t i = 0; i < v->nbad; i++)
    n += !v->bad[i].in_log && !is_mendable(m, &v->bad[i]);
  return n;
}

/* How many neighbours from bad[i] on are behind the file's end. */
static size_t missing_pages(const verdict *v, size_t i)
{
  size_t n = 0;
  while (i + n < v->nbad && v->bad[i + n].err == PAGEDB_ESHORT &&
         !v->bad[i + n].in_log && v->bad[i + n].id == v->bad[i].id + n)
    n++;
  return n;
}

static void check_report(const options *o, const file_info *info,
                         const verdict *v, const page_map *m, uint64_t damaged)
{
  if (o->json) {
    printf("{\"file\":");
    json_string(stdout, o->path);
    printf(",\"pages\":%" PRIu64 ",\"verified\":%" PRIu64
           ",\"damaged\":%" PRIu64 ",\"in_log\":%" PRIu64 ",\"blank\":%" PRIu64
           ",\"newest_lsn\":%" PRIu64 ",\"direct\":%s,\"bad\":[",
           v->pages, v->verified, damaged, v->in_log, v->blank, v->newest_lsn,
           v->direct ? "true" : "false");
    for (size_t i = 0; i < v->nbad; i++)
      bad_json(info, m, &v->bad[i], i == 0);
    printf("]}\n");
    return;
  }
  for (size_t i = 0; i < v->nbad; i++) {
    size_t missing = missing_pages(v, i);
    if (missing > 1) {
      printf("pages %" PRIu64 " to %" PRIu64 ": not in the file, which is "
             "shorter than page 1 says\n",
             shown(info, v->bad[i].id),
             shown(info, v->bad[i].id) + missing - 1);
      i += missing - 1;
    } else if (!v->bad[i].in_log) {
      bad_line(info, m, &v->bad[i]);
    }
  }
  if (v->in_log > 0)
    printf("%" PRIu64 " pages are not judged: the write-ahead log has newer "
           "versions of them\n",
           v->in_log);
  if (v->blank > 0)
    printf("%" PRIu64 " pages were never written\n", v->blank);
  printf("%s: %" PRIu64 " pages, %" PRIu64 " verified, %" PRIu64 " damaged\n",
         o->path, v->pages, v->verified, damaged);
}

int cmd_check(const options *o)
{
  file_info info;
  verdict v;
  if (file_look(o, &info) != GOOD)
    return FAILED;
  if (!stamped(&info))
    return complain(o,
                    "the database is %s: its pages carry no stamps that "
                    "could be verified (pagedb %s)",
                    state_name(&info),
                    info.reserve == PAGEDB_RECORD_SIZE ? "stamp" : "convert");
  if (verify_file(o, &info, &v) != GOOD)
    return FAILED;
  page_map *m = v.nbad > 0 ? map_of(o, &info) : NULL;
  uint64_t damaged = count_damaged(&v, m);
  check_report(o, &info, &v, m, damaged);
  page_map_free(m);
  free(v.bad);
  return damaged > 0 ? DAMAGED : GOOD;
}

/* -------------------------------------------------------------------- pages */

static int bad_by_id(const void *a, const void *b)
{
  uint64_t x = ((const bad_page *)a)->id, y = ((const bad_page *)b)->id;
  return x < y ? -1 : x > y;
}

static void page_line(const options *o, const file_info *info,
                      const page_map *m, uint64_t id, const char *status,
                      const pagedb_record *r)
{
  uint64_t lsn = r->magic == PAGEDB_MAGIC ? r->lsn : 0;
  if (o->json) {
    printf("{\"page\":%" PRIu64 ",\"status\":\"%s\",\"lsn\":%" PRIu64
           ",\"type\":\"%s\",\"object\":",
           shown(info, id), status, lsn, kind_of(m, id));
    json_string(stdout, object_of(m, id));
    printf("}\n");
  } else {
    printf("%10" PRIu64 "  %-18s %18" PRIu64 "  %-14s %s\n", shown(info, id),
           status, lsn, kind_of(m, id), object_of(m, id));
  }
}

static void list_pages(const options *o, const file_info *info, os_file *f,
                       const verdict *v, const page_map *m)
{
  uint32_t size = info->page_size;
  uint8_t tail[PAGEDB_RECORD_SIZE];
  for (uint64_t id = 0; id < info->pages; id++) {
    bad_page key = {.id = id};
    const bad_page *b =
        v->nbad == 0 ? NULL
                     : bsearch(&key, v->bad, v->nbad, sizeof key, bad_by_id);
    pagedb_record r = {0};
    uint64_t at =
        id * size + (info->type == FILE_DATABASE ? size - sizeof tail : 0);
    if (stamped(info) && read_at(f, tail, sizeof tail, at))
      pagedb_record_get(tail, sizeof tail, PAGEDB_TRAILING, &r);
    const char *status = b != NULL       ? pagedb_err_name(b->err)
                         : stamped(info) ? "ok"
                                         : "plain";
    if (info->type == FILE_DATABASE && pagedb_is_lock_page(id, size))
      status = "lock";
    page_line(o, info, m, id, status, &r);
  }
}

int cmd_pages(const options *o)
{
  file_info info;
  verdict v = {0};
  os_file *f;
  if (file_look(o, &info) != GOOD ||
      (stamped(&info) && verify_file(o, &info, &v) != GOOD))
    return FAILED;
  page_map *m = map_of(o, &info);
  if (os_open(o->path, OS_OPEN_READONLY, &f, NULL) != PAGEDB_OK)
    return complain(o, "cannot open: %s", pagedb_last_fault()->what);
  if (!o->json)
    printf("%10s  %-18s %18s  %-14s %s\n", "page", "status", "lsn", "type",
           "object");
  list_pages(o, &info, f, &v, m);
  uint64_t damaged = count_damaged(&v, m);
  os_close(f);
  page_map_free(m);
  free(v.bad);
  return damaged > 0 ? DAMAGED : GOOD;
}
