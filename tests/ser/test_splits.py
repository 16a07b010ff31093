from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora import Corpus
from ser.speaker_groups import MAX_FOLDS
from ser.splits import FORMER_AUTO, Fold, check_disjoint, fold_groups, split
from ser.utils.errors import DataErrors, UserError


def corpus_of(speakers: Sequence[str], sessions: Sequence[str] | None = None, paths: Sequence[str] | None = None):
    rows = range(len(speakers))
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{row:03d}" for row in rows],
            "path": paths or [f"/audio/{row}.wav" for row in rows],
            "speaker": speakers,
            "session": sessions or [""] * len(speakers),
            "label": ["x", *"y" * (len(speakers) - 1)],
        }
    )
    return Corpus("toy", table, ("x", "y"), Path("/audio"))


@pytest.fixture
def five_sessions() -> Corpus:
    """Corpus like IEMOCAP: five sessions, with a woman and a man each, who are in no other session."""
    speakers = [f"Ses0{session}{gender}" for session in range(1, 6) for gender in "FM" for _ in range(3)]
    return corpus_of(speakers, [name[:5] for name in speakers])


def members(corpus: Corpus, fold: Fold, subset: str, column: str = "speaker") -> list[str]:
    return sorted(set(corpus.table[column].iloc[fold.subsets[subset]]))


@pytest.mark.parametrize(("number", "validation"), [(1, 5), (2, 1), (3, 2), (4, 3), (5, 4)])
def test_fold_i_tests_session_i_and_validates_on_the_one_before(
    five_sessions: Corpus, number: int, validation: int
) -> None:
    fold = split(five_sessions, number)
    assert (fold.number, fold.count, fold.unit) == (number, 5, "session")
    assert members(five_sessions, fold, "test", "session") == [f"Ses0{number}"]
    assert members(five_sessions, fold, "validation", "session") == [f"Ses0{validation}"]
    assert len(members(five_sessions, fold, "train", "session")) == 3


def test_the_default_fold_is_the_last(five_sessions: Corpus) -> None:
    assert split(five_sessions).number == 5


def test_twenty_four_speakers_fall_into_eight_groups_of_three() -> None:
    names = [f"{number:02d}" for number in range(1, 25)]
    corpus = corpus_of(names * 2)
    unit, groups = fold_groups(corpus)
    assert unit == "speaker group"
    assert [len(group) for group in groups] == [3] * 8
    assert groups == sorted(groups)
    assert sorted(name for group in groups for name in group) == names
    fold = split(corpus)
    assert (fold.number, fold.count) == (8, 8)
    assert members(corpus, fold, "test") == list(groups[7])
    assert members(corpus, fold, "validation") == list(groups[6])
    assert len(fold.train) == 36


def test_the_folds_of_version_0_1_are_neighbours_by_name() -> None:
    names = [f"{number:02d}" for number in range(1, 25)]
    corpus = corpus_of(names * 2)
    assert fold_groups(corpus, FORMER_AUTO)[1] == [tuple(names[start : start + 3]) for start in range(0, 24, 3)]
    fold = split(corpus, by=FORMER_AUTO)
    assert members(corpus, fold, "test") == ["22", "23", "24"]
    assert members(corpus, fold, "validation") == ["19", "20", "21"]


@pytest.mark.parametrize(
    "sessions",
    [
        ["1", "1", "2", "2", "2"],  # too few
        ["1", "2", "3", "1", "3"],  # b is in two
        ["1", "2", "", "3", "3"],  # a has none
    ],
)
def test_sessions_that_cannot_be_held_out_give_way_to_speakers(sessions: list[str]) -> None:
    corpus = corpus_of(["a", "b", "a", "b", "c"], sessions)
    assert fold_groups(corpus) == ("speaker group", [("a",), ("b",), ("c",)])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "1", "2", "3", "4"])), min_size=3, max_size=40))
def test_no_fold_shares_a_speaker_and_each_row_is_tested_once(rows: list[tuple[int, str]]) -> None:
    own_session = dict(rows)
    for sessions in ([session for _, session in rows], [own_session[speaker] for speaker, _ in rows]):
        corpus = corpus_of([f"s{speaker}" for speaker, _ in rows], sessions)
        if len(own_session) < 3:
            with pytest.raises(UserError, match=f"has {len(own_session)} speaker"):
                split(corpus)
            continue
        folds = [split(corpus, number) for number in range(1, split(corpus).count + 1)]
        assert 3 <= len(folds) <= MAX_FOLDS
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(rows)))
        for fold in folds:
            speakers = [set(members(corpus, fold, subset)) for subset in fold.subsets]
            assert all(speakers)
            assert len(set().union(*speakers)) == sum(map(len, speakers))
            assert sorted(np.concatenate(list(fold.subsets.values()))) == list(range(len(rows)))


def test_leaving_one_speaker_out_validates_on_the_partner_of_the_session(five_sessions: Corpus) -> None:
    for number, (tested, validated) in enumerate([("Ses01F", "Ses01M"), ("Ses01M", "Ses01F"), ("Ses02F", "Ses02M")], 1):
        fold = split(five_sessions, number, by="speaker")
        assert (fold.count, fold.unit) == (10, "speaker")
        assert members(five_sessions, fold, "test") == [tested]
        assert members(five_sessions, fold, "validation") == [validated]
        assert len(members(five_sessions, fold, "train")) == 8


def test_without_sessions_the_speaker_before_validates() -> None:
    corpus = corpus_of(["a", "b", "c", "d"] * 10)
    fold = split(corpus, 1, by="speaker")
    assert (members(corpus, fold, "test"), members(corpus, fold, "validation")) == (["a"], ["d"])
    assert len(fold_groups(corpus_of([f"{i:03}" for i in range(50)]), "speaker")[1]) == 50


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        (["1", "2", "1", "2", "2"], "it has 2 sessions"),
        (["1", "2", "3", "1", "3"], r"more than one session \(a, b\)"),
        (["1", "2", "", "3", "3"], "1 of 5 utterances have no session"),
    ],
)
def test_sessions_asked_for_that_cannot_be_held_out_are_reported(sessions: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"cannot be split by session.*{message}.*--split-by speaker"):
        split(corpus_of(["a", "b", "a", "b", "c"], sessions), by="session")


def test_a_random_fifth_validates_and_says_what_it_leaks(five_sessions: Corpus) -> None:
    fold = split(five_sessions, 5, validation="random")
    assert members(five_sessions, fold, "test", "session") == ["Ses05"]
    assert (len(fold.train), len(fold.validation)) == (19, 5)  # round(.2 · 24)
    assert "speakers are also training speakers" in fold.warning
    assert split(five_sessions, 5).warning == ""
    rows = five_sessions.table.sample(frac=1, random_state=1)
    shuffled = split(Corpus("toy", rows, ("x", "y"), Path("/audio")), 5, validation="random")
    assert shuffled.validation.tolist() == fold.validation.tolist()


def test_a_random_fifth_takes_whole_recordings() -> None:
    paths = [f"/audio/dialogue{row // 10}.wav" for row in range(100)]
    corpus = corpus_of([f"s{row // 10 % 5}" for row in range(100)], paths=paths)
    fold = split(corpus, 1, validation="random")
    assert len(fold.validation) in (10, 20)
    assert not set(members(corpus, fold, "validation", "path")) & set(members(corpus, fold, "train", "path"))


def test_the_same_recording_under_two_names_in_two_subsets_is_a_leak() -> None:
    corpus = corpus_of(["a", "a", "b", "c", "c"])
    fold = split(corpus)
    check_disjoint(corpus, fold, ["1", "1", "2", "3", "3"])  # copies within a subset are no leak
    with pytest.raises(DataErrors, match="--exclude") as leak:
        check_disjoint(corpus, fold, ["1", "2", "1", "3", "2"])
    assert leak.value.errors == [
        ("u002", "in validation, is the same recording as u000 in train"),
        ("u004", "in test, is the same recording as u001 in train"),
    ]


def test_a_recording_in_two_subsets_is_a_leak() -> None:
    corpus = corpus_of(["a", "b", "c"], paths=["/audio/dialogue.wav", "/audio/b.wav", "/audio/dialogue.wav"])
    with pytest.raises(
        UserError, match=r"(?s)leak in fold 3.*dialogue\.wav: recording in both train and test.*--exclude"
    ):
        split(corpus)


def test_one_recording_may_hold_all_of_a_subset() -> None:
    corpus = corpus_of(["a", "a", "b", "c"], paths=["/audio/a.wav", "/audio/a.wav", "/audio/b.wav", "/audio/c.wav"])
    assert split(corpus).train.tolist() == [0, 1]


def test_a_speaker_in_two_subsets_is_a_leak() -> None:
    corpus = corpus_of(["a", "b", "c", "a"])
    torn = Fold(1, 3, "speaker group", np.array([0]), np.array([1, 3]), np.array([2]))
    with pytest.raises(UserError, match="a: speaker in both train and validation"):
        check_disjoint(corpus, torn)


@pytest.mark.parametrize("speakers", [["a"] * 6, ["a", "b"] * 3])
def test_fewer_than_three_speakers_cannot_be_split(speakers: list[str]) -> None:
    with pytest.raises(UserError, match="at least three"):
        split(corpus_of(speakers))


@pytest.mark.parametrize("number", [0, 6, -1])
def test_a_fold_that_is_not_there_is_reported_with_those_that_are(five_sessions: Corpus, number: int) -> None:
    with pytest.raises(UserError, match=f"fold {number} does not exist.*folds 1 to 5"):
        split(five_sessions, number)
