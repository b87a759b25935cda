/*
** pool.pml - the frame protocol of the buffer pool, for Spin.
**
** One frame, two pages, three threads: a user (fetches, changes, unpins), a
** second one (fetches another page, so that the frame must be reclaimed,
** discards, or forgets all pages) and a flusher. What runs under pool->lock in
** the C code is one atomic or d_step block here. The user's hazard slot is
** written through a store buffer: others see it only when the buffer drains,
** which happens at any later moment, or when a reclaimer runs the heavy fence.
** That is what the asymmetric fence of core/pool_int.h has to cope with.
**
** Ghost state: `newest[p]` counts the changes of page p, `data` is what the
** frame holds, `disk[p]` what the store holds, `lost[p]` marks changes given up
** on purpose (discard). The properties are the assert statements below, and
** that no thread is stuck (Spin's invalid end states).
**
** Each rule can be switched off by a macro; run.sh demands that Spin then finds
** a violation:
**   NO_FENCE        the reclaimer does not run the heavy fence
**   NO_RECHECK      the hit does not look at the entry again
**   NO_SCAN         the reclaimer does not look at the slots
**   NO_BUSY         a page being read is not marked, so it is read twice
**   NO_WRITING      a page on its way to the store may be claimed or reclaimed
**   NO_DIRTY_CHECK  a dirty frame is reclaimed without being written
**   LATE_CLEAN      dirty is cleared after the write, not at the claim
**   NO_REDIRTY      a failed write does not make the page dirty again
**   WAIT_WITH_CLAIM the flusher waits for a latch while others wait for it
**   FORGET_UNWRITTEN pages are forgotten while one is dirty
**   NO_ORPHAN_SCAN  a frame whose page was forgotten is reclaimed without a look
**                   at the slots
**   KEEP_ENTRY      a stale page becomes an orphan, and keeps its entry
*/

#define PAGES 2
#define NONE  255
#define FORGET 254

/* entry[p] */
#define ABSENT  0
#define PRESENT 1
#define BUSY    2

#define FRAMES 2 /* the second one only with NO_BUSY, where a page gets two */

#ifdef NO_WRITING
#define ON_ITS_WAY(f) false
#else
#define ON_ITS_WAY(f) writing[f]
#endif

byte entry[PAGES];       /* state of the page table entry */
byte loc[PAGES];         /* its frame */
bool stale[PAGES];       /* PRESENT or BUSY, of an older epoch than the owner's */
byte page_in[FRAMES] = NONE; /* page that the frame was given to, NONE: free */
bool orphan[FRAMES];     /* its page has no entry any more */
byte data[FRAMES];       /* version of the content */
bool dirty[FRAMES];
bool writing[FRAMES];
byte readers[FRAMES];    /* latch: shared holders */
bool writer[FRAMES];     /* latch: exclusive holder */

byte slot[2] = NONE;     /* hazard slots, as others see them */
byte buffered[2] = NONE; /* a store on its way to slot[i] */
bool pending[2];

byte truly[2] = NONE;    /* ghost: frame that user i really uses */
byte disk[PAGES];
byte newest[PAGES];

/* The heavy fence: every store buffer is drained. */
inline drain_all()
{
  if :: pending[0] -> slot[0] = buffered[0]; pending[0] = false :: else fi;
  if :: pending[1] -> slot[1] = buffered[1]; pending[1] = false :: else fi
}

/* Store buffers drain by themselves, sooner or later. */
active [1] proctype Drainer()
{
end:
  do
  :: atomic { pending[0] -> slot[0] = buffered[0]; pending[0] = false }
  :: atomic { pending[1] -> slot[1] = buffered[1]; pending[1] = false }
  od
}

/* A key maps to at most one frame. */
#define UNIQUE !(page_in[0] != NONE && page_in[0] == page_in[1])

/* frame_orphan: a stale page loses its entry; who has it pinned keeps it. */
inline make_orphan(p)
{
#ifndef KEEP_ENTRY
  entry[p] = ABSENT;
  stale[p] = false;
#endif
  orphan[loc[p]] = true
}

/*
** frames_reclaim of frame f by anybody, under the lock. Two steps, because a
** hit takes no lock: first PRESENT goes (BUSY), then the fence and the look at
** the slots. A page that is stale may be met by the hand, as any other, or by
** the sweep, which makes it an orphan.
*/
inline reclaim(f, got)
{
  /* The lock is held by lock_take around this. */
  got = false;
  atomic {
    if
    :: page_in[f] != NONE && !orphan[f] && entry[page_in[f]] == PRESENT &&
       stale[page_in[f]] -> make_orphan(page_in[f])
    :: true
    fi
  };
  if
  :: page_in[f] == NONE -> got = true
  :: page_in[f] != NONE && orphan[f] ->
     atomic {
#ifndef NO_FENCE
       drain_all();
#endif
       if
#ifndef NO_ORPHAN_SCAN
       :: slot[0] == f || slot[1] == f -> skip
#endif
       :: else ->
          assert(truly[0] != f && truly[1] != f);
          assert(!dirty[f] && !writing[f]);
          orphan[f] = false;
          page_in[f] = NONE;
          got = true
       fi
     }
  :: else ->
     atomic {
       if
       :: entry[page_in[f]] != PRESENT -> skip /* LOADING: not in the ring */
       :: ON_ITS_WAY(f) -> skip
#ifndef NO_DIRTY_CHECK
       :: dirty[f] -> skip
#endif
       :: else ->
          entry[page_in[f]] = BUSY;
          got = true
       fi
     };
     if
     :: got ->
        atomic {
#ifndef NO_FENCE
          drain_all();
#endif
          if
#ifndef NO_SCAN
          :: slot[0] == f || slot[1] == f ->
             entry[page_in[f]] = PRESENT;
             got = false
#endif
          :: else ->
             /* Pinned is never reclaimed; a change is never dropped. */
             assert(truly[0] != f && truly[1] != f);
             assert(!dirty[f]);
             assert(disk[page_in[f]] == newest[page_in[f]] || writing[f]);
             assert(!writing[f]);
             entry[page_in[f]] = ABSENT;
             stale[page_in[f]] = false;
             page_in[f] = NONE
          fi
        }
     :: else -> skip
     fi
  fi
}

bool lock;
inline lock_take() { atomic { !lock -> lock = true } }
inline lock_drop() { lock = false }

/*
** pagedb_fetch of page p by user me; f is the frame, NONE when the pool is
** exhausted.
*/
inline fetch(me, p, f)
{
  byte g;
  bool freed;
  f = NONE;
  do
  :: f != NONE -> break
  :: f == NONE && entry[p] == PRESENT && !stale[p] ->
     /* pin_resident: publish, then look again. */
     g = loc[p];
     atomic { buffered[me] = g; pending[me] = true };
     if
#ifdef NO_RECHECK
     :: true -> f = g; truly[me] = g
#else
     :: atomic { entry[p] == PRESENT && loc[p] == g -> f = g; truly[me] = g }
     :: atomic { !(entry[p] == PRESENT && loc[p] == g) ->
                 buffered[me] = NONE; pending[me] = true }
#endif
     fi
  :: f == NONE && (entry[p] != PRESENT || stale[p]) ->
     lock_take();
     atomic {
       if
       :: entry[p] == PRESENT && stale[p] -> make_orphan(p)
       :: else -> skip
       fi
     };
     if
     :: entry[p] == ABSENT ->
        /* frame_get: the free frame, or a reclaimed one. */
        g = 0;
        freed = false;
        reclaim(0, freed);
#ifdef NO_BUSY
        if
        :: !freed && page_in[1] == NONE -> g = 1; freed = true
        :: else -> skip
        fi;
#endif
        if
        :: freed ->
           atomic {
             page_in[g] = p;
             assert(UNIQUE);
#ifndef NO_BUSY
             entry[p] = BUSY;
#endif
             stale[p] = false;
             loc[p] = g
           };
           lock_drop();
           data[g] = disk[p]; /* the read */
           lock_take();
           atomic {
             /* load_end: under the lock the slot is stored with full order. */
             slot[me] = g;
             pending[me] = false;
             truly[me] = g;
             entry[p] = PRESENT;
             f = g
           }
        :: else -> skip
        fi;
        lock_drop();
        if :: !freed -> break :: else -> skip fi
     :: else ->
        lock_drop();
        /* pool_wait: until somebody's load is over. */
        entry[p] != BUSY
     fi
  od
}

inline unpin(me)
{
  atomic { truly[me] = NONE; buffered[me] = NONE; pending[me] = true }
}

inline latch_exclusive_take(f)
{
  atomic { readers[f] == 0 && !writer[f] -> writer[f] = true }
}

/* Fetches page 0, changes it, lets go; ROUNDS times. */
active proctype Changer()
{
  byte f, round;
  do
  :: round < 2 ->
     fetch(0, 0, f);
     if
     :: f != NONE ->
        assert(page_in[f] == 0);
        latch_exclusive_take(f);
        assert(page_in[f] == 0 && data[f] == newest[0]);
        if
        :: orphan[f] || stale[0] -> goto refused /* what mark_dirty would say */
        :: else -> skip
        fi;
        /* Change, then mark dirty under the lock, all under the latch. */
        atomic { data[f]++; newest[0]++ };
#ifdef WAIT_WITH_CLAIM
        /* A thread that holds a latch may need a page that is being written
        ** (to evict it): it waits for the claim to end. */
        !writing[f];
#endif
        lock_take();
        dirty[f] = true;
        lock_drop();
refused:
        writer[f] = false;
        assert(page_in[f] == 0);
        unpin(0)
     :: else -> skip
     fi;
     round++
  :: else -> break
  od
}

/* pagedb_discard of page 0: its changes are given up, unless it is pinned. */
inline discard()
{
  bool mine;
  lock_take();
  atomic {
    mine = false;
    if
    :: page_in[0] == 0 && entry[0] == PRESENT && !stale[0] && !ON_ITS_WAY(0) ->
       entry[0] = BUSY; mine = true
    :: else -> skip
    fi
  };
  if
  :: mine ->
     atomic {
#ifndef NO_FENCE
       drain_all();
#endif
       if
#ifndef NO_SCAN
       :: slot[0] == 0 || slot[1] == 0 -> entry[0] = PRESENT
#endif
       :: else ->
          assert(truly[0] != 0 && truly[1] != 0);
          newest[0] = disk[0];
          dirty[0] = false;
          entry[0] = ABSENT;
          page_in[0] = NONE
       fi
     }
  :: else -> skip
  fi;
  lock_drop()
}

/*
** pagedb_invalidate: what is here, or on its way, is stale from now on. Not while
** a page is unwritten. Nor while one is being changed: the locks of the file keep
** these two apart, and a change in spite of them is refused (pagedb_mark_dirty).
*/
inline forget()
{
  lock_take();
  atomic {
    if
#ifndef FORGET_UNWRITTEN
    :: dirty[0] || writing[0] || writer[0] -> skip
#endif
    :: else ->
       stale[0] = entry[0] != ABSENT;
       stale[1] = entry[1] != ABSENT
    fi
  };
  lock_drop()
}

/* Fetches page 1, which needs the frame, or page 0 as well, and reads it; or
** discards page 0; or forgets both. */
active proctype Other()
{
  byte f, q, round;
  do
  :: round < 2 ->
     if :: q = 0 :: q = 1 :: q = NONE :: q = FORGET fi;
     if
     :: q == NONE -> discard()
     :: q == FORGET -> forget()
     :: else ->
        fetch(1, q, f);
        if
        :: f != NONE ->
           assert(page_in[f] == q && data[f] == newest[q]);
           unpin(1)
        :: else -> skip
        fi
     fi;
     round++
  :: else -> break
  od
}

/* pagedb_flush, twice; a write may fail. */
active [2] proctype Flusher()
{
  byte copy, p, round;
  bool claimed, failed;
  do
  :: round < 2 ->
     claimed = false;
     lock_take();
#ifdef WAIT_WITH_CLAIM
     if
     :: dirty[0] && !writing[0] ->
        writing[0] = true;
        lock_drop();
        atomic { !writer[0] -> readers[0]++ };
        lock_take();
        dirty[0] = false;
        p = page_in[0];
        claimed = true
     :: else -> skip
     fi;
#else
     atomic {
       if
       :: dirty[0] && !ON_ITS_WAY(0) && !writer[0] ->
          writing[0] = true;
          readers[0]++;
          p = page_in[0];
#ifndef LATE_CLEAN
          dirty[0] = false;
#endif
          claimed = true
       :: else -> skip
       fi
     };
#endif
     lock_drop();
     if
     :: claimed ->
        copy = data[0];
        readers[0]--;
        /* The write: an older copy never follows a newer one. */
        if
        :: atomic { assert(copy >= disk[p]); disk[p] = copy; failed = false }
        :: failed = true
        fi;
        lock_take();
        atomic {
          writing[0] = false;
          if
#ifndef NO_REDIRTY
          :: failed -> dirty[0] = true
#endif
#ifdef LATE_CLEAN
          :: !failed -> dirty[0] = false
#endif
          :: else -> skip
          fi;
          /* What nobody has marked for writing is written. */
          assert(dirty[0] || writer[0] || page_in[0] == NONE ||
                 page_in[0] != 0 || disk[0] == newest[0] || writing[0])
        };
        lock_drop()
     :: else -> skip
     fi;
     round++
  :: else -> break
  od
}
