/*
** database.c - a program that links page-db and uses SQLite as ever.
**
**   cc examples/database.c -Ivfs build/libpagedb_sqlite.a build/libpagedb.a \
**      -lsqlite3 -l:liburing.a -pthread -lm
**   ./a.out FILE QUERY
*/
#include <sqlite3.h>
#include <stdio.h>

#include "pagedb_sqlite.h"

static int print_row(void *unused, int n, char **value, char **name)
{
  (void)unused;
  (void)name;
  for (int i = 0; i < n; i++)
    printf("%s%s", i ? "|" : "", value[i] ? value[i] : "");
  printf("\n");
  return 0;
}

int main(int argc, char **argv)
{
  sqlite3 *db;
  char *error = NULL;
  if (argc != 3) {
    fprintf(stderr, "usage: database FILE QUERY\n");
    return 2;
  }
  if (pagedb_register(1) != SQLITE_OK ||
      sqlite3_open(argv[1], &db) != SQLITE_OK) {
    fprintf(stderr, "cannot open %s: SQLite's error log says why\n", argv[1]);
    return 1;
  }
  int rc = sqlite3_exec(db, argv[2], print_row, NULL, &error);
  if (rc != SQLITE_OK)
    fprintf(stderr, "%s (%d)\n", error, sqlite3_extended_errcode(db));
  sqlite3_free(error);
  sqlite3_close(db);
  return rc != SQLITE_OK;
}
