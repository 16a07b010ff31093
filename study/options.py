"""The study's options, typed, each with its default and its sentence."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ser.config import Config, Precision, classical_keys, corpus_defaults, parse_settings
from ser.models.classical import CLASSICAL
from ser.splits import SplitBy, Validation
from ser.utils.durable_files import replace_text
from ser.utils.errors import UserError
from study.messages import without_password
from study.setup.pruners import Sampler, Scheduler
from study.tracking.store import DEFAULT_URI

RECORD = "study.json"
DATA_DIGEST = "data_digest"

# What belongs to a call and not to the study, and what a call that resumes may change. A password is not written down,
# so whoever resumes names the server again.
_OF_THE_CALL = {"resume", "address", "time_budget", "list_spaces", "plan"}
_CHANGEABLE = {
    *_OF_THE_CALL,
    "trials",
    "max_concurrent",
    "cpus_per_trial",
    "gpus_per_trial",
    "storage_path",
    "tracking_uri",
}


@dataclass(frozen=True)
class StudyOptions:
    """Searches each space at each noise level with Ray Tune and Optuna, and records every trial in MLflow."""

    space: tuple[str, ...] = ("proselflc",)
    """Search spaces: names from search_spaces/, or paths of Python files."""
    corpus: str = "synthetic"
    """Corpus, by its name in docs/corpora.md."""
    corpus_root: Path | None = None
    """The corpus's folder; for table the CSV or Parquet file."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """The corpus's own options, such as votes=face for crema-d (docs/corpora.md)."""
    noise: tuple[str, ...] = ("clean", "noisy-A", "noisy-B")
    """Noise levels: clean, noisy-A, noisy-B, given, or RECIPE:RATE such as symmetric:0.3."""
    trials: int | None = None
    """Trials per space and noise level; default 4 for synthetic, else 40."""
    epochs: int | None = None
    """Epochs of a trial; default 8 for synthetic, else 50."""
    model: str = "cnn14"
    """Network; or embedding_head, with model.base and model.pretrained behind --set (docs/models.md)."""
    width: float | None = None
    """Scale of the network's channels; default 0.125 for synthetic, else 1."""
    batch_size: int | None = None
    """Crops per optimiser step; default 16 for synthetic, else 32."""
    precision: Precision | None = None
    """Arithmetic of the networks: auto (bfloat16 where the hardware has it), bfloat16, or the plain float32."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE ...")] = ()
    """Fix configuration keys for every trial; a key that a space searches is searched no more."""
    split_by: SplitBy = "auto"
    """Folds: leave one session out, leave one speaker out; auto takes sessions, else groups of speakers."""
    fold: int | None = None
    """Which fold is held out; default the last."""
    validation: Validation = "held-out"
    """Validation rows: held-out (other speakers than training's) or random (a fifth of the rows; leaks speakers)."""
    exclude: Path | None = None
    """File with utterances to leave out, one a line."""
    select_on: Literal["noisy", "clean", "soft"] = "noisy"
    """Validation labels that choose: noisy (realistic), clean (oracle), soft (annotators' distribution)."""
    sampler: Sampler = "tpe"
    """Who draws the configurations: tpe, gp (Gaussian process), cmaes, qmc (quasi-Monte Carlo) or random."""
    scheduler: Scheduler = "none"
    """Who stops trials early: none, asha, hyperband or median; never before a space's latest transit time."""
    time_budget: str | None = None
    """Trials end at their next epoch after this time, such as 90m or 8h; --resume goes on with them."""
    plan: bool = False
    """Print trials, epochs, expected hours and disk, and end."""
    cpus_per_trial: float | None = None
    """CPUs of a trial; default 1 on a GPU or for width up to .25, else all of the machine's."""
    gpus_per_trial: float | None = None
    """GPUs of a trial, at most 1, fractions allowed; default 1 where there is one, else 0."""
    max_concurrent: int | None = None
    """Trials at a time; default as many as fit. With 1 the study gives the same numbers every time."""
    address: str | None = None
    """Address of a Ray cluster to join; default is a Ray of the study's own on this machine."""
    storage_path: Path = Path("results")
    """Folder for feature stores and the states of studies."""
    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""
    experiment: str | None = None
    """MLflow experiment; default the corpus's name."""
    name: str | None = None
    """The study's name; default the corpus and the time."""
    seed: int = 0
    """Seed of the search, the noise draw and the training."""
    resume: bool = False
    """Go on with the interrupted study --name, with its own options."""
    list_spaces: bool = False
    """Print every search space with its keys, ranges, points and source, and end."""

    def __post_init__(self) -> None:
        for option, least in (("trials", 1), ("epochs", 1), ("max_concurrent", 1), ("fold", 1)):
            value = getattr(self, option)
            if value is not None and value < least:
                raise UserError(f"--{option.replace('_', '-')} is {value}; at least {least} is needed.")
        if self.cpus_per_trial is not None and not self.cpus_per_trial > 0:
            raise UserError(f"--cpus-per-trial is {self.cpus_per_trial:g}; more than 0 is needed.")
        if self.gpus_per_trial is not None and not 0 <= self.gpus_per_trial <= 1:
            raise UserError(f"--gpus-per-trial is {self.gpus_per_trial:g}; a trial uses at most one GPU (0 to 1).")
        for option, values in (("space", self.space), ("noise", self.noise)):
            if not values:
                raise UserError(f"--{option} needs at least one name.")
            if len(set(values)) < len(values):
                raise UserError(f"--{option} names one of {', '.join(values)} twice.")
        for option in ("name", "experiment"):
            value = getattr(self, option)
            if value is not None and (
                not value.strip() or value in {".", ".."} or not value.isprintable() or set(value) & set("/\\'\"")
            ):
                raise UserError(f"--{option} {value!r} is not a plain name: no slashes or quotes, please.")
        if self.time_budget is not None and self.seconds <= 0:
            raise UserError(f"--time-budget {self.time_budget!r} is no time.")
        if self.resume and self.name is None:
            raise UserError("--resume needs the --name of the study to go on with.")

    @property
    def seconds(self) -> float:
        """The time budget in seconds, infinite if there is none."""
        if self.time_budget is None:
            return math.inf
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", self.time_budget.strip())
        if match is None:
            raise UserError(f"--time-budget {self.time_budget!r} is not a time such as 45s, 90m, 8h or 2d.")
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]

    @property
    def planned_trials(self) -> int:
        """Trials per space and noise level."""
        return self.trials if self.trials is not None else (4 if self.corpus == "synthetic" else 40)

    @property
    def pinned(self) -> dict[str, Any]:
        """Dotted names that the command line fixes, and that no space may search."""
        named = {
            "training.epochs": self.epochs,
            "model.width": self.width,
            "training.batch_size": self.batch_size,
            "training.precision": self.precision,
        }
        settings = parse_settings(self.settings)
        for key, value in named.items():
            if value is not None and key in settings:
                raise UserError(f"{key} is set both by its own option and by --set.")
        return {**{key: value for key, value in named.items() if value is not None}, **settings}

    @property
    def base(self) -> dict[str, Any]:
        """Dotted names of the corpus's defaults and the network."""
        return {**corpus_defaults(self.corpus), "model.name": self.model}

    @property
    def plain(self) -> Config:
        """What all trials share, less what only a loss or a classical model takes, which means nothing without it.

        Raises:
            UserError: A key or value that no model takes, or a classical model, which is a space's choice.
        """
        values = {**self.base, **self.pinned}
        if str(values["model.name"]) in CLASSICAL:
            raise UserError(
                f"{values['model.name']} is a classical model, and --model is for networks. Search classical models by "
                "--space classical."
            )
        apart = classical_keys(values)
        return Config.from_dotted(
            {key: value for key, value in values.items() if not key.startswith("loss.") and key not in apart}
        )

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-able values, less the password of the tracking URI and what a resume may change."""
        values = {key: value for key, value in self._plain().items() if key not in _OF_THE_CALL}
        return {**values, "tracking_uri": without_password(self.tracking_uri)}

    def write(self, folder: Path, data_digest: str) -> None:
        """Records the options, and the data they were meant for, in the study's folder."""
        record = {**self.to_json(), DATA_DIGEST: data_digest}
        replace_text(folder / RECORD, json.dumps(record, indent=2) + "\n")

    def check_unchanged(self, folder: Path, data_digest: str) -> None:
        """Raises if the data are no longer those that the study in ``folder`` began with."""
        if json.loads((folder / RECORD).read_text(encoding="utf-8"))[DATA_DIGEST] != data_digest:
            raise UserError(
                f"corpus {self.corpus!r}, the list of what to exclude, or a noise matrix has changed since study "
                f"{self.name!r} began. "
                "Restore it, or start a new study under another --name."
            )

    def resumed(self, folder: Path) -> StudyOptions:
        """The options that the study in ``folder`` was started with, and what this call changes of them.

        A call may raise the number of trials, and say where they run and for how long.

        Raises:
            UserError: No study is there, this call names another option with another value, or fewer trials.
        """
        try:
            saved = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            known = sorted(path.parent.name for path in folder.parent.glob(f"*/{RECORD}"))
            raise UserError(
                f"there is no study {self.name!r} below {str(folder.parent)!r} to resume. "
                f"There: {', '.join(known) or 'none'}."
            ) from error
        changed = {key for key, value in self._plain().items() if value != StudyOptions()._plain()[key]}
        differing = [key for key in changed - _CHANGEABLE - {"name"} if self._plain()[key] != saved.get(key)]
        if differing:
            options = ", ".join(
                f"--{'set' if key == 'settings' else key.replace('_', '-')}" for key in sorted(differing)
            )
            raise UserError(
                f"study {self.name!r} goes on with its own options; {options} differ from them. "
                "Leave them out, or start a new study under another --name."
            )
        values: dict[str, Any] = {"resume": True}
        for option in fields(StudyOptions):
            if option.name in saved:
                value = saved[option.name]
                is_path = option.name in {"corpus_root", "exclude", "storage_path"} and value is not None
                values[option.name] = Path(value) if is_path else tuple(value) if isinstance(value, list) else value
        values |= {key: getattr(self, key) for key in changed & _CHANGEABLE}
        before, now = StudyOptions(**{**values, "trials": saved["trials"]}).planned_trials, StudyOptions(**values)
        if now.planned_trials < before:
            raise UserError(
                f"study {self.name!r} has {before} trials for each space and level; --trials {now.trials} would take "
                "some away. Leave it out, or give more."
            )
        return now

    def _plain(self) -> dict[str, Any]:
        """All options as JSON has them."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain
