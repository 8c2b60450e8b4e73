"""A graph and the automata that read what it writes, laid out for the sums over their products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch
from wfst_losses.graphs.levenshtein import LevenshteinAutomaton

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_LANES = 8
"""Automata are padded to a multiple of this many states, so that no loop over them ends in single steps."""


class Steps(NamedTuple):
    """One graph. An arc that reads enters through a *port*, one per state and label the state is entered on.

    Arcs of a port that write the same token are a *group*: their sources are summed before the automaton moves.

    Attributes:
        start: state every path leaves from.
        final_weight: ``(N,)`` e^score, 0 where not final.
        virtual_source, virtual_destination, virtual_output, virtual_weight: arcs that read nothing, by source, which
            puts all arcs into a state before those out of it.
        port_state, port_label: ``(P,)`` the state behind each port and the column it reads.
        group_splits: ``(P + 1,)`` the groups of each port.
        group_output: the token each group writes, `EPSILON` for none.
        arc_splits: ``(groups + 1,)`` the arcs of each group.
        arc_source, arc_weight: of the arcs that read.
    """

    start: int
    final_weight: Floats
    virtual_source: Ints
    virtual_destination: Ints
    virtual_output: Ints
    virtual_weight: Floats
    port_state: Ints
    port_label: Ints
    group_splits: Ints
    group_output: Ints
    arc_splits: Ints
    arc_source: Ints
    arc_weight: Floats


class Automata(NamedTuple):
    """One automaton per utterance.

    Attributes:
        class_of: ``(B, V)`` the class of each token.
        next_state: the ``(C, padded Q)`` tables of all, one after another; padding leads to itself.
        table_begins, num_classes: ``(B,)`` where each table begins, and C.
        state_splits: ``(B + 1,)`` the padded states of each automaton.
        cost: of each padded state; 0 for padding, which nothing reaches.
    """

    class_of: Ints
    next_state: Ints
    table_begins: Ints
    num_classes: Ints
    state_splits: Ints
    cost: Floats


def lay_out_graph(graph: GraphBatch) -> Steps:
    """The steps of a batch of one graph."""
    reads = graph.input_label != EPSILON
    virtual = np.flatnonzero(~reads)
    virtual = virtual[np.argsort(graph.source[virtual], kind="stable")]
    destination, label = graph.destination[reads].astype(np.int64), graph.input_label[reads].astype(np.int64)
    output = graph.output_label[reads].astype(np.int64)
    num_labels, num_outputs = int(label.max(initial=0)) + 1, int(output.max(initial=0)) + 2
    port, port_of_arc = np.unique(destination * num_labels + label, return_inverse=True)
    group, group_of_arc = np.unique(port_of_arc.reshape(-1) * num_outputs + output + 1, return_inverse=True)
    order = np.argsort(group_of_arc.reshape(-1), kind="stable")
    with np.errstate(over="ignore"):
        weight, final_weight = (np.exp(column.astype(np.float64)) for column in (graph.score, graph.final_score))
    return Steps(
        start=int(graph.starts[0]),
        final_weight=final_weight,
        virtual_source=graph.source[virtual].astype(np.int64),
        virtual_destination=graph.destination[virtual].astype(np.int64),
        virtual_output=graph.output_label[virtual].astype(np.int64),
        virtual_weight=weight[virtual],
        port_state=port // num_labels,
        port_label=port % num_labels,
        group_splits=np.searchsorted(group // num_outputs, np.arange(len(port) + 1)),
        group_output=group % num_outputs - 1,
        arc_splits=np.searchsorted(group_of_arc.reshape(-1)[order], np.arange(len(group) + 1)),
        arc_source=graph.source[reads][order].astype(np.int64),
        arc_weight=weight[reads][order],
    )


def lay_out_automata(automata: Sequence[LevenshteinAutomaton], num_labels: int) -> Automata:
    """The tables of a batch of automata."""
    padded = np.array([-(-automaton.num_states // _LANES) * _LANES for automaton in automata], dtype=np.int64)
    num_classes = np.array([len(automaton.next_state) for automaton in automata], dtype=np.int64)
    state_splits = np.concatenate([[0], np.cumsum(padded)])
    cost = np.zeros(state_splits[-1])
    tables = []
    for index, automaton in enumerate(automata):
        cost[state_splits[index] : state_splits[index] + automaton.num_states] = automaton.cost
        table = np.tile(np.arange(padded[index]), (num_classes[index], 1))
        table[:, : automaton.num_states] = automaton.next_state
        tables.append(table.reshape(-1))
    sizes = padded * num_classes
    return Automata(
        class_of=np.array([a.class_of(num_labels) for a in automata], dtype=np.int64).reshape(-1, num_labels),
        next_state=np.concatenate([np.empty(0, np.int64), *tables]),
        table_begins=np.cumsum(sizes) - sizes,
        num_classes=num_classes,
        state_splits=state_splits,
        cost=cost,
    )
