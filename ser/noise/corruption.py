"""Label noise: selects the utterances that get a wrong label, and their wrong labels.

A recipe gives each utterance's chance of each wrong class. The rest is the same for all recipes: a hash of seed and
utterance id orders the utterances, and the first k of a subset get a wrong label, so that the realised rate is the
requested rate to the nearest utterance. The noise flips at a lower rate are therefore among those at a higher rate,
with the same new label, and neither row order nor machine matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

from ser.corpora.corpus import Corpus
from ser.noise.manifest import NoisyLabels, Plan, noisy_labels
from ser.noise.recipes import MATRIX, RECIPES, Recipe, disagreement, human, lack_of_votes, matrix_digest, recipe_named
from ser.noise.subsets import Rows, Subsets, subsets_of
from ser.utils.errors import UserError, shown, unknown_name
from ser.utils.hashing import hashed_uniform

# Noise rate, and the share of the eligible utterances that replaces it where the votes do not allow the rate.
NAMED_RATES = {"noisy-A": (0.2648, 0.4), "noisy-B": (0.4019, 0.6)}
NAMED_LEVELS = ("clean", *NAMED_RATES, "given")

_CLEAN = "Noise rate is the share of the subset's utterances whose consensus label was replaced; none was."
_GIVEN = (
    "Noise rate is the share, among the subset's utterances with a known true label, of those whose label in the "
    "corpus differs from it."
)


def check_level(level: str) -> None:
    """Check the spelling of a noise level, without a corpus.

    Args:
        level: One of ``NAMED_LEVELS``, or RECIPE:RATE such as ``symmetric:0.3``.

    Raises:
        UserError: If the level or recipe is unknown (names the nearest), or the rate is not a number in [0, 1].

    Example:
        >>> check_level("symmetric:0.3")
        >>> check_level("symetric:0.3")
        Traceback (most recent call last):
        ...
        ser.utils.errors.UserError: unknown noise recipe 'symetric'. Did you mean 'symmetric'? Known: ...
    """
    if level not in NAMED_LEVELS:
        _parse(level)


def level_name(level: str) -> str:
    """Return a level's name for the records, the same on every machine.

    A matrix is named by its file's name and the digest of its content.

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
    """Replace labels so that a given share of them is wrong.

    Args:
        corpus: N utterances; their consensus labels count as true.
        recipe: One of ``RECIPES``, or ``matrix:FILE``.
        rate: Share of each subset's utterances to give a wrong label, in [0, 1]: ⌊rate · n + ½⌋ of n.
        seed: Seed of the noise draw.
        rows: Rows to corrupt: None for all; else row positions, a mask (N,), or a mapping from names of subsets, such
            as train and validation, to positions or masks. The rate applies to each subset; other rows keep their
            label.

    Returns:
        The noisy labels and their manifest.

    Raises:
        UserError: If the recipe is unknown, the rate is outside [0, 1] or more than the corpus allows (gives the
            largest possible rate), or the corpus lacks what the recipe needs.
        ValueError: If ``rows`` are out of range, repeated, or in two subsets.

    Example:
        >>> from ser.corpora import load
        >>> corpus = load("synthetic")
        >>> noisy = corrupt(corpus, "symmetric", rate=0.25, seed=0)
        >>> int((noisy.labels != corpus.table["label"]).sum()), len(corpus)
        (120, 480)
        >>> noisy.manifest["rate_realised"]
        0.25
    """
    plan = _plan(f"{recipe}:{float(rate)}", recipe, _checked_rate(rate))
    return _corrupt(corpus, plan, seed, subsets_of(rows, len(corpus)))


def corrupt_level(corpus: Corpus, level: str, seed: int, rows: Rows = None) -> NoisyLabels:
    """Return a corpus's labels at a named noise level.

    ``noisy-A`` and ``noisy-B`` are annotator disagreement at the rates .2648 and .4019. Where a subset's votes do not
    allow the rate of noisy-B, they are .4 and .6 of each subset's eligible utterances; where not every utterance has
    votes, they are confusion-matrix noise (recipe ``human``) at the same rates. The manifest's ``recipe`` and ``note``
    report it.

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
    subsets = subsets_of(rows, len(corpus))
    if level == "clean":
        plan = Plan(level, level, _CLEAN, 0.0)
        return noisy_labels(corpus, plan, seed, subsets, corpus.labels, truth=corpus.labels)
    if level == "given":
        return _given(corpus, seed, subsets)
    if level in NAMED_RATES:
        return _corrupt(corpus, _plan_named(corpus, level, subsets), seed, subsets)
    recipe, rate = _parse(level)
    return _corrupt(corpus, _plan(level, recipe, rate), seed, subsets)


def _plan(level: str, recipe: str, rate: float, eligible_share: float | None = None, note: str = "") -> Plan:
    return Plan(level, recipe, recipe_named(recipe).definition, rate, eligible_share, note)


def _plan_named(corpus: Corpus, level: str, subsets: Subsets) -> Plan:
    """Plan noisy-A or noisy-B; decide on noisy-B for both, so that A's noise flips stay among B's."""
    rate, share = NAMED_RATES[level]
    if corpus.votes is None:
        note = (
            f"{lack_of_votes(corpus)}, so {level} is confusion-matrix noise (CREMA-D listeners) instead of "
            "annotator disagreement."
        )
        note = note[0].upper() + note[1:]
        try:
            human(corpus)
        except UserError as error:
            raise UserError(f"{note} But {str(error).replace(':RATE', f':{rate}')}") from error
        return _plan(level, "human", rate, note=note)
    eligible = disagreement(corpus).sum(axis=1) > 0
    most = {name: int(eligible[positions].sum()) for name, positions in subsets.items()}
    highest, _ = NAMED_RATES["noisy-B"]
    if all(_round_half_up(highest, len(positions)) <= most[name] for name, positions in subsets.items()):
        return _plan(level, "disagreement", rate)
    if not any(most.values()):
        raise UserError(
            f"noise level {shown(level)}: no vote in corpus {corpus.name!r} dissents from a consensus label, "
            f"so no label would change. Use human:{rate} or symmetric:{rate}."
        )
    found = ", ".join(f"{name}: {most[name]} of {len(positions)}" for name, positions in subsets.items())
    note = (
        f"Too few utterances have a dissenting vote for noisy-B's rate of {highest} ({found}), "
        f"so {level} is noise flips in {share} of each subset's eligible utterances."
    )
    return _plan(level, "disagreement", rate, share, note)


def _corrupt(corpus: Corpus, plan: Plan, seed: int, subsets: Subsets) -> NoisyLabels:
    recipe = recipe_named(plan.recipe)
    plan = replace(plan, note=" ".join(filter(None, (plan.note, recipe.note(corpus)))))
    chances = recipe.chances(corpus)
    bounds = np.cumsum(chances, axis=1)
    readiness = bounds[:, -1]
    eligible = readiness > 0
    able = {name: positions[eligible[positions]] for name, positions in subsets.items()}
    if plan.eligible_share is not None:
        flips = {name: _round_half_up(plan.eligible_share, len(able[name])) for name in subsets}
    else:
        assert plan.rate is not None
        flips = {name: _round_half_up(plan.rate, len(subsets[name])) for name in subsets}
        _check_possible(plan, recipe, subsets, able, flips)
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
    return noisy_labels(corpus, plan, seed, subsets, noisy, truth=corpus.labels, eligible=eligible)


def _check_possible(plan: Plan, recipe: Recipe, subsets: Subsets, able: Subsets, flips: Mapping[str, int]) -> None:
    short = [
        f"subset {name!r} needs {flips[name]} of its {len(subsets[name])} utterances and has {len(able[name])}"
        for name in subsets
        if flips[name] > len(able[name])
    ]
    if short:
        # In ten-thousandths, rounded down, so that asking for the named rate succeeds.
        most = min(10_000 * len(able[name]) // len(rows) for name, rows in subsets.items() if len(rows)) / 10_000
        others = " or ".join(f"{name}:{plan.rate}" for name in ("human", "symmetric") if name != plan.recipe)
        raise UserError(
            f"noise {plan.recipe}:{plan.rate} changes the labels of utterances {recipe.eligible}; "
            f"{'; '.join(short)}. {f'The most possible is {plan.recipe}:{most}; or use' if most else 'Use'} {others}."
        )


def _given(corpus: Corpus, seed: int, subsets: Subsets) -> NoisyLabels:
    truth = np.full(len(corpus), -1, dtype=np.int64)
    if "true_label" in corpus.table:
        truth = corpus.class_indices(corpus.table["true_label"])
    within = np.concatenate(list(subsets.values()))
    known = int((truth[within] >= 0).sum())
    note = ""
    if not known:
        note = (
            "No true label is known. Omitted: realised rate, transition matrix, rates by class and speaker, "
            "and everything else that needs true labels (scores against them, corrected and memorised labels)."
        )
    elif known < len(within):
        note = f"The true label is known for {known} of {len(within)} utterances; rates count only these."
    plan = Plan("given", "given", _GIVEN, None, note=note)
    return noisy_labels(corpus, plan, seed, subsets, corpus.labels, truth=truth)


def _parse(level: str) -> tuple[str, float]:
    """Split RECIPE:RATE."""
    recipe, colon, rate = level.rpartition(":")
    if not colon:
        raise unknown_name(
            "noise level", level, [*NAMED_LEVELS, *(f"{name}:RATE" for name in (*RECIPES, f"{MATRIX}FILE"))]
        )
    try:
        number = float(rate)
    except ValueError:
        example = f"{level if recipe == MATRIX[:-1] else recipe}:0.3"
        raise UserError(
            f"noise level {shown(level)}: the rate {shown(rate)} is not a number. Write {example}."
        ) from None
    recipe_named(recipe)
    return recipe, _checked_rate(number)


def _checked_rate(rate: float) -> float:
    if not 0 <= rate <= 1:  # false for NaN as well
        raise UserError(f"noise rate {rate} is not between 0 and 1. Write 0.3 for 30 %.")
    return float(rate)


def _round_half_up(share: float, count: int) -> int:
    """Compute ⌊share · count + ½⌋ of the share as written: 0.29 · 50 is 14.5, but the binary product is less."""
    return int((Decimal(repr(share)) * count).to_integral_value(ROUND_HALF_UP))
