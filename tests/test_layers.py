"""Imports run one way, ``ser`` runs without Ray, Optuna and MLflow, and sections of the report follow a convention."""

import ast
import subprocess
import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from analysis.common.registry import SECTIONS, load_section
from analysis.options import OPTIONS, RecordsOptions

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ser", "search_spaces", "study", "analysis", "ambivalent_ser")
FORBIDDEN = {
    "ser": {"ray", "optuna", "mlflow", "study", "search_spaces", "analysis"},
    "search_spaces": {"study", "analysis", "ser"},
    "study": {"analysis"},
    "analysis": {"ray"},
}
# Modules and subpackages of each package, in order: each may import only those before it. The __main__ of a package
# that runs as a command (python -m ser.corpora) may import more.
ORDER = {
    "ser": (
        "utils torchaudio_import audio metrics corpora speaker_groups splits fold_design fold_classes class_mapping "
        "features noise labels description losses models model_config config config_file training checkpoint train "
        "evaluate predict"
    ),
    "study": (
        "environment uri console schema options trial tracking setup backend search commands "
        "run confirm evaluate predict register export remove ui"
    ),
    "analysis": (
        "options inference common sections page best_runs significance dose_response across_corpora curves "
        "importance selection confusion embeddings corrections report"
    ),
}
MAX_MODULES = 13
"""Largest number of modules in one folder, without ``__init__`` and ``__main__``."""

COMMANDS = [name for name, path in SECTIONS.items() if path.startswith("analysis.sections.")]


def modules():
    """Return the modules of the repository by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(path):
    """Yield what a file imports: dotted names for modules of the repository, else top-level names."""
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


def test_folders_hold_few_modules_and_modules_are_short():
    folders = Counter(path.parent for path in MODULES.values() if not path.name.startswith("__"))
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > MAX_MODULES}
    assert set(crowded) <= {"search_spaces"}  # one file for each space
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 500 for path in MODULES.values())


def test_ser_runs_without_ray_optuna_and_mlflow():
    script = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow'): sys.modules[name] = None\n"
        "import ser.train, ser.corpora, ser.noise, ser.training.loop\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


# Sections of the analysis


def test_sections_do_not_import_each_other():
    pairs = set()
    for name, path in MODULES.items():
        if name.startswith("analysis.sections.") and path.name != "__init__.py":
            own = name.split(".")[2]
            pairs |= {(own, other.split(".")[2]) for other in imported(path) if other.startswith("analysis.sections.")}
    assert all(own == other for own, other in pairs)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_a_title_options_and_a_function(name):
    module = load_section(name)
    assert module.TITLE
    assert is_dataclass(module.Options)
    assert issubclass(module.Options, RecordsOptions)
    assert callable(module.section)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_script_of_a_section_is_thin_and_writes_to_a_folder_of_its_name(name):
    assert load_section(name).Options is OPTIONS[name]
    output = {option.name: option.default for option in fields(OPTIONS[name])}["output"]
    assert output == Path("results") / name
    script = (ROOT / "analysis" / f"{name}.py").read_text(encoding="utf-8")
    assert f'return run_section("{name}")' in script
    assert len(script.splitlines()) <= 20


@pytest.mark.slow
def test_a_script_runs_in_a_profiler(tmp_path):
    command = [sys.executable, "-m", "cProfile", "-o", str(tmp_path / "profile"), str(ROOT / "analysis" / "curves.py")]
    done = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--run" in done.stdout
