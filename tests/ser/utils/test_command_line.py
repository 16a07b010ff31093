"""Whatever ends a command: one message, the exit code, and the traceback of an unexpected error in a file."""

import errno
import os
import pty
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from ser.utils.command_line import EXIT_INTERRUPTED, EXIT_MISTAKE, EXIT_UNEXPECTED, parse, run_command
from ser.utils.errors import UserError, first_line, log_unexpected

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Return the folder that the tests use for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def run(capsys):
    """Return a function that runs a body as a command does, and returns exit code and error output."""

    def call(body):
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            code = run_command(body)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return code, capsys.readouterr().err

    return call


def raising(error):
    def body():
        raise error

    return body


@dataclass
class Options:
    """A command."""

    number: int = 0


class OtherEnd(BaseException):
    """An error of compiled packages, which Python's ``Exception`` does not cover."""


def command(body, before=""):
    """Return a command whose ``main`` has the given body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"import sys\nfrom ser.utils.command_line import run_command\n{before}\ndef main():\n{lines}"
    return [sys.executable, "-c", f"{text}\nsys.exit(run_command(main))"]


def script(body, *, before="", **options):
    """Run a command in a process of its own, and return the finished process."""
    settings = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False, "timeout": 60}
    return subprocess.run(command(body, before), **{**settings, **options})


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no such corpus"), EXIT_MISTAKE, "error: no such corpus\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), EXIT_MISTAKE, "error: No such file (a.csv)\n"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted\n"),
    ],
)
def test_an_expected_end_is_one_line_without_a_file(run, logs, error, code, said):
    assert run(raising(error)) == (code, said)
    assert list(logs.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (KeyError("loss"), "KeyError: 'loss'"),
        (MemoryError(), "MemoryError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit(0), "SystemExit: 0"),
        (OtherEnd("a panic"), "OtherEnd: a panic"),
        (ValueError("http://me:secret@host\nsecond line"), "ValueError: http://me:***@host"),
    ],
)
def test_an_unexpected_end_keeps_its_traceback_in_a_file_that_is_named(run, logs, error, said):
    code, printed = run(raising(error))
    (file,) = logs.iterdir()
    assert code == EXIT_UNEXPECTED == 70
    assert printed.splitlines()[0] == f"error: {said}"
    assert printed.rstrip().endswith(str(file))
    assert "Traceback" not in printed
    kept = file.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in kept
    assert "in body" in kept
    assert said in kept
    assert "secret" not in kept


def test_an_error_of_the_system_without_a_file_keeps_its_traceback(run, logs):
    code, printed = run(raising(OSError(errno.ENOSPC, "No space left on device")))
    (file,) = logs.iterdir()
    assert (code, printed) == (EXIT_MISTAKE, f"error: No space left on device. Details: {file}\n")


def test_the_exit_of_the_parser_is_left_alone(monkeypatch, logs, capsys):
    monkeypatch.setattr(sys, "argv", ["a_command", "--help"])
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: parse(Options).number)
    assert stop.value.code == 0
    assert "--number" in capsys.readouterr().out
    assert list(logs.iterdir()) == []


def test_a_traceback_is_written_to_the_folder_or_else_to_the_one_for_temporary_files(tmp_path, logs, capsys):
    error = ValueError("x")
    assert log_unexpected(error, tmp_path).parent == tmp_path
    assert log_unexpected(error, tmp_path / "missing").parent == logs
    logs.joinpath(next(logs.iterdir()).name).unlink()
    logs.rmdir()
    assert log_unexpected(error, tmp_path / "missing") == Path("/dev/stderr")
    assert "ValueError: x" in capsys.readouterr().err


def test_an_error_whose_text_fails_has_its_type():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    assert first_line(Broken()) == "Broken"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interrupt(number):
    done = script(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(20)")
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


def test_a_background_job_that_ignores_ctrl_c_is_ended_by_sigterm():
    done = script(
        "import os, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(20)",
        before="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    )
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


def test_an_ignored_hangup_stays_ignored():
    done = script(
        "import os\nos.kill(os.getpid(), signal.SIGHUP)\nprint('continued')\nreturn 0",
        before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    )
    assert (done.returncode, done.stdout) == (0, b"continued\n")


# Output that cannot be written

PRINTING = (
    "from rich.console import Console\n"
    "for n in range(1500):\n"
    "    print('a line', n)\n"
    "    Console().print('a line of rich')\n"
    "open({path!r}, 'w').write('done')\n"
    "return 1"
)


def test_a_closed_pipe_neither_ends_a_command_nor_changes_its_code(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = script(PRINTING.format(path=str(tmp_path / "end")), stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (tmp_path / "end").read_text() == "done"


def test_a_closed_terminal_does_not_end_a_command(tmp_path):
    reading, writing = pty.openpty()
    body = f"sys.stdin.readline()\n{PRINTING.format(path=str(tmp_path / 'end'))}"
    process = subprocess.Popen(
        command(body, before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=writing,
        start_new_session=True,
    )
    os.close(writing)
    os.close(reading)
    process.communicate(b"continue\n", timeout=60)
    assert process.returncode == 1
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_lost_output_is_an_error_at_the_end(tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = script(PRINTING.format(path=str(tmp_path / "end")).replace("return 1", "return 0"), stdout=full)
    assert done.returncode == EXIT_MISTAKE
    assert done.stderr == b"error: the output is not complete: No space left on device\n"
    assert (tmp_path / "end").read_text() == "done"


def test_closed_streams_are_not_taken_by_files(tmp_path):
    path = tmp_path / "database"
    body = (
        f"file = open({str(path)!r}, 'w')\nprint('printed')\nprint('an error', file=sys.stderr)\n"
        "return int(file.fileno() < 3)"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    done = subprocess.run([*closed, *command(body)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0
    assert path.read_text() == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_encoding_lacks_is_escaped(encoding):
    done = script(
        "from rich.console import Console\n"
        "print('width \\u2212 1')\nConsole().print('a \\u2192 b')\nprint('\\udcff', file=sys.stderr)\nreturn 0",
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"width \\u2212 1\na \\u2192 b\n"
    assert done.stderr == b"\\udcff\n"


def test_the_streams_of_the_caller_are_back_after_a_command(capsys):
    before = sys.stdout, sys.stderr
    assert run_command(lambda: 0) == 0
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("path", ["study/run.py", "study/confirm.py"])
def test_ctrl_c_during_the_imports_of_a_study_is_a_message(path):
    interrupted = (
        "import runpy, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'study.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = [{path!r}]\n"
        f"runpy.run_path({path!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
