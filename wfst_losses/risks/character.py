"""Errors counted in characters."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from wfst_losses.risks.text import AbstractTextRisk
from wfst_losses.validation import TokenSequence


@dataclasses.dataclass(frozen=True)
class CharacterErrors(AbstractTextRisk):
    """Character errors: the edit distance between the texts that tokens spell, spaces between words left out.

    A character is a Unicode code point: a letter and its combining accent are two.

    Attributes:
        tokens: names by label, as in tokens.txt.
        mark: the word mark, no character of the text.

    >>> import numpy as np
    >>> risk = CharacterErrors(tokens=("<blk>", "\u2581wh", "\u2581w", "at"))
    >>> risk.errors([np.array([1, 3])], [np.array([2, 3])], np.array([0]))  # "what" against "wat"
    array([1.])
    """

    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """The characters."""
        return "".join(self.text(tokens).split())
