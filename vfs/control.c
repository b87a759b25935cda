/*
** control.c - xFileControl: what SQLite tells a file besides reading and
** writing, and the PRAGMAs that need the file itself.
**
** A PRAGMA's answer is a string in arg[0], an error's sentence likewise.
*/
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vfs_int.h"

static int parent_control(conn *c, int op, void *arg)
{
  return c->parent->pMethods->xFileControl(c->parent, op, arg);
}

/* ----------------------------------------------------------------- PRAGMAs */

sqlite3_int64 parse_bytes(const char *s)
{
  static const double most = 9e18; /* what fits its type */
  static const struct {
    const char *name;
    int shift;
  } units[] = {{"", 0},    {"k", 10},   {"kb", 10}, {"kib", 10}, {"m", 20},
               {"mb", 20}, {"mib", 20}, {"g", 30},  {"gb", 30},  {"gib", 30},
               {"t", 40},  {"tb", 40},  {"tib", 40}};
  char *end;
  double n = strtod(s, &end);
  while (*end == ' ')
    end++;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
    if (end != s && n >= 0 && strcasecmp(end, units[i].name) == 0) {
      double bytes = n * (double)((sqlite3_int64)1 << units[i].shift);
      return (sqlite3_int64)(bytes < most ? bytes : most);
    }
  return -1;
}

static int set_pool_size(pagedb_pool *pool, const char *size, char **why)
{
  sqlite3_int64 bytes = parse_bytes(size);
  if (bytes < 65536) {
    *why =
        sqlite3_mprintf("pagedb_pool_size: '%s' is not a size of at least "
                        "64 KiB (bytes, or a number with KiB, MiB, GiB, TiB)",
                        size);
    return SQLITE_ERROR;
  }
  if ((uint64_t)bytes > PAGEDB_POOL_MOST) {
    *why = sqlite3_mprintf("pagedb_pool_size: a pool has at most %lld GiB",
                           (sqlite3_int64)(PAGEDB_POOL_MOST >> 30));
    return SQLITE_ERROR;
  }
  int err = pagedb_pool_resize(pool, (uint64_t)bytes, NULL);
  if (err == PAGEDB_ERANGE) {
    *why = sqlite3_mprintf("pagedb_pool_size: the most that this process can "
                           "set now is %lld bytes; a larger pool has to be "
                           "asked for when it starts (PAGEDB_POOL_SIZE)",
                           (sqlite3_int64)pagedb_last_fault()->expected);
    return SQLITE_ERROR;
  }
  atomic_store(&pagedb_globals.pool_quarter, (uint64_t)bytes / 4);
  if (err != PAGEDB_OK) {
    char text[400];
    shared_sentence(pagedb_last_fault(), text, sizeof text);
    *why = sqlite3_mprintf("pagedb_pool_size: set, but pages that had to go "
                           "could not be written: %s",
                           text);
    return SQLITE_IOERR_WRITE;
  }
  return SQLITE_OK;
}

static int pragma_pool_size(conn *c, char **arg)
{
  pagedb_pool_stats st;
  pagedb_pool *pool = pool_get();
  (void)c;
  int rc = arg[2] == NULL ? SQLITE_OK : set_pool_size(pool, arg[2], &arg[0]);
  if (rc != SQLITE_OK)
    return rc;
  pagedb_pool_stats_get(pool, &st);
  arg[0] = sqlite3_mprintf("%lld", (sqlite3_int64)st.capacity_bytes);
  return SQLITE_OK;
}

static int pragma_verify(conn *c, char **arg)
{
  if (arg[2] != NULL) {
    if (sqlite3_stricmp(arg[2], "on") != 0 &&
        sqlite3_stricmp(arg[2], "off") != 0 && strcmp(arg[2], "1") != 0 &&
        strcmp(arg[2], "0") != 0) {
      arg[0] = sqlite3_mprintf("pagedb_verify is on or off, not '%s'", arg[2]);
      return SQLITE_ERROR;
    }
    c->verify = sqlite3_stricmp(arg[2], "on") == 0 || strcmp(arg[2], "1") == 0;
  }
  arg[0] = sqlite3_mprintf("%s", c->verify ? "on" : "off");
  return SQLITE_OK;
}

/* Of a file that nobody has read yet, page 1 is looked at now. */
static int pragma_lsn(conn *c, char **arg)
{
  int taken;
  int rc = lock_for_now(c, &taken);
  uint64_t lsn =
      atomic_load(&c->file->stamped) ? atomic_load(&c->file->past_lsn) : 0;
  unlock_after(c, taken);
  if (rc == SQLITE_OK)
    arg[0] = sqlite3_mprintf("%lld", (sqlite3_int64)lsn);
  return rc;
}

static int pragma_stamp(conn *c, char **arg)
{
  int adopt = arg[2] != NULL && sqlite3_stricmp(arg[2], "adopt") == 0;
  if (arg[2] != NULL && !adopt) {
    arg[0] = sqlite3_mprintf("pagedb_stamp takes no value, or adopt");
    return SQLITE_ERROR;
  }
  return stamp_file(c, adopt, &arg[0]);
}

static int pragma_unstamp(conn *c, char **arg)
{
  int force = arg[2] != NULL && sqlite3_stricmp(arg[2], "force") == 0;
  if (arg[2] != NULL && !force) {
    arg[0] = sqlite3_mprintf("pagedb_unstamp takes no value, or force");
    return SQLITE_ERROR;
  }
  return unstamp_file(c, force, &arg[0]);
}

/*
** PRAGMA page_size=N makes SQLite forget that reserved bytes were asked for,
** and a VACUUM right after it would not convert the file. So it is carried out
** here, by SQLite, and the wish renewed. Below another VFS we cannot tell which
** schema we are, and no wish was made.
**
** In a file that is empty, or that nobody has read yet, SQLite keeps the bytes that
** it gave, or the next lock asks for them: SQLite does it alone, and the statement has
** no column, as without us.
*/
static int pragma_page_size(conn *c, char **arg)
{
  const char *schema;
  if (arg[2] == NULL || c->nested || !c->want_stamps || c->db == NULL ||
      *c->db == NULL || atomic_load(&c->file->stamped) ||
      (schema = conn_schema(c)) == NULL)
    return SQLITE_NOTFOUND;
  if (atomic_load(&c->file->page_size) == 0 && !c->no_lock) {
    c->asked = 0;
    return SQLITE_NOTFOUND;
  }
  char *sql = sqlite3_mprintf("PRAGMA \"%w\".page_size=%Q", schema, arg[2]);
  if (sql == NULL)
    return SQLITE_NOMEM;
  c->nested = 1;
  int rc = sqlite3_exec(*c->db, sql, NULL, NULL, NULL);
  c->nested = 0;
  sqlite3_free(sql);
  c->asked = 0;
  ask_for_reserve(c);
  return rc;
}

static int pragma(conn *c, char **arg)
{
  static const struct {
    const char *name;
    int (*run)(conn *, char **);
  } known[] = {{"pagedb_pool_size", pragma_pool_size},
               {"pagedb_verify", pragma_verify},
               {"pagedb_lsn", pragma_lsn},
               {"pagedb_stamp", pragma_stamp},
               {"pagedb_unstamp", pragma_unstamp},
               {"page_size", pragma_page_size}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (sqlite3_stricmp(arg[1], known[i].name) == 0)
      return known[i].run(c, arg);
  return parent_control(c, SQLITE_FCNTL_PRAGMA, arg);
}

/* ----------------------------------------------------------------- control */

/* Our pool is what SQLite's memory map is: the limit is ours to keep. */
static int mmap_size(conn *c, sqlite3_int64 *arg)
{
  sqlite3_int64 wanted = *arg;
  *arg = c->mmap_limit;
  if (wanted >= 0 && c->fetched == 0)
    c->mmap_limit = wanted;
  return SQLITE_OK;
}

static int vfs_name(conn *c, char **arg)
{
  int rc = parent_control(c, SQLITE_FCNTL_VFSNAME, arg);
  if (rc == SQLITE_OK && *arg != NULL)
    *arg = sqlite3_mprintf("pagedb/%z", *arg);
  else
    *arg = sqlite3_mprintf("pagedb/%s", c->file->parent->zName);
  return SQLITE_OK;
}

static int sync_control(conn *c, void *arg)
{
  int rc = txn_join(c);
  if (rc != SQLITE_OK)
    return rc;
  /* A playback is done; what this connection writes now is new. */
  if (c->lock == SQLITE_LOCK_EXCLUSIVE || c->no_lock) {
    c->journal = JOURNAL_UNSEEN;
    c->reserved = 1;
  }
  return parent_control(c, SQLITE_FCNTL_SYNC, arg);
}

/* In a stamped database, or one that will be, no page may be there that nobody
** wrote: it is not made larger in advance. */
static int grows_by_stamped_pages(const conn *c)
{
  const shared *s = c->file;
  return atomic_load(&s->stamped) ||
         (c->want_stamps && atomic_load(&s->page_size) == 0);
}

/*
** The platform's VFS makes the file larger in steps, where chunks were asked for: it
** writes a byte into each block behind the end that it finds. Pages that stand there
** already are ours, and not all of them may be in the file yet, so all that is dirty
** is written first. What cannot be written stays dirty for the join, which tells; the
** space in advance is only a wish. A cut leaves a longer file, and a journal that has
** the size from before, to which playback cuts it.
*/
static int size_control(conn *c, int op, void *arg)
{
  shared *s = c->file;
  if (grows_by_stamped_pages(c))
    return SQLITE_OK;
  if (op == SQLITE_FCNTL_CHUNK_SIZE)
    atomic_store(&s->chunks, 1);
  else if (atomic_load(&s->chunks) && atomic_load(&s->writer) == c &&
           behind_flush(c) != PAGEDB_OK)
    return SQLITE_OK;
  return parent_control(c, op, arg);
}

int x_control(sqlite3_file *f, int op, void *arg)
{
  conn *c = (conn *)f;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  switch (op) {
  case SQLITE_FCNTL_SYNC:
    return sync_control(c, arg);
  case SQLITE_FCNTL_COMMIT_PHASETWO:
    txn_committed(c);
    break;
  case SQLITE_FCNTL_OVERWRITE:
    txn_vacuum(c);
    break;
  case SQLITE_FCNTL_CKPT_START:
    ckpt_start(c);
    break;
  case SQLITE_FCNTL_CKPT_DONE:
    ckpt_done(c);
    break;
  case SQLITE_FCNTL_PDB:
    c->db = arg;
    break;
  case SQLITE_FCNTL_MMAP_SIZE:
    return mmap_size(c, arg);
  case SQLITE_FCNTL_VFSNAME:
    return vfs_name(c, arg);
  case SQLITE_FCNTL_PRAGMA:
    return pragma(c, arg);
  case SQLITE_FCNTL_SIZE_HINT:
  case SQLITE_FCNTL_CHUNK_SIZE:
    return size_control(c, op, arg);
  /* Our writes are not in the parent's batch. */
  case SQLITE_FCNTL_BEGIN_ATOMIC_WRITE:
  case SQLITE_FCNTL_COMMIT_ATOMIC_WRITE:
  case SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE:
    return SQLITE_NOTFOUND;
  default:
    break;
  }
  return parent_control(c, op, arg);
}
