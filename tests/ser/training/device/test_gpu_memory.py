"""The memory of a GPU that trials share: estimate, limit, and what is free; torch's functions for GPUs are replaced."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ser.config import Config
from ser.features.front_ends import front_end
from ser.training.device import gpu_memory
from ser.training.device.gpu_memory import WORKSPACE, free_memory, is_out_of_memory, memory_needed, release_memory

GB = 10**9
STORE: Any = SimpleNamespace(front_end=front_end("panns_16k"), frames=np.zeros((1, 64), np.float32))


def config_of(**values: Any) -> Config:
    dotted = {"model.name": "cnn14", "model.width": 0.125, "training.crop_seconds": 5.0}
    return Config.from_dotted({**dotted, **{key.replace("__", "."): value for key, value in values.items()}})


def needed(**values: Any) -> float:
    """Return the estimate without the room for the store and the libraries."""
    return memory_needed(config_of(**values), STORE, 6) * 0.9 - WORKSPACE


def test_activations_grow_with_batch_and_crop_and_parameters_do_not() -> None:
    small, double = needed(training__batch_size=16), needed(training__batch_size=32)
    parameters = 18 * sum(one.numel() for one in config_of().model.build(6).parameters())
    assert double - parameters == pytest.approx(2 * (small - parameters), rel=1e-6)
    longer = needed(training__batch_size=16, training__crop_seconds=10.0)
    assert longer - parameters == pytest.approx(2 * (small - parameters), rel=0.02)


def test_the_largest_activations_of_cnn14_are_those_of_its_first_block() -> None:
    """Count the first block by hand: 500 frames × 64 bins × 8 channels, twice kept by each of its two convolutions."""
    layer = 500 * 64 * 8 * 4
    assert needed(training__batch_size=64) - 18 * 1.5e6 > 64 * (4 * layer)
    # Each further block has twice the channels and a quarter of the cells, so all of them keep less than the first.
    assert needed(training__batch_size=64) < 18 * 1.5e6 + 64 * (12 * layer + 3 * 2 * layer)


def test_a_small_batch_takes_what_the_64_segments_of_an_evaluation_take() -> None:
    parameters = 18 * sum(one.numel() for one in config_of().model.build(6).parameters())
    small = needed(training__batch_size=2)
    assert small - parameters == pytest.approx(64 * 3 * 500 * 64 * 8 * 4, rel=1e-6)
    assert small == needed(training__batch_size=4) < needed(training__batch_size=32)


def test_an_estimate_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    needed()
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """GPU of 80 GB, of which other processes have 30, with what torch has of it."""
    state = SimpleNamespace(fraction=1.0, allocated=0, reserved=0, others=30 * GB, log=[], initialized=True)
    for name, function in {
        "mem_get_info": lambda device: (80 * GB - state.others - state.reserved, 80 * GB),
        "memory_allocated": lambda *_: state.allocated,
        "memory_reserved": lambda device: state.reserved,
        "get_per_process_memory_fraction": lambda *_: state.fraction,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=80 * GB),
        "set_per_process_memory_fraction": lambda fraction, device: setattr(state, "fraction", fraction),
        "is_initialized": lambda: state.initialized,
        "empty_cache": lambda: state.log.append("empty"),
        "reset_peak_memory_stats": lambda: state.log.append("peak"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    return state


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, 50.0), (0.5, 39.4), (0.25, 19.4), (0.005, 0.0)],  # in GB; .6 GB of each share are CUDA's own
)
def test_free_memory_is_what_the_share_and_others_leave(gpu: SimpleNamespace, share: float, expected: float) -> None:
    gpu_memory.limit_memory(share)
    assert free_memory(torch.device("cuda")) == pytest.approx(expected * GB, abs=1)
    gpu.allocated, gpu.reserved = 4 * GB, 6 * GB  # what is cached can be allocated again
    assert free_memory(torch.device("cuda")) == pytest.approx(max(0, expected - 4) * GB, abs=1)


def test_what_still_has_memory_is_collected_before_the_cache_is_emptied(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_memory.gc, "collect", lambda: gpu.log.append("collect"))
    gpu.allocated = WORKSPACE
    release_memory()
    assert gpu.log == ["empty", "peak"]
    gpu.allocated += 1
    release_memory()
    assert gpu.log == ["empty", "peak", "collect", "empty", "peak"]


def test_memory_is_given_back_and_the_peak_counted_from_there(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_memory()
    assert gpu.log == ["empty", "peak"]
    gpu.initialized = False
    release_memory()
    assert gpu.log == ["empty", "peak"]
    gpu.initialized = True

    def fail() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    release_memory()  # the error that came first is the one to report


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be …"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), False),
        (MemoryError("CUDA error: out of memory"), False),
    ],
)
def test_every_way_to_say_that_memory_is_used_up_is_understood(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
