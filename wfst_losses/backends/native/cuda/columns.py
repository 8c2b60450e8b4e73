"""Triton kernels between scores and nodes: factors of a frame, shares summed by column, rows of the gradient."""

from __future__ import annotations

import triton
import triton.language as tl

_VARYING = ["num_frames", "num_labels", "num_reading", "num_lanes", "num_columns", "rank"]


@triton.jit(do_not_specialize=_VARYING)
def write_factors(
    factors: tl.tensor,
    peaks: tl.tensor,
    scores: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    num_labels: tl.tensor,
    num_lanes: tl.tensor,
    LANES: tl.constexpr,
    LABELS: tl.constexpr,
) -> None:
    """``factors[t, v, lane] = e^(score - peak)``, ``peaks[t, lane]`` the row's maximum; 0 where no frame is live."""
    frame = tl.program_id(0)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_lane = lanes < num_lanes
    is_live = is_lane & (tl.load(lengths + lanes, mask=is_lane, other=0) > frame)
    rows = tl.load(utterances + lanes, mask=is_lane, other=0).to(tl.int64) * stride_b + frame.to(tl.int64) * stride_t
    highest = tl.full([LANES, LABELS], float("-inf"), factors.dtype.element_ty)
    for first in range(0, num_labels, LABELS):
        labels = first + tl.arange(0, LABELS)
        is_read = is_live[:, None] & (labels < num_labels)[None, :]
        places = rows[:, None] + labels.to(tl.int64)[None, :] * stride_v
        highest = tl.maximum(highest, tl.load(scores + places, mask=is_read, other=float("-inf")))
    peak = tl.max(highest, axis=1)
    # A row may be all -inf: its factors are 0 then.
    peak = tl.where(peak > float("-inf"), peak, 0.0).to(factors.dtype.element_ty)
    tl.store(peaks + frame * num_lanes + lanes, peak, mask=is_lane)
    for first in range(0, num_labels, LABELS):
        labels = first + tl.arange(0, LABELS)
        is_read = is_live[:, None] & (labels < num_labels)[None, :]
        places = rows[:, None] + labels.to(tl.int64)[None, :] * stride_v
        values = tl.exp(tl.load(scores + places, mask=is_read, other=float("-inf")) - peak[:, None])
        written = (frame.to(tl.int64) * num_labels + labels)[None, :] * num_lanes + lanes[:, None]
        tl.store(factors + written, values, mask=is_lane[:, None] & (labels < num_labels)[None, :])


@triton.jit(do_not_specialize=_VARYING)
def sum_frames(
    shares: tl.tensor,
    masses: tl.tensor,
    num_reading: tl.tensor,
    num_lanes: tl.tensor,
    NODES: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """``masses[t, lane]``, the sum over all nodes of the scaled shares of frame ``t``, 1..T."""
    frame = tl.program_id(0)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_lane = lanes < num_lanes
    row = (frame.to(tl.int64) + 1) * num_reading
    total = tl.zeros([LANES], shares.dtype.element_ty)
    for first in range(0, num_reading, NODES):
        nodes = first + tl.arange(0, NODES)
        places = (row + nodes)[:, None] * num_lanes + lanes[None, :]
        is_node = (nodes < num_reading)[:, None] & is_lane[None, :]
        total += tl.sum(tl.load(shares + places, mask=is_node, other=0.0), axis=0)
    tl.store(masses + frame * num_lanes + lanes, total, mask=is_lane)


@triton.jit(do_not_specialize=_VARYING)
def sum_columns(
    shares: tl.tensor,
    norms: tl.tensor,
    occupancies: tl.tensor,
    column_begins: tl.tensor,
    column_readers: tl.tensor,
    lengths: tl.tensor,
    num_reading: tl.tensor,
    num_lanes: tl.tensor,
    num_columns: tl.tensor,
    SHARED: tl.constexpr,
    LOG: tl.constexpr,
    COLUMNS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """``occupancies[t, column, lane]``: the column's nodes are neighbours, so each sum is one walk over them.

    ``norms`` are the masses of the frames, or with LOG the log-sums of the readers.
    """
    # Frames times blocks of columns in one axis: the others are short.
    num_blocks = tl.cdiv(num_columns, COLUMNS)
    frame = tl.program_id(0) // num_blocks
    columns = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_column = columns < num_columns
    is_place = is_column[:, None] & (lanes < num_lanes)[None, :]
    if SHARED:
        readers = lanes[None, :] + tl.zeros([COLUMNS, LANES], tl.int32)
    else:
        readers = tl.load(column_readers + columns, mask=is_column, other=0)[:, None]
        readers = readers + tl.zeros([COLUMNS, LANES], tl.int32)
    is_live = is_place & (tl.load(lengths + readers, mask=is_place, other=0) > frame)
    if LOG:
        norm = tl.load(norms + readers, mask=is_place, other=0.0)
        is_live = is_live & (norm > float("-inf"))
    else:
        norm = tl.load(norms + frame * num_lanes + readers, mask=is_place, other=1.0)
    begins = tl.load(column_begins + columns, mask=is_column, other=0)
    ends = tl.load(column_begins + columns + 1, mask=is_column, other=0)
    row = (frame.to(tl.int64) + 1) * num_reading
    total = tl.zeros([COLUMNS, LANES], shares.dtype.element_ty)
    for step in range(0, tl.max(ends - begins)):
        places = (row + begins + step)[:, None] * num_lanes + lanes[None, :]
        is_node = is_live & (begins + step < ends)[:, None]
        if LOG:
            share = tl.load(shares + places, mask=is_node, other=float("-inf"))
            total += tl.where(is_node, tl.exp(share - norm), 0.0)
        else:
            total += tl.load(shares + places, mask=is_node, other=0.0)
    if not LOG:
        total = tl.where(is_live, total / norm, 0.0)
    places = (frame.to(tl.int64) * num_columns + columns)[:, None] * num_lanes + lanes[None, :]
    tl.store(occupancies + places, total.to(occupancies.dtype.element_ty), mask=is_place)


@triton.jit(do_not_specialize=_VARYING)
def write_softmax(
    gradient: tl.tensor,
    scores: tl.tensor,
    log_sums: tl.tensor,
    lengths: tl.tensor,
    coefficients: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    num_frames: tl.tensor,
    num_labels: tl.tensor,
    IS_LOGITS: tl.constexpr,
    LABELS: tl.constexpr,
) -> None:
    """``gradient[b, t] = -coefficient_b * softmax``, where scores are logits and the frame is live; else 0."""
    utterance, frame = tl.program_id(0) // num_frames, tl.program_id(0) % num_frames
    labels = tl.program_id(1) * LABELS + tl.arange(0, LABELS)
    is_label = labels < num_labels
    values = tl.zeros([LABELS], gradient.dtype.element_ty)
    if IS_LOGITS:
        # Tiles in place of numbers: conditions on numbers alone would be no mask in Triton's interpreter.
        readers = utterance + tl.zeros([LABELS], tl.int32)
        coefficient = tl.load(coefficients + readers)
        is_live = is_label & (tl.load(lengths + readers) > frame) & (coefficient != 0.0)
        places = utterance.to(tl.int64) * stride_b + frame.to(tl.int64) * stride_t + labels.to(tl.int64) * stride_v
        score = tl.load(scores + places, mask=is_live, other=float("-inf"))
        values = -coefficient * tl.exp(score - tl.load(log_sums + utterance.to(tl.int64) * num_frames + frame))
        values = tl.where(is_live, values, 0.0)
    written = (utterance.to(tl.int64) * num_frames + frame) * num_labels + labels
    tl.store(gradient + written, values.to(gradient.dtype.element_ty), mask=is_label)


@triton.jit(do_not_specialize=_VARYING)
def add_occupancies(
    gradient: tl.tensor,
    occupancies: tl.tensor,
    column_labels: tl.tensor,
    column_readers: tl.tensor,
    reader_ranks: tl.tensor,
    coefficients: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    rank: tl.tensor,
    num_frames: tl.tensor,
    num_labels: tl.tensor,
    num_lanes: tl.tensor,
    num_columns: tl.tensor,
    SHARED: tl.constexpr,
    COLUMNS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Add ``coefficient * occupancy`` of the readers of one rank: no two of them read the same utterance."""
    # Frames times blocks of columns in one axis: the others are short.
    num_blocks = tl.cdiv(num_columns, COLUMNS)
    frame = tl.program_id(0) // num_blocks
    columns = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_column = columns < num_columns
    is_place = is_column[:, None] & (lanes < num_lanes)[None, :]
    if SHARED:
        readers = lanes[None, :] + tl.zeros([COLUMNS, LANES], tl.int32)
    else:
        readers = tl.load(column_readers + columns, mask=is_column, other=0)[:, None]
        readers = readers + tl.zeros([COLUMNS, LANES], tl.int32)
    coefficient = tl.load(coefficients + readers, mask=is_place, other=0.0)
    is_added = is_place & (tl.load(lengths + readers, mask=is_place, other=0) > frame) & (coefficient != 0.0)
    is_added = is_added & (tl.load(reader_ranks + readers, mask=is_place, other=-1) == rank)
    places = (frame.to(tl.int64) * num_columns + columns)[:, None] * num_lanes + lanes[None, :]
    occupancy = tl.load(occupancies + places, mask=is_added, other=0.0)
    utterance = tl.load(utterances + readers, mask=is_added, other=0).to(tl.int64)
    label = tl.load(column_labels + columns, mask=is_column, other=0)[:, None]
    written = (utterance * num_frames + frame) * num_labels + label
    before = tl.load(gradient + written, mask=is_added, other=0.0)
    tl.store(gradient + written, before + (coefficient * occupancy).to(before.dtype), mask=is_added)
