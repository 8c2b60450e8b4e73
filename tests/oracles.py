"""The definitions, by enumeration: plain Python and float64, nothing taken from the code under test.

A *reading* is a pair (labelling, output): one label per frame, and the tokens a topology writes for it. The rules below
say which readings each topology has; every sum over paths is a sum over readings, each counted as often as it occurs.
A topology that has no rule here is read by walking its graph, arc by arc.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

BLANK = 0
Tokens = tuple[int, ...]


def correct(labelling: Tokens) -> list[Tokens]:
    """Runs of a label are one; blanks are left out."""
    return [tuple(label for label, _ in itertools.groupby(labelling) if label != BLANK)]


def minimal(labelling: Tokens) -> list[Tokens]:
    """Every frame with a token writes it."""
    return [tuple(label for label in labelling if label != BLANK)]


def selfless(labelling: Tokens) -> list[Tokens]:
    """As minimal, but no token follows itself directly."""
    repeats = any(before == label != BLANK for before, label in itertools.pairwise(labelling))
    return [] if repeats else minimal(labelling)


def compact(labelling: Tokens) -> list[Tokens]:
    """A frame that repeats the token before it goes on with that token or begins another: both are readings."""
    outputs: list[Tokens] = [()]
    before = BLANK
    for label in labelling:
        begun = [(*output, label) for output in outputs]
        if label == BLANK:
            pass
        elif label == before:
            outputs = outputs + begun
        else:
            outputs = begun
        before = label
    return outputs


RULES: dict[str, Callable[[Tokens], list[Tokens]]] = {
    "correct": correct,
    "compact": compact,
    "minimal": minimal,
    "selfless": selfless,
}


def walk(graph: Any, num_frames: int) -> list[tuple[Tokens, Tokens, float]]:
    """Every path of a graph over that many frames: labelling, output and score."""
    leaving: dict[int, list[tuple[int, int, int, float]]] = {}
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    for source, destination, read, written, score in zip(*(column.tolist() for column in columns), strict=True):
        leaving.setdefault(source, []).append((destination, read, written, score))
    found = []

    def go(state: int, labelling: Tokens, output: Tokens, score: float) -> None:
        if len(labelling) == num_frames and graph.final_score[state] > -np.inf:
            found.append((labelling, output, score + float(graph.final_score[state])))
        for destination, read, written, arc_score in leaving.get(state, []):
            if arc_score == -np.inf or (read >= 0 and len(labelling) == num_frames):
                continue
            go(
                destination,
                (*labelling, read) if read >= 0 else labelling,
                (*output, written) if written >= 0 else output,
                score + arc_score,
            )

    go(graph.start, (), (), 0.0)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Readings:
    """All readings of a topology over some frames: ``labellings`` (P, T), ``outputs`` P sequences."""

    labellings: np.ndarray
    outputs: list[Tokens]
    by_output: dict[Tokens, np.ndarray]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Tokens, Tokens]], num_frames: int) -> Readings:
        labellings = np.array([labelling for labelling, _ in pairs], dtype=np.int64).reshape(len(pairs), num_frames)
        rows: dict[Tokens, list[int]] = {}
        for row, (_, output) in enumerate(pairs):
            rows.setdefault(output, []).append(row)
        return cls(labellings, [output for _, output in pairs], {key: np.array(value) for key, value in rows.items()})


@functools.lru_cache(maxsize=256)
def readings(topology: Any, num_frames: int) -> Readings:
    """The readings of a topology value (anything with ``name``, ``num_labels`` and ``graph()``)."""
    rule = RULES.get(topology.name)
    if rule is None:
        pairs = [(labelling, output) for labelling, output, _ in walk(topology.graph(), num_frames)]
    else:
        labellings = itertools.product(range(topology.num_labels), repeat=num_frames)
        pairs = [(labelling, output) for labelling in labellings for output in rule(labelling)]
    return Readings.of(pairs, num_frames)


def reading_counts(topology: Any, num_frames: int) -> Counter[tuple[Tokens, Tokens]]:
    """How often each reading occurs."""
    found = readings(topology, num_frames)
    return Counter(zip(map(tuple, found.labellings.tolist()), found.outputs, strict=True))


def reading_scores(topology: Any, log_probs: torch.Tensor) -> torch.Tensor:
    """``(P,)`` float64: each reading's sum of log-probs; ``log_probs`` is ``(T, V)``, blank 0, differentiable."""
    labellings = torch.from_numpy(readings(topology, len(log_probs)).labellings)
    return log_probs.double()[torch.arange(len(log_probs)), labellings].sum(dim=1)


def log_mass(topology: Any, log_probs: torch.Tensor, target: Sequence[int]) -> torch.Tensor:
    """``Z(y)``: logsumexp over the readings that write the target; -inf where none does."""
    rows = readings(topology, len(log_probs)).by_output.get(tuple(target))
    if rows is None:
        return torch.tensor(-torch.inf, dtype=torch.float64)
    scores = reading_scores(topology, log_probs)[torch.from_numpy(rows)]
    possible = scores[scores > -torch.inf]
    return torch.logsumexp(possible, 0) if len(possible) else torch.tensor(-torch.inf, dtype=torch.float64)


def total_log_mass(topology: Any, log_probs: torch.Tensor) -> torch.Tensor:
    """``Z``: logsumexp over all readings."""
    return torch.logsumexp(reading_scores(topology, log_probs), 0)


def expected_errors(
    topology: Any, log_probs: torch.Tensor, reference: Sequence[int], temperature: float = 1.0
) -> torch.Tensor:
    """``sum_y P(y) W(y)``, P the softmax of Z(y) / temperature over all outputs y."""
    outputs = list(readings(topology, len(log_probs)).by_output)
    masses = torch.stack([log_mass(topology, log_probs, output) for output in outputs])
    errors = torch.tensor([edit_distance(reference, output) for output in outputs], dtype=torch.float64)
    return (torch.softmax(masses / temperature, 0) * errors).sum()


def min_frames(topology: Any, target: Sequence[int], limit: int) -> int:
    """The fewest frames, up to ``limit``, in which some reading writes the target; -1 for none."""
    for num_frames in range(limit + 1):
        if tuple(target) in readings(topology, num_frames).by_output:
            return num_frames
    return -1


def edit_distance(
    reference: Sequence[Any],
    hypothesis: Sequence[Any],
    insertion: float = 1,
    deletion: float = 1,
    substitution: float = 1,
) -> float:
    """The cheapest way from reference to hypothesis."""
    row = [insertion * column for column in range(len(hypothesis) + 1)]
    for number, wanted in enumerate(reference, start=1):
        above, row = row, [deletion * number]
        for column, said in enumerate(hypothesis, start=1):
            row.append(
                min(
                    above[column] + deletion,
                    row[column - 1] + insertion,
                    above[column - 1] + (0 if wanted == said else substitution),
                )
            )
    return row[-1]
