/*
** chain.h - which pages of an overflow chain to read before SQLite asks. For
** readahead.c, which has them read.
*/
#ifndef CHAIN_H
#define CHAIN_H

#include "vfs_int.h"

/* Pages [first, first + n), of which one may be the one that is missing. */
typedef struct chain_part {
  uint64_t first;
  unsigned n; /* 0: nothing */
} chain_part;

/* Where the chains of the leaves below an interior page were found. */
typedef struct vicinity {
  uint64_t parent;         /* + 1 */
  unsigned before, behind; /* pages, seen from the leaf */
  unsigned credit;
} vicinity;

enum { VICINITIES = 128 };

/* The chain that a connection reads, or read last. Zeroes: none. */
typedef struct chain {
  uint64_t leaf; /* the page whose cell it hangs on + 1; 0: none */
  uint64_t at;   /* its page that was asked for last; 0: none */
  uint64_t end;  /* pages before this one were asked for, or are being read */
  uint64_t last; /* of these, the one that leads elsewhere; 0: none is known */
  uint64_t left; /* pages behind `at`, by the cell */
  unsigned window;     /* pages that were read together last */
  unsigned trust;      /* pages that are read with a chain's first */
  int begun;           /* there was one: trust is set */
  chain_part around;   /* read with a leaf, and not used yet */
  uint64_t around_for; /* the leaf's parent + 1 */
  uint64_t parent;     /* of the leaf asked for last + 1; 0: unknown */
  vicinity vicinity[VICINITIES]; /* by parent modulo that */
} chain;

/*
** Page `id` is missing. chain_follows: 1 if it is the next of the chain that is being
** read. chain_begins: 1 if a chain begins there, by a cell of the b-tree page that was
** asked for before. In both cases *part says what to read.
*/
int chain_follows(conn *c, chain *ch, uint64_t id, chain_part *part);
int chain_begins(conn *c, chain *ch, uint64_t id, chain_part *part);
/* Leaf `id` is missing: 1 if it is to be read with what stands around it. */
int chain_around(conn *c, chain *ch, uint64_t id, chain_part *part);
/* A page that was read ahead is used: 1 if it is one of the chain. */
int chain_used(conn *c, chain *ch, uint64_t id, chain_part *part);
/* A page of the file came in by a read ahead. */
void chain_saw(chain *ch, uint64_t id, const uint8_t *page);
/* Pages before this one are being read. */
void chain_reads(chain *ch, uint64_t end);
/* What was known of the file is not true any more. */
void chain_forget(chain *ch);
/* The byte with which a page of the pool begins, its type if it is the b-tree's; -1: it
** is not there, or cannot be looked at without waiting. */
int page_type(conn *c, uint64_t id);

#endif
