"""Decoding graphs, TLG or HLG: a topology composed with a determinised lexicon and grammar."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from topologies import EPSILON, AbstractTopology, Graph, compose_graph, without_epsilons
from topologies.topology import graph_of
from wfst_losses.graphs.determinisation import choose_engine, determinised_composition
from wfst_losses.graphs.language_model import BACKOFFS, LanguageModel
from wfst_losses.graphs.lexicon import Lexicon
from wfst_losses.graphs.lossless_compact import FORMS, lossless_compact
from wfst_losses.graphs.trimming import connected, empty_graph, sorted_arcs
from wfst_losses.validation import check_callable, check_choice, check_flag, check_instance

OnStage = Callable[[str, Graph], object]


@dataclasses.dataclass(frozen=True, eq=False)
class DecodingGraph:
    """A graph to decode with: reads labels, blank 0, and writes tokens or words.

    Attributes:
        graph: the transducer, virtual arcs and all.
        writes_words: output labels are ids of a words.txt; else tokens, by label.
    """

    graph: Graph
    writes_words: bool = False

    def __post_init__(self) -> None:
        check_instance("graph", self.graph, Graph, "a topologies.Graph")
        check_flag("writes_words", self.writes_words)


def decoding_graph(
    topology: AbstractTopology,
    language_model: LanguageModel | None = None,
    lexicon: Lexicon | None = None,
    *,
    backoff: str = "epsilon",
    engine: str = "auto",
    lossless: str | None = None,
    on_stage: OnStage | None = None,
) -> DecodingGraph:
    """The paths of a topology, weighted by a language model of its tokens or, with a lexicon, of words.

    ``topology o determinise(lexicon o grammar)``, disambiguation symbols removed, trimmed, arcs sorted. The score of
    a path is the model's score of what it writes, and in the log semiring the sum over the graph's paths that read one
    sequence and write another is what the definitions say: no epsilon is counted twice.

    Args:
        topology: a topology value, for as many labels as the lexicon has tokens.
        language_model: of words with a lexicon (labels are ids of ``lexicon.words``), else of tokens; every sequence
            scores 0 if left out.
        lexicon: words in tokens; the graph writes tokens if left out.
        backoff: "epsilon", as icefall and Kaldi, or "failure", exact; see `LanguageModel`.
        engine: "k2", "openfst" or "auto"; see `wfst_losses.graphs.determinisation`.
        lossless: "expanded" or "shared" for correct's paths by `lossless_compact` in place of the topology's graph.
        on_stage: told of every graph made on the way, by name: "lexicon", "grammar", "lexicon o grammar".

    Raises:
        ValueError: if labels or words do not fit together, or ``lossless`` goes with another topology than correct.
        ModuleNotFoundError: for an engine whose package is missing.
    """
    check_callable("on_stage", on_stage)
    check_sources(topology, language_model, lexicon, backoff=backoff, engine=engine, lossless=lossless)
    told = on_stage or (lambda _, __: None)
    grammar = None if language_model is None else language_model.graph(backoff)
    if lexicon is not None:
        grammar = lexicon_grammar(lexicon, grammar, engine, told)
        told("lexicon o grammar", grammar)
    elif grammar is not None:
        told("grammar", grammar)
    if grammar is None:
        return DecodingGraph(sorted_arcs(graph_of(topology)))
    if not (grammar.final_score > -np.inf).any():
        return DecodingGraph(empty_graph(), lexicon is not None)
    if lossless is not None:
        return DecodingGraph(lossless_compact(grammar, form=lossless), lexicon is not None)
    return DecodingGraph(sorted_arcs(compose_graph(graph_of(topology), grammar).batch.graph(0)), lexicon is not None)


def check_sources(
    topology: AbstractTopology,
    language_model: LanguageModel | None,
    lexicon: Lexicon | None,
    *,
    backoff: str,
    engine: str,
    lossless: str | None,
) -> None:
    """What a decoding graph is made of: each of its kind, and fitting together."""
    check_instance("topology", topology, AbstractTopology, "a topology value such as topologies.build('correct', 500)")
    check_choice("backoff", backoff, BACKOFFS)
    check_choice("lossless", lossless, (None, *FORMS))
    choose_engine(engine)
    if language_model is not None:
        check_instance("language_model", language_model, LanguageModel, "a LanguageModel or None")
    if lexicon is not None:
        check_instance("lexicon", lexicon, Lexicon, "a Lexicon or None")
    _check_fit(topology, language_model, lexicon, lossless)


def _check_fit(
    topology: AbstractTopology, language_model: LanguageModel | None, lexicon: Lexicon | None, lossless: str | None
) -> None:
    if lossless is not None and topology.name != "correct":
        raise ValueError(
            f"lossless is {lossless!r} with topology {topology.name!r}, expected 'correct': it is its form"
        )
    if lexicon is not None and lexicon.num_labels != topology.num_labels:
        raise ValueError(
            f"lexicon has {lexicon.num_labels} tokens, blank included, but topology has {topology.num_labels} labels; "
            "expected as many"
        )
    if language_model is not None:
        most, what = topology.num_labels, "topology"
        if lexicon is not None:
            most, what = len(lexicon.words), "lexicon (<eps> included)"
        if language_model.num_labels > most:
            raise ValueError(
                f"language_model has {language_model.num_labels} labels but {what} has {most}, expected no more"
            )
        read = np.unique(language_model.arcs.input_label)
        if np.any(read == 0):
            raise ValueError("language_model reads label 0, blank or <eps>; expected others only")
        if lexicon is not None:
            silent = np.setdiff1d(read, [EPSILON, *(word for word, _, _ in lexicon.entries)])
            if len(silent):
                word = lexicon.words[silent[0]]
                raise ValueError(
                    f"language_model reads word {word!r}, which has no pronunciation in lexicon; expected one"
                )


def lexicon_grammar(lexicon: Lexicon, grammar: Graph | None, engine: str, told: OnStage = lambda _, __: None) -> Graph:
    """Deterministic up to back-off: reads tokens, or nothing to back off, and writes words."""
    told("lexicon", lexicon.graph)
    if grammar is None:
        words = np.array(sorted({word for word, _, _ in lexicon.entries}), dtype=np.int32)
        root = np.zeros_like(words)
        grammar = Graph(root, root, words, words, np.zeros(len(words)), np.zeros(1))
    told("grammar", grammar)
    backoff = np.where(grammar.input_label == EPSILON, np.int32(len(lexicon.words)), grammar.input_label)
    grammar = dataclasses.replace(grammar, input_label=backoff)
    return unmarked(determinised_composition(lexicon.graph, grammar, engine), lexicon.num_labels)


def unmarked(graph: Graph, first_mark: int) -> Graph:
    """The graph without disambiguation symbols, labels from ``first_mark`` on.

    The first, back-off, becomes a virtual arc. The others end words: the arc before takes their place, unless both
    write a word; then it becomes a virtual arc too.
    """
    writes = graph.output_label != EPSILON
    after_writing = np.zeros(graph.num_states, dtype=bool)
    after_writing[graph.destination[writes]] = True
    removed = (graph.input_label > first_mark) & ~(writes & after_writing[graph.source])
    read = np.where(graph.input_label >= first_mark, EPSILON, graph.input_label)
    return connected(without_epsilons(dataclasses.replace(graph, input_label=read), removed))
