"""The compact topology: a root, and one state per token with a virtual arc back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.batch import TokenSequence
from topologies.graph import EPSILON, Graph
from topologies.topology import BLANK, AbstractTopology, Size, all_free, num_tokens


@dataclasses.dataclass(frozen=True)
class CompactTopology(AbstractTopology):
    """A root with a blank self-loop; ``root -> i`` reads and writes i; ``i -> i`` reads i; ``i -> root`` reads nothing.

    The virtual arc ``i -> root`` takes no frame: an engine that gives it one counts every run of r blanks
    2^(r-1) times. "a a" may mean one token (self-loop) or two (virtual arc between), and both are paths, so
    masses over all outputs sum to more than 1. V states, 3V - 2 arcs; only the root is final.

    Source: Laptev et al. 2022 (arXiv 2110.03098), "Compact-CTC". Its epsilon-free form is k2's modified topology.
    """

    name = "compact"
    is_normalised = False

    def size(self) -> Size:
        """V states, 3V - 2 arcs, V - 1 of them virtual."""
        return Size(self.num_labels, 3 * self.num_labels - 2)

    def graph(self) -> Graph:
        """The arcs, ordered: blank, then entering, staying and leaving each token."""
        tokens = np.arange(1, self.num_labels, dtype=np.int32)
        blank = np.array([BLANK], dtype=np.int32)
        root = np.full_like(tokens, BLANK)
        nothing = np.full_like(tokens, EPSILON)
        final_score = np.full(self.num_labels, -np.inf, dtype=np.float32)
        final_score[BLANK] = 0.0
        return Graph(
            source=np.concatenate([blank, root, tokens, tokens]),
            destination=np.concatenate([blank, tokens, tokens, root]),
            input_label=np.concatenate([blank, tokens, tokens, nothing]),
            output_label=np.concatenate([nothing[:1] if len(nothing) else [EPSILON], tokens, nothing, nothing]),
            score=all_free(3 * self.num_labels - 2),
            final_score=final_score,
            start=BLANK,
        )

    def min_frames(self, targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
        """One frame per token."""
        return num_tokens(targets)
