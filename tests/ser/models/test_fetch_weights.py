"""Download of weights from an HTTP server on loopback. The transfer itself is tested in test_fetch.py."""

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from ser.models import MODELS
from ser.models import __main__ as command
from ser.models.fetch import WEIGHTS, fetch
from ser.utils import download
from ser.utils.errors import UserError
from tests.helpers.weights_server import serving

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the files of the server."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "Cnn6.pth").write_bytes(CONTENT)
    return tmp_path / "served"


@pytest.fixture(autouse=True)
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving("cnn6", folder / "Cnn6.pth", monkeypatch):
        yield


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
    assert f"--pretrained {target} --set model.name=cnn6 model.front_end=panns_32k" in text


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
    with pytest.raises(UserError, match=r"404.*Cnn6\.pth from https://zenodo\.org/records/3987831"):
        output_of("cnn6", target)


def test_without_a_network_the_place_of_the_file_is_named(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", (0.0,))
    file = replace(WEIGHTS["cnn6"].file, url="http://127.0.0.1:9/Cnn6.pth")
    monkeypatch.setitem(WEIGHTS, "cnn6", replace(WEIGHTS["cnn6"], file=file))
    with pytest.raises(UserError) as caught:
        output_of("cnn6", target)
    assert str(caught.value) == (
        "http://127.0.0.1:9/Cnn6.pth cannot be downloaded: no connection (Connection refused). Run the same command "
        "again: it resumes where it stopped. Without a network: download Cnn6.pth from "
        f"https://zenodo.org/records/3987831 elsewhere and save it as {str(target)!r}."
    )


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
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip("─ ")}
    assert lines.keys() == {"model", *MODELS, "and"}
    assert "hf:NAME_OR_FOLDER" in lines["and"]
    assert "79,673,792" in lines["cnn14"]  # 80,753,615 − 2,049 · 527
    assert "cnn14_16k, cnn14" in lines["cnn14"]
