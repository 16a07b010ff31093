"""Recommendation of a method for each noise level, and its configuration as a file for ``python -m ser.train``.

The reference is recommended, unless methods are better than it; then the first of these in the declared order. An
oracle is never recommended. A method's configuration is the one with the best mean validation score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.common.families import INCOMPLETE, Family
from analysis.common.records import Records
from analysis.inference import BETTER, NOT_POSSIBLE, WORSE
from ser.config import Config
from ser.config_file import config_text
from ser.labels import CONSENSUS
from ser.utils.errors import UserError
from study.schema import AT_STOP, space_and_labels
from study.tracking.confirmations import representatives, trials_of_representative


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Method that is recommended at a noise level.

    Args:
        level: Noise level.
        rate: Share of wrong labels; NaN if unknown.
        method: The reference, or a method that is better than it.
        reference: The reference.
        row: Comparison that shows that the method is better; None where the reference is recommended.
        also: Other methods that are better than the reference; they were not compared with ``method``.
        worse: Methods that are worse than the reference.
        open: Methods without evidence, where evidence was possible.
        impossible: Methods for which the design could not have given evidence.
        incomplete: Methods whose design is not complete.
        oracles: Oracles among the compared methods.
    """

    level: str
    rate: float
    method: str
    reference: str
    row: pd.Series | None
    also: tuple[str, ...]
    worse: tuple[str, ...]
    open: tuple[str, ...]
    impossible: tuple[str, ...]
    incomplete: tuple[str, ...]
    oracles: tuple[str, ...]


def recommend(families: Sequence[Family]) -> list[Recommendation]:
    """Recommend a method for each noise level, levels by noise rate.

    Args:
        families: From ``analysis.common.families.read_families``; an earlier one comes first in the order of methods.
    """
    tables = [family.compared.assign(reference=family.reference) for family in families if len(family.compared)]
    if not tables:
        return []
    rows = pd.concat(tables, ignore_index=True)
    rows["oracle"] = rows["oracle"].astype(bool)
    levels = rows.sort_values("rate", kind="stable", na_position="last")["level"]
    return [_at_level(rows[rows["level"] == level]) for level in dict.fromkeys(levels)]


def _at_level(rows: pd.DataFrame) -> Recommendation:
    real = rows[~rows["oracle"]]

    def named(verdict: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(real.loc[real["verdict"] == verdict, "method"]))

    reference = str(rows["reference"].iloc[0])
    better = named(BETTER)
    first = better[0] if better else None
    settled = {BETTER, WORSE, NOT_POSSIBLE, INCOMPLETE}
    return Recommendation(
        level=str(rows["level"].iloc[0]),
        rate=float(rows["rate"].iloc[0]),
        method=first or reference,
        reference=reference,
        row=real[(real["verdict"] == BETTER) & (real["method"] == first)].iloc[0] if first else None,
        also=better[1:],
        worse=named(WORSE),
        open=tuple(dict.fromkeys(real.loc[~real["verdict"].isin(settled), "method"])),
        impossible=named(NOT_POSSIBLE),
        incomplete=named(INCOMPLETE),
        oracles=tuple(dict.fromkeys(rows.loc[rows["oracle"], "method"])),
    )


def write_configurations(records: Records, recommended: Sequence[Recommendation], folder: Path) -> list[Path]:
    """Write the configuration of each recommended method, ``recommended-LEVEL.yaml``.

    Args:
        records: Records of the experiment.
        recommended: From ``recommend``.
        folder: Folder of the files; created if necessary.

    Returns:
        The paths of the files.

    Raises:
        UserError: If the folder is not writable.
    """
    named = representatives(records.confirmed, records.selection)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in recommended:
            space = one.method.removesuffix(AT_STOP)
            best = named[(named["noise"] == one.level) & (named["space"] == space)]
            for row in best.to_dict("records"):
                paths.append(folder / f"recommended-{one.level.replace(':', '-').replace('/', '-')}.yaml")
                parameters = trials_of_representative(records.confirmed, row)["parameters"].iloc[0]
                paths[-1].write_text(_configuration(records, one, row["candidate"], parameters), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _configuration(records: Records, one: Recommendation, candidate: str, parameters: dict[str, str]) -> str:
    why = (
        f"better than {one.reference}" if one.row is not None else "the reference; nothing shows that another is better"
    )
    stop = "Stop at the epoch of the best UAR against the noisy validation labels.\n# " if AT_STOP in one.method else ""
    _, kind = space_and_labels(records.recorded_space(one.method.removesuffix(AT_STOP)))
    stop += f"Train with --labels {kind}.\n# " if kind != CONSENSUS else ""
    header = (
        f"# {records.data}: {one.method} at noise level {one.level}: {why}.\n# {stop}Configuration {candidate}, the "
        "best of its method by its mean validation score.\n"
    )
    return header + config_text(Config.from_dotted(dict(parameters)).to_dotted())
