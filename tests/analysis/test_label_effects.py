"""Sentences on what the losses did to the training labels."""

import pandas as pd

from analysis.page.label_effects import effect_sentence

NAN = float("nan")


def fate(space, changed, precision=NAN, memorised=NAN, noise="noisy-B", rate=0.4):
    return {
        "noise": noise, "rate": rate, "space": space, "trials": 3, "changed": changed, "precision": precision,
        "memorised": memorised,
    }  # fmt: skip


def test_the_fate_of_the_labels_is_that_of_the_noisiest_level():
    rows = [fate("elr", 0.3, noise="clean", rate=0.0), fate("elr", 0.12, 0.45, 0.2), fate("cross_entropy", 0, NAN, 0.3)]
    sentence = effect_sentence(pd.DataFrame(rows), "cross_entropy", confirmed=True)
    assert sentence == (
        "At noisy-B (40.0% of the labels wrong), ELR changed 12.0% of the training labels in the last epoch, 45% of "
        "these to the true one; with ELR the network had memorised 20% of the wrong labels, with cross entropy 30% "
        "(mean of 3 trainings; a description, not a test)."
    )


def test_labels_that_nobody_changed_and_labels_without_truth():
    unchanged = pd.DataFrame([fate("elr", 0.0), fate("cross_entropy", 0.0)])
    assert "no loss changed a training label" in effect_sentence(unchanged, "cross_entropy", confirmed=False)
    unknown = pd.DataFrame([fate("elr", 0.1, rate=NAN)])
    sentence = effect_sentence(unknown, "cross_entropy", confirmed=False)
    assert "nan" not in sentence
    assert "of the search" in sentence
    assert "not on record" in effect_sentence(unknown.assign(changed=NAN), "cross_entropy", confirmed=True)
