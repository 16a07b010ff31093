"""Published weights are loaded into the network that they fit, and anything else is refused."""

import copy
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from ser.models import Classifier, LoadReport, build_model, load_pretrained
from ser.utils.errors import DataErrors, UserError
from tests.helpers.published_weights import front_end, panns_checkpoint, panns_state

WIDTH = 1 / 32
PANNS = ["cnn14", "cnn10", "cnn6"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def network(name: str = "cnn6") -> Classifier:
    return build_model(name, 4, WIDTH).eval()


def written(content: object, path: Path, **how: object) -> Path:
    torch.save(content, path, **how)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


# What is loaded


@pytest.mark.parametrize("name", PANNS)
@pytest.mark.parametrize("form", ["checkpoint", "bare", "old format", "safetensors"])
def test_a_published_checkpoint_fills_all_but_the_head(tmp_path: Path, name: str, form: str) -> None:
    model = network(name)
    head = copy.deepcopy(model.head.state_dict())
    state = panns_state(model)
    if form == "safetensors":
        save_file(state, file := tmp_path / "weights.safetensors")
    else:
        content = state if form == "bare" else panns_checkpoint(state)
        old = {"_use_new_zipfile_serialization": False} if form == "old format" else {}
        file = written(content, tmp_path / "weights.pth", **old)
    report = load_pretrained(model, file, "panns_32k")
    loaded = model.state_dict()
    body = [key for key in loaded if not key.startswith("head.")]
    assert all(torch.equal(loaded[key], state[key]) for key in body)
    assert all(torch.equal(loaded[f"head.{key}"], value) for key, value in head.items())
    assert isinstance(report, LoadReport)
    assert report.front_end == "panns_32k"
    assert set(report.loaded) == set(body)
    assert set(report.left_out) == {"fc_audioset.weight", "fc_audioset.bias", *front_end("8k")}


def test_a_loaded_network_gives_what_the_one_it_was_saved_from_gives(path: Path) -> None:
    """The state of a training run is a file of weights."""
    one, other, x = network(), network(), torch.randn(2, 40, 64) * 10 - 30
    written({"model": one.state_dict(), "epoch": 3, "optimizer": {}}, path)
    assert not torch.equal(one.embed(x), other.embed(x))
    report = load_pretrained(other, path)
    assert torch.equal(one.embed(x), other.embed(x))
    assert not torch.equal(one(x), other(x))
    assert report.front_end is None
    assert set(report.left_out) == {"head.weight", "head.bias"}


def test_a_network_on_the_meta_device_is_only_compared(path: Path) -> None:
    state = panns_state(network())
    with torch.device("meta"):
        model = network()
    assert load_pretrained(model, written(state, path), "panns_32k").loaded
    assert model.fc1.weight.is_meta
    del state["fc1.bias"]
    with pytest.raises(DataErrors, match=r"fc1\.bias"):
        load_pretrained(model, written(state, path), "panns_32k")


# The front end


@pytest.mark.parametrize(("held", "asked"), [("panns_32k", "panns_16k"), ("panns_16k", "panns_32k")])
def test_weights_of_another_front_end_are_refused_with_the_right_one(path: Path, held: str, asked: str) -> None:
    model = network("cnn14")
    written(panns_checkpoint(panns_state(model, held)), path)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match=rf"front end '{held}', but '{asked}' is set. Set model.front_end={held}"):
        load_pretrained(model, path, asked)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert load_pretrained(model, path, held).front_end == held


def test_the_default_front_end_is_that_of_the_model(path: Path) -> None:
    model = network()
    assert load_pretrained(model, written(panns_state(model, "panns_16k"), path)).front_end == "panns_16k"
    with pytest.raises(UserError, match="'panns_32k', but 'panns_16k' is set"):
        load_pretrained(model, written(panns_state(model, "panns_32k"), path))


@pytest.mark.parametrize("held", ["8k", "128 bands lower"])
def test_weights_of_a_front_end_that_is_none_of_ours_are_refused(path: Path, held: str) -> None:
    model = network()
    with pytest.raises(UserError, match="a front end that is none of 'panns_16k', 'panns_32k'"):
        load_pretrained(model, written(panns_state(model, held), path))


@pytest.mark.parametrize("key", sorted(front_end("panns_16k")))
@pytest.mark.parametrize("fault", ["missing", "shifted"])
def test_every_tensor_of_the_front_end_is_compared(path: Path, key: str, fault: str) -> None:
    model = network()
    state = panns_state(model, "panns_16k")
    if fault == "missing":
        del state[key]
    else:
        state[key] = state[key].roll(1, dims=-1)
    with pytest.raises(UserError, match="a front end that is none of"):
        load_pretrained(model, written(state, path))


# What does not fit


def errors_of(model: Classifier, state: dict[str, Tensor], path: Path) -> dict[str, str]:
    with pytest.raises(DataErrors, match=r"model\.width") as raised:
        load_pretrained(model, written(state, path), "panns_32k")
    return dict(raised.value.errors)


def test_everything_that_does_not_fit_is_named_with_the_nearest(path: Path) -> None:
    model = network()
    state = panns_state(model)
    before = copy.deepcopy(model.state_dict())
    state["conv_block2.conv_1.weight"] = state.pop("conv_block2.conv1.weight")
    state["att_block.att.weight"] = torch.zeros(3)
    state["fc1.bias"] = torch.zeros(7)
    state["bn0.weight"] = torch.full((64,), torch.nan)
    assert errors_of(model, state, path) == {
        "conv_block2.conv1.weight": "missing; the nearest is 'conv_block2.conv_1.weight'",
        "conv_block2.conv_1.weight": "the model has no such tensor; the nearest is 'conv_block2.conv1.weight'",
        "att_block.att.weight": "the model has no such tensor",
        "fc1.bias": "has shape (7,), the model needs (16,)",
        "bn0.weight": "contains NaN or infinite values",
    }
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_another_width_are_refused_by_their_shapes(path: Path) -> None:
    state = panns_state(build_model("cnn6", 4, 2 * WIDTH))
    errors = errors_of(network(), state, path)
    assert errors["fc1.weight"] == "has shape (32, 32), the model needs (16, 16)"
    assert "bn0.weight" not in errors  # 64 mel bins at any width


def test_weights_of_another_network_are_refused(path: Path) -> None:
    assert "conv_block5.conv1.weight" in errors_of(network("cnn14"), panns_state(network("cnn10")), path)


def test_weights_of_which_nothing_fits_are_reported_briefly(path: Path) -> None:
    written({f"wav2vec2.layer.{number}": torch.zeros(1) for number in range(200)}, path)
    with pytest.raises(
        UserError, match=r"none of the tensors belongs to Cnn6; the first ones are wav2vec2\.layer\.0, "
    ):
        load_pretrained(network(), path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": {}}, torch.zeros(3), {"model": {"fc1.bias": [0.0]}}])
def test_a_file_without_a_state_dict_is_reported(path: Path, content: object) -> None:
    with pytest.raises(UserError, match="contain no state dict"):
        load_pretrained(network(), written(content, path))


def test_numpy_arrays_are_not_weights(path: Path) -> None:
    with pytest.raises(UserError, match=r"'fc1\.bias' is not a tensor"):
        load_pretrained(network(), written({"fc1.bias": np.zeros(16)}, path))


# Damaged and malicious files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_missing_file_is_reported(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=rf"weights{suffix}'.*no such file"):
        load_pretrained(network(), tmp_path / f"weights{suffix}")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_folder_is_reported(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"weights{suffix}").mkdir()
    with pytest.raises(UserError, match="weights"):
        load_pretrained(network(), tmp_path / f"weights{suffix}")


class Harm:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("place", ["next to", "inside"])
@pytest.mark.parametrize("call", ["mkdir", "system"])
@pytest.mark.parametrize("form", ["torch", "old", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, path: Path, place: str, call: str, form: str) -> None:
    made = tmp_path / "made"
    harm = Harm(Path.mkdir, made) if call == "mkdir" else Harm(os.system, f"mkdir '{made}'")
    state: dict[str, object] = dict(panns_state(network()))
    content = {"model": state, "more": harm} if place == "next to" else {"model": {**state, "fc1.bias": harm}}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["model"], protocol=2))
    else:
        written(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(UserError) as raised:
        load_pretrained(network(), path, "panns_32k")
    assert not made.exists()
    assert "weights_only" not in str(raised.value)  # the message of torch explains how to run it
    if form == "torch":
        assert "could run code" in str(raised.value)
        torch.load(path, weights_only=False)  # without the check it is run
        assert made.exists()


def test_numpys_own_code_is_not_run_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    written(panns_checkpoint(panns_state(model)), path)
    with zipfile.ZipFile(path) as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert b"_reconstruct" in pickled
    seen: list[object] = []
    monkeypatch.setattr("numpy._core.multiarray._reconstruct", lambda *args: seen.append(args))
    allowed = set(torch.serialization.get_safe_globals())
    load_pretrained(model, path, "panns_32k")
    assert seen == []
    assert set(torch.serialization.get_safe_globals()) == allowed  # nothing stays allowed


STATE = panns_state(build_model("cnn6", 2, 1 / 64))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("suffix", [".pth", ".old.pth", ".safetensors"])
def test_a_damaged_file_is_reported_or_gives_weights(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path)
    else:
        written(panns_checkpoint(STATE), path, _use_new_zipfile_serialization=suffix == ".pth")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            # The beginning and the end of a file describe its structure.
            place = data.draw(st.sampled_from([st.integers(0, 3000), st.integers(0, len(content) - 1)]))
            content[data.draw(place) % len(content)] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    model = build_model("cnn6", 2, 1 / 64)
    reported = ""
    try:
        load_pretrained(model, path, "panns_32k")
    except UserError as error:
        reported = str(error)
    assert not reported or str(path) in reported
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_what_torch_reads_is_what_was_written(path: Path) -> None:
    """The checkpoint of the tests has the structure of PANNs': 84 tensors under ``model`` for CNN14."""
    file = io.BytesIO()
    torch.save(panns_checkpoint(panns_state(network("cnn14"), "panns_16k")), file)
    file.seek(0)
    content = torch.load(file, weights_only=False)
    assert len(content["model"]) == 84
    assert content["model"]["spectrogram_extractor.stft.conv_real.weight"].shape == (257, 1, 512)
    assert content["model"]["logmel_extractor.melW"].shape == (257, 64)
