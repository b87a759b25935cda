/*
** test_vfs_power.c - power cuts on a simulated disk: the part of the torture
** test that is always run, and its controls: with a disk that lies, or a rule of
** the VFS switched off, it must find failures.
**
** tests/torture/README.md says how it works. A failure prints the line that
** repeats it.
*/
#define _GNU_SOURCE
#define SQLITE_CORE 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../vfs/vfs_int.h"
#include "torture/cut.h"
#include "torture/torture.h"
#include "torture/trace.h"
#include "util.h"

/* ---------------------------------------------------------------- the disk */

static simdisk *after(const simdisk *d, unsigned rules, cut how)
{
  size_t unused;
  platter *p = platter_new(d, rules);
  while (platter_step(p) != NULL)
    ;
  simdisk *image = platter_cut(p, how, &unused);
  platter_free(p);
  return image;
}

static size_t bytes_of(const simdisk *d, const char *name)
{
  size_t n = 0;
  int f = simdisk_find(d, name);
  assert_true(f >= 0);
  simdisk_bytes(d, (unsigned)f, &n);
  return n;
}

/* What is synced stays, what is not may go, and nothing else comes. */
static void test_disk(void **state)
{
  (void)state;
  unsigned char a[1024], b[1024];
  memset(a, 'a', sizeof a);
  memset(b, 'b', sizeof b);
  simdisk *d = simdisk_new(), *image;
  simdisk_record(d);
  unsigned f = simdisk_create(d, "f");
  simdisk_write(d, f, a, sizeof a, 0);
  simdisk_sync(d, f);
  simdisk_write(d, f, b, sizeof b, 512);
  simdisk_delete(d, "f");

  image = after(d, 0, (cut){.kind = CUT_NONE});
  assert_int_equal(bytes_of(image, "f"), 1024);
  simdisk_free(image);
  image = after(d, 0, (cut){.kind = CUT_ALL});
  assert_int_equal(simdisk_find(image, "f"), -1);
  simdisk_free(image);
  image = after(d, 0, (cut){.kind = CUT_BUT, .which = 1});
  assert_int_equal(bytes_of(image, "f"), 1536);
  simdisk_free(image);
  /* A sync that lies, or does not cover the entry: no file. */
  image = after(d, PLATTER_LIES, (cut){.kind = CUT_NONE});
  assert_int_equal(simdisk_find(image, "f"), -1);
  simdisk_free(image);
  image = after(d, PLATTER_STRICT, (cut){.kind = CUT_NONE});
  assert_int_equal(simdisk_find(image, "f"), -1);
  simdisk_free(image);

  /* Torn: each sector old or new, and both happen. */
  int old = 0, new = 0;
  for (uint64_t seed = 0; seed < 64; seed++) {
    size_t n;
    image = after(d, 0, (cut){.kind = CUT_TORN_ONE, .seed = seed});
    const unsigned char *p = simdisk_bytes(image, 0, &n);
    assert_memory_equal(p, a, 512);
    assert_true(memcmp(p + 512, a, 512) == 0 || memcmp(p + 512, b, 512) == 0);
    old += p[512] == 'a';
    new += p[512] == 'b';
    simdisk_free(image);
  }
  assert_true(old > 0 && new > 0);
  simdisk_free(d);
}

/* A byte of a file in an image; -1: it has none there, or does not exist. */
static int byte_at(const simdisk *d, const char *name, size_t at)
{
  size_t n;
  int f = simdisk_find(d, name);
  const unsigned char *p = f < 0 ? NULL : simdisk_bytes(d, (unsigned)f, &n);
  return p == NULL || at >= n ? -1 : p[at];
}

/* Which of four changes the images of many seeds have: a set of sets. */
static unsigned outcomes(const simdisk *d, unsigned rules, cut_kind kind,
                         unsigned (*kept)(const simdisk *))
{
  unsigned seen = 0;
  for (uint64_t seed = 1; seed <= 600; seed++) {
    simdisk *image = after(d, rules, (cut){.kind = kind, .seed = seed * 977});
    seen |= 1u << kept(image);
    simdisk_free(image);
  }
  return seen;
}

static unsigned kept_changes(const simdisk *d)
{
  return (unsigned)(simdisk_find(d, "new") >= 0) |
         (unsigned)(simdisk_find(d, "old") < 0) << 1 |
         (unsigned)(byte_at(d, "f", 0) == 'x') << 2 |
         (unsigned)(byte_at(d, "f", 512) == 'x') << 3;
}

static unsigned kept_in_order(const simdisk *d)
{
  return (unsigned)(byte_at(d, "f-journal", 0) == 'x') |
         (unsigned)(byte_at(d, "f-journal", 512) == 'x') << 1;
}

static unsigned pieces_of_one(const simdisk *d)
{
  return (unsigned)(byte_at(d, "f", 511) == 'x') |
         (unsigned)(byte_at(d, "f", 512) == 'x') << 1 |
         (unsigned)(byte_at(d, "f", 1099) == 'x') << 2;
}

/* How long the file is, by truncates to 1024 and then to 512. */
static unsigned truncated(const simdisk *d)
{
  return (unsigned)(bytes_of(d, "f") / 512);
}

/* What is pending is kept in any combination, but for what has an order. */
static void test_any_subset(void **state)
{
  (void)state;
  unsigned char x[1536], o[1536];
  memset(x, 'x', sizeof x);
  memset(o, 'o', sizeof o);
  simdisk *d = simdisk_new();
  unsigned f = simdisk_create(d, "f"), j = simdisk_create(d, "f-journal");
  simdisk_create(d, "old");
  simdisk_write(d, f, o, sizeof o, 0);
  simdisk_write(d, j, o, sizeof o, 0);
  simdisk_record(d);
  simdisk_create(d, "new");
  simdisk_delete(d, "old");
  simdisk_write(d, f, x, 512, 0);
  simdisk_write(d, f, x, 512, 512);
  assert_int_equal(outcomes(d, 0, CUT_SUBSET, kept_changes), 0xffff);
  /* A sync of the directory, or of the file, leaves the other's undecided. */
  simdisk_sync_dir(d);
  assert_int_equal(outcomes(d, 0, CUT_SUBSET, kept_changes),
                   1u << 3 | 1u << 7 | 1u << 11 | 1u << 15);
  simdisk_sync(d, f);
  assert_int_equal(outcomes(d, 0, CUT_SUBSET, kept_changes), 1u << 15);

  /* One write, torn where sectors of the file meet. */
  simdisk_record(d);
  simdisk_write(d, f, o, sizeof o, 0);
  simdisk_sync(d, f);
  simdisk_write(d, f, x, 1000, 100);
  assert_int_equal(outcomes(d, 0, CUT_TORN_ONE, pieces_of_one), 0xff);
  simdisk_sync(d, f);

  simdisk_write(d, j, x, 512, 0);
  simdisk_write(d, j, x, 512, 512);
  assert_int_equal(outcomes(d, 0, CUT_SUBSET, kept_in_order), 15);
  assert_int_equal(
      outcomes(d, PLATTER_JOURNAL_ORDER, CUT_SUBSET, kept_in_order),
      1u << 0 | 1u << 1 | 1u << 3);
  simdisk_sync(d, j);

  simdisk_truncate(d, f, 1024);
  simdisk_truncate(d, f, 512);
  assert_int_equal(outcomes(d, 0, CUT_SUBSET, truncated),
                   1u << 3 | 1u << 2 | 1u << 1);
  simdisk_free(d);
}

/* What stands in the sector between the file's end and a write that was kept. */
static unsigned gap(const simdisk *d)
{
  static const unsigned char zeroes[512];
  size_t n;
  const unsigned char *p = simdisk_bytes(d, 0, &n);
  if (n <= 1024)
    return n > 512 ? 4 : 3; /* longer by a write that was lost */
  return memcmp(p + 512, zeroes, 512) == 0 ? 0
         : p[512] == 'o' && p[1023] == 'o' ? 1
                                           : 2;
}

/* Where nobody wrote there are zeroes, a stale piece, or anything; and a lost write
** may leave the file longer. */
static void test_garbage(void **state)
{
  (void)state;
  unsigned char o[512];
  memset(o, 'o', sizeof o);
  simdisk *d = simdisk_new();
  unsigned f = simdisk_create(d, "f");
  simdisk_write(d, f, o, sizeof o, 0);
  simdisk_record(d);
  simdisk_write(d, f, o, sizeof o, 1024);
  assert_int_equal(outcomes(d, 0, CUT_ALL, gap), 7);
  simdisk_record(d);
  simdisk_truncate(d, f, 512);
  simdisk_sync(d, f);
  simdisk_write(d, f, o, sizeof o, 512);
  assert_int_equal(outcomes(d, 0, CUT_TORN, gap), 1u << 3 | 1u << 4);
  simdisk_free(d);
}

/* ------------------------------------------------------------ the recorder */

static void store_past(int fd, const char *path)
{
  (void)path;
  char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(p != MAP_FAILED);
  p[7] = 1;
  munmap(p, 4096);
}

static void write_past(int fd, const char *path)
{
  (void)path;
  assert_int_equal(syscall(SYS_pwrite64, fd, "past", 4, 100), 4);
}

static void rename_past(int fd, const char *path)
{
  char other[700];
  (void)fd;
  snprintf(other, sizeof other, "%s2", path);
  assert_int_equal(rename(path, other), 0);
}

static void nothing_past(int fd, const char *path)
{
  (void)fd;
  (void)path;
}

/* A file is written, changed by `past`, synced, and written as it was. */
static int is_missed(void (*past)(int, const char *))
{
  char path[600], page[4096] = {0};
  simdisk *d = simdisk_new();
  simdisk_record(d);
  file_path(real_files_begin(d), 0, path, sizeof path);
  int fd = open(path, O_RDWR | O_CREAT, 0644);
  assert_true(fd >= 0);
  assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
  past(fd, path);
  assert_int_equal(fsync(fd), 0);
  assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
  close(fd);
  real_files_end();
  simdisk_free(d);
  return trace_missed() != NULL;
}

/* What the recorder does not see, no cut can lose: it notices. */
static void test_recorder(void **state)
{
  (void)state;
  char path[600];
  assert_false(is_missed(nothing_past));
  assert_true(is_missed(write_past));
  assert_true(is_missed(store_past));
  assert_true(is_missed(rename_past));

  /* An open can change a file. */
  simdisk *d = simdisk_new();
  simdisk_write(d, simdisk_create(d, file_names[0]), "content", 7, 0);
  simdisk_record(d);
  file_path(real_files_begin(d), 0, path, sizeof path);
  close(open(path, O_RDWR | O_TRUNC));
  real_files_end();
  assert_null(trace_missed());
  assert_int_equal(bytes_of(d, file_names[0]), 0);
  simdisk_free(d);
}

/* --------------------------------------------------------------- workloads */

static tally all; /* of this program */

static void survives(const char *line, const effort *how)
{
  spec s;
  tally t = {0};
  if (!spec_parse(line, &s))
    fail_msg("%s means nothing", line);
  torture_run(&s, how, 0, &t);
  tally_add(&all, &t);
  if (t.failures > 0)
    fail_msg("%s: %s", line, t.first);
}

/* Every cut point of small workloads. */
static void test_every_cut(void **state)
{
  (void)state;
  const effort how = {
      .cuts = scaled(5) < 5 ? 20 : 0, .singles = 3, .random = 1, .again = 10};
  survives("basic/delete/full/4096/new/strict", &how);
  survives("basic/truncate/full/4096/stamped", &how);
  survives("basic/persist/full/512/plain32", &how);
  survives("basic/wal/full/4096/new/two/direct", &how);
  survives("blob/delete/full/4096/stamped/roomy/direct", &how);
  survives("basic/wal/normal/4096/stamped", &how);
  survives("stamp/delete/extra/4096/plain32", &how);
  survives("replace/delete/full/4096/stamped", &how);
  survives("replace/truncate/normal/1024/plain32/direct", &how);
}

/* Pages that are written while their transaction goes on. In which order depends
** on the threads. */
static void test_behind(void **state)
{
  (void)state;
  const effort how = {
      .cuts = scaled(30), .singles = 3, .random = 2, .again = 10};
  uint64_t before = atomic_load(&pagedb_globals.count.flushes_behind);
  survives("txn/delete/full/4096/stamped/direct/behind", &how);
  survives("txn/truncate/full/1024/plain/direct/behind/small", &how);
  survives("blob/persist/full/4096/stamped/direct/behind", &how);
  survives("basic/delete/full/4096/plain32/direct/behind/exclusive", &how);
  survives("replace/delete/full/4096/stamped/direct/behind", &how);
  survives("mix/delete/full/4096/stamped/steps=25/direct/behind", &how);
  assert_true(atomic_load(&pagedb_globals.count.flushes_behind) > before + 20);
}

/* A few cut points of each script in each journal mode. */
static void test_some_cuts(void **state)
{
  (void)state;
  static const char *const scripts[] = {
      "blob",  "txn",    "vacuum",  "attach",       "ckpt",
      "modes", "reopen", "replace", "mix/steps=12", "mix/steps=30"};
  static const char *const starts[] = {"new", "stamped", "plain", "plain32"};
  const effort how = {.cuts = scaled(8), .singles = 2, .random = 1, .again = 6};
  uint64_t seed = test_seed("power cuts", 17);
  unsigned turn = 0;
  for (unsigned i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
    for (int j = 0; j < JOURNALS; j++, turn++) {
      char line[200], script[20];
      const char *rest = strchr(scripts[i], '/');
      snprintf(script, sizeof script, "%s", scripts[i]);
      if (rest != NULL)
        script[rest - scripts[i]] = 0;
      snprintf(line, sizeof line, "%s/%s/%s/%d/%s%s%s%s/seed=%u", script,
               journal_names[j], sync_names[turn % 2],
               turn % 5 == 0 ? 512 : 4096, starts[turn % 4],
               rest == NULL ? "" : rest, turn % 3 == 0 ? "/vacuums" : "",
               (turn / 2) % 2 == 0 ? "/direct" : "",
               (unsigned)random_below(&seed, 1000000));
      survives(line, &how);
    }
  print_message("%u workloads, %u cut points, %u images\n", (unsigned)all.runs,
                (unsigned)all.cuts, (unsigned)all.examined);
}

/* ---------------------------------------------------------------- controls */

static void must_fail(const char *line, unsigned rules_off, int lies)
{
  const effort how = {.singles = 4, .random = 2, .again = 2, .lies = lies};
  spec s;
  tally t = {0};
  assert_true(spec_parse(line, &s));
  pagedb_globals.rules_off = rules_off;
  torture_run(&s, &how, 1, &t);
  pagedb_globals.rules_off = 0;
  if (t.failures == 0)
    fail_msg("%s survives, rules off %u, lies %d", line, rules_off, lies);
}

static void test_control_lying_disk(void **state)
{
  (void)state;
  must_fail("basic/delete/full/4096/new", 0, 1);
  must_fail("basic/wal/full/4096/new", 0, 1);
  must_fail("ckpt/wal/normal/4096/stamped", 0, 1);
}

/* What EXTRA promises FULL does not keep: the last journal may come back. */
static void test_control_extra(void **state)
{
  (void)state;
  static world w;
  const effort how = {.singles = 4, .random = 2};
  spec s;
  tally full = {0}, extra = {0};
  assert_true(spec_parse("basic/delete/full/4096/new", &s));
  if (!world_run(&w, &s))
    fail_msg("%s", w.failure);
  torture_cuts(&w, &how, 1, &full);
  assert_int_equal(full.failures, 0);
  w.spec.sync = SYNC_EXTRA;
  torture_cuts(&w, &how, 1, &extra);
  assert_true(extra.failures > 0);
  world_free(&w);
}

static void test_control_rules(void **state)
{
  (void)state;
  must_fail("blob/delete/full/4096/new/roomy", RULE_HOLES, 0);
  must_fail("blob/delete/full/4096/stamped", RULE_LEAVES, 0);
  must_fail("stamp/truncate/full/4096/plain32", RULE_STAMPS, 0);
  must_fail("vacuum/delete/full/4096/plain32", RULE_GUARD, 0);
  must_fail("replace/delete/full/4096/stamped", RULE_GUARD, 0);
  must_fail("stamp/delete/full/4096/plain32", RULE_JOURNAL, 0);
  must_fail("basic/delete/full/4096/new/two", RULE_COMPARE, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_disk),
      cmocka_unit_test(test_any_subset),
      cmocka_unit_test(test_garbage),
      cmocka_unit_test(test_recorder),
      cmocka_unit_test(test_every_cut),
      cmocka_unit_test(test_behind),
      cmocka_unit_test(test_some_cuts),
      cmocka_unit_test(test_control_lying_disk),
      cmocka_unit_test(test_control_extra),
      cmocka_unit_test(test_control_rules),
  };
  torture_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
