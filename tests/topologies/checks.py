"""What every member of TOPOLOGIES must keep, measured: one function per claim, called with a name in the table.

A topology with a rule in `tests.oracles` is compared with its rule, any other with a walk through its own graph.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from topologies import EPSILON, AbstractTopology, Graph, GraphBatch, without_epsilons
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import read_emissions

SMALL = [(labels, frames) for labels in range(1, 5) for frames in range(6) if labels**frames < 800]


def total_log_mass(graph: Graph, log_probs: torch.Tensor) -> torch.Tensor:
    """``(B,)`` log-sum over all paths of a graph, for ``(B, T, V)`` log-probs."""
    num_utterances, num_frames, _ = log_probs.shape
    emissions = read_emissions(log_probs, [num_frames] * num_utterances, check_normalised=False)
    batch = GraphBatch.from_graphs([graph] * num_utterances)
    return ReferenceBackend().total_scores(batch, emissions, torch.arange(num_utterances))


def random_log_probs(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(*shape, generator=generator, dtype=torch.float64), -1)


def all_targets(num_labels: int, longest: int) -> list[tuple[int, ...]]:
    tokens = range(1, num_labels)
    return [target for length in range(longest + 1) for target in itertools.product(tokens, repeat=length)]


def renamed(counts: Counter, permutation: dict[int, int]) -> Counter:
    """Reading counts with the tokens renamed."""
    return Counter(
        {
            tuple(tuple(permutation[label] for label in part) for part in reading): count
            for reading, count in counts.items()
        }
    )


def check_value(name: str) -> None:
    """A topology is a value with its name, and needs one label at least."""
    topology = topologies.build(name, 4)
    assert isinstance(topology, AbstractTopology)
    assert (topology.name, topology.num_labels) == (name, 4)
    assert topology == topologies.build(name, 4)
    assert hash(topology) == hash(topologies.build(name, 4))
    assert topology != topologies.build(name, 5)


def check_size(name: str) -> None:
    """`size` in closed form is the size of the graph."""
    for num_labels in [1, 2, 3, 4, 5, 17, 100]:
        topology = topologies.build(name, num_labels)
        size, graph = topology.size(), topology.graph()
        assert (size.num_states, size.num_arcs) == (graph.num_states, graph.num_arcs), f"V = {num_labels}"


def check_labels(name: str) -> None:
    """The graph reads labels 0..V-1 and writes tokens 1..V-1; blank is read somewhere."""
    graph = topologies.build(name, 6).graph()
    assert set(graph.input_label.tolist()) - {EPSILON} == set(range(6))
    assert set(graph.output_label.tolist()) - {EPSILON} <= set(range(1, 6))
    assert graph.score.tolist() == [0.0] * graph.num_arcs


def check_readings(name: str) -> None:
    """The paths of the graph are the readings of the rule, each as often as the rule has it."""
    for num_labels, num_frames in SMALL:
        topology = topologies.build(name, num_labels)
        walked = Counter((labelling, output) for labelling, output, _ in oracles.walk(topology.graph(), num_frames))
        assert walked == oracles.reading_counts(topology, num_frames), f"V = {num_labels}, T = {num_frames}"


def check_factored(name: str) -> None:
    """The factored graph has the paths of the graph, each exactly once, and no more arcs."""
    for num_labels, num_frames in SMALL:
        topology = topologies.build(name, num_labels)
        wanted = Counter(oracles.walk(topology.graph(), num_frames))
        assert Counter(oracles.walk(topology.factored(), num_frames)) == wanted, f"V = {num_labels}, T = {num_frames}"
    for num_labels in [5, 6, 7, 8, 9, 31]:
        topology = topologies.build(name, num_labels)
        wanted = Counter(oracles.walk(topology.graph(), 2))
        assert Counter(oracles.walk(topology.factored(), 2)) == wanted, f"V = {num_labels}"
    topology = topologies.build(name, 100)
    assert topology.factored().num_arcs <= topology.size().num_arcs


def check_without_epsilons(name: str) -> None:
    """Without virtual arcs the graph has the same readings, each with the same weight."""
    for num_labels, num_frames in SMALL:
        topology = topologies.build(name, num_labels)
        graph = without_epsilons(topology.graph())
        assert graph.num_epsilon_arcs == 0
        weights: dict[tuple[oracles.Tokens, oracles.Tokens], float] = {}
        for labelling, output, score in oracles.walk(graph, num_frames):
            weights[labelling, output] = weights.get((labelling, output), 0.0) + float(np.exp(score))
        wanted = dict(oracles.reading_counts(topology, num_frames))
        assert weights == pytest.approx(wanted, rel=1e-6), f"V = {num_labels}, T = {num_frames}"


def check_total_mass(name: str) -> None:
    """The total over random emissions is that of enumeration, and exactly 1 where `is_normalised` says so."""
    topology = topologies.build(name, 3)
    for seed, num_frames in enumerate([0, 1, 2, 4, 5]):
        log_probs = random_log_probs(seed, 4, num_frames, 3)
        wanted = torch.stack([oracles.total_log_mass(topology, row) for row in log_probs])
        torch.testing.assert_close(total_log_mass(topology.graph(), log_probs), wanted, rtol=0, atol=1e-12)
    num_frames = 200
    log_mass = total_log_mass(topology.graph(), random_log_probs(9, 3, num_frames, 3))
    is_one = bool((log_mass.abs() < 1e-12 * num_frames).all())
    assert is_one == topology.is_normalised, f"log total masses {log_mass.tolist()}"


def check_symmetry(name: str) -> None:
    """Where `is_symmetric` says so, renaming tokens changes nothing, nor do labels that do not occur; else it does."""
    changed = False
    for num_labels, num_frames in SMALL:
        counts = oracles.reading_counts(topologies.build(name, num_labels), num_frames)
        for order in itertools.permutations(range(1, num_labels)):
            changed = changed or renamed(counts, {0: 0, **dict(enumerate(order, start=1))}) != counts
        for fewer in range(1, num_labels):
            kept = {reading: count for reading, count in counts.items() if max(reading[0], default=0) < fewer}
            changed = changed or kept != oracles.reading_counts(topologies.build(name, fewer), num_frames)
    assert changed == (not topologies.build(name, 2).is_symmetric)


def check_min_frames(name: str) -> None:
    """`min_frames` is the shortest path, and the least number of frames with a reading."""
    topology = topologies.build(name, 3)
    targets = all_targets(3, 3)
    found = topology.min_frames(targets)
    assert found.dtype == np.int64
    assert found.tolist() == AbstractTopology.min_frames(topology, targets).tolist()
    limit = 6
    wanted = [oracles.min_frames(topology, target, limit) for target in targets]
    assert [frames if frames <= limit else -1 for frames in found.tolist()] == wanted


def check_min_frames_of_long_targets(name: str) -> None:
    """The closed form, if there is one, holds for targets too long to enumerate."""
    topology = topologies.build(name, 5)
    random = np.random.default_rng(0)
    targets = [random.integers(1, 5, size=length) for length in [0, 1, 7, 40]]
    assert topology.min_frames(targets).tolist() == AbstractTopology.min_frames(topology, targets).tolist()
    assert topology.min_frames([]).tolist() == []


def check_openfst_text(name: str) -> None:
    """The text read back is the same graph."""
    for num_labels in [1, 2, 5]:
        graph = topologies.build(name, num_labels).graph()
        text = graph.to_openfst_text()
        again = Graph.from_openfst_text(text)
        assert again.to_openfst_text() == text
        for num_frames in range(3):
            assert Counter(oracles.walk(again, num_frames)) == Counter(oracles.walk(graph, num_frames))


CHECKS: list[Callable[[str], None]] = [
    check_value,
    check_size,
    check_labels,
    check_readings,
    check_factored,
    check_without_epsilons,
    check_total_mass,
    check_symmetry,
    check_min_frames,
    check_min_frames_of_long_targets,
    check_openfst_text,
]
