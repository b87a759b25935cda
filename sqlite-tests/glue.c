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
** Owns the VFSes that stand above the suite's own ones (suite_above). SQLite
** serialises registrations by its own mutex; testfixture registers from one
** thread.
*/
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
