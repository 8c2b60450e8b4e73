"""The commands and what their failures mean. What a command needs, it imports when it runs; here is only click."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from wfst_losses import __version__
from wfst_losses.cli.check_manifest_command import check_manifest_command
from wfst_losses.cli.compare_command import compare_command
from wfst_losses.cli.compile_command import compile_command
from wfst_losses.cli.doctor_command import doctor_command
from wfst_losses.cli.draw_command import draw_command
from wfst_losses.cli.inspect_command import inspect_command
from wfst_losses.cli.list_command import list_command
from wfst_losses.cli.memory_command import memory_command
from wfst_losses.cli.output import EXIT_BAD_CALL, EXIT_FAILED, EXIT_TOO_LARGE, FailedJob

_PROGRAM = "wfst-losses"


class _Interrupted(Exception):  # noqa: N818 (no error)
    """The user's Ctrl-C, under a name that click does not answer itself."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    commands=[
        list_command,
        doctor_command,
        inspect_command,
        compile_command,
        compare_command,
        memory_command,
        draw_command,
        check_manifest_command,
    ],
)
@click.version_option(__version__, prog_name=_PROGRAM)
def commands() -> None:
    """Lattice losses for speech recognition: topologies, graphs and what this machine can run.

    Exit status: 0 done, 1 the job failed, 2 a bad call, 3 too large for the memory limit, 130 interrupted.

    \b
    Example:
      wfst-losses compile --topology compact --tokens tokens.txt --output compact.pt
    """


def run(arguments: Sequence[str] | None = None) -> tuple[int, str]:
    """Exit status and message of a command.

    Raises:
        KeyboardInterrupt: when it was interrupted.
    """
    try:
        status = commands.main(arguments, prog_name=_PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (_Interrupted, click.Abort):
        raise KeyboardInterrupt from None
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
        return EXIT_BAD_CALL, error.format_message().rstrip(".") + hint
    except FailedJob as error:
        return EXIT_FAILED, str(error)
    except MemoryError as error:
        return EXIT_TOO_LARGE, str(error) or "out of memory"
    except ValueError as error:
        return EXIT_BAD_CALL, str(error)
    except OSError as error:
        return _failed_by_system(error)
    except Exception as error:  # noqa: BLE001 (a traceback is no message)
        return EXIT_FAILED, f"{type(error).__name__}: {error}"
    return (status if isinstance(status, int) else 0), ""


def _failed_by_system(error: OSError) -> tuple[int, str]:
    if error.filename:
        return EXIT_FAILED, f"{error.filename}: {error.strerror}"
    # Files name themselves: this is stdout, and Python must not try to flush it again at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return EXIT_FAILED, ""
    return EXIT_FAILED, f"the answer cannot be written: {error.strerror or error}"
