"""Memory told before it is taken, beside what is taken: every loss, estimator and decoder, a process each.

    python tools/reliability/memory_told.py                 # the table; exit status 1 if a line does not hold
    python tools/reliability/memory_told.py "CTC, native"   # one of them, here

What is told is what the refusal carries that a limit too low brings about; what is taken is the peak of the process,
value and gradient, above what it held before.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import numpy as np
import torch

import topologies
from wfst_losses import (
    Exhaustive,
    GridPaths,
    LanguageModel,
    MemoryLimitError,
    NBest,
    NegativeSampling,
    RandomPaths,
    ctc_loss,
    decode,
    decode_nbest,
    decoder_smoothed_max_pooling_loss,
    decoding_graph,
    encoder_smoothed_max_pooling_loss,
    forced_alignment,
    mmi_loss,
    mwer_loss,
    smoothed_max_pooling_loss,
)
from wfst_losses.inspection.measured_memory import forget_peak, highest_bytes, resident_bytes

WITHIN = 0.25
HEADING = f"{'':40} {'told MiB':>8} {'taken':>8} {'ratio':>7}"
Call = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Log-probs that require grad, or sharper ones, and targets."""

    num_utterances: int
    num_frames: int
    num_labels: int
    num_tokens: int
    sharpness: float = 1.0

    @functools.cached_property
    def scores(self) -> torch.Tensor:
        """``(B, T, V)``, made in place: making them must not take more than they do."""
        generator = torch.Generator().manual_seed(0)
        scores = torch.empty(self.num_utterances, self.num_frames, self.num_labels)
        for utterance in range(self.num_utterances):
            scores[utterance].normal_(generator=generator).mul_(self.sharpness)
            scores[utterance] -= scores[utterance].logsumexp(1, keepdim=True)
        return scores.requires_grad_()

    @property
    def targets(self) -> list[list[int]]:
        """Without adjacent repeats."""
        return [
            [1 + (utterance + token) % (self.num_labels - 1) for token in range(self.num_tokens)]
            for utterance in range(self.num_utterances)
        ]

    @property
    def lengths(self) -> list[int]:
        """All frames."""
        return [self.num_frames] * self.num_utterances


@dataclasses.dataclass(frozen=True)
class Entry:
    """A call, a batch that makes it take tens of megabytes, and whether what is told is an upper bound."""

    call: Call
    batch: Batch
    is_bound: bool = False
    needs_k2: bool = False


def _ctc(batch: Batch, **options: Any) -> Any:
    return ctc_loss(batch.scores, batch.targets, batch.lengths, **options)


@functools.cache
def _bigram(num_labels: int) -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel.from_counts(
        [rng.integers(1, num_labels, 30).tolist() for _ in range(100)], num_labels, order=2
    )


def _mmi(batch: Batch, **options: Any) -> Any:
    return mmi_loss(batch.scores, batch.targets, batch.lengths, language_model=_bigram(batch.num_labels), **options)


def _mwer(batch: Batch, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    return mwer_loss(batch.scores, batch.targets, batch.lengths, generator=generator, **options)


def _alignment(batch: Batch, **options: Any) -> Any:
    return forced_alignment(batch.scores, batch.targets, batch.lengths, **options).scores


@functools.cache
def _graph(num_labels: int) -> Any:
    return decoding_graph(topologies.build("compact", num_labels), _bigram(num_labels))


def _decode(batch: Batch, **options: Any) -> Any:
    return decode(_graph(batch.num_labels), batch.scores.detach(), batch.lengths, **options).scores


def _decode_nbest(batch: Batch, **options: Any) -> Any:
    return decode_nbest(_graph(batch.num_labels), batch.scores.detach(), batch.lengths, 8, **options).scores[0]


def _whole_keywords(batch: Batch, **options: Any) -> Any:
    keywords = [1] * batch.num_utterances
    return decoder_smoothed_max_pooling_loss(batch.scores, keywords, batch.lengths, batch.lengths, **options)


def _parts(batch: Batch, **options: Any) -> Any:
    parts = [[1, 2, 3]] * batch.num_utterances
    return encoder_smoothed_max_pooling_loss(batch.scores, parts, batch.lengths, batch.lengths, **options)


def _windows(batch: Batch, **options: Any) -> Any:
    windows, labels = [[[0, 20]]] * batch.num_utterances, [[1]] * batch.num_utterances
    return smoothed_max_pooling_loss(
        logits=batch.scores, windows=windows, labels=labels, input_lengths=batch.lengths,
        sigma_frames=4.0, filter_frames=9, **options,
    )  # fmt: skip


def _lattice_mwer(batch: Batch, **options: Any) -> Any:
    from wfst_losses import lattice_mwer_loss

    generator = torch.Generator().manual_seed(0)
    references = batch.targets
    return lattice_mwer_loss(_lattice(batch), references, reduction="none", generator=generator, **options)


@functools.cache
def _lattice(batch: Batch) -> Any:
    import k2

    supervisions = torch.tensor([[b, 0, batch.num_frames] for b in range(batch.num_utterances)], dtype=torch.int32)
    dense = k2.DenseFsaVec(batch.scores, supervisions)
    graph = k2.create_fsa_vec([k2.ctc_topo(batch.num_labels - 1)])
    return k2.intersect_dense_pruned(graph, dense, 20.0, 6.0, 30, 10_000)


def _with(call: Call, **fixed: Any) -> Call:
    return functools.partial(call, **fixed)


ENTRIES: dict[str, Entry] = {
    "CTC, native": Entry(_ctc, Batch(8, 3000, 200, 300)),
    "CTC, native, one long utterance": Entry(_ctc, Batch(1, 12000, 50, 600)),
    "CTC, reference": Entry(_with(_ctc, backend="reference"), Batch(16, 150, 500, 60)),
    "CTC, k2": Entry(_with(_ctc, backend="k2"), Batch(8, 300, 200, 40), is_bound=True, needs_k2=True),
    "MMI, native": Entry(_mmi, Batch(8, 3000, 200, 300)),
    "MMI, native, little memory": Entry(_with(_mmi, memory="low"), Batch(2, 8000, 200, 300)),
    "MMI, native, boosted": Entry(_with(_mmi, boost=0.5), Batch(8, 3000, 200, 100)),
    "MMI, reference": Entry(_with(_mmi, backend="reference"), Batch(4, 60, 200, 20)),
    "MMI, k2": Entry(_with(_mmi, backend="k2"), Batch(2, 30, 200, 10), is_bound=True, needs_k2=True),
    "MWER, random paths": Entry(_with(_mwer, sampler=RandomPaths(16)), Batch(8, 800, 200, 80, 8.0)),
    "MWER, random paths, drawn alignments": Entry(
        _with(_mwer, sampler=RandomPaths(64), path_score="single"), Batch(8, 800, 200, 80, 8.0)
    ),
    "MWER, random paths, many labels": Entry(_with(_mwer, sampler=RandomPaths(8)), Batch(8, 200, 4000, 20, 8.0)),
    "MWER, sampled": Entry(_with(_mwer, sampler=RandomPaths(16), estimator="sampled"), Batch(8, 800, 200, 80, 8.0)),
    "MWER, random paths, reference": Entry(
        _with(_mwer, sampler=RandomPaths(4), backend="reference"), Batch(2, 150, 500, 10, 8.0)
    ),
    "MWER, negative sampling": Entry(_with(_mwer, sampler=NegativeSampling(16)), Batch(8, 800, 500, 80, 8.0)),
    "MWER, N best": Entry(_with(_mwer, sampler=NBest(16)), Batch(8, 400, 200, 40, 4.0), is_bound=True),
    "MWER, every path": Entry(_with(_mwer, sampler=Exhaustive()), Batch(2, 7, 5, 3)),
    "MWER, exact": Entry(_with(_mwer, estimator="exact", max_errors=2), Batch(4, 600, 100, 30)),
    "MWER, k2 lattice": Entry(_lattice_mwer, Batch(2, 200, 30, 40, 2.0), is_bound=True, needs_k2=True),
    "MWER, k2 lattice, grid": Entry(
        _with(_lattice_mwer, sampler=GridPaths(16)), Batch(2, 200, 30, 40, 2.0), is_bound=True, needs_k2=True
    ),
    "forced alignment": Entry(_alignment, Batch(4, 4000, 100, 500)),
    "forced alignment, many labels": Entry(_alignment, Batch(8, 200, 4000, 20)),
    "best path": Entry(_decode, Batch(4, 4000, 200, 1)),
    "best path, k2": Entry(_with(_decode, backend="k2"), Batch(4, 400, 200, 1, 4.0), is_bound=True, needs_k2=True),
    "N best decoded": Entry(_decode_nbest, Batch(4, 10_000, 200, 1, 4.0), is_bound=True),
    "N best decoded, k2": Entry(
        _with(_decode_nbest, backend="k2"), Batch(4, 400, 200, 1, 4.0), is_bound=True, needs_k2=True
    ),
    "max pooling, keywords": Entry(_whole_keywords, Batch(16, 2000, 300, 1)),
    "max pooling, parts": Entry(_parts, Batch(16, 2000, 300, 1)),
    "max pooling, windows": Entry(_windows, Batch(16, 2000, 300, 1)),
}
"""By name; a new loss is one line."""


def told_bytes(entry: Entry) -> int:
    """The limit is raised to what it refuses until it refuses nothing: parts that depend on those before tell late."""
    told, more = 0, 1
    while more > told:
        told, more = more, refusal(entry, more)
    return told


def refusal(entry: Entry, max_memory: int) -> int:
    """What a call under this limit is refused for; 0 where it is not."""
    try:
        entry.call(entry.batch, max_memory=max_memory)
    except MemoryLimitError as error:
        return error.predicted_bytes
    return 0


def taken_bytes(entry: Entry) -> int:
    """The peak of one call and its gradient."""
    entry.batch.scores  # noqa: B018 (made before)
    before = resident_bytes()
    forget_peak()
    result = entry.call(entry.batch)
    if result.requires_grad:
        result.sum().backward()
    return highest_bytes() - before


def measure(name: str) -> dict[str, Any]:
    """One line of the table, in this process."""
    torch.set_num_threads(1)
    entry = ENTRIES[name]
    if entry.needs_k2 and not importlib.util.find_spec("k2"):
        return {"name": name, "told_bytes": None, "taken_bytes": None, "is_bound": entry.is_bound, "holds": None}
    small = dataclasses.replace(
        entry.batch, num_utterances=2, num_frames=min(12, entry.batch.num_frames // 2), num_tokens=2
    )
    result = entry.call(small)  # compiled, and whatever is kept between calls
    if result.requires_grad:
        result.sum().backward()
    if entry.call is _lattice_mwer:
        _lattice(entry.batch)
    taken, told = taken_bytes(entry), told_bytes(entry)
    holds = told >= taken if entry.is_bound else abs(told / taken - 1) <= WITHIN
    return {"name": name, "told_bytes": told, "taken_bytes": taken, "is_bound": entry.is_bound, "holds": holds}


def measured(name: str) -> dict[str, Any]:
    """The same in a process of its own, whose allocator gives back what is freed."""
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "4096"}
    done = subprocess.run([sys.executable, __file__, name], env=settings, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout.strip().endswith("}"):
        raise RuntimeError(f"{name}: {done.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    if found["taken_bytes"] is None:
        return f"{found['name']:40} k2 is not here"
    told, taken = found["told_bytes"], found["taken_bytes"]
    rule = "at most" if found["is_bound"] else "within 25 %"
    outcome = "held" if found["holds"] else "NOT HELD"
    mib = 1 << 20
    return f"{found['name']:40} {told / mib:8.1f} {taken / mib:8.1f} {told / taken:7.2f}  {rule:11}  {outcome}"


def main(names: list[str]) -> int:
    """Measure, print, tell whether all held."""
    if len(names) == 1:
        found = measure(names[0])
        print(json.dumps(found))
        return int(found["holds"] is False)
    print(HEADING, flush=True)
    held = True
    for name in names or ENTRIES:
        found = measured(name)
        held &= found["holds"] is not False
        print(line(found), flush=True)
    return int(not held)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
