"""Sums over all paths that write given sequences, with their gradient: one prefix tree per utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.differentiation import differentiated_once
from wfst_losses.lattices.prefix_tree import PrefixTree
from wfst_losses.lattices.utterance import Utterance
from wfst_losses.memory_formulas import tree_sums_work
from wfst_losses.memory_limit import Share
from wfst_losses.validation import TokenSequence

if TYPE_CHECKING:
    from wfst_losses.lattices.arcs import ArcLattice

IntColumn = npt.NDArray[np.int64]


class SequenceScores(torch.autograd.Function):
    """Log-sums at the leaves of the prefix trees, and their gradient, on the CPU in float64."""

    @staticmethod
    def forward(
        ctx: Any,
        arc_scores: torch.Tensor,
        lattice: ArcLattice,
        sequences: Sequence[TokenSequence],
        utterances: IntColumn,
    ) -> torch.Tensor:
        """Each utterance on its own."""
        result = np.full(len(sequences), -np.inf)
        ctx.parts = []
        for utterance in np.unique(utterances).tolist():
            part = lattice.utterance(utterance)
            if part.num_states:
                rows = np.flatnonzero(utterances == utterance)
                tree = PrefixTree.of([sequences[row] for row in rows.tolist()])
                ctx.parts.append((rows, _Composition(part, tree)))

        num_nodes = sum(len(composition.tree.parent) for _, composition in ctx.parts)
        begun = tree_sums_work(num_nodes, lattice.num_states, len(arc_scores))
        num_threads = min(torch.get_num_threads(), len(ctx.parts))
        share = lattice.budget.share("the sums of sequences", begun, num_threads)

        def add_up(begin: int, end: int) -> None:
            for rows, composition in ctx.parts[begin:end]:
                result[rows] = composition.forward(share)

        _in_parallel(add_up, ctx.parts)
        lattice.budget.take(share.what, share.taken())
        ctx.like = arc_scores
        return torch.from_numpy(result).to(arc_scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """One pass per utterance for all its sequences."""
        coefficients = gradients[0].detach().cpu().double().numpy()
        gradient = np.zeros(len(ctx.like), np.float64 if ctx.like.dtype == torch.float64 else np.float32)

        def differentiate(begin: int, end: int) -> None:
            for rows, composition in ctx.parts[begin:end]:
                gradient[composition.part.arcs] = composition.backward(coefficients[rows])

        _in_parallel(differentiate, ctx.parts)
        return torch.from_numpy(gradient).to(ctx.like.device, ctx.like.dtype), None, None, None


class PathScores(torch.autograd.Function):
    """Sums of the scores of arcs along given paths, on the CPU in float64."""

    @staticmethod
    def forward(ctx: Any, arc_scores: torch.Tensor, steps: IntColumn) -> torch.Tensor:
        """``(P,)`` for ``(P, L)`` arcs, -1 beyond a path's end."""
        ctx.steps, ctx.like = steps, arc_scores
        taken = np.zeros(steps.shape)
        arcs = torch.from_numpy(steps[steps >= 0]).to(arc_scores.device)
        taken[steps >= 0] = arc_scores.detach()[arcs].cpu().double().numpy()
        return torch.from_numpy(taken.sum(axis=1)).to(arc_scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each arc gets what the paths over it get."""
        taken = ctx.steps >= 0
        coefficients = np.broadcast_to(gradients[0].detach().cpu().double().numpy()[:, None], taken.shape)
        arcs = ctx.steps[taken]
        sums = np.bincount(arcs, weights=coefficients[taken], minlength=len(ctx.like))[arcs]
        gradient = torch.zeros_like(ctx.like)
        gradient[torch.from_numpy(arcs).to(ctx.like.device)] = torch.from_numpy(sums).to(ctx.like)
        return gradient, None


def _in_parallel(work: Any, parts: list[tuple[IntColumn, _Composition]]) -> None:
    from wfst_losses.compiled.threads import run_in_parallel

    run_in_parallel(work, np.array([len(composition.part.destination) for _, composition in parts], dtype=np.int64))


class _Composition:
    """One utterance with the tree of its sequences, and what the forward pass left for the backward one."""

    def __init__(self, part: Utterance, tree: PrefixTree) -> None:
        self.part, self.tree = part, tree

    def forward(self, share: Share) -> npt.NDArray[np.float64]:
        """The log-sum of each sequence of the tree."""
        from wfst_losses.lattices import tree_sums

        part, tree = self.part, self.tree
        left = tree_sums.fewest_left(tree.parent, tree.leaf)
        arcs = tree_sums.Arcs(part.out_splits, part.destination, part.tokens, part.token_splits, part.scores)
        self.made = tree_sums.forward(
            arcs, tree_sums.Tree(tree.label, tree.child_splits, tree.children, left), share.most_bytes
        )
        share.check(int(self.made.filled[2]))
        share.keep(
            sum(column.nbytes for column in (*self.made.pairs, *self.made.steps, self.made.head, self.made.table))
        )
        self.leaves, log_sums = tree_sums.leaf_pairs(tree.leaf, part.num_states - 1, self.made)
        result: npt.NDArray[np.float64] = log_sums
        return result

    def backward(self, coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gradient of the sum of ``coefficients`` times log-sums."""
        from wfst_losses.lattices import tree_sums

        adjoint = np.zeros(int(self.made.filled[0]))
        np.add.at(adjoint, self.leaves[self.leaves >= 0], coefficients[self.leaves >= 0])
        result: npt.NDArray[np.float64] = tree_sums.backward(len(self.part.destination), self.made, adjoint)
        return result
