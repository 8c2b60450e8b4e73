"""The public names: there, documented, with the signatures that are promised, their examples true."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import topologies
import wfst_losses
from tests.test_layers import SOURCES, module_name
from wfst_losses.backends import BACKENDS

ROOT = Path(__file__).parents[1]
EMPTY = inspect.Parameter.empty
REQUIRED = "required"

# Arguments in order with their defaults; from the star on by keyword only.
SIGNATURES: dict[str, list[tuple[str, object]]] = {
    "ctc_loss": [
        ("log_probs", REQUIRED),
        ("targets", REQUIRED),
        ("input_lengths", REQUIRED),
        ("target_lengths", None),
        ("*", REQUIRED),
        ("topology", "correct"),
        ("backend", "auto"),
        ("reduction", "none"),
        ("zero_infinity", False),
        ("blank", 0),
        ("from_logits", False),
        ("check_normalised", True),
        ("nonfinite", "raise"),
        ("max_memory", None),
    ],
    "mmi_loss": [
        ("log_probs", REQUIRED),
        ("targets", REQUIRED),
        ("input_lengths", REQUIRED),
        ("target_lengths", None),
        ("*", REQUIRED),
        ("language_model", REQUIRED),
        ("topology", "correct"),
        ("den_scale", 1.0),
        ("boost", 0.0),
        ("memory", "full"),
        ("language_model_scores", None),
        ("backoff", "failure"),
        ("backend", "auto"),
        ("reduction", "none"),
        ("zero_infinity", False),
        ("blank", 0),
        ("from_logits", False),
        ("nonfinite", "raise"),
        ("max_memory", None),
    ],
    "mwer_loss": [
        ("log_probs", REQUIRED),
        ("targets", REQUIRED),
        ("input_lengths", REQUIRED),
        ("target_lengths", None),
        ("*", REQUIRED),
        ("topology", "correct"),
        ("language_model", None),
        ("sampler", wfst_losses.RandomPaths(num_paths=16)),
        ("risk", wfst_losses.TokenErrors()),
        ("estimator", "nbest"),
        ("temperature", 1.0),
        ("nbest_scale", 1.0),
        ("path_score", "sum"),
        ("baseline", "mean"),
        ("include_reference", False),
        ("include_best", False),
        ("max_errors", None),
        ("generator", None),
        ("return_diagnostics", False),
        ("backend", "auto"),
        ("reduction", "none"),
        ("blank", 0),
        ("from_logits", False),
        ("check_normalised", True),
        ("nonfinite", "raise"),
        ("max_memory", None),
    ],
    "lattice_mwer_loss": [
        ("lattice", REQUIRED),
        ("ref_texts", REQUIRED),
        ("nbest_scale", 0.5),
        ("num_paths", 200),
        ("temperature", 1.0),
        ("use_double_scores", True),
        ("reduction", "sum"),
        ("*", REQUIRED),
        ("sampler", None),
        ("risk", wfst_losses.TokenErrors()),
        ("estimator", "nbest"),
        ("path_score", "sum"),
        ("baseline", "none"),
        ("include_reference", False),
        ("include_best", False),
        ("generator", None),
        ("return_diagnostics", False),
        ("nonfinite", "raise"),
        ("max_memory", None),
    ],
}
# Loss functions that every user meets: their docstrings end in an example that runs.
WITH_EXAMPLES = ["ctc_loss", "mmi_loss", "mwer_loss", "TokenErrors", "WordErrors", "CharacterErrors", "MixedErrors"]


@pytest.mark.parametrize("package", [topologies, wfst_losses], ids=["topologies", "wfst_losses"])
def test_every_exported_name_is_there_and_documented(package: ModuleType) -> None:
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert name in dir(package)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = package.nothing_like_this


def test_the_names_users_rely_on() -> None:
    assert {"TOPOLOGIES", "build", "EPSILON", "Graph", "Size", "AbstractTopology"} <= set(topologies.__all__)
    assert topologies.EPSILON == -1
    assert list(topologies.TOPOLOGIES)[:4] == ["correct", "compact", "minimal", "selfless"]
    assert {
        "ctc_loss", "mwer_loss", "lattice_mwer_loss", "CTCLoss", "MWERLoss", "LatticeMWERLoss",
        "RandomPaths", "Exhaustive", "TokenErrors", "WordErrors", "CharacterErrors", "MixedErrors",
        "Diagnostics", "LossReport",
    } <= set(wfst_losses.__all__)  # fmt: skip
    assert {"reference", "k2"} <= set(BACKENDS)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    wanted = list(SIGNATURES[name])
    star = wanted.index(("*", REQUIRED))
    del wanted[star]
    found = inspect.signature(getattr(wfst_losses, name)).parameters
    assert list(found) == [argument for argument, _ in wanted]
    for place, (argument, default) in enumerate(wanted):
        assert found[argument].default == (EMPTY if default is REQUIRED else default), argument
        assert (found[argument].kind is inspect.Parameter.KEYWORD_ONLY) == (place >= star), argument


@pytest.mark.parametrize("name", SIGNATURES)
def test_docstrings_of_losses_have_their_parts(name: str) -> None:
    documentation = inspect.getdoc(getattr(wfst_losses, name))
    first, *rest = documentation.splitlines()
    assert first.endswith(".")
    assert rest[0] == ""
    for part in ("Args:", "Returns:", "Raises:", "Source:"):
        assert part in documentation, part
    for argument in inspect.signature(getattr(wfst_losses, name)).parameters:
        assert argument in documentation, argument


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_there(name: str) -> None:
    assert ">>>" in inspect.getdoc(getattr(wfst_losses, name))


NEEDS_TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def marks_of(name: str) -> Any:
    """What a module cannot be imported without."""
    if name.startswith("wfst_losses.backends.k2"):
        return pytest.mark.k2
    return NEEDS_TRITON if "cuda" in name else ()


MODULES = [
    pytest.param(name, marks=marks_of(name)) for name in map(module_name, SOURCES) if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a module says what it is"
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def imported_with(statement: str) -> set[str]:
    program = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_brings_nothing_that_may_be_missing() -> None:
    assert not imported_with("import topologies") & {"torch", "numba", "k2", "wfst_losses"}
    everything = imported_with("import wfst_losses\nfor name in wfst_losses.__all__: getattr(wfst_losses, name)")
    assert not everything & {"k2", "_k2", "numba"}


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    program = (
        "import sys; sys.modules['k2'] = None\n"
        "import torch, wfst_losses\n"
        "scores = torch.zeros(1, 2, 1)\n"
        "print(wfst_losses.ctc_loss(scores, [[]], [2], backend='reference').item())\n"
        "try: wfst_losses.ctc_loss(scores, [[]], [2], backend='k2')\n"
        "except ModuleNotFoundError as error: print(error)\n"
        "try: wfst_losses.lattice_mwer_loss(None, [])\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    value, *messages = done.stdout.splitlines()
    assert float(value) == 0.0
    assert len(messages) == 2
    assert all(message.startswith("k2 is not installed: ") and "pip install" in message for message in messages)
