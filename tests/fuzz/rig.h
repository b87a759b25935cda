/*
** rig.h - what the fuzz targets of the plugin share: SQLite and page-db on a disk
** in memory (tests/torture/simdisk.h), nothing of it real, everything bounded.
**
** One thread. No call fails the target because SQLite says no: hostile input is
** there to be refused. What must never happen ends in abort().
*/
#ifndef FUZZ_RIG_H
#define FUZZ_RIG_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "../../vfs/pagedb_sqlite.h"
#include "../torture/simdisk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Once, by the first input: SQLite, simdisk, and page-db upon it. */
void rig_start(void);
/* A file of the disk with these bytes. */
void rig_put(simdisk *d, const char *name, const void *bytes, size_t n);
/* A connection through a VFS of that name; NULL if it cannot be opened. What runs
** on it is cut off after a while (SQLITE_INTERRUPT), and makes no large file. */
sqlite3 *rig_open(const char *name, const char *vfs);
/* Run it, and step through whatever rows come; the extended result code. */
int rig_run(sqlite3 *db, const char *sql);
/* The same, of rig_run's answers and of all rows one number. */
int rig_sum(sqlite3 *db, const char *sql, uint64_t *sum);
/* All content of a database as one number; the first error. */
int rig_content(sqlite3 *db, uint64_t *sum);
/* Close; nothing may be left open on the disk. */
void rig_close(sqlite3 *db);

#endif
