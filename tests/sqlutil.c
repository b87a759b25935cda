/*
** sqlutil.c - see sqlutil.h.
*/
#define _XOPEN_SOURCE 700
#include "sqlutil.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char logged[1024], fact[1024];

static void on_log(void *arg, int code, const char *message)
{
  (void)arg;
  if (strncmp(message, "pagedb:", 7) == 0)
    snprintf(logged, sizeof logged, "%s", message);
  if (strncmp(message, "pagedb:", 7) == 0 && code != SQLITE_NOTICE)
    snprintf(fact, sizeof fact, "%s", message);
}

const char *first_log(void)
{
  return fact;
}

const char *last_log(void)
{
  return logged;
}

/* Every path that was given out, to be removed when the program that began
** ends; a forked child leaves them alone. */
static struct {
  char (*path)[600];
  size_t n;
  pid_t owner;
} given;

static void remove_given(void)
{
  for (size_t i = 0; given.owner == getpid() && i < given.n; i++)
    db_remove(given.path[i]);
}

static void give(const char *path)
{
  char(*more)[600] = realloc(given.path, (given.n + 1) * sizeof *more);
  assert_non_null(more);
  given.path = more;
  strcpy(given.path[given.n++], path);
}

void sql_start(void)
{
  sqlite3_config(SQLITE_CONFIG_LOG, on_log, NULL);
  if (given.owner == 0) {
    given.owner = getpid();
    atexit(remove_given);
  }
  sqlite3_config(SQLITE_CONFIG_URI, 1);
  const char *pcache = getenv("PAGEDB_PCACHE");
  if (pcache != NULL && strcmp(pcache, "on") == 0)
    assert_int_equal(pagedb_install(NULL), SQLITE_OK);
  assert_int_equal(pagedb_register(0), SQLITE_OK);
}

const char *db_path(const char *name)
{
  static char path[8][600];
  static unsigned turn;
  static char base[400];
  if (base[0] == 0) {
    const char *dir = getenv("PAGEDB_TEST_DIR");
    if (realpath(dir != NULL ? dir : "build", base) == NULL)
      fail_msg("no directory for databases");
  }
  char *p = path[turn++ % 8];
  snprintf(p, sizeof path[0], "%s/t%d-%s", base, (int)getpid(), name);
  db_remove(p);
  give(p);
  return p;
}

sqlite3 *db_open(const char *path, const char *vfs)
{
  sqlite3 *db = NULL;
  char uri[1024];
  snprintf(uri, sizeof uri, "file:%s?vfs=%s", path, vfs);
  int rc = sqlite3_open_v2(
      uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
      NULL);
  if (rc != SQLITE_OK)
    fail_msg("open %s: %s", uri, sqlite3_errmsg(db));
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, 20000);
  return db;
}

void db_close(sqlite3 *db)
{
  int rc = sqlite3_close(db);
  if (rc != SQLITE_OK)
    fail_msg("close: %s", sqlite3_errmsg(db));
}

static int execute(sqlite3 *db, const char *format, va_list args)
{
  char *sql = sqlite3_vmprintf(format, args);
  assert_non_null(sql);
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  sqlite3_free(sql);
  return rc;
}

void run(sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  int rc = execute(db, format, args);
  va_end(args);
  if (rc != SQLITE_OK)
    fail_msg("%s: %d: %s; %s", format, sqlite3_extended_errcode(db),
             sqlite3_errmsg(db), logged);
}

int try_run(sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  int rc = execute(db, format, args);
  va_end(args);
  return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(db);
}

static const char *first(sqlite3 *db, const char *format, va_list args)
{
  static char text[65536];
  sqlite3_stmt *st;
  char *sql = sqlite3_vmprintf(format, args);
  assert_non_null(sql);
  if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
    fail_msg("%s: %s", sql, sqlite3_errmsg(db));
  int rc = sqlite3_step(st);
  text[0] = 0;
  if (rc == SQLITE_ROW && sqlite3_column_text(st, 0) != NULL)
    snprintf(text, sizeof text, "%s", sqlite3_column_text(st, 0));
  if (rc != SQLITE_ROW && rc != SQLITE_DONE)
    fail_msg("%s: %d: %s; %s", sql, sqlite3_extended_errcode(db),
             sqlite3_errmsg(db), logged);
  sqlite3_finalize(st);
  sqlite3_free(sql);
  return text;
}

int64_t get_int(sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  const char *text = first(db, format, args);
  va_end(args);
  return strtoll(text, NULL, 10);
}

const char *get_text(sqlite3 *db, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  const char *text = first(db, format, args);
  va_end(args);
  return text;
}

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
  const unsigned char *p = data;
  for (size_t i = 0; i < n; i++)
    h = (h ^ p[i]) * 1099511628211u;
  return (h ^ n) * 1099511628211u;
}

static int hash_query(sqlite3 *db, const char *sql, uint64_t *h)
{
  sqlite3_stmt *st;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (rc != SQLITE_OK)
    return rc;
  while ((rc = sqlite3_step(st)) == SQLITE_ROW)
    for (int i = 0; i < sqlite3_column_count(st); i++) {
      int type = sqlite3_column_type(st, i);
      *h = mix(*h, &type, sizeof type);
      if (type != SQLITE_NULL) {
        const void *blob = sqlite3_column_blob(st, i);
        *h = mix(*h, blob, (size_t)sqlite3_column_bytes(st, i));
      }
    }
  rc = sqlite3_finalize(st);
  return rc;
}

static int hash_format(sqlite3 *db, uint64_t *h, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  char *sql = sqlite3_vmprintf(format, args);
  va_end(args);
  int rc = sql == NULL ? SQLITE_NOMEM : hash_query(db, sql, h);
  sqlite3_free(sql);
  return rc;
}

int try_content_hash(sqlite3 *db, const char *schema, uint64_t *h)
{
  sqlite3_stmt *st = NULL;
  *h = 1469598103u;
  int rc = hash_format(db, h,
                       "SELECT type, name, sql FROM \"%w\".sqlite_schema "
                       "ORDER BY 1, 2",
                       schema);
  char *sql = sqlite3_mprintf("SELECT name FROM \"%w\".sqlite_schema WHERE "
                              "type='table' AND rootpage>0 ORDER BY 1",
                              schema);
  if (rc == SQLITE_OK)
    rc =
        sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  sqlite3_free(sql);
  while (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
    rc = hash_format(db, h, "SELECT * FROM \"%w\".\"%w\"", schema,
                     sqlite3_column_text(st, 0));
  int end = sqlite3_finalize(st);
  return rc == SQLITE_OK ? end : rc;
}

uint64_t content_hash(sqlite3 *db)
{
  uint64_t h;
  if (try_content_hash(db, "main", &h) != SQLITE_OK)
    fail_msg("content: %s; %s", sqlite3_errmsg(db), logged);
  return h;
}

void assert_whole(const char *path, int stamped)
{
  sqlite3 *db = db_open(path, "pagedb");
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  assert_string_equal(get_text(db,
                               "SELECT state FROM pagedb_files WHERE "
                               "path LIKE '%%' || %Q",
                               path),
                      stamped ? "stamped" : "plain");
  if (stamped)
    assert_string_equal(
        get_text(db, "SELECT group_concat(page || ' ' || status) FROM "
                     "pagedb_pages WHERE status NOT IN ('ok', 'lock')"),
        "");
  db_close(db);
}

void db_finish(const char *path, sqlite3 *db)
{
  uint64_t hash = content_hash(db);
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "unix");
  assert_int_equal(content_hash(db), hash);
  db_close(db);
  db_remove(path);
}

void db_remove(const char *path)
{
  static const char *const suffix[] = {"", "-journal", "-wal", "-shm"};
  char name[1024];
  for (int i = 0; i < 4; i++) {
    snprintf(name, sizeof name, "%s%s", path, suffix[i]);
    remove(name);
  }
}

/* ------------------------------------------------------------------- bytes */

static FILE *must_open(const char *path, const char *how)
{
  FILE *f = fopen(path, how);
  if (f == NULL)
    fail_msg("cannot open %s", path);
  return f;
}

void file_read_at(const char *path, uint64_t off, void *buf, size_t n)
{
  FILE *f = must_open(path, "rb");
  assert_int_equal(fseek(f, (long)off, SEEK_SET), 0);
  assert_int_equal(fread(buf, 1, n, f), n);
  fclose(f);
}

void file_write_at(const char *path, uint64_t off, const void *buf, size_t n)
{
  FILE *f = must_open(path, "r+b");
  assert_int_equal(fseek(f, (long)off, SEEK_SET), 0);
  assert_int_equal(fwrite(buf, 1, n, f), n);
  fclose(f);
}

uint64_t file_bytes_of(const char *path)
{
  FILE *f = must_open(path, "rb");
  assert_int_equal(fseek(f, 0, SEEK_END), 0);
  long n = ftell(f);
  fclose(f);
  return (uint64_t)n;
}

void file_copy(const char *from, const char *to)
{
  static char buf[65536];
  FILE *in = fopen(from, "rb");
  if (in == NULL) {
    remove(to);
    return;
  }
  FILE *out = must_open(to, "wb");
  size_t n;
  while ((n = fread(buf, 1, sizeof buf, in)) > 0)
    assert_int_equal(fwrite(buf, 1, n, out), n);
  fclose(in);
  fclose(out);
}
