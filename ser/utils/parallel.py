"""Threads that work on many utterances, with results in order and bounded memory."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# By default glibc returns freed memory to the system after every step and requests it again; at width 1, keeping it
# saves a quarter of a step's time (docs/performance.md).
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""Environment variables for a process that trains; they must be set before the process starts."""

# Several trials, one after the other, with batches of other sizes: memory that is mapped piece by piece does not fall
# into pieces that fit no batch, so that a trial does not run out of its share while some of it is free.
GPU_ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Environment variables of torch's allocator on GPUs, for ``training_variables``."""

FORMER_GPU_ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
"""Former name of the variable, which torch still reads."""

MAX_THREADS = 8
GROUP_SIZE = 8
"""Items that a thread takes at a time; with single items, switching threads dominates (docs/performance.md)."""

GROUPS_AHEAD = 2
"""Groups of items that may wait for each thread."""


def training_variables() -> dict[str, str]:
    """Return the environment variables for a process that trains; on GPUs the user's own, if there are any."""
    names = (*GPU_ALLOCATOR, FORMER_GPU_ALLOCATOR)
    own = {name: os.environ[name] for name in names if name in os.environ}
    return {**ALLOCATOR, **(own or GPU_ALLOCATOR)}


def cores() -> int:
    """Return the number of CPUs that this process may use: by its affinity and the quotas of its control groups.

    A quota of 2.5 CPUs counts as 2: a third thread would be stopped for half of the time, and the others wait for it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the CPUs that control groups allow this process, as containers and Slurm set them.

    Args:
        root: Folder that holds ``proc``.

    Returns:
        The smallest quota of the process's groups of either version and of the groups that hold them; infinite without
        a quota.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for line in groups:
        number, controllers, group = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            place, _, kind = mount.partition(" - ")
            top, point = place.split()[3:5]
            version = kind.split()[0]
            options = kind.split()[-1].split(",")
            if version == "cgroup2" if number == "0" else version == "cgroup" and "cpu" in options:
                quotas += _quotas(root / point.lstrip("/"), PurePosixPath(group), top)
    return min(quotas)


def _quotas(point: Path, group: PurePosixPath, top: str) -> Iterator[float]:
    """Yield the quotas of a control group and of those that hold it, of which ``top`` is mounted at ``point``."""
    below = group.relative_to(top) if group.is_relative_to(top) else PurePosixPath()
    for part in (below, *below.parents):
        folder = point / part
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
                period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        except OSError:  # the group of the whole machine has no such file
            continue
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    initializer: Callable[[], Any] | None = None,
) -> Generator[tuple[Item, Result]]:
    """Process items in threads, a bounded number ahead of the consumer.

    Args:
        work: Function of one item that mostly runs without the interpreter's lock, as decoding and transforms do.
        items: Items to process.
        workers: Number of threads; None is one per core, at most ``MAX_THREADS``.
        initializer: Function called once in each thread.

    Yields:
        (item, result), in the order of the items. Close the generator to stop early.

    Example:
        >>> list(in_order(len, ["a", "bcd", ""], workers=2))
        [('a', 1), ('bcd', 3), ('', 0)]
    """
    threads = workers or min(MAX_THREADS, cores())
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=initializer)
    left = iter(items)

    closed = Event()  # so that an interruption waits for single items, not for groups of slow ones

    def all_of(group: list[Item]) -> list[Result]:
        return [work(item) for item in group if not closed.is_set()]

    try:
        while group := list(islice(left, GROUP_SIZE)):
            pending.append((group, pool.submit(all_of, group)))
            if len(pending) > GROUPS_AHEAD * threads:
                first, future = pending.popleft()
                yield from zip(first, future.result(), strict=True)
        while pending:
            first, future = pending.popleft()
            yield from zip(first, future.result(), strict=True)
    finally:
        closed.set()
        pool.shutdown(cancel_futures=True)
