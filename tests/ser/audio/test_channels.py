from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ser.audio import AudioFault, full_scale, read_audio, read_samples
from ser.audio.channels import mix

RATE = 16000


def speech(seed: int = 0) -> NDArray[np.int16]:
    return np.round(np.random.default_rng(seed).normal(0, 3000, RATE)).astype(np.int16)


def level(samples: NDArray[np.float32]) -> float:
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def written(path: Path, channels: NDArray[np.int16 | np.float64], subtype: str = "PCM_16") -> Path:
    soundfile.write(path, channels, RATE, subtype=subtype)
    return path


def test_mono_and_ordinary_stereo_are_to_the_bit_what_they_were(tmp_path: Path) -> None:
    mono = written(tmp_path / "mono.wav", speech())
    assert np.array_equal(read_samples(mono), speech())
    room = (0.8 * speech() + 0.3 * speech(1)).astype(np.int16)  # the same voice from another place
    for other in (room, speech(1), (0.15 * speech(2)).astype(np.int16)):
        stereo = written(tmp_path / "stereo.wav", np.stack([speech(), other], axis=1))
        expected = soundfile.read(stereo, dtype="float32", always_2d=True)[0].mean(axis=1, dtype=np.float32)
        assert np.array_equal(read_audio(stereo), expected)


@pytest.mark.parametrize("channels", [2, 3, 6, 8])
@pytest.mark.parametrize("rest", ["digital silence", "hum 30 dB below", "an offset"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_empty_channels_cost_nothing(tmp_path: Path, channels: int, rest: str, subtype: str) -> None:
    """5.1 with speech in the centre, and stereo with one side empty, read like the mono file of that speech."""
    many = np.zeros((RATE, channels), np.int16)
    if rest == "hum 30 dB below":
        many[:] = 100 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE)[:, None]
    elif rest == "an offset":
        many[:] = 2000
    many[:, channels // 2] = speech()
    path = written(tmp_path / "many.wav", many / 2**15 if subtype == "FLOAT" else many, subtype)
    read = read_samples(path)
    assert np.array_equal(full_scale(read), full_scale(speech()))
    assert (read.dtype == np.int16) == (subtype == "PCM_16")
    assert np.array_equal(read_samples(path, 0.25, 0.75), read[4000:12000])


def test_channels_that_cancel_each_other_are_not_silent(tmp_path: Path) -> None:
    against = written(tmp_path / "a.wav", np.stack([speech(), -speech()], axis=1))
    assert np.array_equal(read_samples(against), speech())
    nearly = np.stack([speech() // 2, -speech()], axis=1)  # the mean is 12 dB below the louder one
    assert np.array_equal(mix(nearly), -speech())


def test_speech_in_the_centre_of_quiet_surroundings_keeps_its_level() -> None:
    many = np.stack(
        [speech(seed) if seed == 2 else (speech(seed) * 0.15).astype(np.int16) for seed in range(6)], axis=1
    )
    assert level(full_scale(mix(many))) == pytest.approx(level(full_scale(speech(2))), abs=0.01)


@pytest.mark.parametrize("channels", [2, 8])
def test_the_level_of_a_mix_is_near_that_of_the_loudest_channel(channels: int) -> None:
    for trial in range(20):
        rng = np.random.default_rng(trial)
        gains = 10 ** rng.uniform(-3, 0, channels)
        many = (gains * rng.normal(0, 0.1, (4000, channels))).astype(np.float32)
        loudest = max(level(many[:, channel]) for channel in range(channels))
        assert loudest - 10.1 <= level(mix(many)) <= loudest + 0.1


def test_silence_and_damage_in_several_channels_stay_faults(tmp_path: Path) -> None:
    for values in ((0.0, 0.0), (0.5, 0.5), (0.5, -0.25)):
        path = written(tmp_path / "s.wav", np.tile(values, (RATE, 1)), "FLOAT")
        with pytest.raises(AudioFault, match="silent"):
            read_audio(path)
    for bad in (np.nan, np.inf):
        damaged = np.stack([speech() / 2**15, np.zeros(RATE)], axis=1)
        damaged[7, 1] = bad
        with pytest.raises(AudioFault, match="1 samples are NaN or infinite"):
            read_audio(written(tmp_path / "s.wav", damaged, "FLOAT"))
