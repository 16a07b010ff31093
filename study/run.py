"""Run a study: python study/run.py --space proselflc."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import run_command
from study.commands.run import main

if __name__ == "__main__":
    sys.exit(run_command(main))
