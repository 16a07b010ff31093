"""Downloads against a real HTTP server on loopback."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from ser.corpora.fetch import DOWNLOADS, Download, fetch
from ser.utils import download as download_module
from ser.utils.download import RemoteFile
from tests.ser.corpora.download_server import ARCHIVE, CLIPS, Failure, Server, zipped


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            with lock:
                state.seen.append((self.path, self.headers["Range"]))
                state.encodings.add(self.headers["Accept-Encoding"])
                failure = state.failures[self.path].pop(0) if state.failures[self.path] else Failure()
            state.before(self.path)
            if failure.status is not None or self.path not in state.files:
                self.send_response(failure.status or 404)
                for name, value in failure.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            body = state.files[self.path]
            begin = 0
            if self.headers["Range"] and state.knows_ranges:
                begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if begin < len(body) else 416)
                content_range = state.content_range or f"bytes {begin}-{len(body) - 1}/{len(body)}"
                self.send_header("Content-Range", content_range)
            else:
                self.send_response(200)
            sent = body[begin : len(body) if failure.stop_after is None else begin + failure.stop_after]
            if state.tells_length:
                self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            self.wfile.write(sent)
            self.wfile.flush()
            with lock:
                state.served += len(sent)
            failure.then()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client has gone away, as some tests have it

    # A proxy in the environment must not be used for this host.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(download_module, "BACKOFF", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setattr(download_module, "BLOCK", 1000)
    http = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def fetched(tmp_path: Path) -> Callable[[], str]:
    """Function that fetches the test's corpus and returns what was printed."""

    def call() -> str:
        output = io.StringIO()
        assert fetch("ravdess", tmp_path / "data", Console(file=output, width=200)) == tmp_path / "data"
        return output.getvalue()

    return call


@pytest.fixture
def serve(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Function that puts an archive on the server as the download of "ravdess"."""

    def place(files: dict[str, bytes] | bytes = CLIPS, **settings: object) -> bytes:
        content = files if isinstance(files, bytes) else zipped(files)
        server.files[ARCHIVE] = content
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        archive = RemoteFile("archive.zip", server.url + ARCHIVE, len(content), checksum)
        if settings.pop("checked", True) is False:
            archive = replace(archive, size=None, checksum=None)
        download = Download("Test corpus", "https://page.example", "Free", len(content), archive)
        monkeypatch.setitem(DOWNLOADS, "ravdess", replace(download, **settings))  # type: ignore[arg-type]
        return content

    return place
