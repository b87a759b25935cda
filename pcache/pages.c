/*
** pages.c - see pages.h.
*/
#include <stdlib.h>
#include <string.h>

#include "../core/os.h"
#include "pages.h"

/* ------------------------------------------------------------------ headers */

enum { LINE = 64, MAX_BLOCKS = (1 << (32 - BLOCK_BITS)) - 1 };

static size_t round_up(size_t n, size_t to)
{
  return (n + to - 1) / to * to;
}

/*
** A block is: itself, its pages, its rests with their extra bytes. These at an odd
** multiple of half a cache line from each other: at powers of two their first
** lines would share a part of the processor's cache, and leave the other unused.
*/
void page_store_init(page_store *s, size_t extra)
{
  size_t bytes = round_up(sizeof(page_rest) + extra, LINE / 2);
  if (bytes % LINE == 0)
    bytes += LINE / 2;
  *s = (page_store){.stride = (uint32_t)bytes};
}

static page *page_at(block *b, uint32_t i)
{
  unsigned char *first = (unsigned char *)b + round_up(sizeof *b, LINE);
  return (page *)(void *)first + i;
}

static page_rest *rest_at(const page_store *s, block *b, uint32_t i)
{
  unsigned char *first = (unsigned char *)page_at(b, b->pages);
  return (page_rest *)(void *)(first + (size_t)i * s->stride);
}

static void block_unlink(block **list, block *b)
{
  if (b->prev != NULL)
    b->prev->next = b->next;
  else
    *list = b->next;
  if (b->next != NULL)
    b->next->prev = b->prev;
}

static void block_push(block **list, block *b)
{
  b->prev = NULL;
  b->next = *list;
  if (b->next != NULL)
    b->next->prev = b;
  *list = b;
}

/* The least index without a block; the directory grows if need be. */
static int index_free(page_store *s, uint32_t *index)
{
  uint32_t i = 0;
  while (i < s->blocks && s->place[i].page0 != 0)
    i++;
  if (i == s->blocks) {
    uint32_t blocks = i < 4 ? 4 : 2 * i;
    block_place *more = realloc(s->place, blocks * sizeof *more);
    if (more == NULL)
      return 0;
    memset(more + i, 0, (blocks - i) * sizeof *more);
    s->place = more;
    s->blocks = blocks;
  }
  *index = i;
  return i < MAX_BLOCKS;
}

static int block_new(page_store *s)
{
  uint32_t index, pages = BLOCK_PAGES, first;
  if (!index_free(s, &index))
    return 0;
  if (index < LEVELS)
    pages = (uint32_t)1 << (FIRST_BITS + (index == 0 ? 0 : index - 1));
  first = index >= LEVELS ? (index - LEVELS + 1) << BLOCK_BITS
          : index == 0    ? 0
                          : pages;
  size_t bytes = round_up(sizeof(block), LINE) +
                 pages * (sizeof(page) + (size_t)s->stride);
  block *b = os_table_alloc(bytes);
  if (b == NULL)
    return 0;
  *b = (block){.bytes = bytes, .index = index, .first = first, .pages = pages};
  s->place[index] = (block_place){
      .page0 = (uintptr_t)page_at(b, 0) - first * sizeof(page),
      .rest0 = (uintptr_t)rest_at(s, b, 0) - (uintptr_t)first * s->stride};
  s->bytes += bytes;
  block_push(&s->open, b);
  return 1;
}

page *page_alloc(page_store *s)
{
  if (s->open == NULL && !block_new(s))
    return NULL;
  block *b = s->open;
  page *p = b->free;
  if (p != NULL) {
    b->free = rest_of(p)->older;
  } else {
    uint32_t i = b->used++;
    p = page_at(b, i);
    p->base.pExtra = rest_at(s, b, i) + 1;
    rest_of(p)->block = b;
    rest_of(p)->number = b->first + i;
  }
  if (++b->live == b->pages) {
    block_unlink(&s->open, b);
    block_push(&s->full, b);
  }
  return p;
}

void page_free(page_store *s, page *p)
{
  block *b = rest_of(p)->block;
  if (b->live-- == b->pages) {
    block_unlink(&s->full, b);
    block_push(&s->open, b);
  }
  rest_of(p)->older = b->free;
  b->free = p;
}

void page_store_trim(page_store *s)
{
  block *next;
  for (block *b = s->open; b != NULL; b = next) {
    next = b->next;
    if (b->live > 0)
      continue;
    block_unlink(&s->open, b);
    s->place[b->index] = (block_place){0};
    s->bytes -= b->bytes;
    os_table_free(b, b->bytes);
  }
}

void page_store_free(page_store *s)
{
  page_store_trim(s);
  free(s->place);
}

/* -------------------------------------------------------------------- table */

enum { FIRST_SLOT_BITS = 6, LINE_BITS = 3, MAX_SLOT_BITS = 31 };

/* 1 << bits slots, all empty. */
static int slots_alloc(page_table *t, uint32_t bits)
{
  size_t bytes = sizeof(slot) << bits;
  slot *slots = os_table_alloc(bytes);
  if (slots == NULL)
    return 0;
  memset(slots, 0, bytes);
  t->slots = slots;
  t->mask = ((uint32_t)1 << bits) - 1;
  t->shift = 32 + LINE_BITS - bits;
  return 1;
}

int page_table_init(page_table *t)
{
  t->entries = 0;
  return slots_alloc(t, FIRST_SLOT_BITS);
}

void page_table_free(page_table *t)
{
  os_table_free(t->slots, page_table_bytes(t));
}

static void slot_fill(page_table *t, slot new)
{
  uint32_t i = page_table_home(t, new.key);
  while (t->slots[i].number != 0)
    i = (i + 1) & t->mask;
  t->slots[i] = new;
}

static uint32_t slot_bits(const page_table *t)
{
  return 32 + LINE_BITS - t->shift;
}

/* Into 1 << bits slots; 0: no memory for them. */
static int page_table_resize(page_table *t, uint32_t bits)
{
  page_table old = *t;
  if (bits > MAX_SLOT_BITS || !slots_alloc(t, bits))
    return 0;
  for (uint32_t i = 0; i <= old.mask; i++)
    if (old.slots[i].number != 0)
      slot_fill(t, old.slots[i]);
  page_table_free(&old);
  return 1;
}

/* Half full is when it is time to grow; without memory for that, full but for
** one slot is the end. */
int page_table_reserve(page_table *t)
{
  return t->entries < t->mask / 2 || page_table_resize(t, slot_bits(t) + 1) ||
         t->entries + 1 < t->mask;
}

/* Without memory for a smaller one it stays. */
void page_table_trim(page_table *t)
{
  uint32_t bits = FIRST_SLOT_BITS;
  while (((uint32_t)1 << bits) / 4 < t->entries)
    bits++;
  if (bits + 1 < slot_bits(t))
    page_table_resize(t, bits);
}

void page_table_add(page_table *t, uint32_t key, const page *p)
{
  slot_fill(t, (slot){.key = key, .number = rest_of(p)->number + 1});
  t->entries++;
}

void page_table_remove(page_table *t, uint32_t key)
{
  uint32_t hole = page_table_home(t, key);
  while (t->slots[hole].key != key)
    hole = (hole + 1) & t->mask;
  /* Move up each later one of the run that may stand in the hole: whose home
  ** is not between the hole and where it stands. */
  for (uint32_t i = (hole + 1) & t->mask; t->slots[i].number != 0;
       i = (i + 1) & t->mask) {
    uint32_t home = page_table_home(t, t->slots[i].key);
    if (((i - home) & t->mask) < ((i - hole) & t->mask))
      continue;
    t->slots[hole] = t->slots[i];
    hole = i;
  }
  t->slots[hole].number = 0;
  t->entries--;
}
