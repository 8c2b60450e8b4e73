"""Cut manifests (``cuts.jsonl.gz``) against a topology, line by line: lhotse, torch and the features are not needed."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from topologies import AbstractTopology
from topologies.atomic import replacing
from wfst_losses.integrations.text_units import TextToLabels

_GZIP = b"\x1f\x8b"
_CHUNK = 1000
_MOST_NAMES = 10_000
_MOST_SECONDS = 1e8

TOO_SHORT = "no alignment fits"
UNKNOWN = "unknown token"
EMPTY = "empty text"
UNSUPERVISED = "no supervision"
PROBLEMS = (TOO_SHORT, UNKNOWN, EMPTY, UNSUPERVISED)


@dataclasses.dataclass(frozen=True)
class Frames:
    """How many output frames the network makes of n feature frames: ``(n - lost) // subsampling``, at least 0.

    Attributes:
        subsampling: feature frames per output frame.
        lost: 0 for padded convolutions; icefall's zipformer loses 5 (``((n - 7) // 2 + 1) // 2``), its conformer 3.
        frame_shift_seconds: of cuts without features; others know theirs.
    """

    subsampling: int = 4
    lost: int = 0
    frame_shift_seconds: float = 0.01


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with one supervision of a cut; ``num_frames`` and ``min_frames`` are output frames."""

    cut_id: str
    problem: str
    supervision_id: str | None = None
    text: str | None = None
    num_frames: int | None = None
    min_frames: int | None = None
    unknown: tuple[str, ...] = ()


@dataclasses.dataclass
class Summary:
    """Counts over a manifest; a cut with several problems counts once for each of its findings.

    Attributes:
        num_cuts, num_supervisions, seconds: all of them.
        num_kept, kept_seconds: cuts without any finding.
        problems: findings by kind.
        unknown: occurrences by token, of the first 10,000 different ones.
    """

    num_cuts: int = 0
    num_supervisions: int = 0
    seconds: float = 0.0
    num_kept: int = 0
    kept_seconds: float = 0.0
    problems: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown: Counter[str] = dataclasses.field(default_factory=Counter)

    def count(self, findings: list[Finding]) -> None:
        """Add the findings of a cut."""
        for finding in findings:
            self.problems[finding.problem] += 1
            for name in finding.unknown:
                if name in self.unknown or len(self.unknown) < _MOST_NAMES:
                    self.unknown[name] += 1


def check_manifest(
    path: Path,
    topology: AbstractTopology,
    text_to_labels: TextToLabels,
    frames: Frames,
    *,
    output: Path | None = None,
    on_finding: Callable[[Finding], object] | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> Summary:
    """Go once over a manifest in constant memory; report each finding as it comes, keep the cuts that have none.

    ``output`` gets the lines of the other cuts as they are, whole or not at all; gzip where its name says so.
    ``on_bytes`` is told the progress, in bytes of the file.

    Raises:
        ValueError: for what is no JSON-lines manifest of cuts, naming the file and the line.
        OSError: if a file cannot be read or written.
    """
    summary = Summary()
    if output is None:
        _check(path, topology, text_to_labels, frames, summary, None, on_finding, on_bytes)
        return summary
    with replacing(output) as file:
        if output.suffix == ".gz":
            # No time and no name inside: the same cuts are the same file.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0) as packed:
                _check(path, topology, text_to_labels, frames, summary, packed, on_finding, on_bytes)
        else:
            _check(path, topology, text_to_labels, frames, summary, file, on_finding, on_bytes)
    return summary


def _check(
    path: Path,
    topology: AbstractTopology,
    text_to_labels: TextToLabels,
    frames: Frames,
    summary: Summary,
    kept: IO[bytes] | gzip.GzipFile | None,
    on_finding: Callable[[Finding], object] | None,
    on_bytes: Callable[[int], object] | None,
) -> None:
    lines = _lines(path, on_bytes)
    while chunk := list(itertools.islice(lines, _CHUNK)):
        cuts = [_read(path, number, line) for number, line in chunk]
        for (_, line), (duration, num_supervisions, found) in zip(
            chunk, _findings(path, chunk, cuts, topology, text_to_labels, frames), strict=True
        ):
            summary.num_cuts += 1
            summary.num_supervisions += num_supervisions
            summary.seconds += duration
            summary.count(found)
            for finding in found if on_finding is not None else ():
                on_finding(finding)  # type: ignore[misc]  # not None here
            if not found:
                summary.num_kept += 1
                summary.kept_seconds += duration
                if kept is not None:
                    kept.write(line.rstrip(b"\r\n") + b"\n")


def _lines(path: Path, on_bytes: Callable[[int], object] | None) -> Iterator[tuple[int, bytes]]:
    """Numbers and lines, blank ones left out."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        lines: Any = gzip.GzipFile(fileobj=file) if packed else file
        before = number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if on_bytes is not None and number % _CHUNK == 0:
                    on_bytes(file.tell() - before)
                    before = file.tell()
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}, after line {number}: is truncated or damaged ({error})") from None


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        cut = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: is no JSON ({error}), expected a cut per line") from None
    except RecursionError:
        raise ValueError(f"{path}, line {number}: is nested too deep, expected a cut per line") from None
    if not isinstance(cut, dict) or "id" not in cut or not ("duration" in cut or "tracks" in cut):
        raise ValueError(f"{path}, line {number}: is {line[:60]!r}, expected a cut with id and duration or tracks")
    if not isinstance(cut["id"], str):
        raise ValueError(f"{path}, line {number}: id is {cut['id']!r:.80}, expected text")
    return cut


def _findings(
    path: Path,
    chunk: list[tuple[int, bytes]],
    cuts: list[dict[str, Any]],
    topology: AbstractTopology,
    text_to_labels: TextToLabels,
    frames: Frames,
) -> Iterator[tuple[float, int, list[Finding]]]:
    """Duration, number of supervisions and findings of each cut; the frames of all targets are counted at once."""
    rows: list[tuple[float, list[tuple[dict[str, Any], int, list[int], list[str]]]]] = []
    targets: list[Any] = []
    for (number, _), cut in zip(chunk, cuts, strict=True):
        try:
            duration, supervisions = _supervisions(cut, frames)
            row = [(sup, num, *text_to_labels(sup.get("text") or "")) for sup, num in supervisions]
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}, line {number}: cut {cut['id']!r:.80} cannot be read ({reason})") from None
        rows.append((duration, row))
        targets += [np.array(labels, dtype=np.int64) for _, _, labels, _ in row]
    needed = iter(topology.min_frames(targets).tolist())
    for (duration, row), cut in zip(rows, cuts, strict=True):
        cut_id = str(cut["id"])
        found = [] if row else [Finding(cut_id, UNSUPERVISED)]
        for supervision, num_frames, labels, unknown in row:
            at_least = next(needed)
            text = supervision.get("text") or ""
            common = (str(supervision.get("id")), text[:200], num_frames, at_least)
            if unknown:
                found.append(Finding(cut_id, UNKNOWN, *common, tuple(dict.fromkeys(unknown))))
            elif not labels:
                found.append(Finding(cut_id, EMPTY, *common))
            elif not 0 <= at_least <= num_frames:
                found.append(Finding(cut_id, TOO_SHORT, *common))
        yield duration, len(row), found


def _supervisions(cut: dict[str, Any], frames: Frames) -> tuple[float, list[tuple[dict[str, Any], int]]]:
    """A cut's seconds, and its supervisions with their output frames, as lhotse's K2 dataset has them."""
    tracks = [(0.0, cut)]
    if "tracks" in cut:
        tracks = [(_seconds(track, "offset"), track["cut"]) for track in cut["tracks"]]
    # A mixed cut ends with its last track, sums rounded as lhotse does.
    duration = round(max((offset + _seconds(track, "duration") for offset, track in tracks), default=0.0), 8)
    rate, shift = 16_000, frames.frame_shift_seconds
    for _, track in tracks:
        _seconds({"start": 0.0, **track}, "start")
        features, recording = track.get("features") or {}, track.get("recording") or {}
        rate = features.get("sampling_rate") or recording.get("sampling_rate") or track.get("sampling_rate") or rate
        shift = features.get("frame_shift") or shift
    hop = round(shift * rate)

    def num_frames(seconds: float) -> int:
        return (round(seconds * rate) + hop // 2) // hop

    found = []
    for offset, track in tracks:
        for supervision in track.get("supervisions") or ():
            # lhotse truncates a cut and leaves the supervisions whole: they may begin before it, not end there.
            start = round(_seconds(supervision, "start", low=-_MOST_SECONDS) + offset, 8)
            length = _seconds(supervision, "duration")
            if num_frames(start + length) < 0:
                raise ValueError(f"a supervision of {length} seconds starts at {start}, expected one that is in it")
            inside = min(num_frames(length), num_frames(duration) - num_frames(start))
            found.append((supervision, max(0, math.floor((inside - frames.lost) / frames.subsampling))))
    return duration, found


def _seconds(row: dict[str, Any], name: str, *, low: float = 0.0) -> float:
    value = row[name]
    # Text and truth values could be added up too; NaN compares with nothing.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= _MOST_SECONDS:
        raise ValueError(f"{name} is {value!r:.80}, expected seconds, {low:g} to {_MOST_SECONDS:g}")
    return float(value)
