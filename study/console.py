"""The terminal: how the commands print."""

from __future__ import annotations

from rich.console import Console

PIPE_WIDTH = 120


def make_console() -> Console:
    """Return a console for tables; a file or a pipe, which has no width of its own, gets one that holds them."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def say(console: Console, text: str) -> None:
    """Print text as it is: no highlighting, no markup, no line breaks of the console's own."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)
