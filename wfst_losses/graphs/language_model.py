"""Token language models: what an MMI denominator sums over."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph
from wfst_losses.graphs.arpa import read_arpa
from wfst_losses.graphs.backoff import BackoffArcs, Realised, realise_epsilon, realise_failure, sequence_scores
from wfst_losses.graphs.ngram_counts import estimate
from wfst_losses.graphs.tokens import read_tokens
from wfst_losses.validation import (
    TokenSequence,
    check_blank,
    check_choice,
    check_count,
    check_dense,
    check_instance,
    check_names,
    check_path,
    check_row,
    shown,
    to_numpy,
)

BACKOFFS = ("failure", "epsilon")
"""How back-off arcs are meant: only where a token is not listed, or anywhere."""
MOST_LABELS = 10_000_000
BEST_PATH = "failure, best path"
"""As failure, for graphs whose best path is sought and not the sum over their paths."""


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """A weighted acceptor of token sequences with back-off arcs, in float64; tokens are labels of the network.

    ``score(y)`` is the sum of the scores of the arcs that read y and of the final score where it ends, backing off
    only where a token (or the end) is not listed: ``backoff="failure"``, the default everywhere. With "epsilon"
    backing off is a free choice, so that a listed token counts twice, in the log-sum: what icefall's and Kaldi's
    graphs do, for parity with them and for decoding graphs.

    Attributes:
        arcs: the model as given: `EPSILON` arcs back off.
        num_labels: V of the network, blank included.
    """

    arcs: Graph
    num_labels: int

    @classmethod
    def from_arpa(cls, path: str | Path, tokens: Sequence[str] | str | Path, *, blank: int = 0) -> LanguageModel:
        """The model of an ARPA file of any order.

        Args:
            path: the file; its log10 become natural logs.
            tokens: the names of the labels, or the path of a tokens.txt.
            blank: the blank's label, which no n-gram may hold.

        Raises:
            ValueError: for a malformed file, naming the line, also for a token that is not among ``tokens``.
                N-grams with ``<unk>`` are left out unless it is a token.
            OSError: if a file cannot be read.
        """
        path = check_path("path", path)
        names = read_tokens(tokens) if isinstance(tokens, (str, Path)) else check_names("tokens", tokens)
        if len(set(names)) < len(names):
            raise ValueError("tokens holds a name twice, expected a name per label")
        return cls(read_arpa(path, names, check_blank(blank, len(names))).graph(), len(names))

    @classmethod
    def from_counts(
        cls,
        sequences: Sequence[Sequence[int]],
        num_labels: int,
        order: int,
        discounting: str = "absolute",
        *,
        blank: int = 0,
    ) -> LanguageModel:
        """The n-gram model of token sequences, interpolated down to uniform, sentence ends counted.

        Args:
            sequences: of labels other than ``blank``.
            num_labels: V.
            order: 1 for unigrams.
            discounting: "absolute" or "witten_bell"; see `wfst_losses.graphs.ngram_counts.estimate`.
            blank: the blank's label.

        Raises:
            ValueError: for a label that is no token, or an option out of range.
        """
        check_choice("discounting", discounting, ("absolute", "witten_bell"))
        check_count("order", order)
        tokens = _tokens(num_labels, blank)
        rows = _rows(sequences)
        allowed = set(tokens)
        for index, row in enumerate(rows):
            for position, token in enumerate(row):
                if token not in allowed:
                    raise ValueError(
                        f"sequences[{index}][{position}] is {token!r}, expected a label 0..{num_labels - 1} other than "
                        f"blank, {blank}"
                    )
        return cls(estimate(rows, tokens, order, discounting).graph(), num_labels)

    @classmethod
    def uniform(cls, num_labels: int, *, blank: int = 0) -> LanguageModel:
        """Every token, and the end, has probability ``1 / V`` wherever it comes: score ``-ln V`` each."""
        tokens = np.array(_tokens(num_labels, blank), dtype=np.int32)
        root = np.zeros_like(tokens)
        score = -np.log(float(num_labels))
        arcs = Graph(root, root, tokens, tokens, np.full(len(tokens), score), np.array([score]))
        return cls(arcs, num_labels)

    @classmethod
    def from_arcs(
        cls, source: Any, destination: Any, token: Any, score: Any, final_scores: Any, start: int = 0
    ) -> LanguageModel:
        """A model given arc by arc, states 0, 1, ...

        Args:
            source, destination: ``(A,)`` states.
            token: ``(A,)`` labels other than blank; `topologies.EPSILON` for the one back-off arc that a state may
                have.
            score: ``(A,)`` nats.
            final_scores: one per state, nats; ``-inf`` where no sequence ends.
            start: where every sequence begins.

        Raises:
            ValueError: if columns do not fit, a number is out of range, a state reads a token twice, or back-off has
                no end.
        """
        tokens = _integers("token", token)
        if len(tokens) and tokens.min() < EPSILON:
            row = int(np.argmin(tokens))
            raise ValueError(f"token[{row}] is {tokens[row]}, expected a label, or {EPSILON} to back off")
        ends = _integers("source", source), _integers("destination", destination)
        if len(tokens) != len(ends[0]):
            raise ValueError(f"token has {len(tokens)} rows but source has {len(ends[0])}, expected as many")
        finals = _floats("final_scores", final_scores)
        if len(tokens) and not len(finals):
            raise ValueError(f"final_scores has no states but source[0] is {ends[0][0]}, expected one per state")
        arcs = Graph(*ends, tokens, tokens, _floats("score", score), finals, start)
        return cls(arcs, int(tokens.max(initial=0)) + 1)

    def __post_init__(self) -> None:
        check_instance("arcs", self.arcs, Graph, "a topologies.Graph")
        most = int(self.arcs.input_label.max(initial=-1))
        if check_count("num_labels", self.num_labels) <= most:
            raise ValueError(f"num_labels is {self.num_labels} but arcs read label {most}, expected more")
        self._arcs  # noqa: B018 (checks the arcs)

    @property
    def scores(self) -> torch.Tensor:
        """``(A,)`` float64: the scores of the arcs in their order, a copy; a start for ``language_model_scores``."""
        return torch.from_numpy(self.arcs.score.astype(np.float64))

    def score(self, sequence: Sequence[int] | npt.NDArray[Any], backoff: str = "failure") -> float:
        """The natural log of a token sequence's weight, its end included; -inf for tokens the model does not have.

        With "epsilon" the log-sum over all ways of backing off.
        """
        row = check_row("sequence", sequence)
        return float(self.sequence_scores([row], backoff=backoff)[0])

    def graph(self, backoff: str = "failure") -> Graph:
        """The model as an acceptor, float64, input = output = token, `EPSILON` to back off.

        "epsilon": the arcs as they are. "failure": the sum over the graph's paths is the score with failure, exactly
        (see `wfst_losses.graphs.backoff.realise_failure`); a state one of whose listed tokens leads elsewhere when
        backed off is expanded, to as many arcs as there are tokens: in a bigram no state is, in higher orders most
        histories shorter than the longest are.
        """
        return self.realised(backoff=backoff).graph

    def sequence_scores(
        self, sequences: Sequence[TokenSequence], scores: torch.Tensor | None = None, *, backoff: str = "failure"
    ) -> torch.Tensor:
        """``(n,)`` float64 on the CPU: `score` of each sequence, differentiable in ``scores`` where given."""
        check_choice("backoff", backoff, BACKOFFS)
        if isinstance(sequences, (str, bytes)) or not isinstance(sequences, Sequence):
            raise ValueError(f"sequences is {shown(sequences)}, expected a list of token sequences")
        rows = [check_row(f"sequences[{index}]", row) for index, row in enumerate(sequences)]
        for index, row in enumerate(rows):
            if (row < 0).any():  # EPSILON is no token: nobody says that he backs off
                place = int(np.argmax(row < 0))
                raise ValueError(f"sequences[{index}][{place}] is {row[place]}, expected a label, 0 or more")
        return sequence_scores(self._arcs, self._weights(scores), rows, failure=backoff == "failure")

    def realised(self, scores: torch.Tensor | None = None, *, backoff: str = "failure") -> Realised:
        """`graph`, with its scores attached to ``scores`` where given."""
        check_choice("backoff", backoff, (*BACKOFFS, BEST_PATH))
        if scores is not None:
            return self._realise(self._weights(scores), backoff)
        if backoff not in self._kept:
            self._kept[backoff] = self._realise(self._weights(None), backoff)
        return self._kept[backoff]

    def _realise(self, weights: torch.Tensor, backoff: str) -> Realised:
        if backoff == "epsilon":
            return realise_epsilon(self.arcs, weights)
        return realise_failure(self.arcs, self._arcs, weights, best_path=backoff == BEST_PATH)

    def _weights(self, scores: torch.Tensor | None) -> torch.Tensor:
        if scores is not None:
            check_arc_scores("scores", scores, self.arcs.num_arcs)
        final_scores = torch.from_numpy(self.arcs.final_score.astype(np.float64))
        return torch.cat([self.scores if scores is None else scores.cpu().double(), final_scores])

    @functools.cached_property
    def _kept(self) -> dict[str, Realised]:
        return {}

    @functools.cached_property
    def _arcs(self) -> BackoffArcs:
        return BackoffArcs(self.arcs)


def check_language_model(model: object, num_labels: int) -> LanguageModel:
    """A model whose tokens are among the network's labels."""
    if not isinstance(model, LanguageModel):
        raise ValueError(f"language_model is {model!r:.80}, expected a LanguageModel")
    if model.num_labels > num_labels:
        raise ValueError(
            f"language_model has {model.num_labels} labels but log_probs has {num_labels} columns, expected no more"
        )
    return model


def check_arc_scores(name: str, scores: object, num_arcs: int) -> None:
    """``(num_arcs,)`` floating numbers or -inf."""
    if not isinstance(scores, torch.Tensor) or scores.shape != (num_arcs,) or not scores.is_floating_point():
        raise ValueError(f"{name} is {shown(scores)}, expected a floating tensor of shape ({num_arcs},), one per arc")
    check_dense(name, scores)
    wrong = ~(scores.detach() < torch.inf)
    if wrong.any():
        arc = int(wrong.nonzero()[0])
        raise ValueError(f"{name}[{arc}] is {scores[arc].item()}, expected a number or -inf")


def _rows(sequences: object) -> list[list[int]]:
    if not isinstance(sequences, Sequence) or isinstance(sequences, (str, bytes)):
        raise ValueError(f"sequences is {sequences!r:.80}, expected a list of lists of integers")
    return [_row(f"sequences[{index}]", sequence) for index, sequence in enumerate(sequences)]


def _row(name: str, sequence: object) -> list[int]:
    if isinstance(sequence, (str, bytes)) or not isinstance(sequence, Sequence):
        row: list[int] = check_row(name, sequence).tolist()
        return row
    # numpy would make integers of the truth values among them, and of their tensors.
    for position, token in enumerate(sequence):
        if isinstance(token, bool) or not isinstance(token, (int, np.integer)):
            raise ValueError(f"{name}[{position}] is {shown(token)}, expected an integer")
    return list(sequence)


def _tokens(num_labels: int, blank: int) -> list[int]:
    if check_count("num_labels", num_labels) > MOST_LABELS:
        raise ValueError(f"num_labels is {num_labels}, expected at most {MOST_LABELS}")
    check_blank(blank, num_labels)
    return [label for label in range(num_labels) if label != blank]


def _integers(name: str, values: Any) -> npt.NDArray[np.int32]:
    if isinstance(values, torch.Tensor):
        values = to_numpy(name, values)
    try:
        column = np.asarray(values)
    except ValueError:  # ragged
        column = np.asarray(None)
    if column.size == 0:
        column = column.astype(np.int64)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is {values!r:.80}, of shape {column.shape} and dtype {column.dtype}, expected (A,) integers"
        )
    too_wide = (column < np.iinfo(np.int32).min) | (column > np.iinfo(np.int32).max)
    if too_wide.any():
        row = int(np.argmax(too_wide))
        raise ValueError(f"{name}[{row}] is {column[row]}, expected a 32-bit integer")
    return column.astype(np.int32)


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = to_numpy(name, values)
    try:
        column = np.asarray(values)
    except ValueError:  # ragged
        column = np.asarray(None)
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iuf"):
        raise ValueError(
            f"{name} is {values!r:.80}, of shape {column.shape} and dtype {column.dtype}, expected a row of numbers"
        )
    column = column.astype(np.float64)
    wrong = np.isnan(column) | (column == np.inf)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name}[{row}] is {column[row]}, expected a number or -inf")
    return column
