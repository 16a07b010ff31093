"""Open a study's records in MLflow's UI: python study/ui.py --experiment EXPERIMENT."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import run_command


def main() -> int:
    """Start the UI where none runs, and print the links; return the exit code."""
    from study.commands.ui import main as command  # takes seconds, in which Ctrl-C is a message too

    return command()


if __name__ == "__main__":
    sys.exit(run_command(main))
