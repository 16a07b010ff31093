"""Ray on this machine alone, started for one study and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from ser.utils.command_line import EXIT_INTERRUPTED
from ser.utils.errors import UserError, first_line
from ser.utils.parallel import cores, training_variables
from study.backend.guard import Process, descendants, lives, name_of, start_guard
from study.environment import CODE_ROOT, environment

# A signal to the whole process group, as `timeout` and Slurm send it, ends Ray's processes before the study's, which
# would then look for them for a minute. Ray's guide to GCS fault tolerance documents the setting.
RECONNECT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

LONGEST_FOLDER = 43
"""Bytes of Ray's temporary folder: a socket's path has at most 107, and Ray's own names take 64."""

LEAST_SPACE = 64 * 2**20
"""Bytes that Ray's logs and sockets need."""

SERVERS = ("gcs_server", "raylet")
"""Processes that a study needs."""

POLL_SECONDS = 1.0
AGAIN_SECONDS = 0.5
END_SECONDS = 6.0


class _Watch:
    """Thread that interrupts the study if a server of its local Ray dies.

    Ray itself would end this process without a word, some ten seconds later.

    Args:
        servers: Ray's processes that this one has started.
        resume: Options that resume the study.
    """

    def __init__(self, servers: Sequence[Process], resume: str) -> None:
        self._servers = servers
        self._resume = resume
        self._over = threading.Event()
        self.lost = False
        threading.Thread(target=self._run, daemon=True, name="watch of Ray").start()

    def end(self) -> None:
        """Let Ray's processes end."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if not all(map(lives, self._servers)):
                self.lost = True
                _interrupt_study()
                # The first interrupt asks Tune for an orderly end, for which it may wait for what is lost.
                if not self._over.wait(AGAIN_SECONDS):
                    _interrupt_study()
                if not self._over.wait(END_SECONDS):  # Ray's compiled code waits, and would soon end this process
                    print(f"{lost_ray()} Resume with {self._resume}", file=sys.stderr, flush=True)
                    os._exit(EXIT_INTERRUPTED)
                return


def _interrupt_study() -> None:
    """Send this process the signal that all commands treat as an interrupt, so that waiting calls return too."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


class _Local:
    """State of the local Ray of this process."""

    watch: _Watch | None = None
    guard: subprocess.Popen[str] | None = None


def worker_variables() -> dict[str, str]:
    """Return the environment variables of every process that runs trials."""
    path = os.pathsep.join([str(CODE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, **training_variables()}


def start(resume: str) -> None:
    """Start Ray on this machine, unless it has been started; its processes end with this one.

    Args:
        resume: Options that resume the study, should Ray die.

    Raises:
        UserError: Ray cannot start, for example because its temporary folder is full.
    """
    if ray.is_initialized():
        return
    # Ray's future default, of which it warns until then. A trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Else Ray writes a token to the home folder, which may be read-only, and which other clusters would then ask for.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = temporary_folder()
    # Ray's workers import from the driver's current folder first, and another `study` or `ser` may be there.
    with contextlib.chdir(CODE_ROOT), environment({**worker_variables(), **RECONNECT, "RAY_TMPDIR": str(folder)}):
        before = descendants(os.getpid())
        try:
            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **QUIET)
        except Exception as error:
            raise UserError(
                f"Ray cannot start on this machine: {first_line(error)}. Its logs are in {folder / 'ray'}."
            ) from error
    started = [process for process in descendants(os.getpid()) if process not in before]
    _Local.guard = start_guard(started)
    _Local.watch = _Watch([process for process in started if name_of(process) in SERVERS], resume)


def stop_ray() -> None:
    """End this process's Ray, or leave its cluster."""
    if _Local.watch is not None:
        _Local.watch.end()
    ray.shutdown()
    if _Local.guard is not None:
        _Local.guard.communicate()
        _Local.guard = None


def lost_ray() -> str:
    """Return what happened if the local Ray has died; empty if it has not."""
    if _Local.watch is None or not _Local.watch.lost:
        return ""
    return "Stopped: Ray has died on this machine, perhaps because memory or disk ran out."


def temporary_folder() -> Path:
    """Return the folder below which Ray writes logs and sockets: ``RAY_TMPDIR``, ``TMPDIR`` or ``/tmp``.

    Raises:
        UserError: It is too long for sockets, not writable, or full.
    """
    asked = os.environ.get("RAY_TMPDIR")
    folder = Path(asked or os.environ.get("TMPDIR") or "/tmp").absolute()
    if len(os.fsencode(folder / "ray")) > LONGEST_FOLDER:
        if asked:
            raise UserError(
                f"RAY_TMPDIR={asked} is too long: Ray's sockets lie below it, and a socket's path has at most 107 "
                f"bytes. Set it to a folder of at most {LONGEST_FOLDER - len('/ray')} characters."
            )
        folder = Path("/tmp")
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "ray") as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"Ray cannot write to {folder / 'ray'}: {error.strerror}. {_ELSEWHERE}") from None
    if free < LEAST_SPACE:
        raise UserError(f"{folder} has {free / 2**20:.0f} MiB free, too few for Ray's logs. {_ELSEWHERE}")
    return folder


_ELSEWHERE = "Make room there, or set RAY_TMPDIR to another folder with a short path."
