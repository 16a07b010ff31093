"""Tests of windows of features: on the CPU, on a GPU, and copied to one while it computes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.features.front_ends import FRONT_ENDS, FrontEnd
from ser.features.store import FeatureStore
from ser.training.batches import gather
from ser.training.device import features as module
from ser.training.device.features import DeviceFeatures, fits
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda

CPU = torch.device("cpu")
LENGTHS = {"log_mel": [10, 4, 7, 1, 12], "waveform": [50, 3, 20], "vector": [1, 1, 1, 1]}
SPECS = {
    "log_mel": replace(FRONT_ENDS["panns_16k"], size=3),
    "waveform": FRONT_ENDS["waveform_16k"],
    "vector": FrontEnd("vectors", "vector", 16_000, 6),
}


def store_of(kind: str, lengths: list[int] | None = None) -> FeatureStore:
    lengths = lengths or LENGTHS[kind]
    frames = np.random.default_rng(0).normal(size=(sum(lengths), SPECS[kind].size)).astype("<f4")
    return FeatureStore(Path(), SPECS[kind], frames, np.concatenate([[0], np.cumsum(lengths)]), np.array([]))


def windows_of(store: FeatureStore, frames: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return rows and starts of a window of every utterance, some of them twice, the last one last."""
    rows = np.array([*reversed(range(len(store))), 0, len(store) - 1])
    return rows, np.maximum(store.lengths[rows] - frames, 0) // 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 15), st.integers(1, 9), st.data())
def test_batches_are_what_gather_copies(lengths: list[int], frames: int, size: int, data: st.DataObject) -> None:
    store = store_of("log_mel", lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, len(store) - 1), min_size=1, max_size=9)))
    starts = np.array([data.draw(st.integers(0, store.lengths[row] - 1)) for row in rows])
    windows = DeviceFeatures(store, CPU).windows(rows, starts, frames)
    for _ in range(2):  # they may be cut again
        batches = list(windows.batches(size))
        assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert torch.equal(torch.cat(batches), torch.from_numpy(gather(store, rows, starts, frames)))


def test_a_cpu_reads_the_store_as_it_lies() -> None:
    store = store_of("log_mel")
    features = DeviceFeatures(store, CPU, resident=True)
    assert features.frames is None
    assert features.store is store
    assert not fits(store, CPU)


def safe(batch: Any, resident: bool) -> Any:
    """Return a batch that the network may read: its copy is waited for, and its memory not given out meanwhile."""
    batch.check_stream()
    assert resident or torch.cuda.current_stream() in batch.recorded
    return batch


def cut_on_a_gpu() -> dict[str, Any]:
    """Return, by kind of features and where they lie, whether windows are right, and the waits of their batches.

    Return as well whether a store fits a GPU with just enough free memory, and one with less; and the number of streams
    that were made.
    """
    found: dict[str, list[Any]] = {}
    device = torch.device("cuda")
    module.UPLOAD_BYTES = 64  # several pieces
    with fake_cuda() as gpu, mock.patch.object(torch.cuda, "Stream", wraps=torch.cuda.Stream) as stream:
        for kind, resident, frames in itertools.product(SPECS, (True, False), (1, 5, 30)):
            if kind == "vector" and frames > 1:
                continue
            store = store_of(kind)
            rows, starts = windows_of(store, frames)
            windows = DeviceFeatures(store, device, resident=resident).windows(rows, starts, frames)
            gpu.clear()
            batches = [[safe(batch, resident) for batch in windows.batches(2)] for _ in range(2)]
            waits = [str(wait) for wait in gpu.waits]
            expected = gather(store, rows, starts, frames)
            right = all(np.array_equal(torch.cat(cut).cpu().numpy(), expected) for cut in batches)
            on_gpu = all(batch.device.type == "cuda" for cut in batches for batch in cut)
            found[f"{kind}, resident {resident}, {frames}"] = [right, on_gpu, len(gpu.calls) > 0, waits]
        fitting = []
        for lacking in (0, 10):
            gpu.free_bytes = 10 * store.frames.nbytes - lacking
            fitting.append(fits(store, device))
    return {"windows": found, "fits": fitting, "streams": stream.call_count}


@pytest.fixture(scope="module")
def on_a_gpu() -> dict[str, Any]:
    result: dict[str, Any] = run_on_fake_cuda(cut_on_a_gpu)
    return result


def test_windows_on_a_gpu_are_those_of_the_cpu_and_are_cut_without_waits(on_a_gpu: dict[str, Any]) -> None:
    assert len(on_a_gpu["windows"]) == 14
    assert all(of == [True, True, True, []] for of in on_a_gpu["windows"].values()), on_a_gpu["windows"]


def test_all_windows_are_copied_on_one_stream_since_each_has_memory_of_its_own(on_a_gpu: dict[str, Any]) -> None:
    assert on_a_gpu["streams"] == 1


def test_a_store_lies_on_a_gpu_if_it_takes_a_tenth_of_the_free_memory_at_most(on_a_gpu: dict[str, Any]) -> None:
    assert on_a_gpu["fits"] == [True, False]


@pytest.mark.parametrize("kind", SPECS)
def test_windows_are_gathered_in_memory_that_is_there(kind: str) -> None:
    store = store_of(kind)
    rows, starts = windows_of(store, 1)
    out = np.full((len(rows), 1, store.frames.shape[1]), np.nan, dtype=np.float32)
    assert np.shares_memory(gather(store, rows, starts, 1, out), out)
    assert np.array_equal(out, gather(store, rows, starts, 1))
