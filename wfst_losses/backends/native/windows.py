"""Which states a path can be in after so many frames: the start reaches them by then, and they an end in what is left.

A target almost as long as its frames leaves few; all others hold nothing and need not be looked at.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.block_steps import Plan
from wfst_losses.compiled import compiled
from wfst_losses.compiled.lanes import NUM_LANES

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_NEVER = 2**40


class Windows(NamedTuple):
    """After ``t`` frames paths are in states ``lows[t]..highs[t] - 1``, whole lanes; neither bound ever decreases."""

    lows: Ints
    highs: Ints


@compiled
def find_windows(reading: Plan, virtual: Plan, start: int, final_mantissas: Floats, num_frames: int) -> Windows:
    """The windows of a graph whose arcs lead onwards only; the plans are forward ones."""
    num_states = len(final_mantissas)
    since, until = np.full(num_states, _NEVER), np.full(num_states, _NEVER)
    since[start] = 0
    for state in range(num_states):
        since[state] = min(since[state], _earliest(reading, state, since, 1), _earliest(virtual, state, since, 0))
    for state in range(num_states - 1, -1, -1):
        if final_mantissas[state] > 0.0:
            until[state] = 0
        _hand_back(reading, state, until, 1)
        _hand_back(virtual, state, until, 0)
    lows, highs = np.full(num_frames + 1, num_states), np.zeros(num_frames + 1, np.int64)
    for state in range(num_states):
        if since[state] <= num_frames:
            highs[since[state]] = state + 1
    for state in range(num_states - 1, -1, -1):
        if until[state] <= num_frames:
            lows[num_frames - until[state]] = state
    for frame in range(1, num_frames + 1):
        highs[frame] = max(highs[frame], highs[frame - 1])
    for frame in range(num_frames - 1, -1, -1):
        lows[frame] = min(lows[frame], lows[frame + 1])
    for frame in range(num_frames + 1):
        highs[frame] = -(-highs[frame] // NUM_LANES) * NUM_LANES
        lows[frame] = min(lows[frame] // NUM_LANES * NUM_LANES, highs[frame])
    return Windows(lows, highs)


@compiled
def _earliest(plan: Plan, state: int, since: Ints, num_frames: int) -> int:
    """The first frame by which an arc of the plan leads into a state."""
    found = _NEVER
    for diagonal in range(len(plan.offsets)):
        origin = state - plan.offsets[diagonal]
        if origin >= 0 and plan.mantissas[diagonal * len(since) + state] > 0.0:
            found = min(found, since[origin] + num_frames)
    return found


@compiled
def _hand_back(plan: Plan, state: int, until: Ints, num_frames: int) -> None:
    """Tell the origins of arcs into a state how many frames they are from an end; itself it knows by now."""
    for diagonal in range(len(plan.offsets)):
        origin = state - plan.offsets[diagonal]
        if origin >= 0 and plan.mantissas[diagonal * len(until) + state] > 0.0:
            until[origin] = min(until[origin], until[state] + num_frames)
