"""Measure what a study loses under faults: python benchmarks/faults.py.

Runs a small study undisturbed, then several times while its processes are killed, its tracking server is down, its
disk is full, its newest checkpoint is torn or its clock jumps, and compares the records in MLflow point by point with
those of the undisturbed study. Nodes are killed in Ray clusters of several nodes on this machine. Linux only; the full
disk needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from study.trial.checkpoints import checkpoints
from tests.helpers.faulty_study import EPOCHS, TRIALS, FaultyStudy, Histories, Server, SmallDisk, kill
from tests.helpers.ray_nodes import ENVIRONMENT, Cluster, can_sever, wait_until

CLOCK = """
import sys, time
if sys.argv[0].endswith("run.py") or "default_worker" in sys.argv[0]:
    _real, _began = time.time, time.monotonic()
    time.time = lambda: _real() - (3600.0 if time.monotonic() - _began > {after} else 0.0)
"""

Row = dict[str, Any]


def row(fault: str, times: int, study: FaultyStudy, reference: Histories, recovery: list[float]) -> Row:
    """Return the row of a fault: the study's records compared with those of the undisturbed study."""
    found = study.histories()
    points = [point for history in found.values() for point in history]
    expected = {(number, step, value) for number, history in reference.items() for step, value in history}
    got = [(number, step, value) for number, history in found.items() for step, value in history]
    return {
        "fault": fault,
        "times": times,
        "trials": f"{len(found)} of {TRIALS}",
        "lost": len({(n, s) for n, s, _ in expected} - {(n, s) for n, s, _ in got}),
        "doubled": len(got) - len({(number, step) for number, step, _ in got}),
        "other values": len(set(got) - expected),
        "runs": f"{study.runs()} of {TRIALS}",
        "points": f"{len(points)} of {TRIALS * EPOCHS}",
        "seconds to recover": round(median(recovery), 1) if recovery else "–",
    }


def recovered(study: FaultyStudy, process: Any, before: int, began: float) -> list[float]:
    """Return the seconds until the next epoch is on record, in a list; an empty list if the study ended before."""
    return [time.monotonic() - began] if study.wait_for_epochs(process, before + 1) else []


def sigkills(folder: Path, times: int, rng: random.Random, reference: Histories) -> Row:
    """Kill the whole process group of the study at random times; when a study has ended, start another one."""
    seconds: list[float] = []
    rows: list[Row] = []
    number = done = 0
    while done < times:
        number += 1
        study = FaultyStudy(folder / f"kills{number}", "kills")
        while done < times:
            began, before = time.monotonic(), study.epochs_on_disk
            process = study.start()
            seconds += recovered(study, process, before, began) if study.trials else []
            try:
                process.wait(rng.uniform(0.0, 8.0) if study.trials else rng.uniform(5.0, 25.0))
                break  # the study has ended
            except Exception:
                kill(process)
                done += 1
        study.finish()
        rows.append(row("", 0, study, reference, []))
    total = {**rows[0], "fault": "SIGKILL of driver, Ray and workers", "times": done}
    for key in ("lost", "doubled", "other values"):
        total[key] = sum(one[key] for one in rows)
    for key in ("trials", "runs", "points"):
        counts = [tuple(map(int, one[key].split(" of "))) for one in rows]
        total[key] = f"{sum(found for found, _ in counts)} of {sum(expected for _, expected in counts)}"
    total["seconds to recover"] = round(median(seconds), 1) if seconds else "–"
    return total


def outages(folder: Path, times: int, rng: random.Random, reference: Histories) -> Row:
    """Kill the tracking server several times in one study, and restart it after a while."""
    server = Server(folder / "server")
    server.start()
    try:
        study = FaultyStudy(folder / "outage", "outage", server.uri)
        process = study.start()
        seconds = []
        for number in range(times):
            study.wait_for_epochs(process, 2 + 4 * number)
            server.kill()
            time.sleep(rng.uniform(10.0, 30.0))
            began = time.monotonic()
            server.start()
            seconds.append(time.monotonic() - began)
        process.communicate(timeout=600)
        if process.returncode:
            study.finish()
        return row("tracking server away", times, study, reference, [])
    finally:
        server.kill()


def full_disk(folder: Path, reference: Histories) -> Row | None:
    """Fill the disk of the study during a trial, then free space and resume the study."""
    disk = SmallDisk(folder / "disk", 200)
    if not disk.mounted:
        return None
    study = FaultyStudy(disk.path / "study", "disk", f"sqlite:///{folder}/disk.db")
    process = study.start()
    try:
        study.wait_for_epochs(process, 3)
        filler = disk.path / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 65536):
                pass
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 130, printed
        assert "No space left" in printed, printed
        filler.unlink()
        began, before = time.monotonic(), study.epochs_on_disk
        process = study.start()
        seconds = recovered(study, process, before, began)
        process.communicate(timeout=600)
        return row("disk full", 1, study, reference, seconds)
    finally:
        with suppress(ValueError):  # the study has ended
            kill(process)
        disk.close()


def torn(folder: Path, reference: Histories) -> Row:
    """Kill the study, cut its newest checkpoint in half, and resume."""
    study = FaultyStudy(folder / "torn", "torn")
    process = study.start()
    study.wait_for_epochs(process, 3)
    kill(process)
    newest = checkpoints(study.trials[-1])[0]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    began, before = time.monotonic(), study.epochs_on_disk
    process = study.start()
    seconds = recovered(study, process, before, began)
    process.communicate(timeout=600)
    return row("newest checkpoint torn", 1, study, reference, seconds)


def clock_step(folder: Path, reference: Histories) -> Row:
    """Set the clock that Python reads back by an hour during the study."""
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(CLOCK.format(after=12), encoding="utf-8")
    study = FaultyStudy(folder / "clockstep", "clock", environment={**os.environ, "PYTHONPATH": str(folder / "clock")})
    study.finish()
    return row("clock one hour back", 1, study, reference, [])


def lost_nodes(folder: Path, times: int, rng: random.Random, reference: Histories) -> Row:
    """Kill a node and add another one, several times in one study."""
    server = Server(folder / "nodes-server")
    server.start()
    seconds: list[float] = []
    try:
        with Cluster(cpus=0) as cluster:
            nodes = [cluster.add_node(cpus=1), cluster.add_node(cpus=1)]
            study = FaultyStudy(
                folder / "nodes", "nodes", server.uri, more=("--address", cluster.address, "--cpus-per-trial", "1"),
                environment={**cluster.environment, **ENVIRONMENT},
            )  # fmt: skip
            process = study.start()
            for number in range(times):
                study.wait_for_epochs(process, 1 + 2 * number)
                cluster.kill(nodes.pop(rng.randrange(len(nodes))))
                began, before = time.monotonic(), study.epochs_on_disk
                nodes.append(cluster.add_node(cpus=1))
                seconds += recovered(study, process, before, began)
            printed, _ = process.communicate(timeout=600)
            assert process.returncode == 0, printed
        return row("raylet killed, another one added", times, study, reference, seconds)
    finally:
        server.kill()


def cut_off(folder: Path, reference: Histories) -> Row | None:
    """Disconnect a node during a trial until the head considers it dead, then reconnect it.

    The disk is shared, so the processes of the node run for a while at the same time as the trial's next attempt.
    """
    if not can_sever():
        return None
    with Cluster(cpus=0, severable=True) as cluster:
        server = Server(folder / "cut-server", cluster.host)
        server.start()
        try:
            nodes = [cluster.add_node(cpus=1), cluster.add_node(cpus=1)]
            study = FaultyStudy(
                folder / "cut", "cut", server.uri, more=("--address", cluster.address, "--cpus-per-trial", "1"),
                environment={**cluster.environment, **ENVIRONMENT},
            )  # fmt: skip
            process = study.start()
            study.wait_for_epochs(process, 2)
            cluster.cut_off(nodes[0])
            began, before = time.monotonic(), study.epochs_on_disk
            wait_until(lambda: nodes[0].address not in cluster.alive(), 60, "the head considers the node dead")
            cluster.reconnect(nodes[0])
            seconds = recovered(study, process, before, began)
            printed, _ = process.communicate(timeout=600)
            assert process.returncode == 0, printed
            return row("node cut off, then back", 1, study, reference, seconds)
        finally:
            server.kill()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of SIGKILLs")
    parser.add_argument("--outages", type=int, default=3, help="number of outages of the tracking server")
    parser.add_argument("--nodes", type=int, default=5, help="number of nodes to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the faults")
    parser.add_argument("--only", help="run only the faults whose name contains this text")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder = Path(name)
        undisturbed = FaultyStudy(folder / "undisturbed", "undisturbed")
        undisturbed.finish()
        reference = undisturbed.histories()
        faults: dict[str, Callable[[], Row | None]] = {
            "torn": lambda: torn(folder, reference),
            "disk": lambda: full_disk(folder, reference),
            "clock": lambda: clock_step(folder, reference),
            "outages": lambda: outages(folder, options.outages, rng, reference),
            "nodes": lambda: lost_nodes(folder, options.nodes, rng, reference),
            "cut": lambda: cut_off(folder, reference),
            "kills": lambda: sigkills(folder, options.kills, rng, reference),
        }
        rows = []
        for key, fault in faults.items():
            if options.only and options.only not in key:
                continue
            found = fault()
            if found is None:
                print(f"{key}: left out, needs Linux and root", flush=True)
                continue
            rows.append(found)
            print(found, flush=True)
        header = list(rows[0])
        print("| " + " | ".join(header) + " |")
        print("| " + " | ".join("---" for _ in header) + " |")
        for one in rows:
            print("| " + " | ".join(str(one[key]) for key in header) + " |")
        if options.output:
            options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
