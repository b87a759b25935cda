/*
** pages.h - the headers of a cache's pages, and the hash table that finds them.
**
** A `page` is what SQLite gets a pointer to: 32 bytes with all that a hit looks
** at, two to a cache line. What only comings and goings need stands elsewhere,
** with SQLite's extra bytes right behind it (page_rest). Both come from blocks
** that grow with the cache, and large ones are in huge pages where the kernel
** gives them. A page's number names its place in the blocks, in half the bytes
** of a pointer.
**
** The table has open addressing and slots of 8 bytes. Eight neighbouring keys
** have their homes in one cache line, and lines are chosen by Fibonacci hashing
** (Knuth, TAOCP 3, 6.4), which spreads dense keys evenly: page numbers are dense
** as a rule. A removed slot is filled by shifting back what follows, so there
** are no tombstones.
**
** All of it belongs to one cache, and so to one thread at a time.
*/
#ifndef PCACHE_PAGES_H
#define PCACHE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "../core/private.h"

typedef struct page {
  sqlite3_pcache_page base; /* first: it is what SQLite has */
  private_cell cell;
} page;

typedef struct block block;

typedef struct page_rest {
  page *newer, *older; /* the cache's clock; older: next free header */
  block *block;
  uint32_t key;
  uint32_t number;
} page_rest;

static inline page_rest *rest_of(const page *p)
{
  return (page_rest *)p->base.pExtra - 1;
}

/* ------------------------------------------------------------------ headers */

/*
** Blocks 0, 1, 2 ... have 8, 8, 16, 32 ... headers up to BLOCK_PAGES, and
** BLOCK_PAGES each from then on: page numbers 0 .. BLOCK_PAGES-1 are in the
** first LEVELS blocks.
*/
enum {
  FIRST_BITS = 3,
  BLOCK_BITS = 13,
  BLOCK_PAGES = 1 << BLOCK_BITS,
  LEVELS = BLOCK_BITS - FIRST_BITS + 1
};

/* Headers that were allocated together. */
struct block {
  block *next, *prev; /* of the open or the full ones */
  page *free;
  size_t bytes;
  uint32_t index;             /* of the block */
  uint32_t first;             /* page number */
  uint32_t pages, used, live; /* all; used once; in use now */
};

/* Where number 0 would be, if it were of the block. */
typedef struct block_place {
  uintptr_t page0; /* 0: there is no such block */
  uintptr_t rest0;
} block_place;

typedef struct page_store {
  block_place *place; /* per block */
  uint32_t blocks;    /* entries of place */
  uint32_t stride;    /* bytes of a page_rest with what follows it */
  block *open;        /* with free headers */
  block *full;
  size_t bytes; /* all blocks */
} page_store;

void page_store_init(page_store *s, size_t extra);
/* base.pExtra is set, its content undefined. NULL: no memory. */
page *page_alloc(page_store *s);
void page_free(page_store *s, page *p);
/* Free the blocks in which no header is in use; all of it, none being in use. */
void page_store_trim(page_store *s);
void page_store_free(page_store *s);

static inline uint32_t block_of(uint32_t number)
{
  if (number >= BLOCK_PAGES)
    return LEVELS - 1 + (number >> BLOCK_BITS);
  return 32 - FIRST_BITS -
         (uint32_t)__builtin_clz(number | ((1 << FIRST_BITS) - 1));
}

/* The page, and SQLite's bytes on their way from memory: it looks at them next,
** and would otherwise have to wait for the page to learn where they are. */
static inline page *page_numbered(const page_store *s, uint32_t number)
{
  const block_place *b = &s->place[block_of(number)];
  uintptr_t rest = b->rest0 + (uintptr_t)number * s->stride;
  __builtin_prefetch((const page_rest *)rest + 1);
  return (page *)(b->page0 + (uintptr_t)number * sizeof(page));
}

/* -------------------------------------------------------------------- table */

typedef struct slot {
  uint32_t key;
  uint32_t number; /* + 1; 0: empty */
} slot;

typedef struct page_table {
  slot *slots;
  uint32_t mask;  /* number of slots - 1 */
  uint32_t shift; /* 32 - log2 of the number of lines */
  uint32_t entries;
} page_table;

/* 0: no memory. */
int page_table_init(page_table *t);
/* Make room for one more entry; 0: no memory for it. */
int page_table_reserve(page_table *t);
/* Give back what a table of the entries that are left does not need. */
void page_table_trim(page_table *t);
/* The key is not there, and room was reserved. */
void page_table_add(page_table *t, uint32_t key, const page *p);
/* The key is there. */
void page_table_remove(page_table *t, uint32_t key);
void page_table_free(page_table *t);

static inline size_t page_table_bytes(const page_table *t)
{
  return ((size_t)t->mask + 1) * sizeof(slot);
}

static inline uint32_t page_table_home(const page_table *t, uint32_t key)
{
  return ((key >> 3) * 2654435769u >> t->shift) * 8 + (key & 7);
}

static inline page *page_table_find(const page_table *t, const page_store *s,
                                    uint32_t key)
{
  uint32_t i = page_table_home(t, key);
  while (t->slots[i].number != 0) {
    if (t->slots[i].key == key)
      return page_numbered(s, t->slots[i].number - 1);
    i = (i + 1) & t->mask;
  }
  return NULL;
}

#endif
