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

#include "pagedb.h"
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

static void test_memory_store(void **state)
{
  (void)state;
  for (from_then_on = 0, failures = 1; failures > 0;) {
    static unsigned n;
    pagedb_store *s = NULL;
    unsigned char page[512] = {0};
    void *p = page;
    uint64_t lsn = 1, count = 9;
    pagedb_run run = {3, 1, &p, &lsn, NULL, 0};
    failures = 0;
    countdown = ++n;
    int err = pagedb_store_in_memory(512, &s);
    if (err == PAGEDB_OK)
      err = s->write(s, &run, 1);
    countdown = 0;
    expect(err, failures > 0 ? PAGEDB_ENOMEM : PAGEDB_OK);
    if (s == NULL)
      continue;
    ok(s->count(s, &count));
    assert_int_equal(count, err == PAGEDB_OK ? 4 : 0);
    pagedb_store_close(s);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_allocation_fails),
      cmocka_unit_test(test_memory_store),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
