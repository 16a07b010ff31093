"""Labels that look wrong, by the loss that was trained and by cleanlab, computed from a trial's per-utterance table.

The table is that of ``ser.training.utterance_table``. Each subset is ranked separately, because the network was trained
on the labels of one and has not seen those of the other.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from ser.training.utterance_table import PROBABILITY, TRAIN

LOSS = "loss"
CLEANLAB = ("self_confidence", "normalized_margin")
RANKINGS = (LOSS, *CLEANLAB)
RANK = "rank_"
_ABOUT = ["subset", "utterance_id", "speaker", "gender", "noisy_label", "label", "corrected_label", "kept", "trust"]


def asks_network(utterances: pd.DataFrame) -> bool:
    """Return whether the loss used the network's predictions to correct labels: whether any trust is above 0."""
    return bool((utterances["trust"] > 0).any())


def rank_labels(utterances: pd.DataFrame) -> pd.DataFrame:
    """Rank the utterances of each subset by how suspicious their label is, 1 for the most suspicious one.

    There are three rankings. ``loss``: by the mass that the loss took from the label, 1 − ``kept``, ties by the label's
    probability; for a loss that does not use predictions (``asks_network``), by the label's probability only.
    ``self_confidence``: by the label's probability. ``normalized_margin``: by the label's probability minus the largest
    probability of another class. The validation subset has no ranking ``loss``; test utterances are not ranked, because
    their labels were not used.

    Source:
        ``self_confidence`` and ``normalized_margin``: Northcutt, Jiang and Chuang, Confident learning, Journal of
        Artificial Intelligence Research 70, 2021, computed by the package ``cleanlab``.

    Args:
        utterances: The table.

    Returns:
        Training utterances first, the most suspicious one on top: columns of the table, ``mislabelled`` (missing if the
        true label is unknown), ``p_noisy_label``, and ``rank_RANKING``, where ties share the smallest rank. Utterances
        that training never drew are at the end of their subset, without ranks.
    """
    utterances = utterances[utterances["noisy_label"].notna()]
    columns = [name for name in utterances.columns.astype(str) if name.startswith(PROBABILITY)]
    classes = {name.removeprefix(PROBABILITY): place for place, name in enumerate(columns)}
    probabilities = utterances[columns].to_numpy(dtype=float)
    labels = utterances["noisy_label"].map(classes).to_numpy(dtype=int)
    seen = ~np.isnan(probabilities).any(axis=1)
    ranked = utterances[_ABOUT].copy()
    ranked["mislabelled"] = (utterances["noisy_label"] != utterances["label"]).astype("boolean")
    ranked["p_noisy_label"] = probabilities[np.arange(len(labels)), labels]

    quality = pd.DataFrame(np.nan, index=utterances.index, columns=list(RANKINGS))
    for method in CLEANLAB:
        quality.loc[seen, method] = get_label_quality_scores(
            labels[seen], probabilities[seen].clip(0, 1), method=method
        )
    trained = seen & (utterances["subset"] == TRAIN).to_numpy()
    kept = utterances["kept"].to_numpy(dtype=float) if asks_network(utterances) else np.ones(len(utterances))
    pairs = np.column_stack([kept, ranked["p_noisy_label"]])[trained]
    quality.loc[trained, LOSS] = np.unique(pairs, axis=0, return_inverse=True)[1]
    places = quality.groupby(utterances["subset"]).rank(method="min").astype("Int64")
    ranked = ranked.join(places.add_prefix(RANK))
    order = ["subset", *(RANK + name for name in RANKINGS), "utterance_id"]
    return ranked.sort_values(order, na_position="last", ignore_index=True)


def compare_rankings(ranked: pd.DataFrame) -> pd.DataFrame:
    """Compute how well each ranking finds mislabelled utterances, and its correlation with cleanlab's rankings.

    Args:
        ranked: From ``rank_labels``.

    Returns:
        One row per subset and ranking: ``subset``, ``ranking``, ``utterances`` (ranked), ``judged`` (with known true
        label), ``mislabelled`` (of the judged, k), ``chance`` (k divided by the judged: average precision of a random
        ranking), ``average_precision``, ``roc_auc``, ``precision_at_k`` (share of mislabelled among the first k; ties
        count by their mean), and ``spearman_RANKING`` and ``kendall_RANKING`` with cleanlab's two. NaN if undefined: no
        true label, none or all mislabelled, or all ranks equal.
    """
    found = []
    for subset, rows in ranked.groupby("subset", sort=True):
        for ranking in RANKINGS:
            placed = rows.dropna(subset=[RANK + ranking])
            if len(placed):
                found.append({"subset": subset, "ranking": ranking, **_compared(placed, ranking)})
    return pd.DataFrame(found)


def _compared(rows: pd.DataFrame, ranking: str) -> dict[str, float]:
    places = {name: rows[RANK + name].to_numpy(dtype=float, na_value=np.nan) for name in RANKINGS}
    judged = rows["mislabelled"].notna().to_numpy()
    wrong = rows["mislabelled"].to_numpy(dtype=bool, na_value=False)[judged]
    suspicion = -places[ranking][judged]
    mislabelled = int(wrong.sum())
    result: dict[str, float] = {"utterances": len(rows), "judged": len(wrong), "mislabelled": mislabelled}
    defined = 0 < mislabelled < len(wrong)
    result |= {
        "chance": mislabelled / len(wrong) if len(wrong) else np.nan,
        "average_precision": float(average_precision_score(wrong, suspicion)) if defined else np.nan,
        "roc_auc": float(roc_auc_score(wrong, suspicion)) if defined else np.nan,
        "precision_at_k": precision_at(wrong, suspicion, mislabelled) if defined else np.nan,
    }
    for name in CLEANLAB:
        pair = places[ranking], places[name]
        constant = any(len(np.unique(values)) < 2 for values in pair)
        result[f"spearman_{name}"] = np.nan if constant else float(spearmanr(*pair).statistic)
        result[f"kendall_{name}"] = np.nan if constant else float(kendalltau(*pair).statistic)
    return result


def precision_at(wrong: NDArray[np.bool_], suspicion: NDArray[np.float64], k: int) -> float:
    """Compute the share of wrong labels among the k most suspicious; ties at the k-th place count by their mean.

    Args:
        wrong: (n,) whether the label is wrong.
        suspicion: (n,), larger is more suspicious.
        k: 1…n.

    Returns:
        0 to 1.

    Example:
        >>> precision_at(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]), k=2)
        0.5
    """
    cut = np.sort(suspicion)[::-1][k - 1]
    before, at_cut = suspicion > cut, suspicion == cut
    return float((wrong[before].sum() + wrong[at_cut].mean() * (k - before.sum())) / k)
