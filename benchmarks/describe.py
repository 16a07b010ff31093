"""Measure the cost of describing a corpus: python benchmarks/describe.py ravdess --root PATH.

Runs ``python -m ser.corpora describe`` several times, each in its own process, and prints the medians of wall
time, processor time and peak memory. A process that imports the command and does nothing is the baseline.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro

# This process imports nothing large, because on Linux a child's peak memory starts at its parent's.
ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def run_once(arguments: list[str]) -> tuple[float, float, float]:
    """Run Python; return wall seconds, processor seconds and peak memory in MiB."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        # Like resource.getrusage(RUSAGE_CHILDREN), but for this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.exit(output.read().decode(errors="replace"))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAXRSS_UNIT / MIB


def main(name: Annotated[str, tyro.conf.Positional], root: Path | None = None, repeats: int = 5) -> None:
    """Print the table.

    Args:
        name: Name of a corpus without faults in its audio.
        root: Folder of the corpus.
        repeats: Number of runs of each variant.
    """
    command = ["-m", "ser.corpora", "describe", name]
    command += [] if root is None else ["--root", str(root.absolute())]
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            "import alone": ["-c", "import ser.corpora.__main__"],
            "describe": command,
            "describe --output": [*command, "--output", folder],
        }
        runs = {variant: [run_once(arguments)] for variant, arguments in variants.items()}
        for _ in range(repeats - 1):
            for variant, arguments in variants.items():
                runs[variant].append(run_once(arguments))
        size = json.loads((Path(folder) / "describe.json").read_text(encoding="utf-8"))["size"]
    hours, cores = size["hours"], len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.machine()}, {cores} CPUs, Python {platform.python_version()}; medians of {repeats} runs")
    print(f"{name}: {size['utterances']} utterances, {hours:.2f} h")
    print(f"{'':<20}{'wall s':>9}{'min':>8}{'max':>8}{'CPU s':>8}{'peak MiB':>10}")
    middle = {}
    for variant, values in runs.items():
        walls, seconds, peaks = zip(*values, strict=True)
        middle[variant] = median(walls), median(seconds), median(peaks)
        wall, processor, peak = middle[variant]
        print(f"{variant:<20}{wall:>9.2f}{min(walls):>8.2f}{max(walls):>8.2f}{processor:>8.2f}{peak:>10.0f}")
    wall, processor, peak = (of - alone for of, alone in zip(middle["describe"], middle["import alone"], strict=True))
    print(f"beyond the import: {wall:.2f} s, {processor:.2f} CPU s, {peak:.0f} MiB")
    print(f"hours of audio a second: {hours / wall:.2f}; a CPU second: {hours / processor:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
