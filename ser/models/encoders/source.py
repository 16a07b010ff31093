"""Where a speech encoder comes from: a folder, the hub's cache or the hub; its configuration and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ser.utils.errors import UserError
from ser.utils.hashing import digest, file_digest

PREFIX = "hf:"
"""Beginning of the ``model.name`` of a speech encoder."""


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


def is_encoder(name: str) -> bool:
    """Return whether a ``model.name`` is that of a speech encoder."""
    return name.startswith(PREFIX)


def find_encoder(name: str, revision: str = "", *, weights: bool = True) -> EncoderFiles:
    """Find the files of a speech encoder; they are downloaded if they are neither a folder nor in the hub's cache.

    Args:
        name: ``hf:NAME`` or ``hf:FOLDER``.
        revision: The version that is needed; empty for the present one.
        weights: Whether the weights are needed too.

    Raises:
        UserError: There are no such files, or they are another version.
    """
    folder = Path(name.removeprefix(PREFIX)).expanduser()
    if not folder.is_dir():
        raise UserError(f"model.name is {name}: no such folder.")
    found = digest([file_digest(path) for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))])
    if revision not in ("", found):
        raise UserError(f"model.name is {name}: the folder has changed.")
    return EncoderFiles(str(folder), folder, found)


def read_config(files: EncoderFiles) -> Any:
    """Return the configuration of an encoder as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)


def build(files: EncoderFiles, **changes: Any) -> nn.Module:
    """Build an encoder with random weights, on torch's default device."""
    from transformers import AutoModel

    from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, which imports it without care

    config = read_config(files)
    for key, value in changes.items():
        setattr(config, key, value)
    model: nn.Module = AutoModel.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder else model  # type: ignore[operator]


def load(files: EncoderFiles, **changes: Any) -> nn.Module:
    """Build an encoder with its published weights, in float32."""
    import torch
    from transformers import AutoModel

    from ser.torchaudio_import import torchaudio  # noqa: F401  before transformers, which imports it without care

    model: Any = AutoModel.from_pretrained(
        files.folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, **changes
    )
    return model.get_encoder() if model.config.is_encoder_decoder else model


def size(files: EncoderFiles) -> tuple[int, int]:
    """Return the number L of transformer layers and the channels E of a hidden state."""
    config = read_config(files)
    return int(config.num_hidden_layers), int(config.hidden_size)
