"""Loading of initial weights: PANNs from the files of its authors, any network from a state dict."""

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

CLASS_HEADS = ("fc_audioset.", "head.")
"""Prefixes of class heads, which are not loaded: those of PANNs and of this project."""

TOLERANCE = 1e-4
"""Largest difference of equal front ends, relative to the largest weight. Other mel bands differ by more than .1."""


@dataclass(frozen=True)
class LoadReport:
    """Result of `load_pretrained`.

    Args:
        path: The file.
        loaded: Names of the tensors that were loaded.
        left_out: Names of tensors in the file that do not belong to the network: a class head, the front end.
        front_end: Name of the front end in the file; None if the file contains none.
    """

    path: Path
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    front_end: str | None


def load_pretrained(model: Classifier, path: str | Path, front_end: str | None = None) -> LoadReport:
    """Load all weights of a network except those of its class head from a file. Code in the file is not run.

    Args:
        model: The network. One on the meta device is only compared with the file.
        path: A ``.safetensors`` file, or a file of ``torch.save`` that contains a state dict, or one under the key
            ``model``, like the checkpoints of PANNs and the ``state.pt`` of a training run.
        front_end: Name of the front end that computes the input of the network; None for the default of the network.
            If the file contains a front end, as those of PANNs do, it must be the same.

    Returns:
        The names of what was loaded and what was left out.

    Raises:
        DataErrors: If tensors are missing, unknown to the network, not finite or of another shape; lists all of them.
        UserError: If the file is missing or damaged, contains anything but tensors, or has another front end.

    Example:
        >>> import tempfile
        >>> from ser.models import build_model
        >>> source, model = (build_model("cnn6", num_classes=4, width=0.125) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(source.state_dict(), f"{folder}/weights.pt")
        ...     report = load_pretrained(model, f"{folder}/weights.pt")
        >>> report.left_out
        ('head.weight', 'head.bias')
        >>> torch.equal(model.fc1.weight, source.fc1.weight)
        True
    """
    path = Path(path)
    tensors = _read(path)
    kind = type(model).__name__
    found = _check_front_end(tensors, path, front_end or model.front_end)
    left_out = tuple(name for name in tensors if name.startswith(CLASS_HEADS) or name in FRONT_END_KEYS)
    given = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    if not given.keys() & wanted.keys():
        names = ", ".join(sorted(given)[:3]) or "none"
        raise UserError(
            f"weights {str(path)!r}: none of the tensors belongs to {kind}; the first ones are {names}. "
            "Choose the file of weights of this network."
        )
    if errors := _errors(given, wanted):
        raise DataErrors(
            f"weights {str(path)!r} for {kind}",
            errors,
            "Set model.name and model.width to those that the weights were trained with; published ones have width 1.",
        )
    if not model.head.weight.is_meta:
        model.load_state_dict(given, strict=False)  # not strict, because the head is missing
    return LoadReport(path, tuple(given), left_out, found)


def _errors(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[tuple[str, str]]:
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    errors = []
    for name, tensor in wanted.items():
        if name in missing:
            errors.append((name, f"missing{_nearest(name, unexpected)}"))
        elif given[name].shape != tensor.shape:
            errors.append((name, f"has shape {tuple(given[name].shape)}, the model needs {tuple(tensor.shape)}"))
        elif not torch.isfinite(given[name]).all():
            errors.append((name, "contains NaN or infinite values"))
    return errors + [(name, f"the model has no such tensor{_nearest(name, missing)}") for name in sorted(unexpected)]


def _nearest(name: str, others: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(others), n=1, cutoff=0.8)
    return f"; the nearest is {near[0]!r}" if near else ""


# Reading files


class _LeftOut:
    """Placeholder for NumPy objects in a file, so that NumPy's own code is not run.

    The 16 kHz checkpoint of PANNs contains the state of the data sampler in addition to the weights.
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
        raise UserError(f"weights {str(path)!r}: no such file. Check model.pretrained.") from None
    except OSError as error:
        raise UserError(
            f"weights {str(path)!r} cannot be read: {error.strerror or error}. Check model.pretrained."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"weights {str(path)!r} contain no state dict, neither at the top nor under 'model'. "
            "Save one with torch.save."
        )
    if other := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"weights {str(path)!r} contain no state dict: {other[0]!r} is not a tensor. Save the tensors alone."
        )
    return {str(name): tensor for name, tensor in content.items()}


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([(_LeftOut, name) for name in _NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        # The message of torch is not shown because it explains how to run the code nevertheless.
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"weights {str(path)!r} contain {refused[1]!r}, which could run code and is not loaded. "
                "Save the state dict alone."
            ) from None
        raise UserError(
            f"weights {str(path)!r} are damaged or not a file of torch.save. Get the file again."
        ) from error
    except Exception as error:  # damaged files raise many types: EOFError, RuntimeError, KeyError, …
        reason = "" if isinstance(error, KeyError) else f" ({error})"  # the key is a number without a meaning
        raise UserError(
            f"weights {str(path)!r} are damaged or not a file of torch.save{reason}. Get the file again."
        ) from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"weights {str(path)!r} are damaged or not a safetensors file ({error}). Get the file again."
        ) from error


# The front end


def _check_front_end(tensors: dict[str, Tensor], path: Path, chosen: str) -> str | None:
    """Return the name of the front end in the file, or None if the file contains none.

    Raises:
        UserError: If it is not the chosen one.
    """
    held = [tensors.get(name) for name in FRONT_END_KEYS]
    if not any(tensor is not None for tensor in held):
        return None
    known = [spec for spec in FRONT_ENDS.values() if spec.kind == "log_mel"]
    found = next((spec.name for spec in known if _same(held, _published_form(spec))), None)
    if found == chosen:
        return found
    if found is None:
        names = ", ".join(repr(spec.name) for spec in known)
        raise UserError(
            f"weights {str(path)!r} were trained with a front end that is none of {names}: "
            "its STFT or mel bands differ. Choose other weights."
        )
    raise UserError(
        f"weights {str(path)!r} were trained with the front end {found!r}, but {chosen!r} is set. "
        f"Set model.front_end={found}."
    )


def _same(held: list[Tensor | None], expected: list[Tensor]) -> bool:
    return all(
        tensor is not None
        and tensor.shape == want.shape
        and bool((tensor - want).abs().max() <= TOLERANCE * want.max())
        for tensor, want in zip(held, expected, strict=True)
    )


def _published_form(spec: FrontEnd) -> list[Tensor]:
    """Return a front end as in PANNs' files: kernels (n_fft / 2 + 1, 1, n_fft) of a windowed DFT, and mel bands."""
    time = torch.arange(spec.n_fft)
    turns = (
        torch.arange(spec.n_fft // 2 + 1)[:, None] * time % spec.n_fft
    )  # integers, because angles in float32 are not exact
    angle = turns.double() * (2 * math.pi / spec.n_fft)
    window = torch.hann_window(spec.n_fft, dtype=torch.float64)
    real, imaginary = angle.cos() * window, -angle.sin() * window
    return [real[:, None].float(), imaginary[:, None].float(), mel_weights(spec)]
