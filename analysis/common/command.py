"""The command line that all sections share, and the line that shows how far a long command is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from analysis.options import OPTIONS
from ser.utils.command_line import parse
from ser.utils.printing import make_console

Item = TypeVar("Item")


class Steps:
    """Steps of a command as they begin: one line in a terminal that is replaced, and a line each in a file or a pipe.

    They are written to stderr. Use it as a context, at whose end the line in the terminal is removed.

    Args:
        total: Number of steps.
    """

    def __init__(self, total: int) -> None:
        self._total, self._begun, self._start = total, 0, time.monotonic()
        self._console = make_console(stderr=True)
        words = TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        )
        self._line = Progress(
            words, MofNCompleteColumn(), TimeElapsedColumn(), console=self._console, transient=True, expand=True,
            refresh_per_second=4, disable=not self._console.is_interactive,
        )  # fmt: skip
        self._task = self._line.add_task("", total=total)

    def __enter__(self) -> Steps:
        self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.stop()

    def begin(self, name: str) -> None:
        """Show a step that begins now.

        Args:
            name: What is done, in a few words.
        """
        self._begun += 1
        self._line.update(self._task, description=name, completed=self._begun)
        if self._line.disable:
            seconds = time.monotonic() - self._start
            line = f"{self._begun} of {self._total}, {seconds:.0f} s: {name}"
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def over(self, items: Iterable[Item], name: Callable[[Item], str]) -> Iterator[Item]:
        """Yield items, each of which is a step.

        Args:
            items: The items.
            name: Item → name of its step.
        """
        for item in items:
            self.begin(name(item))
            yield item


def run_section(name: str) -> int:
    """Print a section and write its files, with the options of ``sys.argv``; return the exit code.

    Args:
        name: A key of ``analysis.options.OPTIONS``.
    """
    options = parse(OPTIONS[name])
    # Only now, because --help needs none of it.
    import matplotlib

    from analysis.common.records import open_records
    from analysis.common.registry import load_section
    from analysis.common.section import about, publish

    module = load_section(name)
    matplotlib.use("agg")
    records = open_records(options)
    section = about(module.section(records, options), records.data, records.remarks(f"analysis/{name}.py"))
    publish(section, options.output, make_console())
    return 0
