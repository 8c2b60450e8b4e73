"""Risks count the cheapest edits, in their units."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.oracles import edit_distance
from wfst_losses import TokenErrors, WordErrors
from wfst_losses.risks import RISKS

SEQUENCES = st.lists(st.lists(st.integers(1, 4), max_size=6), min_size=1, max_size=4)
WEIGHTS = st.integers(0, 3)


def arrays(sequences: list[list[int]]) -> list[np.ndarray]:
    return [np.array(sequence, dtype=np.int64) for sequence in sequences]


@hypothesis.given(
    references=SEQUENCES,
    hypotheses=SEQUENCES,
    insertion=WEIGHTS,
    deletion=WEIGHTS,
    substitution=WEIGHTS,
    normalised=st.booleans(),
    data=st.data(),
)
@hypothesis.settings(max_examples=200)
def test_token_errors(
    references: list[list[int]],
    hypotheses: list[list[int]],
    insertion: int,
    deletion: int,
    substitution: int,
    normalised: bool,
    data: st.DataObject,
) -> None:
    owner = st.integers(0, len(references) - 1)
    utterances = data.draw(st.lists(owner, min_size=len(hypotheses), max_size=len(hypotheses)))
    risk = TokenErrors(insertion=insertion, deletion=deletion, substitution=substitution, normalised=normalised)
    found = risk.errors(arrays(hypotheses), arrays(references), np.array(utterances))
    for value, hypothesis_, utterance in zip(found, hypotheses, utterances, strict=True):
        wanted = edit_distance(references[utterance], hypothesis_, insertion, deletion, substitution)
        assert value == pytest.approx(wanted / (max(1, len(references[utterance])) if normalised else 1))


NAMES = ("<blk>", "\u2581a", "b", "\u2581", "c", "\u2581ab")


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], []),
        ([1, 2, 1], ["ab", "a"]),
        ([5, 1], ["ab", "a"]),
        ([3, 4, 3, 4], ["c", "c"]),
        ([2, 1], ["b", "a"]),
        ([3], []),
        ([1, 4, 3, 2], ["ac", "b"]),
    ],
)
def test_words_begin_at_marks(tokens: list[int], words: list[str]) -> None:
    assert list(WordErrors(tokens=NAMES).units(np.array(tokens, dtype=np.int64))) == words


@hypothesis.given(reference=st.lists(st.integers(1, 5), max_size=8), said=st.lists(st.integers(1, 5), max_size=8))
def test_word_errors(reference: list[int], said: list[int]) -> None:
    risk = WordErrors(tokens=NAMES)
    found = risk.errors(arrays([said]), arrays([reference]), np.zeros(1, dtype=np.int64))

    def words(tokens: list[int]) -> list[str]:
        return "".join(NAMES[token] for token in tokens).replace("\u2581", " ").split()

    assert found.tolist() == [edit_distance(words(reference), words(said))]


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"risk\.tokens has 6 names, expected one for label 6 too"):
        WordErrors(tokens=NAMES).errors(arrays([[6]]), arrays([[1]]), np.zeros(1, dtype=np.int64))


def test_deletions_and_insertions_are_told_apart() -> None:
    risk = TokenErrors(insertion=3, deletion=5)
    zeros = np.zeros(1, dtype=np.int64)
    assert risk.errors(arrays([[1, 2]]), arrays([[1]]), zeros).tolist() == [3.0]
    assert risk.errors(arrays([[1]]), arrays([[1, 2]]), zeros).tolist() == [5.0]


def test_the_table_has_every_risk() -> None:
    assert RISKS["token"] is TokenErrors
    assert RISKS["word"] is WordErrors
