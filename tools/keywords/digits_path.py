"""Makes the digits recipe's modules importable: this recipe takes its corpus, mixing, batches and blocks from there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "digits"))
