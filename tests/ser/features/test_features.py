import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ser.features.front_ends import FRONT_ENDS, SILENCE_DB, FrontEnd, features, front_end, log_mel
from ser.utils.errors import UserError

SPECTRAL = [name for name, spec in FRONT_ENDS.items() if spec.kind == "log_mel"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney: 200/3 Hz per mel to 1 kHz (15 mel), then a factor of 6.4 per 27 mel."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def reference(samples: NDArray[np.float64], spec: FrontEnd) -> NDArray[np.float64]:
    """(T, 64) the definition, written out in float64."""
    size, hop = spec.n_fft, spec.hop_length
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.concatenate([samples[size // 2 : 0 : -1], samples, samples[-2 : -size // 2 - 2 : -1]])
    frames = np.stack([padded[i * hop : i * hop + size] for i in range(len(samples) // hop + 1)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    edges = hertz(np.linspace(mel(spec.f_min), mel(spec.f_max), 66))
    bins = np.arange(size // 2 + 1) * spec.sample_rate / size
    weights = np.zeros((len(bins), 64))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
        weights[:, band] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return 10 * np.log10(np.maximum(power @ weights, 1e-10))


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("sound", ["noise", "tone", "faint noise"])
def test_log_mel_equals_its_definition_in_double_precision(name: str, sound: str) -> None:
    spec = FRONT_ENDS[name]
    samples = np.random.default_rng(1).normal(0, 1e-4 if sound == "faint noise" else 0.1, spec.sample_rate)
    if sound == "tone":
        samples = samples * 0.1 + np.sin(2 * np.pi * 440 * np.arange(spec.sample_rate) / spec.sample_rate)
    single = torch.tensor(samples, dtype=torch.float32)
    got = log_mel(single[None], name)[0].numpy()
    np.testing.assert_allclose(got, reference(single.double().numpy(), spec), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SPECTRAL)
def test_a_tone_is_loudest_in_the_band_around_it(name: str) -> None:
    spec = FRONT_ENDS[name]
    time = torch.arange(spec.sample_rate) / spec.sample_rate
    centres = hertz(np.linspace(mel(spec.f_min), mel(spec.f_max), 66))[1:-1]
    for band in (20, 40, 60):
        tone = torch.sin(2 * torch.pi * float(centres[band]) * time)
        assert int(log_mel(tone[None], spec)[0].mean(dim=0).argmax()) == band


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(SPECTRAL), st.integers(0, 3000), st.integers(1, 3))
def test_every_length_gives_the_promised_number_of_finite_frames(name: str, samples: int, count: int) -> None:
    spec = FRONT_ENDS[name]
    torch.manual_seed(samples)
    got = log_mel(torch.randn(count, samples), name)
    padded = max(samples, spec.n_fft // 2 + 1)
    assert got.shape == (count, padded // spec.hop_length + 1, 64)
    assert bool(torch.isfinite(got).all())
    assert float(got.min()) >= SILENCE_DB


@pytest.mark.parametrize("name", SPECTRAL)
def test_silence_is_the_floor_and_doubling_adds_six_decibels(name: str) -> None:
    assert bool((log_mel(torch.zeros(1, 5000), name) == SILENCE_DB).all())
    torch.manual_seed(0)
    noise = torch.randn(1, 5000) * 0.1
    louder = log_mel(2 * noise, name) - log_mel(noise, name)
    torch.testing.assert_close(louder, torch.full_like(louder, 20 * np.log10(2)), rtol=0, atol=1e-4)


def test_a_batch_is_its_utterances_one_by_one() -> None:
    torch.manual_seed(0)
    batch = torch.randn(3, 4000)
    together = log_mel(batch, "panns_16k")
    for row in range(3):
        torch.testing.assert_close(together[row], log_mel(batch[row : row + 1], "panns_16k")[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SPECTRAL)
def test_gradients_flow_through_log_mels_also_after_inference(name: str) -> None:
    with torch.inference_mode():
        log_mel(torch.ones(1, 1000, dtype=torch.float64), name)
    torch.manual_seed(0)
    waveform = torch.randn(1, 700, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda scale: log_mel(scale * waveform, name), torch.ones(1, dtype=torch.float64, requires_grad=True)
    )


def test_short_waveforms_are_padded_with_zeros_at_the_end() -> None:
    torch.manual_seed(0)
    short = torch.randn(1, 100)
    padded = torch.cat([short, torch.zeros(1, 157)], dim=1)
    assert torch.equal(log_mel(short, "panns_16k"), log_mel(padded, "panns_16k"))


def test_the_frames_of_a_waveform_are_its_samples() -> None:
    waveform = torch.randn(2, 700)
    assert torch.equal(features(waveform, "waveform_16k"), waveform[:, :, None])
    spec = front_end("waveform_16k")
    assert (spec.sample_rate, spec.hop_length, spec.size, spec.silence) == (16000, 1, 1, 0.0)


@pytest.mark.parametrize("name", SPECTRAL)
def test_the_frames_of_a_spectrum_are_its_log_mels(name: str) -> None:
    waveform = torch.randn(2, 700)
    assert torch.equal(features(waveform, name), log_mel(waveform, name))
    assert torch.equal(features(waveform, front_end(name)), log_mel(waveform, name))
    assert front_end(name).silence == SILENCE_DB


def test_a_waveform_has_no_spectrum() -> None:
    with pytest.raises(ValueError, match="'waveform_16k' is not a spectrogram"):
        log_mel(torch.zeros(1, 1000), "waveform_16k")
    with pytest.raises(ValueError, match=r"\(1000,\)"):
        features(torch.zeros(1000), "waveform_16k")


def test_unknown_front_ends_and_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="Did you mean 'panns_16k'"):
        front_end("pann_16k")
    with pytest.raises(UserError, match="unknown front end"):
        log_mel(torch.zeros(1, 1000), "mfcc")
    with pytest.raises(ValueError, match=r"\(1000,\)"):
        log_mel(torch.zeros(1000), "panns_16k")


def test_torchaudio_without_its_native_part_is_whole_otherwise() -> None:
    from ser.torchaudio_import import HAS_NATIVE_PART, torchaudio

    assert torchaudio.transforms.FrequencyMasking(8)(torch.ones(1, 64, 10)).shape == (1, 64, 10)
    assert HAS_NATIVE_PART == torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE


def test_a_native_part_that_refuses_this_torch_is_done_without() -> None:
    code = (
        "import torch\n"
        "def refuse(path): raise RuntimeError('built for another CUDA version')\n"
        "torch.ops.load_library = refuse\n"
        "from ser.torchaudio_import import HAS_NATIVE_PART, torchaudio\n"
        "print(HAS_NATIVE_PART, torchaudio.functional.melscale_fbanks(257, 50., 8000., 64, 16000).shape)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("False torch.Size([257, 64])")
