"""The sums of a batch of graphs: over blocks of frames where that is exact, state by state elsewhere."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native import block_sums, state_sums
from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled

_block_sums_apply, _block_sums, _state_sums = block_sums.applies, block_sums.sums, state_sums.sums
_room_for, _LONG, _SHORT = block_sums.room_for, block_sums.LONG_BLOCK, block_sums.SHORT_BLOCK


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
    by_state: npt.NDArray[np.bool_],
) -> None:
    """Log-sums of graphs ``begin..end-1`` into ``totals``, and their occupancies where needed.

    ``by_state`` tells afterwards which graphs had to be summed state by state.
    """
    begins, blocks = occupancies
    room = _room_for(bands, begin, end, inputs, utterances, needs_occupancy)
    for graph in range(begin, end):
        num_columns = bands.column_splits[graph + 1] - bands.column_splits[graph]
        size = inputs.lengths[utterances[graph]] * num_columns * needs_occupancy
        block = blocks[begins[graph] : begins[graph] + size].reshape((-1, num_columns))
        total = np.nan
        if _block_sums_apply(bands, graph):
            total = _block_sums(bands, graph, inputs, utterances[graph], needs_occupancy, _LONG, room, block)
            if math.isnan(total):
                total = _block_sums(bands, graph, inputs, utterances[graph], needs_occupancy, _SHORT, room, block)
        by_state[graph] = math.isnan(total)
        if by_state[graph]:
            total = _state_sums(bands, graph, inputs, utterances[graph], needs_occupancy, block)
        totals[graph] = total
