"""Tasks and trainings on labels from votes."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from ser import evaluate, train
from ser.config import Config
from ser.corpora import Corpus
from ser.features.store import FeatureStore
from ser.labels import LabelKind
from ser.losses import LOSSES, CrossEntropy
from ser.splits import split
from ser.training import loop
from ser.training.setup import check_labels_fit, training_targets
from ser.training.state import fingerprint
from ser.training.task import Task, make_task
from ser.utils.command_line import run_command
from ser.utils.errors import UserError

TINY = {
    "model.width": 0.03, "training.epochs": 1, "training.batch_size": 6, "training.crop_seconds": 0.5,
    "training.precision": "float32",
}  # fmt: skip
SETTINGS = [f"{key}={value}" for key, value in TINY.items()]


@pytest.fixture(scope="module")
def dissenting(tones: Corpus) -> Corpus:
    """The tones, of which every sixth has another plurality of votes than its label."""
    votes = [vote[::-1] if number % 6 == 0 else vote for number, vote in enumerate(map(tuple, tones.table["votes"]))]
    return replace(tones, table=tones.table.assign(votes=pd.Series(votes, dtype=object)))


@pytest.fixture(scope="module")
def task_with(dissenting: Corpus, store: FeatureStore) -> Callable[[LabelKind], Task]:
    def make(kind: LabelKind) -> Task:
        return make_task(dissenting, split(dissenting), store.path, "clean", 0, labels=kind, with_test=True)

    return make


def test_a_task_trains_and_selects_on_the_kind_and_is_scored_on_the_corpus_label(
    dissenting: Corpus, task_with: Callable[[LabelKind], Task]
) -> None:
    plurality, soft = task_with("plurality"), task_with("soft")
    assert dissenting.votes is not None
    assert plurality.test is not None
    for subset in (plurality.train, plurality.validation):
        assert subset.noisy.tolist() == dissenting.votes[subset.rows].argmax(axis=1).tolist()
        assert subset.truth.tolist() == dissenting.labels[subset.rows].tolist()
        assert subset.targets is None
    assert (plurality.train.noisy != plurality.train.truth).any()
    assert plurality.test.noisy.tolist() == plurality.test.truth.tolist()
    assert soft.train.targets == pytest.approx(soft.train.soft)
    assert soft.train.take(np.array([3, 0])).targets == pytest.approx(soft.train.soft[[3, 0]])


def test_every_loss_trains_on_the_distribution(task_with: Callable[[LabelKind], Task]) -> None:
    soft, plurality = task_with("soft").train, task_with("plurality").train
    for loss in LOSSES.values():
        assert training_targets(loss, soft).numpy() == pytest.approx(soft.targets)
    assert training_targets(CrossEntropy, plurality).tolist() == plurality.noisy.tolist()


@pytest.mark.parametrize("loss", ["focal", "elr", "mixup"])
def test_networks_train_on_soft_labels_as_on_any(task_with: Callable[[LabelKind], Task], loss: str) -> None:
    (record,) = loop.train(Config.from_dotted({**TINY, "loss.name": loss}), task_with("soft"), seed=0)
    assert np.isfinite(record.metrics["train/loss"])
    assert record.utterances is not None
    table = record.utterances[record.utterances["subset"] == "train"]
    assert (table["noisy_label"] != table["label"]).sum() == 3  # of 16: positions 0, 6 and 12


def test_cross_entropy_on_soft_labels_is_the_loss_soft_labels(task_with: Callable[[LabelKind], Task]) -> None:
    (one,) = loop.train(Config.from_dotted(TINY), task_with("soft"), seed=0)
    (other,) = loop.train(Config.from_dotted({**TINY, "loss.name": "soft_labels"}), task_with("consensus"), seed=0)
    for key, value in one.state["model"].items():
        assert torch.equal(value, other.state["model"][key])


def test_kinds_are_different_runs_and_consensus_is_that_of_version_0_1(task_with: Callable[[LabelKind], Task]) -> None:
    config = Config.from_dotted(TINY)
    prints = {kind: fingerprint(config, 0, task_with(kind)) for kind in ("consensus", "plurality", "soft")}
    assert len(set(prints.values())) == 3
    consensus = task_with("consensus")
    former = replace(consensus, manifest={key: one for key, one in consensus.manifest.items() if key != "labels"})
    assert fingerprint(config, 0, former) == prints["consensus"]


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ({"model.name": "random_forest"}, "soft", "--labels soft: the classical model random_forest takes one label"),
        ({"loss.name": "soft_labels"}, "plurality", "--labels plurality: loss 'soft_labels' trains on the annotators'"),
        ({"loss.name": "soft_labels"}, "soft", "with --labels soft, cross_entropy trains on the same"),
    ],
)
def test_what_cannot_train_on_a_kind_is_refused(values: dict[str, str], kind: LabelKind, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_labels_fit(Config.from_dotted(values), kind)


@pytest.mark.parametrize("kind", ["plurality", "dawid_skene", "consensus"])
def test_classical_models_train_on_labels(kind: LabelKind) -> None:
    check_labels_fit(Config.from_dotted({"model.name": "random_forest"}), kind)


def test_the_command_trains_on_labels_from_votes_and_its_checkpoint_is_evaluated(
    dissenting: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert dissenting.synthesize is not None
    rows = dissenting.table[["utterance_id", "speaker", "label"]]
    for name in rows["utterance_id"]:
        soundfile.write(tmp_path / f"{name}.wav", dissenting.synthesize(name), 16000)
    votes = pd.DataFrame(dissenting.table["votes"].tolist(), columns=["votes_high", "votes_low"])
    pd.concat([rows.assign(path=rows["utterance_id"] + ".wav"), votes], axis=1).to_csv(tmp_path / "t.csv", index=False)
    corpus = ["--corpus", "table", "--corpus-root", str(tmp_path / "t.csv"), "--features", str(tmp_path / "features")]

    def call(main: Callable[[], int], *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *corpus, *words])
        code = run_command(main)
        printed = capsys.readouterr()
        return code, " ".join((printed.out + printed.err).split())

    where = ["--output", str(tmp_path / "run"), "--set", *SETTINGS]
    code, text = call(train.main, *where, "--labels", "dawid_skene")
    assert code == 2
    assert "the errors of each annotator" in text
    code, text = call(train.main, *where, "--labels", "soft", "--noise", "symmetric:0.25")
    assert code == 2
    assert "noise level clean only" in text
    code, text = call(train.main, *where, "--labels", "soft")
    assert code == 0
    assert "clean (soft: 48 votes on 16 train utterances, 0 ties, 18.75% other labels than the corpus;" in text
    assert json.loads((tmp_path / "run" / "noise_manifest.json").read_text())["labels"]["kind"] == "soft"
    code, text = call(evaluate.main, "--checkpoint", str(tmp_path / "run" / "state.pt"))
    assert code == 0, text
    assert "Against noisy labels (4 utterances)" in text
