"""What was trained: network, features, training, corpus, classes, folds and labels of the trials that are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from mlflow.entities import Run

from analysis.common.families import Family
from analysis.common.records import Records
from analysis.common.text import counted, listing, percent
from analysis.page.provenance import Provenance
from ser.config import Config
from ser.corpora.names import emotions_in_words
from ser.features.front_ends import front_end
from ser.labels import CONSENSUS
from ser.models.encoders import PREFIX, is_encoder
from ser.models.encoders.parameters import LAST, WEIGHTED
from ser.utils.errors import UserError
from study.schema import LABELS_IN_WORDS, Tag, rate_of


def what_was_trained(records: Records, found: Provenance, families: Sequence[Family]) -> Iterator[tuple[str, str]]:
    """Yield what was trained, as pairs of what and value; only what is on record.

    Args:
        records: Records of the experiment.
        found: Runs of the trials.
        families: Confirmations; empty if nothing was confirmed.
    """
    runs = found.confirm or found.search
    configurations = list(dict.fromkeys(_network(run) for run in runs if run.data.params))
    yield from _named("network", (_network_in_words(dict(one), len(records.classes)) for one in configurations))
    yield from _named("features", (_features(dict(one)) for one in configurations))
    yield from _named("training", [_training(runs)] if configurations else [])
    yield from _named("corpus", [_corpus(records, found, runs)])
    yield "classes", listing(emotions_in_words(records.classes))
    yield from _named("tested on", (family.units for family in families))
    yield from _named("seeds", [listing(found.values(Tag.SEED, runs))])
    yield from _named("wrong training labels", [_noise_rates(runs)])
    yield from _named("training labels", [_kinds_of_labels(found, runs)])


def _named(what: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a pair of what and its values, if there are any."""
    if known := list(dict.fromkeys(filter(None, values))):
        yield what, "; ".join(known)


def _network(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the recorded parameters of a trial's network."""
    return tuple(sorted((key, value) for key, value in run.data.params.items() if key.startswith("model.")))


@lru_cache(maxsize=64)
def _parameters(model: tuple[tuple[str, str], ...], classes: int) -> int | None:
    """Return the number of trained and frozen parameters; None if the network cannot be built here."""
    try:
        config = Config.from_dotted(dict(model)).model
        if config.is_classical:
            return None
        with torch.device("meta"):
            return sum(tensor.numel() for tensor in config.build_network(classes).parameters())
    except UserError:  # a network of the user's own that cannot be imported here
        return None


def _network_in_words(model: dict[str, str], classes: int) -> str:
    name = model.get("model.base") or model.get("model.name", "")
    if is_encoder(name):
        return _encoder_in_words(model, _parameters(tuple(sorted(model.items())), classes))
    title = name.upper() if name.startswith("cnn") else name
    count = _parameters(tuple(sorted(model.items())), classes)
    if not title or count is None:
        return title
    width = f" at width {float(model['model.width']):g}" if "model.width" in model else ""
    file = Path(model.get("model.pretrained", "")).name
    weights = f"from the weights in {file}" if file else "from scratch"
    how = "a linear probe on its frozen layers" if model.get("model.base") else f"trained {weights}"
    return f"{title}{width} ({count / 1e6:.1f} million parameters), {how}"


def _encoder_in_words(model: dict[str, str], count: int | None) -> str:
    name = model["model.name"].removeprefix(PREFIX).rstrip("/")
    shown = name.rpartition("/")[2] if name.startswith("/") else name
    details = [f"{count / 1e6:.1f} million parameters"] if count else []
    details += [f"revision {model['model.revision'][:12]}"] if model.get("model.revision") else []
    pooled = "mean and standard deviation" if model.get("model.pooling") == "mean_std" else "mean"
    if model.get("model.freeze") == "base":
        layers = model.get("model.layers", WEIGHTED)
        named = {WEIGHTED: "a sum of all layers with trained weights", LAST: "the last layer"}
        read = named.get(layers, f"layer {layers}")
        how = f"frozen: a head on {read}, {pooled} over the utterance"
    else:
        kept = ["the convolutions"] if model.get("model.freeze") == "convolutions" else []
        lowest = int(float(model.get("model.frozen_layers", 0)))
        kept += [f"the lowest {counted(lowest, 'layer')}"] if lowest else []
        how = f"fine-tuned{f' except {listing(kept)}' if kept else ''}, {pooled} over the crop"
    return f"speech encoder {shown}{f' ({listing(details)})' if details else ''}, {how}"


def _features(model: dict[str, str]) -> str:
    try:
        config = Config.from_dotted(model).model
        chosen = front_end(config.features)
    except UserError:  # a network or front end of the user's own that cannot be imported here
        return ""
    kind = {
        "log_mel": f"log-mel spectrogram of {chosen.size} bands",
        "waveform": "waveform",
        "vector": f"{chosen.size} values per utterance",
    }[chosen.kind]
    return f"{kind}, {chosen.sample_rate / 1000:g} kHz ({config.features})"


def _training(runs: Sequence[Run]) -> str:
    def values(key: str) -> str:
        found = {run.data.params[key] for run in runs if key in run.data.params}
        return listing([f"{value:g}" for value in sorted(map(float, found))], "or")

    parts = (
        ("{} epochs", "training.epochs"),
        ("batches of {}", "training.batch_size"),
        ("crops of {} s", "training.crop_seconds"),
    )
    return ", ".join(form.format(found) for form, key in parts if (found := values(key)))


def _corpus(records: Records, found: Provenance, runs: Sequence[Run]) -> str:
    sizes = {
        json.loads(given.dataset.profile or "{}").get("utterances")
        for run in runs
        for given in (run.inputs.dataset_inputs if run.inputs else ())
    } - {None}
    counts = [f"{max(sizes):,} utterances"] if sizes else []
    rates = [manifest.get("rate_by_speaker") for manifest in found.manifests.values()]
    speakers = max((len(one) for one in rates if one), default=0)
    counts += [counted(speakers, "speaker")] if speakers else []
    return f"{records.data}: {listing(counts, 'of')}" if counts else records.data


def _noise_rates(runs: Sequence[Run]) -> str:
    """Return the noise levels of known rate, the lowest rate first."""
    known = {run.data.tags[Tag.NOISE]: rate_of(run.data.tags) for run in reversed(runs)}
    rates = {level: rate for level, rate in known.items() if rate is not None}
    return ", ".join(f"{level} {percent(rate, 1)}" for level, rate in sorted(rates.items(), key=lambda item: item[1]))


def _kinds_of_labels(found: Provenance, runs: Sequence[Run]) -> str:
    """Return the kinds of labels that were made of votes; empty if all are the corpus's own."""
    kinds = found.values(Tag.LABELS, runs)
    words = {str(kind): text for kind, text in LABELS_IN_WORDS.items()}
    named = [words.get(kind, "the corpus's own labels") for kind in kinds]
    return "" if set(kinds) <= {CONSENSUS} else listing(named)
