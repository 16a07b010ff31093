"""Recommendation of a method for each noise level, and its configuration as a file for ``python -m ser.train``.

The reference is recommended, unless methods are better than it; then the first of these in the declared order. An
oracle is never recommended. A method's configuration is the one with the best mean validation score.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.common.families import INCOMPLETE, Family
from analysis.common.records import Records
from analysis.common.text import counted, listing, p_equation, points
from analysis.inference import BETTER, NO_EVIDENCE, NOT_POSSIBLE, WORSE
from analysis.sections.significance.sentences import capitalized
from ser.config import Config, parse_value
from ser.config_file import config_text
from ser.labels import CONSENSUS
from ser.utils.errors import UserError
from study.schema import AT_STOP, in_words, space_and_labels
from study.tracking.confirmations import representatives, trials_of_representative


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Method that is recommended at a noise level.

    A method that several confirmations have compared with the reference has one verdict here: the earliest claim; else
    the earliest verdict without evidence.

    Args:
        level: Noise level.
        method: The reference, or a method that is better than it.
        reference: The reference.
        study: Confirmation whose trainings score the method.
        row: Comparison that shows that the method is better; None where the reference is recommended.
        also: Other methods that are better than the reference; they were not compared with ``method``.
        worse: Methods that are worse than the reference.
        open: Methods without evidence, where evidence was possible.
        impossible: Methods for which the design could not have given evidence.
        incomplete: Methods that are declared and have no verdict yet.
        oracles: Oracles among the compared methods.
        missing: Planned trainings that the verdicts of ``incomplete`` wait for.
        units: Number and kind of the units of the comparisons, such as ``4 folds``; empty without a verdict.
    """

    level: str
    method: str
    reference: str
    study: str
    row: pd.Series | None
    also: tuple[str, ...]
    worse: tuple[str, ...]
    open: tuple[str, ...]
    impossible: tuple[str, ...]
    incomplete: tuple[str, ...]
    oracles: tuple[str, ...]
    missing: int
    units: str

    @property
    def reason(self) -> str:
        """Return why the method is recommended, in a few words."""
        if self.row is not None:
            better = f"{points(self.row['difference'])} points, {p_equation(self.row['p_adjusted'])}"
            return f"better than {in_words(self.reference)} ({better})"
        if self.incomplete:
            lacking = f"{counted(self.missing, 'training')} missing"
            judged = self.open or self.impossible or self.worse
            return (
                f"the reference; nothing shown to be better yet, {lacking}" if judged else f"verdict pending: {lacking}"
            )
        if self.impossible and not (self.open or self.worse):
            return f"the reference; {self.units} cannot show a difference"
        return "the reference; nothing shown to be better"


SETTLES = {BETTER: 0, WORSE: 0, NO_EVIDENCE: 1, NOT_POSSIBLE: 2, INCOMPLETE: 3}
"""Verdict → rank; of several verdicts on a method the one with the lowest rank counts."""


def recommend(families: Sequence[Family]) -> list[Recommendation]:
    """Recommend a method for each noise level, levels by noise rate, or as declared where a rate is not known yet.

    Args:
        families: From ``analysis.common.families.read_families``; an earlier one comes first in the order of methods.
    """
    tables = [_comparisons(family) for family in families]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if rows.empty:
        return []
    rows["oracle"] = rows["oracle"].astype(bool)
    rows["rate"] = rows.groupby("level")["rate"].transform("first")
    declared = [level for family in families if family.design for level in family.design.levels]
    by_rate = rows.sort_values("rate", kind="stable", na_position="last")["level"]
    levels = dict.fromkeys([*declared, *by_rate] if rows["rate"].isna().any() else by_rate)
    return [_at_level(mine, families) for level in levels if len(mine := rows[rows["level"] == level])]


def _comparisons(family: Family) -> pd.DataFrame:
    """Return the comparisons of a family, and those that it declared and has no result of yet."""
    known = set(family.compared[["level", "method"]].itertuples(index=False, name=None))
    declared = family.design.candidates if family.design and family.declared else ()
    waiting = [
        {"level": one.noise, "method": one.space, "verdict": INCOMPLETE, "oracle": False}
        for one in declared
        if one.space != family.reference and (one.noise, one.space) not in known
    ]
    rows = pd.DataFrame([*family.compared.to_dict("records"), *waiting], columns=family.compared.columns)
    return rows.drop_duplicates(["level", "method"]).assign(reference=family.reference, study=family.study)


def _at_level(rows: pd.DataFrame, families: Sequence[Family]) -> Recommendation:
    settled = _settled(rows)
    real = settled[~settled["oracle"]]

    def named(verdict: str) -> tuple[str, ...]:
        return tuple(real.loc[real["verdict"] == verdict, "method"])

    level, reference, better = str(rows["level"].iloc[0]), str(rows["reference"].iloc[0]), named(BETTER)
    row = real[real["verdict"] == BETTER].iloc[0] if better else None
    judged = settled[settled["verdict"] != INCOMPLETE]
    first = row if row is not None else (judged if len(judged) else settled).iloc[0]
    return Recommendation(
        level=level,
        method=better[0] if better else reference,
        reference=reference if row is None else str(row["reference"]),
        study=str(first["study"]),
        row=row,
        also=better[1:],
        worse=named(WORSE),
        open=named(NO_EVIDENCE),
        impossible=named(NOT_POSSIBLE),
        incomplete=named(INCOMPLETE),
        oracles=tuple(settled.loc[settled["oracle"], "method"]),
        missing=_missing(level, families),
        units=counted(int(judged["units"].iloc[0]), judged["unit"].iloc[0]) if len(judged) else "",
    )


def _settled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method, in the order of their first rows: the earliest of the verdicts that settle most."""
    ranked = rows.assign(rank=rows["verdict"].map(SETTLES)).sort_values("rank", kind="stable")
    return ranked.drop_duplicates("method").set_index("method", drop=False).loc[list(dict.fromkeys(rows["method"]))]


def _missing(level: str, families: Sequence[Family]) -> int:
    """Return the number of missing trainings at a level; at all levels if none is missing there."""
    here = sum(int((family.missing["noise"] == level).sum()) for family in families)
    return here or sum(len(family.missing) for family in families)


def also_better(one: Recommendation) -> str:
    """Return a clause on the methods that are better too; empty if there are none.

    Args:
        one: Recommendation at a noise level.
    """
    if not one.also:
        return ""
    verb = "are" if len(one.also) > 1 else "is"
    return f"{_listed(one.also)} {verb} better than {in_words(one.reference)} too, and not compared with it"


def oracle_sentence(recommended: Sequence[Recommendation]) -> str:
    """Return a sentence on the compared oracles; empty if there are none.

    Args:
        recommended: From ``analysis.page.recommendation.recommend``.
    """
    oracles = list(dict.fromkeys(name for one in recommended for name in one.oracles))
    verb = "are oracles" if len(oracles) > 1 else "is an oracle"
    return capitalized(f"{_listed(oracles)} {verb}: shown, and never recommended.") if oracles else ""


def _listed(methods: Sequence[str]) -> str:
    return listing([in_words(method) for method in methods])


def configuration_name(level: str) -> str:
    """Return the name of the file with the configuration that is recommended at a noise level.

    Example:
        >>> configuration_name("symmetric:0.2")
        'recommended-symmetric-0.2.yaml'
    """
    return f"recommended-{level.replace(':', '-').replace('/', '-')}.yaml"


def best_configurations(records: Records, recommended: Sequence[Recommendation]) -> dict[str, Mapping[Hashable, Any]]:
    """Return noise level → configuration with the best mean validation score of the method that is recommended.

    Args:
        records: Records of the experiment.
        recommended: From ``recommend``.

    Returns:
        Rows of ``study.tracking.confirmations.representatives``, of the levels at which the method was confirmed.
    """
    named = representatives(records.confirmed, records.selection)
    best = {(row["noise"], row["space"]): row for row in named.to_dict("records")}
    cells = {one.level: (one.level, one.method.removesuffix(AT_STOP)) for one in recommended}
    return {level: best[cell] for level, cell in cells.items() if cell in best}


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
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        best = best_configurations(records, recommended)
        for one in recommended:
            if one.level in best:
                paths.append(folder / configuration_name(one.level))
                paths[-1].write_text(_configuration(records, one, best[one.level]), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {str(folder)!r} is not writable: {error.strerror}.") from error
    return paths


def _configuration(records: Records, one: Recommendation, best: Mapping[Hashable, Any]) -> str:
    parameters = trials_of_representative(records.confirmed, best)["parameters"].iloc[0]
    stop = "Stop at the epoch of the best UAR against the noisy validation labels.\n# " if AT_STOP in one.method else ""
    _, kind = space_and_labels(records.recorded_space(one.method.removesuffix(AT_STOP)))
    stop += f"Train with --labels {kind}.\n# " if kind != CONSENSUS else ""
    header = (
        f"# {records.data}: {in_words(one.method)} at noise level {one.level}: {one.reason}.\n# {stop}Configuration "
        f"{best['candidate']}, the best of its method by its mean validation score.\n"
    )
    try:
        values = Config.from_dotted(dict(parameters)).to_dotted()
    except UserError:  # a network that cannot be built here: a speech encoder or a class that is elsewhere
        values = {key: parse_value(value) for key, value in dict(parameters).items()}
    return header + config_text(values)
