/*
** killpoint.h - stop a process before its nth call that changes a file or a lock.
**
** The program's own write, pwrite, pwritev, ftruncate, fsync, fdatasync, unlink,
** mkdir, rmdir, fcntl and open (of a file that may be made) stand before libc's, for
** SQLite and for page-db: each call is one event. Only a process that was armed counts; the board is in memory that it
** shares with who forked it. Preloaded into another program (killpoint.so), the
** same calls stand before libc's there, and PAGEDB_KILL_AT=n kills it.
*/
#ifndef KILLPOINT_H
#define KILLPOINT_H

#include <stdatomic.h>
#include <stdint.h>

typedef enum killpoint_how {
  KILLPOINT_STOP,  /* before the event, for ever: whoever waits kills it */
  KILLPOINT_GO_ON, /* the event happens: the kill comes while it is under way */
  KILLPOINT_WRITES, /* the same, and only writes count */
  KILLPOINT_DIE     /* it kills itself before the event */
} killpoint_how;

typedef struct killpoint {
  _Atomic uint64_t events; /* so far */
  uint64_t at;             /* the nth; 0: none */
  killpoint_how how;
  _Atomic int reached;
} killpoint;

/* From here on this process's events count. */
void killpoint_arm(killpoint *k);

#endif
