"""The training loop: a generator of epoch records that can be resumed after any of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser.config import Config, ModelConfig
from ser.features.store import FeatureStore
from ser.losses import Loss, as_distribution, build_loss
from ser.metrics import classification as evaluation
from ser.models import Classifier, load_pretrained
from ser.training.batches import crop_frames, gather, mean_over_segments, random_starts, spec_augment, valid_frames
from ser.training.embeddings import extractor
from ser.training.label_metrics import Audit, Steps, UtteranceAudit
from ser.training.optimizer import make_optimizer, set_learning_rate
from ser.training.task import Subset, Task
from ser.training.utterance_table import utterance_table
from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed, digest

State = dict[str, Any]


class DivergedError(RuntimeError):
    """The loss or the predictions are not finite any more; going on, or trying again, would not help."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave.

    Args:
        epoch: From 1.
        step: Optimiser steps done so far.
        metrics: By the names of the study's records: ``train/*``, ``val/*`` (against true labels), ``val_noisy/*``,
            ``best/*``, ``last/*``.
        finished: Whether this was the last planned epoch.
        state: Tensors and numbers that ``train`` resumes from. It refers to live tensors: save or copy it before
            asking for the next record.
        utterances: After the last planned epoch, what became of each label (``ser.training.utterance_table``); else None.
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    finished: bool
    state: State
    utterances: pd.DataFrame | None = None


def train(
    config: Config, task: Task, *, seed: int, state: State | None = None, device: torch.device | str = "cpu"
) -> Iterator[EpochRecord]:
    """Trains one configuration and yields a record after every epoch.

    All randomness of an epoch is derived from (seed, epoch), so a resumed run gives the numbers of an uninterrupted
    one without any generator's state being kept. Sets torch's global seed.

    Args:
        config: The configuration.
        task: Train and validation data.
        seed: Initial weights, order, crops, masks and dropout.
        state: An earlier record's ``state``, to go on from.
        device: Where to train.

    Yields:
        One ``EpochRecord`` an epoch, from the one after ``state``'s to ``config.training.epochs``.

    Raises:
        UserError: ``state`` belongs to another configuration, seed or task, ``model.pretrained`` does not fit, the
            feature store is of another front end than the network reads, the loss wants votes that the corpus lacks,
            or the GPU's memory ran out.
        DivergedError: The loss or a prediction is not finite.
    """
    try:
        yield from _epochs(config, task, seed, state, torch.device(device))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU's memory ran out at model.width {config.model.width}, training.batch_size "
            f"{config.training.batch_size}, training.crop_seconds {config.training.crop_seconds}; make one of them "
            "smaller, or put fewer trials on a GPU (--gpus-per-trial)."
        ) from error


def _epochs(config: Config, task: Task, seed: int, state: State | None, device: torch.device) -> Iterator[EpochRecord]:
    store = FeatureStore.open(task.store)
    reads = extractor(config).front_end.name
    if store.front_end.name != reads:
        raise UserError(
            f"model {config.model.name} reads {reads}, but the feature store {str(task.store)!r} holds "
            f"{store.front_end.name}. Build one with the front end {reads}."
        )
    frames = crop_frames(config.training.crop_seconds, store.front_end)
    steps_per_epoch = math.ceil(len(task.train) / config.training.batch_size)
    total_steps = steps_per_epoch * config.training.epochs
    identity = fingerprint(config, seed, task)

    torch.manual_seed(derived_seed(seed, "model"))
    model = config.model.build(len(task.classes))
    if state is None and not config.model.reads_embeddings:  # else it has all weights
        load_weights(model, config.model)
    model.freeze(config.model.freeze)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config.optimizer)
    loss = build_loss(config.loss.name, config.loss.parameters, total_steps, len(task.train), len(task.classes))
    targets = training_targets(loss, task.train)
    balance = _balance(targets, len(task.classes))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config, device))
    weights = balance.float() if config.training.class_balance == "weighting" else torch.ones(len(task.train))
    weights, targets = weights.to(device), targets.to(device)
    noisy, truth = torch.tensor(task.train.noisy, device=device), torch.tensor(task.train.truth, device=device)
    utterances = UtteranceAudit(len(task.train), len(task.classes), device)
    best, first = {"best/val_uar": -1.0, "best/epoch": 0.0}, 1
    tested: NDArray[np.float64] | None = None
    if state is not None:
        if (state["fingerprint"], state["front_end"]) != (identity, reads):
            raise UserError(
                "the checkpoint belongs to another configuration, seed, corpus or base of an embedding head; start a "
                "new run instead."
            )
        if "utterances" not in state:
            raise UserError("the checkpoint is of an older version, without a table of utterances; start a new run.")
        model.load_state_dict(state["model"])
        # Else the optimizer would go on in the caller's own tensors.
        optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        loss.load_state_dict(state["loss"])
        utterances.load_state_dict(state["utterances"])
        best, first = dict(state["best"]), state["epoch"] + 1

    for epoch in range(first, config.training.epochs + 1):
        rng = np.random.default_rng(derived_seed(seed, "epoch", epoch))
        masks = torch.Generator().manual_seed(derived_seed(seed, "masks", epoch))
        torch.manual_seed(derived_seed(seed, "dropout", epoch))
        steps = Steps()
        model.train()
        order = _epoch_order(balance, config, rng)
        starts = random_starts(store.lengths[task.train.rows], frames, rng)
        for batch in range(steps_per_epoch):
            step = (epoch - 1) * steps_per_epoch + batch
            chosen = order[batch * config.training.batch_size : (batch + 1) * config.training.batch_size]
            crops = torch.from_numpy(gather(store, task.train.rows[chosen], starts[chosen], frames)).to(device)
            if store.front_end.kind == "log_mel":
                crops = spec_augment(crops, config.augment, masks)
            lengths = _lengths(model, store, task.train.rows[chosen], starts[chosen], frames)
            index = torch.from_numpy(chosen).to(device)
            set_learning_rate(optimizer, config.optimizer, step, total_steps)
            with autocast:
                logits = model(crops, lengths)
            output = loss(logits.float(), targets[index], step, index=index)
            weight = weights[index]
            optimizer.zero_grad(set_to_none=True)
            objective = (output.per_sample * weight).sum() / weight.sum()
            objective.backward()  # type: ignore[no-untyped-call]
            if config.optimizer.gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.gradient_clip)
            optimizer.step()
            steps.add(index, logits, output)

        index, logits, output = steps.joined()
        audit = Audit(len(task.classes), device)
        audit.update(logits, noisy[index], truth[index], output, targets[index])
        utterances.update(index, logits, noisy[index], output, epoch, targets[index])
        metrics = {f"train/{name}": value for name, value in audit.metrics().items()}
        metrics["train/lr"] = optimizer.param_groups[0]["lr"]
        probabilities = predict(model, store, task.validation.rows, frames, device, autocast)
        # The epoch's last step shows in the predictions alone.
        if not (math.isfinite(metrics["train/loss"]) and np.isfinite(probabilities).all()):
            raise DivergedError(
                f"training diverged in epoch {epoch} (training loss {metrics['train/loss']:g}); a smaller "
                f"optimizer.lr (now {config.optimizer.lr:g}) or optimizer.gradient_clip may help."
            )
        metrics |= subset_metrics("val", probabilities, task.validation)
        judged = metrics.get("val/uar")
        finished = epoch == config.training.epochs
        improved = judged is not None and judged > best["best/val_uar"]
        if task.test is not None and (improved or finished):
            tested = predict(model, store, task.test.rows, frames, device, autocast)
        if judged is not None:
            if improved:
                best = {"best/val_uar": judged, "best/epoch": float(epoch)}
                if task.test is not None and tested is not None:
                    best |= test_metrics("test/best", tested, task.test)
            shown = {name: value for name, value in best.items() if finished or not name.startswith("test/")}
            metrics |= {**shown, "last/val_uar": judged}
        if finished and task.test is not None and tested is not None:
            metrics |= test_metrics("test/last", tested, task.test)
        yield EpochRecord(
            epoch,
            epoch * steps_per_epoch,
            metrics,
            finished,
            {
                "fingerprint": identity,
                "config": config.to_dotted(),
                "front_end": reads,
                "seed": seed,
                "manifest": task.manifest,  # with the class names
                "epoch": epoch,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "loss": loss.state_dict(),
                "utterances": utterances.state_dict(),
                "best": best,
            },
            utterance_table(task, utterances.last_seen(), probabilities, tested) if finished else None,
        )


def fingerprint(config: Config, seed: int, task: Task) -> str:
    """Identifies a training run: configuration, seed, labels (by their manifest) and training utterances."""
    return digest([config.to_dotted(), seed, task.manifest, list(task.train.utterance_ids)])


def training_targets(loss: Loss | type[Loss], train: Subset) -> Tensor:
    """What a loss is trained on: the noisy labels, or the annotators' distribution if it asks for soft targets.

    Args:
        loss: The loss, or its class.
        train: The training utterances.

    Returns:
        (n,) int64 labels, or (n, C) float32 distributions.

    Raises:
        UserError: The loss asks for soft targets, and the corpus has no votes.
    """
    if loss.targets == "noisy":
        return torch.tensor(train.noisy)
    if train.soft is None:
        raise UserError(
            "loss 'soft_labels' trains on the annotators' distribution, and the corpus has no votes. Choose another "
            "loss, or a corpus with votes."
        )
    return torch.tensor(train.soft, dtype=torch.float32)


def subset_metrics(prefix: str, probabilities: NDArray[np.float64], part: Subset) -> dict[str, float]:
    """Scores predictions against the true labels, the noisy ones and the annotators' distribution.

    Args:
        prefix: ``"val"`` or ``"test"``.
        probabilities: (n, C) for the part's utterances.
        part: The part.

    Returns:
        ``PREFIX/*`` against true labels where all are known; where there are votes, ``PREFIX/soft_ce`` and
        ``PREFIX/jsd`` against the annotators' distribution; and ``PREFIX_noisy/uar`` against noisy labels.
    """
    metrics = {f"{prefix}_noisy/uar": evaluation.scores(probabilities, part.noisy)["uar"]}
    if (part.truth >= 0).all():
        metrics |= {f"{prefix}/{name}": value for name, value in evaluation.scores(probabilities, part.truth).items()}
    if part.soft is not None:
        soft = evaluation.soft_scores(probabilities, part.soft)
        metrics |= {f"{prefix}/{name}": value for name, value in soft.items()}
    return metrics


def test_metrics(prefix: str, probabilities: NDArray[np.float64], part: Subset) -> dict[str, float]:
    """Scores predictions for test utterances against the true labels and the annotators' distribution.

    Args:
        prefix: ``"test/last"`` or ``"test/best"``.
        probabilities: (n, C) for the part's utterances.
        part: The part, whose labels nobody has put noise on.

    Returns:
        ``PREFIX/*``, as ``subset_metrics`` has them; empty where not all true labels are known.
    """
    found = subset_metrics("test", probabilities, part)
    return {
        f"{prefix}/{name.removeprefix('test/')}": value for name, value in found.items() if name.startswith("test/")
    }


@torch.no_grad()
def predict(
    model: Classifier,
    store: FeatureStore,
    rows: NDArray[np.int64],
    frames: int,
    device: torch.device,
    autocast: torch.autocast,
) -> NDArray[np.float64]:
    """Class probabilities of utterances: the mean over all segments of each.

    Args:
        model: The network; left in evaluation mode.
        store: The feature store.
        rows: (n,) utterances.
        frames: Length of a segment.
        device: Where the model is.
        autocast: The precision to run in.

    Returns:
        (n, C) float64, rows sum to 1.
    """
    model.eval()

    def probabilities(batch: Tensor, lengths: Tensor | None) -> Tensor:
        with autocast:
            logits: Tensor = model(batch.to(device), lengths)
        return logits.double().softmax(dim=1)

    means = mean_over_segments(probabilities, store, rows, frames, with_lengths=model.masks_padding)
    return np.asarray(means / means.sum(axis=1, keepdims=True))


def _lengths(
    model: Classifier, store: FeatureStore, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int
) -> Tensor | None:
    """(n,) valid frames of each window, for a model that is told them."""
    return torch.from_numpy(valid_frames(store, rows, starts, frames)) if model.masks_padding else None


def load_weights(model: Classifier, config: ModelConfig) -> None:
    """Fills a model from ``model.pretrained``, if that is set.

    Raises:
        UserError: The file does not fit the model or its front end.
    """
    if config.pretrained:
        load_pretrained(model, config.pretrained, config.features)


def check_weights(config: ModelConfig) -> None:
    """Compares ``model.pretrained`` with the network, so that a mistake is told before features are computed.

    Raises:
        UserError: The file does not fit the network or its front end.
    """
    with torch.device("meta"):
        model = config.build_network(num_classes=2)
    load_weights(model, config)


def uses_bfloat16(config: Config, device: torch.device) -> bool:
    """Whether this configuration trains under bfloat16 autocast on this device."""
    if config.training.precision != "auto":
        return config.training.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _epoch_order(balance: Tensor, config: Config, rng: np.random.Generator) -> NDArray[np.int64]:
    """An epoch's training utterances: each once, or as many drawn with replacement, all classes alike."""
    if config.training.class_balance != "sampling":
        return rng.permutation(len(balance))
    chances = balance.numpy()
    return rng.choice(len(balance), size=len(balance), p=chances / chances.sum())


def _balance(targets: Tensor, num_classes: int) -> Tensor:
    """(n,) inverse frequencies of the utterances' classes among the targets; a soft target's are averaged by share."""
    shares = as_distribution(targets, num_classes).double()
    counts = shares.sum(dim=0)
    inverse = torch.where(counts > 0, len(targets) / (num_classes * counts), 0.0)
    return (shares * inverse).sum(dim=1)


def save_state(state: State, path: Path) -> None:
    """Writes a state so that a reader sees all of it or none."""
    temporary = path.with_name(path.name + ".writing")
    torch.save(state, temporary)
    temporary.replace(path)


def load_state(path: Path) -> State:
    """Reads a state; no code in it is run (``weights_only``).

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {error}") from error
    return state
