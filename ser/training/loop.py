"""The training loop: a generator of epoch records that can be resumed after any of them.

The life of a run is that of ``_Run``: set up, resume, then for each epoch: train, measure what the loss did to the
labels, evaluate, record.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser.config import Config
from ser.features.store import FeatureStore
from ser.losses import as_distribution, build_loss
from ser.models import Classifier
from ser.models.encoders.network import Encoder
from ser.training.batches import (
    crop_frames,
    epoch_order,
    gather,
    mix_crops,
    random_starts,
    spec_augment,
    valid_frames,
)
from ser.training.best_epochs import BestEpochs
from ser.training.device.arithmetic import resolve_arithmetic
from ser.training.evaluation import predict, subset_metrics
from ser.training.label_metrics import BatchLog, LabelMetrics, UtteranceLog
from ser.training.optimizer import make_optimizer, set_learning_rate
from ser.training.other_corpora import score_others
from ser.training.setup import inverse_frequencies, load_weights, open_features, training_targets
from ser.training.state import ENCODER, State, check_state, fingerprint
from ser.training.task import Subset, Task
from ser.training.utterance_table import utterance_table
from ser.utils.errors import UserError
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
            or the GPU is out of memory.
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
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU is out of memory with model.width {config.model.width}, training.batch_size "
            f"{config.training.batch_size}, training.crop_seconds {config.training.crop_seconds}. Reduce one of them, "
            "or run fewer trials on a GPU (--gpus-per-trial)."
        ) from error


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
        self.arithmetic.apply()
        self.autocast = self.arithmetic.autocast()

        num_classes = len(task.classes)
        self.loss = build_loss(config.loss.name, config.loss.parameters, self.total_steps, len(task.train), num_classes)
        targets = training_targets(self.loss, task.train)
        self.balance = inverse_frequencies(targets, num_classes)
        weighting = config.training.class_balance == "weighting"
        self.weights = (self.balance.float() if weighting else torch.ones(len(task.train))).to(device)
        self.targets = targets.to(device)
        self.noisy = torch.tensor(task.train.noisy, device=device)
        self.truth = torch.tensor(task.train.truth, device=device)

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
        # A copy, because the optimizer would otherwise update the caller's tensors.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.loss.load_state_dict(state["loss"])
        self.utterances.load_state_dict(state["utterances"])
        self.best.load_state_dict(state)
        self.first_epoch = state["epoch"] + 1

    def epoch(self, epoch: int) -> EpochRecord:
        """Train, evaluate and record one epoch."""
        finished = epoch == self.config.training.epochs
        metrics = self._label_metrics(self._train(epoch), epoch)
        validation = self._predict(self.task.validation)
        self._check_finite(epoch, metrics["train/loss"], validation)
        metrics |= subset_metrics("val", validation, self.task.validation)
        metrics |= self.best.update(epoch, metrics, self._predict, finished=finished)
        table = others = None
        if finished:
            table = self._table(validation)
            scored, others = score_others(self.task.others, self._predict_rows)
            metrics |= scored
        return EpochRecord(epoch, epoch * self.steps_per_epoch, metrics, finished, self._state(epoch), table, others)

    def _train(self, epoch: int) -> BatchLog:
        """Do the training steps of an epoch."""
        config, rows = self.config, self.task.train.rows
        rng = np.random.default_rng(derived_seed(self.seed, "epoch", epoch))
        masks = torch.Generator().manual_seed(derived_seed(self.seed, "masks", epoch))
        mixes = np.random.default_rng(derived_seed(self.seed, "mixing", epoch))
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch))
        # transformers draws the masked spans of speech encoders from NumPy's global generator.
        np.random.seed(derived_seed(self.seed, "spans", epoch) % 2**32)
        log = BatchLog()
        self.model.train()
        order = epoch_order(self.balance, config.training.class_balance, rng)
        starts = random_starts(self.store.lengths[rows], self.frames, rng)
        for batch in range(self.steps_per_epoch):
            step = (epoch - 1) * self.steps_per_epoch + batch
            chosen = order[batch * config.training.batch_size : (batch + 1) * config.training.batch_size]
            crops, lengths = self._crops(rows[chosen], starts[chosen], masks)
            index = torch.from_numpy(chosen).to(self.device)
            targets, weight = self.targets[index], self.weights[index]
            if (mixing := self.loss.mixing(len(chosen), mixes)) is not None:
                crops, lengths = mix_crops(mixing, crops, lengths)
                targets, weight = mixing(as_distribution(targets, len(self.task.classes))), mixing(weight)
            set_learning_rate(self.optimizer, config.optimizer, step, self.total_steps)
            with self.autocast:
                logits = self.model(crops, lengths)
            output = self.loss(logits.float(), targets, step, index=index)
            self.optimizer.zero_grad(set_to_none=True)
            objective = (output.per_sample * weight).sum() / weight.sum()
            objective.backward()  # type: ignore[no-untyped-call]
            if config.optimizer.gradient_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.gradient_clip)
            self.optimizer.step()
            log.add(index, logits, output)
        return log

    def _crops(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], masks: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return masked crops (n, T, M), and their valid frames (n,) for a network that masks padding."""
        crops = torch.from_numpy(gather(self.store, rows, starts, self.frames)).to(self.device)
        if self.store.front_end.kind == "log_mel":
            crops = spec_augment(crops, self.config.augment, masks)
        if not self.model.masks_padding:
            return crops, None
        return crops, torch.from_numpy(valid_frames(self.store, rows, starts, self.frames))

    def _label_metrics(self, log: BatchLog, epoch: int) -> dict[str, float]:
        """Return ``train/*``, and note the last output for each utterance."""
        index, logits, output = log.joined()
        noisy, targets = self.noisy[index], self.targets[index]
        label_metrics = LabelMetrics(len(self.task.classes), self.device)
        label_metrics.update(logits, noisy, self.truth[index], output, targets)
        self.utterances.update(index, logits, noisy, output, epoch, targets)
        metrics = {f"train/{name}": value for name, value in label_metrics.metrics().items()}
        metrics["train/lr"] = self.optimizer.param_groups[0]["lr"]
        return metrics

    def _predict(self, subset: Subset) -> NDArray[np.float64]:
        return self._predict_rows(self.store, subset.rows)

    def _predict_rows(self, store: FeatureStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return predict(self.model, store, rows, self.frames, self.device, self.autocast)

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
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict(),
            "utterances": self.utterances.state_dict(),
            **self.best.state_dict(),
        }
