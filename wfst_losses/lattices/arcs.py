"""A lattice given arc by arc: what k2 builds, as columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.differentiation import differentiated_once
from wfst_losses.graphs.paths import Paths, Segments
from wfst_losses.lattices.lattice import AbstractLattice
from wfst_losses.lattices.prefix_tree import PrefixTree
from wfst_losses.validation import TokenSequence

_MAX_ENUMERATED = 1_000_000
IntColumn = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class ArcLattice(AbstractLattice):
    """Acyclic graphs, one per utterance, whose arcs carry scores and the tokens they write.

    An utterance's paths lead from its first state to its last; one without states is empty.

    Attributes:
        source, destination: ``(A,)`` int64, states of all utterances, ``source < destination``, ascending in source.
        token_splits, tokens: the tokens arc ``a`` writes are ``tokens[token_splits[a]:token_splits[a + 1]]``.
        arc_scores: ``(A,)`` nats, any device, with autograd history.
        state_splits: ``(B + 1,)`` int64.
        labels: ``(A,)`` what arcs read, blank 0, -1 for nothing; used to mask whole tokens.
    """

    source: IntColumn
    destination: IntColumn
    token_splits: IntColumn
    tokens: IntColumn
    arc_scores: torch.Tensor
    state_splits: IntColumn
    labels: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        if np.any(self.source >= self.destination) or np.any(np.diff(self.source) < 0):
            raise ValueError("lattice: arcs are not sorted topologically, expected source < destination, ascending")

    @property
    def num_utterances(self) -> int:
        """B."""
        return len(self.state_splits) - 1

    @property
    def scores(self) -> torch.Tensor:
        """The scores of the arcs."""
        return self.arc_scores

    @property
    def num_states(self) -> int:
        """States of all utterances."""
        return int(self.state_splits[-1])

    def values(self) -> npt.NDArray[np.float64]:
        """The scores of the arcs on the CPU, in float64."""
        return self.arc_scores.detach().cpu().double().numpy()

    def _is_end(self) -> npt.NDArray[np.bool_]:
        is_end = np.zeros(self.num_states, dtype=bool)
        ends = self.state_splits[1:][np.diff(self.state_splits) > 0] - 1
        is_end[ends] = True
        return is_end

    def sample(self, num_paths: int, scale: float, generator: torch.Generator | None) -> Paths:
        """Exact posterior samples; an empty utterance gets none."""
        from wfst_losses.lattices import sampling

        values, is_end = scale * self.values(), self._is_end()
        beta = sampling.backward_scores(self.source, self.destination, values, is_end)
        utterances = np.flatnonzero(np.diff(self.state_splits) > 0)
        utterances = utterances[beta[self.state_splits[utterances]] > -np.inf].repeat(num_paths)
        seeds = torch.randint(0, 2**62, (len(utterances),), generator=generator).numpy()
        longest = sampling.longest_path(self.source, self.destination, self.num_states)
        out_splits = np.searchsorted(self.source, np.arange(self.num_states + 1))
        starts = self.state_splits[utterances]
        steps = sampling.walk(self.destination, values, out_splits, beta, is_end, starts, seeds, longest)
        return self._paths(steps, utterances)

    def best_sequences(self, num_paths: int) -> Paths:
        """Exact; an empty utterance gets none."""
        from wfst_losses.compiled.threads import run_in_parallel
        from wfst_losses.lattices import best_sequences

        values = self.values()
        found: list[best_sequences.Found | None] = [None] * self.num_utterances

        def work(begin: int, end: int) -> None:
            for utterance in range(begin, end):
                found[utterance] = best_sequences.best(*self._ranked(utterance, values), num_paths)

        run_in_parallel(work, np.diff(self.state_splits))
        return best_sequences.ranked_paths(found)

    def _ranked(self, utterance: int, values: npt.NDArray[np.float64]) -> tuple[Any, int]:
        """What the search for best sequences takes, and the first of the utterance's arcs."""
        from wfst_losses.lattices import best_sequences

        low, high = self.state_splits[utterance : utterance + 2]
        first, last = np.searchsorted(self.source, [low, high])
        source, destination = self.source[first:last] - low, self.destination[first:last] - low
        columns = best_sequences.Columns(
            destination,
            values[first:last],
            np.searchsorted(source, np.arange(high - low + 1)),
            self.tokens,
            self.token_splits[first : last + 1],
            best_sequences.rests(source, destination, values[first:last], high - low),
        )
        return columns, int(first)

    def best_segments(self) -> Segments:
        """Cut where an arc writes a token or reads another label; without labels, every arc is a segment."""
        paths = self.best_sequences(1)
        arcs = np.maximum(paths.steps, 0)
        labels = np.where(paths.steps >= 0, np.ones_like(arcs) if self.labels is None else self.labels[arcs], -1)
        begins = np.diff(self.token_splits)[arcs] > 0
        return Segments.of(paths, labels.astype(np.int64), begins | (self.labels is None), blank=0)

    def best_paths_around(self, paths: Paths, masks: npt.NDArray[np.bool_]) -> Paths:
        """One search per mask."""
        from wfst_losses.lattices import best_sequences

        values, found = self.values().copy(), []
        for row, utterance in enumerate(paths.utterances.tolist()):
            for mask in masks[row]:
                hidden = paths.steps[row][mask & (paths.steps[row] >= 0)]
                values[hidden], kept = -np.inf, values[hidden]
                found.append(best_sequences.best(*self._ranked(utterance, values), 1))
                values[hidden] = kept
        return best_sequences.ranked_paths(found, paths.utterances.repeat(masks.shape[1]))

    def enumerate(self) -> Paths:
        """Every path with a score above -inf."""
        values, is_end = self.values(), self._is_end()
        out_splits = np.searchsorted(self.source, np.arange(self.num_states + 1))
        steps: list[list[int]] = []
        utterances: list[int] = []
        for utterance in np.flatnonzero(np.diff(self.state_splits) > 0).tolist():
            pending: list[tuple[int, list[int]]] = [(int(self.state_splits[utterance]), [])]
            while pending:
                state, taken = pending.pop()
                if is_end[state]:
                    steps.append(taken)
                    utterances.append(utterance)
                    if len(steps) > _MAX_ENUMERATED:
                        raise ValueError(f"lattice has more than {_MAX_ENUMERATED} paths: too many to enumerate")
                arcs = range(out_splits[state], out_splits[state + 1])
                pending.extend((int(self.destination[arc]), [*taken, arc]) for arc in arcs if values[arc] > -np.inf)
        longest = max(map(len, steps), default=0)
        padded = np.array([[*row, *[-1] * (longest - len(row))] for row in steps], dtype=np.int64)
        return self._paths(padded.reshape(len(steps), longest), np.array(utterances, dtype=np.int64))

    def _paths(self, steps: IntColumn, utterances: IntColumn) -> Paths:
        tokens = []
        for row in steps:
            written = [self.tokens[self.token_splits[arc] : self.token_splits[arc + 1]] for arc in row[row >= 0]]
            tokens.append(np.concatenate([np.empty(0, np.int64), *written]))
        return Paths(steps, tokens, utterances, np.zeros(len(steps)))

    def sequence_scores(self, sequences: Sequence[TokenSequence], utterances: npt.NDArray[np.int64]) -> torch.Tensor:
        """One prefix tree per utterance, one pass forward, one backward."""
        result: torch.Tensor = _SequenceScores.apply(  # type: ignore[no-untyped-call]
            self.arc_scores, self, list(sequences), utterances
        )
        return result

    def path_scores(self, paths: Paths) -> torch.Tensor:
        """The sum of the scores of the arcs taken."""
        steps = torch.from_numpy(paths.steps).to(self.arc_scores.device)
        return self.arc_scores[steps.clamp(min=0)].masked_fill(steps < 0, 0.0).sum(dim=1)


class _SequenceScores(torch.autograd.Function):
    """Log-sums at the leaves of the prefix trees, and their gradient, on the CPU in float64."""

    @staticmethod
    def forward(
        ctx: Any, arc_scores: torch.Tensor, lattice: ArcLattice, sequences: list[TokenSequence], utterances: IntColumn
    ) -> torch.Tensor:
        """Each utterance on its own."""
        # A copy: scores changed before the backward pass would change the gradient without a word.
        values = lattice.values().copy()
        result = np.full(len(sequences), -np.inf)
        ctx.parts = []
        arc_splits = np.searchsorted(lattice.source, lattice.state_splits)
        for utterance in np.unique(utterances).tolist():
            rows = np.flatnonzero(utterances == utterance)
            low, high = lattice.state_splits[utterance], lattice.state_splits[utterance + 1]
            if low == high:
                continue
            part = _Part.of(lattice, slice(*arc_splits[utterance : utterance + 2]), int(low), int(high))
            tree = PrefixTree.of([sequences[row] for row in rows])
            result[rows] = part.forward(values, tree)
            ctx.parts.append((rows, part))
        ctx.like = arc_scores
        return torch.from_numpy(result).to(arc_scores.device, arc_scores.dtype)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """One pass per utterance for all its sequences."""
        coefficients = gradients[0].detach().cpu().double().numpy()
        gradient = np.zeros(len(ctx.like))
        for rows, part in ctx.parts:
            gradient[part.arcs] = part.backward(coefficients[rows])
        return torch.from_numpy(gradient).to(ctx.like.device, ctx.like.dtype), None, None, None


@dataclasses.dataclass(eq=False)
class _Part:
    """One utterance of a lattice, its states numbered from 0, and what its forward pass left."""

    arcs: slice
    lattice: tuple[IntColumn, IntColumn, IntColumn]
    arcs_into: IntColumn
    into_splits: IntColumn
    num_states: int
    saved: tuple[Any, ...] = ()

    @classmethod
    def of(cls, lattice: ArcLattice, arcs: slice, low: int, high: int) -> _Part:
        """Views and sorted arcs of the utterance with states ``low..high-1``."""
        destination = lattice.destination[arcs] - low
        arcs_into = np.argsort(destination, kind="stable")
        into_splits = np.searchsorted(destination[arcs_into], np.arange(high - low + 1))
        token_splits = lattice.token_splits[arcs.start : arcs.stop + 1]
        return cls(arcs, (lattice.source[arcs] - low, lattice.tokens, token_splits), arcs_into, into_splits, high - low)

    def forward(self, values: npt.NDArray[np.float64], tree: PrefixTree) -> npt.NDArray[np.float64]:
        """The log-sum of each sequence of the tree."""
        from wfst_losses.lattices import tree_sums

        columns = (tree.parent, tree.label, tree.by_label, tree.label_splits, tree.child_splits, tree.children)
        scores = values[self.arcs]
        pair_splits, node_of_pair, alpha = tree_sums.forward(
            self.lattice, columns, scores, self.arcs_into, self.into_splits, self.num_states
        )
        leaves = tree_sums.leaf_pairs(tree.leaf, pair_splits, node_of_pair)
        self.saved = (columns, scores, pair_splits, node_of_pair, alpha, leaves)
        return np.where(leaves >= 0, alpha[np.maximum(leaves, 0)], -np.inf)

    def backward(self, coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gradient of the sum of ``coefficients`` times log-sums."""
        from wfst_losses.lattices import tree_sums

        columns, scores, pair_splits, node_of_pair, alpha, leaves = self.saved
        adjoint = np.zeros(len(alpha))
        np.add.at(adjoint, leaves[leaves >= 0], coefficients[leaves >= 0])
        result: npt.NDArray[np.float64] = tree_sums.backward(
            self.lattice,
            columns,
            scores,
            self.arcs_into,
            self.into_splits,
            pair_splits,
            node_of_pair,
            alpha,
            adjoint,
        )
        return result
