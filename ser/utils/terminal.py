"""Standard output and error that cannot end a command: closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


class _Output(io.FileIO):
    """File descriptor of which no write fails: after the first error, what is written is dropped.

    Args:
        descriptor: File descriptor, which stays open.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._is_terminal = self.isatty()
        self.failure: OSError | None = None

    def write(self, content: ReadableBuffer) -> int:
        """Write bytes, or drop them."""
        try:
            while (written := super().write(content)) is None:  # another program has made it non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            # A closed pipe or terminal means that nobody reads any more.
            if error.errno != errno.EPIPE and not self._is_terminal:
                self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(content).nbytes


class Terminal:
    """Streams of a command.

    Args:
        output: Standard output, None where it is not a file, as in tests.
    """

    def __init__(self, output: _Output | None) -> None:
        self._output = output

    @property
    def failure(self) -> OSError | None:
        """Return why part of the output is lost; None if nothing is, or if its reader has closed it."""
        sys.stdout.flush()
        return None if self._output is None else self._output.failure


@contextmanager
def lasting_terminal() -> Iterator[Terminal]:
    """Replace ``sys.stdout`` and ``sys.stderr`` for a while by streams whose ``write`` never fails.

    What cannot be written is dropped, so that a study continues if its output is piped to ``head`` or its terminal is
    closed; a character that the encoding lacks is written as an escape, its code point.
    """
    # Else the next file that is opened, such as a database, takes the place of a closed standard stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)
    before = sys.stdout, sys.stderr
    output, sys.stdout = _lasting(sys.stdout, STANDARD_OUTPUT)
    _, sys.stderr = _lasting(sys.stderr, STANDARD_ERROR)
    try:
        yield Terminal(output)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None, standard: int) -> tuple[_Output | None, TextIO]:
    """Return a stream that writes where another one does; Python's is None if it was closed from the start."""
    if stream is None:
        raw = _Output(standard)
        return raw, io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return None, stream
    try:
        raw = _Output(stream.fileno())
    except OSError:  # a buffer of the tests
        return None, stream
    stream.flush()
    return raw, io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
