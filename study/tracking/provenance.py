"""What a run was made with: versions, and the commit of the project's own code."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from ambivalent_ser import __version__
from study.environment import CODE_ROOT
from study.schema import Tag

PACKAGES = ("torch", "torchaudio", "ray", "optuna", "mlflow", "numpy", "pandas", "scikit-learn")
OWN_FILE = "study/tracking/provenance.py"


def environment_tags(*more: str) -> dict[str, str]:
    """Return the versions of Python, of this project and of its main dependencies, and the git commit of a checkout.

    Args:
        more: Further packages that are used.
    """
    tags = {"version.python": platform.python_version(), "version.ambivalent-ser": __version__}
    for package in (*PACKAGES, *more):
        with suppress(PackageNotFoundError):
            tags[f"version.{package}"] = version(package)
    return {**tags, **commit_tags(CODE_ROOT)}


def commit_tags(folder: Path) -> dict[str, str]:
    """Return the commit that the code in a folder was checked out from, and whether files were changed since.

    Args:
        folder: Folder that holds the project's packages.

    Returns:
        The commit's hash, and ``true`` or ``false`` for tracked files that differ from it. Nothing if the folder is no
        checkout of its own, as that of an installed package within another repository; if git is not installed, or
        refuses to read a checkout that another user owns.
    """
    if not (folder / ".git").exists():  # a folder, or the file of a worktree or a submodule
        return {}
    try:
        # Packages can be installed or copied into the root of another repository, which does not track them.
        _git(folder, "ls-files", "--error-unmatch", OWN_FILE)
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {MLFLOW_GIT_COMMIT: commit, Tag.GIT_DIRTY: str(bool(changed)).lower()}


def _git(folder: Path, *words: str) -> str:
    """Return what git prints about the repository of this folder alone; git runs nothing else and writes nothing."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
