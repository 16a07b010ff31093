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
import shutil
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

from study.backend.guard import descendants, lives
from study.trial.checkpoints import checkpoints
from tests.helpers.faulty_study import EPOCHS, EXPERIMENT, TRIALS, FaultyStudy, Histories, Server, SmallDisk, kill
from tests.helpers.ray_nodes import ENVIRONMENT, Cluster, can_sever, wait_until

CLOCK = """
import sys, time
if sys.argv[0].endswith("run.py") or "default_worker" in sys.argv[0]:
    _real, _began = time.time, time.monotonic()
    time.time = lambda: _real() - (3600.0 if time.monotonic() - _began > {after} else 0.0)
"""

# Patches modules once they are imported: Ray counts two GPUs, training runs on the CPU, and fails on the second GPU.
TWO_GPUS = """
import os, sys, time
from importlib.machinery import PathFinder

def ray(module):
    real = module.init
    module.init = lambda *arguments, **options: real(*arguments, **{"num_gpus": 2, **options})

def trainable(module):
    real = module._train_epochs
    def train(config, state, trial, device):
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "1":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        for record in real(config, state, trial, "cpu"):
            time.sleep(4)  # so long that the broken one is free twice before the first trial has ended
            yield record
    module._train_epochs = train
    module.hardware_tags = lambda device, threads: {}

def cluster(module):
    module._usable_gpus = dict

def prepare(module):
    module.check_gpus = lambda options, spaces: None

def confirmation(module):
    module.check_gpus = lambda options, spaces: None

PATCHES = {
    "ray": ray, "study.trial.trainable": trainable, "study.backend.cluster": cluster, "study.setup.prepare": prepare,
    "study.setup.confirmation": confirmation,
}

class Patched:
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        spec = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (run(module), PATCHES[name](module)) and None
        return spec

sys.meta_path.insert(0, Patched())
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


def ended(study: FaultyStudy, fault: str, times: int, reference: Histories, says: str = "") -> Row:
    """Resume a study to its end, where it prints ``says``; return its row."""
    began, before = time.monotonic(), study.epochs_on_disk
    process = study.start()
    seconds = recovered(study, process, before, began)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert says in printed, printed
    return row(fault, times, study, reference, seconds)


def killed_study(folder: Path, name: str, epochs: int) -> FaultyStudy:
    """Return a study that was killed once ``epochs`` epochs were on record."""
    study = FaultyStudy(folder / name, name)
    process = study.start()
    study.wait_for_epochs(process, epochs)
    time.sleep(6.0)  # MLflow has got some of it
    kill(process)
    return study


def emptied_store(folder: Path, reference: Histories) -> Row:
    """Delete the database of a study that was killed, and resume."""
    study = killed_study(folder, "emptied", 7)
    (study.folder / "mlflow.db").unlink()
    return ended(study, "tracking store emptied", 1, reference, "the store lacks records of")


def other_store(folder: Path, reference: Histories) -> Row:
    """Resume a finished study with another store, then with the first one."""
    study = FaultyStudy(folder / "others", "others")
    study.finish()
    first, study.uri = study.uri, f"sqlite:///{study.folder}/other.db"
    found = ended(study, "another tracking store", 1, reference, f"the store lacks records of {TRIALS} trials")
    study.uri = first
    return {**found, "doubled": found["doubled"] + ended(study, "", 1, reference)["doubled"]}


def copied(folder: Path, reference: Histories) -> Row:
    """Copy the folder of a killed study, resume it under its new name, then the first one under its own."""
    study = killed_study(folder, "first", 7)
    studies = study.storage / "studies"
    shutil.copytree(studies / "first", studies / "second")
    before = study.epochs_on_disk // 2
    second = FaultyStudy(study.folder, "second", study.uri)
    found = ended(second, "folder copied under another name", 1, reference)
    there = sum(path.read_bytes().count(b'"kind": "epoch"') for path in studies.glob("first/*/*/records.jsonl"))
    assert there == before, "the copy has trained in the first study's folder"
    mine = ended(study, "", 1, reference)
    return {**found, **{key: found[key] + mine[key] for key in ("lost", "doubled", "other values")}}


def moved(folder: Path, reference: Histories) -> Row:
    """Move the storage of a killed study, and rename its folder."""
    study = killed_study(folder, "before", 7)
    (study.folder / "elsewhere").mkdir()
    study.storage.rename(study.folder / "elsewhere" / "out")
    renamed = FaultyStudy(study.folder / "elsewhere", "after", study.uri)
    (renamed.storage / "studies" / "before").rename(renamed.storage / "studies" / "after")
    return ended(renamed, "folder moved and renamed", 1, reference)


def deleted_runs(folder: Path, reference: Histories) -> Row:
    """Delete a parent, a finished and an unfinished run, as in MLflow's pages, while the study runs; then resume it."""
    study = FaultyStudy(folder / "deleted", "deleted")
    process = study.start()
    study.wait_for_epochs(process, EPOCHS + 2)
    time.sleep(6.0)
    client = study.client
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = client.search_runs([experiment], "tags.study = 'deleted'")
    assert {run.data.tags["kind"] for run in runs} == {"parent", "trial"}
    for run in runs:
        client.delete_run(run.info.run_id)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    found = ended(study, "runs deleted in MLflow while the study runs", len(runs), reference)
    (parent,) = client.search_runs([experiment], "tags.study = 'deleted' and tags.kind = 'parent'")
    children = client.search_runs([experiment], "tags.study = 'deleted' and tags.kind = 'trial'")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    return found


def broken_gpu(folder: Path, reference: Histories) -> Row:
    """Run the study on two GPUs, simulated on CPUs, of which one fails every trial at once."""
    (folder / "gpu").mkdir()
    (folder / "gpu" / "sitecustomize.py").write_text(TWO_GPUS, encoding="utf-8")
    study = FaultyStudy(
        folder / "gpus", "gpus", more=("--gpus-per-trial", "1", "--cpus-per-trial", "1"),
        environment={**os.environ, "PYTHONPATH": str(folder / "gpu")},
    )  # fmt: skip
    printed = study.finish()
    assert "CUDA error: uncorrectable ECC error encountered. It is tried again" in printed, printed
    assert "is left out: two trials died there in their first step" in printed, printed
    return row("one of two GPUs broken", 1, study, reference, [])


def driver_alone(folder: Path, times: int, rng: random.Random, reference: Histories) -> Row:
    """Kill the study's process alone, and wait until none of its others is left."""
    study = FaultyStudy(folder / "driver", "driver")
    gone = []
    for _ in range(times):
        process = study.start()
        study.wait_for_epochs(process, study.epochs_on_disk + 1)
        time.sleep(rng.uniform(0.0, 2.0))
        if process.poll() is not None:
            break
        others = descendants(process.pid)
        process.kill()
        began = time.monotonic()
        process.communicate()
        while any(map(lives, others)):
            assert time.monotonic() - began < 60, "processes linger"
            time.sleep(0.1)
        gone.append(time.monotonic() - began)
    print(f"driver alone killed: all processes gone after {', '.join(f'{one:.1f}' for one in gone)} s", flush=True)
    return ended(study, "SIGKILL of the driver alone", len(gone), reference)


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
            "emptied": lambda: emptied_store(folder, reference),
            "other": lambda: other_store(folder, reference),
            "copied": lambda: copied(folder, reference),
            "moved": lambda: moved(folder, reference),
            "deleted": lambda: deleted_runs(folder, reference),
            "gpu": lambda: broken_gpu(folder, reference),
            "driver": lambda: driver_alone(folder, 3, rng, reference),
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
