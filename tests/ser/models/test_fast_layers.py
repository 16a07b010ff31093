"""The fast layers give the results of torch's own layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ser.models import build_model
from ser.models.layers import SWITCH, Dropout, _Convolution3x3, _is_narrow, batch_norm_relu, convolve_3x3


def _made(
    channels: int, *, seed: int = 0, scale: float = 1.0, shift: float = 0.0
) -> tuple[torch.Tensor, nn.BatchNorm2d]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((4, channels, 50, 16), generator=generator) * scale + shift
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(channels, generator=generator))
    return x.contiguous(memory_format=torch.channels_last), norm


def _run(x: torch.Tensor, norm: nn.BatchNorm2d, weights: torch.Tensor, *, plain: bool) -> list[torch.Tensor]:
    """Output, gradients of x, weight and bias, running mean and variance, all in float32."""
    norm.load_state_dict({**norm.state_dict(), "running_mean": torch.zeros_like(norm.bias)})
    norm.running_var.fill_(1.0)
    norm.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = F.relu(norm(x)) if plain else batch_norm_relu(x, norm)
    (out.float() * weights).sum().backward()
    return [
        v.detach().float().clone()
        for v in (out, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    ]


@pytest.mark.parametrize("channels", [1, 2, 4, 8])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (20.0, -40.0), (0.01, 0.0)])
def test_narrow_batch_norm_is_as_exact_as_torchs_own_in_bfloat16(channels: int, scale: float, shift: float) -> None:
    x, norm = _made(channels, scale=scale, shift=shift)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    rounded = x.bfloat16()
    assert _is_narrow(rounded)
    exact = _run(rounded.float(), norm, weights, plain=True)
    torchs = _run(rounded, norm, weights, plain=True)
    ours = _run(rounded, norm, weights, plain=False)
    for name, truth, theirs, mine in zip(
        ("out", "x", "weight", "bias", "mean", "var"), exact, torchs, ours, strict=True
    ):
        least = 1e-5 * float(truth.abs().max()) + 1e-6
        allowed = 1.5 * float((theirs - truth).square().mean().sqrt()) + least
        assert float((mine - truth).square().mean().sqrt()) <= allowed, name


def test_gradient_of_narrow_batch_norm_is_free_of_the_statistics_directions() -> None:
    # Before the ReLU, adding a constant to x, or scaling it, changes nothing: the gradient sums to 0 against both.
    x, norm = _made(8)
    nn.init.constant_(norm.bias, 50.0)  # the ReLU lets everything through
    x = x.bfloat16().requires_grad_()
    out = batch_norm_relu(x, norm)
    (out.float() * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert x.grad is not None
    gradient, values = x.grad.double(), x.detach().double()
    size = gradient.abs().sum(dim=(0, 2, 3))
    assert (gradient.sum(dim=(0, 2, 3)).abs() / size).max() < 2e-3
    centred = values - values.mean(dim=(0, 2, 3), keepdim=True)
    assert ((gradient * centred).sum(dim=(0, 2, 3)).abs() / size).max() < 2e-3


@pytest.mark.parametrize("case", ["float32", "evaluation", "contiguous", "wide", "odd"])
def test_everything_else_is_torchs_own(case: str) -> None:
    x, norm = _made({"wide": 16, "odd": 3}.get(case, 8))
    x = x if case == "float32" else x.bfloat16()
    x = x.contiguous() if case == "contiguous" else x
    norm.train(case != "evaluation")
    assert case == "evaluation" or not _is_narrow(x)
    twin = nn.BatchNorm2d(norm.num_features)
    twin.load_state_dict(norm.state_dict())
    twin.train(norm.training)
    assert torch.equal(batch_norm_relu(x, norm), F.relu(twin(x)))
    assert torch.equal(norm.running_var, twin.running_var)


@pytest.mark.parametrize(("shape", "outputs"), [((2, 8, 15, 2), 16), ((3, 5, 1, 1), 4), ((1, 512, 3, 4), 8)])
def test_convolution_as_a_product_is_as_exact_as_torchs_own_in_bfloat16(
    shape: tuple[int, ...], outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(shape[1], outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    weights = torch.randn((shape[0], outputs, *shape[2:]), generator=generator)
    with torch.no_grad():
        convolution.weight.copy_(torch.randn(convolution.weight.shape, generator=generator).bfloat16())
    called = []
    apply = _Convolution3x3.apply
    monkeypatch.setattr(_Convolution3x3, "apply", lambda *given: called.append(1) or apply(*given))

    def run(*, half: bool, ours: bool) -> list[torch.Tensor]:
        convolution.zero_grad()
        x = images.bfloat16().to(torch.bfloat16 if half else torch.float32).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = convolve_3x3(x, convolution) if ours else convolution(x)
        (out.float() * weights).sum().backward()
        assert x.grad is not None
        assert convolution.weight.grad is not None
        return [values.detach().float().clone() for values in (out, x.grad, convolution.weight.grad)]

    exact, torchs, ours = run(half=False, ours=True), run(half=True, ours=False), run(half=True, ours=True)
    assert len(called) == 1  # float32 is torch's own
    for name, truth, theirs, mine in zip(("out", "x", "weight"), exact, torchs, ours, strict=True):
        allowed = 1.5 * float((theirs - truth).square().mean().sqrt()) + 1e-6
        assert float((mine - truth).square().mean().sqrt()) <= allowed, name


def test_a_frozen_convolution_takes_no_gradient() -> None:
    x = torch.randn(2, 4, 5, 2).bfloat16().requires_grad_()
    convolution = nn.Conv2d(4, 3, 3, padding=1, bias=False).requires_grad_(requires_grad=False).bfloat16()
    convolve_3x3(x, convolution).sum().backward()
    assert x.grad is not None
    assert convolution.weight.grad is None


@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize("shape", [(3, 7), (2, 8, 33, 16)])
def test_dropout_zeroes_that_share_and_keeps_the_mean(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dropout = Dropout(p)
    x = torch.ones((64, *shape[1:]) if len(shape) == 4 else (2000, *shape[1:]))
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    out = dropout(x)
    out.sum().backward()
    n = x.numel()
    zeros = int((out == 0).sum())
    assert abs(zeros - p * n) < 5 * (p * (1 - p) * n) ** 0.5
    assert torch.equal(out[out != 0], torch.full((n - zeros,), 1 / (1 - p)))
    assert torch.equal(x.grad, out.detach())
    # Neither the four values of a random number nor neighbours go together.
    kept = (
        (out.detach() != 0).double().permute(0, 2, 3, 1).flatten()
        if x.ndim == 4
        else (out.detach() != 0).double().flatten()
    )
    for lag in (1, 2, 3, 4):
        agreement = float(((kept[lag:] - 1 + p) * (kept[:-lag] - 1 + p)).mean()) / (p * (1 - p))
        assert abs(agreement) < 5 / n**0.5
    assert not torch.equal(dropout(x), out)
    torch.manual_seed(0)
    assert torch.equal(dropout(x), out)


def test_dropout_of_nothing_of_all_and_in_evaluation() -> None:
    x = torch.randn(5, 8)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert torch.equal(Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize("name", ["cnn14", "cnn10", "cnn6"])
def test_a_narrow_network_learns_under_bfloat16_as_with_torchs_layers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses() -> list[float]:
        torch.manual_seed(0)
        model = build_model(name, 4, 0.125, 0.0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        x = torch.randn((8, 64, 64), generator=torch.Generator().manual_seed(3)) * 20 - 40
        y = torch.arange(8) % 4
        found = []
        for _ in range(4):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        return found

    fast = losses()
    monkeypatch.setenv(SWITCH, "0")
    own = losses()
    assert own == pytest.approx(fast, rel=0.1)
    monkeypatch.setattr("ser.models.panns.batch_norm_relu", lambda x, norm: F.relu(norm(x)))
    monkeypatch.setattr("ser.models.panns.convolve_3x3", lambda x, convolution: convolution(x))
    assert losses() == own


def test_the_switch_selects_torchs_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(4, 100)

    def mask(layer: nn.Module) -> torch.Tensor:
        torch.manual_seed(0)
        return layer(x)

    assert not torch.equal(mask(Dropout(0.5)), mask(nn.Dropout(0.5)))
    monkeypatch.setenv(SWITCH, "0")
    assert torch.equal(mask(Dropout(0.5)), mask(nn.Dropout(0.5)))


@pytest.mark.parametrize("name", ["cnn14", "cnn10", "cnn6"])
def test_in_float32_the_switch_changes_no_digit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn((4, 64, 64), generator=torch.Generator().manual_seed(3)) * 20 - 40

    def gradients() -> torch.Tensor:
        torch.manual_seed(0)
        model = build_model(name, 4, 0.125, 0.0)
        model(x).square().sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    fast = gradients()
    monkeypatch.setenv(SWITCH, "0")
    assert torch.equal(gradients(), fast)
