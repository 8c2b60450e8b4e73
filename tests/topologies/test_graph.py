"""A graph checks its columns and keeps them from being changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topologies
from topologies import EPSILON, Graph

GOOD: dict[str, Any] = {
    "source": [0, 0],
    "destination": [0, 1],
    "input_label": [0, EPSILON],
    "output_label": [EPSILON, 3],
    "score": [0.0, -np.inf],
    "final_score": [-np.inf, 0.0],
    "start": 0,
}


def test_columns_are_of_the_stated_types_and_read_only() -> None:
    graph = Graph(**GOOD)
    assert (graph.num_states, graph.num_arcs, graph.num_epsilon_arcs) == (2, 2, 1)
    for name in ("source", "destination", "input_label", "output_label"):
        assert getattr(graph, name).dtype == np.int32
    for name in ("score", "final_score"):
        assert getattr(graph, name).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        graph.score[0] = 1.0
    assert graph.num_bytes == 2 * 5 * 4 + 2 * 4


def test_shared_columns_are_counted_once() -> None:
    graph = topologies.build("correct", 50).graph()
    assert graph.num_bytes == 4 * 50**2 * 4 + 50 * 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("destination", [0], r"column destination has 1 rows, expected 2"),
        ("score", [0.0], r"column score has 1 rows, expected 2"),
        ("source", [0, 2], r"source\[1\] is 2, expected 0..1"),
        ("destination", [-1, 0], r"destination\[0\] is -1, expected 0..1"),
        ("input_label", [0, -2], r"input_label\[1\] is -2, expected -1.."),
        ("input_label", np.uint32([0, 2**32 - 1]), r"input_label\[1\] is 4294967295, expected -2147483648..2147483647"),
        ("destination", np.uint32([2**31, 0]), r"destination\[0\] is 2147483648"),
        ("output_label", [0.5, 1.0], r"column output_label has dtype float64, expected an integer dtype"),
        ("score", [0.0, np.nan], r"score\[1\] is nan, expected a number or -inf"),
        ("final_score", [np.inf, 0.0], r"final_score\[0\] is inf"),
        ("score", [[0.0, 0.0]], r"column score has 2 dimensions, expected 1"),
        ("start", 2, r"start is 2, expected 0..1"),
    ],
)
def test_bad_columns_are_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(**{**GOOD, name: value})


def test_correct_with_5000_labels_fits_in_a_gigabyte() -> None:
    program = (
        "import pathlib, re, topologies\n"
        "graph = topologies.build('correct', 5000).graph()\n"
        # Not getrusage's peak: that is never below what the process that started this one held.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(graph.num_arcs, re.search(r'VmHWM:\\s*(\\d+)', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    num_arcs, peak_kilobytes = map(int, done.stdout.split())
    assert num_arcs == 25_000_000
    assert peak_kilobytes < 1_000_000
