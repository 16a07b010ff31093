"""Tests of what every run records about the code: versions, and the commit of the project's own checkout."""

import os
import shutil
import subprocess

import pytest

from ambivalent_ser import __version__
from study.tracking.provenance import OWN_FILE, commit_tags, environment_tags


def git(folder, *words):
    """Run a git command with a user of its own and return what it prints."""
    about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    command = ["git", *about, "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder, name=OWN_FILE):
    """Commit one file, in a new repository if there is none; return the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("as committed")
    git(folder, "init")
    git(folder, "add", name)
    git(folder, "commit", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return the folder of a checkout of the project, and its commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "checkout").mkdir()
    return tmp_path / "checkout", commit(tmp_path / "checkout")


def test_versions_are_recorded():
    tags = environment_tags()
    assert tags["version.ambivalent-ser"] == __version__
    assert {"version.python", "version.torch", "version.torchaudio", "version.ray", "version.optuna"} <= tags.keys()
    assert environment_tags("filelock", "no such package").keys() - tags.keys() == {"version.filelock"}


def test_the_commit_of_a_checkout_is_recorded_and_whether_it_was_changed(checkout):
    folder, head = checkout
    (folder / "notes.txt").write_text("not tracked")
    assert commit_tags(folder) == {"mlflow.source.git.commit": head, "git.dirty": "false"}
    (folder / OWN_FILE).write_text("changed")
    assert commit_tags(folder) == {"mlflow.source.git.commit": head, "git.dirty": "true"}


@pytest.mark.parametrize("kind", ["shallow clone", "worktree", "submodule"])
def test_a_checkout_of_any_kind_has_a_commit(checkout, tmp_path, kind):
    folder, head = checkout
    other = tmp_path / "other"
    if kind == "shallow clone":
        git(tmp_path, "clone", "--depth", "1", folder.as_uri(), str(other))
    elif kind == "worktree":
        git(folder, "worktree", "add", str(other))
    else:
        (tmp_path / "outer").mkdir()
        commit(tmp_path / "outer", "README")
        git(tmp_path / "outer", "submodule", "add", folder.as_uri(), "inner")
        other = tmp_path / "outer" / "inner"
    assert commit_tags(other)["mlflow.source.git.commit"] == head


def test_the_repository_around_an_installed_package_is_not_recorded(checkout):
    folder, _ = checkout
    packages = folder / ".venv" / "site-packages"
    (packages / OWN_FILE).parent.mkdir(parents=True)
    shutil.copy(folder / OWN_FILE, packages / OWN_FILE)
    assert commit_tags(packages) == {}
    (packages / ".git").mkdir()  # not a repository, so git would take the one around it
    assert commit_tags(packages) == {}


def test_the_repository_that_a_package_is_installed_into_is_not_recorded(tmp_path):
    commit(tmp_path, "app.py")
    (tmp_path / OWN_FILE).parent.mkdir(parents=True)
    (tmp_path / OWN_FILE).touch()  # as by pip install --target
    assert commit_tags(tmp_path) == {}


def test_another_repository_in_the_environment_is_not_recorded(checkout, tmp_path, monkeypatch):
    folder, head = checkout
    (tmp_path / "other").mkdir()
    commit(tmp_path / "other", "app.py")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert commit_tags(folder) == {"mlflow.source.git.commit": head, "git.dirty": "false"}


def test_no_program_of_a_repository_is_run(checkout, tmp_path):
    folder, head = checkout
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
    program.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(program))
    shutil.copy(program, folder / ".git" / "hooks" / "post-index-change")
    index = (folder / ".git" / "index").read_bytes()
    os.utime(folder / OWN_FILE, (1, 1))  # so that git reads it again
    assert commit_tags(folder) == {"mlflow.source.git.commit": head, "git.dirty": "false"}
    assert not (tmp_path / "run").exists()
    assert (folder / ".git" / "index").read_bytes() == index


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit_tags(checkout[0]) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files to another user")
def test_a_checkout_that_git_does_not_trust_has_no_commit(checkout, monkeypatch, tmp_path):
    folder, _ = checkout
    monkeypatch.setenv("HOME", str(tmp_path))  # without a list of trusted folders
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    assert commit_tags(folder) == {}
