"""Log-sums of graphs over emissions on the device, differentiated with respect to the network's output."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton

from topologies import GraphBatch
from wfst_losses.backends.native.cuda import columns
from wfst_losses.backends.native.cuda.layout import Layout, lay_out, lay_out_shared
from wfst_losses.backends.native.cuda.passes import Found, Readers, column_grid, log_passes
from wfst_losses.backends.native.cuda.scaled import scaled_passes
from wfst_losses.differentiation import differentiated_once
from wfst_losses.emissions import Emissions

_LARGEST_SCORE = {torch.float32: 40.0, torch.float64: 300.0}
"""Graph scores, nats, whose exponentials leave scaled sums room to move in."""


def total_scores(graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
    """``(G,)`` log-sums of graphs, each over its own utterance."""
    layout = lay_out(graphs, emissions.scores.device)
    return _apply(layout, emissions, utterances.numpy(), shared=False)


def shared_total_scores(graph: GraphBatch, emissions: Emissions) -> torch.Tensor:
    """``(B,)`` log-sums of one graph over all utterances."""
    layout = lay_out_shared(graph, emissions.scores.device)
    return _apply(layout, emissions, np.arange(emissions.num_utterances), shared=True)


def _apply(layout: Layout, emissions: Emissions, utterances: npt.NDArray[Any], *, shared: bool) -> torch.Tensor:
    device = emissions.scores.device
    lengths = np.asarray(emissions.input_lengths)[utterances]
    readers = Readers(
        torch.as_tensor(utterances, dtype=torch.int32, device=device),
        torch.as_tensor(lengths, dtype=torch.int32, device=device),
        int(lengths.max(initial=0)),
        shared,
    )
    # Kernels are launched on the current device, whatever the tensors lie on.
    with torch.cuda.device_of(emissions.scores):  # type: ignore[no-untyped-call]
        result: torch.Tensor = _Sums.apply(  # type: ignore[no-untyped-call]
            emissions.scores, emissions, layout, readers, ranks(utterances)
        )
    return result


def ranks(utterances: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Of each reader, how many before it read the same utterance."""
    order = np.argsort(utterances, kind="stable")
    ordered = utterances[order]
    found = np.empty(len(utterances), dtype=np.int32)
    found[order] = np.arange(len(utterances)) - np.searchsorted(ordered, ordered)
    return found


class _Sums(torch.autograd.Function):
    """Sums and occupancies now; the backward pass writes each gradient row."""

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, emissions: Emissions, layout: Layout, readers: Readers, order: Any
    ) -> torch.Tensor:
        """``(R,)`` log-sums."""
        log_sums = torch.as_tensor(np.asarray(emissions.log_sums), device=scores.device)
        found = _find(layout, readers, scores.detach(), log_sums, needs_occupancies=scores.requires_grad)
        ctx.kept = (layout, readers, found, log_sums, order, emissions.is_logits)
        ctx.save_for_backward(scores)
        return found.totals.clone()

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Occupancies, less the softmax where the network gave logits."""
        layout, readers, found, log_sums, order, is_logits = ctx.kept
        (scores,) = ctx.saved_tensors
        # An impossible graph has no occupancy.
        coefficients = torch.where(torch.isfinite(found.totals), gradients[0].double(), torch.zeros_like(found.totals))
        gradient = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
        if gradient.numel():
            with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
                _write_softmax(gradient, scores, log_sums if is_logits else None, readers, coefficients, order)
                _add_occupancies(gradient, layout, readers, found.occupancies, coefficients.to(scores.dtype), order)
        return gradient, None, None, None, None


def _write_softmax(
    gradient: torch.Tensor,
    scores: torch.Tensor,
    log_sums: torch.Tensor | None,
    readers: Readers,
    coefficients: torch.Tensor,
    order: npt.NDArray[np.int32],
) -> None:
    """The share of the log-softmax for logits, 0 where there are no ``log_sums``."""
    num_utterances, num_frames, num_labels = scores.shape
    utterances, device = readers.utterances.long(), scores.device
    totals = torch.zeros(num_utterances, dtype=torch.float64, device=device)
    lengths = torch.zeros(num_utterances, dtype=torch.int32, device=device)
    lengths[utterances] = readers.lengths
    for rank in range(int(order.max(initial=-1)) + 1):
        # An utterance once in each rank: sums in the same order at every run.
        chosen = torch.as_tensor(np.flatnonzero(order == rank), device=device)
        totals[utterances[chosen]] += coefficients[chosen]
    block = min(1024, triton.next_power_of_2(num_labels))
    columns.write_softmax[(num_utterances * num_frames, triton.cdiv(num_labels, block))](
        gradient, scores, scores if log_sums is None else log_sums, lengths, totals.to(scores.dtype),
        *scores.stride(), num_frames, num_labels, IS_LOGITS=log_sums is not None, LABELS=block,
    )  # fmt: skip


def _add_occupancies(
    gradient: torch.Tensor,
    layout: Layout,
    readers: Readers,
    occupancies: torch.Tensor,
    coefficients: torch.Tensor,
    order: npt.NDArray[np.int32],
) -> None:
    """The readers of one utterance one after the other."""
    _, num_frames, num_labels = gradient.shape
    grid, tiles = column_grid(layout, readers)
    rank_of_reader = torch.as_tensor(order, device=gradient.device)
    for rank in range(int(order.max(initial=-1)) + 1 if occupancies.numel() else 0):
        columns.add_occupancies[grid](
            gradient, occupancies, layout.column_labels, layout.column_graphs, rank_of_reader,
            coefficients, readers.lengths, readers.utterances,
            rank, num_frames, num_labels, readers.num_lanes, layout.num_columns, SHARED=readers.shared, **tiles,
        )  # fmt: skip


def _find(
    layout: Layout, readers: Readers, scores: torch.Tensor, log_sums: torch.Tensor, *, needs_occupancies: bool
) -> Found:
    """Scaled sums where one graph is shared, log-sums for the readers that those may have failed and for all else."""
    is_tame = layout.largest_score <= _LARGEST_SCORE[scores.dtype]
    if not readers.shared or not is_tame or not len(readers):
        return log_passes(layout, readers, scores, log_sums, needs_occupancies=needs_occupancies)
    found = scaled_passes(layout, readers, scores, log_sums)
    again = found.lost.nonzero()[:, 0]
    if len(again):
        lengths = readers.lengths[again]
        some = Readers(readers.utterances[again], lengths, int(lengths.max()), shared=True)
        exact = log_passes(layout, some, scores, log_sums, needs_occupancies=needs_occupancies)
        found.totals[again] = exact.totals
        if found.occupancies is not None and exact.occupancies is not None:
            found.occupancies[: some.num_frames, :, again] = exact.occupancies
    return found if needs_occupancies else dataclasses.replace(found, occupancies=None)
