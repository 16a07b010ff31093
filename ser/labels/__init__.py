"""Training labels from annotators' votes: plurality, Dawid–Skene, and the annotators' distribution."""

from ser.labels.kinds import CONSENSUS, DAWID_SKENE, LABEL_KINDS, PLURALITY, SOFT, LabelKind, check_labels, kind_of

__all__ = [
    "CONSENSUS",
    "DAWID_SKENE",
    "LABEL_KINDS",
    "PLURALITY",
    "SOFT",
    "LabelKind",
    "check_labels",
    "kind_of",
]
