"""A speech encoder of the transformers library as a network: the waveform to hidden states, embedding and logits.

Architectures differ in what padding does to them:

* *masked*: padding has no influence, because attention and convolutions leave it out. The group norm over time of the
  base sizes of wav2vec2, HuBERT, WavLM and UniSpeech-SAT, which transformers lets see the padding, is replaced by one
  over the valid samples.
* *fixed*: the input has one length, and a shorter waveform is padded as in pre-training (Whisper, AST). The padding is
  part of the computation, and is left out of the pooling alone.
* all others, such as data2vec-audio, whose five positional convolutions carry the padding into the last frames: rows
  of equal length run together, without padding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ser.models.classifier import Classifier, Freeze, behind, check_features, initialise, uploaded
from ser.models.encoders import source
from ser.models.encoders.inputs import Inputs, check_length, make_inputs
from ser.models.encoders.parameters import EncoderParameters
from ser.models.encoders.source import EncoderFiles
from ser.utils.errors import UserError

MASKED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-bert")
"""Model types whose padding can be masked exactly."""
FIXED = ("whisper", "audio-spectrogram-transformer")
"""Model types with an input of one length."""
CONVOLUTIONS = ("feature_extractor", "conv1", "conv2", "embeddings.patch_embeddings")
"""Modules of the encoder that ``freeze("convolutions")`` freezes, where it has them."""


class Encoder(Classifier):
    """A speech encoder with a class head on the pooled frames of its last layer.

    Hidden state 0 is the input of the first transformer layer (for AST and Whisper with positions added), hidden state
    i the output of layer i. The last one, L, is what transformers calls ``last_hidden_state``: the final layer norm is
    part of it where the architecture has one (Whisper, AST, wav2vec2-conformer, sizes with ``do_stable_layer_norm``).
    Adapters above the transformer (``add_adapter``) are left out. SEW's upsampling after layer L is left out too.

    Args:
        files: Files of the encoder.
        num_classes: C, the outputs of ``head``.
        dropout: Factor on the published dropout rates, in [0, 1].
        parameters: Keys that encoders have besides those of all models.

    Attributes:
        encoder: The encoder as transformers builds it.
        layers: L, the number of transformer layers; there are L + 1 hidden states.
        hidden_size: E, channels of a hidden state.
        min_frames: Samples of the shortest waveform.
        max_frames: Samples of the longest waveform, or None.

    Raises:
        UserError: A parameter is out of range, or has no effect on this architecture.
    """

    front_end = "waveform_16k"
    front_ends = ("waveform_16k",)
    masks_padding = True
    encoder: Any

    def __init__(
        self,
        files: EncoderFiles,
        num_classes: int,
        dropout: float = 1.0,
        parameters: EncoderParameters = EncoderParameters(),  # noqa: B008  it is frozen
    ) -> None:
        super().__init__(dropout)
        self.files, self.parameters_of = files, parameters
        published = source.read_config(files)
        self.changes = _changes(files, published, dropout, parameters)
        self.encoder = source.build(files, **self.changes)
        self.config = self.encoder.config
        self.layers, self.hidden_size = source.size(files)
        if parameters.frozen_layers > self.layers:
            raise UserError(
                f"model.frozen_layers is {parameters.frozen_layers}, but {files.name} has {self.layers} transformer "
                f"layers. Choose 0 to {self.layers}."
            )
        self.inputs: Inputs = make_inputs(files, published)
        self.min_frames, self.max_frames = self.inputs.shortest, self.inputs.longest  # type: ignore[misc]
        self._stack = _layer_stack(self.encoder, self.layers, files)
        if self.config.model_type == "wavlm":
            # transformers hands torch a mask and a bias of two types. The filter is of this one message and stays for
            # the process: catch_warnings in each pass is not safe in threads, and would repeat all other warnings.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning, r"torch\.nn\.")
        self._group_norm = _mask_group_norm(self.encoder) if self.masks else None
        found = dict(self.encoder.named_modules())
        self.convolutions = tuple(f"encoder.{name}" for name in CONVOLUTIONS if name in found)  # type: ignore[misc]
        if parameters.gradient_checkpointing:
            self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        self.embedding_size = self.hidden_size * (2 if parameters.pooling == "mean_std" else 1)
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(self.embedding_size, num_classes)
        self.head.apply(initialise)

    @property
    def masks(self) -> bool:
        """Return whether padding can be masked exactly; HuBERT's batch norm before its positions would see it."""
        return self.config.model_type in MASKED and not getattr(self.config, "conv_pos_batch_norm", False)

    @property
    def fixed(self) -> bool:
        """Return whether the input has one length."""
        return self.config.model_type in FIXED

    def load_published(self) -> None:
        """Load the published weights; the class head keeps its own.

        Raises:
            UserError: The weights do not fit, or cannot be read.
        """
        self.encoder.load_state_dict(source.load(self.files, **self.changes).state_dict())

    def prepare_inference(self) -> None:
        """Prepare the frozen pass: evaluation mode, ``encoder_precision``, weight norm computed once and for all.

        The network can no longer be trained, or its state saved.
        """
        self.requires_grad_(False).eval()
        for module in self.encoder.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        self.encoder.to(getattr(torch, self.parameters_of.encoder_precision))

    def hidden_states(self, features: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute all hidden states.

        Args:
            features: (N, T, 1) waveforms at 16 kHz, full scale ±1.
            lengths: See `Classifier.embed`.

        Returns:
            (L + 1, N, F, E) states, and (N, F) whether a frame is valid. Frames that are not valid are arbitrary. The
            class tokens of AST, frames 0 and 1, are not valid.

        Raises:
            UserError: A waveform is longer than the encoder takes.
        """
        parts = [(rows, torch.stack(states), valid) for rows, states, valid in self._passes(features, lengths)]
        if len(parts) == 1:
            return parts[0][1:]
        frames = max(valid.shape[1] for _, _, valid in parts)
        all_states = features.new_zeros(self.layers + 1, len(features), frames, self.hidden_size)
        all_valid = torch.zeros(len(features), frames, dtype=torch.bool, device=features.device)
        for rows, states, valid in parts:
            rows = uploaded(rows, features.device)
            all_states[:, rows, : valid.shape[1]] = states.to(all_states.dtype)
            all_valid[rows, : valid.shape[1]] = valid
        return all_states, all_valid

    def statistics(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute mean and population standard deviation of each hidden state over the valid frames.

        Args:
            features: (N, T, 1) waveforms.
            lengths: See `Classifier.embed`.

        Returns:
            (N, 2, L + 1, E) float32.

        Raises:
            UserError: A waveform is longer than the encoder takes.
        """
        order, found = [], []
        for rows, states, valid in self._passes(features, lengths):
            order.append(rows)
            found.append(torch.stack([_pool(state, valid) for state in states], dim=2))
        return _in_order(order, found)

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool the last hidden state of waveforms (N, T, 1) to (N, ``embedding_size``); see `Classifier.embed`."""
        order, found = [], []
        for rows, states, valid in self._passes(features, lengths):
            order.append(rows)
            found.append(_pool(states[-1], valid))
        pooled = _in_order(order, found)
        return pooled.flatten(1) if self.parameters_of.pooling == "mean_std" else pooled[:, 0]

    def freeze(self, what: Freeze) -> None:
        """Exclude modules from training, in addition the ``frozen_layers`` lowest layers; see `Classifier.freeze`.

        Whisper's positions are sinusoids, which are never trained.
        """
        super().freeze(what)
        count = self.parameters_of.frozen_layers
        if not count:
            return
        lowest = [f"{self._stack}.{index}" for index in range(count)]
        self._frozen = (*self._frozen, *self._below(), *lowest)
        for name, parameter in self.named_parameters():
            if not name.startswith("head.") and self.depth(name) <= count and name not in self._above():
                parameter.requires_grad_(False)
        self.train(self.training)

    def depth(self, parameter: str) -> int:
        """Return how deep a parameter lies: 0 below the transformer, i in its layer i, L above and in the head.

        Args:
            parameter: Name of a parameter of this network.
        """
        if parameter.startswith(f"{self._stack}."):
            return int(parameter.removeprefix(f"{self._stack}.").partition(".")[0]) + 1
        return self.layers if parameter.startswith("head.") or parameter in self._above() else 0

    def rate_factor(self, parameter: str) -> float:
        """Return ``layer_lr_decay`` to the power of the layers above a parameter."""
        return self.parameters_of.layer_lr_decay ** (self.layers - self.depth(parameter))

    def _above(self) -> set[str]:
        """Return the names of the encoder's parameters between its last layer and its output."""
        stable = getattr(self.config, "do_stable_layer_norm", False) or self.config.model_type == "wav2vec2-conformer"
        names = {"layer_norm", "layernorm"} if stable or self.fixed else set()
        parent = self._stack.rpartition(".")[0]
        return {f"{parent}.{name}.{end}" for name in names for end in ("weight", "bias")}

    def _below(self) -> list[str]:
        """Return the names of the modules below the transformer's layers."""
        path, above = self._stack.split("."), {name.rpartition(".")[0] for name in self._above()}
        names = [
            f"{'.'.join(path[:depth])}.{name}"
            for depth in range(1, len(path))
            for name, _ in self.get_submodule(".".join(path[:depth])).named_children()
            if name != path[depth]
        ]
        return [name for name in names if name not in above]

    def _passes(self, features: Tensor, lengths: Tensor | None) -> Iterator[tuple[Tensor, tuple[Tensor, ...], Tensor]]:
        """Run the encoder on the rows that can run together: their numbers, hidden states and valid frames.

        Whatever follows from the lengths is decided on the CPU; the numbers of the rows are there too.
        """
        check_features(features, 1, self.min_frames)
        waveform = features.squeeze(2)
        if lengths is None:
            lengths = torch.full((len(features),), features.shape[1])
        host = lengths.cpu().clamp(self.min_frames, features.shape[1])
        if self.max_frames is not None:
            check_length(self.files.name, int(host.max()), self.max_frames)
        if self.masks or self.fixed:
            yield torch.arange(len(host)), *self._run(waveform, host)
            return
        for length in sorted(set(host.tolist())):
            rows = (host == length).nonzero()[:, 0]
            yield rows, *self._run(waveform[uploaded(rows, waveform.device), :length], host[rows])

    def _run(self, waveform: Tensor, host: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return hidden states and valid frames of waveforms (N, T) with (N,) valid samples, which are on the CPU."""
        with torch.autocast(waveform.device.type, enabled=False):
            prepared = self.inputs.prepare(waveform, host).to(self.encoder.dtype)
        valid = uploaded(host, waveform.device)
        arguments: dict[str, Any] = {}
        if self._group_norm is not None:
            kernel, stride = self.config.conv_kernel[0], self.config.conv_stride[0]
            padded = int(host.min()) < waveform.shape[1]
            self._group_norm.valid = (valid - kernel) // stride + 1 if padded else None
        if self.masks and not self.inputs.mask(host.min(dim=0, keepdim=True).values, prepared).all():
            arguments["attention_mask"] = self.inputs.mask(valid, prepared).long()
        if self.training and (unmasked := self._no_masks(prepared)) is not None:
            arguments["mask_time_indices"] = unmasked
        output = self.encoder(**{self.inputs.argument: prepared}, **arguments, output_hidden_states=True)
        states = list(output.hidden_states)
        if output.last_hidden_state.shape == states[-1].shape:
            states[-1] = output.last_hidden_state
        return tuple(states), self.inputs.valid(valid, states[-1].shape[1])

    def _no_masks(self, prepared: Tensor) -> Tensor | None:
        """Return an empty time mask for input that is shorter than one masked span; None where masks are drawn."""
        if self.fixed or not self.changes.get("mask_time_prob"):
            return None
        frames = self.inputs.positions(prepared)
        if frames >= self.config.mask_time_length:
            return None
        return torch.zeros(len(prepared), frames, dtype=torch.bool, device=prepared.device)


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm over time, one group a channel, over the valid frames of each row.

    Attributes:
        valid: (N,) valid frames of the next batch; None if all are valid. It is kept until the next one, because
            gradient checkpointing computes the norm again in the backward pass.
    """

    valid: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, channels, T)."""
        if self.valid is None:
            return super().forward(input)
        beyond = behind(self.valid, input.shape[2])[:, None, :]
        count = self.valid[:, None, None]
        # Squares and sums of thousands of values, which bfloat16 does not hold.
        x = input.float().masked_fill(beyond, 0.0)
        x = (x - x.sum(dim=2, keepdim=True) / count).masked_fill(beyond, 0.0)
        variance = x.square().sum(dim=2, keepdim=True) / count
        normed = x * (variance + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]
        return normed.to(input.dtype)


def _mask_group_norm(encoder: nn.Module) -> MaskedGroupNorm | None:
    """Replace the group norm over time of an encoder, if it has one; the names of its parameters stay."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.GroupNorm):
            masked = MaskedGroupNorm(module.num_groups, module.num_channels, module.eps)
            masked.weight, masked.bias = module.weight, module.bias
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, masked)
            return masked
    return None


def _layer_stack(encoder: nn.Module, layers: int, files: EncoderFiles) -> str:
    """Return the name of the list of transformer layers: of the lists of that length the one with most parameters."""
    lists = [
        (sum(parameter.numel() for parameter in module.parameters()), name)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == layers
    ]
    if not lists:
        raise UserError(
            f"model.name is {files.name}, which has no list of {layers} transformer layers. Choose another."
        )
    return f"encoder.{max(lists)[1]}"


def _changes(files: EncoderFiles, config: Any, dropout: float, own: EncoderParameters) -> dict[str, Any]:
    """Return the values of an encoder's configuration that differ from the published ones."""
    changes: dict[str, Any] = {
        key: value * dropout
        for key, value in config.to_dict().items()
        if "dropout" in key and isinstance(value, int | float)
    }
    for key in ("add_adapter", "use_intermediate_ffn_before_adapter"):
        if getattr(config, key, False):
            changes[key] = False
    layer_drop = [key for key in ("layerdrop", "encoder_layerdrop") if hasattr(config, key)]
    changes.update(dict.fromkeys(layer_drop, own.layer_drop))
    has_masks = hasattr(config, "mask_time_prob") and config.model_type not in FIXED
    if has_masks:
        masks = {"mask_time_prob": own.mask_time_prob, "mask_feature_prob": own.mask_feature_prob}
        least = getattr(config, "mask_feature_min_masks", 0)  # WavLM's configuration lacks it, its code reads it
        changes.update(masks, apply_spec_augment=any(masks.values()), mask_feature_min_masks=least)
    for name, exists in (("layer_drop", layer_drop), ("mask_time_prob", has_masks), ("mask_feature_prob", has_masks)):
        value, default = getattr(own, name), getattr(EncoderParameters, name)
        if not exists and value != default:
            raise UserError(
                f"model.{name} is {value}, but {files.name}, of type {config.model_type}, has no such setting. Leave "
                f"model.{name} out."
            )
    return changes


def _in_order(order: list[Tensor], found: list[Tensor]) -> Tensor:
    """Join what was computed of groups of rows, whose numbers are on the CPU, in the order of the rows."""
    if len(found) == 1:
        return found[0]
    return torch.cat(found)[uploaded(torch.cat(order).argsort(), found[0].device)]


def _pool(states: Tensor, valid: Tensor) -> Tensor:
    """Return mean and population standard deviation, (N, 2, E) float32, over the valid frames of (N, F, E)."""
    count = valid.sum(dim=1)[:, None]
    beyond = ~valid[:, :, None]
    x = states.float().masked_fill(beyond, 0.0)
    mean = x.sum(dim=1) / count
    variance = (x - mean[:, None]).masked_fill(beyond, 0.0).square().sum(dim=1) / count
    # The root of 0 has no gradient.
    return torch.stack([mean, variance.clamp_min(1e-12).sqrt()], dim=1)
