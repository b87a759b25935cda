/*
** behind.c - write behind: pages of a large transaction go to the file while
** SQLite goes on.
**
** WHEN. In rollback mode, once some MiB of pages came in the file's order: a table
** that grows, or SQLite's cache as it is written at the commit. Those are seldom
** changed again, and without this the disk would stand still until the sync, which
** then waits for all of them. Pages that come in any order are mostly changed
** again before the join, and wait for it. So does a transaction that does not
** know yet whether its pages get stamps (s->unsure): they would go out twice.
**
** HOW. A thread that lives for one flush of the pool, with a session of its own.
** The pool claims each page, writes copies, and keeps one that is changed meanwhile
** dirty (core/pool_flush.c). It writes by pwritev like all others (io.c): a
** killed process keeps its locks until that has returned. The disk begins with what
** comes in the file's order (pages.c). Not in parent mode, whose file is for one
** thread.
**
** UNTIL. It runs only while its connection is s->writer, under EXCLUSIVE, and
** nothing that it looks at changes meanwhile. Who decides anew how pages go out,
** cuts the file, lets the parent make it larger, reads or writes around the pool,
** joins or ends the transaction waits for it (behind_wait). So nothing is under way
** when a lock is given up.
**
** POWER CUTS. Only pages that came by xWrite go out, and SQLite writes a page of
** the database only when the journal that has its original is synced (with
** synchronous=OFF nothing is promised, by SQLite either). The join flushes the rest,
** waits, and syncs the file; then the journal goes. A cut before that leaves the hot
** journal, which restores every page that went out here, in whatever part and order;
** nothing that is written here counts as a commit.
**
** ERRORS. What could not be written stays dirty. The next xWrite then flushes by
** itself, or the join does, and has the error if it is still there: one that has
** gone keeps no rollback from its work, and is in the log only.
*/
#include <stdlib.h>

#include "../core/fault.h"
#include "vfs_int.h"

struct behind {
  pagedb_session *session;
  pagedb_owner *owner;
  pthread_t thread;
  int runs;         /* started, and to be joined */
  _Atomic int done; /* the thread has nothing more to do */
  int err;          /* of the last one; the thread's while it runs */
  pagedb_fault fault;
};

static void *behind_run(void *arg)
{
  behind *b = arg;
  b->err = pagedb_flush(b->session, b->owner);
  if (b->err != PAGEDB_OK)
    b->fault = *pagedb_last_fault();
  atomic_store(&b->done, 1);
  return NULL;
}

/* NULL: no memory. */
static behind *behind_of(conn *c)
{
  behind *b = c->behind;
  if (b != NULL)
    return b;
  b = calloc(1, sizeof *b);
  if (b != NULL && pagedb_session_open(pool_get(), &b->session) != PAGEDB_OK) {
    free(b);
    b = NULL;
  }
  c->behind = b;
  return b;
}

static int is_under_way(const behind *b)
{
  return b->runs && !atomic_load(&b->done);
}

/* Also what a second try then writes is worth a line in the log. What this thread
** has to report stays as it is. */
static void tell(const conn *c, const behind *b)
{
  pagedb_fault mine = *pagedb_last_fault();
  fault_restore(&b->fault);
  shared_report(c->file, b->err, SQLITE_IOERR_WRITE);
  fault_restore(&mine);
}

void behind_wait(conn *c)
{
  behind *b = c->behind;
  if (b == NULL || !b->runs)
    return;
  pthread_join(b->thread, NULL);
  b->runs = 0;
  if (b->err != PAGEDB_OK)
    tell(c, b);
}

void behind_over(conn *c)
{
  behind_wait(c);
  if (c->behind != NULL)
    c->behind->err = PAGEDB_OK;
}

int behind_start(conn *c)
{
  shared *s = c->file;
  if (s->through != NULL || atomic_load(&s->unsure))
    return 0;
  behind *b = behind_of(c);
  if (b == NULL || is_under_way(b))
    return 0;
  behind_wait(c);
  if (b->err != PAGEDB_OK)
    return 0;
  b->owner = atomic_load(&s->owner);
  atomic_store(&b->done, 0);
  b->runs = os_thread(&b->thread, behind_run, b);
  if (b->runs)
    atomic_fetch_add(&pagedb_globals.count.flushes_behind, 1);
  else
    s->txn.in_order = 0; /* not again for each page */
  return b->runs;
}

int behind_failed(conn *c)
{
  behind *b = c->behind;
  if (b == NULL || is_under_way(b))
    return 0;
  behind_wait(c);
  return b->err != PAGEDB_OK;
}

int behind_flush(conn *c)
{
  pagedb_owner *o = atomic_load(&c->file->owner);
  int err = o == NULL ? PAGEDB_OK : pagedb_flush(c->session, o);
  behind_over(c);
  return err;
}

void behind_close(conn *c)
{
  behind *b = c->behind;
  if (b == NULL)
    return;
  behind_wait(c);
  pagedb_session_close(b->session);
  free(b);
  c->behind = NULL;
}
