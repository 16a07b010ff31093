"""Records of a confirmation whose every prediction is given, without a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from analysis.common.records import Records
from study.schema import FINISHED, SELECTIONS
from study.uri import DEFAULT_URI

CLASSES = ("angry", "sad")
PER_CLASS = 10

Right = Callable[[int, int], int]
"""speaker, seed → number of the ten utterances of each class that are predicted correctly."""


def confirmed_records(
    methods: Mapping[tuple[str, str], Right],
    *,
    folds: Mapping[int, Sequence[int]],
    held_out: Sequence[int] = (),
    seeds: Sequence[int] = (1, 2),
) -> Records:
    """Return records of a confirmation.

    Args:
        methods: (noise, space) → predictions of its only candidate, ``search-1``.
        folds: Fold → its test speakers.
        held_out: Folds that the search has not seen; empty is all.
        seeds: Seeds of each configuration.
    """
    rows, tables = [], {}
    for (noise, space), right in methods.items():
        for fold, members in folds.items():
            for seed in seeds:
                run_id = f"{noise}-{space}-{fold}-{seed}"
                tables[run_id] = predictions(members, seed, right)
                known = [right(speaker, seed) / PER_CLASS for speaker in members]
                rows.append(
                    {
                        "noise": noise, "rate": {"clean": 0.0}.get(noise, 0.4), "space": space,
                        "candidate": "search-1", "source": f"{noise}-{space}", "seed": seed, "fold": fold,
                        "seen": bool(held_out) and fold not in held_out, "status": FINISHED, "selected": 0.5,
                        "parameters": {"loss.name": space, "optimizer.lr": "0.001"}, "searched": ("optimizer.lr",),
                        "start": len(rows), "run_id": run_id, "uar": sum(known) / len(known), "uar_best_epoch": 0.9,
                        "best_epoch": 3.0, "validation_uar": 0.6,
                    }
                )  # fmt: skip
    table = pd.DataFrame(rows)
    return Records(None, DEFAULT_URI, "made", "1", None, table, SELECTIONS["noisy"], CLASSES, tables)


def predictions(members: Sequence[int], seed: int, right: Right) -> pd.DataFrame:
    """Return a per-utterance table with test rows, and with training rows that must not be counted."""
    rows = [
        {
            "utterance_id": f"{speaker}-{label}-{number}", "subset": part, "speaker": f"s{speaker:02d}", "label": label,
            "p_angry": float((label == "angry") == (number < right(speaker, seed))),
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
