"""The two passes over the frames: suffixes backwards, then prefixes forwards, and each column's occupancy."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import triton

from wfst_losses.backends.native.cuda import columns, frame_sums, graph_sums
from wfst_losses.backends.native.cuda.layout import Layout, Rows
from wfst_losses.backends.native.cuda.tables import Tables

_LN_2 = math.log(2.0)
SHARED_ROWS = 1
"""Rows of a shared graph per program: the lanes fill it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Readers:
    """Who reads: the graphs of a batch, or the utterances that share one graph.

    Attributes:
        utterances: ``(R,)`` int32 which of the emissions.
        lengths: ``(R,)`` int32 frames.
        num_frames: the longest length.
        shared: whether they share one graph.
    """

    utterances: torch.Tensor
    lengths: torch.Tensor
    num_frames: int
    shared: bool

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def num_lanes(self) -> int:
        """Sums that lie side by side."""
        return len(self) if self.shared else 1


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What the passes give.

    Attributes:
        totals: ``(R,)`` float64, log-sums.
        occupancies: ``(T, columns, lanes)``, ``None`` where not asked for.
        lost: ``(R,)`` bool, where scaled sums may have lost paths.
    """

    totals: torch.Tensor
    occupancies: torch.Tensor | None
    lost: torch.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class _Tiles:
    """The shape of one program's work."""

    rows: int
    arcs: int
    lanes: int

    @classmethod
    def of(cls, readers: Readers, rows: Rows) -> _Tiles:
        if not readers.shared:
            return cls(rows=64, arcs=4, lanes=1)
        lanes = min(64, triton.next_power_of_2(readers.num_lanes))
        mean = len(rows.arc_slots) / max(1, len(rows.slots))
        return cls(rows=SHARED_ROWS, arcs=min(16, max(2, triton.next_power_of_2(math.ceil(mean)))), lanes=lanes)


def log_passes(
    layout: Layout,
    readers: Readers,
    scores: torch.Tensor,
    log_sums: torch.Tensor,
    *,
    needs_occupancies: bool,
) -> Found:
    """Log-sums in float64, exact for any graph and any scores."""
    shifts = log_sums[:, : readers.num_frames].contiguous()
    passes = _Passes(layout, readers, (scores, shifts, scores.stride()), is_log=True, dtype=torch.float64)
    if layout.tables is not None:
        totals, shares = _walk(layout, layout.tables, passes, needs_occupancies=needs_occupancies)
        occupancies = passes.sum_columns(shares, totals, scores.dtype) if needs_occupancies else None
        return Found(totals, occupancies, torch.zeros_like(totals, dtype=torch.bool))
    suffixes = passes.sum_suffixes()
    totals = passes.read_starts(suffixes)
    occupancies = None
    if needs_occupancies:
        passes.sum_prefixes(suffixes)
        occupancies = passes.sum_columns(suffixes, totals, scores.dtype)
    return Found(totals, occupancies, torch.zeros_like(totals, dtype=torch.bool))


def _walk(
    layout: Layout, tables: Tables, passes: _Passes, *, needs_occupancies: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Totals and shares of small graphs, one launch for each direction."""
    readers, sizes = passes.readers, (layout.num_reading, tables.num_levels, passes.readers.num_frames)
    # Rows beyond a graph's own length are neither written nor read.
    shares = torch.empty(readers.num_frames + 1, layout.num_reading, dtype=torch.float64, device=passes.device)
    totals = torch.empty(len(readers), dtype=torch.float64, device=passes.device)
    splits, nodes = (tables.reading_splits, tables.virtual_splits), (layout.labels, tables.levels)
    for table in (tables.backwards, tables.forwards)[: 2 if needs_occupancies else 1]:
        arcs, num_warps = (table.arc_nodes, table.arc_scores), min(8, max(1, tables.size * table.width // 256))
        tile: dict[str, int] = {"NODES": tables.size, "ARCS": table.width, "num_warps": num_warps}
        if table is tables.backwards:
            graph_sums.sum_suffixes_of_graphs[(len(readers),)](
                shares, totals, *splits, *arcs, *nodes, tables.final_scores, tables.start_scores,
                *passes.read, *sizes, **tile,
            )  # fmt: skip
        else:
            graph_sums.sum_prefixes_of_graphs[(len(readers),)](
                shares, *splits, *arcs, *nodes, tables.start_scores, *passes.read, *sizes, **tile
            )
    return totals, shares


def scaled_passes(
    layout: Layout, readers: Readers, scores: torch.Tensor, log_sums: torch.Tensor
) -> Found:
    """Scaled sums in the scores' own precision, for a graph that readers share; tells which readers need `log_passes`.

    Every frame's sum of suffixes times prefixes is the same number, the total. Where that holds, and no sum is so small
    beside the largest of its frame that what lies below the smallest number could count, nothing was lost.
    """
    num_frames, num_labels, num_lanes = readers.num_frames, scores.shape[2], readers.num_lanes
    dtype, device = scores.dtype, scores.device
    factors = torch.empty(num_frames, num_labels, num_lanes, dtype=dtype, device=device)
    peaks = torch.empty(num_frames, num_lanes, dtype=dtype, device=device)
    tile = min(16, triton.next_power_of_2(num_lanes))
    if num_frames:
        columns.write_factors[(num_frames, triton.cdiv(num_lanes, tile))](
            factors, peaks, scores, readers.lengths, readers.utterances, *scores.stride(),
            num_frames, num_labels, num_lanes, LANES=tile, LABELS=64,
        )  # fmt: skip
    strides = (1, num_labels * num_lanes, num_lanes)
    passes = _Passes(layout, readers, (factors, peaks, strides), is_log=False, dtype=dtype)
    suffixes = passes.sum_suffixes()
    behind = _exponents(passes.suffix_exponents)
    starts = passes.read_starts(suffixes).double()
    passes.sum_prefixes(suffixes)
    before = _exponents(passes.prefix_exponents)
    masses = torch.empty(num_frames, num_lanes, dtype=dtype, device=device)
    if num_frames:
        lanes = min(64, triton.next_power_of_2(num_lanes))
        columns.sum_frames[(num_frames, triton.cdiv(num_lanes, lanes))](
            suffixes, masses, layout.num_reading, num_lanes, NODES=32, LANES=lanes
        )
    occupancies = passes.sum_columns(suffixes, masses, dtype)

    is_live = torch.arange(num_frames, device=device)[:, None] < readers.lengths[None, :]
    log2_total = torch.log2(starts) + behind[1:].sum(0)
    # Frame t + 1 of the sums stands behind frame t of the scores.
    log2_masses = torch.log2(masses.double())
    across = log2_masses + before[:-2].cumsum(0) + behind[1:-1].flip(0).cumsum(0).flip(0) - behind[1:-1]
    tiny = -66.0 if dtype == torch.float32 else -800.0
    is_sound = ((across - log2_total).abs() < 1e-3) & (log2_masses - behind[1:-1] > tiny)
    lost = ~((is_sound | ~is_live).all(0) & torch.isfinite(log2_total))
    live_peaks = torch.where(is_live, peaks, torch.zeros_like(peaks)).double()
    shifts = torch.where(is_live, _rows_of(log_sums, readers, num_frames), torch.zeros_like(live_peaks))
    totals = log2_total * _LN_2 + (live_peaks - shifts).sum(0)
    return Found(totals, occupancies, lost)


def _rows_of(log_sums: torch.Tensor, readers: Readers, num_frames: int) -> torch.Tensor:
    """``(T, R)`` float64: what to subtract from each row a reader reads."""
    return log_sums[readers.utterances.long(), :num_frames].double().t()


def _exponents(exponents: torch.Tensor) -> torch.Tensor:
    """As float64, 0 for lanes that have nothing."""
    return torch.where(exponents == frame_sums.NOTHING.value, torch.zeros_like(exponents), exponents).double()


class _Passes:
    """What the launches of one call share."""

    def __init__(
        self,
        layout: Layout,
        readers: Readers,
        read: tuple[torch.Tensor, torch.Tensor, tuple[int, ...]],
        *,
        is_log: bool,
        dtype: torch.dtype,
    ) -> None:
        """``read``: scores or factors, what to subtract from their rows, and their strides."""
        self.layout, self.readers, self.is_log, self.dtype = layout, readers, is_log, dtype
        scores, shifts, strides = read
        self.device = scores.device
        self.read = (readers.lengths, readers.utterances, scores, shifts, *strides)
        exponents = torch.full(
            (2, readers.num_frames + 2, readers.num_lanes), frame_sums.NOTHING.value, dtype=torch.int32,
            device=self.device,
        )  # fmt: skip
        self.suffix_exponents, self.prefix_exponents = exponents[0], exponents[1]

    def sum_suffixes(self) -> torch.Tensor:
        """Backwards: rows of the reading nodes at frames 0..T + 1, then a row for each other slot."""
        rows, num_frames = self.layout.backwards, self.readers.num_frames
        suffixes = self._buffer(num_frames + 2, rows)
        num_reading = self.layout.num_reading
        suffixes[(num_frames + 1) * num_reading : (num_frames + 2) * num_reading] = -math.inf if self.is_log else 0.0
        frames = range(num_frames, -1, -1)
        self._launch(frame_sums.sum_suffixes, (suffixes, self.suffix_exponents), rows, frames)
        return suffixes

    def read_starts(self, suffixes: torch.Tensor) -> torch.Tensor:
        """``(R,)`` the sums over whole paths."""
        starts, num_reading = self.layout.starts.long(), self.layout.num_reading
        shifted = starts + (self.readers.num_frames + 1) * num_reading
        return suffixes[torch.where(starts < num_reading, starts, shifted)].reshape(-1)

    def sum_prefixes(self, suffixes: torch.Tensor) -> None:
        """Forwards; turns suffixes of frames 1..T into shares."""
        rows = self.layout.forwards
        buffers = (self._buffer(2, rows), suffixes, self.prefix_exponents)
        self._launch(frame_sums.sum_prefixes, buffers, rows, range(self.readers.num_frames + 1))

    def sum_columns(self, shares: torch.Tensor, norms: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """``(T, columns, lanes)`` occupancies."""
        layout, readers = self.layout, self.readers
        shape = (readers.num_frames, layout.num_columns, readers.num_lanes)
        occupancies = torch.empty(shape, dtype=dtype, device=self.device)
        grid, tiles = column_grid(layout, readers)
        if occupancies.numel():
            columns.sum_columns[grid](
                shares, norms, occupancies, layout.column_begins, layout.column_graphs, readers.lengths,
                layout.num_reading, readers.num_lanes, layout.num_columns,
                SHARED=readers.shared, LOG=self.is_log, **tiles,
            )  # fmt: skip
        return occupancies

    def _buffer(self, num_rows: int, rows: Rows) -> torch.Tensor:
        num_reading = self.layout.num_reading
        num_slots = num_rows * num_reading + rows.num_slots - num_reading
        return torch.empty(num_slots, self.readers.num_lanes, dtype=self.dtype, device=self.device)

    def _weights(self, scores: torch.Tensor) -> torch.Tensor:
        return scores if self.is_log else scores.exp().to(self.dtype)

    def _launch(self, kernel: Any, buffers: tuple[torch.Tensor, ...], rows: Rows, frames: range) -> None:
        layout, readers, tiles = self.layout, self.readers, _Tiles.of(self.readers, rows)
        arcs = (rows.slots, rows.begins, rows.arc_slots, self._weights(rows.arc_scores))
        given = (*buffers, *arcs, layout.labels, rows.slot_readers, self._weights(rows.base_scores), *self.read)
        sizes = (readers.num_frames, layout.num_reading, layout.num_nodes, readers.num_lanes)
        lane_blocks = triton.cdiv(readers.num_lanes, tiles.lanes)
        for frame in frames:
            for stage in rows.stages:
                grid = (triton.cdiv(stage.last - stage.first, tiles.rows), lane_blocks)
                kernel[grid](
                    *given, frame, stage.first, stage.last, *sizes,
                    READS=stage.reads, SHARED=readers.shared, LOG=self.is_log,
                    ROWS=tiles.rows, ARCS=tiles.arcs, LANES=tiles.lanes,
                )  # fmt: skip


def column_grid(layout: Layout, readers: Readers) -> tuple[tuple[int, int], dict[str, int]]:
    """The launch over all frames, columns and lanes."""
    num_lanes = readers.num_lanes
    lanes = min(32, triton.next_power_of_2(num_lanes))
    width = 32 if readers.shared else 128
    blocks = readers.num_frames * triton.cdiv(layout.num_columns, width)
    return (blocks, triton.cdiv(num_lanes, lanes)), {"COLUMNS": width, "LANES": lanes}
