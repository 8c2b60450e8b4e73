"""The N best distinct sequences of readings: each unrolled as far as they reach, then searched."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch

from topologies import EPSILON
from wfst_losses.backends.native import unrolling
from wfst_losses.backends.native.arc_sums import Floats, Ints, Rows
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled.threads import run_in_parallel
from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices.best_sequences import FIRST_BYTES, Columns, Found, ranked_paths, search, thresholds
from wfst_losses.memory_formulas import Work, frame_states_room, path_work
from wfst_losses.memory_limit import MemoryBudget, Share


class _Ranked(NamedTuple):
    """The sequences of a reading, and of each one's best path the labels read and the graph's share in its score."""

    found: Found
    labels: list[Ints]
    graph_scores: list[float]


def find(
    rows: Rows, inputs: Inputs, graph_of: Ints, utterance_of: Ints, num_paths: int, costs: Ints, budget: MemoryBudget
) -> Paths:
    """The best sequences of each reading, a graph over an utterance; steps are the labels read."""
    ranked: list[_Ranked | None] = [None] * len(graph_of)
    what, begun = f"the {num_paths:,} best sequences", _work(rows, inputs, graph_of, utterance_of, num_paths)
    share = budget.share(what, begun, min(torch.get_num_threads(), len(graph_of)))

    def work(begin: int, end: int) -> None:
        for reading in range(begin, end):
            graph, utterance = int(graph_of[reading]), int(utterance_of[reading])
            ranked[reading] = _one(rows, graph, inputs, utterance, num_paths, share)

    run_in_parallel(work, costs)
    budget.take(what, begun)
    paths = ranked_paths([None if part is None else part.found for part in ranked])
    steps = np.full((paths.num_paths, int(inputs.lengths.max(initial=0))), -1, dtype=np.int64)
    present = [part for part in ranked if part is not None]
    for row, labels in enumerate(labels for part in present for labels in part.labels):
        steps[row, : len(labels)] = labels
    graph_scores = np.array([score for part in present for score in part.graph_scores], dtype=np.float64)
    return Paths(steps, paths.tokens, utterance_of[paths.utterances], graph_scores)


def _work(rows: Rows, inputs: Inputs, graph_of: Ints, utterance_of: Ints, num_paths: int) -> Work:
    """The best rests of one reading on each thread, and the paths in the end; searches come on top as they grow."""
    frames, states = inputs.lengths[utterance_of], np.diff(rows.state_splits)[graph_of]
    longest = int(frames.max(initial=0))
    found = path_work(num_paths * len(graph_of), longest, longest)
    rests = frame_states_room(frames, states, 8, torch.get_num_threads())
    return found._replace(room=found.room + rests)


def _one(rows: Rows, graph: int, inputs: Inputs, utterance: int, num_paths: int, share: Share) -> _Ranked | None:
    rest = unrolling.rests(rows, graph, inputs, utterance)
    best = rest[0, rows.starts[graph]]
    if not best > -np.inf:
        return None
    for threshold in thresholds(float(best)):
        ranked = _above(threshold, rows, graph, inputs, utterance, rest, num_paths, share)
        if ranked.found.is_complete:
            break
    return ranked


def _above(
    threshold: float, rows: Rows, graph: int, inputs: Inputs, utterance: int, rest: Floats, num_paths: int, share: Share
) -> _Ranked:
    """What lies above the threshold."""
    part = unrolling.unroll(rows, graph, inputs, utterance, rest, threshold, share.most_bytes)
    share.check(part.wanted_bytes)
    writes = part.output != EPSILON
    columns = Columns(
        part.destination,
        part.scores,
        np.searchsorted(part.source, np.arange(len(part.rest) + 1)),
        part.output[writes],
        np.concatenate([[0], np.cumsum(writes)]),
        part.rest,
    )
    taken = 72 * len(part.source) + 24 * len(part.rest)
    share.check(taken + FIRST_BYTES)
    found = search(columns, num_paths, threshold, part.is_pruned, share.most_bytes - taken)
    share.check(found.wanted_bytes and found.wanted_bytes + taken)
    paths = [found.arcs[low:high] for low, high in itertools.pairwise(found.arc_splits.tolist())]
    labels = [part.label[path] for path in paths]
    read = [row[row != EPSILON] for row in labels]
    return _Ranked(found, read, [float(part.graph_scores[path].sum()) for path in paths])
