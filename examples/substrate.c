/*
** substrate.c - page file, allocator and pool put together.
**
**   substrate FILE
**
** Makes FILE, stores a few pages in it, closes everything, opens it again and
** reads them back. FILE must not exist.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagedb.h"

/* Everything that belongs to one open file. */
typedef struct db {
  pagedb_file *file;
  pagedb_store *store;
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *session;
  pagedb_alloc *alloc;
} db;

static void must(int err)
{
  char message[512];
  if (err == PAGEDB_OK)
    return;
  pagedb_fault_message(pagedb_last_fault(), message, sizeof message);
  fprintf(stderr, "substrate: %s\n", message);
  exit(1);
}

static void db_open(db *d, const char *path, int create)
{
  pagedb_file_options file = {.create = create, .exclusive = create};
  pagedb_pool_options pool = {.capacity = 1 << 20};
  must(pagedb_file_open(path, &file, &d->file));
  must(pagedb_store_of_file(d->file, &d->store));
  must(pagedb_pool_open(&pool, &d->pool));
  must(pagedb_owner_open(d->pool, d->store, &d->owner));
  must(pagedb_session_open(d->pool, &d->session));
  must(pagedb_alloc_open(d->store, d->owner, &d->alloc));
}

static void db_close(db *d)
{
  pagedb_alloc_close(d->alloc);
  must(pagedb_session_close(d->session));
  must(pagedb_owner_close(d->owner));
  must(pagedb_pool_close(d->pool));
  pagedb_store_close(d->store);
  pagedb_file_close(d->file);
}

/* README begin */
/* Store a text in a page of its own; the page's id comes back. */
static uint64_t save(db *d, const char *text, uint64_t lsn)
{
  pagedb_pin pin;
  uint64_t id;
  must(pagedb_alloc_new(d->alloc, &id));
  must(pagedb_fetch_new(d->session, d->owner, id, &pin));
  strcpy((char *)pin.data + PAGEDB_RECORD_SIZE, text);
  must(pagedb_mark_dirty(&pin, lsn));
  pagedb_unpin(&pin); /* lets go of the latch, too */
  return id;
}

/* From here on a power cut loses nothing of what was saved. The ids must be
   durable before the pages that use them are. */
static void commit(db *d)
{
  must(pagedb_alloc_sync(d->alloc));
  must(pagedb_checkpoint(d->session, d->owner));
}

static void show(db *d, uint64_t id)
{
  pagedb_pin pin;
  must(pagedb_fetch(d->session, d->owner, id, &pin)); /* read and verified */
  printf("page %d, lsn %d: %s\n", (int)id, (int)pagedb_pin_lsn(&pin),
         (char *)pin.data + PAGEDB_RECORD_SIZE);
  pagedb_unpin(&pin);
}
/* README end */

int main(int argc, char **argv)
{
  static const char *words[] = {"checksummed", "stamped", "cached"};
  uint64_t id[3];
  db d;
  if (argc != 2) {
    fprintf(stderr, "usage: substrate FILE\n");
    return 2;
  }
  db_open(&d, argv[1], 1);
  for (int i = 0; i < 3; i++)
    id[i] = save(&d, words[i], 100 + (uint64_t)i);
  commit(&d);
  db_close(&d);

  db_open(&d, argv[1], 0);
  for (int i = 0; i < 3; i++)
    show(&d, id[i]);
  must(pagedb_alloc_free(d.alloc, id[1]));
  must(pagedb_alloc_sync(d.alloc));
  printf("%d ids used, %d free\n", (int)pagedb_alloc_high_water(d.alloc) - 1,
         (int)pagedb_alloc_free_count(d.alloc));
  db_close(&d);
  return 0;
}
