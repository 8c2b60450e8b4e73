"""k2 as an engine for composing and determinising lexicons and grammars: the one place that knows label 0."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from topologies import EPSILON, Graph
from wfst_losses.backends.k2 import k2
from wfst_losses.graphs.k2_format import from_k2_columns, positive_rows
from wfst_losses.graphs.trimming import empty_graph

if TYPE_CHECKING:
    from k2 import Fsa


def determinised_composition(lexicon: Graph, grammar: Graph) -> Graph:
    """``determinise(lexicon o grammar)``: see `wfst_losses.graphs.determinisation.determinised_composition`.

    k2 takes label 0 for epsilon wherever it composes or determinises: all labels are raised by one on the way in, so
    that 0 is what reads or writes nothing and nothing else, and lowered on the way out.
    """
    left, right = k2.arc_sort(_raised(lexicon)), k2.arc_sort(_raised(grammar))
    composed = k2.connect(k2.compose(left, right))
    if composed.num_arcs == 0:
        return empty_graph()
    return _lowered(k2.connect(k2.determinize(composed)))


def _raised(graph: Graph) -> Fsa:
    finals = np.flatnonzero(graph.final_score > -np.inf)
    number = np.arange(graph.num_states, dtype=np.int32)
    number[[0, graph.start]] = number[[graph.start, 0]]
    super_final, ends = np.full(len(finals), graph.num_states, np.int32), np.full(len(finals), -1, np.int32)
    score = np.concatenate([graph.score, graph.final_score[finals]]).astype(np.float32)
    columns = (
        np.concatenate([number[graph.source], number[finals]]),
        np.concatenate([number[graph.destination], super_final]),
        np.concatenate([graph.input_label + 1, ends]),
        score.view(np.int32),
        np.concatenate([graph.output_label + 1, ends]),
    )
    table = np.stack(columns, axis=1)[np.argsort(columns[0], kind="stable")].astype(np.int32)
    arcs, written = torch.from_numpy(table[:, :4].copy()), torch.from_numpy(table[:, 4].copy())
    return k2.Fsa.from_dict({"arcs": arcs, "aux_labels": written})


def _lowered(fsa: Fsa) -> Graph:
    written = fsa.aux_labels
    if isinstance(written, torch.Tensor):
        splits, values = np.arange(len(written) + 1), written.numpy()
    else:
        splits, values = written.shape.row_splits(1).numpy(), written.values.numpy()
    arcs = np.column_stack([fsa.arcs.values()[:, :3].numpy(), fsa.scores.detach().numpy().view(np.int32)])
    graph = from_k2_columns(arcs, *positive_rows(splits.astype(np.int64), values.astype(np.int64), "k2"))
    # Virtual arcs are -1 already; 0 is what k2 read or wrote where there was nothing.
    return dataclasses.replace(
        graph,
        input_label=np.maximum(graph.input_label - 1, EPSILON),
        output_label=np.maximum(graph.output_label - 1, EPSILON),
    )
