/*
** open_mode.h - for those that stand before the C library's open and open64.
*/
#ifndef OPEN_MODE_H
#define OPEN_MODE_H

#include <fcntl.h>
#include <stdarg.h>
#include <sys/types.h>

/* The mode that follows flags if a file may be made; 0 where there is none. args
** is started by the caller, and ended. */
static inline mode_t open_mode(int flags, va_list args)
{
  return (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
}

#endif
