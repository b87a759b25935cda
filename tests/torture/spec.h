/*
** spec.h - what one run of the torture test does, as a line of text:
**
**   SCRIPT/JOURNAL/SYNC/PAGESIZE/START[/OPTION ...]
**
**   ckpt/wal/full/4096/new/two/seed=7
**
** The same line gives the same run.
*/
#ifndef SPEC_H
#define SPEC_H

#include <stddef.h>
#include <stdint.h>

typedef enum script {
  SCRIPT_BASIC,
  SCRIPT_BLOB,
  SCRIPT_TXN,
  SCRIPT_VACUUM,
  SCRIPT_ATTACH,
  SCRIPT_CKPT,
  SCRIPT_MODES,
  SCRIPT_STAMP,
  SCRIPT_REOPEN,
  SCRIPT_REPLACE,
  SCRIPT_MIX, /* `steps` steps of all kinds, by the seed */
  SCRIPTS
} script;

/* The order of the names in spec.c. */
typedef enum journal {
  JOURNAL_DELETE,
  JOURNAL_TRUNCATE,
  JOURNAL_PERSIST,
  JOURNAL_MEMORY,
  JOURNAL_OFF,
  JOURNAL_WAL,
  JOURNALS
} journal;

typedef enum start {
  START_NEW,
  START_STAMPED,
  START_PLAIN,   /* nothing reserved */
  START_PLAIN32, /* 32 bytes reserved, no stamps */
  STARTS
} start;

typedef enum synchronous {
  SYNC_NORMAL,
  SYNC_FULL,
  SYNC_EXTRA,
  SYNCS
} synchronous;

typedef struct spec {
  script script;
  journal journal;
  int sync; /* synchronous */
  unsigned page_size;
  start start;
  int two;       /* two connections take turns */
  int exclusive; /* locking_mode */
  int strict;    /* a file's sync does not cover its directory entry */
  int vacuums;   /* auto_vacuum=incremental */
  int small;     /* a pool of 64 pages */
  int roomy;     /* SQLite's own cache holds all: nothing spills */
  int stock;     /* without page-db: what SQLite itself survives */
  int direct;    /* real files, Direct I/O, and a record of their calls */
  int behind;    /* every few pages are written while SQLite goes on */
  unsigned steps;
  uint64_t seed;
} spec;

extern const char *const journal_names[JOURNALS];
extern const char *const sync_names[SYNCS];

/* 0 if the line means nothing. */
int spec_parse(const char *line, spec *s);
/* Into buf; returns buf. */
const char *spec_print(const spec *s, char *buf, size_t n);
/* Any spec that makes sense, by the seed. */
spec spec_random(uint64_t *seed);

#endif
