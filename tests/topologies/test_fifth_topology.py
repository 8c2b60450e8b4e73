"""A topology from outside: one file and one line in the table, and the checks of every topology hold it to its claims.

Nothing below checks anything new: the classes are put in TOPOLOGIES and every check of `tests.topologies.checks`
and of `tests.losses.checks` is run on them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest

import topologies
from tests.losses.checks import CHECKS as LOSS_CHECKS
from tests.topologies.checks import CHECKS, random_log_probs
from topologies import BLANK, EPSILON, AbstractTopology, Graph, Size
from wfst_losses import (
    Exhaustive,
    LanguageModel,
    NBest,
    NegativeSampling,
    RandomPaths,
    ctc_loss,
    decoding_graph,
    forced_alignment,
    mmi_loss,
    mwer_loss,
)


def graph_of(arcs: list[tuple[int, int, int, int]], finals: list[bool]) -> Graph:
    source, destination, read, written = np.array(arcs, dtype=np.int32).reshape(-1, 4).T
    final_score = np.where(finals, np.float32(0), np.float32(-np.inf))
    return Graph(source, destination, read, written, np.zeros(len(arcs), dtype=np.float32), final_score)


@dataclasses.dataclass(frozen=True)
class TwoFrameTopology(AbstractTopology):
    """As correct, but a token lasts two frames at least."""

    name = "two-frame"
    is_normalised = False

    def size(self) -> Size:
        """A root, and for each token its first frame and its later ones."""
        num_tokens = self.num_labels - 1
        return Size(1 + 2 * num_tokens, 1 + 4 * num_tokens + num_tokens * (num_tokens - 1))

    def graph(self) -> Graph:
        """State 2i - 1 is token i's first frame, 2i its later ones."""
        tokens = range(1, self.num_labels)
        arcs = [(0, 0, BLANK, EPSILON)]
        for token in tokens:
            first, later = 2 * token - 1, 2 * token
            arcs += [(0, first, token, token), (first, later, token, EPSILON), (later, later, token, EPSILON)]
            arcs += [(later, 0, BLANK, EPSILON)]
            arcs += [(later, 2 * other - 1, other, other) for other in tokens if other != token]
        return graph_of(arcs, [state % 2 == 0 for state in range(self.size().num_states)])


@dataclasses.dataclass(frozen=True)
class SilenceTopology(AbstractTopology):
    """As minimal, but label 1 is a silence that writes nothing: not all tokens are alike."""

    name = "silence"
    is_normalised = True
    is_symmetric = False

    def size(self) -> Size:
        """One state."""
        return Size(1, self.num_labels)

    def graph(self) -> Graph:
        """Self-loops."""
        return graph_of([(0, 0, label, label if label > 1 else EPSILON) for label in range(self.num_labels)], [True])


@dataclasses.dataclass(frozen=True)
class RestingTopology(AbstractTopology):
    """As minimal, but it may stop and rest: a virtual arc leads from one final state to another, which reads blanks."""

    name = "resting"
    is_normalised = False

    def size(self) -> Size:
        """Two states."""
        return Size(2, self.num_labels + 2)

    def graph(self) -> Graph:
        """Self-loops, a virtual arc, a blank's self-loop."""
        loops = [(0, 0, label, label if label != BLANK else EPSILON) for label in range(self.num_labels)]
        return graph_of([*loops, (0, 1, EPSILON, EPSILON), (1, 1, BLANK, EPSILON)], [True, True])


@pytest.mark.parametrize("check", [*CHECKS, *LOSS_CHECKS], ids=lambda check: check.__name__)
@pytest.mark.parametrize("topology", [TwoFrameTopology, SilenceTopology, RestingTopology], ids=lambda cls: cls.name)
def test_a_topology_put_in_the_table_is_held_to_its_claims(
    topology: type[AbstractTopology], check: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(topologies.TOPOLOGIES, topology.name, topology)
    check(topology.name)


@pytest.mark.parametrize(
    ("claim", "value", "check"),
    [
        ("is_normalised", True, "check_total_mass"),
        ("is_symmetric", False, "check_symmetry"),
        ("size", lambda self: Size(3, 3), "check_size"),
        ("min_frames", lambda self, targets: np.array([len(target) for target in targets]), "check_min_frames"),
    ],
)
def test_a_false_claim_is_found(claim: str, value: object, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    false = type("FalseTopology", (TwoFrameTopology,), {claim: value})
    monkeypatch.setitem(topologies.TOPOLOGIES, "two-frame", false)
    measured = next(function for function in CHECKS if function.__name__ == check)
    with pytest.raises(AssertionError):
        measured("two-frame")


GOOD_ARCS = [(0, 0, label, label if label != BLANK else EPSILON) for label in range(4)]
WRONG_GRAPHS = {
    "none": (None, "graph() is None, expected a topologies.Graph"),
    "a list": ([], "graph() is [], expected a topologies.Graph"),
    "no states": (graph_of([], []), "graph() has no states, expected at least one"),
    "reads V": (graph_of([*GOOD_ARCS, (0, 0, 4, EPSILON)], [True]), "graph().input_label[4] is 4, expected -1 or 0..3"),
    "reads 31 bits": (
        graph_of([(0, 0, 2**31 - 2, EPSILON), *GOOD_ARCS], [True]),
        "graph().input_label[0] is 2147483646, expected -1 or 0..3",
    ),
    "writes V": (graph_of([*GOOD_ARCS, (0, 0, 1, 4)], [True]), "graph().output_label[4] is 4, expected -1 or 1..3"),
    "writes blank": (
        graph_of([*GOOD_ARCS, (0, 0, 0, BLANK)], [True]),
        "graph().output_label[4] is 0, expected -1 or 1..3",
    ),
}


@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_a_graph_that_is_none_of_the_labels_is_refused(case: str, is_symmetric: bool) -> None:
    graph, message = WRONG_GRAPHS[case]
    members = {"graph": lambda _: graph, "is_symmetric": is_symmetric}
    topology = type("WrongTopology", (TwoFrameTopology,), members)(4)
    log_probs, targets = random_log_probs(0, 1, 4, 4), [[1, 2, 3]]
    samplers = (NBest(4), RandomPaths(4), Exhaustive(), NegativeSampling(4))
    calls: list[Callable[[], object]] = [
        lambda: ctc_loss(log_probs, targets, [4], topology=topology),
        lambda: mmi_loss(log_probs, targets, [4], topology=topology, language_model=LanguageModel.uniform(4)),
        lambda: mwer_loss(log_probs, targets, [4], topology=topology, estimator="exact", max_errors=1),
        *(lambda each=each: mwer_loss(log_probs, targets, [4], topology=topology, sampler=each) for each in samplers),
        lambda: forced_alignment(log_probs, targets, [4], topology=topology),
        lambda: decoding_graph(topology),
        lambda: decoding_graph(topology, LanguageModel.uniform(4)),
        lambda: topology.min_frames([np.array([1, 2])]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(message.replace("graph()", "")) + "$") as caught:
            call()
        assert str(caught.value).startswith("topology WrongTopology(4): ")
