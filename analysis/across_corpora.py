"""Show the trainings of one corpus on others: python analysis/across_corpora.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from analysis.common.command import section_command
from ser.utils.command_line import run_command

main = section_command("across_corpora")

if __name__ == "__main__":
    sys.exit(run_command(main))
