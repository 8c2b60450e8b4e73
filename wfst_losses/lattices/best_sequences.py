"""The N best distinct sequences of a lattice, ranked by their best path.

States are taken in order, and each hands on the N best distinct sequences that lead to it, each with its best path.
That is exact: what follows a state is the same for all of them, so a sequence behind N others there stays behind N
others whatever follows; its length and its place in lexicographic order, which settle ties, keep their order too.
Sequences are nodes of one tree: equal ones are the same number.

Paths further than a beam below the best are left out, and the beam is widened until N sequences lie within it or
nothing was left out: the beam saves time and never changes the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices.prefixes import Prefixes, child, grown_prefixes, new_prefixes, precedes
from wfst_losses.lattices.utterance import Utterance
from wfst_losses.memory_limit import Share

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_NARROWEST, _WIDEST = 0.125, 1e5
FIRST_BYTES = 48 * 1024 + 100 * 256
"""What a search begins with: room for so many entries and prefixes."""


class Columns(NamedTuple):
    """One utterance: states from 0 to the last, which is the end; arcs in ascending order of source.

    Attributes:
        destination, scores: ``(A,)``.
        out_splits: ``(num_states + 1,)``.
        tokens, token_splits: what each arc writes.
        rest: ``(num_states,)`` the score of the best path from each state to the end.
    """

    destination: Ints
    scores: Floats
    out_splits: Ints
    tokens: Ints
    token_splits: Ints
    rest: Floats


class Found(NamedTuple):
    """Sequences in order of rank.

    Attributes:
        tokens, token_splits: the sequences.
        arcs, arc_splits: the arcs of each one's best path.
        scores: of these paths.
        is_complete: whether these are the N best, or all: else the beam was too narrow.
        wanted_bytes: where the search came to need more than it may take, how much; else 0.
    """

    tokens: Ints
    token_splits: Ints
    arcs: Ints
    arc_splits: Ints
    scores: Floats
    is_complete: bool
    wanted_bytes: int


class _Entries(NamedTuple):
    """Ways to reach a state with a prefix: ``link`` leads to the next at that state, ``before`` back on the path."""

    node: Ints
    score: Floats
    before: Ints
    arc: Ints
    link: Ints


def thresholds(best: float) -> Iterator[float]:
    """Scores of paths to leave out, lower and lower, -inf at last."""
    beam = _NARROWEST
    while beam < _WIDEST and best < np.inf:
        yield best - beam
        beam *= 2
    yield -np.inf


def ranked_paths(found: Sequence[Found | None], utterances: npt.NDArray[np.int64] | None = None) -> Paths:
    """What was found in each utterance, or in those given, as paths, their steps the arcs taken; nothing for None."""
    present = [(number, part) for number, part in enumerate(found) if part is not None]
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.arc_splits) for _, part in present)])
    steps = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
    steps[np.arange(steps.shape[1]) < lengths[:, None]] = np.concatenate(
        [np.empty(0, np.int64), *(part.arcs for _, part in present)]
    )
    tokens = [row for _, part in present for row in np.split(part.tokens, part.token_splits[1:-1])[: len(part.scores)]]
    numbers = np.repeat([number for number, _ in present], [len(part.scores) for _, part in present]).astype(np.int64)
    owners = numbers if utterances is None else utterances[numbers]
    return Paths(steps, tokens, owners, np.zeros(len(lengths)))


def columns_of(part: Utterance) -> Columns:
    """The columns of one utterance of a lattice, the rest yet to be found."""
    destination, scores = part.destination.astype(np.int64), part.scores.astype(np.float64)
    return Columns(destination, scores, part.out_splits, *part.every_token(), np.empty(part.num_states))


def best(part: Utterance, columns: Columns, num_paths: int, share: Share) -> Found | None:
    """The best sequences of one utterance of a lattice with these columns; None where it has no path."""
    rest = rests(columns.destination, columns.scores, columns.out_splits)
    if not part.num_states or not rest[0] > -np.inf:
        return None
    columns = columns._replace(rest=rest)
    share.check(FIRST_BYTES)
    for threshold in thresholds(float(rest[0])):
        found: Found = search(columns, num_paths, threshold, False, share.most_bytes)
        share.check(found.wanted_bytes)
        if found.is_complete:
            break
    return found._replace(arcs=found.arcs + part.arcs.start)


@compiled
def rests(destination: Ints, scores: Floats, out_splits: Ints) -> Floats:
    """``(num_states,)`` the score of the best path from each state to the last; none leads through NaN."""
    num_states = len(out_splits) - 1
    rest = np.full(max(num_states, 0), -np.inf)
    rest[num_states - 1 :] = 0.0
    for state in range(num_states - 2, -1, -1):
        for arc in range(out_splits[state], out_splits[state + 1]):
            rest[state] = max(rest[state], scores[arc] + rest[destination[arc]])
    return rest


@compiled
def _sift(tree: Prefixes, entries: _Entries, heap: Ints, place: int, size: int) -> None:
    """Let an entry sink to where both below it rank higher: the last in rank is on top."""
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size:
            left, right = heap[below], heap[below + 1]
            if precedes(tree, entries.node[left], entries.score[left], entries.node[right], entries.score[right]):
                below += 1
        here, there = heap[place], heap[below]
        if not precedes(tree, entries.node[here], entries.score[here], entries.node[there], entries.score[there]):
            return
        heap[place], heap[below] = there, here
        place = below


@compiled
def _select(tree: Prefixes, entries: _Entries, kept: Ints, count: int, num_paths: int) -> int:
    """The first ``num_paths`` in rank of ``kept[:count]`` move to its front, in no order; how many that are."""
    if count <= num_paths:
        return count
    for place in range(num_paths // 2 - 1, -1, -1):
        _sift(tree, entries, kept, place, num_paths)
    for candidate in range(num_paths, count):
        here, worst = kept[candidate], kept[0]
        if precedes(tree, entries.node[here], entries.score[here], entries.node[worst], entries.score[worst]):
            kept[0] = here
            _sift(tree, entries, kept, 0, num_paths)
    return num_paths


@compiled
def _sort(tree: Prefixes, entries: _Entries, kept: Ints, count: int) -> None:
    """``kept[:count]`` in order of rank."""
    for place in range(count // 2 - 1, -1, -1):
        _sift(tree, entries, kept, place, count)
    for size in range(count - 1, 0, -1):
        kept[0], kept[size] = kept[size], kept[0]
        _sift(tree, entries, kept, 0, size)


@compiled
def _grown(column: npt.NDArray[Any], needed: int) -> npt.NDArray[Any]:
    if needed <= len(column):
        return column
    larger = np.empty(2 * needed, column.dtype)
    larger[: len(column)] = column
    return larger


@compiled
def _distinct(entries: _Entries, first: int, state: int, stamp: Ints, slot: Ints, kept: Ints) -> tuple[int, Ints]:
    """The best entry of each prefix in the list from ``first`` on, into ``kept``; their number."""
    count, entry = 0, first
    while entry >= 0:
        node = entries.node[entry]
        if stamp[node] != state:
            kept = _grown(kept, count + 1)
            stamp[node], slot[node], kept[count] = state, count, entry
            count += 1
        elif entries.score[entry] > entries.score[kept[slot[node]]]:
            kept[slot[node]] = entry
        entry = entries.link[entry]
    return count, kept


@compiled
def _with_room(entries: _Entries, needed: int) -> _Entries:
    if needed <= len(entries.node):
        return entries
    return _Entries(
        _grown(entries.node, needed),
        _grown(entries.score, needed),
        _grown(entries.before, needed),
        _grown(entries.arc, needed),
        _grown(entries.link, needed),
    )


@compiled
def _wanted_bytes(entries: _Entries, tree: Prefixes, num_entries: int, num_nodes: int) -> int:
    """What both take while they grow to hold so many; 0 where they have the room."""
    capacity, nodes = len(entries.node), len(tree.parent)
    if num_entries <= capacity and num_nodes < nodes:
        return 0
    if num_entries > capacity:
        capacity = 2 * num_entries
    while num_nodes >= nodes:
        nodes *= 2
    # Five columns and one that is being copied; prefixes with their table and marks, and the half as large before.
    return 48 * capacity + 100 * nodes


@compiled
def _hand_on(
    columns: Columns, arc: int, origins: Ints, floor: float, tree: Prefixes, entries: _Entries, size: int, head: Ints
) -> int:
    """Extend the paths in ``origins`` by an arc, but for those that fall below the floor; the new number of entries."""
    weight, there = columns.scores[arc], columns.destination[arc]
    bound = weight + columns.rest[there]
    for origin in origins:
        if not (entries.score[origin] + bound >= floor):
            continue
        node = entries.node[origin]
        for position in range(columns.token_splits[arc], columns.token_splits[arc + 1]):
            node = child(tree, node, columns.tokens[position])
        entries.node[size], entries.score[size] = node, entries.score[origin] + weight
        entries.before[size], entries.arc[size] = origin, arc
        entries.link[size], head[there] = head[there], size
        size += 1
    return size


@compiled
def search(columns: Columns, num_paths: int, threshold: float, is_pruned: bool, most_bytes: int) -> Found:
    """The best ``num_paths`` sequences among paths that lie above the threshold.

    ``is_pruned`` tells whether paths below it are missing from the columns already. The search ends where it would take
    more than ``most_bytes``.
    """
    num_states, best = len(columns.rest), columns.rest[0]
    # Bounds are sums in another order than scores: what lies on the threshold must not fall to rounding.
    floor = threshold - 1e-9 * (1.0 + abs(best)) if threshold > -np.inf else -np.inf
    tree, size = new_prefixes(256), 1
    stamp, slot = np.full(256, np.int64(-1)), np.empty(256, np.int64)
    none = np.full(1024, np.int64(-1))
    entries = _Entries(np.zeros(1024, np.int64), np.zeros(1024, np.float64), none, none.copy(), none.copy())
    head = np.full(num_states, np.int64(-1))
    head[0] = 0
    kept, count = np.empty(16, np.int64), 0
    for state in range(num_states):
        count, kept = _distinct(entries, head[state], state, stamp, slot, kept)
        count = _select(tree, entries, kept, count, num_paths)
        if count == 0 or state == num_states - 1:
            continue
        highest, lowest = -np.inf, np.inf
        for origin in kept[:count]:
            highest, lowest = max(highest, entries.score[origin]), min(lowest, entries.score[origin])
        for arc in range(columns.out_splits[state], columns.out_splits[state + 1]):
            bound = columns.scores[arc] + columns.rest[columns.destination[arc]]
            if not (bound > -np.inf):
                continue
            is_pruned = is_pruned or not (lowest + bound >= floor)
            if not (highest + bound >= floor):
                continue
            needed = tree.filled[0] + count * (columns.token_splits[arc + 1] - columns.token_splits[arc])
            wanted = _wanted_bytes(entries, tree, size + count, needed)
            if wanted > most_bytes:
                nothing = np.zeros(1, np.int64)
                return Found(nothing, nothing, nothing, nothing, np.empty(0, np.float64), False, wanted)
            entries = _with_room(entries, size + count)
            while needed >= len(tree.parent):
                tree = grown_prefixes(tree)
                stamp = np.append(stamp, np.full(len(stamp), np.int64(-1)))
                slot = np.append(slot, slot)
            size = _hand_on(columns, arc, kept[:count], floor, tree, entries, size, head)
    return _finish(tree, entries, kept, count, num_paths, threshold, is_pruned)


@compiled
def _finish(
    tree: Prefixes, entries: _Entries, kept: Ints, count: int, num_paths: int, threshold: float, is_pruned: bool
) -> Found:
    """Ranked, with tokens and arcs; what lies below the threshold may be out of rank and is left out."""
    _sort(tree, entries, kept, count)
    if is_pruned:
        while count and not (entries.score[kept[count - 1]] >= threshold):
            count -= 1
    token_splits, arc_splits = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for row in range(count):
        length, entry = 0, kept[row]
        while entries.before[entry] >= 0:
            length, entry = length + 1, entries.before[entry]
        token_splits[row + 1] = token_splits[row] + tree.depth[entries.node[kept[row]]]
        arc_splits[row + 1] = arc_splits[row] + length
    tokens, arcs = np.empty(token_splits[-1], np.int64), np.empty(arc_splits[-1], np.int64)
    scores = np.empty(count, np.float64)
    for row in range(count):
        entry, node, place = kept[row], entries.node[kept[row]], arc_splits[row + 1] - 1
        scores[row] = entries.score[entry]
        while entries.before[entry] >= 0:
            arcs[place] = entries.arc[entry]
            place, entry = place - 1, entries.before[entry]
        place = token_splits[row + 1] - 1
        while node > 0:
            tokens[place] = tree.token[node]
            place, node = place - 1, tree.parent[node]
    return Found(tokens, token_splits, arcs, arc_splits, scores, not is_pruned or count >= num_paths, 0)
