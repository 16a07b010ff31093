"""This machine's own Ray: started while the rest of a command is still being imported, since each takes seconds.

It imports little, and nothing of torch or MLflow.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray._private.node import Node

from ser.utils.command_line import EXIT_INTERRUPTED
from ser.utils.parallel import ALLOCATOR, cores
from study.environment import CODE_ROOT, environment

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

# A worker imports what trials need before it is asked for anything.
PRELOAD = {"RAY_preload_python_modules": "study.backend.worker"}

# A signal to the whole group of processes ends Ray's own before the study; it would look for them for a minute.
RECONNECT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}

# Ray asks for its own object store before that listens, one start in three, and would ask again after a second.
ASK_AGAIN = {
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
}

# Ray starts a worker for each CPU with itself, before it is joined even, which takes its first trial at once, since it
# has been importing meanwhile. Those that no trial takes end by themselves. On large machines there would be too many.
MOST_WAITING = 8
NONE_WAITING = {"RAY_prestart_worker_first_driver": "0"}
WAITING = {
    **NONE_WAITING,
    "RAY_enable_worker_prestart": "1",
    "RAY_num_workers_soft_limit": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "30000",
}

# Parts of Ray that one machine's study has no use for: the autoscaler, what prints the workers' output, and the server
# of its dashboard, which the rest would wait for. Ray has no option to leave them out; should these methods be gone,
# it is but slower.
UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")

# Options of study/run.py that make do without it.
WITHOUT_RAY = ("-h", "--help", "--list-spaces", "--plan", "--address")


def worker_variables() -> dict[str, str]:
    """The environment of every process that runs trials."""
    path = os.pathsep.join([str(CODE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, **ALLOCATOR}


def start() -> None:
    """Starts it, if no Ray has been started or joined; in the main thread, since its processes end with the thread."""
    if ray.is_initialized():
        return
    # What Ray will do of itself, and warns of until then: a trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's workers look for the project in the driver's folder first, and another version may be there.
    waiting = WAITING if cores() <= MOST_WAITING else NONE_WAITING
    variables = {**worker_variables(), **PRELOAD, **RECONNECT, **ASK_AGAIN, **waiting}
    with contextlib.chdir(CODE_ROOT), environment(variables), _without(Node, UNUSED):
        ray.init(address="local", num_cpus=cores(), include_dashboard=False, **QUIET)


@contextlib.contextmanager
def _without(owner: type, methods: Sequence[str]) -> Iterator[None]:
    """Makes methods of a class do nothing for a while."""
    before = {name: vars(owner)[name] for name in methods if name in vars(owner)}
    for name in before:
        setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(owner, name, method)


def start_while_importing(modules: Sequence[str], arguments: Sequence[str]) -> None:
    """Starts it and imports modules at the same time; a mistake in the arguments is found afterwards, and ends it.

    An interrupt waits until Ray is there, or parts of it would be left behind; then the process ends.

    Args:
        modules: What the command is about to import.
        arguments: Its arguments; some of them want no Ray, or another.
    """
    if any(argument.partition("=")[0] in WITHOUT_RAY for argument in arguments):
        return

    def load() -> None:
        with contextlib.suppress(Exception):  # the command's own import will raise it again
            for name in modules:
                importlib.import_module(name)

    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        importing = threading.Thread(target=load)
        importing.start()
        start()
        importing.join()
    except Exception:
        if not interrupts:  # which may have reached a process of Ray's
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        ray.shutdown()
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
