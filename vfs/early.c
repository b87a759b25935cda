/*
** early.c - a large checkpoint's pages begin to go to the disk while it goes on.
**
** A checkpoint writes each page into the system's cache (checkpoint.c), and the sync
** at its end makes them durable: until then the disk has nothing to do, and then
** SQLite waits for all of it. So a thread asks the system, every MiB, to begin with
** what was written since it last asked.
**
** This is a hint. It changes nothing about what is in the file when xWrite returns,
** or what is durable after xSync. Most errors the system remembers until the sync of
** the same descriptor asks; one that it tells only here fails the file, and with it the
** sync. A power cut finds what it could have found without it, for the system writes
** when it wants to.
**
** Only a thread can do it: the call itself takes as long as the disk needs to take
** what is asked, which is as long as SQLite could have read the next pages in. Where
** there is no thread nothing is asked.
**
** Not where nothing will be synced (synchronous=OFF): the disk would be waited for
** that nobody waits for otherwise. SQLite syncs the log right before CKPT_START if it
** is going to sync the database (conn_rest.log_synced).
**
** The thread lives until CKPT_DONE, and is waited for: until then the connection,
** and with it the descriptor, is there.
*/
#include <stdlib.h>

#include "vfs_int.h"

/* The first step is longer: a checkpoint of the thousand frames that SQLite lets
** come together is done before a thread has begun. */
enum { STEP_BYTES = 1 << 20, FIRST_STEP_BYTES = 4 << 20 };

struct early {
  shared *file;
  pthread_t thread;
  RANKED_MUTEX(RANK_EARLY) lock; /* the fields below */
  pthread_cond_t more;
  uint64_t begin, end; /* bytes of the file that the thread has to ask for */
  int over;
};

static void *early_run(void *arg)
{
  early *e = arg;
  pthread_mutex_lock(&e->lock);
  while (!e->over) {
    uint64_t begin = e->begin, end = e->end;
    if (begin == end) {
      pthread_cond_wait(&e->more, &e->lock);
      continue;
    }
    e->begin = end;
    pthread_mutex_unlock(&e->lock);
    io_write_back(e->file, begin, end - begin);
    pthread_mutex_lock(&e->lock);
  }
  pthread_mutex_unlock(&e->lock);
  return NULL;
}

static void release(early *e)
{
  pthread_cond_destroy(&e->more);
  pthread_mutex_destroy(&e->lock);
  free(e);
}

/* NULL: no memory, or no thread. */
static early *begin(shared *file)
{
  early *e = calloc(1, sizeof *e);
  if (e == NULL)
    return NULL;
  e->file = file;
  pthread_mutex_init(&e->lock, NULL);
  pthread_cond_init(&e->more, NULL);
  if (os_thread(&e->thread, early_run, e))
    return e;
  release(e);
  return NULL;
}

void early_start(conn *c)
{
  int is_durable = c->rest->log_synced && c->file->through == NULL;
  c->rest->early_left = is_durable ? FIRST_STEP_BYTES : UINT64_MAX;
  c->rest->log_synced = 0;
}

void early_wrote(conn *c, uint64_t off, uint64_t n)
{
  early *e = c->early;
  if (c->rest->early_left > n) {
    c->rest->early_left -= n;
    return;
  }
  c->rest->early_left = STEP_BYTES;
  if (e == NULL)
    e = c->early = begin(c->file);
  if (e == NULL) {
    c->rest->early_left = UINT64_MAX; /* not once more for each step */
    return;
  }
  pthread_mutex_lock(&e->lock);
  if (off + n > e->end)
    e->end = off + n; /* pages come in the file's order */
  pthread_cond_signal(&e->more);
  pthread_mutex_unlock(&e->lock);
}

void early_stop(conn *c)
{
  early *e = c->early;
  if (e == NULL)
    return;
  pthread_mutex_lock(&e->lock);
  e->over = 1;
  pthread_cond_signal(&e->more);
  pthread_mutex_unlock(&e->lock);
  pthread_join(e->thread, NULL);
  release(e);
  c->early = NULL;
}
