"""Risks count the cheapest edits, in their units."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.oracles import edit_distance
from wfst_losses import CharacterErrors, MixedErrors, TokenErrors, WordErrors
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


CHINESE = (
    "<blk>",
    "\u4f60",
    "\u597d\u4f60",
    "\u2581hi",
    "na",
    "\u2581",
    "\U00020000",
    "\u2581it's",
    "\u4f60x",
    "e\u0301",
)


@pytest.mark.parametrize(
    ("tokens", "characters", "units"),
    [
        ([], "", []),
        ([5], "", []),
        ([3, 4], "hina", ["hina"]),
        ([3, 5, 4], "hina", ["hi", "na"]),
        ([1, 2], "\u4f60\u597d\u4f60", ["\u4f60", "\u597d", "\u4f60"]),
        ([4, 1, 4], "na\u4f60na", ["na", "\u4f60", "na"]),
        ([3, 6, 7], "hi\U00020000it's", ["hi", "\U00020000", "it's"]),
        ([8, 4, 3], "\u4f60xnahi", ["\u4f60", "xna", "hi"]),
        ([9], "e\u0301", ["e\u0301"]),
    ],
)
def test_characters_and_mixed_units(tokens: list[int], characters: str, units: list[str]) -> None:
    labels = np.array(tokens, dtype=np.int64)
    assert list(CharacterErrors(tokens=CHINESE).units(labels)) == list(characters)
    assert list(MixedErrors(tokens=CHINESE).units(labels)) == units


def test_the_mixed_error_rate_counts_a_wrong_word_once_and_chinese_by_character() -> None:
    said, reference, zeros = arrays([[1, 3, 4]]), arrays([[2, 3]]), np.zeros(1, dtype=np.int64)
    assert CharacterErrors(tokens=CHINESE).errors(said, reference, zeros).tolist() == [3.0]
    assert MixedErrors(tokens=CHINESE).errors(said, reference, zeros).tolist() == [2.0]
    assert MixedErrors(tokens=CHINESE, normalised=True).errors(said, reference, zeros).tolist() == [2 / 3]
    assert WordErrors(tokens=CHINESE).errors(said, reference, zeros).tolist() == [2.0]


@pytest.mark.parametrize("risk", [CharacterErrors, MixedErrors])
def test_text_needs_names(risk: type) -> None:
    with pytest.raises(ValueError, match=r"risk\.tokens is 'abc', expected a sequence of token names by label"):
        risk(tokens="abc")
    with pytest.raises(ValueError, match=r"risk\.tokens has 2 names, expected one for label 2 too"):
        risk(tokens=("<blk>", "a")).errors(arrays([[2]]), arrays([[1]]), np.zeros(1, dtype=np.int64))


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
    assert RISKS["character"] is CharacterErrors
    assert RISKS["mixed"] is MixedErrors
