/*
** btree.h - which table or index each page of a database belongs to, and what hangs
** on a cell.
*/
#ifndef BTREE_H
#define BTREE_H

#include <stddef.h>
#include <stdint.h>

typedef enum page_kind {
  PAGE_UNKNOWN, /* nobody refers to it, or what does is damaged */
  PAGE_TABLE_INTERIOR,
  PAGE_TABLE_LEAF,
  PAGE_INDEX_INTERIOR,
  PAGE_INDEX_LEAF,
  PAGE_OVERFLOW,
  PAGE_FREE_TRUNK,
  PAGE_FREE_LEAF,
  PAGE_POINTER_MAP,
  PAGE_LOCK,
  PAGE_DAMAGED /* referred to, but not a page of any kind */
} page_kind;

const char *page_kind_name(page_kind k);

typedef struct page_map {
  uint64_t pages;
  uint8_t *kind;    /* page_kind of page id (from 0) */
  uint32_t *object; /* index into names; 0: none */
  char **names;     /* "table t", "index i"; [0] is NULL */
  uint32_t objects;
} page_map;

/*
** Read page `id` (from 0) into buf, whether it verifies or not. 0 when it
** cannot be read.
*/
typedef int (*page_reader)(void *arg, uint64_t id, uint8_t *buf);

/*
** Walk all b-trees of a database. Nothing in the file is trusted: what makes no
** sense is left out. NULL: no memory. Freed with page_map_free.
*/
page_map *page_map_make(page_reader read, void *arg, uint32_t page_size,
                        uint32_t reserve, uint64_t pages);
void page_map_free(page_map *m);
/* "" when none. Belongs to the map. */
const char *page_map_object(const page_map *m, uint64_t id);

/*
** The overflow chain that begins at page `first` (from 1) and hangs on a cell of
** b-tree page `id` (from 0), of which `usable` bytes (480 or more) stand at `page`:
** how many pages it has by the cell's payload. 0: no cell has it, or it is no b-tree
** page. Nothing is trusted.
*/
uint64_t btree_chain(const uint8_t *page, uint32_t usable, uint64_t id,
                     uint32_t first);

#endif
