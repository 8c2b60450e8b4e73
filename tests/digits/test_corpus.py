"""Corpus, joining and noise."""

from __future__ import annotations

import corpus
import mixing
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@given(num_recordings=st.integers(3, 400), seed=st.integers(0, 1000))
def test_string_lengths_use_every_recording_in_strings_of_three_to_seven(num_recordings, seed):
    lengths = mixing.string_lengths(num_recordings, np.random.default_rng(seed))
    assert sum(lengths) == num_recordings
    assert min(lengths) >= 3
    assert max(lengths) <= 7


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_mix_reaches_the_signal_to_noise_ratio(snr_db):
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(8000).astype(np.float32)
    noise = mixing.mix(speech, rng.standard_normal(8000).astype(np.float32), snr_db) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.01)


def test_join_is_whole_frames_with_pauses_and_equal_levels(recordings):
    chosen = [recordings[0], recordings[200]]
    joined = mixing.join(chosen, np.random.default_rng(0))
    assert len(joined) % mixing.FRAME_SAMPLES == 0
    pauses = (len(joined) - sum(len(recording.samples) for recording in chosen)) / corpus.SAMPLING_RATE
    assert pauses + 1e-3 >= 3 * mixing.MIN_PAUSE_SECONDS
    assert pauses <= 3 * mixing.MAX_PAUSE_SECONDS + 0.01
    speech = joined[joined != 0]
    assert np.sqrt(np.mean(speech**2)) == pytest.approx(mixing.LEVEL, rel=0.01)


def test_every_recording_comes_once_per_draw_from_one_speaker(recordings):
    strings = list(mixing.draw_strings(recordings, recordings, 2, seed=3, prefix="x"))
    for draw in (0, 1):
        used = [name for string in strings if string.draw == draw for name in string.recordings]
        assert sorted(used) == sorted(recording.name for recording in recordings)
    for string in strings:
        assert {name.split("_")[1] for name in string.recordings} == {string.speaker}
        assert string.text.split() == [mixing.WORDS[int(name[0])] for name in string.recordings]
    assert {string.noise for string in strings if string.draw == 0} == {"white"}
    assert {string.noise for string in strings if string.draw == 1} == {"babble"}
    assert len({string.name for string in strings}) == len(strings)


def test_strings_repeat_with_the_seed_and_change_with_it(recordings):
    variation = mixing.Variation(max_speed_change=0.1, max_recording_speed_change=0.1, max_equaliser_db=6.0)

    def draw(seed):
        return list(mixing.draw_strings(recordings, recordings, 2, seed, "x", variation=variation))

    first, again, other = draw(1), draw(1), draw(2)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, again, strict=True))
    assert [string.recordings for string in first] != [string.recordings for string in other]


def test_speed_factors_are_drawn_per_string_and_change_length_and_pitch(recordings):
    ratios = set()
    variation = mixing.Variation(speed_factors=(0.9, 1.0, 1.1))
    for seed in range(4):
        plain = mixing.draw_strings(recordings, recordings, 1, seed, "x")
        played = mixing.draw_strings(recordings, recordings, 1, seed, "x", variation=variation)
        for string, other in zip(plain, played, strict=True):
            assert string.recordings == other.recordings
            assert len(other.samples) % mixing.FRAME_SAMPLES == 0
            if string.name.endswith("-0000"):  # the pauses of later ones are drawn after a factor was
                ratios.add(round(len(string.samples) / len(other.samples), 2))
    assert len(ratios) > 1
    assert all(min(abs(ratio - factor) for factor in variation.speed_factors) <= 0.011 for ratio in ratios)

    tone = np.sin(2 * np.pi * 1000 / mixing.SAMPLING_RATE * np.arange(mixing.SAMPLING_RATE)).astype(np.float32)
    played = mixing.perturb_speed(tone, 1.1)
    spectrum = np.abs(np.fft.rfft(played))
    assert np.argmax(spectrum) * mixing.SAMPLING_RATE / len(played) == pytest.approx(1100, abs=3)


def test_varied_recordings_last_as_long_as_their_speed_says_and_gain_no_more_than_allowed(recordings):
    rng = np.random.default_rng(0)
    original = recordings[0]
    lengths = []
    for _ in range(20):
        varied = mixing.vary(original, mixing.Variation(max_recording_speed_change=0.2, max_equaliser_db=6.0), rng)
        assert varied.name == original.name
        lengths.append(len(varied.samples) / len(original.samples))
    assert 1 / 1.2 - 0.01 <= min(lengths) < 0.95
    assert 1.05 < max(lengths) <= 1 / 0.8 + 0.01


def test_the_equaliser_changes_the_spectrum_smoothly_within_its_limit():
    rng = np.random.default_rng(0)
    impulse = np.zeros(4000, dtype=np.float32)
    impulse[0] = 1.0
    gains = []
    for _ in range(20):
        gain_db = 20 * np.log10(np.abs(np.fft.rfft(mixing.equalise(impulse, 6.0, rng))))
        assert np.abs(np.diff(gain_db))[50:].max() < 0.1
        gains.append(np.abs(gain_db).max())
    assert 2.0 < max(gains) <= 6.001
    assert np.allclose(mixing.equalise(impulse, 0.0, rng), impulse, atol=1e-6)


def test_split_keeps_indices_and_the_held_out_speaker_apart(recordings):
    parts = corpus.split(recordings, "cy")
    assert {recording.index for recording in parts["test"]} == set(range(5))
    assert {recording.index for recording in parts["dev"]} == set(range(5, 10))
    assert {recording.index for recording in parts["train"]} == {10, 11}
    assert {recording.speaker for recording in parts["test_held_out"]} == {"cy"}
    assert sum(map(len, parts.values())) == len(recordings)
    assert not {r.name for r in parts["train"]} & {r.name for r in parts["test"] + parts["dev"]}
    assert all(recording.speaker != "cy" for recording in parts["train"])


def test_split_names_an_unknown_speaker(recordings):
    with pytest.raises(ValueError, match="held_out_speaker: expected one of ada, bob, cy, got 'dan'"):
        corpus.split(recordings, "dan")


def test_read_folder_reads_names_and_refuses_other_rates(tmp_path, recordings):
    soundfile = pytest.importorskip("soundfile")
    with pytest.raises(ValueError, match="found none"):
        corpus.read_folder(tmp_path)
    soundfile.write(tmp_path / "7_ada_3.wav", recordings[0].samples, corpus.SAMPLING_RATE)
    (read,) = corpus.read_folder(tmp_path)
    assert (read.digit, read.speaker, read.index) == (7, "ada", 3)
    assert np.abs(read.samples - recordings[0].samples).max() < 1e-4
    soundfile.write(tmp_path / "7_ada_4.wav", recordings[0].samples, 16000)
    with pytest.raises(ValueError, match="expected 8000 Hz mono, got 16000"):
        corpus.read_folder(tmp_path)


def test_resample_keeps_a_tone():
    time = np.arange(22050) / 22050
    tone = np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))
    resampled = corpus.resample(tone, 22050, 8000)
    time = np.arange(8000) / 8000
    assert np.abs(resampled - np.sin(2 * np.pi * 440 * time) * np.hanning(8000)).max() < 1e-3


def test_every_voice_is_audible_and_short():
    pytest.importorskip("espeakng_loader")
    import synthesis

    engine = synthesis.Synthesiser()
    spoken = [engine.speak(word, voice, 140, 50) for voice in synthesis.VOICES.values() for word in ("six", "three")]
    for samples in spoken:
        trimmed = synthesis.trim(samples)
        assert 0.1 < len(trimmed) / engine.rate < 1.5
        assert np.abs(trimmed).max() > 0.05
        assert len(trimmed) < len(samples)
