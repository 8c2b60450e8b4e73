"""The N best distinct sequences of readings: each unrolled as far as they reach, then searched."""

from __future__ import annotations

import numpy as np

from topologies import EPSILON
from wfst_losses.backends.native import unrolling
from wfst_losses.backends.native.arc_sums import Ints, Rows
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled.threads import run_in_parallel
from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices.best_sequences import Columns, Found, ranked_paths, search, thresholds


def find(rows: Rows, inputs: Inputs, graph_of: Ints, utterance_of: Ints, num_paths: int, costs: Ints) -> Paths:
    """The best sequences of each reading, a graph over an utterance; steps are the labels read."""
    found: list[tuple[Found, unrolling.Unrolled] | None] = [None] * len(graph_of)

    def work(begin: int, end: int) -> None:
        for reading in range(begin, end):
            found[reading] = _one(rows, int(graph_of[reading]), inputs, int(utterance_of[reading]), num_paths)

    run_in_parallel(work, costs)
    paths = ranked_paths([None if part is None else part[0] for part in found])
    steps = np.full((paths.num_paths, int(inputs.lengths.max(initial=0))), -1, dtype=np.int64)
    graph_scores = np.empty(paths.num_paths)
    for row, (reading, arcs) in enumerate(zip(paths.utterances.tolist(), paths.steps, strict=True)):
        _, unrolled = found[reading]
        taken = arcs[arcs >= 0]
        labels = unrolled.label[taken]
        read = labels[labels != EPSILON]
        steps[row, : len(read)] = read
        graph_scores[row] = unrolled.graph_scores[taken].sum()
    return Paths(steps, paths.tokens, utterance_of[paths.utterances], graph_scores)


def _one(
    rows: Rows, graph: int, inputs: Inputs, utterance: int, num_paths: int
) -> tuple[Found, unrolling.Unrolled] | None:
    rest = unrolling.rests(rows, graph, inputs, utterance)
    best = rest[0, rows.starts[graph]]
    if not best > -np.inf:
        return None
    for threshold in thresholds(float(best)):
        part = unrolling.unroll(rows, graph, inputs, utterance, rest, threshold)
        writes = part.output != EPSILON
        columns = Columns(
            part.destination,
            part.scores,
            np.searchsorted(part.source, np.arange(len(part.rest) + 1)),
            part.output[writes],
            np.concatenate([[0], np.cumsum(writes)]),
            part.rest,
        )
        found = search(columns, num_paths, threshold, part.is_pruned)
        if found.is_complete:
            break
    return found, part
