"""The schema of the records: tag and metric names, defined once for those who write and those who read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Stages of a trial.
SEARCH, CONFIRM = "search", "confirm"

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
RUNNING = "running"  # what a reader sees before a trial has ended; never written

UTTERANCES = "utterances.parquet"  # a trial's artifact: what became of each label

# Artifacts of a parent run: what was done to the labels; the study's options and the space that it searched.
MANIFEST, STUDY = "noise_manifest.json", "study.json"

# Seconds of an epoch, training and validation; and of all epochs up to it.
SECONDS, SECONDS_SO_FAR = "train/seconds", "train/seconds_so_far"

# What a confirmed configuration is: the best, second, … of its search, or its method's published default.
SEARCH_RANK, DEFAULT = "search-", "default"

# What a run is: one parent for each (space, noise level) of a study, one trial for each configuration; in the confirm
# stage one for each (configuration, seed, fold).
KIND, PARENT, TRIAL = "kind", "parent", "trial"

# Beside them: a page of analysis/report.py, and a network that study/register.py has made a model of.
REPORT, MODEL = "report", "model"


class Tag:
    """Tag names of MLflow runs."""

    KIND = KIND
    STUDY = "study"
    SPACE = "space"
    NOISE = "noise"
    NOISE_RATE = "noise.rate"
    NOISE_RECIPE = "noise.recipe"
    NOISE_DIGEST = "noise.digest"
    CORPUS = "corpus"
    CORPUS_DIGEST = "corpus.digest"
    EXCLUDED = "corpus.excluded"
    STAGE = "stage"
    TRIAL = "trial"
    SEED = "seed"
    FOLD = "fold"
    SPLIT = "split"
    STATUS = "status"
    OLD_STATUS = "fidelity"  # what STATUS is called in studies of version 0.1
    FAILURE = "failure"
    FOLDER = "folder"
    PROTOCOL = "protocol"
    SELECT_ON = "select_on"
    SEARCHED = "searched"
    PLANNED_TRIALS = "planned_trials"

    # Of the confirm stage alone.
    CANDIDATE = "candidate"  # search-1, search-2, … or default
    SOURCE = "source"  # the search's run that the configuration comes from; empty for a default
    SEEN = "seen_by_search"  # true where the search has trained on or chosen by this fold's test rows, else false


def status_of(tags: Mapping[str, str], default: str) -> str:
    """Return how a trial ended.

    Args:
        tags: Of its run, of this version or of version 0.1.
        default: The answer for a run without such a tag.

    Returns:
        ``finished``, ``stopped``, ``failed``, or ``default``.
    """
    return tags.get(Tag.STATUS) or tags.get(Tag.OLD_STATUS) or default


@dataclass(frozen=True)
class Selection:
    """How configurations are chosen.

    Args:
        name: ``noisy``, ``clean`` or ``soft``.
        metric: The validation metric, at the last epoch.
        mode: ``max`` or ``min``.
        meaning: In words.
    """

    name: str
    metric: str
    mode: str
    meaning: str


SELECTIONS = {
    "noisy": Selection("noisy", "val_noisy/uar", "max", "UAR against the noisy validation labels, last epoch"),
    "clean": Selection("clean", "val/uar", "max", "UAR against the true validation labels (an oracle), last epoch"),
    "soft": Selection("soft", "val/soft_ce", "min", "cross entropy against the annotators' distribution, last epoch"),
}
