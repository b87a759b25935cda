/*
** locks.c - in every test program: a mutex is unlocked only by the thread that
** has it. The system does not look: who forgot to lock would let the next one in
** beside the owner, and only luck would show it.
**
** Linked with --wrap for pthread_mutex_unlock. The C library notes the owner; of
** another library nothing is known, and nothing asked. Nor in a forked child,
** which has the locks of a thread that it is not.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);

#if defined(__linux__) && defined(__GLIBC__)
static _Atomic pid_t process; /* that looks; another one is its child */

__attribute__((constructor)) static void learn_process(void)
{
  process = getpid();
}

static int is_mine(const pthread_mutex_t *m)
{
  static _Thread_local pid_t thread;
  if (thread == 0)
    thread = gettid();
  return m->__data.__owner == thread || getpid() != process;
}
#else
static int is_mine(const pthread_mutex_t *m)
{
  (void)m;
  return 1;
}
#endif

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
  if (!is_mine(m)) {
    fprintf(stderr, "a mutex is unlocked by a thread that does not have it\n");
    abort();
  }
  return __real_pthread_mutex_unlock(m);
}
