"""What a risk is: a count of errors between what a hypothesis says and what was said."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from wfst_losses.validation import TokenSequence, check_flag, check_number


@dataclasses.dataclass(frozen=True)
class AbstractRisk(abc.ABC):
    """The weighted edit distance between two token sequences, in units that a subclass makes of tokens.

    Attributes:
        insertion, deletion, substitution: what each error costs; whole numbers.
        normalised: divide by ``max(1, units of the reference)``.
    """

    _: dataclasses.KW_ONLY
    insertion: int = 1
    deletion: int = 1
    substitution: int = 1
    normalised: bool = False

    def __post_init__(self) -> None:
        check_flag("risk.normalised", self.normalised)
        for name in ("insertion", "deletion", "substitution"):
            check_number(f"risk.{name}", getattr(self, name), low=0)
            if getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"risk.{name} is {getattr(self, name)}, expected a whole number")

    @abc.abstractmethod
    def units(self, tokens: TokenSequence) -> Sequence[Hashable]:
        """The units that are compared: tokens, words, characters."""

    def errors(
        self,
        hypotheses: Sequence[TokenSequence],
        references: Sequence[TokenSequence],
        utterances: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """``(P,)`` errors of each hypothesis against the reference of its utterance."""
        wanted = [self.units(reference) for reference in references]
        weights = (self.insertion, self.deletion, self.substitution)
        counted: dict[tuple[int, bytes], float] = {}
        result = np.empty(len(hypotheses), dtype=np.float64)
        for row, (hypothesis, utterance) in enumerate(zip(hypotheses, utterances.tolist(), strict=True)):
            key = (utterance, hypothesis.tobytes())
            if key not in counted:
                # rapidfuzz counts the edits that turn its first argument into its second.
                counted[key] = Levenshtein.distance(wanted[utterance], self.units(hypothesis), weights=weights)
                if self.normalised:
                    counted[key] /= max(1, len(wanted[utterance]))
            result[row] = counted[key]
        return result
