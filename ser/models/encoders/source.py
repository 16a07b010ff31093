"""Where a speech encoder comes from: a folder, the hub's cache or the hub; its configuration and its weights."""

from __future__ import annotations

import importlib.util
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ser.models.encoders import hub
from ser.models.encoders.folder import (
    EXTRACTORS,
    SETTINGS,
    check_weights,
    content_digest,
    read_preprocessor,
    read_settings,
    weight_names,
)
from ser.utils.errors import UserError, cut, listed, shown, without_password

PREFIX = "hf:"
"""Beginning of the ``model.name`` of a speech encoder."""

_EXPECTED = f"Name a folder that exists, {PREFIX}FOLDER, or a model of the hub, such as {PREFIX}facebook/wav2vec2-base."
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Tensors of an encoder's layers; heads, adapters and decoders that are not used are left out.
_OF_A_LAYER = re.compile(r"((?!adapter|decoder)\w+\.)?(encoder\.)?layers?\.\d+\.")
_SPEECH_INPUTS = ("input_values", "input_features")
_SHOWN = 3  # tensors named in a message
_LONGEST_NAME = 300  # characters


@dataclass(frozen=True)
class EncoderFiles:
    """Files of a speech encoder on this machine.

    Args:
        name: Name on the hub, or the folder as it was given.
        folder: Folder that holds ``config.json``, ``preprocessor_config.json`` and the weights.
        revision: Commit of the hub, or digest of the files of a folder.
    """

    name: str
    folder: Path
    revision: str

    @property
    def where(self) -> str:
        """Return the beginning of a message about them."""
        return _where(f"{PREFIX}{self.name}")

    @cached_property
    def settings(self) -> dict[str, str]:
        """Return the texts of the files that say how it is built and how its input is prepared, by name."""
        paths = [self.folder / name for name in SETTINGS]
        return {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def _where(name: str) -> str:
    return f"model.name is {cut(name, _LONGEST_NAME)}: "


_carried: ContextVar[EncoderFiles | None] = ContextVar("carried", default=None)


@contextmanager
def carried(files: EncoderFiles) -> Iterator[None]:
    """Find these files in the block under their name and revision, wherever they lie.

    A checkpoint carries the settings of a fine-tuned encoder, a registered model all files of a frozen one, so that
    both open where neither the folder nor the hub is available.

    Args:
        files: Files that are found; the weights are missing where nothing loads them.
    """
    token = _carried.set(files)
    try:
        yield
    finally:
        _carried.reset(token)


def is_encoder(name: str) -> bool:
    """Return whether a ``model.name`` is that of a speech encoder."""
    return name.startswith(PREFIX)


def find_encoder(name: str, revision: str = "", *, weights: bool = True) -> EncoderFiles:
    """Find the files of a speech encoder; they are downloaded if they are neither a folder nor in the hub's cache.

    Args:
        name: ``hf:NAME`` or ``hf:FOLDER``; a folder that exists goes first.
        revision: The version that is needed: a commit, tag or branch of the hub, or the digest of a folder. Empty for
            the present one: what the folder holds, or ``main``, as the cache holds it if it does.
        weights: Whether the weights are needed too.

    Raises:
        UserError: There are no such files, they are another version, or they are no speech encoder's.
    """
    given = name.removeprefix(PREFIX)
    where = _where(name)
    _require_transformers(where)
    files = _carried.get()
    if files is not None and (files.name, files.revision) == (given, revision):
        return files
    if not given.strip():
        raise UserError(f"{where}nothing follows {PREFIX}. {_EXPECTED}")
    try:
        folder = Path(given).expanduser()
        if folder.is_dir():
            return _in_folder(given, folder, revision, weights=weights)
        is_file = folder.exists()
    except (OSError, RuntimeError) as error:  # no permission, a name of absurd length; an unknown user after ~
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UserError(f"{where}{reason}. Check the folder's name.") from error
    if is_file:
        raise UserError(f"{where}that is a file. Name the folder that it is in: {PREFIX}{folder.parent}")
    if not _HUB_NAME.fullmatch(given) or ".." in given or "--" in given:
        advice = f"The encoder's files of version {revision} are needed there; restore them." if revision else _EXPECTED
        raise UserError(f"{where}there is no such folder. {advice}")
    return _on_hub(given, revision, weights)


def _require_transformers(where: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise UserError(f"{where}speech encoders need the transformers library: pip install '.[encoders]'")


def _in_folder(given: str, folder: Path, revision: str, *, weights: bool) -> EncoderFiles:
    name = f"{PREFIX}{given}"
    _check(folder, name, on_hub=False)
    if weights:
        check_weights(folder, name)
    found = content_digest(folder)
    if revision not in ("", found):
        raise UserError(
            f"model.name is {name}: the folder does not hold the version that model.revision records, {revision}, but "
            f"{found}. Restore its files. A new training without model.revision begins with the present ones."
        )
    return EncoderFiles(given, folder, found)


@lru_cache(maxsize=64)  # a study asks for each configuration; a commit does not change
def _on_hub(given: str, revision: str, weights: bool) -> EncoderFiles:
    name = f"{PREFIX}{given}"
    folder, commit = hub.obtain(given, revision, weights=False)
    _check(folder, name, on_hub=True)
    if weights:
        folder, commit = hub.obtain(given, commit, weights=True)
        check_weights(folder, name)
    return EncoderFiles(given, folder, commit)


def _check(folder: Path, name: str, *, on_hub: bool) -> None:
    """Raise unless a folder holds the settings of a speech encoder."""
    settings = read_settings(folder, name)
    _require_speech(settings, name)
    read_preprocessor(folder, name, settings, on_hub=on_hub)


def _require_speech(settings: dict[str, Any], name: str) -> None:
    """Raise unless transformers has a class for the architecture, and it takes audio."""
    kind = settings["model_type"]
    if kind in EXTRACTORS:
        return
    import transformers

    known = ", ".join(sorted(EXTRACTORS))
    where = f"model.name is {name}: "
    if kind not in transformers.CONFIG_MAPPING:
        if "auto_map" in settings:
            raise UserError(
                f"{where}the model is defined by code in its own files (auto_map in config.json), which is not run. "
                f"Choose a model of transformers' own architectures, such as {known}."
            )
        raise UserError(
            f"{where}transformers {transformers.__version__} has no architecture {shown(kind)}. Choose one of {known}; "
            "or a newer transformers may have it."
        )
    model = transformers.MODEL_MAPPING.get(transformers.CONFIG_MAPPING[kind], None)
    if getattr(model, "main_input_name", None) not in _SPEECH_INPUTS:
        raise UserError(f"{where}its architecture, {kind}, is not a speech encoder's. Choose one of {known}.")


def read_config(files: EncoderFiles) -> Any:
    """Return the configuration of an encoder as transformers reads it.

    Raises:
        UserError: A value in it is not valid.
    """
    _require_transformers(files.where)
    from transformers import AutoConfig

    with quiet():
        try:
            return AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers has one class per kind of error in the values
            raise UserError(f"{files.where}config.json is not valid: {_in_one_line(error)}") from error


@lru_cache(maxsize=64)  # a study asks for each configuration
def size(files: EncoderFiles) -> tuple[int, int]:
    """Return the number L of transformer layers and the channels E of a hidden state.

    They are read without transformers where it is known how the file calls them: its import takes a second, which a
    trial of a frozen encoder need not wait for.

    Raises:
        UserError: The configuration has no such numbers.
    """
    settings = read_settings(files.folder, f"{PREFIX}{files.name}")
    kind = settings["model_type"]
    keys = ("encoder_layers", "d_model") if kind == "whisper" else ("num_hidden_layers", "hidden_size")
    found = [settings.get(key) for key in keys]
    if kind not in EXTRACTORS or not all(type(value) is int for value in found):  # bool is not meant
        config = read_config(files)
        found = [getattr(config, key, None) for key in ("num_hidden_layers", "hidden_size")]
    layers, hidden_size = found
    if not (isinstance(layers, int) and isinstance(hidden_size, int) and layers > 0 and hidden_size > 0):
        raise UserError(
            f"{files.where}config.json has {layers} layers (num_hidden_layers) of {hidden_size} channels "
            "(hidden_size), both of which must be positive. Choose another encoder."
        )
    return layers, hidden_size


def build(files: EncoderFiles, **changes: Any) -> nn.Module:
    """Build an encoder with random weights in float32, on torch's default device.

    Args:
        files: Files of the encoder.
        changes: Values of its configuration that differ from the file's.

    Returns:
        The encoder of transformers; of an encoder-decoder the encoder alone.

    Raises:
        UserError: The configuration is not valid.
    """
    config = _changed_config(files, changes)
    with quiet():
        return _model_class(files, config)(config)  # type: ignore[no-any-return]


def load(files: EncoderFiles, **changes: Any) -> nn.Module:
    """Build an encoder with its published weights, in float32.

    Code in the files is not run.

    Args:
        files: Files of the encoder; the weights are downloaded if they are missing.
        changes: Values of its configuration that differ from the file's.

    Returns:
        The encoder of transformers, as from `build`.

    Raises:
        UserError: The weights are missing, damaged, not finite, or do not fit the configuration.
    """
    files = find_encoder(f"{PREFIX}{files.name}", files.revision)
    config = _changed_config(files, changes)
    # An encoder that is built without its decoder has no prefix in its names; the file has one.
    without_prefix = {"key_mapping": {r"^(model\.)?encoder\.": ""}} if config.is_encoder_decoder else {}
    kind = _model_class(files, config)
    with quiet():
        try:
            model, report = kind.from_pretrained(
                files.folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                weights_only=True,
                ignore_mismatched_sizes=True,  # they are in the report
                output_loading_info=True,
                **without_prefix,
            )
        except Exception as error:  # transformers, safetensors, pickle and torch have a dozen for damaged files
            raise UserError(f"{files.where}{_why_unreadable(files, error)}") from error
    _check_loaded(files, model, report)
    return model  # type: ignore[no-any-return]


def _changed_config(files: EncoderFiles, changes: dict[str, Any]) -> Any:
    config = read_config(files)
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def _model_class(files: EncoderFiles, config: Any) -> Any:
    """Return the class of the encoder in transformers."""
    from transformers import MODEL_MAPPING

    kind = MODEL_MAPPING[type(config)]
    with torch.device("meta"):
        try:
            whole: Any = kind(config)
        except Exception as error:  # sizes that contradict each other: ValueError, RuntimeError, ZeroDivisionError
            raise UserError(f"{files.where}config.json is not valid: {_in_one_line(error)}") from error
    return type(whole.get_encoder()) if config.is_encoder_decoder else kind


def _why_unreadable(files: EncoderFiles, error: Exception) -> str:
    """Return why weights cannot be read; torch's text is not shown where it explains how to run code in a file."""
    weights = listed(weight_names([path.name for path in files.folder.iterdir()])[:1])
    if isinstance(error, MemoryError):
        return "the memory does not suffice for its weights. Choose a smaller encoder."
    if isinstance(error, pickle.UnpicklingError):
        if "GLOBAL" in str(error):
            return (
                f"{weights} contains more than tensors, which could run code, and is not loaded. Choose a model whose "
                "weights are in safetensors."
            )
        return f"{weights} is damaged or not a file of torch.save. Get the file again."
    return f"{weights} cannot be read and may be damaged ({_in_one_line(error)}). Get the file again."


def _check_loaded(files: EncoderFiles, model: nn.Module, report: dict[str, Any]) -> None:
    """Raise unless each tensor of the encoder was in the file and is finite."""
    problems = [f"{name} is missing" for name in sorted(report["missing_keys"]) if "masked_spec_embed" not in name]
    problems += [
        f"{name} has shape {tuple(given)}, config.json says {tuple(wanted)}"
        for name, given, wanted in sorted(report["mismatched_keys"])
    ]
    advice = "Get both files from the same model."
    if not problems and (more := sorted(filter(_OF_A_LAYER.match, report["unexpected_keys"]))):
        problems = [f"{name} belongs to no layer of config.json" for name in more]
        advice = "Leave config.json as it was published; model.layers chooses the layers that a head reads."
    if problems:
        raise UserError(f"{files.where}the weights do not fit config.json: {listed(problems, most=_SHOWN)}. {advice}")
    # NaN is both the least and the largest value of a tensor that has one.
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.numel()}
    if broken := [name for name, tensor in tensors.items() if not all(map(torch.isfinite, torch.aminmax(tensor)))]:
        raise UserError(
            f"{files.where}the weights contain NaN or infinite values: {listed(broken, most=_SHOWN)}. Get the file "
            "again, or choose another encoder."
        )


def _in_one_line(error: BaseException) -> str:
    return cut(" ".join(without_password(str(error) or type(error).__name__).split()), 300).rstrip(".")


_quiet = threading.RLock()  # the settings are transformers' own, for the whole process


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, warnings and reports in the block; afterwards all is as it was."""
    from transformers.utils import logging

    with _quiet:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
