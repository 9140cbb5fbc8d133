"""Defines the program `vcorr`: the group of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO, cast

import click

from vcorr.cli.commands import bench_command as bench
from vcorr.cli.commands import board_command as board
from vcorr.cli.commands import compare_command as compare
from vcorr.cli.commands import dataset_command as dataset
from vcorr.cli.commands import doctor_command as doctor
from vcorr.cli.commands import generate_command as generate
from vcorr.cli.commands import list_command as listing
from vcorr.cli.commands import plugin_command as plugin
from vcorr.cli.commands import propagate_command as propagate
from vcorr.cli.commands import run_command as run
from vcorr.cli.commands import score_command as score
from vcorr.cli.commands import study_command as study
from vcorr.cli.commands import summarize_command as summarize
from vcorr.cli.commands import sweep_command as sweep
from vcorr.cli.commands import track_command as track
from vcorr.cli.stopping import stop_in_order
from vcorr.cli.streams import find_output_fault, prepare_streams
from vcorr.cli.views.terminal import Escaped, divert_foreign_output, say
from vcorr.contract.errors import (
    EXIT_INTERRUPTED,
    EXIT_PLUGIN,
    PluginError,
    StoreError,
    UsageError,
    VcorrError,
    missing_package,
)

DEBUG_FLAG = "--debug"
_OF_TRACKERS = "Tracks: "
"""Begins the errors of tracks that a tracker made: the user did not write them."""
_SMALLER = "Read fewer points or frames, or smaller ones."


_HELP_FLAGS = ["-h", "--help"]


@click.group(
    context_settings={"help_option_names": _HELP_FLAGS, "max_content_width": 110},
    epilog="Add --debug to any command for the full traceback of an error.",
)
@click.version_option(package_name="vcorr", prog_name="vcorr")
def cli() -> None:
    """Measure where, when and how well a video model knows which point is which.

    \b
    Start here; it works offline and without a GPU:
      vcorr run --model tiny --probe qk --limit 8
    """


for _command in (
    run.run,
    sweep.sweep,
    track.track,
    propagate.propagate,
    generate.generate,
    summarize.summarize,
    score.score,
    compare.compare,
    dataset.dataset,
    listing.list_,
    listing.show,
    doctor.doctor,
    board.board,
    bench.bench,
    study.study,
    plugin.plugin,
):
    cli.add_command(_command)


def _divert(command: click.Command) -> None:
    """Makes a command and its subcommands send to stderr what plugins print, so that stdout is vcorr's alone."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _divert(inner)
    run_it = command.callback
    if run_it is None or isinstance(command, click.Group):
        return

    @functools.wraps(run_it)
    def run_diverted(*arguments: Any, **options: Any) -> Any:
        with divert_foreign_output():
            return run_it(*arguments, **options)

    command.callback = run_diverted


_divert(cli)


def _name_help_flags(group: click.Group) -> None:
    """Gives every command its own names of the help flag.

    A command takes them from the context of its first use and keeps them. Used once outside the program, as
    in a test, it would print another help from then on.
    """
    for command in group.commands.values():
        command.context_settings.setdefault("help_option_names", _HELP_FLAGS)
        if isinstance(command, click.Group):
            _name_help_flags(command)


_name_help_flags(cli)

COMPLETION = "_VCORR_COMPLETE"
"""Variable with which a shell asks click for its script, or for what completes a line."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program and exits with its code (docs/cli.md)."""
    prepare_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG_FLAG in arguments
    sys.exit(_report_output(_invoke([a for a in arguments if a != DEBUG_FLAG], debug)))


def _report_output(code: int) -> int:
    """Returns the exit code of a command, after an error if its standard output could not be written."""
    fault = find_output_fault()
    # a reader that closed the pipe (vcorr list | head) is no error
    if fault is None or isinstance(fault, BrokenPipeError):
        return code
    _show(StoreError(f"Standard output cannot be written: {fault.strerror}.", hint="Results that a run made are kept."))
    return code or StoreError.exit_code


def _invoke(arguments: list[str], debug: bool) -> int:  # noqa: PLR0911  # one return per way to end
    try:
        with stop_in_order():
            result = cli.main(arguments, prog_name="vcorr", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show(cast("TextIO", Escaped(sys.stderr)))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        stopped = error.__cause__ or error  # click puts an Abort around it
        said = f"Interrupted. {getattr(stopped, 'message', '')}".rstrip()
        Escaped(sys.stderr).write(f"{said}\n")  # needs no rich, whose import may be what was interrupted
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "vcorr").startswith("vcorr"):
            raise  # a module of ours that does not exist is a bug
        return _report_missing(error, debug)
    except SystemExit as error:
        if COMPLETION in os.environ and isinstance(error.code, int):
            return error.code  # click ends a completion like this
        # the program itself never calls sys.exit below this function: a plugin did so outside every call into a part
        said = "A plugin ended the program with sys.exit(). Installed plugins: vcorr list plugins"
        say(said, stderr=True, label="Error:")
        return EXIT_PLUGIN
    except MemoryError as error:
        return _report(UsageError(f"There is not enough memory. {error}".strip(), hint=_SMALLER), debug)
    except VcorrError as error:
        return _report(error, debug)


def _report(error: VcorrError, debug: bool) -> int:
    if debug:
        say(traceback.format_exc(), stderr=True)
    _show(error)
    return error.exit_code


def _report_missing(error: ModuleNotFoundError, debug: bool) -> int:
    """Says which package is missing, without the packages that may be the missing one; returns the exit code."""
    missing = missing_package(error)
    if debug:
        traceback.print_exc()
    click.echo(f"Error: {ascii(missing.message)[1:-1]}\n{missing.hint}", err=True)
    return missing.exit_code


def _show(error: VcorrError) -> None:
    say(error.message, stderr=True, label="Error:")
    is_of_part = isinstance(error, PluginError) or error.message.startswith(_OF_TRACKERS)
    if is_of_part and error.raised_by and error.raised_by not in error.message:
        say(f"It happened in {error.raised_by}.", stderr=True)
    if error.hint:
        say(error.hint, stderr=True)
