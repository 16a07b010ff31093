"""Estimates of label noise: values known by hand, held-out speakers, predictions from a file, and the command."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ser.corpora import Corpus
from ser.metrics.agreement import human_ceiling
from ser.noise.__main__ import main
from ser.noise.estimate import (
    MIN_UTTERANCES,
    Estimate,
    ceiling,
    conclusion,
    estimate,
    known_truth,
    nearest_level,
    out_of_sample,
    read_predictions,
    speaker_groups,
    statistics,
    with_added_noise,
)
from ser.splits import fold_groups
from ser.utils.command_line import run_command
from ser.utils.errors import DataErrors, UserError


def sure(truth: NDArray[np.int64], classes: int, confidence: NDArray[np.float64] | float = 0.9) -> NDArray[np.float64]:
    """Predictions of the truth, with some confidence and the rest shared by the other classes."""
    own = np.broadcast_to(confidence, truth.shape)[:, None]
    one_hot = np.eye(classes)[truth]
    return np.asarray(own * one_hot + (1 - own) * (1 - one_hot) / (classes - 1))


def corpus_of(labels: list[str], **columns: object) -> Corpus:
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{row:03}" for row in range(len(labels))],
            "speaker": [f"s{row % 4}" for row in range(len(labels))],
            "label": labels,
        }
    ).assign(**columns)
    return Corpus("mine", table, ("angry", "happy", "sad"), synthesize=lambda _: np.zeros(16000, np.float32))


# The estimates


def test_a_recogniser_that_knows_the_truth_finds_the_rate_the_noise_flips_and_the_utterances() -> None:
    truth = np.repeat([0, 1, 2], 40)
    labels = truth.copy()
    labels[:8] = 1  # a fifth of class 0
    labels[40:44] = 2  # a tenth of class 1
    confidence = np.where(truth != labels, np.linspace(0.9, 0.95, len(truth)), 0.8)
    found = estimate(labels, sure(truth, 3, confidence))
    assert found.rate == pytest.approx(12 / 120, abs=1e-9)
    assert found.transition == pytest.approx(np.array([[0.8, 0.2, 0], [0, 0.9, 0.1], [0, 0, 1]]), abs=1e-9)
    assert sorted(found.suspicious) == [*range(8), *range(40, 44)]
    assert found.suspicious[0] == 43  # the surest of these
    assert found.likely.tolist() == truth[found.suspicious].tolist()
    assert (np.diff(found.score) >= 0).all()
    assert found.score == pytest.approx((1 - confidence[found.suspicious]) / 2)
    assert found.uar == pytest.approx((32 / 32 + 36 / 44 + 40 / 44) / 3)


def test_the_surest_tenth_counts_the_predictions_with_the_highest_probability() -> None:
    truth = np.tile([0, 1], 50)
    confidence = np.where(np.arange(100) < 10, 0.95, 0.7)
    labels = truth.copy()
    labels[[3, 8]] = 1 - truth[[3, 8]]
    labels[50:90] = 1 - truth[50:90]
    found = estimate(labels, sure(truth, 2, confidence))
    assert (found.surest, found.surest_rate) == (10, 0.2)
    assert found.surest_error == pytest.approx(np.sqrt(3 / 12 * 9 / 12 / 12))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(20, 60))
def test_estimates_are_shares_and_do_not_depend_on_the_order_of_utterances_or_classes(
    seed: int, classes: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size)])
    predictions = rng.dirichlet(np.ones(classes), len(labels))
    found = estimate(labels, predictions)
    order, renamed = rng.permutation(len(labels)), rng.permutation(classes)
    moved = estimate(renamed[labels[order]], predictions[order][:, np.argsort(renamed)])
    assert 0 <= found.rate <= 1
    assert found.joint.sum() == pytest.approx(1)
    # Rounding to whole utterances breaks ties by the position of the class.
    assert moved.rate == pytest.approx(found.rate, abs=classes**2 / len(labels))
    assert moved.surest_rate == found.surest_rate
    assert moved.uar == pytest.approx(found.uar)
    assert not set(found.suspicious[found.likely == labels[found.suspicious]])


def test_a_class_that_no_label_has_and_one_that_a_single_label_has_are_taken() -> None:
    found = estimate(np.array([0] * 10 + [2]), sure(np.array([0] * 9 + [2, 2]), 4))
    assert found.transition[[1, 3]].tolist() == [[0.0] * 4] * 2
    assert found.suspicious.tolist() == [9]


def test_labels_that_are_all_the_same_are_an_error() -> None:
    with pytest.raises(UserError, match="same label"):
        estimate(np.zeros(5, dtype=np.int64), np.full((5, 2), 0.5))


def test_the_nearest_level_is_that_of_the_nearest_rate() -> None:
    levels = [nearest_level(rate) for rate in (0, 0.13, 0.14, 0.33, 0.34, 1)]
    assert levels == ["clean", "clean", "noisy-A", "noisy-A", "noisy-B", "noisy-B"]


def an_estimate(uar: float = 0.6, rate: float = 0.3, surest: float = 0.3) -> Estimate:
    none = np.zeros(0, dtype=np.int64)
    return Estimate(uar, 0.02, rate, surest, 0.05, 50, np.eye(3) / 3, none, none, none.astype(float))


def test_a_conclusion_names_both_levels_one_where_they_agree_and_none_for_a_guesser() -> None:
    assert "clean (0.00%), confident learning to noisy-A (26.48%)" in conclusion(an_estimate(surest=0.05), 3)
    assert conclusion(an_estimate(), 3) == "Both estimates are nearest to level noisy-A (26.48%)."
    assert "No level is named" in conclusion(an_estimate(uar=0.37), 3)
    assert "No level is named" not in conclusion(an_estimate(uar=0.38), 3)


def test_what_is_known_of_the_truth_is_reported_with_the_estimate() -> None:
    corpus = corpus_of(["angry", "sad", "sad", "happy"], true_label=["angry", "happy", None, "sad"])
    found = estimate(corpus.labels, sure(np.array([0, 1, 0, 2]), 3))
    found = Estimate(**{**found.__dict__, "suspicious": np.array([1, 2, 0])})
    assert known_truth(corpus, found) == {"known": 3, "rate": 2 / 3, "suspicious_wrong": 0.5}
    assert known_truth(corpus_of(["angry", "sad"]), found) is None
    assert known_truth(corpus_of(["angry", "sad"], true_label=[None, None]), found) is None


# The recogniser


def test_predictions_for_a_group_do_not_depend_on_its_labels() -> None:
    rng = np.random.default_rng(0)
    features, labels, groups = rng.normal(size=(90, 5)), rng.integers(0, 3, 90), np.repeat([0, 1, 2], 30)
    first = out_of_sample(features, labels, groups, 3)
    changed = np.where(groups == 1, (labels + 1) % 3, labels)
    second = out_of_sample(features, changed, groups, 3)
    assert np.array_equal(first[groups == 1], second[groups == 1])
    assert not np.allclose(first[groups == 0], second[groups == 0])
    assert first.sum(axis=1) == pytest.approx(np.ones(90))


def test_a_class_that_the_other_groups_lack_gets_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(6, 2))
    found = out_of_sample(features, np.array([0, 0, 0, 1, 0, 2]), np.array([0, 0, 1, 1, 2, 2]), 3)
    assert not found[2:4, 1].any()
    assert not found[4:, 2].any()
    alone = out_of_sample(features[:4], np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 3)
    assert alone.tolist() == [[0, 1, 0]] * 2 + [[1, 0, 0]] * 2


def test_groups_are_those_of_the_folds(tones: Corpus) -> None:
    groups = speaker_groups(tones)
    for index, speakers in enumerate(fold_groups(tones)[1]):
        assert set(tones.table["speaker"][groups == index]) == set(speakers)


class Stored:
    """What ``statistics`` uses of a feature store."""

    def __init__(self, utterances: list[NDArray[np.float64]]) -> None:
        self.utterances = utterances

    def __len__(self) -> int:
        return len(self.utterances)

    def utterance(self, row: int) -> NDArray[np.float64]:
        return self.utterances[row]


def test_statistics_are_standardised_by_speaker_and_rare_speakers_together() -> None:
    speakers = ["a"] * MIN_UTTERANCES + ["b"] * MIN_UTTERANCES + ["c"] * 3 + ["d"] * 2
    levels = [-50.0] * MIN_UTTERANCES + [-20.0] * MIN_UTTERANCES + [-90.0] * 3 + [-10.0] * 2
    rng = np.random.default_rng(0)
    utterances = [rng.normal(level, 1, (row + 1, 3)) for row, level in enumerate(levels)]
    table = statistics(Stored(utterances), speakers)
    assert table.shape == (25, 18)
    for members in (slice(0, 10), slice(10, 20), slice(20, 25)):
        assert table[members].mean(axis=0) == pytest.approx(np.zeros(18), abs=1e-9)
        assert table[members].std(axis=0) == pytest.approx(np.ones(18))
    # Each alone would hide that c is quieter than d.
    assert table[20:23, :3].max() < 0 < table[23:, :3].min()


def test_identical_utterances_give_zeros_not_nan() -> None:
    assert not statistics(Stored([np.ones((1, 3))] * 3), ["a", "a", "b"]).any()


def test_noise_on_top_raises_the_estimates_of_a_good_recogniser() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    corpus = corpus_of([("angry", "happy", "sad")[label] for label in labels])
    features = np.eye(3)[corpus.labels] * 6 + rng.normal(size=(600, 3))
    groups = np.arange(600) % 4
    given_ = estimate(corpus.labels, out_of_sample(features, corpus.labels, groups, 3))
    a, b = with_added_noise(corpus, features, groups, 0)
    assert [(one.recipe, one.rate) for one in (a, b)] == [("human", 0.2648), ("human", 0.4019)]
    assert given_.rate < 0.02
    assert given_.surest_rate == 0
    assert 0.2 < a.estimate.rate < b.estimate.rate
    assert a.estimate.surest_rate < b.estimate.surest_rate


# Predictions from a file


def written(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def test_predictions_are_read_by_name_whatever_the_order(tmp_path: Path) -> None:
    corpus = corpus_of(["angry", "happy", "sad"])
    path = tmp_path / "p.csv"
    path.write_text("sad,note,utterance_id,angry,happy\n.5,x,u002,.25,.25\n0,,u000,1,0\n1e-1,,u001,.2,.7004\n")
    found = read_predictions(path, corpus)
    assert found == pytest.approx(np.array([[1, 0, 0], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]]), abs=1e-3)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


def test_all_faults_of_predictions_are_listed_at_once(tmp_path: Path) -> None:
    corpus = corpus_of(["angry", "happy", "sad"] * 3)
    rows: list[list[object]] = [
        ["utterance_id", "angry", "happy", "sad"],
        ["u000", "nan", 0.5, 0.5],
        ["u001", 0.5, 0.6, 0.1],
        ["u002", "much", 0, 0],
        ["u003", -0.5, 1, 0.5],
        ["u004", 1, 0],
        ["u005", 1, 0, 0],
        ["u005", 1, 0, 0],
        ["u999", 1, 0, 0],
        ["u006", "inf", 0, 0],
        ["u007", 1, 0, 0],
    ]
    with pytest.raises(DataErrors) as error:
        read_predictions(written(tmp_path / "p.csv", rows), corpus)
    names = [name for name, _ in error.value.errors]
    assert names == [*(f"u00{number}" for number in range(6)), "line 9", "u006", "u008"]
    found = dict(error.value.errors)
    assert "sum to 1.2, not to 1" in found["u001"]
    assert "'u999' is not in corpus 'mine'" in found["line 9"]
    assert found["u008"] == "has no line"


def test_a_class_without_a_column_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", [["utterance_id", "angry", "hapy", "sad"], ["u000", 1, 0, 0]])
    with pytest.raises(DataErrors, match="happy: column missing"):
        read_predictions(path, corpus_of(["angry", "sad"]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_give_predictions_or_a_message(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    corpus = corpus_of(["angry", "happy", "sad"])
    content = bytearray(b"utterance_id,angry,happy,sad\nu000,1,0,0\nu001,0.2,0.7,0.1\nu002,0.25,0.25,0.5\n")
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=6))
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(content)
    try:
        found = read_predictions(path, corpus)
    except UserError:
        return
    assert found.sum(axis=1) == pytest.approx(np.ones(3))
    assert found.min() >= 0


# The human ceiling


def test_the_ceiling_comes_from_named_annotators_without_self_evaluations() -> None:
    said = [
        ("u000", "x", "sad"),
        ("u000", "y", "sad"),
        ("u000", "z", "angry"),
        ("u001", "x", "happy"),
        ("u001", "y", "happy"),
    ]
    frame = pd.DataFrame(said, columns=["utterance_id", "annotator", "label"]).assign(is_self=False)
    own = pd.DataFrame([("u000", "self", "happy", True)], columns=frame.columns)
    corpus = corpus_of(["sad", "happy"])
    with_self = Corpus(
        "m", corpus.table, corpus.classes, synthesize=corpus.synthesize, annotations=pd.concat([frame, own])
    )
    found = ceiling(with_self)
    expected = human_ceiling(frame, corpus.classes)
    assert found is not None
    assert (found.uar, found.pairs, found.by_annotator) == (expected.uar, expected.pairs, expected.by_annotator)
    assert set(found.by_annotator) == {"x", "y", "z"}


def test_the_ceiling_comes_from_votes_also_where_some_have_none_and_a_class_is_called_other() -> None:
    table = pd.DataFrame(
        {
            "utterance_id": ["a", "b", "c"],
            "speaker": "s",
            "label": ["other", "sad", "sad"],
            "votes": pd.Series([(3, 0), (0, 2), None], dtype=object),
            "other_votes": [0, 1, 3],
        }
    )
    found = ceiling(Corpus("m", table, ("other", "sad"), synthesize=lambda _: np.zeros(9, np.float32)))
    # other: 3 of 3 are right; sad: the two who say so, and not the one outside the classes, against two for sad.
    assert found is not None
    assert (found.pairs, found.recall) == (6, {"other": 1.0, "sad": pytest.approx(2 / 3)})
    assert ceiling(corpus_of(["angry", "sad"])) is None


# The command


class Called(NamedTuple):
    code: int
    out: str
    error: str


Call = Callable[..., Called]


@pytest.fixture(scope="module")
def table(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones as files; one label is wrong, and the true ones are known."""
    folder = tmp_path_factory.mktemp("tones")
    rows = tones.table[["utterance_id", "speaker", "label"]]
    for name in rows["utterance_id"]:
        soundfile.write(folder / f"{name}.wav", tones.synthesize(name), 16000)
    wrong = rows["utterance_id"] == "s1-04-high"
    votes = np.array(tones.table["votes"].tolist())
    rows.assign(
        path=rows["utterance_id"] + ".wav",
        true_label=rows["label"],
        label=rows["label"].mask(wrong, "low"),
        votes_high=votes[:, 0],
        votes_low=votes[:, 1],
    ).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture
def call(
    table: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Runs ``estimate`` on the table in this process; whitespace in what it says is one space."""
    features = tmp_path_factory.getbasetemp() / "estimate-features"

    def run(*arguments: object) -> Called:
        defaults = {"--root": table, "--features": features}
        rest = [str(word) for pair in defaults.items() if pair[0] not in arguments for word in pair]
        monkeypatch.setattr(sys, "argv", ["ser.noise", "estimate", "table", *rest, *map(str, arguments)])
        try:
            code = run_command(main)
        except SystemExit as stop:  # how the parser of the command line ends
            code = int(stop.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Called(code, " ".join(said.out.split()), " ".join(said.err.split()))

    return run


def test_the_command_finds_the_wrong_label_among_the_tones(call: Call, tmp_path: Path) -> None:
    done = call("--output", tmp_path / "one")
    assert done.code == 0
    assert re.fullmatch(r"features panns_16k of 24 utterances, 1 min of audio, about \d+ kB in \S+|", done.error)
    assert (
        "Known truth: 4.17% of the 24 labels with a true label are wrong, and 100.0% of those that look wrong."
        in done.out
    )
    assert "one annotator scores UAR" in done.out
    assert "+ 26.48% symmetric noise" in done.out
    assert "Accuracy where the noise is known" in done.out
    lines = (tmp_path / "one" / "suspicious.csv").read_text().splitlines()
    assert lines[0] == "utterance_id,label,likely_label,score"
    assert [line.split(",")[:3] for line in lines[1:]] == [["s1-04-high", "low", "high"]]
    found = json.loads((tmp_path / "one" / "estimate.json").read_text())
    assert found["truth"] == {"known": 24, "rate": 1 / 24, "suspicious_wrong": 1.0}
    assert found["as_given"]["confident_learning"]["nearest_level"] == "clean"
    assert call("--output", tmp_path / "two").code == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_predictions_from_a_file_take_the_recognisers_place(call: Call, table: Path, tmp_path: Path) -> None:
    names = pd.read_csv(table)["utterance_id"]
    rows = [[name, *((0.9, 0.1) if name.endswith("high") else (0.2, 0.8))] for name in names]
    path = written(tmp_path / "p.csv", [["utterance_id", "high", "low"], *rows])
    done = call("--predictions", path, "--features", "/dev/null/never-opened")
    assert (done.code, done.error) == (0, "")
    assert "as given 0.96 4.2%" in done.out
    assert "noise on top" not in done.out
    assert "1 label looks wrong" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--predictions", "/no/file.csv"], ["/no/file.csv"]),
        (["--root", "/no/table.csv"], ["/no/table.csv", "does not exist"]),
        (["--output", "/dev/null/here"], ["--output '/dev/null/here' is not writable"]),
        (["--features", "/dev/null/here"], ["/dev/null/here"]),
        (["--corpus-options", "a"], ["KEY=VALUE"]),
        (["--seed", "x"], ["--seed"]),
    ],
)
def test_a_mistake_ends_with_one_message(call: Call, arguments: list[str], said: list[str]) -> None:
    done = call(*arguments)
    assert done.code == 2
    for words in said:
        assert words in done.error


def test_earlier_results_are_not_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "suspicious.csv").write_text("mine")
    done = call("--output", tmp_path)
    assert done.code == 2
    assert "suspicious.csv already, with other content" in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["suspicious.csv"]


def test_two_speakers_are_too_few(call: Call, table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame["path"] = [str(table.parent / name) for name in frame["path"]]
    frame["speaker"] = frame["speaker"].str[-1].astype(int) % 2
    frame.to_csv(tmp_path / "two.csv", index=False)
    done = call("--root", tmp_path / "two.csv")
    assert done.code == 2
    assert "2 speaker(s)" in done.error
