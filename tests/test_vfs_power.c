/*
** test_vfs_power.c - power cuts on a simulated disk: the part of the torture
** test that is always run, and its controls: with a disk that lies, or a rule of
** the VFS switched off, it must find failures.
**
** tests/torture/README.md says how it works. A failure prints the line that
** repeats it.
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <string.h>

#include "../vfs/vfs_int.h"
#include "torture/cut.h"
#include "torture/torture.h"
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
      cmocka_unit_test(test_every_cut),
      cmocka_unit_test(test_behind),
      cmocka_unit_test(test_some_cuts),
      cmocka_unit_test(test_control_lying_disk),
      cmocka_unit_test(test_control_rules),
  };
  torture_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
