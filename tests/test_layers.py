"""Imports point one way, k2 is imported in one folder, files stay short: all read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"topologies"},
    {
        "validation",
        "emissions",
        "differentiation",
        "semiring",
        "compiled",
        "memory_limit",
        "memory_formulas",
        "runs",
        "shadowing",
    },
    {"graphs", "lattices", "backends"},
    {"samplers", "risks"},
    {"losses", "alignment", "decoding"},
    {"modules", "weighted_losses"},
    {"inspection", "integrations"},
    {"cli"},
]
"""Lowest first. What stands in a layer imports from its own and from those before it; parts are of `wfst_losses`."""
MOST_LINES = 320
SOURCES = sorted(path for package in ("topologies", "wfst_losses") for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int | None:
    """The place of a module in LAYERS; None for the package itself and for modules that are not ours."""
    top, _, rest = module.partition(".")
    part = top if top == "topologies" else rest.partition(".")[0] if top == "wfst_losses" else ""
    found = [number for number, names in enumerate(LAYERS) if part in names]
    if top == "wfst_losses" and part and not found:
        raise AssertionError(f"{module} has no place in LAYERS of tests/test_layers.py: give it one")
    return found[0] if found else None


def imports(tree: ast.AST, *, for_types: bool = True) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, those inside functions too; ``from a import b`` gives a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; name the module"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        else:
            yield from imports(node, for_types=for_types)


def wrong_imports(source: str, importer: str) -> list[str]:
    """Imports of a module that point upwards, or at the package that imports everything."""
    own = layer(importer)
    if own is None:
        return []
    wrong = []
    for line, name in imports(ast.parse(source)):
        if name.split(".")[0] not in ("topologies", "wfst_losses"):
            continue
        # A name of the package itself (`from wfst_losses import ctc_loss`) may be any of its parts: the top only.
        public = name == "wfst_losses" or (
            name.startswith("wfst_losses.") and "." not in name[12:] and not is_part(name)
        )
        target = len(LAYERS) - 1 if public else layer(name)
        if target is not None and target > own:
            wrong.append(f"{importer}, line {line}: imports {name}, which stands above it")
    return wrong


def is_part(name: str) -> bool:
    return any(name.partition(".")[2] in names for names in LAYERS)


def k2_imports(source: str) -> list[int]:
    """Lines that import k2 when they run."""
    return [line for line, name in imports(ast.parse(source), for_types=False) if name.split(".")[0] in ("k2", "_k2")]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    assert wrong_imports(path.read_text(), module_name(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_k2_is_imported_in_its_folder_only(path: Path) -> None:
    inside = path.is_relative_to(ROOT / "wfst_losses" / "backends" / "k2")
    assert inside or k2_imports(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MOST_LINES


def test_topologies_need_numpy_only() -> None:
    for path in (ROOT / "topologies").glob("*.py"):
        for line, name in imports(ast.parse(path.read_text())):
            assert name.split(".")[0] not in ("torch", "numba", "k2", "wfst_losses"), f"{path.name}, line {line}"


@pytest.mark.parametrize(
    ("importer", "source", "is_wrong"),
    [
        ("wfst_losses.losses.ctc", "from wfst_losses.modules import CTCLoss", True),
        ("wfst_losses.losses.ctc", "from wfst_losses import modules", True),
        ("wfst_losses.losses.ctc", "from wfst_losses import ctc_loss", True),
        ("wfst_losses.losses.ctc", "import wfst_losses", True),
        ("wfst_losses.losses.ctc", "def f():\n    from wfst_losses.cli import main", True),
        ("wfst_losses.losses.ctc", "from wfst_losses.backends import get_backend\nimport topologies", False),
        ("wfst_losses.lattices.arcs", "from wfst_losses.samplers import RandomPaths", True),
        ("wfst_losses.cli.commands", "from wfst_losses import __version__", False),
        ("topologies.graph", "from wfst_losses.semiring import segment_logsumexp", True),
        ("wfst_losses", "from wfst_losses.modules import CTCLoss", False),
    ],
)
def test_the_rule_finds_what_it_should(importer: str, source: str, is_wrong: bool) -> None:
    assert bool(wrong_imports(source, importer)) == is_wrong


def test_the_rule_for_k2_finds_what_it_should() -> None:
    assert k2_imports("import k2") == [1]
    assert k2_imports("def f():\n    from k2.ragged import RaggedTensor") == [2]
    assert k2_imports("try:\n    import k2\nexcept ImportError:\n    pass") == [2]
    assert k2_imports("if TYPE_CHECKING:\n    import k2\nfrom wfst_losses.backends.k2 import k2") == []
