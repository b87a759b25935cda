/*
** lock.c - locks, shared memory, and whether what the pool holds is still true.
**
** The pool's pages of a file belong to one state of it: 16 bytes at offset 24
** and the file's size in rollback mode, in WAL mode also the salts and the
** backfill of the wal-index. Another process that changes the file changes the
** state. So:
**
**   SHARED obtained      read header and size, compare (state_check)
**   barrier after a WAL  compare salts and backfill (wal_compare). Not at the
**   read lock            lock itself: SQLite reads nBackfill after it, and a
**                        checkpoint in between would go unnoticed.
**   CKPT, WRITE taken    compare, too: what changes from here on is ours:
**   and released         backfill under CKPT, salts under WRITE (a foreign
**                        checkpoint can run while we hold WRITE)
**
** Where the state differs, one bump of the pool's epoch forgets all pages;
** those that are pinned keep the content that their readers' snapshots have.
**
** Continuity: a WAL that was deleted and made anew looks like the old one, and
** WAL commits need not touch the 16 bytes. So when no connection of the process
** has the wal-index mapped with SHARED held, the state is unknown, and the next
** lock forgets everything. While one has, the log is neither deleted nor made anew:
** salts of zero then say that nothing was ever written to it, and who writes to it
** first draws salts at random. SQLite's own cache of a connection relies on the same;
** ours lasts longer. Only a wal-index that somebody damages while the log is empty,
** and another process recovers, can bring the zeros back unnoticed.
**
** Dirty pages exist only under EXCLUSIVE. What is left of them when it is given
** up was never joined: another process may roll the journal back from here on,
** so they are thrown away, and writes under way are waited for, *before* the
** parent's lock goes.
*/
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

/* WAL locks (SQLite's walformat, section 2). */
enum {
  WAL_WRITE_LOCK = 0,
  WAL_CKPT_LOCK = 1,
  WAL_RECOVER_LOCK = 2,
  WAL_READ_LOCKS = 3
};

static int methods_lock(conn *c, int level)
{
  return c->parent->pMethods->xLock(c->parent, level);
}

static int methods_unlock(conn *c, int level)
{
  return c->parent->pMethods->xUnlock(c->parent, level);
}

/* ------------------------------------------------------------------- state */

int read_record(shared *s, uint32_t size, uint64_t id, pagedb_record *r,
                int *has)
{
  uint8_t tail[PAGEDB_RECORD_SIZE];
  size_t got = 0;
  int err = io_read(s, tail, sizeof tail, (id + 1) * size - sizeof tail, &got);
  *has = 0;
  if (err == PAGEDB_OK && got == sizeof tail) {
    pagedb_record_get(tail, sizeof tail, PAGEDB_TRAILING, r);
    *has = r->magic == PAGEDB_MAGIC && r->page == id;
  }
  return err;
}

/* A page 1 whose header is none may be a damaged one: its record tells its size. */
static int size_by_record(shared *s, pagedb_record *r, uint32_t *size, int *has)
{
  int err = PAGEDB_OK;
  *has = 0;
  for (*size = 512; err == PAGEDB_OK && *size <= 65536; *size *= 2) {
    err = read_record(s, *size, 0, r, has);
    if (*has)
      return err;
  }
  *size = 0;
  return err;
}

int state_learn(shared *s, const header *h)
{
  pagedb_record r = {0};
  int has = 0, err = PAGEDB_OK;
  uint32_t size = h->page_size;
  if (!h->valid)
    err = size_by_record(s, &r, &size, &has);
  else if (h->write_version > 2)
    err = read_record(s, size, 0, &r, &has);
  if (err == PAGEDB_OK)
    err = shared_set_page_size(s, size);
  if (err != PAGEDB_OK)
    return err;
  int broken =
      h->valid ? header_is_broken(h->write_version, (uint8_t)h->reserve, has)
               : has;
  int stamped = header_stamped(h) || broken;
  if (atomic_load(&s->stamped) && h->valid && !stamped)
    sqlite3_log(SQLITE_NOTICE,
                "pagedb: %s: is plain now: another process unstamped or "
                "replaced it",
                s->path);
  atomic_store(&s->stamped, stamped);
  atomic_store(&s->guard_is_left, h->valid && h->guard && !stamped);
  atomic_store(&s->wal, h->valid && h->wal);
  if (has)
    shared_saw_lsn(s, r.lsn);
  atomic_store(&s->count, h->count);
  return PAGEDB_OK;
}

/*
** Stock SQLite that recovers our journal or log may put a page 1 without guard
** into a stamped file. Page 1 has lost its record then, too, for SQLite's images
** of it have none; others have theirs. A page 1 with a record and without the
** guard is our own work: the file was unstamped, or its stamping was cut short
** before the guard.
*/
static int lost_its_guard(shared *s, const header *h, const uint8_t *page1)
{
  enum {
    LOOKS = 64
  }; /* a log may have brought in most pages, without records */
  pagedb_record r;
  int has = 0;
  if (!h->valid || h->reserve != PAGEDB_RECORD_SIZE || h->write_version > 2)
    return 0;
  pagedb_record_get(page1, h->page_size, PAGEDB_TRAILING, &r);
  if (r.magic == PAGEDB_MAGIC)
    return 0;
  uint64_t others = h->count > 1 ? h->count - 1 : 1;
  uint64_t step = others > LOOKS ? others / LOOKS : 1;
  for (uint64_t id = others; id > 0 && !has; id -= id < step ? id : step)
    if (read_record(s, h->page_size, id, &r, &has) != PAGEDB_OK)
      return 0;
  return has;
}

void look_for_lost_guard(shared *s, const uint8_t *page1, size_t n)
{
  header h;
  header_parse(page1, n, &h);
  pthread_mutex_lock(&s->lock);
  int known = s->lost_guard_known &&
              memcmp(s->lost_guard_version, page1 + HEADER_CHANGE_COUNTER,
                     VERSION_BYTES) == 0;
  int lost = known && s->lost_guard;
  pthread_mutex_unlock(&s->lock);
  int left = atomic_load(&s->guard_is_left);
  if (known && !left)
    return;
  if (!known)
    lost = n == h.page_size && lost_its_guard(s, &h, page1);
  pthread_mutex_lock(&s->lock);
  if (lost && !s->lost_guard)
    shared_note(s,
                "is plain, but was stamped: stock SQLite recovered or rewrote "
                "it. `pagedb stamp` makes it stamped again");
  if (left && !s->lost_guard)
    shared_note(s,
                "was replaced by a plain database, and still has its guard: "
                "stock SQLite does not write it before page-db has done so, or "
                "`pagedb unstamp`");
  s->lost_guard = lost || left;
  s->lost_guard_known = !left;
  memcpy(s->lost_guard_version, page1 + HEADER_CHANGE_COUNTER, VERSION_BYTES);
  pthread_mutex_unlock(&s->lock);
}

/* Under s->lock, before the state is changed: what connections know of it is worth
** nothing. */
static void state_changes(shared *s)
{
  atomic_fetch_add(&s->state_number, 1);
}

void state_forget(shared *s)
{
  pthread_mutex_lock(&s->lock);
  state_changes(s);
  s->state.valid = 0;
  s->state.wal_valid = 0;
  pthread_mutex_unlock(&s->lock);
}

void state_ours(shared *s, const uint8_t *version)
{
  uint64_t bytes = 0;
  int err = io_size(s, &bytes);
  pthread_mutex_lock(&s->lock);
  state_changes(s);
  if (err != PAGEDB_OK)
    s->state.valid = 0;
  s->state.bytes = bytes;
  if (version != NULL)
    memcpy(s->state.version, version, VERSION_BYTES);
  pthread_mutex_unlock(&s->lock);
}

void state_grew(shared *s, const uint8_t *version, uint64_t end)
{
  pthread_mutex_lock(&s->lock);
  state_changes(s);
  if (end > s->state.bytes)
    s->state.bytes = end;
  if (version != NULL)
    memcpy(s->state.version, version, VERSION_BYTES);
  pthread_mutex_unlock(&s->lock);
}

/* Under s->lock: the file is not what it was. */
static int state_renew(shared *s, const conn *c, uint64_t bytes)
{
  header h;
  header_parse(c->rest->head, c->rest->head_bytes, &h);
  state_changes(s);
  shared_invalidate(s);
  s->state.valid = 0;
  int err = state_learn(s, &h);
  if (err != PAGEDB_OK)
    return err;
  s->state.valid = 1;
  s->state.wal_valid = 0;
  s->state.bytes = bytes;
  memcpy(s->state.version, c->rest->head + HEADER_CHANGE_COUNTER,
         VERSION_BYTES);
  return PAGEDB_OK;
}

static int is_state(const state *t, const conn *c, uint64_t bytes)
{
  return t->valid && t->bytes == bytes &&
         memcmp(t->version, c->rest->head + HEADER_CHANGE_COUNTER,
                VERSION_BYTES) == 0;
}

/*
** Every transaction comes by here, and most find what this connection found the
** last time: then nobody is waited for. Whoever changes the state raises its number
** first: with the number of last time, the comparison is the one that would have
** been made under the lock before that change.
*/
static int state_compare(conn *c, uint64_t bytes)
{
  shared *s = c->file;
  int err = PAGEDB_OK;
  if (atomic_load(&s->state_number) == c->rest->seen_number &&
      is_state(&c->rest->seen, c, bytes))
    return PAGEDB_OK;
  pthread_mutex_lock(&s->lock);
  if (!s->state.valid ||
      (!is_state(&s->state, c, bytes) && RULE_IS_ON(RULE_COMPARE)))
    err = state_renew(s, c, bytes);
  c->rest->seen = s->state;
  c->rest->seen_number = atomic_load(&s->state_number);
  pthread_mutex_unlock(&s->lock);
  return err;
}

int state_check(conn *c)
{
  shared *s = c->file;
  uint64_t bytes = 0;
  size_t got = 0;
  int err = io_header(s, c->rest->head, &got);
  c->rest->head_bytes = (unsigned)got;
  if (err == PAGEDB_OK)
    err = io_size(s, &bytes);
  if (err != PAGEDB_OK)
    return err;
  c->fresh = 1;
  c->size_known = 1;
  c->size = bytes;
  return state_compare(c, bytes);
}

/* --------------------------------------------------------------------- WAL */

/* Under s->lock: remember what the wal-index says. */
static void wal_record(shared *s, const volatile uint32_t *shm)
{
  s->state.salt[0] = shm[INDEX_SALT];
  s->state.salt[1] = shm[INDEX_SALT + 1];
  s->state.backfill = shm[INDEX_BACKFILL];
  s->state.wal_valid = 1;
}

/* Under s->lock: whether the wal-index says what it said, or differs by what a
** connection of this process is just doing. */
static int wal_is_known(const shared *s, const volatile uint32_t *shm)
{
  const state *t = &s->state;
  uint32_t backfill = shm[INDEX_BACKFILL];
  if (!t->wal_valid)
    return 0;
  if (shm[INDEX_SALT] != t->salt[0] || shm[INDEX_SALT + 1] != t->salt[1])
    return s->write_holder != NULL && backfill == 0;
  return backfill == t->backfill ||
         (s->ckpt_holder != NULL && backfill > t->backfill);
}

/* Under s->lock: somebody else's checkpoint may have changed page 1. SHARED is
** held throughout in WAL mode, so state_check does not come by again. */
static void wal_learn(shared *s)
{
  uint8_t head[HEADER_BYTES];
  header h = {0};
  int err = header_read(s, head, &h);
  if (err == PAGEDB_OK && h.valid)
    err = state_learn(s, &h);
  if (err != PAGEDB_OK) {
    atomic_store(&s->count, 0); /* unknown: no page is behind the end */
    s->state.wal_valid = 0;
  }
}

static void wal_compare(conn *c)
{
  shared *s = c->file;
  pthread_mutex_lock(&s->lock);
  if (c->shm == NULL) {
    /* There is no wal-index yet, or a read-only one that nobody looks after:
    ** nothing that could be compared. */
    if (RULE_IS_ON(RULE_CONTINUITY)) {
      shared_invalidate(s);
      s->state.wal_valid = 0;
    }
  } else if (!wal_is_known(s, c->shm)) {
    shared_invalidate(s);
    wal_record(s, c->shm);
    wal_learn(s);
  }
  pthread_mutex_unlock(&s->lock);
}

/* Whether a connection has the wal-index mapped and SHARED held. */
static void continuity(conn *c)
{
  shared *s = c->file;
  int now = c->shm != NULL && c->lock >= SQLITE_LOCK_SHARED;
  if (!RULE_IS_ON(RULE_CONTINUITY))
    return;
  /* Nothing about a WAL: most locks end here. */
  if (!now && !c->shared_wal && !atomic_load(&s->wal))
    return;
  pthread_mutex_lock(&s->lock);
  state_changes(s);
  if (now && !c->shared_wal)
    s->wal_conns++;
  if (!now && c->shared_wal && --s->wal_conns == 0)
    s->state.valid = s->state.wal_valid = 0;
  if (c->lock == SQLITE_LOCK_NONE && atomic_load(&s->wal) && s->wal_conns == 0)
    s->state.valid = s->state.wal_valid = 0;
  c->shared_wal = now;
  pthread_mutex_unlock(&s->lock);
}

/* Regions stay where they are until xShmUnmap. Without memory for the list only
** what is found in it goes the slower way. */
static void region_note(conn *c, int region, volatile uint32_t *at)
{
  if (region == 0)
    c->shm = at;
  if (region >= c->rest->nregions) {
    size_t room = (size_t)region + 16;
    volatile uint32_t **more = realloc(c->rest->regions, room * sizeof *more);
    if (more == NULL)
      return;
    for (size_t i = (size_t)c->rest->nregions; i < room; i++)
      more[i] = NULL;
    c->rest->regions = more;
    c->rest->nregions = (int)room;
  }
  c->rest->regions[region] = at;
}

/* In a forked child what is given back is the parent VFS's business alone: our
** locks may be held for ever, and reads under way are another process's. */
int x_shm_map(sqlite3_file *f, int region, int bytes, int extend,
              void volatile **out)
{
  conn *c = (conn *)f;
  *out = NULL;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  int rc = c->parent->pMethods->xShmMap(c->parent, region, bytes, extend, out);
  if (*out != NULL && (rc == SQLITE_OK || rc == SQLITE_READONLY))
    region_note(c, region, *out);
  continuity(c);
  return rc;
}

static int covers(int offset, int n, int lock)
{
  return offset <= lock && lock < offset + n;
}

/* Before a lock is released: what changed under it was our doing. */
static void wal_releasing(conn *c, int offset, int n)
{
  shared *s = c->file;
  pthread_mutex_lock(&s->lock);
  if (covers(offset, n, WAL_WRITE_LOCK) && s->write_holder == c) {
    s->write_holder = NULL;
    if (c->shm != NULL && (c->shm[INDEX_SALT] != s->state.salt[0] ||
                           c->shm[INDEX_SALT + 1] != s->state.salt[1])) {
      wal_record(s, c->shm);
      s->state.backfill = 0;
    } else if (c->shm != NULL && !RULE_IS_ON(RULE_OWN_CKPT)) {
      s->state.backfill = c->shm[INDEX_BACKFILL];
    }
  }
  if (covers(offset, n, WAL_CKPT_LOCK) && s->ckpt_holder == c) {
    s->ckpt_holder = NULL;
    if (c->shm != NULL && c->shm[INDEX_SALT] == s->state.salt[0] &&
        c->shm[INDEX_SALT + 1] == s->state.salt[1])
      s->state.backfill = c->shm[INDEX_BACKFILL];
  }
  pthread_mutex_unlock(&s->lock);
}

static void wal_locked(conn *c, int offset, int n, int exclusive)
{
  shared *s = c->file;
  if (!exclusive) {
    c->wal_check = offset >= WAL_READ_LOCKS && RULE_IS_ON(RULE_BARRIER);
    if (c->shm == NULL || (offset >= WAL_READ_LOCKS && !c->wal_check))
      wal_compare(c);
    if (pagedb_globals.after_wal_read_lock != NULL)
      pagedb_globals.after_wal_read_lock();
    return;
  }
  if (!covers(offset, n, WAL_WRITE_LOCK) && !covers(offset, n, WAL_CKPT_LOCK))
    return;
  wal_compare(c);
  pthread_mutex_lock(&s->lock);
  if (covers(offset, n, WAL_WRITE_LOCK))
    s->write_holder = c;
  if (covers(offset, n, WAL_CKPT_LOCK))
    s->ckpt_holder = c;
  pthread_mutex_unlock(&s->lock);
}

/* Who recovers the log may find another one than there was, and the database
** replaced with it, as SQLite's superlock does: equal words prove nothing. */
static void wal_recovering(shared *s)
{
  if (!RULE_IS_ON(RULE_CONTINUITY))
    return;
  pthread_mutex_lock(&s->lock);
  s->state.wal_valid = 0;
  pthread_mutex_unlock(&s->lock);
}

int x_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
  conn *c = (conn *)f;
  if (conn_is_inherited(c))
    return (flags & SQLITE_SHM_UNLOCK) != 0
               ? c->parent->pMethods->xShmLock(c->parent, offset, n, flags)
               : SQLITE_MISUSE;
  if ((flags & SQLITE_SHM_UNLOCK) != 0 && offset <= WAL_CKPT_LOCK)
    wal_releasing(c, offset, n);
  if ((flags & SQLITE_SHM_UNLOCK) != 0 && offset >= WAL_READ_LOCKS)
    ahead_stop(c);
  if ((flags & SQLITE_SHM_EXCLUSIVE) != 0 &&
      covers(offset, n, WAL_RECOVER_LOCK))
    wal_recovering(c->file);
  int rc = c->parent->pMethods->xShmLock(c->parent, offset, n, flags);
  if (rc == SQLITE_OK && (flags & SQLITE_SHM_LOCK) != 0)
    wal_locked(c, offset, n, (flags & SQLITE_SHM_EXCLUSIVE) != 0);
  return rc;
}

void x_shm_barrier(sqlite3_file *f)
{
  conn *c = (conn *)f;
  c->parent->pMethods->xShmBarrier(c->parent);
  if (c->wal_check && !conn_is_inherited(c)) {
    c->wal_check = 0;
    wal_compare(c);
  }
}

int x_shm_unmap(sqlite3_file *f, int delete_it)
{
  conn *c = (conn *)f;
  int ours = !conn_is_inherited(c);
  if (ours) {
    wal_releasing(c, 0, WAL_READ_LOCKS);
    ahead_stop(c);
  }
  c->shm = NULL;
  free((void *)c->rest->regions);
  c->rest->regions = NULL;
  c->rest->nregions = 0;
  if (ours)
    continuity(c);
  return c->parent->pMethods->xShmUnmap(c->parent, delete_it);
}

/* ------------------------------------------------------------------- locks */

const char *conn_schema(conn *c)
{
  for (int i = 0; c->db != NULL && *c->db != NULL; i++) {
    const char *schema = sqlite3_db_name(*c->db, i);
    sqlite3_file *f = NULL;
    if (schema == NULL)
      break;
    if (sqlite3_file_control(*c->db, schema, SQLITE_FCNTL_FILE_POINTER, &f) ==
            SQLITE_OK &&
        f == &c->base)
      return schema;
  }
  return NULL;
}

/*
** Ask for 32 reserved bytes: a new database is then born with them, and VACUUM
** gives them to an old one. SQLite takes the wish only through its own
** interface, by schema name, so the schema that this file belongs to is looked
** up. Only while the connection's own call is under way, whose mutex is held.
*/
void ask_for_reserve(conn *c)
{
  if (c->asked || !c->want_stamps || c->read_only || c->db == NULL ||
      *c->db == NULL || atomic_load(&c->file->stamped))
    return;
  c->asked = 1;
  int bytes = -1;
  const char *schema = conn_schema(c);
  if (schema == NULL)
    return;
  sqlite3_file_control(*c->db, schema, SQLITE_FCNTL_RESERVE_BYTES, &bytes);
  /* 32 may be what an empty file had when it was asked for before. */
  if (bytes == 0 || bytes == PAGEDB_RECORD_SIZE) {
    bytes = PAGEDB_RECORD_SIZE;
    sqlite3_file_control(*c->db, schema, SQLITE_FCNTL_RESERVE_BYTES, &bytes);
  }
}

int x_lock(sqlite3_file *f, int level)
{
  conn *c = (conn *)f;
  int before = c->lock;
  if (conn_is_inherited(c))
    return SQLITE_MISUSE;
  int rc = methods_lock(c, level);
  if (rc != SQLITE_OK)
    return rc;
  c->lock = level > before ? level : before;
  c->fresh = c->size_known = 0;
  if (level >= SQLITE_LOCK_RESERVED && level < SQLITE_LOCK_EXCLUSIVE)
    c->reserved = 1;
  if (before >= SQLITE_LOCK_SHARED)
    return SQLITE_OK;
  int err = state_check(c);
  if (err != PAGEDB_OK) {
    methods_unlock(c, SQLITE_LOCK_NONE);
    c->lock = SQLITE_LOCK_NONE;
    return shared_report(c->file, err, SQLITE_IOERR_READ);
  }
  continuity(c);
  ask_for_reserve(c);
  return SQLITE_OK;
}

int x_unlock(sqlite3_file *f, int level)
{
  conn *c = (conn *)f;
  /* Locks are not inherited, and a mutex may be held for ever. */
  if (conn_is_inherited(c))
    return SQLITE_OK;
  if (level >= c->lock)
    return methods_unlock(c, level);
  txn_abandon(c);
  if (level == SQLITE_LOCK_NONE)
    ahead_stop(c);
  if (c->lock >= SQLITE_LOCK_RESERVED)
    c->overwrite = 0;
  c->fresh = c->size_known = 0;
  c->lock = level;
  if (level <= SQLITE_LOCK_SHARED) {
    c->reserved = 0;
    c->journal = JOURNAL_UNSEEN;
  }
  continuity(c);
  return methods_unlock(c, level);
}

int lock_for_now(conn *c, int *taken)
{
  *taken = c->lock == SQLITE_LOCK_NONE && !c->no_lock;
  return *taken ? x_lock(&c->base, SQLITE_LOCK_SHARED) : SQLITE_OK;
}

void unlock_after(conn *c, int taken)
{
  if (taken && c->lock != SQLITE_LOCK_NONE)
    x_unlock(&c->base, SQLITE_LOCK_NONE);
}

int x_check_reserved(sqlite3_file *f, int *out)
{
  conn *c = (conn *)f;
  return c->parent->pMethods->xCheckReservedLock(c->parent, out);
}
