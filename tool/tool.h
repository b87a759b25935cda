/*
** tool.h - the parts of the `pagedb` command.
**
**   main.c    arguments, what kind of file it is, output helpers
**   look.c    info, check, pages: read the file, change nothing
**   log.c     which pages the write-ahead log holds
**   change.c  stamp, unstamp, convert: through SQLite, under its locks
*/
#ifndef TOOL_H
#define TOOL_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "../core/os.h"
#include "../core/pagedb.h"

/* Exit codes. */
enum { GOOD = 0, DAMAGED = 1, FAILED = 2, UNJUDGED = 3 };

typedef struct options {
  const char *path;
  int json;
  int quiet; /* no progress */
  int adopt; /* stamp */
  int force; /* unstamp */
} options;

typedef enum file_type { FILE_DATABASE, FILE_NATIVE } file_type;

/* What the first bytes say. */
typedef struct file_info {
  file_type type;
  uint32_t page_size;
  uint64_t bytes;
  uint64_t pages;   /* that count: by page 1, or by the length */
  uint64_t in_file; /* the length in pages; the last may be cut */
  /* databases */
  uint32_t reserve;
  int stamped;
  int broken; /* a stamped one, but its header cannot be right */
  int wal, auto_vacuum;
  uint32_t encoding, user_version, application_id, free_pages, sqlite_version;
  uint64_t lsn; /* of page 1 */
} file_info;

/* A signal came, and somebody waits for it: stop. */
extern volatile sig_atomic_t interrupted;

/* GOOD, or FAILED after saying why. */
int file_look(const options *o, file_info *info);

int cmd_info(const options *o);
int cmd_check(const options *o);
int cmd_pages(const options *o);
int cmd_stamp(const options *o);
int cmd_unstamp(const options *o);
int cmd_convert(const options *o);

/* "pagedb: PATH: text" on stderr, as JSON with --json; returns FAILED. */
int complain(const options *o, const char *format, ...);
/* A line that is overwritten; nothing when stderr is no terminal. */
void progress(const options *o, const char *what, uint64_t done, uint64_t all);
void progress_end(const options *o);
/* s as a JSON string, quotes included; bytes that are no UTF-8 become U+FFFD. */
void json_string(FILE *f, const char *s);
/* s for a terminal: control characters and what is no UTF-8 as \xNN. */
void plain_text(FILE *f, const char *s);

/* What the write-ahead log of a database has. */
typedef struct log_sum {
  uint64_t also; /* pages that the file has, too, of the same age or older */
  uint64_t only; /* pages that are nowhere else */
} log_sum;

typedef enum log_state {
  LOG_NOT,  /* not in the log */
  LOG_COPY, /* there, and written back, or nobody can tell */
  LOG_NEWER /* there, and read from there: the file's is not judged */
} log_state;

typedef struct wal_log {
  log_sum sum;
  uint8_t *copy, *newer; /* a bit for each page */
  uint64_t limit;        /* ids below it are in them */
} wal_log;

/* All zero if there is no log. log_free gives back what log_read got. */
void log_read(const options *o, const file_info *info, wal_log *log);
void log_free(wal_log *log);
log_state log_has(const wal_log *log, uint64_t id);

/* The file next to the database: SQLite puts it next to the file itself, not to
** a link. NULL: there is none. */
os_file *open_beside(const options *o, const char *suffix);
/* Whether a journal lies there that is not done with: it is not empty, and does not
** begin with zeroes. */
int has_journal(const options *o);
/* Whether all n bytes are there. */
int read_at(os_file *f, void *buf, size_t n, uint64_t off);

/* All pages of a file verified, deep. The caller owns *bad. */
typedef struct bad_page {
  uint64_t id;
  uint64_t count; /* more than 1: this and its successors are not in the file */
  int err;
  uint64_t found, expected;
  log_state log;
} bad_page;

typedef struct verdict {
  uint64_t pages, verified, newest_lsn;
  bad_page *bad;
  size_t nbad, room;
  uint64_t walked;  /* ids below it were looked at */
  uint64_t claimed; /* pages by a page 1 that is not sound and counts more than
                    ** the file has; else 0 */
  log_sum log;
  uint64_t in_log; /* bad ones */
  /* A journal is there: whoever opens the database next may write or cut off what
  ** is bad, so it is not judged. */
  int journal;
  uint64_t blank; /* native files: ids that were handed out, never written */
  int direct;
} verdict;

int verify_file(const options *o, const file_info *info, verdict *v);

#endif
