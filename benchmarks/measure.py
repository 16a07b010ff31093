"""Functions shared by all benchmarks: measuring in rounds, medians with quartiles, ratios, tables, JSON and figures."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("torch", "torchaudio", "numpy", "ray", "optuna", "mlflow", "pandas", "librosa")
OUTPUT = Path("results/benchmarks")

Measurement = Mapping[str, float]


@dataclass
class Results:
    """Measurements of a benchmark.

    Args:
        name: Name of the benchmark and of its files.
        about: Sizes, data and options of the run, for the heading and the JSON file.
        rounds: Measurements of each variant, one per round.
    """

    name: str
    about: Mapping[str, Any]
    rounds: dict[str, list[Measurement]] = field(default_factory=dict)

    def run(self, variants: Mapping[str, Callable[[], Measurement]], repeats: int) -> None:
        """Measure all variants in turn, in several rounds, so that disturbances of the machine affect all of them.

        Args:
            variants: Function of each variant that measures it once.
            repeats: Number of rounds.
        """
        for number in range(1, repeats + 1):
            for name, measure in variants.items():
                found = measure()
                self.rounds.setdefault(name, []).append(found)
                values = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
                print(f"round {number} of {repeats}, {name}: {values}", file=sys.stderr, flush=True)

    def values(self, variant: str, key: str) -> list[float]:
        """Return one quantity of a variant by round; empty if the variant does not have it."""
        return [found[key] for found in self.rounds[variant] if key in found]

    def quartiles(self, variant: str, key: str) -> tuple[float, float, float]:
        """Return lower quartile, median and upper quartile over the rounds."""
        lower, middle, upper = np.quantile(self.values(variant, key), [0.25, 0.5, 0.75])
        return float(lower), float(middle), float(upper)

    def median(self, variant: str, key: str) -> float:
        """Return the median over the rounds."""
        return self.quartiles(variant, key)[1]

    def ratio(self, variant: str, to: str, key: str) -> float:
        """Return the median over the rounds of a variant's quantity divided by another variant's in the same round."""
        pairs = zip(self.values(variant, key), self.values(to, key), strict=True)
        return float(np.median([one / other for one, other in pairs]))

    def cell(self, variant: str, key: str, digits: int = 3) -> str:
        """Return ``median (lower–upper)`` for a table, or a dash."""
        if not self.values(variant, key):
            return "–"
        lower, middle, upper = (f"{value:.{digits}g}" for value in self.quartiles(variant, key))
        return f"{middle} ({lower}–{upper})"

    def save(self, folder: Path) -> Path:
        """Write everything as JSON, with the command, the machine and the versions.

        Args:
            folder: Folder of the file; created if missing.

        Returns:
            Path of the file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        script = Path(sys.argv[0]).name
        content = {
            "benchmark": self.name,
            "command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
            "machine": machine(),
            "about": self.about,
            "rounds": self.rounds,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    def draw(self, folder: Path, key: str, label: str, variants: Sequence[str] | None = None) -> Path:
        """Draw one quantity of the variants as bars with quartiles.

        Args:
            folder: Folder of the file; created if missing.
            key: Name of the quantity.
            label: Label of the axis, with the unit.
            variants: Variants to draw, from the top; None draws all.

        Returns:
            Path of the file.
        """
        from matplotlib.figure import Figure  # slow to import, and workers draw nothing

        names = [name for name in variants or self.rounds if self.values(name, key)]
        figure = Figure(figsize=(8, 0.8 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        lower, middle, upper = np.array([self.quartiles(name, key) for name in names]).T
        axes.barh(names, middle, xerr=[middle - lower, upper - middle], color="#4477aa", ecolor="#222222", capsize=2)
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.png"
        figure.savefig(path, dpi=130)
        return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, str]:
    """Return processor, cores, memory, GPU and versions for the heading of a table."""
    found = {"processor": _processor(), "cores": str(len(os.sched_getaffinity(0)))}
    found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    import torch

    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def heading(about: Mapping[str, Any]) -> str:
    """Return two lines: the machine, and the settings of the run."""
    return "\n".join(", ".join(f"{key} {value}" for key, value in part.items()) for part in (machine(), about))


def run_worker(script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run a worker of a benchmark in its own process.

    Args:
        script: ``__file__`` of the benchmark; it is called with ``--worker`` and the arguments.
        arguments: Arguments of the worker.
        environment: Environment variables in addition to those of this process.

    Returns:
        Content of the last line that the worker prints, read as JSON.
    """
    command = [sys.executable, script, "--worker", *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory_mb(process: int | str = "self", field: str = "VmHWM") -> float:
    """Return the memory of a process; unlike ``getrusage``, it does not start at that of the parent process.

    Args:
        process: Process id.
        field: ``VmHWM``, the peak, or ``VmRSS``, the current value.

    Returns:
        Megabytes; 0 if the process has ended or the system does not report it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:")), 0.0)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = {feature for line in lines if line.startswith("flags") for feature in line.split()}
    instructions = [name for name in ("amx_bf16", "avx512_bf16") if name in features]
    return " ".join([names[0] if names else platform.machine(), *instructions])
