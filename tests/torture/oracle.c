/*
** oracle.c - see oracle.h.
*/
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../sqlutil.h"
#include "oracle.h"
#include "trace.h"

/* What somebody who opens the files finds. */
typedef struct finding {
  int exists[FILES];
  uint64_t hash[FILES];
  int stamped[FILES];
} finding;

static int bad(examined *e, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  if (e->failure[0] == 0)
    vsnprintf(e->failure, sizeof e->failure, format, args);
  va_end(args);
  return 0;
}

/* First column of the first row; "" if none. 0: an error. */
static int ask(sqlite3 *db, const char *sql, char *out, size_t n)
{
  sqlite3_stmt *st;
  out[0] = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW &&
      sqlite3_column_text(st, 0) != NULL)
    snprintf(out, n, "%s", sqlite3_column_text(st, 0));
  if (rc == SQLITE_OK)
    rc = sqlite3_finalize(st);
  return rc == SQLITE_OK;
}

static int complain(examined *e, sqlite3 *db, const char *vfs, int file,
                    const char *what)
{
  return bad(e, "%s through %s: %s: %d %s; %s", file_names[file], vfs, what,
             sqlite3_extended_errcode(db), sqlite3_errmsg(db), last_log());
}

/* Every page of a stamped file verifies, and every page was looked at; those that
** only the log has are brought in first. */
static int pages_are_sound(sqlite3 *db, int file, examined *e)
{
  char text[300];
  if (!ask(db, "PRAGMA wal_checkpoint(TRUNCATE)", text, sizeof text))
    return complain(e, db, "pagedb", file, "checkpoint");
  if (!ask(db,
           "SELECT group_concat(page || ' ' || status) FROM pagedb_pages WHERE "
           "status NOT IN ('ok', 'lock', 'plain')",
           text, sizeof text))
    return complain(e, db, "pagedb", file, "pagedb_pages");
  if (text[0] != 0)
    return bad(e, "%s: pages: %s", file_names[file], text);
  if (!ask(db,
           "SELECT count(*) || ' of ' || (SELECT page_count FROM "
           "pragma_page_count) FROM pagedb_pages HAVING count(*)<>(SELECT "
           "page_count FROM pragma_page_count)",
           text, sizeof text))
    return complain(e, db, "pagedb", file, "pagedb_pages, counted");
  return text[0] == 0 ||
         bad(e, "%s: pagedb_pages has only %s pages", file_names[file], text);
}

static int look_at(sqlite3 *db, int file, const char *vfs, finding *f,
                   examined *e)
{
  char text[300];
  int rc = try_content_hash(db, "main", &f->hash[file]);
  if (rc != SQLITE_OK)
    return bad(e, "%s through %s: reading: %d; %s", file_names[file], vfs, rc,
               last_log());
  if (!ask(db, "PRAGMA integrity_check", text, sizeof text))
    return complain(e, db, vfs, file, "integrity_check");
  if (strcmp(text, "ok") != 0)
    return bad(e, "%s through %s: integrity_check: %s", file_names[file], vfs,
               text);
  if (strcmp(vfs, "pagedb") != 0)
    return 1;
  if (!ask(db, "PRAGMA pagedb_lsn", text, sizeof text))
    return complain(e, db, vfs, file, "pagedb_lsn");
  f->stamped[file] = strcmp(text, "0") != 0;
  return pages_are_sound(db, file, e);
}

/* Open, recover, look; the order of the files is `first` first. */
static int look_in(simdisk *d, const char *dir, const char *vfs, int first,
                   finding *f, examined *e)
{
  char path[600];
  int good = 1;
  *f = (finding){0};
  simdisk_use(d);
  for (int i = 0; i < FILES && good; i++) {
    int file = first ? FILES - 1 - i : i;
    f->exists[file] = simdisk_find(d, file_names[file]) >= 0;
    if (file > 0 && !f->exists[file])
      continue;
    sqlite3 *db = world_open(file_path(dir, file, path, sizeof path), vfs);
    if (db == NULL)
      return bad(e, "%s through %s: cannot be opened; %s", file_names[file],
                 vfs, last_log());
    good = look_at(db, file, vfs, f, e);
    int rc = sqlite3_close(db);
    if (rc != SQLITE_OK)
      good = bad(e, "%s: close: %s", vfs, sqlite3_errstr(rc));
  }
  return good;
}

static int look(simdisk *d, const char *vfs, int first, finding *f, examined *e)
{
  return look_in(d, NULL, vfs, first, f, e);
}

/* The same as real files. */
static int look_direct(simdisk *d, int first, finding *f, examined *e)
{
  const char *dir = real_files_begin(d);
  int good = look_in(d, dir, "pagedb", first, f, e);
  real_files_end();
  return good && (trace_missed() == NULL || bad(e, "%s", trace_missed()));
}

/* --------------------------------------------------------------- comparing */

static int content_fits(const world *w, const finding *f, int file, unsigned k)
{
  const db_state *s = &w->states[k];
  if (file > 0 && !w->has_aux)
    return 1;
  if (file > 0 && !f->exists[file])
    return s->hash[file] == w->states[0].hash[file];
  return f->hash[file] == s->hash[file];
}

/*
** Whether the file is stamped is decided apart from its content: stamping and
** unstamping have no journal of their own, and a VACUUM that made the file a
** stamped one and is rolled back leaves it stamped. But a file that is replaced
** by a plain one is stamped for as long as it has its former content.
*/
static int stamps_fit(const world *w, const finding *f, int file,
                      const claim *c, unsigned k)
{
  if (file > 0 && !f->exists[file])
    return 1;
  for (unsigned i = k; i <= c->most; i++) {
    if (i > k && file == 0 && w->states[i].replaced)
      return 0;
    if (w->states[i].stamped[file] == f->stamped[file])
      return 1;
  }
  return 0;
}

static int is_state(const world *w, const finding *f, int file, const claim *c,
                    unsigned k)
{
  return content_fits(w, f, file, k) && stamps_fit(w, f, file, c, k);
}

static int is_any(const world *w, const finding *f, int file, const claim *c)
{
  for (unsigned k = c->least[file]; k <= c->most; k++)
    if (is_state(w, f, file, c, k))
      return 1;
  return 0;
}

/* Which state was found, for the message. */
static void name_state(const world *w, const finding *f, int file, char *out,
                       size_t n)
{
  snprintf(out, n, "no state at all");
  for (unsigned k = 0; k <= w->done; k++)
    if (w->states[k].hash[file] == f->hash[file])
      snprintf(out, n, "state %u, %s", k,
               f->stamped[file] ? "stamped" : "plain");
}

static int compare(const world *w, const finding *f, const claim *c,
                   examined *e)
{
  char name[FILES][60];
  int together = 0, alone = 1;
  for (unsigned k = c->least[0]; k <= c->most; k++)
    together |= is_state(w, f, 0, c, k) && is_state(w, f, 1, c, k);
  for (int i = 0; i < FILES; i++) {
    alone &= is_any(w, f, i, c);
    name_state(w, f, i, name[i], sizeof name[i]);
  }
  if (w->atomic ? together : alone)
    return 1;
  return bad(e, "%s is %s%s%s; allowed %u to %u", file_names[0], name[0],
             w->has_aux ? ", aux.db is " : "", w->has_aux ? name[1] : "",
             c->least[0], c->most);
}

/* ------------------------------------------------------------- afterwards */

/* The recovered database can be written, and stock SQLite reads it. */
static int goes_on(simdisk *d, const finding *f, examined *e)
{
  finding after;
  simdisk_use(d);
  sqlite3 *db = world_open(file_names[0], "pagedb");
  if (db == NULL)
    return bad(e, "cannot be opened again; %s", last_log());
  int good =
      sqlite3_exec(db,
                   "CREATE TABLE zz(id INTEGER PRIMARY KEY, v);"
                   "INSERT INTO zz VALUES(1, junk(1,3000)),(2, junk(2,700));"
                   "DELETE FROM zz WHERE id=1;"
                   "INSERT INTO zz VALUES(3, junk(3,2000));",
                   NULL, NULL, NULL) == SQLITE_OK ||
      complain(e, db, "pagedb", 0, "writing after recovery");
  good = good && pages_are_sound(db, 0, e) &&
         (sqlite3_exec(db, "DROP TABLE zz", NULL, NULL, NULL) == SQLITE_OK ||
          complain(e, db, "pagedb", 0, "dropping after recovery"));
  sqlite3_close(db);
  if (!good || !look(d, "simdisk", 0, &after, e))
    return 0;
  return after.hash[0] == f->hash[0] ||
         bad(e, "stock SQLite reads something else after page-db wrote");
}

static int examine_as(simdisk *image, const world *w, const claim *c,
                      const finding *like, int depth, uint64_t seed,
                      examined *e);

/* Power goes again while page-db recovers. */
static int cut_again(simdisk *recovered, const world *w, const claim *c,
                     const finding *found, uint64_t seed, examined *e)
{
  static const cut_kind kinds[] = {CUT_NONE, CUT_ALL, CUT_SUBSET, CUT_TORN};
  size_t n, unused;
  simdisk_log(recovered, &n);
  int good = 1;
  for (int round = 0; round < 3 && n > 0 && good; round++) {
    size_t at = (size_t)random_below(&seed, n);
    platter *p = platter_new(recovered, 0);
    while (platter_at(p) <= at)
      platter_step(p);
    cut how = {kinds[random_below(&seed, 4)], 0, next_random(&seed)};
    simdisk *again = platter_cut(p, how, &unused);
    platter_free(p);
    good = examine_as(again, w, c, found, 0, next_random(&seed), e);
    if (!good) {
      size_t len = strlen(e->failure);
      snprintf(e->failure + len, sizeof e->failure - len,
               " (cut again at %u of %u of the recovery, kind %d)",
               (unsigned)at, (unsigned)n, (int)how.kind);
    }
  }
  return good;
}

static void open_only(simdisk *d, const char *vfs)
{
  finding f;
  examined ignored = {0};
  look(d, vfs, 0, &f, &ignored);
}

static int same_content(const finding *a, const finding *b)
{
  int same = 1;
  for (int i = 0; i < FILES; i++)
    same &= a->hash[i] == b->hash[i];
  return same;
}

/* like: what was found before, and has to be found again; or NULL. */
static int examine_as(simdisk *image, const world *w, const claim *c,
                      const finding *like, int depth, uint64_t seed,
                      examined *e)
{
  finding ours, stock;
  simdisk *copy = simdisk_clone(image);
  const char *vfs = w->spec.stock ? "simdisk" : "pagedb";
  int good = 1;
  e->images++;
  if (c->wild) {
    open_only(image, vfs);
  } else {
    simdisk_record(image);
    int first = (int)(seed & 1);
    good = w->spec.direct && !w->spec.stock && (seed & 2) != 0
               ? look_direct(image, first, &ours, e)
               : look(image, vfs, first, &ours, e);
    good = good && compare(w, &ours, c, e);
    if (good && like != NULL && !same_content(&ours, like))
      good = bad(e, "recovered to other content than before");
    if (good && depth > 0 && !w->spec.stock)
      good = cut_again(image, w, c, &ours, seed, e);
    if (good && !w->spec.stock)
      good = goes_on(image, &ours, e);
    if (good && !w->spec.stock && look(copy, "simdisk", 0, &stock, e) &&
        !same_content(&ours, &stock))
      good = bad(e, "stock SQLite recovers other content");
  }
  simdisk_free(image);
  simdisk_free(copy);
  return good && e->failure[0] == 0;
}

int examine(simdisk *image, const world *w, const claim *c, int depth,
            uint64_t seed, examined *e)
{
  return examine_as(image, w, c, NULL, depth, seed, e);
}
