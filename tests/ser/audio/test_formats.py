"""Every suffix that is read, in every number of channels, whole, cut and truncated."""

import io
import re
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ser.audio import CONTAINERS, SUFFIXES, AudioFault, probe, read_audio
from ser.audio.embedded import path_of
from tests.ser.audio.test_embedded import write as write_cells

BY_SOUNDFILE = {
    ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "ULAW"),
    ".aiff": ("AIFF", "PCM_24"),
    ".au": ("AU", "PCM_16"),
    ".bwf": ("WAVEX", "PCM_24"),
    ".caf": ("CAF", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".nist": ("NIST", "PCM_16"),
    ".oga": ("OGG", "VORBIS"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".rf64": ("RF64", "PCM_16"),
    ".snd": ("AU", "ULAW"),
    ".sph": ("NIST", "PCM_16"),
    ".voc": ("VOC", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".wav": ("WAV", "PCM_16"),
    ".wave": ("WAV", "FLOAT"),
}
BY_PYAV = {
    ".3gp": "aac",
    ".aac": "aac",
    ".amr": "libopencore_amrnb",
    ".m4a": "aac",
    ".mka": "flac",
    ".mp4": "aac",
    ".webm": "libopus",
    ".wma": "wmav2",
}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
MOST_CHANNELS = {".amr": 1, ".mp3": 2, ".voc": 2, ".wma": 2}
RATES = {".amr": 8000, ".opus": 48000, ".webm": 48000, ".wma": 44100}
# Encoders that do not say how many samples they put in front.
SHIFTED = {".aac", ".amr", ".mp3", ".wma"}


def tone(rate: int) -> NDArray[np.float32]:
    """Return two seconds of a tone, of half the amplitude in the first, so that a cut at the wrong place shows."""
    time = np.arange(2 * rate) / rate
    return (np.where(time < 1, 0.2, 0.4) * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def encode(
    path: Path, samples: NDArray[np.float32], rate: int, codec: str, *, video: bool = False, **options: str
) -> Path:
    """Write (samples, channels) by PyAV, with a stream of pictures if asked for."""
    layout = LAYOUTS[samples.shape[1]]
    with av.open(str(path), "w", format="asf" if path.suffix == ".wma" else None, options=options) as file:
        pictures = file.add_stream("mpeg4", rate=25) if video else None
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if codec == "wmav2":
            stream.bit_rate = 96000
        if pictures is not None:
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
            for number in range(25 * len(samples) // rate):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8))
                picture.pts, picture.time_base = number, Fraction(1, 25)
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode())
        if not stream.codec_context.is_open:
            stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        size = stream.codec_context.frame_size
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate, frame_size=size)
        for some in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(some))
        file.mux(stream.encode())
    return path


def make(folder: Path, suffix: str, channels: int) -> Path:
    path, rate = folder / f"tone{suffix}", RATES.get(suffix, 16000)
    samples = np.repeat(tone(rate)[:, None], channels, axis=1)
    if suffix in BY_PYAV:
        return encode(path, samples, rate, BY_PYAV[suffix])
    form, subtype = BY_SOUNDFILE[suffix]
    soundfile.write(path, samples, rate, format=form, subtype=subtype)
    return path


def amplitude(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(2 * np.mean(np.square(samples, dtype=np.float64))))


def test_every_suffix_has_a_fixture() -> None:
    assert set(BY_SOUNDFILE) | set(BY_PYAV) == SUFFIXES
    assert set(BY_PYAV) == CONTAINERS


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_a_file_of_any_format_is_read_whole_and_in_cuts(tmp_path: Path, suffix: str, channels: int) -> None:
    if channels > MOST_CHANNELS.get(suffix, 8):
        pytest.skip(f"{suffix} holds fewer channels")
    path, rate = make(tmp_path, suffix, channels), RATES.get(suffix, 16000)
    header = probe(path)
    assert (header.rate, header.channels) == (rate, channels)
    assert header.seconds == pytest.approx(2, abs=0.15)
    whole = read_audio(path)
    assert len(whole) == pytest.approx(32000, abs=2400 if suffix in SHIFTED else 8)
    for start, end, wanted in ((0.25, 0.75, 0.2), (1.25, 1.75, 0.4)):
        cut = read_audio(path, start, end)
        assert len(cut) == 8000
        assert amplitude(cut) == pytest.approx(wanted, rel=0.3 if suffix == ".amr" else 0.06)
        part = whole[round(16000 * start) : round(16000 * end)]
        if rate == 16000 and suffix != ".mp3":
            assert np.array_equal(cut, part)
        else:  # apart from the edges, where resampling sees the rest of the file or not
            assert np.abs(cut - part)[200:-200].max() < 1e-4
    assert len(read_audio(path, 1.0)) == pytest.approx(len(whole) - 16000, abs=1)
    if suffix not in SHIFTED:
        assert np.abs(whole[1000:15000] - tone(16000)[1000:15000]).max() < 0.02
    with pytest.raises(AudioFault, match="beyond the file's end"):
        read_audio(path, 1.0, 3.0)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_a_truncated_file_of_any_format_is_a_fault(tmp_path: Path, suffix: str, kept: float) -> None:
    path = make(tmp_path, suffix, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(AudioFault, match=r"truncated|cannot be decoded|no samples"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file_whose_index_comes_first_is_a_fault(tmp_path: Path, suffix: str, kept: float) -> None:
    rate = RATES.get(suffix, 16000)
    path = encode(tmp_path / f"t{suffix}", tone(rate)[:, None], rate, BY_PYAV[suffix], movflags="faststart")
    assert len(read_audio(path)) == 32000
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(AudioFault, match=r"truncated, \d+ of \d+ bytes"):
        read_audio(path, 0.1, 0.2)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.wav"])
def test_the_sound_of_a_video_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = encode(
        tmp_path / f"clip{'.mkv' if '.mkv' in name else '.mp4'}", tone(16000)[:, None], 16000, "aac", video=True
    )
    path = path.rename(tmp_path / name)
    assert amplitude(read_audio(path, 1.25, 1.75)) == pytest.approx(0.4, rel=0.02)


def test_a_video_without_sound_is_a_fault(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "mute.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        file.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        file.mux(stream.encode())
    for read in (read_audio, probe):
        with pytest.raises(AudioFault, match="holds no audio"):
            read(tmp_path / "mute.mp4")


@pytest.mark.parametrize("suffix", [".m4a", ".flac", ".webm"])
def test_a_cell_holds_any_format(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path, suffix, 2)
    cell = path_of(write_cells(tmp_path, [path.read_bytes()], "parquet"), "audio", 0)
    assert probe(cell) == probe(path)
    assert np.array_equal(read_audio(cell), read_audio(path))


def test_speech_in_the_centre_of_five_channels_keeps_its_level_in_aac(tmp_path: Path) -> None:
    samples = np.zeros((32000, 6), np.float32)
    samples[:, 2] = tone(16000)
    path = encode(tmp_path / "t.m4a", samples, 16000, "aac")
    assert amplitude(read_audio(path, 1.25, 1.75)) == pytest.approx(0.4, rel=0.05)


def test_without_pyav_the_fault_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, ".m4a", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioFault, match=r"pip install av, .*ffmpeg -i tone.m4a tone.flac: .*tone.m4a"):
        read_audio(path)
    soundfile.write(tmp_path / "t.wav", tone(16000), 16000)
    assert len(read_audio(tmp_path / "t.wav")) == 32000


def test_a_playlist_does_not_make_the_decoder_open_other_files(tmp_path: Path) -> None:
    other = make(tmp_path, ".aac", 1)
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioFault, match="cannot be decoded"):
        read_audio(path)


# WAV files whose writer could not go back to fill in the sizes


def wav_content(form: str = "WAV", subtype: str = "PCM_16", samples: NDArray[np.float32] | None = None) -> bytearray:
    file = io.BytesIO()
    soundfile.write(file, tone(16000) if samples is None else samples, 16000, format=form, subtype=subtype)
    return bytearray(file.getvalue())


def with_sizes(content: bytearray, whole: int, data: int) -> bytes:
    place = content.index(b"data") + 4
    content[4:8], content[place : place + 4] = struct.pack("<I", whole), struct.pack("<I", data)
    return bytes(content)


@pytest.mark.parametrize("whole", [0, 8, 36, 64044, 0xFFFFFFFF])
@pytest.mark.parametrize("data", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW")]
)
def test_a_wav_without_its_size_is_read_as_its_length_allows(
    tmp_path: Path, whole: int, data: int, form: str, subtype: str
) -> None:
    content = wav_content(form, subtype)
    (tmp_path / "right.wav").write_bytes(content)
    (tmp_path / "streamed.wav").write_bytes(with_sizes(content, whole, data))
    assert np.array_equal(read_audio(tmp_path / "streamed.wav"), read_audio(tmp_path / "right.wav"))
    assert np.array_equal(read_audio(tmp_path / "streamed.wav", 0.5, 1), read_audio(tmp_path / "right.wav", 0.5, 1))
    assert probe(tmp_path / "streamed.wav") == probe(tmp_path / "right.wav")


def test_a_wav_that_really_holds_no_samples_stays_a_fault(tmp_path: Path) -> None:
    content = wav_content(samples=np.zeros(0, np.float32))
    for after in (b"", b"LIST\x04\0\0\0INFO", b"note\x03\0\0\0abc\0LIST\x04\0\0\0INFO"):
        (tmp_path / "empty.wav").write_bytes(content + after)
        with pytest.raises(AudioFault, match="holds no samples"):
            read_audio(tmp_path / "empty.wav")


@pytest.mark.parametrize("declared", [64001, 0x7FFE0000])
def test_a_wav_shorter_than_its_size_stays_a_fault(tmp_path: Path, declared: int) -> None:
    (tmp_path / "short.wav").write_bytes(with_sizes(wav_content(), 64044, declared))
    with pytest.raises(AudioFault, match=f"truncated, 64000 of {declared} bytes"):
        read_audio(tmp_path / "short.wav")


UNKNOWN_SEGMENT = b"\x18\x53\x80\x67\x01" + b"\xff" * 7


@pytest.mark.parametrize(
    ("suffix", "open_ended"),
    [
        (".au", lambda content: content[:8] + b"\xff" * 4 + content[12:]),
        (".webm", lambda content: re.sub(rb"(?s)\x18\x53\x80\x67.{8}", UNKNOWN_SEGMENT, content, count=1)),
    ],
)
def test_files_of_a_stream_whose_header_leaves_the_size_open_are_read(
    tmp_path: Path, suffix: str, open_ended: Callable[[bytes], bytes]
) -> None:
    path = make(tmp_path, suffix, 1)
    expected, content = read_audio(path), path.read_bytes()
    path.write_bytes(open_ended(content))
    assert path.read_bytes() != content
    assert np.array_equal(read_audio(path)[:31000], expected[:31000])


def test_an_mp4_file_in_fragments_is_read_to_its_end(tmp_path: Path) -> None:
    path = encode(tmp_path / "t.mp4", tone(16000)[:, None], 16000, "aac", movflags="frag_keyframe+empty_moov")
    samples = read_audio(path)
    assert 32000 <= len(samples) <= 32000 + 2 * 1024  # the encoder's padding
    assert amplitude(samples[24000:31000]) == pytest.approx(0.4, rel=0.02)
