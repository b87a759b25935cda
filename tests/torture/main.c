/*
** main.c - the long run: random workloads until the time is up, or one image
** again.
**
**   torture [--time=10m] [--seed=N]
**   torture --spec=SPEC [--exhaustive] [--cut=N --image=K,N,SEED [--dump=DIR]] [--lies]
**           [--rules-off=N]
**   torture --play=PLAY [--exhaustive] [--lies]
**   torture --log=FILE [--cut=N --image=K,N,SEED [--dump=DIR]] [--lies]
*/
#define SQLITE_CORE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../vfs/vfs_int.h"
#include "../util.h"
#include "recorded.h"
#include "torture.h"

typedef struct options {
  double seconds;
  uint64_t seed;
  const char *spec, *play, *log;
  int exhaustive, lies, stock;
  size_t cut;
  const char *image, *dump;
} options;

/* 90, 20s, 10m, 2h; 0 if it is none of these. */
static double seconds_of(const char *s)
{
  char *end;
  double n = strtod(s, &end);
  double unit = *end == 'm' ? 60 : *end == 'h' ? 3600 : 1;
  if (end != s && *end != '\0' && strchr("smh", *end) != NULL)
    end++;
  return end != s && *end == '\0' ? n * unit : 0;
}

static double now(void)
{
  return (double)os_monotonic_ns() / 1e9;
}

static int read_options(int argc, char **argv, options *o)
{
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i], *v = strchr(a, '=');
    v = v == NULL ? "" : v + 1;
    if (strncmp(a, "--time=", 7) == 0) {
      o->seconds = seconds_of(v);
      if (!(o->seconds > 0)) /* a run of nothing finds no failure */
        return 0;
    } else if (strncmp(a, "--seed=", 7) == 0)
      o->seed = strtoull(v, NULL, 0);
    else if (strncmp(a, "--spec=", 7) == 0)
      o->spec = v;
    else if (strncmp(a, "--play=", 7) == 0)
      o->play = v;
    else if (strncmp(a, "--log=", 6) == 0)
      o->log = v;
    else if (strncmp(a, "--cut=", 6) == 0)
      o->cut = strtoull(v, NULL, 0);
    else if (strncmp(a, "--image=", 8) == 0)
      o->image = v;
    else if (strncmp(a, "--dump=", 7) == 0)
      o->dump = v;
    else if (strncmp(a, "--rules-off=", 12) == 0)
      pagedb_globals.rules_off = (unsigned)strtoul(v, NULL, 0);
    else if (strcmp(a, "--exhaustive") == 0)
      o->exhaustive = 1;
    else if (strcmp(a, "--lies") == 0)
      o->lies = 1;
    else if (strcmp(a, "--stock") == 0)
      o->stock = 1;
    else
      return 0;
  }
  return 1;
}

static void summary(const tally *t, double seconds)
{
  printf("%llu workloads, %llu cut points, %llu images made, %llu different, "
         "%llu examined with cuts of recoveries, %llu failures, %.0f s\n",
         (unsigned long long)t->runs, (unsigned long long)t->cuts,
         (unsigned long long)t->images, (unsigned long long)t->distinct,
         (unsigned long long)t->examined, (unsigned long long)t->failures,
         seconds);
  if (t->fooled > 0)
    printf("%llu images left out, in which a log's checksum fools SQLite\n",
           (unsigned long long)t->fooled);
}

/* Every eighth is one of other processes. */
static void long_run(const options *o, const effort *how, tally *t)
{
  uint64_t seed = o->seed;
  double start = now(), shown = start;
  while (now() - start < o->seconds) {
    if (t->runs % 8 == 7 && !o->stock) {
      play p = play_random(&seed);
      play_run(&p, how, 10, 0, t);
    } else {
      spec s = spec_random(&seed);
      s.stock = o->stock;
      torture_run(&s, how, 0, t);
    }
    if (isatty(1) && now() - shown > 1) {
      shown = now();
      printf("\r%.0f s: %llu workloads, %llu images, %llu failures ",
             shown - start, (unsigned long long)t->runs,
             (unsigned long long)t->distinct, (unsigned long long)t->failures);
      fflush(stdout);
    }
  }
  if (isatty(1))
    printf("\n");
}

static int repeat_log(const options *o)
{
  static world w;
  int good = play_from_log(&w, o->log);
  if (!good)
    fprintf(stderr, "%s\n", w.failure);
  good = good && torture_one_cut(&w, o->lies, o->cut, o->image, o->dump);
  world_free(&w);
  return good;
}

int main(int argc, char **argv)
{
  options o = {.seconds = 60, .image = "0,0,0", .seed = (uint64_t)time(NULL)};
  effort how = {.cuts = 150, .singles = 3, .random = 2, .again = 10};
  tally t = {0};
  spec s;
  play p;
  int player = play_player(argc, argv);
  if (player >= 0)
    return player;
  torture_start();
  if (!read_options(argc, argv, &o) ||
      (o.spec != NULL && !spec_parse(o.spec, &s)) ||
      (o.play != NULL && !play_parse(o.play, &p))) {
    fprintf(stderr, "usage: torture [--time=10m] [--seed=N] | --spec=SPEC | "
                    "--play=PLAY | --log=FILE "
                    "[--exhaustive] [--cut=N --image=K,N,SEED [--dump=DIR]] "
                    "[--lies] [--stock] "
                    "[--rules-off=N]\n");
    return 2;
  }
  how.lies = o.lies;
  if (o.exhaustive)
    how = (effort){.singles = 100, .random = 8, .again = 5, .lies = o.lies};
  double start = now();
  if (o.spec != NULL && o.cut > 0)
    return !torture_repeat(&s, o.lies, o.cut, o.image, o.dump);
  if (o.log != NULL)
    return !repeat_log(&o);
  if (o.play != NULL) {
    play_run(&p, &how, o.exhaustive ? 0 : 10, 0, &t);
  } else if (o.spec != NULL) {
    torture_run(&s, &how, 0, &t);
  } else {
    printf("SEED=%llu\n", (unsigned long long)o.seed);
    fflush(stdout);
    long_run(&o, &how, &t);
  }
  summary(&t, now() - start);
  return t.failures > 0;
}
