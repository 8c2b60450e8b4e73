"""The selfless topology: correct without the self-loops of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.batch import TokenSequence
from topologies.correct import CorrectTopology, staying_or_leaving
from topologies.graph import Graph
from topologies.topology import BLANK, AbstractTopology, Size, num_adjacent_repeats, num_tokens


@dataclasses.dataclass(frozen=True)
class SelflessTopology(AbstractTopology):
    """`CorrectTopology` without the self-loops of tokens; blank keeps its own.

    A token lasts one frame and a repeated token needs a blank between. V states, V^2 - V + 1 arcs. Labellings with
    "a a" are no path, so masses over all outputs sum to less than 1. Selfless compact would be the same relation as
    `MinimalTopology`, which is why there is no such name.

    Source: Laptev et al. 2022 (arXiv 2110.03098), "selfless" modifier.
    """

    name = "selfless"
    is_normalised = False

    def size(self) -> Size:
        """V states, V^2 - V + 1 arcs."""
        return Size(self.num_labels, self.num_labels**2 - self.num_labels + 1)

    def graph(self) -> Graph:
        """Correct's arcs but ``a -> a`` for tokens a."""
        correct = CorrectTopology(self.num_labels).graph()
        kept = (correct.source != correct.destination) | (correct.source == BLANK)
        destination = correct.destination[kept]
        return Graph(
            source=correct.source[kept],
            destination=destination,
            input_label=destination,
            output_label=correct.output_label[kept],
            score=correct.score[kept],
            final_score=correct.final_score,
            start=BLANK,
        )

    def factored(self) -> Graph:
        """At most 6V arcs: blank's self-loop, and `to_every_other`."""
        return staying_or_leaving(self.num_labels, np.array([BLANK], dtype=np.int32))

    def min_frames(self, targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
        """One frame per token and one blank between equal neighbours."""
        return num_tokens(targets) + num_adjacent_repeats(targets)
