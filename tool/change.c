/*
** change.c - stamp, unstamp, convert: through SQLite, under its locks.
**
** convert never touches the original before its replacement is known to be good:
** VACUUM INTO a new file next to it, every page of which is then verified and all
** content compared. Then the new file's pages are written over the original's, in
** one transaction of SQLite's (sqlite3_backup): its journal makes that atomic. A
** power cut at any point leaves the one or the other.
**
** A database in WAL mode stays in WAL mode throughout: the transaction goes through
** its log. Only a rollback journal can give a file its stamps in the same
** transaction, so here a stamp pass follows (PRAGMA pagedb_stamp). Cut before its
** end, the file has the same content, is plain, and keeps 32 bytes of each page
** free; convert or stamp goes on from there.
**
** The new file is not renamed over the old one: a connection that another process
** has open without a lock would go on with the old file, commit into it, or, in WAL
** mode, put its log next to the new one. So the file stays the same, whatever
** names it has, and every connection notices the change as it would notice any.
**
** The new file is made in a folder of its own, next to the file that SQLite opens,
** whatever links lead there: no other file can be in its place. A conversion that
** is killed leaves it. The next one clears it away, and only if the folder has the
** mark that it was made by a conversion, or is empty: what a user made stays. The
** one that works there has the mark locked (flock) until its end, however it ends:
** EXCLUSIVE on the original does not keep away a conversion of another file that
** got the original's name meanwhile.
*/
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../core/guard.h"
#include "../core/os.h"
#include "../vfs/pagedb_sqlite.h"
#include "tool.h"

static const options *running; /* for callbacks without an argument */

static void pages_progress(unsigned long long done, unsigned long long all)
{
  progress(running, "pages", done, all);
}

/* What page-db said last to SQLite's error log, but for notes. */
static struct {
  int code;
  char text[512];
} said;

static void note_log(void *arg, int code, const char *text)
{
  static const char from[] = "pagedb: ";
  (void)arg;
  if (strncmp(text, from, sizeof from - 1) != 0 || code == SQLITE_NOTICE)
    return;
  said.code = code;
  snprintf(said.text, sizeof said.text, "%s", text + sizeof from - 1);
}

/* GOOD, or FAILED after the sentence that says which variable is wrong, or that
** SQLite is too old. */
static int register_vfs(const options *o)
{
  sqlite3_config(SQLITE_CONFIG_LOG, note_log, NULL);
  int rc = pagedb_register(1);
  if (rc == SQLITE_OK)
    return GOOD;
  return complain(o, "%s", said.text[0] != 0 ? said.text : sqlite3_errstr(rc));
}

/* SQLite takes names of so many bytes, and puts its journal's suffix to them. */
static size_t longest_name(void)
{
  return (size_t)sqlite3_vfs_find(NULL)->mxPathname - strlen("-journal");
}

/* What page-db said of a failure with this code, without the name of the file that
** is spoken of; else what SQLite says. sqlite3_log cuts what is longer than 210
** bytes off, and with it the cause. */
static const char *said_of(int rc, const char *sqlite_says, const char *path)
{
  size_t n = strlen(path);
  if (rc != said.code || strlen(said.text) > 200)
    return sqlite_says;
  return strncmp(said.text, path, n) == 0 &&
                 strncmp(said.text + n, ": ", 2) == 0
             ? said.text + n + 2
             : said.text;
}

/* By its whole name: one that begins with "file:", or is ":memory:", has a
** meaning of its own for SQLite. */
static sqlite3 *open_database(const options *o)
{
  sqlite3 *db = NULL;
  char name[PATH_MAX];
  running = o;
  pagedb_on_progress(pages_progress);
  /* What is stamped is what this command was asked for. */
  unsetenv("PAGEDB_STAMP");
  /* A limit on the length of files is an error like any other. */
  signal(SIGXFSZ, SIG_IGN);
  if (register_vfs(o) != GOOD)
    return NULL;
  if (realpath(o->path, name) == NULL) {
    complain(o, "cannot open: %s", strerror(errno));
    return NULL;
  }
  if (strlen(name) > longest_name()) {
    complain(o,
             "its full name has %zu bytes, and SQLite takes %zu: move it, or "
             "give it or its folders shorter names",
             strlen(name), longest_name());
    return NULL;
  }
  int rc = sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE, "pagedb");
  if (rc == SQLITE_OK && sqlite3_db_readonly(db, "main")) {
    complain(o, "no permission to write it");
    sqlite3_close(db);
    return NULL;
  }
  if (rc == SQLITE_OK)
    return db;
  complain(o, "cannot open: %s",
           said_of(rc, db != NULL ? sqlite3_errmsg(db) : "no memory", name));
  sqlite3_close(db);
  return NULL;
}

/* First column of the first row into text; an SQLite result code. */
static int query(sqlite3 *db, const char *sql, char *text, size_t n)
{
  sqlite3_stmt *st = NULL;
  text[0] = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW &&
      sqlite3_column_text(st, 0) != NULL)
    snprintf(text, n, "%s", sqlite3_column_text(st, 0));
  int end = sqlite3_finalize(st);
  return rc == SQLITE_OK ? end : rc;
}

/* Why SQLite, with this (extended) code and sentence, refused. The file itself was
** seen to be writable. path: of the file that is spoken of. */
static const char *reason_of(int rc, const char *sqlite_says, const char *path)
{
  static char text[sizeof said.text + 100];
  struct rlimit file;
  if ((rc & 0xff) == SQLITE_READONLY)
    return "no permission to write into its folder, where its journal or log "
           "has to be";
  if ((rc & 0xff) != SQLITE_IOERR)
    return sqlite_says;
  const char *why = said_of(rc, sqlite_says, path);
  if (getrlimit(RLIMIT_FSIZE, &file) != 0 || file.rlim_cur == RLIM_INFINITY)
    return why;
  snprintf(text, sizeof text,
           "%s; no file may be longer than %ju bytes here (`ulimit -f`)", why,
           (uintmax_t)file.rlim_cur);
  return text;
}

static const char *name_of(sqlite3 *db)
{
  const char *name = sqlite3_db_filename(db, "main");
  return name == NULL ? "" : name;
}

static const char *reason(sqlite3 *db, const char *path)
{
  return reason_of(sqlite3_extended_errcode(db), sqlite3_errmsg(db), path);
}

/* After a complaint about what SQLite said. */
static int exit_code(int rc)
{
  return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB ? DAMAGED
                                                                       : FAILED;
}

static int say(const options *o, const char *text)
{
  progress_end(o);
  if (o->json) {
    printf("{\"file\":");
    json_string(stdout, o->path);
    printf(",\"result\":");
    json_string(stdout, text);
    printf("}\n");
  } else {
    plain_text(stdout, o->path);
    printf(": ");
    plain_text(stdout, text);
    printf("\n");
  }
  return GOOD;
}

static int by_pragma(const options *o, const char *pragma)
{
  char text[512];
  file_info info;
  if (file_look(o, &info) != GOOD)
    return FAILED;
  if (info.type != FILE_DATABASE)
    return complain(o, "a native page file is always stamped");
  sqlite3 *db = open_database(o);
  if (db == NULL)
    return FAILED;
  int rc = query(db, pragma, text, sizeof text);
  int result = rc == SQLITE_OK ? say(o, text)
                               : complain(o, "%s", reason(db, name_of(db)));
  sqlite3_close(db);
  return result == GOOD ? GOOD : exit_code(rc);
}

int cmd_stamp(const options *o)
{
  return by_pragma(o, o->adopt ? "PRAGMA pagedb_stamp=adopt"
                               : "PRAGMA pagedb_stamp");
}

int cmd_unstamp(const options *o)
{
  return by_pragma(o, o->force ? "PRAGMA pagedb_unstamp=force"
                               : "PRAGMA pagedb_unstamp");
}

/* ------------------------------------------------------------------ convert */

typedef struct conversion {
  const options *o;
  file_info info;
  char folder[PATH_MAX + 32];
  char target[PATH_MAX + 64]; /* in the folder */
  int mark;                   /* open and locked while it is at work, or -1 */
  sqlite3 *db;
  sqlite3 *from; /* the new file */
  int wal;
} conversion;

static void interrupt(int signal)
{
  (void)signal;
  interrupted = 1;
}

/* From here on the files that are made are also deleted. A second SIGINT, of somebody
** who does not want to wait, ends the program at once; timeout(1) sends SIGTERM twice.
** What was ignored stays ignored. */
static void catch_signals(void)
{
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction now, mine = {.sa_handler = interrupt};
  for (int i = 0; i < 3; i++) {
    mine.sa_flags = signals[i] == SIGINT ? (int)SA_RESETHAND : 0;
    if (sigaction(signals[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
      sigaction(signals[i], &mine, NULL);
  }
}

/* SQLite asks now and then whether it is to stop. */
static int show_work(void *arg)
{
  conversion *c = arg;
  struct stat st;
  if (stat(c->target, &st) == 0)
    progress(c->o, "converting", (uint64_t)st.st_size, c->info.bytes);
  return interrupted != 0;
}

/* What is put to the database's name: for the folder, and for the file in it. */
static const char folder_suffix[] = ".pagedb-convert", new_name[] = "/new.db";

/* The file in the folder that says what the folder is, and what stands in it. */
static const char mark_name[] = "made-by-pagedb-convert";
static const char mark_text[] = "`pagedb convert` works here; cut short, the "
                                "next one deletes this folder.\n";

/* 0 and errno if something of it stays. The mark goes last: without it nobody
** would dare to delete the rest. */
static int delete_folder(const conversion *c)
{
  static const char *const names[] = {"new.db-journal", "new.db-wal",
                                      "new.db-shm", "new.db", mark_name};
  char path[sizeof c->folder + 64];
  for (int i = 0; i < 5; i++) {
    snprintf(path, sizeof path, "%s/%s", c->folder, names[i]);
    if (unlink(path) != 0 && errno != ENOENT)
      return 0;
  }
  return rmdir(c->folder) == 0 || errno == ENOENT;
}

/* Whether the mark is all that the folder has. */
static int is_alone(const conversion *c)
{
  int others = 0;
  const struct dirent *e;
  DIR *d = opendir(c->folder);
  if (d == NULL)
    return 0;
  while ((e = readdir(d)) != NULL)
    others += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
              strcmp(e->d_name, mark_name) != 0;
  closedir(d);
  return others == 0;
}

/* Whether what stands in the mark is a conversion's. Killed while it wrote the
** mark, it left a part, and nothing else. */
static int is_mark(const conversion *c, int fd)
{
  char text[sizeof mark_text + 1];
  ssize_t got = read(fd, text, sizeof text);
  if (got < 0 || got >= (ssize_t)sizeof mark_text ||
      memcmp(text, mark_text, (size_t)got) != 0)
    return 0;
  return got == (ssize_t)sizeof mark_text - 1 || is_alone(c);
}

/* The mark that is in the folder, open; -1: it has none. */
static int open_mark(const conversion *c)
{
  char path[sizeof c->folder + 64];
  struct stat st;
  if (lstat(c->folder, &st) != 0 || !S_ISDIR(st.st_mode))
    return -1;
  snprintf(path, sizeof path, "%s/%s", c->folder, mark_name);
  int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0 && is_mark(c, fd))
    return fd;
  if (fd >= 0)
    close(fd);
  return -1;
}

/* Whether somebody else works in the folder of this mark. A file system without
** such locks has nobody to say so. */
static int is_locked(int fd)
{
  return flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/* What an earlier one left goes, and nothing else; a folder that is empty is
** what is left of one killed in its first or last step. 0 and errno: it stays;
** EWOULDBLOCK: a conversion works there. */
static int clear_away(const conversion *c)
{
  int fd = open_mark(c);
  if (fd < 0) {
    rmdir(c->folder);
    return 1;
  }
  int gone = !is_locked(fd) && delete_folder(c);
  int error = errno;
  close(fd);
  errno = error;
  return gone;
}

/* Locked before it says what it is. A conversion that looked between the two
** may have deleted it as what was left of a killed one. Durable, so that a
** power cut leaves the mark with what it is for. */
static int write_mark(conversion *c)
{
  char path[sizeof c->folder + 64];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", c->folder, mark_name);
  c->mark = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (c->mark < 0) {
    int error = errno;
    rmdir(c->folder);
    return complain(c->o, "cannot create %s: %s", path, strerror(error));
  }
  if (is_locked(c->mark) || fstat(c->mark, &st) != 0 || st.st_nlink == 0)
    return complain(c->o, "another conversion took %s", c->folder);
  if (write(c->mark, mark_text, sizeof mark_text - 1) ==
          (ssize_t)sizeof mark_text - 1 &&
      fsync(c->mark) == 0)
    return GOOD;
  int error = errno;
  delete_folder(c);
  return complain(c->o, "cannot create %s: %s", path, strerror(error));
}

/* Nobody else can look into it. */
static int make_folder(conversion *c)
{
  if (!clear_away(c))
    return errno == EWOULDBLOCK
               ? complain(c->o, "another conversion works in %s", c->folder)
               : complain(c->o, "cannot delete %s: %s", c->folder,
                          strerror(errno));
  if (mkdir(c->folder, 0700) == 0)
    return write_mark(c);
  if (errno == EEXIST)
    return complain(c->o,
                    "%s is in the way, and nothing says that a conversion made "
                    "it: look what it is, and move it away",
                    c->folder);
  return complain(c->o, "cannot create %s: %s", c->folder, strerror(errno));
}

/* The folder is where the database and its journal are: on one file system. */
static int enough_room(const conversion *c)
{
  struct statvfs fs;
  uint64_t need = 2 * c->info.bytes + c->info.bytes / 8 + 65536;
  if (statvfs(c->folder, &fs) != 0)
    return 1;
  uint64_t have = (uint64_t)fs.f_bavail * fs.f_frsize;
  if (have >= need)
    return 1;
  complain(c->o,
           "a new file and a journal need about %" PRIu64 " MiB next to it, "
           "and %" PRIu64 " MiB are free",
           need >> 20, have >> 20);
  return 0;
}

/* Whether the file has another name now, or none, or nobody can tell. */
static int has_moved(sqlite3 *db)
{
  int moved = 0;
  return sqlite3_file_control(db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) !=
             SQLITE_OK ||
         moved;
}

/*
** Nobody else, no hot journal, and the file that has the name. Asked for before
** the first look at the database, EXCLUSIVE keeps everybody out in WAL mode, too;
** later it would let readers in.
*/
static int take_it(conversion *c)
{
  char mode[32];
  int rc = sqlite3_exec(
      c->db, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT", NULL,
      NULL, NULL);
  if (rc == SQLITE_OK)
    rc = query(c->db, "PRAGMA journal_mode", mode, sizeof mode);
  c->wal = rc == SQLITE_OK && strcmp(mode, "wal") == 0;
  if (rc == SQLITE_OK && has_moved(c->db))
    return complain(c->o, "another file was put in its place meanwhile");
  if (rc == SQLITE_OK)
    return GOOD;
  if ((rc & 0xff) == SQLITE_BUSY)
    return complain(c->o, "others hold a lock on the database, or have it open "
                          "in WAL mode: nothing was changed");
  complain(c->o, "%s", reason(c->db, name_of(c->db)));
  return exit_code(rc);
}

/* One number for all content: every row of every table, with its rowid order.
 */
static int content_sum(sqlite3 *db, uint32_t *sum)
{
  sqlite3_stmt *tables, *rows;
  uint32_t crc = pagedb_crc32c_init();
  int rc = sqlite3_prepare_v2(db,
                              "SELECT name FROM sqlite_schema WHERE "
                              "type='table' AND rootpage>0 ORDER BY name",
                              -1, &tables, NULL);
  while (rc == SQLITE_OK && sqlite3_step(tables) == SQLITE_ROW) {
    char *sql =
        sqlite3_mprintf("SELECT * FROM \"%w\"", sqlite3_column_text(tables, 0));
    rc = sql == NULL ? SQLITE_NOMEM
                     : sqlite3_prepare_v2(db, sql, -1, &rows, NULL);
    sqlite3_free(sql);
    while (rc == SQLITE_OK && sqlite3_step(rows) == SQLITE_ROW)
      for (int i = 0; i < sqlite3_column_count(rows); i++) {
        int type = sqlite3_column_type(rows, i);
        int n = type == SQLITE_NULL ? 0 : sqlite3_column_bytes(rows, i);
        const void *p = type == SQLITE_BLOB ? sqlite3_column_blob(rows, i)
                                            : sqlite3_column_text(rows, i);
        n = type == SQLITE_NULL ? 0 : sqlite3_column_bytes(rows, i);
        crc = pagedb_crc32c_update(crc, &type, sizeof type);
        crc = pagedb_crc32c_update(crc, &n, sizeof n);
        if (n > 0)
          crc = pagedb_crc32c_update(crc, p, (size_t)n);
      }
    if (rc == SQLITE_OK)
      rc = sqlite3_finalize(rows);
  }
  int end = sqlite3_finalize(tables);
  *sum = pagedb_crc32c_final(crc);
  return rc == SQLITE_OK ? end : rc;
}

static int check_stamps(const options *o, const char *path)
{
  options there = *o;
  file_info info;
  verdict v;
  there.path = path;
  if (file_look(&there, &info) != GOOD ||
      verify_file(&there, &info, &v) != GOOD)
    return FAILED;
  free(v.bad);
  if (v.nbad > 0)
    return complain(&there, "pages that do not verify: %ju", (uintmax_t)v.nbad);
  return info.stamped ? GOOD : complain(&there, "it has no stamps");
}

static int check_content(conversion *c, sqlite3 *db)
{
  uint32_t a = 0, b = 1;
  char ok[200] = "";
  int rc = content_sum(db, &a);
  if (rc == SQLITE_OK)
    rc = content_sum(c->db, &b);
  if (rc == SQLITE_OK)
    rc = query(db, "PRAGMA integrity_check(1)", ok, sizeof ok);
  if (rc != SQLITE_OK)
    return complain(c->o, "the new file cannot be compared: %s",
                    sqlite3_errstr(rc));
  if (a != b)
    return complain(c->o, "the content of the new file is not the same");
  if (strcmp(ok, "ok") != 0)
    return complain(c->o,
                    "PRAGMA integrity_check of the new file says: %s; look at "
                    "the original's, too",
                    ok);
  return GOOD;
}

/* Opened once: what was compared is what is written back. */
static int open_new_file(conversion *c)
{
  int rc =
      sqlite3_open_v2(c->target, &c->from,
                      SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW, "pagedb");
  return rc == SQLITE_OK
             ? GOOD
             : complain(c->o, "cannot open %s: %s", c->target,
                        reason_of(rc, sqlite3_errstr(rc), c->target));
}

static int check_new_file(conversion *c)
{
  int result = open_new_file(c);
  if (result != GOOD)
    return result;
  sqlite3_progress_handler(c->from, 20000, show_work, c);
  result = check_content(c, c->from);
  sqlite3_progress_handler(c->from, 0, NULL, NULL);
  return result == GOOD ? check_stamps(c->o, c->target) : result;
}

/* What was checked by its name, and what is locked, are still what the names
** say. */
static int check_names(const conversion *c)
{
  if (has_moved(c->db))
    return complain(c->o, "it was moved meanwhile: nothing was changed");
  if (has_moved(c->from))
    return complain(c->o, "%s was moved meanwhile: nothing was changed",
                    c->target);
  return GOOD;
}

/* The new file's pages over the original's, and nothing of it in the file before
** all of it is in the journal. */
static int write_back(conversion *c)
{
  sqlite3_int64 bytes = (sqlite3_int64)c->info.bytes;
  int rc = SQLITE_ERROR;
  /* As VACUUM tells it: the file is written anew, and may become stamped. The
  ** platform's VFS, which is asked as well, does not know it. */
  if (!c->wal)
    sqlite3_file_control(c->db, "main", SQLITE_FCNTL_OVERWRITE, &bytes);
  sqlite3_backup *b = sqlite3_backup_init(c->db, "main", c->from, "main");
  while (b != NULL && !interrupted &&
         (rc = sqlite3_backup_step(b, 1000)) == SQLITE_OK) {
    int all = sqlite3_backup_pagecount(b);
    progress(c->o, "writing", (uint64_t)(all - sqlite3_backup_remaining(b)),
             (uint64_t)all);
  }
  int done = rc == SQLITE_DONE;
  int end = b == NULL ? SQLITE_ERROR : sqlite3_backup_finish(b);
  /* That of a step is the last one's; an end that fails, and no beginning, have
  ** left theirs with the connection. */
  if (b == NULL || done)
    rc = sqlite3_extended_errcode(c->db);
  const char *error =
      b == NULL || done ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
  if (interrupted && !done)
    return complain(c->o, "interrupted");
  if (!done || end != SQLITE_OK)
    return complain(c->o, "cannot be written: %s: it is as it was",
                    reason_of(rc, error, name_of(c->db)));
  return GOOD;
}

/* What SQLite does not know here, the application that made it does. */
static int is_unknown(const char *error)
{
  static const char *const unknown[] = {"no such collation", "no such function",
                                        "no such module", "no such tokenizer"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
    if (strstr(error, unknown[i]) != NULL)
      return 1;
  return 0;
}

static int vacuum(conversion *c)
{
  char *sql = sqlite3_mprintf("VACUUM INTO %Q", c->target);
  if (sql == NULL)
    return complain(c->o, "no memory");
  int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
  sqlite3_free(sql);
  if (rc == SQLITE_OK)
    return GOOD;
  const char *error = reason(c->db, c->target);
  if (is_unknown(error))
    complain(
        c->o,
        "%s: the application that defines it can convert the database, "
        "with page-db: VACUUM, and in WAL mode PRAGMA pagedb_stamp after it",
        error);
  else
    complain(c->o, "cannot write %s: %s", c->target, error);
  return exit_code(rc);
}

/* After a transaction that went through the log, which this empties. */
static int stamp_in_wal_mode(conversion *c)
{
  char text[512];
  if (query(c->db, "PRAGMA pagedb_stamp", text, sizeof text) == SQLITE_OK)
    return GOOD;
  return complain(c->o,
                  "written with 32 bytes of each page free, but not stamped "
                  "(pagedb stamp): %s",
                  reason(c->db, name_of(c->db)));
}

static int convert_in_folder(conversion *c)
{
  if (!enough_room(c))
    return FAILED;
  sqlite3_progress_handler(c->db, 20000, show_work, c);
  int rc = vacuum(c);
  if (rc == GOOD)
    rc = check_new_file(c);
  sqlite3_progress_handler(c->db, 0, NULL, NULL);
  if (rc == GOOD && interrupted)
    rc = complain(c->o, "interrupted");
  if (rc == GOOD)
    rc = check_names(c);
  if (rc == GOOD)
    rc = write_back(c);
  sqlite3_close(c->from);
  return rc == GOOD && c->wal ? stamp_in_wal_mode(c) : rc;
}

static int check_length(const conversion *c)
{
  size_t more = strlen(folder_suffix) + strlen(new_name);
  size_t name = strlen(c->target);
  if (name <= longest_name())
    return GOOD;
  return complain(c->o,
                  "its full name has %zu bytes, and may have at most %zu: the "
                  "new file's name is longer, and SQLite takes %zu. Move it "
                  "for the conversion, or give it or its folders shorter names",
                  name - more, longest_name() - more, longest_name());
}

static int convert(conversion *c)
{
  int rc = check_length(c);
  if (rc == GOOD)
    rc = take_it(c);
  if (rc == GOOD)
    rc = make_folder(c);
  if (rc != GOOD)
    return rc;
  rc = convert_in_folder(c);
  if (!delete_folder(c) && rc == GOOD)
    return complain(c->o, "converted, but %s cannot be deleted: %s", c->folder,
                    strerror(errno));
  return rc;
}

/* Next to the file itself, where SQLite has its journal, too. */
static int name_folder(conversion *c)
{
  char name[PATH_MAX];
  if (realpath(c->o->path, name) == NULL)
    return complain(c->o, "cannot open: %s", strerror(errno));
  snprintf(c->folder, sizeof c->folder, "%s%s", name, folder_suffix);
  snprintf(c->target, sizeof c->target, "%s%s", c->folder, new_name);
  return GOOD;
}

int cmd_convert(const options *o)
{
  conversion c = {.o = o, .mark = -1};
  if (file_look(o, &c.info) != GOOD)
    return FAILED;
  if (c.info.type != FILE_DATABASE)
    return complain(o, "a native page file is always stamped");
  if (c.info.broken) {
    complain(o, "page 1 is damaged: `pagedb check` tells more");
    return DAMAGED;
  }
  if (c.info.stamped) {
    /* The one that did it may have been killed before it cleared away. */
    if (name_folder(&c) != GOOD)
      return FAILED;
    if (!clear_away(&c) && errno != EWOULDBLOCK)
      return complain(o, "stamped already, but %s cannot be deleted: %s",
                      c.folder, strerror(errno));
    return say(o, "stamped already");
  }
  if (c.info.reserve != 0 && c.info.reserve != PAGEDB_RECORD_SIZE)
    return complain(o,
                    "the database keeps %u bytes of each page for somebody "
                    "else: a stamped one keeps 32",
                    c.info.reserve);
  if (name_folder(&c) != GOOD)
    return FAILED;
  c.db = open_database(o);
  if (c.db == NULL)
    return FAILED;
  catch_signals();
  int rc = convert(&c);
  if (c.mark >= 0)
    close(c.mark);
  /* To look at the file before would drop the locks of this connection. */
  sqlite3_close(c.db);
  if (rc == GOOD)
    rc = check_stamps(o, o->path);
  return rc == GOOD ? say(o, "converted: stamped now") : rc;
}
