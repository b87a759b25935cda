/*
** look.c - info, check, pages: read a file and change nothing.
**
** Pages are read in runs of 64, 32 runs at a time, so that the disk has plenty
** to do. A page that does not verify is read once more: a checkpoint of another
** process may have been writing it. A page that the write-ahead log holds in a
** newer version is not judged: a checkpoint that was cut short leaves such
** pages, and the next one writes them. Beside a journal that is not done with no
** bad page is: what a transaction that was cut short left is undone by whoever opens
** the database next.
**
** Page 1's word for the number of pages is not trusted: only pages that the file
** has are walked. What is said to be there and is not is one range in every
** report, and no damage of its own when page 1 is not sound.
*/
#define _DEFAULT_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../core/fault.h"
#include "../core/os.h"
#include "../vfs/btree.h"
#include "tool.h"

enum { RUN_PAGES = 64, RUNS = 32 };

static int stamped(const file_info *info)
{
  return info->type == FILE_NATIVE || info->stamped;
}

static const char *state_name(const file_info *info)
{
  if (info->type == FILE_NATIVE)
    return "native";
  if (info->broken)
    return "stamped, and the header in page 1 is damaged";
  if (info->stamped)
    return "stamped";
  return info->reserve == PAGEDB_RECORD_SIZE ? "plain, with 32 reserved bytes"
                                             : "plain";
}

static const char *stamping_command(const file_info *info)
{
  return info->reserve == PAGEDB_RECORD_SIZE ? "stamp" : "convert";
}

/* ----------------------------------------------------- log and journal */

static void say_log(const log_sum *log, const char *label)
{
  if (log->also + log->only > 0)
    printf("%spages that the file has, too: %" PRIu64
           "; pages that are nowhere else: %" PRIu64 "\n",
           label, log->also, log->only);
}

static void say_journal(const char *label)
{
  printf("%sof a transaction that is under way or was cut short; whoever opens "
         "the database next finishes or undoes it\n",
         label);
}

/* --------------------------------------------------------------------- info */

static void info_json(const options *o, const file_info *i, const log_sum *log)
{
  printf("{\"file\":");
  json_string(stdout, o->path);
  printf(",\"state\":\"%s\",\"page_size\":%u,\"pages\":%" PRIu64
         ",\"bytes\":%" PRIu64,
         i->type == FILE_NATIVE ? "native"
         : i->broken            ? "damaged"
         : i->stamped           ? "stamped"
                                : "plain",
         i->page_size, i->pages, i->bytes);
  if (i->type == FILE_DATABASE)
    printf(",\"reserved\":%u,\"lsn\":%" PRIu64
           ",\"journal\":\"%s\",\"free_pages\":%u,\"auto_vacuum\":%s,"
           "\"user_version\":%u,\"application_id\":%u,\"sqlite_version\":%u",
           i->reserve, i->lsn, i->wal ? "wal" : "rollback", i->free_pages,
           i->auto_vacuum ? "true" : "false", i->user_version,
           i->application_id, i->sqlite_version);
  if (i->type == FILE_DATABASE)
    printf(",\"pages_in_file\":%" PRIu64 ",\"also_in_log\":%" PRIu64
           ",\"only_in_log\":%" PRIu64 ",\"has_journal\":%s",
           i->in_file, log->also, log->only, has_journal(o) ? "true" : "false");
  printf("}\n");
}

static void info_lines(const options *o, const file_info *i, const log_sum *log)
{
  printf("file          ");
  plain_text(stdout, o->path);
  printf("\nkind          %s\n",
         i->type == FILE_NATIVE ? "native page file" : "SQLite database");
  printf("state         %s\n", state_name(i));
  printf("page size     %u bytes\n", i->page_size);
  printf("pages         %" PRIu64 "\n", i->pages);
  printf("length        %" PRIu64 " bytes", i->bytes);
  if (i->bytes / i->page_size < i->pages)
    printf(": %" PRIu64 " pages; page 1 counts more", i->bytes / i->page_size);
  printf("\n");
  if (i->type == FILE_NATIVE)
    return;
  if (i->stamped)
    printf("LSN of page 1 %" PRIu64 "\n", i->lsn);
  printf("journal mode  %s\n", i->wal ? "WAL" : "rollback");
  say_log(log, "log           ");
  if (has_journal(o))
    say_journal("journal       ");
  printf("free pages    %u\n", i->free_pages);
  printf("written by    SQLite %u.%u.%u\n", i->sqlite_version / 1000000,
         i->sqlite_version / 1000 % 1000, i->sqlite_version % 1000);
  if (!i->stamped)
    printf("to stamp it   pagedb %s\n", stamping_command(i));
}

int cmd_info(const options *o)
{
  file_info i;
  wal_log log;
  if (file_look(o, &i) != GOOD)
    return FAILED;
  log_read(o, &i, &log);
  if (o->json)
    info_json(o, &i, &log.sum);
  else
    info_lines(o, &i, &log.sum);
  log_free(&log);
  return GOOD;
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
  v->in_log += b->log == LOG_NEWER ? b->count : 0;
  return PAGEDB_OK;
}

static int all_zero(const uint8_t *p, size_t n)
{
  return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Judge a page that failed in a run, read anew. */
static int judge(pagedb_file *f, const file_info *info, uint64_t id,
                 uint8_t *page, const wal_log *log, verdict *v)
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
  bad_page b = {id,
                1,
                err,
                pagedb_last_fault()->found,
                pagedb_last_fault()->expected,
                log_has(log, id)};
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

static unsigned fill_batch(batch *b, uint64_t pages, uint64_t first)
{
  unsigned runs = 0;
  for (uint64_t id = first; runs < RUNS && id < pages; runs++) {
    uint64_t n = pages - id < RUN_PAGES ? pages - id : RUN_PAGES;
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

static int verify_walk(const options *o, const file_info *info, pagedb_file *f,
                       batch *b, const wal_log *log, verdict *v)
{
  int err = PAGEDB_OK;
  for (uint64_t first = 0;
       first < v->walked && err == PAGEDB_OK && !interrupted;
       first += (uint64_t)RUNS * RUN_PAGES) {
    unsigned runs = fill_batch(b, v->walked, first);
    pagedb_file_read_runs(f, b->run, runs);
    for (unsigned i = 0;
         i < runs * RUN_PAGES && first + i < v->walked && err == PAGEDB_OK;
         i++) {
      uint64_t id = first + i;
      if (info->type == FILE_DATABASE &&
          pagedb_is_lock_page(id, info->page_size))
        continue;
      v->pages++;
      if (b->err[i] != PAGEDB_OK) {
        err = judge(f, info, id, b->page[i], log, v);
        continue;
      }
      v->verified++;
      if (b->lsn[i] > v->newest_lsn)
        v->newest_lsn = b->lsn[i];
    }
    progress(o, "checking", first, v->walked);
  }
  progress_end(o);
  return err;
}

/* Pages that page 1 counts and the file does not have: those that are in the
** log one by one, of the others each range. */
static int note_missing(const file_info *info, const wal_log *log, verdict *v)
{
  int err = PAGEDB_OK;
  uint64_t id = v->walked;
  while (id < info->pages && err == PAGEDB_OK) {
    bad_page b = {.id = id, .count = 1, .err = PAGEDB_ESHORT};
    b.log = log_has(log, id);
    while (b.log != LOG_NEWER && id + b.count < info->pages &&
           log_has(log, id + b.count) == b.log)
      b.count = id + b.count < log->limit ? b.count + 1 : info->pages - id;
    v->pages += b.count;
    err = note_bad(v, &b);
    id += b.count;
  }
  return err;
}

/* Decides what is walked, and what is said of the rest. f is NULL for a plain
** file, whose pages cannot be verified. */
static int verify_pages(const options *o, const file_info *info, pagedb_file *f,
                        batch *b, verdict *v)
{
  wal_log log;
  int err = PAGEDB_OK;
  v->journal = info->type == FILE_DATABASE && has_journal(o);
  log_read(o, info, &log);
  v->walked = info->pages < info->in_file ? info->pages : info->in_file;
  if (f != NULL)
    err = verify_walk(o, info, f, b, &log, v);
  if (v->nbad > 0 && v->bad[0].id == 0 && info->pages > v->walked)
    v->claimed = info->pages;
  else if (err == PAGEDB_OK)
    err = note_missing(info, &log, v);
  /* A transaction may have begun, or ended, meanwhile. */
  v->journal = v->journal || (info->type == FILE_DATABASE && has_journal(o));
  v->log = log.sum;
  log_free(&log);
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
  if (!stamped(info))
    return verify_pages(o, info, NULL, NULL, v);
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
static page_map *map_of(const options *o, const file_info *info,
                        const verdict *v)
{
  raw_reader r = {.page_size = info->page_size};
  if (info->type != FILE_DATABASE ||
      os_open(o->path, OS_OPEN_READONLY, &r.f, NULL) != PAGEDB_OK)
    return NULL;
  page_map *m = page_map_make(
      read_raw, &r, info->page_size,
      info->stamped ? PAGEDB_RECORD_SIZE : info->reserve, v->walked);
  os_close(r.f);
  return m;
}

static const char *kind_of(const page_map *m, uint64_t id)
{
  return m == NULL || id >= m->pages ? ""
                                     : page_kind_name((page_kind)m->kind[id]);
}

static const char *object_of(const page_map *m, uint64_t id)
{
  return m == NULL || id >= m->pages ? "" : page_map_object(m, id);
}

/* A free leaf has no content that could be damaged. */
static int is_mendable(const page_map *m, const bad_page *b)
{
  return m != NULL && b->id < m->pages && m->kind[b->id] == PAGE_FREE_LEAF;
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
  printf("%s{\"page\":%" PRIu64, first ? "" : ",", shown(info, b->id));
  if (b->count > 1)
    printf(",\"last\":%" PRIu64, shown(info, b->id) + b->count - 1);
  printf(",\"status\":\"%s\",\"found\":%" PRIu64 ",\"expected\":%" PRIu64
         ",\"in_log\":%s,\"log_copy\":%s,\"type\":\"%s\",\"object\":",
         fault_status(b->err), b->found, b->expected,
         b->log == LOG_NEWER ? "true" : "false",
         b->log == LOG_COPY ? "true" : "false", kind_of(m, b->id));
  json_string(stdout, object_of(m, b->id));
  printf("}");
}

static void bad_line(const file_info *info, const page_map *m,
                     const bad_page *b)
{
  const char *copy = b->log == LOG_COPY ? "; the log has a copy" : "";
  if (b->count > 1) {
    printf("pages %" PRIu64 " to %" PRIu64
           ": not in the file, which is shorter "
           "than page 1 says%s\n",
           shown(info, b->id), shown(info, b->id) + b->count - 1, copy);
    return;
  }
  printf("page %" PRIu64 ": %s", shown(info, b->id),
         pagedb_err_sentence(b->err));
  if (b->found != 0 || b->expected != 0)
    printf(": found 0x%" PRIx64 ", expected 0x%" PRIx64, b->found, b->expected);
  if (kind_of(m, b->id)[0]) {
    printf(" (%s%s", kind_of(m, b->id), object_of(m, b->id)[0] ? " of " : "");
    plain_text(stdout, object_of(m, b->id));
    printf(")");
  }
  if (is_mendable(m, b))
    printf(": free, nothing is lost; pagedb stamp --adopt mends it");
  printf("%s\n", copy);
}

/* Pages that are damage, or are not judged because of the journal. */
static uint64_t count_bad(const verdict *v, const page_map *m)
{
  uint64_t n = 0;
  for (size_t i = 0; i < v->nbad; i++)
    if (v->bad[i].log != LOG_NEWER && !is_mendable(m, &v->bad[i]))
      n += v->bad[i].count;
  return n;
}

static int exit_code(const verdict *v, const page_map *m)
{
  if (count_bad(v, m) == 0)
    return GOOD;
  return v->journal ? UNJUDGED : DAMAGED;
}

/* The first line, where there is a journal. */
static void journal_line(const verdict *v, const page_map *m)
{
  if (!v->journal)
    return;
  say_journal("there is a journal ");
  if (count_bad(v, m) > 0)
    printf("until then no page is called damaged: open the database once, with "
           "page-db, and check it again\n");
}

static void check_json(const options *o, const file_info *info,
                       const verdict *v, const page_map *m)
{
  uint64_t bad = count_bad(v, m);
  printf("{\"file\":");
  json_string(stdout, o->path);
  printf(",\"pages\":%" PRIu64 ",\"verified\":%" PRIu64 ",\"damaged\":%" PRIu64
         ",\"unjudged\":%" PRIu64 ",\"in_log\":%" PRIu64
         ",\"only_in_log\":%" PRIu64 ",\"has_journal\":%s,\"blank\":%" PRIu64
         ",\"newest_lsn\":%" PRIu64 ",\"direct\":%s",
         v->pages, v->verified, v->journal ? 0 : bad, v->journal ? bad : 0,
         v->in_log, v->log.only, v->journal ? "true" : "false", v->blank,
         v->newest_lsn, v->direct ? "true" : "false");
  if (v->claimed > 0)
    printf(",\"claimed_pages\":%" PRIu64, v->claimed);
  printf(",\"bad\":[");
  for (size_t i = 0; i < v->nbad; i++)
    bad_json(info, m, &v->bad[i], i == 0);
  printf("]}\n");
}

/* What else is to be said when page 1 is bad. */
static void page1_lines(const file_info *info, const verdict *v)
{
  if (v->nbad == 0 || v->bad[0].id != 0 || v->bad[0].log == LOG_NEWER ||
      info->type == FILE_NATIVE)
    return;
  if (v->claimed > 0)
    printf("page 1 counts %" PRIu64 " pages and the file has %" PRIu64
           ": not believed, since page 1 is damaged\n",
           v->claimed, v->walked);
  else if (v->nbad == 1 && v->bad[0].err == PAGEDB_ECRC && !info->broken &&
           !v->journal)
    printf(
        "only page 1 is bad: a backup of a stamped database by stock SQLite "
        "looks like this, and so does damage in page 1; pagedb stamp --adopt "
        "accepts it after an integrity check\n");
}

static void check_text(const options *o, const file_info *info,
                       const verdict *v, const page_map *m)
{
  uint64_t bad = count_bad(v, m);
  journal_line(v, m);
  for (size_t i = 0; i < v->nbad; i++)
    if (v->bad[i].log != LOG_NEWER)
      bad_line(info, m, &v->bad[i]);
  page1_lines(info, v);
  if (v->in_log > 0)
    printf("bad pages, not judged, because the write-ahead log has newer "
           "versions: %" PRIu64 "\n",
           v->in_log);
  if (v->blank > 0)
    printf("pages that were never written: %" PRIu64 "\n", v->blank);
  say_log(&v->log,
          "in the write-ahead log, whose copies carry no stamps to verify: ");
  plain_text(stdout, o->path);
  printf(": %" PRIu64 " pages, %" PRIu64 " verified in the file, %" PRIu64
         " damaged",
         v->pages, v->verified, v->journal ? 0 : bad);
  if (v->journal && bad > 0)
    printf(", %" PRIu64 " bad and not judged", bad);
  printf("\n");
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
                    "could be verified. `pagedb %s` gives it stamps",
                    state_name(&info), stamping_command(&info));
  if (verify_file(o, &info, &v) != GOOD)
    return FAILED;
  page_map *m = v.nbad > 0 ? map_of(o, &info, &v) : NULL;
  if (o->json)
    check_json(o, &info, &v, m);
  else
    check_text(o, &info, &v, m);
  int rc = exit_code(&v, m);
  page_map_free(m);
  free(v.bad);
  return rc;
}

/* -------------------------------------------------------------------- pages */

/* A line for page id, or for `count` pages from id on. */
static void page_line(const options *o, const file_info *info,
                      const page_map *m, uint64_t id, uint64_t count,
                      const char *status, const pagedb_record *r)
{
  uint64_t lsn = r->magic == PAGEDB_MAGIC ? r->lsn : 0;
  if (o->json) {
    printf("{\"page\":%" PRIu64, shown(info, id));
    if (count > 1)
      printf(",\"last\":%" PRIu64, shown(info, id) + count - 1);
    printf(",\"status\":\"%s\",\"lsn\":%" PRIu64 ",\"type\":\"%s\",\"object\":",
           status, lsn, kind_of(m, id));
    json_string(stdout, object_of(m, id));
    printf("}\n");
    return;
  }
  printf("%10" PRIu64 "  %-18s %18" PRIu64 "  %-14s ", shown(info, id), status,
         lsn, kind_of(m, id));
  plain_text(stdout, object_of(m, id));
  if (count > 1)
    printf("up to page %" PRIu64, shown(info, id) + count - 1);
  printf("\n");
}

static const char *status_of(const file_info *info, const bad_page *b,
                             uint64_t id)
{
  if (info->type == FILE_DATABASE && pagedb_is_lock_page(id, info->page_size))
    return "lock";
  if (b != NULL)
    return b->log == LOG_NEWER ? "in log" : fault_status(b->err);
  return stamped(info) ? "ok" : "plain";
}

static void list_pages(const options *o, const file_info *info, os_file *f,
                       const verdict *v, const page_map *m)
{
  uint32_t size = info->page_size;
  uint8_t tail[PAGEDB_RECORD_SIZE];
  size_t bad = 0;
  for (uint64_t id = 0; id < v->walked; id++) {
    const bad_page *b =
        bad < v->nbad && v->bad[bad].id == id ? &v->bad[bad++] : NULL;
    pagedb_record r = {0};
    uint64_t at =
        id * size + (info->type == FILE_DATABASE ? size - sizeof tail : 0);
    if (stamped(info) && read_at(f, tail, sizeof tail, at))
      pagedb_record_get(tail, sizeof tail, PAGEDB_TRAILING, &r);
    page_line(o, info, m, id, 1, status_of(info, b, id), &r);
  }
  for (; bad < v->nbad; bad++) {
    const bad_page *b = &v->bad[bad];
    pagedb_record none = {0};
    page_line(o, info, m, b->id, b->count, status_of(info, b, b->id), &none);
  }
}

int cmd_pages(const options *o)
{
  file_info info;
  verdict v = {0};
  os_file *f;
  if (file_look(o, &info) != GOOD || verify_file(o, &info, &v) != GOOD)
    return FAILED;
  page_map *m = map_of(o, &info, &v);
  if (os_open(o->path, OS_OPEN_READONLY, &f, NULL) != PAGEDB_OK)
    return complain(o, "cannot open: %s", pagedb_last_fault()->what);
  if (!o->json) {
    journal_line(&v, m);
    printf("%10s  %-18s %18s  %-14s %s\n", "page", "status", "lsn", "type",
           "object");
  }
  list_pages(o, &info, f, &v, m);
  int rc = exit_code(&v, m);
  os_close(f);
  page_map_free(m);
  free(v.bad);
  return rc;
}
