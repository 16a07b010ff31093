"""The command ``python study/export.py``: write the speech encoder of an MLflow run as a Hugging Face folder.

The folder holds weights, configuration, preprocessor and a model card. transformers loads it without this project, and
predicts the same probabilities.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from rich.filesize import decimal

from ambivalent_ser import __version__
from ser.checkpoint import Checkpoint, open_checkpoint
from ser.corpora.licences import licence_of
from ser.labels import CONSENSUS, kind_of
from ser.metrics.intervals import CrossedInterval, interval_over_speakers
from ser.models.encoders.classification import as_classification, check_expressible
from ser.models.encoders.network import MASKED, Encoder
from ser.models.encoders.parameters import LAST, WEIGHTED
from ser.models.encoders.source import PREFIX, is_encoder, quiet
from ser.training.device.arithmetic import inference_arithmetic
from ser.training.utterance_table import PROBABILITY, SUBSET, TEST, VALIDATION
from ser.utils.command_line import parse
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line, without_password
from ser.utils.output_files import bytes_in, check_room, output_folder
from ser.utils.printing import make_console, say
from study.options import StudyOptions
from study.schema import (
    DESIGN,
    FAILED,
    FINISHED,
    LABELS_IN_WORDS,
    PILOT,
    RUNNING,
    SEARCH,
    STOPPED,
    UTTERANCES,
    Tag,
    absent_of,
    in_words,
    status_of,
)
from study.search.repeating import repeating_command, repeating_confirmation
from study.setup.design import Design
from study.tracking.artifacts import read_table
from study.tracking.opening import open_existing
from study.tracking.store import quoted, search_all
from study.tracking.trained_runs import Trained, find_trial, newest_of
from study.uri import chosen_uri

CARD = "README.md"
CARD_TEMPLATE = "model_card.md"
TEMPLATES = Path(__file__).with_name("templates")
TEST_UAR = "test/last/uar"


@dataclass(frozen=True)
class ExportOptions:
    """Write the speech encoder of an MLflow run as a Hugging Face folder that transformers loads without this tool."""

    run: str
    """MLflow run of a trial."""
    output: Path
    """Folder to write; it must be empty or not exist."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""


@dataclass(frozen=True)
class Score:
    """UAR of a network on a subset of its fold.

    Args:
        subset: ``test``, or ``validation`` where the run has no test.
        labels: Labels that it is scored against: ``true`` or ``noisy``.
        uar: Unweighted average recall.
        interval: Interval for other speakers; None where it cannot be computed.
    """

    subset: str
    labels: str
    uar: float
    interval: CrossedInterval | None


@dataclass(frozen=True)
class Training:
    """One training of a confirmation.

    Args:
        fold: Its fold.
        seed: Its seed.
        uar: Test UAR at the last epoch.
    """

    fold: int
    seed: int
    uar: float


def main() -> int:
    """Run the command line and return the exit code."""
    export(parse(ExportOptions))
    return 0


def export(options: ExportOptions) -> None:
    """Write the folder of a trained encoder.

    Args:
        options: As on the command line.

    Raises:
        UserError: The run does not exist, still trains, failed, or trained another model than a speech encoder; no
            class of transformers computes the same; files of the encoder are missing; or the folder cannot be written.
    """
    uri = chosen_uri(options.tracking_uri)
    client = open_existing(uri)
    trial = find_trial(options.run, client, without_password(uri))
    run = client.get_run(options.run)
    _check_run(run)
    folder = _free_folder(options.output)
    trained = newest_of(options.run, trial)
    checkpoint = open_checkpoint(trained.checkpoint)
    encoder = _encoder_of(checkpoint)
    with quiet():
        model = as_classification(checkpoint.model, encoder, checkpoint.classes)
    card = model_card(client, run, trained, checkpoint, encoder, options.output)
    check_room(folder.parent, model.num_parameters() * 4)
    _write(folder, model, encoder, card)
    say(
        make_console(),
        f"Written: {options.output}, {decimal(bytes_in(folder))}. Read {CARD} before you publish it. It loads with\n"
        f'    transformers.pipeline("audio-classification", {str(options.output)!r})',
    )


def _check_run(run: Run) -> None:
    """Raise unless a run has trained a speech encoder to its end."""
    name = run.data.params.get("model.name", "")
    status = status_of(run.data.tags, RUNNING if run.info.status == "RUNNING" else STOPPED)
    if not is_encoder(name):
        raise UserError(
            f"run {run.info.run_id!r} has trained {name or 'an unknown model'}; only speech encoders ({PREFIX}NAME) "
            "have a class in transformers. Another network is used elsewhere as a registered model: "
            f"{command_line('study/register.py')} --run {run.info.run_id} --name NAME"
        )
    if status in (RUNNING, FAILED):
        reason = "is still training. Export it when it has ended" if status == RUNNING else "failed. Choose another run"
        raise UserError(f"run {run.info.run_id!r} {reason}.")


def _free_folder(output: Path) -> Path:
    """Return the absolute path of a folder that can be written and holds nothing."""
    path = output.expanduser().absolute()
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"--output {str(output)!r} is not empty. Name a new folder.")
    if path.exists() and not path.is_dir():
        raise UserError(f"--output {str(output)!r} is a file, and a folder is expected. Name a new folder.")
    return output_folder(path.parent) / path.name


def _encoder_of(checkpoint: Checkpoint) -> Encoder:
    """Return the encoder of a checkpoint with its weights, if transformers has a class that computes the same."""
    config, network = checkpoint.config.model, checkpoint.model
    if isinstance(network, Encoder):
        check_expressible(network, frozen=False)
        return network
    encoder = config.build_network(len(checkpoint.classes))
    assert isinstance(encoder, Encoder)
    check_expressible(encoder, frozen=True)
    encoder.load_published()
    return encoder


def _write(folder: Path, model: Any, encoder: Encoder, card: str) -> None:
    """Write all files, under another name first, so that the folder is whole or not there."""
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor

    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name, quiet():
            settings, partial = Path(name) / "settings", Path(name) / "model"
            settings.mkdir()
            for file, text in encoder.files.settings.items():
                (settings / file).write_text(text, encoding="utf-8")
            preprocessor: Any = AutoFeatureExtractor
            preprocessor.from_pretrained(settings).save_pretrained(partial)
            model.save_pretrained(partial)
            (partial / CARD).write_text(card, encoding="utf-8")
            for path in partial.iterdir():
                shutil.copymode(partial / CARD, path)  # the weights would be for their owner alone
            partial.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"--output {str(folder)!r} cannot be written: {reason}. Nothing is left there.") from error


# The model card


def model_card(
    client: MlflowClient, run: Run, trained: Trained, checkpoint: Checkpoint, encoder: Encoder, output: Path
) -> str:
    """Return the model card, in Markdown with YAML metadata.

    Args:
        client: The MLflow store.
        run: The trial's run.
        trained: Its study.
        checkpoint: Its network.
        encoder: The encoder with its weights.
        output: Folder of the model, as the user names it.
    """
    config, manifest, tags, study = checkpoint.config, checkpoint.manifest, run.data.tags, trained.study
    own, corpus, name = config.model.encoder, str(manifest["corpus"]), encoder.files.name
    given = Path(name).expanduser()
    folder = given if given.is_absolute() or given.exists() else None  # its place says nothing elsewhere
    frozen, kind = not isinstance(checkpoint.model, Encoder), kind_of(manifest)
    known, noise = CORPORA.get(corpus, AboutCorpus()), manifest.get("parts", {}).get("train", {})
    score, siblings = score_of(client, run, checkpoint.classes), _same_configuration(client, run)
    group_norm = getattr(encoder.config, "feat_extract_norm", "") == "group"
    computed_in = tags.get(Tag.ARITHMETIC) or inference_arithmetic(config, checkpoint.device).name
    reduced = [name for name in ("bfloat16", "tf32") if name in f"{own.encoder_precision} {computed_in}"]
    layers = {WEIGHTED: f"a learned weighted sum of its {encoder.layers + 1} hidden states", LAST: "its last layer"}
    versions = {key.removeprefix("version."): text for key, text in tags.items() if key.startswith("version.")}
    records = shlex.join(["--experiment", str(study.experiment), "--study", str(study.name)])
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template(CARD_TEMPLATE).render(
        metadata=_metadata(None if folder else name, corpus, known, score, checkpoint, output),
        title=output.name,
        encoder=folder.name if folder else name,
        classes=checkpoint.classes,
        corpus=corpus,
        known=known,
        method=in_words(tags[Tag.SPACE]) if Tag.SPACE in tags else config.loss.name,
        manifest={"definition": "", "note": "", "parts": {}, **manifest},
        frozen=frozen,
        layers=layers.get(own.layers, f"its layer {own.layers}"),
        revision=own.revision,
        epoch=checkpoint.epoch,
        epochs=config.training.epochs,
        finished=status_of(tags, STOPPED) == FINISHED,
        output=repr(str(output)),
        longest=f"{30 if frozen else config.training.crop_seconds:g}",
        hears_padding=group_norm or encoder.config.model_type not in MASKED,
        group_norm=group_norm,
        arithmetic=" and ".join(reduced) or "float32",
        labels="the corpus's own labels" if kind == CONSENSUS else LABELS_IN_WORDS[kind],
        rate=noise.get("rate"),
        flipped=noise.get("flipped"),
        labelled=noise.get("utterances"),
        estimate=f"{command_line('ser.noise')} estimate",
        fold=trained.fold,
        split=tags.get(Tag.SPLIT, ""),
        seed=checkpoint.seed,
        score=score,
        chance=1 / len(checkpoint.classes),
        absent=absent_of(tags).get(score.subset, []) if score else [],
        of_search=tags.get(Tag.STAGE) == SEARCH,
        siblings=siblings,
        mean=np.mean([one.uar for one in siblings]) if siblings else None,
        confirm=f"{command_line('study/confirm.py')} {records}",
        significance=f"{command_line('analysis/significance.py')} {records}",
        corpus_licence=licence_of(corpus).name,
        encoder_licence=LICENCES.get(name),
        versions={"ambivalent-ser": __version__, **versions, "transformers": version("transformers")},
        commit=tags.get(MLFLOW_GIT_COMMIT),
        run=run.info.run_id,
        stage={SEARCH: "the search", PILOT: "the pilot"}.get(tags.get(Tag.STAGE, ""), "the confirmation"),
        study=study.name,
        repeat=_repeat(study, {study.corpus_root: "PATH", folder: "FOLDER"}),
        export=f"{command_line('study/export.py')} --run {run.info.run_id} --output FOLDER",
    )


def _metadata(
    name: str | None, corpus: str, known: AboutCorpus, score: Score | None, checkpoint: Checkpoint, output: Path
) -> str:
    """Return the metadata that the Hugging Face hub reads, as YAML."""
    own = {"license": "other", "license_name": "see-model-card", "license_link": CARD}
    result = {
        "task": {"type": "audio-classification", "name": "speech emotion recognition"},
        "dataset": {"name": corpus, "type": corpus},
        "metrics": score
        and [
            {
                "type": "recall",
                "name": f"unweighted average recall, {score.subset} speakers, {score.labels} labels",
                "value": round(score.uar, 4),
            }
        ],
    }
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "audio-classification",
        **({"license": known.licence_id} if known.licence_id else own),
        **({"base_model": name} if name else {}),
        **({"language": list(known.languages)} if known.languages else {}),
        "tags": ["speech-emotion-recognition", "noisy-labels", checkpoint.config.loss.name],
        "metrics": ["recall"],
        **({"model-index": [{"name": output.name, "results": [result]}]} if score else {}),
    }
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))


def score_of(client: MlflowClient, run: Run, classes: Sequence[str]) -> Score | None:
    """Return the score of a run at its last epoch: on its test speakers, else on its validation speakers.

    Args:
        client: The MLflow store.
        run: A trial's run.
        classes: C class names.

    Returns:
        The score, against the true labels where they are known; None where the run has none.
    """
    for metric, subset, labels in (
        (TEST_UAR, TEST, "true"),
        ("val/uar", VALIDATION, "true"),
        ("val_noisy/uar", VALIDATION, "noisy"),
    ):
        if metric in run.data.metrics:
            table = read_table(client, run, UTTERANCES)
            interval = None if table is None else _interval(table, subset, labels, classes)
            return Score(subset, labels, run.data.metrics[metric], interval)
    return None


def _interval(table: pd.DataFrame, subset: str, labels: str, classes: Sequence[str]) -> CrossedInterval | None:
    rows = table[table[SUBSET] == subset]
    truth = rows["label" if labels == "true" else "noisy_label"]
    if rows.empty or truth.isna().any():
        return None
    found = interval_over_speakers(
        rows["speaker"].to_numpy(dtype=str),
        np.array([classes.index(name) for name in truth]),
        rows[[f"{PROBABILITY}{name}" for name in classes]].to_numpy().argmax(axis=1),
        len(classes),
    )
    return None if np.isnan(found.low) else replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _same_configuration(client: MlflowClient, run: Run) -> list[Training]:
    """Return the finished trainings of a run's configuration in its confirmation; none for a search."""
    tags = run.data.tags
    if Tag.CANDIDATE not in tags:
        return []
    query = " and ".join(
        f"tags.`{key}` = {quoted(tags[key])}" for key in (Tag.STUDY, Tag.SPACE, Tag.NOISE, Tag.CANDIDATE)
    )
    return sorted(
        (
            Training(int(one.data.tags[Tag.FOLD]), int(one.data.tags[Tag.SEED]), one.data.metrics[TEST_UAR])
            for one in search_all(client, [run.info.experiment_id], query)
            if status_of(one.data.tags, RUNNING) == FINISHED and TEST_UAR in one.data.metrics
        ),
        key=lambda one: (one.fold, one.seed),
    )


def _repeat(study: StudyOptions, places: Mapping[Path | None, str]) -> str:
    """Return the command that repeats a study, with words in place of folders of this machine."""
    store = ["--experiment", str(study.experiment)]
    if (study.folder / DESIGN).exists():
        command = repeating_confirmation(Design.read(study.folder), study.to_json(), [], store)
    else:
        command = repeating_command("study/run.py", study.to_json(), store)
    for place, word in places.items():
        command = command.replace(str(place), word) if place else command
    return command


@dataclass(frozen=True)
class AboutCorpus:
    """Facts about a corpus for a card.

    Args:
        speech: Kind of speech.
        languages: ISO 639-1 codes.
        licence_id: Identifier of its licence on the Hugging Face hub.
        paper: How it is cited.
    """

    speech: str = ""
    languages: tuple[str, ...] = ()
    licence_id: str = ""
    paper: str = ""


IEMOCAP = AboutCorpus("acted speech, scripted and improvised", ("en",), paper="Busso et al., LRE 2008")
CORPORA = {
    "synthetic": AboutCorpus("generated sounds, no speech"),
    "iemocap": IEMOCAP,
    "iemocap-4": IEMOCAP,
    "crema-d": AboutCorpus("acted speech", ("en",), "odbl", "Cao et al., IEEE TAC 2014"),
    "ravdess": AboutCorpus("acted speech", ("en",), "cc-by-nc-sa-4.0", "Livingstone and Russo, PLoS ONE 2018"),
    "emodb": AboutCorpus("acted speech", ("de",), "cc-by-4.0", "Burkhardt et al., Interspeech 2005"),
    "msp-podcast": AboutCorpus("speech of podcasts", ("en",), paper="Lotfian and Busso, IEEE TAC 2019"),
    "esd": AboutCorpus("acted speech", ("en", "zh"), paper="Zhou et al., Speech Communication 2022"),
}
"""Known corpora, by the names of ``ser.corpora.NAMES``."""

LICENCES = {
    "facebook/wav2vec2-base": "Apache 2.0",
    "facebook/hubert-base-ls960": "Apache 2.0",
    "facebook/data2vec-audio-base": "Apache 2.0",
    "facebook/w2v-bert-2.0": "MIT",
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": "CC BY-NC-SA 4.0",
}
"""Licences of encoders by name, as their pages on the hub gave them."""
