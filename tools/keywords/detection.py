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
    """Add one stream: ``scores`` ``(T, K)`` smoothed posteriors, ``spoken`` the keywords (column, start, end in s).

    A keyword's score is the highest between its start and a tolerance after its end. Elsewhere every peak is a false
    alarm at thresholds below its score, a keyword taken for another included.
    """
    num_frames, num_keywords = scores.shape
    events.hours += num_frames * frame_seconds / 3600
    for column in range(num_keywords):
        rest = scores[:, column].copy()
        for keyword, start, end in spoken:
            if keyword == column:
                first = int(start / frame_seconds)
                stop = min(num_frames, int((end + TOLERANCE_SECONDS) / frame_seconds) + 1)
                events.hits.append(float(scores[first:stop, column].max()))
                rest[first:stop] = -np.inf
        events.false_alarms += [float(rest[frame]) for frame in peaks(rest, round(LOCKOUT_SECONDS / frame_seconds))]


def det_curve(events: Events) -> tuple[Array, Array]:
    """False alarms per hour, ascending, and the false-reject rate at each, one point per false alarm."""
    thresholds = np.sort(np.array(events.false_alarms))[::-1]
    hits = np.sort(np.array(events.hits))
    # At a threshold just above the n-th highest false alarm there are n - 1 of them.
    rejects = np.searchsorted(hits, thresholds, side="right") / max(1, len(hits))
    return np.arange(len(thresholds)) / events.hours, rejects


def false_reject_rate(events: Events, false_alarms_per_hour: float) -> float:
    """The lowest false-reject rate with at most that many false alarms per hour."""
    rates, rejects = det_curve(events)
    allowed = rejects[rates <= false_alarms_per_hour]
    return float(allowed[-1]) if len(allowed) else 0.0
