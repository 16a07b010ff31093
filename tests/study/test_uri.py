"""Tests of tracking URIs: which one is meant, and the file that it names for us and for MLflow."""

import pytest
from sqlalchemy.engine import make_url

from ser.utils.errors import UserError, without_password
from study.uri import absolute_uri, chosen_experiment, chosen_uri, is_default_uri


def test_passwords_are_hidden():
    assert without_password("postgresql://me:s3cret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert without_password("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert without_password("at http://me:a/b@h?password=x&y=1 now") == "at http://me:***@h?password=***&y=1 now"


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///m.db", "sqlite:///{cwd}/m.db"),
        ("sqlite:///./a/../m.db", "sqlite:///{cwd}/a/../m.db"),
        ("sqlite:////x/m.db", "sqlite:////x/m.db"),
        ("sqlite:////x/my study/ü#1.db", "sqlite:////x/my study/ü#1.db"),
        ("sqlite:////x/my%20study/m.db", "sqlite:////x/my study/m.db"),
        ("sqlite:////x/100%/m.db", "sqlite:////x/100%/m.db"),
        ("http://host/a%20b?c", "http://host/a%20b?c"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("databricks", "databricks"),
    ],
)
def test_an_absolute_uri_names_the_file_that_mlflow_opens(uri, absolute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri(uri) == absolute.format(cwd=tmp_path)
    if uri.startswith("sqlite"):
        # MLflow opens a database by SQLAlchemy, which finds the same file by both.
        of_both = [tmp_path / str(make_url(one).database) for one in (uri, absolute_uri(uri))]
        assert of_both[0] == of_both[1]


@pytest.mark.parametrize(
    "uri",
    [
        "", "sqlite:", "sqlite://", "sqlite:///", "sqlite://x/m.db", "sqlite:/x/m.db", "sqlite:///:memory:",
        "SQLite:///m.db", "sqlite+pysqlite:///m.db",
    ],
)  # fmt: skip
def test_a_uri_without_a_database_is_refused(uri):
    with pytest.raises(UserError, match="names no database"):
        absolute_uri(uri)


@pytest.mark.parametrize(
    "uri", ["mlruns", "./mlflow.db", "/x/mlflow.db", r"C:\x\mlflow.db", "file:mlruns", "file:///x"]
)
def test_a_path_is_refused(uri):
    with pytest.raises(UserError, match="is a path"):
        absolute_uri(uri)


@pytest.mark.parametrize(
    "uri", ["sqlite:////x/a?b.db", "sqlite:///m.db?timeout=5", "sqlite:////x/a%3Fb.db", "sqlite:////x/a%2541.db",
            r"sqlite:///C:\x\m.db"]
)  # fmt: skip
def test_a_path_that_mlflow_would_read_as_another_one_is_refused(uri):
    with pytest.raises(UserError, match="another path"):
        absolute_uri(uri)


def test_a_folder_that_no_uri_can_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "feature%2Fbranch").mkdir()
    monkeypatch.chdir(tmp_path / "feature%2Fbranch")
    with pytest.raises(UserError, match=r"feature%2Fbranch/mlflow\.db"):
        chosen_uri(None)


def test_the_option_goes_before_the_environment_which_goes_before_the_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert chosen_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert is_default_uri(chosen_uri(None))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@host")
    assert chosen_uri(None) == "http://me:s3cret@host"
    assert capsys.readouterr().err == "--tracking-uri http://me:***@host, from MLFLOW_TRACKING_URI\n"
    assert chosen_uri("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert capsys.readouterr().err == ""
    assert not is_default_uri(f"sqlite:///{tmp_path}/mlflow.db")  # a command without the option would use the server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert is_default_uri(chosen_uri(None))


def test_the_experiment_comes_from_the_option_or_the_environment(monkeypatch, capsys):
    assert chosen_experiment(None) is None
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    with pytest.raises(UserError, match="MLFLOW_EXPERIMENT_ID is set"):
        chosen_experiment(None)
    assert chosen_experiment("mine") == "mine"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert chosen_experiment(None) == "ours"
    assert capsys.readouterr().err == "--experiment ours, from MLFLOW_EXPERIMENT_NAME\n"
