#!/usr/bin/env python3
"""Mutation check: would a test notice if a line of core, pcache or vfs were wrong?

usage: mutants.py OUTDIR [--n=300] [--seed=1] [--named[=TITLE]] [--id=ID] [--jobs=2] [--map]

Tests run as the sanitizers run them (PAGEDB_TEST_SCALE=small); named mutants that pass
all of them once more at full length, as check-quick does.

A mutant is the sources with one small mistake in them. It is built in a copy of the
tree below OUTDIR, and the tests that reach the changed line run on it, the quickest
first, until one fails: killed. Two kinds:

--named  the mistakes of named.txt, by hand: rules that this project stands on. Each
         must still fit the sources, and must be caught.
else     N of those that the operators below can make, as many of each operator,
         picked from the seed. Goal: 90 % killed.

  negate    if (a), while (a)         -> if (!(a))
  drop      f(x);  err = f(x);        -> nothing; err = 0;
  constant  an integer, or < <= > >=  -> the next one; < for <=
  swap      two statements            -> the other way round

Which test reaches which line is learnt once, from a build with coverage (--map does it
anew). A mutant that the compiler makes the same code of does not count, nor one that
does not compile. equivalent.txt, beside this script, has those that change nothing
that anybody could see, with the reason: they do not count either.

A line is `result id  test`; --id=ID repeats one. Exit status 1: a named one survived
or did not fit, or fewer than 90 % were killed.
"""
import functools
import hashlib
import json
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDERS = ("core", "pcache", "vfs")
NOT_HERE = ("core/os_win.c", "core/crc32c_arm.c")  # not compiled on this platform
GOAL = 90.0
TOO_BIG = 4 << 30  # bytes that a mutant's test may hold
SCRIPTS = {"tool.sh": "tests/tool.sh", "pcache_routes.sh": "tests/pcache_routes.sh"}
# Those that do more at full length.
LONGER = ("test_vfs_cut", "test_vfs_faults", "test_vfs_power", "test_vfs_process", "test_vfs_equal")
WITH_PCACHE = ("test_vfs_state", "test_vfs_equal")
SHORT = {"PAGEDB_TEST_SCALE": "small", "PAGEDB_TRANSACTIONS": "30", "PAGEDB_KILLS": "10"}
FULL = {"PAGEDB_TRANSACTIONS": "100", "PAGEDB_KILLS": "30"}


def call(args, **more):
    return subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, **more)


def make(tree, *args):
    return call(["make", "-s", "-C", tree, "CFLAGS=-O1", "WERROR="] + list(args))


# ------------------------------------------------------------------- mistakes

def code_only(text):
    """The text with comments, strings and preprocessor lines blanked."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"|\'(\\.|[^\'\\\n])+\'', blank, text)
    return re.sub(r"^[ \t]*#(.*\\\n)*.*$", blank, text, flags=re.M)


def closing(text, at):
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return -1


def negations(code):
    for m in re.finditer(r"\b(?:if|while) (\()", code):
        end = closing(code, m.start(1))
        if end > 0:
            yield m.start(1), end + 1, lambda s: "(!" + s + ")"


def drops(code):
    for m in re.finditer(r"(?<=[;{})\n])\s+((?:[a-z_]+ = )?)([a-z]\w*)(\()", code):
        end = closing(code, m.start(3))
        name, result = m.group(2), m.group(1)
        if (end < 0 or code[end + 1:end + 2] != ";" or
                name in ("if", "while", "for", "switch", "return", "sizeof")):
            continue
        if result and result.split()[0] not in ("err", "rc"):
            continue
        yield m.start(1), end + 1, lambda s, r=result: r + "0" if r else "(void)0"


OTHER = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def constants(code):
    for m in re.finditer(r"(?<![\w.])(0x[0-9a-f]+|\d+)(?![\w.])", code):
        base = 8 if re.match(r"0\d", m.group()) else 0
        yield m.start(), m.end(), lambda s, b=base: str(int(s, b) + 1)
    for m in re.finditer(r"(?<=\w |.\)) (<=|>=|<|>) (?=[\w(])", code):
        yield m.start(1), m.end(1), lambda s: OTHER[s]


STATEMENT = r"^([ ]+)(?!return|break|continue|goto|case|else|do)[\w*(][^;{}\n]*;$"


def swaps(code):
    lines, at = code.split("\n"), 0
    for one, two in zip(lines, lines[1:]):
        a, b = re.match(STATEMENT, one), re.match(STATEMENT, two)
        if a and b and a.group(1) == b.group(1) and one != two:
            yield at, at + len(one) + 1 + len(two), \
                lambda s: "\n".join(reversed(s.split("\n")))
        at += len(one) + 1


OPERATORS = {"negate": negations, "drop": drops, "constant": constants, "swap": swaps}


class Mutant:
    def __init__(self, path, name, edits, line):
        self.path, self.name, self.edits, self.line = path, name, edits, line

    def apply(self, text):
        for start, end, new in reversed(self.edits):
            text = text[:start] + new + text[end:]
        return text

    def shown(self, text):
        return "\n".join(f"      - {' '.join(text[a:b].split())}\n"
                         f"      + {' '.join(new.split())}" for a, b, new in self.edits)


def sources():
    for folder in FOLDERS:
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            path = f"{folder}/{name}"
            if name.endswith(".c") and path not in NOT_HERE:
                yield path


@functools.lru_cache(None)  # as they were when the trees were copied
def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def all_mutants(reached):
    """{operator: [Mutant]}, of lines that the compiler saw."""
    found = {name: [] for name in OPERATORS}
    for path in sources():
        text = read(path)
        code = code_only(text)
        for operator, sites in OPERATORS.items():
            for start, end, change in sites(code):
                line = text.count("\n", 0, start) + 1
                last = text.count("\n", 0, end) + 1
                new = change(text[start:end])
                if operator == "swap" and "=" not in new and "(" not in new:
                    continue
                key = hashlib.sha1(f"{code[start:end]}{new}".encode()).hexdigest()[:6]
                m = Mutant(path, f"{path}:{line}:{operator}:{key}",
                           [(start, end, new)], (line, last))
                if any(reached.known(path, i) for i in range(line, last + 1)):
                    found[operator].append(m)
    return found


def pick(found, n, seed):
    chance = random.Random(seed)
    chosen = []
    pools = {k: chance.sample(v, len(v)) for k, v in sorted(found.items())}
    while len(chosen) < n and any(pools.values()):
        for pool in pools.values():
            if pool and len(chosen) < n:
                chosen.append(pool.pop())
    return chosen


def named():
    """Of named.txt: `== title`, `path`, lines with - and + in front."""
    with open(os.path.join(HERE, "named.txt"), encoding="utf-8") as f:
        blocks = re.split(r"^== ", f.read(), flags=re.M)[1:]
    for block in blocks:
        title, path, *lines = block.rstrip("\n").split("\n")
        # Several edits are kept apart by a line "--".
        text, edits = read(path), []
        for hunk in "\n".join(lines).split("\n--\n"):
            old = "\n".join(x[1:] for x in hunk.split("\n") if x.startswith("-"))
            new = "\n".join(x[1:] for x in hunk.split("\n") if x.startswith("+"))
            if not old or text.count(old) != 1:
                sys.exit(f"named.txt: {title}: fits {text.count(old)} times in {path}")
            start = text.index(old)
            edits.append((start, start + len(old), new))
        edits.sort()
        first = text.count("\n", 0, edits[0][0]) + 1
        last = text.count("\n", 0, edits[-1][1]) + 1
        yield Mutant(path, title, edits, (first, last))


def equivalent():
    """{(path, operator:key)}: the line's number may change."""
    known = set()
    with open(os.path.join(HERE, "equivalent.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                path, _, operator, key = line.split()[0].split(":")
                known.add((path, operator, key))
    return known


def is_equivalent(m, known):
    part = m.name.split(":")
    return len(part) == 4 and (part[0], part[2], part[3]) in known


# ---------------------------------------------------- which test reaches what

class Reached:
    """Lines by test, and how long each test takes."""

    def __init__(self, data):
        self.data = data

    def known(self, path, line):
        return line in self.data["lines"].get(path, ())

    def tests(self, path, lines):
        def reaches(test):
            got = self.data["tests"][test]["lines"].get(path, ())
            return any(lines[0] <= i <= lines[1] for i in got)
        # Initialisers of variables that live for ever have no line.
        everywhere = not any(self.known(path, i) for i in range(lines[0], lines[1] + 1))
        return sorted((t for t in self.data["tests"] if everywhere or reaches(t)),
                      key=lambda t: self.data["tests"][t]["seconds"])


def files_of(tree):
    """Where its tests have their files: a short path, which some of them need."""
    path = os.path.join(os.path.dirname(tree), "of-" + os.path.basename(tree))
    os.makedirs(path, exist_ok=True)
    return path


def test_command(tree, out, test, length=SHORT):
    env = dict(os.environ, PAGEDB_TEST_DIR=files_of(tree), **length)
    if test in SCRIPTS:
        return [os.path.join(tree, SCRIPTS[test]), os.path.join(tree, out)], env
    if test.endswith("+pcache"):
        env["PAGEDB_PCACHE"] = "on"
    return [os.path.join(tree, out, test.split("+")[0])], env


def gcov_lines(tree):
    """({path: [line]} that ran, the same of all lines)"""
    ran, every = {}, {}
    for folder, _, names in os.walk(os.path.join(tree, "build/cov")):
        for name in names:
            if not name.endswith(".gcno") or "/tests" in folder:
                continue
            out = call(["gcov", "--json-format", "--stdout",
                        os.path.join(folder, name)], cwd=tree).stdout
            for one in out.splitlines():
                if not one.startswith("{"):
                    continue
                for f in json.loads(one)["files"]:
                    path = os.path.relpath(os.path.join(tree, f["file"]), tree)
                    for line in f["lines"]:
                        every.setdefault(path, set()).add(line["line_number"])
                        if line["count"]:
                            ran.setdefault(path, set()).add(line["line_number"])
    plain = lambda d: {k: sorted(v) for k, v in d.items() if k.startswith(FOLDERS)}
    return plain(ran), plain(every)


def forget_counts(tree):
    for folder, _, names in os.walk(os.path.join(tree, "build/cov")):
        for name in names:
            if name.endswith(".gcda"):
                os.remove(os.path.join(folder, name))


def sum_of_sources():
    """The map is of these lines, and no others."""
    return hashlib.sha1("".join(map(read, sources())).encode()).hexdigest()


def learn(out, copy):
    """Build with coverage, run every test by itself."""
    tree = copy("map")
    print("which test reaches which line: built and run once", flush=True)
    flags = "CFLAGS=-O0 -g --coverage -fprofile-update=atomic"
    built = call(["make", "-s", "-C", tree, "-j2", "VARIANT=cov", flags, "variant"])
    if built.returncode:
        sys.exit(built.stdout)
    tests = sorted(t for t in os.listdir(os.path.join(tree, "build/cov"))
                   if re.match(r"test_\w+$", t))
    tests += [t + "+pcache" for t in WITH_PCACHE if t in tests] + list(SCRIPTS)
    data = {"tests": {}, "lines": {}}
    for test in tests:
        forget_counts(tree)
        args, env = test_command(tree, "build/cov", test)
        start = time.time()
        done = call(args, env=env, cwd=tree, timeout=900)
        if done.returncode:
            sys.exit(f"{test} fails without any mutant:\n{done.stdout[-3000:]}")
        seconds = round(time.time() - start, 2)
        ran, data["lines"] = gcov_lines(tree)
        data["tests"][test] = {"seconds": seconds, "lines": ran}
        print(f"  {test:24} {seconds:6} s", flush=True)
    data["sources"] = sum_of_sources()
    with open(os.path.join(out, "map.json"), "w", encoding="utf-8") as f:
        json.dump(data, f)
    return data


# ------------------------------------------------------------------- trying it

def group_bytes(group):
    """Memory of a process group."""
    pages = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) == group:
                with open(f"/proc/{pid}/statm", encoding="ascii") as f:
                    pages += int(f.read().split()[1])
        except (OSError, IndexError):
            pass
    return pages * 4096


def limits():
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 30, 32 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)


def run_test(tree, test, seconds, length):
    """None if it passes, else how it ends."""
    args, env = test_command(tree, "build/normal", test, length)
    with open(os.path.join(tree, "build", "test.log"), "w", encoding="utf-8") as log:
        p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             env=env, cwd=tree, start_new_session=True,
                             preexec_fn=limits)
        end, checked, how = time.time() + seconds, time.time(), None
        while p.poll() is None and how is None:
            time.sleep(0.02)
            if time.time() > end:
                how = "timed out"
            elif time.time() > checked + 0.5:
                checked = time.time()
                how = "too much memory" if group_bytes(p.pid) > TOO_BIG else None
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
    if how is None and p.returncode:
        how = "fails"
    return how


class Worker(threading.Thread):
    def __init__(self, tree, base, reached, work, results):
        super().__init__(daemon=True)
        self.tree, self.base, self.reached = tree, base, reached
        self.work, self.results = work, results

    def objects(self, path):
        """A sum of the code that the compiler makes of the file."""
        sums = []
        for kind in ("", "linked/"):
            name = os.path.join(self.tree, "build/normal", kind + path[:-2] + ".o")
            if os.path.exists(name):
                with open(name, "rb") as f:
                    sums.append(hashlib.sha1(f.read()).hexdigest())
        return sums

    def run(self):
        while True:
            try:
                m = self.work.get_nowait()
            except queue.Empty:
                return
            try:
                self.results.put((m,) + self.attempt(m))
            except Exception as e:  # the sum must come out all the same
                self.results.put((m, "error", repr(e)))

    def attempt(self, m):
        name = os.path.join(self.tree, m.path)
        text = read(m.path)
        tests = self.reached.tests(m.path, m.line)
        if not tests:
            return "survived", "no test reaches it"
        with open(name, "w", encoding="utf-8") as f:
            f.write(m.apply(text))
        try:
            return self.judge(m, tests)
        finally:
            with open(name, "w", encoding="utf-8") as f:
                f.write(text)

    def judge(self, m, tests):
        seen = set()
        for test in tests:
            target = (["build/normal/pagedb", "build/normal/pagedb.so"]
                      if test in SCRIPTS else ["build/normal/" + test.split("+")[0]])
            built = make(self.tree, *target)
            if built.returncode:
                return ("no code", "") if not seen else ("error", built.stdout[-300:])
            if not seen and m.path.endswith(".c") and \
                    self.objects(m.path) == self.base.get(m.path):
                return "same code", ""
            seen.add(test)
            how = self.run_test(test, SHORT)
            if how:
                return "killed", how
        if ":" not in m.name:
            for test in (t for t in tests if t in LONGER):
                how = self.run_test(test, FULL)
                if how:
                    return "killed", how
        return "survived", f"{len(tests)} tests pass"

    def run_test(self, test, length):
        seconds = self.reached.data["tests"][test]["seconds"]
        limit = 60 + (8 if length is SHORT else 40) * seconds
        how = run_test(self.tree, test, limit, length)
        return how and (test if how == "fails" else f"{test}: {how}")


def copy_tree(out):
    def copy(name):
        tree = os.path.join(out, name)
        os.makedirs(tree, exist_ok=True)
        keep = ["Makefile", ".clang-format", "core", "pcache", "vfs", "tool", "tests",
                "examples", "bench", "sqlite-tests"]
        for one in keep:
            here, there = os.path.join(ROOT, one), os.path.join(tree, one)
            if os.path.isdir(here):
                shutil.rmtree(there, ignore_errors=True)
                shutil.copytree(here, there)
            elif os.path.exists(here):
                shutil.copy2(here, there)
        return tree
    return copy


def prepare(tree):
    built = make(tree, "-j2", "variant")
    if built.returncode:
        sys.exit(built.stdout)


def options():
    given = {"n": "300", "seed": "1", "jobs": "2", "named": None, "id": None, "map": None}
    for a in sys.argv[2:]:
        key, _, value = a[2:].partition("=")
        if not a.startswith("--") or key not in given:
            sys.exit(__doc__)
        given[key] = value or "1"
    return given


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out, opt = os.path.abspath(sys.argv[1]), options()
    os.makedirs(out, exist_ok=True)
    copy = copy_tree(out)
    stored = os.path.join(out, "map.json")
    data = {}
    if os.path.exists(stored) and not opt["map"]:
        with open(stored, encoding="utf-8") as f:
            data = json.load(f)
    if data.get("sources") != sum_of_sources():
        data = learn(out, copy)
    reached = Reached(data)
    if opt["named"]:
        chosen = [m for m in named() if opt["named"] in ("1", m.name)]
    else:
        found = all_mutants(reached)
        print("possible: " + ", ".join(f"{k} {len(v)}" for k, v in found.items()))
        chosen = pick(found, int(opt["n"]), int(opt["seed"]))
        if opt["id"]:
            chosen = [m for v in found.values() for m in v if m.name == opt["id"]]
        print(f"seed {opt['seed']}: {len(chosen)} mutants", flush=True)
    known = equivalent()
    work, results = queue.Queue(), queue.Queue()
    for m in chosen:
        work.put(m)
    workers = []
    for i in range(min(int(opt["jobs"]), len(chosen))):
        w = Worker(copy(f"tree{i}"), {}, reached, work, results)
        prepare(w.tree)
        w.base = {p: w.objects(p) for p in sources()}
        workers.append(w)
    for w in workers:
        w.start()
    sums, survivors = {}, []
    for _ in chosen:
        m, result, test = results.get()
        if result == "survived" and is_equivalent(m, known):
            result, test = "equivalent", "known"
        sums[result] = sums.get(result, 0) + 1
        print(f"{result:10} {m.name}  {test}", flush=True)
        if result not in ("killed", "same code", "no code", "equivalent"):
            survivors.append(m)
            print(m.shown(read(m.path)), flush=True)
    killed = sums.get("killed", 0)
    count = killed + len(survivors)
    print(", ".join(f"{k} {v}" for k, v in sorted(sums.items())))
    print(f"{killed} of {count} killed: {100.0 * killed / max(count, 1):.1f} %")
    if opt["named"]:
        return int(bool(survivors) or killed != len(chosen))
    return int(100.0 * killed < GOAL * count)


if __name__ == "__main__":
    sys.exit(main())
