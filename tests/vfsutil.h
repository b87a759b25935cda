/*
** vfsutil.h - for tests that look behind the VFS's file methods, and so are linked
** with it. After sqlutil.h and ../vfs/vfs_int.h.
*/
#ifndef VFSUTIL_H
#define VFSUTIL_H

/* The connection's end of the main database, which is on page-db. */
static inline conn *conn_in(sqlite3 *db)
{
  sqlite3_file *f = NULL;
  assert_int_equal(
      sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f),
      SQLITE_OK);
  assert_non_null(conn_of(f));
  return conn_of(f);
}

#endif
