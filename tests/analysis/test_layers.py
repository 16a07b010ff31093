"""Imports within the analyses run one way, sections stand alone, and every section follows the convention."""

import ast
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from analysis.common.records import RecordsOptions
from analysis.common.registry import SECTIONS, load_section

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("analysis.common", "analysis.sections", "analysis.page")
ALLOWED = {("best_runs", "significance")}
"""Sections that import another: the best runs' test scores are pooled as the comparisons pool them."""
COMMANDS = {name: path for name, path in SECTIONS.items() if path.startswith("analysis.sections.")}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("analysis."):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    return next(number for number, prefix in enumerate(LAYERS) if name.startswith(prefix))


def test_common_imports_no_section_and_sections_import_no_page():
    files = [path for prefix in LAYERS for path in (ROOT / prefix.replace(".", "/")).rglob("*.py")]
    assert len(files) > 30
    wrong = [
        (module_name(path), name) for path in files for name in imported(path) if layer(name) > layer(module_name(path))
    ]
    assert not wrong


def test_sections_do_not_import_each_other():
    files = [path for path in (ROOT / "analysis" / "sections").rglob("*.py") if path.name != "__init__.py"]
    pairs = {
        (path.parent.name, name.split(".")[2])
        for path in files
        for name in imported(path)
        if name.startswith("analysis.sections.")
    }
    assert {(own, other) for own, other in pairs if own != other} == ALLOWED


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_a_title_options_and_a_function(name):
    module = load_section(name)
    assert module.TITLE
    assert is_dataclass(module.Options)
    assert issubclass(module.Options, RecordsOptions)
    assert callable(module.section)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_script_of_a_section_is_thin_and_writes_to_a_folder_of_its_name(name):
    output = {option.name: option.default for option in fields(load_section(name).Options)}["output"]
    assert output == Path("results") / name
    script = (ROOT / "analysis" / f"{name}.py").read_text(encoding="utf-8")
    assert f'main = section_command("{name}")' in script
    assert len(script.splitlines()) < 20


@pytest.mark.slow
def test_a_script_runs_in_a_profiler(tmp_path):
    command = [sys.executable, "-m", "cProfile", "-o", str(tmp_path / "profile"), str(ROOT / "analysis" / "curves.py")]
    done = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--run" in done.stdout
