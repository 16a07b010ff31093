"""Records of studies that never ran, written through the real event log into a real store, with known numbers.

``make_search`` writes the trials of a search, ``make_confirm`` those of a confirmation, each with curves over epochs
and a per-utterance table. Scores follow from ``skill``, the probability of a correct prediction. ``copy_trials`` makes
thousands of trials from a few, by writing to the database directly.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Dataset
from mlflow.store.tracking.dbmodels.models import SqlInput, SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from analysis.common.records import Records, open_records
from analysis.options import RecordsOptions
from ser.metrics import classification as evaluation
from ser.metrics.agreement import STRATA
from ser.utils.hashing import digest
from study.schema import (
    CONFIRM,
    DEFAULT,
    DESIGN,
    FINISHED,
    SEARCH,
    SECONDS,
    STOPPED,
    TRAINED_BY,
    UNSEEN,
    UTTERANCES,
    Tag,
    run_name,
)
from study.tracking.event_log import EventLog
from study.tracking.matching import confirm_protocol
from study.tracking.opening import experiment_id, open_client
from study.tracking.searches import SCORES
from study.tracking.store import open_parent
from study.tracking.upload import Delivery, SearchRuns, deliver
from study.trial.specification import artifact_event, epoch_event
from tests.helpers.confirmed_records import make_design

CLASSES = ("angry", "happy", "neutral", "sad")
RATES = {"clean": 0.0, "noisy-A": 0.2648, "noisy-B": 0.4019}
SPEAKERS = 8
PER_SPEAKER = 24
EPOCHS = 6
FOLDS = 4  # of two speakers each
COPIED = (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)
MANIFEST = {"digest": "d", "recipe": "disagreement", "parts": {}}


EXPERIMENT = "made"


@dataclass(frozen=True)
class MadeStore:
    """A store with one experiment, ``made``.

    Args:
        uri: Tracking URI.
        client: The store.
        experiment: Experiment id.
        folder: Folder of the database.
    """

    uri: str
    client: MlflowClient
    experiment: str
    folder: Path

    def search(self, skills: Mapping[tuple[str, str], Sequence[float]], **options: Any) -> None:
        """Write the trials of a search, as ``make_search``."""
        make_search(self.client, self.experiment, self.folder / "studies", skills, **options)

    def confirm(self, skills: Mapping[tuple[str, str, str], float], **options: Any) -> None:
        """Write the trials of a confirmation, as ``make_confirm``."""
        make_confirm(self.client, self.experiment, self.folder / "studies", skills, **options)

    def records(self) -> Records:
        """Read the experiment."""
        return open_records(RecordsOptions(self.uri, EXPERIMENT))


def make_store(folder: Path) -> MadeStore:
    """Make a store in a folder, by a copy of an empty database, because MLflow takes seconds to create one."""
    shutil.copy(_empty_database(), folder / "m.db")
    uri = f"sqlite:///{folder}/m.db"
    client = open_client(uri)
    return MadeStore(uri, client, experiment_id(client, uri, EXPERIMENT), folder)


@functools.cache
def _empty_database() -> Path:
    path = Path(tempfile.mkdtemp(prefix="empty-store-")) / "m.db"
    open_client(f"sqlite:///{path}")
    return path


def make_search(
    client: MlflowClient,
    experiment: str,
    folder: Path,
    skills: Mapping[tuple[str, str], Sequence[float]],
    *,
    study: str = "made",
    fold: int = FOLDS,
    stopped: int = 0,
    protocol: str = "protocol",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the trials of a search.

    Args:
        client: The store.
        experiment: Experiment id.
        folder: Folder of the event logs.
        skills: (space, noise level) → the skill of each trial.
        study: Name of the study.
        fold: The fold that is held out.
        stopped: Number of trials, the last of each search, that were stopped after half of the epochs.
        protocol: Digest of its protocol.
        tags: Further tags of all runs, or other values of theirs.
    """
    for (space, noise), values in skills.items():
        own = {**_tags(space, noise, study, fold, 0, protocol), Tag.PLANNED_TRIALS: str(len(values)), **(tags or {})}
        parent = _parent(client, experiment, space, noise, study, own)
        for number, skill in enumerate(values, start=1):
            ends_early = number > len(values) - stopped
            _write(
                client, experiment, parent, folder / study / f"{space}--{noise}" / f"trial_{number:03d}",
                {**own, Tag.STAGE: SEARCH}, number, skill, parts={"train": (0, 4), "validation": (4, 6)},
                epochs=EPOCHS // 2 if ends_early else EPOCHS,
                params={"optimizer.lr": 10.0 ** -(2 + number % 3), **_loss(space, number)},
            )  # fmt: skip
        client.set_terminated(parent)


def make_confirm(
    client: MlflowClient,
    experiment: str,
    folder: Path,
    skills: Mapping[tuple[str, str, str], float],
    *,
    study: str = "made-confirm",
    seeds: Sequence[int] = (1, 2, 3),
    folds: Sequence[int] = (FOLDS,),
    held_out: int = FOLDS,
    source: str = "a-run",
    exposure: str = TRAINED_BY,
    declared: bool = True,
    primary: tuple[str, str] | None = None,
    protocol: str = "protocol",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the trials of a confirmation.

    Args:
        client: The store.
        experiment: Experiment id.
        folder: Folder of the event logs.
        skills: (space, noise level, candidate) → skill; a candidate is ``search-1``, …, or ``default``.
        study: Name of the study.
        seeds: Training and noise seeds.
        folds: Folds that were tested.
        held_out: The fold that the search held out.
        source: The search's run from which every ``search-1``, … comes.
        exposure: What the search did with the test speakers of the other folds.
        declared: Whether there is a design.
        primary: (level, method) of its primary comparison.
        protocol: Digest of the protocol of the search that it confirms.
        tags: Further tags of all runs, or other values of theirs.
    """
    design = make_design(
        study,
        [(space, noise, name) for space, noise, name in skills],
        {fold: [f"s{speaker}" for speaker in range(2 * fold - 2, 2 * fold)] for fold in folds},
        seeds,
        classes=CLASSES,
        unit="speaker group",
        primary=primary,
    )
    numbers: dict[tuple[str, str], int] = {}
    for (space, noise, candidate), skill in skills.items():
        shared = {**_tags(space, noise, study, 0, 0, confirm_protocol(protocol)), Tag.STAGE: CONFIRM, **(tags or {})}
        shared |= {Tag.DESIGN: design.digest} if declared else {}
        parent = _parent(client, experiment, space, noise, study, shared)
        if declared:
            client.log_dict(parent, design.to_json(), DESIGN)
        for fold in folds:
            for seed in seeds:
                number = numbers[space, noise] = numbers.get((space, noise), 0) + 1
                own = {
                    Tag.SEED: str(seed), Tag.FOLD: str(fold), Tag.CANDIDATE: candidate,
                    Tag.SOURCE: "" if candidate == DEFAULT else source,
                    Tag.EXPOSURE: UNSEEN if candidate == DEFAULT or fold == held_out else exposure,
                }  # fmt: skip
                first = 2 * (fold - 1)
                _write(
                    client, experiment, parent, folder / study / f"{space}--{noise}" / f"trial_{number:03d}",
                    {**shared, **own}, number, skill, params={"optimizer.lr": 1e-3, **_loss(space, 1)}, epochs=EPOCHS,
                    parts={"train": (0, 2), "validation": (2, 4), "test": (first, first + 2)},
                )  # fmt: skip
        client.set_terminated(parent)


def copy_trials(database: Path, parent: str, trials: int) -> None:
    """Add copies of a search's first trial until it has a number of trials.

    Rows are written in bulk through MLflow's own tables, because its client would take minutes. A copy has all rows of
    its original, except for its number, its searched parameters, and its scores, which are lower. It has no
    per-utterance table, which is read of chosen trials only.

    Args:
        database: An SQLite store of MLflow.
        parent: Run id of the search, with at least one trial.
        trials: Number of trials.
    """
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:

        def found(model: Any, **where: str) -> list[dict[str, Any]]:
            table = model.__table__
            query = sqlalchemy.select(table).where(*(table.c[column] == value for column, value in where.items()))
            return [dict(row) for row in connection.execute(query).mappings()]

        children = sorted(tag["run_uuid"] for tag in found(SqlTag, key=MLFLOW_PARENT_RUN_ID, value=parent))
        originals = {model: found(model, run_uuid=children[0]) for model in COPIED}
        originals[SqlInput] = found(SqlInput, destination_id=children[0])
        for number in range(len(children) + 1, trials + 1):
            rng = np.random.default_rng(number)
            run_id, skill = digest([parent, number]) * 2, rng.uniform(0.5, 0.9)
            own = {
                Tag.TRIAL: f"{number:03d}",
                MLFLOW_RUN_NAME: f"copy {number:03d}",
                "optimizer.lr": 10 ** -(2 + skill),
            }
            own |= {"loss.transit_time_ratio": rng.uniform(0.1, 0.9), "loss.exp_base": rng.uniform(1.0, 30.0)}
            for model, rows in originals.items():
                copies = [{**row, "run_uuid": run_id} for row in rows]
                if model is SqlInput:
                    ids = {"destination_id": run_id, "input_uuid": digest([run_id]) * 2}
                    copies = [{**row, **ids} for row in rows]
                elif model in (SqlTag, SqlParam):
                    copies = [{**row, "value": str(own.get(row["key"], row["value"]))} for row in copies]
                elif model in (SqlMetric, SqlLatestMetric):
                    copies = [
                        {**row, "value": row["value"] * (skill if row["key"] in SCORES.values() else 1)}
                        for row in copies
                    ]
                connection.execute(model.__table__.insert(), copies)
    engine.dispose()


def _loss(space: str, number: int) -> dict[str, float | str]:
    more = {"loss.transit_time_ratio": 0.1 + 0.07 * (number % 10), "loss.exp_base": 4.0 + number % 16}
    return {"loss.name": space, **(more if space == "proselflc" else {})}


def _tags(space: str, noise: str, study: str, fold: int, seed: int, protocol: str) -> dict[str, str]:
    searched = "loss.exp_base,loss.transit_time_ratio,optimizer.lr" if space == "proselflc" else "optimizer.lr"
    return {
        Tag.STUDY: study, Tag.SPACE: space, Tag.NOISE: noise, Tag.NOISE_RATE: str(RATES[noise]),
        Tag.NOISE_RECIPE: "disagreement", Tag.CORPUS: "made", Tag.SEED: str(seed), Tag.FOLD: str(fold),
        Tag.PROTOCOL: protocol, Tag.SELECT_ON: "noisy", Tag.SEARCHED: searched, Tag.PLANNED_TRIALS: "6",
    }  # fmt: skip


def _dataset(noise: str) -> Dataset:
    schema = '{"classes": ["angry", "happy", "neutral", "sad"], "columns": []}'
    return Dataset(f"made {noise}", "digest", "local", "{}", schema, '{"utterances": 192}')


def _parent(client: MlflowClient, experiment: str, space: str, noise: str, study: str, tags: Mapping[str, str]) -> str:
    key = {Tag.STUDY: study, Tag.SPACE: space, Tag.NOISE: noise}
    return open_parent(client, experiment, run_name(space, noise, study), key, tags, _dataset(noise), MANIFEST)


def _write(
    client: MlflowClient,
    experiment: str,
    parent: str,
    folder: Path,
    tags: Mapping[str, str],
    number: int,
    skill: float,
    *,
    parts: Mapping[str, tuple[int, int]],
    epochs: int,
    params: Mapping[str, float | str],
) -> None:
    rng = np.random.default_rng([number, int(tags[Tag.SEED]), int(tags[Tag.FOLD]), len(tags[Tag.SPACE])])
    table = pd.concat([_part(name, *speakers, skill, tags, rng) for name, speakers in parts.items()], ignore_index=True)
    log = EventLog(folder)
    log.begin(tags, params, _dataset(tags[Tag.NOISE]).to_dictionary())
    final = _scores(table, "validation")
    best = -1.0
    for epoch in range(1, epochs + 1):
        share = epoch / EPOCHS
        metrics = {f"val/{name}": value * share for name, value in final.items()}
        metrics["val_noisy/uar"] = 0.9 * metrics["val/uar"]
        best = max(best, metrics["val/uar"])
        metrics |= {
            "val/soft_ce": 1.5 - 0.5 * share, "train/loss": 2.0 - share, "train/uar": 0.8 * share,
            "train/f1_weighted": 0.8 * share, "train/memorised": 0.2 * share, "train/labels_changed": 0.1 * share,
            "train/labels_corrected": 0.05 * share, "train/correction_precision": 0.5, "train/correction_recall": 0.2,
            "train/trust": 0.5 * share, "best/val_uar": best, "best/epoch": float(epoch),
            "last/val_uar": metrics["val/uar"], SECONDS: 1.0,
        }  # fmt: skip
        if "test" in parts and epoch == epochs:
            tested = _scores(table, "test")
            metrics |= {f"test/last/{name}": value for name, value in tested.items()}
            metrics |= {f"test/best/{name}": value for name, value in tested.items()}
            metrics |= {f"test/stopped/{name}": value for name, value in tested.items()} | {"stopped/epoch": 5.0}
        log.take([epoch_event(epoch, metrics)])
    if epochs == EPOCHS:
        content = table.to_parquet(index=False)
        (folder / UTTERANCES).write_bytes(content)
        log.take([artifact_event(UTTERANCES, content)])
    log.end(FINISHED if epochs == EPOCHS else STOPPED)
    key = {name: tags[name] for name in (Tag.STUDY, Tag.SPACE, Tag.NOISE)}
    runs = SearchRuns(experiment, parent, key)
    deliver(Delivery(number, log, runs), client)


def _part(
    name: str, first: int, last: int, skill: float, tags: Mapping[str, str], rng: np.random.Generator
) -> pd.DataFrame:
    """Return utterances of speakers ``first`` to ``last − 1``, predicted correctly with probability ``skill``."""
    rows = []
    for speaker in range(first, last):
        for number in range(PER_SPEAKER):
            label = number % len(CLASSES)
            right = rng.random() < skill
            predicted = label if right else int(rng.choice([other for other in range(len(CLASSES)) if other != label]))
            wrong = rng.random() < RATES[tags[Tag.NOISE]] and name != "test"
            noisy = (label + 1) % len(CLASSES) if wrong else label
            probabilities = np.full(len(CLASSES), 0.1)
            probabilities[predicted] = 0.7
            corrected = predicted if tags[Tag.SPACE] == "proselflc" and rng.random() < 0.3 else noisy
            in_training = name == "train"
            rows.append(
                {
                    "utterance_id": f"s{speaker}u{number:02d}", "subset": name, "speaker": f"s{speaker}",
                    "gender": "female" if speaker % 2 else "male",
                    "noisy_label": None if name == "test" else CLASSES[noisy], "label": CLASSES[label],
                    "corrected_label": CLASSES[corrected] if in_training else None,
                    "kept": np.float32(0.6) if in_training else np.float32("nan"),
                    "trust": np.float32(0.4) if in_training else np.float32("nan"),
                    "first_epoch_changed": 2 if in_training and corrected != noisy else pd.NA,
                    "agreement": STRATA[number // len(CLASSES) % 2],
                    **{f"p_{c}": np.float32(p) for c, p in zip(CLASSES, probabilities, strict=True)},
                }
            )  # fmt: skip
    table = pd.DataFrame(rows).astype({"first_epoch_changed": "Int64"})
    text = ("utterance_id", "subset", "speaker", "gender", "noisy_label", "label", "corrected_label", "agreement")
    return table.astype(dict.fromkeys(text, "string"))


def _scores(table: pd.DataFrame, part: str) -> dict[str, float]:
    rows = table[table["subset"] == part]
    probabilities = rows[[f"p_{name}" for name in CLASSES]].to_numpy(dtype=np.float64)
    truth = np.array([CLASSES.index(label) for label in rows["label"]])
    return evaluation.scores(probabilities / probabilities.sum(axis=1, keepdims=True), truth)
