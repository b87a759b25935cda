/*
** bench.c - see bench.h.
*/
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "os.h"
#include "pagedb.h"

void bench_must(int err)
{
  char message[512];
  if (err == PAGEDB_OK)
    return;
  fprintf(stderr, "bench: %s\n",
          pagedb_fault_message(pagedb_last_fault(), message, sizeof message));
  exit(1);
}

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void print_line(bench_line *l)
{
  qsort(l->ns, BENCH_ROUNDS, sizeof l->ns[0], by_value);
  printf("| %-46s | %9.1f | %9.1f | %9.1f |\n", l->name, l->ns[0],
         l->ns[BENCH_ROUNDS / 2], l->ns[BENCH_ROUNDS - 1]);
  fflush(stdout);
}

void bench_group(const char *title, bench_line *l, int lines)
{
  for (int round = -1; round < BENCH_ROUNDS; round++)
    for (int i = 0; i < lines; i++) {
      uint64_t start = os_monotonic_ns();
      l[i].run(l[i].arg, l[i].n);
      uint64_t took = os_monotonic_ns() - start;
      if (round >= 0)
        l[i].ns[round] = (double)took / l[i].n;
    }
  printf("| **%s** | | | |\n", title);
  for (int i = 0; i < lines; i++)
    print_line(&l[i]);
}

void bench_machine(void)
{
  char text[128] = "unknown processor";
  struct utsname u;
  FILE *f = fopen("/proc/cpuinfo", "r");
  while (f != NULL && fgets(text, sizeof text, f) != NULL)
    if (strncmp(text, "model name", 10) == 0)
      break;
  if (f != NULL)
    fclose(f);
  text[strcspn(text, "\n")] = 0;
  char *colon = strchr(text, ':');
  uname(&u);
  printf("%s, %ld cores, %s %s, CRC path %s\n\n",
         colon != NULL ? colon + 2 : text, sysconf(_SC_NPROCESSORS_ONLN),
         u.sysname, u.release, pagedb_crc32c_path());
}

void bench_table(void)
{
  printf("| ns per operation | min | median | max |\n|---|---|---|---|\n");
}
