"""The view of an experiment that MLflow's UI opens by a link: which runs, columns and charts come first.

The UI keeps a view that somebody shares as a tag of the experiment, in JSON, and a link to it names the tag.
"""

from __future__ import annotations

import json

from mlflow import MlflowClient

from study.schema import COUNT, FINISHED, RATE, Tag
from study.tracking.ui.links import BY_RATE, PARENTS, VIEW

VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"

SCORES = ("test/last/uar", "val_noisy/uar", "val/uar", "train/memorised")
"""Metrics whose charts and columns come first; the UI shows no chart of one that no run has."""

COLUMNS = tuple(
    [f"tags.`{name}`" for name in (Tag.NOISE, Tag.SPACE, Tag.STUDY)]
    + [f"metrics.`{name}`" for name in (*SCORES, RATE, f"{COUNT}{FINISHED}")]
)
"""Columns of the table, in order."""

SECTION = "By noise level"
"""Title of the charts that come first."""


def view() -> str:
    """Return the view: each method at each noise level, by noise rate, with its scores as columns and as bars."""
    charts = [
        {
            "uuid": name, "type": "BAR", "metricKey": name, "selectedMetricKeys": [name], "displayName": name,
            "metricSectionId": SECTION, "runsCountToCompare": 100, "deleted": False, "isGenerated": False,
        }
        for name in SCORES
    ]  # fmt: skip
    section = {"uuid": SECTION, "name": SECTION, "display": True, "isReordered": True, "deleted": False}
    return json.dumps(
        {
            "searchFilter": PARENTS,
            "orderByKey": BY_RATE,
            "orderByAsc": True,
            "selectedColumns": COLUMNS,
            "columnOrder": COLUMNS,
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,
            "compareRunSections": [{**section, "isGenerated": False, "columns": 2, "cardHeight": 400}],
            "compareRunCharts": charts,
        }
    )


def save_view(client: MlflowClient, experiment: str) -> None:
    """Save the view in an experiment, unless it is there.

    Args:
        client: The store.
        experiment: MLflow experiment id.

    Raises:
        MlflowException: The store cannot be reached or not be written.
    """
    if client.get_experiment(experiment).tags.get(VIEW_TAG) != view():
        client.set_experiment_tag(experiment, VIEW_TAG, view())
