"""Measure how often the report claims a difference: made-up trainings, MLflow records, tables, sentence.

Each study has two methods at one noise level, leave one speaker out, and a design with one primary comparison. Test
predictions are drawn from a model with a component of each trained network; everything after them is the product's own
code: event log, upload, MLflow store, reading, comparison, sentence.

python benchmarks/chain.py
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
import tyro
from mlflow import MlflowClient
from mlflow.entities import Dataset
from numpy.typing import NDArray

from analysis.common.records import open_records
from analysis.options import RecordsOptions
from analysis.page.opening import make_opening
from ser.training.utterance_table import AGREEMENT, PROBABILITY, SUBSET, TEST
from study.schema import CONFIRM, DEFAULT, DESIGN, FINISHED, UNSEEN, UTTERANCES, Tag
from study.setup.candidates import Candidate
from study.setup.design import Design, FoldSpeakers
from study.tracking.event_log import EventLog
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import open_parent
from study.tracking.upload import Delivery, SearchRuns, deliver
from study.trial.specification import artifact_event, epoch_event

Floats = NDArray[np.float64]

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
UTTERANCES_PER_CLASS = 7
FOLDS = 24
LEVEL = "noisy-B"
METHODS = ("cross_entropy", "proselflc")
MEAN, SPEAKER, RUN, RESIDUAL = 0.4, 0.05, 0.026, 0.025
"""UAR of a method, and the standard deviations of speakers (shared by the methods), trained networks, and both."""

REDRAWN = 0.09
"""Share of the utterances whose difficulty is that of one training; that of the others is the same in all trainings."""

CLAIM = re.compile(r"ProSelfLC is (better|worse) than cross entropy")


def main(studies: int = 200, effect: float = 0.05, seed: int = 0) -> None:
    """Print the share of studies whose report claims a difference, without a true difference and with one.

    Args:
        studies: Number of studies without a difference, and with one.
        effect: Difference of the latter, 0 to 1.
        seed: Seed of the simulation.
    """
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.db"
        open_client(f"sqlite:///{empty}")
        for difference in (0.0, effect):
            began = time.perf_counter()
            claims = 0
            for number in range(1, studies + 1):
                rng = np.random.default_rng([seed, number, round(1000 * difference)])
                # A path of its own: MLflow keeps a connection to each database that it has opened.
                own = Path(folder) / f"study-{difference:g}-{number}"
                sentence = result_of_study(own, empty, difference, rng)
                claims += bool(CLAIM.search(sentence))
                if number % 20 == 0 or number == studies:
                    error = np.sqrt(claims / number * (1 - claims / number) / number)
                    print(
                        f"{100 * difference:g} points: {claims} of {number} studies claim a difference, "
                        f"{claims / number:.3f} ± {error:.3f}, {time.perf_counter() - began:.0f} s; last: {sentence}",
                        flush=True,
                    )


def result_of_study(folder: Path, empty: Path, difference: float, rng: np.random.Generator) -> str:
    """Record a study in a store of its own and return the sentence of its report on the primary comparison.

    Args:
        folder: Folder of the store; created, and removed at the end.
        empty: An empty MLflow database, which takes seconds to create.
        difference: True difference of the methods.
        rng: Generator of the predictions.
    """
    folder.mkdir()
    shutil.copy(empty, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "chain")
    declared = design()
    voices = rng.normal(0, SPEAKER, FOLDS)
    difficulty = rng.random((FOLDS, len(CLASSES) * UTTERANCES_PER_CLASS))
    for method in METHODS:
        parent = open_parent_of(client, experiment, method, declared)
        skills = MEAN + voices + rng.normal(0, RUN, FOLDS) + rng.normal(0, RESIDUAL, FOLDS)
        skills += difference if method == METHODS[1] else 0.0
        for fold in range(1, FOLDS + 1):
            table = predictions(fold, skills[fold - 1], difficulty[fold - 1], rng)
            record(client, experiment, parent, folder / "studies", method, fold, declared, table)
    sentence = make_opening(open_records(RecordsOptions(uri, "chain"))).primary
    shutil.rmtree(folder)
    return sentence


def design() -> Design:
    """Return the design of every study."""
    return Design(
        study="chain", experiment="chain", corpus="made", corpus_digest="d", classes=CLASSES, unit="speaker",
        folds=tuple(FoldSpeakers(fold, (f"speaker {fold}",), ()) for fold in range(1, FOLDS + 1)), seeds=(1,),
        levels=(LEVEL,), methods=METHODS,
        candidates=tuple(Candidate(method, LEVEL, DEFAULT, "", {}) for method in METHODS), reference=METHODS[0],
        primary={"level": LEVEL, "method": METHODS[1]}, stopped=(), select_on="noisy", protocol="p",
    )  # fmt: skip


def tags(method: str, declared: Design) -> dict[str, str]:
    """Return the tags that all runs of a method have."""
    return {
        Tag.STUDY: declared.study, Tag.SPACE: method, Tag.NOISE: LEVEL, Tag.NOISE_RATE: "0.4019", Tag.STAGE: CONFIRM,
        Tag.CORPUS: "made", Tag.PROTOCOL: declared.protocol, Tag.SELECT_ON: "noisy", Tag.SEARCHED: "",
        Tag.DESIGN: declared.digest, Tag.PLANNED_TRIALS: str(FOLDS),
    }  # fmt: skip


def dataset() -> Dataset:
    """Return the record of the corpus."""
    classes = ", ".join(f'"{name}"' for name in CLASSES)
    return Dataset("made", "digest", "local", "{}", f'{{"classes": [{classes}], "columns": []}}', "{}")


def open_parent_of(client: MlflowClient, experiment: str, method: str, declared: Design) -> str:
    """Create the parent run of a method, with the design."""
    key = {Tag.STUDY: declared.study, Tag.SPACE: method, Tag.NOISE: LEVEL}
    parent = open_parent(client, experiment, f"{method} {LEVEL}", key, tags(method, declared), dataset(), {})
    client.log_dict(parent, declared.to_json(), DESIGN)
    return parent


def predictions(fold: int, skill: float, difficulty: Floats, rng: np.random.Generator) -> pd.DataFrame:
    """Return the per-utterance table of a training whose network recognises utterances that are easier than ``skill``.

    Args:
        fold: Number of the fold and of its test speaker.
        skill: Expected UAR.
        difficulty: Difficulty of each utterance, 0 to 1.
        rng: Generator of the predictions.
    """
    truth = np.repeat(np.arange(len(CLASSES)), UTTERANCES_PER_CLASS)
    redrawn = rng.random(len(truth)) < REDRAWN
    right = np.where(redrawn, rng.random(len(truth)), difficulty) < skill
    predicted = np.where(right, truth, (truth + rng.integers(1, len(CLASSES), len(truth))) % len(CLASSES))
    probabilities = np.full((len(truth), len(CLASSES)), 0.1, dtype=np.float32)
    probabilities[np.arange(len(truth)), predicted] = 0.5
    table = pd.DataFrame(probabilities, columns=[PROBABILITY + name for name in CLASSES])
    return table.assign(
        utterance_id=[f"{fold}-{number}" for number in range(len(truth))], speaker=f"speaker {fold}", gender="female",
        noisy_label=None, label=np.array(CLASSES)[truth], corrected_label=None, kept=np.nan, trust=np.nan,
        first_epoch_changed=pd.NA, **{SUBSET: TEST, AGREEMENT: None},
    )  # fmt: skip


def record(
    client: MlflowClient,
    experiment: str,
    parent: str,
    folder: Path,
    method: str,
    fold: int,
    declared: Design,
    table: pd.DataFrame,
) -> None:
    """Write a training through the event log and the upload, as a study does."""
    own = folder / method / f"trial_{fold:03d}"
    log = EventLog(own)
    key = {Tag.STUDY: declared.study, Tag.SPACE: method, Tag.NOISE: LEVEL}
    trial = {
        Tag.SEED: "1", Tag.FOLD: str(fold), Tag.CANDIDATE: DEFAULT, Tag.SOURCE: "", Tag.EXPOSURE: UNSEEN,
    }  # fmt: skip
    log.begin({**tags(method, declared), **trial}, {"loss.name": method}, dataset().to_dictionary())
    right = table[[PROBABILITY + name for name in CLASSES]].to_numpy().argmax(axis=1) == np.repeat(
        np.arange(len(CLASSES)), UTTERANCES_PER_CLASS
    )
    metrics = {"val_noisy/uar": 0.4, "val/uar": 0.4, "test/last/uar": float(right.mean())}
    content = table.to_parquet(index=False)
    own.mkdir(parents=True, exist_ok=True)
    (own / UTTERANCES).write_bytes(content)
    log.take([epoch_event(1, metrics), artifact_event(UTTERANCES, content)])
    log.end(FINISHED)
    deliver(Delivery(fold, log, SearchRuns(experiment, parent, key)), client)


if __name__ == "__main__":
    tyro.cli(main)
