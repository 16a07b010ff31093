"""The installed package: the command ``ambivalent``, and a wheel in a folder with packages of the same names."""

import importlib.util
import subprocess
import sys

import pytest

from ambivalent_ser import __main__ as command
from ser.utils.command_names import COMMANDS


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
