"""Sizes in closed form are those of composed graphs; the advice follows from the figures given."""

from __future__ import annotations

import numpy as np
import pytest

from topologies import TOPOLOGIES, build
from wfst_losses.inspection.comparison import (
    LOSSLESS,
    MODIFIED,
    GraphSize,
    StepMemory,
    advise,
    alone_sizes,
    bigram_sizes,
    counted_sizes,
)
from wfst_losses.inspection.sizes import epsilon_free_size
from wfst_losses.inspection.steps import bigram


@pytest.mark.parametrize("num_labels", [2, 5, 30])
def test_sizes_alone_are_those_of_the_graphs(num_labels: int) -> None:
    sizes = {size.name: size for size in alone_sizes(num_labels)}
    assert set(sizes) == {*TOPOLOGIES, MODIFIED}
    for name in TOPOLOGIES:
        graph = build(name, num_labels).graph()
        free, _ = epsilon_free_size(graph)
        assert sizes[name] == GraphSize(name, graph.num_states, graph.num_arcs, free.num_arcs)
    assert sizes[MODIFIED].num_arcs == 4 * num_labels - 3


@pytest.mark.parametrize("num_successors", [12, 59])
def test_closed_forms_over_a_bigram_are_those_of_composed_graphs(num_successors: int) -> None:
    model = bigram(60, num_successors)
    asked: list[str] = []
    counted = {size.name: size for size in counted_sizes(60, model.graph(), asked.append)}
    told = {size.name: size for size in bigram_sizes(60, num_successors)}
    assert list(counted) == [*TOPOLOGIES, *LOSSLESS, MODIFIED]
    assert set(told) == set(counted)
    assert set(asked) == set(TOPOLOGIES)
    # How many tokens list themselves is left to chance: exact where all or none matter.
    own = int(np.count_nonzero(model.arcs.source == model.arcs.input_label))
    tolerance = 0.0 if own == num_successors else 0.06
    for name, size in told.items():
        assert size.num_arcs == pytest.approx(counted[name].num_arcs, rel=tolerance), name
        assert size.num_states == pytest.approx(counted[name].num_states, rel=tolerance), name
        if size.num_epsilon_free_arcs is not None:
            assert size.num_epsilon_free_arcs == pytest.approx(counted[name].num_epsilon_free_arcs, rel=tolerance), name


def test_a_graph_that_is_not_allowed_is_not_composed() -> None:
    def refuse(name: str) -> None:
        raise MemoryError(name)

    with pytest.raises(MemoryError, match=r"^correct$"):
        list(counted_sizes(60, bigram(60, 5).graph(), refuse))


def _memory(loss: str, **peaks: int) -> list[StepMemory]:
    return [StepMemory(name, loss, "native", peak, False, None, None) for name, peak in peaks.items()]


def _sizes(**arcs: int) -> list[GraphSize]:
    return [GraphSize(name.replace("_", " "), 1, count, count) for name, count in arcs.items()]


ARCS = {"correct": 100, "compact": 50, "minimal": 50, "selfless": 99}


def test_advice_is_correct_where_nothing_saves_memory() -> None:
    advice = advise(_sizes(**ARCS), _memory("ctc", correct=100, compact=99, minimal=97))
    assert advice.topology == "correct"
    assert "at least 97% of what it takes with correct" in advice.reason
    assert "minimal has 50% of its arcs" in advice.reason


def test_advice_is_what_changes_least_among_what_saves() -> None:
    memory = _memory("ctc", correct=100, compact=10) + _memory("mmi", correct=100, compact=70, minimal=40)
    assert advise(_sizes(**ARCS), memory).topology == "compact"
    memory = _memory("mmi", correct=100, compact=90, minimal=40)
    advice = advise(_sizes(**ARCS), memory)
    assert advice.topology == "minimal"
    assert "MMI on native takes 40% of correct's memory" in advice.reason


def test_what_was_measured_goes_before_what_was_predicted() -> None:
    memory = [*_memory("mmi", correct=100), StepMemory("compact", "mmi", "native", 10, True, 98, None)]
    assert advise(_sizes(**ARCS), memory).topology == "correct"


def test_lossless_compact_is_advised_where_it_saves() -> None:
    sizes = [*_sizes(**ARCS), GraphSize("lossless compact, shared", 1, 60, None)]
    advice = advise(sizes, _memory("ctc", correct=100, compact=100, minimal=100))
    assert "Decode with lossless compact, shared: 60% of correct's arcs" in advice.reason
    assert "minimal" not in advice.reason


def test_advice_without_any_memory_has_a_reason() -> None:
    assert advise(_sizes(correct=100, compact=100, minimal=100), []).reason
