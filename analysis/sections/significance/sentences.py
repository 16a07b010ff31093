"""Comparisons of a confirmation in words: what was declared, what was found, and what could not have been found."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from analysis.common.designs import missing_sentence
from analysis.common.families import INCOMPLETE, Family
from analysis.common.text import counted, level_with_rate, listing, number, p_equation, p_value, points
from analysis.inference import BETTER, NO_EVIDENCE, NOT_POSSIBLE, WORSE
from study.schema import in_words
from study.setup.power import ALPHA

Row = Mapping[Hashable, Any]

LATER = "is a family of its own, added later: what an earlier confirmation has shown stays."


def family_sentences(family: Family, resume: str, first: bool, alone: bool) -> list[str]:
    """Return what a confirmation shows, the comparison that was declared as the primary one first.

    Args:
        family: From ``analysis.common.families.read_families``.
        resume: The command that resumes the confirmation.
        first: Whether it is the earliest confirmation.
        alone: Whether it is the only one.
    """
    rows = family.compared.to_dict("records")
    lines = [] if alone or first else [f"Confirmation {family.study} {LATER}"]
    lines += [primary_sentence(row, family) for row in rows if row["primary"] and row["verdict"] != INCOMPLETE]
    if problem := not_declared(family):
        lines.append(problem)
    if not family.is_complete:
        lines += incomplete_sentences(family, resume)
        return lines
    rest = [row for row in rows if not row["primary"]]
    if rest:
        lines.append(_summary(rest, family))
    return [*lines, *(comparison_sentence(row, family) for row in rest)]


def primary_sentence(row: Row, family: Family) -> str:
    """Return the result of the comparison that was declared as the primary one.

    Args:
        row: Of ``Family.compared``.
        family: Its family.
    """
    return f"Declared beforehand: {_where(row)}, {comparison_sentence(row, family, named=False)}"


def comparison_sentence(row: Row, family: Family, named: bool = True) -> str:
    """Return the result of one comparison in plain words.

    Args:
        row: Of ``Family.compared``, with a verdict.
        family: Its family.
        named: Whether the sentence begins with the level.
    """
    method, reference = in_words(row["method"]), family.reference
    place = f"{row['level']}, " if named else ""
    what = (
        f"{place}{method} against {reference}: test UAR {number(row['uar'])} against "
        f"{number(row['uar_reference'])}, {points(row['difference'])} points{interval(row)}."
    )
    oracle = " It is an oracle, shown and never recommended." if row["oracle"] else ""
    return f"{what} {verdict_sentence(row, family)}{oracle}"


def verdict_sentence(row: Row, family: Family) -> str:
    """Return the verdict of one comparison, and what the design could have shown.

    Args:
        row: Of ``Family.compared``, with a verdict.
        family: Its family.
    """
    method = in_words(row["method"])
    p = f"{p_equation(row['p_adjusted'])} {_correction(row, family)}".strip()
    if row["verdict"] in (BETTER, WORSE):
        return f"Evidence that {method} is {row['verdict']} ({p})."
    if row["verdict"] == NOT_POSSIBLE:
        level = "0.05" if row["alpha"] == ALPHA else f"{row['alpha']}, the half of 0.05 that this comparison has"
        return (
            f"No evidence was possible, however large the difference: with {counted(int(row['units']), row['unit'])} "
            f"the smallest possible p is {p_value(row['p_smallest'])}, above {level}. This does not show that the two "
            "are equally good."
        )
    text = f"No evidence of a difference ({p})."
    if is_clear_of_zero(row):
        text += f" The interval excludes 0, because it is of this comparison alone; {_reason(row, family)}."
    if math.isfinite(row["detectable"]):
        text += f" A difference of {100 * row['detectable']:.1f} points would have been found with 80 % power."
    elif row["difference"] == 0:
        text += " The two recognise the same number of utterances of each class in every fold."
    return text


def not_declared(family: Family) -> str:
    """Return a sentence if the comparisons of a confirmation were not declared beforehand; otherwise an empty text."""
    if family.design is None:
        return (
            f"Nothing was declared beforehand, because {family.problem}: how many folds and seeds there are may have "
            "followed from what they showed."
        )
    if not family.declared:
        known = family.design.reference or "none"
        return (
            f"The comparison with {family.reference} was not declared beforehand; the reference of the design of "
            f"{family.study} is {known}."
        )
    return ""


def incomplete_sentences(family: Family, resume: str) -> list[str]:
    """Return sentences on a confirmation whose design is not complete: what is missing, and what has no verdict.

    Args:
        family: A family with missing trainings.
        resume: The command that resumes the confirmation.
    """
    judged = (family.compared["verdict"] != INCOMPLETE).any()
    rest = "The other comparisons have" if judged else "There is"
    return [
        f"The design of {family.study} is not complete. {rest} no verdict until it is.",
        missing_sentence(family.missing, family.planned, resume),
    ]


def interval(row: Row | pd.Series[Any]) -> str:
    """Return the interval of a comparison in brackets; empty if there is none."""
    return f" (95 % interval {points(row['low'])} to {points(row['high'])})" if pd.notna(row["low"]) else ""


def is_clear_of_zero(row: Row | pd.Series[Any]) -> bool:
    """Return whether the interval of a comparison excludes 0."""
    return bool(row["low"] > 0 or row["high"] < 0)


def _where(row: Row) -> str:
    return f"at {level_with_rate(row['level'], row['rate'])}"


def _summary(rows: list[dict[Hashable, Any]], family: Family) -> str:
    counts = pd.Series([row["verdict"] for row in rows]).value_counts()
    found = [
        f"{counts[verdict]} {words}"
        for verdict, words in (
            (BETTER, "better"),
            (WORSE, "worse"),
            (NO_EVIDENCE, "without evidence of a difference"),
            (NOT_POSSIBLE, "where no evidence was possible"),
        )
        if verdict in counts
    ]
    other = "further " if family.compared["primary"].any() else ""
    return f"{counted(len(rows), f'{other}comparison')} with {family.reference} over {family.units}: {listing(found)}."


def _correction(row: Row, family: Family) -> str:
    if row["primary"]:
        return "after correction, doubled as the declared primary comparison"
    return f"after correction for {_others(family)} comparisons" if _others(family) > 1 else ""


def _reason(row: Row, family: Family) -> str:
    if row["primary"]:
        return "p is doubled, because half of the 5 % is kept for the other comparisons"
    if row["alpha"] < ALPHA:
        return f"p is corrected for {counted(_others(family), 'comparison')}, next to the primary one"
    return f"p is corrected for {counted(_others(family), 'comparison')}"


def _others(family: Family) -> int:
    """Return the number of comparisons that are not the primary one."""
    return int((~family.compared["primary"].astype(bool)).sum())
