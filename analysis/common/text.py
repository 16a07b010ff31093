"""Text of numbers, counts and names: the one place that decides how sentences and tables write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from study.console import MISSING as MISSING
from study.schema import DEFAULT, SEARCH_RANK

LEAST_P = 0.001
"""Smallest p that is printed; one that is as near to 1 is printed as > 0.999."""


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed decimals.

    Args:
        value: None and NaN are missing.
        digits: Decimals.

    Example:
        >>> number(0.5), number(float("nan")), number(12.34, 1)
        ('0.500', '–', '12.3')
    """
    return MISSING if _is_missing(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign; what rounds to zero is positive.

    Args:
        value: None and NaN are missing.
        digits: Decimals.

    Example:
        >>> signed(0.25, 1), signed(-0.25, 2), signed(-0.001, 1)
        ('+0.2', '−0.25', '+0.0')
    """
    if value is None or _is_missing(value):
        return MISSING
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def points(difference: float | None) -> str:
    """Return a difference of scores from 0 to 1 in percentage points, with its sign.

    Example:
        >>> points(0.0123), points(-0.0123), points(-0.0001)
        ('+1.2', '−1.2', '+0.0')
    """
    return signed(None if difference is None else 100 * difference, 1)


def interval_text(low: float, high: float) -> str:
    """Return an interval of a difference in points for a table.

    Example:
        >>> interval_text(0.01, 0.05), interval_text(float("nan"), float("nan"))
        ('+1.0…+5.0', '–')
    """
    return MISSING if _is_missing(low) else f"{points(low)}…{points(high)}"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share from 0 to 1 as a percentage.

    Example:
        >>> percent(0.405, 1), percent(None)
        ('40.5%', '–')
    """
    return MISSING if _is_missing(share) else f"{share:.{digits}%}"


def in_percent(share: float | None, digits: int = 1) -> str:
    """Return a share from 0 to 1 in percent, for tables and axes whose heading has the unit.

    Example:
        >>> in_percent(0.405), in_percent(None)
        ('40.5', '–')
    """
    return number(None if share is None else 100 * share, digits)


def with_deviation(mean: float | None, deviation: float | None, digits: int = 3) -> str:
    """Return a mean with its standard deviation, where both are known.

    Example:
        >>> with_deviation(0.5, 0.01), with_deviation(50, 1.25, 1), with_deviation(0.5, None)
        ('0.500 ± 0.010', '50.0 ± 1.2', '0.500')
    """
    return number(mean, digits) if _is_missing(deviation) else f"{number(mean, digits)} ± {number(deviation, digits)}"


def at_epoch(share: float | None, epoch: float | None) -> str:
    """Return a score from 0 to 1 in percent with its epoch, for tables whose heading names both.

    Example:
        >>> at_epoch(0.5, 7.0), at_epoch(None, None)
        ('50.0 (7)', '–')
    """
    return MISSING if _is_missing(share) else f"{in_percent(share)} ({epoch:.0f})"


def in_brief(values: Mapping[str, float], text: Callable[[float], str], most: int = 4) -> str:
    """Return named values for a sentence: all of them, the lowest and the highest of many, or the one that all have.

    Args:
        values: Name → value, at least one.
        text: Returns a value as written.
        most: Largest number of values that are all named.

    Example:
        >>> in_brief({"ELR": 0.5, "mixup": 0.25}, percent)
        '50% with ELR and 25% with mixup'
        >>> in_brief({"ELR": 0.5, "mixup": 0.25, "focal loss": 0.4}, percent, most=2)
        'from 25% with mixup to 50% with ELR'
        >>> in_brief({"ELR": 0.5, "mixup": 0.5}, percent)
        '50% with each method'
    """
    if len(values) > 1 and len(same := set(map(text, values.values()))) == 1:
        return f"{same.pop()} with each method"
    named = {name: f"{text(value)} with {name}" for name, value in values.items()}
    if len(named) <= most:
        return listing(list(named.values()))
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    return f"from {named[low]} to {named[high]}"


def configuration_in_words(candidate: str) -> str:
    """Return a candidate of a confirmation, or a trial of a search, as people say it.

    Example:
        >>> configuration_in_words("default"), configuration_in_words("search-1"), configuration_in_words("search-2")
        ('published', 'best of search', 'number 2 of search')
        >>> configuration_in_words("003")
        'trial 3'
    """
    if candidate == DEFAULT:
        return "published"
    rank = candidate.removeprefix(SEARCH_RANK)
    if rank != candidate:
        return "best of search" if rank == "1" else f"number {rank} of search"
    return f"trial {int(candidate)}" if candidate.isdecimal() else candidate


def without_empty_columns(text: pd.DataFrame) -> pd.DataFrame:
    """Return a table as displayed without the columns that have no value in any row.

    Args:
        text: Strings only.
    """
    return text.loc[:, [not (text[name] == MISSING).all() for name in text]]


def p_value(p: float) -> str:
    """Return a p value for a table.

    Example:
        >>> p_value(0.0123), p_value(0.0001), p_value(1.0)
        ('0.012', '<0.001', '>0.999')
    """
    return p_equation(p).removeprefix("p ").removeprefix("= ").replace(" ", "")


def p_equation(p: float) -> str:
    """Return a p value for a sentence.

    Example:
        >>> p_equation(0.0123), p_equation(0.0001), p_equation(1.0)
        ('p = 0.012', 'p < 0.001', 'p > 0.999')
    """
    if p < LEAST_P:
        return f"p < {LEAST_P}"
    return f"p > {1 - LEAST_P}" if round(p, 3) >= 1 else f"p = {number(p)}"


def duration(seconds: float) -> str:
    """Return a time in seconds below two minutes, in minutes below two hours, else in hours.

    Example:
        >>> duration(119), duration(600), duration(7200)
        ('119 s', '10 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    Example:
        >>> counted(1, "trial"), counted(2, "trial")
        ('1 trial', '2 trials')
    """
    return f"{count} {noun}{'s' if count != 1 else ''}"


def listing(names: Sequence[str], word: str = "and") -> str:
    """Return names as a sentence lists them.

    Example:
        >>> listing(["a", "b", "c"]), listing(["a", "b"], "or"), listing([])
        ('a, b and c', 'a or b', '')
    """
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def between(low: float, high: float, form: str = "g") -> str:
    """Return a range, or its one value.

    Args:
        low: Lower end.
        high: Upper end.
        form: Format of a number.

    Example:
        >>> between(1, 3), between(2, 2), between(0.25, 0.5, ".0%")
        ('1 to 3', '2', '25% to 50%')
    """
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def level_with_rate(noise: str, rate: float | None) -> str:
    """Return a noise level with its share of wrong labels, where it is known.

    Example:
        >>> level_with_rate("noisy-B", 0.4019), level_with_rate("given", None)
        ('noisy-B (40.2% of the labels wrong)', 'given')
    """
    return noise if _is_missing(rate) else f"{noise} ({percent(rate, 1)} of the labels wrong)"


def _is_missing(value: float | None) -> bool:
    return bool(pd.isna(value))
