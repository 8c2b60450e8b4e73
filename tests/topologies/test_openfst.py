"""OpenFst's text format: what is written is read back, and damage is found and located."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import hypothesis
import kaldifst
import numpy as np
import pytest

import topologies
from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph


def arcs_of(graph: Graph) -> Counter[tuple[float, ...]]:
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    return Counter(zip(*(column.tolist() for column in columns), strict=True))


def finals_of(graph: Graph) -> dict[int, float]:
    return {state: score for state, score in enumerate(graph.final_score.tolist()) if score > -np.inf}


def assert_equal(graph: Graph, wanted: Graph) -> None:
    assert arcs_of(graph) == arcs_of(wanted)
    assert finals_of(graph) == finals_of(wanted)
    assert graph.start == wanted.start


def test_labels_are_shifted_and_costs_are_negated_scores() -> None:
    graph = Graph(
        np.array([1, 0], dtype=np.int32),
        np.array([0, 1], dtype=np.int32),
        np.array([0, EPSILON], dtype=np.int32),
        np.array([EPSILON, 7], dtype=np.int32),
        np.array([-1.5, 0.0], dtype=np.float32),
        np.array([0.25, -np.inf], dtype=np.float32),
        start=1,
    )
    assert graph.to_openfst_text() == "1\t0\t1\t0\t1.5\n0\t1\t0\t8\n0\t-0.25\n"


@hypothesis.given(graph=graphs(num_labels=4, writing_epsilons=True))
@hypothesis.settings(max_examples=150)
def test_round_trip(graph: Graph) -> None:
    assert_equal(Graph.from_openfst_text(graph.to_openfst_text()), graph)


def test_scores_come_back_bit_for_bit() -> None:
    random = np.random.default_rng(0)
    scores = (random.standard_normal(500) * 10.0 ** random.integers(-30, 30, 500)).astype(np.float32)
    scores[:3] = [-np.inf, np.finfo(np.float32).tiny, -np.finfo(np.float32).max]
    zeros = np.zeros(500, dtype=np.int32)
    graph = Graph(zeros, zeros, zeros, zeros, scores, np.zeros(1, dtype=np.float32))
    assert Graph.from_openfst_text(graph.to_openfst_text()).score.tobytes() == scores.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model: no arcs and no states"),
        ("\n\n", "model: no arcs and no states"),
        ("0\t0\t1\n", r"model, line 1: 3 columns, expected 4 or 5"),
        ("0\t0\t1\t1\t0.5\t7\n0\n", r"model, line 1: 6 columns"),
        ("0\t0\t1\t1\n0\t0\tone\t1\n0\n", r"model, line 2: label is 'one', expected an integer 0.."),
        ("0\t0\t-1\t1\n0\n", r"model, line 1: label is '-1'"),
        ("0\t1.0\t1\t1\n0\n", r"model, line 1: state is '1.0'"),
        ("0\t0\t1\t1\tfive\n0\n", r"model, line 1: cost is 'five', expected a finite number or Infinity"),
        ("0\t0\t1\t1\tnan\n0\n", r"model, line 1: cost is 'nan'"),
        ("0\t0\t1\t1\n\n0\t-inf\n", r"model, line 3: cost is '-inf'"),
        ("0\t0\t1\t1\n0\n0\t1.5\n", r"model, line 3: state 0 is final twice"),
        ("0\t999999999\t1\t1\n0\n", r"model: state 999999999 in a text of 1 arcs; the file is damaged"),
        ("0\t0\t99999999999\t1\n0\n", r"model, line 1: label is '99999999999'"),
        ("0\t0\t1\t1\n0", r"model, line 2: no newline at the end; the file is truncated"),
        ("0\t0\t²\t1\n0\n", r"model, line 1: label is '²'"),
        ("graph {\n}\n", r"model, line 1: state is 'graph'"),
    ],
)
def test_malformed_text_is_located(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph.from_openfst_text(text, name="model")


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_a_cut_within_a_line_is_refused_and_one_between_lines_only_drops_lines(name: str) -> None:
    text = topologies.build(name, 4).graph().to_openfst_text()
    lines = text.splitlines(keepends=True)
    for size in range(len(text)):
        prefix = text[:size]
        if prefix and prefix.endswith("\n"):
            kept = Graph.from_openfst_text(prefix)
            num_arcs = sum(len(line.split()) >= 4 for line in lines[: prefix.count("\n")])
            assert kept.num_arcs == num_arcs
        else:
            with pytest.raises(ValueError, match=r"truncated|no arcs and no states|columns"):
                Graph.from_openfst_text(prefix)


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = topologies.build("compact", 5).graph()
    text = graph.to_openfst_text()
    path = tmp_path / "compact.txt"
    graph.save_openfst_text(path)
    written = path.read_text()
    # An empty line before and 32 blanks and tabs behind, which OpenFst passes over.
    assert written.startswith("\n" + text)
    assert len(written) == 1 + len(text) + 33
    assert path.stat().st_mode & 0o600 == 0o600

    def fail(_: Graph, __: bool) -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("topologies.openfst._chunks", fail)
    with pytest.raises(OSError, match="No space left on device"):
        topologies.build("correct", 5).graph().save_openfst_text(path)
    assert path.read_text() == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["compact.txt"]


def test_what_guards_a_file_is_passed_over_by_openfst_and_checked_here(tmp_path: Path) -> None:
    graph = topologies.build("compact", 4).graph()
    graph.save_openfst_text(tmp_path / "graph.txt")
    text = (tmp_path / "graph.txt").read_text()
    assert kaldifst.compile(text).to_str() == kaldifst.compile(graph.to_openfst_text()).to_str()
    assert_equal(Graph.from_openfst_text(text), graph)
    for damaged in (text[1:], text[:-1], text[:-34], text[:-33], text.replace("4", "3", 1), text + "9\n"):
        with pytest.raises(ValueError, match="truncated or changed"):
            Graph.from_openfst_text(damaged)
    assert_equal(Graph.from_openfst_text(text[1:-33]), graph)
