"""Commands in messages: as they are called from a checkout, and as they are called elsewhere."""

import pytest

from ser.utils.command_names import CODE_ROOT, COMMANDS, command_line


def test_a_checkout_runs_its_scripts(monkeypatch):
    monkeypatch.chdir(CODE_ROOT)
    assert command_line("study/run.py") == "python study/run.py"
    assert command_line("ser.train") == "python -m ser.train"


@pytest.mark.parametrize("own", [False, True])
def test_elsewhere_the_installed_command_runs_them(own, tmp_path, monkeypatch):
    if own:  # a project of another name with the same folder
        (tmp_path / "study").mkdir()
        (tmp_path / "study" / "run.py").touch()
        (tmp_path / "setup.cfg").touch()
    monkeypatch.chdir(tmp_path)
    assert command_line("study/run.py") == "ambivalent study"
    assert command_line("ser.train") == "ambivalent train"


def test_every_script_is_a_command():
    scripts = {
        f"{folder}/{path.name}"
        for folder in ("study", "analysis")
        for path in (CODE_ROOT / folder).glob("*.py")
        if "run_command(main)" in path.read_text(encoding="utf-8")
    }
    modules = {
        str(path.relative_to(CODE_ROOT).with_suffix("")).replace("/", ".").removesuffix(".__main__")
        for path in (CODE_ROOT / "ser").rglob("*.py")
        if "run_command(main)" in path.read_text(encoding="utf-8")
    }
    assert len(scripts) >= 14
    assert len(modules) >= 6
    assert {command.script for command in COMMANDS.values()} == scripts | modules


def test_an_unknown_script_is_an_error():
    with pytest.raises(KeyError):
        command_line("study/fly.py")
