"""Counts of the graphs that a loss sums over, in closed form where there is one: what predictions of memory rest on."""

from __future__ import annotations

import math
from typing import NamedTuple

import topologies
from wfst_losses.inspection.steps import Step, check_successors, language_model


class Counts(NamedTuple):
    """Of one graph, in the form a backend takes.

    Attributes:
        num_states, num_arcs: of the graph; where the form is "native", with the doors that its layout adds.
        num_virtual: arcs that read nothing, part of ``num_arcs``.
        num_reading: states that are entered by reading a label.
        num_finals: final states.
    """

    num_states: int
    num_arcs: int
    num_virtual: int
    num_reading: int
    num_finals: int


def training_counts(step: Step) -> Counts:
    """The graph of one target without adjacent repeats, in closed form."""
    tokens = step.num_tokens
    states = 2 * tokens + 1
    forms = {
        "correct": Counts(states, 5 * tokens + (tokens == 0), 0, states, 1 + (tokens > 0)),
        "selfless": Counts(states, 4 * tokens + (tokens == 0), 0, states, 1 + (tokens > 0)),
        "compact": Counts(states, 4 * tokens + 1, tokens, states, 1),
        "minimal": Counts(tokens + 1, 2 * tokens + 1, 0, tokens + 1, 1),
    }
    if step.topology not in forms:
        return _counted_training(step)
    if step.topology == "compact" and step.backend == "k2":
        return Counts(states, 5 * tokens + 1, 0, states, 1)
    return forms[step.topology]


def _counted_training(step: Step) -> Counts:
    import numpy as np

    from wfst_losses.graphs.training import training_graphs

    target = 1 + np.arange(step.num_tokens) % max(1, step.num_labels - 1)
    topology = topologies.build(step.topology, step.num_labels)
    graph = training_graphs(topology, [target], epsilon_free=step.backend == "k2").graph(0)
    num_finals = int((graph.final_score > -np.inf).sum())
    return Counts(graph.num_states, graph.num_arcs, graph.num_epsilon_arcs, graph.num_states, num_finals)


def denominator_counts(step: Step) -> tuple[Counts, int]:
    """The denominator in the backend's form, and the number of arcs of its language model.

    For a model of a file the graph is composed and counted. For `steps.bigram` there are closed forms, exact for
    compact and minimal; correct and selfless are as many as expected of a random bigram, and in the native form,
    where trees share arcs between histories, an estimate.
    """
    if step.language_model is None and step.topology in ("correct", "selfless", "compact", "minimal"):
        num_successors = 1 if step.num_successors is None else step.num_successors
        check_successors(step.num_labels, num_successors)
        form = _native if step.backend == "native" else _plain
        counts = form(step.topology, step.num_labels, num_successors)
        if step.topology == "compact" and step.backend == "k2":
            # Epsilon-free, an arc into a token comes twice: to stay, and to return at once.
            counts = counts._replace(num_arcs=counts.num_arcs + step.num_labels * num_successors, num_virtual=0)
        return counts, step.num_labels * num_successors
    return _counted_denominator(step)


def _plain(topology: str, num_labels: int, num_successors: int) -> Counts:
    """Over a bigram whose states are the start and one per token, each of so many arcs; all are final."""
    states, arcs = num_labels, num_labels * num_successors
    if topology == "minimal":
        return Counts(states, arcs + states, 0, states, states)
    pairs = 2 * states - 1
    if topology == "compact":
        return Counts(pairs, arcs + states + 2 * (states - 1), states - 1, pairs, states)
    # A token lists itself with probability n / (V - 1), and that arc is not doubled.
    num_arcs = 2 * (arcs - num_successors) + pairs + states - 1
    if topology == "selfless":
        num_arcs -= states - 1
    return Counts(pairs, num_arcs, 0, pairs, pairs)


def _native(topology: str, num_labels: int, num_successors: int) -> Counts:
    plain = _plain(topology, num_labels, num_successors)
    pairs = 2 * num_labels - 1
    if topology == "minimal":
        doors = 2 * (num_labels - 1) + 1
        return Counts(num_labels + doors - 1, plain.num_arcs + doors - 1, doors - 1, pairs, plain.num_finals)
    if topology == "compact":
        doors = num_labels - 1
        num_virtual = plain.num_virtual + doors
        return Counts(plain.num_states + doors, plain.num_arcs + doors, num_virtual, pairs, plain.num_finals)
    # Trees of a history's tokens: those of the blank and of the token itself share all but a path of the tree.
    depth = math.log2(num_successors + 1)
    shared = round(num_labels * (num_successors + 3 * depth + 5)) - (num_labels - 1) * (topology == "selfless")
    inner = round(num_labels * min(num_successors / 11, depth + 1.6))
    return Counts(pairs + inner, min(shared, plain.num_arcs), 3 * inner, pairs, plain.num_finals)


def _counted_denominator(step: Step) -> tuple[Counts, int]:
    import numpy as np

    from wfst_losses.graphs.denominator import denominator
    from wfst_losses.inspection.sizes import epsilon_free_size

    topology, model = topologies.build(step.topology, step.num_labels), language_model(step)
    batch = denominator(topology, model, factored=step.backend == "native")
    graph = batch.graph(0)
    num_finals, num_virtual = int((graph.final_score > -np.inf).sum()), graph.num_epsilon_arcs
    num_states, num_arcs, num_reading = graph.num_states, graph.num_arcs, graph.num_states
    if step.backend == "k2":
        size, num_finals = epsilon_free_size(graph)
        num_states, num_arcs, num_virtual, num_reading = size.num_states, size.num_arcs, 0, size.num_states
    elif step.backend == "native":
        from wfst_losses.backends.native.shared_rows import lay_out

        rows = lay_out(batch)
        num_reading = int(rows.column_splits[-1])
        num_virtual += len(rows.entering.origin) - num_arcs
        num_states, num_arcs = len(rows.origin), len(rows.entering.origin)
    return Counts(num_states, num_arcs, num_virtual, num_reading, num_finals), model.arcs.num_arcs
