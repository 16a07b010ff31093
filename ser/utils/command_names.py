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
        examples: Options of calls that ``--help`` shows.
    """

    script: str
    summary: str
    examples: tuple[str, ...] = ()


COMMANDS = {
    "study": Command(
        "study/run.py",
        "search the hyper-parameters of losses at several noise levels",
        (
            "--space proselflc cross_entropy",
            "--space proselflc cross_entropy --corpus ravdess --corpus-root PATH --noise clean noisy-B --trials 40",
            "--resume --name NAME",
        ),
    ),
    "confirm": Command(
        "study/confirm.py",
        "test configurations on speakers left out one at a time",
        (
            "--experiment ravdess --plan",
            "--experiment ravdess --reference cross_entropy --primary proselflc noisy-B",
            "--space proselflc cross_entropy --corpus ravdess --corpus-root PATH --noise noisy-B",
        ),
    ),
    "evaluate-run": Command(
        "study/evaluate.py",
        "score the network of an MLflow run",
        (
            "--run RUN_ID",
            "--run RUN_ID --subset test",
            "--run RUN_ID --corpus emodb --corpus-root PATH",
        ),
    ),
    "predict-run": Command(
        "study/predict.py",
        "label audio files with the network of an MLflow run",
        (
            "--run RUN_ID call.wav",
            "--run RUN_ID calls/*.wav --output probabilities.csv",
            "--run RUN_ID data.parquet",
        ),
    ),
    "register": Command(
        "study/register.py",
        "register the network of an MLflow run as a model",
        (
            "--run RUN_ID --name emotion",
            "--run RUN_ID --name emotion --tracking-uri http://localhost:5000",
        ),
    ),
    "export": Command(
        "study/export.py",
        "write the speech encoder of an MLflow run as a Hugging Face folder",
        (
            "--run RUN_ID --output FOLDER",
            "--run RUN_ID --output FOLDER --tracking-uri http://localhost:5000",
        ),
    ),
    "ui": Command("study/ui.py", "open the records of a study in MLflow's UI"),
    "remove": Command(
        "study/remove.py",
        "list what a study takes on disk and in MLflow, and delete it",
        (
            "--name NAME",
            "--name NAME OTHER_NAME --yes",
            "--name NAME --storage-path PATH",
        ),
    ),
    "report": Command(
        "analysis/report.py",
        "write the whole answer as one HTML page",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME --output results/ravdess",
            "--experiment ravdess --to-mlflow",
        ),
    ),
    "best-runs": Command(
        "analysis/best_runs.py",
        "show the best run of each noise level and space",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --top 3",
        ),
    ),
    "significance": Command(
        "analysis/significance.py",
        "compare the confirmed methods",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --reference cross_entropy",
        ),
    ),
    "dose-response": Command(
        "analysis/dose_response.py",
        "show from which noise level a loss pays",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --reference cross_entropy",
        ),
    ),
    "across-corpora": Command(
        "analysis/across_corpora.py",
        "show the trainings of one corpus on others",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --also emodb",
        ),
    ),
    "curves": Command(
        "analysis/curves.py",
        "show training curves",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--run RUN_ID OTHER_RUN_ID",
        ),
    ),
    "importance": Command(
        "analysis/importance.py",
        "show which hyper-parameters mattered",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --space proselflc",
        ),
    ),
    "selection": Command(
        "analysis/selection.py",
        "show what selection by noisy labels costs",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--tracking-uri http://localhost:5000 --experiment ravdess",
        ),
    ),
    "confusion": Command(
        "analysis/confusion.py",
        "show confusion matrices",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --reference cross_entropy",
        ),
    ),
    "embeddings": Command(
        "analysis/embeddings.py",
        "project the embeddings of the best networks",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--experiment ravdess --noise clean noisy-B",
        ),
    ),
    "corrections": Command(
        "analysis/corrections.py",
        "show corrected and suspicious labels",
        (
            "--experiment ravdess",
            "--experiment ravdess --study NAME",
            "--run RUN_ID --audio never",
        ),
    ),
    "corpora": Command(
        "ser.corpora",
        "describe a corpus and list its errors, or download it",
        (
            "describe ravdess --root PATH",
            "describe iemocap-4 --root PATH --output results/iemocap",
            "fetch ravdess --root PATH",
        ),
    ),
    "noise": Command(
        "ser.noise",
        "write noisy labels as files, or estimate how noisy given labels are",
        (
            "ravdess --root PATH --recipe symmetric --rate 0.4 --output results/noise",
            "crema-d --root PATH --recipe disagreement --rate 0.2 --output results/noise",
            "estimate ravdess --root PATH",
        ),
    ),
    "models": Command(
        "ser.models",
        "list the models, or download published weights",
        (
            "list",
            "fetch cnn14_16k --output PATH",
        ),
    ),
    "train": Command(
        "ser.train",
        "train one configuration without Ray or MLflow",
        (
            "--set training.epochs=3 model.width=0.125",
            "--corpus ravdess --corpus-root PATH --noise noisy-B --set loss.name=elr",
            "--config results/confirm/NAME/noisy-B-proselflc.yaml --corpus ravdess --corpus-root PATH",
        ),
    ),
    "evaluate": Command(
        "ser.evaluate",
        "score a checkpoint",
        (
            "--checkpoint results/train/state.pt",
            "--checkpoint results/train/state.pt --subset test",
            "--checkpoint results/train/state.pt --subset all --corpus emodb --corpus-root PATH",
        ),
    ),
    "predict": Command(
        "ser.predict",
        "label audio files with a checkpoint",
        (
            "--checkpoint results/train/state.pt call.wav",
            "--checkpoint results/train/state.pt calls/*.wav --output probabilities.csv",
            "--checkpoint results/train/state.pt data.parquet",
        ),
    ),
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
