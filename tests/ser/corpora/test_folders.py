"""Corpora sorted into folders of classes and speakers."""

import re
import shlex
from pathlib import Path

import pytest

from ser.corpora import load, parse_options
from ser.corpora.speaker_patterns import find_speakers, propose_pattern
from ser.utils.errors import DataErrors, UserError

EMOTIONS = ("Angry", "Happy", "Sad")


def place(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("{speaker}/{label}/{take}.wav", {}, "speaker/class"),
        ("{label}/{speaker}/{take}.wav", {}, "class/speaker"),
        ("corpus/audio/{label}/{speaker}/x/{take}.wav", {}, "*/*/class/speaker"),
        ("{gender}/{speaker}/{label}/{take}.flac", {}, "gender/speaker/class"),
        ("{subset}/{label}/{speaker}/{take}.wav", {}, "subset/class/speaker"),
        ("{label}/{speaker}x{take}.wav", {"speaker": "/([^/]{3})[^/]*$"}, "class"),
        ("{speaker}_{label}/{take}.wav", {"layout": "speaker_class"}, "speaker_class"),
        ("Set 1/{label} ({speaker})/{take}.wav", {"layout": "*/class (speaker)"}, "*/class (speaker)"),
    ],
)
def test_class_speaker_gender_and_subset_are_those_of_the_folders(
    name: str, options: dict[str, str], expected: str, tmp_path: Path
) -> None:
    people = {"ann": ("female", "train"), "bob": ("male", "dev"), "cid": ("male", "test")}
    made = {
        name.format(speaker=speaker, gender=gender.title(), subset=subset, label=label, take=take): (speaker, label)
        for speaker, (gender, subset) in people.items()
        for label in EMOTIONS
        for take in (1, 2)
    }
    corpus = load("folders", place(tmp_path, list(made)), options=options)
    table = corpus.table
    assert corpus.classes == EMOTIONS
    assert dict(zip(corpus.relative_paths, zip(table["speaker"], table["label"], strict=True), strict=True)) == made
    assert list(table["utterance_id"]) == sorted(path.rpartition(".")[0] for path in made)
    if "{gender}" in name:
        assert list(table["gender"]) == [people[speaker][0] for speaker in table["speaker"]]
    if "{subset}" in name:
        assert set(table["speaker"] + table["official_subset"]) == {"anntrain", "bobvalidation", "cidtest"}
    assert corpus.notes[0].startswith(f"folders are {expected}")


@pytest.mark.parametrize(
    ("names", "speakers"),
    [
        (
            [
                f"{label}/{who}a0{text}{label[0]}a.wav"
                for label in EMOTIONS
                for who in ("03", "08", "10")
                for text in "12"
            ],
            3,
        ),
        ([f"{label}/S{who}_F{n}_{label[0]}{n:03}.wav" for label in EMOTIONS for who in "MFAB" for n in range(3)], 4),
        ([f"{label}/{label}_{who}_{n}.wav" for label in EMOTIONS for who in ("x1", "x2", "x3", "x4") for n in "ab"], 4),
        ([f"{label}/03-01-{label[0]}-{n:02}-{a:02}.wav" for label in EMOTIONS for a in range(5) for n in (1, 2)], 5),
    ],
)
def test_without_speakers_the_message_has_a_command_that_works(names: list[str], speakers: int, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load("folders", place(tmp_path, names))
    assert names[0] in str(error.value)
    command = next(line for line in str(error.value).splitlines() if line.startswith("    "))
    words = shlex.split(command)
    assert words[words.index("--root") + 1] == str(tmp_path)
    corpus = load("folders", tmp_path, options=parse_options(words[words.index("--corpus-options") + 1 :]))
    assert corpus.table["speaker"].nunique() == speakers
    assert corpus.table.groupby("speaker")["label"].nunique().tolist() == [3] * speakers


def test_a_part_of_the_names_that_is_the_class_or_the_take_is_not_proposed() -> None:
    names = [f"{label}/{label[0]}{take:03}.wav" for label in EMOTIONS for take in range(20)]
    assert propose_pattern(names, [name.partition("/")[0] for name in names]) is None


@pytest.mark.parametrize("level", ["strong weak", "one two three"])
def test_intensities_and_folders_of_one_class_are_not_taken_for_speakers(level: str, tmp_path: Path) -> None:
    folders = level.split() if " " in level else []
    shared = len(folders) == 2
    names = [f"{label}/{sub if shared else label + sub}/{n}.wav" for label in EMOTIONS for sub in folders for n in "12"]
    with pytest.raises(UserError, match=re.escape("layout=class/* with speaker in place")):
        load("folders", place(tmp_path, names))
    by_option = load("folders", tmp_path, options={"layout": "class/speaker"})
    assert by_option.table["speaker"].nunique() == len(folders) * (1 if shared else len(EMOTIONS))


def test_folders_without_emotions_are_shown_with_a_layout_to_try(tmp_path: Path) -> None:
    place(tmp_path, [f"{who}_{label}/1.wav" for who in ("OAF", "YAF") for label in ("angry", "pleasant_surprise")])
    with pytest.raises(UserError, match=r"OAF_angry.*layout=speaker_class") as error:
        load("folders", tmp_path)
    layout = str(error.value).partition("layout=")[2].partition(".")[0]
    assert set(load("folders", tmp_path, options={"layout": layout}).table["speaker"]) == {"OAF", "YAF"}


def test_a_folder_next_to_those_of_emotions_is_a_class_and_said(tmp_path: Path) -> None:
    place(tmp_path, [f"{who}/{label}/1.wav" for who in "abc" for label in (*EMOTIONS, "mixed")])
    corpus = load("folders", tmp_path)
    assert corpus.classes == (*EMOTIONS, "mixed")
    assert "no emotion by its name: mixed" in corpus.notes[0]
    assert load("folders", tmp_path, classes="Angry,other=Happy+mixed").classes == ("Angry", "other")


def test_files_elsewhere_and_names_without_a_speaker_are_errors_that_can_be_excluded(tmp_path: Path) -> None:
    place(tmp_path, [f"{label}/{who}_1.wav" for who in "abc" for label in EMOTIONS])
    place(tmp_path, ["test.wav", "Sad/noise.wav"])
    options = {"speaker": "/([a-c])_"}
    with pytest.raises(DataErrors) as error:
        load("folders", tmp_path, options=options)
    assert sorted(name for name, _ in error.value.errors) == ["Sad/noise.wav", "test.wav"]
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(str(error.value).splitlines()[1:-1]), encoding="utf-8")
    assert len(load("folders", tmp_path, listed, options)) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "speaker/emotion"}, "'emotion' is not one of"),
        ({"layout": "speaker/*"}, "class once"),
        ({"layout": "class/class"}, "class once"),
        ({"layout": "*/*/*/class"}, "fits none of the 9 files"),
        ({"layout": "subset/class", "speaker": "/(.)/"}, "is not one of train"),
        ({"speaker": "/(["}, "not a regular expression"),
        ({"speaker": "/.."}, "has no group"),
        ({"speaker": "/(x+)_"}, "in none of the 9 file names"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], message: str, tmp_path: Path) -> None:
    place(tmp_path, [f"{who}/{label}/1.wav" for who in "abc" for label in EMOTIONS])
    with pytest.raises(UserError, match=re.escape(message)):
        load("folders", tmp_path, options=options)


def test_several_levels_that_may_be_the_speaker_are_a_question(tmp_path: Path) -> None:
    place(tmp_path, [f"{who}/{label}/{room}/1.wav" for who in "abc" for room in "xyz" for label in EMOTIONS])
    with pytest.raises(UserError, match=re.escape("layout=*/class/* with speaker")):
        load("folders", tmp_path)
    assert set(load("folders", tmp_path, options={"layout": "speaker/class"}).table["speaker"]) == set("abc")


def test_a_named_group_is_the_gender() -> None:
    pattern = "/(?P<gender>[MF])(?P<speaker>[0-9]+)"
    assert find_speakers(pattern, ["Sad/M07_1.wav", "Sad/F8_1.wav"])[:2] == (["07", "8"], ["male", "female"])


def test_folders_of_train_and_test_without_validation_are_said(tmp_path: Path) -> None:
    people = {"ann": "train", "bob": "train", "cid": "test"}
    names = [f"{subset}/{label}/{who}/1.wav" for who, subset in people.items() for label in EMOTIONS]
    notes = load("folders", place(tmp_path, names)).notes
    assert "rows of the subsets test, train are put together: train, validation and test are not all there" in notes


@pytest.mark.parametrize("folder", ["", "all/", "corpus/wav/"])
def test_files_in_no_folders_or_in_one_need_a_table(folder: str, tmp_path: Path) -> None:
    name = re.escape(f"{folder}1.wav")
    with pytest.raises(UserError, match=f"2 files, such as '{name}', lie in no folders of classes. Labels .* a table"):
        load("folders", place(tmp_path, [f"{folder}1.wav", f"{folder}2.wav"]))
