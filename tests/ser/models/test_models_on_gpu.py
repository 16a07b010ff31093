"""Networks on a GPU: nothing in a training step waits, and the numbers are those of a CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from ser.models import BiLstm, Classifier, Cnn6, Cnn10, Cnn14, LinearProbe
from ser.models.classifier import uploaded
from ser.models.encoders.head import LayerHead
from ser.models.encoders.parameters import EncoderParameters
from tests.helpers.fake_cuda import FakeGpu, fake_cuda, run_on_fake_cuda
from tests.helpers.gpu_operations import refused

LENGTHS = torch.tensor([64, 33, 50])
PROBES = ("linear probe", "head on weighted", "head on last")
NETWORKS = ("cnn6", "cnn10", "cnn14", "bilstm", *PROBES)


def networks() -> dict[str, tuple[Classifier, Tensor]]:
    """Return networks with random weights, and their input."""
    torch.manual_seed(0)
    log_mel, hidden, layers = torch.randn(3, 64, 64), 8, 2
    made: dict[str, tuple[Classifier, Tensor]] = {
        kind.__name__.lower(): (kind(4, width=1 / 32, dropout=0.0), log_mel) for kind in (Cnn6, Cnn10, Cnn14, BiLstm)
    }
    probe = LinearProbe(4, made["cnn6"][0])
    probe.head_dropout.p = 0.0
    made["linear probe"] = probe, torch.randn(3, 1, probe.embedding_size)
    for which in ("weighted", "last"):
        head = LayerHead(4, layers, hidden, EncoderParameters(layers=which, pooling="mean_std"), dropout=0.0)
        made[f"head on {which}"] = head, torch.randn(3, 1, 2 * (layers + 1) * hidden)
    return made


def passes(model: Classifier, features: Tensor, lengths: Tensor | None, gpu: FakeGpu) -> dict[str, Any]:
    """Do a forward and a backward pass on CPU and GPU.

    Returns:
        What waits on the GPU, or is refused where only deterministic algorithms are allowed; and whether logits and
        gradients agree.
    """
    results, waits = [], []
    for device in ("cpu", "cuda"):
        one, x = copy.deepcopy(model).to(device), features.to(device)
        gpu.clear()
        logits = one(x, lengths)
        logits.logsumexp(dim=1).sum().backward()
        waits = [*map(str, gpu.waits), *refused(gpu.calls)]
        gradients = [parameter.grad for parameter in one.parameters() if parameter.grad is not None]
        results.append(torch.cat([tensor.detach().flatten().cpu() for tensor in (logits, *gradients)]))
    return {"waits": waits, "agree": torch.allclose(*results, rtol=1e-4, atol=1e-5)}


def every_network() -> dict[str, Any]:
    """Run each network on whole and on padded input, and upload tensors from everywhere to everywhere."""
    found: dict[str, Any] = {"uploads": []}
    with fake_cuda() as gpu:
        for name, (model, features) in networks().items():
            found[f"{name}, whole"] = passes(model, features, None, gpu)
            if name not in PROBES:
                found[f"{name}, padded"] = passes(model, features, LENGTHS, gpu)
        for values in (torch.arange(3), torch.arange(3).pin_memory(), torch.arange(3).to("cuda")):
            for device in ("cuda", "cpu"):
                gpu.clear()
                moved = uploaded(values, torch.device(device))
                waits = [wait.kind for wait in gpu.waits]
                found["uploads"].append([moved.device.type, moved.tolist(), waits])
    return found


@pytest.fixture(scope="module")
def on_gpu() -> Any:
    return run_on_fake_cuda(every_network)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_waits_and_the_numbers_are_those_of_a_cpu(on_gpu: Any, name: str) -> None:
    found = [result for case, result in on_gpu.items() if case.startswith(name)]
    assert found == [{"waits": [], "agree": True}] * (1 if name in PROBES else 2)


def test_an_upload_waits_for_nothing_and_a_download_for_its_numbers(on_gpu: Any) -> None:
    numbers = [0, 1, 2]
    on_gpu_now, on_cpu_now = ["cuda", numbers, []], ["cpu", numbers, []]
    downloaded = ["cpu", numbers, ["copy to the CPU"]]
    assert on_gpu["uploads"] == [on_gpu_now, on_cpu_now, on_gpu_now, on_cpu_now, on_gpu_now, downloaded]
