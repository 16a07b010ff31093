"""Write the speech encoder of an MLflow run as a Hugging Face folder: python study/export.py --run RUN_ID."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import run_command


def main() -> int:
    """Export the encoder; return the exit code."""
    from study.commands.export import main as command  # takes seconds, in which Ctrl-C is a message too

    return command()


if __name__ == "__main__":
    sys.exit(run_command(main))
