"""Training labels from annotators' votes: plurality, Dawid–Skene, and the annotators' distribution."""

from ser.labels.dawid_skene import DawidSkene, fit_dawid_skene
from ser.labels.judgements import Judgements, judgements_of
from ser.labels.kinds import CONSENSUS, DAWID_SKENE, LABEL_KINDS, PLURALITY, SOFT, LabelKind, check_labels, kind_of
from ser.labels.training_labels import labels_line, training_labels

__all__ = [
    "CONSENSUS",
    "DAWID_SKENE",
    "LABEL_KINDS",
    "PLURALITY",
    "SOFT",
    "DawidSkene",
    "Judgements",
    "LabelKind",
    "check_labels",
    "fit_dawid_skene",
    "judgements_of",
    "kind_of",
    "labels_line",
    "training_labels",
]
