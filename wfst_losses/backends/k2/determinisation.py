"""k2 as an engine for composing and determinising lexicons and grammars: the one place that knows label 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph
from wfst_losses.backends.k2 import k2
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
    """The graph again.

    Virtual arcs write what one arc cannot: of several words all but the first, and words of final arcs.
    """
    arcs: npt.NDArray[np.int32] = fsa.arcs.values()[:, :3].numpy()
    score = fsa.scores.detach().numpy()
    splits, words = _written(fsa.aux_labels)
    counts, num_states = np.diff(splits), fsa.shape[0] - 1
    # The super-final state is one like others where words are written on the way to it.
    is_final = (arcs[:, 2] == -1) & (counts == 0)
    final_score = np.full(num_states + 1, -np.inf, dtype=np.float32)
    final_score[num_states] = 0.0
    np.logaddexp.at(final_score, arcs[is_final, 0], score[is_final])
    source, destination, label = (column.astype(np.int64) for column in arcs[~is_final].T)
    counts, begin = counts[~is_final], splits[:-1][~is_final]
    repeats = np.maximum(counts, 1)
    arc = np.repeat(np.arange(len(source)), repeats)
    place = np.arange(len(arc)) - (np.cumsum(repeats) - repeats)[arc]
    is_first, is_last = place == 0, place == repeats[arc] - 1
    # A state of its own after every word of an arc but the last.
    new = num_states + np.cumsum(~is_last)
    written = np.full(len(arc), EPSILON, dtype=np.int32)
    has_words = counts[arc] > 0
    written[has_words] = words[(begin[arc] + place)[has_words]] - 1
    return Graph(
        np.where(is_first, source[arc], np.roll(new, 1)),
        np.where(is_last, destination[arc], new),
        np.where(is_first, np.maximum(label[arc] - 1, EPSILON), EPSILON),
        written,
        np.where(is_first, score[~is_final][arc], 0.0).astype(np.float32),
        np.concatenate([final_score, np.full(int((~is_last).sum()), -np.inf, dtype=np.float32)]),
        0,
    )


def _written(aux_labels: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row splits and values of what each arc writes, nothing (0) and the final arcs' -1 left out."""
    if isinstance(aux_labels, torch.Tensor):
        values = aux_labels.numpy().astype(np.int64)
        splits = np.arange(len(values) + 1)
    else:
        values = aux_labels.values.numpy().astype(np.int64)
        splits = aux_labels.shape.row_splits(1).numpy().astype(np.int64)
    kept = values > 0
    return np.concatenate([[0], np.cumsum(kept)])[splits], values[kept]
