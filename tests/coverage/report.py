#!/usr/bin/env python3
"""Line and branch coverage of core, pcache and vfs, from gcov's counts.

usage: report.py OUTDIR [--list]

OUTDIR holds objects built with --coverage, and the counts of the runs. An object
that was compiled twice (the plugin: to be linked, to be loaded) counts once: what
one of them reached is reached.

Every branch that no test takes must stand in uncovered.txt, beside this script,
with its reason:

    path function | source line | n | kind | reason

n branches of that line, in that function, are not taken (or fewer: threads do not
always meet). Kind `cannot`: no test can take it, and it is left out of the
percentage; at most 2 % of all may be. Kind `not`: counts as not covered.
--list prints what is missing from the file, as lines to be filled in.
Exit status 1: a branch is not listed, an entry fits no line, or a limit is broken.
"""
import collections
import json
import os
import subprocess
import sys

GOAL, MOST_LEFT_OUT = 95.0, 2.0
FOLDERS = ("core/", "pcache/", "vfs/")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def counts(out):
    """{path: ({line: count}, {(function, line, n): count})}"""
    files = collections.defaultdict(
        lambda: (collections.Counter(), collections.Counter()))
    data = [os.path.join(d, f) for d, _, names in os.walk(out) for f in names
            if f.endswith(".gcno") and any("/" + x in d + "/" for x in FOLDERS)]
    for gcno in sorted(data):
        text = subprocess.run(
            ["gcov", "--json-format", "--stdout", "--branch-probabilities", gcno],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
            cwd=ROOT).stdout
        for one in text.splitlines():
            for f in json.loads(one)["files"]:
                path = os.path.relpath(os.path.join(ROOT, f["file"]), ROOT)
                if path.startswith(FOLDERS):
                    add(files[path], f)
    return files


def add(sums, f):
    lines, branches = sums
    # An inline function has its lines once for each object that has a copy.
    for line in f["lines"]:
        lines[line["line_number"]] += line["count"]
        for n, b in enumerate(line["branches"]):
            key = (line.get("function_name", ""), line["line_number"], n)
            branches[key] += b["count"]


def read_list():
    wanted = collections.OrderedDict()
    with open(os.path.join(HERE, "uncovered.txt"), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if not line.strip() or line.startswith("#"):
                continue
            part = [p.strip() for p in line.split(" | ")]
            if len(part) != 5 or part[3] not in ("cannot", "not") or not part[4]:
                sys.exit(f"uncovered.txt:{number}: not an entry: {line.strip()}")
            # gcov names no function of lines that it counts for one inlined.
            where = (*part[0].split(), "")[:2] + (part[1],)
            wanted[where] = (int(part[2]), part[3], part[4])
    return wanted


def share(part, whole):
    return 100.0 * part / whole if whole else 100.0


def main():
    out = sys.argv[1]
    files = counts(out)
    wanted = read_list()
    used, missing = set(), []
    total = collections.Counter()
    print(f"{'file':28} {'lines':>12} {'':>7} {'branches':>12} {'':>7} left out")
    for path in sorted(files):
        lines, branches = files[path]
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = [" ".join(line.replace(" | ", " ").split()) for line in f]
        gaps = collections.Counter()
        for (function, line, _), n in branches.items():
            if n == 0:
                gaps[(path, function, text[line - 1])] += 1
        left_out = 0
        for where, n in gaps.items():
            listed, kind, _ = wanted.get(where, (0, "not", ""))
            if where in wanted:
                used.add(where)
            if n > listed:
                missing.append((where, n, listed))
            if kind == "cannot":
                left_out += min(n, listed)
        hit = sum(1 for n in branches.values() if n)
        lines_hit = sum(1 for n in lines.values() if n)
        count = len(branches) - left_out
        print(f"{path:28} {lines_hit:5} / {len(lines):4} "
              f"{share(lines_hit, len(lines)):6.1f}% {hit:5} / {count:4} "
              f"{share(hit, count):6.1f}% {left_out or '':>4}")
        total.update(lines=len(lines), lines_hit=lines_hit, count=count, hit=hit,
                     left_out=left_out, all=len(branches))
    print(f"{'total':28} {total['lines_hit']:5} / {total['lines']:4} "
          f"{share(total['lines_hit'], total['lines']):6.1f}% "
          f"{total['hit']:5} / {total['count']:4} "
          f"{share(total['hit'], total['count']):6.1f}% {total['left_out']:4}")
    return judge(files, wanted, used, missing, total)


def judge(files, wanted, used, missing, total):
    bad = False
    if "--list" in sys.argv:
        for (path, function, line), n, _ in missing:
            print(f"{path} {function} | {line} | {n} | not | ?")
    elif missing:
        for (path, function, line), n, listed in missing:
            print(f"{path}: {function}: {n} branches not taken, {listed} listed: {line}")
        bad = True
    for path, function, line in wanted:
        if (path, function, line) in used:
            continue
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            if not any(" ".join(x.replace(" | ", " ").split()) == line for x in f):
                print(f"uncovered.txt: no such line: {path} {function}: {line}")
                bad = True
    if share(total["hit"], total["count"]) < GOAL:
        print(f"fewer than {GOAL} % of the branches are taken")
        bad = True
    if share(total["left_out"], total["all"]) > MOST_LEFT_OUT:
        print(f"more than {MOST_LEFT_OUT} % of the branches are left out")
        bad = True
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
