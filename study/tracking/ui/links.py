"""Links into MLflow's UI, which by itself opens an experiment in its view for traces of language models."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from study.schema import KIND, PARENT, RATE

PARENTS = f"tags.{KIND} = '{PARENT}'"

BY_RATE = f"metrics.`{RATE}`"
"""Order of runs by the rate of wrong training labels, as the UI writes it."""

VIEW = "levels"
"""Name of the view that ``study.tracking.ui.views.save_view`` saves."""


def runs_link(base: str, experiment: str, query: str = PARENTS, *, chart: bool = False) -> str:
    """Return the link to an experiment's runs in MLflow's UI, by noise rate.

    Args:
        base: Address of the MLflow server.
        experiment: MLflow experiment id.
        query: Filter of the runs; by default each method at each noise level is a row.
        chart: Whether to open the chart view, with a bar for each run.

    Example:
        >>> runs_link("http://localhost:5000", "1", "tags.space = 'elr'").partition("&orderBy")[0]
        'http://localhost:5000/#/experiments/1/runs?workflowType=machine_learning&searchFilter=tags.space%20%3D%20%27elr%27'
    """
    return _link(base, experiment, {"searchFilter": query, "orderByKey": BY_RATE, "orderByAsc": "true"}, chart)


def view_link(base: str, experiment: str, *, chart: bool = False) -> str:
    """Return the link to the saved view of an experiment in MLflow's UI.

    Args:
        base: Address of the MLflow server.
        experiment: MLflow experiment id, which has the view.
        chart: Whether to open the chart view, with a bar for each method at each noise level.

    Example:
        >>> view_link("http://localhost:5000/", "1")
        'http://localhost:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=levels'
    """
    # A filter in the link would have the UI ignore the saved view.
    return _link(base, experiment, {"viewStateShareKey": VIEW}, chart)


def _link(base: str, experiment: str, parameters: dict[str, str], chart: bool) -> str:
    # Without the type of workflow, a browser that has never shown the runs shows traces instead.
    words = {"workflowType": "machine_learning", **parameters, **({"compareRunsMode": "CHART"} if chart else {})}
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{urlencode(words, quote_via=quote)}"
