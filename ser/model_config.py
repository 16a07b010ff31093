"""Configuration of the model: ``model.*``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from ser.features.front_ends import FRONT_ENDS, front_end
from ser.models import LINEAR_PROBE, Classifier, LinearProbe, build_model, model_class
from ser.models.classical import CLASSICAL, build_classical
from ser.models.classical import FRONT_ENDS as CLASSICAL_FRONT_ENDS
from ser.models.classifier import Freeze
from ser.models.encoders import PREFIX, EncoderParameters, find_encoder, is_encoder
from ser.models.encoders import source as encoder_source
from ser.models.encoders.folder import SAMPLE_RATE
from ser.models.encoders.head import LayerHead
from ser.models.encoders.inputs import check_length
from ser.models.encoders.network import Encoder
from ser.models.encoders.parameters import FINE_TUNING, FROZEN
from ser.utils.checks import require


@dataclass(frozen=True)
class ModelConfig:
    """``model.*``: the network; a speech encoder or a classical model, whose own parameters are further keys."""

    name: str = "cnn14"
    """Architecture: a key of ``ser.models.MODELS`` or ``ser.models.classical.CLASSICAL``; ``hf:NAME_OR_FOLDER``, a
    speech encoder of the transformers library; the import path of a network of one's own,
    ``my_package.my_module.MyNet``; or ``embedding_head``, a linear probe on embeddings of ``base``."""
    base: str = ""
    """For ``embedding_head``: the frozen network, to which ``width``, ``front_end`` and ``pretrained`` then apply."""
    width: float = 1.0
    """Factor on the channels; 1 is the published network."""
    dropout: float = 1.0
    """Factor on the published dropout rates; 0 suits a narrow network that is trained from scratch."""
    front_end: str = "auto"
    """Input of the model: a key of ``ser.features.FRONT_ENDS``, or the import path of a front end of one's own.
    ``auto`` is ``panns_16k`` for spectrogram networks, ``waveform_16k`` for speech encoders, ``handcrafted_16k``
    for classical models. The published weights of the 32 kHz networks need ``panns_32k``; ``egemaps_16k``, for
    classical models, needs openSMILE."""
    pretrained: str = ""
    """File of initial weights (``ser.models.load_pretrained``); the class head is new. Empty: train from scratch."""
    freeze: Literal["none", "convolutions", "base"] = "none"
    """Layers that keep their weights: ``base``, all but the class head; ``convolutions``, those below a transformer. A
    speech encoder with ``base`` computes its layers once, into the feature store, and a head is trained on them."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters of a classical model, or ``ser.models.encoders.EncoderParameters``, by name; else empty."""

    def __post_init__(self) -> None:
        if self.is_classical:
            self._check_classical()
        elif self.is_encoder:
            self._check_encoder()
        else:
            self._check_network()

    def _check_encoder(self) -> None:
        for key, value, default in (
            ("base", self.base, ""),
            ("pretrained", self.pretrained, ""),
            ("width", self.width, 1.0),
        ):
            require(
                value == default,
                f"model.{key} is {value}, but model.name is {self.name}, a speech encoder with weights and a width of "
                f"its own. Leave model.{key} out.",
            )
        self._check_without_effect()
        self._check_front_end(Encoder.front_ends)
        _check_encoder(self.name, self.encoder, self.dropout, self.freeze)

    def check_crop(self, seconds: float) -> None:
        """Raise if a fine-tuned encoder, such as Whisper or AST, has a shorter input than the crops.

        Args:
            seconds: Length of a crop.
        """
        if self.is_encoder:
            longest = _check_encoder(self.name, self.encoder, self.dropout, self.freeze)
            check_length(self.name.removeprefix(PREFIX), round(seconds * SAMPLE_RATE), longest)

    def _check_without_effect(self) -> None:
        """Raise if a key of frozen encoders is set for a fine-tuned one, or the other way round."""
        frozen, default = self.freeze == "base", EncoderParameters()
        way, other = ("frozen", "fine-tuned") if frozen else ("fine-tuned", "frozen")
        for key in FINE_TUNING if frozen else FROZEN:
            value = getattr(self.encoder, key)
            require(
                value == getattr(default, key),
                f"model.{key} is {value}, which is for encoders that are {other}, but with model.freeze={self.freeze} "
                f"the encoder is {way}. Leave model.{key} out, or set model.freeze={'none' if frozen else 'base'}.",
            )

    def _check_classical(self) -> None:
        build_classical(self.name, self.parameters, seed=0)
        for key, value, default in (
            ("base", self.base, ""),
            ("pretrained", self.pretrained, ""),
            ("freeze", self.freeze, "none"),
        ):
            require(
                value == default,
                f"model.{key} is {value}, but model.name is {self.name}, a classical model without that option. Leave "
                f"model.{key} out.",
            )
        self._check_front_end(CLASSICAL_FRONT_ENDS)

    def _check_network(self) -> None:
        if self.reads_embeddings:
            require(
                not is_encoder(self.base),
                f"model.base is {self.base}, a speech encoder. Name it itself: model.name={self.base} trains a head on "
                "its layers, with model.layers=last a linear probe on the last one.",
            )
            require(
                bool(self.base and self.pretrained),
                f"model.name is {self.name}, which is trained on the embeddings of a network: set model.base to the "
                "network's name and model.pretrained to a file of its weights.",
            )
            require(
                self.freeze == "none",
                f"model.freeze is {self.freeze}, but the base of {self.name} is always frozen. Leave model.freeze out.",
            )
        else:
            require(
                not self.base,
                f"model.base is {self.base}, but model.name is {self.name}; only {LINEAR_PROBE} has a base. Leave "
                "model.base out.",
            )
        model_class(self.network, () if self.reads_embeddings else (*CLASSICAL, LINEAR_PROBE))
        self._check_front_end(_checked(self.network, self.width, self.dropout, self.freeze))

    def _check_front_end(self, readable: tuple[str, ...]) -> None:
        if self.front_end in ("auto", *readable):
            return
        chosen = front_end(self.front_end)
        # An imported front end fits if its frames are like those of a front end that the model reads.
        fits = self.front_end not in FRONT_ENDS and any(
            chosen.kind == like.kind and (chosen.size == like.size or self.is_classical)
            for like in map(front_end, readable)
        )
        require(
            fits,
            f"model.front_end is {self.front_end}, {chosen.kind} of {chosen.size} values per frame, but "
            f"{self.network} reads {' or '.join(readable)}. Choose one of these.",
        )

    def build(self, num_classes: int) -> Classifier:
        """Build the network that is trained, with weights as ``ser.models.build_model`` draws them.

        Args:
            num_classes: Number of outputs C.
        """
        if not self.reads_embeddings:
            return self.build_network(num_classes)
        if self.is_encoder:
            layers, hidden_size = encoder_source.size(find_encoder(self.name, self.encoder.revision, weights=False))
            return LayerHead(num_classes, layers, hidden_size, self.encoder, self.dropout)
        with torch.device("meta"):
            network = self.build_network(num_classes)
        return LinearProbe(num_classes, network)

    def build_network(self, num_classes: int) -> Classifier:
        """Build the network itself, for a linear probe its base.

        Args:
            num_classes: Number of outputs C.
        """
        if self.is_encoder:
            files = find_encoder(self.name, self.encoder.revision, weights=False)
            return Encoder(files, num_classes, self.dropout, self.encoder)
        return build_model(self.network, num_classes, self.width, self.dropout)

    @property
    def network(self) -> str:
        """Return the name of the network, for a linear probe that of its base."""
        return self.base if self.name == LINEAR_PROBE else self.name

    @property
    def features(self) -> str:
        """Return the name of the front end that the network or the classical model reads."""
        if self.front_end != "auto":
            return self.front_end
        if self.is_classical:
            return CLASSICAL_FRONT_ENDS[0]
        return (Encoder if self.is_encoder else model_class(self.network)).front_end

    @property
    def title(self) -> str:
        """Return a short name for people, such as ``cnn14 × 0.125``."""
        if self.is_classical:
            return f"{self.name} on {self.features}"
        if self.is_encoder:
            return f"{self.name.rstrip('/').rpartition('/')[2]}, {'frozen' if self.reads_embeddings else 'fine-tuned'}"
        return f"{f'{self.name} on ' if self.reads_embeddings else ''}{self.network} × {self.width:g}"

    @property
    def reads_embeddings(self) -> bool:
        """Return whether the model is a head on stored embeddings: a linear probe, or that of a frozen encoder."""
        return self.name == LINEAR_PROBE or (self.is_encoder and self.freeze == "base")

    @property
    def is_encoder(self) -> bool:
        """Return whether the model is a speech encoder of the transformers library."""
        return is_encoder(self.name)

    @property
    def encoder(self) -> EncoderParameters:
        """Return the own parameters of a speech encoder."""
        return EncoderParameters(**self.parameters)

    @property
    def is_classical(self) -> bool:
        """Return whether the model is a classical one, which is fitted at once, without loss and optimizer."""
        return self.name in CLASSICAL


@lru_cache(maxsize=64, typed=True)  # a study checks the same network for each configuration
def _checked(name: str, width: float, dropout: float, freeze: Freeze) -> tuple[str, ...]:
    """Check the arguments of a network; return the front ends that it reads."""
    # On the meta device no weight is drawn or stored; only the checks run.
    with torch.device("meta"):
        network = build_model(name, 2, width, dropout)
    network.freeze(freeze)
    return network.front_ends


@lru_cache(maxsize=64)
def _check_encoder(name: str, parameters: EncoderParameters, dropout: float, freeze: Freeze) -> int | None:
    """Check the arguments of a speech encoder; return the samples of the longest crop, or None if there is none."""
    files = find_encoder(name, parameters.revision, weights=False)
    with torch.device("meta"):
        if freeze == "base":
            LayerHead(2, *encoder_source.size(files), parameters, dropout)
            return None
        encoder = Encoder(files, 2, dropout, parameters)
        encoder.freeze(freeze)
        return encoder.max_frames


def with_absolute_folder(name: str) -> str:
    """Return ``model.name`` with the absolute path of a speech encoder's folder; other names as they are.

    Args:
        name: As for ``model.name``.

    Example:
        >>> [with_absolute_folder(name) for name in ("cnn14", "hf:facebook/wav2vec2-base", "hf:")]
        ['cnn14', 'hf:facebook/wav2vec2-base', 'hf:']
    """
    given = name.removeprefix(PREFIX)
    if not is_encoder(name) or not given:  # the empty path would be the current folder
        return name
    folder = Path(given)
    with suppress(RuntimeError, OSError):  # an unknown user after ~, too long a name: `find_encoder` reports them
        folder = folder.expanduser()
        return f"{PREFIX}{folder.resolve()}" if folder.is_dir() else name
    return name


def present_revision(name: str, revision: str = "") -> str:
    """Return the ``model.revision`` of a speech encoder that a run begins with; empty for other networks.

    Args:
        name: As for ``model.name``.
        revision: The version that is asked for; empty for the present one.

    Raises:
        UserError: There is no such encoder, it is another version, or the transformers library is not installed.
    """
    return find_encoder(name, revision, weights=False).revision if is_encoder(name) else ""
