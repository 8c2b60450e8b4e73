"""From posteriors to events, and from events to error rates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TOLERANCE_SECONDS = 0.5
"""How long after a keyword's end a detection still counts as its own."""
LOCKOUT_SECONDS = 0.5
"""Two detections of a keyword closer than this are one."""


@dataclass
class Events:
    """What happened in hours of audio: a score per keyword spoken, a score per detection where none was."""

    hours: float = 0.0
    hits: list[float] = field(default_factory=list)
    false_alarms: list[float] = field(default_factory=list)


def smooth(posteriors: Array, sigma_frames: float, filter_frames: int) -> Array:
    """``(T, K)`` smoothed over time by a Gaussian, renormalised at the ends: what a running detector averages."""
    offsets = np.arange(filter_frames) - filter_frames // 2
    weights = np.exp(-0.5 * (offsets / sigma_frames) ** 2)
    mass = np.convolve(np.ones(len(posteriors)), weights, mode="full")
    reach = filter_frames // 2
    columns = [np.convolve(column, weights, mode="full") / mass for column in posteriors.T]
    return np.stack(columns, axis=1)[reach : reach + len(posteriors)]


def peaks(scores: Array, lockout_frames: int) -> list[int]:
    """Frames of the maxima, highest first, none closer than ``lockout_frames`` to a higher one."""
    left = scores.astype(np.float64).copy()
    found = []
    while (best := int(left.argmax())) >= 0 and left[best] > -np.inf:
        found.append(best)
        left[max(0, best - lockout_frames) : best + lockout_frames + 1] = -np.inf
    return found


def add_events(events: Events, scores: Array, spoken: list[tuple[int, float, float]], frame_seconds: float) -> None:
    """Add one stream: ``scores`` ``(T, K)``, ``spoken`` the keywords (column, start and end in seconds).

    A keyword's score is the highest between its start and a tolerance after its end, or the next occurrence's start.
    Elsewhere every peak is a false alarm at thresholds below its score, a keyword taken for another included.
    """
    num_frames, num_keywords = scores.shape
    events.hours += num_frames * frame_seconds / 3600
    for column in range(num_keywords):
        rest = scores[:, column].copy()
        places = sorted((start, end) for keyword, start, end in spoken if keyword == column)
        next_starts = [*(start for start, _ in places), np.inf][1:]
        for (start, end), next_start in zip(places, next_starts, strict=True):
            first = int(start / frame_seconds)
            stop = int(min(end + TOLERANCE_SECONDS, next_start) / frame_seconds) + 1
            events.hits.append(float(scores[first:stop, column].max()))
            rest[first:stop] = -np.inf
        events.false_alarms += [float(rest[frame]) for frame in peaks(rest, round(LOCKOUT_SECONDS / frame_seconds))]


def det_curve(events: Events) -> tuple[Array, Array]:
    """False alarms per hour, ascending, and the lowest false-reject rate at each: one point per false alarm more."""
    thresholds = np.append(np.sort(np.array(events.false_alarms))[::-1], -np.inf)
    hits = np.sort(np.array(events.hits))
    # What scores above the n-th highest false alarm is detected: n - 1 false alarms, and the keywords above.
    rejects = np.searchsorted(hits, thresholds, side="right") / max(1, len(hits))
    return np.arange(len(thresholds)) / events.hours, rejects


def false_reject_rate(events: Events, false_alarms_per_hour: float) -> float:
    """The lowest false-reject rate with at most that many false alarms per hour."""
    rates, rejects = det_curve(events)
    return float(rejects[rates <= false_alarms_per_hour][-1])
