/*
** fuzz_file.h - a hostile database from a fuzzer's input, and beside it what its
** options ask for: a byte of options, a byte with the length of the database in
** pieces of 512 bytes, the database, the rest.
*/
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum {
  FILE_STAMP = 1,      /* 32 reserved bytes, the guard, stamps on all pages */
  FILE_LOG = 2,        /* the rest is a log: its checksums are made right */
  FILE_JOURNAL = 4,    /* the rest is a journal */
  FILE_RAW_HEADER = 64 /* fuzz_database: the log's header stays as it is */
};

typedef struct fuzz_file {
  uint8_t *p; /* malloc'd: the database, and behind it the rest */
  size_t bytes;
  uint8_t *rest;
  size_t nrest;
} fuzz_file;

/* n >= 2. */
fuzz_file file_make(const uint8_t *data, size_t n);
/* A database that got its stamps here as SQLite sees it through page-db: a damaged
** cell may reach into the tails of pages. */
void file_strip(uint8_t *p, size_t n);
/* A real file: all content by stock SQLite as one number, nothing changed but what
** a recovery changes; 0: all of it could be read, and integrity_check says ok. */
int file_content(const char *path, uint64_t *sum);
/* A real file: a small database that stock SQLite made. */
void file_small_database(const char *path);

#endif
