"""CTC topologies as weighted finite-state transducers: graphs as data, numpy only.

>>> import topologies
>>> compact = topologies.build("compact", num_labels=256)
>>> compact.size()
Size(num_states=256, num_arcs=766)
>>> compact.graph().num_epsilon_arcs
255
"""

from __future__ import annotations

from topologies.batch import GraphBatch
from topologies.compact import CompactTopology
from topologies.composition import Composition, compose, compose_graph, compose_targets
from topologies.contraction import contracted, is_inner
from topologies.correct import CorrectTopology
from topologies.epsilon import without_epsilons
from topologies.graph import EPSILON, Graph
from topologies.minimal import MinimalTopology
from topologies.selfless import SelflessTopology
from topologies.topology import BLANK, AbstractTopology, Size

TOPOLOGIES: dict[str, type[AbstractTopology]] = {
    "correct": CorrectTopology,
    "compact": CompactTopology,
    "minimal": MinimalTopology,
    "selfless": SelflessTopology,
}
"""Every topology by name: a new one is one file and one line here."""


def build(name: str, num_labels: int) -> AbstractTopology:
    """The topology of that name for a network with ``num_labels`` outputs, blank included.

    Raises:
        ValueError: for a name not in `TOPOLOGIES`, or ``num_labels`` below 1.
    """
    if not isinstance(name, str) or name not in TOPOLOGIES:
        raise ValueError(f"topology is {name!r:.80}, expected one of {', '.join(map(repr, TOPOLOGIES))}")
    return TOPOLOGIES[name](num_labels)


__all__ = [
    "BLANK",
    "EPSILON",
    "TOPOLOGIES",
    "AbstractTopology",
    "Composition",
    "Graph",
    "GraphBatch",
    "Size",
    "build",
    "compose",
    "compose_graph",
    "compose_targets",
    "contracted",
    "is_inner",
    "without_epsilons",
]
