"""Whether ``import topologies`` gives this project's package: the name also belongs to an unrelated one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent / "topologies" / "__init__.py"
_MARK = "AbstractTopology"
"""A name that the real file exports."""


def shadowing_message() -> str | None:
    """What is wrong with the package ``topologies`` and how to mend it, or ``None``. Imports nothing."""
    module = sys.modules.get("topologies")
    spec = getattr(module, "__spec__", None) or importlib.util.find_spec("topologies")
    found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    if found is not None and found.parent != _HOME.parent:
        return (
            f"another package named topologies shadows the one of wfst-losses: {found}; move it behind "
            f"{_HOME.parent.parent} on PYTHONPATH, run from another folder, or remove it: pip uninstall topologies"
        )
    if found is None or (found == _HOME and _MARK not in found.read_text(encoding="utf-8", errors="replace")):
        return (
            f"another package named topologies was installed over the one of wfst-losses: {_HOME}; mend it with: "
            "pip uninstall -y topologies; pip install --force-reinstall --no-deps wfst-losses"
        )
    return None
