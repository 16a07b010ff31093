"""Training of classical models on one vector per utterance, with the metrics of the networks."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ser.config import Config
from ser.losses import build_loss
from ser.metrics.classification import TINY
from ser.models.classical import build_classical, fit_classical
from ser.training.batches import epoch_order
from ser.training.best_epochs import BestEpochs
from ser.training.evaluation import subset_metrics
from ser.training.label_metrics import LabelMetrics, UtteranceLog
from ser.training.other_corpora import score_others
from ser.training.setup import inverse_frequencies
from ser.training.task import Task
from ser.training.utterance_table import LastSeen, utterance_table
from ser.utils.hashing import derived_seed

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.base import ClassifierMixin


def train_classical(
    config: Config, features: NDArray[np.floating], task: Task, seed: int
) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame | None]:
    """Fit a model to the noisy training labels, whose classes are balanced as for a network.

    Args:
        config: Configuration; its ``model`` and ``training.class_balance`` are used.
        features: (N, M) vectors of all utterances, in the rows of the feature store.
        task: Train and validation data; its ``store`` is not read.
        seed: Seed of the model and of the utterances that ``sampling`` draws.

    Returns:
        The metrics that a network has after its last epoch, with the same names: ``train/*``, with cross entropy as
        the loss, ``val/*``, ``val_noisy/*``, ``best/*``, ``stopped/*``, ``last/*`` and ``test/*``; the fit counts as
        epoch 1. Then the per-utterance table (``ser.training.utterance_table``), in which no label is changed, and the
        right predictions on other corpora (``ser.training.other_corpora``), None without any.

    Raises:
        UserError: The configuration is not that of a classical model.
    """
    from sklearn.exceptions import ConvergenceWarning  # imported here because it takes half a second

    count = len(task.classes)
    classifier = build_classical(config.model.name, config.model.parameters, derived_seed(seed, "model") % 2**32)
    balance = inverse_frequencies(torch.from_numpy(task.train.noisy), count)
    chosen, weights = np.arange(len(balance)), None
    if config.training.class_balance == "sampling":
        chosen = epoch_order(balance, "sampling", np.random.default_rng(derived_seed(seed, "sampling")))
    elif config.training.class_balance == "weighting":
        weights = balance.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the metrics show how good the fit is
        fit_classical(classifier, features[task.train.rows[chosen]], task.train.noisy[chosen], weights)
    metrics, seen = _train_metrics(probabilities(classifier, features[task.train.rows], count), task)
    validation = probabilities(classifier, features[task.validation.rows], count)
    metrics |= subset_metrics("val", validation, task.validation)
    best = BestEpochs(task.test)
    metrics |= best.update(
        1, metrics, lambda test: probabilities(classifier, features[test.rows], count), finished=True
    )
    scored, others = score_others(task.others, lambda store, rows: probabilities(classifier, store.frames[rows], count))
    return metrics | scored, utterance_table(task, seen, validation, best.tested, best.stopped_labels), others


def probabilities(classifier: ClassifierMixin, features: NDArray[np.floating], num_classes: int) -> NDArray[np.float64]:
    """Predict class probabilities; those of classes that the training labels lack are 0.

    Args:
        classifier: Classifier, fitted to class indices.
        features: (n, M).
        num_classes: C.

    Returns:
        (n, C) probabilities.
    """
    result = np.zeros((len(features), num_classes))
    result[:, classifier.classes_] = classifier.predict_proba(features)
    return result


def _train_metrics(predicted: NDArray[np.float64], task: Task) -> tuple[dict[str, float], LastSeen]:
    """Return the ``train/*`` metrics of predictions for the training utterances, and the values of each utterance."""
    logits = torch.from_numpy(np.log(np.maximum(predicted, TINY)))
    noisy, truth = torch.from_numpy(task.train.noisy), torch.from_numpy(task.train.truth)
    loss = build_loss("cross_entropy", {}, total_steps=1, num_samples=len(noisy), num_classes=len(task.classes))
    device, index = torch.device("cpu"), torch.arange(len(noisy))
    output = loss(logits, noisy, 0, index=index)
    label_metrics = LabelMetrics(len(task.classes), device)
    label_metrics.update(logits, noisy, truth, output)
    utterances = UtteranceLog(len(noisy), len(task.classes), device)
    utterances.update(index, logits, noisy, output, epoch=1)
    return {f"train/{name}": value for name, value in label_metrics.metrics().items()}, utterances.last_seen()
