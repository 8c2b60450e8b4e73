"""The sums of a batch of graphs: over blocks of frames where that is exact, state by state elsewhere."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native import block_sums, state_sums
from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled
from wfst_losses.compiled.rows import are_plausible

_block_sums_apply, _block_sums, _state_sums = block_sums.applies, block_sums.sums, state_sums.sums
_room_for, _LONG, _SHORT = block_sums.room_for, block_sums.LONG_BLOCK, block_sums.SHORT_BLOCK

BY_BLOCK, BY_STATE, NOT_AT_ALL = 0, 1, 2


@compiled
def _are_plausible(inputs: Inputs, utterance: int) -> bool:
    """Whether all of the utterance's rows are log-probs, or need not be."""
    num_frames, tolerance = inputs.lengths[utterance], inputs.tolerance
    return tolerance < 0.0 or are_plausible(inputs.scores[utterance], num_frames, num_frames, tolerance)


@compiled
def forward(
    begin: int,
    end: int,
    bands: Bands,
    inputs: Inputs,
    utterances: npt.NDArray[np.int64],
    needs_occupancy: bool,
    occupancies: tuple[npt.NDArray[np.int64], Scores],
    totals: npt.NDArray[np.float64],
    ways: npt.NDArray[np.int8],
) -> None:
    """Log-sums of graphs ``begin..end-1`` into ``totals``, and their occupancies where needed.

    ``ways`` tells afterwards how each graph was summed: `BY_BLOCK`, `BY_STATE`, or `NOT_AT_ALL`, where the utterance
    has a row that may be no log-probs.
    """
    begins, blocks = occupancies
    room = _room_for(bands, begin, end, inputs, utterances, needs_occupancy)
    for graph in range(begin, end):
        utterance, num_columns = utterances[graph], bands.column_splits[graph + 1] - bands.column_splits[graph]
        size = inputs.lengths[utterance] * num_columns * needs_occupancy
        block = blocks[begins[graph] : begins[graph] + size].reshape((-1, num_columns))
        total, ways[graph], applies = np.nan, BY_BLOCK, _block_sums_apply(bands, graph)
        if applies:
            total = _block_sums(bands, graph, inputs, utterance, needs_occupancy, _LONG, room, block)
        # Either these sums looked at rows on their way, or every row is looked at: a label that is read may be NaN.
        if math.isnan(total) and not _are_plausible(inputs, utterance):
            ways[graph] = NOT_AT_ALL
            continue
        if applies and math.isnan(total):
            total = _block_sums(bands, graph, inputs, utterance, needs_occupancy, _SHORT, room, block)
        if math.isnan(total):
            total, ways[graph] = _state_sums(bands, graph, inputs, utterance, needs_occupancy, block), BY_STATE
        totals[graph] = total
