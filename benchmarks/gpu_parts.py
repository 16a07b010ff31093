"""What ``benchmarks/gpu.py`` measures: each part is a function that yields the rows of its table."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import machine
from ser.config import Config, OptimizerConfig
from ser.losses import LOSSES, build_loss
from ser.models import Classifier, build_model
from ser.torchaudio_import import torchaudio
from ser.training import Task, train
from ser.training.optimizer import make_optimizer, set_learning_rate
from ser.utils.errors import UserError

CLASSES, MELS, HOP, RATE = 6, 64, 160, 16000
STEP, TOTAL_STEPS = 60, 10_000  # what schedules are given where steps are made here, not by the training loop
HUGE_BATCH, SHARE_OF_MEMORY = 1024, 0.05  # too many crops for this share of an H100's or H200's memory
SELF_CORRECTION = {"transit_time_ratio": 0.5, "exp_base": 10.0}
PARAMETERS: dict[str, dict[str, Any]] = {
    "proselflc": SELF_CORRECTION,
    "reweighting_control": SELF_CORRECTION,
    "confidence_penalty": {"epsilon": 0.1},
    "label_correction": {"epsilon": 0.1},
}
"""Arguments of the losses that need some."""

FIELD, FIELD_MIXED = "field, float32", "field, bf16, channels last"
OURS, OURS_ON_DEVICE = "this project", "its step, data on the device"

Row = dict[str, Any]
Step = Callable[[], None]


@dataclass(frozen=True)
class Settings:
    """Sizes of all parts."""

    device: str
    start: str = "fork"  # how processes are started; ``spawn`` where CUDA does not work after a fork
    widths: tuple[float, ...] = (1.0, 0.25, 0.125)  # of CNN14, the widest first
    batches: tuple[int, ...] = (16, 32, 64)
    frames: int = 500  # of a crop: 5 s
    steps: int = 15  # timed together, and steps of an epoch
    repeats: int = 3  # whose median counts
    matrix: int = 8192  # rows of the matrices whose product is the peak
    processes: tuple[int, ...] = (1, 2, 4)  # that share the GPU
    seconds: float = 5.0  # for which they train


def epochs_of(
    settings: Settings, task: Task, width: float, batch: int, steps: int, loss: str = "proselflc"
) -> Iterator[Any]:
    """Return the records of ``ser.training.train``, whose epochs have this number of steps and evaluate little."""
    rows = np.arange(batch * steps) % len(task.train)
    small = replace(task, train=task.train.take(rows), validation=task.validation.take(np.arange(2)))
    values = {f"loss.{name}": value for name, value in PARAMETERS.get(loss, {}).items()}
    values |= {"loss.name": loss, "model.width": width, "training.batch_size": batch, "training.epochs": 1000}
    config = Config.from_dotted({**values, "training.crop_seconds": settings.frames * HOP / RATE})
    return train(config, small, seed=0, device=settings.device)


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

    ``mixed`` is under bfloat16 autocast with channels last, instead of torch's defaults.
    """
    torch.manual_seed(0)
    model = FieldModel(build_model("cnn14", CLASSES, width)).to(settings.device).train()
    if mixed:
        model.network.to(memory_format=torch.channels_last)
    loss = build_loss("proselflc", SELF_CORRECTION, TOTAL_STEPS, batch, CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    waveforms, labels = 0.1 * torch.randn(batch, settings.frames * HOP), torch.arange(batch) % CLASSES
    if settings.device == "cuda":
        waveforms, labels = waveforms.pin_memory(), labels.pin_memory()

    def step() -> None:
        inputs, targets = waveforms.to(settings.device), labels.to(settings.device)
        with torch.autocast(settings.device, torch.bfloat16, enabled=mixed):
            logits = model(inputs)
        output = loss(logits.float(), targets, STEP)
        optimizer.zero_grad()
        output.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        output.loss.item()
        (logits.argmax(dim=1) == targets).sum().item()

    return step


def device_step(settings: Settings, width: float, batch: int, loss_name: str, how: str = "") -> Step:
    """Return this project's step without its data path: crops, labels and index are on the device.

    ``how`` may contain ``compiled``, the network through ``torch.compile``, and ``captured``, as a CUDA graph.
    """
    device = settings.device
    torch.manual_seed(0)
    network = build_model("cnn14", CLASSES, width).to(device, memory_format=torch.channels_last).train()
    model = torch.compile(network) if "compiled" in how else network
    loss = build_loss(loss_name, PARAMETERS.get(loss_name, {}), TOTAL_STEPS, batch, CLASSES)
    rates = OptimizerConfig()
    optimizer = make_optimizer(network, rates)
    set_learning_rate(optimizer, rates, STEP, TOTAL_STEPS)
    for group in optimizer.param_groups if "captured" in how else ():
        group |= {"capturable": True, "lr": torch.tensor(group["lr"], device=device)}
    crops = torch.randn(batch, settings.frames, MELS, device=device) * 10 - 50
    labels, index = torch.arange(batch, device=device) % CLASSES, torch.arange(batch, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            logits = model(crops)
        output = loss(logits.float(), labels, STEP, index=index)
        optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), rates.gradient_clip)
        optimizer.step()

    if "captured" not in how:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def time_steps(settings: Settings, call: Callable[[], Any], calls: int, steps_of_call: int = 1) -> float:
    """Return the seconds of a step: the median of a few rounds of calls, after one to warm up."""
    seconds = []
    for _ in range(settings.repeats + 1):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait(settings)
        seconds.append((time.perf_counter() - began) / calls / steps_of_call)
    return float(np.median(seconds[1:]))


@cache
def flop_per_clip(frames: int, width: float) -> float:
    """Return the floating-point operations of a step for one clip: forward, and backward to weights and inputs."""
    with torch.device("meta"):
        model, crops = build_model("cnn14", CLASSES, width), torch.zeros(2, frames, MELS)
    with FlopCounterMode(display=False) as counter:
        model(crops).sum().backward()
    return counter.get_total_flops() / 2


def wait(settings: Settings) -> None:
    """Wait for the GPU."""
    if settings.device == "cuda":
        torch.cuda.synchronize()


def attempt(measure: Callable[..., Row], **row: Any) -> Row:
    """Return a row together with what ``measure`` finds for it, or with the error, and with the peak memory."""
    gc.collect()
    if torch.cuda.is_initialized():  # the calls below would initialise it, and processes could not be forked
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = measure(**row)
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    if torch.cuda.is_initialized():
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return {**row, **found}


def describe_machine(settings: Settings, task: Task) -> Iterator[Row]:
    """Describe the machine; fails where the device cannot be used."""
    torch.zeros(1, device=settings.device)
    yield machine()


def losses(settings: Settings, task: Task) -> Iterator[Row]:
    """Compare every loss and its gradients on the device with those on the CPU, in float32 without TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    batch = settings.batches[0]
    crops, labels = torch.randn(batch, settings.frames, MELS) * 10 - 50, torch.arange(batch) % CLASSES

    def run(name: str, device: str) -> tuple[float, list[Tensor]]:
        torch.manual_seed(0)
        model = build_model("cnn14", CLASSES, settings.widths[-1], dropout=0.0).to(device).train()
        loss = build_loss(name, PARAMETERS.get(name, {}), 100, batch, CLASSES)
        soft = LOSSES[name].targets == "soft"
        targets = 0.9 * torch.eye(CLASSES)[labels] + 0.1 / CLASSES if soft else labels
        output = loss(model(crops.to(device)), targets.to(device), STEP, index=torch.arange(batch, device=device))
        output.loss.backward()
        return output.loss.item(), [value.grad.cpu().double() for value in model.parameters() if value.grad is not None]

    def compare(loss: str) -> Row:
        (value, gradients), (other, others) = run(loss, "cpu"), run(loss, settings.device)
        norms = torch.stack([one.norm() for one in gradients])
        apart = torch.stack([(one - two).norm() for one, two in zip(gradients, others, strict=True)])
        found = {"value": value, "difference": abs(other / value - 1)}
        return found | {"of_gradient": float(apart.norm() / norms.norm()), "of_a_tensor": float((apart / norms).max())}

    for name in LOSSES:
        yield attempt(compare, loss=name)


def whole_training(settings: Settings, task: Task) -> Iterator[Row]:
    """Train two epochs on the device and on the CPU, with both precisions."""
    width, seconds = settings.widths[-1], settings.frames * HOP / RATE
    values = {"model.width": width, "training.crop_seconds": seconds, "training.epochs": 2, "training.batch_size": 16}

    def run(device: str, precision: str) -> Row:
        began = time.perf_counter()
        config = Config.from_dotted({**values, "training.precision": precision})
        *_, record = train(config, task, seed=0, device=device)
        names = ("train/loss", "val/uar", "val/nll", "val_noisy/uar")
        found = {name: record.metrics[name] for name in names if name in record.metrics}
        return {"seconds": time.perf_counter() - began, **found, "rows_of_table": len(record.utterances)}

    for device in dict.fromkeys((settings.device, "cpu")):
        for precision in ("auto", "float32"):
            yield attempt(run, device=device, precision=precision)


def waits(settings: Settings, task: Task) -> Iterator[Row]:
    """Count how often a step of the training loop waits for the GPU, by loss, and where."""
    torch.cuda.set_sync_debug_mode("warn")

    def places(loss: str, steps: int) -> Counter[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(epochs_of(settings, task, settings.widths[-1], 4, steps, loss))
        lines = [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroni" in str(one.message)]
        return Counter(lines)

    def count(loss: str) -> Row:
        # What an epoch does outside its steps is the same in both and cancels.
        counts = places(loss, 8)
        counts.subtract(places(loss, 4))
        found = {place: number / 4 for place, number in counts.items() if number}
        return {"waits_per_step": sum(found.values()), "where": ", ".join(f"{k} × {n:g}" for k, n in found.items())}

    places("cross_entropy", 1)  # warms up
    for name in LOSSES:
        yield attempt(count, loss=name)


def determinism(settings: Settings, task: Task) -> Iterator[Row]:
    """Train 20 steps twice with the same seed, without and with deterministic algorithms; compare the weights."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic algorithms require it

    def run(width: float) -> dict[str, Tensor]:
        *_, record = islice(epochs_of(settings, task, width, settings.batches[0], 10), 2)
        return {name: value.detach().cpu().double() for name, value in record.state["model"].items()}

    def compare(width: float, deterministic: bool) -> Row:
        torch.use_deterministic_algorithms(deterministic)
        began = time.perf_counter()
        one, other = run(width), run(width)
        largest = max(float((one[name] - other[name]).abs().max()) for name in one)
        return {"equal": largest == 0, "largest_difference": largest, "seconds": time.perf_counter() - began}

    for width in dict.fromkeys((settings.widths[-1], settings.widths[0])):
        for deterministic in (False, True):
            yield attempt(compare, width=width, deterministic=deterministic)


def memory(settings: Settings, task: Task) -> Iterator[Row]:
    """Run out of memory in the training loop, then train normally in the same process."""
    torch.cuda.set_per_process_memory_fraction(SHARE_OF_MEMORY)

    def run(width: float, batch: int) -> Row:
        found: Row = {"allocated_before_mb": torch.cuda.memory_allocated() / 2**20}
        try:
            found["train/loss"] = next(epochs_of(settings, task, width, batch, 1)).metrics["train/loss"]
        except UserError as error:
            found["message"] = str(error)
        return found

    for width, batch in ((0.125, 16), (1.0, HUGE_BATCH), (0.125, 16)):
        yield attempt(run, width=width, batch=batch)


def step_times(settings: Settings, task: Task) -> Iterator[Row]:
    """Time a step: the field's loop, and this project's with and without its data path."""
    one = torch.randn(settings.matrix, settings.matrix, device=settings.device).bfloat16()
    peak = 2 * settings.matrix**3 / time_steps(settings, lambda: one @ one, 10)
    yield {"variant": f"bf16 product of {settings.matrix}² matrices", "tflops": peak / 1e12}
    speeds: dict[tuple[float, int], float] = {}  # of the field's loop

    def measure(width: float, batch: int, variant: str) -> Row:
        if variant == OURS:
            number = settings.steps * (1 if width >= 1 else 4)  # so that an epoch's other work matters little
            epochs = epochs_of(settings, task, width, batch, number)
            seconds = time_steps(settings, lambda: next(epochs), 1, number)
        else:
            if variant == OURS_ON_DEVICE:
                step = device_step(settings, width, batch, "proselflc")
            else:
                step = field_step(settings, width, batch, mixed=variant == FIELD_MIXED)
            seconds = time_steps(settings, step, settings.steps)
        speed = batch / seconds
        if variant == FIELD:
            speeds[width, batch] = speed
        found = {"step_ms": 1000 * seconds, "clips_per_second": speed}
        found["of_peak"] = speed * flop_per_clip(settings.frames, width) / peak
        return found | ({"ratio": speed / speeds[width, batch]} if (width, batch) in speeds else {})

    for width in settings.widths:
        for batch in settings.batches:
            for variant in (FIELD, FIELD_MIXED, OURS, OURS_ON_DEVICE):
                yield attempt(measure, width=width, batch=batch, variant=variant)


def sharing(settings: Settings, task: Task) -> Iterator[Row]:
    """Train in several processes on one GPU at the same time; with MPS if its daemon runs."""
    context = multiprocessing.get_context(settings.start)
    mps = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), "control").exists()

    def measure(processes: int) -> Row:
        barrier, speeds = context.Barrier(processes), context.Queue()
        for _ in range(processes):
            context.Process(target=share, args=(settings, task, barrier, speeds), daemon=True).start()
        found = [speeds.get(timeout=60) for _ in range(processes)]
        if faults := [speed for speed in found if isinstance(speed, str)]:
            raise RuntimeError(faults[0])
        return {"clips_per_second": sum(found), "slowest": min(found), "mps": mps}

    for processes in settings.processes:
        yield attempt(measure, processes=processes)


def share(settings: Settings, task: Task, barrier: Any, speeds: Any) -> None:
    """Warm up, wait for the other processes, train for a few seconds, and send clips a second or the error."""
    batch, number = settings.batches[0], 20 if settings.device == "cuda" else 1
    try:
        torch.set_num_threads(1)
        epochs = epochs_of(settings, task, settings.widths[-1], batch, number)
        list(islice(epochs, 2))
        barrier.wait(60)
        began, clips = time.perf_counter(), 0
        while time.perf_counter() - began < settings.seconds:
            next(epochs)
            clips += batch * number
        speeds.put(clips / (time.perf_counter() - began))
    except Exception as error:
        barrier.abort()
        speeds.put(f"{type(error).__name__}: {error}")


def captured(settings: Settings, task: Task) -> Iterator[Row]:
    """Time a step as it is, and as a CUDA graph."""
    return variants(settings, ("as it is", "captured"))


def compiled(settings: Settings, task: Task) -> Iterator[Row]:
    """Time a step with a compiled network, and both as a CUDA graph."""
    return variants(settings, ("compiled", "compiled, captured"))


def variants(settings: Settings, names: tuple[str, ...]) -> Iterator[Row]:
    """Time variants of ``device_step`` for the widest and the narrowest network."""
    batch = settings.batches[len(settings.batches) // 2]

    def measure(width: float, variant: str) -> Row:
        began = time.perf_counter()
        step = device_step(settings, width, batch, "cross_entropy", variant)
        step()
        wait(settings)
        prepared = time.perf_counter() - began
        seconds = time_steps(settings, step, settings.steps)
        return {"step_ms": 1000 * seconds, "clips_per_second": batch / seconds, "seconds_to_prepare": prepared}

    for variant in names:
        for width in dict.fromkeys((settings.widths[0], settings.widths[-1])):
            yield attempt(measure, width=width, variant=variant)


PARTS: dict[str, tuple[Callable[[Settings, Task], Iterator[Row]], float]] = {
    "machine": (describe_machine, 60),
    "losses": (losses, 60),
    "train": (whole_training, 60),
    "waits": (waits, 60),
    "determinism": (determinism, 60),
    "memory": (memory, 30),
    "steps": (step_times, 150),
    "sharing": (sharing, 90),
    "captured": (captured, 60),
    "compiled": (compiled, 120),
}
"""Name → function, and the seconds after which it is stopped. The parts that take long come last."""

ON_A_GPU_ONLY = ("waits", "memory", "captured", "compiled")
