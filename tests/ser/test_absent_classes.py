"""Scores of a subset that lacks a class say so."""

from pathlib import Path

import numpy as np
import pandas as pd

from ser.corpora import Corpus
from ser.evaluate import render, score_subset
from ser.metrics.absent_classes import absent_classes, absent_lines, over_classes

CLASSES = ("angry", "happy", "sad")


def report_of(labels, noisy):
    """Return a report on utterances of two speakers that are all taken for angry."""
    table = pd.DataFrame({"label": labels, "speaker": ["a", "b"] * (len(labels) // 2)})
    table["utterance_id"] = [f"u{row}" for row in range(len(table))]
    table["path"] = [f"/audio/{row}.wav" for row in range(len(table))]
    corpus = Corpus("toy", table, CLASSES, Path("/audio"))
    probabilities = np.tile([0.8, 0.1, 0.1], (len(table), 1))
    rows = np.arange(len(table))
    noisy = corpus.class_indices(noisy)
    found = score_subset(corpus, rows, probabilities, corpus.labels, noisy)
    setting = {
        "loss": "cross_entropy",
        "model": "cnn14",
        "epoch": 1,
        "corpus": "toy",
        "labels": "consensus",
        "noise": "clean",
    }
    where = {"subset": "validation", "fold": 1, "folds": 3, "utterances": len(table), "warning": ""}
    return {**setting, **where, "classes": list(CLASSES), **found}


def test_an_evaluation_says_over_which_classes_uar_is():
    report = report_of(["angry", "angry", "happy", "happy"], ["angry", "angry", "happy", "sad"])
    assert report["true"]["scores"]["uar"] == 0.5
    assert (report["true"]["absent"], report["noisy"]["absent"]) == (["sad"], [])
    lines = [line.strip() for line in render(report).splitlines()]
    assert lines.count("UAR over 2 of 3 classes (validation has no sad)") == 1
    report = report_of(["angry", "happy", "sad", "sad"], ["angry", "happy", "happy", "happy"])
    assert "UAR over 2 of 3 classes (the noisy validation labels have no sad)" in render(report)


def test_a_whole_subset_needs_no_words():
    assert "UAR over" not in render(report_of(["angry", "happy", "sad", "sad"], ["angry", "happy", "sad", "sad"]))
    assert absent_classes(CLASSES, {"train": [0, 1, 2], "validation": [-1, -1]}) == {}


def test_only_uar_is_over_fewer_classes():
    absent = {"validation": ["sad"], "validation_noisy": [], "test": ["sad", "happy"]}
    said = {name: over_classes(absent, 3, name) for name in ("val/uar", "val_noisy/uar", "val/wa", "test/last/uar")}
    assert said == {
        "val/uar": "over 2 of 3 classes", "val_noisy/uar": "", "val/wa": "", "test/last/uar": "over 1 of 3 classes",
    }  # fmt: skip


def test_long_lists_of_folds_are_counted():
    (line,) = absent_lines((({"test": ["sad"]}, f"fold {number}") for number in range(1, 10)), 3)
    assert line.endswith("(test has no sad): fold 1, fold 2, fold 3, fold 4, fold 5, fold 6 and 3 more.")
