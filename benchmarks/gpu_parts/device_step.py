"""A training step made of the project's parts whose inputs lie on the device, as it is, compiled, and captured.

Everything that changes from step to step is a tensor on the device that the step reads: the loss's numbers, the
learning rates, the place in the log. So one CUDA graph of the step serves all steps.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.gpu_parts.common import CLASSES, MELS, PARAMETERS, Row, Settings, Step, attempt, time_steps, wait
from benchmarks.gpu_parts.same_numbers import apart
from ser.config import OptimizerConfig
from ser.losses import LossOutput, build_loss
from ser.models import build_model
from ser.training import Task
from ser.training.device.arithmetic import Arithmetic, Device
from ser.training.optimizer import learning_rate_factor, make_optimizer, set_learning_rate

CAPTURED, COMPILED, BOTH = "captured", "compiled", "compiled, captured"
WARM_UP = 3
EQUAL = 1e-3
"""Largest relative difference of the log and the weights of a captured training and of the same one uncaptured."""


class DeviceStep:
    """Training step of CNN14 whose inputs lie on the device.

    Args:
        settings: Sizes.
        width: Width of the network.
        batch: Clips in a step.
        loss: Name of the loss.
        precision: Arithmetic of the step.
        total_steps: Steps that the schedules are planned for, and that the log has room for.
        dropout: Factor on the rates of dropout.
    """

    def __init__(
        self, settings: Settings, width: float, batch: int, loss: str, *, precision: str, total_steps: int,
        dropout: float,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        device = self.device = settings.device
        self.network = build_model("cnn14", CLASSES, width, dropout).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        self.rates = OptimizerConfig()
        self.optimizer = make_optimizer(self.network, self.rates)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
        self.loss = build_loss(loss, PARAMETERS.get(loss, {}), total_steps, batch, CLASSES)
        self.crops = torch.randn(batch, settings.frames, MELS, device=device) * 10 - 50
        self.labels, self.index = torch.arange(batch, device=device) % CLASSES, torch.arange(batch, device=device)
        self.log: dict[str, Tensor] = {}
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.steps = total_steps
        # What changes with the step: one row for each, uploaded once.
        factors = [group["factor"] for group in self.optimizer.param_groups]
        plan = [self.rates.lr * learning_rate_factor(self.rates, step, total_steps) for step in range(total_steps)]
        self.all_rates = torch.tensor([[rate * factor for factor in factors] for rate in plan], device=device)
        self.rate_of_group = [torch.tensor(self.rates.lr, device=device) for _ in factors]
        schedule = [self.loss.schedule(step) for step in range(total_steps)]
        self.schedule = torch.tensor(schedule, dtype=torch.float64, device=device)

    def __call__(self, number: int | None = None) -> None:
        """Do one step with the numbers at ``place``, and move on to the next place.

        Args:
            number: Number of the step, for loss and learning rate in Python, instead of what lies on the device.
        """
        if number is None:
            rates = zip(self.optimizer.param_groups, self.rate_of_group, self.all_rates[self.place][0], strict=True)
            for group, rate, planned in rates:
                group["lr"] = rate.copy_(planned)
        else:
            set_learning_rate(self.optimizer, self.rates, number, self.steps)
        with self.autocast:
            logits = self.network(self.crops)
        row: int | Tensor = 0 if number is None else number
        if number is None and self.schedule.numel():
            row = self.schedule[self.place][0]
        output = self.loss(logits.float(), self.labels, row, index=self.index)
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.rates.gradient_clip)
        self.optimizer.step()
        self._record(logits, output)
        self.place.add_(1).remainder_(self.steps)

    def _record(self, logits: Tensor, output: LossOutput) -> None:
        """Write into buffers that are made in the first step."""
        values = {"logits": logits, "per_sample": output.per_sample, "corrected": output.corrected_targets}
        for name, value in {**values, "trust": output.trust}.items():
            if name not in self.log:
                self.log[name] = value.new_zeros((self.steps, *value.shape))
            self.log[name].index_copy_(0, self.place, value.detach()[None])

    def compile(self) -> None:
        """Compile the network's convolution blocks."""
        # Blocks share their code: without dynamic=False the second would be compiled for any number of channels.
        for name, block in self.network.named_children():
            if name.startswith("conv_block"):
                block.compile(dynamic=False)

    def capture(self) -> Step:
        """Return the step as a CUDA graph; on a CPU the step itself."""
        if self.device != "cuda":
            self()
            return self
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)  # so that gradients lie in the graph's memory
        return graph_of(self, side)

    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes, apart from its log."""
        state = [value for one in self.optimizer.state.values() for value in one.values() if isinstance(value, Tensor)]
        return [self.place, *self.network.state_dict().values(), *state, *self.loss.state_dict().values()]


def graph_of(call: Step, stream: torch.cuda.Stream) -> Step:
    """Capture what a call does on the GPU as a CUDA graph, and return the function that replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        call()
    return graph.replay  # keeps the graph and its memory


def capture_check(settings: Settings, task: Task) -> Iterator[Row]:
    """Compare a captured training with the same one whose steps take their numbers in Python, in float32."""
    kind: Device = "cuda" if settings.device == "cuda" else "cpu"
    Arithmetic(kind, "float32").apply()
    torch.backends.cudnn.deterministic = True
    steps = 4

    def compare(loss: str) -> Row:
        step = DeviceStep(
            settings, settings.widths[-1], min(settings.batches), loss,
            precision="float32", total_steps=steps, dropout=0.0,
        )  # fmt: skip
        replay = step.capture()
        initial = [value.clone() for value in step.tensors()]

        def run(begin: int, calls: list[Step]) -> list[Tensor]:
            for value, first in zip(step.tensors(), initial, strict=True):
                value.copy_(first)
            step.place.fill_(begin)
            for value in step.log.values():
                value.zero_()
            for call in calls:
                call()
            changed = [*step.log.values(), *step.network.parameters()]
            return [value.detach().double().cpu().clone() for value in changed]

        expected = run(0, [partial(step, number) for number in range(steps)])
        found = run(0, [replay] * steps)
        # From the same weights, the first and the last numbers of the schedules.
        first, last = run(0, [replay]), run(steps - 1, [replay])
        weights = len(step.log)
        rows = (first[1][0] != last[1][-1]).any()  # losses of the samples
        differ = {"schedule_matters": bool(rows), "rates_matter": apart(first[weights:], last[weights:]) > 0}
        difference = apart(expected, found)
        right = difference <= EQUAL and bool(rows) == bool(step.schedule.numel()) and differ["rates_matter"]
        return {"difference": difference, **differ, "right": right}

    for name in settings.losses:
        yield attempt(compare, loss=name)


def time_variant(settings: Settings, width: float, batch: int, variant: str) -> Row:
    """Prepare and time a variant of the step for ProSelfLC with published dropout, under bfloat16 autocast."""
    began = time.perf_counter()
    step = DeviceStep(settings, width, batch, "proselflc", precision="bfloat16", total_steps=100, dropout=1.0)
    if "compiled" in variant:
        torch.compiler.reset()  # what was compiled for other shapes counts towards a limit
        step.compile()
    call: Step = step.capture() if "captured" in variant else step
    call()
    wait(settings)
    prepared = time.perf_counter() - began
    return {"seconds_of_step": time_steps(settings, call, settings.steps), "seconds_to_prepare": prepared}


def no_compiler(settings: Settings) -> str | None:
    """Return why blocks cannot be compiled for the GPU; None where they can."""
    if settings.device != "cuda":
        return "Blocks are compiled for a GPU alone."
    if find_spec("triton") is None:
        return "Triton is not installed."
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return "There is no C compiler, which Triton needs."
    return None


def compiled(settings: Settings, task: Task) -> Iterator[Row]:
    """Time a step with compiled blocks, as it is and as a CUDA graph."""
    if reason := no_compiler(settings):
        yield {"skipped": reason}
        return
    measure = partial(time_variant, settings)
    for batch in settings.batches:
        for width in settings.widths:
            for variant in (COMPILED, BOTH):
                yield attempt(measure, width=width, batch=batch, variant=variant)
