/*
** pagefile_int.h - inside core: what pagedb.h does not tell about a page file.
*/
#ifndef PAGEDB_PAGEFILE_INT_H
#define PAGEDB_PAGEFILE_INT_H

#include "pagedb.h"

/* Where the records of this file's pages stand. */
pagedb_placement pagefile_placement(const pagedb_file *f);

#endif
