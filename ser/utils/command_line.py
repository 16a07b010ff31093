"""Parsing and error handling shared by all command lines."""

from __future__ import annotations

import difflib
import functools
import operator
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ser.utils.errors import UserError, first_line, log_unexpected, unknown_name
from ser.utils.terminal import lasting_terminal

EXIT_MISTAKE = 2
EXIT_UNEXPECTED = 70
EXIT_INTERRUPTED = 130

Options = TypeVar("Options")


class _ParserExit(SystemExit):
    """Exit of the parser; any other comes from code that was not expected to end Python."""


def parse(options: type[Options]) -> Options:
    """Parse the command line into a dataclass.

    Args:
        options: Dataclass with a default and a help text for each option.

    Returns:
        The options.

    Raises:
        UserError: If an option is given twice, where the parser would silently keep the last value.
    """
    chosen: Options = _parse(options, sys.argv[1:])
    return chosen


def parse_commands(commands: Mapping[str, type[Any]], default: str | None = None) -> Any:
    """Parse a command line whose first word names a command: ``python -m ser.corpora fetch ravdess``.

    Args:
        commands: Name → dataclass of the command's options, whose docstring is the help text; at least two.
        default: Command to use if the first word is not a command; None requires a command.

    Returns:
        The options, an instance of the command's dataclass.

    Raises:
        UserError: If an option is given twice, or the command is misspelt.
    """
    words = sys.argv[1:]
    if words and words[0] not in commands and difflib.get_close_matches(words[0], commands, n=1, cutoff=0.8):
        raise unknown_name("command", words[0], commands)
    if default is not None and not {*words[:1]} & {*commands, "-h", "--help"}:
        words = [default, *words]
    kinds = [Annotated[options, tyro.conf.subcommand(name)] for name, options in commands.items()]
    return _parse(functools.reduce(operator.or_, kinds), words)


def _parse(options: Any, words: Sequence[str]) -> Any:
    named = Counter(word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--"))
    if twice := [word for word, count in named.items() if count > 1]:
        raise UserError(f"{twice[0]} is given twice. Put all its values after one {twice[0]}.")
    try:
        return tyro.cli(options, args=words, prog=_program())
    except SystemExit as stop:
        raise _ParserExit(stop.code) from None


def _program() -> str | None:
    """Return how a package is called; None, which stands for the file's name, for a module or a script."""
    script = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if script.name == "__main__.py" and spec is not None else None


def run_command(main: Callable[[], int]) -> int:
    """Run the body of a command line; whatever ends it becomes one message on stderr and an exit code.

    Args:
        main: Function that does the work and returns the exit code.

    Returns:
        The exit code of ``main``; ``EXIT_MISTAKE`` for a ``UserError``, an ``OSError``, or output that could not be
        written; ``EXIT_INTERRUPTED`` for Ctrl-C, SIGTERM or SIGHUP; ``EXIT_UNEXPECTED`` for any other error, whose
        traceback is kept in a file that the message names.

    Raises:
        SystemExit: From the parser of the command line, for ``--help`` or a wrong option.
    """
    with lasting_terminal() as terminal:
        try:
            treat_signals_as_interrupt()
            code = main()
        except UserError as error:
            return _end(EXIT_MISTAKE, f"error: {error}")
        except OSError as error:
            where = f" ({error.filename})" if error.filename is not None else f". Details: {log_unexpected(error)}"
            return _end(EXIT_MISTAKE, f"error: {error.strerror or first_line(error)}{where}")
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends Python's own end without a traceback
            return _end(EXIT_INTERRUPTED, "interrupted")
        except _ParserExit:
            raise
        except BaseException as error:
            return _end(
                EXIT_UNEXPECTED,
                f"error: {unexpected(error)}\nThis is a defect of the project or of code that it was given. "
                f"The traceback: {log_unexpected(error)}",
            )
        if terminal.failure is not None:
            return _end(code or EXIT_MISTAKE, f"error: the output is not complete: {terminal.failure.strerror}")
        return code


def unexpected(error: BaseException) -> str:
    """Return an unexpected error in one line, with its type.

    Example:
        >>> unexpected(KeyError("loss"))
        "KeyError: 'loss'"
    """
    text = first_line(error)
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"


def treat_signals_as_interrupt() -> None:
    """Let SIGTERM, by which Slurm and Kubernetes end a job, and SIGHUP of a closed terminal mean what Ctrl-C means.

    A SIGHUP that is ignored, as under ``nohup``, stays ignored. Does nothing in a thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _end(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code
