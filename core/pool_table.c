/*
** pool_table.c - the page table of an owner: page id to page table entry.
**
** A radix tree with 512 slots a node, as deep as the largest id asks for: one
** level up to 512 pages, two up to 262 144, three up to 134 million. Page
** numbers are dense, so a leaf of 4 KiB serves 512 neighbours, and a lookup is
** one load a level, no hashing and no chain.
**
** Nodes are made and unlinked under pool->lock. Hits walk the tree without it:
** a node that became empty is unlinked, put in limbo, and freed after a heavy
** fence that finds no session in the midst of a walk (session->probing).
*/
#include <stdlib.h>

#include "pool_int.h"

static node *node_of(pte *e, uint64_t id)
{
  pte *first = e - (id & (NODE_SLOTS - 1));
  return (node *)(void *)((unsigned char *)first - offsetof(node, slot));
}

static node *node_new(pagedb_pool *p, uint32_t shift)
{
  node *n = calloc(1, sizeof *n);
  if (n != NULL) {
    n->shift = shift;
    p->stats.table_bytes += sizeof *n;
  }
  return n;
}

static void node_link(node *parent, uint32_t index, node *child)
{
  child->parent = parent;
  child->index = index;
  parent->live++;
  atomic_store_explicit(&parent->slot[index], (uint64_t)(uintptr_t)child,
                        memory_order_release);
}

/* Put a new root above the old one until id fits. */
static int table_grow(pagedb_owner *o, uint64_t id)
{
  node *root = atomic_load_explicit(&o->root, memory_order_relaxed);
  if (root == NULL) {
    root = node_new(o->pool, 0);
    if (root == NULL)
      return 0;
    atomic_store_explicit(&o->root, root, memory_order_release);
  }
  while ((id >> root->shift) >= NODE_SLOTS) {
    node *above = node_new(o->pool, root->shift + NODE_BITS);
    if (above == NULL)
      return 0;
    node_link(above, 0, root);
    atomic_store_explicit(&o->root, above, memory_order_release);
    root = above;
  }
  return 1;
}

pte *table_make(pagedb_owner *o, uint64_t id)
{
  if (!table_grow(o, id))
    return NULL;
  node *n = atomic_load_explicit(&o->root, memory_order_relaxed);
  while (n->shift != 0) {
    uint32_t i = (uint32_t)(id >> n->shift) & (NODE_SLOTS - 1);
    node *child = (node *)(uintptr_t)atomic_load_explicit(&n->slot[i],
                                                          memory_order_relaxed);
    if (child == NULL) {
      child = node_new(o->pool, n->shift - NODE_BITS);
      if (child == NULL)
        return NULL;
      node_link(n, i, child);
    }
    n = child;
  }
  return &n->slot[id & (NODE_SLOTS - 1)];
}

pte *table_next(const pagedb_owner *o, uint64_t *id)
{
  node *n = atomic_load_explicit(&o->root, memory_order_relaxed);
  if (n == NULL || (*id >> n->shift) >= NODE_SLOTS) {
    *id = SWEPT;
    return NULL;
  }
  while (n->shift != 0) {
    uint32_t shift = n->shift;
    n = (node *)(uintptr_t)atomic_load_explicit(
        &n->slot[(*id >> shift) & (NODE_SLOTS - 1)], memory_order_relaxed);
    if (n == NULL) {
      *id = ((*id >> shift) + 1) << shift;
      return NULL;
    }
  }
  return &n->slot[*id & (NODE_SLOTS - 1)];
}

void table_fill(pte *e, uint64_t id, uint64_t value)
{
  node_of(e, id)->live++;
  atomic_store(e, value);
}

void table_clear(pagedb_owner *o, pte *e, uint64_t id)
{
  node *n = node_of(e, id);
  atomic_store(e, 0);
  n->live--;
  while (n->live == 0 && n->parent != NULL) {
    node *parent = n->parent;
    atomic_store(&parent->slot[n->index], 0);
    parent->live--;
    n->parent = o->pool->limbo;
    o->pool->limbo = n;
    o->pool->in_limbo++;
    n = parent;
  }
}

void table_reap(pagedb_pool *p)
{
  if (p->limbo == NULL)
    return;
  for (pagedb_session *s = p->sessions; s != NULL; s = s->next)
    if (atomic_load(&s->probing))
      return;
  while (p->limbo != NULL) {
    node *n = p->limbo;
    p->limbo = n->parent;
    p->in_limbo--;
    p->stats.table_bytes -= sizeof *n;
    free(n);
  }
}

void table_tidy(pagedb_pool *p)
{
  if (p->in_limbo < LIMBO_MAX)
    return;
  if (p->asymmetric)
    os_fence_heavy();
  table_reap(p);
}

static void node_free(pagedb_pool *p, node *n)
{
  for (int i = 0; n->shift != 0 && i < NODE_SLOTS; i++) {
    node *child = (node *)(uintptr_t)atomic_load(&n->slot[i]);
    if (child != NULL)
      node_free(p, child);
  }
  p->stats.table_bytes -= sizeof *n;
  free(n);
}

void table_free(pagedb_owner *o)
{
  node *root = atomic_load(&o->root);
  if (root != NULL)
    node_free(o->pool, root);
  atomic_store(&o->root, NULL);
}
