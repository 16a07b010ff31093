"""The schema of the records: names of tags, metrics and artifacts, defined once for writers and readers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ser.labels import CONSENSUS, LABEL_KINDS, LabelKind

# Stages of a trial. The trainings of a pilot tell how much scores vary, and are never results.
SEARCH, CONFIRM, PILOT = "search", "confirm", "pilot"

# Statuses of a trial.
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
RUNNING = "running"  # for trials that have not ended; never written

# Artifacts of a trial: the per-utterance table; in a confirmation with test corpora, the right predictions on them.
UTTERANCES, ACROSS_CORPORA = "utterances.parquet", "across_corpora.parquet"

# Artifacts of a parent run: the noise manifest; the options of the study and the ranges of its space, which version 0.1
# called study.json, as the file of options in a study's folder.
MANIFEST, SEARCH_RECORD, OLD_SEARCH_RECORD = "noise_manifest.json", "search.json", "study.json"

# Further artifacts of a parent run, of the trials that stand for it: their table, and a figure of all trials.
BEST_TABLE, TRIALS_FIGURE = "best_runs.csv", "trials.png"

# Artifact of a confirmation's parent runs, and file in its folder: what was declared before it began.
DESIGN = "design.json"

# The page that analysis/report.py writes by default.
REPORT_PAGE = Path("results") / "report" / "report.html"

# Metrics: seconds of training and validation in an epoch, and in all epochs up to it.
SECONDS, SECONDS_SO_FAR = "train/seconds", "train/seconds_so_far"

# Metrics of a parent run alone, next to those of the trials that stand for it: the rate of wrong training labels, and
# how many trials there are of each status.
RATE, COUNT = "noise_rate", "trials/"

# Prefix of the metrics that MLflow's UI shows as system metrics.
SYSTEM = "system/"

# Candidates of a confirmation: search-1, search-2, … (the best configurations of a search) and the published default.
SEARCH_RANK, DEFAULT = "search-", "default"

# What a search did with the test speakers of a fold, before a configuration of its own was tested there. A published
# default was chosen by no search, so every speaker is unseen.
UNSEEN, TRAINED_BY, CHOSEN_BY = "unseen", "trained_by", "chosen_by"

# Kinds of runs: one parent for each (space, noise level) of a study; one trial for each configuration, in the confirm
# stage for each (configuration, seed, fold).
KIND, PARENT, TRIAL = "kind", "parent", "trial"

# Further kinds: a page of analysis/report.py, and a model that study/register.py has registered.
REPORT, MODEL = "report", "model"


class Tag:
    """Names of the tags of MLflow runs."""

    KIND = KIND
    STUDY = "study"
    SPACE = "space"
    SPACE_DIGEST = "space.digest"  # of the space's content; absent in earlier versions
    NOISE = "noise"
    NOISE_RATE = "noise.rate"
    NOISE_RECIPE = "noise.recipe"
    NOISE_DIGEST = "noise.digest"
    LABELS = "labels"  # kind of training labels; absent in earlier versions, whose labels are the consensus
    CORPUS = "corpus"
    CORPUS_DIGEST = "corpus.digest"
    EXCLUDED = "corpus.excluded"
    WEIGHTS = "weights"  # name or file of the initial weights of a network; absent where trials begin without any
    WEIGHTS_DIGEST = "weights.digest"  # of the file's content; absent in earlier versions
    STAGE = "stage"
    TRIAL = "trial"
    SEED = "seed"
    FOLD = "fold"
    SPLIT = "split"
    ARITHMETIC = "arithmetic"  # of its network, such as cuda bfloat16; absent in earlier versions, classical models
    STATUS = "status"
    OLD_STATUS = "fidelity"  # name of STATUS in studies of version 0.1
    FAILURE = "failure"
    FOLDER = "folder"
    RECORDS = "records"  # lines of the trial's event log that this store has
    MISSED = "records.missed"  # files that could not be uploaded, with the reason
    PROTOCOL = "protocol"
    SELECT_ON = "select_on"
    SEARCHED = "searched"
    ABSENT = "classes.absent"  # JSON: subset → classes that it lacks; only where one lacks any
    PLANNED_TRIALS = "planned_trials"
    CHOSEN = "chosen."  # of parents: prefix of what was chosen, its number, its run, its searched parameters
    SUMMARY = "summary.digest"  # of parents: of all that was written about their trials
    NOTE = "summary.note"  # of parents: digest of the description, so that one that a user has changed stays
    GIT_DIRTY = "git.dirty"  # whether tracked files differed from the commit; before, its hash ended in -dirty

    # Of the confirm stage only.
    CANDIDATE = "candidate"  # search-1, search-2, … or default
    SOURCE = "source"  # run of the search that found the configuration, empty for a default
    DESIGN = "design"  # digest of the confirmation's design, also on its parent runs
    TEST_CORPORA = "test_corpora"  # other corpora that its trainings are tested on; absent without any
    EXPOSURE = "exposure"  # unseen, trained_by or chosen_by
    OLD_SEEN = "seen_by_search"  # instead of EXPOSURE in confirmations of version 0.1: true or false


LABELS_SEPARATOR = "+"


def method_name(space: str, labels: str) -> str:
    """Return the name of a space with its training labels, under which it is recorded and shown.

    Args:
        space: Name of the search space.
        labels: Kind of training labels.

    Example:
        >>> method_name("elr", "consensus"), method_name("elr", "dawid_skene")
        ('elr', 'elr+dawid_skene')
    """
    return space if labels == CONSENSUS else f"{space}{LABELS_SEPARATOR}{labels}"


def space_and_labels(method: str) -> tuple[str, LabelKind]:
    """Return space and training labels of a name from ``method_name``.

    Example:
        >>> space_and_labels("elr+dawid_skene"), space_and_labels("elr")
        (('elr', 'dawid_skene'), ('elr', 'consensus'))
    """
    space, _, labels = method.rpartition(LABELS_SEPARATOR)
    return next(((space, kind) for kind in LABEL_KINDS[1:] if space and labels == kind), (method, CONSENSUS))


AT_STOP = "@stopped"
"""Suffix of a method whose results are those of its honest early stop."""

METHODS = {
    "cross_entropy": "cross entropy",
    "proselflc": "ProSelfLC",
    "reweighting_control": "reweighting control",
    "elr": "ELR",
    "generalized_cross_entropy": "generalized cross entropy",
    "symmetric_cross_entropy": "symmetric cross entropy",
    "normalized_losses": "normalized losses",
    "label_smoothing": "label smoothing",
    "confidence_penalty": "confidence penalty",
    "label_correction": "label correction",
    "forward_correction": "forward correction",
    "focal": "focal loss",
    "mixup": "mixup",
    "soft_labels": "soft labels",
    "classical": "classical models",
    "all_losses": "all losses in one space",
}
"""The project's own search spaces → how people write them; figures give each a colour and a mark in this order."""

LABELS_IN_WORDS: dict[LabelKind, str] = {
    "plurality": "plurality labels",
    "dawid_skene": "Dawid–Skene labels",
    "soft": "soft labels of the votes",
}


def in_words(method: str) -> str:
    """Return a method as people write it: the one form of its name in sentences, tables and figures.

    Args:
        method: Search space, with its training labels, its digest or its early stop where they distinguish it; the
            name of a space of one's own stays as it is.

    Example:
        >>> in_words("proselflc"), in_words("cross_entropy@stopped"), in_words("elr+dawid_skene")
        ('ProSelfLC', 'cross entropy with an early stop', 'ELR on Dawid–Skene labels')
        >>> in_words("elr@3f2a1c"), in_words("my_space")
        ('ELR@3f2a1c', 'my_space')
    """
    name, stopped = method.removesuffix(AT_STOP), " with an early stop" if method.endswith(AT_STOP) else ""
    space, labels = space_and_labels(name)
    own, at, content = space.partition("@")
    on = f" on {LABELS_IN_WORDS[labels]}" if labels in LABELS_IN_WORDS else ""
    return f"{METHODS.get(own, own)}{at}{content}{on}{stopped}"


def run_name(space: str, level: str, study: str, trial: str = "") -> str:
    """Return the name of a parent's or a trial's run, which no other run of its experiment has.

    What distinguishes a run from those next to it comes first, because MLflow's table shows about seventeen characters.

    Args:
        space: Search space.
        level: Noise level.
        study: Name of the study, of which an experiment has one.
        trial: Words for a trial within its parent; empty for the parent.

    Example:
        >>> run_name("elr", "noisy-B", "ravdess-1")
        'noisy-B elr · ravdess-1'
        >>> run_name("elr", "noisy-B", "ravdess-1", "trial 003")
        'trial 003 · noisy-B elr · ravdess-1'
    """
    return " · ".join([*([trial] if trial else []), f"{level} {space}", study])


def rate_tag(rate: float | None) -> str:
    """Return a noise rate as the value of its tag, to four digits; empty where it is unknown.

    Example:
        >>> rate_tag(0.26393442622950819), rate_tag(0.0), rate_tag(None)
        ('0.2639', '0.0', '')
    """
    return "" if rate is None else str(round(rate, 4))


def rate_of(tags: Mapping[str, str]) -> float | None:
    """Return the noise rate of a run to four digits, None if it is unknown.

    Args:
        tags: Tags of its run; earlier versions wrote all digits of the rate, and ``None``.

    Example:
        >>> rate_of({"noise.rate": "0.26393442622950819"}), rate_of({"noise.rate": "None"})
        (0.2639, None)
    """
    rate = tags[Tag.NOISE_RATE]
    return None if rate in {"", "None"} else round(float(rate), 4)


def status_of(tags: Mapping[str, str], default: str) -> str:
    """Return the status of a trial: ``finished``, ``stopped``, ``failed``, or a default.

    Args:
        tags: Tags of its run, of this version or of version 0.1.
        default: Status of a run without such a tag.

    Example:
        >>> status_of({"status": "finished"}, "running"), status_of({"fidelity": "failed"}, "running")
        ('finished', 'failed')
        >>> status_of({}, "running")
        'running'
    """
    return tags.get(Tag.STATUS) or tags.get(Tag.OLD_STATUS) or default


def absent_tag(absent: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the tag for the classes that the subsets of a trial lack; none if they lack none.

    Args:
        absent: Subset → classes, as ``ser.training.task.Task.absent``.

    Example:
        >>> absent_tag({"validation": ["sad"]}), absent_tag({})
        ({'classes.absent': '{"validation": ["sad"]}'}, {})
    """
    return {Tag.ABSENT: json.dumps(absent, ensure_ascii=False)} if absent else {}


def absent_of(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the classes that the subsets of a trial lack, by subset.

    Args:
        tags: Tags of its run.

    Example:
        >>> absent_of({"classes.absent": '{"validation": ["sad"]}'}), absent_of({})
        ({'validation': ['sad']}, {})
    """
    found: dict[str, list[str]] = json.loads(tags.get(Tag.ABSENT, "{}"))
    return found


def exposure_of(tags: Mapping[str, str]) -> str:
    """Return what a search did with the test speakers of a confirmed trial.

    Args:
        tags: Tags of its run, of this version or of version 0.1.

    Example:
        >>> exposure_of({"candidate": "search-1", "exposure": "unseen"})
        'unseen'
        >>> exposure_of({"candidate": "search-1", "seen_by_search": "true"})
        'trained_by'
        >>> exposure_of({"candidate": "default", "seen_by_search": "true"})
        'unseen'
    """
    if Tag.EXPOSURE in tags:
        return tags[Tag.EXPOSURE]
    searched = tags[Tag.CANDIDATE] != DEFAULT
    return TRAINED_BY if searched and tags[Tag.OLD_SEEN] == "true" else UNSEEN


SelectionName = Literal["noisy", "clean", "soft"]

Keep = Literal["best", "all", "none"]
"""Networks of finished trials that stay on disk: the best of each search, all, or none."""

# What the validation utterances must have for a selection rule.
TRUE_LABELS, VOTES = "true labels", "votes"


@dataclass(frozen=True)
class Selection:
    """Rule by which configurations are chosen.

    Args:
        name: Name of the rule and of the labels that it scores against.
        metric: The validation metric, at the last epoch.
        column: Column of the metric in tables of trials.
        mode: ``max`` or ``min``.
        meaning: Description for people.
        needs: What the validation utterances must have: ``TRUE_LABELS``, ``VOTES``, or empty.
        oracle: Whether the rule uses labels that nobody has outside of an experiment.
    """

    name: SelectionName
    metric: str
    column: str
    mode: str
    meaning: str
    needs: str = ""
    oracle: bool = False


SELECTIONS: dict[str, Selection] = {
    selection.name: selection
    for selection in (
        Selection(
            "noisy", "val_noisy/uar", "uar_noisy", "max", "UAR against the noisy validation labels, last epoch"
        ),
        Selection(
            "clean", "val/uar", "uar", "max", "UAR against the true validation labels (an oracle), last epoch",
            needs=TRUE_LABELS, oracle=True,
        ),
        Selection(
            "soft", "val/soft_ce", "soft_ce", "min",
            "cross entropy against the annotators' distribution, last epoch", needs=VOTES,
        ),
    )
}  # fmt: skip
"""Selection rules by name: adding one takes its name above and one entry here."""
