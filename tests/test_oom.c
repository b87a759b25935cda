/*
** test_oom.c - memory runs out: the nth allocation fails, for every n, once or
** from then on. Every call answers PAGEDB_ENOMEM or does its work; nothing
** leaks (the sanitizer and valgrind runs see to that); afterwards everything
** can be closed.
**
** Linked with --wrap for the allocation functions.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "pagedb.h"
#include "private.h"
#include "util.h"

enum { AT = PAGEDB_RECORD_SIZE };

static unsigned countdown; /* 0: no fault planned */
static int from_then_on;
static int failures;

static int fails(void)
{
  if (countdown == 0 || --countdown > 0)
    return 0;
  if (from_then_on)
    countdown = 1;
  failures++;
  return 1;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__real_os_aligned_alloc(size_t align, size_t n);
void *__wrap_os_aligned_alloc(size_t align, size_t n);
void *__real_os_reserve(size_t n);
void *__wrap_os_reserve(size_t n);
void *__real_os_map(size_t n);
void *__wrap_os_map(size_t n);

void *__wrap_malloc(size_t n)
{
  return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
  return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_os_aligned_alloc(size_t align, size_t n)
{
  return fails() ? NULL : __real_os_aligned_alloc(align, n);
}

void *__wrap_os_reserve(size_t n)
{
  return fails() ? NULL : __real_os_reserve(n);
}

void *__wrap_os_map(size_t n)
{
  return fails() ? NULL : __real_os_map(n);
}

/* Everything that a program opens. */
typedef struct all {
  pagedb_file *file;
  pagedb_store *store;
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *session;
  pagedb_alloc *alloc;
} all;

static int open_all(all *a, const char *path)
{
  pagedb_file_options fo = {.create = 1};
  pagedb_pool_options po = {.capacity = 8 * 4096};
  int err = pagedb_file_open(path, &fo, &a->file);
  if (err == PAGEDB_OK)
    err = pagedb_store_of_file(a->file, &a->store);
  if (err == PAGEDB_OK)
    err = pagedb_pool_open(&po, &a->pool);
  if (err == PAGEDB_OK)
    err = pagedb_owner_open(a->pool, a->store, &a->owner);
  if (err == PAGEDB_OK)
    err = pagedb_session_open(a->pool, &a->session);
  if (err == PAGEDB_OK)
    err = pagedb_alloc_open(a->store, a->owner, &a->alloc);
  return err;
}

static void close_all(all *a)
{
  pagedb_alloc_close(a->alloc);
  if (a->owner != NULL)
    ok(pagedb_discard_from(a->owner, 0));
  ok(pagedb_session_close(a->session));
  ok(pagedb_owner_close(a->owner));
  ok(pagedb_pool_close(a->pool));
  pagedb_store_close(a->store);
  pagedb_file_close(a->file);
}

static int write_one(all *a, uint64_t *id, char value)
{
  pagedb_pin pin;
  int err = pagedb_alloc_new(a->alloc, id);
  if (err == PAGEDB_OK)
    err = pagedb_fetch_new(a->session, a->owner, *id, &pin);
  if (err != PAGEDB_OK)
    return err;
  memset(pin.data + AT, value, 100);
  ok(pagedb_mark_dirty(&pin, 1));
  pagedb_unpin(&pin);
  return PAGEDB_OK;
}

/* A round through all parts; stops at the first error. */
static int work(all *a)
{
  uint64_t id[20], far = 0;
  pagedb_pin pin;
  int err = PAGEDB_OK;
  for (int i = 0; i < 20 && err == PAGEDB_OK; i++)
    err = write_one(a, &id[i], (char)('a' + i));
  if (err == PAGEDB_OK)
    err = pagedb_alloc_sync(a->alloc);
  if (err == PAGEDB_OK)
    err = pagedb_checkpoint(a->session, a->owner);
  for (int i = 0; i < 20 && err == PAGEDB_OK; i++) {
    err = pagedb_fetch(a->session, a->owner, id[i], &pin);
    if (err == PAGEDB_OK) {
      assert_int_equal(pin.data[AT + 50], 'a' + i);
      pagedb_unpin(&pin);
    }
  }
  for (int i = 0; i < 20 && err == PAGEDB_OK; i++)
    err = pagedb_alloc_free(a->alloc, id[i]);
  if (err == PAGEDB_OK)
    err = pagedb_alloc_sync(a->alloc);
  /* A page far away needs new nodes of the page table. */
  if (err == PAGEDB_OK) {
    err = pagedb_fetch(a->session, a->owner, (uint64_t)1 << 30, &pin);
    far = 1;
  }
  if (far && err == PAGEDB_ESHORT)
    err = PAGEDB_OK;
  if (err == PAGEDB_OK)
    err = pagedb_pool_resize(a->pool, 4 * 4096, NULL);
  return err;
}

static void test_every_allocation_fails(void **state)
{
  (void)state;
  const char *path = temp_path();
  for (from_then_on = 0; from_then_on < 2; from_then_on++)
    for (unsigned n = 1;; n++) {
      all a = {0};
      failures = 0;
      countdown = n;
      int err = open_all(&a, path);
      if (err == PAGEDB_OK)
        err = work(&a);
      countdown = 0;
      if (err != PAGEDB_OK)
        expect(err, PAGEDB_ENOMEM);
      /* With memory back, what was opened works. */
      if (a.alloc != NULL)
        ok(work(&a));
      close_all(&a);
      remove(path);
      if (failures == 0)
        break;
    }
}

/*
** Do `one` with the nth allocation failing, for every n, once and from then on,
** until none fails; it gets `arg`, and returns PAGEDB_OK or PAGEDB_ENOMEM.
*/
static void every_allocation(int (*one)(void *arg), void *arg)
{
  for (from_then_on = 0; from_then_on < 2; from_then_on++)
    for (unsigned n = 1;; n++) {
      failures = 0;
      countdown = n;
      int err = one(arg);
      countdown = 0;
      if (err != PAGEDB_OK)
        expect(err, PAGEDB_ENOMEM);
      if (failures == 0) {
        ok(err);
        break;
      }
    }
}

enum { FREE = 300 };

/* A file with a free list is opened, and two runs of it are read at once. */
static int reopen(void *path)
{
  pagedb_file *f = NULL;
  pagedb_store *s = NULL;
  pagedb_alloc *a = NULL;
  uint64_t lsns[2] = {7, 7};
  int err = pagedb_file_open(path, NULL, &f);
  if (err == PAGEDB_OK)
    err = pagedb_store_of_file(f, &s);
  if (err == PAGEDB_OK)
    err = pagedb_alloc_open(s, NULL, &a);
  if (err == PAGEDB_OK) {
    assert_int_equal(pagedb_alloc_free_count(a), FREE);
    unsigned before = countdown;
    countdown = 0;
    unsigned char *mem = pagedb_file_alloc(f, 2);
    countdown = before;
    memset(mem, 0, 2 * 4096); /* valgrind does not see what io_uring writes */
    void *pages[2] = {mem, mem + 4096};
    pagedb_run run[2] = {{1, 1, &pages[0], &lsns[0], NULL, 0},
                         {9, 1, &pages[1], &lsns[1], NULL, 0}};
    ok(pagedb_file_read_runs(f, run, 2)); /* with a queue or without */
    assert_int_equal(lsns[0] + lsns[1], 0);
    pagedb_file_free(mem);
  }
  pagedb_alloc_close(a);
  pagedb_store_close(s);
  pagedb_file_close(f);
  return err;
}

static void test_reopening(void **state)
{
  (void)state;
  const char *path = temp_path();
  char copy[600];
  all a = {0};
  uint64_t id;
  ok(open_all(&a, path));
  for (int i = 0; i < FREE; i++)
    ok(pagedb_alloc_new(a.alloc, &id));
  for (id = 1; id <= FREE; id++)
    ok(pagedb_alloc_free(a.alloc, id));
  ok(pagedb_alloc_sync(a.alloc));
  close_all(&a);
  snprintf(copy, sizeof copy, "%s", path);
  every_allocation(reopen, copy);
  remove(path);
}

/* A store in memory grows, or stays as it was. */
static int grow_in_memory(void *arg)
{
  unsigned char page[4096] = {0};
  void *p = page;
  uint64_t lsn = 1, n;
  pagedb_store *s;
  (void)arg;
  int err = pagedb_store_in_memory(4096, &s);
  if (err != PAGEDB_OK)
    return err;
  for (uint64_t id = 0; id < 40 && err == PAGEDB_OK; id++) {
    pagedb_run run = {id, 1, &p, &lsn, NULL, 0};
    err = s->write(s, &run, 1);
    ok(s->count(s, &n));
    assert_int_equal(n, err == PAGEDB_OK ? id + 1 : id);
  }
  pagedb_store_close(s);
  return err;
}

/* One dirty page, and a session that has written nothing yet. */
static int flush_first(void *arg)
{
  int by_page = *(int *)arg;
  all a = {0};
  pagedb_pin pin;
  uint64_t dirty;
  unsigned planned = countdown;
  countdown = 0;
  ok(pagedb_store_in_memory(4096, &a.store));
  ok(pagedb_pool_open(&(pagedb_pool_options){.capacity = 8 * 4096}, &a.pool));
  ok(pagedb_owner_open(a.pool, a.store, &a.owner));
  ok(pagedb_session_open(a.pool, &a.session));
  ok(pagedb_fetch_new(a.session, a.owner, 3, &pin));
  pagedb_unpin(&pin);
  countdown = planned;
  int err = by_page ? pagedb_flush_page(a.session, a.owner, 3)
                    : pagedb_flush(a.session, a.owner);
  countdown = 0;
  pagedb_owner_counts(a.owner, NULL, &dirty);
  assert_int_equal(dirty, err != PAGEDB_OK);
  ok(pagedb_flush(a.session, a.owner));
  pagedb_owner_counts(a.owner, NULL, &dirty);
  assert_int_equal(dirty, 0);
  close_all(&a);
  return err;
}

static int yes(void *arg, const ahead_page *p)
{
  (void)arg;
  (void)p;
  return 1;
}

/* A page that was read ahead finds no room in the page table: it is not there,
** and its frame is given back. */
static int read_ahead(void *arg)
{
  all a = {0};
  ahead_page page;
  pagedb_pool_stats st;
  const uint64_t id = (uint64_t)1 << 30;
  unsigned looked, planned = countdown;
  (void)arg;
  countdown = 0;
  ok(pagedb_store_in_memory(4096, &a.store));
  ok(pagedb_pool_open(&(pagedb_pool_options){.capacity = 64 * 4096}, &a.pool));
  ok(pagedb_owner_open(a.pool, a.store, &a.owner));
  assert_int_equal(ahead_begin(a.owner, &id, 1, 0, &page, &looked), 1);
  page.good = 1;
  page.lsn = 0;
  countdown = planned;
  ahead_end(a.owner, &page, 1, yes, NULL);
  countdown = 0;
  int here = pagedb_resident(a.owner, id);
  pagedb_pool_stats_get(a.pool, &st);
  assert_int_equal(st.ahead_wasted, !here);
  close_all(&a);
  return here ? PAGEDB_OK : PAGEDB_ENOMEM;
}

/* A page outside of the budget: whole, or not there. */
static int outside(void *arg)
{
  pagedb_pool *pool;
  private_set set;
  private_cell cell[3], *c[3];
  unsigned got = 0, planned = countdown;
  (void)arg;
  countdown = 0;
  ok(pagedb_pool_open(&(pagedb_pool_options){.capacity = 1 << 20}, &pool));
  ok(private_open(pool, &set, 1 << 20, 0));
  countdown = planned;
  for (unsigned i = 0; i < 3; i++) {
    unsigned char *p = private_get(&set, &cell[got], PRIVATE_MUST);
    if (p == NULL)
      continue;
    p[0] = p[(1 << 20) - 1] = 1;
    c[got] = &cell[got];
    got++;
  }
  countdown = 0;
  assert_int_equal(private_pages(&set), got);
  private_drop(&set, c, got, 0);
  assert_int_equal(private_pages(&set), 0);
  private_close(&set);
  ok(pagedb_pool_close(pool));
  return got == 3 ? PAGEDB_OK : PAGEDB_ENOMEM;
}

static void test_parts(void **state)
{
  (void)state;
  static int (*const parts[])(void *) = {grow_in_memory, read_ahead, outside};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    every_allocation(parts[i], NULL);
  for (int by_page = 0; by_page < 2; by_page++)
    every_allocation(flush_first, &by_page);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_allocation_fails),
      cmocka_unit_test(test_reopening),
      cmocka_unit_test(test_parts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
