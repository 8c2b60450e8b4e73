"""Sums over a shared graph as a step of autograd: differentiated in the network's output and in the graph's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from topologies import GraphBatch
from wfst_losses.backends.backend import GraphScores
from wfst_losses.backends.memory import shared_work
from wfst_losses.backends.native import shared
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.occupancy import write_shared_gradient
from wfst_losses.compiled import gradient_memory
from wfst_losses.compiled.threads import run_in_parallel
from wfst_losses.differentiation import differentiated_once
from wfst_losses.emissions import Emissions
from wfst_losses.memory_formulas import Work
from wfst_losses.runs import note


def total_scores(graph: GraphBatch, emissions: Emissions, scores: GraphScores | None, memory: str) -> torch.Tensor:
    """``(B,)`` float64."""
    emissions.require(f"the sums over {graph.num_arcs:,} shared arcs", work(graph, emissions, scores, memory))
    if scores is None:
        scores = GraphScores(torch.from_numpy(np.array(graph.score)), torch.from_numpy(np.array(graph.final_score)))
    result: torch.Tensor = _SharedSums.apply(  # type: ignore[no-untyped-call]
        emissions.scores, scores.arcs, scores.finals, emissions, graph, memory
    )
    return result


def work(graph: GraphBatch, emissions: Emissions, scores: GraphScores | None, memory: str) -> Work:
    """What `total_scores` takes."""
    with_arcs = scores is not None and any(part.requires_grad for part in scores)
    return shared_work(graph, emissions, is_low_memory=memory == "low", with_arcs=with_arcs)


class _SharedSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: torch.Tensor,
        arc_scores: torch.Tensor,
        final_scores: torch.Tensor,
        emissions: Emissions,
        graph: GraphBatch,
        memory: str,
    ) -> torch.Tensor:
        """``(B,)`` log-sums, and all occupancies."""
        given = Inputs(scores.detach().cpu().contiguous().numpy(), emissions.log_sums, emissions.input_lengths)
        results = shared.run(
            shared.Request(
                graph,
                given,
                arc_scores.detach().cpu().numpy(),
                final_scores.detach().cpu().numpy(),
                needs_occupancy=any(ctx.needs_input_grad),
                needs_arcs=any(ctx.needs_input_grad[1:3]),
                is_low_memory=memory == "low",
            )
        )
        note("native", "shared graph", results.paths)
        ctx.kept = (given, results, emissions.is_logits)
        # Saved though the inputs share its memory: autograd then finds out if it is changed before the backward pass.
        ctx.save_for_backward(scores, arc_scores, final_scores)
        return torch.tensor(results.totals, device=scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Occupancies, less the softmax where the network gave logits."""
        given, results, is_logits = ctx.kept
        like, *score_likes = ctx.saved_tensors
        # An impossible utterance has no occupancy.
        coefficients = np.where(np.isfinite(results.totals), gradients[0].detach().cpu().double().numpy(), 0.0)
        gradient = None
        if ctx.needs_input_grad[0]:
            values = gradient_memory.uninitialised(given.scores.shape, given.scores.dtype)
            run_in_parallel(
                lambda begin, end: write_shared_gradient(
                    begin, end, given, results.occupancies, coefficients, is_logits, values
                ),
                np.full(len(given.lengths), 1),
            )
            gradient = torch.from_numpy(values).to(like.device, like.dtype)
        of_scores = (
            torch.from_numpy(occupancy @ coefficients).to(score.device, score.dtype) if occupancy.size else None
            for occupancy, score in zip((results.arc_occupancies, results.final_occupancies), score_likes, strict=True)
        )
        return gradient, *of_scores, None, None, None
