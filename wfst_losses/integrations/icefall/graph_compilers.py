"""Graph compilers with icefall's methods, ``compile(texts)`` and ``texts_to_ids(texts)``, for every topology.

They hold numbers alone, no k2 graph: they pickle, deep-copy and spawn as they are.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from topologies import EPSILON, AbstractTopology, Graph, GraphBatch, build, compose, without_epsilons
from topologies.batch import chains
from topologies.topology import graph_of
from wfst_losses.graphs.denominator import denominator
from wfst_losses.graphs.k2_format import from_k2_dict
from wfst_losses.graphs.language_model import BACKOFFS, LanguageModel, check_language_model
from wfst_losses.graphs.training import training_graphs
from wfst_losses.validation import TokenSequence, check_callable, check_choice, check_instance, check_targets, shown

if TYPE_CHECKING:
    from k2 import Fsa

TextsOrIds = Sequence[str] | Sequence[Sequence[int]]


class AbstractGraphCompiler(abc.ABC):
    """What the losses of this package and icefall's own training code ask of a graph compiler.

    Attributes:
        topology: the rule from frames to tokens.
        device: of the k2 graphs that `compile` makes.
    """

    topology: AbstractTopology
    device: torch.device

    @abc.abstractmethod
    def texts_to_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """What references are written in: tokens, or words where there is a lexicon."""

    @abc.abstractmethod
    def transcripts(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """Of each text the token sequences that say it, with what `texts_to_ids` gives as output."""

    def graphs(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """Of each text the topology's paths that say it: ``compile`` before k2."""
        return compose(graph_of(self.topology), self.transcripts(texts_or_ids))

    def compile(self, texts: TextsOrIds) -> Fsa:
        """A decoding graph for each text as a k2 FsaVec, what ``k2.ctc_loss`` takes. Virtual arcs are removed, exactly.

        Texts, or the ids of `texts_to_ids`: icefall's recipes pass the one or the other.
        """
        from wfst_losses.backends.k2.convert import to_k2_vec

        return to_k2_vec(self.graphs(texts), self.device)


class TokenGraphCompiler(AbstractGraphCompiler):
    """As icefall's ``BpeCtcTrainingGraphCompiler`` and ``CharCtcTrainingGraphCompiler``, under any topology.

    Args:
        texts_to_ids: tokens of each text: ``sp.encode`` of a sentencepiece processor, or an icefall compiler's method.
        num_labels: V of the network, blank included.
        topology: a name or a topology value.
        device: of the k2 graphs.

    >>> compiler = TokenGraphCompiler(lambda texts: [[1, 2] for _ in texts], num_labels=3, topology="compact")
    >>> compiler.texts_to_ids(["ab"])
    [[1, 2]]
    """

    def __init__(
        self,
        texts_to_ids: Callable[[list[str]], Sequence[Sequence[int]]],
        num_labels: int,
        topology: str | AbstractTopology = "correct",
        device: torch.device | str = "cpu",
    ) -> None:
        check_callable("texts_to_ids", texts_to_ids, or_none=False)
        self.topology = _topology(topology, num_labels)
        self.device = _device(device)
        self._texts_to_ids = texts_to_ids

    def texts_to_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens."""
        return [list(map(int, ids)) for ids in self._texts_to_ids(list(texts))]

    def transcripts(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """One sequence each."""
        return chains(self._sequences(texts_or_ids))

    def graphs(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """As above, at a cost that depends on the texts and not on the number of labels."""
        return training_graphs(self.topology, self._sequences(texts_or_ids))

    def _sequences(self, texts_or_ids: TextsOrIds) -> list[TokenSequence]:
        ids = _ids(texts_or_ids, self.texts_to_ids)
        return check_targets(ids, None, len(ids), self.topology.num_labels, 0)


class LexiconGraphCompiler(AbstractGraphCompiler):
    """As icefall's ``CtcTrainingGraphCompiler``, under any topology.

    All pronunciations count, and optional silence, with their weights.

    Args:
        lexicon: an ``icefall.lexicon.Lexicon``; its ``L_inv`` and ``word_table`` are read, and nothing is changed.
        topology: a name or a topology value.
        oov: the word that stands for those the lexicon lacks.
        device: of the k2 graphs.
        num_labels: V of the network; the lexicon's highest token + 1 where left out, as icefall's recipes size it.
    """

    def __init__(
        self,
        lexicon: Any,
        topology: str | AbstractTopology = "correct",
        oov: str = "<UNK>",
        device: torch.device | str = "cpu",
        num_labels: int | None = None,
    ) -> None:
        self.topology = _topology(topology, max(lexicon.tokens) + 1 if num_labels is None else num_labels)
        self.device = _device(device)
        self.word_of = {lexicon.word_table[i]: int(i) for i in lexicon.word_table.ids}
        if oov not in self.word_of:
            raise ValueError(f"oov is {oov!r}, expected a word of the lexicon")
        self.oov_id = self.word_of[oov]
        self.pronunciations = _read_lexicon(lexicon.L_inv)

    def texts_to_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Words."""
        return [[self.word_of.get(word, self.oov_id) for word in text.split()] for text in texts]

    def transcripts(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """All ways to pronounce a text: tokens in, words out."""
        ids = _ids(texts_or_ids, self.texts_to_ids)
        return compose(self.pronunciations, chains([np.asarray(row, dtype=np.int64) for row in ids]))


class MMIGraphCompiler(AbstractGraphCompiler):
    """As icefall's ``MmiTrainingGraphCompiler``: numerators and the denominator, under any topology.

    The language model is over the network's tokens: what icefall calls P. Both graphs weigh by it: the loss is the
    negative log of the text's share.

    Args:
        compiler: which texts, tokens and topology.
        language_model: such as ``LanguageModel.from_arpa(arpa, lang_dir / "tokens.txt")``.
        backoff: "failure", exact, or "epsilon", icefall's.
    """

    def __init__(
        self, compiler: AbstractGraphCompiler, language_model: LanguageModel, backoff: str = "failure"
    ) -> None:
        check_instance("compiler", compiler, AbstractGraphCompiler, "a graph compiler of this package")
        check_language_model(language_model, compiler.topology.num_labels)
        check_choice("backoff", backoff, BACKOFFS)
        self.compiler, self.language_model, self.backoff = compiler, language_model, backoff
        self.topology, self.device = compiler.topology, compiler.device

    def texts_to_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Those of the compiler."""
        return self.compiler.texts_to_ids(texts)

    def transcripts(self, texts_or_ids: TextsOrIds) -> GraphBatch:
        """Of each text the token sequences that say it, weighed by the language model."""
        return compose(
            _writing_tokens(self.language_model.graph(self.backoff)), self.compiler.transcripts(texts_or_ids)
        )

    def denominator(self) -> GraphBatch:
        """The topology's paths, weighed by the language model: a batch of one."""
        return denominator(self.topology, self.language_model, backoff=self.backoff)

    def compile(self, texts: TextsOrIds, replicate_den: bool = True) -> tuple[Fsa, Fsa]:
        """Numerators and denominators for icefall's ``LFMMILoss``; one denominator alone on request."""
        from wfst_losses.backends.k2.convert import to_k2_vec

        numerators = to_k2_vec(self.graphs(texts), self.device)
        whole = GraphBatch.from_graphs([without_epsilons(self.denominator().graph(0))])
        return numerators, to_k2_vec(whole.repeated(len(texts)) if replicate_den else whole, self.device)


def _device(device: object) -> torch.device:
    try:
        return torch.device(device)  # type: ignore[arg-type, call-overload, no-any-return, unused-ignore]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {shown(device)}, expected one of torch's ({error!s:.80})") from None


def _topology(topology: str | AbstractTopology, num_labels: int) -> AbstractTopology:
    if isinstance(topology, str):
        return build(topology, num_labels)
    check_instance("topology", topology, AbstractTopology, "a name or a topology value")
    if topology.num_labels != num_labels:
        raise ValueError(f"topology has {topology.num_labels} labels but num_labels is {num_labels}, expected as many")
    # A graph that is not what it must be is refused here, not at the first batch.
    training_graphs(topology, [np.arange(1, min(num_labels, 2))])
    return topology


def _ids(texts_or_ids: TextsOrIds, texts_to_ids: Callable[[list[str]], list[list[int]]]) -> list[list[int]]:
    if not hasattr(texts_or_ids, "tolist") and (
        not isinstance(texts_or_ids, Sequence) or isinstance(texts_or_ids, str)
    ):
        raise ValueError(f"texts_or_ids is {shown(texts_or_ids)}, expected a list of texts or of lists of ids")
    rows: list[Any] = texts_or_ids.tolist() if hasattr(texts_or_ids, "tolist") else list(texts_or_ids)
    are_texts = [isinstance(row, str) for row in rows]
    if any(are_texts) and not all(are_texts):
        raise ValueError(
            f"texts holds {rows[are_texts.index(False)]!r:.80} among texts, expected texts or lists of ids"
        )
    return texts_to_ids(rows) if rows and are_texts[0] else rows


def _read_lexicon(words_to_tokens: Any) -> Graph:
    """Icefall's L_inv as a transducer from tokens to words; 0 is epsilon on both sides there."""
    content = {name: value for name, value in words_to_tokens.as_dict().items() if name in ("arcs", "aux_labels")}
    content = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in content.items()}
    graph = from_k2_dict(content, "lexicon.L_inv")
    word = np.where(graph.input_label == 0, EPSILON, graph.input_label).astype(np.int32)
    return dataclasses.replace(graph, input_label=graph.output_label, output_label=word)


def _writing_tokens(model: Graph) -> Graph:
    """An acceptor as the transducer that writes what it reads."""
    return dataclasses.replace(model, output_label=model.input_label)
