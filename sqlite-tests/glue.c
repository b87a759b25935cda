/*
** glue.c - page-db inside SQLite's own test programs.
**
** A shared library that testfixture and the other programs are linked with, so
** that they are built once and page-db as often as it changes. SQLite calls
** suite_init at every sqlite3_initialize (-DSQLITE_EXTRA_INIT=suite_init).
**
** Configured by the environment, which child processes inherit:
**
**   PAGEDB_SUITE=off      stock SQLite: nothing is registered
**   PAGEDB_SUITE_FETCH=1  every database asks for its pages by xFetch (stock
**                         SQLite: a memory map)
**   PAGEDB_SUITE_PCACHE=1 page-db's page cache instead of the built-in one
**   PAGEDB_SUITE_PARENT=1 all data goes through the parent VFS
**   PAGEDB_SUITE_REPORT   a file; each process appends one line: how many
**                         database files it opened, how many of them direct,
**                         how many with page-db's page cache (in_use.sh)
**   PAGEDB_STAMP=off      (page-db's own) new databases are plain
**
** page-db opens two descriptors of its own on each database (handle.c). SQLite's
** tests count open files, by a counter of testfixture's: those two are taken out of
** it (linked by --wrap), so that it says what SQLite has open.
**
** Owns the VFSes that stand above the suite's own ones (suite_above). SQLite
** serialises registrations by its own mutex; testfixture registers from one
** thread.
*/
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vfs/pagedb_sqlite.h"
#include "../vfs/vfs_int.h"
#include "glue.h"

static _Atomic unsigned opened, opened_direct;
static int (*open_below)(sqlite3_vfs *, sqlite3_filename, sqlite3_file *, int,
                         int *);

static int env_is(const char *name, const char *value)
{
  const char *v = getenv(name);
  return v != NULL && strcmp(v, value) == 0;
}

/* --------------------------------------------------------------- open files */

/* testfixture's; other programs do not have it. */
extern int sqlite3_open_file_count __attribute__((weak));

/* How many descriptors page-db has on each file. */
typedef struct own {
  struct own *next;
  const shared *file;
  int handles;
} own;

static own *owned;
/* Without a rank, and so the functions, not lock_order.h's macros. */
static pthread_mutex_t owned_lock = PTHREAD_MUTEX_INITIALIZER;

int __real_handles_open(shared *s, int read_only, direct_policy policy);
int __wrap_handles_open(shared *s, int read_only, direct_policy policy);
void __real_handles_close(shared *s);
void __wrap_handles_close(shared *s);

/* SQLite's files, of which `handles` more are page-db's own. */
static void take_out(int handles)
{
  if (&sqlite3_open_file_count != NULL)
    __atomic_fetch_sub(&sqlite3_open_file_count, handles, __ATOMIC_SEQ_CST);
}

int __wrap_handles_open(shared *s, int read_only, direct_policy policy)
{
  const handle *buffered = atomic_load(&s->buffered);
  own *o = calloc(1, sizeof *o);
  if (o == NULL)
    return SQLITE_NOMEM;
  int rc = __real_handles_open(s, read_only, policy);
  if (rc == SQLITE_OK && atomic_load(&s->buffered) != buffered)
    o->handles = atomic_load(&s->direct) != NULL ? 2 : 1;
  o->file = s;
  take_out(o->handles);
  (pthread_mutex_lock)(&owned_lock);
  o->next = owned;
  owned = o;
  (pthread_mutex_unlock)(&owned_lock);
  return rc;
}

void __wrap_handles_close(shared *s)
{
  __real_handles_close(s);
  (pthread_mutex_lock)(&owned_lock);
  for (own **link = &owned; *link != NULL;) {
    own *o = *link;
    if (o->file == s) {
      take_out(-o->handles);
      *link = o->next;
      free(o);
    } else {
      link = &o->next;
    }
  }
  (pthread_mutex_unlock)(&owned_lock);
}

/* In the words of SQLite's finish_test, which can no longer see it. */
static void say_what_is_left_open(void)
{
  int left = 0;
  for (const own *o = owned; o != NULL; o = o->next)
    left += o->handles;
  if (left > 0 && &sqlite3_open_file_count != NULL &&
      sqlite3_open_file_count == 0)
    printf("%d files were left open by page-db\n", left);
}

/* ------------------------------------------------------------------- report */

/* Open, and count what was opened. */
static int counting_open(sqlite3_vfs *vfs, sqlite3_filename name,
                         sqlite3_file *f, int flags, int *out_flags)
{
  int rc = open_below(vfs, name, f, flags, out_flags);
  conn *c = rc == SQLITE_OK ? conn_of(f) : NULL;
  if (c != NULL) {
    opened++;
    opened_direct += atomic_load(&c->file->direct) != NULL;
  }
  return rc;
}

/* One short line in one write, so that processes do not mix. */
static void report(void)
{
  say_what_is_left_open();
  const char *path = getenv("PAGEDB_SUITE_REPORT");
  FILE *f = path == NULL || opened == 0 ? NULL : fopen(path, "a");
  if (f == NULL)
    return;
  fprintf(f, "%u %u %u\n", opened, opened_direct,
          pagedb_globals.pcache_is_ours() ? opened : 0);
  fclose(f);
}

/* ----------------------------------------------- above the suite's own VFSes */

/* At most one of each name is registered at a time. */
enum { ABOVE_MOST = 4 };
static struct {
  sqlite3_vfs vfs;
  sqlite3_vfs *below;
} above[ABOVE_MOST];

int suite_is_on(void)
{
  return !env_is("PAGEDB_SUITE", "off");
}

int suite_above(sqlite3_vfs *below, int make_default)
{
  for (int i = 0; i < ABOVE_MOST; i++) {
    if (above[i].below != NULL && above[i].below != below)
      continue;
    above[i].vfs = pagedb_vfs;
    above[i].vfs.pNext = NULL;
    above[i].vfs.zName = below->zName;
    above[i].vfs.pAppData = below;
    if (above[i].vfs.szOsFile < below->szOsFile)
      above[i].vfs.szOsFile = below->szOsFile;
    above[i].below = below;
    return sqlite3_vfs_register(&above[i].vfs, make_default);
  }
  return SQLITE_FULL;
}

int suite_unregister(sqlite3_vfs *vfs)
{
  for (int i = 0; i < ABOVE_MOST; i++)
    if (above[i].below == vfs && vfs != NULL) {
      above[i].below = NULL;
      return sqlite3_vfs_unregister(&above[i].vfs);
    }
  return sqlite3_vfs_unregister(vfs);
}

/* -------------------------------------------------------------------- start */

/* sqlite3_config works before sqlite3_initialize only. */
__attribute__((constructor)) static void before_sqlite(void)
{
  if (suite_is_on())
    atexit(report);
  if (env_is("PAGEDB_SUITE_FETCH", "1"))
    sqlite3_config(SQLITE_CONFIG_MMAP_SIZE, (sqlite3_int64)0x7fff0000,
                   (sqlite3_int64)0x7fff0000);
  const char *why = NULL;
  if (suite_is_on() && env_is("PAGEDB_SUITE_PCACHE", "1") &&
      pagedb_install(&why) != SQLITE_OK) {
    fprintf(stderr, "suite: page cache: %s\n", why);
    exit(2);
  }
}

/* Above a VFS of another name page-db does all its I/O through that. */
static int through_parent(void)
{
  static sqlite3_vfs through;
  if (through.zName == NULL)
    through = *sqlite3_vfs_find("unix");
  through.zName = "through";
  through.pNext = NULL;
  return sqlite3_vfs_register(&through, 1);
}

int suite_init(const char *unused)
{
  if (!suite_is_on())
    return SQLITE_OK;
  if (env_is("PAGEDB_SUITE_PARENT", "1") && through_parent() != SQLITE_OK)
    return SQLITE_ERROR;
  if (open_below == NULL) {
    open_below = pagedb_vfs.xOpen;
    pagedb_vfs.xOpen = counting_open;
  }
  return pagedb_extra_init(unused);
}
