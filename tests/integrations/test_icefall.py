"""The losses behind icefall's arguments, against the plain functions, enumeration and k2; icefall itself not needed."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import topologies
import wfst_losses
from wfst_losses import LanguageModel, RandomPaths
from wfst_losses.integrations import icefall
from wfst_losses.integrations.icefall import LexiconGraphCompiler, MMIGraphCompiler, TokenGraphCompiler
from wfst_losses.integrations.icefall.model_methods import split_targets

from .icefall_lang import lexicon, ways_to_say

NAMES = list(topologies.TOPOLOGIES)
SEGMENTS = torch.tensor([[1, 0, 9], [0, 2, 5], [2, 0, 0], [0, 0, 10]], dtype=torch.int32)
TEXTS = ["ab", "cc", "a", "abca"]


def spell(texts: list[str]) -> list[list[int]]:
    """At the module's top level, so that it pickles."""
    return [[" abcd".index(letter) for letter in text] for text in texts]


def output(seed: int = 0, *, requires_grad: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(3, 10, 5, generator=generator)).log_softmax(-1).requires_grad_(requires_grad)


def compiler(topology: str = "correct") -> TokenGraphCompiler:
    return TokenGraphCompiler(spell, 5, topology)


def bigram() -> LanguageModel:
    return LanguageModel.from_counts([[1, 2, 3, 1], [3, 3], [4, 1]], num_labels=5, order=2)


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "ctc": lambda out, t, **more: icefall.ctc_loss(out, compiler(t), **more),
    "mmi": lambda out, t, **more: icefall.mmi_loss(out, MMIGraphCompiler(compiler(t), bigram()), den_scale=0.9, **more),
    "mwer": lambda out, t, **more: icefall.mwer_loss(
        out, compiler(t), generator=torch.Generator().manual_seed(3), sampler=RandomPaths(8), **more
    ),
}
PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "ctc": wfst_losses.ctc_loss,
    "mmi": lambda *a, **more: wfst_losses.mmi_loss(*a, language_model=bigram(), den_scale=0.9, **more),
    "mwer": lambda *a, **more: wfst_losses.mwer_loss(
        *a, generator=torch.Generator().manual_seed(3), sampler=RandomPaths(8), baseline="none", **more
    ),
}


def utterances(log_probs: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The segments cut out by hand."""
    parts = [log_probs[i, start : start + frames] for i, start, frames in SEGMENTS.tolist()]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), [len(part) for part in parts]


@pytest.mark.parametrize("topology", NAMES)
@pytest.mark.parametrize("name", LOSSES)
def test_conventions_1_and_3_sums_in_the_caller_s_order(name: str, topology: str) -> None:
    log_probs, again = output(), output()
    losses = LOSSES[name]((log_probs, SEGMENTS), topology, texts=TEXTS, reduction="none")
    plain = PLAIN[name](utterances(again)[0], spell(TEXTS), utterances(again)[1], topology=topology)
    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-5)
    assert losses.isinf().tolist() == [False, False, name != "mwer", False]
    by_ids = LOSSES[name]((log_probs, SEGMENTS), topology, token_ids=spell(TEXTS))
    finite = losses[losses.isfinite()]
    torch.testing.assert_close(by_ids, finite.sum())
    (gradient,) = torch.autograd.grad(by_ids, log_probs)
    (wanted,) = torch.autograd.grad(plain[plain.isfinite()].sum(), again)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)
    mean = LOSSES[name]((log_probs, SEGMENTS), topology, texts=TEXTS, reduction="mean")
    torch.testing.assert_close(mean, finite.mean())


@pytest.mark.parametrize("name", LOSSES)
def test_convention_2_requires_grad_is_is_training(name: str) -> None:
    for is_training in (True, False):
        with torch.set_grad_enabled(is_training):
            loss = LOSSES[name]((output() * 1.0, SEGMENTS), "correct", texts=TEXTS)
        assert loss.requires_grad == is_training
    with torch.inference_mode():
        assert not LOSSES[name]((output(requires_grad=False), SEGMENTS), "correct", texts=TEXTS).requires_grad


@pytest.mark.parametrize("name", LOSSES)
def test_convention_3_any_float_comes_in(name: str) -> None:
    wanted = LOSSES[name]((output(), SEGMENTS), "correct", texts=TEXTS)
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.05)):
        log_probs = output().detach().to(dtype).requires_grad_()
        loss = LOSSES[name]((log_probs, SEGMENTS), "correct", texts=TEXTS)
        torch.testing.assert_close(loss.float(), wanted.float(), rtol=tolerance, atol=tolerance)
        loss.backward()
        assert log_probs.grad is not None
        assert log_probs.grad.dtype == dtype


@pytest.mark.parametrize("name", LOSSES)
def test_convention_4_a_batch_without_a_finite_utterance_stays_attached(name: str) -> None:
    log_probs = output()
    segments = torch.tensor([[0, 0, 2], [1, 0, 0]])
    if name == "mwer":  # errors of a reference that is too long are finite: no hypothesis at all is what is not
        log_probs = torch.full((3, 10, 5), -torch.inf).requires_grad_()
        loss = LOSSES[name]((log_probs, segments), "correct", texts=["abc", "a"], check_normalised=False)
        loss.backward()
        assert log_probs.grad is not None
        return
    losses = LOSSES[name]((log_probs, segments), "correct", texts=["abc", "a"], reduction="none")
    assert icefall.metrics("loss", losses) == {"loss": 0.0, "loss_num_infinite": 2.0}
    loss = LOSSES[name]((log_probs, segments), "correct", texts=["abc", "a"])
    assert loss.item() == 0.0
    loss.backward()
    assert log_probs.grad is not None
    assert (log_probs.grad == 0).all()


def test_convention_4_metrics_have_the_same_keys_everywhere() -> None:
    some, none = torch.tensor([1.0, torch.inf]), torch.tensor([torch.inf, torch.inf])
    assert list(icefall.metrics("mwer_loss", some)) == list(icefall.metrics("mwer_loss", none))
    assert icefall.metrics("mwer_loss", some) == {"mwer_loss": 1.0, "mwer_loss_num_infinite": 1.0}
    with pytest.raises(ValueError, match="expected one without 'utt_'"):
        icefall.metrics("utt_loss", some)


@pytest.mark.parametrize("topology", NAMES)
def test_convention_5_compilers_pickle_and_deep_copy(topology: str) -> None:
    wanted = LOSSES["mmi"]((output(), SEGMENTS), topology, texts=TEXTS)
    made = MMIGraphCompiler(compiler(topology), bigram())
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 (our own)
        loss = icefall.mmi_loss((output(), SEGMENTS), copied, texts=TEXTS, den_scale=0.9)
        assert torch.equal(loss, wanted)
    words = pickle.loads(pickle.dumps(LexiconGraphCompiler(lexicon(), topology)))  # noqa: S301
    assert words.texts_to_ids(["back ab what"]) == [[3, 2, 1]]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("topology", NAMES)
def test_a_lexicon_s_pronunciations_silences_and_weights_all_count(topology: str, backend: str) -> None:
    texts = ["ab kb", "", "back what"]
    log_probs = output().double()
    segments = torch.tensor([[0, 0, 10], [1, 0, 4], [2, 0, 9]])
    made = LexiconGraphCompiler(lexicon(), topology)
    losses = icefall.ctc_loss((log_probs, segments), made, texts=texts, reduction="none", backend=backend)
    for index, words in enumerate(made.texts_to_ids(texts)):
        ways = ways_to_say(words)
        frames = [int(segments[index, 2])] * len(ways)
        rows = log_probs[index : index + 1].expand(len(ways), -1, -1)
        each = wfst_losses.ctc_loss(rows, [tokens for tokens, _ in ways], frames, topology=topology)
        wanted = -torch.logsumexp(torch.tensor([weight for _, weight in ways]) - each, dim=0)
        assert losses[index].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_mmi_over_a_lexicon_is_the_share_of_all_token_sequences() -> None:
    made = MMIGraphCompiler(LexiconGraphCompiler(lexicon(), "compact"), bigram())
    log_probs = output().double()
    loss = icefall.mmi_loss((log_probs[:1], torch.tensor([[0, 0, 6]])), made, texts=["kb"])
    ways = ways_to_say([4])
    rows = log_probs[:1].expand(len(ways), -1, -1)
    each = wfst_losses.mmi_loss(
        rows, [tokens for tokens, _ in ways], [6] * len(ways), language_model=bigram(), topology="compact"
    )
    weights = torch.tensor([weight for _, weight in ways])
    torch.testing.assert_close(loss, -torch.logsumexp(weights - each, dim=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("topology", NAMES)
def test_zipformer_s_methods(topology: str) -> None:
    log_probs, lengths = output(), torch.tensor([10, 4, 7])
    ids = [[1, 2, 2], [], [3]]
    targets, target_lengths = torch.tensor([1, 2, 2, 3]), torch.tensor([3, 0, 1])
    arguments = (log_probs, lengths, targets, target_lengths)
    methods = {
        "ctc": icefall.forward_ctc(*arguments, topology=topology),
        "mmi": icefall.forward_mmi(*arguments, topology=topology, language_model=bigram(), den_scale=0.9),
        "mwer": icefall.forward_mwer(
            *arguments, topology=topology, sampler=RandomPaths(8), generator=torch.Generator().manual_seed(3)
        ),
    }
    for name, loss in methods.items():
        plain = PLAIN[name](log_probs, ids, lengths, topology=topology)
        torch.testing.assert_close(loss, plain[plain.isfinite()].sum())
        assert loss.requires_grad
    with pytest.raises(ValueError, match=r"target_lengths sum to 3, expected 4"):
        split_targets(targets, [3, 0])
    with pytest.raises(ValueError, match="expected the concatenated targets"):
        split_targets(targets[None], [4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": [[1]]}, "texts and token_ids are both given"),
        ({"texts": None}, "both None"),
        ({"texts": ["a"]}, "texts has 1 entries but dense_fsa_vec 4 segments"),
        ({"texts": None, "token_ids": [[1], [9], [1], [1]]}, r"targets\[1\]\[0\] is 9"),
        ({"texts": ["a", [1], "a", "a"]}, r"texts holds \[1\] among texts"),
        ({"out": output()}, "dense_fsa_vec is a tensor, expected"),
        ({"out": (output(),)}, "dense_fsa_vec has 1 parts"),
        ({"out": (output(), SEGMENTS.float())}, "supervision_segments has shape"),
        ({"out": (output()[:, :, :4], SEGMENTS)}, "graph_compiler has 5 labels but the network 4"),
        ({"reduction": "average"}, "reduction is 'average'"),
    ],
)
def test_bad_calls(change: dict[str, Any], message: str) -> None:
    arguments = {"out": (output(), SEGMENTS), "t": "correct", "texts": TEXTS, **change}
    with pytest.raises(ValueError, match=message):
        LOSSES["ctc"](**arguments)


def test_bad_compilers() -> None:
    with pytest.raises(ValueError, match="expected an MMIGraphCompiler"):
        icefall.mmi_loss((output(), SEGMENTS), compiler(), texts=TEXTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="graph_compiler writes words: give decoding_graph"):
        icefall.mwer_loss((output(), SEGMENTS), LexiconGraphCompiler(lexicon()), texts=TEXTS)
    with pytest.raises(ValueError, match="oov is '<OOV>', expected a word of the lexicon"):
        LexiconGraphCompiler(lexicon(), oov="<OOV>")
    with pytest.raises(ValueError, match="topology has 4 labels but num_labels is 5"):
        TokenGraphCompiler(spell, 5, topologies.build("compact", 4))


@pytest.mark.k2
class TestWithK2:
    """The same through k2's own types."""

    @staticmethod
    def dense(log_probs: torch.Tensor, segments: torch.Tensor = SEGMENTS[[3, 0, 1]]) -> Any:
        import k2

        return k2.DenseFsaVec(log_probs, segments, allow_truncate=3)

    @pytest.mark.parametrize("topology", NAMES)
    @pytest.mark.parametrize("name", LOSSES)
    def test_a_dense_fsa_vec_is_output_and_segments(self, name: str, topology: str) -> None:
        texts = [TEXTS[i] for i in (3, 0, 1)]
        found, wanted = output(), output()
        loss = LOSSES[name](self.dense(found), topology, texts=texts)
        other = LOSSES[name]((wanted, SEGMENTS[[3, 0, 1]]), topology, texts=texts)
        torch.testing.assert_close(loss, other)
        (gradient,) = torch.autograd.grad(loss, found)
        (other_gradient,) = torch.autograd.grad(other, wanted)
        torch.testing.assert_close(gradient, other_gradient)

    @pytest.mark.parametrize("topology", NAMES)
    def test_compiled_graphs_are_what_k2_ctc_loss_takes(self, topology: str) -> None:
        import k2

        for made, texts in (
            (compiler(topology), [TEXTS[i] for i in (3, 0, 1)]),
            (LexiconGraphCompiler(lexicon(), topology), ["ab kb", "back", "kb"]),
        ):
            log_probs = output()
            by_k2 = k2.ctc_loss(made.compile(texts), self.dense(log_probs), output_beam=1e9, reduction="none")
            exact = icefall.ctc_loss(self.dense(log_probs), made, texts=texts, reduction="none")
            torch.testing.assert_close(exact, by_k2.to(exact), rtol=1e-4, atol=1e-4)
            ids = made.texts_to_ids(texts)
            torch.testing.assert_close(made.compile(ids).num_arcs, made.compile(texts).num_arcs)

    @pytest.mark.parametrize("topology", NAMES)
    @pytest.mark.parametrize("replicate", [True, False])
    def test_mmi_graphs_give_the_loss_by_k2(self, topology: str, replicate: bool) -> None:
        import k2

        texts = [TEXTS[i] for i in (3, 0, 1)]
        made = MMIGraphCompiler(compiler(topology), bigram())
        numerators, denominators = made.compile(texts, replicate_den=replicate)
        assert denominators.shape[0] == (3 if replicate else 1)
        dense = self.dense(output())
        if not replicate:
            denominators = k2.index_fsa(denominators, torch.zeros(3, dtype=torch.int32))
        totals = [
            k2.intersect_dense(graphs, dense, output_beam=1e9).get_tot_scores(use_double_scores=True, log_semiring=True)
            for graphs in (numerators, denominators)
        ]
        loss = icefall.mmi_loss(dense, made, texts=texts, reduction="none")
        torch.testing.assert_close(loss, (totals[1] - totals[0]).to(loss), rtol=1e-4, atol=1e-4)

    def test_lattices_come_back_in_the_caller_s_order(self) -> None:
        graph = icefall.DecodingGraph(topologies.build("correct", 5), search_beam=100.0, output_beam=100.0)
        options = {"decoding_graph": graph, "reduction": "none", "sampler": wfst_losses.Exhaustive()}
        short = SEGMENTS.clone()
        short[:, 2] = torch.tensor([4, 3, 0, 2])
        log_probs = output()
        losses = icefall.mwer_loss((log_probs, short), compiler(), texts=TEXTS, **options)
        assert losses.isinf().tolist() == [False, False, True, False]
        order = [3, 2, 0, 1]
        others = icefall.mwer_loss((log_probs, short[order]), compiler(), texts=[TEXTS[i] for i in order], **options)
        torch.testing.assert_close(others, losses[order])
        rows, lengths = utterances(log_probs)[0], short[:, 2].tolist()
        exact = wfst_losses.mwer_loss(rows, spell(TEXTS), lengths, sampler=wfst_losses.Exhaustive(), baseline="none")
        torch.testing.assert_close(losses[[0, 1, 3]], exact[[0, 1, 3]], rtol=1e-3, atol=1e-3)
        losses[losses.isfinite()].sum().backward()
        assert log_probs.grad is not None
        assert log_probs.grad.isfinite().all()
        assert log_probs.grad.abs().sum() > 0

    def test_convention_2_inference_mode_is_refused_by_name(self) -> None:
        graph = icefall.DecodingGraph(topologies.build("correct", 5))
        with torch.inference_mode(), pytest.raises(ValueError, match=r"torch.inference_mode\(\): use torch.no_grad"):
            icefall.mwer_loss((output(requires_grad=False), SEGMENTS), compiler(), texts=TEXTS, decoding_graph=graph)

    def test_convention_5_models_hold_decoding_graphs(self, tmp_path: Path) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), icefall.DecodingGraph(topologies.build("compact", 5)))
        assert set(model.state_dict()) == {"0.weight", "0.bias"}
        file = io.BytesIO()
        torch.save({"model": model, "params": {"HLG": model[1]}}, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)

        def loss_of(graph: icefall.DecodingGraph) -> torch.Tensor:
            options = {"decoding_graph": graph, "generator": torch.Generator().manual_seed(0)}
            return icefall.mwer_loss((output(), SEGMENTS), compiler(), texts=TEXTS, **options)

        wanted = loss_of(model[1])
        for copied in (loaded["model"], copy.deepcopy(model), model.to("cpu").double()):
            assert copied[1].beams == model[1].beams
            torch.testing.assert_close(loss_of(copied[1]), wanted)
        ragged = icefall.DecodingGraph(self.ragged())
        assert pickle.loads(pickle.dumps(ragged)).fsa.aux_labels.tolist() == ragged.fsa.aux_labels.tolist()  # noqa: S301
        assert copy.deepcopy(ragged).fsa.num_arcs == ragged.fsa.num_arcs

    @staticmethod
    def ragged() -> Any:
        """A topology that writes two words for one token, as HLG may."""
        import k2

        graph = icefall.DecodingGraph(topologies.build("minimal", 5)).fsa
        written = [[] if label <= 0 else [label] * 2 for label in graph.labels.tolist()]
        graph.aux_labels = k2.RaggedTensor(written)
        return graph

    def test_convention_6_a_caller_s_graph_is_left_as_it_is(self) -> None:
        graph = icefall.DecodingGraph(topologies.build("correct", 5)).fsa
        labels, scores = graph.labels.clone(), graph.scores.clone()
        log_probs = output()
        icefall.mwer_loss((log_probs, SEGMENTS), compiler(), texts=TEXTS, decoding_graph=graph).backward()
        assert torch.equal(graph.labels, labels)
        assert torch.equal(graph.scores, scores)
        assert not graph.requires_grad

    def test_a_graph_of_other_labels_is_refused_before_k2_reads_beyond_the_scores(self) -> None:
        graph = icefall.DecodingGraph(topologies.build("correct", 7))
        with pytest.raises(ValueError, match=r"decoding_graph reads label 6 but there are 5, expected 0\.\.4"):
            icefall.mwer_loss((output(), SEGMENTS), compiler(), texts=TEXTS, decoding_graph=graph)
        with pytest.raises(ValueError, match=r"graph is a str, expected a k2\.Fsa"):
            icefall.DecodingGraph("HLG.pt")  # type: ignore[arg-type]
