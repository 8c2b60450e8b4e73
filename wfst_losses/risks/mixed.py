"""Errors counted in Chinese characters and in words of other scripts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Sequence

from wfst_losses.risks.text import AbstractTextRisk
from wfst_losses.validation import TokenSequence

# The unified ideographs with their extensions, the compatibility ideographs, and the ideographic zero.
_IDEOGRAPHS = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(f"[{_IDEOGRAPHS}]|[^\\s{_IDEOGRAPHS}]+")


@dataclasses.dataclass(frozen=True)
class MixedErrors(AbstractTextRisk):
    """Mixed errors, for speech that switches between languages: Chinese by character, the rest by word.

    A word ends at a word mark, a space or a Chinese character.

    Attributes:
        tokens: names by label, as in tokens.txt; a name that begins with ``mark`` begins a word.
        mark: the word mark.

    >>> import numpy as np
    >>> risk = MixedErrors(tokens=("<blk>", "\u4f60", "\u597d", "\u2581wor", "ld"))
    >>> risk.units(np.array([1, 2, 3, 4]))
    ['\u4f60', '\u597d', 'world']
    """

    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """Chinese characters and words, in their order."""
        units: list[str] = _UNITS.findall(self.text(tokens))
        return units
