/*
** host.h - see host.c.
*/
#ifndef HOST_H
#define HOST_H

#include <sqlite3.h>

typedef struct host {
  const void *base; /* of the object that has them; NULL: this program */
  int (*config)(int, ...);
  int (*initialize)(void);
  int (*shutdown)(void);
  sqlite3_int64 (*memory_used)(void);
  sqlite3_int64 (*hard_limit)(sqlite3_int64);
  void *(*malloc)(int);
  void (*free)(void *);
} host;

/*
** The SQLite that has `routine`, one of its functions; NULL: the one that the
** program sees, or has loaded. 0: it is not to be found, or hides its symbols.
*/
int host_find(const void *routine, host *h);

/* host.base of the SQLite that has `routine`. */
const void *host_base(const void *routine);

#endif
