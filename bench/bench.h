/*
** bench.h - what the benchmarks share: lines that take turns, and a table.
*/
#ifndef PAGEDB_BENCH_H
#define PAGEDB_BENCH_H

enum { BENCH_ROUNDS = 15 };

/* A line of the table: runs n operations and returns. */
typedef struct bench_line {
  const char *name;
  void (*run)(void *arg, unsigned n);
  void *arg;
  unsigned n;
  double ns[BENCH_ROUNDS];
} bench_line;

#define BENCH_COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* End the program with the thread's fault unless err is PAGEDB_OK. */
void bench_must(int err);
/* A line about the machine; the table's head. */
void bench_machine(void);
void bench_table(void);
/* Run the lines of a group in turn, and print least, median and greatest of
** each. A round before the first warms up. */
void bench_group(const char *title, bench_line *l, int lines);

#endif
