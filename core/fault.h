/*
** fault.h - inside page-db: touching up the thread's fault after the fact.
*/
#ifndef PAGEDB_FAULT_H
#define PAGEDB_FAULT_H

#include "pagedb.h"

/* Name the file of the fault that was just set by somebody who did not know
** it. Returns the fault's error. */
int fault_set_path(const char *path);

/* What a list of pages says of a page with this error: "bad crc". */
const char *fault_status(int err);

/* Make *f this thread's fault again, after other calls overwrote it. */
void fault_restore(const pagedb_fault *f);

#endif
