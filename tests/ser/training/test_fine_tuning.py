"""Tests of the training loop with weights from a file, with frozen layers, and with waveforms."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.config import Config, ModelConfig
from ser.corpora import Corpus
from ser.features.store import FeatureStore, open_store
from ser.models import Classifier, build_model
from ser.splits import split
from ser.training.device import epoch_plan
from ser.training.device.features import DeviceFeatures
from ser.training.evaluation import SegmentedUtterances, predict
from ser.training.loop import EpochRecord, train
from ser.training.optimizer import make_optimizer
from ser.training.setup import check_weights, load_weights
from ser.training.task import Task, make_task
from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed
from tests.helpers.published_weights import panns_checkpoint, panns_state
from tests.helpers.tiny_encoders import tiny_encoder

SMALL = {
    "model.name": "cnn6",
    "model.width": 1 / 32,
    "optimizer.lr": 5e-3,
    "optimizer.warmup_ratio": 0,
    "training.epochs": 2,
    "training.batch_size": 6,
    "training.crop_seconds": 0.5,
    "training.precision": "float32",
}
TINY = {**SMALL, "model.width": 1.0, "model.freeze": "none", "training.epochs": 1}


def config_of(base: dict[str, Any] = SMALL, **changes: Any) -> Config:
    return Config.from_dotted(base | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture
def task(task_at: Callable[..., Task]) -> Task:
    return task_at("symmetric:0.25")


@pytest.fixture(scope="module")
def wave_task(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Task:
    store = open_store(tones, "waveform_16k", tmp_path_factory.mktemp("waveforms"))
    return make_task(tones, split(tones), store.path, "clean", 0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Write a file of weights like the published ones, for the small CNN6 on 16 kHz."""
    torch.manual_seed(11)
    path = tmp_path / "cnn6.pth"
    torch.save(panns_checkpoint(panns_state(build_model("cnn6", 2, 1 / 32), "panns_16k")), path)
    return path


@pytest.fixture(scope="module", params=["Wav2Vec2", "WavLM"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the configuration of a tiny speech encoder that is fine-tuned."""
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param, seed=12)
    return {**TINY, "model.name": f"hf:{folder}"}


def weights_of(record: EpochRecord) -> dict[str, Tensor]:
    return copy.deepcopy(record.state["model"])


def run(config: Config, task: Task, **more: Any) -> list[EpochRecord]:
    return [replace(record, state=copy.deepcopy(record.state)) for record in train(config, task, seed=0, **more)]


def moved(config: Config, task: Task, start: dict[str, Tensor]) -> set[str]:
    """Return the names of the parameters in ``start`` that an epoch changes."""
    (first, *_) = train(config, task, seed=0)
    return {name for name, value in weights_of(first).items() if name in start and not torch.equal(value, start[name])}


# Weights from a file


def test_training_starts_from_the_weights_of_the_file(task: Task, weights: Path) -> None:
    state = torch.load(weights, weights_only=False)["model"]
    config = config_of(model__pretrained=str(weights), model__freeze="base")
    (first, *_) = run(config, task)
    body = {name for name in first.state["model"] if not name.startswith("head.")}
    assert all(torch.equal(first.state["model"][name], state[name]) for name in body)
    assert moved(config_of(model__pretrained=str(weights)), task, state) == body


def test_the_class_head_is_that_of_a_run_from_scratch(task: Task, weights: Path, monkeypatch: Any) -> None:
    heads = []
    freeze = Classifier.freeze
    monkeypatch.setattr(
        Classifier, "freeze", lambda model, what: heads.append(model.head.weight.clone()) or freeze(model, what)
    )
    for changes in ({}, {"model__pretrained": str(weights)}):
        next(train(config_of(**changes), task, seed=0))  # type: ignore[call-overload]
    starts = [head for head in heads if not head.is_meta]
    assert len(starts) == 2
    assert torch.equal(*starts)


def test_a_resumed_run_needs_the_file_no_more(task: Task, weights: Path) -> None:
    config = config_of(model__pretrained=str(weights), optimizer__base_lr_factor=0.5)
    first, last = run(config, task)
    weights.unlink()
    (resumed,) = run(config, task, state=first.state)
    assert resumed.metrics == last.metrics
    assert all(torch.equal(value, last.state["model"][name]) for name, value in resumed.state["model"].items())


@pytest.mark.parametrize("way", [check_weights, None])
def test_weights_of_another_front_end_are_refused_before_an_epoch(
    task: Task, weights: Path, way: Callable[..., None] | None
) -> None:
    torch.save(panns_state(build_model("cnn6", 2, 1 / 32), "panns_32k"), weights)
    config = config_of(model__pretrained=str(weights))
    with pytest.raises(UserError, match=r"Set model\.front_end=panns_32k"):
        next(train(config, task, seed=0)) if way is None else way(config.model)  # type: ignore[call-overload]
    check_weights(config_of(model__pretrained=str(weights), model__front_end="panns_32k").model)


def test_without_weights_there_is_nothing_to_check() -> None:
    check_weights(config_of().model)


def test_a_store_of_another_front_end_is_refused(task: Task, wave_task: Task) -> None:
    with pytest.raises(UserError, match=r"cnn6 reads front end panns_32k, but the feature store .* holds panns_16k"):
        next(train(config_of(model__front_end="panns_32k"), task, seed=0))  # type: ignore[call-overload]
    with pytest.raises(UserError, match="holds waveform_16k"):
        next(train(config_of(), wave_task, seed=0))  # type: ignore[call-overload]


# Frozen layers, and layers with a lower learning rate


def test_a_frozen_base_is_trained_in_its_head_alone(task: Task) -> None:
    torch.manual_seed(derived_seed(0, "model"))
    start = copy.deepcopy(build_model("cnn6", 2, 1 / 32).state_dict())
    assert moved(config_of(model__freeze="base"), task, start) == {"head.weight", "head.bias"}
    assert moved(config_of(), task, start) == set(start)


def test_the_base_learns_as_much_slower_as_asked(task: Task) -> None:
    """Compare the first steps, which Adam makes as large as the learning rate, whatever the gradient."""
    torch.manual_seed(derived_seed(0, "model"))
    start = copy.deepcopy(build_model("cnn6", 2, 1 / 32).state_dict())
    config = {"training__batch_size": 16, "optimizer__weight_decay": 0, "training__epochs": 1}
    steps = []
    for factor in (1.0, 0.1):
        (record,) = run(config_of(**config, optimizer__base_lr_factor=factor), task)
        step = {name: (value - start[name]).abs().max().item() for name, value in record.state["model"].items()}
        steps.append((step["head.weight"], step["fc1.weight"], step["bn0.bias"]))
        assert record.metrics["train/lr"] == 5e-3  # the head's
    assert steps[0] == pytest.approx([5e-3] * 3, rel=0.01)
    assert steps[1] == pytest.approx([5e-3, 5e-4, 5e-4], rel=0.01)


def test_weight_matrices_of_head_and_base_are_decayed_and_nothing_else(task: Task) -> None:
    config = config_of(optimizer__base_lr_factor=0.5, optimizer__weight_decay=0.1)
    model = build_model("cnn6", 2, 1 / 32)
    groups = make_optimizer(model, config.optimizer).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]: (group["factor"], group["weight_decay"]) for group in groups for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    for name, (factor, decay) in found.items():
        assert factor == (1.0 if name.startswith("head.") else 0.5)
        assert decay == (0.1 if name.endswith("weight") and ".bn" not in name and name != "bn0.weight" else 0.0)


# Waveforms


def test_a_network_on_the_waveform_trains_and_resumes(wave_task: Task, tiny: dict[str, Any]) -> None:
    config = config_of(tiny, training__epochs=2, model__freeze="convolutions")
    model = config.model.build(2)
    load_weights(model, config.model)
    start = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    first, last = run(config, wave_task)
    same = {name for name, value in start.items() if torch.equal(last.state["model"][name], value)}
    assert {name for name in start if ".feature_extractor." in name} <= same
    assert len(same) < len(start) / 2
    (resumed,) = run(config, wave_task, state=first.state)
    assert resumed.metrics == last.metrics


def test_masks_and_left_out_layers_are_drawn_from_the_seed_alone(wave_task: Task, tiny: dict[str, Any]) -> None:
    """A resumed run draws those of an uninterrupted one, whatever the generators did before."""
    config = config_of(
        tiny, training__epochs=2, model__layer_drop=0.4, model__mask_time_prob=0.3, model__mask_feature_prob=0.3
    )
    first, last = run(config, wave_task)
    np.random.seed(99)
    torch.manual_seed(99)
    (resumed,) = run(config, wave_task, state=first.state)
    assert resumed.metrics == last.metrics
    assert all(torch.equal(value, last.state["model"][name]) for name, value in resumed.state["model"].items())


def test_upper_layers_of_an_encoder_learn_faster_than_lower_ones(wave_task: Task, tiny: dict[str, Any]) -> None:
    """Compare the first steps, which Adam makes as large as the learning rate, whatever the gradient."""
    config = config_of(
        tiny, model__layer_lr_decay=0.5, model__frozen_layers=1, training__batch_size=16, optimizer__weight_decay=0,
        optimizer__base_lr_factor=0.1,
    )  # fmt: skip
    model = config.model.build(2)
    load_weights(model, config.model)
    model.freeze("none")
    groups = make_optimizer(model, config.optimizer).param_groups
    assert [group["factor"] for group in groups] == [1.0, 1.0, 0.1, 0.1, 0.05, 0.05]
    start = model.state_dict()
    (record,) = run(config, wave_task)
    moved = {
        place: max((record.state["model"][name] - start[name]).abs().max().item() for name in start if place in name)
        for place in ("encoder.layers.2.", "encoder.layers.1.", "encoder.layers.0.", "feature_", "pos_conv_embed")
    }
    assert list(moved.values()) == pytest.approx([5e-4, 2.5e-4, 0, 0, 0], rel=0.01)


def test_a_waveform_is_not_masked_by_spec_augment(
    wave_task: Task, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(epoch_plan, "spec_augment", refuse)
    run(config_of(tiny), wave_task)


def test_predictions_are_those_of_each_utterance_alone_where_the_network_is_given_lengths(
    wave_task: Task, store: FeatureStore, tiny: dict[str, Any]
) -> None:
    """Cut segments of .8 s, longer than some of the utterances."""
    waves, encoder = FeatureStore.open(wave_task.store), config_of(tiny).model
    exact = torch.autocast("cpu", torch.bfloat16, enabled=False)
    rows = np.array([3, 0, 4])
    for config, features, frames in ((ModelConfig("bilstm", width=0.1), store, 80), (encoder, waves, 12_800)):
        torch.manual_seed(0)
        model = config.build(2).eval()
        model.head.weight.data.mul_(20)
        of_cpu = DeviceFeatures(features, torch.device("cpu"))
        found = predict(model, SegmentedUtterances(of_cpu, rows, frames), exact)
        shortest = features.utterance(3)
        assert len(shortest) < frames
        with torch.no_grad():
            alone = model(torch.from_numpy(shortest.copy())[None]).double().softmax(dim=1)[0].numpy()
        assert found[0] == pytest.approx(alone, abs=1e-5)
        longer = predict(model, SegmentedUtterances(of_cpu, rows, 4 * frames), exact)
        assert longer[0] == pytest.approx(alone, abs=1e-5)
