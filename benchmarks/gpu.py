"""The GPU path on one GPU, in six minutes: python benchmarks/gpu.py.

Shows that the numbers of a GPU are those of the CPU, what a training step costs against the loop that the field writes,
what sharing a GPU gains, and what happens when memory runs out. Needs torch, torchaudio and NumPy, pandas for the part
``train``, and no network: features, labels and waveforms are made up. ``--device cpu --small`` runs tiny settings
of the parts that need no GPU.

Each part runs in a process of its own, so that an error of CUDA, a crash or a hang costs the others nothing. Results
are written after every row.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benchmarks.gpu_parts import CLASSES, MELS, ON_A_GPU_ONLY, PARTS, Row, Settings
from benchmarks.measure import table
from ser.features.front_ends import FRONT_ENDS
from ser.features.store import FORMAT
from ser.training import Subset, Task

SMALL: Row = {"widths": (0.03125,), "batches": (4,), "frames": 64, "steps": 2, "repeats": 2, "matrix": 256}
SMALL |= {"processes": (1, 2), "seconds": 0.3}


def made_task(folder: Path, settings: Settings) -> Task:
    """Write a feature store of noise in which each class has a louder band, and return its task."""
    frames, utterances = settings.frames * 6 // 5, 96  # longer than a crop
    rng, rows = np.random.default_rng(0), np.arange(utterances)
    labels = rows % CLASSES
    values = rng.normal(-50, 10, (utterances, frames, MELS)).astype("<f4")
    for value, label in zip(values, labels, strict=True):
        value[:, 10 * label : 10 * label + 10] += 20
    values.tofile(folder / "frames.f32")
    np.save(folder / "offsets.npy", np.arange(utterances + 1) * frames)
    np.save(folder / "content.npy", rows.astype("U16"))
    np.save(folder / "levels.npy", np.zeros((utterances, 2), dtype=np.float32))
    files = ("frames.f32", "offsets.npy", "content.npy", "levels.npy")
    sizes = {name: (folder / name).stat().st_size for name in files}
    meta = {"format": FORMAT, "front_end": asdict(FRONT_ENDS["panns_16k"]), "sizes": sizes}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    def subset(rows: Any) -> Subset:
        noisy = np.where(rng.random(len(rows)) < 0.2, rng.integers(0, CLASSES, len(rows)), labels[rows])
        soft = 0.9 * np.eye(CLASSES)[noisy] + 0.1 / CLASSES
        ids, unknown = tuple(f"u{row}" for row in rows), ("unknown",) * len(rows)
        return Subset(rows, ids, noisy, labels[rows], soft, unknown, unknown)

    names = tuple(f"class {number}" for number in range(CLASSES))
    return Task(names, folder, subset(rows[:72]), subset(rows[72:]), {"level": "made up"})


def run_part(name: str, settings: Settings, connection: Any) -> None:
    """Send the rows of a part, and its error if it fails, from a process of its own."""
    if settings.device == "cpu":
        torch.set_num_threads(1)  # tiny networks are slower with more
    try:
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[name][0](settings, made_task(Path(folder), settings)):
                connection.send(row)
    except Exception as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {error}")


def collect(name: str, settings: Settings, limit: float, keep: Callable[[Row], None]) -> Row:
    """Run a part and return its rows, seconds and error; ``keep`` is called with the result so far."""
    context = multiprocessing.get_context(settings.start)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=run_part, args=(name, settings, writer))
    result: Row = {"rows": [], "seconds": 0.0, "error": f"stopped after {limit:.0f} s"}
    began = time.perf_counter()
    process.start()
    writer.close()
    error = None
    try:
        while reader.poll(max(0.0, limit - (time.perf_counter() - began))):
            received = reader.recv()
            print(f"{name}: {received}", file=sys.stderr, flush=True)
            if isinstance(received, str):
                error = received
            else:
                result["rows"].append(received)
                keep(result)
        process.kill()
    except EOFError:  # the part has ended
        process.join()
        result["error"] = error or (f"exit status {process.exitcode}" if process.exitcode else None)
    process.join()
    result["seconds"] = time.perf_counter() - began
    keep(result)
    return result


def as_markdown(results: Mapping[str, Row]) -> str:
    """Return a table of each part."""
    blocks = []
    for name, result in results.items():
        blocks.append(f"**{name}**, {result['seconds']:.0f} s")
        if columns := list(dict.fromkeys(key for row in result["rows"] for key in row)):
            blocks.append(table(columns, [[cell(row.get(key)) for key in columns] for row in result["rows"]]))
        if result["error"]:
            blocks.append(f"Error: {result['error']}")
    return "\n\n".join(blocks) + "\n"


def cell(value: Any) -> str:
    """Return a value as text for a table, without characters that end a cell."""
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").split())


def main(device: str, small: bool, parts: Sequence[str], seconds: float, output: Path) -> None:
    """Run the parts, and write and print their tables.

    Args:
        device: ``cuda`` or ``cpu``.
        small: Use tiny settings.
        parts: Names of ``PARTS``.
        seconds: Time for all of them; parts that would begin later are left out.
        output: Folder for ``gpu.json`` and ``gpu.md``.
    """
    settings = Settings(device, **(SMALL if small else {}))
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Row] = {}
    end = time.perf_counter() + seconds

    def run(name: str) -> None:
        def keep(result: Row) -> None:
            results[name] = result
            content = {"benchmark": "gpu", "settings": asdict(settings), "parts": results}
            (output / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (output / "gpu.md").write_text(as_markdown(results), encoding="utf-8")

        collect(name, settings, min(PARTS[name][1], end - time.perf_counter()), keep)

    run("machine")
    if results["machine"]["error"]:  # CUDA may not work after a fork
        settings = replace(settings, start="spawn")
        run("machine")
    for name in parts:
        if name != "machine" and time.perf_counter() < end and (device == "cuda" or name not in ON_A_GPU_ONLY):
            run(name)
    print((output / "gpu.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny settings, for a test")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to run")
    parser.add_argument("--seconds", type=float, default=360.0, help="time for all parts")
    parser.add_argument("--output", type=Path, default=Path("results/gpu"), help="folder for gpu.json and gpu.md")
    main(**vars(parser.parse_args()))
