"""Unusual folders, files and names: nothing hangs, nothing is read in part, no file of a user is overwritten."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio import LFS_POINTER, AudioFault, read_audio
from ser.corpora import __main__ as corpora_command
from ser.corpora import load
from ser.corpora.source_files import list_files
from ser.noise import __main__ as noise_command
from ser.noise import level_name
from ser.utils.command_line import run_command
from ser.utils.errors import DataErrors, UserError
from tests.helpers.corpus_trees import BUILDERS

RATE = 16000


def noise(path: Path, seconds: float = 1.0, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)
    soundfile.write(path, samples, RATE, **how)
    return path


def table(folder: Path, *lines: str, header: str = "utterance_id,path,speaker,label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "t.csv"


@pytest.fixture
def command(monkeypatch, capsys):
    """Function that runs a command line in this process and returns exit code, stdout and stderr."""

    def call(main, *words):
        monkeypatch.setattr(sys, "argv", ["prog", *map(str, words)])
        try:
            code = run_command(main)
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, " ".join(out.split()), " ".join(err.split())

    return call


# Folders


def test_links_in_circles_end(tmp_path: Path) -> None:
    root = BUILDERS["ravdess"](tmp_path / "ravdess")
    for actor in (1, 2):
        (root / f"Actor_{actor:02}" / "up").symlink_to("..")
    assert len(load("ravdess", root, classes="all")) == 32
    assert len(list_files(root).names) == 32


def test_names_in_an_old_encoding_are_reported(tmp_path: Path) -> None:
    root = BUILDERS["ravdess"](tmp_path / "ravdess")
    (root / "Actor_01").rename(os.fsdecode(os.fsencode(root) + b"/Act\xe9ur_01"))
    with pytest.raises(UserError, match=r"8 names are not UTF-8, the first: .*Act\\xe9ur_01"):
        load("ravdess", root)
    with pytest.raises(UserError, match="1 names are not UTF-8"):
        load("ravdess", os.fsdecode(os.fsencode(root) + b"/Act\xe9ur_01"))


def test_ravdess_of_bad_names_alone_has_no_utterances_once_they_are_left_out(tmp_path: Path) -> None:
    noise(tmp_path / "r" / "03-01-09-01-01-01-01.wav")
    (tmp_path / "out.txt").write_text("03-01-09-01-01-01-01.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match="no utterances"):
        load("ravdess", tmp_path / "r", tmp_path / "out.txt")


# Audio


@pytest.mark.parametrize(
    ("suffix", "form"), [("wav", "RF64"), ("w64", "W64"), ("aiff", "AIFF"), ("wav", "WAV"), ("wav", "WAVEX")]
)
def test_files_cut_in_the_middle_are_found(tmp_path: Path, suffix: str, form: str) -> None:
    path = noise(tmp_path / f"a.{suffix}", format=form)
    assert len(read_audio(path)) == RATE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioFault, match="truncated"):
        read_audio(path)


def test_a_pipe_a_stub_and_samples_beyond_all_reason_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "stub.wav").write_bytes(LFS_POINTER + b"oid sha256:00\nsize 7\n")
    soundfile.write(tmp_path / "loud.wav", np.array([1e30, -1e30] * RATE), RATE, subtype="FLOAT")
    for name, words in (("pipe", "a pipe or a device"), ("stub", "git lfs pull"), ("loud", r"up to 1e\+30")):
        with pytest.raises(AudioFault, match=words):
            read_audio(tmp_path / f"{name}.wav")


def test_a_flac_that_claims_weeks_is_an_error(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # STREAMINFO's 36 bits of total samples
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(AudioFault, match=r"header claims|truncated|decoded"):
        read_audio(path)


# Names and numbers


def test_names_with_colons_are_reported_from_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = table(tmp_path, "a0,x.wav,s,up", "a0: take 2,y.wav,t,down", "b,z.wav,u,up", "c,w.wav,u,down")
    listed = tmp_path / "listed.txt"
    listed.write_text("a0: take 2: file is missing: /y.wav\n", encoding="utf-8")
    assert list(load("table", path, listed).table["utterance_id"]) == ["a0", "b", "c"]


@pytest.mark.parametrize("id_", ["#one", '"one\ntwo"'])
def test_names_that_no_list_can_hold_are_refused(tmp_path: Path, id_: str) -> None:
    with pytest.raises(DataErrors, match="begins with #"):
        load("table", table(tmp_path, f"{id_},x.wav,s,up", "b,y.wav,t,down"))


@pytest.mark.parametrize("count", ["1e300", "3e8", "-1", "inf", "many"])
def test_other_votes_are_counts_within_reason(tmp_path: Path, count: str) -> None:
    header = "utterance_id,path,speaker,label,other_votes"
    with pytest.raises(DataErrors, match="a: "):
        load("table", table(tmp_path, f"a,x.wav,s,up,{count}", "b,y.wav,t,down,1", header=header))


def test_votes_nested_without_end_are_an_error(tmp_path: Path) -> None:
    path = table(
        tmp_path, f"a,x.wav,s,up,{'[' * 100_000}", "b,y.wav,t,down,", header="utterance_id,path,speaker,label,votes"
    )
    with pytest.raises(UserError, match="not a list"):
        load("table", path)


def test_all_left_out_names_the_option(tmp_path: Path) -> None:
    path = table(tmp_path, "a,x.wav,s,up", "b,y.wav,t,down")
    (tmp_path / "out.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match="--exclude leaves none of its 2 utterances"):
        load("table", path, tmp_path / "out.txt")


# Commands


def test_describe_overwrites_its_own_files_alone(tmp_path: Path, command) -> None:
    root = BUILDERS["table"](tmp_path / "mine")
    (tmp_path / "mine" / "utterances.csv").write_text("precious", encoding="utf-8")
    words = ("describe", "table", "--root", root, "--output", root.parent)
    code, _, said = command(corpora_command.main, *words)
    assert (code, (root.parent / "utterances.csv").read_text()) == (2, "precious")
    assert "utterances.csv, which no description wrote" in said
    (tmp_path / "mine" / "utterances.csv").unlink()
    for _ in range(2):
        code, *_ = command(corpora_command.main, *words)
        assert code == 0
    assert json.loads((root.parent / "describe.json").read_text())["size"]["utterances"] == 24


def test_a_copy_in_the_other_file_is_refused(tmp_path: Path, command) -> None:
    root = BUILDERS["table"](tmp_path / "mine")
    audio = root.parent / "audio"
    (audio / "d-0.wav").write_bytes((audio / "a-0.wav").read_bytes())
    words = ("table", "--root", root, "--recipe", "symmetric", "--rate", 0.2, "--output", tmp_path / "out")
    code, _, said = command(noise_command.main, *words)
    assert (code, "is a copy of" in said, list((tmp_path / "out").glob("*.csv"))) == (2, True, [])


@pytest.mark.parametrize(("main", "word"), [(noise_command.main, "estimat"), (corpora_command.main, "descripe")])
def test_a_command_that_is_nearly_one_is_reported(command, main, word: str) -> None:
    code, _, said = command(main, word, "synthetic")
    assert (code, "Did you mean" in said) == (2, True)


def test_a_matrix_is_named_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.csv"
    path.parent.mkdir()
    names = []
    for rate in (0.1, 0.2, 0.1):
        path.write_text(f",a,b\na,{1 - rate},{rate}\nb,0,1\n", encoding="utf-8")
        names.append(level_name(f"matrix:{path}:0.05"))
    assert names[0] == names[2] != names[1]
    assert names[0].startswith("matrix:m.csv#")
    assert names[0].endswith(":0.05")
    assert level_name("noisy-A") == "noisy-A"
    with pytest.raises(UserError, match=r"Write matrix:.*m\.csv:0\.3"):
        level_name(f"matrix:{path}")
