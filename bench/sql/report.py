#!/usr/bin/env python3
"""What run.py stored, shown: report.py table|plots|markdown|more RESULT.json [DIR]

  table      on the terminal: ratios to stock SQLite
  plots      DIR/bench-*.svg, one per group
  markdown   the tables with everything, for docs/benchmarks.md
  more       the same without plots, a section of its own: another size
"""
import json
import math
import os
import sys
from xml.sax.saxutils import escape

from plan import COLD, GROUPS, LIMIT, VARIANTS

HERE = os.path.dirname(os.path.abspath(__file__))


def figure(value, unit):
    if unit == "bytes":
        return f"{value / (1 << 20):.0f} MiB"
    for name, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} ns"


def ratio(r):
    return f"{r:.3f}" if r < 0.1 else f"{r:.2f}" if r < 10 else f"{r:.0f}"


def columns_of(lines):
    names = []
    for line in lines:
        names += [n for n in line["variants"] if n not in names]
    return names


def groups_of(result):
    for group in GROUPS:
        lines = [line for line in result["lines"] if line["group"] == group]
        if lines:
            yield group, lines


def slug(group):
    plain = group.lower().replace("'", "")
    return "".join(c if c.isalnum() else "-" for c in plain)


# -------------------------------------------------------------------- terminal


def table(result):
    for group, lines in groups_of(result):
        names = columns_of(lines)
        print(f"\n{group}: stock's median, then ratios to it: "
              "median (quartiles); under 1 is faster")
        print(f"{'':42}" + "".join(f"{n:>22}" for n in names) + f"{'goal':>7}")
        for line in lines:
            cells = []
            for name in names:
                v = line["variants"].get(name)
                if v is None:
                    cells.append("")
                elif v["value"] is None:
                    cells.append("failed")
                elif name == "stock":
                    cells.append(figure(v["value"]["median"], line["unit"]))
                elif v["ratio"] is None:
                    cells.append(figure(v["value"]["median"], line["unit"]))
                else:
                    r = v["ratio"]
                    cells.append(f"{ratio(r['median'])} "
                                 f"({ratio(r['q1'])}..{ratio(r['q3'])})")
            goal = f"{line['goal']:.3g}" if line["goal"] else ""
            print(f"{line['title'][:41]:42}"
                  + "".join(f"{c:>22}" for c in cells) + f"{goal:>7}")
    for line in result["lines"]:
        for name, v in line["variants"].items():
            if v["error"]:
                print(f"failed: {line['id']}, {name}: {v['error']}")


# ----------------------------------------------------------------------- plots

COLOURS = {"stock": "#444444", "mmap": "#8a8f98", "cksumvfs": "#c2702f",
           "pagedb": "#1b62b5", "pagedb+pcache": "#3f9e5f"}
LEFT, WIDTH, ROW, TOP = 330, 460, 30, 64


def colour(name):
    return COLOURS[name.partition("@")[0]]


class Scale:
    """Ratios on a logarithmic axis, with room for all of them."""

    def __init__(self, ratios):
        self.low = min(0.5, min(ratios)) * 0.9
        self.high = max(2.0, max(ratios)) * 1.1

    def x(self, r):
        part = math.log(r / self.low) / math.log(self.high / self.low)
        return LEFT + WIDTH * part

    def ticks(self):
        marks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
        return [m for m in marks if self.low <= m <= self.high]


def plot(group, lines):
    names = [n for n in columns_of(lines) if n != "stock"]
    ratios = [v["ratio"][k] for line in lines for n, v in
              line["variants"].items() if n != "stock" and v["ratio"]
              for k in ("q1", "q3")]
    ratios += [line["goal"] for line in lines if line["goal"]]
    if not ratios:
        return None
    scale = Scale(ratios)
    bottom = TOP + ROW * len(lines)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}"'
           f' height="{bottom + 40}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="10" y="20" font-size="15" fill="#222">{escape(group)}: '
           'time as a ratio to stock SQLite (left of 1 is faster)</text>']
    x = 10
    for name in names:
        out.append(f'<circle cx="{x + 5}" cy="38" r="5" fill="{colour(name)}"'
                   f' fill-opacity="{0.5 if "@" in name else 1}"/>'
                   f'<text x="{x + 14}" y="42" fill="#222">{escape(name)}</text>')
        x += 30 + 8 * len(name)
    out.append(f'<text x="{x}" y="42" fill="#222">| goal</text>')
    for mark in scale.ticks():
        at = scale.x(mark)
        strong = "#444" if mark == 1 else "#ddd"
        out.append(f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" '
                   f'y2="{bottom}" stroke="{strong}"/>'
                   f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle" '
                   f'fill="#222">{mark:g}</text>')
    for i, line in enumerate(lines):
        y = TOP + ROW * i + ROW / 2
        out.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end" '
                   f'fill="#222">{escape(line["title"])}</text>')
        if line["goal"]:
            at = scale.x(line["goal"])
            out.append(f'<line x1="{at:.1f}" y1="{y - 12}" x2="{at:.1f}" '
                       f'y2="{y + 12}" stroke="#111" stroke-width="2"/>')
        for k, name in enumerate(names):
            v = line["variants"].get(name)
            if not v or not v["ratio"]:
                continue
            r = v["ratio"]
            at = y + (k - (len(names) - 1) / 2) * 4.5
            out.append(f'<line x1="{scale.x(r["q1"]):.1f}" y1="{at}" '
                       f'x2="{scale.x(r["q3"]):.1f}" y2="{at}" '
                       f'stroke="{colour(name)}"/>'
                       f'<circle cx="{scale.x(r["median"]):.1f}" cy="{at}" '
                       f'r="3.5" fill="{colour(name)}" '
                       f'fill-opacity="{0.5 if "@" in name else 1}"/>')
    out.append("</svg>\n")
    return "\n".join(out)


def plots(result, where):
    os.makedirs(where, exist_ok=True)
    for group, lines in groups_of(result):
        svg = plot(group, lines)
        if svg:
            with open(f"{where}/bench-{slug(group)}.svg", "w") as f:
                f.write(svg)


# -------------------------------------------------------------------- markdown


def reasons():
    """why.txt: a line's id, a colon, a sentence."""
    found = {}
    with open(f"{HERE}/why.txt") as f:
        for text in f:
            key, colon, sentence = text.partition(":")
            if colon and not text.startswith("#"):
                found[key.strip()] = sentence.strip()
    return found


def describe(result):
    m, s = result["machine"], result["settings"]
    print(f"{m['processor']}, {m['cores']} cores, {m['memory_mib']} MiB; "
          f"{m['kernel']}; {m['filesystem']} on {m['device']}, kernel "
          f"read-ahead {m['read_ahead_kib']} KiB, scheduler {m['scheduler']}; "
          f"{m['compiler']}, -O2.")
    versions = {v.get("sqlite") for rounds in result["raw"].values()
                for r in rounds for v in r["variants"].values()} - {None}
    print(f"SQLite {', '.join(sorted(versions))}, page-db {result['pagedb']}. "
          f"{result['began']}, size {result['size']}: tables of {s['rows']} "
          f"rows, {s['rows'] * 455 // 1000000} MB. Load of the machine at the "
          "lines' ends: "
          + "{:.1f} to {:.1f}.".format(*load_of(result)))
    limit = result["memory_limit"]
    if limit == "none":
        print("There was no memory cgroup: memory could not be made equal.")
    else:
        print(f"*{LIMIT}*: {s['pool']} MiB and the slack of a process "
              f"by {limit}, for all variants alike; page-db's pool is these "
              f"{s['pool']} MiB, stock SQLite has them as the system's cache.")


def load_of(result):
    loads = [r["load"] for rounds in result["raw"].values() for r in rounds]
    return min(loads), max(loads)


def markdown_cell(line, name):
    v = line["variants"].get(name)
    if v is None:
        return ""
    if v["value"] is None:
        return "failed"
    if name == "stock" or v["ratio"] is None:
        return figure(v["value"]["median"], line["unit"])
    r = v["ratio"]
    text = ratio(r["median"])
    if (name == "pagedb" and line["goal"] and r["median"] <= line["goal"]):
        text = f"**{text}**"
    return f"{text} ({ratio(r['q1'])}-{ratio(r['q3'])})"


def losses(result):
    """Lines in which page-db is slower than stock, or misses its goal."""
    why = reasons()
    rows = []
    for line in result["lines"]:
        v = line["variants"].get("pagedb")
        if not v or not v["ratio"]:
            continue
        r, goal = v["ratio"]["median"], line["goal"] or 1.0
        sums = line["variants"].get("cksumvfs")
        slower = (sums and sums["ratio"] and r > sums["ratio"]["median"])
        if r <= goal and not slower:
            continue
        rows.append(f"| {line['group']}: {line['title']} | {ratio(r)} | "
                    f"{line['goal'] or ''} | {'yes' if slower else ''} | "
                    f"{why.get(line['id'], '')} |")
    print("\n### Where page-db loses\n")
    if not rows:
        print("Nowhere: every goal is met.")
        return
    print("Slower than stock SQLite, than its goal, or than cksumvfs:\n")
    print("| | ratio | goal | slower than cksumvfs | why |\n"
          "|---|---|---|---|---|")
    print("\n".join(rows))


def markdown(result, has_plots):
    describe(result)
    for group, lines in groups_of(result):
        names = columns_of(lines)
        print(f"\n### {group}\n")
        if has_plots:
            print(f"![{group}](bench-{slug(group)}.svg)\n")
        print(f"| | {' | '.join(names)} | goal |")
        print("|---" * (len(names) + 2) + "|")
        for line in lines:
            cells = [markdown_cell(line, n) for n in names]
            print(f"| {line['title']} | {' | '.join(cells)} | "
                  f"{line['goal'] or ''} |")
        if group == COLD and any("@" in n for n in names):
            print("\n`@128` and the like: with that kernel read-ahead, KiB.")
    losses(result)


def main():
    with open(sys.argv[2]) as f:
        result = json.load(f)
    if sys.argv[1] == "table":
        table(result)
    elif sys.argv[1] == "plots":
        plots(result, sys.argv[3])
    elif sys.argv[1] == "markdown":
        markdown(result, has_plots=True)
    elif sys.argv[1] == "more":
        megabytes = result["settings"]["rows"] * 455 // 1000000
        print(f"\n## With databases of {megabytes} MB\n")
        markdown(result, has_plots=False)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
