/*
** test_vfs_load.c - the loadable extension, as a host meets it: through a table
** of routines, which tells the version of SQLite that it belongs to.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3ext.h>
/* The real functions: this is the host. */
#undef sqlite3_open_v2
#undef sqlite3_close
#undef sqlite3_free
#undef sqlite3_auto_extension
#undef sqlite3_cancel_auto_extension
#undef sqlite3_vfs_find
#undef sqlite3_config

#include "util.h"

typedef int entry_point(sqlite3 *, char **, const sqlite3_api_routines *);

static const sqlite3_api_routines *routines;

static unsigned complaints; /* that the page cache came too late */

static void on_log(void *arg, int code, const char *message)
{
  (void)arg;
  complaints += code == SQLITE_WARNING &&
                strstr(message, "its built-in page cache stays") != NULL;
}

static int take_routines(sqlite3 *db, char **message,
                         const sqlite3_api_routines *api)
{
  (void)db;
  (void)message;
  routines = api;
  return SQLITE_OK;
}

/* The extension stands beside the test. */
static void *load(void)
{
  char path[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 20);
  assert_true(n > 0);
  path[n] = 0;
  strcpy(strrchr(path, '/') + 1, "pagedb.so");
  void *so = dlopen(path, RTLD_NOW);
  if (so == NULL)
    fail_msg("%s", dlerror());
  return so;
}

static entry_point *entry(void *so, const char *name)
{
  entry_point *e;
  *(void **)&e = dlsym(so, name);
  assert_non_null(e);
  return e;
}

static int old_version(void)
{
  return 3039004;
}

static const char *old_name(void)
{
  return "3.39.4";
}

/* Too old: refused with a sentence, and nothing is registered. */
static void test_old_sqlite(void **state)
{
  (void)state;
  static const char *const names[] = {"sqlite3_pagedb_init",
                                      "sqlite3_pagedbnamed_init"};
  void *so = load();
  sqlite3 *db = NULL;
  assert_int_equal(
      sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, "unix"),
      SQLITE_OK);
  sqlite3_api_routines old = *routines;
  old.libversion_number = old_version;
  old.libversion = old_name;
  for (int i = 0; i < 2; i++) {
    char *message = NULL;
    assert_int_equal(entry(so, names[i])(db, &message, &old), SQLITE_ERROR);
    assert_string_equal(message,
                        "page-db needs SQLite 3.40.1 or newer; this is 3.39.4");
    sqlite3_free(message);
    assert_null(sqlite3_vfs_find("pagedb"));
  }
  sqlite3_close(db);
  dlclose(so);
}

/* By name only, then as the default: once each, however often it is loaded. The page
** cache is missed by who asked for it, and by nobody else. */
static void test_entry_points(void **state)
{
  (void)state;
  void *so = load();
  sqlite3 *db = NULL;
  char *message = NULL;
  assert_int_equal(
      sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, "unix"),
      SQLITE_OK);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(
        entry(so, "sqlite3_pagedbnamed_init")(db, &message, routines),
        SQLITE_OK_LOAD_PERMANENTLY);
    assert_non_null(sqlite3_vfs_find("pagedb"));
    assert_string_equal(sqlite3_vfs_find(NULL)->zName, "unix");
  }
  for (int i = 0; i < 2; i++) {
    assert_int_equal(entry(so, "sqlite3_pagedb_init")(db, &message, routines),
                     SQLITE_OK_LOAD_PERMANENTLY);
    assert_string_equal(sqlite3_vfs_find(NULL)->zName, "pagedb");
  }
  assert_int_equal(complaints, 0);
  setenv("PAGEDB_PCACHE", "on", 1);
  assert_int_equal(entry(so, "sqlite3_pagedb_init")(db, &message, routines),
                   SQLITE_OK_LOAD_PERMANENTLY);
  unsetenv("PAGEDB_PCACHE");
  assert_int_equal(complaints, 1);
  sqlite3_close(db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_old_sqlite),
      cmocka_unit_test(test_entry_points),
  };
  sqlite3 *db = NULL;
  unsetenv("PAGEDB_PCACHE");
  sqlite3_config(SQLITE_CONFIG_LOG, on_log, NULL);
  sqlite3_auto_extension((void (*)(void))take_routines);
  sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, "unix");
  sqlite3_close(db);
  sqlite3_cancel_auto_extension((void (*)(void))take_routines);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
