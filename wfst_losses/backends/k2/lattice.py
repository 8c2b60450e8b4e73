"""k2 lattices as columns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from topologies.batch import ranges
from wfst_losses.backends.k2 import k2
from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import ArcLattice
from wfst_losses.lattices.columns import is_topological
from wfst_losses.memory_formulas import Work, k2_grid_room
from wfst_losses.validation import MOST, check_dense, shown

if TYPE_CHECKING:
    from k2 import Fsa


@dataclasses.dataclass(frozen=True, eq=False)
class K2Lattice(ArcLattice):
    """A lattice that k2 built, with what it was read from.

    Attributes:
        fsa: the FsaVec, arcs as here; never changed.
        dropped: the utterances whose arcs hold NaN or +inf, where those were asked to be left out.
    """

    fsa: Fsa = None
    dropped: tuple[int, ...] = ()

    def grid_paths(self, num_paths: int, scale: float, use_double_scores: bool) -> Paths:
        """``k2.random_paths`` over a copy whose scores are scaled as k2 scales them, in float32."""
        if len(self.destination) == 0:
            return self._paths(np.empty((0, 0), dtype=np.int64), np.empty(0, dtype=np.int64))
        self.budget.take(f"{num_paths:,} paths of each of {self.num_utterances:,} lattices", self._grid_work(num_paths))
        scaled = k2.Fsa(self.fsa.arcs.clone())
        scaled.scores = self.scores.detach() * scale
        drawn = k2.random_paths(scaled, use_double_scores=use_double_scores, num_paths=num_paths)
        lengths = np.diff(drawn.shape.row_splits(2).cpu().numpy())
        steps = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
        steps[np.arange(steps.shape[1]) < lengths[:, None]] = drawn.values.cpu().numpy()
        return self._paths(steps, drawn.shape.row_ids(1).cpu().numpy().astype(np.int64))

    def _grid_work(self, num_paths: int) -> Work:
        """As for other paths, and k2's copy of the lattice with its sums and their distribution."""
        found = self._work(num_paths)
        return found._replace(room=found.room + k2_grid_room(len(self.destination), self.num_states))


def read_lattice(lattice: Fsa, nonfinite: str = "raise") -> K2Lattice:
    """The columns of an FsaVec, its scores attached as they are. The caller's lattice is not changed.

    Tokens are its ``aux_labels`` above 0, plain or ragged, or its labels where it has none. Arcs that score NaN or +inf
    are on no path where those are let pass, and none of an utterance's arcs is where it is dropped for them.

    Raises:
        ValueError: if it is no FsaVec, not acyclic, or has a score that is NaN or +inf and may not.
    """
    if not isinstance(lattice, k2.Fsa):
        raise ValueError(f"lattice is {lattice!r:.80}, expected a k2.Fsa with one graph per utterance")
    if len(lattice.shape) != 3:
        raise ValueError(f"lattice has shape {tuple(lattice.shape)}, expected an FsaVec: one graph per utterance")
    arcs = lattice.arcs.values().cpu().numpy()
    state_splits = lattice.arcs.shape().row_splits(1).cpu().numpy().astype(np.int64)
    out_splits = lattice.arcs.shape().row_splits(2).cpu().numpy().astype(np.int64)
    destination = np.ascontiguousarray(arcs[:, 1])
    _check_aux_labels(lattice, len(arcs))
    if not is_topological(out_splits, destination, state_splits):
        # k2 sorts around self-loops; of other cycles, and of arcs into a start, it writes a trace to stdout.
        if not (destination.all() and _is_acyclic(out_splits, destination, state_splits)):
            raise ValueError("lattice has a cycle, expected an acyclic lattice")
        return read_lattice(k2.top_sort(lattice), nonfinite)
    scores, dropped = _readable_scores(lattice.scores, out_splits[state_splits], nonfinite)
    tokens, token_splits = _tokens(lattice)
    columns = out_splits, destination, tokens, token_splits, scores, state_splits
    return K2Lattice(*columns, labels=arcs[:, 2], fsa=lattice, dropped=dropped)


def _readable_scores(
    scores: torch.Tensor, arc_splits: npt.NDArray[np.int64], nonfinite: str
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The scores, -inf at arcs that are on no path, and which utterances are dropped; ``arc_splits`` by utterance."""
    # NaN and +inf show in the sum, and so may numbers that are large.
    if bool(scores.detach().sum() < torch.inf):
        return scores, ()
    wrong = ~(scores.detach() < torch.inf)
    places = wrong.nonzero().flatten().cpu().numpy()
    if not len(places):
        return scores, ()
    if nonfinite == "raise":
        value = scores[places[0]].item()
        raise ValueError(
            f"lattice.scores[{places[0]}] is {value}, expected a number or -inf; nonfinite='drop' leaves such "
            "utterances out and counts them, nonfinite='pass' such arcs"
        )
    dropped: tuple[int, ...] = ()
    if nonfinite == "drop":
        found = np.unique(np.searchsorted(arc_splits, places, side="right") - 1)
        dropped = tuple(found.tolist())
        for utterance in dropped:
            wrong[arc_splits[utterance] : arc_splits[utterance + 1]] = True
    return scores.masked_fill(wrong, -torch.inf), dropped


def _is_acyclic(
    out_splits: npt.NDArray[np.int64], destination: npt.NDArray[np.int32], state_splits: npt.NDArray[np.int64]
) -> bool:
    """Whether no state is left once those that no arc enters have been taken away, again and again."""
    there = destination + np.repeat(state_splits[:-1], np.diff(out_splits[state_splits]))
    num_entering = np.bincount(there, minlength=len(out_splits) - 1)
    free, num_taken = np.flatnonzero(num_entering == 0), 0
    while len(free):
        num_taken += len(free)
        _, arcs = ranges(out_splits[free], out_splits[free + 1])
        entered, counts = np.unique(there[arcs], return_counts=True)
        num_entering[entered] -= counts
        free = entered[num_entering[entered] == 0]
    return num_taken == len(out_splits) - 1


def _check_aux_labels(lattice: Fsa, num_arcs: int) -> None:
    """One integer of 32 bits or a row of them per arc; k2 lets anything be set."""
    name, written = "lattice.aux_labels", getattr(lattice, "aux_labels", lattice.labels)
    if isinstance(written, k2.RaggedTensor):
        if written.num_axes != 2 or written.dtype != torch.int32:
            raise ValueError(f"{name} has {written.num_axes} axes and dtype {written.dtype}, expected 2 and int32")
        shape: tuple[int, ...] = (written.dim0,)
    elif isinstance(written, torch.Tensor):
        check_dense(name, written)
        if written.is_floating_point() or written.is_complex() or written.dtype == torch.bool:
            raise ValueError(f"{name} has dtype {written.dtype}, expected an integer dtype")
        shape = tuple(written.shape)
    else:
        raise ValueError(f"{name} is {shown(written)}, expected a torch.Tensor or a k2.RaggedTensor of integers")
    if shape != (num_arcs,):
        raise ValueError(f"{name} has shape {shape}, expected ({num_arcs},), one per arc")
    if isinstance(written, torch.Tensor) and written.dtype == torch.int64 and bool((written.abs() > MOST).any()):
        arc = int((written.abs() > MOST).nonzero()[0])
        raise ValueError(f"{name}[{arc}] is {int(written[arc])}, expected 31 bits at most")


def _tokens(lattice: Fsa) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64] | None]:
    """What each arc writes, as an `ArcLattice` holds it: epsilons (0) and the final arcs' -1 are nothing."""
    written = getattr(lattice, "aux_labels", lattice.labels)
    if isinstance(written, torch.Tensor):
        return np.ascontiguousarray(written.cpu().numpy().astype(np.int32, copy=False)), None
    values, splits = written.values.cpu().numpy(), written.shape.row_splits(1).cpu().numpy()
    before = np.concatenate([[0], np.cumsum(values > 0)])
    return values[values > 0].astype(np.int32), before[splits]
