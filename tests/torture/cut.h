/*
** cut.h - the disks that a power cut may leave, made from a simdisk's log.
**
** A `platter` is the durable side of the disk at one moment of the log. What
** was done since and not synced is pending. A cut keeps some of the pending
** changes:
**
**   writes     any subset; where they overlap the later one wins. `torn`: each
**              sector of 512 bytes for itself.
**   length     a file is as long as its last kept byte. A lost write behind the
**              end may have made it longer all the same. What nobody wrote there
**              is zero or garbage (random, or a stale piece of another file).
**   truncates  in order, also of different files, and none if an earlier
**              deletion is lost: metadata that a file system logs. (SQLite needs
**              that: it cuts off the end of the database once VACUUM's journal
**              is deleted, and has no copy of it.) Blocks that a lost truncate
**              would have freed are not there for the writes that came after it:
**              those are lost, too
**   entries    creations and deletions of one name in order, those of different
**              names independently
**
** What makes changes durable: OP_SYNC the bytes and length of its file, and its
** entry (file systems with a journal) unless PLATTER_STRICT; OP_SYNC_DIR all
** entries.
*/
#ifndef CUT_H
#define CUT_H

#include "simdisk.h"

typedef struct platter platter;

enum {
  PLATTER_LIES = 1,         /* no sync does anything: the control */
  PLATTER_STRICT = 2,       /* a file's sync does not cover its entry */
  PLATTER_JOURNAL_ORDER = 4 /* of a rollback journal's writes the first are
                               kept, whole, and no garbage follows them */
};

platter *platter_new(const simdisk *recorded, unsigned rules);
void platter_free(platter *p);

/* Carry out the next operation of the log; NULL at its end. */
const disk_op *platter_step(platter *p);
/* How many were carried out. */
size_t platter_at(const platter *p);
unsigned platter_pending(const platter *p);
/* The name under which a file was created; -1: none. */
int platter_name(const platter *p, unsigned file);

typedef enum cut_kind {
  CUT_NONE, /* all that is pending is lost */
  CUT_ALL,
  CUT_ONLY,     /* change number `which` is kept */
  CUT_BUT,      /* change number `which` is lost */
  CUT_SUBSET,   /* by the seed */
  CUT_TORN,     /* by the seed, sectors for themselves, garbage */
  CUT_TORN_ONE, /* number `which` is torn, all before it kept, the rest lost */
  CUT_KINDS
} cut_kind;

typedef struct cut {
  cut_kind kind;
  unsigned which;
  uint64_t seed;
} cut;

/*
** The disk after the cut. *journal_end is the place in the log of the oldest
** lost change that ended a rollback journal (a deletion, a truncate), or the
** log's length: that journal is hot again.
*/
simdisk *platter_cut(const platter *p, cut how, size_t *journal_end);

/*
** Whether the frames that count in the image's write-ahead logs, up to the last
** commit, are what a log was at one moment. If not, SQLite's checksum was fooled,
** and so is every SQLite: it does not see it if of three words in a row, the first
** at an odd place, one falls by as much as the next two rise. The first trunk page
** of a free list changes in that way.
*/
int platter_logs_are_true(const platter *p, const simdisk *image);

/* Names and contents as a number. */
uint64_t simdisk_hash(const simdisk *d);

#endif
