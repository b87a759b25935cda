#!/usr/bin/env python3
"""Mutation check: would a test notice if a line of core, pcache or vfs were wrong?

usage: mutants.py OUTDIR [--n=300] [--seed=1] [--again] [--jobs=1] [--dir=DIR]
                  [--variant=asan|tsan]
       mutants.py OUTDIR --named[=TITLE] | --id=ID

Tests run as the sanitizers run them (PAGEDB_TEST_SCALE=small); named mutants that pass
all of them once more at full length, as check-quick does.

A mutant is the sources with one small mistake in them. Its file is compiled, with -O1,
in a copy of the tree below OUTDIR, and the tests that reach the changed line are linked
and run, until one fails, hangs or takes all memory: killed. First come those of the
same folder, and of these the quickest. Tests that take long wait until all generated
mutants have had the others. Two kinds:

--named  the mistakes of named.txt, by hand: rules that this project stands on. Each
         must still fit the sources, and must be caught.
else     N of those that the operators below can make, as many of each operator,
         picked by a hash of the seed and the mutant, so that a change of the sources
         changes few of them. Goal: 90 % killed.

  negate    if (a), while (a)         -> if (!(a))
  drop      f(x);  err = f(x);        -> nothing; err = 0;
  constant  an integer, or < <= > >=  -> the next one; < for <=
  swap      two statements            -> the other way round

Which test reaches which line is learnt from a build with coverage, anew for a test
that changed. A mutant that the compiler makes the same code of does not count, nor one
that does not compile. equivalent.txt, beside this script, has survivors with a reason:
`nothing` for those that change nothing that anybody could see, which do not count
either, `speed` for those that only cost time, which count as survivors.

What came out is in seed-SEED.txt, beside this script, a line each: `result id  test`.
A run that was stopped goes on from there; --again tries the survivors once more, for
which somebody wrote a test, or with the sanitizer of --variant, as check-asan and
check-tsan do. A result holds as long as its source is what it was.
--id=ID repeats one. Tests wait for the disk most of the time: with --dir=DIR their files
are in DIR, which may be an ext4 that is mounted from memory. Exit status 1: a named one survived or did not fit, or fewer than
90 % were killed.
"""
import functools
import hashlib
import json
import os
import queue
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
KILLPOINT = "build/killpoint.so"  # tests/tool.sh has it loaded before the command
# Those that do more at full length.
LONGER = ("test_vfs_cut", "test_vfs_faults", "test_vfs_power", "test_vfs_process", "test_vfs_equal")
WITH_PCACHE = ("test_vfs_state", "test_vfs_equal")
SLOW = ("test_vfs_ahead", "test_vfs_cut", "test_vfs_equal", "test_vfs_faults", "test_vfs_power",
        "test_vfs_state", *SCRIPTS)
SHORT = {"PAGEDB_TEST_SCALE": "small", "PAGEDB_TRANSACTIONS": "30", "PAGEDB_KILLS": "10"}
FULL = {"PAGEDB_TRANSACTIONS": "100", "PAGEDB_KILLS": "30"}


def call(args, **more):
    return subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, **more)


def make(tree, *args):
    return call(["make", "-s", "-C", tree, f"VARIANT={variant[0]}", "CFLAGS=-O1", "WERROR=",
                 *args])


def built_in():
    return f"build/{variant[0]}"


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
        yield m.start(1), end + 1, lambda s, r=result: \
            (r + "0" if r else "(void)0") + "\n" * s.count("\n")


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


PURE = ("sizeof", "atomic_load", "get_be32", "get_be16")


def commute(one, two):
    """Whether it cannot matter which of two statements comes first: no call, and
    neither mentions what the other sets."""
    names = []
    for text in (one, two):
        target = re.split(r"[-+*/|&<>]*=(?!=)|\+\+|--|;", text)[0]
        calls = set(re.findall(r"(\w+)\(", text)) - set(PURE)
        called = re.match(r"\s*(?:\(void\))?\w+\(", text)
        if calls or called or target.strip().startswith("*"):
            return False
        written = re.findall(r"[a-z_]\w*", re.sub(r"\[[^]]*\]", "", target))
        names.append((written[-1:], re.findall(r"[a-z_]\w*", text)))
    return not any(set(w) & set(used) for (w, _), (_, used) in
                   (names, reversed(names)))


OPERATORS = {"negate": negations, "drop": drops, "constant": constants, "swap": swaps}


class Mutant:
    def __init__(self, path, name, edits, line):
        self.path, self.name, self.edits, self.line = path, name, edits, line

    def key(self):
        """Without the number of the line, which may change."""
        return key_of(self.name)

    def apply(self, text):
        for start, end, new in reversed(self.edits):
            text = text[:start] + new + text[end:]
        return text

    def shown(self, text):
        return "\n".join(f"      - {' '.join(text[a:b].split())}\n"
                         f"      + {' '.join(new.split())}" for a, b, new in self.edits)


def key_of(name):
    path, _, rest = name.partition(":")
    return path, rest.partition(":")[2]


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
    found, seen = {name: [] for name in OPERATORS}, {}
    for path in sources():
        text = read(path)
        code = code_only(text)
        for operator, sites in OPERATORS.items():
            for start, end, change in sites(code):
                line = text.count("\n", 0, start) + 1
                last = text.count("\n", 0, end) + 1
                new = change(text[start:end])
                key = hashlib.sha1(f"{code[start:end]}{new}".encode()).hexdigest()[:6]
                nth = seen[path, operator, key] = seen.get((path, operator, key), 0) + 1
                key += f".{nth}" if nth > 1 else ""
                m = Mutant(path, f"{path}:{line}:{operator}:{key}",
                           [(start, end, new)], (line, last))
                if operator == "swap" and commute(*code[start:end].split("\n")):
                    continue
                if any(reached.known(path, i) for i in range(line, last + 1)):
                    found[operator].append(m)
    return found


def pick(found, n, seed):
    rank = lambda m: hashlib.sha1(f"{seed}{m.key()}".encode()).hexdigest()
    pools = [sorted(v, key=rank, reverse=True) for _, v in sorted(found.items())]
    chosen = []
    while len(chosen) < n and any(pools):
        for pool in pools:
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


def listed():
    """{key: class} of equivalent.txt"""
    known = {}
    with open(os.path.join(HERE, "equivalent.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, kind = line.split()[:2]
                known[key_of(name)] = kind
    return known


class Results:
    """seed-SEED.txt: [(result, test)] by mutant, and the sources that they are of."""

    def __init__(self, seed, chosen):
        self.path = os.path.join(HERE, f"seed-{seed}.txt")
        self.chosen, self.of = chosen, {}
        sums = {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as f:
                for line in f.read().splitlines():
                    if line.startswith("# "):
                        continue
                    if line.startswith("source "):
                        _, path, sums[path] = line.split()
                        continue
                    result, name, test = re.split(r"  +", line + "  ", maxsplit=2)
                    if sums.get(key_of(name)[0]) == sum_of(key_of(name)[0]):
                        self.of[key_of(name)] = (result, test.strip())

    def get(self, m):
        return self.of.get(m.key())

    def put(self, m, result, test):
        self.of[m.key()] = (result, test)
        lines = ["# Made by tests/mutants/mutants.py."]
        done = [m for m in self.chosen if self.get(m)]
        for path in sorted({m.path for m in done}):
            lines.append(f"source {path} {sum_of(path)}")
        for m in done:
            result, test = self.get(m)
            lines.append(f"{result:10}  {m.name}  {test}".rstrip())
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        os.replace(self.path + ".new", self.path)


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
                      key=lambda t: (folder_of(t) != path.split("/")[0],
                                     self.data["tests"][t]["seconds"]))


def is_slow(test):
    return test.split("+")[0] in SLOW


def folder_of(test):
    """The folder that a test is of."""
    for folder in ("pcache", "vfs"):
        if test.startswith("test_" + folder):
            return folder
    return "" if test in SCRIPTS else "core"


files_dir = []  # of --dir
variant = ["normal"]  # or that of --variant


def files_of(tree):
    """Where its tests have their files: a short path, which some of them need."""
    path = os.path.join(*(files_dir or [os.path.dirname(tree)]),
                        "of-" + os.path.basename(tree))
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


def sum_of(*paths):
    return hashlib.sha1("".join(map(read, paths)).encode()).hexdigest()[:12]


def sum_of_test(test):
    """What the map knows of a test is of these lines, and no others."""
    own = SCRIPTS.get(test, f"tests/{test.split('+')[0]}.c")
    return sum_of(own, *sources(), *helpers())


def helpers():
    """Sources that tests have in common."""
    for folder in ("tests", "tests/torture", "tool"):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            if name.endswith((".c", ".h")) and not name.startswith("test_"):
                yield f"{folder}/{name}"


def learn(out, copy):
    """Build with coverage, run every test that changed by itself."""
    stored = os.path.join(out, "map.json")
    data = {"tests": {}, "lines": {}}
    if os.path.exists(stored):
        with open(stored, encoding="utf-8") as f:
            data = json.load(f)
    tests = sorted(t[:-2] for t in os.listdir(os.path.join(ROOT, "tests"))
                   if re.match(r"test_\w+\.c$", t))
    tests += [t + "+pcache" for t in WITH_PCACHE if t in tests] + list(SCRIPTS)
    sums = {t: sum_of_test(t) for t in tests}
    data["tests"] = {t: d for t, d in data["tests"].items() if d.get("sum") == sums.get(t)}
    if len(data["tests"]) == len(tests):
        return data
    tree = copy("map")
    print("which test reaches which line: built and run once", flush=True)
    flags = "CFLAGS=-O0 -g --coverage -fprofile-update=atomic"
    built = call(["make", "-s", "-C", tree, "-j2", "VARIANT=cov", flags, "variant",
                  KILLPOINT])
    if built.returncode:
        sys.exit(built.stdout)
    shutil.copy2(os.path.join(tree, KILLPOINT), os.path.join(tree, "build/cov"))
    for test in tests:
        if test in data["tests"]:
            continue
        forget_counts(tree)
        args, env = test_command(tree, "build/cov", test)
        start = time.time()
        done = call(args, env=env, cwd=tree, timeout=900)
        if done.returncode:
            sys.exit(f"{test} fails without any mutant:\n{done.stdout[-3000:]}")
        seconds = round(time.time() - start, 2)
        ran, data["lines"] = gcov_lines(tree)
        data["tests"][test] = {"seconds": seconds, "lines": ran, "sum": sums[test]}
        print(f"  {test:24} {seconds:6} s", flush=True)
        with open(stored, "w", encoding="utf-8") as f:
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


def one_failed(log):
    """A case of a test failed: the others need not be waited for."""
    with open(log, "rb") as f:
        return b"[  FAILED  ]" in f.read()


def run_test(tree, test, seconds, length):
    """None if it passes, else how it ends."""
    args, env = test_command(tree, built_in(), test, length)
    with open(os.path.join(tree, "build", "test.log"), "w", encoding="utf-8") as log:
        p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             env=env, cwd=tree, start_new_session=True,
                             preexec_fn=limits)
        end, checked, how = time.time() + seconds, time.time(), None
        while p.poll() is None and how is None:
            time.sleep(0.02)
            if one_failed(log.name):
                how = "fails"
            elif time.time() > end:
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


class Build:
    """The commands that make would run for a test, so that only what a mutant needs
    is compiled and linked, and make does not look at everything each time."""

    def __init__(self, tree):
        self.tree, self.of = tree, {}

    def commands(self, test):
        if test not in self.of:
            names = ["pagedb", "pagedb.so"] if test in SCRIPTS else [test.split("+")[0]]
            target = [os.path.join(built_in(), name) for name in names]
            shown = make(self.tree, "-n", "-B", *target)
            self.of[test] = [c for c in shown.stdout.splitlines()
                             if re.match(r"(\w*cc|rm -f|ar) ", c)]
        return self.of[test]

    def run(self, commands):
        """None, or what the compiler says."""
        for c in commands:
            done = call(["/bin/sh", "-c", c], cwd=self.tree)
            if done.returncode:
                return done.stdout
        return None


def marker_of(tree):
    """Names the objects that are a mutant's."""
    return os.path.join(tree, "build", "mutant")


def compiled(command):
    """(source, object) of a command that compiles."""
    m = re.search(r" -c (\S+) -o (\S+)$", command)
    return m and m.groups()


class Worker(threading.Thread):
    def __init__(self, tree, reached, wanted, work, results):
        super().__init__(daemon=True)
        self.tree, self.reached, self.wanted = tree, reached, wanted
        self.work, self.results = work, results
        self.build = Build(tree)

    def bytes_of(self, name):
        with open(os.path.join(self.tree, name), "rb") as f:
            return f.read()

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
        wanted = [t for t in tests if self.wanted(t)]
        with open(name, "w", encoding="utf-8") as f:
            f.write(m.apply(text))
        before = {}
        try:
            if tests:
                return self.judge(m, wanted, before)
            # Any program of the folder tells whether it is one at all.
            alike = [t for t in self.reached.data["tests"]
                     if folder_of(t) == m.path.split("/")[0]]
            found = self.code(m, self.build.commands(alike[0]), set(), before)
            return found or ("survived", "no test reaches it")
        finally:
            with open(name, "w", encoding="utf-8") as f:
                f.write(text)
            for path, content in before.items():
                with open(os.path.join(self.tree, path), "wb") as f:
                    f.write(content)
            if before:
                os.remove(marker_of(self.tree))
            shutil.rmtree(files_of(self.tree), ignore_errors=True)

    def code(self, m, commands, ran, before):
        """Those of the commands that the mutant needs and that are not in `ran` yet; a
        result if it is no mutant. before: objects as they were, of those that were
        compiled anew."""
        todo = []
        for c in commands:
            source = compiled(c)
            if c in ran or (source and source[0] != m.path):
                continue
            if source:
                before[source[1]] = self.bytes_of(source[1])
            ran.add(c)
            todo.append(c)
        compiles = [c for c in todo if compiled(c)]
        with open(marker_of(self.tree), "w", encoding="utf-8") as f:
            f.write(" ".join(before))
        if self.build.run(compiles):
            return "no code", ""
        if compiles and all(self.bytes_of(compiled(c)[1]) == before[compiled(c)[1]]
                            for c in compiles):
            return "same code", ""
        said = self.build.run([c for c in todo if not compiled(c)])
        return said and ("error", said[-300:])

    def judge(self, m, tests, before):
        ran = set()
        for test in tests:
            found = self.code(m, self.build.commands(test), ran, before)
            if found:
                return found
            how = self.run_test(test, SHORT)
            if how:
                return "killed", how
        if ":" not in m.name:
            for test in (t for t in tests if t in LONGER):
                how = self.run_test(test, FULL)
                if how:
                    return "killed", how
        return "survived", f"{len(tests)} tests pass" if tests else ""

    def run_test(self, test, length):
        seconds = self.reached.data["tests"][test]["seconds"]
        limit = 20 + (5 if length is SHORT else 40) * seconds
        limit *= 1 if variant[0] == "normal" else 10
        how = run_test(self.tree, test, limit, length)
        name = test if variant[0] == "normal" else f"{test} ({variant[0]})"
        return how and (name if how == "fails" else f"{name}: {how}")


def copy_tree(out):
    def copy(name):
        tree = os.path.join(out, name)
        os.makedirs(tree, exist_ok=True)
        keep = ["Makefile", ".clang-format", "core", "pcache", "vfs", "tool", "tests",
                "examples", "bench", "docs", "sqlite-tests"]
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
    objects = []  # of a mutant, left by a run that was stopped
    if os.path.exists(marker_of(tree)):
        with open(marker_of(tree), encoding="utf-8") as f:
            objects = f.read().split()
    for name in objects:
        if os.path.exists(os.path.join(tree, name)):
            os.remove(os.path.join(tree, name))
    built = make(tree, "-j2", *objects, "variant", KILLPOINT)
    if built.returncode:
        sys.exit(built.stdout)
    shutil.copy2(os.path.join(tree, KILLPOINT), os.path.join(tree, built_in()))
    if objects:
        os.remove(marker_of(tree))


def options():
    given = {"n": "300", "seed": "1", "jobs": "1", "named": None, "id": None,
             "again": None, "dir": None, "variant": "normal"}
    for a in sys.argv[2:]:
        key, _, value = a[2:].partition("=")
        if not a.startswith("--") or key not in given:
            sys.exit(__doc__)
        given[key] = value or "1"
    return given


def attempts(chosen, jobs, copy, reached, wanted=lambda t: True):
    """(mutant, result, test) of each, as they come, with the tests that are wanted."""
    work, results = queue.Queue(), queue.Queue()
    for m in chosen:
        work.put(m)
    for i in range(min(jobs, len(chosen))):
        w = Worker(copy(f"tree{i}"), reached, wanted, work, results)
        prepare(w.tree)
        w.start()
    for _ in chosen:
        yield results.get()


def show(m, result, test):
    print(f"{result:10} {m.name}  {test}", flush=True)
    if result in ("survived", "error"):
        print(m.shown(read(m.path)), flush=True)


def judge_named(chosen, opt, copy, reached):
    bad = 0
    for m, result, test in attempts(chosen, int(opt["jobs"]), copy, reached):
        show(m, result, test)
        bad += result != "killed"
    print(f"{len(chosen) - bad} of {len(chosen)} killed")
    return int(bad > 0)


def judge_generated(chosen, opt, copy, reached):
    known, results = listed(), Results(opt["seed"], chosen)
    is_one = lambda m, *kinds: results.get(m) and results.get(m)[0] in kinds
    again = [m for m in chosen if opt["again"] and is_one(m, "survived", "so far") and
             m.key() not in known]
    todo = [m for m in chosen if not results.get(m)] + again
    print(f"seed {opt['seed']}: {len(chosen)} mutants, {len(todo)} to do", flush=True)
    for m, result, test in attempts(todo, int(opt["jobs"]), copy, reached,
                                    lambda t: not is_slow(t)):
        show(m, result, test)
        if result == "survived" and not is_one(m, "survived"):
            result = "so far"
        if result != "error":
            results.put(m, result, test)
    todo = [m for m in chosen if is_one(m, "so far") and m.key() not in known]
    print(f"{len(todo)} survived so far: the tests that take long", flush=True)
    for m, result, test in attempts(todo, int(opt["jobs"]), copy, reached,
                                    is_slow):
        show(m, result, test)
        if result != "error":
            results.put(m, result, test or results.get(m)[1])
    sums, parts = {}, {}
    for m in chosen:
        result = results.get(m)[0] if results.get(m) else "error"
        if result in ("survived", "so far"):
            result = "survived: " + known.get(m.key(), "no test")
            if m.key() not in known:
                print(f"{result}  {m.name}\n{m.shown(read(m.path))}")
        sums[result] = sums.get(result, 0) + 1
        for part in (m.path.split("/")[0], m.name.split(":")[2]):
            of = parts.setdefault(part, [0, 0])
            of[0] += result == "killed"
            of[1] += result not in ("same code", "no code", "survived: nothing")
    print(", ".join(f"{k} {v}" for k, v in sorted(sums.items())))
    print(", ".join(f"{k} {a} of {b}" for k, (a, b) in sorted(parts.items())))
    killed = sums.get("killed", 0)
    count = sum(v for k, v in sums.items()
                if k not in ("same code", "no code", "survived: nothing"))
    print(f"{killed} of {count} killed: {100.0 * killed / max(count, 1):.1f} %")
    return int(100.0 * killed < GOAL * count)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out, opt = os.path.abspath(sys.argv[1]), options()
    os.makedirs(out, exist_ok=True)
    variant[0] = opt["variant"]
    files_dir.extend([os.path.abspath(opt["dir"])] if opt["dir"] else [])
    os.nice(max(0, 5 - os.nice(0)))
    copy = copy_tree(out)
    reached = Reached(learn(out, copy))
    if opt["named"]:
        chosen = [m for m in named() if opt["named"] in ("1", m.name)]
        return judge_named(chosen, opt, copy, reached)
    found = all_mutants(reached)
    if opt["id"]:
        chosen = [m for v in found.values() for m in v if m.key() == key_of(opt["id"])]
        return judge_named(chosen, opt, copy, reached)
    print("possible: " + ", ".join(f"{k} {len(v)}" for k, v in found.items()))
    return judge_generated(pick(found, int(opt["n"]), opt["seed"]), opt, copy, reached)


if __name__ == "__main__":
    sys.exit(main())
