/*
** trace.h - real files whose changes are written down as those of a simdisk.
**
** So that page-db runs as it does for users: through the platform's VFS, its own
** descriptors, Direct I/O, one pool for all connections. trace.c stands before
** the C library's open64, pwrite, pwritev, ftruncate, fdatasync, fsync and unlink: a
** program that links it gets these for SQLite and page-db. What concerns files
** of the traced directory goes to the disk's log. Syncs are written down and not
** carried out.
**
** The wal-index (-shm) is memory and is left out.
*/
#ifndef TRACE_H
#define TRACE_H

#include "simdisk.h"

/* Put the disk's files into a directory of this process, and follow what is
** done to them there. The directory's path, valid until trace_end. */
const char *trace_begin(simdisk *d);
/* No longer; the files are removed. */
void trace_end(void);

#endif
