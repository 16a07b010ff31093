"""What a trial does with the memory of a GPU that it shares; torch's functions for GPUs are replaced."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ser.config import ModelConfig
from ser.training import loop
from ser.training.task import Task
from study.trial import trainable
from study.trial.specification import FAILURE, FAILURE_FINAL, TrialContext
from study.trial.trainable import StudyTrial
from tests.helpers.trial_context import CONFIGURATION, make_context

TOTAL = 80 * 10**9
QUARTER = 0.25 - 0.6 / 80
"""Fraction of 80 GB that is a quarter less the .6 GB that CUDA takes."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Log limits, the building of networks, and how many networks live whenever the cache is emptied."""
    logged: list[Any] = []
    networks: list[weakref.ref[torch.nn.Module]] = []
    build = ModelConfig.build

    def built(self: ModelConfig, num_classes: int) -> torch.nn.Module:
        network = build(self, num_classes)
        networks.append(weakref.ref(network))
        logged.append("built")
        return network

    def alive() -> int:
        return sum(network() is not None for network in networks)

    def on_cpu(*arguments: Any, device: str, **named: Any) -> Any:
        assert device == "cuda"
        return loop.train(*arguments, device="cpu", **named)

    monkeypatch.setattr(ModelConfig, "build", built)
    monkeypatch.setattr(trainable, "train", on_cpu)
    for name, function in {
        "is_initialized": lambda: True,
        "get_device_name": lambda: "fake",
        "get_device_properties": lambda device: SimpleNamespace(total_memory=TOTAL),
        "set_per_process_memory_fraction": lambda fraction, device: logged.append(("limit", pytest.approx(fraction))),
        "memory_allocated": lambda: 10**9 * alive(),
        "empty_cache": lambda: logged.append(("emptied", alive())),
        "reset_peak_memory_stats": lambda: logged.append("peak"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda *_: QUARTER)
    gc.disable()  # what a trial leaves must be gone by itself
    yield logged
    gc.enable()


@pytest.fixture
def context(task_at: Callable[..., Task], tmp_path: Path) -> TrialContext:
    context = make_context(task_at("noisy-A"), tmp_path / "search")
    return replace(context, device="cuda", gpus=0.25)


def actor(context: TrialContext) -> StudyTrial:
    """Return an actor that has said where its trial runs."""
    trial = StudyTrial.__new__(StudyTrial)  # without Ray
    trial.setup(dict(CONFIGURATION), context)
    trial.step()
    return trial


def test_a_trial_limits_its_memory_before_it_allocates_any_and_leaves_none_to_the_next(
    context: TrialContext, log: list[Any]
) -> None:
    trial = actor(context)
    while not trial.step()["done"]:
        pass
    trial.reset_config({**CONFIGURATION, "trial": 2})
    assert log[:2] == [("limit", QUARTER), "built"]
    assert log[-2:] == [("emptied", 0), "peak"]
    trial.step()
    trial.step()  # an epoch; then the search stops the trial
    del log[:]
    trial.reset_config({**CONFIGURATION, "trial": 3})
    trial.step()
    del log[:]
    trial.step()  # the search lets the next one begin
    assert log[:3] == [("emptied", 0), "peak", ("limit", QUARTER)]


def test_a_whole_gpu_has_no_limit(context: TrialContext, log: list[Any]) -> None:
    actor(replace(context, gpus=1.0)).step()
    assert log == ["built"]


def raises(kind: type[Exception], text: str) -> Callable[..., None]:
    """Return a function that raises an error that nobody else keeps, since it would keep the network alive."""

    def call(*_: object, **__: object) -> None:
        raise kind(text)

    return call


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (torch.AcceleratorError, "CUDA error: out of memory"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_trial_that_runs_out_of_memory_says_its_share_and_gives_all_of_it_back(
    context: TrialContext, log: list[Any], monkeypatch: pytest.MonkeyPatch, kind: type[Exception], text: str
) -> None:
    trial = actor(context)
    monkeypatch.setattr(torch.optim.AdamW, "step", raises(kind, text))
    result = trial.step()
    assert "the GPU is out of memory (19 GB of 80 GB, this trial's share of it) with model.width" in result[FAILURE]
    assert "--gpus-per-trial" in result[FAILURE]
    assert not result[FAILURE_FINAL]
    assert log[-2:] == [("emptied", 0), "peak"]


def test_a_context_that_finds_no_room_is_out_of_memory_too(
    context: TrialContext, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = actor(context)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", raises(RuntimeError, "CUDA error: out of memory")
    )
    assert "the GPU is out of memory" in trial.step()[FAILURE]
    assert "built" not in log


def test_an_error_that_ends_the_process_leaves_no_memory_either(
    context: TrialContext, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = actor(context)
    monkeypatch.setattr(torch.optim.AdamW, "step", raises(RuntimeError, "CUDA error: an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        trial.step()
    assert log[-2:] == [("emptied", 0), "peak"]
