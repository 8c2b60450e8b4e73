"""Events and error rates, against thresholds tried one by one."""

from __future__ import annotations

import numpy as np
import pytest
from detection import Events, add_events, det_curve, false_reject_rate, peaks, smooth
from hypothesis import given
from hypothesis import strategies as st

from tests.losses.pooling_oracle import smooth as slow_smooth

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9]), max_size=12)


@given(hits=SCORES, false_alarms=SCORES, rate=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 100.0]))
def test_rates_are_those_of_the_best_threshold(hits, false_alarms, rate):
    events = Events(hours=2.0, hits=hits, false_alarms=false_alarms)
    tried = []
    for threshold in [-1.0, *false_alarms, *hits, 2.0]:
        alarms = sum(score > threshold for score in false_alarms)
        if alarms / 2.0 <= rate:
            tried.append(sum(score <= threshold for score in hits) / max(1, len(hits)))
    assert false_reject_rate(events, rate) == pytest.approx(min(tried))


def test_the_curve_falls_from_no_false_alarm_to_no_false_reject():
    rates, rejects = det_curve(Events(hours=0.5, hits=[0.9, 0.4, 0.6], false_alarms=[0.5, 0.7, 0.1]))
    assert rates.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert rejects.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0, 0.0])


def test_a_keyword_s_score_is_its_highest_around_it_and_the_rest_are_false_alarms():
    scores = np.zeros((100, 2))  # ten seconds
    scores[21, 0] = 0.9  # in the keyword
    scores[28, 0] = 0.95  # 0.3 s after its end
    scores[40, 0] = 0.7  # nowhere
    scores[42, 0] = 0.6  # the same detection
    scores[22, 1] = 0.8  # the other keyword, not spoken
    events = Events()
    add_events(events, scores, [(0, 2.0, 2.5)], 0.1)
    assert events.hits == [0.95]
    assert [score for score in events.false_alarms if score > 0] == [0.7, 0.8]
    assert events.hours == pytest.approx(10 / 3600)


def test_a_detection_counts_for_one_of_two_neighbours():
    scores = np.zeros((40, 1))
    scores[14, 0] = 0.9
    events = Events()
    add_events(events, scores, [(0, 1.3, 1.7), (0, 0.8, 1.2)], 0.1)
    assert events.hits == [0.0, 0.9]


@given(seed=st.integers(0, 500), lockout=st.integers(0, 6))
def test_peaks_are_apart_and_every_frame_is_near_one_as_high(seed, lockout):
    scores = np.random.default_rng(seed).integers(0, 9, 30) / 8
    found = peaks(scores, lockout)
    assert all(abs(a - b) > lockout for i, a in enumerate(found) for b in found[:i])
    assert [scores[frame] for frame in found] == sorted(scores[found], reverse=True)
    for frame, score in enumerate(scores):
        assert max(scores[peak] for peak in found if abs(peak - frame) <= lockout) >= score


@pytest.mark.parametrize("width", [1, 5, 21])
def test_posteriors_are_smoothed_as_the_loss_smooths_them(width):
    import torch

    posteriors = np.random.default_rng(width).random((9, 2))
    found = smooth(posteriors, sigma_frames=2.25, filter_frames=width)
    for column in range(2):
        wanted = slow_smooth(torch.from_numpy(posteriors[:, column]), 2.25, width).numpy()
        assert found[:, column] == pytest.approx(wanted, abs=1e-12)
