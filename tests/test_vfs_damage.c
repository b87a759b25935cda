/*
** test_vfs_damage.c - damaged pages, failing syncs, and what stock SQLite does
** to a stamped file behind our back.
*/
#define _DEFAULT_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/pagedb.h"
#include "sqlutil.h"

enum { SIZE = 4096, AT_MAGIC = SIZE - 32, AT_VERSION = SIZE - 28 };

/* libsqlite3 finds this one first. */
static int syncs_until_failure = -1;

int fdatasync(int fd)
{
  if (syncs_until_failure >= 0 && syncs_until_failure-- == 0) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fdatasync, fd);
}

/* ------------------------------------------------------------------ damage */

static void make(const char *path, const char *journal)
{
  db_remove(path);
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA page_size=%d; PRAGMA journal_mode=%s", SIZE, journal);
  run(db, "CREATE TABLE bad(id INTEGER PRIMARY KEY, v);"
          "CREATE TABLE good(id INTEGER PRIMARY KEY, v)");
  run(db, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE "
          "n<600) INSERT INTO bad SELECT n, hex(zeroblob(50)) FROM c;"
          "INSERT INTO good SELECT * FROM bad");
  run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
  db_close(db);
}

typedef enum damage {
  BIT,
  MAGIC,
  VERSION,
  SWAPPED,
  OTHER_FILE,
  TORN,
  NO_STAMP,
  ZERO,
  KINDS
} damage;

static const char *const status[KINDS] = {
    "bad crc", "bad magic", "bad version", "other page",
    "bad crc", "bad crc",   "no stamp",    "bad magic"};

/* A leaf of table bad, and its neighbour. */
static uint64_t a_leaf(const char *path, int nth)
{
  sqlite3 *db = db_open(path, "pagedb");
  uint64_t page = (uint64_t)get_int(
      db,
      "SELECT page FROM pagedb_pages WHERE object='table bad' AND "
      "type='table leaf' ORDER BY 1 LIMIT 1 OFFSET %d",
      nth);
  db_close(db);
  return page;
}

static void harm(const char *path, const char *other, uint64_t page, damage how)
{
  static unsigned char a[SIZE], b[SIZE];
  uint64_t at = (page - 1) * SIZE;
  file_read_at(path, at, a, SIZE);
  switch (how) {
  case BIT:
    a[1000] ^= 4;
    break;
  case MAGIC:
    memset(a + AT_MAGIC, 0x11, 4);
    break;
  case VERSION:
    a[AT_VERSION] = 9;
    break;
  case SWAPPED:
    file_read_at(path, (a_leaf(path, 2) - 1) * SIZE, a, SIZE);
    break;
  case OTHER_FILE:
    /* Same place, another database: all but the content's age fits. */
    file_read_at(other, at, a, SIZE);
    a[600] ^= 1;
    break;
  case TORN:
    file_read_at(path, (a_leaf(path, 3) - 1) * SIZE, b, SIZE);
    memcpy(a, b, 1536);
    break;
  case NO_STAMP:
    memset(a + AT_MAGIC, 0, 32);
    break;
  case ZERO:
    memset(a, 0, SIZE);
    break;
  case KINDS:
    break;
  }
  file_write_at(path, at, a, SIZE);
}

static void expect_damage(const char *path, uint64_t page, damage how,
                          int fetch)
{
  char named[64];
  sqlite3 *db = db_open(path, "pagedb");
  if (!fetch)
    run(db, "PRAGMA mmap_size=0");
  for (int again = 0; again < 2; again++) {
    assert_int_equal(try_run(db, "SELECT sum(length(v)) FROM bad"),
                     SQLITE_IOERR_DATA);
    assert_int_equal(pagedb_last_fault()->sys, 0); /* the system is well */
    snprintf(named, sizeof named, "page %d:", (int)page);
    assert_non_null(strstr(first_log(), named));
    assert_non_null(strstr(first_log(), path));
    if (how == ZERO || how == NO_STAMP)
      assert_non_null(strstr(first_log(), "found 0x0, expected 0x42444750"));
    assert_int_equal(get_int(db, "SELECT count(*) FROM good"), 600);
    run(db, "UPDATE good SET v='x' WHERE id=%d", 5 + again);
  }
  assert_string_equal(get_text(db,
                               "SELECT status FROM pagedb_pages WHERE "
                               "page=%d",
                               (int)page),
                      status[how]);
  assert_string_equal(get_text(db,
                               "SELECT object FROM pagedb_pages WHERE "
                               "page=%d",
                               (int)page),
                      "table bad");
  assert_true(get_int(db, "SELECT sum(value) FROM pagedb_stats WHERE name LIKE "
                          "'failures%%'") > 0);
  db_close(db);
}

static void test_damage(void **state)
{
  (void)state;
  static const char *const journals[] = {"DELETE", "WAL"};
  const char *path = db_path("bad.db"), *other = db_path("bad-other.db");
  const char *sound = db_path("bad-sound.db");
  for (int j = 0; j < 2; j++) {
    make(other, journals[j]);
    make(path, journals[j]);
    uint64_t page = a_leaf(path, 1);
    file_copy(path, sound);
    for (int how = 0; how < KINDS; how++)
      for (int fetch = 0; fetch < 2; fetch++) {
        file_copy(sound, path);
        harm(path, other, page, (damage)how);
        expect_damage(path, page, (damage)how, fetch);
      }
  }
}

/* The way in: damaged pages are handed out, if one asks. */
static void test_verify_off(void **state)
{
  (void)state;
  const char *path = db_path("off.db");
  make(path, "DELETE");
  harm(path, path, a_leaf(path, 1), NO_STAMP);
  sqlite3 *db = db_open(path, "pagedb&pagedb_verify=off");
  assert_int_equal(get_int(db, "SELECT count(*) FROM bad"), 600);
  assert_string_equal(get_text(db, "PRAGMA pagedb_verify"), "off");
  run(db, "PRAGMA pagedb_verify=on");
  sqlite3_db_release_memory(db);
  assert_int_equal(try_run(db, "SELECT v FROM bad"), SQLITE_IOERR_DATA);
  db_close(db);
}

/* ------------------------------------------------------------- failed syncs */

static void expect_failed_file(sqlite3 *a, sqlite3 *b)
{
  sqlite3_db_release_memory(a);
  sqlite3_db_release_memory(b);
  assert_int_not_equal(try_run(a, "UPDATE good SET v=3 WHERE id=1"), SQLITE_OK);
  assert_int_not_equal(try_run(b, "UPDATE good SET v=3 WHERE id=2"), SQLITE_OK);
}

/* Every sync of a commit fails in turn. What the commit said holds afterwards;
** once a sync of the database failed, nothing succeeds before a reopen. */
static void failing_syncs(const char *journal)
{
  const char *path = db_path("sync.db");
  int failures = 0;
  sqlite3 *bystander = db_open(":memory:", "unix");
  for (int n = 0; n < 12; n++) {
    make(path, journal);
    sqlite3 *a = db_open(path, "pagedb"), *b = db_open(path, "pagedb");
    run(a, "PRAGMA synchronous=FULL; PRAGMA journal_mode=%s", journal);
    assert_int_equal(get_int(b, "SELECT count(*) FROM good"), 600);
    syncs_until_failure = n;
    int rc = try_run(a, "UPDATE good SET v='committed'");
    if (rc == SQLITE_OK)
      rc = try_run(a, "PRAGMA wal_checkpoint(TRUNCATE)");
    int hit = syncs_until_failure < 0;
    syncs_until_failure = -1;
    /* Asked of a connection that needs no page of the failed file. */
    if (hit &&
        get_int(bystander, "SELECT max(failed) FROM pagedb_files") == 1) {
      failures++;
      expect_failed_file(a, b);
    }
    int64_t before = rc == SQLITE_OK;
    sqlite3_close(a);
    sqlite3_close(b);
    a = db_open(path, "pagedb");
    int64_t v = get_int(a, "SELECT count(*) FROM good WHERE v='committed'");
    assert_true(v == 0 || v == 600);
    if (before)
      assert_int_equal(v, 600);
    db_close(a);
    assert_whole(path, 1);
  }
  db_close(bystander);
  assert_true(failures > 0);
}

static void test_failed_syncs(void **state)
{
  (void)state;
  failing_syncs("DELETE");
  failing_syncs("PERSIST");
  failing_syncs("MEMORY");
  failing_syncs("WAL");
}

/* ----------------------------------------------------------- behind our back
 */

/* A process that dies in the middle of its work. */
static void die_in(const char *path, const char *sql)
{
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    sqlite3 *db = db_open(path, "pagedb");
    run(db, "PRAGMA cache_size=5; PRAGMA cache_spill=5; PRAGMA "
            "wal_autocheckpoint=0");
    run(db, "%s", sql);
    raise(SIGKILL);
  }
  int st;
  assert_int_equal(waitpid(pid, &st, 0), pid);
  assert_true(WIFSIGNALED(st));
}

typedef struct story {
  const char *journal;
  const char *sql;
  int64_t updated; /* rows that a right recovery shows as new */
  int names;       /* page-db must find pages without stamp, or a lost guard */
} story;

/*
** Stock SQLite recovers what page-db left, and reads the right content. page-db
** says what it finds afterwards, and `adopt` brings the file back.
*/
static int lost_guards;

static void tell_story(const story *s)
{
  const char *path = db_path("story.db");
  make(path, s->journal);
  die_in(path, s->sql);
  sqlite3 *db = db_open(path, "unix");
  assert_int_equal(get_int(db, "SELECT count(*) FROM good WHERE v='new'"),
                   s->updated);
  assert_string_equal(get_text(db, "PRAGMA integrity_check"), "ok");
  db_close(db);
  db = db_open(path, "pagedb&pagedb_verify=off");
  assert_int_equal(get_int(db, "SELECT count(*) FROM good WHERE v='new'"),
                   s->updated);
  /* If page 1 lost its guard, that is said. */
  int lost = get_int(db, "SELECT state='plain' FROM pagedb_files") == 1;
  const char *error = get_text(db, "SELECT last_error FROM pagedb_files");
  assert_int_equal(strstr(error, "is plain, but was stamped") != NULL, lost);
  lost_guards += lost;
  const char *found = get_text(
      db, "SELECT group_concat(DISTINCT status) FROM pagedb_pages WHERE status "
          "NOT IN ('ok', 'lock')");
  if (s->names)
    assert_true(strstr(found, "no stamp") != NULL ||
                strstr(found, "plain") != NULL);
  if (strstr(found, "no stamp") != NULL) {
    assert_int_equal(try_run(db, "PRAGMA pagedb_stamp"), SQLITE_CORRUPT);
    assert_non_null(strstr(sqlite3_errmsg(db), "adopt"));
  }
  run(db, "PRAGMA pagedb_stamp=adopt");
  db_close(db);
  assert_whole(path, 1);
}

static void test_stock_recovers(void **state)
{
  (void)state;
  static const story stories[] = {
      /* A hot journal without page 1: spilled, not committed. */
      {"DELETE", "BEGIN; UPDATE good SET v='new'; UPDATE bad SET v='new'", 0,
       0},
      {"PERSIST", "BEGIN; UPDATE good SET v='new'; UPDATE bad SET v='new'", 0,
       0},
      /* With page 1. */
      {"DELETE",
       "BEGIN; CREATE TABLE z(a); UPDATE good SET v='new'; UPDATE bad "
       "SET v='new'",
       0, 0},
      /* A hot WAL, without and with page 1, and one with a spilled transaction.
       */
      {"WAL", "UPDATE good SET v='new'", 600, 1},
      {"WAL", "CREATE TABLE z(a); UPDATE good SET v='new'", 600, 1},
      {"WAL", "UPDATE good SET v='new'; BEGIN; UPDATE bad SET v='lost'", 600,
       1},
  };
  for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++)
    tell_story(&stories[i]);
  assert_true(lost_guards > 0);
}

/* page-db itself recovers the same: all stamped. */
static void test_we_recover(void **state)
{
  (void)state;
  static const char *const journals[] = {"DELETE", "TRUNCATE", "PERSIST",
                                         "WAL"};
  for (int j = 0; j < 4; j++) {
    const char *path = db_path("recover.db");
    make(path, journals[j]);
    die_in(path, "BEGIN; UPDATE good SET v='new'; DELETE FROM bad");
    sqlite3 *db = db_open(path, "pagedb");
    assert_int_equal(get_int(db, "SELECT count(*) FROM good WHERE v='new'"), 0);
    assert_int_equal(get_int(db, "SELECT count(*) FROM bad"), 600);
    db_close(db);
    assert_whole(path, 1);
  }
}

/* In EXCLUSIVE locking mode what follows a playback is a transaction of its own,
** and its pages get their stamps. */
static void test_exclusive_after_playback(void **state)
{
  (void)state;
  const char *path = db_path("playback.db");
  make(path, "DELETE");
  sqlite3 *db = db_open(path, "pagedb");
  uint64_t hash = content_hash(db);
  db_close(db);
  die_in(path, "BEGIN; UPDATE bad SET v='half'");
  db = db_open(path, "pagedb");
  run(db, "PRAGMA locking_mode=EXCLUSIVE");
  assert_true(content_hash(db) == hash);
  run(db, "UPDATE good SET v='new'");
  db_close(db);
  assert_whole(path, 1);
  db = db_open(path, "unix");
  assert_int_equal(get_int(db, "SELECT count(*) FROM good WHERE v='new'"), 600);
  assert_int_equal(get_int(db, "SELECT count(*) FROM bad WHERE v='half'"), 0);
  db_close(db);
}

/* Stock's .backup takes the guard along and changes page 1. */
static void test_stock_backup(void **state)
{
  (void)state;
  const char *path = db_path("sb.db"), *copy = db_path("sb-copy.db");
  make(path, "DELETE");
  sqlite3 *from = db_open(path, "unix"), *to = db_open(copy, "unix");
  sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
  assert_int_equal(sqlite3_backup_step(b, -1), SQLITE_DONE);
  assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
  db_close(from);
  db_close(to);
  to = db_open(copy, "pagedb");
  int rc = try_run(to, "SELECT count(*) FROM good");
  if (rc != SQLITE_OK) {
    assert_int_equal(rc, SQLITE_IOERR_DATA);
    assert_non_null(strstr(first_log(), "page 1:"));
  }
  /* Damage in page 1 looks the same: it has to be asked for. */
  assert_int_equal(try_run(to, "PRAGMA pagedb_stamp"), SQLITE_CORRUPT);
  assert_non_null(strstr(sqlite3_errmsg(to), "damage in page 1"));
  run(to, "PRAGMA pagedb_stamp=adopt");
  assert_int_equal(get_int(to, "SELECT count(*) FROM good"), 600);
  db_close(to);
  assert_whole(copy, 1);
}

/* --------------------------------------------------------- page 1 itself */

static void flip(const char *path, uint64_t at, int mask)
{
  unsigned char byte;
  file_read_at(path, at, &byte, 1);
  byte ^= (unsigned char)mask;
  file_write_at(path, at, &byte, 1);
}

/* A header that neither a plain nor a stamped file has is damage, and page 1 is
** named; so is a bit in the schema's text, which `stamp` alone does not
** accept. */
static void test_damaged_page1(void **state)
{
  (void)state;
  static const struct {
    uint64_t at;
    int mask;
  } flips[] = {{0, 1},   {3, 1},    {15, 128}, {16, 1},   {17, 4},
               {18, 16}, {18, 32},  {18, 64},  {18, 128}, {20, 1},
               {20, 2},  {20, 4},   {20, 8},   {20, 16},  {20, 32},
               {20, 64}, {20, 128}, {27, 1},   {43, 1},   {3900, 1}};
  const char *path = db_path("page1.db"), *sound = db_path("page1-sound.db");
  static const char *const journals[] = {"DELETE", "WAL"};
  for (int j = 0; j < 2; j++) {
    make(sound, journals[j]);
    for (size_t i = 0; i < sizeof flips / sizeof flips[0]; i++) {
      file_copy(sound, path);
      flip(path, flips[i].at, flips[i].mask);
      sqlite3 *db = db_open(path, "pagedb");
      sqlite3 *two = db_open(":memory:", "unix");
      assert_int_equal(try_run(db, "SELECT count(*) FROM good"),
                       SQLITE_IOERR_DATA);
      assert_non_null(strstr(first_log(), "page 1:"));
      assert_non_null(strstr(
          get_text(two, "SELECT last_error FROM pagedb_files"), "page 1:"));
      assert_int_not_equal(try_run(db, "PRAGMA pagedb_stamp"), SQLITE_OK);
      assert_int_equal(try_run(db, "SELECT count(*) FROM good"),
                       SQLITE_IOERR_DATA);
      db_close(db);
      db_close(two);
    }
  }
}

/* Stock SQLite brings in a log that has page 1, page 2 and the last page, and
** leaves most pages their records. */
static void test_lost_guard_is_seen(void **state)
{
  (void)state;
  const char *path = db_path("lost.db");
  make(path, "WAL");
  sqlite3 *db = db_open(path, "pagedb"), *stock = db_open(path, "unix");
  get_int(stock, "SELECT count(*) FROM good");
  run(db, "INSERT INTO bad SELECT id+1000, v FROM good; CREATE TABLE u(b); "
          "INSERT INTO u VALUES(1),(2),(3)");
  db_close(db);
  get_int(stock, "SELECT count(*) FROM u");
  db_close(stock);
  db = db_open(path, "pagedb");
  assert_int_equal(get_int(db, "SELECT count(*) FROM u"), 3);
  assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"), "plain");
  assert_non_null(strstr(get_text(db, "SELECT last_error FROM pagedb_files"),
                         "is plain, but was stamped"));
  db_close(db);
}

static void test_required(void **state)
{
  (void)state;
  const char *path = db_path("required.db");
  sqlite3 *db = db_open(path, "pagedb&pagedb_stamp=required");
  run(db,
      "PRAGMA cache_size=5; PRAGMA cache_spill=5; BEGIN; CREATE TABLE t(a)");
  run(db, "INSERT INTO t VALUES(zeroblob(200000)); CREATE TABLE u(a); COMMIT");
  run(db, "VACUUM");
  db_close(db);
  db = db_open(path, "pagedb");
  run(db, "PRAGMA pagedb_unstamp");
  db_close(db);
  /* Who asked for them is named, and what to do. */
  for (int env = 0; env < 2; env++) {
    if (env)
      setenv("PAGEDB_STAMP", "required", 1);
    db = db_open(path, env ? "pagedb" : "pagedb&pagedb_stamp=required");
    assert_int_equal(try_run(db, "SELECT count(*) FROM t") & 0xff,
                     SQLITE_CANTOPEN);
    assert_non_null(
        strstr(first_log(), env ? "is plain, and stamps were required "
                                  "(PAGEDB_STAMP=required in the environment)"
                                : "is plain, and stamps were required (the URI "
                                  "parameter pagedb_stamp=required)"));
    assert_non_null(strstr(last_log(), "`pagedb convert` makes it"));
    db_close(db);
  }
  /* The parameter has the last word, and what is wrong is named by its name. */
  db = db_open(path, "pagedb&pagedb_stamp=on");
  run(db, "SELECT count(*) FROM t");
  db_close(db);
  setenv("PAGEDB_STAMP", "sometimes", 1);
  sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "pagedb");
  sqlite3_close(db);
  assert_non_null(strstr(first_log(), "PAGEDB_STAMP=sometimes is not known"));
  unsetenv("PAGEDB_STAMP");
}

/* A file that ends in the middle of a page that counts: damage, not zeroes. */
static void test_cut_file(void **state)
{
  (void)state;
  const char *path = db_path("cut.db");
  make(path, "DELETE");
  uint64_t bytes = file_bytes_of(path);
  assert_int_equal(truncate(path, (off_t)bytes - 3000), 0);
  sqlite3 *db = db_open(path, "pagedb");
  assert_int_equal(try_run(db, "SELECT sum(length(v)) FROM good"),
                   SQLITE_IOERR_DATA);
  assert_int_equal(get_int(db, "SELECT count(*) FROM bad"), 600);
  db_close(db);
  /* Of pages that it lacks altogether, one is listed for all. */
  assert_int_equal(truncate(path, (off_t)bytes - 3 * SIZE + 1), 0);
  db = db_open(path, "pagedb");
  run(db, "PRAGMA writable_schema=ON"); /* or SQLite reads nothing of it */
  assert_int_equal(get_int(db, "SELECT count(*) FROM pagedb_pages"),
                   (int64_t)bytes / SIZE - 1);
  db_close(db);
}

/*
** A page that uses its last 32 bytes, while others of the stamped file stay:
** refused before the commit, as often as it is tried, in EXCLUSIVE mode too,
** where nothing tells one transaction from the next.
*/
static void test_incomplete_replacement(void **state)
{
  (void)state;
  const char *path = db_path("twice.db");
  static uint8_t before[SIZE], page[SIZE];
  make(path, "DELETE");
  sqlite3 *db = db_open(path, "pagedb");
  sqlite3_file *f = NULL;
  run(db, "PRAGMA locking_mode=EXCLUSIVE; UPDATE good SET v='kept'");
  uint64_t hash = content_hash(db);
  assert_int_equal(
      sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f),
      SQLITE_OK);
  for (int i = 0; i < 3; i++) {
    run(db, "BEGIN EXCLUSIVE");
    assert_int_equal(f->pMethods->xRead(f, before, SIZE, 2 * SIZE), SQLITE_OK);
    memcpy(page, before, SIZE);
    memset(page + SIZE - 32, 'x', 32);
    assert_int_equal(f->pMethods->xWrite(f, page, SIZE, 2 * SIZE), SQLITE_OK);
    assert_int_equal(f->pMethods->xFileControl(f, SQLITE_FCNTL_SYNC, NULL),
                     SQLITE_IOERR_WRITE);
    assert_non_null(strstr(last_log(), "pagedb_unstamp"));
    /* The whole sentence, and no word about contracts. */
    const char *error =
        get_text(db, "SELECT last_error FROM pagedb_files WHERE path=%Q", path);
    assert_non_null(strstr(error, "run PRAGMA pagedb_unstamp on it first"));
    assert_null(strstr(error, "contract"));
    /* What playing the journal back would do. */
    assert_int_equal(f->pMethods->xWrite(f, before, SIZE, 2 * SIZE), SQLITE_OK);
    assert_int_equal(f->pMethods->xFileControl(f, SQLITE_FCNTL_SYNC, NULL),
                     SQLITE_NOTFOUND);
    run(db, "COMMIT");
    assert_true(content_hash(db) == hash);
  }
  run(db, "UPDATE good SET v='new'; UPDATE good SET v='kept'");
  assert_true(content_hash(db) == hash);
  db_close(db);
  assert_whole(path, 1);
}

/* A backup that would replace the file and is given up half way, with pages on
** disk already. */
static void test_abandoned_replacement(void **state)
{
  (void)state;
  const char *path = db_path("half.db");
  make(path, "DELETE");
  sqlite3 *to = db_open(path, "pagedb"), *from = db_open(":memory:", "unix");
  run(from,
      "PRAGMA page_size=%d; CREATE TABLE t(a); INSERT INTO t "
      "VALUES(randomblob(300000))",
      SIZE);
  run(to, "PRAGMA cache_size=4");
  uint64_t hash = content_hash(to);
  for (int i = 0; i < 3; i++) {
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    assert_int_equal(sqlite3_backup_step(b, 40 + i), SQLITE_OK);
    assert_int_equal(sqlite3_backup_finish(b), SQLITE_OK);
    assert_true(content_hash(to) == hash);
  }
  run(to, "UPDATE good SET v='new'");
  db_close(from);
  db_close(to);
  assert_whole(path, 1);
}

/* ------------------------------------------------------- stamp and unstamp */

static void test_stamp_unstamp(void **state)
{
  (void)state;
  const char *path = db_path("stamp.db");
  static const char *const journals[] = {"DELETE", "WAL"};
  for (int j = 0; j < 2; j++) {
    make(path, journals[j]);
    sqlite3 *db = db_open(path, "pagedb");
    uint64_t hash = content_hash(db);
    run(db, "BEGIN");
    assert_int_equal(try_run(db, "PRAGMA pagedb_unstamp") & 0xff, SQLITE_BUSY);
    run(db, "COMMIT");
    sqlite3 *second = db_open(path, "pagedb");
    run(second, "BEGIN; SELECT * FROM good");
    sqlite3_busy_timeout(db, 0);
    assert_int_equal(try_run(db, "PRAGMA pagedb_unstamp") & 0xff, SQLITE_BUSY);
    db_close(second);
    run(db, "PRAGMA pagedb_unstamp");
    /* We did it ourselves, and on purpose: nothing to be told about. */
    assert_int_equal(get_int(db, "SELECT count(*) FROM good"), 600);
    assert_null(strstr(last_log(), "plain"));
    db_close(db);
    db = db_open(path, "pagedb");
    assert_int_equal(get_int(db, "SELECT count(*) FROM good"), 600);
    assert_string_equal(get_text(db, "SELECT last_error FROM pagedb_files"),
                        "");
    assert_string_equal(get_text(db, "PRAGMA pagedb_lsn"), "0");
    db_close(db);
    assert_whole(path, 0);
    db = db_open(path, "unix");
    run(db, "UPDATE good SET v='stock' WHERE id=9");
    run(db, "UPDATE good SET v=%Q WHERE id=9",
        "00000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000");
    assert_true(content_hash(db) == hash);
    db_close(db);
    db = db_open(path, "pagedb");
    run(db, "PRAGMA pagedb_stamp");
    assert_true(content_hash(db) == hash);
    run(db, "UPDATE good SET v='ours' WHERE id=9");
    db_close(db);
    assert_whole(path, 1);
  }
}

/* Stamping and unstamping end at each of their syncs in turn: what is on disk by
** then is a sound file, stamped or plain, for everybody. */
static void cut_short(const char *pragma, int from_stamped)
{
  const char *path = db_path("cutshort.db");
  int cuts = 0, done = 0;
  for (int n = 0; !done; n++) {
    make(path, "DELETE");
    sqlite3 *db = db_open(path, "pagedb");
    if (!from_stamped)
      run(db, "PRAGMA pagedb_unstamp");
    uint64_t hash = content_hash(db);
    syncs_until_failure = n;
    done = try_run(db, pragma) == SQLITE_OK;
    cuts += syncs_until_failure < 0;
    syncs_until_failure = -1;
    db_close(db);
    db = db_open(path, "pagedb");
    assert_true(content_hash(db) == hash);
    int stamped =
        strcmp(get_text(db, "SELECT state FROM pagedb_files"), "stamped") == 0;
    if (done)
      assert_int_not_equal(stamped, from_stamped);
    db_close(db);
    assert_whole(path, stamped);
    db = db_open(path, "unix");
    assert_true(content_hash(db) == hash);
    db_close(db);
  }
  assert_true(cuts >= 2);
}

static void test_cut_short(void **state)
{
  (void)state;
  cut_short("PRAGMA pagedb_unstamp", 1);
  cut_short("PRAGMA pagedb_stamp", 0);
}

/* Damage would pass for good without its stamp. */
static void test_unstamp_verifies(void **state)
{
  (void)state;
  const char *path = db_path("unstamp.db");
  char named[40];
  static const damage kinds[] = {BIT, MAGIC, NO_STAMP, ZERO};
  for (int i = 0; i < 4; i++) {
    make(path, "DELETE");
    uint64_t page = a_leaf(path, 1);
    harm(path, path, page, kinds[i]);
    sqlite3 *db = db_open(path, "pagedb");
    assert_int_equal(try_run(db, "PRAGMA pagedb_unstamp=foo"), SQLITE_ERROR);
    assert_int_equal(try_run(db, "PRAGMA pagedb_unstamp"), SQLITE_CORRUPT);
    snprintf(named, sizeof named, "page %d ", (int)page);
    assert_non_null(strstr(sqlite3_errmsg(db), named));
    assert_int_equal(try_run(db, "SELECT sum(length(v)) FROM bad"),
                     SQLITE_IOERR_DATA);
    run(db, "PRAGMA pagedb_unstamp=force");
    assert_string_equal(get_text(db, "SELECT state FROM pagedb_files"),
                        "plain");
    db_close(db);
  }
}

/* A file whose tails are somebody else's is not touched. */
static void test_foreign_tails(void **state)
{
  (void)state;
  const char *path = db_path("foreign.db");
  static unsigned char before[SIZE], after[SIZE];
  make(path, "DELETE");
  sqlite3 *db = db_open(path, "pagedb");
  run(db, "PRAGMA pagedb_unstamp");
  db_close(db);
  file_write_at(path, 2 * SIZE - 20, "somebody", 8);
  file_read_at(path, SIZE, before, SIZE);
  db = db_open(path, "pagedb");
  file_write_at(path, 2 * SIZE - 32, "else", 4);
  file_read_at(path, SIZE, before, SIZE);
  assert_int_equal(try_run(db, "PRAGMA pagedb_stamp"), SQLITE_CORRUPT);
  assert_non_null(strstr(sqlite3_errmsg(db), "page 2"));
  db_close(db);
  file_read_at(path, SIZE, after, SIZE);
  assert_memory_equal(before, after, SIZE);
}

/* --------------------------------------------------------------- fullness */

/* A pool far too small never fails a statement. */
static void test_tiny_pool(void **state)
{
  (void)state;
  const char *path = db_path("tiny.db");
  make(path, "DELETE");
  sqlite3 *db = db_open(path, "pagedb"), *two = db_open(path, "pagedb");
  int64_t was = get_int(db, "PRAGMA pagedb_pool_size");
  assert_int_equal(get_int(db, "PRAGMA pagedb_pool_size='64KiB'"), 65536);
  for (int i = 0; i < 5; i++) {
    run(db, "UPDATE good SET v=v||%d; DELETE FROM bad WHERE id %% 5 = %d", i,
        i);
    assert_int_equal(get_int(two, "SELECT count(*) FROM good a, good b WHERE "
                                  "a.id=b.id"),
                     600);
    run(db, "BEGIN; UPDATE good SET v='rolled back'; ROLLBACK");
    run(db, "PRAGMA page_size=%d; VACUUM", 512 << (i * 3 % 5));
    assert_string_equal(get_text(two, "PRAGMA integrity_check"), "ok");
  }
  assert_int_equal(try_run(db, "PRAGMA pagedb_pool_size='a few'"),
                   SQLITE_ERROR);
  run(db, "PRAGMA pagedb_pool_size=%lld", was);
  db_close(db);
  db_close(two);
  assert_whole(path, 1);
}

static void test_bad_parameters(void **state)
{
  (void)state;
  sqlite3 *db;
  char uri[700];
  static const char *const bad[] = {"pagedb_direct=maybe", "pagedb_verify=1e3",
                                    "pagedb_parent=none-such",
                                    "pagedb_stamp=please"};
  for (int i = 0; i < 4; i++) {
    snprintf(uri, sizeof uri, "file:%s?vfs=pagedb&%s", db_path("par.db"),
             bad[i]);
    int rc = sqlite3_open_v2(
        uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
        NULL);
    if (rc == SQLITE_OK)
      rc = try_run(db, "CREATE TABLE t(a)");
    assert_int_equal(rc & 0xff, SQLITE_CANTOPEN);
    assert_non_null(strstr(first_log(), bad[i]));
    assert_non_null(strstr(first_log(), " is not known: it may be "));
    sqlite3_close(db);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_verify_off),
      cmocka_unit_test(test_failed_syncs),
      cmocka_unit_test(test_stock_recovers),
      cmocka_unit_test(test_we_recover),
      cmocka_unit_test(test_exclusive_after_playback),
      cmocka_unit_test(test_stock_backup),
      cmocka_unit_test(test_damaged_page1),
      cmocka_unit_test(test_lost_guard_is_seen),
      cmocka_unit_test(test_required),
      cmocka_unit_test(test_cut_file),
      cmocka_unit_test(test_incomplete_replacement),
      cmocka_unit_test(test_abandoned_replacement),
      cmocka_unit_test(test_stamp_unstamp),
      cmocka_unit_test(test_cut_short),
      cmocka_unit_test(test_unstamp_verifies),
      cmocka_unit_test(test_foreign_tails),
      cmocka_unit_test(test_tiny_pool),
      cmocka_unit_test(test_bad_parameters),
  };
  sql_start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
