"""Tests of the configuration of a speech encoder: its keys, its defaults, and what does not go together."""

from pathlib import Path
from typing import Any

import pytest

from ser.config import Config, model_defaults
from ser.models.encoders.head import LayerHead
from ser.models.encoders.network import Encoder
from ser.utils.errors import UserError
from tests.helpers.tiny_encoders import tiny_encoder


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_encoder(tmp_path_factory.mktemp('encoders') / 'tiny')}"


def config(name: str, **values: Any) -> Config:
    dotted = {key.replace("__", "."): value for key, value in values.items()}
    return Config.from_dotted({"model.name": name, **dotted})


def test_an_encoder_is_frozen_by_default_and_only_where_commands_say_so(name: str) -> None:
    values = {"model.name": name, **model_defaults(name)}
    frozen = Config.from_dotted(values)
    assert frozen.model.reads_embeddings
    assert isinstance(frozen.model.build(4), LayerHead)
    assert frozen.optimizer.base_lr_factor == 0.02
    assert isinstance(config(name).model.build(4), Encoder)


def test_a_configuration_is_the_same_after_it_has_been_stored(name: str) -> None:
    frozen = config(name, model__freeze="base", model__layers=2)
    assert frozen.model.encoder.layers == "2"
    tuned = config(name, model__layer_lr_decay=0.9, model__gradient_checkpointing=True)
    for chosen in (frozen, tuned):
        assert Config.from_dotted(chosen.to_dotted()) == chosen


def test_other_models_have_no_keys_of_encoders(name: str) -> None:
    own = config(name).to_dotted().keys() - Config().to_dotted().keys()
    assert own == {
        f"model.{key}"
        for key in (
            "revision", "pooling", "layers", "encoder_precision", "frozen_layers", "layer_lr_decay", "layer_drop",
            "mask_time_prob", "mask_feature_prob", "gradient_checkpointing",
        )
    }  # fmt: skip
    with pytest.raises(UserError, match=r"model\.layers is for speech encoders, but model\.name is cnn14\. Leave"):
        Config.from_dotted({"model.layers": "last"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.width", 0.5, r"model\.width is 0\.5, but model\.name is hf:.*, a speech encoder"),
        ("model.pretrained", "weights.pt", r"model\.pretrained is weights\.pt, but"),
        ("model.base", "cnn14", r"model\.base is cnn14, but"),
        ("model.front_end", "panns_16k", r"model\.front_end is panns_16k, log_mel .* reads waveform_16k"),
        ("model.layer", "last", r"unknown configuration key 'model\.layer'\. Did you mean 'model\.layers'"),
        ("model.pooling", "max", r"unknown value for model\.pooling 'max'"),
        ("model.gradient_checkpointing", 1, r"model\.gradient_checkpointing is 1; it must be true or false"),
        ("model.layers", "9", r"model\.layers is 9, but the encoder has layers 0 to 3"),
        ("model.layers", 2.5, r"model\.layers is '2\.5'; it must be weighted, last, or the number of a layer"),
    ],
)
def test_what_does_not_go_together_is_reported(name: str, key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config.from_dotted({"model.name": name, "model.freeze": "base", key: value})


def test_crops_that_are_longer_than_the_input_are_found_with_the_configuration(tmp_path: Path) -> None:
    whisper = f"hf:{tiny_encoder(tmp_path / 'whisper', 'Whisper')}"  # 1 s
    assert config(whisper, training__crop_seconds=1).training.crop_seconds == 1
    assert config(whisper, training__crop_seconds=5, model__freeze="base").model.reads_embeddings  # in parts
    with pytest.raises(UserError, match=r"whisper takes at most 1 s, got 1\.1 s\. Set training\.crop_seconds to"):
        config(whisper, training__crop_seconds=1.1)


def test_a_linear_probe_takes_no_encoder_as_its_base(name: str) -> None:
    with pytest.raises(UserError, match=r"model\.base is hf:.*, a speech encoder\. Name it itself: model\.name=hf:"):
        Config.from_dotted({"model.name": "embedding_head", "model.base": name})


def test_the_title_says_which_encoder_it_is_and_how_it_is_trained(name: str) -> None:
    assert config(name).model.title == "tiny, fine-tuned"
    assert config(name, model__freeze="base").model.title == "tiny, frozen"


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hf:.*nowhere"):
        config(f"hf:{tmp_path / 'nowhere'}")
