"""Models by name: they map features (N, T, M) of a front end to logits (N, C), and `Classifier.embed` to embeddings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable

from ser.models.bilstm import BiLstm
from ser.models.classifier import Classifier, uploaded
from ser.models.linear_probe import LINEAR_PROBE, LinearProbe
from ser.models.panns import Cnn6, Cnn10, Cnn14
from ser.models.pretrained import LoadReport, load_pretrained
from ser.utils.errors import UserError, shown, unknown_name
from ser.utils.registry import resolve

__all__ = [
    "LINEAR_PROBE",
    "MODELS",
    "BiLstm",
    "Classifier",
    "Cnn6",
    "Cnn10",
    "Cnn14",
    "LinearProbe",
    "LoadReport",
    "build_model",
    "load_pretrained",
    "model_class",
    "uploaded",
]

MODELS: dict[str, type[Classifier]] = {
    "cnn14": Cnn14,
    "cnn10": Cnn10,
    "cnn6": Cnn6,
    "bilstm": BiLstm,
}
"""The built-in networks: name → class."""

FORMER = {"wav2vec2_base": "hf:facebook/wav2vec2-base", "wavlm_base": "hf:microsoft/wavlm-base"}
"""Names of version 0.1: name → the speech encoder of the same architecture and weights."""


def model_class(name: str, others: Iterable[str] = ()) -> type[Classifier]:
    """Return the class of a network.

    Args:
        name: A key of `MODELS`, or the import path of a subclass of `Classifier`, such as
            ``my_package.my_module.MyNet``.
        others: Further valid names to mention if ``name`` is unknown, such as those of classical models.

    Raises:
        UserError: If the name is unknown, or if the import path does not lead to a subclass of `Classifier`.
    """
    if name in FORMER:
        raise UserError(
            f"model {name} is {FORMER[name]} now, a speech encoder of the transformers library (docs/models.md). Name "
            f"that instead. Studies that began with {name} can be analysed, but not resumed or confirmed."
        )
    if "/" in name or name.lower().startswith("hf:"):
        encoder = f"hf:{re.sub('hf:', '', name, count=1, flags=re.IGNORECASE)}"
        raise UserError(f"unknown model {shown(name)}. If it is a speech encoder, write {shown(encoder)}.")
    if "." not in name and name not in MODELS:
        raise unknown_name("model", name, (*MODELS, *others))
    return resolve("model", name, MODELS, Classifier)


def build_model(name: str, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> Classifier:
    """Build a network by name, with weights drawn from torch's global generator: set its seed first.

    Args:
        name: A key of `MODELS`, or the import path of a subclass of `Classifier`.
        num_classes: C, the number of outputs.
        width: Factor on the channels, in (0, 2].
        dropout: Factor on the published dropout rates, in [0, 1].

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        UserError: If the name is unknown, or if ``width`` or ``dropout`` is out of range.

    Example:
        >>> import torch
        >>> model = build_model("cnn6", num_classes=4, width=0.125)
        >>> model(torch.zeros(2, 100, 64)).shape
        torch.Size([2, 4])
    """
    make: Callable[..., Classifier] = model_class(name)
    try:
        inspect.signature(make).bind(num_classes, width=width, dropout=dropout)
    except TypeError as error:
        raise UserError(
            f"model {name!r} must take the arguments (num_classes, width, dropout): {error}. Change its __init__."
        ) from error
    return make(num_classes, width=width, dropout=dropout)
