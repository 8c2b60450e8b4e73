"""The lines of a lexicon.txt, read strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wfst_losses.graphs.symbols import EPSILON_NAME, columns, read_lines
from wfst_losses.validation import MOST, check_names, shown

_MARK = re.compile(r"#([0-9]+)")
_MOST_DIGITS = 10
Spelling = tuple[int, ...]
Entry = tuple[int, Spelling, int]


class LexiconLines:
    """The lines of one lexicon.txt."""

    def __init__(self, path: Path, tokens: Sequence[str], words: Sequence[str] | None) -> None:
        self.path = path
        self.label_of = {name: label for label, name in enumerate(tokens)}
        self.blank = tokens[0]
        self.is_open = words is None
        given = [EPSILON_NAME] if words is None else list(words)
        _check_words(given)
        self.id_of = {name: number for number, name in enumerate(given)}
        self.line_of: list[int] = []

    def entries(self) -> tuple[list[Entry], list[str]]:
        """The entries and the names of all words."""
        entries: list[Entry] = []
        seen: dict[Entry, int] = {}
        for number, line in enumerate(read_lines(self.path, "'word token token ...'"), start=1):
            fields = columns(line)
            if not fields:
                continue
            entry = self._entry(fields, f"{self.path}, line {number}")
            if entry in seen:
                where = f"{self.path}, line {number}"
                raise ValueError(f"{where}: {line.strip()!r:.80} is on line {seen[entry]} already, expected it once")
            seen[entry] = number
            entries.append(entry)
            self.line_of.append(number)
        if not entries:
            raise ValueError(f"{self.path}: has no words, expected lines of 'word token token ...'")
        return entries, list(self.id_of)

    def _entry(self, fields: list[str], where: str) -> Entry:
        name, *spelled = fields
        if name == EPSILON_NAME or (name not in self.id_of and not self.is_open):
            raise ValueError(f"{where}: word {name!r} is not among the words, expected one of them")
        mark = 0
        if spelled and (found := _MARK.fullmatch(spelled[-1])) and spelled[-1] not in self.label_of:
            most = _most_marks(len(self.label_of))
            # Python itself refuses to read numbers of thousands of digits.
            mark = int(found[1]) if len(found[1]) <= _MOST_DIGITS else MOST
            spelled.pop()
            if mark == 0:
                raise ValueError(f"{where}: ends in '#0', expected '#1' or higher: '#0' is the grammar's back-off")
            if mark > most:
                raise ValueError(f"{where}: ends in {'#' + found[1]!r:.80}, expected '#1' to '#{most}'")
        if not spelled:
            raise ValueError(f"{where}: word {name!r} has no pronunciation, expected a token or more")
        for token in spelled:
            if token == self.blank:
                raise ValueError(f"{where}: word {name!r} is spelled with {token!r}, the blank; expected tokens only")
            if token not in self.label_of:
                raise ValueError(f"{where}: token {token!r} of word {name!r} is not among the tokens (tokens.txt)")
        return self.id_of.setdefault(name, len(self.id_of)), tuple(self.label_of[token] for token in spelled), mark

    def check_marks(self, entries: list[Entry]) -> None:
        """Symbols that the file brings must tell all pronunciations apart."""
        if (found := _confused(entries)) is not None:
            names = list(self.id_of)
            row, other, how = found
            raise ValueError(
                f"{self.path}, line {self.line_of[row]}: the pronunciation of {names[entries[row][0]]!r} {how} "
                f"{names[entries[other][0]]!r} on line {self.line_of[other]}, expected a disambiguation symbol there"
            )


def _confused(entries: Sequence[Entry]) -> tuple[int, int, str] | None:
    """The row of a pronunciation that is, or begins with, that of another row: to determinise them may never end."""
    row_of: dict[Spelling, int] = {}
    for row, (_, spelling, mark) in enumerate(entries):
        # Symbols are negative here: no token has such a number.
        other = row_of.setdefault((*spelling, -mark) if mark else tuple(spelling), row)
        if other != row:
            return row, other, "is that of"
    for row, (_, spelling, _) in enumerate(entries):
        beginning = tuple(spelling)
        for length in range(1, len(beginning)):
            if beginning[:length] in row_of:
                return row, row_of[beginning[:length]], "begins with that of"
    return None


def _most_marks(num_tokens: int) -> int:
    """Labels, symbols and the one for silence are numbered together, and files add one for epsilon."""
    return MOST - 3 - num_tokens


def check_lexicon(tokens: object, words: object, entries: object) -> None:
    """Entries of words that there are, spelled with tokens that there are, which symbols tell apart."""
    token_names, word_names = check_names("tokens", tokens), check_names("words", words)
    refuse_repeated("tokens", token_names)
    _check_words(word_names)
    num_tokens, num_words = len(token_names), len(word_names)
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"entries is {shown(entries)}, expected a row of (word, labels, mark)")
    for index, entry in enumerate(entries):
        if not isinstance(entry, Sequence) or len(entry) != 3 or not isinstance(entry[1], Sequence) or not entry[1]:
            raise ValueError(f"entries[{index}] is {shown(entry)}, expected (word, labels, mark)")
        word, spelling, mark = entry
        name = f"entries[{index}]"
        for part, value, least, count in [
            (f"{name}[0]", word, 1, num_words),
            *((f"{name}[1][{place}]", label, 1, num_tokens) for place, label in enumerate(spelling)),
            (f"{name}[2]", mark, 0, _most_marks(num_tokens) + 1),
        ]:
            if type(value) is not int or not least <= value < count:
                raise ValueError(f"{part} is {shown(value)}, expected {least}..{count - 1}")
    if (found := _confused(entries)) is not None:
        row, other, how = found
        raise ValueError(
            f"entries[{row}] is {shown(entries[row])}, whose pronunciation {how} entries[{other}], "
            f"{shown(entries[other])}; expected a disambiguation symbol there, as `disambiguated` adds them"
        )


def _check_words(words: Sequence[str]) -> None:
    if not words or words[0] != EPSILON_NAME:
        raise ValueError(f"words begins with {shown(list(words[:1]))}, expected {EPSILON_NAME!r} as word 0")
    refuse_repeated("words", words)


def refuse_repeated(name: str, names: Sequence[str]) -> None:
    """Every name must be there once."""
    if len(set(names)) < len(names):
        repeated = next(value for place, value in enumerate(names) if value in names[:place])
        raise ValueError(f"{name} holds {repeated!r} twice, expected every name once")
