"""Every rule a call must meet, in one place: each function checks one argument and says what it expected and got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from topologies import TOPOLOGIES, AbstractTopology, build

Targets: TypeAlias = "torch.Tensor | Sequence[Sequence[int]]"
Lengths: TypeAlias = "torch.Tensor | Sequence[int] | npt.NDArray[Any]"
TokenSequence: TypeAlias = npt.NDArray[np.int64]
Reduction = Literal["none", "mean", "sum"]
Nonfinite = Literal["raise", "drop", "pass"]


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, not too long."""
    return f"{' '.join(repr(value).split()):.80}"


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """``value`` must be one of ``choices``."""
    if not any(value == choice for choice in choices):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def check_reduction(reduction: str) -> None:
    """One of the three reductions."""
    check_choice("reduction", reduction, get_args(Reduction))


def check_nonfinite(nonfinite: str) -> None:
    """One of the three policies for NaN and +inf."""
    check_choice("nonfinite", nonfinite, get_args(Nonfinite))


def check_number(name: str, value: object, *, low: float = -np.inf, above: float = -np.inf) -> None:
    """A finite number of at least ``low`` and more than ``above``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} is {value!r}, expected a number")
    if not (np.isfinite(value) and value >= low and value > above):
        bound = f" >= {low}" if low > above else f" > {above}"
        raise ValueError(f"{name} is {value}, expected a finite number{bound if max(low, above) > -np.inf else ''}")


def check_count(name: str, value: object, *, low: int = 1) -> int:
    """An integer of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} is {value!r}, expected an integer")
    if value < low:
        raise ValueError(f"{name} is {value}, expected >= {low}")
    return int(value)


def check_flag(name: str, value: object) -> None:
    """True or False: text such as "False" would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r:.80}, expected True or False")


def check_generator(generator: object) -> None:
    """A generator of torch's for random numbers, or None for its own."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is {generator!r:.80}, expected a torch.Generator or None")


def check_scores(name: str, scores: object) -> torch.Tensor:
    """``(B, T, V)`` of a floating dtype, at least one label."""
    if not isinstance(scores, torch.Tensor):
        raise ValueError(f"{name} is a {type(scores).__name__}, expected a torch.Tensor of shape (B, T, V)")
    if scores.dim() != 3:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}, expected (B, T, V)")
    if scores.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(f"{name} has dtype {scores.dtype}, expected float16, bfloat16, float32 or float64")
    if scores.shape[2] < 1:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}, expected at least one label (V >= 1)")
    return scores


def check_blank(blank: object, num_labels: int) -> int:
    """A label of the network."""
    label = check_count("blank", blank, low=0)
    if label >= num_labels:
        raise ValueError(f"blank is {label} but there are {num_labels} labels, expected 0..{num_labels - 1}")
    return label


def check_lengths(name: str, lengths: object, num_utterances: int, longest: int) -> npt.NDArray[np.int64]:
    """``(B,)`` integers in ``0..longest``."""
    if isinstance(lengths, torch.Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise ValueError(f"{name} has dtype {lengths.dtype}, expected an integer dtype")
        lengths = lengths.detach().cpu().numpy()
    try:
        column = np.asarray(lengths)
    except ValueError:
        column = np.asarray(lengths, dtype=object)
    if column.size == 0 and column.ndim == 1:
        column = column.astype(np.int64)
    if column.dtype.kind not in "iu":
        raise ValueError(f"{name} is {shown(lengths)}, of dtype {column.dtype}, expected integers")
    if column.shape != (num_utterances,):
        raise ValueError(f"{name} has shape {column.shape}, expected ({num_utterances},), one per utterance")
    wrong = (column < 0) | (column > longest)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(f"{name}[{index}] is {column[index]}, expected 0..{longest}")
    return column.astype(np.int64)


def check_targets(
    targets: object, target_lengths: object, num_utterances: int, num_labels: int, blank: int
) -> list[TokenSequence]:
    """Token sequences from a padded ``(B, S)`` tensor with lengths, or from a list of lists.

    Raises:
        ValueError: for a wrong shape, dtype, length, a label outside ``0..V-1``, or blank inside a target.
    """
    if isinstance(targets, torch.Tensor):
        sequences = _padded_rows(targets, target_lengths, num_utterances)
    else:
        sequences = _listed_rows(targets, target_lengths, num_utterances)
    for index, sequence in enumerate(sequences):
        wrong = (sequence < 0) | (sequence >= num_labels) | (sequence == blank)
        if wrong.any():
            position = int(np.argmax(wrong))
            label = int(sequence[position])
            if label == blank:
                problem = f"is {label}, the blank; expected a token other than blank"
            else:
                problem = f"is {label} but log_probs has {num_labels} columns, expected 0..{num_labels - 1}" + (
                    ": is the output layer one too small?" if label == num_labels else ""
                )
            raise ValueError(f"targets[{index}][{position}] {problem}")
    return sequences


def _padded_rows(targets: torch.Tensor, target_lengths: object, num_utterances: int) -> list[TokenSequence]:
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"targets has dtype {targets.dtype}, expected an integer dtype")
    if targets.dim() != 2:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}, expected (B, S) padded; pass concatenated targets as a "
            "list of lists"
        )
    if targets.shape[0] != num_utterances:
        raise ValueError(
            f"targets has {targets.shape[0]} rows but log_probs has {num_utterances} utterances, expected as many"
        )
    if target_lengths is None:
        raise ValueError("target_lengths is None, expected (B,) integers: targets are padded")
    lengths = check_lengths("target_lengths", target_lengths, num_utterances, targets.shape[1])
    rows = targets.detach().cpu().numpy().astype(np.int64)
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def _listed_rows(targets: object, target_lengths: object, num_utterances: int) -> list[TokenSequence]:
    if not isinstance(targets, Sequence) or isinstance(targets, (str, bytes)):
        raise ValueError(f"targets is {shown(targets)}, expected a (B, S) tensor or a list of lists")
    if len(targets) != num_utterances:
        raise ValueError(
            f"targets has {len(targets)} sequences but log_probs has {num_utterances} utterances, expected as many"
        )
    sequences: list[TokenSequence] = []
    for index, target in enumerate(targets):
        if isinstance(target, torch.Tensor):
            target = target.detach().cpu().numpy()  # noqa: PLW2901
        try:
            row = np.asarray(target)
        except ValueError:
            row = np.asarray(None)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise ValueError(f"targets[{index}] is {target!r:.80}, expected a sequence of integers")
        sequences.append(row.astype(np.int64))
    if target_lengths is not None:
        longest = max((len(row) for row in sequences), default=0)
        lengths = check_lengths("target_lengths", target_lengths, num_utterances, longest)
        for index, (row, length) in enumerate(zip(sequences, lengths, strict=True)):
            if length > len(row):
                raise ValueError(f"target_lengths[{index}] is {length}, expected 0..{len(row)}")
        sequences = [row[:length] for row, length in zip(sequences, lengths, strict=True)]
    return sequences


def check_topology(topology: object, num_labels: int) -> AbstractTopology:
    """A topology value for ``num_labels`` labels, from a name or a value."""
    if isinstance(topology, str):
        check_choice("topology", topology, tuple(TOPOLOGIES))
        return build(topology, num_labels)
    if not isinstance(topology, AbstractTopology):
        raise ValueError(f"topology is {topology!r:.80}, expected a name or a topology value")
    if topology.num_labels != num_labels:
        raise ValueError(
            f"topology has {topology.num_labels} labels but log_probs has {num_labels} columns, expected as many"
        )
    return topology
