"""Graphs as compressed rows of arcs, and the sums over the rest of all paths that sampling needs.

Arcs lie by their source. An arc that reads leads through a *port*, one per state and label it is entered on: at each
frame a port holds the sum of its state one frame later times the emission of its label, once for however many arcs
lead there. A virtual arc leads to a state. So a state's sum is one loop over its row, whatever the topology; states
are taken downwards, since virtual arcs lead up.

Each sum is a float64 mantissa and a power of two of its own (see `state_sums`): nothing underflows.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

NOTHING = -(2**54)
"""The exponent of a sum over nothing: below anything that a path of 2^18 frames can reach."""
_LEAST_BITS = -(2.0**35)
"""Powers of two below this are 0: ``scale * log_prob`` below -2.4e10 nats is impossible, as in `state_sums`."""


class Rows(NamedTuple):
    """A batch of graphs, arcs by source and within it in the order of the batch's columns.

    States and ports are counted from 0 in each graph; ``Q`` is a graph's number of states.

    Attributes:
        state_splits, port_splits: ``(G + 1,)``.
        arc_splits: ``(num_states + 1,)`` the row of each state.
        target: ``(A,)`` the state a virtual arc leads to, or ``Q`` plus the port a reading arc leads through.
        label, output: ``(A,)`` `EPSILON` for nothing.
        score: ``(A,)`` nats.
        port_state, port_label: the state behind each port and the column it reads.
        starts: ``(G,)``.
        final_score: ``(num_states,)`` nats.
        most_written: ``(G,)`` the most tokens that virtual arcs write in a row.
    """

    state_splits: Ints
    port_splits: Ints
    arc_splits: Ints
    target: Ints
    label: Ints
    output: Ints
    score: Floats
    port_state: Ints
    port_label: Ints
    starts: Ints
    final_score: Floats
    most_written: Ints


class Weights(NamedTuple):
    """``e^(scale * score)`` of arcs and final states, split into mantissas and powers of two."""

    mantissas: Floats
    exponents: Ints
    final_mantissas: Floats
    final_exponents: Ints


class Sums(NamedTuple):
    """Numbers as mantissas in [1, 2), or 0, and powers of two."""

    mantissas: Floats
    exponents: Ints


def lay_out(graphs: GraphBatch) -> Rows:
    """The rows of a batch."""
    order = np.argsort(graphs.source, kind="stable")
    source, destination = graphs.source[order], graphs.destination[order].astype(np.int64)
    label = graphs.input_label[order].astype(np.int64)
    reads = label != EPSILON
    width = int(label.max(initial=0)) + 1
    port, port_of_arc = np.unique(destination[reads] * width + label[reads], return_inverse=True)
    port_state, port_label = np.divmod(port, width)
    owner = graphs.graph_of_state.astype(np.int64)
    owner_of_arc, first_states = owner[source], graphs.state_splits[:-1]
    port_splits = np.searchsorted(port_state, graphs.state_splits)
    target = destination - first_states[owner_of_arc]
    readers = owner_of_arc[reads]
    target[reads] = np.diff(graphs.state_splits)[readers] + port_of_arc.reshape(-1) - port_splits[readers]
    rows = Rows(
        state_splits=graphs.state_splits.astype(np.int64),
        port_splits=port_splits,
        arc_splits=np.searchsorted(source, np.arange(graphs.num_states + 1)),
        target=target,
        label=label,
        output=graphs.output_label[order].astype(np.int64),
        score=graphs.score[order].astype(np.float64),
        port_state=port_state - first_states[owner[port_state]],
        port_label=port_label,
        starts=graphs.starts - first_states,
        final_score=graphs.final_score.astype(np.float64),
        most_written=np.zeros(graphs.num_graphs, dtype=np.int64),
    )
    count_written(rows)
    return rows


def weigh(rows: Rows, scale: float) -> Weights:
    """The weights of scaled scores."""
    return Weights(*_split(scale * rows.score), *_split(scale * rows.final_score))


def _split(scores: Floats) -> tuple[Floats, Ints]:
    present = scores > -np.inf
    bits = np.where(present, scores, 0.0) * LOG2_E
    present &= bits > NOTHING
    exponents = np.floor(bits)
    mantissas = np.where(present, np.exp2(bits - exponents), 0.0)
    return mantissas, np.where(present, exponents, NOTHING).astype(np.int64)


@compiled
def count_written(rows: Rows) -> None:
    """Fill in ``most_written``."""
    for graph in range(len(rows.starts)):
        low, high = rows.state_splits[graph], rows.state_splits[graph + 1]
        most = np.zeros(high - low, np.int64)
        for state in range(high - low - 1, -1, -1):
            for arc in range(rows.arc_splits[low + state], rows.arc_splits[low + state + 1]):
                if rows.label[arc] == EPSILON:
                    most[state] = max(most[state], most[rows.target[arc]] + (rows.output[arc] != EPSILON))
            rows.most_written[graph] = max(rows.most_written[graph], most[state])


@compiled
def enter_ports(rows: Rows, graph: int, inputs: Inputs, utterance: int, frame: int, scale: float, sums: Sums) -> None:
    """Into the ports of ``sums``: the sums of its states, one frame later, times the emissions of ``frame``."""
    # Unsigned indices: loops over signed ones, which may count from the end, do not vectorise.
    begin, end = np.uint64(rows.port_splits[graph]), np.uint64(rows.port_splits[graph + 1])
    here = np.uint64(rows.state_splits[graph + 1] - rows.state_splits[graph])
    row, log_sum = inputs.scores[utterance, frame], np.float64(inputs.log_sums[utterance, frame])
    factor = scale * LOG2_E
    mantissas, exponents = sums.mantissas, sums.exponents
    for port in range(end - begin):
        mantissas[here + port] = (row[np.uint64(rows.port_label[begin + port])] - log_sum) * factor
    for port in range(end - begin):
        bits = mantissas[here + port]
        mantissa, exponent = split_power(max(bits, _LEAST_BITS))
        mantissas[here + port] = mantissa if bits >= _LEAST_BITS else 0.0
        exponents[here + port] = exponent if bits >= _LEAST_BITS else NOTHING
    for port in range(end - begin):
        state = np.uint64(rows.port_state[begin + port])
        mantissas[here + port] *= mantissas[state]
        exponents[here + port] += exponents[state]


@compiled
def close_ports(num_states: int, sums: Sums) -> None:
    """Nothing is read any more."""
    sums.mantissas[num_states:] = 0.0
    sums.exponents[num_states:] = NOTHING


@compiled
def sum_rows(rows: Rows, weights: Weights, graph: int, is_end: bool, sums: Sums) -> None:
    """Into the states of ``sums``: over each row, weights times what lies behind; final weights where ``is_end``."""
    low = rows.state_splits[graph]
    for state in range(rows.state_splits[graph + 1] - low - 1, -1, -1):
        begin, end = rows.arc_splits[low + state], rows.arc_splits[low + state + 1]
        peak = weights.final_exponents[low + state] if is_end else NOTHING
        for arc in range(begin, end):
            peak = max(peak, weights.exponents[arc] + sums.exponents[rows.target[arc]])
        total = 0.0
        if is_end:
            total = weights.final_mantissas[low + state] * power_of_two(weights.final_exponents[low + state] - peak)
        for arc in range(begin, end):
            there = rows.target[arc]
            aligned = power_of_two(weights.exponents[arc] + sums.exponents[there] - peak)
            total += weights.mantissas[arc] * sums.mantissas[there] * aligned
        excess = exponent_of(total) if total > 0.0 else 0
        sums.mantissas[state] = total * power_of_two(-excess)
        sums.exponents[state] = peak + excess if total > 0.0 else NOTHING
