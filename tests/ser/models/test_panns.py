"""CNN14, CNN10 and CNN6 are the published networks."""

import pytest
import torch
from torch import Tensor, nn

from ser.models import Cnn6, Cnn10, Cnn14
from ser.models.layers import Dropout
from ser.models.panns import ConvBlock, ConvBlock5x5, Panns

NARROW = 0.125
KINDS = [Cnn14, Cnn10, Cnn6]
STATISTICS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


@pytest.fixture(autouse=True)
def seeded_single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def log_mel(samples: int = 3, frames: int = 50) -> Tensor:
    return torch.randn(samples, frames, 64, generator=torch.Generator().manual_seed(1)) * 10 - 30


@pytest.mark.parametrize(("kind", "count"), [(Cnn14, 80_753_615), (Cnn10, 5_219_279), (Cnn6, 4_837_455)])
def test_with_527_classes_they_have_the_published_numbers_of_trainable_parameters(kind, count):
    with torch.device("meta"):
        model = kind(527)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


@pytest.mark.parametrize(("kind", "blocks", "layers"), [(Cnn14, 6, 2), (Cnn10, 4, 2), (Cnn6, 4, 1)])
def test_their_state_is_named_as_panns_names_it(kind, blocks, layers):
    expected = {f"bn0.{key}" for key in STATISTICS}
    for block in range(1, blocks + 1):
        expected |= {f"conv_block{block}.conv{i}.weight" for i in range(1, layers + 1)}
        expected |= {f"conv_block{block}.bn{i}.{key}" for i in range(1, layers + 1) for key in STATISTICS}
    expected |= {f"{layer}.{key}" for layer in ("fc1", "head") for key in ("weight", "bias")}
    with torch.device("meta"):
        assert set(kind(4).state_dict()) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "first"), [(1.0, 64), (0.25, 16), (0.125, 8)])
def test_channels_double_from_block_to_block(kind, width, first):
    with torch.device("meta"):
        model = kind(4, width)
    blocks = len(kind.channels)
    channels = [getattr(model, f"conv_block{block}").conv1.weight.shape[0] for block in range(1, blocks + 1)]
    assert channels == [first * 2**i for i in range(blocks)]
    assert channels[-1] == model.embedding_size


def passing_through(kind: type[Panns]) -> Panns:
    """A network whose convolutions average the channels at each place and whose ``fc1`` changes nothing."""
    model = kind(2, width=1 / 64).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                centre = module.kernel_size[0] // 2
                module.weight.zero_()
                module.weight[:, :, centre, centre] = 1 / module.in_channels
        model.fc1.weight.copy_(torch.eye(model.embedding_size))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_averages_then_takes_the_mean_over_mel_and_maximum_plus_mean_over_time(kind):
    x = torch.zeros(4, 64, 64)
    x[0] = 1.5  # constant: 1.5 + 1.5
    x[1, 32:] = 2.0  # a step in time: maximum 2 + mean 1
    x[2, :, 32:] = 4.0  # a step in mel: 2 everywhere, so 2 + 2
    x[3, :, ::2] = 1.0  # every other bin: the first pooling makes it ½ everywhere
    model = passing_through(kind)
    expected = torch.tensor([[3.0], [3.0], [4.0], [1.0]]).expand(4, model.embedding_size)
    # Up to thirteen batch normalisations with an epsilon of 1e-5 each shrink by .0065 % in all.
    torch.testing.assert_close(model.embed(x), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("kind", "length", "pulse", "expected"),
    [
        # One frame of 32 in a pooled frame of 32: 1/32·32 = 1. Maximum 1, mean over the valid pooled frames.
        (Cnn14, 64, 0, 1 + 1 / 2),
        (Cnn14, 63, 0, 1 + 1),  # the second pooled frame is not whole
        (Cnn14, 64, 63, 1 + 1 / 2),
        (Cnn14, 63, 63, 0),
        (Cnn14, 5, 31, 1 + 1),  # shorter than a pooled frame: padding up to it counts
        (Cnn10, 64, 0, 0.5 * 32 / 16 + 0.5 * 32 / 16 / 4),
        (Cnn10, 63, 0, 0.5 * 32 / 16 + 0.5 * 32 / 16 / 3),
        (Cnn6, 48, 47, 1 + 1 / 3),
        (Cnn6, 47, 47, 0),
    ],
)
def test_time_is_pooled_over_whole_valid_frames_alone(kind, length, pulse, expected):
    x = torch.zeros(1, 64, 64)
    x[0, pulse] = 32.0 if kind is Cnn14 else 16.0
    embedding = passing_through(kind).embed(x, torch.tensor([length]))
    torch.testing.assert_close(embedding, torch.full_like(embedding, expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_a_fifth_after_each_block_and_a_half_around_fc1(kind, monkeypatch):
    rates = []
    monkeypatch.setattr(Dropout, "forward", lambda self, x: rates.append((self.p, self.training)) or x)
    kind(2, width=NARROW)(log_mel(2, 32))
    assert rates == [(0.2, True)] * len(kind.channels) + [(0.5, True)] * 2


def test_bn0_normalises_each_mel_bin_over_batch_and_time():
    model = Cnn14(2, width=NARROW)
    x = log_mel() + torch.arange(64.0)
    model.embed(x)
    torch.testing.assert_close(model.bn0.running_mean, 0.1 * x.mean(dim=(0, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_is_what_a_relu_gives(kind):
    assert kind(2, width=NARROW).embed(log_mel()).min() == 0


@pytest.mark.parametrize(("block", "convolutions"), [(ConvBlock, 2), (ConvBlock5x5, 1)])
def test_a_block_keeps_time_and_mel_and_is_never_negative(block, convolutions):
    layer = block(1, 8)
    output = layer(torch.randn(2, 1, 10, 6))
    assert output.shape == (2, 8, 10, 6)
    assert output.min() >= 0
    assert sum(isinstance(module, nn.Conv2d) for module in layer.modules()) == convolutions


@pytest.mark.parametrize("kind", KINDS)
def test_weights_start_as_xavier_uniform_with_zero_biases_and_unit_batch_norm(kind):
    for module in kind(5, NARROW).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            receptive = module.weight[0, 0].numel()
            fan_sum = (module.weight.shape[0] + module.weight.shape[1]) * receptive
            bound = (6 / fan_sum) ** 0.5
            largest = module.weight.abs().max().item()
            assert 0.8 * bound < largest <= bound * (1 + 1e-6)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()
