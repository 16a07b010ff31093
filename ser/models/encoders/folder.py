"""What the folder of a speech encoder holds: checks of its files without transformers, and their digest."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ser.utils.errors import UserError, listed, shown
from ser.utils.hashing import digest, file_digest

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
SETTINGS = (CONFIG, PREPROCESSOR, PROCESSOR)
"""Files that say how an encoder is built and how its input is prepared."""

SAMPLE_RATE = 16000
"""Sampling rate in Hz that a speech encoder must have been trained with."""

EXTRACTORS = {
    "audio-spectrogram-transformer": "ASTFeatureExtractor",
    "data2vec-audio": "Wav2Vec2FeatureExtractor",
    "hubert": "Wav2Vec2FeatureExtractor",
    "sew": "Wav2Vec2FeatureExtractor",
    "sew-d": "Wav2Vec2FeatureExtractor",
    "unispeech": "Wav2Vec2FeatureExtractor",
    "unispeech-sat": "Wav2Vec2FeatureExtractor",
    "wav2vec2": "Wav2Vec2FeatureExtractor",
    "wav2vec2-bert": "SeamlessM4TFeatureExtractor",
    "wav2vec2-conformer": "Wav2Vec2FeatureExtractor",
    "wavlm": "Wav2Vec2FeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
}
"""Model types that are known to be speech encoders, with the class in transformers that prepares their input."""

_TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"}
_OTHER_WEIGHTS = re.compile(r"\.(h5|msgpack|onnx|gguf|ckpt|nemo|pt|pth)$")


def weight_names(names: Collection[str]) -> list[str]:
    """Return the files of weights that are read, of all files of a model; safetensors rather than others.

    Example:
        >>> weight_names(["pytorch_model.bin", "model.safetensors", "tf_model.h5"])
        ['model.safetensors']
        >>> weight_names(["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"])
        ['pytorch_model.bin.index.json', 'pytorch_model-00001-of-00001.bin']
    """
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole = f"{stem}.{suffix}"
        if whole in names:
            return [whole]
        if (index := f"{whole}.index.json") in names:
            return [index, *sorted(name for name in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", name))]
    return []


def content_digest(folder: Path) -> str:
    """Compute a digest of settings and weights in a folder."""
    names = _names(folder)
    read = (*(name for name in SETTINGS if name in names), *weight_names(names))
    return digest([(name, file_digest(folder / name)) for name in read])


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """Read ``config.json``.

    Args:
        folder: Folder of the encoder.
        name: ``model.name``, for messages.

    Raises:
        UserError: It is missing or damaged, or the folder holds something else than a model.
    """
    names = _names(folder)
    where = f"model.name is {name}: "
    if not names:
        raise UserError(f"{where}the folder is empty. {_EXPECTED}")
    if "adapter_config.json" in names:
        raise UserError(
            f"{where}the folder holds an adapter of the peft library, not an encoder. Merge it into its base model "
            "(merge_and_unload), save that with save_pretrained, and name the new folder."
        )
    if CONFIG not in names:
        below = [path.parent for pattern in ("*", "*/*") for path in sorted(folder.glob(f"{pattern}/{CONFIG}"))]
        if below:
            raise UserError(f"{where}the folder has no {CONFIG}; a folder below has one: name hf:{below[0]}")
        kind = "holds only a tokenizer" if names & _TOKENIZER and not weight_names(names) else f"has no {CONFIG}"
        raise UserError(f"{where}the folder {kind}. {_EXPECTED}")
    settings = _read_json(folder / CONFIG, where)
    if not isinstance(settings.get("model_type"), str):
        raise UserError(f"{where}{CONFIG} has no model_type, so that the architecture is unknown. {_EXPECTED}")
    if "quantization_config" in settings:
        raise UserError(f"{where}its weights are quantized. Choose the model that it was made from.")
    return settings


_EXPECTED = f"Name the folder of a speech encoder as transformers' save_pretrained writes it, with {CONFIG}."


def read_preprocessor(folder: Path, name: str, settings: dict[str, Any], *, on_hub: bool = False) -> dict[str, Any]:
    """Read how the samples are prepared: ``preprocessor_config.json``, or the part of ``processor_config.json``.

    Args:
        folder: Folder of the encoder.
        name: ``model.name``, for messages.
        settings: Content of ``config.json``.
        on_hub: Whether the folder is in the hub's cache, where nobody writes by hand.

    Raises:
        UserError: Neither file is there, one is damaged, or the sampling rate is not 16 kHz.
    """
    names = _names(folder)
    where = f"model.name is {name}: "
    found: Any = None
    if PREPROCESSOR in names:
        found = _read_json(folder / PREPROCESSOR, where)
    elif PROCESSOR in names:
        found = _read_json(folder / PROCESSOR, where).get("feature_extractor")
    if not isinstance(found, dict):
        advice = _how_to_write("FOLDER" if on_hub else str(folder), settings)
        if on_hub:
            advice = f"Run `hf download {name.removeprefix('hf:')} --local-dir FOLDER` and name hf:FOLDER. {advice}"
        raise UserError(f"{where}{PREPROCESSOR} is missing, which says how the samples are normalised. {advice}")
    rate = found.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UserError(
            f"{where}it was trained on audio of {shown(rate)} Hz ({PREPROCESSOR}, sampling_rate). Choose an "
            f"encoder of {SAMPLE_RATE} Hz."
        )
    return found


def _how_to_write(folder: str, settings: dict[str, Any]) -> str:
    """Return the advice how ``preprocessor_config.json`` comes into a folder."""
    copy = "Copy it from the model that this one was fine-tuned from"
    kind = EXTRACTORS.get(settings["model_type"])
    if kind is None:
        return f"{copy}."
    arguments = {
        "Wav2Vec2FeatureExtractor": "do_normalize=True",
        "WhisperFeatureExtractor": f"feature_size={settings.get('num_mel_bins', 80)}",
    }.get(kind, "")
    known = ", with do_normalize=False if it was trained on samples as they are" if "normalize" in arguments else ""
    return (
        f"{copy}, or write it{known}: "
        f'python -c "from transformers import {kind} as F; F({arguments}).save_pretrained({folder!r})"'
    )


def check_weights(folder: Path, name: str) -> None:
    """Raise unless all files of the weights are there.

    Args:
        folder: Folder of the encoder.
        name: ``model.name``, for messages.

    Raises:
        UserError: There are no weights that can be read, or a part of them is missing.
    """
    names = _names(folder)
    where = f"model.name is {name}: "
    found = weight_names(names)
    if not found:
        others = sorted(
            each for each in names if _OTHER_WEIGHTS.search(each) or each.endswith((".safetensors", ".bin"))
        )
        there = f" There is {listed(others, most=3)}." if others else ""
        raise UserError(f"{where}no weights: model.safetensors or pytorch_model.bin is needed.{there} {_SAVE}")
    if missing := missing_shards(folder, found, name):
        raise UserError(
            f"{where}{listed(missing, most=3)} of the weights, named in {found[0]}, "
            f"{'is' if len(missing) == 1 else 'are'} missing. Copy all files of the model."
        )


_SAVE = "Save the model with transformers' save_pretrained, or choose one that has them."


def missing_shards(folder: Path, found: list[str], name: str) -> list[str]:
    """Return the files of weights that an index names and that are not in the folder; empty without an index.

    Args:
        folder: Folder of the encoder.
        found: Result of `weight_names`.
        name: ``model.name``, for messages.

    Raises:
        UserError: The index is damaged.
    """
    if not found or not found[0].endswith(".index.json"):
        return []
    where = f"model.name is {name}: "
    parts = _read_json(folder / found[0], where).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise UserError(f"{where}{str(folder / found[0])!r} is damaged: it names no weights. Get the file again.")
    return sorted(set(map(str, parts.values())) - _names(folder))


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"{str(folder)!r} cannot be read: {error.strerror or error}.") from error


def _read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{where}{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise UserError(f"{where}{str(path)!r} is damaged: {error}. Get the file again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}{str(path)!r} is damaged: it holds no JSON object. Get the file again.")
    return content
