"""What a topology is: a transducer from frame labels to tokens, and the claims it makes about itself."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from topologies.batch import TokenSequence, check_sequences, shortest_path_num_frames
from topologies.composition import compose_targets
from topologies.graph import EPSILON, Graph, check_graph

BLANK = 0
"""Blank's input label in every topology; a network's other choice is renumbered at the door of each loss."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How many states and arcs a graph has, without building it."""

    num_states: int
    num_arcs: int


@dataclasses.dataclass(frozen=True)
class AbstractTopology(abc.ABC):
    """A rule that turns one label per frame into tokens, for ``num_labels`` labels of which 0 is blank.

    A topology is a value: two of the same class and ``num_labels`` are equal and hash alike. A subclass states
    its claims, `size`, `is_normalised`, `is_symmetric`, and `graph`; the test suite measures the claims of every
    member of `TOPOLOGIES`.
    """

    num_labels: int

    name: ClassVar[str]
    """The name in `TOPOLOGIES`."""
    is_normalised: ClassVar[bool]
    """Whether, over normalised emissions, the probabilities of all outputs sum to 1."""
    is_symmetric: ClassVar[bool] = True
    """Whether renaming the tokens renames the arcs and changes nothing else: true unless a rule singles a token out."""

    def __post_init__(self) -> None:
        if isinstance(self.num_labels, bool) or not isinstance(self.num_labels, (int, np.integer)):
            raise ValueError(f"num_labels is {self.num_labels!r:.80}, expected an integer >= 1")
        if self.num_labels < 1:
            raise ValueError(f"num_labels is {self.num_labels}, expected >= 1 (blank counts)")
        if self.num_labels > np.iinfo(np.int32).max:
            raise ValueError(f"num_labels is {self.num_labels}, expected 31 bits at most")

    @abc.abstractmethod
    def size(self) -> Size:
        """States and arcs of `graph`, in closed form: the graph is never built for it."""

    @abc.abstractmethod
    def graph(self) -> Graph:
        """The transducer: input labels 0..num_labels-1 (0 is blank), output tokens 1..num_labels-1."""

    def factored(self) -> Graph:
        """A graph with the same paths as `graph`, one for one, but for virtual arcs: fewer arcs where there are many.

        What sums over all paths of the topology run on. Subclasses with about V^2 arcs override it. Its first states
        are those of `graph`; further ones are entered by virtual arcs only, which write nothing.
        """
        return self.graph()

    def min_frames(self, targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
        """The fewest frames in which each target can be written, exactly; -1 where no number of frames will do.

        A target of ``S`` tokens is possible in ``T`` frames when ``min_frames <= T``. Subclasses with a closed
        form override this; here it is a shortest path through the topology composed with the target.
        """
        return shortest_path_num_frames(compose_targets(graph_of(self), targets))


def graph_of(topology: AbstractTopology) -> Graph:
    """`AbstractTopology.graph`, held to what it says of itself: a rule from elsewhere may say anything.

    Raises:
        ValueError: naming the topology, and the arc and label that compiled loops would read out of bounds.
    """
    return _checked(topology, "graph()", topology.graph())


def factored_of(topology: AbstractTopology) -> Graph:
    """`AbstractTopology.factored`, likewise."""
    return _checked(topology, "factored()", topology.factored())


def _checked(topology: AbstractTopology, method: str, graph: Graph) -> Graph:
    what = f"topology {type(topology).__name__}({topology.num_labels}): {method}"
    check_graph(what, graph)
    if graph.num_states < 1:
        raise ValueError(f"{what} has no states, expected at least one")
    for name, lowest in (("input_label", BLANK), ("output_label", BLANK + 1)):
        column = getattr(graph, name)
        # Maxima first: an array of truth values takes as long again.
        if len(column) and (column.max() >= topology.num_labels or (lowest > BLANK and (column == BLANK).any())):
            arc = int(np.argmax((column >= topology.num_labels) | ((column < lowest) & (column != EPSILON))))
            raise ValueError(
                f"{what}.{name}[{arc}] is {column[arc]}, expected {EPSILON} or {lowest}..{topology.num_labels - 1}"
            )
    return graph


def num_adjacent_repeats(targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
    """How many tokens of each target equal the one before them."""
    return np.array(
        [np.count_nonzero(np.diff(target) == 0) for target in check_sequences("targets", targets)], dtype=np.int64
    )


def num_tokens(targets: Sequence[TokenSequence]) -> npt.NDArray[np.int64]:
    """The length of each target."""
    return np.array([len(target) for target in check_sequences("targets", targets)], dtype=np.int64)


def all_free(num_arcs: int) -> npt.NDArray[np.float32]:
    """A score column of zeros: topologies weigh nothing themselves."""
    return np.zeros(num_arcs, dtype=np.float32)
