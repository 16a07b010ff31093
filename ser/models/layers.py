"""Layers that give what torch's own give, in less time on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Values that torch's batch norm works on at a time when channels come last; with fewer channels it goes one by one.
_LANES = 64
_NARROW = 16

# Where a convolution is faster as a matrix product.
_FEW_COLUMNS, _SOME_COLUMNS, _MANY_CHANNELS = 2, 4, 512


def batch_norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """ReLU of a batch norm.

    In training, few channels in bfloat16 on a CPU are normalised in groups of ``_LANES`` values; the statistics, the
    result and the gradient are the same up to rounding, and several times faster (docs/performance.md).

    Args:
        x: (N, C, H, W).
        norm: The batch norm of C channels; in training its running statistics are updated.

    Returns:
        (N, C, H, W).
    """
    if norm.training and _is_narrow(x):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        values = (x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
        narrow: Tensor = _NarrowBatchNormRelu.apply(*values)  # type: ignore[no-untyped-call]
        return narrow
    return F.relu_(norm(x))


def convolve_3x3(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 3×3 convolution that keeps the size, without bias.

    Under bfloat16 on a CPU, images of few columns are convolved as one matrix product, where torch's own convolution
    reaches a third of the speed (docs/performance.md).

    Args:
        x: (N, C, H, W).
        convolution: With padding 1.

    Returns:
        (N, K, H, W).
    """
    columns, channels = x.shape[3], x.shape[1]
    few = columns <= _FEW_COLUMNS or (columns <= _SOME_COLUMNS and channels >= _MANY_CHANNELS)
    if not (few and x.device.type == "cpu" and _is_bfloat16(x)):
        return convolution(x)  # type: ignore[no-any-return]
    product: Tensor = _Convolution3x3.apply(x.bfloat16(), convolution.weight.bfloat16())  # type: ignore[no-untyped-call]
    return product


class Dropout(nn.Dropout):
    """Dropout whose masks, on a CPU, take four values from each random number; p is rounded to 1/65,536 there."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; in training, zeros with probability p, and the rest divided by 1 − p."""
        x = input
        if not self.training or x.device.type != "cpu" or not 0 < self.p < 1 or not _is_dense(x):
            return F.dropout(x, self.p, self.training)
        # 64 random bits, from the lowest to the highest number, are four numbers of 16.
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: x.numel()] >= round(self.p * 2**16) - 2**15
        factor = kept.to(x.dtype).mul_(1 / (1 - self.p))
        return x * factor.as_strided(x.size(), x.stride())


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _is_bfloat16(x: Tensor) -> bool:
    """Whether a convolution of x runs in bfloat16."""
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
    """Batch norm and ReLU of fewer than ``_NARROW`` channels that come last.

    Memory is seen as ``_LANES`` channels, of which every C-th is the same one. Torch's own kernels then give means
    and variances, the affine map, and in ``backward`` its sums, of ``_LANES`` channels; those of the C follow.
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
        """The normalised positive part; updates the running statistics."""
        channels, count = x.shape[1], x.numel() // x.shape[1]
        copies = _LANES // channels
        wide = _widened(x)
        # With these, means and deviations come in float32.
        ones, zeros = torch.ones(_LANES), torch.zeros(_LANES)
        _, means, inverse_deviations = torch.native_batch_norm(wide, ones, zeros, None, None, True, 0.0, eps)
        means, deviations = means.view(copies, channels).double(), inverse_deviations.view(copies, channels).double()
        exact_mean = means.mean(dim=0)
        # Variance within the copies, and between them.
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
        """The gradients of ``x``, ``weight`` and ``bias``."""
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
        # What the statistics' own dependence on x takes off: a map of x, linear in each channel.
        inverse = (var + ctx.eps).rsqrt()
        slope = -weight * inverse.square() * of_weight / count
        offset = -weight * inverse * of_bias / count - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(var)
        wide_x.add_(_affine(wide, slope, offset, zero, one, 0.0))
        return _narrowed(wide_x, x), of_weight, of_bias, None, None, None, None


def _affine(wide: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """(x − mean) / √(var + ε) · weight + bias, of C channels seen as ``_LANES``."""
    weight, bias, mean, var = (value.repeat(_LANES // len(value)) for value in (weight, bias, mean, var))
    return torch.native_batch_norm(wide, weight, bias, mean, var, False, 0.0, eps)[0]


def _widened(x: Tensor) -> Tensor:
    """(N, C, H, W) with channels last, seen as (1, ``_LANES``, …, 1), channels last."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, _LANES).permute(0, 3, 1, 2)


def _narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """`_widened`'s inverse."""
    n, channels, height, width = like.shape
    return wide.permute(0, 2, 3, 1).reshape(n, height, width, channels).permute(0, 3, 1, 2)


class _Convolution3x3(torch.autograd.Function):
    """A 3×3 convolution with padding 1 as products of matrices: (positions, 9 C) by (9 C, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(N, C, H, W) and (K, C, 3, 3), both bfloat16 → (N, K, H, W), channels last."""
        ctx.save_for_backward(x, weight)
        n, _, height, width = x.shape
        return (_patches(x) @ _flat(weight).T).view(n, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of ``x`` and ``weight``."""
        x, weight = ctx.saved_tensors
        n, channels, height, width = x.shape
        of_x = of_weight = None
        rows = gradients[0].permute(0, 2, 3, 1).reshape(n * height * width, -1)
        if ctx.needs_input_grad[1]:
            of_weight = (rows.T @ _patches(x)).view(-1, 3, 3, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            pieces = (rows @ _flat(weight)).view(n, height, width, 3, 3, channels)
            # In float32, for nine values are added.
            padded = torch.zeros(n, height + 2, width + 2, channels)
            for row in range(3):
                for column in range(3):
                    padded[:, row : row + height, column : column + width] += pieces[:, :, :, row, column]
            of_x = padded[:, 1:-1, 1:-1].to(x.dtype).permute(0, 3, 1, 2)
        return of_x, of_weight


def _patches(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N · H · W, 9 C): what each position's kernel covers, channels last."""
    n, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    patches = padded.new_empty((n, height, width, 3, 3, channels))
    for row in range(3):
        for column in range(3):
            patches[:, :, :, row, column] = padded[:, row : row + height, column : column + width]
    return patches.view(n * height * width, 9 * channels)


def _flat(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) → (K, 9 C), in the order of `_patches`."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
