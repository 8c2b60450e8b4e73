"""Every rule a call must meet, in one place: each function checks one argument and says what it expected and got."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from topologies import TOPOLOGIES, AbstractTopology, build

Targets: TypeAlias = "torch.Tensor | Sequence[Sequence[int]]"
Lengths: TypeAlias = "torch.Tensor | Sequence[int] | npt.NDArray[Any]"
MOST = 2**31 - 1
LARGEST = 1e12
"""Numbers of a call are factors and widths near 1: beyond this, either way, products leave float32."""
TokenSequence: TypeAlias = npt.NDArray[np.int64]
Reduction = Literal["none", "mean", "sum"]
Nonfinite = Literal["raise", "drop", "pass"]
_FUNCTORCH = getattr(torch._C, "_functorch", None)  # noqa: SLF001 (nothing public tells)
_REDUCTIONS, _NONFINITE = get_args(Reduction), get_args(Nonfinite)


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, not too long."""
    return f"{' '.join(repr(value).split()):.80}"


def to_numpy(name: str, tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor's values on the CPU."""
    check_dense(name, tensor)
    return np.asarray(tensor.detach().resolve_neg().cpu().numpy())


def check_dense(name: str, tensor: torch.Tensor) -> None:
    """A tensor with a number at every place: not sparse, quantized, nested, without values (meta), or a wrapper."""
    # Masked tensors, tensors of several machines and the like keep their values elsewhere, those of torch.func too.
    is_subclass = type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    if is_subclass or (_FUNCTORCH is not None and _FUNCTORCH.is_functorch_wrapped_tensor(tensor)):
        kind = type(tensor).__name__ if is_subclass else "tensor of torch.func (grad, vmap, jvp)"
        raise ValueError(f"{name} is a {kind}, expected a plain torch.Tensor")
    is_strided = tensor.layout is torch.strided and not getattr(tensor, "is_nested", False)
    if not is_strided or tensor.is_quantized or tensor.is_meta:
        where = "on the meta device" if tensor.is_meta else f"of layout {tensor.layout} and dtype {tensor.dtype}"
        raise ValueError(f"{name} is a tensor {where}, expected a dense one with values")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """``value`` must be one of ``choices``."""
    # By type first: arrays compare element by element.
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        raise ValueError(f"{name} is {shown(value)}, expected one of {', '.join(map(repr, choices))}")


def check_reduction(reduction: str) -> None:
    """One of the three reductions."""
    check_choice("reduction", reduction, _REDUCTIONS)


def check_nonfinite(nonfinite: str) -> None:
    """One of the three policies for NaN and +inf."""
    check_choice("nonfinite", nonfinite, _NONFINITE)


def check_number(name: str, value: object, *, low: float = -np.inf, above: float = -np.inf) -> None:
    """A finite number of at least ``low`` and more than ``above``, of a size whose products with scores are finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} is {shown(value)}, expected a number")
    number: Any = value
    # Python compares integers of any size, which numpy does not; NaN compares with nothing.
    if not (low <= number < np.inf and above < number and number > -np.inf):
        bound = f" >= {low}" if low > above else f" > {above}"
        bound = bound if max(low, above) > -np.inf else ""
        raise ValueError(f"{name} is {shown(value)}, expected a finite number{bound}")
    if abs(number) > LARGEST or 0 < abs(number) < 1 / LARGEST:
        raise ValueError(f"{name} is {shown(value)}, expected a size of {1 / LARGEST:g} to {LARGEST:g}")


def check_count(name: str, value: object, *, low: int = 1) -> int:
    """An integer of at least ``low``, and of 31 bits at most."""
    number = check_integer(name, value)
    if number < low:
        raise ValueError(f"{name} is {number}, expected >= {low}")
    return number


def check_integer(name: str, value: object) -> int:
    """An integer of 31 bits at most and a sign: what frames, labels and paths are counted in everywhere."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} is {shown(value)}, expected an integer")
    if abs(int(value)) > MOST:
        raise ValueError(f"{name} is {shown(value)}, expected a size of at most {MOST}")
    return int(value)


def check_instance(name: str, value: object, kind: type, expected: str) -> None:
    """A value of a class; ``expected`` is what messages call it."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}, expected {expected}")


def check_callable(name: str, value: object, *, or_none: bool = True) -> None:
    """Something to be called, or None."""
    if not (callable(value) or (or_none and value is None)):
        raise ValueError(f"{name} is {shown(value)}, expected a function{' or None' if or_none else ''}")


def check_path(name: str, value: object) -> Path:
    """The path of a file; a number would be taken for an open one."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError(f"{name} is {shown(value)}, expected the path of a file")
    return Path(value)


def check_names(name: str, values: object) -> list[str]:
    """Names, one per number."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"{name} is {shown(values)}, expected a sequence of names")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{name}[{index}] is {shown(value)}, expected a name")
    return list(values)


def check_flag(name: str, value: object) -> None:
    """True or False: text such as "False" would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}, expected True or False")


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
    check_dense(name, scores)
    if scores.shape[2] < 1:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}, expected at least one label (V >= 1)")
    return scores.resolve_neg()


def check_blank(blank: object, num_labels: int, *, name: str = "blank") -> int:
    """A label of the network."""
    label = check_count(name, blank, low=0)
    if label >= num_labels:
        raise ValueError(f"{name} is {label} but there are {num_labels} labels, expected 0..{num_labels - 1}")
    return label


def check_lengths(
    name: str, lengths: object, num_utterances: int, longest: int, *, of: str = ""
) -> npt.NDArray[np.int64]:
    """``(B,)`` integers in ``0..longest``; ``of`` names the scores whose utterances and frames they are."""
    dtype = lengths.dtype if isinstance(lengths, torch.Tensor) else torch.int64
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise ValueError(f"{name} has dtype {dtype}, expected an integer dtype")
    column = integer_column(name, lengths)
    if column.size == 0 and column.ndim == 1:
        column = column.astype(np.int64)
    if column.dtype.kind not in "iu":
        odd = odd_one(name, lengths)
        raise ValueError(f"{name} is {shown(lengths)}, of dtype {column.dtype}, expected integers{odd}")
    if column.shape != (num_utterances,):
        what = f"one per utterance of {of}" if of else "one per utterance"
        hint = f": is {of} (T, B, V)?" if of and column.shape == (longest,) else ""
        raise ValueError(f"{name} has shape {column.shape}, expected ({num_utterances},), {what}{hint}")
    if column.size and not 0 <= column.min() <= column.max() <= longest:
        index = int(np.argmax((column < 0) | (column > longest)))
        frames = f", the frames of {of}" if of else ""
        raise ValueError(f"{name}[{index}] is {column[index]}, expected 0..{longest}{frames}")
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
    every = np.concatenate([np.empty(0, np.int64), *sequences])
    lowest, highest = every.min(initial=num_labels), every.max(initial=-1)
    if lowest < 0 or highest >= num_labels or (lowest <= blank and (every == blank).any()):
        place = int(np.argmax((every < 0) | (every >= num_labels) | (every == blank)))
        ends = np.cumsum([len(sequence) for sequence in sequences])
        index = int(np.searchsorted(ends, place, side="right"))
        label, position = int(every[place]), place - int(ends[index]) + len(sequences[index])
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
    rows = to_numpy("targets", targets)
    if rows.dtype == np.uint64:
        return [check_row(f"targets[{index}]", row[: lengths[index]]) for index, row in enumerate(rows)]
    return [row[:length] for row, length in zip(rows.astype(np.int64), lengths, strict=True)]


def _listed_rows(targets: object, target_lengths: object, num_utterances: int) -> list[TokenSequence]:
    if not isinstance(targets, Sequence) or isinstance(targets, (str, bytes)):
        raise ValueError(f"targets is {shown(targets)}, expected a (B, S) tensor or a list of lists")
    if len(targets) != num_utterances:
        raise ValueError(
            f"targets has {len(targets)} sequences but log_probs has {num_utterances} utterances, expected as many"
        )
    sequences = _rows_of_lists(targets)
    if sequences is None:
        sequences = [check_row(f"targets[{index}]", target) for index, target in enumerate(targets)]
    if target_lengths is not None:
        lengths = check_lengths("target_lengths", target_lengths, num_utterances, max(map(len, sequences), default=0))
        for index, (row, length) in enumerate(zip(sequences, lengths, strict=True)):
            if length > len(row):
                raise ValueError(f"target_lengths[{index}] is {length}, expected 0..{len(row)}")
        sequences = [row[:length] for row, length in zip(sequences, lengths, strict=True)]
    return sequences


def _rows_of_lists(targets: Sequence[Any]) -> list[TokenSequence] | None:
    """The rows of lists of integers, None if they are not: numpy would ask each for its kind, which takes longer."""
    every, ends = array("q"), [0]
    try:
        for row in targets:
            every.fromlist(row)
            ends.append(len(every))
    except (TypeError, OverflowError):
        return None
    tokens = np.frombuffer(every, np.int64) if every else np.empty(0, np.int64)
    for place in np.flatnonzero(tokens.view(np.uint64) <= 1).tolist():
        row = bisect.bisect_right(ends, place) - 1
        if type(targets[row][place - ends[row]]) is not int:  # a truth value
            return None
    return [tokens[begin:end] for begin, end in itertools.pairwise(ends)]


def check_row(name: str, values: object) -> TokenSequence:
    """One row of integers."""
    row = integer_column(name, values)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise ValueError(f"{name} is {shown(values)}, expected a sequence of integers{odd_one(name, values)}")
    if row.dtype == np.uint64 and row.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name}[{row.argmax()}] is {row.max()}, expected 63 bits at most")
    return row.astype(np.int64, copy=False)


def integer_column(name: str, values: object) -> npt.NDArray[Any]:
    """Values as an array, of no integer dtype where they are not integers."""
    if isinstance(values, torch.Tensor):
        values = to_numpy(name, values)
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is {shown(values)}, a masked array, expected a value at every place")
    try:
        column = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):  # ragged, or tensors inside that have no values
        return np.asarray(None)
    # numpy takes True for 1 where there are integers beside it.
    mixed = isinstance(values, (list, tuple)) and not {bool, np.bool_}.isdisjoint(map(type, values))
    return column.astype(object) if mixed and column.dtype.kind in "iu" else column


def odd_one(name: str, values: object) -> str:
    """The first that is no integer: long sequences are not shown to where it stands."""
    for index, value in enumerate(values if isinstance(values, (list, tuple)) else ()):
        if type(value) is bool or not isinstance(value, (int, np.integer)) or abs(int(value)) >= 2**63:
            return f": {name}[{index}] is {shown(value)}"
    return ""


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
