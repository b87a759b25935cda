"""What is measured: one Work per line of the tables.

A Work is run once per variant and round, in a process of its own. `args` go to
bench_sql (sql_bench.h); {rows}, {seconds} and the like are filled in by the size
that was asked for. `goal` is the ratio to stock SQLite that is aimed at.
"""
from dataclasses import dataclass

VARIANTS = ["stock", "mmap", "cksumvfs", "pagedb", "pagedb+pcache"]

# rows: of table t, 455 bytes of file each. pool: MiB, for work larger than it.
# seconds: of one measurement of reads or small transactions.
SIZES = {
    "small": dict(rows=60000, pool=8, seconds=0.15, cold_points=500, larges=1,
                  load=60000, speedtest=3, kv=1000, rounds=2),
    "full": dict(rows=550000, pool=64, seconds=1.0, cold_points=3000, larges=3,
                 load=500000, speedtest=60, kv=10000, rounds=3),
}


@dataclass
class Work:
    id: str
    group: str
    title: str
    args: str
    data: str = "ordered"   # which database; "" for none
    copy: bool = False      # the work changes it
    goal: float = None
    program: str = "bench_sql"
    limit: bool = False     # pool and cache of `pool` MiB
    unit: str = "time"      # or "bytes"
    skip: tuple = ()        # variants that would take minutes
    evict: bool = False     # out of the system's cache first (bench_sql can itself)


WARM, COLD, LIMIT = "Warm reads", "Cold reads", "Less memory than data"
SMALL, BULK, MANY = "One-row transactions", "Bulk work", "Many connections"
OWN = "SQLite's own benchmarks"
GROUPS = [WARM, COLD, LIMIT, MANY, SMALL, BULK, OWN]

TIMED = "seconds={seconds}"


def _small_transactions():
    goals = {("DELETE", "FULL"): 1.0, ("TRUNCATE", "FULL"): 1.0,
             ("WAL", "FULL"): 1.0, ("WAL", "NORMAL"): 0.9}
    for journal in ("DELETE", "TRUNCATE", "WAL"):
        for sync in ("FULL", "NORMAL"):
            for update, what in ((0, "add"), (1, "change")):
                key = f"small_{what}_{journal.lower()}_{sync.lower()}"
                title = f"{what} a row, {journal} {sync}"
                args = (f"small journal={journal} sync={sync} update={update} "
                        f"{TIMED}")
                yield Work(key, SMALL, title, args, copy=True,
                           goal=goals.get((journal, sync)))
                if update and journal == "WAL":
                    yield Work(f"{key}_fresh", SMALL, f"{title}, fresh process",
                               f"{args} no_warm_up=1", copy=True)


def _scans(group, prefix, extra, goals, skip_scattered=(), **more):
    for data, shape in (("ordered", "vacuumed"), ("scattered", "scattered")):
        for text, what in ((0, "count(*)"), (1, "text")):
            key = f"{prefix}_scan_{shape}_{'text' if text else 'count'}"
            yield Work(key, group, f"scan, {shape} table, {what}",
                       f"scan text={text} {extra}", data=data,
                       goal=goals.get((shape, text)),
                       skip=skip_scattered if data == "scattered" else (),
                       **more)


# How often kvtest reads each blob, on average. It warms nothing up, and times
# everything: what it is asked to do often is warm for the most part.
KV_WARM, KV_FRESH = 500, 4


def _kvtest(key, what, extra):
    """Warm; and as a process begins, with the file in the system's cache or not."""
    for end, title, reads, cold in (
            ("", f"{KV_WARM} each", "kv_warm", False),
            ("_fresh", "fresh process", "kv_fresh", False),
            ("_cold", "cold", "kv_fresh", True)):
        if (key, end) != ("api", "_fresh"):
            yield Work(f"kvtest_{key}{end}", OWN,
                       f"kvtest, 10 kB, {what}, {title}",
                       f"--count {{{reads}}} --max-id {{kv}} --random{extra}",
                       data="kv", evict=cold, program="kvtest")


WORK = [
    Work("point_txn", WARM, "point, in a transaction", f"point txn=1 {TIMED}",
         goal=0.60),
    Work("point_txn_zipf", WARM, "point, in a transaction, zipf",
         f"point txn=1 zipf=1 {TIMED}", goal=0.60),
    Work("point_auto", WARM, "point, autocommit", f"point {TIMED}", goal=0.85),
    Work("point_auto_zipf", WARM, "point, autocommit, zipf",
         f"point zipf=1 {TIMED}", goal=0.85),
    Work("point_wal_empty", WARM, "point, autocommit, WAL without a frame",
         f"point journal=WAL {TIMED}", copy=True),
    Work("point_wal", WARM, "point, autocommit, WAL with frames",
         f"point journal=WAL update=1 {TIMED}", copy=True),
    Work("range", WARM, "range of 100 rows", f"range txn=1 {TIMED}"),
    Work("range_scattered", WARM, "range of 100 rows, scattered table",
         f"range txn=1 {TIMED}", data="scattered"),
    *_scans(WARM, "warm", TIMED,
            {("vacuumed", 0): 0.05, ("vacuumed", 1): 0.80}),

    Work("cold_point", COLD, "point", "point txn=1 cold=1 ops={cold_points}",
         goal=1.0),
    Work("cold_range", COLD, "range of 100 rows",
         "range txn=1 cold=1 ops={cold_ranges}"),
    *_scans(COLD, "cold", "cold=1",
            {("vacuumed", 0): 1.0, ("vacuumed", 1): 1.0,
             ("scattered", 0): 0.17, ("scattered", 1): 0.17}),

    Work("limit_point", LIMIT, "point", f"point txn=1 from_disk=1 {TIMED}",
         limit=True),
    Work("limit_point_zipf", LIMIT, "point, zipf",
         f"point txn=1 zipf=1 from_disk=1 {TIMED}", limit=True),
    # Each fault of mmap reads the whole read-ahead, and throws out as much.
    *_scans(LIMIT, "limit", "cold=1",
            {("scattered", 0): 0.35, ("scattered", 1): 0.35},
            skip_scattered=("mmap",), limit=True),

    Work("point_2", MANY, "point in a transaction, 2 threads",
         f"point txn=1 threads=2 {TIMED}", goal=0.65),
    Work("point_8", MANY, "point in a transaction, 8 threads",
         f"point txn=1 threads=8 {TIMED}"),
    Work("point_auto_2", MANY, "point, autocommit, 2 threads",
         f"point threads=2 {TIMED}"),
    Work("point_auto_8", MANY, "point, autocommit, 8 threads",
         f"point threads=8 {TIMED}"),
    Work("mixed", MANY, "7 read points, 1 writes, WAL FULL",
         f"mixed threads=8 sync=FULL {TIMED}", copy=True),
    Work("memory", MANY, "memory of 8 connections, all cached",
         "memory threads=8 cache=-1000000", goal=0.125, unit="bytes"),

    *_small_transactions(),

    *(Work(f"large_{j.lower()}", BULK, f"transactions of 10 MB, {j} FULL",
           f"large journal={j} sync=FULL ops={{larges}}", copy=True)
      for j in ("DELETE", "TRUNCATE", "WAL")),
    Work("load", BULK, "insert, default cache", "load rows={load}", data="",
         copy=True, goal=0.80),
    Work("load_cache", BULK, "insert, large cache",
         "load rows={load} cache=-1000000", data="", copy=True, goal=0.80),
    Work("update", BULK, "update of 20 % at random, default cache", "update",
         copy=True, goal=0.80),
    Work("update_cache", BULK, "update of 20 % at random, large cache",
         "update cache=-1000000", copy=True, goal=1.0),
    Work("index", BULK, "CREATE INDEX", "index", copy=True),
    Work("vacuum", BULK, "VACUUM of a scattered table", "vacuum",
         data="scattered", copy=True),
    Work("checkpoint", BULK, "checkpoint of a WAL of 100 MB", "checkpoint",
         copy=True, goal=0.8),

    Work("speedtest1", OWN, "speedtest1", "--size {speedtest}", data="",
         copy=True, goal=0.85, program="speedtest1"),
    *_kvtest("read", "random reads", ""),
    *_kvtest("api", "blob API", " --blob-api"),
    Work("kvtest_update", OWN, "kvtest, 10 kB, updates, fresh process",
         "--count {kv_updates} --max-id {kv} --random --update", data="kv",
         copy=True, program="kvtest"),
]

for _size in SIZES.values():
    _size["cold_ranges"] = _size["cold_points"] // 5
    _size["kv_warm"] = _size["kv"] * KV_WARM
    _size["kv_fresh"] = _size["kv"] * KV_FRESH
    _size["kv_updates"] = _size["kv"] * 2 // 5
