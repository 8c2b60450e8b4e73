"""Try to break the laws of `laws.py` with random input until the time is up.

    python tools/reliability/fuzz.py --minutes 2
    python tools/reliability/fuzz.py --law "engines agree" --seed 17   # one round again

Each round gives every law some examples, drawn and, where one fails, made smaller by hypothesis. A failure prints the
law, the seed of its round and the smallest input; exit status 1.
"""

from __future__ import annotations

import argparse
import collections
import time
import traceback
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import torch
from laws import LAWS
from tqdm import tqdm


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, help="of the first round; the clock's if left out")
    parser.add_argument("--law", choices=tuple(LAWS), help="this one alone, for one round")
    parser.add_argument("--examples", type=int, default=25, help="per law and round")
    return parser


def check(law: str, seed: int, num_examples: int) -> None:
    """Give a law that many examples.

    Raises:
        Exception: what the smallest example that breaks it raised.
    """
    holds, inputs = LAWS[law]
    _with_examples(holds, inputs, seed, num_examples)()


def _with_examples(
    holds: Callable[[Any], None], inputs: st.SearchStrategy[Any], seed: int, num_examples: int
) -> Callable[[], None]:
    settings = hypothesis.settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(inputs)
    def run(value: Any) -> None:
        holds(value)

    return run


def main() -> int:
    """Run rounds; 1 if a law broke."""
    args = get_parser().parse_args()
    torch.set_num_threads(1)
    seed = args.seed if args.seed is not None else time.time_ns() % 2**31
    begin, seconds = time.monotonic(), 60 * args.minutes
    counts: collections.Counter[str] = collections.Counter()
    print(f"first seed: {seed}")
    with tqdm(total=round(seconds), unit="s", disable=bool(args.law)) as progress:
        while True:
            for law in [args.law] if args.law else LAWS:
                try:
                    check(law, seed, args.examples)
                except Exception:  # noqa: BLE001 (whatever broke it)
                    traceback.print_exc()
                    print(f"broken: {law!r}; again: python tools/reliability/fuzz.py --law {law!r} --seed {seed}")
                    return 1
                counts[law] += args.examples
            seed += 1
            passed = time.monotonic() - begin
            progress.n = min(round(seconds), round(passed))
            progress.refresh()
            if args.law or passed >= seconds:
                break
    print(", ".join(f"{law}: {count} examples" for law, count in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
