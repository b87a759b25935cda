/*
** glue.h - what SQLite's test programs call in the glue library (glue.c).
*/
#ifndef SUITE_GLUE_H
#define SUITE_GLUE_H

#include <sqlite3.h>

/* SQLITE_EXTRA_INIT: page-db becomes the default VFS, unless it is off. */
int suite_init(const char *unused);

/* 0 with PAGEDB_SUITE=off. */
int suite_is_on(void);

/* Register page-db under the name of `below`, on top of it. */
int suite_above(sqlite3_vfs *below, int make_default);

/* Unregister a VFS, or what stands above it. */
int suite_unregister(sqlite3_vfs *vfs);

#endif
