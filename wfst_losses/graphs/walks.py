"""Every path of a graph, one by one: how many there are, and which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, Graph

MAX_ENUMERATED = 1_000_000
"""Paths of an utterance; there are four times as many with one frame more, or a hundred times."""


def check_enumerable(num_paths: npt.NDArray[np.float64]) -> None:
    """Refuse to enumerate the paths of any utterance that has too many; ``(B,)`` counts."""
    index = int(np.argmax(num_paths)) if num_paths.size else 0
    if num_paths.size and num_paths[index] > MAX_ENUMERATED:
        raise ValueError(
            f"sampler: Exhaustive takes every path but utterance {index} has {num_paths[index]:.4g}, more than "
            f"{MAX_ENUMERATED}: too many to enumerate; take NBest or RandomPaths"
        )


def num_walks(graph: Graph, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``(B,)`` how many paths read as many labels as each of ``lengths`` says, inf beyond float64."""
    reads, ends = graph.input_label != EPSILON, graph.final_score > -np.inf
    here = np.zeros(graph.num_states)
    here[graph.start] = 1.0
    counts = []
    with np.errstate(over="ignore"):
        for frame in range(int(lengths.max(initial=0)) + 1):
            if frame:
                here = _moved(here, graph, reads)
            step = _moved(here, graph, ~reads)
            while step.any():
                here = here + step
                step = _moved(step, graph, ~reads)
            counts.append(here[ends].sum())
    return np.array(counts)[lengths]


def _moved(counts: npt.NDArray[np.float64], graph: Graph, taken: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Along some of the arcs."""
    arrived = np.bincount(graph.destination[taken], weights=counts[graph.source[taken]], minlength=graph.num_states)
    return arrived.astype(np.float64, copy=False)


def walks(graph: Graph, num_frames: int) -> list[tuple[list[int], list[int]]]:
    """Every path of ``num_frames`` frames: the labels it reads and the tokens it writes."""
    leaving: list[list[int]] = [[] for _ in range(graph.num_states)]
    for arc, source in enumerate(graph.source.tolist()):
        leaving[source].append(arc)
    found: list[tuple[list[int], list[int]]] = []
    pending: list[tuple[int, list[int], list[int]]] = [(graph.start, [], [])]
    while pending:
        state, read, written = pending.pop()
        if len(read) == num_frames and graph.final_score[state] > -np.inf:
            found.append((read, written))
        for arc in leaving[state]:
            label, token = int(graph.input_label[arc]), int(graph.output_label[arc])
            if label != EPSILON and len(read) == num_frames:
                continue
            pending.append(
                (
                    int(graph.destination[arc]),
                    [*read, label] if label != EPSILON else read,
                    [*written, token] if token != EPSILON else written,
                )
            )
    return found
