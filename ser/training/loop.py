"""The training loop: a generator of epoch records that can be resumed after any of them.

The life of a run is that of ``_Run``: set up, resume, then for each epoch: train, measure what the loss did to the
labels, evaluate, record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ser.config import Config
from ser.features.store import FeatureStore
from ser.losses import build_loss
from ser.models import Classifier
from ser.models.encoders.network import Encoder
from ser.training.batches import crop_frames
from ser.training.best_epochs import BestEpochs
from ser.training.device.arithmetic import not_deterministic, resolve_arithmetic, together
from ser.training.device.epoch_plan import EpochPlan, EpochPlanner
from ser.training.device.features import DeviceFeatures, fits
from ser.training.device.gpu_memory import is_out_of_memory, out_of_memory
from ser.training.evaluation import SegmentedUtterances, predict, subset_metrics
from ser.training.label_metrics import BatchLog, LabelMetrics, UtteranceLog
from ser.training.optimizer import (
    learning_rates,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_learning_rate,
)
from ser.training.other_corpora import score_others
from ser.training.setup import load_weights, open_features
from ser.training.state import ARITHMETIC, ENCODER, State, check_state, fingerprint
from ser.training.task import Subset, Task
from ser.training.utterance_table import utterance_table
from ser.utils.hashing import derived_seed

if TYPE_CHECKING:
    import pandas as pd


class DivergedError(RuntimeError):
    """Loss or predictions that are not finite; training longer or again with the same seed does not help."""


@dataclass(frozen=True)
class EpochRecord:
    """Result of one epoch.

    Args:
        epoch: Number of the epoch, from 1.
        step: Optimiser steps done so far.
        metrics: By the names of the study's records: ``train/*``, ``val/*`` (against true labels), ``val_noisy/*``,
            ``best/*`` (an oracle), ``stopped/*`` (an honest early stop), ``last/*``; and ``test/*`` after the last
            epoch, where the task has a test subset or other corpora.
        finished: Whether this was the last planned epoch.
        state: State that ``train`` resumes from. It refers to live tensors: save or copy it before asking for the
            next record.
        utterances: After the last planned epoch the per-utterance table (``ser.training.utterance_table``), else None.
        others: After the last planned epoch the right predictions on other corpora (``ser.training.other_corpora``),
            where the task has any, else None.
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    finished: bool
    state: State
    utterances: pd.DataFrame | None = None
    others: pd.DataFrame | None = None


def train(
    config: Config, task: Task, *, seed: int, state: State | None = None, device: torch.device | str = "cpu"
) -> Iterator[EpochRecord]:
    """Train one configuration and yield a record after every epoch.

    All randomness of an epoch is derived from (seed, epoch), so a resumed run gives the numbers of an uninterrupted
    one, although no generator's state is saved. Sets the global seeds of torch and NumPy.

    Args:
        config: Configuration.
        task: Train and validation data.
        seed: Seed of initial weights, order, crops, masks and dropout.
        state: ``state`` of an earlier record, to resume from.
        device: Device to train on.

    Yields:
        One ``EpochRecord`` per epoch, from the one after that of ``state`` to ``config.training.epochs``.

    Raises:
        UserError: ``state`` belongs to another configuration, seed or task; ``model.pretrained`` does not fit; the
            feature store is of another front end than the network reads; the loss needs votes that the corpus lacks;
            the GPU is out of memory; the device lacks ``training.precision``; or a GPU has no deterministic algorithm
            where ``training.deterministic`` asks for it.
        DivergedError: The loss or a prediction is not finite.

    Example:
        Six speakers say one high and one low tone each; a narrow network learns from five of them.

        >>> import tempfile
        >>> import pandas as pd
        >>> from ser.corpora import Corpus
        >>> from ser.features import open_store
        >>> from ser.splits import split
        >>> from ser.training import make_task
        >>> def tone(utterance_id):
        ...     pitch = 2000 if utterance_id.endswith("high") else 300
        ...     return np.sin(2 * np.pi * pitch * np.arange(8000) / 16000).astype(np.float32)
        >>> speakers, labels = [*"aabbccddeeff"], ["high", "low"] * 6
        >>> ids = [f"{speaker}-{label}" for speaker, label in zip(speakers, labels)]
        >>> table = pd.DataFrame({"utterance_id": ids, "speaker": speakers, "label": labels})
        >>> corpus = Corpus("tones", table, ("high", "low"), synthesize=tone)
        >>> config = Config.from_dotted({"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = open_store(corpus, "panns_16k", folder)
        ...     task = make_task(corpus, split(corpus), store.path, "clean", noise_seed=0)
        ...     for record in train(config, task, seed=0):
        ...         print(record.epoch, record.step, record.finished, "val/uar" in record.metrics)
        1 1 True True
    """
    try:
        run = _Run(config, task, seed, torch.device(device), state)
        for epoch in range(run.first_epoch, config.training.epochs + 1):
            yield run.epoch(epoch)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(config) from error
        if (explained := not_deterministic(error)) is not None:
            raise explained from error
        raise


class _Run:
    """A training run: all that it consists of, and the steps of an epoch."""

    def __init__(self, config: Config, task: Task, seed: int, device: torch.device, state: State | None) -> None:
        self.config, self.task, self.seed, self.device = config, task, seed, device
        self.store = open_features(config, task)
        self.frames = crop_frames(config.training.crop_seconds, self.store.front_end)
        self.steps_per_epoch = math.ceil(len(task.train) / config.training.batch_size)
        self.total_steps = self.steps_per_epoch * config.training.epochs
        self.fingerprint = fingerprint(config, seed, task)
        self.model = self._initial_model(fresh=state is None)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.arithmetic = resolve_arithmetic(config, device)
        self.computed_in = together((state or {}).get(ARITHMETIC), self.arithmetic.name)
        self.autocast = self.arithmetic.autocast()

        num_classes = len(task.classes)
        self.loss = build_loss(config.loss.name, config.loss.parameters, self.total_steps, len(task.train), num_classes)
        self.features = DeviceFeatures(self.store, device, resident=fits(self.store, device))
        self.planner = EpochPlanner(config, task, self.features, self.loss, seed, with_lengths=self.model.masks_padding)
        self.validation = SegmentedUtterances(self.features, task.validation.rows, self.frames)
        self.test: SegmentedUtterances | None = None  # planned when it is first predicted
        self.noisy = torch.tensor(task.train.noisy, device=device)
        self.truth = torch.tensor(task.train.truth, device=device)

        self.log = BatchLog(len(task.train))
        self.utterances = UtteranceLog(len(task.train), num_classes, device)
        self.best = BestEpochs(task.test)
        self.first_epoch = 1
        if state is not None:
            self._resume(state)

    def _initial_model(self, *, fresh: bool) -> Classifier:
        config = self.config.model
        torch.manual_seed(derived_seed(self.seed, "model"))
        model = config.build(len(self.task.classes))
        if fresh and not config.reads_embeddings:  # otherwise the weights come from the state or the stored embeddings
            load_weights(model, config)
        model.freeze(config.freeze)
        moved: Classifier = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved

    def _resume(self, state: State) -> None:
        check_state(state, self.config, self.seed, self.task, self.store.front_end.name)
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.loss.load_state_dict(state["loss"])
        self.utterances.load_state_dict(state["utterances"])
        self.best.load_state_dict(state)
        self.first_epoch = state["epoch"] + 1

    def epoch(self, epoch: int) -> EpochRecord:
        """Train, evaluate and record one epoch."""
        self.arithmetic.apply()  # every time: others of this process may have applied their own
        finished = epoch == self.config.training.epochs
        plan = self.planner.plan(epoch)
        self._train(plan, epoch)
        metrics = self._label_metrics(plan, epoch)
        validation = self._predict(self.validation)
        self._check_finite(epoch, metrics["train/loss"], validation)
        metrics |= subset_metrics("val", validation, self.task.validation)
        metrics |= self.best.update(epoch, metrics, self._predict_test, finished=finished)
        table = others = None
        if finished:
            table = self._table(validation)
            scored, others = score_others(self.task.others, self._predict_other)
            metrics |= scored
        return EpochRecord(epoch, epoch * self.steps_per_epoch, metrics, finished, self._state(epoch), table, others)

    def _train(self, plan: EpochPlan, epoch: int) -> None:
        """Do the training steps of an epoch; on a GPU the host waits in none of them."""
        config = self.config
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch))
        # transformers draws the masked spans of speech encoders from NumPy's global generator.
        np.random.seed(derived_seed(self.seed, "spans", epoch) % 2**32)
        self.model.train()
        for step, batch in enumerate(plan.batches(), start=plan.first_step):
            set_learning_rate(self.optimizer, config.optimizer, step, self.total_steps)
            with self.autocast:
                logits = self.model(batch.crops, batch.lengths)
            output = self.loss(logits.float(), batch.targets, batch.step, index=batch.index)
            self.optimizer.zero_grad(set_to_none=True)
            objective = (output.per_sample * batch.weight).sum() / batch.weight.sum()
            objective.backward()  # type: ignore[no-untyped-call]
            if config.optimizer.gradient_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.gradient_clip)
            self.optimizer.step()
            self.log.add(logits, output)

    def _label_metrics(self, plan: EpochPlan, epoch: int) -> dict[str, float]:
        """Return ``train/*``, and note the last output for each utterance."""
        logits, output = self.log.joined()
        noisy = self.noisy[plan.index]
        label_metrics = LabelMetrics(len(self.task.classes), self.device)
        label_metrics.update(logits, noisy, self.truth[plan.index], output, plan.targets)
        self.utterances.update(plan.index, logits, noisy, output, epoch, plan.targets)
        metrics = {f"train/{name}": value for name, value in label_metrics.metrics().items()}
        last_step = epoch * self.steps_per_epoch - 1
        rates = learning_rates(self.optimizer, self.config.optimizer, last_step, self.total_steps)
        return metrics | {"train/lr": rates[0]}

    def _predict(self, utterances: SegmentedUtterances) -> NDArray[np.float64]:
        return predict(self.model, utterances, self.autocast)

    def _predict_test(self, test: Subset) -> NDArray[np.float64]:
        if self.test is None:
            self.test = SegmentedUtterances(self.features, test.rows, self.frames)
        return self._predict(self.test)

    def _predict_other(self, store: FeatureStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._predict(SegmentedUtterances(DeviceFeatures(store, self.device), rows, self.frames))

    def _check_finite(self, epoch: int, loss: float, predictions: NDArray[np.float64]) -> None:
        # The loss of the epoch is computed before its last step; only the predictions show the effect of that one.
        if not (math.isfinite(loss) and np.isfinite(predictions).all()):
            raise DivergedError(
                f"training diverged in epoch {epoch} (training loss {loss:g}); a smaller optimizer.lr (now "
                f"{self.config.optimizer.lr:g}) or optimizer.gradient_clip may help."
            )

    def _table(self, validation: NDArray[np.float64]) -> pd.DataFrame:
        return utterance_table(
            self.task, self.utterances.last_seen(), validation, self.best.tested, self.best.stopped_labels
        )

    def _state(self, epoch: int) -> State:
        return {
            "fingerprint": self.fingerprint,
            "config": self.config.to_dotted(),
            "front_end": self.store.front_end.name,
            **({ENCODER: self.model.files.settings} if isinstance(self.model, Encoder) else {}),
            "seed": self.seed,
            "manifest": self.task.manifest,  # with the class names
            "epoch": epoch,
            ARITHMETIC: self.computed_in,
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "loss": self.loss.state_dict(),
            "utterances": self.utterances.state_dict(),
            **self.best.state_dict(),
        }
