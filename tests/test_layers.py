"""Imports run one way, between packages and within each, and the science stands alone."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ser", "search_spaces", "study", "analysis", "ambivalent_ser")
FORBIDDEN = {
    "ser": {"ray", "optuna", "mlflow", "study", "search_spaces", "analysis"},
    "search_spaces": {"study", "analysis", "ser"},
    "study": {"analysis"},
    "analysis": {"ray"},
}
# Each line may import from the lines above it, and the packages of a line from each other in the order given. A package
# that is run as a command (python -m ser.corpora) may import more in its __main__.
ORDER = {
    "ser": (
        "utils audio metrics corpora splits features noise description losses models config config_file training "
        "checkpoint train evaluate predict"
    ),
    "study": (
        "environment messages uri console schema options trial tracking setup backend search plan session commands "
        "run confirm evaluate predict register"
    ),
    "analysis": (
        "common sections page best_runs significance curves importance selection confusion embeddings corrections "
        "report"
    ),
}
MAX_MODULES = 13
"""Modules of one folder, besides ``__init__`` and ``__main__``."""


def modules():
    """Return the modules of the repository by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(path):
    """Return what a file imports, dotted: modules of the repository, else top-level names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        else:
            continue
        yield from (name if name in MODULES else name.partition(".")[0] for name in names)


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_between_packages_run_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in imported(path)
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({name: set(imported(path)) - {name} for name, path in MODULES.items()}).prepare()


@pytest.mark.parametrize("package", sorted(ORDER))
def test_imports_within_a_package_run_one_way(package):
    order = ORDER[package].split()
    wrong = []
    for name, path in MODULES.items():
        if not name.startswith(f"{package}.") or name.endswith("__main__"):
            continue
        own = name.split(".")[1]
        for other in imported(path):
            if other.startswith(f"{package}.") and order.index(other.split(".")[1]) > order.index(own):
                wrong.append((name, other))
    assert not wrong


def test_the_order_names_what_is_there():
    for package, order in ORDER.items():
        names = {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
        assert names == set(order.split())


def test_a_folder_can_be_taken_in_at_a_glance():
    folders = Counter(path.parent for path in MODULES.values() if not path.name.startswith("__"))
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > MAX_MODULES}
    assert set(crowded) <= {"search_spaces"}  # one file for each space
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 500 for path in MODULES.values())


def test_the_science_loads_where_the_study_cannot():
    script = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow'): sys.modules[name] = None\n"
        "import ser.train, ser.corpora, ser.noise, ser.training.loop\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
