"""Sums over one graph that all utterances share: in lanes, with the fewest bits that will do for each utterance."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import GraphBatch
from wfst_losses.backends.native import shared_lanes, shared_logs, shared_rows, shared_steps
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.shared_lanes import Tile
from wfst_losses.backends.native.shared_rows import SharedRows
from wfst_losses.backends.native.shared_steps import ArcWork, Work
from wfst_losses.compiled.lanes import NUM_LANES
from wfst_losses.compiled.threads import run_in_parallel

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class _Precision:
    """How lanes are run.

    Attributes:
        name: of the path.
        dtype: of the sums.
        floor: what no forward sum is let below.
        max_growth: of any sum from one frame to the next, so that all that can vanish lies far below the floor.
        least_frame: what no frame's occupancies may sum to less than: where a label that no path reads drowns all
            others twice in a row, sums before and behind are right and small, and their products nothing.
        tolerance: on the difference of the totals, nats, and per frame.
    """

    name: str
    dtype: Any
    floor: float
    max_growth: float
    least_frame: float
    tolerance: float
    tolerance_per_frame: float


SINGLE = _Precision("float32, scaled", np.float32, 2.0**-100, 2.0**20, 2.0**-80, 1e-5, 2e-8)
DOUBLE = _Precision("float64, scaled", np.float64, 2.0**-900, 2.0**100, 2.0**-960, 1e-10, 1e-14)
LOGARITHMS = "float64, logarithms"


@dataclasses.dataclass(frozen=True)
class Results:
    """What the sums of a batch are.

    Attributes:
        totals: ``(B,)`` float64, nats.
        occupancies: ``(B, T, V)`` posteriors of labels, 0 in frames that are not live; without rows if not asked for.
        arc_occupancies, final_occupancies: ``(A, B)`` and ``(Q, B)`` of the graph's own arcs and states.
        paths: ``(B,)`` how each total was found.
    """

    totals: Floats
    occupancies: Floats
    arc_occupancies: Floats
    final_occupancies: Floats
    paths: list[str]


@dataclasses.dataclass(frozen=True)
class Request:
    """Sums over ``graph`` with the given scores, in nats, of its arcs and final states."""

    graph: GraphBatch
    inputs: Inputs
    arc_scores: Floats
    final_scores: Floats
    needs_occupancy: bool
    needs_arcs: bool
    is_low_memory: bool

    def block(self, num_frames: int) -> int:
        """Frames whose sums are kept at a time."""
        return max(1, math.isqrt(num_frames - 1) + 1) if self.is_low_memory and num_frames else max(1, num_frames)


def run(request: Request) -> Results:
    """Sums of all utterances, each alone: neither the others nor the number of threads make a difference."""
    rows, inputs, graph = shared_rows.lay_out(request.graph), request.inputs, request.graph
    num_utterances = len(inputs.lengths)
    shape = inputs.scores.shape if request.needs_occupancy else (num_utterances, 0, 0)
    results = Results(
        np.full(num_utterances, np.nan),
        np.zeros(shape, inputs.scores.dtype),
        np.zeros((len(rows.entering.origin) * request.needs_arcs, num_utterances)),
        np.zeros((len(rows.origin) * request.needs_arcs, num_utterances)),
        [LOGARITHMS] * num_utterances,
    )
    left = np.arange(num_utterances)
    is_single = inputs.scores.dtype == np.float32 and not request.needs_arcs
    for precision in (SINGLE, DOUBLE) if is_single else (DOUBLE,):
        if len(left):
            left = _run_lanes(request, rows, precision, left, results)
    if len(left):
        _run_logarithms(request, rows, left, results)
    return dataclasses.replace(
        results,
        arc_occupancies=_of_graph(results.arc_occupancies, rows.entering.origin, graph.num_arcs),
        final_occupancies=_of_graph(results.final_occupancies, rows.origin, graph.num_states),
    )


def _of_graph(occupancies: Floats, origin: Ints, count: int) -> Floats:
    """Rows in the graph's own order, doors left out."""
    if not len(occupancies):
        return occupancies
    ordered = np.zeros((count, occupancies.shape[1]))
    ordered[origin[origin >= 0]] = occupancies[origin >= 0]
    return ordered


def _run_lanes(request: Request, rows: SharedRows, precision: _Precision, utterances: Ints, results: Results) -> Ints:
    """Run the given utterances; returns those for which this precision does not do."""
    weights = shared_rows.weigh(rows, request.arc_scores, request.final_scores, precision.dtype)
    if not shared_steps.growth(rows, weights) <= precision.max_growth:
        return utterances
    lengths = request.inputs.lengths[utterances]
    order = np.argsort(lengths, kind="stable")
    members = np.full((-(-len(utterances) // NUM_LANES), NUM_LANES), -1)
    members.reshape(-1)[: len(order)] = utterances[order]
    tile_lengths = np.where(members >= 0, request.inputs.lengths[members], -1)
    totals = np.full((2, len(request.inputs.lengths)), np.nan)

    def work(begin: int, end: int) -> None:
        for tile in range(begin, end):
            _run_tile(request, rows, weights, precision, members[tile], tile_lengths[tile], totals, results)

    run_in_parallel(work, tile_lengths.max(axis=1) + 1)
    # Sums of nothing differ by NaN: they are for logarithms to find.
    with np.errstate(invalid="ignore"):
        difference = np.abs(totals[0] - totals[1])[utterances]
    agrees = difference <= precision.tolerance + precision.tolerance_per_frame * lengths
    for utterance in utterances[agrees].tolist():
        results.totals[utterance] = totals[0, utterance]
        results.paths[utterance] = precision.name
    left: Ints = utterances[~agrees]
    return left


def _run_tile(
    request: Request,
    rows: SharedRows,
    weights: shared_rows.Weights,
    precision: _Precision,
    members: Ints,
    lengths: Ints,
    totals: Floats,
    results: Results,
) -> None:
    num_frames = int(lengths.max())
    block, inputs, occupancies = request.block(num_frames), request.inputs, results.occupancies
    model, (work, arc_work) = (rows, weights), _work(request, rows, precision, num_frames)
    tile = Tile(np.maximum(members, 0), lengths)
    upper, lower, offsets = np.zeros((2, NUM_LANES)), np.zeros(NUM_LANES), np.zeros(NUM_LANES)
    shared_lanes.read_peaks(tile, inputs, work, offsets)
    shared_steps.begin(rows, weights, precision.floor, work.previous)

    def forward(first: int, keep: bool, totals: Floats) -> None:
        last = min(num_frames, first + block)
        shared_lanes.forward(model, tile, inputs, precision.floor, first, last, keep, work, totals)

    starts = list(range(0, max(1, num_frames), block))
    checkpoints = []
    for first in starts:
        checkpoints.append((work.previous.copy(), work.scale.copy()))
        forward(first, request.needs_occupancy and first == starts[-1], upper)
    work.previous[:] = 0.0
    for first in reversed(starts):
        if request.needs_occupancy and first != starts[-1]:
            ahead = work.previous.copy()
            work.previous[:], work.scale[:] = checkpoints.pop()
            forward(first, True, np.zeros_like(upper))
            work.previous[:] = ahead
        else:
            checkpoints.pop()
        last = min(num_frames, first + block)
        least, frames = precision.least_frame, (first, last)
        shared_lanes.backward(model, tile, inputs, least, frames, work, arc_work, lower, occupancies)
    shared_lanes.finish(rows, weights, tile, work, arc_work, lower)
    used = members >= 0
    totals[:, members[used]] = (np.stack([upper[0], lower]) * math.log(2.0) + offsets)[:, used]
    if request.needs_arcs:
        results.arc_occupancies[:, members[used]] = arc_work.arcs.reshape(-1, NUM_LANES)[:, used]
        results.final_occupancies[:, members[used]] = arc_work.finals.reshape(-1, NUM_LANES)[:, used]


def _work(request: Request, rows: SharedRows, precision: _Precision, num_frames: int) -> tuple[Work, ArcWork]:
    num_states, num_columns, num_reading = len(rows.origin), len(rows.columns), int(rows.column_splits[-1])
    num_kept = min(request.block(num_frames), num_frames) if request.needs_occupancy else 0

    def room(*shape: int) -> Floats:
        return np.empty(math.prod(shape) * NUM_LANES, precision.dtype)

    work = Work(
        previous=room(num_states),
        current=room(num_states),
        emissions=room(num_columns),
        shares=room(num_columns),
        arrivals=room(num_kept, num_reading),
        peaks=room(num_frames),
        scale=np.ones(NUM_LANES, precision.dtype),
        row=np.empty(num_columns, precision.dtype),
    )
    sizes = (len(rows.entering.origin), num_states, num_states)
    sums = (np.zeros(size * NUM_LANES * request.needs_arcs, precision.dtype) for size in sizes)
    return work, ArcWork(request.needs_arcs, *sums)


def _run_logarithms(request: Request, rows: SharedRows, utterances: Ints, results: Results) -> None:
    arcs = np.append(request.arc_scores, 0.0).astype(np.float64)
    finals = np.append(request.final_scores, -np.inf).astype(np.float64)
    weights = shared_logs.LogWeights(arcs[rows.entering.origin], arcs[rows.leaving.origin], finals[rows.origin])
    nothing = np.empty((0, 0), request.inputs.scores.dtype)

    def work(begin: int, end: int) -> None:
        for utterance in utterances[begin:end].tolist():
            occupancies = shared_logs.ArcOccupancies(
                request.needs_arcs,
                np.zeros(len(results.arc_occupancies)),
                np.zeros(len(results.final_occupancies)),
            )
            occupancy = results.occupancies[utterance] if request.needs_occupancy else nothing
            # Lanes that did not do have left theirs.
            occupancy[:] = 0.0
            results.totals[utterance] = shared_logs.sums(
                rows, weights, request.inputs, utterance, request.block(int(request.inputs.lengths[utterance])),
                request.needs_occupancy, occupancies, occupancy,
            )  # fmt: skip
            results.arc_occupancies[:, utterance] = occupancies.arcs
            results.final_occupancies[:, utterance] = occupancies.finals

    run_in_parallel(work, request.inputs.lengths[utterances] + 1)
