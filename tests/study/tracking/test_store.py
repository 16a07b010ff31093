"""Tests of the MLflow store: opening, paging, creation by several processes, and what every run records."""

import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from mlflow import MlflowClient

from ser.utils.errors import UserError
from study.environment import CODE_ROOT as ROOT
from study.messages import without_password
from study.tracking.opening import experiment_id, open_client
from study.tracking.provenance import environment_tags
from study.tracking.store import search_all
from study.uri import absolute_uri


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


def test_passwords_are_hidden():
    assert without_password("postgresql://me:s3cret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert without_password("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert without_password("at http://me:a/b@h?password=x&y=1 now") == "at http://me:***@h?password=***&y=1 now"


def test_a_relative_database_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///m.db") == f"sqlite:///{tmp_path}/m.db"
    assert absolute_uri("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert absolute_uri("http://host") == "http://host"


def open_database(uri, number):
    client = open_client(uri)
    return experiment_id(client, uri, "shared"), number


@pytest.mark.slow
def test_two_studies_can_create_one_database_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        ids = list(pool.map(open_database, [f"sqlite:///{tmp_path}/m.db"] * 2, range(2)))
    assert ids[0][0] == ids[1][0]


def test_a_database_whose_creation_was_killed_is_created_again(tmp_path):
    path = tmp_path / "mlflow.db"
    command = f"from study.tracking.opening import open_client; open_client({f'sqlite:///{path}'!r})"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    while process.poll() is None and not sum(part.stat().st_size for part in tmp_path.glob("mlflow.db.making*")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it was not done
    assert not path.exists()
    client = open_client(f"sqlite:///{path}")
    assert client.get_experiment(client.create_experiment("after")).name == "after"
    assert [left.name for left in tmp_path.glob("*making*")] == []


@pytest.fixture
def repository(tmp_path):
    """Return a git repository with a commit."""
    for command in (["init"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    return tmp_path


def test_the_commit_of_a_checkout_is_recorded(repository, monkeypatch):
    monkeypatch.setattr("study.tracking.provenance.CODE_ROOT", repository)
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    tags = environment_tags()
    assert tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert {"version.python", "version.torch", "version.ray", "version.optuna"} <= tags.keys()


def test_an_installed_package_does_not_record_the_commit_of_the_repository_around_it(repository, monkeypatch):
    packages = repository / ".venv" / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr("study.tracking.provenance.CODE_ROOT", packages)
    assert "mlflow.source.git.commit" not in environment_tags()
