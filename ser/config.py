"""The configuration of one training run: typed sections, addressed by dotted names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
import yaml

from ser.losses import build_loss
from ser.models import LINEAR_PROBE, Classifier, LinearProbe, build_model, model_class
from ser.models.classical import CLASSICAL, build_classical
from ser.models.classical import FRONT_ENDS as CLASSICAL_FRONT_ENDS
from ser.models.classifier import Freeze
from ser.utils.errors import UserError, unknown_name

# Beyond it nothing is meant; infinities and numbers that no float holds are.
LARGEST = 1e100


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclass(frozen=True)
class ModelConfig:
    """``model.*``: the network, or a classical model; every other key is one of a classical model's own."""

    name: str = "cnn14"
    """Architecture, one of ``ser.models.MODELS`` or ``ser.models.classical.CLASSICAL``; or ``embedding_head``, a class
    head alone, trained on the embeddings of ``base``."""
    base: str = ""
    """For ``embedding_head``: the frozen network, one of ``ser.models.MODELS``, which ``width``, ``front_end`` and
    ``pretrained`` are then those of."""
    width: float = 1.0
    """Scales the channels; 1 is the published network."""
    dropout: float = 1.0
    """Scales the published dropout rates; a narrow network trained from scratch wants 0."""
    front_end: Literal["auto", "panns_16k", "panns_32k", "waveform_16k", "handcrafted_16k", "egemaps_16k"] = "auto"
    """What the model reads; ``auto`` is its own: ``panns_16k``, ``waveform_16k`` for wav2vec 2.0 and WavLM,
    ``handcrafted_16k`` for classical models. The published weights of the 32 kHz networks want ``panns_32k``;
    ``egemaps_16k``, for classical models, needs openSMILE."""
    pretrained: str = ""
    """File of weights to start from (``ser.models.load_pretrained``); the class head is new. Empty: from scratch."""
    freeze: Literal["none", "convolutions", "base"] = "none"
    """What keeps its weights: ``base``, all but the class head; ``convolutions``, those below a transformer."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters of a classical model, by their names; a network has none."""

    def __post_init__(self) -> None:
        if self.is_classical:
            build_classical(self.name, self.parameters, seed=0)
            for key, value, only in (
                ("base", self.base, ""),
                ("pretrained", self.pretrained, ""),
                ("freeze", self.freeze, "none"),
            ):
                _require(value == only, f"model.{key} is {value}; {self.name} is no network and knows no such choice.")
            self._check_front_end(CLASSICAL_FRONT_ENDS)
            return
        if self.reads_embeddings:
            _require(
                bool(self.base and self.pretrained),
                f"model {self.name} is trained on the embeddings of a network: set model.base to its name and "
                "model.pretrained to a file of its weights.",
            )
            _require(self.freeze == "none", f"model.freeze is {self.freeze}; what {self.name} reads is frozen already.")
        else:
            _require(not self.base, f"model.base is {self.base}; {self.name} has no base, only {LINEAR_PROBE} has.")
        model_class(self.network, () if self.reads_embeddings else (*CLASSICAL, LINEAR_PROBE))
        front_ends, needs_weights = _checked(self.network, self.width, self.dropout, self.freeze)
        self._check_front_end(front_ends)
        _require(
            bool(self.pretrained) or not needs_weights,
            f"model {self.name} is fine-tuned, not trained from scratch: set model.pretrained to a file of its "
            f"weights, the state dict of torchaudio.pipelines.{self.name.upper()}.get_model().",
        )

    def _check_front_end(self, known: tuple[str, ...]) -> None:
        _require(
            self.front_end in ("auto", *known),
            f"model.front_end is {self.front_end}; {self.network} reads {' or '.join(known)}.",
        )

    def build(self, num_classes: int) -> Classifier:
        """The model that is trained, as ``ser.models.build_model`` draws it; not for a classical one.

        Args:
            num_classes: C, the number of outputs.
        """
        if not self.reads_embeddings:
            return self.build_network(num_classes)
        with torch.device("meta"):
            network = self.build_network(num_classes)
        return LinearProbe(num_classes, network)

    def build_network(self, num_classes: int) -> Classifier:
        """The network: the model itself, or the base of an embedding head; not for a classical model.

        Args:
            num_classes: C, the number of outputs.
        """
        return build_model(self.network, num_classes, self.width, self.dropout)

    @property
    def network(self) -> str:
        """The name of the network: an embedding head's base, or the model itself."""
        return self.base if self.reads_embeddings else self.name

    @property
    def features(self) -> str:
        """The name of the front end that the network or the classical model reads."""
        if self.front_end != "auto":
            return self.front_end
        return CLASSICAL_FRONT_ENDS[0] if self.is_classical else model_class(self.network).front_end

    @property
    def title(self) -> str:
        """What is trained, for people, such as ``cnn14 × 0.125``."""
        if self.is_classical:
            return f"{self.name} on {self.features}"
        return f"{f'{self.name} on ' if self.reads_embeddings else ''}{self.network} × {self.width:g}"

    @property
    def reads_embeddings(self) -> bool:
        """Whether it is a class head alone, which reads the stored embeddings of its base."""
        return self.name == LINEAR_PROBE

    @property
    def is_classical(self) -> bool:
        """Whether it is a classical model, which is fitted at once and has neither loss nor optimiser to choose."""
        return self.name in CLASSICAL


@lru_cache(maxsize=64, typed=True)  # a study checks the same network for each of its configurations
def _checked(name: str, width: float, dropout: float, freeze: Freeze) -> tuple[tuple[str, ...], bool]:
    """The front ends that a network reads, and whether it needs weights to start from; raises if it cannot be."""
    # On the meta device no weight is drawn or stored; only the checks run.
    with torch.device("meta"):
        network = build_model(name, 2, width, dropout)
    network.freeze(freeze)
    return network.front_ends, network.needs_weights


@dataclass(frozen=True)
class LossConfig:
    """``loss.*``: the loss and its parameters; every key but ``name`` is one of the loss's own."""

    name: str = "cross_entropy"
    """One of ``ser.losses.LOSSES``."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the loss, by its published names."""

    def __post_init__(self) -> None:
        build_loss(self.name, self.parameters, total_steps=1, num_samples=1, num_classes=2)


@dataclass(frozen=True)
class OptimizerConfig:
    """``optimizer.*``: AdamW and its schedule."""

    lr: float = 1e-3
    """Peak learning rate."""
    base_lr_factor: float = 1.0
    """Factor on it for all but the class head; below 1 for a network with pre-trained weights."""
    weight_decay: float = 1e-2
    """Decoupled decay of weight matrices and kernels (Loshchilov and Hutter 2019)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine to zero over the planned steps, or constant."""
    warmup_ratio: float = 0.1
    """Share of the planned steps in which the rate rises linearly."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient; 0 is none."""

    def __post_init__(self) -> None:
        _require(0 < self.lr < 1e37, f"optimizer.lr is {self.lr}; it must be above 0, and float32 must hold it.")
        _require(
            0 < self.base_lr_factor <= 1,
            f"optimizer.base_lr_factor is {self.base_lr_factor}; it must be above 0 and at most 1. "
            "model.freeze=base leaves all but the class head as it is.",
        )
        _require(self.weight_decay >= 0, f"optimizer.weight_decay is {self.weight_decay}; it must not be negative.")
        _require(
            0 <= self.warmup_ratio < 1,
            f"optimizer.warmup_ratio is {self.warmup_ratio}; it must be in [0, 1).",
        )
        _require(self.gradient_clip >= 0, f"optimizer.gradient_clip is {self.gradient_clip}; 0 or more is needed.")


@dataclass(frozen=True)
class AugmentConfig:
    """``augment.*``: SpecAugment with the sizes of PANNs (Park et al. 2019; Kong et al. 2020); not for waveforms."""

    time_masks: int = 2
    """Masks along time for each crop."""
    time_mask_frames: int = 64
    """Widest time mask, in frames of 10 ms; never more than a quarter of the crop."""
    frequency_masks: int = 2
    """Masks along frequency for each crop."""
    frequency_mask_bins: int = 8
    """Widest frequency mask, in mel bins."""

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins"):
            value = getattr(self, name)
            _require(0 <= value <= 1000, f"augment.{name} is {value}; 0 to 1000 are possible.")


Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingConfig:
    """``training.*``: the loop."""

    epochs: int = 50
    """Passes over the training rows; they are the plan that ProSelfLC's time and the schedule refer to."""
    batch_size: int = 32
    """Crops in one optimiser step."""
    crop_seconds: float = 5.0
    """Length of a training crop and of an evaluation segment."""
    class_balance: Literal["weighting", "sampling", "none"] = "weighting"
    """By the classes' frequency among the training targets, noisy as they are: ``weighting`` weights the loss by its
    inverse; ``sampling`` draws an epoch's utterances with replacement, all classes alike."""
    precision: Precision = "auto"
    """``auto``: bfloat16 autocast where the processor has it in hardware, else float32."""

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 100_000, f"training.epochs is {self.epochs}; 1 to 100,000 are possible.")
        _require(2 <= self.batch_size <= 65_536, f"training.batch_size is {self.batch_size}; 2 to 65,536 are possible.")
        _require(
            0.4 <= self.crop_seconds <= 60, f"training.crop_seconds is {self.crop_seconds}; .4 to 60 are possible."
        )


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on besides its data and seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_dotted(cls, values: Mapping[str, Any]) -> Config:
        """Builds a configuration from dotted names.

        Args:
            values: Such as ``{"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "optimizer.lr": 1e-3}``;
                what is not named keeps its default. Strings that read as numbers become numbers.

        Returns:
            The validated configuration.

        Raises:
            UserError: An unknown name (with the nearest), or a value out of type or range.
        """
        sections: dict[str, dict[str, Any]] = {section.name: {} for section in dataclasses.fields(cls)}
        for key, value in values.items():
            section, _, name = key.partition(".")
            if section not in sections or not name:
                raise unknown_name("configuration key", key, configuration_keys())
            sections[section][name] = parse_value(value) if isinstance(value, str) else value
        types = get_type_hints(cls)
        built: dict[str, Any] = {
            "loss": _loss_config(sections.pop("loss")),
            "model": _model_config(sections.pop("model")),
        }
        for section, entries in sections.items():
            built[section] = _build(section, types[section], entries)
        return cls(**built)

    def to_dotted(self) -> dict[str, Any]:
        """The configuration under dotted names; ``from_dotted`` gives it back."""
        dotted: dict[str, Any] = {}
        for section in dataclasses.fields(self):
            part = getattr(self, section.name)
            for entry in dataclasses.fields(part):
                if entry.name != "parameters":
                    dotted[f"{section.name}.{entry.name}"] = getattr(part, entry.name)
        dotted.update({f"model.{name}": value for name, value in self.model.parameters.items()})
        dotted.update({f"loss.{name}": value for name, value in _flatten(self.loss.parameters).items()})
        return dotted


def _loss_config(entries: dict[str, Any]) -> LossConfig:
    name = _typed("loss.name", str, entries.pop("name", LossConfig.name))
    return LossConfig(name, _nest(entries))


def _model_config(entries: dict[str, Any]) -> ModelConfig:
    """Takes the hyper-parameters of a classical model apart from the keys that all models have."""
    name, own = entries.get("name"), {}
    if isinstance(name, str) and name in CLASSICAL:
        known = {f"model.{key}" for key in CLASSICAL[name]}
        own = {key: entries.pop(key) for key in list(entries) if f"model.{key}" not in configuration_keys()}
        for key in own:
            if f"model.{key}" not in known:
                raise unknown_name("configuration key", f"model.{key}", {*configuration_keys(), *known})
            own[key] = _typed(f"model.{key}", type(CLASSICAL[name][key].default), own[key])
    model: ModelConfig = _build("model", ModelConfig, entries, parameters=own)
    return model


def _build(section: str, kind: type, entries: dict[str, Any], **more: Any) -> Any:
    types = get_type_hints(kind)
    for name, value in entries.items():
        if name not in types or name == "parameters":
            raise unknown_name("configuration key", f"{section}.{name}", configuration_keys())
        entries[name] = _typed(f"{section}.{name}", types[name], value)
    return kind(**entries, **more)


def _typed(key: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown_name(f"value for {key}", str(value), get_args(kind))
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    needed = {float: "a finite number", int: "a whole number", str: "a name"}[kind]
    raise UserError(f"{key} is {value!r}; {needed} is needed.")


def configuration_keys() -> list[str]:
    """Every dotted name but the losses' own parameters."""
    return [
        f"{section}.{entry.name}"
        for section, kind in get_type_hints(Config).items()
        for entry in dataclasses.fields(kind)
        if entry.name != "parameters"
    ]


def classical_keys(values: Mapping[str, Any]) -> set[str]:
    """Those dotted names that only a classical model takes: its hyper-parameters, and a front end of its own.

    Args:
        values: Dotted names and values.
    """
    own = {f"model.{key}" for parameters in CLASSICAL.values() for key in parameters} & values.keys()
    return own | ({"model.front_end"} if values.get("model.front_end") in CLASSICAL_FRONT_ENDS else set())


def parse_value(text: str) -> Any:
    """A value from the command line: a number, true, false, null, a JSON list or object, else the text itself."""
    for reader in (json.loads, float):
        try:
            return reader(text)
        except ValueError:
            continue
    return text


def parse_settings(settings: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` strings → dotted names and values.

    Raises:
        UserError: A string without ``=`` or a key named twice.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"{setting!r} is not KEY=VALUE; for example optimizer.lr=0.001.")
        if key in parsed:
            raise UserError(f"{key!r} is set twice.")
        parsed[key] = parse_value(value)
    return parsed


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML or JSON file of nested or dotted names.

    Args:
        path: The file.

    Returns:
        Dotted names and values, for ``Config.from_dotted``.

    Raises:
        UserError: The file is missing, is not a mapping, or names a key both nested and dotted.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"configuration file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"configuration file {str(path)!r} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"configuration file {str(path)!r} must hold names and values, such as 'optimizer: {{lr: 0.001}}'."
        )
    try:
        return _flatten(content)
    except RecursionError as error:
        raise UserError(f"configuration file {str(path)!r} has an alias that holds itself.") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is specified: a key stands once in a mapping; PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping; raises ``yaml.YAMLError`` for a key that stands twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is set twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        part = _flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        if twice := flat.keys() & part.keys():
            raise UserError(f"{min(twice)!r} is set twice.")
        flat.update(part)
    return flat


def _nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        *path, last = key.split(".")
        inner = nested
        for depth, step in enumerate(path, start=1):
            if (whole := ".".join(path[:depth])) in dotted:
                raise UserError(f"loss.{whole} and loss.{key} cannot both be set.")
            inner = inner.setdefault(step, {})
        inner[last] = value
    return nested


def corpus_defaults(corpus_name: str) -> dict[str, Any]:
    """The defaults of a corpus under dotted names: ``synthetic`` is scaled down to minutes on two cores."""
    if corpus_name == "synthetic":
        return {
            "model.width": 0.125,
            "model.dropout": 0.0,
            "training.epochs": 8,
            "training.batch_size": 16,
            "training.crop_seconds": 2.0,
            "optimizer.lr": 2e-3,
        }
    return {"model.width": 1.0, "training.epochs": 50, "training.batch_size": 32}
