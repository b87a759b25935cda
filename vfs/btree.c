/*
** btree.c - walks the b-trees of a database to say what each page is for.
**
** The walk is for reports about damaged pages only: it reads the file as it is,
** without SQLite, and follows what still makes sense (SQLite file format, sections
** 1.4 to 1.8 and 2.6). Every page is visited once, so that no cycle can trap it.
** Read-ahead asks for the length of a chain (btree_chain).
*/
#include "btree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/endian.h"
#include "../core/pagedb.h"

typedef struct walk {
  page_map *map;
  page_reader read;
  void *arg;
  uint32_t size;   /* of a page */
  uint32_t usable; /* without the reserved bytes */
  uint32_t *todo;  /* page numbers from 1 */
  size_t n, room;
  uint8_t *page;
  uint32_t object;
  int schema; /* walking page 1's tree */
  int failed;
} walk;

const char *page_kind_name(page_kind k)
{
  static const char *const names[] = {
      "unknown",     "table interior", "table leaf", "index interior",
      "index leaf",  "overflow",       "free trunk", "free leaf",
      "pointer map", "lock",           "damaged"};
  return names[k];
}

/* A varint inside [p, end): its length, 0 if it does not fit. */
static int varint(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
  *v = 0;
  for (int i = 0; i < 9 && p + i < end; i++) {
    *v = i == 8 ? *v << 8 | p[i] : *v << 7 | (p[i] & 0x7f);
    if (i == 8 || (p[i] & 0x80) == 0)
      return i + 1;
  }
  return 0;
}

/* -------------------------------------------------------------------- work */

static void push(walk *w, uint32_t page)
{
  if (page == 0 || page > w->map->pages ||
      w->map->kind[page - 1] != PAGE_UNKNOWN)
    return;
  if (w->n == w->room) {
    size_t room = w->room * 2 + 64;
    uint32_t *more = realloc(w->todo, room * sizeof *more);
    if (more == NULL) {
      w->failed = 1;
      return;
    }
    w->todo = more;
    w->room = room;
  }
  w->todo[w->n++] = page;
}

static void mark(walk *w, uint32_t page, page_kind kind)
{
  w->map->kind[page - 1] = (uint8_t)kind;
  w->map->object[page - 1] = w->object;
}

static void follow_overflow(walk *w, uint32_t page)
{
  uint8_t *buf = malloc(w->size);
  if (buf == NULL)
    w->failed = 1;
  while (buf != NULL && page != 0 && page <= w->map->pages &&
         w->map->kind[page - 1] == PAGE_UNKNOWN) {
    mark(w, page, PAGE_OVERFLOW);
    page = w->read(w->arg, page - 1, buf) ? get_be32(buf) : 0;
  }
  free(buf);
}

/* ------------------------------------------------------------------ schema */

static uint64_t serial_bytes(uint64_t type)
{
  static const uint8_t fixed[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
  return type < 12 ? fixed[type] : (type - 12) / 2;
}

static uint64_t big_endian(const uint8_t *p, uint64_t n)
{
  uint64_t v = 0;
  for (uint64_t i = 0; i < n; i++)
    v = v << 8 | p[i];
  return v;
}

static void add_object(walk *w, const uint8_t *type, uint64_t ntype,
                       const uint8_t *name, uint64_t nname, uint32_t root)
{
  page_map *m = w->map;
  char **more = realloc(m->names, (m->objects + 2) * sizeof *more);
  size_t bytes = (size_t)(ntype + nname + 2);
  if (more == NULL) {
    w->failed = 1;
    return;
  }
  m->names = more;
  char *text = malloc(bytes);
  if (text == NULL) {
    w->failed = 1;
    return;
  }
  snprintf(text, bytes, "%.*s %.*s", (int)ntype, type, (int)nname, name);
  m->names[++m->objects] = text;
  /* The root waits in `kind` order: pushed when page 1's tree is done. */
  uint32_t object = w->object;
  w->object = m->objects;
  if (root > 0 && root <= m->pages)
    m->object[root - 1] = m->objects;
  w->object = object;
}

/* A row of sqlite_schema: type, name, tbl_name, rootpage, sql. What is not in
** the local part of the cell stays unknown. */
static void schema_row(walk *w, const uint8_t *p, const uint8_t *end)
{
  uint64_t header, type[4];
  const uint8_t *at = p;
  int n = varint(at, end, &header);
  if (n == 0 || header > (uint64_t)(end - p))
    return;
  const uint8_t *body = p + header;
  at += n;
  for (int i = 0; i < 4; i++) {
    n = varint(at, body, &type[i]);
    if (n == 0)
      return;
    at += n;
  }
  const uint8_t *col[4];
  for (int i = 0; i < 4; i++) {
    uint64_t bytes = serial_bytes(type[i]);
    if (bytes > (uint64_t)(end - body))
      return;
    col[i] = body;
    body += bytes;
  }
  uint64_t root = type[3] == 9 ? 1 : big_endian(col[3], serial_bytes(type[3]));
  if (root <= UINT32_MAX)
    add_object(w, col[0], serial_bytes(type[0]), col[1], serial_bytes(type[1]),
               (uint32_t)root);
}

/* ------------------------------------------------------------------- pages */

/* What stands in a cell, and what hangs on it. */
typedef struct cell_parts {
  uint32_t child; /* page; 0: none */
  uint64_t payload;
  uint64_t local; /* bytes of it that stand here */
  const uint8_t
      *start;        /* of these; NULL: there are none, or they make no sense */
  uint32_t overflow; /* page where the rest begins; 0: there is none */
} cell_parts;

/* Bytes of a payload that stand in the cell, if there are no more (section 1.6; u
** bytes of a page are usable). */
static uint64_t local_most(uint64_t u, int index)
{
  return index ? (u - 12) * 64 / 255 - 23 : u - 35;
}

/* The same of a payload of p bytes. */
static uint64_t local_bytes(uint64_t u, uint64_t p, int index)
{
  uint64_t most = local_most(u, index);
  uint64_t least = (u - 12) * 32 / 255 - 23;
  if (p <= most)
    return p;
  uint64_t k = least + (p - least) % (u - 4);
  return k <= most ? k : least;
}

/* A cell of a page of that type, which ends before `end`. */
static cell_parts cell_parse(const uint8_t *cell, const uint8_t *end, int type,
                             uint32_t usable)
{
  cell_parts c = {0};
  uint64_t rowid;
  int interior = type == 2 || type == 5, index = type == 2 || type == 10;
  if (interior) {
    if (end - cell < 4)
      return c;
    c.child = get_be32(cell);
    cell += 4;
  }
  if (type == 5)
    return c;
  int n = varint(cell, end, &c.payload);
  cell += n;
  if (n == 0 || (!index && (n = varint(cell, end, &rowid)) == 0))
    return c;
  if (!index)
    cell += n;
  c.local = local_bytes(usable, c.payload, index);
  if (c.local > (uint64_t)(end - cell))
    return c;
  c.start = cell;
  if (c.payload > c.local && end - cell >= (ptrdiff_t)(c.local + 4))
    c.overflow = get_be32(cell + c.local);
  return c;
}

static void one_cell(walk *w, const uint8_t *cell, const uint8_t *end, int type)
{
  cell_parts c = cell_parse(cell, end, type, w->usable);
  push(w, c.child);
  if (w->schema && type == 13 && c.start != NULL)
    schema_row(w, c.start, c.start + c.local);
  if (c.overflow != 0)
    follow_overflow(w, c.overflow);
}

uint64_t btree_chain(const uint8_t *page, uint32_t usable, uint64_t id,
                     uint32_t first)
{
  const uint8_t *head = page + (id == 0 ? 100 : 0), *end = page + usable;
  int type = head[0];
  if (type != 13 && type != 10 && type != 2)
    return 0;
  const uint8_t *pointer = head + (type == 2 ? 12 : 8);
  uint32_t cells = get_be16(head + 3), skip = type == 2 ? 4 : 0;
  uint64_t most = local_most(usable, type != 13), payload;
  uint8_t most_byte = (uint8_t)(most < 127 ? most : 127);
  for (uint32_t i = 0; i < cells && end - pointer >= 2; i++, pointer += 2) {
    uint32_t at = get_be16(pointer);
    /* Most rows are short: a look at their length must do. */
    if (at + skip >= usable || page[at + skip] <= most_byte ||
        varint(page + at + skip, end, &payload) == 0 || payload <= most)
      continue;
    cell_parts c = cell_parse(page + at, end, type, usable);
    if (c.overflow == first && first != 0)
      return (c.payload - c.local - 1) / (usable - 4) + 1;
  }
  return 0;
}

static page_kind kind_of_type(int type)
{
  return type == 5    ? PAGE_TABLE_INTERIOR
         : type == 13 ? PAGE_TABLE_LEAF
         : type == 2  ? PAGE_INDEX_INTERIOR
         : type == 10 ? PAGE_INDEX_LEAF
                      : PAGE_DAMAGED;
}

static void visit(walk *w, uint32_t page)
{
  if (w->map->kind[page - 1] != PAGE_UNKNOWN)
    return;
  mark(w, page, PAGE_DAMAGED);
  if (!w->read(w->arg, page - 1, w->page))
    return;
  const uint8_t *h = w->page + (page == 1 ? 100 : 0);
  const uint8_t *end = w->page + w->usable;
  page_kind kind = kind_of_type(h[0]);
  uint32_t cells = get_be16(h + 3);
  uint32_t head =
      kind == PAGE_TABLE_INTERIOR || kind == PAGE_INDEX_INTERIOR ? 12 : 8;
  mark(w, page, kind);
  if (kind == PAGE_DAMAGED)
    return;
  if (head == 12)
    push(w, get_be32(h + 8));
  for (uint32_t i = 0; i < cells && h + head + 2 * i + 2 <= end; i++) {
    uint32_t at = get_be16(h + head + 2 * (size_t)i);
    if (at < w->usable)
      one_cell(w, w->page + at, end, h[0]);
  }
}

static void walk_tree(walk *w, uint32_t root)
{
  push(w, root);
  while (w->n > 0 && !w->failed)
    visit(w, w->todo[--w->n]);
}

static void free_list(walk *w, uint32_t trunk)
{
  w->object = 0;
  while (trunk != 0 && trunk <= w->map->pages &&
         w->map->kind[trunk - 1] == PAGE_UNKNOWN) {
    mark(w, trunk, PAGE_FREE_TRUNK);
    if (!w->read(w->arg, trunk - 1, w->page))
      return;
    uint32_t leaves = get_be32(w->page + 4);
    for (uint32_t i = 0; i < leaves && 12 + 4 * i <= w->usable; i++) {
      uint32_t leaf = get_be32(w->page + 8 + 4 * (size_t)i);
      if (leaf != 0 && leaf <= w->map->pages &&
          w->map->kind[leaf - 1] == PAGE_UNKNOWN)
        mark(w, leaf, PAGE_FREE_LEAF);
    }
    trunk = get_be32(w->page);
  }
}

/* Pages that hold no content by their number alone. */
static void fixed_pages(walk *w, int auto_vacuum)
{
  const uint64_t lock = PAGEDB_LOCK_BYTE / w->size;
  if (lock < w->map->pages)
    w->map->kind[lock] = PAGE_LOCK;
  uint64_t step = w->usable / 5 + 1;
  for (uint64_t id = 1; auto_vacuum && id < w->map->pages; id += step)
    w->map->kind[id == lock ? id + 1 : id] = PAGE_POINTER_MAP;
}

static void walk_all(walk *w)
{
  page_map *m = w->map;
  uint32_t trunk = 0;
  if (m->pages == 0 || !w->read(w->arg, 0, w->page))
    return;
  fixed_pages(w, get_be32(w->page + 52) != 0);
  trunk = get_be32(w->page + 32);
  w->schema = 1;
  add_object(w, (const uint8_t *)"table", 5, (const uint8_t *)"sqlite_schema",
             13, 1);
  w->object = 1;
  walk_tree(w, 1);
  w->schema = 0;
  free_list(w, trunk);
  for (uint64_t id = 1; id < m->pages && !w->failed; id++) {
    if (m->object[id] == 0 || m->kind[id] != PAGE_UNKNOWN)
      continue;
    w->object = m->object[id];
    walk_tree(w, (uint32_t)id + 1);
  }
}

page_map *page_map_make(page_reader read, void *arg, uint32_t page_size,
                        uint32_t reserve, uint64_t pages)
{
  page_map *m = calloc(1, sizeof *m);
  walk w = {.map = m,
            .read = read,
            .arg = arg,
            .size = page_size,
            .usable = page_size - reserve};
  if (m == NULL)
    return NULL;
  m->pages = pages;
  m->kind = calloc(pages + 1, 1);
  m->object = calloc(pages + 1, sizeof *m->object);
  m->names = calloc(2, sizeof *m->names);
  w.page = malloc(page_size);
  if (m->kind != NULL && m->object != NULL && m->names != NULL &&
      w.page != NULL)
    walk_all(&w);
  else
    w.failed = 1;
  free(w.todo);
  free(w.page);
  if (!w.failed)
    return m;
  page_map_free(m);
  return NULL;
}

void page_map_free(page_map *m)
{
  if (m == NULL)
    return;
  for (uint32_t i = 1; m->names != NULL && i <= m->objects; i++)
    free(m->names[i]);
  free(m->names);
  free(m->kind);
  free(m->object);
  free(m);
}

const char *page_map_object(const page_map *m, uint64_t id)
{
  uint32_t object = m->object[id];
  return object == 0 ? "" : m->names[object];
}
