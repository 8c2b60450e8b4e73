"""Graphs in Graphviz's language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topologies import EPSILON, Graph


def to_dot(graph: Graph, input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None) -> str:
    """A digraph: ``read:written/score`` at each arc, ``ε`` for nothing; the start is bold, final states are doubled.

    Args:
        graph: any.
        input_names, output_names: by label; the labels themselves if left out.
    """
    lines = [
        "digraph {",
        "  rankdir=LR",
        '  node [shape=circle, fontname="sans-serif"]',
        '  edge [fontname="sans-serif"]',
    ]
    for state in range(graph.num_states):
        shape = "doublecircle" if graph.final_score[state] > -np.inf else "circle"
        score = _score(float(graph.final_score[state])) if shape == "doublecircle" else ""
        style = ", style=bold" if state == graph.start else ""
        lines.append(f'  {state} [shape={shape}, label="{state}{score}"{style}]')
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    for source, destination, read, written, score in zip(*(column.tolist() for column in columns), strict=True):
        label = f"{_name(read, input_names)}:{_name(written, output_names)}{_score(score)}"
        dashes = ", style=dashed" if read == EPSILON else ""
        lines.append(f'  {source} -> {destination} [label="{label}"{dashes}]')
    return "\n".join([*lines, "}", ""])


def _name(label: int, names: Sequence[str] | None) -> str:
    if label == EPSILON:
        return "ε"
    name = str(label) if names is None or label >= len(names) else names[label]
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _score(score: float) -> str:
    return f"/{score:.4g}" if score else ""
