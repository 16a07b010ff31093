"""Label audio files with the network of an MLflow run: python study/predict.py --run RUN_ID FILES."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import run_command


def main() -> int:
    """Label the recordings; return the exit code."""
    from study.commands.predict import main as command  # takes seconds, in which Ctrl-C is a message too

    return command()


if __name__ == "__main__":
    sys.exit(run_command(main))
