/*
** guard.h - the guard of a stamped SQLite database: the high half of byte 18 of
** its first page (docs/format.md). Inside page-db only.
*/
#ifndef PAGEDB_GUARD_H
#define PAGEDB_GUARD_H

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

#endif
