/*
** spec.c - see spec.h.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util.h"
#include "spec.h"

static const char *const script_names[SCRIPTS] = {
    "basic", "blob",  "txn",    "vacuum",  "attach", "ckpt",
    "modes", "stamp", "reopen", "replace", "mix"};
const char *const journal_names[JOURNALS] = {"delete", "truncate", "persist",
                                             "memory", "off",      "wal"};
const char *const sync_names[SYNCS] = {"normal", "full", "extra"};
static const char *const start_names[STARTS] = {"new", "stamped", "plain",
                                                "plain32"};

/* Options that are there or not, and their place in a spec. */
static const struct {
  const char *name;
  size_t at;
} switches[] = {
    {"two", offsetof(spec, two)},
    {"exclusive", offsetof(spec, exclusive)},
    {"strict", offsetof(spec, strict)},
    {"vacuums", offsetof(spec, vacuums)},
    {"small", offsetof(spec, small)},
    {"roomy", offsetof(spec, roomy)},
    {"stock", offsetof(spec, stock)},
    {"direct", offsetof(spec, direct)},
    {"behind", offsetof(spec, behind)},
};
enum { SWITCHES = sizeof switches / sizeof switches[0] };

static int *switch_of(const spec *s, size_t i)
{
  return (int *)((char *)(uintptr_t)s + switches[i].at);
}

static int find(const char *word, const char *const *names, int n)
{
  for (int i = 0; i < n; i++)
    if (strcmp(word, names[i]) == 0)
      return i;
  return -1;
}

static int option(spec *s, const char *word)
{
  if (strncmp(word, "seed=", 5) == 0) {
    s->seed = strtoull(word + 5, NULL, 0);
    return 1;
  }
  if (strncmp(word, "steps=", 6) == 0) {
    s->steps = (unsigned)strtoul(word + 6, NULL, 0);
    return s->steps > 0;
  }
  for (size_t i = 0; i < SWITCHES; i++)
    if (strcmp(word, switches[i].name) == 0)
      return *switch_of(s, i) = 1;
  return 0;
}

int spec_parse(const char *line, spec *s)
{
  char copy[300];
  *s = (spec){.seed = 1, .steps = 20};
  snprintf(copy, sizeof copy, "%s", line);
  int i = 0, good = 1, v[5] = {0};
  for (char *word = strtok(copy, "/"); word != NULL && good;
       word = strtok(NULL, "/"), i++) {
    if (i == 0)
      v[i] = find(word, script_names, SCRIPTS);
    else if (i == 1)
      v[i] = find(word, journal_names, JOURNALS);
    else if (i == 2)
      v[i] = find(word, sync_names, SYNCS);
    else if (i == 3)
      v[i] = atoi(word) >= 512 ? atoi(word) : -1;
    else if (i == 4)
      v[i] = find(word, start_names, STARTS);
    else
      good = option(s, word);
    good = good && (i > 4 || v[i] >= 0);
  }
  s->script = (script)v[0];
  s->journal = (journal)v[1];
  s->sync = v[2];
  s->page_size = (unsigned)v[3];
  s->start = (start)v[4];
  return good && i >= 5;
}

const char *spec_print(const spec *s, char *buf, size_t n)
{
  size_t at =
      (size_t)snprintf(buf, n, "%s/%s/%s/%u/%s", script_names[s->script],
                       journal_names[s->journal], sync_names[s->sync],
                       s->page_size, start_names[s->start]);
  for (size_t i = 0; i < SWITCHES; i++)
    if (*switch_of(s, i))
      at += (size_t)snprintf(buf + at, n - at, "/%s", switches[i].name);
  if (s->script == SCRIPT_MIX)
    at += (size_t)snprintf(buf + at, n - at, "/steps=%u", s->steps);
  snprintf(buf + at, n - at, "/seed=%llu", (unsigned long long)s->seed);
  return buf;
}

spec spec_random(uint64_t *seed)
{
  static const unsigned sizes[] = {512, 512, 1024, 4096, 4096, 4096, 65536};
  spec s = {.script = (script)random_below(seed, SCRIPTS),
            .journal = (journal)random_below(seed, JOURNALS),
            .sync = (int)random_below(seed, SYNCS),
            .page_size = sizes[random_below(seed, 7)],
            .start = (start)random_below(seed, STARTS)};
  if (random_below(seed, 2))
    s.script = SCRIPT_MIX;
  if (random_below(seed, 3) == 0)
    s.journal = JOURNAL_WAL;
  s.two = random_below(seed, 3) == 0;
  s.exclusive = !s.two && random_below(seed, 4) == 0;
  s.strict = s.journal != JOURNAL_OFF && s.journal != JOURNAL_MEMORY &&
             random_below(seed, 2) == 0;
  s.vacuums = random_below(seed, 3) == 0;
  s.small = random_below(seed, 3) == 0;
  s.roomy = random_below(seed, 3) == 0;
  s.direct = random_below(seed, 2) == 0;
  s.behind = s.direct && random_below(seed, 2) == 0;
  s.steps = 5 + (unsigned)random_below(seed, 30);
  s.seed = random_below(seed, 1000000000);
  return s;
}
