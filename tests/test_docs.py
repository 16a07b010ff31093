"""What the documentation says can be done: snippets run, links and options exist."""

import ast
import configparser
import re
from dataclasses import fields
from pathlib import Path

import pytest
import tyro

from analysis.common.registry import SECTIONS, load_section
from analysis.options import ReportOptions
from ser.corpora.__main__ import DescribeOptions
from ser.corpora.fetch import FetchOptions
from ser.evaluate import EvaluateOptions
from ser.noise.__main__ import EstimateOptions, ExportOptions
from ser.predict import PredictOptions
from ser.train import TrainOptions
from ser.utils.command_names import COMMANDS
from study.commands.evaluate import EvaluateRunOptions
from study.commands.predict import PredictRunOptions
from study.commands.register import RegisterOptions
from study.commands.remove import RemoveOptions
from study.commands.ui import UiOptions
from study.options import StudyOptions
from study.setup.confirmation import ConfirmOptions

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
OPTIONS = (
    StudyOptions,
    ConfirmOptions,
    EvaluateRunOptions,
    PredictRunOptions,
    RegisterOptions,
    RemoveOptions,
    UiOptions,
    TrainOptions,
    ReportOptions,
    *(load_section(name).Options for name in SECTIONS),
    DescribeOptions,
    FetchOptions,
    ExportOptions,
    EstimateOptions,
    EvaluateOptions,
    PredictOptions,
)
# Options of MLflow, Ray and benchmarks/faults.py, those of every command, and an old spelling.
ELSEWHERE = {
    "--part", "--backend-store-uri", "--allowed-hosts", "--head", "--repeats", "--help", "--version", "--repo-type",
    "--local-dir",
}  # fmt: skip


def options():
    names = set()
    for kind in OPTIONS:
        names |= {"--" + field.name.replace("_", "-") for field in fields(kind)}
    return names - {"--settings"} | {"--set"} | options_of_benchmarks()


def options_of_benchmarks():
    """The arguments of each script's ``main``, and the fields of its options, by their source."""
    names = set()
    for path in (ROOT / "benchmarks").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                names |= {argument.arg for argument in node.args.args}
            if isinstance(node, ast.ClassDef) and node.name.endswith("Options"):
                names |= {field.target.id for field in node.body if isinstance(field, ast.AnnAssign)}
    return {"--" + name.replace("_", "-") for name in names}


def test_the_options_above_are_those_of_the_parser(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(StudyOptions, args=["--help"])
    shown = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert {"--set", "--space", "--noise", "--resume"} <= shown & options()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_and_link_of_a_page_exists(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named <= options() | ELSEWHERE
    assert "PLACEHOLDER" not in text
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert all((page.parent / link).exists() for link in links), links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_and_command_of_a_page_exists(page):
    text = page.read_text(encoding="utf-8")
    scripts = re.findall(r"python ((?:study|analysis|benchmarks)/[a-z_]+\.py)", text)
    assert all((ROOT / script).is_file() for script in scripts), scripts
    assert set(re.findall(r"python -m (ser\.\w+)", text)) <= {command.script for command in COMMANDS.values()}
    assert set(re.findall(r"(?:`|    )ambivalent ([a-z][a-z-]*)", text)) <= {*COMMANDS, "fetch"}


@pytest.mark.parametrize(
    "page",
    [ROOT / name for name in ("README.md", "docs/noise.md", "docs/losses.md", "docs/models.md")],
    ids=lambda page: page.name,
)
def test_the_python_of_a_page_runs(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})


def test_the_pages_that_the_code_names_exist():
    sources = [
        path for folder in ("ser", "study", "analysis", "search_spaces") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {name for path in sources for name in re.findall(r"docs/[a-z_]+\.md", path.read_text(encoding="utf-8"))}
    assert named
    assert all((ROOT / name).exists() for name in named), named


def test_nothing_installs_the_project_by_name_from_an_index():
    """On the package index, ``ambivalent`` is another project."""
    folders = ("ambivalent_ser", "analysis", "benchmarks", "cluster", "docs", "search_spaces", "ser", "study")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix not in {".pyc", ".svg"}]
    files += [ROOT / name for name in ("README.md", "Makefile", "setup.cfg", "constraints.txt", ".ci/run")]
    pattern = re.compile(r"install\b.*\bambivalent\b(?!/)|ambivalent(-ser)?(\[\w+\])?\s*[=<>~]=")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        if path.is_file()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if pattern.search(line)
    ]
    assert not found, found


def test_every_required_package_has_its_reason_in_the_architecture():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    pattern = r"[\w-]+(?:\[\w+\])?"
    names = {re.match(pattern, line)[0] for group in groups for line in group.splitlines() if line}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Dependencies\n")[2]
    given, _, rows = text.partition("\n\n|")
    listed = [given, *(line.split("|")[1] for line in rows.splitlines() if line.startswith("|"))]
    explained = {name for part in listed for name in re.findall(pattern, part)}
    assert "torch" in names
    assert not names - explained
