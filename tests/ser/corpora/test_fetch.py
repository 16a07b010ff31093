"""What a fetched corpus consists of: complete, verified, unpacked safely; names, options and records."""

import hashlib
import io
import re
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from ser.corpora import load
from ser.corpora.fetch import DOWNLOADS, NOT_FETCHED, FetchOptions, fetch
from ser.utils.command_line import parse
from ser.utils.command_names import command_line
from ser.utils.errors import UserError
from tests.ser.corpora.download_server import (
    CLIPS,
    Fetched,
    Serve,
    Server,
    tree,
    zipped,
)


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
    assert lines[-1] == f"Next: {command_line('ser.corpora')} describe ravdess --root {tmp_path / 'data'}"


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
def test_an_archive_that_is_none_is_deleted_and_reported(
    serve: Serve, fetched: Fetched, tmp_path: Path, content: bytes
) -> None:
    serve(content, members=("Actor_",), checked=False)
    with pytest.raises(UserError, match="cannot be unpacked and was deleted"):
        fetched()
    assert tree(tmp_path) == {"data/.fetching-ravdess/lock": b""}


def test_a_second_process_is_refused(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve()
    (tmp_path / "data" / ".fetching-ravdess").mkdir(parents=True)
    with (
        FileLock(tmp_path / "data" / ".fetching-ravdess" / "lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        fetched()
    assert server.seen == []


def test_a_root_that_is_no_folder_is_reported(serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    serve()
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"corpus root .*data' cannot be used"):
        fetched()


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
def test_a_corpus_that_cannot_be_fetched_is_reported_with_the_way_to_it(name: str, way: str, tmp_path: Path) -> None:
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
