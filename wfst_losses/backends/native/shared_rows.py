"""One graph for many utterances, laid out so that a step over its arcs is a sum of rows of lanes.

States that are entered by reading come first, grouped by the column they read; then those entered by virtual arcs, each
after all that lead to it. A state entered in several ways gets a door for each column it is entered on, from which a
virtual arc leads to it. So a reading arc always leads to a state of the first kind and a virtual one to one of the
second: forwards, a frame is one pass over the states upwards; backwards, one pass downwards.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch

Ints: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[Any]


class Arcs(NamedTuple):
    """Arcs by the state at one end: those of state ``s`` are ``splits[s]..splits[s + 1]``.

    Attributes:
        splits: ``(Q + 1,)``.
        places: ``(A,)`` the state at the other end.
        origin: ``(A,)`` the graph's own arc, -1 for one that leads out of a door.
    """

    splits: Ints
    places: Places
    origin: Ints


class SharedRows(NamedTuple):
    """The arrangement of one graph; scores lie apart.

    Attributes:
        columns: ``(C,)`` the distinct columns it reads.
        column_splits: ``(C + 1,)`` states entered on column ``c`` are ``column_splits[c]..column_splits[c + 1]``.
        entering, leaving: arcs by destination and by source.
        origin: ``(Q,)`` the graph's own state, -1 for a door.
        start: where paths begin.
    """

    columns: Ints
    column_splits: Ints
    entering: Arcs
    leaving: Arcs
    origin: Ints
    start: int


class Weights(NamedTuple):
    """``e^score`` of arcs as they enter and as they leave, and of final states."""

    entering: Floats
    leaving: Floats
    final: Floats


@functools.lru_cache(maxsize=4)
def lay_out(graph: GraphBatch) -> SharedRows:
    """The rows of a batch of one."""
    source, destination, label, arc, num_states = _with_doors(graph)
    reads = label != EPSILON
    column_of = np.full(num_states, -1, dtype=np.int64)
    column_of[destination[reads]] = label[reads]
    order = np.lexsort((np.arange(num_states), np.where(column_of < 0, np.iinfo(np.int64).max, column_of)))
    columns, counts = np.unique(column_of[column_of >= 0], return_counts=True)
    number = np.empty(num_states, dtype=np.int64)
    number[order] = np.arange(num_states)
    source, destination = number[source], number[destination]
    return SharedRows(
        columns=columns,
        column_splits=np.concatenate([[0], np.cumsum(counts)]),
        entering=_by(destination, source, arc, num_states),
        leaving=_by(source, destination, arc, num_states),
        origin=np.where(order < graph.num_states, order, -1),
        start=int(number[graph.starts[0]]),
    )


def _with_doors(graph: GraphBatch) -> tuple[Ints, Ints, Ints, Ints, int]:
    """Arcs, each with the graph's own or -1, and the number of states: doors follow the graph's."""
    source, destination = graph.source.astype(np.int64), graph.destination.astype(np.int64)
    label = graph.input_label.astype(np.int64)
    reads = label != EPSILON
    width = int(label.max(initial=0)) + 1
    key = destination * width + label
    entered = np.unique(key[reads])
    ways = np.bincount(entered // width, minlength=graph.num_states)
    ways += np.isin(np.arange(graph.num_states), destination[~reads])
    doors = entered[ways[entered // width] > 1]
    through = reads & np.isin(key, doors)
    destination[through] = graph.num_states + np.searchsorted(doors, key[through])
    behind = np.arange(graph.num_states, graph.num_states + len(doors))
    return (
        np.concatenate([source, behind]),
        np.concatenate([destination, doors // width]),
        np.concatenate([label, np.full(len(doors), EPSILON)]),
        np.concatenate([np.arange(graph.num_arcs), np.full(len(doors), -1)]),
        graph.num_states + len(doors),
    )


def _by(state: Ints, other: Ints, arc: Ints, num_states: int) -> Arcs:
    order = np.lexsort((other, state))
    splits = np.searchsorted(state[order], np.arange(num_states + 1))
    return Arcs(splits, other[order].astype(np.int32), arc[order])


def weigh(rows: SharedRows, arc_scores: Floats, final_scores: Floats, dtype: Any) -> Weights:
    """Weights from scores of the graph's own arcs and states, nats."""
    arcs, finals = np.append(arc_scores, 0.0), np.append(final_scores, -np.inf)
    with np.errstate(over="ignore"):
        return Weights(
            np.exp(arcs[rows.entering.origin]).astype(dtype),
            np.exp(arcs[rows.leaving.origin]).astype(dtype),
            np.exp(finals[rows.origin]).astype(dtype),
        )
