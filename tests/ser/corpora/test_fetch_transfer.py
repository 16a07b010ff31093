"""Downloads that are cut, stalled, killed, refused or wrong resume or end with one message."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser.corpora.fetch import DOWNLOADS
from ser.utils import download as download_module
from ser.utils.errors import UserError
from tests.ser.corpora.download_server import (
    ARCHIVE,
    CLIPS,
    Failure,
    Fetched,
    Serve,
    Server,
    partial_file,
    tree,
)


def test_a_cut_connection_resumes_from_the_byte_where_it_was_cut(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    half = len(content) // 2000 * 1000
    server.failures[ARCHIVE] = [Failure(stop_after=half), Failure(stop_after=1000)]
    fetched()
    assert server.ranges() == [None, f"bytes={half}-", f"bytes={half + 1000}-"]
    assert server.served == len(content)
    assert tree(tmp_path / "data") == CLIPS


def test_any_number_of_cuts_is_survived_as_long_as_bytes_arrive(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    server.failures[ARCHIVE] = [Failure(stop_after=4000) for _ in range(13)]
    fetched()
    assert server.served == len(content)
    assert len(server.seen) == 14


def test_a_cut_is_noticed_where_the_server_tells_no_length(server: Server, serve: Serve, fetched: Fetched) -> None:
    content = serve()
    server.tells_length = False
    server.failures[ARCHIVE] = [Failure(stop_after=5000)]
    fetched()
    assert server.ranges() == [None, "bytes=5000-"]
    assert server.served == len(content)


def test_a_dead_server_ends_the_command_and_the_next_one_resumes(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    server.failures[ARCHIVE] = [Failure(stop_after=7000), *[Failure(stop_after=0) for _ in range(6)]]
    with pytest.raises(UserError, match=r"Run the same command again: it resumes where it stopped\."):
        fetched()
    assert len(server.seen) == 6
    assert partial_file(tmp_path / "data").read_bytes() == content[:7000]
    assert tree(tmp_path / "data") == {}
    server.failures.clear()
    server.seen.clear()
    fetched()
    assert server.ranges() == ["bytes=7000-"]
    assert server.served == len(content)
    assert tree(tmp_path / "data") == CLIPS


def test_a_server_that_nobody_answers_for_is_reported(server: Server, serve: Serve, fetched: Fetched) -> None:
    serve()
    archive = replace(DOWNLOADS["ravdess"].archive, url="http://127.0.0.1:9/archive.zip")
    DOWNLOADS["ravdess"] = replace(DOWNLOADS["ravdess"], archive=archive)
    with pytest.raises(UserError, match=r"refused.*Run the same command again"):
        fetched()


def test_a_stalled_connection_resumes_after_the_timeout(
    server: Server, serve: Serve, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = serve()
    monkeypatch.setattr(download_module, "TIMEOUT", 0.2)
    server.failures[ARCHIVE] = [Failure(stop_after=7000, then=lambda: time.sleep(0.6))]
    fetched()
    assert server.ranges() == [None, "bytes=7000-"]
    assert server.served == len(content)


def test_a_killed_process_leaves_its_part_to_the_next(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    gone = threading.Event()
    server.failures[ARCHIVE] = [Failure(stop_after=len(content) // 2, then=gone.wait)]
    code = (
        "from ser.corpora.fetch import *; from ser.utils.download import RemoteFile; "
        f"DOWNLOADS['ravdess'] = {DOWNLOADS['ravdess']!r}; fetch('ravdess', {str(tmp_path / 'data')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not partial_file(tmp_path / "data").exists() or not partial_file(tmp_path / "data").stat().st_size:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        gone.set()
    held = partial_file(tmp_path / "data").stat().st_size
    fetched()
    assert server.ranges() == [None, f"bytes={held}-"]
    assert tree(tmp_path / "data") == CLIPS


def test_ctrl_c_keeps_the_part(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve(dict(CLIPS) | {"Actor_01/long.wav": np.random.default_rng(0).bytes(400_000)})
    pressed = threading.Event()

    def press() -> None:
        while not partial_file(tmp_path / "data").exists() or not partial_file(tmp_path / "data").stat().st_size:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)
        pressed.wait(0.2)

    server.failures[ARCHIVE] = [Failure(stop_after=len(content) // 2, then=press)]
    with pytest.raises(KeyboardInterrupt):
        fetched()
    held = partial_file(tmp_path / "data").stat().st_size
    assert 0 < held <= len(content) // 2
    fetched()
    assert server.ranges() == [None, f"bytes={held}-"]


@pytest.mark.parametrize("lie", [None, "bytes 0-5/6"], ids=["no ranges", "another range than asked for"])
def test_a_server_without_ranges_restarts_the_download(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, lie: str | None
) -> None:
    content = serve()
    server.knows_ranges = lie is not None
    server.content_range = lie
    server.failures[ARCHIVE] = [Failure(stop_after=9000)]
    fetched()
    assert tree(tmp_path / "data") == CLIPS
    assert server.served >= 9000 + len(content)


def test_a_part_that_is_too_long_is_dropped(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve()
    partial_file(tmp_path / "data").parent.mkdir(parents=True)
    partial_file(tmp_path / "data").write_bytes(content + b"more")
    fetched()
    assert server.ranges() == [None]
    assert tree(tmp_path / "data") == CLIPS


def test_a_part_that_is_whole_is_not_asked_for(server: Server, serve: Serve, fetched: Fetched, tmp_path: Path) -> None:
    content = serve()
    partial_file(tmp_path / "data").parent.mkdir(parents=True)
    partial_file(tmp_path / "data").write_bytes(content)
    fetched()
    assert server.seen == []
    assert tree(tmp_path / "data") == CLIPS


def test_a_wrong_checksum_is_reported_with_both_and_leaves_nothing(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    login_page = b"<html>Please log in.</html>".ljust(len(content))
    server.files[ARCHIVE] = login_page
    with pytest.raises(UserError) as error:
        fetched()
    assert hashlib.md5(content).hexdigest() in str(error.value)
    assert hashlib.md5(login_page).hexdigest() in str(error.value)
    assert not partial_file(tmp_path / "data").exists()
    assert tree(tmp_path / "data") == {}
    server.files[ARCHIVE] = content
    fetched()
    assert tree(tmp_path / "data") == CLIPS


def test_a_file_that_changed_between_two_attempts_is_caught(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path
) -> None:
    content = serve()
    partial_file(tmp_path / "data").parent.mkdir(parents=True)
    partial_file(tmp_path / "data").write_bytes(b"of another file")
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
    server.failures[ARCHIVE] = [Failure(status=status)]
    with pytest.raises(UserError, match=rf"archive\.zip: the server answers {status} .* Ask the authors\."):
        fetched()
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again_a_few_times(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, status: int
) -> None:
    serve()
    server.failures[ARCHIVE] = [Failure(status=status) for _ in range(4)]
    fetched()
    assert len(server.seen) == 5
    assert tree(tmp_path / "data") == CLIPS

    shutil.rmtree(tmp_path / "data")
    server.seen.clear()
    server.failures[ARCHIVE] = [Failure(status=status) for _ in range(9)]
    with pytest.raises(UserError, match=rf"the server answers {status} .*Run the same command again"):
        fetched()
    assert len(server.seen) == 5


def test_a_pause_that_the_server_asks_for_is_kept_or_told(server: Server, serve: Serve, fetched: Fetched) -> None:
    serve()
    server.failures[ARCHIVE] = [Failure(status=429, headers={"Retry-After": "1800"})]
    with pytest.raises(UserError, match="asks for a pause of 1800 s"):
        fetched()
    assert len(server.seen) == 1
    server.failures[ARCHIVE] = [Failure(status=503, headers={"Retry-After": "1"})]
    began = time.monotonic()
    fetched()
    assert time.monotonic() - began >= 1


def test_a_full_disk_is_reported_before_and_while(
    server: Server, serve: Serve, fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))  # type: ignore[attr-defined]
        with pytest.raises(UserError, match=r"6\d\.\d kB more are needed at .*; 1\.0 kB are free"):
            fetched()
    assert server.seen == []
    partial_file(tmp_path / "data").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"is full\. Free some space\. Run the same command again"):
        fetched()
    assert tree(tmp_path / "data") == {}
