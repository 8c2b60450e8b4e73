"""k2's own loss reproduced with its grid of paths; gradients to all that a lattice is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.lattices.test_k2_lattice import LENGTHS, REFERENCES, leaf, make_lattice
from tests.topologies.checks import random_log_probs
from wfst_losses import (
    Exhaustive,
    GridPaths,
    LatticeMWERLoss,
    NBest,
    NegativeSampling,
    RandomPaths,
    TokenErrors,
    lattice_mwer_loss,
    mwer_loss,
)

pytestmark = pytest.mark.k2

OPTIONS = [
    {"nbest_scale": 0.5, "num_paths": 200, "temperature": 1.0},
    {"nbest_scale": 1.0, "num_paths": 30, "temperature": 1.0},
    {"nbest_scale": 0.3, "num_paths": 7, "temperature": 2.5},
    {"nbest_scale": 1.0, "num_paths": 1, "temperature": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_the_summed_loss_of_k2(name: str, options: dict[str, Any]) -> None:
    import k2

    for seed in range(3):
        leaves = [leaf(seed) for _ in range(2)]
        ours = lattice_mwer_loss(
            make_lattice(leaves[0], name), REFERENCES, **options, path_score="single",
            sampler=GridPaths(options["num_paths"]),
        )  # fmt: skip
        theirs = k2.mwer_loss(make_lattice(leaves[1], name), REFERENCES, **options)
        assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
        if not theirs.requires_grad:
            continue
        gradients = [
            torch.autograd.grad(value, scores)[0] for value, scores in zip((ours, theirs), leaves, strict=True)
        ]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_the_summed_loss_of_k2_on_longer_utterances() -> None:
    import k2

    scores = torch.log_softmax(3 * torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(3)), 2)
    lattice = make_lattice(scores, "correct", beam=12.0, lengths=[60, 41])
    references = [[1, 2, 3] * 8, [4] * 20]
    module = LatticeMWERLoss(1.0, True, "sum", path_score="single", sampler=GridPaths(100))
    theirs = k2.MWERLoss(1.0, True, "sum")
    assert float(module(lattice, references, 0.5, 100)) == pytest.approx(
        float(theirs(lattice, references, 0.5, 100)), rel=1e-5
    )


def test_every_call_takes_the_same_paths_and_they_lie_in_the_lattice() -> None:
    from wfst_losses.backends.k2.lattice import read_lattice

    lattice = make_lattice(leaf())
    arcs = read_lattice(lattice)
    drawn = [arcs.grid_paths(20, 1.0, True).steps for _ in range(2)]
    assert np.array_equal(*drawn)
    assert {tuple(row) for row in drawn[0].tolist()} <= {tuple(row) for row in arcs.enumerate().steps.tolist()}


@pytest.mark.parametrize(
    "sampler",
    [RandomPaths(40), NBest(6), NegativeSampling(8), GridPaths(20), Exhaustive()],
    ids=lambda s: type(s).__name__,
)
def test_every_samplers_paths_lie_in_the_lattice_and_it_is_unchanged(sampler: Any) -> None:
    scores = leaf(2)
    lattice = make_lattice(scores, "compact")
    before = {key: value.clone() for key, value in lattice.as_dict().items() if isinstance(value, torch.Tensor)}
    losses, diagnostics = lattice_mwer_loss(
        lattice, REFERENCES, 0.7, sampler=sampler, reduction="none", return_diagnostics=True,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert torch.autograd.grad(losses.sum(), scores)[0].abs().max() > 0
    for key, value in before.items():
        assert torch.equal(lattice.as_dict()[key], value), key
    topology = topologies.build("compact", 3)
    for row, length in enumerate(LENGTHS):
        errors = [
            oracles.edit_distance(REFERENCES[row], output) for output in oracles.readings(topology, length).outputs
        ]
        assert min(errors) <= diagnostics.oracle_errors[row] <= max(errors)
        assert 0 < diagnostics.posterior_mass[row] <= 1


def test_scores_that_are_a_leaf() -> None:
    # k2.mwer_loss raises here: it scales them in place.
    import k2

    fsa = k2.create_fsa_vec([k2.Fsa.from_str("0 1 1 0.0\n0 1 2 -1.0\n1 2 -1 0.0\n2", acceptor=True)])
    fsa.scores.requires_grad_()
    for sampler in (RandomPaths(50), GridPaths(50), NBest(2)):
        loss = lattice_mwer_loss(fsa, [[1]], sampler=sampler)
        (gradient,) = torch.autograd.grad(loss, fsa.scores)
        share = 1 / (1 + np.exp(1.0))
        assert float(loss) == pytest.approx(share, abs=1e-6)
        assert gradient.tolist() == pytest.approx([-share * (1 - share), share * (1 - share), 0.0], abs=1e-6)


def test_gradients_reach_learnable_scores_of_the_graph() -> None:
    # A bigram's weights on the decoding graph, as a recipe would learn them; checked by differences.
    import k2

    from tests.losses.test_mmi import model_of_order
    from wfst_losses.backends.k2.convert import to_k2
    from wfst_losses.graphs.denominator import denominator

    topology = topologies.build("correct", 3)
    graph = k2.arc_sort(to_k2(denominator(topology, model_of_order(2), epsilon_free=True).graph(0)))
    log_probs, start = leaf(3), graph.scores.detach().clone()

    def loss_of(graph_scores: torch.Tensor) -> torch.Tensor:
        graph.scores = graph_scores
        dense = k2.DenseFsaVec(log_probs, torch.tensor([[0, 0, 5], [1, 0, 4], [2, 0, 2]], dtype=torch.int32))
        lattice = k2.intersect_dense_pruned(graph, dense, 1e9, 1e9, 1, 10_000)
        return lattice_mwer_loss(lattice, REFERENCES, sampler=Exhaustive())

    leaf_scores = start.clone().requires_grad_()
    found, of_frames = torch.autograd.grad(loss_of(leaf_scores), [leaf_scores, log_probs])
    assert float(of_frames.abs().max()) > 1e-3
    wanted = torch.zeros_like(start)
    for arc in range(len(start)):
        moved = torch.zeros_like(start)
        moved[arc] = 0.03
        wanted[arc] = (float(loss_of(start + moved)) - float(loss_of(start - moved))) / 0.06
    assert float(wanted.abs().max()) > 1e-2
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)


def test_z_counts_pronunciations_and_silences_of_a_lexicon() -> None:
    # Word 7 is "1" or "2", with silence (token 3) around it or not: four ways that all write it.
    import k2

    from wfst_losses.backends.k2.lattice import read_lattice

    text = "0 1 3 0 -1.0\n0 1 1 7 0.5\n0 1 2 7 -0.5\n0 2 1 7 0.25\n1 2 1 7 -2.0\n1 2 2 0 0.0\n1 2 3 0 0.1\n"
    text += "2 3 -1 -1 0.0\n3"
    fsa = k2.create_fsa_vec([k2.Fsa.from_str(text, num_aux_labels=1)])
    arcs = read_lattice(fsa)
    ways: dict[tuple[int, ...], list[float]] = {}
    paths = arcs.enumerate()
    for tokens, score in zip(paths.tokens, arcs.path_scores(paths).tolist(), strict=True):
        ways.setdefault(tuple(tokens.tolist()), []).append(score)
    assert {key: len(scores) for key, scores in ways.items()} == {(7,): 6, (7, 7): 2, (): 2}
    sequences = [np.array(key, dtype=np.int64) for key in ways]
    totals = arcs.sequence_scores(sequences, np.zeros(3, dtype=np.int64))
    assert totals.tolist() == pytest.approx([np.logaddexp.reduce(scores) for scores in ways.values()], abs=1e-6)


@pytest.mark.parametrize("sampler", [NBest(5), NegativeSampling(6, mask_probability=0.9)], ids=["nbest", "negative"])
def test_words_as_ragged_labels(sampler: Any) -> None:
    import k2

    lattice = make_lattice(leaf())
    words = [[10, 11] if token == 1 else [20] if token == 2 else [] for token in lattice.aux_labels.tolist()]
    plain, diagnostics = lattice_mwer_loss(
        lattice, REFERENCES, sampler=sampler, reduction="none", return_diagnostics=True,
        risk=TokenErrors(substitution=3, insertion=2), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    lattice.aux_labels = k2.RaggedTensor(words)
    _, of_words = lattice_mwer_loss(
        lattice, [[10, 11, 20], [20], [10]], sampler=sampler, reduction="none", return_diagnostics=True,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert plain.shape == (3,)
    # One word sequence per token sequence here, so the posterior mass of as many hypotheses is the same.
    if isinstance(sampler, NegativeSampling):
        assert diagnostics.num_distinct.tolist() == of_words.num_distinct.tolist()
        assert diagnostics.posterior_mass.tolist() == pytest.approx(of_words.posterior_mass.tolist(), abs=1e-6)
    else:
        assert of_words.num_distinct.tolist() == [5, 5, 5]


def test_an_empty_lattice_is_empty_for_every_sampler() -> None:
    import k2

    from wfst_losses.backends.k2.convert import to_k2
    from wfst_losses.graphs.training import training_graphs

    scores = random_log_probs(0, 2, 2, 3).float().requires_grad_()
    batch = training_graphs(topologies.build("correct", 3), [np.array([1, 1]), np.array([2])])
    graphs = k2.create_fsa_vec([to_k2(batch.graph(index)) for index in range(2)])
    supervisions = torch.tensor([[0, 0, 2], [1, 0, 2]], dtype=torch.int32)
    lattice = k2.intersect_dense(graphs, k2.DenseFsaVec(scores, supervisions), 1e9)
    for sampler in (RandomPaths(3), NBest(3), NegativeSampling(3), GridPaths(3), Exhaustive()):
        losses, diagnostics = lattice_mwer_loss(
            lattice, [[1], []], sampler=sampler, reduction="none", return_diagnostics=True, include_best=True,
            include_reference=True,
        )  # fmt: skip
        assert losses.tolist() == [torch.inf, 1.0]
        assert diagnostics.empty == (0,)
        assert diagnostics.single == (1,)
        assert diagnostics.posterior_mass.tolist() == [0.0, pytest.approx(1.0)]


def test_grid_paths_need_a_k2_lattice() -> None:
    with pytest.raises(ValueError, match="sampler is GridPaths, which needs a k2 lattice"):
        mwer_loss(random_log_probs(0, 1, 3, 3), [[1]], [3], sampler=GridPaths(4))


def test_scores_that_are_no_numbers_are_refused() -> None:
    lattice = make_lattice(leaf())
    for bad in (torch.nan, torch.inf):
        scores = lattice.scores.detach().clone()
        scores[4] = bad
        lattice.scores = scores
        with pytest.raises(ValueError, match=rf"lattice\.scores\[4\] is {bad}, expected a number or -inf"):
            lattice_mwer_loss(lattice, REFERENCES)
