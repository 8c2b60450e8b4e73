"""Risks: what counts as an error. A new one is one file and one line here."""

from __future__ import annotations

from wfst_losses.risks.character import CharacterErrors
from wfst_losses.risks.mixed import MixedErrors
from wfst_losses.risks.risk import AbstractRisk
from wfst_losses.risks.token import TokenErrors
from wfst_losses.risks.word import WordErrors

RISKS: dict[str, type[AbstractRisk]] = {
    "token": TokenErrors,
    "word": WordErrors,
    "character": CharacterErrors,
    "mixed": MixedErrors,
}

__all__ = ["RISKS", "AbstractRisk", "CharacterErrors", "MixedErrors", "TokenErrors", "WordErrors"]
