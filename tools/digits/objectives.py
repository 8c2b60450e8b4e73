"""What train.py minimises: CTC, MMI, or expected errors over a k2 lattice or from log-probs."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lexicon import text_to_labels
from torch import Tensor

import topologies
from wfst_losses import (
    LanguageModel,
    NBest,
    NegativeSampling,
    RandomPaths,
    TokenErrors,
    WordErrors,
    ctc_loss,
    lattice_mwer_loss,
    mmi_loss,
    mwer_loss,
)
from wfst_losses.samplers import AbstractPathSampler

Objective = Callable[[Tensor, Tensor, list[list[int]]], dict[str, Tensor]]
"""(log_probs (B, T, V), lengths (B,), targets) -> terms, ``(B,)`` each; ``loss`` is the one to minimise."""

LOSSES = ("ctc", "mmi", "mwer")
PEERS = ("k2-mwer",)
"""Losses of other packages, to compare with; k2's draws its own ``num_paths``, and counts tokens."""
SAMPLERS = {"random": RandomPaths, "nbest": NBest, "negative": NegativeSampling}
SEARCH_BEAM = 20.0
OUTPUT_BEAM = 8.0
MAX_ACTIVE_STATES = 10_000


def has_k2() -> bool:
    """Tell whether the k2 package is installed."""
    return importlib.util.find_spec("k2") is not None


def make_objective(
    args: argparse.Namespace,
    tokens: list[str],
    *,
    texts: Iterable[str] = (),
    generator: torch.Generator | None = None,
    loss: str | None = None,
) -> Objective:
    """Return the objective that the command line asks for; random draws repeat with ``args.seed``.

    ``texts`` are the training texts, which MMI counts its bigrams in; ``loss`` stands in for ``args.loss``.
    """
    ctc = CTCObjective(args.topology)
    loss = loss or args.loss
    if loss == "ctc":
        return ctc
    if loss == "mmi":
        sequences = [text_to_labels(text, tokens) for text in texts]
        return MMIObjective(args.topology, LanguageModel.from_counts(sequences, len(tokens), args.lm_order))
    if loss == "k2-mwer":
        return K2MWERObjective(args.topology, len(tokens), args.num_paths, args.nbest_scale)
    use_k2 = has_k2() if args.lattice == "auto" else args.lattice == "k2"
    risk = WordErrors(tokens=tokens) if args.risk == "word" else TokenErrors()
    generator = generator if generator is not None else torch.Generator().manual_seed(args.seed)
    options = {
        "sampler": make_sampler(args),
        "include_reference": args.include_reference,
        "risk": risk,
        "estimator": args.estimator,
        **({"max_errors": args.max_errors} if args.estimator == "exact" else {}),
        "path_score": args.path_score,
        "nbest_scale": args.nbest_scale,
        "generator": generator,
    }
    mwer: Objective = (
        LatticeMWERObjective(args.topology, len(tokens), options)
        if use_k2
        else EmissionMWERObjective(args.topology, options)
    )
    if args.acoustic_scale != 1:
        mwer = ScaledObjective(mwer, args.acoustic_scale)
    return InterpolatedObjective(mwer, ctc, args.ctc_weight) if args.ctc_weight else mwer


def make_sampler(args: argparse.Namespace) -> AbstractPathSampler:
    """Return what picks MWER's paths."""
    options = {"mask_probability": args.mask_probability} if args.sampler == "negative" else {}
    return SAMPLERS[args.sampler](num_paths=args.num_paths, **options)


class CTCObjective:
    """CTC of the topology, in nats."""

    def __init__(self, topology: str) -> None:
        self.topology = topology

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Utterances too short for their text are +inf."""
        loss = ctc_loss(log_probs, targets, lengths, topology=self.topology)
        return {"loss": loss, "ctc": loss.detach()}


class MMIObjective:
    """MMI against all letter sequences, weighed by a language model of the training texts, in nats."""

    def __init__(self, topology: str, language_model: LanguageModel) -> None:
        self.topology, self.language_model = topology, language_model

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Utterances too short for their text are +inf."""
        loss = mmi_loss(log_probs, targets, lengths, topology=self.topology, language_model=self.language_model)
        return {"loss": loss, "mmi": loss.detach()}


class EmissionMWERObjective:
    """Expected errors of paths drawn from the network's outputs themselves: nothing pruned, no k2."""

    def __init__(self, topology: str, options: dict[str, object]) -> None:
        self.topology, self.options = topology, options

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Return expected errors."""
        loss = mwer_loss(log_probs, targets, lengths, topology=self.topology, baseline="none", **self.options)
        return {"loss": loss, "mwer": loss.detach()}


class K2Lattices:
    """Pruned lattices of the topology, as in an icefall recipe."""

    def __init__(self, topology: str, num_labels: int) -> None:
        import k2

        from wfst_losses.backends.k2.convert import to_k2

        self.k2 = k2
        graph = topologies.without_epsilons(topologies.build(topology, num_labels).graph())
        self.graph = k2.arc_sort(to_k2(graph))

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> Any:
        """Return the lattices; k2 wants the utterances longest first, which the sampler sees to."""
        segments = torch.zeros(len(lengths), 3, dtype=torch.int32)
        segments[:, 0] = torch.arange(len(lengths))
        segments[:, 2] = lengths.cpu()
        dense = self.k2.DenseFsaVec(log_probs, segments)
        return self.k2.intersect_dense_pruned(
            self.graph, dense, SEARCH_BEAM, OUTPUT_BEAM, min_active_states=30, max_active_states=MAX_ACTIVE_STATES
        )


class LatticeMWERObjective:
    """Expected errors of paths drawn from a pruned k2 lattice."""

    def __init__(self, topology: str, num_labels: int, options: dict[str, object]) -> None:
        self.lattices, self.options = K2Lattices(topology, num_labels), options

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Return expected errors."""
        loss = lattice_mwer_loss(self.lattices(log_probs, lengths), targets, reduction="none", **self.options)
        return {"loss": loss, "mwer": loss.detach()}


class K2MWERObjective:
    """k2's own ``mwer_loss`` on the same lattices."""

    def __init__(self, topology: str, num_labels: int, num_paths: int, nbest_scale: float) -> None:
        self.lattices = K2Lattices(topology, num_labels)
        self.options = {"num_paths": num_paths, "nbest_scale": nbest_scale}

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Return expected errors per utterance: k2 gives one addend per hypothesis."""
        lattice = self.lattices(log_probs, lengths)
        loss = self.lattices.k2.mwer_loss(lattice, targets, reduction="none", **self.options).sum()
        return {"loss": loss, "mwer": loss.detach()}


class ScaledObjective:
    """Another objective on sharper outputs, ``softmax(scale * log_probs)``: closer to what greedy decoding takes."""

    def __init__(self, objective: Objective, scale: float) -> None:
        self.objective, self.scale = objective, scale

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Return what the other objective says of the scaled outputs."""
        return self.objective((self.scale * log_probs).log_softmax(-1), lengths, targets)


class InterpolatedObjective:
    """Expected errors plus a little CTC, which keeps the alignments in place."""

    def __init__(self, mwer: Objective, ctc: Objective, ctc_weight: float) -> None:
        self.mwer, self.ctc, self.ctc_weight = mwer, ctc, ctc_weight

    def __call__(self, log_probs: Tensor, lengths: Tensor, targets: list[list[int]]) -> dict[str, Tensor]:
        """Return the weighted sum and both terms."""
        mwer, ctc = self.mwer(log_probs, lengths, targets), self.ctc(log_probs, lengths, targets)
        return {"loss": mwer["loss"] + self.ctc_weight * ctc["loss"], "mwer": mwer["mwer"], "ctc": ctc["ctc"]}
