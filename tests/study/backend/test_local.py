"""A local Ray: where it writes, what ends it, and what is left of it when the study's process is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ser.utils.errors import UserError
from study.backend import local
from study.backend.guard import Process, descendants, lives, start_guard
from study.environment import CODE_ROOT
from tests.helpers.ray_nodes import wait_until


@pytest.fixture
def variables(monkeypatch):
    """Return a function that sets the variables for temporary folders."""

    def call(**values):
        for name in ("RAY_TMPDIR", "TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return call


@pytest.fixture
def short():
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield Path(folder)


def test_rays_folder_is_the_one_that_ray_would_choose(variables, short):
    variables()
    assert local.temporary_folder() == Path("/tmp")
    variables(TMPDIR=short)
    assert local.temporary_folder() == short
    variables(TMPDIR="/nonexistent", RAY_TMPDIR=short)
    assert local.temporary_folder() == short


def test_a_folder_too_long_for_sockets_is_replaced_or_if_it_was_asked_for_an_error(variables, short):
    longest = short / ("x" * (39 - len(str(short)) - 1))
    variables(RAY_TMPDIR=longest)
    assert len(str(local.temporary_folder())) == 39
    variables(RAY_TMPDIR=f"{longest}x")
    with pytest.raises(UserError, match=r"RAY_TMPDIR=.* is too long.*107 bytes.*at most 39 characters"):
        local.temporary_folder()
    variables(TMPDIR=f"{longest}x")
    assert local.temporary_folder() == Path("/tmp")


def test_a_folder_that_cannot_be_written_to_or_is_full_is_an_error(variables, short, monkeypatch):
    variables(RAY_TMPDIR="/dev/null")
    with pytest.raises(UserError, match=r"cannot write to /dev/null/ray: Not a directory.*RAY_TMPDIR"):
        local.temporary_folder()
    variables(RAY_TMPDIR=short)
    monkeypatch.setattr(local.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(UserError, match=r"has 3 MiB free.*RAY_TMPDIR"):
        local.temporary_folder()


def test_workers_have_torchs_expandable_segments_unless_the_user_has_other_settings(monkeypatch):
    current, former = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
    for name in (current, former):
        monkeypatch.delenv(name, raising=False)
    assert local.worker_variables()[current] == "expandable_segments:True"
    for name, other in ((former, current), (current, former)):
        monkeypatch.setenv(name, "max_split_size_mb:64")
        variables = local.worker_variables()
        assert variables[name] == "max_split_size_mb:64"
        assert other not in variables
        assert variables["MALLOC_MMAP_MAX_"] == "0"
        monkeypatch.delenv(name)


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_descendants_are_found_and_told_from_processes_with_the_same_number():
    outer = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        wait_until(lambda: len(descendants(outer.pid)) == 1, 10, "the shell has a child")
        (inner,) = descendants(outer.pid)
        assert {process.pid for process in descendants(os.getpid())} >= {outer.pid, inner.pid}
        assert lives(inner)
        assert not lives(Process(inner.pid, inner.started + 1))
    finally:
        os.kill(inner.pid, signal.SIGKILL)
        outer.wait()
    assert not lives(inner)


def test_the_guard_kills_what_is_left_once_its_starter_has_ended():
    kept, ended = sleeper(), sleeper()
    try:
        (process,) = [one for one in descendants(os.getpid()) if one.pid == ended.pid]
        (other,) = [one for one in descendants(os.getpid()) if one.pid == kept.pid]
        guard = start_guard([process, Process(other.pid, other.started + 1)])
        time.sleep(0.3)
        assert ended.poll() is None
        guard.communicate(timeout=10)  # closes the pipe, as the end of this process would
        assert ended.wait(timeout=10) == -signal.SIGKILL
        assert kept.poll() is None
    finally:
        kept.kill()
        ended.kill()
        kept.wait()
        ended.wait()


RAY = """
import os, sys, time
import ray
from ser.utils.command_line import treat_signals_as_interrupt
from study.backend import local
from study.backend.guard import descendants, name_of

local.start("--resume --name mine")
treat_signals_as_interrupt()

@ray.remote
def work():
    time.sleep(600)

work.remote()
time.sleep(1)
print(*(f"{process.pid}:{process.started}:{name_of(process)}" for process in descendants(os.getpid())), flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    local.stop_ray()
    print(local.lost_ray(), flush=True)
"""


@pytest.fixture
def ray_driver(tmp_path):
    """Start a process with a local Ray and an empty home folder; yield it and Ray's processes by name."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    with subprocess.Popen(
        [sys.executable, "-c", RAY], cwd=CODE_ROOT, stdout=subprocess.PIPE, text=True,
        env={**variables, "HOME": str(tmp_path)},
    ) as driver:  # fmt: skip
        try:
            assert driver.stdout is not None
            words = [word.split(":", 2) for word in driver.stdout.readline().split(" ")]
            found = [(word[2].strip(), Process(int(word[0]), int(word[1]))) for word in words if len(word) == 3]
            yield driver, found
        finally:
            driver.kill()


@pytest.mark.slow
def test_nothing_is_left_seconds_after_the_studys_process_is_killed(ray_driver, tmp_path):
    driver, found = ray_driver
    assert len(found) > 5
    assert not (tmp_path / ".ray").exists()  # the home folder may be read-only
    assert all(lives(process) for _, process in found)
    driver.kill()
    wait_until(lambda: not any(lives(process) for _, process in found), 10, "Ray's processes have ended")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["gcs_server", "raylet"])
def test_a_ray_that_dies_interrupts_the_study_which_can_say_so(ray_driver, server):
    driver, found = ray_driver
    (process,) = [process for name, process in found if name == server]
    os.kill(process.pid, signal.SIGKILL)
    printed, _ = driver.communicate(timeout=40)
    assert printed.splitlines()[-1] == "Stopped: Ray has died on this machine, perhaps because memory or disk ran out."
    assert driver.returncode == 0
    wait_until(lambda: not any(lives(process) for _, process in found), 10, "Ray's processes have ended")
