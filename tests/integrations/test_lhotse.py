"""Keyword windows from lhotse's cuts, whatever lhotse did to them."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("lhotse", exc_type=ImportError)

from lhotse import MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from lhotse.testing.dummies import dummy_recording

from wfst_losses import decoder_smoothed_max_pooling_loss, smoothed_max_pooling_loss
from wfst_losses.integrations.lhotse import keyword_windows

WORDS = [("say", 2.0, 0.3), ("hey", 2.4, 0.2), ("you", 2.6, 0.4), ("hey", 4.0, 0.2), ("go", 4.3, 0.3)]
COLUMNS = {"hey": 1, "hey you": 0, "go": 2}


def make_cut(*, custom: dict[str, Any] | None = None, aligned: bool = True, start: float = 1.0) -> MonoCut:
    """Seconds 1 to 9 of a recording; the words are spoken from second 2 on, the last ends at 4.6."""
    recording = dummy_recording(0, duration=10.0)
    alignment = {"word": [AlignmentItem(*word) for word in WORDS]} if aligned else None
    supervision = SupervisionSegment(
        "s", recording.id, 2.0 - start, 3.0, text="say hey you hey go", alignment=alignment, custom=custom
    )
    return MonoCut("c", start, 8.0, 0, recording=recording, supervisions=[supervision])


def found(cut: Any, keywords: Any = COLUMNS, **options: Any) -> list[tuple[int, int]]:
    windows = keyword_windows([cut], keywords, **{"frame_shift_seconds": 0.01, **options})
    return list(zip(windows.keywords[0].tolist(), windows.end_frames[0].tolist(), strict=True))


def test_times_count_from_the_recording() -> None:
    assert found(make_cut()) == [(1, 160), (0, 200), (1, 320), (2, 360)]


def test_other_keywords_make_a_cut_negative() -> None:
    windows = keyword_windows([make_cut(), make_cut()], ["nothing"], frame_shift_seconds=0.01)
    assert windows.keywords.shape == (2, 0)
    assert windows.windows.shape == (2, 0, 2)
    losses = decoder_smoothed_max_pooling_loss(torch.zeros(2, 5, 1), windows.keywords, windows.end_frames, [5, 5])
    torch.testing.assert_close(losses, torch.full((2,), 5.0).mul(torch.tensor(2.0).log()))


def test_lists_name_the_columns_in_their_order() -> None:
    assert found(make_cut(), ["go", "say"]) == [(1, 130), (0, 360)]


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        (lambda cut: cut.truncate(offset=0.5), [110, 150, 270, 310]),
        (lambda cut: cut.truncate(offset=2.0), [120, 160]),  # the first two lie before the cut
        (lambda cut: cut.truncate(duration=1.5), [160, 200]),  # "you" ends after it, half of it is there
        (lambda cut: cut.pad(duration=20.0, direction="left"), [1360, 1400, 1520, 1560]),
        (lambda cut: cut.append(cut), [160, 200, 320, 360, 960, 1000, 1120, 1160]),
        (lambda cut: cut.trim_to_supervisions()[0], [60, 100, 220, 260]),
        (lambda cut: cut.perturb_speed(0.8), [200, 250, 400, 450]),
        (lambda cut: cut.perturb_speed(2.0).truncate(offset=0.3), [50, 70, 130, 150]),
    ],
    ids=["truncated", "cut in front", "cut behind", "padded", "appended", "trimmed", "slowed", "faster and truncated"],
)
def test_what_lhotse_does_to_cuts(change: Any, ends: list[int]) -> None:
    cut = change(make_cut())
    assert [end for _, end in found(cut)] == ends


def test_frames_of_the_output() -> None:
    windows = keyword_windows([make_cut()], ["you"], frame_shift_seconds=0.01, subsampling_factor=4)
    assert windows.end_frames.tolist() == [[50]]
    assert (windows.window_frames, windows.offset_frames) == (15, 10)
    assert windows.windows.tolist() == [[[45, 60]]]
    assert found(make_cut(), ["go"], subsampling_factor=16) == [(0, 23)]  # 22.5 frames
    short = keyword_windows(
        [make_cut()], ["you"], frame_shift_seconds=0.01, subsampling_factor=8, window_seconds=0.01, offset_seconds=0.1
    )
    assert (short.window_frames, short.offset_frames) == (1, 1)


def test_the_frame_shift_may_be_the_features_own() -> None:
    cut = make_cut()
    assert cut.frame_shift is None
    with pytest.raises(ValueError, match="frame_shift_seconds is None and cut c has no features, expected seconds"):
        keyword_windows([cut], ["go"])


def test_both_losses_take_what_comes_back() -> None:
    cuts = [make_cut(), make_cut(start=0.0)]
    windows = keyword_windows(cuts, COLUMNS, frame_shift_seconds=0.01, subsampling_factor=4)
    logits = torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(0))
    lengths = [200, 190]
    by_ends = decoder_smoothed_max_pooling_loss(
        logits,
        windows.keywords,
        windows.end_frames,
        lengths,
        window_frames=windows.window_frames,
        offset_frames=windows.offset_frames,
        sigma_frames=2.0,
        filter_frames=5,
    )
    by_windows = smoothed_max_pooling_loss(
        logits=logits,
        windows=windows.windows,
        labels=windows.keywords,
        input_lengths=lengths,
        sigma_frames=2.0,
        filter_frames=5,
    )
    assert torch.equal(by_ends, by_windows)
    assert by_ends.isfinite().all()


@pytest.mark.parametrize("items", [[["hey", 0.4, 0.2], ["go", 2.3, 0.3]], [{"symbol": "hey", "end": 0.6}]])
def test_custom_fields_count_from_the_supervision(items: list[Any]) -> None:
    cut = make_cut(custom={"heard": items}, aligned=False)
    wanted = [(1, 160), (2, 360)][: len(items)]
    assert found(cut, custom_field="heard") == wanted
    moved = found(cut.truncate(offset=0.5), custom_field="heard")
    assert [end for _, end in moved] == [end - 50 for _, end in wanted]
    assert found(cut, custom_field="heard", relative_to="cut") == [(1, 60), (2, 260)][: len(items)]


def test_alignments_may_be_stored_from_the_cut_s_start() -> None:
    assert found(make_cut(), ["say"], relative_to="cut") == [(0, 230)]


def test_a_keyword_in_the_text_without_an_alignment_is_refused() -> None:
    cut = make_cut(aligned=False)
    with pytest.raises(ValueError, match="cut c has the keyword 'hey you' in its text but no alignment 'word'"):
        found(cut, ["hey you"])
    with pytest.raises(ValueError, match="has the keyword 'go' in its text but no custom field 'heard'"):
        found(cut, ["go"], custom_field="heard")
    assert found(cut, ["you hey you"]) == []


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match="keywords is 'go', expected a list of words or a mapping"):
        found(make_cut(), "go")
    with pytest.raises(ValueError, match=r"keywords has '', expected words"):
        found(make_cut(), [""])
    with pytest.raises(ValueError, match=r"keywords\['go'\] is -1, expected >= 0"):
        found(make_cut(), {"go": -1})
    with pytest.raises(ValueError, match="subsampling_factor is 0, expected >= 1"):
        found(make_cut(), ["go"], subsampling_factor=0)
    with pytest.raises(ValueError, match="relative_to is 'start', expected one of 'recording', 'cut', 'supervision'"):
        found(make_cut(), ["go"], relative_to="start")
    with pytest.raises(
        ValueError, match=r"cut c: custom field 'heard', \[0\] is \['go'\], expected \(symbol, start, duration\)"
    ):
        found(make_cut(custom={"heard": [["go"]]}), ["go"], custom_field="heard")
    with pytest.raises(ValueError, match="keywords has 'go ' twice, expected every keyword once"):
        found(make_cut(), ["go", "go "])
    with pytest.raises(ValueError, match="window_seconds in frames is 1000000000000000, expected a size of at most"):
        found(make_cut(), ["no"], frame_shift_seconds=1e-12, window_seconds=1e3)


def _plain_cut(times: tuple[Any, Any] = (1.0, 0.5), *, alignment: Any = None, **changes: Any) -> SimpleNamespace:
    word = SimpleNamespace(symbol="go", start=times[0], duration=times[1])
    alignment = {"word": [word]} if alignment is None else alignment
    supervision = SimpleNamespace(start=0.0, alignment=alignment, custom=None, text="go")
    given = {"id": "a", "start": 0.0, "duration": 2.0, "frame_shift": 0.01, "supervisions": [supervision]}
    return SimpleNamespace(**{**given, **changes})


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (_plain_cut((math.nan, 0.5)), "cut a: alignment 'word', [0]: start is nan, expected seconds"),
        (_plain_cut((-math.inf, 0.5)), "cut a: alignment 'word', [0]: start is -inf"),
        (_plain_cut((1e300, 0.5)), "cut a: alignment 'word', [0]: start is 1e+300"),
        (_plain_cut(("1", "2")), "cut a: alignment 'word', [0]: start is '1'"),
        (_plain_cut((1.0, -0.5)), "cut a: alignment 'word', [0]: duration is -0.5, expected seconds, 0 to"),
        (_plain_cut((1.0, None)), "cut a: alignment 'word', [0]: duration is None"),
        (_plain_cut(alignment={"word": 3}), "cut a: alignment 'word' is 3, expected a list"),
        (
            _plain_cut(alignment={"word": [{"symbol": "go", "start": 1.0, "end": 0.5}]}),
            "cut a: alignment 'word', [0]: end is 0.5, expected seconds, 1 to",
        ),
        (_plain_cut(alignment={"word": [(3, 1.0, 0.5)]}), "cut a: alignment 'word', [0]: symbol is 3"),
        (_plain_cut(alignment=[1]), "cut a: alignment of a supervision is [1], expected a mapping"),
        (_plain_cut(supervisions=None), "cut a: supervisions is None, expected a list"),
        (_plain_cut(duration=math.nan), "cut a: duration is nan"),
        (_plain_cut(duration=None), "cut a: duration is None"),
        (_plain_cut(duration=-1), "cut a: duration is -1"),
        (_plain_cut(start=None), "cut a: start is None"),
        (_plain_cut(frame_shift="x"), "cut a: frame_shift is 'x'"),
        (_plain_cut((1e9, 0.0), duration=1e10), "cut a: a keyword's end in frames is 100000000000"),
        (_plain_cut(tracks=[SimpleNamespace(offset=math.nan)]), "cut a: offset of tracks[0] is nan"),
    ],
)
def test_times_that_are_none_name_the_cut_and_the_field(cut: SimpleNamespace, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        keyword_windows([cut], ["go"])


def test_no_cuts() -> None:
    windows = keyword_windows([], ["go"])
    assert windows.keywords.shape == (0, 0)
    assert windows.windows.shape == (0, 0, 2)
