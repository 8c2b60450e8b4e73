"""Make a bigram model over words spelled in sentencepiece-like tokens: tokens.txt, lexicon.txt, G.arpa.

    python tools/benchmarks/made_bigram.py FOLDER [--num-words N] [--num-ngrams N] [--num-tokens V] [--seed 0]

Words follow Zipf's law; each is spelled by one to five tokens, the first of which begins with the word mark, the rest
not. How many successors a history lists goes with how often it comes; back-off weights make every history sum to 1.
The same arguments make the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

_DISCOUNT = 0.4
_LENGTHS = np.array([0.1, 0.3, 0.3, 0.2, 0.1])
_LINES_PER_CHUNK = 1 << 16


def make(folder: Path, num_words: int, num_ngrams: int, num_tokens: int, seed: int) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names = _token_names(num_tokens)
    lines = [f"{name} {label}\n" for label, name in enumerate(names)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    words = _write_lexicon(folder / "lexicon.txt", names, num_words, random)
    _write_arpa(folder / "G.arpa", words, num_ngrams, random)


def _token_names(num_tokens: int) -> list[str]:
    """Blank, then a third of tokens that begin a word."""
    num_first = (num_tokens - 1) // 3
    spelled = [f"{chr(97 + number % 26)}{number // 26}" for number in range(num_tokens - 1)]
    return ["<blk>", *(f"▁{name}" for name in spelled[:num_first]), *spelled[num_first:]]


def _write_lexicon(path: Path, names: list[str], num_words: int, random: np.random.Generator) -> list[str]:
    """Different words have different spellings; the words are their spellings joined."""
    num_first = (len(names) - 1) // 3
    first, rest = np.arange(1, 1 + num_first), np.arange(1 + num_first, len(names))
    spellings: dict[tuple[int, ...], None] = {}
    weights = 1 / np.arange(1, len(rest) + 1) ** 0.7
    while len(spellings) < num_words:
        lengths = random.choice(5, size=num_words, p=_LENGTHS)
        heads = random.choice(first, size=num_words)
        tails = random.choice(rest, size=(num_words, 4), p=weights / weights.sum())
        for head, tail, length in zip(heads.tolist(), tails.tolist(), lengths.tolist(), strict=True):
            spellings.setdefault((head, *tail[:length]))
            if len(spellings) == num_words:
                break
    words = ["".join(names[label] for label in spelling).lstrip("▁") for spelling in spellings]
    words = [f"{word}_{number}" for number, word in enumerate(words)]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            f"{word} {' '.join(names[label] for label in spelling)}\n"
            for word, spelling in zip(words, spellings, strict=True)
        )
    return words


def _write_arpa(path: Path, words: list[str], num_ngrams: int, random: np.random.Generator) -> None:
    """Unigrams by Zipf's law, `</s>` among them, and bigrams discounted by a constant."""
    num_words = len(words)
    outcomes = [*words, "</s>"]
    unigram = 1 / np.arange(1, num_words + 2)
    unigram /= unigram.sum()
    history, outcome = _bigrams(unigram, num_ngrams - num_words - 2, random)
    raw = unigram[outcome] * random.gamma(1.0, size=len(outcome))
    num_histories = num_words + 1  # the last is <s>
    prob = (1 - _DISCOUNT) * raw / np.bincount(history, raw, num_histories)[history]
    seen = np.bincount(history, unigram[outcome], num_histories)
    has_any = np.bincount(history, minlength=num_histories) > 0
    backoff = np.where(has_any, np.log10(_DISCOUNT / (1 - seen)), 0.0)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            f"\\data\\\nngram 1={num_words + 2}\nngram 2={len(history)}\n\n\\1-grams:\n-99\t<s>\t{backoff[-1]:.6f}\n"
        )
        for word, log_prob, weight in zip(outcomes, np.log10(unigram), [*backoff[:-1], 0.0], strict=True):
            file.write(f"{log_prob:.6f}\t{word}" + (f"\t{weight:.6f}\n" if weight else "\n"))
        file.write("\n\\2-grams:\n")
        names = [*words, "<s>"]
        log_probs = np.log10(prob)
        for begin in range(0, len(history), _LINES_PER_CHUNK):
            rows = slice(begin, begin + _LINES_PER_CHUNK)
            columns = history[rows].tolist(), outcome[rows].tolist(), log_probs[rows].tolist()
            file.writelines(
                f"{log_prob:.6f}\t{names[one]} {outcomes[two]}\n" for one, two, log_prob in zip(*columns, strict=True)
            )
        file.write("\n\\end\\\n")


def _bigrams(
    unigram: npt.NDArray[np.float64], count: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """So many different pairs of history and outcome, both drawn as words come, flattened so that tails come too."""
    flat = unigram**0.6
    flat /= flat.sum()
    num_outcomes = len(unigram)
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        more = 2 * (count - len(found)) + 1000
        history, outcome = (random.choice(num_outcomes, size=more, p=flat) for _ in range(2))
        found = np.unique(np.concatenate([found, history * num_outcomes + outcome]))
    found = np.sort(random.choice(found, size=count, replace=False))
    return np.divmod(found, num_outcomes)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-words", type=int, default=200_000)
    parser.add_argument("--num-ngrams", type=int, default=2_000_000)
    parser.add_argument("--num-tokens", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.num_words, arguments.num_ngrams, arguments.num_tokens, arguments.seed)


if __name__ == "__main__":
    main()
