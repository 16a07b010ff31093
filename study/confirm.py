"""Confirm what a search has found: python study/confirm.py --experiment ravdess."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import parse, run_command


def main() -> int:
    """Run the confirmation; return the exit code."""
    from study.options import ConfirmOptions, instead_of_unknown  # takes seconds, in which Ctrl-C is a message too

    options = parse(ConfirmOptions, instead_of_unknown())
    from study.commands.confirm import main as command  # Ray and MLflow, which --help does not need

    return command(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
