"""Each format that users have, in its real shape, loaded and described without a line written by hand."""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ser.corpora import Corpus, __main__, load
from ser.splits import check_disjoint, split
from ser.utils.command_line import run_command
from tests.helpers.table_formats import CLASSES, FORMATS, GENDERS, SUBSETS, UTTERANCES, votes_of

WITH_SPLIT = {"own", "emo_superb", "unicode_text", "parquet"}
WITH_VOTES = {"emo_superb": 10, "rater_columns": 5, "counted": 5, "long": 5, "parquet": 5}
WITH_CUTS = {"excel": (0.25, 1.75), "parquet": (0.5, 1.5)}
WITHOUT_GENDER = {"emobox"}


@pytest.fixture(scope="module", params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(name: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return FORMATS[name](tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def corpus(built: tuple[Path, dict[str, str]]) -> Corpus:
    return load("table", built[0], options=built[1])


def test_speakers_labels_genders_and_splits_are_those_of_the_fixture(name: str, corpus: Corpus) -> None:
    table = corpus.table
    assert Counter(zip(table["speaker"], table["label"].str.lower(), strict=True)) == Counter(
        (speaker, label) for _, speaker, label in UTTERANCES
    )
    assert [word.lower() for word in corpus.classes] == list(CLASSES)
    gender = dict.fromkeys(GENDERS, "unknown") if name in WITHOUT_GENDER else GENDERS
    assert table["gender"].tolist() == table["speaker"].map(gender).tolist()
    assert ("official_subset" in table) == (name in WITH_SPLIT)
    if name in WITH_SPLIT:
        assert table["official_subset"].tolist() == table["speaker"].map(SUBSETS).tolist()
    assert not corpus.outside


def test_audio_exists_and_cuts_are_read(name: str, corpus: Corpus) -> None:
    assert all(Path(path).is_file() for path in corpus.table["path"])
    cuts = corpus.table[["start", "end"]].to_numpy()
    if name == "nkululeko":
        assert np.isnan(cuts).all(axis=1).sum() == 12
        assert (cuts[~np.isnan(cuts).any(axis=1)] == (0.25, 1.75)).all()
    else:
        np.testing.assert_equal(cuts, np.tile(WITH_CUTS.get(name, (np.nan, np.nan)), (24, 1)))


def test_votes_are_those_of_the_fixture(name: str, corpus: Corpus) -> None:
    if name not in WITH_VOTES:
        assert corpus.votes is None
        return
    numbers = {id_: (number, label) for number, (id_, _, label) in enumerate(UTTERANCES)}
    for row in corpus.table.to_dict("records"):
        number, label = numbers[Path(row["path"]).stem]
        expected = [votes_of(number, label, WITH_VOTES[name])[word] for word in corpus.classes]
        if name == "rater_columns" and number == 0:
            expected = [3, 0, 0]  # one judged nothing, one something else
            assert row["other_votes"] == 1
        assert list(row["votes"]) == expected
    assert (corpus.annotations is not None) == (name in ("rater_columns", "long"))


def test_an_official_split_is_a_fold(name: str, corpus: Corpus) -> None:
    if name in WITH_SPLIT:
        fold = split(corpus)
        check_disjoint(corpus, fold)
        assert {corpus.table["speaker"][row] for row in fold.test} == {"s4"}


def test_what_was_taken_for_what_is_said(name: str, corpus: Corpus) -> None:
    about = [note for note in corpus.notes if note.startswith("columns: ")]
    assert len(about) == (name != "own")


def test_it_is_described(
    built: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, options = built
    words = [f"{key}={value}" for key, value in options.items()]
    given = ["--corpus-options", *words] if words else []
    monkeypatch.setattr(sys, "argv", ["__main__.py", "describe", "table", "--root", str(path), *given])
    code = run_command(__main__.main)
    printed, wrong = capfd.readouterr()
    assert (code, wrong) == (0, "")
    assert re.search(r"^utterances +24 *$", printed, re.MULTILINE)
