"""Samplers: how paths become hypotheses. A new one is one file and one line here."""

from __future__ import annotations

from wfst_losses.samplers.exhaustive import Exhaustive
from wfst_losses.samplers.grid_paths import GridPaths
from wfst_losses.samplers.nbest import NBest
from wfst_losses.samplers.negative_sampling import NegativeSampling
from wfst_losses.samplers.random_paths import RandomPaths
from wfst_losses.samplers.sampler import AbstractPathSampler

SAMPLERS: dict[str, type[AbstractPathSampler]] = {
    "random": RandomPaths,
    "nbest": NBest,
    "negative": NegativeSampling,
    "grid": GridPaths,
    "exhaustive": Exhaustive,
}

__all__ = ["SAMPLERS", "AbstractPathSampler", "Exhaustive", "GridPaths", "NBest", "NegativeSampling", "RandomPaths"]
