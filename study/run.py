"""Run a study: python study/run.py --space proselflc."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import parse, run_command


def main() -> int:
    """Run the study; return the exit code."""
    from study.options import StudyOptions, instead_of_unknown  # takes seconds, in which Ctrl-C is a message too

    options = parse(StudyOptions, instead_of_unknown())
    from study.commands.run import main as command  # Ray and MLflow, which --help does not need

    return command(options)


if __name__ == "__main__":
    sys.exit(run_command(main))
