"""What a case is: one argument of one entry, spoilt in one way, and what has to happen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Refused:
    """An exception is due, whose message holds the argument's name and one of ``mentions``.

    Attributes:
        mentions: the offending index or value as a message may write it.
        under: other names the argument may go by, such as the column of a file.
    """

    mentions: tuple[str, ...]
    under: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Noticed:
    """Refused as `Refused` says, or read as what it was: never something else."""

    mentions: tuple[str, ...]
    under: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Unchanged:
    """The values and gradients of the good call, utterance by utterance."""

    tolerance: float = 1e-5


@dataclasses.dataclass(frozen=True)
class Impossible:
    """+inf and a gradient of exactly 0 for one utterance; the others as in the good call."""

    utterance: int


@dataclasses.dataclass(frozen=True)
class Finite:
    """Finite values and gradients, B of them."""


@dataclasses.dataclass(frozen=True)
class Empty:
    """No values for no utterances."""


Expectation = Refused | Noticed | Unchanged | Impossible | Finite | Empty


@dataclasses.dataclass(frozen=True)
class Defect:
    """One way to spoil an argument.

    Attributes:
        name: what is wrong, unique within a kind of argument.
        change: makes the spoilt value out of the good one.
        expected: what has to happen.
        others: further arguments that change with it, such as all of them for an empty batch.
        is_ours: a rule that only this library has.
    """

    name: str
    change: Callable[[Any], Any]
    expected: Expectation
    others: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    is_ours: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        values, gradients: per utterance, where the call returned.
        error, message: type and text of the exception, where it raised.
        is_answer: whether the exception is one that callers are told of (ValueError, OSError, MemoryError).
        printed: what came out on stdout.
        ended: "returned", "raised", "signal 11", "timeout".
    """

    ended: str
    values: Any = None
    gradients: Any = None
    error: str = ""
    message: str = ""
    is_answer: bool = False
    printed: str = ""


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another library's answer to the same arguments.

    Attributes:
        call: as of `Entry`.
        arguments: those it has too; others are not held against it, nor is that it takes rows as they come.
    """

    call: Callable[..., Any]
    arguments: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Something a user calls.

    Attributes:
        name: how it is written.
        call: takes the arguments, returns values ``(B,)`` and their gradient per utterance, or None for both.
        good: makes the arguments of a good call.
        kinds: which table of defects each argument is taken through.
        skipped: defects, as (argument, name), that mean nothing here.
        peers: other libraries, by name.
        aliases: other names that messages may give an argument.
        prints: whether its answer goes to stdout.
        has_threads: whether the call leaves threads behind, which forks would not survive.
    """

    name: str
    call: Callable[..., Any]
    good: Callable[[], Arguments]
    kinds: dict[str, str]
    skipped: frozenset[tuple[str, str]] = frozenset()
    peers: dict[str, Peer] = dataclasses.field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    prints: bool = False
    has_threads: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """An entry, one of its arguments, and what is wrong with it."""

    entry: Entry
    argument: str
    defect: Defect

    def arguments(self) -> Arguments:
        """The arguments of the spoilt call."""
        arguments = self.entry.good()
        arguments[self.argument] = self.defect.change(arguments.get(self.argument))
        for name, change in self.defect.others:
            if name in arguments:
                arguments[name] = change(arguments[name])
        return arguments

    @property
    def key(self) -> tuple[str, str, str]:
        """What no other case has."""
        return self.entry.name, self.argument, self.defect.name
