"""Where the code lies, when this process began, and its environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

CODE_ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds the project's packages; nothing is written there."""

BEGAN: float = psutil.Process().create_time()
"""When this process began, in seconds since 1970."""


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while.

    Not to be used in threads: other threads read the same variables.

    Args:
        values: Names and values; afterwards they are what they were.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
