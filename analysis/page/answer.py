"""Answer in three sentences: which loss to train with, how certain that is, and what it did to the labels.

The comparisons come from ``analysis.common.families``, the recommendation from ``analysis.page.recommendation``, the
effects on the labels from ``label_effects``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.common.families import Family, read_families
from analysis.common.methods import Chosen, choose_methods, scored_trials
from analysis.common.records import Records
from analysis.common.text import level_with_rate, listing, percent
from analysis.page.recommendation import Recommendation, recommend
from analysis.sections.significance.sentences import capitalized, family_sentences, size_and_direction
from study.schema import in_words

EFFECTS = {
    "changed": "train/labels_changed",
    "precision": "train/correction_precision",
    "memorised": "train/memorised",
}
"""Effects on the training labels in the last epoch: column → metric of the records."""


def answer(records: Records, reference: str | None = None) -> tuple[str, str, str]:
    """Return the three sentences that the page starts with.

    Args:
        records: Records of the experiment.
        reference: Space that the others are compared with; None is the one that each design declares.

    Raises:
        UserError: If a per-utterance table cannot be read or does not match the others.
    """
    families = read_families(records, reference) if len(records.confirmed) else []
    scores = mean_test_scores(records)
    base = families[0].reference if families else (reference or "")
    effects = label_effects(records, choose_methods(records))
    return (
        which_loss(recommend(families), scores),
        certainty(families, records),
        effect_sentence(effects, base, confirmed=len(scores) > 0),
    )


def mean_test_scores(records: Records) -> pd.DataFrame:
    """Compute the test UAR of each confirmed method.

    Args:
        records: Records of the experiment.

    Returns:
        ``noise``, ``space`` and ``uar``, the mean over folds and seeds.
    """
    scored = scored_trials(records).assign(uar=lambda table: table["uar"].astype(float))
    return scored.groupby(["noise", "space"], sort=False)["uar"].mean().dropna().reset_index()


def label_effects(records: Records, chosen: Chosen) -> pd.DataFrame:
    """Read the effects of each method on the training labels.

    Args:
        records: Records of the experiment.
        chosen: Methods of the experiment.

    Returns:
        One row per method: ``noise``, ``rate``, ``space``, ``trials``, and means over these trials of the last epoch's
        shares (0 to 1, NaN if not recorded): ``changed`` of all labels, ``precision`` (of the changed labels, those
        changed to the true one) and ``memorised`` (of the wrong labels, those that the network predicts).
    """
    rows = []
    wanted = {run.run_id for method in chosen.methods for run in method.runs}
    recorded = {run.info.run_id: run.data.metrics for run in records.runs if run.info.run_id in wanted}
    for method in chosen.methods:
        metrics = pd.DataFrame([recorded.get(run.run_id, {}) for run in method.runs])
        means = metrics.reindex(columns=list(EFFECTS.values())).astype(float).mean()
        known = {"noise": method.noise, "rate": method.rate, "space": method.space, "trials": len(method.runs)}
        rows.append({**known, **{column: means[metric] for column, metric in EFFECTS.items()}})
    return pd.DataFrame(rows, columns=["noise", "rate", "space", "trials", *EFFECTS])


def which_loss(recommended: Sequence[Recommendation], scores: pd.DataFrame) -> str:
    """Return a sentence on the loss to train with, as far as the comparisons show.

    Args:
        recommended: From ``analysis.page.recommendation.recommend``; empty if nothing was compared.
        scores: From ``mean_test_scores``; empty if nothing was confirmed.
    """
    if scores.empty:
        return (
            "The search alone cannot show which loss to train with: its scores are of validation rows, one seed and "
            "the best of several trials, and nothing is confirmed on test rows yet."
        )
    if not recommended:
        best = scores.sort_values("uar", ascending=False).drop_duplicates("noise")
        listed = ", ".join(
            f"{in_words(row['space'])} {percent(row['uar'], 1)} at {row['noise']}" for row in best.to_dict("records")
        )
        return f"Which loss is best is unknown, because no two were tested in the same way; test UAR: {listed}."
    better = [_train_with(one) for one in recommended if one.row is not None]
    findings = [*better, *_reference_levels([one for one in recommended if one.row is None])]
    worse = [
        f"at {one.level} {_listed(one.worse)} {'are' if len(one.worse) > 1 else 'is'} worse than "
        f"{in_words(one.reference)}"
        for one in recommended
        if one.worse and one.row is not None
    ]
    lines = [f"{capitalized('; '.join([*findings, *worse]))}.", oracle_sentence(recommended)]
    return " ".join(filter(None, lines))


def _train_with(one: Recommendation) -> str:
    if one.row is None:
        raise ValueError(f"no method is better at {one.level}")
    return (
        f"at {level_with_rate(one.level, one.rate)} train with {in_words(one.method)}, whose test UAR is "
        f"{percent(one.row['uar'], 1)}, {size_and_direction(one.row['difference'])} than with "
        f"{in_words(one.reference)}{f' ({also})' if (also := also_better(one)) else ''}"
    )


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


def _reference_levels(recommended: Sequence[Recommendation]) -> list[str]:
    """Return a clause for all levels at which the reference is recommended for the same reason."""
    reasons: dict[str, list[str]] = {}
    for one in sorted(recommended, key=_has_no_verdict):
        reasons.setdefault(_reason(one), []).append(one.level)
    return [f"at {listing(levels)} {reason}" for reason, levels in reasons.items()]


def _has_no_verdict(one: Recommendation) -> bool:
    return bool(one.incomplete) and not (one.open or one.impossible or one.worse)


def _reason(one: Recommendation) -> str:
    """Return why the reference is recommended, with what is known of each other method."""
    known = []
    if unshown := (*one.open, *one.impossible):
        never = f", and with {one.units} nothing could have" if not one.open else ""
        known.append(f"nothing shows that {_listed(unshown, 'or')} is better{never}")
    if one.worse:
        known.append(f"{_listed(one.worse)} {'are' if len(one.worse) > 1 else 'is'} worse")
    waiting = f"there is no verdict on {_listed(one.incomplete, 'or')} yet, because planned trainings are missing"
    if _has_no_verdict(one):
        return waiting
    known += [waiting] if one.incomplete else []
    return f"train with {in_words(one.reference)}, the reference{': ' if known else ''}{'; '.join(known)}"


def certainty(families: Sequence[Family], records: Records) -> str:
    """Return how certain the answer is, confirmation by confirmation, its primary comparison first.

    Args:
        families: From ``analysis.common.families.read_families``; empty if nothing was confirmed.
        records: Records of the experiment.
    """
    lines = [
        sentence
        for place, family in enumerate(families)
        for sentence in family_sentences(family, records.resume_command(family.study), place == 0, len(families) == 1)
    ]
    if not lines:
        return (
            f"How certain that is will be known once several methods are confirmed on test rows: "
            f"{records.confirm_command()}"
        )
    return " ".join(dict.fromkeys(lines))


def _listed(methods: Sequence[str], word: str = "and") -> str:
    return listing([in_words(method) for method in methods], word)


def effect_sentence(effects: pd.DataFrame, reference: str, confirmed: bool) -> str:
    """Return a sentence on what the losses did to the labels at the noisiest level.

    Args:
        effects: From ``label_effects``; empty if no trial has finished.
        reference: Space that the others are compared with.
        confirmed: Whether the trials are of the confirm stage.
    """
    known = effects.dropna(subset=["changed"])
    if known.empty:
        return "The effects of the losses on the labels are not on record."
    noisiest = known.sort_values("rate", na_position="first", kind="stable")["noise"].iloc[-1]
    level = known[known["noise"] == noisiest]
    others = level[level["space"] != reference]
    row = (others if len(others) else level).sort_values("changed", ascending=False).iloc[0]
    name = in_words(row["space"])
    if row["changed"] > 0:
        effect = f"{name} changed {percent(row['changed'], 1)} of the training labels in the last epoch"
        if pd.notna(row["precision"]):
            effect += f", {percent(row['precision'])} of these to the true one"
    elif len(level) > 1:
        effect = "no loss changed a training label"
    else:
        effect = f"{name} changed no training label"
    if pd.notna(row["memorised"]):
        effect += f"; with {name} the network had memorised {percent(row['memorised'])} of the wrong labels"
        rival = level[(level["space"] == reference) & level["memorised"].notna()]
        if len(rival) and row["space"] != reference:
            effect += f", with {in_words(reference)} {percent(rival['memorised'].iloc[0])}"
    trials = f"mean of {row['trials']} trainings" if row["trials"] > 1 else "one training"
    stage = "" if confirmed else " of the search"
    where = level_with_rate(str(row["noise"]), row["rate"])
    return f"At {where}, {effect} ({trials}{stage}; a description, not a test)."
