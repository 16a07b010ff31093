from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ser.corpora import Corpus
from ser.features.store import FeatureStore
from ser.splits import split
from ser.training.task import Subset, Task, make_task
from ser.utils.errors import UserError


def test_a_task_holds_the_train_and_validation_rows_and_no_test_row(
    tones: Corpus, task_at: Callable[..., Task], store: FeatureStore
) -> None:
    task, fold = task_at(), split(tones)
    assert task.classes == tones.classes
    assert task.store == store.path
    for part, rows in ((task.train, fold.train), (task.validation, fold.validation)):
        assert part.rows.tolist() == rows.tolist()
        assert list(part.utterance_ids) == tones.table["utterance_id"].iloc[rows].tolist()
        assert part.truth.tolist() == tones.labels[rows].tolist()
        assert list(part.speakers) == tones.table["speaker"].iloc[rows].tolist()
        assert set(part.genders) == {"unknown"}  # the table has none
    assert len(task.train) + len(task.validation) == len(tones) - len(fold.test)


def test_a_clean_task_has_true_labels(task_at: Callable[..., Task]) -> None:
    task = task_at("clean")
    for part in (task.train, task.validation):
        assert part.noisy.tolist() == part.truth.tolist()


def test_noise_comes_at_the_asked_rate_in_either_part_and_leaves_the_truth(task_at: Callable[..., Task]) -> None:
    task = task_at("symmetric:0.25")
    assert int((task.train.noisy != task.train.truth).sum()) == 4  # of 16
    assert int((task.validation.noisy != task.validation.truth).sum()) == 1  # of 4
    assert task.train.truth.tolist() == task_at("clean").train.truth.tolist()
    assert task.manifest["rate_realised"] == 0.25
    assert task.manifest["parts"].keys() == {"train", "validation"}


def test_the_noise_draw_follows_its_seed(task_at: Callable[..., Task]) -> None:
    one, same, other = (task_at("symmetric:0.25", seed) for seed in (1, 1, 2))
    assert one.manifest == same.manifest
    assert one.train.noisy.tolist() == same.train.noisy.tolist()
    assert one.train.noisy.tolist() != other.train.noisy.tolist()


def test_soft_labels_are_the_shares_of_the_votes(tones: Corpus, task_at: Callable[..., Task]) -> None:
    train = task_at().train
    for row, soft in zip(train.rows, train.soft, strict=True):
        assert soft == pytest.approx(np.array(tones.table["votes"][row]) / 3)
    assert train.soft[:2] == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))


def test_agreement_is_that_of_all_votes_also_of_those_outside_the_classes(tones: Corpus, store: FeatureStore) -> None:
    # Every third utterance has votes of 2 to 1, the others of 3 to 0. Utterance 1 has 3 votes outside the classes.
    others = replace(tones, table=tones.table.assign(other_votes=[3 * (number == 1) for number in range(24)]))
    train = make_task(others, split(others), store.path, "clean", 0).train
    assert train.agreement is not None
    assert train.rows.tolist() == list(range(16))
    assert train.agreement[:4] == ("majority", "none", "unanimous", "majority")


def test_without_votes_there_are_no_soft_labels_and_no_agreement(tones: Corpus, store: FeatureStore) -> None:
    unvoted = replace(tones, table=tones.table.drop(columns="votes"))
    train = make_task(unvoted, split(unvoted), store.path, "clean", 0).train
    assert train.soft is None
    assert train.agreement is None


def truths(part: Subset) -> list[int]:
    return part.truth.tolist()


def test_given_labels_have_the_truth_that_the_corpus_knows(tones: Corpus, store: FeatureStore) -> None:
    first = tones.table["utterance_id"][0]
    known = [label if name != first else None for name, label in tones.table[["utterance_id", "label"]].to_numpy()]
    half_known = replace(tones, table=tones.table.assign(true_label=known))
    fold = split(tones)
    with_truth = make_task(half_known, fold, store.path, "given", 0)
    without_truth = make_task(tones, fold, store.path, "given", 0)
    assert truths(with_truth.train) == [-1, *tones.labels[fold.train][1:]]
    assert truths(without_truth.train) == [-1] * 16
    assert without_truth.train.noisy.tolist() == with_truth.train.noisy.tolist() == tones.labels[fold.train].tolist()


def test_a_level_that_the_corpus_does_not_have_is_reported(task_at: Callable[..., Task]) -> None:
    with pytest.raises(UserError, match="human"):
        task_at("human:0.2")  # "high" and "low" are no emotions


def test_some_utterances_of_a_part_keep_all_that_is_known_of_them(task_at):
    part = task_at("symmetric:0.25").train
    some = part.take(np.array([3, 0, 3]))
    assert some.utterance_ids == (part.utterance_ids[3], part.utterance_ids[0], part.utterance_ids[3])
    for name in ("rows", "noisy", "truth", "soft"):
        assert np.array_equal(getattr(some, name), getattr(part, name)[[3, 0, 3]])
    for name in ("speakers", "genders", "agreement"):
        assert getattr(some, name) == tuple(getattr(part, name)[row] for row in (3, 0, 3))
