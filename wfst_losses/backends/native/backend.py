"""The native backend: band sums for graphs of training, arc sums for what has no bands."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import GraphBatch
from wfst_losses.backends.backend import AbstractBackend
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import Emissions


@dataclasses.dataclass(frozen=True)
class NativeBackend(AbstractBackend):
    """Exact forward-backward on the graphs themselves, compiled for the CPU by numba.

    Sums are float64 whatever the emissions; each state's sum has an exponent of its own, so that nothing underflows.
    Results do not depend on the number of threads, nor on how a batch is ordered or split.
    """

    name = "native"

    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """Forward now; backward writes each gradient row once."""
        if not emissions.is_finite:
            # Compiled sums compare numbers, which NaN defies; the definition passes it on.
            return ReferenceBackend().total_scores(graphs, emissions, utterances)
        result: torch.Tensor = _BandSums.apply(  # type: ignore[no-untyped-call]
            emissions.scores, emissions, graphs, utterances.numpy().astype(np.int64)
        )
        return result


class _BandSums(torch.autograd.Function):
    """Log-sums of graphs over emissions, differentiated with respect to the network's output."""

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, emissions: Emissions, graphs: GraphBatch, utterances: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """``(G,)`` log-sums."""
        from wfst_losses.backends.native import band_sums, bands
        from wfst_losses.compiled import threads

        layout = bands.lay_out(graphs)
        inputs = band_sums.Inputs(
            scores.detach().cpu().contiguous().numpy(), emissions.log_sums, emissions.input_lengths
        )
        num_states, frames = np.diff(layout.state_splits), emissions.input_lengths[utterances]
        sizes = num_states * frames * scores.requires_grad
        begins = np.cumsum(sizes) - sizes if scores.requires_grad else np.full(len(frames), -1)
        num_kept = int(sizes.sum())
        arrivals = band_sums.Arrivals(begins, np.empty(num_kept, inputs.scores.dtype), np.empty(num_kept, np.int32))
        totals = np.empty(graphs.num_graphs)
        threads.run_in_parallel(
            lambda begin, end: band_sums.forward(begin, end, layout, inputs, utterances, arrivals, totals),
            num_states * (frames + 1),
        )
        ctx.kept = (layout, inputs, arrivals, utterances, totals, emissions.is_logits)
        # Saved though the inputs share its memory: autograd then finds out if it is changed before the backward pass.
        ctx.save_for_backward(scores)
        return torch.from_numpy(totals).to(scores.device, scores.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Occupancies, less the softmax where the network gave logits."""
        from wfst_losses.backends.native import band_sums
        from wfst_losses.compiled import threads

        layout, inputs, arrivals, utterances, totals, is_logits = ctx.kept
        (like,) = ctx.saved_tensors
        # An impossible graph has no occupancy.
        coefficients = np.where(np.isfinite(totals), gradients[0].detach().cpu().double().numpy(), 0.0)
        gradient = np.empty_like(inputs.scores)
        graph_splits = np.searchsorted(utterances, np.arange(len(inputs.lengths) + 1))
        threads.run_in_parallel(
            lambda begin, end: band_sums.backward(
                begin, end, layout, inputs, graph_splits, arrivals, coefficients, is_logits, gradient
            ),
            inputs.lengths * (np.diff(graph_splits) + 1),
        )
        return torch.from_numpy(gradient).to(like.device, like.dtype), None, None, None
