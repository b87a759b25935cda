/*
** exit.c - linked into what is measured: processes that end without ceremony
** write their counts first. Children of tests end by _exit, or kill themselves.
*/
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void __gcov_dump(void);

void _exit(int status)
{
  __gcov_dump();
  for (;;)
    syscall(SYS_exit_group, status);
}

/* What a broken rule ends with, in a child of a test. */
void abort(void)
{
  static const struct sigaction plain = {.sa_handler = SIG_DFL};
  __gcov_dump();
  sigaction(SIGABRT, &plain, NULL);
  for (;;)
    syscall(SYS_kill, getpid(), SIGABRT);
}

int raise(int sig)
{
  if (sig == SIGKILL)
    __gcov_dump();
  return (int)syscall(SYS_kill, getpid(), sig);
}

int kill(pid_t pid, int sig)
{
  if (sig == SIGKILL && pid == getpid())
    __gcov_dump();
  return (int)syscall(SYS_kill, pid, sig);
}
