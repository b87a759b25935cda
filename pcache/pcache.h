/*
** pcache.h - SQLite's page cache on the frames of the process's pool: what the
** entry points (vfs/init.c) need of it. README.md tells how it works.
**
** Nothing here calls SQLite: the methods can be handed to sqlite3_config before
** any of its functions may be called.
*/
#ifndef PCACHE_H
#define PCACHE_H

#include <sqlite3.h>

#include "../core/pagedb.h"

/* What goes to sqlite3_config(SQLITE_CONFIG_PCACHE2, ...). */
extern const sqlite3_pcache_methods2 pcache_methods;

/* Before sqlite3_config: where the pool comes from, NULL from it: no memory, in
** a forked child it is another one; and how many bytes memory databases may have
** (SQLite's hard heap limit, less what SQLite has), UINT64_MAX: no limit. room
** may be NULL. */
void pcache_setup(pagedb_pool *(*pool)(void), uint64_t (*room)(void));

/* 1 between xInit and xShutdown: an SQLite of this process uses the methods. */
int pcache_is_active(void);

#endif
