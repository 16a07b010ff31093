"""Downloads that resume after an interruption; each file is checked before it gets its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import requests
from requests.exceptions import ChunkedEncodingError
from rich.progress import Progress, TaskID

from ser.utils.errors import UserError

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""
BACKOFF = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt; starts again whenever an attempt gets further than all before."""
LONGEST_WAIT = 60.0
"""A server that asks for a longer pause than this (seconds) ends the command."""
BLOCK = 2**14
"""Bytes written at a time; a lost connection loses less than this."""
CONNECTIONS = 8

AGAIN = "Run the same command again: it resumes where it stopped."
_WAITS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RemoteFile:
    """File on a server.

    Args:
        name: Path below the folder of the download.
        url: Address.
        size: Bytes, or None where the server generates the file for each request.
        checksum: ``md5:…`` or ``sha256:…``, or None where the content of the file is checked instead.
    """

    name: str
    url: str
    size: int | None
    checksum: str | None


def obtain(files: Sequence[RemoteFile], folder: Path, progress: Progress, advice: str = "") -> None:
    """Download the missing files over a few connections, resuming interrupted ones.

    Args:
        files: Files to download.
        folder: Folder for the files, created if missing; incomplete files are ``NAME.part``.
        progress: Progress display, which gets a bar.
        advice: Advice to the user if a server does not deliver.

    Raises:
        UserError: If a server does not deliver, or a checksum differs.
    """
    connections = _Connections(progress.add_task("downloading", total=_total(files)), progress, advice)
    for parent in {(folder / file.name).parent for file in files}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            pending = [pool.submit(connections.obtain, file, folder) for file in files]
            for future in as_completed(pending):
                future.result()
        except BaseException:  # also Ctrl-C: running downloads stop at their next block and keep their .part file
            connections.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _total(files: Sequence[RemoteFile]) -> int | None:
    sizes = [file.size for file in files if file.size is not None]
    return sum(sizes) if len(sizes) == len(files) else None


@dataclass
class _Connections:
    """One session per thread, and the state that the threads share."""

    bar: TaskID
    progress: Progress
    advice: str
    stop: threading.Event = field(default_factory=threading.Event)
    local: threading.local = field(default_factory=threading.local)

    def obtain(self, file: RemoteFile, folder: Path) -> None:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            # If the transfer were compressed, byte ranges would not be those of the file.
            self.local.session.headers.update({"User-Agent": "ambivalent", "Accept-Encoding": "identity"})
        transfer = _Transfer(
            file,
            folder / f"{file.name}.part",
            self.local.session,
            self.stop,
            advance=lambda count: self.progress.advance(self.bar, count),
            advice=self.advice,
        )
        try:
            pooch.retrieve(file.url, file.checksum, fname=file.name, path=folder, downloader=transfer)
        except ValueError as error:  # pooch's error for a checksum that differs; its text has both
            raise UserError(f"{file.url} is not the file that was published. {error}") from error
        transfer.count_to(file.size or transfer.position)


def _reason(error: BaseException) -> str:
    """Return why a transfer failed; of a connection that failed, the first cause, which the others only wrap."""
    if not isinstance(error, requests.ConnectionError):
        return str(error)
    while error.__context__ is not None:
        error = error.__context__
    return f"no connection ({getattr(error, 'strerror', None) or error})"


class _TransientError(Exception):
    """Error that may disappear after a pause, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _StoppedError(Exception):
    """Stop because another download failed or the user interrupted."""


@dataclass
class _Transfer:
    """Downloader that pooch calls for one file: resumes a ``.part`` file with an HTTP range, and retries.

    pooch compares the checksum afterwards, which also finds a file that changed between two attempts.
    """

    file: RemoteFile
    part: Path
    session: requests.Session
    stop: threading.Event
    advance: Callable[[int], None]
    advice: str
    position: int = 0

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        furthest, failures, pause = self._held(), 0, 0.0
        while True:
            try:
                self._attempt(url)
                break
            except (_TransientError, requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
                fault: Exception = error
                pause = error.pause if isinstance(error, _TransientError) else 0.0
            except requests.RequestException as error:
                raise UserError(f"{url} cannot be downloaded: {error}.") from error
            failures = 0 if self._held() > furthest else failures + 1
            furthest = max(furthest, self._held())
            if failures > len(BACKOFF) or pause > LONGEST_WAIT:
                reason = f"{url} cannot be downloaded: {_reason(fault)}."
                raise UserError(f"{reason} {AGAIN} {self.advice}".rstrip()) from fault
            if self.stop.wait(max(pause, BACKOFF[max(failures, 1) - 1])):
                raise _StoppedError
        self.part.replace(output_file)

    def count_to(self, position: int) -> None:
        """Move the progress bar to a position in this file, in bytes."""
        self.advance(position - self.position)
        self.position = position

    def _held(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str) -> None:
        held, size = self._held(), self.file.size
        if size is not None and held == size:
            return
        if size is not None and held > size:
            held = 0
        headers = {"Range": f"bytes={held}-"} if held else {}
        with self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            self._check(response, held)
            if response.status_code != requests.codes.partial_content:
                held = 0
            self.count_to(held)
            with self.part.open("ab" if held else "wb") as sink:
                for block in response.iter_content(BLOCK):
                    if self.stop.is_set():
                        raise _StoppedError
                    sink.write(block)
                    self.count_to(self.position + len(block))
        if size is not None and self.position < size:
            raise _TransientError(f"the connection ended after {self.position} of {size} bytes")

    def _check(self, response: requests.Response, held: int) -> None:
        """Raise unless the response is the file, from its start or from the end of the ``.part`` file."""
        status = response.status_code
        answer = f"the server answers {status} {response.reason}"
        if status in _WAITS:
            wait = response.headers.get("Retry-After", "")
            pause = f" and asks for a pause of {wait} s" if wait.isdigit() else ""
            raise _TransientError(answer + pause, float(wait) if wait.isdigit() else 0.0)
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if status == requests.codes.requested_range_not_satisfiable or (status == 206 and not begins):
            self.part.unlink(missing_ok=True)
            raise _TransientError(f"{answer} to a request for the bytes from {held}")
        if status not in (requests.codes.ok, requests.codes.partial_content):
            raise UserError(f"{response.url}: {answer}. Has it moved? {self.advice}".rstrip())
