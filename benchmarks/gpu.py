"""The GPU path on one GPU, in eight minutes: python benchmarks/gpu.py.

Shows that the numbers of a GPU are those of the CPU, that no training step waits for it, how fast steps are against the
loop that the field writes and against what the memory allows, what sharing a GPU gains, whether two runs are equal, and
what happens when memory runs out. Needs torch, torchaudio and NumPy, and no network: features, labels and waveforms are
made up. ``--small`` is a first look in a minute. ``--device cpu`` tests the script itself with tiny settings.

Each part runs in a process of its own with a limit of time, so that an error of CUDA, a crash or a hang costs the
others nothing. The most important parts come first, and results are written after every row, so a run that is cut short
has answers too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

if not __package__:
    # Run as a script: imports begin at the repository's root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.gpu_parts.common import Row, Settings, made_task, make_settings
from benchmarks.gpu_parts.device_step import capture_check, compiled
from benchmarks.gpu_parts.memory import memory, store
from benchmarks.gpu_parts.report import as_markdown
from benchmarks.gpu_parts.same_numbers import equality, numbers, whole_training
from benchmarks.gpu_parts.sharing import mps_daemon, sharing
from benchmarks.gpu_parts.steps import describe_machine, field_speed, first_speed, own_speed
from benchmarks.gpu_parts.waits import waits
from ser.training import Task

PARTS: dict[str, tuple[Callable[[Settings, Task], Iterator[Row]], float]] = {
    "machine": (describe_machine, 60),
    "numbers": (numbers, 60),
    "waits": (waits, 60),
    "first speed": (first_speed, 60),
    "sharing": (sharing, 75),
    "sharing, MPS": (sharing, 75),
    "capture": (capture_check, 60),
    "equality": (equality, 60),
    "memory": (memory, 30),
    "train": (whole_training, 45),
    "store": (store, 45),
    "field speed": (field_speed, 60),
    "own speed": (own_speed, 75),
    "compiled": (compiled, 180),
}
"""Name → function, and the seconds after which it is stopped. The most important parts come first."""

SHORTEST = 5.0
"""Seconds without which a part is not begun."""


def run_part(name: str, settings: Settings, connection: Any) -> None:
    """Send the rows of a part, and its error if it fails, from a process of its own."""
    os.setsid()  # so that the processes that it starts end with it
    if settings.device == "cpu":
        torch.set_num_threads(1)  # tiny networks are slower with more
    try:
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):  # compilation is timed from the beginning
                os.environ[cache] = str(Path(folder) / cache)
            store = Path(folder) / "store"
            store.mkdir()
            for row in PARTS[name][0](settings, made_task(store, settings.frames * 6 // 5)):
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
    except EOFError:  # the part has ended
        process.join(SHORTEST)
        result["error"] = error or (f"exit status {process.exitcode}" if process.exitcode else None)
    finally:
        with suppress(ProcessLookupError):  # nothing of the part is left
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    result["seconds"] = time.perf_counter() - began
    keep(result)
    return result


def write(path: Path, text: str) -> None:
    """Replace a file, so that it is whole whenever the script is stopped."""
    path.with_name(f"{path.name}.writing").write_text(text, encoding="utf-8")
    path.with_name(f"{path.name}.writing").replace(path)


def end_with(reason: str) -> NoReturn:
    """End because there is no GPU to measure."""
    print(f"error: {reason} Run it on a machine with a GPU, or with --device cpu.", file=sys.stderr)
    sys.exit(2)


def main(device: str, small: bool, parts: Sequence[str], seconds: float | None, output: Path) -> None:
    """Run the parts, and write and print their tables.

    Args:
        device: ``cuda``, or ``cpu`` with tiny settings.
        small: Use small settings on a GPU.
        parts: Names of ``PARTS``.
        seconds: Time for all of them; parts that would begin later are left out. None is 480, or 60 with ``small``.
        output: Folder for ``gpu.json`` and ``gpu.md``.
    """
    if device == "cuda" and not torch.backends.cuda.is_built():  # is_available would break CUDA after a fork
        end_with("this torch is built for CPUs alone.")
    end = time.perf_counter() + (seconds or (60.0 if small else 480.0))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped"))  # ends parts and the MPS daemon
    settings = make_settings(device, small)
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Row] = {}
    left_out: list[str] = []

    def keep_all() -> None:
        content = {"benchmark": "gpu", "settings": asdict(settings), "parts": results, "left_out": left_out}
        write(output / "gpu.json", json.dumps(content, indent=1) + "\n")
        write(output / "gpu.md", as_markdown(results, left_out))

    def run(name: str) -> None:
        def keep(result: Row) -> None:
            results[name] = result
            keep_all()

        with mps_daemon() if name == "sharing, MPS" else nullcontext((None, "")) as (pipes, reason):
            limit = min(PARTS[name][1], end - time.perf_counter())
            if reason:
                keep({"rows": [{"skipped": reason}], "seconds": 0.0, "error": None})
            else:
                collect(name, replace(settings, pipes=pipes), limit, keep)

    run("machine")
    if results["machine"]["error"] and settings.start == "fork":  # CUDA may not work after a fork
        settings = replace(settings, start="spawn")
        run("machine")
    if error := results["machine"]["error"]:
        end_with(f"{device} cannot be used here: {error}.")
    for name in parts:
        if end - time.perf_counter() < SHORTEST:
            left_out.append(name)
        elif name != "machine":
            run(name)
    keep_all()
    print((output / "gpu.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a first look in a minute")
    parser.add_argument(
        "--parts",
        nargs="+",
        metavar="PART",
        choices=tuple(PARTS),
        default=tuple(PARTS),
        help=f"parts to run: {'; '.join(PARTS)}",
    )
    parser.add_argument("--seconds", type=float, help="time for all parts: 480, or 60 with --small")
    parser.add_argument("--output", type=Path, default=Path("results/gpu"), help="folder for gpu.json and gpu.md")
    given = parser.parse_args()
    if given.seconds is not None and not given.seconds >= SHORTEST:
        parser.error(f"--seconds is {given.seconds:g}; at least {SHORTEST:g} are needed")
    main(**vars(given))
