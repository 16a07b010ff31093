"""Comparisons of a confirmation in words: what was declared, what was found, and what could not have been found."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.common.designs import missing_sentence
from analysis.common.families import INCOMPLETE, Family
from analysis.common.text import between, counted, level_with_rate, p_equation, p_value, points
from analysis.inference import BETTER, NO_EVIDENCE, NOT_POSSIBLE, WORSE
from study.schema import AT_STOP, in_words
from study.setup.power import ALPHA

Row = Mapping[Hashable, Any]

POINTS = "{:.1f} points of test UAR"


def family_sentences(family: Family, resume: str, first: bool, alone: bool) -> list[str]:
    """Return what a confirmation shows, the comparison that was declared as the primary one first.

    Args:
        family: From ``analysis.common.families.read_families``.
        resume: The command that resumes the confirmation.
        first: Whether it is the earliest confirmation.
        alone: Whether it is the only one.
    """
    lines = [] if alone or first else [later_sentence(family)]
    primary = primary_sentence(family)
    return [*lines, *([primary] if primary else []), *further_sentences(family, resume)]


def later_sentence(family: Family) -> str:
    """Return a sentence on a confirmation that is not the first one."""
    return f"Confirmation {family.study} was added later and changes no verdict of an earlier one."


def primary_sentence(family: Family) -> str:
    """Return the result of the primary comparison in one sentence; empty if none was declared.

    Args:
        family: From ``analysis.common.families.read_families``.
    """
    design = family.design
    if design is None or not family.declared or not design.primary:
        return ""
    found = family.primary[family.primary["verdict"] != INCOMPLETE].to_dict("records")
    if found:
        return f"Declared beforehand: {result_sentence(found[0], family)}"
    level, method = design.primary["level"], design.primary["method"]
    names = (method.removesuffix(AT_STOP), family.reference)
    lacking = int(((family.missing["noise"] == level) & family.missing["space"].isin(names)).sum())
    what = f"{in_words(method)} against {in_words(family.reference)} at {level}"
    why = f": {counted(lacking, 'planned training')} missing" if lacking else ""
    return f"Declared beforehand, verdict pending: {what}{why}."


def further_sentences(family: Family, resume: str) -> list[str]:
    """Return what a confirmation shows next to its primary comparison, and what its verdicts are about.

    Args:
        family: From ``analysis.common.families.read_families``.
        resume: The command that resumes the confirmation.
    """
    judged = family.compared[family.compared["verdict"] != INCOMPLETE]
    lines = [problem] if (problem := not_declared(family)) else []
    if not family.is_complete:
        lines += incomplete_sentences(family, resume)
    lines += claims(family)
    rest = judged[~judged["primary"].astype(bool)].to_dict("records")
    lines += _without_evidence([row for row in rest if row["verdict"] == NO_EVIDENCE], family)
    lines += _not_possible([row for row in rest if row["verdict"] == NOT_POSSIBLE], family)
    if len(judged):
        lines.append(f"Verdicts are over {family.units}; they are about {judged['scope'].iloc[0]}.")
    return lines


def claims(family: Family) -> list[str]:
    """Return a sentence on each method that is better or worse than the reference, without the primary comparison.

    Args:
        family: From ``analysis.common.families.read_families``.
    """
    rows = family.compared[~family.compared["primary"].astype(bool)].to_dict("records")
    return [capitalized(result_sentence(row, family)) for row in rows if row["verdict"] in (BETTER, WORSE)]


def result_sentence(row: Row, family: Family) -> str:
    """Return the result of one comparison in one sentence.

    Args:
        row: Of ``Family.compared``, with a verdict.
        family: Its family.
    """
    method, reference = in_words(row["method"]), in_words(family.reference)
    where = f"at {level_with_rate(row['level'], row['rate'])}"
    oracle = "; it is an oracle, shown and never recommended" if row["oracle"] else ""
    if row["verdict"] in (BETTER, WORSE):
        size = POINTS.format(100 * abs(row["difference"]))
        return f"{where} {method} is {row['verdict']} than {reference}, by {size} {evidence(row, family)}{oracle}."
    if row["verdict"] == NOT_POSSIBLE:
        return (
            f"{where} {counted(int(row['units']), row['unit'])} cannot show a difference between {method} and "
            f"{reference}, however large (seen: {size_and_direction(row['difference'])}): {_smallest(row)}{oracle}."
        )
    if row["low"] == row["high"] == 0:
        found = "both recognise the same number of utterances of each class in every fold"
    else:
        found = f"its test UAR is {size_and_direction(row['difference'])} {evidence(row, family)}"
    power = f", and {_found_with_power([row])}" if math.isfinite(row["detectable"]) else ""
    return f"{where} there is no evidence that {method} differs from {reference}: {found}{power}{oracle}."


def evidence(row: Row | pd.Series[Any], family: Family) -> str:
    """Return interval and p of a comparison in brackets.

    Args:
        row: Of ``Family.compared``, with a verdict for which evidence was possible.
        family: Its family.
    """
    corrected = "corrected " if row["primary"] or _others(family) > 1 or row["alpha"] < ALPHA else ""
    alone = " of this comparison alone" if row["verdict"] == NO_EVIDENCE and is_clear_of_zero(row) else ""
    ends: str = "" if pd.isna(row["low"]) else f"95 % interval {points(row['low'])} to {points(row['high'])}{alone}, "
    return f"({ends}{corrected}{p_equation(row['p_adjusted'])})"


def size_and_direction(difference: float) -> str:
    """Return a difference from the reference as people say it.

    Args:
        difference: Method − reference, −1 to 1.

    Example:
        >>> size_and_direction(-0.0062), size_and_direction(0.031), size_and_direction(0.0)
        ('0.6 points lower', '3.1 points higher', 'the same')
    """
    size = f"{100 * abs(difference):.1f}"
    return "the same" if size == "0.0" else f"{size} points {'higher' if difference > 0 else 'lower'}"


def capitalized(sentence: str) -> str:
    """Return a sentence with a capital at its start.

    Example:
        >>> capitalized("at noisy-B ELR is better.")
        'At noisy-B ELR is better.'
    """
    return sentence[0].upper() + sentence[1:]


def not_declared(family: Family) -> str:
    """Return a sentence if the comparisons of a confirmation were not declared beforehand; otherwise an empty text."""
    if family.design is None:
        return (
            f"Nothing was declared beforehand, because {family.problem}: how many folds and seeds there are may have "
            "followed from what they showed."
        )
    if not family.declared:
        known = in_words(family.design.reference) if family.design.reference else "none"
        return (
            f"The comparison with {in_words(family.reference)} was not declared beforehand; the reference of the "
            f"design of {family.study} is {known}."
        )
    return ""


def incomplete_sentences(family: Family, resume: str) -> list[str]:
    """Return sentences on a confirmation whose design is not complete: what is missing, and what has no verdict.

    Args:
        family: A family with missing trainings.
        resume: The command that resumes the confirmation.
    """
    judged = (family.compared["verdict"] != INCOMPLETE).any()
    which = "The other comparisons have" if judged else "Its comparisons have"
    return [
        f"The design of {family.study} is not complete. {which} no verdict until it is.",
        missing_sentence(family.missing, family.planned, resume),
    ]


def is_clear_of_zero(row: Row | pd.Series[Any]) -> bool:
    """Return whether the interval of a comparison excludes 0."""
    return bool(row["low"] > 0 or row["high"] < 0)


def units_needed(alpha: float) -> int:
    """Return the smallest number of units with which a difference can be shown.

    Args:
        alpha: Level at which a comparison is tested.

    Example:
        >>> units_needed(0.05), units_needed(0.025)
        (6, 7)
    """
    return math.ceil(1 - math.log2(alpha))


def _without_evidence(rows: Sequence[Row], family: Family) -> list[str]:
    """Return sentences on the comparisons without evidence, the largest difference in full."""
    if len(rows) < 2:
        return [capitalized(result_sentence(row, family)) for row in rows]
    largest = max(rows, key=lambda row: abs(row["difference"]))
    power = f"; {_found_with_power(rows)}" if any(math.isfinite(row["detectable"]) for row in rows) else ""
    return [
        f"There is no evidence of a difference in {len(rows)} other comparisons with {in_words(family.reference)}; "
        f"the largest is {in_words(largest['method'])} at {largest['level']}, "
        f"{size_and_direction(largest['difference'])} {evidence(largest, family)}{power}."
    ]


def _not_possible(rows: Sequence[Row], family: Family) -> list[str]:
    if not rows:
        return []
    first = rows[0]
    found = capitalized(result_sentence(first, family))
    if len(rows) > 1:
        units = counted(int(first["units"]), first["unit"])
        found = (
            f"In {len(rows)} comparisons with {in_words(family.reference)} {units} cannot show a difference, however "
            f"large: {_smallest(first)}."
        )
    return [f"{found} This does not show that the methods are equally good."]


def _smallest(row: Row) -> str:
    shared = f", because the primary comparison and the others share {ALPHA:g}" if row["alpha"] != ALPHA else ""
    return (
        f"the smallest possible p is {p_value(row['p_smallest'])}, and evidence needs p ≤ {row['alpha']:g}{shared}, so "
        f"{units_needed(row['alpha'])} {row['unit']}s at least"
    )


def _found_with_power(rows: Sequence[Row]) -> str:
    """Return which differences would have been found."""
    known = [100 * row["detectable"] for row in rows if math.isfinite(row["detectable"])]
    sizes = between(round(min(known), 1), round(max(known), 1), ".1f")
    return f"{sizes} points would have been found with 80 % power"


def _others(family: Family) -> int:
    """Return the number of comparisons that are not the primary one."""
    return int((~family.compared["primary"].astype(bool)).sum())
