"""Work on many utterances at a time, in order and within little memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# glibc gives freed memory back to the system after every step, and takes it again; at width 1, keeping it is worth a
# quarter of a step's time (docs/performance.md).
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""Environment for a process that trains; it must be there before the process starts."""

MOST_THREADS = 8
AT_A_TIME = 8
"""Items that a thread takes; one by one, the threads would mostly wake each other (docs/performance.md)."""

AHEAD = 2
"""Groups of items that may wait for each thread."""


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    initializer: Callable[[], Any] | None = None,
) -> Generator[tuple[Item, Result]]:
    """Works on items in threads, a bounded number ahead of whoever takes the results.

    Args:
        work: Releases the interpreter's lock most of the time, as decoding and transforms do.
        items: What to work on.
        workers: Threads; None is one per core, at most ``MOST_THREADS``.
        initializer: Called in each thread first.

    Yields:
        (item, result), in the items' order. Close the generator to stop early.
    """
    threads = workers or min(MOST_THREADS, cores())
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=initializer)
    left = iter(items)

    def all_of(group: list[Item]) -> list[Result]:
        return [work(item) for item in group]

    try:
        while group := list(islice(left, AT_A_TIME)):
            pending.append((group, pool.submit(all_of, group)))
            if len(pending) > AHEAD * threads:
                first, future = pending.popleft()
                yield from zip(first, future.result(), strict=True)
        while pending:
            first, future = pending.popleft()
            yield from zip(first, future.result(), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
