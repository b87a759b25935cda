/*
** trace.c - the trace recorder: PAGEDB_TRACE=FILE writes the number of every page
** that SQLite asks its page cache for, in order, as 32-bit numbers of this
** machine. That is the stream that page-db's pool gets by xFetch.
**
** The built-in page cache does the work; one method of it is replaced, before
** SQLite begins. For one connection in one thread.
*/
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static sqlite3_pcache_methods2 builtin;
static FILE *out;

static sqlite3_pcache_page *fetch(sqlite3_pcache *cache, unsigned key,
                                  int create)
{
  sqlite3_pcache_page *page = builtin.xFetch(cache, key, create);
  uint32_t number = key;
  /* SQLite asks twice for a page that comes new. */
  if (page != NULL && fwrite(&number, sizeof number, 1, out) != 1) {
    perror("bench: trace");
    exit(1);
  }
  return page;
}

__attribute__((constructor)) static void record(void)
{
  const char *path = getenv("PAGEDB_TRACE");
  sqlite3_pcache_methods2 recording;
  if (path == NULL)
    return;
  out = fopen(path, "wb");
  if (out == NULL || sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &builtin) != 0) {
    perror(path);
    exit(2);
  }
  recording = builtin;
  recording.xFetch = fetch;
  if (sqlite3_config(SQLITE_CONFIG_PCACHE2, &recording) != SQLITE_OK)
    exit(2);
}
