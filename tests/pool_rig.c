/*
** pool_rig.c - what the tests of the pool share.
*/
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>

#include "endian.h"
#include "os.h"
#include "pool_rig.h"

int failed_before;

int rig_asymmetric(void **state)
{
  (void)state;
  putenv("PAGEDB_MEMBARRIER=1");
  if (!os_fence_init())
    print_message("no asymmetric fence here: full fences twice\n");
  return 0;
}

int rig_full_fences(void **state)
{
  (void)state;
  putenv("PAGEDB_MEMBARRIER=0");
  return os_fence_init();
}

rig rig_open(unsigned frames)
{
  rig r;
  pagedb_pool_options opt = {.capacity = (uint64_t)frames * PAGE};
  r.disk = fault_store_new(PAGE);
  ok(pagedb_pool_open(&opt, &r.pool));
  ok(pagedb_owner_open(r.pool, fault_store_base(r.disk), &r.owner));
  ok(pagedb_session_open(r.pool, &r.session));
  return r;
}

void rig_close(rig *r)
{
  ok(pagedb_discard_from(r->owner, 0));
  ok(pagedb_owner_close(r->owner));
  ok(pagedb_session_close(r->session));
  ok(pagedb_pool_close(r->pool));
  fault_store_free(r->disk);
}

void put(pagedb_session *s, pagedb_owner *o, uint64_t id, uint64_t value)
{
  pagedb_pin pin;
  if (pagedb_fetch(s, o, id, &pin) == PAGEDB_OK)
    ok(pagedb_latch_exclusive(&pin));
  else
    ok(pagedb_fetch_new(s, o, id, &pin));
  put_le64(pin.data + AT, value);
  ok(pagedb_mark_dirty(&pin, value));
  pagedb_unpin(&pin);
}

uint64_t get(pagedb_session *s, pagedb_owner *o, uint64_t id)
{
  pagedb_pin pin;
  ok(pagedb_fetch(s, o, id, &pin));
  ok(pagedb_latch_shared(&pin));
  uint64_t v = get_le64(pin.data + AT);
  pagedb_unpin(&pin);
  return v;
}

void fill(rig *r, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    put(r->session, r->owner, i, i + 1000);
  ok(pagedb_checkpoint(r->session, r->owner));
  ok(pagedb_discard_from(r->owner, 0));
}

uint64_t on_disk(rig *r, uint64_t id)
{
  return get_le64(fault_store_page(r->disk, id) + AT);
}

pagedb_pool_stats stats(pagedb_pool *p)
{
  pagedb_pool_stats s;
  pagedb_pool_stats_get(p, &s);
  return s;
}

uint64_t dirty(rig *r)
{
  uint64_t n;
  pagedb_owner_counts(r->owner, NULL, &n);
  return n;
}

void nap(void)
{
  struct timespec t = {0, 1000000};
  nanosleep(&t, NULL);
}

void wait_for(atomic_int *flag)
{
  for (int i = 0; !atomic_load(flag); i++) {
    if (i > 20000) {
      print_error("nobody came within 20 seconds\n");
      fail();
    }
    nap();
  }
}

void gate_hook(void *arg, enum fault_kind kind, uint64_t page)
{
  gate *g = arg;
  if (kind != g->kind || (g->page != PAGEDB_NONE && page != g->page))
    return;
  atomic_store(&g->arrived, 1);
  wait_for(&g->open);
}

static void *job_run(void *arg)
{
  job *j = arg;
  pagedb_session *s;
  if (pagedb_session_open(j->rig->pool, &s) != PAGEDB_OK)
    abort();
  j->err = j->call(s, j->rig);
  if (pagedb_session_close(s) != PAGEDB_OK)
    abort();
  atomic_store(&j->done, 1);
  return NULL;
}

void job_start(job *j, rig *r, int (*call)(pagedb_session *, rig *))
{
  *j = (job){.rig = r, .call = call};
  assert_int_equal(pthread_create(&j->thread, NULL, job_run, j), 0);
}

int job_join(job *j)
{
  wait_for(&j->done);
  pthread_join(j->thread, NULL);
  return j->err;
}
