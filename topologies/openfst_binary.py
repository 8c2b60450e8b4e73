"""OpenFst's binary format of vector transducers, out and in: labels and costs as in `topologies.openfst`.

What Kaldi's decoders, sherpa-onnx and riva read. OpenFst has no checksum; what is written here ends in one, behind
the last state, where OpenFst no longer looks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topologies.atomic import replacing
from topologies.graph import Graph
from topologies.openfst import read_labels, written_labels

MAGIC = (2125659606).to_bytes(4, "little")
_SYMBOLS_MAGIC = 2125658996
_HEADER = b"vector", b"standard"
_VERSION = 2
_PROPERTIES = 3  # expanded and mutable; OpenFst finds out the others itself
_HAS_INPUT_SYMBOLS, _HAS_OUTPUT_SYMBOLS, _IS_ALIGNED = 1, 2, 4
_TRAILER = b"wfst-losses crc32 "
_STATE_WORDS, _ARC_WORDS = 3, 4
_ARCS_PER_CHUNK = 1 << 20


def write_openfst_binary(
    graph: Graph, path: Path, *, writes_words: bool = False, on_arcs: Callable[[int], object] | None = None
) -> None:
    """Write to ``path``, whole or not at all; ``on_arcs`` is told of the arcs written.

    Args:
        graph: its arcs may be in any order.
        path: the file.
        writes_words: output labels are ids of words.txt and stay as they are, `EPSILON` becoming 0.
        on_arcs: called with how many arcs more are written.

    Raises:
        ValueError: for words where an output label is 0, the epsilon of words.txt.
    """
    order = np.argsort(graph.source, kind="stable")
    pointer = np.searchsorted(graph.source[order], np.arange(graph.num_states + 1))
    # Words of four bytes at which each state begins.
    place = _STATE_WORDS * np.arange(graph.num_states + 1) + _ARC_WORDS * pointer
    output = written_labels(graph, writes_words)
    with replacing(path) as file:
        head = _header(graph)
        checksum = zlib.crc32(head)
        file.write(head)
        low = 0
        while low < graph.num_states:
            # As many states as fill a chunk, one at least.
            high = int(np.searchsorted(pointer, pointer[low] + _ARCS_PER_CHUNK, side="right")) - 1
            high = min(max(high, low + 1), graph.num_states)
            block = _block(graph, output, order, pointer, place, slice(low, high))
            checksum = zlib.crc32(block.data, checksum)
            file.write(block.data)
            if on_arcs is not None:
                on_arcs(int(pointer[high] - pointer[low]))
            low = high
        file.write(_TRAILER + checksum.to_bytes(4, "little"))


def _header(graph: Graph) -> bytes:
    kinds = b"".join(len(kind).to_bytes(4, "little") + kind for kind in _HEADER)
    start = graph.start if graph.num_states else -1
    return MAGIC + kinds + struct.pack("<iiQqqq", _VERSION, 0, _PROPERTIES, start, graph.num_states, graph.num_arcs)


def _block(
    graph: Graph,
    output: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    pointer: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    states: slice,
) -> npt.NDArray[np.int32]:
    """The states and their arcs in the words of the file."""
    first = place[states.start]
    words = np.zeros(int(place[states.stop] - first), dtype="<i4")
    begin = place[states] - first
    words[begin] = (-graph.final_score[states].astype("<f4")).view("<i4")
    counts = np.diff(pointer[states.start : states.stop + 1])
    words[begin + 1] = counts
    rows = order[pointer[states.start] : pointer[states.stop]]
    at = np.repeat(begin + _STATE_WORDS - _ARC_WORDS * (pointer[states] - pointer[states.start]), counts)
    at += _ARC_WORDS * np.arange(len(rows))
    words[at] = graph.input_label[rows] + 1
    words[at + 1] = output[rows]
    # 0 - x, for -x of no score at all would be minus zero.
    words[at + 2] = (0 - graph.score[rows].astype("<f4")).view("<i4")
    words[at + 3] = graph.destination[rows]
    return words


def read_openfst_binary(path: Path, *, writes_words: bool = False) -> Graph:
    """The graph of a file; symbol tables in it are passed over.

    Raises:
        ValueError: for anything but one whole vector transducer over the tropical semiring, naming ``path``.
        OSError: if it cannot be read.
    """
    content = path.read_bytes()
    try:
        return _Parsed(content, str(path)).graph(writes_words)
    except struct.error:
        raise ValueError(f"{path}: ends early, expected a whole OpenFst binary file; it is truncated") from None


class _Parsed:
    """The bytes of one file, and how far they are read."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name, self.at = content, name, 0

    def graph(self, writes_words: bool) -> Graph:
        start, num_states = self._head()
        begin = self._after_states(num_states)
        words = np.frombuffer(self.content, dtype="<i4", count=(self.at - begin[0]) // 4, offset=begin[0])
        self._trailer()
        place = (np.array(begin[:-1], dtype=np.int64) - begin[0]) // 4
        counts = words[place + 1].astype(np.int64)
        at = np.repeat(place + _STATE_WORDS - _ARC_WORDS * (np.cumsum(counts) - counts), counts)
        at += _ARC_WORDS * np.arange(len(at))
        final_score = 0 - words[place].view("<f4")
        if words[at].min(initial=0) < 0 or words[at + 1].min(initial=0) < 0:
            raise self._error("has a negative label; it is damaged")
        try:
            return Graph(
                np.repeat(np.arange(num_states, dtype=np.int32), counts),
                words[at + 3],
                words[at] - 1,
                read_labels(words[at + 1], writes_words),
                0 - words[at + 2].view("<f4"),
                final_score,
                start,
            )
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}; the file is damaged") from None

    def _head(self) -> tuple[int, int]:
        if self._bytes(4) != MAGIC:
            raise self._error("is no OpenFst binary file")
        kinds = self._string(), self._string()
        if kinds != _HEADER:
            raise self._error(f"holds a {kinds[0]!r:.40} of {kinds[1]!r:.40} arcs, expected a vector of standard arcs")
        version, flags, _, start, num_states, _ = self._unpack("<iiQqqq")
        if version != _VERSION or flags & _IS_ALIGNED or flags >> 3:
            raise self._error(f"has version {version} and flags {flags}, expected version {_VERSION}, unaligned")
        # A state takes 12 bytes: more of them than fit are damage, not a reason to allocate gigabytes.
        if not 0 <= start < num_states <= len(self.content) // 12:
            raise self._error(f"has {num_states} states and starts at {start}, which no file of this size has")
        for flag in (_HAS_INPUT_SYMBOLS, _HAS_OUTPUT_SYMBOLS):
            if flags & flag:
                self._skip_symbols()
        return start, num_states

    def _skip_symbols(self) -> None:
        magic = self._unpack("<i")[0]
        if magic != _SYMBOLS_MAGIC:
            raise self._error("holds no symbol table where it should")
        self._string()
        _, count = self._unpack("<qq")
        for _ in range(count):
            self._string()
            self._unpack("<q")

    def _after_states(self, num_states: int) -> list[int]:
        """The byte at which each state begins, and the one after all of them."""
        begin, at, size = [self.at], self.at, len(self.content)
        unpack, content = struct.Struct("<q").unpack_from, self.content
        for state in range(num_states):
            (count,) = unpack(content, at + 4)
            if not 0 <= count <= size // 16:
                raise self._error(f"state {state} has {count} arcs, which no file of this size holds")
            at += 12 + 16 * count
            if at > size:
                raise self._error(f"ends within state {state} of {num_states}; it is truncated")
            begin.append(at)
        self.at = at
        return begin

    def _trailer(self) -> None:
        rest = self.content[self.at :]
        if not rest:
            return  # another program's, or ours cut where only the checksum is missing
        expected = _TRAILER + zlib.crc32(memoryview(self.content)[: self.at]).to_bytes(4, "little")
        if rest != expected:
            raise self._error("is damaged: its checksum differs, or something follows the last state")

    def _unpack(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return values

    def _bytes(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.at:
            raise self._error("ends early; it is truncated or damaged")
        self.at += count
        return self.content[self.at - count : self.at]

    def _string(self) -> bytes:
        return self._bytes(self._unpack("<i")[0])

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.name}: {problem}; expected an OpenFst binary file")
