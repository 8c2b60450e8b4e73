"""Streams, their manifests, and the windows and labels that come of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytest.importorskip("lhotse")

import prepare_streams
import streams
from corpus import SAMPLING_RATE
from keyword_losses import filter_of, make_loss
from lexicon import WORDS

from tests.losses.pooling_oracle import batch_loss
from wfst_losses.integrations.lhotse import keyword_windows


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), change=st.sampled_from([0.0, 0.1]))
def test_words_lie_where_the_stream_is_loud(recordings, seed, change):
    chosen = [recordings[i] for i in np.random.default_rng(seed).integers(0, len(recordings), 4)]
    chosen = [recording for recording in chosen if recording.speaker == chosen[0].speaker]
    joined, words = streams.join(chosen, np.random.default_rng(seed))
    assert len(joined) % streams.FRAME_SAMPLES == 0
    assert [word for word, _, _ in words] == [WORDS[recording.digit] for recording in chosen]
    position = 0.0
    for (_, start, duration), recording in zip(words, chosen, strict=True):
        assert streams.MIN_PAUSE_SECONDS - 1e-3 <= start - position <= streams.MAX_PAUSE_SECONDS
        first, stop = round(start * SAMPLING_RATE), round((start + duration) * SAMPLING_RATE)
        assert np.array_equal(joined[first:stop], streams.scale_to(recording.samples, streams.LEVEL))
        assert not joined[round(position * SAMPLING_RATE) : first].any()
        position = start + duration
    assert not joined[stop:].any()


def test_every_recording_comes_once_per_draw_and_speed_moves_the_words(recordings):
    pool = [recording for recording in recordings if recording.digit != 7]
    options = {"max_digits": 6, "num_draws": 2, "seed": 3, "prefix": "train"}
    plain = list(streams.draw_streams(recordings, pool, **options))
    drawn = list(streams.draw_streams(recordings, pool, **options, max_speed_change=0.2))
    assert len({stream.name for stream in plain}) == len(plain) == 2 * 3 * 20
    words = [word for stream in plain for word, _, _ in stream.words]
    assert {word: words.count(word) for word in WORDS} == dict.fromkeys(WORDS, 2 * 3 * 12)
    assert {stream.noise for stream in plain} == {"white", "babble"}
    ratios = []
    # A speaker's later streams have noise of another length behind them, and so other pauses.
    firsts = [(before, after) for before, after in zip(plain, drawn, strict=True) if before.name.endswith("-0000")]
    for before, after in firsts:
        ratio = len(after.samples) / len(before.samples)
        times = [(start, duration) for _, start, duration in before.words]
        assert [(start, duration) for _, start, duration in after.words] == [
            (pytest.approx(ratio * start), pytest.approx(ratio * duration)) for start, duration in times
        ]
        ratios.append(ratio)
    assert len(set(ratios)) == len(ratios) == 6
    assert 1 / 1.21 < min(ratios) < max(ratios) < 1 / 0.79


@pytest.fixture(scope="module")
def data(recordings, tmp_path_factory):
    """A split of four streams on disk."""
    folder = tmp_path_factory.mktemp("streams")
    own = [recording for recording in recordings if recording.speaker == "ada" and recording.index < 2]
    drawn = list(streams.draw_streams(own, own, 1, 0, "dev", max_digits=5))
    return drawn, list(prepare_streams.write_split(iter(drawn), len(own), "dev", folder))


def test_windows_of_a_written_split_end_where_its_keywords_do(data):
    drawn, cuts = data
    assert [cut.supervisions[0].text.split() for cut in cuts] == [[word for word, _, _ in s.words] for s in drawn]
    found = keyword_windows(cuts, ["zero", "seven"], subsampling_factor=4)
    for stream, keywords, ends, windows in zip(drawn, found.keywords, found.end_frames, found.windows, strict=True):
        wanted = [
            (("zero", "seven").index(word), int((start + duration) / 0.04 + 0.5))
            for word, start, duration in stream.words
            if word in ("zero", "seven")
        ]
        real = keywords >= 0
        assert list(zip(keywords[real].tolist(), ends[real].tolist(), strict=True)) == wanted
        assert windows[real].tolist() == [[end - 5, end + 10] for _, end in wanted]
    assert int((found.keywords >= 0).sum()) == 4


@pytest.mark.parametrize("name", ["smoothed", "plain", "frames"])
def test_losses_are_their_definitions(data, name):
    drawn, cuts = data
    keywords = ["zero", "seven"]
    lengths = torch.tensor([-(-cut.num_frames // 4) for cut in cuts])
    logits = torch.randn(len(cuts), int(lengths.max()), 2, generator=torch.Generator().manual_seed(0)).double()
    found = make_loss(name, keywords, negative_weight=0.3, label_seconds=0.2)(logits, lengths, cuts)
    ends = [
        [
            (keywords.index(word), int((start + duration) / 0.04 + 0.5))
            for word, start, duration in s.words
            if word in keywords
        ]
        for s in drawn
    ]
    if name == "frames":
        wanted = []
        for row, length, places in zip(logits, lengths.tolist(), ends, strict=True):
            total = torch.zeros((), dtype=torch.float64)
            for frame in range(length):
                for column in range(2):
                    here = any(column == keyword and end - 5 <= frame < end for keyword, end in places)
                    total += F.softplus(-row[frame, column]) if here else 0.3 * F.softplus(row[frame, column])
            wanted.append(total)
        assert torch.allclose(found, torch.stack(wanted))
        return
    smoothing = filter_of(0.04) if name == "smoothed" else {"sigma_frames": 1.0, "filter_frames": 1}
    windows = [[(keyword, end - 5, end + 10) for keyword, end in places] for places in ends]
    wanted = batch_loss(logits.sigmoid(), lengths.tolist(), windows, background=None, negative_weight=0.3, **smoothing)
    assert torch.allclose(found, wanted)


def test_the_filter_is_the_published_one_in_frames_of_the_output():
    assert filter_of(0.01) == {"sigma_frames": pytest.approx(9.0), "filter_frames": 21}
    assert filter_of(0.04) == {"sigma_frames": pytest.approx(2.25), "filter_frames": 5}
