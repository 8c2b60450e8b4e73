"""Predicted memory beside measured memory; counts in closed form beside counted graphs."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from topologies import TOPOLOGIES, build
from wfst_losses.graphs.denominator import denominator
from wfst_losses.graphs.training import training_graphs
from wfst_losses.inspection import graph_counts
from wfst_losses.inspection.graph_counts import Counts, denominator_counts, training_counts
from wfst_losses.inspection.measured_memory import MeasurementError, measured_step_bytes
from wfst_losses.inspection.memory import predicted_step_memory
from wfst_losses.inspection.sizes import epsilon_free_size
from wfst_losses.inspection.steps import Step, bigram

CTC = Step("ctc", "correct", num_labels=200, num_frames=400, num_utterances=16, num_tokens=40)
MMI = Step("mmi", "compact", num_labels=60, num_frames=400, num_utterances=8, num_tokens=40, num_successors=20)

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")


@on_linux
@pytest.mark.parametrize(
    "step",
    [
        dataclasses.replace(CTC, topology="compact"),
        dataclasses.replace(MMI, topology="correct"),
        dataclasses.replace(CTC, topology="selfless", backend="reference", num_frames=100),
    ],
    ids=lambda step: f"{step.loss}-{step.topology}-{step.backend}",
)
def test_exact_engines_take_what_is_predicted(step: Step) -> None:
    measured = measured_step_bytes(step)
    assert predicted_step_memory(step).peak_bytes == pytest.approx(measured, rel=0.25)


@on_linux
@pytest.mark.skipif(importlib.util.find_spec("k2") is None, reason="needs k2")
@pytest.mark.parametrize("step", [CTC, dataclasses.replace(MMI, num_frames=60)], ids=["ctc", "mmi"])
def test_k2_takes_no_more_than_is_predicted(step: Step) -> None:
    step = dataclasses.replace(step, backend="k2")
    predicted = predicted_step_memory(step)
    assert predicted.is_upper_bound
    assert predicted.peak_bytes / 2 < measured_step_bytes(step) < predicted.peak_bytes


@on_linux
def test_a_step_that_breaks_is_told_in_one_line() -> None:
    with pytest.raises(MeasurementError, match=r"^measuring ctc on native failed: .*no such topology"):
        measured_step_bytes(dataclasses.replace(CTC, topology="no such topology"))


@pytest.mark.parametrize("num_tokens", [0, 1, 7])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_closed_forms_of_training_graphs_are_what_is_counted(name: str, num_tokens: int) -> None:
    step = dataclasses.replace(CTC, topology=name, num_tokens=num_tokens)
    graph = training_graphs(build(name, 200), [list(range(1, num_tokens + 1))]).graph(0)
    counts = training_counts(step)
    assert (counts.num_states, counts.num_arcs) == (graph.num_states, graph.num_arcs)
    assert counts.num_virtual == graph.num_epsilon_arcs
    free, num_finals = epsilon_free_size(graph)
    counts = training_counts(dataclasses.replace(step, backend="k2"))
    assert (counts.num_states, counts.num_arcs, counts.num_finals) == (free.num_states, free.num_arcs, num_finals)
    assert graph_counts._counted_training(step)[:3] == training_counts(step)[:3]


@pytest.mark.parametrize("backend", ["native", "reference", "k2"])
@pytest.mark.parametrize("num_successors", [10, 99])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_closed_forms_of_denominators_are_what_is_counted(name: str, num_successors: int, backend: str) -> None:
    step = dataclasses.replace(MMI, topology=name, num_labels=100, num_successors=num_successors, backend=backend)
    told, told_model = denominator_counts(step)
    counted, counted_model = graph_counts._counted_denominator(step)
    assert told_model == counted_model
    assert told.num_reading == counted.num_reading
    if name in ("compact", "minimal"):
        assert told == counted
        return
    tolerance = 0.15 if backend == "native" else 0.005
    assert told.num_arcs == pytest.approx(counted.num_arcs, rel=tolerance)
    assert told.num_states == pytest.approx(counted.num_states, rel=0.2)


def test_closed_forms_are_those_of_the_graphs_themselves() -> None:
    graph = denominator(build("compact", 60), bigram(60, 20)).graph(0)
    told, _ = denominator_counts(dataclasses.replace(MMI, backend="reference"))
    assert told == Counts(graph.num_states, graph.num_arcs, graph.num_epsilon_arcs, graph.num_states, 60)


def test_a_large_step_is_told_without_building_its_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("a graph was built")

    for name in ("_counted_training", "_counted_denominator", "language_model"):
        monkeypatch.setattr(graph_counts, name, built)
    for backend in ("native", "reference", "k2"):
        step = Step("mmi", "correct", 50_000, 2_000, 64, 200, backend, num_successors=40_000)
        predicted = predicted_step_memory(step)
        assert predicted.peak_bytes > 4 * 64 * 2_000 * 50_000
        parts = predicted.graph_bytes + predicted.emission_bytes + predicted.work_bytes
        assert parts == predicted.peak_bytes


def test_low_memory_takes_less_and_threads_take_more() -> None:
    step = dataclasses.replace(MMI, num_frames=10_000, num_utterances=1, num_labels=100)
    peak = predicted_step_memory(step).work_bytes
    assert predicted_step_memory(dataclasses.replace(step, memory="low")).work_bytes < peak / 3
    step = dataclasses.replace(CTC, num_labels=5)
    peak = predicted_step_memory(step).peak_bytes
    assert predicted_step_memory(dataclasses.replace(step, num_threads=4)).peak_bytes > peak


def test_a_model_of_a_file_is_counted(tmp_path: Path) -> None:
    tokens, arpa = tmp_path / "tokens.txt", tmp_path / "G.arpa"
    tokens.write_text("<blk> 0\na 1\nb 2\n")
    arpa.write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-0.6 <s>\n-0.6 </s>\n-0.6 a\n-0.6 b\n\n\\end\\\n", encoding="ascii"
    )
    step = Step("mmi", "minimal", 3, 10, 1, 2, "reference", language_model=arpa, tokens=tokens)
    counts, num_model_arcs = denominator_counts(step)
    assert num_model_arcs >= 2
    assert counts.num_finals >= 1


@pytest.mark.parametrize("num_successors", [0, 100])
def test_more_successors_than_tokens_are_refused(num_successors: int) -> None:
    with pytest.raises(ValueError, match=rf"num_successors is {num_successors}, expected 1\.\.99"):
        bigram(100, num_successors)
    with pytest.raises(ValueError, match=rf"num_successors is {num_successors}, expected 1\.\.59"):
        denominator_counts(dataclasses.replace(MMI, num_successors=num_successors, backend="k2"))


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="backend is 'gtn', expected one of 'native', 'reference', 'k2'"):
        predicted_step_memory(dataclasses.replace(CTC, backend="gtn"))
