"""Lexicons: how words are spelled in tokens, from lexicon.txt or a sentencepiece model, and their transducer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topologies import EPSILON, Graph
from wfst_losses.graphs.arpa import read_arpa
from wfst_losses.graphs.language_model import LanguageModel
from wfst_losses.graphs.lexicon_lines import LexiconLines, Spelling, check_lexicon, refuse_repeated
from wfst_losses.graphs.symbols import EPSILON_NAME, read_words
from wfst_losses.graphs.tokens import read_tokens
from wfst_losses.validation import check_blank, check_names, check_number, check_path, shown


@dataclasses.dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and their pronunciations, token by token; a word may have several.

    Attributes:
        tokens: the names of the network's labels, blank first.
        words: names by id, ``<eps>`` first: what a words.txt says.
        entries: word id, labels, and the disambiguation symbol at the end, 0 for none; see `disambiguated`. With it no
            pronunciation is another's, or begins one: a ValueError, for to determinise such a lexicon may never end.
        silence: the label that may be read between words, at the start and at the end; ``None`` for none.
        silence_probability: of reading it at each of these places.
    """

    tokens: tuple[str, ...]
    words: tuple[str, ...]
    entries: tuple[tuple[int, Spelling, int], ...]
    silence: int | None = None
    silence_probability: float = 0.5

    def __post_init__(self) -> None:
        check_lexicon(self.tokens, self.words, self.entries)
        if self.silence is not None:
            check_blank(self.silence, len(self.tokens), name="silence")
        check_number("silence_probability", self.silence_probability, above=0.0)
        if self.silence_probability >= 1:
            raise ValueError(f"silence_probability is {self.silence_probability}, expected below 1")

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        tokens: Sequence[str] | str | Path,
        words: Sequence[str] | str | Path | None = None,
        *,
        silence: str | None = None,
        silence_probability: float = 0.5,
    ) -> Lexicon:
        """The lexicon of a file with a line ``word token token ...`` for each pronunciation.

        Disambiguation symbols are added where they are needed. A file that has some of its own (``#1`` at the end of
        a line, as a lexicon_disambig.txt) is taken at its word.

        Args:
            path: the lexicon.
            tokens: the names of the labels, blank first, or the path of a tokens.txt.
            words: names by id, ``<eps>`` first, or the path of a words.txt; as they come in the file if left out.
            silence: the name of the token that stands for optional silence.
            silence_probability: of it.

        Raises:
            ValueError: naming the file and the line: a word without pronunciation or not among ``words``, a token that
                is not among ``tokens``, a line that is there twice, and, with symbols of its own, two pronunciations
                that are equal or one the beginning of another.
            OSError: if a file cannot be read.
        """
        path = check_path("path", path)
        token_names = read_tokens(tokens) if isinstance(tokens, (str, Path)) else check_names("tokens", tokens)
        if words is not None:
            words = read_words(words) if isinstance(words, (str, Path)) else check_names("words", words)
        lines = LexiconLines(path, token_names, words)
        entries, words_read = lines.entries()
        label = None
        if silence is not None:
            if not isinstance(silence, str) or silence not in token_names[1:]:
                raise ValueError(f"silence is {shown(silence)}, expected a token other than blank")
            label = token_names.index(silence)
        if not any(mark for _, _, mark in entries):
            entries = disambiguated(((word, spelling) for word, spelling, _ in entries), label)
        else:
            lines.check_marks(entries)
        return cls(tuple(token_names), tuple(words_read), tuple(entries), label, silence_probability)

    @classmethod
    def from_sentencepiece(
        cls, model: str | Path, words: Sequence[str], tokens: Sequence[str] | str | Path | None = None
    ) -> Lexicon:
        """Each word as a sentencepiece model spells it.

        Args:
            model: the path of the model.
            words: names by id, ``<eps>`` first, or without it.
            tokens: the names of the labels, blank first, or the path of a tokens.txt; `sentencepiece_tokens` of the
                model if left out.

        Raises:
            ValueError: if a piece is no token, or a word has none but the unknown one.
            OSError: if a file cannot be read.
        """
        processor = _processor(model)
        if tokens is None:
            tokens = _pieces(processor)
        names = read_tokens(tokens) if isinstance(tokens, (str, Path)) else check_names("tokens", tokens)
        label_of = {name: label for label, name in enumerate(names) if label}
        words = check_names("words", words)
        words = list(words) if words[0] == EPSILON_NAME else [EPSILON_NAME, *words]
        refuse_repeated("words", words)
        unknown = processor.id_to_piece(processor.unk_id())
        entries = []
        for number, word in enumerate(words[1:], start=1):
            pieces = processor.encode(word, out_type=str)
            missing = next((piece for piece in pieces if piece not in label_of or piece == unknown), None)
            if missing is not None or not pieces:
                raise ValueError(f"{model}: word {word!r} is spelled with {missing!r}, expected pieces that are tokens")
            entries.append((number, tuple(label_of[piece] for piece in pieces)))
        return cls(tuple(names), tuple(words), tuple(disambiguated(entries)))

    @property
    def num_labels(self) -> int:
        """V of the network, blank included; label V + k of `graph` is the disambiguation symbol ``#k``."""
        return len(self.tokens)

    def language_model(self, path: str | Path, *, on_lines: Callable[[int], object] | None = None) -> LanguageModel:
        """The model of an ARPA file over the words of the lexicon.

        Args:
            path: the file.
            on_lines: told the progress, in lines.

        Raises:
            ValueError: as `LanguageModel.from_arpa`, also for a word without pronunciation, naming its line.
            OSError: if the file cannot be read.
        """
        spoken = {word for word, _, _ in self.entries}
        names = [name if word in spoken or not word else None for word, name in enumerate(self.words)]
        unknown = "has no pronunciation in the lexicon, expected one"
        ngrams = read_arpa(path, names, kind="word", unknown=unknown, on_lines=on_lines)
        return LanguageModel(ngrams.graph(), len(self.words))

    @functools.cached_property
    def num_marks(self) -> int:
        """Disambiguation symbols of `graph`: ``#0`` for back-off, those of entries, one for silence."""
        return 1 + max((mark for _, _, mark in self.entries), default=0) + (self.silence is not None)

    @functools.cached_property
    def graph(self) -> Graph:
        """The transducer from tokens to words, repeated: state 0 stands between words, or is the start before silence.

        Reads labels and disambiguation symbols; ``#0``, a loop between words, writes word ``len(words)``. It is what
        a grammar's back-off arcs read. A word is written as its first token is read.
        """
        return _transducer(self)


def disambiguated(
    entries: Iterable[tuple[int, Spelling]], silence: int | None = None
) -> list[tuple[int, Spelling, int]]:
    """The entries with symbols ``#1``, ``#2``, ... where pronunciations are equal or begin a longer one.

    With them no sequence of labels and symbols belongs to two sequences of words. Optional silence, which has a symbol
    of its own at its end, counts as a longer pronunciation than the bare label.
    """
    rows = list(entries)
    beginnings = {spelling[:length] for _, spelling in rows for length in range(1, len(spelling))}
    if silence is not None:
        beginnings.add((silence,))
    uses: dict[Spelling, int] = {}
    for _, spelling in rows:
        uses[spelling] = uses.get(spelling, 0) + 1
    given: dict[Spelling, int] = {}
    result = []
    for word, spelling in rows:
        mark = 0
        if uses[spelling] > 1 or spelling in beginnings:
            mark = given[spelling] = given.get(spelling, 0) + 1
        result.append((word, spelling, mark))
    return result


def sentencepiece_tokens(model: str | Path) -> list[str]:
    """The names of the labels of a network trained on a sentencepiece model: its pieces, blank first.

    As icefall has it: a model that holds ``<blk>`` must hold it as piece 0; any other gets a ``<blk>`` before all
    pieces.
    """
    return _pieces(_processor(model))


def _pieces(processor: Any) -> list[str]:
    pieces = [processor.id_to_piece(label) for label in range(processor.get_piece_size())]
    if "<blk>" in pieces[1:]:
        raise ValueError(f"<blk> is piece {pieces.index('<blk>')} of the sentencepiece model, expected piece 0 or none")
    return pieces if pieces[0] == "<blk>" else ["<blk>", *pieces]


def _processor(model: str | Path) -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("sentencepiece is not installed: pip install sentencepiece") from error
    content = check_path("model", model).read_bytes()
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{model}: is no sentencepiece model ({str(error)!r:.80})") from None
    return processor


def _transducer(lexicon: Lexicon) -> Graph:
    """Between words: state 0 without silence; with it the start is 0, between words is 1, silence 2 and 3."""
    marks = lexicon.num_labels
    rows: list[tuple[int, int, int, int]] = []
    scores: list[float] = []
    between, num_states = 0, 1
    endings = [(0, 0.0)]
    if lexicon.silence is not None:
        between, silent, marked, num_states = 1, 2, 3, 4
        probability = np.log([1 - lexicon.silence_probability, lexicon.silence_probability]).tolist()
        endings = list(zip([between, silent], probability, strict=True))
        last = marks + lexicon.num_marks - 1
        rows = [
            (0, between, EPSILON, EPSILON),
            (0, silent, EPSILON, EPSILON),
            (silent, marked, lexicon.silence, EPSILON),
            (marked, between, last, EPSILON),
        ]
        scores = [*probability, 0.0, 0.0]
    rows.append((between, between, marks, len(lexicon.words)))
    scores.append(0.0)
    for word, spelling, mark in lexicon.entries:
        labels = (*spelling, marks + mark) if mark else spelling
        state, written = between, word
        for label in labels[:-1]:
            rows.append((state, num_states, label, written))
            scores.append(0.0)
            state, written, num_states = num_states, EPSILON, num_states + 1
        for destination, score in endings:
            rows.append((state, destination, labels[-1], written))
            scores.append(score)
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    final_score[between] = 0.0
    source, destinations, read, write = np.array(rows, dtype=np.int32).T
    return Graph(source, destinations, read, write, np.array(scores, dtype=np.float32), final_score, 0)
