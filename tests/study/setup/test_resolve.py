"""Tests of a study's store and experiment: from its options, from MLflow's variables, and when it is resumed."""

import pytest

from analysis.common.records import open_records
from analysis.options import RecordsOptions
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.setup.resolve import resolve
from study.tracking.opening import experiment_id, open_client

SERVER = "http://host:5000"


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Return a function that writes the options of a study, and one that resumes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "studies" / "n").mkdir(parents=True)

    def begin(**options):
        resolve(StudyOptions(name="n", **options)).write("")

    return begin, lambda **options: resolve(StudyOptions(name="n", resume=True, **options))


def test_a_new_study_takes_store_and_experiment_from_mlflows_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = resolve(StudyOptions())
    assert (options.tracking_uri, options.experiment) == (f"sqlite:///{tmp_path}/mlflow.db", "synthetic")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    options = resolve(StudyOptions())
    assert (options.tracking_uri, options.experiment) == (SERVER, "ours")
    options = resolve(StudyOptions(tracking_uri="sqlite:///m.db", experiment="mine"))
    assert (options.tracking_uri, options.experiment) == (f"sqlite:///{tmp_path}/m.db", "mine")


def test_a_study_is_resumed_in_its_own_store_and_experiment_whatever_the_environment_says(
    begun, tmp_path, monkeypatch, capsys
):
    begin, resume = begun
    begin(tracking_uri="sqlite:///m.db", experiment="mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    options = resume()
    assert (options.tracking_uri, options.experiment) == (f"sqlite:///{tmp_path}/m.db", "mine")
    assert capsys.readouterr().err == ""


def test_the_store_that_a_resuming_call_names_is_used_even_if_it_is_the_default_one(begun, tmp_path):
    begin, resume = begun
    begin(tracking_uri=SERVER)
    assert resume().tracking_uri == SERVER
    assert resume(tracking_uri="sqlite:///mlflow.db").tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_password_is_taken_from_the_environment_or_asked_for(begun, monkeypatch):
    begin, resume = begun
    begin(tracking_uri="http://me:s3cret@host")
    with pytest.raises(UserError, match=r"records of study 'n' are in http://me:\*\*\*@host, whose password"):
        resume()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@other")
    with pytest.raises(UserError, match="whose password"):
        resume()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@host")
    assert resume().tracking_uri == "http://me:s3cret@host"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resume(tracking_uri="http://me:s3cret@host").tracking_uri == "http://me:s3cret@host"


def test_analyses_take_store_and_experiment_from_mlflows_variables(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    client.create_run(experiment_id(client, uri, "newest"))
    experiment_id(client, uri, "ours")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    with pytest.raises(UserError, match="experiment 'ours'"):  # which has no trial
        open_records(RecordsOptions())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "our")
    with pytest.raises(UserError, match=r"unknown experiment 'our'\. Did you mean 'ours'"):
        open_records(RecordsOptions())
