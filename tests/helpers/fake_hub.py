"""A small Hugging Face hub on loopback, for the real client of huggingface_hub."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

TOKEN = "hf_of_a_member"


@dataclass
class Repository:
    """A model on the hub.

    Args:
        files: Name and content.
        gated: Whether only a request with ``TOKEN`` may read the files.
        breaks: Names whose next download ends in the middle.
    """

    files: dict[str, bytes]
    gated: bool = False
    breaks: set[str] = field(default_factory=set)

    @property
    def commit(self) -> str:
        return hashlib.sha1(b"".join(name.encode() + self.files[name] for name in sorted(self.files))).hexdigest()


@dataclass
class FakeHub:
    """Models by name, and the requests for files that were answered: method, name of the file, range."""

    models: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    status: int = 200
    address: str = ""

    def add(self, name: str, folder: Path, **more: bool) -> Repository:
        """Add a model with the files of a folder."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.models[name] = Repository(files, **more)
        return self.models[name]

    def downloads(self) -> list[str]:
        """Return the names of the files that were downloaded, sorted."""
        return sorted(file for method, file, _ in self.requests if method == "GET")


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if self.hub.status != HTTPStatus.OK:
            return self._fail(HTTPStatus(self.hub.status), "")
        name = next((name for name in self.hub.models if f"/{name}/" in f"{path}/"), None)
        if name is None:
            return self._fail(HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        repository = self.hub.models[name]
        kind, _, rest = path.removeprefix("/api/models").removeprefix(f"/{name}").lstrip("/").partition("/")
        revision, _, file = rest.partition("/")
        if revision not in ("", "main", repository.commit):
            return self._fail(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        sizes = {each: len(content) for each, content in repository.files.items()}
        if kind == "resolve":
            return self._file(repository, file)
        if kind == "tree":
            return self._json([{"type": "file", "path": each, "size": sizes[each], "oid": each} for each in sizes])
        siblings = [{"rfilename": each, "size": sizes[each], "blobId": each} for each in sizes]
        return self._json({"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings})

    def _file(self, repository: Repository, file: str) -> None:
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(HTTPStatus.FORBIDDEN, "GatedRepo")
        if file not in repository.files:
            return self._fail(HTTPStatus.NOT_FOUND, "EntryNotFound")
        whole = repository.files[file]
        span = self.headers.get("Range", "")
        begin = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        self.hub.requests.append((self.command, file, span))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK)
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Content-Length", str(len(whole) - begin))
        if span:
            self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if self.command == "GET":
            end = len(whole)
            if file in repository.breaks:
                repository.breaks.discard(file)
                end = begin + (end - begin) // 2
            self.wfile.write(whole[begin:end])

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: HTTPStatus, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run a hub without models, which huggingface_hub uses in this process, with an empty cache.

    Args:
        cache: Folder of the cache.
        monkeypatch: Restores the library's settings, which it reads from the environment on import.
    """
    from huggingface_hub import constants

    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
