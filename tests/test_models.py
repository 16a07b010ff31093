import io

import pytest
import torch
from torch import Tensor, nn

from ser.errors import UserError
from ser.models import MODELS, Cnn14, build_model
from ser.models.cnn14 import ConvBlock

NARROW = 0.125
EMBEDDING_SIZES = {"cnn14": 2048}


@pytest.fixture(autouse=True)
def seeded_single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def log_mel(samples: int = 3, frames: int = 50) -> Tensor:
    return torch.randn(samples, frames, 64, generator=torch.Generator().manual_seed(1)) * 10 - 30


@pytest.fixture(params=sorted(MODELS))
def name(request):
    return request.param


@pytest.fixture
def model(name) -> nn.Module:
    return build_model(name, 5, NARROW)


# The battery: every model.


def test_every_model_is_in_the_battery():
    assert set(EMBEDDING_SIZES) == set(MODELS)


@pytest.mark.parametrize("frames", [32, 33, 101])
def test_logits_and_embeddings_have_their_shapes_from_32_frames_on(name, model, frames):
    x = log_mel(2, frames)
    assert model(x).shape == (2, 5)
    embedding = model.embed(x)
    assert embedding.shape == (2, EMBEDDING_SIZES[name] * NARROW)
    assert embedding.min() == 0  # after a ReLU


@pytest.mark.parametrize(("width", "share"), [(1.0, 1), (0.5, 2), (0.25, 4), (0.125, 8)])
def test_width_scales_the_embedding(name, width, share):
    with torch.device("meta"):
        model = build_model(name, 4, width)
        assert model.embed(torch.empty(2, 40, 64)).shape == (2, EMBEDDING_SIZES[name] // share)


def test_fewer_than_32_frames_are_refused_with_the_number_needed(model):
    with pytest.raises(ValueError, match=r"31 frames are too few.*at least 32"):
        model(log_mel(2, 31))


@pytest.mark.parametrize("shape", [(2, 50, 65), (50, 64), (2, 1, 50, 64)])
def test_another_shape_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"\(N, T, 64\)"):
        model(torch.zeros(shape))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model(name, 5, NARROW).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_evaluation_is_deterministic_and_training_drops_out(model):
    x = log_mel()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_in_evaluation_an_utterance_does_not_depend_on_its_batch(model):
    x = log_mel()
    model.eval()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_logits_are_the_head_of_the_embedding(model):
    x = log_mel()
    model.eval()
    torch.testing.assert_close(model(x), model.head(model.embed(x)))


def test_gradient_reaches_every_parameter(model):
    model(log_mel()).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_saved_model_loads_and_gives_the_same_logits(name, model):
    x = log_mel()
    model(x)  # moves the running statistics off their initial values
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build_model(name, 5, NARROW)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(model.eval()(x), other.eval()(x))


def test_channels_last_weights_give_the_same_logits_and_keep_the_layout_throughout(model):
    x = log_mel()
    expected = model.eval()(x)
    model.to(memory_format=torch.channels_last)
    layouts = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _module, _inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert layouts
    assert all(layouts)


def test_bfloat16_autocast_is_close_to_float32_and_trains(model):
    x = log_mel()
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
    torch.testing.assert_close(logits.float(), model(x), rtol=0.05, atol=0.05)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_weights_start_as_xavier_uniform_with_zero_biases_and_unit_batch_norm(model):
    for module in model.modules():
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


# Building by name.


def test_a_misspelt_model_is_told_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown model 'cnn41'. Did you mean 'cnn14'"):
        build_model("cnn41", 4, 1.0)


@pytest.mark.parametrize("width", [0, -1.0, 2.01, float("nan"), float("inf"), "wide", True, None])
def test_a_width_out_of_range_is_refused(name, width):
    with pytest.raises(UserError, match="model width must be a number > 0 and <= 2"):
        build_model(name, 4, width)


# CNN14 itself.


def test_cnn14_with_527_classes_has_the_published_number_of_trainable_parameters():
    with torch.device("meta"):
        model = Cnn14(527)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 80_753_615


def test_cnn14_names_its_state_as_panns_does():
    statistics = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    expected = {f"bn0.{key}" for key in statistics}
    for block in range(1, 7):
        expected |= {f"conv_block{block}.conv{i}.weight" for i in (1, 2)}
        expected |= {f"conv_block{block}.bn{i}.{key}" for i in (1, 2) for key in statistics}
    expected |= {f"{layer}.{key}" for layer in ("fc1", "head") for key in ("weight", "bias")}
    with torch.device("meta"):
        assert set(Cnn14(4).state_dict()) == expected


@pytest.mark.parametrize(("width", "first", "last"), [(1.0, 64, 2048), (0.25, 16, 512), (0.125, 8, 256)])
def test_cnn14_doubles_its_channels_from_block_to_block(width, first, last):
    with torch.device("meta"):
        model = Cnn14(4, width)
    channels = [getattr(model, f"conv_block{block}").conv2.weight.shape[0] for block in range(1, 7)]
    assert channels == [first * 2**i for i in range(6)]
    assert channels[-1] == model.embedding_size == last


def passing_through() -> Cnn14:
    """A CNN14 whose convolutions average the channels at each place and whose ``fc1`` changes nothing."""
    model = Cnn14(2, width=1 / 64).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.weight[:, :, 1, 1] = 1 / module.in_channels
        model.fc1.weight.copy_(torch.eye(model.embedding_size))
    return model


def test_pooling_averages_then_takes_the_mean_over_mel_and_maximum_plus_mean_over_time():
    x = torch.zeros(4, 64, 64)
    x[0] = 1.5  # constant: 1.5 + 1.5
    x[1, 32:] = 2.0  # a step in time: maximum 2 + mean 1
    x[2, :, 32:] = 4.0  # a step in mel: 2 everywhere, so 2 + 2
    x[3, :, ::2] = 1.0  # every other bin: the first pooling makes it ½ everywhere
    embedding = passing_through().embed(x)
    # Thirteen batch normalisations with an epsilon of 1e-5 each shrink by .0065 % in all.
    torch.testing.assert_close(embedding, torch.tensor([[3.0], [3.0], [4.0], [1.0]]).expand(4, 32), rtol=1e-3, atol=0)


def test_dropout_is_a_fifth_after_each_block_and_a_half_around_fc1(monkeypatch):
    rates = []
    monkeypatch.setattr("ser.models.cnn14.F.dropout", lambda x, p, training: rates.append((p, training)) or x)
    Cnn14(2, width=NARROW)(log_mel(2, 32))
    assert rates == [(0.2, True)] * 6 + [(0.5, True)] * 2


def test_bn0_normalises_each_mel_bin_over_batch_and_time():
    model = Cnn14(2, width=NARROW)
    x = log_mel() + torch.arange(64.0)
    model.embed(x)
    torch.testing.assert_close(model.bn0.running_mean, 0.1 * x.mean(dim=(0, 1)))


def test_a_block_keeps_time_and_mel_and_is_never_negative():
    block = ConvBlock(1, 8)
    output = block(torch.randn(2, 1, 10, 6))
    assert output.shape == (2, 8, 10, 6)
    assert output.min() >= 0
