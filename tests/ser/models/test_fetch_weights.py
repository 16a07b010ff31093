"""Download of weights from an HTTP server on loopback. The transfer itself is tested in test_fetch.py."""

import hashlib
import io
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from ser.corpora.fetch import RemoteFile
from ser.models import MODELS
from ser.models import __main__ as command
from ser.models.fetch import WEIGHTS, fetch
from ser.utils.errors import UserError

CONTENT = bytes(range(256)) * 300


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the files of the server."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "Cnn6.pth").write_bytes(CONTENT)
    return tmp_path / "served"


@pytest.fixture(autouse=True)
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{http.server_port}/Cnn6.pth"
    file = RemoteFile("Cnn6.pth", url, len(CONTENT), f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    monkeypatch.setitem(WEIGHTS, "cnn6", replace(WEIGHTS["cnn6"], file=file))
    yield
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "weights.pth"


def output_of(name: str, target: Path) -> str:
    output = io.StringIO()
    fetch(name, target, Console(file=output, width=200))
    return output.getvalue()


def test_weights_are_downloaded_with_the_command_that_uses_them(target: Path) -> None:
    text = output_of("cnn6", target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["weights.pth"]
    assert "https://zenodo.org/records/3987831" in text
    assert "CC BY 4.0" in text
    assert f"--set model.name=cnn6 model.front_end=panns_32k model.pretrained={target}" in text


def test_in_a_folder_they_have_their_published_name(tmp_path: Path) -> None:
    assert fetch("cnn6", tmp_path, Console(file=io.StringIO())) == tmp_path / "Cnn6.pth"
    assert (tmp_path / "Cnn6.pth").read_bytes() == CONTENT


def test_a_complete_file_is_not_downloaded_again(target: Path, folder: Path) -> None:
    output_of("cnn6", target)
    (folder / "Cnn6.pth").unlink()
    assert "is complete and has the published checksum" in output_of("cnn6", target)


def test_another_file_of_the_same_path_is_left_alone(target: Path) -> None:
    target.parent.mkdir()
    target.write_text("mine")
    with pytest.raises(UserError, match=r"weights\.pth' exists and is not Cnn6\.pth"):
        output_of("cnn6", target)
    assert target.read_text() == "mine"


def test_another_content_is_refused_with_both_checksums(target: Path, folder: Path) -> None:
    (folder / "Cnn6.pth").write_bytes(CONTENT[::-1])
    with pytest.raises(UserError, match=r"not the file that was published.*md5.*"):
        output_of("cnn6", target)
    assert not target.exists()


def test_a_missing_file_is_reported_with_its_page(target: Path, folder: Path) -> None:
    (folder / "Cnn6.pth").unlink()
    with pytest.raises(UserError, match=r"404.*See https://zenodo\.org/records/3987831"):
        output_of("cnn6", target)


def test_two_downloads_at_once_are_refused(target: Path) -> None:
    work = target.parent / ".fetching-cnn6"
    work.mkdir(parents=True)
    with FileLock(work / "lock"), pytest.raises(UserError, match=r"another process is downloading 'cnn6'"):
        output_of("cnn6", target)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        output_of("cnn6", tmp_path / "file" / "weights.pth")


def test_a_misspelt_name_is_reported_with_the_nearest(target: Path) -> None:
    with pytest.raises(UserError, match=r"unknown weights 'cnn14_16'. Did you mean 'cnn14_16k'"):
        output_of("cnn14_16", target)


def test_every_published_file_belongs_to_a_model_and_one_of_its_front_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert set(WEIGHTS) == {"cnn14_16k", "cnn14", "cnn10", "cnn6"}
    for weights in WEIGHTS.values():
        assert weights.front_end in MODELS[weights.model].front_ends
        rate = {"panns_16k": "16k", "panns_32k": "mAP"}[weights.front_end]
        assert weights.file.name.split("_")[1].startswith(rate)
        assert weights.file.name.partition("_")[0].lower() == weights.model
        assert weights.file.url.startswith("https://zenodo.org/records/3987831/files/")
        assert len(weights.file.checksum.partition("md5:")[2]) == 32


def run_command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["models", *words])
    return command.main()


def test_the_command_line_takes_a_name_and_an_output(monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    assert run_command(monkeypatch, "fetch", "cnn6", "--output", str(target)) == 0
    assert target.read_bytes() == CONTENT


def test_the_models_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert run_command(monkeypatch, "list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines.keys() == {"model", *MODELS}
    assert "79,673,792" in lines["cnn14"]  # 80,753,615 − 2,049 · 527
    assert "cnn14_16k, cnn14" in lines["cnn14"]
    assert "waveform_16k" in lines["wavlm_base"]
