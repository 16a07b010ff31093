"""The project's commands, and how a message writes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CODE_ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds the project's packages."""


class Command(NamedTuple):
    """Command of the project.

    Args:
        script: What a checkout runs: ``python study/run.py``, or ``python -m ser.train`` for a module.
        summary: What the command does, one line.
    """

    script: str
    summary: str


COMMANDS = {
    "study": Command("study/run.py", "search the hyper-parameters of losses at several noise levels"),
    "confirm": Command("study/confirm.py", "test configurations on speakers left out one at a time"),
    "evaluate-run": Command("study/evaluate.py", "score the network of an MLflow run"),
    "predict-run": Command("study/predict.py", "label audio files with the network of an MLflow run"),
    "register": Command("study/register.py", "register the network of an MLflow run as a model"),
    "remove": Command("study/remove.py", "list what a study takes on disk and in MLflow, and delete it"),
    "report": Command("analysis/report.py", "write the whole answer as one HTML page"),
    "best-runs": Command("analysis/best_runs.py", "show the best run of each noise level and space"),
    "significance": Command("analysis/significance.py", "compare the confirmed methods"),
    "dose-response": Command("analysis/dose_response.py", "show from which noise level a loss pays"),
    "across-corpora": Command("analysis/across_corpora.py", "show the trainings of one corpus on others"),
    "curves": Command("analysis/curves.py", "show training curves"),
    "importance": Command("analysis/importance.py", "show which hyper-parameters mattered"),
    "selection": Command("analysis/selection.py", "show what selection by noisy labels costs"),
    "confusion": Command("analysis/confusion.py", "show confusion matrices"),
    "embeddings": Command("analysis/embeddings.py", "project the embeddings of the best networks"),
    "corrections": Command("analysis/corrections.py", "show corrected and suspicious labels"),
    "corpora": Command("ser.corpora", "describe a corpus and list its errors, or download it"),
    "noise": Command("ser.noise", "write noisy labels as files, or estimate how noisy given labels are"),
    "models": Command("ser.models", "list the models, or download published weights"),
    "train": Command("ser.train", "train one configuration without Ray or MLflow"),
    "evaluate": Command("ser.evaluate", "score a checkpoint"),
    "predict": Command("ser.predict", "label audio files with a checkpoint"),
}
"""Commands by the name that the installed ``ambivalent`` gives them."""


def command_line(script: str) -> str:
    """Return the command that runs a script from the current folder.

    Args:
        script: A command's script, such as ``"study/run.py"`` or ``"ser.train"``.

    Returns:
        ``python study/run.py`` or ``python -m ser.train`` if the current folder is the root of the checkout that this
        process runs from, else the installed command: ``ambivalent study`` or ``ambivalent train``.

    Raises:
        KeyError: No command runs this script.

    Example:
        >>> import contextlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ...     print(command_line("study/run.py"), "--resume")
        ambivalent study --resume
    """
    name = {command.script: name for name, command in COMMANDS.items()}[script]
    # Site-packages holds the packages of a wheel, but no setup.cfg.
    if Path.cwd() == CODE_ROOT and Path("setup.cfg").exists():
        return f"python {script}" if script.endswith(".py") else f"python -m {script}"
    return f"ambivalent {name}"
