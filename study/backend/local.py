"""Ray on this machine alone, started for one study and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import ray

from ser.utils.parallel import ALLOCATOR, cores
from study.environment import CODE_ROOT, environment

# A signal to the whole process group, as `timeout` and Slurm send it, ends Ray's processes before the study's, which
# would then look for them for a minute. Ray's guide to GCS fault tolerance documents the setting.
RECONNECT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def worker_variables() -> dict[str, str]:
    """Return the environment variables of every process that runs trials."""
    path = os.pathsep.join([str(CODE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, **ALLOCATOR}


def start() -> None:
    """Start Ray on this machine, unless it has been started; its processes end with this one."""
    if ray.is_initialized():
        return
    # Ray's future default, of which it warns until then. A trial's device is chosen here, not by hiding GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's workers import from the driver's current folder first, and another `study` or `ser` may be there.
    with contextlib.chdir(CODE_ROOT), environment({**worker_variables(), **RECONNECT}):
        ray.init(address="local", num_cpus=cores(), include_dashboard=False, **QUIET)
