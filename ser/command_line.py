"""What every command line of the project has in common."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import tyro

from ser.errors import UserError

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
    named = Counter(word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--"))
    if twice := [word for word, count in named.items() if count > 1]:
        raise UserError(f"{twice[0]} is given twice. Put all its values behind one {twice[0]}.")
    return tyro.cli(options)


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
