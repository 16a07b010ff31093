"""Names of columns, and what their cells mean."""

from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.corpora.loader_result import LoaderResult
from ser.corpora.tables import SYNONYMS, result_of
from ser.corpora.tables.cells import seconds
from ser.corpora.tables.paths import find_audio
from ser.utils.errors import DataErrors, UserError
from tests.helpers.table_formats import frame, record


def result(table: pd.DataFrame, **options: Any) -> LoaderResult:
    return result_of(table, name="mine", where="table t.csv", folder=Path("/data"), **options)


def corpus_of(table: pd.DataFrame, **options: Any) -> Corpus:
    return result(table, **options).to_corpus()


def note_of(found: LoaderResult) -> str:
    return next(note for note in found.notes if note.startswith("columns: "))


# Synonyms


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role in ("path", "speaker", "label", "gender") for name in SYNONYMS[role]]
)
def test_every_synonym_is_understood_and_said(role: str, name: str) -> None:
    found = result(frame(**{role: name, "split": ""}))
    assert found.to_corpus().digest == corpus_of(frame(split="")).digest
    assert f"{name} as {role}" in note_of(found)


@pytest.mark.parametrize("name", ["SpkrID", "Speaker ID", "speaker-id", "SPEAKER_ID", "Speaker"])
def test_case_blanks_and_signs_do_not_matter(name: str) -> None:
    assert corpus_of(frame(speaker=name)).digest == corpus_of(frame()).digest


@pytest.mark.parametrize("name", ["split", "Split_Set", "subset", "partition", "set", "fold", "official_subset"])
@pytest.mark.parametrize(
    "words", [("train", "dev", "test"), ("Train", "Development", "Test1"), ("TRAIN", "val", "test")]
)
def test_a_split_is_the_official_one(name: str, words: tuple[str, str, str]) -> None:
    table = frame(split=name)
    table[name] = table[name].map(dict(zip(("train", "validation", "test"), words, strict=True)))
    assert corpus_of(table).table["official_subset"].tolist() == frame()["split"].tolist()


def test_numbers_of_folds_are_no_split_and_a_part_of_the_rows_may_have_one() -> None:
    found = result(frame(split="").assign(fold=[str(number % 5) for number in range(24)]))
    assert "official_subset" not in found.rows
    assert "not used: fold" in note_of(found)
    table = frame()
    table.loc[3, "split"] = ""
    assert corpus_of(table).table["official_subset"].tolist().count("") == 1


def test_an_unknown_word_for_a_split_is_an_error_that_the_advice_solves() -> None:
    table = frame()
    table["split"] = table["split"].replace({"test": "unseen"})
    with pytest.raises(DataErrors, match=r"split: 'unseen' is not one of train.* \(6 rows\)"):
        result(table)
    assert "official_subset" not in result(table, columns="official_subset=").rows


def test_the_exact_name_wins_without_a_word() -> None:
    table = frame(split="").assign(emotion="other", actor="nobody", file="x.wav")
    found = result(table)
    assert found.to_corpus().digest == corpus_of(frame(split="")).digest
    assert note_of(found) == "columns: not used: emotion, actor, file"


def test_two_columns_for_one_role_are_an_error_that_the_advice_solves() -> None:
    table = frame(label="emotion").assign(category=["x", "y"] * 12)
    with pytest.raises(DataErrors, match=r"emotion and category: may all be the label.*columns=label=category"):
        result(table)
    assert set(corpus_of(table, columns="label=category").classes) == {"x", "y"}
    assert set(corpus_of(table, columns="label=Emotion").classes) == {"angry", "happy", "sad"}
    same = frame(label="emotion").assign(category=frame()["label"])
    assert "not used: category" in note_of(result(same))


def test_a_column_under_any_name_can_be_chosen() -> None:
    table = frame(label="Emotion 2", path="what", speaker="who")
    with pytest.raises(DataErrors, match=r"label: column missing") as error:
        result(table)
    assert {name for name, _ in error.value.errors} == {"path", "label", "speaker"}
    chosen = corpus_of(table, columns="label=emotion_2,path=what,speaker=who")
    assert chosen.digest == corpus_of(frame()).digest


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("label", "'label' is not ROLE=COLUMN"),
        ("lable=emotion", "unknown role in --corpus-options columns: 'lable'.*label"),
        ("label=emotoin", "unknown column in --corpus-options columns=label=: 'emotoin'.*emotion"),
    ],
)
def test_a_wrong_choice_is_said(option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        result(frame(label="emotion"), columns=option)


def test_names_of_utterances_are_taken_if_they_are_names() -> None:
    table = frame(split="")
    named = table.rename(columns={"path": "file"}).assign(key=[f"k{number}" for number in range(24)])
    assert list(result(named).rows["utterance_id"])[:2] == ["k0", "k1"]
    for ids in (list(range(24)), ["same"] * 24, ["", *map(str, range(23))]):
        assert result(named.assign(key=ids)).rows["utterance_id"][0] == "s1_angry_1"
    # In the project's own format, names of utterances stay those of earlier versions.
    own = table.assign(id=[f"k{number}" for number in range(24)])
    assert result(own).rows["utterance_id"][0] == "s1_angry_1"


def test_structures_are_no_names() -> None:
    found = result(frame().assign(audio=[{"path": "a.wav"}] * 24))
    assert found.rows["path"][0] == "/data/s1_angry_1.wav"


def test_speakers_may_come_from_file_names() -> None:
    with pytest.raises(UserError, match=r"nothing names the speakers.*speaker=REGEX"):
        result(frame(speaker=""))
    found = result(frame(speaker=""), speaker="/(s.)_")
    assert found.to_corpus().table["speaker"].tolist() == frame()["speaker"].tolist()
    with pytest.raises(DataErrors, match=r"s1_angry_1: speaker=/.s2._ is not found in this name"):
        corpus_of(frame(speaker=""), speaker="/(s2)_")


def test_genders_are_words_or_unknown() -> None:
    words = ["F", "Woman", "female", "M", "male", "NA", "NaN", "None", "", "?"]
    table = frame(gender="").iloc[:10].assign(sex=words, speaker=[f"p{number}" for number in range(10)])
    found = corpus_of(table, columns="official_subset=")
    by_speaker = found.table.set_index("speaker")["gender"]
    assert [by_speaker[f"p{number}"] for number in range(10)] == ["female"] * 3 + ["male"] * 2 + ["unknown"] * 5


def test_names_of_speakers_and_classes_can_be_given_in_a_file(tmp_path: Path) -> None:
    table = frame(label="emotion", split="").replace({"s1": "S1 "})
    names = tmp_path / "names.csv"
    names.write_text("column,old,new\nspeaker,S1,s1\nlabel,happy,joy\n")
    found = corpus_of(table, names=names)
    assert found.classes == ("angry", "joy", "sad")
    assert set(found.table["speaker"]) == {"s1", "s2", "s3", "s4"}


# Times


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1.5", 1.5),
        ("1,5", 1.5),
        (1.5, 1.5),
        (2, 2.0),
        ("0 days 00:00:01.500000", 1.5),
        ("0 days 00:01:00", 60.0),
        ("00:00:01.5", 1.5),
        ("00:00:01,5", 1.5),
        ("01:30.25", 90.25),
        ("PT1M1.5S", 61.5),
        ("1500ms", 1.5),
        (pd.Timedelta(1.5, "s"), 1.5),
        (np.timedelta64(1500, "ms"), 1.5),
    ],
)
def test_seconds_are_read_as_people_write_them(cell: object, expected: float) -> None:
    assert seconds(cell) == pytest.approx(expected)


@pytest.mark.parametrize("cell", ["", None, np.nan, pd.NaT, "NaT", pd.NA])
def test_blank_times_are_none(cell: object) -> None:
    assert np.isnan(seconds(cell))


@pytest.mark.parametrize("cell", ["soon", "1.5.2", "12:3x", True])
def test_what_is_no_time_is_an_error(cell: object) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds"):
        seconds(cell)


@pytest.mark.parametrize(
    ("columns", "cut"),
    [
        ({"start": "1", "end": "2"}, (1.0, 2.0)),
        ({"onset": "1", "offset": "2", "duration": "9"}, (1.0, 2.0)),
        ({"begin": "1", "duration": "2"}, (1.0, 3.0)),
        ({"offset": "1", "duration": "2"}, (1.0, 3.0)),  # manifests of NeMo
        ({"duration": "2"}, (np.nan, np.nan)),  # of the file
        ({"start": "0 days", "end": ""}, (np.nan, np.nan)),  # audformat's whole file
        ({"start": "0", "end": ""}, (0.0, np.nan)),
        ({"start": pd.Timedelta(0), "end": pd.NaT}, (np.nan, np.nan)),
        ({"start_time": "00:00:01", "stop-time": "00:00:03"}, (1.0, 3.0)),
    ],
)
def test_cuts_come_from_start_end_and_duration(columns: dict[str, Any], cut: tuple[float, float]) -> None:
    row = result(frame().assign(**columns)).rows.iloc[0]
    np.testing.assert_equal((row["start"], row["end"]), cut)


# Audio


def test_audio_is_found_in_another_folder_and_completed(tmp_path: Path) -> None:
    record(tmp_path / "sound" / "deep", ["a.wav", "b.c.wav", "twice.wav", "twice.flac"])
    rows = {"file": ["deep/a", "deep\\b.c", "deep/twice", "deep/none.wav", "deep/a.wav"]}
    table = pd.DataFrame(rows).assign(speaker="s", label=list("xyxyx"), id=["a", "b", "c", "d", "e"])
    table.to_csv(tmp_path / "t.csv", index=False)
    found = load("table", tmp_path / "t.csv", options={"audio": str(tmp_path / "sound")})
    folder = tmp_path / "sound" / "deep"
    assert found.table["path"].tolist()[:2] == [str(folder / "a.wav"), str(folder / "b.c.wav")]
    assert found.relative_paths[2:] == ["deep/twice", "deep/none.wav", "deep/a.wav"]
    assert "2 names of audio files are completed by their suffix" in found.notes
    (missing,) = (note for note in found.notes if "do not exist" in note)
    assert missing.startswith(f"2 of 5 audio files do not exist, the first: {folder / 'twice'}. ")
    assert f"begin at {tmp_path / 'sound'};" in missing
    assert "audio=FOLDER" in missing
    with pytest.raises(UserError, match="audio='/nowhere' is not a folder"):
        load("table", tmp_path / "t.csv", options={"audio": "/nowhere"})


def test_names_may_begin_in_a_folder_above_the_table(tmp_path: Path) -> None:
    record(tmp_path / "audio")
    (tmp_path / "labels").mkdir()
    table = frame()
    table["path"] = "audio/" + table["path"]
    table.to_csv(tmp_path / "labels" / "t.csv", index=False)
    found = load("table", tmp_path / "labels" / "t.csv")
    assert all(Path(path).is_file() for path in found.table["path"])
    assert found.root == tmp_path


def test_a_column_of_lists_is_no_label_even_if_chosen() -> None:
    table = frame(label="kinds")
    table["kinds"] = [[kind] for kind in table["kinds"]]
    with pytest.raises(DataErrors, match="kinds: holds lists or bytes, which are no label"):
        result(table, columns="label=kinds")


def test_a_published_split_without_validation_is_no_split_and_said() -> None:
    table = frame()
    table["split"] = ["train" if split == "validation" else split for split in table["split"]]
    expected = "rows of the subsets test, train are put together: train, validation and test are not all there"
    assert expected in result(table).notes
    assert not any("put together" in note for note in result(frame()).notes)


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_files_are_found_in_another_unicode_form(tmp_path: Path, on_disk: str, written: str) -> None:
    name = "\u00fczg\u00fcn/\u015fule.wav"
    path = tmp_path / normalize(on_disk, name)
    path.parent.mkdir()
    path.touch()
    assert find_audio([normalize(written, name)], tmp_path) == ([str(path)], [])


def test_a_column_that_begins_like_a_synonym_is_proposed() -> None:
    table = frame(label="emotion_1").assign(emotion_2="sad", emo="")
    with pytest.raises(DataErrors, match=r"label: column missing; is 'emotion_1' meant\? Then: .*label=emotion_1"):
        result(table.drop(columns="emo"))
