"""Commands that the study's commands print: how to resume, and what comes next."""

from __future__ import annotations

import shlex

from ser.utils.command_names import command_line
from ser.utils.errors import without_password
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


def analysis_command(script: str, options: StudyOptions) -> str:
    """Return the command of an analysis that reads a study's records.

    Args:
        script: A script of ``analysis/``.
        options: Complete options of the study.
    """
    words = ["--experiment", str(options.experiment), "--study", str(options.name)]
    words += ["--tracking-uri", without_password(str(options.tracking_uri))]
    return f"{command_line(script)} {shlex.join(words)}"
