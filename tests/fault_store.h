/*
** fault_store.h - a store for tests that behaves like a disk: what is not
** synced may be lost, torn or reordered by a power cut, and every call can be
** made to fail.
**
** Pages are kept with leading records and verified on every read. A write is
** unsynced until a sync that starts after it; reads see the newest write. All
** calls may come from several threads.
*/
#ifndef PAGEDB_FAULT_STORE_H
#define PAGEDB_FAULT_STORE_H

#include "pagedb.h"

typedef struct fault_store fault_store;

enum fault_kind { FAULT_READ, FAULT_WRITE, FAULT_SYNC, FAULT_KINDS };

fault_store *fault_store_new(uint32_t page_size);
void fault_store_free(fault_store *f);

/* The store to give to pool and allocator; its close does nothing. */
pagedb_store *fault_store_base(fault_store *f);

/* Pages read, pages written, or syncs asked for so far. */
uint64_t fault_store_calls(fault_store *f, enum fault_kind kind);

/*
** The nth call of the kind from now on (1 is the next) fails with err, once or
** from then on. A failing write leaves the page as it was. A failing sync
** leaves the writes unsynced, or, with lose_on_failed_sync, drops them as an
** operating system may. n = 0 takes the fault away.
*/
void fault_store_fail(fault_store *f, enum fault_kind kind, uint64_t n,
                      int from_then_on, int err);
void fault_store_lose_on_failed_sync(fault_store *f, int yes);
/* All access to one page fails until taken away with PAGEDB_NONE. */
void fault_store_fail_page(fault_store *f, enum fault_kind kind, uint64_t id,
                           int err);

/* A sync that reports success and does nothing: the control for tests of what
** needs the sync. */
void fault_store_ignore_sync(fault_store *f, int yes);

/* Called before each page is read or written and before each sync, without the
** store's lock. */
typedef void fault_hook(void *arg, enum fault_kind kind, uint64_t page);
void fault_store_hook(fault_store *f, fault_hook *hook, void *arg);

/* Unsynced page writes, oldest first. */
unsigned fault_store_unsynced(fault_store *f);

/*
** The disk after a power cut now, as a new store: of the unsynced writes those
** in `keep` (bit i: write i), or, by a seed, any subset, each torn at sectors
** of 512 bytes; sectors never written before that a torn write left out are
** garbage.
*/
fault_store *fault_store_cut(fault_store *f, uint64_t keep);
fault_store *fault_store_cut_random(fault_store *f, uint64_t seed);

/* The bytes of a page as a read would find them, NULL beyond the end; and a way
** to change them (durably). */
const unsigned char *fault_store_page(fault_store *f, uint64_t id);
void fault_store_poke(fault_store *f, uint64_t id, const void *page);

#endif
