"""The scorecard itself: it sees deaths, hangs and silence, and tells clear refusals from others."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import scorecard
from case import Case, Defect, Entry, Finite, Impossible, Noticed, Outcome, Refused, Unchanged
from entries import get_entries
from isolation import run_alone

GOOD = Outcome("returned", np.array([1.0, 2.0]), np.ones((2, 3, 2)))


def case(expected: Any) -> Case:
    entry = Entry("loss", lambda: None, dict, {"targets": "targets"})
    return Case(entry, "targets", Defect("spoilt", lambda value: value, expected))


def refusal(message: str, **facts: Any) -> Outcome:
    return Outcome("raised", error="ValueError", message=message, **{"is_answer": True, **facts})


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        (refusal("targets[1] is 9, expected less"), "clear"),
        (refusal("targets is wrong"), "unclear"),
        (refusal("[1] is 9"), "unclear"),
        (refusal("targets[1] is 9" + "." * 2000), "unclear"),
        (refusal("targets[1] is 9", printed="targets"), "unclear"),
        (refusal("targets[1] is 9", is_answer=False), "unclear"),
        (GOOD, "silent"),
        (Outcome("signal 11"), "death"),
        (Outcome("exit 1"), "death"),
        (Outcome("timeout"), "hang"),
    ],
)
def test_where_a_refusal_is_due(outcome: Outcome, wanted: str) -> None:
    assert scorecard.classify(case(Refused(("[1] is 9",))), outcome, GOOD) == wanted


def returned(values: list[float], gradients: Any) -> Outcome:
    return Outcome("returned", np.array(values), np.asarray(gradients, dtype=float))


@pytest.mark.parametrize(
    ("expected", "outcome", "wanted"),
    [
        (Unchanged(), GOOD, "right"),
        (Unchanged(), returned([1.0, 2.1], np.ones((2, 3, 2))), "silent"),
        (Unchanged(), returned([1.0, 2.0], 2 * np.ones((2, 3, 2))), "silent"),
        (Unchanged(), returned([1.0], np.ones((1, 3, 2))), "silent"),
        (Unchanged(), refusal("targets: no"), "unclear"),
        (Finite(), returned([1.0, 7.0], np.zeros((2, 3, 2))), "right"),
        (Finite(), returned([1.0, np.inf], np.zeros((2, 3, 2))), "silent"),
        (Impossible(1), returned([1.0, np.inf], [np.ones((3, 2)), np.zeros((3, 2))]), "right"),
        (Impossible(1), returned([1.0, np.inf], np.ones((2, 3, 2))), "silent"),
        (Impossible(1), returned([1.5, np.inf], [np.ones((3, 2)), np.zeros((3, 2))]), "silent"),
        (Impossible(1), GOOD, "silent"),
        (Noticed(("no",)), GOOD, "right"),
        (Noticed(("no",)), refusal("targets: no"), "clear"),
        (Noticed(("no",)), returned([1.0, 2.5], np.ones((2, 3, 2))), "silent"),
    ],
)
def test_where_a_value_is_due(expected: Any, outcome: Outcome, wanted: str) -> None:
    assert scorecard.classify(case(expected), outcome, GOOD) == wanted


def test_a_call_alone_can_die_hang_print_and_raise_without_harm() -> None:
    assert run_alone(lambda: os.kill(os.getpid(), signal.SIGSEGV), 10).ended == "signal 11"
    assert run_alone(lambda: os._exit(3), 10).ended == "exit 3"
    assert run_alone(lambda: time.sleep(60), 0.2).ended == "timeout"
    assert run_alone(lambda: os.write(1, b"loud"), 10).printed == "loud"  # type: ignore[arg-type, return-value]
    raised = run_alone(lambda: int("x"), 10)  # type: ignore[arg-type, return-value]
    assert (raised.ended, raised.error, raised.is_answer) == ("raised", "ValueError", True)
    assert run_alone(lambda: (1.0, 2.0), 10).values == 1.0


def test_there_are_cases_enough_and_none_is_there_twice() -> None:
    cases = scorecard.get_cases(get_entries())
    files = [case for case in cases if not case.entry.name.endswith("loss")]
    assert len(cases) >= 1000
    assert len(files) >= 100
    with pytest.raises(ValueError, match="expected each once"):
        scorecard.get_cases([*get_entries()[:1], *get_entries()[:1]])


@pytest.mark.parametrize("name", ["RandomPaths", "topologies.Graph", "graph as OpenFst text", "wfst-losses inspect"])
def test_an_entry_is_right_or_clear_throughout(name: str) -> None:
    (entry,) = [entry for entry in get_entries() if entry.name == name]
    records = scorecard.run([entry], with_peers=False)["wfst-losses"]
    assert [record for record in records if record["outcome"] not in ("right", "clear")] == []
    assert scorecard.is_good(records)
    assert not scorecard.is_good([*records, {"outcome": "silent", "due": "value"}])
