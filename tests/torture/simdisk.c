/*
** simdisk.c - see simdisk.h: the disk, its log, and the VFS above it.
*/
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "simdisk.h"

enum { SHM_LOCKS = SQLITE_SHM_NLOCK, SHM_REGIONS = 64 };

typedef struct file {
  unsigned char *bytes;
  size_t n, room;
  unsigned char *base; /* when the log began */
  size_t base_n;
  /* What the connections of the process hold. */
  int shared;   /* handles with SHARED or more */
  void *writer; /* handle with RESERVED or more */
  void *barred; /* handle with PENDING or EXCLUSIVE */
  unsigned maps;
  void *region[SHM_REGIONS];
  int readers[SHM_LOCKS];
  void *owner[SHM_LOCKS];
} file;

typedef struct entry {
  char *name;
  int file; /* -1: none */
  int base;
} entry;

struct simdisk {
  file **files;
  unsigned nfiles;
  entry *entries;
  unsigned nentries;
  disk_op *log;
  size_t nlog, room;
  int recording;
};

void *(*simdisk_realloc)(void *p, size_t bytes) = realloc;

static void *grown(void *p, size_t bytes)
{
  void *more = simdisk_realloc(p, bytes);
  if (more == NULL)
    abort();
  return more;
}

static void *copy_of(const void *p, size_t n)
{
  void *copy = grown(NULL, n + 1);
  if (n > 0)
    memcpy(copy, p, n);
  return copy;
}

/* ------------------------------------------------------------------- files */

simdisk *simdisk_new(void)
{
  simdisk *d = grown(NULL, sizeof *d);
  *d = (simdisk){0};
  return d;
}

static void log_clear(simdisk *d)
{
  for (size_t i = 0; i < d->nlog; i++)
    free(d->log[i].data);
  free(d->log);
  d->log = NULL;
  d->nlog = d->room = 0;
}

void simdisk_free(simdisk *d)
{
  if (d == NULL)
    return;
  for (unsigned i = 0; i < d->nfiles; i++) {
    free(d->files[i]->bytes);
    free(d->files[i]->base);
    free(d->files[i]);
  }
  for (unsigned i = 0; i < d->nentries; i++)
    free(d->entries[i].name);
  log_clear(d);
  free(d->files);
  free(d->entries);
  free(d);
}

/* There is one directory: what stands before a name is not looked at. */
static const char *last_part(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

static int name_of(const simdisk *d, const char *path)
{
  const char *name = last_part(path);
  for (unsigned i = 0; i < d->nentries; i++)
    if (strcmp(d->entries[i].name, name) == 0)
      return (int)i;
  return -1;
}

int simdisk_find(const simdisk *d, const char *name)
{
  int i = name_of(d, name);
  return i < 0 ? -1 : d->entries[i].file;
}

unsigned simdisk_names(const simdisk *d)
{
  return d->nentries;
}

const char *simdisk_name(const simdisk *d, unsigned name)
{
  return d->entries[name].name;
}

int simdisk_entry(const simdisk *d, unsigned name)
{
  return d->entries[name].file;
}

unsigned simdisk_files(const simdisk *d)
{
  return d->nfiles;
}

const unsigned char *simdisk_bytes(const simdisk *d, unsigned f, size_t *n)
{
  *n = d->files[f]->n;
  return d->files[f]->bytes;
}

static void log_op(simdisk *d, disk_op op, const void *data)
{
  if (!d->recording)
    return;
  if (d->nlog == d->room) {
    d->room = d->room * 2 + 64;
    d->log = grown(d->log, d->room * sizeof *d->log);
  }
  if (data != NULL)
    op.data = copy_of(data, op.n);
  d->log[d->nlog++] = op;
}

unsigned simdisk_create_nameless(simdisk *d)
{
  d->files = grown(d->files, (d->nfiles + 1) * sizeof *d->files);
  d->files[d->nfiles] = grown(NULL, sizeof(file));
  *d->files[d->nfiles] = (file){0};
  return d->nfiles++;
}

unsigned simdisk_create(simdisk *d, const char *name)
{
  unsigned f = simdisk_create_nameless(d);
  int i = name_of(d, name);
  name = last_part(name);
  if (i < 0) {
    d->entries = grown(d->entries, (d->nentries + 1) * sizeof *d->entries);
    i = (int)d->nentries++;
    d->entries[i] =
        (entry){.name = copy_of(name, strlen(name) + 1), .base = -1};
  }
  d->entries[i].file = (int)f;
  log_op(d, (disk_op){.kind = OP_CREATE, .name = (unsigned)i, .file = f}, NULL);
  return f;
}

void simdisk_delete(simdisk *d, const char *name)
{
  int i = name_of(d, name);
  if (i < 0 || d->entries[i].file < 0)
    return;
  d->entries[i].file = -1;
  log_op(d, (disk_op){.kind = OP_DELETE, .name = (unsigned)i}, NULL);
}

static void resize(file *f, size_t n)
{
  if (n > f->room) {
    f->room = n * 2 + 4096;
    f->bytes = grown(f->bytes, f->room);
  }
  if (n > f->n)
    memset(f->bytes + f->n, 0, n - f->n);
  f->n = n;
}

void simdisk_write(simdisk *d, unsigned f, const void *buf, size_t n,
                   uint64_t off)
{
  file *x = d->files[f];
  if (off + n > x->n)
    resize(x, (size_t)off + n);
  if (n > 0)
    memcpy(x->bytes + off, buf, n);
  log_op(d, (disk_op){.kind = OP_WRITE, .file = f, .off = off, .n = n}, buf);
}

void simdisk_truncate(simdisk *d, unsigned f, uint64_t bytes)
{
  resize(d->files[f], (size_t)bytes);
  log_op(d, (disk_op){.kind = OP_TRUNCATE, .file = f, .off = bytes}, NULL);
}

void simdisk_sync(simdisk *d, unsigned f)
{
  log_op(d, (disk_op){.kind = OP_SYNC, .file = f}, NULL);
}

void simdisk_sync_dir(simdisk *d)
{
  log_op(d, (disk_op){.kind = OP_SYNC_DIR}, NULL);
}

void simdisk_mark(simdisk *d, unsigned kind, uint64_t number)
{
  log_op(d, (disk_op){.kind = OP_MARK, .off = number, .n = kind}, NULL);
}

simdisk *simdisk_clone(const simdisk *d)
{
  simdisk *c = simdisk_new();
  for (unsigned i = 0; i < d->nentries; i++)
    if (d->entries[i].file >= 0) {
      const file *f = d->files[d->entries[i].file];
      simdisk_write(c, simdisk_create(c, d->entries[i].name),
                    f->n > 0 ? f->bytes : (const void *)"", f->n, 0);
    }
  return c;
}

/* -------------------------------------------------------------------- log */

void simdisk_record(simdisk *d)
{
  log_clear(d);
  d->recording = 1;
  for (unsigned i = 0; i < d->nfiles; i++) {
    free(d->files[i]->base);
    d->files[i]->base = copy_of(d->files[i]->bytes, d->files[i]->n);
    d->files[i]->base_n = d->files[i]->n;
  }
  for (unsigned i = 0; i < d->nentries; i++)
    d->entries[i].base = d->entries[i].file;
}

const disk_op *simdisk_log(const simdisk *d, size_t *n)
{
  *n = d->nlog;
  return d->log;
}

const unsigned char *simdisk_base(const simdisk *d, unsigned f, size_t *n)
{
  *n = d->files[f]->base_n;
  return d->files[f]->base;
}

int simdisk_base_entry(const simdisk *d, unsigned name)
{
  return d->entries[name].base;
}

/* ------------------------------------------------------------------ faults */

static struct {
  disk_fault kind;
  unsigned left; /* 0: none planned */
  int on;
  unsigned hits;
  unsigned databases;
} fault;

const char *disk_fault_name(disk_fault kind)
{
  static const char *const names[DISK_FAULTS] = {
      "open",     "read",     "short-read", "write", "short-write",
      "sync",     "truncate", "size",       "lock",  "shm-map",
      "shm-lock", "delete",   "access"};
  return names[kind];
}

void simdisk_fail(disk_fault kind, unsigned n, int from_then_on)
{
  fault.kind = kind;
  fault.left = n;
  fault.on = from_then_on;
  fault.hits = fault.databases = 0;
}

void simdisk_pause(void)
{
  fault.left = 0;
}

unsigned simdisk_failed(void)
{
  return fault.hits;
}

unsigned simdisk_failed_databases(void)
{
  return fault.databases;
}

/* Journals, logs and super-journals have a dash in their names. */
static int is_database(const char *name)
{
  return name != NULL && strchr(name, '-') == NULL;
}

static int fails(disk_fault kind, const char *name)
{
  if (fault.left == 0 || fault.kind != kind || --fault.left > 0)
    return 0;
  fault.left = (unsigned)fault.on;
  fault.hits++;
  fault.databases += (unsigned)is_database(name);
  return 1;
}

/* -------------------------------------------------------------- file handle */

typedef struct handle {
  sqlite3_file base;
  simdisk *disk;
  unsigned file;
  int level; /* SQLITE_LOCK_* */
  int mapped;
  unsigned shared, exclusive; /* locks of shared memory, as bits */
  int sync_dir;               /* the first sync makes the entry durable, too */
  const char *name;           /* SQLite's, or NULL */
  char *dies;                 /* name to delete at close, or NULL */
} handle;

static unsigned open_files;

static file *of(const handle *h)
{
  return h->disk->files[h->file];
}

static void release_shm(handle *h)
{
  file *f = of(h);
  for (int i = 0; i < SHM_LOCKS; i++) {
    if (h->shared >> i & 1)
      f->readers[i]--;
    if (h->exclusive >> i & 1)
      f->owner[i] = NULL;
  }
  h->shared = h->exclusive = 0;
}

static int s_unlock(sqlite3_file *p, int level)
{
  handle *h = (handle *)p;
  file *f = of(h);
  if (level >= h->level)
    return SQLITE_OK;
  if (f->writer == h && level < SQLITE_LOCK_RESERVED)
    f->writer = NULL;
  if (f->barred == h && level < SQLITE_LOCK_PENDING)
    f->barred = NULL;
  if (level == SQLITE_LOCK_NONE)
    f->shared--;
  h->level = level;
  return SQLITE_OK;
}

static int s_lock(sqlite3_file *p, int level)
{
  handle *h = (handle *)p;
  file *f = of(h);
  if (level <= h->level)
    return SQLITE_OK;
  if (fails(DISK_LOCK, ((handle *)p)->name))
    return SQLITE_IOERR_LOCK;
  if ((f->barred != NULL && f->barred != h) ||
      (level > SQLITE_LOCK_SHARED && f->writer != NULL && f->writer != h))
    return SQLITE_BUSY;
  if (level == SQLITE_LOCK_SHARED) {
    f->shared++;
  } else {
    f->writer = h;
    if (level >= SQLITE_LOCK_PENDING)
      f->barred = h;
    if (level == SQLITE_LOCK_EXCLUSIVE && f->shared > 1) {
      h->level = SQLITE_LOCK_PENDING;
      return SQLITE_BUSY;
    }
  }
  h->level = level;
  return SQLITE_OK;
}

static int s_check_reserved(sqlite3_file *p, int *out)
{
  if (fails(DISK_LOCK, ((handle *)p)->name))
    return SQLITE_IOERR_CHECKRESERVEDLOCK;
  *out = of((handle *)p)->writer != NULL;
  return SQLITE_OK;
}

static int s_shm_unmap(sqlite3_file *p, int delete_it)
{
  handle *h = (handle *)p;
  file *f = of(h);
  (void)delete_it;
  release_shm(h);
  if (h->mapped && --f->maps == 0)
    for (int i = 0; i < SHM_REGIONS; i++) {
      free(f->region[i]);
      f->region[i] = NULL;
    }
  h->mapped = 0;
  return SQLITE_OK;
}

static int s_close(sqlite3_file *p)
{
  handle *h = (handle *)p;
  s_shm_unmap(p, 0);
  s_unlock(p, SQLITE_LOCK_NONE);
  if (h->dies != NULL)
    simdisk_delete(h->disk, h->dies);
  free(h->dies);
  h->base.pMethods = NULL;
  open_files--;
  return SQLITE_OK;
}

/* What unix's VFS asserts: a page of 64 KiB and its frame's header are the most
** that SQLite asks for in one call. */
enum { CALL_MOST = 0x1ffff };

static int s_read(sqlite3_file *p, void *buf, int n, sqlite3_int64 off)
{
  assert(n <= CALL_MOST);
  const file *f = of((handle *)p);
  size_t want = (size_t)n, at = (size_t)off;
  size_t got = at >= f->n ? 0 : f->n - at < want ? f->n - at : want;
  if (fails(DISK_READ, ((handle *)p)->name))
    return SQLITE_IOERR_READ;
  if (got > 0 && is_database(((handle *)p)->name) &&
      fails(DISK_SHORT_READ, ((handle *)p)->name))
    got /= 2;
  if (got > 0)
    memcpy(buf, f->bytes + at, got);
  memset((char *)buf + got, 0, want - got);
  return got < want ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int s_write(sqlite3_file *p, const void *buf, int n, sqlite3_int64 off)
{
  handle *h = (handle *)p;
  assert(n <= CALL_MOST);
  if (fails(DISK_WRITE, ((handle *)p)->name))
    return SQLITE_IOERR_WRITE;
  int part = fails(DISK_SHORT_WRITE, ((handle *)p)->name);
  if (part)
    n /= 2;
  if (n > 0)
    simdisk_write(h->disk, h->file, buf, (size_t)n, (uint64_t)off);
  return part ? SQLITE_FULL : SQLITE_OK;
}

static int s_truncate(sqlite3_file *p, sqlite3_int64 bytes)
{
  handle *h = (handle *)p;
  if (fails(DISK_TRUNCATE, ((handle *)p)->name))
    return SQLITE_IOERR_TRUNCATE;
  simdisk_truncate(h->disk, h->file, (uint64_t)bytes);
  return SQLITE_OK;
}

static int s_sync(sqlite3_file *p, int flags)
{
  handle *h = (handle *)p;
  (void)flags;
  if (fails(DISK_SYNC, ((handle *)p)->name))
    return SQLITE_IOERR_FSYNC;
  simdisk_sync(h->disk, h->file);
  if (h->sync_dir)
    simdisk_sync_dir(h->disk);
  h->sync_dir = 0;
  return SQLITE_OK;
}

static int s_size(sqlite3_file *p, sqlite3_int64 *bytes)
{
  if (fails(DISK_SIZE, ((handle *)p)->name))
    return SQLITE_IOERR_FSTAT;
  *bytes = (sqlite3_int64)of((handle *)p)->n;
  return SQLITE_OK;
}

static int s_control(sqlite3_file *p, int op, void *arg)
{
  (void)p;
  (void)op;
  (void)arg;
  return SQLITE_NOTFOUND;
}

/* As the platform's: sectors of 512 bytes, whose neighbours a write spares. */
static int s_sector(sqlite3_file *p)
{
  (void)p;
  return 512;
}

static int s_device(sqlite3_file *p)
{
  (void)p;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* ----------------------------------------------------------- shared memory */

static int s_shm_map(sqlite3_file *p, int region, int bytes, int extend,
                     void volatile **out)
{
  handle *h = (handle *)p;
  file *f = of(h);
  *out = NULL;
  if (fails(DISK_SHM_MAP, ((handle *)p)->name))
    return SQLITE_IOERR_SHMMAP;
  if (!h->mapped)
    f->maps++;
  h->mapped = 1;
  if (region >= SHM_REGIONS)
    return SQLITE_IOERR_SHMSIZE;
  if (f->region[region] == NULL && extend) {
    f->region[region] = grown(NULL, (size_t)bytes);
    memset(f->region[region], 0, (size_t)bytes);
  }
  *out = f->region[region];
  return SQLITE_OK;
}

static int s_shm_lock(sqlite3_file *p, int offset, int n, int flags)
{
  handle *h = (handle *)p;
  file *f = of(h);
  unsigned mask = ((1u << n) - 1) << offset;
  if ((flags & SQLITE_SHM_UNLOCK) != 0) {
    for (int i = offset; i < offset + n; i++) {
      if (h->shared >> i & 1)
        f->readers[i]--;
      if (h->exclusive >> i & 1)
        f->owner[i] = NULL;
    }
    h->shared &= ~mask;
    h->exclusive &= ~mask;
    return SQLITE_OK;
  }
  if (fails(DISK_SHM_LOCK, ((handle *)p)->name))
    return SQLITE_IOERR_SHMLOCK;
  int exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  for (int i = offset; i < offset + n; i++)
    if ((f->owner[i] != NULL && f->owner[i] != h) ||
        (exclusive && f->readers[i] > (int)(h->shared >> i & 1)))
      return SQLITE_BUSY;
  for (int i = offset; i < offset + n; i++) {
    if (exclusive)
      f->owner[i] = h;
    else if ((h->shared >> i & 1) == 0)
      f->readers[i]++;
  }
  if (exclusive)
    h->exclusive |= mask;
  else
    h->shared |= mask;
  return SQLITE_OK;
}

static void s_shm_barrier(sqlite3_file *p)
{
  (void)p;
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = s_close,
                                           .xRead = s_read,
                                           .xWrite = s_write,
                                           .xTruncate = s_truncate,
                                           .xSync = s_sync,
                                           .xFileSize = s_size,
                                           .xLock = s_lock,
                                           .xUnlock = s_unlock,
                                           .xCheckReservedLock =
                                               s_check_reserved,
                                           .xFileControl = s_control,
                                           .xSectorSize = s_sector,
                                           .xDeviceCharacteristics = s_device,
                                           .xShmMap = s_shm_map,
                                           .xShmLock = s_shm_lock,
                                           .xShmBarrier = s_shm_barrier,
                                           .xShmUnmap = s_shm_unmap};

/* --------------------------------------------------------------------- VFS */

static simdisk *current;

void simdisk_use(simdisk *d)
{
  current = d;
}

unsigned simdisk_open_files(void)
{
  return open_files;
}

static int v_open(sqlite3_vfs *v, sqlite3_filename name, sqlite3_file *p,
                  int flags, int *out_flags)
{
  handle *h = (handle *)p;
  (void)v;
  memset(h, 0, sizeof *h);
  if (fails(DISK_OPEN, name))
    return SQLITE_CANTOPEN;
  int f = name == NULL ? -1 : simdisk_find(current, name);
  if (name != NULL && f < 0 && (flags & SQLITE_OPEN_CREATE) == 0)
    return SQLITE_CANTOPEN;
  /* As the platform's VFS: it syncs the directory with the first sync of a
  ** journal that it may have created. */
  h->sync_dir = (flags & SQLITE_OPEN_CREATE) != 0 &&
                (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL |
                          SQLITE_OPEN_SUPER_JOURNAL)) != 0;
  if (f < 0)
    f = (int)(name == NULL ? simdisk_create_nameless(current)
                           : simdisk_create(current, name));
  if (name != NULL && (flags & SQLITE_OPEN_DELETEONCLOSE) != 0)
    h->dies = copy_of(name, strlen(name) + 1);
  h->disk = current;
  h->name = name;
  h->file = (unsigned)f;
  h->base.pMethods = &methods;
  open_files++;
  if (out_flags != NULL)
    *out_flags = flags;
  return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync_dir)
{
  (void)v;
  if (fails(DISK_DELETE, name))
    return SQLITE_IOERR_DELETE;
  if (simdisk_find(current, name) < 0)
    return SQLITE_IOERR_DELETE_NOENT;
  simdisk_delete(current, name);
  if (sync_dir)
    simdisk_sync_dir(current);
  return SQLITE_OK;
}

/* An empty file does not exist, says the platform's VFS too. */
static int v_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
  int f = simdisk_find(current, name);
  (void)v;
  if (fails(DISK_ACCESS, name))
    return SQLITE_IOERR_ACCESS;
  *out = f >= 0 && (flags != SQLITE_ACCESS_EXISTS || current->files[f]->n > 0);
  return SQLITE_OK;
}

static int v_full_pathname(sqlite3_vfs *v, const char *name, int n, char *out)
{
  (void)v;
  sqlite3_snprintf(n, out, "%s", name);
  return SQLITE_OK;
}

static int v_randomness(sqlite3_vfs *v, int n, char *out)
{
  (void)v;
  memset(out, 7, (size_t)n);
  return n;
}

static int v_sleep(sqlite3_vfs *v, int us)
{
  (void)v;
  return us;
}

static int v_time(sqlite3_vfs *v, double *out)
{
  (void)v;
  *out = 2460000.5;
  return SQLITE_OK;
}

static int v_last_error(sqlite3_vfs *v, int n, char *out)
{
  (void)v;
  (void)n;
  (void)out;
  return 0;
}

static sqlite3_vfs vfs = {.iVersion = 1,
                          .szOsFile = sizeof(handle),
                          .mxPathname = 512,
                          .zName = "simdisk",
                          .xOpen = v_open,
                          .xDelete = v_delete,
                          .xAccess = v_access,
                          .xFullPathname = v_full_pathname,
                          .xRandomness = v_randomness,
                          .xSleep = v_sleep,
                          .xCurrentTime = v_time,
                          .xGetLastError = v_last_error};

int simdisk_register(int make_default)
{
  return sqlite3_vfs_register(&vfs, make_default);
}
