"""Parsing and error handling shared by all command lines."""

from __future__ import annotations

import difflib
import functools
import operator
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ser.utils.errors import UserError, unknown_name

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130

Options = TypeVar("Options")


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
    return tyro.cli(options, args=words, prog=_program())


def _program() -> str | None:
    """Return how a package is called; None, which stands for the file's name, for a module or a script."""
    script = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if script.name == "__main__.py" and spec is not None else None


def run_command(main: Callable[[], int]) -> int:
    """Run the body of a command line; print a ``UserError`` or an ``OSError`` as one message on stderr.

    Args:
        main: Function that does the work and returns the exit code.

    Returns:
        The exit code of ``main``; 2 for a ``UserError`` or an ``OSError``; 130 for an interrupt.
    """
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
