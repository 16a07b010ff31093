"""Databases in audformat, written by its library."""

from pathlib import Path

import pandas as pd
import pytest

from ser.corpora import load
from ser.utils.errors import DataErrors, UserError
from tests.helpers import corpus_trees

audformat = pytest.importorskip("audformat")

EMOTIONS = ["anger", "joy", "neutral"]


@pytest.fixture
def database() -> "audformat.Database":
    """Database with schemes and six segments of three speakers, without labels."""
    made = audformat.Database("calls")
    made.schemes["emotion"] = audformat.Scheme("str", labels=EMOTIONS)
    people = made["people"] = audformat.MiscTable(pd.Index(["ann", "bob", "cid"], name="speaker", dtype="string"))
    people["sex"] = audformat.Column()
    people["sex"].set(["female", "male", "male"])
    made.schemes["speaker"] = audformat.Scheme("str", labels="people")
    for name in ("r1", "r2", "r3"):
        made.raters[name] = audformat.Rater("human")
    made.raters["gold"] = audformat.Rater("vote")
    files = [f"{who}.wav" for who in ("ann", "bob", "cid")]
    table = made["files"] = audformat.Table(audformat.filewise_index(files))
    table["speaker"] = audformat.Column(scheme_id="speaker")
    table["speaker"].set([file[:3] for file in files])
    return made


def segments(numbers: range = range(6)) -> pd.MultiIndex:
    files = [f"{('ann', 'bob', 'cid')[number // 2]}.wav" for number in numbers]
    starts = [["0s", "2.5s"][number % 2] for number in numbers]
    return audformat.segmented_index(files, starts, [["1.25s", pd.NaT][number % 2] for number in numbers])


def add(database: "audformat.Database", name: str, index: pd.Index, columns: dict[str, list], split=None) -> None:
    """Add a table whose columns are those of raters, named by them."""
    table = database[name] = audformat.Table(index, split_id=split)
    for rater, labels in columns.items():
        table[rater] = audformat.Column(scheme_id="emotion", rater_id=rater)
        table[rater].set(labels)


def test_the_published_layout_of_emodb_has_labels_speakers_and_genders(tmp_path: Path) -> None:
    corpus_trees.audformat(tmp_path)
    (tmp_path / "wav" / "new.wav").touch()
    corpus = load("audformat", tmp_path)
    first = corpus.table.loc[0, ["utterance_id", "speaker", "gender", "label"]].tolist()
    assert first == ["wav/03a01Fa", "3", "male", "happiness"]
    assert (len(corpus), corpus.classes) == (32, ("anger", "happiness", "neutral", "sadness"))
    assert "official_subset" not in corpus.table
    assert any("no more than test and train" in note for note in corpus.notes)
    assert any("not used: 1 .wav" in note and "wav/new.wav" in note for note in corpus.notes)
    assert corpus.unused == {".wav": 1}


def test_segments_are_cuts_with_the_speaker_of_their_file(database: "audformat.Database", tmp_path: Path) -> None:
    add(database, "emotion", segments(), {"gold": [*EMOTIONS, "anger", None, "joy"]})
    database.save(str(tmp_path))
    corpus = load("audformat", tmp_path)
    table = corpus.table.fillna({"end": -1.0})
    assert list(zip(table["start"].fillna(0), table["end"], strict=True)) == [(0, 1.25), (2.5, -1)] * 2 + [(2.5, -1)]
    assert list(table["speaker"] + " " + table["gender"]) == ["ann female"] * 2 + ["bob male"] * 2 + ["cid male"]
    assert list(table["label"]) == [*EMOTIONS, "anger", "joy"]
    assert corpus.outside == {"without a label": 1}


def test_splits_train_dev_and_test_are_the_official_split(database: "audformat.Database", tmp_path: Path) -> None:
    for number, split in enumerate(("train", "dev", "test")):
        database.splits[split] = audformat.Split(split)
        part = segments(range(2 * number, 2 * number + 2))
        add(database, f"emotion.{split}", part, {"gold": ["anger", "joy"]}, split)
    database.save(str(tmp_path))
    table = load("audformat", tmp_path).table
    assert list(table["official_subset"]) == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2


def test_votes_have_the_names_of_a_file_of_names(database: "audformat.Database", tmp_path: Path) -> None:
    add(database, "emotion", segments(), {rater: ["anger", "joy"] * 3 for rater in ("r1", "r2")})
    database.save(str(tmp_path))
    (tmp_path / "names.csv").write_text("column,old,new\nlabel,joy,happiness\n")
    corpus = load("audformat", tmp_path, options={"names": str(tmp_path / "names.csv")})
    assert corpus.classes == ("anger", "happiness")
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[2, 0], [0, 2]] * 3


@pytest.mark.parametrize("has_gold", [True, False])
def test_columns_of_human_raters_are_votes(has_gold: bool, database: "audformat.Database", tmp_path: Path) -> None:
    said = {
        "r1": ["anger", "joy", "joy", "anger", "joy", "neutral"],
        "r2": ["anger", "joy", "neutral", "anger", "joy", "joy"],
        "r3": ["joy", None, "neutral", "anger", "joy", "anger"],
    }
    add(database, "emotion.raters", segments(), said)
    if has_gold:
        add(database, "emotion", segments(), {"gold": ["anger", "joy", "neutral", "anger", "joy", "neutral"]})
    database.save(str(tmp_path))
    corpus = load("audformat", tmp_path)
    votes = [[2, 1, 0], [0, 2, 0], [0, 1, 2], [3, 0, 0], [0, 3, 0], [1, 1, 1]]
    labels = ["anger", "joy", "neutral", "anger", "joy", "neutral"]
    assert corpus.votes is not None
    assert corpus.annotations is not None
    assert corpus.votes.tolist() == votes[: len(corpus)]
    assert list(corpus.table["label"]) == labels[: len(corpus)]
    assert len(corpus) == (6 if has_gold else 5)
    assert dict(corpus.outside) == ({} if has_gold else {"without a category that most raters chose": 1})
    assert corpus.annotations["annotator"].nunique() == 3


def test_labels_that_differ_between_tables_are_an_error(database: "audformat.Database", tmp_path: Path) -> None:
    add(database, "a", segments(), {"gold": ["anger", "joy"] * 3})
    add(database, "b", segments(range(2)), {"gold": ["anger", "neutral"]})
    database.save(str(tmp_path))
    with pytest.raises(DataErrors) as error:
        load("audformat", tmp_path)
    assert error.value.errors == [("ann@2.5-", "is 'joy' in table a, but 'neutral' in b")]
    assert len(load("audformat", tmp_path, options={"table": "a"})) == 6


def test_a_column_of_another_name_is_found_by_its_labels_or_named(
    database: "audformat.Database", tmp_path: Path
) -> None:
    table = database["t"] = audformat.Table(segments())
    for name in ("mood", "style"):
        labels = EMOTIONS if name == "mood" else ["read", "acted"]
        database.schemes[name] = audformat.Scheme("str", labels=labels)
        table[name] = audformat.Column(scheme_id=name)
        table[name].set(labels[:2] * 3)
    database.save(str(tmp_path))
    assert load("audformat", tmp_path).classes == ("anger", "joy")
    assert load("audformat", tmp_path, options={"column": "style"}).classes == ("acted", "read")
    with pytest.raises(UserError, match="Known: mood, speaker, style"):
        load("audformat", tmp_path, options={"column": "stile"})


def test_without_a_speaker_the_message_proposes_an_expression(tmp_path: Path) -> None:
    corpus_trees.audformat(tmp_path)
    header = (tmp_path / "db.yaml").read_text()
    (tmp_path / "db.yaml").write_text(header[: header.index("  files:\n")])
    with pytest.raises(UserError, match="4 in all"):
        load("audformat", tmp_path)
    table = load("audformat", tmp_path, options={"speaker": "/([^/]{2})[^/]*$"}).table
    assert set(table["speaker"]) == {"03", "08", "10", "11"}


@pytest.mark.parametrize("content", ["name: [", "name: x\nlanguages: [deu]\n"])
def test_what_is_no_database_is_an_error_that_says_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text(content)
    with pytest.raises(UserError, match=r"cannot be read|may have the labels"):
        load("audformat", tmp_path)


def test_a_database_that_is_moved_has_the_same_digest(tmp_path: Path) -> None:
    before = load("audformat", corpus_trees.audformat(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    after = load("audformat", tmp_path / "there")
    assert (after.digest, after.audio_digest) == (before.digest, before.audio_digest)
