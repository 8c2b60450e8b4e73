"""The minimal topology: one state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.batch import TokenSequence
from topologies.graph import EPSILON, Graph
from topologies.topology import BLANK, AbstractTopology, Size, all_free, num_tokens


@dataclasses.dataclass(frozen=True)
class MinimalTopology(AbstractTopology):
    """One state; label i writes i, blank writes nothing.

    A token lasts one frame: "a a" is two tokens. 1 state, V arcs. Every frame labelling is exactly one path: masses
    over all outputs sum to 1.

    Source: Laptev et al. 2022 (arXiv 2110.03098), "Minimal-CTC".
    """

    name = "minimal"
    is_normalised = True

    def size(self) -> Size:
        """1 state, V arcs."""
        return Size(1, self.num_labels)

    def graph(self) -> Graph:
        """V self-loops on one state."""
        labels = np.arange(self.num_labels, dtype=np.int32)
        nowhere = np.zeros_like(labels)
        output_label = labels.copy()
        output_label[BLANK] = EPSILON
        return Graph(nowhere, nowhere, labels, output_label, all_free(self.num_labels), all_free(1), 0)

    def min_frames(self, targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
        """One frame per token."""
        return num_tokens(targets)
