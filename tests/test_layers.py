"""Imports run one way, and the science stands alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "ser": {"ray", "optuna", "mlflow", "study", "search_spaces", "analysis"},
    "search_spaces": {"study", "analysis", "ser"},
    "study": {"analysis"},
    "analysis": {"ray"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_run_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        (str(path.relative_to(ROOT)), name) for path in files for name in imported(path) if name in FORBIDDEN[package]
    ]
    assert not wrong


def test_the_science_loads_where_the_study_cannot():
    script = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow'): sys.modules[name] = None\n"
        "import ser.train, ser.corpora, ser.noise, ser.training.loop\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
