"""End what is left of a local Ray once the study's process has ended, whatever ended it.

Ray's servers die with the study's process, and workers with their server. Ray's agents, however, first try for a minute
to report that to a server that is gone too. Run as a script, in a process of its own, this kills them. It imports the
standard library alone, so that it starts at once and takes little memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROCESSES = Path("/proc")


class Process(NamedTuple):
    """Process, by its number and when it started, which differs if the number is used again.

    Args:
        pid: Its number.
        started: When it started, in the kernel's clock ticks.
    """

    pid: int
    started: int


def descendants(pid: int, processes: Path = PROCESSES) -> list[Process]:
    """Return the living children of a process, theirs, and so on; none where there is no ``/proc``.

    Args:
        pid: Number of the process.
        processes: Folder in which the kernel shows all processes.
    """
    parents = {}
    for folder in processes.glob("[0-9]*"):
        if (found := _read(int(folder.name), processes)) is not None:
            parents[found[0]] = found[1]
    known, found_now = [], [pid]
    while found_now:
        children = [process for process, parent in parents.items() if parent in found_now]
        known += children
        found_now = [process.pid for process in children]
    return known


def lives(process: Process) -> bool:
    """Return whether a process still runs."""
    found = _read(process.pid, PROCESSES)
    return found is not None and found[0] == process


def name_of(process: Process) -> str:
    """Return the name of a process's program; empty if it does not run."""
    try:
        return (PROCESSES / str(process.pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read(pid: int, processes: Path) -> tuple[Process, int] | None:
    """Return a process and its parent's number; None if it does not run."""
    try:
        text = (processes / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a program's name may hold spaces
    state, parent, started = fields[0], int(fields[1]), int(fields[19])
    return None if state in "ZX" else (Process(pid, started), parent)


def start_guard(processes: Iterable[Process]) -> subprocess.Popen[str]:
    """Start the process that kills others once this one has ended; it ends then too.

    Args:
        processes: Those to kill.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a closed terminal, or Ctrl-C in it, is none of its business
    )
    assert guard.stdin is not None
    guard.stdin.writelines(f"{process.pid} {process.started}\n" for process in processes)
    guard.stdin.flush()  # and never closed: the system does that when this process ends
    return guard


def main() -> None:
    """Read processes, one a line, until the writer has ended, and kill those that are left."""
    processes = [Process(*map(int, line.split())) for line in sys.stdin]
    for process in processes:
        if lives(process):
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
