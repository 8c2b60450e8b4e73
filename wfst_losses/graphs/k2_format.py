"""Graphs in k2's form, a dictionary of tensors, out and in: what ``k2.Fsa.as_dict()`` holds. Needs no k2."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph

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
    arcs, written = _tensors(content, name)
    source, destination, label = (np.ascontiguousarray(column) for column in arcs[:, :3].T)
    score = np.ascontiguousarray(arcs[:, 3]).view(np.float32)
    final = label == -1
    num_states = _num_states(source, destination, final, name)
    for column, values in (("source", source), ("destination", destination[~final])):
        if len(values) and not (values.min() >= 0 and values.max() < num_states):
            raise ValueError(
                f"{name}: a {column} state is outside 0..{num_states - 1}, the states before the super-final one"
            )
    if np.any(label < -1):
        raise ValueError(f"{name}: a label is {label.min()}, expected -1 for final arcs or at least 0")
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    np.logaddexp.at(final_score, source[final], score[final])
    output = written[~final]
    try:
        return Graph(
            source[~final],
            destination[~final],
            label[~final],
            np.where(output <= 0, EPSILON, output).astype(np.int32),
            score[~final],
            final_score,
            0,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _tensors(content: dict[Any, Any], name: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Arcs and what each writes."""
    arcs = content.get("arcs")
    if not isinstance(arcs, torch.Tensor) or arcs.dtype != torch.int32:
        raise ValueError(f"{name}: no int32 tensor 'arcs'; expected the dictionary of a k2 graph")
    if arcs.dim() == 1:
        raise ValueError(f"{name}: holds several graphs (an FsaVec), expected one")
    if arcs.dim() != 2 or arcs.shape[1] != 4 or not len(arcs):
        raise ValueError(f"{name}: 'arcs' has shape {tuple(arcs.shape)}, expected (num_arcs, 4) and an arc or more")
    columns: npt.NDArray[np.int32] = arcs.cpu().numpy()
    written = content.get("aux_labels")
    if written is None:
        return columns, columns[:, 2]
    is_plain = isinstance(written, torch.Tensor) and written.dtype == torch.int32
    if not is_plain or written.shape != (len(columns),):
        raise ValueError(f"{name}: 'aux_labels' is not one int32 per arc; ragged labels must be expanded first")
    return columns, written.cpu().numpy()


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
