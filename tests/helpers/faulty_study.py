"""A small study under faults: its processes, servers and files are damaged, and its records compared."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
TRIALS, EPOCHS = 3, 5
ARGUMENTS = (
    "--space", "proselflc", "--noise", "noisy-A", "--trials", str(TRIALS), "--epochs", str(EPOCHS),
    "--width", "0.03", "--batch-size", "48", "--set", "training.crop_seconds=0.5", "training.precision=float32",
)  # fmt: skip
EXPERIMENT = "faults"

Histories = dict[str, list[tuple[int, float]]]


@dataclass
class FaultyStudy:
    """Study of ``TRIALS`` trials of ``EPOCHS`` epochs that is started, disturbed and resumed.

    Args:
        folder: Folder of all files of the study.
        name: Name of the study.
        uri: Tracking URI; by default a database in the folder.
        more: Additional arguments of every call.
        environment: Environment variables of every call.
    """

    folder: Path
    name: str
    uri: str = ""
    more: tuple[str, ...] = ("--max-concurrent", "1")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = self.uri or f"sqlite:///{self.folder}/mlflow.db"

    @property
    def storage(self) -> Path:
        """Return the study's storage path."""
        return self.folder / "out"

    @property
    def trials(self) -> list[Path]:
        """Return the folders of the trials that have begun."""
        return sorted((self.storage / "studies" / self.name).glob("*/trial_*"))

    @property
    def epochs_on_disk(self) -> int:
        """Return the number of recorded epochs of all trials."""
        return sum(
            path.read_bytes().count(b'"kind": "epoch"') for path in self.storage.glob("studies/*/*/*/records.jsonl")
        )

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start or resume the study in a process group of its own."""
        begun = (self.storage / "studies" / self.name / "study.json").exists()
        arguments = ("--resume",) if begun else (*ARGUMENTS, "--experiment", EXPERIMENT)
        return subprocess.Popen(
            [
                sys.executable, str(ROOT / "study" / "run.py"), "--tracking-uri", self.uri,
                "--storage-path", str(self.storage), "--name", self.name, *arguments, *self.more, *more,
            ],
            cwd=self.folder, env=dict(self.environment), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, *more: str, seconds: float = 900) -> str:
        """Start or resume the study, wait for its end, and return its output."""
        process = self.start(*more)
        printed, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, printed
        return printed

    def wait_for_epochs(self, process: subprocess.Popen[str], epochs: int, seconds: float = 300) -> bool:
        """Wait until ``epochs`` epochs are on disk; return False if the study ends or the time runs out before."""
        end = time.monotonic() + seconds
        while self.epochs_on_disk < epochs:
            if process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    @property
    def client(self) -> MlflowClient:
        """Return a client of the study's store."""
        return MlflowClient(self.uri)

    def histories(self, metric: str = "val/nll") -> Histories:
        """Return the points (step, value) of a metric in MLflow by trial number; duplicate points occur twice."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        query = f"tags.study = '{self.name}' and tags.kind = 'trial'"
        found: Histories = {}
        for run in self.client.search_runs([experiment.experiment_id], query):
            points = [(p.step, p.value) for p in self.client.get_metric_history(run.info.run_id, metric)]
            number = run.data.tags["trial"]
            # A second run of the same trial shows as duplicate points.
            found[number] = found.get(number, []) + (points if run.data.tags["status"] == "finished" else [])
        return found

    def runs(self) -> int:
        """Return the number of runs of trials in MLflow."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        query = f"tags.study = '{self.name}' and tags.kind = 'trial'"
        return len(self.client.search_runs([experiment.experiment_id], query))


def kill(process: subprocess.Popen[str]) -> None:
    """Send SIGKILL to a study's whole process group, including its Ray."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


class Server:
    """MLflow server that can be killed and restarted on the same database and port.

    Args:
        folder: Folder of its database and artifacts.
        host: Address that it listens on.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._host = folder, host
        with socket.socket() as free:
            free.bind((host, 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Return the tracking URI of the server."""
        return f"http://{self._host}:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("mlflow")), "server",
                    "--host", self._host, "--port", str(self.port), "--allowed-hosts", "*",
                    "--backend-store-uri", f"sqlite:///{self._folder}/server.db",
                    "--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1",
                ],
                cwd=self._folder, start_new_session=True, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.uri}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.3)
        raise TimeoutError("the MLflow server does not answer")

    def kill(self) -> None:
        """Send SIGKILL to all processes of the server."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class SmallDisk:
    """File system of a few megabytes in memory; needs the right to mount.

    Args:
        path: Mount point.
        megabytes: Size.
    """

    def __init__(self, path: Path, megabytes: int) -> None:
        path.mkdir(parents=True)
        self.path = path
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], capture_output=True, check=False
        )
        self.mounted = done.returncode == 0

    def grow(self, megabytes: int) -> None:
        """Enlarge the file system, as an administrator would."""
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.path)], check=True)

    def close(self) -> None:
        """Unmount the file system."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=False)
        shutil.rmtree(self.path, ignore_errors=True)
