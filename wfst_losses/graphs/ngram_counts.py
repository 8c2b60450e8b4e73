"""N-gram models estimated from token sequences, interpolated down to uniform."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from wfst_losses.graphs.ngrams import END, START, NGram, NGrams


def estimate(sequences: Iterable[Sequence[int]], tokens: Sequence[int], order: int, discounting: str) -> NGrams:
    """The model of an order from counts, sentence ends counted like a token.

    ``p(k|h) = (c(hk) - D) / n(h) + g(h) p(k|h')``, h' the history without its first token, below the empty
    history ``1 / V`` for V - 1 tokens and the end.

    - "absolute": ``n(h) = c(h)``, ``g(h) = D N(h) / c(h)``; ``D = n1 / (n1 + 2 n2)`` where n1 n-grams
      of the order were seen once and n2 twice; 1/2 where none was seen once: nothing would be
      left for what was never seen.
    - "witten_bell": ``D = 0``, ``n(h) = c(h) + N(h)``, ``g(h) = N(h) / n(h)``,

    with N(h) the number of distinct tokens after h. Histories begin with one start symbol, which is never predicted.

    Source: Ney, Essen and Kneser 1994; Witten and Bell 1991; as in Chen and Goodman 1998, interpolated.
    """
    outcomes = [*tokens, END]
    uniform = 1.0 / len(outcomes)
    probs: dict[NGram, float] = {}
    backoffs: dict[NGram, float] = {}
    for counts in _counts(sequences, order):
        discount = _discount(counts)
        after: dict[NGram, list[tuple[int, int]]] = defaultdict(list)
        for ngram, count in counts.items():
            after[ngram[:-1]].append((ngram[-1], count))
        for history, seen in after.items():
            total = sum(count for _, count in seen)
            lost, denominator = (discount, total) if discounting == "absolute" else (0.0, total + len(seen))
            rest = (discount if discounting == "absolute" else 1.0) * len(seen) / denominator
            if history:
                backoffs[history] = rest
            else:
                probs.update({(token,): rest * uniform for token in outcomes})
            for token, count in seen:
                lower = _prob((*history[1:], token), probs, backoffs) if history else uniform
                probs[(*history, token)] = (count - lost) / denominator + rest * lower
    if not probs:
        probs = {(token,): uniform for token in outcomes}
    return NGrams(
        {ngram: math.log(prob) for ngram, prob in probs.items()},
        {history: math.log(rest) for history, rest in backoffs.items()},
    )


def _counts(sequences: Iterable[Sequence[int]], order: int) -> list[Counter[NGram]]:
    """How often each n-gram occurs, shorter ones first."""
    counts: list[Counter[NGram]] = [Counter() for _ in range(order)]
    for sequence in sequences:
        symbols = (START, *sequence, END)
        for length in range(1, order + 1):
            # The start symbol is given, not predicted.
            for end in range(max(2, length), len(symbols) + 1):
                counts[length - 1][symbols[end - length : end]] += 1
    return counts


def _discount(counts: Counter[NGram]) -> float:
    num_once = sum(count == 1 for count in counts.values())
    num_twice = sum(count == 2 for count in counts.values())
    return num_once / (num_once + 2 * num_twice) if num_once else 0.5


def _prob(ngram: NGram, probs: dict[NGram, float], backoffs: dict[NGram, float]) -> float:
    """The probability of the last token given the others, backing off where it is not listed."""
    share = 1.0
    while ngram not in probs:
        share *= backoffs.get(ngram[:-1], 1.0)
        ngram = ngram[1:]
    return share * probs[ngram]
