"""N-grams as the arcs of a back-off model: what ARPA files and counts become."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np

from topologies import EPSILON, Graph

NGram: TypeAlias = tuple[int, ...]

START = -2
"""The start of a sequence, at the beginning of n-grams only."""
END = -3
"""The end of a sequence, at the end of n-grams only."""


@dataclasses.dataclass(frozen=True, eq=False)
class NGrams:
    """What an ARPA file says, in natural logs.

    Attributes:
        log_probs: of each listed n-gram's last token given those before.
        log_backoffs: of histories; 0 where left out.
    """

    log_probs: dict[NGram, float]
    log_backoffs: dict[NGram, float]

    def graph(self) -> Graph:
        """An acceptor whose states are the histories with a token listed after them, state 0 the empty one.

        A history without any is passed through at once: its back-off is part of the arc into it.
        """
        histories = [ngram[:-1] for ngram in self.log_probs]
        # The start's own back-off has no arc to be part of.
        first = [(START,)] if self.log_backoffs.get((START,)) else []
        number = {history: index for index, history in enumerate(dict.fromkeys([(), *first, *histories]))}
        final_score = np.full(len(number), -np.inf)
        arcs: list[tuple[int, int, int]] = []
        scores: list[float] = []
        for ngram, log_prob in self.log_probs.items():
            source, token = number[ngram[:-1]], ngram[-1]
            if token == END:
                final_score[source] = log_prob
                continue
            history, passed = self._state_after(ngram, number)
            arcs.append((source, number[history], token))
            scores.append(log_prob + passed)
        for history, source in number.items():
            if history:
                behind, passed = self._state_after(history[1:], number)
                arcs.append((source, number[behind], EPSILON))
                scores.append(self.log_backoffs.get(history, 0.0) + passed)
        columns = np.array(arcs, dtype=np.int32).reshape(-1, 3)
        source_column, destination, token_column = columns.T
        score = np.array(scores, dtype=np.float64)
        start = number.get((START,), 0)
        return Graph(source_column, destination, token_column, token_column, score, final_score, start)

    def _state_after(self, history: NGram, number: dict[NGram, int]) -> tuple[NGram, float]:
        """The longest end of a history that is a state, and the back-offs on the way to it."""
        passed = 0.0
        while history not in number:
            passed += self.log_backoffs.get(history, 0.0)
            history = history[1:]
        return history, passed
