"""HTTP server on loopback that stands for the one of published weights."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ser.models.fetch import WEIGHTS
from ser.utils.download import RemoteFile


@contextmanager
def serving(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let published weights be those of a file, and yield the requests for it.

    Args:
        name: Name of the weights, a key of ``WEIGHTS``.
        path: The file, from which size and checksum are taken; it may be deleted or changed later.
        monkeypatch: Pytest's.
    """
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            requests.append(self.path)
            super().do_GET()

    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(path.parent)))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    content = path.read_bytes()
    url = f"http://127.0.0.1:{http.server_port}/{path.name}"
    file = RemoteFile(path.name, url, len(content), f"md5:{hashlib.md5(content).hexdigest()}")
    monkeypatch.setitem(WEIGHTS, name, replace(WEIGHTS[name], file=file))
    yield requests
    http.shutdown()
    http.server_close()
    thread.join()
