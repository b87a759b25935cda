/*
** os_int.h - between the files behind os.h: what a file handle holds, and the
** part of the batch calls that every system shares.
*/
#ifndef PAGEDB_OS_INT_H
#define PAGEDB_OS_INT_H

#include "os.h"

/* Carry out the rest of a request, from q->done on, by plain calls, and set
** its outcome. */
void os_request_run(os_request *q);

/* Step over the first n bytes of a vector: returns the first piece that is not
** used up, cut to what is left of it. */
os_iov *os_iov_advance(os_iov *iov, int *count, size_t n);

/* The descriptor, for io_uring. -1 where there is none. */
int os_file_fd(const os_file *f);

#endif
