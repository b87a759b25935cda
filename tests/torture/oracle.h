/*
** oracle.h - what has to be true of a disk after a power cut.
**
** page-db opens it, and then:
**   - every statement works, integrity_check says ok;
**   - the content is that of a state between the last one that is durable and
**     the last one that was begun; of both files together where SQLite promises
**     that;
**   - the file is stamped if it was in that state; if it is, every page
**     verifies, none is "free, mendable" any more;
**   - it can be written, and stock SQLite reads what was written;
**   - a cut during that recovery leads to the same content.
** Stock SQLite, alone, recovers the same disk to the same content.
*/
#ifndef ORACLE_H
#define ORACLE_H

#include "cut.h"
#include "world.h"

/* What a cut may leave. */
typedef struct claim {
  unsigned least[FILES]; /* durable, of each file */
  unsigned most;         /* begun */
  int journal_back; /* an acknowledged transaction's journal is hot again */
  int wild;         /* nothing is promised but that nobody crashes */
} claim;

typedef struct examined {
  uint64_t images; /* how many, those of cuts in the recovery too */
  char failure[900];
} examined;

/*
** 1 if all is well with `image`, which is used up. `depth` 1: also cut its
** recovery, in a few places chosen by the seed.
*/
int examine(simdisk *image, const world *w, const claim *c, int depth,
            uint64_t seed, examined *e);

#endif
