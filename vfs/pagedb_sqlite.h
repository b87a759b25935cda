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
** on, the SQL functions and tables. Calls sqlite3_initialize; where the environment
** says PAGEDB_PCACHE=on, and SQLite has not begun before, its page cache is replaced
** first (pagedb_install). Returns an
** SQLite result code: SQLITE_ERROR when SQLite is older than 3.40.1, SQLITE_MISUSE
** when a PAGEDB_ variable in the environment has a value that is not known,
** SQLITE_NOMEM when there is no room for the pool that PAGEDB_POOL_SIZE asks for
** (the error log, SQLITE_CONFIG_LOG, says what is wrong). May be called again; the
** first time is to be alone, like sqlite3_initialize.
*/
int pagedb_register(int make_default);

/*
** Replace SQLite's page cache by one whose pages are frames of page-db's pool,
** for all databases of the process: one budget for all memory that holds pages.
** Before SQLite begins (sqlite3_initialize, the first connection); or later,
** while no connection is open: SQLite is then shut down, configured, and begun
** anew, and page-db registered again as it was (what others registered, VFSes
** excepted, is lost as in any shutdown). Like sqlite3_config it must not run
** beside any other call of SQLite.
** SQLITE_OK, also if it was done before. SQLITE_BUSY: a connection is open, or
** that is not to be known; SQLITE_ERROR: sqlite3_config is not to be found (a
** program that hides its SQLite, or has not loaded it yet); SQLITE_PERM: the
** program gave SQLite a page cache of its own, which stays; SQLITE_NOMEM: none
** for the pool; SQLITE_RANGE: PAGEDB_POOL_SIZE is no size; else what SQLite said.
** *why (may be NULL) is then a sentence, static, else NULL. Exported by the
** loadable library as well.
*/
int pagedb_install(const char **why);

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
