"""Tests of the head on the stored layers of a frozen encoder."""

import pytest
import torch

from ser.config import OptimizerConfig
from ser.models.encoders.head import LayerHead
from ser.models.encoders.parameters import EncoderParameters
from ser.training.optimizer import make_optimizer
from ser.utils.errors import UserError

LAYERS, SIZE, CLASSES = 3, 5, 4


def head(**parameters: str) -> LayerHead:
    torch.manual_seed(0)
    return LayerHead(CLASSES, LAYERS, SIZE, EncoderParameters(**parameters))  # type: ignore[arg-type]


def stored(count: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (count, 2, L + 1, E) statistics, and the same as rows of a feature store."""
    statistics = torch.randn(count, 2, LAYERS + 1, SIZE, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    return statistics, statistics.reshape(count, 1, -1)


def test_the_weighted_sum_is_that_of_superb_on_frames() -> None:
    frames = torch.randn(2, LAYERS + 1, 7, SIZE, generator=torch.Generator().manual_seed(0))  # (N, layers, F, E)
    model = head().eval()
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    shares = torch.tensor([0.0, 1.0, -1.0, 2.0]).softmax(dim=0)
    expected = (shares[None, :, None, None] * frames).sum(dim=1).mean(dim=1)
    statistics = torch.stack([frames.mean(dim=2), frames.std(dim=2)], dim=1)
    embedding = model.embed(statistics.reshape(2, 1, -1))
    scale = (model.norm.running_var + model.norm.eps).sqrt()
    assert torch.allclose(embedding * scale + model.norm.running_mean, expected, atol=1e-6)


@pytest.mark.parametrize(("layers", "position"), [("0", 0), ("2", 2), ("3", 3), ("last", 3)])
def test_a_single_layer_is_read(layers: str, position: int) -> None:
    statistics, rows = stored()
    model = head(layers=layers).eval()  # statistics of the norm are 0 and 1
    assert torch.allclose(model.embed(rows), statistics[:, 0, position] / (1 + model.norm.eps) ** 0.5)
    assert not hasattr(model, "layer_weights")


def test_mean_and_deviation_are_read_where_that_is_asked_for() -> None:
    statistics, rows = stored()
    model = head(layers="1", pooling="mean_std").eval()
    assert model.embedding_size == 2 * SIZE
    expected = torch.cat([statistics[:, 0, 1], statistics[:, 1, 1]], dim=1)
    assert torch.allclose(model.embed(rows), expected / (1 + model.norm.eps) ** 0.5)


def test_the_deviations_have_no_influence_on_the_mean() -> None:
    statistics, _ = stored()
    changed = statistics.clone()
    changed[:, 1] += 100
    model = head().eval()
    assert torch.equal(model.embed(statistics.reshape(6, 1, -1)), model.embed(changed.reshape(6, 1, -1)))


def test_a_training_batch_is_standardised_whatever_its_scale() -> None:
    statistics, _ = stored(40)
    statistics[..., 2] *= 1000  # pretrained encoders have a few channels of that kind
    model = head()
    model.freeze("base")  # as the training loop does: the encoder is frozen, the head is not
    found = model.train().embed(statistics.reshape(40, 1, -1))
    assert torch.allclose(found.mean(dim=0), torch.zeros(SIZE), atol=1e-4)
    assert torch.allclose(found.var(dim=0, correction=0), torch.ones(SIZE), atol=1e-3)


def test_a_batch_of_one_utterance_is_standardised_as_in_evaluation() -> None:
    model = head().train()
    for seed in range(200):
        model.embed(stored(seed=seed)[1])
    _, rows = stored(1)
    before = model.norm.running_mean.clone()
    found = model.embed(rows)
    assert torch.equal(found, model.eval().embed(rows))
    assert torch.equal(before, model.norm.running_mean)


def test_all_parameters_are_trained_at_the_full_rate() -> None:
    model = head()
    groups = make_optimizer(model, OptimizerConfig(base_lr_factor=0.02)).param_groups
    assert {group["factor"] for group in groups} == {1.0}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters())) == 3
    model(stored()[1]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_class_follows_from_a_single_layer_and_its_weight_grows() -> None:
    statistics, _ = stored(200)
    labels = (statistics[:, 0, 2, 0] > 1).long()
    model = head()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(statistics.reshape(200, 1, -1)), labels).backward()
        optimizer.step()
    assert int(model.layer_weights.argmax()) == 2
    accuracy = (model.eval()(statistics.reshape(200, 1, -1)).argmax(dim=1) == labels).float().mean()
    assert accuracy > 0.9


def test_a_layer_that_the_encoder_lacks_is_reported() -> None:
    with pytest.raises(UserError, match=r"model.layers is 4, but the encoder has layers 0 to 3"):
        head(layers="4")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", "first"),
        ("layers", "-1"),
        ("frozen_layers", -1),
        ("layer_lr_decay", 0.0),
        ("layer_lr_decay", 1.5),
        ("layer_drop", 1.0),
        ("mask_time_prob", -0.1),
        ("mask_feature_prob", 1.0),
    ],
)
def test_a_parameter_out_of_range_is_reported(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"model\.{key} is '?{value}"):
        EncoderParameters(**{key: value})  # type: ignore[arg-type]
