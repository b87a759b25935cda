/*
** pages.c - see pages.h.
*/
#include <string.h>

#include "../core/os.h"
#include "pages.h"

/* ------------------------------------------------------------------ headers */

enum {
  HOT = 32,            /* headers are aligned to what a hit looks at */
  FIRST_BLOCK = 8192,  /* bytes */
  LAST_BLOCK = 2 << 20 /* a huge page */
};

static size_t round_up(size_t n, size_t to)
{
  return (n + to - 1) / to * to;
}

void page_store_init(page_store *s, size_t extra)
{
  *s = (page_store){.stride = round_up(sizeof(page) + extra, HOT)};
}

static page *page_at(const page_store *s, block *b, uint32_t i)
{
  unsigned char *first = (unsigned char *)b + round_up(sizeof *b, HOT);
  return (page *)(void *)(first + i * s->stride);
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

static int block_new(page_store *s)
{
  size_t bytes = FIRST_BLOCK;
  while (bytes < LAST_BLOCK && bytes < s->bytes)
    bytes *= 2;
  block *b = os_table_alloc(bytes);
  if (b == NULL)
    return 0;
  size_t room = bytes - round_up(sizeof *b, HOT);
  *b = (block){.bytes = bytes, .cells = (uint32_t)(room / s->stride)};
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
  if (p != NULL)
    b->free = p->older;
  else
    p = page_at(s, b, b->used++);
  if (++b->live == b->cells) {
    block_unlink(&s->open, b);
    block_push(&s->full, b);
  }
  p->block = b;
  p->base.pExtra = p + 1;
  return p;
}

void page_free(page_store *s, page *p)
{
  block *b = p->block;
  if (b->live-- == b->cells) {
    block_unlink(&s->full, b);
    block_push(&s->open, b);
  }
  p->older = b->free;
  b->free = p;
}

static void blocks_free(page_store *s, block **list, int all)
{
  block *next;
  for (block *b = *list; b != NULL; b = next) {
    next = b->next;
    if (b->live > 0 && !all)
      continue;
    block_unlink(list, b);
    s->bytes -= b->bytes;
    os_table_free(b, b->bytes);
  }
}

void page_store_trim(page_store *s)
{
  blocks_free(s, &s->open, 0);
}

void page_store_free(page_store *s)
{
  blocks_free(s, &s->open, 1);
  blocks_free(s, &s->full, 1);
}

/* -------------------------------------------------------------------- table */

enum { FIRST_SLOTS_SHIFT = 5 };

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
  t->shift = 32 - bits;
  return 1;
}

int page_table_init(page_table *t)
{
  t->entries = 0;
  return slots_alloc(t, FIRST_SLOTS_SHIFT);
}

void page_table_free(page_table *t)
{
  os_table_free(t->slots, page_table_bytes(t));
}

static void slot_fill(page_table *t, uint32_t key, page *p)
{
  uint32_t i = page_table_home(t, key);
  while (t->slots[i].page != NULL)
    i = (i + 1) & t->mask;
  t->slots[i] = (slot){.page = p, .key = key};
}

/* Half full is when it is time to grow; without memory for that, full but for
** one slot is the end. */
int page_table_reserve(page_table *t)
{
  page_table old = *t;
  if (t->entries < t->mask / 2)
    return 1;
  if (old.shift == 1 || !slots_alloc(t, 33 - old.shift))
    return t->entries + 1 < t->mask;
  for (uint32_t i = 0; i <= old.mask; i++)
    if (old.slots[i].page != NULL)
      slot_fill(t, old.slots[i].key, old.slots[i].page);
  page_table_free(&old);
  return 1;
}

void page_table_add(page_table *t, uint32_t key, page *p)
{
  slot_fill(t, key, p);
  t->entries++;
}

void page_table_remove(page_table *t, uint32_t key)
{
  uint32_t hole = page_table_home(t, key);
  while (t->slots[hole].key != key || t->slots[hole].page == NULL)
    hole = (hole + 1) & t->mask;
  /* Move up each later one of the run that may stand in the hole: whose home
  ** is not between the hole and where it stands. */
  for (uint32_t i = (hole + 1) & t->mask; t->slots[i].page != NULL;
       i = (i + 1) & t->mask) {
    uint32_t home = page_table_home(t, t->slots[i].key);
    if (((i - home) & t->mask) < ((i - hole) & t->mask))
      continue;
    t->slots[hole] = t->slots[i];
    hole = i;
  }
  t->slots[hole].page = NULL;
  t->entries--;
}
