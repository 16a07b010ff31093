"""Speech encoders from a hub on loopback, with the real client: cache, pinned commits, access, broken connections."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ser.models.encoders import hub as hub_module
from ser.models.encoders import source
from ser.models.encoders.source import EncoderFiles, find_encoder, load
from ser.utils.errors import UserError
from tests.helpers.fake_hub import TOKEN, FakeHub, Repository, serving
from tests.helpers.tiny_encoders import tiny_encoder

NAME = "hf:lab/wav2vec2-tiny"
SETTINGS = ["config.json", "preprocessor_config.json"]
NOT_READ = ["README.md", "flax_model.msgpack", "model.fp32-00001-of-00002.safetensors", "pytorch_model.bin"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("published") / "wav2vec2-tiny")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    source._on_hub.cache_clear()
    with serving(cache, monkeypatch) as hub:
        yield hub
    source._on_hub.cache_clear()


@pytest.fixture
def model(hub: FakeHub, published: Path) -> Repository:
    model = hub.add("lab/wav2vec2-tiny", published)
    model.files.update(dict.fromkeys(NOT_READ, b"not read"))
    return model


@pytest.fixture
def offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def found(name: str = NAME, revision: str = "", *, weights: bool = True) -> EncoderFiles:
    """Find an encoder as another process does, which remembers nothing."""
    source._on_hub.cache_clear()
    return find_encoder(name, revision, weights=weights)


def fault(name: str = NAME, revision: str = "") -> str:
    with pytest.raises(UserError) as raised:
        found(name, revision)
    text = str(raised.value)
    assert text.startswith(f"model.name is {name}: ")
    assert "\n" not in text
    assert "local_files_only" not in text
    return text


def test_only_what_is_needed_is_downloaded_and_only_once(hub: FakeHub, model: Repository) -> None:
    settings = found(weights=False)
    assert hub.downloads() == SETTINGS
    whole = found()
    assert hub.downloads() == [*SETTINGS[:1], "model.safetensors", *SETTINGS[1:]]
    assert settings == whole == EncoderFiles("lab/wav2vec2-tiny", whole.folder, model.commit)
    assert (whole.folder / "model.safetensors").read_bytes() == model.files["model.safetensors"]
    hub.requests.clear()
    assert found() == found(revision=model.commit) == whole
    assert hub.requests == []


def test_weights_are_downloaded_when_they_are_loaded(hub: FakeHub, model: Repository) -> None:
    files = find_encoder(NAME, weights=False)
    assert sum(parameter.numel() for parameter in load(files).parameters()) > 0
    assert "model.safetensors" in hub.downloads()


def test_old_weights_are_downloaded_where_there_are_no_others(hub: FakeHub, model: Repository) -> None:
    del model.files["model.safetensors"]
    found()
    assert hub.downloads() == [*SETTINGS, "pytorch_model.bin"]


def test_weights_in_parts_are_downloaded_with_their_index(hub: FakeHub, model: Repository) -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    del model.files["model.safetensors"]
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    model.files.update({part: part.encode() for part in parts}, **{"model.safetensors.index.json": index.encode()})
    files = found()
    assert hub.downloads() == sorted([*SETTINGS, *parts, "model.safetensors.index.json"])
    (files.folder / parts[1]).unlink()
    hub.requests.clear()
    assert found() == files
    assert set(hub.downloads()) <= {parts[1]}
    assert (files.folder / parts[1]).exists()


def test_the_recorded_commit_stays_when_main_changes(hub: FakeHub, model: Repository) -> None:
    first = found()
    model.files["config.json"] += b"\n"
    assert model.commit != first.revision
    assert found().revision == first.revision  # the cache goes first
    second = found(revision=model.commit)
    assert second.revision == model.commit
    assert found(revision=first.revision) == first


def test_a_branch_is_pinned_to_its_commit(model: Repository) -> None:
    assert found(revision="main").revision == model.commit


def test_a_newer_main_is_found_where_the_cache_has_none(model: Repository) -> None:
    model.files["config.json"] += b"\n"
    assert found().revision == model.commit


def test_a_broken_connection_resumes(
    hub: FakeHub, model: Repository, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    model.breaks.add("model.safetensors")
    files = found()
    whole = (published / "model.safetensors").read_bytes()
    assert (files.folder / "model.safetensors").read_bytes() == whole
    first, second = [span for method, file, span in hub.requests if (method, file) == ("GET", "model.safetensors")]
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").partition("-")[0]) < len(whole)


def test_a_gated_model_is_read_with_a_token_alone(
    hub: FakeHub, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.gated = True
    assert f"its authors grant access on request. Ask for it at {hub.address}/lab/wav2vec2-tiny" in fault()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert found().revision == model.commit


def test_an_unknown_name_has_a_near_one_from_the_cache(hub: FakeHub, model: Repository) -> None:
    found()
    message = fault("hf:lab/wav2vec-tiny")
    assert "the hub has no model of this name that you may read. Did you mean hf:lab/wav2vec2-tiny" in message
    assert "Did you mean" not in fault("hf:other/name")


def test_an_unknown_commit_is_named(model: Repository) -> None:
    assert f"the hub has no revision {'0' * 40} of it" in fault(revision="0" * 40)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the hub refuses access (401). Check the token"),
        (403, "the hub refuses access (403). Check the token"),
        (404, "has no model of this name"),
        (500, "the hub answers 500. Try again later."),
    ],
)
def test_an_answer_of_the_hub_is_one_message(status: int, words: str, hub: FakeHub) -> None:
    hub.status = status
    assert words in fault()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "the hub has no config.json of it, so it was not saved by transformers"),
        ("preprocessor_config.json", "Run `hf download lab/wav2vec2-tiny --local-dir FOLDER` and name hf:FOLDER"),
        ("model.safetensors", "no weights: model.safetensors or pytorch_model.bin is needed"),
    ],
)
def test_a_model_without_a_needed_file_is_one_message(name: str, words: str, model: Repository) -> None:
    for each in (name, *NOT_READ):
        del model.files[each]
    assert words in fault()


def test_weights_of_another_architecture_are_not_downloaded(hub: FakeHub, model: Repository) -> None:
    model.files["config.json"] = b'{"model_type": "bert"}'
    assert "its architecture, bert, is not a speech encoder's" in fault()
    assert hub.downloads() == SETTINGS


def test_the_cache_alone_is_enough_offline(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    files = found()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert found() == found(revision=model.commit) == files
    load(files)


@pytest.mark.usefixtures("offline")
def test_without_cache_and_network_both_ways_are_named(cache: Path, model: Repository) -> None:
    message = fault()
    assert f"the cache {cache} does not hold all of it, and HF_HUB_OFFLINE forbids a download. Unset" in message
    assert "run `hf download lab/wav2vec2-tiny --local-dir FOLDER` on another machine" in message


def test_a_hub_that_cannot_be_reached_is_named_and_the_cache_still_read(
    hub: FakeHub, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = found()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert found() == files
    assert "the download from http://127.0.0.1:9 failed (" in fault("hf:lab/another")
    assert f"in revision {'0' * 40}, and" in fault(revision="0" * 40)


def test_a_full_disk_is_found_before_the_download(
    hub: FakeHub, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(weights=False)
    monkeypatch.setattr("ser.utils.output_files.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"more are needed at .*cache.*; 1.0 kB are free"):
        found()
    assert "model.safetensors" not in hub.downloads()


def test_a_large_download_is_announced_with_its_size(
    cache: Path, model: Repository, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found(weights=False)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(hub_module, "WORTH_SAYING", 1000)
    found()
    shown = capfd.readouterr().err
    size = f"{len(model.files['model.safetensors']) / 1000:.1f} kB"
    assert f"lab/wav2vec2-tiny: {size} from the hub to {cache}." in " ".join(shown.split())


@pytest.mark.slow
def test_the_settings_of_the_library_are_read_from_the_environment(
    hub: FakeHub, model: Repository, tmp_path: Path
) -> None:
    code = f"from ser.models.encoders import find_encoder; print(find_encoder({NAME!r}).folder)"
    settings = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN}
    model.gated = True
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings, **more}, capture_output=True, text=True
        )
        assert done.stdout.startswith(str(tmp_path / "home" / "hub")), done.stderr
