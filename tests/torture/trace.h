/*
** trace.h - real files whose changes are written down as those of a simdisk.
**
** So that page-db runs as it does for users: through the platform's VFS, its own
** descriptors, Direct I/O, one pool for all connections. trace.c stands before
** the C library's open, write, pwrite, pwritev, ftruncate, fdatasync, fsync, unlink,
** mkdir and rmdir: a program that links it gets these for SQLite and page-db. What
** concerns files of the traced directory is written down. Syncs are written down
** and not carried out.
**
** What another call does to them (a store into a mapping, a rename, a call that is
** new) would be missed, and a cut could not lose it. So with each sync it is written
** down what the file is, and that is compared with what the record makes of it;
** at the end all files are. A file may not be mapped to be written.
**
** Where to: to a disk in the same process; or, from several processes, to one log,
** a file, in the order in which the calls happened: a lock is held from before a
** call until it is in the log. The log repeats what was recorded.
**
** The wal-index (-shm) is memory and is left out. A disk has one directory: a file
** in a folder is `folder|file` there, and the folder `folder|`.
*/
#ifndef TRACE_H
#define TRACE_H

#include "simdisk.h"

/* Put the disk's files into a directory of this process, and follow what is
** done to them there. The directory's path, valid until trace_end. */
const char *trace_begin(simdisk *d);
/* No longer; the files are compared with the disk and removed. */
void trace_end(void);
/* The first file that was not what the record makes of it, as a sentence, since
** trace_begin or trace_replay; NULL: none. */
const char *trace_missed(void);

/* --------------------------------------------------------------- by a log */

/* A new log, of a disk that has these files. */
void trace_log_new(const char *log, const simdisk *d);
/* From here on what this process does in the directory (an absolute path) goes to
** the log. seed: naps after some of the calls, so that processes meet anywhere;
** 0: none. */
void trace_to_log(const char *log, const char *dir, uint64_t seed);
/* simdisk_mark, of a process that writes to the log; and of one that does not. */
void trace_mark(unsigned kind, uint64_t number);
void trace_log_mark(const char *log, unsigned kind, uint64_t number);
/* This process dies before its nth call from now on; 0: it lives. */
void trace_last_call(uint64_t n);
/* The disk with all of the log in its own, or NULL: no such file. */
simdisk *trace_replay(const char *log);

/* ------------------------------------------------------- real directories */

/* A directory with the disk's files, and nothing else. */
void trace_put(const simdisk *d, const char *dir);
/* A disk with the directory's files. */
simdisk *trace_read(const char *dir);
void trace_remove(const char *dir);
/* Whether the directory has the disk's files, and no others: trace_missed. */
void trace_compare(const simdisk *d, const char *dir);

#endif
