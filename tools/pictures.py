"""Draw the four topologies for a blank and two tokens: docs/images/topologies.svg.

python tools/pictures.py
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np

import topologies

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch

NAMES = {-1: "ε", 0: "␣", 1: "a", 2: "b"}
POSITIONS = {1: [(0.0, 0.0)], 3: [(0.0, 0.55), (-0.95, -0.65), (0.95, -0.65)]}
RADIUS = 0.23
OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "topologies.svg"


def draw_topology(axes: plt.Axes, name: str) -> None:
    """One graph: states as circles (double where final), arcs labelled ``read:written``."""
    topology = topologies.build(name, num_labels=3)
    graph = topology.graph()
    positions = POSITIONS[graph.num_states]
    labels: dict[tuple[int, int], list[str]] = {}
    for arc in range(graph.num_arcs):
        ends = int(graph.source[arc]), int(graph.destination[arc])
        read, written = NAMES[int(graph.input_label[arc])], NAMES[int(graph.output_label[arc])]
        labels.setdefault(ends, []).append(f"{read}:{written}")
    for (source, destination), texts in labels.items():
        draw_arc(axes, positions[source], positions[destination], "  ".join(texts))
    for state, (x, y) in enumerate(positions):
        is_start = state == graph.start
        axes.add_patch(Circle((x, y), RADIUS, facecolor="#fde9c4" if is_start else "white", edgecolor="#333", zorder=3))
        if graph.final_score[state] > -np.inf:
            axes.add_patch(Circle((x, y), RADIUS - 0.05, fill=False, edgecolor="#333", zorder=3))
        axes.text(x, y, str(state), ha="center", va="center", fontsize=11, zorder=4)
    size = topology.size()
    states = "1 state" if size.num_states == 1 else f"{size.num_states} states"
    axes.set_title(f"{name}: {states}, {size.num_arcs} arcs", fontsize=11)
    axes.set_xlim(-1.6, 1.6)
    axes.set_ylim(-1.15, 1.45)
    axes.set_aspect("equal")
    axes.axis("off")


def draw_arc(axes: plt.Axes, source: tuple[float, float], destination: tuple[float, float], text: str) -> None:
    """A bent arrow, or a loop on the side away from the others."""
    if source == destination:
        outwards = math.atan2(source[1] + 0.25, source[0]) if source != (0.0, 0.0) else math.pi / 2
        ends = [
            (source[0] + RADIUS * math.cos(outwards + turn), source[1] + RADIUS * math.sin(outwards + turn))
            for turn in (0.6, -0.6)
        ]
        style = "arc3,rad=-1.6"
        middle = (source[0] + 0.62 * math.cos(outwards), source[1] + 0.62 * math.sin(outwards))
    else:
        angle = math.atan2(destination[1] - source[1], destination[0] - source[0])
        ends = [
            (source[0] + RADIUS * math.cos(angle), source[1] + RADIUS * math.sin(angle)),
            (destination[0] - RADIUS * math.cos(angle), destination[1] - RADIUS * math.sin(angle)),
        ]
        style = "arc3,rad=0.22"
        normal = angle - math.pi / 2
        middle = (
            (source[0] + destination[0]) / 2 + 0.24 * math.cos(normal),
            (source[1] + destination[1]) / 2 + 0.24 * math.sin(normal),
        )
    axes.add_patch(
        FancyArrowPatch(ends[0], ends[1], connectionstyle=style, arrowstyle="-|>", mutation_scale=11, color="#2a5d84")
    )
    axes.text(*middle, text, ha="center", va="center", fontsize=8.5, color="#2a5d84")


def main() -> None:
    """Draw all four side by side."""
    # Without a fixed salt and date every run would be another file.
    mpl.rcParams["svg.hashsalt"] = "wfst-losses"
    figure, columns = plt.subplots(1, 4, figsize=(14, 3.4))
    for axes, name in zip(columns, ("correct", "compact", "minimal", "selfless"), strict=True):
        draw_topology(axes, name)
    figure.tight_layout()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUTPUT, metadata={"Date": None})


if __name__ == "__main__":
    main()
