"""What every command line of the project has in common."""

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
    """Reads the command line into a dataclass.

    Args:
        options: A dataclass with a default and a sentence for each option.

    Raises:
        UserError: An option named twice, of which a parser would silently keep the last.
    """
    chosen: Options = _parse(options, sys.argv[1:])
    return chosen


def parse_commands(commands: Mapping[str, type[Any]], default: str | None = None) -> Any:
    """Reads a command line whose first word names a command: ``python -m ser.corpora fetch ravdess``.

    Args:
        commands: Name → the dataclass of its options, whose docstring tells what it does; two at least.
        default: The command that is meant where the first word names none; None where one must be named.

    Returns:
        The options of the command that was given; their class tells which it is.

    Raises:
        UserError: An option named twice, or a command misspelt.
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
        raise UserError(f"{twice[0]} is given twice. Put all its values behind one {twice[0]}.")
    return tyro.cli(options, args=words, prog=_program())


def _program() -> str | None:
    """How a package is called; None, which takes the file's name, for a module or a script."""
    script = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent}" if script.name == "__main__.py" and spec is not None else None


def run_command(main: Callable[[], int]) -> int:
    """Runs the body of a command line; a mistake or a fault of the machine's files becomes one message on stderr.

    Args:
        main: Does the work and returns the exit code.

    Returns:
        The exit code: ``main``'s; 2 for a ``UserError`` or an ``OSError``; 130 for an interrupt that ``main`` let
        through.
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
