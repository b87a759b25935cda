/*
** os_win.c - os.h for Windows 8 and later; nothing elsewhere.
**
** Owns handles and address ranges. Keeps no state and has no lock; every call
** may run in any thread. A handle is synchronous: Windows carries out the
** transfers of one os_file one after the other, each at the offset that it
** names, so that threads may share it. Transfers of a vector are made piece by
** piece. Batches are os_queue.c's plain calls.
*/
#if defined(_WIN32) && !defined(_WIN32_WINNT)
#define _WIN32_WINNT 0x0602
#endif

#include "os_int.h"

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winioctl.h>

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#ifndef ERROR_DISK_QUOTA_EXCEEDED /* mingw-w64 10 lacks it */
#define ERROR_DISK_QUOTA_EXCEEDED 1295
#endif

struct os_file {
  HANDLE handle;
};

/* Wine takes FILE_FLAG_NO_BUFFERING and ignores it, and its (8.0)
** FlushProcessWriteBuffers is empty. */
static int under_wine(void)
{
  HMODULE ntdll = GetModuleHandleA("ntdll.dll");
  return ntdll != NULL && GetProcAddress(ntdll, "wine_get_version") != NULL;
}

/* Record the system's error with ours. */
static int sys_fail(int err, const char *path, const char *what)
{
  return pagedb_fault_set(err, (int)GetLastError(), path, PAGEDB_NONE, 0, 0,
                          what);
}

static int out_of_range(void)
{
  return pagedb_fault_set(PAGEDB_ERANGE, 0, NULL, PAGEDB_NONE, 0, 0, NULL);
}

/* ------------------------------------------------------------------- files */

/* The path as the system wants it, malloc'd; NULL when it is not UTF-8 (the
** system's error says so) or there is no memory. */
static wchar_t *wide(const char *path)
{
  int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
  wchar_t *w = n > 0 ? malloc((size_t)n * sizeof *w) : NULL;
  if (w != NULL)
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, w, n);
  return w;
}

/* Open; *made says whether this call created the file. */
static HANDLE open_handle(const wchar_t *path, unsigned flags, int *made)
{
  DWORD access = GENERIC_READ, how = OPEN_EXISTING;
  DWORD attributes = FILE_ATTRIBUTE_NORMAL;
  if (!(flags & OS_OPEN_READONLY))
    access |= GENERIC_WRITE;
  if (flags & OS_OPEN_CREATE)
    how = (flags & OS_OPEN_EXCLUSIVE) ? CREATE_NEW : OPEN_ALWAYS;
  if (flags & OS_OPEN_DIRECT)
    attributes |= FILE_FLAG_NO_BUFFERING;
  HANDLE h = CreateFileW(path, access,
                         FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                         NULL, how, attributes, NULL);
  *made = h != INVALID_HANDLE_VALUE && (flags & OS_OPEN_CREATE) &&
          GetLastError() != ERROR_ALREADY_EXISTS;
  return h;
}

/* The sector of the volume: what transfers past the cache are counted in, and
** what their buffers are aligned to. Volumes that do not tell get the page
** size, which all devices take; a trial read judges the answer. Sets *geo and
** returns 1, or 0 when the handle is not direct. */
static int ask_direct(HANDLE h, os_geometry *geo)
{
  FILE_STORAGE_INFO info;
  DWORD sector = 4096, got;
  OVERLAPPED at = {0};
  if (GetFileInformationByHandleEx(h, FileStorageInfo, &info, sizeof info) &&
      info.LogicalBytesPerSector != 0)
    sector = info.LogicalBytesPerSector;
  void *buf = _aligned_malloc(sector, sector);
  if (buf == NULL)
    return 0;
  int works =
      ReadFile(h, buf, sector, &got, &at) || GetLastError() == ERROR_HANDLE_EOF;
  _aligned_free(buf);
  geo->offset_align = geo->memory_align = sector;
  geo->direct = works && !under_wine();
  return geo->direct;
}

static int refuse_direct(const char *path)
{
  return sys_fail(PAGEDB_EDIRECT, path, "the file system has no Direct I/O");
}

/* The error of a CreateFileW. */
static int open_error(const char *path, unsigned flags)
{
  DWORD sys = GetLastError();
  if ((flags & OS_OPEN_DIRECT) &&
      (sys == ERROR_INVALID_PARAMETER || sys == ERROR_NOT_SUPPORTED))
    return refuse_direct(path);
  return sys_fail(PAGEDB_ECANTOPEN, path, NULL);
}

/* Judge an open handle: a file, and direct if that is wanted. */
static int examine(const char *path, HANDLE h, unsigned flags, os_geometry *geo)
{
  if (GetFileType(h) != FILE_TYPE_DISK)
    return pagedb_fault_set(PAGEDB_ECANTOPEN, 0, path, PAGEDB_NONE, 0, 0,
                            "not a file");
  if ((flags & OS_OPEN_DIRECT) && !ask_direct(h, geo))
    return refuse_direct(path);
  return PAGEDB_OK;
}

static int open_wide(const char *path, const wchar_t *w, unsigned flags,
                     HANDLE *h, os_geometry *geo)
{
  int made;
  *h = open_handle(w, flags, &made);
  if (*h == INVALID_HANDLE_VALUE)
    return open_error(path, flags);
  int err = examine(path, *h, flags, geo);
  if (err == PAGEDB_OK)
    return err;
  CloseHandle(*h);
  if (made)
    DeleteFileW(w);
  return err;
}

int os_open(const char *path, unsigned flags, os_file **out, os_geometry *geo)
{
  os_geometry g = {0, 1, 1};
  SetLastError(0);
  wchar_t *w = wide(path);
  os_file *f = malloc(sizeof *f);
  int err = PAGEDB_OK;
  if (w == NULL && GetLastError() != 0)
    err = sys_fail(PAGEDB_ECANTOPEN, path, "the path is not UTF-8");
  else if (w == NULL || f == NULL)
    err = pagedb_fault_set(PAGEDB_ENOMEM, 0, path, PAGEDB_NONE, 0, 0, NULL);
  else
    err = open_wide(path, w, flags, &f->handle, &g);
  free(w);
  if (err != PAGEDB_OK) {
    free(f);
    return err;
  }
  *out = f;
  if (geo != NULL)
    *geo = g;
  return PAGEDB_OK;
}

void os_close(os_file *f)
{
  if (f == NULL)
    return;
  CloseHandle(f->handle);
  free(f);
}

/* --------------------------------------------------------------- transfers */

static int transfer_error(int write)
{
  DWORD sys = GetLastError();
  if (write && (sys == ERROR_DISK_FULL || sys == ERROR_HANDLE_DISK_FULL ||
                sys == ERROR_DISK_QUOTA_EXCEEDED))
    return sys_fail(PAGEDB_EFULL, NULL, NULL);
  /* The file system's limit on the length of a file. */
  if (sys == ERROR_FILE_TOO_LARGE)
    return sys_fail(PAGEDB_ERANGE, NULL, "the largest file length is reached");
  return sys_fail(PAGEDB_EIO, NULL, write ? "write" : "read");
}

static OVERLAPPED at_offset(uint64_t off)
{
  OVERLAPPED at = {0};
  at.Offset = (DWORD)off;
  at.OffsetHigh = (DWORD)(off >> 32);
  return at;
}

/* Whether a read from `at` on finds nothing more. */
static int at_end(os_file *f, uint64_t at)
{
  uint64_t bytes = 0;
  return os_size(f, &bytes) == PAGEDB_OK && at >= bytes;
}

/*
** Transfer all of one piece; fewer bytes than asked only when a read meets the
** end of the file. A short read is checked against the length and not tried
** on: past the cache, a file's end need not be aligned, and what follows it
** could not be asked for.
*/
static int transfer_piece(os_file *f, char *p, size_t len, uint64_t off,
                          int write, size_t *done)
{
  const size_t most = (size_t)16 << 20; /* larger ones can lack resources */
  *done = 0;
  while (*done < len) {
    OVERLAPPED at = at_offset(off + *done);
    size_t left = len - *done;
    DWORD part = (DWORD)(left < most ? left : most), got = 0;
    BOOL fine = write ? WriteFile(f->handle, p + *done, part, &got, &at)
                      : ReadFile(f->handle, p + *done, part, &got, &at);
    if (!fine && !write && GetLastError() == ERROR_HANDLE_EOF)
      return PAGEDB_OK;
    if (!fine)
      return transfer_error(write);
    *done += got;
    if (got == part)
      continue;
    if (!write && at_end(f, off + *done))
      return PAGEDB_OK;
    if (got == 0)
      return pagedb_fault_set(PAGEDB_EIO, 0, NULL, PAGEDB_NONE, 0, 0,
                              "the system transfers nothing");
  }
  return PAGEDB_OK;
}

static int transfer(os_file *f, const os_iov *iov, int n, uint64_t off,
                    int write, size_t *done)
{
  size_t sum = 0;
  if (!os_range_ok(iov, n, off))
    return out_of_range();
  for (int i = 0; i < n; i++) {
    size_t got;
    int err =
        transfer_piece(f, iov[i].base, iov[i].len, off + sum, write, &got);
    if (err != PAGEDB_OK)
      return err;
    sum += got;
    if (got < iov[i].len)
      break;
  }
  if (done != NULL)
    *done = sum;
  return PAGEDB_OK;
}

int os_borrow(int fd, os_file **out)
{
  (void)fd;
  (void)out;
  return pagedb_fault_set(PAGEDB_ECANTOPEN, 0, NULL, PAGEDB_NONE, 0, 0,
                          "Windows has handles, not descriptors");
}

int os_make_direct(os_file *f, os_geometry *geo)
{
  (void)f;
  *geo = (os_geometry){0, 1, 1};
  return pagedb_fault_set(PAGEDB_EDIRECT, 0, NULL, PAGEDB_NONE, 0, 0,
                          "only at its opening can a handle be made direct");
}

void os_undirect(os_file *f)
{
  (void)f;
}

int os_readv(os_file *f, os_iov *iov, int n, uint64_t off, size_t *done)
{
  return transfer(f, iov, n, off, 0, done);
}

int os_writev(os_file *f, os_iov *iov, int n, uint64_t off)
{
  return transfer(f, iov, n, off, 1, NULL);
}

/* ---------------------------------------------- size, room, durability */

int os_size(os_file *f, uint64_t *bytes)
{
  LARGE_INTEGER size;
  if (!GetFileSizeEx(f->handle, &size))
    return sys_fail(PAGEDB_EIO, NULL, "GetFileSizeEx");
  *bytes = (uint64_t)size.QuadPart;
  return PAGEDB_OK;
}

/* A file that grows without being written shall not take room. File systems
** without holes refuse, and the file is as good as before. */
static void allow_holes(os_file *f, uint64_t bytes)
{
  uint64_t now = 0;
  DWORD got;
  if (os_size(f, &now) == PAGEDB_OK && bytes > now)
    DeviceIoControl(f->handle, FSCTL_SET_SPARSE, NULL, 0, NULL, 0, &got, NULL);
}

int os_truncate(os_file *f, uint64_t bytes)
{
  FILE_END_OF_FILE_INFO end;
  if (bytes > (uint64_t)INT64_MAX)
    return out_of_range();
  allow_holes(f, bytes);
  end.EndOfFile.QuadPart = (LONGLONG)bytes;
  if (SetFileInformationByHandle(f->handle, FileEndOfFileInfo, &end,
                                 sizeof end))
    return PAGEDB_OK;
  return transfer_error(1);
}

/* FileAllocationInfo reserves room, but it cuts the file when another thread
** has meanwhile written past the end of the reservation. No hint is worth
** that. */
int os_preallocate(os_file *f, uint64_t off, uint64_t len)
{
  (void)f;
  uint64_t most = (uint64_t)INT64_MAX;
  return off > most || len > most - off ? out_of_range() : PAGEDB_OK;
}

int os_write_back(os_file *f, uint64_t off, uint64_t len)
{
  (void)f;
  (void)off;
  (void)len;
  return PAGEDB_OK;
}

int os_datasync(os_file *f)
{
  if (FlushFileBuffers(f->handle))
    return PAGEDB_OK;
  return sys_fail(PAGEDB_ESYNC, NULL, NULL);
}

int os_sync_parent_dir(const char *path)
{
  (void)path;
  return PAGEDB_OK;
}

/* ------------------------------------------------------------------ memory */

void *os_aligned_alloc(size_t align, size_t bytes)
{
  return _aligned_malloc(bytes, align);
}

void os_aligned_free(void *p)
{
  _aligned_free(p);
}

void *os_table_alloc(size_t bytes)
{
  return os_aligned_alloc(64, bytes);
}

void os_table_free(void *p, size_t bytes)
{
  (void)bytes;
  os_aligned_free(p);
}

void *os_map(size_t bytes)
{
  return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

/*
** Windows has no memory that comes when it is touched without having been
** promised before: the whole range is charged against RAM and page file, though
** only touched pages take RAM. A range that is too large for that is refused,
** and the caller asks for less. To commit in a fault handler would not help:
** the kernel, reading a file into the range, does not call it.
*/
void *os_reserve(size_t bytes)
{
  const size_t huge = (size_t)2 << 20;
  if (bytes == 0 || bytes > SIZE_MAX - huge)
    return NULL;
  char *base = VirtualAlloc(NULL, bytes + huge, MEM_RESERVE, PAGE_NOACCESS);
  if (base == NULL)
    return NULL;
  char *p = base + (huge - (uintptr_t)base % huge) % huge;
  if (VirtualAlloc(p, bytes, MEM_COMMIT, PAGE_READWRITE) != NULL)
    return p;
  VirtualFree(base, 0, MEM_RELEASE);
  return NULL;
}

void os_huge_pages(void *p, size_t bytes, int wanted)
{
  (void)p;
  (void)bytes;
  (void)wanted;
}

/* Not MEM_DECOMMIT: the range must stay readable. */
void os_decommit(void *p, size_t bytes)
{
  VirtualAlloc(p, bytes, MEM_RESET, PAGE_READWRITE);
}

void os_decommit_part(void *p, size_t bytes)
{
  os_decommit(p, bytes);
}

/* The reservation begins before p, where the alignment cut it off. */
void os_release(void *p, size_t bytes)
{
  MEMORY_BASIC_INFORMATION info;
  (void)bytes;
  if (VirtualQuery(p, &info, sizeof info) != 0)
    VirtualFree(info.AllocationBase, 0, MEM_RELEASE);
}

/* The limit of the job that the process is in: Windows' cgroup. */
static uint64_t job_limit(void)
{
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION job;
  uint64_t least = UINT64_MAX;
  if (!QueryInformationJobObject(NULL, JobObjectExtendedLimitInformation, &job,
                                 sizeof job, NULL))
    return least;
  DWORD set = job.BasicLimitInformation.LimitFlags;
  if (set & JOB_OBJECT_LIMIT_PROCESS_MEMORY)
    least = job.ProcessMemoryLimit;
  if ((set & JOB_OBJECT_LIMIT_JOB_MEMORY) && job.JobMemoryLimit < least)
    least = job.JobMemoryLimit;
  return least;
}

uint64_t os_memory_bytes(void)
{
  MEMORYSTATUSEX m = {.dwLength = sizeof m};
  uint64_t ram = GlobalMemoryStatusEx(&m) ? m.ullTotalPhys : (uint64_t)1 << 30;
  uint64_t limit = job_limit();
  return limit < ram ? limit : ram;
}

/* ----------------------------------------------------------------- threads */

int os_thread(pthread_t *t, void *(*run)(void *), void *arg)
{
  return pthread_create(t, NULL, run, arg) == 0;
}

/* ------------------------------------------------------------------ clocks */

uint64_t os_monotonic_ns(void)
{
  LARGE_INTEGER now, rate;
  QueryPerformanceFrequency(&rate);
  QueryPerformanceCounter(&now);
  /* Seconds apart: ticks times 10^9 would overflow within hours. */
  uint64_t ticks = (uint64_t)now.QuadPart, hz = (uint64_t)rate.QuadPart;
  return ticks / hz * 1000000000u + ticks % hz * 1000000000u / hz;
}

uint64_t os_wallclock_us(void)
{
  const uint64_t from_1601_to_1970 = 11644473600u * 1000000u;
  FILETIME t;
  GetSystemTimePreciseAsFileTime(&t);
  uint64_t tenths = (uint64_t)t.dwHighDateTime << 32 | t.dwLowDateTime;
  return tenths / 10 - from_1601_to_1970;
}

/* ------------------------------------------------------------------- fence */

int os_fence_init(void)
{
  const char *env = getenv("PAGEDB_MEMBARRIER");
  return (env == NULL || strcmp(env, "0") != 0) && !under_wine();
}

void os_fence_heavy(void)
{
  FlushProcessWriteBuffers();
}

#endif
