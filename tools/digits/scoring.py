"""Word error rates, and bootstrap intervals whose unit is the recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import kaldialign
import numpy as np

NOTHING = "*"


def word_error_rate(references: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return errors by kind, reference words and the rate in percent, over all utterances together."""
    totals = {"ins": 0, "del": 0, "sub": 0}
    num_words = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        words = reference.split()
        counts = kaldialign.edit_distance(words, list(hypothesis))
        num_words += len(words)
        for kind in totals:
            totals[kind] += int(counts[kind])
    errors = sum(totals.values())
    return {"wer": 100.0 * errors / max(1, num_words), "errors": errors, "words": num_words, **totals}


def errors_by_word(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int]:
    """Charge every error of the best alignment to a reference word: an insertion to the word before it."""
    charged = [0] * len(reference)
    position = -1
    for expected, got in kaldialign.align(list(reference), list(hypothesis), NOTHING):
        if expected != NOTHING:
            position += 1
        if expected != got and charged:
            charged[max(0, position)] += 1
    return charged


def confusions(references: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> list[tuple[str, str, int]]:
    """Return what was said, what was heard instead and how often, most frequent first; `NOTHING` for neither."""
    counts: Counter[tuple[str, str]] = Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        pairs = kaldialign.align(reference.split(), list(hypothesis), NOTHING)
        counts.update((expected, got) for expected, got in pairs if expected != got)
    return [(*pair, number) for pair, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def errors_by_recording(
    references: Sequence[str], recordings: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> dict[str, tuple[int, int]]:
    """Return errors and occurrences of each recording over all the strings and noise draws it is part of."""
    counts: dict[str, tuple[int, int]] = {}
    for reference, names, hypothesis in zip(references, recordings, hypotheses, strict=True):
        for name, errors in zip(names, errors_by_word(reference.split(), hypothesis), strict=True):
            before = counts.get(name, (0, 0))
            counts[name] = (before[0] + errors, before[1] + 1)
    return counts


def paired_bootstrap(
    first: dict[str, tuple[int, int]],
    second: dict[str, tuple[int, int]],
    num_replications: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """Return 95 % intervals of the difference and of the relative reduction from first to second.

    Recordings are drawn with replacement, the same ones for both systems (Bisani and Ney 2004, with the recording
    in place of the utterance, since one recording is heard in many strings and noise draws).
    """
    names = sorted(first)
    errors = np.array([[system[name][0] for name in names] for system in (first, second)], dtype=np.float64)
    words = np.array([first[name][1] for name in names], dtype=np.float64)
    rng = np.random.default_rng(seed)
    rates = np.empty((num_replications, 2))
    for replication in range(num_replications):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        rates[replication] = 100 * (errors @ times) / (words @ times)
    difference = rates[:, 0] - rates[:, 1]
    relative = 100 * difference / np.maximum(rates[:, 0], 1e-9)
    return {
        "difference": float(100 * (errors[0].sum() - errors[1].sum()) / words.sum()),
        "difference_low": float(np.quantile(difference, 0.025)),
        "difference_high": float(np.quantile(difference, 0.975)),
        "relative": float(100 * (1 - errors[1].sum() / max(1.0, errors[0].sum()))),
        "relative_low": float(np.quantile(relative, 0.025)),
        "relative_high": float(np.quantile(relative, 0.975)),
        "probability_of_improvement": float((difference > 0).mean()),
    }


def bootstrap_by_utterance(
    references: Sequence[str], first: Sequence[Sequence[str]], second: Sequence[Sequence[str]], seed: int = 0
) -> dict[str, Any]:
    """Return kaldialign's bootstrap (Bisani and Ney 2004): both intervals, and how sure the improvement is."""
    words = [reference.split() for reference in references]
    result: dict[str, Any] = kaldialign.bootstrap_wer_ci(
        words, [list(hypothesis) for hypothesis in first], [list(hypothesis) for hypothesis in second], seed=seed
    )
    return result
