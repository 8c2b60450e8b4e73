"""From lhotse's cuts to what the losses take. Reads attributes alone, so lhotse itself is not imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from wfst_losses.integrations.aligned_words import ORIGINS, Word, check_seconds, is_mixed, words_of_cut
from wfst_losses.integrations.segments import cut_segments
from wfst_losses.integrations.supervisions import COLUMNS, check_sequences, read_column, read_supervisions
from wfst_losses.validation import (
    check_callable,
    check_choice,
    check_count,
    check_instance,
    check_integer,
    check_lengths,
    check_number,
    check_row,
    check_scores,
    shown,
)


class KeywordWindows(NamedTuple):
    """Where keywords end in a batch of B cuts, M the most in one cut, in frames of the network's output.

    Attributes:
        keywords: ``(B, M)`` int64 columns; -1 where a cut has fewer than M.
        end_frames: ``(B, M)`` int64, one past each keyword's last frame; 0 where there is none.
        windows: ``(B, M, 2)`` int64, ``[end + offset - length, end + offset)``, not cut to the utterance.
        window_frames: the windows' length.
        offset_frames: how far they reach beyond the keyword's end.
    """

    keywords: torch.Tensor
    end_frames: torch.Tensor
    windows: torch.Tensor
    window_frames: int
    offset_frames: int


class LossArguments(NamedTuple):
    """What the losses take of a batch with S supervisions, in the batch's order: ``ctc_loss(*arguments[:3])``.

    Attributes:
        log_probs: ``(S, T, V)``, the network's output over each supervision.
        targets: S lists of labels.
        input_lengths: ``(S,)`` int64, output frames.
        cut_ids: of each supervision; None where the dataset returns no cuts.
    """

    log_probs: torch.Tensor
    targets: list[list[int]]
    input_lengths: torch.Tensor
    cut_ids: list[str] | None


def loss_arguments(
    batch: Mapping[str, Any],
    log_probs: torch.Tensor,
    texts_to_ids: Callable[[list[str]], Sequence[Sequence[int]]],
    *,
    subsampling_factor: int = 1,
    output_lengths: Any = None,
) -> LossArguments:
    """A ``K2SpeechRecognitionDataset``'s batch and the network's output for it as arguments of the losses.

    Several supervisions in one cut become utterances of their own. Nothing is sorted: no loss here asks for it.

    A supervision of n frames from frame s on has ``n // subsampling_factor`` output frames from
    ``s // subsampling_factor`` on, as in icefall's ``encode_supervisions``; up to ``subsampling_factor - 1`` beyond
    the output's end are left out. Where the network tells its ``output_lengths``, those hold instead: the supervision
    ends at ``ceil((s + n) / subsampling_factor)``, at the latest where its sequence does.

    Args:
        batch: with "supervisions": "text", "sequence_idx", "start_frame", "num_frames" and perhaps "cut".
        log_probs: ``(B, T, V)``, one row per cut of the batch.
        texts_to_ids: labels of each text, such as ``sentencepiece_processor.encode`` or a graph compiler's method.
        subsampling_factor: feature frames per output frame.
        output_lengths: ``(B,)`` frames that the network wrote of each cut.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.

    >>> frames = {"sequence_idx": torch.arange(2), "start_frame": torch.zeros(2), "num_frames": torch.tensor([9, 6])}
    >>> batch = {"supervisions": {"text": ["ab", "b"], **frames}}
    >>> arguments = loss_arguments(batch, torch.zeros(2, 4, 3), lambda texts: [[1, 2], [2]], subsampling_factor=2)
    >>> arguments.targets, arguments.input_lengths
    ([[1, 2], [2]], tensor([4, 3]))
    """
    log_probs = check_scores("log_probs", log_probs)
    check_count("subsampling_factor", subsampling_factor)
    check_callable("texts_to_ids", texts_to_ids, or_none=False)
    supervisions = read_supervisions(batch)
    texts = list(supervisions["text"])
    sequence, first, frames = (read_column(supervisions, name, len(texts)) for name in COLUMNS)
    start = torch.div(first, subsampling_factor, rounding_mode="floor")
    length = torch.div(frames, subsampling_factor, rounding_mode="floor")
    if output_lengths is not None:
        written = torch.from_numpy(check_lengths("output_lengths", output_lengths, *log_probs.shape[:2]))
        check_sequences(sequence, len(log_probs))
        end = -torch.div(-(first + frames), subsampling_factor, rounding_mode="floor")
        length = (torch.minimum(end, written[sequence]) - start).clamp(min=0)
    segments = torch.stack([sequence, start, length], dim=1)
    utterances, input_lengths = cut_segments(log_probs, segments, allow_truncate=subsampling_factor - 1)
    targets = [check_row(f"texts_to_ids: [{index}]", row).tolist() for index, row in enumerate(texts_to_ids(texts))]
    if len(targets) != len(texts):
        raise ValueError(f"texts_to_ids gave {len(targets)} label sequences for {len(texts)} texts, expected as many")
    cuts = supervisions.get("cut")
    cut_ids = None if cuts is None else [cut.id for cut in cuts]
    return LossArguments(utterances, targets, torch.from_numpy(input_lengths), cut_ids)


def keyword_windows(
    cuts: Iterable[Any],
    keywords: Mapping[str, int] | Sequence[str],
    *,
    alignment: str = "word",
    custom_field: str | None = None,
    relative_to: str | None = None,
    frame_shift_seconds: float | None = None,
    subsampling_factor: int = 1,
    window_seconds: float = 0.6,
    offset_seconds: float = 0.4,
) -> KeywordWindows:
    """Where the keywords of each cut end, and the windows of the smoothed max pooling loss, in output frames.

    A keyword is one word, or several in a row ("hey you"), compared as written. Every occurrence counts; a cut without
    any is negative. Words are taken from all supervisions of a cut, those of a mixed cut's tracks at their offsets.

    Easily got wrong: lhotse counts an alignment's times from the start of the *recording*, wherever the cut begins,
    and moves them when it perturbs the speed; it never looks into custom fields, so times there count from the
    supervision's start here, and speed perturbation leaves them wrong. An occurrence that lies outside the cut as a
    whole is not there; one cut in two is, at the end it would have, which may leave nothing of its window.

    Frames are ``round(seconds / (frame shift * subsampling))``, halves rounded up, as lhotse counts frames.

    Args:
        cuts: B cuts, one per row of the network's output, such as ``batch["supervisions"]["cut"]`` of a dataset that
            returns cuts with one supervision each.
        keywords: columns by keyword, or keywords in the order of the columns.
        alignment: the kind of alignment, a key of ``supervision.alignment``.
        custom_field: read ``supervision.custom[custom_field]`` instead: a list of ``(symbol, start, duration)``, or of
            mappings with "symbol" and "end".
        relative_to: what the times count from, a name in `ORIGINS`; "recording" for alignments and "supervision" for
            custom fields where left out.
        frame_shift_seconds: of the features; ``cut.frame_shift`` where left out.
        subsampling_factor: feature frames per output frame.
        window_seconds, offset_seconds: the window's length and how far it reaches beyond the keyword's end.

    Raises:
        ValueError: for a text that holds a keyword without an alignment to find it in, a frame shift that is nowhere
            said, and other bad calls, naming the cut.

    >>> from types import SimpleNamespace as Cut
    >>> word = Cut(symbol="go", start=1.0, duration=0.5)
    >>> supervision = Cut(start=0.2, alignment={"word": [word]}, custom=None, text="go")
    >>> cut = Cut(id="a", start=0.8, duration=2.0, frame_shift=0.01, supervisions=[supervision])
    >>> keyword_windows([cut], ["stop", "go"], subsampling_factor=4)[:3]  # ends 0.7 s into the cut
    (tensor([[1]]), tensor([[18]]), tensor([[[13, 28]]]))
    """
    columns = _columns(keywords)
    check_count("subsampling_factor", subsampling_factor)
    check_instance("alignment", alignment, str, "a key of supervision.alignment")
    if custom_field is not None:
        check_instance("custom_field", custom_field, str, "a key of supervision.custom, or None")
    check_instance("cuts", cuts, Iterable, "cuts")
    origin = relative_to if relative_to is not None else ("recording" if custom_field is None else "supervision")
    check_choice("relative_to", origin, ORIGINS)
    rows: list[list[tuple[int, int]]] = []
    shifts = set()
    for index, cut in enumerate(cuts):
        if not (hasattr(cut, "id") and hasattr(cut, "duration") and (hasattr(cut, "supervisions") or is_mixed(cut))):
            raise ValueError(f"cuts[{index}] is {shown(cut)}, expected a cut of lhotse's")
        shift = _frame_shift(cut, frame_shift_seconds) * subsampling_factor
        shifts.add(shift)
        words = words_of_cut(cut, columns, alignment, custom_field, origin)
        duration = check_seconds(f"cut {cut.id}: duration", cut.duration, low=0.0)
        end_name = f"cut {cut.id}: a keyword's end in frames"
        found = _occurrences(words, columns, duration)
        rows.append([(column, _frames(end_name, word.end, shift)) for column, word in found])
    if len(shifts) > 1:
        raise ValueError(f"cuts have frame shifts {sorted(shifts)}, expected one")
    shift = shifts.pop() if shifts else 1.0
    check_number("window_seconds", window_seconds, above=0.0)
    check_number("offset_seconds", offset_seconds)
    window_frames = max(1, _frames("window_seconds in frames", window_seconds, shift))
    offset_frames = _frames("offset_seconds in frames", offset_seconds, shift)
    most = max(map(len, rows), default=0)
    table = np.array([row + [(-1, 0)] * (most - len(row)) for row in rows], dtype=np.int64).reshape(len(rows), most, 2)
    labels, ends = torch.from_numpy(table).unbind(2)
    stops = ends + offset_frames
    windows = torch.stack([stops - window_frames, stops], dim=2)
    return KeywordWindows(labels.contiguous(), ends.contiguous(), windows, window_frames, offset_frames)


def _columns(keywords: object) -> dict[tuple[str, ...], int]:
    """Columns by the words of each keyword."""
    if isinstance(keywords, Mapping):
        pairs = list(keywords.items())
    elif isinstance(keywords, Sequence) and not isinstance(keywords, str):
        pairs = [(keyword, column) for column, keyword in enumerate(keywords)]
    else:
        raise ValueError(f"keywords is {keywords!r:.80}, expected a list of words or a mapping to columns")
    columns = {}
    for keyword, column in pairs:
        if not isinstance(keyword, str) or not keyword.split():
            raise ValueError(f"keywords has {keyword!r:.80}, expected words")
        if tuple(keyword.split()) in columns:
            raise ValueError(f"keywords has {keyword!r:.80} twice, expected every keyword once")
        columns[tuple(keyword.split())] = check_count(f"keywords[{keyword!r}]", column, low=0)
    return columns


def _frame_shift(cut: Any, given: float | None) -> float:
    shift = given if given is not None else getattr(cut, "frame_shift", None)
    if shift is None:
        raise ValueError(f"frame_shift_seconds is None and cut {cut.id} has no features, expected seconds")
    check_number("frame_shift_seconds" if given is not None else f"cut {cut.id}: frame_shift", shift, above=0.0)
    return float(shift)


def _frames(name: str, seconds: float, shift: float) -> int:
    """Halves up; a hair more, as 0.3 / 0.1 is less than 3."""
    return check_integer(name, math.floor(seconds / shift + 0.5 + 1e-6))


def _occurrences(
    supervisions: list[list[Word]], columns: Mapping[tuple[str, ...], int], duration: float
) -> Iterator[tuple[int, Word]]:
    """Each keyword's column and its last word, in the order of the words."""
    for words in supervisions:
        symbols = [word.symbol for word in words]
        for last, word in enumerate(words):
            for keyword, column in columns.items():
                first = last + 1 - len(keyword)
                if first >= 0 and tuple(symbols[first : last + 1]) == keyword:
                    is_there = word.end > 0 and words[first].start < duration
                    if is_there:
                        yield column, word
