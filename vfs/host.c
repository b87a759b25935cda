/*
** host.c - the functions of the host's SQLite that an extension is not given:
** sqlite3_config and what is needed around it.
**
** Linked into the host, they are simply there. In the loaded library they are
** looked up, and whose they are matters: a process may have two SQLites, a
** visible one and one hidden in a program, and sqlite3_config of the wrong one
** says OK and does nothing. So the object that has a routine of the host's
** table (dladdr) is asked for its symbol (dlopen with RTLD_NOLOAD, dlsym), and
** the answer counts only if it lies in that very object.
*/
#ifndef _WIN32
#define _GNU_SOURCE
#include <dlfcn.h>
#endif
#include <string.h>

#include "host.h"

#ifdef SQLITE_CORE

int host_find(const void *routine, host *h)
{
  (void)routine;
  *h = (host){.config = sqlite3_config,
              .initialize = sqlite3_initialize,
              .shutdown = sqlite3_shutdown,
              .memory_used = sqlite3_memory_used,
              .hard_limit = sqlite3_hard_heap_limit64,
              .malloc = sqlite3_malloc,
              .free = sqlite3_free};
  return 1;
}

const void *host_base(const void *routine)
{
  (void)routine;
  return NULL;
}

#elif defined(_WIN32)

int host_find(const void *routine, host *h)
{
  (void)routine;
  (void)h;
  return 0;
}

const void *host_base(const void *routine)
{
  return routine;
}

#else

/* The address of the object that contains p; NULL: none does. */
static const void *object_of(const void *p, const char **name)
{
  Dl_info info;
  if (p == NULL || dladdr(p, &info) == 0)
    return NULL;
  if (name != NULL)
    *name = info.dli_fname;
  return info.dli_fbase;
}

const void *host_base(const void *routine)
{
  return object_of(routine, NULL);
}

/* A function of the very object at base; ISO C has no cast from dlsym's
** pointer to it. 0: not there. */
static int symbol(void *handle, const char *name, const void *base,
                  void *function)
{
  void *p = dlsym(handle, name);
  if (p == NULL || object_of(p, NULL) != base)
    return 0;
  memcpy(function, &p, sizeof p);
  return 1;
}

static int symbols(void *handle, const void *base, host *h)
{
  h->base = base;
  return symbol(handle, "sqlite3_config", base, &h->config) &&
         symbol(handle, "sqlite3_initialize", base, &h->initialize) &&
         symbol(handle, "sqlite3_shutdown", base, &h->shutdown) &&
         symbol(handle, "sqlite3_memory_used", base, &h->memory_used) &&
         symbol(handle, "sqlite3_hard_heap_limit64", base, &h->hard_limit) &&
         symbol(handle, "sqlite3_malloc", base, &h->malloc) &&
         symbol(handle, "sqlite3_free", base, &h->free);
}

/* No routine of the host is known yet: the SQLite that the program can see, or
** the one library of it that is loaded already. To load one here would decide for
** the program which SQLite it gets. */
static int host_guess(host *h)
{
  void *self = dlopen(NULL, RTLD_LAZY);
  void *p = self == NULL ? NULL : dlsym(self, "sqlite3_config");
  if (p != NULL)
    return symbols(self, object_of(p, NULL), h);
  void *library = dlopen("libsqlite3.so.0", RTLD_LAZY | RTLD_NOLOAD);
  p = library == NULL ? NULL : dlsym(library, "sqlite3_config");
  return p != NULL && symbols(library, object_of(p, NULL), h);
}

int host_find(const void *routine, host *h)
{
  const char *name = NULL;
  if (routine == NULL)
    return host_guess(h);
  const void *base = object_of(routine, &name);
  if (base == NULL)
    return 0;
  void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == NULL)
    handle = dlopen(NULL, RTLD_LAZY); /* the program itself */
  return handle != NULL && symbols(handle, base, h);
}

#endif
