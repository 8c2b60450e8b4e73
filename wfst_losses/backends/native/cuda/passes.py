"""The two passes over the frames: suffixes backwards, then prefixes forwards, and each column's occupancy."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
import triton

from wfst_losses.backends.native.cuda import columns, frame_sums, graph_sums
from wfst_losses.backends.native.cuda.layout import Layout, Rows
from wfst_losses.backends.native.cuda.tables import Tables

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
    passes = Passes(layout, readers, (scores, shifts, scores.stride()), is_log=True, dtype=torch.float64)
    if layout.tables is not None:
        totals, shares = _walk(layout, layout.tables, passes, needs_occupancies=needs_occupancies)
        occupancies = passes.sum_columns(shares, totals, scores.dtype) if needs_occupancies else None
        return Found(totals, occupancies, torch.zeros_like(totals, dtype=torch.bool))
    totals = passes.sum_suffixes()
    occupancies = None
    if needs_occupancies:
        passes.sum_prefixes()
        occupancies = passes.sum_columns(passes.suffixes, totals, scores.dtype)
    return Found(totals, occupancies, torch.zeros_like(totals, dtype=torch.bool))


def _walk(
    layout: Layout, tables: Tables, passes: Passes, *, needs_occupancies: bool
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


class Passes:
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
        self.exponents = exponents
        self.suffix_exponents, self.prefix_exponents = exponents[0], exponents[1]

    @functools.cached_property
    def suffixes(self) -> torch.Tensor:
        """Rows of the reading nodes at frames 0..T + 1, then a row for each other slot."""
        return self._buffer(self.readers.num_frames + 2, self.layout.backwards)

    @functools.cached_property
    def prefixes(self) -> torch.Tensor:
        """Rows of the reading nodes at even and at odd frames, then a row for each other slot."""
        return self._buffer(2, self.layout.forwards)

    def sum_suffixes(self) -> torch.Tensor:
        """Backwards; gives ``(R,)`` the sums over whole paths."""
        num_frames, num_reading = self.readers.num_frames, self.layout.num_reading
        beyond = slice((num_frames + 1) * num_reading, (num_frames + 2) * num_reading)
        self.suffixes[beyond] = -math.inf if self.is_log else 0.0
        buffers = (self.suffixes, self.suffix_exponents)
        self._launch(frame_sums.sum_suffixes, buffers, self.layout.backwards, range(num_frames, -1, -1))
        starts = self.layout.starts.long()
        rows = torch.where(starts < num_reading, starts, starts + (num_frames + 1) * num_reading)
        return self.suffixes[rows].reshape(-1)

    def sum_prefixes(self) -> None:
        """Forwards; turns suffixes of frames 1..T into shares."""
        buffers = (self.prefixes, self.suffixes, self.prefix_exponents)
        self._launch(frame_sums.sum_prefixes, buffers, self.layout.forwards, range(self.readers.num_frames + 1))

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
