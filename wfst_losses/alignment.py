"""Forced alignment: which frames a known token sequence was said in."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from topologies import AbstractTopology
from wfst_losses.backends import get_backend
from wfst_losses.backends.memory import path_score_work
from wfst_losses.emissions import Emissions, for_best_paths, read_emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.training import training_graphs
from wfst_losses.validation import (
    Lengths,
    Targets,
    check_blank,
    check_targets,
    check_topology,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Alignments:
    """The best alignment of each utterance, in the order given, on the device of the log-probs.

    An impossible target keeps its place: -1 throughout and score -inf.

    Attributes:
        labels: ``(B, T)`` int64, the label of each frame; -1 beyond an utterance's length.
        start_frames: ``(B, S)`` int64, the frame each token begins at; -1 beyond a target's length. S is the longest's.
        end_frames: ``(B, S)`` int64, one past the last frame of each token; -1 likewise.
        scores: ``(B,)`` nats, ``sum_t log_probs[t, label_t]``, differentiable; never above the target's ``-ctc_loss``.
    """

    labels: torch.Tensor
    start_frames: torch.Tensor
    end_frames: torch.Tensor
    scores: torch.Tensor


def forced_alignment(
    log_probs: torch.Tensor,
    targets: Targets,
    input_lengths: Lengths,
    target_lengths: Lengths | None = None,
    *,
    topology: str | AbstractTopology = "correct",
    backend: str = "auto",
    blank: int = 0,
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> Alignments:
    """The best path of each target: the label of every frame, and the frames of every token.

    ``argmax over paths writing y of sum_t log_probs[t, label_t]``

    A token begins at the frame it is written at and lasts while frames read the same label and no other token is
    written. Networks trained with CTC put most tokens on one frame: these are the frames the network found, seldom the
    sound's whole length. Of equally good alignments one is chosen, always the same.

    Args:
        log_probs, targets, input_lengths, target_lengths: as in `ctc_loss`.
        topology: a name or a topology value.
        backend, blank, from_logits, check_normalised: as in `ctc_loss`.
        nonfinite: what NaN or +inf in a live frame does: "raise", "drop" (aligned as an impossible target) or "pass": a
            label whose log-prob is one is read by no path, and of logits such a frame has no labels at all.
        max_memory: as in `ctc_loss`.

    Returns:
        `Alignments`.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    >>> import torch
    >>> log_probs = torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]).log()[None]
    >>> found = forced_alignment(log_probs, [[1, 2]], [4])
    >>> found.labels.tolist(), found.start_frames.tolist(), found.end_frames.tolist()
    ([[1, 1, 0, 2]], [[0, 3]], [[2, 4]])
    """
    emissions = read_emissions(
        log_probs,
        input_lengths,
        from_logits=from_logits,
        check_normalised=check_normalised,
        nonfinite=nonfinite,
        max_memory=max_memory,
    )
    emissions = for_best_paths(emissions)
    engine = get_backend(backend, emissions.scores.device)
    blank = check_blank(blank, emissions.num_labels)
    sequences = check_targets(targets, target_lengths, emissions.num_utterances, emissions.num_labels, blank)
    rule = check_topology(topology, emissions.num_labels)
    graphs = reading_columns(training_graphs(rule, tokens_inside(sequences, blank)), blank)
    paths = engine.best_paths(graphs, emissions, torch.arange(emissions.num_utterances))
    is_aligned = (paths.scores > -np.inf) & ~emissions.dropped
    labels = np.full((emissions.num_utterances, emissions.scores.shape[1]), -1, dtype=np.int64)
    labels[:, : paths.steps.shape[1]] = np.where(is_aligned[:, None], paths.steps, -1)
    starts, ends = _frames(paths, labels, is_aligned, max(map(len, sequences), default=0))
    device = emissions.scores.device
    steps = torch.from_numpy(labels).to(device)
    return Alignments(
        labels=steps,
        start_frames=torch.from_numpy(starts).to(device),
        end_frames=torch.from_numpy(ends).to(device),
        scores=_scores(emissions, paths, steps, is_aligned),
    )


def _frames(
    paths: BestPaths, labels: npt.NDArray[np.int64], is_aligned: npt.NDArray[np.bool_], longest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``(B, longest)`` where each token starts and stops."""
    starts = np.full((len(labels), longest), -1, dtype=np.int64)
    ends = starts.copy()
    num_frames = labels.shape[1]
    for row in np.flatnonzero(is_aligned).tolist():
        begins = paths.token_frames[row]
        # A run of one label ends where the next frame reads another, or nothing any more.
        changes = np.append(np.flatnonzero(np.diff(labels[row], append=-2)) + 1, num_frames)
        runs_end = changes[np.searchsorted(changes, begins, side="right")]
        starts[row, : len(begins)] = begins
        ends[row, : len(begins)] = np.minimum(runs_end, np.append(begins[1:], num_frames))
    return starts, ends


def _scores(
    emissions: Emissions, paths: BestPaths, labels: torch.Tensor, is_aligned: npt.NDArray[np.bool_]
) -> torch.Tensor:
    emissions.require("the alignments' scores", path_score_work(labels.shape[0], labels.shape[1], emissions))
    gathered = emissions.log_probs.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
    shares = torch.from_numpy(np.where(is_aligned, paths.graph_scores, -np.inf)).to(gathered)
    return gathered.masked_fill(labels < 0, 0.0).sum(dim=1) + shares
