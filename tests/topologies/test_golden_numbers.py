"""Numbers known in closed form: alignments of a target, sizes of composed graphs, the order of masses.

Laptev et al. 2022 (arXiv 2110.03098) and k2's own graphs have these sizes; they count k2's super-final state and arcs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests.topologies.checks import random_log_probs, total_log_mass
from topologies import EPSILON, Graph, GraphBatch, compose, compose_targets, without_epsilons
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import read_emissions

ALIGNMENTS: dict[str, Callable[[int, int, int], int]] = {
    "correct": lambda num_frames, tokens, repeats: math.comb(num_frames + tokens - repeats, 2 * tokens),
    "selfless": lambda num_frames, tokens, repeats: math.comb(max(num_frames - repeats, 0), tokens),
    "minimal": lambda num_frames, tokens, repeats: math.comb(num_frames, tokens),
    "compact": lambda num_frames, tokens, repeats: math.comb(num_frames + tokens, 2 * tokens),
}
TARGETS = [[], [1], [1, 1], [1, 1, 2], [1, 2, 1], [1, 1, 1, 2], [2, 1, 1, 2, 2], [1, 2, 3, 1, 2, 3]]


def num_repeats(target: list[int]) -> int:
    return sum(before == token for before, token in itertools.pairwise(target))


def log_masses(name: str, log_probs: torch.Tensor, targets: list[list[int]]) -> torch.Tensor:
    """``(G,)`` Z of each target on the same ``(T, V)`` emissions."""
    batch = compose_targets(topologies.build(name, log_probs.shape[1]).graph(), targets)
    emissions = read_emissions(log_probs[None], [len(log_probs)])
    return ReferenceBackend().total_scores(batch, emissions, torch.zeros(len(targets), dtype=torch.int64))


@pytest.mark.parametrize(("name", "count"), [("correct", 84), ("selfless", 20), ("minimal", 35), ("compact", 210)])
def test_alignments_of_the_example(name: str, count: int) -> None:
    assert ALIGNMENTS[name](7, 3, 1) == count
    log_probs = torch.full((7, 4), 0.25, dtype=torch.float64).log()
    assert log_masses(name, log_probs, [[1, 1, 2]])[0].exp() * 4**7 == pytest.approx(count, abs=1e-8)


@pytest.mark.parametrize("num_frames", [0, 1, 2, 5, 9, 14])
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_alignments(name: str, num_frames: int) -> None:
    log_probs = torch.full((num_frames, 4), 0.25, dtype=torch.float64).log()
    counts = log_masses(name, log_probs, TARGETS).exp() * 4.0**num_frames
    wanted = [ALIGNMENTS[name](num_frames, len(target), num_repeats(target)) for target in TARGETS]
    assert counts.tolist() == pytest.approx(wanted, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_least_frames_and_feasibility_agree(name: str) -> None:
    topology = topologies.build(name, 4)
    least = topology.min_frames(TARGETS)
    for num_frames in range(13):
        log_probs = random_log_probs(num_frames, num_frames, 4)
        possible = log_masses(name, log_probs, TARGETS) > -torch.inf
        assert possible.tolist() == ((least >= 0) & (least <= num_frames)).tolist()


@pytest.mark.parametrize("num_labels", [2, 5, 30])
def test_sizes_with_super_final(num_labels: int) -> None:
    def size(graph: Graph) -> tuple[int, int]:
        return graph.num_states + 1, graph.num_arcs + int(np.count_nonzero(graph.final_score > -np.inf))

    built = {name: topologies.build(name, num_labels).graph() for name in ALIGNMENTS}
    assert size(built["correct"]) == (num_labels + 1, num_labels**2 + num_labels)
    assert size(without_epsilons(built["compact"])) == (num_labels + 1, 4 * num_labels - 2)
    assert size(built["minimal"]) == (2, num_labels + 1)


NUMERATORS: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "correct": lambda tokens, repeats: (2 * tokens + 2, 5 * tokens + 2 - repeats),
    "modified": lambda tokens, repeats: (2 * tokens + 2, 5 * tokens + 2),
    "compact": lambda tokens, repeats: (2 * tokens + 2, 4 * tokens + 2),
    "selfless": lambda tokens, repeats: (2 * tokens + 2, 4 * tokens + 2 - repeats),
    "minimal": lambda tokens, repeats: (tokens + 2, 2 * tokens + 2),
}


def named_graph(name: str, num_labels: int) -> Graph:
    """A topology's graph; "modified" is k2's name for compact without virtual arcs."""
    if name == "modified":
        return without_epsilons(topologies.build("compact", num_labels).graph())
    return topologies.build(name, num_labels).graph()


@pytest.mark.parametrize("name", NUMERATORS)
def test_numerator_sizes(name: str) -> None:
    batch = compose_targets(named_graph(name, 4), TARGETS)
    for index, target in enumerate(TARGETS):
        graph = batch.graph(index)
        finals = int(np.count_nonzero(graph.final_score > -np.inf))
        wanted = NUMERATORS[name](len(target), num_repeats(target))
        assert (graph.num_states + 1, graph.num_arcs + finals) == wanted, target


def bigram(histories: list[list[int]], finals: list[bool]) -> Graph:
    """An acceptor with a state per last token, 0 the start; ``histories[s]`` are the tokens that may follow."""
    arcs = [(state, token) for state, followers in enumerate(histories) for token in followers]
    source, token = np.array(arcs, dtype=np.int32).reshape(-1, 2).T
    final_score = np.where(finals, np.float32(0), np.float32(-np.inf))
    return Graph(source, token, token, token, np.zeros(len(arcs), dtype=np.float32), final_score, 0)


def denominator_num_arcs(name: str, language: Graph) -> int:
    """Arcs of topology composed with model, super-final ones included."""
    graph = compose(named_graph(name, language.num_states), GraphBatch.from_graphs([language])).graph(0)
    return graph.num_arcs + int(np.count_nonzero(graph.final_score > -np.inf))


@pytest.mark.parametrize("num_tokens", [2, 5, 20])
def test_denominators_over_a_dense_bigram(num_tokens: int) -> None:
    n = num_tokens
    language = bigram([list(range(1, n + 1))] * (n + 1), [True] * (n + 1))
    assert denominator_num_arcs("correct", language) == (2 * n + 1) * (n + 2)
    assert denominator_num_arcs("modified", language) == 2 * n**2 + 6 * n + 2
    assert denominator_num_arcs("minimal", language) == n**2 + 3 * n + 2
    assert denominator_num_arcs("compact", language) == n**2 + 5 * n + 2


@hypothesis.given(data=st.data(), num_tokens=st.integers(1, 6))
def test_denominators_over_any_bigram(data: st.DataObject, num_tokens: int) -> None:
    followers = st.lists(st.integers(1, num_tokens), unique=True)
    histories = data.draw(st.lists(followers, min_size=num_tokens + 1, max_size=num_tokens + 1))
    # All tokens follow the start and every history but the start may end, so that no state is trimmed.
    histories[0] = list(range(1, num_tokens + 1))
    finals = [data.draw(st.booleans()), *[True] * num_tokens]
    language = bigram(histories, finals)
    a, h = language.num_arcs, language.num_states
    a0, r = num_tokens, sum(state in followers for state, followers in enumerate(histories))
    f, f0 = sum(finals), int(finals[0])
    correct = 2 * a - a0 - r + (2 * h - 1) + (h - 1) + 2 * f - f0
    assert denominator_num_arcs("minimal", language) == a + h + f
    assert denominator_num_arcs("compact", language) == a + h + 2 * (h - 1) + f
    assert denominator_num_arcs("modified", language) == 2 * a + h + 2 * (h - 1) + f
    assert denominator_num_arcs("correct", language) == correct
    assert denominator_num_arcs("selfless", language) == correct - (h - 1)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_masses_of_a_target(seed: int) -> None:
    log_probs = random_log_probs(seed, 8, 4)
    mass = {name: log_masses(name, log_probs, TARGETS) for name in ALIGNMENTS}
    slack = 1e-12
    assert bool((mass["selfless"] <= mass["correct"] + slack).all())
    assert bool((mass["correct"] <= mass["compact"] + slack).all())
    assert bool((mass["selfless"] <= mass["minimal"] + slack).all())
    assert bool((mass["minimal"] <= mass["compact"] + slack).all())
    no_repeats = torch.tensor([num_repeats(target) == 0 for target in TARGETS])
    torch.testing.assert_close(mass["minimal"][no_repeats], mass["selfless"][no_repeats], rtol=0, atol=1e-12)
    assert not torch.equal(mass["minimal"], mass["selfless"])


@pytest.mark.parametrize("num_frames", [1, 2, 30, 300])
def test_order_of_total_masses(num_frames: int) -> None:
    log_probs = random_log_probs(num_frames, 3, num_frames, 5)
    mass = {name: total_log_mass(topologies.build(name, 5).graph(), log_probs) for name in ALIGNMENTS}
    tolerance = 1e-12 * max(num_frames, 10)
    assert float(mass["correct"].abs().max()) < tolerance
    assert float(mass["minimal"].abs().max()) < tolerance
    if num_frames > 1:
        assert float(mass["selfless"].max()) < -1e-3
        assert float(mass["compact"].min()) > 1e-3


def test_a_run_of_blanks_counts_once_in_compact() -> None:
    # The known wrong way gives the virtual arc a frame and counts a run of r blanks 2^(r-1) times.
    log_probs = torch.full((40, 3), -20.0, dtype=torch.float64)
    log_probs[:, 0] = 0.0
    log_probs = torch.log_softmax(log_probs, dim=1)
    assert abs(float(log_masses("compact", log_probs, [[]])[0])) < 1e-6


def test_compact_without_virtual_arcs_is_modified() -> None:
    for num_labels in [1, 2, 3, 10]:
        compact = topologies.build("compact", num_labels).graph()
        modified = without_epsilons(compact)
        assert modified.num_arcs == 4 * num_labels - 3
        assert modified.num_states == num_labels
        assert compact.num_epsilon_arcs == num_labels - 1
        assert int(np.count_nonzero(modified.output_label != EPSILON)) == 2 * (num_labels - 1)
