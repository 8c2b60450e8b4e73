"""Decoding finds the best path through any graph, whatever the network was trained with."""

from __future__ import annotations

import pytest
import torch

import topologies
from tests.graphs.test_decoding_graph import NAMES, NUM_LABELS, random_lexicon, random_model
from tests.oracles import walk
from tests.topologies.checks import random_log_probs
from wfst_losses import ctc_loss
from wfst_losses.decoding import decode, decode_nbest
from wfst_losses.graphs.decoding_graph import DecodingGraph, decoding_graph
from wfst_losses.graphs.lexicon import Lexicon

BACKENDS = ["native", "reference", pytest.param("k2", marks=pytest.mark.k2)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_best_path_by_enumeration(name: str, backend: str) -> None:
    made = decoding_graph(topologies.build(name, NUM_LABELS), random_model(1), random_lexicon(1), engine="openfst")
    log_probs = random_log_probs(3, 3, 4, NUM_LABELS)
    lengths = [3, 4, 2]
    found = decode(made, log_probs, lengths, backend=backend, search_beam=1e4, output_beam=1e3)
    for utterance, length in enumerate(lengths):
        rows = [
            (score + sum(float(log_probs[utterance, t, label]) for t, label in enumerate(labelling)), output)
            for labelling, output, score in walk(made.graph, length)
        ]
        score, output = max(rows)
        assert tuple(found.sequences[utterance]) == output
        assert float(found.scores[utterance]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_trained_with_selfless_decoded_with_minimal(backend: str) -> None:
    # Words a b, b a and a a b over frames that a linear network reads; selfless trains it, minimal decodes.
    lexicon = Lexicon(
        ("<blk>", "a", "b"), ("<eps>", "AB", "BA", "AAB"), ((1, (1, 2), 0), (2, (2, 1), 0), (3, (1, 1, 2), 0))
    )
    torch.manual_seed(0)
    prototypes = 2 * torch.randn(3, 8)
    spoken = [[1, 0, 2, 0, 2, 0, 1], [2, 0, 1, 0, 0, 1, 2], [1, 0, 1, 2, 0, 1, 2]]
    texts, words = [[1, 2, 2, 1], [2, 1, 1, 2], [1, 1, 2, 1, 2]], [[1, 2], [2, 1], [3, 1]]
    features = prototypes[torch.tensor(spoken)] + 0.1 * torch.randn(3, 7, 8)
    weight = torch.zeros(8, 3, requires_grad=True)
    optimiser = torch.optim.Adam([weight], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss = ctc_loss(features @ weight, texts, [7, 7, 7], topology="selfless", from_logits=True).sum()
        loss.backward()
        optimiser.step()
    assert float(loss) < 1.0
    graph = decoding_graph(topologies.build("minimal", 3), lexicon=lexicon, engine="openfst")
    found = decode(graph, (features @ weight).detach(), [7, 7, 7], backend=backend, from_logits=True)
    assert found.sequences == words
    several = decode_nbest(graph, (features @ weight).detach(), [7, 7, 7], 3, backend=backend, from_logits=True)
    assert [sequences[0] for sequences in several.sequences] == words
    for sequences, scores in zip(several.sequences, several.scores, strict=True):
        assert len({tuple(sequence) for sequence in sequences}) == len(sequences) == len(scores)
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_best_sequences_by_enumeration(name: str, backend: str) -> None:
    made = decoding_graph(topologies.build(name, NUM_LABELS), random_model(1), random_lexicon(1), engine="openfst")
    log_probs = random_log_probs(3, 3, 4, NUM_LABELS)
    lengths = [3, 4, 2]
    found = decode_nbest(made, log_probs, lengths, 4, backend=backend, search_beam=1e4, output_beam=1e3)
    for utterance, length in enumerate(lengths):
        best: dict[tuple[int, ...], float] = {}
        for labelling, output, score in walk(made.graph, length):
            total = score + sum(float(log_probs[utterance, t, label]) for t, label in enumerate(labelling))
            best[output] = max(total, best.get(output, -torch.inf))
        ranked = sorted(best, key=lambda output: -best[output])[:4]
        assert [tuple(sequence) for sequence in found.sequences[utterance]] == ranked
        assert found.scores[utterance].tolist() == pytest.approx([best[output] for output in ranked], abs=1e-4)
    one = decode(made, log_probs, lengths, backend=backend, search_beam=1e4, output_beam=1e3)
    assert [sequences[0] for sequences in found.sequences] == one.sequences


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_best_sequences_where_no_path_fits(backend: str) -> None:
    graph = decoding_graph(topologies.build("correct", 3))
    found = decode_nbest(graph, torch.zeros(2, 0, 3), [0, 0], 3, backend=backend)
    # Without frames the exact engines find the one path, of nothing; k2 reads frames only.
    assert found.sequences == ([[], []] if backend == "k2" else [[[]], [[]]])
    with pytest.raises(ValueError, match="num_paths is 0"):
        decode_nbest(graph, torch.zeros(2, 1, 3), [1, 1], 0, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_path_is_an_empty_sequence(backend: str) -> None:
    lexicon = Lexicon(("<blk>", "a"), ("<eps>", "A"), ((1, (1, 1, 1), 0),))
    graph = decoding_graph(topologies.build("minimal", 2), lexicon=lexicon, engine="openfst").graph
    # Only whole words end, and one of three tokens does not fit into frames that allow no blank.
    log_probs = torch.tensor([[-torch.inf, 0.0]]).repeat(2, 1)[None]
    found = decode(
        DecodingGraph(graph), log_probs.clamp(min=-1e30), [2], backend="native" if backend == "k2" else backend
    )
    assert float(found.scores[0]) < -1e29
    assert decode(DecodingGraph(graph), log_probs[:, :0], [0], backend=backend).sequences == [[]]


def test_bad_calls_are_refused() -> None:
    graph = decoding_graph(topologies.build("minimal", 5))
    with pytest.raises(ValueError, match="graph reads label 4 but log_probs has 3 columns"):
        decode(graph, random_log_probs(0, 1, 2, 3), [2])
    with pytest.raises(ValueError, match="backend is 'fast'"):
        decode(graph, random_log_probs(0, 1, 2, 5), [2], backend="fast")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_infinity_are_refused_left_out_or_read_by_no_path(backend: str, value: float) -> None:
    graph = decoding_graph(topologies.build("correct", 4))
    scores = random_log_probs(5, 3, 6, 4).float()
    lengths = [6, 5, 4]
    wanted = decode(graph, scores, lengths, backend=backend)
    spoilt, without = scores.clone(), scores.clone()
    # What the best path reads there, so that it has to go elsewhere.
    label = int(scores[1, 2].argmax())
    spoilt[1, 2, label], without[1, 2, label] = value, -torch.inf
    with pytest.raises(ValueError, match=rf"log_probs\[1, 2, {label}\] is {value}"):
        decode(graph, spoilt, lengths, backend=backend)
    dropped = decode(graph, spoilt, lengths, backend=backend, nonfinite="drop")
    assert dropped.sequences == [wanted.sequences[0], [], wanted.sequences[2]]
    assert dropped.scores.tolist() == [float(wanted.scores[0]), -torch.inf, float(wanted.scores[2])]
    passed, other = (decode(graph, given, lengths, backend=backend, nonfinite="pass") for given in (spoilt, without))
    assert passed.sequences == other.sequences
    assert torch.equal(passed.scores, other.scores)
    assert float(passed.scores[1]) < float(wanted.scores[1])
    several = decode_nbest(graph, spoilt, lengths, 2, backend=backend, nonfinite="drop")
    assert [len(rows) for rows in several.sequences] == [len(rows) for rows in several.scores] == [2, 0, 2]
    several = decode_nbest(graph, spoilt, lengths, 2, backend=backend, nonfinite="pass")
    assert [rows[0] for rows in several.sequences] == passed.sequences
