/*
** vfs.c - the sqlite3_vfs `pagedb`: a shim over the platform's VFS.
**
** Main database files get our methods; a WAL of theirs gets the observer
** (checkpoint.c); journals, temporary files, and everything that is not about
** an open file go straight to the parent.
**
** URI parameters of a database file:
**   pagedb_direct=auto|required|off   Direct I/O if possible, or an error, or not
**   pagedb_verify=on|off              off: damaged pages are handed out
**   pagedb_stamp=on|off|required      off: new databases are not stamped;
**                                     required: plain ones are not opened
**   pagedb_parent=NAME                the VFS below, instead of the default one
*/
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

static int x_close(sqlite3_file *f);
static int x_sector_size(sqlite3_file *f);
static int x_device(sqlite3_file *f);

#define METHODS_1                                                              \
  .xClose = x_close, .xRead = x_read, .xWrite = x_write,                       \
  .xTruncate = x_truncate, .xSync = x_sync, .xFileSize = x_file_size,          \
  .xLock = x_lock, .xUnlock = x_unlock,                                        \
  .xCheckReservedLock = x_check_reserved, .xFileControl = x_control,           \
  .xSectorSize = x_sector_size, .xDeviceCharacteristics = x_device

/* By what the parent has: the first without shared memory. */
static const sqlite3_io_methods methods[2] = {{.iVersion = 1, METHODS_1},
                                              {.iVersion = 3,
                                               METHODS_1,
                                               .xShmMap = x_shm_map,
                                               .xShmLock = x_shm_lock,
                                               .xShmBarrier = x_shm_barrier,
                                               .xShmUnmap = x_shm_unmap,
                                               .xFetch = x_fetch,
                                               .xUnfetch = x_unfetch}};

conn *conn_of(sqlite3_file *f)
{
  if (f == NULL || (f->pMethods != &methods[0] && f->pMethods != &methods[1]))
    return NULL;
  return (conn *)f;
}

conn *conn_by_name(const char *name)
{
  conn *found = NULL;
  pthread_mutex_lock(&pagedb_globals.lock);
  for (shared *s = pagedb_globals.files; s != NULL && !found; s = s->next)
    for (conn *c = s->conns; c != NULL && !found; c = c->next)
      if (c->name == name)
        found = c;
  pthread_mutex_unlock(&pagedb_globals.lock);
  return found;
}

/* --------------------------------------------------------------- our files */

static int x_close(sqlite3_file *f)
{
  conn *c = (conn *)f;
  if (!conn_is_inherited(c)) {
    txn_abandon(c);
    if (c->shm != NULL)
      x_shm_unmap(f, 0);
    shared_detach(c);
  }
  if (c->other_parent)
    atomic_fetch_sub(&pagedb_globals.other_parents, 1);
  int rc = c->parent->pMethods->xClose(c->parent);
  free((void *)c->rest->regions);
  free(c->parent);
  c->parent = NULL;
  c->rest = NULL;
  f->pMethods = NULL;
  return rc;
}

static int x_sector_size(sqlite3_file *f)
{
  conn *c = (conn *)f;
  return c->parent->pMethods->xSectorSize(c->parent);
}

/* Nothing that the parent promises about its own writes holds for ours. */
static int x_device(sqlite3_file *f)
{
  conn *c = (conn *)f;
  const int atomic =
      SQLITE_IOCAP_ATOMIC | SQLITE_IOCAP_ATOMIC512 | SQLITE_IOCAP_ATOMIC1K |
      SQLITE_IOCAP_ATOMIC2K | SQLITE_IOCAP_ATOMIC4K | SQLITE_IOCAP_ATOMIC8K |
      SQLITE_IOCAP_ATOMIC16K | SQLITE_IOCAP_ATOMIC32K | SQLITE_IOCAP_ATOMIC64K |
      SQLITE_IOCAP_BATCH_ATOMIC | 0x00008000 /* SUBPAGE_READ, SQLite 3.48 */;
  return c->parent->pMethods->xDeviceCharacteristics(c->parent) & ~atomic;
}

/* --------------------------------------------------------------------- open */

/* possible: what it may be. */
static int unknown_value(const char *file, const char *key, const char *value,
                         const char *possible)
{
  sqlite3_log(SQLITE_CANTOPEN, "pagedb: %s: %s=%s is not known: it may be %s",
              file, key, value, possible);
  return SQLITE_CANTOPEN;
}

/* A parameter that is on or off. */
static int read_switch(const char *name, const char *key, int *value)
{
  const char *v = sqlite3_uri_parameter(name, key);
  if (v == NULL)
    return SQLITE_OK;
  if (sqlite3_stricmp(v, "on") != 0 && sqlite3_stricmp(v, "off") != 0)
    return unknown_value(name, key, v, "on or off");
  *value = sqlite3_stricmp(v, "on") == 0;
  return SQLITE_OK;
}

static int read_policy(const char *name, direct_policy *policy)
{
  const char *v = sqlite3_uri_parameter(name, "pagedb_direct");
  const char *env = getenv("PAGEDB_DIRECT");
  *policy = DIRECT_AUTO;
  if (v == NULL)
    v = env;
  if (v == NULL || sqlite3_stricmp(v, "auto") == 0)
    return SQLITE_OK;
  if (sqlite3_stricmp(v, "required") == 0)
    *policy = DIRECT_REQUIRED;
  else if (sqlite3_stricmp(v, "off") == 0)
    *policy = DIRECT_OFF;
  else
    return unknown_value(name, v == env ? "PAGEDB_DIRECT" : "pagedb_direct", v,
                         "auto, required or off");
  return SQLITE_OK;
}

static int read_stamps(conn *c, const char *name)
{
  const char *v = sqlite3_uri_parameter(name, "pagedb_stamp");
  const char *env = getenv("PAGEDB_STAMP");
  if (v == NULL)
    v = env;
  c->want_stamps = 1;
  if (v == NULL || sqlite3_stricmp(v, "on") == 0)
    return SQLITE_OK;
  if (sqlite3_stricmp(v, "required") == 0)
    c->need_stamps = v == env ? "PAGEDB_STAMP=required in the environment"
                              : "the URI parameter pagedb_stamp=required";
  else if (sqlite3_stricmp(v, "off") == 0)
    c->want_stamps = 0;
  else
    return unknown_value(name, v == env ? "PAGEDB_STAMP" : "pagedb_stamp", v,
                         "on, off or required");
  return SQLITE_OK;
}

/* The parent that a URI names, or the default one. */
static sqlite3_vfs *parent_for(sqlite3_vfs *vfs, const char *name)
{
  const char *wanted = sqlite3_uri_parameter(name, "pagedb_parent");
  if (wanted == NULL)
    return vfs->pAppData;
  sqlite3_vfs *parent = sqlite3_vfs_find(wanted);
  if (parent == NULL || parent == vfs || parent->szOsFile > vfs->szOsFile)
    return NULL;
  capture_install(parent);
  return parent;
}

static int open_options(conn *c, const char *name, direct_policy *policy)
{
  c->verify = 1;
  c->immutable = sqlite3_uri_boolean(name, "immutable", 0);
  c->no_lock = c->immutable || sqlite3_uri_boolean(name, "nolock", 0);
  int rc = read_switch(name, "pagedb_verify", &c->verify);
  if (rc == SQLITE_OK)
    rc = read_stamps(c, name);
  if (rc == SQLITE_OK)
    rc = read_policy(name, policy);
  return rc;
}

/* A SQLite without test control answers 0. */
static void learn_lock_byte(void)
{
  int at = sqlite3_test_control(SQLITE_TESTCTRL_PENDING_BYTE, 0u);
  atomic_store(&pagedb_globals.lock_byte,
               at > 0 ? (uint64_t)at : PAGEDB_LOCK_BYTE);
}

static int open_database(sqlite3_vfs *vfs, const char *name, conn *c, int flags,
                         int *out_flags)
{
  direct_policy policy;
  int granted = 0, fd = -1;
  memset(c, 0, sizeof *c);
  sqlite3_vfs *parent = parent_for(vfs, name);
  if (parent == NULL)
    return unknown_value(name, "pagedb_parent",
                         sqlite3_uri_parameter(name, "pagedb_parent"),
                         "a registered VFS, but not this one");
  learn_lock_byte();
  int rc = open_options(c, name, &policy);
  if (rc != SQLITE_OK)
    return rc;
  c->name = name;
  c->other_parent = parent != vfs->pAppData;
  size_t at = ((size_t)parent->szOsFile + 7) / 8 * 8;
  c->parent = calloc(1, at + sizeof *c->rest);
  if (c->parent == NULL)
    return SQLITE_NOMEM;
  c->rest = (conn_rest *)((char *)c->parent + at);
  rc = capture_open(parent, name, c->parent, flags, &granted, &fd);
  int opened = rc == SQLITE_OK;
  if (rc == SQLITE_OK)
    rc = shared_attach(c, parent, fd, granted, policy);
  if (rc != SQLITE_OK) {
    if (opened || c->parent->pMethods != NULL)
      c->parent->pMethods->xClose(c->parent);
    free(c->parent);
    c->parent = NULL;
    c->rest = NULL;
    return rc;
  }
  c->read_only = (granted & SQLITE_OPEN_READWRITE) == 0;
  c->shared_cache = (flags & SQLITE_OPEN_SHAREDCACHE) != 0;
  if (c->other_parent)
    atomic_fetch_add(&pagedb_globals.other_parents, 1);
  c->base.pMethods = &methods[c->parent->pMethods->iVersion >= 2 &&
                              c->parent->pMethods->xShmMap != NULL];
  if (out_flags != NULL)
    *out_flags = granted;
  return SQLITE_OK;
}

static int v_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f,
                  int flags, int *out_flags)
{
  sqlite3_vfs *parent = vfs->pAppData;
  conn *c = NULL;
  f->pMethods = NULL;
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0 && name != NULL &&
      (flags & (SQLITE_OPEN_MEMORY | SQLITE_OPEN_DELETEONCLOSE)) == 0)
    return open_database(vfs, name, (conn *)f, flags, out_flags);
  if (name != NULL && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)))
    c = conn_by_name(sqlite3_filename_database(name));
  if (c != NULL && (flags & SQLITE_OPEN_MAIN_JOURNAL) != 0 &&
      (flags & SQLITE_OPEN_READWRITE) != 0)
    c->journal =
        (flags & SQLITE_OPEN_CREATE) != 0 ? JOURNAL_CREATED : JOURNAL_HOT;
  if (c != NULL)
    parent = c->file->parent;
  if (c != NULL && (flags & SQLITE_OPEN_WAL) != 0)
    return wal_observe(f, c, parent, name, flags, out_flags);
  return parent->xOpen(parent, name, f, flags, out_flags);
}

/* -------------------------------------------------------------- pass it on */

static sqlite3_vfs *up(sqlite3_vfs *vfs)
{
  return vfs->pAppData;
}

/* The VFS below for a database's journal or log: that of the database, if its URI
** named another than the default one. */
static sqlite3_vfs *below(sqlite3_vfs *vfs, const char *name)
{
  sqlite3_vfs *parent = up(vfs);
  if (atomic_load(&pagedb_globals.other_parents) == 0 || name == NULL)
    return parent;
  pthread_mutex_lock(&pagedb_globals.lock);
  for (shared *s = pagedb_globals.files; s != NULL; s = s->next)
    for (conn *c = s->conns; c != NULL; c = c->next) {
      size_t n = strlen(c->name);
      if (c->other_parent && strncmp(name, c->name, n) == 0 &&
          (name[n] == 0 || name[n] == '-'))
        parent = s->parent;
    }
  pthread_mutex_unlock(&pagedb_globals.lock);
  return parent;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync_dir)
{
  sqlite3_vfs *parent = below(v, name);
  return parent->xDelete(parent, name, sync_dir);
}

static int v_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
  sqlite3_vfs *parent = below(v, name);
  return parent->xAccess(parent, name, flags, out);
}

static int v_full_pathname(sqlite3_vfs *v, const char *name, int n, char *out)
{
  return up(v)->xFullPathname(up(v), name, n, out);
}

static void *v_dl_open(sqlite3_vfs *v, const char *name)
{
  return up(v)->xDlOpen(up(v), name);
}

static void v_dl_error(sqlite3_vfs *v, int n, char *out)
{
  up(v)->xDlError(up(v), n, out);
}

static void (*v_dl_sym(sqlite3_vfs *v, void *lib, const char *name))(void)
{
  return up(v)->xDlSym(up(v), lib, name);
}

static void v_dl_close(sqlite3_vfs *v, void *lib)
{
  up(v)->xDlClose(up(v), lib);
}

static int v_randomness(sqlite3_vfs *v, int n, char *out)
{
  return up(v)->xRandomness(up(v), n, out);
}

static int v_sleep(sqlite3_vfs *v, int us)
{
  return up(v)->xSleep(up(v), us);
}

static int v_current_time(sqlite3_vfs *v, double *out)
{
  return up(v)->xCurrentTime(up(v), out);
}

static int v_last_error(sqlite3_vfs *v, int n, char *out)
{
  return up(v)->xGetLastError(up(v), n, out);
}

static int v_current_time64(sqlite3_vfs *v, sqlite3_int64 *out)
{
  double days;
  if (up(v)->iVersion >= 2 && up(v)->xCurrentTimeInt64 != NULL)
    return up(v)->xCurrentTimeInt64(up(v), out);
  int rc = up(v)->xCurrentTime(up(v), &days);
  *out = (sqlite3_int64)(days * 86400000.0);
  return rc;
}

static int v_set_call(sqlite3_vfs *v, const char *name, sqlite3_syscall_ptr p)
{
  if (up(v)->iVersion < 3)
    return SQLITE_NOTFOUND;
  return up(v)->xSetSystemCall(up(v), name, p);
}

static sqlite3_syscall_ptr v_get_call(sqlite3_vfs *v, const char *name)
{
  return up(v)->iVersion < 3 ? NULL : up(v)->xGetSystemCall(up(v), name);
}

static const char *v_next_call(sqlite3_vfs *v, const char *name)
{
  return up(v)->iVersion < 3 ? NULL : up(v)->xNextSystemCall(up(v), name);
}

sqlite3_vfs pagedb_vfs = {.iVersion = 3,
                          .zName = "pagedb",
                          .xOpen = v_open,
                          .xDelete = v_delete,
                          .xAccess = v_access,
                          .xFullPathname = v_full_pathname,
                          .xDlOpen = v_dl_open,
                          .xDlError = v_dl_error,
                          .xDlSym = v_dl_sym,
                          .xDlClose = v_dl_close,
                          .xRandomness = v_randomness,
                          .xSleep = v_sleep,
                          .xCurrentTime = v_current_time,
                          .xGetLastError = v_last_error,
                          .xCurrentTimeInt64 = v_current_time64,
                          .xSetSystemCall = v_set_call,
                          .xGetSystemCall = v_get_call,
                          .xNextSystemCall = v_next_call};

/* Room for whichever file: ours, the observer's, any parent's. */
static int file_bytes(void)
{
  int most = (int)sizeof(conn);
  if (most < wal_file_bytes())
    most = wal_file_bytes();
  for (sqlite3_vfs *v = sqlite3_vfs_find(NULL); v != NULL; v = v->pNext)
    if (v != &pagedb_vfs && v->szOsFile > most)
      most = v->szOsFile;
  return most;
}

int vfs_register(const char *parent_name, int make_default)
{
  sqlite3_vfs *parent = sqlite3_vfs_find(parent_name);
  /* sqlite3_initialize makes the platform's VFS the default again; we may be
  ** the default already, and are never our own parent. */
  if (parent == &pagedb_vfs)
    parent = pagedb_vfs.pAppData;
  if (parent == NULL)
    return SQLITE_ERROR;
  /* A second copy of page-db in the process (linked, and loaded as well): one
  ** is enough, and two would each stamp what the other wrote. */
  if (strcmp(parent->zName, pagedb_vfs.zName) == 0) {
    sqlite3_log(SQLITE_NOTICE, "pagedb: registered already, by another copy");
    return SQLITE_OK;
  }
  if (pagedb_vfs.pAppData == NULL) {
    pagedb_vfs.pAppData = parent;
    pagedb_vfs.mxPathname = parent->mxPathname;
    pagedb_vfs.szOsFile = file_bytes();
  }
  capture_install(parent);
  return sqlite3_vfs_register(&pagedb_vfs, make_default);
}
