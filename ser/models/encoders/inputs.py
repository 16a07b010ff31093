"""What a speech encoder reads: a normalised waveform, or the spectrogram of its own feature extractor.

Each class here prepares waveforms of 16 kHz for one kind of encoder, and knows which of its frames are valid. The rows
of a batch are prepared each by itself, as transformers prepares one utterance without padding.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from ser.models.classifier import behind, uploaded
from ser.models.encoders.folder import PREPROCESSOR, SAMPLE_RATE
from ser.models.encoders.source import EncoderFiles
from ser.utils.errors import UserError

# Window and hop of Kaldi's filter banks, 25 and 10 ms at 16 kHz.
WINDOW, HOP = 400, 160

Samples = TypeVar("Samples", int, Tensor)


class Inputs:
    """Input of encoders of one kind.

    Attributes:
        shortest: Number of samples of the shortest waveform.
        longest: Number of samples of the longest waveform; None without limit.
        argument: Name of the encoder's argument for the input.
    """

    shortest: int
    longest: int | None = None
    argument: str

    def prepare(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Return the encoder's input.

        Args:
            waveform: (N, T), on any device.
            lengths: (N,) valid samples, on the CPU.

        Returns:
            The input on the device of the waveforms.
        """
        raise NotImplementedError

    def valid(self, lengths: Tensor, frames: int) -> Tensor:
        """Return which frames an encoder computes from an utterance alone.

        Args:
            lengths: (N,) valid samples.
            frames: F, frames of the encoder's output.

        Returns:
            (N, F), True where a frame is valid.
        """
        return ~behind(self.frames(lengths), frames)

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the number of valid frames, (N,), of waveforms with (N,) valid samples."""
        raise NotImplementedError

    def positions(self, prepared: Tensor) -> int:
        """Return the number of frames that the transformer gets of a prepared input."""
        return prepared.shape[1]

    def mask(self, lengths: Tensor, prepared: Tensor) -> Tensor:
        """Return the attention mask, (N, time of ``prepared``), False after the end of an utterance."""
        return ~behind(lengths, prepared.shape[1])


class Waveform(Inputs):
    """The waveform itself, each utterance with zero mean and unit variance if the encoder was trained so.

    Args:
        normalise: Whether ``preprocessor_config.json`` says ``do_normalize``.
        config: Configuration of the encoder.
    """

    argument = "input_values"

    def __init__(self, normalise: bool, config: Any) -> None:
        self.normalise = normalise
        self.convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        # SEW and SEW-D join this many frames into one before the transformer.
        self.shortest = getattr(config, "squeeze_factor", 1)
        for kernel, stride in reversed(self.convolutions):
            self.shortest = (self.shortest - 1) * stride + kernel

    def prepare(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Return the normalised waveforms, (N, T), with zeros after the end of each."""
        lengths = uploaded(lengths, waveform.device)
        beyond = behind(lengths, waveform.shape[1])
        waveform = waveform.masked_fill(beyond, 0.0)
        if not self.normalise:
            return waveform
        count = lengths[:, None]
        centred = (waveform - waveform.sum(dim=1, keepdim=True) / count).masked_fill(beyond, 0.0)
        return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the frames that the convolutions compute."""
        return self._convolved(lengths)

    def positions(self, prepared: Tensor) -> int:
        """Return the number of frames after the convolutions."""
        return self._convolved(prepared.shape[1])

    def _convolved(self, samples: Samples) -> Samples:
        for kernel, stride in self.convolutions:
            samples = (samples - kernel) // stride + 1
        return samples


class Spectrogram(Inputs):
    """Input that transformers' own feature extractor computes.

    Args:
        extractor: The feature extractor.
    """

    argument = "input_features"

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def prepare(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Return the spectrograms of the valid samples of each row.

        The extractor computes on the CPU, so that waveforms on a GPU are waited for.
        """
        on_cpu = waveform.float().cpu().numpy()
        rows = [row[:length] for row, length in zip(on_cpu, lengths.tolist(), strict=True)]
        found: Tensor = self.extractor(rows, sampling_rate=SAMPLE_RATE, return_tensors="pt")[self.argument]
        return uploaded(found, waveform.device)


class FilterBank(Spectrogram):
    """Kaldi's filter banks, two frames joined into one (wav2vec2-BERT)."""

    def __init__(self, extractor: Any) -> None:
        super().__init__(extractor)
        self.stride: int = extractor.stride
        # One joined frame, and never fewer than the two whose standard deviation normalises a band.
        self.shortest = WINDOW + (max(2, self.stride) - 1) * HOP

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the joined frames, without one that is filled up with padding."""
        return _kaldi_frames(lengths) // self.stride

    def mask(self, lengths: Tensor, prepared: Tensor) -> Tensor:
        """Return the mask of the joined frames."""
        return self.valid(lengths, prepared.shape[1])


class WhisperMel(Spectrogram):
    """Whisper's mel spectrogram of 30 s; a shorter waveform is followed by silence, as in pre-training."""

    def __init__(self, extractor: Any) -> None:
        super().__init__(extractor)
        self.shortest, self.longest = 1, extractor.n_samples
        self.hop: int = 2 * extractor.hop_length

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the frames that begin within the waveform, one for two of the spectrogram."""
        return (lengths + self.hop - 1) // self.hop


class AstMel(Spectrogram):
    """AST's mel spectrogram of one length (10.24 s as published), cut into patches; padding follows a shorter one."""

    argument = "input_values"

    def __init__(self, extractor: Any, config: Any) -> None:
        super().__init__(extractor)
        self.patch: int = config.patch_size
        self.stride: int = config.time_stride
        self.bands: int = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        self.shortest = WINDOW + (self.patch - 1) * HOP
        self.longest = WINDOW + (extractor.max_length - 1) * HOP + HOP - 1

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the patches of one band that lie wholly within the waveform."""
        return (_kaldi_frames(lengths) - self.patch) // self.stride + 1

    def valid(self, lengths: Tensor, frames: int) -> Tensor:
        """Return the valid patches; the two class tokens before them are left out."""
        tokens = torch.zeros(len(lengths), 2, dtype=torch.bool, device=lengths.device)
        columns = (frames - 2) // self.bands
        return torch.cat([tokens, (~behind(self.frames(lengths), columns)).repeat(1, self.bands)], dim=1)


def make_inputs(files: EncoderFiles, config: Any) -> Inputs:
    """Return what an encoder reads.

    Args:
        files: Files of the encoder, among them ``preprocessor_config.json``.
        config: Its configuration.

    Raises:
        UserError: transformers cannot use that file, or the encoder reads neither a waveform nor a known spectrogram.
    """
    extractor = _extractor(files)
    kind = config.model_type
    if kind == "whisper":
        return WhisperMel(extractor)
    if kind == "audio-spectrogram-transformer":
        return AstMel(extractor, config)
    if kind == "wav2vec2-bert":
        return FilterBank(extractor)
    if hasattr(config, "conv_kernel") and hasattr(extractor, "do_normalize"):
        return Waveform(extractor.do_normalize, config)
    raise UserError(
        f"model.name is {files.name}, of type {kind}, which reads neither a waveform nor a known spectrogram. Choose a "
        "wav2vec2, HuBERT, WavLM, data2vec-audio, wav2vec2-BERT, UniSpeech-SAT, Whisper or AST encoder."
    )


def _kaldi_frames(lengths: Tensor) -> Tensor:
    return (lengths - WINDOW) // HOP + 1


def _extractor(files: EncoderFiles) -> Any:
    from transformers import AutoFeatureExtractor

    read: Any = AutoFeatureExtractor.from_pretrained
    try:
        return read(files.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{files.where}{PREPROCESSOR} describes no feature extractor of transformers. Copy it from where the "
            "encoder was published."
        ) from error


def check_length(encoder: str, samples: int, longest: int | None) -> None:
    """Raise if a crop is longer than the input of an encoder.

    Args:
        encoder: Name or folder of the encoder.
        samples: Samples of the crop.
        longest: Samples that the encoder takes, or None for any number.
    """
    if longest is not None and samples > longest:
        raise UserError(
            f"{encoder} takes at most {longest / SAMPLE_RATE:g} s, got {samples / SAMPLE_RATE:g} s. Set "
            f"training.crop_seconds to at most {int(longest / SAMPLE_RATE * 10) / 10:g}."
        )
