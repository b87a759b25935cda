#!/usr/bin/env python3
"""System calls per transaction: syscalls.py BENCH_SQL

Counted by strace over two runs that differ only in how many transactions they
do, so that what opening and closing take falls out. Times are worth nothing
under strace and are not shown.
"""
import os
import shutil
import subprocess
import sys
import tempfile

FEW, MANY = 100, 600
ROWS = 20000
VARIANTS = ("stock", "cksumvfs", "pagedb")
WORK = [
    *((f"{what} a row, {journal} {sync}",
       f"small journal={journal} sync={sync} update={update}")
      for journal, sync in (("DELETE", "FULL"), ("TRUNCATE", "FULL"),
                            ("PERSIST", "FULL"), ("WAL", "FULL"),
                            ("WAL", "NORMAL"))
      for update, what in ((0, "add"), (1, "change"))),
    ("read a point, autocommit", "point no_warm_up=1"),
    ("read a point, autocommit, WAL", "point journal=WAL no_warm_up=1"),
]


def run(program, variant, args, where, trace=None):
    command = [program, *args]
    if trace:
        command = ["strace", "-f", "-c", "-o", trace, *command]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PAGEDB_")}
    subprocess.run(command, env={**env, "PAGEDB_BENCH": variant}, cwd=where,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   check=True, timeout=300)


def count(trace):
    """calls by name, of strace -c."""
    calls = {}
    with open(trace) as f:
        for line in f:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] = int(words[3])
    return calls


def per_operation(program, variant, words, where):
    found = []
    for ops in (FEW, MANY):
        db = os.path.join(where, "work.db")
        for end in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(db + end):
                os.unlink(db + end)
        shutil.copyfile(os.path.join(where, variant + ".db"), db)
        trace = os.path.join(where, "trace")
        run(program, variant, [*words.split(), f"db={db}", f"rows={ROWS}",
                               f"ops={ops}"], where, trace)
        found.append(count(trace))
    few, many = found
    each = {name: (n - few.get(name, 0)) / (MANY - FEW)
            for name, n in many.items()}
    return {name: n for name, n in each.items() if n >= 0.01}


def main():
    if shutil.which("strace") is None:
        sys.exit("bench-syscalls: strace is not installed")
    program = os.path.abspath(sys.argv[1])
    top = os.environ.get("BENCH_DIR") or "build/bench"
    os.makedirs(top, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=top) as where:
        where = os.path.abspath(where)
        for variant in VARIANTS:
            run(program, variant, ["make", f"db={where}/{variant}.db",
                                   f"rows={ROWS}"], where)
        print("| system calls | " + " | ".join(VARIANTS) + " |")
        print("|---" * (len(VARIANTS) + 1) + "|")
        for title, words in WORK:
            each = [per_operation(program, v, words, where) for v in VARIANTS]
            print(f"| **{title}** | " + " | ".join(
                f"**{sum(e.values()):.2f}**" for e in each) + " |")
            for name in sorted(set().union(*each)):
                print(f"| {name} | " + " | ".join(
                    f"{e[name]:.2f}" if name in e else "" for e in each) + " |",
                      flush=True)


if __name__ == "__main__":
    main()
