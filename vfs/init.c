/*
** init.c - entry points: what the loader, a static host, and every new
** connection call. The one file that knows all parts.
**
**   sqlite3_pagedb_init       loaded: VFS registered, and the default one
**   sqlite3_pagedbnamed_init  loaded: VFS registered by name only
**   pagedb_register           linked
**   pagedb_extra_init         compiled in, -DSQLITE_EXTRA_INIT
**   pagedb_install            the page cache, before SQLite begins or between
**                             shutdown and initialize
**   at_load                   the same, when the library comes early: LD_PRELOAD
**
** Environment, read at registration: PAGEDB_POOL_SIZE (bytes, or with KiB, MiB,
** GiB, TiB), PAGEDB_FETCH=off (pages by copy, not by pin), PAGEDB_STAMP=on|off|
** required and PAGEDB_DIRECT=auto|required|off (as the URI parameters, vfs.c),
** PAGEDB_PCACHE=on|off, PAGEDB_URING=0|1 (core reads it where it opens a queue
** of transfers). With another value nothing is registered.
*/
#define PAGEDB_SQLITE_API_HERE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include "../pcache/pcache.h"
#include "host.h"
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

static const char *const on_off[] = {"on", "off", NULL};

static int is_word(const char *v, const char *const *words)
{
  for (int i = 0; words[i] != NULL; i++)
    if (strcasecmp(v, words[i]) == 0)
      return 1;
  return 0;
}

/* A value that means nothing is refused, not guessed at. *message is what is
** wrong (sqlite3_malloc'd). */
static int check_word(const char *name, const char *const *words,
                      char **message)
{
  const char *v = getenv(name);
  if (v == NULL || is_word(v, words))
    return SQLITE_OK;
  *message = sqlite3_mprintf(
      "%s=%s in the environment is not known to page-db: it may be %s", name, v,
      words[0]);
  for (int i = 1; words[i] != NULL; i++)
    *message = sqlite3_mprintf("%z%s%s", *message,
                               words[i + 1] == NULL ? " or " : ", ", words[i]);
  return SQLITE_MISUSE;
}

static int switch_is(const char *name, const char *value)
{
  const char *v = getenv(name);
  return v != NULL && strcasecmp(v, value) == 0;
}

/* 0: what PAGEDB_POOL_SIZE says is no size. Calls nothing of SQLite. */
static int read_pool_size(void)
{
  const char *size = getenv("PAGEDB_POOL_SIZE");
  sqlite3_int64 bytes = size == NULL ? 0 : parse_bytes(size);
  if (size != NULL && bytes < 65536)
    return 0;
  pagedb_globals.pool_bytes = (uint64_t)bytes;
  return 1;
}

/* A pool of the size that was asked for is made here: whether there are addresses
** for it can be told in no other way, and later there is nobody to tell it to. */
static int check_pool_size(char **message)
{
  const char *size = getenv("PAGEDB_POOL_SIZE");
  if (!read_pool_size()) {
    *message = sqlite3_mprintf(
        "PAGEDB_POOL_SIZE=%s in the environment is not a size of at least "
        "64 KiB (bytes, or a number with KiB, MiB, GiB, TiB)",
        size);
    return SQLITE_MISUSE;
  }
  if (size == NULL || pool_get() != NULL)
    return SQLITE_OK;
  const pagedb_fault *f = pagedb_last_fault();
  if (f->err == PAGEDB_ERANGE) {
    *message = sqlite3_mprintf(
        "PAGEDB_POOL_SIZE=%s in the environment is not possible: a pool has "
        "at most %lld GiB",
        size, (sqlite3_int64)(f->expected >> 30));
    return SQLITE_MISUSE;
  }
  *message =
      sqlite3_mprintf("PAGEDB_POOL_SIZE=%s in the environment is not possible: "
                      "this process has "
                      "no room for it (%s): ask for less, or raise `ulimit -v`",
                      size, f->what);
  return SQLITE_NOMEM;
}

static int read_environment(char **message)
{
  static const char *const stamp[] = {"on", "off", "required", NULL};
  static const char *const direct[] = {"auto", "required", "off", NULL};
  static const char *const uring[] = {"0", "1", NULL};
  int rc = check_word("PAGEDB_STAMP", stamp, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_FETCH", on_off, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_PCACHE", on_off, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_DIRECT", direct, message);
  if (rc == SQLITE_OK)
    rc = check_word("PAGEDB_URING", uring, message);
  return rc == SQLITE_OK ? check_pool_size(message) : rc;
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
  if (switch_is("PAGEDB_FETCH", "off") ||
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

/* --------------------------------------------------------------- page cache */

/* The SQLite that has our page cache. */
static struct {
  int done;
  host host;
} installed;

/* What was registered: to be done again after a shutdown. */
static enum { NOT_REGISTERED, BY_NAME, AS_DEFAULT } registered;
static int for_every_connection;

/* Bytes that SQLite holds without any connection: less than this. The least that
** a connection takes is some thousands. */
enum { NO_CONNECTION = 1024 };

/* A function of the SQLite that loaded us; NULL: none did yet. */
static const void *host_routine(void)
{
  const void *p = NULL;
#ifndef SQLITE_CORE
  if (sqlite3_api != NULL) {
    int (*routine)(void) = sqlite3_api->libversion_number;
    memcpy(&p, &routine, sizeof p);
  }
#endif
  return p;
}

/* Another SQLite of this process may have it, and this one not. */
static int pcache_is_ours(void)
{
  return installed.done && host_base(host_routine()) == installed.host.base &&
         pcache_is_active();
}

/*
** SQLite, not begun, has a page cache that the program gave it: 1. With none at
** all it shows its built-in one, which is how to know that. SQLITE_MISUSE: it
** has begun.
*/
static int has_another(const host *h, int *another)
{
  sqlite3_pcache_methods2 now, builtin = {0};
  int rc = h->config(SQLITE_CONFIG_GETPCACHE2, &now);
  *another = 0;
  if (rc != SQLITE_OK || now.xCreate == pcache_methods.xCreate)
    return rc;
  rc = h->config(SQLITE_CONFIG_PCACHE2, &builtin);
  if (rc == SQLITE_OK)
    rc = h->config(SQLITE_CONFIG_GETPCACHE2, &builtin);
  *another = builtin.xCreate != now.xCreate || builtin.xFetch != now.xFetch;
  int back = h->config(SQLITE_CONFIG_PCACHE2, &now);
  return rc == SQLITE_OK ? back : rc;
}

/* What SQLite's hard heap limit leaves; it counts sqlite3_malloc only. */
static uint64_t heap_room(void)
{
  sqlite3_int64 limit = installed.host.hard_limit(-1);
  sqlite3_int64 used = installed.host.memory_used();
  if (limit <= 0)
    return UINT64_MAX;
  return used < limit ? (uint64_t)(limit - used) : 0;
}

/* Hand the methods over: to an SQLite that has not begun. SQLITE_PERM: it has
** another program's, which stay. SQLITE_RANGE: PAGEDB_POOL_SIZE is no size. */
static int configure(const host *h)
{
  int another;
  int rc = has_another(h, &another);
  if (rc != SQLITE_OK || another)
    return rc != SQLITE_OK ? rc : SQLITE_PERM;
  if (!read_pool_size())
    return SQLITE_RANGE;
  /* Where there is no memory for the pool, SQLite could not begin. */
  if (pool_get() == NULL)
    return SQLITE_NOMEM;
  pcache_setup(pool_get, heap_room);
  rc = h->config(SQLITE_CONFIG_PCACHE2, &pcache_methods);
  if (rc == SQLITE_OK) {
    installed.done = 1;
    installed.host = *h;
  }
  return rc;
}

static int watch_connections(void)
{
  for_every_connection = 1;
  return sqlite3_auto_extension((void (*)(void))connection_opened);
}

/* NULL, or why SQLite must not be shut down. */
static const char *in_use(const host *h)
{
  void *p = h->malloc(64);
  sqlite3_int64 used = h->memory_used();
  h->free(p);
  if (used == 0)
    return "SQLite has begun, and keeps no count of its memory, by which one "
           "could tell that no connection is open: install the page cache "
           "before the first connection";
  if (used - 64 > NO_CONNECTION)
    return "a connection is open (or memory of sqlite3_malloc is held): close "
           "it first";
  return NULL;
}

/* Shut SQLite down, hand the methods over, and restore what went with it. */
static int reconfigure(const host *h)
{
  int rc = h->shutdown();
  if (rc == SQLITE_OK)
    rc = configure(h);
  int began = h->initialize();
  if (rc == SQLITE_OK)
    rc = began;
  if (began == SQLITE_OK && registered != NOT_REGISTERED)
    began = vfs_register(NULL, registered == AS_DEFAULT);
  if (began == SQLITE_OK && for_every_connection)
    began = watch_connections();
  return rc == SQLITE_OK ? began : rc;
}

/* Why configure() did not. */
static const char *refusal(int rc)
{
  switch (rc) {
  case SQLITE_PERM:
    return "the program gave SQLite a page cache of its own, which stays";
  case SQLITE_RANGE:
    return "PAGEDB_POOL_SIZE in the environment is not a size of at least "
           "64 KiB";
  case SQLITE_NOMEM:
    return "no memory, or no addresses, for the pool (PAGEDB_POOL_SIZE asks "
           "for a smaller one)";
  default:
    return "SQLite refused";
  }
}

EXPORT int pagedb_install(const char **why)
{
  host h;
  const char *reason = NULL;
  int rc = SQLITE_OK;
  if (!host_find(host_routine(), &h)) {
    rc = SQLITE_ERROR;
    reason = "sqlite3_config of the program's SQLite is not to be found";
  } else if (!installed.done || installed.host.base != h.base) {
    rc = configure(&h);
    if (rc == SQLITE_MISUSE) {
      reason = in_use(&h);
      rc = reason == NULL ? reconfigure(&h) : SQLITE_BUSY;
    }
    if (rc != SQLITE_OK && reason == NULL)
      reason = refusal(rc);
  }
  if (why != NULL)
    *why = reason;
  return rc;
}

/* ------------------------------------------------------------- registration */

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
  pagedb_globals.pcache_is_ours = pcache_is_ours;
  if (rc == SQLITE_OK)
    rc = vfs_register(NULL, make_default);
  if (rc == SQLITE_OK)
    registered = make_default ? AS_DEFAULT : BY_NAME;
  return rc;
}

#ifndef SQLITE_CORE

static int has_begun(const host *h)
{
  sqlite3_pcache_methods2 now;
  return h->config(SQLITE_CONFIG_GETPCACHE2, &now) != SQLITE_OK;
}

/*
** The library may come before SQLite begins: by LD_PRELOAD, or dlopen'd early.
** Where it comes later, this is refused, and nothing has changed; who loads it is
** told what is wrong. Here nobody asks, and no error log can be set yet.
*/
__attribute__((constructor)) static void at_load(void)
{
  const char *v = getenv("PAGEDB_PCACHE");
  host h;
  if (v == NULL || strcasecmp(v, "off") == 0 || !host_find(NULL, &h) ||
      has_begun(&h))
    return;
  if (!is_word(v, on_off)) {
    fprintf(stderr,
            "pagedb: PAGEDB_PCACHE=%s in the environment is not known "
            "to page-db: it may be on or off. SQLite's built-in page "
            "cache stays\n",
            v);
    return;
  }
  int rc = configure(&h);
  if (rc != SQLITE_OK)
    fprintf(stderr,
            "pagedb: PAGEDB_PCACHE=on: %s. SQLite's built-in page cache "
            "stays\n",
            refusal(rc));
}

static int load(sqlite3 *db, char **message, const sqlite3_api_routines *api,
                int make_default)
{
  SQLITE_EXTENSION_INIT2(api);
  int rc = start(make_default, message);
  if (rc == SQLITE_OK)
    rc = watch_connections();
  if (rc == SQLITE_OK)
    rc = sql_register(db, message);
  if (rc == SQLITE_OK && switch_is("PAGEDB_PCACHE", "on") && !pcache_is_ours())
    sqlite3_log(SQLITE_WARNING,
                "pagedb: PAGEDB_PCACHE=on, but this SQLite had begun before "
                "page-db came: its built-in page cache stays");
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
  /* Only where it is asked for: it takes over the memory of databases that are
  ** none of ours, too. Where it is too late for it, the built-in one stays. */
  host h;
  if (switch_is("PAGEDB_PCACHE", "on") && !installed.done &&
      host_find(NULL, &h))
    configure(&h);
  int rc = sqlite3_initialize();
  if (rc == SQLITE_OK)
    rc = start_linked(make_default);
  if (rc == SQLITE_OK)
    rc = watch_connections();
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
