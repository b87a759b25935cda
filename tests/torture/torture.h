/*
** torture.h - run a workload, cut the power wherever its log allows, examine
** what is left.
*/
#ifndef TORTURE_H
#define TORTURE_H

#include "spec.h"
#include "world.h"

typedef struct effort {
  unsigned cuts;    /* places where to cut; 0: every one */
  unsigned singles; /* pending changes that are lost, kept, torn one by one */
  unsigned random;  /* subsets, and as many torn ones */
  unsigned
      again; /* of so many images one is cut again in its recovery; 0: none */
  int lies;  /* the disk's syncs do nothing: a control */
} effort;

typedef struct tally {
  uint64_t runs, cuts, images, distinct, examined, failures;
  uint64_t fooled;  /* images left out: the log's checksum fooled SQLite */
  char first[1200]; /* the first failure */
} tally;

void tally_add(tally *t, const tally *more);

/* Before anything else: SQLite, simdisk and page-db. */
void torture_start(void);

/*
** One workload. Goes on until a few images failed, and prints each, with the
** line that repeats it, to stderr; if quiet, until one failed. Adds to *t.
*/
void torture_run(const spec *s, const effort *how, int quiet, tally *t);

/* The same for a workload that was run already. */
void torture_cuts(const world *w, const effort *how, int quiet, tally *t);

/*
** One image alone: the cut at that place of the log, and how it was made, as the
** failure's line says. What is found is printed; the image's files are written
** into the directory, if not NULL. 1 if all is well.
*/
int torture_repeat(const spec *s, int lies, size_t at, const char *image,
                   const char *dir);
/* The same for a workload that was run already. */
int torture_one_cut(const world *w, int lies, size_t at, const char *image,
                    const char *dir);

#endif
