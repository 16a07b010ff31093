"""Downloads, against a real HTTP server on loopback that cuts, stalls, lies and refuses."""

import hashlib
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from ser.corpora import load
from ser.corpora.fetch import DOWNLOADS, NOT_FETCHED, Download, FetchOptions, RemoteFile, fetch
from ser.utils import download as module
from ser.utils.command_line import parse
from ser.utils.errors import UserError

ARCHIVE = "/archive.zip"


@dataclass
class Fault:
    """What the server does instead of answering well: once."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    then: Callable[[], object] = lambda: None


@dataclass
class Server:
    """Serves bytes with ranges, counts what it has sent, and misbehaves on demand."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)
    served: int = 0
    knows_ranges: bool = True
    tells_length: bool = True
    content_range: str | None = None
    before: Callable[[str], object] = lambda _: None
    url: str = ""

    def ranges(self, path: str = ARCHIVE) -> list[str | None]:
        return [asked for name, asked in self.seen if name == path]


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
                fault = state.faults[self.path].pop(0) if state.faults[self.path] else Fault()
            state.before(self.path)
            if fault.status is not None or self.path not in state.files:
                self.send_response(fault.status or 404)
                for name, value in fault.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            body = state.files[self.path]
            begin = 0
            if self.headers["Range"] and state.knows_ranges:
                begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if begin < len(body) else 416)
                told = state.content_range or f"bytes {begin}-{len(body) - 1}/{len(body)}"
                self.send_header("Content-Range", told)
            else:
                self.send_response(200)
            sent = body[begin : len(body) if fault.stop_after is None else begin + fault.stop_after]
            if state.tells_length:
                self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            self.wfile.write(sent)
            self.wfile.flush()
            with lock:
                state.served += len(sent)
            fault.then()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client has gone away, as some tests have it

    # A proxy named in the environment is for other hosts than this one.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(module, "BACKOFF", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setattr(module, "BLOCK", 1000)
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
    """Fetches the test's corpus, and returns what was printed."""

    def call() -> str:
        output = io.StringIO()
        assert fetch("ravdess", tmp_path / "data", Console(file=output, width=200)) == tmp_path / "data"
        return output.getvalue()

    return call


CLIPS = {
    f"Actor_{actor:02}/03-01-{emotion:02}-01-01-01-{actor:02}.wav": np.random.default_rng(actor * 10 + emotion).bytes(
        10_000
    )
    for actor in (1, 2)
    for emotion in (1, 3, 5)
}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def serve(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Puts an archive on the server, and makes it what "ravdess" is downloaded from."""

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


def tree(root: Path) -> dict[str, bytes]:
    """What is below the root, less what is hidden there."""
    found = [path for path in root.rglob("*") if path.is_file()]
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


def part(root: Path) -> Path:
    return root / ".fetching-ravdess" / "archive.zip.part"


Fetched = Callable[[], str]
Serve = Callable[..., bytes]


def test_a_corpus_is_downloaded_once_checked_unpacked_and_loads(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    output = fetched()
    assert tree(tmp_path / "data") == CLIPS
    assert server.served == len(content)
    assert server.ranges() == [None]
    assert server.encodings == {"identity"}
    assert not (tmp_path / "data" / ".fetching-ravdess").exists()
    assert len(load("ravdess", tmp_path / "data")) == len(CLIPS)
    lines = output.splitlines()
    assert re.fullmatch(r"Test corpus: https://page\.example, 6\d\.\d kB\. Free\.", lines[0])
    assert lines[-1] == f"Next: python -m ser.corpora describe ravdess --root {tmp_path / 'data'}"


def test_a_complete_corpus_is_not_asked_for_again_and_a_gap_is_filled(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    serve()
    fetched()
    assert "nothing to fetch" in fetched()
    assert len(server.seen) == 1
    (tmp_path / "data" / next(iter(CLIPS))).unlink()
    assert "nothing to fetch" not in fetched()
    assert tree(tmp_path / "data") == CLIPS


def test_a_new_version_of_the_corpus_is_fetched(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve()
    fetched()
    changed = dict.fromkeys(CLIPS, b"x" * 10_000)
    serve(changed)
    fetched()
    assert tree(tmp_path / "data") == changed


def test_a_record_that_cannot_be_read_counts_as_none(serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve()
    for text in ("", "[]", '{"version": "md5:' + hashlib.md5(content).hexdigest() + '", "files": 3}'):
        fetched()
        (tmp_path / "data" / ".fetched-ravdess.json").write_text(text)
        assert "nothing to fetch" not in fetched()


def test_a_cut_connection_goes_on_from_the_byte_where_it_was_cut(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    half = len(content) // 2000 * 1000
    server.faults[ARCHIVE] = [Fault(stop_after=half), Fault(stop_after=1000)]
    fetched()
    assert server.ranges() == [None, f"bytes={half}-", f"bytes={half + 1000}-"]
    assert server.served == len(content)
    assert tree(tmp_path / "data") == CLIPS


def test_any_number_of_cuts_is_survived_as_long_as_bytes_arrive(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    server.faults[ARCHIVE] = [Fault(stop_after=4000) for _ in range(13)]
    fetched()
    assert server.served == len(content)
    assert len(server.seen) == 14


def test_a_cut_is_noticed_where_the_server_tells_no_length(server: Server, serve: Serve, fetched: Fetched) -> None:
    content = serve()
    server.tells_length = False
    server.faults[ARCHIVE] = [Fault(stop_after=5000)]
    fetched()
    assert server.ranges() == [None, "bytes=5000-"]
    assert server.served == len(content)


def test_a_dead_server_ends_the_command_and_the_next_one_goes_on(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    server.faults[ARCHIVE] = [Fault(stop_after=7000), *[Fault(stop_after=0) for _ in range(6)]]
    with pytest.raises(UserError, match=r"Run the same command again: it goes on where it stopped\."):
        fetched()
    assert len(server.seen) == 6
    assert part(tmp_path / "data").read_bytes() == content[:7000]
    assert tree(tmp_path / "data") == {}
    server.faults.clear()
    server.seen.clear()
    fetched()
    assert server.ranges() == ["bytes=7000-"]
    assert server.served == len(content)
    assert tree(tmp_path / "data") == CLIPS


def test_a_server_that_nobody_answers_for_is_told(server: Server, serve: Serve, fetched: Fetched) -> None:
    serve()
    archive = replace(DOWNLOADS["ravdess"].archive, url="http://127.0.0.1:9/archive.zip")
    DOWNLOADS["ravdess"] = replace(DOWNLOADS["ravdess"], archive=archive)
    with pytest.raises(UserError, match=r"refused.*Run the same command again"):
        fetched()


def test_a_stalled_connection_goes_on_after_the_timeout(
    server: Server, serve: Serve, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = serve()
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.faults[ARCHIVE] = [Fault(stop_after=7000, then=lambda: time.sleep(0.6))]
    fetched()
    assert server.ranges() == [None, "bytes=7000-"]
    assert server.served == len(content)


def test_a_killed_process_leaves_its_part_to_the_next(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    gone = threading.Event()
    server.faults[ARCHIVE] = [Fault(stop_after=len(content) // 2, then=gone.wait)]
    code = (
        "from ser.corpora.fetch import *; from ser.utils.download import RemoteFile; "
        f"DOWNLOADS['ravdess'] = {DOWNLOADS['ravdess']!r}; fetch('ravdess', {str(tmp_path / 'data')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not part(tmp_path / "data").exists() or not part(tmp_path / "data").stat().st_size:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        gone.set()
    held = part(tmp_path / "data").stat().st_size
    fetched()
    assert server.ranges() == [None, f"bytes={held}-"]
    assert tree(tmp_path / "data") == CLIPS


def test_ctrl_c_keeps_the_part(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve(dict(CLIPS) | {"Actor_01/long.wav": np.random.default_rng(0).bytes(400_000)})
    pressed = threading.Event()

    def press() -> None:
        while not part(tmp_path / "data").exists() or not part(tmp_path / "data").stat().st_size:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)
        pressed.wait(0.2)

    server.faults[ARCHIVE] = [Fault(stop_after=len(content) // 2, then=press)]
    with pytest.raises(KeyboardInterrupt):
        fetched()
    held = part(tmp_path / "data").stat().st_size
    assert 0 < held <= len(content) // 2
    fetched()
    assert server.ranges() == [None, f"bytes={held}-"]


@pytest.mark.parametrize("lie", [None, "bytes 0-5/6"], ids=["no ranges", "another range than asked for"])
def test_a_server_without_ranges_makes_it_start_over(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, lie: str | None
) -> None:
    content = serve()
    server.knows_ranges = lie is not None
    server.content_range = lie
    server.faults[ARCHIVE] = [Fault(stop_after=9000)]
    fetched()
    assert tree(tmp_path / "data") == CLIPS
    assert server.served >= 9000 + len(content)


def test_a_part_that_is_too_long_is_dropped(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve()
    part(tmp_path / "data").parent.mkdir(parents=True)
    part(tmp_path / "data").write_bytes(content + b"more")
    fetched()
    assert server.ranges() == [None]
    assert tree(tmp_path / "data") == CLIPS


def test_a_part_that_is_whole_is_not_asked_for(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve()
    part(tmp_path / "data").parent.mkdir(parents=True)
    part(tmp_path / "data").write_bytes(content)
    fetched()
    assert server.seen == []
    assert tree(tmp_path / "data") == CLIPS


def test_a_wrong_checksum_is_told_with_both_and_leaves_nothing(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    login_page = b"<html>Please log in.</html>".ljust(len(content))
    server.files[ARCHIVE] = login_page
    with pytest.raises(UserError) as error:
        fetched()
    assert hashlib.md5(content).hexdigest() in str(error.value)
    assert hashlib.md5(login_page).hexdigest() in str(error.value)
    assert not part(tmp_path / "data").exists()
    assert tree(tmp_path / "data") == {}
    server.files[ARCHIVE] = content
    fetched()
    assert tree(tmp_path / "data") == CLIPS


def test_a_file_that_changed_between_two_attempts_is_caught(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    part(tmp_path / "data").parent.mkdir(parents=True)
    part(tmp_path / "data").write_bytes(b"of another file")
    with pytest.raises(UserError, match="is not the file that was published"):
        fetched()
    assert server.ranges() == ["bytes=15-"]
    fetched()
    assert server.ranges()[1:] == [None]
    assert server.served == 2 * len(content) - 15
    assert tree(tmp_path / "data") == CLIPS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_gives_the_advice(server: Server, serve: Serve, fetched: Fetched, status: int) -> None:
    serve(advice="Ask the authors.")
    server.faults[ARCHIVE] = [Fault(status=status)]
    with pytest.raises(UserError, match=rf"archive\.zip: the server answers {status} .* Ask the authors\."):
        fetched()
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again_a_few_times(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, status: int
) -> None:
    serve()
    server.faults[ARCHIVE] = [Fault(status=status) for _ in range(4)]
    fetched()
    assert len(server.seen) == 5
    assert tree(tmp_path / "data") == CLIPS

    shutil.rmtree(tmp_path / "data")
    server.seen.clear()
    server.faults[ARCHIVE] = [Fault(status=status) for _ in range(9)]
    with pytest.raises(UserError, match=rf"the server answers {status} .*Run the same command again"):
        fetched()
    assert len(server.seen) == 5


def test_a_pause_that_the_server_asks_for_is_kept_or_told(server: Server, serve: Serve, fetched: Fetched) -> None:
    serve()
    server.faults[ARCHIVE] = [Fault(status=429, headers={"Retry-After": "1800"})]
    with pytest.raises(UserError, match="asks for a pause of 1800 s"):
        fetched()
    assert len(server.seen) == 1
    server.faults[ARCHIVE] = [Fault(status=503, headers={"Retry-After": "1"})]
    began = time.monotonic()
    fetched()
    assert time.monotonic() - began >= 1


def test_a_full_disk_is_told_before_and_while(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))  # type: ignore[attr-defined]
        with pytest.raises(UserError, match=r"6\d\.\d kB more are needed at .*; 1\.0 kB are free"):
            fetched()
    assert server.seen == []
    part(tmp_path / "data").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"is full\. Make room\. Run the same command again"):
        fetched()
    assert tree(tmp_path / "data") == {}


def linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("Actor_01/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("Actor_01/link/passwd", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(
            zipped(dict(CLIPS) | {name: b"evil"})
            for name in ("../evil.wav", "Actor_01/../../evil.wav", "/tmp/evil.wav", "..\\evil.wav", "C:evil.wav")
        ),
        linked(),
    ],
    ids=["parent", "parent within", "absolute", "backslash", "drive", "link"],
)
def test_an_archive_that_would_write_elsewhere_is_refused(
    serve: Serve, fetched: Fetched, tmp_path: Path, content: bytes
) -> None:
    serve(content)
    with pytest.raises(UserError, match="could be written outside the corpus's folder"):
        fetched()
    assert tree(tmp_path) == {"data/.fetching-ravdess/lock": b""}


def test_an_interruption_while_unpacking_leaves_no_half_corpus(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    copied = []

    def copy(source: io.BytesIO, sink: io.BytesIO) -> None:
        sink.write(source.read(100))
        copied.append(sink)
        if len(copied) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", copy)
        with pytest.raises(KeyboardInterrupt):
            fetched()
    assert tree(tmp_path / "data") == {}
    fetched()
    assert tree(tmp_path / "data") == CLIPS
    assert len(server.seen) == 1


def test_only_the_corpus_is_unpacked_without_its_leading_folder(serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve(
        {"corpus/wav/a.wav": b"a", "corpus/video/a.flv": b"v", "other/wav/b.wav": b"b", "corpus/table.csv": b"t"},
        folder="corpus/",
        members=("wav/", "table.csv"),
    )
    fetched()
    assert tree(tmp_path / "data") == {"wav/a.wav": b"a", "table.csv": b"t"}


def test_files_of_the_user_are_left_alone(serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    (tmp_path / "data" / "Actor_01").mkdir(parents=True)
    (tmp_path / "data" / "Actor_01" / "notes.txt").write_text("mine")
    serve()
    fetched()
    assert tree(tmp_path / "data") == CLIPS | {"Actor_01/notes.txt": b"mine"}


@pytest.mark.parametrize("content", [b"<html>", zipped({"readme": b""}), zipped(CLIPS)[:-30]])
def test_an_archive_that_is_none_is_deleted_and_told(
    serve: Serve, fetched: Fetched, tmp_path: Path, content: bytes
) -> None:
    serve(content, members=("Actor_",), checked=False)
    with pytest.raises(UserError, match="cannot be unpacked and is deleted"):
        fetched()
    assert tree(tmp_path) == {"data/.fetching-ravdess/lock": b""}


def test_a_second_process_is_turned_away(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve()
    (tmp_path / "data" / ".fetching-ravdess").mkdir(parents=True)
    with (
        FileLock(tmp_path / "data" / ".fetching-ravdess" / "lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        fetched()
    assert server.seen == []


def test_a_root_that_is_no_folder_is_told(serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve()
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"corpus root .*data' cannot be used"):
        fetched()


# Git LFS: the archive holds pointers, and each file is downloaded by itself.

VOICES = {f"AudioWAV/{number}.wav": np.random.default_rng(number).bytes(3000 + number) for number in range(20)}
TABLES = {"VideoDemographics.csv": b"ActorID,Sex\n", "processedResults/tabulatedVotes.csv": b"A,D\n"}


def pointer(content: bytes) -> bytes:
    sha = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {len(content)}\n".encode()


@pytest.fixture
def serve_voices(server: Server, serve: Serve) -> None:
    stubs = {f"repo/{name}": pointer(content) for name, content in VOICES.items()}
    stubs |= {f"repo/{name}": content for name, content in TABLES.items()}
    corpus = sorted((VOICES | TABLES).items())
    lines = [f"{name} {hashlib.sha256(content).hexdigest()} {len(content)}\n" for name, content in corpus]
    serve(
        stubs | {"repo/VideoFlash/0.flv": pointer(b"video"), "repo/README.md": b"read me"},
        checked=False,
        folder="repo/",
        members=("AudioWAV/", *TABLES),
        content=f"{server.url}/media/",
        listing=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )
    server.files |= {f"/media/{name}": content for name, content in VOICES.items()}


@pytest.mark.usefixtures("serve_voices")
def test_pointers_are_followed_over_several_connections(server: Server, fetched: Fetched, tmp_path: Path) -> None:
    # Each answer waits for a second request: over one connection after the other it would break.
    together = threading.Barrier(2)
    server.before = lambda path: together.wait(10) if path.startswith("/media/") else None
    fetched()
    assert tree(tmp_path / "data") == VOICES | TABLES
    assert sorted(server.seen) == sorted([(ARCHIVE, None), *((f"/media/{name}", None) for name in VOICES)])
    assert "nothing to fetch" in fetched()
    assert len(server.seen) == 1 + len(VOICES)


@pytest.mark.usefixtures("serve_voices")
def test_only_missing_and_wrong_voices_are_downloaded(server: Server, fetched: Fetched, tmp_path: Path) -> None:
    fetched()
    (tmp_path / "data" / ".fetched-ravdess.json").unlink()
    (tmp_path / "data" / "AudioWAV" / "3.wav").unlink()
    (tmp_path / "data" / "AudioWAV" / "4.wav").write_bytes(b"x" * 3004)
    server.seen.clear()
    fetched()
    assert sorted(server.seen) == [(ARCHIVE, None), ("/media/AudioWAV/3.wav", None), ("/media/AudioWAV/4.wav", None)]
    assert tree(tmp_path / "data") == VOICES | TABLES


@pytest.mark.usefixtures("serve_voices")
def test_a_voice_that_is_refused_ends_the_command_and_the_next_one_goes_on(
    server: Server, fetched: Fetched, tmp_path: Path
) -> None:
    server.faults["/media/AudioWAV/7.wav"] = [Fault(status=403)]
    with pytest.raises(UserError, match=r"7\.wav: the server answers 403"):
        fetched()
    assert tree(tmp_path / "data") == {}
    first = len(server.seen)
    there = {path.name for path in (tmp_path / "data" / ".fetching-ravdess" / "files" / "AudioWAV").glob("*.wav")}
    fetched()
    assert {Path(path).name for path, _ in server.seen[first:]} == {Path(name).name for name in VOICES} - there
    assert tree(tmp_path / "data") == VOICES | TABLES


@pytest.mark.usefixtures("serve_voices")
def test_a_voice_that_is_cut_goes_on_and_one_that_is_wrong_is_told(
    server: Server, fetched: Fetched, tmp_path: Path
) -> None:
    resumed = threading.Event()

    def keep_order(path: str) -> None:
        if path == "/media/AudioWAV/5.wav" and len(server.ranges(path)) == 2:
            resumed.set()
        if path == "/media/AudioWAV/6.wav":
            resumed.wait(10)

    server.before = keep_order
    server.faults["/media/AudioWAV/5.wav"] = [Fault(stop_after=1000)]
    server.files["/media/AudioWAV/6.wav"] = pointer(VOICES["AudioWAV/6.wav"]).ljust(3006)
    with pytest.raises(UserError, match=r"6\.wav is not the file that was published"):
        fetched()
    server.files["/media/AudioWAV/6.wav"] = VOICES["AudioWAV/6.wav"]
    fetched()
    assert server.ranges("/media/AudioWAV/5.wav")[:2] == [None, "bytes=1000-"]
    assert tree(tmp_path / "data") == VOICES | TABLES


@pytest.mark.usefixtures("serve_voices")
def test_a_listing_other_than_the_recorded_one_is_refused(server: Server, fetched: Fetched, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(server.files[ARCHIVE])) as archive:
        stubs = {name: archive.read(name) for name in archive.namelist()}
    for changed in (pointer(b"another"), b"version https://git-lfs.github.com/spec/v1\nsize many\n", b""):
        server.files[ARCHIVE] = zipped(stubs | {"repo/AudioWAV/3.wav": changed})
        with pytest.raises(UserError, match=r"its 22 files list as sha256:.*, expected sha256:"):
            fetched()
    assert {path for path, _ in server.seen} == {ARCHIVE}
    assert tree(tmp_path / "data") == {}


# Names, options, and what is recorded.


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("iemocap", "https://sail.usc.edu/iemocap/iemocap_release.htm"),
        ("iemocap-4", "https://sail.usc.edu/iemocap/iemocap_release.htm"),
        ("msp-podcast", "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html"),
        ("esd", "https://github.com/HLTSingapore/Emotional-Speech-Data"),
        ("synthetic", "nothing to fetch"),
        ("table", "nothing to fetch"),
        ("ravdes", "Did you mean 'ravdess'"),
    ],
)
def test_a_corpus_that_cannot_be_fetched_is_told_with_the_way_to_it(name: str, way: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(way)):
        fetch(name, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_command_line_takes_a_name_and_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch", "emodb", "--root", "data"])
    assert parse(FetchOptions) == FetchOptions("emodb", Path("data"))


@pytest.mark.parametrize("name", ["ravdess", "emodb", "crema-d"])
def test_what_is_recorded_pins_every_byte(name: str) -> None:
    download = DOWNLOADS[name]
    assert download.archive.url.startswith("https://")
    if download.content is None:
        assert re.fullmatch(r"md5:[0-9a-f]{32}", download.archive.checksum or "")
        assert download.archive.size == download.size
    else:
        assert re.fullmatch(r"[0-9a-f]{64}", download.listing or "")
        (commit,) = re.findall(r"[0-9a-f]{40}", download.content)
        assert commit in download.archive.url
        assert commit in download.folder
    assert name not in NOT_FETCHED
