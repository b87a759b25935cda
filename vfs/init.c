/*
** init.c - entry points: what the loader, a static host, and every new
** connection call. The one file that knows all parts.
**
**   sqlite3_pagedb_init       loaded: VFS registered, and the default one
**   sqlite3_pagedbnamed_init  loaded: VFS registered by name only
**   pagedb_register           linked
**   pagedb_extra_init         compiled in, -DSQLITE_EXTRA_INIT
**
** Environment, read at registration: PAGEDB_POOL_SIZE (bytes, or with KiB, MiB,
** GiB), PAGEDB_FETCH=off (pages by copy, not by pin), PAGEDB_STAMP=on|off|
** required and PAGEDB_DIRECT=auto|required|off (as the URI parameters, vfs.c).
** With another value nothing is registered.
*/
#define PAGEDB_SQLITE_API_HERE
#include <stdlib.h>
#include <string.h>

#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include "pagedb_sqlite.h"
#include "vfs_int.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { OLDEST_SQLITE = 3040001 };

/* More than any file: every page may be pinned. */
static const sqlite3_int64 NO_LIMIT = (sqlite3_int64)1 << 46;

/* A value that means nothing is refused, not guessed at. *message is what is
** wrong (sqlite3_malloc'd). */
static int check_word(const char *name, const char *const *words,
                      char **message)
{
  const char *v = getenv(name);
  if (v == NULL)
    return SQLITE_OK;
  for (int i = 0; words[i] != NULL; i++)
    if (sqlite3_stricmp(v, words[i]) == 0)
      return SQLITE_OK;
  *message = sqlite3_mprintf("%s=%s in the environment is not known to page-db",
                             name, v);
  return SQLITE_MISUSE;
}

static int read_environment(char **message)
{
  static const char *const stamp[] = {"on", "off", "required", NULL};
  static const char *const fetch[] = {"on", "off", NULL};
  static const char *const direct[] = {"auto", "required", "off", NULL};
  int rc = check_word("PAGEDB_STAMP", stamp, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_FETCH", fetch, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_DIRECT", direct, message);
  const char *size = getenv("PAGEDB_POOL_SIZE");
  if (rc != SQLITE_OK || size == NULL)
    return rc;
  sqlite3_int64 bytes = parse_bytes(size);
  if (bytes < 65536) {
    *message =
        sqlite3_mprintf("PAGEDB_POOL_SIZE=%s in the environment is not a "
                        "size of at least 64 KiB",
                        size);
    return SQLITE_MISUSE;
  }
  pagedb_globals.pool_bytes = (uint64_t)bytes;
  return SQLITE_OK;
}

/*
** Let SQLite ask for pages by xFetch: only for a main database of ours, by
** name.
** Without a schema name the limit would hold for files that other VFSes open
** later, and map them for real.
*/
static void allow_fetch(sqlite3 *db)
{
  sqlite3_file *f = NULL;
  const char *fetch = getenv("PAGEDB_FETCH");
  if ((fetch != NULL && sqlite3_stricmp(fetch, "off") == 0) ||
      sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) !=
          SQLITE_OK ||
      conn_of(f) == NULL)
    return;
  char *sql = sqlite3_mprintf("PRAGMA main.mmap_size=%lld", NO_LIMIT);
  if (sql != NULL)
    sqlite3_exec(db, sql, NULL, NULL, NULL);
  sqlite3_free(sql);
}

/* Every new connection, by sqlite3_auto_extension. */
static int connection_opened(sqlite3 *db, char **message,
                             const struct sqlite3_api_routines *api)
{
  (void)api;
  int rc = sql_register(db, message);
  if (rc == SQLITE_OK)
    allow_fetch(db);
  return rc;
}

/* *message (sqlite3_malloc'd) says what is wrong. */
static int start(int make_default, char **message)
{
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    *message =
        sqlite3_mprintf("page-db needs SQLite 3.40.1 or newer; this is %s",
                        sqlite3_libversion());
    return SQLITE_ERROR;
  }
  int rc = read_environment(message);
  return rc == SQLITE_OK ? vfs_register(NULL, make_default) : rc;
}

#ifndef SQLITE_CORE

static int load(sqlite3 *db, char **message, const sqlite3_api_routines *api,
                int make_default)
{
  SQLITE_EXTENSION_INIT2(api);
  int rc = start(make_default, message);
  if (rc == SQLITE_OK)
    rc = sqlite3_auto_extension((void (*)(void))connection_opened);
  if (rc == SQLITE_OK)
    rc = sql_register(db, message);
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}

EXPORT int sqlite3_pagedb_init(sqlite3 *db, char **message,
                               const sqlite3_api_routines *api);
EXPORT int sqlite3_pagedbnamed_init(sqlite3 *db, char **message,
                                    const sqlite3_api_routines *api);

int sqlite3_pagedb_init(sqlite3 *db, char **message,
                        const sqlite3_api_routines *api)
{
  return load(db, message, api, 1);
}

int sqlite3_pagedbnamed_init(sqlite3 *db, char **message,
                             const sqlite3_api_routines *api)
{
  return load(db, message, api, 0);
}

#else

/* A host that links page-db has the sentence in its error log. */
static int start_linked(int make_default)
{
  char *message = NULL;
  int rc = start(make_default, &message);
  if (message != NULL)
    sqlite3_log(rc, "pagedb: %s", message);
  sqlite3_free(message);
  return rc;
}

int pagedb_register(int make_default)
{
  int rc = sqlite3_initialize();
  if (rc == SQLITE_OK)
    rc = start_linked(make_default);
  if (rc == SQLITE_OK)
    rc = sqlite3_auto_extension((void (*)(void))connection_opened);
  return rc;
}

int pagedb_extra_init(const char *unused)
{
  (void)unused;
  return start_linked(1);
}

void pagedb_on_progress(void (*show)(unsigned long long, unsigned long long))
{
  pagedb_globals.progress = show;
}

int pagedb_sql_init(sqlite3 *db)
{
  int rc = sql_register(db, NULL);
  if (rc == SQLITE_OK)
    allow_fetch(db);
  return rc;
}

#endif
