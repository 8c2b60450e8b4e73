"""The ten words, spelled in letters: tokens.txt, spellings and back."""

from __future__ import annotations

from pathlib import Path

from results import write_text

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORD_MARK = "\u2581"
BLANK = "<blk>"


def spell(word: str) -> list[str]:
    """Return the tokens of a word: its letters, the first one marked (``▁z e r o``)."""
    return [WORD_MARK + word[0], *word[1:]]


def make_tokens() -> list[str]:
    """Return the token names by label: blank, then every token of the ten words, sorted."""
    return [BLANK, *sorted({token for word in WORDS for token in spell(word)})]


def write_tokens(path: Path, tokens: list[str]) -> None:
    """Write ``tokens.txt`` as icefall has it: one ``name label`` a line."""
    write_text(path, "".join(f"{token} {label}\n" for label, token in enumerate(tokens)))


def read_tokens(path: Path) -> list[str]:
    """Read ``tokens.txt`` and return the names by label."""
    labels = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    tokens = sorted(labels, key=lambda token: int(labels[token]))
    if [int(labels[token]) for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"{path}: expected the labels 0 to {len(tokens) - 1}, each once")
    return tokens


def text_to_labels(text: str, tokens: list[str]) -> list[int]:
    """Spell a text (words between spaces) and return its labels."""
    label_of = {token: label for label, token in enumerate(tokens)}
    return [label_of[token] for word in text.split() for token in spell(word)]


def labels_to_words(labels: list[int], tokens: list[str]) -> list[str]:
    """Join labels to words; letters before the first word mark make a word of their own."""
    return "".join(tokens[label] for label in labels).replace(WORD_MARK, " ").split()
