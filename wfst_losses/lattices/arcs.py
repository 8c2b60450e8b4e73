"""A lattice given arc by arc: what k2 builds, as columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies.batch import ranges
from wfst_losses.graphs.paths import Paths, Segments
from wfst_losses.lattices.lattice import AbstractLattice
from wfst_losses.lattices.sequence_scores import PathScores, SequenceScores
from wfst_losses.lattices.utterance import Utterance
from wfst_losses.memory_formulas import Work, lattice_room, path_work
from wfst_losses.memory_limit import MemoryBudget, Share
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
        budget: what may be taken, and has been.
    """

    source: IntColumn
    destination: IntColumn
    token_splits: IntColumn
    tokens: IntColumn
    arc_scores: torch.Tensor
    state_splits: IntColumn
    labels: npt.NDArray[np.integer[Any]] | None = None
    budget: MemoryBudget = dataclasses.field(default_factory=MemoryBudget)

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

    def utterance(self, index: int) -> Utterance:
        """One utterance of the lattice."""
        low, high = self.state_splits[index : index + 2].tolist()
        first, last = np.searchsorted(self.source, [low, high]).tolist()
        return Utterance.of(self, slice(first, last), low, high)

    def sample(self, num_paths: int, scale: float, generator: torch.Generator | None) -> Paths:
        """Exact posterior samples; an empty utterance gets none."""
        from wfst_losses.lattices import sampling

        values = scale * self.values()
        # Empty utterances take seeds too: they make no difference to the others.
        seeds = torch.randint(0, 2**62, (self.num_utterances, num_paths), generator=generator).numpy()
        self.budget.take(f"{num_paths:,} paths of each of {self.num_utterances:,} lattices", self._work(num_paths))
        longest = sampling.longest_path(self.source, self.destination, self.num_states)
        steps = np.full((self.num_utterances, num_paths, longest), -1, dtype=np.int64)
        is_possible = np.zeros(self.num_utterances, dtype=bool)

        def draw(index: int) -> None:
            part = self.utterance(index)
            sums = sampling.rests(part.destination, values[part.arcs], part.out_splits)
            is_possible[index] = len(sums.mantissas) > 0 and sums.mantissas[0] > 0.0
            if is_possible[index]:
                sampling.walk(part.destination, part.out_splits, sums, seeds[index], steps[index])

        self._in_parallel(draw)
        offsets = np.searchsorted(self.source, self.state_splits[:-1])[is_possible].repeat(num_paths)[:, None]
        taken = steps[is_possible].reshape(-1, longest)
        return self._paths(np.where(taken >= 0, taken + offsets, -1), np.flatnonzero(is_possible).repeat(num_paths))

    def _in_parallel(self, work: Callable[[int], None]) -> None:
        """Call ``work`` with the number of every utterance."""
        from wfst_losses.compiled.threads import run_in_parallel

        def over(begin: int, end: int) -> None:
            for index in range(begin, end):
                work(index)

        run_in_parallel(over, self.sizes()[0])

    def best_sequences(self, num_paths: int) -> Paths:
        """Exact; an empty utterance gets none."""
        from wfst_losses.lattices import best_sequences

        share, values = self._share(num_paths), self.values()
        found: list[best_sequences.Found | None] = [None] * self.num_utterances

        def rank(index: int) -> None:
            found[index] = best_sequences.best(self.utterance(index), values, num_paths, share)

        self._in_parallel(rank)
        self.budget.take(share.what, share.begun)
        return best_sequences.ranked_paths(found)

    def _share(self, num_paths: int) -> Share:
        """What each thread may take to search for so many sequences."""
        what, begun = f"the {num_paths:,} best sequences", self._work(num_paths)
        self.budget.check(what, [begun])
        return self.budget.share(what, begun, min(torch.get_num_threads(), self.num_utterances))

    def _work(self, num_paths: int) -> Work:
        """So many paths of each utterance, and sums over its arcs on each thread."""
        from wfst_losses.lattices import sampling

        num_arcs, num_states = self.sizes()
        longest = sampling.longest_path(self.source, self.destination, self.num_states)
        # Arcs come as 64-bit numbers, four times over: as found, shifted, counted by what they write, and distinct.
        steps = num_paths * self.num_utterances * longest
        found = path_work(num_paths * self.num_utterances, longest, 0)
        room = lattice_room(num_arcs, num_states, torch.get_num_threads())
        return found._replace(room=room + 20 * steps)

    def sizes(self) -> tuple[IntColumn, IntColumn]:
        """``(B,)`` arcs and states of each utterance."""
        return np.diff(np.searchsorted(self.source, self.state_splits)), np.diff(self.state_splits)

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

        share, values, found = self._share(max(1, masks.shape[1])), self.values().copy(), []
        for row, utterance in enumerate(paths.utterances.tolist()):
            part = self.utterance(utterance)
            for mask in masks[row]:
                hidden = paths.steps[row][mask & (paths.steps[row] >= 0)]
                values[hidden], kept = -np.inf, values[hidden]
                found.append(best_sequences.best(part, values, 1, share))
                values[hidden] = kept
        return best_sequences.ranked_paths(found, paths.utterances.repeat(masks.shape[1]))

    def enumerate(self) -> Paths:
        """Every path with a score above -inf."""
        values = self.values()
        steps: list[list[int]] = []
        utterances: list[int] = []
        for utterance in np.flatnonzero(np.diff(self.state_splits) > 0).tolist():
            part = self.utterance(utterance)
            first, end = part.arcs.start, len(part.out_splits) - 2
            pending: list[tuple[int, list[int]]] = [(0, [])]
            while pending:
                state, taken = pending.pop()
                if state == end:
                    steps.append(taken)
                    utterances.append(utterance)
                    if len(steps) > _MAX_ENUMERATED:
                        raise ValueError(f"lattice has more than {_MAX_ENUMERATED} paths: too many to enumerate")
                arcs = range(part.out_splits[state], part.out_splits[state + 1])
                pending.extend(
                    (int(part.destination[arc]), [*taken, first + arc]) for arc in arcs if values[first + arc] > -np.inf
                )
        longest = max(map(len, steps), default=0)
        padded = np.array([[*row, *[-1] * (longest - len(row))] for row in steps], dtype=np.int64)
        return self._paths(padded.reshape(len(steps), longest), np.array(utterances, dtype=np.int64))

    def _paths(self, steps: IntColumn, utterances: IntColumn) -> Paths:
        taken = steps >= 0
        _, places = ranges(self.token_splits[steps[taken]], self.token_splits[steps[taken] + 1])
        counts = np.zeros(steps.shape, dtype=np.int64)
        counts[taken] = np.diff(self.token_splits)[steps[taken]]
        tokens = np.split(self.tokens[places], np.cumsum(counts.sum(axis=1))[:-1])[: len(steps)]
        return Paths(steps, tokens, utterances, np.zeros(len(steps)))

    def sequence_scores(self, sequences: Sequence[TokenSequence], utterances: npt.NDArray[np.int64]) -> torch.Tensor:
        """In float64: one prefix tree per utterance, one pass forward, one backward."""
        result: torch.Tensor = SequenceScores.apply(  # type: ignore[no-untyped-call]
            self.arc_scores, self, list(sequences), utterances
        )
        return result

    def total_scores(self) -> torch.Tensor:
        """In float64."""
        from wfst_losses.lattices import sampling

        values, totals = self.values(), np.full(self.num_utterances, -np.inf)

        def add_up(index: int) -> None:
            part = self.utterance(index)
            totals[index] = sampling.log_sum(sampling.rests(part.destination, values[part.arcs], part.out_splits))

        self._in_parallel(add_up)
        return torch.from_numpy(totals).to(self.arc_scores.device)

    def path_scores(self, paths: Paths) -> torch.Tensor:
        """The sum of the scores of the arcs taken, in float64."""
        result: torch.Tensor = PathScores.apply(self.arc_scores, paths.steps)  # type: ignore[no-untyped-call]
        return result
