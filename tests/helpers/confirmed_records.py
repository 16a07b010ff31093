"""Records of confirmations whose every prediction is given, without a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace

import pandas as pd

from analysis.common.records import Records
from study.schema import CONFIRM, DESIGN, FINISHED, PARENT, SELECTIONS, STOPPED, UNSEEN, UTTERANCES, Tag
from study.setup.candidates import Candidate
from study.setup.design import Design, FoldSpeakers
from study.uri import DEFAULT_URI

CLASSES = ("angry", "sad")
PER_CLASS = 10
RATES = {"clean": 0.0, "noisy-A": 0.2648, "noisy-B": 0.4019}

Right = Callable[[int, int], int]
"""speaker, seed → number of the ten utterances of each class that are predicted correctly."""


def confirmed_records(
    methods: Mapping[tuple[str, str], Right],
    *,
    folds: Mapping[int, Sequence[int]],
    seeds: Sequence[int] = (1,),
    study: str = "first",
    declared: bool = True,
    primary: tuple[str, str] | None = None,
    unit: str = "speaker",
    stopped: Mapping[str, Right] | None = None,
    candidate: str = "default",
    exposure: Mapping[tuple[str, int], str] | None = None,
    unfinished: Collection[tuple[str, str, int]] = (),
    start: int = 0,
) -> Records:
    """Return records of a confirmation.

    Args:
        methods: (noise, space) → predictions of its only candidate.
        folds: Fold → its test speakers.
        seeds: Seeds of each configuration.
        study: Name of the confirmation.
        declared: Whether there is a design.
        primary: (level, method) of the primary comparison of the design.
        unit: Unit of the design.
        stopped: Space → predictions at the early stop, of the spaces that the design counts so.
        candidate: Name of the candidates.
        exposure: (space, fold) → what the search did with its test speakers; ``unseen`` where nothing is given.
        unfinished: (noise, space, fold) of planned trainings that have stopped.
        start: Start of the first trial in ms.
    """
    stopped = stopped or {}
    design = make_design(
        study,
        [(space, noise, candidate) for noise, space in methods],
        {fold: list(map(named, members)) for fold, members in folds.items()},
        seeds,
        unit=unit,
        primary=primary,
        stopped=tuple(stopped),
    )
    rows, tables = [], {}
    for (noise, space), right in methods.items():
        for fold, members in folds.items():
            for seed in seeds:
                run_id = f"{study}-{noise}-{space}-{fold}-{seed}"
                tables[run_id, UTTERANCES] = predictions(members, seed, right, stopped.get(space))
                known = [right(speaker, seed) / PER_CLASS for speaker in members]
                rows.append(
                    {
                        "study": study, "design": design.digest if declared else "", "noise": noise,
                        "rate": RATES[noise], "space": space, "candidate": candidate,
                        "source": "" if candidate == "default" else f"{noise}-{space}", "seed": seed, "fold": fold,
                        "exposure": (exposure or {}).get((space, fold), UNSEEN),
                        "status": STOPPED if (noise, space, fold) in unfinished else FINISHED, "selected": 0.5,
                        "parameters": {"loss.name": space, "optimizer.lr": "0.001"}, "searched": ("optimizer.lr",),
                        "start": start + len(rows), "run_id": run_id, "uar": sum(known) / len(known),
                        "uar_best_epoch": 0.9, "best_epoch": 3.0, "uar_stopped": 0.45, "stopped_epoch": 2.0,
                        "validation_uar": 0.6,
                    }
                )  # fmt: skip
    tags = {Tag.KIND: PARENT, Tag.STAGE: CONFIRM, Tag.STUDY: study}
    parent = SimpleNamespace(info=SimpleNamespace(run_id=f"{study}-parent"), data=SimpleNamespace(tags=tags))
    document = design.to_json() if declared else None
    return Records(
        None, DEFAULT_URI, "made", "1", None, pd.DataFrame(rows), SELECTIONS["noisy"], CLASSES,
        results=tables | {(f"{study}-parent", DESIGN): document}, runs=(parent,),
    )  # fmt: skip


def make_design(
    study: str,
    candidates: Collection[tuple[str, str, str]],
    folds: Mapping[int, Sequence[str]],
    seeds: Sequence[int],
    *,
    classes: Sequence[str] = CLASSES,
    unit: str = "speaker",
    primary: tuple[str, str] | None = None,
    stopped: Sequence[str] = (),
) -> Design:
    """Return the design of a confirmation.

    Args:
        study: Name of the confirmation.
        candidates: (space, noise, name) of each configuration.
        folds: Fold → names of its test speakers.
        seeds: Seeds of each configuration.
        classes: Class names.
        unit: Unit of inference.
        primary: (level, method) of the primary comparison.
        stopped: Methods that also count with an early stop.
    """
    methods = tuple(dict.fromkeys(space for space, _, _ in candidates))
    return Design(
        study=study, experiment="made", corpus="made", corpus_digest="d", classes=tuple(classes), unit=unit,
        folds=tuple(FoldSpeakers(number, tuple(speakers), ()) for number, speakers in folds.items()),
        seeds=tuple(seeds), levels=tuple(dict.fromkeys(noise for _, noise, _ in candidates)), methods=methods,
        candidates=tuple(Candidate(space, noise, name, "", {}) for space, noise, name in candidates),
        reference="cross_entropy" if "cross_entropy" in methods else None,
        primary=None if primary is None else {"level": primary[0], "method": primary[1]},
        stopped=tuple(stopped), select_on="noisy", protocol="confirm-protocol",
    )  # fmt: skip


def joined(*parts: Records) -> Records:
    """Return the records of several confirmations of one experiment."""
    first = parts[0]
    first.confirmed = pd.concat([part.confirmed for part in parts], ignore_index=True)
    first.runs = tuple(run for part in parts for run in part.runs)
    for part in parts[1:]:
        first.results.update(part.results)
    return first


def named(speaker: int) -> str:
    """Return the name of a speaker."""
    return f"s{speaker:02d}"


def predictions(members: Sequence[int], seed: int, right: Right, stopped: Right | None = None) -> pd.DataFrame:
    """Return a per-utterance table with test rows, and with training rows that must not be counted."""
    rows = [
        {
            "utterance_id": f"{speaker}-{label}-{number}", "subset": part, "speaker": named(speaker), "label": label,
            "p_angry": float((label == "angry") == (number < right(speaker, seed))),
            "stopped_label": label if stopped and number < stopped(speaker, seed)
            else CLASSES[label == "angry"] if stopped else None,
        }
        for part in ("test", "train")
        for speaker in members
        for label in CLASSES
        for number in range(PER_CLASS)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["p_sad"] = 1 - table["p_angry"]
    table.loc[table["subset"] == "train", ["p_angry", "p_sad"]] = 0.5
    return table
