/*
** test_vfs_cut.c - power cuts of other processes' work: the command, and two
** processes that have one database open. The part that is always run, and its
** controls. tests/torture/README.md says how it works.
*/
#include <stdio.h>

#include "../vfs/vfs_int.h"
#include "torture/recorded.h"
#include "util.h"

static tally all; /* of this program */

static void survives(const char *line, unsigned cuts, unsigned again)
{
  const effort how = {
      .cuts = scaled(cuts), .singles = 2, .random = 1, .again = 10};
  play p;
  tally t = {0};
  if (!play_parse(line, &p))
    fail_msg("%s means nothing", line);
  play_run(&p, &how, again, 0, &t);
  tally_add(&all, &t);
  if (t.failures > 0)
    fail_msg("%s: %s", line, t.first);
}

/* The database is plain or stamped at every moment, and has its content. */
static void test_command(void **state)
{
  (void)state;
  survives("convert/delete/4096/plain", 30, 2);
  survives("convert/wal/4096/plain/live", 30, 2);
  survives("convert/delete/512/plain32/live", 20, 1);
  survives("stamp/wal/4096/plain32", 20, 1);
  survives("unstamp/delete/1024/stamped", 20, 1);
  survives("adopt/delete/4096/around", 20, 2);
}

/* What either of them acknowledged is there. */
static void test_two_processes(void **state)
{
  (void)state;
  survives("writers/delete/4096/stamped", 25, 0);
  survives("writers/wal/1024/stamped", 25, 0);
  survives("writers/wal/4096/plain/stock", 20, 0);
  survives("checkpoint/wal/4096/stamped", 25, 0);
  survives("writers/wal/4096/stamped/normal/strict", 20, 0);
  survives("writers/delete/1024/stamped/extra/strict", 20, 0);
  survives("writers/delete/4096/stamped/normal", 15, 0);
}

/* A process is killed; while its heir recovers, and after, the power is cut. */
static void test_killed(void **state)
{
  (void)state;
  uint64_t seed = test_seed("kill and cut", 5);
  static const char *const lines[] = {
      "killed/delete/4096/stamped", "killed/wal/4096/stamped",
      "killed/delete/1024/plain/stock", "killed/wal/1024/stamped/normal",
      "killed/delete/512/stamped/extra/strict"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    char line[120];
    snprintf(line, sizeof line, "%s/seed=%u", lines[i],
             (unsigned)random_below(&seed, 1000000) + 1);
    survives(line, 20, 0);
  }
  print_message("%u plays, %u cut points, %u images\n", (unsigned)all.runs,
                (unsigned)all.cuts, (unsigned)all.examined);
}

static void must_fail(const char *line, int lies)
{
  const effort how = {.singles = 4, .random = 2, .lies = lies};
  play p;
  tally t = {0};
  assert_true(play_parse(line, &p));
  play_run(&p, &how, 1, 1, &t);
  if (t.failures == 0)
    fail_msg("%s survives, lies %d", line, lies);
}

/* With a disk whose syncs do nothing, or a rule of the VFS switched off. The
** sanitizers see some of it. */
static void test_controls(void **state)
{
  (void)state;
  char line[100];
  must_fail("convert/wal/4096/plain", 1);
  must_fail("writers/wal/4096/stamped", 1);
  must_fail("killed/delete/4096/stamped", 1);
  /* What a weaker synchronous loses is seen. */
  must_fail("writers/wal/4096/stamped/normal/boast", 0);
  must_fail("writers/delete/4096/stamped/full/boast", 0);
  if (scaled(5) < 5)
    return;
  must_fail("convert/delete/4096/plain", 1);
  must_fail("unstamp/delete/4096/stamped", 1);
  must_fail("writers/delete/4096/stamped", 1);
  must_fail("checkpoint/wal/4096/stamped", 1);
  must_fail("killed/wal/4096/stamped", 1);
  must_fail("killed/wal/4096/stamped/normal/boast", 0);
  must_fail("killed/delete/4096/stamped/full/boast", 0);
  snprintf(line, sizeof line, "convert/wal/4096/plain/rules-off=%d",
           RULE_STAMPS);
  must_fail(line, 0);
  snprintf(line, sizeof line, "convert/delete/4096/plain32/rules-off=%d",
           RULE_GUARD);
  must_fail(line, 0);
}

int main(int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_command),
      cmocka_unit_test(test_two_processes),
      cmocka_unit_test(test_killed),
      cmocka_unit_test(test_controls),
  };
  int player = play_player(argc, argv);
  if (player >= 0)
    return player;
  torture_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
