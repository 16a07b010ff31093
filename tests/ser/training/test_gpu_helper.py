"""The fake GPU finds every kind of wait, finds none where there is none, and computes what a CPU computes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ser.losses import LossOutput
from ser.training.label_metrics import LabelMetrics
from tests.helpers import fake_cuda as helper
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda

ITEM, UP, DOWN, SHAPE, SYNCHRONIZE = "item", "copy to the GPU", "copy to the CPU", "shape", "synchronize"


def waiting() -> dict[str, tuple[list[str], Callable[[], Any]]]:
    """Return what waits: name → kinds of its waits, and the call."""
    x = torch.tensor([3.0, 1.0, 2.0], device="cuda")
    whole = torch.tensor([2, 0, 1], device="cuda")
    mask, host, other = x > 1.5, torch.ones(3), torch.ones(3, device="cuda")
    columns = torch.ones(3, 2).pin_memory()

    def set_by_mask() -> None:
        other[mask] = x[:2]

    return {
        "item": ([ITEM], lambda: x[0].item()),
        "float": ([ITEM], lambda: float(x.sum())),
        "int": ([ITEM], lambda: int(whole[0])),
        "bool": ([ITEM], lambda: bool(mask.any())),
        "if": ([ITEM], lambda: 1 if x.sum() > 0 else 0),
        "range": ([ITEM], lambda: list(range(whole[0]))),
        "tolist": ([DOWN], x.tolist),
        "cpu": ([DOWN], x.cpu),
        "to the host": ([DOWN], lambda: x.to("cpu")),
        "numpy": ([DOWN], lambda: x.cpu().numpy()),
        "copy_ to the host": ([DOWN], lambda: host.copy_(x)),
        "copy_ to pageable memory": ([DOWN], lambda: torch.empty(3).copy_(x, non_blocking=True)),
        "to the GPU": ([UP], lambda: host.to("cuda")),
        "cuda()": ([UP], host.cuda),
        "page-locked, but blocking": ([UP], lambda: host.pin_memory().to("cuda")),
        "page-locked, but not contiguous": ([UP], lambda: columns[:, 0].to("cuda", non_blocking=True)),
        "from pageable memory": ([UP], lambda: host.to("cuda", non_blocking=True)),
        "copy_ to the GPU": ([UP], lambda: x.clone().copy_(host)),
        "tensor": ([UP], lambda: torch.tensor([1.0], device="cuda")),
        "as_tensor": ([UP], lambda: torch.as_tensor([1.0], device="cuda")),
        "module": ([UP], lambda: nn.Linear(3, 1, bias=False).to("cuda")),
        "index on the host": ([UP], lambda: x[torch.tensor([0, 1])]),
        "nonzero": ([SHAPE], x.nonzero),
        "where": ([SHAPE], lambda: torch.where(mask)),
        "index by a mask": ([SHAPE], lambda: x[mask]),
        "set by a mask": ([SHAPE], set_by_mask),
        "masked_select": ([SHAPE], lambda: x.masked_select(mask)),
        "unique": ([SHAPE], x.unique),
        "unique_consecutive": ([SHAPE], x.unique_consecutive),
        "bincount": ([SHAPE], lambda: torch.bincount(whole)),
        "repeat_interleave": ([SHAPE], lambda: x.repeat_interleave(whole)),
        "one_hot of unknown classes": ([ITEM], lambda: F.one_hot(whole)),
        "multinomial": ([SHAPE], lambda: x.multinomial(1)),
        "equal": ([ITEM], lambda: torch.equal(x, x.clone())),
        "allclose": ([ITEM], lambda: torch.allclose(x, x)),
        "device": ([SYNCHRONIZE], torch.cuda.synchronize),
        "stream": ([SYNCHRONIZE], lambda: torch.cuda.current_stream().synchronize()),
        "event": ([SYNCHRONIZE], lambda: torch.cuda.Event().synchronize()),
    }


def not_waiting() -> dict[str, Callable[[], Any]]:
    x = torch.tensor([3.0, 1.0, 2.0], device="cuda")
    whole, mask = torch.tensor([2, 0, 1], device="cuda"), x > 1.5
    pinned, target = torch.ones(3).pin_memory(), torch.empty(3, pin_memory=True)
    layer, lr = nn.Linear(3, 3).to("cuda"), torch.ones((), device="cuda")
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr, fused=True, capturable=True)

    def fill() -> None:
        x[mask] = 0.5

    def side_stream() -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            moved = pinned.to("cuda", non_blocking=True)
        event = stream.record_event()
        torch.cuda.current_stream().wait_event(event)
        moved.record_stream(torch.cuda.current_stream())
        assert event.query()

    def step() -> None:
        F.cross_entropy(layer(x.unsqueeze(0)), whole[:1]).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return {
        "arithmetic": lambda: (x + 1).exp().sum(),
        "made on the GPU": lambda: torch.zeros(3, device="cuda") + torch.full((), 2.0, device="cuda"),
        "index": lambda: x[whole],
        "fill by a mask": fill,
        "where": lambda: torch.where(mask, x, 0.0).masked_fill(mask, 1.0),
        "one_hot": lambda: F.one_hot(whole, 3),
        "sort": lambda: (x.sort(), x.topk(2), x.argsort(stable=True), x.cumsum(0)),
        "scatter": lambda: x.scatter_reduce(0, whole, x, "amax").index_add(0, whole, x),
        "repeat_interleave of a known size": lambda: x.repeat_interleave(whole, output_size=3),
        "other type": lambda: x.to(torch.float64).bool(),
        "up": lambda: pinned.to("cuda", non_blocking=True),
        "up, in place": lambda: x.copy_(pinned, non_blocking=True),
        "down": lambda: x.to("cpu", non_blocking=True),
        "down, in place": lambda: target.copy_(x, non_blocking=True),
        "side stream": side_stream,
        "step": step,
    }


def kinds_of_waits() -> Any:
    with fake_cuda() as gpu:
        found = {}
        for name, (_, call) in waiting().items():
            gpu.clear()
            call()
            found[name] = [wait.kind for wait in gpu.waits]
        clean = {}
        for name, call in not_waiting().items():
            gpu.clear()
            call()
            clean[name] = [str(wait) for wait in gpu.waits]
        return [found, {name: kinds for name, (kinds, _) in waiting().items()}, clean]


def everything() -> dict[str, Any]:
    with fake_cuda():
        numbers = [numbers_of("cpu"), numbers_of("cuda")]
    return {"waits": kinds_of_waits(), "numbers": numbers, "refused": refused()}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return run_on_fake_cuda(everything)


def test_every_kind_of_wait_is_found_and_no_other(found):
    seen, expected, clean = found["waits"]
    assert seen == expected
    assert {name: waits for name, waits in clean.items() if waits} == {}
    assert len(clean) > 10


def numbers_of(device: str) -> list[float]:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(2))
    recurrent, head = nn.LSTM(36, 5, batch_first=True), nn.Linear(5, 3)
    x, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    everything = nn.ModuleList([network, recurrent, head]).to(device=device)
    optimizer = torch.optim.AdamW(everything.parameters(), lr=0.1, fused=True)
    x, labels, losses = x.to(device), labels.to(device), []
    for _ in range(3):
        loss = F.cross_entropy(head(recurrent(network(x))[0].mean(dim=1)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def refused() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def error_of(call: Callable[[], Any]) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            call()
        return f"{type(caught.value).__name__}: {caught.value}"

    with fake_cuda() as gpu:
        x, host, pinned = torch.ones(3, device="cuda"), torch.ones(3), torch.ones(3).pin_memory()
        found["mixed"] = error_of(lambda: x + host)
        found["mixed, from the CPU"] = error_of(lambda: host.mul_(x))
        found["index"] = error_of(lambda: host[torch.zeros(1, dtype=torch.int64, device="cuda")])
        found["numpy"] = error_of(x.numpy)
        found["number"] = (x * torch.tensor(2.0)).tolist()
        late = (2 * x).to("cpu", non_blocking=True)
        found["early"] = all(math.isnan(value) for value in late.tolist())
        torch.cuda.synchronize()
        found["late"] = late.tolist()
        pinned.to("cuda", non_blocking=True)
        pinned.zero_()
        found["changed"] = error_of(torch.cuda.synchronize)
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        with torch.cuda.stream(stream):
            elsewhere, copied = torch.ones(3, device="cuda"), stream.record_event()
        found["no wait"] = error_of(elsewhere.check_stream)  # type: ignore[attr-defined]
        current.wait_event(copied)
        elsewhere.check_stream()  # type: ignore[attr-defined]
        gpu.out_of_memory_after = 2
        found["memory"] = error_of(lambda: [x + 1 for _ in range(3)])
        gpu.out_of_memory_after = math.inf
        gpu.clear()
        zeros = torch.zeros(2, 3, device="cuda")
        output = LossOutput(zeros.sum(), zeros[:, 0], zeros, zeros[:, 0])
        metrics = LabelMetrics(3, torch.device("cuda"))
        labels = torch.zeros(2, dtype=torch.int64, device="cuda")
        metrics.update(zeros, labels, labels, output)
        metrics.metrics()
        found["where"] = sorted({wait.where.partition(":")[0] for wait in gpu.waits})
        gpu.clear()
        (x.half() * 2).sum(dim=0).view(1)
        found["calls"] = [(call.name, call.dtypes, call.numbers, call.launches) for call in gpu.calls]
    return found


def test_numbers_are_those_of_the_cpu(found):
    on_cpu, on_gpu = found["numbers"]
    assert on_gpu == pytest.approx(on_cpu, rel=1e-5)
    assert on_cpu[2] < on_cpu[0]


def test_what_a_gpu_refuses_is_an_error_and_what_is_logged_is_what_was_done(found):
    found = found["refused"]
    assert found["mixed"].startswith("RuntimeError: Expected all tensors to be on the same device")
    assert found["mixed, from the CPU"].startswith("RuntimeError: Expected all tensors to be on the same device")
    assert found["index"].startswith("RuntimeError: indices should be")
    assert found["numpy"].startswith("TypeError: can't convert cuda:0")
    assert found["number"] == [2.0, 2.0, 2.0]  # a tensor without dimensions may be on the CPU
    assert found["early"]
    assert found["late"] == [2.0, 2.0, 2.0]
    assert found["changed"].startswith("RuntimeError: page-locked memory was changed")
    assert found["no wait"] == "RuntimeError: a tensor of another stream is used without an event that was waited for"
    assert found["memory"].startswith("OutOfMemoryError")
    assert found["where"] == ["ser/training/label_metrics.py"]
    assert found["calls"] == [
        ["aten._to_copy.default", ["float32"], [], True],
        ["aten.mul.Tensor", ["float16"], [2], True],
        ["aten.sum.dim_IntList", ["float16"], [0], True],
        ["aten.view.default", ["float16"], [1], False],
    ]


def test_it_says_why_there_is_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert helper.missing.__wrapped__() == "no C++ compiler: set CXX or install g++"
    monkeypatch.delattr(torch.cuda, "_lazy_init")
    assert "lacks what the fake GPU is made of" in helper.missing.__wrapped__()
