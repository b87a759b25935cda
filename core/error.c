/*
** error.c - names and sentences of errors, and the calling thread's latest
** fault. Owns one pagedb_fault per thread; no locks.
*/
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "pagedb.h"

static _Thread_local pagedb_fault last_fault;

struct error_text {
  const char *name;
  const char *sentence;
  int sqlite;
};

static const struct error_text texts[] = {
#define X(name, value, sqlite, sentence)                                       \
  [value] = {"PAGEDB_" #name, sentence, sqlite},
    PAGEDB_ERRORS(X)
#undef X
};

static const struct error_text unknown = {"PAGEDB_?", "unknown error", 1};

static const struct error_text *text_of(int err)
{
  if (err < 0 || (size_t)err >= sizeof texts / sizeof texts[0])
    return &unknown;
  return &texts[err];
}

const char *pagedb_version(void)
{
  return PAGEDB_VERSION;
}

const char *pagedb_err_name(int err)
{
  return text_of(err)->name;
}

const char *pagedb_err_sentence(int err)
{
  return text_of(err)->sentence;
}

int pagedb_err_sqlite(int err)
{
  return text_of(err)->sqlite;
}

const char *fault_status(int err)
{
  switch (err) {
  case PAGEDB_OK:
    return "ok";
  case PAGEDB_EUNSTAMPED:
    return "no stamp";
  case PAGEDB_EMAGIC:
    return "bad magic";
  case PAGEDB_EVERSION:
    return "bad version";
  case PAGEDB_ECRC:
    return "bad crc";
  case PAGEDB_EPAGEID:
    return "other page";
  case PAGEDB_ESHORT:
    return "short";
  default:
    return "unreadable";
  }
}

const pagedb_fault *pagedb_last_fault(void)
{
  return &last_fault;
}

/* Copy the first bytes of s, which may stand in the same place. */
static void copy(char *to, size_t n, const char *s)
{
  size_t len = strlen(s);
  if (len >= n)
    len = n - 1;
  memmove(to, s, len);
  to[len] = 0;
}

/* Copy the end of s: of a long path the last part tells the most. */
static void copy_end(char *to, size_t n, const char *s)
{
  size_t len = strlen(s);
  copy(to, n, len >= n ? s + len - (n - 1) : s);
}

int pagedb_fault_set(int err, int sys, const char *path, uint64_t page,
                     uint64_t found, uint64_t expected, const char *what)
{
  pagedb_fault *f = &last_fault;
  f->err = (pagedb_err)err;
  f->sys = sys;
  f->page = page;
  f->found = found;
  f->expected = expected;
  copy(f->what, sizeof f->what, what ? what : "");
  copy_end(f->path, sizeof f->path, path ? path : "");
  return err;
}

int fault_set_path(const char *path)
{
  copy_end(last_fault.path, sizeof last_fault.path, path);
  return last_fault.err;
}

void fault_restore(const pagedb_fault *f)
{
  last_fault = *f;
}

char *pagedb_fault_message(const pagedb_fault *f, char *buf, size_t n)
{
  char page[40] = "", values[80] = "", sys[24] = "";
  if (f->page != PAGEDB_NONE)
    snprintf(page, sizeof page, "page %llu: ", (unsigned long long)f->page);
  if (f->found != 0 || f->expected != 0)
    snprintf(values, sizeof values, ": found 0x%llx, expected 0x%llx",
             (unsigned long long)f->found, (unsigned long long)f->expected);
  if (f->sys != 0)
    snprintf(sys, sizeof sys, " (system error %d)", f->sys);
  snprintf(buf, n, "%s%s%s%s%s%s%s%s", f->path, f->path[0] ? ": " : "", page,
           pagedb_err_sentence(f->err), values, f->what[0] ? ": " : "", f->what,
           sys);
  return buf;
}
