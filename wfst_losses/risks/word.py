"""Errors counted in words made of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from wfst_losses.risks.risk import AbstractRisk
from wfst_losses.validation import TokenSequence

WORD_MARK = "\u2581"
"""Sentencepiece's mark at the start of a word's first token."""


@dataclasses.dataclass(frozen=True)
class WordErrors(AbstractRisk):
    """Word errors: tokens are joined to words at a word mark, then compared.

    One wrong letter makes one wrong word however many letters are wrong with it, so word risk weighs hypotheses
    otherwise than `TokenErrors` does.

    Attributes:
        tokens: names by label, as in tokens.txt; a name that begins with ``mark`` begins a word.
        mark: the word mark.

    >>> import numpy as np
    >>> risk = WordErrors(tokens=("<blk>", "\u2581a", "b", "\u2581c"))
    >>> risk.errors([np.array([1, 2, 3])], [np.array([1, 3])], np.array([0]))  # "ab c" against "a c"
    array([1.])
    """

    tokens: Sequence[str]
    mark: str = WORD_MARK

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.mark, str) or not self.mark:
            raise ValueError(f"risk.mark is {self.mark!r:.80}, expected a text of one character or more")
        if (
            isinstance(self.tokens, str)
            or not isinstance(self.tokens, Sequence)
            or not all(isinstance(token, str) for token in self.tokens)
        ):
            raise ValueError(f"risk.tokens is {self.tokens!r:.80}, expected a sequence of token names by label")
        if not any(token.startswith(self.mark) for token in self.tokens):
            raise ValueError(f"risk.tokens has no token that begins with the word mark {self.mark!r}, expected one")
        object.__setattr__(self, "tokens", tuple(self.tokens))

    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """The words."""
        wrong = [label for label in tokens.tolist() if not 0 <= label < len(self.tokens)]
        if wrong:
            raise ValueError(f"risk.tokens has {len(self.tokens)} names, expected one for label {wrong[0]} too")
        text = "".join(self.tokens[label] for label in tokens.tolist())
        return text.replace(self.mark, " ").split()
