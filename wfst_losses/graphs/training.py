"""The graphs of training: a topology composed with a batch of token sequences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies import AbstractTopology, Graph, GraphBatch, without_epsilons
from topologies.topology import graph_of

_LABELS_STEP = 32


def training_graphs(
    topology: AbstractTopology,
    targets: Sequence[npt.NDArray[np.int64]],
    *,
    epsilon_free: bool = False,
) -> GraphBatch:
    """For each target, the topology's paths that write it.

    Where the topology treats all tokens alike, each target is renumbered 1, 2, ... over its own alphabet,
    composed with a topology just large enough, and renumbered back: the cost depends on the targets and not on the
    number of labels, whose square the topology's own graph may hold.

    Args:
        topology: for V labels, blank 0.
        targets: token sequences, tokens 1..V-1.
        epsilon_free: remove virtual arcs, exactly, for engines that know none.
    """
    from wfst_losses.compiled.chain_composition import compose_chains

    if not topology.is_symmetric:
        graph = _graph(topology, epsilon_free)
        return compose_chains(graph, targets)
    alphabets, renumbered = [], []
    for target in targets:
        alphabet, inverse = np.unique(target, return_inverse=True)
        alphabets.append(alphabet)
        renumbered.append(inverse.reshape(-1) + 1)
    longest = max((len(alphabet) for alphabet in alphabets), default=0)
    num_labels = min(topology.num_labels, 1 + _LABELS_STEP * -(-longest // _LABELS_STEP))
    batch = compose_chains(_graph(dataclasses.replace(topology, num_labels=num_labels), epsilon_free), renumbered)
    return dataclasses.replace(
        batch,
        input_label=_original_labels(batch.input_label, batch, alphabets),
        output_label=_original_labels(batch.output_label, batch, alphabets),
    )


@functools.lru_cache(maxsize=16)
def _graph(topology: AbstractTopology, epsilon_free: bool) -> Graph:
    graph = graph_of(topology)
    return without_epsilons(graph) if epsilon_free else graph


def _original_labels(
    label: npt.NDArray[np.int32], batch: GraphBatch, alphabets: list[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int32]:
    """A label column with each graph's own alphabet put back; blank and epsilon stay."""
    flat = np.concatenate([np.empty(0, np.int64), *alphabets])
    offsets = np.cumsum([0] + [len(alphabet) for alphabet in alphabets])[:-1]
    offset_of_arc = np.repeat(offsets, np.diff(batch.arc_splits))
    is_token = label > 0
    result = label.copy()
    result[is_token] = flat[(offset_of_arc + label - 1)[is_token]]
    return result
