"""Section on label noise, from the noise manifest of each level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from analysis.common.records import Records
from analysis.common.section import NamedTable, Section
from analysis.common.text import MISSING, listing, percent
from analysis.options import RecordsOptions
from analysis.page.provenance import Provenance, read_provenance
from ser.corpora.names import emotions_in_words
from ser.labels import CONSENSUS, kind_of
from ser.labels.training_labels import labels_line
from ser.utils.command_names import command_line
from study.schema import MANIFEST, Tag, method_name

TITLE = "Label noise"
Options = RecordsOptions
MOST_CLASSES = 12
"""Largest transition matrix that is displayed; the manifest has larger ones."""
SUBSETS = {"train": "training", "validation": "validation"}
RATES = {"rate_asked": "asked for", "rate_train": "training labels", "rate_validation": "validation labels"}
SHORT = 8
"""Displayed characters of a digest; the CSV file has all."""


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
    text = table[["noise", "recipe"]].astype(object).where(table[["noise", "recipe"]].notna(), MISSING).astype(str)
    for column, heading in RATES.items():
        text[heading] = [percent(rate, 1) for rate in table[column]]
    text["digest"] = [str(digest or MISSING)[:SHORT] for digest in table["digest"]]
    matrices = [_transition_matrix(noise, manifest) for noise, manifest in manifests.items()]
    notes = [
        *_definitions(manifests),
        "Test labels are never changed. Levels with one digest have the same utterances and labels; noise.csv has the "
        "whole digest and the seed.",
    ]
    seeds = found.values(Tag.SEED, found.confirm)
    if found.search and seeds:
        notes.append(
            "This is the noise of the search. The confirmation draws noise for each of its seeds "
            f"({', '.join(seeds)}), the same for all methods."
        )
    caption = "Share of wrong labels, asked for and realised"
    return Section(
        "noise",
        TITLE,
        tuple(_sentence(noise, manifest) for noise, manifest in manifests.items()),
        (NamedTable("noise", caption, table, text), *(matrix for matrix in matrices if matrix is not None)),
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
    if kind_of(manifest) != CONSENSUS:
        return f"{noise}: labels from annotators' votes, {labels_line(manifest)}. {manifest.get('definition')}"
    rates = {subset: _rate(manifest, subset) for subset in ("train", "validation")}
    known = {subset: rate for subset, rate in rates.items() if rate is not None}
    if not known:
        return f"{noise}: the share of wrong labels is unknown (recipe {manifest.get('recipe')})."
    if not any(known.values()):
        return f"{noise}: no label was changed."
    shares = listing([f"{percent(rate, 1)} of the {SUBSETS[subset]} labels" for subset, rate in known.items()])
    return f"{noise}: {shares} are wrong (recipe {manifest.get('recipe')})."


def _definitions(manifests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what each recipe's noise rate is, and what the manifests remark, each once."""
    lines: dict[str, None] = {}
    for manifest in manifests.values():
        definition = str(manifest.get("definition") or "").rstrip(".")
        if definition and kind_of(manifest) == CONSENSUS and manifest.get("rate_realised"):
            lines[f"Recipe {manifest.get('recipe')}: {definition[0].lower()}{definition[1:]}."] = None
        if manifest.get("note"):
            lines[str(manifest["note"])] = None
    return list(lines)


def _rate(manifest: Mapping[str, Any], subset: str) -> float | None:
    rate = manifest.get("parts", {}).get(subset, {}).get("rate")
    return None if rate is None else float(rate)


def _transition_matrix(noise: str, manifest: Mapping[str, Any]) -> NamedTable | None:
    """Return the noisy labels of each true class; None if they are unknown, nothing was changed, or it is too large."""
    rates, classes = manifest.get("transition_rates"), manifest.get("classes") or []
    if not rates or len(classes) > MOST_CLASSES or not manifest.get("rate_realised"):
        return None
    data = pd.DataFrame(rates, columns=classes)
    words = emotions_in_words(classes)
    text = pd.DataFrame({word: data[name].map(percent) for name, word in zip(classes, words, strict=True)})
    data.insert(0, "true label", classes)
    text.insert(0, "true label", words)
    name = "transition-" + re.sub("[:/+]", "-", noise)
    caption = f"Noisy labels (columns) of each true label (rows) at {noise}, in % of the true label"
    return NamedTable(name, caption, data, text)
