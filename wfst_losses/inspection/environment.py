"""Which torch, k2 and CUDA a machine has, which of the three routes it is on, and what does not fit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys

from wfst_losses.shadowing import shadowing_message

FULL, OWN, FREE = "full", "own k2", "k2-free"
ROUTES = {
    FULL: "the packaged k2 1.23.4 with torch 1.13.1 on CPython 3.10",
    OWN: "your own k2 1.24 or later with torch 2",
    FREE: "left out are backend='k2', lattice_mwer_loss and icefall's recipes; everything else is here",
}
_PACKAGED = "'k2==1.23.4' 'torch==1.13.1' 'numpy<2' 'lhotse==1.32.1'"
_DEPENDENCIES = ("click", "numba", "numpy", "psutil", "rapidfuzz", "rich", "safetensors")
_PROBE_TIMEOUT_SECONDS = 120

# Each runs in a process of its own: a binary that does not fit may kill the one that imports it.
_PROBES = {
    "torch": "import torch; c = torch.cuda; ok = c.is_available(); answer.update(version=torch.__version__, "
    "cuda=torch.version.cuda, gpus=[c.get_device_name(i) for i in range(c.device_count())] if ok else [])",
    "k2": "import torch, k2, _k2; v = _k2.version; answer.update(version=v.__version__, torch=v.torch_version, "
    "cuda=v.cuda_version if v.with_cuda else None)",
    "numba": "import numba; answer.update(version=numba.__version__)",
}


@dataclasses.dataclass(frozen=True)
class Package:
    """One package: ``version`` is ``None`` where it is not installed, ``error`` says why it does not load."""

    version: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Environment:
    """What is here.

    Attributes:
        python, implementation, system: as "3.10.13", "CPython", "Linux x86_64".
        cuda: the CUDA that torch was built for; gpus: names of those it sees.
        k2_torch, k2_cuda: the torch and the CUDA that k2 was built for.
        pip: its version.
        missing: packages this one needs and does not find.
        topologies_message: what is wrong with the package ``topologies``, if anything.
    """

    python: str
    implementation: str = "CPython"
    system: str = "Linux x86_64"
    torch: Package = Package()
    k2: Package = Package()
    numpy: Package = Package()
    numba: Package = Package()
    lhotse: Package = Package()
    cuda: str | None = None
    gpus: tuple[str, ...] = ()
    k2_torch: str | None = None
    k2_cuda: str | None = None
    pip: str | None = None
    missing: tuple[str, ...] = ()
    topologies_message: str | None = None

    @property
    def route(self) -> str:
        """The name of the route in `ROUTES`."""
        if self.k2.version is None:
            return FREE
        return FULL if (0,) < _number(self.k2.version) < (1, 24) else OWN

    @property
    def takes_packaged_k2(self) -> bool:
        """Whether the k2 of the package index runs on this Python."""
        return self.implementation == "CPython" and self.python.startswith("3.10.") and self.system == "Linux x86_64"


@dataclasses.dataclass(frozen=True)
class Misfit:
    """One thing that does not fit, and the line that mends it."""

    message: str
    fix: str


def read_environment() -> Environment:
    """Look around. Takes a few seconds: torch and k2 are imported, each in a process of its own."""
    answers = {name: _probe(name) for name in _PROBES}
    versions = {name: _installed(name) for name in ("torch", "k2", "numpy", "numba", "lhotse", "pip")}

    def package(name: str) -> Package:
        answer = answers.get(name, {})
        return Package(_text(answer, "version") or versions[name], _text(answer, "error"))

    gpus = answers["torch"].get("gpus")
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=f"{platform.system()} {platform.machine()}",
        torch=package("torch"),
        k2=package("k2"),
        numpy=package("numpy"),
        numba=package("numba"),
        lhotse=package("lhotse"),
        cuda=_text(answers["torch"], "cuda"),
        gpus=tuple(map(str, gpus)) if isinstance(gpus, list) else (),
        k2_torch=_text(answers["k2"], "torch") or _k2_torch_by_name(versions["k2"]),
        k2_cuda=_text(answers["k2"], "cuda"),
        pip=versions["pip"],
        missing=tuple(name for name in _DEPENDENCIES if importlib.util.find_spec(name) is None),
        topologies_message=shadowing_message() or _second_topologies(),
    )


def misfits(environment: Environment) -> list[Misfit]:
    """Everything that does not fit; empty where all does."""
    return [*_own_misfits(environment), *_torch_misfits(environment), *_k2_misfits(environment)]


def line_that_adds_k2(environment: Environment) -> str:
    """How to get k2 here, where it is not."""
    if environment.takes_packaged_k2:
        return _packaged_line(environment)
    return f"{_wheel_line(environment)}; or, on CPython 3.10 and Linux x86_64: pip install {_PACKAGED}"


def _own_misfits(environment: Environment) -> list[Misfit]:
    found = []
    if environment.topologies_message:
        message, _, fix = environment.topologies_message.rpartition(": ")
        found.append(Misfit(message, fix))
    if environment.missing:
        names = " ".join(environment.missing)
        found.append(Misfit(f"not installed, and needed: {names}", f"pip install {names}"))
    if environment.numba.error:
        found.append(Misfit(f"numba does not load: {environment.numba.error}", "pip install --upgrade numba"))
    return found


def _torch_misfits(environment: Environment) -> list[Misfit]:
    torch = environment.torch
    if torch.version is None:
        return [Misfit("torch is not installed, and every loss needs it", "pip install torch")]
    found = []
    number = _number(torch.version)
    if number < (1, 13, 1):
        message = f"torch {torch.version} is too old, expected 1.13.1 or newer"
        return [Misfit(message, "pip install --upgrade torch")]
    if torch.error:
        found.append(Misfit(f"torch {torch.version} does not load: {torch.error}", _reinstall("torch", torch.version)))
    if number < (2, 3):
        if environment.numpy.version and _number(environment.numpy.version) >= (2,):
            message = f"numpy {environment.numpy.version} does not fit torch {torch.version}, built for numpy 1"
            found.append(Misfit(message, "pip install 'numpy<2'"))
        if environment.lhotse.version and _number(environment.lhotse.version) > (1, 32, 1):
            message = f"lhotse {environment.lhotse.version} does not fit torch {torch.version}: its samplers fail"
            found.append(Misfit(message, "pip install 'lhotse==1.32.1'"))
    return found


def _k2_misfits(environment: Environment) -> list[Misfit]:
    k2, torch = environment.k2, environment.torch
    if k2.version is None:
        return []
    if (0,) < _number(k2.version) < (1, 23, 4):
        return [Misfit(f"k2 {k2.version} is too old, expected 1.23.4 or newer", line_that_adds_k2(environment))]
    if environment.route == FULL and not environment.takes_packaged_k2:
        message = (
            f"k2 {k2.version} is built for CPython 3.10 on Linux x86_64, "
            f"this is {environment.implementation} {environment.python} on {environment.system}"
        )
        return [Misfit(message, f"pip uninstall -y k2 (works without k2); or {line_that_adds_k2(environment)}")]
    built = environment.k2_torch
    if built and torch.version and _number(built) != _number(torch.version):
        fix = _packaged_line(environment) if environment.route == FULL else f"pip install 'torch=={_base(built)}'"
        if environment.route == OWN:
            fix += f"; or keep torch: {_wheel_line(environment)}"
        return [Misfit(f"k2 {k2.version} was built for torch {built}, installed is torch {torch.version}", fix)]
    if environment.k2_cuda and environment.cuda and _number(environment.k2_cuda)[0] != _number(environment.cuda)[0]:
        message = f"k2 {k2.version} was built for CUDA {environment.k2_cuda}, torch for CUDA {environment.cuda}"
        return [Misfit(message, _wheel_line(environment))]
    if k2.error:
        fix = _packaged_line(environment) if environment.route == FULL else _wheel_line(environment)
        return [Misfit(f"k2 {k2.version} does not load: {k2.error}", fix)]
    return []


def _packaged_line(environment: Environment) -> str:
    # The wheel's name is malformed, and newer pip refuses it.
    old_pip = "pip install 'pip<26.3' && " if environment.pip and _number(environment.pip) >= (26, 3) else ""
    return f"{old_pip}pip install {_PACKAGED}"


def _wheel_line(environment: Environment) -> str:
    """k2's own wheels carry the torch they fit in their names; which date they carry only their page tells."""
    torch = _base(environment.torch.version) if environment.torch.version else "<your torch>"
    build = f"cuda{environment.cuda}" if environment.cuda else "cpu"
    tag = "cp" + "".join(environment.python.split(".")[:2])
    return f"pip install --no-deps k2-1.24*+{build}.torch{torch}-{tag}-{tag}-*.whl (from the k2 project's wheel pages)"


def _reinstall(name: str, version: str) -> str:
    return f"pip install --force-reinstall '{name}=={version}'"


def _probe(name: str) -> dict[str, object]:
    """What a package says about itself, or its ``error``; nothing where it is not installed."""
    if importlib.util.find_spec(name) is None:
        return {}
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); answer = {}\n"
        f"try:\n    {_PROBES[name]}\n"
        "except Exception as e:\n    answer['error'] = f'{type(e).__name__}: {e}'.partition(chr(10))[0][:300]\n"
        "print(); print(json.dumps(answer))"
    )
    command = [sys.executable, "-c", code, json.dumps(sys.path)]
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and code)
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"its import did not end within {_PROBE_TIMEOUT_SECONDS} s"}
    if done.returncode:
        return {"error": f"its import killed the process (exit status {done.returncode})"}
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # Built from source and put on PYTHONPATH, as k2 may be: there, but of no known version.
        return "unknown" if importlib.util.find_spec(name) is not None else None


def _k2_torch_by_name(version: str | None) -> str | None:
    """The torch that a k2 which does not load was built for, from its version or its requirements."""
    if version is None:
        return None
    if local := re.search(r"torch(\d+(?:\.\d+)+)", version):
        return local[1]
    try:
        required = importlib.metadata.requires("k2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    pinned = (re.match(r"torch\s*\(?==\s*([\d.]+)", requirement) for requirement in required)
    return next((match[1] for match in pinned if match), None)


def _second_topologies() -> str | None:
    """Two distributions may hold a package of that name; the later installation wins, file by file."""
    try:
        version = importlib.metadata.version("topologies")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        f"an unrelated distribution topologies {version} is installed beside this one and may overwrite it: "
        "pip uninstall -y topologies; pip install --force-reinstall --no-deps wfst-losses"
    )


def _text(answer: dict[str, object], key: str) -> str | None:
    value = answer.get(key)
    return str(value) if value is not None else None


def _base(version: str) -> str:
    """The version without its build: 2.8.0 of 2.8.0+cu128."""
    return version.partition("+")[0]


def _number(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else (0,)
