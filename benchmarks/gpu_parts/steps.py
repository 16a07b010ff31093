"""How fast training steps are: the field's loop, this project's, and its step captured."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_parts.common import (
    CLASSES,
    HOP,
    MELS,
    RATE,
    SELF_CORRECTION,
    Row,
    Settings,
    Step,
    attempt,
    epochs_of,
    time_steps,
)
from benchmarks.gpu_parts.device_step import CAPTURED, time_variant
from benchmarks.measure import machine
from benchmarks.roofline import step_cost
from ser.losses import build_loss
from ser.models import Classifier, build_model
from ser.torchaudio_import import torchaudio
from ser.training import Task

FIELD, FIELD_MIXED, OURS = "field, float32", "field, bf16, channels last", "this project"


def describe_machine(settings: Settings, task: Task) -> Iterator[Row]:
    """Describe the machine and measure its peak and bandwidth; fails where the device cannot be used."""
    torch.zeros(1, device=settings.device)
    about: Row = {**machine()}
    if settings.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        about |= {"gpu_gb": total / 1e9, "free_gb": free / 1e9}
    yield about
    one = torch.randn(settings.matrix, settings.matrix, device=settings.device).bfloat16()
    peak = 2 * settings.matrix**3 / time_steps(settings, lambda: one @ one, 10)
    source = torch.zeros(settings.copied, dtype=torch.uint8, device=settings.device)
    target = torch.zeros_like(source)
    bandwidth = 2 * settings.copied / time_steps(settings, lambda: target.copy_(source), 10)
    yield {"peak": peak, "bandwidth": bandwidth}
    for width in settings.widths:
        cost = step_cost(width, settings.frames)
        for batch in settings.batches:
            limit = cost.clips_per_second(batch, peak, bandwidth)
            yield {"width": width, "batch": batch, "limit": limit, "flop": cost.flop}


class FieldModel(nn.Module):
    """A network with its front end and SpecAugment inside, as PANNs' own code has them."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            RATE, n_fft=512, hop_length=HOP, f_min=50, f_max=8000, n_mels=MELS, norm="slaney", mel_scale="slaney"
        )
        self.decibels = torchaudio.transforms.AmplitudeToDB()
        self.masks = nn.Sequential(
            *[torchaudio.transforms.TimeMasking(64, iid_masks=True) for _ in range(2)],
            *[torchaudio.transforms.FrequencyMasking(8, iid_masks=True) for _ in range(2)],
        )
        self.network = network

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms (N, samples) to logits (N, C)."""
        log_mel = self.masks(self.decibels(self.mel(waveform)).unsqueeze(1)).squeeze(1)
        logits: Tensor = self.network(log_mel.transpose(1, 2))
        return logits


def field_step(settings: Settings, width: float, batch: int, mixed: bool) -> Step:
    """Return a step as the field writes it, on waveforms that are already decoded and in pinned memory.

    Args:
        settings: Sizes.
        width: Width of CNN14.
        batch: Clips in a step.
        mixed: Use bfloat16 autocast and channels last, instead of torch's defaults: float32, in convolutions TF32.
    """
    torch.manual_seed(0)
    model = FieldModel(build_model("cnn14", CLASSES, width)).to(settings.device).train()
    if mixed:
        model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = build_loss("proselflc", SELF_CORRECTION, 10_000, batch, CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    waveforms, labels = 0.1 * torch.randn(batch, settings.frames * HOP), torch.arange(batch) % CLASSES
    if settings.device == "cuda":
        waveforms, labels = waveforms.pin_memory(), labels.pin_memory()

    def step() -> None:
        inputs, targets = waveforms.to(settings.device), labels.to(settings.device)
        with torch.autocast(settings.device, torch.bfloat16, enabled=mixed):
            logits = model(inputs)
        output = loss(logits.float(), targets, 60)
        optimizer.zero_grad()
        output.loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        output.loss.item()
        (logits.argmax(dim=1) == targets).sum().item()

    return step


def measure(settings: Settings, task: Task, width: float, batch: int, variant: str) -> Row:
    """Return the seconds of a step of a variant."""
    if variant == CAPTURED:
        return time_variant(settings, width, batch, variant)
    if variant == OURS:
        number = 4 * settings.steps  # so that an epoch's other work matters little
        epochs = epochs_of(settings, task, width, batch, number)
        return {"seconds_of_step": time_steps(settings, lambda: next(epochs), 1, number)}
    step = field_step(settings, width, batch, mixed=variant == FIELD_MIXED)
    return {"seconds_of_step": time_steps(settings, step, settings.steps)}


def cells(settings: Settings, task: Task, important: bool, variants: tuple[str, ...]) -> Iterator[Row]:
    """Time variants for the most important sizes, or for all others."""
    first = [(width, settings.batches[0]) for width in dict.fromkeys((settings.widths[0], settings.widths[-1]))]
    others = [(width, batch) for batch in settings.batches for width in settings.widths]
    for variant in variants:
        for width, batch in first if important else [one for one in others if one not in first]:
            yield attempt(partial(measure, settings, task), width=width, batch=batch, variant=variant)


def first_speed(settings: Settings, task: Task) -> Iterator[Row]:
    """Time all variants at the most important sizes."""
    # The field's loop comes first: it has torch's arithmetic, which a training of this project sets for its process.
    return cells(settings, task, True, (FIELD, FIELD_MIXED, OURS, CAPTURED))


def field_speed(settings: Settings, task: Task) -> Iterator[Row]:
    """Time the field's loop at the other sizes."""
    return cells(settings, task, False, (FIELD, FIELD_MIXED))


def own_speed(settings: Settings, task: Task) -> Iterator[Row]:
    """Time this project's training, and its step captured, at the other sizes."""
    return cells(settings, task, False, (OURS, CAPTURED))
