"""Label noise: which utterances get a wrong label, and which label that is.

A recipe gives each utterance's chance of each wrong class. All else is shared: a hash of seed and utterance
id orders the utterances, and the first k of a part are flipped, so that the realised rate is the asked rate
to the nearest utterance. Hence the flips at a lower rate are among those at a higher one, with the same new
label, and neither row order nor machine matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ser.corpora.corpus import Corpus
from ser.errors import UserError, unknown_name
from ser.hashing import digest, hashed_uniform
from ser.listeners import human_transition

Rows = Mapping[str, ArrayLike] | ArrayLike | None

# Noise rate, and the share of the eligible utterances that takes its place where votes do not allow it.
_NAMED_RATES = {"noisy-A": (0.2648, 0.4), "noisy-B": (0.4019, 0.6)}
NAMED_LEVELS = ("clean", *_NAMED_RATES, "given")


@dataclass(frozen=True, eq=False)
class NoisyLabels:
    """A corpus's labels at one noise level.

    The manifest is JSON-able; counts and rates cover the utterances of the parts; what has no value is None:

    * ``level``, ``recipe``, ``definition`` of the rate, ``note`` (what else the reader must know, or empty)
    * ``rate_asked``, ``eligible_share_asked`` (where that stood in for the rate), ``rate_realised``,
      ``eligible_share``, ``truth_known`` (utterances)
    * ``parts``: name → ``utterances``, ``truth_known``, ``flipped``, ``rate``, ``most_possible`` (rate)
    * ``transition_counts``, ``transition_rates``: (C, C), true × noisy in the order of ``classes``; rates are
      row-normalised, zeros for a class without utterances
    * ``rate_by_class`` (the true one), ``rate_by_speaker``: None for one without utterances there
    * ``seed``, ``classes``, ``corpus``, ``corpus_digest``, ``digest`` (of all ids and noisy labels)

    Args:
        labels: (N,) class names to train on, aligned with ``corpus.table``.
        truth: (N,) class names that count as true: the consensus labels; at level ``given`` the corpus's true
            labels, None where there is none.
        manifest: What was done.
    """

    labels: NDArray[np.object_]
    truth: NDArray[np.object_]
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A way to make labels wrong.

    Args:
        eligible: Which utterances can flip, to follow "utterances".
        replacement: What their label becomes, to follow "replaced by".
        chances: corpus → (N, C) relative chance of each class as the new label, 0 for the utterance's own. A
            row's sum says how readily the utterance flips: at 0 it is not eligible.
            Raises ``UserError`` where the corpus lacks what the recipe needs.
    """

    eligible: str
    replacement: str
    chances: Callable[[Corpus], NDArray[np.float64]]


def disagreement(corpus: Corpus) -> NDArray[np.float64]:
    """A vote that dissents from the consensus label, drawn with multiplicity.

    Raises:
        UserError: Not every utterance has votes.
    """
    if corpus.votes is None:
        raise UserError(
            f"noise recipe 'disagreement': {_lack_of_votes(corpus)}. "
            "Take human:RATE or symmetric:RATE, which need none."
        )
    dissent = corpus.votes * _others(corpus)
    return np.asarray(dissent / np.maximum(dissent.sum(axis=1, keepdims=True), 1))


def human(corpus: Corpus) -> NDArray[np.float64]:
    """What listeners hear in place of the class; often misheard classes flip more readily.

    Source: Cao et al., CREMA-D, IEEE Trans. Affective Computing 2014, voice-only votes.

    Raises:
        UserError: A class name stands for no known emotion.
    """
    return np.asarray(human_transition(corpus.classes)[corpus.labels] * _others(corpus))


def symmetric(corpus: Corpus) -> NDArray[np.float64]:
    """Any other class, all equally likely."""
    return _others(corpus) / (len(corpus.classes) - 1)


def _others(corpus: Corpus) -> NDArray[np.float64]:
    """(N, C) 0 at the consensus label, else 1."""
    return np.asarray(1.0 - np.eye(len(corpus.classes))[corpus.labels])


RECIPES: dict[str, Recipe] = {
    "disagreement": Recipe(
        "with at least one vote that dissents from the consensus label",
        "a dissenting annotator's vote, drawn with multiplicity",
        disagreement,
    ),
    "human": Recipe(
        "of every class that listeners take for another one of the set",
        "a class that listeners to CREMA-D's voices hear in its place, often misheard classes first",
        human,
    ),
    "symmetric": Recipe("of every class", "one of the other classes, all equally likely", symmetric),
}


def check_level(level: str) -> None:
    """Checks a level's spelling without a corpus.

    Args:
        level: One of ``NAMED_LEVELS``, or RECIPE:RATE such as ``symmetric:0.3``.

    Raises:
        UserError: Unknown level or recipe, with the nearest known ones; a rate that is no number in [0, 1].
    """
    if level not in NAMED_LEVELS:
        _parse(level)


def corrupt(corpus: Corpus, recipe: str, rate: float, seed: int, rows: Rows = None) -> NoisyLabels:
    """Replaces labels so that a given share of them is wrong.

    Args:
        corpus: N utterances; their consensus labels count as true.
        recipe: One of ``RECIPES``.
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
    plan = _Plan(f"{recipe}:{float(rate)}", _known_recipe(recipe), _checked_rate(rate))
    return _corrupt(corpus, plan, seed, _parts(rows, len(corpus)))


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
    parts = _parts(rows, len(corpus))
    if level == "clean":
        plan = _Plan(level, level, 0.0)
        return _result(corpus, plan, seed, parts, corpus.labels, truth=corpus.labels)
    if level == "given":
        return _given(corpus, seed, parts)
    if level in _NAMED_RATES:
        return _corrupt(corpus, _plan_named(corpus, level, parts), seed, parts)
    recipe, rate = _parse(level)
    return _corrupt(corpus, _Plan(level, recipe, rate), seed, parts)


_Parts = dict[str, NDArray[np.int64]]

_DEFINITIONS = {
    "clean": "Noise rate is the share of the part's utterances whose consensus label was replaced; none was.",
    "given": (
        "Noise rate is the share, among the part's utterances whose true label is known, "
        "of those whose label in the corpus differs from it."
    ),
} | {
    name: (
        "Noise rate is the share of the part's utterances whose consensus label was replaced by "
        f"{recipe.replacement}; eligible are utterances {recipe.eligible}."
    )
    for name, recipe in RECIPES.items()
}


@dataclass(frozen=True)
class _Plan:
    """What a level means for a corpus; ``eligible_share``, where set, takes the place of ``rate``."""

    level: str
    recipe: str
    rate: float | None
    eligible_share: float | None = None
    note: str = ""


def _plan_named(corpus: Corpus, level: str, parts: _Parts) -> _Plan:
    """What noisy-A or noisy-B means; decided on noisy-B for both, so that A's flips stay among B's."""
    rate, share = _NAMED_RATES[level]
    if corpus.votes is None:
        note = f"{_lack_of_votes(corpus)}, so {level} is human confusion instead of annotator disagreement."
        note = note[0].upper() + note[1:]
        try:
            human_transition(corpus.classes)
        except UserError as error:
            raise UserError(f"{note} But {error}") from error
        return _Plan(level, "human", rate, note=note)
    eligible = disagreement(corpus).sum(axis=1) > 0
    most = {name: int(eligible[positions].sum()) for name, positions in parts.items()}
    highest, _ = _NAMED_RATES["noisy-B"]
    if all(_round_half_up(highest, len(positions)) <= most[name] for name, positions in parts.items()):
        return _Plan(level, "disagreement", rate)
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
    return _Plan(level, "disagreement", rate, share, note)


def _corrupt(corpus: Corpus, plan: _Plan, seed: int, parts: _Parts) -> NoisyLabels:
    chances = RECIPES[plan.recipe].chances(corpus)
    bounds = np.cumsum(chances, axis=1)
    readiness = bounds[:, -1]
    eligible = readiness > 0
    able = {name: positions[eligible[positions]] for name, positions in parts.items()}
    if plan.eligible_share is not None:
        flips = {name: _round_half_up(plan.eligible_share, len(able[name])) for name in parts}
    else:
        assert plan.rate is not None
        flips = {name: _round_half_up(plan.rate, len(parts[name])) for name in parts}
        _check_possible(plan, parts, able, flips)
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
    return _result(corpus, plan, seed, parts, noisy, truth=corpus.labels, eligible=eligible)


def _check_possible(plan: _Plan, parts: _Parts, able: _Parts, flips: Mapping[str, int]) -> None:
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
            f"noise {plan.recipe}:{plan.rate} flips utterances {RECIPES[plan.recipe].eligible}; "
            f"{'; '.join(short)}. The most possible is {plan.recipe}:{most}; or take {others}."
        )


def _given(corpus: Corpus, seed: int, parts: _Parts) -> NoisyLabels:
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
    plan = _Plan("given", "given", None, note=note)
    return _result(corpus, plan, seed, parts, corpus.labels, truth=truth)


def _result(
    corpus: Corpus,
    plan: _Plan,
    seed: int,
    parts: _Parts,
    noisy: NDArray[np.int64],
    *,
    truth: NDArray[np.int64],
    eligible: NDArray[np.bool_] | None = None,
) -> NoisyLabels:
    """Names for the indices (truth −1: unknown), and the manifest."""
    names = np.array([*corpus.classes, None], dtype=object)  # −1 is None
    rows = np.concatenate(list(parts.values()))
    known = rows[truth[rows] >= 0]
    wrong = noisy != truth
    speakers, speaker = np.unique(corpus.table["speaker"].to_numpy(dtype=object), return_inverse=True)
    transition = np.zeros((len(corpus.classes), len(corpus.classes)), dtype=np.int64)
    np.add.at(transition, (truth[known], noisy[known]), 1)

    def share(property_: NDArray[np.bool_], members: NDArray[np.int64]) -> float | None:
        return int(property_[members].sum()) / len(members) if len(members) else None

    def rates(groups: Sequence[str], group: NDArray[np.int64]) -> dict[str, float | None]:
        totals = np.bincount(group[known], minlength=len(groups)).tolist()
        flips = np.bincount(group[known[wrong[known]]], minlength=len(groups)).tolist()
        return {name: flips[i] / totals[i] if totals[i] else None for i, name in enumerate(groups)}

    def part(positions: NDArray[np.int64]) -> dict[str, Any]:
        scored = positions[truth[positions] >= 0]
        return {
            "utterances": len(positions),
            "truth_known": len(scored),
            "flipped": int(wrong[scored].sum()) if len(scored) or not len(positions) else None,
            "rate": share(wrong, scored),
            "most_possible": None if eligible is None else share(eligible, positions),
        }

    against_truth = {
        "transition_counts": transition.tolist(),
        "transition_rates": (transition / np.maximum(transition.sum(axis=1, keepdims=True), 1)).tolist(),
        "rate_by_class": rates(corpus.classes, truth),
        "rate_by_speaker": rates(speakers.tolist(), speaker),
    }
    manifest = {
        "level": plan.level,
        "recipe": plan.recipe,
        "definition": _DEFINITIONS[plan.recipe],
        "note": plan.note,
        "rate_asked": plan.rate,
        "eligible_share_asked": plan.eligible_share,
        "rate_realised": share(wrong, known),
        "eligible_share": None if eligible is None else share(eligible, rows),
        "truth_known": len(known),
        "parts": {name: part(positions) for name, positions in parts.items()},
        **(against_truth if len(known) else dict.fromkeys(against_truth)),
        "seed": int(seed),
        "classes": list(corpus.classes),
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "digest": digest(dict(zip(corpus.table["utterance_id"], names[noisy], strict=True))),
    }
    return NoisyLabels(names[noisy], names[truth], manifest)


def _parts(rows: Rows, length: int) -> _Parts:
    """Ascending row positions of each part."""
    if rows is None:
        return {"all": np.arange(length)}
    named = rows if isinstance(rows, Mapping) else {"rows": rows}
    if not named:
        raise ValueError("rows: no parts")
    parts = {name: _positions(name, value, length) for name, value in named.items()}
    uses = np.bincount(np.concatenate(list(parts.values())), minlength=length)
    if uses.max(initial=0) > 1:
        raise ValueError(f"rows: row {int(np.argmax(uses > 1))} is given more than once, in {', '.join(parts)}")
    return parts


def _positions(name: str, value: ArrayLike, length: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.ndim == 1 and array.dtype == bool and len(array) == length:
        return np.flatnonzero(array)
    if array.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"rows of {name!r}: not positions, nor a mask of {length}: {array.dtype} of shape {array.shape}"
        )
    if not 0 <= array.min() <= array.max() < length:
        raise ValueError(f"rows of {name!r}: positions must lie in 0…{length - 1}")
    return np.sort(array.astype(np.int64))


def _parse(level: str) -> tuple[str, float]:
    """RECIPE:RATE → both."""
    recipe, colon, rate = level.rpartition(":")
    if not colon:
        raise unknown_name("noise level", level, [*NAMED_LEVELS, *(f"{name}:RATE" for name in RECIPES)])
    try:
        return _known_recipe(recipe), _checked_rate(float(rate))
    except ValueError:
        raise UserError(f"noise level {level!r}: the rate {rate!r} is not a number. Write {recipe}:0.3.") from None


def _known_recipe(name: str) -> str:
    if name not in RECIPES:
        raise unknown_name("noise recipe", name, RECIPES)
    return name


def _checked_rate(rate: float) -> float:
    if not 0 <= rate <= 1:  # false for NaN as well
        raise UserError(f"noise rate {rate} is not between 0 and 1. Write 0.3 for 30 %.")
    return float(rate)


def _round_half_up(share: float, count: int) -> int:
    """⌊share · count + ½⌋, of the share as written: 0.29 · 50 is 14.5, but the binary product is less."""
    return int((Decimal(repr(share)) * count).to_integral_value(ROUND_HALF_UP))


def _lack_of_votes(corpus: Corpus) -> str:
    lacking = sum(votes is None for votes in corpus.table["votes"])
    if lacking == len(corpus):
        return f"corpus {corpus.name!r} has no votes"
    return f"{lacking} of the {len(corpus)} utterances of corpus {corpus.name!r} have no votes"
