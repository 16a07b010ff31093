"""Random weights in the published format, with the front end computed from its formulas with NumPy."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser.models import Classifier

FRONT_ENDS = {
    "panns_16k": (16000, 512, 50, 8000),
    "panns_32k": (32000, 1024, 50, 14000),
    "8k": (8000, 256, 50, 4000),  # PANNs' Cnn14_8k, which this project does not have
    "128 bands lower": (16000, 512, 20, 8000),
}


def hertz(mel: np.ndarray) -> np.ndarray:
    """Return frequencies on Slaney's scale: 200/3 Hz per mel up to 1 kHz (15 mel), then a factor of 6.4 per 27 mel."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel(frequency: float) -> float:
    return frequency * 3 / 200 if frequency < 1000 else 15 + 27 * np.log(frequency / 1000) / np.log(6.4)


def front_end(name: str) -> dict[str, Tensor]:
    """Return a windowed DFT as convolution kernels, and 64 triangular bands of unit area."""
    rate, size, low, high = FRONT_ENDS[name]
    bins, time = np.arange(size // 2 + 1), np.arange(size)
    kernels = np.exp(-2j * np.pi / size * np.outer(bins, time)) * (0.5 - 0.5 * np.cos(2 * np.pi * time / size))
    edges = hertz(np.linspace(mel(low), mel(high), 66))
    frequencies = bins * rate / size
    bands = np.zeros((len(bins), 64))
    for band, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
        bands[:, band] = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return {
        "spectrogram_extractor.stft.conv_real.weight": torch.tensor(kernels.real[:, None], dtype=torch.float32),
        "spectrogram_extractor.stft.conv_imag.weight": torch.tensor(kernels.imag[:, None], dtype=torch.float32),
        "logmel_extractor.melW": torch.tensor(bands, dtype=torch.float32),
    }


def panns_state(model: Classifier, front_end_name: str = "panns_32k") -> dict[str, Tensor]:
    """Return a state dict in the format of PANNs that fits ``model``; every value differs from the model's."""
    generator = torch.Generator().manual_seed(5)
    state = front_end(front_end_name)
    for name, value in model.state_dict().items():
        if name.startswith("head."):
            continue
        state[name] = torch.rand(value.shape, generator=generator) + 0.5 if value.ndim else torch.tensor(600_000)
    size = model.embedding_size
    state["fc_audioset.weight"] = torch.randn((527, size), generator=generator)
    state["fc_audioset.bias"] = torch.randn(527, generator=generator)
    return state


def panns_checkpoint(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the content of a published file. As for the 16 kHz network, it has NumPy arrays of a data sampler."""
    sampler = {
        "indexes_per_class": [np.arange(5), np.array([3, 1])],
        "queue": [1, 0],
        "pointers_of_classes": [np.int64(3), 0],
    }
    return {"iteration": 600_000, "model": state, "sampler": sampler}
