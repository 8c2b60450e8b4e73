"""Errors counted in words made of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from wfst_losses.risks.text import AbstractTextRisk
from wfst_losses.validation import TokenSequence


@dataclasses.dataclass(frozen=True)
class WordErrors(AbstractTextRisk):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(token.startswith(self.mark) for token in self.tokens):
            raise ValueError(f"risk.tokens has no token that begins with the word mark {self.mark!r}, expected one")

    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """The words."""
        return self.text(tokens).split()
