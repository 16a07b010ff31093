"""The installed command ``ambivalent``: one name for every command of the project."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable

from ambivalent_ser import __version__
from ser.utils.command_names import COMMANDS

SHORT_FORMS = {"fetch": ("corpora", "fetch")}
"""Commands that stand for another one and its first words."""

SUMMARIES = {name: command.summary for name, command in COMMANDS.items()} | {
    "fetch": "download a corpus that is free to download"
}


def main() -> int:
    """Run the command that the first argument names.

    Returns:
        Its exit code; 2 if no command has this name.
    """
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"ambivalent {__version__}")
        return 0
    if words[0] not in SUMMARIES:
        near = difflib.get_close_matches(words[0], SUMMARIES, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        print(f"error: unknown command {words[0]!r}. {hint}ambivalent --help lists the commands.", file=sys.stderr)
        return 2
    name, *first = SHORT_FORMS.get(words[0], (words[0],))
    sys.argv = [f"ambivalent {name}", *first, *words[1:]]

    from ser.utils.command_line import run_command  # imports the parser of options, which --help does not need

    return run_command(lambda: load_main(name)())


def overview() -> str:
    """Return the text of ``ambivalent --help``: each command with one line."""
    width = max(map(len, SUMMARIES))
    return "\n".join(
        [
            "usage: ambivalent COMMAND [OPTIONS]",
            "",
            "Which loss should a speech emotion recogniser be trained with when labels are noisy?",
            "",
            *(f"  {name:<{width}}  {summary}" for name, summary in SUMMARIES.items()),
            "",
            "Options of a command: ambivalent COMMAND --help. A first study: ambivalent study --space proselflc",
        ]
    )


def load_main(name: str) -> Callable[[], int]:
    """Import one command's module.

    Args:
        name: A key of ``COMMANDS``.

    Returns:
        The module's ``main``, which reads ``sys.argv`` and returns the exit code.
    """
    module = importlib.import_module(COMMANDS[name].script.removesuffix(".py").replace("/", "."))
    if hasattr(module, "__path__"):  # a package, which ``python -m`` runs by its __main__
        module = importlib.import_module(f"{module.__name__}.__main__")
    body: Callable[[], int] = module.main
    return body


if __name__ == "__main__":
    sys.exit(main())
