"""Trains a classical model on one vector of each utterance, and scores it as the networks are scored."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ser.config import ModelConfig
from ser.losses import build_loss
from ser.metrics.classification import TINY
from ser.models.classical import build_classical
from ser.training.label_metrics import Audit, UtteranceAudit
from ser.training.loop import subset_metrics, test_metrics
from ser.training.task import Task
from ser.training.utterance_table import LastSeen, utterance_table
from ser.utils.hashing import derived_seed

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin


def train_classical(
    model: ModelConfig, features: NDArray[np.floating], task: Task, seed: int
) -> tuple[dict[str, float], pd.DataFrame]:
    """Fits a model to the noisy training labels.

    Args:
        model: Its name and hyper-parameters.
        features: (N, M) of all utterances, in the rows of the feature store.
        task: Train and validation data; its ``store`` is not read.
        seed: Of the model's own draws.

    Returns:
        The metrics of a network's last epoch, by the same names: ``train/*``, with cross entropy as the loss,
        ``val/*``, ``val_noisy/*``, ``best/*`` and ``last/*``; the one fit counts as epoch 1. And the table of
        utterances (``ser.training.utterance_table``), in which no label is changed.

    Raises:
        UserError: The configuration is of no classical model.
    """
    from sklearn.exceptions import ConvergenceWarning  # imported where it is needed, for it takes half a second

    classifier = build_classical(model.name, model.parameters, derived_seed(seed, "model") % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the metrics tell how good what was reached is
        classifier.fit(features[task.train.rows], task.train.noisy)
    count = len(task.classes)
    metrics, seen = _audit(probabilities(classifier, features[task.train.rows], count), task)
    validation = probabilities(classifier, features[task.validation.rows], count)
    metrics |= subset_metrics("val", validation, task.validation)
    if (judged := metrics.get("val/uar")) is not None:
        metrics |= {"best/val_uar": judged, "best/epoch": 1.0, "last/val_uar": judged}
    test = None
    if task.test is not None:
        test = probabilities(classifier, features[task.test.rows], count)
        metrics |= test_metrics("test/last", test, task.test) | test_metrics("test/best", test, task.test)
    return metrics, utterance_table(task, seen, validation, test)


def probabilities(classifier: ClassifierMixin, features: NDArray[np.floating], num_classes: int) -> NDArray[np.float64]:
    """(n, C) class probabilities; zero for a class that the training labels lack.

    Args:
        classifier: Fitted to class indices.
        features: (n, M).
        num_classes: C.
    """
    result = np.zeros((len(features), num_classes))
    result[:, classifier.classes_] = classifier.predict_proba(features)
    return result


def _audit(predicted: NDArray[np.float64], task: Task) -> tuple[dict[str, float], LastSeen]:
    """The ``train/*`` metrics of predictions for the training utterances, and what they are of each."""
    logits = torch.from_numpy(np.log(np.maximum(predicted, TINY)))
    noisy, truth = torch.from_numpy(task.train.noisy), torch.from_numpy(task.train.truth)
    loss = build_loss("cross_entropy", {}, total_steps=1, num_samples=len(noisy), num_classes=len(task.classes))
    device, index = torch.device("cpu"), torch.arange(len(noisy))
    output = loss(logits, noisy, 0, index=index)
    audit = Audit(len(task.classes), device)
    audit.update(logits, noisy, truth, output)
    utterances = UtteranceAudit(len(noisy), len(task.classes), device)
    utterances.update(index, logits, noisy, output, epoch=1)
    return {f"train/{name}": value for name, value in audit.metrics().items()}, utterances.last_seen()
