"""Commands that the study's commands print: how to resume, and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console

from ser.utils.command_names import command_line
from ser.utils.errors import without_password
from study.console import say
from study.options import StudyOptions
from study.setup.resolve import absolute
from study.uri import is_default_uri


def resume_command(script: str, options: StudyOptions) -> str:
    """Return the command that resumes a study or a confirmation.

    Args:
        script: ``study/run.py`` or ``study/confirm.py``.
        options: Complete options of what is resumed.
    """
    words = ["--resume", "--name", str(options.name)]
    if options.storage_path != absolute(StudyOptions().storage_path):
        words += ["--storage-path", str(options.storage_path)]
    if not is_default_uri(str(options.tracking_uri)):
        words += ["--tracking-uri", without_password(str(options.tracking_uri))]
    if options.address is not None:
        words += ["--address", options.address]
    return f"{command_line(script)} {shlex.join(words)}"


def ui_command(options: StudyOptions) -> str:
    """Return the command that opens a study's records in MLflow's UI.

    Args:
        options: Complete options of the study.
    """
    words = ["--experiment", str(options.experiment), "--tracking-uri", without_password(str(options.tracking_uri))]
    return f"{command_line('study/ui.py')} {shlex.join(words)}"


def say_next(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print what a user may want to run next, in columns, or where one does not fit, each command below its purpose.

    Args:
        console: Where to print.
        lines: Purpose and command.
    """
    width = max(len(text) for text, _ in lines)
    fits = not console.is_terminal or all(width + len(command) + 4 <= console.width for _, command in lines)
    say(console, "\nNext:")
    for text, command in lines:
        say(console, f"  {text:<{width}}  {command}" if fits else f"  {text}:\n    {command}")
    if any("***" in command for _, command in lines):
        say(console, "  (put the password in place of ***)")


def analysis_command(script: str, options: StudyOptions) -> str:
    """Return the command of an analysis, or of a confirmation, that reads a study's records.

    Args:
        script: A script of ``analysis/``, or ``study/confirm.py``.
        options: Complete options of the study.
    """
    words = ["--experiment", str(options.experiment), "--study", str(options.name)]
    words += ["--tracking-uri", without_password(str(options.tracking_uri))]
    return f"{command_line(script)} {shlex.join(words)}"
