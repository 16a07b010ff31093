"""Models by name: features (N, T, M) of a front end in, logits (N, C) out, and an embedding from ``.embed``."""

from __future__ import annotations

from ser.models.bilstm import BiLstm
from ser.models.classifier import Classifier
from ser.models.linear_probe import EMBEDDING_HEAD, EmbeddingHead
from ser.models.panns import Cnn6, Cnn10, Cnn14
from ser.models.pretrained import LoadReport, load_pretrained
from ser.models.wav2vec2 import Wav2Vec2Base, WavLmBase
from ser.utils.errors import unknown_name

__all__ = [
    "EMBEDDING_HEAD",
    "MODELS",
    "BiLstm",
    "Classifier",
    "Cnn6",
    "Cnn10",
    "Cnn14",
    "EmbeddingHead",
    "LoadReport",
    "Wav2Vec2Base",
    "WavLmBase",
    "build_model",
    "load_pretrained",
]

MODELS: dict[str, type[Cnn14 | Cnn10 | Cnn6 | BiLstm | Wav2Vec2Base | WavLmBase]] = {
    "cnn14": Cnn14,
    "cnn10": Cnn10,
    "cnn6": Cnn6,
    "bilstm": BiLstm,
    "wav2vec2_base": Wav2Vec2Base,
    "wavlm_base": WavLmBase,
}


def build_model(name: str, num_classes: int, width: float = 1.0, dropout: float = 1.0) -> Classifier:
    """A model by name, its weights drawn from torch's global generator: seed it first.

    Args:
        name: A key of `MODELS`.
        num_classes: C, the number of outputs.
        width: Factor on the channels, in (0, 2].
        dropout: Factor on the published dropout rates, in [0, 1].

    Returns:
        The model, in training mode, on the CPU.

    Raises:
        UserError: Unknown name, or ``width`` or ``dropout`` out of range.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name](num_classes, width=width, dropout=dropout)
