"""A small lang folder as icefall's scripts leave it: a lexicon with a word said in two ways, and optional silence."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from topologies import EPSILON, Graph
from wfst_losses.graphs.k2_format import to_k2_dict

TOKENS = ["<eps>", "SIL", "AH", "B", "K"]
WORDS = ["<eps>", "<UNK>", "ab", "back", "kb"]
PRONUNCIATIONS = {1: [([1], 0.0)], 2: [([2, 3], math.log(0.6)), ([2, 2, 3], math.log(0.4))], 3: [([3, 2, 4], 0.0)]}
PRONUNCIATIONS[4] = [([4, 3], 0.0)]
SILENCE, NO_SILENCE = math.log(0.3), math.log(0.7)


def words_to_tokens() -> Graph:
    """L inverted: words in, tokens out; silence may come first and after each word, as prepare_lang.py makes it."""
    arcs: list[tuple[int, int, int, int, float]] = [(0, 1, EPSILON, EPSILON, NO_SILENCE), (0, 1, EPSILON, 1, SILENCE)]
    num_states = 3  # the start, the loop, and the state before a silence
    arcs.append((2, 1, EPSILON, 1, 0.0))
    for word, ways in PRONUNCIATIONS.items():
        for tokens, score in ways:
            state = 1
            for position, token in enumerate(tokens):
                is_last = position == len(tokens) - 1
                label, weight = (word, score) if position == 0 else (EPSILON, 0.0)
                if is_last:
                    arcs.append((state, 1, label, token, weight + NO_SILENCE))
                    arcs.append((state, 2, label, token, weight + SILENCE))
                else:
                    arcs.append((state, num_states, label, token, weight))
                    state, num_states = num_states, num_states + 1
    columns = [np.array(column, dtype=np.int32) for column in list(zip(*arcs, strict=True))[:4]]
    final = np.full(num_states, -np.inf, dtype=np.float32)
    final[1] = 0.0
    return Graph(*columns, np.array([arc[4] for arc in arcs], dtype=np.float32), final, 0)


class SymbolTable:
    """What k2.SymbolTable offers."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.ids = list(range(len(names)))

    def __getitem__(self, key: int | str) -> int | str:
        return self.names[key] if isinstance(key, int) else self.names.index(key)

    def __contains__(self, key: int | str) -> bool:
        return key in (self.ids if isinstance(key, int) else self.names)


def k2_dict() -> dict[str, torch.Tensor]:
    """L_inv as k2 has it: epsilon is 0 on both sides."""
    graph = words_to_tokens()
    shifted = Graph(
        graph.source,
        graph.destination,
        np.where(graph.input_label == EPSILON, 0, graph.input_label).astype(np.int32),
        graph.output_label,
        graph.score,
        graph.final_score,
        graph.start,
    )
    return to_k2_dict(shifted)


def lexicon(words_to_tokens: Any = None) -> Any:
    """What icefall.lexicon.Lexicon offers; a real k2 graph may stand in for the dictionary."""
    inverse = words_to_tokens if words_to_tokens is not None else SimpleNamespace(as_dict=k2_dict)
    return SimpleNamespace(L_inv=inverse, word_table=SymbolTable(WORDS), tokens=list(range(1, len(TOKENS))))


def ways_to_say(words: list[int]) -> list[tuple[list[int], float]]:
    """Every token sequence of a word sequence with its weight, by recursion."""
    ways = [([], NO_SILENCE), ([1], SILENCE)]
    for word in words:
        ways = [
            (before + tokens + after, weight + score + more)
            for before, weight in ways
            for tokens, score in PRONUNCIATIONS[word]
            for after, more in (([], NO_SILENCE), ([1], SILENCE))
        ]
    return ways
