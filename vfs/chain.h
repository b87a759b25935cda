/*
** chain.h - which pages of an overflow chain to read before SQLite asks. For
** readahead.c, which reads them.
*/
#ifndef CHAIN_H
#define CHAIN_H

#include "vfs_int.h"

/* The chain that a connection reads, or read last. Zeroes: none. */
typedef struct chain {
  uint64_t leaf;   /* the page whose cell it hangs on + 1; 0: none */
  uint64_t at;     /* its page that was asked for last; 0: none */
  uint64_t end;    /* pages before this one were asked for, or are being read */
  uint64_t left;   /* pages behind `at`, by the cell */
  unsigned window; /* pages that were read together last */
  unsigned trust;  /* pages that are read with a chain's first */
  int whole;       /* trust has been set */
} chain;

/* Pages [first, first + n), of which the first may be the one that is missing. */
typedef struct chain_part {
  uint64_t first;
  unsigned n; /* 0, 1: nothing is worth a read ahead */
} chain_part;

/*
** Page `id` is missing. chain_follows: 1 if it is the next of the chain that is being
** read. chain_begins: 1 if a chain begins there, by a cell of the b-tree page that was
** asked for before. In both cases *part says what to read.
*/
int chain_follows(conn *c, chain *ch, uint64_t id, chain_part *part);
int chain_begins(conn *c, chain *ch, uint64_t id, chain_part *part);
/* A page that was read ahead is used: 1 if it is one of the chain. */
int chain_used(conn *c, chain *ch, uint64_t id, chain_part *part);
/* Pages before this one are being read. */
void chain_reads(chain *ch, uint64_t end);
/* What was known of the file is not true any more. */
void chain_forget(chain *ch);

#endif
