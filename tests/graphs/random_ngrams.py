"""Random ARPA models, and their scores by the textbook's recursion."""

from __future__ import annotations

import math

import numpy as np

NAMES = ["<blk>", "a", "b", "c"]
Words = tuple[str, ...]
Entries = dict[Words, tuple[float, float]]


def random_entries(seed: int, order: int) -> Entries:
    """N-grams with log10 probability and back-off, each history listed; some tokens are not listed at all."""
    random = np.random.default_rng(seed)
    entries: Entries = {("<s>",): (-99.0, random.uniform(-1, 0.3))}
    outcomes = ["a", "b", "c", "</s>"]
    for outcome in outcomes[int(random.integers(2)) :]:
        entries[outcome,] = random.uniform(-2, -0.1), random.uniform(-1, 0.3)
    for length in range(2, order + 1):
        for history in [words for words in entries if len(words) == length - 1 and words[-1] != "</s>"]:
            for outcome in outcomes:
                if random.random() < 0.4:
                    entries[(*history, outcome)] = random.uniform(-2, -0.1), random.uniform(-1, 0.3)
    return entries


def arpa_text(entries: Entries, order: int) -> str:
    lines = ["made by a test", "", "\\data\\"]
    by_order = [[words for words in entries if len(words) == length] for length in range(1, order + 1)]
    lines += [f"ngram {length}={len(listed)}" for length, listed in enumerate(by_order, start=1)]
    for length, listed in enumerate(by_order, start=1):
        lines += ["", f"\\{length}-grams:"]
        for words in listed:
            log_prob, backoff = entries[words]
            has_backoff = length < order and words[-1] != "</s>"
            lines.append(f"{log_prob!r}\t{' '.join(words)}" + (f"\t{backoff!r}" if has_backoff else ""))
    return "\n".join([*lines, "", "\\end\\", ""])


def failure_score(entries: Entries, order: int, words: Words) -> float:
    """Natural log; the back-off of a history that is not listed is 1."""

    def step(history: Words, word: str) -> float:
        if (*history, word) in entries:
            return entries[(*history, word)][0]
        if not history:
            return -math.inf
        backoff = entries[history][1] if history in entries else 0.0
        return backoff + step(history[1:], word)

    symbols = ("<s>", *words, "</s>")
    total = 0.0
    for place in range(1, len(symbols)):
        total += step(symbols[max(0, place - order + 1) : place], symbols[place])
    return total * math.log(10)
