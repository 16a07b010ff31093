"""Label noise: which utterances get a wrong label, and which label that is.

A recipe gives each utterance's chance of each wrong class. All else is shared: a hash of seed and utterance
id orders the utterances, and the first k of a part are flipped, so that the realised rate is the asked rate
to the nearest utterance. Hence the flips at a lower rate are among those at a higher one, with the same new
label, and neither row order nor machine matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

from ser.corpora.corpus import Corpus
from ser.noise.listeners import human_transition
from ser.noise.manifest import NoisyLabels, Plan, noisy_labels
from ser.noise.recipes import MATRIX, RECIPES, Recipe, disagreement, lack_of_votes, matrix_digest, recipe_named
from ser.noise.rows import Parts, Rows, parts_of
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import hashed_uniform

# Noise rate, and the share of the eligible utterances that takes its place where votes do not allow it.
NAMED_RATES = {"noisy-A": (0.2648, 0.4), "noisy-B": (0.4019, 0.6)}
NAMED_LEVELS = ("clean", *NAMED_RATES, "given")

_CLEAN = "Noise rate is the share of the part's utterances whose consensus label was replaced; none was."
_GIVEN = (
    "Noise rate is the share, among the part's utterances whose true label is known, of those whose label in the "
    "corpus differs from it."
)


def check_level(level: str) -> None:
    """Checks a level's spelling without a corpus.

    Args:
        level: One of ``NAMED_LEVELS``, or RECIPE:RATE such as ``symmetric:0.3``.

    Raises:
        UserError: Unknown level or recipe, with the nearest known ones; a rate that is no number in [0, 1].
    """
    if level not in NAMED_LEVELS:
        _parse(level)


def level_name(level: str) -> str:
    """A level as records name it, the same on every machine: a matrix by its file's name and its content's digest.

    Args:
        level: As for ``check_level``.

    Raises:
        UserError: As for ``check_level``.
    """
    check_level(level)
    recipe, _, rate = level.rpartition(":")
    if not recipe.startswith(MATRIX):
        return level
    path = Path(recipe.removeprefix(MATRIX)).expanduser()
    return f"{MATRIX}{path.name}#{matrix_digest(path)[:8]}:{rate}"


def corrupt(corpus: Corpus, recipe: str, rate: float, seed: int, rows: Rows = None) -> NoisyLabels:
    """Replaces labels so that a given share of them is wrong.

    Args:
        corpus: N utterances; their consensus labels count as true.
        recipe: One of ``RECIPES``, or ``matrix:FILE``.
        rate: Share of each part's utterances to flip, in [0, 1]: ⌊rate · n + ½⌋ of n.
        seed: Selects the draw.
        rows: Which rows to corrupt: None is all; else row positions, a mask (N,), or a mapping from names
            of parts, such as train and validation, to these. Each part gets the rate on its own; other rows
            keep their label.

    Returns:
        The noisy labels and their manifest.

    Raises:
        UserError: Unknown recipe, a rate outside [0, 1] or beyond what the corpus allows (names the most), or
            a corpus that lacks what the recipe needs.
        ValueError: ``rows`` out of range, repeated, or in two parts.
    """
    plan = _plan(f"{recipe}:{float(rate)}", recipe, _checked_rate(rate))
    return _corrupt(corpus, plan, seed, parts_of(rows, len(corpus)))


def corrupt_level(corpus: Corpus, level: str, seed: int, rows: Rows = None) -> NoisyLabels:
    """The labels at a named noise level.

    ``noisy-A`` and ``noisy-B`` are annotator disagreement at the rates .2648 and .4019. Where some part's
    votes do not allow noisy-B's, they are .4 and .6 of each part's eligible utterances; where not every
    utterance has votes, they are ``human`` at the same rates. The manifest's ``recipe`` and ``note`` say so.

    Args:
        corpus: N utterances.
        level: ``clean``, ``noisy-A``, ``noisy-B``, ``given`` (the corpus's labels are the noisy ones, and its
            true labels, where it has them, the truth), or RECIPE:RATE.
        seed: As for ``corrupt``.
        rows: As for ``corrupt``.

    Returns:
        The noisy labels and their manifest.

    Raises:
        UserError: As for ``check_level`` and ``corrupt``.
        ValueError: As for ``corrupt``.
    """
    parts = parts_of(rows, len(corpus))
    if level == "clean":
        plan = Plan(level, level, _CLEAN, 0.0)
        return noisy_labels(corpus, plan, seed, parts, corpus.labels, truth=corpus.labels)
    if level == "given":
        return _given(corpus, seed, parts)
    if level in NAMED_RATES:
        return _corrupt(corpus, _plan_named(corpus, level, parts), seed, parts)
    recipe, rate = _parse(level)
    return _corrupt(corpus, _plan(level, recipe, rate), seed, parts)


def _plan(level: str, recipe: str, rate: float, eligible_share: float | None = None, note: str = "") -> Plan:
    return Plan(level, recipe, recipe_named(recipe).definition, rate, eligible_share, note)


def _plan_named(corpus: Corpus, level: str, parts: Parts) -> Plan:
    """What noisy-A or noisy-B means; decided on noisy-B for both, so that A's flips stay among B's."""
    rate, share = NAMED_RATES[level]
    if corpus.votes is None:
        note = f"{lack_of_votes(corpus)}, so {level} is human confusion instead of annotator disagreement."
        note = note[0].upper() + note[1:]
        try:
            human_transition(corpus.classes)
        except UserError as error:
            raise UserError(f"{note} But {error}") from error
        return _plan(level, "human", rate, note=note)
    eligible = disagreement(corpus).sum(axis=1) > 0
    most = {name: int(eligible[positions].sum()) for name, positions in parts.items()}
    highest, _ = NAMED_RATES["noisy-B"]
    if all(_round_half_up(highest, len(positions)) <= most[name] for name, positions in parts.items()):
        return _plan(level, "disagreement", rate)
    if not any(most.values()):
        raise UserError(
            f"noise level {level!r}: no vote in corpus {corpus.name!r} dissents from a consensus label, "
            f"so none would change. Take human:{rate} or symmetric:{rate}."
        )
    found = ", ".join(f"{name}: {most[name]} of {len(positions)}" for name, positions in parts.items())
    note = (
        f"Too few utterances have a dissenting vote for noisy-B's rate of {highest} ({found}), "
        f"so {level} flips {share} of each part's eligible utterances."
    )
    return _plan(level, "disagreement", rate, share, note)


def _corrupt(corpus: Corpus, plan: Plan, seed: int, parts: Parts) -> NoisyLabels:
    recipe = recipe_named(plan.recipe)
    plan = replace(plan, note=" ".join(filter(None, (plan.note, recipe.note(corpus)))))
    chances = recipe.chances(corpus)
    bounds = np.cumsum(chances, axis=1)
    readiness = bounds[:, -1]
    eligible = readiness > 0
    able = {name: positions[eligible[positions]] for name, positions in parts.items()}
    if plan.eligible_share is not None:
        flips = {name: _round_half_up(plan.eligible_share, len(able[name])) for name in parts}
    else:
        assert plan.rate is not None
        flips = {name: _round_half_up(plan.rate, len(parts[name])) for name in parts}
        _check_possible(plan, recipe, parts, able, flips)
    ids = list(corpus.table["utterance_id"])
    # Weighted sampling without replacement as a race of exponential clocks (Efraimidis and Spirakis 2006).
    clock = -np.log(hashed_uniform(seed, "noise.flip", ids))
    drawn = hashed_uniform(seed, "noise.label", ids) * readiness
    replacement = np.argmax(bounds > drawn[:, None], axis=1)
    noisy = corpus.labels.copy()
    for name, positions in able.items():
        order = np.argsort(clock[positions] / readiness[positions], kind="stable")
        flipped = positions[order[: flips[name]]]
        noisy[flipped] = replacement[flipped]
    return noisy_labels(corpus, plan, seed, parts, noisy, truth=corpus.labels, eligible=eligible)


def _check_possible(plan: Plan, recipe: Recipe, parts: Parts, able: Parts, flips: Mapping[str, int]) -> None:
    short = [
        f"part {name!r} needs {flips[name]} of its {len(parts[name])} utterances and has {len(able[name])}"
        for name in parts
        if flips[name] > len(able[name])
    ]
    if short:
        # In ten-thousandths, rounded down, so that asking for the named rate succeeds.
        most = min(10_000 * len(able[name]) // len(part) for name, part in parts.items() if len(part)) / 10_000
        others = " or ".join(f"{name}:{plan.rate}" for name in ("human", "symmetric") if name != plan.recipe)
        raise UserError(
            f"noise {plan.recipe}:{plan.rate} flips utterances {recipe.eligible}; "
            f"{'; '.join(short)}. {f'The most possible is {plan.recipe}:{most}; or take' if most else 'Take'} {others}."
        )


def _given(corpus: Corpus, seed: int, parts: Parts) -> NoisyLabels:
    truth = np.full(len(corpus), -1, dtype=np.int64)
    if "true_label" in corpus.table:
        truth = corpus.class_indices(corpus.table["true_label"])
    within = np.concatenate(list(parts.values()))
    known = int((truth[within] >= 0).sum())
    note = ""
    if not known:
        note = (
            "No true label is known. Left out: realised rate, transition matrix, rates by class and speaker, "
            "and all else that needs the truth (scores against it, labels corrected and memorised)."
        )
    elif known < len(within):
        note = f"The true label is known for {known} of {len(within)} utterances; rates count these alone."
    plan = Plan("given", "given", _GIVEN, None, note=note)
    return noisy_labels(corpus, plan, seed, parts, corpus.labels, truth=truth)


def _parse(level: str) -> tuple[str, float]:
    """RECIPE:RATE → both."""
    recipe, colon, rate = level.rpartition(":")
    if not colon:
        raise unknown_name(
            "noise level", level, [*NAMED_LEVELS, *(f"{name}:RATE" for name in (*RECIPES, f"{MATRIX}FILE"))]
        )
    try:
        number = float(rate)
    except ValueError:
        example = f"{level if recipe == MATRIX[:-1] else recipe}:0.3"
        raise UserError(f"noise level {level!r}: the rate {rate!r} is not a number. Write {example}.") from None
    recipe_named(recipe)
    return recipe, _checked_rate(number)


def _checked_rate(rate: float) -> float:
    if not 0 <= rate <= 1:  # false for NaN as well
        raise UserError(f"noise rate {rate} is not between 0 and 1. Write 0.3 for 30 %.")
    return float(rate)


def _round_half_up(share: float, count: int) -> int:
    """⌊share · count + ½⌋, of the share as written: 0.29 · 50 is 14.5, but the binary product is less."""
    return int((Decimal(repr(share)) * count).to_integral_value(ROUND_HALF_UP))
