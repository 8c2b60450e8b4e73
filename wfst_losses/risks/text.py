"""What risks share whose units are found in the text that tokens spell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from wfst_losses.risks.risk import AbstractRisk
from wfst_losses.validation import TokenSequence

WORD_MARK = "\u2581"
"""Sentencepiece's mark at the start of a word's first token."""


@dataclasses.dataclass(frozen=True)
class AbstractTextRisk(AbstractRisk):
    """A risk in units of text.

    Attributes:
        tokens: names by label, as in tokens.txt; a name that begins with ``mark`` begins a word.
        mark: the word mark.
    """

    tokens: Sequence[str]
    mark: str = WORD_MARK

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.mark, str) or not self.mark:
            raise ValueError(f"risk.mark is {self.mark!r:.80}, expected a text of one character or more")
        is_row = isinstance(self.tokens, Sequence) and not isinstance(self.tokens, str)
        if not is_row or not self.tokens or not all(isinstance(token, str) for token in self.tokens):
            raise ValueError(f"risk.tokens is {self.tokens!r:.80}, expected a sequence of token names by label")
        object.__setattr__(self, "tokens", tuple(self.tokens))

    def text(self, tokens: TokenSequence) -> str:
        """The names joined, a space for each word mark."""
        wrong = [label for label in tokens.tolist() if not 0 <= label < len(self.tokens)]
        if wrong:
            raise ValueError(f"risk.tokens has {len(self.tokens)} names, expected one for label {wrong[0]} too")
        return "".join(self.tokens[label] for label in tokens.tolist()).replace(self.mark, " ")
