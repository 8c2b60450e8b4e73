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
from wfst_losses.memory_formulas import Work, tree_sums_work
from wfst_losses.memory_limit import MemoryBudget
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
        # A copy: scores changed before the backward pass would change the gradient without a word.
        values = lattice.values().copy()
        result = np.full(len(sequences), -np.inf)
        ctx.parts, trees = [], []
        for utterance in np.unique(utterances).tolist():
            part = lattice.utterance(utterance)
            if part.num_states:
                rows = np.flatnonzero(utterances == utterance)
                tree = PrefixTree.of([sequences[row] for row in rows.tolist()])
                trees.append((part, tree))
                ctx.parts.append((rows, _Composition(part, tree, values[part.arcs])))

        if lattice.budget.is_given:
            _hold(trees, lattice.budget)

        def add_up(begin: int, end: int) -> None:
            for rows, composition in ctx.parts[begin:end]:
                result[rows] = composition.forward()

        _in_parallel(add_up, ctx.parts)
        ctx.like = arc_scores
        return torch.from_numpy(result).to(arc_scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """One pass per utterance for all its sequences."""
        coefficients = gradients[0].detach().cpu().double().numpy()
        gradient = np.zeros(len(ctx.like))

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
        values = arc_scores.detach().cpu().numpy()
        ctx.steps, ctx.like = steps, arc_scores
        taken = np.append(values, 0).astype(values.dtype)[steps] if steps.size else np.zeros(steps.shape)
        return torch.from_numpy(taken.sum(axis=1, dtype=np.float64)).to(arc_scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each arc gets what the paths over it get."""
        taken = ctx.steps >= 0
        coefficients = np.broadcast_to(gradients[0].detach().cpu().double().numpy()[:, None], taken.shape)
        gradient = np.bincount(ctx.steps[taken], weights=coefficients[taken], minlength=len(ctx.like))
        return torch.from_numpy(gradient).to(ctx.like.device, ctx.like.dtype), None


def _in_parallel(work: Any, parts: list[tuple[IntColumn, _Composition]]) -> None:
    from wfst_losses.compiled.threads import run_in_parallel

    run_in_parallel(work, np.array([len(composition.part.source) for _, composition in parts], dtype=np.int64))


def _hold(parts: list[tuple[Utterance, PrefixTree]], budget: MemoryBudget) -> None:
    """Count what the sums of all utterances take, as far as that fits.

    Raises:
        MemoryLimitError: if it is too much, with what was counted until then.
    """
    from wfst_losses.lattices import pairs

    counts: list[int] = []
    for part, tree in parts:
        counts.append(pairs.num_pairs(part, tree, budget.limit_bytes // pairs.COUNTING_BYTES))
        budget.check("the sums of sequences", [_work(parts, counts)])
    budget.take("the sums of sequences", _work(parts, counts))


def _work(parts: list[tuple[Utterance, PrefixTree]], num_pairs: list[int]) -> Work:
    return tree_sums_work(
        np.array([len(part.source) for part, _ in parts], dtype=np.int64),
        np.array([part.num_states for part, _ in parts], dtype=np.int64),
        np.array([len(tree.parent) for _, tree in parts], dtype=np.int64),
        np.array([*num_pairs, *[0] * (len(parts) - len(num_pairs))], dtype=np.int64),
        torch.get_num_threads(),
    )


class _Composition:
    """One utterance with the tree of its sequences, and what the forward pass left for the backward one."""

    def __init__(self, part: Utterance, tree: PrefixTree, scores: npt.NDArray[np.float64]) -> None:
        self.part, self.leaf, self.scores = part, tree.leaf, scores
        self.tree = (tree.parent, tree.label, tree.by_label, tree.label_splits, tree.child_splits, tree.children)

    def forward(self) -> npt.NDArray[np.float64]:
        """The log-sum of each sequence of the tree."""
        from wfst_losses.lattices import tree_sums

        part = self.part
        self.arcs = tree_sums.Arcs(part.source, part.tokens, part.token_splits, part.arcs_into, part.into_splits)
        self.columns = tree_sums.Tree(*self.tree)
        self.pairs = tree_sums.forward(self.arcs, self.columns, self.scores, part.num_states)
        self.leaves, log_sums = tree_sums.leaf_pairs(self.leaf, self.pairs)
        result: npt.NDArray[np.float64] = log_sums
        return result

    def backward(self, coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gradient of the sum of ``coefficients`` times log-sums."""
        from wfst_losses.lattices import tree_sums

        adjoint = np.zeros(len(self.pairs.node))
        np.add.at(adjoint, self.leaves[self.leaves >= 0], coefficients[self.leaves >= 0])
        result: npt.NDArray[np.float64] = tree_sums.backward(self.arcs, self.columns, self.scores, self.pairs, adjoint)
        return result
