"""Initial weights by name or file: where they are, which defaults come with them, and what contradicts them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ser.config import Config
from ser.models.fetch import WEIGHTS
from ser.models.initial_weights import InitialWeights, name_or_path, weights_digest
from ser.utils.errors import UserError
from tests.helpers.weights_server import serving

FOLDER = Path("/cache")


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "Cnn6.pth").write_bytes(b"weights")
    with serving("cnn6", tmp_path / "served" / "Cnn6.pth", monkeypatch) as found:
        yield found


@pytest.mark.parametrize(("name", "model", "front_end"), [
    ("cnn14_16k", "cnn14", "panns_16k"), ("cnn14", "cnn14", "panns_32k"),
    ("cnn10", "cnn10", "panns_32k"), ("cnn6", "cnn6", "panns_32k"),
])  # fmt: skip
def test_published_weights_decide_the_network_and_its_front_end(name: str, model: str, front_end: str) -> None:
    weights = InitialWeights(name, FOLDER)
    assert weights.model == model
    assert weights.path == FOLDER / WEIGHTS[name].file.name
    defaults = {"model.width": 1.0, "model.dropout": 1.0, "model.front_end": front_end}
    assert weights.defaults(model) == {**defaults, "optimizer.base_lr_factor": 0.1}
    assert weights.defaults("embedding_head") == {**defaults, "model.base": model}


def test_the_layers_below_the_head_learn_at_the_rate_of_the_published_recipe() -> None:
    config = Config.from_dotted({"model.name": "cnn6", **InitialWeights("cnn6", FOLDER).defaults("cnn6")})
    assert config.optimizer.lr * config.optimizer.base_lr_factor == pytest.approx(1e-4)
    assert config.model.freeze == "none"


def test_a_file_of_ones_own_leaves_network_and_front_end_open() -> None:
    weights = InitialWeights("/own/state.pt", FOLDER)
    assert (weights.path, weights.model) == (Path("/own/state.pt"), None)
    assert weights.defaults("bilstm").keys() == {"model.width", "model.dropout", "optimizer.base_lr_factor"}
    weights.check({"model.name": "bilstm", "model.width": 0.5})


@pytest.mark.parametrize(("values", "message"), [
    ({"model.name": "cnn6"}, "but model.name is cnn6. Leave"),
    ({"model.width": 0.5}, "but model.width is 0.5. Leave"),
    ({"model.front_end": "panns_32k"}, "but model.front_end is panns_32k. Leave"),
    ({"model.name": "embedding_head", "model.base": "cnn10"}, "but model.base is cnn10. Leave"),
    ({"model.name": "cnn6", "model.width": 2}, "but model.width is 2 and model.name is cnn6. Leave"),
    ({"model.name": "hf:facebook/wav2vec2-base"}, "model.name is hf:facebook/wav2vec2-base, a speech encoder"),
])  # fmt: skip
def test_what_contradicts_published_weights_is_one_message(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^--pretrained cnn14_16k: .*{message}"):
        InitialWeights("cnn14_16k", FOLDER).check({"model.name": "cnn14", **values})


def test_the_default_front_end_of_the_network_counts_as_itself() -> None:
    values = {"model.name": "cnn14", "model.front_end": "auto", "model.width": 1}
    InitialWeights("cnn14_16k", FOLDER).check(values)
    with pytest.raises(UserError, match=r"but model\.front_end is panns_16k"):
        InitialWeights("cnn14", FOLDER).check(values)


def test_a_file_does_not_go_with_a_speech_encoder() -> None:
    with pytest.raises(UserError, match=r"--pretrained /own\.pt: model\.name is hf:x, a speech encoder"):
        InitialWeights("/own.pt", FOLDER).check({"model.name": "hf:x"})


def test_a_name_or_a_path_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pt").touch()
    (tmp_path / "cnn6").touch()
    assert name_or_path("own.pt") == str(tmp_path / "own.pt")
    assert name_or_path("cnn6") == "cnn6"
    assert name_or_path("./cnn6") == str(tmp_path / "cnn6")


@pytest.mark.parametrize(("given", "message"), [
    ("cnn14_16", "no such file. As a name: unknown weights 'cnn14_16'. Did you mean 'cnn14_16k'"),
    ("weights/none.pth", "--pretrained 'weights/none.pth': there is no such file"),
    ("hf:facebook/wav2vec2-base", "with its weights: --model hf:facebook/wav2vec2-base"),
    (".", "is a folder, expected a file of weights. A speech encoder in a folder is named by --model hf:"),
])  # fmt: skip
def test_other_values_are_reported(given: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        name_or_path(given)
    assert message in str(caught.value)


def test_weights_are_downloaded_once_and_only_where_they_are_missing(requests: list[str], tmp_path: Path) -> None:
    weights = InitialWeights("cnn6", tmp_path / "cache")
    assert weights.download_in_words.startswith("Cnn6.pth, 7 bytes, from https://zenodo.org/records/3987831 to ")
    assert not (tmp_path / "cache").exists()
    for _ in range(2):
        weights.obtain(Console(file=io.StringIO()))
        assert weights.path.read_bytes() == b"weights"
    assert len(requests) == 1
    assert weights.download_in_words == ""
    weights.path.write_bytes(b"other")
    with pytest.raises(UserError, match=r"Cnn6\.pth' exists and is not Cnn6\.pth: its checksum is another one"):
        weights.obtain(Console(file=io.StringIO()))


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert weights_digest(first) == weights_digest(second)
    second.write_bytes(b"others!")
    assert weights_digest(first) != weights_digest(second)
    with pytest.raises(UserError, match=r"none\.pt' cannot be read: No such file"):
        weights_digest(tmp_path / "none.pt")
