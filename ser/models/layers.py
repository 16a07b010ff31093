"""Fast CPU versions of the layers of the CNNs, equal to those of torch up to rounding in bfloat16.

They make training under bfloat16 on a CPU 1.3 times as fast (docs/performance.md). In float32, in evaluation mode of
the batch norm and on a GPU, torch's own layers run, except for the dropout, which is fast on every CPU.

The environment variable ``AMBIVALENT_FAST_LAYERS=0`` switches all of them off, in every process that inherits it, and
uses torch's layers throughout. Results are then the same up to rounding in bfloat16, except that dropout draws other
masks from the same seed.

`torch.native_batch_norm`, its gradient and that of the ReLU are operators of torch without a stable interface;
tests/ser/models/test_fast_layers.py compares the results with those of the public layers.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SWITCH = "AMBIVALENT_FAST_LAYERS"
"""Environment variable; 0 selects torch's own layers."""

# Batch norm with channels last processes _LANES channels at a time; for fewer than _NARROW it is slow.
_LANES = 64
_NARROW = 16

# A convolution is faster as a matrix product for this many columns, or for _SOME_COLUMNS with _MANY_CHANNELS.
_FEW_COLUMNS, _SOME_COLUMNS, _MANY_CHANNELS = 2, 4, 512


def fast_layers_enabled() -> bool:
    """Return whether the fast layers are in use, which is the case unless ``AMBIVALENT_FAST_LAYERS`` is 0."""
    return os.environ.get(SWITCH) != "0"


def batch_norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Apply a batch norm and a ReLU.

    In training, fewer than 16 channels in bfloat16 on a CPU are normalised in groups of 64 values, which is several
    times as fast (docs/performance.md).

    Args:
        x: (N, C, H, W).
        norm: Batch norm of C channels, whose running statistics are updated in training.

    Returns:
        (N, C, H, W).
    """
    if norm.training and _is_narrow(x) and fast_layers_enabled():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        values = (x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
        narrow: Tensor = _NarrowBatchNormRelu.apply(*values)  # type: ignore[no-untyped-call]
        return narrow
    return F.relu_(norm(x))


def convolve_3x3(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Apply a 3×3 convolution that keeps the size and has no bias.

    In bfloat16 on a CPU, images of few columns are convolved as one matrix product, which is three times as fast as
    torch's convolution (docs/performance.md).

    Args:
        x: (N, C, H, W).
        convolution: Convolution with padding 1.

    Returns:
        (N, K, H, W).
    """
    columns, channels = x.shape[3], x.shape[1]
    few = columns <= _FEW_COLUMNS or (columns <= _SOME_COLUMNS and channels >= _MANY_CHANNELS)
    if not (few and x.device.type == "cpu" and _is_bfloat16(x) and fast_layers_enabled()):
        return convolution(x)  # type: ignore[no-any-return]
    product: Tensor = _Convolution3x3.apply(x.bfloat16(), convolution.weight.bfloat16())  # type: ignore[no-untyped-call]
    return product


class Dropout(nn.Dropout):
    """Dropout that, on a CPU, takes four values of the mask from each random number, with p rounded to 1/65,536."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input of any shape; in training, set values to 0 with probability p and divide others by 1 − p."""
        x = input
        fast = self.training and x.device.type == "cpu" and 0 < self.p < 1 and _is_dense(x) and fast_layers_enabled()
        if not fast:
            return F.dropout(x, self.p, self.training)
        # 64 random bits, over the whole range of int64, are four numbers of 16 bits.
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: x.numel()] >= round(self.p * 2**16) - 2**15
        factor = kept.to(x.dtype).mul_(1 / (1 - self.p))
        return x * factor.as_strided(x.size(), x.stride())


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _is_bfloat16(x: Tensor) -> bool:
    """Return whether a convolution of x runs in bfloat16."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def _is_narrow(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and x.shape[1] < _NARROW
        and _LANES % x.shape[1] == 0
        and x.numel() % _LANES == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _NarrowBatchNormRelu(torch.autograd.Function):
    """Batch norm and ReLU of fewer than ``_NARROW`` channels in the memory format channels last.

    The memory is viewed as ``_LANES`` channels, in which each of the C channels occurs ``_LANES`` / C times. Kernels of
    torch compute the means, variances, the affine map and the sums of the gradient for the ``_LANES`` channels, from
    which those of the C channels follow.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Return the ReLU of the normalised input and update the running statistics."""
        channels, count = x.shape[1], x.numel() // x.shape[1]
        copies = _LANES // channels
        wide = _widened(x)
        # With weights in float32, the means and deviations are in float32 too.
        ones, zeros = torch.ones(_LANES), torch.zeros(_LANES)
        _, means, inverse_deviations = torch.native_batch_norm(wide, ones, zeros, None, None, True, 0.0, eps)
        means, deviations = means.view(copies, channels).double(), inverse_deviations.view(copies, channels).double()
        exact_mean = means.mean(dim=0)
        # The mean of the variances of the copies, plus the variance of their means.
        exact_var = deviations.pow(-2).mean(dim=0) - eps + (means - exact_mean).square().mean(dim=0)
        mean, var = exact_mean.float(), exact_var.clamp(min=0).float()
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (count / (count - 1)), momentum)
        out = _narrowed(_affine(wide, weight, bias, mean, var, eps), x).relu_()
        ctx.save_for_backward(x, weight, mean, var, out)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``weight`` and ``bias``."""
        x, weight, mean, var, out = ctx.saved_tensors
        channels, count = x.shape[1], x.numel() // x.shape[1]
        copies = _LANES // channels
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        wide = _widened(x)
        statistics = [values.repeat(copies) for values in (weight, mean, var)]
        wide_x, wide_weight, wide_bias = torch.ops.aten.native_batch_norm_backward(
            _widened(gradient), wide, statistics[0], *statistics[1:], None, None, False, ctx.eps, [True, True, True]
        )
        of_weight = wide_weight.view(copies, channels).sum(dim=0)
        of_bias = wide_bias.view(copies, channels).sum(dim=0)
        # The contribution of the statistics, which depend on x too: an affine function of x in each channel.
        inverse = (var + ctx.eps).rsqrt()
        slope = -weight * inverse.square() * of_weight / count
        offset = -weight * inverse * of_bias / count - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(var)
        wide_x.add_(_affine(wide, slope, offset, zero, one, 0.0))
        return _narrowed(wide_x, x), of_weight, of_bias, None, None, None, None


def _affine(wide: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Return (x − mean) / √(var + ε) · weight + bias for C channels viewed as ``_LANES``."""
    weight, bias, mean, var = (value.repeat(_LANES // len(value)) for value in (weight, bias, mean, var))
    return torch.native_batch_norm(wide, weight, bias, mean, var, False, 0.0, eps)[0]


def _widened(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (1, ``_LANES``, …, 1), channels last."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, _LANES).permute(0, 3, 1, 2)


def _narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """Undo `_widened`."""
    n, channels, height, width = like.shape
    return wide.permute(0, 2, 3, 1).reshape(n, height, width, channels).permute(0, 3, 1, 2)


class _Convolution3x3(torch.autograd.Function):
    """3×3 convolution with padding 1 as a matrix product, (positions, 9 C) by (9 C, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve (N, C, H, W) with (K, C, 3, 3), both bfloat16, into (N, K, H, W), channels last."""
        ctx.save_for_backward(x, weight)
        n, _, height, width = x.shape
        return (_patches(x) @ _flat(weight).T).view(n, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x`` and ``weight``."""
        x, weight = ctx.saved_tensors
        n, channels, height, width = x.shape
        of_x = of_weight = None
        rows = gradients[0].permute(0, 2, 3, 1).reshape(n * height * width, -1)
        if ctx.needs_input_grad[1]:
            of_weight = (rows.T @ _patches(x)).view(-1, 3, 3, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            pieces = (rows @ _flat(weight)).view(n, height, width, 3, 3, channels)
            # In float32, because nine values are added.
            padded = torch.zeros(n, height + 2, width + 2, channels)
            for row in range(3):
                for column in range(3):
                    padded[:, row : row + height, column : column + width] += pieces[:, :, :, row, column]
            of_x = padded[:, 1:-1, 1:-1].to(x.dtype).permute(0, 3, 1, 2)
        return of_x, of_weight


def _patches(x: Tensor) -> Tensor:
    """Return the 3×3 patches of (N, C, H, W) as rows, (N · H · W, 9 C), channels last."""
    n, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    patches = padded.new_empty((n, height, width, 3, 3, channels))
    for row in range(3):
        for column in range(3):
            patches[:, :, :, row, column] = padded[:, row : row + height, column : column + width]
    return patches.view(n * height * width, 9 * channels)


def _flat(weight: Tensor) -> Tensor:
    """Return (K, C, 3, 3) as (K, 9 C), in the order of `_patches`."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
