"""Smoothed max pooling: keyword spotting without frame labels (Park et al. 2020, arXiv 2001.09246)."""

from __future__ import annotations

from wfst_losses.losses.smoothed_max_pooling.decoder import decoder_smoothed_max_pooling_loss
from wfst_losses.losses.smoothed_max_pooling.encoder import encoder_smoothed_max_pooling_loss
from wfst_losses.losses.smoothed_max_pooling.primitive import smoothed_max_pooling_loss

__all__ = [
    "decoder_smoothed_max_pooling_loss",
    "encoder_smoothed_max_pooling_loss",
    "smoothed_max_pooling_loss",
]
