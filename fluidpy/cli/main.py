"""The entry point: builds the application, runs it, turns errors into messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from fluidpy.cli.control_characters import without_controls
from fluidpy.errors import FluidpyError, UsageError

if TYPE_CHECKING:
    import typer

FAILED = 1
INTERRUPTED = 130
_OUTPUT_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO)
_ANY_PATH = "Give a path that this user can use."
_PATH_CURES = {
    errno.ENOSPC: "Make room there, or give a path on another disk.",
    errno.EDQUOT: "Make room there, or give a path on another disk.",
    errno.ENAMETOOLONG: "Give a shorter path: a name has at most 255 bytes.",
    errno.EROFS: "Give a path on a file system that can be written.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; never raises for a user's mistake."""
    _open_standard_streams()
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except BrokenPipeError:
        return _reader_went_away()
    except KeyboardInterrupt:
        print("fluidpy: interrupted", file=sys.stderr)
        return INTERRUPTED
    except FluidpyError as error:
        return report(error)
    except OSError as error:
        return report(_refused_by_system(error))
    except Exception as error:  # noqa: BLE001 - the last resort: a message instead of a traceback
        return report(_unexpected(error))


def report(error: FluidpyError) -> int:
    """Prints an error for a person on stderr and returns the exit code it stands for."""
    print(f"fluidpy: {without_controls(error.message)}", file=sys.stderr)
    if error.cure:
        print(f"cure: {without_controls(error.cure)}", file=sys.stderr)
    if os.environ.get("FLUIDPY_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    return error.exit_code


def _run(arguments: list[str]) -> int:
    try:
        import typer
    except ImportError as error:
        raise FluidpyError(
            f"the command line needs a library that is not installed: {error.name}",
            cure="Install the extra: pip install 'fluidpy[cli]'",
        ) from error
    command = typer.main.get_command(_application())
    try:
        outcome = command.main(args=arguments, prog_name=_program(), standalone_mode=False)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            print(error.format_message(), file=sys.stderr)
            return UsageError.exit_code
        raise _usage_error(error, arguments) from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if outcome == INTERRUPTED:  # how typer tells of Ctrl-C
        raise KeyboardInterrupt
    sys.stdout.flush()
    return outcome if isinstance(outcome, int) else 0


def _application() -> typer.Typer:
    from fluidpy.cli.application import build

    return build()


def _program() -> str:
    return "kubectl fluidpy" if "kubectl-fluidpy" in sys.argv[0] else "fluidpy"


def _usage_error(error: typer.TyperException, arguments: Sequence[str]) -> UsageError:
    verb = next((word for word in arguments if not word.startswith("-")), "")
    # A word that is no command has no help of its own.
    command = "" if "No such command" in error.format_message() else f" {verb}".rstrip()
    message = error.format_message().rstrip(".").replace("\n", " ")
    return UsageError(message[:1].lower() + message[1:], cure=f"See {_program()}{command} --help")


def _open_standard_streams() -> None:
    """Opens streams that the caller closed, so that no file of ours is taken for one of them.

    What is printed to a stdout that was closed is an error (EBADF), as for other programs.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _refused_by_system(error: OSError) -> FluidpyError:
    """What the system refused, in its own words; mostly of a path that the user gave."""
    why = error.strerror or str(error)
    if error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        refused = FluidpyError(f"{name}: {why}", cure=_PATH_CURES.get(error.errno or 0, _ANY_PATH))
    elif error.errno in _OUTPUT_FAILURES:
        refused = FluidpyError(
            f"the output cannot be written: {why}", cure="Look at where the output goes."
        )
        _drop_output()
    else:
        return _unexpected(error)
    refused.__cause__ = error
    return refused


def _unexpected(error: Exception) -> FluidpyError:
    wrapped = FluidpyError(
        f"{type(error).__name__}: {error}",
        cure="Not expected: please report it, with what FLUIDPY_DEBUG=1 adds to this message.",
    )
    wrapped.__cause__ = error
    return wrapped


def _reader_went_away() -> int:
    """`fluidpy cat … | head` is no failure to talk about."""
    _drop_output()
    return FAILED


def _drop_output() -> None:
    """What is left to print goes nowhere: Python must not try to write it once more at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def fail(message: str, cure: str = "") -> NoReturn:
    """Ends a command with a message; for failures that no layer below has an error for."""
    raise FluidpyError(message, cure=cure)
