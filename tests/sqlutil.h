/*
** sqlutil.h - SQLite in tests: stock and page-db in one program.
**
** "unix" names the stock VFS, "pagedb" ours; sql_start registers ours by name.
** With PAGEDB_PCACHE=on in the environment it installs our page cache as well,
** for both.
** Every helper fails the test, with the message, when SQLite does not say OK,
** unless its name says otherwise.
*/
#ifndef SQLUTIL_H
#define SQLUTIL_H

#include <sqlite3.h>
#include <stdint.h>

#include "../vfs/pagedb_sqlite.h"
#include "util.h"

void sql_start(void);
/* An absolute path for a database below PAGEDB_TEST_DIR, which does not exist
** yet; valid for the next eight calls. */
const char *db_path(const char *name);
/* vfs may carry URI parameters: "pagedb&pagedb_verify=off". */
sqlite3 *db_open(const char *path, const char *vfs);
void db_close(sqlite3 *db);
/* printf-like; %% is a percent sign. */
void run(sqlite3 *db, const char *format, ...);
/* The extended result code instead of a failure. */
int try_run(sqlite3 *db, const char *format, ...);
int64_t get_int(sqlite3 *db, const char *format, ...);
/* First column of the first row; valid until the next call. "" if none. */
const char *get_text(sqlite3 *db, const char *format, ...);
/* A hash of all tables' content and of the schema. */
uint64_t content_hash(sqlite3 *db);
/* The same of one schema; an SQLite code instead of a failure. */
int try_content_hash(sqlite3 *db, const char *schema, uint64_t *h);
/* integrity_check is ok, and every page of a stamped file is. */
void assert_whole(const char *path, int stamped);
/* The end of a stamped database: it is closed and whole, stock SQLite reads from it
** what db did, and it is removed. */
void db_finish(const char *path, sqlite3 *db);
/* Remove a database and its journals. */
void db_remove(const char *path);
/* The last sentence that page-db gave to sqlite3_log. */
const char *last_log(void);
/* The last one that was no advice. */
const char *first_log(void);

/* Bytes of a file, changed around everybody. */
void file_read_at(const char *path, uint64_t off, void *buf, size_t n);
void file_write_at(const char *path, uint64_t off, const void *buf, size_t n);
uint64_t file_bytes_of(const char *path);
void file_copy(const char *from, const char *to);

#endif
