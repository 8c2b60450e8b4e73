"""Every line of the scorecard is measured, and one that does not hold is seen."""

from __future__ import annotations

from pathlib import Path

import figures
import figures_of_tests
import laws
import pytest
from figure import joined


def test_every_line_is_measured_and_documented() -> None:
    assert list(figures.LINES) == list(range(1, 26))
    assert sorted(line for lines in figures.TOGETHER for line in lines) == list(figures.LINES)
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")]
    assert [row for row in rows if row.isdigit()] == [str(line) for line in figures.LINES]


def test_all_parts_have_to_hold() -> None:
    holds, fails = (lambda: (True, "good")), (lambda: (False, "bad"))
    assert joined(holds, holds)() == (True, "good; good")
    assert joined(holds, fails)() == (False, "good; bad")


def test_tests_that_fail_or_are_not_there_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "test_one.py"
    path.write_text("def test_good(): pass\ndef test_bad(): assert False\n", encoding="utf-8")
    assert figures_of_tests.passing(str(path), chosen="good")()[0]
    held, figure = figures_of_tests.passing(str(path))()
    assert not held
    assert "1 failed" in figure
    assert "1 passed" in figure
    assert not figures_of_tests.passing(str(path), chosen="none_such")()[0]


def test_a_broken_law_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> None:
        laws.require(False)

    monkeypatch.setitem(laws.LAWS, "never", (never, laws.batches()))
    held, figure = figures_of_tests.laws("never")()
    assert not held
    assert "the law is broken" in figure
