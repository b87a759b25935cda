/*
** world.c - see world.h.
*/
#define SQLITE_CORE 1
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vfs/vfs_int.h"
#include "../sqlutil.h"
#include "trace.h"
#include "world.h"

const char *const file_names[FILES] = {"main.db", "aux.db"};
static const char *const schemas[FILES] = {"main", "aux"};

/* ------------------------------------------------------------- connections */

/* junk(n, bytes): always the same bytes for the same n. */
static void junk(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
  (void)argc;
  uint64_t seed = (uint64_t)sqlite3_value_int64(argv[0]);
  size_t n = (size_t)sqlite3_value_int64(argv[1]);
  unsigned char *p = sqlite3_malloc64(n + 8);
  if (p == NULL) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  for (size_t i = 0; i < n; i += 8) {
    uint64_t word = next_random(&seed);
    memcpy(p + i, &word, 8);
  }
  sqlite3_result_blob64(ctx, p, n, sqlite3_free);
}

sqlite3 *world_open(const char *name, const char *vfs)
{
  char uri[700];
  sqlite3 *db = NULL;
  snprintf(uri, sizeof uri, "file:%s?vfs=%s", name, vfs);
  int rc = sqlite3_open_v2(
      uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
      NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_create_function(db, "junk", 2,
                                 SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, junk,
                                 NULL, NULL);
  if (rc == SQLITE_OK) {
    sqlite3_extended_result_codes(db, 1);
    return db;
  }
  sqlite3_close(db);
  return NULL;
}

/* What a spec runs its databases on. */
static const char *world_vfs(const spec *s)
{
  return s->stock ? s->direct ? "unix" : "simdisk" : "pagedb";
}

int went_wrong(world *w, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  if (w->failure[0] == 0)
    vsnprintf(w->failure, sizeof w->failure, format, args);
  va_end(args);
  return 0;
}

static int exec(world *w, sqlite3 *db, const char *sql)
{
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return 1;
  return went_wrong(w, "%s: %d %s (%s)", sql, sqlite3_extended_errcode(db),
                    sqlite3_errmsg(db), last_log());
}

static int exec_f(world *w, sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  char *sql = sqlite3_vmprintf(format, args);
  va_end(args);
  int good = exec(w, db, sql);
  sqlite3_free(sql);
  return good;
}

static sqlite3 *now(world *w)
{
  return w->db[w->turn];
}

static int get_number(sqlite3 *db, const char *sql)
{
  sqlite3_stmt *st;
  int n = 0;
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
    return -1;
  if (sqlite3_step(st) == SQLITE_ROW)
    n = sqlite3_column_int64(st, 0) > 0;
  sqlite3_finalize(st);
  return n;
}

static int hash(world *w, sqlite3 *db, int file, uint64_t *h)
{
  *h = 0;
  if (file > 0 && !w->has_aux)
    return 1;
  if (try_content_hash(db, schemas[file], h) == SQLITE_OK)
    return 1;
  return went_wrong(w, "reading %s: %d %s (%s)", schemas[file],
                    sqlite3_extended_errcode(db), sqlite3_errmsg(db),
                    last_log());
}

static int journal_mode(world *w, sqlite3 *db, const char *schema)
{
  return exec_f(w, db, "PRAGMA %s.journal_mode=%s", schema,
                journal_names[w->journal]);
}

static int set_up(world *w, sqlite3 *db, const char *schema)
{
  const spec *s = &w->spec;
  /* No content is overwritten with zeroes when it is deleted: then SQLite does
  ** not write every page. */
  return exec_f(w, db,
                "PRAGMA %s.secure_delete=0; PRAGMA %s.synchronous=%s;"
                "PRAGMA %s.cache_size=%d; PRAGMA %s.locking_mode=%s",
                schema, schema, sync_names[s->sync], schema,
                s->roomy ? 200 : 10, schema,
                s->exclusive ? "exclusive" : "normal") &&
         (w->journal == JOURNAL_WAL || journal_mode(w, db, schema));
}

const char *file_path(const char *dir, int file, char *buf, size_t n)
{
  snprintf(buf, n, "%s%s%s", dir == NULL ? "" : dir, dir == NULL ? "" : "/",
           file_names[file]);
  return buf;
}

static int connect_one(world *w, unsigned i)
{
  const spec *s = &w->spec;
  char path[600];
  w->db[i] = world_open(file_path(w->dir, 0, path, sizeof path), world_vfs(s));
  if (w->db[i] == NULL)
    return went_wrong(w, "cannot open: %s", last_log());
  if (s->start == START_NEW &&
      !exec_f(w, w->db[i], "PRAGMA page_size=%d", (int)s->page_size))
    return 0;
  if (!set_up(w, w->db[i], "main"))
    return 0;
  if (!w->has_aux)
    return 1;
  return exec_f(w, w->db[i], "ATTACH 'file:%s?vfs=%s' AS aux",
                file_path(w->dir, 1, path, sizeof path), world_vfs(s)) &&
         exec_f(w, w->db[i], "PRAGMA aux.page_size=%d", (int)s->page_size) &&
         set_up(w, w->db[i], "aux");
}

/* Real files go by our own descriptors, the simulated disk's by the parent. */
static int way_is_right(world *w)
{
  int parent = get_number(
      w->db[0], "SELECT count(*) FROM pagedb_files WHERE io='parent'");
  if (w->spec.stock || parent == !w->spec.direct)
    return 1;
  return went_wrong(w, "data goes %s the parent VFS", parent ? "by" : "around");
}

static int connect(world *w)
{
  unsigned pool = w->spec.small ? 32 * w->spec.page_size : 16 << 20;
  w->turn = 0;
  return connect_one(w, 0) && (!w->spec.two || connect_one(w, 1)) &&
         (w->spec.stock || exec_f(w, w->db[0], "PRAGMA pagedb_pool_size=%u",
                                  pool < 65536 ? 65536 : pool)) &&
         way_is_right(w);
}

static int disconnect_one(world *w, sqlite3 **db)
{
  int rc = sqlite3_close(*db);
  *db = NULL;
  return rc == SQLITE_OK || went_wrong(w, "close: %s", sqlite3_errstr(rc));
}

static int disconnect(world *w)
{
  return disconnect_one(w, &w->db[1]) & disconnect_one(w, &w->db[0]);
}

const char *real_files_begin(simdisk *d)
{
  pagedb_vfs.pAppData = sqlite3_vfs_find("unix");
  return trace_begin(d);
}

void real_files_end(void)
{
  trace_end();
  pagedb_vfs.pAppData = sqlite3_vfs_find("simdisk");
}

/* ------------------------------------------------------------------ changes */

/* Without a journal on disk a cut in a transaction ruins what it will. */
static int is_wild(const world *w)
{
  return w->journal == JOURNAL_OFF || w->journal == JOURNAL_MEMORY;
}

static int stamped_now(world *w, int file)
{
  if (w->spec.stock || (file > 0 && !w->has_aux))
    return 0;
  return get_number(now(w),
                    file > 0 ? "PRAGMA aux.pagedb_lsn" : "PRAGMA pagedb_lsn");
}

/* The content is what it has to be, for the other connection too. */
static int content_is_right(world *w)
{
  sqlite3 *db = w->db[w->spec.two ? !w->turn : 0];
  for (int i = 0; i < FILES; i++) {
    uint64_t h;
    if (!hash(w, db, i, &h))
      return 0;
    if (h != w->states[w->done].hash[i])
      return went_wrong(w, "state %u of %s: wrong content without any cut",
                        w->done, file_names[i]);
  }
  return 1;
}

/* The mirror has the state that is about to come. */
static int change_begins(world *w)
{
  unsigned next = w->done + 1;
  if (next == MOST_STATES)
    return went_wrong(w, "too many states");
  for (int i = 0; i < FILES; i++)
    if (!hash(w, w->mirror, i, &w->states[next].hash[i]))
      return 0;
  simdisk_mark(w->disk, is_wild(w) ? MARK_WILD : MARK_BEGIN, next);
  return 1;
}

static int change_is_done(world *w)
{
  unsigned next = ++w->done;
  for (int i = 0; i < FILES; i++)
    w->states[next].stamped[i] = stamped_now(w, i);
  simdisk_mark(w->disk,
               w->journal == JOURNAL_WAL && w->spec.sync == SYNC_NORMAL
                   ? MARK_DONE_LATER
                   : MARK_DONE,
               next);
  if (w->spec.two)
    w->turn = !w->turn;
  return content_is_right(w);
}

/* What is done on both sides; mirror_sql NULL: what only the database does. */
static int change(world *w, const char *sql, const char *mirror_sql)
{
  return (mirror_sql == NULL || exec(w, w->mirror, mirror_sql)) &&
         change_begins(w) && exec(w, now(w), sql) && change_is_done(w);
}

static int change_f(world *w, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  char *sql = sqlite3_vmprintf(format, args);
  va_end(args);
  int good = change(w, sql, sql);
  sqlite3_free(sql);
  return good;
}

/* ------------------------------------------------------------------- steps */

typedef enum step {
  STEP_END,
  STEP_SCHEMA,
  STEP_INSERT,
  STEP_UPDATE,
  STEP_DELETE,
  STEP_BLOB,
  STEP_HOLES,
  STEP_SAVEPOINT,
  STEP_ROLLBACK,
  STEP_SPILL,
  STEP_SPILL_ROLLBACK,
  STEP_INDEX,
  STEP_VACUUM,
  STEP_VACUUM_SIZE,
  STEP_INCREMENTAL,
  STEP_BOTH_FILES,
  STEP_CKPT_PASSIVE,
  STEP_CKPT_FULL,
  STEP_CKPT_RESTART,
  STEP_CKPT_TRUNCATE,
  STEP_READER,
  STEP_READER_END,
  STEP_MODE,
  STEP_STAMP,
  STEP_UNSTAMP,
  STEP_REOPEN,
  STEP_REPLACE,
  STEPS
} step;

static const step script_basic[] = {STEP_SCHEMA, STEP_INSERT, STEP_UPDATE,
                                    STEP_DELETE, STEP_INSERT, STEP_END};
static const step script_blob[] = {STEP_SCHEMA, STEP_HOLES,  STEP_BLOB,
                                   STEP_DELETE, STEP_BLOB,   STEP_UPDATE,
                                   STEP_DELETE, STEP_INSERT, STEP_END};
static const step script_txn[] = {
    STEP_SCHEMA,         STEP_SAVEPOINT, STEP_ROLLBACK, STEP_SPILL,
    STEP_SPILL_ROLLBACK, STEP_INDEX,     STEP_INSERT,   STEP_END};
static const step script_vacuum[] = {
    STEP_SCHEMA, STEP_SPILL,       STEP_DELETE,      STEP_VACUUM,
    STEP_INSERT, STEP_VACUUM_SIZE, STEP_INSERT,      STEP_DELETE,
    STEP_BLOB,   STEP_DELETE,      STEP_INCREMENTAL, STEP_END};
static const step script_attach[] = {STEP_SCHEMA, STEP_BOTH_FILES, STEP_INSERT,
                                     STEP_BOTH_FILES, STEP_END};
static const step script_ckpt[] = {
    STEP_SCHEMA,       STEP_INSERT,        STEP_READER,     STEP_UPDATE,
    STEP_CKPT_PASSIVE, STEP_INSERT,        STEP_READER_END, STEP_CKPT_FULL,
    STEP_BLOB,         STEP_CKPT_RESTART,  STEP_DELETE,     STEP_INSERT,
    STEP_BLOB,         STEP_CKPT_TRUNCATE, STEP_INSERT,     STEP_END};
static const step script_modes[] = {
    STEP_SCHEMA, STEP_INSERT, STEP_MODE,   STEP_UPDATE, STEP_MODE,
    STEP_INSERT, STEP_MODE,   STEP_DELETE, STEP_MODE,   STEP_UPDATE,
    STEP_MODE,   STEP_INSERT, STEP_END};
static const step script_stamp[] = {
    STEP_SCHEMA,  STEP_STAMP,   STEP_INSERT, STEP_UNSTAMP, STEP_DELETE,
    STEP_VACUUM,  STEP_UNSTAMP, STEP_STAMP,  STEP_UPDATE,  STEP_BLOB,
    STEP_UNSTAMP, STEP_STAMP,   STEP_END};
static const step script_reopen[] = {STEP_SCHEMA, STEP_INSERT, STEP_REOPEN,
                                     STEP_UPDATE, STEP_REOPEN, STEP_DELETE,
                                     STEP_BLOB,   STEP_REOPEN, STEP_END};
static const step script_replace[] = {
    STEP_SCHEMA, STEP_SPILL,   STEP_VACUUM,  STEP_REPLACE, STEP_INSERT,
    STEP_VACUUM, STEP_DELETE,  STEP_INSERT,  STEP_REPLACE, STEP_DELETE,
    STEP_VACUUM, STEP_REPLACE, STEP_REPLACE, STEP_END};

static const step *const scripts[SCRIPT_MIX] = {
    script_basic, script_blob,  script_txn,   script_vacuum, script_attach,
    script_ckpt,  script_modes, script_stamp, script_reopen, script_replace};

static unsigned row_bytes(const world *w)
{
  return w->page_size / 5;
}

/* Rows [first, first + n). */
static char *rows_sql(const char *table, uint64_t first, unsigned n,
                      unsigned bytes)
{
  return sqlite3_mprintf(
      "WITH RECURSIVE c(i) AS (SELECT %lld UNION ALL SELECT i+1 FROM c WHERE "
      "i<%lld) INSERT INTO %s SELECT i, i*7%%1000, junk(i,%u) FROM c;",
      (sqlite3_int64)first, (sqlite3_int64)(first + n - 1), table, bytes);
}

static int insert(world *w, unsigned n, unsigned bytes, const char *before,
                  const char *after)
{
  char *rows = rows_sql("t", w->next_row, n, bytes);
  w->next_row += n;
  int good = change_f(w, "%s%s%s", before, rows, after);
  sqlite3_free(rows);
  return good;
}

/* A transaction that is given up changes nothing. */
static int rolled_back(world *w, unsigned n)
{
  char *rows = rows_sql("t", w->next_row, n, row_bytes(w));
  int good = change_f(w, "BEGIN;%sUPDATE t SET n=n+1;ROLLBACK", rows);
  sqlite3_free(rows);
  return good;
}

/* Pages that are made and freed in one transaction: SQLite never writes them. */
static int holes(world *w)
{
  uint64_t big = w->next_row + 3;
  char *rows = rows_sql("t", w->next_row, 3, row_bytes(w));
  char *blob = rows_sql("t", big, 1, w->page_size * 6);
  w->next_row += 4;
  int good = change_f(w, "BEGIN;%s%sDELETE FROM t WHERE id=%lld;COMMIT", blob,
                      rows, (sqlite3_int64)big);
  sqlite3_free(rows);
  sqlite3_free(blob);
  return good;
}

/*
** SQLite before 3.53 (3.40.1 is known to) can lose a committed transaction that
** spills into the log, changes a spilled page, and goes back to a savepoint
** before it: the frames that it writes next get no checksums. Found here.
*/
static int savepoint_is_safe(const world *w)
{
  return w->journal != JOURNAL_WAL || w->spec.roomy ||
         sqlite3_libversion_number() >= 3053004;
}

static int savepoint(world *w)
{
  uint64_t a = w->next_row;
  char *one = rows_sql("t", a, 3, row_bytes(w));
  char *two = rows_sql("t", a + 3, 20, row_bytes(w));
  w->next_row += 3;
  int good = change_f(w,
                      "BEGIN;%sSAVEPOINT s;%sDELETE FROM t WHERE id%%2=0;"
                      "ROLLBACK TO s;UPDATE t SET n=n+1 WHERE id%%3=0;"
                      "RELEASE s;COMMIT",
                      one, two);
  sqlite3_free(one);
  sqlite3_free(two);
  return good;
}

static int schema(world *w)
{
  const char *aux =
      w->has_aux ? "CREATE TABLE aux.a(id INTEGER PRIMARY KEY, n, v);" : "";
  if (w->spec.start != START_NEW)
    return 1;
  if (w->spec.vacuums && !change(w, "PRAGMA auto_vacuum=2", NULL))
    return 0;
  if (w->journal == JOURNAL_WAL &&
      (!change(w, "PRAGMA main.journal_mode=wal", NULL) ||
       (w->has_aux && !change(w, "PRAGMA aux.journal_mode=wal", NULL))))
    return 0;
  if (!change_f(w,
                "BEGIN;CREATE TABLE t(id INTEGER PRIMARY KEY, n, v);"
                "CREATE INDEX ti ON t(n);%sCOMMIT",
                aux))
    return 0;
  if (!w->spec.stock && !w->states[w->done].stamped[0])
    return went_wrong(w, "a new database is not stamped");
  return insert(w, 12, row_bytes(w), "", "");
}

static int both_files(world *w)
{
  if (!w->has_aux)
    return 1;
  char *one = rows_sql("t", w->next_row, 3, row_bytes(w));
  char *two = rows_sql("aux.a", w->next_row, 4, row_bytes(w));
  w->next_row += 4;
  int good = change_f(w, "BEGIN;%s%sUPDATE t SET n=n+1 WHERE id%%4=0;COMMIT",
                      one, two);
  sqlite3_free(one);
  sqlite3_free(two);
  return good;
}

/* Stamped where page-db's wish for 32 bytes came in time. */
static int vacuum_by(world *w, const char *sql)
{
  int good = change(w, sql, NULL);
  if (good && w->states[w->done].stamped[0])
    w->no_room = 0;
  return good;
}

static int vacuum(world *w, int other_size)
{
  static const unsigned sizes[] = {512, 1024, 4096, 8192};
  if (!other_size || w->journal == JOURNAL_WAL)
    return vacuum_by(w, "VACUUM");
  unsigned size = sizes[random_below(&w->seed, 4)];
  if (size == w->page_size)
    size = size == 512 ? 2048 : size / 2;
  char sql[100];
  snprintf(sql, sizeof sql, "PRAGMA page_size=%u; VACUUM", size);
  w->page_size = size;
  return vacuum_by(w, sql);
}

/* A backup of the mirror, which keeps no bytes free, over the database. In WAL
** mode that is refused. */
static int replace(world *w)
{
  if (w->journal == JOURNAL_WAL)
    return 1;
  if (!exec(w, w->mirror, "UPDATE main.t SET n=n+1") || !change_begins(w))
    return 0;
  w->states[w->done + 1].replaced = w->states[w->done].stamped[0];
  sqlite3_backup *b = sqlite3_backup_init(now(w), "main", w->mirror, "main");
  sqlite3_backup_step(b, -1);
  if (b == NULL || sqlite3_backup_finish(b) != SQLITE_OK)
    return went_wrong(w, "backup: %d %s (%s)", sqlite3_extended_errcode(now(w)),
                      sqlite3_errmsg(now(w)), last_log());
  w->no_room = 1;
  return change_is_done(w);
}

static int checkpoint(world *w, const char *how)
{
  if (w->journal != JOURNAL_WAL)
    return 1;
  return exec_f(w, now(w), "PRAGMA wal_checkpoint(%s)", how);
}

static int reader_begin(world *w)
{
  if (w->reader != NULL || w->spec.exclusive || w->journal != JOURNAL_WAL)
    return 1;
  char path[600];
  w->reader =
      world_open(file_path(w->dir, 0, path, sizeof path), world_vfs(&w->spec));
  if (w->reader == NULL)
    return went_wrong(w, "cannot open a reader");
  return exec(w, w->reader, "BEGIN") && hash(w, w->reader, 0, &w->reader_hash);
}

/* What it read first is what it reads at last. */
static int reader_end(world *w)
{
  uint64_t h;
  if (w->reader == NULL)
    return 1;
  if (!exec(w, w->reader, "SELECT count(*) FROM t") ||
      !hash(w, w->reader, 0, &h))
    return 0;
  if (h != w->reader_hash)
    return went_wrong(w, "a reader's snapshot changed");
  return exec(w, w->reader, "COMMIT") && disconnect_one(w, &w->reader);
}

/*
** Another journal mode. Never from a mode with a journal on disk to one without:
** the deletion of the last journal or log may still be pending then, nothing
** makes it durable any more, and a cut brings it back over newer content. That
** is so in any SQLite.
*/
static int mode(world *w)
{
  static const journal others[] = {JOURNAL_DELETE, JOURNAL_TRUNCATE,
                                   JOURNAL_PERSIST, JOURNAL_WAL};
  char sql[100];
  if (w->spec.two || w->has_aux)
    return 1;
  journal next = others[random_below(&w->seed, 4)];
  if (w->journal == JOURNAL_WAL)
    next = w->journal = JOURNAL_DELETE; /* so is the change journalled */
  snprintf(sql, sizeof sql, "PRAGMA main.journal_mode=%s", journal_names[next]);
  if (!change(w, sql, NULL))
    return 0;
  w->journal = next;
  return 1;
}

/* Alone: in WAL mode SQLite keeps a lock on open databases. */
static int stamp(world *w, int on)
{
  sqlite3 *second = w->db[1];
  if (w->spec.stock || w->spec.exclusive || !reader_end(w))
    return w->failure[0] == 0;
  int reserved = w->spec.start != START_PLAIN && !w->no_room;
  if (!reserved || w->has_aux)
    return 1;
  if (second != NULL && !disconnect_one(w, &w->db[1]))
    return 0;
  w->turn = 0;
  unsigned two = (unsigned)w->spec.two;
  w->spec.two = 0;
  int good =
      change(w, on ? "PRAGMA pagedb_stamp" : "PRAGMA pagedb_unstamp", NULL);
  w->spec.two = (int)two;
  if (good && w->states[w->done].stamped[0] != on)
    return went_wrong(w, "%s did nothing", on ? "pagedb_stamp" : "unstamp");
  return good && (second == NULL || connect_one(w, 1));
}

static int take_step(world *w, step what)
{
  switch (what) {
  case STEP_SCHEMA:
    return schema(w);
  case STEP_INSERT:
    return insert(w, 3, row_bytes(w), "", "");
  case STEP_UPDATE:
    return change_f(w, "UPDATE t SET n=n+1, v=junk(id+%d,%u) WHERE id%%3=%d",
                    (int)w->done, row_bytes(w), (int)w->done % 3);
  case STEP_DELETE:
    return change_f(w, "DELETE FROM t WHERE id%%4=%d OR length(v)>%u",
                    (int)w->done % 4, w->page_size);
  case STEP_BLOB:
    return insert(w, 1, w->page_size * 5 + 77, "", "");
  case STEP_HOLES:
    return holes(w);
  case STEP_SAVEPOINT:
    return w->journal == JOURNAL_OFF || !savepoint_is_safe(w) || savepoint(w);
  case STEP_ROLLBACK:
    return w->journal == JOURNAL_OFF || rolled_back(w, 4);
  case STEP_SPILL:
    return insert(w, 70, row_bytes(w), "BEGIN;", "UPDATE t SET n=n+1;COMMIT");
  case STEP_SPILL_ROLLBACK:
    return w->journal == JOURNAL_OFF || rolled_back(w, 70);
  case STEP_INDEX:
    return change_f(w, "CREATE TABLE x%u AS SELECT n, id FROM t;", w->done) &&
           change_f(w, "DROP TABLE x%u", w->done - 1);
  case STEP_VACUUM:
    return reader_end(w) && vacuum(w, 0);
  case STEP_VACUUM_SIZE:
    return reader_end(w) && vacuum(w, 1);
  case STEP_INCREMENTAL:
    return change(w, "PRAGMA incremental_vacuum", NULL);
  case STEP_BOTH_FILES:
    return both_files(w);
  case STEP_CKPT_PASSIVE:
    return checkpoint(w, "PASSIVE");
  case STEP_CKPT_FULL:
    return checkpoint(w, "FULL");
  case STEP_CKPT_RESTART:
    return checkpoint(w, "RESTART");
  case STEP_CKPT_TRUNCATE:
    return checkpoint(w, "TRUNCATE");
  case STEP_READER:
    return reader_begin(w);
  case STEP_READER_END:
    return reader_end(w);
  case STEP_MODE:
    return reader_end(w) && mode(w);
  case STEP_STAMP:
    return stamp(w, 1);
  case STEP_UNSTAMP:
    return stamp(w, 0);
  case STEP_REPLACE:
    return reader_end(w) && replace(w);
  case STEP_REOPEN:
    return reader_end(w) && disconnect(w) && connect(w);
  default:
    return 1;
  }
}

/* ------------------------------------------------------------------- births */

static int make_existing(world *w)
{
  const spec *s = &w->spec;
  const char *vfs =
      s->start == START_STAMPED && !s->stock ? "pagedb" : "simdisk";
  for (int i = 0; i <= w->has_aux; i++) {
    sqlite3 *db = world_open(file_names[i], vfs);
    int bytes = s->start == START_PLAIN32 || s->start == START_STAMPED ? 32 : 0;
    if (db == NULL)
      return went_wrong(w, "cannot make %s", file_names[i]);
    sqlite3_file_control(db, NULL, SQLITE_FCNTL_RESERVE_BYTES, &bytes);
    char *rows = rows_sql(i > 0 ? "a" : "t", w->next_row, 12, row_bytes(w));
    int good =
        exec_f(w, db, "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d",
               (int)s->page_size, s->vacuums ? 2 : 0) &&
        exec_f(w, db, "PRAGMA journal_mode=%s",
               s->journal == JOURNAL_WAL ? "wal" : "delete") &&
        exec_f(w, db, "BEGIN;CREATE TABLE %s(id INTEGER PRIMARY KEY, n, v)",
               i > 0 ? "a" : "t") &&
        (i > 0 || exec(w, db, "CREATE INDEX ti ON t(n)")) &&
        exec_f(w, db, "%sCOMMIT", rows) &&
        exec_f(w, w->mirror, "CREATE TABLE %s(id INTEGER PRIMARY KEY, n, v);%s",
               i > 0 ? "aux.a" : "t", i > 0 ? "" : "CREATE INDEX ti ON t(n)");
    sqlite3_free(rows);
    rows = rows_sql(i > 0 ? "aux.a" : "t", w->next_row, 12, row_bytes(w));
    good = good && exec(w, w->mirror, rows);
    sqlite3_free(rows);
    if (sqlite3_close(db) != SQLITE_OK || !good)
      return went_wrong(w, "cannot make %s", file_names[i]);
  }
  w->next_row += 12;
  return 1;
}

static uint64_t clock_us;

static uint64_t tick(void)
{
  return ++clock_us;
}

/* SQLite's random numbers and page-db's clock begin anew: the same seed, the
** same bytes. */
static void same_again(const spec *s)
{
  sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(s->seed | 1), NULL);
  clock_us = (uint64_t)1 << 50;
  pagedb_globals.clock = tick;
  pagedb_globals.behind_bytes = s->behind ? s->page_size : BEHIND_BYTES;
}

static int begin(world *w)
{
  const spec *s = &w->spec;
  same_again(s);
  w->disk = simdisk_new();
  simdisk_use(w->disk);
  w->seed = s->seed;
  w->journal = s->journal;
  w->page_size = s->page_size;
  w->next_row = 1;
  w->has_aux = s->script == SCRIPT_ATTACH ||
               (s->script == SCRIPT_MIX && random_below(&w->seed, 3) == 0);
  w->atomic = s->journal < JOURNAL_MEMORY;
  w->mirror = world_open(":memory:", "simdisk");
  if (w->mirror == NULL || !exec(w, w->mirror, "PRAGMA secure_delete=0") ||
      (w->has_aux && !exec(w, w->mirror, "ATTACH ':memory:' AS aux")))
    return went_wrong(w, "no mirror");
  if (s->start != START_NEW && !make_existing(w))
    return 0;
  for (int i = 0; i < FILES; i++) {
    if (!hash(w, w->mirror, i, &w->states[0].hash[i]))
      return 0;
    w->states[0].stamped[i] = !s->stock && s->start == START_STAMPED;
  }
  simdisk_record(w->disk);
  simdisk_mark(w->disk, MARK_DONE, 0);
  if (s->direct)
    w->dir = real_files_begin(w->disk);
  return 1;
}

/* What the record missed no cut could lose. */
static int back_to_the_disk(world *w)
{
  if (w->dir == NULL)
    return 1;
  real_files_end();
  w->dir = NULL;
  return trace_missed() == NULL || went_wrong(w, "%s", trace_missed());
}

static int play(world *w)
{
  const spec *s = &w->spec;
  if (s->script != SCRIPT_MIX) {
    for (const step *p = scripts[s->script]; *p != STEP_END; p++)
      if (!take_step(w, *p))
        return 0;
    return 1;
  }
  if (!take_step(w, STEP_SCHEMA))
    return 0;
  for (unsigned i = 0; i < s->steps; i++)
    if (!take_step(w, (step)(STEP_INSERT +
                             random_below(&w->seed, STEPS - STEP_INSERT))))
      return 0;
  return 1;
}

int world_run(world *w, const spec *s)
{
  *w = (world){.spec = *s};
  return begin(w) && connect(w) && play(w) && reader_end(w) && disconnect(w) &&
         back_to_the_disk(w);
}

void world_free(world *w)
{
  sqlite3_close(w->reader);
  sqlite3_close(w->db[1]);
  sqlite3_close(w->db[0]);
  sqlite3_close(w->mirror);
  back_to_the_disk(w);
  simdisk_free(w->disk);
}
