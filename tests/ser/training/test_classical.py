"""Tests of the classical models: what they learn, that it is repeatable, and their use as trials of a study."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

from ser.config import Config, ModelConfig, TrainingConfig, corpus_defaults
from ser.features.handcrafted import NAMES, handcrafted
from ser.features.store import open_store
from ser.models.classical import CLASSICAL, FRONT_ENDS, build_classical
from ser.splits import split
from ser.training import train
from ser.training.classical import probabilities, train_classical
from ser.training.task import Subset, Task, make_task
from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed
from study.setup.spaces import load_space
from study.tracking.opening import experiment_id, open_client
from study.trial import trainable
from study.trial.specification import ATTEMPT_KEY, DONE, EPOCH, EVENTS, TRIAL_KEY
from study.trial.trainable import Attempt
from tests.helpers.trial_context import Driver, deliver_all, make_context, runs_of

QUICK = {
    "random_forest": {"trees": 30, "min_samples_split": 2},
    "mlp": {"units": 20},
    "gradient_boosting": {"rounds": 30, "learning_rate": 0.1},
}


def config_of(name, class_balance="weighting"):
    return Config(ModelConfig(name, parameters=QUICK[name]), training=TrainingConfig(class_balance=class_balance))


@pytest.fixture(scope="module")
def handcrafted_store(tones, tmp_path_factory):
    return open_store(tones, FRONT_ENDS[0], tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def features(handcrafted_store):
    """Return the features of each utterance, as a store contains them."""
    return np.asarray(handcrafted_store.frames)


@pytest.fixture
def easy(tones, handcrafted_store):
    """Return a function from noise level to a task whose first feature separates the true classes."""

    def make(level="clean"):
        task = make_task(tones, split(tones), handcrafted_store.path, level, 0)
        rng = np.random.default_rng(0)
        features = rng.normal(size=(len(tones), len(NAMES)))
        features[:, 0] = 1e6 * (tones.class_indices(tones.table["label"].to_numpy()) + rng.uniform(0, 0.3, len(tones)))
        return task, features

    return make


# Features of a corpus


def test_a_store_holds_the_eight_features_of_each_utterance(tones, handcrafted_store):
    assert handcrafted_store.frames.shape == (len(tones), len(NAMES))
    assert (handcrafted_store.lengths == 1).all()
    waveforms = open_store(tones, "waveform_16k", handcrafted_store.path.parent)
    for row in range(len(tones)):
        expected = handcrafted(waveforms.utterance(row)[:, 0])
        np.testing.assert_allclose(handcrafted_store.utterance(row)[0], expected, rtol=1e-6)
    assert (handcrafted_store.content == waveforms.content).all()


# Training


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_model_learns_what_separates_the_classes(name, easy):
    task, features = easy()
    metrics, *_ = train_classical(config_of(name), features, task, 0)
    if name == "gradient_boosting":  # 16 training utterances are fewer than one leaf holds
        assert metrics["val/uar"] == 0.5
    else:
        assert metrics["val/uar"] == metrics["train/uar"] == metrics["last/val_uar"] == metrics["best/val_uar"] == 1


def test_gradient_boosting_learns_from_more_utterances():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    features = rng.normal(size=(200, 8)) + 4 * labels[:, None]
    model = build_classical("gradient_boosting", QUICK["gradient_boosting"], 0).fit(features[:100], labels[:100])
    assert (probabilities(model, features[100:], 2).argmax(axis=1) == labels[100:]).mean() > 0.95


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_metrics_have_the_names_of_a_networks(name, easy, task_at):
    task, features = easy("noisy-A")
    network = Config.from_dotted({"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5})
    (record,) = train(network, task_at("noisy-A"), seed=0)
    metrics, *_ = train_classical(config_of(name), features, task, 0)
    assert metrics.keys() == record.metrics.keys() - {"train/lr"}
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_seed_gives_the_same_numbers_again(name, easy, features):
    task, _ = easy("noisy-A")
    config = config_of(name)
    one, *_ = train_classical(config, features, task, 3)
    assert train_classical(config, features, task, 3)[0] == one
    if name != "gradient_boosting":  # it draws nothing from so few rows
        assert train_classical(config, features, task, 4)[0] != one


def test_validation_rows_and_their_labels_have_no_part_in_training(easy):
    task, features = easy()
    config = config_of("random_forest")
    before, *_ = train_classical(config, features, task, 0)
    other = features.copy()
    other[task.validation.rows] = 0
    turned = dataclasses.replace(task.validation, noisy=1 - task.validation.noisy, truth=1 - task.validation.truth)
    after, *_ = train_classical(config, other, dataclasses.replace(task, validation=turned), 0)
    assert {key: value for key, value in before.items() if key.startswith("train/")} == {
        key: value for key, value in after.items() if key.startswith("train/")
    }


@pytest.mark.parametrize("name", CLASSICAL)
def test_no_label_is_changed_and_every_utterance_is_reported(name, easy):
    task, features = easy("noisy-A")
    _, table, _ = train_classical(config_of(name, "none"), features, task, 0)
    train, rest = table[table["subset"] == "train"], table[table["subset"] == "validation"]
    assert list(train["utterance_id"]) == list(task.train.utterance_ids)
    assert list(rest["utterance_id"]) == list(task.validation.utterance_ids)
    assert (train["corrected_label"] == train["noisy_label"]).all()
    assert (train["label"] != train["noisy_label"]).any()
    assert (train["kept"] == 1).all()
    assert (train["trust"] == 0).all()
    assert table["first_epoch_changed"].isna().all()
    model = build_classical(name, QUICK[name], derived_seed(0, "model") % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(features[task.train.rows], task.train.noisy)
    for part, rows in ((train, task.train.rows), (rest, task.validation.rows)):
        expected = probabilities(model, features[rows], 2)
        np.testing.assert_allclose(part[["p_high", "p_low"]], expected, atol=1e-6)


def test_training_is_on_the_noisy_labels(easy):
    task, features = easy()
    wrong = dataclasses.replace(task.train, noisy=1 - task.train.noisy)
    config = config_of("random_forest")
    metrics, *_ = train_classical(config, features, dataclasses.replace(task, train=wrong), 0)
    assert metrics["val/uar"] == 0
    assert metrics["train/memorised"] == 1


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_class_that_the_training_labels_lack_gets_probability_zero(name):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 8)), np.repeat([0, 3], 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_classical(name, QUICK[name], 0).fit(features, labels)
    found = probabilities(model, features, 5)
    assert found.shape == (60, 5)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[:, [1, 2, 4]] == 0).all()


# Class balance


def overlapping(seed=0):
    """Return a task of 270 utterances of one class and 30 of another, which overlap, and as many to validate on."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat([0, 1], [270, 30]), 2)
    features = rng.normal(size=(600, 8))
    features[:, 0] += 1.5 * labels
    names = np.array([f"u{row}" for row in range(600)])

    def subset(rows):
        ids = tuple(names[rows])
        return Subset(rows, ids, labels[rows], labels[rows], None, ids, ("unknown",) * len(rows))

    return Task(("common", "rare"), Path(), subset(np.arange(300)), subset(np.arange(300, 600)), {}), features


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("class_balance", ["weighting", "sampling"])
def test_balancing_finds_more_of_a_rare_class_at_the_cost_of_the_common_one(name, class_balance):
    task, features = overlapping()

    def recalls(balance):
        _, table, _ = train_classical(config_of(name, balance), features, task, 0)
        rows = table[table["subset"] == "validation"]
        hits = (rows["p_rare"] > rows["p_common"]) == (rows["label"] == "rare")
        return hits.groupby(rows["label"]).mean()

    plain, balanced = recalls("none"), recalls(class_balance)
    assert balanced["rare"] > plain["rare"] + 0.05
    assert balanced["common"] < plain["common"]


def test_a_forest_weights_each_class_once():
    task, features = overlapping()
    _, table, _ = train_classical(config_of("random_forest"), features, task, 0)
    forest = build_classical("random_forest", QUICK["random_forest"], derived_seed(0, "model") % 2**32)
    forest.set_params(class_weight="balanced").fit(features[:300], task.train.noisy)
    rows = table.loc[table["subset"] == "validation", ["p_common", "p_rare"]]
    np.testing.assert_allclose(rows, forest.predict_proba(features[300:]), atol=1e-6)


def test_classes_are_balanced_by_their_noisy_labels():
    task, features = overlapping()
    unknown = dataclasses.replace(task.train, truth=np.full(300, -1))
    config = config_of("random_forest")
    _, table, _ = train_classical(config, features, task, 0)
    _, same, _ = train_classical(config, features, dataclasses.replace(task, train=unknown), 0)
    assert (table["p_rare"] == same["p_rare"]).all()


# Configurations


def test_what_is_not_named_has_the_published_value():
    forest = build_classical("random_forest", {}, 1).get_params()
    assert (forest["n_estimators"], forest["min_samples_split"], forest["class_weight"]) == (1200, 25, None)
    mlp = build_classical("mlp", {}, 1)
    assert [type(step).__name__ for step in mlp] == ["StandardScaler", "MLPClassifier"]
    assert mlp[-1].hidden_layer_sizes == (650,)
    boosting = build_classical("gradient_boosting", {}, 1).get_params()
    assert (boosting["max_depth"], boosting["learning_rate"], boosting["max_iter"]) == (7, 0.008, 1200)


@pytest.mark.parametrize("name", CLASSICAL)
def test_dotted_names_make_a_classical_configuration_and_come_back(name):
    values = {"model.name": name, **{f"model.{key}": value for key, value in QUICK[name].items()}}
    config = Config.from_dotted(values)
    assert config.model.parameters == QUICK[name]
    assert config.model.features == FRONT_ENDS[0]
    assert config.to_dotted().items() >= values.items()
    assert Config.from_dotted(config.to_dotted()) == config


@pytest.mark.parametrize("text", ["1e3", "1000.0", 1000.0, 1000])
def test_a_whole_number_may_be_written_in_any_way(text):
    config = Config.from_dotted({"model.name": "random_forest", "model.trees": text})
    assert repr(config.model.parameters["trees"]) == "1000"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model.name": "random_forest", "model.trees": 0}, r"model\.trees"),
        ({"model.name": "random_forest", "model.trees": 1.5}, r"model\.trees"),
        ({"model.name": "random_forest", "model.tres": 5}, r"model\.trees"),
        ({"model.name": "random_forest", "model.units": 5}, r"model\.units"),
        ({"model.name": "mlp", "model.alpha": -1.0}, r"model\.alpha"),
        ({"model.name": "mlp", "model.alpha": "much"}, r"model\.alpha"),
        ({"model.name": "mlp", "model.parameters": {}}, r"model\.parameters"),
        ({"model.name": "mlp", "model.freeze": "base"}, "mlp, a classical model"),
        ({"model.name": "cnn14", "model.trees": 5}, r"model\.trees"),
        ({"model.name": "cnn14", "model.parameters": {}}, r"model\.parameters"),
        ({"model.name": ["mlp"]}, r"model\.name"),
    ],
)
def test_a_mistake_is_reported(values, said):
    with pytest.raises(UserError, match=said):
        Config.from_dotted(values)


# Space of the study


def test_the_published_values_are_the_points_of_the_space():
    assert [dict(point) for point in load_space("classical", {}).points_to_evaluate] == [
        {"model.name": "random_forest", "model.trees": 1200, "model.min_samples_split": 25},
        {"model.name": "mlp", "model.units": 650, "model.alpha": 1e-4},
        {"model.name": "gradient_boosting", "model.depth": 7, "model.learning_rate": 0.008, "model.rounds": 1200},
    ]


def test_a_space_reads_one_front_end(tmp_path):
    base = {**corpus_defaults("synthetic"), "model.name": "cnn14"}
    assert load_space("classical", {}).extractor(base).front_end.name == FRONT_ENDS[0]
    assert load_space("proselflc", {}).extractor(base).front_end.name == "panns_16k"
    path = tmp_path / "mixed.py"
    path.write_text(
        "'''Doc.'''\nfrom ray import tune\nSPACE = {'model.name': tune.choice(['cnn14', 'mlp'])}\n"
        "POINTS = [{'model.name': 'mlp'}]\n"
    )
    with pytest.raises(UserError, match=r"'mixed'.*handcrafted_16k and panns_16k"):
        load_space(str(path), {}).extractor(base)


def test_a_trial_is_recorded_as_a_networks_is_and_a_resumed_one_is_not_fitted_again(easy, tmp_path, monkeypatch):
    task, _ = easy("noisy-A")
    uri = f"sqlite:///{tmp_path}/records.db"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "e")
    base = {**corpus_defaults("synthetic"), "model.name": "cnn14"}
    context = make_context(task, tmp_path / "search", base)
    parameters = {
        "model.name": "random_forest", "model.trees": 20, "model.min_samples_split": 3, "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.01,
    }  # fmt: skip
    *_, reported = Driver(context, parameters=parameters).run()
    deliver_all(context.folder, runs_of(experiment, "s"), client)
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "finished")
    assert run.data.params["model.trees"] == "20"
    assert {"val/uar", "val_noisy/uar", "train/memorised"} <= run.data.metrics.keys()
    expected = {"val_noisy/uar": run.data.metrics["val_noisy/uar"], EPOCH: base["training.epochs"], DONE: True}
    assert {key: reported[key] for key in expected} == expected

    monkeypatch.setattr(trainable, "train_classical", lambda *_: pytest.fail("fitted again"))
    attempt = Attempt({TRIAL_KEY: 1, ATTEMPT_KEY: 2, **parameters}, context)
    attempt.step()
    again = attempt.step()
    assert {key: again[key] for key in expected} == expected
    assert [event["kind"] for event in again[EVENTS]] == ["tags", "epoch", "artifact"]
