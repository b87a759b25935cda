/*
** fuzz_tool.c - libFuzzer: the command `pagedb` on a hostile file, with hostile
** arguments.
**
** Input as that of fuzz_database: a byte of options, a byte with the length of the
** database in pieces of 512 bytes, the database, the rest.
**   1        the database gets stamps        2, 4  the rest is a log, a journal
**   8 .. 32  which command                   64    --json
**   128      --adopt, --force where they belong
** Without a database the rest is the arguments, each ended by a zero byte; FILE
** stands for a small database. No argument leaves the directory: / becomes _.
**
** What must be true: info, check and pages change nothing; whatever the others do
** to a database whose integrity_check said ok, stock SQLite finds the content that
** it found before.
**
** Files are real, in a directory of this process below TMPDIR. The command's own
** output goes nowhere, and so does a sanitizer's, unless PAGEDB_FUZZ_LOUD is set.
*/
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz_file.h"

int tool_main(int argc, char **argv);

enum { ADOPT = 128, JSON = 64, ARGS = 8 };

static const char *const commands[] = {"info",    "check",   "pages", "stamp",
                                       "unstamp", "convert", "check", "info"};

static int nowhere, loud_out, loud_err;

static void leave(void)
{
  char dir[400];
  if (getcwd(dir, sizeof dir) != NULL && chdir("..") == 0)
    rmdir(dir);
}

static void start(void)
{
  static int started;
  char dir[300];
  const char *tmp = getenv("TMPDIR");
  if (started)
    return;
  started = 1;
  snprintf(dir, sizeof dir, "%s/fuzz_tool.XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(dir) == NULL || chdir(dir) != 0)
    abort();
  atexit(leave);
  setenv("PAGEDB_POOL_SIZE", "1MiB", 1);
  loud_out = dup(1);
  loud_err = dup(2);
  nowhere = open("/dev/null", O_WRONLY);
}

static void quiet(int on)
{
  if (getenv("PAGEDB_FUZZ_LOUD") != NULL)
    return;
  fflush(stdout);
  dup2(on ? nowhere : loud_out, 1);
  dup2(on ? nowhere : loud_err, 2);
}

static int command(int argc, char **argv)
{
  quiet(1);
  int rc = tool_main(argc, argv);
  quiet(0);
  return rc;
}

static void put(const char *name, const void *p, size_t n)
{
  FILE *f = fopen(name, "wb");
  if (f == NULL || fwrite(p, 1, n, f) != n || fclose(f) != 0)
    abort();
}

static void clear(void)
{
  static const char *const names[] = {"f.db",
                                      "f.db-wal",
                                      "f.db-shm",
                                      "f.db-journal",
                                      "f.db.pagedb-convert",
                                      "f.db.pagedb-convert-journal"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    unlink(names[i]);
}

static int is_same(const uint8_t *p, size_t n)
{
  FILE *f = fopen("f.db", "rb");
  uint8_t *now = malloc(n + 1);
  size_t got = f != NULL ? fread(now, 1, n + 1, f) : 0;
  int same = got == n && memcmp(now, p, n) == 0;
  if (f != NULL)
    fclose(f);
  free(now);
  return same;
}

static void with_arguments(uint8_t *p, size_t n)
{
  char *argv[ARGS + 2] = {(char *)(uintptr_t) "pagedb"};
  char *text = malloc(n + 1);
  int argc = 1;
  memcpy(text, p, n);
  text[n] = 0;
  for (size_t i = 0; i < n; i++)
    if (text[i] == '/')
      text[i] = '_';
  for (size_t at = 0; at < n && argc < ARGS; at += strlen(text + at) + 1)
    argv[argc++] =
        strcmp(text + at, "FILE") == 0 ? (char *)(uintptr_t) "f.db" : text + at;
  file_small_database("f.db");
  command(argc, argv);
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
  start();
  if (n < 3)
    return 0;
  fuzz_file f = file_make(data, n);
  clear();
  if (f.bytes == 0) {
    with_arguments(f.rest, f.nrest);
  } else {
    const char *name = commands[data[0] >> 3 & 7];
    char *argv[6] = {(char *)(uintptr_t) "pagedb", (char *)(uintptr_t)name};
    int argc = 2;
    if ((data[0] & JSON) != 0)
      argv[argc++] = (char *)(uintptr_t) "--json";
    if ((data[0] & ADOPT) != 0 && strcmp(name, "stamp") == 0)
      argv[argc++] = (char *)(uintptr_t) "--adopt";
    if ((data[0] & ADOPT) != 0 && strcmp(name, "unstamp") == 0)
      argv[argc++] = (char *)(uintptr_t) "--force";
    argv[argc++] = (char *)(uintptr_t) "f.db";
    put("f.db", f.p, f.bytes);
    if (f.nrest > 0 && (data[0] & (FILE_LOG | FILE_JOURNAL)) != 0)
      put((data[0] & FILE_LOG) != 0 ? "f.db-wal" : "f.db-journal", f.rest,
          f.nrest);
    int changes = name[0] == 's' || name[0] == 'u' || name[1] == 'o';
    uint64_t before = 0, after = 0;
    int rc = changes ? file_content("f.db", &before) : 0;
    command(argc, argv);
    if (!changes && !is_same(f.p, f.bytes))
      abort();
    if (changes && rc == 0 &&
        (file_content("f.db", &after) != 0 || before != after))
      abort();
  }
  clear();
  free(f.p);
  return 0;
}
