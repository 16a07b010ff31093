"""Project the embeddings of the best networks: python analysis/embeddings.py."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # import from the repository's root, not from this folder

from ser.utils.command_line import run_command


def main() -> int:
    """Print the section and write its files; return the exit code."""
    from analysis.common.command import run_section  # takes seconds, in which Ctrl-C is a message too

    return run_section("embeddings")


if __name__ == "__main__":
    sys.exit(run_command(main))
