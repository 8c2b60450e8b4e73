"""The laws hold for a few examples each, and a law that does not hold is seen."""

from __future__ import annotations

import fuzz
import laws
import pytest


@pytest.mark.parametrize("law", laws.LAWS)
def test_a_law_holds(law: str) -> None:
    fuzz.check(law, seed=1, num_examples=5)


def test_a_broken_law_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_long(batch: dict[str, list[int]]) -> None:
        laws.require(max(batch["lengths"]) < 4)

    monkeypatch.setitem(laws.LAWS, "never long", (never_long, laws.batches()))
    with pytest.raises(AssertionError, match="the law is broken"):
        fuzz.check("never long", seed=1, num_examples=50)
