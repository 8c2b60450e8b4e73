"""Word error rates and bootstrap."""

from __future__ import annotations

import pytest

pytest.importorskip("kaldialign")

import scoring
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

words = st.lists(st.sampled_from(["one", "two", "six"]), max_size=6)


@given(reference=words.filter(bool), hypothesis=words)
def test_errors_by_word_sum_to_the_edit_distance(reference, hypothesis):
    charged = scoring.errors_by_word(reference, hypothesis)
    assert len(charged) == len(reference)
    assert sum(charged) == Levenshtein.distance(reference, hypothesis)


def test_errors_are_charged_to_the_word_they_happen_at():
    assert scoring.errors_by_word(["one", "two", "six"], ["one", "six"]) == [0, 1, 0]
    assert scoring.errors_by_word(["one", "two"], ["one", "two", "two"]) in ([0, 1], [1, 0])
    assert scoring.errors_by_word(["one"], ["six", "one"]) == [1]


def test_word_error_rate_counts_kinds():
    result = scoring.word_error_rate(["one two", "six"], [["one"], ["six", "six"]])
    assert (result["del"], result["ins"], result["sub"], result["words"]) == (1, 1, 0, 3)
    assert result["wer"] == pytest.approx(200 / 3)


def test_errors_by_recording_add_up_over_strings():
    counts = scoring.errors_by_recording(["one two", "two one"], [["a", "b"], ["b", "a"]], [["one"], ["two", "one"]])
    assert counts == {"a": (0, 2), "b": (1, 2)}


def test_paired_bootstrap_of_equal_systems_is_zero_and_of_a_clear_win_is_sure():
    worse = {str(i): (2 + i % 3, 10) for i in range(60)}
    better = {name: (errors - 1, count) for name, (errors, count) in worse.items()}
    same = scoring.paired_bootstrap(worse, worse, num_replications=200)
    assert same["difference"] == same["difference_low"] == same["difference_high"] == 0
    clear = scoring.paired_bootstrap(worse, better, num_replications=200)
    # One error of ten less for every recording, whichever are drawn.
    assert clear["difference"] == pytest.approx(10)
    assert clear["difference_low"] == pytest.approx(10)
    assert clear["relative"] == pytest.approx(100 / 3)
    assert clear["relative_low"] < 100 / 3 < clear["relative_high"]
    assert clear["probability_of_improvement"] == 1


def test_confusions_are_counted_by_what_was_said_and_heard():
    references = ["one two three", "two two", "six"]
    hypotheses = [["one", "to", "three"], ["to", "two", "nine"], []]
    assert scoring.confusions(references, hypotheses) == [
        ("two", "to", 2),
        (scoring.NOTHING, "nine", 1),
        ("six", scoring.NOTHING, 1),
    ]
