/*
** chain.c - overflow chains: what stands behind a page that is missing.
**
** A row that does not fit its page goes on in a chain of pages, each with the number
** of the next one (SQLite file format, section 1.6 "Cell Payload Overflow Pages").
** One at a time they cost a wait each. That a missing page begins a chain, and how
** long it is, is not guessed: it stands in a cell of the b-tree page that SQLite has
** asked for before (btree_chain). Where its other pages are is: right behind, in
** order, as SQLite writes them in a file that grows. So
**
**   the first    as many as the chain has are read with it, up to `trust`: 128 KiB,
**                less after a chain was found not to be in order, one page in the
**                end; more again with each page that is.
**   the rest     of a long one is read in front of who walks it, in parts that double
**                up to 1 MiB, whenever half of a part was used; unless a page that
**                came with the part before leads elsewhere.
**   a jump       to another place, known from the page before it, begins a part
**                there.
**
** A leaf and its chains were written together, and stand together as a rule: then
** the wait for the chain is one too many. Below an interior page where chains were
** found within 128 KiB of their leaves, the next leaf is read with as much around it.
** Each such read costs credit, and earns twice as much when a chain in it is used: so
** rows whose chains nobody wants, and leaves without, are soon read alone again.
**
** A database with pointer-map pages has one of them within many a chain: it is read
** with the others, and what is behind it counts as in order.
**
** Nothing here reads the file. Pages are looked at when they were asked for, are in
** the pool and can be latched at once (ahead_look: nobody is waited for), or when
** they come in. What they say is not trusted: whatever it is, it costs a read of
** bounded length.
**
** A `chain` belongs to its connection, as all of read-ahead does (readahead.c).
*/
#include "chain.h"

#include "../core/ahead.h"
#include "../core/endian.h"
#include "btree.h"

enum {
  TRUST_BYTES = 128 << 10,
  PART_BYTES = 1 << 20,
  USABLE_MIN = 480, /* SQLite file format, section 1.3.4 */
  IN_ORDER = 2,     /* pages: how far the next one is away, at most */
  CREDIT_ENOUGH = 2,
  CREDIT_MOST = 4,
  CREDIT_USED = 2
};

/* Pages of that many bytes together: as one read takes. The pool may give less. */
static unsigned pages_of(const conn *c, uint32_t bytes)
{
  uint32_t n = bytes / atomic_load(&c->file->page_size);
  return n > AHEAD_MAX ? AHEAD_MAX : n;
}

static uint32_t usable_bytes(const conn *c)
{
  uint32_t reserve =
      c->rest->head_bytes > HEADER_RESERVE ? c->rest->head[HEADER_RESERVE] : 0;
  return atomic_load(&c->file->page_size) - reserve;
}

/* The page after page `id` of the chain, as far as the pool has that; else, or if
** there is none: 0. */
static uint64_t next_of(conn *c, uint64_t id)
{
  pagedb_pin pin;
  if (!ahead_look(c->session, atomic_load(&c->file->owner), id, &pin))
    return 0;
  uint32_t next = get_be32(pin.data);
  pagedb_unpin(&pin);
  return next > 0 ? next - 1 : 0;
}

static int is_in_order(uint64_t id, uint64_t next)
{
  return next > id && next - id <= IN_ORDER;
}

/* Pages of the chain that begins at `first` and hangs on page `leaf`. */
static uint64_t length_by(conn *c, uint64_t leaf, uint64_t first)
{
  pagedb_pin pin;
  uint32_t usable = usable_bytes(c);
  if (usable < USABLE_MIN || first >= UINT32_MAX ||
      !ahead_look(c->session, atomic_load(&c->file->owner), leaf, &pin))
    return 0;
  uint64_t n = btree_chain(pin.data, usable, leaf, (uint32_t)first + 1);
  pagedb_unpin(&pin);
  return n;
}

static chain_part part_from(chain *ch, uint64_t first, uint64_t left,
                            unsigned window)
{
  uint64_t n = left < window ? left : window;
  ch->window = window;
  ch->end = first;
  ch->last = 0;
  return (chain_part){first, (unsigned)n};
}

/* The chain goes on at page `id`, `pages` behind the one before it. */
static void step_to(conn *c, chain *ch, uint64_t id, uint64_t pages)
{
  unsigned most = pages_of(c, TRUST_BYTES);
  ch->trust = ch->trust * 2 < most ? ch->trust * 2 : most;
  ch->left = ch->left > pages ? ch->left - pages : 0;
  ch->at = id;
}

static void jump_to(chain *ch, uint64_t id)
{
  ch->trust = ch->trust > 1 ? ch->trust / 2 : 1;
  ch->left -= ch->left > 0;
  ch->at = id;
}

int chain_follows(conn *c, chain *ch, uint64_t id, chain_part *part)
{
  if (ch->at == 0 || id == 0 || next_of(c, ch->at) != id)
    return 0;
  if (is_in_order(ch->at, id))
    step_to(c, ch, id, 1);
  else
    jump_to(ch, id);
  *part = part_from(ch, id, ch->left + 1, ch->trust);
  return 1;
}

/* The page that was asked for that long ago; 0: the one that is asked for now. */
static uint64_t recent(const conn *c, unsigned ago)
{
  return c->recent[(c->nrecent - 1 - ago) % RECENT_PAGES];
}

int page_type(conn *c, uint64_t id)
{
  pagedb_pin pin;
  if (!ahead_look(c->session, atomic_load(&c->file->owner), id, &pin))
    return -1;
  int type = pin.data[id == 0 ? HEADER_BYTES : 0];
  pagedb_unpin(&pin);
  return type;
}

/* The interior page above a leaf that was asked for right after page `id`, + 1; 0:
** none is known. A cursor that stays open, as a blob handle does that goes on to
** another row, keeps the root of its tree: that is not asked for again. */
static uint64_t parent_above(conn *c, chain *ch, uint64_t id)
{
  int type = page_type(c, id);
  if (type == 2 || type == 5)
    ch->parent = id + 1;
  return ch->parent;
}

static vicinity *vicinity_of(chain *ch, uint64_t parent)
{
  return &ch->vicinity[parent % VICINITIES];
}

/* A chain of n pages begins at page `first`, and was not read with its leaf. */
static void learn(conn *c, chain *ch, uint64_t first, uint64_t n)
{
  if (c->nrecent < 3)
    return;
  uint64_t leaf = recent(c, 1), parent = parent_above(c, ch, recent(c, 2));
  uint64_t before = first < leaf ? leaf - first : 0;
  uint64_t behind = first > leaf ? first + n - 1 - leaf : 0;
  vicinity *v = vicinity_of(ch, parent);
  if (parent == 0)
    return;
  if (v->parent != parent || v->credit == 0)
    *v = (vicinity){.parent = parent};
  before = before > v->before ? before : v->before;
  behind = behind > v->behind ? behind : v->behind;
  if (before + behind >= pages_of(c, TRUST_BYTES))
    return;
  v->before = (unsigned)before;
  v->behind = (unsigned)behind;
  v->credit += v->credit < CREDIT_MOST;
}

int chain_around(conn *c, chain *ch, uint64_t id, chain_part *part)
{
  if (c->nrecent < 2)
    return 0;
  uint64_t parent = parent_above(c, ch, recent(c, 1));
  vicinity *v = vicinity_of(ch, parent);
  if (parent == 0 || v->parent != parent || v->credit < CREDIT_ENOUGH)
    return 0;
  v->credit--;
  part->first = id > v->before ? id - v->before : 0;
  part->n = (unsigned)(id - part->first) + 1 + v->behind;
  ch->around = *part;
  ch->around_for = parent;
  return 1;
}

/* The chain that begins at page `id` by the leaf that was asked for before, or by
** the one before that had one: how many pages it has, or 0. */
static uint64_t find(conn *c, chain *ch, uint64_t id)
{
  if (c->nrecent < 2)
    return 0;
  uint64_t leaf = recent(c, 1), n = length_by(c, leaf, id);
  if (n == 0 && ch->leaf != 0 && ch->leaf != leaf + 1)
    n = length_by(c, ch->leaf - 1, id);
  else if (n > 0)
    ch->leaf = leaf + 1;
  if (n > 0) {
    ch->at = id;
    ch->left = n - 1;
  }
  return n;
}

int chain_begins(conn *c, chain *ch, uint64_t id, chain_part *part)
{
  unsigned most = pages_of(c, TRUST_BYTES);
  uint64_t n = find(c, ch, id);
  if (n == 0)
    return 0;
  if (!ch->begun || ch->trust > most)
    ch->trust = most;
  ch->begun = 1;
  if (ch->leaf == recent(c, 1) + 1)
    learn(c, ch, id, n);
  *part = part_from(ch, id, n, ch->trust);
  return 1;
}

/* A chain is used that was read with its leaf. */
static int begins_around(conn *c, chain *ch, uint64_t id)
{
  uint64_t end = ch->around.first + ch->around.n;
  if (id < ch->around.first || id >= end)
    return 0;
  uint64_t n = find(c, ch, id);
  if (n == 0)
    return 0;
  vicinity *v = vicinity_of(ch, ch->around_for);
  if (v->parent == ch->around_for && v->credit < CREDIT_MOST)
    v->credit += CREDIT_USED;
  ch->around.n = 0;
  ch->window = (unsigned)(end - id);
  ch->end = n < end - id ? id + n : end;
  ch->last = 0;
  return 1;
}

void chain_saw(chain *ch, uint64_t id, const uint8_t *page)
{
  uint32_t next = get_be32(page);
  if (id >= ch->at && id < ch->end &&
      (next == 0 || !is_in_order(id, next - 1)) &&
      (ch->last == 0 || id < ch->last))
    ch->last = id;
}

int chain_used(conn *c, chain *ch, uint64_t id, chain_part *part)
{
  *part = (chain_part){id, 0};
  if (begins_around(c, ch, id))
    return 1;
  if (id <= ch->at || id >= ch->end)
    return 0;
  uint64_t before = ch->end - id - 1, pages = id - ch->at;
  step_to(c, ch, id, pages > IN_ORDER ? pages : 1);
  if (before > ch->window / 2 || ch->left <= before || ch->last != 0)
    return 1;
  unsigned most = pages_of(c, PART_BYTES);
  unsigned window = ch->window * 2 < most ? ch->window * 2 : most;
  *part = part_from(ch, ch->end, ch->left - before, window);
  return 1;
}

void chain_reads(chain *ch, uint64_t end)
{
  ch->end = end;
}

void chain_forget(chain *ch)
{
  ch->leaf = ch->at = ch->end = ch->left = 0;
  ch->parent = 0;
  ch->around.n = 0;
}
