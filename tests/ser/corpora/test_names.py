"""Names that look alike, words for genders, and the file that renames."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.corpora.names import EMOTION_FAMILIES, NearEqualNames, emotion_of, gender_of, near_equal, rename
from ser.utils.errors import DataErrors, UserError

NFC, NFD = "Zo\u00e9", "Zoe\u0301"

LOOK_ALIKES = [
    pytest.param(NFC, NFD, id="composed and decomposed letters, as macOS writes them"),
    pytest.param("ann", "ann\u200b", id="a space of no width"),
    pytest.param("ann", "Ann", id="case"),
    pytest.param("ann", "\uff41nn", id="a letter of full width"),
    pytest.param("ann lee", "ann\u00a0lee", id="a space that does not break"),
    pytest.param("ann", "ann ", id="a space at the end"),
    pytest.param("1", "01", id="a leading zero"),
    pytest.param("spk_1_a", "spk_001_a", id="leading zeros within"),
]


def made(**columns: list[str]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    rows = {
        "utterance_id": [f"u{number}" for number in range(count)],
        "path": [f"{number}.wav" for number in range(count)],
        "speaker": [f"s{number}" for number in range(count)],
        "label": [("happy", "sad")[number % 2] for number in range(count)],
    }
    return pd.DataFrame(rows | columns)


def table(folder: Path, **columns: list[str]) -> Path:
    path = folder / "t.csv"
    made(**columns).to_csv(path, index=False)
    return path


# near_equal


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_names_that_look_alike_are_one_group(one: str, other: str) -> None:
    assert near_equal([other, "somebody else", one, one]) == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "11"), ("10", "1"), ("spk1", "spk_1"), ("7", "7.0"), ("zoe", "zo\u00e9"), ("0", "00a"), ("a b", "ab")],
)
def test_names_that_differ_clearly_are_none(one: str, other: str) -> None:
    assert near_equal([one, other], emotions=True) == []


def test_words_for_an_emotion_are_one_class_only_among_classes() -> None:
    names = ["Angry", "anger", "ANG", "sad", "happy"]
    assert near_equal(names) == []
    assert near_equal(names, emotions=True) == [("ANG", "Angry", "anger")]


def test_no_word_stands_for_two_emotions() -> None:
    words = [word for noun, words in EMOTION_FAMILIES.items() for word in (noun, *words)]
    assert len(set(words)) == len(words)
    assert all(emotion_of(word.upper()) is not None for word in words)


# Speakers and sessions


@pytest.mark.parametrize("column", ["speaker", "session"])
@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_a_speaker_or_session_under_two_names_is_an_error(column: str, one: str, other: str) -> None:
    rows = made(**{column: [one, one, other, "x"]})
    with pytest.raises(NearEqualNames) as error:
        Corpus("mine", rows, ("happy", "sad"), Path("/audio"))
    assert f"{column} '" in str(error.value)
    assert "(2 utterances) and '" in str(error.value)
    assert Corpus("mine", rows, ("happy", "sad"), Path("/audio"), former=True).former  # version 0.1 took some of them


@pytest.mark.parametrize(("one", "other"), [(NFC, NFD), ("ann", "Ann"), ("1", "01"), ("a,b", "A,b"), ("x", "x\u200b")])
def test_the_lines_of_the_message_make_one_speaker_of_two_names(one: str, other: str, tmp_path: Path) -> None:
    path = table(tmp_path, speaker=[one, one, other, "bob"])
    with pytest.raises(UserError) as error:
        load("table", path)
    advice, header, *lines = str(error.value).splitlines()[-3:]
    assert "--corpus-options names=FILE.csv" in advice
    (tmp_path / "names.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    corpus = load("table", path, options={"names": str(tmp_path / "names.csv")})
    assert corpus.table["speaker"].tolist() == [one, one, one, "bob"]


def test_two_speakers_with_names_that_look_alike_get_a_name_each(tmp_path: Path) -> None:
    path = table(tmp_path, speaker=["1", "01", "1", "01"])
    (tmp_path / "names.csv").write_text("column,old,new\nspeaker,01,one of site B\n", encoding="utf-8")
    corpus = load("table", path, options={"names": str(tmp_path / "names.csv")})
    assert corpus.table["speaker"].tolist() == ["1", "one of site B"] * 2


def test_a_file_of_names_that_does_not_suffice_is_to_be_continued(tmp_path: Path) -> None:
    path = table(tmp_path, speaker=["1", "01", "ann", "Ann"])
    names = tmp_path / "names.csv"
    names.write_text("column,old,new\nspeaker,01,1\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        load("table", path, options={"names": str(names)})
    more = "\n".join(str(error.value).splitlines()[-2:])
    assert f"add these lines to {names}" in str(error.value)
    names.write_text(names.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert load("table", path, options={"names": str(names)}).table["speaker"].tolist() == ["1", "1", "Ann", "Ann"]


# The file


def test_a_file_renames_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text(
        "column,old,new\nspeaker,1,ann\nlabel,wut,anger\nlabel,ruhe,calm\ngender,w,female\nsession,1,first\n",
        encoding="utf-8",
    )
    frame = pd.DataFrame(
        {
            "speaker": [1.0, 2.0, np.nan],
            "session": ["1", "2", None],
            "label": ["wut", "sad", "ruhe"],
            "true_label": ["sad", "wut", None],
            "gender": ["w", "m", ""],
            "votes_wut": [1, 0, 0],
            "text": ["1", "wut", "w"],
        },
        dtype=object,
    )
    new = rename(frame, file)
    assert new["speaker"].tolist()[:2] == ["ann", 2.0]
    assert new["session"].tolist() == ["first", "2", None]
    assert new["label"].tolist() == ["anger", "sad", "calm"]
    assert new["true_label"].tolist() == ["sad", "anger", None]
    assert new["gender"].tolist() == ["female", "m", ""]
    assert new["votes_anger"].tolist() == [1, 0, 0]
    assert new["text"].tolist() == frame["text"].tolist()
    assert frame["label"].tolist() == ["wut", "sad", "ruhe"]  # unchanged


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("speaker,bob,Bob", "speaker,bob,Bob: no speaker has the old name"),
        ("speakers,ann,Ann", "line 2: column 'speakers' is not one of speaker, session"),
        ("speaker,ann,", "line 2: has no old or no new name"),
        ("speaker,ann,Ann\nspeaker,ann,Anna", "line 3: gives speaker 'ann' a second new name"),
    ],
)
def test_mistakes_in_a_file_of_names_are_listed(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text(f"column,old,new\n{lines}\n", encoding="utf-8")
    with pytest.raises(DataErrors, match=message):
        rename(pd.DataFrame({"speaker": ["ann"]}), tmp_path / "names.csv")


def test_a_missing_file_of_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        rename(pd.DataFrame({"speaker": ["ann"]}), tmp_path / "none.csv")


# Genders


@pytest.mark.parametrize("cell", [None, np.nan, pd.NA, "", " ", "-", "NA", "n/a", "NaN", "None", "unknown", "<NA>"])
def test_a_missing_gender_is_unknown_and_costs_nothing(cell: object) -> None:
    assert gender_of(cell) == "unknown"
    rows = made(gender=["f", "Male", cell, "WOMAN"])
    corpus = Corpus("mine", rows, ("happy", "sad"), Path("/audio"))
    assert corpus.table["gender"].tolist() == ["female", "male", "unknown", "female"]


def test_other_words_for_a_gender_are_counted_and_taken_as_unknown(tmp_path: Path) -> None:
    path = table(tmp_path, gender=["nonbinary", "3", "3", "m"])
    corpus = load("table", path)
    assert corpus.table["gender"].tolist() == ["unknown"] * 3 + ["male"]
    notes = [note for note in corpus.notes if "gender" in note and "taken as unknown" in note]
    assert notes == ["gender '3' (2 utterances), 'nonbinary' (1 utterance) is taken as unknown"]


def test_a_speaker_of_two_genders_is_reported(tmp_path: Path) -> None:
    path = table(tmp_path, speaker=["ann", "ann", "ann", "bob"], gender=["F", "female", "m", "m"])
    assert load("table", path).notes.count("speaker 'ann' has two genders: 2 female, 1 male") == 1


@pytest.mark.parametrize(("frequent", "rare"), [(NFC, NFD), (NFD, NFC)])
def test_the_printed_file_merges_speakers_whichever_form_is_the_new_name(
    frequent: str, rare: str, tmp_path: Path
) -> None:
    people = [frequent, frequent, rare, "ann", "bob", "ann", "bob"]
    path = table(tmp_path, speaker=people)
    with pytest.raises(UserError) as raised:
        load("table", path)
    file = tmp_path / "names.csv"
    file.write_text(str(raised.value)[str(raised.value).index("column,old,new") :])
    found = load("table", path, options={"names": str(file)}).table["speaker"]
    assert found.tolist() == [frequent, frequent, frequent, "ann", "bob", "ann", "bob"]
