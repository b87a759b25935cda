/*
** fuzz_database.c - libFuzzer: a hostile database, with a hostile log or journal
** beside it and hostile words in the wal-index, read and written through the VFS.
**
** Input: a byte of options, a byte with the length of the database in pieces of
** 512 bytes, the database, and the rest: a log or a journal.
**   1  the database gets 32 reserved bytes, the guard, and a stamp on every page,
**      or the fuzzer would never get past the CRC
**   2  the rest is a log, whose checksums are made right
**   4  the rest is a journal
**   8  the last 16 bytes are put into words of the wal-index that page-db reads
**  16  two connections
**  32  SQLite copies pages (no xFetch)
**  64  the log's header stays as it is
**
** What must be true: nothing is read or written that is not there (sanitizers);
** of a database that stock SQLite finds whole page-db reads the same content, or
** names a page that does not verify; at the end nothing is left open.
*/
#include <stdlib.h>
#include <string.h>

#include "../../core/endian.h"
#include "fuzz_file.h"
#include "rig.h"

enum { POKE = 8, TWO = 16, COPY = 32, POKES = 16 };

/* Words of the wal-index that page-db looks at and SQLite does not check: what was
** checkpointed, what was attempted, and page numbers. */
static void poke(sqlite3 *db, const uint8_t *words)
{
  sqlite3_file *f = NULL;
  void volatile *region = NULL;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) !=
          SQLITE_OK ||
      f->pMethods == NULL || f->pMethods->iVersion < 2 ||
      f->pMethods->xShmMap(f, 0, 32768, 0, &region) != SQLITE_OK ||
      region == NULL)
    return;
  volatile uint32_t *word = region;
  static const int places[] = {24, 32, 34, 35};
  for (int i = 0; i < 4; i++)
    if (get_le32(words + 4 * (size_t)i) != 0)
      word[places[i]] = get_le32(words + 4 * (size_t)i);
}

/* Of a damaged database SQLite may read memory that means nothing: only what its
** integrity_check calls whole has content that can be compared. */
static void compare(sqlite3 *ours, simdisk *clean)
{
  uint64_t a = 0, b = 0, verdict = 0, ok = 0;
  simdisk_use(clean);
  sqlite3 *stock = rig_open("fuzz.db", "simdisk");
  int theirs = stock == NULL ? SQLITE_CANTOPEN : rig_content(stock, &b);
  if (theirs == SQLITE_OK)
    theirs = rig_sum(stock, "PRAGMA integrity_check(1)", &verdict);
  if (theirs == SQLITE_OK)
    rig_sum(stock, "SELECT 'ok'", &ok);
  sqlite3_close(stock);
  if (theirs != SQLITE_OK || verdict != ok)
    return;
  int rc = ours == NULL ? SQLITE_CANTOPEN : rig_content(ours, &a);
  if (rc == SQLITE_OK ? a != b : rc != SQLITE_IOERR_DATA)
    abort();
}

static void use(sqlite3 *db, sqlite3 *second, const uint8_t *words)
{
  static const char *const sql[] = {
      "SELECT * FROM pagedb_pages",
      "SELECT * FROM pagedb_files, pagedb_stats",
      "PRAGMA quick_check",
      "CREATE TABLE z(a, b); INSERT INTO z VALUES(1, zeroblob(3000)), (2, 3)",
      "BEGIN; INSERT INTO z SELECT a+2, b FROM z; ROLLBACK",
      "UPDATE z SET b=zeroblob(2000)",
      "PRAGMA wal_checkpoint",
      "INSERT INTO z SELECT a+2, b FROM z",
      "PRAGMA pagedb_lsn; PRAGMA page_count; PRAGMA freelist_count",
      "DELETE FROM z; DROP TABLE z",
      "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)",
      "PRAGMA pagedb_unstamp; PRAGMA pagedb_stamp",
      "PRAGMA pagedb_stamp=adopt; PRAGMA pagedb_unstamp=force",
      "VACUUM",
      "PRAGMA integrity_check(3); SELECT * FROM pagedb_pages"};
  for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++) {
    if (words != NULL && (i == 4 || i == 6 || i == 7 || i == 10))
      poke(db, words);
    rig_run(second != NULL && i % 3 == 1 ? second : db, sql[i]);
  }
}

static simdisk *make_disk(int how, const fuzz_file *f)
{
  simdisk *d = simdisk_new();
  rig_put(d, "fuzz.db", f->p, f->bytes);
  if ((how & (FILE_LOG | FILE_JOURNAL)) != 0 && f->nrest > 0)
    rig_put(d, (how & FILE_LOG) != 0 ? "fuzz.db-wal" : "fuzz.db-journal",
            f->rest, f->nrest);
  return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
  uint64_t unused;
  rig_start();
  if (n < 2 + POKES)
    return 0;
  int how = data[0];
  fuzz_file f = file_make(data, (how & POKE) != 0 ? n - POKES : n);
  simdisk *disk = make_disk(how, &f);
  if ((how & FILE_STAMP) != 0)
    file_strip(f.p, f.bytes);
  simdisk *clean = make_disk(how, &f);
  simdisk_use(disk);
  sqlite3 *db = rig_open("fuzz.db", "pagedb");
  compare(db, clean);
  simdisk_use(disk);
  sqlite3 *second = (how & TWO) != 0 ? rig_open("fuzz.db", "pagedb") : NULL;
  if (db != NULL) {
    rig_run(db, (how & COPY) != 0 ? "PRAGMA mmap_size=0" : "SELECT 1");
    use(db, second, (how & POKE) != 0 ? data + n - POKES : NULL);
    rig_content(db, &unused);
  }
  sqlite3_close(second);
  rig_close(db);
  simdisk_free(clean);
  simdisk_free(disk);
  free(f.p);
  return 0;
}
