/*
** guard.h - the guard of a stamped SQLite database: the high half of byte 18 of
** its first page (docs/format.md). Inside page-db only.
*/
#ifndef PAGEDB_GUARD_H
#define PAGEDB_GUARD_H

#include "endian.h"

enum { GUARD_AT = 18, GUARD = 0x50, GUARD_MASK = 0xf0 };

static inline int guard_is_set(unsigned char write_version)
{
  return (write_version & GUARD_MASK) == GUARD;
}

/* The write version with the guard, and without. */
static inline unsigned char guarded(unsigned char write_version)
{
  return (unsigned char)(GUARD | (write_version & ~GUARD_MASK));
}

static inline unsigned char unguarded(unsigned char write_version)
{
  return (unsigned char)(write_version & ~GUARD_MASK);
}

/*
** Whether a database's header is of no kind that anybody writes into a page 1
** whose tail holds our record: the guard without 32 reserved bytes, or a mark
** that is none of ours. A flipped bit in byte 18 or 20 of a stamped database
** leaves such a header, and the file must not pass for a plain one.
**
** Without a record, the guard and other than 32 reserved bytes are what stands
** in the file while a stamped database is replaced by a plain one.
*/
static inline int header_is_broken(unsigned char write_version,
                                   unsigned char reserve, int has_record)
{
  if (!has_record)
    return 0;
  return guard_is_set(write_version)
             ? reserve != 32
             : unguarded(write_version) != write_version;
}

/* One more in the header's change counter: every open connection looks at the
** file again. */
static inline void bump_change_counter(unsigned char *head)
{
  uint32_t next = get_be32(head + 24) + 1;
  /* Version-valid-for must follow, or the page count is not believed. */
  if (get_be32(head + 92) == next - 1)
    put_be32(head + 92, next);
  put_be32(head + 24, next);
}

#endif
