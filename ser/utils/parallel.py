"""Threads that work on many utterances, with results in order and bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
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

MAX_THREADS = 8
GROUP_SIZE = 8
"""Items that a thread takes at a time; with single items, switching threads dominates (docs/performance.md)."""

GROUPS_AHEAD = 2
"""Groups of items that may wait for each thread."""


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

    def all_of(group: list[Item]) -> list[Result]:
        return [work(item) for item in group]

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
        pool.shutdown(cancel_futures=True)
