"""Opening of the report: what to train with at each noise level, how sure that is, and what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.common.families import Family, read_families, reads_votes
from analysis.common.methods import REFERENCE, Chosen, choose_methods
from analysis.common.records import Records
from analysis.common.text import listing, percent
from analysis.page.label_effects import effect_sentence, label_effects
from analysis.page.provenance import read_provenance
from analysis.page.recommendation import (
    Recommendation,
    also_better,
    best_configurations,
    configuration_name,
    oracle_sentence,
    recommend,
)
from analysis.page.trained import what_was_trained
from analysis.sections.dose_response.scores import Scores, read_scores
from analysis.sections.significance.sentences import (
    capitalized,
    claims,
    later_sentence,
    not_declared,
    primary_sentence,
)
from study.schema import SEARCH, in_words, space_and_labels

TERMS = (
    ("UAR", "unweighted average recall: the mean of the classes' recalls"),
    ("WA", "weighted accuracy: the share of all utterances that are recognised"),
    (
        "ECE",
        "expected calibration error: the mean distance of the network's confidence from its accuracy",
    ),
)
"""Terms of every page."""
PROGRESSIVE_TERMS = (
    ("Γ", "planned optimiser steps of a training"),
    ("τ", "ProSelfLC: share of Γ at which the trust in the network's own predictions is one half"),
    ("B", "ProSelfLC: how steeply this trust rises around τ"),
)
"""Terms of a page with ProSelfLC or its control."""
NO_VERDICT = "no verdict yet"
PROGRESSIVE = ("proselflc", "reweighting_control")


@dataclass(frozen=True)
class Advice:
    """Row of the recommendation table: what to train with at a noise level, as displayed.

    Args:
        level: Noise level.
        rate: Share of wrong training labels; empty if unknown.
        method: Recommended method in words.
        configuration: Path of its configuration file, relative to the page; empty if there is none.
        score: Its test UAR with a 95 % interval, or of each fold; of a search its validation UAR; empty without any.
        chance: UAR of guessing.
        why: Reason in a few words.
    """

    level: str
    rate: str
    method: str
    configuration: str
    score: str
    chance: str
    why: str


@dataclass(frozen=True)
class Opening:
    """First screen of the report, apart from its figure.

    Args:
        advice: One row per noise level.
        primary: Result of the primary comparison in one sentence, or why there is none.
        details: Further sentences.
        trained: What was trained: pairs of what and value.
        terms: Terms of the page: pairs of term and explanation.
    """

    advice: tuple[Advice, ...]
    primary: str
    details: tuple[str, ...]
    trained: tuple[tuple[str, str], ...]
    terms: tuple[tuple[str, str], ...]


def make_opening(records: Records, reference: str | None = None) -> Opening:
    """Return the first screen of the report.

    Args:
        records: Records of the experiment.
        reference: Space that the others are compared with; None is the one that each design declares.

    Raises:
        UserError: If a per-utterance table cannot be read or does not match the others.
    """
    families = read_families(records, reference) if len(records.confirmed) else []
    chosen = choose_methods(records)
    recommended = recommend(families)
    searched = chosen.stage == SEARCH
    if recommended:
        advice = _advice(records, families, recommended)
    else:
        advice = _best_of_search(records, chosen) if searched else _not_compared(records, families)
    spaces = {space_and_labels(space)[0].partition("@")[0] for space in records.spaces}
    primary = _primary(records, families, chosen)
    return Opening(
        advice=tuple(advice),
        primary=primary,
        details=tuple(_details(records, families, recommended, chosen, primary)),
        trained=tuple(what_was_trained(records, read_provenance(records), families)),
        terms=(*TERMS, *(PROGRESSIVE_TERMS if spaces & set(PROGRESSIVE) else ())),
    )


def _advice(records: Records, families: Sequence[Family], recommended: Sequence[Recommendation]) -> list[Advice]:
    """Return a row for each noise level of the confirmations."""
    scores = {family.study: read_scores(records, family) for family in families}
    configured = best_configurations(records, recommended)
    rates = records.confirmed.dropna(subset="rate").groupby("noise")["rate"].first().astype(float)
    rows = []
    for one in recommended:
        score, rate = _test_score(scores[one.study], one.level, one.method), rates.get(one.level, float("nan"))
        known = one.level in configured
        method, file = (in_words(one.method), configuration_name(one.level)) if known else (NO_VERDICT, "")
        rows.append(_row(records, one.level, rate, method, file, score, one.reason))
    return rows


def _not_compared(records: Records, families: Sequence[Family]) -> list[Advice]:
    """Return a row for each noise level of confirmations without a comparison: the method with the highest score."""
    rows = []
    for family in families:
        scores = read_scores(records, family)
        for level in dict.fromkeys(scores.table["level"]):
            table = scores.table[scores.table["level"] == level]
            best = table.sort_values("uar", ascending=False, kind="stable").iloc[0]
            why = "the only method tested" if len(table) == 1 else "the highest score; not compared"
            score = _test_score(scores, level, best["method"])
            rows.append(_row(records, level, best["rate"], in_words(best["method"]), "", score, why))
    return rows


def _best_of_search(records: Records, chosen: Chosen) -> list[Advice]:
    """Return a row for each noise level of a search: the best found that is no oracle, which nothing has confirmed."""
    if records.search is None:
        return []
    validation = records.search.table.set_index("run_id")["uar"]
    runs = records.matched.search
    oracles = {records.space_of(run) for run in runs if reads_votes(run.data.params.get("loss.name", ""))}
    sign = 1 if chosen.mode == "max" else -1
    rows = []
    for level in chosen.levels:
        methods = [method for method in chosen.at(level) if method.space not in oracles]
        if not methods:
            continue
        best = max(methods, key=lambda method: sign * method.selected)
        uar = validation.get(best.runs[0].run_id)
        score = f"validation UAR {percent(uar, 1)}, one seed" if pd.notna(uar) else ""
        why = "best validation score of the search; not confirmed"
        rows.append(_row(records, level, best.rate, in_words(best.space), "", score, why))
    return rows


def _test_score(scores: Scores, level: str, method: str) -> str:
    text = scores.text(level, method)
    return f"test UAR {text}" if text else ""


def _row(records: Records, level: str, rate: float, method: str, configuration: str, score: str, why: str) -> Advice:
    chance = percent(1 / len(records.classes), 1)
    known_rate = "" if pd.isna(rate) else percent(rate, 1)
    return Advice(level, known_rate, method, configuration, score, chance, why)


def _primary(records: Records, families: Sequence[Family], chosen: Chosen) -> str:
    """Return the result of the earliest primary comparison, or why there is none."""
    if declared := [sentence for family in families if (sentence := primary_sentence(family))]:
        return declared[0]
    if chosen.stage == SEARCH:
        return (
            "A search alone cannot show which loss is better: its scores are the best of several trials, of one seed, "
            f"on validation rows. To confirm them on test rows: {records.confirm_command()}"
        )
    if not chosen.methods:
        return listing(chosen.missing)
    return "No primary comparison was declared beforehand."


def _details(
    records: Records, families: Sequence[Family], recommended: Sequence[Recommendation], chosen: Chosen, first: str
) -> list[str]:
    """Return what follows the first sentence: claims of each confirmation, and what the losses did to the labels.

    The section on differences has the rest: what has no verdict or no evidence, and what the verdicts are about.
    """
    lines = []
    for place, family in enumerate(families):
        primary = primary_sentence(family)
        found = [*([primary] if primary and primary != first else []), *claims(family)]
        found = [problem, *found] if (problem := not_declared(family)) else found
        lines += [later_sentence(family), *found] if place and found else found
    lines += [f"At {one.level} {also}." for one in recommended if (also := also_better(one))]
    lines += [oracles] if (oracles := oracle_sentence(recommended)) else []
    if chosen.methods:
        base = families[0].reference if families else REFERENCE
        effects = label_effects(records, chosen)
        lines.append(effect_sentence(effects, base, confirmed=chosen.stage != SEARCH))
    return list(dict.fromkeys(map(capitalized, lines)))
