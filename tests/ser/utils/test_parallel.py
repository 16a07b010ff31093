"""The CPUs that a process may use, and the quotas of control groups of both versions."""

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ser.utils.parallel import GROUP_SIZE, cores, cpu_quota, in_order

ROOT = Path(__file__).resolve().parents[3]
VERSION_2 = "0::{group}\n"
MOUNT_2 = "31 23 0:28 {top} /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = "3:cpuset:/other\n2:cpu,cpuacct:{group}\n0::/\n"
MOUNT_1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"


def machine(root, groups, mounts, files):
    """Make the files by which Linux shows a process's control groups."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    (root / "proc" / "self" / "mountinfo").write_text(OTHERS + mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "top", "files", "quota"),
    [
        ("/", "/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("/", "/", {}, math.inf),
        ("/a.slice/job", "/", {"a.slice/job/cpu.max": "max 100000\n", "a.slice/cpu.max": "max 100000\n"}, math.inf),
        ("/a.slice/job", "/", {"a.slice/job/cpu.max": "max 100000\n", "a.slice/cpu.max": "50000 25000\n"}, 2),
        ("/a.slice/job", "/", {"a.slice/job/cpu.max": "300000 100000\n", "a.slice/cpu.max": "400000 100000\n"}, 3),
        ("/a.slice/job", "/", {"b/cpu.max": "100000 100000\n"}, math.inf),
        # A container that sees its own group as the top of the tree.
        ("/docker/1234", "/docker/1234", {"cpu.max": "200000 100000\n"}, 2),
        ("/docker/1234/inner", "/docker/1234", {"inner/cpu.max": "100000 100000\n", "cpu.max": "max 100000\n"}, 1),
        ("/../elsewhere", "/docker/1234", {"cpu.max": "200000 100000\n"}, 2),
    ],
)
def test_quotas_of_version_2(tmp_path, group, top, files, quota):
    assert cpu_quota(machine(tmp_path, VERSION_2.format(group=group), MOUNT_2.format(top=top), files)) == quota


@pytest.mark.parametrize(
    ("group", "top", "quotas", "quota"),
    [
        ("/", "/", {"": -1}, math.inf),
        ("/docker/1234", "/", {"docker/1234": 250000, "docker": -1}, 2.5),
        ("/docker/1234", "/docker/1234", {"": 250000}, 2.5),
        ("/slurm/job/step", "/", {"slurm/job/step": -1, "slurm/job": 400000, "slurm": -1, "": -1}, 4),
    ],
)
def test_quotas_of_version_1(tmp_path, group, top, quotas, quota):
    files = {}
    for folder, number in quotas.items():
        files[f"cpu,cpuacct/{folder}/cpu.cfs_quota_us"] = f"{number}\n"
        files[f"cpu,cpuacct/{folder}/cpu.cfs_period_us"] = "100000\n"
    assert cpu_quota(machine(tmp_path, VERSION_1.format(group=group), MOUNT_1.format(top=top), files)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "expected"), [(0.3, 1), (1.0, 1), (1.9, 1), (math.inf, None), (1e6, None)])
def test_cores_are_whole_and_at_least_one(monkeypatch, quota, expected):
    monkeypatch.setattr("ser.utils.parallel.cpu_quota", lambda: quota)
    assert cores() == (expected or len(os.sched_getaffinity(0)))


def test_a_real_quota_of_this_machine():
    """Make a control group, and ask a process in it."""
    top = Path("/sys/fs/cgroup/cpu")
    group = top / f"quota-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs the right to make control groups of version 1")
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("130000")
        command = (
            f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from ser.utils.parallel import cores, cpu_quota; print(cores(), cpu_quota())"
        )
        done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "1 1.3\n"
    finally:
        group.rmdir()


def test_closing_early_waits_for_single_items():
    started, processed = threading.Event(), []

    def work(item):
        if item >= GROUP_SIZE:  # not in the first group
            started.set()
            time.sleep(0.05)
        processed.append(item)

    results = in_order(work, range(100), workers=1)
    next(results)
    assert started.wait(10)
    results.close()
    assert len(processed) <= GROUP_SIZE + 2
