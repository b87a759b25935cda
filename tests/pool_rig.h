/*
** pool_rig.h - what the tests of the pool share: a pool with one store, threads
** that make one call, a gate in a store.
*/
#ifndef POOL_RIG_H
#define POOL_RIG_H

#include <pthread.h>
#include <stdatomic.h>

#include "fault_store.h"
#include "pagedb.h"
#include "util.h"

enum { PAGE = 4096, AT = PAGEDB_RECORD_SIZE };

/* A pool with one store and one session, as most tests want it. */
typedef struct rig {
  fault_store *disk;
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *session;
} rig;

rig rig_open(unsigned frames);
void rig_close(rig *r);
/* Write `value` into the page. */
void put(pagedb_session *s, pagedb_owner *o, uint64_t id, uint64_t value);
uint64_t get(pagedb_session *s, pagedb_owner *o, uint64_t id);
/* Pages 0..n-1 on disk, page i holding i + 1000, none in the pool. */
void fill(rig *r, unsigned n);
uint64_t on_disk(rig *r, uint64_t id);
pagedb_pool_stats stats(pagedb_pool *p);
uint64_t dirty(rig *r);

/* A gate that stops a store's call until the test lets it go. */
typedef struct gate {
  enum fault_kind kind;
  uint64_t page;
  atomic_int arrived;
  atomic_int open;
} gate;

/* A millisecond. */
void nap(void);
/* Fails the test after 20 seconds. */
void wait_for(atomic_int *flag);
/* For fault_store_hook; arg is a gate. */
void gate_hook(void *arg, enum fault_kind kind, uint64_t page);

/* A thread that makes one call in a session of its own. */
typedef struct job {
  rig *rig;
  int (*call)(pagedb_session *, rig *);
  int err;
  atomic_int done;
  pthread_t thread;
} job;

void job_start(job *j, rig *r, int (*call)(pagedb_session *, rig *));
/* Its result. */
int job_join(job *j);

/*
** Run a group of tests twice: with the asymmetric fence and, PAGEDB_MEMBARRIER=0,
** with full fences. Returns the number of failures.
*/
#define RUN_WITH_BOTH_FENCES(tests)                                            \
  (failed_before = cmocka_run_group_tests(tests, rig_asymmetric, NULL),        \
   failed_before + cmocka_run_group_tests(tests, rig_full_fences, NULL))
extern int failed_before;
/* Set up a group; fails where it has not the fences that it is to have. */
int rig_asymmetric(void **state);
int rig_full_fences(void **state);

#endif
