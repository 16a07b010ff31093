import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from ser.corpora import Corpus
from ser.corpora.corpus import SYNTHESIS_RATE
from ser.features.store import FeatureStore, open_store
from ser.splits import split
from ser.training.task import Task, make_task

CLASSES = ("high", "low")

# A busy machine stops any single example for longer than a limit of time that would find anything.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")


def forget_mlflow() -> None:
    """Remove MLflow's variables: those of the user, and those that MLflow sets itself when it is given a store."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING_", "MLFLOW_EXPERIMENT_"))]:
        del os.environ[name]


forget_mlflow()


@pytest.fixture(autouse=True)
def no_mlflow_variables() -> Iterator[None]:
    yield
    forget_mlflow()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    # The networks of the tests are so narrow that a second thread makes them slower.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def voice(utterance_id: str) -> NDArray[np.float32]:
    """Return a high or low tone, according to the name, with a little noise, 0.45 to 1.3 s long."""
    _, number, label = utterance_id.split("-")
    rng = np.random.default_rng(int(number))
    time = np.arange(int(rng.uniform(0.45, 1.3) * SYNTHESIS_RATE)) / SYNTHESIS_RATE
    tone = np.sin(2 * np.pi * {"high": 2500.0, "low": 250.0}[label] * rng.uniform(0.9, 1.1) * time)
    return (0.3 * tone + rng.normal(0, 0.01, len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def tones() -> Corpus:
    """Six speakers with two utterances of each class; three annotators, one of whom dissents on a third of them."""
    ids = [f"s{number // 4}-{number:02d}-{CLASSES[number % 2]}" for number in range(24)]
    labels = [name.split("-")[2] for name in ids]
    dissenting = [number % 3 == 0 for number in range(24)]
    votes = [(3 - d, 0 + d) if label == "high" else (0 + d, 3 - d) for label, d in zip(labels, dissenting, strict=True)]
    table = pd.DataFrame(
        {"utterance_id": ids, "speaker": [name.split("-")[0] for name in ids], "label": labels, "votes": votes}
    )
    return Corpus("tones", table, CLASSES, synthesize=voice)


@pytest.fixture(scope="session")
def store(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return open_store(tones, "panns_16k", tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def task_at(tones: Corpus, store: FeatureStore) -> Callable[..., Task]:
    """Function of level and noise seed to the task of the last fold: 16 training and 4 validation utterances."""

    def make(level: str = "clean", noise_seed: int = 0) -> Task:
        return make_task(tones, split(tones), store.path, level, noise_seed)

    return make
