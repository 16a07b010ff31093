"""Links into MLflow's UI, which by itself opens an experiment in its view for traces of language models."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from study.schema import KIND, PARENT, RATE

PARENTS = f"tags.{KIND} = '{PARENT}'"


def runs_link(base: str, experiment: str, query: str = PARENTS) -> str:
    """Return the link to the table of an experiment's runs in MLflow's UI, by noise rate.

    Args:
        base: Address of the MLflow server.
        experiment: MLflow experiment id.
        query: Filter of the runs; by default each method at each noise level is a row.

    Example:
        >>> runs_link("http://localhost:5000", "1")[:67]
        'http://localhost:5000/#/experiments/1/runs?workflowType=machine_lea'
    """
    return _link(base, experiment, {"searchFilter": query, "orderByKey": f"metrics.`{RATE}`", "orderByAsc": "true"})


def chart_link(base: str, experiment: str, query: str = PARENTS) -> str:
    """Return the link to the charts of an experiment's runs in MLflow's UI: a bar for each run, by noise rate.

    Args:
        base: Address of the MLflow server.
        experiment: MLflow experiment id.
        query: Filter of the runs; by default each method at each noise level is a bar.
    """
    return f"{runs_link(base, experiment, query)}&compareRunsMode=CHART"


def _link(base: str, experiment: str, parameters: dict[str, str]) -> str:
    # Without the type of workflow, a browser that has never shown the runs shows traces instead.
    words = urlencode({"workflowType": "machine_learning", **parameters}, quote_via=quote)
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{words}"
