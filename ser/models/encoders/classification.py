"""A trained encoder as transformers' own class for audio classification, which computes the same probabilities.

These classes project each frame, average over the frames, and classify the mean. A head on the mean of a frozen
encoder's layers does the same in another order: the softmax of ``layer_weights`` is that of the head, its
standardisation becomes a diagonal projection, and its linear layer the classifier.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ser.models.classifier import Classifier
from ser.models.encoders.head import LayerHead
from ser.models.encoders.network import FIXED, Encoder
from ser.utils.command_names import command_line
from ser.utils.errors import UserError

UNSELECTED = -1e4
"""Weight, before the softmax, of a layer that is not read: the softmax is exactly 0."""


def check_expressible(encoder: Encoder, *, frozen: bool) -> None:
    """Check that a class of transformers computes what a trained encoder computes.

    Args:
        encoder: The encoder; its weights are not read.
        frozen: Whether a head alone was trained on it.

    Raises:
        UserError: There is none; the message says what can be done instead.
    """
    from transformers import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING

    kind, pooling, reason = encoder.config.model_type, encoder.parameters_of.pooling, ""
    if kind == "whisper":
        reason = "transformers' class for it averages over all 30 s of its input, and this model over the speech alone"
    elif kind in FIXED:
        reason = "transformers' class for it reads two tokens of the last layer, this model the mean over the frames"
    elif type(encoder.config) not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING:
        reason = "transformers has no class for audio classification with it"
    register = f"Register it in MLflow ({command_line('study/register.py')}): that model runs without this project too."
    if reason:
        raise UserError(
            f"model.name is hf:{encoder.files.name}, of type {kind}: {reason}. No such folder predicts the same. "
            f"{register}"
        )
    if pooling != "mean":
        again = "it reads the same stored layers, so that it takes seconds" if frozen else "as a new training"
        raise UserError(
            f"model.pooling is {pooling}, but transformers' classes average over the frames, without their standard "
            f"deviation. Train again with --set model.pooling=mean ({again}). {register}"
        )


def as_classification(trained: Classifier, encoder: Encoder, classes: Sequence[str]) -> Any:
    """Return transformers' model for audio classification that predicts what a trained encoder does.

    Args:
        trained: The trained head on a frozen encoder, or the fine-tuned encoder with its head.
        encoder: The encoder with its weights; for a fine-tuned one the same as ``trained``.
        classes: C class names, in the order of the outputs.

    Returns:
        The model, on the CPU, in float32 and evaluation mode. Its weights are those of ``encoder``, copied.
    """
    from transformers import AutoModelForAudioClassification

    config = copy.deepcopy(encoder.encoder.config)
    # SEW halves the number of frames and restores it after the last layer; the head reads the halved ones.
    restores = hasattr(config, "squeeze_factor")
    layer = trained.layer if isinstance(trained, LayerHead) else encoder.layers
    summed = layer != encoder.layers or restores
    config.update(
        {
            "use_weighted_layer_sum": summed,
            # The last hidden state is then the one after the final layer norm, as before transformers 5.
            "tie_last_hidden_states": not restores,
            "classifier_proj_size": encoder.hidden_size,
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(classes)),
            "label2id": {name: index for index, name in enumerate(classes)},
        }
    )
    kind: Any = AutoModelForAudioClassification
    model = kind.from_config(config, dtype=torch.float32)
    getattr(model, model.base_model_prefix).load_state_dict(encoder.encoder.state_dict())
    scale, shift = _standardisation(trained, encoder.hidden_size)
    with torch.no_grad():
        if layer is None:
            model.layer_weights.copy_(trained.layer_weights)
        elif summed:
            model.layer_weights.fill_(UNSELECTED)[layer] = 0.0
        model.projector.weight.copy_(scale.diag())
        model.projector.bias.copy_(shift)
        model.classifier.load_state_dict(trained.head.state_dict())
    return model.eval()


def _standardisation(trained: Classifier, size: int) -> tuple[Tensor, Tensor]:
    """Return factor and summand, (E,) each, of the standardisation before the head."""
    if not isinstance(trained, LayerHead):
        return torch.ones(size), torch.zeros(size)
    norm: nn.BatchNorm1d = trained.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt().cpu()
    return factor, -norm.running_mean.cpu() * factor
