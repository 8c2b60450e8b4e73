"""Batches of the prepared features, by lhotse's samplers and dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet, load_manifest
from lhotse.dataset import DynamicBucketingSampler, K2SpeechRecognitionDataset, SimpleCutSampler, SpecAugment
from torch.utils.data import DataLoader


def load_cuts(data_dir: Path, split: str) -> CutSet:
    """Read the manifest of a split."""
    path = data_dir / f"cuts_{split}.jsonl.gz"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run tools/digits/prepare.py --output-dir {data_dir}")
    return load_manifest(path)


def split_into_parts(cuts: CutSet, num_parts: int) -> list[CutSet]:
    """Deal the noise draws of a manifest into ``num_parts`` sets; a training epoch reads one of them."""
    draws = [cut.supervisions[0].custom["draw"] for cut in cuts]
    # Neighbouring draws differ in the kind of noise: two of them at a time keep every part balanced.
    return [
        CutSet.from_cuts(cut for cut, draw in zip(cuts, draws, strict=True) if draw // 2 % num_parts == part)
        for part in range(num_parts)
    ]


def spec_augment() -> SpecAugment:
    """Return masks of a size that leaves most letters of a three-second string readable."""
    return SpecAugment(
        time_warp_factor=0, num_feature_masks=2, features_mask_size=6, num_frame_masks=2, frames_mask_size=12
    )


def train_loader(
    cuts: CutSet, max_duration: float, seed: int, epoch: int, *, augment: bool = False
) -> DataLoader[dict[str, Any]]:
    """Shuffled batches of similar durations, of at most ``max_duration`` seconds; the epoch decides the order."""
    sampler = DynamicBucketingSampler(
        cuts, max_duration=max_duration, num_buckets=8, shuffle=True, seed=seed, drop_last=False
    )
    sampler.set_epoch(epoch)
    transforms = [spec_augment()] if augment else []
    dataset = K2SpeechRecognitionDataset(return_cuts=True, input_transforms=transforms)
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def eval_loader(cuts: CutSet, max_duration: float = 400.0) -> DataLoader[dict[str, Any]]:
    """Batches in the manifest's order: all of them, whatever other processes there are."""
    sampler = SimpleCutSampler(cuts, max_duration=max_duration, shuffle=False, world_size=1, rank=0)
    return DataLoader(K2SpeechRecognitionDataset(return_cuts=True), sampler=sampler, batch_size=None)


def unpack(batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, list[str], list[str]]:
    """Return features ``(B, T, F)``, frames ``(B,)``, texts and cut ids in the order of the batch."""
    supervisions = batch["supervisions"]
    ids = [cut.id for cut in supervisions["cut"]]
    return batch["inputs"], supervisions["num_frames"].long(), list(supervisions["text"]), ids


def is_duplicate(cut_id: str) -> bool:
    """Tell whether lhotse made this cut of another so that every process has one: it says so in the name."""
    return "_dup" in cut_id
