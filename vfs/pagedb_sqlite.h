/*
** pagedb_sqlite.h - page-db as a VFS for SQLite: what a program that links it
** calls. The loadable extension needs none of this.
**
** Link libpagedb_sqlite.a and libpagedb.a before SQLite, then either
**   - call pagedb_register(1) once, before the first database is opened; or
**   - compile SQLite with -DSQLITE_EXTRA_INIT=pagedb_extra_init.
** From then on databases that are opened without naming a VFS use page-db.
*/
#ifndef PAGEDB_SQLITE_H
#define PAGEDB_SQLITE_H

#ifdef __cplusplus
extern "C" {
#endif

/*
** Register the VFS `pagedb`, above the present default VFS, and with
** make_default as the default one itself; and, for connections opened from now
** on, the SQL functions and tables. Calls sqlite3_initialize. Returns an SQLite
** result code: SQLITE_ERROR when SQLite is older than 3.40.1, SQLITE_MISUSE when a
** PAGEDB_ variable in the environment has a value that is not known (the error
** log, SQLITE_CONFIG_LOG, says which). May be called again; thread-safe like
** sqlite3_vfs_register.
*/
int pagedb_register(int make_default);

/*
** For -DSQLITE_EXTRA_INIT: register the VFS as the default one, at every
** sqlite3_initialize, which fails where pagedb_register would. Registers no SQL
** functions (it must not keep memory of SQLite's): call pagedb_register or pagedb_sql_init for those.
*/
int pagedb_extra_init(const char *unused);

/* Call `show` now and then while PRAGMA pagedb_stamp or pagedb_unstamp works:
** pages done, all pages. NULL: no longer. */
void pagedb_on_progress(void (*show)(unsigned long long done,
                                     unsigned long long all));

struct sqlite3;

/* Add the SQL functions and tables to one connection. */
int pagedb_sql_init(struct sqlite3 *db);

#ifdef __cplusplus
}
#endif

#endif
