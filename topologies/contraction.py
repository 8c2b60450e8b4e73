"""Taking states that only pass on out of a composed graph, wherever that takes no more arcs."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from topologies.batch import finished
from topologies.composition import Composition, check_num_real
from topologies.graph import EPSILON

Ints = npt.NDArray[np.int64]
_MOST_ROUNDS = 64


@dataclasses.dataclass
class _Arcs:
    """Where arcs lead, which arc each ends with, and the scores of those before it."""

    source: Ints
    destination: Ints
    last: Ints
    before: npt.NDArray[np.float64]

    def kept(self, chosen: npt.NDArray[np.bool_]) -> _Arcs:
        return _Arcs(self.source[chosen], self.destination[chosen], self.last[chosen], self.before[chosen])


def _check_composition(value: object) -> None:
    if not isinstance(value, Composition):
        raise ValueError(f"composition is {value!r:.80}, expected a Composition such as compose_graph gives")


def contracted(composition: Composition, is_inner: npt.NDArray[np.bool_]) -> Composition:
    """The same paths without most of the states ``is_inner``, which are entered by virtual arcs that write nothing.

    A state with one arc in or one arc out is replaced by its arcs joined two by two, and so is one with two of each:
    there are then no more arcs than before.

    Raises:
        ValueError: if ``is_inner`` is no row of bool, one per state.
    """
    _check_composition(composition)
    batch = composition.batch
    is_inner = np.asarray(is_inner)
    if is_inner.dtype != bool or is_inner.shape != (batch.num_states,):
        raise ValueError(f"is_inner is {is_inner!r:.80}, expected ({batch.num_states},) of bool, one per state")
    score = batch.score.astype(np.float64)
    arcs = _Arcs(
        batch.source.astype(np.int64),
        batch.destination.astype(np.int64),
        np.arange(batch.num_arcs),
        np.zeros(batch.num_arcs),
    )
    for _ in range(_MOST_ROUNDS):
        num_in = np.bincount(arcs.destination, minlength=len(is_inner))
        num_out = np.bincount(arcs.source, minlength=len(is_inner))
        chosen = is_inner & (num_in > 0) & (num_out > 0)
        chosen &= (num_in == 1) | (num_out == 1) | ((num_in == 2) & (num_out == 2))
        chosen = _apart(arcs, chosen)
        if not chosen.any():
            break
        arcs = _without(arcs, chosen, score)
    gone = is_inner & ~np.isin(np.arange(len(is_inner)), arcs.destination)
    arcs = arcs.kept(~gone[arcs.source])
    return _finished(composition, arcs, gone)


def _apart(arcs: _Arcs, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Some of the chosen states, no two of them joined by an arc: those before all they are joined with, shuffled."""
    rank = np.random.default_rng(0).permutation(len(chosen))
    both = chosen[arcs.source] & chosen[arcs.destination]
    source, destination = arcs.source[both], arcs.destination[both]
    result = chosen.copy()
    result[np.where(rank[source] > rank[destination], source, destination)] = False
    return result


def _without(arcs: _Arcs, chosen: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> _Arcs:
    """Every arc into a chosen state joined with every arc out of it."""
    enters, leaves = chosen[arcs.destination], chosen[arcs.source]
    first, second = arcs.kept(enters), arcs.kept(leaves)
    order = np.argsort(second.source, kind="stable")
    low = np.searchsorted(second.source[order], first.destination, side="left")
    counts = np.searchsorted(second.source[order], first.destination, side="right") - low
    row = np.repeat(np.arange(len(counts)), counts)
    taken = order[np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - low, counts)]
    rest = arcs.kept(~enters & ~leaves)
    passed = first.before + score[first.last]
    return _Arcs(
        np.concatenate([rest.source, first.source[row]]),
        np.concatenate([rest.destination, second.destination[taken]]),
        np.concatenate([rest.last, second.last[taken]]),
        np.concatenate([rest.before, passed[row] + second.before[taken]]),
    )


def _finished(composition: Composition, arcs: _Arcs, gone: npt.NDArray[np.bool_]) -> Composition:
    batch = composition.batch
    number = np.cumsum(~gone) - 1
    found, order, states = finished(
        number[arcs.source],
        number[arcs.destination],
        batch.input_label[arcs.last],
        batch.output_label[arcs.last],
        (batch.score[arcs.last] + arcs.before).astype(batch.score.dtype),
        batch.final_score[~gone],
        number[batch.starts],
        batch.graph_of_state[~gone],
    )
    last = arcs.last[order]
    return Composition(
        found,
        composition.left_arc[last],
        composition.right_arc[last],
        composition.left_state[~gone][states],
        composition.right_state[~gone][states],
        composition.left_score[last] + arcs.before[order],
    )


def is_inner(composition: Composition, num_real: int) -> npt.NDArray[np.bool_]:
    """Which states are of a `factored` graph's own making.

    Raises:
        ValueError: if one is entered by an arc that reads or writes.
    """
    _check_composition(composition)
    check_num_real(num_real, np.iinfo(np.int32).max)
    batch = composition.batch
    inner = composition.left_state >= num_real
    wrong = inner[batch.destination] & ((batch.input_label != EPSILON) | (batch.output_label != EPSILON))
    if wrong.any():
        raise ValueError(
            f"factored graph: a state beyond the first {num_real} is entered by an arc that reads or writes; "
            "expected virtual arcs only"
        )
    return inner
