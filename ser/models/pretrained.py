"""Loads published weights: of PANNs as their authors give them, of wav2vec 2.0 and WavLM as torchaudio does."""

from __future__ import annotations

import difflib
import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ser.features.front_ends import FRONT_ENDS, FrontEnd, mel_weights
from ser.models.classifier import Classifier
from ser.utils.errors import DataErrors, UserError

REAL, IMAGINARY = (f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
MEL = "logmel_extractor.melW"
FRONT_END_KEYS = (REAL, IMAGINARY, MEL)

CLASS_HEADS = ("fc_audioset.", "head.", "aux.")
"""Class heads, of which the model has its own: PANNs', this project's and torchaudio's."""

# torch's weight norm has changed its names since torchaudio's files were written.
RENAMED = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}

TOLERANCE = 1e-4
"""Largest difference of front ends, as a share of the largest weight; other mel bands differ by more than .1."""


@dataclass(frozen=True)
class LoadReport:
    """What `load_pretrained` did.

    Args:
        path: The file.
        loaded: Names of the tensors that the model now has from it.
        left_out: Names in the file that are no part of the model: another class head, the front end.
        front_end: The front end that the file holds, which is the model's; None where it holds none.
    """

    path: Path
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    front_end: str | None


def load_pretrained(model: Classifier, path: str | Path, front_end: str | None = None) -> LoadReport:
    """Fills all of a model but its class head from a file of weights. No code in the file is run.

    Args:
        model: The model; one on the meta device is only compared with the file.
        path: A ``.safetensors`` file, or one of ``torch.save`` with ``{"model": state_dict}``, as PANNs' checkpoints
            and the states of a training run are, or with a state dict alone.
        front_end: What the model's input is computed with; None is the model's own. PANNs' files hold their front
            end, which must be this one.

    Returns:
        What was loaded and what was left out.

    Raises:
        DataErrors: Tensors that are missing, that the model does not have, or of another shape; all of them.
        UserError: The file is missing, damaged, holds other things than tensors, or has another front end.
    """
    path = Path(path)
    tensors = _read(path)
    kind = type(model).__name__
    found = _check_front_end(tensors, path, front_end or model.front_end)
    left_out = tuple(name for name in tensors if name.startswith(CLASS_HEADS) or name in FRONT_END_KEYS)
    given = {_renamed(name): tensor for name, tensor in tensors.items() if name not in left_out}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    if not given.keys() & wanted.keys():
        names = ", ".join(sorted(given)[:3]) or "none"
        raise UserError(f"weights {str(path)!r}: none of its tensors belongs to {kind}; its first ones are {names}.")
    if faults := _faults(given, wanted):
        raise DataErrors(
            f"weights {str(path)!r} for {kind}",
            faults,
            "Weights fit the model and the model.width that they were trained with; published ones have width 1.",
        )
    if not model.head.weight.is_meta:
        model.load_state_dict(given, strict=False)  # without the head
    return LoadReport(path, tuple(given), left_out, found)


def _faults(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[tuple[str, str]]:
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    faults = []
    for name, tensor in wanted.items():
        if name in missing:
            faults.append((name, f"missing{_nearest(name, unexpected)}"))
        elif given[name].shape != tensor.shape:
            faults.append((name, f"has shape {tuple(given[name].shape)}; the model's is {tuple(tensor.shape)}"))
        elif not torch.isfinite(given[name]).all():
            faults.append((name, "holds values that are NaN or infinite"))
    return faults + [(name, f"the model has no such tensor{_nearest(name, missing)}") for name in sorted(unexpected)]


def _nearest(name: str, others: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(others), n=1, cutoff=0.8)
    return f"; the nearest is {near[0]!r}" if near else ""


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


# LoaderResult


class _LeftOut:
    """Stands where a file has a NumPy array or type, so that none is made.

    The 16 kHz checkpoint of PANNs holds the state of the data sampler besides the weights.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_NUMPY = [
    *(
        f"{module}.{name}"
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    "numpy.ndarray",
    "numpy.dtype",
]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except FileNotFoundError:
        raise UserError(f"weights {str(path)!r}: there is no such file.") from None
    except OSError as error:
        raise UserError(f"weights {str(path)!r} cannot be read: {error.strerror or error}.") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise UserError(f"weights {str(path)!r}: a state dict is needed, or one below 'model'; it holds neither.")
    if other := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"weights {str(path)!r}: a state dict is needed, or one below 'model'; {other[0]!r} is no tensor."
        )
    return {str(name): tensor for name, tensor in content.items()}


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([(_LeftOut, name) for name in _NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        # torch's own text goes on with how to run it after all.
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"weights {str(path)!r} hold {refused[1]!r} besides tensors, which could run code and is not loaded. "
                "Save the state dict alone."
            ) from None
        raise UserError(f"weights {str(path)!r} are damaged, or no file of torch.save.") from error
    except Exception as error:  # whatever damaged files bring about: EOFError, RuntimeError, KeyError, …
        raise UserError(f"weights {str(path)!r} are damaged, or no file of torch.save: {error}") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"weights {str(path)!r} are damaged, or no safetensors file: {error}") from error


# The front end


def _check_front_end(tensors: dict[str, Tensor], path: Path, chosen: str) -> str | None:
    """The name of the front end in the file, or None where there is none.

    Raises:
        UserError: It is not the chosen one.
    """
    held = [tensors.get(name) for name in FRONT_END_KEYS]
    if not any(tensor is not None for tensor in held):
        return None
    known = [spec for spec in FRONT_ENDS.values() if spec.kind == "log_mel"]
    found = next((spec.name for spec in known if _same(held, _published_form(spec))), None)
    if found == chosen:
        return found
    asked = f"weights {str(path)!r} were trained on another front end than {chosen!r}"
    if found is None:
        names = " nor ".join(repr(spec.name) for spec in known if spec.name != chosen)
        raise UserError(f"{asked}, and not on {names} either: their STFT or mel bands differ. Take other weights.")
    raise UserError(f"{asked}: on {found!r}. Set model.front_end={found}.")


def _same(held: list[Tensor | None], expected: list[Tensor]) -> bool:
    return all(
        tensor is not None
        and tensor.shape == want.shape
        and bool((tensor - want).abs().max() <= TOLERANCE * want.max())
        for tensor, want in zip(held, expected, strict=True)
    )


def _published_form(spec: FrontEnd) -> list[Tensor]:
    """A front end as PANNs' files have it: kernels (n_fft / 2 + 1, 1, n_fft) of a windowed DFT, and the mel bands."""
    time = torch.arange(spec.n_fft)
    turns = torch.arange(spec.n_fft // 2 + 1)[:, None] * time % spec.n_fft  # exact, as an angle in float32 is not
    angle = turns.double() * (2 * math.pi / spec.n_fft)
    window = torch.hann_window(spec.n_fft, dtype=torch.float64)
    real, imaginary = angle.cos() * window, -angle.sin() * window
    return [real[:, None].float(), imaginary[:, None].float(), mel_weights(spec)]
