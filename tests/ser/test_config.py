import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ser.config import Config, configuration_keys, corpus_defaults, parse_settings, parse_value
from ser.config_file import read_config
from ser.losses import Loss, LossOutput, make_output
from ser.utils.errors import UserError

PROSELFLC = {"loss.name": "proselflc", "loss.transit_time_ratio": 0.5, "loss.exp_base": 16}

positive = st.floats(1e-6, 10.0)
small = st.integers(0, 100)
general = st.fixed_dictionaries(
    {},
    optional={
        "model.width": st.floats(0.01, 0.1),
        "model.dropout": st.floats(0.0, 1.0),
        "model.front_end": st.sampled_from(["auto", "panns_16k", "panns_32k"]),
        "model.pretrained": st.sampled_from(["", "weights.pth"]),
        "model.freeze": st.sampled_from(["none", "base"]),
        "optimizer.lr": positive,
        "optimizer.base_lr_factor": st.floats(0.01, 1.0),
        "optimizer.weight_decay": st.floats(0.0, 1.0),
        "optimizer.schedule": st.sampled_from(["cosine", "constant"]),
        "optimizer.warmup_ratio": st.floats(0.0, 0.99),
        "optimizer.gradient_clip": st.floats(0.0, 10.0),
        "augment.time_masks": small,
        "augment.time_mask_frames": small,
        "augment.frequency_masks": small,
        "augment.frequency_mask_bins": small,
        "training.epochs": st.integers(1, 500),
        "training.batch_size": st.integers(2, 512),
        "training.crop_seconds": st.floats(0.4, 20.0),
        "training.class_balance": st.sampled_from(["weighting", "sampling", "none"]),
        "training.precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    },
)
schedule = st.fixed_dictionaries(
    {
        "loss.temperature.kind": st.sampled_from(["linear", "cosine"]),
        "loss.temperature.start": positive,
        "loss.temperature.end": positive,
    }
)
loss = st.one_of(
    st.just({}),
    st.just({"loss.name": "cross_entropy"}),
    st.just(PROSELFLC | {"loss.target_gradient": True}),
    st.builds(lambda values: PROSELFLC | values, schedule),
    st.builds(lambda value: PROSELFLC | {"loss.temperature": value, "loss.trust": "confidence"}, positive),
)
dotted = st.builds(lambda *parts: parts[0] | parts[1], general, loss)


@settings(max_examples=40, deadline=None)
@given(dotted)
def test_dotted_names_make_a_configuration_and_come_back(values: dict[str, Any]) -> None:
    config = Config.from_dotted(values)
    again = config.to_dotted()
    assert again.items() >= values.items()
    assert again.keys() == set(configuration_keys()) | values.keys()
    assert Config.from_dotted(again) == config


@settings(max_examples=20, deadline=None)
@given(dotted)
def test_values_from_a_command_line_or_a_file_are_the_same(values: dict[str, Any]) -> None:
    texts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    assert parse_settings(texts) == values
    through_yaml = yaml.safe_load(yaml.safe_dump(Config.from_dotted(values).to_dotted()))
    assert Config.from_dotted(through_yaml) == Config.from_dotted(values)


def test_what_is_not_named_keeps_its_default_and_sections_hold_what_is() -> None:
    config = Config.from_dotted(
        {**PROSELFLC, "optimizer.lr": 0.02, "loss.temperature": {"kind": "constant", "start": 1}}
    )
    assert Config.from_dotted({}) == Config()
    assert config.optimizer.lr == 0.02
    assert config.optimizer.weight_decay == Config().optimizer.weight_decay
    assert config.loss.name == "proselflc"
    assert config.to_dotted()["loss.temperature.start"] == 1


def test_a_configuration_does_not_alter_what_it_is_made_from() -> None:
    values = {**PROSELFLC, "loss.temperature": {"kind": "linear", "start": 1.0, "end": 0.5}}
    before = json.dumps(values)
    Config.from_dotted(values)
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ({"optimiser.lr": 1}, "'optimizer.lr'"),
        ({"optimizer.lrr": 1}, "'optimizer.lr'"),
        ({"training.epoch": 1}, "'training.epochs'"),
        ({"epochs": 1}, "'training.epochs'"),
        ({"loss": 1}, "'loss.name'"),
        ({"loss.": 1}, "'loss.name'"),
        ({"loss.name": "proselfLC"}, "'proselflc'"),
        ({**PROSELFLC, "loss.exp_bse": 1}, "'exp_base'"),
        ({**PROSELFLC, "loss.temperature.knd": "linear"}, "'kind'"),
        ({**PROSELFLC, "loss.trust": "entrpy"}, "'entropy'"),
        ({"model.name": "cnn41"}, "'cnn14'"),
        ({"model.front_end": "panns_33k"}, "'panns_32k'"),
        ({"model.freeze": "bas"}, "'base'"),
        ({"optimizer.schedule": "cosin"}, "'cosine'"),
        ({"training.precision": "float23"}, "'float32'"),
    ],
)
def test_a_misspelt_name_is_reported_with_the_nearest(values: dict[str, Any], nearest: str) -> None:
    with pytest.raises(UserError, match=f"Did you mean .*{nearest}"):
        Config.from_dotted(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.width", 0),
        ("model.width", 2.5),
        ("model.width", "wide"),
        ("model.dropout", -0.1),
        ("model.dropout", 1.1),
        ("model.name", 14),
        ("model.front_end", "waveform_16k"),
        ("model.freeze", "convolutions"),
        ("model.pretrained", 3),
        ("optimizer.base_lr_factor", 0),
        ("optimizer.base_lr_factor", 1.5),
        ("loss.name", 1),
        ("loss.name", ["proselflc"]),
        ("loss.name", None),
        ("optimizer.lr", 0),
        ("optimizer.lr", -1e-3),
        ("optimizer.lr", "inf"),
        ("optimizer.lr", "nan"),
        ("optimizer.lr", True),
        ("optimizer.lr", None),
        ("optimizer.lr", [1e-3]),
        ("optimizer.weight_decay", -1),
        ("optimizer.schedule", "step"),
        ("optimizer.schedule", 1),
        ("optimizer.warmup_ratio", 1),
        ("optimizer.warmup_ratio", -0.1),
        ("optimizer.gradient_clip", -1),
        ("augment.time_masks", -1),
        ("augment.time_mask_frames", 1.5),
        ("augment.frequency_masks", -1),
        ("augment.frequency_mask_bins", -1),
        ("training.epochs", 0),
        ("training.epochs", 2.5),
        ("training.epochs", float("inf")),
        ("training.batch_size", 1),
        ("training.crop_seconds", 0.3),
        ("training.crop_seconds", "inf"),
        ("training.class_balance", "sampling d"),
        ("training.precision", 32),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_reported_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key.partition(".")[2]) as raised:
        Config.from_dotted({key: value})
    assert str(value) in str(raised.value)


@pytest.mark.parametrize(
    ("values", "front_end"),
    [
        ({}, "panns_16k"),
        ({"model.name": "bilstm"}, "panns_16k"),
        ({"model.name": "cnn10", "model.front_end": "panns_32k"}, "panns_32k"),
    ],
)
def test_a_model_reads_its_own_front_end_or_the_one_asked_for(values: dict[str, Any], front_end: str) -> None:
    assert Config.from_dotted(values).model.features == front_end


@pytest.mark.parametrize(
    ("name", "now"),
    [("wav2vec2_base", "hf:facebook/wav2vec2-base"), ("wavlm_base", "hf:microsoft/wavlm-base")],
)
def test_networks_of_version_0_1_are_named_as_speech_encoders(name: str, now: str) -> None:
    message = rf"model {name} is {now} now.* can be analysed, but not resumed"
    with pytest.raises(UserError, match=message):
        Config.from_dotted({"model.name": name})
    with pytest.raises(UserError, match=message):
        Config.from_dotted({"model.name": "embedding_head", "model.base": name, "model.pretrained": "weights.pt"})


def test_cross_entropy_takes_no_parameters() -> None:
    with pytest.raises(UserError, match="takes no parameters, got 'exp_base'"):
        Config.from_dotted({"loss.exp_base": 3})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e1", 10), ("10", 10), (10.0, 10), (10, 10)],
)
def test_whole_numbers_may_be_written_in_any_way(text: Any, value: int) -> None:
    epochs = Config.from_dotted({"training.epochs": text}).training.epochs
    assert epochs == value
    assert isinstance(epochs, int)


def test_proselflc_needs_its_parameters() -> None:
    with pytest.raises(UserError, match="transit_time_ratio and exp_base"):
        Config.from_dotted({"loss.name": "proselflc"})


PART = {"loss.temperature.kind": "linear"}
WHOLES = [{"loss.temperature": 0.5}, {"loss.temperature": {"start": 1.0, "end": 0.5}}]


@pytest.mark.parametrize("whole", WHOLES)
@pytest.mark.parametrize("part_first", [True, False])
def test_a_value_and_its_parts_cannot_both_be_set(whole: dict[str, Any], part_first: bool) -> None:
    both = {**PART, **whole} if part_first else {**whole, **PART}
    with pytest.raises(UserError, match=r"loss\.temperature and loss\.temperature\.kind cannot both"):
        Config.from_dotted({**PROSELFLC, **both})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-2", -2),
        ("true", True),
        ("null", None),
        ("cosine", "cosine"),
        ("", ""),
        ("[1, 2]", [1, 2]),
        ('{"kind": "linear"}', {"kind": "linear"}),
        ("{kind: linear}", "{kind: linear}"),
    ],
)
def test_values_are_read_as_numbers_json_or_text(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_settings_are_names_and_values() -> None:
    given = ["optimizer.lr=1e-3", "model.name=cnn14", "loss.name=a=b"]
    assert parse_settings(given) == {"optimizer.lr": 0.001, "model.name": "cnn14", "loss.name": "a=b"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["optimizer.lr"], "'optimizer.lr' is not KEY=VALUE"),
        (["=1"], "'=1' is not KEY=VALUE"),
        (["optimizer.lr=1", "optimizer.lr=1"], "'optimizer.lr' is set twice"),
    ],
)
def test_settings_that_are_none_or_repeated_are_reported(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(given)


# YAML 1.1 reads 1e-3, without a dot, as text.
NESTED = """
optimizer:
  lr: 1e-3
loss:
  name: proselflc
  transit_time_ratio: .5
  exp_base: 16
  temperature: {kind: linear, start: 1, end: .5}
"""
DOTTED = """
optimizer.lr: 1e-3
loss.name: proselflc
loss.transit_time_ratio: .5
loss.exp_base: 16
loss.temperature.kind: linear
loss.temperature.start: 1
loss.temperature.end: .5
"""
AS_JSON = json.dumps(
    {
        "optimizer.lr": 1e-3,
        **PROSELFLC,
        "loss": {"temperature": {"kind": "linear", "start": 1, "end": 0.5}},
    }
)


@pytest.mark.parametrize("text", [NESTED, DOTTED, AS_JSON])
def test_files_may_nest_names_or_dot_them(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    config = Config.from_dotted(read_config(file))
    assert config.optimizer.lr == 0.001
    assert config.loss.parameters == {
        "transit_time_ratio": 0.5,
        "exp_base": 16,
        "temperature": {"kind": "linear", "start": 1, "end": 0.5},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "must hold names and values"),
        (b"- optimizer.lr\n", "must hold names and values"),
        (b"optimizer: {lr: 1", "is not YAML"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"optimizer: {lr: 1}\noptimizer.lr: 2\n", "'optimizer.lr' is set twice"),
    ],
)
def test_files_that_hold_no_configuration_are_reported(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(file)


@pytest.mark.parametrize(("corpus", "width", "epochs"), [("synthetic", 0.125, 8), ("ravdess", 1.0, 50)])
def test_every_corpus_has_valid_defaults_and_synthetic_small_ones(corpus: str, width: float, epochs: int) -> None:
    config = Config.from_dotted(corpus_defaults(corpus))
    assert config.model.width == width
    assert config.training.epochs == epochs


def test_a_key_set_twice_in_a_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("optimizer: {lr: 0.1}\nmodel: {width: 0.5}\noptimizer: {weight_decay: 0.1}\n")
    with pytest.raises(UserError, match="'optimizer' is set twice"):
        read_config(path)


def test_a_library_that_changes_yaml_changes_nothing() -> None:
    pytest.importorskip("audformat")  # imports oyaml, which changes PyYAML for all of its users
    script = (
        "import audformat, pathlib, sys\n"
        "from ser.config_file import config_text, read_config\n"
        "print(config_text({'b': 1, 'a': 2}))\n"
        "read_config(pathlib.Path(sys.argv[1]))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "twice.yaml")
        path.write_text("a: 1\na: 2\n")
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.stdout == "a: 2\nb: 1\n\n"
    assert "'a' is set twice" in done.stderr


@pytest.mark.parametrize("text", ["a: 2020-99-99", "a: &x [*x]", "a: !!int abc", "a: {b: &y {c: *y}}"])
def test_malformed_yaml_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        Config.from_dotted(read_config(path))


OWN = """
from dataclasses import dataclass
from ser.losses import CrossEntropy
from ser.models import Cnn6

@dataclass(frozen=True)
class Scaled(CrossEntropy):
    factor: float

class Mine(Cnn6):
    pass
"""


def test_losses_and_networks_of_the_users_own_are_named_by_their_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"own_parts_of_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    values = {"loss.name": f"{module}.Scaled", "loss.factor": 2.0, "model.name": f"{module}.Mine", "model.width": 0.1}
    config = Config.from_dotted(values)
    assert config.to_dotted().items() >= values.items()
    assert Config.from_dotted(config.to_dotted()) == config
    assert type(config.model.build(2)).__name__ == "Mine"
    assert config.model.features == "panns_16k"
    for wrong, message in (
        ({"loss.factr": 2.0, "loss.factor": 2.0}, "Did you mean 'factor'"),
        ({"loss.name": f"{module}.Scald"}, "Did you mean 'Scaled'"),
        ({"model.name": f"{module}.Scaled"}, "must be a subclass of ser.models"),
    ):
        with pytest.raises(UserError, match=message):
            Config.from_dotted(values | wrong)


@dataclass(frozen=True)
class FreeLoss(Loss):
    """Loss with a parameter that takes any value."""

    note: Any = None

    def _compute(self, z: Tensor, q: Tensor, step: int, index: Tensor) -> LossOutput:
        return make_output(-(z.log_softmax(1) * q).sum(1), q)


FREE_LOSS = {"loss.name": f"{__name__}.FreeLoss"}


class TestWhatTheRecordsKeep:
    """A value that MLflow would cut or refuse is an error before anything trains."""

    def test_the_longest_value_that_is_kept_whole(self) -> None:
        config = Config.from_dotted(FREE_LOSS | {"loss.note": "x" * 6000})
        assert config.to_dotted()["loss.note"] == "x" * 6000

    @pytest.mark.parametrize(("value", "length"), [("x" * 6001, "6,001"), ([1.0] * 2000, "10,000")])
    def test_a_longer_one(self, value: Any, length: str) -> None:
        with pytest.raises(UserError, match=f"loss.note has {length} characters; it must have at most 6,000"):
            Config.from_dotted(FREE_LOSS | {"loss.note": value})

    @pytest.mark.parametrize("key", ["loss.note.joy@home", "loss.note.sad=x", f"loss.note.{'k' * 250}"])
    def test_a_name_that_is_refused(self, key: str) -> None:
        with pytest.raises(UserError, match="at most 250 letters, digits"):
            Config.from_dotted(FREE_LOSS | {key: 1.0})

    @pytest.mark.parametrize("value", [{1, 2}, Path("labels.csv"), np.int64(3)])
    def test_a_value_that_is_no_json(self, value: Any) -> None:
        with pytest.raises(UserError, match=f"loss.note is a value of type {type(value).__name__}"):
            Config.from_dotted(FREE_LOSS | {"loss.note": value})
