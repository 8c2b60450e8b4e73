"""What all commands share: exit statuses, answers on stdout, progress on stderr, sizes as arguments."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

EXIT_FAILED = 1
EXIT_BAD_CALL = 2
EXIT_TOO_LARGE = 3

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

json_option = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")


class FailedJob(Exception):  # noqa: N818 (read: this job failed)
    """The call was good, the job was not: exit status 1."""


class ByteSize(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer click
    """A number of bytes: 8GiB, 500MB, 2g, 1048576; units are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is no size, expected a number of bytes such as 8GiB or 500MB", param, ctx)
        number = int(float(match[1]) * 1024 ** _UNITS[match[2]])
        if number < 1:
            self.fail(f"{value!r} is less than a byte, expected 1 or more", param, ctx)
        return number


class NewPath(click.Path):
    """What a command is to write, a file or, with ``is_folder``, a folder: the folder around it is there."""

    def __init__(self, *, is_folder: bool = False) -> None:
        super().__init__(dir_okay=is_folder, file_okay=not is_folder, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        # Path("") is the folder that the command runs in.
        if not str(value):
            self.fail(f"{value!r} is no name, expected one", param, ctx)
        path = Path(str(super().convert(value, param, ctx)))
        if self.file_okay and not path.parent.is_dir():
            self.fail(f"{path}: there is no folder {path.parent}", param, ctx)
        return path


def refuse_overwriting(*beside: Path) -> None:
    """The running command writes over none of the files that it reads, nor twice over one.

    Args:
        beside: files that it writes and no option names.

    Raises:
        click.UsageError: if it would.
    """
    context = click.get_current_context()
    given = [(param, context.params.get(str(param.name))) for param in context.command.params]
    paths = [(param, value) for param, value in given if isinstance(value, Path)]
    read = [(_option(param), path) for param, path in paths if not isinstance(param.type, NewPath)]
    written = [(f"{_option(param)} {path}", path) for param, path in paths if isinstance(param.type, NewPath)]
    written += [(f"{path}, which is written beside --output,", path) for path in beside]
    for index, (what, path) in enumerate(written):
        names = [option for option, source in read if path.exists() and path.samefile(source)]
        names += [other for other, earlier in written[:index] if earlier.resolve() == path.resolve()]
        if names:
            raise click.UsageError(f"{what} is the file of {names[0]} too, expected another file", context)


def _option(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


max_memory_option = click.option(
    "--max-memory", type=ByteSize(), default="8GiB", show_default=True, help="Refuse work predicted to take more."
)


def print_json(answer: object) -> None:
    """The answer as one JSON object."""
    click.echo(json.dumps(answer, indent=2))


def print_table(rows: Sequence[Sequence[str]], *, heading: str = "") -> None:
    """Rows in columns as wide as they need: nothing is cut, so that lines can be copied."""
    if heading:
        click.secho(heading, bold=True)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join(["", *cells, row[-1]]).rstrip())


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, or where ``total`` is unknown a sign of life; nothing where stderr is no terminal.

    Yields what is to be called with each advance.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns += [TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda advance: bar.advance(task, advance)
