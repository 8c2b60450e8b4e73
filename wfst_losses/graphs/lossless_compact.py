"""Lossless compact: the paths of the correct topology over a grammar, at about the size of compact.

Compact returns from a token to the root over a virtual arc, and so lets the token follow itself without a blank. That
matters only where the grammar behind can read the token again. Everywhere else the return is exact and is kept.

Nodes, for a state s of the grammar and a token i:

* ``root(s)`` loops on blank and reads what s reads; ``backed(s)``, after back-off to s, does so without the blank.
* ``token(i, s)``, entered on i, loops on i. If i cannot be read from s, back-off included, it returns to ``root(s)``.
  Else it is an *excluding* node: blank leads to ``root(s)``, and it reads what s reads but i.
* ``excluding(i, s)``, after back-off from such a node, if i can be read from s; else that is ``backed(s)``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import BLANK, EPSILON, Graph
from topologies.batch import epsilon_depth, ranges
from wfst_losses.graphs.excluding import Arcs, share
from wfst_losses.graphs.trimming import connected, sorted_arcs
from wfst_losses.validation import check_choice, check_instance

Ints: TypeAlias = npt.NDArray[np.int64]

FORMS = ("expanded", "shared")
"""How an excluding node reads all but one token: by arcs of its own, as correct does, or by shared ones."""


def lossless_compact(grammar: Graph, *, form: str = "expanded") -> Graph:
    """The relation of the correct topology composed with a grammar, path for path, with fewer arcs.

    ``weight(labelling, output)`` equals that of ``compose(correct, grammar)`` for every labelling and output. Compact's
    arcs, but for excluding nodes: there "expanded" has the arcs that correct has, "shared" puts the arcs of a state
    once where all its excluding nodes reach them over virtual arcs, about 2 more per excluding node where one token
    is excluded and ``6k`` for k tokens. Over a bigram without back-off and V tokens of which each history lists n, r
    of them its own last token: ``r n`` more than compact, or ``2 r``, where correct has about twice compact's arcs.
    "shared" is for engines that take virtual arcs: the epsilon-free form of its trees can be huge.

    Args:
        grammar: reads tokens, 1 and up, or `EPSILON`; virtual arcs form no cycle. A language model's
            `LanguageModel.graph`, or a determinised lexicon and grammar.
        form: "expanded", the definition, or "shared".

    Raises:
        ValueError: if the grammar reads 0, or virtual arcs form a cycle.

    >>> from wfst_losses import LanguageModel
    >>> lossless_compact(LanguageModel.uniform(500).graph(), form="shared").num_arcs < 12 * 500
    True
    """
    check_choice("form", form, FORMS)
    check_instance("grammar", grammar, Graph, "a topologies.Graph such as LanguageModel.graph() gives")
    if np.any(grammar.input_label == BLANK):
        raise ValueError(f"grammar reads {BLANK}, the blank; expected tokens only")
    epsilon_depth(grammar.source, grammar.destination, grammar.input_label, grammar.num_states)
    grammar = connected(grammar)
    return sorted_arcs(connected(_Nodes(grammar).graph(form)))


class _Nodes:
    """The nodes over one grammar, and the arcs between them."""

    def __init__(self, grammar: Graph) -> None:
        self.grammar = grammar
        self.width = 1 + int(grammar.input_label.max(initial=0))
        reads = grammar.input_label != EPSILON
        order = np.argsort(grammar.source, kind="stable")
        self.reading, self.virtual = order[reads[order]], order[~reads[order]]
        states = np.arange(grammar.num_states + 1)
        self.reading_rows = np.searchsorted(grammar.source[self.reading], states)
        self.virtual_rows = np.searchsorted(grammar.source[self.virtual], states)
        label = grammar.input_label.astype(np.int64)
        self.listed = np.unique(grammar.source[self.reading] * self.width + label[self.reading])
        entered = grammar.destination.astype(np.int64) * self.width + label
        self.token = np.unique(entered[self.reading])
        self.token_of_arc = np.searchsorted(self.token, entered)
        self._find_excluding()

    def _find_excluding(self) -> None:
        """Excluding nodes: those among the token nodes first, then those after back-off."""
        state, label = np.divmod(self.token, self.width)
        self.excludes = self._can_read(state, label)
        found = [self.token[self.excludes]]
        while len(found[-1]):
            state, label = np.divmod(found[-1], self.width)
            rows, arc = self._leaving(self.virtual_rows, self.virtual, state)
            state, label = self.grammar.destination[arc].astype(np.int64), label[rows]
            keys = np.unique((state * self.width + label)[self._can_read(state, label)])
            found.append(keys[~np.isin(keys, np.concatenate([keys[:0], *found[1:]]))])
        self.excluding = np.unique(np.concatenate([found[0][:0], *found[1:]]))

    def _can_read(self, state: Ints, label: Ints) -> npt.NDArray[np.bool_]:
        """Whether each state reads each label, back-off included."""
        result = np.zeros(len(state), dtype=bool)
        query = np.arange(len(state))
        while len(query):
            result[query[_among(self.listed, state * self.width + label[query])]] = True
            left = ~result[query]
            rows, arc = self._leaving(self.virtual_rows, self.virtual, state[left])
            query, state = query[left][rows], self.grammar.destination[arc].astype(np.int64)
        return result

    @staticmethod
    def _leaving(splits: Ints, arcs: Ints, state: Ints) -> tuple[Ints, Ints]:
        """For each state its arcs: the row of each, and the arc."""
        rows, place = ranges(splits[state], splits[state + 1])
        return rows, arcs[place]

    def graph(self, form: str) -> Graph:
        """All nodes and arcs; some may lead nowhere."""
        grammar, count = self.grammar, self.grammar.num_states
        self.root = np.arange(count)
        self.backed = count + self.root
        self.first_token = 2 * count
        self.first_excluding = self.first_token + len(self.token)
        arcs = Arcs(self.first_excluding + len(self.excluding), grammar)
        arcs.add(self.root, self.root, BLANK)
        token = self.first_token + np.arange(len(self.token))
        state, label = np.divmod(self.token, self.width)
        arcs.add(token, token, label)
        arcs.add(token[~self.excludes], self.root[state[~self.excludes]], EPSILON)
        arcs.add(token[self.excludes], self.root[state[self.excludes]], BLANK)
        source = grammar.source[self.virtual]
        for node in (self.root, self.backed):
            arcs.copy(node[source], self.backed[grammar.destination[self.virtual]], self.virtual)
        self._back_off(arcs, token[self.excludes], state[self.excludes], label[self.excludes])
        later = self.first_excluding + np.arange(len(self.excluding))
        later_state, later_label = np.divmod(self.excluding, self.width)
        self._back_off(arcs, later, later_state, later_label)

        node = np.concatenate([token[self.excludes], later])
        state, label = (
            np.concatenate([state[self.excludes], later_state]),
            np.concatenate([label[self.excludes], later_label]),
        )
        shared = np.zeros(count, dtype=bool)
        if form == "shared":
            shared = share(arcs, self, node, state, label)
        for whole in (self.root, self.backed):
            plain = self.reading[~shared[grammar.source[self.reading]]]
            arcs.copy(whole[grammar.source[plain]], self.first_token + self.token_of_arc[plain], plain)
            arcs.finals(whole[~shared], np.flatnonzero(~shared))
        alone = ~shared[state]
        self._read_all_but(arcs, node[alone], state[alone], label[alone])
        arcs.finals(node[alone], state[alone])
        return arcs.graph(grammar.start)

    def _back_off(self, arcs: Arcs, node: Ints, state: Ints, label: Ints) -> None:
        """From excluding nodes to what excludes the same behind, or to what need not."""
        rows, arc = self._leaving(self.virtual_rows, self.virtual, state)
        behind = self.grammar.destination[arc].astype(np.int64)
        key = behind * self.width + label[rows]
        place = np.minimum(np.searchsorted(self.excluding, key), max(len(self.excluding) - 1, 0))
        excludes = _among(self.excluding, key)
        arcs.copy(node[rows], np.where(excludes, self.first_excluding + place, self.backed[behind]), arc)

    def _read_all_but(self, arcs: Arcs, node: Ints, state: Ints, label: Ints) -> None:
        rows, arc = self._leaving(self.reading_rows, self.reading, state)
        kept = self.grammar.input_label[arc] != label[rows]
        arcs.copy(node[rows[kept]], self.first_token + self.token_of_arc[arc[kept]], arc[kept])


def _among(keys: Ints, wanted: Ints) -> npt.NDArray[np.bool_]:
    """Which are among the keys, which ascend."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=bool)
    found: npt.NDArray[np.bool_] = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found
