"""One battery over all networks. Tests of a single network are in the file named after it."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ser.features.front_ends import FRONT_ENDS
from ser.models import MODELS, Classifier, build_model
from ser.models.__main__ import print_models
from ser.utils.errors import UserError
from ser.utils.printing import make_console

NARROW = 0.125
EMBEDDING_SIZES = {
    "cnn14": (2048, 256),
    "cnn10": (512, 64),
    "cnn6": (512, 64),
    "bilstm": (300, 38),  # 150 units are 18.75, rounded 19, in either direction
}
"""At width 1 and .125."""
SHORTEST = {"cnn14": 32, "cnn10": 16, "cnn6": 16, "bilstm": 1}
WITH_DROPOUT = set(MODELS) - {"bilstm"}


@pytest.fixture(autouse=True)
def seeded_single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def features(name: str, samples: int = 3, frames: int | None = None) -> Tensor:
    """Return random input in the range of the front end: 70 frames of a spectrogram."""
    bins = FRONT_ENDS[MODELS[name].front_end].size
    return torch.randn(samples, frames or 70, bins, generator=torch.Generator().manual_seed(1)) * 10 - 30


def settled(name: str, dropout: float = 1.0) -> Classifier:
    """Return a network in evaluation mode with batch norm statistics of data."""
    torch.manual_seed(0)
    model = build_model(name, 5, NARROW, dropout)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the statistics of this one batch
    model(features(name))
    return model.eval()


@pytest.fixture(params=sorted(MODELS))
def name(request):
    return request.param


@pytest.fixture
def model(name) -> Classifier:
    return build_model(name, 5, NARROW)


def test_every_model_is_in_the_battery():
    assert set(EMBEDDING_SIZES) == set(SHORTEST) == set(MODELS)


def test_every_model_reads_existing_front_ends(name):
    kind = MODELS[name]
    assert kind.front_end in kind.front_ends
    assert set(kind.front_ends) <= set(FRONT_ENDS)
    assert len({FRONT_ENDS[front_end].size for front_end in kind.front_ends}) == 1


@pytest.mark.parametrize("more", [0, 1, 1000])
def test_logits_and_embeddings_have_their_shapes_from_the_shortest_input_on(name, model, more):
    x = features(name, 2, SHORTEST[name] + more)
    assert model(x).shape == (2, 5)
    assert model.embed(x).shape == (2, EMBEDDING_SIZES[name][1])


def test_fewer_frames_are_refused_with_the_number_needed(name, model):
    shortest = SHORTEST[name]
    with pytest.raises(ValueError, match=rf"{shortest - 1} frames are too few: at least {shortest} are needed"):
        model(features(name, 2, shortest)[:, 1:])


@pytest.mark.parametrize("change", [lambda x: x[0], lambda x: x.unsqueeze(1), lambda x: torch.cat([x, x], dim=2)])
def test_another_shape_is_refused(name, model, change):
    with pytest.raises(ValueError, match=r"features must be \(N, T, (64|1)\), got"):
        model(change(features(name)))


@pytest.mark.parametrize("width", [1.0, NARROW])
def test_width_scales_the_embedding(name, width):
    with torch.device("meta"):
        model = build_model(name, 4, width)
    assert model.embedding_size == model.head.in_features == EMBEDDING_SIZES[name][width == NARROW]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model(name, 5, NARROW).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_evaluation_is_deterministic_and_training_drops_out(name, model):
    x = features(name)
    model(x)
    assert torch.equal(model(x), model(x)) == (name not in WITH_DROPOUT)
    model.eval()
    assert torch.equal(model(x), model(x))


def test_no_dropout_is_left_at_a_factor_of_0(name):
    model, x = build_model(name, 5, NARROW, 0.0), features(name)
    assert torch.equal(model(x), model(x))


def test_in_evaluation_an_utterance_does_not_depend_on_its_batch(name):
    model, x = settled(name), features(name)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_logits_are_the_head_of_the_embedding(name):
    model, x = settled(name), features(name)
    torch.testing.assert_close(model(x), model.head(model.embed(x)))


def test_gradient_reaches_every_parameter(name):
    model, x = build_model(name, 5, NARROW, 0.0), features(name)
    model(x).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_saved_model_loads_and_gives_the_same_logits(name):
    model, x, file = settled(name), features(name), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build_model(name, 5, NARROW)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(model(x), other.eval()(x))


def test_channels_last_weights_give_the_same_logits_and_keep_the_layout_throughout(name):
    model, x = settled(name), features(name)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    layouts = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _module, _inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert all(layouts)
    layouts.clear()
    model(x, torch.tensor([x.shape[1], x.shape[1] - 5, x.shape[1] // 2]))
    assert all(layouts)
    assert bool(layouts) == name.startswith("cnn")


def test_bfloat16_autocast_is_close_to_float32_and_trains(name):
    model, x = settled(name, 0.0), features(name)
    lengths = torch.tensor([x.shape[1], x.shape[1] - 5, x.shape[1] // 2])
    for more in ((), (lengths,)):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, *more)
        expected = model(x, *more)
        torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.05 * expected.detach().abs().max().item())
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x, lengths).float().square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


# Lengths


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(MODELS))
def test_frames_after_its_end_do_not_change_an_utterance(name, data):
    model, x = SETTLED.setdefault(name, settled(name)), features(name)
    frames = x.shape[1]
    lengths = torch.tensor(data.draw(st.lists(st.integers(SHORTEST[name], frames), min_size=3, max_size=3)))
    padding = data.draw(st.integers(0, 40))
    silence = FRONT_ENDS[model.front_end].silence
    padded = torch.cat([x, torch.zeros(3, padding, x.shape[2])], dim=1)
    fill = data.draw(st.sampled_from([silence, 100.0]))
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = fill
    with torch.no_grad():
        alone = torch.cat([model(x[i : i + 1, :length]) for i, length in enumerate(lengths)])
        torch.testing.assert_close(model(padded, lengths), alone, rtol=1e-4, atol=1e-5)


SETTLED: dict[str, Classifier] = {}


def test_without_lengths_the_padding_changes_the_result(name):
    model, x = settled(name), features(name)
    padded = torch.cat([x, torch.full_like(x, FRONT_ENDS[model.front_end].silence)], dim=1)
    whole = torch.full((3,), x.shape[1])
    assert (model(padded) - model(padded, whole)).abs().max() > 1e-3


def test_full_lengths_equal_no_lengths(name):
    model, x = settled(name), features(name)
    torch.testing.assert_close(model(x, torch.full((3,), x.shape[1])), model(x), rtol=1e-4, atol=1e-5)


def test_an_utterance_below_the_shortest_counts_as_that_long(name):
    model, x = settled(name), features(name)
    short, least = torch.tensor([0, 1, SHORTEST[name] - 1]), torch.full((3,), SHORTEST[name])
    assert torch.equal(model(x, short), model(x, least))


def test_lengths_beyond_the_tensor_are_cut_to_it(name):
    model, x = settled(name), features(name)
    torch.testing.assert_close(model(x, torch.full((3,), 10**6)), model(x), rtol=1e-4, atol=1e-5)


# Freezing


def test_a_frozen_base_trains_its_head_alone_and_is_as_in_evaluation(name):
    model, x = settled(name), features(name) * 2
    expected, before = model.embed(x), {key: value.clone() for key, value in model.state_dict().items()}
    model.freeze("base")
    model.train()
    assert model.training
    torch.testing.assert_close(model.embed(x), expected)
    model(x).square().sum().backward()
    trained = {key for key, p in model.named_parameters() if p.grad is not None}
    assert trained == {"head.weight", "head.bias"} == {key for key, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # batch norm's too


def test_a_model_without_frozen_modules_trains_in_all_of_them(name, model):
    model.freeze("none")
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.train().modules())


def test_no_convolutions_but_those_below_a_transformer_can_be_frozen(name, model):
    with pytest.raises(UserError, match=rf"freeze=convolutions: {type(model).__name__} has no.*base"):
        model.freeze("convolutions")


# Building by name


def test_a_misspelt_model_is_reported_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown model 'cnn41'. Did you mean 'cnn14'"):
        build_model("cnn41", 4, 1.0)


@pytest.mark.parametrize("name", ["microsoft/wavlm-base-plus", "HF:microsoft/wavlm-base-plus"])
def test_a_speech_encoder_without_its_prefix_is_reported_with_it(name):
    with pytest.raises(UserError, match=r"unknown model '.*speech encoder, write 'hf:microsoft/wavlm-base-plus'"):
        build_model(name, 4)


def test_the_list_mentions_speech_encoders(capsys):
    print_models(make_console())
    assert "hf:NAME_OR_FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize("width", [0, -1.0, 2.01, float("nan"), float("inf"), "wide", True, None])
def test_a_width_out_of_range_is_refused(name, width):
    with pytest.raises(UserError, match=r"model\.width must be a number > 0 and <= 2"):
        build_model(name, 4, width)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, float("nan")])
def test_a_dropout_out_of_range_is_refused(name, dropout):
    with pytest.raises(UserError, match=r"model\.dropout is"):
        build_model(name, 4, NARROW, dropout)
