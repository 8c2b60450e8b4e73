"""Samplers: how paths become hypotheses. A new one is one file and one line here."""

from __future__ import annotations

from wfst_losses.samplers.exhaustive import Exhaustive
from wfst_losses.samplers.nbest import NBest
from wfst_losses.samplers.negative_sampling import NegativeSampling
from wfst_losses.samplers.random_paths import RandomPaths
from wfst_losses.samplers.sampler import AbstractPathSampler

SAMPLERS: dict[str, type[AbstractPathSampler]] = {
    "random": RandomPaths,
    "nbest": NBest,
    "negative": NegativeSampling,
    "exhaustive": Exhaustive,
}

__all__ = ["SAMPLERS", "AbstractPathSampler", "Exhaustive", "NBest", "NegativeSampling", "RandomPaths"]
