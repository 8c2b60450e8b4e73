"""Triton kernels for small graphs: one program per graph walks over all its frames.

A graph's sums, one per node, stay in registers; each step gathers from the sums of the step before, which are values
and not memory, so that nothing has to be waited for. Sums are float64 logarithms.
"""

from __future__ import annotations

import triton
import triton.language as tl

_VARYING = ["num_reading", "num_levels", "num_frames"]


@triton.jit
def _slots(
    nodes: tl.tensor,
    graph: tl.tensor,
    reading_splits: tl.tensor,
    virtual_splits: tl.tensor,
    num_reading: tl.tensor,
) -> tl.tensor:
    """Where the graph's own nodes stand among all: those that read first; -1 beyond the last."""
    first, last = tl.load(reading_splits + graph), tl.load(reading_splits + graph + 1)
    first_virtual, last_virtual = tl.load(virtual_splits + graph), tl.load(virtual_splits + graph + 1)
    virtual = nodes - (last - first)
    slots = tl.where(virtual < 0, first + nodes, num_reading + first_virtual + virtual)
    return tl.where(virtual < last_virtual - first_virtual, slots, -1)


@triton.jit
def _sums_of_nodes(
    values: tl.tensor,
    taken: tl.tensor,
    weights: tl.tensor,
    base: tl.tensor,
    NODES: tl.constexpr,
    ARCS: tl.constexpr,
) -> tl.tensor:
    """For each node the log-sum of ``base`` and of what its arcs take."""
    terms = tl.reshape(tl.gather(values, taken, 0) + weights, [NODES, ARCS])
    highest = tl.maximum(tl.max(terms, axis=1), base)
    shift = tl.where(highest > float("-inf"), highest, 0.0)
    total = tl.sum(tl.exp(terms - shift[:, None]), axis=1) + tl.exp(base - shift)
    is_possible = total > 0.0
    return tl.where(is_possible, shift + tl.log(tl.where(is_possible, total, 1.0)), float("-inf"))


@triton.jit(do_not_specialize=_VARYING)
def sum_suffixes_of_graphs(
    suffixes: tl.tensor,
    totals: tl.tensor,
    reading_splits: tl.tensor,
    virtual_splits: tl.tensor,
    arc_nodes: tl.tensor,
    arc_scores: tl.tensor,
    labels: tl.tensor,
    levels: tl.tensor,
    final_scores: tl.tensor,
    start_scores: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    scores: tl.tensor,
    log_sums: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    num_reading: tl.tensor,
    num_levels: tl.tensor,
    num_frames: tl.tensor,
    NODES: tl.constexpr,
    ARCS: tl.constexpr,
) -> None:
    """``suffixes[t, node]`` of nodes that read, for t = 0..length of the node's graph, and the graph's total."""
    graph = tl.program_id(0)
    slots = _slots(tl.arange(0, NODES), graph, reading_splits, virtual_splits, num_reading)
    is_node = slots >= 0
    is_reading = is_node & (slots < num_reading)
    arcs = tl.arange(0, NODES * ARCS)
    arc_slots = _slots(arcs // ARCS, graph, reading_splits, virtual_splits, num_reading)
    taken = tl.load(arc_nodes + arc_slots * ARCS + arcs % ARCS, mask=arc_slots >= 0, other=0)
    weights = tl.load(arc_scores + arc_slots * ARCS + arcs % ARCS, mask=arc_slots >= 0, other=float("-inf"))
    level = tl.load(levels + slots, mask=is_node, other=-1)
    final = tl.load(final_scores + slots, mask=is_node, other=float("-inf"))
    start = tl.load(start_scores + slots, mask=is_node, other=float("-inf"))
    label = tl.load(labels + slots, mask=is_reading, other=0).to(tl.int64)
    length, utterance = tl.load(lengths + graph), tl.load(utterances + graph).to(tl.int64)
    read = scores + utterance * stride_b + label * stride_v
    shifts = log_sums + utterance * num_frames + tl.zeros([NODES], tl.int32)
    values = tl.full([NODES], float("-inf"), tl.float64)
    for step in range(0, length + 1):
        time = length - step + tl.zeros([NODES], tl.int32)
        base = tl.where(time == length, final, float("-inf"))
        # Nodes that read hold the sums of the frame after until the last stage, which is theirs.
        for stage in range(0, num_levels):
            sums = _sums_of_nodes(values, taken, weights, base, NODES, ARCS)
            values = tl.where(level == num_levels - 1 - stage, sums, values)
        is_entered = is_reading & (time > 0)
        before = time.to(tl.int64) - 1
        emission = tl.load(read + before * stride_t, mask=is_entered, other=0.0).to(tl.float64)
        emission -= tl.load(shifts + before, mask=is_entered, other=0.0).to(tl.float64)
        values = tl.where(is_entered, values + emission, values)
        tl.store(suffixes + time.to(tl.int64) * num_reading + slots, values, mask=is_reading)
    tl.store(totals + graph, tl.max(values + start, axis=0))


@triton.jit(do_not_specialize=_VARYING)
def sum_prefixes_of_graphs(
    shares: tl.tensor,
    reading_splits: tl.tensor,
    virtual_splits: tl.tensor,
    arc_nodes: tl.tensor,
    arc_scores: tl.tensor,
    labels: tl.tensor,
    levels: tl.tensor,
    start_scores: tl.tensor,
    lengths: tl.tensor,
    utterances: tl.tensor,
    scores: tl.tensor,
    log_sums: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    num_reading: tl.tensor,
    num_levels: tl.tensor,
    num_frames: tl.tensor,
    NODES: tl.constexpr,
    ARCS: tl.constexpr,
) -> None:
    """Turns suffixes of frames 1..length, in place, into their products with the prefixes."""
    graph = tl.program_id(0)
    slots = _slots(tl.arange(0, NODES), graph, reading_splits, virtual_splits, num_reading)
    is_node = slots >= 0
    is_reading = is_node & (slots < num_reading)
    arcs = tl.arange(0, NODES * ARCS)
    arc_slots = _slots(arcs // ARCS, graph, reading_splits, virtual_splits, num_reading)
    taken = tl.load(arc_nodes + arc_slots * ARCS + arcs % ARCS, mask=arc_slots >= 0, other=0)
    weights = tl.load(arc_scores + arc_slots * ARCS + arcs % ARCS, mask=arc_slots >= 0, other=float("-inf"))
    level = tl.load(levels + slots, mask=is_node, other=-1)
    start = tl.load(start_scores + slots, mask=is_node, other=float("-inf"))
    label = tl.load(labels + slots, mask=is_reading, other=0).to(tl.int64)
    length, utterance = tl.load(lengths + graph), tl.load(utterances + graph).to(tl.int64)
    read = scores + utterance * stride_b + label * stride_v
    shifts = log_sums + utterance * num_frames + tl.zeros([NODES], tl.int32)
    values = tl.full([NODES], float("-inf"), tl.float64)
    for step in range(0, length + 1):
        time = step + tl.zeros([NODES], tl.int32)
        base = tl.where(time == 0, start, float("-inf"))
        is_entered = is_reading & (time > 0)
        history = shares + time.to(tl.int64) * num_reading + slots
        before = time.to(tl.int64) - 1
        share = tl.load(history, mask=is_entered, other=float("-inf"))
        emission = tl.load(read + before * stride_t, mask=is_entered, other=0.0).to(tl.float64)
        emission -= tl.load(shifts + before, mask=is_entered, other=0.0).to(tl.float64)
        sums = _sums_of_nodes(values, taken, weights, base, NODES, ARCS)
        tl.store(history, share + sums, mask=is_entered)
        values = tl.where(is_reading, tl.where(is_entered, sums + emission, sums), values)
        for stage in range(1, num_levels):
            sums = _sums_of_nodes(values, taken, weights, base, NODES, ARCS)
            values = tl.where(level == stage, sums, values)
