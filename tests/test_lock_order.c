/*
** test_lock_order.c - locks taken in the wrong order are noticed in debug builds
** (core/lock_order.h), by ending the process: each case runs in a child. Without
** PAGEDB_DEBUG the same calls find free locks and nobody objects.
*/
#ifndef _WIN32
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ahead.h"
#include "pool_int.h"
#include "pool_rig.h"

#ifdef PAGEDB_DEBUG
enum { CHECKED = 1 };
#else
enum { CHECKED = 0 };
_Static_assert(sizeof(RANKED_MUTEX(RANK_BITS)) == sizeof(pthread_mutex_t),
               "a rank costs nothing");
#endif

static RANKED_MUTEX(RANK_GLOBALS) globals_lock = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_SHARED) shared_lock = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_SHARED) other_shared = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_ALLOC) alloc_lock = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_QUEUE) queue_lock = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_SYNC) sync_lock = RANKED_MUTEX_INITIALIZER;
static RANKED_MUTEX(RANK_BITS) bits_lock = RANKED_MUTEX_INITIALIZER;

/* 1 if the process ended by itself, 0 if it was made to. */
static int survives(void (*run)(void))
{
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGABRT, SIG_DFL); /* cmocka's handler would end the test's way */
    run();
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0
                                : WTERMSIG(status) == SIGABRT);
  return WIFEXITED(status);
}

/* ---------------------------------------------------------- the right order */

static void rising(void)
{
  rig r = rig_open(4);
  put(r.session, r.owner, 0, 1);
  pthread_mutex_lock(&globals_lock);
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_lock(&alloc_lock);
  pthread_mutex_lock(&r.pool->lock);
  pthread_mutex_lock(&bits_lock);
  pthread_mutex_unlock(&bits_lock);
  pthread_mutex_unlock(&r.pool->lock);
  pthread_mutex_unlock(&alloc_lock);
  pthread_mutex_unlock(&shared_lock);
  /* Let go: it may be taken again, and what is below it. */
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_unlock(&shared_lock);
  pthread_mutex_unlock(&globals_lock);
  pthread_mutex_lock(&globals_lock);
  pthread_mutex_unlock(&globals_lock);
  rig_close(&r);
}

/* What is tried waits for nobody, and one that is not got does not count. */
static void tried(void)
{
  pthread_mutex_lock(&sync_lock);
  if (pthread_mutex_trylock(&queue_lock) != 0)
    _exit(1);
  if (pthread_mutex_trylock(&queue_lock) == 0)
    _exit(2);
  pthread_mutex_unlock(&queue_lock);
  pthread_mutex_unlock(&sync_lock);
  pthread_mutex_lock(&alloc_lock);
  pthread_mutex_unlock(&alloc_lock);
}

static void *unlatches(void *pin)
{
  pagedb_unlatch(pin);
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_unlock(&shared_lock);
  return NULL;
}

/* Latches, in an order that the user answers for, then what a b-tree's split
** needs. */
static void latches(void)
{
  rig r = rig_open(4);
  pagedb_pin a, b;
  put(r.session, r.owner, 0, 1);
  put(r.session, r.owner, 1, 1);
  ok(pagedb_fetch(r.session, r.owner, 1, &b));
  ok(pagedb_fetch(r.session, r.owner, 0, &a));
  ok(pagedb_latch_exclusive(&b));
  ok(pagedb_latch_shared(&a));
  pthread_mutex_lock(&alloc_lock);
  pthread_mutex_unlock(&alloc_lock);
  pagedb_unpin(&a);
  /* Taken here, let go there: the session changes hands for a moment. */
  pthread_t t;
  if (pthread_create(&t, NULL, unlatches, &b) != 0 || pthread_join(t, NULL))
    _exit(1);
  ok(pagedb_latch_exclusive(&b));
  ok(pagedb_flush_page(r.session, r.owner, 1));
  pagedb_unpin(&b);
  rig_close(&r);
}

/* None is held any more when it is let go. */
static void after_latch(void)
{
  rig r = rig_open(4);
  put(r.session, r.owner, 0, 1);
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_unlock(&shared_lock);
  rig_close(&r);
}

static void test_right_order(void **state)
{
  (void)state;
  assert_true(survives(rising));
  assert_true(survives(tried));
  assert_true(survives(latches));
  assert_true(survives(after_latch));
}

/* ---------------------------------------------------------- the wrong order */

static void falling(void)
{
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_lock(&globals_lock);
}

static void two_of_a_rank(void)
{
  pthread_mutex_lock(&shared_lock);
  pthread_mutex_lock(&other_shared);
}

static void under_a_leaf(void)
{
  pthread_mutex_lock(&sync_lock);
  pthread_mutex_lock(&bits_lock);
}

static void under_what_was_tried(void)
{
  if (pthread_mutex_trylock(&queue_lock) == 0)
    pthread_mutex_lock(&sync_lock);
}

static void mutex_under_latch(void)
{
  rig r = rig_open(4);
  pagedb_pin pin;
  ok(pagedb_fetch_new(r.session, r.owner, 0, &pin)); /* latched */
  pthread_mutex_lock(&shared_lock);
}

static void latch_under_pool_lock(void)
{
  rig r = rig_open(4);
  pagedb_pin pin;
  put(r.session, r.owner, 0, 1);
  ok(pagedb_fetch(r.session, r.owner, 0, &pin));
  pthread_mutex_lock(&r.pool->lock);
  ok(pagedb_latch_shared(&pin));
}

static void *wakes(void *arg)
{
  rig *r = arg;
  pthread_mutex_lock(&r->pool->lock);
  pthread_cond_broadcast(&r->pool->changed);
  pthread_mutex_unlock(&r->pool->lock);
  return NULL;
}

/* Without the check: a thread wakes it, since the lock is free meanwhile. */
static void sleep_under_leaf(void)
{
  rig r = rig_open(4);
  pthread_t t;
  pthread_mutex_lock(&r.pool->lock);
  if (pthread_create(&t, NULL, wakes, &r) != 0)
    _exit(1);
  pthread_mutex_lock(&bits_lock);
  pthread_cond_wait(&r.pool->changed, &r.pool->lock);
}

static int reads(void *arg, const ahead_page *a)
{
  os_file *f = arg;
  os_iov iov = {a->data, PAGE};
  size_t got;
  ok(os_readv(f, &iov, 1, 0, &got));
  return 1;
}

/* What ahead_end asks under the pool's lock must not wait. */
static void disk_under_pool_lock(void)
{
  rig r = rig_open(64);
  uint64_t id = 3;
  unsigned looked;
  ahead_page a;
  os_file *f;
  ok(os_open(temp_path(), OS_OPEN_CREATE, &f, NULL));
  assert_int_equal(ahead_begin(r.owner, &id, 1, 0, &a, &looked), 1);
  a.good = 1;
  ahead_end(r.owner, &a, 1, reads, f);
}

static pagedb_pin latched_in_hook;

static void latches_in_hook(void *arg, enum fault_kind kind, uint64_t page)
{
  (void)arg;
  (void)page;
  if (kind == FAULT_WRITE)
    ok(pagedb_latch_shared(&latched_in_hook));
}

/* A store that waits for a latch while the pool has pages claimed. */
static void latch_with_claims(void)
{
  rig r = rig_open(4);
  put(r.session, r.owner, 0, 1);
  ok(pagedb_checkpoint(r.session, r.owner));
  put(r.session, r.owner, 1, 1);
  ok(pagedb_fetch(r.session, r.owner, 0, &latched_in_hook));
  fault_store_hook(r.disk, latches_in_hook, NULL);
  ok(pagedb_flush(r.session, r.owner));
}

static void sleeps_in_hook(void *arg, enum fault_kind kind, uint64_t page)
{
  rig *r = arg;
  pthread_t t;
  (void)page;
  if (kind != FAULT_WRITE)
    return;
  pthread_mutex_lock(&r->pool->lock);
  if (pthread_create(&t, NULL, wakes, r) != 0)
    _exit(1);
  pthread_cond_wait(&r->pool->changed, &r->pool->lock);
  pthread_mutex_unlock(&r->pool->lock);
}

static void sleep_with_claims(void)
{
  rig r = rig_open(4);
  put(r.session, r.owner, 1, 1);
  fault_store_hook(r.disk, sleeps_in_hook, &r);
  ok(pagedb_flush(r.session, r.owner));
}

static void test_wrong_order(void **state)
{
  (void)state;
  static void (*const breaches[])(void) = {
      falling,           two_of_a_rank,         under_a_leaf,
      mutex_under_latch, latch_under_pool_lock, under_what_was_tried,
      sleep_under_leaf,  disk_under_pool_lock,  latch_with_claims,
      sleep_with_claims};
  for (size_t i = 0; i < sizeof breaches / sizeof breaches[0]; i++)
    if (survives(breaches[i]) == CHECKED)
      fail_msg("breach %d: %s", (int)i,
               CHECKED ? "not noticed" : "noticed without PAGEDB_DEBUG");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_right_order),
      cmocka_unit_test(test_wrong_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include "util.h"

static void test_nothing(void **state)
{
  (void)state;
  print_message("skipped: no fork\n");
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
