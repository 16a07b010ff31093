"""Losses on a GPU: nothing in a step waits, and a captured CUDA graph would freeze nothing that changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ser.losses import LOSSES, Loss, build_loss
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda
from tests.helpers.gpu_operations import refused
from tests.helpers.loss_cases import BATTERY

STEPS, SAMPLES, CLASSES = 100, 24, 6


def made(title: str) -> Loss:
    name, parameters, _ = BATTERY[title]
    return build_loss(name, parameters, STEPS, SAMPLES, CLASSES)


def every_loss() -> dict[str, dict[str, Any]]:
    """Run steps of each loss on CPU and GPU: one that moves its state there, one that may estimate, and two more."""
    found = {}
    for title, (name, *_) in BATTERY.items():
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(16, CLASSES, generator=generator)
        labels = torch.randint(CLASSES, (16,), generator=generator)
        targets = labels if LOSSES[name].targets == "noisy" else torch.rand(16, CLASSES, generator=generator)
        results: dict[str, list[float]] = {}
        nondeterministic: set[str] = set()
        with fake_cuda() as gpu:
            for device in ("cpu", "cuda"):
                loss, index = made(title), torch.randint(SAMPLES, (16,), generator=generator.manual_seed(1)).to(device)
                y, numbers, waits = targets.to(device), [], []
                for step in (1, 59, 60, 70):
                    z = logits.to(device, copy=True).requires_grad_()
                    given = torch.tensor(loss.schedule(step), dtype=torch.float64).to(device)
                    gpu.clear()
                    output = loss(z, y, given if len(given) else step, index=index)
                    output.loss.backward()  # type: ignore[no-untyped-call]
                    numbers.append([(call.name, call.numbers) for call in gpu.calls])
                    waits.append([str(wait) for wait in gpu.waits])
                    nondeterministic |= refused(gpu.calls)
                    assert z.grad is not None
                    parts: list[Tensor] = [z.grad, output.per_sample.detach(), output.corrected_targets, output.trust]
                    results.setdefault(device, []).extend(value for part in parts for value in part.flatten().tolist())
        found[title] = {"results": results, "numbers": numbers[2:], "waits": waits, "refused": sorted(nondeterministic)}
    return found


@pytest.fixture(scope="module")
def on_gpu() -> Any:
    return run_on_fake_cuda(every_loss)


@pytest.mark.parametrize("title", sorted(BATTERY))
def test_nothing_waits(on_gpu: Any, title: str) -> None:
    first, *others = on_gpu[title]["waits"]
    assert others == [[], [], []]
    assert all(".to(z.device)" in wait for wait in first)  # the state moves there once


def test_all_operations_have_deterministic_algorithms(on_gpu: Any) -> None:
    assert {title: found["refused"] for title, found in on_gpu.items() if found["refused"]} == {}


@pytest.mark.parametrize("title", sorted(BATTERY))
def test_numbers_are_those_of_the_cpu(on_gpu: Any, title: str) -> None:
    results = on_gpu[title]["results"]
    assert results["cuda"] == pytest.approx(results["cpu"], abs=1e-6)


@pytest.mark.parametrize("title", sorted(BATTERY))
def test_a_captured_step_would_freeze_nothing_that_changes(on_gpu: Any, title: str) -> None:
    one, later = on_gpu[title]["numbers"]
    assert one == later
