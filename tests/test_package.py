"""The installed package: the command ``ambivalent``, and a wheel in a folder with packages of the same names."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from ambivalent_ser import __main__ as command
from ser.utils.command_names import CODE_ROOT, COMMANDS

PACKAGES = ("ambivalent_ser", "analysis", "search_spaces", "ser", "study")


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ambivalent", *words])
    return command.main()


def test_the_overview_names_every_command_in_a_line_each(monkeypatch, capsys):
    assert call(monkeypatch, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in [*COMMANDS, "fetch"]:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    assert max(map(len, lines)) <= 120


def test_no_command_is_a_mistake(monkeypatch, capsys):
    assert call(monkeypatch) == 2
    assert "ambivalent COMMAND" in capsys.readouterr().out


def test_a_misspelt_command_gets_the_nearest_one(monkeypatch, capsys):
    assert call(monkeypatch, "stuyd", "--help") == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'stuyd'. Did you mean 'study'?")
    assert call(monkeypatch, "x") == 2
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_the_main_of_its_script(name):
    """The script's own ``main``, not another's: ``--help`` is the same as the script's."""
    script = COMMANDS[name].script
    module = script.removesuffix(".py").replace("/", ".")
    if importlib.util.find_spec(module).submodule_search_locations is not None:
        module += ".__main__"
    assert command.load_main(name) is importlib.import_module(module).main


def test_fetch_is_a_command_of_corpora(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "fetch", "--help")
    assert ended.value.code == 0
    assert "ravdess" in capsys.readouterr().out


def test_a_mistake_in_a_command_is_one_message_and_exit_code_2(monkeypatch, capsys):
    assert call(monkeypatch, "train", "--epochs", "1", "--epochs", "2") == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_imports_no_command():
    script = (
        "import sys; sys.argv = ['ambivalent', '--help']; from ambivalent_ser.__main__ import main; main();"
        "heavy = {'torch', 'numpy', 'ray', 'mlflow', 'tyro', 'study', 'analysis'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_command_imports_no_other_command():
    script = (
        "import sys; from ambivalent_ser.__main__ import load_main; load_main('train');"
        "other = {'ray', 'mlflow', 'study', 'analysis'} & set(sys.modules); assert not other, other"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.fixture(scope="module")
def wheel_environment(tmp_path_factory):
    """An environment with the wheel, and with this environment's packages except its own copy of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(CODE_ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CODE_ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], check=True
    )
    shutil.rmtree(source)
    environment = folder / "environment"
    venv.create(environment)
    (wheel,) = folder.glob("ambivalent_ser-*.whl")
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--quiet", "--no-deps", wheel], check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # Paths in this file are searched for packages, but not for further .pth files, so an editable install stays hidden.
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(paths)))
    return environment


@pytest.fixture
def hostile_folder(tmp_path):
    """A folder that has packages of the same names, which fail on import."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name} of another project')")
    (tmp_path / "study" / "run.py").touch()
    return tmp_path


@pytest.mark.slow
def test_a_wheel_works_in_a_folder_with_packages_of_the_same_names(wheel_environment, hostile_folder):
    before = listing(wheel_environment)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words):
        done = subprocess.run(
            [wheel_environment / "bin" / "ambivalent", *words],
            cwd=hostile_folder,
            env={**variables, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    small = ["--trials", "1", "--epochs", "1", "--width", "0.02", "--set", "training.crop_seconds=0.5"]
    shown = run("study", "--space", "proselflc", "--noise", "clean", "--name", "first", *small)
    assert "ambivalent study --resume --name first\n" in shown
    assert "python study/run.py" not in shown
    run("report", "--output", "report")
    made = {path.name for path in hostile_folder.iterdir()} - set(PACKAGES)
    assert {"results", "mlflow.db", "mlartifacts", "report"} <= made
    page = (hostile_folder / "report" / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"</?(?:span|code)[^>]*>", "", page)  # the words of a command are marked one by one
    assert "ambivalent confirm" in page
    assert "python study/" not in page
    assert "python analysis/" not in page
    assert listing(wheel_environment) == before


def listing(folder: Path):
    """Every file below a folder with its size and time."""
    states = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {str(path): (state.st_size, state.st_mtime_ns) for path, state in states}
