"""Corpora in Kaldi data folders."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ser.corpora import load, parse_options
from ser.utils.errors import DataErrors, UserError
from tests.helpers import corpus_trees

LABELS = ("angry", "happy", "sad")


def write(folder: Path, files: Mapping[str, list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_recordings_speakers_labels_and_genders_are_joined_by_id(tmp_path: Path) -> None:
    corpus = load("kaldi", corpus_trees.kaldi(tmp_path))
    first = corpus.table.loc[0, ["utterance_id", "speaker", "gender", "label"]].tolist()
    assert first == ["ann-0", "ann", "female", "angry"]
    assert (len(corpus), corpus.classes, corpus.root) == (24, LABELS, tmp_path / "wav")
    assert corpus.relative_paths[0] == "ann-0.wav"


def test_segments_are_cuts_of_recordings(tmp_path: Path) -> None:
    data = write(
        tmp_path,
        {
            "wav.scp": ["tape1 a/my tape.wav", "tape2 a/2.wav", "tape3 a/3.wav"],
            "segments": ["u1 tape1 0.5 2.25", "u2 tape1 3 -1", "u3 tape2 0 1"],
            "utt2spk": ["u1 ann", "u2 bob", "u3 cid"],
            "utt2label": ["u1 sad", "u2 angry", "u3 angry"],
            "utt2gender": ["u1 F", "u3 m"],
            "utt2dur": ["u1 1.75"],
        },
    )
    corpus = load("kaldi", data)
    assert corpus.table["path"].tolist() == [
        str(tmp_path / "a" / name) for name in ("my tape.wav", "my tape.wav", "2.wav")
    ]
    np.testing.assert_array_equal(corpus.table[["start", "end"]], [[0.5, 2.25], [3, np.nan], [0, 1]])
    assert corpus.table["gender"].tolist() == ["female", "unknown", "male"]
    assert any("1 recordings of wav.scp are in no segment" in note for note in corpus.notes)


def test_folders_of_subsets_are_the_official_split(tmp_path: Path) -> None:
    for subset, speaker in (("train", "ann"), ("dev", "bob"), ("test", "cid")):
        ids = [f"{speaker}-{label}" for label in LABELS]
        write(
            tmp_path / "data" / subset,
            {
                "wav.scp": [f"{id_} downloads/{id_}.wav" for id_ in ids],
                "utt2spk": [f"{id_} {speaker}" for id_ in ids],
                "utt2emo": [f"{id_} {id_[4:]}" for id_ in ids],
            },
        )
    (tmp_path / "downloads").mkdir()
    for speaker in ("ann", "bob", "cid"):  # a file shows where relative paths begin
        (tmp_path / "downloads" / f"{speaker}-sad.wav").touch()
    corpus = load("kaldi", tmp_path / "data")
    subsets = dict(zip(corpus.table["speaker"], corpus.table["official_subset"], strict=True))
    assert subsets == {"ann": "train", "bob": "validation", "cid": "test"}
    assert {Path(path).parent for path in corpus.table["path"]} == {tmp_path / "downloads"}
    assert "official_subset" not in load("kaldi", tmp_path / "data" / "train").table


@pytest.mark.parametrize("line", ["sph2pipe -f wav a.sph |", "sox a.mp3 -t wav - |", "raw.ark:1234"])
def test_commands_and_archives_are_refused_and_never_run(line: str, tmp_path: Path) -> None:
    data = corpus_trees.kaldi(tmp_path)
    with (data / "wav.scp").open("a") as file:
        file.write(f"zed-1 touch {tmp_path}/ran; {line}\n")
    with pytest.raises(UserError, match=r"1 commands or archives.*not executed.*> zed-1.wav"):
        load("kaldi", data)
    assert not (tmp_path / "ran").exists()


def test_ids_that_a_file_lacks_and_broken_lines_are_errors_that_can_be_excluded(tmp_path: Path) -> None:
    data = corpus_trees.kaldi(tmp_path)
    for name, lines in {
        "wav.scp": ["new-1 wav/ann-0.wav", "new-2 wav/ann-1.wav"],
        "utt2spk": ["new-1 new", "old-1 old", "ann-0 bob", "odd"],
        "utt2emo": ["old-2 sad"],
    }.items():
        with (data / name).open("a") as file:
            file.write("\n".join(lines) + "\n")
    with pytest.raises(DataErrors) as error:
        load("kaldi", data)
    assert dict(error.value.errors) == {
        "new-1": "is in wav.scp, but not in utt2emo",
        "new-2": "is in wav.scp, but not in utt2spk and utt2emo",
        "old-1": "is in utt2spk, but not in wav.scp",
        "old-2": "is in utt2emo, but not in wav.scp",
        "utt2spk:27": "'ann-0' is in an earlier line as well",
        "utt2spk:28": "'odd' has no value",
    }
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(str(error.value).splitlines()[1:-1]), encoding="utf-8")
    assert len(load("kaldi", data, listed)) == 24


def test_a_broken_segment_and_an_unknown_recording_are_errors(tmp_path: Path) -> None:
    data = corpus_trees.kaldi(tmp_path)
    write(
        data,
        {
            "segments": [
                "ann-0 ann-0 0 0.4",
                "bob-1 bob-1 0 0.4",
                "ann-1 ann-1 0",
                "ann-2 nowhere 0 1",
                "ann-3 ann-3 0 1 2",
            ]
        },
    )
    with pytest.raises(DataErrors) as error:
        load("kaldi", data)
    errors = dict(error.value.errors)
    assert errors["ann-2"] == "recording 'nowhere' is in segments, but not in wav.scp"
    assert "is not RECORDING START END" in errors["ann-1"]
    assert "is not RECORDING START END" in errors["ann-3"]


def test_utterances_that_are_their_own_speakers_have_unknown_ones(tmp_path: Path) -> None:
    data = corpus_trees.kaldi(tmp_path)
    ids = [line.split()[0] for line in (data / "wav.scp").read_text().splitlines()]
    write(data, {"utt2spk": [f"{id_} {id_}" for id_ in ids]})
    with pytest.raises(UserError, match="nothing names the speakers") as error:
        load("kaldi", data)
    words = shlex.split(str(error.value).splitlines()[-1])
    corpus = load("kaldi", data, options=parse_options(words[words.index("--corpus-options") + 1 :]))
    assert set(corpus.table["speaker"]) == {"ann", "bob", "cid", "dan"}


@pytest.mark.parametrize("name", ["utt2spk", "utt2emo"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    data = corpus_trees.kaldi(tmp_path)
    (data / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        load("kaldi", data)


def test_a_corpus_that_is_moved_has_the_same_digest(tmp_path: Path) -> None:
    before = load("kaldi", corpus_trees.kaldi(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    after = load("kaldi", tmp_path / "there" / "data")
    assert (after.digest, after.audio_digest) == (before.digest, before.audio_digest)
