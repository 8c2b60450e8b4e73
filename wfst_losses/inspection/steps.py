"""One training step whose memory is asked for, and a bigram to ask with where no language model is at hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wfst_losses.graphs.language_model import LanguageModel

LOSSES = ("ctc", "mmi")
BACKENDS = ("native", "reference", "k2")


@dataclasses.dataclass(frozen=True)
class Step:
    """A loss and its gradient, float32, for a batch of equally long utterances: the worst case of that many frames.

    Attributes:
        loss: "ctc" or "mmi".
        topology: a name.
        num_labels, num_frames, num_utterances: V, T, B.
        num_tokens: of each target.
        backend: "native", "reference" or "k2".
        num_successors: of each state of the denominator's bigram, where there is no ``language_model``.
        language_model: an ARPA file of tokens; ``tokens`` names the labels.
        tokens: tokens.txt.
        memory: of MMI's denominator, see `mmi_loss`.
        num_threads: that torch may use.
    """

    loss: str
    topology: str
    num_labels: int
    num_frames: int
    num_utterances: int
    num_tokens: int
    backend: str = "native"
    num_successors: int | None = None
    language_model: Path | None = None
    tokens: Path | None = None
    memory: str = "full"
    num_threads: int = 1

    @property
    def emission_bytes(self) -> int:
        """Of the network's output."""
        return 4 * self.num_utterances * self.num_frames * self.num_labels

    @property
    def has_denominator(self) -> bool:
        """Whether the loss sums over all token sequences."""
        return self.loss == "mmi"


def bigram(num_labels: int, num_successors: int) -> LanguageModel:
    """A bigram without back-off: after each token, and at the start, so many tokens drawn at random, and the end.

    Raises:
        ValueError: if there are fewer tokens than that.
    """
    from wfst_losses.graphs.language_model import LanguageModel

    check_successors(num_labels, num_successors)
    draw = np.random.default_rng(0)
    tokens = [np.sort(draw.choice(num_labels - 1, num_successors, replace=False)) + 1 for _ in range(num_labels)]
    token = np.concatenate(tokens)
    score = -np.log(num_successors + 1)
    source = np.repeat(np.arange(num_labels), num_successors)
    return LanguageModel.from_arcs(source, token, token, np.full(len(token), score), np.full(num_labels, score))


def check_successors(num_labels: int, num_successors: int) -> None:
    """As many successors as there are tokens, at most."""
    if not 1 <= num_successors <= num_labels - 1:
        raise ValueError(f"num_successors is {num_successors}, expected 1..{num_labels - 1}, the number of tokens")


def language_model(step: Step) -> LanguageModel:
    """The denominator's model."""
    if step.language_model is None:
        return bigram(step.num_labels, (1 if step.num_successors is None else step.num_successors))
    from wfst_losses.graphs.language_model import LanguageModel
    from wfst_losses.graphs.tokens import read_tokens

    if step.tokens is None:
        raise ValueError("tokens is None, expected tokens.txt: an ARPA file names its tokens")
    return LanguageModel.from_arpa(step.language_model, read_tokens(step.tokens))
