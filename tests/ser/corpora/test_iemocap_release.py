"""A generated IEMOCAP of full size, compared to the counts and rates of the literature."""

import os
import re
import wave
from pathlib import Path

import numpy as np
import pytest

from ser.corpora.corpus import Corpus
from ser.corpora.loaders.iemocap import CLASSES_4, load_iemocap, load_iemocap_4
from ser.noise import corrupt, corrupt_level
from tests.helpers.iemocap_tree import COUNTS_1_TO_4, COUNTS_5, OUTSIDE, build, build_full, dialogs


def test_a_small_tree_has_every_oddity_and_no_error(tmp_path: Path) -> None:
    release = build(tmp_path, per_class=8, audio="empty")
    texts = {path: path.read_bytes().decode() for path in sorted(release.glob("Session*/dialog/EmoEvaluation/S*.txt"))}
    assert len(texts) == 20
    whole = "".join(texts.values())
    for pattern in (r"\r\n", r" \n", "Neutral state;", "anger;", r"C-[FM]\d:", "C-E5:", r"dom  ;", r"\(.*;.*\)"):
        assert re.search(pattern, whole), pattern
    assert re.search(r"(C-E\d:)[^\n]*\n(C-E\d:[^\n]*\n)*\1", whole)
    corpus = load_iemocap(tmp_path).to_corpus()
    assert np.bincount(corpus.labels).tolist() == [40] * 6
    assert corpus.outside == dict.fromkeys(sorted(OUTSIDE), 5)
    assert corpus.table["session"].nunique() == 5
    assert corpus.table["speaker"].nunique() == 10
    letters = corpus.table["utterance_id"].str.extract(r"^Ses\d\d(.).*_(.)...$")
    assert len(letters.drop_duplicates()) == 4  # the dialog's letter is not the speaker's
    assert all(Path(path).is_file() for path in corpus.table["path"])
    assert set(load_iemocap_4(tmp_path).to_corpus().table["label"]) == set(CLASSES_4)


def test_a_tree_follows_from_its_seed_and_may_lack_sessions(tmp_path: Path) -> None:
    digests = [
        load_iemocap(build(tmp_path / str(number), sessions=(2, 5), seed=seed)).to_corpus().digest
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert set(load_iemocap(tmp_path / "0").to_corpus().table["session"]) == {"Ses02", "Ses05"}


def test_tones_are_half_a_second_at_16_khz(tmp_path: Path) -> None:
    build(tmp_path, sessions=(1,), per_class=1, audio="tones")
    for path in load_iemocap(tmp_path).to_corpus().table["path"]:
        with wave.open(path) as file:
            assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (16000, 8000, 1)
            assert np.abs(np.frombuffer(file.readframes(8000), "<i2")).max() > 7000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_full(tmp_path_factory.mktemp("iemocap"))


@pytest.fixture(scope="module")
def six(full: Path) -> Corpus:
    return load_iemocap(full).to_corpus()


@pytest.fixture(scope="module")
def four(full: Path) -> Corpus:
    return load_iemocap_4(full).to_corpus()


def counts(corpus: Corpus, chosen: np.ndarray) -> dict[str, int]:
    return dict(zip(corpus.classes, np.bincount(corpus.labels[chosen], minlength=6).tolist(), strict=True))


def test_the_full_release_has_the_published_counts(full: Path, six: Corpus, four: Corpus) -> None:
    assert sum(len(dialogs(session)) for session in range(1, 6)) == 151
    assert len(list(full.glob("Session*/dialog/EmoEvaluation/S*.txt"))) == 151
    assert len(six) == 7380
    assert six.outside == {"dis": 2, "fea": 40, "oth": 3, "sur": 107, "xxx": 2507}
    assert len(six) + sum(six.outside.values()) == 10039
    fifth = (six.table["session"] == "Ses05").to_numpy()
    assert (counts(six, ~fifth), (~fifth).sum()) == (COUNTS_1_TO_4, 5758)
    assert (counts(six, fifth), fifth.sum()) == (COUNTS_5, 1622)
    assert len(four) == 5531
    assert np.bincount(four.labels).tolist() == [1103, 1636, 1708, 1084]


def test_the_votes_of_the_full_release_bear_the_consensus_out(six: Corpus, four: Corpus) -> None:
    for corpus, share in ((six, 2 / 3), (four, 1 / 4)):
        assert corpus.votes is not None
        chosen = corpus.votes[np.arange(len(corpus)), corpus.labels]
        dissent = corpus.votes.sum(axis=1) > chosen
        assert (chosen == corpus.votes.max(axis=1)).all()
        assert (chosen >= 2).all()
        assert dissent.mean() == pytest.approx(share, abs=0.03)


def test_noisy_a_and_b_flip_just_so_many_utterances_and_a_lies_within_b(six: Corpus) -> None:
    train = np.flatnonzero(six.table["session"] != "Ses05")
    flipped = {}
    for rate, expected in ((0.2648, 1525), (0.4019, 2314)):  # 1524.7 and 2314.1 of 5,758
        noisy = corrupt(six, "disagreement", rate, seed=0, rows={"train": train})
        flipped[rate] = {i: noisy.labels[i] for i in np.flatnonzero(noisy.labels != noisy.truth)}
        assert len(flipped[rate]) == expected
        assert set(flipped[rate]) <= set(train.tolist())
        assert noisy.manifest["parts"]["train"]["rate"] == expected / 5758
        assert six.votes is not None
        assert all(six.votes[i, six.classes.index(label)] > 0 for i, label in flipped[rate].items())
    assert flipped[0.2648].items() < flipped[0.4019].items()


def test_the_rates_are_possible_in_every_session_of_six_classes_and_in_none_of_four(six: Corpus, four: Corpus) -> None:
    for corpus, relative in ((six, ""), (four, "eligible utterances")):
        parts = {name: np.flatnonzero(corpus.table["session"] == name) for name in sorted(set(corpus.table["session"]))}
        manifest = corrupt_level(corpus, "noisy-B", 0, parts).manifest
        assert manifest["recipe"] == "disagreement"
        assert relative in manifest["note"]
        assert bool(manifest["note"]) == bool(relative)


@pytest.mark.skipif("SER_IEMOCAP_ROOT" not in os.environ, reason="SER_IEMOCAP_ROOT does not name IEMOCAP's folder")
def test_the_real_iemocap_has_the_published_counts() -> None:
    root = Path(os.environ["SER_IEMOCAP_ROOT"]).absolute()
    corpus = load_iemocap(root).to_corpus()
    fifth = (corpus.table["session"] == "Ses05").to_numpy()
    assert len(corpus) + sum(corpus.outside.values()) == 10039
    assert (counts(corpus, ~fifth), counts(corpus, fifth)) == (COUNTS_1_TO_4, COUNTS_5)
    assert len(load_iemocap_4(root).to_corpus()) == 5531
