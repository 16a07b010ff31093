"""Parsing and error handling shared by all command lines."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import operator
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ser.utils.command_help import Option, command_help, commands_help, options_of
from ser.utils.errors import UserError, first_line, log_unexpected, shown, unknown_name
from ser.utils.printing import make_console, wrapped
from ser.utils.terminal import lasting_terminal

EXIT_MISTAKE = 2
EXIT_UNEXPECTED = 70
EXIT_INTERRUPTED = 130

Options = TypeVar("Options")


HELP = {"-h", "--help"}


class _ParserExit(SystemExit):
    """Exit of the parser; any other comes from code that was not expected to end Python."""


def parse(options: type[Options], instead: Mapping[str, str] | None = None) -> Options:
    """Parse the command line into a dataclass.

    Args:
        options: Dataclass with a default and a help text for each option.
        instead: What to write in place of options that the command does not have, by their names; the value follows.

    Returns:
        The options.

    Raises:
        UserError: If an option is unknown, misses its value, has a wrong one, or is given twice, where the parser would
            silently keep the last value.
    """
    words = sys.argv[1:]
    if HELP & {*words}:
        _end_with_help(command_help(_program(), options, _width()))
    _check(options_of(options), words, instead or {})
    chosen: Options = _parse(options, words)
    return chosen


def parse_commands(commands: Mapping[str, type[Any]], default: str | None = None) -> Any:
    """Parse a command line whose first word names a command: ``python -m ser.corpora fetch ravdess``.

    Args:
        commands: Name → dataclass of the command's options, whose docstring is the help text; at least two.
        default: Command to use if the first word is not a command; None requires a command.

    Returns:
        The options, an instance of the command's dataclass.

    Raises:
        UserError: As for ``parse``, or if the command is missing or misspelt.
    """
    words = sys.argv[1:]
    if words and words[0] not in commands and difflib.get_close_matches(words[0], commands, n=1, cutoff=0.8):
        raise unknown_name("command", words[0], commands)
    if HELP & {*words}:
        if words[0] in commands:
            _end_with_help(command_help(f"{_program()} {words[0]}", commands[words[0]], _width()))
        _end_with_help(commands_help(_program(), commands, default, _width()))
    if default is not None and not {*words[:1]} & {*commands}:
        words = [default, *words]
    if not words or words[0] not in commands:
        raise UserError(f"a command is needed: {' or '.join(commands)}. {_program()} --help describes them.")
    _check(options_of(commands[words[0]]), words[1:], {})
    kinds = [Annotated[options, tyro.conf.subcommand(name)] for name, options in commands.items()]
    return _parse(functools.reduce(operator.or_, kinds), words)


def _width() -> int:
    return make_console().width


def _end_with_help(text: str) -> None:
    print(text)
    raise _ParserExit(0)


def _check(options: Sequence[Option], words: Sequence[str], instead: Mapping[str, str]) -> None:
    """Raise for the first option that is unknown, given twice, missing or has a wrong value."""
    flags = {flag: option for option in options for flag in option.flags}
    given = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    if unknown := [name for name in given if name not in flags]:
        raise UserError(_unknown(unknown[0], words, flags, instead))
    if twice := [name for name, count in Counter(given).items() if count > 1]:
        raise UserError(f"{twice[0]} is given twice. Put all its values after one {twice[0]}.")
    for name in given:
        if problem := flags[name].problem(_value(name, words)):
            raise UserError(f"{name} {problem}")
    for option in options:
        if option.required and option.is_named and not {*option.flags} & {*given}:
            raise UserError(f"{option.flags[-1]} is missing: {option.about}")


def _value(name: str, words: Sequence[str]) -> str:
    """Return the first value of an option that is given; empty if there is none."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option.replace("_", "-") == name:
            return value if equals else "" if after.startswith("--") else after
    return ""


def _unknown(name: str, words: Sequence[str], flags: Mapping[str, Option], instead: Mapping[str, str]) -> str:
    """Return the message on an option that a command does not have."""
    key = name.removeprefix("--")
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
    if key in instead:
        hint = f"Write {instead[key]}{_value(name, words) or 'VALUE'}"
    elif near:
        hint = f"Did you mean {near[0]}?"
    elif others := difflib.get_close_matches(key, instead, n=1, cutoff=0.75):
        hint = f"Did you mean {instead[others[0]]}{_value(name, words) or 'VALUE'}"
    else:
        hint = f"{_program()} --help lists the options."
    return f"unknown option {name}. {hint}"


def _parse(options: Any, words: Sequence[str]) -> Any:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(options, args=words, prog=_program())
    except SystemExit as stop:
        if not stop.code:
            raise _ParserExit(stop.code) from None
    # The parser's message is a box: a title, what is wrong, and help texts.
    lines = [line.strip(" │|+-─╭╮") for line in said.getvalue().splitlines()]
    text = " ".join([line for line in lines if line][1:])
    for beginning in ("Got errors:", "Argument helptext:", "For full helptext"):
        text = text.partition(beginning)[0].rstrip(" .")
    raise UserError(f"{text or shown(' '.join(words))}. {_program()} --help lists the options.")


def _program() -> str:
    """Return how the command was called: ``python study/run.py``, ``python -m ser.train`` or ``ambivalent study``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = sys.argv[0]
    if script.startswith("ambivalent "):
        return script
    if spec is not None and spec.name != "ambivalent_ser.__main__" and script.endswith(".py"):
        return f"python -m {spec.parent if Path(script).name == '__main__.py' else spec.name}"
    return f"python {script}" if script.endswith(".py") else script


def run_command(main: Callable[[], int]) -> int:
    """Run the body of a command line; whatever ends it becomes one message on stderr and an exit code.

    Args:
        main: Function that does the work and returns the exit code.

    Returns:
        The exit code of ``main``; ``EXIT_MISTAKE`` for a ``UserError``, an ``OSError``, or output that could not be
        written; ``EXIT_INTERRUPTED`` for Ctrl-C, SIGTERM or SIGHUP; ``EXIT_UNEXPECTED`` for any other error, whose
        traceback is kept in a file that the message names.

    Raises:
        SystemExit: From the parser of the command line, for ``--help``.
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
    print(wrapped(message, make_console(stderr=True).width) if sys.stderr.isatty() else message, file=sys.stderr)
    return code
