"""Triton kernels for one stage of one frame: sums over what comes after each node, and over what came before it.

Sums live in one buffer of slots times lanes: rows of all reading nodes, then a scratch row each for virtual nodes and
parts. Where graphs are separate there is one lane; a graph that utterances share has a lane for each of them, side by
side. LOG sums are float64 logarithms. The others are scaled: plain numbers in the scores' own precision, each frame's
multiplied by a power of two taken from the largest of the frame before, so that scaling rounds nothing.

*Suffixes*: what paths from a node on come to, the emission of a reading node itself included. *Prefixes*: what paths up
to a node come to. Their product, without counting that emission twice, is the node's share.
"""

from __future__ import annotations

import triton
import triton.language as tl

NOTHING = tl.constexpr(-(2**30))
"""The exponent of a lane that has nothing but zeros."""
_VARYING = ["frame", "first_row", "last_row", "reading_row", "num_reading", "num_nodes", "num_lanes", "num_frames"]


@triton.jit
def _exponents_of(values: tl.tensor) -> tl.tensor:
    """Of normal positive numbers, `NOTHING` for the others."""
    if values.dtype == tl.float64:
        exponents = ((values.to(tl.int64, bitcast=True) >> 52) & 2047).to(tl.int32)
        return tl.where((exponents > 0) & (exponents < 2047), exponents - 1023, NOTHING)
    else:  # noqa: RET505 - compiled code has no early return
        exponents = (values.to(tl.int32, bitcast=True) >> 23) & 255
        return tl.where((exponents > 0) & (exponents < 255), exponents - 127, NOTHING)


@triton.jit
def _unscaling(exponents: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """``2^-exponent``, and 1 for `NOTHING`."""
    exponents = tl.where(exponents == NOTHING, 0, exponents)
    if DTYPE == tl.float64:
        bits = tl.maximum(1023 - exponents, 1).to(tl.int64) << 52
    else:
        bits = tl.maximum(127 - exponents, 1).to(tl.int32) << 23
    return bits.to(DTYPE, bitcast=True)


@triton.jit
def _sums_of_rows(
    values: tl.tensor,
    base: tl.tensor,
    begins: tl.tensor,
    ends: tl.tensor,
    arc_slots: tl.tensor,
    arc_weights: tl.tensor,
    lanes: tl.tensor,
    num_lanes: tl.tensor,
    reading_row: tl.tensor,
    scratch_row: tl.tensor,
    num_reading: tl.tensor,
    num_nodes: tl.tensor,
    reading_factor: tl.tensor,
    virtual_factor: tl.tensor,
    LOG: tl.constexpr,
    ARCS: tl.constexpr,
) -> tl.tensor:
    """``base + sum over arcs of weight * value``, for rows of arcs and all lanes."""
    if LOG:
        nothing = float("-inf")
        peak = base
        total = tl.where(base > nothing, 1.0, 0.0).to(base.dtype)
    else:
        nothing = 0.0
        peak = base
        total = base
    for first in range(0, tl.max(ends - begins), ARCS):
        arcs = begins[:, None] + first + tl.arange(0, ARCS)[None, :]
        is_arc = arcs < ends[:, None]
        slots = tl.load(arc_slots + arcs, mask=is_arc, other=0)
        weights = tl.load(arc_weights + arcs, mask=is_arc, other=nothing)
        is_reading = slots < num_reading
        places = (slots + tl.where(is_reading, reading_row, scratch_row)).to(tl.int64) * num_lanes
        taken = tl.load(
            values + places[:, :, None] + lanes[None, None, :],
            mask=is_arc[:, :, None] & (lanes < num_lanes)[None, None, :],
            other=nothing,
        )
        if LOG:
            terms = taken + weights[:, :, None]
            highest = tl.maximum(peak, tl.max(terms, axis=1))
            shift = tl.where(highest > nothing, highest, 0.0)
            total = total * tl.exp(peak - shift) + tl.sum(tl.exp(terms - shift[:, None, :]), axis=1)
            peak = highest
        else:
            factor = tl.where(
                is_reading[:, :, None],
                reading_factor[None, None, :],
                tl.where((slots < num_nodes)[:, :, None], virtual_factor[None, None, :], 1.0),
            )
            total += tl.sum(taken * (weights[:, :, None] * factor).to(taken.dtype), axis=1)
    if LOG:
        is_possible = total > 0.0
        total = tl.where(is_possible, peak + tl.log(tl.where(is_possible, total, 1.0)), nothing)
    return total


@triton.jit
def _emissions(
    scores: tl.tensor,
    log_sums: tl.tensor,
    utterances: tl.tensor,
    frame: tl.tensor,
    num_frames: tl.tensor,
    labels: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    is_read: tl.tensor,
    LOG: tl.constexpr,
) -> tl.tensor:
    """Of ``labels`` at ``frame``, nothing where not read: log-probs, or ready factors."""
    places = utterances.to(tl.int64) * stride_b + frame.to(tl.int64) * stride_t + labels.to(tl.int64) * stride_v
    found = tl.load(scores + places, mask=is_read, other=0.0)
    if LOG:
        shift = tl.load(log_sums + utterances.to(tl.int64) * num_frames + frame, mask=is_read, other=0.0)
        found = tl.where(is_read, found.to(tl.float64) - shift.to(tl.float64), float("-inf"))
    return found


@triton.jit(do_not_specialize=_VARYING)
def sum_suffixes(
    suffixes: tl.tensor,
    exponents: tl.tensor,
    row_slots: tl.tensor,
    row_begins: tl.tensor,
    arc_slots: tl.tensor,
    arc_weights: tl.tensor,
    labels: tl.tensor,
    slot_readers: tl.tensor,
    final_weights: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    scores: tl.tensor,
    log_sums: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    frame: tl.tensor,
    first_row: tl.tensor,
    last_row: tl.tensor,
    num_frames: tl.tensor,
    num_reading: tl.tensor,
    num_nodes: tl.tensor,
    num_lanes: tl.tensor,
    READS: tl.constexpr,  # noqa: ARG001 - it tells stages apart forwards only
    SHARED: tl.constexpr,
    LOG: tl.constexpr,
    ROWS: tl.constexpr,
    ARCS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """A stage of one frame, backwards in time. Row ``t`` of reading nodes holds the sums at frame ``t``, 0..T + 1.

    A reader is what has a length: an utterance's lane, or a graph.
    """
    rows = first_row + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_row = rows < last_row
    is_place = is_row[:, None] & (lanes < num_lanes)[None, :]
    # A tile in place of the number: a condition on the number alone would be no mask in Triton's interpreter.
    time = frame + tl.zeros([ROWS, LANES], tl.int32)
    slots = tl.load(row_slots + rows, mask=is_row, other=0)
    if SHARED:
        readers = lanes[None, :] + tl.zeros([ROWS, LANES], tl.int32)
    else:
        readers = tl.load(slot_readers + slots, mask=is_row, other=0)[:, None] + tl.zeros([ROWS, LANES], tl.int32)
    length = tl.load(lengths + readers, mask=is_place, other=-1)
    DTYPE: tl.constexpr = suffixes.dtype.element_ty
    weights = tl.load(final_weights + slots, mask=is_row, other=float("-inf") if LOG else 0.0)[:, None]
    base = tl.where(length == time, weights, float("-inf") if LOG else 0.0).to(DTYPE)
    begins = tl.load(row_begins + rows, mask=is_row, other=0)
    ends = tl.load(row_begins + rows + 1, mask=is_row, other=0)
    is_live = tl.max((length >= time).to(tl.int32), axis=1) > 0
    after = tl.load(exponents + (frame + 1) * num_lanes + lanes, mask=lanes < num_lanes, other=NOTHING)
    factor = _unscaling(after, DTYPE)
    scratch_row = (num_frames.to(tl.int64) + 1) * num_reading
    sums = _sums_of_rows(
        suffixes,
        base,
        begins,
        tl.where(is_live, ends, begins),
        arc_slots,
        arc_weights,
        lanes,
        num_lanes,
        (frame.to(tl.int64) + 1) * num_reading,
        scratch_row,
        num_reading,
        num_nodes,
        factor,
        tl.full([LANES], 1.0, DTYPE),
        LOG,
        ARCS,
    )
    is_reading = (slots < num_reading)[:, None] & is_place
    is_read = is_reading & (length >= time) & (time > 0)
    label = tl.load(labels + slots, mask=is_row & (slots < num_reading), other=0)[:, None]
    utterance = tl.load(utterances + readers, mask=is_place, other=0)
    emission = _emissions(
        scores, log_sums, utterance, frame - 1, num_frames, label, stride_b, stride_t, stride_v, is_read, LOG
    )
    entered = sums + emission if LOG else sums * emission
    sums = tl.where(is_reading & (time > 0), entered.to(DTYPE), sums)
    places = (slots + tl.where(slots < num_reading, frame.to(tl.int64) * num_reading, scratch_row)) * num_lanes
    tl.store(suffixes + places[:, None] + lanes[None, :], sums, mask=is_place)
    if not LOG:
        highest = tl.max(tl.where(is_reading, _exponents_of(sums), NOTHING), axis=0)
        tl.atomic_max(exponents + frame * num_lanes + lanes, highest, mask=highest > NOTHING)


@triton.jit(do_not_specialize=_VARYING)
def sum_prefixes(
    prefixes: tl.tensor,
    shares: tl.tensor,
    exponents: tl.tensor,
    row_slots: tl.tensor,
    row_begins: tl.tensor,
    arc_slots: tl.tensor,
    arc_weights: tl.tensor,
    labels: tl.tensor,
    slot_readers: tl.tensor,
    start_weights: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    scores: tl.tensor,
    log_sums: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    frame: tl.tensor,
    first_row: tl.tensor,
    last_row: tl.tensor,
    num_frames: tl.tensor,
    num_reading: tl.tensor,
    num_nodes: tl.tensor,
    num_lanes: tl.tensor,
    READS: tl.constexpr,
    SHARED: tl.constexpr,
    LOG: tl.constexpr,
    ROWS: tl.constexpr,
    ARCS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """A stage of one frame, forwards in time; of reading nodes the last two frames are kept, in turn.

    ``shares`` holds suffixes of reading nodes and is turned, in place, into their products with the prefixes.
    """
    rows = first_row + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lanes = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_row = rows < last_row
    is_place = is_row[:, None] & (lanes < num_lanes)[None, :]
    # A tile in place of the number: a condition on the number alone would be no mask in Triton's interpreter.
    time = frame + tl.zeros([ROWS, LANES], tl.int32)
    slots = tl.load(row_slots + rows, mask=is_row, other=0)
    if SHARED:
        readers = lanes[None, :] + tl.zeros([ROWS, LANES], tl.int32)
    else:
        readers = tl.load(slot_readers + slots, mask=is_row, other=0)[:, None] + tl.zeros([ROWS, LANES], tl.int32)
    length = tl.load(lengths + readers, mask=is_place, other=-1)
    DTYPE: tl.constexpr = prefixes.dtype.element_ty
    weights = tl.load(start_weights + slots, mask=is_row, other=float("-inf") if LOG else 0.0)[:, None]
    base = tl.where((time == 0) & is_place, weights, float("-inf") if LOG else 0.0).to(DTYPE)
    begins = tl.load(row_begins + rows, mask=is_row, other=0)
    ends = tl.load(row_begins + rows + 1, mask=is_row, other=0)
    one = tl.full([LANES], 1.0, DTYPE)
    if READS:
        is_live = tl.max(((length >= time) & (time > 0)).to(tl.int32), axis=1) > 0
        before = tl.maximum(frame - 1, 0)
        factor = _unscaling(
            tl.load(exponents + before * num_lanes + lanes, mask=lanes < num_lanes, other=NOTHING), DTYPE
        )
    else:
        is_live = tl.max((length >= time).to(tl.int32), axis=1) > 0
        before = frame
        factor = one
    scratch_row = num_reading
    sums = _sums_of_rows(
        prefixes,
        base,
        begins,
        tl.where(is_live, ends, begins),
        arc_slots,
        arc_weights,
        lanes,
        num_lanes,
        (before % 2) * num_reading,
        scratch_row,
        num_reading,
        num_nodes,
        factor,
        factor,
        LOG,
        ARCS,
    )
    if READS:
        is_reading = (slots < num_reading)[:, None] & is_place & (time > 0)
        is_read = is_reading & (length >= time)
        history = (frame.to(tl.int64) * num_reading + slots)[:, None] * num_lanes + lanes[None, :]
        share = tl.load(shares + history, mask=is_reading, other=float("-inf") if LOG else 0.0)
        tl.store(shares + history, share + sums if LOG else share * sums, mask=is_reading)
        label = tl.load(labels + slots, mask=is_row & (slots < num_reading), other=0)[:, None]
        utterance = tl.load(utterances + readers, mask=is_place, other=0)
        emission = _emissions(
            scores, log_sums, utterance, frame - 1, num_frames, label, stride_b, stride_t, stride_v, is_read, LOG
        )
        entered = sums + emission if LOG else sums * emission
        sums = tl.where(is_reading, entered.to(DTYPE), sums)
    places = (slots + tl.where(slots < num_reading, (frame % 2) * num_reading, scratch_row)).to(tl.int64) * num_lanes
    tl.store(prefixes + places[:, None] + lanes[None, :], sums, mask=is_place)
    if READS and not LOG:
        is_summed = (slots < num_reading)[:, None] & is_place
        highest = tl.max(tl.where(is_summed, _exponents_of(sums), NOTHING), axis=0)
        tl.atomic_max(exponents + frame * num_lanes + lanes, highest, mask=highest > NOTHING)
