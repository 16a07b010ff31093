"""Whether a GPU computes what the CPU computes, and whether it computes the same twice."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_parts.common import CLASSES, EPOCHS, HOP, MELS, PARAMETERS, RATE, Row, Settings, attempt, epochs_of
from ser.config import Config, OptimizerConfig
from ser.losses import LOSSES, build_loss
from ser.models import MODELS, Classifier, build_model
from ser.training import Task, train
from ser.training.device.arithmetic import Arithmetic, Device
from ser.training.optimizer import make_optimizer

STEP, TOTAL_STEPS = 60, 100  # what schedules are given
VALUE, GRADIENT, UPDATE = 1e-5, 5e-3, 1e-4
"""Largest relative differences that count as equal: of a loss, of the norm of a gradient, of an optimizer step from
equal gradients. Convolutions of a GPU add in another order, and a ReLU near 0 can fall on the other side."""


def numbers(settings: Settings, task: Task) -> Iterator[Row]:
    """Compare every loss and network on the device with the CPU in float32, without dropout.

    Compared are the value, the gradients, and a step of the optimizer that begins with the CPU's gradients on both.
    """
    kind: Device = "cuda" if settings.device == "cuda" else "cpu"
    Arithmetic(kind, "float32").apply()
    torch.manual_seed(0)
    batch, width = min(settings.batches), settings.widths[-1]
    crops, labels = torch.randn(batch, settings.frames, MELS) * 10 - 50, torch.arange(batch) % CLASSES

    def run(model: Classifier, name: str, device: str) -> tuple[float, list[Tensor]]:
        loss = build_loss(name, PARAMETERS.get(name, {}), TOTAL_STEPS, batch, CLASSES)
        targets = labels
        if LOSSES[name].targets == "soft":
            targets = 0.9 * torch.eye(CLASSES)[labels] + 0.1 / CLASSES
        schedule = loss.schedule(STEP)
        step = torch.tensor(schedule, dtype=torch.float64, device=device) if schedule else STEP
        output = loss(model(crops.to(device)), targets.to(device), step, index=torch.arange(batch, device=device))
        output.loss.backward()  # type: ignore[no-untyped-call]
        return output.loss.item(), gradients(model)

    def compare(loss: str, network: str) -> Row:
        torch.manual_seed(0)
        on_cpu = build_model(network, CLASSES, width, dropout=0.0).train()
        on_cpu.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        on_device = copy.deepcopy(on_cpu).to(settings.device)
        (value, expected), (other, found) = run(on_cpu, loss, "cpu"), run(on_device, loss, settings.device)
        update = apart(update_of(on_cpu, expected), update_of(on_device, expected))
        row = {"value": value, "of_value": abs(other - value) / max(abs(value), 1e-12)}
        row |= {"of_gradient": apart(expected, found), "of_update": update}
        equal = row["of_value"] <= VALUE and row["of_gradient"] <= GRADIENT and row["of_update"] <= UPDATE
        return {**row, "right": equal}

    for name in settings.losses:
        yield attempt(compare, loss=name, network="cnn14")
    for name in MODELS:
        if name != "cnn14":
            yield attempt(compare, loss="proselflc", network=name)


def gradients(model: nn.Module) -> list[Tensor]:
    """Return copies of all gradients on the CPU, in float64."""
    return [value.grad.detach().cpu().double().clone() for value in model.parameters() if value.grad is not None]


def update_of(model: Classifier, given: list[Tensor]) -> list[Tensor]:
    """Clip these gradients, do one step of the optimizer, and return the changes of the weights."""
    config = OptimizerConfig()
    optimizer = make_optimizer(model, config)
    trained = [value for value in model.parameters() if value.grad is not None]
    before = [value.detach().clone() for value in trained]
    for value, gradient in zip(trained, given, strict=True):
        value.grad = gradient.to(value.device, value.dtype)
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    optimizer.step()
    pairs = zip(trained, before, strict=True)
    return [(value.detach() - old).cpu().double() for value, old in pairs]


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the norm of the difference of two lists of tensors, relative to the norm of the first."""
    squares = sum(float((a - b).square().sum()) for a, b in zip(one, other, strict=True))
    return float(np.sqrt(squares / max(sum(float(a.square().sum()) for a in one), 1e-300)))


def whole_training(settings: Settings, task: Task) -> Iterator[Row]:
    """Train two epochs without dropout on the device and on the CPU, with every precision."""
    values = {"model.width": settings.widths[-1], "model.dropout": 0.0, "training.batch_size": 16}
    values |= {"training.crop_seconds": settings.frames * HOP / RATE, "training.epochs": EPOCHS}
    names = ("train/loss", "train/uar", "val/uar", "val/nll", "val_noisy/uar")
    expected: dict[str, float] = {}

    def run(device: str, precision: str) -> Row:
        began = time.perf_counter()
        config = Config.from_dotted({**values, "optimizer.schedule": "constant", "training.precision": precision})
        *_, record = islice(train(config, task, seed=0, device=device), 2)
        found: Row = {name: record.metrics[name] for name in names if name in record.metrics}
        expected.update(expected or found)
        differences = [abs(found[name] / expected[name] - 1) for name in ("train/loss", "val/nll") if name in found]
        return {"seconds": time.perf_counter() - began, **found, "of_losses": max(differences)}

    yield attempt(run, device="cpu", precision="float32")
    precisions = ("float32", "tf32", "bfloat16") if settings.device == "cuda" else ("float32",)
    for precision in precisions:
        yield attempt(run, device=settings.device, precision=precision)


def equality(settings: Settings, task: Task) -> Iterator[Row]:
    """Train twice with the same seed, with and without ``training.deterministic``; compare the weights."""

    def run(width: float, deterministic: bool) -> dict[str, Tensor]:
        epochs = epochs_of(settings, task, width, min(settings.batches), settings.steps, deterministic=deterministic)
        *_, record = islice(epochs, 2)
        return {name: value.detach().cpu().double() for name, value in record.state["model"].items()}

    def compare(width: float, deterministic: bool) -> Row:
        began = time.perf_counter()
        one, other = run(width, deterministic), run(width, deterministic)
        largest = max(float((one[name] - other[name]).abs().max()) for name in one)
        return {"equal": largest == 0, "largest_difference": largest, "seconds": time.perf_counter() - began}

    # cuBLAS asks for determinism once in a process, at its first product, so the deterministic runs come first.
    for deterministic in (True, False):
        for width in dict.fromkeys((settings.widths[-1], settings.widths[0])):
            yield attempt(compare, width=width, deterministic=deterministic)
