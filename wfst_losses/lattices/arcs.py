"""A lattice given arc by arc: what k2 builds, as columns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies.batch import ranges
from wfst_losses.graphs.paths import Paths, Segments
from wfst_losses.graphs.walks import check_enumerable
from wfst_losses.lattices.lattice import AbstractLattice
from wfst_losses.lattices.ranking import ranked_paths
from wfst_losses.lattices.sequence_scores import PathScores, SequenceScores
from wfst_losses.lattices.utterance import Utterance
from wfst_losses.memory_formulas import Work, enumeration_work, lattice_room, path_work
from wfst_losses.memory_limit import MemoryBudget, Share
from wfst_losses.validation import TokenSequence

IntColumn = npt.NDArray[np.int64]
_NOTHING = np.empty(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class ArcLattice(AbstractLattice):
    """Acyclic graphs, one per utterance, whose arcs carry scores and the tokens they write.

    An utterance's paths lead from its first state to its last; one without states is empty.

    Attributes:
        out_splits: ``(S + 1,)`` int64 where the arcs that leave each state begin, states of all utterances.
        destination: ``(A,)`` int32, counted from the utterance's first state; above the source.
        tokens, token_splits: int32, int64; the tokens arc ``a`` writes are
            ``tokens[token_splits[a]:token_splits[a + 1]]``. Without splits it writes ``tokens[a]``, nothing where that
            is not above 0.
        arc_scores: ``(A,)`` nats, any device, with autograd history.
        state_splits: ``(B + 1,)`` int64.
        labels: ``(A,)`` what arcs read, blank 0, -1 for nothing; used to mask whole tokens.
        budget: what may be taken, and has been.
    """

    out_splits: IntColumn
    destination: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    token_splits: IntColumn | None
    arc_scores: torch.Tensor
    state_splits: IntColumn
    labels: npt.NDArray[np.integer[Any]] | None = None
    budget: MemoryBudget = dataclasses.field(default_factory=MemoryBudget)

    def __post_init__(self) -> None:
        from wfst_losses.lattices.columns import is_topological

        if not is_topological(self.out_splits, self.destination, self.state_splits):
            raise ValueError("lattice: arcs are not sorted topologically, expected source < destination")

    @property
    def num_utterances(self) -> int:
        """B."""
        return len(self.state_splits) - 1

    @property
    def scores(self) -> torch.Tensor:
        """The scores of the arcs."""
        return self.arc_scores

    def require(self, what: str, part: Work) -> None:
        """Of what may be taken."""
        self.budget.take(what, part)

    @property
    def num_states(self) -> int:
        """States of all utterances."""
        return int(self.state_splits[-1])

    @functools.cached_property
    def _values(self) -> npt.NDArray[np.floating[Any]]:
        scores = self.arc_scores.detach().cpu()
        if scores.dtype not in (torch.float32, torch.float64):
            scores = scores.float()
        values: npt.NDArray[np.floating[Any]] = scores.contiguous().numpy()
        return values

    def values(self) -> npt.NDArray[np.floating[Any]]:
        """The scores of the arcs on the CPU, in float32 or float64."""
        return self._values

    def utterance(self, index: int) -> Utterance:
        """One utterance of the lattice."""
        return Utterance.of(self, *self.state_splits[index : index + 2].tolist())

    def sample(self, num_paths: int, scale: float, generator: torch.Generator | None) -> Paths:
        """Exact posterior samples; an empty utterance gets none."""
        from wfst_losses.lattices import sampling

        # Empty utterances take seeds too: they make no difference to the others.
        seeds = torch.randint(0, 2**62, (self.num_utterances, num_paths), generator=generator).numpy()
        self.budget.take(f"{num_paths:,} paths of each of {self.num_utterances:,} lattices", self._work(num_paths))
        drawn: list[tuple[IntColumn, IntColumn]] = [(_NOTHING, _NOTHING)] * self.num_utterances

        def draw(index: int) -> None:
            part = self.utterance(index)
            columns = part.destination, part.scores, part.out_splits, float(scale)
            rest = sampling.rests(*columns)
            if part.num_states and rest[0] > -np.inf:
                arcs, splits = sampling.walk(*columns, rest, seeds[index])
                drawn[index] = part.arcs.start + arcs, np.diff(splits)

        self._in_parallel(draw)
        lengths = np.concatenate([lengths for _, lengths in drawn])
        steps = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
        steps[np.arange(steps.shape[1]) < lengths[:, None]] = np.concatenate([arcs for arcs, _ in drawn])
        utterances = np.repeat(np.arange(self.num_utterances), [len(lengths) for _, lengths in drawn])
        return self._paths(steps, utterances)

    def _in_parallel(self, work: Callable[[int], None]) -> None:
        """Call ``work`` with the number of every utterance."""
        from wfst_losses.compiled.threads import run_in_parallel

        def over(begin: int, end: int) -> None:
            for index in range(begin, end):
                work(index)

        run_in_parallel(over, self.num_arcs())

    def best_sequences(self, num_paths: int) -> Paths:
        """Exact; an empty utterance gets none."""
        from wfst_losses.lattices import best_sequences

        share = self._share(num_paths)
        found: list[best_sequences.Found | None] = [None] * self.num_utterances

        def rank(index: int) -> None:
            part = self.utterance(index)
            found[index] = best_sequences.best(part, best_sequences.columns_of(part), num_paths, share)

        self._in_parallel(rank)
        self.budget.take(share.what, share.begun)
        return ranked_paths(found)

    def _share(self, num_paths: int) -> Share:
        """What each thread may take to search for so many sequences."""
        num_threads = min(torch.get_num_threads(), self.num_utterances)
        return self.budget.share(f"the {num_paths:,} best sequences", self._work(num_paths), num_threads)

    def _work(self, num_paths: int) -> Work:
        """So many paths of each utterance, and sums over its arcs on each thread."""
        from wfst_losses.lattices.columns import longest_path

        longest = longest_path(self.out_splits, self.destination, self.state_splits)
        # Arcs come as 64-bit numbers, four times over: as found, padded, counted by what they write, and distinct.
        steps = num_paths * self.num_utterances * longest
        found = path_work(num_paths * self.num_utterances, longest, 0)
        room = lattice_room(self.num_arcs(), np.diff(self.state_splits), torch.get_num_threads())
        return found._replace(room=room + 20 * steps)

    def num_arcs(self) -> IntColumn:
        """``(B,)`` arcs of each utterance."""
        return np.diff(self.out_splits[self.state_splits])

    def best_segments(self) -> Segments:
        """Cut where an arc writes a token or reads another label; without labels, every arc is a segment."""
        paths = self.best_sequences(1)
        arcs = np.maximum(paths.steps, 0)
        labels = np.where(paths.steps >= 0, np.ones_like(arcs) if self.labels is None else self.labels[arcs], -1)
        begins = self._num_tokens(arcs) > 0
        return Segments.of(paths, labels.astype(np.int64), begins | (self.labels is None), blank=0)

    def best_paths_around(self, paths: Paths, masks: npt.NDArray[np.bool_]) -> Paths:
        """One search per mask."""
        from wfst_losses.lattices import best_sequences

        share, found = self._share(max(1, masks.shape[1])), []
        for row, utterance in enumerate(paths.utterances.tolist()):
            part = self.utterance(utterance)
            columns = best_sequences.columns_of(part)
            for mask in masks[row]:
                hidden = paths.steps[row][mask & (paths.steps[row] >= 0)] - part.arcs.start
                columns.scores[hidden], kept = -np.inf, columns.scores[hidden]
                found.append(best_sequences.best(part, columns, 1, share))
                columns.scores[hidden] = kept
        return ranked_paths(found, paths.utterances.repeat(masks.shape[1]))

    def enumerate(self) -> Paths:
        """Every path with a score above -inf."""
        from wfst_losses.lattices import sampling
        from wfst_losses.lattices.columns import longest_path

        steps: list[list[int]] = []
        utterances: list[int] = []
        ways = []
        for utterance in range(self.num_utterances):
            part = self.utterance(utterance)
            # Each path counts one: with scores of 0 their log-sum is the logarithm of how many there are.
            scores = np.where(part.scores > -np.inf, 0.0, -np.inf)
            ways.append(sampling.rests(part.destination, scores, part.out_splits, 1.0))
        with np.errstate(over="ignore"):
            num_paths = np.exp([way[0] if len(way) else -np.inf for way in ways])
        check_enumerable(num_paths)
        longest, total = longest_path(self.out_splits, self.destination, self.state_splits), round(num_paths.sum())
        self.budget.take(f"all {total:,} paths", enumeration_work(total, total, longest, 0))
        for utterance in np.flatnonzero(num_paths > 0).tolist():
            part, way = self.utterance(utterance), ways[utterance]
            first, end = part.arcs.start, len(part.out_splits) - 2
            pending: list[tuple[int, list[int]]] = [(0, [])]
            while pending:
                state, taken = pending.pop()
                if state == end:
                    steps.append(taken)
                    utterances.append(utterance)
                for arc in range(part.out_splits[state], part.out_splits[state + 1]):
                    destination = int(part.destination[arc])
                    if part.scores[arc] > -np.inf and way[destination] > -np.inf:
                        pending.append((destination, [*taken, first + arc]))
        longest = max(map(len, steps), default=0)
        padded = np.array([[*row, *[-1] * (longest - len(row))] for row in steps], dtype=np.int64)
        return self._paths(padded.reshape(len(steps), longest), np.array(utterances, dtype=np.int64))

    def _num_tokens(self, arcs: IntColumn) -> IntColumn:
        """How many tokens each of some arcs writes."""
        if self.token_splits is None:
            return (self.tokens[arcs] > 0).astype(np.int64)
        return self.token_splits[arcs + 1] - self.token_splits[arcs]

    def _paths(self, steps: IntColumn, utterances: IntColumn) -> Paths:
        taken = steps >= 0
        arcs, counts = steps[taken], np.zeros(steps.shape, dtype=np.int64)
        counts[taken] = self._num_tokens(arcs)
        if self.token_splits is None:
            places = arcs[counts[taken] > 0]
        else:
            _, places = ranges(self.token_splits[arcs], self.token_splits[arcs + 1])
        written = self.tokens[places].astype(np.int64)
        tokens = np.split(written, np.cumsum(counts.sum(axis=1))[:-1])[: len(steps)]
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

        totals = np.full(self.num_utterances, -np.inf)

        def add_up(index: int) -> None:
            part = self.utterance(index)
            if part.num_states:
                totals[index] = sampling.rests(part.destination, part.scores, part.out_splits, 1.0)[0]

        self._in_parallel(add_up)
        return torch.from_numpy(totals).to(self.arc_scores.device)

    def path_scores(self, paths: Paths) -> torch.Tensor:
        """The sum of the scores of the arcs taken, in float64."""
        result: torch.Tensor = PathScores.apply(self.arc_scores, paths.steps)  # type: ignore[no-untyped-call]
        return result
