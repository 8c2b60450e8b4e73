"""Several objectives in one training: stages, one after the other, and CTC at intermediate layers."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterable

import torch
from objectives import LOSSES, CTCObjective, Objective, make_objective
from torch import Tensor

from wfst_losses import WeightedLosses
from wfst_losses.weighted_losses import AbstractSchedule


@dataclasses.dataclass(frozen=True)
class Between(AbstractSchedule):
    """1 from one step on until before another: a stage."""

    first: int
    end: int | None

    def weight(self, step: int) -> float:
        """1 or 0."""
        return float(self.first <= step and (self.end is None or step < self.end))


class TrainingLoss:
    """Everything minimised at a step: the loss, or the stages one after the other, and CTC at intermediate layers.

    ``--stages ctc:0 mmi:400 mwer:800`` switches at those steps; each intermediate layer adds its weighted CTC.
    """

    def __init__(
        self, args: argparse.Namespace, tokens: list[str], texts: Iterable[str], generator: torch.Generator
    ) -> None:
        texts = list(texts)
        stages = [parse_stage(stage) for stage in args.stages] or [(args.loss, 0)]
        if stages[0][1] != 0 or [step for _, step in stages] != sorted({step for _, step in stages}):
            raise ValueError(f"stages is {args.stages}, expected ascending steps, the first 0")
        if args.intermediate_layers and not args.intermediate_ctc_weight > 0:
            raise ValueError(f"intermediate_ctc_weight is {args.intermediate_ctc_weight}, expected above 0 with layers")
        if len(dict(stages)) < len(stages):
            raise ValueError(f"stages is {args.stages}, expected each loss once")
        self.objectives = {
            name: make_objective(args, tokens, texts=texts, generator=generator, loss=name) for name, _ in stages
        }
        self.layers = [f"ctc_at_{layer}" for layer in args.intermediate_layers]
        self.inner = CTCObjective(args.topology)
        ends = [step for _, step in stages[1:]]
        schedules = {name: Between(step, end) for (name, step), end in zip(stages, [*ends, None], strict=True)}
        self.weighted = WeightedLosses(**schedules, **dict.fromkeys(self.layers, args.intermediate_ctc_weight))

    def __call__(
        self, outputs: list[Tensor], lengths: Tensor, targets: list[list[int]], step: int
    ) -> dict[str, Tensor]:
        """Return the terms, ``(B,)`` each, ``loss`` the one to minimise.

        Outputs are the last layer's, then the intermediate ones.
        """
        logged: dict[str, Tensor] = {}

        def main(objective: Objective) -> Tensor:
            values = objective(outputs[0], lengths, targets)
            logged.update({name: value for name, value in values.items() if name != "loss"})
            return values["loss"]

        terms: dict[str, Tensor | Callable[[], Tensor]] = {
            name: functools.partial(main, objective) for name, objective in self.objectives.items()
        }
        for name, log_probs in zip(self.layers, outputs[1:], strict=True):
            terms[name] = self.inner(log_probs, lengths, targets)["loss"]
        loss = self.weighted(terms, step)
        inner = {name: value for name, value in self.weighted.last_terms.items() if name in self.layers}
        return {**logged, **inner, "loss": loss}


def parse_stage(stage: str) -> tuple[str, int]:
    """Split ``mwer:800`` into the loss and the step it begins at."""
    name, _, step = stage.partition(":")
    if name not in LOSSES or not step.isdigit():
        raise ValueError(f"stages has {stage!r}, expected LOSS:STEP with a loss among {', '.join(LOSSES)}")
    return name, int(step)
