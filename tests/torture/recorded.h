/*
** recorded.h - workloads of other processes, for torture_cuts: the command, or two
** processes that have one database open.
**
** A `play` is a line: WHAT/JOURNAL/PAGESIZE/START[/OPTION ...]
**
**   convert/wal/4096/plain/live      writers/delete/512/stamped/seed=7
**
** The players are this program itself, started anew (play_player), on real files
** through the platform's VFS. What they do goes to one log (trace.h), which the
** states that are allowed stand in, too: the log alone repeats a failure. The order
** in which two processes meet is by chance; the order of their commits is not.
*/
#ifndef RECORDED_H
#define RECORDED_H

#include "torture.h"
#include "world.h"

typedef enum play_what {
  PLAY_CONVERT, /* commands */
  PLAY_STAMP,
  PLAY_ADOPT,
  PLAY_UNSTAMP,
  PLAY_WRITERS,    /* two write */
  PLAY_CHECKPOINT, /* one writes, one makes checkpoints of all kinds */
  PLAY_KILLED,     /* one writes and is killed, its heir recovers and goes on */
  PLAYS
} play_what;

typedef enum play_start {
  PLAY_PLAIN,
  PLAY_PLAIN32, /* 32 bytes free in each page */
  PLAY_STAMPED,
  PLAY_AROUND, /* stamped, and a page was written without page-db */
  PLAY_STARTS
} play_start;

typedef struct play {
  play_what what;
  journal journal; /* delete or wal */
  unsigned page_size;
  play_start start;
  int live;           /* the last one who had it open was killed: a hot journal,
                         or a log that is needed */
  int stock;          /* one of the two is stock SQLite; not on stamped files */
  int sync;           /* of those who write: synchronous */
  int boast;          /* more is claimed than that promises: a control */
  int strict;         /* a file's sync does not cover its directory entry */
  unsigned changes;   /* of those who write */
  unsigned rules_off; /* in the players */
  uint64_t seed;
} play;

/* First in main: a player's exit code; -1 if this process is none. */
int play_player(int argc, char **argv);

int play_parse(const char *line, play *p);
/* Into buf; returns buf. */
const char *play_print(const play *p, char *buf, size_t n);
play play_random(uint64_t *seed);

/*
** Record it and cut it at the places that `how` chooses. At `again` of them (0: every
** one) a command is given again, to what a cut leaves where a file system keeps its
** names in order: it goes on from there, says that all is well, leaves nothing
** behind; stock SQLite read the same content before. What fails is printed unless
** quiet, with the log that repeats it, which stays. Adds to *t.
*/
void play_run(const play *p, const effort *how, unsigned again, int quiet,
              tally *t);

/* The same workload from the log of a failure; world_free in any case. */
int play_from_log(world *w, const char *log);

#endif
