"""Evaluation of a trained checkpoint: python -m ser.evaluate --checkpoint results/train/state.pt --corpus-root PATH.

On the corpus of the training it scores the validation or the test subset of the fold; on another corpus all utterances
of the classes that both have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from ser.checkpoint import Checkpoint, open_checkpoint
from ser.class_mapping import mapping_lines, share_classes, shared_corpus, true_classes
from ser.corpora import Corpus, load, parse_options
from ser.corpora.classes import ALL, FORMER
from ser.corpora.corpus import GENDERS
from ser.features.opening import open_with_progress
from ser.features.store import FeatureStore
from ser.labels import kind_of
from ser.labels.kinds import CONSENSUS
from ser.labels.training_labels import training_labels
from ser.metrics import classification as evaluation
from ser.metrics.absent_classes import NOISY, TEST, absent_classes, uar_over
from ser.metrics.agreement import STRATA, soft_labels, strata
from ser.metrics.intervals import interval_over_speakers
from ser.splits import Fold, SplitBy, Validation, check_disjoint, fold_begun
from ser.training.task import make_task
from ser.utils.command_line import parse, run_command
from ser.utils.errors import UserError
from ser.utils.output_files import encoded, output_folder, to_csv, to_json, write_new
from ser.utils.printing import make_console, say

EVERYTHING: Literal["all"] = "all"
"""Subset of a corpus that is not that of the training."""

UNCHECKED = "a checkpoint does not say whom it was trained on: make sure that no speaker of the training is scored here"

SPEAKERS_SHOWN = 12
"""Maximum number of speakers in the printed report; report.json lists all of them."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained checkpoint on the validation or the test subset of its fold, or on all of another corpus."""

    checkpoint: Path
    """File state.pt of a run of python -m ser.train."""
    subset: Annotated[Literal["validation", "test", "all"], tyro.conf.arg(aliases=["--part"])] = "validation"
    """Subset to predict; test for the final comparison only. Of another corpus than that of the training it is always
    all utterances; all says so where the two have one name, such as two tables."""
    corpus: str = "synthetic"
    """Name of the corpus (docs/corpora.md). This and the options below are those of the training, or another corpus, of
    which the classes that both have are scored."""
    corpus_root: Path | None = None
    """Folder of the corpus; for table the file."""
    corpus_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Options of the corpus, such as votes=face for crema-d (docs/corpora.md)."""
    classes: str | None = None
    """Classes to choose, merge or rename, such as angry,sad,neutral=neutral+calm; all for all of the corpus's own."""
    split_by: SplitBy = "auto"
    """Folds: leave one session out or leave one speaker out; auto uses sessions, else groups of speakers."""
    fold: int | None = None
    """Number of the fold that is held out; default the last."""
    validation: Validation = "held-out"
    """Validation rows: held-out (other speakers than in training) or random (a fifth of the rows; leaks speakers)."""
    exclude: Path | None = None
    """File with utterances to leave out, one per line."""
    output: Path | None = None
    """Output folder; default evaluation-SUBSET next to the checkpoint."""
    features: Path = Path("results/features")
    """Folder of the feature stores."""


def main() -> int:
    """Run the command line and return the exit code."""
    return evaluate(parse(EvaluateOptions))


def evaluate(options: EvaluateOptions, fold_of: Callable[[Corpus], Fold] | None = None) -> int:
    """Evaluate a checkpoint, print the report, write it, and return the exit code.

    Args:
        options: Options of the command line.
        fold_of: Returns the fold that the checkpoint was trained on; by default that of the options.

    Raises:
        UserError: The checkpoint belongs to another corpus, fold or labels, or a file cannot be read or written.
    """
    checkpoint = open_checkpoint(options.checkpoint)
    corpus = _load(options, options.classes)
    if options.subset == EVERYTHING or corpus.name != checkpoint.manifest["corpus"]:
        return _evaluate_across(options, checkpoint, corpus if options.classes else _load(options, ALL))
    if options.classes is None and corpus.digest != checkpoint.manifest["corpus_digest"]:
        former = _load(options, FORMER)  # trained on all classes, or on a corpus without its published split
        corpus = former if former.digest == checkpoint.manifest["corpus_digest"] else corpus
    try:
        checkpoint.check_corpus(corpus)
    except UserError as error:
        raise UserError(f"{error} To score another corpus of that name, add --subset {EVERYTHING}.") from None
    level, noise_seed = checkpoint.manifest["level"], checkpoint.manifest["seed"]
    labels = kind_of(checkpoint.manifest)

    def check(fold: Fold) -> None:
        checkpoint.check_task(make_task(corpus, fold, Path(), level, noise_seed, labels=labels))

    if fold_of is None:
        fold = fold_begun(corpus, options.fold, options.split_by, options.validation, check)
    else:
        check(fold := fold_of(corpus))
    folder = output_folder(options.output or options.checkpoint.parent / f"evaluation-{options.subset}")
    store = _open_store(checkpoint, corpus, options.features)
    check_disjoint(corpus, fold, store.content)
    rows = fold.subsets[options.subset]
    probabilities = checkpoint.predict(store, rows)
    made = training_labels(corpus, labels, level, noise_seed, {"train": fold.train, "validation": fold.validation})
    truth, noisy = corpus.class_indices(made.truth)[rows], corpus.class_indices(made.labels)[rows]
    report = {
        **_setting(checkpoint, corpus),
        "fold": fold.number,
        "folds": fold.count,
        "held_out": fold.unit,
        "subset": options.subset,
        "utterances": len(rows),
        "warning": fold.warning if options.subset == "validation" else "",
        **score_subset(corpus, rows, probabilities, truth, noisy),
    }
    _publish(folder, report, corpus, rows, probabilities, truth)
    return 0


def _evaluate_across(options: EvaluateOptions, checkpoint: Checkpoint, whole: Corpus) -> int:
    """Evaluate a checkpoint on the utterances of another corpus whose classes it knows; return the exit code.

    Args:
        options: Options of the command line.
        checkpoint: Trained on another corpus.
        whole: The corpus to score, with all of its classes.

    Raises:
        UserError: The corpus is that of the training, fewer than two classes are shared, or a file cannot be read or
            written.
    """
    if checkpoint.manifest["corpus_digest"] in (whole.digest, _load(options, None).digest):
        raise UserError(
            f"checkpoint {str(options.checkpoint)!r} was trained on this corpus, so not all of its utterances are test "
            "data. Pass --subset test or validation."
        )
    mapped = share_classes(checkpoint.classes, whole)
    corpus = shared_corpus(whole, mapped)
    folder = output_folder(options.output or options.checkpoint.parent / f"evaluation-{_file_name(options)}")
    store = _open_store(checkpoint, corpus, options.features)
    rows = np.arange(len(corpus))
    columns = [checkpoint.classes.index(name) for name in corpus.classes]
    probabilities = evaluation.restrict(checkpoint.predict(store, rows), columns)
    truth = true_classes(corpus)
    report = {
        **_setting(checkpoint, corpus),
        "trained_on": checkpoint.manifest["corpus"],
        "class_mapping": mapped,
        "left_out": dict(corpus.outside),
        "about": [*mapping_lines(checkpoint.classes, whole, mapped, corpus), *whole.notes],
        "chance": 1 / len(corpus.classes),
        "interval": _over_speakers(corpus, probabilities, truth),
        "subset": EVERYTHING,
        "utterances": len(rows),
        "warning": UNCHECKED,
        **score_subset(corpus, rows, probabilities, truth, corpus.labels),
    }
    _publish(folder, report, corpus, rows, probabilities, truth)
    return 0


def _file_name(options: EvaluateOptions) -> str:
    """Return a name for the files of another corpus: its own, or for a corpus in one file the name of the file."""
    if options.corpus_root is not None and options.corpus_root.suffix:
        return options.corpus_root.stem
    return options.corpus


def _over_speakers(corpus: Corpus, probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return the interval of the UAR for other speakers of a corpus, whose one network is given."""
    known = truth >= 0
    speakers = corpus.table["speaker"].to_numpy(dtype=str)[known]
    predicted = probabilities.argmax(axis=1)[known]
    found = interval_over_speakers(speakers, truth[known], predicted, len(corpus.classes)) if known.any() else None
    low, high = (None, None) if found is None or np.isnan(found.low) else (found.low, found.high)
    count = 0 if found is None else found.speakers
    about = f"over {count} speakers of {corpus.name}; one training"
    return {"of": "uar", "low": low, "high": high, "speakers": count, "about": about}


def _open_store(checkpoint: Checkpoint, corpus: Corpus, folder: Path) -> FeatureStore:
    """Open the feature store that a checkpoint reads; progress is shown where it has to be built."""
    console = make_console(stderr=True)
    store = open_with_progress(corpus, checkpoint.reader_of(corpus, folder), folder, console)
    for line in checkpoint.warnings(store.front_end):
        say(console, line)
    return store


def _publish(
    folder: Path,
    report: dict[str, Any],
    corpus: Corpus,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
) -> None:
    """Write the report and its files, and print it."""
    text = render(report)
    write_new(folder, _files(report, text, corpus, rows, probabilities, truth))
    console = make_console()
    say(console, text.removesuffix("\n"))
    say(console, f"\nIn {folder}")


def _load(options: EvaluateOptions, classes: str | None) -> Corpus:
    words = parse_options(options.corpus_options)
    return load(options.corpus, options.corpus_root, options.exclude, words, classes)


def score_subset(
    corpus: Corpus,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
    noisy: NDArray[np.int64],
) -> dict[str, Any]:
    """Score predictions against the true labels, the noisy ones and the annotators' distribution.

    Args:
        corpus: Corpus of the utterances.
        rows: (n,) row positions in its table.
        probabilities: (n, C), rows sum to 1.
        truth: (n,) true class indices, −1 where unknown.
        noisy: (n,) noisy class indices.

    Returns:
        JSON-able, each key None where there is nothing to score against: ``true`` (over the utterances whose true
        label is known: ``utterances``, ``scores``, ``absent`` (classes without an utterance, over which UAR is not
        computed), ``recall``, ``confusion`` and ``uar_by`` ``agreement``, ``gender`` and ``speaker``), ``noisy`` (if
        any noisy label differs from the true one: ``utterances``, ``scores``, ``absent``) and
        ``annotators`` (``utterances``; ``soft_ce``, ``least_soft_ce`` and ``jsd`` in nats; ``f1_macro_votes``).
    """
    report: dict[str, Any] = {"true": None, "noisy": None, "annotators": None}
    votes, known = corpus.votes, truth >= 0
    if known.any():
        report["true"] = _against_true(corpus, rows[known], probabilities[known], truth[known])
    if (noisy != truth).any():
        report["noisy"] = {
            "utterances": len(rows),
            "scores": evaluation.scores(probabilities, noisy),
            "absent": _absent(corpus, noisy),
        }
    if votes is not None:
        soft = soft_labels(votes[rows])
        report["annotators"] = {
            "utterances": len(rows),
            **evaluation.soft_scores(probabilities, soft),
            "least_soft_ce": evaluation.soft_cross_entropy(soft, soft),
        }
    return report


def _against_true(
    corpus: Corpus, rows: NDArray[np.int64], probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, Any]:
    votes, table = corpus.votes, corpus.table.iloc[rows]
    gender = table["gender"].to_numpy(dtype=object)
    groups: dict[str, dict[str, evaluation.GroupScore]] = {
        "gender": evaluation.uar_by_group(probabilities, truth, gender, GENDERS),
        "speaker": evaluation.uar_by_group(probabilities, truth, table["speaker"].to_numpy(dtype=object)),
    }
    if votes is not None:
        agreement = strata(votes[rows], corpus.other_votes[rows])
        groups = {"agreement": evaluation.uar_by_group(probabilities, truth, agreement, STRATA), **groups}
    counts = evaluation.confusion(probabilities, truth)
    recall = zip(corpus.classes, evaluation.recalls(counts).tolist(), strict=True)
    confusions = {"all": counts.tolist()}
    for name in groups["gender"]:
        member = gender == name
        confusions[name] = evaluation.confusion(probabilities[member], truth[member]).tolist()
    return {
        "utterances": len(rows),
        "scores": evaluation.scores(probabilities, truth),
        "absent": _absent(corpus, truth),
        "recall": {name: None if np.isnan(value) else value for name, value in recall},
        "confusion": confusions,
        "uar_by": {kind: {name: asdict(score) for name, score in found.items()} for kind, found in groups.items()},
    }


def _absent(corpus: Corpus, labels: NDArray[np.int64]) -> list[str]:
    return absent_classes(corpus.classes, {TEST: labels}).get(TEST, [])


def _uar_over(report: Mapping[str, Any], scored: Mapping[str, Any], noisy: str = "") -> list[str]:
    """Return a line that says over which classes UAR is, if a class has no utterance."""
    subset = noisy or report["subset"]
    text = uar_over({subset: scored["absent"]}, len(report["classes"]), subset)
    return [f"  {text}"] if text else []


def _setting(checkpoint: Checkpoint, corpus: Corpus) -> dict[str, Any]:
    return {
        "model": checkpoint.config.model.name,
        "loss": checkpoint.config.loss.name,
        "epoch": checkpoint.epoch,
        "training_seed": checkpoint.seed,
        "labels": kind_of(checkpoint.manifest),
        "noise": checkpoint.manifest["level"],
        "noise_seed": checkpoint.manifest["seed"],
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "classes": list(corpus.classes),
    }


def render(report: Mapping[str, Any]) -> str:
    """Format the report as text for a terminal of 80 columns."""
    lines = [
        f"{report['loss']} ({report['model']}), epoch {report['epoch']}, trained on "
        f"{report.get('trained_on', report['corpus'])} at noise {report['noise']}"
        + (f", labels {report['labels']}" if report["labels"] != CONSENSUS else "")
    ]
    if "fold" in report:
        lines.append(
            f"{report['subset']} subset of fold {report['fold']} of {report['folds']}: {report['utterances']} "
            "utterances"
        )
    else:
        lines += [f"tested on another corpus, {report['corpus']}, whole (--subset does not apply)"]
        lines += [f"  {line}" for line in report["about"]]
    lines += [f"warning: {report['warning']}"] if report["warning"] else []
    true, noisy, annotators = report["true"], report["noisy"], report["annotators"]
    if true is None:
        lines += ["", "No true label is known, so there are no scores against true labels."]
    else:
        lines += ["", f"Against true labels ({true['utterances']} of {report['utterances']} utterances)"]
        lines += _lines({**_scores(true["scores"]), **_chance_and_interval(report)})
        lines += _uar_over(report, true)
        lines += ["", "Recall of true labels by class"]
        lines += _lines({name: "–" if value is None else f"{value:.3f}" for name, value in true["recall"].items()})
        for kind, groups in true["uar_by"].items():
            lines += ["", f"UAR against true labels by {kind}, over the classes that occur in each"]
            if len(groups) > SPEAKERS_SHOWN:
                found = sorted(score["uar"] for score in groups.values())
                lines += [
                    f"  {len(found)} values from {found[0]:.3f} to {found[-1]:.3f}; report.json lists all of them"
                ]
            else:
                lines += _lines({name: _group(score) for name, score in groups.items()})
    if noisy is not None:
        lines += ["", f"Against noisy labels ({noisy['utterances']} utterances)", *_lines(_scores(noisy["scores"]))]
        lines += _uar_over(report, noisy, NOISY)
    if annotators is not None:
        shown = {
            "soft cross entropy": f"{annotators['soft_ce']:.3f} nats (minimum {annotators['least_soft_ce']:.3f})",
            "Jensen–Shannon": f"{annotators['jsd']:.3f} nats (0 to {np.log(2):.3f})",
            "macro F1 of votes": f"{annotators['f1_macro_votes']:.3f} (classes above 1 / number of classes)",
        }
        lines += ["", f"Against the annotators' distribution ({annotators['utterances']} utterances)", *_lines(shown)]
    return "\n".join(lines) + "\n"


def _scores(scores: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.3f}" for name, value in scores.items() if name != "loss"}  # another name of nll


def _chance_and_interval(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what a UAR across corpora is compared with; empty within a corpus."""
    if "chance" not in report:
        return {}
    interval, shown = report["interval"], {"chance": f"{report['chance']:.3f} UAR"}
    if interval["low"] is not None:
        shown["95 %"] = f"UAR {max(0, interval['low']):.3f} to {min(1, interval['high']):.3f} {interval['about']}"
    return shown


def _group(score: Mapping[str, Any]) -> str:
    classes = f"{score['classes']} class" + ("es" if score["classes"] != 1 else "")
    return f"{score['uar']:.3f}  {score['utterances']} utterances, {classes}"


def _lines(pairs: Mapping[str, str]) -> list[str]:
    width = max(map(len, pairs))
    return [f"  {name:<{width}}  {value}" for name, value in pairs.items()]


def _files(
    report: Mapping[str, Any],
    text: str,
    corpus: Corpus,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
) -> dict[str, bytes]:
    """Return the content of the output files by name; the column ``label`` is the true label, empty if unknown."""
    names = np.array([*corpus.classes, ""], dtype=object)
    table = corpus.table.iloc[rows]
    about = zip(table["utterance_id"], table["speaker"], table["gender"], names[truth], strict=True)
    predicted = names[probabilities.argmax(axis=1)]
    header = ("utterance_id", "speaker", "gender", "label", "predicted", *map("p_{}".format, corpus.classes))
    texts = {
        "report.txt": text,
        "report.json": to_json(report),
        "predictions.csv": to_csv(
            header,
            (
                (*known, best, *(f"{value:.6f}" for value in line))
                for known, best, line in zip(about, predicted, probabilities, strict=True)
            ),
        ),
    }
    if report["true"] is None:
        return encoded(texts)
    confusions = report["true"]["confusion"]
    for group, counts in confusions.items():
        name = "confusion.csv" if group == "all" else f"confusion-{group}.csv"
        lines = ((label, *line) for label, line in zip(corpus.classes, counts, strict=True))
        texts[name] = to_csv(("label", *corpus.classes), lines)
    return {**encoded(texts), "confusion.png": _figure(report, np.array(confusions["all"]))}


def _tested(report: Mapping[str, Any]) -> str:
    if "trained_on" in report:
        return f"trained on {report['trained_on']}, tested on {report['corpus']}"
    return f"on {report['corpus']}, {report['subset']}"


def _figure(report: Mapping[str, Any], counts: NDArray[np.int64]) -> bytes:
    from ser.noise.transition_figure import draw_transition, to_png  # importing matplotlib takes half a second

    title = (
        f"{report['loss']} {report['noise']}, {_tested(report)}\n"
        f"UAR {report['true']['scores']['uar']:.3f}, n = {counts.sum():,}"
    )
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = draw_transition(report["classes"], rates, title)
    figure.axes[0].set_xlabel("predicted class")
    return to_png(figure)


if __name__ == "__main__":
    sys.exit(run_command(main))
