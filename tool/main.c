/*
** main.c - the `pagedb` command: looks after files that page-db wrote.
*/
#define _DEFAULT_SOURCE
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/endian.h"
#include "../core/guard.h"
#include "../core/os.h"
#include "tool.h"

volatile sig_atomic_t interrupted;

static const char usage[] =
    "usage: pagedb COMMAND [OPTIONS] FILE\n"
    "\n"
    "FILE is an SQLite database, or a native page file.\n"
    "\n"
    "  info      what kind of file it is\n"
    "  check     verify every page; which table or index a bad one belongs to\n"
    "  pages     one line for every page\n"
    "  stamp     give a database with 32 reserved bytes its stamps (--adopt:\n"
    "            accept pages that were written without page-db)\n"
    "  unstamp   let any SQLite write the database again (--force: even if\n"
    "            pages are damaged, which nobody will notice then)\n"
    "  convert   make a plain database a stamped one\n"
    "  version   the version of this command\n"
    "\n"
    "  --json    for programs\n"
    "  --quiet   no progress\n"
    "  --        what follows is a name, also if it begins with -\n"
    "\n"
    "exit code: 0 good, 1 damage found, 2 could not run, 3 bad pages beside a\n"
    "journal: open the database once, and check it again\n";

/* ------------------------------------------------------------------- output */

/* Bytes of the UTF-8 character at s, and its number; 0: it is none. */
static int utf8_at(const char *s, uint32_t *number)
{
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned char first = (unsigned char)*s;
  int n = first < 0x80             ? 1
          : (first & 0xe0) == 0xc0 ? 2
          : (first & 0xf0) == 0xe0 ? 3
          : (first & 0xf8) == 0xf0 ? 4
                                   : 0;
  *number = n == 1 ? first : first & (0x7fu >> n);
  for (int i = 1; i < n; i++) {
    if (((unsigned char)s[i] & 0xc0) != 0x80)
      return 0;
    *number = *number << 6 | ((unsigned char)s[i] & 0x3f);
  }
  if (*number < least[n] || *number > 0x10ffff ||
      (*number >= 0xd800 && *number < 0xe000))
    return 0;
  return n;
}

void json_string(FILE *f, const char *s)
{
  fputc('"', f);
  while (*s != 0) {
    uint32_t ch;
    int n = utf8_at(s, &ch);
    if (n == 0)
      fputs("\\ufffd", f);
    else if (ch == '"' || ch == '\\')
      fprintf(f, "\\%c", (int)ch);
    else if (ch < 0x20)
      fprintf(f, "\\u%04x", (unsigned)ch);
    else
      fwrite(s, 1, (size_t)n, f);
    s += n > 0 ? n : 1;
  }
  fputc('"', f);
}

void plain_text(FILE *f, const char *s)
{
  while (*s != 0) {
    uint32_t ch;
    int n = utf8_at(s, &ch);
    if (n == 0 || ch < 0x20 || (ch >= 0x7f && ch < 0xa0)) {
      fprintf(f, "\\x%02x", (unsigned char)*s++);
    } else {
      fwrite(s, 1, (size_t)n, f);
      s += n;
    }
  }
}

int complain(const options *o, const char *format, ...)
{
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  progress_end(o);
  if (o->json) {
    printf("{\"file\":");
    json_string(stdout, o->path);
    printf(",\"error\":");
    json_string(stdout, text);
    printf("}\n");
  } else {
    fputs("pagedb: ", stderr);
    plain_text(stderr, o->path);
    fputs(": ", stderr);
    plain_text(stderr, text);
    fputc('\n', stderr);
  }
  return FAILED;
}

static int shows_progress(const options *o)
{
  return !o->quiet && !o->json && isatty(2);
}

void progress(const options *o, const char *what, uint64_t done, uint64_t all)
{
  static uint64_t last;
  uint64_t now = os_monotonic_ns();
  if (!shows_progress(o) || all == 0 || now - last < 100000000)
    return;
  last = now;
  fprintf(stderr, "\r%s %3d %%", what,
          (int)(done >= all ? 100 : done * 100 / all));
}

void progress_end(const options *o)
{
  if (shows_progress(o))
    fprintf(stderr, "\r                              \r");
}

/* ------------------------------------------------------------ kind of file */

static void look_at_database(const uint8_t *p, file_info *info)
{
  info->type = FILE_DATABASE;
  info->page_size = (uint32_t)p[16] << 8 | p[17];
  if (info->page_size == 1)
    info->page_size = 65536;
  info->stamped = guard_is_set(p[GUARD_AT]) && p[20] == PAGEDB_RECORD_SIZE;
  info->wal = p[19] == 2;
  info->reserve = p[20];
  info->pages = get_be32(p + 24) == get_be32(p + 92) ? get_be32(p + 28) : 0;
  info->free_pages = get_be32(p + 36);
  info->auto_vacuum = get_be32(p + 52) != 0;
  info->encoding = get_be32(p + 56);
  info->user_version = get_be32(p + 60);
  info->application_id = get_be32(p + 68);
  info->sqlite_version = get_be32(p + 96);
}

/* The page size with which page 0 of a native file verifies. */
static uint32_t native_page_size(const char *path)
{
  for (uint32_t size = 4096; size <= 1048576; size *= 2) {
    pagedb_file_options opt = {.page_size = size, .read_only = 1};
    pagedb_file *f;
    if (pagedb_file_open(path, &opt, &f) != PAGEDB_OK)
      continue;
    void *page = pagedb_file_alloc(f, 1);
    int err = page == NULL ? PAGEDB_ENOMEM : pagedb_file_read(f, 0, page, NULL);
    pagedb_file_free(page);
    pagedb_file_close(f);
    if (err == PAGEDB_OK)
      return size;
  }
  return 0;
}

/* The record of page 1, if its pages have this size. */
static int page1_record(os_file *f, uint32_t page_size, pagedb_record *r)
{
  uint8_t tail[PAGEDB_RECORD_SIZE];
  size_t got = 0;
  os_iov iov = {tail, sizeof tail};
  if (os_readv(f, &iov, 1, page_size - sizeof tail, &got) != PAGEDB_OK ||
      got != sizeof tail)
    return 0;
  pagedb_record_get(tail, sizeof tail, PAGEDB_TRAILING, r);
  return r->magic == PAGEDB_MAGIC && r->version == PAGEDB_VERSION_1 &&
         r->page == 0;
}

/*
** The first page says nothing that could be: if the record of a page 1 stands
** where pages of some size have it, this is a stamped database whose page 1 is
** damaged.
*/
static void look_for_record(os_file *f, file_info *info)
{
  pagedb_record r;
  for (uint32_t size = 512; size <= 65536; size *= 2)
    if (page1_record(f, size, &r)) {
      info->page_size = size;
      info->type = FILE_DATABASE;
      info->broken = info->stamped = 1;
      return;
    }
}

/* Page size, and whether what the header says goes together with page 1's
** record. */
static void look_at_record(os_file *f, const uint8_t *head, file_info *info)
{
  pagedb_record r;
  int has = pagedb_page_size_ok(info->page_size, PAGEDB_TRAILING) &&
            page1_record(f, info->page_size, &r);
  if (has)
    info->lsn = r.lsn;
  if (header_is_broken(head[GUARD_AT], head[20], has))
    info->broken = info->stamped = 1;
  else if (!has && (info->stamped ||
                    !pagedb_page_size_ok(info->page_size, PAGEDB_TRAILING)))
    look_for_record(f, info);
}

static int begins_as_database(const uint8_t *head)
{
  return memcmp(head, "SQLite format 3", 16) == 0;
}

static int look_open(const options *o, os_file *f, file_info *info)
{
  uint8_t head[100] = {0};
  size_t got = 0;
  os_iov iov = {head, sizeof head};
  int err = os_size(f, &info->bytes);
  if (err == PAGEDB_OK)
    err = os_readv(f, &iov, 1, 0, &got);
  if (err != PAGEDB_OK)
    return complain(o, "%s", pagedb_err_sentence(err));
  if (got == sizeof head && begins_as_database(head)) {
    look_at_database(head, info);
    look_at_record(f, head, info);
    if (!pagedb_page_size_ok(info->page_size, PAGEDB_TRAILING))
      return complain(o, "the header says page size %u, which cannot be",
                      info->page_size);
  } else {
    info->type = FILE_NATIVE;
    info->page_size = native_page_size(o->path);
    if (info->page_size == 0)
      look_for_record(f, info);
  }
  if (info->page_size == 0 && got == 0)
    return complain(o, "the file is empty");
  if (info->page_size == 0 && got < sizeof head && begins_as_database(head))
    return complain(o, "it is cut off in the header of an SQLite database");
  if (info->page_size == 0)
    return complain(o,
                    "neither an SQLite database nor a page file whose first "
                    "page is sound%s",
                    has_journal(o) ? ". There is a journal next to it: if it "
                                     "is a database, open it once, with "
                                     "page-db, and look again"
                                   : "");
  info->in_file = (info->bytes + info->page_size - 1) / info->page_size;
  if (info->pages == 0)
    info->pages = info->bytes / info->page_size;
  return GOOD;
}

int file_look(const options *o, file_info *info)
{
  os_file *f;
  *info = (file_info){0};
  if (os_open(o->path, OS_OPEN_READONLY, &f, NULL) != PAGEDB_OK)
    return complain(o, "cannot open: %s", pagedb_last_fault()->what);
  int rc = look_open(o, f, info);
  os_close(f);
  return rc;
}

/* ---------------------------------------------------------------- arguments */

static const struct {
  const char *name;
  int (*run)(const options *);
} commands[] = {{"info", cmd_info},       {"check", cmd_check},
                {"pages", cmd_pages},     {"stamp", cmd_stamp},
                {"unstamp", cmd_unstamp}, {"convert", cmd_convert}};

static int misuse(const options *o, const char *what, const char *arg)
{
  if (o->json) {
    char text[1024];
    snprintf(text, sizeof text, "%s%s", what, arg);
    printf("{\"error\":");
    json_string(stdout, text);
    printf("}\n");
  } else {
    fprintf(stderr, "pagedb: %s", what);
    plain_text(stderr, arg);
    fputs(" (pagedb --help tells more)\n", stderr);
  }
  return FAILED;
}

/* Where anything is wrong with the arguments it is said in JSON, too, if that was
** asked for anywhere. */
static int asks_for_json(int argc, char **argv)
{
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strcmp(argv[i], "--json") == 0)
      return 1;
  return 0;
}

static int parse_option(const char *arg, options *o)
{
  if (strcmp(arg, "--json") == 0)
    return o->json = 1;
  if (strcmp(arg, "--quiet") == 0)
    return o->quiet = 1;
  if (strcmp(arg, "--adopt") == 0)
    return o->adopt = 1;
  if (strcmp(arg, "--force") == 0)
    return o->force = 1;
  return 0;
}

static int print_usage(void)
{
  fputs(usage, stdout);
  return GOOD;
}

static int print_version(const options *o)
{
  printf(o->json ? "{\"version\":\"%s\"}\n" : "pagedb %s\n", pagedb_version());
  return GOOD;
}

static int run_command(const char *name, const options *o)
{
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp(name, commands[i].name) != 0)
      continue;
    if (o->path == NULL || o->path[0] == 0)
      return misuse(o, "which file?", "");
    if (o->adopt && commands[i].run != cmd_stamp)
      return misuse(o, "--adopt belongs to stamp", "");
    if (o->force && commands[i].run != cmd_unstamp)
      return misuse(o, "--force belongs to unstamp", "");
    return commands[i].run(o);
  }
  return misuse(o, "unknown command ", name);
}

static int run_arguments(int argc, char **argv, options *o)
{
  const char *command = NULL;
  int only_names = 0; /* -- was seen */
  for (int i = 1; i < argc; i++) {
    const char *arg = argv[i];
    if (!only_names && arg[0] == '-' && arg[1] != 0) {
      if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        return print_usage();
      if (strcmp(arg, "--version") == 0 || strcmp(arg, "-V") == 0)
        return print_version(o);
      only_names = strcmp(arg, "--") == 0;
      if (!only_names && !parse_option(arg, o))
        return misuse(o, "unknown option ", arg);
    } else if (command == NULL) {
      command = arg;
    } else if (o->path == NULL) {
      o->path = arg;
    } else {
      return misuse(o, "one file at a time: ", arg);
    }
  }
  if (command == NULL)
    return misuse(o, "which command?", "");
  if (strcmp(command, "help") == 0)
    return print_usage();
  if (strcmp(command, "version") == 0)
    return print_version(o);
  return run_command(command, o);
}

int main(int argc, char **argv)
{
  options o = {.json = asks_for_json(argc, argv)};
  int rc = run_arguments(argc, argv, &o);
  if (fflush(stdout) == 0 && !ferror(stdout))
    return rc;
  fputs("pagedb: the output could not be written\n", stderr);
  return FAILED;
}
