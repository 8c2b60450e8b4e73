"""Errors counted in tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from wfst_losses.risks.risk import AbstractRisk
from wfst_losses.validation import TokenSequence


@dataclasses.dataclass(frozen=True)
class TokenErrors(AbstractRisk):
    """Token errors: the edit distance between token sequences.

    >>> import numpy as np
    >>> TokenErrors().errors([np.array([1, 2])], [np.array([1, 3, 2])], np.array([0]))
    array([1.])
    """

    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """The tokens themselves."""
        units: list[int] = tokens.tolist()
        return units
