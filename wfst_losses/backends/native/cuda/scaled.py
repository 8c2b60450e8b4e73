"""Scaled sums of a graph that utterances share, and how it is known that they lost nothing.

Plain numbers in the scores' own precision, each frame's multiplied by a power of two. What falls below the smallest
number is 0; whether that could have counted is found out afterwards.
"""

from __future__ import annotations

import functools
import math
import os

import torch
import triton

from wfst_losses.backends.native.cuda import columns, frame_sums
from wfst_losses.backends.native.cuda.layout import Layout
from wfst_losses.backends.native.cuda.passes import Found, Passes, Readers

_LEAST_LOG2_MASS = {torch.float32: -66.0, torch.float64: -800.0}
"""A frame's mass beside the largest sum of suffixes in it; what was lost is below 2^-126 (2^-1022) for each node."""
_LARGEST_DIFFERENCE = 1e-3
"""Between the totals that the frames give, in powers of two."""


def scaled_passes(layout: Layout, readers: Readers, scores: torch.Tensor, log_sums: torch.Tensor) -> Found:
    """Sums and occupancies, and for which readers they may be wrong.

    Every frame's sum of suffixes times prefixes is the same number, the total. Where that holds, and no frame's is so
    small beside its largest sum of suffixes that what was lost could count, nothing was lost.
    """
    shape = (len(readers), readers.num_frames, scores.shape[2])
    work = _captured(layout, shape, scores.dtype, scores.device) if _captures(scores) else None
    if work is None:
        work = Work(layout, shape, scores.dtype, scores.device)
    work.read(readers, scores)
    work.run()
    masses = work.masses()
    occupancies = work.passes.sum_columns(work.passes.suffixes, masses, scores.dtype)

    is_live = torch.arange(readers.num_frames, device=scores.device)[:, None] < readers.lengths[None, :]
    behind, before = _exponents(work.passes.suffix_exponents), _exponents(work.passes.prefix_exponents)
    log2_total = torch.log2(work.starts.double()) + behind[1:].sum(0)
    # Frame t of the scores stands between sums t and t + 1.
    log2_masses = torch.log2(masses.double())
    across = log2_masses + before[:-2].cumsum(0) + behind[1:-1].flip(0).cumsum(0).flip(0) - behind[1:-1]
    is_sound = (across - log2_total).abs() < _LARGEST_DIFFERENCE
    is_sound &= log2_masses - behind[1:-1] > _LEAST_LOG2_MASS[scores.dtype]
    lost = ~((is_sound | ~is_live).all(0) & torch.isfinite(log2_total))
    shifts = work.peaks.double() - log_sums[readers.utterances.long(), : readers.num_frames].double().t()
    totals = log2_total * math.log(2.0) + torch.where(is_live, shifts, torch.zeros_like(shifts)).sum(0)
    return Found(totals, occupancies, lost)


def _exponents(exponents: torch.Tensor) -> torch.Tensor:
    """As float64, 0 for lanes that have nothing."""
    return torch.where(exponents == frame_sums.NOTHING.value, torch.zeros_like(exponents), exponents).double()


class Work:
    """The buffers of one call and the launches over them."""

    def __init__(self, layout: Layout, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        """``shape``: readers, frames and labels."""
        num_lanes, num_frames, num_labels = shape
        self.factors = torch.empty(num_frames, num_labels, num_lanes, dtype=dtype, device=device)
        self.peaks = torch.empty(num_frames, num_lanes, dtype=dtype, device=device)
        # The factors lie by lane.
        lanes = torch.arange(num_lanes, dtype=torch.int32, device=device)
        readers = Readers(lanes, torch.zeros_like(lanes), num_frames, shared=True)
        read = (self.factors, self.peaks, (1, num_labels * num_lanes, num_lanes))
        self.passes = Passes(layout, readers, read, is_log=False, dtype=dtype)
        self.starts = torch.empty(num_lanes, dtype=dtype, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def read(self, readers: Readers, scores: torch.Tensor) -> None:
        """Factors of live frames, and lengths."""
        self.passes.readers.lengths.copy_(readers.lengths)
        num_frames, num_labels, num_lanes = self.factors.shape
        if not num_frames:
            return
        lanes = min(16, triton.next_power_of_2(num_lanes))
        columns.write_factors[(num_frames, triton.cdiv(num_lanes, lanes))](
            self.factors, self.peaks, scores, readers.lengths, readers.utterances, *scores.stride(),
            num_labels, num_lanes, LANES=lanes, LABELS=64,
        )  # fmt: skip

    def run(self) -> None:
        """Both passes: launched frame by frame, or replayed."""
        if self.graph is None:
            self._launch()
        else:
            self.graph.replay()

    def capture(self) -> None:
        """Keep the launches of both passes for `run`."""
        # Once without capture: compiles the kernels and makes the buffers.
        self._launch()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._launch()
        self.graph = graph

    def _launch(self) -> None:
        self.passes.exponents.fill_(frame_sums.NOTHING.value)
        self.starts.copy_(self.passes.sum_suffixes())
        self.passes.sum_prefixes()

    def masses(self) -> torch.Tensor:
        """``(T, R)`` each frame's sum of suffixes times prefixes."""
        num_frames, num_lanes = self.peaks.shape
        masses = torch.empty_like(self.peaks)
        lanes = min(64, triton.next_power_of_2(num_lanes))
        if num_frames:
            columns.sum_frames[(num_frames, triton.cdiv(num_lanes, lanes))](
                self.passes.suffixes, masses, self.passes.layout.num_reading, num_lanes, NODES=32, LANES=lanes
            )
        return masses


def _captures(scores: torch.Tensor) -> bool:
    """Whether launches are captured: on CUDA, where ``WFST_LOSSES_CUDA_GRAPHS=1`` asks for it."""
    return scores.is_cuda and os.environ.get("WFST_LOSSES_CUDA_GRAPHS") == "1"


@functools.lru_cache(maxsize=2)
def _captured(layout: Layout, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Work:
    """Work whose launches are captured, kept with its buffers: for calls of one shape, from one thread."""
    work = Work(layout, shape, dtype, device)
    work.passes.readers.lengths.fill_(shape[1])
    work.factors.fill_(1.0)
    work.capture()
    return work
