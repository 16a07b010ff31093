"""The end of a command whose study has begun: whatever happens, it says how to resume."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from ser.utils.command_line import EXIT_INTERRUPTED, unexpected
from ser.utils.errors import UserError, log_unexpected
from study.commands.printed import resume_command
from study.console import say
from study.options import RECORD
from study.setup.prepared_study import PreparedStudy


def resumable(script: str, prepared: PreparedStudy, console: Console, body: Callable[[], int]) -> int:
    """Run what a command does with a prepared study.

    Args:
        script: ``study/run.py`` or ``study/confirm.py``.
        prepared: The study.
        console: Where the end is reported.
        body: Function that runs the study, reports, and returns the exit code.

    Returns:
        The exit code of ``body``; ``EXIT_INTERRUPTED``, after the command that resumes, if it was interrupted (for a
        second time, while it ended) or failed, once the study has begun.

    Raises:
        UserError: From ``body``.
        BaseException: Any error, before the study has begun.
    """
    try:
        return body()
    except UserError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not (prepared.folder / RECORD).exists():
            raise
        reason = "Interrupted."
        if isinstance(error, Exception):
            reason = f"Stopped: {unexpected(error)}. The traceback: {log_unexpected(error, prepared.folder)}"
    say(console, f"\n{reason}\nResume with:\n  {resume_command(script, prepared.options)}")
    return EXIT_INTERRUPTED
