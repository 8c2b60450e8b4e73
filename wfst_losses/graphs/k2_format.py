"""Graphs in k2's form, a dictionary of tensors, out and in: what ``k2.Fsa.as_dict()`` holds. Needs no k2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph
from wfst_losses.graphs.torch_archive import Ragged

if TYPE_CHECKING:
    from typing import TypeGuard

_MAX_LABEL = 65_535
"""Above it k2 1.23.4 silently reads some labels as others."""


def to_k2_dict(graph: Graph) -> dict[str, torch.Tensor]:
    """An epsilon-free graph as ``arcs`` and ``aux_labels``: labels unchanged, final arcs -1, nothing written 0.

    ``arcs`` is ``(num_arcs, 4)`` int32: source, destination, label and the bits of the float32 score; the start is
    state 0, the last state is super-final, arcs ascend in source. ``aux_labels`` is ``(num_arcs,)`` int32.

    Raises:
        ValueError: for a virtual arc (k2 would read its label as blank), labels beyond k2's limit, or a graph
            without a final state (k2 would take an ordinary state for the super-final one).
    """
    if np.any(graph.input_label == EPSILON):
        raise ValueError("graph has arcs that read nothing, expected none: k2 has no label for them beside blank")
    if graph.num_arcs and int(graph.input_label.max()) + 1 > _MAX_LABEL:
        raise ValueError(f"graph has input label {graph.input_label.max()}, expected below {_MAX_LABEL} for k2")
    finals = np.flatnonzero(graph.final_score > -np.inf)
    if len(finals) == 0:
        raise ValueError("graph has no final state, expected at least one")
    number = np.arange(graph.num_states, dtype=np.int32)
    number[[0, graph.start]] = number[[graph.start, 0]]
    super_final = np.full(len(finals), graph.num_states, dtype=np.int32)
    minus_one = np.full_like(super_final, -1)
    source = np.concatenate([number[graph.source], number[finals]])
    order = np.argsort(source, kind="stable")
    arcs = np.empty((len(order), 4), dtype=np.int32)
    arcs[:, 0] = source[order]
    del source
    arcs[:, 1] = np.concatenate([number[graph.destination], super_final])[order]
    arcs[:, 2] = np.concatenate([graph.input_label, minus_one])[order]
    scores = np.concatenate([graph.score, graph.final_score[finals]])
    arcs[:, 3] = scores.astype(np.float32).view(np.int32)[order]
    written = np.concatenate([graph.output_label, minus_one])[order]
    written[(written == EPSILON) & (arcs[:, 2] != -1)] = 0
    return {"arcs": torch.from_numpy(arcs), "aux_labels": torch.from_numpy(written)}


def from_k2_dict(content: object, name: str) -> Graph:
    """The graph of a k2 dictionary (``Fsa.as_dict()``), checked before any C++ sees it.

    Raises:
        ValueError: naming ``name`` and what is wrong with it.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{name}: holds a {type(content).__name__}, expected the dictionary of a k2 graph")
    arcs, splits, words = _tensors(content, name)
    source, destination, label = (np.ascontiguousarray(column) for column in arcs[:, :3].T)
    final = label == -1
    num_states = _num_states(source, destination, final, name)
    for column, values in (("source", source), ("destination", destination[~final])):
        if len(values) and not (values.min() >= 0 and values.max() < num_states):
            raise ValueError(
                f"{name}: a {column} state is outside 0..{num_states - 1}, the states before the super-final one"
            )
    if np.any(label < -1):
        raise ValueError(f"{name}: a label is {label.min()}, expected -1 for final arcs or at least 0")
    try:
        return from_k2_columns(arcs, splits, words)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def from_k2_columns(arcs: npt.NDArray[np.int32], splits: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> Graph:
    """The graph of k2's arcs, which write ``words[splits[a]:splits[a + 1]]``, each above 0; labels stay as they are.

    Virtual arcs write what one arc cannot: of several words all but the first, and words of final arcs.
    """
    score = np.ascontiguousarray(arcs[:, 3]).view(np.float32)
    counts, num_states = np.diff(splits), int(arcs[:, 1].max())
    is_final = (arcs[:, 2] == -1) & (counts == 0)
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    np.logaddexp.at(final_score, arcs[is_final, 0], score[is_final])
    if np.any((arcs[:, 2] == -1) & (counts > 0)):
        # Words on the way to it: the super-final state is one like others.
        final_score = np.append(final_score, np.float32(0))
    source, destination, label = (column.astype(np.int64) for column in arcs[~is_final, :3].T)
    counts, begin = counts[~is_final], splits[:-1][~is_final]
    repeats = np.maximum(counts, 1)
    arc = np.repeat(np.arange(len(source)), repeats)
    place = np.arange(len(arc)) - (np.cumsum(repeats) - repeats)[arc]
    is_first, is_last = place == 0, place == repeats[arc] - 1
    # A state of its own after every word of an arc but the last.
    new = len(final_score) + np.cumsum(~is_last) - 1
    written = np.full(len(arc), EPSILON, dtype=np.int64)
    has_words = counts[arc] > 0
    written[has_words] = words[(begin[arc] + place)[has_words]]
    return Graph(
        np.where(is_first, source[arc], np.roll(new, 1)).astype(np.int32),
        np.where(is_last, destination[arc], new).astype(np.int32),
        np.where(is_first, label[arc], EPSILON).astype(np.int32),
        written.astype(np.int32),
        np.where(is_first, score[~is_final][arc], 0.0).astype(np.float32),
        np.concatenate([final_score, np.full(int((~is_last).sum()), -np.inf, dtype=np.float32)]),
        0,
    )


def _tensors(
    content: dict[Any, Any], name: str
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Arcs, and what each writes: row splits and words above 0."""
    arcs = content.get("arcs")
    if not isinstance(arcs, torch.Tensor) or arcs.dtype != torch.int32:
        raise ValueError(f"{name}: no int32 tensor 'arcs'; expected the dictionary of a k2 graph")
    if arcs.dim() == 1:
        raise ValueError(f"{name}: holds several graphs (an FsaVec), expected one")
    if arcs.dim() != 2 or arcs.shape[1] != 4 or not len(arcs):
        raise ValueError(f"{name}: 'arcs' has shape {tuple(arcs.shape)}, expected (num_arcs, 4) and an arc or more")
    columns: npt.NDArray[np.int32] = arcs.cpu().numpy()
    written = content.get("aux_labels", arcs[:, 2])
    if isinstance(written, Ragged):
        splits, values = written.splits, written.values
    elif isinstance(written, torch.Tensor) and written.dim() == 1:
        splits, values = torch.arange(len(written) + 1, dtype=torch.int32), written
    else:
        splits = values = None
    if not _are_integers(splits) or not _are_integers(values) or len(splits) != len(columns) + 1:
        raise ValueError(f"{name}: 'aux_labels' is neither one int32 per arc nor a ragged tensor of rows per arc")
    return columns, *positive_rows(splits.numpy().astype(np.int64), values.numpy().astype(np.int64), name)


def _are_integers(tensor: torch.Tensor | None) -> TypeGuard[torch.Tensor]:
    return tensor is not None and tensor.dim() == 1 and tensor.dtype == torch.int32


def positive_rows(
    splits: npt.NDArray[np.int64], values: npt.NDArray[np.int64], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows without what writes nothing: 0, and -1 at final arcs."""
    if splits[0] != 0 or splits[-1] != len(values) or np.any(np.diff(splits) < 0):
        raise ValueError(f"{name}: 'aux_labels' has row splits that do not ascend from 0 to {len(values)}")
    kept = values > 0
    return np.concatenate([[0], np.cumsum(kept)])[splits], values[kept]


def _num_states(
    source: npt.NDArray[np.int32], destination: npt.NDArray[np.int32], final: npt.NDArray[np.bool_], name: str
) -> int:
    """States before the super-final one, which is the last and entered by all final arcs and no other."""
    super_final = int(destination.max())
    if not final.any() or np.any(destination[final] != super_final) or np.any(destination[~final] == super_final):
        raise ValueError(f"{name}: arcs with label -1 do not all lead to the last state; expected a k2 graph")
    # A number far beyond the arcs is damage, not a reason to allocate gigabytes.
    if super_final > 10 * len(source) + 1000:
        raise ValueError(f"{name}: state {super_final} in a file of {len(source)} arcs; the file is damaged")
    return super_final
