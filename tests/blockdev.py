"""Power cuts and failing disks under a real file system.

A disk image is exported by qemu-storage-daemon through FUSE, attached as a loop
device, and mounted. Below the export stands blklogwrites, which records every
write and flush in dm-log-writes' format, or a node that is exchanged for blkdebug
while the workload runs.

Cuts: the log is replayed onto a copy of the image as it was before, up to each
flush, and between flushes with any subset of what came after the last one, whole
or torn at 512 bytes. Each image is mounted, which replays the file system's
journal, and read by page-db.

Oracle: commit i sets every row to i, and a table of its own says i. A commit that
was acknowledged before the cut is there, whole, and none is there in part;
integrity_check says ok, every page verifies, the file is stamped.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import time

BUILD = os.path.abspath(sys.argv[1])
DIR = os.path.join(BUILD, "blockdev.%d" % os.getpid())
POINTS = int(os.environ.get("BLOCKDEV_POINTS", "40"))
SEED = int(os.environ.get("PAGEDB_SEED", str(time.time_ns() % 10**9)))
SIZE = {"ext4": 64 << 20, "xfs": 320 << 20}
COMMITS = 30
# With 3000 a commit is of some MiB, which the disk is told to begin with (vfs/pages.c).
ROWS = int(os.environ.get("BLOCKDEV_ROWS", "150"))
SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4

class Lost(Exception):
    """The database is not what it has to be."""


undo = []  # what is to be taken down, last first


def sh(*command, check=True):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if check and done.returncode != 0:
        raise SystemExit("%s: %s%s" % (" ".join(command), done.stdout, done.stderr))
    return done.stdout


def take_down():
    while undo:
        undo.pop()()


def path(name):
    return os.path.join(DIR, name)


# ----------------------------------------------------------------- the device


class Device:
    """An image, exported and mounted."""

    def __init__(self, image, fs, log=None):
        self.mark = len(undo)
        export = path("export")
        open(export, "w").close()
        blocks = ["driver=file,node-name=disk,filename=" + image]
        if log is None:
            blocks.append("driver=raw,node-name=top,file=disk")
        else:
            with open(log, "wb") as f:
                f.truncate(8 << 30)
            blocks += [
                "driver=file,node-name=log,filename=" + log,
                "driver=blklogwrites,node-name=top,file=disk,log=log,log-sector-size=512",
            ]
        command = ["qemu-storage-daemon"]
        for b in blocks:
            command += ["--blockdev", b]
        command += [
            "--chardev",
            "socket,id=qmp,path=%s,server=on,wait=off" % path("qmp"),
            "--monitor",
            "chardev=qmp",
            "--export",
            "type=fuse,id=e,node-name=top,mountpoint=%s,writable=on" % export,
        ]
        with open(path("qsd.log"), "a") as out:
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        undo.append(self.end_daemon)
        for _ in range(200):
            if os.path.ismount(export) or os.path.getsize(export) > 0:
                break
            time.sleep(0.05)
        else:
            raise SystemExit("no FUSE export: " + open(path("qsd.log")).read())
        self.loop = sh("losetup", "--find", "--show", export).strip()
        undo.append(lambda: sh("losetup", "-d", self.loop, check=False))
        self.where = mount(self.loop, fs)

    def end_daemon(self):
        self.daemon.terminate()
        self.daemon.wait()

    def close(self):
        while len(undo) > self.mark:
            undo.pop()()

    def qmp(self, *commands):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path("qmp"))
            f = s.makefile("rw")
            f.readline()
            for execute, arguments in (("qmp_capabilities", {}),) + commands:
                f.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
                f.flush()
                answer = json.loads(f.readline())
                while "event" in answer:
                    answer = json.loads(f.readline())
                if "error" in answer:
                    raise SystemExit("%s: %s" % (execute, answer["error"]))

    def fault(self, **rule):
        """From here on requests of that kind fail; without a rule none does."""
        commands = []
        if rule:
            rule["event"] = "none"
            bad = {"driver": "blkdebug", "node-name": "bad", "image": "disk"}
            commands.append(("blockdev-add", dict(bad, **{"inject-error": [rule]})))
        top = {"driver": "raw", "node-name": "top", "file": "bad" if rule else "disk"}
        commands.append(("blockdev-reopen", {"options": [top]}))
        if not rule:
            commands.append(("blockdev-del", {"node-name": "bad"}))
        self.qmp(*commands)


def mount(what, fs):
    where = path("mnt")
    os.makedirs(where, exist_ok=True)
    options = ["-o", "nouuid"] if fs == "xfs" else []
    sh("mount", "-t", fs, *options, what, where)
    undo.append(lambda: sh("umount", "--lazy", where))
    return where


def make_image(fs):
    image = path("image")
    with open(image, "wb") as f:
        f.truncate(SIZE[fs])
    if fs == "xfs":
        sh("mkfs.xfs", "-q", "-f", image)
    else:
        sh("mkfs.ext4", "-q", "-F", image)
    return image


# --------------------------------------------------------------- the workload


def connect(name):
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(os.path.join(BUILD, "pagedb.so"))
    loader.close()
    db = sqlite3.connect(name, isolation_level=None)
    # FULL leaves a deleted journal to the file system's next commit: the last
    # transaction may be undone.
    db.execute("PRAGMA synchronous=EXTRA")
    return db


def create(name, journal):
    db = connect(name)
    db.execute("PRAGMA journal_mode=" + journal)
    db.execute("PRAGMA wal_autocheckpoint=0")
    db.execute("PRAGMA cache_size=20")
    db.executescript(
        "BEGIN; CREATE TABLE state(n); INSERT INTO state VALUES(0);"
        "CREATE TABLE t(a INTEGER PRIMARY KEY, v, pad); CREATE INDEX i ON t(v, pad);"
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<%d)"
        "INSERT INTO t SELECT x, 0, hex(zeroblob(150)) FROM c; COMMIT;" % ROWS
    )
    return db


def commit(db, i, journal):
    script = "BEGIN; UPDATE state SET n=%d; UPDATE t SET v=%d;" % (i, i)
    script += "INSERT INTO t SELECT NULL, %d, pad FROM t LIMIT 20;" % i
    if i % 5 == 4:
        script += "DELETE FROM t WHERE a %% 3 = %d;" % (i % 3)
    db.executescript(script + "COMMIT;")
    if i % 11 == 7:
        db.execute("VACUUM")
    if journal == "WAL" and i % 4 == 3:
        kind = "TRUNCATE" if i % 8 == 3 else "PASSIVE"
        db.execute("PRAGMA wal_checkpoint(%s)" % kind).fetchall()


def verify(name, least, most, what):
    """The database has one of the commits least..most, whole."""
    with contextlib.closing(connect(name)) as db:
        look_at(db, least, most, what)


def look_at(db, least, most, what):
    n = db.execute("SELECT n FROM state").fetchone()[0]
    if not least <= n <= most:
        raise Lost("%s: commit %d, expected %d to %d" % (what, n, least, most))
    if db.execute("SELECT count(*) FROM t WHERE v <> ?", (n,)).fetchone()[0]:
        raise Lost("%s: commit %d is there in part" % (what, n))
    ok = db.execute("PRAGMA integrity_check").fetchone()[0]
    if ok != "ok":
        raise Lost("%s: %s" % (what, ok))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    bad = db.execute(
        "SELECT page, status, type FROM pagedb_pages WHERE status NOT IN ('ok', 'lock')"
    ).fetchall()
    if bad:
        raise Lost("%s: bad pages: %s" % (what, bad))
    db.execute("INSERT INTO t SELECT NULL, n, 'and on' FROM state")


# ------------------------------------------------------------------- the cuts


class Log:
    """A log of blklogwrites, as far as it is written."""

    def __init__(self, name):
        self.file = open(name, "rb", buffering=0)
        self.at = SECTOR
        self.entries = []  # (sector, sectors, flags, where its data is)

    def read_on(self):
        """The number of entries by now; none is without sectors and flags."""
        while True:
            head = os.pread(self.file.fileno(), 32, self.at)
            sector, count, flags, _ = struct.unpack("<QQQQ", head)
            if count == 0 and flags == 0:
                return len(self.entries)
            self.entries.append((sector, count, flags, self.at + SECTOR))
            self.at += SECTOR
            if not flags & DISCARD:
                self.at += count * SECTOR

    def apply(self, out, entry, torn=None):
        sector, count, flags, at = entry
        count = count if torn is None else torn
        data = bytes(count * SECTOR)
        if not flags & DISCARD:
            data = os.pread(self.file.fileno(), count * SECTOR, at)
        os.pwrite(out, data, sector * SECTOR)


def record(fs, journal, image):
    """Run the workload; the log, and how many entries it had after each commit."""
    device = Device(image, fs, path("log"))
    log = Log(path("log"))
    db = create(os.path.join(device.where, "a.db"), journal)
    acknowledged = [log.read_on()]
    for i in range(1, COMMITS + 1):
        commit(db, i, journal)
        acknowledged.append(log.read_on())
    db.close()
    device.close()
    log.read_on()
    return log, acknowledged


def acknowledged_at(acknowledged, entries):
    return sum(1 for n in acknowledged if n <= entries) - 1


def examine(fs, image, acknowledged, entries, seen, what):
    """Mount a copy. `seen`: entries of which something may be in it."""
    copy = path("copy")
    sh("cp", "--sparse=always", image, copy)
    mark = len(undo)
    loop = sh("losetup", "--find", "--show", copy).strip()
    undo.append(lambda: sh("losetup", "-d", loop, check=False))
    least = acknowledged_at(acknowledged, entries)
    try:
        where = mount(loop, fs)
        if least >= 0:
            most = acknowledged_at(acknowledged, seen) + 1
            verify(os.path.join(where, "a.db"), least, most, what)
    finally:
        while len(undo) > mark:
            undo.pop()()
    return least >= 0


def control(fs, log, acknowledged):
    """A disk that forgot the last commit although it said that it had it: seen."""
    sh("cp", "--sparse=always", path("image0"), path("lying"))
    out = os.open(path("lying"), os.O_RDWR)
    for entry in log.entries[: acknowledged[9]]:
        log.apply(out, entry)
    os.close(out)
    n = acknowledged[11]
    try:
        examine(fs, path("lying"), acknowledged, n, n, "control")
    except Lost:
        return
    raise SystemExit("%s: commits that were lost are not missed" % fs)


def cuts(fs, journal, rng):
    image = make_image(fs)
    sh("cp", "--sparse=always", image, path("image0"))
    sh("cp", "--sparse=always", image, path("before"))
    log, acknowledged = record(fs, journal, image)
    control(fs, log, acknowledged)
    flushes = [i for i, e in enumerate(log.entries) if e[2] & FLUSH]
    # The first ones are those of mount, before there is a database.
    first = next(k for k, i in enumerate(flushes) if i >= acknowledged[0])
    chosen = set(
        flushes
        if len(flushes) - first <= POINTS
        else rng.sample(flushes[first:], POINTS)
    )
    replayed = os.open(path("before"), os.O_RDWR)
    examined = between = 0
    for i, entry in enumerate(log.entries):
        log.apply(replayed, entry)
        if i not in chosen:
            continue
        what = "%s, %s, seed %d, flush at entry %d" % (fs, journal, SEED, i)
        os.fsync(replayed)
        examined += examine(fs, path("before"), acknowledged, i + 1, i + 1, what)
        end = next((k for k in flushes if k > i), len(log.entries) - 1)
        if end - i < 3:
            continue
        # Any of the writes that no flush followed yet, some of them torn.
        sh("cp", "--sparse=always", path("before"), path("between"))
        out = os.open(path("between"), os.O_RDWR)
        for entry in log.entries[i + 1 : end]:
            if rng.random() < 0.5:
                torn = rng.randrange(entry[1] + 1) if rng.random() < 0.2 else None
                log.apply(out, entry, torn)
        os.close(out)
        what += ", and some of the writes behind it"
        examined += examine(fs, path("between"), acknowledged, i + 1, end, what)
        between += 1
    os.close(replayed)
    print(
        "ok    %-5s %-7s %4d writes, %3d flushes; %3d images examined, %d of them between"
        % (fs, journal, len(log.entries) - len(flushes), len(flushes), examined, between),
        flush=True,
    )
    return examined


# --------------------------------------------------------------- failing disks


def forget(*names):
    """Nothing of these files stays in the system's cache."""
    for name in names:
        fd = os.open(name, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def sector_of(name, page):
    """Where on the device a page of 4096 bytes is."""
    for line in sh("filefrag", "-e", "-b512", name).splitlines():
        words = line.replace(":", " ").replace(".", " ").split()
        if len(words) >= 5 and words[0].isdigit():
            first, last, at = int(words[1]), int(words[2]), int(words[3])
            if first <= page * 8 <= last:
                return at + page * 8 - first
    raise SystemExit("page %d is nowhere in %s" % (page, name))


def fails(db, sql):
    try:
        db.execute(sql).fetchall()
    except sqlite3.Error as e:
        return str(e)
    return None


def bad_sector(fs, device, name):
    """A page that cannot be read fails its own query alone."""
    db = connect(name)
    pages = db.execute(
        "SELECT page FROM pagedb_pages WHERE object='table t' AND type='table leaf'"
    ).fetchall()
    db.close()
    forget(name, device.loop, path("export"))
    device.fault(errno=5, sector=sector_of(name, pages[3][0] - 1), iotype="read")
    db = connect(name)
    if fails(db, "SELECT n FROM state"):
        raise SystemExit("%s: another page's bad sector fails a query" % fs)
    if not fails(db, "SELECT count(pad) FROM t NOT INDEXED"):
        raise SystemExit("%s: the bad sector was not met" % fs)
    db.close()
    device.fault()


def failing(fs, device, name, journal, kind, number):
    """Everything of that kind fails, in the middle: no commit is acknowledged that
    is not there afterwards, and after a failed flush none at all."""
    db = connect(name)
    db.execute("PRAGMA wal_autocheckpoint=0")
    n = db.execute("SELECT n FROM state").fetchone()[0]
    commit(db, n + 1, journal)
    device.fault(errno=number, iotype=kind)
    acknowledged, failed = n + 1, 0
    for i in range(n + 2, n + 8):
        try:
            commit(db, i, journal)
            acknowledged = i
        except sqlite3.Error:
            failed += 1
            if db.in_transaction:
                fails(db, "ROLLBACK")
    if kind == "flush" and acknowledged != n + 1:
        raise SystemExit("%s, %s: a commit without its flush" % (fs, journal))
    if kind == "flush" and failed and not fails(db, "UPDATE state SET n=-1"):
        raise SystemExit("%s, %s: success after a failed sync" % (fs, journal))
    try:
        db.close()
    except sqlite3.Error:
        pass
    # The machine is started again, with a disk that works.
    device.close()
    device = Device(path("image"), fs)
    what = "%s, %s, failing %s, errno %d" % (fs, journal, kind, number)
    verify(name, acknowledged, acknowledged + 8, what)
    print(
        "ok    %-5s %-7s failing %s, errno %d: %d commits refused"
        % (fs, journal, kind, number, failed),
        flush=True,
    )
    return device


def faults(fs, journal):
    device = Device(make_image(fs), fs)
    name = os.path.join(device.where, "a.db")
    create(name, journal).close()
    bad_sector(fs, device, name)
    print("ok    %-5s %-7s a sector that cannot be read" % (fs, journal), flush=True)
    for kind, number in (("write", 5), ("write", 28), ("flush", 5)):
        device = failing(fs, device, name, journal, kind, number)
    device.close()


def main():
    rng = random.Random(SEED)
    os.makedirs(DIR)
    undo.append(lambda: shutil.rmtree(DIR))
    print("blockdev: PAGEDB_SEED=%d" % SEED, flush=True)
    try:
        examined = 0
        for fs in ("ext4", "xfs"):
            for journal in ("DELETE", "WAL"):
                examined += cuts(fs, journal, rng)
                faults(fs, journal)
        print("ok    blockdev          %d images" % examined)
    except Lost as e:
        raise SystemExit("FAIL  blockdev: %s" % e)
    finally:
        take_down()


main()
