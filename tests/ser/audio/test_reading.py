import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ser.audio import AudioFault, read_audio, read_samples

RATE = 16000


@pytest.fixture
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path, noise: NDArray[np.float32]) -> Path:
    soundfile.write(tmp_path / "noise.wav", noise, RATE, subtype="FLOAT")
    return tmp_path / "noise.wav"


def test_a_file_is_read_as_it_was_written(wav: Path, noise: NDArray[np.float32]) -> None:
    samples = read_audio(wav)
    assert samples.dtype == np.float32
    assert np.array_equal(samples, noise)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_cut_is_that_part_of_the_file(tmp_path: Path, noise: NDArray[np.float32], suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, noise, RATE)
    whole = read_audio(path)
    assert np.array_equal(read_audio(path, 0.5, 1.25), whole[8000:20000])
    assert np.array_equal(read_audio(path, start=1.0), whole[16000:])
    assert np.array_equal(read_audio(path, end=1.0), whole[:16000])


def test_a_cut_may_end_a_little_after_the_file_and_no_more(wav: Path) -> None:
    assert len(read_audio(wav, 1.0, 2.04)) == RATE
    with pytest.raises(AudioFault, match=r"cut from 1 to 2.06 s lies beyond the file's end at 2.000 s"):
        read_audio(wav, 1.0, 2.06)
    with pytest.raises(AudioFault, match="beyond"):
        read_audio(wav, start=2.0)


def test_channels_are_averaged(tmp_path: Path, noise: NDArray[np.float32]) -> None:
    soundfile.write(tmp_path / "s.wav", np.stack([noise, 3 * noise], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "s.wav"), 2 * noise, rtol=1e-6)


def test_another_rate_keeps_the_tone(tmp_path: Path) -> None:
    time = np.arange(48000) / 48000
    soundfile.write(tmp_path / "tone.wav", np.sin(2 * np.pi * 1000 * time), 48000, subtype="FLOAT")
    samples = read_audio(tmp_path / "tone.wav", rate=RATE)
    assert len(samples) == RATE
    expected = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 0.01),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "DOUBLE", 1e-7),
        ("wav", "ULAW", 0.02),
        ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-6),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 0.05),
        ("ogg", "OPUS", 0.05),
        ("mp3", "MPEG_LAYER_III", 0.05),
    ],
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_every_format_integer_or_float_stereo_or_not_at_any_rate(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float, rate: int
) -> None:
    time = np.arange(2 * rate) / rate
    # Quieter at first, so that a cut at the wrong place shows.
    tone = 0.4 * np.where(time < 1, 0.5, 1.0) * np.sin(2 * np.pi * 440 * time)
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.stack([tone, tone], axis=1), rate, subtype=subtype)
    middle = read_audio(path, 0.5, 1.5)
    assert len(middle) == RATE
    at = 0.5 + np.arange(RATE) / RATE
    expected = 0.4 * np.where(at < 1, 0.5, 1.0) * np.sin(2 * np.pi * 440 * at)
    # Away from the edges of the cut and of the step; MP3 may shift by its encoder's delay, so levels are compared.
    for part in (slice(1000, 7000), slice(9000, 15000)):
        level, wanted = (float(np.sqrt(np.mean(np.square(wave[part])))) for wave in (middle, expected))
        assert level == pytest.approx(wanted, abs=tolerance)
    if suffix != "mp3":
        assert np.abs(middle - expected)[1000:7000].max() < max(4 * tolerance, 1e-3)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_ogg_is_found(tmp_path: Path, noise: NDArray[np.float32], subtype: str, kept: float) -> None:
    path = tmp_path / "n.ogg"
    soundfile.write(path, np.tile(noise, 5), RATE, subtype=subtype)
    assert len(read_audio(path)) == 10 * RATE
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(AudioFault, match=r"truncated|cannot be decoded|does not give"):
        read_audio(path)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_a_streamed_wav_without_a_size_is_read_to_its_end(wav: Path, noise: NDArray[np.float32], size: int) -> None:
    content = bytearray(wav.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    wav.write_bytes(content)
    assert np.array_equal(read_audio(wav), noise)


def test_a_truncated_wav_is_found_behind_other_chunks_of_odd_length(wav: Path) -> None:
    content = wav.read_bytes()
    place = content.index(b"data")
    odd = b"note" + struct.pack("<I", 3) + b"abc\0"
    whole = content[:place] + odd + content[place:]
    wav.write_bytes(whole)
    assert len(read_audio(wav)) == 2 * RATE
    wav.write_bytes(whole[:-4])
    with pytest.raises(AudioFault, match="truncated, 127996 of 128000 bytes"):
        read_audio(wav)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("extra", [b"", b"\0\0"])
@pytest.mark.parametrize("cut", [(None, None), (0.5, 1.25), (1.75, 2.03)])
def test_a_wav_of_16_bits_is_what_libsndfile_reads(
    tmp_path: Path, channels: int, extra: bytes, cut: tuple[float | None, float | None]
) -> None:
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, (2 * RATE, channels)).astype("<i2")
    form = struct.pack("<HHIIHH", 1, channels, RATE, 2 * channels * RATE, 2 * channels, 16) + extra
    path = tmp_path / "plain.wav"
    path.write_bytes(riff((b"odd ", b"abc"), (b"fmt ", form), (b"data", samples.tobytes()), (b"LIST", b"INFO")))
    read, _ = soundfile.read(path, dtype="float32", always_2d=True)
    start, end = cut
    part = read[0 if start is None else int(start * RATE) : None if end is None else int(end * RATE)]
    assert np.array_equal(read_audio(path, start, end), part.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("form", ["WAVEX", "RF64"])
def test_other_wavs_of_16_bits_are_read_alike(tmp_path: Path, noise: NDArray[np.float32], form: str) -> None:
    soundfile.write(tmp_path / "plain.wav", noise, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "other.wav", noise, RATE, subtype="PCM_16", format=form)
    assert np.array_equal(read_audio(tmp_path / "other.wav"), read_audio(tmp_path / "plain.wav"))


@pytest.mark.parametrize(("name", "value"), [("channels", 0), ("rate", 0), ("block", 3), ("bits", 12)])
def test_a_wav_whose_header_contradicts_itself_is_a_fault_or_read_by_libsndfile(
    tmp_path: Path, name: str, value: int
) -> None:
    fields = {"tag": 1, "channels": 1, "rate": RATE, "bytes": 2 * RATE, "block": 2, "bits": 16, name: value}
    samples = np.arange(RATE, dtype="<i2").tobytes()
    path = tmp_path / "bad.wav"
    path.write_bytes(riff((b"fmt ", struct.pack("<HHIIHH", *fields.values())), (b"data", samples)))
    try:
        expected = soundfile.read(path, dtype="float32")[0]
    except soundfile.LibsndfileError:
        expected = None
    if expected is None or name == "rate":
        with pytest.raises(AudioFault):
            read_audio(path)
    else:
        assert np.array_equal(read_audio(path), expected)


def test_a_wav_whose_last_frame_is_not_whole_is_read_to_the_one_before(tmp_path: Path) -> None:
    form = struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)
    samples = np.arange(2001, dtype="<i2")
    path = tmp_path / "odd.wav"
    path.write_bytes(riff((b"fmt ", form), (b"data", samples.tobytes())))
    assert np.array_equal(read_audio(path), soundfile.read(path, dtype="float32")[0].mean(axis=1))
    assert len(read_audio(path)) == 1000


@pytest.mark.parametrize(("samples", "fine"), [(512, True), (511, False), (0, False)])
def test_an_utterance_has_at_least_one_window(tmp_path: Path, samples: int, fine: bool) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, samples), RATE)
    if fine:
        assert len(read_audio(path)) == samples
    else:
        with pytest.raises(AudioFault, match=r"shorter than|no samples"):
            read_audio(path)


def test_a_folder_and_a_headerless_file_are_faults(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "data.raw").write_bytes(b"1234")
    for name in ("folder.wav", "data.raw"):
        with pytest.raises(AudioFault, match="cannot be read"):
            read_audio(tmp_path / name)


@pytest.mark.parametrize(
    ("subtype", "channels", "rate", "kind"),
    [("PCM_16", 1, RATE, np.int16), ("PCM_16", 2, RATE, np.float32), ("PCM_16", 1, 8000, np.float32),
     ("PCM_24", 1, RATE, np.float32), ("FLOAT", 1, RATE, np.float32)],
)  # fmt: skip
def test_samples_of_16_bits_stay_what_they_are(tmp_path, subtype, channels, rate, kind):
    noise = np.random.default_rng(0).uniform(-1, 1, (RATE, channels))
    soundfile.write(tmp_path / "s.wav", noise, rate, subtype=subtype)
    samples, expected = read_samples(tmp_path / "s.wav"), read_audio(tmp_path / "s.wav")
    assert (samples.dtype, expected.dtype) == (kind, np.float32)
    assert np.array_equal(samples / 2**15 if kind is np.int16 else samples, expected)
