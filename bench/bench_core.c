/*
** bench_core.c - ns per operation of core.
**
**   bench_core [FILE]
**
** FILE (default build/bench.pages) is made and removed; it should be on the
** device of interest. Every figure is the least, the median and the greatest
** of several rounds, which are interleaved (bench.h).
** The rivals stand in the same groups: the bare system call, and ISA-L's CRC
** when the program was built where its headers are.
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "crc32c_int.h"
#include "os.h"
#include "pagedb.h"

#if defined(__has_include)
#if __has_include(<isa-l/crc.h>)
#include <isa-l/crc.h>
#define HAVE_ISAL 1
#endif
#endif

enum { PAGE = 4096, FILE_PAGES = 8192 };

/* --------------------------------------------------------------------- crc */

static unsigned char *buffer; /* 1 MiB, aligned */
static volatile uint32_t sink;

static void crc_run(void *arg, unsigned n)
{
  uint32_t x = 0;
  for (unsigned i = 0; i < n; i++)
    x ^= pagedb_crc32c(buffer, *(size_t *)arg);
  sink = x;
}

typedef struct crc_job {
  const crc32c_path *path;
  size_t size;
} crc_job;

static void crc_path_run(void *arg, unsigned n)
{
  crc_job *j = arg;
  uint32_t x = 0;
  for (unsigned i = 0; i < n; i++)
    x ^= j->path->update(~0u, buffer, j->size);
  sink = x;
}

#ifdef HAVE_ISAL
static void crc_isal_run(void *arg, unsigned n)
{
  uint32_t x = 0;
  for (unsigned i = 0; i < n; i++)
    x ^= crc32_iscsi(buffer, (int)*(size_t *)arg, ~0u);
  sink = x;
}
#endif

static void bench_crc(void)
{
  static size_t sizes[] = {512, 4096, 16384};
  static crc_job job[8];
  bench_line l[16] = {{.n = 0}};
  int n = 0;
  l[n++] = (bench_line){"crc32c 512", crc_run, &sizes[0], 4000, {0}};
  l[n++] = (bench_line){"crc32c 4096", crc_run, &sizes[1], 2000, {0}};
  l[n++] = (bench_line){"crc32c 16384", crc_run, &sizes[2], 1000, {0}};
  for (int i = 0; crc32c_paths[i].name != NULL; i++) {
    static char name[8][48];
    if (!crc32c_paths[i].supported())
      continue;
    job[i] = (crc_job){&crc32c_paths[i], 4096};
    snprintf(name[i], sizeof name[i], "path %s 4096", crc32c_paths[i].name);
    l[n++] = (bench_line){name[i], crc_path_run, &job[i], 1000, {0}};
  }
#ifdef HAVE_ISAL
  l[n++] = (bench_line){
      "rival: ISA-L crc32_iscsi 4096", crc_isal_run, &sizes[1], 2000, {0}};
#endif
  bench_group("checksum", l, n);
}

/* -------------------------------------------------------------------- files */

typedef struct file_bench {
  pagedb_file *file;
  int fd;
  unsigned char *page;
  uint64_t at;
} file_bench;

static uint64_t next_id(file_bench *b)
{
  b->at = b->at * 6364136223846793005u + 1442695040888963407u;
  return (b->at >> 33) % FILE_PAGES;
}

static void page_write_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++)
    bench_must(pagedb_file_write(b->file, next_id(b), i, b->page));
}

static void page_read_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++)
    bench_must(pagedb_file_read(b->file, next_id(b), b->page, NULL));
}

static void raw_write_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++) {
    uint64_t id = next_id(b);
    pagedb_page_stamp(b->page, PAGE, PAGEDB_LEADING, id, i);
    if (pwrite(b->fd, b->page, PAGE, (off_t)(id * PAGE)) != PAGE)
      exit(1);
  }
}

static void bare_write_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++)
    if (pwrite(b->fd, b->page, PAGE, (off_t)FILE_PAGES * PAGE) != PAGE)
      exit(1);
}

static void bare_read_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++)
    if (pread(b->fd, b->page, PAGE, (off_t)(next_id(b) * PAGE)) != PAGE)
      exit(1);
}

static void write_sync_run(void *arg, unsigned n)
{
  file_bench *b = arg;
  for (unsigned i = 0; i < n; i++) {
    bench_must(pagedb_file_write(b->file, next_id(b), i, b->page));
    bench_must(pagedb_file_sync(b->file));
  }
}

/* 256 random pages at once. */
static void batch_read_run(void *arg, unsigned n)
{
  enum { BATCH = 256 };
  file_bench *b = arg;
  static void *page[BATCH];
  static pagedb_run run[BATCH];
  for (unsigned done = 0; done < n; done += BATCH) {
    for (int i = 0; i < BATCH; i++) {
      page[i] = buffer + (size_t)i * PAGE;
      run[i] = (pagedb_run){.first = next_id(b), .count = 1, .pages = &page[i]};
    }
    bench_must(pagedb_file_read_runs(b->file, run, BATCH));
  }
}

static file_bench file_open(const char *path, pagedb_direct direct)
{
  pagedb_file_options o = {.create = 1, .direct = direct};
  file_bench b = {.at = 1};
  bench_must(pagedb_file_open(path, &o, &b.file));
  b.fd = open(path, O_RDWR | (pagedb_file_is_direct(b.file) ? O_DIRECT : 0));
  b.page = pagedb_file_alloc(b.file, 1);
  if (b.fd < 0 || b.page == NULL)
    exit(1);
  memset(b.page, 0x5a, PAGE);
  for (uint64_t id = 0; id <= FILE_PAGES; id++)
    bench_must(pagedb_file_write(b.file, id, 0, b.page));
  bench_must(pagedb_file_sync(b.file));
  return b;
}

static void file_close(file_bench *b)
{
  pagedb_file_free(b->page);
  close(b->fd);
  pagedb_file_close(b->file);
}

static void bench_files(const char *path)
{
  file_bench b = file_open(path, PAGEDB_DIRECT_OFF);
  bench_line buffered[] = {
      {"bare pread 4096", bare_read_run, &b, 4000, {0}},
      {"page read (verified)", page_read_run, &b, 4000, {0}},
      {"bare pwrite 4096, one place", bare_write_run, &b, 2000, {0}},
      {"stamp + bare pwrite 4096, random places", raw_write_run, &b, 2000, {0}},
      {"page write (stamped), random places", page_write_run, &b, 2000, {0}},
  };
  bench_group("buffered file", buffered, BENCH_COUNT(buffered));
  file_close(&b);
  b = file_open(path, PAGEDB_DIRECT_PREFERRED);
  bench_line direct[] = {
      {"bare pread 4096", bare_read_run, &b, 200, {0}},
      {"page read (verified)", page_read_run, &b, 200, {0}},
      {"page read, 256 random pages at once", batch_read_run, &b, 2048, {0}},
      {"bare pwrite 4096, one place", bare_write_run, &b, 200, {0}},
      {"page write (stamped), random places", page_write_run, &b, 200, {0}},
      {"page write + sync", write_sync_run, &b, 20, {0}},
  };
  bench_group(pagedb_file_is_direct(b.file)
                  ? "Direct I/O file"
                  : "Direct I/O refused here: buffered",
              direct, BENCH_COUNT(direct));
  file_close(&b);
}

/* --------------------------------------------------------------------- pool */

typedef struct pool_bench {
  pagedb_pool *pool;
  pagedb_owner *owner;
  pagedb_session *session;
  uint64_t first;
  uint64_t pages; /* fetched are first .. first + pages - 1 */
  uint64_t at;
} pool_bench;

static void hit_run(void *arg, unsigned n)
{
  pool_bench *b = arg;
  pagedb_pin pin;
  uint64_t at = b->at, mask = b->pages - 1;
  for (unsigned i = 0; i < n; i++) {
    at = at * 6364136223846793005u + 1442695040888963407u;
    bench_must(pagedb_fetch(b->session, b->owner,
                            b->first + ((at >> 33) & mask), &pin));
    pagedb_unpin(&pin);
  }
  b->at = at;
}

static void latched_hit_run(void *arg, unsigned n)
{
  pool_bench *b = arg;
  pagedb_pin pin;
  for (unsigned i = 0; i < n; i++) {
    bench_must(pagedb_fetch(b->session, b->owner, b->first, &pin));
    bench_must(pagedb_latch_shared(&pin));
    pagedb_unpin(&pin);
  }
}

static void miss_run(void *arg, unsigned n)
{
  pool_bench *b = arg;
  pagedb_pin pin;
  for (unsigned i = 0; i < n; i++) {
    b->at = (b->at + 1) % b->pages;
    bench_must(pagedb_fetch(b->session, b->owner, b->at, &pin));
    pagedb_unpin(&pin);
  }
}

static void dirty_miss_run(void *arg, unsigned n)
{
  pool_bench *b = arg;
  pagedb_pin pin;
  for (unsigned i = 0; i < n; i++) {
    b->at = (b->at + 1) % b->pages;
    bench_must(pagedb_fetch(b->session, b->owner, b->at, &pin));
    bench_must(pagedb_latch_exclusive(&pin));
    bench_must(pagedb_mark_dirty(&pin, i));
    pagedb_unpin(&pin);
  }
}

/* Two threads do the same work, each in its session; the time is that of one,
** so ns per operation of both together is half of it. */
typedef struct pair {
  void (*run)(void *, unsigned);
  pool_bench *b[2];
  unsigned n;
} pair;

static void *pair_thread(void *arg)
{
  pair *p = arg;
  p->run(p->b[1], p->n);
  return NULL;
}

static void pair_run(void *arg, unsigned n)
{
  pair *p = arg;
  pthread_t t;
  p->n = n / 2;
  if (pthread_create(&t, NULL, pair_thread, p) != 0)
    exit(1);
  p->run(p->b[0], p->n);
  pthread_join(t, NULL);
}

/* Another thread misses all the time, on Direct I/O, while hits are timed. */
static atomic_int stop;

static void *misser(void *arg)
{
  while (!atomic_load(&stop))
    miss_run(arg, 16);
  return NULL;
}

/* The control: another thread reads the same disk without us. */
static void *bare_reader(void *arg)
{
  while (!atomic_load(&stop))
    bare_read_run(arg, 16);
  return NULL;
}

static void with_company(void *(*company)(void *), void *arg, bench_line *l)
{
  pthread_t t;
  atomic_store(&stop, 0);
  if (pthread_create(&t, NULL, company, arg) != 0)
    exit(1);
  bench_group("pool hits beside another thread", l, 1);
  atomic_store(&stop, 1);
  pthread_join(t, NULL);
}

static pool_bench pool_open(pagedb_file *file, pagedb_store **store,
                            unsigned frames)
{
  pagedb_pool_options o = {.capacity = (uint64_t)frames * PAGE};
  pool_bench b = {.pages = 1, .at = 7};
  bench_must(pagedb_store_of_file(file, store));
  bench_must(pagedb_pool_open(&o, &b.pool));
  bench_must(pagedb_owner_open(b.pool, *store, &b.owner));
  bench_must(pagedb_session_open(b.pool, &b.session));
  return b;
}

static void pool_close(pool_bench *b, pagedb_store *store)
{
  bench_must(pagedb_discard_from(b->owner, 0));
  bench_must(pagedb_session_close(b->session));
  bench_must(pagedb_owner_close(b->owner));
  bench_must(pagedb_pool_close(b->pool));
  pagedb_store_close(store);
}

static void bench_hits(pagedb_file *file)
{
  pagedb_store *store;
  pool_bench one = pool_open(file, &store, 5000);
  pool_bench many = one, other = one, far = one;
  one.first = 5;
  many.pages = 4096;
  miss_run(&many, 4096);
  bench_must(pagedb_session_open(one.pool, &other.session));
  other.first = 5;
  far = other;
  far.first = 2000;
  pool_bench half1 = many, half2 = many;
  half1.pages = half2.pages = 2048;
  half2.first = 2048;
  half2.session = other.session;
  pair same = {hit_run, {&one, &other}, 0};
  pair apart = {hit_run, {&one, &far}, 0};
  pair halves = {hit_run, {&half1, &half2}, 0};
  bench_line l[] = {
      {"hit: fetch + unpin, one page", hit_run, &one, 400000, {0}},
      {"hit, random among 4096", hit_run, &many, 400000, {0}},
      {"hit + shared latch, one page", latched_hit_run, &one, 200000, {0}},
      {"2 threads, one page, per operation", pair_run, &same, 800000, {0}},
      {"2 threads, a page each", pair_run, &apart, 800000, {0}},
      {"2 threads, random among 2048 each", pair_run, &halves, 800000, {0}},
  };
  bench_group("pool hits", l, BENCH_COUNT(l));

  /* The misser walks over pages that do not fit. */
  pool_bench walker = other;
  walker.pages = FILE_PAGES;
  walker.first = 0;
  file_bench bare = {.at = 1, .page = buffer};
  bare.fd = open(pagedb_file_path(file),
                 O_RDONLY | (pagedb_file_is_direct(file) ? O_DIRECT : 0));
  bench_line alone = {
      "hit, one page, it reads the disk by pread", hit_run, &one, 400000, {0}};
  bench_line beside = {
      "hit, one page, it misses in the pool", hit_run, &one, 400000, {0}};
  with_company(bare_reader, &bare, &alone);
  with_company(misser, &walker, &beside);
  close(bare.fd);
  bench_must(pagedb_session_close(other.session));
  pool_close(&one, store);
}

static void bench_misses(const char *path)
{
  pagedb_file *file;
  pagedb_store *store;
  pagedb_file_options o = {.direct = PAGEDB_DIRECT_OFF};
  bench_must(pagedb_file_open(path, &o, &file));
  pool_bench b = pool_open(file, &store, 1024);
  b.pages = FILE_PAGES;
  bench_line l[] = {
      {"miss, clean victim", miss_run, &b, 4000, {0}},
      {"miss, dirty victim", dirty_miss_run, &b, 4000, {0}},
  };
  bench_group("pool misses, buffered file", l, BENCH_COUNT(l));
  pool_close(&b, store);
  pagedb_file_close(file);
}

/* -------------------------------------------------------------------- alloc */

typedef struct alloc_bench {
  pagedb_alloc *alloc;
  uint64_t last;
} alloc_bench;

static void alloc_run(void *arg, unsigned n)
{
  alloc_bench *b = arg;
  for (unsigned i = 0; i < n; i++)
    bench_must(pagedb_alloc_new(b->alloc, &b->last));
}

static void free_alloc_run(void *arg, unsigned n)
{
  alloc_bench *b = arg;
  for (unsigned i = 0; i < n; i++) {
    bench_must(pagedb_alloc_free(b->alloc, b->last));
    bench_must(pagedb_alloc_new(b->alloc, &b->last));
  }
}

static void sync_one_run(void *arg, unsigned n)
{
  alloc_bench *b = arg;
  for (unsigned i = 0; i < n; i++) {
    bench_must(pagedb_alloc_free(b->alloc, b->last--));
    bench_must(pagedb_alloc_sync(b->alloc));
  }
}

static void sync_new_run(void *arg, unsigned n)
{
  alloc_bench *b = arg;
  for (unsigned i = 0; i < n; i++) {
    for (int k = 0; k < 1000; k++)
      bench_must(pagedb_alloc_free(b->alloc, b->last--));
    bench_must(pagedb_alloc_sync(b->alloc));
  }
}

static void bench_alloc(const char *path)
{
  pagedb_file *file;
  pagedb_store *store;
  pagedb_file_options o = {.create = 1};
  alloc_bench b = {.last = 0};
  bench_must(pagedb_file_open(path, &o, &file));
  bench_must(pagedb_store_of_file(file, &store));
  bench_must(pagedb_alloc_open(store, NULL, &b.alloc));
  bench_line l[] = {
      {"allocate", alloc_run, &b, 100000, {0}},
      {"free + allocate", free_alloc_run, &b, 100000, {0}},
  };
  bench_group("allocator", l, BENCH_COUNT(l));
  sync_new_run(&b, 1);
  bench_line m[] = {
      {"sync, 1000 and more ids free, one newly", sync_one_run, &b, 10, {0}},
      {"sync, 1000 ids newly freed, per sync", sync_new_run, &b, 1, {0}},
  };
  bench_group("allocator sync (durable)", m, BENCH_COUNT(m));
  pagedb_alloc_close(b.alloc);
  pagedb_store_close(store);
  pagedb_file_close(file);
}

/* --------------------------------------------------------------------- main */

int main(int argc, char **argv)
{
  const char *path = argc > 1 ? argv[1] : "build/bench.pages";
  pagedb_file *file;
  buffer = os_aligned_alloc(4096, 1 << 20);
  memset(buffer, 0x5a, 1 << 20);
  remove(path);
  bench_machine();
  bench_table();
  bench_crc();
  bench_files(path);
  bench_must(pagedb_file_open(path, NULL, &file));
  bench_hits(file);
  pagedb_file_close(file);
  bench_misses(path);
  remove(path);
  bench_alloc(path);
  remove(path);
  os_aligned_free(buffer);
  return 0;
}
