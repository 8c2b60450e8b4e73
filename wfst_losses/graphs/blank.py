"""Networks whose blank is not label 0: renumbered on the way in, put back on the way out.

Graphs always hold blank as 0 and tokens as 1..V-1. A network with blank at column b has tokens 0..b-1 and b+1..V-1,
which are tokens 1..b and b+1..V-1 inside. Only label numbers are mapped, never the emissions themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies import GraphBatch


def tokens_inside(sequences: Sequence[npt.NDArray[np.int64]], blank: int) -> list[npt.NDArray[np.int64]]:
    """The network's token numbers as the graphs'."""
    return [np.where(sequence < blank, sequence + 1, sequence) for sequence in sequences]


def tokens_outside(sequences: Sequence[npt.NDArray[np.int64]], blank: int) -> list[npt.NDArray[np.int64]]:
    """The graphs' token numbers as the network's: the inverse of `tokens_inside`."""
    return [np.where(sequence <= blank, sequence - 1, sequence) for sequence in sequences]


def reading_columns(graphs: GraphBatch, blank: int) -> GraphBatch:
    """The same graphs with input labels that are columns of the network's output."""
    if blank == 0:
        return graphs
    label = graphs.input_label
    column = np.where(label <= blank, label - 1, label)
    column[label == 0] = blank
    column[label < 0] = label[label < 0]
    return graphs.with_input_labels(column.astype(np.int32))
