/*
** pages.h - the headers of a cache's pages, and the hash table that finds them.
**
** A `page` is what SQLite gets a pointer to, with the cell of its frame and
** SQLite's extra bytes right behind. What a hit looks at stands in the first 32
** bytes, on one cache line. Headers come from blocks that grow with the cache up
** to 2 MiB, and are then in huge pages where the kernel gives them.
**
** The table has open addressing, slots of 16 bytes, and Fibonacci hashing
** (Knuth, TAOCP 3, 6.4); it is at most half full, so that a probe seldom leaves
** the cache line where it began. A removed slot is filled by shifting back what
** follows: there are no tombstones.
**
** All of it belongs to one cache, and so to one thread at a time.
*/
#ifndef PCACHE_PAGES_H
#define PCACHE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "../core/private.h"

typedef struct page page;
typedef struct block block;

struct page {
  sqlite3_pcache_page base; /* first: it is what SQLite has */
  private_cell cell;
  page *newer, *older; /* the cache's clock; older: next free header */
  block *block;
  uint32_t key;
};

/* Headers that were allocated together. */
struct block {
  block *next, *prev;
  page *free;
  size_t bytes;
  uint32_t cells, used, live; /* all; used once; in use now */
};

typedef struct page_store {
  block *open; /* blocks with free headers */
  block *full;
  size_t stride; /* bytes of a header with extra */
  size_t bytes;  /* all blocks */
} page_store;

void page_store_init(page_store *s, size_t extra);
/* base.pExtra is set; the rest is undefined. NULL: no memory. */
page *page_alloc(page_store *s);
void page_free(page_store *s, page *p);
/* Free the blocks in which no header is in use; all blocks. */
void page_store_trim(page_store *s);
void page_store_free(page_store *s);

typedef struct slot {
  page *page; /* NULL: empty */
  uint32_t key;
} slot;

typedef struct page_table {
  slot *slots;
  uint32_t mask; /* number of slots - 1 */
  uint32_t shift;
  uint32_t entries;
} page_table;

/* 0: no memory. */
int page_table_init(page_table *t);
/* Make room for one more entry; 0: no memory for it. */
int page_table_reserve(page_table *t);
/* The key is not there, and room was reserved. */
void page_table_add(page_table *t, uint32_t key, page *p);
/* The key is there. */
void page_table_remove(page_table *t, uint32_t key);
void page_table_free(page_table *t);

static inline size_t page_table_bytes(const page_table *t)
{
  return ((size_t)t->mask + 1) * sizeof(slot);
}

static inline uint32_t page_table_home(const page_table *t, uint32_t key)
{
  return key * 2654435769u >> t->shift;
}

static inline page *page_table_find(const page_table *t, uint32_t key)
{
  uint32_t i = page_table_home(t, key);
  while (t->slots[i].page != NULL) {
    if (t->slots[i].key == key)
      return t->slots[i].page;
    i = (i + 1) & t->mask;
  }
  return NULL;
}

#endif
