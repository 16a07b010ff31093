"""Configuration of one training run: typed sections, addressed by dotted names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ser.losses import build_loss, loss_class
from ser.model_config import ModelConfig as ModelConfig  # a section of Config, imported from here
from ser.models.classical import CLASSICAL
from ser.models.classical import FRONT_ENDS as CLASSICAL_FRONT_ENDS
from ser.models.encoders import EncoderParameters, is_encoder
from ser.utils.checks import check_recordable, require
from ser.utils.errors import UserError, unknown_name

LAYERS, REVISION = "model.layers", "model.revision"

# Larger numbers, among them infinities, are mistakes.
LARGEST = 1e100


@dataclass(frozen=True)
class LossConfig:
    """``loss.*``: the loss; every key but ``name`` is one of its parameters."""

    name: str = "cross_entropy"
    """Key of ``ser.losses.LOSSES``, or the import path of a loss of one's own, ``my_package.my_module.MyLoss``."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the loss by name."""

    def __post_init__(self) -> None:
        build_loss(self.name, self.parameters, total_steps=1, num_samples=1, num_classes=2)


@dataclass(frozen=True)
class OptimizerConfig:
    """``optimizer.*``: AdamW and its schedule."""

    lr: float = 1e-3
    """Peak learning rate."""
    base_lr_factor: float = 1.0
    """Factor on the learning rate of all layers but the class head; below 1 for pre-trained networks."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of matrices and kernels (Loshchilov and Hutter 2019)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine to zero over the planned steps, or constant."""
    warmup_ratio: float = 0.1
    """Share of the planned steps in which the learning rate rises linearly."""
    gradient_clip: float = 5.0
    """Maximum norm of the gradient; 0 turns clipping off."""

    def __post_init__(self) -> None:
        require(0 < self.lr < 1e37, f"optimizer.lr is {self.lr}; it must be positive and below 1e37.")
        require(
            0 < self.base_lr_factor <= 1,
            f"optimizer.base_lr_factor is {self.base_lr_factor}; it must be above 0 and at most 1. To train the class "
            "head alone, set model.freeze=base.",
        )
        require(self.weight_decay >= 0, f"optimizer.weight_decay is {self.weight_decay}; it must not be negative.")
        require(
            0 <= self.warmup_ratio < 1,
            f"optimizer.warmup_ratio is {self.warmup_ratio}; it must be in [0, 1).",
        )
        require(self.gradient_clip >= 0, f"optimizer.gradient_clip is {self.gradient_clip}; it must not be negative.")


@dataclass(frozen=True)
class AugmentConfig:
    """``augment.*``: SpecAugment with the sizes of PANNs (Park et al. 2019; Kong et al. 2020), for spectrograms."""

    time_masks: int = 2
    """Number of time masks per crop."""
    time_mask_frames: int = 64
    """Maximum width of a time mask in frames of 10 ms; at most a quarter of the crop is masked at once."""
    frequency_masks: int = 2
    """Number of frequency masks per crop."""
    frequency_mask_bins: int = 8
    """Maximum width of a frequency mask in mel bins."""

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins"):
            value = getattr(self, name)
            require(0 <= value <= 1000, f"augment.{name} is {value}; it must be from 0 to 1000.")


Precision = Literal["auto", "bfloat16", "tf32", "float32"]


@dataclass(frozen=True)
class TrainingConfig:
    """``training.*``: the training loop."""

    epochs: int = 50
    """Planned passes over the training rows; ProSelfLC's time and the learning rate schedule refer to this number."""
    batch_size: int = 32
    """Crops per optimiser step."""
    crop_seconds: float = 5.0
    """Length of a training crop and of an evaluation segment."""
    class_balance: Literal["weighting", "sampling", "none"] = "weighting"
    """Balancing of classes by their frequency among the training targets: ``weighting`` weights the loss by the inverse
    frequency; ``sampling`` draws the utterances of an epoch with replacement, all classes equally often."""
    precision: Precision = "auto"
    """Arithmetic of convolutions and matrix products: ``bfloat16`` (autocast), ``tf32`` on GPUs that have it,
    ``float32`` as IEEE 754 has it on every device, or ``auto``: bfloat16 where the processor has it in hardware, else
    float32."""
    deterministic: bool = False
    """Deterministic algorithms alone on a GPU: the same command gives equal numbers there, more slowly. Nothing changes
    on a CPU."""

    def __post_init__(self) -> None:
        require(1 <= self.epochs <= 100_000, f"training.epochs is {self.epochs}; it must be from 1 to 100,000.")
        require(
            2 <= self.batch_size <= 65_536, f"training.batch_size is {self.batch_size}; it must be from 2 to 65,536."
        )
        require(
            0.4 <= self.crop_seconds <= 60, f"training.crop_seconds is {self.crop_seconds}; it must be from 0.4 to 60."
        )


@dataclass(frozen=True)
class Config:
    """All that a training run depends on, except its data and seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        self.model.check_crop(self.training.crop_seconds)

    @classmethod
    def from_dotted(cls, values: Mapping[str, Any]) -> Config:
        """Build a configuration from dotted names.

        Args:
            values: Dotted names and values. Keys that are left out keep their default, and strings that read as
                numbers become numbers.

        Returns:
            The validated configuration.

        Raises:
            UserError: A name is unknown, or a value has the wrong type, is out of range, or is too long to be recorded.

        Example:
            >>> values = {"loss.name": "label_smoothing", "loss.epsilon": 0.2, "optimizer.lr": "1e-4"}
            >>> config = Config.from_dotted(values)
            >>> config.loss.parameters, config.optimizer.lr, config.training.epochs
            ({'epsilon': 0.2}, 0.0001, 50)
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
        config = cls(**built)
        for key, value in config.to_dotted().items():
            check_recordable(key, value)
        return config

    def to_dotted(self) -> dict[str, Any]:
        """Return all values under dotted names, for ``from_dotted``."""
        dotted: dict[str, Any] = {}
        for field_of_section in dataclasses.fields(self):
            section = getattr(self, field_of_section.name)
            for entry in dataclasses.fields(section):
                if entry.name != "parameters":
                    dotted[f"{field_of_section.name}.{entry.name}"] = getattr(section, entry.name)
        dotted.update({f"model.{name}": value for name, value in self.model.parameters.items()})
        dotted.update({f"loss.{name}": value for name, value in flatten(self.loss.parameters).items()})
        return dotted


def explicit(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration for storage, which names the parameters of the loss whose default may differ elsewhere.

    Args:
        values: Dotted names and values.

    Example:
        >>> explicit({"loss.name": "normalized_losses"})["loss.log_zero"]
        -9.210340371976182
    """
    kind = loss_class(values.get("loss.name", LossConfig.name))
    return {**{f"loss.{key}": getattr(kind, key) for key in kind.former_defaults}, **values}


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that may have been stored by version 0.1, with the defaults of that version.

    Args:
        values: Dotted names and values.

    Example:
        >>> stored({"loss.name": "normalized_losses"})["loss.log_zero"]
        -4.0
    """
    former = loss_class(values.get("loss.name", LossConfig.name)).former_defaults
    return {**{f"loss.{key}": value for key, value in former.items()}, **values}


def _loss_config(entries: dict[str, Any]) -> LossConfig:
    name = _typed("loss.name", str, entries.pop("name", LossConfig.name))
    kind = loss_class(name)
    return LossConfig(name, {**{key: getattr(kind, key) for key in kind.former_defaults}, **_nest(entries)})


def _model_config(entries: dict[str, Any]) -> ModelConfig:
    """Separate the parameters that only some models have from the keys that all have."""
    name, own = entries.get("name"), {}
    if (types := _own_types(name)) is not None:
        own = {key: entries.pop(key) for key in list(entries) if f"model.{key}" not in configuration_keys()}
        for key in own:
            if key not in types:
                known = {f"model.{each}" for each in types}
                raise unknown_name("configuration key", f"model.{key}", {*configuration_keys(), *known})
            own[key] = _typed(f"model.{key}", types[key], own[key])
    elif of_encoder := entries.keys() & get_type_hints(EncoderParameters).keys():
        key = f"model.{min(of_encoder)}"
        raise UserError(
            f"{key} is for speech encoders, but model.name is {name or ModelConfig.name}. Leave {key} out, or name an "
            "encoder: model.name=hf:NAME_OR_FOLDER."
        )
    if isinstance(name, str) and is_encoder(name):
        own = dataclasses.asdict(EncoderParameters(**own))
    model: ModelConfig = _build("model", ModelConfig, entries, parameters=own)
    return model


def _own_types(name: Any) -> dict[str, Any] | None:
    """Return the types of the parameters that only this model has; None if it is a network without any."""
    if isinstance(name, str) and is_encoder(name):
        return get_type_hints(EncoderParameters)
    if isinstance(name, str) and name in CLASSICAL:
        return {key: type(parameter.default) for key, parameter in CLASSICAL[name].items()}
    return None


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
    if kind is bool and isinstance(value, bool):
        return value
    if key == LAYERS and isinstance(value, (int, float)):  # the number of a layer, among names
        return str(value)
    expected = {float: "a finite number", int: "a whole number", str: "a name", bool: "true or false"}[kind]
    raise UserError(f"{key} is {value!r}; it must be {expected}.")


def configuration_keys() -> list[str]:
    """Return all dotted names, without the parameters of losses and classical models."""
    return [
        f"{section}.{entry.name}"
        for section, kind in get_type_hints(Config).items()
        for entry in dataclasses.fields(kind)
        if entry.name != "parameters"
    ]


def classical_keys(values: Mapping[str, Any]) -> set[str]:
    """Return the dotted names that only a classical model takes: hyper-parameters, and a front end for vectors.

    Args:
        values: Dotted names and values.
    """
    own = {f"model.{key}" for parameters in CLASSICAL.values() for key in parameters} & values.keys()
    return own | ({"model.front_end"} if values.get("model.front_end") in CLASSICAL_FRONT_ENDS else set())


def parse_value(text: str) -> Any:
    """Parse a value from the command line: a number, true, false, null, a JSON list or object, else the text itself."""
    for reader in (json.loads, float):
        try:
            return reader(text)
        except ValueError:
            continue
    return text


def parse_settings(settings: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` strings.

    Returns:
        Dotted names and values, for ``Config.from_dotted``.

    Raises:
        UserError: A string is not ``KEY=VALUE``, or a key is set twice.

    Example:
        >>> parse_settings(["optimizer.lr=1e-3", "loss.name=proselflc", "loss.target_gradient=true"])
        {'optimizer.lr': 0.001, 'loss.name': 'proselflc', 'loss.target_gradient': True}
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"{setting!r} is not KEY=VALUE; for example optimizer.lr=0.001.")
        if key in parsed:
            raise UserError(f"{key!r} is set twice. Give it one value.")
        parsed[key] = parse_value(value)
    return parsed


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested names as dotted names.

    Args:
        nested: Names and values; mappings among the values are flattened too.
        prefix: Prefix of all names.

    Raises:
        UserError: A name is set twice, nested and dotted.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        inner = flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        if twice := flat.keys() & inner.keys():
            raise UserError(f"{min(twice)!r} is set twice, nested and dotted. Give it one value.")
        flat.update(inner)
    return flat


def _nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        *path, last = key.split(".")
        inner = nested
        for depth, step in enumerate(path, start=1):
            if (whole := ".".join(path[:depth])) in dotted:
                raise UserError(f"loss.{whole} and loss.{key} cannot both be set. Remove one of them.")
            inner = inner.setdefault(step, {})
        inner[last] = value
    return nested


def model_defaults(name: str) -> dict[str, Any]:
    """Return the defaults of a model, which override those of the corpus, under dotted names.

    A speech encoder is frozen. Where it is fine-tuned, its rate is a fiftieth of that of the class head, so that the
    range of the search spaces, 3e-4 to 1e-2, becomes 6e-6 to 2e-4, and their first point, 1e-3, becomes 2e-5.

    Args:
        name: As for ``model.name``.

    Source: 1e-5 for the encoder and 1e-4 for the head in SpeechBrain's recipe of Wang et al. 2021, "A Fine-tuned
    Wav2vec 2.0/HuBERT Benchmark For Speech Emotion Recognition, Speaker Verification and Spoken Language
    Understanding" (arXiv 2111.02735); 1e-5 for WavLM large in the baseline of the MSP-Podcast challenge
    (github.com/msplabresearch/MSP-Podcast_Challenge).

    Example:
        >>> model_defaults("cnn14")
        {}
    """
    if not is_encoder(name):
        return {}
    return {"model.freeze": "base", "model.width": 1.0, "model.dropout": 1.0, "optimizer.base_lr_factor": 0.02}


def complete(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial: the defaults, overridden by values of its own.

    Where the values name another model than the defaults, such as a classical one, defaults that are meant for the
    model of the defaults alone are replaced by those of the other one.

    Args:
        defaults: Dotted names that trials share.
        values: Dotted names of the trial.

    Example:
        >>> frozen = {"model.name": "hf:facebook/wav2vec2-base", "model.freeze": "base", "training.epochs": 8}
        >>> complete(frozen, {"model.name": "random_forest"})
        {'training.epochs': 8, 'model.name': 'random_forest'}
    """
    former, name = str(defaults.get("model.name", ModelConfig.name)), str(values.get("model.name", ""))
    if name in ("", former):
        return {**defaults, **values}
    of_former = {"model.name", REVISION, *model_defaults(former)}
    shared = {key: value for key, value in defaults.items() if key not in of_former}
    return {**shared, **model_defaults(name), **values}


def corpus_defaults(corpus_name: str) -> dict[str, Any]:
    """Return the defaults of a corpus under dotted names; those of ``synthetic`` take minutes on two cores."""
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
