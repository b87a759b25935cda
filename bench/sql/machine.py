"""The machine: what it is, its kernel read-ahead, and a limit for memory."""
import contextlib
import os
import platform
import subprocess

MIB = 1 << 20
# What a process takes that is neither its pool nor its cache of the file: the
# program, SQLite's own cache of 2 MB, the kernel's tables.
SLACK_MIB = 12


def _text(path, otherwise=""):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return otherwise


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _field(path, name):
    for line in _text(path).splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def _mount(path):
    """(type, options) of the file system that has path."""
    best = ("", "unknown", "")
    for line in _text("/proc/mounts").splitlines():
        _, where, kind, options = line.split()[:4]
        inside = path == where or path.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best[0]):
            best = (where, kind, options)
    return best[1:]


def _queue(path):
    """The block device's settings, or None where there is no device."""
    dev = os.stat(path).st_dev
    base = os.path.realpath(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}")
    for where in (base, os.path.dirname(base)):
        if os.path.isdir(where + "/queue"):
            return where + "/queue"
    return None


def describe(path):
    kind, options = _mount(os.path.realpath(path))
    queue = _queue(path)
    memory = _field("/proc/meminfo", "MemTotal").split()[0]
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_mib": int(memory) // 1024 if memory.isdigit() else None,
        "kernel": platform.system() + " " + platform.release(),
        "filesystem": f"{kind} ({options})",
        "device": os.path.basename(os.path.dirname(queue)) if queue else "none",
        "read_ahead_kib": _text(queue + "/read_ahead_kb") if queue else "none",
        "scheduler": _text(queue + "/scheduler") if queue else "none",
        "compiler": subprocess.run([os.environ.get("CC", "cc"), "--version"],
                                   capture_output=True, text=True
                                   ).stdout.split("\n")[0],
    }


def evict(path):
    """The file leaves the system's cache."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


@contextlib.contextmanager
def read_ahead(path, kib):
    """The device's read-ahead while it lasts; 0: as it is."""
    if not kib:
        yield
        return
    queue = _queue(path)
    if queue is None:
        raise OSError("no block device, no read-ahead to set")
    setting = queue + "/read_ahead_kb"
    was = _text(setting)
    with open(setting, "w") as f:
        f.write(str(kib))
    try:
        yield
    finally:
        with open(setting, "w") as f:
            f.write(was)


class MemoryLimit:
    """A memory cgroup, of either version; how is None where there can be none."""

    def __init__(self):
        self.how = self.path = None
        self.bytes = 0
        for how, root, limit in (
                ("cgroup v2", "/sys/fs/cgroup", "memory.max"),
                ("cgroup v1", "/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
            path = f"{root}/pagedb-bench-{os.getpid()}"
            try:
                os.mkdir(path)
            except OSError:
                continue
            if os.path.exists(f"{path}/{limit}"):
                self.how, self.path, self.file = how, path, f"{path}/{limit}"
                break
            os.rmdir(path)

    def set(self, mib):
        if self.path is None:
            raise OSError("no memory cgroup: memory could not be made equal")
        self.bytes = (mib + SLACK_MIB) * MIB
        with open(self.file, "w") as f:
            f.write(str(self.bytes))

    def join(self):
        """In the child, before its program runs."""
        with open(f"{self.path}/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def close(self):
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
