"""Section on label noise, from the noise manifest of each level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, listing, percent
from analysis.page.provenance import Provenance, read_provenance
from ser.labels import CONSENSUS, kind_of
from ser.labels.training_labels import labels_line
from ser.utils.command_names import command_line
from study.schema import MANIFEST, Tag, method_name

TITLE = "Label noise"
Options = RecordsOptions
MOST_CLASSES = 12
"""Largest transition matrix that is displayed; the manifest has larger ones."""
RATES = {"rate_asked": "asked", "rate_train": "train", "rate_validation": "validation"}


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the section on label noise.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    return noise_section(read_provenance(records))


def noise_section(found: Provenance) -> Section:
    """Return the section on label noise.

    Args:
        found: Runs with their manifests.
    """
    manifests, missing = _manifest_of_each_level(found)
    if not manifests:
        return Section("noise", TITLE, missing=tuple(missing))
    table = pd.DataFrame(
        {
            "noise": noise, "recipe": manifest.get("recipe"), "definition": manifest.get("definition"),
            "rate_asked": manifest.get("rate_asked"), "rate_train": _rate(manifest, "train"),
            "rate_validation": _rate(manifest, "validation"), "seed": manifest.get("seed"),
            "digest": manifest.get("digest"),
        }
        for noise, manifest in manifests.items()
    )  # fmt: skip
    text = table.astype(object).where(table.notna(), MISSING).astype(str).drop(columns="definition")
    for column in RATES:
        text[column] = [percent(rate, 2) for rate in table[column]]
    matrices = [_transition_matrix(noise, manifest) for noise, manifest in manifests.items()]
    notes = ["Test labels are never changed. Equal digests mean equal ids and labels of all utterances."]
    seeds = found.values(Tag.SEED, found.confirm)
    if found.search and seeds:
        notes.append(
            f"The confirmation draws new noise for each of its seeds ({', '.join(seeds)}), the same for all methods; "
            "these manifests describe the noise of the search."
        )
    caption = "Share of wrong labels asked for and realised, by subset"
    return Section(
        "noise",
        TITLE,
        tuple(_sentence(noise, manifest) for noise, manifest in manifests.items()),
        (
            NamedTable("noise", caption, table, text.rename(columns=RATES)),
            *(matrix for matrix in matrices if matrix is not None),
        ),
        notes=tuple(notes),
        missing=tuple(missing),
    )


def _manifest_of_each_level(found: Provenance) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return noise level and labels → manifest, and a sentence on missing ones.

    They are ordered by the rate of the training labels.
    """
    levels: dict[str, Mapping[str, Any]] = {}
    without = set()
    for run in found.search or found.confirm:
        parent, labels = run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""), run.data.tags.get(Tag.LABELS, CONSENSUS)
        noise = method_name(run.data.tags[Tag.NOISE], labels)
        if parent in found.manifests:
            levels.setdefault(noise, found.manifests[parent])
        else:
            without.add(noise)
    missing = []
    if lost := sorted(without - set(levels)):
        missing.append(
            f"The parent runs of {listing(lost)} have no {MANIFEST}. Restore the artifact store, or train again: "
            f"{command_line('study/run.py')} with a new --name."
        )
    order = sorted(levels, key=lambda noise: (_rate(levels[noise], "train") or 0.0, noise))
    return {noise: levels[noise] for noise in order}, missing


def _sentence(noise: str, manifest: Mapping[str, Any]) -> str:
    rates = [
        f"{percent(rate, 2)} of the {subset} labels"
        for subset in ("train", "validation")
        if (rate := _rate(manifest, subset)) is not None
    ]
    if kind_of(manifest) != CONSENSUS:
        return f"{noise}: labels from annotators' votes, {labels_line(manifest)}. {manifest.get('definition')}"
    start = f"{noise}: recipe {manifest.get('recipe')}" + (f", {listing(rates)} are wrong" if rates else "")
    definition, note = manifest.get("definition"), manifest.get("note")
    return f"{start}." + (f" {str(definition).rstrip('.')}." if definition else "") + (f" {note}" if note else "")


def _rate(manifest: Mapping[str, Any], subset: str) -> float | None:
    rate = manifest.get("parts", {}).get(subset, {}).get("rate")
    return None if rate is None else float(rate)


def _transition_matrix(noise: str, manifest: Mapping[str, Any]) -> NamedTable | None:
    """Return the noisy labels of each true class; None if they are unknown, nothing was changed, or it is too large."""
    rates, classes = manifest.get("transition_rates"), manifest.get("classes") or []
    if not rates or len(classes) > MOST_CLASSES or not manifest.get("rate_realised"):
        return None
    data = pd.DataFrame(rates, columns=classes)
    text = pd.DataFrame({name: data[name].map(percent) for name in classes})
    for table in (data, text):
        table.insert(0, "true label", classes)
    name = "transition-" + re.sub("[:/+]", "-", noise)
    return NamedTable(name, f"Noisy labels (columns) of each true label (rows) at {noise}, shares of a row", data, text)
