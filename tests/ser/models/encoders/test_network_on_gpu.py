"""Speech encoders on a GPU: lengths are decided upon on the host, so that nothing but transformers' own code waits."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ser.models.encoders.network import Encoder
from ser.models.encoders.parameters import EncoderParameters
from ser.models.encoders.source import find_encoder
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda
from tests.helpers.tiny_encoders import CONFIGURATIONS, tiny_encoder

ON_CPU = ("Wav2Vec2Bert", "Whisper", "AST")
"""Kinds whose spectrogram transformers computes on the CPU, for which the waveforms are copied there."""
SAMPLES = 14000
LENGTHS = (SAMPLES, 9137, 5001, 9137)


def without_masks(folder: Path, kind: str) -> Encoder:
    """Return an encoder that draws nothing in training."""
    masks = {} if kind in ("Whisper", "AST") else {"mask_time_prob": 0.0}
    torch.manual_seed(0)
    files = find_encoder(f"hf:{tiny_encoder(folder / kind, kind)}")
    return Encoder(files, 4, 0.0, EncoderParameters(pooling="mean_std", **masks))


def passes(kinds: list[str]) -> dict[str, dict[str, Any]]:
    """Do a forward and a backward pass on whole and on padded input, on CPU and GPU."""
    cases = {"whole": (SAMPLES,) * len(LENGTHS), "padded": LENGTHS, "padded, lengths on the GPU": LENGTHS}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        models = {kind: without_masks(Path(folder), kind) for kind in kinds}
    waveforms = torch.randn(len(LENGTHS), SAMPLES, 1) * 0.1
    with fake_cuda() as gpu:
        for kind, model in models.items():
            for case, lengths in cases.items():
                results, waits = [], []
                for device in ("cpu", "cuda"):
                    one, x = copy.deepcopy(model).to(device), waveforms.to(device)
                    given = torch.tensor(lengths).to(device if "GPU" in case else "cpu")
                    gpu.clear()
                    logits = one(x, given)
                    logits.logsumexp(dim=1).sum().backward()
                    waits = [str(wait) for wait in gpu.waits]
                    gradients = [parameter.grad for parameter in one.parameters() if parameter.grad is not None]
                    results.append(torch.cat([tensor.detach().flatten().cpu() for tensor in (logits, *gradients)]))
                found[kind][case] = {"waits": waits, "agree": torch.allclose(*results, rtol=1e-3, atol=1e-4)}
    return found


@pytest.mark.slow
def test_only_transformers_waits_and_the_numbers_are_those_of_a_cpu() -> None:
    for kind, found in run_on_fake_cuda(passes, list(CONFIGURATIONS)).items():
        assert all(result["agree"] for result in found.values()), kind
        whole, padded, on_gpu = (
            [wait for wait in result["waits"] if "= self.encoder(" not in wait] for result in found.values()
        )
        assert whole == padded, kind
        assert ["on_cpu = waveform" in wait for wait in whole] == [True] * (kind in ON_CPU), kind
        assert len(on_gpu) == len(padded) + 1, kind  # for the lengths
        if kind not in ("SEWD", *ON_CPU):  # SEW-D makes a constant on the CPU
            assert found["whole"]["waits"] == [], kind
