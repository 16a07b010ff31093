"""Options of a study and of a confirmation, each with its default and its help text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ser.config import (
    REVISION,
    Config,
    ModelConfig,
    Precision,
    classical_keys,
    corpus_defaults,
    model_defaults,
    parse_settings,
)
from ser.config_file import settings_as_options
from ser.corpora.classes import ALL, FORMER
from ser.labels import LabelKind
from ser.models.classical import CLASSICAL
from ser.models.initial_weights import FOLDER as WEIGHTS
from ser.models.initial_weights import PRETRAINED, InitialWeights, weights_digest
from ser.splits import FORMER_AUTO, SplitBy, Validation
from ser.utils.durable_files import replace_text
from ser.utils.errors import UserError, shown, without_password
from study.schema import Keep, SelectionName

Scheduler = Literal["none", "asha", "hyperband", "median"]
Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random"]

RECORD = "study.json"
DATA_DIGEST = "data_digest"
FEATURES = "features"
SPACES = "spaces"
AUDIO_DIGEST = "audio_digest"
WEIGHTS_DIGEST = "weights_digest"

LONGEST_NAME = 200  # bytes; file systems take 255 for the name of a file, and other names are made of this one

# Options of a single call, which are not part of the study, and options that a resuming call may change. A password is
# not written to disk, so a resuming call names the server again. Files may have been moved; their content is checked.
_OF_THE_CALL = {"resume", "widen", "address", "time_budget", "list_spaces", "plan"}
_CHANGEABLE = {
    *_OF_THE_CALL,
    "trials",
    "keep",
    "max_concurrent",
    "cpus_per_trial",
    "gpus_per_trial",
    "storage_path",
    "corpus_root",
    "exclude",
    "experiment",
    "tracking_uri",
}

# Options of a confirmation that its design has fixed.
_OF_DESIGN = ("study", "top", "seeds", "reference", "primary", "pilot")

# Options that a confirmation takes over from the search that it confirms.
_OF_SEARCH = (
    "corpus", "corpus_options", "classes", "noise", "labels", "epochs", "model", "pretrained", "width", "batch_size",
    "precision", "settings", "split_by", "exclude", "select_on", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingOptions:
    """Options that a study and a confirmation share: what is trained on which data, where it runs, where records go."""

    space: tuple[str, ...] = ("proselflc",)
    """Search spaces: names from search_spaces/, or paths of Python files."""
    corpus: str = "synthetic"
    """Corpus: a name in docs/corpora.md, or the import path of a loader of your own."""
    corpus_root: Path | None = None
    """Folder of the corpus; for table the file."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of the corpus, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""
    noise: tuple[str, ...] = ("clean", "noisy-A", "noisy-B")
    """Noise levels: clean, noisy-A, noisy-B, given, or RECIPE:RATE such as symmetric:0.3."""
    labels: tuple[LabelKind, ...] = ("consensus",)
    """Labels to train on: the corpus's, or of its votes: plurality, dawid_skene or soft (docs/labels.md)."""
    epochs: int | None = None
    """Epochs of a trial; default 8 for synthetic, else 50."""
    model: str | None = None
    """Network: a name in docs/models.md, hf:NAME_OR_FOLDER for a speech encoder, or the import path of one of your own;
    default cnn14, or as --pretrained."""
    pretrained: str | None = None
    """Initial weights: cnn14_16k, cnn14, cnn10 or cnn6, downloaded where they are not there yet, or a file."""
    width: float | None = None
    """Scale of the network's channels; default 0.125 for synthetic from scratch, else 1."""
    batch_size: int | None = None
    """Crops per optimiser step; default 16 for synthetic, else 32."""
    precision: Precision | None = None
    """Arithmetic of the networks: auto (bfloat16 where the hardware has it, else float32), bfloat16, tf32 (of GPUs), or
    float32, that of IEEE 754 everywhere."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE ...")] = ()
    """Configuration keys to fix for every trial; a fixed key is not searched."""
    split_by: SplitBy = "auto"
    """Folds: leave one session out, or one speaker; auto takes sessions where there are any, else speaker groups."""
    exclude: Path | None = None
    """File of utterances to leave out, one per line."""
    select_on: SelectionName = "noisy"
    """Validation labels to select on: noisy (realistic), clean (oracle), soft (annotators' distribution)."""
    cpus_per_trial: float | None = None
    """CPUs of a trial; default 1 on a GPU, for a width up to .25 or a frozen network, else all of the machine."""
    gpus_per_trial: float | None = None
    """Share of a GPU for a trial; default 1 if there is one, 0.25 to 1 for a width up to .25, 0 for frozen networks."""
    max_concurrent: int | None = None
    """Trials at a time; default as many as fit. With 1 a study on CPUs gives the same numbers every time."""
    keep: Keep | None = None
    """Networks of finished trials to keep: best (of each search; its default), all (of a confirmation) or none."""
    time_budget: str | None = None
    """Trials end at their next epoch after this time, such as 90m or 8h; --resume continues them."""
    address: str | None = None
    """Address of a Ray cluster to join; default is a local Ray of the study's own."""
    storage_path: Path = Path("results")
    """Folder for feature stores and the states of studies."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    experiment: str | None = None
    """MLflow experiment; default MLFLOW_EXPERIMENT_NAME, else the name of the corpus, for table that of its file."""
    seed: int = 0
    """Seed of the search, the noise draw and the training."""
    plan: bool = False
    """Print trials, epochs, expected hours and disk, and exit."""
    name: str | None = None
    """Name of the study; default the corpus and the time."""
    resume: bool = False
    """Resume the interrupted study --name, with its own options."""

    def __post_init__(self) -> None:
        for option in ("epochs", "max_concurrent"):
            at_least(1, option, getattr(self, option))
        if self.cpus_per_trial is not None and not self.cpus_per_trial > 0:
            raise UserError(f"--cpus-per-trial is {self.cpus_per_trial:g}; more than 0 is needed.")
        if self.gpus_per_trial is not None and not 0 <= self.gpus_per_trial <= 1:
            raise UserError(f"--gpus-per-trial is {self.gpus_per_trial:g}; a trial uses at most one GPU (0 to 1).")
        for option, values in (("space", self.space), ("noise", self.noise), ("labels", self.labels)):
            if len(set(values)) < len(values):
                raise UserError(f"--{option} names one of {', '.join(values)} twice.")
        for option, values in (("noise", self.noise), ("labels", self.labels)):
            if not values:
                raise UserError(f"--{option} needs at least one name.")
        for option in ("name", "experiment"):
            value = getattr(self, option)
            if value is not None and (
                value.strip() in {"", ".", ".."} or not value.isprintable() or set(value) & set("/\\'\"")
            ):
                raise UserError(
                    f"--{option} {shown(value)} contains a slash, a quote or a control character. Choose a plain name."
                )
            if value is not None and value.startswith("-"):  # printed commands could not name it
                raise UserError(f"--{option} {shown(value)} begins with a dash. Choose a plain name.")
            if value is not None and len(value.encode()) > LONGEST_NAME:
                raise UserError(
                    f"--{option} {value[:20]}… has {len(value.encode())} bytes, expected at most {LONGEST_NAME}."
                )
        if self.time_budget is not None and self.seconds <= 0:
            raise UserError(f"--time-budget {shown(self.time_budget)} must be positive.")
        if self.resume and self.name is None:
            raise UserError("--resume needs the --name of what is to be resumed.")

    @property
    def seconds(self) -> float:
        """Return the time budget in seconds, infinite if there is none."""
        if self.time_budget is None:
            return math.inf
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", self.time_budget.strip())
        if match is None:
            raise UserError(
                f"--time-budget {shown(self.time_budget)} is not a time. Write 45s, 90m, 8h or 2d, for example."
            )
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def instead_of_unknown() -> dict[str, str]:
    """Return what to write in place of options that a study does not have, for ``parse``."""
    named = {"loss": "--space ", "output": "--storage-path ", "features": "--storage-path "}
    return {**settings_as_options(), **named}


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a study's folder says of its options, data and features; empty if there is no such record.

    Args:
        folder: The study's folder.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def at_least(least: int, option: str, value: int | None) -> None:
    """Raise if the value of an option is too small.

    Args:
        least: Smallest value.
        option: Name of its field.
        value: Value, or None if it is not given.

    Raises:
        UserError: It is smaller.
    """
    if value is not None and value < least:
        raise UserError(f"--{option.replace('_', '-')} is {value}; at least {least} is needed.")


@dataclass(frozen=True)
class StudyOptions(TrainingOptions):
    """Search each space at each noise level with Ray Tune and Optuna, and record every trial in MLflow."""

    trials: int | None = None
    """Trials per space and noise level; default 4 for synthetic, else 40."""
    fold: int | None = None
    """Number of the fold to hold out; default the last."""
    validation: Validation = "held-out"
    """Validation rows: held-out (speakers of their own) or random (a fifth of the rows; leaks speakers)."""
    sampler: Sampler = "tpe"
    """Optuna sampler: tpe, gp (Gaussian process), cmaes, qmc (quasi-Monte Carlo) or random."""
    scheduler: Scheduler = "none"
    """Pruner that stops trials early, never before the latest transit time of their space."""
    list_spaces: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]")] = None
    """Print every search space in a line, or all of the named ones: keys, ranges, points and source; then exit."""
    widen: bool = False
    """With --resume: search the ranges that the spaces' files have now, where they include those of the study."""
    revision: tyro.conf.Suppress[tyro.conf.Fixed[str]] = ""
    """Version of the speech encoder, which is recorded when the study starts; no option."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.space:
            raise UserError("--space needs at least one name.")
        if self.widen and not self.resume:
            raise UserError("--widen changes the ranges of a study that is resumed. Add --resume and its --name.")
        for option in ("trials", "fold"):
            at_least(1, option, getattr(self, option))

    @property
    def folder(self) -> Path:
        """Return the folder of the study's state."""
        return self.storage_path / "studies" / str(self.name)

    @property
    def planned_trials(self) -> int:
        """Return the number of trials per space and noise level."""
        return self.trials if self.trials is not None else (4 if self.corpus == "synthetic" else 40)

    @property
    def initial_weights(self) -> InitialWeights | None:
        """Return the weights that ``--pretrained`` names; None without it."""
        return None if self.pretrained is None else InitialWeights(self.pretrained, self.storage_path / WEIGHTS)

    @property
    def network(self) -> str:
        """Return the value of ``model.name`` for trials whose space has none: as given, or that of the weights."""
        weights, setting = self.initial_weights, parse_settings(self.settings).get("model.name")
        if setting and self.model not in (None, setting):  # a study that is resumed has both
            raise UserError(f"--model is {self.model}, but --set has model.name={setting}. Leave one of them out.")
        return str(setting or self.model or (weights and weights.model) or ModelConfig.name)

    @property
    def fixed(self) -> dict[str, Any]:
        """Return the parameters that the command line fixes by their dotted names; no space may search them."""
        weights = self.initial_weights
        not_there = weights is None or (self.plan and weights.download_in_words)  # a plan downloads nothing
        named = {
            "training.epochs": self.epochs,
            PRETRAINED: None if weights is None or not_there else str(weights.path),
            "model.width": self.width,
            "training.batch_size": self.batch_size,
            "training.precision": self.precision,
        }
        settings = parse_settings(self.settings)
        given = {**named, PRETRAINED: self.pretrained}
        for key, value in given.items():
            if value is not None and key in settings:
                raise UserError(f"{key} is set both by its own option and by --set. Leave one of them out.")
        if self.revision and REVISION in settings:
            settings[REVISION] = self.revision  # a tag or branch that --set names may move
        return {**{key: value for key, value in named.items() if value is not None}, **settings}

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the default parameters, which every trial has unless its space or the command line says otherwise."""
        own = {} if self.initial_weights is None else self.initial_weights.defaults(self.network)
        own |= {REVISION: self.revision} if self.revision else {}
        return {**corpus_defaults(self.corpus), **model_defaults(self.network), **own, "model.name": self.network}

    @property
    def shared(self) -> Config:
        """Return what all trials share, without the keys that belong to a loss or to a classical model.

        Raises:
            UserError: A key or value that no model takes, or a classical model, which is a space's choice.
        """
        values = {**self.defaults, **self.fixed}
        if str(values["model.name"]) in CLASSICAL:
            raise UserError(
                f"{values['model.name']} is a classical model, but --model takes networks. Search classical models "
                "with --space classical."
            )
        apart = classical_keys(values)
        return Config.from_dotted(
            {key: value for key, value in values.items() if not key.startswith("loss.") and key not in apart}
        )

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-able values, without passwords and what belongs to a single call."""
        values = {key: value for key, value in self._values().items() if key not in _OF_THE_CALL}
        return {**values, "tracking_uri": self.tracking_uri and without_password(self.tracking_uri)}

    def write(
        self,
        data_digest: str,
        features: Iterable[str] = (),
        spaces: Mapping[str, Mapping[str, Any]] | None = None,
        audio_digest: str = "",
    ) -> None:
        """Write the options to the study's folder.

        Args:
            data_digest: Digest of the data that they are meant for.
            features: Names of the feature stores that the study uses, besides those that are on record.
            spaces: ``Space.record`` of each search space by its name.
            audio_digest: Digest of the decoded audio.
        """
        used = sorted({*features, *read_record(self.folder).get(FEATURES, ())})
        file = self.fixed.get(PRETRAINED)
        weights = weights_digest(Path(file)) if file else ""
        digests = {DATA_DIGEST: data_digest, AUDIO_DIGEST: audio_digest, WEIGHTS_DIGEST: weights}
        record = {**self.to_json(), **digests, FEATURES: used, SPACES: dict(spaces or {})}
        replace_text(self.folder / RECORD, json.dumps(record, indent=2) + "\n")

    def check_unchanged(self, data_digest: str) -> None:
        """Raise if the data are no longer those that the study began with."""
        if json.loads((self.folder / RECORD).read_text(encoding="utf-8"))[DATA_DIGEST] != data_digest:
            raise UserError(
                f"corpus {self.corpus!r}, the --exclude list or a noise matrix has changed since study {self.name!r} "
                "began. Restore it, or start a new study under another --name."
            )

    def check_audio(self, audio_digest: str) -> None:
        """Raise if other audio lies under the names of the utterances than when the study began."""
        if read_record(self.folder).get(AUDIO_DIGEST) not in (None, "", audio_digest):
            raise UserError(
                f"the audio of corpus {self.corpus!r} is not that with which study {self.name!r} began: the same names "
                "have other samples. Restore it, or start a new study under another --name."
            )

    def resumed(self) -> StudyOptions:
        """Return the options that the study was started with, and what this call changes of them.

        A call may raise the number of trials, say where trials run and for how long, and name files that were moved.

        Raises:
            UserError: No study is there, this call names another option with another value, or fewer trials.
        """
        saved = self._saved()
        given = self._given()
        former = {FORMER: ALL, FORMER_AUTO: "auto"}  # for values that no call gives
        begun = {**saved, **{key: former.get(saved[key], saved[key]) for key in ("classes", "split_by")}}
        changeable = _CHANGEABLE | ({"space"} if self._moves_spaces(saved) else set())
        differing = [key for key in given - changeable - {"name"} if self._values()[key] != begun.get(key)]
        if differing:
            options = ", ".join(
                f"--{'set' if key == 'settings' else key.replace('_', '-')}" for key in sorted(differing)
            )
            raise UserError(
                f"study {self.name!r} resumes with its own options, and these differ from them: {options}. "
                "Leave them out, or start a new study under another --name."
            )
        values: dict[str, Any] = {}
        for option in fields(StudyOptions):
            if option.name in saved:
                value = saved[option.name]
                is_path = option.name in {"corpus_root", "exclude"} and value is not None
                values[option.name] = Path(value) if is_path else tuple(value) if isinstance(value, list) else value
        values |= {key: getattr(self, key) for key in given & changeable}
        values |= {"name": self.name, "storage_path": self.storage_path, "resume": True}
        before, now = StudyOptions(**{**values, "trials": saved["trials"]}).planned_trials, StudyOptions(**values)
        if now.planned_trials < before:
            raise UserError(
                f"study {self.name!r} has {before} trials for each space and level; --trials {now.trials} is fewer. "
                "Leave it out, or give more."
            )
        return now

    def _moves_spaces(self, saved: Mapping[str, Any]) -> bool:
        """Return whether the spaces are those of the study by their names, and their content is on record."""
        names = [[Path(name).stem for name in some] for some in (self.space, saved["space"])]
        return names[0] == names[1] and set(names[0]) <= saved.get(SPACES, {}).keys()

    def _saved(self) -> dict[str, Any]:
        """Return the options in the study's folder."""
        try:
            saved: dict[str, Any] = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            known = sorted(path.parent.name for path in self.folder.parent.glob(f"*/{RECORD}"))
            raise UserError(
                f"there is no study {self.name!r} below {str(self.folder.parent)!r} to resume. "
                f"There: {', '.join(known) or 'none'}. Name the --storage-path of the study if it is elsewhere."
            ) from error
        saved.setdefault("keep", "all")  # begun before there was a choice
        if "classes" not in saved:  # begun by version 0.1
            saved["classes"] = FORMER
            saved["split_by"] = FORMER_AUTO if saved["split_by"] == "auto" else saved["split_by"]
        return saved

    def _given(self) -> set[str]:
        """Return the options whose values are not the defaults."""
        defaults = StudyOptions()._values()
        return {key for key, value in self._values().items() if value != defaults[key]}

    def _values(self) -> dict[str, Any]:
        """Return all options as JSON has them."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


@dataclass(frozen=True)
class ConfirmOptions(TrainingOptions):
    """Test configurations on speakers that are left out one at a time, each with a network of its own.

    Without --space these are the best configurations of a search, which --experiment or --study names, and each
    method's published default; corpus, noise, network and training are those of the search. With --space they are
    published defaults, without a search.
    """

    space: tuple[str, ...] = ()
    """Search spaces whose published defaults are tested; default the search of --experiment."""
    split_by: SplitBy = "auto"
    """Folds: auto is the official split, else one session of dialogues, one speaker, or one of 24 speaker groups."""
    experiment: str | None = None
    """MLflow experiment; default MLFLOW_EXPERIMENT_NAME, else that of the newest run, or with --space the corpus's."""
    seed: int = 0
    """Seeds follow this number and those of earlier confirmations; with --space only."""
    plan: bool = False
    """Print the design, the differences that it can show, expected hours and disk, and exit."""
    name: str | None = None
    """Name of the confirmation; default the experiment and the time."""
    resume: bool = False
    """Resume the interrupted confirmation --name, with its own design."""
    study: str | None = None
    """Only this study's search; default every study of the experiment that is comparable with the newest one."""
    top: int = 3
    """Best configurations of a search that are retrained for each space and noise level, besides its default
    configuration; default 3."""
    seeds: int | None = None
    """Trainings of each configuration in each fold; default 1, or 8 on an official split."""
    reference: str = "cross_entropy"
    """Method that the others are compared with."""
    primary: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="METHOD LEVEL")] = None
    """The comparison that matters most; default proselflc, or the first other method, at the highest noise level."""
    pilot: bool = False
    """Train the reference four times on one fold, and print what the design can show; never counted as results."""
    test_corpus: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=PATH ...")] = ()
    """Other corpora that each training is tested on as well, on the classes that both have (docs/inference.md)."""
    test_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME.KEY=VALUE ...")] = ()
    """Options of a test corpus: NAME.classes=A,B=C, NAME.exclude=FILE, or one of its corpus options."""
    output: Path = Path("results/confirm")
    """Folder for the chosen configurations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, "top", self.top)
        at_least(1, "seeds", self.seeds)
        if self.pilot and self.test_corpus:
            raise UserError("--test-corpus: a pilot's trainings are no results. Leave it out, or leave --pilot out.")
        if self.resume:
            self._refuse(
                (*(name for name in _OF_SEARCH if name not in _CHANGEABLE), *_OF_DESIGN),
                "a resumed confirmation follows its own design. Leave them out, or confirm under another --name.",
            )
        elif not self.space:
            self._refuse(
                _OF_SEARCH,
                "a confirmation of a search has the search's own options. Leave them out, or name the spaces whose "
                "published defaults are to be tested: --space NAME …",
            )

    def _refuse(self, names: Iterable[str], why: str) -> None:
        """Raise if one of these options is given."""
        default = ConfirmOptions.__dataclass_fields__
        if given := [name for name in names if getattr(self, name) != default[name].default]:
            listed = ", ".join(f"--{'set' if name == 'settings' else name.replace('_', '-')}" for name in given)
            raise UserError(f"{listed}: {why}")
