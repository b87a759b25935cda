/*
** private.pml - the protocol of private frames (core/private.h), for Spin.
**
** One frame of a cache, three threads: the cache's own, which pins, unpins,
** rekeys, drops and gets it; and two others, whose victim searches move the
** clock's hand over it: they put it aside or take it for themselves. What runs
** under pool->lock in the C code runs between lock_take and lock_drop here, with
** the heavy fence as the point where others come in between. The cache's
** `pinned` is written through a store buffer, as in pool.pml.
**
** Ghost state: `used` while the cache uses the page, `idle` while its unpin is
** wholly over, `content` is whose bytes the frame holds. The properties are the
** assert statements: a page in use keeps its bytes, a page that is not in use
** can be found by the hand, no cell is looked at after its cache forgot it, and
** nobody is stuck.
**
** Each rule can be switched off by a macro; run.sh demands that Spin then finds
** a violation:
**   NO_FENCE       the hand does not run the heavy fence
**   NO_LOOK        the hand takes without looking at `pinned` again
**   NO_LOOK_APART  the hand puts aside without looking at `pinned` again
**   LATE_APART     the hand sets `apart` when it puts aside, not before the fence
**   NO_CLAIM       a pin does not look at `claim`
**   NO_WAIT        a pin takes a claim for a loss, without waiting for the lock
**   NO_APART       an unpin does not look at `apart`
**   NO_TAKEN       a drop does not look whether the frame was taken
*/

#define CACHE 0
#define NOBODY 255

/* claim */
#define FREE    0
#define CLAIMED 1
#define TAKEN   2

byte owner = NOBODY;
byte content = NOBODY;
bool in_ring, aside;

/* The cell, as others see it. */
bool there; /* the cache has not forgotten it */
bool pinned;
bool apart;
byte claim;

bool buffered, pending; /* a store on its way to `pinned` */
bool used, idle;

inline drain()
{
  if :: pending -> pinned = buffered; pending = false :: else fi
}

active proctype Drainer()
{
end:
  do
  :: atomic { pending -> pinned = buffered; pending = false }
  od
}

bool lock;
/* A mutex is a fence for who takes it. */
inline lock_take() { atomic { !lock -> lock = true } }
inline own_lock_take() { atomic { !lock -> lock = true; drain() } }
inline lock_drop() { lock = false }

inline get()
{
  own_lock_take();
  atomic {
    if
    :: owner == NOBODY ->
       owner = CACHE;
       content = CACHE;
       in_ring = true;
       there = true; pinned = true; apart = false; claim = FREE;
       used = true
    :: else -> skip
    fi
  };
  lock_drop()
}

inline forget()
{
  atomic { there = false; idle = false }
}

inline pin()
{
  atomic { idle = false; buffered = true; pending = true };
  if
#ifdef NO_CLAIM
  :: true -> used = true
#else
  :: atomic { claim == FREE -> used = true }
#ifdef NO_WAIT
  :: claim != FREE ->
     own_lock_take();
     pinned = false;
     lock_drop();
     forget()
#else
  :: claim != FREE ->
     own_lock_take();
     if
     :: claim == FREE -> used = true; lock_drop()
     :: else -> lock_drop(); forget()
     fi
#endif
#endif
  fi
}

inline unpin()
{
  atomic { used = false; buffered = false; pending = true };
#ifndef NO_APART
  if
  :: apart ->
     own_lock_take();
     atomic {
       if
       :: claim != TAKEN ->
          if :: aside -> aside = false; in_ring = true :: else -> skip fi;
          apart = false
       :: else -> skip
       fi
     };
     lock_drop()
  :: !apart -> skip
  fi;
#endif
  idle = true
}

inline drop()
{
  idle = false;
  own_lock_take();
  atomic {
    if
#ifndef NO_TAKEN
    :: claim == TAKEN -> skip
#endif
    :: else ->
       assert(owner == CACHE);
       assert(in_ring != aside);
       in_ring = false;
       aside = false;
       owner = NOBODY;
       content = NOBODY
    fi
  };
  lock_drop();
  used = false;
  forget()
}

active proctype Cache()
{
  byte round;
  do
  :: round < 5 ->
     round++;
     if
     :: !there -> get()
     :: there && used -> unpin()
     :: there && used -> assert(owner == CACHE && content == CACHE) /* rekey */
     :: there && !used -> pin()
     :: there -> drop()
     fi;
     assert(!used || (owner == CACHE && content == CACHE))
  :: else -> break
  od
}

/* The fence is where the cache goes on: before and after it are two steps. */
inline fence()
{
#ifndef NO_FENCE
  atomic { drain() }
#else
  skip
#endif
}

inline set_apart()
{
#ifndef LATE_APART
  apart = true;
#endif
  fence();
  atomic {
    assert(there);
    if
#ifndef NO_LOOK_APART
    :: !pinned -> apart = false
#endif
    :: else ->
       apart = true;
       in_ring = false;
       aside = true;
       /* Nobody would ever put it back. */
       assert(!idle)
    fi
  }
}

inline take(me)
{
  claim = CLAIMED;
  fence();
  atomic {
    assert(there);
    if
#ifndef NO_LOOK
    :: pinned -> claim = FREE
#endif
    :: else ->
       assert(!used);
       claim = TAKEN;
       in_ring = false;
       owner = me;
       content = me
    fi
  }
}

/* Searches for a victim, and lets go of it again later. */
proctype Other(byte me)
{
  byte round;
  do
  :: round < 3 ->
     round++;
     lock_take();
     if
     :: in_ring && owner == CACHE ->
        assert(there);
        if
        :: pinned && !apart -> set_apart()
        :: pinned && apart -> skip
        :: !pinned -> take(me)
        fi
     :: owner == me ->
        assert(content == me);
        atomic { owner = NOBODY; content = NOBODY }
     :: else -> skip
     fi;
     lock_drop()
  :: else -> break
  od
}

init
{
  atomic { run Other(1); run Other(2) }
}
