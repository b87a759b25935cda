/*
** ahead.h - read-ahead above the pool: frames that are filled by somebody else's
** reads, and enter the pool only if their content is still true. For the VFS
** (vfs/flights.c, vfs/readahead.c); not installed.
**
** A page that is being read ahead is in no page table: nobody waits for it, and
** whoever wants it meanwhile reads it himself. So a reader that is late, or never
** comes back to what it started, is in nobody's way, but for the frames that it
** has: together an eighth of the pool at most.
**
** ahead_begin gives empty frames; the caller reads into them, outside of any
** lock, verifies, and hands all of them to ahead_end. A page enters the pool if
** the caller vouches for it, the owner's epoch is still the one of its
** ahead_begin, the page has not come in by another way, and the pool has not shrunk
** below what it holds.
**
** THREADS. Both may be called by any thread; a frame belongs to its caller in
** between. An owner with frames out is not closed (PAGEDB_EBUSY).
*/
#ifndef PAGEDB_AHEAD_H
#define PAGEDB_AHEAD_H

#include "pagedb.h"

enum { AHEAD_MAX = 256 }; /* pages of one ahead_begin */

typedef struct ahead_page {
  uint64_t page;
  unsigned char *data; /* page_size bytes to be filled */
  uint64_t lsn;        /* the caller's, before ahead_end */
  int good;            /* the caller's: verified, and the page's content */
  uint32_t token;      /* the caller's own */
  uint32_t epoch;      /* private */
  struct frame *frame; /* private */
} ahead_page;

/*
** Frames for those of the n (at most AHEAD_MAX) pages that are not in the pool, nor on their way
** in. Never waits, never writes: takes what is free, and clean pages that the
** clock gives up. Returns how many of out[] are filled in, in the order of ids;
** *looked is how many ids were dealt with before frames ran out. `more`, bytes: what
** will be asked for right after these. The pool makes its memory ready for it.
*/
unsigned ahead_begin(pagedb_owner *o, const uint64_t *ids, unsigned n,
                     uint64_t more, ahead_page *out, unsigned *looked);

/*
** Give all n frames back: as pages of the pool, or empty. `still` is asked for
** each good page, last of all, under the pool's lock: between its yes and the
** page's being found by everybody nobody can look for the page. It must not wait
** nor call the pool.
*/
void ahead_end(pagedb_owner *o, ahead_page *a, unsigned n,
               int (*still)(void *arg, const ahead_page *), void *arg);

/*
** A page whose content is at hand enters the pool, if it is not there and a frame is
** to be had as for reading ahead; as one that nobody used yet. The caller has seen to
** it that nobody else changes the page meanwhile.
*/
void ahead_offer(pagedb_owner *o, uint64_t id, const void *page, uint64_t lsn);

/*
** Pin a page that is in the pool, latched shared, to look at it: 1, and
** pagedb_unpin lets go of both. 0: it is not there, or is being changed. What nobody
** asked for is not protected by a snapshot: a checkpoint may be about to renew it.
*/
int ahead_look(pagedb_session *s, pagedb_owner *o, uint64_t id,
               pagedb_pin *pin);

/* Bring the page's bytes near the processor, if it is in the pool. A hint: nothing
** is pinned. */
void ahead_lines(pagedb_session *s, pagedb_owner *o, uint64_t id);

#endif
