"""MWER over k2 lattices: as over the same hypotheses without k2, and the caller's lattice untouched."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests.oracles import edit_distance
from tests.topologies.checks import random_log_probs
from topologies import without_epsilons
from wfst_losses import CTCLoss, Exhaustive, LatticeMWERLoss, RandomPaths, ctc_loss, lattice_mwer_loss, mwer_loss

pytestmark = pytest.mark.k2

LENGTHS = [5, 4, 2]
REFERENCES = [[1, 2], [2], [1, 1, 2]]


def make_lattice(log_probs: torch.Tensor, name: str = "correct", beam: float = 1e9, lengths: Any = LENGTHS) -> Any:
    """All paths of a topology over each utterance, as icefall makes them: tokens in ``aux_labels``."""
    import k2

    from wfst_losses.backends.k2.convert import to_k2

    graph = to_k2(without_epsilons(topologies.build(name, log_probs.shape[2]).graph()))
    supervisions = torch.tensor([[row, 0, length] for row, length in enumerate(lengths)], dtype=torch.int32)
    dense = k2.DenseFsaVec(log_probs.float(), supervisions)
    return k2.intersect_dense_pruned(graph, dense, beam, beam, 1, 10_000)


def leaf(seed: int = 0) -> torch.Tensor:
    return random_log_probs(seed, 3, 5, 3).float().requires_grad_()


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_hypotheses_as_without_k2(name: str, temperature: float) -> None:
    leaves = [leaf(), leaf()]
    found = lattice_mwer_loss(
        make_lattice(leaves[0], name),
        REFERENCES,
        temperature=temperature,
        sampler=Exhaustive(),
        reduction="none",
    )
    wanted = mwer_loss(
        leaves[1], REFERENCES, LENGTHS, topology=name, temperature=temperature, sampler=Exhaustive(), baseline="none"
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    gradients = [
        torch.autograd.grad(losses.sum(), scores)[0] for losses, scores in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_the_columns_of_a_lattice(name: str) -> None:
    from wfst_losses.backends.k2.lattice import read_lattice

    scores = leaf()
    arcs = read_lattice(make_lattice(scores, name))
    assert arcs.num_utterances == 3
    paths = arcs.enumerate()
    outputs = [
        sorted(
            tuple(tokens.tolist()) for tokens, owner in zip(paths.tokens, paths.utterances, strict=True) if owner == row
        )
        for row in range(3)
    ]
    from tests import oracles

    topology = topologies.build(name, 3)
    for row, length in enumerate(LENGTHS):
        assert outputs[row] == sorted(oracles.readings(topology, length).outputs)


def test_words_of_a_lexicon_as_ragged_labels() -> None:
    import k2

    lattice = make_lattice(leaf())
    # Token 1 says the words 10 and 11, token 2 the word 20.
    words = [[10, 11] if token == 1 else [20] if token == 2 else [] for token in lattice.aux_labels.tolist()]
    lattice.aux_labels = k2.RaggedTensor(words)
    references = [[10, 11, 20], [20], [10]]
    found = lattice_mwer_loss(lattice, references, sampler=Exhaustive(), reduction="none")

    from tests import oracles

    log_probs = leaf().detach().double()
    topology = topologies.build("correct", 3)
    for row, length in enumerate(LENGTHS):
        outputs = list(oracles.readings(topology, length).by_output)
        spoken = [[word for token in output for word in ([10, 11] if token == 1 else [20])] for output in outputs]
        masses = torch.stack([oracles.log_mass(topology, log_probs[row, :length], output) for output in outputs])
        errors = torch.tensor([edit_distance(references[row], words) for words in spoken])
        assert float(found[row]) == pytest.approx(float((masses.exp() * errors).sum()), abs=1e-4)


def test_ragged_references_and_reductions() -> None:
    import k2

    lattice = make_lattice(leaf())
    options: dict[str, Any] = {"sampler": Exhaustive()}
    losses = lattice_mwer_loss(lattice, REFERENCES, reduction="none", **options)
    assert losses.shape == (3,)
    ragged = k2.RaggedTensor(REFERENCES)
    assert torch.equal(lattice_mwer_loss(lattice, ragged, reduction="none", **options), losses)
    assert float(lattice_mwer_loss(lattice, ragged, **options)) == pytest.approx(float(losses.sum()))
    mean = lattice_mwer_loss(lattice, ragged, reduction="mean", **options)
    assert float(mean) == pytest.approx(float(losses.mean()))


def test_the_arguments_of_k2_in_its_order() -> None:
    import inspect

    import k2

    theirs = list(inspect.signature(k2.mwer_loss).parameters)
    ours = list(inspect.signature(lattice_mwer_loss).parameters)
    assert ours[: len(theirs)] == theirs
    defaults = inspect.signature(k2.mwer_loss).parameters
    for name, parameter in inspect.signature(lattice_mwer_loss).parameters.items():
        if name in defaults:
            assert parameter.default == defaults[name].default, name


def test_single_alignments_of_many_paths_tend_to_k2s_value_only_where_each_sequence_has_one() -> None:
    import k2

    # Minimal has one path per sequence and segmentation; in one frame each sequence has one path, so k2 is exact.
    scores = random_log_probs(1, 2, 1, 4).float()
    lattice = make_lattice(scores, "minimal", lengths=[1, 1])
    ours = lattice_mwer_loss(lattice, [[1], [2]], 1.0, 2000, generator=torch.Generator().manual_seed(0))
    theirs = k2.mwer_loss(lattice, [[1], [2]], 1.0, 2000)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.parametrize("nbest_scale", [0.3, 1.0])
def test_the_callers_lattice_is_unchanged(nbest_scale: float) -> None:
    scores = leaf()
    lattice = make_lattice(scores)
    before = {key: value.clone() for key, value in lattice.as_dict().items() if isinstance(value, torch.Tensor)}
    names = set(vars(lattice)) | set(lattice.__dict__.get("_tensor_attr", {}))
    lattice_mwer_loss(lattice, REFERENCES, nbest_scale, 50).backward()
    with pytest.raises(ValueError, match="ref_texts"):
        lattice_mwer_loss(lattice, REFERENCES[:2], nbest_scale, 50)

    class Failing(RandomPaths):
        def draw(self, *arguments: Any) -> Any:
            super().draw(*arguments)
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        lattice_mwer_loss(lattice, REFERENCES, nbest_scale, sampler=Failing(5))
    for key, value in before.items():
        assert torch.equal(lattice.as_dict()[key], value), key
    assert set(vars(lattice)) | set(lattice.__dict__.get("_tensor_attr", {})) == names
    assert lattice.scores.requires_grad


def test_nbest_scale_plays_a_part_in_drawing_only() -> None:
    lattice = make_lattice(leaf())
    sharp, flat = (
        lattice_mwer_loss(
            lattice,
            REFERENCES,
            scale,
            6,
            generator=torch.Generator().manual_seed(1),
            return_diagnostics=True,
            reduction="none",
        )
        for scale in (5.0, 0.01)
    )
    assert flat[1].num_distinct.sum() > sharp[1].num_distinct.sum()
    everything = [lattice_mwer_loss(lattice, REFERENCES, scale, sampler=Exhaustive()) for scale in (0.1, 1.0)]
    assert torch.equal(*everything)


def test_an_empty_lattice_is_infinite_without_gradient_and_reported() -> None:
    import k2

    # Two frames hold no "1 blank 1", which is all the second graph reads.
    scores = leaf()
    from wfst_losses.backends.k2.convert import to_k2
    from wfst_losses.graphs.training import training_graphs

    batch = training_graphs(topologies.build("correct", 3), [np.array([1]), np.array([1, 1]), np.array([2])])
    graphs = k2.create_fsa_vec([to_k2(batch.graph(index)) for index in range(3)])
    supervisions = torch.tensor([[0, 0, 5], [1, 0, 2], [2, 0, 2]], dtype=torch.int32)
    lattice = k2.intersect_dense(graphs, k2.DenseFsaVec(scores, supervisions), 1e9)
    losses, diagnostics = lattice_mwer_loss(
        lattice, [[2], [1], [1, 2]], 1.0, 20, reduction="none", return_diagnostics=True
    )
    assert losses.tolist() == [1.0, torch.inf, 1.0]
    assert diagnostics.empty == (1,)
    assert diagnostics.single == (0, 2)
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    assert bool(gradient.isfinite().all())
    assert not gradient[1].any()
    module = LatticeMWERLoss()
    assert float(module(lattice, [[2], [1], [1, 2]])) == 2.0
    assert module.last_report.infinite == (1,)


def test_another_loss_of_the_same_batch_beside_it() -> None:
    references = [[1, 2], [2], [1, 1, 2]]  # the last is too long for its frames
    leaves = [leaf(), leaf()]
    module = LatticeMWERLoss(sampler=Exhaustive(), auxiliary=CTCLoss(), auxiliary_weight=0.25, reduction="none")
    batch = {"log_probs": leaves[0], "targets": references, "input_lengths": LENGTHS}
    found = module(make_lattice(leaves[0]), references, **batch)
    assert found[2] == torch.inf
    assert module.last_report.infinite == (2,)
    wanted = lattice_mwer_loss(make_lattice(leaves[1]), references, sampler=Exhaustive(), reduction="none")
    wanted = wanted[:2] + 0.25 * ctc_loss(leaves[1], references, LENGTHS)[:2]
    torch.testing.assert_close(found[:2], wanted)
    gradients = [
        torch.autograd.grad(losses.sum(), scores)[0] for losses, scores in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(*gradients)
    del batch["targets"]
    with pytest.raises(ValueError, match=r"targets is None and auxiliary is CTCLoss.*, expected all of them"):
        module(make_lattice(leaves[0]), references, **batch)
    with pytest.raises(ValueError, match=r"targets is None and auxiliary is None, expected all of them"):
        LatticeMWERLoss()(make_lattice(leaves[0]), references, **batch)


def test_the_sampled_estimator_is_the_mean_errors() -> None:
    lattice = make_lattice(leaf())
    losses, diagnostics = lattice_mwer_loss(
        lattice, REFERENCES, 1.0, 30, estimator="sampled", reduction="none", return_diagnostics=True
    )
    assert losses.tolist() == pytest.approx(diagnostics.expected_errors.tolist())
    with pytest.raises(ValueError, match=r"nbest_scale is 0\.5, expected 1 with estimator='sampled'"):
        lattice_mwer_loss(lattice, REFERENCES, estimator="sampled")


def test_a_lattice_out_of_order_is_sorted_first() -> None:
    import k2

    text = "0 2 1 0.0\n0 1 2 -1.0\n1 3 -1 0.0\n2 1 1 0.5\n3"
    fsa = k2.Fsa.from_str(text, acceptor=True)
    found = lattice_mwer_loss(k2.create_fsa_vec([fsa]), [[1, 1]], sampler=Exhaustive())
    # Paths: 1 1 with 0.5, 2 with -1.
    weight = 1 / (1 + np.exp(-1.5))
    assert float(found) == pytest.approx(float((1 - weight) * 2), abs=1e-6)


@pytest.mark.parametrize(
    ("ref_texts", "message"),
    [
        ([[1]], "ref_texts has 1 references but lattice has 3, expected as many"),
        ("abc", "ref_texts is 'abc', expected a list of lists or a k2.RaggedTensor"),
        (None, "ref_texts is None"),
        ([[1], [0], [2]], "ref_texts[1][0] is 0, expected a token >= 1"),
        ([[1], [2, -1], [2]], "ref_texts[1][1] is -1, expected a token >= 1"),
        ([[1], [0.5], [2]], "ref_texts[1] is [0.5], expected a sequence of integers"),
        ([[1], 7, [2]], "ref_texts[1] is 7, expected a sequence of integers"),
        ([[1], [2, True], [2]], "ref_texts[1] is [2, True], expected a sequence of integers: ref_texts[1][1] is True"),
        ([[1], [2, [1]], [2]], "ref_texts[1] is [2, [1]], expected a sequence of integers: ref_texts[1][1] is [1]"),
        ([[1], torch.tensor([2], device="meta"), [2]], "ref_texts[1] is a tensor on the meta device, expected a dense"),
        (torch.ones(3, 1, dtype=torch.int64, device="meta"), "ref_texts is a tensor on the meta device, expected"),
        (torch.ones(3, 1, dtype=torch.int64).to_sparse(), "ref_texts is a tensor of layout torch.sparse_coo and dtype"),
        ([[1], torch.ones(1, requires_grad=True), [2]], "ref_texts[1] is tensor([1.], requires_grad=True), expected"),
    ],
)
def test_bad_references(ref_texts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        lattice_mwer_loss(make_lattice(leaf()), ref_texts)


def test_bad_lattices() -> None:
    import k2

    with pytest.raises(ValueError, match=r"lattice is \[\], expected a k2\.Fsa with one graph per utterance"):
        lattice_mwer_loss([], [])
    single = k2.linear_fsa([1, 2])
    with pytest.raises(ValueError, match=r"lattice has shape .*, expected an FsaVec: one graph per utterance"):
        lattice_mwer_loss(single, [[1]])
    for arcs in ("0 1 1 0.0\n1 0 2 0.0", "0 1 1 0.0\n1 1 2 0.0", "0 0 1 0.0\n0 1 1 0.0", "0 1 1 0\n1 2 1 0\n2 1 1 0"):
        end = 1 + max(int(field) for line in arcs.split("\n") for field in line.split()[:2])
        text = f"{arcs}\n{end - 1} {end} -1 0.0\n{end}"
        cyclic = k2.create_fsa_vec([k2.Fsa.from_str(text, acceptor=True)])
        with pytest.raises(ValueError, match="lattice has a cycle, expected an acyclic lattice"):
            lattice_mwer_loss(cyclic, [[1]])


LABELS = {
    "fractions": (lambda _: torch.tensor([1.5, 2, -1]), "has dtype torch.float32, expected an integer dtype"),
    "truth values": (lambda _: torch.tensor([True, True, False]), "has dtype torch.bool, expected an integer dtype"),
    "beyond 32 bits": (lambda _: torch.tensor([1, 2**32 + 1, -1]), f"[1] is {2**32 + 1}, expected 31 bits at most"),
    "two dimensions": (lambda _: torch.tensor([[1], [2], [-1]]), "has shape (3, 1), expected (3,), one per arc"),
    "rows of fractions": (lambda k2: k2.RaggedTensor([[1.5], [2.0], [-1.0]]), "has 2 axes and dtype torch.float32"),
    "three axes": (lambda k2: k2.RaggedTensor([[[1]], [[2]], [[-1]]]), "has 3 axes and dtype torch.int32, expected 2"),
    "none": (lambda _: None, "is None, expected a torch.Tensor or a k2.RaggedTensor of integers"),
    "text": (lambda _: "abc", "is 'abc', expected a torch.Tensor or a k2.RaggedTensor of integers"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_are_none_are_refused(case: str) -> None:
    import k2

    make, message = LABELS[case]
    lattice = k2.create_fsa_vec([k2.Fsa.from_str("0 1 1 0\n0 1 2 0\n1 2 -1 0\n2")])
    lattice.aux_labels = make(k2)
    with pytest.raises(ValueError, match=re.escape(f"lattice.aux_labels{'' if message[0] == '[' else ' '}{message}")):
        lattice_mwer_loss(lattice, [[1]])


def test_scores_whose_sum_no_float_holds() -> None:
    import k2

    lattice = k2.create_fsa_vec([k2.Fsa.from_str("0 1 1 0\n0 1 2 0\n1 2 -1 0\n2", acceptor=True)])
    lattice.scores = torch.tensor([3e38, 3e38, 0.0])
    assert float(lattice_mwer_loss(lattice, [[1]], sampler=Exhaustive())) == pytest.approx(0.5)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    import k2

    lattice_mwer_loss(make_lattice(leaf()), REFERENCES, 1.0, 20)
    for arcs in ("0 1 1 0\n1 0 1 0\n1 3 -1 0", "0 1 1 0\n1 2 1 0\n2 1 1 0\n2 3 -1 0"):
        cyclic = k2.create_fsa_vec([k2.Fsa.from_str(f"{arcs}\n3", acceptor=True)])
        with pytest.raises(ValueError, match="lattice has a cycle"):
            lattice_mwer_loss(cyclic, [[1]])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_arcs_without_a_number_are_refused_left_out_or_on_no_path(value: float) -> None:
    options: dict[str, Any] = {"reduction": "none", "sampler": Exhaustive(), "return_diagnostics": "counts"}

    def loss(change: float | None, **more: Any) -> tuple[Any, Any, torch.Tensor]:
        scores = leaf()
        lattice = make_lattice(scores)
        if change is not None:
            arc = int(lattice.arcs.shape().row_splits(2)[lattice.arcs.shape().row_splits(1)[1].long()]) + 3
            lattice.scores = torch.where(torch.arange(lattice.num_arcs) == arc, change, lattice.scores)
        found, diagnostics = lattice_mwer_loss(lattice, REFERENCES, **options, **more)
        (gradient,) = torch.autograd.grad(found[found.isfinite()].sum(), scores)
        return found.detach(), diagnostics, gradient

    clean, _, slope = loss(None)
    with pytest.raises(ValueError, match=rf"lattice\.scores\[\d+\] is {value}"):
        loss(value)
    dropped, diagnostics, gradient = loss(value, nonfinite="drop")
    assert diagnostics.dropped == (1,)
    assert dropped.tolist() == [float(clean[0]), torch.inf, float(clean[2])]
    assert torch.equal(gradient[[0, 2]], slope[[0, 2]])
    assert not gradient[1].any()
    passed, without = loss(value, nonfinite="pass"), loss(-torch.inf)
    assert torch.equal(passed[0], without[0])
    assert float(passed[0][1]) != float(clean[1])
    assert torch.equal(passed[2], without[2])
