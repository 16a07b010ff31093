"""Show which hyper-parameters mattered: python analysis/importance.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from analysis.sections.importance.section import main
from ser.utils.command_line import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
