/*
** log.c - what the write-ahead log of a database holds, and whether there is a
** journal, for those who look at the database without SQLite. It takes no locks,
** and sees one moment.
**
** A frame counts as SQLite's recovery would count it (file format, section 4):
** salts and checksum chain are right, and a commit frame stands at its end or
** behind it.
**
** A page is in the log when the next reader takes it from there. While nobody
** has the database open that holds for all frames that count: the next one to
** open it makes a new wal-index, in which no frame is written back. While
** others have it open their wal-index says how many frames are written back;
** those are read from the database. Where that wal-index cannot be judged, or
** is memory of a process with locking_mode=EXCLUSIVE, nobody can tell: the log
** has a copy, and no more is said.
*/
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/endian.h"
#include "../core/os.h"
#include "tool.h"

/* Header of the log, header of a frame, the wal-index up to its nBackfill. */
enum { HEAD = 32, FRAME = 24, INDEX = 48, INDEX_USED = 2 * INDEX + 4 };

enum { WAL_VERSION = 3007000 };

/* What SQLite locks of the database itself: all who use it in WAL mode hold one
** of these bytes. */
enum { SHARED_FIRST = 0x40000002, SHARED_SIZE = 510 };

int read_at(os_file *f, void *buf, size_t n, uint64_t off)
{
  size_t got = 0;
  os_iov iov = {buf, n};
  return os_readv(f, &iov, 1, off, &got) == PAGEDB_OK && got == n;
}

os_file *open_beside(const options *o, const char *suffix)
{
  char name[PATH_MAX + 16];
  os_file *f;
  if (realpath(o->path, name) == NULL)
    return NULL;
  strcat(name, suffix);
  return os_open(name, OS_OPEN_READONLY, &f, NULL) == PAGEDB_OK ? f : NULL;
}

int has_journal(const options *o)
{
  uint8_t first = 0;
  os_file *f = open_beside(o, "-journal");
  int has = f != NULL && read_at(f, &first, 1, 0) && first != 0;
  os_close(f);
  return has;
}

static uint32_t get_native(const uint8_t *p)
{
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

/* SQLite's checksum of n bytes, a multiple of 8, on top of sum. */
static void add_sum(uint32_t (*get)(const uint8_t *), const uint8_t *p,
                    size_t n, uint32_t sum[2])
{
  for (size_t i = 0; i < n; i += 8) {
    sum[0] += get(p + i) + sum[1];
    sum[1] += get(p + i + 4) + sum[0];
  }
}

/* The frames of one log that count. */
typedef struct frames {
  os_file *f;
  uint32_t page_size;
  uint32_t (*get)(const uint8_t *); /* the words of its checksums */
  uint8_t salt[8];
  uint32_t sum[2];    /* of what was read */
  uint64_t committed; /* how many count */
  uint64_t pages;     /* of the database, by the last commit */
  uint32_t *number;   /* page number of each */
} frames;

static int head_ok(frames *l)
{
  uint8_t head[HEAD];
  if (!read_at(l->f, head, sizeof head, 0) ||
      (get_be32(head) & ~1u) != 0x377f0682 ||
      get_be32(head + 4) != WAL_VERSION || get_be32(head + 8) != l->page_size)
    return 0;
  l->get = get_be32(head) & 1 ? get_be32 : get_le32;
  memcpy(l->salt, head + 16, sizeof l->salt);
  add_sum(l->get, head, 24, l->sum);
  return l->sum[0] == get_be32(head + 24) && l->sum[1] == get_be32(head + 28);
}

/* frame: its header and its page. */
static int frame_ok(frames *l, const uint8_t *frame)
{
  if (memcmp(frame + 8, l->salt, sizeof l->salt) != 0 || get_be32(frame) == 0)
    return 0;
  add_sum(l->get, frame, 8, l->sum);
  add_sum(l->get, frame + FRAME, l->page_size, l->sum);
  return l->sum[0] == get_be32(frame + 16) && l->sum[1] == get_be32(frame + 20);
}

/* Up to the first frame that is not one. */
static void frames_read(frames *l, uint64_t room)
{
  size_t size = FRAME + (size_t)l->page_size;
  uint8_t *frame = malloc(size);
  l->number = calloc(room + 1, sizeof *l->number);
  if (frame == NULL || l->number == NULL || !head_ok(l))
    room = 0;
  for (uint64_t i = 0;
       i < room && read_at(l->f, frame, size, HEAD + i * size) &&
       frame_ok(l, frame);
       i++) {
    l->number[i] = get_be32(frame);
    if (get_be32(frame + 4) != 0) {
      l->committed = i + 1;
      l->pages = get_be32(frame + 4);
    }
  }
  free(frame);
}

/* Whether somebody uses the database. This process must not have it open. */
static int in_use(const options *o)
{
  struct flock lock = {.l_type = F_WRLCK,
                       .l_whence = SEEK_SET,
                       .l_start = SHARED_FIRST,
                       .l_len = SHARED_SIZE};
  int fd = open(o->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  int used = fd < 0 || fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
  if (fd >= 0)
    close(fd);
  return used;
}

/* The head of the wal-index, if it is sound. Its two copies differ for a moment
** while somebody commits. */
static int index_read(const options *o, uint8_t index[INDEX_USED])
{
  uint32_t sum[2] = {0, 0};
  os_file *f = open_beside(o, "-shm");
  int same = 0;
  for (int i = 0; f != NULL && !same && i < 100; i++)
    same = read_at(f, index, INDEX_USED, 0) &&
           memcmp(index, index + INDEX, INDEX) == 0;
  os_close(f);
  add_sum(get_native, index, 40, sum);
  return same && get_native(index) == WAL_VERSION &&
         sum[0] == get_native(index + 40) && sum[1] == get_native(index + 44);
}

/* How many frames of this log are written back, by the wal-index; all, if it
** does not say. */
static uint64_t index_backfill(const options *o, const frames *l)
{
  uint8_t index[INDEX_USED] = {0};
  if (!index_read(o, index) || memcmp(index + 32, l->salt, sizeof l->salt) != 0)
    return l->committed;
  return get_native(index + 2 * INDEX);
}

static void set_bit(uint8_t *bit, uint64_t id)
{
  bit[id / 8] |= (uint8_t)(1 << id % 8);
}

static int has_bit(const uint8_t *bit, uint64_t id)
{
  return bit[id / 8] >> id % 8 & 1;
}

static void note_frames(wal_log *log, const file_info *info, const frames *l,
                        uint64_t backfill)
{
  if (l->pages > info->in_file)
    log->sum.only = l->pages - info->in_file;
  for (uint64_t i = 0; i < l->committed; i++) {
    uint64_t id = (uint64_t)l->number[i] - 1;
    if (id >= log->limit)
      continue;
    log->sum.also += id < info->in_file && !has_bit(log->copy, id);
    set_bit(log->copy, id);
    if (i >= backfill)
      set_bit(log->newer, id);
  }
}

void log_read(const options *o, const file_info *info, wal_log *log)
{
  frames l = {.page_size = info->page_size};
  uint64_t bytes = 0;
  *log = (wal_log){0};
  l.f = info->wal ? open_beside(o, "-wal") : NULL;
  if (l.f == NULL)
    return;
  os_size(l.f, &bytes);
  uint64_t room = bytes / (FRAME + (uint64_t)info->page_size);
  /* Pages behind the file's end that the log does not have are missing. */
  log->limit = info->in_file + room;
  log->copy = calloc(log->limit / 8 + 1, 1);
  log->newer = calloc(log->limit / 8 + 1, 1);
  frames_read(&l, room);
  os_close(l.f);
  if (log->copy != NULL && log->newer != NULL)
    note_frames(log, info, &l, in_use(o) ? index_backfill(o, &l) : 0);
  else
    log->limit = 0;
  free(l.number);
}

void log_free(wal_log *log)
{
  free(log->copy);
  free(log->newer);
}

log_state log_has(const wal_log *log, uint64_t id)
{
  if (id >= log->limit || !has_bit(log->copy, id))
    return LOG_NOT;
  return has_bit(log->newer, id) ? LOG_NEWER : LOG_COPY;
}
