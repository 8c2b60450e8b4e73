"""ARPA files of n-gram models, read strictly: every line is checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from wfst_losses.graphs.ngrams import END, START, NGram, NGrams
from wfst_losses.validation import LARGEST

_START_NAME, _END_NAME, _UNKNOWN_NAME = "<s>", "</s>", "<unk>"
_LINES_PER_REPORT = 1 << 14
# Python would also read other scripts' digits and underscores, and refuse thousands of digits without saying where.
_COUNT = re.compile(r"ngram ([0-9]{1,9}) ?= ?([0-9]{1,18})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_arpa(
    path: str | Path,
    tokens: Sequence[str | None],
    blank: int = 0,
    *,
    kind: str = "token",
    unknown: str = "is not among the network's tokens",
    on_lines: Callable[[int], object] | None = None,
) -> NGrams:
    r"""The n-grams of a file over the names of a network's labels, in natural logs.

    Text before ``\data\`` is skipped. Back-offs may be left out, and mean nothing at the highest order. N-grams with
    ``<unk>`` are left out unless it is a token.

    Args:
        path: the file.
        tokens: names by label; ``None`` where n-grams may not have the label.
        blank: the label that no n-gram may have.
        kind: what messages call a token.
        unknown: what they say of a name that is no token.
        on_lines: told the progress, in lines.

    Raises:
        ValueError: naming the file, the line and what was found where what was expected.
        OSError: if the file cannot be read.
    """
    return _Reader(Path(path), tokens, blank, (kind, unknown), on_lines).read()


class _Reader:
    """The lines of one file, and what they have said so far."""

    def __init__(
        self,
        path: Path,
        tokens: Sequence[str | None],
        blank: int,
        words: tuple[str, str],
        on_lines: Callable[[int], object] | None,
    ) -> None:
        self.path, self.number = path, 0
        self.kind, self.unknown = words
        self.on_lines = on_lines
        # Not splitlines(): a token may be one of the rarer characters that it takes for ends of lines.
        self.lines = _text(path).split("\n")
        self.blank_name = tokens[blank]
        self.label = {name: label for label, name in enumerate(tokens) if name is not None}
        self.label.update({_START_NAME: START, _END_NAME: END})
        self.line_of: dict[NGram, int] = {}
        self.ngrams = NGrams({}, {})

    def read(self) -> NGrams:
        while self._next() != "\\data\\":
            pass
        counts: list[int] = []
        line = self._next()
        while match := _COUNT.fullmatch(line):
            if int(match[1]) != len(counts) + 1:
                raise self._error(f"count of order {match[1]}, expected of order {len(counts) + 1}")
            counts.append(int(match[2]))
            line = self._next()
        if not counts:
            raise self._error(f"is {line!r:.80}, expected 'ngram 1=COUNT'")
        for order, count in enumerate(counts, start=1):
            if line != f"\\{order}-grams:":
                raise self._error(f"is {line!r:.80}, expected '\\{order}-grams:'")
            for index in range(count):
                line = self._next()
                if line.startswith("\\"):
                    raise self._error(f"{index} {order}-grams end here, expected {count} as counted at the top")
                self._read_ngram(line, order, order == len(counts))
            line = self._next()
        if line != "\\end\\":
            raise self._error(f"is {line!r:.80}, expected '\\end\\' after as many n-grams as counted at the top")
        return self.ngrams

    def _next(self) -> str:
        """The next line that is not empty."""
        while self.number < len(self.lines):
            line = self.lines[self.number].strip(" \t\r")
            self.number += 1
            if self.on_lines is not None and self.number % _LINES_PER_REPORT == 0:
                self.on_lines(_LINES_PER_REPORT)
            if line:
                return re.sub(r"[ \t]+", " ", line)
        raise self._error("the file ends here, expected an ARPA model up to '\\end\\'; it may be truncated")

    def _read_ngram(self, line: str, order: int, is_highest: bool) -> None:
        fields = line.split(" ")
        if len(fields) not in (order + 1, order + 2):
            raise self._error(f"has {len(fields)} columns, expected a log-probability, {order} tokens and a back-off")
        log_prob = self._number(fields[0], "log-probability")
        backoff = self._number(fields[order + 1], "back-off") if len(fields) == order + 2 else 0.0
        names = fields[1 : order + 1]
        if _UNKNOWN_NAME in names and _UNKNOWN_NAME not in self.label:
            return
        ngram = tuple(self._token(name, place, order) for place, name in enumerate(names))
        if ngram in self.line_of:
            raise self._error(f"{' '.join(names)!r} is on line {self.line_of[ngram]} already, expected it once")
        if order > 1 and ngram[:-1] not in self.line_of:
            raise self._error(
                f"history {' '.join(names[:-1])!r} is not listed, expected it among the {order - 1}-grams"
            )
        self.line_of[ngram] = self.number
        if ngram != (START,):
            if log_prob > 0:
                raise self._error(f"log-probability is {fields[0]}, expected at most 0")
            self.ngrams.log_probs[ngram] = log_prob
        if backoff and not is_highest:
            self.ngrams.log_backoffs[ngram] = backoff

    def _token(self, name: str, place: int, order: int) -> int:
        if name == self.blank_name:
            what = "the blank" if self.kind == "token" else "no word"
            raise self._error(f"{self.kind} {name!r} is {what}, expected {self.kind}s only")
        if name not in self.label:
            raise self._error(f"{self.kind} {name!r} {self.unknown}")
        if (name == _START_NAME and place > 0) or (name == _END_NAME and place < order - 1):
            raise self._error(
                f"{name!r} is {self.kind} {place + 1} of {order}, expected <s> only first and </s> only last"
            )
        return self.label[name]

    def _number(self, field: str, what: str) -> float:
        value = float(field) if _NUMBER.fullmatch(field) else math.inf
        # Sums of back-offs are to be finite too.
        if abs(value) > LARGEST:
            raise self._error(f"{what} is {field!r:.80}, expected a finite number, log base 10, to {LARGEST:g} in size")
        return value * math.log(10)

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.number}: {problem}")


def _text(path: Path) -> str:
    try:
        # Editors on Windows begin files with a mark that is no text.
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: byte {error.start} is not UTF-8, expected an ARPA model") from None
