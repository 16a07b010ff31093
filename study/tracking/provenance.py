"""What a run was made with: versions, and the commit of the project's own code."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from study.environment import CODE_ROOT

PACKAGES = ("ambivalent-ser", "torch", "ray", "optuna", "mlflow", "numpy", "pandas", "scikit-learn")


def environment_tags() -> dict[str, str]:
    """Return the versions of Python, of this project and of its main dependencies, and the git commit of a checkout."""
    tags = {"version.python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            tags[f"version.{package}"] = version(package)
    if not (CODE_ROOT / ".git").exists():
        return tags  # an installed package may lie in a repository of another project
    command = ["git", "-C", str(CODE_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        tags[MLFLOW_GIT_COMMIT] = commit
    return tags
