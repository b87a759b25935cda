/*
** sql.c - what SQL sees of page-db: pagedb_version(), and three tables that are
** always there: pagedb_files, pagedb_pages(schema), pagedb_stats.
**
** All rows of a query are gathered when it begins, into one array, so that no
** lock of ours is held between its steps. The columns are an interface: a test
** compares the DDL with docs/sql.md.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/fault.h"
#include "btree.h"
#include "vfs_int.h"

/* ----------------------------------------------- tables that are gathered */

typedef struct rows {
  void *row;
  size_t n, room, bytes; /* bytes per row */
  page_map *map;         /* pagedb_pages: names of objects */
} rows;

typedef struct table_kind {
  const char *name;
  const char *ddl;
  size_t row_bytes;
  int schema_column; /* of the hidden parameter, or -1 */
  int (*gather)(sqlite3 *db, const char *schema, rows *out, char **message);
  void (*column)(sqlite3_context *ctx, const rows *all, const void *row, int i);
} table_kind;

typedef struct table {
  sqlite3_vtab base;
  sqlite3 *db;
  const table_kind *kind;
} table;

typedef struct cursor {
  sqlite3_vtab_cursor base;
  rows all;
  size_t at;
  char *schema;
} cursor;

static void *rows_add(rows *r)
{
  if (r->n == r->room) {
    size_t room = r->room * 2 + 16;
    void *more = realloc(r->row, room * r->bytes);
    if (more == NULL)
      return NULL;
    r->row = more;
    r->room = room;
  }
  void *row = (char *)r->row + r->n++ * r->bytes;
  return memset(row, 0, r->bytes);
}

static void rows_clear(rows *r)
{
  free(r->row);
  page_map_free(r->map);
  *r = (rows){.bytes = r->bytes};
}

/* -------------------------------------------------------------- pagedb_files
 */

typedef struct file_row {
  char path[512];
  int stamped, wal, failed;
  const char *io;
  uint32_t page_size;
  uint64_t lsn, resident, dirty, connections;
  char error[SENTENCE];
} file_row;

static void file_fill(shared *s, file_row *r)
{
  pagedb_owner *o = atomic_load(&s->owner);
  snprintf(r->path, sizeof r->path, "%s", s->path);
  r->page_size = atomic_load(&s->page_size);
  r->stamped = atomic_load(&s->stamped);
  r->wal = atomic_load(&s->wal);
  r->failed = file_failed(s);
  r->lsn = atomic_load(&s->past_lsn);
  r->io = s->through != NULL ? "parent"
          : r->page_size != 0
              ? io_is_direct(s, r->page_size) ? "direct" : "buffered"
          : atomic_load(&s->direct) != NULL ? "direct"
                                            : "buffered";
  if (o != NULL)
    pagedb_owner_counts(o, &r->resident, &r->dirty);
  for (conn *c = s->conns; c != NULL; c = c->next)
    r->connections++;
  pthread_mutex_lock(&s->lock);
  snprintf(r->error, sizeof r->error, "%s", s->last_error);
  pthread_mutex_unlock(&s->lock);
}

static int files_gather(sqlite3 *db, const char *schema, rows *out,
                        char **message)
{
  int rc = SQLITE_OK;
  (void)db;
  (void)schema;
  (void)message;
  pthread_mutex_lock(&pagedb_globals.lock);
  for (shared *s = pagedb_globals.files; s != NULL; s = s->next) {
    file_row *r = rows_add(out);
    if (r == NULL) {
      rc = SQLITE_NOMEM;
      break;
    }
    file_fill(s, r);
  }
  pthread_mutex_unlock(&pagedb_globals.lock);
  return rc;
}

static void text(sqlite3_context *ctx, const char *s)
{
  sqlite3_result_text(ctx, s, -1, SQLITE_TRANSIENT);
}

static void number(sqlite3_context *ctx, uint64_t n)
{
  sqlite3_result_int64(ctx, (sqlite3_int64)n);
}

static void files_column(sqlite3_context *ctx, const rows *all, const void *row,
                         int i)
{
  const file_row *r = row;
  (void)all;
  switch (i) {
  case 0:
    text(ctx, r->path);
    break;
  case 1:
    text(ctx, r->page_size == 0 ? "empty" : r->stamped ? "stamped" : "plain");
    break;
  case 2:
    text(ctx, r->io);
    break;
  case 3:
    text(ctx, r->wal ? "wal" : "rollback");
    break;
  case 4:
    number(ctx, r->page_size);
    break;
  case 5:
    number(ctx, r->stamped ? r->lsn : 0);
    break;
  case 6:
    number(ctx, r->resident);
    break;
  case 7:
    number(ctx, r->dirty);
    break;
  case 8:
    number(ctx, r->connections);
    break;
  case 9:
    text(ctx, pagedb_globals.pcache_is_ours() ? "pagedb" : "built-in");
    break;
  case 10:
    number(ctx, (uint64_t)r->failed);
    break;
  default:
    if (r->error[0] != 0)
      text(ctx, r->error);
  }
}

/* -------------------------------------------------------------- pagedb_pages
 */

typedef struct page_row {
  uint64_t lsn;
  uint32_t stored, computed;
  uint8_t status; /* pagedb_err, or one of the below */
  uint8_t record; /* there is one */
} page_row;

enum { STATUS_PLAIN = 200, STATUS_LOCK, STATUS_MENDABLE, STATUS_IN_LOG };

typedef struct map_reader {
  shared *s;
  uint8_t *aligned;
} map_reader;

static int read_for_map(void *arg, uint64_t id, uint8_t *buf)
{
  map_reader *m = arg;
  uint32_t size = atomic_load(&m->s->page_size);
  size_t got = 0;
  if (io_read_page(m->s, id, m->aligned, &got) != PAGEDB_OK || got < size)
    return 0;
  memcpy(buf, m->aligned, size);
  return 1;
}

static void page_fill(shared *s, uint64_t id, uint8_t *buf, page_row *r)
{
  uint32_t size = atomic_load(&s->page_size);
  pagedb_record rec;
  size_t got = 0;
  int err = io_read_page(s, id, buf, &got);
  if (is_lock_page(id, size)) {
    r->status = STATUS_LOCK;
  } else if (err != PAGEDB_OK || got < size) {
    r->status = (uint8_t)(err != PAGEDB_OK ? err : PAGEDB_ESHORT);
  } else if (!atomic_load(&s->stamped)) {
    r->status = STATUS_PLAIN;
  } else {
    r->status = (uint8_t)pages_verify(s, buf, got, size, id, NULL);
    pagedb_record_get(buf, size, PAGEDB_TRAILING, &rec);
    r->record = rec.magic == PAGEDB_MAGIC;
  }
  if (r->record) {
    r->lsn = rec.lsn;
    r->stored = rec.crc;
    r->computed = pagedb_page_crc(buf, size, PAGEDB_TRAILING, id);
  }
}

/* The pages that count, as far as the file goes, and one more for all that it
** lacks: a damaged page 1 may count any number. */
static uint64_t pages_listed(shared *s, uint32_t size)
{
  uint64_t bytes = 0, pages = atomic_load(&s->count);
  if (size == 0 || io_size(s, &bytes) != PAGEDB_OK)
    return 0;
  uint64_t there = (bytes + size - 1) / size;
  if (pages == 0)
    return bytes / size;
  return pages <= there ? pages
                        : there + 1 + (uint64_t)is_lock_page(there, size);
}

/*
** A page that is not what it should be. If the log has it, SQLite never reads it
** from the file: a checkpoint was cut, or is under way. One that has just ended
** makes it sound. It may have entered the log since that was looked at.
*/
static int page_fill_bad(conn *c, bitmap *log, uint64_t pages, uint64_t id,
                         uint8_t *buf, page_row *r)
{
  *r = (page_row){0};
  page_fill(c->file, id, buf, r);
  if (r->status == PAGEDB_OK || r->status >= STATUS_PLAIN)
    return SQLITE_OK;
  if (!bitmap_has(log, id))
    wal_pending(c, pages, log);
  if (log->all)
    return SQLITE_NOMEM;
  if (bitmap_has(log, id))
    r->status = STATUS_IN_LOG;
  return SQLITE_OK;
}

static int pages_fill_all(conn *c, uint64_t pages, uint8_t *buf, rows *out)
{
  shared *s = c->file;
  bitmap log = {0};
  int rc = SQLITE_OK;
  for (uint64_t id = 0; rc == SQLITE_OK && id < pages; id++) {
    page_row *r = rows_add(out);
    if (r == NULL) {
      rc = SQLITE_NOMEM;
      break;
    }
    page_fill(s, id, buf, r);
    if (r->status != PAGEDB_OK && r->status < STATUS_PLAIN)
      rc = page_fill_bad(c, &log, pages, id, buf, r);
  }
  bitmap_clear(&log);
  return rc;
}

static int pages_fill(conn *c, rows *out)
{
  shared *s = c->file;
  uint32_t size = atomic_load(&s->page_size);
  uint64_t pages = pages_listed(s, size);
  uint8_t *buf = os_aligned_alloc(4096, 65536);
  map_reader m = {s, buf};
  int rc = buf == NULL ? SQLITE_NOMEM : pages_fill_all(c, pages, buf, out);
  if (rc == SQLITE_OK && pages > 0) {
    uint8_t head[HEADER_BYTES];
    size_t got;
    uint32_t reserve =
        io_header(s, head, &got) == PAGEDB_OK ? head[HEADER_RESERVE] : 0;
    out->map = page_map_make(read_for_map, &m, size, reserve, pages);
    rc = out->map == NULL ? SQLITE_NOMEM : SQLITE_OK;
  }
  /* SQLite defines no content for a free leaf: nothing is lost with it. */
  for (uint64_t id = 0; rc == SQLITE_OK && id < pages; id++) {
    page_row *r = (page_row *)out->row + id;
    if (r->status != PAGEDB_OK && r->status < STATUS_PLAIN &&
        out->map->kind[id] == PAGE_FREE_LEAF)
      r->status = STATUS_MENDABLE;
  }
  os_aligned_free(buf);
  return rc;
}

/*
** Hold SHARED while the file is looked at: through a statement, so that SQLite
** knows of it, or another thread that shares the cache would have its lock taken
** away. Where SQL cannot read the file (page 1 is damaged) by our own call, if
** nobody shares it.
*/
static int hold(sqlite3 *db, const char *schema, conn *c, sqlite3_stmt **stmt,
                int *locked)
{
  *stmt = NULL;
  *locked = 0;
  if (c->no_lock)
    return SQLITE_OK;
  char *sql =
      sqlite3_mprintf("SELECT count(*) FROM \"%w\".sqlite_master", schema);
  if (sql == NULL)
    return SQLITE_NOMEM;
  int rc = sqlite3_prepare_v2(db, sql, -1, stmt, NULL);
  sqlite3_free(sql);
  if (rc == SQLITE_OK && sqlite3_step(*stmt) == SQLITE_ROW)
    return SQLITE_OK;
  sqlite3_finalize(*stmt);
  *stmt = NULL;
  if (c->lock == SQLITE_LOCK_NONE && c->shared_cache)
    return SQLITE_BUSY;
  return lock_for_now(c, locked);
}

/* The file as it is on disk, under SHARED. */
static int pages_gather(sqlite3 *db, const char *schema, rows *out,
                        char **message)
{
  sqlite3_file *f = NULL;
  int rc = sqlite3_file_control(db, schema, SQLITE_FCNTL_FILE_POINTER, &f);
  conn *c = rc == SQLITE_OK ? conn_of(f) : NULL;
  if (c == NULL) {
    *message =
        sqlite3_mprintf("pagedb_pages: \"%s\" is not a database that was "
                        "opened through page-db",
                        schema);
    return SQLITE_ERROR;
  }
  sqlite3_stmt *stmt;
  int locked;
  rc = hold(db, schema, c, &stmt, &locked);
  if (rc == SQLITE_OK) {
    behind_wait(c);
    rc = pages_fill(c, out);
  }
  sqlite3_finalize(stmt);
  unlock_after(c, locked);
  return rc;
}

static const char *status_name(uint8_t status)
{
  switch (status) {
  case STATUS_PLAIN:
    return "plain";
  case STATUS_LOCK:
    return "lock";
  case STATUS_MENDABLE:
    return "free, mendable";
  case STATUS_IN_LOG:
    return "in log";
  default:
    return fault_status(status);
  }
}

static void pages_column(sqlite3_context *ctx, const rows *all, const void *row,
                         int i)
{
  const page_row *r = row;
  uint64_t id = (uint64_t)(r - (const page_row *)all->row);
  switch (i) {
  case 0:
    number(ctx, id + 1);
    break;
  case 1:
    text(ctx, status_name(r->status));
    break;
  case 2:
    if (r->record)
      number(ctx, r->lsn);
    break;
  case 3:
    if (r->record)
      number(ctx, r->stored);
    break;
  case 4:
    if (r->record)
      number(ctx, r->computed);
    break;
  case 5:
    text(ctx, page_kind_name((page_kind)all->map->kind[id]));
    break;
  case 6:
    if (page_map_object(all->map, id)[0] != 0)
      text(ctx, page_map_object(all->map, id));
    break;
  default:
    break;
  }
}

/* -------------------------------------------------------------- pagedb_stats
 */

typedef struct stat_row {
  char name[48];
  uint64_t value;
} stat_row;

/* Upper end of the bucket in which the part-th of all values lies, in ns. */
static uint64_t percentile(timed kind, double part)
{
  uint64_t count[LATENCY_BUCKETS], all = 0, seen = 0;
  for (int i = 0; i < LATENCY_BUCKETS; i++)
    all += count[i] = atomic_load(&pagedb_globals.count.latency[kind][i]);
  for (int i = 0; i < LATENCY_BUCKETS; i++) {
    seen += count[i];
    if (all > 0 && (double)seen >= part * (double)all)
      return (uint64_t)2 << i;
  }
  return 0;
}

static int stat_add(rows *out, const char *name, uint64_t value)
{
  stat_row *r = rows_add(out);
  if (r == NULL)
    return SQLITE_NOMEM;
  snprintf(r->name, sizeof r->name, "%s", name);
  r->value = value;
  return SQLITE_OK;
}

static int stats_latency(rows *out)
{
  static const char *const kind[] = {"read", "write", "sync"};
  static const struct {
    const char *name;
    double part;
  } parts[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}};
  char name[48];
  int rc = SQLITE_OK;
  for (int k = 0; k < TIMED_KINDS; k++)
    for (int i = 0; i < 3 && rc == SQLITE_OK; i++) {
      snprintf(name, sizeof name, "%s_latency_%s_ns", kind[k], parts[i].name);
      rc = stat_add(out, name, percentile((timed)k, parts[i].part));
    }
  return rc;
}

static int stats_pcache(rows *out, const pagedb_pool_stats *p)
{
  const struct {
    const char *name;
    uint64_t value;
  } all[] = {{"pcache_pages", p->private_pages},
             {"pcache_bytes", p->private_bytes},
             {"pcache_outside_bytes", p->outside_bytes},
             {"pcache_excess_bytes", p->excess_bytes},
             {"pcache_table_bytes", p->private_table_bytes},
             {"pcache_hits", p->private_hits},
             {"pcache_misses", p->private_misses},
             {"pcache_taken", p->private_taken},
             {"pcache_excesses", p->private_excesses}};
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof all / sizeof all[0] && rc == SQLITE_OK; i++)
    rc = stat_add(out, all[i].name, all[i].value);
  return rc;
}

static int stats_gather(sqlite3 *db, const char *schema, rows *out,
                        char **message)
{
  pagedb_pool_stats p = {0};
  counters *g = &pagedb_globals.count;
  pagedb_pool *pool = pool_get();
  (void)db;
  (void)schema;
  (void)message;
  if (pool == NULL)
    return SQLITE_NOMEM;
  pagedb_pool_stats_get(pool, &p);
  const struct {
    const char *name;
    uint64_t value;
  } all[] = {
      {"pool_capacity_bytes", p.capacity_bytes},
      {"pool_used_bytes", p.used_bytes},
      {"pool_table_bytes", p.table_bytes},
      {"resident_pages", p.resident},
      {"dirty_pages", p.dirty},
      {"hits", p.hits},
      {"misses", p.misses},
      {"evictions", p.evictions},
      {"exhausted", p.exhausted},
      {"bounces", atomic_load(&g->bounces)},
      {"pages_read", atomic_load(&g->page_reads)},
      {"pages_written", atomic_load(&g->page_writes)},
      {"write_calls", atomic_load(&g->write_calls)},
      {"read_ahead_used", p.ahead_used},
      {"read_ahead_wasted", p.ahead_wasted},
      {"flushes_behind", atomic_load(&g->flushes_behind)},
      {"joins", atomic_load(&g->joins)},
      {"syncs", atomic_load(&g->syncs)},
      {"invalidations", atomic_load(&g->invalidations)},
      {"failures_no_stamp", atomic_load(&g->failures[PAGEDB_EUNSTAMPED])},
      {"failures_magic", atomic_load(&g->failures[PAGEDB_EMAGIC])},
      {"failures_version", atomic_load(&g->failures[PAGEDB_EVERSION])},
      {"failures_crc", atomic_load(&g->failures[PAGEDB_ECRC])},
      {"failures_page_id", atomic_load(&g->failures[PAGEDB_EPAGEID])}};
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof all / sizeof all[0] && rc == SQLITE_OK; i++)
    rc = stat_add(out, all[i].name, all[i].value);
  if (rc == SQLITE_OK)
    rc = stats_latency(out);
  return rc == SQLITE_OK ? stats_pcache(out, &p) : rc;
}

static void stats_column(sqlite3_context *ctx, const rows *all, const void *row,
                         int i)
{
  const stat_row *r = row;
  (void)all;
  if (i == 0)
    text(ctx, r->name);
  else
    number(ctx, r->value);
}

/* ------------------------------------------------------------------ modules */

static const table_kind kinds[] = {
    {"pagedb_files",
     "CREATE TABLE pagedb_files(path TEXT, state TEXT, io TEXT, journal TEXT, "
     "page_size INTEGER, lsn INTEGER, resident INTEGER, dirty INTEGER, "
     "connections INTEGER, pcache TEXT, failed INTEGER, last_error TEXT)",
     sizeof(file_row), -1, files_gather, files_column},
    {"pagedb_pages",
     "CREATE TABLE pagedb_pages(page INTEGER, status TEXT, lsn INTEGER, "
     "stored_crc INTEGER, computed_crc INTEGER, type TEXT, object TEXT, "
     "schema TEXT HIDDEN)",
     sizeof(page_row), 7, pages_gather, pages_column},
    {"pagedb_stats", "CREATE TABLE pagedb_stats(name TEXT, value INTEGER)",
     sizeof(stat_row), -1, stats_gather, stats_column}};

static int t_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                     sqlite3_vtab **out, char **message)
{
  const table_kind *kind = aux;
  (void)argc;
  (void)argv;
  (void)message;
  int rc = sqlite3_declare_vtab(db, kind->ddl);
  if (rc != SQLITE_OK)
    return rc;
  table *t = sqlite3_malloc(sizeof *t);
  if (t == NULL)
    return SQLITE_NOMEM;
  *t = (table){.db = db, .kind = kind};
  *out = &t->base;
  return SQLITE_OK;
}

static int t_disconnect(sqlite3_vtab *t)
{
  sqlite3_free(t);
  return SQLITE_OK;
}

/* idxNum 1: the schema's name is given. */
static int t_best_index(sqlite3_vtab *vt, sqlite3_index_info *info)
{
  const table_kind *kind = ((table *)vt)->kind;
  info->estimatedCost = 1e6;
  info->estimatedRows = 1000;
  for (int i = 0; i < info->nConstraint; i++) {
    if (info->aConstraint[i].iColumn != kind->schema_column ||
        kind->schema_column < 0 ||
        info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
      continue;
    if (!info->aConstraint[i].usable)
      return SQLITE_CONSTRAINT;
    info->aConstraintUsage[i].argvIndex = 1;
    info->aConstraintUsage[i].omit = 1;
    info->idxNum = 1;
    return SQLITE_OK;
  }
  return SQLITE_OK;
}

static int t_open(sqlite3_vtab *vt, sqlite3_vtab_cursor **out)
{
  cursor *c = sqlite3_malloc(sizeof *c);
  if (c == NULL)
    return SQLITE_NOMEM;
  memset(c, 0, sizeof *c);
  c->all.bytes = ((table *)vt)->kind->row_bytes;
  *out = &c->base;
  return SQLITE_OK;
}

static int t_close(sqlite3_vtab_cursor *vc)
{
  cursor *c = (cursor *)vc;
  rows_clear(&c->all);
  sqlite3_free(c->schema);
  sqlite3_free(c);
  return SQLITE_OK;
}

static int t_filter(sqlite3_vtab_cursor *vc, int plan, const char *plan_text,
                    int argc, sqlite3_value **argv)
{
  cursor *c = (cursor *)vc;
  table *t = (table *)vc->pVtab;
  const char *schema = "main";
  (void)plan_text;
  (void)argc;
  if (plan == 1 && sqlite3_value_text(argv[0]) != NULL)
    schema = (const char *)sqlite3_value_text(argv[0]);
  rows_clear(&c->all);
  sqlite3_free(c->schema);
  c->at = 0;
  c->schema = sqlite3_mprintf("%s", schema);
  if (c->schema == NULL)
    return SQLITE_NOMEM;
  char *message = NULL;
  int rc = t->kind->gather(t->db, schema, &c->all, &message);
  if (message != NULL) {
    sqlite3_free(t->base.zErrMsg);
    t->base.zErrMsg = message;
  }
  return rc;
}

static int t_next(sqlite3_vtab_cursor *vc)
{
  ((cursor *)vc)->at++;
  return SQLITE_OK;
}

static int t_eof(sqlite3_vtab_cursor *vc)
{
  const cursor *c = (const cursor *)vc;
  return c->at >= c->all.n;
}

static int t_column(sqlite3_vtab_cursor *vc, sqlite3_context *ctx, int i)
{
  cursor *c = (cursor *)vc;
  const table_kind *kind = ((table *)vc->pVtab)->kind;
  const void *row = (const char *)c->all.row + c->at * c->all.bytes;
  if (i == kind->schema_column)
    text(ctx, c->schema);
  else
    kind->column(ctx, &c->all, row, i);
  return SQLITE_OK;
}

static int t_rowid(sqlite3_vtab_cursor *vc, sqlite3_int64 *out)
{
  *out = (sqlite3_int64)((cursor *)vc)->at + 1;
  return SQLITE_OK;
}

/* Eponymous only: no CREATE VIRTUAL TABLE. */
static const sqlite3_module module = {.xConnect = t_connect,
                                      .xBestIndex = t_best_index,
                                      .xDisconnect = t_disconnect,
                                      .xOpen = t_open,
                                      .xClose = t_close,
                                      .xFilter = t_filter,
                                      .xNext = t_next,
                                      .xEof = t_eof,
                                      .xColumn = t_column,
                                      .xRowid = t_rowid};

static void version(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
  (void)argc;
  (void)argv;
  sqlite3_result_text(ctx, pagedb_version(), -1, SQLITE_STATIC);
}

int sql_register(sqlite3 *db, char **message)
{
  (void)message;
  int rc = sqlite3_create_function_v2(db, "pagedb_version", 0,
                                      SQLITE_UTF8 | SQLITE_DETERMINISTIC |
                                          SQLITE_INNOCUOUS,
                                      NULL, version, NULL, NULL, NULL);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && rc == SQLITE_OK; i++)
    rc = sqlite3_create_module_v2(db, kinds[i].name, &module,
                                  (void *)(uintptr_t)&kinds[i], NULL);
  return rc;
}
