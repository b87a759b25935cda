/*
** handle.c - descriptors of a database file: how they are learnt, made direct,
** and closed.
**
** Closing any descriptor of a file drops all POSIX locks that the process has
** on it. The platform's VFS knows this and puts off such closes, but only for
** what was opened through it as a main database. So our descriptors are opened
** through the parent's xOpen, twice: one stays buffered, one is made direct
** after the open, by fcntl, and undone before the close, because the parent may
** hand a descriptor whose close was put off to somebody else.
**
** The parent does not tell the descriptor. But its `fstat` system call, which
** can be replaced through xSetSystemCall, is called in every open of a
** database:
** ours passes the call on and notes descriptor, device and inode for the thread
** that is just opening. If somebody replaced the call after us, nothing is
** noted, and the file runs in parent mode.
*/
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

/* ---------------------------------------------------------------- capture */

#ifdef _WIN32

void capture_install(sqlite3_vfs *parent)
{
  (void)parent;
}

int capture_open(sqlite3_vfs *parent, const char *name, sqlite3_file *f,
                 int flags, int *out_flags, int *fd)
{
  *fd = -1;
  return parent->xOpen(parent, name, f, flags, out_flags);
}

static int same_file(int fd, uint64_t dev, uint64_t ino)
{
  (void)fd;
  (void)dev;
  (void)ino;
  return 0;
}

int fd_identity(int fd, uint64_t *dev, uint64_t *ino)
{
  (void)fd;
  (void)dev;
  (void)ino;
  return 0;
}

#else

#include <sys/stat.h>

typedef int (*fstat_call)(int, struct stat *);

static _Thread_local int capturing;
static _Thread_local int captured;
static fstat_call next_fstat;

static int capture_fstat(int fd, struct stat *st)
{
  if (capturing)
    captured = fd;
  return next_fstat(fd, st);
}

void capture_install(sqlite3_vfs *parent)
{
  if (parent->iVersion < 3 || parent->xGetSystemCall == NULL)
    return;
  sqlite3_syscall_ptr now = parent->xGetSystemCall(parent, "fstat");
  if (now == NULL || now == (sqlite3_syscall_ptr)capture_fstat)
    return;
  next_fstat = (fstat_call)now;
  parent->xSetSystemCall(parent, "fstat", (sqlite3_syscall_ptr)capture_fstat);
}

/*
** Whether what the descriptor holds is what the parent's xRead would give. Any
** other VFS may encrypt, compress, or tear pages for a test: there we stay
** above its methods. unix-dotfile, -flock and -none are for file systems that
** do not do as usual, too.
*/
static int is_platforms_own(sqlite3_vfs *parent)
{
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  return unix_vfs != NULL && parent->xOpen == unix_vfs->xOpen &&
         (strcmp(parent->zName, "unix") == 0 ||
          strcmp(parent->zName, "unix-excl") == 0);
}

int capture_open(sqlite3_vfs *parent, const char *name, sqlite3_file *f,
                 int flags, int *out_flags, int *fd)
{
  captured = -1;
  capturing = is_platforms_own(parent);
  int rc = parent->xOpen(parent, name, f, flags, out_flags);
  capturing = 0;
  *fd = rc == SQLITE_OK ? captured : -1;
  return rc;
}

int fd_identity(int fd, uint64_t *dev, uint64_t *ino)
{
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
    return 0;
  *dev = (uint64_t)st.st_dev;
  *ino = (uint64_t)st.st_ino;
  return 1;
}

static int same_file(int fd, uint64_t dev, uint64_t ino)
{
  uint64_t d, i;
  return fd_identity(fd, &d, &i) && d == dev && i == ino;
}

#endif

/* ---------------------------------------------------------------- handles */

struct handle {
  handle *next;
  sqlite3_file *file;
  const char *name; /* the parent keeps the pointer */
  os_file *os;
  int direct;
};

os_file *handle_os(handle *h)
{
  return h->os;
}

sqlite3_file *handle_file(handle *h)
{
  return h->file;
}

static void handle_free(handle *h)
{
  if (h->os != NULL && h->direct)
    os_undirect(h->os);
  os_close(h->os);
  if (h->file != NULL && h->file->pMethods != NULL)
    h->file->pMethods->xClose(h->file);
  free(h->file);
  if (h->name != NULL)
    sqlite3_free_filename((char *)(uintptr_t)h->name);
  free(h);
}

/* *out stays NULL where there is no descriptor, or another file stands at the
** path now. SQLITE_OK or SQLITE_NOMEM. */
static int handle_new(shared *s, int read_only, handle **out)
{
  int fd, granted = 0;
  int flags = SQLITE_OPEN_MAIN_DB |
              (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
  handle *h = calloc(1, sizeof *h);
  *out = NULL;
  if (h == NULL)
    return SQLITE_NOMEM;
  h->file = calloc(1, (size_t)s->parent->szOsFile);
  h->name = sqlite3_create_filename(s->path, "", "", 0, NULL);
  int rc = SQLITE_NOMEM;
  if (h->file != NULL && h->name != NULL)
    rc = capture_open(s->parent, h->name, h->file, flags, &granted, &fd);
  if (rc == SQLITE_OK && same_file(fd, s->dev, s->ino) &&
      (read_only || (granted & SQLITE_OPEN_READONLY) == 0)) {
    int err = os_borrow(fd, &h->os);
    if (err == PAGEDB_OK) {
      *out = h;
      return SQLITE_OK;
    }
    rc = err == PAGEDB_ENOMEM ? SQLITE_NOMEM : SQLITE_OK;
  }
  handle_free(h);
  return rc == SQLITE_NOMEM ? rc : SQLITE_OK;
}

static void handle_add(shared *s, handle *h)
{
  h->next = s->handles;
  s->handles = h;
}

int handles_open(shared *s, int read_only, direct_policy policy)
{
  handle *buffered, *direct = NULL;
  int rc = handle_new(s, read_only, &buffered);
  if (buffered == NULL)
    return rc;
  /* A direct handle in use was opened for reading only: it is replaced. */
  if (policy != DIRECT_OFF || atomic_load(&s->direct) != NULL)
    rc = handle_new(s, read_only, &direct);
  if (rc != SQLITE_OK) {
    handle_free(buffered);
    return rc;
  }
  handle_add(s, buffered);
  atomic_store(&s->buffered, buffered);
  s->writable = !read_only;
  os_geometry geometry;
  if (direct != NULL && os_make_direct(direct->os, &geometry) == PAGEDB_OK) {
    direct->direct = 1;
    handle_add(s, direct);
    s->geometry = geometry;
    atomic_store(&s->direct, direct);
    return SQLITE_OK;
  }
  if (direct != NULL)
    handle_free(direct);
  atomic_store(&s->direct, NULL);
  return SQLITE_OK;
}

void handles_close(shared *s)
{
  while (s->handles != NULL) {
    handle *h = s->handles;
    s->handles = h->next;
    handle_free(h);
  }
}
