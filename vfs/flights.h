/*
** flights.h - read-ahead's own reads: planned, under way, landed. For readahead.c,
** which says what is worth one. And what the two know of a connection.
**
** THREADS. By the connection's own calls alone, which SQLite serialises, in whatever
** thread they come. Not in a forked child for a connection of its parent.
*/
#ifndef FLIGHTS_H
#define FLIGHTS_H

#include "chain.h"
#include "vfs_int.h"

enum {
  SCANS = 4,       /* two joined tables, two levels each */
  FLYING_RUNS = 64 /* reads under way, at most */
};

typedef struct flight flight;

/* Children of an interior page and of those behind it, in the scan's order. */
typedef struct scan {
  uint64_t parent; /* whose children stand last */
  uint32_t *kid;   /* page ids */
  unsigned n, room;
  unsigned per_page; /* children of the last parent */
  unsigned at;       /* the one that was asked for last */
  unsigned asked;    /* those before were asked for, or are being read */
  unsigned seen;     /* passed in order */
  unsigned window;
  unsigned lead; /* when no more are left that were asked for, more are */
  int reverse;
  int whole;     /* it began at an end of its tree */
  uint64_t used; /* when, by ahead.clock */
  uint32_t
      ticket; /* of what it plans; another one once it does not want that */
} scan;

/* A page that is to be read, and the ticket of who asked for it; 0: no scan. */
typedef struct planned {
  uint32_t id, ticket;
} planned;

/* What a connection's read-ahead knows. */
struct ahead {
  /* flights.c */
  os_queue *queue;
  flight *flights;
  unsigned nflights;
  uint64_t flying; /* bytes */
  planned *plan;   /* in the order of reading */
  size_t plan_n, plan_at, plan_room;
  uint8_t *gap; /* one page: what nobody wants is read into it */
  uint32_t gap_size;
  /* readahead.c */
  scan scan[SCANS];
  scan found;     /* looked at, not one of them yet */
  uint64_t clock; /* counts what scan.used tells */
  uint32_t tickets;
  int above; /* an interior page was asked for, and no leaf since */
  uint64_t run_last, run_asked;
  unsigned run_seen, run_window;
  chain chain; /* flights.c shows it what comes in */
};

/* Whether pages read now could be used at all. */
int flights_allowed(const conn *c);

/* For all that follow c->ahead is there. Page ids need not make sense. */

/* Of these n pages, those that the file has are to be read, but for what is here or on
** its way when it is their turn: behind what is planned already, sorted. The list is
** copied. Without memory nothing is planned. What no scan has the ticket of any more is
** not read; 0: read in any case. */
void plan_add(conn *c, const uint32_t *ids, unsigned n, uint32_t ticket);
/* Whether the page is to be read, by somebody who still wants it, and did not set out
** yet. */
int plan_has(const struct ahead *a, uint64_t id);
/* What is planned is not to be read any more. */
void plan_clear(struct ahead *a);

/* Whether the page is on its way in. */
int flights_have(const struct ahead *a, uint64_t id);
/* Start reading what is planned, as much as may be under way. Where nothing can be
** read, the plan is given up. */
void flights_feed(conn *c);
/* Somebody waits for these, AHEAD_MAX at most, or will before he asks for what is
** planned: start reading them at once. Returns where that ends. */
uint64_t flights_first(conn *c, chain_part part);
/* Land what is back: pages that are still true enter the pool. With `wait`, after
** waiting for one; there must be one under way. What is planned sets out. */
void flights_harvest(conn *c, int wait);
/* If the page is on its way in, or will be, wait for it. 0: nothing was waited for. */
int flights_await(conn *c, uint64_t id);
/* Give back what flights.c owns, for good. Nothing may be under way. */
void flights_close(struct ahead *a);

#endif
