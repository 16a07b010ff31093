"""Archives with Git LFS pointers, whose files are downloaded one by one."""

import hashlib
import io
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ser.utils.errors import UserError
from tests.ser.corpora.download_server import (
    ARCHIVE,
    Failure,
    Fetched,
    Serve,
    Server,
    tree,
    zipped,
)

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
    # Each answer waits for a second request, so that downloading one file after the other fails.
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
def test_a_voice_that_is_refused_ends_the_command_and_the_next_one_resumes(
    server: Server, fetched: Fetched, tmp_path: Path
) -> None:
    server.failures["/media/AudioWAV/7.wav"] = [Failure(status=403)]
    with pytest.raises(UserError, match=r"7\.wav: the server answers 403"):
        fetched()
    assert tree(tmp_path / "data") == {}
    first = len(server.seen)
    there = {path.name for path in (tmp_path / "data" / ".fetching-ravdess" / "files" / "AudioWAV").glob("*.wav")}
    fetched()
    assert {Path(path).name for path, _ in server.seen[first:]} == {Path(name).name for name in VOICES} - there
    assert tree(tmp_path / "data") == VOICES | TABLES


@pytest.mark.usefixtures("serve_voices")
def test_a_voice_that_is_cut_resumes_and_one_that_is_wrong_is_reported(
    server: Server, fetched: Fetched, tmp_path: Path
) -> None:
    resumed = threading.Event()

    def keep_order(path: str) -> None:
        if path == "/media/AudioWAV/5.wav" and len(server.ranges(path)) == 2:
            resumed.set()
        if path == "/media/AudioWAV/6.wav":
            resumed.wait(10)

    server.before = keep_order
    server.failures["/media/AudioWAV/5.wav"] = [Failure(stop_after=1000)]
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
        with pytest.raises(UserError, match=r"the listing of its 22 files is sha256:.*, expected sha256:"):
            fetched()
    assert {path for path, _ in server.seen} == {ARCHIVE}
    assert tree(tmp_path / "data") == {}
