"""Tests of the MLflow store: paging, experiments, and where artifacts are stored."""

import shutil

import pytest
from mlflow import MlflowClient

from ser.utils.errors import UserError
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Create a database, which takes seconds; each test gets a copy."""
    path = tmp_path_factory.mktemp("database") / "m.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path, database):
    shutil.copy(database, tmp_path / "m.db")
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    return uri, client, experiment_id(client, uri, "e")


def test_reading_goes_past_a_page(store, monkeypatch):
    _, client, experiment = store
    monkeypatch.setattr("study.tracking.store.PAGE", 2)
    for _ in range(5):
        client.create_run(experiment)
    assert len(search_all(client, [experiment], "")) == 5


def test_artifacts_are_stored_next_to_the_database(store, tmp_path):
    _, client, experiment = store
    assert client.get_experiment(experiment).artifact_location.startswith((tmp_path / "mlartifacts").as_uri())


def test_a_deleted_experiment_is_an_error(store):
    uri, client, experiment = store
    client.delete_experiment(experiment)
    with pytest.raises(UserError, match="'e' was deleted"):
        experiment_id(MlflowClient(uri), uri, "e")
