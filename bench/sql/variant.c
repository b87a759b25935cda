/*
** variant.c - which SQLite a program is: stock, mmap, cksumvfs, pagedb or
** pagedb+pcache, by PAGEDB_BENCH in the environment.
**
** Linked into every program of the benchmark, SQLite's own speedtest1 and kvtest
** among them, so that all of them run the same object code of SQLite. Works
** before main, because SQLite takes a page cache and a default for mmap only
** before it begins. What is not asked for is not registered, and not run.
*/
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vfs/pagedb_sqlite.h"

int sqlite3_register_cksumvfs(const char *unused);

enum { CKSUMVFS_RESERVE = 8 };

static void refuse(const char *variant, int rc)
{
  fprintf(stderr, "bench: PAGEDB_BENCH=%s: SQLite says %d\n", variant, rc);
  exit(2);
}

/* New databases get the room that cksumvfs needs; page-db asks by itself. */
static int reserve_for_sums(sqlite3 *db, char **message,
                            const struct sqlite3_api_routines *api)
{
  int n = CKSUMVFS_RESERVE;
  (void)message;
  (void)api;
  return sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &n);
}

static int use_cksumvfs(void)
{
  int rc = sqlite3_initialize();
  if (rc == SQLITE_OK)
    rc = sqlite3_register_cksumvfs(NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_auto_extension((void (*)(void))reserve_for_sums);
  return rc;
}

static int use_pagedb(int pcache)
{
  const char *why = NULL;
  int rc = pcache ? pagedb_install(&why) : SQLITE_OK;
  if (why != NULL)
    fprintf(stderr, "bench: page cache: %s\n", why);
  return rc == SQLITE_OK ? pagedb_register(1) : rc;
}

__attribute__((constructor)) static void choose(void)
{
  const char *v = getenv("PAGEDB_BENCH");
  int rc = SQLITE_OK;
  if (v == NULL || strcmp(v, "stock") == 0)
    return;
  if (strcmp(v, "mmap") == 0)
    rc = sqlite3_config(SQLITE_CONFIG_MMAP_SIZE, (sqlite3_int64)0x7fff0000,
                        (sqlite3_int64)0x7fff0000);
  else if (strcmp(v, "cksumvfs") == 0)
    rc = use_cksumvfs();
  else if (strcmp(v, "pagedb") == 0)
    rc = use_pagedb(0);
  else if (strcmp(v, "pagedb+pcache") == 0)
    rc = use_pagedb(1);
  else
    rc = SQLITE_NOTFOUND;
  if (rc != SQLITE_OK)
    refuse(v, rc);
}
