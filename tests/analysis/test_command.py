"""What the commands of the analyses share: the line of steps, and Ctrl-C while modules are imported."""

import subprocess
import sys

import pytest

from analysis.common.command import Steps
from ser.utils.command_line import EXIT_INTERRUPTED
from study.environment import CODE_ROOT as ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("analysis", "study")
    for path in (ROOT / folder).glob("*.py")
    if "run_command(main)" in path.read_text(encoding="utf-8")
)


def test_ctrl_c_is_one_line_while_modules_are_imported():
    script = """
import runpy, signal, sys
class Slow:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("pandas", "torch", "mlflow", "ray", "optuna"):
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Slow())
for path in sys.argv[1:]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = []
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        print(path, end.code)
"""
    done = subprocess.run([sys.executable, "-c", script, *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
    assert len(SCRIPTS) >= 17
    assert done.stdout.splitlines() == [f"{path} {EXIT_INTERRUPTED}" for path in SCRIPTS]
    assert done.stderr.splitlines() == ["interrupted"] * len(SCRIPTS)


def test_help_imports_nothing_that_a_command_works_with():
    script = """
import contextlib, io, runpy, sys
for path in sys.argv[1:]:
    sys.argv[1:] = ["--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    print(path, "--tracking-uri" in printed.getvalue())
heavy = {"pandas", "numpy", "torch", "mlflow", "ray", "optuna", "scipy", "sklearn", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    scripts = [path for path in SCRIPTS if path.startswith("analysis/")]
    done = subprocess.run([sys.executable, "-c", script, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert len(scripts) >= 11, scripts
    assert done.stdout.splitlines() == [*(f"{path} True" for path in scripts), "[]"], done.stderr


def test_steps_in_a_pipe_are_lines_with_their_number(capsys):
    with Steps(2) as steps:
        steps.begin("reading [the] records")
        assert list(steps.over(["curves"], str.title)) == ["curves"]
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["1 of 2, 0 s: reading [the] records", "2 of 2, 0 s: Curves"]
    assert printed.out == ""


@pytest.mark.parametrize("columns", [40, 80])
def test_steps_in_a_terminal_are_one_line_of_its_width_that_disappears(monkeypatch, capsys, columns):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with Steps(3) as steps:
        steps.begin("Selection by noisy labels, and transfer between noise levels")
        (line,) = list(steps._line.get_renderables())
        options = steps._console.options
        (shown,) = ["".join(part.text for part in row) for row in steps._console.render_lines(line, options)]
    assert len(shown) == columns
    assert shown.startswith("Selection by noisy")
    assert "1/3" in shown
