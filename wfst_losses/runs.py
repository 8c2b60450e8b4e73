"""Which way sums were found: noted by the backends for whoever asks."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class Run:
    """The sums of one batch of graphs.

    Attributes:
        backend: its name in `wfst_losses.backends.BACKENDS`.
        kind: "graph per utterance" or "shared graph".
        num_by_path: how many graphs took each path: in which precision, scaled how; those further down the table of
            `docs/correctness.md` are what the quicker ones fall back on.
    """

    backend: str
    kind: str
    num_by_path: dict[str, int]


_runs: contextvars.ContextVar[list[Run] | None] = contextvars.ContextVar("wfst_losses_runs", default=None)


@contextlib.contextmanager
def recorded_runs() -> Iterator[list[Run]]:
    """Note how every sum inside the block was found: backend, precision, what fell back.

    Notes are the block's own: other threads' calls are not among them. A loss makes a run or two, MMI's numerator and
    denominator for instance.

    >>> import torch
    >>> from wfst_losses import ctc_loss
    >>> with recorded_runs() as runs:
    ...     _ = ctc_loss(torch.full((1, 4, 3), 1 / 3).log(), [[1, 2]], [4], backend="reference")
    >>> runs
    [Run(backend='reference', kind='graph per utterance', num_by_path={'float64, logarithms': 1})]
    """
    found: list[Run] = []
    token = _runs.set(found)
    try:
        yield found
    finally:
        _runs.reset(token)


def note(backend: str, kind: str, paths: Iterable[str]) -> None:
    """Tell how the graphs of a batch were summed, if anyone asks; one path per graph."""
    found = _runs.get()
    if found is not None:
        found.append(Run(backend, kind, dict(Counter(paths))))
