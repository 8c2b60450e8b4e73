"""The native backend on CUDA: the same sums by Triton kernels, one launch per frame and level of virtual arcs.

Graphs of targets are summed in float64 logarithms. A graph that all utterances share is summed in scaled numbers of the
scores' own precision, utterances side by side; utterances for which those could have lost a path are found afterwards
and summed again in logarithms. No kernel adds up in an order that may change: results are the same at every run.

Kernels run on CPU tensors too, in Triton's interpreter, where ``TRITON_INTERPRET=1`` asks for it: slow, for tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def applies(scores: torch.Tensor) -> bool:
    """Whether the kernels take scores on this device."""
    return _has_triton() and (scores.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
