"""Answer in three sentences: which loss to train with, how certain that is, and what it did to the labels.

The comparisons come from ``analysis.common.families``, the recommendation from ``analysis.page.recommendation``, the
effects on the labels from ``label_effects``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.common.designs import missing_sentence
from analysis.common.families import INCOMPLETE, Family, read_families
from analysis.common.methods import Chosen, choose_methods, scored_trials
from analysis.common.records import Records
from analysis.common.text import counted, level_with_rate, listing, number, p_equation, percent, points
from analysis.inference import BETTER, NOT_POSSIBLE, WORSE
from analysis.page.recommendation import Recommendation, recommend
from analysis.sections.significance.sentences import interval, is_clear_of_zero
from study.schema import in_words

EFFECTS = {
    "changed": "train/labels_changed",
    "precision": "train/correction_precision",
    "memorised": "train/memorised",
}
"""Effects on the training labels in the last epoch: column → metric of the records."""


WORDS = {
    BETTER: "evidence that it is better",
    WORSE: "evidence that it is worse",
    NOT_POSSIBLE: "no evidence was possible with so few trained units, however large the difference",
}
"""Verdict → words after the numbers."""


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
    for method in chosen.methods:
        metrics = pd.DataFrame([records.client.get_run(run.run_id).data.metrics for run in method.runs])
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
        listed = ", ".join(f"{row['space']} {number(row['uar'])} at {row['noise']}" for row in best.to_dict("records"))
        return f"Which loss is best is unknown, because no two were tested in the same way; test UAR: {listed}."
    findings = [_train_with(one) for one in recommended if one.row is not None]
    findings += _reference_levels([one for one in recommended if one.row is None])
    for one in recommended:
        if one.worse:
            verb = "are" if len(one.worse) > 1 else "is"
            findings.append(f"at {one.level} {_listed(one.worse)} {verb} worse than {one.reference}")
    sentence = "; ".join(findings)
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if oracles := list(dict.fromkeys(name for one in recommended for name in one.oracles)):
        verb = "are oracles" if len(oracles) > 1 else "is an oracle"
        sentence += f" {listing(oracles)} {verb}: shown, and never recommended."
    return sentence


def _train_with(one: Recommendation) -> str:
    if one.row is None:
        raise ValueError(f"no method is better at {one.level}")
    also = ""
    if one.also:
        verb = "are" if len(one.also) > 1 else "is"
        also = f" ({_listed(one.also)} {verb} better than {one.reference} too, and not compared with it)"
    return (
        f"at {level_with_rate(one.level, one.rate)} train with {in_words(one.method)}, whose test UAR is "
        f"{number(one.row['uar'])} against {number(one.row['uar_reference'])} with {one.reference}{also}"
    )


def _reference_levels(recommended: Sequence[Recommendation]) -> list[str]:
    """Return one clause for all levels at which the reference is recommended, and one on missing verdicts."""
    clauses = []
    if levels := [one.level for one in recommended if one.open or one.worse]:
        methods = list(dict.fromkeys(name for one in recommended for name in one.open))
        why = f": nothing shows that {_listed(methods, 'or')} is better" if methods else ""
        clauses.append(f"at {listing(levels)} train with {recommended[0].reference}, the reference{why}")
    if impossible := [one for one in recommended if one.impossible]:
        methods = list(dict.fromkeys(name for one in impossible for name in one.impossible))
        clauses.append(
            f"at {listing([one.level for one in impossible])} train with {impossible[0].reference}, the reference: "
            f"nothing shows that {_listed(methods, 'or')} is better, and with so few trained units nothing could have"
        )
    if incomplete := [one for one in recommended if one.incomplete]:
        methods = list(dict.fromkeys(name for one in incomplete for name in one.incomplete))
        clauses.append(
            f"at {listing([one.level for one in incomplete])} there is no verdict on {_listed(methods, 'or')} yet, "
            "because planned trainings are missing"
        )
    if not clauses:
        names = listing([one.level for one in recommended])
        clauses = [f"at {names} train with {recommended[0].reference}, the reference"] if names else []
    return clauses


def certainty(families: Sequence[Family], records: Records) -> str:
    """Return how certain the answer is, one sentence per confirmation, the design and its primary comparison first.

    Args:
        families: From ``analysis.common.families.read_families``; empty if nothing was confirmed.
        records: Records of the experiment.
    """
    sentences = []
    for place, family in enumerate(families):
        if not family.is_complete:
            resume = records.resume_command(family.study)
            sentences.append(missing_sentence(family.missing, family.planned, resume))
        if (family.compared["verdict"] != INCOMPLETE).any():
            later = "" if place == 0 else f"Confirmation {family.study}, a later family of its own: "
            sentences.insert(place, f"{later}{family_certainty(family)}")
    if not sentences:
        return (
            f"How certain that is will be known once several methods are confirmed on test rows: "
            f"{records.confirm_command()}"
        )
    return " ".join(sentences)


def family_certainty(family: Family) -> str:
    """Return how certain a confirmation's comparisons are.

    Args:
        family: A family with at least one verdict.
    """
    judged = family.compared[family.compared["verdict"] != INCOMPLETE]
    findings = [
        f"declared beforehand, {in_words(row['method'])} at {row['level']} differs from {family.reference} by "
        f"{points(row['difference'])} points{interval(row)}, {p_equation(row['p_adjusted'])} after correction: "
        f"{WORDS.get(row['verdict'], 'no evidence of a difference' + _detectable([row['detectable']]))}"
        for row in judged[judged["primary"].astype(bool)].to_dict("records")
    ]
    if family.design is None:
        findings.append("nothing was declared beforehand")
    rest = judged[~judged["primary"].astype(bool) & ~judged["oracle"].astype(bool)]
    found = rest[rest["verdict"].isin((BETTER, WORSE))].sort_values("p_adjusted", kind="stable")
    for row in found.head(2).to_dict("records"):
        findings.append(
            f"{in_words(row['method'])} at {row['level']} differs by {points(row['difference'])} points"
            f"{interval(row)}, {p_equation(row['p_adjusted'])} after correction"
        )
    without = rest[~rest["verdict"].isin((BETTER, WORSE))]
    impossible = without["verdict"] == NOT_POSSIBLE
    if impossible.any():
        findings.append(
            f"in {counted(int(impossible.sum()), 'comparison')} no difference could have been shown, however large, "
            "because no p below .05 is possible with so few trained units: this is no evidence that the losses are "
            "equally good"
        )
    if (~impossible).any():
        open_ = without[~impossible]
        largest = open_.sort_values("difference", key=abs).iloc[-1]
        clear = (
            " (that interval is of one comparison alone, p is corrected for all)" if is_clear_of_zero(largest) else ""
        )
        findings.append(
            f"no evidence of a difference in {counted(len(open_), 'comparison')}, the largest "
            f"{points(largest['difference'])} points{interval(largest)}{clear}{_detectable(open_['detectable'])}"
        )
    scope = judged["scope"].iloc[0]
    return f"{family.units[0].upper()}{family.units[1:]}: {'; '.join(findings)}. The claim is about {scope}."


def _detectable(differences: Iterable[float]) -> str:
    """Return what the comparisons would have found, in words; empty if it is unknown."""
    needed = pd.Series(list(differences), dtype=float).replace(float("inf"), float("nan")).max()
    return "" if pd.isna(needed) else f", where {100 * needed:.1f} points would have been found with 80 % power"


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
    if row["changed"] > 0:
        effect = f"{row['space']} changed {percent(row['changed'], 1)} of the training labels in the last epoch"
        if pd.notna(row["precision"]):
            effect += f", {percent(row['precision'])} of these to the true one"
    elif len(level) > 1:
        effect = "no loss changed a training label"
    else:
        effect = f"{row['space']} changed no training label"
    if pd.notna(row["memorised"]):
        effect += f"; with {row['space']} the network had memorised {percent(row['memorised'])} of the wrong labels"
        rival = level[(level["space"] == reference) & level["memorised"].notna()]
        if len(rival) and row["space"] != reference:
            effect += f", with {reference} {percent(rival['memorised'].iloc[0])}"
    trials = f"mean of {row['trials']} trials" if row["trials"] > 1 else "one trial"
    stage = "" if confirmed else " of the search"
    where = level_with_rate(str(row["noise"]), row["rate"])
    return f"At {where}, {effect} ({trials}{stage}, described and not tested)."
