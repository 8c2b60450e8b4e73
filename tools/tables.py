"""Write the tables of README.md between their markers, from the library and from recorded results.

    python tools/tables.py [--check]

``<!-- table:NAME -->`` and ``<!-- end:NAME -->`` enclose a table. Sizes come from closed forms; what takes long to
measure is recorded in docs/results/NAME.md by the script that measures it. With --check nothing is written: exit 1 if a
table is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import topologies

ROOT = Path(__file__).resolve().parent.parent
NUM_LABELS = (500, 5000)
BYTES_PER_ARC = 20


def topology_table() -> str:
    """Return states, arcs and bytes of each topology's graph."""
    rows = [
        "| topology | states | arcs | "
        + " | ".join(f"arcs, V = {count:,} | graph, V = {count:,}" for count in NUM_LABELS)
        + " | masses sum to 1 | frames of a target |",
        "|---|---|---|" + "---|" * (2 * len(NUM_LABELS) + 2),
    ]
    formulas = {
        "correct": ("V", "V²", "tokens + adjacent repeats"),
        "compact": ("V", "3V − 2", "tokens"),
        "minimal": ("1", "V", "tokens"),
        "selfless": ("V", "V² − V + 1", "tokens + adjacent repeats"),
    }
    for name, (states, arcs, frames) in formulas.items():
        cells = []
        for count in NUM_LABELS:
            num_arcs = topologies.build(name, count).size().num_arcs
            cells += [f"{num_arcs:,}", readable_bytes(num_arcs * BYTES_PER_ARC)]
        normalised = "yes" if topologies.TOPOLOGIES[name].is_normalised else "no"
        rows.append(f"| {name} | {states} | {arcs} | {' | '.join(cells)} | {normalised} | {frames} |")
    return "\n".join(rows)


def readable_bytes(num_bytes: int) -> str:
    """Return a size in the unit that keeps it short."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} B"


def recorded(name: str) -> Callable[[], str]:
    """Return what reads the recorded table of that name."""
    return lambda: (ROOT / "docs" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()


def decoding_graph_table() -> str:
    """Return the sizes that tools/benchmarks/decoding_graphs.py recorded, relative to correct."""
    found = json.loads((ROOT / "docs" / "results" / "decoding_graphs.json").read_text(encoding="utf-8"))
    heading = ["topology"]
    for model in ("dense bigram", "sparse, 200,000 words"):
        heading += [f"{model}: arcs", "to correct", "epsilon-free"]
    rows = ["| " + " | ".join([*heading, "paper"]) + " |", "|---" * (len(heading) + 1) + "|"]
    paper = {"correct": "1", "compact": "0.67", "minimal": "0.5"}
    for name in found["dense"]:
        cells = []
        for model in ("dense", "sparse"):
            size, whole = found[model][name], found[model]["correct"]
            for key in ("num_arcs", "num_arcs_epsilon_free"):
                ratio = f"{size[key] / whole[key]:.2f}"
                cells += [f"{size[key]:,}", ratio] if key == "num_arcs" else [f"{size[key]:,} ({ratio})"]
        rows.append(f"| {name} | {' | '.join(cells)} | {paper.get(name, '')} |")
    return "\n".join([*rows, "", *(_compiled(name, run) for name, run in found["compile"].items())])


def _compiled(name: str, run: dict[str, float]) -> str:
    return (
        f"- `compile` of the sparse one, {name}: {run['cpu_seconds']:.0f} s of one core, "
        f"at most {readable_bytes(run['peak_bytes'])} of memory, a file of {readable_bytes(run['file_bytes'])}"
    )


TABLES = {
    "topologies": topology_table,
    "decoding graphs": decoding_graph_table,
    "digits": recorded("digits"),
    "keywords": recorded("keywords"),
    "reliability": recorded("reliability"),
}


def filled(text: str) -> str:
    """Return the text with every table made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- table:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"README.md has {count} places for the table {name!r}, expected 1")
    return text


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = filled(before)
    if arguments.check:
        sys.exit(0 if after == before else "README.md: tables are out of date; run python tools/tables.py")
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
