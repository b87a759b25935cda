#!/usr/bin/env python3
"""Measure SQLite's variants side by side: run.py PROGRAMS-DIRECTORY RESULT.json

Without arguments it only says what is wrong with the options. They come by the
environment, as `make bench` passes them:

  SIZE=small|full  databases of 27 or 250 MB, short or long measurements
  ROUNDS=n         every line is measured n times per variant
  MINUTES=n        begin nothing new after n minutes; what is there is reported
  BENCH=PATTERN    only lines whose name has it (shell pattern, or a part)
  READAHEAD=KiB    cold reads again, with this kernel read-ahead (root; the
                   device's setting is put back)
  RESUME=1         go on with RESULT.json where it ends
  BENCH_DIR=DIR    where the databases are; the file system that is measured

A round measures all lines. Within a line the variants follow each other at once,
and each round begins with another one. What is reported are medians of the
ratios to stock SQLite in the same round, so that a drift of the machine meets
both sides. The result is stored after each line: nothing is lost by a stop.
"""
import contextlib
import fnmatch
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

import machine
from plan import COLD, GROUPS, SIZES, VARIANTS, WORK

DEADLINE_S = 900  # of one process


class Failed(Exception):
    pass


def data_of(variant):
    """mmap reads stock's files, and both of page-db's variants the same."""
    return {"mmap": "stock", "pagedb+pcache": "pagedb"}.get(variant, variant)


class Options:
    """What the environment says; the program ends with a sentence if it is wrong."""

    def __init__(self, env):
        self.env = env
        self.size = self.one_of("SIZE", list(SIZES), "small")
        self.rounds = self.number("ROUNDS", int, 1, 1000,
                                  SIZES[self.size]["rounds"])
        self.minutes = self.number("MINUTES", float, 0, 1e6, 1e6)
        self.read_ahead = self.number("READAHEAD", int, 0, 1 << 20, 0)
        self.resume = self.one_of("RESUME", ["0", "1"], "0") == "1"
        pattern = env.get("BENCH") or ""
        self.works = [w for w in WORK if is_named(w, pattern)]
        if not self.works:
            sys.exit(f"bench: BENCH={pattern}: no line is named so; it is a part of "
                     "a name in bench/sql/plan.py, a shell pattern for a whole "
                     "name, or a group: " + ", ".join(GROUPS))
        self.dir = os.path.abspath(env.get("BENCH_DIR") or "build/bench/data")
        try:
            os.makedirs(self.dir, exist_ok=True)
        except OSError as e:
            sys.exit(f"bench: BENCH_DIR={self.dir}: {e.strerror}; it is a directory "
                     "to write databases to")

    def one_of(self, name, allowed, otherwise):
        value = self.env.get(name) or otherwise
        if value not in allowed:
            sys.exit(f"bench: {name}={value}: it is one of {', '.join(allowed)}")
        return value

    def number(self, name, kind, least, most, otherwise):
        text = self.env.get(name)
        if not text:
            return otherwise
        with contextlib.suppress(ValueError):
            value = kind(text)
            if least <= value <= most:
                return value
        whole = "whole number" if kind is int else "number"
        sys.exit(f"bench: {name}={text}: it is a {whole} from {least} to {most:.0f}")


def is_named(work, p):
    return (p in work.id or fnmatch.fnmatch(work.id, p) or
            p.lower() in work.group.lower())


class Bench:
    def __init__(self, programs, result_path, options):
        self.programs = programs
        self.result_path = result_path
        self.size_name = options.size
        self.size = SIZES[self.size_name]
        self.rounds = options.rounds
        self.works = options.works
        self.until = time.monotonic() + 60 * options.minutes
        self.read_ahead = options.read_ahead
        self.dir = options.dir
        self.limit = machine.MemoryLimit()
        self.result = self.load(options.resume)

    # ------------------------------------------------------------------ result

    def load(self, resume):
        settings = {"size": self.size_name, "settings": self.size,
                    "pagedb": machine.commit(),
                    "memory_limit": self.limit.how or "none"}
        if resume and os.path.exists(self.result_path):
            try:
                with open(self.result_path) as f:
                    old = json.load(f)
            except (OSError, ValueError) as e:
                sys.exit(f"bench: RESUME=1: {self.result_path} cannot be read: {e}")
            if all(old.get(k) == v for k, v in settings.items()):
                return old
            print("bench: the stored result is of another size or version: anew")
        return {**settings, "machine": machine.describe(self.dir),
                "began": time.strftime("%Y-%m-%d %H:%M"), "raw": {}}

    def store(self):
        part = self.result_path + ".part"
        with open(part, "w") as f:
            json.dump(self.result, f, indent=1)
        os.replace(part, self.result_path)

    # ------------------------------------------------------------------- files

    def database(self, work, variant):
        """The database of this work and variant, made when it is not there."""
        kind = data_of(variant)
        rows = self.size["kv" if work.data == "kv" else "rows"]
        path = os.path.join(self.dir, f"{kind}-{work.data}-{rows}.db")
        if os.path.exists(path):
            return path
        part = path + ".part"
        for old in (part, part + "-journal"):
            if os.path.exists(old):
                os.unlink(old)
        if work.data == "kv":
            self.start("kvtest", ["init", part, "--count", str(rows),
                                  "--size", "10000"], kind)
        else:
            scattered = int(work.data == "scattered")
            self.start("bench_sql", ["make", f"db={part}", f"rows={rows}",
                                     f"scattered={scattered}"], kind)
        os.rename(part, path)
        return path

    def copy_of(self, path):
        copy = os.path.join(self.dir, "work.db")
        self.remove_copy()
        if path is not None:
            shutil.copyfile(path, copy)
            with open(copy, "rb") as f:
                os.fsync(f.fileno())
        return copy

    def remove_copy(self):
        for end in ("", "-journal", "-wal", "-shm"):
            path = os.path.join(self.dir, "work.db" + end)
            if os.path.exists(path):
                os.unlink(path)

    # --------------------------------------------------------------- processes

    def start(self, program, args, variant, pool=None, limited=False):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("PAGEDB_")}
        env.update(PAGEDB_BENCH=variant, SQLITE_TMPDIR=self.dir)
        if pool:
            env["PAGEDB_POOL_SIZE"] = f"{pool}MiB"
        try:
            done = subprocess.run(
                [os.path.join(self.programs, program), *args], env=env,
                cwd=self.dir, stdin=subprocess.DEVNULL, timeout=DEADLINE_S,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                preexec_fn=self.limit.join if limited else None)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {DEADLINE_S} s")
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise Failed(f"exit {done.returncode}: "
                         f"{words[-1][:200] if words else ''}")
        return done.stdout

    def measure(self, work, variant, round_):
        """One figure, and what else the process said."""
        path = self.database(work, variant) if work.data else None
        if work.copy:
            path = self.copy_of(path)
        if work.evict:
            machine.evict(path)
        words = work.args.format(**self.size).split()
        pool = self.size["pool"] if work.limit else None
        if work.limit:
            self.limit.set(pool)
        if work.program == "bench_sql":
            rows = [] if any(w.startswith("rows=") for w in words) else [
                f"rows={self.size['rows']}"]
            out = self.start("bench_sql", [*words, f"db={path}", *rows,
                                           f"seed={round_ + 1}"],
                             variant, pool, work.limit)
            told = json.loads(out)
            told["value"] = (told["bytes"] if work.unit == "bytes"
                             else told["ns"] / told["ops"])
        elif work.program == "speedtest1":
            out = self.start("speedtest1", [*words, path], variant)
            seconds = re.search(r"TOTAL\.* *([0-9.]+)s", out)
            told = {"value": float(seconds.group(1)) * 1e9}
        else:
            # Its own default is to forbid what mmap and page-db read by.
            if variant not in ("stock", "cksumvfs"):
                words += ["--mmap", str(0x7fff0000)]
            out = self.start("kvtest", ["run", path, *words], variant)
            us = re.search(r"Microseconds per BLOB (?:read|write): *([0-9.]+)",
                           out)
            told = {"value": float(us.group(1)) * 1e3}
        if work.copy:
            self.remove_copy()
        return told

    # ------------------------------------------------------------------ rounds

    def variants_of(self, work):
        names = [v for v in VARIANTS if v not in work.skip]
        if self.read_ahead and work.group == COLD:
            names += [f"{v}@{self.read_ahead}" for v in ("stock", "mmap")]
        return names

    def line(self, work, round_):
        """All variants of a work, one after the other."""
        names = self.variants_of(work)
        turn = round_ % len(names)
        told = {}
        for name in names[turn:] + names[:turn]:
            variant, _, read_ahead = name.partition("@")
            try:
                with machine.read_ahead(self.dir, int(read_ahead or 0)):
                    told[name] = self.measure(work, variant, round_)
            except (Failed, OSError, ValueError, AttributeError) as e:
                told[name] = {"error": str(e)}
        return told

    def run(self):
        for round_ in range(self.rounds):
            for i, work in enumerate(self.works):
                raw = self.result["raw"].setdefault(work.id, [])
                if len(raw) > round_:
                    continue
                if time.monotonic() > self.until:
                    print("bench: the time is up")
                    return
                told = self.line(work, round_)
                raw.append({"load": os.getloadavg()[0], "variants": told})
                self.store()
                self.progress(round_, i, len(self.works), work, told)

    def progress(self, round_, i, n, work, told):
        words = []
        stock = told["stock"].get("value")
        for name, t in told.items():
            if "error" in t:
                words.append(f"{name} failed ({t['error']})")
            elif name != "stock" and stock:
                words.append(f"{name} {t['value'] / stock:.2f}")
        print(f"round {round_ + 1}/{self.rounds} {i + 1:3}/{n} {work.group}, {work.title}: "
              + ", ".join(words), flush=True)


# -------------------------------------------------------------------- summary


def spread(values):
    values = sorted(values)
    quarter = (statistics.quantiles(values, n=4, method="inclusive")
               if len(values) > 1 else values * 3)
    return {"median": statistics.median(values), "q1": quarter[0],
            "q3": quarter[2], "min": values[0], "max": values[-1],
            "n": len(values)}


def summarize(result):
    """For each line and variant: spread of the figure and of its ratio."""
    lines = []
    for work in WORK:
        rounds = result["raw"].get(work.id)
        if not rounds:
            continue
        names = list(rounds[0]["variants"])
        names.sort(key=lambda n: (VARIANTS + [n]).index(n))
        variants = {}
        for name in names:
            told = [r["variants"].get(name, {}) for r in rounds]
            values = [t["value"] for t in told if "value" in t]
            ratios = [t["value"] / r["variants"]["stock"]["value"]
                      for t, r in zip(told, rounds)
                      if "value" in t and "value" in r["variants"]["stock"]]
            errors = [t["error"] for t in told if "error" in t]
            variants[name] = {
                "value": spread(values) if values else None,
                "ratio": spread(ratios) if ratios else None,
                "error": errors[0] if errors else None}
        lines.append({"id": work.id, "group": work.group, "title": work.title,
                      "unit": work.unit, "goal": work.goal,
                      "variants": variants})
    result["lines"] = lines


def main():
    options = Options(os.environ)
    if len(sys.argv) < 3:
        return
    bench = Bench(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]),
                  options)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("bench: stopped")
    finally:
        bench.remove_copy()
        bench.limit.close()
    bench.result["ended"] = time.strftime("%Y-%m-%d %H:%M")
    summarize(bench.result)
    bench.store()


if __name__ == "__main__":
    main()
