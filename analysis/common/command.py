"""The command line that all sections share."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib

from analysis.common.records import open_records
from analysis.common.registry import load_section
from analysis.common.section import about, publish
from ser.utils.command_line import parse
from study.console import make_console


def section_command(name: str) -> Callable[[], int]:
    """Return the command that prints a section and writes its files.

    Args:
        name: A key of ``analysis.common.registry.SECTIONS``.

    Returns:
        A function that reads ``sys.argv`` and returns the exit code.
    """

    def main() -> int:
        module = load_section(name)
        options = parse(module.Options)
        matplotlib.use("agg")
        records = open_records(options)
        section = about(module.section(records, options), records.data, records.remarks(f"analysis/{name}.py"))
        publish(section, options.output, make_console())
        return 0

    return main
