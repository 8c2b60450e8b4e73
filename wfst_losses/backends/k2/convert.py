"""Graphs to k2 and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from topologies import EPSILON, Graph
from wfst_losses.backends.k2 import k2

if TYPE_CHECKING:
    from k2 import Fsa

_MAX_LABEL = 65_535
"""Above it k2 1.23.4 silently reads some labels as others."""


def to_k2(graph: Graph) -> Fsa:
    """An epsilon-free graph as a k2.Fsa with ``aux_labels``: labels unchanged, final arcs -1, nothing written 0.

    Raises:
        ValueError: for a virtual arc (k2 would read its label as blank), labels beyond k2's limit, or an empty graph.
    """
    if np.any(graph.input_label == EPSILON):
        raise ValueError("graph has arcs that read nothing, expected none: k2 has no label for them beside blank")
    if graph.num_arcs and int(graph.input_label.max()) + 1 > _MAX_LABEL:
        raise ValueError(f"graph has input label {graph.input_label.max()}, expected below {_MAX_LABEL} for k2")
    # k2 wants the start first, the super-final state last, arcs ascending in source.
    number = np.arange(graph.num_states, dtype=np.int32)
    number[[0, graph.start]] = number[[graph.start, 0]]
    finals = np.flatnonzero(graph.final_score > -np.inf)
    super_final = np.full(len(finals), graph.num_states, dtype=np.int32)
    source = np.concatenate([number[graph.source], number[finals]])
    order = np.argsort(source, kind="stable")
    minus_one, nothing = np.full_like(super_final, -1), np.full_like(super_final, -1)
    output = np.where(graph.output_label == EPSILON, 0, graph.output_label)
    columns = (
        source,
        np.concatenate([number[graph.destination], super_final]),
        np.concatenate([graph.input_label, minus_one]),
        np.concatenate([graph.score, graph.final_score[finals]]).astype(np.float32).view(np.int32),
    )
    arcs = torch.from_numpy(np.stack([column[order] for column in columns], axis=1).astype(np.int32))
    aux_labels = torch.from_numpy(np.concatenate([output, nothing])[order].astype(np.int32))
    return k2.Fsa(arcs, aux_labels=aux_labels)


def from_k2_dict(content: dict[str, Any], name: str) -> Graph:
    """The graph of a k2 dictionary (``Fsa.as_dict()``), checked before any C++ sees it.

    Raises:
        ValueError: naming ``name`` and what is wrong with it.
    """
    arcs = content.get("arcs")
    if not isinstance(arcs, torch.Tensor) or arcs.dim() != 2 or arcs.shape[1] != 4 or arcs.dtype != torch.int32:
        raise ValueError(f"{name}: no int32 tensor 'arcs' of shape (num_arcs, 4); expected a k2 graph")
    source, destination, label, _ = (column.numpy() for column in arcs.cpu().T.contiguous())
    score = arcs[:, 3].contiguous().view(torch.float32).numpy()
    written = content.get("aux_labels", torch.from_numpy(np.where(label > 0, label, 0)))
    if not isinstance(written, torch.Tensor) or written.shape != (len(label),):
        raise ValueError(f"{name}: 'aux_labels' is not one label per arc; ragged labels must be expanded first")
    super_final = int(destination.max(initial=-1))
    final = label == -1
    if len(label) == 0 or np.any(destination[final] != super_final) or np.any(destination[~final] == super_final):
        raise ValueError(f"{name}: arcs with label -1 do not all lead to the last state; expected a k2 graph")
    final_score = np.full(super_final, -np.inf, dtype=np.float32)
    np.logaddexp.at(final_score, source[final], score[final])
    output = written.cpu().numpy()[~final]
    return Graph(
        source[~final],
        destination[~final],
        label[~final],
        np.where(output <= 0, EPSILON, output).astype(np.int32),
        score[~final],
        final_score,
        0,
    )
