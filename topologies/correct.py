"""The correct topology: the one CTC was defined with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.batch import TokenSequence
from topologies.factored import to_every_other
from topologies.graph import EPSILON, Graph, IntColumn, check_num_arcs
from topologies.topology import BLANK, AbstractTopology, Size, all_free, num_adjacent_repeats, num_tokens


@dataclasses.dataclass(frozen=True)
class CorrectTopology(AbstractTopology):
    """State = last label. ``i -> j`` reads ``j`` and writes ``j`` if ``j`` is a token other than ``i``.

    A self-loop writes nothing, so "a a" is one token and "a blank a" two. V states, V^2 arcs; every state is final,
    the start is blank's. Every frame labelling is exactly one path: masses over all outputs sum to 1.

    Source: Graves et al. 2006; as a transducer, Miao et al. 2015 (arXiv 1507.08240); Laptev et al. 2022
    (arXiv 2110.03098), "Correct-CTC".
    """

    name = "correct"
    is_normalised = True

    def size(self) -> Size:
        """V states, V^2 arcs."""
        return Size(self.num_labels, self.num_labels**2)

    def graph(self) -> Graph:
        """The dense graph: 20 bytes per arc, 500 MB at 5,000 labels."""
        num_labels = self.num_labels
        check_num_arcs(self.name, num_labels**2)
        labels = np.arange(num_labels, dtype=np.int32)
        destination = np.tile(labels, num_labels)
        output_label = destination.copy().reshape(num_labels, num_labels)
        np.fill_diagonal(output_label, EPSILON)
        output_label[:, BLANK] = EPSILON
        return Graph(
            source=np.repeat(labels, num_labels),
            destination=destination,
            input_label=destination,
            output_label=output_label.reshape(-1),
            score=all_free(num_labels**2),
            final_score=all_free(num_labels),
            start=BLANK,
        )

    def factored(self) -> Graph:
        """At most 7V arcs: self-loops, and `to_every_other`."""
        return staying_or_leaving(self.num_labels, np.arange(self.num_labels, dtype=np.int32))

    def min_frames(self, targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
        """One frame per token and one blank between equal neighbours."""
        return num_tokens(targets) + num_adjacent_repeats(targets)


def staying_or_leaving(num_labels: int, staying: IntColumn) -> Graph:
    """A state per label, self-loops for the labels ``staying``, and virtual arcs from each state to every other."""
    source, destination, input_label = to_every_other(num_labels)
    num_arcs, num_states = len(staying) + len(source), num_labels + max(0, 2 * (num_labels - 2))
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    final_score[:num_labels] = 0.0
    return Graph(
        source=np.concatenate([staying, source]),
        destination=np.concatenate([staying, destination]),
        input_label=np.concatenate([staying, input_label]),
        output_label=np.concatenate(
            [np.full_like(staying, EPSILON), np.where(input_label > BLANK, input_label, EPSILON)]
        ),
        score=all_free(num_arcs),
        final_score=final_score,
        start=BLANK,
    )
