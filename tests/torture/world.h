/*
** world.h - a workload on a disk, and beside it the same on a database in
** memory, which says what the content has to be after each commit.
**
** States are counted: state 0 is before the first change; each change (a
** transaction, a VACUUM, a stamping) makes the next. Marks in the disk's log say
** which change is under way and which is done.
*/
#ifndef WORLD_H
#define WORLD_H

#include <sqlite3.h>

#include "simdisk.h"
#include "spec.h"

enum { FILES = 2, MOST_STATES = 400 };

/* Names of the databases on the disk; the second exists in some workloads. */
extern const char *const file_names[FILES];

typedef enum mark {
  MARK_BEGIN,      /* change n is under way */
  MARK_WILD,       /* the same, without a journal: a cut may ruin everything */
  MARK_DONE,       /* state n is acknowledged, and durable */
  MARK_DONE_LATER, /* acknowledged; durable with the WAL's next sync */
  /* In a log of several processes, for the states from 0 on: the content's hash. */
  MARK_PLAIN,
  MARK_STAMPED,
  MARK_SYNC,  /* in such a log: the number is their synchronous */
  MARK_STRICT /* in such a log: spec.strict */
} mark;

typedef struct db_state {
  uint64_t hash[FILES];
  int stamped[FILES];
  int replaced; /* a stamped file became a plain one with this content */
} db_state;

typedef struct world {
  spec spec;
  simdisk *disk;
  sqlite3 *mirror;
  sqlite3 *db[2]; /* [1] only with spec.two */
  unsigned turn;
  sqlite3 *reader; /* NULL, or inside a read transaction */
  uint64_t reader_hash;
  journal journal; /* now */
  int has_aux;
  int no_room; /* 32 bytes are not kept free: a backup replaced the file */
  unsigned page_size;
  const char *dir; /* of real files: spec.direct; else NULL */
  uint64_t seed;
  uint64_t next_row;
  db_state states[MOST_STATES];
  unsigned done;   /* state acknowledged last */
  int atomic;      /* both files change together */
  const char *log; /* of other processes, recorded.h; else NULL */
  char failure[700];
} world;

/* The path of a file; dir NULL: on the simulated disk. */
const char *file_path(const char *dir, int file, char *buf, size_t n);

/* Put a disk's files into a real directory, whose path comes back, with page-db
** on the platform's VFS; changes there are changes of the disk. Until the end. */
const char *real_files_begin(simdisk *d);
void real_files_end(void);

/*
** Run the workload on a new disk, whose log has all of it. 0 if it went wrong
** by itself, without any cut; w->failure says how. world_free in any case.
*/
int world_run(world *w, const spec *s);
void world_free(world *w);
/* Keep the first sentence that is told. 0. */
int went_wrong(world *w, const char *format, ...);

/* A connection with the functions of the workload; NULL if it cannot be
** opened. */
sqlite3 *world_open(const char *name, const char *vfs);

#endif
