/*
** simdisk.h - a disk in memory for tests, and a VFS `simdisk` for SQLite on it.
**
** A disk has files, known by names in one directory, and writes down in order
** what was done to it: creations, deletions, writes, truncates, syncs. From that
** log cut.h makes the disks that a power cut may leave.
**
** The VFS opens files on the disk that simdisk_use() named last; a file stays
** on the disk it was opened on. Locks and shared memory are kept per file, so
** several connections of the process see each other as processes would. Any
** call can be made to fail.
**
** One thread at a time.
*/
#ifndef SIMDISK_H
#define SIMDISK_H

#include <stddef.h>
#include <stdint.h>

typedef struct simdisk simdisk;

typedef enum disk_op_kind {
  OP_CREATE,   /* name, file */
  OP_DELETE,   /* name */
  OP_WRITE,    /* file, off, data */
  OP_TRUNCATE, /* file, off: the new length */
  OP_SYNC,     /* file */
  OP_SYNC_DIR,
  OP_MARK /* file: not used; off: number; n: kind, both the caller's */
} disk_op_kind;

/* Files and names are numbers from 0, in the order of their first use. */
typedef struct disk_op {
  disk_op_kind kind;
  unsigned file;
  unsigned name;
  uint64_t off;
  size_t n;
  unsigned char *data;
} disk_op;

simdisk *simdisk_new(void);
void simdisk_free(simdisk *d);

/* ---------------------------------------------------------------- content */

/* The file with that name, or -1. */
int simdisk_find(const simdisk *d, const char *name);
unsigned simdisk_names(const simdisk *d);
const char *simdisk_name(const simdisk *d, unsigned name);
/* The file that a name stands for now, or -1. */
int simdisk_entry(const simdisk *d, unsigned name);
unsigned simdisk_files(const simdisk *d);
const unsigned char *simdisk_bytes(const simdisk *d, unsigned file, size_t *n);

/* Changes; each goes to the log. The VFS calls these, and so does whoever
** records what happens to real files. */
unsigned simdisk_create(simdisk *d, const char *name);
unsigned simdisk_create_nameless(simdisk *d);
void simdisk_delete(simdisk *d, const char *name);
void simdisk_write(simdisk *d, unsigned file, const void *buf, size_t n,
                   uint64_t off);
void simdisk_truncate(simdisk *d, unsigned file, uint64_t bytes);
void simdisk_sync(simdisk *d, unsigned file);
void simdisk_sync_dir(simdisk *d);
/* A note of the caller's in the log. */
void simdisk_mark(simdisk *d, unsigned kind, uint64_t number);

/* A disk with the same files, without log. */
simdisk *simdisk_clone(const simdisk *d);

/* -------------------------------------------------------------------- log */

/* Begin to keep a log: what is there now counts as durable. */
void simdisk_record(simdisk *d);
const disk_op *simdisk_log(const simdisk *d, size_t *n);
/* A file as it was when the log began; empty if it is younger. */
const unsigned char *simdisk_base(const simdisk *d, unsigned file, size_t *n);
int simdisk_base_entry(const simdisk *d, unsigned name);

/* -------------------------------------------------------------------- VFS */

/* Register `simdisk`; as the default VFS if asked to. An SQLite code. */
int simdisk_register(int make_default);
void simdisk_use(simdisk *d);

/* Files of the VFS that are open, and locks that they hold. */
unsigned simdisk_open_files(void);

typedef enum disk_fault {
  DISK_OPEN,
  DISK_READ,
  DISK_SHORT_READ, /* of a database: fewer bytes than asked, though the file
                      has them */
  DISK_WRITE,
  DISK_SHORT_WRITE, /* a part is written, then an error: no room */
  DISK_SYNC,
  DISK_TRUNCATE,
  DISK_SIZE,
  DISK_LOCK,
  DISK_SHM_MAP,
  DISK_SHM_LOCK,
  DISK_DELETE,
  DISK_ACCESS,
  DISK_FAULTS
} disk_fault;

const char *disk_fault_name(disk_fault kind);
/* The nth call of the kind from now on fails (1: the next), once or from then
** on. n = 0 takes the fault away. */
void simdisk_fail(disk_fault kind, unsigned n, int from_then_on);
/* No more faults; the counts stay. */
void simdisk_pause(void);
/* How often a call failed since simdisk_fail, and how often on a database. */
unsigned simdisk_failed(void);
unsigned simdisk_failed_databases(void);

/* What the disk takes its memory with: realloc, unless a test makes that fail. */
extern void *(*simdisk_realloc)(void *p, size_t bytes);

#endif
