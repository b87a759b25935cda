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
**
** PAGEDB_FUZZ_STOCK=1 in the environment does it all without page-db: what falls then
** as well falls by SQLite. No guard keeps it from writing, and it gives its memory back
** where page-db makes it do so.
*/
#include <stdlib.h>
#include <string.h>

#include "../../core/endian.h"
#include "fuzz_file.h"
#include "rig.h"

enum { POKE = 8, TWO = 16, COPY = 32, POKES = 16 };

/* A checkpoint of which only the calls that reach page-db are made: page 1 comes,
** and counts more pages. */
static void checkpoint_page1(sqlite3_file *f)
{
  static uint8_t page[65536];
  const sqlite3_io_methods *m = f->pMethods;
  if (m->xRead(f, page, 100, 0) != SQLITE_OK)
    return;
  int size = get_be16(page + 16) == 1 ? 65536 : get_be16(page + 16);
  m->xFileControl(f, SQLITE_FCNTL_CKPT_START, NULL);
  if (size >= 512 && m->xRead(f, page, size, 0) == SQLITE_OK) {
    put_be32(page + 28, (get_be32(page + 28) & 0xff) + 5);
    memcpy(page + 92, page + 24, 4);
    m->xWrite(f, page, size, 0);
  }
  m->xFileControl(f, SQLITE_FCNTL_CKPT_DONE, NULL);
}

/* SQLite trusts the wal-index, and falls over a hostile one. page-db looks at a few
** words of it: what was checkpointed, what was attempted, salts, page numbers. So
** these are there only while its own methods are called as SQLite would. */
static void poke(sqlite3 *db, const uint8_t *words)
{
  static const int places[POKES / 4] = {24, 32, 34, 8};
  uint32_t was[POKES / 4];
  sqlite3_file *f = NULL;
  void volatile *region = NULL;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) !=
          SQLITE_OK ||
      f->pMethods == NULL || f->pMethods->iVersion < 2 ||
      f->pMethods->xShmMap(f, 0, 32768, 0, &region) != SQLITE_OK ||
      region == NULL || f->pMethods->xLock(f, SQLITE_LOCK_SHARED) != SQLITE_OK)
    return;
  volatile uint32_t *word = region;
  const int shared = SQLITE_SHM_SHARED, exclusive = SQLITE_SHM_EXCLUSIVE;
  for (int i = 0; i < POKES / 4; i++) {
    was[i] = word[places[i]];
    word[places[i]] = get_le32(words + 4 * (size_t)i);
  }
  if (f->pMethods->xShmLock(f, 4, 1, SQLITE_SHM_LOCK | shared) == SQLITE_OK) {
    f->pMethods->xShmBarrier(f);
    f->pMethods->xShmLock(f, 4, 1, SQLITE_SHM_UNLOCK | shared);
  }
  if (f->pMethods->xShmLock(f, 0, 2, SQLITE_SHM_LOCK | exclusive) ==
      SQLITE_OK) {
    checkpoint_page1(f);
    f->pMethods->xShmLock(f, 0, 2, SQLITE_SHM_UNLOCK | exclusive);
  }
  for (int i = 0; i < POKES / 4; i++)
    word[places[i]] = was[i];
  f->pMethods->xShmBarrier(f);
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
      "PRAGMA shrink_memory; PRAGMA pagedb_unstamp; PRAGMA pagedb_stamp",
      "PRAGMA pagedb_stamp=adopt; PRAGMA pagedb_unstamp=force",
      "VACUUM",
      "PRAGMA integrity_check(3); SELECT * FROM pagedb_pages"};
  for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++)
    rig_run(second != NULL && i % 3 == 1 ? second : db, sql[i]);
  /* The last thing: what is in the file after it means nothing. */
  if (words != NULL &&
      rig_run(db, "PRAGMA journal_mode=wal; PRAGMA user_version=7") ==
          SQLITE_OK)
    poke(db, words);
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
  int alone = getenv("PAGEDB_FUZZ_STOCK") != NULL;
  const char *vfs = alone ? "simdisk" : "pagedb";
  rig_start();
  if (n < 2 + POKES)
    return 0;
  int how = data[0];
  fuzz_file f = file_make(data, (how & POKE) != 0 ? n - POKES : n);
  if (alone && (how & FILE_STAMP) != 0)
    file_strip(f.p, f.bytes);
  simdisk *disk = make_disk(how, &f);
  if ((how & FILE_STAMP) != 0)
    file_strip(f.p, f.bytes);
  simdisk *clean = make_disk(how, &f);
  simdisk_use(disk);
  sqlite3 *db = rig_open("fuzz.db", vfs);
  compare(db, clean);
  simdisk_use(disk);
  sqlite3 *second = (how & TWO) != 0 ? rig_open("fuzz.db", vfs) : NULL;
  if (db != NULL) {
    rig_run(db, (how & COPY) != 0 ? "PRAGMA mmap_size=0" : "SELECT 1");
    use(db, second, (how & POKE) != 0 ? data + n - POKES : NULL);
  }
  sqlite3_close(second);
  rig_close(db);
  simdisk_free(clean);
  simdisk_free(disk);
  free(f.p);
  return 0;
}
