/*
** order.c - page-db above the VFSes that simulate crashes.
**
** SQLite's suite puts its crash, writecrash and jt VFSes on top of the default
** one. On top of page-db they would tear what SQLite hands to page-db, which
** page-db would then stamp; they have to tear what page-db writes. So, by linker
** wrap (-Wl,--wrap) and without a change to SQLite's files: while one of them
** registers itself it finds `unix` as the default VFS, and page-db registers
** above it under its name.
**
** devsym and testvfs stay on top: their scripts expect SQLite's own calls.
** Linked into testfixture alone.
*/
#include <string.h>

#include "glue.h"

sqlite3_vfs *__real_sqlite3_vfs_find(const char *name);
sqlite3_vfs *__wrap_sqlite3_vfs_find(const char *name);
int __real_sqlite3_vfs_register(sqlite3_vfs *vfs, int make_default);
int __wrap_sqlite3_vfs_register(sqlite3_vfs *vfs, int make_default);
int __wrap_sqlite3_vfs_unregister(sqlite3_vfs *vfs);
int __real_jt_register(char *parent, int make_default);
int __wrap_jt_register(char *parent, int make_default);
void __real_devsym_crash_on_write(int writes);
void __wrap_devsym_crash_on_write(int writes);

/* The default VFS is asked for by one that simulates crashes. */
static int below;

sqlite3_vfs *__wrap_sqlite3_vfs_find(const char *name)
{
  return __real_sqlite3_vfs_find(name == NULL && below ? "unix" : name);
}

int __wrap_sqlite3_vfs_register(sqlite3_vfs *vfs, int make_default)
{
  if (suite_is_on() && strcmp(vfs->zName, "crash") == 0)
    vfs->pAppData = __real_sqlite3_vfs_find("unix");
  else if (!below || strcmp(vfs->zName, "devsym") == 0)
    return __real_sqlite3_vfs_register(vfs, make_default);
  return suite_above(vfs, make_default);
}

int __wrap_sqlite3_vfs_unregister(sqlite3_vfs *vfs)
{
  return suite_unregister(vfs);
}

int __wrap_jt_register(char *parent, int make_default)
{
  below = suite_is_on();
  int rc = __real_jt_register(parent, make_default);
  below = 0;
  return rc;
}

void __wrap_devsym_crash_on_write(int writes)
{
  below = suite_is_on();
  __real_devsym_crash_on_write(writes);
  below = 0;
}
