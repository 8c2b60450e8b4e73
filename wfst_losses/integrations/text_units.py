"""From a text to the labels of tokens.txt, with what has none: by characters, words, lexicon or sentencepiece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from wfst_losses.graphs.symbols import read_lines

WORD_MARK = "\u2581"
_SPACES = (WORD_MARK, "|", "<space>", " ")

TextToLabels = Callable[[str], tuple[list[int], list[str]]]
"""Labels of a text, and what of it tokens.txt does not have."""


def by_characters(tokens: Sequence[str]) -> TextToLabels:
    """Characters; words part by the first letter's mark (``▁a``), by a token of their own (``▁``, ``|``), or not.

    >>> by_characters(["<blk>", "▁a", "a", "b"])("ab a c")
    ([1, 3, 1], ['▁c'])
    """
    label_of = {token: label for label, token in enumerate(tokens) if label}
    are_marked = any(token.startswith(WORD_MARK) and len(token) > 1 for token in label_of)
    space = next((mark for mark in _SPACES if mark in label_of), None)

    def convert(text: str) -> tuple[list[int], list[str]]:
        units: list[str] = []
        for number, word in enumerate(text.split()):
            if are_marked and WORD_MARK + word[0] in label_of:
                units.append(WORD_MARK + word[0])
            elif space is not None and (number or are_marked):
                units += [space, word[0]]
            else:
                units.append(WORD_MARK + word[0] if are_marked else word[0])
            units += word[1:]
        return _look_up(units, label_of)

    return convert


def by_words(tokens: Sequence[str]) -> TextToLabels:
    """What stands between spaces: words, or phones in a row."""
    label_of = {token: label for label, token in enumerate(tokens) if label}
    return lambda text: _look_up(text.split(), label_of)


def by_lexicon(tokens: Sequence[str], path: Path) -> TextToLabels:
    """The words of a ``lexicon.txt`` ("word token token ..."), each by its shortest pronunciation.

    Raises:
        ValueError: for a pronunciation with a token that tokens.txt lacks, naming file and line.
    """
    label_of = {token: label for label, token in enumerate(tokens) if label}
    shortest: dict[str, list[int]] = {}
    lines = read_lines(path, "'word token token ...'")
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path}: has no words, expected lines of 'word token token ...'")
    for number, line in enumerate(lines, start=1):
        word, *units = line.split() or [""]
        labels, unknown = _look_up(units, label_of)
        if unknown:
            raise ValueError(f"{path}, line {number}: {unknown[0]!r:.80} is no token of tokens.txt")
        if word and not units:
            raise ValueError(f"{path}, line {number}: {word!r:.80} has no pronunciation, expected tokens after it")
        if word and (word not in shortest or len(labels) < len(shortest[word])):
            shortest[word] = labels

    def convert(text: str) -> tuple[list[int], list[str]]:
        words = text.split()
        labels = [label for word in words for label in shortest.get(word, ())]
        return labels, [word for word in words if word not in shortest]

    return convert


def by_sentencepiece(tokens: Sequence[str], path: Path) -> TextToLabels:
    """The pieces of a sentencepiece model, by their names in tokens.txt."""
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("sentencepiece is not installed: pip install sentencepiece") from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load(str(path))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: sentencepiece cannot load it, expected a bpe.model") from error
    label_of = {token: label for label, token in enumerate(tokens) if label}
    return lambda text: _look_up(processor.encode(text, out_type=str), label_of)


def _look_up(units: Sequence[str], label_of: dict[str, int]) -> tuple[list[int], list[str]]:
    return [label_of[unit] for unit in units if unit in label_of], [unit for unit in units if unit not in label_of]
