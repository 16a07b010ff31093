"""Tests of the linear probe on the stored embeddings of a frozen network."""

import copy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ser import evaluate
from ser import train as train_command
from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.corpora import Corpus
from ser.features.front_ends import SILENCE_DB, named_extractor
from ser.features.store import FeatureStore, open_store
from ser.models import Classifier, LinearProbe, build_model, load_pretrained
from ser.predict import predict_files
from ser.splits import split
from ser.training import embeddings
from ser.training.device.features import DeviceFeatures
from ser.training.embeddings import extractor
from ser.training.evaluation import SegmentedUtterances, predict
from ser.training.loop import EpochRecord, train
from ser.training.setup import check_weights
from ser.training.state import save_state
from ser.training.task import Task, make_task
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.backend.trial_resources import GpuDemand, trial_resources
from study.options import StudyOptions
from study.setup.prepare import _models
from study.setup.spaces import load_space
from tests.helpers.published_weights import panns_checkpoint, panns_state

WIDTH = 1 / 32
Values = dict[str, Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of weights like the published ones: the initial weights of a small CNN6."""
    torch.manual_seed(11)
    network = build_model("cnn6", 2, WIDTH)
    state = {**panns_state(network, "panns_16k"), **network.state_dict()}
    path = tmp_path_factory.mktemp("weights") / "cnn6.pth"
    torch.save(panns_checkpoint({name: value for name, value in state.items() if not name.startswith("head.")}), path)
    return path


@pytest.fixture(scope="module")
def values(weights: Path) -> Values:
    return {
        "model.name": "embedding_head",
        "model.base": "cnn6",
        "model.width": WIDTH,
        "model.pretrained": str(weights),
        "optimizer.lr": 0.03,
        "training.epochs": 3,
        "training.batch_size": 6,
        "training.crop_seconds": 0.6,
        "training.precision": "float32",
    }


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def embedded(tones: Corpus, values: Values, stores: Path) -> FeatureStore:
    return open_store(tones, extractor(Config.from_dotted(values)), stores)


@pytest.fixture
def task(tones: Corpus, embedded: FeatureStore) -> Task:
    return make_task(tones, split(tones), embedded.path, "symmetric:0.25", 0)


def network_of(values: Values, weights: Path) -> Classifier:
    """Return the base with the file's weights, in evaluation mode."""
    network = build_model(values["model.base"], 2, values["model.width"])
    load_pretrained(network, weights)
    return network.eval()


def run(config: Config, task: Task, **more: Any) -> list[EpochRecord]:
    return [replace(record, state=copy.deepcopy(record.state)) for record in train(config, task, seed=0, **more)]


# Stored embeddings


def test_an_embedding_is_the_mean_over_the_segments(
    store: FeatureStore, embedded: FeatureStore, values: Values, weights: Path
) -> None:
    """Cut segments of 60 frames; a shorter rest is left out unless it is the whole utterance."""
    network = network_of(values, weights)
    assert embedded.frames.shape == (len(store), network.embedding_size)
    assert embedded.front_end.kind == "vector"
    assert (embedded.content == store.content).all()
    seen = set()
    for row in range(len(store)):
        frames = torch.from_numpy(store.utterance(row).copy())
        pieces = [frames[begin : begin + 60] for begin in range(0, len(frames), 60)]
        whole = [piece for piece in pieces if len(piece) == 60]
        padded = torch.full((1, 60, 64), SILENCE_DB)
        padded[0, : len(pieces[0])] = pieces[0]
        with torch.no_grad():
            expected = network.embed(torch.stack(whole) if whole else padded).mean(dim=0)
        np.testing.assert_allclose(embedded.utterance(row)[0], expected.numpy(), rtol=1e-4, atol=1e-6)
        seen.add(len(whole))
    assert {0, 1, 2} <= seen


def test_padding_has_no_influence_where_the_network_is_given_lengths(tones: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(12)
    network = build_model("bilstm", 2, 1 / 16).eval()
    torch.save(network.state_dict(), tmp_path / "base.pt")
    config = Config.from_dotted(
        {
            "model.name": "embedding_head",
            "model.base": "bilstm",
            "model.width": 1 / 16,
            "model.pretrained": str(tmp_path / "base.pt"),
            "training.crop_seconds": 2.0,
        }
    )
    samples = tones.synthesize("s0-00-high")
    frames = torch.from_numpy(named_extractor("panns_16k").load()(samples))
    assert len(frames) < 200
    with torch.no_grad():
        alone = network.embed(frames[None]).numpy()
    np.testing.assert_allclose(extractor(config).load()(samples), alone, rtol=1e-3, atol=1e-4)


def test_embeddings_are_mixed_by_mixup(values: Values, task: Task) -> None:
    plain, mixed = (run(Config.from_dotted(values | {"loss.name": name}), task) for name in ("cross_entropy", "mixup"))
    assert mixed[0].metrics["train/loss"] != plain[0].metrics["train/loss"]
    assert mixed[-1].metrics["train/labels_changed"] == 0


def test_a_store_is_named_after_what_the_embeddings_follow_from(values: Values, weights: Path, tmp_path: Path) -> None:
    def name(**changes: Any) -> str:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return extractor(Config.from_dotted(values | changed)).front_end.name

    own = name()
    shutil.copyfile(weights, copied := tmp_path / "elsewhere.pth")
    assert name(model__pretrained=str(copied), optimizer__lr=0.5, training__epochs=9) == own
    state = torch.load(copied, weights_only=False)
    state["model"]["fc1.bias"] += 1
    torch.save(state, copied)
    others = [
        name(model__pretrained=str(copied)),
        name(model__width=0.05),
        name(training__crop_seconds=1.0),
        name(model__front_end="panns_32k"),
        name(model__base="cnn10"),
    ]
    assert len({own, *others}) == 6


def test_a_store_that_is_there_is_opened_without_the_network(
    tones: Corpus, values: Values, embedded: FeatureStore, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "load_pretrained", lambda *_: pytest.fail("the network was loaded"))
    again = open_store(tones, extractor(Config.from_dotted(values)), stores)
    assert not again.built
    assert again.path == embedded.path


# Linear probe


def test_the_head_predicts_what_the_whole_network_with_it_would(
    tones: Corpus, store: FeatureStore, values: Values, weights: Path, tmp_path: Path
) -> None:
    """Compare utterances of one segment; training changes only the head."""
    config = Config.from_dotted(values | {"training.crop_seconds": 1.5})
    vectors = open_store(tones, extractor(config), tmp_path)
    *_, last = run(config, make_task(tones, split(tones), vectors.path, "clean", 0))
    assert set(last.state["model"]) == {"head.weight", "head.bias"}
    head, network = config.model.build(2), network_of(values, weights)
    assert isinstance(head, LinearProbe)
    assert head.head_dropout.p == network.head_dropout.p == 0.5
    head.load_state_dict(last.state["model"])
    network.load_state_dict(last.state["model"], strict=False)
    rows, exact = np.arange(len(tones)), torch.autocast("cpu", torch.bfloat16, enabled=False)
    of_head, of_network = (
        SegmentedUtterances(DeviceFeatures(each, torch.device("cpu")), rows, frames)
        for each, frames in ((vectors, 1), (store, 150))
    )
    found = predict(head, of_head, exact)
    np.testing.assert_allclose(found, predict(network, of_network, exact), atol=1e-5)
    assert found.std(axis=0).min() > 1e-3


def test_a_run_is_recorded_like_a_networks_learns_and_resumes(values: Values, task: Task, task_at: Any) -> None:
    config = Config.from_dotted(values)
    first, *_, last = records = run(config, task)
    network = Config.from_dotted({"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5})
    (record,) = train(network, task_at("symmetric:0.25"), seed=0)
    assert last.metrics.keys() == record.metrics.keys()
    assert last.metrics["train/loss"] < first.metrics["train/loss"]
    resumed = run(config, task, state=first.state)
    assert [again.metrics for again in resumed] == [one.metrics for one in records[1:]]
    with pytest.raises(UserError, match="base network of a linear probe"):  # of other weights
        run(config, task, state={**first.state, "front_end": "cnn6-embeddings-0"})


def test_a_store_of_something_else_is_refused(values: Values, task_at: Callable[..., Task], task: Task) -> None:
    with pytest.raises(UserError, match=r"embedding_head reads front end cnn6-embeddings-\w+, but .* holds panns_16k"):
        next(train(Config.from_dotted(values), task_at(), seed=0))  # type: ignore[call-overload]
    longer = Config.from_dotted(values | {"training.crop_seconds": 0.7})
    with pytest.raises(UserError, match="holds cnn6-embeddings"):
        next(train(longer, task, seed=0))  # type: ignore[call-overload]


# Mistakes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.base": ""}, r"set model\.base"),
        ({"model.pretrained": ""}, r"model\.pretrained"),
        ({"model.base": "cnn41"}, "'cnn14'"),
        ({"model.base": "mlp"}, "Known: bilstm"),
        ({"model.base": "embedding_head"}, "Known: bilstm"),
        ({"model.base": 3}, r"model\.base"),
        ({"model.freeze": "base"}, "always frozen"),
        ({"model.front_end": "waveform_16k"}, "cnn6 reads panns_16k or panns_32k"),
        ({"model.name": "cnn6"}, "cnn6; only embedding_head has a base"),
        ({"model.name": "mlp", "model.pretrained": ""}, "mlp, a classical model"),
        ({"model.name": "embeding_head"}, "'embedding_head'"),
    ],
)
def test_a_mistake_in_the_configuration_is_reported(values: Values, changes: Values, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Config.from_dotted(
            values | ({"model.base": ""} if changes.get("model.name") == "embeding_head" else {}) | changes
        )


def test_weights_that_do_not_fit_are_reported_before_features_are_computed(values: Values) -> None:
    with pytest.raises(UserError, match=r"Set model\.name and model\.width"):
        check_weights(Config.from_dotted(values | {"model.width": 0.1}).model)
    with pytest.raises(UserError, match=r"Set model\.front_end=panns_16k"):
        check_weights(Config.from_dotted(values | {"model.front_end": "panns_32k"}).model)
    with pytest.raises(UserError, match=r"'nothing\.pth' cannot be read: No such file"):
        extractor(Config.from_dotted(values | {"model.pretrained": "nothing.pth"}))


# On the command line, and in a study


@pytest.fixture
def trained(values: Values, weights: Path, tones: Corpus, tmp_path: Path) -> tuple[Path, Path, FeatureStore]:
    """Return a checkpoint, the weights that belong to it, and the embeddings."""
    shutil.copyfile(weights, own := tmp_path / "own.pth")
    config = Config.from_dotted(values | {"model.pretrained": str(own)})
    store = open_store(tones, extractor(config), tmp_path)
    *_, last = train(config, make_task(tones, split(tones), store.path, "clean", 0), seed=0)
    save_state(last.state, tmp_path / "state.pt")
    return tmp_path / "state.pt", own, store


def test_a_checkpoint_labels_files_as_it_labels_the_corpus(
    trained: tuple[Path, Path, FeatureStore], tones: Corpus, tmp_path: Path
) -> None:
    path, _, store = trained
    checkpoint = open_checkpoint(path)
    expected = checkpoint.predict(store, np.arange(3))
    files = [tmp_path / f"{name}.wav" for name in tones.table["utterance_id"][:3]]
    for file in files:
        soundfile.write(file, tones.synthesize(file.stem), 16000, subtype="FLOAT")
    found = [probabilities for _, probabilities in predict_files(checkpoint, files)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("damage", "said"), [("changed", "other weights than"), ("removed", "cannot be read")])
def test_a_checkpoint_without_the_weights_of_its_training_is_refused(
    trained: tuple[Path, Path, FeatureStore], damage: str, said: str
) -> None:
    path, own, _ = trained
    if damage == "removed":
        own.unlink()
    else:
        state = torch.load(own, weights_only=False)
        state["model"]["fc1.bias"] += 1
        torch.save(state, own)
    with pytest.raises(UserError, match=said):
        open_checkpoint(path)


def test_training_and_evaluation_run_from_the_command_line(
    values: Values, tones: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (train_command, evaluate):
        monkeypatch.setattr(module, "load", lambda *_: tones)
    settings = [f"{key}={value}" for key, value in values.items()]
    common = ["--features", str(tmp_path / "features")]
    output = ["--output", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["train", *common, *output, "--set", *settings])
    assert run_command(train_command.main) == 0
    monkeypatch.setattr(sys, "argv", ["evaluate", *common, "--checkpoint", str(tmp_path / "run" / "state.pt")])
    assert run_command(evaluate.main) == 0
    assert "cross_entropy (embedding_head), epoch 3" in capsys.readouterr().out
    assert len(list((tmp_path / "features").glob("*embeddings*/meta.json"))) == 1


def test_a_study_searches_heads_on_one_store(values: Values) -> None:
    own = ("model.base", "model.pretrained")
    settings = tuple(f"{key}={values[key]}" for key in own)
    options = StudyOptions(model="embedding_head", width=WIDTH, settings=settings, space=("proselflc",))
    spaces = [load_space(name, options.fixed) for name in ("proselflc", "cross_entropy")]
    names = {space.extractor(options.defaults).front_end.name for space in spaces}
    assert len(names) == 1
    assert names.pop().startswith("cnn6-embeddings-")
    assert _models(spaces, options.defaults) == "embedding_head on cnn6 × 0.03125, batch 16"
    nodes = [{"CPU": 8.0, "GPU": 0.0}]
    assert trial_resources(nodes, replace(options, width=1.0), GpuDemand(any=False)).cpus == 1.0


def test_the_header_names_every_kind_of_model() -> None:
    base = StudyOptions().defaults
    spaces = [load_space(name, {}) for name in ("cross_entropy", "classical")]
    reported = _models(spaces, base).split("; ")
    assert reported[0] == "cnn14 × 0.125, batch 16"
    assert set(reported[1:]) == {f"{name} on handcrafted_16k" for name in ("random_forest", "mlp", "gradient_boosting")}


# Classical models given as networks


def test_a_classical_model_is_sent_to_its_space(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--set", "model.name=mlp"])
    assert run_command(train_command.main) == 2
    assert "study/run.py --space classical" in capsys.readouterr().err
    for options in (StudyOptions(model="mlp"), StudyOptions(settings=("model.name=mlp",))):
        with pytest.raises(UserError, match=r"mlp is a classical model.*--space classical"):
            _ = options.shared
