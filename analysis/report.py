"""Write the whole answer as one page: python analysis/report.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from analysis.options import ReportOptions
from ser.utils.command_line import parse, run_command


def main() -> int:
    """Write the report; return the exit code."""
    options = parse(ReportOptions)
    from analysis.page.build import main as command  # takes seconds, in which Ctrl-C is a message too

    return command(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
