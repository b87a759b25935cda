/*
** fuzz_sql.c - libFuzzer: SQL functions, tables, PRAGMAs and URI parameters of
** page-db with arguments that nobody would give.
**
** Input: strings, each ended by a zero byte. The first byte of a string chooses
** where the rest goes: into an argument, quoted, or, for the last choice, it is
** SQL itself. All run on two connections to one small database.
*/
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static const char *const templates[] = {
    "PRAGMA pagedb_pool_size=%Q",
    "PRAGMA pagedb_verify=%Q",
    "PRAGMA pagedb_stamp=%Q",
    "PRAGMA pagedb_unstamp=%Q",
    "PRAGMA pagedb_lsn=%Q",
    "PRAGMA page_size=%Q; VACUUM",
    "SELECT * FROM pagedb_pages(%Q)",
    "SELECT count(*) FROM pagedb_pages WHERE schema=%Q AND page>1",
    "SELECT pagedb_version(%Q)",
    "SELECT pagedb_version(); PRAGMA \"%w\".pagedb_stamp",
    "ATTACH 'file:more.db?vfs=pagedb&%q' AS more; CREATE TABLE more.t(a)",
    "ATTACH 'file:more.db?vfs=pagedb&pagedb_stamp=%q' AS x; DETACH x",
    "ATTACH 'file:more.db?vfs=pagedb&pagedb_direct=%q' AS x; DETACH x",
    "ATTACH 'file:more.db?vfs=pagedb&pagedb_verify=%q' AS x; DETACH x",
    "ATTACH 'file:more.db?vfs=pagedb&pagedb_parent=%q' AS x; DETACH x",
    "PRAGMA journal_mode=%Q; UPDATE t SET b=b+1",
    "PRAGMA locking_mode=%Q; UPDATE t SET b=b+1",
    "PRAGMA mmap_size=%Q; SELECT sum(b) FROM t",
    "SELECT * FROM pagedb_files WHERE path=%Q OR last_error LIKE %Q",
    "SELECT value FROM pagedb_stats WHERE name=%Q",
    "VACUUM INTO %Q"};
enum { TEMPLATES = sizeof templates / sizeof templates[0] };

static void one(sqlite3 *db, unsigned char choice, const char *rest)
{
  if (choice % (TEMPLATES + 1) == TEMPLATES) {
    rig_run(db, rest);
    return;
  }
  char *sql = sqlite3_mprintf(templates[choice % (TEMPLATES + 1)], rest, rest);
  if (sql != NULL)
    rig_run(db, sql);
  sqlite3_free(sql);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
  rig_start();
  if (n == 0)
    return 0;
  char *text = malloc(n + 1);
  memcpy(text, data, n);
  text[n] = 0;
  simdisk *disk = simdisk_new();
  simdisk_use(disk);
  sqlite3 *db[2] = {rig_open("fuzz.db", "pagedb"),
                    rig_open("fuzz.db", "pagedb")};
  if (db[0] == NULL || db[1] == NULL)
    abort();
  pagedb_sql_init(db[0]);
  rig_run(db[0], "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE INDEX i ON "
                 "t(b); INSERT INTO t VALUES(1,2),(3,4),(5,zeroblob(9000))");
  unsigned turn = 0;
  for (size_t at = 0; at < n; at += strlen(text + at) + 1)
    if (text[at] != 0)
      one(db[turn++ % 2], (unsigned char)text[at], text + at + 1);
  for (int i = 0; i < 2; i++)
    if (!sqlite3_get_autocommit(db[i]))
      rig_run(db[i], "ROLLBACK");
  rig_run(db[1], "PRAGMA pagedb_pool_size='1MiB'");
  sqlite3_close(db[1]);
  rig_close(db[0]);
  simdisk_free(disk);
  free(text);
  return 0;
}
