"""Features on the device of the network, of which windows are cut without making the host wait."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.features.store import FeatureStore
from ser.models import uploaded
from ser.training.batches import gather
from ser.training.device.gpu_memory import STORE_SHARE, free_memory

UPLOAD_BYTES = 2**26
"""Bytes of a feature store that are copied to a GPU at a time."""


class DeviceFeatures:
    """A feature store whose windows are cut on, or copied to, the device of a network.

    On a CPU the store is read as it lies, memory-mapped. On a GPU it lies in the GPU's memory if it is ``resident``.
    Otherwise windows are gathered in page-locked memory of the host and copied on a stream of their own, one batch
    ahead, while the network computes.

    Args:
        store: Feature store.
        device: Device of the network.
        resident: Whether to copy the whole store to a GPU; worth it where windows are cut again and again.
    """

    def __init__(self, store: FeatureStore, device: torch.device, *, resident: bool = False) -> None:
        self.store, self.device = store, device
        self.frames = _copied(store.frames, device) if resident and device.type == "cuda" else None

    def windows(self, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int) -> Windows:
        """Return windows to be cut in batches.

        Args:
            rows: (n,) utterances.
            starts: (n,) first frame of each window.
            frames: Length T of the windows.
        """
        return Windows(self, rows, starts, frames)


class Windows:
    """Windows of utterances; they may be cut any number of times.

    Args:
        features: Features.
        rows: (n,) utterances.
        starts: (n,) first frame of each window.
        frames: Length T of the windows.
    """

    def __init__(
        self, features: DeviceFeatures, rows: NDArray[np.int64], starts: NDArray[np.int64], frames: int
    ) -> None:
        self._features, self._rows, self._starts, self._frames = features, rows, starts, frames
        if features.frames is not None:
            offsets = features.store.offsets
            self._begin = uploaded(torch.from_numpy(offsets[rows] + starts), features.device)
            self._end = uploaded(torch.from_numpy(offsets[rows + 1]), features.device)
            self._position = torch.arange(frames, device=features.device)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the windows of each batch, as ``ser.training.batches.gather`` gives them, on the device.

        Args:
            size: Number of windows in a batch; the last one may be smaller.
        """
        slices = [slice(begin, begin + size) for begin in range(0, len(self._rows), size)]
        if self._features.frames is not None:
            return (self._cut(self._features.frames, here) for here in slices)
        if self._features.device.type == "cuda":
            return self._ahead(slices)
        return (torch.from_numpy(self._gather(here)) for here in slices)

    def _gather(self, here: slice, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        return gather(self._features.store, self._rows[here], self._starts[here], self._frames, out)

    def _cut(self, frames: Tensor, here: slice) -> Tensor:
        """Return a batch of windows of frames that lie on the device."""
        place = self._begin[here, None] + self._position
        beyond = place >= self._end[here, None]
        windows = frames[place.clamp(max=len(frames) - 1)]
        return windows.masked_fill_(beyond[:, :, None], self._features.store.front_end.silence)

    def _ahead(self, slices: list[slice]) -> Iterator[Tensor]:
        """Yield batches of windows of the host, each copied while the network computes on the one before."""
        device, bins = self._features.device, self._features.store.frames.shape[1]
        copying, computing = _copy_stream(device), torch.cuda.current_stream(device)

        def copy(here: slice) -> tuple[Tensor, torch.cuda.Event]:
            # Torch gives page-locked memory out again as soon as the copy from it is done, so two buffers serve.
            pinned = torch.empty((len(self._rows[here]), self._frames, bins), pin_memory=True)
            self._gather(here, pinned.numpy())
            with torch.cuda.stream(copying):
                return pinned.to(device, non_blocking=True), copying.record_event()

        following = copy(slices[0])
        for number in range(len(slices)):
            windows, copied = following
            if number + 1 < len(slices):
                following = copy(slices[number + 1])
            computing.wait_event(copied)
            windows.record_stream(computing)  # so that its memory is not given out while the network reads it
            yield windows


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of a GPU on which windows are copied, one for the process.

    Torch's allocator gives memory that is freed on a stream to that stream alone: with a new one for each epoch, the
    memory of earlier epochs would lie idle.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def fits(store: FeatureStore, device: torch.device) -> bool:
    """Return whether a feature store takes at most a tenth of the memory that a GPU has free for this process."""
    return device.type == "cuda" and store.frames.nbytes <= STORE_SHARE * free_memory(device)


def _copied(frames: NDArray[np.float32], device: torch.device) -> Tensor:
    """Return a copy on a device, made piece by piece, since the host may have no room for a second copy."""
    result = torch.empty(frames.shape, device=device)
    step = max(1, UPLOAD_BYTES // max(1, frames[:1].nbytes))
    for begin in range(0, len(frames), step):
        result[begin : begin + step] = torch.from_numpy(np.array(frames[begin : begin + step]))
    return result
