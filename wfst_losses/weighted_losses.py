"""Several losses at once, each with a weight that follows the training step."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping

import torch

from wfst_losses.validation import check_count, check_dense, check_instance, check_number

Term = torch.Tensor | Callable[[], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class AbstractSchedule(abc.ABC):
    """A weight for every step, counted from 0: the step is all its state, so nothing is to be saved or restored."""

    @abc.abstractmethod
    def weight(self, step: int) -> float:
        """At least 0."""


@dataclasses.dataclass(frozen=True)
class Constant(AbstractSchedule):
    """The same weight at every step."""

    value: float = 1.0

    def __post_init__(self) -> None:
        check_number("value", self.value, low=0.0)

    def weight(self, step: int) -> float:
        """``value``."""
        del step
        return float(self.value)


@dataclasses.dataclass(frozen=True)
class Linear(AbstractSchedule):
    """``first`` until ``first_step``, ``last`` from ``last_step`` on, a straight line between.

    >>> [Linear(1.0, 0.2, first_step=10, last_step=20).weight(step) for step in (0, 15, 99)]
    [1.0, 0.6, 0.2]
    """

    first: float
    last: float
    first_step: int = 0
    last_step: int = 1

    def __post_init__(self) -> None:
        check_number("first", self.first, low=0.0)
        check_number("last", self.last, low=0.0)
        check_count("first_step", self.first_step, low=0)
        check_count("last_step", self.last_step, low=self.first_step + 1)

    def weight(self, step: int) -> float:
        """On the line."""
        part = min(max((step - self.first_step) / (self.last_step - self.first_step), 0.0), 1.0)
        return (1.0 - part) * self.first + part * self.last


@dataclasses.dataclass(frozen=True)
class Switch(AbstractSchedule):
    """``before`` until ``step``, ``after`` from that step on: CTC first, then MWER.

    >>> [Switch(step=100).weight(step) for step in (99, 100)]
    [0.0, 1.0]
    """

    step: int
    before: float = 0.0
    after: float = 1.0

    def __post_init__(self) -> None:
        check_count("step", self.step, low=0)
        check_number("before", self.before, low=0.0)
        check_number("after", self.after, low=0.0)

    def weight(self, step: int) -> float:
        """One of the two."""
        return float(self.after if step >= self.step else self.before)


class WeightedLosses:
    """``sum_k weight_k(step) * term_k``, and what each term was.

    Terms are ``(B,)`` values of the same B utterances, or all scalars. A term of weight 0 is left out: not computed
    where it is a callable, and its infinities do not count. An utterance that is +inf in any other term is +inf in the
    sum, and has zero gradient in all of them once a reduction over the finite ones has left it out.

    Every process that shares a step makes the same choice of terms, so that distributed training stays in step.

    Args:
        schedules: by name of the term; a number is a constant weight.

    >>> losses = WeightedLosses(ctc=Linear(1.0, 0.0, 0, 100), mwer=Switch(step=50), inner_ctc=0.3)
    >>> losses.weights(50)
    {'ctc': 0.5, 'mwer': 1.0, 'inner_ctc': 0.3}
    >>> terms = {"ctc": torch.tensor([2.0, torch.inf]), "mwer": lambda: torch.ones(2), "inner_ctc": torch.zeros(2)}
    >>> losses(terms, step=50)
    tensor([2., inf])
    >>> losses.last_terms["mwer"]
    tensor([1., 1.])
    """

    def __init__(self, **schedules: AbstractSchedule | float) -> None:
        if not schedules:
            raise ValueError("no schedule is given, expected one or more")
        self.schedules: dict[str, AbstractSchedule] = {}
        for name, schedule in schedules.items():
            if not isinstance(schedule, AbstractSchedule):
                check_number(name, schedule, low=0.0)
                schedule = Constant(float(schedule))  # noqa: PLW2901
            self.schedules[name] = schedule
        self.last_terms: dict[str, torch.Tensor] = {}

    def __repr__(self) -> str:
        return f"WeightedLosses({', '.join(f'{name}={schedule}' for name, schedule in self.schedules.items())})"

    def weights(self, step: int) -> dict[str, float]:
        """Each term's weight at a step."""
        check_count("step", step, low=0)
        return {name: schedule.weight(step) for name, schedule in self.schedules.items()}

    def __call__(self, terms: Mapping[str, Term], step: int) -> torch.Tensor:
        """The weighted sum, in the terms' shape; `last_terms` has each term that entered it, detached, unweighted.

        Raises:
            ValueError: for a term too many or too few, of another shape, or not of floating numbers, naming it.
        """
        check_instance("terms", terms, Mapping, "a mapping from names to terms")
        unknown = [name for name in terms if name not in self.schedules]
        missing = [name for name, weight in self.weights(step).items() if weight and name not in terms]
        if unknown or missing:
            wrong = f"has {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
            raise ValueError(f"terms {wrong}, expected {', '.join(map(repr, self.schedules))}")
        total: torch.Tensor | None = None
        self.last_terms = {}
        for name, weight in self.weights(step).items():
            if not weight:
                continue
            term = terms[name]
            value = term() if callable(term) else term
            _check_term(f"terms[{name!r}]", value)
            if total is not None and value.shape != total.shape:
                raise ValueError(
                    f"terms[{name!r}] has shape {tuple(value.shape)}, expected {tuple(total.shape)} as the terms before"
                )
            self.last_terms[name] = value.detach()
            total = weight * value if total is None else total + weight * value
        if total is None:
            raise ValueError(f"every weight is 0 at step {step}, expected one above 0")
        return total


def _check_term(name: str, value: torch.Tensor) -> None:
    check_instance(name, value, torch.Tensor, "a tensor, or a function that returns one")
    check_dense(name, value)
    if not value.is_floating_point():
        raise ValueError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    if value.dim() > 1:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected (B,) values or a scalar")
